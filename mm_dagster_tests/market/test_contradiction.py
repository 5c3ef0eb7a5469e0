"""Contradiction holds back, the size of a move never does: on real candles, made-up ones, answer by answer."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.config.markets import CandlesConfig
from mm_dagster.market.collect import collect
from mm_dagster.market.contradiction import UNSURE, agrees, held_back, ticker_doubt
from mm_dagster.market.files import CandleFileError, read_candles
from mm_dagster.market.venue import ROWS
from mm_dagster.tables.registry import dtypes, empty
from mm_dagster_tests.market.faulty import BEGIN, SYMBOL, Exchange, Rows, market, quarter_hours

START = datetime(2026, 1, 1, tzinfo=UTC)
CRASH = Span(datetime(2025, 10, 10, 21, tzinfo=UTC), datetime(2025, 10, 11, tzinfo=UTC))
"""The 12 bars after 21:00 of the day on which all markets crashed, from 21:15 on."""
QUICK = CandlesConfig(late_bar_wait_seconds=0)


def bars(*closes: float, first: int = 0) -> pl.DataFrame:
    """Bars that open at the close before."""
    opens = [closes[0], *closes[:-1]]
    return pl.DataFrame(
        [
            (START + (first + n) * BAR, a, max(a, b), min(a, b), b, 1.0)
            for n, (a, b) in enumerate(zip(opens, closes, strict=True))
        ],
        schema=ROWS,
        orient="row",
    )


def held(rows: pl.DataFrame, stored: pl.DataFrame | None = None, in_progress: pl.DataFrame | None = None) -> list[int]:
    """Numbers of the bars that are held back."""
    known = rows.clear() if stored is None else stored
    found = held_back(rows, known.select("open_time", "open", "close"), in_progress)
    return [(time - START) // BAR for time in found["open_time"]]


def test_of_all_real_candles_of_kucoin_in_the_crash_none_is_held(shared_data: Path) -> None:
    for file in sorted((shared_data / "candles" / "kucoin").glob("*/15m.parquet")):
        rows = read_candles(file).bars.filter(CRASH.back(96).opens())
        assert rows.height > 96
        assert held(rows) == []


@pytest.mark.long
def test_of_all_real_candles_none_is_held(shared_data: Path) -> None:
    count = 0
    for file in sorted((shared_data / "candles").rglob("*.parquet")):
        try:
            rows = read_candles(file).bars.unique("open_time", keep="first").sort("open_time")
        except CandleFileError:
            continue
        assert held(rows) == [], file
        # Each was once the newest, with the next one in progress and what came before it stored.
        for begin in range(0, rows.height - 10, 997):
            part = rows[begin : begin + 10]
            assert held(part[4:9], part[:7], part[9:]) == []
        count += rows.height
    assert count > 1_200_000


@pytest.mark.parametrize(
    ("rows", "stored", "in_progress", "expected"),
    [
        (bars(100, 101, 100), None, None, []),
        (bars(100, 80, 101), None, None, []),
        (bars(100, 101, 100, 101, 100), bars(100, 101, 100, 101), None, []),
        (bars(1e5, 1e5, 1e5, 1e5, 1e5), bars(100, 101, 100, 101), None, [0, 1, 2, 3, 4]),
        (bars(100, 101, 1e5, 1e5, 1e5), bars(100, 101, 100, 101), None, [0, 1, 2, 3, 4]),
        (bars(100, 101, 100, 1e5, 1e5), bars(100, 101, 100, 101), None, [3, 4]),
        (bars(102, 103, first=4), bars(100, 101, 100, 101), None, []),
        (bars(140, 141, first=4), bars(100, 101, 100, 101), None, [4, 5]),
        (bars(140, 141, first=8), bars(100, 101, 100, 101), None, []),
        (bars(340, 341, first=8), bars(100, 101, 100, 101), None, [8, 9]),
        (bars(340, 341, first=40), bars(100, 101, 100, 101), None, []),
        (bars(740, 741, first=400), bars(100, 101, 100, 101), None, []),
        (bars(1_100, 1_101, first=400), bars(100, 101, 100, 101), None, [400, 401]),
        (bars(102, first=4), bars(100, 101, 100, 101), bars(60, first=5), [4, 5]),
        (bars(102, first=4), bars(100, 101, 100, 101), bars(101, first=5), []),
        (bars(1e5, 1e5, first=-2), bars(100, 101, 100, 101), None, [-2, -1]),
        (bars(99, 100, first=-2), bars(100, 101, 100, 101), None, []),
    ],
)
def test_what_contradicts_is_held_and_nothing_else(
    rows: pl.DataFrame, stored: pl.DataFrame | None, in_progress: pl.DataFrame | None, expected: list[int]
) -> None:
    assert held(rows, stored, in_progress) == expected


def test_of_two_bars_that_do_not_join_on_the_odd_one_is_held() -> None:
    odd = bars(100, 101, 100, 101, 100, 101).with_columns(
        close=pl.when(pl.col("open_time") == START + 3 * BAR).then(60.0).otherwise("close"),
        low=pl.when(pl.col("open_time") == START + 3 * BAR).then(60.0).otherwise("low"),
    )
    assert held(odd) == [3]


def test_a_page_that_begins_wrongly_is_held_at_its_beginning() -> None:
    rows = pl.concat([bars(1e5, 1e5), bars(*[100.0] * 8, first=2)])
    assert held(rows) == [0, 1]


def test_what_is_stored_already_is_held_by_nothing() -> None:
    split = pl.concat([bars(100, 100, 100), bars(1, 1, 1, first=3)])
    assert held(split) != []
    assert held(split, split) == []


@given(
    moves=st.lists(st.floats(-0.24, 0.24), min_size=1, max_size=60),
    seams=st.lists(st.floats(-0.24, 0.24), min_size=60, max_size=60),
    known=st.integers(0, 60),
)
def test_no_walk_is_held_however_wild_inside_its_bars(moves: list[float], seams: list[float], known: int) -> None:
    rows, price = [], 100.0
    for number, (move, seam) in enumerate(zip(moves, seams, strict=False)):
        begin = price * math.exp(seam)
        price = begin * math.exp(3 * move)
        rows.append((START + number * BAR, begin, max(begin, price), min(begin, price), price, 1.0))
    walk = pl.DataFrame(rows, schema=ROWS, orient="row")
    assert held(walk, walk[:known]) == []


@given(st.lists(st.sampled_from([1e-3, 0.3, 0.9, 1.0, 1.1, 3.0, 1e3]), min_size=1, max_size=30), st.integers(0, 30))
def test_it_always_ends_and_names_each_bar_once(factors: list[float], known: int) -> None:
    walk = bars(*[100.0] * len(factors))
    bent = walk.with_columns(
        pl.Series("close", [100 * f for f in factors]), pl.Series("open", [100 * f for f in factors])
    )
    found = held(bent, walk[:known])
    assert found == sorted(set(found))
    assert set(found) <= set(range(len(factors)))


@pytest.mark.parametrize("price", [None, 0.0, -1.0, math.nan, math.inf, 74.9, 126.3])
def test_a_last_price_far_from_its_bar_is_not_believed(price: float | None) -> None:
    assert ticker_doubt(price, 100.0, 101.0, "the newest bar")


@pytest.mark.parametrize("price", [75.1, 100.0, 126.2])
def test_a_last_price_near_its_bar_is(price: float) -> None:
    assert ticker_doubt(price, 100.0, 101.0, "the newest bar") is None
    assert ticker_doubt(price, None, None, "the newest bar") is None


def test_two_answers_agree_only_when_they_are_apart_and_nothing_healthy_came_between() -> None:
    now = START + timedelta(hours=1)
    rows = bars(7, 7)

    def noted(minutes: int, close: float = 7.0, reason: str = UNSURE) -> pl.DataFrame:
        one = {"symbol": SYMBOL, "open_time": START, "reason": reason, "payload": json.dumps({"close": close})}
        return pl.DataFrame(
            [one | {"venue": "main", "observed_at": now - timedelta(minutes=minutes), "source": "ccxt:x"}]
        ).cast(
            dtypes("quarantine")  # type: ignore[arg-type]
        )

    assert agrees(rows, noted(15), None, now)
    assert not agrees(rows, noted(5), None, now)
    assert not agrees(rows, noted(15, close=8.0), None, now)
    assert not agrees(rows, noted(15, reason="the volume is below zero"), None, now)
    assert not agrees(rows, noted(15), now - timedelta(minutes=3), now)
    assert agrees(rows, noted(15), now - timedelta(minutes=30), now)


class Memory:
    """What is stored, kept as the pipeline keeps it."""

    def __init__(self) -> None:
        self.candles = empty("candles")
        self.apart = empty("quarantine")

    def bars(self, symbol: str, span: Span) -> pl.DataFrame:
        return self.candles.filter(span.opens() & (pl.col("status") != "MISSING")).sort("open_time")

    def doubts(self, symbol: str, span: Span) -> pl.DataFrame:
        return self.apart.filter(span.opens())

    def ask(self, exchange: Exchange, as_of: datetime, bars: int = 8) -> str | None:
        """One tick's question; returns what is wrong, in words."""
        exchange.time = as_of + timedelta(minutes=1)
        got = collect(exchange, SYMBOL, Span(as_of - bars * BAR, as_of), QUICK, known=self)
        fresh = got.candles.filter(pl.col("observed_at").is_not_null())
        stamped = fresh.with_columns(config_hash=pl.lit("x"), code_version=pl.lit("2"), source=pl.lit("ccxt:x"))
        rest = self.candles.join(stamped, on="open_time", how="anti")
        self.candles = pl.concat([rest, stamped.select(rest.columns)]).sort("open_time")
        apart = got.quarantined.with_columns(source=pl.lit("ccxt:x"))
        new = apart.join(self.apart, on=["open_time", "reason", "payload"], how="anti")
        self.apart = pl.concat([self.apart, new])
        return got.error

    def closes(self) -> dict[datetime, float]:
        return dict(self.candles.select("open_time", "close").iter_rows())


