"""One market of the recorder: its log, the machine beside it, and what is said of both."""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mm_dagster.books.follow import BookMarket, Follower, Stream
from mm_dagster.books.sync import AskSnapshot, Changed, Gap, Resubscribe, Rule
from mm_dagster.errors import ForeseenError
from mm_dagster.recorder.log import SECOND_NS, Log
from mm_dagster.recorder.places import Place
from mm_dagster.recorder.status import MarketStatus, write_book

logger = logging.getLogger("mm_dagster.recorder")

Wish = AskSnapshot | Resubscribe
"""What a machine wants of the venue."""
OPEN_AGAIN_SECONDS = 5.0
"""Between two tries to open a log that could not be."""
LONGEST_REST_SECONDS = 60.0
"""That a machine rests which failed time and again."""
CALM_SECONDS = 600.0
"""After so long without a failure the next one counts as the first."""
RATE_SECONDS = 10
"""Over which messages a second are told."""


@dataclass(frozen=True)
class Kit:
    """What the markets of a recorder share.

    Attributes:
        clock: nanoseconds since 1970, UTC.
        beside: a thread that brings what was written to the disk; None: nobody waits for less.
        reserve_bytes: where less is free on the disk, nothing is written.
        free_bytes: how much is free; None: the disk is asked.
    """

    clock: Callable[[], int]
    beside: Executor | None = None
    reserve_bytes: int = 0
    free_bytes: Callable[[Path], int] | None = None


