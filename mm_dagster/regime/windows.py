"""Statistics over sliding windows, each a function of the values in its own window and of nothing else.

A running sum that begins where the data begins carries every earlier rounding along, so its last bits depend on the
start of the data. Here a series is cut into blocks at multiples of the window's width, counted in ABSOLUTE bar
numbers; a window is then the tail of one block joined with the head of the next (van Herk 1992, Gil and Werman 1993).
The result costs O(n) and is the same to the bit wherever the data starts or ends.

Every kernel takes contiguous float64 arrays of shape (groups, bars x lanes), oldest bar first: one lane is one series,
those of a group are interleaved (see `lanes`), and lanes know nothing of each other. NaN means "not known". `anchor` is
the absolute number of the first bar, in bars of the series. The rule for what is not known is the same everywhere: it
is skipped, and the result is NaN when less than `KNOWN` of the window (of its weight, where weights decay) is there, or
when the window begins before the series.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mm_dagster.arrays import Floats, kernel
from mm_dagster.regime.lanes import put, side_by_side, spread, take, where

KNOWN = 0.9
"""The share of a window that must be known."""
_BLOCK = 512
"""Places that are computed at once; what they need fits into the first cache."""


@kernel
def known_among(values: Floats, first: int, last: int, lanes: int = 1) -> int:
    """How many values of one lane are known from place `first` to `last`, both included."""
    count = 0
    for i in range(first, last + 1, lanes):
        count += not math.isnan(values[i])
    return count


@kernel
def all_known(values: Floats, first: int, end: int) -> bool:
    """Whether all are, of all lanes, from place `first` to before `end`."""
    count = 0
    for i in range(first, end):
        count += not math.isnan(values[i])
    return count == end - first


@kernel
def known_before(values: Floats, place: int, reach: int, lanes: int, together: tuple[float, ...]) -> Any:
    """How many values of each lane are known in the bars before `place`, as far as `reach` places back."""
    known = spread(0.0, together)
    for i in range(place - lanes, max(place - reach, 0) - 1, -lanes):
        value = take(values, i, together)
        known += where(value == value, 1.0, 0.0)
    return known


@kernel
def known_now(known: Any, values: Floats, place: int, reach: int, together: tuple[float, ...]) -> Any:
    """The same one bar later, that of `place` included."""
    value = take(values, place, together)
    known += where(value == value, 1.0, 0.0)
    if place >= reach:
        gone = take(values, place - reach, together)
        known -= where(gone == gone, 1.0, 0.0)
    return known


def windowed_mean(values: Floats, width: int, anchor: int, lanes: int = 1, squared: bool = False) -> Floats:
    """Mean of the known values, or of their squares, among the last `width`."""
    if width <= _NARROW:
        return _narrow_mean(values * values if squared else values, width, lanes)
    return _wide_mean(values, width, anchor, squared, lanes, side_by_side(lanes))


_NARROW = 8
"""Up to this width it is faster to add up each window by itself."""


@kernel
def _narrow_mean(values: Floats, width: int, lanes: int) -> Floats:
    groups, size = values.shape
    mean = np.empty((groups, size))
    share = 1.0 / width
    for group in range(groups):
        series = values[group]
        mean[group, : (width - 1) * lanes] = np.nan
        for start in range((width - 1) * lanes, size, _BLOCK):
            found = mean[group, start : start + _BLOCK]
            # Lag by lag over a block of bars, so that neighbouring bars are computed at once.
            found[:] = series[start - (width - 1) * lanes : start - (width - 1) * lanes + found.size]
            for j in range(width - 2, -1, -1):
                lagged = series[start - j * lanes :]
                for k in range(found.size):
                    found[k] += lagged[k]
            for k in range(found.size):
                found[k] *= share
        for i in range((width - 1) * lanes, size):
            if math.isnan(mean[group, i]):
                mean[group, i] = _mean_of_known(series, i - (width - 1) * lanes, i, lanes, width)
    return mean


@kernel
def _mean_of_known(series: Floats, first: int, last: int, lanes: int, width: int) -> float:
    count = known_among(series, first, last, lanes)
    if count < KNOWN * width:
        return np.nan
    total = 0.0
    for i in range(first, last + 1, lanes):
        total += 0.0 if math.isnan(series[i]) else series[i]
    return total / count


@kernel
def _wide_mean(
    values: Floats, width: int, anchor: int, squared: bool, lanes: int, together: tuple[float, ...]
) -> Floats:
    groups, size = values.shape
    mean = np.empty((groups, size))
    # Sums from each bar of a block to its end: of the block before, and of the present one.
    tail, fresh = np.empty((width + 1) * lanes), np.empty((width + 1) * lanes)
    share = 1.0 / width
    for group in range(groups):
        series, found = values[group], mean[group]
        tail[:], fresh[:] = 0.0, 0.0
        complete = False
        for start in range(-(anchor % width) * lanes, size, width * lanes):
            first, end = max(start, 0), min(start + width * lanes, size)
            complete_before, complete = complete, first == start and all_known(series, first, end)
            # Whether a window ends in this block.
            fits = end > (width - 1) * lanes
            if not fits:
                found[first:end] = np.nan
            for lane in range(0, lanes, len(together)):
                head, running = spread(0.0, together), spread(0.0, together)
                mirror = first + end - lanes + 2 * lane
                if complete_before and complete:
                    # Both sums in one loop: neither has to wait for the other.
                    for i in range(first + lane, end, lanes):
                        value, back = take(series, i, together), take(series, mirror - i, together)
                        head += value * value if squared else value
                        running += back * back if squared else back
                        put(found, i, (take(tail, i - start + lanes, together) + head) * share)
                        put(fresh, mirror - i - start, running)
                    continue
                known = known_before(series, first + lane, width * lanes, lanes, together)
                for i in range(first + lane, end if fits else first, lanes):
                    value = take(series, i, together)
                    known = known_now(known, series, i, width * lanes, together)
                    head += where(value == value, value * value if squared else value, 0.0)
                    if i < (width - 1) * lanes:
                        put(found, i, spread(np.nan, together))
                        continue
                    part = where(known == width, share, 1.0 / known)
                    total = (take(tail, i - start + lanes, together) + head) * part
                    put(found, i, where(known >= KNOWN * width, total, np.nan))
                # Nothing follows the last block.
                for i in range(first + lane, end if end < size else first, lanes):
                    value = take(series, mirror - i, together)
                    running += where(value == value, value * value if squared else value, 0.0)
                    put(fresh, mirror - i - start, running)
            tail, fresh = fresh, tail
    return mean


def windowed_range(highs: Floats, lows: Floats, width: int, anchor: int, lanes: int = 1) -> tuple[Floats, Floats]:
    """Highest known high and lowest known low of the `width` bars BEFORE each; a bar knows both or neither."""
    return _range(highs, lows, width, anchor, lanes, side_by_side(lanes))


@kernel
def _range(
    highs: Floats, lows: Floats, width: int, anchor: int, lanes: int, together: tuple[float, ...]
) -> tuple[Floats, Floats]:
    groups, size = highs.shape
    highest, lowest = np.empty((groups, size)), np.empty((groups, size))
    tail_high, tail_low = np.empty((width + 1) * lanes), np.empty((width + 1) * lanes)
    for group in range(groups):
        upper, lower, top, bottom = highs[group], lows[group], highest[group], lowest[group]
        tail_high[:], tail_low[:] = -np.inf, np.inf
        top[:lanes], bottom[:lanes] = np.nan, np.nan
        complete = False
        for start in range(-(anchor % width) * lanes, size, width * lanes):
            first, end = max(start, 0), min(start + width * lanes, size)
            complete_before, complete = complete, first == start and all_known(upper, first, end)
            for lane in range(0, lanes, len(together)):
                high, low = spread(-np.inf, together), spread(np.inf, together)
                # Each is that of the bar after; none comes after the last.
                for i in range(first + lane, min(end, size - lanes), lanes):
                    here, before = take(upper, i, together), take(tail_high, i - start + lanes, together)
                    # A comparison with what is not known does not hold.
                    high = where(here > high, here, high)
                    put(top, i + lanes, where(high > before, high, before))
                    here, before = take(lower, i, together), take(tail_low, i - start + lanes, together)
                    low = where(here < low, here, low)
                    put(bottom, i + lanes, where(low < before, low, before))
                if not (complete_before and complete):
                    known = known_before(upper, first + lane, width * lanes, lanes, together)
                    for i in range(first + lane, min(end, size - lanes), lanes):
                        known = known_now(known, upper, i, width * lanes, together)
                        enough = known >= (KNOWN * width if i >= (width - 1) * lanes else np.inf)
                        put(top, i + lanes, where(enough, take(top, i + lanes, together), np.nan))
                        put(bottom, i + lanes, where(enough, take(bottom, i + lanes, together), np.nan))
                high, low = spread(-np.inf, together), spread(np.inf, together)
                for i in range(end - lanes + lane, first - 1, -lanes):
                    here = take(upper, i, together)
                    high = where(here > high, here, high)
                    put(tail_high, i - start, high)
                    here = take(lower, i, together)
                    low = where(here < low, here, low)
                    put(tail_low, i - start, low)
    return highest, lowest


def decayed_mean(values: Floats, decay: float, width: int, anchor: int, lanes: int = 1) -> Floats:
    """Mean of the known values among the last `width`, weighted with decay^j, j = 0 ... width - 1 bars ago.

    decay^width must be far from the smallest number: within a block the weights are those of its first bar.
    """
    return _decayed(values, decay, width, anchor, lanes, side_by_side(lanes))


@kernel
def _decayed(values: Floats, decay: float, width: int, anchor: int, lanes: int, together: tuple[float, ...]) -> Floats:
    groups, size = values.shape
    mean = np.empty((groups, size))
    power, growth = np.empty(width + 1), np.empty(width + 1)
    power[0], growth[0] = 1.0, 1.0
    for j in range(1, width + 1):
        power[j] = power[j - 1] * decay
        growth[j] = growth[j - 1] / decay
    full = 0.0
    for j in range(width - 1, -1, -1):
        full += power[j]
    part = 1.0 / full
    # Of a block that is complete; its last bar is followed by nothing.
    weight_to_end = np.append(np.repeat(np.cumsum(power[:width])[::-1], lanes), np.zeros(lanes))
    # The tail of a block is weighted as seen from the block's last bar; joining it adds the age of that bar.
    tail, tail_weight = np.empty((width + 1) * lanes), np.empty((width + 1) * lanes)
    fresh, fresh_weight = np.empty((width + 1) * lanes), np.empty((width + 1) * lanes)
    for group in range(groups):
        series, found = values[group], mean[group]
        tail[:], tail_weight[:], fresh[:], fresh_weight[:] = 0.0, 0.0, 0.0, 0.0
        complete = False
        for start in range(-(anchor % width) * lanes, size, width * lanes):
            first, end = max(start, 0), min(start + width * lanes, size)
            bar, bars = (first - start) // lanes, (end - first) // lanes
            older_weight = weight_to_end if complete else tail_weight
            complete_before, complete = complete, first == start and all_known(series, first, end)
            # Whether a window ends in this block.
            fits = end > (width - 1) * lanes
            if not fits:
                found[first:end] = np.nan
            for lane in range(0, lanes, len(together)):
                head, head_weight = spread(0.0, together), spread(0.0, together)
                running, running_weight = spread(0.0, together), spread(0.0, together)
                if complete_before and complete:
                    # Both sums in one loop: neither has to wait for the other.
                    for n in range(bars):
                        k, back = n * lanes + lane, (bars - 1 - n) * lanes + lane
                        head += growth[n] * take(series, start + k, together)
                        running += power[n] * take(series, start + back, together)
                        older = take(tail, k + lanes, together)
                        put(found, start + k, (power[n] * head + power[n + 1] * older) * part)
                        put(fresh, back, running)
                    continue
                known = known_before(series, first + lane, width * lanes, lanes, together)
                for n in range(bar, bar + bars if fits else bar):
                    k = n * lanes + lane
                    value = take(series, start + k, together)
                    known = known_now(known, series, start + k, width * lanes, together)
                    head += where(value == value, growth[n] * value, 0.0)
                    head_weight += where(value == value, growth[n], 0.0)
                    if start + k < (width - 1) * lanes:
                        put(found, start + k, spread(np.nan, together))
                        continue
                    weight = power[n] * head_weight + power[n + 1] * take(older_weight, k + lanes, together)
                    total = power[n] * head + power[n + 1] * take(tail, k + lanes, together)
                    total *= where(known == width, part, 1.0 / weight)
                    put(found, start + k, where(weight >= KNOWN * full, total, np.nan))
                # Nothing follows the last block.
                for n in range(bar + bars - 1, bar - 1 if end < size else bar + bars - 1, -1):
                    k, decayed = n * lanes + lane, power[width - 1 - n]
                    value = take(series, start + k, together)
                    running += where(value == value, decayed * value, 0.0)
                    running_weight += where(value == value, decayed, 0.0)
                    put(fresh, k, running)
                    put(fresh_weight, k, running_weight)
            tail, tail_weight, fresh, fresh_weight = fresh, fresh_weight, tail, tail_weight
    return mean


def windowed_moments(values: Floats, width: int, lanes: int = 1) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of the known values among the last `width`; the newest must be known.

    Two passes over differences from the newest value: a flat window has exactly no deviation.
    """
    return _moments(values, width, lanes)