@pytest.fixture(scope="module")
def truth() -> pl.DataFrame:
    return market(days=6)


def scaled(frame: pl.DataFrame, factor: float, since: datetime = START - timedelta(days=999)) -> pl.DataFrame:
    prices = ("open", "high", "low", "close")
    return frame.with_columns(
        pl.when(pl.col("open_time") >= since).then(pl.col(name) * factor).otherwise(name).alias(name) for name in prices
    )


def true_closes(frame: pl.DataFrame, memory: Memory) -> dict[datetime, float]:
    kept = frame.filter(pl.col("open_time").is_in(memory.candles["open_time"].to_list()))
    return dict(kept.select("open_time", "close").iter_rows())


def test_a_store_that_is_wrong_is_defeated_by_two_answers_and_revised_as_far_as_it_is(
    truth: pl.DataFrame,
) -> None:
    exchange, memory = Exchange({SYMBOL: scaled(truth, 1_000)}, silent=True), Memory()
    times = quarter_hours(5)
    assert memory.ask(exchange, times[0], bars=200) is None
    exchange.candles, exchange.silent = {SYMBOL: truth}, False
    first = memory.ask(exchange, times[1])
    assert first is not None
    assert first.startswith("unsure: main: ETH-USDT: ")
    assert memory.candles["close_time"].max() == times[0]
    assert memory.ask(exchange, times[2]) is None
    assert memory.candles.height >= 202
    assert memory.closes() == true_closes(truth, memory)


