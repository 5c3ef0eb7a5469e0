"""How fast a price comes back: the least-squares fit of an Ornstein-Uhlenbeck process over a sliding window.

The fit is written in the change d = y_i - y_(i-1) and the value before it, x = y_(i-1): d = a + b x, phi = 1 + b. So
phi - 1, on which everything hangs, is found directly and not as a difference of two numbers near 1.

The five sums of a window are those of two blocks (see `windows`), both measured from the log price at the boundary
between them, which lies inside the window. Where a window is so flat, or so steady, that its sums say less than
`SIGNIFICANT` of what they were made of, and where bars are MISSING, the fit is done in two passes over the window.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mm_dagster.arrays import Floats, kernel, natural_log
from mm_dagster.regime.lanes import put, roots, side_by_side, spread, take, where, whole
from mm_dagster.regime.windows import KNOWN, all_known

SIGNIFICANT = 1e-4
"""Least share of a sum of squares that must be left once its mean is taken out; the rest costs as many digits."""


def fit(
    log_close: Floats, pairs: int, anchor: int, lanes: int = 1
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Fit of y_i on y_(i-1) over the known ones of the last `pairs` pairs (Vasicek 1977).

    Args:
        log_close: y, shape (groups, bars x lanes), as in `windows`.
        pairs: width of the window; it holds one bar more.
        anchor: absolute number of the first bar.
        lanes: series in a group.

    Returns:
        phi; mu, the mean that it reverts to, log price; sigma, the residual standard deviation per bar; tau, the
        Dickey-Fuller statistic (phi - 1) / se(phi); the half-life in bars, of phi corrected for its bias (Kendall
        1954); z, the distance of the newest y from mu in stationary standard deviations. NaN where there is none.
    """
    phi, mu, sigma, tau, corrected, z = _fit(log_close, pairs, anchor, lanes, side_by_side(lanes))
    return phi, mu, sigma, tau, _half_life(corrected), z


def _half_life(corrected: Floats) -> Floats:
    """In bars, of a phi that is corrected for its bias."""
    return _half_lives(corrected, natural_log(corrected))


@kernel
def _half_lives(corrected: Floats, logs: Floats) -> Floats:
    found = logs
    for group in range(found.shape[0]):
        for i in range(found.shape[1]):
            one = corrected[group, i]
            half_life = math.log(2.0) / -logs[group, i]
            half_life = np.inf if one >= 1.0 else half_life
            found[group, i] = 0.0 if one <= 0.0 else half_life
    return found


