"""Whether returns add up or cancel out: the variance ratio and its robust z over a sliding window.

With a mean m of its own, each window needs the sum over all pairs of returns a, b up to q - 1 bars apart of
w (a - m)^2 (b - m)^2. Multiplied out in powers of m it is made of four sums that know no mean, and those are taken
over two blocks (see `windows`) and the pairs across their boundary. Where bars are MISSING, and where the mean takes
nearly all of the variance with it, the window is gone through directly.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Floats, kernel
from mm_dagster.regime.windows import KNOWN, known_among, windowed_mean

SIGNIFICANT = 1e-4
"""Least share of a sum of squares that must be left once its mean is taken out; the rest costs as many digits."""


def variance_ratio(
    log_close: Floats, change: Floats, square_mean: Floats, returns: int, q: int, anchor: int
) -> tuple[Floats, Floats]:
    """Variance of q-bar returns over q times that of 1-bar returns, and the z of its distance from 1.

    Lo and MacKinlay (1988): overlapping q-bar returns, debiased, robust to heteroscedasticity, wholly inside the
    `returns` + 1 closes of the window. A q-bar return is known when all its bars are; at least `KNOWN` of both kinds
    must be.

    Args:
        log_close: shape (lanes, bars).
        change: returns over one bar, the same shape.
        square_mean: windowed mean of their squares, as wide as the window.
        returns: 1-bar returns in a window, at least 2 q.
        q: bars of the longer return.
        anchor: absolute number of the first bar.

    Returns:
        The ratio and its z; NaN where there is none.
    """
    long = _changes(log_close, q)
    return _ratio(
        log_close,
        square_mean,
        windowed_mean(long, returns - q + 1, anchor),
        windowed_mean(long * long, returns - q + 1, anchor),
        change,
        returns,
        q,
        anchor,
    )


@kernel
def _changes(log_close: Floats, q: int) -> Floats:
    """Returns over q bars; NaN where a bar among them is not known."""
    lanes, bars = log_close.shape
    change = np.full((lanes, bars), np.nan)
    for lane in range(lanes):
        y = log_close[lane]
        hole = -1
        for i in range(bars):
            if math.isnan(y[i]):
                hole = i
            if i - hole > q:
                change[lane, i] = y[i] - y[i - q]
    return change


@kernel
def _ratio(
    log_close: Floats,
    square_mean: Floats,
    long_mean: Floats,
    long_square_mean: Floats,
    change: Floats,
    returns: int,
    q: int,
    anchor: int,
) -> tuple[Floats, Floats]:
    """The ratio and its z from the means over the window of r^2 and of the q-bar returns and their squares."""
    lanes, bars = change.shape
    ratio, z = np.full((lanes, bars), np.nan), np.full((lanes, bars), np.nan)
    lags = q - 1
    weight = np.zeros(q)
    for j in range(1, q):
        weight[j] = (2.0 * (q - j) / q) ** 2
    # A block of returns between zeros: no pair reaches out of it.
    block, square = np.zeros(returns + 2 * lags), np.zeros(returns + 2 * lags)
    head, tail, sums = np.empty((4, returns)), np.zeros((4, returns + 1)), np.empty((4, returns))
    near, across = np.empty((2, returns)), np.zeros((4, lags + 1))
    # The weights of the pairs that a return makes with those before it in the block.
    reach = np.full(returns, weight.sum())
    for n in range(lags):
        reach[n] = weight[: n + 1].sum()
    for lane in range(lanes):
        y, r = log_close[lane], change[lane]
        tail[:] = 0.0
        known, complete = 0, False
        for start in range(-(anchor % returns), bars, returns):
            first, end = max(start, 0), min(start + returns, bars)
            complete_before, complete = complete, known_among(r, first, end - 1) == end - first and first == start
            block[:] = 0.0
            for i in range(first, end):
                block[lags + i - start] = 0.0 if math.isnan(r[i]) else r[i]
            for k in range(block.size):
                square[k] = block[k] * block[k]
            _pairs(head, near, block, square, weight, reach, True)
            _join(sums, head, tail, across, r, start, weight)
            steady = 0
            if complete_before and complete:
                known = returns
                _finish(
                    ratio[lane, first:end],
                    z[lane, first:end],
                    y[first:end],
                    y[first - returns : end - returns],
                    square_mean[lane, first:end],
                    long_mean[lane, first:end],
                    long_square_mean[lane, first:end],
                    sums,
                    first - start,
                    returns,
                    weight,
                )
                for i in range(first, end):
                    steady += not math.isnan(ratio[lane, i])
            for i in range(first, end if steady < end - first else first):
                if not (complete_before and complete):
                    known += not math.isnan(r[i])
                    known -= i >= returns and not math.isnan(r[i - returns])
                    if known == returns:
                        one = slice(i, i + 1)
                        _finish(
                            ratio[lane, one],
                            z[lane, one],
                            y[one],
                            y[i - returns : i - returns + 1],
                            square_mean[lane, one],
                            long_mean[lane, one],
                            long_square_mean[lane, one],
                            sums,
                            i - start,
                            returns,
                            weight,
                        )
                if i >= returns and known >= KNOWN * returns and math.isnan(ratio[lane, i]) and not math.isnan(y[i]):
                    ratio[lane, i], z[lane, i] = _directly(y, i, returns, q, weight)
            _pairs(tail, near, block, square, weight, reach, False)
    return ratio, z


@kernel
def _finish(
    ratio: Floats,
    z: Floats,
    newest: Floats,
    oldest: Floats,
    square_mean: Floats,
    long_mean: Floats,
    long_square_mean: Floats,
    sums: Floats,
    offset: int,
    returns: int,
    weight: Floats,
) -> None:
    """Ratio and z of complete windows; NaN where too little is left of the sums once the mean is taken out."""
    q = weight.size
    pairs = 0.0
    for j in range(1, q):
        pairs += weight[j] * (returns - j)
    # Debiased: q (returns - q + 1) (1 - q / returns) in place of the number of long returns, returns - 1 of short ones.
    scale = (returns - 1.0) / returns / (q * (1.0 - q / returns))
    sum_4, sum_3, sum_2, sum_1 = sums[0, offset:], sums[1, offset:], sums[2, offset:], sums[3, offset:]
    for k in range(newest.size):
        mean = (newest[k] - oldest[k]) / returns
        squares = square_mean[k] - mean * mean
        long = long_square_mean[k] - 2.0 * q * mean * long_mean[k] + (q * mean) * (q * mean)
        cross = sum_4[k] - 2.0 * mean * sum_3[k]
        cross += mean * mean * (sum_2[k] - 2.0 * mean * sum_1[k] + mean * mean * pairs)
        enough = (squares > SIGNIFICANT * square_mean[k]) & (long > SIGNIFICANT * long_square_mean[k])
        found = scale * long / squares
        ratio[k] = found if enough else np.nan
        z[k] = (found - 1.0) * returns * squares / math.sqrt(cross) if enough else np.nan


@kernel
def _pairs(
    sums: Floats, near: Floats, block: Floats, square: Floats, weight: Floats, reach: Floats, forwards: bool
) -> None:
    """Four sums over pairs of a block's returns, weighted by how far apart the two lie.

    Of a^2 b^2, a^2 b + a b^2, a^2 + b^2 + 4 a b and a + b; over the pairs from the first return to each, or from each
    to the last. `near` is room for two rows as long as the block.
    """
    lags = weight.size - 1
    returns = reach.size
    beside, beside_square = near[0], near[1]
    beside[:], beside_square[:] = 0.0, 0.0
    # Two lags at once, or most of the time goes into loading and storing the sums; q is even, lags are not.
    sign = -1 if forwards else 1
    for j in range(1, lags, 2):
        a, a_square, part = block[lags + sign * j :], square[lags + sign * j :], weight[j]
        b, b_square, other = block[lags + sign * (j + 1) :], square[lags + sign * (j + 1) :], weight[j + 1]
        for k in range(returns):
            beside[k] += part * a[k] + other * b[k]
            beside_square[k] += part * a_square[k] + other * b_square[k]
    if lags % 2 == 1:
        a, a_square, part = block[lags + sign * lags :], square[lags + sign * lags :], weight[lags]
        for k in range(returns):
            beside[k] += part * a[k]
            beside_square[k] += part * a_square[k]
    sum_4, sum_3, sum_2, sum_1 = 0.0, 0.0, 0.0, 0.0
    for n in range(returns):
        k = n if forwards else returns - 1 - n
        one, one_square = block[lags + k], square[lags + k]
        sum_4 += one_square * beside_square[k]
        sum_3 += one_square * beside[k] + one * beside_square[k]
        sum_2 += one_square * reach[n] + beside_square[k] + 4.0 * one * beside[k]
        sum_1 += one * reach[n] + beside[k]
        sums[0, k], sums[1, k], sums[2, k], sums[3, k] = sum_4, sum_3, sum_2, sum_1


@kernel
def _join(sums: Floats, head: Floats, tail: Floats, across: Floats, r: Floats, start: int, weight: Floats) -> None:
    """The four sums of the windows that end in the block from `start` on: its head, the tail of the block before,
    and the pairs across."""
    returns, lags = sums.shape[1], weight.size - 1
    _pairs_across(across, r, start, weight)
    for row in range(4):
        whole = across[row, lags]
        for place in range(returns):
            sums[row, place] = head[row, place] + tail[row, place + 1] + whole
        for place in range(lags - 1):
            sums[row, place] = head[row, place] + tail[row, place + 1] + across[row, place + 1]
    # At the end of the block, fewer returns of the block before are in the window than a pair may lie apart.
    part = np.zeros(4)
    for there in range(lags):
        if there > 0 and there <= start <= r.size - lags:
            for j in range(there, lags + 1):
                _add_pair(part, r[start - there + j], r[start - there], weight[j])
        place = returns - 1 - there
        for row in range(4):
            sums[row, place] = head[row, place] + tail[row, place + 1] + part[row]


@kernel
def _pairs_across(across: Floats, r: Floats, start: int, weight: Floats) -> None:
    """The same sums over the pairs of one return before `start` and one after it; in column n, of the first n after."""
    lags = weight.size - 1
    for n in range(1, lags + 1):
        across[:, n] = across[:, n - 1]
        newer = start + n - 1
        if 0 <= newer < r.size:
            for j in range(n, min(lags, newer) + 1):
                _add_pair(across[:, n], r[newer], r[newer - j], weight[j])


@kernel
def _add_pair(sums: Floats, a: float, b: float, weight: float) -> None:
    if not (math.isnan(a) or math.isnan(b)):
        sums[0] += weight * (a * a * b * b)
        sums[1] += weight * (a * a * b + a * b * b)
        sums[2] += weight * (a * a + b * b + 4.0 * a * b)
        sums[3] += weight * (a + b)


@kernel
def _directly(y: Floats, newest: int, returns: int, q: int, weight: Floats) -> tuple[float, float]:
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
