"""What the indicators average: the terms that a bar adds, alone or with the bars beside it.

Arrays of shape (lanes, bars) in and out; NaN where a bar that is needed is MISSING.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Floats, kernel
from mm_dagster.regime.windows import KNOWN


@kernel
def before(values: Floats, bars: int) -> Floats:
    """The series as they were that many bars before."""
    shifted = np.empty_like(values)
    for lane in range(values.shape[0]):
        for i in range(values.shape[1]):
            shifted[lane, i] = values[lane, i - bars] if i >= bars else np.nan
    return shifted


@kernel
def change(values: Floats) -> Floats:
    """Each value minus the one before."""
    result = np.empty_like(values)
    for lane in range(values.shape[0]):
        result[lane, :1] = np.nan
        for i in range(1, values.shape[1]):
            result[lane, i] = values[lane, i] - values[lane, i - 1]
    return result


@kernel
def seasonless_sizes(returns: Floats, season: Floats) -> Floats:
    """Sizes of the returns over their season's standard deviation; `season` is of one period, which comes again."""
    sizes = np.empty_like(returns)
    for lane in range(returns.shape[0]):
        for start in range(0, returns.shape[1], season.size):
            series, found = returns[lane, start : start + season.size], sizes[lane, start : start + season.size]
            for k in range(series.size):
                found[k] = abs(series[k] / season[k])
    return sizes


@kernel
def true_ranges(high: Floats, low: Floats, close: Floats) -> Floats:
    result = np.empty_like(high)
    for lane in range(high.shape[0]):
        result[lane, :1] = np.nan
        for i in range(1, high.shape[1]):
            previous = close[lane, i - 1]
            above, below = high[lane, i], low[lane, i]
            if math.isnan(previous) or math.isnan(above):
                result[lane, i] = np.nan
            else:
                result[lane, i] = max(above - below, max(abs(above - previous), abs(below - previous)))
    return result


@kernel
def swing(prices: Floats, window: int, side: int, direction: float) -> Floats:
    """Highs with direction 1, lows with -1: every comparison with a MISSING bar is false, and there is no pivot."""
    lanes, bars = prices.shape
    needed = window + side + 1
    sign = np.full((lanes, bars), np.nan)
    peak = np.zeros(bars, np.bool_)
    inside = max(0, bars - 2 * side)
    for lane in range(lanes):
        price = prices[lane]
        top, pivots = price[side : side + inside], peak[side : side + inside]
        pivots[:] = True
        for j in range(1, side + 1):
            older, newer = price[side - j :], price[side + j :]
            for k in range(inside):
                pivots[k] &= (direction * top[k] > direction * older[k]) & (direction * top[k] >= direction * newer[k])
        known, last, previous = 0, -window, -window
        for i in range(bars):
            known += not math.isnan(price[i])
            known -= i >= needed and not math.isnan(price[i - needed])
            if i >= 2 * side and peak[i - side]:
                last, previous = i - side, last
            if i >= needed - 1 and known >= KNOWN * needed:
                found = previous >= i - window
                sign[lane, i] = np.sign(price[last] - price[previous]) if found else 0.0
    return sign


@kernel
def directional_movement(high: Floats, low: Floats) -> tuple[Floats, Floats]:
    plus, minus = np.full_like(high, np.nan), np.full_like(high, np.nan)
    for lane in range(high.shape[0]):
        for i in range(1, high.shape[1]):
            up, down = high[lane, i] - high[lane, i - 1], low[lane, i - 1] - low[lane, i]
            if not math.isnan(up):
                plus[lane, i] = up if up > down and up > 0.0 else 0.0
                minus[lane, i] = down if down > up and down > 0.0 else 0.0
    return plus, minus


@kernel
def directional_index(plus: Floats, minus: Floats, close: Floats) -> Floats:
    index = np.empty_like(plus)
    for lane in range(plus.shape[0]):
        for i in range(plus.shape[1]):
            both = plus[lane, i] + minus[lane, i]
            known = both > 0.0 and not math.isnan(close[lane, i])
            index[lane, i] = 100.0 * (abs(plus[lane, i] - minus[lane, i]) / both) if known else np.nan
    return index


@kernel
def range_terms(opens: Floats, highs: Floats, lows: Floats, closes: Floats) -> tuple[Floats, Floats, Floats]:
    """Of each bar, from the logarithms of its prices: what Parkinson, Garman and Klass, Rogers and Satchell average."""
    parkinson, garman_klass, rogers_satchell = np.empty_like(opens), np.empty_like(opens), np.empty_like(opens)
    share = 2.0 * math.log(2.0) - 1.0
    for lane in range(opens.shape[0]):
        for i in range(opens.shape[1]):
            o, c, up, down = opens[lane, i], closes[lane, i], highs[lane, i], lows[lane, i]
            parkinson[lane, i] = (up - down) * (up - down)
            garman_klass[lane, i] = 0.5 * ((up - down) * (up - down)) - share * ((c - o) * (c - o))
            rogers_satchell[lane, i] = (up - c) * (up - o) + (down - c) * (down - o)
    return parkinson, garman_klass, rogers_satchell
