"""A segment replayed by the machine that the recorder runs: what lacks, and whether the replay is what was live."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mm_dagster.books.follow import Follower
from mm_dagster.books.messages import Trade
from mm_dagster.books.sync import Changed, Gap, open_gap
from mm_dagster.recorder.frames import Frame, Kind
from mm_dagster.recorder.seal import Part


@dataclass
class Replayed:
    """What came of a replay.

    Attributes:
        messages: records that were replayed.
        changes: books that were in sync after a change.
        trades: that were told of.
        gaps: of the book, that ended within.
        open: the gap that had not ended; None: the book was in sync at the end.
        began: why its first file was begun, as the log says it; None: there was no checkpoint.
        first_state: SHA-256 of the state that it began from.
        last_state: of the state that it ended in.
        checkpoints: states within that it could be held to.
        differing: of these that it did not give.
        crossed: books in sync that were crossed.
        quotes: best prices of the exchange at the number of a book in sync.
        agreeing: of these that were the book's.
        digest: of the book at the end; None: it was not in sync.
        lost_ns: since when the state that it began from was not in sync; None: it was, or there is none.
    """

    messages: int = 0
    changes: int = 0
    trades: int = 0
    gaps: list[Gap] = field(default_factory=list)
    open: Gap | None = None
    began: str | None = None
    first_state: str | None = None
    last_state: str | None = None
    checkpoints: int = 0
    differing: int = 0
    crossed: int = 0
    quotes: int = 0
    agreeing: int = 0
    digest: str | None = None
    lost_ns: int | None = None


class Replay:
    """A replay under way.

    Attributes:
        found: what has come of it.
        follower: the book; None: no checkpoint was read yet.
    """

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        """Of the frames of these files; a state is held to the one that follows where a file ended as it should."""
        self.found = Replayed()
        self.follower: Follower | None = None
        self._parts = [part for part in parts if part.frames]
        self._files = 0
        self._last_ns = 0

    def take(self, frame: Frame) -> None:
        """The next frame.

        Raises:
            CheckpointError: a state was not kept as it was written.
            MessageError: a record is of no stream that a log has.
        """
        if frame.kind is Kind.CHECKPOINT:
            self._begin(frame)
        elif frame.kind is Kind.RECORD:
            self._record(frame)
        self._last_ns = max(self._last_ns, frame.recv_ns)

    def end(self) -> Replayed:
        """What came of all of it."""
        found = self.found
        if self.follower is not None:
            state = self.follower.state
            found.last_state = _sha256(self.follower.kept())
            found.open = open_gap(state, self._last_ns)
            found.digest = state.book.digest() if state.is_in_sync else None
        return found

    def _begin(self, frame: Frame) -> None:
        found, before = self.found, self.follower
        self._files += 1
        self.follower = Follower.again(frame.payload)
        self.follower.trade = self._trade
        open_now = open_gap(self.follower.state, frame.recv_ns)
        if before is None:
            found.began, found.first_state = frame.stream.upper(), _sha256(frame.payload)
            found.lost_ns = open_now.from_ns if open_now else None
            return
        if frame.stream == "rotated" and self._ended_well():
            found.checkpoints += 1
            found.differing += before.kept() != frame.payload
        gap = open_gap(before.state, self._last_ns)
        if gap is not None and (open_now is None or open_now.from_ns != gap.from_ns):
            # What ended it nobody recorded.
            found.gaps.append(gap)

    def _ended_well(self) -> bool:
        """Whether the file before has all that was written; of files that nobody tells of it is taken for granted."""
        before = self._files - 2
        return before >= len(self._parts) or self._parts[before].reason == "CLOSED"

    def _trade(self, trade: Trade, at_ns: int) -> None:
        self.found.trades += 1

    def _record(self, frame: Frame) -> None:
        found, follower = self.found, self.follower
        if follower is None:
            return  # what the book was nobody knows
        found.messages += 1
        before = follower.state.quote, follower.state.last_id
        for action in follower.take(frame.stream, frame.payload, frame.recv_ns):
            if isinstance(action, Gap):
                found.gaps.append(action)
            elif isinstance(action, Changed):
                found.changes += action.is_trusted
        state = follower.state
        if not state.is_in_sync:
            return
        found.crossed += state.book.is_crossed
        quote = state.quote
        if quote is None or quote.update_id is None or quote.update_id != state.last_id:
            return
        if (quote, state.last_id) != before:
            bid, ask = state.book.bids.best, state.book.asks.best
            found.quotes += 1
            found.agreeing += bid is not None and ask is not None and (quote.bid, quote.ask) == (bid[0], ask[0])


def replayed(frames: Iterable[Frame], parts: Sequence[Part] = ()) -> Replayed:
    """What comes of replaying frames; see `Replay`.

    Raises:
        CheckpointError: a state was not kept as it was written.
        MessageError: a record is of no stream that a log has.
    """
    replay = Replay(parts)
    for frame in frames:
        replay.take(frame)
    return replay.end()


def _sha256(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()
