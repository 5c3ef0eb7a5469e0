"""What a picture shows: from which price to which, at which bars, and where one value holds. Nothing draws here."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from mm_dagster.bars import BAR, Span
from mm_dagster.config.grid import GridConfig


def price_range(grid: GridConfig, low: float | None, high: float | None) -> tuple[float, float]:
    """What a price axis shows: price, grid and stop together, unless the price is far from the grid.

    Args:
        grid: its upper bound and stop are shown, unless the price lies wholly more than twice their distance away.
        low: lowest price, quote currency; None: no price is known.
        high: highest price.

    Returns:
        Bottom and top of the axis, quote currency, with a margin.
    """
    width = grid.upper - grid.stop
    if low is None or high is None:
        low, high = grid.stop, grid.upper
    elif low <= grid.upper + 2 * width and high >= grid.stop - 2 * width:
        low, high = min(low, grid.stop), max(high, grid.upper)
    margin = max(0.04 * (high - low), 0.002 * high)
    return low - margin, high + margin


def stretches(rows: pl.DataFrame, column: str) -> list[tuple[datetime, datetime, object]]:
    """Runs of equal values as (from, until, value): a row holds from its bar's opening to its as_of.

    Where rows are missing a stretch ends.
    """
    if rows.is_empty():
        return []
    follows = pl.col("as_of").diff().fill_null(BAR) == BAR
    runs = (
        rows.sort("as_of")
        .with_columns(run=pl.struct(pl.col(column).rle_id(), (~follows).cum_sum()).rle_id())
        .group_by("run", maintain_order=True)
        .agg(pl.col("as_of").first().alias("first"), pl.col("as_of").last().alias("last"), pl.col(column).first())
    )
    return [(row["first"] - BAR, row["last"], row[column]) for row in runs.iter_rows(named=True)]


def on_every_bar(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with one for every bar from the first to the last, null where there is none, by time."""
    first, last = rows["open_time"].min(), rows["close_time"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return rows
    axis = Span(first, last).open_times().to_frame()
    return axis.join(rows, on="open_time", how="left", maintain_order="left").with_columns(
        close_time=pl.col("open_time") + BAR
    )
