"""An order book walked by hand, by chance, and as real exchanges showed theirs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mm_dagster.books.book import Book, BookError, parse, walk

BIDS = [("100", "1"), ("99", "2"), ("97", "3")]
ASKS = [("101", "1"), ("103", "4")]
BTC_IN_USDT = 49_500.0
"""Of 2021-04-25, the day of the recorded books that are quoted in BTC."""


@pytest.fixture
def book() -> Book:
    return parse(BIDS, ASKS)


def test_mid_spread_reach_and_depth_by_hand(book: Book) -> None:
    assert book.mid == 100.5
    assert book.half_spread_bp == pytest.approx(0.5 / 100.5 * 1e4, rel=1e-12)
    # The asks end at 103, 2.5 from the mid; the bids at 97, 3.5 from it.
    assert book.reach_bp == pytest.approx(2.5 / 100.5 * 1e4, rel=1e-12)
    assert book.depth("bids", 50) == 100.0
    assert book.depth("bids", 150) == 100.0 + 198.0
    assert book.depth("asks", 50) == 101.0
    assert book.depth("asks", 248) == 101.0
    assert book.depth("asks", 250) is None
    assert book.depth("bids", 348) == 298.0
    assert book.depth("bids", 349) is None


@pytest.mark.parametrize(
    ("amount", "got", "worst"),
    [(0.5, 50.0, 100.0), (1.0, 100.0, 100.0), (2.0, 199.0, 99.0), (3.0, 298.0, 99.0), (6.0, 589.0, 97.0)],
)
def test_a_walk_by_hand(book: Book, amount: float, got: float, worst: float) -> None:
    walked = walk(book, amount)
    assert walked.cost_bp == pytest.approx(1e4 * (1 - got / (amount * 100.5)), abs=1e-9)
    assert walked.shown_share == 1.0
    assert walked.worst == worst


def test_where_the_book_ends_there_is_no_cost_but_the_share_that_it_shows(book: Book) -> None:
    walked = walk(book, 8.0)
    assert walked.cost_bp is None
    assert walked.shown_share == 0.75
    assert walked.worst == 97.0


@pytest.mark.parametrize(
    ("bids", "asks", "why"),
    [
        ([], ASKS, "it has no bids"),
        (BIDS, [], "it has no asks"),
        ([("101", "1")], ASKS, "it is crossed: the best bid 101 is not below the best ask 101"),
        ([("102", "1")], ASKS, "it is crossed"),
        ([("99", "1"), ("100", "1")], ASKS, "its bids are not in the order of their prices"),
        (BIDS, [("103", "1"), ("101", "1")], "its asks are not in the order of their prices"),
        ([("100", "1"), ("100", "2")], ASKS, "two of its bids have the same price, 100"),
        ([("0", "1")], ASKS, "one of its bids is no price and amount: 0, 1"),
        ([("-1", "1")], ASKS, "one of its bids is no price and amount"),
        (BIDS, [("101", "0")], "one of its asks is no price and amount: 101, 0"),
        (BIDS, [("101", "nan")], "one of its asks is no price and amount: 101, nan"),
        (BIDS, [("inf", "1")], "one of its asks is no price and amount: inf, 1"),
        (BIDS, [("101",)], r"one of its asks is no price and amount: \('101',\)"),
        (BIDS, [(None, None)], "one of its asks is no price and amount"),
        (BIDS, [(10**400, "1")], "one of its asks is no price and amount"),
        (BIDS, [([1], {})], "one of its asks is no price and amount"),
    ],
)
def test_what_is_no_book_is_refused_with_its_reason(bids: list, asks: list, why: str) -> None:
    with pytest.raises(BookError, match=why):
        parse(bids, asks)


@st.composite
def books(draw: st.DrawFn) -> Book:
    """Levels some ticks apart, of any size."""
    mid, tick = draw(st.floats(1e-6, 1e5)), draw(st.floats(1e-6, 1e-3))
    sides = []
    for sign in (-1, 1):
        steps = draw(st.lists(st.integers(1, 50), min_size=1, max_size=20))
        prices = [mid * (1 + sign * tick * away) for away in np.cumsum(steps)]
        assume(min(prices) > 0)
        sides.append([(price, draw(st.floats(1e-9, 1e9))) for price in prices])
    return parse(*sides)


@given(books(), st.floats(1e-6, 2.0), st.floats(0.0, 1.0))
def test_cost_never_falls_with_size_is_never_negative_and_ends_with_the_book(
    book: Book, share: float, part: float
) -> None:
    shown = math.fsum(book.bids[:, 1].tolist())
    amount = share * shown
    walked, smaller = walk(book, amount), walk(book, max(part, 1e-6) * amount)
    assert 0.0 < walked.shown_share <= 1.0
    assert walked.worst <= smaller.worst
    assert smaller.shown_share >= walked.shown_share
    if walked.cost_bp is None:
        assert amount > shown * (1 - 1e-12)
        assert walked.shown_share == pytest.approx(shown / amount, rel=1e-9)
    else:
        assert amount < shown * (1 + 1e-12)
        assert walked.shown_share == 1.0
        assert smaller.cost_bp is not None
        assert walked.cost_bp >= smaller.cost_bp - 1e-7
        # No seller gets more than the best bid, nor less than the worst one that is needed.
        assert walked.cost_bp >= book.half_spread_bp - 1e-7
        assert walked.cost_bp <= (1 - walked.worst / book.mid) * 1e4 + 1e-7


@given(books(), st.floats(0.1, 1e4), st.floats(0.0, 1.0))
def test_depth_never_falls_with_distance_and_is_null_beyond_the_levels(book: Book, bp: float, part: float) -> None:
    for side in ("bids", "asks"):
        whole, near = book.depth(side, bp), book.depth(side, bp * part)
        if whole is not None:
            assert near is not None
            assert 0.0 <= near <= whole
    if bp < book.reach_bp * (1 - 1e-9):
        assert book.depth("bids", bp) is not None
        assert book.depth("asks", bp) is not None
    elif bp > book.reach_bp * (1 + 1e-9):
        assert None in (book.depth("bids", bp), book.depth("asks", bp))


def test_ten_thousand_on_nine_small_markets_of_kucoin_costs_twenty_to_four_hundred_basis_points(
    shared_data: Path,
) -> None:
    file = shared_data / "books" / "protocol" / "kucoin_spot_2021-04-25.parquet"
    answers = pl.read_parquet(file).filter((pl.col("source") == "rest") & (pl.col("direction") == "answer"))
    costs = {}
    for address, payload in answers.select("address", "payload").iter_rows():
        symbol, sent = address.rpartition("=")[2], json.loads(payload)["data"]
        book = parse(sent["bids"][:100], sent["asks"][:100])
        quote = 10_000.0 if symbol.endswith("USDT") else 10_000.0 / BTC_IN_USDT
        walked = walk(book, quote / book.mid)
        assert walked.cost_bp is not None
        costs[symbol] = walked.cost_bp
    assert len(costs) == 9
    assert min(costs.values()) == pytest.approx(20, abs=0.5)
    assert max(costs.values()) == pytest.approx(424, abs=1.5)
    assert sum(cost > 90 for cost in costs.values()) == 8


@pytest.mark.parametrize("symbol", ["ETH-USDT", "BTC-USDT"])
def test_a_hundred_thousand_on_a_deep_market_costs_a_basis_point(shared_data: Path, symbol: str) -> None:
    rows = pl.read_parquet(shared_data / "l2" / "binance" / symbol / "depth.parquet").filter("is_snapshot")
    bids = rows.filter(pl.col("side") == "bid").sort("price", descending=True).select("price", "qty").rows()
    asks = rows.filter(pl.col("side") == "ask").sort("price").select("price", "qty").rows()
    book = parse(bids, asks)
    walked = walk(book, 100_000.0 / book.mid)
    assert walked.shown_share == 1.0
    assert walked.cost_bp == pytest.approx({"ETH-USDT": 1.09, "BTC-USDT": 0.0008}[symbol], abs=0.01)
    assert book.depth("bids", 100) is None
