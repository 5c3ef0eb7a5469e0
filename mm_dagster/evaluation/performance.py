"""What an equity did, day by day: return, risk, and the ratios of the two, each with its interval.

A day's return is the change between two marks at midnight UTC over the capital, a constant: profit is not reinvested,
so returns add up and are not compounded. A day without both marks has no known return. It is left out and counted, and
only the total and the drawdown, which are of the marks, know what happened over it.

The intervals are percentiles of series drawn anew in blocks of 14 days (`resample.in_blocks`), so that days that follow
each other stay together. With few days they are too short: of 300 simulated series the true mean lay within 82 to 87 %
of the intervals of 60 days, and 93 to 94 % of those of 365. The interval of a drawdown says what other orders of the
same days would have had, and may leave out the one that was.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Floats, Integers
from mm_dagster.evaluation import resample

LEAST_DAYS = 60
"""Fewer known days have no figures."""
YEAR_DAYS = 365
"""Markets never close."""
ROUNDING = 8 * np.finfo(np.float64).eps
"""What varies by less, as a share of the marks, does not vary."""

METRICS: dict[str, tuple[str, str]] = {
    "total_return": ("percent of the capital", "last mark less the first one"),
    "daily_return": ("percent of the capital", "mean of a day"),
    "volatility": ("percent of the capital", "standard deviation of a day's return, times sqrt(365)"),
    "sharpe": ("ratio a year", "mean over standard deviation of a day's return, times sqrt(365)"),
    "sharpe_error": ("ratio a year", "standard error of sharpe, were days independent and normal"),
    "sharpe_error_serial": ("ratio a year", "standard error of sharpe with fat tails, and days that follow each other"),
    "sortino": ("ratio a year", "mean over downside deviation from 0 of a day's return, times sqrt(365)"),
    "calmar": ("ratio a year", "daily_return over a year, not compounded, over max_drawdown"),
    "max_drawdown": ("share", "the deepest fall from a highest mark, of that mark; 1 is everything"),
    "max_drawdown_days": ("days", "from that highest mark until a mark reached it again, or to the last one"),
    "profit_factor": ("ratio", "sum of the gains of days over sum of the losses"),
    "daily_shortfall_5pct": ("percent of the capital", "mean of the worst 5 % of days; a loss is negative"),
    "kelly": ("multiple of the capital", "mean over variance of a day's return; 0 where its interval reaches 0"),
}
"""Every metric: its unit, and what it means."""


class Figure(NamedTuple):
    """A figure and its 95 % interval.

    Attributes:
        metric: one of METRICS.
        value: None where it cannot be told, as a profit factor without a losing day.
        low: None without a value, and of the errors of sharpe.
        high: likewise.
        n: known days that it is a figure of.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int


class Performance(NamedTuple):
    """The figures of an equity.

    Attributes:
        figures: one of each of METRICS, in their order.
        days: days whose return is known.
        unknown: days whose return is not.
        reason: why no figure is known, in a sentence; None where they are.
    """

    figures: tuple[Figure, ...]
    days: int
    unknown: int
    reason: str | None


def measure(marks: Floats, capital: float) -> Performance:
    """All figures of an equity.

    Args:
        marks: equity at successive midnights UTC, shape (days + 1,), in quote currency; NaN where unknown. Payments in
            and out are no profit and must not be in it. At or below 0 everything is lost, and days count on.
        capital: what a return is a share of, in quote currency, above 0.

    Raises:
        ValueError: a capital that is not above 0.
    """
    if not (math.isfinite(capital) and capital > 0):
        raise ValueError(f"capital: {capital}; it lies above 0")
    changes = np.diff(marks) / capital
    returns = changes[np.isfinite(changes)]
    days, unknown = returns.size, changes.size - returns.size
    known = np.flatnonzero(np.isfinite(marks))
    reason = None
    if days < LEAST_DAYS:
        reason = f"The return of {days} days is known, {LEAST_DAYS} are needed."
    elif not marks[known[0]] > 0:
        reason = "The first mark that is known is not above 0: there is nothing to lose a share of."
    if reason is not None:
        return Performance(tuple(Figure(metric, None, None, None, days) for metric in METRICS), days, unknown, reason)
    found = _drawn(returns, marks[known], known, capital)
    figures = {metric: _figure(metric, values, days) for metric, values in found.items()}
    # What may as well lose deserves no stake, however good its mean.
    kelly = figures["kelly"]
    if kelly.value is not None and (kelly.low is None or kelly.low <= 0):
        figures["kelly"] = kelly._replace(value=0.0)
    return Performance(tuple(figures[metric] for metric in METRICS), days, unknown, None)


def _figure(metric: str, values: Floats, n: int) -> Figure:
    """A figure from its value, which stands first, and its draws."""
    value = float(values[0])
    if not math.isfinite(value):
        return Figure(metric, None, None, None, n)
    low, high = resample.interval(values[1:])
    sure = math.isfinite(low)
    return Figure(metric, value, low if sure else None, high if sure else None, n)


