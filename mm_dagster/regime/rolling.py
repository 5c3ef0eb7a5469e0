"""Bars that close at every quarter hour: the 4 (16) base bars up to there, the 4 (16) before them, and so on.

The bars of one such series lie at the same place within the hour (its phase), so the base bars of a symbol hold 4
hourly and 16 4-hour series. Each is computed as an ordinary series of bars, and many of them side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_dagster.regime.windows import Lanes, kernel

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bars:
    """Some series of bars side by side, arrays of shape (lanes, bars); a MISSING bar is NaN in all of them.

    Attributes:
        open, high, low, close: prices.
        volume: base currency.
        anchor: absolute number of the first bar, in bars of the series, the same for all lanes.
        shared: what was computed of these bars and is used more than once.
    """

    open: Lanes
    high: Lanes
    low: Lanes
    close: Lanes
    volume: Lanes
    anchor: int
    shared: dict[str, Any] = field(default_factory=dict)


def rolling(base: Lanes, step: int, lanes: Sequence[tuple[int, int]], first: int, anchor: int) -> Bars:
    """Bars of `step` base bars each.

    Args:
        base: opens, highs, lows, closes and volumes of some symbols, shape (symbols, 5, base bars), NaN for MISSING;
            a whole number of bars.
        step: base bars in a bar.
        lanes: for each series the symbol's place in `base`, and its phase: at which base bar of each step it closes.
        first: how many bars to leave out at the beginning.
        anchor: absolute number of the first base bar, a multiple of `step`.
    """
    symbols, phases = np.array(lanes, dtype=np.int64).reshape(-1, 2).T
    table = _aggregate(base, step, symbols, phases, first)
    return Bars(table[0], table[1], table[2], table[3], table[4], anchor // step + first)


@kernel
def _aggregate(base: Lanes, step: int, symbols: Numbers, phases: Numbers, first: int) -> Lanes:
    """Shape (5, lanes, bars). A bar with a MISSING base bar is MISSING, and so is one that begins before the array."""
    bars = base.shape[2] // step - first
    table = np.empty((5, symbols.size, bars))
    for lane in range(symbols.size):
        opens, highs, lows = base[symbols[lane], 0], base[symbols[lane], 1], base[symbols[lane], 2]
        closes, volumes = base[symbols[lane], 3], base[symbols[lane], 4]
        for i in range(bars):
            last = (first + i) * step + phases[lane]
            oldest = last - step + 1
            known = oldest >= 0
            high, low, volume = -np.inf, np.inf, 0.0
            for j in range(max(oldest, 0), last + 1):
                known &= not math.isnan(closes[j])
                high, low = max(high, highs[j]), min(low, lows[j])
                volume += volumes[j]
            table[0, lane, i] = opens[max(oldest, 0)] if known else np.nan
            table[1, lane, i] = high if known else np.nan
            table[2, lane, i] = low if known else np.nan
            table[3, lane, i] = closes[last] if known else np.nan
            table[4, lane, i] = volume if known else np.nan
    return table
