"""Bought history: the same features as of the log of the same messages, and one line for each kind of bad file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mm_dagster.books.features import measure
from mm_dagster.books.follow import BookMarket, Follower
from mm_dagster.books.ladder import Scale
from mm_dagster.books.messages import Delta, Snapshot, Trade
from mm_dagster.books.sync import Reason
from mm_dagster.books.tape import Tape, tape_of
from mm_dagster.books.tardis import BOOK_COLUMNS, QUARTER_NS, TRADE_COLUMNS, TardisError, scale_of, tapes
from mm_dagster_tests.books import recorded

MARKET = BookMarket("binance", "BTC-USDT", Scale(2, 5), 1000)
SECOND_NS = 10**9
T0 = 1_770_000_300 * 10**6
BOOK_HEAD, TRADE_HEAD = f"{BOOK_COLUMNS}\n".encode(), f"{TRADE_COLUMNS}\n".encode()


def decimal(count: int, decimals: int) -> str:
    return f"{count // 10**decimals}.{count % 10**decimals:0{decimals}d}"


def level(at_us: int, is_snapshot: bool, side: str, price: str, amount: str) -> bytes:
    said = "true" if is_snapshot else "false"
    return f"binance,BTCUSDT,{at_us},{at_us},{said},{side},{price},{amount}\n".encode()


def trade(at_us: int, name: str = "1", side: str = "buy", price: str = "100.00", amount: str = "1.00000") -> bytes:
    return f"binance,BTCUSDT,{at_us},{at_us},{name},{side},{price},{amount}\n".encode()


def snapshot(at_us: int, bid: str = "99.00", ask: str = "101.00") -> list[bytes]:
    return [level(at_us, True, "bid", bid, "1.00000"), level(at_us, True, "ask", ask, "2.00000")]


def played(book: list[bytes], trades: list[bytes] | None = None, market: BookMarket = MARKET) -> list[tuple[int, Tape]]:
    return list(tapes(market, [BOOK_HEAD, *book], [TRADE_HEAD, *(trades or [])]))


def as_tardis(frames: list[tuple[bool, int, str, bytes]]) -> tuple[list[bytes], list[bytes]]:
    """The two files of a log: what was sent, without what came before the book or was in it already."""
    follower = Follower.again(frames[0][3])
    scale, last_id = follower.market.scale, None
    book, trades = [], []

    def levels(record: Delta | Snapshot, at_us: int, is_snapshot: bool) -> Iterator[bytes]:
        for side, found in (("bid", record.bids), ("ask", record.asks)):
            for price, lots in found:
                texts = decimal(price, scale.price_decimals), decimal(lots, scale.amount_decimals)
                yield level(at_us, is_snapshot, side, *texts)

    waiting: list[tuple[int, Delta]] = []
    for _, at_ns, stream, payload in frames[1:]:
        for record in follower.records(stream, payload):
            if isinstance(record, Trade):
                side = "sell" if record.seller_aggressed else "buy"
                texts = decimal(record.price, scale.price_decimals), decimal(record.lots, scale.amount_decimals)
                trades.append(trade(at_ns // 1000, record.trade_id, side, *texts))
            elif isinstance(record, Delta):
                waiting.append((at_ns, record))
            elif isinstance(record, Snapshot):
                last_id = record.last_id
                book += levels(record, at_ns // 1000, True)
        if last_id is not None:
            for then_ns, delta in waiting:
                if delta.last_id > last_id:
                    book += levels(delta, max(then_ns, at_ns) // 1000, False)
            waiting = []
    return book, trades


@pytest.mark.slow
def test_bought_history_gives_the_features_of_the_log(shared_data: Path) -> None:
    frames = [
        (is_checkpoint, at_ns // 1000 * 1000, stream, payload)
        for is_checkpoint, at_ns, stream, payload in recorded.binance_log(
            shared_data / "l2" / "binance" / "BTC-USDT", "binance"
        )
        if b'"bookTicker"' not in payload and b'"B":' not in payload
    ][:16_000]
    follower = Follower.again(frames[0][3])
    frames[0] = (True, frames[0][1], "opened", Follower.begin(replace(follower.market), frames[0][1]).kept())
    book, trades = as_tardis(frames)
    assert scale_of([BOOK_HEAD, *book], [TRADE_HEAD, *trades]) == Scale(2, 6)
    live = tape_of(frames)
    found = played(book, trades, BookMarket("binance", "BTC-USDT", Scale(8, 8), 1001))
    assert [tape.until_ns for _, tape in found[:-1]] == [start_ns + QUARTER_NS for start_ns, _ in found[:-1]]
    compared = 0
    for start_ns, tape in found:
        # From a second after the log has a book: when a snapshot counts from is another matter.
        begin_ns = max(start_ns, int(live.spans[0, 0]) + SECOND_NS)
        end_ns = min(start_ns + QUARTER_NS, live.until_ns)
        expected, got = (measure(one, begin_ns, end_ns, 5) for one in (live, tape))
        assert got == expected
        compared += 1
        assert got["changes"] > 500
        assert got["in_sync_share"] == 1.0
        assert got["buy_volume"] > 0
        assert all(got[name] is not None for name in ("spread_bp", "order_flow_imbalance", "rv_mid", "bid_depth_25bp"))
    assert compared >= 1


def test_a_book_goes_on_from_a_quarter_hour_to_the_next() -> None:
    start_us = T0 // 900_000_000 * 900_000_000 + 899_000_000
    book = [*snapshot(start_us), level(start_us + 3_000_000, False, "bid", "99.50", "1.00000")]
    trades = [trade(start_us + 500_000), trade(start_us + 2_000_000, "2"), trade(start_us + 4_000_000, "2")]
    (first_ns, first), (then_ns, then) = played(book, trades)
    assert then_ns == first_ns + QUARTER_NS == (start_us + 1_000_000) * 1000
    assert (len(first.trades), len(then.trades)) == (1, 1)  # the last one stands twice in the file
    assert first.spans.tolist() == [[start_us * 1000, then_ns]]
    assert then.spans.tolist() == [[then_ns, (start_us + 4_000_000) * 1000 + 1]]
    assert measure(then, then_ns, then_ns + SECOND_NS, 1)["mid"] == 100.0
    found = measure(then, then_ns, then_ns + QUARTER_NS, 1)
    assert (found["mid"], found["changes"], found["order_flow_imbalance"]) == (100.25, 1, 1.0)


def test_before_another_snapshot_something_may_have_been_missed() -> None:
    book = [
        level(T0, False, "bid", "98.00", "1.00000"),
        *snapshot(T0 + 1_000_000),
        level(T0 + 2_000_000, False, "bid", "99.50", "1.00000"),
        *snapshot(T0 + 9_000_000),
        level(T0 + 10_000_000, False, "bid", "99.50", "1.00000"),
    ]
    ((_, tape),) = played(book)
    at = [(T0 + second * 1_000_000) * 1000 for second in (0, 1, 2, 9, 10)]
    assert tape.spans.tolist() == [[at[1], at[2]], [at[3], at[4] + 1]]
    assert [(gap.reasons, gap.from_ns, gap.to_ns) for gap in tape.gaps] == [
        ((Reason.START,), at[0], at[1]),
        ((Reason.RECONNECTED,), at[2], at[3]),
    ]


def test_two_snapshots_one_after_another_are_two() -> None:
    second = [level(T0 + 1_000_000, True, "bid", "98.00", "1.00000"), *snapshot(T0 + 1_000_000, ask="102.00")]
    ((_, tape),) = played([*snapshot(T0), *second, level(T0 + 2_000_000, False, "bid", "97.00", "1.00000")])
    assert len(tape.spans) == 2
    assert measure(tape, T0 * 1000, T0 * 1000 + 3 * SECOND_NS, 1)["mid"] == 100.5
    # In parts, with a price once, it is one.
    parts = [*snapshot(T0), level(T0 + 7, True, "ask", "100.50", "1.00000")]
    ((_, tape),) = played([*parts, level(T0 + 2_000_000, False, "bid", "97.00", "1.00000")])
    assert tape.spans.tolist()[0][0] == (T0 + 7) * 1000
    assert len(tape.spans) == 1


def test_a_book_that_cannot_be_true_is_given_up_until_the_next_snapshot() -> None:
    crossed = level(T0 + 1_000_000, False, "bid", "101.00", "1.00000")
    back = level(T0 + 2_000_000, False, "bid", "101.00", "0.00000")
    ((_, tape),) = played([*snapshot(T0), crossed, back])
    assert tape.crossed == 1
    assert tape.spans.tolist() == [[T0 * 1000, (T0 + 1_000_000) * 1000]]
    # A snapshot of as many levels as the market has depth was cut.
    cut = replace(MARKET, depth=1)
    away = [level(T0 + 1_000_000, False, "bid", "98.00", "1"), level(T0 + 1_000_000, False, "bid", "99.00", "0")]
    ((_, tape),) = played([*snapshot(T0), *away], market=cut)
    assert tape.gaps[-1].reasons == (Reason.OUT_OF_REACH,)
    ((_, tape),) = played([*snapshot(T0), level(T0 + 5_000_000, False, "bid", "98.00", "1")], market=cut)
    found = measure(tape, T0 * 1000, T0 * 1000 + 5 * SECOND_NS, 1)
    assert (found["depth_reach_bp"], found["bid_depth_50bp"]) == (pytest.approx(100.0), 0.0)


GOOD = level(T0, True, "bid", "99.00", "1")


def changed(place: int, text: str, line: bytes = GOOD) -> bytes:
    fields = line.decode().rstrip("\n").split(",")
    fields[place] = text
    return (",".join(fields) + "\n").encode()


@pytest.mark.parametrize(
    ("book", "said"),
    [
        ([], "the files have no rows"),
        ([GOOD[:-1]], "line 2: does not end: the file was cut"),
        ([b"\xff\xfe\n"], "line 2: is no text"),
        ([b"a,b,c\n"], "line 2: has 3 fields: must be 8"),
        ([GOOD[:-1] + b",1\n"], "line 2: has 9 fields: must be 8"),
        ([changed(0, "kraken")], "line 2: exchange is 'kraken': must be binance"),
        ([changed(1, "ETHUSDT")], "line 2: symbol is 'ETHUSDT': must be that of BTC-USDT"),
        ([GOOD, changed(1, "ETHUSDT")], "line 3: symbol is 'ETHUSDT': must be that of BTC-USDT"),
        ([changed(2, "")], "line 2: timestamp is '': must be microseconds since 1970"),
        ([changed(2, "-5")], "line 2: timestamp is '-5': must be microseconds since 1970"),
        ([changed(3, "1.5")], "line 2: local_timestamp is '1.5': must be microseconds since 1970"),
        ([changed(3, str(T0 * 1000))], "line 2: local_timestamp is"),
        ([GOOD, changed(3, str(T0 - 1))], "line 3: local_timestamp is '1770000299999999': must not be before"),
        ([GOOD, changed(3, str(T0 * 2))], "line 3: local_timestamp is"),
        ([changed(4, "1")], "line 2: is_snapshot is '1': must be true or false"),
        ([changed(5, "buy")], "line 2: side is 'buy': must be bid or ask"),
        ([changed(6, "99.001")], "line 2: price is '99.001': more than 2 decimals in the price 99.001"),
        ([changed(6, "nan")], "line 2: price is 'nan': it is no price"),
        ([changed(6, "0")], "line 2: price is '0': must be above 0"),
        ([changed(7, "-1")], "line 2: amount is '-1': it is no amount"),
        ([changed(7, "")], "line 2: amount is '': it is no amount"),
    ],
)
def test_a_bad_file_of_a_book_is_told_in_one_line(book: list[bytes], said: str) -> None:
    with pytest.raises(TardisError) as caught:
        played(book)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (changed(4, "", trade(T0)), "line 2: id is '': must be the name of the trade"),
        (changed(5, "unknown", trade(T0)), "line 2: side is 'unknown': must be buy or sell"),
        (changed(7, "1e-9", trade(T0)), "line 2: amount is '1e-9': more than 5 decimals"),
        (changed(1, "BTCUSD", trade(T0)), "line 2: symbol is 'BTCUSD'"),
    ],
)
def test_a_bad_file_of_trades_is_told_in_one_line(line: bytes, said: str) -> None:
    with pytest.raises(TardisError) as caught:
        played([GOOD], [line])
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("head", [b"", b"\n", TRADE_HEAD, BOOK_HEAD.replace(b"side,", b""), b"\x1f\x8b\x08\n"])
def test_other_columns_are_refused(head: bytes) -> None:
    with pytest.raises(TardisError, match=r"line 1: |no rows"):
        list(tapes(MARKET, [head] if head else [], [TRADE_HEAD]))


def test_any_byte_that_is_changed_gives_a_tape_or_one_line() -> None:
    rng = np.random.default_rng(3)
    lines = [*snapshot(T0), *(level(T0 + n * 100_000, False, "bid", f"9{n}.00", "1.5") for n in range(1, 9))]
    whole = b"".join([BOOK_HEAD, *lines])
    seen, told_in_one_line = {"tape": 0, "line": 0}, 0
    for _ in range(2000):
        place = int(rng.integers(len(whole)))
        spoiled = whole[:place] + bytes([int(rng.integers(256))]) + whole[place + int(rng.integers(2)) :]
        told: Any = None
        try:
            told = list(tapes(MARKET, spoiled.splitlines(keepends=True), [TRADE_HEAD]))
        except TardisError as error:
            told_in_one_line += "\n" not in str(error)
        seen["line" if told is None else "tape"] += 1
        for start_ns, tape in told or ():
            measure(tape, start_ns, start_ns + QUARTER_NS, 5)
    assert min(seen.values()) > 10, seen
    assert told_in_one_line == seen["line"]