@kernel
def _moments(values: Floats, width: int, lanes: int) -> tuple[Floats, Floats]:
    groups, size = values.shape
    mean, deviation = np.empty((groups, size)), np.empty((groups, size))
    centre, squares = np.empty(_BLOCK), np.empty(_BLOCK)
    share = 1.0 / width
    for group in range(groups):
        series = values[group]
        mean[group, : (width - 1) * lanes], deviation[group, : (width - 1) * lanes] = np.nan, np.nan
        for start in range((width - 1) * lanes, size, _BLOCK):
            many = min(_BLOCK, size - start)
            # Lag by lag over a block of bars, so that neighbouring bars are computed at once.
            centre[:] = 0.0
            now = series[start : start + many]
            # Two lags at once, or most of the time goes into loading and storing the sums.
            for j in range(width - 1, 1, -2):
                a, b = series[start - j * lanes :], series[start - (j - 1) * lanes :]
                for k in range(many):
                    centre[k] += (a[k] - now[k]) + (b[k] - now[k])
            last = series[start - lanes :]
            for k in range(many if width % 2 == 0 else 0):
                centre[k] += last[k] - now[k]
            for k in range(many):
                centre[k] *= share
                squares[k] = centre[k] * centre[k]
            for j in range(width - 1, 1, -2):
                a, b = series[start - j * lanes :], series[start - (j - 1) * lanes :]
                for k in range(many):
                    one, other = a[k] - now[k] - centre[k], b[k] - now[k] - centre[k]
                    squares[k] += one * one + other * other
            for k in range(many if width % 2 == 0 else 0):
                one = last[k] - now[k] - centre[k]
                squares[k] += one * one
            for k in range(many):
                mean[group, start + k] = now[k] + centre[k]
                deviation[group, start + k] = math.sqrt(squares[k] * share)
            oldest = start - (width - 1) * lanes
            for i in range(start, start if all_known(series, oldest, start + many) else start + many):
                if known_among(series, i - (width - 1) * lanes, i, lanes) < width:
                    mean[group, i], deviation[group, i] = _moments_of_known(series, i, width, lanes)
    return mean, deviation


