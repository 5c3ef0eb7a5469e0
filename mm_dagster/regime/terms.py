"""What the indicators average: the terms that a bar adds, alone or with the bars beside it.

Arrays of shape (groups, bars x lanes) in and out, as in `windows`; NaN where a bar that is needed is MISSING.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Floats, kernel
from mm_dagster.regime.lanes import put, side_by_side, spread, take, where
from mm_dagster.regime.windows import KNOWN, all_known, known_before, known_now


@kernel
def quotient(values: Floats, divisors: Floats) -> Floats:
    """x / 0 is infinite and 0 / 0 NaN: both are left to become null."""
    found = np.empty_like(values)
    for group in range(values.shape[0]):
        for i in range(values.shape[1]):
            found[group, i] = values[group, i] / divisors[group, i]
    return found


@kernel
def growth(values: Floats, bars: int, lanes: int) -> Floats:
    """By how many percent each value is above the one so many bars before."""
    found = np.empty_like(values)
    for group in range(values.shape[0]):
        now, then, grown = values[group, bars * lanes :], values[group], found[group, bars * lanes :]
        found[group, : bars * lanes] = np.nan
        for k in range(grown.size):
            grown[k] = 100.0 * (now[k] / then[k] - 1.0)
    return found


@kernel
def bands(close: Floats, mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
    """Of the bands at two deviations from the mean the width, and where in them the close is."""
    width, place = np.empty_like(close), np.empty_like(close)
    for group in range(close.shape[0]):
        for i in range(close.shape[1]):
            four = 4.0 * deviation[group, i]
            width[group, i] = four / mean[group, i]
            place[group, i] = 0.5 + (close[group, i] - mean[group, i]) / four
    return width, place


@kernel
def is_inside(close: Floats, highest: Floats, lowest: Floats) -> Floats:
    """Whether each close, as 0 or 1, lies in its range; NaN where that is not known."""
    found = np.empty_like(close)
    for group in range(close.shape[0]):
        for i in range(close.shape[1]):
            c, high, low = close[group, i], highest[group, i], lowest[group, i]
            flag = 1.0 if (low <= c) & (c <= high) else 0.0
            found[group, i] = flag if high == high else np.nan
    return found


@kernel
def efficiency(log_close: Floats, step_mean: Floats, bars: int, lanes: int) -> Floats:
    """The way of so many bars over the sum of its steps, at most 1: it cannot be longer, but by rounding."""
    found = np.empty_like(log_close)
    for group in range(log_close.shape[0]):
        now, then, steps = log_close[group, bars * lanes :], log_close[group], step_mean[group, bars * lanes :]
        shares = found[group, bars * lanes :]
        found[group, : bars * lanes] = np.nan
        for k in range(shares.size):
            share = abs(now[k] - then[k]) / (steps[k] * bars)
            shares[k] = 1.0 if share > 1.0 else share
    return found


@kernel
def neighbours(returns: Floats, lanes: int) -> Floats:
    """The size of each return times that of the one before."""
    found = np.empty_like(returns)
    for group in range(returns.shape[0]):
        now, then, products = returns[group, lanes:], returns[group], found[group, lanes:]
        found[group, :lanes] = np.nan
        for k in range(products.size):
            products[k] = abs(now[k] * then[k])
    return found


@kernel
def share_above(neighbour_mean: Floats, square_mean: Floats) -> Floats:
    """The share of the realised variance that the bipower variation lacks, at least 0."""
    found = np.empty_like(square_mean)
    for group in range(found.shape[0]):
        for i in range(found.shape[1]):
            share = 1.0 - 0.5 * math.pi * neighbour_mean[group, i] / square_mean[group, i]
            found[group, i] = 0.0 if share < 0.0 else share
    return found


@kernel
def mixed(fast: Floats, slow: Floats, weight: float, unit: float) -> Floats:
    """The weighted mean of two, in units."""
    found = np.empty_like(fast)
    for group in range(found.shape[0]):
        for i in range(found.shape[1]):
            found[group, i] = (weight * fast[group, i] + (1.0 - weight) * slow[group, i]) / unit
    return found


@kernel
def change(values: Floats, lanes: int = 1) -> Floats:
    """Each value minus the one before."""
    result = np.empty_like(values)
    for group in range(values.shape[0]):
        now, previous, found = values[group, lanes:], values[group], result[group, lanes:]
        result[group, :lanes] = np.nan
        for k in range(found.size):
            found[k] = now[k] - previous[k]
    return result


@kernel
def seasonless_sizes(returns: Floats, season: Floats) -> Floats:
    """Sizes of the returns over their season's standard deviation; `season` is of one period, which comes again."""
    sizes = np.empty_like(returns)
    for group in range(returns.shape[0]):
        for start in range(0, returns.shape[1], season.size):
            series, found = returns[group, start : start + season.size], sizes[group, start : start + season.size]
            for k in range(series.size):
                found[k] = abs(series[k] / season[k])
    return sizes


