"""Every order of a real exchange against what our rules would have thought of its place: nothing but counting."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from mm_dagster.arrays import Integers
from mm_dagster.makers.matching import AHEAD, LOTS, PRICE, SHOWN, arrive, see, trade


@dataclass
class Real:
    """A real order, and ours in its place.

    Attributes:
        side: 0 of bids.
        left: lots that are left of the real one.
        filled: lots that the real one was filled.
        ours: ours, as the kernel has it.
        thought: lots that ours was filled.
        first: lots that were before it when it came.
    """

    side: int
    left: int
    ours: Integers
    first: int
    filled: int = 0
    thought: int = 0


@dataclass
class Book:
    """The orders that rest, oldest first at each price."""

    levels: tuple[dict[int, dict[int, Real]], dict[int, dict[int, Real]]] = field(
        default_factory=lambda: (defaultdict(dict), defaultdict(dict))
    )
    where: dict[int, tuple[int, int]] = field(default_factory=dict)

    def best(self, side: int) -> int | None:
        prices = [price for price, orders in self.levels[side].items() if orders]
        return (max(prices) if side == 0 else min(prices)) if prices else None


def compare(path: Path) -> Counter[str]:
    """How many orders were followed, at how many moments, and at how many of these ours was ahead of the truth."""
    rows = pl.read_parquet(path).sort("seq")
    book, found = Book(), Counter[str]()
    for number, at, price_number, lots, action, direction in rows.select(
        "id", "recv_ms", "price", "lots", "action", "direction"
    ).iter_rows():
        price, side = round(price_number * 100), 0 if direction == "bid" else 1
        if action == "created":
            other = book.best(1 - side)
            if other is not None and (price >= other if side == 0 else price <= other):
                found["took"] += 1
                continue
            queue = sum(one.left for one in book.levels[side][price].values())
            ours = np.zeros(8, np.int64)
            arrive(ours, price, lots, queue, at, 0, number)
            book.levels[side][price][number] = Real(side, lots, ours, queue)
            book.where[number] = (side, price)
            found["orders"] += 1
            found["behind others"] += queue > 0
        elif number in book.where:
            side, price = book.where[number]
            _change(book, found, side, price, number, at, action, lots)
    return found


def _change(
    book: Book, found: Counter[str], side: int, price: int, number: int, at: int, action: str, lots: int
) -> None:
    level = book.levels[side][price]
    real = level[number]
    # A deleted order with lots was cancelled; without, it was filled.
    traded = real.left - lots if action == "changed" else (real.left if lots == 0 else 0)
    real.left, real.filled = (lots if action == "changed" else 0), real.filled + max(traded, 0)
    if traded > 0:
        found["trades"] += 1
        for prices in book.levels[side].values():
            for other in prices.values():
                if other.ours[LOTS] > 0 and (1 - 2 * side) * price <= (1 - 2 * side) * int(other.ours[PRICE]):
                    other.thought += trade(other.ours, 1 - 2 * side, price, traded, at)[0]
                    found["ahead: filled first"] += other.thought > other.filled
    if action == "deleted":
        del level[number]
        del book.where[number]
        found["filled, both"] += real.filled > 0 and real.thought > 0
        found["filled"] += real.filled > 0
    total = sum(one.left for one in level.values())
    before = 0
    for other in level.values():
        see(other.ours, total - other.left, at, 0)
        thought = min(int(other.ours[AHEAD]), int(other.ours[SHOWN]))
        found["moments"] += 1
        found["ahead: queue"] += other.ours[LOTS] > 0 and thought < before
        found["exact"] += thought == before
        before += other.left
