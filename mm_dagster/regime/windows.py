"""Statistics over sliding windows, each a function of the values in its own window and of nothing else.

A running sum that begins where the data begins carries every earlier rounding along, so its last bits depend on the
start of the data. Here a series is cut into blocks at multiples of the window's width, counted in ABSOLUTE bar
numbers; a window is then the tail of one block joined with the head of the next (van Herk 1992, Gil and Werman 1993).
The result costs O(n) and is the same to the bit wherever the data starts or ends.

All kernels take a contiguous float64 series in which NaN means "not known", skip what is not known, and say how much
they had. `anchor` is the absolute number of the series' first bar, in bars of the series. A window that begins
before the series is NaN, with nothing known.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

kernel = njit(cache=True, error_model="numpy")
"""Compiled once and kept; no fastmath, no threads: the order of operations is the one that is written. x/0 is inf."""


@kernel
def windowed_sum(values: Floats, width: int, anchor: int) -> tuple[Floats, Counts]:
    """Sum of the known values among the last `width`, and how many they are."""
    size = values.size
    total = np.full(size, np.nan)
    known = np.zeros(size, np.int64)
    tail = np.empty(size)
    tail_known = np.empty(size, np.int64)
    running = 0.0
    count = 0
    for i in range(size - 1, -1, -1):
        if (anchor + i + 1) % width == 0:
            running = 0.0
            count = 0
        if not math.isnan(values[i]):
            running += values[i]
            count += 1
        tail[i] = running
        tail_known[i] = count
    running = 0.0
    count = 0
    for i in range(size):
        place = (anchor + i) % width
        if place == 0:
            running = 0.0
            count = 0
        if not math.isnan(values[i]):
            running += values[i]
            count += 1
        first = i - width + 1
        if first < 0:
            continue
        if place == width - 1:
            total[i] = running
            known[i] = count
        else:
            total[i] = tail[first] + running
            known[i] = tail_known[first] + count
    return total, known


@kernel
def windowed_max(values: Floats, width: int, anchor: int) -> Floats:
    """Largest of the known values among the last `width`; NaN when none is. The least is -windowed_max(-values)."""
    size = values.size
    largest = np.full(size, np.nan)
    tail = np.empty(size)
    running = -np.inf
    for i in range(size - 1, -1, -1):
        if (anchor + i + 1) % width == 0:
            running = -np.inf
        if values[i] > running:
            running = values[i]
        tail[i] = running
    running = -np.inf
    for i in range(size):
        if (anchor + i) % width == 0:
            running = -np.inf
        if values[i] > running:
            running = values[i]
        first = i - width + 1
        # When the window is exactly one block, its tail and its head are both the whole of it.
        if first >= 0 and max(tail[first], running) > -np.inf:
            largest[i] = max(tail[first], running)
    return largest


@kernel
def decayed_sum(values: Floats, decay: float, width: int, anchor: int) -> tuple[Floats, Floats]:
    """Sum of decay^j x_(t-j) over the known values among the last `width`, j = 0 ... width - 1.

    Returns:
        The sum, and the sum of the weights decay^j that it had.
    """
    size = values.size
    total = np.full(size, np.nan)
    weight = np.zeros(size)
    power = np.empty(width)
    power[0] = 1.0
    for j in range(1, width):
        power[j] = power[j - 1] * decay
    # The tail of a block is weighted as seen from the block's last bar; joining it adds the age of that bar.
    tail = np.empty(size)
    tail_weight = np.empty(size)
    running = 0.0
    present = 0.0
    for i in range(size - 1, -1, -1):
        age = width - 1 - (anchor + i) % width
        if age == 0:
            running = 0.0
            present = 0.0
        if not math.isnan(values[i]):
            running += power[age] * values[i]
            present += power[age]
        tail[i] = running
        tail_weight[i] = present
    running = 0.0
    present = 0.0
    for i in range(size):
        place = (anchor + i) % width
        if place == 0:
            running = 0.0
            present = 0.0
        running *= decay
        present *= decay
        if not math.isnan(values[i]):
            running += values[i]
            present += 1.0
        first = i - width + 1
        if first < 0:
            continue
        if place == width - 1:
            total[i] = running
            weight[i] = present
        else:
            total[i] = running + power[place + 1] * tail[first]
            weight[i] = present + power[place + 1] * tail_weight[first]
    return total, weight


@kernel
def windowed_moments(values: Floats, width: int) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of the last `width` values; NaN when one of them is not known.

    Two passes over differences from the newest value: a flat window has exactly no deviation.
    """
    size = values.size
    mean = np.full(size, np.nan)
    deviation = np.full(size, np.nan)
    for i in range(width - 1, size):
        newest = values[i]
        centre = 0.0
        for j in range(i - width + 1, i + 1):
            centre += values[j] - newest
        centre /= width
        squares = 0.0
        for j in range(i - width + 1, i + 1):
            difference = values[j] - newest - centre
            squares += difference * difference
        mean[i] = newest + centre
        deviation[i] = math.sqrt(squares / width)
    return mean, deviation


@kernel
def windowed_rank(values: Floats, width: int) -> tuple[Counts, Counts]:
    """How many of the `width` values before each are not above it, and how many of them are known."""
    size = values.size
    below = np.zeros(size, np.int64)
    known = np.zeros(size, np.int64)
    for i in range(width, size):
        for j in range(i - width, i):
            below[i] += values[j] <= values[i]
            known[i] += not math.isnan(values[j])
    return below, known


@kernel
def windowed_median(values: Floats, width: int) -> tuple[Floats, Counts]:
    """Median of the known values among the last `width`, infinite ones included, and how many they are.

    Of an even number it is the mean of the middle two. The window is kept sorted from bar to bar: a median is one of
    the values, or a mean of two, so no rounding is carried along.
    """
    size = values.size
    median = np.full(size, np.nan)
    known = np.zeros(size, np.int64)
    ordered = np.empty(width)
    count = 0
    for i in range(size):
        if i >= width and not math.isnan(values[i - width]):
            place = np.searchsorted(ordered[:count], values[i - width])
            for j in range(place, count - 1):
                ordered[j] = ordered[j + 1]
            count -= 1
        if not math.isnan(values[i]):
            place = np.searchsorted(ordered[:count], values[i])
            for j in range(count, place, -1):
                ordered[j] = ordered[j - 1]
            ordered[place] = values[i]
            count += 1
        if i >= width - 1 and count > 0:
            known[i] = count
            median[i] = ordered[count // 2] if count % 2 else 0.5 * (ordered[count // 2 - 1] + ordered[count // 2])
    return median, known


@kernel
def natural_log(values: Floats) -> Floats:
    """ln, one value at a time: a vectorised one may round the end of an array differently. NaN for x < 0."""
    result = np.empty(values.size)
    for i in range(values.size):
        if values[i] > 0.0:
            result[i] = math.log(values[i])
        else:
            result[i] = -np.inf if values[i] == 0.0 else np.nan
    return result


@kernel
def exponential(values: Floats) -> Floats:
    """e^x, one value at a time, for the same reason."""
    result = np.empty(values.size)
    for i in range(values.size):
        result[i] = math.exp(values[i])
    return result
