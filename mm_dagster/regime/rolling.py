"""Bars that close at every quarter hour: the 4 (16) base bars up to there, the 4 (16) before them, and so on.

The bars of one such series lie at the same place within the hour (its phase), so the base bars of a symbol hold 4
hourly and 16 4-hour series. Bar by bar in the order of their closing, they are these series interleaved, as `lanes` of
a kernel: nothing has to be cut apart, and nothing put together again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mm_dagster.arrays import Floats, Integers, kernel
from mm_dagster.regime.lanes import WIDEST, WIDTH, put, side_by_side, take, where

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
            _join(self._table, self.step, side_by_side(WIDEST), side_by_side(1))
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
def _join(table: Prices, bars: int, flat: tuple[float, ...], one: tuple[float, ...]) -> None:
    """Joins each bar with those `bars`, twice and three times as many before, in place.

    MISSING when one of the four is or lies before the table.
    """
    o, h, low, c, v, y = table
    for symbol in range(c.shape[0]):
        six = (o[symbol], h[symbol], low[symbol], c[symbol], v[symbol], y[symbol])
        # From the newest back, so that what is written is not read again; those that leave a rest are the oldest.
        end = c.shape[1]
        while end - len(flat) >= 3 * bars:
            end -= len(flat)
            _join_some(six, end, bars, flat)
        for i in range(end - 1, 3 * bars - 1, -1):
            _join_some(six, i, bars, one)
        for values in six:
            values[: 3 * bars] = np.nan


@kernel
def _join_some(six: Prices, i: int, bars: int, together: tuple[float, ...]) -> None:
    o, h, low, c, v, y = six
    second, third, fourth = i - bars, i - 2 * bars, i - 3 * bars
    volume = take(v, i, together) + take(v, second, together)
    volume += take(v, third, together) + take(v, fourth, together)
    known = volume == volume
    high = _larger(take(h, i, together), take(h, second, together))
    high = _larger(high, _larger(take(h, third, together), take(h, fourth, together)))
    lowest = _smaller(take(low, i, together), take(low, second, together))
    lowest = _smaller(lowest, _smaller(take(low, third, together), take(low, fourth, together)))
    put(o, i, where(known, take(o, fourth, together), np.nan))
    put(h, i, where(known, high, np.nan))
    put(low, i, where(known, lowest, np.nan))
    put(c, i, where(known, take(c, i, together), np.nan))
    put(v, i, volume)
    put(y, i, where(known, take(y, i, together), np.nan))


@kernel
def _larger(one: Any, other: Any) -> Any:
    return where(one > other, one, other)


@kernel
def _smaller(one: Any, other: Any) -> Any:
    return where(one < other, one, other)
