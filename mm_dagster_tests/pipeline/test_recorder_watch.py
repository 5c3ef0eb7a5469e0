"""Who is told that the recorder does not work: once, not in its first moments, and again when it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.alerts.failures import failure, unsent_failures
from mm_dagster.alerts.message import failure as words
from mm_dagster.bars import BAR, Span
from mm_dagster.pipeline import book_findings, recorder_watch
from mm_dagster.pipeline.book_findings import CLOCK, of_segments
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.recorder_watch import SHORT_LASTS, standing, watch
from mm_dagster.pipeline.venues import Venues
from mm_dagster.recorder.places import root_of
from mm_dagster.recorder.status import MarketStatus, Status, write_whole
from mm_dagster.tables.registry import empty
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.pipeline.recorder import ns

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BOOKS = {
    "record": True,
    "feeds": [
        {"exchange": "kucoin", "markets": ["ETH-USDT", "SOL-USDT"]},
        {"exchange": "binance", "markets": ["ETH-USDT"]},
    ],
    "silent_seconds": 30,
    "free_gib": 5,
}  # fmt: skip


def market(exchange: str, symbol: str, last: datetime, **more: object) -> MarketStatus:
    told: dict[str, object] = {
        "phase": "IN_SYNC", "reasons": (), "written": 10, "lost": 0, "per_second": 1.0, "gaps": 0, "reconnects": 0,
        "problem": None, "clock_offset_ms": None, "file": None, "file_bytes": 0,
    }  # fmt: skip
    return MarketStatus(exchange=exchange, symbol=symbol, last_recv_ns=ns(last), **{**told, **more})  # type: ignore[arg-type]


class Watched:
    """A project with a recorder that says what a test wants, and a sensor that looks every ten seconds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        configure(folder)
        self.folder = folder
        self.books(BOOKS)
        self.now = NOON
        self.memory: str | None = None
        monkeypatch.setattr(Venues, "real_clock", lambda _: self.now)
        for module in (recorder_watch, book_findings):
            monkeypatch.setattr(module, "now_here", lambda: self.now)
        root_of(folder / "data").mkdir(parents=True)
        self.started = NOON - timedelta(hours=5)
        self.changes: Callable[[Status], Status] = lambda status: status
        self.is_dead = False

    def books(self, content: dict[str, object]) -> None:
        (self.folder / "configuration" / "books.yaml").write_text(yaml.safe_dump(content))

    def project(self) -> Project:
        return Project(str(self.folder / "configuration"), str(self.folder / "data"))

    def status(self) -> Status:
        markets = tuple(
            market(exchange, symbol, self.now)
            for exchange, symbol in (("kucoin", "ETH-USDT"), ("kucoin", "SOL-USDT"), ("binance", "ETH-USDT"))
        )
        return Status(ns(self.now), True, 1, ns(self.started), "1", 10 * 2**30, markets)

    def passes(self, seconds: float, each: float = 10) -> list[str]:
        """So long goes by; what was told meanwhile."""
        told = []
        for _ in range(round(seconds / each)):
            self.now += timedelta(seconds=each)
            if not self.is_dead:
                write_whole(root_of(self.folder / "data"), self.changes(self.status()))
            self.memory, count = watch(self.project(), self.memory)
            told += self.told()[-count:] if count else []
        return told

    def told(self) -> list[str]:
        rows = self.project().lake.read("notification").filter(pl.col("kind") == "FAILURE").sort("created_at", "as_of")
        return rows["state"].to_list()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


def with_market(status: Status, place: int, **more: object) -> Status:
    markets = list(status.markets)
    markets[place] = replace(markets[place], **more)  # type: ignore[arg-type]
    return replace(status, markets=tuple(markets))


@pytest.mark.slow
def test_a_dead_recorder_is_told_once_after_its_silence_and_that_it_works_again(watched: Watched) -> None:
    assert watched.passes(120) == []
    watched.is_dead = True
    assert watched.passes(30) == []
    (said,) = watched.passes(20)
    assert said.startswith("recorder: nothing was heard of it since 2026-02-03T12:02:00Z: start `mm record`")
    assert watched.passes(3600, each=60) == []
    watched.is_dead = False
    watched.started = watched.now
    assert watched.passes(20) == []
    (over,) = watched.passes(40)
    assert over.startswith("recorder DONE: It works again since 2026-02-03T13:0")
    assert watched.passes(600) == []


