"""How sure a gain is: blocks of two weeks drawn anew, the same on markets with random signs, deflated for the looking.

A gain is one figure a day, the mean over that day's markets. It passes when all three hold: its 95 % interval lies
above 0; so does that of its difference from the placebo, since what is as good where no price has a direction is the
shape of a grid and no knowledge; and the probability that its ratio of edge to noise is more than the best of so many
worthless trials would have by luck (Bailey, Lopez de Prado 2014) is at least .95. How far the ratios of worthless
trials lie apart is measured on noise, not on the trials: some of those are worth something or cost something, and would
widen what luck is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Floats, Integers
from mm_dagster.evaluation import resample
from mm_dagster.research import deflation
from mm_dagster.research.tuning import SURE


class Figure(NamedTuple):
    """A mean with its interval.

    Attributes:
        value: NaN where nothing is known.
        low: lower end of the 95 % interval; NaN where there are too few blocks for one.
        high: upper end.
    """

    value: float
    low: float
    high: float


class Gains(NamedTuple):
    """Gains a day of several trials on the same days.

    Attributes:
        day: number of each day, shape (d,).
        real: shape (d, trials); NaN where a day is not known.
        placebo: the same on the placebo.
    """

    day: Integers
    real: Floats
    placebo: Floats


class Judgement(NamedTuple):
    """What is to be said of one trial.

    Attributes:
        gain: on the markets.
        placebo: on the same markets with random signs.
        difference: the one less the other, drawn together.
        deflated: probability that the ratio of edge to noise is more than luck.
        days: days with a gain.
        blocks: blocks of two weeks that they fall in.
    """

    gain: Figure
    placebo: Figure
    difference: Figure
    deflated: float
    days: int
    blocks: int

    @property
    def passes(self) -> bool:
        """Whether all three hold."""
        return self.gain.low > 0 and self.difference.low > 0 and self.deflated >= SURE


def joined(parts: Sequence[Gains]) -> Gains:
    """The days of several sets below each other; those of the same time are drawn together."""
    return Gains(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def judged(gains: Gains, luck: float) -> list[Judgement]:
    """Every trial by itself, in their order.

    Args:
        gains: of the trials.
        luck: the ratio of the best by luck, see `luck_of`.
    """
    real, placebo = (drawn_means(gains.day, values).T for values in (gains.real, gains.placebo))
    return [judgement(gains.day, *trial, luck) for trial in zip(gains.real.T, real, placebo, strict=True)]


def judgement(day: Integers, gains: Floats, real: Floats, placebo: Floats, luck: float) -> Judgement:
    """What is to be said of one trial.

    Args:
        day: number of each day, shape (d,).
        gains: of each day, shape (d,); NaN where unknown.
        real: the gain in every draw, the figure itself first, shape (1 + draws,).
        placebo: the same on the placebo.
        luck: the ratio of the best by luck, see `luck_of`.
    """
    edges = by_block(day, gains)
    return Judgement(
        gain=figure(real),
        placebo=figure(placebo),
        difference=figure(real - placebo),
        deflated=deflation.probability(edges, luck) if edges.size > 1 else float("nan"),
        days=int(np.isfinite(gains).sum()),
        blocks=edges.size,
    )


def luck_of(noise: Gains, trials: int) -> float:
    """The ratio of edge to noise to expect of the best of so many trials that are worth what this noise is."""
    ratios = [deflation.ratio(by_block(noise.day, edges)) for edges in noise.real.T]
    return deflation.best_by_luck(np.array(ratios), trials)


def draws(day: Integers) -> Floats:
    """How often each day is drawn, each once in the first row; shape (1 + draws, d)."""
    return resample.draws(day - day.min(), np.zeros(day.size, np.int64))


def drawn_means(day: Integers, values: Floats) -> Floats:
    """Means over the known days in every draw, the days themselves first.

    Args:
        day: number of each day, shape (d,).
        values: shape (d, trials); NaN where unknown.

    Returns:
        Shape (1 + draws, trials); all draws are NaN where the known days are too few for an interval.
    """
    weights, known = draws(day), np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (weights @ np.where(known, values, 0.0)) / (weights @ known.astype(np.float64))
    few = [not resample.enough(day[there]) for there in known.T]
    found[1:, few] = np.nan
    return found


def figure(drawn: Floats) -> Figure:
    """A figure from its value, which stands first, and its draws."""
    return Figure(float(drawn[0]), *resample.interval(drawn[1:]))


def figures(day: Integers, values: Floats) -> list[Figure]:
    """Means over the known days, of each trial."""
    return [figure(drawn) for drawn in drawn_means(day, values).T]


def by_block(day: Integers, values: Floats) -> Floats:
    """Mean by block of two weeks, shape (blocks,); blocks without a known day are left out."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(0)
    block = np.unique((day[known] - day.min()) // resample.BLOCK_DAYS, return_inverse=True)[1]
    return np.bincount(block, values[known]) / np.bincount(block)