def test_a_new_level_that_the_last_price_confirms_is_believed_a_quarter_hour_later(truth: pl.DataFrame) -> None:
    times = quarter_hours(5)
    split = scaled(truth, 0.001, since=times[1])
    exchange, memory = Exchange({SYMBOL: split}), Memory()
    assert memory.ask(exchange, times[0], bars=200) is None
    assert "unsure" in str(memory.ask(exchange, times[1]))
    assert memory.ask(exchange, times[2]) is None
    assert memory.ask(exchange, times[3]) is None
    assert memory.ask(exchange, times[4]) is None
    assert memory.closes() == true_closes(split, memory)


def test_a_level_that_the_last_price_does_not_confirm_is_never_believed(truth: pl.DataFrame) -> None:
    times = quarter_hours(5)
    exchange, memory = Exchange({SYMBOL: truth}), Memory()
    assert memory.ask(exchange, times[0], bars=200) is None
    price = exchange.last_prices([SYMBOL])[SYMBOL]
    exchange.candles, exchange.price = {SYMBOL: scaled(truth, 1_000)}, price
    for time in times[1:]:
        assert "unsure" in str(memory.ask(exchange, time))
    assert memory.candles["close_time"].max() == times[0]


def test_caches_that_take_turns_are_never_believed_where_they_are_wrong(truth: pl.DataFrame) -> None:
    exchange, memory = Exchange({SYMBOL: truth}), Memory()
    times = quarter_hours(8)
    assert memory.ask(exchange, times[0], bars=200) is None
    for number, time in enumerate(times[1:]):
        exchange.candles = {SYMBOL: scaled(truth, 1.0 if number % 2 else 1_000)}
        memory.ask(exchange, time)
    exchange.candles = {SYMBOL: truth}
    memory.ask(exchange, times[-1] + BAR, bars=16)
    assert memory.closes() == true_closes(truth, memory)


