"""Candles that nobody can foresee, from a seeded generator: on them every signal must turn out to be worth nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, TIME, Span
from mm_dagster.config.markets import MarketsConfig
from mm_dagster.config.whole import Config

START = datetime(2026, 1, 1, tzinfo=UTC)
SYMBOLS = ("AAA-USDT", "BBB-USDT", "CCC-USDT")
WARM_UP_DAYS = 49
"""The features are known from then on."""

CONFIG = Config(
    markets=MarketsConfig.model_validate(
        {"venues": {"walk": {"kind": "simulated"}}, "markets": [{"symbol": name, "venue": "walk"} for name in SYMBOLS]}
    )
)


def days_of(days: int) -> Span:
    """The days on which grids are opened, after the warm-up."""
    first = START + WARM_UP_DAYS * DAY_BARS * BAR
    return Span(first, START + days * DAY_BARS * BAR)


def walk(symbol: str, days: int, seed: int, volatility: float = 0.003) -> pl.DataFrame:
    """Rows of `candles` of a random walk without drift.

    Args:
        symbol: the market.
        days: how many, from START on.
        seed: of the generator.
        volatility: standard deviation of a 15-minute log return.
    """
    generator = np.random.default_rng(seed)
    bars = days * DAY_BARS
    steps = generator.normal(0.0, volatility / 2.0, (bars, 4))
    path = 100.0 * np.exp(np.cumsum(steps.ravel()).reshape(bars, 4))
    opens = np.concatenate([[100.0], path[:-1, -1]])
    every = np.column_stack([opens, path])
    frame = pl.DataFrame(
        {
            "open": opens,
            "high": every.max(axis=1),
            "low": every.min(axis=1),
            "close": path[:, -1],
            "volume": generator.uniform(1.0, 2.0, bars),
        }
    )
    times = Span(START, START + bars * BAR).open_times().cast(TIME)
    return frame.with_columns(
        symbol=pl.lit(symbol),
        open_time=times,
        close_time=times + BAR,
        status=pl.lit("TRADED"),
        venue=pl.lit("walk"),
        observed_at=times + BAR,
    )