@kernel
def _fit(
    log_close: Floats, pairs: int, anchor: int, lanes: int, together: tuple[float, ...]
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """What `fit` returns, but for the corrected phi in place of the half-life."""
    groups, size = log_close.shape
    found = np.empty((6, groups, size))
    tail = np.zeros((5, (pairs + 1) * lanes))
    centres = np.empty(lanes)
    for group in range(groups):
        y, fits = log_close[group], found[:, group]
        complete = False
        for start in range(-(anchor % pairs) * lanes, size, pairs * lanes):
            first, end = max(start, 0), min(start + pairs * lanes, size)
            # With no hole in this block and the one before, every window in it is complete.
            complete_before, complete = complete, first == start and all_known(y, first, end)
            clear = complete_before and complete
            for lane in range(lanes):
                # Measured from the first known of the closes that every window ending in this block holds.
                centres[lane] = _first_known(y, max(start - lanes, 0) + lane, end, lanes)
            for lane in range(0, lanes, len(together)):
                centre = take(centres, lane, together)
                _accumulate(tail, y, start - pairs * lanes, first - lanes + lane, lanes, centre, together)
                clear &= _fit_block(fits, y, start, first + lane, end, tail, pairs, lanes, centre, together)
            if not clear:
                _fit_again(fits, y, first, end, pairs, lanes)
    return found[0], found[1], found[2], found[3], found[4], found[5]


@kernel
def _first_known(y: Floats, first: int, end: int, lanes: int) -> float:
    for i in range(first, end, lanes):
        if not math.isnan(y[i]):
            return float(y[i])
    return np.nan


@kernel
def _add(sums: Any, y: Floats, place: int, lanes: int, centre: Any, together: tuple[float, ...]) -> Any:
    """The five sums with one more pair, that which ends at `place`, if it is known: of x, d, x^2, x d and d^2."""
    x_sum, d_sum, xx_sum, xd_sum, dd_sum = sums
    if place >= lanes:
        before = take(y, place - lanes, together)
        d = take(y, place, together) - before
        x = where(d == d, before - centre, 0.0)
        d = where(d == d, d, 0.0)
        return x_sum + x, d_sum + d, xx_sum + x * x, xd_sum + x * d, dd_sum + d * d
    return sums


@kernel
def _accumulate(
    sums: Floats, y: Floats, start: int, last: int, lanes: int, centre: Any, together: tuple[float, ...]
) -> None:
    """The five sums from each pair of the block that begins at place `start` to its last one: columns of `sums`."""
    zero = spread(0.0, together)
    five = (zero, zero, zero, zero, zero)
    for i in range(last, max(start, 0) - 1, -lanes):
        five = _add(five, y, i, lanes, centre, together)
        x_sum, d_sum, xx_sum, xd_sum, dd_sum = five
        put(sums[0], i - start, x_sum)
        put(sums[1], i - start, d_sum)
        put(sums[2], i - start, xx_sum)
        put(sums[3], i - start, xd_sum)
        put(sums[4], i - start, dd_sum)


@kernel
def _fit_block(
    fits: Floats,
    y: Floats,
    start: int,
    first: int,
    end: int,
    tail: Floats,
    pairs: int,
    lanes: int,
    centre: Any,
    together: tuple[float, ...],
) -> bool:
    """The fits of complete windows that end in a block, of some lanes; the corrected phi is NaN where a window is flat.

    Returns:
        Whether none is.
    """
    zero = spread(0.0, together)
    five = (zero, zero, zero, zero, zero)
    share = 1.0 / pairs
    clear = True
    for i in range(first, end, lanes):
        five = _add(five, y, i, lanes, centre, together)
        x_sum, d_sum, xx_sum, xd_sum, dd_sum = five
        k = i - start + lanes
        x_sum += take(tail[0], k, together)
        d_sum += take(tail[1], k, together)
        xx_sum += take(tail[2], k, together)
        xd_sum += take(tail[3], k, together)
        dd_sum += take(tail[4], k, together)
        mean_x, mean_d = x_sum * share, d_sum * share
        xx = xx_sum - x_sum * mean_x
        xd = xd_sum - x_sum * mean_d
        rest = dd_sum - d_sum * mean_d - xd * xd / xx
        significant = (xx > SIGNIFICANT * xx_sum) & (rest > SIGNIFICANT * dd_sum)
        clear &= whole(significant)
        corrected = (pairs + 1.0) / (pairs - 3.0) + xd / xx * (pairs / (pairs - 3.0))
        put(fits[4], i, where(significant, corrected, np.nan))
        here = take(y, i, together)
        _put_fit(fits, i, here, mean_x + (centre - here), mean_d, xx, xd, rest, pairs)
    return clear


@kernel
def _put_fit(
    fits: Floats, place: int, here: Any, mean_x: Any, mean_d: Any, xx: Any, xd: Any, rest: Any, pairs: int
) -> None:
    """What is known of a fit, from means measured from the newest close, and sums of squares."""
    slope, deviation = xd / xx, roots(rest * (1.0 / (pairs - 2.0)))
    mean = mean_x - mean_d / slope
    put(fits[0], place, 1.0 + slope)
    put(fits[1], place, here + mean)
    put(fits[2], place, deviation)
    put(fits[3], place, slope * roots(xx) / deviation)
    # 1 - phi^2, positive where abs(phi) < 1; otherwise there is no root, and no z.
    put(fits[5], place, -1.0 * mean * roots(-1.0 * slope * (2.0 + slope)) / deviation)


@kernel
def _fit_again(fits: Floats, y: Floats, first: int, end: int, pairs: int, lanes: int) -> None:
    """The fits of a block with holes or flat windows: those that are not complete, or NaN, by two passes."""
    one = (0.0,)
    for lane in range(lanes):
        known = 0
        for i in range(max(first - pairs * lanes, 0) + lane, end, lanes):
            known += i >= lanes and not math.isnan(y[i] - y[i - lanes])
            if i < first:
                continue
            known -= i >= (pairs + 1) * lanes and not math.isnan(y[i - pairs * lanes] - y[i - (pairs + 1) * lanes])
            if known == pairs and not math.isnan(fits[4, i]):
                continue
            count, mean_x, mean_d, xx, xd, rest = _in_two_passes(y, i, pairs, known, lanes)
            fits[4, i] = (count + 1.0) / (count - 3.0) + xd / xx * (count / (count - 3.0))
            rest *= (pairs - 2.0) / (count - 2.0)
            _put_fit(
                fits,
                i,
                spread(y[i], one),
                spread(mean_x, one),
                spread(mean_d, one),
                spread(xx, one),
                spread(xd, one),
                spread(rest, one),
                pairs,
            )


@kernel
def _in_two_passes(
    y: Floats, newest: int, pairs: int, known: int, lanes: int
) -> tuple[float, float, float, float, float, float]:
    """Count, means of x and d from the newest y, sums of squares; NaN when too few pairs are known."""
    if newest < pairs * lanes or known < KNOWN * pairs or math.isnan(y[newest]):
        return np.nan, np.nan, np.nan, np.nan, np.nan, np.nan
    count, x_mean, d_mean = 0.0, 0.0, 0.0
    for i in range(newest - (pairs - 1) * lanes, newest + 1, lanes):
        d = y[i] - y[i - lanes]
        if not math.isnan(d):
            count += 1.0
            x_mean += y[i - lanes] - y[newest]
            d_mean += d
    x_mean /= count
    d_mean /= count
    xx, xd = 0.0, 0.0
    for i in range(newest - (pairs - 1) * lanes, newest + 1, lanes):
        d = y[i] - y[i - lanes]
        if not math.isnan(d):
            x = y[i - lanes] - y[newest] - x_mean
            xx += x * x
            xd += x * (d - d_mean)
    rest = 0.0
    for i in range(newest - (pairs - 1) * lanes, newest + 1, lanes):
        d = y[i] - y[i - lanes]
        if not math.isnan(d):
            residual = d - d_mean - xd / xx * (y[i - lanes] - y[newest] - x_mean)
            rest += residual * residual
    return count, x_mean, d_mean, xx, xd, rest
