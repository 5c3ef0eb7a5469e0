"""What the operator did about an alert, and how soon after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster.bars import iso
from mm_dagster.config.exit import WindowMinutes
from mm_dagster.tables import registry

NOW_MINUTES = 15
"""MANDATORY_EXIT is to be acted on now: within one bar."""

BY_HAND = "by hand"
"""What an exchange tells of a grid that the operator stopped there."""


Episode = tuple[str, datetime]
"""grid_id and activated_at."""
Answers = Mapping[Episode, Mapping[str, Any]]
"""The newest row of `operator_response` of each episode that has one."""


def answers_of(responses: pl.DataFrame | None, ledger: pl.DataFrame) -> Answers:
    """The newest answer in each episode.

    Args:
        responses: rows of `operator_response`; None: there are none. One that does not name its episode is of that of
            the alert that it answers.
        ledger: rows of `notification`.
    """
    if responses is None or responses.is_empty():
        return {}
    of_alert = dict(ledger.select("alert_id", "activated_at").iter_rows())
    found: dict[Episode, Mapping[str, Any]] = {}
    for row in responses.sort("at", "response_id").to_dicts():
        activated_at = row["activated_at"] or of_alert.get(row["alert_id"])
        if activated_at is not None:
            found[row["grid_id"], activated_at] = row
    return found


def is_over(answers: Answers, grid_id: str, activated_at: datetime) -> bool:
    """Whether the operator says that they stopped a grid in this episode, and not since that it runs again."""
    answer = answers.get((grid_id, activated_at))
    return answer is not None and answer["action"] == "stopped"


def response(
    grid_id: str,
    action: str,
    at: datetime,
    note: str | None,
    ledger: pl.DataFrame,
    windows: WindowMinutes,
    episodes: Sequence[datetime],
    responses: pl.DataFrame,
    told_by: str | None = None,
) -> pl.DataFrame:
    """One row of `operator_response`: the answer to the last escalation before it of the episode that ran at the time.

    Answering twice at the same time with the same action is one response.

    Args:
        grid_id: the grid that was acted on, even one that is no longer configured.
        action: see words.RESPONSES.
        at: when, UTC.
        note: in the operator's words.
        ledger: rows of `notification`.
        windows: the recommended minutes of each state.
        episodes: when the grid was activated, each time, running or not.
        responses: rows of `operator_response`.
        told_by: the venue that told of it; None: the operator did. What an exchange did by itself answers no alert.

    Raises:
        ValueError: it did not run at that time; no escalation was sent before it and it is neither stopped nor
            reduced; or it would change nothing. In one line.
    """
    begun = [activated_at for activated_at in episodes if activated_at <= at]
    if not begun:
        first = f"; its first activation is of {iso(min(episodes))}" if episodes else ""
        raise ValueError(f"{grid_id}: it did not run at {iso(at)}{first}; nothing to respond to")
    activated_at = max(begun)
    before = answers_of(responses, ledger).get((grid_id, activated_at))
    stopped = before is not None and before["action"] == "stopped"
    if before is not None and stopped and action != "reopened":
        raise ValueError(
            f"{grid_id}: you noted at {iso(before['at'])} that it was stopped; `mm respond {grid_id} reopened` takes "
            "that back"
        )
    if action == "reopened" and (before is None or not stopped):
        raise ValueError(f"{grid_id}: it was not noted as stopped since {iso(activated_at)}; nothing to reopen")
    if before is not None and stopped and at < before["at"]:
        raise ValueError(
            f"{grid_id}: it was stopped at {iso(before['at'])}, after {iso(at)}; write when it was reopened"
        )
    escalations = ledger.filter(
        (pl.col("grid_id") == grid_id)
        & (pl.col("activated_at") == activated_at)
        & (pl.col("kind") == "ESCALATION")
        & (pl.col("status") == "SENT")
    ).filter(pl.col("sent_at") <= at)
    if escalations.is_empty() and action == "kept":
        raise ValueError(f"{grid_id}: no alert was sent before {at:%Y-%m-%d %H:%M} UTC; nothing to respond to")
    answers_alert = escalations.height and (told_by is None or note == BY_HAND)
    alert = escalations.sort("sent_at", "alert_id").row(-1, named=True) if answers_alert else None
    seconds = (at - alert["sent_at"]).total_seconds() if alert else None
    row = {
        "response_id": registry.identity(
            grid_id, alert["alert_id"] if alert else iso(activated_at), action, at.isoformat()
        ),
        "alert_id": alert["alert_id"] if alert else None,
        "grid_id": grid_id,
        "activated_at": activated_at,
        "at": at,
        "action": action,
        "note": note,
        "told_by": told_by,
        "seconds_from_alert": seconds,
        "within_window": seconds <= 60 * _window(alert, windows) if alert and seconds is not None else None,
    }
    return registry.conform(pl.DataFrame([row], schema=registry.dtypes("operator_response")), "operator_response")


def _window(alert: Mapping[str, Any], windows: WindowMinutes) -> float:
    """Minutes that the operator had, from the alert on."""
    minutes = {
        "WARNING": windows.warning,
        "LATEST_ACCEPTABLE_EXIT": windows.latest_acceptable_exit,
        "MANDATORY_EXIT": windows.mandatory,
    }[alert["state"]]
    return max(minutes, NOW_MINUTES)
