"""How the capital is spread now, and how it might be: information, since no rule of weights was found to earn more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Floats, Integers
from mm_dagster.bars import DAY_BARS
from mm_dagster.portfolio import weights
from mm_dagster.portfolio.paths import STEP_BARS, Past

DAYS = 60
"""How far back returns are looked at."""
LEAD_BARS = DAYS * DAY_BARS + STEP_BARS
"""How many bars before a moment they need."""
MOST = 2.0
"""No market gets more than so many times its equal share."""


class Weights(NamedTuple):
    """Shares of the capital by grid, in their order, and what they follow from.

    Attributes:
        now: as it is, shape (grids,).
        equal_risk: the same in each grid, as much as has the volatility that there is now; the rest is idle. NaN where
            the returns are not known.
        minimum_variance: the calmest, of the markets, and within one by capital; likewise.
        highest: highest correlation of two markets; None: there is one, or it is not known.
        between: these two.
    """

    now: Floats
    equal_risk: Floats
    minimum_variance: Floats
    highest: float | None
    between: str | None


def returns_of(known: Past, now: int, markets: Integers) -> Floats:
    """6-hour log returns of DAYS days, at bars whose absolute number divides by STEP_BARS, shape (moments, markets).

    Args:
        known: the past of all markets.
        now: column of the newest bar.
        markets: places of those that are wanted.
    """
    last = now - (known.first + now) % STEP_BARS
    columns = last - STEP_BARS * np.arange(DAYS * DAY_BARS // STEP_BARS + 1)[::-1]
    return np.diff(known.close[markets][:, columns]).T


class Measured(NamedTuple):
    """What the returns of some markets say; the same for six hours.

    Attributes:
        last: column of the bar up to which they are looked at.
        markets: places of the markets.
        covariance: of their returns, shrunk; None: they are not known, or none of the markets moved.
        pair: the two that are most alike; None: there are none, or it is not known.
    """

    last: int
    markets: Integers
    covariance: Floats | None
    pair: weights.Pair | None


def measured(known: Past, now: int, markets: Integers, before: Measured | None = None) -> Measured:
    """The covariance of the markets.

    Args:
        known: the past of all markets.
        now: column of the newest bar.
        markets: places of those that are wanted.
        before: what was found at another moment, of the same past.
    """
    last = now - (known.first + now) % STEP_BARS
    if before is not None and before.last == last and np.array_equal(before.markets, markets):
        return before
    returns = returns_of(known, now, markets)
    if not np.isfinite(returns).all():
        return Measured(last, markets, None, None)
    shrunk = weights.shrunk_covariance(returns).covariance
    if not (np.diagonal(shrunk) > 0).all():
        # None of them moved: there is nothing to choose by.
        return Measured(last, markets, None, None)
    return Measured(last, markets, shrunk, _most_alike(returns))


def weights_of(
    known: Past, now: int, capital: Sequence[float], places: Sequence[int], before: Measured | None = None
) -> tuple[Weights, Measured]:
    """Spreads the capital of some grids, by `returns_of`, scaled to the volatility that is forecast now.

    Args:
        known: the past of all markets.
        now: column of the newest bar.
        capital: of each grid, above 0.
        places: the market of each grid.
        before: what was measured at the moment before; None: there is none.

    Returns:
        The weights, and what was measured for them.
    """
    own = np.array(capital) / sum(capital)
    markets, lanes = np.unique(np.array(places), return_inverse=True)
    found = measured(known, now, markets, before)
    if found.covariance is None:
        unknown = np.full(own.size, np.nan)
        return Weights(own, unknown, unknown, None, None), found
    covariance = weights.scaled(found.covariance, known.sigma[markets, now])
    by_market = np.bincount(lanes, weights=own, minlength=markets.size)
    calmest = weights.minimum_variance(covariance, min(1.0, MOST / markets.size))
    by_grid = covariance[np.ix_(lanes, lanes)]
    pair = found.pair
    spread = Weights(
        now=own,
        equal_risk=np.full(own.size, weights.equal_at_risk(by_grid, own) / own.size),
        minimum_variance=calmest[lanes] * own / by_market[lanes],
        highest=None if pair is None else pair.correlation,
        between=None if pair is None else "/".join(known.symbols[markets[one]] for one in (pair.first, pair.second)),
    )
    return spread, found


def _most_alike(returns: Floats) -> weights.Pair | None:
    """The two markets whose returns are correlated most; one that never moved is like none."""
    moving = np.flatnonzero(np.ptp(returns, axis=0) > 0)
    if moving.size < 2:
        return None
    shrunk = weights.shrunk_covariance(returns[:, moving])
    if not shrunk.shrinkage < 1.0:
        return None
    pair = weights.highest_pair(weights.sample_correlation(shrunk))
    return pair and pair._replace(first=int(moving[pair.first]), second=int(moving[pair.second]))
