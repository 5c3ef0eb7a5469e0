"""Delivery, ledger first: an alert is noted before it is sent, and again with what became of it.

A crash between the two leaves a PENDING row, which is due again: rather twice than never, and never three times. Each
try at the first channel is an event before it is made. A try that ended in a crash or without an answer may have been
taken; after TWICE of them it counts as sent, though unconfirmed, and the second channel has it. Only what was surely
not taken, since no byte of it left, is tried on with growing pauses.

The second channel stands in for the first when that does not answer or refuses. An emergency of MANDATORY_EXIT goes
to both at once, and is not settled by the second alone while the first may still take it: only the first rings.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.alerts.alert import EMERGENCY, UNCONFIRMED, Alert, Cancellation
from mm_dagster.alerts.channel import Button, Channel, InThread, Message, NotTaken, Refused, Unavailable
from mm_dagster.alerts.ledger import CANCELLED, NOT_TAKEN, KnownLedger, Ledger, event, frame, repeat_id
from mm_dagster.alerts.responses import CHOICES, choices
from mm_dagster.config.sources import is_real, kind_of
from mm_dagster.tables import registry

logger = logging.getLogger(__name__)

SECOND_ATTEMPTS = 5
"""What the first channel refused is given up when the second has not answered so often: then reminders go on."""

SECOND_AGAIN = timedelta(minutes=30)
"""While the first channel does not answer, the second gets the same emergency again after so long."""

LEFT_OUT = timedelta(hours=1)
"""For so long after an emergency was sent, what a crash kept from the second channel is still worth sending there."""

TWICE = 2
"""So often a message is offered that may have been taken: the first time, and once more."""


@dataclass(frozen=True)
class Outgoing:
    """An alert with its words.

    Attributes:
        alert: what to tell.
        title: as it is shown.
        message: likewise.
        source: where its market's candles come from; only `ccxt` and `ccxt:EXCHANGE` ever reach a channel.
        url: where to read on.
        image: a picture, PNG.
    """

    alert: Alert
    title: str
    message: str
    source: str
    url: str | None = None
    image: bytes | None = None


def dispatch(
    outgoing: Sequence[Outgoing],
    cancellations: Sequence[Cancellation] = (),
    *,
    ledger: Ledger,
    channel: Channel | None,
    second: Channel | None = None,
    clock: Callable[[], datetime],
) -> pl.DataFrame:
    """Notes and sends alerts, and stops the emergencies that are over. Nothing else sends.

    There must be one sender at a time: the caller holds a lock from reading the ledger for `policy.due` until this
    returns. What another run has settled in spite of that is left alone. Receipts are to be polled before emergencies
    are cancelled, or an acknowledgement may be missed.

    An alert of a market that is no exchange's, and every alert while there is no channel, goes to the log; its row is
    SENT to the channel `log`, so that it is not due again. One that no channel took stays PENDING, or becomes FAILED
    when it was refused and there is no second channel to wait for; neither keeps the next from being sent. An
    emergency that cannot be cancelled for want of an answer keeps its receipt for the next try; one whose receipt is
    refused no longer rings.

    Args:
        outgoing: what `policy.due` found, in its order.
        cancellations: what `policy.cancellations` found.
        ledger: where rows and events are kept.
        channel: the way to the operator; None: there are no credentials.
        second: the other way; None: there is none.
        clock: tells the time on which the market runs, UTC.

    Returns:
        The rows of `notification` as they were last committed, by alert_id.
    """
    book = KnownLedger(ledger, clock())
    sender = _Sender(book, channel, second, clock)
    settled = {alert_id for alert_id, row in book.rows.items() if row["status"] in ("SENT", "FAILED")}
    unsettled = [one for one in outgoing if one.alert.alert_id not in settled]
    now = clock()
    rows = [_row(one, now) for one in unsettled]
    if rows:
        book.commit(rows, now)
    for one in unsettled:
        if one.alert.status == "PENDING":
            sender.send(one)
    touched = [one.alert.alert_id for one in unsettled]
    for cancellation in cancellations:
        row = book.rows[cancellation.alert_id]
        if channel is not None and row["channel"] == channel.name and row["expired_at"] is None:
            sender.cancel(cancellation, channel)
            touched.append(cancellation.alert_id)
    sender.make_up()
    return frame([book.rows[alert_id] for alert_id in dict.fromkeys(touched)]).sort("alert_id")


def _row(one: Outgoing, now: datetime) -> dict[str, Any]:
    """The row as it stands before sending: whatever an earlier attempt noted beside it is no longer true."""
    alert = one.alert
    return dict.fromkeys(registry.dtypes("notification")) | {
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
        "source": one.source,
    }


@dataclass(frozen=True)
class _Outcome:
    """What came of one attempt on one channel.

    Attributes:
        event: SENT, UNANSWERED or REFUSED.
        channel: the channel's name.
        detail: in a sentence; None: there is nothing to say.
        receipt: of an emergency.
    """

    event: str
    channel: str
    detail: str | None = None
    receipt: str | None = None


@dataclass(frozen=True)
class _Sender:
    book: KnownLedger
    channel: Channel | None
    second: Channel | None
    clock: Callable[[], datetime]

    def send(self, one: Outgoing) -> None:
        """Sends one alert that is noted, and notes what came of it, attempt by attempt."""
        alert_id = one.alert.alert_id
        channel = self.channel
        # A refusal stands: the same message is never offered there again. Nor is what it may have taken twice.
        refused = channel is not None and self.book.last(alert_id, "REFUSED", channel.name) is not None
        spent = channel is not None and self.book.perhaps_taken(alert_id, channel.name) >= TWICE
        if spent and channel is not None and not refused:
            self._leave(one, channel)
            return
        if refused:
            channel = None
        if not is_real(one.source) or (self.channel is None and self.second is None):
            self._log(one)
        elif self.second is None:
            if channel is not None:
                self._note(one, self._push(channel, one))
            elif self.channel is not None:
                why = "it was refused before, and there is no second channel any more"
                self._note(one, _Outcome("REFUSED", self.channel.name, why))
        elif channel is None:
            self._note(one, self._hand(self.second, one), refused=refused)
        elif self._is_repeat(alert_id):
            outcome = self._hand(self.second, one)
            self._note(one, outcome)
            if outcome.event != "SENT":
                self._note(one, self._push(channel, one), more=True)
        elif _is_alarm(one.alert.priority, one.alert.state):
            self._both(one, channel, self.second)
        else:
            outcome = self._push(channel, one)
            self._note(one, outcome, more=True)
            if outcome.event != "SENT":
                self._note(one, self._hand(self.second, one), refused=outcome.event == "REFUSED", instead=outcome)
        self._leave_if_spent(one)

    def _leave_if_spent(self, one: Outgoing) -> None:
        """What the first channel may have taken twice counts as sent."""
        row = self.book.rows[one.alert.alert_id]
        channel = self.channel
        if row["status"] == "PENDING" and channel is not None:
            refused = self.book.last(row["alert_id"], "REFUSED", channel.name) is not None
            if not refused and self.book.perhaps_taken(row["alert_id"], channel.name) >= TWICE:
                self._leave(one, channel)

    def _leave(self, one: Outgoing, channel: Channel) -> None:
        """Offers it to the first channel no more, and to the second unless that has it."""
        row = self.book.rows[one.alert.alert_id]
        took = self.second is not None and self.book.last(row["alert_id"], "SENT", self.second.name) is not None
        other = None
        if self.second is not None and not took:
            other = self._hand(self.second, one)
            self._beside(row, other)
            took = other.event == "SENT"
        has = "the second channel has it" if took else "no second channel has it"
        last = (row["detail"] or "").removeprefix("to be sent again: ")
        missed = "; ".join(text for text in (last, other.detail if other and not took else None) if text)
        attempts = row["attempts"] + (other is not None and not took)
        row = row | {"attempts": attempts}
        if self.second is not None and not took and attempts < SECOND_ATTEMPTS:
            # Nobody has it for certain: the second is asked again, with growing pauses.
            row |= {"status": "PENDING", "detail": f"to be sent again: {missed}"}
            self.book.commit([row], self.clock())
            return
        detail = f"{UNCONFIRMED}{channel.name} may have taken it {TWICE} times and never answered; {has}"
        now = self.clock()
        row |= {
            "status": "SENT",
            "channel": channel.name,
            "detail": f"{detail}: {missed}" if missed else detail,
            "sent_at": now,
        }
        logger.error("%s: %s", one.title, detail)
        self.book.commit([row], now, [event(row, "UNANSWERED", now, channel.name, row["detail"])])

    def _push(self, channel: Channel, one: Outgoing) -> _Outcome:
        """One try at the first channel, noted before it is made."""
        row = self.book.rows[one.alert.alert_id]
        self.book.try_at(row, channel.name, self.clock())
        return _push(channel, row, one)

    def cancel(self, cancellation: Cancellation, channel: Channel) -> None:
        """Stops an emergency, and notes that it is silent, or why not."""
        row = self.book.rows[cancellation.alert_id]
        events = []
        try:
            channel.cancel(cancellation.receipt)
        except Unavailable as error:
            logger.error("the emergency %s may still ring: %s", cancellation.alert_id, error)
            detail = f"not cancelled yet, though {cancellation.reason}: {error}"
            row |= {"detail": detail}
            events = [event(row, "UNANSWERED", self.clock(), channel.name, detail)]
        except Refused as error:
            logger.error("the emergency %s was not cancelled: %s", cancellation.alert_id, error)
            row |= {
                "detail": f"not cancelled, though {cancellation.reason}: {error}",
                "expired_at": self.clock(),
            }
        else:
            row |= {"detail": f"{CANCELLED}{cancellation.reason}", "expired_at": self.clock()}
        self.book.commit([row], self.clock(), events)

    def make_up(self) -> None:
        """Gives the second channel the emergencies that a crash kept from it after the first had taken them."""
        if self.second is None or self.channel is None:
            return
        for row in list(self.book.rows.values()):
            if (
                _is_alarm(row["priority"], row["state"])
                and (row["status"], row["channel"]) == ("SENT", self.channel.name)
                and row["acknowledged_at"] is None
                and row["expired_at"] is None
                and self.clock() - row["sent_at"] <= LEFT_OUT
                and not self.book.tried(row["alert_id"], self.second.name)
            ):
                self._beside(row, _give(self.second, _message(row)))

    def _both(self, one: Outgoing, channel: Channel, second: Channel) -> None:
        """Both channels at once: neither waits for the other to give up."""
        now = self.clock()
        took = self.book.last(one.alert.alert_id, "SENT", second.name)
        beside = None
        if took is None or now - took["at"] >= SECOND_AGAIN:
            beside = InThread(lambda: self._hand(second, one))
        outcome = self._push(channel, one)
        self._note(one, outcome, more=True)
        if outcome.event == "REFUSED":
            other = beside.result() if beside else self._hand(second, one)
            self._note(one, other, refused=True, instead=outcome)
        elif beside:
            self._beside(self.book.rows[one.alert.alert_id], beside.result())

    def _beside(self, row: dict[str, Any], outcome: _Outcome) -> None:
        """Notes what came of a channel that does not decide what becomes of the row."""
        if outcome.event != "SENT":
            logger.error("%s did not reach the second channel: %s", row["title"], outcome.detail)
        now = self.clock()
        self.book.commit([], now, [event(row, outcome.event, now, outcome.channel, outcome.detail)])

    def _note(
        self,
        one: Outgoing,
        outcome: _Outcome,
        *,
        more: bool = False,
        refused: bool = False,
        instead: _Outcome | None = None,
    ) -> None:
        """Commits what came of an attempt.

        Args:
            one: the alert.
            outcome: of the attempt.
            more: whether another channel has yet to answer, so that a refusal is not the end.
            refused: whether the first channel has refused it.
            instead: the outcome on the first channel that made it necessary to try this one.
        """
        now = self.clock()
        attempts = one.alert.attempts + 1
        row = self.book.rows[one.alert.alert_id] | {"channel": outcome.channel, "attempts": attempts}
        before = f"{instead.detail}; " if instead and instead.detail else ""
        if outcome.event == "SENT":
            detail = f"instead of {instead.channel}: {instead.detail}" if instead else one.alert.detail
            row |= {"status": "SENT", "detail": detail, "sent_at": now, "receipt": outcome.receipt}
        elif outcome.event == "REFUSED" and not more:
            logger.error("%s was not sent: %s", one.title, outcome.detail)
            row |= {"status": "FAILED", "detail": outcome.detail}
        elif refused and attempts >= SECOND_ATTEMPTS:
            logger.error("%s was not sent: %s%s", one.title, before, outcome.detail)
            row |= {"status": "FAILED", "detail": f"{before}{outcome.detail}; given up after {attempts} attempts"}
        else:
            logger.error("%s was not sent yet: %s%s", one.title, before, outcome.detail)
            row |= {"status": "PENDING", "detail": f"to be sent again: {before}{outcome.detail}"}
        self.book.commit([row], now, [event(row, outcome.event, now, outcome.channel, outcome.detail or row["detail"])])

    def _log(self, one: Outgoing) -> None:
        logger.warning("%s\n%s", one.title, one.message)
        why = (
            f"a {kind_of(one.source)} market reaches no channel" if not is_real(one.source) else "no channel is set up"
        )
        now = self.clock()
        row = self.book.rows[one.alert.alert_id] | {
            "status": "SENT",
            "channel": "log",
            "detail": f"{why}: written to the ledger and the log",
            "attempts": one.alert.attempts + 1,
            "sent_at": now,
        }
        self.book.commit([row], now)

    def _hand(self, second: Channel, one: Outgoing) -> _Outcome:
        return _give(second, _message(self.book.rows[one.alert.alert_id], one))

    def _is_repeat(self, alert_id: str) -> bool:
        return any(row["receipt"] and repeat_id(row["alert_id"]) == alert_id for row in self.book.rows.values())


def _is_alarm(priority: int, state: str) -> bool:
    """Whether both channels are to ring."""
    return priority == EMERGENCY and state == "MANDATORY_EXIT"


def _message(row: Mapping[str, Any], one: Outgoing | None = None) -> Message:
    """The words of a row, with the link and the picture, if they are at hand, and the answers that it asks for."""
    return Message(
        title=row["title"],
        text=row["message"],
        priority=row["priority"],
        timestamp=row["created_at"],
        url=one.url if one else None,
        image=one.image if one else None,
        buttons=[
            Button(CHOICES[action], f"{action} {row['alert_id']}") for action in choices(row["kind"], row["state"])
        ],
    )


def _push(channel: Channel, row: Mapping[str, Any], one: Outgoing) -> _Outcome:
    try:
        sent = channel.send(_message(row, one))
    except Refused as error:
        return _Outcome("REFUSED", channel.name, str(error))
    except NotTaken as error:
        return _Outcome("UNANSWERED", channel.name, f"{NOT_TAKEN}{error}")
    except Unavailable as error:
        return _Outcome("UNANSWERED", channel.name, str(error))
    return _Outcome("SENT", channel.name, sent.detail, sent.receipt)


def _give(second: Channel, message: Message) -> _Outcome:
    """One try at the second channel. Its refusal counts like a silence: the first one may still take the message."""
    try:
        return _Outcome("SENT", second.name, second.send(message).detail)
    except (Refused, Unavailable) as error:
        return _Outcome("UNANSWERED", second.name, str(error))
