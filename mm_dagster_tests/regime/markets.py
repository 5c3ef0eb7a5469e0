"""Candles for the tests of this room: real ones, and hand-made ones, as frames of `candles`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.tables.market import Candles
from mm_dagster.tables.regime import WARMUP_BARS

PRICES = ("open", "high", "low", "close", "volume")


def traded(frame: pl.DataFrame, symbol: str) -> pl.DataFrame:
    """Candles of a frame with open_time, prices and volume; a row with a null price is MISSING."""
    return frame.select(
        pl.lit(symbol).alias("symbol"),
        pl.col("open_time").cast(TIME),
        (pl.col("open_time").cast(TIME) + BAR).alias("close_time"),
        *PRICES,
        status=pl.when(pl.col("close").is_null()).then(pl.lit("MISSING")).otherwise(pl.lit("TRADED")),
        venue=pl.lit("recorded"),
        observed_at=pl.lit(None, TIME),
        config_hash=pl.lit("test"),
        code_version=pl.lit("test"),
        source=pl.lit("recorded:recorded"),
    ).pipe(Candles.validate)


def real(shared_data: Path, symbol: str = "ETH-USDT") -> pl.DataFrame:
    """The year 2025 of a KuCoin market."""
    return traded(pl.read_parquet(shared_data / "candles" / "kucoin" / symbol / "15m.parquet"), symbol)


def random_walk(start: datetime, bars: int, price: float = 100.0, symbol: str = "WALK-USDT") -> pl.DataFrame:
    """A made-up market: a random walk with highs and lows around it, the same every time."""
    random = np.random.default_rng(7)
    close = price * np.exp(np.cumsum(random.normal(0.0, 0.003, bars)))
    opens = np.concatenate([[price], close[:-1]])
    return traded(
        pl.DataFrame(
            {
                "open_time": Span(start, start + bars * BAR).open_times(),
                "open": opens,
                "high": np.maximum(opens, close) * (1.0 + random.exponential(0.001, bars)),
                "low": np.minimum(opens, close) * (1.0 - random.exponential(0.001, bars)),
                "close": close,
                "volume": random.lognormal(3.0, 1.0, bars),
            }
        ),
        symbol,
    )


def without(candles: pl.DataFrame, hole: Span) -> pl.DataFrame:
    """The same candles with those of the hole MISSING."""
    inside = hole.opens()
    return candles.with_columns(
        *(pl.when(~inside).then(pl.col(name)).alias(name) for name in PRICES),
        status=pl.when(inside).then(pl.lit("MISSING")).otherwise(pl.col("status")),
    )


def warm(candles: pl.DataFrame, span: Span, warmup: int = WARMUP_BARS) -> pl.DataFrame:
    """Only the candles of the span and of that many bars before it."""
    return candles.filter(span.back(warmup).opens())


def bits(frame: pl.DataFrame) -> bytes:
    """Every bit of a frame but its layout: equal exactly when all columns and values are."""
    parts = [repr(frame.schema).encode()]
    for column in frame:
        parts.append(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.Float64:
            parts.append(column.fill_null(0.0).to_numpy().tobytes())
        else:
            parts.append(repr(column.to_list()).encode())
    return b"".join(parts)
