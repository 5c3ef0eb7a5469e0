"""What the operator did about an alert, and how soon after it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster import tables
from mm_dagster.config import GridConfig, WindowMinutes

NOW_MINUTES = 15
"""MANDATORY_EXIT is to be acted on now: within one bar."""


def response(
    grid: GridConfig, action: str, at: datetime, note: str | None, ledger: pl.DataFrame, windows: WindowMinutes
) -> pl.DataFrame:
    """One row of `operator_response`: the answer to the grid's last escalation before it.

    Answering twice at the same time with the same action is one response.

    Args:
        grid: the grid that was acted on.
        action: see tables.RESPONSES.
        at: when, UTC.
        note: in the operator's words.
        ledger: rows of `notification`.
        windows: the recommended minutes of each state.

    Raises:
        ValueError: no escalation of the grid was told before that time.
    """
    told = ledger.filter(
        (pl.col("grid_id") == grid.id) & (pl.col("kind") == "ESCALATION") & (pl.col("status") == "SENT")
    ).filter(pl.col("sent_at") <= at)
    if told.is_empty():
        raise ValueError(f"{grid.id}: no alert was told before {at:%Y-%m-%d %H:%M} UTC; nothing to respond to")
    alert = told.sort("sent_at", "alert_id").row(-1, named=True)
    seconds = (at - alert["sent_at"]).total_seconds()
    row = {
        "response_id": tables.identity(grid.id, alert["alert_id"], action, at.isoformat()),
        "alert_id": alert["alert_id"],
        "grid_id": grid.id,
        "at": at,
        "action": action,
        "note": note,
        "seconds_from_alert": seconds,
        "within_window": seconds <= 60 * _window(alert, windows),
    }
    return tables.conform(pl.DataFrame([row], schema=tables.dtypes("operator_response")), "operator_response")


def unasked(grid: GridConfig, action: str, at: datetime, note: str | None) -> pl.DataFrame:
    """One row of `operator_response` that answers no alert: what happened to a grid whose file vanished.

    Args:
        grid: the grid that was acted on.
        action: see tables.RESPONSES.
        at: when, UTC.
        note: in the operator's words.
    """
    row = {
        "response_id": tables.identity(grid.id, "", action, at.isoformat()),
        "grid_id": grid.id,
        "at": at,
        "action": action,
        "note": note,
    }
    return tables.conform(pl.DataFrame([row], schema=tables.dtypes("operator_response")), "operator_response")


def _window(alert: Mapping[str, Any], windows: WindowMinutes) -> float:
    """Minutes that the operator had, from the alert on."""
    minutes = {
        "WARNING": windows.warning,
        "LATEST_ACCEPTABLE_EXIT": windows.latest_acceptable_exit,
        "MANDATORY_EXIT": windows.mandatory,
    }[alert["state"]]
    return max(minutes, NOW_MINUTES)
