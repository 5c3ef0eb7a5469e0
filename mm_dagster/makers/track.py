"""A tape as one stream that a kernel runs along: changes of the book and trades in the order of receipt.

A level is told by its rank among all prices of the stream, so that a book is two flat arrays. Of a trade and a change
with the same time the trade comes first: it is what was told earlier that an order must not profit from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Integers
from mm_dagster.books.follow import BookMarket
from mm_dagster.books.tape import Op, Tape
from mm_dagster.errors import ForeseenError

BID, ASK, BEGIN, FAR_BID, FAR_ASK, STANDS, LOST = (int(op) for op in Op)
HIT, LIFT = 7, 8
"""Trades: a resting bid was hit, a resting ask lifted. Their price is in ticks, not a rank."""
SECOND_NS = 1_000_000_000


class TrackError(ForeseenError):
    """There is nothing on a tape that a maker could quote on; one line."""


@dataclass(frozen=True)
class Track:
    """A tape, ready to be run along.

    Attributes:
        market: whose.
        events: (n, 4): at_ns, what, rank or price, lots; times never fall.
        prices: (m,): the price of each rank, ticks, ascending.
        from_ns: from when on it tells of the market.
        until_ns: until when.
    """

    market: BookMarket
    events: Integers
    prices: Integers
    from_ns: int
    until_ns: int

    @property
    def unit(self) -> int:
        """How many ticks times lots one of the quote currency has."""
        return int(10 ** (self.market.scale.price_decimals + self.market.scale.amount_decimals))


def track_of(tape: Tape) -> Track:
    """The stream of a tape.

    Raises:
        TrackError: the book was never in sync, or nothing was traded.
    """
    rows, trades = tape.rows, tape.trades
    if not (rows[:, 1] == STANDS).any():
        raise TrackError(f"{tape.market.exchange}:{tape.market.symbol}: its book was never in sync")
    if not len(trades):
        raise TrackError(f"{tape.market.exchange}:{tape.market.symbol}: no trade is on its tape")
    is_level = (rows[:, 1] == BID) | (rows[:, 1] == ASK)
    prices, ranks = np.unique(rows[is_level, 2], return_inverse=True)
    told = rows.copy()
    told[is_level, 2] = ranks
    traded = trades.copy()
    traded[:, 1] = np.where(trades[:, 3] == 1, HIT, LIFT)
    traded[:, 2], traded[:, 3] = trades[:, 1], trades[:, 2]
    together = np.concatenate([traded, told])
    events = np.ascontiguousarray(together[np.argsort(together[:, 0], kind="stable")])
    return Track(tape.market, events, prices, tape.from_ns, tape.until_ns)


def cut(track: Track, start_ns: int, end_ns: int) -> Track:
    """The part of a track in [start, end), with the book that stood at its beginning.

    Raises:
        TrackError: there is no event in it.
    """
    first, stop = np.searchsorted(track.events[:, 0], [start_ns, end_ns])
    if first == stop:
        raise TrackError(f"{track.market.exchange}:{track.market.symbol}: nothing was told in a stretch")
    before = _standing(track.events[:first], start_ns)
    events = np.concatenate([before, track.events[first:stop]])
    return Track(track.market, events, track.prices, max(start_ns, track.from_ns), min(end_ns, track.until_ns))


def _standing(events: Integers, at_ns: int) -> Integers:
    """The rows that make the book which some events leave behind, at one time; none: it is not in sync."""
    kinds = events[:, 1]
    ended = np.flatnonzero((kinds == STANDS) | (kinds == LOST))
    if not len(ended) or kinds[ended[-1]] == LOST:
        return np.zeros((0, 4), np.int64)
    begins = np.flatnonzero(kinds == BEGIN)
    rows = events[begins[-1] if len(begins) else 0 :][:, 1:]
    rows = rows[rows[:, 0] <= FAR_ASK]
    levels = rows[rows[:, 0] <= ASK]
    # The last word on each level and side: np.unique finds the first one of what is turned around.
    _, place = np.unique(2 * levels[::-1, 1] + levels[::-1, 0], return_index=True)
    last = levels[::-1][place]
    last = last[last[:, 2] > 0]
    far = [rows[rows[:, 0] == kind][-1:] for kind in (FAR_BID, FAR_ASK)]
    told = np.concatenate([[[BEGIN, 0, 0]], last, *far, [[STANDS, 0, 0]]])
    return np.column_stack([np.full(len(told), at_ns), told]).astype(np.int64)
