"""How sure a figure is: grids, or the days of a series, drawn anew in blocks of weeks, and markets with them."""

from __future__ import annotations

import numpy as np

from mm_dagster.arrays import Floats, Integers

BLOCK_DAYS = 14
"""Grids opened within so many days share most of their lives, and are drawn together."""
LEAST_BLOCKS = 5
"""Fewer blocks of days give no interval: what is drawn anew would hardly differ, and look sure."""
LEAST_SHIFT_DAYS = 14
"""Nearer dates share the market of the grid whose exit is borrowed."""
DRAWS = 1_000
LEAST_MARKETS = 5
"""Fewer markets are not drawn: a handful says nothing of how others differ."""
SEED = 20_170_101
"""The intervals are the same each time."""
COVERAGE = 0.95
SHORTFALL = 0.05
"""The share of the worst whose mean is the expected shortfall."""


def draws(days: Integers, symbols: Integers, count: int = DRAWS) -> Floats:
    """How often each grid is drawn: the ones in the first row, a draw in each other.

    Blocks of BLOCK_DAYS are drawn with replacement, all markets together, since they move together; and so are the
    markets, from LEAST_MARKETS on (Owen 2007).

    Args:
        days: number of the day on which each grid was opened, shape (m,).
        symbols: number of its market, shape (m,).
        count: how many draws.

    Returns:
        Shape (1 + count, m).
    """
    generator = np.random.default_rng(SEED)
    weights = np.ones((1 + count, days.size))
    for group, least in ((days // BLOCK_DAYS, 1), (symbols, LEAST_MARKETS)):
        names, place = np.unique(group, return_inverse=True)
        if names.size >= least:
            times = generator.multinomial(names.size, np.full(names.size, 1.0 / names.size), size=count)
            weights[1:] *= times[:, place]
    return weights


def in_blocks(count: int, times: int = DRAWS) -> Integers:
    """Which days a series of days is made of: its own in the first row, drawn blocks of BLOCK_DAYS in each other.

    A block begins on any day, each as likely, and goes on from the last day to the first (Politis, Romano 1992), so
    that no day is drawn less than another.

    Args:
        count: how many days, at least one.
        times: how many draws.

    Returns:
        Places of days, shape (1 + times, count).
    """
    generator = np.random.default_rng(SEED)
    first = generator.integers(count, size=(times, -(-count // BLOCK_DAYS)))
    places = (first[:, :, None] + np.arange(BLOCK_DAYS)) % count
    return np.vstack([np.arange(count), places.reshape(times, -1)[:, :count]])


def enough(days: Integers, least: int = LEAST_BLOCKS) -> bool:
    """Whether there are blocks enough, `least` of them, for an interval that means something."""
    return bool(np.unique(days // BLOCK_DAYS).size >= least)


def interval(values: Floats) -> tuple[float, float]:
    """The percentile interval of a figure over draws that have one; NaN where none has."""
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1.0 - COVERAGE) / 2, (1.0 + COVERAGE) / 2])
    return float(low), float(high)


def mean(weights: Floats, values: Floats) -> Floats:
    """Weighted means of values, shape (draws,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights @ values) / weights.sum(axis=1)


def shortfall(weights: Floats, values: Floats) -> Floats:
    """Mean of the lowest SHORTFALL of the weight, the expected shortfall (Acerbi, Tasche 2002), shape (draws,)."""
    order = np.argsort(values, kind="stable")
    asked = SHORTFALL * weights.sum(axis=1, keepdims=True)
    # Only the worst are looked at: some more of them, until every draw has its share.
    many = min(order.size, max(1, round(4 * SHORTFALL * order.size)))
    while True:
        ordered = weights[:, order[:many]]
        up_to = np.cumsum(ordered, axis=1)
        if many == order.size or (up_to[:, -1:] >= asked).all():
            break
        many = min(order.size, 2 * many)
    taken = np.clip(asked - (up_to - ordered), 0.0, ordered)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (taken @ values[order[:many]]) / taken.sum(axis=1)
