"""How good a probability is: does it rank, is it honest, and does it know more than where the price stands?

Every figure is a function of sums over grids, so that a bootstrap weighs the grids anew and never touches the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_dagster.arrays import Flags, Floats, Integers, natural_log
from mm_dagster.bars import DAY_BARS, HOUR_BARS
from mm_dagster.evaluation import scores
from mm_dagster.evaluation.cohort import Cohort

HORIZON = DAY_BARS
"""The event is a break below within so many bars."""
RANKS = 500
"""For the bootstrap of the AUC, predictions are told apart as far as so many quantiles."""
CALIBRATION_BINS = 10
POSITION_BINS = 20
_LEAST = 1e-6
"""No probability is taken to be nearer to 0 or 1: the logarithm of a sure error is infinite."""


@dataclass(frozen=True)
class Samples:
    """Predictions every hour of a grid's life, and what happened; each of shape (n,).

    Attributes:
        grid: which grid, shape (n,).
        predicted: probability.
        happened: whether the event followed.
        position: where the price stood between the bounds, 0 the lower, 1 the upper.
        fold: 0 or 1: which half of the data a sample belongs to.
    """

    grid: Integers
    predicted: Floats
    happened: Flags
    position: Floats
    fold: Integers


def outcome(cohort: Cohort, stride: int) -> tuple[Flags, Flags]:
    """Whether a break below came within HORIZON, and whether that may be asked, shape (m, n) each.

    It is asked every so many bars while a grid lives and its HORIZON is wholly known, whatever came: near the end of a
    life those with the event alone would be counted.

    Args:
        cohort: the grids.
        stride: bars from one question to the next.
    """
    column = np.arange(cohort.close.shape[1])
    happened = cohort.broken_low[:, None] <= column + HORIZON
    known = column + HORIZON <= cohort.last[:, None]
    return happened, known & (column < cohort.over[:, None]) & (column % stride == 0)


def sample(probability: Floats, cohort: Cohort, fold: Integers) -> Samples:
    """Samples every 4th bar while a grid lives; those whose HORIZON is not wholly known are left out.

    Args:
        probability: of a break below, shape (m, n).
        cohort: the grids.
        fold: of each grid, shape (m,).
    """
    happened, known = outcome(cohort, HOUR_BARS)
    used = known & ~np.isnan(probability) & ~np.isnan(cohort.close)
    lower, upper = (np.array([[getattr(grid, name)] for grid in cohort.grids]) for name in ("lower", "upper"))
    rows, _ = np.nonzero(used)
    return Samples(
        grid=rows,
        predicted=probability[used],
        happened=happened[used],
        position=((cohort.close - lower) / (upper - lower))[used],
        fold=fold[rows],
    )


def pooled(parts: Sequence[Samples], sizes: Sequence[int]) -> Samples:
    """Samples of several cohorts as one; the grids are counted on.

    Args:
        parts: of each cohort.
        sizes: how many grids each has.
    """
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Samples(
        grid=np.concatenate([part.grid + offset for part, offset in zip(parts, offsets, strict=False)]),
        predicted=np.concatenate([part.predicted for part in parts]),
        happened=np.concatenate([part.happened for part in parts]),
        position=np.concatenate([part.position for part in parts]),
        fold=np.concatenate([part.fold for part in parts]),
    )


def of_position(samples: Samples) -> Floats:
    """The break probability that the position alone gives: the share of breaks in its bin, in the other half.

    It is told the base rate of the very days that it is judged on, which the measured probability is not.
    """
    edges = np.quantile(samples.position, np.linspace(0, 1, POSITION_BINS + 1)[1:-1])
    place = np.searchsorted(edges, samples.position, side="right")
    predicted = np.empty(samples.position.size)
    for half in (0, 1):
        other = samples.fold != half
        count = np.bincount(place[other], minlength=POSITION_BINS)
        broke = np.bincount(place[other & samples.happened], minlength=POSITION_BINS)
        # One break and one survival are added, so that an empty bin says nothing and none is sure.
        predicted[~other] = ((broke + 1.0) / (count + 2.0))[place[~other]]
    return predicted


@dataclass(frozen=True)
class Sums:
    """What every figure needs of each grid; first axis: grids.

    Attributes:
        count: samples, shape (m,).
        happened: of them with the event, shape (m,).
        squares: sum of squared errors, shape (m,).
        gain: sum of what the log loss is less than the position's, shape (m,).
        with_it: samples with the event by rank of the prediction, shape (m, ranks).
        without: likewise without it.
        predicted_in: sum of predictions by calibration bin, shape (m, bins).
        happened_in: events by calibration bin, shape (m, bins).
    """

    count: Floats
    happened: Floats
    squares: Floats
    gain: Floats
    with_it: Floats
    without: Floats
    predicted_in: Floats
    happened_in: Floats


def summarise(samples: Samples, grids: int, ranks: int = RANKS) -> Sums:
    """Sums over the samples of each grid.

    Args:
        samples: of all grids.
        grids: how many there are.
        ranks: how many quantiles of the prediction are told apart.
    """
    p, y, of = samples.predicted, samples.happened, samples.grid
    edges = np.unique(np.quantile(p, np.linspace(0, 1, ranks + 1)[1:-1])) if p.size else np.empty(0)
    rank = np.searchsorted(edges, p, side="right")
    bins = calibration_bin(p)

    def by(place: Integers, size: int, weights: Floats | None = None) -> Floats:
        cells = np.bincount(of * size + place, weights, minlength=grids * size)
        return cells.reshape(grids, size).astype(np.float64)

    def total(weights: npt.NDArray[np.generic] | None = None) -> Floats:
        return np.bincount(of, weights, minlength=grids).astype(np.float64)

    positive = y.astype(np.float64)
    with_it = by(rank, edges.size + 1, positive)
    return Sums(
        count=total(),
        happened=total(positive),
        squares=total((p - positive) ** 2),
        gain=total(log_loss(of_position(samples), y) - log_loss(p, y)),
        with_it=with_it,
        without=by(rank, edges.size + 1) - with_it,
        predicted_in=by(bins, CALIBRATION_BINS, p),
        happened_in=by(bins, CALIBRATION_BINS, positive),
    )


def calibration_bin(predicted: Floats) -> Integers:
    """Which of CALIBRATION_BINS, all of one width, holds each prediction, shape (n,); the last holds 1 as well."""
    return np.minimum((predicted * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def log_loss(predicted: Floats, happened: Flags) -> Floats:
    """Minus the logarithm of the probability given to what happened, nats, shape (n,)."""
    given = np.where(happened, predicted, 1.0 - predicted)
    return -natural_log(np.clip(given, _LEAST, 1.0))


def figures(sums: Sums, weights: Floats) -> dict[str, Floats]:
    """The figures under each weighting of the grids.

    Args:
        sums: of each grid.
        weights: shape (draws, m).

    Returns:
        Each of shape (draws,), not finite where there is nothing to judge: `base_rate`; `auc`, `brier_skill` and
        `ece` as `scores` has them; `log_loss_gain` over the position alone, nats a sample.
    """
    count, happened = weights @ sums.count, weights @ sums.happened
    with_it, without = weights @ sums.with_it, weights @ sums.without
    predicted_in, happened_in = weights @ sums.predicted_in, weights @ sums.happened_in
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "auc": scores.auc(with_it, without),
            "brier_skill": scores.brier_skill(weights @ sums.squares, happened, count),
            "ece": scores.expected_calibration_error(predicted_in, happened_in, count),
            "log_loss_gain": (weights @ sums.gain) / count,
            "base_rate": happened / count,
        }
