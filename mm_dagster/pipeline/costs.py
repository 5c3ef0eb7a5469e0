"""What leaving costs, from the stored rows."""

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import Span
from mm_dagster.books.book import Book
from mm_dagster.execution import exit_cost
from mm_dagster.pipeline.measure import Computed
from mm_dagster.pipeline.work import Work, in_batches, makes


@makes("exit_cost")
def cost_exits(job: Work) -> Computed:
    """Computes and stores `exit_cost`."""
    lake = job.project.lake
    changed, newest = 0, []
    refused = job.refusals()
    running = [grid for symbol in job.symbols for grid in job.grids(symbol) if grid.enabled and grid.id not in refused]
    for span, grids in in_batches(job.grid_spans("exit_cost", running)):
        symbols, ids = sorted({grid.symbol for grid in grids}), [grid.id for grid in grids]
        wide = span.back(exit_cost.LEAD_BARS)
        candles = lake.read("candles", span=wide, symbols=symbols, columns=["symbol", "close_time", "close", "volume"])
        features = lake.read(
            "regime_features", span=span, symbols=symbols, columns=["symbol", "as_of", "volatility_forecast"]
        )
        columns = ["grid_id", "activated_at", "as_of", "inventory"]
        held = lake.read("grid_risk", span=span, grids=ids, columns=columns)
        rows = exit_cost.compute(grids, candles, features, held, span, job.config.risk, _books(job, span, symbols))
        rows = job.stamp(rows, "exit_cost", grids)
        changed += job.write("exit_cost", rows, span, grids=ids)
        newest.append(rows.filter(pl.col("as_of") == span.end))
    job.settle("exit_cost")
    return Computed(changed, newest)


def _books(job: Work, span: Span, symbols: list[str]) -> exit_cost.Books:
    """The books that the ticks of a span have kept."""
    kept = job.project.lake.read(
        "book_snapshot", span=span, symbols=symbols, columns=["symbol", "as_of", "bids", "asks", "refused"]
    )
    return {
        (row["symbol"], row["as_of"]): Book(*(_levels(row[side]) for side in ("bids", "asks")))
        for row in kept.filter(pl.col("refused").is_null()).iter_rows(named=True)
    }


def _levels(side: list[dict[str, float]]) -> Floats:
    return np.array([(level["price"], level["amount"]) for level in side], dtype=np.float64)
