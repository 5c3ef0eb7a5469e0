"""What the operator did about an alert, and how soon after it.

A snooze is no decision: it answers no alert, and counts as no response. It puts off the reminders of
LATEST_ACCEPTABLE_EXIT, the only ones that can wait: a WARNING has none, and MANDATORY_EXIT is answered by a decision.
A state that rises is told all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import iso
from mm_dagster.config.exit import WindowMinutes
from mm_dagster.tables import registry

NOW_MINUTES = 15
"""MANDATORY_EXIT is to be acted on now: within one bar."""

SNOOZE = timedelta(hours=4)
"""So long a snooze lasts."""

CHOICES = {"stopped": "Stopped", "reduced": "Reduced", "kept": "Kept", "snoozed": "Snooze 4 h"}
"""The answers that can be given by a tap, each with what stands on it."""

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


def choices(kind: str, state: str) -> tuple[str, ...]:
    """The answers that a message asks for; none: it only tells.

    Args:
        kind: see words.ALERT_KINDS.
        state: the exit state that it is about.
    """
    if kind not in ("ESCALATION", "REMINDER", "DRILL"):
        return ()
    return tuple(action for action in CHOICES if action != "snoozed" or _can_wait(state))


def _can_wait(state: str) -> bool:
    return state == "LATEST_ACCEPTABLE_EXIT"


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
    to: str | None = None,
    key: str | None = None,
) -> pl.DataFrame:
    """One row of `operator_response`: the answer to the last escalation before it of the episode that ran at the time.

    Answering twice at the same time with the same action is one response. So is what has a key, if it comes in again,
    or if the same was said of the same alert before; then that row is returned as it stands.

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
        to: the alert_id of the message that it is given to, which then was surely read; None: to the last one.
        key: names the answer where it may come in twice, like a tap; None: its time does.

    Raises:
        ValueError: it did not run at that time; no escalation was sent before it and it is neither stopped nor
            reduced; the message is of a former episode, or says less than a later one; there is nothing to snooze; or
            it would change nothing. In one line.
    """
    if key is not None:
        again = responses.filter(pl.col("response_id") == registry.identity(key))
        if again.height:
            return again
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
    # What the channel never confirmed was sent all the same, if it is answered.
    sent_at = pl.when(pl.col("alert_id").eq_missing(to)).then(pl.coalesce("sent_at", "created_at")).otherwise("sent_at")
    escalations = ledger.with_columns(sent_at=sent_at).filter(
        (pl.col("grid_id") == grid_id)
        & (pl.col("activated_at") == activated_at)
        & (pl.col("kind") == "ESCALATION")
        & ((pl.col("status") == "SENT") | pl.col("alert_id").eq_missing(to))
        & (pl.col("sent_at") <= at)
    )
    last = escalations.sort("sent_at", "alert_id").row(-1, named=True) if escalations.height else None
    _check_message(grid_id, action, activated_at, to, ledger, last)
    if last is None and action in ("kept", "snoozed"):
        raise ValueError(f"{grid_id}: no alert was sent before {at:%Y-%m-%d %H:%M} UTC; nothing to respond to")
    if last is not None and action == "snoozed" and not _can_wait(last["state"]):
        raise ValueError(f"{grid_id}: {last['state']} cannot be snoozed: {_INSTEAD[last['state']]}")
    alert = last if action != "snoozed" and (told_by is None or note == BY_HAND) else None
    alert_id = alert["alert_id"] if alert else None
    if key is not None:
        same = _said_before(responses, grid_id, activated_at, action, alert_id, at)
        if same.height:
            return same
    seconds = (at - alert["sent_at"]).total_seconds() if alert else None
    row = {
        "response_id": registry.identity(key)
        if key is not None
        else registry.identity(grid_id, alert_id or iso(activated_at), action, at.isoformat()),
        "alert_id": alert_id,
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


_INSTEAD = {
    "WARNING": "nothing reminds of it",
    "MANDATORY_EXIT": "say that you stopped, reduced or kept the grid",
}


def _check_message(
    grid_id: str,
    action: str,
    activated_at: datetime,
    to: str | None,
    ledger: pl.DataFrame,
    last: Mapping[str, Any] | None,
) -> None:
    """
    Raises:
        ValueError: the message that an answer is given to is no more what the answer would count for.
    """
    if to is None:
        return
    message = ledger.filter((pl.col("alert_id") == to) & (pl.col("grid_id") == grid_id)).to_dicts()
    if not message:
        raise ValueError(f"{grid_id}: that message is not in the ledger; nothing was noted")
    if message[0]["activated_at"] != activated_at:
        raise ValueError(f"{grid_id}: that message is of an episode that has ended; nothing was noted")
    # That a grid was stopped or reduced is true whatever was told; what was kept or put off must have been read.
    if action in ("kept", "snoozed") and last is not None and last["created_at"] > message[0]["created_at"]:
        raise ValueError(f"{grid_id}: it has been {last['state']} since; answer the newer message. Nothing was noted")


def _said_before(
    responses: pl.DataFrame, grid_id: str, activated_at: datetime, action: str, alert_id: str | None, at: datetime
) -> pl.DataFrame:
    """The row that says the same of the same alert, unless it was taken back or has run out since."""
    mine = responses.filter((pl.col("grid_id") == grid_id) & pl.col("activated_at").eq_missing(activated_at))
    reopened = mine.filter(pl.col("action") == "reopened")["at"].max()
    same = mine.filter((pl.col("action") == action) & pl.col("alert_id").eq_missing(alert_id))
    if reopened is not None:
        same = same.filter(pl.col("at") > reopened)
    if action == "snoozed":
        same = same.filter(pl.col("at") > at - SNOOZE)
    return same.sort("at", "response_id").tail(1)


def _window(alert: Mapping[str, Any], windows: WindowMinutes) -> float:
    """Minutes that the operator had, from the alert on."""
    minutes = {
        "WARNING": windows.warning,
        "LATEST_ACCEPTABLE_EXIT": windows.latest_acceptable_exit,
        "MANDATORY_EXIT": windows.mandatory,
    }[alert["state"]]
    return max(minutes, NOW_MINUTES)