def _drawn(returns: Floats, marks: Floats, at: Integers, capital: float) -> dict[str, Floats]:
    """Every metric of the series, which stands first, and of its draws; NaN where it cannot be told.

    Args:
        returns: of the known days, as shares of the capital, shape (n,).
        marks: the known ones, shape (m,).
        at: on which days they stand, shape (m,).
        capital: in quote currency.
    """
    places = resample.in_blocks(returns.size)
    drawn = returns[places]
    times = np.stack([np.bincount(row, minlength=returns.size) for row in places]).astype(np.float64)
    least = ROUNDING * float(np.abs(marks).max()) / capital
    year = math.sqrt(YEAR_DAYS)

    mean, deviation = drawn.mean(axis=1), drawn.std(axis=1, ddof=1)
    downside = np.sqrt((np.minimum(drawn, 0.0) ** 2).mean(axis=1))
    losses = -np.minimum(drawn, 0.0).sum(axis=1)
    sharpe = _over(mean, deviation, least)
    # What the marks did over days that are not known belongs to the total, however the known ones are drawn.
    over_gaps = (marks[-1] - marks[0]) / capital - returns.sum()
    fall, length = _drawdown(marks[None, :], at)
    path = np.column_stack([np.full(len(drawn) - 1, marks[0]), marks[0] + capital * np.cumsum(drawn[1:], axis=1)])
    falls, lengths = _drawdown(path, np.arange(path.shape[1]))
    fall, length = np.append(fall, falls), np.append(length, lengths)
    return {
        "total_return": 100 * (drawn.sum(axis=1) + over_gaps),
        "daily_return": 100 * mean,
        "volatility": 100 * year * deviation,
        "sharpe": year * sharpe,
        "sharpe_error": np.array([year * _error(float(sharpe[0]), returns.size)]),
        "sharpe_error_serial": np.array([year * _serial_error(returns, float(sharpe[0]))]),
        "sortino": year * _over(mean, downside, least),
        "calmar": _over(YEAR_DAYS * mean, fall, ROUNDING),
        "max_drawdown": fall,
        "max_drawdown_days": length,
        "profit_factor": _over(np.maximum(drawn, 0.0).sum(axis=1), losses, least),
        "daily_shortfall_5pct": 100 * resample.shortfall(times, returns),
        "kelly": _over(sharpe, deviation, least),
    }


def _over(above: Floats, below: Floats, least: float) -> Floats:
    """Ratios; NaN where what is divided by is nothing but rounding."""
    return above / np.where(below > least, below, np.nan)


def _error(sharpe: float, days: int) -> float:
    """Standard error of a day's Sharpe ratio, sqrt((1 + SR^2 / 2) / n), of independent normal days (Lo 2002)."""
    return math.sqrt((1 + sharpe**2 / 2) / days)


def _serial_error(returns: Floats, sharpe: float) -> float:
    """Standard error of a day's Sharpe ratio of days that follow each other, by the method of moments (Lo 2002).

    sqrt(V / n), V the long-run variance of z - SR (z^2 - 1) / 2 with z = (r - mean) / deviation, by the covariances of
    days less than BLOCK_DAYS apart, with falling weights (Newey, West 1987). Knows skew and fat tails, too.
    """
    if not math.isfinite(sharpe):
        return math.nan
    standard = (returns - returns.mean()) / returns.std()
    influence = standard - sharpe / 2 * (standard**2 - 1)
    variance = float(np.mean(influence**2))
    for lag in range(1, resample.BLOCK_DAYS):
        together = float(np.sum(influence[lag:] * influence[:-lag])) / returns.size
        variance += 2 * (1 - lag / resample.BLOCK_DAYS) * together
    return math.sqrt(max(variance, 0.0) / returns.size)


def _drawdown(paths: Floats, at: Integers) -> tuple[Floats, Floats]:
    """The deepest fall of each path from a highest value before, as a share of it, and how many days it took.

    Args:
        paths: marks, shape (paths, m), the first above 0.
        at: on which day each mark stands, shape (m,).

    Returns:
        The fall, at most 1, and the days from the highest value to the next one that is as high, or to the end; shape
        (paths,) each. 0 days where nothing fell.
    """
    highest = np.maximum.accumulate(paths, axis=1)
    fall = np.minimum(1.0 - paths / highest, 1.0)
    deepest = fall.argmax(axis=1)[:, None]
    from_what = np.take_along_axis(highest, deepest, axis=1)
    place = np.arange(paths.shape[1])
    top = np.where((place <= deepest) & (paths == from_what), place, -1).max(axis=1)
    again = np.where((place > deepest) & (paths >= from_what), place, place[-1]).min(axis=1)
    depth = np.take_along_axis(fall, deepest, axis=1)[:, 0]
    return depth, np.where(depth > 0, at[again] - at[top], 0).astype(np.float64)