class Recorded:
    """Keeps what is received of a market, and feeds its machine. Nothing that it meets is an exception outside.

    Attributes:
        market: whose.
        place: where its files are.
        follower: the machine.
        connections: the open ones, the oldest first.
        gaps: that have ended.
        wishes: what is called with what the machine wants of the venue.
    """

    def __init__(self, market: BookMarket, place: Place, kit: Kit, event_ms: Callable[[bytes], int | None]) -> None:
        """Begins a market.

        Args:
            market: whose.
            place: where its files are.
            kit: what all share.
            event_ms: the venue's time in a message, milliseconds since 1970, UTC; None: it says none.
        """
        self.market = market
        self.place = place
        self.connections: list[int] = []
        self.gaps = 0
        self.wishes: Callable[[Wish], None] = lambda wish: None
        self._kit = kit
        self._event_ms = event_ms
        self._connects = 0
        self._written = self._lost = 0
        self._last_ns: int | None = None
        self._offsets: deque[tuple[int, float]] = deque(maxlen=60)
        self._counts: deque[tuple[float, int]] = deque(maxlen=RATE_SECONDS + 1)
        self._failures = 0
        self._failed_at = float("-inf")
        self._rests_until: float | None = None
        self._said: str | None = None
        self.follower = Follower.begin(market, kit.clock())
        self._log: Log | None = None
        self._tried_at = float("-inf")
        self._open()

    # what comes in ----------------------------------------------------------------------------------------------------

    def connected(self, number: int, said: str, at_ns: int) -> None:
        """A connection was opened and what the market needs subscribed."""
        self.connections.append(number)
        self._connects += 1
        self._hear(Stream.CONNECTED.named(number), said.encode(), at_ns)

    def disconnected(self, number: int, said: str, at_ns: int) -> None:
        """A connection ended."""
        self.connections.remove(number)
        self._hear(Stream.DISCONNECTED.named(number), said.encode(), at_ns)

    def pushed(self, stream: str, payload: bytes, at_ns: int) -> None:
        """A message of the socket."""
        if not self._offsets or not 0 <= at_ns - self._offsets[-1][0] < SECOND_NS:
            event_ms = self._event_ms(payload)
            if event_ms is not None:
                self._offsets.append((at_ns, event_ms - at_ns / 1e6))
        self._hear(stream, payload, at_ns)

    def answered(self, number: int, payload: bytes, at_ns: int) -> None:
        """The answer to a request for the book."""
        self._hear(Stream.ANSWER.named(number), payload, at_ns)

    def failed(self, number: int, said: str, at_ns: int) -> None:
        """A request for the book that brought none."""
        self._hear(Stream.FAILED.named(number), said.encode(), at_ns)

    def _hear(self, stream: str, payload: bytes, at_ns: int) -> None:
        # Kept before it is applied: the file that it may begin has the book before it.
        self._keep(stream, payload, at_ns)
        self._last_ns = at_ns
        if self._rests_until is not None:
            return
        try:
            actions = self.follower.take(stream, payload, at_ns)
        except Exception as error:
            self._fail(error)
            return
        for action in actions:
            if isinstance(action, Changed):
                continue
            if isinstance(action, Gap):
                self.gaps += 1
            else:
                self.wishes(action)

    def _keep(self, stream: str, payload: bytes, at_ns: int) -> None:
        if self._log is None:
            self._lost += 1
            return
        try:
            self._log.append(stream, payload, at_ns)
        except Exception as error:
            self._lost += 1
            self._give_up(error)

    # failures of our own ----------------------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        """The machine rests, and begins anew later; what comes meanwhile is kept."""
        now = time.monotonic()
        self._failures = 1 if now - self._failed_at > CALM_SECONDS else self._failures + 1
        self._failed_at = now
        rest = min(LONGEST_REST_SECONDS, 2.0 ** (self._failures - 1))
        self._rests_until = now + rest
        # What it says of the book from here on is that nobody knows it.
        self.follower = self._fresh(self.market)
        self._said = (
            f"its book failed by an error of the program, {type(error).__name__}, and begins anew in {rest:.0f} s; "
            "messages are kept"
        )
        logger.error("%s %s: %s", self.market.exchange, self.market.symbol, self._said, exc_info=error)

    def _give_up(self, error: Exception) -> None:
        """The log cannot be written at all; another one is opened later."""
        self._said = str(error) if isinstance(error, ForeseenError) else f"its log failed: {type(error).__name__}"
        logger.error("%s %s: %s", self.market.exchange, self.market.symbol, self._said, exc_info=error)
        self._close()

    def begin_again(self, market: BookMarket | None = None) -> None:
        """Goes on with a machine that has heard nothing yet, in a new file of the log.

        Args:
            market: with another scale; None: as it is.
        """
        self._close()
        self.market = market or self.market
        self.follower = self._fresh(self.market)
        self._rests_until = self._said = None
        self._open()
        for number in self.connections:
            self._hear(Stream.CONNECTED.named(number), b"the book begins anew", self._kit.clock())
        if self.market.rule is Rule.KRAKEN and self.connections:
            self.wishes(Resubscribe(self.market.name))

    def _fresh(self, market: BookMarket) -> Follower:
        """A machine that has heard nothing yet; its gap begins where the book was last known to be good."""
        state = self.follower.state
        return Follower.begin(market, state.lost_ns if state.lost else state.good_ns)

    # the log ----------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._tried_at = time.monotonic()
        kit = self._kit
        try:
            self._log = Log(
                self.place.log,
                lambda: self.follower.kept(),
                kit.clock,
                reserve_bytes=kit.reserve_bytes,
                free_bytes=kit.free_bytes,
                beside=kit.beside,
                has_status=False,
            )
            self._said = None
        except Exception as error:
            self._give_up(error)

    def _close(self) -> None:
        log, self._log = self._log, None
        if log is None:
            return
        self._written += log.written
        self._lost += log.lost
        with suppress(Exception):
            log.close()

    def close(self) -> None:
        """Ends the log with its count."""
        self._close()

    # some times a second ----------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """What is due without a message."""
        now = time.monotonic()
        if self._rests_until is not None and now >= self._rests_until:
            self.begin_again()
        elif self._log is None and now - self._tried_at >= OPEN_AGAIN_SECONDS:
            self._open()
        if self._log is not None:
            try:
                self._log.beat()
            except Exception as error:
                self._give_up(error)

    def say(self) -> None:
        """Writes the best levels; that they cannot be written stops nothing."""
        with suppress(OSError):
            write_book(self.place.book, self.market, self.follower.state, self._kit.clock())

    @property
    def problem(self) -> str | None:
        """What somebody should see to, one line; None: nothing."""
        return self._said or (self._log.problem if self._log is not None else None)

    @property
    def is_settled(self) -> bool:
        """Whether the book is in sync, and nothing was asked for."""
        state = self.follower.state
        return state.is_in_sync and not state.is_asked

    def status(self, trouble: str | None = None) -> MarketStatus:
        """How it stands.

        Args:
            trouble: why it has no connection, where it has none.
        """
        state, log = self.follower.state, self._log
        written = self._written + (log.written if log else 0)
        now, now_ns = time.monotonic(), self._kit.clock()
        self._counts.append((now, written))
        (since, before), *_ = self._counts
        recent = [offset for at_ns, offset in self._offsets if abs(now_ns - at_ns) <= 60 * SECOND_NS]
        file = log.status()["file"] if log else None
        size = 0
        if file is not None:
            with suppress(OSError):
                size = (self.place.log / file).stat().st_size
        return MarketStatus(
            exchange=self.market.exchange,
            symbol=self.market.symbol,
            phase=state.phase.value,
            reasons=tuple(reason.value for reason in state.lost),
            last_recv_ns=self._last_ns,
            written=written,
            lost=self._lost + (log.lost if log else 0),
            per_second=round((written - before) / (now - since), 3) if now > since else 0.0,
            gaps=self.gaps,
            reconnects=max(0, self._connects - 1),
            problem=self.problem or trouble,
            clock_offset_ms=round(statistics.median(recent), 3) if recent else None,
            file=file,
            file_bytes=size,
        )
