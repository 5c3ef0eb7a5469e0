"""The placebo: a market with the same volatility at the same times and no direction."""

from __future__ import annotations

import numpy as np
import polars as pl

PRICES = ("open", "high", "low", "close")


def flip(candles: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Candles whose every bar goes its way or the opposite one, by chance.

    A bar is turned over as a whole, about the close before it: its high becomes its low. All markets are turned over
    at the same bars, so that they still move together.

    Args:
        candles: rows of `candles`, in any order.
        seed: of the signs.

    Returns:
        The same rows by market and time with other prices; MISSING bars stay MISSING.
    """
    ordered = candles.sort("symbol", "open_time")
    times = ordered["open_time"].unique().sort()
    signs = pl.DataFrame({"open_time": times, "sign": np.random.default_rng(seed).choice([-1.0, 1.0], times.len())})
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
    first = pl.col("open").drop_nulls().first().over("symbol")
    since = (pl.col("_close").fill_null(0.0).cum_sum() - pl.col("_close").fill_null(0.0)).over("symbol")
    return moves.with_columns((first * (since + pl.col(f"_{name}")).exp()).alias(name) for name in PRICES).select(
        candles.columns
    )