def test_one_that_never_ran_is_told_after_the_first_moments(watched: Watched) -> None:
    watched.is_dead = True
    assert watched.passes(30) == []
    (said,) = watched.passes(20)
    assert "no recorder ever ran here" in said
    assert watched.passes(300) == []


def test_a_restart_rings_nothing(watched: Watched) -> None:
    watched.passes(120)
    watched.changes = lambda status: replace(status, is_running=False)
    watched.passes(10)
    watched.is_dead = True
    assert watched.passes(20) == []
    watched.is_dead, watched.started = False, watched.now
    # Its markets have nothing yet.
    watched.changes = lambda status: with_market(status, 0, last_recv_ns=None, phase="DISCONNECTED")
    assert watched.passes(30) == []
    watched.changes = lambda status: status
    assert watched.passes(120) == []


def test_a_computer_that_slept_rings_nothing_when_it_wakes(watched: Watched) -> None:
    watched.passes(120)
    watched.is_dead = True
    watched.now += timedelta(hours=8)
    assert watched.passes(20) == []
    watched.is_dead = False
    watched.started = watched.now
    assert watched.passes(120) == []


def test_record_false_is_never_told_of(watched: Watched) -> None:
    watched.passes(120)
    watched.is_dead = True
    watched.books({**BOOKS, "record": False})
    assert watched.passes(600) == []
    assert standing(watched.project()) == []
    assert watched.memory == ""


def without_books(status: Status, *places: int) -> Status:
    for place in places:
        status = with_market(status, place, phase="BUFFERING", reasons=("MISSED",))
    return status


def test_a_market_in_sync_that_is_silent_rings_nothing(watched: Watched) -> None:
    watched.passes(60)
    since = ns(watched.now)
    watched.changes = lambda status: with_market(with_market(status, 0, last_recv_ns=since), 1, last_recv_ns=None)
    assert watched.passes(600) == []
    watched.changes = lambda status: with_market(status, 0, last_recv_ns=since, phase="UNTRUSTED")
    assert watched.passes(600) == []


@pytest.mark.slow
def test_markets_without_a_book_for_minutes_are_one_alert_for_each_exchange(watched: Watched) -> None:
    watched.passes(60)
    watched.changes = lambda status: without_books(status, 0, 1)
    assert watched.passes(240) == []
    (said,) = watched.passes(120)
    assert said.startswith("recorder kucoin: ETH-USDT, SOL-USDT: no book (BUFFERING); `mm books status` says how each")
    assert watched.passes(600) == []
    watched.changes = lambda status: without_books(status, 2)
    told = watched.passes(400)
    assert {one.partition(":")[0] for one in told} == {"recorder binance", "recorder kucoin DONE"}


@pytest.mark.slow
def test_another_market_of_the_exchange_that_loses_its_book_is_told_too(watched: Watched) -> None:
    watched.passes(60)
    watched.changes = lambda status: without_books(status, 0)
    assert len(watched.passes(360)) == 1
    watched.changes = lambda status: without_books(status, 0, 1)
    (said,) = watched.passes(400)
    assert "ETH-USDT, SOL-USDT: no book" in said


def test_a_problem_that_the_recorder_tells_of_is_told_in_its_words(watched: Watched) -> None:
    watched.passes(60)
    watched.changes = lambda status: with_market(status, 1, problem="the venue refuses the connection")
    (said,) = watched.passes(60)
    assert said.startswith("recorder kucoin: SOL-USDT: the venue refuses the connection; ")


@pytest.mark.slow
def test_lost_messages_are_told_at_once_and_over_when_none_are_lost_any_more(watched: Watched) -> None:
    watched.passes(60)
    watched.changes = lambda status: with_market(status, 2, lost=7)
    (said,) = watched.passes(10)
    assert said.startswith("recorder binance: ETH-USDT: messages were received and not kept")
    assert watched.passes(280) == []
    (over,) = watched.passes(120)
    assert over.startswith("recorder binance DONE: ")
    assert watched.passes(600) == []


