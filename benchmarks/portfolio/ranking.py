"""Does a ranking of the markets find the better grids? The upper third by each, against all grids of the same midnight.

A gain is the mean outcome of the third of the markets that a ranking likes best less the mean of all of them, a day.
What all markets do together cancels. Beside the 35 stand one that must pass, the return of the day to come, and ones
that must not: numbers drawn anew each midnight, and numbers that drift slowly, as measures of markets do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.portfolio import judged
from benchmarks.portfolio.judged import Gains, Judgement
from benchmarks.portfolio.panel import Panel
from benchmarks.portfolio.rankings import RANKINGS
from mm_dagster.arrays import Floats

OUTCOMES = {
    "held": "equity after the fortnight, held to the stop or the end",
    "left": "equity after the fortnight, left at the first WARNING",
    "tail": "the worst twentieth of the grids that are held",
}
"""All in percent of the capital, and more is better; the attributes of `Panel` that hold them."""
UPPER = 1.0 / 3.0
LEAST_MARKETS = 3
"""Fewer have no upper third."""
PLANTED = {"return of the day to come": 1, "return of the fortnight to come": 14}
"""What nobody can know at the midnight, and how many days it looks ahead."""
SEEDS = 100
FRESH, SLOW = "drawn anew each midnight", "drifting slowly"
KEPT = 0.97
"""How much of a slow number stays from one midnight to the next: half of it after three weeks."""


@dataclass(frozen=True)
class Pair:
    """A set and its placebo: the same midnights and markets."""

    real: Panel
    placebo: Panel


@dataclass(frozen=True)
class Ranked:
    """What was found.

    Attributes:
        together: by outcome and ranking, on all sets.
        sets: likewise on each set alone, by its name.
        opposite: by outcome, how many of the rankings pass when they are turned around.
        planted: by outcome and planted ranking.
        noise: by kind and outcome: of the seeds, how many have an interval above 0, and how many pass.
        seeds: of noise of each kind.
        trials: how many the deflation counts.
        grids: with a known outcome, by set.
        days: midnights with at least LEAST_MARKETS of them, by set.
    """

    together: Mapping[str, Mapping[str, Judgement]]
    sets: Mapping[str, Mapping[str, Mapping[str, Judgement]]]
    opposite: Mapping[str, int]
    planted: Mapping[str, Mapping[str, Judgement]]
    noise: Mapping[str, Mapping[str, tuple[int, int]]]
    seeds: int
    trials: int
    grids: Mapping[str, int]
    days: Mapping[str, int]


def upper(liked: Floats, known: Floats) -> Floats:
    """Shares of the upper third of each midnight, shape (d, m); ties are shared, so that no order of markets counts.

    Args:
        liked: how much each market is liked, shape (d, m); NaN where unknown, infinities are allowed.
        known: an outcome; where it is NaN there is nothing to choose.
    """
    there = ~np.isnan(liked) & ~np.isnan(known)
    value = np.where(there, np.clip(liked, -1e300, 1e300), np.nan)
    count = there.sum(axis=1, keepdims=True)
    taken = np.maximum(1, np.rint(UPPER * count)).astype(np.int64)
    # NaN stands last in either order.
    descending = -np.sort(-value, axis=1)
    least = np.take_along_axis(descending, np.minimum(taken, value.shape[1]) - 1, axis=1)
    above, at = value > least, value == least
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (taken - above.sum(axis=1, keepdims=True)) / at.sum(axis=1, keepdims=True)
        shares = np.where(above, 1.0, np.where(at, share, 0.0)) / taken
    return np.where(count >= LEAST_MARKETS, shares, np.nan)


def gain(liked: Floats, outcome: Floats) -> Floats:
    """Mean outcome of the upper third less that of all, shape (d,); NaN with too few markets."""
    shares = upper(liked, outcome)
    there = ~np.isnan(liked) & ~np.isnan(outcome)
    value = np.where(there, outcome, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (shares * value).sum(axis=1) - value.sum(axis=1) / there.sum(axis=1)


def gains(pair: Pair, outcome: str, liked: Sequence[Callable[[Panel], Floats]]) -> Gains:
    """Of several rankings by one outcome."""
    real, placebo = (
        np.column_stack([gain(one(panel), getattr(panel, outcome)) for one in liked])
        for panel in (pair.real, pair.placebo)
    )
    return Gains(pair.real.day, real, placebo)


def _known(name: str) -> Callable[[Panel], Floats]:
    return lambda panel: panel.rankings[name]


def _same(liked: Floats) -> Callable[[Panel], Floats]:
    """The same on the markets and on the placebo."""
    return lambda _: liked


def noise(kind: str, seed: int, shape: tuple[int, int]) -> Floats:
    """Numbers that know nothing, shape (d, m)."""
    drawn = np.random.default_rng(seed).normal(size=shape)
    if kind == SLOW:
        for row in range(1, shape[0]):
            drawn[row] = KEPT * drawn[row - 1] + np.sqrt(1 - KEPT**2) * drawn[row]
    return drawn


def measure(pairs: Mapping[str, Pair], seeds: int = SEEDS) -> Ranked:
    """Every ranking by every outcome, on each set and on all of them.

    Args:
        pairs: by name of the set.
        seeds: of noise of each kind.
    """
    names = [one.name for one in RANKINGS]
    trials = len(names) * len(OUTCOMES)
    together: dict[str, dict[str, Judgement]] = {}
    sets: dict[str, dict[str, dict[str, Judgement]]] = {name: {} for name in pairs}
    opposite: dict[str, int] = {}
    planted: dict[str, dict[str, Judgement]] = {}
    noisy: dict[str, dict[str, tuple[int, int]]] = {FRESH: {}, SLOW: {}}
    for outcome in OUTCOMES:
        by_set = {name: gains(pair, outcome, [_known(one) for one in names]) for name, pair in pairs.items()}
        every = judged.joined(list(by_set.values()))
        alone = {kind: _noise(pairs, outcome, kind, seeds) for kind in noisy}
        drawn = {kind: judged.joined(list(parts.values())) for kind, parts in alone.items()}
        luck = judged.luck_of(drawn[SLOW], trials)
        together[outcome] = dict(zip(names, judged.judged(every, luck), strict=True))
        for name, one in by_set.items():
            its = judged.luck_of(alone[SLOW][name], trials)
            sets[name][outcome] = dict(zip(names, judged.judged(one, its), strict=True))
        turned = judged.judged(Gains(every.day, -every.real, -every.placebo), luck)
        opposite[outcome] = sum(one.passes for one in turned)
        planted[outcome] = {
            what: judged.judged(_planted(pairs, outcome, days), luck)[0] for what, days in PLANTED.items()
        }
        for kind, some in drawn.items():
            found = judged.judged(some, luck)
            noisy[kind][outcome] = (sum(one.gain.low > 0 for one in found), sum(one.passes for one in found))
    return Ranked(
        together=together,
        sets=sets,
        opposite=opposite,
        planted=planted,
        noise=noisy,
        seeds=seeds,
        trials=trials,
        grids={name: int(np.isfinite(pair.real.held).sum()) for name, pair in pairs.items()},
        days={
            name: int((np.isfinite(pair.real.held).sum(axis=1) >= LEAST_MARKETS).sum()) for name, pair in pairs.items()
        },
    )


def _planted(pairs: Mapping[str, Pair], outcome: str, days: int) -> Gains:
    """Of what looks ahead so far; on the placebo it still knows the real market, which says nothing there."""
    return judged.joined([gains(pair, outcome, [_same(pair.real.to_come(days))]) for pair in pairs.values()])


def _noise(pairs: Mapping[str, Pair], outcome: str, kind: str, seeds: int) -> dict[str, Gains]:
    """Of so many rankings that know nothing, by set."""
    return {
        name: gains(
            pair,
            outcome,
            [_same(noise(kind, seeds * number + seed, pair.real.held.shape)) for seed in range(seeds)],
        )
        for number, (name, pair) in enumerate(pairs.items())
    }
