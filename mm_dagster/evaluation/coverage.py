"""Did a loss figure come true? Hits of a value at risk counted, their order, and how far the worst losses went.

A loss is positive where money was lost. A day is a hit when its loss is greater than the value at risk that was said
for it; a loss of exactly that is none. The level is the share of days that are expected to be hits, as .05.

Days stand in their order. A day without a loss or a figure is left out before, and its neighbours then count as one
after the other, which the test of the order hardly notices while such days are few.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Flags, Floats
from mm_dagster.evaluation.resample import SEED

LEAST_DAYS = 20
"""Fewer days give no test."""
LEAST_EXPECTED = 5.0
"""With fewer expected hits (100 days at .05, 500 at .01) a test is rough: at 5 % the first one refuses up to .15 of the
figures that are right (two expected hits), and from there on .03 to .08 (exact binomial sums)."""
SIMULATIONS = 10_000


class Coverage(NamedTuple):
    """How a loss figure came true.

    Attributes:
        level: share of days that are expected to be hits.
        days: how many days were looked at.
        hits: how many of them lost more than the value at risk.
        rate: hits / days; None without days.
        kupiec_p: probability of a number of hits at least as unlikely, were the level right; see `kupiec`.
        christoffersen_p: likewise of their order, were hits independent; see `christoffersen`.
        z2: see `acerbi_szekely`.
        z2_p: probability of a z2 at most as high, were the simulated paths right; see `z2_p`.
            The four are None below LEAST_DAYS days, and where they cannot be told; see `is_rough`.
    """

    level: float
    days: int
    hits: int
    rate: float | None
    kupiec_p: float | None
    christoffersen_p: float | None
    z2: float | None
    z2_p: float | None


def measure(losses: Floats, var: Floats, es: Floats, paths: Floats, level: float) -> Coverage:
    """All that the figures of one level are held against.

    Args:
        losses: what each day lost, shape (n,), money in any one unit.
        var: value at risk said before each day, shape (n,), same unit.
        es: expected shortfall said before each day, shape (n,), same unit.
        paths: simulated losses behind each day's figures, shape (n, k), same unit.
        level: share of days that are expected to be hits, above 0 and below 1.

    Raises:
        ValueError: a value that is not finite, a level that is no share, shapes that do not fit, or figures that are
            not those of the paths: the mildest of the ceil(level k) worst, and their mean.
    """
    _check(losses, var, es, paths, level)
    hit = losses > var
    days, hits = hit.size, int(hit.sum())
    told = days >= LEAST_DAYS
    return Coverage(
        level=level,
        days=days,
        hits=hits,
        rate=hits / days if days else None,
        kupiec_p=kupiec(hits, days, level),
        christoffersen_p=christoffersen(hit) if told else None,
        z2=acerbi_szekely(losses, var, es, level) if told else None,
        z2_p=z2_p(losses, paths, level) if told else None,
    )


def _check(losses: Floats, var: Floats, es: Floats, paths: Floats, level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: {level} is no share of days; it lies above 0 and below 1")
    if not losses.shape == var.shape == es.shape == paths.shape[:1]:
        raise ValueError(f"losses, var, es, paths: {losses.size}, {var.size}, {es.size}, {len(paths)} days; one number")
    for name, values in (("losses", losses), ("var", var), ("es", es), ("paths", paths)):
        if unknown := int(np.count_nonzero(~np.isfinite(values))):
            raise ValueError(f"{name}: {unknown} values are not finite; leave out their days")
    if paths.size:
        worst = _worst(paths.shape[1], level)
        ordered = -np.sort(-paths, axis=1)[:, :worst]
        near = 1e-6 * np.abs(ordered).max(axis=1)
        for name, said, own in (("var", var, ordered[:, -1]), ("es", es, ordered.mean(axis=1))):
            if (other := np.flatnonzero(np.abs(said - own) > near)).size:
                day = int(other[0])
                raise ValueError(f"{name}: {said[day]} on day {day}, but of the {worst} worst paths it is {own[day]}")


def is_rough(days: int, level: float) -> bool:
    """Whether so few days make a test rough: fewer than LEAST_EXPECTED hits are expected."""
    # 500 x .01 may come out a bit below 5.
    return days * level < LEAST_EXPECTED * (1 - 1e-12)


def kupiec(hits: int, days: int, level: float) -> float | None:
    """p-value of the number of hits, by the test of the proportion of failures; None below LEAST_DAYS.

    LR = 2 ln(L(hits / days) / L(level)) with L(q) = q^hits (1 - q)^(days - hits), chi-squared with 1 degree of freedom
    (Kupiec 1995). Too few hits are as unlikely as too many.
    """
    if days < LEAST_DAYS:
        return None
    return _survival(2 * (_likelihood(hits, days) - _likelihood(hits, days, level)))


def christoffersen(hit: Flags) -> float | None:
    """p-value of the order of hits, by the test of independence against a chain of first order.

    LR = 2 ln(L(share of hits after none, share of hits after a hit) / L(share of hits)), each day but the first after
    the one before; chi-squared with 1 degree of freedom (Christoffersen 1998). Of independent hits it refuses 1 to 8 %
    at 5 %, the fewer the less.

    Args:
        hit: whether each day was a hit, shape (n,), in order.

    Returns:
        None where the order says nothing: no day follows a hit, or none follows a day that was none, or the days that
        follow another were all hits or all none.
    """
    before, after = hit[:-1], hit[1:]
    after_none, after_hit = int(np.count_nonzero(~before)), int(np.count_nonzero(before))
    first, again = int(np.count_nonzero(after & ~before)), int(np.count_nonzero(after & before))
    if not after_none or not after_hit or first + again in (0, after.size):
        return None
    apart = _likelihood(first, after_none) + _likelihood(again, after_hit)
    return _survival(2 * (apart - _likelihood(first + again, after.size)))


def _likelihood(hits: int, days: int, level: float | None = None) -> float:
    """ln of the likelihood of so many hits, by default at their own share; 0 ln 0 is 0."""
    level = hits / days if level is None else level
    found = hits * math.log(level) if hits else 0.0
    return found + ((days - hits) * math.log1p(-level) if days > hits else 0.0)


def _survival(ratio: float) -> float:
    """Probability of chi-squared with 1 degree of freedom above a value: erfc(sqrt(x / 2))."""
    return math.erfc(math.sqrt(max(ratio, 0.0) / 2))


def acerbi_szekely(losses: Floats, var: Floats, es: Floats, level: float) -> float | None:
    """Z2 = 1 - sum(loss over the hits / (n level es)), of number and size of the hits at once (Acerbi, Szekely 2014).

    About 0 where the figures are right, negative where losses were worse than said: -1 is twice as much lost on hits as
    was to be expected. 1 without a hit.

    Args:
        losses: shape (n,).
        var: shape (n,).
        es: shape (n,).
        level: share of days that are expected to be hits.

    Returns:
        None without days, or where an expected shortfall is not above 0: there is no ratio to a loss that is none.
    """
    if not losses.size or not (es > 0).all():
        return None
    return 1.0 - float(np.sum(np.where(losses > var, losses, 0.0) / (losses.size * level * es)))


def z2_p(losses: Floats, paths: Floats, level: float, simulations: int = SIMULATIONS) -> float | None:
    """p-value of z2 by simulation, small where losses were worse than said.

    Under the null a day's loss is one more of the paths that its figures were made of: any of the k + 1 could have been
    the loss, and the others the paths. One is drawn a day, independent of other days, and its value at risk and
    expected shortfall are those of the others. So the figures' own error is in the null, which is exact for any number
    of paths. Drawing the loss from the paths with the figures kept (Acerbi, Szekely 2014) takes the figures for the
    truth: of what is right, with 356 paths, it refused 8 to 26 % at 5 %.

    Args:
        losses: shape (n,).
        paths: shape (n, k).
        level: share of days that are expected to be hits.
        simulations: how many z2 are drawn; the same ones each time.

    Returns:
        Share of the drawn z2, the observed one among them, that are not above the observed one. None without days or
        paths, or where an expected shortfall is not above 0.
    """
    if not paths.size:
        return None
    worst = _worst(paths.shape[1], level)
    # Of the loss and the paths together, the worst of a day and the next one; the others can be no hit.
    top = -np.sort(-np.column_stack([losses, paths]), axis=1)[:, : worst + 1]
    total = top.sum(axis=1)
    if not (total > top[:, 0] * (1 + 1e-12)).all():
        return None

    def adds(values: Floats) -> Floats:
        """What values among the k + 1 of each day add to 1 - z2: value / (n level es of the others), 0 for no hit."""
        shortfall = (total[:, None] - values) / worst
        return np.where(values > top[:, worst:], values / (losses.size * level * shortfall), 0.0)

    # Of the next one, as of all that are milder, nothing.
    of_worst = adds(top)
    # One day after the other, all simulations at once: memory does not grow with the days, and a simulation that draws
    # the observed losses has the bits of the observed z2.
    observed = float(np.cumsum(adds(losses[:, None]))[-1])
    generator = np.random.default_rng(SEED)
    drawn = np.zeros(simulations)
    for day in of_worst:
        drawn += day[np.minimum(generator.integers(paths.shape[1] + 1, size=simulations), worst)]
    return float((1 + np.count_nonzero(drawn >= observed)) / (1 + simulations))


def _worst(paths: int, level: float) -> int:
    """How many paths are the worst: the value at risk is the mildest of them, the expected shortfall their mean."""
    return math.ceil(level * paths * (1 - 1e-12))
