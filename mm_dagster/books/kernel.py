"""A window of a tape, gone through once: whole numbers alone, so that neither order nor start of a sum can matter.

A window is a quarter hour of the log, [start, end). METHOD's is (as_of - 15 minutes, as_of]: this one is that one moved
by a nanosecond, and so no window needs the file of another.

An amount times a time, or a price, needs more than 64 bits. What is summed is taken apart into limbs of 21 bits, each
has a sum of its own, and Python, whose whole numbers have no end, puts them together.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Flags, Integers, kernel
from mm_dagster.books.snapshot import DEPTHS_BP
from mm_dagster.books.tape import Op, Tape

SECOND_NS = 1_000_000_000
LONGEST_NS = 2**40
"""Of a window, some 18 minutes: sums of a limb of 21 bits times nanoseconds then fit into 62."""
LIMB = 21
LIMB_MASK = 2**21 - 1
EMPTY = -(2**63)
"""The key of a side without levels: worse than any price."""
WHOLE = 20_000
"""Twice the basis points of 1: thresholds are reckoned from the sum of the best prices, twice the mid."""
MOST = 2**63 - 1

BID, ASK, BEGIN, FAR_BID, FAR_ASK, STANDS = (int(op) for op in list(Op)[:6])
NOW, SECOND, IN_SYNC_NS, TWO_SIDED_NS, FLOWS, STEPS, IN_SYNC, FOLLOWS = range(8)
"""Places of what is counted along the way: until when, the next second, two times, how many flows and steps there are,
whether the book is in sync, and whether it was and had both sides since the second before."""
BPS = np.array(DEPTHS_BP, dtype=np.int64)


@dataclass(frozen=True)
class Second:
    """The book at the end of a second; what comes at this very time is not in it.

    Attributes:
        bid: best bid, ticks; 0: there is none.
        ask: best ask; 0: there is none.
        far_bid: beyond it a level may be missing; 0: the whole side is known.
        far_ask: likewise.
        bid_depths: ticks times lots within each of `DEPTHS_BP` of the mid; None: the book does not reach so far, or
            there is no mid. Of an empty side 0.
        ask_depths: likewise.
        follows: the book has been in sync, with both sides, since the second before.
    """

    bid: int
    ask: int
    far_bid: int
    far_ask: int
    bid_depths: tuple[int | None, ...]
    ask_depths: tuple[int | None, ...]
    follows: bool


@dataclass(frozen=True)
class Walk:
    """What a window has, all of it whole numbers.

    Attributes:
        in_sync_ns: how long the book was in sync.
        two_sided_ns: of this with both sides.
        bid_ns: sum of the best bid's price times nanoseconds, while there were both sides.
        ask_ns: of the best ask's.
        bid_lots_ns: sum of lots times nanoseconds of each of the best bids.
        ask_lots_ns: of the best asks.
        flow: order flow imbalance of each second, lots; what is left at the end is one more.
        flows: how many changes it is of.
        seconds: the book at the beginning and after each second; None: it was not in sync.
        steps: (n, 3): when the best prices became what they are, best bid, best ask; 0 and 0: the book was lost.
        last: best bid, its lots, best ask, its lots, when there were both for the last time; None: never.
        digest: of the whole book at the end, or where the tape ends before; see `Ladder.digest`. None: it was not in
            sync then.
    """

    in_sync_ns: int
    two_sided_ns: int
    bid_ns: int
    ask_ns: int
    bid_lots_ns: tuple[int, ...]
    ask_lots_ns: tuple[int, ...]
    flow: tuple[int, ...]
    flows: int
    seconds: tuple[Second | None, ...]
    steps: Integers
    last: tuple[int, int, int, int] | None
    digest: str | None


def walk(tape: Tape, start_ns: int, end_ns: int, levels: int) -> Walk:
    """Goes through a window.

    Args:
        tape: what the log told; of before the window it needs the book alone.
        start_ns: beginning of the window, UTC nanoseconds.
        end_ns: its end, at most 2^40 ns later.
        levels: how many best levels of a side are summed.

    Raises:
        ValueError: the window is empty or too long.
    """
    if not 0 < end_ns - start_ns <= LONGEST_NS:
        raise ValueError(f"a window of {end_ns - start_ns} ns: it has more than 0 and at most {LONGEST_NS}")
    # A book of before that nobody saw since is not known.
    rows = tape.rows if tape.until_ns >= start_ns else tape.rows[:0]
    first, after = np.searchsorted(rows[:, 0], [start_ns, end_ns])
    begins = np.flatnonzero(rows[:first, 1] == BEGIN)
    rows = rows[int(begins[-1]) if len(begins) else 0 : after]
    before = len(rows) - int(after - first)
    most = int((rows[:, 1] == BID).sum()), int((rows[:, 1] == ASK).sum())
    keys, lots = (np.zeros((2, max(most) + 1), dtype=np.int64) for _ in range(2))
    size = np.zeros(2, dtype=np.int64)
    seconds = int(end_ns - start_ns) // SECOND_NS
    sums, flow = np.zeros((2 + 2 * levels, 3), dtype=np.int64), np.zeros((seconds + 1, 3), dtype=np.int64)
    state = np.zeros((seconds + 1, 6), dtype=np.int64)
    depths, reached = _depth_arrays(seconds + 1)
    steps = np.zeros((int((rows[before:, 1] >= STANDS).sum()) + 1, 3), dtype=np.int64)
    clock, last = np.zeros(8, dtype=np.int64), np.zeros(4, dtype=np.int64)
    stop = min(end_ns, max(tape.until_ns, start_ns))
    _walk(
        rows, before, start_ns, stop, levels, BPS, clock, keys, lots, size, sums, flow, state, depths, reached, steps,
        last,
    )  # fmt: skip
    whole = _joined(sums)
    return Walk(
        int(clock[IN_SYNC_NS]),
        int(clock[TWO_SIDED_NS]),
        whole[0],
        whole[1],
        tuple(whole[2 : 2 + levels]),
        tuple(whole[2 + levels :]),
        tuple(_joined(flow)),
        int(clock[FLOWS]),
        _seconds(state, depths, reached),
        steps[: clock[STEPS]],
        (int(last[0]), int(last[1]), int(last[2]), int(last[3])) if last[0] else None,
        _digest(keys, lots, size) if clock[IN_SYNC] else None,
    )


def _depth_arrays(count: int) -> tuple[Integers, Flags]:
    return np.zeros((count, 2, len(BPS), 5), dtype=np.int64), np.zeros((count, 2, len(BPS)), dtype=np.bool_)


def _joined(limbs: Integers) -> list[int]:
    """Sums of limbs, lowest first along the last axis, as whole numbers."""
    return [sum(limb << (LIMB * place) for place, limb in enumerate(row)) for row in limbs.tolist()]


def _seconds(state: Integers, depths: Integers, reached: Flags) -> tuple[Second | None, ...]:
    bps = len(BPS)
    amounts = _joined(depths.reshape(-1, depths.shape[-1]))
    known = reached.reshape(-1).tolist()
    told = [amount if is_known else None for amount, is_known in zip(amounts, known, strict=True)]
    found: list[Second | None] = []
    for place, (is_known, bid, ask, far_bid, far_ask, follows) in enumerate(state.tolist()):
        bids = told[2 * place * bps : (2 * place + 1) * bps]
        asks = told[(2 * place + 1) * bps : (2 * place + 2) * bps]
        second = Second(bid, ask, far_bid, far_ask, tuple(bids), tuple(asks), bool(follows))
        found.append(second if is_known else None)
    return tuple(found)


def _digest(keys: Integers, lots: Integers, size: Integers) -> str:
    """`Ladder.digest` of the kernel's book."""
    found = hashlib.sha256()
    for side, sign in ((0, 1), (1, -1)):
        count = int(size[side])
        best_first = np.stack([sign * keys[side, :count][::-1], lots[side, :count][::-1]], axis=1)
        found.update(count.to_bytes(8, "little"))
        found.update(best_first.astype("<i8").tobytes())
    return found.hexdigest()


