"""Which of two markets moves first, and by how much: Hoffmann, Rosenbaum and Yoshida (2013).

The contrast of a lag is the Hayashi-Yoshida covariance of one mid with the other one shifted by it: the sum of the
products of all moves whose times overlap, so that nothing has to be sampled. The lag is where it is greatest. A lead
that is there in one half of the window and gone in the other is chance: both halves are told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mm_dagster.arrays import Floats, Integers, kernel
from mm_dagster.books.kernel import walk
from mm_dagster.books.tape import Tape

MS = 1_000_000
MOST_MS = 1000
"""Farthest lag, both ways."""
GRID_MS = 10
LEAST_MOVES = 50
"""Of each market, in each half of a window."""


@dataclass(frozen=True)
class Mids:
    """A mid over time.

    Attributes:
        at_ns: (n,): when it was seen, UTC nanoseconds, ascending.
        level: (n,): the sum of its moves, half ticks: what it did while nobody saw it is not in it.
        since_ns: (n,): from when on it may have moved to it: when it was seen before.
    """

    at_ns: Integers
    level: Integers
    since_ns: Integers

    @property
    def moves(self) -> Integers:
        """(n,): each move, half ticks; 0 of the first."""
        return np.diff(self.level, prepend=self.level[:1])


def mids_of(tape: Tape, start_ns: int, end_ns: int) -> Mids:
    """The mid of a market within a window, while its book was in sync.

    It is that of the venue's best quotes, which come at once; where there are none, that of the book, whose changes
    some venues gather before they send them.
    """
    first, stop = np.searchsorted(tape.quotes[:, 0], [start_ns, end_ns])
    quotes = tape.quotes[first:stop]
    if len(quotes):
        at_ns, bid, ask = quotes[:, 0], quotes[:, 2], quotes[:, 4]
        # The span that a time is in, by its place; between two of them the market is not seen.
        span = np.searchsorted(tape.spans.reshape(-1), at_ns, side="right")
        seen = (span % 2 == 1) & (bid > 0) & (ask > 0)
        at_ns, twice_mid, piece = at_ns[seen], (bid + ask)[seen], span[seen]
    else:
        steps = walk(tape, start_ns, end_ns, 1).steps
        seen = (steps[:, 1] > 0) & (steps[:, 2] > 0)
        piece = np.cumsum(~seen)[seen]
        at_ns, twice_mid = steps[seen, 0], steps[seen, 1] + steps[seen, 2]
    # Of several at the same time the last one holds.
    last = np.diff(at_ns, append=end_ns) > 0
    at_ns, twice_mid, piece = at_ns[last], twice_mid[last], piece[last]
    moves = np.diff(twice_mid, prepend=twice_mid[:1])
    moves[1:][np.diff(piece) != 0] = 0
    return Mids(at_ns, np.cumsum(moves), np.concatenate([at_ns[:1], at_ns[:-1]]))


def lead(spot: Tape, perpetual: Tape, start_ns: int, end_ns: int) -> dict[str, Any]:
    """The lead of a perpetual over its spot market in a window.

    Args:
        spot: its log.
        perpetual: of the perpetual, by the same clock.
        start_ns: beginning of the window, UTC nanoseconds.
        end_ns: its end.

    Returns:
        lead_ms: above 0 the perpetual is first. lead_corr: the correlation at this lag; times that do not fit
        together may bring it above 1. lead_first_ms and lead_second_ms: the lead in the halves. None where one of the
        markets moved less than `LEAST_MOVES` times in one of the halves that it is of.
    """
    here, there = mids_of(spot, start_ns, end_ns), mids_of(perpetual, start_ns, end_ns)
    middle_ns = start_ns + (end_ns - start_ns) // 2
    is_first = [series.at_ns < middle_ns for series in (here, there)]
    halves = [
        _peak(*(_only(one, flags if half == 0 else ~flags) for one, flags in zip((here, there), is_first, strict=True)))
        for half in (0, 1)
    ]
    whole = _peak(here, there) if all(halves) else None
    return {
        "lead_ms": whole and whole[0],
        "lead_corr": whole and whole[1],
        "lead_first_ms": halves[0] and halves[0][0],
        "lead_second_ms": halves[1] and halves[1][0],
    }


def _only(series: Mids, flags: Any) -> Mids:
    return Mids(series.at_ns[flags], series.level[flags], series.since_ns[flags])


def _peak(here: Mids, there: Mids) -> tuple[float, float] | None:
    """The lag where the contrast is greatest, ms, and the correlation there; None: too few moves."""
    moves = [series.moves for series in (here, there)]
    if any(np.count_nonzero(one) < LEAST_MOVES for one in moves):
        return None
    lags = np.arange(-MOST_MS, MOST_MS + 1, GRID_MS, dtype=np.int64)
    contrast = contrasts(here, there, lags * MS)
    norm = math.sqrt(math.fsum((moves[0].astype(float) ** 2).tolist()))
    norm *= math.sqrt(math.fsum((moves[1].astype(float) ** 2).tolist()))
    # Of equals the one nearest to no lag at all.
    value, lag = max(zip(contrast.tolist(), lags.tolist(), strict=True), key=lambda one: (abs(one[0]), -abs(one[1])))
    return (float(lag), value / norm) if value else None


def contrasts(here: Mids, there: Mids, lags_ns: Integers | Sequence[int]) -> Floats:
    """The contrast at each lag by which the second market is first; half ticks of one times those of the other."""
    places = np.flatnonzero(here.moves)
    return _contrasts(
        here.since_ns[places], here.at_ns[places], here.moves[places].astype(np.float64), there.at_ns,
        there.level.astype(np.float64), np.asarray(lags_ns, dtype=np.int64),
    )  # fmt: skip


@kernel
def _contrasts(since: Integers, at: Integers, moves: Floats, times: Integers, levels: Floats, lags: Integers) -> Floats:
    """Sum of each move of one times all moves of the other whose span, shifted, overlaps with its own (since, at]."""
    found = np.zeros(len(lags))
    count = len(times)
    for k in range(len(lags)):
        lag, low, high, total = lags[k], 0, 0, 0.0
        for i in range(len(at)):
            # The last time that is not after the beginning: the span that ends with the next one overlaps.
            while low + 1 < count and times[low + 1] + lag <= since[i]:
                low += 1
            # The first time that is not before the end: the span that ends there is the last to overlap.
            while high + 1 < count and times[high] + lag < at[i]:
                high += 1
            if high > low:
                total += moves[i] * (levels[high] - levels[low])
        found[k] = total
    return found
