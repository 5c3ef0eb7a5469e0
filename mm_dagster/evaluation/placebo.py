"""The placebo: a market with the same volatility at the same times and no direction."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, TIME, Span

PRICES = ("open", "high", "low", "close")
SIGNS = 1
"""Seed of the placebo that is shown."""


def flip(candles: pl.DataFrame, seed: int, first: datetime | None = None) -> pl.DataFrame:
    """Candles whose every bar goes its way or the opposite one, by chance.

    A bar is turned over as a whole, about the close before it: its high becomes its low. All markets are turned over
    at the same bars, so that they still move together.

    Args:
        candles: rows of `candles`, in any order.
        seed: of the signs.
        first: when the bar opens that has the first sign: with the same one, markets that are read one by one are
            turned over at the same bars. None: the oldest of these.

    Returns:
        The same rows by market and time with other prices; MISSING bars stay MISSING.
    """
    if candles.is_empty():
        return candles
    ordered = candles.sort("symbol", "open_time")
    oldest, newest = ordered["open_time"].min(), ordered["open_time"].max()
    assert isinstance(oldest, datetime)
    assert isinstance(newest, datetime)
    axis = Span(first or oldest, newest + BAR)
    signs = pl.DataFrame({"open_time": axis.open_times().cast(TIME), "sign": _signs(axis.bars, seed)})
    before = pl.col("close").forward_fill().shift(1).over("symbol").fill_null(pl.col("open"))
    moves = ordered.join(signs, on="open_time", how="left", maintain_order="left").with_columns(
        (pl.col(name) / before).log().alias(f"_{name}") for name in PRICES
    )
    turned = pl.col("sign") < 0
    moves = moves.with_columns(
        _open=pl.col("sign") * pl.col("_open"),
        _close=pl.col("sign") * pl.col("_close"),
        _high=pl.when(turned).then(-pl.col("_low")).otherwise("_high"),
        _low=pl.when(turned).then(-pl.col("_high")).otherwise("_low"),
    )
    opening = pl.col("open").drop_nulls().first().over("symbol")
    since = (pl.col("_close").fill_null(0.0).cum_sum() - pl.col("_close").fill_null(0.0)).over("symbol")
    return moves.with_columns((opening * (since + pl.col(f"_{name}")).exp()).alias(name) for name in PRICES).select(
        candles.columns
    )


def _signs(bars: int, seed: int) -> Floats:
    return np.random.default_rng(seed).choice([-1.0, 1.0], bars)
