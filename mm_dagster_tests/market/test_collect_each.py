"""Many markets at the same time: the same candles as one after the other, within the venue's limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.config.markets import CandlesConfig, CcxtVenue
from mm_dagster.market.collect import Collected, collect
from mm_dagster.market.collect_each import Wanted, collect_each
from mm_dagster.market.connection import Retry
from mm_dagster.market.exchange import ExchangeVenue
from mm_dagster.market.pace import Pace, TooLate
from mm_dagster.market.simulated import simulate
from mm_dagster.market.venue import VenueError
from mm_dagster_tests import kucoin
from mm_dagster_tests.kucoin import CANDLES, SYMBOLS, TIMESTAMP, KucoinServer, Request

NOW = datetime(2025, 12, 20, 12, 1, tzinfo=UTC)
DAY = Span(datetime(2025, 12, 19, 12, tzinfo=UTC), datetime(2025, 12, 20, 12, tzinfo=UTC))
NAMES = tuple(f"COIN{number}-USDT" for number in range(8))
FAST = Retry(attempts=4, first_wait=0.02, longest_wait=0.1, jitter=0.0)
SETTINGS = CandlesConfig(late_bar_wait_seconds=0)


class SlowKucoin(KucoinServer):
    """Takes its time, as the way to an exchange does, and notes when it was asked and by how many at the same time.

    Attributes:
        seconds: how long an answer takes.
        at: when candles were asked for, seconds.
        most: how many requests for candles it worked on at the same time.
    """

    seconds = 0.3

    def __init__(self) -> None:
        super().__init__({name: simulate(name, DAY.back(3_000)) for name in NAMES}, NOW)
        self.at: list[float] = []
        self.most = 0
        self._busy = 0
        self._counting = threading.Lock()

    def _answer(self, request: Request) -> kucoin.Fault:
        if request.path != CANDLES:
            return super()._answer(request)
        with self._counting:
            self.at.append(time.monotonic())
            self._busy += 1
            self.most = max(self.most, self._busy)
        self._closing.wait(self.seconds)
        answer = super()._answer(request)
        with self._counting:
            self._busy -= 1
        return answer


@pytest.fixture
def server() -> Iterator[SlowKucoin]:
    with SlowKucoin() as running:
        yield running


def wanted(server: SlowKucoin, names: tuple[str, ...] = NAMES, **settings: float) -> list[Wanted]:
    venue = ExchangeVenue("main", CcxtVenue(kind="ccxt", exchange="kucoin", api_url=server.url, **settings), retry=FAST)
    return [Wanted(venue, name, DAY) for name in names]


def candles(got: Collected | VenueError) -> pl.DataFrame:
    """Without the moment of the answer, which is another one each time."""
    assert isinstance(got, Collected), got
    return got.candles.drop("observed_at")


def test_many_at_once_bring_the_candles_of_one_after_the_other_in_the_order_asked_for(server: SlowKucoin) -> None:
    asked = wanted(server)
    answers = list(collect_each(asked, SETTINGS))
    assert [one for one, _ in answers] == asked
    assert 3 <= server.most <= SETTINGS.at_once
    assert (server.count(TIMESTAMP), server.count(SYMBOLS)) == (1, 1)
    for one, got in answers:
        assert candles(got).equals(candles(collect(one.venue, one.symbol, one.span, SETTINGS)))
        assert candles(got).height == DAY.bars


def test_the_limit_of_the_venue_is_kept_in_every_window_whoever_asks(server: SlowKucoin) -> None:
    server.seconds = 0.0
    list(collect_each(wanted(server, NAMES * 3, requests_per_second=40.0), SETTINGS))
    at = np.array(server.at)
    assert at.size == 24
    for width in (0.1, 0.25):
        # What the client sends evenly may arrive in bunches on a busy computer.
        assert max(((at >= begin) & (at < begin + width)).sum() for begin in at) <= 40 * width + 5
    assert at.max() - at.min() >= 23 / 40 - 0.1


@pytest.mark.long
def test_a_venue_that_says_too_many_slows_all_and_loses_nothing(server: SlowKucoin) -> None:
    server.seconds = 0.0
    server.faults = [kucoin.TOO_MANY_REQUESTS] * 6
    answers = list(collect_each(wanted(server), SETTINGS))
    assert server.faults == []
    assert all(candles(got)["status"].unique().to_list() == ["TRADED"] for _, got in answers)
    assert all(isinstance(got, Collected) and got.error is None for _, got in answers)


def test_a_pace_that_was_refused_waits_and_then_goes_at_half_the_speed_once_for_all_calls_of_that_moment() -> None:
    pace = Pace(0.01, 0.1, 1.0)
    pace.take()
    asked = time.monotonic()
    for _ in range(5):
        pace.slow_down(asked)
    pace.take()
    held = time.monotonic()
    pace.take()
    assert 0.1 <= held - asked < 0.6
    assert time.monotonic() - held >= 0.02


def test_a_pause_is_made_up_for_only_where_it_is_asked_for_and_until_a_refusal() -> None:
    now = time.monotonic()

    def asked_at_once(pace: Pace, credit: float) -> int:
        for number in range(9):
            try:
                pace.take(until=time.monotonic() + 1, credit=credit)
            except TooLate:
                return number
        return 9

    for credit, number in ((0.0, 1), (200.0, 3), (500.0, 5)):
        pace = Pace(100.0, 0.1, 1.0)
        pace._next = now - 450.0
        assert asked_at_once(pace, credit) == number
    refused = Pace(100.0, 0.0, 0.0)
    refused.slow_down(time.monotonic())
    refused._next = now - 450.0
    assert asked_at_once(refused, 500.0) == 1


def test_a_market_that_fails_stops_no_other(server: SlowKucoin) -> None:
    asked = wanted(server, (NAMES[0], "NOPE-USDT", NAMES[1]))
    first, nope, last = (got for _, got in collect_each(asked, SETTINGS))
    assert isinstance(nope, VenueError)
    assert "NOPE-USDT is no spot market" in str(nope)
    assert candles(first).height == candles(last).height == DAY.bars


def test_it_runs_ahead_by_a_bounded_number_and_stops_when_it_is_closed(server: SlowKucoin) -> None:
    server.seconds = 0.0
    answers = collect_each(wanted(server, NAMES * 8), CandlesConfig(late_bar_wait_seconds=0, at_once=2))
    for _ in range(3):
        next(answers)
    deadline = time.monotonic() + 10
    while server.count(CANDLES) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.count(CANDLES) == 7
    answers.close()
    threads = [one for one in threading.enumerate() if one.name == "candles"]
    for thread in threads:
        thread.join(10)
    assert server.count(CANDLES) == 7


def test_spans_of_the_past_cut_by_month_are_the_same_as_in_one_piece(server: SlowKucoin) -> None:
    server.seconds = 0.0
    whole = Span(DAY.end - timedelta(days=25), DAY.end)
    (one,) = wanted(server, NAMES[:1])
    parts = [Wanted(one.venue, one.symbol, part) for part in whole.months()]
    pieces = pl.concat([candles(got) for _, got in collect_each(parts, SETTINGS)])
    assert len(parts) == 2
    assert pieces.equals(candles(collect(one.venue, one.symbol, whole, SETTINGS)))
    assert pieces["open_time"].diff().drop_nulls().unique().to_list() == [BAR]


class Dying:
    """A venue whose answers end the worker, or never come.

    Attributes:
        name: of the venue.
        error: what is raised; None: it hangs until it is let go.
    """

    simulated = False

    def __init__(self, error: BaseException | None) -> None:
        self.name = "main"
        self.error = error
        self.let_go = threading.Event()

    def now(self) -> datetime:
        if self.error is not None:
            raise self.error
        self.let_go.wait(60)
        raise VenueError("let go")


class Panic(BaseException):
    """As polars' own, no Exception."""


