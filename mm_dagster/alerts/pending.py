"""What was noted and not noted as sent: it is due again word for word, or is no news any more.

A crash may lie between noting and sending. So PENDING rows are due again as they are, at once after a crash, with
growing pauses (`RETRY_MINUTES`) after a channel that did not answer. They are suppressed when the episode has ended,
when a higher state is sent instead, or when they are older than `max_age_minutes` and the state is another by now.
**FAILED** rows were refused and are never sent again; reminders go on beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mm_dagster.alerts.alert import PARTLY_JUDGED, Alert
from mm_dagster.alerts.responses import SNOOZE, Answers
from mm_dagster.alerts.seen import Seen, rank
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables.words import NOT_JUDGED_YET

RETRY_MINUTES = (1, 2, 5, 10)
"""After the first, second, ... attempt without an answer, minutes from `created_at` to the next; then every last."""

LADDER = ("ESCALATION", "REMINDER", "DEESCALATION")


def settled(
    past: Sequence[dict[str, Any]],
    grid: GridConfig,
    seen: Seen,
    clock: datetime,
    alerts: AlertsConfig,
    answers: Answers,
) -> tuple[list[Alert], list[dict[str, Any]]]:
    """Settles what was noted but not noted as sent.

    Args:
        past: the grid's rows of the ledger, oldest first.
        grid: the grid.
        seen: what is known of it; its state may be an entry advice.
        clock: the tick's clock, UTC.
        alerts: how old news may be.
        answers: the newest answer in each episode.

    Returns:
        What to send again or to suppress, and the rows of the present episode of which the operator counts as notified.
    """
    resent, notified = [], []
    for row in past:
        if row["status"] == "PENDING":
            reason = _superseded(row, grid, seen, clock, alerts, answers)
            if reason:
                resent.append(again(row, "SUPPRESSED", reason))
                continue
            resent += retry(row, clock)
        if row["status"] != "SUPPRESSED" and row["activated_at"] == grid.activated_at:
            notified.append(row)
    return resent, notified


def _superseded(
    row: Mapping[str, Any],
    grid: GridConfig,
    seen: Seen,
    clock: datetime,
    alerts: AlertsConfig,
    answers: Answers,
) -> str | None:
    """Why a PENDING row is no news any more; None: it still is."""
    if row["activated_at"] != grid.activated_at or (row["kind"] == "ENTRY") == grid.enabled:
        return "not sent: its episode has ended"
    answer = answers.get((grid.id, grid.activated_at))
    if answer is not None and answer["action"] == "stopped":
        return "not sent: you stopped this grid"
    match row["kind"]:
        case "BLIND":
            return None if seen.blind else "not sent: evaluations are back"
        case "RECOVERED":
            return "not sent: blind again" if seen.blind else None
        case "SETUP":
            settled = {NOT_JUDGED_YET: seen.state is not None, PARTLY_JUDGED: seen.state is not None and seen.complete}
            return "not sent: it is judged by now" if settled.get(row["state"]) else None
        case "REMINDER" if answer is not None and is_answered(row, answer, clock):
            return "not sent: you answered"
    news = seen.news
    if news is None or news == row["state"]:
        return None
    raised = row["kind"] in LADDER and rank(news) > rank(row["state"])
    old = clock - row["as_of"] > timedelta(minutes=alerts.max_age_minutes)
    return f"not sent: it is {news} by now" if raised or old else None


def is_answered(row: Mapping[str, Any], answer: Mapping[str, Any], clock: datetime) -> bool:
    """Whether an answer is one to a message; one that was reopened is none, and a stopped grid has nothing left.

    A snooze is one for a while, and never to MANDATORY_EXIT.
    """
    if answer["action"] in ("reopened", "stopped"):
        return answer["action"] == "stopped"
    if answer["action"] == "snoozed" and (row["state"] == "MANDATORY_EXIT" or clock >= answer["at"] + SNOOZE):
        return False
    return bool(answer["alert_id"] == row["alert_id"] or answer["at"] >= notified_at(row))


def _next_attempt(row: Mapping[str, Any]) -> datetime:
    """When a PENDING row that was tried before is tried again."""
    attempts = int(row["attempts"])
    minutes = RETRY_MINUTES[:attempts][-1] + RETRY_MINUTES[-1] * max(0, attempts - len(RETRY_MINUTES))
    return row["created_at"] + timedelta(minutes=minutes)


def retry(row: Mapping[str, Any], clock: datetime) -> list[Alert]:
    """A PENDING row of the ledger, word for word, if it is due again.

    What a crash left behind is due whatever the clock says, even one that was set back meanwhile.
    """
    return [again(row, "PENDING", None)] if row["attempts"] == 0 or clock >= _next_attempt(row) else []


def again(row: Mapping[str, Any], status: str, detail: str | None) -> Alert:
    """The alert that a row of the ledger notes, word for word.

    Args:
        row: the row of `notification`.
        status: PENDING or SUPPRESSED.
        detail: why it is suppressed.
    """
    kept = (
        "alert_id",
        "kind",
        "grid_id",
        "symbol",
        "activated_at",
        "as_of",
        "state",
        "state_since",
        "priority",
        "attempts",
        "created_at",
        "title",
        "message",
    )
    return Alert(**{name: row[name] for name in kept}, status=status, detail=detail)


def notified_at(row: Mapping[str, Any]) -> datetime:
    """When a row was sent, or at least noted."""
    return row["sent_at"] or row["created_at"]
