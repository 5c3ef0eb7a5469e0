"""Books in integers: what becomes a tick, what the best levels are, and when two books are one."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.books.ladder import Ladder, MessageError, Scale, whole

LEVELS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), max_size=80)


@given(st.decimals(0, 10**6, places=8), st.integers(0, 5))
def test_no_digit_is_rounded(number: Decimal, more: int) -> None:
    assert whole(f"{number:f}" + "0" * more, 8, "price") == int(number.scaleb(8))


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("0", 0),
        ("0.00000000", 0),
        ("1", 100),
        ("1.5", 150),
        ("1.500000", 150),
        ("007.10", 710),
        ("1e-2", 1),
        ("2.5E1", 2500),
    ],
)
def test_what_a_number_counts(text: str, counted: int) -> None:
    assert whole(text, 2, "price") == counted


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1\n",
        "-1",
        "+1",
        "1.",
        ".5",
        "1,5",
        "nan",
        "Infinity",
        "1.005",
        "1e-3",
        "1e999",
        "1e-999",
        "1_0",
        "١",
        "0x10",
        "9" * 70,
        "92233720368547758.08",
        1,
        1.5,
        None,
        True,
        ["1"],
    ],
)
def test_what_is_no_number_is_refused(text: object) -> None:
    with pytest.raises(MessageError):
        whole(text, 2, "price")


def test_the_greatest_count_fits_64_bits() -> None:
    assert Scale(2, 0).ticks("92233720368547758.07") == 2**63 - 1
    assert Scale(2, 0).lots("9223372036854775807") == 2**63 - 1


@given(LEVELS, LEVELS, st.integers(0, 70))
def test_a_book_is_what_a_plain_dictionary_says(bids: list, asks: list, count: int) -> None:
    book, plain = Ladder(), ({}, {})
    book.change(bids, asks)
    for side, levels in zip(plain, (bids, asks), strict=True):
        for price, lots in levels:
            side[price] = lots
            if not lots:
                del side[price]
    by_price = [sorted(plain[0].items(), reverse=True), sorted(plain[1].items())]
    assert book.bids.top() == tuple(by_price[0])
    assert book.asks.top(count) == tuple(by_price[1][:count])
    assert book.bids.best == (by_price[0][0] if by_price[0] else None)
    assert book.is_crossed == bool(plain[0] and plain[1] and max(plain[0]) >= min(plain[1]))
    assert Ladder(plain[0].items(), plain[1].items()).digest() == book.digest()
    book.bids.keep(count)
    assert book.bids.top() == tuple(by_price[0][:count])


def test_the_digest_is_of_levels_and_sides_and_not_of_the_way_there() -> None:
    levels = [(price, price * 7) for price in range(1, 50)]
    book = Ladder(levels, [(price + 100, lots) for price, lots in levels])
    shuffled = Ladder()
    ways = random.Random(1).sample(levels, len(levels))
    shuffled.change([*ways, (50, 1), (50, 0)], [(price + 100, lots) for price, lots in ways])
    # Held for good: logs of years ago are replayed against it.
    assert Ladder().digest() == "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb"
    assert shuffled.digest() == book.digest()
    others = [Ladder(levels, ()), Ladder((), levels), Ladder(levels[1:], ()), Ladder([*levels[1:], (1, 8)], ())]
    assert len({other.digest() for other in (*others, book)}) == 5


def test_a_copy_is_changed_on_its_own() -> None:
    book = Ladder([(1, 1)], [(2, 1)])
    other = book.copy()
    other.change([(1, 0)], [])
    assert (book.bids.best, other.bids.best) == ((1, 1), None)
