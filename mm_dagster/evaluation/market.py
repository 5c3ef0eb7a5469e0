"""What is known of one market, bar by bar, as arrays on one axis of time: what grids on it are judged with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mm_dagster.bars import BAR, Span, bar_number

Floats = npt.NDArray[np.float64]

_BAR_US = BAR.total_seconds() * 1e6


@dataclass(frozen=True)
class Market:
    """One symbol on the bars of a span.

    Attributes:
        symbol: which.
        span: its bars.
        candles: rows of `candles` of this symbol, by open_time.
        features: rows of `regime_features`, by as_of.
        verdicts: rows of `regime_verdict`, by as_of.
    """

    symbol: str
    span: Span
    candles: pl.DataFrame
    features: pl.DataFrame
    verdicts: pl.DataFrame

    def prices(self, column: str) -> Floats:
        """A column of `candles` at every bar of the span, NaN where the bar is MISSING or has no row."""
        known = self.candles.filter(pl.col("status") != "MISSING")
        return on_axis(known["open_time"], known[column], self.span)

    def feature(self, column: str) -> Floats:
        """A column of `regime_features` at every bar of the span, NaN where it is null or has no row."""
        return on_axis(self.features["as_of"] - BAR, self.features[column], self.span)


def on_axis(opens: pl.Series, values: pl.Series, span: Span) -> Floats:
    """Values placed by the opening times of their bars, shape (span.bars,); NaN elsewhere."""
    place = opens.dt.epoch("us").to_numpy() // int(_BAR_US) - bar_number(span.start)
    inside = (place >= 0) & (place < span.bars)
    axis = np.full(span.bars, np.nan)
    axis[place[inside]] = values.cast(pl.Float64).fill_null(math.nan).to_numpy()[inside]
    return axis


def by_symbol(
    candles: pl.DataFrame, features: pl.DataFrame, verdicts: pl.DataFrame, span: Span, symbols: Sequence[str]
) -> list[Market]:
    """The markets of a span, in the order of the symbols; the frames may hold more."""
    parts = [
        frame.filter(when).sort("symbol", key).partition_by("symbol", as_dict=True)
        for frame, when, key in (
            (candles, span.opens(), "open_time"),
            (features, span.closes(), "as_of"),
            (verdicts, span.closes(), "as_of"),
        )
    ]
    return [
        Market(
            symbol,
            span,
            *(
                part.get((symbol,), frame.clear())
                for part, frame in zip(parts, (candles, features, verdicts), strict=True)
            ),
        )
        for symbol in symbols
    ]