def test_a_first_answer_that_the_last_price_contradicts_is_not_stored(truth: pl.DataFrame) -> None:
    times = quarter_hours(3)
    exchange, memory = Exchange({SYMBOL: scaled(truth, 1_000)}, price=float(truth["close"][-1])), Memory()
    assert "the last price" in str(memory.ask(exchange, times[0], bars=100))
    assert memory.candles.is_empty()
    exchange.candles = {SYMBOL: truth}
    assert memory.ask(exchange, times[1], bars=100) is None
    assert memory.closes() == true_closes(truth, memory)


def test_a_small_revision_is_followed_as_far_back_as_it_goes(truth: pl.DataFrame) -> None:
    times = quarter_hours(3)
    wrong = scaled(truth, 1.003, since=BEGIN - 100 * BAR)
    exchange, memory = Exchange({SYMBOL: wrong}), Memory()
    assert memory.ask(exchange, times[0], bars=300) is None
    exchange.candles = {SYMBOL: truth}
    assert memory.ask(exchange, times[1]) is None
    assert memory.closes() == true_closes(truth, memory)


def test_a_wick_that_nobody_confirms_twice_is_held_and_one_inside_the_bounds_rings(truth: pl.DataFrame) -> None:
    times = quarter_hours(3)

    def wick(factor: float) -> None:
        def bend(rows: Rows, page: Span) -> Rows:
            return [[*row[:3], (row[3] or 0) * factor, *row[4:]] if row is rows[-2] else row for row in rows]

        exchange.bend, exchange.bends = bend, 9

    exchange, memory = Exchange({SYMBOL: truth}), Memory()
    assert memory.ask(exchange, times[0], bars=100) is None
    wick(0.05)
    assert "unsure" in str(memory.ask(exchange, times[1]))
    wick(0.5)
    assert memory.ask(exchange, times[2]) is None
    assert memory.candles["low"][-1] == pytest.approx(truth.filter(pl.col("open_time") == times[2] - BAR)["low"][0] / 2)


@pytest.mark.slow
def test_in_the_crash_nothing_is_held_tick_by_tick_and_the_candles_are_the_exchange_s(shared_data: Path) -> None:
    asked = 0
    for file in sorted((shared_data / "candles" / "kucoin").glob("*/15m.parquet")):
        real = read_candles(file).bars.with_columns(pl.col("open_time").cast(TIME)).filter(pl.col("volume") > 0)
        exchange, memory = Exchange({SYMBOL: real}), Memory()
        assert memory.ask(exchange, CRASH.start, bars=100) is None
        for number in range(1, 13):
            assert memory.ask(exchange, CRASH.start + number * BAR) is None, file
            asked += 1
        assert memory.apart.is_empty()
        assert memory.closes() == true_closes(real, memory)
    assert asked == 168