@kernel
def _moments_of_known(series: Floats, newest: int, width: int, lanes: int) -> tuple[float, float]:
    first = newest - (width - 1) * lanes
    count = known_among(series, first, newest, lanes)
    if math.isnan(series[newest]) or count < KNOWN * width:
        return np.nan, np.nan
    centre = 0.0
    for i in range(newest, first - 1, -lanes):
        if not math.isnan(series[i]):
            centre += series[i] - series[newest]
    centre /= count
    squares = 0.0
    for i in range(newest, first - 1, -lanes):
        if not math.isnan(series[i]):
            difference = series[i] - series[newest] - centre
            squares += difference * difference
    return series[newest] + centre, math.sqrt(squares / count)


def windowed_rank(values: Floats, width: int, lanes: int = 1) -> Floats:
    """Share of the known values among the `width` BEFORE each that are not above it."""
    return _rank(values, width, lanes, side_by_side(FLAT, FLAT), side_by_side(1))


FLAT = 8
"""Neighbours that are computed together where nothing is summed up along the series, and lanes do not matter."""


@kernel
def _rank(values: Floats, width: int, lanes: int, flat: tuple[float, ...], one: tuple[float, ...]) -> Floats:
    groups, size = values.shape
    rank = np.empty((groups, size))
    for group in range(groups):
        series, found = values[group], rank[group]
        first = width * lanes
        found[:first] = np.nan
        rest = max(first, size - (size - first) % len(flat))
        for i in range(first, rest, len(flat)):
            put(found, i, _not_above(series, i, width, lanes, flat) / width)
        for i in range(rest, size):
            put(found, i, _not_above(series, i, width, lanes, one) / width)
        for start in range(first, size, _BLOCK):
            end = min(start + _BLOCK, size)
            for i in range(start, start if all_known(series, start - first, end) else end):
                count = known_among(series, i - first, i - lanes, lanes)
                enough = count >= KNOWN * width and not math.isnan(series[i])
                # The number of those not above it is a whole one.
                found[i] = np.rint(found[i] * width) / count if enough else np.nan
    return rank


@kernel
def _not_above(series: Floats, place: int, width: int, lanes: int, together: tuple[float, ...]) -> Any:
    """How many of the `width` values before those at `place` are not above them."""
    now = take(series, place, together)
    a, b, c, d = spread(0.0, together), spread(0.0, together), spread(0.0, together), spread(0.0, together)
    i = place - width * lanes
    # Four counts at once: none has to wait for another.
    for _ in range(width // 4):
        a += where(now >= take(series, i, together), 1.0, 0.0)
        b += where(now >= take(series, i + lanes, together), 1.0, 0.0)
        c += where(now >= take(series, i + 2 * lanes, together), 1.0, 0.0)
        d += where(now >= take(series, i + 3 * lanes, together), 1.0, 0.0)
        i += 4 * lanes
    for _ in range(width % 4):
        a += where(now >= take(series, i, together), 1.0, 0.0)
        i += lanes
    return a + b + c + d
