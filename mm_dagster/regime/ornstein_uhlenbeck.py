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

from mm_dagster.regime.windows import KNOWN, Lanes, kernel, known_among

SIGNIFICANT = 1e-4
"""Least share of a sum of squares that must be left once its mean is taken out; the rest costs as many digits."""


@kernel
def fit(log_close: Lanes, pairs: int, anchor: int) -> tuple[Lanes, Lanes, Lanes, Lanes, Lanes, Lanes]:
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
    lanes, bars = log_close.shape
    phi, mu, sigma = np.empty((lanes, bars)), np.empty((lanes, bars)), np.empty((lanes, bars))
    tau, half_life, z = np.empty((lanes, bars)), np.empty((lanes, bars)), np.empty((lanes, bars))
    head, tail = np.empty((5, pairs)), np.zeros((5, pairs + 1))
    share = 1.0 / pairs
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
            # Whole arrays at a time, each a loop of its own: the compiler then computes several bars at once.
            begin, size = first - start, end - first
            sums = head[:, begin : begin + size] + tail[:, begin + 1 : begin + 1 + size]
            mean_x, mean_d = sums[0] * share, sums[1] * share
            xx = sums[2] - sums[0] * mean_x
            xd = sums[3] - sums[0] * mean_d
            rest = sums[4] - sums[1] * mean_d - xd * xd / xx
            # From here on measured from the newest close.
            mean_x += centre - y[first:end]
            # With no hole in this block and the one before, every window in it is complete.
            complete_before, complete = complete, known_among(y, first, end - 1) == pairs
            known = pairs if complete_before and complete else known
            corrected = (pairs + 1.0) / (pairs - 3.0) + xd / xx * (pairs / (pairs - 3.0))
            for k in range(size):
                i = first + k
                if not (complete_before and complete):
                    known += i > 0 and not math.isnan(y[i] - y[i - 1])
                    known -= i > pairs and not math.isnan(y[i - pairs] - y[i - pairs - 1])
                if known < pairs or not (xx[k] > SIGNIFICANT * sums[2, k] and rest[k] > SIGNIFICANT * sums[4, k]):
                    count, mean_x[k], mean_d[k], xx[k], xd[k], rest[k] = _in_two_passes(y, i, pairs, known)
                    corrected[k] = (count + 1.0) / (count - 3.0) + xd[k] / xx[k] * (count / (count - 3.0))
                    rest[k] *= (pairs - 2.0) / (count - 2.0)
                half_life[lane, i] = _half_life(corrected[k])
            rest *= 1.0 / (pairs - 2.0)
            slope, spread = xd / xx, np.sqrt(rest)
            mean = mean_x - mean_d / slope
            phi[lane, first:end] = 1.0 + slope
            mu[lane, first:end] = y[first:end] + mean
            sigma[lane, first:end] = spread
            tau[lane, first:end] = slope * np.sqrt(xx) / spread
            # 1 - phi^2, positive where abs(phi) < 1; otherwise there is no root, and no z.
            z[lane, first:end] = -mean * np.sqrt(-slope * (2.0 + slope)) / spread
    return phi, mu, sigma, tau, half_life, z


@kernel
def _accumulate(sums: Lanes, y: Lanes, start: int, first: int, stop: int, stride: int, centre: float) -> None:
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
def _in_two_passes(y: Lanes, newest: int, pairs: int, known: int) -> tuple[float, float, float, float, float, float]:
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


@kernel
def _half_life(corrected: float) -> float:
    """In bars, of a phi that is corrected for its bias."""
    if corrected >= 1.0:
        return np.inf
    if corrected <= 0.0:
        return 0.0
    return math.log(2.0) / -math.log(corrected)
