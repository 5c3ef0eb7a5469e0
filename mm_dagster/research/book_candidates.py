"""Candidates from recorded books: what the quarter hour before says. None decides anything.

A question is put at the close of a bar. The features of that bar are there some minutes later, when its log is sealed:
a candidate is those of the bar before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, natural_log
from mm_dagster.bars import BAR, DAY_BARS, Span, by_bar

COLUMNS = (
    "spread_bp", "imbalance_1", "imbalance_n", "vpin", "rv_mid", "kyle_lambda", "recovery_ms", "lead_ms",
    "bid_depth_25bp", "ask_depth_25bp", "buy_volume", "sell_volume",
)  # fmt: skip
"""Of `book_features`, that they need."""
AS_THEY_ARE = ("spread_bp", "imbalance_1", "imbalance_n", "vpin", "kyle_lambda", "recovery_ms", "lead_ms")
LEAST_ROWS = 48
"""Quarter hours of a day that have a spread, with which the day counts as recorded."""


def lanes(rows: pl.DataFrame, span: Span) -> dict[str, Floats]:
    """The candidates at every bar of a market, each of shape (bars,); NaN where the book before it is not known.

    Args:
        rows: of `book_features` of one market; `as_of` and COLUMNS are enough.
        span: its bars.
    """
    if rows.is_empty():
        return {name: np.full(span.bars, np.nan) for name in names()}
    one = pl.DataFrame({"market": [0]}, schema={"market": pl.Int32})
    found = by_bar(rows.with_columns(market=pl.lit(0)), span, one, *COLUMNS)
    known = {name: values[0] for name, values in found.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        told = {f"book_{name}": known[name] for name in AS_THEY_ARE}
        told["book_volatility"] = natural_log(known["rv_mid"])
        told["book_depth_ratio"] = natural_log(known["bid_depth_25bp"] / known["ask_depth_25bp"])
        traded = known["buy_volume"] + known["sell_volume"]
        told["book_signed_volume"] = (known["buy_volume"] - known["sell_volume"]) / traded
    return {name: _lagged(np.where(np.isfinite(values), values, np.nan)) for name, values in told.items()}


def names() -> list[str]:
    """The candidates, in the order of `lanes`."""
    return [*(f"book_{name}" for name in AS_THEY_ARE), "book_volatility", "book_depth_ratio", "book_signed_volume"]


def _lagged(values: Floats) -> Floats:
    """Those of the bar before."""
    return np.concatenate([[np.nan], values[:-1]])


def recorded_days(rows: pl.DataFrame) -> Span | None:
    """From the first to the last recorded day of a market; None: there is none."""
    days = _days(rows)
    return Span(days.min(), days.max() + DAY_BARS * BAR) if days.len() else None  # type: ignore[arg-type, operator]


def count_days(rows: pl.DataFrame) -> int:
    """How many days of a market were recorded."""
    return _days(rows).len()


def _days(rows: pl.DataFrame) -> pl.Series:
    began = (pl.col("as_of") - BAR).dt.truncate("1d").alias("day")
    known = rows.filter(pl.col("spread_bp").is_not_null()).group_by(began).len()
    return known.filter(pl.col("len") >= LEAST_ROWS)["day"].sort()


def lacking(rows: Mapping[str, pl.DataFrame], least: int) -> dict[str, int]:
    """How many recorded days each market lacks, of those that lack any.

    Args:
        rows: of `book_features` by market.
        least: days that are needed.
    """
    counts = {name: count_days(one) for name, one in rows.items()}
    return {name: least - count for name, count in counts.items() if count < least}
