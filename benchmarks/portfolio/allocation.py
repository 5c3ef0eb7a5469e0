"""Does a rule of weights do better than equal weights at the same risk?

Every midnight the capital of the day is spread over the new grids of all markets, which are held to their stop or for
a fortnight. Against a rule stand equal weights that are invested as much, but at other dates, scaled down with cash to
the rule's risk on the same days, set by set. Without the other dates whoever holds cash at random would win: these
grids lose, and a rule that is out every third day loses a third less, at a risk that falls by a sixth. They are never
scaled up, since nobody borrows to lose more: else the riskiest weights would win. Risk is the standard deviation of
the fortnight's return, or the mean of its worst twentieth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.portfolio import judged
from benchmarks.portfolio.judged import Figure, Gains, Judgement
from benchmarks.portfolio.panel import Panel
from benchmarks.portfolio.ranking import LEAST_MARKETS, SEEDS, SLOW, Pair, noise, upper
from benchmarks.portfolio.weights import RULES, allotted
from mm_dagster.arrays import Floats, Integers, exponential
from mm_dagster.evaluation import resample

EQUAL = "equal"
SHIFTS = 6
"""Other dates at which the invested share of a rule is borrowed, evenly apart over the set."""
INVESTED, IN_AND_OUT = "always invested", "each market in and out"
"""Kinds of weights that know nothing."""
OUT = -0.43
"""A slow number below it keeps a market in cash: every third is."""


def _sigma(weights: Floats, values: Floats) -> Floats:
    mean = resample.mean(weights, values)
    return np.sqrt(np.maximum(resample.mean(weights, values**2) - mean**2, 0.0))


def _worst(weights: Floats, values: Floats) -> Floats:
    return np.maximum(-resample.shortfall(weights, values), 0.0)


Risk = Callable[[Floats, Floats], Floats]
RISKS: Mapping[str, Risk] = {"standard deviation": _sigma, "worst 5 %": _worst}
"""From how often each day is drawn and the day's returns."""


@dataclass(frozen=True)
class Rule:
    """What one rule did on all sets.

    Attributes:
        invested: mean share of the capital in grids.
        mean: return of a fortnight, percent.
        sigma: its standard deviation.
        worst: mean of its worst twentieth.
        gains: on equal weights at the same risk, by kind of risk.
    """

    invested: float
    mean: Figure
    sigma: float
    worst: float
    gains: Mapping[str, Judgement]


@dataclass(frozen=True)
class Allocated:
    """What was found.

    Attributes:
        rules: by name; EQUAL among them, without gains.
        sets: the gains at the same standard deviation by set and rule.
        planted: by kind of risk.
        noise: by kind and kind of risk: of the seeds, how many have an interval above 0, and how many pass.
        seeds: of noise of each kind.
        trials: how many the deflation counts.
        grids: with a known outcome, by set.
        days: midnights that count, by set.
    """

    rules: Mapping[str, Rule]
    sets: Mapping[str, Mapping[str, Figure]]
    planted: Mapping[str, Judgement]
    noise: Mapping[str, Mapping[str, tuple[int, int]]]
    seeds: int
    trials: int
    grids: Mapping[str, int]
    days: Mapping[str, int]


@dataclass(frozen=True)
class Book:
    """The returns of a fortnight of one set under several rules.

    Attributes:
        day: number of each midnight that counts, shape (d,).
        equal: return of equal weights, percent, shape (d,).
        rules: of the rules, shape (d, rules).
        invested: share of the capital that each has in grids, likewise.
    """

    day: Integers
    equal: Floats
    rules: Floats
    invested: Floats

    def against(self, rule: int) -> list[Floats]:
        """Returns of equal weights that are invested as much as a rule, at other dates; shape (d,) each."""
        share = self.invested[:, rule]
        if np.ptp(share) < 1e-9:
            return [self.equal]
        shifts = np.linspace(resample.LEAST_SHIFT_DAYS, share.size - resample.LEAST_SHIFT_DAYS, SHIFTS)
        return [self.equal * np.roll(share, int(shift)) for shift in shifts.round()]


