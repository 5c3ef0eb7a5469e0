"""Statistics over sliding windows, each a function of the values in its own window and of nothing else.

A running sum that begins where the data begins carries every earlier rounding along, so its last bits depend on the
start of the data. Here a series is cut into blocks at multiples of the window's width, counted in ABSOLUTE bar
numbers; a window is then the tail of one block joined with the head of the next (van Herk 1992, Gil and Werman 1993).
The result costs O(n) and is the same to the bit wherever the data starts or ends.

Every kernel takes contiguous float64 arrays of shape (lanes, bars): one lane is one series, oldest bar first, and
lanes know nothing of each other. NaN means "not known". `anchor` is the absolute number of the first bar, in bars of
the series. The rule for what is not known is the same everywhere: it is skipped, and the result is NaN when less than
`KNOWN` of the window (of its weight, where weights decay) is there, or when the window begins before the series.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers, kernel

KNOWN = 0.9
"""The share of a window that must be known."""


@kernel
def known_among(series: Floats, first: int, last: int) -> int:
    """How many values of one series are known from `first` to `last`, both included."""
    count = 0
    for i in range(first, last + 1):
        count += not math.isnan(series[i])
    return count


def windowed_mean(values: Floats, width: int, anchor: int) -> Floats:
    """Mean of the known values among the last `width`."""
    return _narrow_mean(values, width) if width <= _NARROW else _wide_mean(values, width, anchor)


_NARROW = 8
"""Up to this width it is faster to add up each window by itself."""


@kernel
def _narrow_mean(values: Floats, width: int) -> Floats:
    lanes, bars = values.shape
    mean = np.full((lanes, bars), np.nan)
    share = 1.0 / width
    for lane in range(lanes):
        series = values[lane]
        for start in range(width - 1, bars, _BLOCK):
            found = mean[lane, start : start + _BLOCK]
            # Lag by lag over a block of bars, so that neighbouring bars are computed at once.
            found[:] = series[start - width + 1 : start - width + 1 + found.size]
            for j in range(width - 2, -1, -1):
                lagged = series[start - j :]
                for k in range(found.size):
                    found[k] += lagged[k]
            for k in range(found.size):
                found[k] *= share
        for i in range(width - 1, bars):
            if math.isnan(mean[lane, i]):
                mean[lane, i] = _mean_of_known(series, i - width + 1, i)
    return mean


@kernel
def _mean_of_known(series: Floats, first: int, last: int) -> float:
    count = known_among(series, first, last)
    if count < KNOWN * (last - first + 1):
        return np.nan
    total = 0.0
    for i in range(first, last + 1):
        total += 0.0 if math.isnan(series[i]) else series[i]
    return total / count


@kernel
def _wide_mean(values: Floats, width: int, anchor: int) -> Floats:
    lanes, bars = values.shape
    mean = np.empty((lanes, bars))
    # Sums from each bar of a block to its end: of the block before, and of the present one.
    tail, fresh = np.empty(width + 1), np.empty(width + 1)
    share = 1.0 / width
    for lane in range(lanes):
        tail[:], fresh[:] = 0.0, 0.0
        known, complete = 0, False
        for start in range(-(anchor % width), bars, width):
            first, end = max(start, 0), min(start + width, bars)
            series, found = values[lane, first:end], mean[lane, first:end]
            older, newer = tail[first - start + 1 :], fresh[first - start :]
            complete_before, complete = complete, known_among(series, 0, end - first - 1) == end - first
            complete &= first == start
            head, running = 0.0, 0.0
            if complete_before and complete:
                # Both sums in one loop: neither has to wait for the other.
                for k in range(series.size):
                    back = series.size - 1 - k
                    head += series[k]
                    running += series[back]
                    found[k] = (older[k] + head) * share
                    newer[back] = running
            else:
                for k in range(series.size):
                    i = first + k
                    known -= i >= width and not math.isnan(values[lane, i - width])
                    if not math.isnan(series[k]):
                        known += 1
                        head += series[k]
                    enough = i >= width - 1 and known >= KNOWN * width
                    part = share if known == width else 1.0 / known
                    found[k] = (older[k] + head) * part if enough else np.nan
                for k in range(series.size - 1, -1, -1):
                    running += 0.0 if math.isnan(series[k]) else series[k]
                    newer[k] = running
            tail, fresh = fresh, tail
    return mean


@kernel
def windowed_range(highs: Floats, lows: Floats, width: int, anchor: int) -> tuple[Floats, Floats]:
    """Highest known high and lowest known low of the last `width` bars; a bar knows both or neither."""
    lanes, bars = highs.shape
    highest, lowest = np.empty((lanes, bars)), np.empty((lanes, bars))
    tail_high, tail_low = np.empty(width + 1), np.empty(width + 1)
    for lane in range(lanes):
        tail_high[:], tail_low[:] = -np.inf, np.inf
        known = 0
        for start in range(-(anchor % width), bars, width):
            first, end = max(start, 0), min(start + width, bars)
            upper, lower = highs[lane, first:end], lows[lane, first:end]
            older_high, older_low = tail_high[first - start + 1 :], tail_low[first - start + 1 :]
            high, low = -np.inf, np.inf
            for k in range(end - first):
                i = first + k
                known -= i >= width and not math.isnan(highs[lane, i - width])
                if not math.isnan(upper[k]):
                    known += 1
                    high, low = max(high, upper[k]), min(low, lower[k])
                enough = i >= width - 1 and known >= KNOWN * width
                highest[lane, i] = max(older_high[k], high) if enough else np.nan
                lowest[lane, i] = min(older_low[k], low) if enough else np.nan
            high, low = -np.inf, np.inf
            for k in range(end - first - 1, -1, -1):
                if not math.isnan(upper[k]):
                    high, low = max(high, upper[k]), min(low, lower[k])
                tail_high[first - start + k], tail_low[first - start + k] = high, low
    return highest, lowest


@kernel
def decayed_mean(values: Floats, decay: float, width: int, anchor: int) -> Floats:
    """Mean of the known values among the last `width`, weighted with decay^j, j = 0 ... width - 1 bars ago.

    decay^width must be far from the smallest number: within a block the weights are those of its first bar.
    """
    lanes, bars = values.shape
    mean = np.empty((lanes, bars))
    power, growth = np.empty(width + 1), np.empty(width + 1)
    power[0], growth[0] = 1.0, 1.0
    for j in range(1, width + 1):
        power[j] = power[j - 1] * decay
        growth[j] = growth[j - 1] / decay
    full = 0.0
    for j in range(width - 1, -1, -1):
        full += power[j]
    part = 1.0 / full
    weight_to_end = np.cumsum(power[:width])[::-1].copy()
    # The tail of a block is weighted as seen from the block's last bar; joining it adds the age of that bar.
    tail, tail_weight = np.empty(width + 1), np.empty(width + 1)
    fresh, fresh_weight = np.empty(width + 1), np.empty(width + 1)
    for lane in range(lanes):
        tail[:], tail_weight[:], fresh[:], fresh_weight[:] = 0.0, 0.0, 0.0, 0.0
        known, complete = 0, False
        for start in range(-(anchor % width), bars, width):
            first, end = max(start, 0), min(start + width, bars)
            series, found = values[lane, first:end], mean[lane, first:end]
            growing, fading, ages = growth[first - start :], power[first - start :], power[first - start + 1 :]
            older, older_weight = tail[first - start + 1 :], tail_weight[first - start + 1 :]
            newer, newer_weight = fresh[first - start :], fresh_weight[first - start :]
            complete_before, complete = complete, known_among(series, 0, end - first - 1) == end - first
            complete &= first == start
            head, head_weight, running, running_weight = 0.0, 0.0, 0.0, 0.0
            if complete_before and complete:
                # Both sums in one loop: neither has to wait for the other.
                for k in range(series.size):
                    back = series.size - 1 - k
                    head += growing[k] * series[k]
                    running += power[k] * series[back]
                    found[k], newer[back] = head, running
                for k in range(series.size):
                    found[k] = (fading[k] * found[k] + ages[k] * older[k]) * part
                newer_weight[:width] = weight_to_end
            else:
                for k in range(series.size):
                    i = first + k
                    known -= i >= width and not math.isnan(values[lane, i - width])
                    if not math.isnan(series[k]):
                        known += 1
                        head += growing[k] * series[k]
                        head_weight += growing[k]
                    weight = fading[k] * head_weight + ages[k] * older_weight[k]
                    enough = i >= width - 1 and weight >= KNOWN * full
                    found[k] = fading[k] * head + ages[k] * older[k]
                    found[k] *= (part if known == width else 1.0 / weight) if enough else np.nan
                for k in range(series.size - 1, -1, -1):
                    decayed = power[width - 1 - (first - start) - k]
                    if not math.isnan(series[k]):
                        running += decayed * series[k]
                        running_weight += decayed
                    newer[k], newer_weight[k] = running, running_weight
            tail, tail_weight, fresh, fresh_weight = fresh, fresh_weight, tail, tail_weight
    return mean


@kernel
def windowed_moments(values: Floats, width: int) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of the known values among the last `width`; the newest must be known.

    Two passes over differences from the newest value: a flat window has exactly no deviation.
    """
    lanes, bars = values.shape
    mean, deviation = np.full((lanes, bars), np.nan), np.full((lanes, bars), np.nan)
    centre, squares = np.empty(_BLOCK), np.empty(_BLOCK)
    share = 1.0 / width
    for lane in range(lanes):
        series = values[lane]
        hole = -1
        for start in range(width - 1, bars, _BLOCK):
            size = min(_BLOCK, bars - start)
            # Lag by lag over a block of bars, so that neighbouring bars are computed at once.
            centre[:] = 0.0
            now = series[start : start + size]
            # Two lags at once, or most of the time goes into loading and storing the sums.
            for j in range(width - 1, 1, -2):
                a, b = series[start - j :], series[start - j + 1 :]
                for k in range(size):
                    centre[k] += (a[k] - now[k]) + (b[k] - now[k])
            for k in range(size if width % 2 == 0 else 0):
                centre[k] += series[start - 1 + k] - now[k]
            for k in range(size):
                centre[k] *= share
                squares[k] = centre[k] * centre[k]
            for j in range(width - 1, 1, -2):
                a, b = series[start - j :], series[start - j + 1 :]
                for k in range(size):
                    one, other = a[k] - now[k] - centre[k], b[k] - now[k] - centre[k]
                    squares[k] += one * one + other * other
            for k in range(size if width % 2 == 0 else 0):
                one = series[start - 1 + k] - now[k] - centre[k]
                squares[k] += one * one
            for k in range(size):
                mean[lane, start + k] = now[k] + centre[k]
                deviation[lane, start + k] = math.sqrt(squares[k] * share)
        for i in range(bars):
            if math.isnan(series[i]):
                hole = i
                mean[lane, i], deviation[lane, i] = np.nan, np.nan
            elif i - hole < width and i >= width - 1:
                mean[lane, i], deviation[lane, i] = _moments_of_known(series, i - width + 1, i)
    return mean, deviation


