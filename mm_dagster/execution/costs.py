"""What it costs to sell what a grid holds, over which time: a model from candles, and the book of now beside it.

Of each horizon, in basis points of the mid price:

    expected = half spread + what the levels cost a slice + impact + taker fee
    impact   = 1/3 x .8 sigma_mix sqrt(Q / V_h), for a horizon above 0
    score    = expected + sigma_mix sqrt(h / 3)

A horizon is sold in equal slices, one a minute (TWAP); the least score is proposed. sigma_mix is the standard deviation
of an hourly return: a quarter of its variance is the forecast's, the rest that of the last hour. V_h is the volume of
the horizon. So whoever sells no more than a minute trades sells at once, however far the two are apart.

The mean price of a TWAP has the standard deviation sigma_mix sqrt(h / 3), h in hours; the intervals are that times a
factor that was fitted, since after a break the price moves more than it did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Flags, Floats
from mm_dagster.books.book import BP, Book, walk
from mm_dagster.grid.slippage import Traded, beyond_model, walked

HORIZONS = (0, 5, 15, 60)
"""Minutes over which is sold; 0 is at once."""
IMPACT = 0.8 / 3.0
AVERSION = 1.0
"""What a standard deviation of the price is worth beside a certain cost. With .3 the dearest 5 % of the plans after
breaks cost more than selling at once; from .75 to 1.5 it hardly matters: docs/evidence/exit-cost.md."""
RECENT = 0.75
"""Weight of the variance of the last hour in sigma_mix; the rest is the forecast's."""
SPREAD_80, SPREAD_90 = {5: 1.32, 15: 1.32, 60: 1.40}, {5: 1.76, 15: 1.76, 60: 1.75}
"""Half of the interval in standard deviations, by horizon; fitted, see docs/evidence/exit-cost.md."""


@dataclass(frozen=True)
class Costs:
    """By moment and horizon, shape (n, horizons); basis points of the mid price, NaN where unknown.

    Attributes:
        half_spread: of the market.
        walk: what the levels cost a slice beyond it.
        impact: of the slices on each other.
        fee: taker fee.
        expected: all of it.
        deviation: standard deviation of the mean price.
        score: expected cost and what the risk is worth.
        chosen: whether the horizon has the least score; false everywhere where it is unknown.
        beyond: whether more is sold than the model was fitted to: the horizons are ranked, and no figure is promised.
    """

    half_spread: Floats
    walk: Floats
    impact: Floats
    fee: Floats
    expected: Floats
    deviation: Floats
    score: Floats
    chosen: Flags
    beyond: Flags

    def interval(self, spread: dict[int, float]) -> tuple[Floats, Floats]:
        """Both ends of the cost: SPREAD_80 or SPREAD_90 around what is expected."""
        half = self.deviation * np.array([spread.get(horizon, 0.0) for horizon in HORIZONS])
        return self.expected - half, self.expected + half


def model(notional: Floats, half_spread: float, forecast: Floats, market: Traded, fee: float) -> Costs:
    """The costs from candles alone.

    Args:
        notional: Q, quote currency, above 0, shape (n,).
        half_spread: fraction.
        forecast: standard deviation of an hourly log return over the next hour, shape (n,).
        market: at the same moments.
        fee: taker fee, fraction.
    """
    horizons = np.array(HORIZONS, dtype=np.float64)
    slices = np.maximum(horizons, 1.0)
    shape = (notional.size, horizons.size)
    levels = np.stack([walked(notional / parts, market) for parts in slices.tolist()], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = notional[:, None] / (market.volume[:, None] * slices)
        hourly = market.sigma * math.sqrt(60.0)
        mixed = np.sqrt((1.0 - RECENT) * (forecast * forecast) + RECENT * (hourly * hourly))
        impact = np.where(horizons > 0, IMPACT * mixed[:, None] * np.sqrt(share), 0.0)
    deviation = mixed[:, None] * np.sqrt(horizons / 60.0 / 3.0)
    expected = half_spread + levels + impact + fee
    score = expected + AVERSION * deviation
    known = np.isfinite(score).all(axis=1)
    best = np.where(known, np.argmin(np.where(np.isfinite(score), score, np.inf), axis=1), -1)
    return Costs(
        half_spread=np.full(shape, half_spread / BP),
        walk=levels / BP,
        impact=impact / BP,
        fee=np.full(shape, fee / BP),
        expected=np.where(np.isfinite(expected), expected, np.nan) / BP,
        deviation=deviation / BP,
        score=np.where(np.isfinite(score), score, np.nan) / BP,
        chosen=best[:, None] == np.arange(horizons.size),
        beyond=np.repeat(beyond_model(notional, market)[:, None], horizons.size, axis=1),
    )


@dataclass(frozen=True)
class Shown:
    """One horizon, at the book of now.

    Attributes:
        half_spread: basis points.
        walk: what the levels cost a slice beyond it, basis points; None where the levels end before.
        shown_share: how much of all that is sold the levels take.
    """

    half_spread: float
    walk: float | None
    shown_share: float


def at_book(book: Book, amount: float) -> list[Shown]:
    """What each of HORIZONS costs at the book, shape (horizons,).

    Args:
        book: of now.
        amount: base currency that is to be sold, above 0.
    """
    whole = walk(book, amount)
    found = []
    for horizon in HORIZONS:
        part = walk(book, amount / max(1, horizon))
        # The walk of a book begins at the best bid, half a spread below the mid.
        levels = None if part.cost_bp is None else max(0.0, part.cost_bp - book.half_spread_bp)
        found.append(Shown(book.half_spread_bp, levels, whole.shown_share))
    return found
