"""Where prices may go within a day: as they went on each day of the past months, in units of today's volatility.

Filtered historical simulation (Barone-Adesi, Giannopoulos, Vosper 1999). A path begins at every 24th bar whose day is
over by now; a market's prices on it are

    ln price(b) = ln P + sigma(now) / sigma(s) (ln X(s + b) - ln C(s)),   b = 1 ... 96

with P the price now, X what the market did after bar s, C its close there, and sigma the forecast for the 96 bars
ahead. All markets follow the same day, so that what falls together in the past falls together here. There are no random
numbers, and which days are looked at does not depend on where the history begins: bars are counted from the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers, natural_log
from mm_dagster.bars import DAY_BARS, Span, bar_number
from mm_dagster.grid.touch import forecast

STEP_BARS = 24
"""A path begins at each bar whose absolute number divides by it: every six hours."""
HOLE_BARS = DAY_BARS
"""A market of which so many bars in a row are not known is not known well enough."""
AHEAD = 8
"""So many bars are passed over at once where none of them reaches anything; a day divides by it."""
MOST_SCALE = 100.0
"""No past day is stretched or shrunk by more, since one that stood still would rise for ever. Real ones came to 32."""


@dataclass(frozen=True)
class Past:
    """What markets did over some bars, by number.

    Where a bar is MISSING its row is NaN, and nothing fills; `close` and `sigma` go on as they last were.

    Attributes:
        symbols: the m markets.
        first: absolute number of the first bar.
        open: logarithm of the price, shape (m, n); NaN where MISSING.
        high: likewise.
        low: likewise.
        traded: likewise of the close.
        close: the last known one, shape (m, n); NaN before the first.
        sigma: forecast standard deviation of a return over the 96 bars ahead, the last known one, shape (m, n).
        unknown: how many bars in a row a close or a forecast was not known at a bar, shape (m, n).
        hole: column of the last bar at which HOLE_BARS were, at a bar, shape (m, n); -1: there was none.
        lowest: least of the lows of AHEAD bars from a bar on, shape (m, n); NaN where none is known.
        highest: likewise the most of the highs.
    """

    symbols: tuple[str, ...]
    first: int
    open: Floats
    high: Floats
    low: Floats
    traded: Floats
    close: Floats
    sigma: Floats
    unknown: Integers
    hole: Integers
    lowest: Floats
    highest: Floats


class Starts(NamedTuple):
    """The paths of one moment.

    Attributes:
        place: column of the bar after which each path begins, ascending, shape (k,).
        now: column of the newest bar.
    """

    place: Integers
    now: int


def lead_bars(window_days: int) -> int:
    """How many bars before a moment its paths look back on."""
    return window_days * DAY_BARS + HOLE_BARS


def past(symbols: tuple[str, ...], span: Span, prices: Floats, volatility: Floats, weekend: float) -> Past:
    """Prepares what all moments of a span share.

    Args:
        symbols: the m markets.
        span: the n bars.
        prices: open, high, low and close, shape (4, m, n), NaN where MISSING.
        volatility: forecast standard deviation of one hourly log return on a weekday, shape (m, n), NaN where unknown.
        weekend: see `touch.forecast`.
    """
    logs = natural_log(prices)
    first = bar_number(span.start)
    ahead = np.broadcast_to(first + 1 + np.arange(span.bars), volatility.shape)
    sigma = forecast(volatility, ahead, DAY_BARS, weekend)
    sigma = np.where(sigma > 0, sigma, np.nan)
    unknown = np.maximum(_since(np.isnan(logs[3])), _since(np.isnan(sigma)))
    column = np.arange(span.bars)
    return Past(
        symbols=symbols,
        first=first,
        open=np.ascontiguousarray(logs[0]),
        high=np.ascontiguousarray(logs[1]),
        low=np.ascontiguousarray(logs[2]),
        traded=np.ascontiguousarray(logs[3]),
        close=_carried(logs[3]),
        sigma=_carried(sigma),
        unknown=unknown,
        hole=np.maximum.accumulate(np.where(unknown >= HOLE_BARS, column, -1), axis=1),
        lowest=_ahead(logs[2], np.fmin),
        highest=_ahead(logs[1], np.fmax),
    )


def starts(known: Past, now: int, window_days: int) -> Starts:
    """The paths that may be looked at when bar `now` has closed: begun within the window, and over by now.

    Args:
        known: from `lead_bars` before `now` on.
        now: absolute number of the newest closed bar.
        window_days: how far back a path may begin, days.
    """
    after, last = now - window_days * DAY_BARS, now - DAY_BARS
    begins = np.arange(after // STEP_BARS + 1, last // STEP_BARS + 1, dtype=np.int64) * STEP_BARS
    return Starts(begins - known.first, now - known.first)


def scales(known: Past, market: int, places: Integers, now: Integers) -> Floats:
    """sigma(now) / sigma(s) of one market, between 1 / MOST_SCALE and MOST_SCALE.

    Args:
        known: the past of all markets.
        market: its place among them.
        places: of the paths of t moments, shape (t, k).
        now: column of the newest bar of each, shape (t,).

    Returns:
        Shape (t, k).
    """
    sigma = known.sigma[market]
    return np.clip(sigma[now][:, None] / sigma[places], 1.0 / MOST_SCALE, MOST_SCALE)


def lacking(known: Past, begin: Starts, window_days: int) -> Flags:
    """Of which markets the window is not known: younger than it, or with a hole of HOLE_BARS in it, shape (m,).

    What was not known never makes a loss smaller: there is none then.
    """
    from_bar = begin.now - window_days * DAY_BARS
    if from_bar < 0:
        return np.ones(len(known.symbols), np.bool_)
    return np.asarray(np.isnan(known.traded[:, begin.now]) | (known.hole[:, begin.now] >= from_bar))


def _since(missing: Flags) -> Integers:
    """How many bars in a row it is missing, up to each, shape (m, n); what lies before the first counts as missing."""
    column = np.arange(missing.shape[1])
    last = np.maximum.accumulate(np.where(missing, -HOLE_BARS - 1, column), axis=1)
    return np.asarray(column - last, np.int64)


def _ahead(values: Floats, extreme: np.ufunc) -> Floats:
    """The extreme of AHEAD values from each on, shape (m, n); what is not known does not count."""
    found, step = values.copy(), 1
    while step < AHEAD:
        found[:, :-step] = extreme(found[:, :-step], found[:, step:])
        step *= 2
    return found


def _carried(values: Floats) -> Floats:
    """Each value, or the last known one before it, shape (m, n)."""
    column = np.arange(values.shape[1])
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, column), axis=1)
    return np.take_along_axis(values, last, axis=1)
