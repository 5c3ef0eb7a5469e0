"""What is known of one market, bar by bar, as arrays on one axis of time: what grids on it are judged with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, Span, by_bar
from mm_dagster.exit import triggers

FEATURES = ("volatility_forecast", "adx", "adx_4h")
"""Columns of `regime_features` that are needed beside those that the triggers read."""


@dataclass(frozen=True)
class Market:
    """One market on the bars of a span.

    Attributes:
        symbol: which.
        span: its bars.
        prices: open, high, low, close and volume at every bar, NaN where MISSING, each of shape (bars,).
        known: what `exit.triggers.look_up` finds, and FEATURES, each of shape (bars,), NaN where unknown.
    """

    symbol: str
    span: Span
    prices: Mapping[str, Floats]
    known: Mapping[str, Floats]

    def place(self, as_of: datetime) -> int:
        """Where the bar that closes at a time stands on the axis."""
        return (as_of - self.span.start) // BAR - 1


def markets(
    symbols: Sequence[str], candles: pl.DataFrame, features: pl.DataFrame, verdicts: pl.DataFrame, span: Span
) -> Iterator[Market]:
    """The markets one after another, so that no more than one is laid out at a time.

    Args:
        symbols: which, in this order.
        candles: rows of `candles`; all frames may hold more.
        features: rows of `regime_features`.
        verdicts: rows of `regime_verdict`.
        span: the bars that are wanted.
    """
    for symbol in symbols:
        bars, measured, judged = (frame.filter(pl.col("symbol") == symbol) for frame in (candles, features, verdicts))
        lane = pl.DataFrame({"symbol": [symbol]})
        prices = by_bar(bars, span, lane, "open", "high", "low", "close", "volume", time="close_time")
        known = triggers.inputs_by_bar([symbol], bars, measured, judged, span) | by_bar(measured, span, lane, *FEATURES)
        yield Market(
            symbol,
            span,
            {name: values[0] for name, values in prices.items()},
            {name: values[0] for name, values in known.items()},
        )
