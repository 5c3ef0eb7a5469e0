"""The real ccxt client against KuCoin on loopback, fed with real candles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.config.markets import CandlesConfig, CcxtVenue, RecordedVenue, SimulatedVenue
from mm_dagster.market.collect import collect
from mm_dagster.market.connection import Retry
from mm_dagster.market.exchange import ExchangeVenue
from mm_dagster.market.open import open_venue
from mm_dagster.market.venue import ROWS, VenueError
from mm_dagster.tables.market import MarketRules
from mm_dagster_tests import kucoin
from mm_dagster_tests.kucoin import CANDLES, SYMBOLS, TIMESTAMP, Fault, KucoinServer

NOW = datetime(2025, 12, 20, 12, 1, tzinfo=UTC)
FAST = Retry(attempts=3, first_wait=0.005, longest_wait=0.01, jitter=0.0)
HOURS = Span(datetime(2025, 12, 20, 6, tzinfo=UTC), datetime(2025, 12, 20, 12, tzinfo=UTC))


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, pl.DataFrame]:
    """Real KuCoin candles, in the types of an answer."""
    folder = shared_data / "candles" / "kucoin"
    return {
        symbol: pl.read_parquet(folder / symbol / "15m.parquet").with_columns(pl.col("open_time").cast(TIME))
        for symbol in ("ETH-USDT", "ATOM-USDT")
    }


@pytest.fixture
def server(real: dict[str, pl.DataFrame]) -> Iterator[KucoinServer]:
    with KucoinServer(real, NOW) as running:
        yield running


@pytest.fixture
def connect(server: KucoinServer) -> Callable[..., ExchangeVenue]:
    def connected(timeout_seconds: float = 5.0) -> ExchangeVenue:
        settings = CcxtVenue(kind="ccxt", exchange="kucoin", api_url=server.url, timeout_seconds=timeout_seconds)
        return ExchangeVenue("main", settings, retry=FAST)

    return connected


def closed(real: dict[str, pl.DataFrame], symbol: str, span: Span) -> pl.DataFrame:
    return real[symbol].filter(span.opens() & (pl.col("volume") != 0)).select(ROWS.names())


def test_fetched_candles_are_the_real_ones_bit_for_bit(connect, real) -> None:
    answer = connect().fetch("ETH-USDT", HOURS)
    assert answer.rows.equals(closed(real, "ETH-USDT", HOURS))
    assert answer.answered == (HOURS,)
    assert answer.error is None


@pytest.mark.parametrize("end_is_included", [True, False])
def test_three_pages_bring_every_bar_whether_the_exchange_counts_the_end_in_or_not(
    server, connect, real, end_is_included: bool
) -> None:
    server.end_is_included = end_is_included
    span = Span(HOURS.end - 4_000 * BAR, HOURS.end)
    answer = connect().fetch("ETH-USDT", span)
    assert answer.rows.equals(closed(real, "ETH-USDT", span))
    assert answer.rows.height == 4_000
    assert answer.answered == (span,)
    assert server.count(CANDLES) == 3


def test_only_spot_markets_are_loaded_once_and_nothing_heavier(server, connect) -> None:
    venue = connect()
    venue.now()
    venue.fetch("ETH-USDT", HOURS)
    venue.fetch("ATOM-USDT", HOURS)
    assert {request.path for request in server.requests} == {TIMESTAMP, SYMBOLS, CANDLES}
    assert server.count(SYMBOLS) == 1


def test_an_empty_page_before_the_listing_is_an_answer_and_not_the_end(server, connect, real) -> None:
    start = real["ETH-USDT"]["open_time"][0]
    span = Span(start - 3_000 * BAR, start + 10 * BAR)
    answer = connect().fetch("ETH-USDT", span)
    assert answer.rows["open_time"].to_list() == [start + n * BAR for n in range(10)]
    assert answer.answered == (span,)


def test_the_bar_in_progress_is_sent_by_the_exchange_and_never_stored(server, connect) -> None:
    span = Span(HOURS.start, HOURS.end + 4 * BAR)
    venue = connect()
    assert venue.fetch("ETH-USDT", span).rows["open_time"].max() == HOURS.end
    got = collect(venue, "ETH-USDT", span, CandlesConfig(), wait=pytest.fail)
    assert got.candles["open_time"].max() == HOURS.end - BAR
    assert got.candles["status"].unique().to_list() == ["TRADED"]


def test_an_interval_without_a_trade_is_no_trade_at_the_close_before(connect, real) -> None:
    quiet = real["ATOM-USDT"].filter(pl.col("volume") == 0)["open_time"]
    alone = next(t for t in quiet if t - BAR not in quiet and t < NOW - timedelta(days=1))
    got = collect(connect(), "ATOM-USDT", Span(alone - BAR, alone + BAR), CandlesConfig())
    before, row = got.candles.rows(named=True)
    assert row["status"] == "NO_TRADE"
    assert [row[name] for name in ("open", "high", "low", "close")] == [before["close"]] * 4
    assert row["volume"] == 0.0


@pytest.mark.parametrize(
    "fault",
    [
        kucoin.TOO_MANY_REQUESTS,
        kucoin.CLOUDFLARE_1015,
        kucoin.INTERNAL_ERROR,
        kucoin.TOO_BUSY,
        kucoin.EMPTY_BODY,
        kucoin.NOT_JSON,
        Fault(200, '{"code":"200000","data":null}'),
        Fault(200, '{"code":"200000","data":[["soon","1","1","1","1","1","1"]]}'),
        kucoin.HANG_UP,
        Fault(200, '{"code":"200000","data":[]}', stall_seconds=1.0),
    ],
    ids=["429000", "1015", "500", "200002", "empty", "html", "null", "unreadable", "hang-up", "stall"],
)
def test_what_may_pass_is_tried_again_until_it_passes_or_is_reported(server, connect, real, fault: Fault) -> None:
    venue = connect(timeout_seconds=0.25)
    server.faults = [fault]
    assert venue.fetch("ETH-USDT", HOURS).rows.equals(closed(real, "ETH-USDT", HOURS))
    assert server.count(CANDLES) == 2
    server.faults = [fault] * FAST.attempts
    answer = venue.fetch("ETH-USDT", HOURS)
    assert answer.rows.is_empty()
    assert answer.answered == ()
    assert "ETH-USDT" in answer.error
    assert server.url in answer.error
    assert "\n" not in answer.error
    assert server.count(CANDLES) == 2 + FAST.attempts


@pytest.mark.parametrize("fault", [kucoin.BAD_REQUEST, kucoin.FORBIDDEN], ids=["400100", "403"])
def test_what_will_not_pass_is_asked_once(server, connect, fault: Fault) -> None:
    server.faults = [fault] * 9
    answer = connect().fetch("ETH-USDT", HOURS)
    assert answer.answered == ()
    assert answer.error
    assert server.count(CANDLES) == 1


def test_a_symbol_that_the_candles_call_does_not_know_is_an_error_at_once(server, connect) -> None:
    server.faults = [kucoin.UNKNOWN_SYMBOL]
    with pytest.raises(VenueError, match=r"ETH-USDT.*no such market"):
        connect().fetch("ETH-USDT", HOURS)
    assert server.count(CANDLES) == 1


def test_a_misspelt_symbol_is_an_error_that_names_the_right_one(connect) -> None:
    with pytest.raises(VenueError, match=r"ETH-USTD is no spot market of it; did you mean ETH-USDT\?"):
        connect().fetch("ETH-USTD", HOURS)


def test_a_page_that_fails_leaves_a_hole_that_is_not_answered(server, connect, real) -> None:
    span = Span(HOURS.end - 4_000 * BAR, HOURS.end)
    venue = connect()
    venue.fetch("ETH-USDT", HOURS)
    server.faults = [kucoin.TOO_BUSY] * FAST.attempts
    answer = venue.fetch("ETH-USDT", span)
    assert answer.answered == (Span(span.start + 1_500 * BAR, span.end),)
    assert answer.rows.equals(closed(real, "ETH-USDT", answer.answered[0]))
    got = collect(venue, "ETH-USDT", span, CandlesConfig())
    assert got.candles["status"].unique().to_list() == ["TRADED"]


def test_after_three_failed_calls_the_exchange_is_left_alone_for_the_tick(server, connect) -> None:
    venue = connect()
    assert venue.now() >= NOW
    server.faults = [kucoin.INTERNAL_ERROR] * 99
    for _ in range(3):
        venue.fetch("ETH-USDT", HOURS)
    asked = len(server.requests)
    answer = venue.fetch("ATOM-USDT", HOURS)
    assert "left alone for this tick, since it is not available (HTTP 500)" in answer.error
    assert venue.last_prices(["ETH-USDT"]) == {"ETH-USDT": None}
    assert len(server.requests) == asked


def test_a_success_in_between_closes_the_circuit_again(server, connect) -> None:
    venue = connect()
    for _ in range(3):
        server.faults = [kucoin.INTERNAL_ERROR] * FAST.attempts
        assert venue.fetch("ETH-USDT", HOURS).error
        assert venue.fetch("ETH-USDT", HOURS).error is None


def test_the_clock_is_the_exchange_s(server, connect) -> None:
    venue = connect()
    assert timedelta(0) <= venue.now() - NOW < timedelta(seconds=5)
    venue.now()
    assert server.count(TIMESTAMP) == 1
    with pytest.raises(VenueError, match=r"the computer's clock is \d+ days (behind|ahead of) its own; set it, by NTP"):
        venue.check()


@pytest.mark.parametrize("symbols", [("ETH-USDT", "ATOM-USDT"), ("NOPE-USDT", "ETH-USDT")])
@pytest.mark.parametrize(
    "off", [timedelta(days=1), timedelta(hours=1), timedelta(days=-1), timedelta(hours=-1), timedelta(days=-20_000)]
)
def test_of_two_clocks_that_are_far_apart_the_candles_tell_which_is_right(
    server, monkeypatch, off: timedelta, symbols: tuple[str, ...]
) -> None:
    class Ours(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return ours

    def clock(told: datetime) -> datetime:
        settings = CcxtVenue(kind="ccxt", exchange="kucoin", api_url=server.url)
        venue = ExchangeVenue("main", settings, retry=FAST, markets=symbols)
        monkeypatch.setattr(venue._connection, "now", lambda: told)
        assert abs(venue.now() - venue.now()) < timedelta(seconds=5)
        return venue.now()

    monkeypatch.setattr("mm_dagster.market.exchange.datetime", Ours)
    ours = NOW
    assert abs(clock(NOW + off) - NOW) < timedelta(seconds=5)
    ours = NOW + off
    assert abs(clock(NOW) - NOW) < timedelta(seconds=5)
    # Without an answer nothing speaks against the exchange.
    ours = NOW
    server.faults = [replace(kucoin.FORBIDDEN, path="")] * 100
    assert clock(NOW + off) == NOW + off


@pytest.mark.parametrize("fault", [kucoin.INTERNAL_ERROR, kucoin.EMPTY_BODY], ids=["500", "empty"])
def test_without_the_exchange_s_time_all_is_missing_and_nothing_is_asked(server, connect, fault: Fault) -> None:
    server.faults = [replace(fault, path=TIMESTAMP)] * 99
    got = collect(connect(), "ETH-USDT", HOURS, CandlesConfig())
    assert got.candles["status"].to_list() == ["MISSING"] * HOURS.bars
    assert got.candles["observed_at"].null_count() == HOURS.bars
    assert "does not tell the time" in got.error
    assert server.count(CANDLES) == 0


@pytest.mark.parametrize("fault", [kucoin.EMPTY_BODY, kucoin.TOO_BUSY], ids=["empty", "200002"])
def test_markets_that_cannot_be_loaded_do_not_make_a_symbol_unknown(server, connect, fault: Fault) -> None:
    server.faults = [replace(fault, path=SYMBOLS)] * FAST.attempts
    venue = connect()
    answer = venue.fetch("ETH-USDT", HOURS)
    assert answer.answered == ()
    assert answer.error
    assert venue.fetch("ETH-USDT", HOURS).error is None


def test_the_last_price_is_the_newest_trade(server, connect, real) -> None:
    in_progress = real["ETH-USDT"].filter(pl.col("open_time") == HOURS.end)["open"].item()
    assert connect().last_prices(["ETH-USDT"]) == {"ETH-USDT": in_progress}
    assert connect().last_prices(["ETH-USTD"]) == {"ETH-USTD": None}


def test_several_last_prices_are_one_question(server, connect, real) -> None:
    alone = {symbol: connect().last_prices([symbol])[symbol] for symbol in ("ETH-USDT", "ATOM-USDT")}
    venue = connect()
    asked = server.count(kucoin.TICKERS)
    found = venue.last_prices(["ETH-USDT", "ATOM-USDT", "ETH-USTD"])
    assert found == {**alone, "ETH-USTD": None}
    assert None not in alone.values()
    assert server.count(kucoin.TICKERS) == asked + 1


def test_a_newest_bar_that_is_late_is_asked_for_again(server, connect, real) -> None:
    all_of_it = server.candles["ETH-USDT"]
    server.candles["ETH-USDT"] = all_of_it.filter(pl.col("open_time") < HOURS.end - BAR)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            server.candles["ETH-USDT"] = all_of_it

    got = collect(connect(), "ETH-USDT", HOURS, CandlesConfig(), wait=wait)
    assert waits == [5.0, 5.0]
    assert got.error is None
    assert got.candles["status"].unique().to_list() == ["TRADED"]
    assert got.candles.select(ROWS.names()).equals(closed(real, "ETH-USDT", HOURS))


def test_a_row_that_cannot_be_true_is_quarantined_and_the_others_are_kept(server, connect) -> None:
    broken = HOURS.start + 3 * BAR
    server.candles["ETH-USDT"] = server.candles["ETH-USDT"].with_columns(
        low=pl.when(pl.col("open_time") == broken).then(pl.col("high") * 2).otherwise("low")
    )
    got = collect(connect(), "ETH-USDT", HOURS, CandlesConfig())
    assert got.quarantined["open_time"].to_list() == [broken]
    missing = got.candles.filter(pl.col("status") == "MISSING")
    assert missing.select("open_time", "observed_at").rows() == [(broken, None)]
    assert got.holes.rows() == [(broken, False)]
    assert "it sent 1 rows that cannot be used" in str(got.error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exchange": "kukoin"}, "kukoin.*did you mean kucoin?"),
        ({"exchange": "kucoin", "api_url": "localhost:8080"}, "api_url"),
    ],
)
def test_a_venue_that_cannot_be_is_refused_when_it_is_opened(tmp_path: Path, settings, message: str) -> None:
    with pytest.raises(VenueError, match=message):
        open_venue("main", CcxtVenue(kind="ccxt", **settings), tmp_path)


def test_an_exchange_that_nobody_listens_at_says_so_without_its_password(capfd, caplog) -> None:
    # The configuration refuses such an address; the client must not need that.
    settings = CcxtVenue(kind="ccxt", exchange="kucoin").model_copy(
        update={"api_url": "http://user:secret@127.0.0.1:1"}
    )
    with pytest.raises(VenueError, match=r"http://127.0.0.1:1.*no connection") as caught:
        ExchangeVenue("main", settings, retry=FAST).check()
    written = capfd.readouterr()
    assert "secret" not in f"{caught.value} {caught.value.__context__!r} {written.out} {written.err} {caplog.text}"


def test_the_rules_of_a_market_are_the_exchange_s_and_other_venues_have_none(
    server, connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = MarketRules(price_tick=0.01, amount_lot=1e-8, amount_min=1e-5, cost_min=0.1)
    assert connect().rules("ETH-USDT") == rules
    described = kucoin._symbol
    monkeypatch.setattr(kucoin, "_symbol", lambda name: {**described(name), "minFunds": "2.5", "baseMinSize": "0"})
    assert connect().rules("ETH-USDT") == replace(rules, amount_min=None, cost_min=2.5)
    with pytest.raises(VenueError, match="did you mean ETH-USDT"):
        connect().rules("ETH-USTD")
    server.faults = [replace(kucoin.TOO_BUSY, path=SYMBOLS)] * FAST.attempts
    assert connect().rules("ETH-USDT") is None
    for settings in (SimulatedVenue(kind="simulated"), RecordedVenue(kind="recorded", path=".")):
        assert open_venue("main", settings, tmp_path).rules("ETH-USDT") is None


def test_an_exchange_that_sends_its_newest_bars_whatever_was_asked_has_not_answered_for_older_ones(
    server, connect, real
) -> None:
    newest = real["ETH-USDT"].filter(Span(HOURS.end - 8 * BAR, HOURS.end).opens()).reverse()
    rows = [
        [str(int(row[0].timestamp())), *map(str, (row[1], row[4], row[2], row[3], row[5])), "0"]
        for row in newest.rows()
    ]
    server.faults = [Fault(200, json.dumps({"code": "200000", "data": rows}))] * 3
    span = Span(HOURS.start, HOURS.end - 4 * BAR)
    answer = connect().fetch("ETH-USDT", span)
    assert answer.kept_from == HOURS.end - 8 * BAR
    assert answer.rows["open_time"].to_list() == [HOURS.end - number * BAR for number in (8, 7, 6, 5)]
    assert server.count(CANDLES) == 3


def test_another_exchange_is_asked_with_until_in_milliseconds_and_keeps_its_paths(server) -> None:
    venue = ExchangeVenue("main", CcxtVenue(kind="ccxt", exchange="binance", api_url=server.url), retry=FAST)
    answer = venue.fetch("ETH-USDT", HOURS)
    assert answer.error
    assert {request.path for request in server.requests} == {"/api/v3/exchangeInfo"}
