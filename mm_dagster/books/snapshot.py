"""What is kept of an order book, and why one is not believed. Data in, data out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mm_dagster.books.book import Book
from mm_dagster.text import number_text, spoken

LEVELS = 100
"""Of a side that are kept."""
DEPTHS_BP = (5, 10, 25, 50)
"""How far from the mid depth is told, basis points."""
OLDEST = timedelta(seconds=60)
"""Of a book when it was asked for: what an exchange shows from before is its memory."""
MOST_AHEAD = timedelta(seconds=60)
"""How far a book may be ahead of the exchange's own clock."""
FARTHEST = 0.20
"""Of the mid from the newest close, fraction: farther away it is another market's book, or a crash."""
WIDEST_BP = 1_000.0
"""Half spread beyond which nobody trades by a book, basis points."""


def doubt(book: Book, age: timedelta | None) -> str | None:
    """Why a book is not believed by what it says itself, to go on from "no order book:"; None: it is.

    Args:
        book: the book.
        age: how old it was when it was asked for, on the exchange's clock; None: not known.
    """
    if age is not None and age > OLDEST:
        return f"it is stale: {spoken(age)} old when it was asked for"
    if age is not None and -age > MOST_AHEAD:
        return f"its time is {spoken(-age)} ahead of the exchange's clock"
    if book.half_spread_bp > WIDEST_BP:
        return (
            f"it is absurd: its best prices, {number_text(float(book.bids[0, 0]))} and "
            f"{number_text(float(book.asks[0, 0]))}, are {number_text(round(2 * book.half_spread_bp))} bp apart"
        )
    return None


def is_far(book: Book, price: float | None) -> bool:
    """Whether the mid of a book is so far from a price of its market that it may be another's, or there is no price."""
    return price is None or not abs(book.mid / price - 1.0) <= FARTHEST


def figures(book: Book) -> dict[str, Any]:
    """The columns of `book_snapshot` that a book gives, without what the venue says beside it."""
    kept = Book(book.bids[:LEVELS], book.asks[:LEVELS])
    return {
        "mid": kept.mid,
        "half_spread_bp": kept.half_spread_bp,
        **{f"bid_depth_{bp}bp": kept.depth("bids", bp) for bp in DEPTHS_BP},
        **{f"ask_depth_{bp}bp": kept.depth("asks", bp) for bp in DEPTHS_BP},
        "depth_reach_bp": kept.reach_bp,
        "bid_levels": len(kept.bids),
        "ask_levels": len(kept.asks),
        "bids": [{"price": price, "amount": amount} for price, amount in kept.bids.tolist()],
        "asks": [{"price": price, "amount": amount} for price, amount in kept.asks.tolist()],
    }
