"""Markets, grids and their rows for the tests of this room: made up, not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, DAY_BARS, TIME, Span, bar_number, bar_numbers
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.grid.position import compute
from mm_dagster.portfolio import risk
from mm_dagster.portfolio.risk import Inputs, Member
from mm_dagster.tables.market import NO_RULES

NOW = datetime(2026, 3, 4, 7, 30, tzinfo=UTC)
SETTINGS = PortfolioConfig.model_validate({"window_days": 30})
RISK = RiskConfig()
DAYS = 70
SPAN = Span(NOW - DAYS * DAY_BARS * BAR, NOW)


def market(symbol: str, seed: int, together: float = 0.8, volatility: float = 0.004) -> pl.DataFrame:
    """Rows of `candles` over SPAN; markets share a part of each move."""
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    share = np.sqrt(together)
    shape = (SPAN.bars, 3)
    steps = share * common.normal(0, volatility / 2, shape) + np.sqrt(1 - together) * own.normal(
        0, volatility / 2, shape
    )
    path = 100.0 * np.exp(np.cumsum(steps.ravel()).reshape(shape))
    opens = np.concatenate([[100.0], path[:-1, -1]])
    every = np.column_stack([opens, path])
    times = SPAN.open_times().cast(TIME)
    return pl.DataFrame(
        {
            "symbol": [symbol] * SPAN.bars,
            "close_time": times + BAR,
            "open": opens,
            "high": every.max(axis=1),
            "low": every.min(axis=1),
            "close": path[:, -1],
            "volume": own.uniform(1_000.0, 2_000.0, SPAN.bars),
        }
    )


def forecasts(candles: pl.DataFrame) -> pl.DataFrame:
    """A volatility that wanders, known at every bar."""
    parts = []
    for (symbol,), rows in sorted(candles.group_by("symbol", maintain_order=True)):
        place = bar_numbers(rows["close_time"]) - bar_number(SPAN.start)
        parts.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * rows.height,
                    "as_of": rows["close_time"],
                    "volatility_forecast": 0.004 * (1.5 + np.sin(place / 400.0 + len(str(symbol)))),
                }
            )
        )
    return pl.concat(parts)


def member(name: str, symbol: str, candles: pl.DataFrame, days: float = 3, **changes: Any) -> Member:
    """A grid around where its market stood when it began, on a quarter hour so many days ago."""
    began = NOW - int(days * DAY_BARS) * BAR
    price = candles.filter(pl.col("symbol") == symbol, pl.col("close_time") == began)["close"][0]
    values = {
        "id": name, "symbol": symbol, "activated_at": began, "lower": price * 0.93, "upper": price * 1.07,
        "levels": 12, "stop": price * 0.9, "capital": 1000, "fees": {"slippage": 0.0005},
    }  # fmt: skip
    return Member(GridConfig.model_validate(values | changes), NO_RULES, None)


def rows_of(members: Sequence[Member], candles: pl.DataFrame) -> pl.DataFrame:
    """Rows of `grid_risk` that the portfolio reads, from each activation on."""
    parts = []
    for one in members:
        grid = one.grid
        life = candles.filter(pl.col("symbol") == grid.symbol, pl.col("close_time") >= grid.first_as_of)
        prices = life.select(risk.PRICES).cast(pl.Float64).fill_null(float("nan")).to_numpy().T
        its = compute(grid, prices.copy(), np.full(life.height, 0.004), RISK, one.rules)
        numbers = {name: its.numbers[name] for name in ("inventory", "liquidation_value", "total_pnl")}
        parts.append(
            pl.DataFrame(
                {
                    "grid_id": [grid.id] * life.height,
                    "activated_at": pl.Series([grid.activated_at] * life.height, dtype=TIME),
                    "as_of": life["close_time"],
                    "symbol": [grid.symbol] * life.height,
                    "price": life["close"],
                    **numbers,
                    "capital_at_risk": its.numbers["capital_at_risk"],
                }
            )
            .with_columns(pl.col(pl.Float64).fill_nan(None))
            .with_columns(
                stopped_at=pl.when(pl.col("as_of") >= its.stopped).then(pl.lit(its.stopped, dtype=TIME))
                if its.stopped
                else pl.lit(None, dtype=TIME),
                source=pl.lit("MODELLED"),
            )
        )
    return pl.concat(parts)


def inputs(members: Sequence[Member], candles: pl.DataFrame, equities: Mapping[datetime, float] = {}) -> Inputs:
    """All that is read, of members in the order of their ids."""
    ordered = sorted(members, key=lambda one: one.grid.id)
    return Inputs(ordered, rows_of(ordered, candles), candles, forecasts(candles), equities)


def at(
    members: Sequence[Member],
    candles: pl.DataFrame,
    moments: Sequence[datetime] = (NOW,),
    settings: PortfolioConfig = SETTINGS,
    **more: Any,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of both tables at some moments."""
    return risk.compute("USDT", inputs(members, candles, **more), moments, settings, RISK)


def several(count: int, together: float = 0.8) -> tuple[list[Member], pl.DataFrame]:
    """So many grids, each on a market of its own."""
    names = [f"M{place:02}-USDT" for place in range(count)]
    candles = pl.concat([market(name, place, together) for place, name in enumerate(names)])
    return [member(f"g{place:02}", name, candles) for place, name in enumerate(names)], candles


def days_before(days: float) -> datetime:
    """A bar so many days before NOW."""
    return NOW - timedelta(days=days)


def floats(frame: pl.DataFrame, name: str) -> Floats:
    """A column as numbers."""
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