# The loops ------------------------------------------------------------------------------------------------------------
# A side is its keys in ascending order, the best one last: a bid's price, or an ask's with the other sign.


@kernel
def _place(keys: Integers, count: int, key: int) -> int:
    """Where a key is among the first `count`, or would be."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _put(keys: Integers, lots: Integers, count: int, key: int, amount: int) -> int:
    """Sets the amount of a key, 0 removes it; how many there are now."""
    place = _place(keys, count, key)
    is_there = place < count and keys[place] == key
    if amount == 0:
        if not is_there:
            return count
        for i in range(place, count - 1):
            keys[i] = keys[i + 1]
            lots[i] = lots[i + 1]
        return count - 1
    if not is_there:
        for i in range(count, place, -1):
            keys[i] = keys[i - 1]
            lots[i] = lots[i - 1]
        keys[place] = key
        count += 1
    lots[place] = amount
    return count


@kernel
def _add(sums: Integers, value: int, times: int) -> None:
    """Adds value * times to three limbs; 0 <= value < 2^63."""
    sums[0] += (value & LIMB_MASK) * times
    sums[1] += ((value >> LIMB) & LIMB_MASK) * times
    sums[2] += (value >> (2 * LIMB)) * times


@kernel
def _add_product(sums: Integers, price: int, amount: int) -> None:
    """Adds price * amount to five limbs; both within 0 and 2^63. A hundred thousand of them fit."""
    p0, p1, p2 = price & LIMB_MASK, (price >> LIMB) & LIMB_MASK, price >> (2 * LIMB)
    a0, a1, a2 = amount & LIMB_MASK, (amount >> LIMB) & LIMB_MASK, amount >> (2 * LIMB)
    sums[0] += p0 * a0
    sums[1] += p0 * a1 + p1 * a0
    sums[2] += p0 * a2 + p1 * a1 + p2 * a0
    sums[3] += p1 * a2 + p2 * a1
    sums[4] += p2 * a2


@kernel
def _share(bid: int, ask: int, part: int, is_up: int) -> int:
    """(bid + ask) * part / 20,000, rounded down or up, at most 2^63 - 1; taken apart, since the product has no room."""
    whole = bid // WHOLE + ask // WHOLE
    rest = (bid % WHOLE + ask % WHOLE) * part
    if is_up == 1:
        rest += WHOLE - 1
    if whole > (MOST - rest // WHOLE) // part:
        return MOST
    return whole * part + rest // WHOLE


@kernel
def _weigh(sums: Integers, keys: Integers, lots: Integers, size: Integers, levels: int, dt: int) -> None:
    """Adds what the book is for so many nanoseconds."""
    if size[0] > 0 and size[1] > 0:
        _add(sums[0], keys[0, size[0] - 1], dt)
        _add(sums[1], -keys[1, size[1] - 1], dt)
    for side in range(2):
        for level in range(min(levels, size[side])):
            _add(sums[2 + side * levels + level], lots[side, size[side] - 1 - level], dt)


@kernel
def _measure_depth(
    keys: Integers, lots: Integers, count: int, side: int, bid: int, ask: int, far: int, bps: Integers, sums: Integers,
    reached: Flags,
) -> None:  # fmt: skip
    """Price times amount within each distance of the mid, on one side."""
    level, sign = count - 1, 1 - 2 * side
    for k in range(len(bps)):
        if k > 0:
            sums[k, :] = sums[k - 1, :]
        edge = sign * _share(bid, ask, WHOLE // 2 - sign * bps[k], 1 - side)
        while level >= 0 and keys[level] >= edge:
            _add_product(sums[k], sign * keys[level], lots[level])
            level -= 1
        reached[k] = far == 0 or edge >= sign * far


@kernel
def _sample(
    keys: Integers, lots: Integers, size: Integers, far: Integers, follows: bool, bps: Integers, state: Integers,
    depths: Integers, reached: Flags,
) -> None:  # fmt: skip
    """Writes down the book at the end of a second."""
    bid = keys[0, size[0] - 1] if size[0] > 0 else 0
    ask = -keys[1, size[1] - 1] if size[1] > 0 else 0
    state[0], state[1], state[2], state[3], state[4], state[5] = 1, bid, ask, far[0], far[1], follows
    for side in range(2):
        if size[0] > 0 and size[1] > 0:
            _measure_depth(
                keys[side], lots[side], size[side], side, bid, ask, far[side], bps, depths[side], reached[side]
            )
        elif size[side] == 0:
            reached[side, :] = True


@kernel
def _flow(sums: Integers, sign: int, key: int, amount: int, key_before: int, amount_before: int) -> None:
    """Adds 1[key >= before] amount - 1[key <= before] amount before."""
    if key >= key_before:
        _add(sums, amount, sign)
    if key <= key_before:
        _add(sums, amount_before, -sign)


@kernel
def _pass_time(
    at: int, start: int, clock: Integers, keys: Integers, lots: Integers, size: Integers, far: Integers, levels: int,
    bps: Integers, sums: Integers, state: Integers, depths: Integers, reached: Flags,
) -> None:  # fmt: skip
    """Lets the book stand until a time."""
    is_in_sync, is_two_sided = clock[IN_SYNC] == 1, size[0] > 0 and size[1] > 0
    while clock[SECOND] < len(state) and start + clock[SECOND] * SECOND_NS <= at:
        k = clock[SECOND]
        if is_in_sync:
            _sample(keys, lots, size, far, clock[FOLLOWS] == 1, bps, state[k], depths[k], reached[k])
        clock[FOLLOWS] = is_in_sync and is_two_sided
        clock[SECOND] += 1
    dt = at - clock[NOW]
    if is_in_sync and dt > 0:
        clock[IN_SYNC_NS] += dt
        if is_two_sided:
            clock[TWO_SIDED_NS] += dt
        _weigh(sums, keys, lots, size, levels, dt)
    clock[NOW] = at


@kernel
def _step(
    at: int, clock: Integers, keys: Integers, lots: Integers, size: Integers, steps: Integers, last: Integers
) -> None:
    """Writes down the best prices from now on."""
    k = clock[STEPS]
    steps[k, 0] = at
    if clock[IN_SYNC] == 1:
        steps[k, 1] = keys[0, size[0] - 1] if size[0] > 0 else 0
        steps[k, 2] = -keys[1, size[1] - 1] if size[1] > 0 else 0
    if steps[k, 1] > 0 and steps[k, 2] > 0:
        last[0], last[1] = steps[k, 1], lots[0, size[0] - 1]
        last[2], last[3] = steps[k, 2], lots[1, size[1] - 1]
    else:
        clock[FOLLOWS] = 0
    clock[STEPS] = k + 1


@kernel
def _stand(clock: Integers, keys: Integers, lots: Integers, size: Integers, best: Integers, flow: Integers) -> None:
    """Adds to a second's order flow what the best levels became, where they were known before."""
    for side in range(2):
        top = size[side] - 1
        key = keys[side, top] if top >= 0 else EMPTY
        amount = lots[side, top] if top >= 0 else 0
        if clock[IN_SYNC] == 1:
            _flow(flow, 1 - 2 * side, key, amount, best[side, 0], best[side, 1])
        best[side, 0], best[side, 1] = key, amount
    clock[FLOWS] += clock[IN_SYNC]
    clock[IN_SYNC] = 1


