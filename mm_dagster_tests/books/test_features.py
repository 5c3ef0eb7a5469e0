"""Features of a quarter hour: by hand where a few numbers suffice, and on real books."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mm_dagster.books.features import Volume, least_squares, measure, usual_spread
from mm_dagster.books.kernel import SECOND_NS, walk
from mm_dagster.books.tape import Op, Tape, tape_of
from mm_dagster.books.volume_clock import Buckets, bucket_size, buckets, vpin
from mm_dagster_tests.books import recorded
from mm_dagster_tests.books.plain_features import tape_of_rows

START = 1_770_000_300 * SECOND_NS
END = START + 900 * SECOND_NS
NAMES = [
    "in_sync_share", "messages", "changes", "trades", "mid", "spread_bp", "weighted_mid_bp", "imbalance_1",
    "imbalance_n", "order_flow_imbalance", "buy_volume", "sell_volume", "bucket_lots", "bucket_imbalances",
    "bucket_buy_lots", "bucket_sell_lots", "vpin", "vpin_buckets", "rv_mid", "bid_depth_5bp", "bid_depth_10bp",
    "bid_depth_25bp", "bid_depth_50bp", "ask_depth_5bp", "ask_depth_10bp", "ask_depth_25bp", "ask_depth_50bp",
    "depth_reach_bp", "kyle_lambda", "kyle_r2", "recovery_ms", "recoveries", "lead_ms", "lead_corr", "lead_first_ms",
    "lead_second_ms", "book_digest",
]  # fmt: skip
TOLD_WITHOUT_A_BOOK = {"in_sync_share", "messages", "changes", "trades", "buy_volume", "sell_volume"}


def book_at(second: float, *levels: tuple[Op, int, int], begin: bool = False) -> list[tuple[int, int, int, int]]:
    at_ns = START + int(second * SECOND_NS)
    rows = [(at_ns, int(Op.BEGIN), 0, 0)] if begin else []
    return [*rows, *((at_ns, int(op), price, lots) for op, price, lots in levels), (at_ns, int(Op.STANDS), 0, 1)]


def known(*changes: list[tuple[int, int, int, int]], trades: Any = (), far: tuple[int, int] = (0, 0)) -> Tape:
    """A tape whose book stands from the beginning; a tick is 0.01, a lot 0.001."""
    begins = book_at(-1, (Op.BID, 9990, 2000), (Op.ASK, 10010, 6000), begin=True)
    begins[1:1] = [(begins[0][0], int(Op.FAR_BID), far[0], 0), (begins[0][0], int(Op.FAR_ASK), far[1], 0)]
    rows = begins + [row for change in changes for row in change]
    return tape_of_rows(rows, END, [(START + int(at * SECOND_NS), *one) for at, *one in trades])


@pytest.mark.slow
def test_the_columns_are_these_in_this_order() -> None:
    assert list(measure(known(), START, END, 5)) == NAMES


def test_a_book_that_stands_still() -> None:
    found = measure(known(), START, END, 5)
    assert found["in_sync_share"] == 1.0
    assert found["mid"] == 100.0
    assert found["spread_bp"] == pytest.approx(20.0, rel=1e-15)
    # (99.9 * 6 + 100.1 * 2) / 8 = 99.95
    assert found["weighted_mid_bp"] == pytest.approx(-5.0, rel=1e-15)
    assert (found["imbalance_1"], found["imbalance_n"]) == (-0.5, -0.5)
    assert found["rv_mid"] == 0.0
    assert [found[f"bid_depth_{bp}bp"] for bp in (5, 10, 25, 50)] == [0.0, 199.8, 199.8, 199.8]
    assert [found[f"ask_depth_{bp}bp"] for bp in (5, 10, 25, 50)] == [0.0, 600.6, 600.6, 600.6]
    assert [found[name] for name in ("depth_reach_bp", "order_flow_imbalance", "recovery_ms", "kyle_lambda")] == [
        None
    ] * 4
    assert (found["recoveries"], found["changes"]) == (0, 0)


def test_where_nothing_is_known_nothing_is_told() -> None:
    lost = tape_of_rows([(START - 1, int(Op.LOST), 0, 0)], END)
    found = measure(lost, START, END, 5)
    assert {name for name in NAMES if found[name] is not None} == TOLD_WITHOUT_A_BOOK - {"buy_volume", "sell_volume"}
    assert (found["in_sync_share"], found["messages"], found["trades"]) == (0.0, 0, 0)
    # Somebody listened, and nobody traded.
    heard = measure(known(book_at(5, (Op.BID, 9980, 1))), START, END, 5)
    assert (heard["buy_volume"], heard["sell_volume"]) == (0.0, 0.0)


def test_what_is_weighted_by_time_is_a_ratio_of_sums() -> None:
    tape = known(book_at(300, (Op.ASK, 10010, 0), (Op.ASK, 10030, 1000)), book_at(600, (Op.BID, 9980, 9000)))
    found = measure(tape, START, END, 2)
    assert found["spread_bp"] == pytest.approx(float(Fraction(20 + 40 + 40, 10000 + 10010 + 10010) * 10_000), rel=1e-15)
    assert found["imbalance_1"] == float(Fraction(2 + 2 + 2 - 6 - 1 - 1, 6 + 8))
    assert found["imbalance_n"] == float(Fraction(2 + 2 + 11 - 8, 15 + 8))
    # The ask went away: + 6.000 of what was there; a level behind the best one is no flow.
    assert found["order_flow_imbalance"] == 6.0
    assert found["changes"] == 2


def test_order_flow_by_the_formula() -> None:
    tape = known(
        book_at(1, (Op.BID, 9995, 500)),  # a better bid: + 0.5
        book_at(2, (Op.BID, 9995, 800)),  # more of it: + 0.3
        book_at(3, (Op.BID, 9995, 0)),  # back to 9990: - 0.8
        book_at(4, (Op.ASK, 10010, 5000)),  # less offered: + 1
        book_at(5, (Op.ASK, 10005, 700)),  # a better ask: - 0.7
    )
    assert measure(tape, START, END, 1)["order_flow_imbalance"] == pytest.approx(0.3, rel=1e-15)
    assert sum(walk(tape, START, END, 1).flow) == 300


def test_depth_is_that_of_the_thinnest_second_and_null_beyond_what_is_known() -> None:
    tape = known(
        book_at(10.2, (Op.BID, 9970, 3000)),
        book_at(20.2, (Op.BID, 9990, 1000)),
        book_at(20.7, (Op.BID, 9990, 2000)),
        book_at(30.2, (Op.BID, 9990, 1500)),
        book_at(31.2, (Op.BID, 9990, 2000)),
        far=(9960, 10200),
    )
    found = measure(tape, START, END, 1)
    # Between two seconds nobody looks: 1.000 at 20.2 is gone at 21.
    assert found["bid_depth_10bp"] == 149.85
    # 99.70 came with the eleventh second only.
    assert found["bid_depth_25bp"] == 149.85
    assert found["bid_depth_50bp"] is None
    assert found["ask_depth_50bp"] == 600.6
    assert found["depth_reach_bp"] == pytest.approx(40.0, rel=1e-12)


def test_realised_variance_leaves_out_what_nobody_saw() -> None:
    change = book_at(1.5, (Op.BID, 9990, 0), (Op.BID, 10000, 2000))
    lost = [(START + 3 * SECOND_NS + 5, int(Op.LOST), 0, 0)]
    again = book_at(3.5, (Op.BID, 8000, 1), (Op.ASK, 8010, 1), begin=True)
    last = book_at(10.5, (Op.ASK, 8010, 0), (Op.ASK, 8030, 1))
    found = measure(known(change, lost, again, last), START, END, 1)
    expected = math.log(20010 / 20000) ** 2 + math.log(16030 / 16010) ** 2
    assert found["rv_mid"] == pytest.approx(expected, rel=1e-12)
    assert found["in_sync_share"] == pytest.approx((900 - 0.5 + 5e-9) / 900, rel=1e-15)


def test_recovery_is_from_three_times_the_median_back_to_it() -> None:
    wide = [(Op.ASK, 10010, 0), (Op.ASK, 10051, 1)]
    tape = known(
        book_at(10, *wide),  # 61 ticks, more than three times 20
        book_at(10.25, (Op.ASK, 10020, 1)),  # 30, not yet
        book_at(10.5, (Op.ASK, 10010, 1)),
        book_at(20, (Op.ASK, 10010, 0), (Op.ASK, 10020, 0), (Op.ASK, 10050, 1)),  # 60 is not more
        book_at(21, (Op.ASK, 10010, 1)),
        book_at(30, (Op.ASK, 10010, 0), (Op.ASK, 10050, 0)),
        book_at(30.1, (Op.ASK, 10010, 1)),
        book_at(899, (Op.ASK, 10010, 0)),  # never back
    )
    found = measure(tape, START, END, 1)
    assert (found["recovery_ms"], found["recoveries"]) == (300.0, 2)


def test_the_usual_spread_is_the_median_by_time() -> None:
    spreads, times = np.array([5, -1, 1, 3, 9]), np.array([10, 1000, 10, 21, 1])
    assert usual_spread(spreads, times) == 3
    assert usual_spread(np.array([-1]), np.array([5])) is None


def test_kyles_lambda_is_the_slope() -> None:
    rng = random.Random(5)
    changes, trades, best = [], [], 9990
    for span in range(90):
        lots = rng.randint(1, 5)
        trades.append((span * 10 + 1, 10000, lots * 1_000_000, 0))
        best += lots
        changes.append(book_at(span * 10 + 2, *_moved(best, lots)))
    found = measure(known(*changes, trades=trades), START, END, 1)
    # 100,000 of quote volume a tick of about one basis point.
    assert found["kyle_lambda"] == pytest.approx(10.0, rel=0.03)
    assert found["kyle_r2"] > 0.99
    assert found["buy_volume"] == sum(one[2] for one in trades) / 1000
    assert least_squares([1.0] * 20, list(range(20))) == (None, None)
    assert least_squares([1.0, 2.0], [1.0, 2.0]) == (None, None)


def _moved(best: int, lots: int) -> list[tuple[Op, int, int]]:
    return [
        (Op.ASK, best + 20 - lots, 0), (Op.ASK, best + 20, 6000), (Op.BID, best, 2000), (Op.BID, best - lots, 0)
    ]  # fmt: skip


# The volume clock -----------------------------------------------------------------------------------------------------


def test_buckets_by_hand() -> None:
    trades = [(4, False), (3, True), (5, False), (35, True)]
    # 4+ 3- 3+ | 2+ 8- | 10- | 10- | 7-
    assert buckets(trades, 10) == Buckets((4, 6, 10, 10), 0, 7)
    assert vpin([4, 6, 10, 10], 10) == (0.75, 4)
    assert vpin([], 10) == (None, 0)
    assert vpin([0] * 50 + [10] * 25, 10) == (0.5, 50)
    assert (bucket_size(5000), bucket_size(49), bucket_size(0)) == (100, 1, None)


def test_a_day_is_the_same_in_one_piece_and_in_rows() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        trades = [(rng.choice((1, 7, 30, 2**40)), rng.random() < 0.5) for _ in range(200)]
        size = rng.choice((1, 10, 97, 2**35))
        plain = _plain_buckets(trades, size)
        whole = buckets(trades, size)
        assert (list(whole.imbalances), whole.buy, whole.sell) == (plain[0][-50:], *plain[1:])
        told: list[int] = []
        row = Buckets()
        for place in range(0, 200, 23):
            row = buckets(trades[place : place + 23], size, row.buy, row.sell)
            told += row.imbalances
        assert vpin(told, size) == vpin(plain[0], size)
        assert (row.buy, row.sell) == plain[1:]


def _plain_buckets(trades: list[tuple[int, bool]], size: int) -> tuple[list[int], int, int]:
    """Bucket by bucket; of a run of whole ones of one trade fifty stand for all."""
    full: list[int] = []
    held = [0, 0]
    for lots, is_sell in trades:
        part = min(lots, size - sum(held))
        held[is_sell] += part
        lots -= part
        if sum(held) == size:
            full.append(abs(held[0] - held[1]))
            held = [0, 0]
            full += [size] * min(lots // size, 50)
            held[is_sell] = lots % size
    return full, held[0], held[1]


def test_a_row_goes_on_with_the_bucket_that_the_row_before_left() -> None:
    tape = known(trades=[(1, 10000, 400, 0), (2, 10000, 700, 1), (3, 10000, 2500, 1)])
    found = measure(tape, START, END, 1, Volume(1000, buy=100, sell=300, imbalances=(200, 1000)))
    # 100 + 400 bought and 300 + 200 sold | 500 + 500 sold | 1000 | 1000
    assert found["bucket_imbalances"] == [0, 1000, 1000, 1000]
    assert (found["bucket_lots"], found["bucket_buy_lots"], found["bucket_sell_lots"]) == (1000, 0, 0)
    assert (found["vpin"], found["vpin_buckets"]) == (4200 / 6000, 6)


# Real books -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "exchange", "least"),
    [
        ("binance/ETH-USDT", "binance", 0.5),
        pytest.param("binance/BTC-USDT", "binance", 0.5, marks=pytest.mark.long),
        pytest.param("binance-perp/ETH-USDT", "binance_usdm", 0.5, marks=pytest.mark.long),
        pytest.param("binance-perp/BTC-USDT", "binance_usdm", 0.5, marks=pytest.mark.long),
    ],
)
def test_order_flow_explains_returns_of_real_books(shared_data: Path, market: str, exchange: str, least: float) -> None:
    tape = tape_of(recorded.binance_log(shared_data / "l2" / market, exchange))
    start_ns = int(tape.spans[0, 0])
    walked = walk(tape, start_ns, tape.until_ns, 5)
    mids = [second.bid + second.ask for second in walked.seconds if second]
    x, y = [], []
    for first in range(0, len(mids) - 10, 10):
        x.append(float(sum(walked.flow[first : first + 10])))
        y.append((mids[first + 10] - mids[first]) / mids[first])
    slope, r2 = least_squares(x, y)
    assert slope is not None
    assert r2 is not None
    print(market, len(x), r2)
    assert slope > 0
    assert least < r2 < 0.9
