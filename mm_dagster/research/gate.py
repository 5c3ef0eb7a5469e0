"""The promotion gate: does a piece of information know more, out of sample, than the break probability alone?

Three questions (METHOD, section 5). Does a small model of the probability and the candidate lose less than one of the
probability alone? Where the candidate fires, do more grids break than that probability says? And does it look
different on the placebo, the same market with random signs? What passes all may decide by itself.

Both models are logistic regressions, fitted on the past alone (walk-forward). They are solved here, by iteratively
reweighted least squares: a dozen columns need no more, and the evaluation runs where only what decides is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers, natural_log
from mm_dagster.evaluation import resample
from mm_dagster.evaluation.probability import log_loss

GAP_DAYS = 15
"""Grids opened so many days before a test are not fitted: their lives, of 14 days, and the day after may reach it."""
TEST_DAYS = 28
"""The models are fitted anew after so many days."""
FIRES = 0.2
"""A candidate that is not a flag fires in the outer fifth of its values."""
_SURE = 1e-3
"""No probability is taken to be nearer to 0 or 1."""
_LEAST_RIDGE = 1e-3
"""On all others, so that a solution exists whatever the samples."""
_STEPS = 12
"""Of Newton's method; half of them do."""
_SURE_ODDS = 30.0
"""Log odds beyond which nothing changes."""
_FAR = 3.0
"""Nor any value farther from the median than so many (normal) standard deviations."""
_RIDGE = 100.0
"""Penalty on the squared coefficients of a candidate, in samples: those of one grid and of the grids beside it, up to a
hundred, tell one story."""


@dataclass(frozen=True)
class Fold:
    """One step of the walk: what is fitted, what is tested, and what the probability alone says of both.

    Attributes:
        fit: places of the samples, shape (a,).
        test: likewise, shape (b,).
        base: columns of the model without the candidate, of all samples that are fitted or tested, shape (a + b, c).
        coefficients: of that model, shape (c,).
        expected: break probability by it, shape (a + b,).
    """

    fit: Integers
    test: Integers
    base: Floats
    coefficients: Floats
    expected: Floats


@dataclass(frozen=True)
class Walk:
    """The walk over n samples of m grids, with everything that does not depend on the candidate.

    Attributes:
        grid: which grid each sample is of, shape (n,).
        happened: whether it broke, shape (n,).
        folds: the steps; together they test the second half of the days.
        weights: how often each grid is drawn, shape (1 + draws, m).
    """

    grid: Integers
    happened: Flags
    folds: tuple[Fold, ...]
    weights: Floats


@dataclass(frozen=True)
class Gain:
    """What a candidate adds; the first draw is the data as they are, shape (1 + draws,) each.

    Attributes:
        log_loss: by which the loss of the model with the candidate is lower, nats a sample.
        lift: share of breaks where the candidate fires over the share that the probability alone expects there.
        fired: share of the tested samples at which it fires.
        tested: how many there are.
        expected: breaks that the probability alone expects where it fires.
    """

    log_loss: Floats
    lift: Floats
    fired: float
    tested: int
    expected: float

    @property
    def promising(self) -> bool:
        """Whether both lower bounds are beyond what knows nothing."""
        return resample.interval(self.log_loss[1:])[0] > 0 and resample.interval(self.lift[1:])[0] > 1

    def beats(self, placebo: Gain) -> bool:
        """Whether it adds more than the same candidate does on the placebo, where no direction can be foreseen.

        What tells of volatility alone adds as much there. Both are drawn by the same blocks and markets, so that the
        draws are compared one by one.
        """
        return resample.interval((self.log_loss - placebo.log_loss)[1:])[0] > 0


