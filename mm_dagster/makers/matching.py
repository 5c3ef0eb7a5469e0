"""What quotes would have been filled: a run along a track, in whole ticks, lots and nanoseconds.

Nobody is moved by our orders, and they are never ahead of the truth:

- An order waits behind all that is shown at its price when it arrives. Trades at its price shorten the queue; what is
  shown at its price bounds it. Of both the lower one holds, and none is counted twice.
- It is filled by what trades at its price beyond the queue, by trades through its price, and wholly where the best
  price of the other side reaches it.
- It arrives after the way there and back, `delay_ns`, since the tape is by time of receipt: what the exchange did at a
  moment is known here one way later. An order that would take at its arrival is refused (post-only).
- A venue may tell of a trade after it told the book that the trade left: 12 % of the trades of Binance's spot BTC came
  so, up to 96 ms late. What is shown counts only `settle_ns` after it was told, and nothing counts that is told within
  `settle_ns` of an order's arrival.

A side has one order. A quote of the same price lets it stand with its place; any other one replaces it. What was filled
is known at once, on the tape's clock; so inventory may pass its limit by what fills while a cancel is under way.

`matching_plain` has the same fills in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Integers, kernel
from mm_dagster.errors import ForeseenError
from mm_dagster.makers.track import ASK, BEGIN, BID, HIT, LOST, STANDS, Track

MICRO = 1_000_000
"""Of a tick: prices, skews and values of a plan are in millionths of one."""
MOST = 2**62
NEVER = 2**63 - 1
QUEUE, THROUGH, OPPOSITE, CLOSED = range(4)
"""Why a fill: traded beyond the queue, traded through the price, reached by the other side, taken at the end."""
WHY = ("QUEUE", "THROUGH", "OPPOSITE", "CLOSED")

PRICE, LOTS, AHEAD, SHOWN, SLOT_AT, SLOT, FROM, OWNER = range(8)
"""Places of an order: ticks, lots left, the queue by trades, the queue by what is shown, when and what was shown that
does not count yet, from when on something counts, which decision it is of."""
AT_EVENT, DECIDED, ACTED, FILLS, INVENTORY, IN_SYNC, BEST_BID, BEST_ASK, REFUSED, PUT = range(10)
"""Places of the clock."""
KEEP, REPLACE = 0, 1


class PlanError(ForeseenError, OverflowError):
    """What is to be quoted does not fit into 64 bits; one line, with the remedy."""


@dataclass(frozen=True)
class Terms:
    """What holds for every quote.

    Attributes:
        delay_ns: way to the exchange and back.
        settle_ns: how much later than the book a trade may be told.
        unit_lots: what inventory is counted in for skew and cost.
        least_lots: no smaller order.
        most_lots: inventory up to which either side is quoted.
    """

    delay_ns: int
    settle_ns: int
    unit_lots: int
    least_lots: int
    most_lots: int


@dataclass(frozen=True)
class Plan:
    """What to quote at each of n decisions, on either side, at one of k distances; all whole numbers.

    At a decision each side takes the distance with the greatest value - chance * cost * inventory, inventory in units
    and with its sign turned for asks; none, where that is not above 0. Its price is then shifted by skew * inventory.

    Attributes:
        price: (n, 2, k): millionths of a tick, bids first.
        value: (n, 2, k): what the quote is worth, millionths of a tick a lot; 0 or less: not to be made.
        chance: (n, 2, k): probability of a fill, millionths.
        lots: (n, 2, k): how much.
        skew: (n,): millionths of a tick a unit of inventory.
        cost: (n,): what a unit of inventory costs, millionths of a tick.
    """

    price: Integers
    value: Integers
    chance: Integers
    lots: Integers
    skew: Integers
    cost: Integers

    @classmethod
    def empty(cls, count: int, distances: int = 1) -> Plan:
        """One that quotes nothing."""
        price, value, chance, lots = (np.zeros((count, 2, distances), np.int64) for _ in range(4))
        return cls(price, value, chance, lots, np.zeros(count, np.int64), np.zeros(count, np.int64))

    def check(self, terms: Terms) -> None:
        """
        Raises:
            PlanError: a product would not fit into 64 bits.
        """
        held = 2 * terms.most_lots + 1
        units = held // terms.unit_lots + 1
        great = {name: int(np.abs(getattr(self, name)).max(initial=0)) for name in ("skew", "cost", "price", "chance")}
        products = (
            great["skew"] * held,
            great["cost"] * held,
            great["chance"] * great["cost"] * units,
            great["price"] + great["skew"] * units,
        )
        if max(products) >= MOST:
            raise PlanError(
                "a quote's numbers are too great for whole numbers of 64 bits, as where the market jumps; "
                "lower risk_aversion or inventory in makers.yaml"
            )


@dataclass(frozen=True)
class Matched:
    """What became of a plan.

    Attributes:
        fills: (f, 6): at_ns, 1 bought or -1 sold, price in ticks, lots, decision, why.
        quotes: (n, 2, 3): what each decision asked for: price, lots, 1 where it was sent and 0 where it stood already.
        refused: orders that would have taken.
        sent: orders that arrived at the book.
        inventory: lots at the end.
    """

    fills: Integers
    quotes: Integers
    refused: int
    sent: int
    inventory: int


class Run:
    """A run along a track that may stop before any decision."""

    def __init__(self, track: Track, at: Integers, plan: Plan, terms: Terms) -> None:
        """One at the beginning.

        Args:
            track: the stream.
            at: when each decision is made, ascending nanoseconds, shape (n,).
            plan: for each; may be written up to the decision that it stops before.
            terms: of the quotes.
        """
        plan.check(terms)
        self._track, self._at, self._plan, self._terms = track, at, plan, terms
        self._clock = np.zeros(10, np.int64)
        self._clock[BEST_BID], self._clock[BEST_ASK] = -1, len(track.prices)
        self._book = np.zeros((2, len(track.prices)), np.int64)
        self._orders = np.zeros((2, 8), np.int64)
        self._asked = np.zeros((2, 2), np.int64)
        self._quotes = np.zeros((len(at), 2, 3), np.int64)
        self._fills = np.zeros((1024, 6), np.int64)

    @property
    def inventory(self) -> int:
        """Lots."""
        return int(self._clock[INVENTORY])

    def until(self, decision: int, loop: Callable[..., bool] | None = None) -> None:
        """Goes on until all is done that comes before a decision; the number of decisions: to the end."""
        plan, terms = self._plan, self._terms
        whole = (
            self._track.events, self._track.prices, self._at, plan.price, plan.value, plan.chance, plan.lots, plan.skew,
            plan.cost, terms.delay_ns, terms.settle_ns, terms.unit_lots, terms.least_lots, terms.most_lots, decision,
        )  # fmt: skip
        loop = loop or _run
        while not loop(*whole, self._clock, self._book, self._orders, self._asked, self._quotes, self._fills):
            self._fills = np.concatenate([self._fills, np.zeros_like(self._fills)])

    def matched(self) -> Matched:
        """What became of it so far."""
        clock = self._clock
        return Matched(
            self._fills[: clock[FILLS]].copy(), self._quotes, int(clock[REFUSED]), int(clock[PUT]), self.inventory
        )


def match(track: Track, at: Integers, plan: Plan, terms: Terms) -> Matched:
    """A whole run; see `Run`."""
    run = Run(track, at, plan, terms)
    run.until(len(at))
    return run.matched()


# The book -------------------------------------------------------------------------------------------------------------


@kernel
def put(book: Integers, best: Integers, side: int, rank: int, lots: int) -> None:
    """Sets a level; `best` has the rank of the best bid and ask, -1 and m where there is none."""
    book[side, rank] = lots
    many = book.shape[1]
    if side == 0:
        if lots > 0:
            best[0] = max(best[0], rank)
        elif rank == best[0]:
            while rank >= 0 and book[0, rank] == 0:
                rank -= 1
            best[0] = rank
    else:
        if lots > 0:
            best[1] = min(best[1], rank)
        elif rank == best[1]:
            while rank < many and book[1, rank] == 0:
                rank += 1
            best[1] = rank


@kernel
def shown(book: Integers, prices: Integers, side: int, price: int) -> int:
    """Lots at a price."""
    low, high = 0, len(prices)
    while low < high:
        middle = (low + high) // 2
        if prices[middle] < price:
            low = middle + 1
        else:
            high = middle
    if low < len(prices) and prices[low] == price:
        return book[side, low]
    return 0


@kernel
def change(what: int, rank: int, lots: int, book: Integers, best: Integers, stands: bool) -> bool:
    """What an event does to the book; whether it stands afterwards."""
    if what <= ASK:
        put(book, best, what - BID, rank, lots)
    elif what == STANDS:
        return True
    elif what == BEGIN:
        book[:] = 0
        best[0], best[1] = -1, book.shape[1]
        return False
    elif what == LOST:
        return False
    return stands


@kernel
def reaches(prices: Integers, best: Integers, side: int, price: int) -> bool:
    """Whether the best price of the other side is at a price of this one, or beyond."""
    if side == 0:
        return best[1] < len(prices) and prices[best[1]] <= price
    return best[0] >= 0 and prices[best[0]] >= price


# An order -------------------------------------------------------------------------------------------------------------


@kernel
def arrive(order: Integers, price: int, lots: int, queue: int, at: int, settle: int, owner: int) -> None:
    """An order stands behind a queue."""
    order[PRICE], order[LOTS], order[AHEAD], order[SHOWN] = price, lots, queue, queue
    order[SLOT_AT], order[SLOT], order[FROM], order[OWNER] = at, queue, at + settle, owner


@kernel
def see(order: Integers, lots: int, at: int, settle: int) -> None:
    """The book shows so many lots at its price."""
    if at - order[SLOT_AT] >= settle:
        order[SHOWN] = min(order[SHOWN], lots if settle == 0 else order[SLOT])
        order[SLOT_AT], order[SLOT] = at, lots


@kernel
def trade(order: Integers, sign: int, price: int, lots: int, at: int) -> tuple[int, int]:
    """A trade of its side; the lots of the order that it fills, and why."""
    if order[LOTS] == 0 or at < order[FROM] or sign * price > sign * order[PRICE]:
        return 0, QUEUE
    if price != order[PRICE]:
        filled = min(order[LOTS], lots)
        order[LOTS] -= filled
        return filled, THROUGH
    beyond = lots - min(order[AHEAD], order[SHOWN])
    order[AHEAD] = max(0, order[AHEAD] - lots)
    filled = min(order[LOTS], max(0, beyond))
    order[LOTS] -= filled
    return filled, QUEUE


# The run --------------------------------------------------------------------------------------------------------------


@kernel
def _filled(
    fills: Integers, clock: Integers, order: Integers, asked: Integers, at: int, side: int, lots: int, why: int
) -> None:
    k = clock[FILLS]
    fills[k, 0], fills[k, 1], fills[k, 2] = at, 1 - 2 * side, order[PRICE]
    fills[k, 3], fills[k, 4], fills[k, 5] = lots, order[OWNER], why
    clock[FILLS] = k + 1
    clock[INVENTORY] += (1 - 2 * side) * lots
    if order[LOTS] == 0 and asked[side, 1] == order[OWNER]:
        asked[side, 0] = 0


@kernel
def _choose(
    k: int, side: int, price: Integers, value: Integers, chance: Integers, lots: Integers, skew: Integers,
    cost: Integers, unit: int, least: int, most: int, inventory: int, bid: int, ask: int,
) -> tuple[int, int]:  # fmt: skip
    """Price and lots that a side asks for; 0 lots: nothing."""
    sign = 1 - 2 * side
    burden = cost[k] * (sign * inventory) // unit
    best, place = 0, -1
    for d in range(price.shape[2]):
        size = min(lots[k, side, d], most - sign * inventory)
        worth = value[k, side, d] - chance[k, side, d] * burden // MICRO
        if size >= least and worth > best:
            best, place = worth, d
    if place < 0:
        return 0, 0
    fine = price[k, side, place] - skew[k] * inventory // unit
    # A bid is rounded down and an ask up, and neither takes what is known of the other side.
    ticks = min(fine // MICRO, ask - 1) if side == 0 else max(-(-fine // MICRO), bid + 1)
    return (ticks, min(lots[k, side, place], most - sign * inventory)) if ticks > 0 else (0, 0)


@kernel
def _decide(
    j: int, prices: Integers, best: Integers, price: Integers, value: Integers, chance: Integers, lots: Integers,
    skew: Integers, cost: Integers, unit: int, least: int, most: int, clock: Integers, asked: Integers,
    quotes: Integers,
) -> None:  # fmt: skip
    """Writes down what a decision asks for."""
    is_known = clock[IN_SYNC] == 1 and best[0] >= 0 and best[1] < len(prices)
    for side in range(2):
        wanted, size = 0, 0
        if is_known:
            wanted, size = _choose(
                j, side, price, value, chance, lots, skew, cost, unit, least, most, clock[INVENTORY],
                prices[best[0]], prices[best[1]],
            )  # fmt: skip
        quotes[j, side, 0], quotes[j, side, 1] = wanted, size
        if wanted != asked[side, 0]:
            quotes[j, side, 2] = REPLACE
            asked[side, 0], asked[side, 1] = wanted, j


@kernel
def _act(
    k: int, at: int, settle: int, quotes: Integers, clock: Integers, best: Integers, book: Integers, prices: Integers,
    orders: Integers, asked: Integers,
) -> None:  # fmt: skip
    """What a decision asked for arrives."""
    for side in range(2):
        if quotes[k, side, 2] != REPLACE:
            continue
        orders[side, LOTS] = 0
        price, lots = quotes[k, side, 0], quotes[k, side, 1]
        if lots == 0:
            continue
        takes = clock[IN_SYNC] == 0 or best[0] < 0 or best[1] >= len(prices) or reaches(prices, best, side, price)
        if takes:
            clock[REFUSED] += 1
            if asked[side, 1] == k:
                asked[side, 0] = 0
        else:
            clock[PUT] += 1
            arrive(orders[side], price, lots, shown(book, prices, side, price), at, settle, k)


@kernel
def _stand(
    at: int, settle: int, fills: Integers, clock: Integers, best: Integers, book: Integers, prices: Integers,
    orders: Integers, asked: Integers,
) -> None:  # fmt: skip
    """The book stands: what it shows bounds the queues, and its best prices may reach an order."""
    for side in range(2):
        order = orders[side]
        if order[LOTS] == 0:
            continue
        see(order, shown(book, prices, side, order[PRICE]), at, settle)
        if at < order[FROM]:
            continue
        if reaches(prices, best, side, order[PRICE]):
            lots = order[LOTS]
            order[LOTS] = 0
            _filled(fills, clock, order, asked, at, side, lots, OPPOSITE)


@kernel
def _run(
    events: Integers, prices: Integers, at: Integers, price: Integers, value: Integers, chance: Integers,
    lots: Integers, skew: Integers, cost: Integers, delay: int, settle: int, unit: int, least: int, most: int,
    stop: int, clock: Integers, book: Integers, orders: Integers, asked: Integers, quotes: Integers, fills: Integers,
) -> bool:  # fmt: skip
    """Goes on until a decision; whether there was room for all fills."""
    best = clock[BEST_BID : BEST_ASK + 1]
    count, many = len(events), len(at)
    while clock[AT_EVENT] <= count:
        # An event fills each side once at most.
        if clock[FILLS] + 2 > len(fills):
            return False
        i = clock[AT_EVENT]
        now = events[i, 0] if i < count else NEVER
        while True:
            k, j = clock[ACTED], clock[DECIDED]
            acts = at[k] + delay if k < j else NEVER
            decides = at[j] if j < many else NEVER
            if acts >= now and decides >= now:
                break
            if acts <= decides:
                _act(k, acts, settle, quotes, clock, best, book, prices, orders, asked)
                clock[ACTED] = k + 1
                continue
            if j == stop:
                return True
            _decide(j, prices, best, price, value, chance, lots, skew, cost, unit, least, most, clock, asked, quotes)
            clock[DECIDED] = j + 1
        if i == count:
            break
        what, where, amount = events[i, 1], events[i, 2], events[i, 3]
        if what >= HIT:
            side = what - HIT
            filled, why = trade(orders[side], 1 - 2 * side, where, amount, now)
            if filled > 0:
                _filled(fills, clock, orders[side], asked, now, side, filled, why)
        else:
            clock[IN_SYNC] = change(what, where, amount, book, best, clock[IN_SYNC] == 1)
            if what == STANDS:
                _stand(now, settle, fills, clock, best, book, prices, orders, asked)
        clock[AT_EVENT] = i + 1
    return True
