"""Matching as an exchange does it: buyers' orders rest, a sale meets the dearest first, and who has bought is gone.

Written on its own, apart from what is sold on paper: what both say of the same book must be equal to the lot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from mm_dagster.books.book import Book, parse


@dataclass
class Resting:
    """The order of one buyer."""

    price: Decimal
    amount: Decimal


@dataclass
class Matching:
    """The buyers and sellers of one market.

    Attributes:
        lot: nobody buys less.
        buyers: their orders.
        asks: prices and amounts of those who sell: only the mid price is made of them.
    """

    lot: Decimal
    buyers: list[Resting] = field(default_factory=list)
    asks: list[tuple[Decimal, Decimal]] = field(default_factory=list)

    def stands(self, bids: Iterable[tuple[Decimal, Decimal]], asks: Iterable[tuple[Decimal, Decimal]]) -> None:
        """The market as it was recorded at another moment, prices and amounts: whoever has bought from us is back."""
        self.buyers = [Resting(price, amount) for price, amount in bids]
        self.asks = list(asks)

    def sell(self, amount: Decimal, limit: Decimal) -> list[tuple[Decimal, Decimal]]:
        """An immediate-or-cancel sale: what it fetched, price and amount."""
        trades = []
        while amount >= self.lot:
            willing = [one for one in self.buyers if one.amount >= self.lot and one.price >= limit]
            if not willing:
                break
            best = max(willing, key=lambda one: one.price)
            traded = min(amount, best.amount - best.amount % self.lot)
            best.amount -= traded
            amount -= traded
            trades.append((best.price, traded))
        return trades

    def book(self) -> Book:
        """What it shows."""
        bids = sorted(((one.price, one.amount) for one in self.buyers if one.amount > 0), reverse=True)
        return parse(bids, sorted(self.asks))
