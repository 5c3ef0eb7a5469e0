"""What came of grids on one market, bar by bar: when the bounds broke, and what leaving at each bar would have left.

Grids stand side by side as the rows of matrices; column j is the bar that closes j bars after the activation. With
them every question is one of columns: a signal is a matrix of truths, an exit is the column at which it is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import BAR, DAY_BARS
from mm_dagster.config.grid import GridConfig
from mm_dagster.evaluation.market import Market
from mm_dagster.grid.replay import replay, terms_of

NEVER = np.iinfo(np.int64).max
"""The column of what does not happen."""
HOLE = DAY_BARS
"""A life is cut before so many unknown bars in a row: the next known price may be a year away, and sells no grid."""


@dataclass(frozen=True)
class Cohort:
    """m grids on one market over n columns.

    Attributes:
        symbol: the market.
        grids: in the order of the rows.
        close: shape (m, n), quote currency; NaN where MISSING or not known yet.
        low: likewise.
        last: last column of a grid's life, shape (m,): what comes later is not known, or is over by decision.
        whole: whether the life ended by its own rule and not because knowledge ended there, shape (m,).
        broken_low: column with which two closes in a row lie below the grid, or NEVER, shape (m,); within the life or
            a day after it.
        stopped: first column whose low is at or below the stop, or NEVER; likewise.
        broken_high: column with which two closes in a row lie above the grid, or NEVER.
        left: equity when leaving is decided at a column, percent of the capital, shape (m, n): all is sold at the next
            open with taker fee and slippage. From the stop on, what it left; beyond `last`, what was left there.
    """

    symbol: str
    grids: tuple[GridConfig, ...]
    close: Floats
    low: Floats
    last: Integers
    whole: Flags
    broken_low: Integers
    stopped: Integers
    broken_high: Integers
    left: Floats

    @property
    def broken(self) -> Integers:
        """What a grid is to be warned of: two closes below it, or its stop, whichever is first."""
        return np.minimum(self.broken_low, self.stopped)

    @property
    def over(self) -> Integers:
        """The column with which there is nothing more to warn of: broken, sold out above, or the end of the life."""
        return np.minimum(np.minimum(self.broken, self.broken_high), self.last)

    @property
    def held(self) -> Floats:
        """Equity of holding to the stop or to the end of the life, percent of the capital, shape (m,)."""
        return self.left[np.arange(len(self.grids)), self.last]


def cohort_of(
    market: Market, grids: Sequence[GridConfig], bars: int, ended: Sequence[datetime | None] | None = None
) -> Cohort:
    """Follows grids for so many bars, or as long as candles are known.

    Args:
        market: of all of them.
        grids: the grids, each activated within the market's span.
        bars: how long a life is, at most.
        ended: when each was ended by its operator, if it was; its life is cut there and is not whole.
    """
    columns = bars + 1
    beyond = columns + DAY_BARS
    start = np.array([market.place(grid.first_as_of) for grid in grids], np.int64)
    place = start[:, None] + np.arange(beyond)
    inside = place < market.span.bars
    clipped = np.minimum(place, market.span.bars - 1)
    opens, highs, lows, closes = (
        np.where(inside, market.prices[name][clipped], np.nan) for name in ("open", "high", "low", "close")
    )
    lower, upper, stop = (np.array([[getattr(grid, name)] for grid in grids]) for name in ("lower", "upper", "stop"))
    known = np.minimum(np.minimum(market.span.bars - 1 - start, bars), _before_hole(np.isnan(closes)))
    if ended is not None:
        cut = [
            bars if end is None else max(0, (end - grid.first_as_of) // BAR)
            for grid, end in zip(grids, ended, strict=True)
        ]
        known = np.minimum(known, np.array(cut, np.int64))
    # What the first bar did before its close does not concern the grid.
    lows_since = lows.copy()
    lows_since[:, 0] = np.nan
    left = np.full((len(grids), columns), np.nan)
    for row, grid in enumerate(grids):
        left[row] = _left(grid, opens[row], highs[row], lows[row], closes[row], int(known[row]), columns)
    return Cohort(
        symbol=market.symbol,
        grids=tuple(grids),
        close=closes[:, :columns],
        low=lows[:, :columns],
        last=known,
        whole=known == bars,
        broken_low=_first_pair(closes < lower),
        stopped=_first(lows_since <= stop),
        broken_high=_first_pair(closes > upper),
        left=left,
    )


def _left(
    grid: GridConfig, opens: Floats, highs: Floats, lows: Floats, closes: Floats, last: int, columns: int
) -> Floats:
    """Equity of leaving at each column, percent of the capital."""
    # The grid begins flat at the close of its first bar.
    first = np.full(1, closes[0])
    book = terms_of(grid, float(closes[0]))
    lived = replay(
        book,
        *(np.concatenate([first, prices[1 : last + 1]]) for prices in (opens, highs, lows, closes)),
    )
    until = np.concatenate([opens[1 : last + 2], closes[last : last + 1]])
    fills_at = _next_known(until)[: last + 1]
    value = lived.cash + np.where(lived.inventory > 0, lived.inventory * fills_at * book.sold_for, 0.0)
    left = np.empty(columns)
    left[: last + 1] = 100.0 * value / grid.capital
    left[last + 1 :] = left[last]
    return left


def _next_known(values: Floats) -> Floats:
    """Each value, or the next known one where it is NaN; before the end, the last known one."""
    known = pl.Series(values).fill_nan(None)
    return known.fill_null(strategy="backward").fill_null(strategy="forward").to_numpy()


def _before_hole(missing: Flags) -> Integers:
    """The last column before a hole of HOLE bars or more, shape (m,); NEVER without one."""
    column = np.arange(missing.shape[1])
    since_known = column - np.maximum.accumulate(np.where(missing, -1, column), axis=1)
    first = _first(since_known >= HOLE)
    return np.where(first == NEVER, NEVER, first - HOLE)


def _first(happens: Flags) -> Integers:
    """The first column at which it happens, shape (m,)."""
    return np.where(happens.any(axis=1), happens.argmax(axis=1), NEVER)


def _first_pair(beyond: Flags) -> Integers:
    """The column with which it holds for the second time in a row, shape (m,); the activation itself does not count."""
    pairs = beyond[:, 1:] & beyond[:, :-1]
    return np.where(pairs.any(axis=1), pairs.argmax(axis=1) + 1, NEVER)
