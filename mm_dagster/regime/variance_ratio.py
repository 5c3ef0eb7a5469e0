"""Whether returns add up or cancel out: the variance ratio and its robust z over a sliding window.

With a mean m of its own, each window needs the sum over all pairs of returns a, b up to q - 1 bars apart of
w (a - m)^2 (b - m)^2. Multiplied out in powers of m it is made of four sums that know no mean, and those are taken
over two blocks (see `windows`) and the pairs across their boundary. Where bars are MISSING, and where the mean takes
nearly all of the variance with it, the window is gone through directly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mm_dagster.arrays import Floats, kernel
from mm_dagster.regime.lanes import put, roots, side_by_side, spread, take, where, whole
from mm_dagster.regime.windows import FLAT, KNOWN, all_known, windowed_mean

SIGNIFICANT = 1e-4
"""Least share of a sum of squares that must be left once its mean is taken out; the rest costs as many digits."""


def variance_ratio(
    log_close: Floats, change: Floats, square_mean: Floats, returns: int, q: int, anchor: int, lanes: int = 1
) -> tuple[Floats, Floats]:
    """Variance of q-bar returns over q times that of 1-bar returns, and the z of its distance from 1.

    Lo and MacKinlay (1988): overlapping q-bar returns, debiased, robust to heteroscedasticity, wholly inside the
    `returns` + 1 closes of the window. A q-bar return is known when all its bars are; at least `KNOWN` of both kinds
    must be.

    Args:
        log_close: shape (groups, bars x lanes), as in `windows`.
        change: returns over one bar, the same shape.
        square_mean: windowed mean of their squares, as wide as the window.
        returns: 1-bar returns in a window, at least 2 q.
        q: bars of the longer return.
        anchor: absolute number of the first bar.
        lanes: series in a group.

    Returns:
        The ratio and its z; NaN where there is none.
    """
    long = _changes(log_close, q, lanes)
    long_mean, long_square_mean = (
        windowed_mean(long, returns - q + 1, anchor, lanes, squared) for squared in (False, True)
    )
    means = (square_mean, long_mean, long_square_mean)
    return _ratio(
        log_close, change, means, returns, q, anchor, lanes, side_by_side(lanes), side_by_side(returns * lanes, FLAT)
    )


@kernel
def _changes(log_close: Floats, q: int, lanes: int) -> Floats:
    """Returns over q bars; NaN where a bar among them is not known."""
    groups, size = log_close.shape
    change = np.empty((groups, size))
    for group in range(groups):
        y = log_close[group]
        now, before, found = y[q * lanes :], y, change[group, q * lanes :]
        change[group, : q * lanes] = np.nan
        for k in range(found.size):
            found[k] = now[k] - before[k]
        for i in range(size if not all_known(y, 0, size) else 0):
            if math.isnan(y[i]):
                change[group, i : i + q * lanes + 1 : lanes] = np.nan
    return change


@kernel
def _ratio(
    log_close: Floats,
    change: Floats,
    means: tuple[Floats, Floats, Floats],
    returns: int,
    q: int,
    anchor: int,
    lanes: int,
    together: tuple[float, ...],
    flat: tuple[float, ...],
) -> tuple[Floats, Floats]:
    """The ratio and its z from the means over the window of r^2 and of the q-bar returns and their squares."""
    groups, size = change.shape
    found = np.empty((2, groups, size))
    lags = q - 1
    weight, reach, pairs = _weights(returns, q)
    # Debiased: q (returns - q + 1) (1 - q / returns) in place of the number of long returns, returns - 1 of short ones.
    scale = (returns - 1.0) / returns / (q * (1.0 - q / returns))
    # A block of returns between zeros: no pair reaches out of it.
    block, square = np.zeros((returns + 2 * lags) * lanes), np.zeros((returns + 2 * lags) * lanes)
    tail, across = np.empty((returns + 1) * 4 * lanes), np.empty((2 * lags + 1) * 4 * lanes)
    before, before_square = np.empty(returns * lanes), np.empty(returns * lanes)
    after, after_square = np.empty(returns * lanes), np.empty(returns * lanes)
    for group in range(groups):
        y, r, ratio, z = log_close[group], change[group], found[0, group], found[1, group]
        square_mean, long_mean, long_square_mean = means[0][group], means[1][group], means[2][group]
        tail[:] = 0.0
        complete = False
        for start in range(-(anchor % returns) * lanes, size, returns * lanes):
            first, end = max(start, 0), min(start + returns * lanes, size)
            complete_before, complete = complete, first == start and all_known(r, first, end)
            clear = complete_before and complete
            block[:] = 0.0
            for i in range(first, end):
                block[lags * lanes + i - start] = 0.0 if math.isnan(r[i]) else r[i]
            for k in range(block.size):
                square[k] = block[k] * block[k]
            _beside(before, before_square, block, square, weight, -lanes, flat)
            _beside(after, after_square, block, square, weight, lanes, flat)
            for lane in range(0, lanes, len(together)):
                _pairs_across(across, r, start, weight, lanes, lane, together)
                sums = _no_pairs(together)
                for n in range((end - start) // lanes):
                    i, k = start + n * lanes + lane, n * lanes + lane
                    here = take(block, lags * lanes + k, together)
                    sums = _add_return(
                        sums, here, reach[n], take(before, k, together), take(before_square, k, together)
                    )
                    if i < 0:
                        continue
                    column = min(n + 1, lags) if n < returns - lags else lags + returns - n
                    whole_window = _joined(
                        sums,
                        _taken(tail, (n + 1) * 4 * lanes + lane, lanes, together),
                        _taken(across, column * 4 * lanes + lane, lanes, together),
                    )
                    three = (
                        take(square_mean, i, together),
                        take(long_mean, i, together),
                        take(long_square_mean, i, together),
                    )
                    # A window that begins before the series is done again.
                    oldest = take(y, max(i - returns * lanes, lane), together)
                    mean = (take(y, i, together) - oldest) / returns
                    found_ratio, found_z, enough = _finish(mean, three, whole_window, returns, q, scale, pairs)
                    put(ratio, i, where(enough, found_ratio, np.nan))
                    put(z, i, where(enough, found_z, np.nan))
                    clear &= whole(enough)
                sums = _no_pairs(together)
                for n in range(returns):
                    k = (returns - 1 - n) * lanes + lane
                    here = take(block, lags * lanes + k, together)
                    sums = _add_return(sums, here, reach[n], take(after, k, together), take(after_square, k, together))
                    _put_sums(tail, 4 * (k - lane) + lane, lanes, sums)
            if not clear:
                _ratio_again(ratio, z, y, r, first, end, returns, weight, lanes)
    return found[0], found[1]


@kernel
def _weights(returns: int, q: int) -> tuple[Floats, Floats, float]:
    """The weights of pairs by how far apart they lie; those that each return of a block makes with the ones before it,
    and those of all pairs of a window, added up."""
    weight = np.zeros(q)
    pairs = 0.0
    for j in range(1, q):
        weight[j] = (2.0 * (q - j) / q) ** 2
        pairs += weight[j] * (returns - j)
    reach = np.full(returns, weight.sum())
    for n in range(q - 1):
        reach[n] = weight[: n + 1].sum()
    return weight, reach, pairs


@kernel
def _no_pairs(together: tuple[float, ...]) -> tuple[Any, Any, Any, Any]:
    zero = spread(0.0, together)
    return zero, zero, zero, zero


@kernel
def _put_sums(columns: Floats, place: int, lanes: int, sums: tuple[Any, Any, Any, Any]) -> None:
    put(columns, place, sums[0])
    put(columns, place + lanes, sums[1])
    put(columns, place + 2 * lanes, sums[2])
    put(columns, place + 3 * lanes, sums[3])


@kernel
def _taken(columns: Floats, place: int, lanes: int, together: tuple[float, ...]) -> tuple[Any, Any, Any, Any]:
    return (
        take(columns, place, together),
        take(columns, place + lanes, together),
        take(columns, place + 2 * lanes, together),
        take(columns, place + 3 * lanes, together),
    )


@kernel
def _joined(
    a: tuple[Any, Any, Any, Any], b: tuple[Any, Any, Any, Any], c: tuple[Any, Any, Any, Any]
) -> tuple[Any, Any, Any, Any]:
    return a[0] + b[0] + c[0], a[1] + b[1] + c[1], a[2] + b[2] + c[2], a[3] + b[3] + c[3]


@kernel
def _beside(
    beside: Floats,
    beside_square: Floats,
    block: Floats,
    square: Floats,
    weight: Floats,
    stride: int,
    flat: tuple[float, ...],
) -> None:
    """For each return of a block the weighted sum of the returns beside it, before or after, and of their squares."""
    lags = weight.size - 1
    for k in range(0, beside.size, len(flat)):
        here = k + lags * abs(stride)
        total, square_total = spread(0.0, flat), spread(0.0, flat)
        # Two lags at once.
        for j in range(1, lags, 2):
            one, other = here + stride * j, here + stride * (j + 1)
            total += weight[j] * take(block, one, flat) + weight[j + 1] * take(block, other, flat)
            square_total += weight[j] * take(square, one, flat) + weight[j + 1] * take(square, other, flat)
        if lags % 2 == 1:
            total += weight[lags] * take(block, here + stride * lags, flat)
            square_total += weight[lags] * take(square, here + stride * lags, flat)
        put(beside, k, total)
        put(beside_square, k, square_total)


@kernel
def _add_return(
    sums: tuple[Any, Any, Any, Any], r: Any, reach: float, beside: Any, beside_square: Any
) -> tuple[Any, Any, Any, Any]:
    """Four sums over pairs with those of one more return, weighted by how far apart the two lie.

    Of a^2 b^2, a^2 b + a b^2, a^2 + b^2 + 4 a b and a + b; `reach` is the sum of the weights.
    """
    square = r * r
    return (
        sums[0] + square * beside_square,
        sums[1] + (square * beside + r * beside_square),
        sums[2] + (square * reach + beside_square + 4.0 * r * beside),
        sums[3] + (r * reach + beside),
    )


@kernel
def _finish(
    mean: Any,
    means: tuple[Any, Any, Any],
    sums: tuple[Any, Any, Any, Any],
    returns: int,
    q: int,
    scale: float,
    pairs: float,
) -> tuple[Any, Any, Any]:
    """Ratio and z of complete windows, and whether enough is left of the sums once the mean is taken out."""
    square_mean, long_mean, long_square_mean = means
    sum_4, sum_3, sum_2, sum_1 = sums
    squares = square_mean - mean * mean
    long = long_square_mean - 2.0 * q * mean * long_mean + (q * mean) * (q * mean)
    cross = sum_4 - 2.0 * mean * sum_3
    cross += mean * mean * (sum_2 - 2.0 * mean * sum_1 + mean * mean * pairs)
    enough = (squares > SIGNIFICANT * square_mean) & (long > SIGNIFICANT * long_square_mean)
    ratio = scale * long / squares
    return ratio, (ratio - 1.0) * returns * squares / roots(cross), enough


@kernel
def _ratio_again(
    ratio: Floats, z: Floats, y: Floats, r: Floats, first: int, end: int, returns: int, weight: Floats, lanes: int
) -> None:
    """The windows of a block with holes or flat ones: those that are not complete, or NaN, by the definition."""
    for lane in range(lanes):
        known = 0
        for i in range(max(first - returns * lanes, 0) + lane, end, lanes):
            known += not math.isnan(r[i])
            if i < first:
                continue
            known -= i >= returns * lanes and not math.isnan(r[i - returns * lanes])
            if known == returns and not math.isnan(ratio[i]):
                continue
            ratio[i], z[i] = np.nan, np.nan
            if i >= returns * lanes and known >= KNOWN * returns and not math.isnan(y[i]):
                ratio[i], z[i] = _directly(y, i, returns, weight.size, weight, lanes)


@kernel
def _pairs_across(
    across: Floats, r: Floats, start: int, weight: Floats, lanes: int, lane: int, together: tuple[float, ...]
) -> None:
    """The same sums over the pairs of one return before `start` and one after it.

    Column n, up to q - 1, is of the first n returns after. The columns after that are of the windows that end with the
    last return of the block, the one before it and so on: fewer returns of the block before are in them than a pair may
    lie apart.
    """
    lags = weight.size - 1
    sums = _no_pairs(together)
    for n in range(2 * lags + 1):
        if n == lags + 1:
            sums = _no_pairs(together)
        if 0 < n <= lags:
            newer = start + (n - 1) * lanes
            for j in range(n, min(lags, newer // lanes) + 1 if 0 <= newer < r.size else 0):
                older = newer - j * lanes
                sums = _add_pair(sums, take(r, newer + lane, together), take(r, older + lane, together), weight[j])
        there = n - lags - 1
        if there > 0 and there * lanes <= start <= r.size - lags * lanes:
            older = start - there * lanes + lane
            for j in range(there, lags + 1):
                newer = older + j * lanes
                sums = _add_pair(sums, take(r, newer, together), take(r, older, together), weight[j])
        _put_sums(across, n * 4 * lanes + lane, lanes, sums)


@kernel
def _add_pair(sums: tuple[Any, Any, Any, Any], a: Any, b: Any, weight: float) -> tuple[Any, Any, Any, Any]:
    known = (a == a) & (b == b)
    return (
        sums[0] + where(known, weight * (a * a * b * b), 0.0),
        sums[1] + where(known, weight * (a * a * b + a * b * b), 0.0),
        sums[2] + where(known, weight * (a * a + b * b + 4.0 * a * b), 0.0),
        sums[3] + where(known, weight * (a + b), 0.0),
    )


@kernel
def _directly(y: Floats, newest: int, returns: int, q: int, weight: Floats, lanes: int = 1) -> tuple[float, float]:
    """One window by the definition, over what is known of it."""
    first = newest - returns * lanes
    mean, count = 0.0, 0
    for k in range(first + lanes, newest + 1, lanes):
        change = y[k] - y[k - lanes]
        if not math.isnan(change):
            mean += change
            count += 1
    if count < KNOWN * returns:
        return np.nan, np.nan
    mean /= count
    square, present = np.zeros(returns), np.zeros(returns)
    squares, long_squares, long_count, run = 0.0, 0.0, 0, 0
    for k in range(returns):
        now = first + (k + 1) * lanes
        change = y[now] - y[now - lanes]
        if math.isnan(change):
            run = 0
            continue
        square[k], present[k] = (change - mean) ** 2, 1.0
        squares += square[k]
        run += 1
        if run >= q:
            long_squares += (y[now] - y[now - q * lanes] - q * mean) ** 2
            long_count += 1
    if squares == 0.0 or long_count < KNOWN * (returns - q + 1):
        return np.nan, np.nan
    ratio = long_squares / (q * long_count * (1.0 - q / count)) / (squares / (count - 1))
    cross = 0.0
    for j in range(1, q):
        together, pairs = 0.0, 0.0
        for k in range(j, returns):
            together += square[k] * square[k - j]
            pairs += present[k] * present[k - j]
        # With no hole there are count - j pairs, and the factor is exactly 1.
        cross += weight[j] * together * ((count - j) / pairs)
    return ratio, (ratio - 1.0) * squares / math.sqrt(cross)
