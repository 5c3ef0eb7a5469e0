"""A drill: one test emergency through the whole chain, labelled so everywhere, which decides nothing.

Its rows stand in the ledger under the kind DRILL and under no grid, so that no real alert counts it as its own: it is
never due, held back, repeated or sent again, and no statistic of real alerts knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mm_dagster.alerts.alert import EMERGENCY, EVERY_GRID, HIGH, Alert
from mm_dagster.alerts.parts import Part, text_of, title_of
from mm_dagster.bars import iso
from mm_dagster.tables import registry

KIND = "DRILL"
RETRY_SECONDS = 30
"""Pushover rings no more often."""
EXPIRE_SECONDS = 180
"""So long it rings at most, even if the drill is killed."""
STATE = "MANDATORY_EXIT"
"""What is rehearsed."""


def alert(grid_id: str, at: datetime, number: int, *, reminds: bool) -> Alert:
    """The emergency of a drill, or the one reminder of it, which makes a sound and has no receipt.

    Args:
        grid_id: the grid that is played.
        at: when, UTC.
        number: how many drills the ledger holds already: a clock may stand still between two.
        reminds: whether it is the reminder.
    """
    return Alert(
        alert_id=registry.identity(KIND, grid_id, at.astimezone(UTC).isoformat(), number, reminds),
        kind=KIND,
        grid_id=EVERY_GRID,
        symbol=EVERY_GRID,
        activated_at=at,
        as_of=at,
        state=STATE,
        state_since=at,
        priority=HIGH if reminds else EMERGENCY,
    )


def words(grid_id: str, at: datetime, *, reminds: bool, simulated: bool, timezone: str = "UTC") -> tuple[str, str]:
    """Title and message.

    Args:
        grid_id: the grid that is played.
        at: when it began, UTC.
        reminds: whether it is the reminder.
        simulated: whether the grid's market is none.
        timezone: the operator's.
    """
    mark = "SIMULATED · " if simulated else ""
    title = f"{mark}DRILL · {grid_id} · MANDATORY EXIT{' · reminder' if reminds else ''}"
    parts = [
        Part(0, ("DRILL. Do not stop the grid. Acknowledge this message, as you would the real one.",), must=True),
        Part(0, (f"This is a test that `mm drill` began at {iso(at)}.",), must=True),
        Part(1, (f"Nothing happened to {grid_id}.",), begins_line=False),
        Part(2, ("A real one says here why, what is at risk, and where the price stands.",)),
    ]
    return title_of(title), text_of(parts, timezone)


def response(alert_id: str, sent_at: datetime, action: str, at: datetime, note: str, minutes: float) -> pl.DataFrame:
    """One row of `operator_response`: the answer to a drill. It stands under no grid, like the drill.

    Args:
        alert_id: the drill.
        sent_at: when it was sent, UTC.
        action: see words.RESPONSES.
        at: when it was answered, UTC.
        note: in words.
        minutes: how long a real one leaves.
    """
    seconds = max(0.0, (at - sent_at).total_seconds())
    row = {
        "response_id": registry.identity(EVERY_GRID, alert_id, action, at.isoformat()),
        "alert_id": alert_id,
        "grid_id": EVERY_GRID,
        "at": at,
        "action": action,
        "note": f"DRILL: {note}",
        "seconds_from_alert": seconds,
        "within_window": seconds <= 60 * minutes,
    }
    return registry.conform(pl.DataFrame([row], schema=registry.dtypes("operator_response")), "operator_response")


def audit(
    events: pl.DataFrame, ids: Sequence[str], start: datetime, answer: pl.DataFrame | None
) -> list[dict[str, Any]]:
    """What arrived when: one row a step, in the order of time.

    Args:
        events: rows of `alert_event`.
        ids: the drill's emergency, then its reminder if there was one.
        start: when the drill began, UTC.
        answer: the row of `operator_response`; None: nobody answered.
    """
    names = dict(zip(ids, ("emergency", "reminder"), strict=False))
    rows = [
        {
            "at": one["at"],
            "seconds": round((one["at"] - start).total_seconds(), 1),
            "message": names[one["alert_id"]],
            "step": one["event"],
            "channel": one["channel"] or "ledger",
            "detail": one["detail"],
        }
        for one in events.filter(pl.col("alert_id").is_in(list(names)) & (pl.col("event") != "TRYING"))
        .sort("at", "event_id")
        .to_dicts()
    ]
    for one in answer.to_dicts() if answer is not None else ():
        rows.append(
            {
                "at": one["at"],
                "seconds": round((one["at"] - start).total_seconds(), 1),
                "message": "emergency",
                "step": "RESPONSE",
                "channel": one["through"] or "mm",
                "detail": f"{one['action']}; {one['note']}",
            }
        )
    order = ("NOTED", "SENT", "UNANSWERED", "REFUSED", "ACKNOWLEDGED", "RESPONSE", "CANCELLED", "EXPIRED")

    def place(row: dict[str, Any]) -> tuple[datetime, int, datetime]:
        """A phone's clock tells whole seconds: within one the steps stand in the order in which they can happen."""
        step = order.index(row["step"]) if row["step"] in order else 0
        return row["at"].replace(microsecond=0), step, row["at"]

    return sorted(rows, key=place)


def failures(rows: Sequence[dict[str, Any]], channels: Sequence[str], waited: bool) -> list[str]:
    """What did not work, a sentence each.

    Args:
        rows: see `audit`.
        channels: those that had to take it.
        waited: whether there was time to acknowledge.
    """
    found = []
    for channel in channels:
        mine = [row for row in rows if row["channel"] == channel and row["message"] == "emergency"]
        if not any(row["step"] == "SENT" for row in mine):
            why = next((row["detail"] for row in reversed(mine) if row["detail"]), "it was never tried")
            found.append(f"{channel} did not take it: {why}")
    if waited and not any(row["step"] in ("ACKNOWLEDGED", "RESPONSE") for row in rows):
        found.append("nobody acknowledged or answered it")
    return found
