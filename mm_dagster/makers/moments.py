"""What a maker knows at each decision, from nothing but what was told before; and where the price went afterwards."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers, kernel
from mm_dagster.books.book import BP
from mm_dagster.makers.matching import MICRO, change
from mm_dagster.makers.track import HIT, LIFT, SECOND_NS, STANDS, Track

FLOW_SECONDS = 5
"""Over which order flow imbalance and signed trades are summed."""
CALM_SECONDS = 60
"""Over which volatility is measured."""
LEVELS = 5
"""Best levels of a side that imbalance is over."""


@dataclass(frozen=True)
class Tops:
    """The best prices whenever the book stood, in order.

    Attributes:
        at: UTC nanoseconds, shape (m,).
        bid: ticks.
        ask: ticks.
        flow: order flow imbalance until then, lots, summed up.
    """

    at: Integers
    bid: Integers
    ask: Integers
    flow: Integers

    def before(self, at_ns: int) -> tuple[int, int]:
        """Best bid and ask as they stood last before a time; 0: none did."""
        place = int(np.searchsorted(self.at, at_ns)) - 1
        return (int(self.bid[place]), int(self.ask[place])) if place >= 0 else (0, 0)

    def twice_mid(self, at: Integers) -> Integers:
        """Best bid and ask added up, as they stood last at each time, ticks; 0: none stood before."""
        place = np.searchsorted(self.at, at, side="right") - 1
        return np.where(place >= 0, (self.bid + self.ask)[np.maximum(place, 0)], 0)


@dataclass(frozen=True)
class Moments:
    """What is known at n decisions.

    Attributes:
        at: UTC nanoseconds, shape (n,).
        known: whether the book stood, with both sides, and volatility can be told.
        bid: best bid, ticks; 0 where there is no book.
        ask: best ask, ticks.
        bid_lots: at the best bid.
        ask_lots: at the best ask.
        imbalance: (bids - asks) / (bids + asks) of the best levels.
        flow: order flow imbalance of the last seconds, lots.
        trades: bought less sold by aggressors in the last seconds, lots.
        volatility: of the mid, bp a root second.
        away: ticks of each of k distances from the best price of a side, shape (n, k).
        queue: (n, 2, k): lots between the best price and the one so far from it, both included.
        tops: the best prices over the whole track.
    """

    at: Integers
    known: Flags
    bid: Integers
    ask: Integers
    bid_lots: Integers
    ask_lots: Integers
    imbalance: Floats
    flow: Integers
    trades: Integers
    volatility: Floats
    away: Integers
    queue: Integers
    tops: Tops

    def between(self, start_ns: int, end_ns: int) -> Moments:
        """Those of the decisions in [start, end), which know what was before."""
        first, stop = np.searchsorted(self.at, [start_ns, end_ns])
        cut = {one.name: getattr(self, one.name)[first:stop] for one in fields(self) if one.name != "tops"}
        return Moments(**cut, tops=self.tops)

    @property
    def mid(self) -> Floats:
        """Ticks; 0 where there is no book."""
        return (self.bid + self.ask) / 2.0

    def prices(self) -> Integers:
        """The price at each distance, ticks, shape (n, 2, k)."""
        return np.stack([self.bid[:, None] - self.away, self.ask[:, None] + self.away], axis=1)

    def distance_bp(self) -> Floats:
        """Of each of these prices from the mid, basis points of it, shape (n, 2, k); NaN where there is no book."""
        mid = self.mid[:, None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.abs(self.prices() - mid) / np.where(mid > 0, mid, np.nan) / BP


def moments_of(track: Track, step_ns: int, distances_bp: tuple[float, ...]) -> Moments:
    """What is known at every step of a track.

    Args:
        track: the stream.
        step_ns: between two decisions; they are made at whole multiples of it.
        distances_bp: from the best price of a side at which a quote is thought of.
    """
    at = np.arange(-(-track.from_ns // step_ns) * step_ns, track.until_ns, step_ns, dtype=np.int64)
    events = track.events
    seen = np.zeros((len(at), 6), np.int64)
    tops = np.zeros((int((events[:, 1] == STANDS).sum()), 4), np.int64)
    away = np.zeros((len(at), len(distances_bp)), np.int64)
    queue = np.zeros((len(at), 2, len(distances_bp)), np.int64)
    micro = np.array([round(one * BP * MICRO) for one in distances_bp], dtype=np.int64)
    count = _look(events, track.prices, at, micro, LEVELS, seen, tops, away, queue)
    told = Tops(*(np.ascontiguousarray(column) for column in tops[:count].T))
    bid, ask, bids, asks = seen[:, 0], seen[:, 1], seen[:, 4], seen[:, 5]
    volatility = _volatility(told, at)
    with np.errstate(divide="ignore", invalid="ignore"):
        imbalance = np.where(bids + asks > 0, (bids - asks) / (bids + asks), 0.0)
    return Moments(
        at, (bid > 0) & np.isfinite(volatility), bid, ask, seen[:, 2], seen[:, 3], imbalance,
        _over(told.at, told.flow, at), _over(*_signed(events), at), volatility, away, queue, told,
    )  # fmt: skip


def _signed(events: Integers) -> tuple[Integers, Integers]:
    """When something was traded, and what was bought less sold until then."""
    traded = events[(events[:, 1] == HIT) | (events[:, 1] == LIFT)]
    return traded[:, 0], np.cumsum(np.where(traded[:, 1] == LIFT, traded[:, 3], -traded[:, 3]))


def _over(when: Integers, summed: Integers, at: Integers) -> Integers:
    """By how much a sum grew over the last seconds, in (at - FLOW_SECONDS, at]."""
    whole = np.concatenate([[0], summed])
    places = (np.searchsorted(when, times, side="right") for times in (at, at - FLOW_SECONDS * SECOND_NS))
    last, first = (whole[place] for place in places)
    return last - first


def _volatility(tops: Tops, at: Integers) -> Floats:
    """Root mean square of the mid's changes over the last whole seconds, bp; NaN where fewer than ten are known."""
    back = np.arange(CALM_SECONDS + 1, dtype=np.int64) * SECOND_NS
    mids = tops.twice_mid((at[:, None] - back[None, :]).ravel()).reshape(len(at), -1).astype(np.float64)
    mids[mids == 0] = np.nan
    changes = np.diff(mids, axis=1) / mids[:, 1:] / BP
    known = np.isfinite(changes)
    count = known.sum(axis=1)
    squares = np.where(known, changes, 0.0) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count >= 10, np.sqrt(squares.sum(axis=1) / count), np.nan)


