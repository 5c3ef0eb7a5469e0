"""What a market's book is like at an hour of the day: what is usual, and what one has to reckon with.

By the hour of the day and not of the week: a week has 168 hours, and before eight weeks are recorded, each of them is
of fewer days than anybody should call usual. How many days there are is told beside it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from mm_dagster.bars import BAR

DAYS = 28
"""Before its end that a profile is over: four weeks, each day of the week as often."""
LEAST_WINDOWS = 8
"""Quarter hours that say something, below which nothing is said: two days of an hour."""
LEAST_IN_SYNC = 0.5
"""Share of a quarter hour in which its book was in sync, below which it says nothing of its hour."""
DEPTHS = ("bid_depth_10bp", "bid_depth_25bp", "bid_depth_50bp")
KEYS = ["exchange", "symbol", "hour"]


def profiled(features: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """The profile of each market.

    Args:
        features: rows of `book_features`; of the days after `as_of` and of those too long before nothing is taken.
        as_of: end of the last day that it is over.

    Returns:
        A row a market and hour of which there is a quarter hour, by exchange, symbol and hour: `as_of`, `days` and
        `windows` that there are, medians of the spread, of what waits in the bids, and of recovery_ms; `spread_bp_90`,
        which one of ten quarter hours exceeds, and `_low`, which one of ten falls short of. A figure is null where
        fewer than `LEAST_WINDOWS` quarter hours know it.
    """
    began = pl.col("as_of") - BAR
    rows = features.filter(
        began >= as_of - timedelta(days=DAYS), pl.col("as_of") <= as_of, pl.col("in_sync_share") >= LEAST_IN_SYNC
    ).with_columns(began.dt.hour().cast(pl.Int64).alias("hour"), began.dt.date().alias("day"))
    told = rows.group_by(KEYS).agg(
        pl.col("day").n_unique().cast(pl.Int64).alias("days"),
        pl.len().cast(pl.Int64).alias("windows"),
        _known("spread_bp", pl.col("spread_bp").median()),
        _known("spread_bp", _quantile("spread_bp", 0.9)).alias("spread_bp_90"),
        *(
            one
            for name in DEPTHS
            for one in (_known(name, pl.col(name).median()), _known(name, _quantile(name, 0.1)).alias(f"{name}_low"))
        ),
        _known("recovery_ms", pl.col("recovery_ms").median()),
    )
    columns = ["exchange", "symbol", "as_of", *told.columns[2:]]
    return told.with_columns(pl.lit(as_of).cast(features.schema["as_of"]).alias("as_of")).select(columns).sort(KEYS)


def _quantile(name: str, share: float) -> pl.Expr:
    return pl.col(name).quantile(share, interpolation="linear")


def _known(name: str, figure: pl.Expr) -> pl.Expr:
    """A figure of a column, where enough quarter hours know it."""
    return pl.when(pl.col(name).count() >= LEAST_WINDOWS).then(figure).alias(name)
