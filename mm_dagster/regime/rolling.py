"""Bars that close at every quarter hour: the 4 (16) base bars up to there, the 4 (16) before them, and so on.

The bars of one such series lie at the same place within the hour (its phase), so the base bars of a symbol hold 4
hourly and 16 4-hour series. Bar by bar in the order of their closing, they are these series interleaved, as `lanes` of
a kernel: nothing has to be cut apart, and nothing put together again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mm_dagster.arrays import Floats, Integers, kernel
from mm_dagster.regime.lanes import WIDTH

Prices = tuple[Floats, Floats, Floats, Floats, Floats, Floats]
"""Open, high, low, close, volume and ln(close), each of shape (symbols, bars), NaN for MISSING."""
Rows = tuple[Any, Any]
"""Index of an array of some series that gives one of shape (symbols, bars asked for)."""


@dataclass(frozen=True)
class Bars:
    """Some series of bars side by side, arrays of shape (groups, bars x lanes); a MISSING bar is NaN in all of them.

    Attributes:
        open, high, low, close: prices.
        volume: base currency.
        log_close: ln(close).
        anchor: absolute number of the first bar, in bars of the series, the same for all.
        lanes: series in a group: bar i of lane k is at place i x lanes + k.
        shared: what was computed of these bars and is used more than once.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    log_close: Floats
    anchor: int
    lanes: int
    shared: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def last(self, bars: int) -> Bars:
        """Only the last so many bars of each series."""
        skipped = max(0, self.close.shape[1] // self.lanes - bars)
        prices = (self.open, self.high, self.low, self.close, self.volume, self.log_close)
        o, h, low, c, v, y = (np.ascontiguousarray(one[:, skipped * self.lanes :]) for one in prices)
        return Bars(o, h, low, c, v, y, self.anchor + skipped, self.lanes)


class RollingBars:
    """The bars of some symbols, one closing at every base bar, of a length that can be made fourfold.

    Attributes:
        step: base bars in a bar now.
    """

    def __init__(self, base: Prices, origin: int) -> None:
        """From base bars.

        Args:
            base: of the base bars; they are written over.
            origin: absolute number of the first base bar, a multiple of every `step` that is asked for.
        """
        self.step = 1
        self._origin = origin
        self._table = base

    def lengthen(self, step: int) -> None:
        """Makes bars of `step` base bars, a power of four times as long as before."""
        while self.step < step:
            _join(*self._table, self.step)
            self.step *= 4

    def all(self, start: int, end: int) -> tuple[Bars, Rows]:
        """Every series: a group is a symbol, its lanes are the phases. No copy, and gone when the bars get longer.

        Args:
            start: absolute number of the first base bar that is asked for.
            end: absolute number of the base bar after the last.

        Returns:
            The bars; and where in their arrays, and in what is computed of them, those asked for are: (symbols, bars).
        """
        return Bars(*self._table, self._origin // self.step, self.step), np.s_[
            :, start - self._origin : end - self._origin
        ]

    def some(self, start: int, end: int, reach: int) -> tuple[Bars, Rows]:
        """The series alone that have a bar asked for, `reach` bars further back, those of all symbols in one group.

        The last one fills up what is left of the lanes that are computed together.
        """
        numbers = np.arange(start, end)
        phases = np.unique(numbers % self.step)
        series = self._table[0].shape[0] * phases.size
        lanes = -(-series // WIDTH) * WIDTH
        first, after = start // self.step, -(-end // self.step)
        begin = first - reach - self._origin // self.step
        o, h, low, c, v, y = (_pick(one, phases, self.step, begin, reach + after - first, lanes) for one in self._table)
        bars = Bars(o, h, low, c, v, y, first - reach, lanes)
        # Counted from the end, so that they hold for the last bars alone, too.
        lane = np.searchsorted(phases, numbers % self.step) + np.arange(0, series, phases.size)[:, None]
        return bars, (0, (numbers // self.step - after) * lanes + lane)


@kernel
def _pick(table: Floats, phases: Integers, step: int, first: int, bars: int, lanes: int) -> Floats:
    picked = np.empty((1, bars * lanes))
    last = table.shape[0] * phases.size - 1
    outside = min(max(-first, 0), bars)
    picked[0, : outside * lanes] = np.nan
    for start in range(outside, bars, _PIECE):
        target = picked[0, start * lanes : (start + _PIECE) * lanes]
        for lane in range(lanes):
            series = min(lane, last)
            source = table[series // phases.size, (first + start) * step + phases[series % phases.size] :]
            for bar in range(target.size // lanes):
                target[bar * lanes + lane] = source[bar * step]
    return picked


_PIECE = 64
"""Bars that are taken from one series after the other while where they go is in the cache."""


@kernel
def _join(opens: Floats, highs: Floats, lows: Floats, closes: Floats, volumes: Floats, logs: Floats, bars: int) -> None:
    """Joins each bar with those `bars`, twice and three times as many before, in place.

    MISSING when one of the four is or lies before the table.
    """
    second, third, fourth = bars, 2 * bars, 3 * bars
    for symbol in range(closes.shape[0]):
        o, h, low, c, v, y = opens[symbol], highs[symbol], lows[symbol], closes[symbol], volumes[symbol], logs[symbol]
        for i in range(c.size - 1, fourth - 1, -1):
            v[i] = (v[i] + v[i - second]) + (v[i - third] + v[i - fourth])
            known = not math.isnan(v[i])
            high, before = max(h[i], h[i - second]), max(h[i - third], h[i - fourth])
            h[i] = max(high, before) if known else np.nan
            lowest, before = min(low[i], low[i - second]), min(low[i - third], low[i - fourth])
            low[i] = min(lowest, before) if known else np.nan
            o[i] = o[i - fourth] if known else np.nan
            c[i] = c[i] if known else np.nan
            y[i] = y[i] if known else np.nan
        for one in (o, h, low, c, v, y):
            one[:fourth] = np.nan