@kernel
def _describe(
    j: int, book: Integers, best: Integers, prices: Integers, micro: Integers, levels: int, seen: Integers,
    away: Integers, queue: Integers,
) -> None:  # fmt: skip
    """Writes down a decision's book."""
    many = len(prices)
    seen[j, 0], seen[j, 1] = prices[best[0]], prices[best[1]]
    seen[j, 2], seen[j, 3] = book[0, best[0]], book[1, best[1]]
    mid = (seen[j, 0] + seen[j, 1]) // 2
    for d in range(len(micro)):
        away[j, d] = mid * micro[d] // MICRO
    for side in range(2):
        step = -1 if side == 0 else 1
        rank, count, so_far, d = best[side], 0, 0, 0
        while 0 <= rank < many and (d < len(micro) or count < levels):
            gap = abs(prices[rank] - seen[j, side])
            # All distances nearer than this level have what was summed before it.
            while d < len(micro):
                if away[j, d] >= gap:
                    break
                queue[j, side, d] = so_far
                d += 1
            lots = book[side, rank]
            if lots > 0:
                so_far += lots
                if count < levels:
                    seen[j, 4 + side] += lots
                    count += 1
            rank += step
        while d < len(micro):
            queue[j, side, d] = so_far
            d += 1


@kernel
def _flow(bid: int, bids: int, ask: int, asks: int, last: Integers) -> int:
    """Order flow imbalance of one change (Cont, Kukanov, Stoikov 2014)."""
    flow = 0
    if bid >= last[0]:
        flow += bids
    if bid <= last[0]:
        flow -= last[1]
    if ask <= last[2]:
        flow -= asks
    if ask >= last[2]:
        flow += last[3]
    return flow


@kernel
def _look(
    events: Integers, prices: Integers, at: Integers, micro: Integers, levels: int, seen: Integers, tops: Integers,
    away: Integers, queue: Integers,
) -> int:  # fmt: skip
    """Goes along a track and writes down what is known at each time; how often the book stood with both sides."""
    many, count = len(at), len(events)
    book, best = np.zeros((2, len(prices)), np.int64), np.array([-1, len(prices)])
    last = np.zeros(4, np.int64)
    stood, total, j = 0, 0, 0
    stands = False
    for i in range(count + 1):
        while j < many:
            if i < count and at[j] >= events[i, 0]:
                break
            if stands and best[0] >= 0 and best[1] < len(prices):
                _describe(j, book, best, prices, micro, levels, seen, away, queue)
            j += 1
        if i == count:
            break
        what = events[i, 1]
        if what >= HIT:
            continue
        stands = change(what, events[i, 2], events[i, 3], book, best, stands)
        if what != STANDS:
            last[0] = last[0] if stands else 0
        elif best[0] >= 0 and best[1] < len(prices):
            bid, ask = prices[best[0]], prices[best[1]]
            bids, asks = book[0, best[0]], book[1, best[1]]
            if last[0] > 0:
                total += _flow(bid, bids, ask, asks, last)
            last[0], last[1], last[2], last[3] = bid, bids, ask, asks
            tops[stood, 0], tops[stood, 1], tops[stood, 2], tops[stood, 3] = events[i, 0], bid, ask, total
            stood += 1
        else:
            last[0] = 0
    return stood
