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

from mm_dagster.regime.windows import KNOWN, Lanes, kernel

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
    tail = np.zeros((pairs + 1, 5))
    for lane in range(lanes):
        y = log_close[lane]
        hole = -1
        for start in range(-(anchor % pairs), bars, pairs):
            first, end = max(start, 0), min(start + pairs, bars)
            # Measured from the first known of the closes that every window ending in this block holds.
            centre = np.nan
            for i in range(max(start - 1, 0), end):
                if not math.isnan(y[i]):
                    centre = y[i]
                    break
            _sum_backwards(tail, y, start - pairs, first, centre)
            x_sum, d_sum, xx_sum, xd_sum, dd_sum = 0.0, 0.0, 0.0, 0.0, 0.0
            for i in range(first, end):
                if i > 0:
                    x, d = y[i - 1] - centre, y[i] - y[i - 1]
                    if not math.isnan(d):
                        x_sum += x
                        d_sum += d
                        xx_sum += x * x
                        xd_sum += x * d
                        dd_sum += d * d
                if math.isnan(y[i]):
                    hole = i
                before = tail[i - start + 1]
                xx_all, dd_all = before[2] + xx_sum, before[4] + dd_sum
                x_mean, d_mean = (before[0] + x_sum) / pairs, (before[1] + d_sum) / pairs
                xx = xx_all - pairs * x_mean * x_mean
                xd = (before[3] + xd_sum) - pairs * x_mean * d_mean
                rest = dd_all - pairs * d_mean * d_mean - xd * xd / xx
                count = float(pairs)
                origin = centre
                if not (i - hole > pairs and xx > SIGNIFICANT * xx_all and rest > SIGNIFICANT * dd_all):
                    origin = y[i]
                    count, x_mean, d_mean, xx, xd, rest = _in_two_passes(y, i, pairs)
                slope = xd / xx
                spread = math.sqrt(rest / (count - 2.0))
                mean = x_mean - d_mean / slope
                phi[lane, i] = 1.0 + slope
                mu[lane, i] = origin + mean
                sigma[lane, i] = spread
                tau[lane, i] = slope * math.sqrt(xx) / spread
                # 1 - phi^2, positive where abs(phi) < 1.
                pull = -slope * (2.0 + slope)
                z[lane, i] = (y[i] - origin - mean) * math.sqrt(pull) / spread if pull > 0.0 else np.nan
                half_life[lane, i] = _half_life(1.0 + slope, count)
    return phi, mu, sigma, tau, half_life, z


@kernel
def _sum_backwards(tail: Lanes, y: Lanes, start: int, end: int, centre: float) -> None:
    """The five sums from each bar of a block to its end, into rows of `tail`."""
    x_sum, d_sum, xx_sum, xd_sum, dd_sum = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(end - 1, max(start, 1) - 1, -1):
        x, d = y[i - 1] - centre, y[i] - y[i - 1]
        if not math.isnan(d):
            x_sum += x
            d_sum += d
            xx_sum += x * x
            xd_sum += x * d
            dd_sum += d * d
        row = tail[i - start]
        row[0], row[1], row[2], row[3], row[4] = x_sum, d_sum, xx_sum, xd_sum, dd_sum


@kernel
def _in_two_passes(y: Lanes, newest: int, pairs: int) -> tuple[float, float, float, float, float, float]:
    """Count, means of x and d from the newest y, and the sums of squares; NaN when too few pairs are known."""
    nothing = (np.nan, np.nan, np.nan, np.nan, np.nan, np.nan)
    if newest < pairs or math.isnan(y[newest]):
        return nothing
    count, x_mean, d_mean = 0.0, 0.0, 0.0
    for i in range(newest - pairs + 1, newest + 1):
        d = y[i] - y[i - 1]
        if not math.isnan(d):
            count += 1.0
            x_mean += y[i - 1] - y[newest]
            d_mean += d
    if count < KNOWN * pairs:
        return nothing
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
def _half_life(phi: float, count: float) -> float:
    corrected = (count * phi + 1.0) / (count - 3.0)
    if corrected >= 1.0:
        return np.inf
    if corrected <= 0.0:
        return 0.0
    return math.log(2.0) / -math.log(corrected)
