"""What the log of a market told, as arrays: each change of the book, each trade, each best quote that the venue said.

`tape_of` runs the log's records through the very machine that the recorder ran, and writes down what it made of them. A
book is rebuilt from the rows alone, by `kernel` or anything else that can count.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mm_dagster.arrays import Integers
from mm_dagster.books.follow import BookMarket, Follower
from mm_dagster.books.ladder import Ladder, Levels
from mm_dagster.books.messages import Checked, Delta, Quote, Record, Trade
from mm_dagster.books.sync import Action, Changed, Gap, Reason, Rule, open_gap
from mm_dagster.errors import ForeseenError

WENT_ON = "rotated"
"""The stream of a checkpoint before which the log lacks nothing; before any other one it may."""


class TapeError(ForeseenError):
    """The records are no log of a market; one line."""


class Op(IntEnum):
    """What a row of a tape says.

    BID, ASK: the amount of a price is this many lots, 0: none. BEGIN: the book is empty, and a whole one follows.
    FAR_BID, FAR_ASK: farther from the mid than this price a level may be missing; 0: the whole side is known. STANDS:
    what was said since the last such row is the book from now on, in sync; its lots are 1 where the venue changed it, 0
    where the log only says once more what it was. LOST: nobody knows the book.
    """

    BID = 0
    ASK = 1
    BEGIN = 2
    FAR_BID = 3
    FAR_ASK = 4
    STANDS = 5
    LOST = 6


@dataclass(frozen=True)
class Tape:
    """What a log told. Times are UTC nanoseconds and never fall; prices are ticks, amounts lots.

    Attributes:
        market: whose.
        from_ns: from when on it tells of the market.
        until_ns: until when; later nobody knows what the book was.
        rows: (n, 4): at_ns, `Op`, price, lots.
        records: (n,): when each record of the log was received.
        trades: (n, 4): at_ns, price, lots, 1 where a resting bid was hit; each trade once.
        quotes: (n, 6): at_ns, number or -1, bid, its lots, ask, its lots, as the venue says them beside the book.
        bests: (n, 5): number, bid, its lots, ask, its lots of the book in sync, 0 for those of an empty side; of
            venues that number their books.
        spans: (n, 2): from when until when the book was in sync.
        gaps: what the machine told of the times between; the last one may be open.
        turned_back: how often the clock was earlier than at the record before.
        checkpoints: how many files began where the log lacks nothing before.
        differs: how many of these say something else than a replay of what came before.
    """

    market: BookMarket
    from_ns: int
    until_ns: int
    rows: Integers
    records: Integers
    trades: Integers
    quotes: Integers
    bests: Integers
    spans: Integers
    gaps: tuple[Gap, ...]
    turned_back: int
    checkpoints: int
    differs: int

    @property
    def crossed(self) -> int:
        """How often the book was given up because its best bid was not below its best ask."""
        return sum(Reason.CROSSED in gap.reasons for gap in self.gaps)

    def compared(self) -> tuple[int, int]:
        """How many best quotes of the venue have the number of a book, and how many of these differ from it."""
        quotes, bests = _newest(self.quotes[:, 1:]), _newest(self.bests)
        _, here, there = np.intersect1d(quotes[:, 0], bests[:, 0], assume_unique=True, return_indices=True)
        return len(here), int((quotes[here] != bests[there]).any(axis=1).sum())


def tape_of(
    frames: Iterable[tuple[bool, int, str, bytes]], since_ns: int | None = None, until_ns: int | None = None
) -> Tape:
    """The tape of a log.

    Args:
        frames: the log's frames in order: whether it is a checkpoint, when it was received, its stream and payload;
            the first one is a checkpoint.
        since_ns: from when on the first book stood, where its checkpoint is one before which the log lacks nothing: the
            beginning of the quarter hour whose first file it begins. None: from its own time on.
        until_ns: until when the log tells of the market: the end of the quarter hour whose last file was followed by
            the next without a break. None: until its last frame.

    Raises:
        TapeError: there are no frames, or the first one is no checkpoint.
        CheckpointError: a checkpoint is not what was written.
        MessageError: a record is on a stream that no log has.
    """
    told: Telling | None = None
    for is_checkpoint, recv_ns, stream, payload in frames:
        if told is None:
            told = Telling(is_checkpoint, recv_ns, stream, payload, since_ns)
        else:
            told.tell(is_checkpoint, recv_ns, stream, payload)
    if told is None:
        raise TapeError("the log has no frames")
    return told.tape(until_ns)


class Rows:
    """The rows of a book, written one after another.

    Attributes:
        is_in_sync: whether there is a book at the end.
    """

    def __init__(self) -> None:
        """None yet."""
        self.is_in_sync = False
        self._rows = array("q")
        self._spans = array("q")

    def begin(self, at_ns: int, bids: Levels, asks: Levels, far: tuple[int | None, int | None]) -> None:
        """A whole book, which `stands` has to follow."""
        rows = self._rows
        rows.extend((at_ns, Op.BEGIN, 0, 0))
        for op, levels in ((Op.BID, bids), (Op.ASK, asks)):
            for price, lots in levels:
                rows.extend((at_ns, op, price, lots))
        self.reach(at_ns, far)

    def reach(self, at_ns: int, far: tuple[int | None, int | None]) -> None:
        """How far the book is known."""
        for op, price in zip((Op.FAR_BID, Op.FAR_ASK), far, strict=True):
            self._rows.extend((at_ns, op, price or 0, 0))

    def put(self, at_ns: int, op: Op, price: int, lots: int) -> None:
        """A level."""
        self._rows.extend((at_ns, op, price, lots))

    def stands(self, at_ns: int, is_change: bool) -> None:
        """It is the book from now on."""
        self._rows.extend((at_ns, Op.STANDS, 0, is_change))
        if not self.is_in_sync:
            self._spans.append(at_ns)
            self.is_in_sync = True

    def lose(self, at_ns: int) -> None:
        """There is no book."""
        if self.is_in_sync:
            self._rows.extend((at_ns, Op.LOST, 0, 0))
            self._spans.append(at_ns)
            self.is_in_sync = False

    def written(self, until_ns: int) -> tuple[Integers, Integers]:
        """All rows, and the spans in sync, the last of which ends then at the latest."""
        spans = [*self._spans, until_ns] if self.is_in_sync else [*self._spans]
        return columns(self._rows, 4), columns(array("q", spans), 2)


def columns(flat: array[int], count: int) -> Integers:
    """Rows that were written one after another, of shape (n, count)."""
    return np.array(flat, dtype=np.int64).reshape(-1, count)


class Telling:
    """A tape that is being written, frame by frame; see `tape_of`."""

    def __init__(self, is_checkpoint: bool, recv_ns: int, stream: str, payload: bytes, since_ns: int | None) -> None:
        """Begins with the first frame.

        Raises:
            TapeError: it is no checkpoint.
            CheckpointError: it is not what was written.
        """
        if not is_checkpoint:
            raise TapeError("the log begins with no checkpoint: nobody knows its book")
        since_ns = since_ns if stream == WENT_ON else None
        self._follow(Follower.again(payload))
        self._from_ns = recv_ns if since_ns is None else min(since_ns, recv_ns)
        self._now = recv_ns
        self._rows = Rows()
        self._records, self._trades, self._quotes, self._bests = (array("q") for _ in range(4))
        self._gaps: list[Gap] = []
        self._book: Ladder | None = None
        """What the rows say, to be known by being the same object: a machine changes it in place."""
        self._known: tuple[set[int], set[int]] = (set(), set())
        """The prices in the rows, of a venue that does not say which levels fell out at the end."""
        self._far: tuple[int | None, int | None] = (None, None)
        self._turned_back = self._checkpoints = self._differs = 0
        # One before: what stood at the beginning of a span stood before it.
        self._begin(self._from_ns - 1 if since_ns is not None else self._now, is_change=False)

    def _follow(self, follower: Follower) -> None:
        self._follower = follower
        follower.trade = self._trade

    def tell(self, is_checkpoint: bool, recv_ns: int, stream: str, payload: bytes) -> None:
        """The next frame.

        Raises:
            CheckpointError: it is a checkpoint, and not what was written.
            MessageError: it is on a stream that no log has.
        """
        (self._check if is_checkpoint else self._take)(recv_ns, stream, payload)

    def _check(self, recv_ns: int, stream: str, payload: bytes) -> None:
        """A checkpoint after others: the book goes on, or begins anew."""
        went_on = stream == WENT_ON
        self._checkpoints += went_on
        before, self._now = self._now, max(self._now, recv_ns)
        if went_on and payload == self._follower.kept():
            return
        self._differs += went_on
        fresh = Follower.again(payload)
        gap = open_gap(self._follower.state, before)
        if gap is not None and fresh.state.lost_ns != gap.from_ns:
            self._gaps.append(gap)
        self._rows.lose(before)
        self._follow(fresh)
        # Who begins with this checkpoint has its book from the beginning of its quarter hour on.
        self._begin(before if went_on else self._now, is_change=False)

    def _take(self, recv_ns: int, stream: str, payload: bytes) -> None:
        """A record."""
        self._turned_back += recv_ns < self._now
        self._now = max(self._now, recv_ns)
        self._records.append(self._now)
        for record in self._follower.records(stream, payload):
            self._see(record, self._follower.step(record, recv_ns))

    def tape(self, until_ns: int | None) -> Tape:
        """What was written so far; it may go on afterwards."""
        until_ns = self._now if until_ns is None else max(until_ns, self._now)
        gap = open_gap(self._follower.state, until_ns)
        rows, spans = self._rows.written(until_ns)
        return Tape(
            self._follower.market,
            self._from_ns,
            until_ns,
            rows,
            columns(self._records, 1)[:, 0],
            columns(self._trades, 4),
            columns(self._quotes, 6),
            columns(self._bests, 5),
            np.maximum(spans, self._from_ns),
            (*self._gaps, *([] if gap is None else [gap])),
            self._turned_back,
            self._checkpoints,
            self._differs,
        )

    def _trade(self, trade: Trade, _: int) -> None:
        self._trades.extend((self._now, trade.price, trade.lots, trade.seller_aggressed))

    def _see(self, record: Record, actions: tuple[Action, ...]) -> None:
        """Writes down what the machine made of a record."""
        state = self._follower.state
        if isinstance(record, Quote) and state.connections:
            number = -1 if record.update_id is None else record.update_id
            self._quotes.extend((self._now, number, record.bid, record.bid_lots, record.ask, record.ask_lots))
        has_changed = False
        for action in actions:
            if isinstance(action, Gap):
                self._gaps.append(action)
            has_changed |= isinstance(action, Changed)
        if not state.is_in_sync:
            self._rows.lose(self._now)
            self._book = None
        elif state.book is not self._book:
            self._begin(self._now, is_change=True)
        elif has_changed and isinstance(record, Delta | Checked):
            self._change(record)

    def _begin(self, at_ns: int, is_change: bool) -> None:
        """Writes the whole book, where there is one."""
        state = self._follower.state
        self._book = state.book if state.is_in_sync else None
        if self._book is None:
            return
        bids, asks = self._book.bids, self._book.asks
        if state.rule is Rule.KRAKEN:
            self._known = set(bids.lots), set(asks.lots)
        self._far = (bids.worst, asks.worst) if state.rule is Rule.KRAKEN else state.reach
        self._rows.begin(at_ns, bids.top(), asks.top(), self._far)
        self._stand(at_ns, is_change)

    def _change(self, record: Delta | Checked) -> None:
        """Writes what a message changed: whatever it said, the amounts of its prices are the book's."""
        book, put, now = self._follower.state.book, self._rows.put, self._now
        for op, levels, side in ((Op.BID, record.bids, book.bids), (Op.ASK, record.asks, book.asks)):
            lots_of = side.lots.get
            for price, _ in levels:
                if price:
                    put(now, op, price, lots_of(price, 0))
        if self._follower.state.rule is Rule.KRAKEN:
            self._fall_out(record, book)
        self._stand(now, is_change=True)

    def _fall_out(self, record: Delta | Checked, book: Ladder) -> None:
        """Writes what a venue lets fall out at the end of a side; farther than its worst level nothing is known."""
        for op, known, levels, side in zip(
            (Op.BID, Op.ASK), self._known, (record.bids, record.asks), (book.bids, book.asks), strict=True
        ):
            known.update(price for price, _ in levels)
            if len(known) != len(side):
                gone = known - side.lots.keys()
                known -= gone
                for price in sorted(gone):
                    self._rows.put(self._now, op, price, 0)
        far = book.bids.worst, book.asks.worst
        if far != self._far:
            self._far = far
            self._rows.reach(self._now, far)

    def _stand(self, at_ns: int, is_change: bool) -> None:
        self._rows.stands(at_ns, is_change)
        state = self._follower.state
        if state.last_id is not None:
            bid, ask = state.book.bids.best or (0, 0), state.book.asks.best or (0, 0)
            self._bests.extend((state.last_id, *bid, *ask))


def _newest(numbered: Integers) -> Integers:
    """Of rows with a number first, the last one of each number of at least 0."""
    numbered = numbered[numbered[:, 0] >= 0][::-1]
    return numbered[np.unique(numbered[:, 0], return_index=True)[1]]
