"""Bars that a venue was asked for and sent no row for: when they are asked for again, and when it is believed."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from mm_dagster.bars import BAR, TIME
from mm_dagster.tables.registry import conform, dtypes, empty

WAITS = (
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(days=1),
    timedelta(days=4),
    timedelta(days=7),
)
"""From one answer without a row to the next question, by how many there were; the last stays."""
APART = timedelta(minutes=10)
"""Two answers are two from here on: a venue that has a bad minute says the same for the whole of it."""
AT_ONCE = 1_500
"""Bars that are asked for again at once, from the oldest of what is due: a page of most venues."""
_JITTER = BAR
"""So much earlier than due is due as well: the tick of a quarter hour stands for all of it."""


def bars_of(holes: pl.DataFrame) -> pl.DataFrame:
    """Rows of `candle_hole` as one row for each bar."""
    quarter = timedelta(minutes=15)
    return (
        holes.with_columns(pl.datetime_ranges("open_time", "until", quarter, closed="left").alias("open_time"))
        .explode("open_time")
        .with_columns(pl.col("open_time").cast(TIME))
        .drop("until")
        .drop_nulls("open_time")
    )


def resting(holes: pl.DataFrame, now: datetime | None) -> pl.DataFrame:
    """`symbol` and `open_time` of the bars that are not asked for: not yet, or never again.

    Args:
        holes: rows of `candle_hole`.
        now: whose turn it is; None: all that may have come meanwhile, however soon.
    """
    waits = pl.col("due_at").is_null()
    if now is not None:
        waits |= pl.col("due_at") > now + _JITTER
    return bars_of(holes.filter(waits)).select("symbol", "open_time")


def noted(
    symbol: str, venue: str, was: pl.DataFrame, known: pl.Series, open: pl.DataFrame, now: datetime
) -> pl.DataFrame:
    """The holes of a market after an answer.

    Args:
        symbol: market.
        venue: name of the venue in markets.yaml.
        was: its rows of `candle_hole` until now.
        known: bars that are holes no more.
        open: `open_time` of the bars that the answer had no row for, and `kept`: false where the venue showed that it
            keeps none so old.
        now: when the answer was given.

    Returns:
        Rows of `candle_hole`.
    """
    before = bars_of(was).filter(~pl.col("open_time").is_in(known.implode()))
    asked = open.join(before.drop("symbol", "venue"), on="open_time", how="left").with_columns(
        again=pl.col("asked_at").is_null() | (pl.col("asked_at") <= now - APART)
    )
    times = pl.col("asked").fill_null(0) + pl.col("again").cast(pl.Int64)
    waits = pl.Series([wait // timedelta(microseconds=1) for wait in WAITS])
    asked = asked.with_columns(
        symbol=pl.lit(symbol),
        venue=pl.lit(venue),
        asked=times,
        first_asked_at=pl.col("first_asked_at").fill_null(now),
        asked_at=pl.when("again").then(pl.lit(now)).otherwise("asked_at"),
    ).with_columns(
        due_at=pl.when("kept").then(
            pl.when("again")
            .then(
                pl.col("asked_at")
                + pl.duration(microseconds=pl.lit(waits).gather((pl.col("asked") - 1).clip(0, len(WAITS) - 1)))
            )
            .otherwise("due_at")
        )
    )
    names = [name for name in dtypes("candle_hole") if name != "until"]
    rest = before.join(open, on="open_time", how="anti")
    bars = pl.concat([rest.select(names), asked.select(names).cast({"asked_at": TIME, "due_at": TIME})]).sort(
        "open_time"
    )
    if bars.is_empty():
        return empty("candle_hole")
    same = [name for name in names if name != "open_time"]
    begins = (pl.col("open_time").diff() != BAR).fill_null(True) | pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(name).shift(1)) for name in same
    )
    runs = (
        bars.with_columns(run=begins.cum_sum())
        .group_by("run", maintain_order=True)
        .agg(
            (pl.col("open_time").max() + BAR).alias("until"),
            pl.col("open_time").min(),
            *(pl.col(name).first() for name in same),
        )
    )
    return conform(runs.drop("run"), "candle_hole")
