"""How fast a price comes back: the least-squares fit of an Ornstein-Uhlenbeck process over a sliding window.

The fit is written in the change d = y_i - y_(i-1) and the value before it, x = y_(i-1): d = a + b x, phi = 1 + b. So
phi - 1, on which everything hangs, is found directly and not as a difference of two numbers near 1.

The five sums of a window are those of two blocks (see `windows`), both measured from the log price at the boundary
between them, which lies inside the window. Where a window is so flat, or so steady, that its sums say less than
`SIGNIFICANT` of what they were made of, and where bars are MISSING, the fit is done in two passes over the window.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Floats, kernel, natural_log
from mm_dagster.regime.windows import KNOWN, known_among

SIGNIFICANT = 1e-4
"""Least share of a sum of squares that must be left once its mean is taken out; the rest costs as many digits."""


def fit(log_close: Floats, pairs: int, anchor: int) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Fit of y_i on y_(i-1) over the known ones of the last `pairs` pairs (Vasicek 1977).

    Args:
        log_close: y, shape (lanes, bars).
        pairs: width of the window; it holds one bar more.
        anchor: absolute number of the first bar.

    Returns:
        phi; mu, the mean that it reverts to, log price; sigma, the residual standard deviation per bar; tau, the
        Dickey-Fuller statistic (phi - 1) / se(phi); the half-life in bars, of phi corrected for its bias (Kendall
        1954); z, the distance of the newest y from mu in stationary standard deviations. NaN where there is none.
    """
    phi, mu, sigma, tau, corrected, z = _fit(log_close, pairs, anchor)
    return phi, mu, sigma, tau, _half_life(corrected), z


def _half_life(corrected: Floats) -> Floats:
    """In bars, of a phi that is corrected for its bias."""
    with np.errstate(divide="ignore"):
        half_life = math.log(2.0) / -natural_log(corrected)
    half_life[corrected >= 1.0] = np.inf
    half_life[corrected <= 0.0] = 0.0
    return half_life


@kernel
def _fit(log_close: Floats, pairs: int, anchor: int) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """What `fit` returns, but for the corrected phi in place of the half-life."""
    lanes, bars = log_close.shape
    phi, mu, sigma = np.empty((lanes, bars)), np.empty((lanes, bars)), np.empty((lanes, bars))
    tau, corrected, z = np.empty((lanes, bars)), np.empty((lanes, bars)), np.empty((lanes, bars))
    head, tail = np.empty((5, pairs)), np.zeros((5, pairs + 1))
    mean_x, mean_d, xx, xd, rest, unbiased = np.empty((6, pairs))
    significant = np.empty(pairs, np.bool_)
    share, per_freedom = 1.0 / pairs, 1.0 / (pairs - 2.0)
    for lane in range(lanes):
        y = log_close[lane]
        known, complete = 0, False
        for start in range(-(anchor % pairs), bars, pairs):
            first, end = max(start, 0), min(start + pairs, bars)
            # Measured from the first known of the closes that every window ending in this block holds.
            centre = np.nan
            for i in range(max(start - 1, 0), end):
                if not math.isnan(y[i]):
                    centre = y[i]
                    break
            _accumulate(tail, y, start - pairs, first - 1, max(start - pairs, 0) - 1, -1, centre)
            _accumulate(head, y, start, first, end, 1, centre)
            begin, size = first - start, end - first
            older, newer, here = tail[:, begin + 1 :], head[:, begin:], y[first:end]
            # With no hole in this block and the one before, every window in it is complete.
            complete_before, complete = complete, known_among(y, first, end - 1) == pairs
            for k in range(size):
                x_sum, d_sum = newer[0, k] + older[0, k], newer[1, k] + older[1, k]
                xx_sum, dd_sum = newer[2, k] + older[2, k], newer[4, k] + older[4, k]
                mean_x[k], mean_d[k] = x_sum * share, d_sum * share
                xx[k] = xx_sum - x_sum * mean_x[k]
                xd[k] = newer[3, k] + older[3, k] - x_sum * mean_d[k]
                rest[k] = dd_sum - d_sum * mean_d[k] - xd[k] * xd[k] / xx[k]
                significant[k] = (xx[k] > SIGNIFICANT * xx_sum) & (rest[k] > SIGNIFICANT * dd_sum)
                # From here on measured from the newest close.
                mean_x[k] += centre - here[k]
                unbiased[k] = (pairs + 1.0) / (pairs - 3.0) + xd[k] / xx[k] * (pairs / (pairs - 3.0))
            if complete_before and complete:
                known = pairs
            for k in range(size if not (complete_before and complete and significant[:size].all()) else 0):
                i = first + k
                if not (complete_before and complete):
                    known += i > 0 and not math.isnan(y[i] - y[i - 1])
                    known -= i > pairs and not math.isnan(y[i - pairs] - y[i - pairs - 1])
                if known < pairs or not significant[k]:
                    count, mean_x[k], mean_d[k], xx[k], xd[k], rest[k] = _in_two_passes(y, i, pairs, known)
                    unbiased[k] = (count + 1.0) / (count - 3.0) + xd[k] / xx[k] * (count / (count - 3.0))
                    rest[k] *= (pairs - 2.0) / (count - 2.0)
            corrected[lane, first:end] = unbiased[:size]
            for k in range(size):
                slope, spread = xd[k] / xx[k], math.sqrt(rest[k] * per_freedom)
                mean = mean_x[k] - mean_d[k] / slope
                phi[lane, first + k] = 1.0 + slope
                mu[lane, first + k] = here[k] + mean
                sigma[lane, first + k] = spread
                tau[lane, first + k] = slope * math.sqrt(xx[k]) / spread
                # 1 - phi^2, positive where abs(phi) < 1; otherwise there is no root, and no z.
                z[lane, first + k] = -mean * math.sqrt(-slope * (2.0 + slope)) / spread
    return phi, mu, sigma, tau, corrected, z


