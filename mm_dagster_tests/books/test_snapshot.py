"""What is kept of a book, and which one is not believed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mm_dagster.books.book import Book, parse
from mm_dagster.books.snapshot import doubt, figures, is_far

SECOND = timedelta(seconds=1)


def around(mid: float, levels: int = 100, bp: float = 1.0) -> Book:
    """A level every so many basis points, each of 2 base."""
    away = [1 + bp * 1e-4 * (number + 1) for number in range(levels)]
    return parse([(mid * (2 - one), 2.0) for one in away], [(mid * one, 2.0) for one in away])


@pytest.mark.parametrize(
    ("age", "why"),
    [
        (None, None),
        (0 * SECOND, None),
        (60 * SECOND, None),
        (61 * SECOND, "it is stale: 1 min old when it was asked for"),
        (3600 * SECOND, "it is stale: 1 h old when it was asked for"),
        (-60 * SECOND, None),
        (-90 * SECOND, "its time is 1 min ahead of the exchange's clock"),
    ],
)
def test_a_book_is_of_now(age: timedelta | None, why: str | None) -> None:
    assert doubt(around(3_000), age) == why


def test_a_book_that_nobody_trades_by_is_absurd() -> None:
    assert doubt(parse([(91, 1)], [(109, 1)]), None) is None
    said = doubt(parse([(80, 1)], [(120, 1)]), None)
    assert said == "it is absurd: its best prices, 80 and 120, are 4,000 bp apart"


def test_a_book_is_far_from_a_price_that_it_cannot_be_about() -> None:
    book = around(3_000)
    for price, far in ((3_000, False), (2_501, False), (3_749, False), (2_400, True), (3_800, True), (1e-9, True)):
        assert is_far(book, price) == far
    assert is_far(book, None)


def test_what_is_kept_is_a_hundred_levels_and_their_figures() -> None:
    row = figures(around(100.0, levels=120))
    assert row["mid"] == pytest.approx(100.0, rel=1e-12)
    assert row["half_spread_bp"] == pytest.approx(1.0, rel=1e-9)
    assert (row["bid_levels"], row["ask_levels"], len(row["bids"]), len(row["asks"])) == (100, 100, 100, 100)
    assert row["depth_reach_bp"] == pytest.approx(100.0, rel=1e-9)
    assert row["bids"][0] == {"price": pytest.approx(99.99), "amount": 2.0}
    assert row["bid_depth_25bp"] == pytest.approx(sum(2 * (100 - 0.01 * n) for n in range(1, 26)), rel=1e-2)


def test_depth_beyond_the_levels_is_null_and_never_nothing() -> None:
    row = figures(around(100.0, levels=20))
    assert row["bid_depth_10bp"] > 0
    assert row["ask_depth_10bp"] > 0
    assert [row[f"{side}_depth_{bp}bp"] for side in ("bid", "ask") for bp in (25, 50)] == [None] * 4
