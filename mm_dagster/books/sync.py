"""When a book is the venue's, and when it is not: one machine a market, after each venue's own rule.

A machine takes records in the order in which they were received and answers with actions. Answers to requests,
connects and disconnects are records too, and it has no clock of its own: the same records give the same book again.
Between two books that are in sync there is one `Gap`, whatever happened in it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from enum import StrEnum

from mm_dagster.books.ladder import Ladder, Levels, Side
from mm_dagster.books.messages import (
    Checked,
    Connected,
    Delta,
    Disconnected,
    Quote,
    Record,
    Snapshot,
    SnapshotFailed,
    Trade,
    Unreadable,
)

MOST_BUFFERED = 10_000
"""Messages that wait for a snapshot; with more of them nobody answers, and they are let go."""
CHECKED_LEVELS = 10
"""Of each side that Kraken's checksum covers; what lies deeper it does not vouch for."""
MISMATCHES = 3
"""Wrong checksums in `MISMATCH_NS`, with the ticker's prices all the same, after which the checksum is not believed."""
MISMATCH_NS = 600 * 10**9


class Rule(StrEnum):
    """Whose rule a machine follows."""

    KUCOIN = "KUCOIN"
    BINANCE = "BINANCE"
    BINANCE_USDM = "BINANCE_USDM"
    KRAKEN = "KRAKEN"


class Phase(StrEnum):
    """How far a machine is.

    DISCONNECTED: nothing comes. BUFFERING: changes wait for a snapshot. BRIDGING: there is a snapshot, but no change
    yet that follows it. IN_SYNC: the book is the venue's at its `last_id`. UNTRUSTED: the checksum and the book say
    different things, and the venue's best prices take the book's part.
    """

    DISCONNECTED = "DISCONNECTED"
    BUFFERING = "BUFFERING"
    BRIDGING = "BRIDGING"
    IN_SYNC = "IN_SYNC"
    UNTRUSTED = "UNTRUSTED"


class Reason(StrEnum):
    """Why a book was not in sync."""

    START = "START"
    DISCONNECTED = "DISCONNECTED"
    RECONNECTED = "RECONNECTED"
    MISSED = "MISSED"
    STALE_SNAPSHOT = "STALE_SNAPSHOT"
    SNAPSHOT_FAILED = "SNAPSHOT_FAILED"
    UNREADABLE = "UNREADABLE"
    CHECKSUM = "CHECKSUM"
    CROSSED = "CROSSED"
    OVERFLOW = "OVERFLOW"
    OUT_OF_REACH = "OUT_OF_REACH"
    DISAGREED = "DISAGREED"
    UNTRUSTED = "UNTRUSTED"


@dataclass(frozen=True, slots=True)
class AskSnapshot:
    """A request for the whole book is due. How long to wait before one more is the asker's matter."""

    symbol: str


