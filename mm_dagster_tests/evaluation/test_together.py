"""All grids at once on candles that nobody can foresee: the figure is the product's, and knows no first day."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.evaluation import together
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.together import METHODS, Nights, cover
from mm_dagster.portfolio import risk
from mm_dagster.portfolio.risk import Inputs, Member
from mm_dagster.portfolio.tail import tail
from mm_dagster.regime import features
from mm_dagster.tables.market import NO_RULES
from mm_dagster_tests.evaluation.walks import CONFIG, START, SYMBOLS, walk

CONFIGURED = CONFIG.model_copy(update={"portfolio": PortfolioConfig.model_validate({"window_days": 30})})
HISTORY = 125
"""Days of candles."""
END = START + timedelta(days=HISTORY)
LATER = Span(END - timedelta(days=25), END)


def candles(symbol: str) -> pl.DataFrame:
    """Rows of a market that follows the others in part."""
    own, common = (walk(name, HISTORY, seed) for name, seed in ((symbol, SYMBOLS.index(symbol)), ("COMMON", 9)))
    prices = ("open", "high", "low", "close")
    # The product of two walks is one; its highs and lows are those of the closes, which is enough here.
    both = own.with_columns((pl.col(name) * common[name] / 100.0).alias(name) for name in prices)
    return both.with_columns(high=pl.max_horizontal(prices), low=pl.min_horizontal(prices))


@pytest.fixture(scope="module")
def markets() -> list[Market]:
    return together.markets_of(SYMBOLS, candles, LATER, CONFIGURED)


@pytest.fixture(scope="module")
def nights(markets: list[Market]) -> Nights:
    return together.nights(markets, LATER, CONFIGURED)


def test_every_night_has_a_loss_and_its_paths_by_every_method(nights: Nights) -> None:
    assert len(nights.start) == 25
    assert nights.start == [LATER.start + timedelta(days=place) for place in range(25)]
    assert not nights.left_out
    assert set(nights.paths) == set(METHODS)
    assert nights.paths["filtered"].shape == (25, 116)
    assert nights.losses.shape == (25,)
    assert max(nights.grids) <= 3
    # Grids that fall together lose more in their bad nights than if they did not.
    worst = {method: np.sort(paths, axis=1)[:, -6:].mean() for method, paths in nights.paths.items()}
    assert worst["filtered"] > 1.1 * worst["independent"]


def test_the_figure_is_that_of_the_product(markets: list[Market], nights: Nights) -> None:
    """The loss of a night by `portfolio_risk`, from rows, is that of the chains, from arrays."""
    start = nights.start[-1]
    span = Span(min(one.span.start for one in markets), END)
    chains = [together._chain(one, span, place, len(markets), LATER, CONFIGURED) for place, one in enumerate(markets)]
    now = (start - span.start) // BAR - 1
    running = [run for chain in chains for run in chain if run.runs_at(now)]
    known = pl.concat([candles(symbol) for symbol in SYMBOLS])
    measured = features.compute(known, Span(START + timedelta(days=20), END), CONFIGURED.risk.vol)
    rows = pl.DataFrame(
        [
            {
                "grid_id": run.grid.id, "activated_at": run.grid.activated_at, "as_of": start,
                "symbol": run.grid.symbol, "stopped_at": None, "source": "MODELLED",
                "price": None, "inventory": float(run.lived.inventory[now - run.first]),
                "liquidation_value": float(run.lived.liquidation_value[now - run.first]),
                "total_pnl": float(run.lived.total_pnl[now - run.first]), "capital_at_risk": 0.0,
            }
            for run in running
        ],
        schema_overrides={"stopped_at": pl.Datetime("us", "UTC"), "price": pl.Float64},
    )  # fmt: skip
    price = known.filter(pl.col("close_time") == start).select("symbol", close="close")
    rows = rows.join(price, on="symbol").with_columns(price="close").drop("close").sort("grid_id")
    members = sorted((Member(run.grid, NO_RULES, None) for run in running), key=lambda one: one.grid.id)
    found = Inputs(members, rows, known, measured, {})
    row = risk.compute("USDT", found, [start], CONFIGURED.portfolio, CONFIGURED.risk)[0].row(0, named=True)
    assert row["reason"] is None
    for level, var, es in ((0.05, "var_5_24h", "es_5_24h"), (0.01, "var_1_24h", "es_1_24h")):
        its = tail(nights.paths["filtered"][-1], level)
        assert (row[var], row[es]) == pytest.approx((its.var, its.es), abs=1e-9)


def test_what_a_night_cost_is_what_its_grids_lost(markets: list[Market], nights: Nights) -> None:
    span = Span(min(one.span.start for one in markets), END)
    now = (nights.start[3] - span.start) // BAR - 1
    total = 0.0
    for place, one in enumerate(markets):
        for run in together._chain(one, span, place, len(markets), LATER, CONFIGURED):
            if run.runs_at(now):
                value: Floats = run.lived.liquidation_value
                total += value[now - run.first] - value[now - run.first + DAY_BARS]
    assert nights.losses[3] == pytest.approx(total, abs=1e-9)


def test_nothing_depends_on_the_first_day_that_is_asked_for(nights: Nights) -> None:
    days = Span(LATER.start + timedelta(days=9), END)
    short = together.nights(together.markets_of(SYMBOLS, candles, days, CONFIGURED), days, CONFIGURED)
    assert short.start == nights.start[9:]
    assert np.array_equal(short.losses, nights.losses[9:])
    for method, paths in short.paths.items():
        assert np.array_equal(paths, nights.paths[method][9:]), method


def test_nights_before_the_window_are_left_out_and_counted() -> None:
    days = Span(START, END)
    found = together.nights(together.markets_of(SYMBOLS, candles, days, CONFIGURED), days, CONFIGURED)
    assert found.start[-1] == END - timedelta(days=1)
    assert sum(found.left_out.values()) + len(found.start) == HISTORY - 1
    assert any("the last 30 days of AAA-USDT" in why for why in found.left_out)
    assert cover(Nights([], np.empty(0), {}, [], {})) == []


def test_a_row_a_method_and_level(nights: Nights) -> None:
    rows = cover(nights)
    assert [(one.method, one.level) for one in rows] == [
        (method, level) for method in METHODS for level in (0.05, 0.01)
    ]
    for one in rows:
        assert one.days == 25
        assert one.rate == one.hits / 25
        assert one.kupiec_p is not None
        assert 0 <= one.kupiec_p <= 1
    assert rows[0].hits <= 6
