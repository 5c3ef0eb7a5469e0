"""Whether returns add up or cancel out: the variance ratio and its robust z over a sliding window.

With a mean m of its own, each window needs the sum over all pairs of returns a, b up to q - 1 bars apart of
w (a - m)^2 (b - m)^2. Multiplied out in powers of m it is made of four sums that know no mean, and those are taken
over two blocks (see `windows`) and the pairs across their boundary. Where bars are MISSING, and where the mean takes
nearly all of the variance with it, the window is gone through directly.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.regime.windows import KNOWN, Lanes, kernel, windowed_mean

SIGNIFICANT = 1e-4
"""Least share of a sum of squares that must be left once its mean is taken out; the rest costs as many digits."""


def variance_ratio(log_close: Lanes, returns: int, q: int, anchor: int) -> tuple[Lanes, Lanes]:
    """Variance of q-bar returns over q times that of 1-bar returns, and the z of its distance from 1.

    Lo and MacKinlay (1988): overlapping q-bar returns, debiased, robust to heteroscedasticity, wholly inside the
    `returns` + 1 closes of the window. A q-bar return is known when all its bars are; at least `KNOWN` of both kinds
    must be.

    Args:
        log_close: shape (lanes, bars).
        returns: 1-bar returns in a window, at least 2 q.
        q: bars of the longer return.
        anchor: absolute number of the first bar.

    Returns:
        The ratio and its z; NaN where there is none.
    """
    change, long = _changes(log_close, q)
    return _ratio(
        log_close,
        windowed_mean(change * change, returns, anchor),
        windowed_mean(long, returns - q + 1, anchor),
        windowed_mean(long * long, returns - q + 1, anchor),
        change,
        returns,
        q,
        anchor,
    )


@kernel
def _changes(log_close: Lanes, q: int) -> tuple[Lanes, Lanes]:
    """Returns over one bar and over q bars; NaN where a bar among them is not known."""
    lanes, bars = log_close.shape
    change, long = np.full((lanes, bars), np.nan), np.full((lanes, bars), np.nan)
    for lane in range(lanes):
        y = log_close[lane]
        hole = -1
        for i in range(bars):
            if math.isnan(y[i]):
                hole = i
            if i - hole > 1:
                change[lane, i] = y[i] - y[i - 1]
            if i - hole > q:
                long[lane, i] = y[i] - y[i - q]
    return change, long


@kernel
def _ratio(
    log_close: Lanes,
    square_mean: Lanes,
    long_mean: Lanes,
    long_square_mean: Lanes,
    change: Lanes,
    returns: int,
    q: int,
    anchor: int,
) -> tuple[Lanes, Lanes]:
    """The ratio and its z from the means over the window of r^2 and of the q-bar returns and their squares."""
    lanes, bars = change.shape
    ratio, z = np.full((lanes, bars), np.nan), np.full((lanes, bars), np.nan)
    lags = q - 1
    weight = np.empty(q)
    pairs = 0.0
    for j in range(1, q):
        weight[j] = (2.0 * (q - j) / q) ** 2
        pairs += weight[j] * (returns - j)
    # Debiased: q longs (1 - q / returns) in place of the number of long returns, returns - 1 of short ones.
    scale = (returns - 1.0) / returns / (q * (1.0 - q / returns))
    # A block of returns between zeros: no pair reaches out of it.
    block = np.zeros(returns + 2 * lags)
    square = np.zeros(returns + 2 * lags)
    head, tail = np.empty((returns, 4)), np.zeros((returns + 1, 4))
    across, part = np.zeros((q, 4)), np.zeros((q, 4))
    for lane in range(lanes):
        y, r = log_close[lane], change[lane]
        known = 0
        tail[:] = 0.0
        for start in range(-(anchor % returns), bars, returns):
            first, end = max(start, 0), min(start + returns, bars)
            block[:] = 0.0
            for i in range(first, end):
                if not math.isnan(r[i]):
                    block[lags + i - start] = r[i]
            for k in range(block.size):
                square[k] = block[k] * block[k]
            _pairs_forwards(head, block, square, weight)
            _pairs_across(across, r, start, start - lags, weight)
            for i in range(first, end):
                known += not math.isnan(r[i])
                known -= i >= returns and not math.isnan(r[i - returns])
                if known < KNOWN * returns or math.isnan(y[i]):
                    continue
                if known < returns:
                    ratio[lane, i], z[lane, i] = _directly(y, i, returns, q, weight)
                    continue
                mean = (y[i] - y[i - returns]) / returns
                squares = square_mean[lane, i] - mean * mean
                long = long_square_mean[lane, i] - 2.0 * q * mean * long_mean[lane, i] + (q * mean) ** 2
                if not (
                    squares > SIGNIFICANT * square_mean[lane, i] and long > SIGNIFICANT * long_square_mean[lane, i]
                ):
                    ratio[lane, i], z[lane, i] = _directly(y, i, returns, q, weight)
                    continue
                place = i - start
                over = across[min(place + 1, lags)]
                if place > returns - q:
                    # Of the block before, fewer returns are in the window than a pair may lie apart.
                    _pairs_across(part, r, start, i - returns + 1, weight)
                    over = part[lags]
                one, other = head[place], tail[place + 1]
                cross = one[0] + other[0] + over[0]
                cross -= 2.0 * mean * (one[1] + other[1] + over[1])
                cross += mean**2 * (one[2] + other[2] + over[2])
                cross -= 2.0 * mean**3 * (one[3] + other[3] + over[3])
                cross += mean**4 * pairs
                found = scale * long / squares
                ratio[lane, i] = found
                z[lane, i] = (found - 1.0) * returns * squares / math.sqrt(cross)
            _pairs_backwards(tail, block, square, weight)
    return ratio, z


@kernel
def _pairs_forwards(head: Lanes, block: Lanes, square: Lanes, weight: Lanes) -> None:
    """The four sums over the pairs from the block's first return to each: of a^2 b^2, a^2 b + a b^2, a^2 + b^2 + 4 a b
    and a + b, weighted by how far apart the two lie."""
    lags, returns = weight.size - 1, head.shape[0]
    near, near_square = _neighbours(block, square, weight, returns, -1)
    sum_4, sum_3, sum_2, sum_1, reach = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(returns):
        if 0 < k <= lags:
            reach += weight[k]
        a, a2 = block[lags + k], square[lags + k]
        sum_4 += a2 * near_square[k]
        sum_3 += a2 * near[k] + a * near_square[k]
        sum_2 += a2 * reach + near_square[k] + 4.0 * a * near[k]
        sum_1 += a * reach + near[k]
        row = head[k]
        row[0], row[1], row[2], row[3] = sum_4, sum_3, sum_2, sum_1


@kernel
def _pairs_backwards(tail: Lanes, block: Lanes, square: Lanes, weight: Lanes) -> None:
    """The same sums over the pairs from each return to the block's last."""
    lags, returns = weight.size - 1, tail.shape[0] - 1
    near, near_square = _neighbours(block, square, weight, returns, 1)
    sum_4, sum_3, sum_2, sum_1, reach = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(returns - 1, -1, -1):
        if 0 < returns - 1 - k <= lags:
            reach += weight[returns - 1 - k]
        a, a2 = block[lags + k], square[lags + k]
        sum_4 += a2 * near_square[k]
        sum_3 += a2 * near[k] + a * near_square[k]
        sum_2 += a2 * reach + near_square[k] + 4.0 * a * near[k]
        sum_1 += a * reach + near[k]
        row = tail[k]
        row[0], row[1], row[2], row[3] = sum_4, sum_3, sum_2, sum_1


