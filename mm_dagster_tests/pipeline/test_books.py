"""Order books of the real ccxt client against KuCoin on loopback: a book, or the reason why there is none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR, TIME, Span, iso
from mm_dagster.market.exchange import ExchangeVenue
from mm_dagster.market.simulated import simulate
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline import books, collect
from mm_dagster.pipeline.books import ask_books, keep_books
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_days
from mm_dagster.pipeline.work import plan
from mm_dagster.tables.registry import broken_rules
from mm_dagster_tests import kucoin
from mm_dagster_tests.kucoin import BOOK, CANDLES, SYMBOLS, TICKERS, Fault, KucoinServer, book

ETH, SOL, IDLE = "ETH-USDT", "SOL-USDT", "ADA-USDT"
AS_OF = datetime(2026, 2, 3, 12, tzinfo=UTC)
NOW = AS_OF + timedelta(minutes=1)
FIGURES = [
    "mid", "half_spread_bp", "depth_reach_bp", "bid_levels", "ask_levels", "bids", "asks",
    *(f"{side}_depth_{bp}bp" for side in ("bid", "ask") for bp in (5, 10, 25, 50)),
]  # fmt: skip


def last(symbol: str) -> float:
    """What the market trades at, as the loopback exchange says it: the open of the bar in progress."""
    return float(simulate(symbol, Span(AS_OF, AS_OF + BAR))["open"][0])


def body(whose: str = ETH, **changes: Any) -> str:
    """A book as it is sent, changed."""
    sent = {**book(last(whose), int(NOW.timestamp() * 1000)), **changes}
    return json.dumps({"code": "200000", "data": sent})


def side(*levels: Any) -> Fault:
    """A book with other bids."""
    return Fault(path=BOOK, body=body(bids=list(levels)))


@pytest.fixture(scope="module")
def server() -> Iterator[KucoinServer]:
    span = Span(AS_OF - timedelta(days=60), AS_OF + timedelta(days=1))
    candles = {
        symbol: simulate(symbol, span).with_columns(pl.col("open_time").cast(TIME)) for symbol in (ETH, SOL, IDLE)
    }
    with KucoinServer(candles, NOW) as running:
        yield running


@pytest.fixture(scope="module")
def place(server: KucoinServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose candles are known, with a grid on two markets that runs and one on a third that waits."""
    folder = tmp_path_factory.mktemp("books")
    (folder / "configuration" / "grids").mkdir(parents=True)
    venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": server.url}
    markets = {
        "venues": {"main": venue},
        "markets": [{"symbol": symbol, "venue": "main"} for symbol in (ETH, SOL, IDLE)],
        "candles": {"late_bar_wait_seconds": 0},
    }
    (folder / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    for symbol in (ETH, SOL, IDLE):
        price = last(symbol)
        grid = {
            "id": symbol.lower(), "symbol": symbol, "enabled": symbol != IDLE, "activated_at": iso(AS_OF - 8 * BAR),
            "lower": price * 0.9, "upper": price * 1.1, "levels": 10, "stop": price * 0.8, "capital": 1000,
        }  # fmt: skip
        (folder / "configuration" / "grids" / f"{symbol}.yaml").write_text(yaml.safe_dump(grid))
    collect.collect(plan(made(folder), "run", as_of=AS_OF))
    return folder


def made(folder: Path, data: str = "data") -> Project:
    """A project as a run makes one: its connections are new."""
    return Project(str(folder / "configuration"), str(folder / data))


@pytest.fixture
def project(place: Path, server: KucoinServer) -> Project:
    server.faults.clear()
    project = made(place)
    project.venues.of(ETH).now()
    server.requests.clear()
    return project


def ask(project: Project, *symbols: str, **more: float) -> list[dict[str, Any]]:
    rows = ask_books(project, symbols or (ETH,), AS_OF, **more)
    assert broken_rules(rows, "book_snapshot") == {}
    return rows.to_dicts()


@pytest.mark.slow
def test_a_book_is_kept_whole_with_its_figures(project: Project, server: KucoinServer) -> None:
    (row,) = ask(project)
    sent = book(last(ETH), int(NOW.timestamp() * 1000))
    assert row["refused"] is None
    assert row["mid"] == pytest.approx(last(ETH), rel=1e-8)
    assert row["half_spread_bp"] == pytest.approx(1.0, rel=1e-3)
    assert (row["bid_levels"], row["ask_levels"]) == (100, 100)
    assert [(f"{one['price']:.9g}", f"{one['amount']:.6g}") for one in row["bids"]] == [
        (f"{float(price):.9g}", f"{float(amount):.6g}") for price, amount in sent["bids"]
    ]
    assert row["depth_reach_bp"] == pytest.approx(100.0, rel=1e-3)
    # A level a basis point, worth 500 each.
    assert row["ask_depth_25bp"] == pytest.approx(25 * 500, rel=0.05)
    assert row["bid_depth_50bp"] == pytest.approx(50 * 500, rel=0.05)
    assert row["update_id"] == sent["sequence"]
    assert row["observed_at"] == NOW
    assert NOW <= row["asked_at"] < NOW + timedelta(seconds=30)
    assert (row["venue"], row["source"], row["as_of"]) == ("main", "ccxt:kucoin", AS_OF)
    (request,) = [one for one in server.requests if one.path == BOOK]
    assert request.query == {"symbol": ETH}


def test_fewer_levels_than_asked_for_are_said_and_what_is_beyond_them_is_null(
    project: Project, server: KucoinServer
) -> None:
    few = book(last(ETH), int(NOW.timestamp() * 1000), levels=7)
    server.faults = [Fault(path=BOOK, body=json.dumps({"code": "200000", "data": few}))]
    (row,) = ask(project)
    assert (row["bid_levels"], row["ask_levels"]) == (7, 7)
    assert row["bid_depth_5bp"] > 0
    assert [row[f"bid_depth_{bp}bp"] for bp in (10, 25, 50)] == [None] * 3


def test_levels_in_the_other_order_are_the_same_book(project: Project, server: KucoinServer) -> None:
    sent = book(last(ETH), int(NOW.timestamp() * 1000))
    server.faults = [Fault(path=BOOK, body=body(bids=sent["bids"][::-1], asks=sent["asks"][::-1]))]
    (turned,) = ask(project)
    (row,) = ask(project)
    assert {**turned, "asked_at": None} == {**row, "asked_at": None}


HUGE = json.dumps({"code": "200000", "data": {"bids": [["1", "1"]] * 6_000, "asks": [["2", "1"]]}})
PRICE = last(ETH)
FAULTS = {
    "429": (Fault(429, kucoin.TOO_MANY_REQUESTS.body, BOOK), r"too many requests \(HTTP 429\)"),
    "1015": (Fault(429, kucoin.CLOUDFLARE_1015.body, BOOK, "text/html"), r"too many requests \(HTTP 429\)"),
    "200002": (Fault(200, kucoin.TOO_BUSY.body, BOOK), "it refuses: .*200002"),
    "500": (Fault(500, "<html>oops</html>", BOOK, "text/html"), r"it is not available \(HTTP 500\)"),
    "403": (Fault(403, "<html>denied</html>", BOOK, "text/html"), r"HTTP 403|it refuses"),
    "redirect": (Fault(302, "", BOOK), "it answers with HTTP 302, a redirect to nowhere"),
    "no body": (Fault(200, "", BOOK), "an answer without content"),
    "HTML": (Fault(200, "<html>maintenance</html>", BOOK, "text/html"), "an answer without content"),
    "torn": (Fault(200, body()[:900], BOOK), "an answer without content"),
    "hang-up": (Fault(path=BOOK, hang_up=True), "no connection|broke off"),
    "unknown": (Fault(200, kucoin.UNKNOWN_SYMBOL.body, BOOK), "it refuses: .*900001"),
    "null": (Fault(200, '{"code":"200000","data":null}', BOOK), "an answer without content"),
    "a list": (Fault(200, "[1, 2]", BOOK), r"it refuses: kucoin \[1, 2\]"),
    "a number": (Fault(200, "7", BOOK), "cannot be read|without content"),
    "nested": (
        Fault(200, "[" * 100_000 + "]" * 100_000, BOOK),
        r"an answer without content|cannot be read \(RecursionError\)",
    ),
    "6,000 levels": (Fault(200, HUGE, BOOK), "an answer that cannot be read: it has 6,000 levels on a side"),
    "17 MB": (Fault(200, " " * (17 * 2**20), BOOK), "an answer of more than 16,777,216 bytes"),
    "no bids": (side(), "no order book: it has no bids"),
    "no asks": (Fault(path=BOOK, body=body(asks=[])), "no order book: it has no asks"),
    "no sides": (
        Fault(path=BOOK, body=json.dumps({"code": "200000", "data": {"bids": [], "asks": []}})),
        "it has no bids",
    ),
    "crossed": (side([f"{PRICE * 1.01:.4f}", "1"]), "it is crossed: the best bid .* is not below the best ask"),
    "locked": (side([book(PRICE, 0)["asks"][0][0], "1"]), "it is crossed"),
    "unsorted": (
        side([f"{PRICE * 0.98}", "1"], [f"{PRICE * 0.99}", "1"], [f"{PRICE * 0.97}", "1"]),
        "its bids are not in the order of their prices",
    ),
    "twice": (
        side([f"{PRICE * 0.99:.2f}", "1"], [f"{PRICE * 0.99:.2f}", "2"]),
        "two of its bids have the same price",
    ),
    "price 0": (side([f"{PRICE * 0.99}", "1"], ["0", "1"]), "one of its bids is no price and amount: 0, 1"),
    "amount 0": (side([f"{PRICE * 0.99}", "0"]), "one of its bids is no price and amount"),
    "negative": (side([f"-{PRICE * 0.99}", "1"]), "one of its bids is no price and amount"),
    "NaN": (side([f"{PRICE * 0.99}", "nan"]), "one of its bids is no price and amount"),
    "infinite": (side([f"{PRICE * 0.99}", "1e999"]), "one of its bids is no price and amount"),
    "null level": (side([f"{PRICE * 0.99}", None]), "one of its bids is no price and amount"),
    "true": (side([f"{PRICE * 0.99}", True]), "one of its bids is no price and amount"),
    "underscore": (side([f"{PRICE * 0.99}", "1_000"]), "one of its bids is no price and amount"),
    "words": (side(["cheap", "much"]), "one of its bids is no price and amount"),
    "short level": (side([f"{PRICE * 0.99}"]), "one of its bids is no price and amount"),
    "empty level": (side([]), "one of its bids is no price and amount"),
    "a level of text": (side("soon"), "one of its levels is no price and amount: 'soon'"),
    "a level of numbers": (side(1, 2), "one of its levels is no price and amount: 1"),
    "text": (Fault(path=BOOK, body=body(bids="none")), "a side of it is no list of levels but str"),
    "an object": (Fault(path=BOOK, body=body(bids={"1": "2"})), "a side of it is no list of levels but dict"),
    "stale": (
        Fault(path=BOOK, body=body(time=int(NOW.timestamp() * 1000) - 120_000)),
        "no order book: it is stale: 2 min old when it was asked for",
    ),
    "ahead": (Fault(path=BOOK, body=body(time=int(NOW.timestamp() * 1000) + 300_000)), "its time is 4 min ahead of"),
    "10**18": (Fault(path=BOOK, body=body(time=10**18)), "its time is none: 1000000000000000000"),
    "seconds": (Fault(path=BOOK, body=body(time=int(NOW.timestamp()))), "it is stale: .* days old"),
    "another's price": (Fault(path=BOOK, body=body(SOL)), "it is absurd, or another market's: its mid is .* farther"),
    "another's name": (Fault(path=BOOK, body=body(symbol=SOL)), "the answer is about 'SOL-USDT'"),
    "x1000": (
        Fault(path=BOOK, body=json.dumps({"code": "200000", "data": book(PRICE * 1000, int(NOW.timestamp() * 1000))})),
        "it is absurd, or another market's",
    ),
    "wide": (
        Fault(path=BOOK, body=body(bids=[[f"{PRICE * 0.8:.2f}", "1"]], asks=[[f"{PRICE * 1.2:.2f}", "1"]])),
        "it is absurd: its best prices, .* are 4,000 bp apart",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_no_number_comes_of_a_fault_but_a_sentence(project: Project, server: KucoinServer, name: str) -> None:
    fault, why = FAULTS[name]
    server.faults = [fault]
    (row,) = ask(project)
    assert [row[figure] for figure in FIGURES] == [None] * len(FIGURES)
    assert row["refused"].startswith("main")
    assert f"{ETH}: no order book: " in row["refused"]
    assert "\n" not in row["refused"]
    assert pl.Series([row["refused"]]).str.contains(why)[0], row["refused"]
    assert server.count(BOOK) == 1
    assert (row["asked_at"], row["source"]) != (None, None)
    # The next answer is a book, and nothing else is left alone.
    if fault.status != 429 and name != "200002":
        assert ask(project)[0]["mid"] is not None
    answer = project.venues.of(ETH).fetch(ETH, Span(AS_OF - 2 * BAR, AS_OF))
    assert answer.error is None


def test_what_hangs_is_late_alone_and_the_others_are_there_in_time(project: Project, server: KucoinServer) -> None:
    server.faults = [Fault(path=BOOK, body=body(), stall_seconds=30)]
    begun = time.monotonic()
    found = ask(project, ETH, SOL, IDLE, seconds=1.5)
    assert time.monotonic() - begun < 10
    assert sorted(row["mid"] is None for row in found) == [False, False, True]
    (late,) = [row["refused"] for row in found if row["refused"]]
    assert "no order book: no" in late
    assert "answer" in late
    assert "1.5 s" in late


def test_after_too_many_requests_no_other_book_is_asked_for_and_candles_still_are(
    project: Project, server: KucoinServer
) -> None:
    venue = project.venues.of(ETH)
    assert isinstance(venue, ExchangeVenue)
    server.faults = [Fault(429, kucoin.TOO_MANY_REQUESTS.body, BOOK)] * 99
    with pytest.raises(VenueError, match=r"too many requests \(HTTP 429\)"):
        venue.order_book(ETH, 5.0)
    for _ in range(3):
        with pytest.raises(VenueError, match="not asked for, since another one was one too many requests a moment ago"):
            venue.order_book(SOL, 5.0)
    assert server.count(BOOK) == 1
    assert venue.fetch(SOL, Span(AS_OF - 2 * BAR, AS_OF)).error is None


def test_many_failures_of_books_leave_the_circuit_of_candles_closed(project: Project, server: KucoinServer) -> None:
    venue = project.venues.of(ETH)
    server.faults = [Fault(500, "", BOOK)] * 9
    for _ in range(9):
        with pytest.raises(VenueError, match="it is not available"):
            venue.order_book(ETH, 5.0)
    assert server.count(BOOK) == 9
    assert venue.fetch(ETH, Span(AS_OF - 2 * BAR, AS_OF)).error is None
    assert server.count(CANDLES) == 1


def test_a_turn_that_does_not_come_in_time_is_given_up_and_nothing_is_asked(
    place: Path, server: KucoinServer, project: Project
) -> None:
    venue = project.venues.of(ETH)
    assert isinstance(venue, ExchangeVenue)
    venue.fetch(ETH, Span(AS_OF - 2 * BAR, AS_OF))
    venue._connection._pace._next = time.monotonic() + 60
    with pytest.raises(VenueError, match=r"its turn did not come within 0\.5 s"):
        venue.order_book(ETH, 0.5)
    assert server.count(BOOK) == 0


def test_a_crash_in_the_bar_in_progress_is_a_book_and_no_fault(project: Project, server: KucoinServer) -> None:
    candles = server.candles[ETH]
    fallen = pl.when(pl.col("open_time") >= AS_OF).then(0.5).otherwise(1.0)
    crashed = candles.with_columns(pl.col("open", "high", "low", "close") * fallen)
    server.candles[ETH] = crashed
    try:
        (row,) = ask(project)
    finally:
        server.candles[ETH] = candles
    assert row["refused"] is None
    assert row["mid"] == pytest.approx(last(ETH) / 2, rel=1e-6)
    asked = [request.path for request in server.requests]
    assert len([path for path in asked if path in (TICKERS, kucoin.STATS, kucoin.TICKER)]) == 1


def test_every_market_has_its_row_when_nothing_answers(place: Path, server: KucoinServer) -> None:
    project = made(place)
    server.faults = [Fault(503, "", path) for path in (SYMBOLS, BOOK) for _ in range(20)]
    found = ask(project, ETH, SOL, IDLE)
    server.faults.clear()
    assert [row["mid"] for row in found] == [None] * 3
    assert all("it is not available (HTTP 503)" in row["refused"] for row in found)


def test_a_worker_that_dies_is_a_line_of_its_market(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    true = ExchangeVenue.order_book

    def die(self: ExchangeVenue, symbol: str, seconds: float) -> Any:
        if symbol == ETH:
            raise Panic("of a library")
        return true(self, symbol, seconds)

    monkeypatch.setattr(ExchangeVenue, "order_book", die)
    dead, alive = ask(project, ETH, SOL)
    assert dead["refused"] == f"{ETH}: no order book: what was sent cannot be worked with (Panic: of a library)"
    assert alive["mid"] is not None


# the tick -------------------------------------------------------------------------------------------------------------


def keep(project: Project, as_of: datetime = AS_OF) -> tuple[pl.DataFrame, bool, str]:
    rows, finding = keep_books(plan(project, "run", as_of=as_of))
    return rows, finding.passed, finding.sentence


def test_a_tick_keeps_the_books_of_the_markets_whose_grids_run(project: Project, server: KucoinServer) -> None:
    server.faults = [Fault(path=BOOK, body=body(bids=[]))]
    rows, passed, sentence = keep(project)
    assert not passed
    assert sentence.endswith("no order book: it has no bids")
    stored = project.lake.read("book_snapshot")
    assert stored["symbol"].to_list() == [ETH, SOL]
    assert stored.equals(rows.sort("symbol"))
    assert stored["mid"].null_count() == 1
    # The same tick again has a book by now, and replaces its rows.
    rows, passed, sentence = keep(made(Path(project.config_dir).parent))
    assert (passed, sentence) == (True, "2 order books read.")
    assert project.lake.read("book_snapshot")["mid"].null_count() == 0


def test_a_tick_of_the_past_and_a_backfill_know_no_book(place: Path, server: KucoinServer) -> None:
    project = made(place, "past")
    assert project.lake.read("book_snapshot").is_empty()
    server.requests.clear()
    rows, passed, sentence = keep(project, AS_OF - 4 * BAR)
    assert rows.is_empty()
    assert passed
    assert "nobody can ask for now" in sentence
    run_days(project, Span(AS_OF - BAR, AS_OF), stages=["book_snapshot"])
    assert project.lake.read("book_snapshot").is_empty()
    assert server.count(BOOK) == 0


def test_without_a_running_grid_the_check_says_so(place: Path, tmp_path: Path, server: KucoinServer) -> None:
    (tmp_path / "configuration").mkdir()
    (tmp_path / "configuration" / "markets.yaml").write_text((place / "configuration" / "markets.yaml").read_text())
    _, passed, sentence = keep(made(tmp_path))
    assert (passed, sentence) == (True, "No grid runs, so no order book was asked for.")


@pytest.mark.parametrize("where", ["ask_books", "figures", "_closes"])
def test_whatever_happens_the_tick_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, where: str, server: KucoinServer
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr(books, where, fail)
    rows, passed, sentence = keep(project)
    assert rows.is_empty()
    assert not passed
    assert sentence == "No order book is stored (ZeroDivisionError: of nothing)."


def test_a_recording_has_no_book_and_a_simulated_market_has_a_made_one(tmp_path: Path) -> None:
    (tmp_path / "configuration").mkdir()
    (tmp_path / "recordings").mkdir()
    markets = {
        "venues": {"sim": {"kind": "simulated"}, "files": {"kind": "recorded", "path": "../recordings"}},
        "markets": [{"symbol": ETH, "venue": "sim"}, {"symbol": SOL, "venue": "files"}],
    }
    (tmp_path / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    project = made(tmp_path)
    collect.collect(plan(project, "run", as_of=AS_OF, symbols=[ETH]))
    made_up, none = ask(project, ETH, SOL)
    assert made_up["source"].startswith("simulated:")
    assert made_up["bid_levels"] == 100
    assert made_up["mid"] == pytest.approx(project.venues.of(ETH).last_prices([ETH])[ETH], rel=1e-3)
    assert none["refused"] == f"files: {SOL}: no order book: a recording of candles has none"


def test_the_made_book_is_the_same_for_everybody() -> None:
    from mm_dagster.market.simulated import SimulatedMarket

    at: Callable[[], datetime] = lambda: datetime(2026, 6, 29, 16, 46, 5, tzinfo=UTC)  # noqa: E731
    one, two = (SimulatedMarket("sim", at).order_book(ETH, 1.0) for _ in range(2))
    assert one == two
    assert one.bids[0] == (2709.5, pytest.approx(one.bids[0][1]))
    assert one.update_id == "9904175"
