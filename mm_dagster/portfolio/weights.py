"""How capital could be spread over markets: a covariance that can be trusted, and the calmest weights under a cap.

Every sum is taken in one fixed order, none by a library for matrices: there the last bits of a result hang on how many
threads it has and where in memory an array begins.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Flags, Floats, kernel

TOLERANCE = 1e-13
"""A market leaves its bound only for a gain beyond rounding, as a share of the mean variance."""
ROUNDING = 1e-15
"""A weight that is solved for and lies so near to a bound lies at it."""
STEPS_EACH = 100
"""So many steps a market are never needed, unless rounding hides who gains."""
FOUND, INDEFINITE, ENDLESS = 0, 1, 2
"""How a search for weights ends."""


class Shrunk(NamedTuple):
    """A covariance between what was measured and one in which all markets are alike.

    Attributes:
        covariance: shape (markets, markets), return^2.
        shrinkage: how far it was drawn to the identity times the mean variance, 0 to 1.
    """

    covariance: Floats
    shrinkage: float


class Pair(NamedTuple):
    """Two markets by their places, and their correlation."""

    first: int
    second: int
    correlation: float


def shrunk_covariance(returns: Floats) -> Shrunk:
    """The covariance of returns, drawn to the scaled identity as far as it is noise (Ledoit, Wolf 2004).

    (1 - s) S + s m I, where S is the covariance about the means (over T, not T - 1), m the mean of its diagonal, and
    s = min(b, d) / d with d = |S - m I|^2 / N and b = sum_t |x_t x_t' - S|^2 / (T^2 N). Positive definite unless no
    market moves or s is 0.

    Args:
        returns: shape (T, N), T moments of N markets, all known.

    Raises:
        ValueError: there are no returns, or some are unknown.
    """
    _all_known("returns", returns)
    if not returns.size:
        raise ValueError(f"returns: {returns.shape[0]} moments of {returns.shape[1]} markets; at least one of each")
    covariance, shrinkage = _shrunk(np.ascontiguousarray(returns, dtype=np.float64))
    return Shrunk(covariance, float(shrinkage))


def correlation(covariance: Floats) -> Floats:
    """The correlations of a covariance, shape (N, N); exactly 1 on the diagonal.

    Raises:
        ValueError: a market has no variance.
    """
    _all_known("covariance", covariance)
    variance = np.diagonal(covariance)
    if not (variance > 0).all():
        place = int(np.argmin(variance))
        raise ValueError(f"covariance: market {place} has a variance of {variance[place]}; it lies above 0")
    deviation = np.sqrt(variance)
    found = np.clip(covariance / (deviation[:, None] * deviation), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found


def sample_correlation(shrunk: Shrunk) -> Floats:
    """The correlations of the returns as they were, from their shrunk covariance, shape (N, N).

    Shrinking draws unlike variances together, and correlations with them: for weights that is wanted, as a reading of
    the markets it is not. The mean variance is the same in both, which is all that is needed to undo it.

    Raises:
        ValueError: a market has no variance, or nothing but the identity was left.
    """
    if not shrunk.shrinkage < 1.0:
        raise ValueError(f"shrinkage: {shrunk.shrinkage}; of the returns nothing is left in the covariance")
    mean = float(np.mean(np.diagonal(shrunk.covariance)))
    sample = shrunk.covariance - shrunk.shrinkage * mean * np.eye(len(shrunk.covariance))
    return correlation(sample / (1.0 - shrunk.shrinkage))


def scaled(covariance: Floats, sigma: Floats) -> Floats:
    """The covariance that has the correlations of one and the standard deviations of a forecast, shape (N, N).

    Args:
        covariance: shape (N, N).
        sigma: forecast standard deviation of each market, shape (N,); its unit is the result's, squared.

    Raises:
        ValueError: a market has no variance, or a sigma is unknown or not above 0.
    """
    _all_known("sigma", sigma)
    if not (sigma > 0).all():
        raise ValueError(f"sigma: {sigma.min()} of market {int(np.argmin(sigma))}; it lies above 0")
    return correlation(covariance) * (sigma[:, None] * sigma)


def minimum_variance(covariance: Floats, cap: float) -> Floats:
    """The weights with the least variance: none below 0 or above the cap, 1 together (Markowitz 1952).

    An active-set method: from equal weights the best ones for the markets that lie at no bound are solved for; the
    first bound on the way there stops a market; and where none is in the way, the market that gains most by leaving its
    bound leaves it. Ends where none gains, after finitely many steps, with weights that are exact but for rounding.

    Args:
        covariance: shape (N, N), symmetric and positive definite, as `shrunk_covariance` makes it.
        cap: the largest weight, at least 1 / N.

    Returns:
        Shape (N,); a weight at a bound is exactly 0 or the cap.

    Raises:
        ValueError: the cap leaves no weights, or the covariance is not positive definite.
    """
    _all_known("covariance", covariance)
    count = len(covariance)
    if not cap * count >= 1.0 - 1e-12:
        raise ValueError(f"cap: {cap} of {count} markets adds up to less than 1; at least {1 / max(count, 1)}")
    least = float(np.min(np.diagonal(covariance)))
    if not least > 0:
        raise ValueError(f"covariance: a market has a variance of {least}; it lies above 0")
    # Variances of returns are tiny: the tolerance is one of figures about 1.
    weights, end = _calmest(np.ascontiguousarray(covariance / np.mean(np.diagonal(covariance))), min(cap, 1.0))
    if end == INDEFINITE:
        raise ValueError("covariance: it is not positive definite; shrink it")
    if end == ENDLESS:
        raise ValueError(f"covariance: no weights in {STEPS_EACH * count} steps, it is all but singular; shrink it")
    return weights


def sigma_of(covariance: Floats, weights: Floats) -> float:
    """Standard deviation of a portfolio, sqrt(w' C w)."""
    return math.sqrt(max(_variance(np.ascontiguousarray(covariance), np.ascontiguousarray(weights)), 0.0))


def equal_at_risk(covariance: Floats, weights: Floats) -> float:
    """What equal weights, 1 / N each, are multiplied by to have the same standard deviation as these weights.

    Args:
        covariance: shape (N, N), positive definite.
        weights: shape (N,).

    Returns:
        1 for equal weights; below 1 the same risk with equal weights leaves a part of the capital idle.
    """
    count = weights.size
    return sigma_of(covariance, weights) / sigma_of(covariance, np.full(count, 1.0 / count))


def effective_bets(correlations: Floats) -> float:
    """How many independent markets so many correlated ones count as: N^2 / sum of all squared correlations.

    The participation ratio (sum l)^2 / sum l^2 of the eigenvalues l, which needs none of them: N where nothing is
    correlated, 1 where everything moves as one.

    Args:
        correlations: shape (N, N), N at least 1.
    """
    _all_known("correlations", correlations)
    return float(len(correlations) ** 2 / _sum_of_squares(np.ascontiguousarray(correlations)))


def highest_pair(correlations: Floats) -> Pair | None:
    """The two markets that are correlated most, the first of equals; None with fewer than two."""
    _all_known("correlations", correlations)
    count = len(correlations)
    if count < 2:
        return None
    above = np.where(np.triu(np.ones((count, count), np.bool_), 1), correlations, -np.inf)
    first, second = divmod(int(np.argmax(above)), count)
    return Pair(first, second, float(correlations[first, second]))


def _all_known(name: str, values: Floats) -> None:
    if unknown := int(np.count_nonzero(~np.isfinite(values))):
        raise ValueError(f"{name}: {unknown} values are not finite; leave out their markets or moments")


@kernel
def _shrunk(returns: Floats) -> tuple[Floats, float]:
    """See `shrunk_covariance`."""
    moments, count = returns.shape
    about = np.empty((moments, count))
    for i in range(count):
        total = 0.0
        for t in range(moments):
            total += returns[t, i]
        for t in range(moments):
            about[t, i] = returns[t, i] - total / moments
    covariance = np.empty((count, count))
    squares = 0.0
    for i in range(count):
        for j in range(i + 1):
            total = 0.0
            for t in range(moments):
                total += about[t, i] * about[t, j]
            covariance[i, j] = covariance[j, i] = total / moments
            squares += (1.0 if i == j else 2.0) * covariance[i, j] ** 2
    mean = 0.0
    for i in range(count):
        mean += covariance[i, i]
    mean /= count
    # |x_t x_t'|^2 is |x_t|^4, and their mean is S: |x_t x_t' - S|^2 adds up to sum_t |x_t|^4 - T |S|^2.
    fourth = 0.0
    for t in range(moments):
        length = 0.0
        for i in range(count):
            length += about[t, i] ** 2
        fourth += length**2
    noise = (fourth / moments - squares) / (count * moments)
    distance = (squares - count * mean**2) / count
    noise = min(noise, distance)
    shrinkage = noise / distance if noise > 0.0 and count > 1 else 0.0
    for i in range(count):
        for j in range(count):
            covariance[i, j] *= 1.0 - shrinkage
        covariance[i, i] += shrinkage * mean
    return covariance, shrinkage


@kernel
def _variance(covariance: Floats, weights: Floats) -> float:
    """w' C w."""
    total = 0.0
    for i in range(weights.size):
        row = 0.0
        for j in range(weights.size):
            row += covariance[i, j] * weights[j]
        total += weights[i] * row
    return total


@kernel
def _sum_of_squares(values: Floats) -> float:
    total = 0.0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            total += values[i, j] ** 2
    return total


@kernel
def _calmest(covariance: Floats, cap: float) -> tuple[Floats, int]:
    """See `minimum_variance`; and FOUND, INDEFINITE or ENDLESS."""
    count = covariance.shape[0]
    weights = np.full(count, 1.0 / count)
    at_cap, free = np.zeros(count, np.bool_), np.ones(count, np.bool_)
    for _ in range(STEPS_EACH * count):
        target, price, solved = _best_of_free(covariance, cap, at_cap, free)
        if not solved:
            return weights, INDEFINITE
        share, stopped = _first_bound(weights, target, cap, free)
        if stopped >= 0:
            for i in range(count):
                if free[i]:
                    weights[i] = min(max(weights[i] + share * (target[i] - weights[i]), 0.0), cap)
            free[stopped], at_cap[stopped] = False, not target[stopped] < ROUNDING
            weights[stopped] = cap if at_cap[stopped] else 0.0
            continue
        for i in range(count):
            weights[i] = target[i]
        leaving, dearest = _leaving(covariance, weights, price, at_cap, free)
        if leaving < 0:
            return weights, FOUND
        if not free.any():
            free[dearest], at_cap[dearest] = True, False
        free[leaving], at_cap[leaving] = True, False
    return weights, ENDLESS


@kernel
def _first_bound(weights: Floats, target: Floats, cap: float, free: Flags) -> tuple[float, int]:
    """How far the way to the target is free, as a share, and which market is stopped there; -1: none is."""
    share, stopped = 1.0, -1
    for i in range(weights.size):
        if free[i] and (target[i] < ROUNDING or target[i] > cap - ROUNDING):
            bound = 0.0 if target[i] < ROUNDING else cap
            reached = (bound - weights[i]) / (target[i] - weights[i]) if target[i] != weights[i] else 0.0
            if stopped < 0 or reached < share:
                share, stopped = min(max(reached, 0.0), 1.0), i
    return share, stopped


@kernel
def _leaving(covariance: Floats, weights: Floats, price: float, at_cap: Flags, free: Flags) -> tuple[int, int]:
    """Which market gains most at the margin by leaving its bound, -1: none does; and the dearest that lies at the cap.

    Where every market lies at a bound, weight has the price of that dearest one, which makes way.
    """
    count = weights.size
    slopes, dearest = np.zeros(count), -1
    for i in range(count):
        for j in range(count):
            slopes[i] += covariance[i, j] * weights[j]
        if at_cap[i] and (dearest < 0 or slopes[i] > slopes[dearest]):
            dearest = i
    if not free.any():
        price = slopes[dearest]
    leaving, most = -1, TOLERANCE
    for i in range(count):
        if not free[i]:
            gain = slopes[i] - price if at_cap[i] else price - slopes[i]
            if gain > most:
                leaving, most = i, gain
    return leaving, dearest


@kernel
def _best_of_free(covariance: Floats, cap: float, at_cap: Flags, free: Flags) -> tuple[Floats, float, bool]:
    """The best weights while the others stay at their bounds, the price of weight, and whether there are any.

    C_FF w_F = price 1 - C_FB w_B, where the price is the one with which all weights add up to 1.
    """
    places = np.flatnonzero(free)
    size = places.size
    target = np.where(at_cap, cap, 0.0)
    left = 1.0
    for held in target:
        left -= held
    lower = np.zeros((size, size))
    ones, of_held = np.ones(size), np.zeros(size)
    for a in range(size):
        for j in range(target.size):
            of_held[a] += covariance[places[a], j] * target[j]
        for b in range(a + 1):
            lower[a, b] = covariance[places[a], places[b]]
    if not _decompose(lower):
        return target, 0.0, False
    _solve(lower, ones)
    _solve(lower, of_held)
    all_ones, all_held = 0.0, 0.0
    for a in range(size):
        all_ones += ones[a]
        all_held += of_held[a]
    price = (left + all_held) / all_ones
    for a in range(size):
        target[places[a]] = price * ones[a] - of_held[a]
    return target, price, True


@kernel
def _decompose(lower: Floats) -> bool:
    """Puts Cholesky's factor in the place of the lower half; False: it is not positive definite."""
    for a in range(lower.shape[0]):
        for b in range(a + 1):
            for c in range(b):
                lower[a, b] -= lower[a, c] * lower[b, c]
            if a > b:
                lower[a, b] /= lower[b, b]
            elif lower[a, a] > 0.0:
                lower[a, a] = math.sqrt(lower[a, a])
            else:
                return False
    return True


@kernel
def _solve(lower: Floats, right: Floats) -> None:
    """Puts the solution of L L' x = right in its place."""
    size = right.size
    for a in range(size):
        for c in range(a):
            right[a] -= lower[a, c] * right[c]
        right[a] /= lower[a, a]
    for a in range(size - 1, -1, -1):
        for c in range(a + 1, size):
            right[a] -= lower[c, a] * right[c]
        right[a] /= lower[a, a]