_BLOCK = 512
"""Bars that are computed at once; what they need fits into the first cache."""


@kernel
def _moments_of_known(series: Floats, first: int, last: int) -> tuple[float, float]:
    count = known_among(series, first, last)
    if count < KNOWN * (last - first + 1):
        return np.nan, np.nan
    centre = 0.0
    for i in range(last, first - 1, -1):
        if not math.isnan(series[i]):
            centre += series[i] - series[last]
    centre /= count
    squares = 0.0
    for i in range(last, first - 1, -1):
        if not math.isnan(series[i]):
            difference = series[i] - series[last] - centre
            squares += difference * difference
    return series[last] + centre, math.sqrt(squares / count)


@kernel
def windowed_rank(values: Floats, width: int) -> Floats:
    """Share of the known values among the `width` BEFORE each that are not above it."""
    lanes, bars = values.shape
    rank = np.full((lanes, bars), np.nan)
    below = np.empty(_BLOCK)
    for lane in range(lanes):
        series = values[lane]
        hole = -1
        for start in range(width, bars, _BLOCK):
            size = min(_BLOCK, bars - start)
            below[:] = 0.0
            now = series[start : start + size]
            # Eight lags at once, or most of the time goes into loading and storing the counts.
            for j in range(8, width + 1, 8):
                a, b = series[start - j :], series[start - j + 1 :]
                c, d = series[start - j + 2 :], series[start - j + 3 :]
                e, f = series[start - j + 4 :], series[start - j + 5 :]
                g, h = series[start - j + 6 :], series[start - j + 7 :]
                for k in range(size):
                    below[k] += (
                        _up_to(a[k], now[k])
                        + _up_to(b[k], now[k])
                        + _up_to(c[k], now[k])
                        + _up_to(d[k], now[k])
                        + _up_to(e[k], now[k])
                        + _up_to(f[k], now[k])
                        + _up_to(g[k], now[k])
                        + _up_to(h[k], now[k])
                    )
            for j in range(width - width % 8 + 1, width + 1):
                a = series[start - j :]
                for k in range(size):
                    below[k] += _up_to(a[k], now[k])
            for k in range(size):
                rank[lane, start + k] = below[k] / width
        for i in range(bars):
            if math.isnan(series[i]):
                hole = i
                rank[lane, i] = np.nan
            elif i - hole <= width and i >= width:
                count = known_among(series, i - width, i - 1)
                # The number of those not above it is a whole one.
                below_now = np.rint(rank[lane, i] * width)
                rank[lane, i] = below_now / count if count >= KNOWN * width else np.nan
    return rank


