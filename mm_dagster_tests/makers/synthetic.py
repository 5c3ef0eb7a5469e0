"""A market that is made up: a book whose next move may be leaked, and whose trades know nothing."""

from __future__ import annotations

import numpy as np

from mm_dagster.arrays import Integers
from mm_dagster.books.follow import BookMarket
from mm_dagster.books.ladder import Scale
from mm_dagster.books.tape import Op, Tape

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS
PRICE = 10_000
"""Ticks, so that one is a basis point."""
LEVELS = 5


def market(seed: int, seconds: int, leaks: bool, half_spread: int = 1, move: int = 3) -> Tape:
    """A tape of some seconds.

    Twice a second the book is told anew. Every other second or so its mid moves up or down by so many ticks, each as
    likely; four trades a second hit or lift the best price, each as likely, whatever comes.

    Args:
        seed: of chance.
        seconds: how many.
        leaks: the best level is deeper on the side from which the next move goes away; else depth says nothing.
        half_spread: ticks.
        move: ticks.
    """
    chance = np.random.default_rng(seed)
    count = 2 * seconds
    moves = np.where(chance.random(count) < 0.25, chance.choice([-move, move], count), 0)
    mid = PRICE + np.cumsum(moves)
    coming = np.zeros(count, np.int64)
    for i in range(count - 2, -1, -1):
        coming[i] = moves[i + 1] if moves[i + 1] else coming[i + 1]
    lots = chance.integers(20, 60, (count, 2, LEVELS))
    if leaks:
        lots[:, 0, 0] += 200 * (coming > 0)
        lots[:, 1, 0] += 200 * (coming < 0)
    # Not at the very moments at which anybody decides.
    at = START_NS + np.arange(count) * (SECOND_NS // 2) + chance.integers(1, SECOND_NS // 10, count)
    place = np.sort(chance.integers(0, count - 1, 4 * seconds))
    traded_at = at[place] + chance.integers(SECOND_NS // 10, SECOND_NS // 3, place.size)
    hits = chance.integers(0, 2, place.size)
    price = np.where(hits == 1, mid[place] - half_spread, mid[place] + half_spread)
    trades = np.column_stack([traded_at, price, chance.integers(20, 120, place.size), hits])
    trades = trades[np.argsort(trades[:, 0], kind="stable")]
    until = int(at[-1])
    none = np.zeros((0, 6), np.int64)
    symbol = BookMarket("simulated", "NOISE-USDT", Scale(2, 2), LEVELS)
    return Tape(
        symbol, START_NS, until, _rows(at, mid, lots, half_spread), at, trades[trades[:, 0] < until], none,
        none[:, :5], np.array([[START_NS, until]]), (), 0, 0, 0,
    )  # fmt: skip


def _rows(at: Integers, mid: Integers, lots: Integers, half_spread: int) -> Integers:
    """The whole book each time."""
    rows = np.zeros((at.size, 2 + 2 * LEVELS, 4), np.int64)
    rows[:, :, 0] = at[:, None]
    rows[:, 0, 1], rows[:, -1, 1], rows[:, -1, 3] = Op.BEGIN, Op.STANDS, 1
    for side, sign in ((0, -1), (1, 1)):
        for level in range(LEVELS):
            row = rows[:, 1 + side * LEVELS + level]
            row[:, 1] = Op.BID if side == 0 else Op.ASK
            row[:, 2] = mid + sign * (half_spread + level)
            row[:, 3] = lots[:, side, level]
    return rows.reshape(-1, 4)
