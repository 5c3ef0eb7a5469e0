"""How likely a price is touched within some hours: distance over volatility, through a Student-t tail.

Only operations that IEEE 754 rounds exactly (+, -, *, /, sqrt) run on arrays, and logarithms are taken one by one:
so a row has the same bits alone and among thousands. Polars is not used for this arithmetic, since its division by a
scalar multiplies by the reciprocal, except in a frame of one row.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Floats, Integers
from mm_dagster.bars import HOUR_BARS, weekend_bars


def student_t4_cdf(x: Floats) -> Floats:
    """Distribution function of Student's t (Student 1908) with 4 degrees of freedom.

    Equal to 1/2 + 3/8 x/sqrt(q) (1 - x^2/(12 q)) with q = 1 + x^2/4, rearranged so that the left tail does not
    cancel: with r = sqrt(x^2 + 4) and w = 4 / (r (r + |x|)), F4(-|x|) = w^2 (3 - w) / 4.

    Args:
        x: any shape; NaN stays NaN, infinities are allowed.

    Returns:
        The same shape, within [0, 1].
    """
    size = np.abs(x)
    root = np.sqrt(size * size + 4.0)
    w = 4.0 / (root * (root + size))
    left = w * w * (3.0 - w) / 4.0
    return np.where(x > 0, 1.0 - left, left)


def forecast(sigma: Floats, first: Integers, bars: int, weekend: float) -> Floats:
    """What the volatility forecast of a weekday means for the bars ahead, of which some may open on a weekend.

    Variances add up: with a the share of weekend bars, sigma sqrt(1 - a + a weekend^2).

    Args:
        sigma: forecast standard deviation of one hourly log return on a weekday, shape (n,).
        first: absolute number of the first bar ahead, the one that opens at `as_of`, shape (n,).
        bars: how many bars are ahead.
        weekend: standard deviation of a return on Saturdays and Sundays, UTC, as a share of other days'.

    Returns:
        Shape (n,): forecast standard deviation of one hourly log return, as a mean over these bars.
    """
    share = weekend_bars(first, bars) / bars
    return sigma * np.sqrt(1.0 - share + share * (weekend * weekend))


def probability(distance: Floats, sigma: Floats, hours: float, scale: float, shift: float = 0.0) -> Floats:
    """Probability that the price moves by `distance` against a bound within `hours`.

    p = 2 F4(-(max(0, d) + c sigma sqrt(1/4)) / (k sigma sqrt(h))): the reflection principle with a fat-tailed step, k
    and c fitted on real grids. A price that is looked at every quarter hour passes a bound between two looks, so the
    bound is c standard deviations of a bar farther away than it stands (Broadie, Glasserman, Kou 1997).

    Args:
        distance: log distance to the bound, shape (n,); at or below 0 the price is already beyond it: p is at its
            highest, 1 without a shift.
        sigma: forecast standard deviation of one hourly log return over these hours, see `forecast`, shape (n,).
        hours: horizon.
        scale: k; it absorbs what "beyond" asks for (a touch, or two closes) and the mean reversion of volatility.
        shift: c; 0 for what a candle's low tells, which nobody has to look for.

    Returns:
        Shape (n,); NaN where distance or sigma is, and where sigma is 0 and the bound not reached.
    """
    spread = scale * sigma * math.sqrt(hours)
    ahead = np.where(distance > 0, distance, 0.0) + shift * sigma * math.sqrt(1.0 / HOUR_BARS)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        p = 2.0 * student_t4_cdf(-(ahead / spread))
    p = np.where(sigma > 0, p, np.where(distance <= 0, 1.0, np.nan))
    return np.where(np.isnan(distance) | np.isnan(sigma), np.nan, p)


def probability_ahead(
    distance: Floats,
    volatility: Floats,
    first: Integers,
    hours: int,
    scale: float,
    weekend: float,
    shift: float = 0.0,
) -> Floats:
    """Probability that the price moves by `distance` against a bound within the hours from `as_of` on.

    Every stored probability of a break or of the stop is composed here: `forecast` for the bars ahead, then
    `probability`.

    Args:
        distance: see `probability`, shape (n,); likewise scale.
        volatility: forecast standard deviation of one hourly log return on a weekday, shape (n,).
        first: see `forecast`, shape (n,); likewise weekend.
        hours: horizon.
        scale: see there.
        weekend: see there.
        shift: see `probability`.

    Returns:
        Shape (n,); NaN as of `probability`.
    """
    return probability(distance, forecast(volatility, first, hours * HOUR_BARS, weekend), hours, scale, shift)
