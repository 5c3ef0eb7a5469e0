"""What the operator's grids made, by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import TIME
from mm_dagster.evaluation.performance import METRICS
from mm_dagster.evaluation.realised import ALL, GRID, MARKET, MONTH, against, daily, statistics

START = datetime(2026, 1, 1, tzinfo=UTC)


def marks(
    name: str, symbol: str, pnl: list[float | None], begun: datetime = START, capital: float = 1000.0
) -> pl.DataFrame:
    """The mark of each day; a day without one has no row."""
    rows = [
        {
            "grid_id": name, "activated_at": begun, "symbol": symbol, "capital": capital,
            "day": begun.replace(hour=0, minute=0) + timedelta(days=place), "total_pnl": value,
            "exposure": 0.5 * capital,
        }
        for place, value in enumerate(pnl)
        if value is not None
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"activated_at": TIME, "day": TIME})


def closes(symbol: str, values: list[float]) -> pl.DataFrame:
    days = [START + timedelta(days=place - 1) for place in range(len(values))]
    return pl.DataFrame({"symbol": [symbol] * len(values), "day": days, "close": values}).cast({"day": TIME})


def test_a_day_is_the_change_of_the_profit_and_the_first_one_begins_at_nothing() -> None:
    made = daily(pl.concat([marks("a", "X", [5.0, 8.0, None, 9.0, 4.0]), marks("b", "X", [-2.0, -1.0])]))
    found = {name: rows["made"].to_list() for (name,), rows in made.group_by("grid_id")}
    # Over the unknown day nothing is known of either.
    assert found == {"a": [5.0, 3.0, None, -5.0], "b": [-2.0, 1.0]}
    at_midnight = marks("c", "X", [1.0, 3.0]).with_columns(day=pl.col("day") - timedelta(days=1))
    assert daily(at_midnight)["made"].to_list() == [1.0, 2.0]
    late = marks("d", "X", [None, None, 7.0])
    assert daily(late)["made"].to_list() == [None]


def test_figures_of_all_of_each_grid_market_and_month() -> None:
    generator = np.random.default_rng(4)
    steps = {name: generator.normal(1.0, 5.0, 90) for name in "ab"}
    made = daily(pl.concat([marks(name, f"{name}-USDT", np.cumsum(step).tolist()) for name, step in steps.items()]))
    found = {(one.by, one.name, one.metric): one for one in statistics(made)}
    assert {key[:2] for key in found} == {
        (ALL, "all"), *((GRID, name) for name in "ab"), *((MARKET, f"{name}-USDT") for name in "ab"),
        *((MONTH, f"2026-{month:02}") for month in (1, 2, 3)),
    }  # fmt: skip
    assert {key[2] for key in found} == set(METRICS)
    total = found[ALL, "all", "total_return"]
    assert total.value == pytest.approx(100 * sum(step.sum() for step in steps.values()) / 2000)
    assert total.low is not None
    assert total.high is not None
    assert total.low < total.value < total.high
    returns = (steps["a"] + steps["b"]) / 2000
    assert found[ALL, "all", "sharpe"].value == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(365))
    january = found[MONTH, "2026-01", "sharpe"]
    assert (january.value, january.reason) == (None, "The return of 31 days is known, 60 are needed.")


def test_the_attribution_adds_up_to_what_was_made() -> None:
    made = daily(pl.concat([marks("a", "X", [10.0, 30.0]), marks("b", "Y", [-5.0, -5.0], capital=500.0)]))
    prices = pl.concat([closes("X", [100.0, 104.0, 102.0]), closes("Y", [50.0, 49.0, 50.0])])
    found = against(made, prices)
    assert found is not None
    assert found.symbols == ("X", "Y")
    assert found.days == 2
    portfolio = (1 + 5 / 1500) * (1 + 20 / 1500) - 1
    # Both markets are held with half of the capital.
    benchmark = (1 + (0.5 * 0.04 - 0.5 * 0.02) / 2) * (1 + (0.5 * (102 / 104 - 1) + 0.5 * (50 / 49 - 1)) / 2) - 1
    assert found.found.portfolio_return == pytest.approx(portfolio)
    assert found.found.benchmark_return == pytest.approx(benchmark)
    assert found.found.linked.total.sum() == pytest.approx(portfolio - benchmark, abs=1e-12)
    assert against(made, prices.clear()) is None