@dataclass(frozen=True, slots=True)
class Resubscribe:
    """The subscription is to be ended and begun again: its first message is the whole book."""

    symbol: str


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which the book was not the venue's, or nobody knows whether it was.

    Attributes:
        symbol: the venue's name of the market.
        reasons: each once, in the order in which they came; the first one began it.
        from_ns: when the book was last known to be good, UTC nanoseconds; of the first gap, when the machine began.
        to_ns: when it was good again; of one that is still open, when it was asked.
        from_id: the book's number then; None: it had none.
        to_id: its number at the end; None: it had none, or the gap is open.
    """

    symbol: str
    reasons: tuple[Reason, ...]
    from_ns: int
    to_ns: int
    from_id: int | None
    to_id: int | None


@dataclass(frozen=True, slots=True)
class Changed:
    """The book is another one now.

    Attributes:
        symbol: the venue's name of the market.
        last_id: its number; None: the venue gives none.
        is_trusted: it is in sync.
    """

    symbol: str
    last_id: int | None
    is_trusted: bool = True


Action = AskSnapshot | Resubscribe | Gap | Changed


@dataclass(slots=True)
class State:
    """What a machine knows. `step` uses one up, and may change it in place; `copied` keeps one.

    Attributes:
        rule: whose rule.
        symbol: the venue's name of the market.
        depth: levels of a side that the venue was asked for. Kraken never says that one fell out at the end; a snapshot
            of others that has as many may not be the whole book.
        phase: how far it is.
        last_id: the book's number; None: it has none.
        connections: the open ones.
        buffer: what waits for a snapshot; in sync, what came since one more was asked for.
        is_asked: a request for a snapshot has no answer yet.
        good_ns: when the book was last known to be good, UTC nanoseconds.
        lost: why it is not in sync; empty: it is.
        lost_ns: from when on, UTC nanoseconds.
        lost_id: the book's number then.
        mismatches: when checksums were wrong and whether the ticker agreed with the book, the last `MISMATCH_NS`.
        quote: the venue's best prices, the newest.
        reach: price of the last bid and the last ask of a snapshot that was cut, in ticks: farther out a level may be
            missing. None: the whole side is known.
        book: the book, meaningful where the phase is IN_SYNC or UNTRUSTED.
    """

    rule: Rule
    symbol: str
    depth: int
    phase: Phase
    last_id: int | None
    connections: frozenset[int]
    buffer: tuple[Delta, ...]
    is_asked: bool
    good_ns: int
    lost: tuple[Reason, ...]
    lost_ns: int
    lost_id: int | None
    mismatches: tuple[tuple[int, bool], ...]
    quote: Quote | None
    reach: tuple[int | None, int | None]
    book: Ladder = field(compare=False)

    @property
    def is_in_sync(self) -> bool:
        """Whether the book is the venue's; of Kraken's, the ten best levels of each side are vouched for."""
        return self.phase is Phase.IN_SYNC


Step = tuple[State, tuple[Action, ...]]


def begin(rule: Rule, symbol: str, at_ns: int, depth: int) -> State:
    """A machine that has heard nothing yet.

    Args:
        rule: whose rule.
        symbol: the venue's name of the market.
        at_ns: when it begins, UTC nanoseconds.
        depth: levels of a side that the venue is asked for; of Kraken's as many are kept, of others' all.
    """
    return State(
        rule,
        symbol,
        depth,
        Phase.DISCONNECTED,
        last_id=None,
        connections=frozenset(),
        buffer=(),
        is_asked=False,
        good_ns=at_ns,
        lost=(Reason.START,),
        lost_ns=at_ns,
        lost_id=None,
        mismatches=(),
        quote=None,
        reach=(None, None),
        book=Ladder(),
    )


def copied(state: State) -> State:
    """A state that outlives the next step."""
    return replace(state, book=state.book.copy())


def open_gap(state: State, at_ns: int) -> Gap | None:
    """The gap that has not ended yet, up to now; None: the book is in sync."""
    if not state.lost:
        return None
    return Gap(state.symbol, state.lost, state.lost_ns, max(at_ns, state.lost_ns), state.lost_id, None)


def step(state: State, record: Record, at_ns: int) -> Step:
    """What a machine makes of a record.

    Args:
        state: it is used up; `copied` keeps one.
        record: of this market, or of its connection; one of another market changes nothing.
        at_ns: when it was received, UTC nanoseconds.

    Returns:
        The next state, and what follows in the order in which it is to be done.
    """
    if isinstance(record, Connected):
        return _connected(state, record)
    if isinstance(record, Disconnected):
        return _disconnected(state, record)
    if state.phase is Phase.DISCONNECTED or isinstance(record, Trade):
        return state, ()
    if isinstance(record, Unreadable):
        return _unreadable(state)
    if isinstance(record, SnapshotFailed):
        return _failed(state)
    if record.symbol != state.symbol:
        return state, ()
    if isinstance(record, Quote):
        state.quote = record
        return state, ()
    if isinstance(record, Checked):
        return _checked(state, record, at_ns) if state.rule is Rule.KRAKEN else (state, ())
    if state.rule is Rule.KRAKEN:
        return state, ()
    if isinstance(record, Snapshot):
        return _snapshot(state, record, at_ns)
    return _numbered(state, (record,), at_ns)


def _lose(state: State, reason: Reason, phase: Phase = Phase.BUFFERING, buffer: tuple[Delta, ...] = ()) -> State:
    """The book is not known any more, and `buffer` is what came since."""
    state = _because(state, reason)
    return replace(state, phase=phase, buffer=buffer, is_asked=False, last_id=None, reach=(None, None), book=Ladder())


def _because(state: State, reason: Reason) -> State:
    if not state.lost:
        return replace(state, lost=(reason,), lost_ns=state.good_ns, lost_id=state.last_id)
    return state if reason in state.lost else replace(state, lost=(*state.lost, reason))


def _good(state: State, at_ns: int) -> Step:
    """The book was changed and is in sync: the end of a gap, if there was one."""
    done: tuple[Action, ...] = (Changed(state.symbol, state.last_id),)
    if state.lost:
        to_ns = max(at_ns, state.lost_ns)
        done = (Gap(state.symbol, state.lost, state.lost_ns, to_ns, state.lost_id, state.last_id), *done)
    # In place, as all that is done with every message: a copy would cost more than the change.
    state.phase = Phase.IN_SYNC
    state.good_ns = max(at_ns, state.good_ns)
    state.lost = ()
    return state, done


def _connected(state: State, record: Connected) -> Step:
    connections = state.connections | {record.connection}
    # Binance ends each connection after 24 hours: with the next one open before, numbers tell what was there already.
    # Kraken numbers nothing: its new subscription begins with a book of its own.
    if state.connections and state.rule is not Rule.KRAKEN:
        return replace(state, connections=connections), ()
    if state.connections:
        state = _lose(state, Reason.RECONNECTED)
    return replace(state, phase=Phase.BUFFERING, connections=connections, quote=None), ()


def _disconnected(state: State, record: Disconnected) -> Step:
    if record.connection not in state.connections:
        return state, ()
    state = replace(state, connections=state.connections - {record.connection})
    if state.connections:
        return state, ()
    return _lose(state, Reason.DISCONNECTED, Phase.DISCONNECTED), ()


def _unreadable(state: State) -> Step:
    if state.rule is Rule.KRAKEN:
        return _lose(state, Reason.UNREADABLE), (Resubscribe(state.symbol),)
    # Before there is a book, the numbers tell later whether it mattered.
    return (_lose(state, Reason.UNREADABLE) if state.is_in_sync else _because(state, Reason.UNREADABLE)), ()


def _failed(state: State) -> Step:
    if state.is_in_sync and state.is_asked:
        return state, (AskSnapshot(state.symbol),)
    if state.phase is not Phase.BUFFERING:
        return state, ()
    if state.rule is Rule.KRAKEN:
        return _because(state, Reason.SNAPSHOT_FAILED), (Resubscribe(state.symbol),)
    if not state.is_asked:
        return state, ()
    return _because(state, Reason.SNAPSHOT_FAILED), (AskSnapshot(state.symbol),)


def _snapshot(state: State, snapshot: Snapshot, at_ns: int) -> Step:
    if state.is_in_sync and state.is_asked:
        return _renewed(state, snapshot)
    # An answer to a question of before may come late, and one nobody asked for be of use: the numbers tell.
    if state.phase is not Phase.BUFFERING:
        return state, ()
    return _numbered(_under(state, snapshot), state.buffer, at_ns)


def _under(state: State, snapshot: Snapshot) -> State:
    """A state whose book is a snapshot, before the first change."""
    # Each is the price of the farthest level, where there may be one behind it.
    reach = tuple(levels[-1][0] if len(levels) >= state.depth else None for levels in (snapshot.bids, snapshot.asks))
    return replace(
        state,
        phase=Phase.BRIDGING,
        last_id=snapshot.last_id,
        buffer=(),
        is_asked=False,
        reach=(reach[0], reach[1]),
        book=Ladder(snapshot.bids, snapshot.asks),
    )


def _is_soon_out_of_reach(state: State) -> bool:
    """Whether so few levels of a snapshot that was cut are left that the price may leave it: one more is due."""
    sides = zip((state.book.bids, state.book.asks), state.reach, strict=True)
    return any(far is not None and side.within(far) < state.depth // 2 for side, far in sides)


def _renewed(state: State, snapshot: Snapshot) -> Step:
    """Puts a newer snapshot, and what came since it was asked for, in the place of a book that is in sync."""
    fresh = _under(state, snapshot)
    for delta in state.buffer:
        follows = _follows(fresh, delta)
        if follows is False:
            return state, (AskSnapshot(state.symbol),)
        if follows:
            fresh = _applied(replace(fresh, phase=Phase.IN_SYNC), delta)
            if fresh.last_id is None:
                return state, (AskSnapshot(state.symbol),)
    if fresh.last_id != state.last_id:
        # It is ahead of the changes that came, or was before them all.
        return state, (AskSnapshot(state.symbol),)
    if not _is_same(state, fresh):
        return _lose(state, Reason.DISAGREED), ()
    state = replace(state, buffer=(), is_asked=False, reach=fresh.reach, book=fresh.book)
    return state, (Changed(state.symbol, state.last_id),)


def _is_same(one: State, other: State) -> bool:
    """Whether two books of the same number agree as far as both snapshots reach."""
    for mine, its, far, its_far, sign in (
        (one.book.bids, other.book.bids, one.reach[0], other.reach[0], 1),
        (one.book.asks, other.book.asks, one.reach[1], other.reach[1], -1),
    ):
        fars = [sign * price for price in (far, its_far) if price is not None]
        counts = [side.within(sign * max(fars)) if fars else len(side) for side in (mine, its)]
        if mine.top(counts[0]) != its.top(counts[1]):
            return False
    return True


def _numbered(state: State, deltas: tuple[Delta, ...], at_ns: int) -> Step:
    """Takes changes of venues that number them."""
    actions: list[Action] = []
    for place, delta in enumerate(deltas):
        if state.phase is Phase.BUFFERING:
            state = _buffered(state, deltas[place:])
            break
        follows = _follows(state, delta)
        if follows is None:
            continue
        if follows:
            state = _applied(state, delta)
            if state.phase is not Phase.BUFFERING:
                state, done = _good(state, at_ns)
                actions += done
                state, done = _kept_in_reach(state, delta)
                actions += done
        else:
            reason = Reason.MISSED if state.is_in_sync else Reason.STALE_SNAPSHOT
            state = _lose(state, reason)
            state = _buffered(state, deltas[place:])
            break
    if state.phase is Phase.BUFFERING and state.buffer and not state.is_asked:
        state = replace(state, is_asked=True)
        actions.append(AskSnapshot(state.symbol))
    return state, tuple(actions)


def _kept_in_reach(state: State, delta: Delta) -> Step:
    """Asks for one more snapshot in time, and keeps what comes meanwhile: a change that was just taken."""
    if state.is_asked and len(state.buffer) < MOST_BUFFERED:
        state.buffer = (*state.buffer, delta)
        return state, ()
    state.is_asked = _is_soon_out_of_reach(state)
    state.buffer = (delta,) if state.is_asked else ()
    return state, (AskSnapshot(state.symbol),) if state.is_asked else ()


def _buffered(state: State, deltas: tuple[Delta, ...]) -> State:
    if len(state.buffer) + len(deltas) > MOST_BUFFERED:
        return replace(_because(state, Reason.OVERFLOW), buffer=deltas[-1:], is_asked=False)
    return replace(state, buffer=state.buffer + deltas)


def _follows(state: State, delta: Delta) -> bool | None:
    """Whether a change is the next one of the book; None: the book has it already."""
    last = state.last_id or 0
    if state.rule is not Rule.BINANCE_USDM:
        if delta.last_id <= last:
            return None
        return delta.first_id <= last + 1
    if state.phase is Phase.BRIDGING:
        if delta.last_id < last:
            return None
        return delta.first_id <= last or delta.previous_id == last
    if delta.last_id <= last:
        return None  # sent twice, or by the older one of two connections
    return delta.previous_id == last


def _applied(state: State, delta: Delta) -> State:
    if state.rule is Rule.KUCOIN:
        _applied_in_order(state.book.bids, delta.bids, delta.bid_ids, state.last_id or 0)
        _applied_in_order(state.book.asks, delta.asks, delta.ask_ids, state.last_id or 0)
    else:
        state.book.change(delta.bids, delta.asks)
    if state.book.is_crossed:
        return _lose(state, Reason.CROSSED)
    if _is_out_of_reach(state):
        return _lose(state, Reason.OUT_OF_REACH)
    state.last_id = delta.last_id
    return state


def _applied_in_order(side: Side, levels: Levels, ids: tuple[int, ...], last_id: int) -> None:
    for number, (price, lots) in sorted(zip(ids, levels, strict=True), key=lambda one: one[0]):
        # A price of 0 tells only that the number moved on; of what the book has already, the book knows better.
        if price and number > last_id:
            side.put(price, lots)


def _is_out_of_reach(state: State) -> bool:
    """Whether the best price went to where the snapshot did not show: a better one may wait that nobody told of."""
    (far_bid, far_ask), bid, ask = state.reach, state.book.bids.best, state.book.asks.best
    return (far_bid is not None and (bid is None or bid[0] < far_bid)) or (
        far_ask is not None and (ask is None or ask[0] > far_ask)
    )


def checksum(book: Ladder) -> int:
    """Kraken's CRC32 of the ten best asks, then bids: their digits without the point and without leading zeros.

    Ticks and lots are these digits where the scale has the decimals that the venue sends.
    """
    levels = (*book.asks.top(CHECKED_LEVELS), *book.bids.top(CHECKED_LEVELS))
    return zlib.crc32("".join(f"{price}{lots}" for price, lots in levels).encode())


def _checked(state: State, message: Checked, at_ns: int) -> Step:
    """Takes a book or a change of a venue that sends checksums."""
    if message.is_snapshot:
        state = replace(state, book=Ladder(message.bids, message.asks))
    elif state.phase is Phase.BUFFERING:
        return state, ()  # of the subscription before
    else:
        state.book.change(message.bids, message.asks)
    state.book.bids.keep(state.depth)
    state.book.asks.keep(state.depth)
    if state.phase is Phase.UNTRUSTED:
        return replace(state, good_ns=max(at_ns, state.good_ns)), (Changed(state.symbol, None, is_trusted=False),)
    if checksum(state.book) != message.checksum:
        return _mismatched(state, at_ns)
    if state.book.is_crossed:
        return _lose(state, Reason.CROSSED), (Resubscribe(state.symbol),)
    return _good(state, at_ns)


def _mismatched(state: State, at_ns: int) -> Step:
    recent = (*(one for one in state.mismatches if at_ns - one[0] <= MISMATCH_NS), (at_ns, _agrees(state)))
    recent = recent[-MISMATCHES:]
    state = replace(_because(state, Reason.CHECKSUM), mismatches=recent)
    if len(recent) < MISMATCHES or not all(agreed for _, agreed in recent):
        return _lose(state, Reason.CHECKSUM), (Resubscribe(state.symbol),)
    to_ns = max(at_ns, state.lost_ns)
    gap = Gap(state.symbol, state.lost, state.lost_ns, to_ns, None, None)
    state = replace(state, phase=Phase.UNTRUSTED, lost=(Reason.UNTRUSTED,), lost_ns=to_ns, good_ns=to_ns)
    return state, (gap, Changed(state.symbol, None, is_trusted=False))


def _agrees(state: State) -> bool:
    """Whether the venue's best prices are the book's."""
    bid, ask, quote = state.book.bids.best, state.book.asks.best, state.quote
    if bid is None or ask is None or quote is None:
        return False
    return (quote.bid, quote.ask) == (bid[0], ask[0])
