"""The median over a sliding window, of numbers sorted two blocks at a time.

As in `windows`: arrays of shape (groups, bars x lanes), NaN for what is not known, and NaN where too little is.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mm_dagster.arrays import Floats, Integers, kernel
from mm_dagster.regime.lanes import leading_zeros, trailing_zeros
from mm_dagster.regime.windows import KNOWN

Words = npt.NDArray[np.uint64]


def windowed_median(values: Floats, width: int, lanes: int = 1, lag: int = 0) -> Floats:
    """Median of the known values among the `width` up to `lag` bars before each, infinite ones included.

    Of an even number it is the mean of the middle two. Each two neighbouring blocks of `width` bars are sorted; a
    window then walks from one into the other, and its median from rank to rank (after Suomela 2014). A median is one of
    the values, or a mean of two, so no rounding is carried along and any cut into blocks will do.
    """
    keys = _median_keys(values, values.view(np.int64), width, lanes)
    keys.sort(axis=2)
    return _median_by_rank(values, keys, width, lanes, lag)


@kernel
def _median_keys(values: Floats, bits: Integers, width: int, lanes: int) -> Integers:
    """Of each lane and each two blocks numbers that sort as the values do, with the place in the two in the low bits.

    Sorting such numbers is several times faster than sorting places by the values. Where two values differ in those
    low bits alone, their order is put right afterwards.
    """
    groups, size = values.shape
    bars = size // lanes
    blocks = -(-bars // width)
    keys = np.empty((groups * lanes, blocks, 2 * width), np.int64)
    low = _low_bits(width)
    for series in range(groups * lanes):
        value, word = values[series // lanes, series % lanes :: lanes], bits[series // lanes, series % lanes :: lanes]
        for block in range(-1, blocks):
            for place in range(width):
                bar = block * width + place
                key = np.iinfo(np.int64).max
                if 0 <= bar < bars and not math.isnan(value[bar]):
                    # Of negative numbers the larger one is nearer to 0.
                    key = word[bar] ^ (np.iinfo(np.int64).max if word[bar] < 0 else 0)
                # Once as the newer block of two, and once as the older one.
                if block >= 0:
                    keys[series, block, width + place] = key & ~low | width + place
                if block < blocks - 1:
                    keys[series, block + 1, place] = key & ~low | place
    return keys


@kernel
def _low_bits(width: int) -> int:
    low = 1
    while low < 2 * width:
        low *= 2
    return low - 1


@kernel
def _median_by_rank(values: Floats, keys: Integers, width: int, lanes: int, lag: int) -> Floats:
    groups, size = values.shape
    median = np.full((groups, size), np.nan)
    # Of two blocks the value of each rank, the rank of each place, and a bit a rank: whether the window holds it.
    ordered, rank = np.empty(2 * width), np.empty(2 * width, np.uint64)
    held = np.empty(2 * width // 64 + 1, np.uint64)
    place = np.empty(2 * width, np.int64)
    for series in range(keys.shape[0]):
        group, lane = series // lanes, series % lanes
        for block in range(keys.shape[1]):
            first = (block - 1) * width
            skipped = max(-first, 0)
            two = values[group, (first + skipped) * lanes + lane :: lanes]
            ranked = np.uint64(_order(two, skipped, keys[series, block], place, ordered, rank))
            known = 0
            held[:] = _FIRST
            for t in range(width):
                known += rank[t] < ranked
                held[rank[t] >> _WORDS] |= np.uint64(rank[t] < ranked) << (rank[t] & _LAST)
            found = median[group, (first + width + lag) * lanes + lane :: lanes]
            # The upper one of the middle two is at rank `middle`, with `below` values of the window before it.
            middle, below = _FIRST, 0
            for t in range(min(width, found.size)):
                gone, new = rank[t], rank[t + width]
                if gone < ranked:
                    held[gone >> _WORDS] ^= _ONE << (gone & _LAST)
                    below -= gone < middle
                    known -= 1
                if new < ranked:
                    held[new >> _WORDS] ^= _ONE << (new & _LAST)
                    below += new < middle
                    known += 1
                if first + t + 1 < 0 or known < KNOWN * width:
                    continue
                while below > known // 2:
                    middle, below = _held_below(held, middle), below - 1
                middle = _held_from(held, middle)
                while below < known // 2:
                    middle, below = _held_from(held, middle + _ONE), below + 1
                value = ordered[middle]
                if known % 2 == 0:
                    value = 0.5 * (ordered[_held_below(held, middle)] + value)
                found[t] = value
    return median


@kernel
def _held_from(held: Words, rank: np.uint64) -> np.uint64:
    """The lowest rank that is held, from one on."""
    word = rank >> _WORDS
    bits = held[word] & (_ALL << (rank & _LAST))
    while bits == _FIRST:
        word += _ONE
        bits = held[word]
    return (word << _WORDS) + trailing_zeros(bits)


@kernel
def _held_below(held: Words, rank: np.uint64) -> np.uint64:
    """The highest rank that is held, below one."""
    word = rank >> _WORDS
    bits = held[word] & ~(_ALL << (rank & _LAST))
    while bits == _FIRST:
        word -= _ONE
        bits = held[word]
    return (word << _WORDS) + _LAST - leading_zeros(bits)


@kernel
def _order(values: Floats, skipped: int, keys: Integers, place: Integers, ordered: Floats, rank: Words) -> int:
    """Reads sorted keys: the value of each rank, and the rank of each place; `values` lack the first so many places.

    Returns:
        How many are known: the ranks of the others are above these.
    """
    low = _low_bits(keys.size // 2)
    unknown = np.iinfo(np.int64).max - low
    known, alike = 0, 0
    for r in range(keys.size):
        place[r] = keys[r] & low
        known += keys[r] < unknown
    before, now = keys[:-1], keys[1:]
    for r in range(now.size):
        alike += (now[r] ^ before[r] <= low) & (now[r] < _INFINITE)
    for r in range(1, known if alike else 1):
        if keys[r] ^ keys[r - 1] <= low and keys[r] < _INFINITE:
            # Equal but for the low bits: these few are sorted by their values.
            k, here = r, place[r]
            while k > 0 and values[here - skipped] < values[place[k - 1] - skipped]:
                place[k] = place[k - 1]
                k -= 1
            place[k] = here
    for r in range(keys.size):
        rank[np.uint64(place[r])] = np.uint64(r)
    for r in range(known):
        ordered[r] = values[np.uint64(place[r] - skipped)]
    return known


_INFINITE = 0x7FF << 52
"""The bits of infinity."""
_FIRST, _ONE, _WORDS, _LAST, _ALL = (np.uint64(number) for number in (0, 1, 6, 63, 2**64 - 1))
"""Ranks are without sign: with one, each look into an array would first ask whether it counts from the end."""
