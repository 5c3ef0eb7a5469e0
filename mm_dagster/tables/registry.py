"""Every table of the lake by name, and what follows from its contract: columns, keys, the time it is stored by."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import polars as pl

from mm_dagster.tables import (
    alerts,
    books,
    evaluation,
    execution,
    exit,
    grid,
    makers,
    market,
    portfolio,
    recorded,
    regime,
    strategies,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import GROUPS, Stage

SCHEMA_VERSION = 1
"""Counts changes to the tables that need more than a new nullable column."""

STAGES: dict[str, Stage] = {
    one.table: one
    for one in sorted(
        (
            *market.STAGES,
            *regime.STAGES,
            *grid.STAGES,
            *exit.STAGES,
            *portfolio.STAGES,
            *books.STAGES,
            *recorded.STAGES,
            *execution.STAGES,
            *alerts.STAGES,
            *evaluation.STAGES,
            *strategies.STAGES,
            *makers.STAGES,
        ),
        key=lambda one: GROUPS.index(one.group),
    )
}
"""The record of every table by name, in the order of the flow."""

TABLES: dict[str, type[dy.Schema]] = {name: one.schema for name, one in STAGES.items()}
"""The schema of every table by name."""

CODE_VERSIONS: dict[str, str] = {name: one.code_version for name, one in STAGES.items() if one.code_version}
"""The version of the code that computes each table."""

EVERY_BAR = tuple(name for name, one in STAGES.items() if one.every_bar)
"""The tables with one row for every bar: what a tick and a backfill compute, in the order of the flow."""

TOGETHER = tuple(name for name in EVERY_BAR if STAGES[name].needs_all)
"""Those of them that are about all markets; all others can be made of some markets alone."""

LAST = tuple(name for name in EVERY_BAR if not any(name in STAGES[other].after for other in EVERY_BAR))
"""Those whose rows depend on all others: when they are computed, all is."""

LIVE_ONLY = frozenset(
    {
        "observed_at",
        "live_state",
        "live_reason",
        "problems",
        "live_half_spread_bp",
        "live_walk_bp",
        "live_expected_bp",
        "shown_share",
        "live_origin",
        "live_equity",
    }
)
"""Columns in which a backfilled row may differ from the one that the live tick wrote."""


def before(table: str) -> tuple[str, ...]:
    """The tables that a table reads beside the candles; what they lack, or what is stale in them, it cannot know."""
    return tuple(name for name in STAGES[table].after if STAGES[name].after)


@cache
def settings(table: str) -> tuple[str, ...]:
    """Paths of the configuration that change a table's rows: its own, and those of every table that it comes after."""
    stage = STAGES[table]
    return tuple(dict.fromkeys([*(path for name in stage.after for path in settings(name)), *stage.settings]))


@cache
def time_column(table: str) -> str | None:
    """The column that a table is partitioned by month of and whose span a write replaces; None: it has none."""
    return STAGES[table].time_column


@cache
def source_column(table: str) -> str | None:
    """The column that says where a row's candles come from; None: it has none."""
    return STAGES[table].source_column


def dtypes(table: str) -> dict[str, pl.DataType]:
    """Polars types of a table's columns, in order."""
    return dict(_dtypes(table))


@cache
def _dtypes(table: str) -> tuple[tuple[str, pl.DataType], ...]:
    # dataframely makes the columns anew whenever it is asked, and a tick asks some hundred times.
    return tuple((name, column.dtype) for name, column in TABLES[table].columns().items())


def conform(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """The frame with exactly the table's columns, in order and type; columns that it lacks become null.

    Raises:
        ValueError: it has a column that the table does not know.
    """
    if frame.width == 0:
        return empty(table)
    types = dtypes(table)
    unknown = set(frame.columns) - set(types)
    if unknown:
        raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}")
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in types.items()
    )


def broken_rules(frame: pl.DataFrame, table: str) -> dict[str, int]:
    """How many rows break each rule of the table's contract; empty when all are kept."""
    return TABLES[table].filter(frame, cast=True).failure.counts()


def empty(table: str) -> pl.DataFrame:
    """No rows, all columns."""
    return pl.DataFrame(schema=dtypes(table))


def describe(table: str) -> list[dict[str, Any]]:
    """Name, type, key and description of each column, for people and catalogues."""
    schema = TABLES[table]
    return [
        {"column": name, "type": str(column.dtype), "key": column.primary_key, "description": column.description}
        for name, column in schema.columns().items()
    ]


def identity(*parts: object) -> str:
    """16 hex digits that are the same for the same parts: names a row by what it is about."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:16]