def test_what_was_lost_before_anybody_looked_is_no_news(watched: Watched) -> None:
    watched.changes = lambda status: with_market(status, 2, lost=7)
    assert watched.passes(600) == []


@pytest.mark.slow
def test_a_short_disk_is_told_when_it_stays_short(watched: Watched) -> None:
    watched.passes(60)
    watched.changes = lambda status: replace(status, free_bytes=4 * 2**30)
    assert watched.passes(SHORT_LASTS / SECOND - 60) == []
    (said,) = watched.passes(120)
    assert said.startswith("recorder disk: less than 5 GiB are free")
    watched.changes = lambda status: status
    assert [one[:19] for one in watched.passes(60)] == ["recorder disk DONE:"]


@pytest.mark.slow
def test_while_the_recorder_is_silent_nobody_is_told_that_its_markets_work(watched: Watched) -> None:
    watched.passes(60)
    watched.changes = lambda status: with_market(status, 2, problem="refused")
    assert len(watched.passes(60)) == 1
    watched.is_dead = True
    told = watched.passes(300)
    assert [one.partition(":")[0] for one in told] == ["recorder"]
    watched.is_dead, watched.changes = False, lambda status: status
    assert sorted(one.partition(":")[0] for one in watched.passes(120)) == ["recorder DONE", "recorder binance DONE"]


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 40, b'{"at_ns": 1}'])
def test_a_status_that_cannot_be_read_is_a_silent_recorder(watched: Watched, content: bytes) -> None:
    watched.passes(60)
    watched.is_dead = True
    (root_of(watched.folder / "data") / "status.json").write_bytes(content)
    assert len(watched.passes(300)) == 1


@pytest.mark.parametrize("memory", [None, "", "{", "[]", "7", '{"looked": "2026-02-03T11:59:50Z"}'])
def test_a_memory_that_cannot_be_used_is_none(watched: Watched, memory: str | None) -> None:
    watched.memory = memory
    assert watched.passes(60) == []


def test_an_end_says_that_it_works_and_asks_for_nothing() -> None:
    ledger = empty("notification")
    over = failure("x", "recorder DONE", "It works again.", NOON, ledger)
    assert over is not None
    assert over.priority == 0
    title, text = words(over)
    assert title == "WORKS AGAIN · recorder"
    assert text == "It works again."
    assert failure("x", "recorder", "It is silent.", NOON, ledger).priority == 1  # type: ignore[union-attr]


def test_a_failure_that_was_held_back_and_is_over_is_not_told_later(watched: Watched) -> None:
    alerts = {"quiet_hours": {"start": "11:00", "end": "12:30"}, "timezone": "UTC"}
    (watched.folder / "configuration" / "alerts.yaml").write_text(yaml.safe_dump(alerts))
    watched.passes(60)
    watched.is_dead = True
    watched.passes(120)
    held = watched.project().lake.read("notification")
    assert held["status"].to_list() == ["SUPPRESSED"]
    assert len(unsent_failures(held, watched.now)) == 1
    watched.is_dead = False
    watched.passes(180)
    everything = watched.project().lake.read("notification")
    assert everything["status"].to_list() == ["SUPPRESSED", "SUPPRESSED"]
    assert unsent_failures(everything, watched.now + timedelta(hours=1)) == []


def test_clocks_are_compared_by_a_recorder_that_runs_and_by_no_other(watched: Watched) -> None:
    def clock() -> tuple[bool, str]:
        (finding,) = (one for one in of_segments(watched.project(), Span(NOON, NOON + BAR)) if one.check == CLOCK)
        return finding.passed, finding.sentence

    nothing = (False, "Nothing was compared: no recorder that runs says what time the exchanges have.")
    assert clock() == nothing
    watched.changes = lambda status: with_market(status, 0, clock_offset_ms=-250.0)
    watched.passes(10)
    assert clock() == (True, "The exchanges' times of events are -250 ms from ours at most.")
    watched.changes = lambda status: with_market(status, 0, clock_offset_ms=1500.0)
    watched.passes(10)
    assert clock() == (False, "The clocks are apart: kucoin:ETH-USDT +1500 ms.")
    watched.now += timedelta(days=300)
    assert clock() == nothing
    watched.books({"record": False})
    assert clock() == (True, "books.yaml: record is false, so no clock is compared.")