@kernel
def _neighbours(block: Lanes, square: Lanes, weight: Lanes, returns: int, direction: int) -> tuple[Lanes, Lanes]:
    """For each return of a block the weighted sum of those up to q - 1 before (-1) or after (1) it, and of squares."""
    lags = weight.size - 1
    near, near_square = np.zeros(returns), np.zeros(returns)
    for j in range(1, lags + 1):
        one, one_square = block[lags + direction * j :], square[lags + direction * j :]
        for k in range(returns):
            near[k] += weight[j] * one[k]
            near_square[k] += weight[j] * one_square[k]
    return near, near_square


@kernel
def _pairs_across(across: Lanes, r: Lanes, start: int, oldest: int, weight: Lanes) -> None:
    """The same sums over the pairs with one return before `start`, from `oldest` on, and one after it.

    Row n holds the pairs whose newer return is among the first n of the block.
    """
    lags = weight.size - 1
    across[:] = 0.0
    for n in range(1, lags + 1):
        across[n] = across[n - 1]
        k = start + n - 1
        if k < 0 or k >= r.size or math.isnan(r[k]):
            continue
        for j in range(n, min(lags, k - max(oldest, 0)) + 1):
            a, b = r[k], r[k - j]
            if not math.isnan(b):
                across[n, 0] += weight[j] * a * a * b * b
                across[n, 1] += weight[j] * (a * a * b + a * b * b)
                across[n, 2] += weight[j] * (a * a + b * b + 4.0 * a * b)
                across[n, 3] += weight[j] * (a + b)


@kernel
def _directly(y: Lanes, newest: int, returns: int, q: int, weight: Lanes) -> tuple[float, float]:
    """One window by the definition, over what is known of it."""
    first = newest - returns
    mean, count = 0.0, 0
    for k in range(first + 1, newest + 1):
        change = y[k] - y[k - 1]
        if not math.isnan(change):
            mean += change
            count += 1
    if count < KNOWN * returns:
        return np.nan, np.nan
    mean /= count
    square, present = np.zeros(returns), np.zeros(returns)
    squares, long_squares, long_count, run = 0.0, 0.0, 0, 0
    for k in range(returns):
        change = y[first + k + 1] - y[first + k]
        if math.isnan(change):
            run = 0
            continue
        square[k], present[k] = (change - mean) ** 2, 1.0
        squares += square[k]
        run += 1
        if run >= q:
            long_squares += (y[first + k + 1] - y[first + k + 1 - q] - q * mean) ** 2
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
