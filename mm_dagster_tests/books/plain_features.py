"""What `kernel.walk` and other loops find, in plain words: dictionaries, Python's whole numbers, all of it anew."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import numpy as np

from mm_dagster.books.follow import BookMarket
from mm_dagster.books.kernel import Second, Walk
from mm_dagster.books.ladder import Ladder, Scale
from mm_dagster.books.snapshot import DEPTHS_BP
from mm_dagster.books.tape import Op, Tape

SECOND_NS = 10**9
WORST = -(10**30)


class Plain:
    """A book that is looked through from end to end each time."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.far = [0, 0]

    def top(self, side: int) -> list[tuple[int, int]]:
        return sorted(self.sides[side].items(), reverse=side == 0)

    def best(self) -> tuple[int, int]:
        bids, asks = self.sides
        return max(bids, default=0), min(asks, default=0)

    def depths(self, side: int) -> tuple[int | None, ...]:
        if not self.sides[side]:
            return (0,) * len(DEPTHS_BP)
        if not self.sides[1 - side]:
            return (None,) * len(DEPTHS_BP)
        twice_mid, far = sum(self.best()), self.far[side]
        found: list[int | None] = []
        for bp in DEPTHS_BP:
            if side == 0:
                inside = [level for level in self.sides[0].items() if level[0] * 20_000 >= twice_mid * (10_000 - bp)]
                # The farthest price that counts is known to the last tick.
                is_known = far == 0 or -(-twice_mid * (10_000 - bp) // 20_000) >= far
            else:
                inside = [level for level in self.sides[1].items() if level[0] * 20_000 <= twice_mid * (10_000 + bp)]
                is_known = far == 0 or twice_mid * (10_000 + bp) // 20_000 <= far
            found.append(sum(price * lots for price, lots in inside) if is_known else None)
        return tuple(found)


def plain_walk(tape: Tape, start_ns: int, end_ns: int, levels: int) -> Walk:
    book, is_in_sync, follows = Plain(), False, False
    best: list[tuple[int, int]] | None = None
    seconds: list[Second | None] = []
    flow = [0] * ((end_ns - start_ns) // SECOND_NS + 1)
    sums = dict.fromkeys(("in_sync", "two_sided", "bid", "ask", "flows"), 0)
    bid_sums, ask_sums = [0] * levels, [0] * levels
    steps: list[tuple[int, int, int]] = []
    last = None
    now, stop = start_ns, min(end_ns, max(tape.until_ns, start_ns))

    def stand_until(at_ns: int) -> None:
        nonlocal now, follows
        bid, ask = book.best()
        while len(seconds) < len(flow) and start_ns + len(seconds) * SECOND_NS <= at_ns:
            told = Second(bid, ask, *book.far, book.depths(0), book.depths(1), follows) if is_in_sync else None
            seconds.append(told)
            follows = is_in_sync and bool(bid and ask)
        if is_in_sync:
            dt = at_ns - now
            sums["in_sync"] += dt
            if bid and ask:
                sums["two_sided"] += dt
                sums["bid"] += bid * dt
                sums["ask"] += ask * dt
            for side, into in ((0, bid_sums), (1, ask_sums)):
                for place, (_, lots) in enumerate(book.top(side)[:levels]):
                    into[place] += lots * dt
        now = at_ns

    def step(at_ns: int) -> None:
        nonlocal last, follows
        bid, ask = book.best() if is_in_sync else (0, 0)
        steps.append((at_ns, bid, ask))
        if bid and ask:
            last = (bid, book.sides[0][bid], ask, book.sides[1][ask])
        else:
            follows = False

    has_begun = False
    for at_ns, op, price, lots in tape.rows.tolist():
        if at_ns >= end_ns or tape.until_ns < start_ns:
            break
        if at_ns >= start_ns:
            if not has_begun:
                step(start_ns)
            has_begun = True
            stand_until(at_ns)
        match op:
            case Op.BID | Op.ASK:
                book.sides[op].pop(price, None)
                if lots:
                    book.sides[op][price] = lots
            case Op.BEGIN:
                book.sides[0].clear()
                book.sides[1].clear()
            case Op.FAR_BID | Op.FAR_ASK:
                book.far[op - Op.FAR_BID] = price
            case Op.LOST:
                is_in_sync, best = False, None
            case Op.STANDS:
                bids, asks = book.top(0), book.top(1)
                becomes = [bids[0] if bids else (WORST, 0), (-asks[0][0], asks[0][1]) if asks else (WORST, 0)]
                if best is not None and has_begun:
                    sums["flows"] += 1
                    for sign, (key, amount), (key_before, before) in zip((1, -1), becomes, best, strict=True):
                        term = (key >= key_before) * amount - (key <= key_before) * before
                        flow[(at_ns - start_ns) // SECOND_NS] += sign * term
                is_in_sync, best = True, becomes
        if has_begun and op in (Op.STANDS, Op.LOST):
            step(at_ns)
    if not has_begun:
        step(start_ns)
    stand_until(stop)
    seconds += [None] * (len(flow) - len(seconds))
    return Walk(
        sums["in_sync"], sums["two_sided"], sums["bid"], sums["ask"], tuple(bid_sums), tuple(ask_sums), tuple(flow),
        sums["flows"], tuple(seconds), np.array(steps, dtype=np.int64), last,
        Ladder(book.sides[0].items(), book.sides[1].items()).digest() if is_in_sync else None,
    )  # fmt: skip


def told(walked: Walk) -> dict[str, Any]:
    """By its names, and comparable."""
    found = {field.name: getattr(walked, field.name) for field in fields(walked)}
    return found | {"steps": walked.steps.tolist()}


def plain_recoveries(steps: list[tuple[int, int, int]], stop_ns: int) -> tuple[int | None, list[int]]:
    """The usual spread, and what each recovery took."""
    spreads = [ask - bid if bid and ask else None for _, bid, ask in steps]
    ends = [at_ns for at_ns, _, _ in steps[1:]] + [stop_ns]
    held = sorted((s, end - at[0]) for s, at, end in zip(spreads, steps, ends, strict=True) if s is not None)
    total, passed, usual = sum(dt for _, dt in held), 0, None
    for spread, dt in held:
        passed += dt
        if total and 2 * passed >= total and dt:
            usual = spread
            break
    took, since = [], None
    for place, (at_ns, _, _) in enumerate(steps):
        spread, before = spreads[place], spreads[place - 1] if place else None
        if usual is None or spread is None:
            since = None
        elif since is not None and spread <= usual:
            took.append(at_ns - since)
            since = None
        elif since is None and spread > 3 * usual and before is not None:
            since = at_ns
    return usual, took


def tape_of_rows(rows: list[tuple[int, int, int, int]], until_ns: int, trades: Any = (), quotes: Any = ()) -> Tape:
    market = BookMarket("binance", "ETH-USDT", Scale(2, 3), 1000)
    arrays = (np.array(one, dtype=np.int64).reshape(-1, width) for one, width in ((rows, 4), (trades, 4), (quotes, 6)))
    told, traded, quoted = arrays
    none = np.zeros((0, 5), np.int64)
    records = np.unique(told[:, 0])
    return Tape(market, int(records[0]), until_ns, told, records, traded, quoted, none, none[:, :2], (), 0, 0, 0)


def random_tape(seed: int, start_ns: int, end_ns: int) -> Tape:
    """Books that are lost, empty on a side, full of huge amounts, and changed many times at one time."""
    rng = random.Random(seed)
    is_huge, centre = rng.random() < 0.3, rng.choice((50, 10_000, 10**12, 2**61))
    width = rng.choice((8, 40, 300)) if centre > 50 else 20
    rows: list[tuple[int, int, int, int]] = []
    at_ns, is_known = start_ns - rng.choice((0, 1, 3 * SECOND_NS)), False
    bid_top = centre

    def lots() -> int:
        if is_huge and rng.random() < 0.5:
            return rng.choice((2**63 - 1, 2**62 + rng.randrange(2**61)))
        return rng.randint(1, 9)

    def level(op: int) -> tuple[int, int, int, int]:
        away = 1 + int(rng.expovariate(4 / width))
        price = bid_top - away if op == Op.BID else bid_top + away
        return at_ns, op, max(price, 1), lots()

    def begin() -> None:
        rows.append((at_ns, Op.BEGIN, 0, 0))
        kinds = rng.choice(((Op.BID, Op.ASK),) * 6 + ((Op.BID,), (Op.ASK,), ()))
        rows.extend(level(op) for op in kinds for _ in range(rng.randint(1, 20)))
        for op, sign in ((Op.FAR_BID, -1), (Op.FAR_ASK, 1)):
            rows.append((at_ns, op, max(1, centre + sign * width // rng.choice((1, 2, 5))) * rng.randint(0, 1), 0))

    for _ in range(rng.randint(1, 120)):
        if rng.random() < 0.75:
            at_ns += rng.choice((1, 10**6, 10**8, SECOND_NS, rng.randrange(4 * SECOND_NS)))
        if not is_known or rng.random() < 0.04:
            begin()
        elif rng.random() < 0.08:
            rows.append((at_ns, Op.LOST, 0, 0))
            is_known = False
            continue
        else:
            for _ in range(rng.randint(0, 6)):
                op = rng.choice((Op.BID, Op.ASK))
                there = [row for row in rows[-40:] if row[1] == op]
                if there and rng.random() < 0.5:
                    price = rng.choice(there)[2]
                    rows.append((at_ns, op, price, lots() if rng.random() < 0.4 else 0))
                else:
                    rows.append(level(op))
            if rng.random() < 0.05:
                op = rng.choice((Op.BID, Op.ASK))
                rows.extend((at_ns, op, price, 0) for price in {row[2] for row in rows if row[1] == op})
        rows.append((at_ns, Op.STANDS, 0, int(rng.random() < 0.95)))
        is_known = True
    return tape_of_rows([tuple(map(int, row)) for row in rows], max(at_ns, rng.choice((end_ns, at_ns))))  # type: ignore[misc]


Move = tuple[int, int, int]
"""From when on, until when, and by how much."""


def plain_contrast(here: list[Move], there: list[Move], lag_ns: int) -> int:
    """Each move with each other one whose times, shifted, overlap with its own."""
    return sum(
        move * other
        for since, until, move in here
        for other_since, other_until, other in there
        if max(since, other_since + lag_ns) < min(until, other_until + lag_ns)
    )
