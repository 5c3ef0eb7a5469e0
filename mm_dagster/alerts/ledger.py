"""The ledger as one run knows it: rows of `notification`, and an event for every step of theirs.

Nearly all events follow from the row that is committed before them, so what a crash left out is made up for at the
beginning of the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from mm_dagster.alerts.alert import UNCONFIRMED
from mm_dagster.tables import registry

NOT_TAKEN = "not taken: "
"""How the detail begins of a try of which no byte left."""

CANCELLED = "cancelled: "

_OUTCOMES = ("SENT", "UNANSWERED", "REFUSED")


class Ledger(Protocol):
    """The tables `notification` and `alert_event`, wherever they are kept."""

    def read(self) -> pl.DataFrame:
        """All rows of `notification`."""

    def events(self) -> pl.DataFrame:
        """All rows of `alert_event`."""

    def write(self, rows: pl.DataFrame, events: pl.DataFrame) -> None:
        """Commits rows, each in place of the one with the same alert_id, and adds events: never these first.

        Either may be empty. Events that are there already are never passed.
        """


class KnownLedger:
    """The ledger as one run knows it. What is committed here is accompanied by its events, each of them once."""

    def __init__(self, ledger: Ledger, now: datetime) -> None:
        """Reads the ledger, and adds the events that a crash left out.

        Args:
            ledger: where rows and events are kept.
            now: the time of a step whose row does not say it, UTC.
        """
        self._ledger = ledger
        self.rows: dict[str, dict[str, Any]] = {row["alert_id"]: row for row in ledger.read().to_dicts()}
        self._ids: set[str] = set()
        self._of: dict[str, list[dict[str, Any]]] = {}
        self._learn(ledger.events().to_dicts())
        self._write([], [event for row in self.rows.values() for event in self._steps(row, now)])

    def commit(self, rows: Sequence[dict[str, Any]], now: datetime, events: Iterable[dict[str, Any]] = ()) -> None:
        """Commits rows of `notification` and their events.

        Args:
            rows: whole rows.
            now: the time of a step whose row does not say it, UTC.
            events: more of them, made by `event`.
        """
        self.rows |= {row["alert_id"]: row for row in rows}
        given = list(events)
        before = {event["event_id"] for event in given}
        follow = [step for row in rows for step in self._steps(row, now, before)]
        self._write(rows, follow + given)

    def last(self, alert_id: str, name: str, channel: str) -> dict[str, Any] | None:
        """The newest event of that name on that channel."""
        found = [one for one in self._of.get(alert_id, []) if (one["event"], one["channel"]) == (name, channel)]
        return max(found, key=lambda one: one["at"], default=None)

    def perhaps_taken(self, alert_id: str, channel: str) -> int:
        """How many tries at a channel may have been taken without its word for it: no answer, or a crash meanwhile."""
        mine = [one for one in self._of.get(alert_id, []) if one["channel"] == channel]
        tries = sum(one["event"] == "TRYING" for one in mine)
        settled = sum(
            one["event"] in ("SENT", "REFUSED")
            or (one["event"] == "UNANSWERED" and (one["detail"] or "").startswith(NOT_TAKEN))
            for one in mine
        )
        return max(0, tries - settled)

    def try_at(self, row: dict[str, Any], channel: str, now: datetime) -> None:
        """Notes that a channel is about to be given an alert: a crash from here on may leave it taken."""
        number = sum((one["event"], one["channel"]) == ("TRYING", channel) for one in self._of.get(row["alert_id"], []))
        self.commit([], now, [event(row, "TRYING", now, channel, attempt=number + 1)])

    def tried(self, alert_id: str, channel: str) -> bool:
        """Whether a channel was ever given that alert, as far as is known."""
        return any(self.last(alert_id, name, channel) for name in _OUTCOMES)

    def _write(self, rows: Sequence[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        new = list({one["event_id"]: one for one in reversed(events) if one["event_id"] not in self._ids}.values())
        if rows or new:
            self._ledger.write(
                frame(rows), pl.DataFrame(new[::-1], schema=registry.dtypes("alert_event"), orient="row")
            )
            self._learn(new)

    def _learn(self, events: Sequence[dict[str, Any]]) -> None:
        self._ids |= {one["event_id"] for one in events}
        for one in events:
            self._of.setdefault(one["alert_id"], []).append(one)

    def _steps(self, row: dict[str, Any], now: datetime, before: Set[str] = frozenset()) -> Iterator[dict[str, Any]]:
        """The events that a row implies; no outcome of an attempt for which there is one."""
        yield event(row, "NOTED", row["created_at"], attempt=0)
        if row["status"] == "SUPPRESSED":
            yield event(row, "SUPPRESSED", now, detail=row["detail"])
        elif row["channel"] and (row["attempts"] or _is_unconfirmed(row)):
            outcomes = {_event_id(row, name, row["attempts"], row["channel"]) for name in _OUTCOMES}
            if outcomes.isdisjoint(self._ids) and outcomes.isdisjoint(before):
                name = {"SENT": "SENT", "FAILED": "REFUSED", "PENDING": "UNANSWERED"}[row["status"]]
                name = "UNANSWERED" if _is_unconfirmed(row) else name
                yield event(row, name, row["sent_at"] or now, row["channel"], row["detail"])
        if row["acknowledged_at"]:
            device = row["acknowledged_by_device"]
            yield event(row, "ACKNOWLEDGED", row["acknowledged_at"], row["channel"], f"on {device}" if device else None)
        if row["expired_at"]:
            name = "CANCELLED" if (row["detail"] or "").startswith(CANCELLED) else "EXPIRED"
            yield event(row, name, row["expired_at"], row["channel"], row["detail"])


def _is_unconfirmed(row: dict[str, Any]) -> bool:
    """Whether it counts as sent only because it may have been taken twice."""
    return (row["detail"] or "").startswith(UNCONFIRMED)


def event(
    row: dict[str, Any],
    name: str,
    at: datetime,
    channel: str | None = None,
    detail: str | None = None,
    attempt: int | None = None,
) -> dict[str, Any]:
    """One row of `alert_event`, named by alert, event, attempt and channel; a suppression by its reason, too.

    Args:
        row: the row of `notification`.
        name: see words.ALERT_EVENTS.
        at: when it happened, UTC.
        channel: on which channel; None: on none.
        detail: a sentence.
        attempt: of which attempt; None: of the row's last.
    """
    return {
        "event_id": _event_id(
            row,
            name,
            row["attempts"] if attempt is None else attempt,
            channel,
            detail if name == "SUPPRESSED" else None,
        ),
        "alert_id": row["alert_id"],
        "at": at,
        "event": name,
        "channel": channel,
        "detail": detail,
    }


def _event_id(row: dict[str, Any], name: str, attempt: int, channel: str | None, reason: str | None = None) -> str:
    return registry.identity(row["alert_id"], name, attempt, channel or "", *([reason] if reason else []))


def repeat_id(alert_id: str) -> str:
    """Names the one repetition of an emergency that expired; it goes to the second channel first."""
    return registry.identity("EXPIRED", alert_id)


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=registry.dtypes("notification"), orient="row")