@kernel
def _walk(
    rows: Integers, before: int, start: int, stop: int, levels: int, bps: Integers, clock: Integers, keys: Integers,
    lots: Integers, size: Integers, sums: Integers, flow: Integers, state: Integers, depths: Integers, reached: Flags,
    steps: Integers, last: Integers,
) -> None:  # fmt: skip
    """Goes through rows, of which so many are from before the window, and fills the arrays."""
    far, best, nowhere = np.zeros(2, np.int64), np.zeros((2, 2), np.int64), np.zeros(3, np.int64)
    clock[NOW] = start
    for i in range(len(rows) + 1):
        if i == before:
            _step(start, clock, keys, lots, size, steps, last)
            clock[FLOWS] = clock[FOLLOWS] = 0
        is_end = i == len(rows)
        at, op = (stop, STANDS) if is_end else (rows[i, 0], rows[i, 1])
        if i >= before:
            _pass_time(at, start, clock, keys, lots, size, far, levels, bps, sums, state, depths, reached)
        if is_end:
            break
        if op == BID:
            size[0] = _put(keys[0], lots[0], size[0], rows[i, 2], rows[i, 3])
        elif op == ASK:
            size[1] = _put(keys[1], lots[1], size[1], -rows[i, 2], rows[i, 3])
        elif op == BEGIN:
            size[:] = 0
        elif op == FAR_BID:
            far[0] = rows[i, 2]
        elif op == FAR_ASK:
            far[1] = rows[i, 2]
        elif op == STANDS:
            second = (at - start) // SECOND_NS
            _stand(clock, keys, lots, size, best, flow[second] if i >= before else nowhere)
        else:
            clock[IN_SYNC] = 0
        if op >= STANDS and i >= before:
            _step(at, clock, keys, lots, size, steps, last)