@kernel
def _up_to(value: float, limit: float) -> float:
    return 1.0 if value <= limit else 0.0


def windowed_median(values: Floats, width: int) -> Floats:
    """Median of the known values among the last `width`, infinite ones included.

    Of an even number it is the mean of the middle two. Blocks of `width` bars are sorted once; a window then walks
    from one block into the next, and its median from rank to rank (after Suomela 2014). A median is one of the
    values, or a mean of two, so no rounding is carried along and any cut into blocks will do.
    """
    lanes, bars = values.shape
    blocks = np.full((lanes, 1 + -(-bars // width), width), np.nan)
    blocks.reshape(lanes, -1)[:, width : width + bars] = values
    return _median_by_rank(blocks, np.argsort(blocks, axis=2), bars)


@kernel
def _median_by_rank(blocks: Floats, order: Integers, bars: int) -> Floats:
    """The medians of windows as wide as the blocks, of which the first is empty; `order` sorts each, NaN last."""
    lanes, count, width = blocks.shape
    median = np.full((lanes, bars), np.nan)
    ordered = np.empty(2 * width)
    rank = np.empty((2, width), np.int64)
    present = np.empty(2 * width, np.bool_)
    for lane in range(lanes):
        for b in range(1, count):
            older, newer = blocks[lane, b - 1], blocks[lane, b]
            _merge(older, order[lane, b - 1], newer, order[lane, b], ordered, rank)
            present[:] = False
            known = 0
            for t in range(width):
                if not math.isnan(older[t]):
                    present[rank[0, t]] = True
                    known += 1
            # The upper one of the middle two is at rank `middle`, with `below` present values before it.
            middle, below = 0, 0
            for t in range(min(width, bars - (b - 1) * width) + 1):
                if t > 0:
                    if not math.isnan(older[t - 1]):
                        present[rank[0, t - 1]] = False
                        below -= rank[0, t - 1] < middle
                        known -= 1
                    if not math.isnan(newer[t - 1]):
                        present[rank[1, t - 1]] = True
                        below += rank[1, t - 1] < middle
                        known += 1
                newest = (b - 1) * width + t - 1
                if newest < width - 1 or known < KNOWN * width:
                    continue
                middle, below = _walk(present, middle, below, known // 2)
                value = ordered[middle]
                if known % 2 == 0:
                    lower = middle - 1
                    while not present[lower]:
                        lower -= 1
                    value = 0.5 * (ordered[lower] + value)
                median[lane, newest] = value
    return median


@kernel
def _walk(present: Flags, middle: int, below: int, wanted: int) -> tuple[int, int]:
    """From a rank with `below` present values before it to the present one with as many as are wanted; both anew."""
    while below > wanted or not present[middle]:
        if below > wanted:
            middle -= 1
            below -= present[middle]
        else:
            middle += 1
    while below < wanted:
        below += 1
        middle += 1
        while not present[middle]:
            middle += 1
    return middle, below


@kernel
def _merge(
    older: Floats,
    older_order: Integers,
    newer: Floats,
    newer_order: Integers,
    ordered: Floats,
    rank: Integers,
) -> None:
    """Sorts the known values of two blocks into `ordered`; `rank` says where each went."""
    width = older.size
    i, j = 0, 0
    for place in range(2 * width):
        left = older[older_order[i]] if i < width else np.nan
        right = newer[newer_order[j]] if j < width else np.nan
        if left <= right or (math.isnan(right) and not math.isnan(left)):
            ordered[place] = left
            rank[0, older_order[i]] = place
            i += 1
        elif not math.isnan(right):
            ordered[place] = right
            rank[1, newer_order[j]] = place
            j += 1
        else:
            break
