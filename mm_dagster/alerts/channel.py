"""A way to the operator: what every channel takes and says, and the errors that the ledger tells apart.

Everything that the ledger promises hangs on three of them: what was refused, what was surely not taken, and what may
have been.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from mm_dagster.alerts.alert import PLAIN
from mm_dagster.errors import ForeseenError

T = TypeVar("T")


class Refused(ForeseenError):
    """The channel said no, and would again: the message must not be sent there again as it is."""


class UnknownReceipt(Refused):
    """It does not know the receipt, or no longer."""


class Unavailable(ForeseenError):
    """No usable answer. The message may or may not have been taken."""


class NotTaken(Unavailable):
    """No usable answer, but the message was surely not taken."""


class Unreachable(NotTaken):
    """No connection could be established."""


class Down(NotTaken):
    """It takes nothing for now, or what stands before it lets nothing through."""


class Elsewhere(NotTaken):
    """It sends to another address. No secret is taken there."""


@dataclass(frozen=True)
class Button:
    """An answer that can be given by a tap.

    Attributes:
        label: what stands on it.
        data: what comes back, at most 64 bytes.
    """

    label: str
    data: str


@dataclass(frozen=True)
class Message:
    """What is sent. Each channel shows what it can of it.

    Attributes:
        title: plain text, at most 250 characters.
        text: plain text, at most 300 characters, not empty.
        priority: -2 to 2; 2 rings, where a channel can ring, until it is acknowledged, cancelled or expired.
        timestamp: the time that it shows, UTC; None: that of sending.
        url: where to read on, at most 512 characters.
        image: a PNG.
        buttons: the answers that can be given.
    """

    title: str
    text: str
    priority: int = PLAIN
    timestamp: datetime | None = None
    url: str | None = None
    image: bytes | None = None
    buttons: Sequence[Button] = ()


@dataclass(frozen=True)
class Sent:
    """What a channel said to a message that it took.

    Attributes:
        receipt: names an emergency that rings, to follow or cancel it; None: nothing rings.
        detail: who took it and who did not, in a sentence; None: there is nothing to say.
    """

    receipt: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Receipt:
    """What has become of an emergency.

    Attributes:
        acknowledged: whether somebody did.
        acknowledged_at: when, UTC; None: it does not say.
        device: on which device; None: it does not say.
        expired: whether it rings no more, unacknowledged.
        expires_at: when it stops or stopped to ring, UTC; None: it does not say.
    """

    acknowledged: bool
    acknowledged_at: datetime | None
    device: str | None
    expired: bool
    expires_at: datetime | None


class Channel(Protocol):
    """A way to the operator. One that cannot ring gives no receipts, and is never asked about any."""

    name: str

    def send(self, message: Message) -> Sent:
        """Sends a message.

        Raises:
            Refused: see there.
            NotTaken: likewise.
            Unavailable: likewise.
        """

    def cancel(self, receipt: str) -> None:
        """Stops an emergency from ringing, or raises Refused or Unavailable."""
        raise UnknownReceipt(f"{self.name} gives no receipts")

    def receipt(self, receipt: str) -> Receipt:
        """What became of an emergency, or raises UnknownReceipt, Refused or Unavailable."""
        raise UnknownReceipt(f"{self.name} gives no receipts")


class Together(Channel):
    """Several channels in the place of one: all are given each message at once, and it is enough that one takes it."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        """
        Args:
            channels: at least one.
        """
        self._channels = tuple(channels)
        self.name = " and ".join(one.name for one in channels)

    def send(self, message: Message) -> Sent:
        """Sends a message by all of them.

        Raises:
            Refused: all of them refused it.
            Unavailable: none took it.
        """
        threads = [(one, InThread(lambda one=one: one.send(message))) for one in self._channels]  # type: ignore[misc]
        said, errors = [], []
        for one, thread in threads:
            try:
                sent = thread.result()
            except (Refused, Unavailable) as error:
                errors.append(error)
                said.append(f"{one.name} did not take it: {error}")
            else:
                said.append(sent.detail or f"{one.name} took it")
        if len(errors) < len(self._channels):
            return Sent(detail="; ".join(said))
        kind = Refused if all(isinstance(error, Refused) for error in errors) else Unavailable
        raise kind("; ".join(said))


class InThread(Generic[T]):
    """Work in a thread of its own. It ends with the process, so a crash never waits for it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._found.append(work())
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        """What came of it, or raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found[0]
