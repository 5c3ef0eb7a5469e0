"""What would have become of a lot at every distance at every decision: what fills are learned from.

Each probe is an order of one lot by the rules of `matching`, left alone for a while; thousands at once, as none is in
the way of another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers, kernel
from mm_dagster.books.book import BP
from mm_dagster.makers.matching import FROM, LOTS, PRICE, Terms, arrive, change, reaches, see, shown, trade
from mm_dagster.makers.moments import Moments
from mm_dagster.makers.track import HIT, SECOND_NS, STANDS, Track

HORIZON_SECONDS = 5
"""A probe waits so long, and so long after its fill its mark-out is taken."""
REFUSED = -1


@dataclass(frozen=True)
class Probes:
    """What became of the probes, shape (n, 2, k) each.

    Attributes:
        known: whether it can be told: the book stood, the order was not refused, and the tape goes on long enough.
        filled: whether it was filled within HORIZON_SECONDS.
        markout: what a lot was worth HORIZON_SECONDS after its fill at the mid, against its price, bp of it; NaN where
            it was not filled.
    """

    known: Flags
    filled: Flags
    markout: Floats


def probe(track: Track, moments: Moments, terms: Terms) -> Probes:
    """Probes at every decision and distance of some moments."""
    horizon = HORIZON_SECONDS * SECOND_NS
    prices = moments.prices()
    filled_at = np.zeros(prices.shape, np.int64)
    _probe(
        track.events, track.prices, moments.at, np.ascontiguousarray(prices), moments.known, terms.delay_ns,
        terms.settle_ns, horizon, filled_at,
    )  # fmt: skip
    ends = moments.at + terms.delay_ns + 2 * horizon <= track.until_ns
    known = (moments.known & ends)[:, None, None] & (filled_at != REFUSED)
    filled = known & (filled_at > 0)
    after = moments.tops.twice_mid((filled_at + horizon).ravel()).reshape(prices.shape) / 2.0
    sign = np.array([1.0, -1.0])[None, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        markout = np.where(filled & (after > 0), sign * (after - prices) / prices / BP, np.nan)
    return Probes(known, filled & np.isfinite(markout), markout)


@kernel
def _put(
    at: int, settle: int, known: bool, wanted: Integers, prices: Integers, book: Integers, best: Integers,
    orders: Integers, filled_at: Integers,
) -> None:  # fmt: skip
    """The probes of a decision arrive; shapes (2, k)."""
    both = known and best[0] >= 0 and best[1] < len(prices)
    for side in range(2):
        for d in range(wanted.shape[1]):
            price = wanted[side, d]
            if not both or reaches(prices, best, side, price):
                filled_at[side, d] = REFUSED
            else:
                arrive(orders[side, d], price, 1, shown(book, prices, side, price), at, settle, 0)


@kernel
def _stand(
    now: int, settle: int, prices: Integers, book: Integers, best: Integers, orders: Integers, filled_at: Integers
) -> None:
    """The book stands, for the probes of a decision."""
    for side in range(2):
        for d in range(orders.shape[1]):
            order = orders[side, d]
            if order[LOTS] == 0:
                continue
            see(order, shown(book, prices, side, order[PRICE]), now, settle)
            if now >= order[FROM] and reaches(prices, best, side, order[PRICE]):
                order[LOTS] = 0
                filled_at[side, d] = now


@kernel
def _probe(
    events: Integers, prices: Integers, at: Integers, wanted: Integers, known: Flags, delay: int, settle: int,
    horizon: int, filled_at: Integers,
) -> None:  # fmt: skip
    """Writes when each probe was filled; 0: not, REFUSED: it never stood."""
    many, many_away = len(at), wanted.shape[2]
    orders = np.zeros((many, 2, many_away, 8), np.int64)
    book, best = np.zeros((2, len(prices)), np.int64), np.array([-1, len(prices)])
    stands = False
    first, arrived = 0, 0
    for i in range(len(events)):
        now, what = events[i, 0], events[i, 1]
        while arrived < many:
            if at[arrived] + delay >= now:
                break
            of, there = known[arrived] and stands, at[arrived] + delay
            _put(there, settle, of, wanted[arrived], prices, book, best, orders[arrived], filled_at[arrived])
            arrived += 1
        while first < arrived:
            if at[first] + delay + horizon >= now:
                break
            first += 1
        if what >= HIT:
            side = what - HIT
            for k in range(first, arrived):
                for d in range(many_away):
                    if trade(orders[k, side, d], 1 - 2 * side, events[i, 2], events[i, 3], now)[0] > 0:
                        filled_at[k, side, d] = now
            continue
        stands = change(what, events[i, 2], events[i, 3], book, best, stands)
        if what == STANDS:
            for k in range(first, arrived):
                _stand(now, settle, prices, book, best, orders[k], filled_at[k])