def returns(panel: Panel, weights: Floats) -> Floats:
    """Return of the fortnight after each midnight, percent of the capital of the day, shape (d,).

    What was put into grids whose fortnight is not known counts as spread over the others.
    """
    known = np.isfinite(panel.held) & np.isfinite(weights)
    counted = np.where(known, weights, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(counted.sum(axis=1) > 0, np.nansum(weights, axis=1) / counted.sum(axis=1), 0.0)
    found = scale * (counted * np.where(known, panel.held - 100.0, 0.0)).sum(axis=1)
    return np.where(np.isfinite(panel.held).sum(axis=1) >= LEAST_MARKETS, found, np.nan)


def book(panel: Panel, equal: Floats, rules: Sequence[Floats]) -> Book:
    """The days on which equal weights have a return.

    Args:
        panel: the grids.
        equal: equal weights, shape (d, m).
        rules: likewise of each rule.
    """
    alike = returns(panel, equal)
    known = np.isfinite(alike) & np.isfinite(equal).any(axis=1)
    found = np.column_stack([returns(panel, one)[known] for one in rules])
    invested = np.column_stack([np.nansum(one, axis=1)[known] for one in rules])
    return Book(panel.day[known], alike[known], found, invested)


def gain(books: Sequence[Book], rule: int, risk: Risk, weights: Floats) -> tuple[Floats, Floats]:
    """Of one rule on equal weights, invested as much at other dates, at the same risk.

    Args:
        books: the sets.
        rule: its column.
        risk: of RISKS.
        weights: how often each day of all sets is drawn, shape (1 + draws, d).

    Returns:
        The gain of each day with the risks of all days, shape (d,), and the gain in every draw, itself first; in each
        draw the risks are found anew.
    """
    ends = np.cumsum([one.day.size for one in books]).tolist()
    total, count, daily = np.zeros(len(weights)), np.zeros(len(weights)), []
    for one, end in zip(books, ends, strict=True):
        drawn, its = weights[:, end - one.day.size : end], one.rules[:, rule]
        taken, others = risk(drawn, its), one.against(rule)
        gains = its.copy()
        total += drawn @ its
        for other in others:
            theirs = risk(drawn, other)
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = np.where(theirs > 0, np.minimum(taken / theirs, 1.0), 1.0) / len(others)
            # A set that is not drawn has no risk.
            scale = np.where(np.isfinite(scale), scale, 0.0)
            total -= scale * (drawn @ other)
            gains -= scale[0] * other
        count += drawn.sum(axis=1)
        daily.append(gains)
    return np.concatenate(daily), total / count


@dataclass(frozen=True)
class Books:
    """The sets and their placebos under the same rules.

    Attributes:
        real: on the markets.
        placebo: on the same markets with random signs.
    """

    real: Sequence[Book]
    placebo: Sequence[Book]

    def gains(self, risk: Risk) -> list[tuple[Floats, Floats, Floats]]:
        """Of each rule: the gain of each day, the gain in every draw, and that on the placebo."""
        drawn, flipped = (judged.draws(_days(books)) for books in (self.real, self.placebo))
        return [
            (*gain(self.real, rule, risk, drawn), gain(self.placebo, rule, risk, flipped)[1])
            for rule in range(self.real[0].rules.shape[1])
        ]

    def judged(self, found: Sequence[tuple[Floats, Floats, Floats]], luck: float) -> list[Judgement]:
        """What is to be said of each rule, from `gains`."""
        return [judged.judgement(_days(self.real), *one, luck) for one in found]


def _days(books: Sequence[Book]) -> Integers:
    return np.concatenate([one.day for one in books])


def measure(pairs: Mapping[str, Pair], seeds: int = SEEDS) -> Allocated:
    """Every rule against equal weights, on each set and on all of them.

    Args:
        pairs: by name of the set.
        seeds: of noise of each kind.
    """
    names = list(RULES)
    shares = {name: (allotted(pair.real), allotted(pair.placebo)) for name, pair in pairs.items()}

    def books(rules: Callable[[int, str, int], Sequence[Floats]]) -> Books:
        """Under the rules' weights, by number and name of the set and 0 or 1 for the placebo."""
        found: tuple[list[Book], list[Book]] = ([], [])
        for number, (name, pair) in enumerate(pairs.items()):
            for which, panel in enumerate((pair.real, pair.placebo)):
                equal = shares[name][which][EQUAL]
                found[which].append(book(panel, equal, rules(number, name, which)))
        return Books(*found)

    def by_chance(kind: str) -> Callable[[int, str, int], Sequence[Floats]]:
        return lambda number, name, which: [
            by_noise(kind, noise(SLOW, seeds * number + seed, pairs[name].real.held.shape), shares[name][which][EQUAL])
            for seed in range(seeds)
        ]

    def ahead(_: int, name: str, __: int) -> Sequence[Floats]:
        real = pairs[name].real
        return [upper(real.to_come(1), real.held)]

    found = books(lambda _, name, which: [shares[name][which][one] for one in names])
    noisy = {kind: books(by_chance(kind)) for kind in (INVESTED, IN_AND_OUT)}
    knowing = books(ahead)
    trials, day = len(names) * len(RISKS), _days(found.real)
    gains: dict[str, dict[str, Judgement]] = {name: {} for name in names}
    planted: dict[str, Judgement] = {}
    counts: dict[str, dict[str, tuple[int, int]]] = {kind: {} for kind in noisy}
    for risk, of in RISKS.items():
        drawn = {kind: some.gains(of) for kind, some in noisy.items()}
        daily = np.column_stack([one[0] for some in drawn.values() for one in some])
        luck = judged.luck_of(Gains(day, daily, daily), trials)
        for kind, some in drawn.items():
            chances = noisy[kind].judged(some, luck)
            counts[kind][risk] = (sum(one.gain.low > 0 for one in chances), sum(one.passes for one in chances))
        for name, one in zip(names, found.judged(found.gains(of), luck), strict=True):
            gains[name][risk] = one
        [planted[risk]] = knowing.judged(knowing.gains(of), luck)
    return Allocated(
        rules=_rules(found.real, gains),
        sets={
            name: {
                rule: judged.figure(gain([one], place, _sigma, judged.draws(one.day))[1])
                for place, rule in enumerate(names)
            }
            for name, one in zip(pairs, found.real, strict=True)
        },
        planted=planted,
        noise=counts,
        seeds=seeds,
        trials=trials,
        grids={name: int(np.isfinite(pair.real.held).sum()) for name, pair in pairs.items()},
        days={name: one.day.size for name, one in zip(pairs, found.real, strict=True)},
    )


def _rules(books: Sequence[Book], gains: Mapping[str, Mapping[str, Judgement]]) -> dict[str, Rule]:
    """What each rule did on all sets; its place among the gains is its column."""
    weights = judged.draws(_days(books))
    found = {EQUAL: _rule(weights, np.concatenate([one.equal for one in books]), np.ones(1), {})}
    for place, name in enumerate(gains):
        values = np.concatenate([one.rules[:, place] for one in books])
        invested = np.concatenate([one.invested[:, place] for one in books])
        found[name] = _rule(weights, values, invested, gains[name])
    return found


def _rule(weights: Floats, values: Floats, invested: Floats, gains: Mapping[str, Judgement]) -> Rule:
    return Rule(
        invested=float(invested.mean()),
        mean=judged.figure(resample.mean(weights, values)),
        sigma=float(_sigma(weights[:1], values)[0]),
        worst=float(resample.shortfall(weights[:1], values)[0]),
        gains=gains,
    )


def by_noise(kind: str, slow: Floats, equal: Floats) -> Floats:
    """Weights that know nothing, where equal weights have a grid, shape (d, m).

    Args:
        kind: INVESTED or IN_AND_OUT.
        slow: numbers that drift slowly, shape (d, m).
        equal: equal weights, likewise.
    """
    if kind == IN_AND_OUT:
        return np.where(slow > OUT, equal, 0.0 * equal)
    value = np.where(equal > 0, exponential(slow), 0.0)
    total = value.sum(axis=1, keepdims=True)
    return np.where(total > 0, value / np.where(total > 0, total, 1.0), np.nan)
