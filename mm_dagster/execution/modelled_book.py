"""An order book where there is none: the levels that selling would walk through by the model of costs.py.

Selling Q at once from it costs the half spread and .64 sigma (Q / V)^.83, as the model says, at every Q; each minute it
is there anew, since V is what is traded in a minute. What it can tell is what the model says of a whole plan: its
slices, its limit, what the limit leaves unsold, lots and minimums. What it cannot: whether anybody would have bought.
Recorded candles know nothing of the book, least of all in a crash, when it is empty; what is bought of it is no proof
that a real one would have filled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, bar_number, floor_bar, iso
from mm_dagster.books.book import Book
from mm_dagster.execution.paper import Update
from mm_dagster.grid.slippage import MOST, Traded, walked
from mm_dagster.market.venue import VenueError

_LEVELS = 200
_NEAREST = 1e-4
"""Minutes of volume of the first level."""
_LOWEST = 0.05
"""Levels end at this share of the mid price: no model knows what is below."""
_AT_ONCE = timedelta(minutes=1)
"""Until then after its bar a plan of the past sells at the close; later at the mean price of the bar in progress."""


def modelled(mid: float, half_spread: float, impact: float, sigma: float, volume: float, lot: Decimal) -> Book:
    """The book of a minute.

    Args:
        mid: price, quote currency.
        half_spread: fraction.
        impact: what the slices of a plan do to each other, fraction; all levels lie so much lower.
        sigma: standard deviation of a minute's log return.
        volume: traded in a minute, quote currency.
        lot: levels have whole ones, base currency.

    Raises:
        VenueError: volume, volatility or price are not known, or nobody traded.
    """
    if not (np.isfinite([mid, impact, sigma, volume]).all() and mid > 0):
        raise VenueError("no order book can be modelled: price, volume or volatility of the last hour is not known")
    if volume <= 0:
        raise VenueError("no order book can be modelled: nobody traded in the last hour")
    ends = volume * np.geomspace(_NEAREST, MOST, _LEVELS)
    lots = np.unique((ends / mid / float(lot)).astype(np.int64))
    lots = lots[lots > 0]
    if not lots.size:
        raise VenueError("no order book can be modelled: less than a lot is traded in an hour")
    sold: Floats = np.asarray(lots * float(lot) * mid, dtype=np.float64)
    lost = sold * walked(sold, Traded(np.full(sold.size, sigma), np.full(sold.size, volume)))
    # Of each level the mean loss of what is sold into it, so that a sale down to its end costs what the model says.
    share = np.diff(lost, prepend=0.0) / np.diff(sold, prepend=0.0)
    prices = mid * (1.0 - half_spread - impact - np.maximum.accumulate(share))
    amounts = [float(lot * int(many)) for many in np.diff(lots, prepend=0)]
    bids: list[tuple[float, float]] = []
    for price, amount in zip(prices.tolist(), amounts, strict=True):
        if price <= _LOWEST * mid:
            break
        if bids and price >= bids[-1][0]:
            # A market that does not move: one level.
            bids[-1] = bids[-1][0], bids[-1][1] + amount
        else:
            bids.append((price, amount))
    if not bids:
        raise VenueError("no order book can be modelled: the price moves more in a minute than it is worth")
    ask = 2.0 * mid - bids[0][0]
    return Book(np.array(bids, dtype=np.float64), np.array([(ask, bids[0][1])], dtype=np.float64))


@dataclass(frozen=True)
class Candles:
    """Successive bars of a market.

    Attributes:
        symbol: the market.
        first: when the first bar opens.
        close: quote currency, NaN where MISSING, shape (bars,).
        mean: what an equal sale over each bar would have fetched, likewise.
        traded: at every bar.
        half_spread: of the market, fraction.
    """

    symbol: str
    first: datetime
    close: Floats
    mean: Floats
    traded: Traded
    half_spread: float

    def book(self, closes_at: datetime, price: float, impact: float, lot: Decimal) -> Book:
        """At a price, by the volume and volatility that were known when a bar had closed; see `modelled`."""
        place = self.place(closes_at)
        sigma, volume = float(self.traded.sigma[place]), float(self.traded.volume[place])
        try:
            return modelled(price, self.half_spread, impact, sigma, volume, lot)
        except VenueError as error:
            raise VenueError(f"{self.symbol}: {iso(closes_at)}: {error}") from None

    def place(self, closes_at: datetime) -> int:
        """Of the bar that closes at a time.

        Raises:
            VenueError: it is beyond the candles.
        """
        place = bar_number(closes_at) - 1 - bar_number(self.first)
        if not 0 <= place < self.close.size:
            raise VenueError(f"{self.symbol}: no order book can be modelled: {iso(closes_at)} is beyond the candles")
        return place


@dataclass(frozen=True)
class Past:
    """The books that a plan of the past meets.

    Attributes:
        candles: from its bar on.
        as_of: the close of its bar.
        impact: what its slices do to each other, as it was forecast, fraction: no candle shows it.
        lot: base currency.
    """

    candles: Candles
    as_of: datetime
    impact: float
    lot: Decimal
    _known: dict[int, Update] = field(default_factory=dict)

    def update(self, now: datetime) -> Update:
        """The book of a minute.

        Raises:
            VenueError: none can be modelled.
        """
        minute = (now - self.as_of) // timedelta(minutes=1)
        if minute not in self._known:
            candles, closed = self.candles, floor_bar(now)
            if now - self.as_of < _AT_ONCE:
                price, closed = float(candles.close[candles.place(self.as_of)]), self.as_of
            else:
                price = float(candles.mean[candles.place(closed + BAR)])
            name = f"past {candles.symbol} {iso(self.as_of)} {minute}"
            self._known[minute] = Update(name, candles.book(closed, price, self.impact, self.lot))
        return self._known[minute]