def walk(grid: Integers, predicted: Floats, happened: Flags, day: Integers, symbol: Integers) -> Walk:
    """Prepares the walk: an expanding window, GAP_DAYS, then TEST_DAYS, over the second half of the days.

    The probability enters as a bent line in its log odds, so that a candidate gains nothing by correcting its shape.

    Args:
        grid: which grid each sample is of, shape (n,).
        predicted: break probability, shape (n,).
        happened: whether the grid broke, shape (n,).
        day: number of the day on which each grid was opened, shape (m,).
        symbol: number of its market, shape (m,).
    """
    sample_day = day[grid]
    odds = _log_odds(predicted)
    first, last = int(day.min()), int(day.max())
    folds = []
    for start in range(first + (last - first + 1) // 2, last + 1, TEST_DAYS):
        fit = np.flatnonzero(sample_day < start - GAP_DAYS)
        test = np.flatnonzero((sample_day >= start) & (sample_day < start + TEST_DAYS))
        if not test.size or np.unique(happened[fit]).size < 2:
            continue
        bends = np.quantile(odds[fit], (1 / 3, 2 / 3))
        both = odds[np.concatenate([fit, test])]
        base = np.column_stack([np.ones(both.size), both, *(np.maximum(both - bend, 0.0) for bend in bends)])
        coefficients = _fit(base[: fit.size], happened[fit], np.zeros(base.shape[1]), base.shape[1])
        folds.append(Fold(fit, test, base, coefficients, _logistic(base @ coefficients)))
    return Walk(grid, happened, tuple(folds), resample.draws(day - first, symbol))


def measure(steps: Walk, candidate: Floats) -> Gain:
    """What a candidate adds to the probability.

    It enters by its size, by the size of its distance from the median, and by its product with the log odds. It fires
    on the side on which more grids broke than expected while it was fitted. Where it is unknown it says nothing.

    Args:
        steps: the walk.
        candidate: its value at each sample, shape (n,); of 0 and 1 alone it is a flag, which fires at 1.
    """
    grids = steps.weights.shape[1]
    gained, broke, expected, count = np.zeros(grids), np.zeros(grids), np.zeros(grids), np.zeros(grids)
    fired = 0
    known = candidate[~np.isnan(candidate)]
    flag = bool(((known == 0.0) | (known == 1.0)).all())
    for fold in steps.folds:
        size = fold.fit.size
        values = candidate[np.concatenate([fold.fit, fold.test])]
        happened = steps.happened[np.concatenate([fold.fit, fold.test])]
        columns, sides = _enter(values, size, fold.base[:, 1], flag)
        model = np.column_stack([fold.base, columns])
        start = np.concatenate([fold.coefficients, np.zeros(columns.shape[1])])
        with_candidate = _logistic(model[size:] @ _fit(model[:size], happened[:size], start, fold.base.shape[1]))
        without_candidate = fold.expected[size:]
        fires = max(sides, key=lambda side: _lift(side[:size], happened[:size], fold.expected[:size]))[size:]
        of = steps.grid[fold.test]
        gained += np.bincount(
            of, log_loss(without_candidate, happened[size:]) - log_loss(with_candidate, happened[size:]), grids
        )
        count += np.bincount(of, minlength=grids)
        broke += np.bincount(of, fires & happened[size:], grids)
        expected += np.bincount(of, np.where(fires, without_candidate, 0.0), grids)
        fired += int(np.count_nonzero(fires))
    with np.errstate(divide="ignore", invalid="ignore"):
        return Gain(
            log_loss=(steps.weights @ gained) / (steps.weights @ count),
            lift=(steps.weights @ broke) / (steps.weights @ expected),
            fired=float(fired / count.sum()) if count.any() else float("nan"),
            tested=int(count.sum()),
            expected=float(expected.sum()),
        )


def pooled(parts: Sequence[Gain]) -> Gain:
    """What a candidate adds on several recordings, each counting by its size; they are drawn independently."""
    tested = np.array([one.tested for one in parts], np.float64)
    expected = np.array([one.expected for one in parts])
    # The same seed drew all of them.
    losses, lifts = (
        np.array([np.concatenate([draws[:1], np.roll(draws[1:], place)]) for place, draws in enumerate(kind)])
        for kind in ([one.log_loss for one in parts], [one.lift for one in parts])
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return Gain(
            log_loss=tested @ losses / tested.sum(),
            lift=expected @ np.where(expected[:, None] > 0, lifts, 0.0) / expected.sum(),
            fired=float(tested @ [one.fired for one in parts] / tested.sum()),
            tested=int(tested.sum()),
            expected=float(expected.sum()),
        )


def _enter(values: Floats, fitted: int, odds: Floats, flag: bool) -> tuple[Floats, list[Flags]]:
    """The columns of a candidate, and where it may be said to fire; the scale is that of the first `fitted` values."""
    if flag:
        size = np.nan_to_num(values)
        return np.column_stack([size, size * odds]), [size == 1.0]
    past = values[:fitted]
    past = past[~np.isnan(past)]
    if not past.size:
        return np.zeros((values.size, 1)), [np.zeros(values.size, np.bool_)]
    low, below, middle, above, high = np.quantile(past, (FIRES, 0.159, 0.5, 0.841, 1.0 - FIRES))
    # The middle two thirds of a normal distribution are two standard deviations wide.
    spread = (above - below) / 2.0
    scaled = (values - middle) / (spread if spread > 0 else 1.0)
    size = np.clip(np.nan_to_num(scaled), -_FAR, _FAR)
    return np.column_stack([size, np.abs(size), size * odds]), [values <= low, values >= high]


def _lift(fires: Flags, happened: Flags, expected: Floats) -> float:
    chance = float(expected[fires].sum())
    return float(np.count_nonzero(happened[fires])) / chance if chance > 0 else 0.0


def _log_odds(probability: Floats) -> Floats:
    clipped = np.clip(probability, _SURE, 1.0 - _SURE)
    return natural_log(clipped / (1.0 - clipped))


def _logistic(score: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(score, -_SURE_ODDS, _SURE_ODDS)))


def _fit(columns: Floats, happened: Flags, start: Floats, free: int) -> Floats:
    """Coefficients of a logistic regression, ridge on all but the `free` first columns, by Newton's method."""
    penalty = np.full(start.size, _RIDGE)
    penalty[:free] = _LEAST_RIDGE
    coefficients = start
    for _ in range(_STEPS):
        p = _logistic(columns @ coefficients)
        slope = columns.T @ (happened - p) - penalty * coefficients
        bend = (columns * (p * (1.0 - p))[:, None]).T @ columns + np.diag(penalty)
        change = np.linalg.solve(bend, slope)
        coefficients = coefficients + change
        if np.abs(change).max() < 1e-4:
            break
    return coefficients
