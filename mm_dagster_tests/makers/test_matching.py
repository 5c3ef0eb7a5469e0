"""What fills: by hand, against the plain twin, and compiled against not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mm_dagster.arrays import Integers
from mm_dagster.books.follow import BookMarket
from mm_dagster.books.ladder import Scale
from mm_dagster.books.tape import Op, Tape
from mm_dagster.makers import matching, moments, probe
from mm_dagster.makers.matching import MICRO, OPPOSITE, QUEUE, THROUGH, Plan, Run, Terms, match
from mm_dagster.makers.matching_plain import match_plainly
from mm_dagster.makers.track import Track, TrackError, cut, track_of
from mm_dagster.pipeline.book_samples import tape_of_sample
from mm_dagster_tests.makers.real_queue import compare
from mm_dagster_tests.makers.synthetic import SECOND_NS, START_NS, market

SHARED = Path(os.environ.get("MM_SHARED_DATA", "-"))
MARKETS = ("binance/BTC-USDT", "binance/ETH-USDT", "binance-perp/BTC-USDT", "binance-perp/ETH-USDT")
needs_books = pytest.mark.skipif(not (SHARED / "l2").is_dir(), reason="MM_SHARED_DATA has no l2 books")
TERMS = Terms(delay_ns=0, settle_ns=0, unit_lots=10, least_lots=1, most_lots=100)


def tape(rows: list[tuple[int, int, int, int]], trades: list[tuple[int, int, int, int]]) -> Tape:
    """A tape of rows and trades."""
    at = max([row[0] for row in rows] + [trade[0] for trade in trades])
    none = np.zeros((0, 6), np.int64)
    return Tape(
        BookMarket("kucoin", "T-T", Scale(0, 0), 5), 0, at, np.array(rows, dtype=np.int64),
        np.array([0]), np.array(trades, dtype=np.int64).reshape(-1, 4), none, none[:, :5], np.array([[0, at]]), (), 0,
        0, 0,
    )  # fmt: skip


BOOK = [(0, Op.BEGIN, 0, 0), (0, Op.BID, 99, 5), (0, Op.ASK, 101, 5), (0, Op.STANDS, 0, 1)]
END = (1000, Op.STANDS, 0, 0)


def quote(bid: int | None, ask: int | None, lots: int = 3, count: int = 1) -> Plan:
    plan = Plan.empty(count)
    for side, price in enumerate((bid, ask)):
        if price is not None:
            plan.price[:, side], plan.value[:, side], plan.lots[:, side] = price * MICRO, 1, lots
    return plan


def fills(one: Tape, plan: Plan, terms: Terms = TERMS, at: tuple[int, ...] = (10,)) -> list[tuple[int, ...]]:
    """Time, side, price, lots and reason of each fill; by both codes."""
    decisions = np.array(at, dtype=np.int64)
    found = match(track_of(one), decisions, plan, terms)
    plain, refused, inventory = match_plainly(one, decisions, plan, terms)
    assert [tuple(row) for row in found.fills.tolist()] == plain
    assert (found.refused, found.inventory) == (refused, inventory)
    return [(row[0], row[1], row[2], row[3], row[5]) for row in plain]


def test_an_order_waits_behind_all_that_is_shown():
    one = tape([*BOOK, END], [(20, 99, 5, 1), (30, 99, 2, 1), (40, 99, 9, 1)])
    assert fills(one, quote(99, None)) == [(30, 1, 99, 2, QUEUE), (40, 1, 99, 1, QUEUE)]


def test_what_cancels_ahead_shortens_the_queue_and_a_trade_is_not_counted_twice():
    rows = [*BOOK, (20, Op.BID, 99, 1), (20, Op.STANDS, 0, 1), END]
    assert fills(tape(rows, [(30, 99, 2, 1)]), quote(99, None)) == [(30, 1, 99, 1, QUEUE)]
    # The book has told already of the trade of 4: the queue of 1 is not shortened by it again.
    assert fills(tape(rows, [(5, 98, 1, 1), (30, 99, 1, 1)]), quote(99, None)) == []


def test_a_late_trade_fills_nobody_who_waits_for_the_venue_to_settle():
    rows = [*BOOK, (20, Op.BID, 99, 0), (20, Op.BID, 98, 5), (20, Op.STANDS, 0, 1), END]
    # All five were traded, the book said so first, and then comes the trade: no lot of it was ours.
    late = tape(rows, [(25, 99, 5, 1)])
    assert fills(late, quote(99, None)) == [(25, 1, 99, 3, QUEUE)]
    assert fills(late, quote(99, None), replace(TERMS, settle_ns=100)) == []


def test_trades_through_the_price_fill_and_so_does_the_other_side():
    assert fills(tape([*BOOK, END], [(20, 98, 2, 1), (30, 97, 9, 1)]), quote(99, None)) == [
        (20, 1, 99, 2, THROUGH), (30, 1, 99, 1, THROUGH),
    ]  # fmt: skip
    rows = [*BOOK, (20, Op.BID, 99, 0), (20, Op.ASK, 99, 1), (20, Op.STANDS, 0, 1), END]
    assert fills(tape(rows, [(5, 101, 1, 0)]), quote(99, None)) == [(20, 1, 99, 3, OPPOSITE)]


def test_a_trade_of_the_other_side_fills_nobody():
    assert fills(tape([*BOOK, END], [(20, 99, 50, 0), (30, 101, 50, 1)]), quote(99, 101)) == []


def test_an_order_takes_its_time_and_is_refused_where_it_would_take():
    late = replace(TERMS, delay_ns=15)
    assert fills(tape([*BOOK, END], [(20, 99, 50, 1)]), quote(99, None), late) == []
    rows = [*BOOK, (20, Op.ASK, 100, 2), (20, Op.STANDS, 0, 1), END]
    one, plan = tape(rows, [(30, 99, 50, 1)]), quote(100, None)
    assert fills(one, plan, late) == []
    assert match(track_of(one), np.array([10]), plan, late).refused == 1


def test_a_quote_of_the_same_price_keeps_its_place_and_another_one_loses_it():
    trades = [(20, 99, 5, 1), (40, 99, 3, 1)]
    assert fills(tape([*BOOK, END], trades), quote(99, None, count=2), at=(10, 30)) == [(40, 1, 99, 3, QUEUE)]
    plan = quote(99, None, count=3)
    plan.price[1, 0] = 98 * MICRO
    assert fills(tape([*BOOK, END], trades), plan, at=(10, 30, 35)) == []


def test_inventory_keeps_its_limit_moves_the_price_and_costs():
    trades = [(at, 97, 9, 1) for at in range(20, 120, 10)]
    plan = quote(99, None, lots=40, count=10)
    at = tuple(range(15, 115, 10))
    assert sum(one[3] for one in fills(tape([*BOOK, END], trades), plan, at=at)) <= TERMS.most_lots
    # Each unit of 10 lots moves the price by a tick.
    plan.skew[:] = MICRO
    assert {one[2] for one in fills(tape([*BOOK, END], trades), plan, at=at)} > {99, 98}
    # From two units on the quote is worth less than they cost.
    plan.skew[:], plan.cost[:], plan.chance[:], plan.value[:] = 0, 10, MICRO, 20
    plan.lots[:] = 10
    assert 10 <= sum(one[3] for one in fills(tape([*BOOK, END], trades), plan, at=at)) <= 30


def test_without_a_book_nothing_is_quoted():
    rows = [*BOOK, (12, Op.LOST, 0, 0), END]
    assert fills(tape(rows, [(20, 90, 50, 1)]), quote(99, None), at=(15,)) == []
    with pytest.raises(TrackError, match="never in sync"):
        track_of(tape([(0, Op.LOST, 0, 0)], [(20, 90, 50, 1)]))
    with pytest.raises(TrackError, match="no trade"):
        track_of(tape(BOOK, []))


def test_numbers_beyond_64_bits_are_refused():
    plan = quote(99, None)
    plan.skew[:] = 2**61
    with pytest.raises(OverflowError):
        match(track_of(tape([*BOOK, END], [(20, 99, 1, 1)])), np.array([10]), plan, TERMS)


def drawn(seed: int, track: Track, at: Integers) -> Plan:
    """Quotes near the last trade that know nothing."""
    chance = np.random.default_rng(seed)
    trades = track.events[track.events[:, 1] >= 7]
    last = trades[np.maximum(np.searchsorted(trades[:, 0], at) - 1, 0), 2]
    plan = Plan.empty(len(at), 2)
    reach = max(3, int(last.mean()) // 20_000)
    for side, sign in ((0, -1), (1, 1)):
        for d in range(2):
            plan.price[:, side, d] = (last + sign * chance.integers(-1, reach, len(at))) * MICRO
            plan.value[:, side, d] = chance.integers(-10, 100, len(at))
    plan.chance[:] = MICRO // 2
    plan.lots[:] = chance.integers(1, 200, plan.lots.shape)
    plan.skew[:], plan.cost[:] = MICRO, 20
    return plan


@pytest.mark.parametrize("seed", range(12))
def test_the_twin_has_the_same_fills_on_made_up_books(seed: int):
    one = market(seed, 120, leaks=False)
    at = np.arange(START_NS, one.until_ns, SECOND_NS // 3)
    terms = Terms((seed % 4) * 150_000_000, (seed % 3) * 100_000_000, 50, 5, 400)
    track = track_of(one)
    found = match(track, at, drawn(seed, track, at), terms)
    plain, refused, inventory = match_plainly(one, at, drawn(seed, track, at), terms)
    assert len(plain) > 20
    assert [tuple(row) for row in found.fills.tolist()] == plain
    assert (found.refused, found.inventory) == (refused, inventory)


@pytest.mark.long
@needs_books
@pytest.mark.parametrize("name", MARKETS)
def test_the_twin_has_the_same_fills_on_real_books(name: str):
    one = tape_of_sample(SHARED / "l2" / name)
    track = track_of(one)
    at = np.arange(one.from_ns + SECOND_NS, one.until_ns, SECOND_NS)
    for settle in (0, 100_000_000):
        terms = Terms(40_000_000, settle, 50, 5, 1000)
        found = match(track, at, drawn(1, track, at), terms)
        plain, refused, inventory = match_plainly(one, at, drawn(1, track, at), terms)
        assert len(plain) > 40
        assert [tuple(row) for row in found.fills.tolist()] == plain
        assert (found.refused, found.inventory) == (refused, inventory)


def test_compiled_is_as_it_was_written(monkeypatch: pytest.MonkeyPatch):
    one = track_of(market(3, 30, leaks=True))
    at = np.arange(START_NS, one.until_ns, SECOND_NS // 2)
    plan, terms = drawn(3, one, at), Terms(40_000_000, 100_000_000, 50, 5, 400)
    compiled = match(one, at, plan, terms), moments.moments_of(one, SECOND_NS // 2, (0.0, 1.0, 2.0))
    probed = probe.probe(one, compiled[1], terms)
    loops = {
        module: [name for name, value in vars(module).items() if hasattr(value, "py_func")]
        for module in (matching, moments, probe)
    }
    assert sum(map(len, loops.values())) >= 18
    for module, names in loops.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name).py_func)
    written, seen = match(one, at, plan, terms), moments.moments_of(one, SECOND_NS // 2, (0.0, 1.0, 2.0))
    assert (written.fills == compiled[0].fills).all()
    assert len(written.fills) > 10
    assert (written.quotes == compiled[0].quotes).all()
    for name in ("bid", "ask", "flow", "trades", "queue", "imbalance", "away"):
        assert (getattr(seen, name) == getattr(compiled[1], name)).all()
    again = probe.probe(one, seen, terms)
    assert (again.filled == probed.filled).all()
    assert probed.filled.any()


def test_a_run_may_stop_before_each_decision():
    one = track_of(market(5, 60, leaks=False))
    at = np.arange(START_NS, one.until_ns, SECOND_NS // 2)
    whole, terms = drawn(5, one, at), Terms(40_000_000, 0, 50, 5, 400)
    plan = Plan.empty(len(at), 2)
    run = Run(one, at, plan, terms)
    for k in range(len(at)):
        run.until(k)
        for name in ("price", "value", "chance", "lots", "skew", "cost"):
            getattr(plan, name)[k] = getattr(whole, name)[k]
    run.until(len(at))
    assert (run.matched().fills == match(one, at, whole, terms).fills).all()


def test_a_cut_begins_with_the_book_that_stood():
    one = track_of(market(7, 60, leaks=True))
    start = START_NS + 20 * SECOND_NS
    whole = moments.moments_of(one, SECOND_NS, (0.0, 2.0))
    part = moments.moments_of(cut(one, start, one.until_ns), SECOND_NS, (0.0, 2.0))
    again = whole.between(start, one.until_ns)
    for name in ("at", "bid", "ask", "bid_lots", "imbalance", "queue"):
        assert (getattr(again, name) == getattr(part, name)).all()
    with pytest.raises(TrackError):
        cut(one, one.until_ns + 10, one.until_ns + 20)


@pytest.mark.skipif(not (SHARED / "books" / "bitstamp_l3").is_dir(), reason="MM_SHARED_DATA has no orders")
def test_the_queue_is_never_ahead_of_the_truth_of_real_orders():
    found = compare(SHARED / "books" / "bitstamp_l3" / "BTC-USD_orders_2015-05-01.parquet")
    assert found["orders"] > 20_000
    assert found["behind others"] > 4_000
    assert found["filled"] > 300
    assert found["ahead: queue"] == 0
    assert found["ahead: filled first"] == 0