@kernel
def _accumulate(sums: Floats, y: Floats, start: int, first: int, stop: int, stride: int, centre: float) -> None:
    """The five sums over a block from one of its ends to each bar, of x, d, x^2, x d and d^2: columns of `sums`."""
    x_sum, d_sum, xx_sum, xd_sum, dd_sum = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(first, stop, stride):
        x, d = (y[i - 1] - centre, y[i] - y[i - 1]) if i > 0 else (np.nan, np.nan)
        if not math.isnan(d):
            x_sum += x
            d_sum += d
            xx_sum += x * x
            xd_sum += x * d
            dd_sum += d * d
        k = i - start
        sums[0, k], sums[1, k], sums[2, k], sums[3, k], sums[4, k] = x_sum, d_sum, xx_sum, xd_sum, dd_sum


@kernel
def _in_two_passes(y: Floats, newest: int, pairs: int, known: int) -> tuple[float, float, float, float, float, float]:
    """Count, means of x and d from the newest y, sums of squares; NaN when too few pairs are known."""
    if newest < pairs or known < KNOWN * pairs or math.isnan(y[newest]):
        return np.nan, np.nan, np.nan, np.nan, np.nan, np.nan
    count, x_mean, d_mean = 0.0, 0.0, 0.0
    for i in range(newest - pairs + 1, newest + 1):
        d = y[i] - y[i - 1]
        if not math.isnan(d):
            count += 1.0
            x_mean += y[i - 1] - y[newest]
            d_mean += d
    x_mean /= count
    d_mean /= count
    xx, xd = 0.0, 0.0
    for i in range(newest - pairs + 1, newest + 1):
        d = y[i] - y[i - 1]
        if not math.isnan(d):
            x = y[i - 1] - y[newest] - x_mean
            xx += x * x
            xd += x * (d - d_mean)
    rest = 0.0
    for i in range(newest - pairs + 1, newest + 1):
        d = y[i] - y[i - 1]
        if not math.isnan(d):
            residual = d - d_mean - xd / xx * (y[i - 1] - y[newest] - x_mean)
            rest += residual * residual
    return count, x_mean, d_mean, xx, xd, rest
