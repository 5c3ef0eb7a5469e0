"""Whose rows a stage computes, one market or grid beside the other, and from which bar on rows of them are lacking.

All of them are looked at together: a question to the lake, or to a frame, for each one of 500 is what a tick is made
of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.whole import Config
from mm_dagster.tables.registry import CODE_VERSIONS, dtypes

BARS_AT_ONCE = 1_000_000
"""Of all lanes together: some hundred MB of keys."""


@dataclass(frozen=True)
class Lane:
    """A market, or a grid with its market, whose rows of a table are computed together.

    Attributes:
        symbol: the market.
        grid: None: of a table of the market.
    """

    symbol: str
    grid: GridConfig | None = None

    @property
    def name(self) -> str:
        """What tells it from the others of its stage."""
        return self.grid.id if self.grid else self.symbol


def of_lanes(rows: pl.DataFrame, table: str, lanes: Sequence[Lane], config: Config) -> pl.DataFrame:
    """The rows of some lanes: of a grid those of its present episode, where a table tells episodes apart.

    Args:
        rows: of the table, with its keys, `config_hash` and `code_version`; others are left out.
        table: its name; one of a market is that of each grid on it.
        lanes: whose.
        config: what is in force.

    Returns:
        `lane`, `open_time` of the bar, and `in_force`: whether this configuration and this code made it.
    """
    of_grids = "grid_id" in dtypes(table)
    asked = [(lane, lane.grid if of_grids else None) for lane in lanes]
    columns = {
        "lane": [lane.name for lane in lanes],
        "symbol": [lane.symbol for lane in lanes],
        "grid_id": [grid.id if grid else None for _, grid in asked],
        "activated_at": [grid.activated_at if grid else None for _, grid in asked],
        "wanted": [config.hash_of(table, lane.symbol, grid) for lane, grid in asked],
    }
    schema = dict.fromkeys(columns, pl.String) | {"activated_at": TIME}
    key = [name for name in ("grid_id", "activated_at") if name in rows.columns] if of_grids else ["symbol"]
    own = pl.DataFrame(columns, schema=schema).select("lane", "wanted", *key)
    in_force = (pl.col("config_hash") == pl.col("wanted")) & (pl.col("code_version") == CODE_VERSIONS[table])
    return rows.join(own, on=key).select("lane", open_time=pl.col("as_of") - BAR, in_force=in_force)


def first_absent(rows: pl.DataFrame, spans: Mapping[str, Span]) -> dict[str, datetime]:
    """Opening time of the first bar of each lane's span that has no row; the end of the span when all have.

    Args:
        rows: `lane` and `open_time`, others and doubled ones included.
        spans: by name of the lane.
    """
    asked = pl.DataFrame(
        [(name, span.start, span.end) for name, span in spans.items()],
        schema={"lane": pl.String, "start": TIME, "end": TIME},
        orient="row",
    )
    place = pl.int_range(pl.len()).over("lane")
    # Of sorted bars those stand where they would if none was lacking that come before the first lacking one.
    there = (
        rows.select("lane", "open_time")
        .unique()
        .join(asked, on="lane")
        .filter((pl.col("open_time") >= pl.col("start")) & (pl.col("open_time") < pl.col("end")))
        .sort("lane", "open_time")
        .filter(pl.col("open_time") == pl.col("start") + place * BAR)
        .group_by("lane")
        .len()
    )
    counts = dict(there.iter_rows())
    return {name: span.start + counts.get(name, 0) * BAR for name, span in spans.items()}


def together(lanes: Sequence[Lane], spans: Mapping[str, Span]) -> Iterator[tuple[Span, list[Lane]]]:
    """The lanes of each span, so many at a time that memory stays bounded however long the span is."""
    of_span: dict[Span, list[Lane]] = {}
    for lane in lanes:
        of_span.setdefault(spans[lane.name], []).append(lane)
    for span, its in of_span.items():
        many = max(1, BARS_AT_ONCE // max(1, span.bars))
        for first in range(0, len(its), many):
            yield span, its[first : first + many]