@kernel
def true_ranges(high: Floats, low: Floats, close: Floats, lanes: int = 1) -> Floats:
    result = np.empty_like(high)
    for group in range(high.shape[0]):
        upper, lower, previous = high[group, lanes:], low[group, lanes:], close[group]
        found = result[group, lanes:]
        result[group, :lanes] = np.nan
        for k in range(found.size):
            above, below = abs(upper[k] - previous[k]), abs(lower[k] - previous[k])
            # Where one is not known, neither is larger, and the last stays.
            outside = above if above > below else below
            inside = upper[k] - lower[k]
            found[k] = inside if inside > outside else outside
    return result


def swing(prices: Floats, window: int, side: int, direction: float, lanes: int = 1) -> Floats:
    """Highs with direction 1, lows with -1: every comparison with a MISSING bar is false, and there is no pivot."""
    return _swing(prices, window, side, direction, lanes, side_by_side(lanes))


@kernel
def _swing(prices: Floats, window: int, side: int, direction: float, lanes: int, together: tuple[float, ...]) -> Floats:
    groups, size = prices.shape
    needed = window + side + 1
    sign = np.empty((groups, size))
    for group in range(groups):
        price, found = prices[group], sign[group]
        found[: (needed - 1) * lanes] = np.nan
        for lane in range(0, lanes, len(together)):
            # Of the last two pivots the bar and the price.
            last_bar, previous_bar = spread(-window, together), spread(-window, together)
            last, previous = spread(0.0, together), spread(0.0, together)
            for i in range(2 * side * lanes + lane, size, lanes):
                top = take(price, i - side * lanes, together)
                height = direction * top
                pivot = height == height
                for j in range(1, side + 1):
                    pivot &= height > direction * take(price, i - (side + j) * lanes, together)
                    pivot &= height >= direction * take(price, i - (side - j) * lanes, together)
                previous_bar, previous = where(pivot, last_bar, previous_bar), where(pivot, last, previous)
                last_bar, last = where(pivot, i // lanes - side, last_bar), where(pivot, top, last)
                if i < (needed - 1) * lanes:
                    continue
                found_both = previous_bar >= i // lanes - window
                rise = last - previous
                rise = where(rise > 0.0, 1.0, where(rise < 0.0, -1.0, rise))
                put(found, i, where(found_both, rise, 0.0))
        _forget_blind(found, price, needed, lanes, together)
    return sign


@kernel
def _forget_blind(found: Floats, values: Floats, width: int, lanes: int, together: tuple[float, ...]) -> None:
    """Makes NaN what was found where too few of the last `width` values are known."""
    for start in range(0, values.size, width * lanes):
        end = min(start + width * lanes, values.size)
        if all_known(values, max(start - width * lanes, 0), end):
            continue
        for lane in range(0, lanes, len(together)):
            known = known_before(values, start + lane, width * lanes, lanes, together)
            for i in range(start + lane, end, lanes):
                known = known_now(known, values, i, width * lanes, together)
                put(found, i, where(known >= KNOWN * width, take(found, i, together), np.nan))


@kernel
def directional_movement(high: Floats, low: Floats, lanes: int = 1) -> tuple[Floats, Floats]:
    plus, minus = np.empty_like(high), np.empty_like(high)
    for group in range(high.shape[0]):
        plus[group, :lanes], minus[group, :lanes] = np.nan, np.nan
        rising, falling = plus[group, lanes:], minus[group, lanes:]
        upper, lower, upper_before, lower_before = high[group, lanes:], low[group, lanes:], high[group], low[group]
        for k in range(rising.size):
            up, down = upper[k] - upper_before[k], lower_before[k] - lower[k]
            # Not known, they are no number and stay so.
            larger, other = (up if up > 0.0 else 0.0), (down if down > 0.0 else 0.0)
            rising[k] = (larger if up > down else 0.0) if up == up else np.nan
            falling[k] = (other if down > up else 0.0) if up == up else np.nan
    return plus, minus


@kernel
def directional_index(plus: Floats, minus: Floats, close: Floats) -> Floats:
    index = np.empty_like(plus)
    for group in range(plus.shape[0]):
        for i in range(plus.shape[1]):
            both = plus[group, i] + minus[group, i]
            known = (both > 0.0) & (not math.isnan(close[group, i]))
            found = 100.0 * (abs(plus[group, i] - minus[group, i]) / both)
            index[group, i] = found if known else np.nan
    return index


@kernel
def range_terms(opens: Floats, highs: Floats, lows: Floats, closes: Floats) -> tuple[Floats, Floats, Floats]:
    """Of each bar, from the logarithms of its prices: what Parkinson, Garman and Klass, Rogers and Satchell average."""
    parkinson, garman_klass, rogers_satchell = np.empty_like(opens), np.empty_like(opens), np.empty_like(opens)
    share = 2.0 * math.log(2.0) - 1.0
    for group in range(opens.shape[0]):
        for i in range(opens.shape[1]):
            o, c, up, down = opens[group, i], closes[group, i], highs[group, i], lows[group, i]
            parkinson[group, i] = (up - down) * (up - down)
            garman_klass[group, i] = 0.5 * ((up - down) * (up - down)) - share * ((c - o) * (c - o))
            rogers_satchell[group, i] = (up - c) * (up - o) + (down - c) * (down - o)
    return parkinson, garman_klass, rogers_satchell