@pytest.mark.parametrize("error", [Panic("out of range"), SystemExit(3), MemoryError(), RecursionError("deep")])
def test_whatever_ends_a_worker_is_a_line_of_its_market_and_the_others_go_on(
    server: SlowKucoin, error: BaseException
) -> None:
    server.seconds = 0.0
    healthy = wanted(server, NAMES[:2])
    asked = [healthy[0], Wanted(Dying(error), "DEAD-USDT", DAY), healthy[1]]  # type: ignore[arg-type]
    first, dead, last = (got for _, got in collect_each(asked, CandlesConfig(late_bar_wait_seconds=0, at_once=1)))
    assert isinstance(dead, VenueError)
    assert f"main: DEAD-USDT: what it sent cannot be worked with ({type(error).__name__}" in str(dead)
    assert candles(first).height == candles(last).height == DAY.bars


def test_a_worker_that_hangs_is_left_and_another_takes_its_place(server: SlowKucoin) -> None:
    server.seconds = 0.0
    hanging = Dying(None)
    healthy = wanted(server, NAMES[:2])
    asked = [Wanted(hanging, "DEAD-USDT", DAY), *healthy]  # type: ignore[arg-type]
    settings = CandlesConfig(late_bar_wait_seconds=0, at_once=1, deadline_seconds=1)
    try:
        dead, *others = (got for _, got in collect_each(asked, settings))
    finally:
        hanging.let_go.set()
    assert "main: DEAD-USDT: no answer within 1 s" in str(dead)
    assert [candles(got).height for got in others] == [DAY.bars] * 2
