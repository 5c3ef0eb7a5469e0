"""Every table of the lake by name, and what follows from its contract: columns, keys, the time it is stored by."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import dataframely as dy
import polars as pl

from mm_dagster.tables.alerts import AlertEvent, Notification, OperatorResponse
from mm_dagster.tables.evaluation import CandidateParameters, SignalQuality
from mm_dagster.tables.exit import ExitState
from mm_dagster.tables.grid import EntryAssessment, GridEpisode, GridRisk
from mm_dagster.tables.market import AccountSnapshot, CandleHole, CandleRevision, Candles, Quarantine, Tick
from mm_dagster.tables.regime import RegimeFeatures, RegimeVerdict

SCHEMA_VERSION = 1
"""Counts changes to the tables that need more than a new nullable column."""

CODE_VERSIONS = {
    "candles": "2",
    "regime_features": "5",
    "regime_verdict": "3",
    "grid_risk": "3",
    "exit_state": "3",
    "entry_assessment": "2",
}
"""Raise a table's number when the same input would give other values; rows and Dagster assets carry it."""

EVALUATION_VERSION = "1"
"""Likewise of `signal_quality`, whose rows are not made bar by bar."""

CANDIDATES_VERSION = "1"
"""Likewise of `candidate_parameters`."""

TABLES: dict[str, type[dy.Schema]] = {
    "candles": Candles,
    "candle_revision": CandleRevision,
    "quarantine": Quarantine,
    "candle_hole": CandleHole,
    "regime_features": RegimeFeatures,
    "regime_verdict": RegimeVerdict,
    "grid_episode": GridEpisode,
    "grid_risk": GridRisk,
    "exit_state": ExitState,
    "entry_assessment": EntryAssessment,
    "notification": Notification,
    "alert_event": AlertEvent,
    "operator_response": OperatorResponse,
    "account_snapshot": AccountSnapshot,
    "tick": Tick,
    "signal_quality": SignalQuality,
    "candidate_parameters": CandidateParameters,
}
"""Every table of the lake by name, in the order of the flow."""

LIVE_ONLY = frozenset({"observed_at", "live_state", "live_reason", "problems"})
"""Columns in which a backfilled row may differ from the one that the live tick wrote."""


@cache
def time_column(table: str) -> str | None:
    """The column that a table is partitioned by month of and whose span a write replaces; None: it has none."""
    names = TABLES[table].column_names()
    return next(
        (name for name in ("open_time", "as_of") if name in TABLES[table].primary_key() and name in names), None
    )


def source_column(table: str) -> str | None:
    """The column that says where a row's candles come from; None: it has none."""
    name = "candle_source" if table == "grid_risk" else "source"
    return name if name in dtypes(table) else None


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
