"""An order book at one moment: its mid, its depth, and what selling into it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Floats
from mm_dagster.text import number_text

Level = tuple[float, float]
"""Price in quote currency, amount in base currency."""
BP = 1e-4
"""One basis point, as a fraction."""


class BookError(ValueError):
    """What was sent is no order book; one line that says why."""


@dataclass(frozen=True)
class Book:
    """Bids and asks as (price, amount), the best first; shape (n, 2) each, at least one of each.

    Attributes:
        bids: who buys; prices descend.
        asks: who sells; prices ascend.
    """

    bids: Floats
    asks: Floats

    @property
    def mid(self) -> float:
        """Middle between the best prices, quote currency."""
        return float((self.bids[0, 0] + self.asks[0, 0]) / 2.0)

    @property
    def half_spread_bp(self) -> float:
        """Half of the way between the best prices, basis points of the mid."""
        return float((self.asks[0, 0] - self.bids[0, 0]) / 2.0) / self.mid / BP

    @property
    def reach_bp(self) -> float:
        """How far from the mid the nearer end of the levels lies, basis points: farther out nothing is known."""
        return min(self.mid - float(self.bids[-1, 0]), float(self.asks[-1, 0]) - self.mid) / self.mid / BP

    def depth(self, side: str, within_bp: float) -> float | None:
        """What waits within so many basis points of the mid, quote currency.

        Args:
            side: bids or asks.
            within_bp: how far from the mid.

        Returns:
            None where the levels of this side end before.
        """
        levels = self.bids if side == "bids" else self.asks
        away = np.abs(levels[:, 0] - self.mid) / self.mid
        if away[-1] < within_bp * BP:
            return None
        inside = levels[away <= within_bp * BP]
        return math.fsum((inside[:, 0] * inside[:, 1]).tolist())


@dataclass(frozen=True)
class Walked:
    """Selling an amount into the bids at once.

    Attributes:
        cost_bp: what is lost against the mid, basis points, before fees; None where the levels end before.
        shown_share: how much of the amount the levels take, 0 to 1.
        worst: price of the last level that is needed, quote currency.
    """

    cost_bp: float | None
    shown_share: float
    worst: float


def parse(bids: Iterable[Sequence[object]], asks: Iterable[Sequence[object]]) -> Book:
    """A book from what an exchange sent.

    Raises:
        BookError: it is empty, crossed, out of order, or a level is no price and amount.
    """
    book = Book(_side("bids", bids), _side("asks", asks))
    for name, levels, sign in (("bids", book.bids, -1.0), ("asks", book.asks, 1.0)):
        steps = sign * np.diff(levels[:, 0])
        if (steps < 0).any():
            raise BookError(f"its {name} are not in the order of their prices")
        if (steps == 0).any():
            twice = number_text(float(levels[:-1][steps == 0][0, 0]))
            raise BookError(f"two of its {name} have the same price, {twice}")
    if book.bids[0, 0] >= book.asks[0, 0]:
        bid, ask = number_text(float(book.bids[0, 0]), 12), number_text(float(book.asks[0, 0]), 12)
        raise BookError(f"it is crossed: the best bid {bid} is not below the best ask {ask}")
    return book


def _side(name: str, levels: Iterable[Sequence[object]]) -> Floats:
    found = []
    for level in levels:
        try:
            price, amount = (float(value) for value in level[:2])  # type: ignore[arg-type]
        except (TypeError, ValueError, IndexError, OverflowError):
            raise BookError(f"one of its {name} is no price and amount: {level!r:.60}") from None
        if not (0 < price < math.inf and 0 < amount < math.inf):
            raise BookError(f"one of its {name} is no price and amount: {number_text(price)}, {number_text(amount)}")
        found.append((price, amount))
    if not found:
        raise BookError(f"it has no {name}")
    return np.array(found, dtype=np.float64)


def walk(book: Book, amount: float) -> Walked:
    """Sells an amount of base currency into the bids, the best first.

    cost = 1e4 (1 - sum q_i p_i / (Q mid)).

    Args:
        book: the book.
        amount: Q, base currency, above 0.
    """
    prices, amounts = book.bids[:, 0], book.bids[:, 1]
    before = np.concatenate([[0.0], np.cumsum(amounts)[:-1]])
    taken = np.clip(amount - before, 0.0, amounts)
    sold = math.fsum(taken.tolist())
    last = int(np.flatnonzero(taken > 0)[-1])
    shown = min(1.0, sold / amount)
    if float(np.cumsum(amounts)[-1]) < amount:
        return Walked(None, shown, float(prices[last]))
    got = math.fsum((taken * prices).tolist())
    return Walked((1.0 - got / (amount * book.mid)) / BP, 1.0, float(prices[last]))
