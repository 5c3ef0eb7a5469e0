"""How much a quote offers: the least of what the book, the budget and its worth allow; nothing below the minimum.

What room the inventory leaves is known only when it is asked, and bounds it there: `matching`.
"""

from __future__ import annotations

import numpy as np

from mm_dagster.arrays import Floats, Integers
from mm_dagster.config.makers import MakersConfig
from mm_dagster.makers.matching import Terms
from mm_dagster.makers.moments import Moments
from mm_dagster.makers.track import Track

MS = 1_000_000


def lots_of(amount: float, track: Track, price: float) -> int:
    """Whole lots for an amount of quote currency at a price in ticks."""
    return int(amount * track.unit // price)


def terms_of(track: Track, moments: Moments, config: MakersConfig) -> Terms:
    """The terms of a track: amounts of quote currency become lots at its first mid price.

    Returns:
        Of a market where even the largest quote has no whole lot, terms with which nothing is quoted.
    """
    first = moments.mid[moments.known]
    price = float(first[0]) if len(first) else 1.0
    order, least = lots_of(config.order, track, price), lots_of(config.least_order, track, price)
    delay = round((config.out_ms + config.back_ms) * MS)
    most = lots_of(config.inventory, track, price) if order else 0
    return Terms(delay, round(config.settle_ms * MS), max(1, order), max(1, least), most)


def sizes(moments: Moments, terms: Terms, touch_share: float, wanted: Floats | None = None) -> Integers:
    """Lots of each quote, shape (n, 2, k).

    Args:
        moments: at which they are made.
        terms: of the quotes; a unit is the budget of one.
        touch_share: the most of what is shown at the best price.
        wanted: units that a quote is worth by itself, shape (n, 2, k); None: any.
    """
    touch = np.stack([moments.bid_lots, moments.ask_lots], axis=1)[:, :, None] * touch_share
    size = np.broadcast_to(np.minimum(touch, terms.unit_lots), moments.queue.shape)
    if wanted is not None:
        size = np.minimum(size, np.clip(np.nan_to_num(wanted), 0.0, 1.0) * terms.unit_lots)
    lots = np.floor(size).astype(np.int64)
    return np.where(lots >= terms.least_lots, lots, 0)
