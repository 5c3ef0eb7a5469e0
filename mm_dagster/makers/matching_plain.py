"""The fills of `matching`, by plain Python: other code for the same rules, which tests and benchmarks hold it to.

A book is a dict a side, an order an object; nothing is ranked, packed or compiled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import merge

from mm_dagster.arrays import Integers
from mm_dagster.books.tape import Op, Tape
from mm_dagster.makers.matching import MICRO, WHY, Plan, Terms

SIDES = ("bid", "ask")
Fill = tuple[int, int, int, int, int, int]


@dataclass
class _Order:
    price: int
    lots: int
    decision: int
    since: int
    """From when on something counts."""
    traded_ahead: int
    shown_ahead: int
    said: tuple[int, int]
    """When and what was shown that does not count yet."""


@dataclass
class _Maker:
    """A maker at a venue that nobody else of is told."""

    plan: Plan
    terms: Terms
    book: dict[str, dict[int, int]] = field(default_factory=lambda: {"bid": {}, "ask": {}})
    stands: bool = False
    orders: dict[str, _Order | None] = field(default_factory=lambda: {"bid": None, "ask": None})
    newest: dict[str, tuple[int, int] | None] = field(default_factory=lambda: {"bid": None, "ask": None})
    """Price and decision of the last request that may still lead to an order."""
    inventory: int = 0
    fills: list[Fill] = field(default_factory=list)
    refused: int = 0

    def best(self) -> tuple[int, int] | None:
        bids, asks = self.book["bid"], self.book["ask"]
        return (max(bids), min(asks)) if bids and asks else None

    def wanted(self, k: int, side: str) -> tuple[int, int] | None:
        plan, terms, best = self.plan, self.terms, self.best()
        if not self.stands or best is None:
            return None
        s, sign = SIDES.index(side), 1 if side == "bid" else -1
        room = terms.most_lots - sign * self.inventory
        burden = int(plan.cost[k]) * (sign * self.inventory) // terms.unit_lots
        found = None
        for d in range(plan.price.shape[2]):
            lots = min(int(plan.lots[k, s, d]), room)
            worth = int(plan.value[k, s, d]) - int(plan.chance[k, s, d]) * burden // MICRO
            if lots >= terms.least_lots and worth > (found[0] if found else 0):
                found = worth, int(plan.price[k, s, d]), lots
        if found is None:
            return None
        fine = found[1] - int(plan.skew[k]) * self.inventory // terms.unit_lots
        price = min(fine // MICRO, best[1] - 1) if side == "bid" else max(-(-fine // MICRO), best[0] + 1)
        return (price, found[2]) if price > 0 else None

    def fill(self, side: str, at: int, lots: int, why: str) -> None:
        order = self.orders[side]
        assert order is not None
        sign = 1 if side == "bid" else -1
        order.lots -= lots
        self.inventory += sign * lots
        self.fills.append((at, sign, order.price, lots, order.decision, WHY.index(why)))
        if order.lots == 0:
            self.orders[side] = None
            newest = self.newest[side]
            if newest is not None and newest[1] == order.decision:
                self.newest[side] = None

    def arrive(self, at: int, side: str, decision: int, wanted: tuple[int, int] | None) -> None:
        self.orders[side] = None
        if wanted is None:
            return
        price, lots = wanted
        best = self.best() if self.stands else None
        if best is None or (price >= best[1] if side == "bid" else price <= best[0]):
            self.refused += 1
            newest = self.newest[side]
            if newest is not None and newest[1] == decision:
                self.newest[side] = None
            return
        queue = self.book[side].get(price, 0)
        self.orders[side] = _Order(price, lots, decision, at + self.terms.settle_ns, queue, queue, (at, queue))

    def see_trade(self, at: int, price: int, lots: int, hits_a_bid: bool) -> None:
        side = "bid" if hits_a_bid else "ask"
        order = self.orders[side]
        if order is None or at < order.since:
            return
        if (price < order.price) if hits_a_bid else (price > order.price):
            self.fill(side, at, min(order.lots, lots), "THROUGH")
        elif price == order.price:
            beyond = lots - min(order.traded_ahead, order.shown_ahead)
            order.traded_ahead = max(0, order.traded_ahead - lots)
            if beyond > 0:
                self.fill(side, at, min(order.lots, beyond), "QUEUE")

    def see_book(self, at: int) -> None:
        self.stands = True
        bids, asks = self.book["bid"], self.book["ask"]
        for side in SIDES:
            order = self.orders[side]
            if order is None:
                continue
            here = self.book[side].get(order.price, 0)
            if at - order.said[0] >= self.terms.settle_ns:
                order.shown_ahead = min(order.shown_ahead, order.said[1] if self.terms.settle_ns else here)
                order.said = at, here
            if at >= order.since:
                reached = asks and min(asks) <= order.price if side == "bid" else bids and max(bids) >= order.price
                if reached:
                    self.fill(side, at, order.lots, "OPPOSITE")


def match_plainly(tape: Tape, at: Integers, plan: Plan, terms: Terms) -> tuple[list[Fill], int, int]:
    """The fills, how many orders were refused, and the inventory at the end."""
    maker = _Maker(plan, terms)
    requests: list[tuple[int, str, int, tuple[int, int] | None]] = []
    decisions = at.tolist()
    k = 0

    def ours_before(now: int | None) -> None:
        """All that we do before the venue does something else."""
        nonlocal k
        while True:
            acts = requests[0][0] if requests else None
            decides = decisions[k] if k < len(decisions) else None
            if acts is not None and (decides is None or acts <= decides):
                if now is not None and acts >= now:
                    return
                _, side, decision, wanted = requests.pop(0)
                maker.arrive(acts, side, decision, wanted)
                continue
            if decides is None or (now is not None and decides >= now):
                return
            for side in SIDES:
                wanted = maker.wanted(k, side)
                newest = maker.newest[side]
                if (wanted[0] if wanted else None) != (newest[0] if newest else None):
                    maker.newest[side] = (wanted[0], k) if wanted else None
                    requests.append((decides + terms.delay_ns, side, k, wanted))
            k += 1

    for now, _, kind, first, second, third in _events(tape):
        ours_before(now)
        if kind == "trade":
            maker.see_trade(now, first, second, bool(third))
        elif kind in (Op.BID, Op.ASK):
            side = maker.book["bid" if kind == Op.BID else "ask"]
            side[first] = second
            if second == 0:
                del side[first]
        elif kind == Op.BEGIN:
            maker.book = {"bid": {}, "ask": {}}
            maker.stands = False
        elif kind == Op.STANDS:
            maker.see_book(now)
        elif kind == Op.LOST:
            maker.stands = False
    ours_before(None)
    return maker.fills, maker.refused, maker.inventory


def _events(tape: Tape) -> Iterable[tuple[int, int, int | str, int, int, int]]:
    """Trades and rows by time, a trade first."""
    trades = ((at, 0, "trade", price, lots, hit) for at, price, lots, hit in tape.trades.tolist())
    rows = ((at, 1, op, price, lots, 0) for at, op, price, lots in tape.rows.tolist())
    return merge(trades, rows, key=lambda one: one[:2])
