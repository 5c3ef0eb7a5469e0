"""Delivery, ledger first: what is to be told is noted before it is sent, and again with what became of it.

A crash between the two leaves a PENDING row, which is due again: rather twice than never. The window is one message:
sent, or accepted without an answer, and not yet noted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from mm_dagster import tables
from mm_dagster.alerts.policy import Alert, Cancellation
from mm_dagster.alerts.pushover import PushoverRefused, PushoverUnavailable, Sent

logger = logging.getLogger(__name__)


class Ledger(Protocol):
    """The table `notification`, wherever it is kept."""

    def read(self) -> pl.DataFrame:
        """All rows."""

    def write(self, rows: pl.DataFrame) -> None:
        """Commits rows, each in place of the one with the same alert_id."""


class Channel(Protocol):
    """A way to the operator, like Pushover."""

    name: str

    def send(
        self, title: str, message: str, priority: int, *, timestamp: datetime, url: str | None, image: bytes | None
    ) -> Sent:
        """Sends a message, or raises PushoverRefused or PushoverUnavailable."""

    def cancel(self, receipt: str) -> None:
        """Stops an emergency, or raises PushoverRefused or PushoverUnavailable."""


@dataclass(frozen=True)
class Outgoing:
    """An alert with its words.

    Attributes:
        alert: what to tell.
        title: as it is shown.
        message: likewise.
        simulated: whether its market is synthetic; if so it never reaches a channel.
        url: where to read on.
        image: a picture, PNG.
    """

    alert: Alert
    title: str
    message: str
    simulated: bool
    url: str | None = None
    image: bytes | None = None


def dispatch(
    outgoing: Sequence[Outgoing],
    cancellations: Sequence[Cancellation] = (),
    *,
    ledger: Ledger,
    channel: Channel | None,
    clock: Callable[[], datetime],
) -> pl.DataFrame:
    """Notes and sends alerts, and stops the emergencies that are over.

    There must be one sender at a time: the caller holds a lock from reading the ledger for `policy.due` until this
    returns. What another run has settled in spite of that is left alone.

    An alert of a simulated market, and every alert while there is no channel, goes to the log; its row is SENT to
    the channel `log`, so that it is not due again. One without an answer stays PENDING, one that is refused becomes
    FAILED, and neither keeps the next from being sent. An emergency that cannot be cancelled for want of an answer
    keeps its receipt for the next try; one whose receipt is refused no longer rings.

    Args:
        outgoing: what `policy.due` found, in its order.
        cancellations: what `policy.over` found.
        ledger: where rows are kept.
        channel: the way to the operator; None: there are no credentials.
        clock: tells the time on which the market runs, UTC.

    Returns:
        The rows of `notification` as they were last committed, by alert_id.
    """
    stored = {row["alert_id"]: row for row in ledger.read().to_dicts()}
    settled = {alert_id for alert_id, row in stored.items() if row["status"] in ("SENT", "FAILED")}
    unsettled = [one for one in outgoing if one.alert.alert_id not in settled]
    rows = {one.alert.alert_id: _row(one, clock()) for one in unsettled}
    _commit(ledger, list(rows.values()))
    for one in unsettled:
        if one.alert.status != "PENDING":
            continue
        row = rows[one.alert.alert_id]
        if one.simulated or channel is None:
            row |= _log(one, clock)
        else:
            row |= _send(one, row, channel, clock)
        _commit(ledger, [row])
    for cancellation in cancellations:
        row = stored[cancellation.alert_id]
        if channel is not None and row["expired_at"] is None:
            row |= _cancel(cancellation, channel, clock)
            _commit(ledger, [row])
            rows[cancellation.alert_id] = row
    return _frame(list(rows.values())).sort("alert_id")


def _row(one: Outgoing, now: datetime) -> dict[str, Any]:
    """The row as it stands before sending: whatever an earlier attempt noted beside it is no longer true."""
    alert = one.alert
    return {
        "alert_id": alert.alert_id,
        "grid_id": alert.grid_id,
        "activated_at": alert.activated_at,
        "symbol": alert.symbol,
        "as_of": alert.as_of,
        "kind": alert.kind,
        "state": alert.state,
        "state_since": alert.state_since,
        "priority": alert.priority,
        "title": one.title,
        "message": one.message,
        "status": alert.status,
        "detail": alert.detail,
        "attempts": alert.attempts,
        "created_at": alert.created_at or now,
    }


def _log(one: Outgoing, clock: Callable[[], datetime]) -> dict[str, Any]:
    logger.warning("%s\n%s", one.title, one.message)
    why = "a simulated market reaches no channel" if one.simulated else "there are no Pushover credentials"
    return {
        "status": "SENT",
        "channel": "log",
        "detail": f"{why}: written to the ledger and the log",
        "attempts": one.alert.attempts + 1,
        "sent_at": clock(),
    }


def _send(one: Outgoing, row: dict[str, Any], channel: Channel, clock: Callable[[], datetime]) -> dict[str, Any]:
    tried = {"channel": channel.name, "attempts": one.alert.attempts + 1}
    try:
        sent = channel.send(
            one.title,
            one.message,
            one.alert.priority,
            timestamp=row["created_at"],
            url=one.url,
            image=one.image,
        )
    except PushoverRefused as error:
        logger.error("%s was not sent: %s", one.title, error)
        return tried | {"status": "FAILED", "detail": str(error)}
    except PushoverUnavailable as error:
        logger.error("%s was not sent yet: %s", one.title, error)
        return tried | {"detail": f"to be sent again: {error}"}
    return tried | {"status": "SENT", "detail": None, "sent_at": clock(), "receipt": sent.receipt}


def _cancel(cancellation: Cancellation, channel: Channel, clock: Callable[[], datetime]) -> dict[str, Any]:
    try:
        channel.cancel(cancellation.receipt)
    except PushoverUnavailable as error:
        logger.error("the emergency %s may still ring: %s", cancellation.alert_id, error)
        return {"detail": f"not cancelled yet, though {cancellation.reason}: {error}"}
    except PushoverRefused as error:
        logger.error("the emergency %s was not cancelled: %s", cancellation.alert_id, error)
        return {"detail": f"not cancelled, though {cancellation.reason}: {error}", "expired_at": clock()}
    return {"detail": f"cancelled: {cancellation.reason}", "expired_at": clock()}


def _commit(ledger: Ledger, rows: list[dict[str, Any]]) -> None:
    if rows:
        ledger.write(_frame(rows))


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=tables.dtypes("notification"), orient="row")
