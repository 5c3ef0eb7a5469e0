"""How good a probability was, from sums: its rank, its skill and its honesty. One definition for every evaluation.

Leading axes are draws: sums under many weightings give as many scores.
"""

from __future__ import annotations

import numpy as np

from mm_dagster.arrays import Floats


def auc(with_it: Floats, without: Floats) -> Floats:
    """Probability that a sample with the event was given more than one without, ties counted half.

    Mann and Whitney (1947). As long as twice the number of pairs is below 2^53, every sum is exact.

    Args:
        with_it: samples with the event by rank of the prediction, ascending, shape (..., ranks).
        without: likewise without it.

    Returns:
        Shape (...); NaN where one of the two kinds is missing.
    """
    below = np.cumsum(without, axis=-1) - without
    wins = (with_it * (below + without / 2)).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return wins / (with_it.sum(axis=-1) * without.sum(axis=-1))


def brier_skill(squares: Floats, happened: Floats, count: Floats) -> Floats:
    """1 - the Brier score (1950) over that of the base rate.

    Args:
        squares: sum of squared errors, shape (...).
        happened: samples with the event, same shape.
        count: samples, same shape.

    Returns:
        Shape (...); not finite where nothing or everything happened.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        base = happened / count
        return 1.0 - squares / count / (base * (1.0 - base))


def expected_calibration_error(predicted: Floats, happened: Floats, count: Floats) -> Floats:
    """Mean over samples of their bin's distance between predicted and observed (Naeini et al. 2015).

    Chance alone keeps it above 0.

    Args:
        predicted: sum of predictions by bin, shape (..., bins).
        happened: samples with the event by bin, same shape.
        count: samples in all, shape (...).

    Returns:
        Shape (...); NaN without samples.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(predicted - happened).sum(axis=-1) / count
