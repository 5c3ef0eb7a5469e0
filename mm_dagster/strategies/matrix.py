"""The matrix: which strategy holds in which of eight scenarios, verdict by volatility, chosen on months before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.tables.words import VERDICTS

CELLS = tuple(f"{verdict}/{level}" for verdict in VERDICTS for level in ("low", "high"))
"""The scenarios by number."""
NOWHERE = -1
FLAT = -1
"""The strategy of a scenario in which none of them earned anything."""
LEAST_BARS = 96
"""Bars of all markets together that a scenario must have had, to have a strategy."""


def cells(verdict: Integers, sigma: Floats, split: float) -> Integers:
    """The scenario at each bar, shape (n,); NOWHERE where the verdict or the volatility is not known.

    Args:
        verdict: its place in VERDICTS, -1 where it is not known, shape (n,).
        sigma: forecast volatility, shape (n,).
        split: from where on it is high; of the months that the matrix is chosen on.
    """
    known = (verdict >= 0) & np.isfinite(sigma) & np.isfinite(split)
    return np.where(known, 2 * verdict + (np.nan_to_num(sigma) > split), NOWHERE)


def choose(found: Sequence[tuple[Integers, Floats, Flags]], strategies: int) -> Integers:
    """The strategy of each scenario: the one that earned most in it, costs included; FLAT where none earned anything.

    Args:
        found: of each market the scenario at each bar, shape (n,); what each strategy earned in the bar after it, shape
            (strategies, n); and which bars are chosen on, shape (n,).
        strategies: how many.

    Returns:
        Shape (8,), places of strategies.
    """
    sums, bars = np.zeros((strategies, len(CELLS))), np.zeros(len(CELLS), np.int64)
    for cell, earned, chosen_on in found:
        used = chosen_on & (cell >= 0)
        bars += np.bincount(cell[used], minlength=len(CELLS))
        for place in range(strategies):
            sums[place] += np.bincount(cell[used], weights=earned[place][used], minlength=len(CELLS))
    best = sums.argmax(axis=0)
    worthwhile = (sums.max(axis=0) > 0) & (bars >= LEAST_BARS)
    return np.where(worthwhile, best, FLAT)


def held(cell: Integers, positions: Floats, chosen: Integers) -> Floats:
    """The position of the matrix at each bar, shape (n,).

    Args:
        cell: the scenario at each bar, shape (n,).
        positions: of each strategy, shape (strategies, n).
        chosen: as of `choose`.
    """
    which = np.where(cell >= 0, chosen[np.maximum(cell, 0)], FLAT)
    return np.where(which >= 0, np.take_along_axis(positions, np.maximum(which, 0)[None], axis=0)[0], 0.0)
