"""What leaving costs, from the stored rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, Span
from mm_dagster.books.book import Book
from mm_dagster.config.grid import GridConfig
from mm_dagster.execution import exit_cost
from mm_dagster.pipeline.measure import Computed
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.work import Work, in_batches, makes


@makes("exit_cost")
def cost_exits(job: Work) -> Computed:
    """Computes and stores `exit_cost`."""
    changed, newest = 0, []
    refused = job.refusals()
    running = [grid for symbol in job.symbols for grid in job.grids(symbol) if grid.enabled and grid.id not in refused]
    for span, grids in in_batches(job.grid_spans("exit_cost", running)):
        rows = job.stamp(_rows(job.project, grids, span), "exit_cost", grids)
        changed += job.write("exit_cost", rows, span, grids=[grid.id for grid in grids])
        newest.append(rows.filter(pl.col("as_of") == span.end))
    job.settle("exit_cost")
    return Computed(changed, newest)


def costs_at(project: Project, grid: GridConfig, as_of: datetime) -> list[dict[str, Any]]:
    """What leaving a grid costs at one bar: the stored rows, or the same computed where they are not stored yet.

    A message goes out as soon as the exit states are committed; the costs wait for the order books.
    """
    span = Span(as_of - BAR, as_of)
    rows = project.lake.read("exit_cost", span=span, grids=[grid.id])
    rows = rows.filter(pl.col("activated_at") == grid.activated_at)
    if rows.is_empty():
        rows = _rows(project, [grid], span)
    return rows.sort("horizon_minutes").to_dicts()


def _rows(project: Project, grids: Sequence[GridConfig], span: Span) -> pl.DataFrame:
    """Rows of `exit_cost` without stamps."""
    lake = project.lake
    symbols, ids = sorted({grid.symbol for grid in grids}), [grid.id for grid in grids]
    wide = span.back(exit_cost.LEAD_BARS)
    candles = lake.read("candles", span=wide, symbols=symbols, columns=["symbol", "close_time", "close", "volume"])
    features = lake.read(
        "regime_features", span=span, symbols=symbols, columns=["symbol", "as_of", "volatility_forecast"]
    )
    columns = ["grid_id", "activated_at", "as_of", "inventory"]
    held = lake.read("grid_risk", span=span, grids=ids, columns=columns)
    columns = ["symbol", "as_of", "bids", "asks", "origin", "refused"]
    kept = lake.read("book_snapshot", span=span, symbols=symbols, columns=columns).filter(pl.col("refused").is_null())
    rows = exit_cost.compute(grids, candles, features, held, span, project.config.risk, _books(kept))
    origins = kept.select("symbol", "as_of", pl.col("origin").fill_null("ASKED"))
    order = rows.columns
    told = rows.drop("live_origin").join(origins, on=["symbol", "as_of"], how="left", maintain_order="left")
    is_live = pl.col("live_half_spread_bp").is_not_null()
    return told.with_columns(live_origin=pl.when(is_live).then("origin")).select(order)


def _books(kept: pl.DataFrame) -> exit_cost.Books:
    """The books that the ticks of a span have kept."""
    return {
        (row["symbol"], row["as_of"]): Book(*(_levels(row[side]) for side in ("bids", "asks")))
        for row in kept.iter_rows(named=True)
    }


def _levels(side: list[dict[str, float]]) -> Floats:
    return np.array([(level["price"], level["amount"]) for level in side], dtype=np.float64)
