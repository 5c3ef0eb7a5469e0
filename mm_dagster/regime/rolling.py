"""Bars that close at every quarter hour: the 4 (16) base bars up to there, the 4 (16) before them, and so on.

The bars of one such series lie at the same place within the hour (its phase), so the base bars of a symbol hold 4
hourly and 16 4-hour series. Each is computed as an ordinary series of bars, and many of them side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mm_dagster.arrays import Floats, Integers, kernel

PIECE = 64
"""Bars that are taken from, or put to, one phase after the other while what lies between them is in the cache."""


@dataclass(frozen=True)
class Bars:
    """Some series of bars side by side, arrays of shape (lanes, bars); a MISSING bar is NaN in all of them.

    Attributes:
        open, high, low, close: prices.
        volume: base currency.
        log_close: ln(close).
        anchor: absolute number of the first bar, in bars of the series, the same for all lanes.
        shared: what was computed of these bars and is used more than once.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    log_close: Floats
    anchor: int
    shared: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def last(self, bars: int) -> Bars:
        """Only the last so many bars of each series."""
        skipped = max(0, self.close.shape[1] - bars)
        prices = (self.open, self.high, self.low, self.close, self.volume, self.log_close)
        o, h, low, c, v, y = (np.ascontiguousarray(one[:, skipped:]) for one in prices)
        return Bars(o, h, low, c, v, y, self.anchor + skipped)


class RollingBars:
    """The bars of some symbols, one closing at every base bar, of a length that can be doubled.

    Attributes:
        step: base bars in a bar now.
    """

    def __init__(self, base: Floats, origin: int) -> None:
        """From base bars.

        Args:
            base: opens, highs, lows, closes, volumes and log closes, shape (symbols, 6, base bars), NaN for MISSING;
                it is written over.
            origin: absolute number of the first base bar, a multiple of every `step` that is asked for.
        """
        self.step = 1
        self._origin = origin
        self._table = base

    def lengthen(self, step: int) -> None:
        """Makes bars of `step` base bars, a power of two times as long as before."""
        while self.step < step:
            _join(self._table, self.step)
            self.step *= 2

    def series(self, phases: Integers, first: int, end: int) -> Bars:
        """Some series of every symbol, its phases side by side.

        Args:
            phases: at which base bar of each step the bars of a series close.
            first: absolute number of the first bar; what lies before the base bars is MISSING.
            end: absolute number of the bar after the last.
        """
        table = _pick(self._table, phases, self.step, first - self._origin // self.step, end - first)
        return Bars(table[0], table[1], table[2], table[3], table[4], table[5], first)


@kernel
def _join(table: Floats, bars: int) -> None:
    """Joins each bar with the one `bars` before, in place; MISSING when one of them is or lies before the table."""
    for symbol in range(table.shape[0]):
        opens, highs, lows = table[symbol, 0], table[symbol, 1], table[symbol, 2]
        closes, volumes, logs = table[symbol, 3], table[symbol, 4], table[symbol, 5]
        for i in range(closes.size - 1, bars - 1, -1):
            known = not (math.isnan(volumes[i]) or math.isnan(volumes[i - bars]))
            opens[i] = opens[i - bars] if known else np.nan
            highs[i] = (highs[i] if highs[i] > highs[i - bars] else highs[i - bars]) if known else np.nan
            lows[i] = (lows[i] if lows[i] < lows[i - bars] else lows[i - bars]) if known else np.nan
            closes[i] = closes[i] if known else np.nan
            volumes[i] = volumes[i] + volumes[i - bars]
            logs[i] = logs[i] if known else np.nan
        table[symbol, :, :bars] = np.nan


@kernel
def _pick(table: Floats, phases: Integers, step: int, first: int, bars: int) -> Floats:
    """Shape (6, symbols * phases, bars)."""
    picked = np.empty((table.shape[1], table.shape[0] * phases.size, bars))
    outside = max(0, -first)
    # Neighbours are read four at a time.
    together = 4 if phases.size == step and step % 4 == 0 else 1
    for row in range(table.shape[1]):
        picked[row, :, :outside] = np.nan
        for start in range(outside, bars, PIECE):
            end = min(start + PIECE, bars)
            for lane in range(0, picked.shape[1], together):
                place = (first + start) * step + phases[lane % phases.size]
                source = table[lane // phases.size, row, place:]
                target = picked[row, lane : lane + together, start:end]
                if together == 4:
                    a, b, c, d = target[0], target[1], target[2], target[3]
                    for k in range(a.size):
                        a[k], b[k] = source[step * k], source[step * k + 1]
                        c[k], d[k] = source[step * k + 2], source[step * k + 3]
                else:
                    for k in range(target.shape[1]):
                        target[0, k] = source[step * k]
    return picked
