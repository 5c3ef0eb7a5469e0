"""The tick beside a recorder: its book where it is fresh, the exchange's where it is not, and no decision in either."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.bars import Span
from mm_dagster.pipeline import book_answers, segments
from mm_dagster.pipeline.book_features import keep_features
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.segments import keep_segments
from mm_dagster.pipeline.ticks import run_tick
from mm_dagster.recorder.log import write_status
from mm_dagster.recorder.places import place_of, root_of
from mm_dagster.recorder.status import BestLevels
from mm_dagster.tables.registry import EVERY_BAR, LIVE_ONLY, broken_rules
from mm_dagster_tests.kucoin import BOOK, KucoinServer
from mm_dagster_tests.pipeline.recorder import Recording, ns
from mm_dagster_tests.pipeline.test_books import AS_OF, ETH, NOW, SOL, last, made, place, server  # noqa: F401

BOOKS = {"record": True, "feeds": [{"exchange": "kucoin", "markets": [ETH]}]}
FRESH = NOW - timedelta(seconds=1)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (book_answers, segments):
        monkeypatch.setattr(module, "now_here", lambda: NOW)


@pytest.fixture
def home(tmp_path: Path, place: Path, server: KucoinServer) -> Iterator[Path]:  # noqa: F811
    """The configuration of the other tests of books, and a recorder that follows one of the markets."""
    server.faults.clear()
    server.requests.clear()
    shutil.copytree(place / "configuration", tmp_path / "configuration")
    shutil.copytree(place / "data", tmp_path / "data")
    (tmp_path / "configuration" / "books.yaml").write_text(yaml.safe_dump(BOOKS))
    place_of(root_of(tmp_path / "data"), "kucoin", ETH).folder.mkdir(parents=True)
    return tmp_path


def best(mid: float, at: datetime = FRESH, levels: int = 100) -> BestLevels:
    """A book with a level each basis point, one coin each."""
    sides = [
        tuple((f"{mid * (1 + sign * number / 10_000):.6f}", "1.000") for number in range(1, levels + 1))
        for sign in (-1, 1)
    ]
    return BestLevels(ns(at), "IN_SYNC", True, 4711, sides[0], sides[1], (None, None))


def say(home: Path, told: BestLevels) -> None:
    write_status(place_of(root_of(home / "data"), "kucoin", ETH).book, asdict(told))


def books_of(home: Path) -> dict[str, dict[str, object]]:
    rows = made(home).lake.read("book_snapshot")
    assert broken_rules(rows, "book_snapshot") == {}
    return {row["symbol"]: row for row in rows.iter_rows(named=True)}


@pytest.mark.long
def test_a_fresh_book_of_the_recorder_is_taken_and_its_exchange_not_asked(home: Path, server: KucoinServer) -> None:  # noqa: F811
    say(home, best(last(ETH)))
    run_tick(made(home), AS_OF)
    found = books_of(home)
    assert (found[ETH]["origin"], found[SOL]["origin"]) == ("RECORDER", "ASKED")
    assert (found[ETH]["update_id"], found[ETH]["observed_at"]) == ("4711", FRESH)
    assert found[ETH]["mid"] == pytest.approx(last(ETH), rel=1e-6)
    assert found[ETH]["bid_levels"] == 100
    assert [request.query["symbol"] for request in server.requests if request.path == BOOK] == [SOL]
    costs = made(home).lake.read("exit_cost", span=Span(AS_OF - timedelta(minutes=15), AS_OF))
    held = costs.filter(pl.col("live_half_spread_bp").is_not_null())
    told = dict(held.select("symbol", "live_origin").unique().iter_rows())
    assert told.get(ETH, "RECORDER") == "RECORDER"
    assert told.get(SOL, "ASKED") == "ASKED"
    assert (
        costs.filter(pl.col("live_half_spread_bp").is_null())["live_origin"].null_count() == costs.height - held.height
    )


ODD: dict[str, Callable[[BestLevels], BestLevels]] = {
    "stale": lambda told: replace(told, at_ns=ns(NOW - timedelta(seconds=6))),
    "ahead": lambda told: replace(told, at_ns=ns(NOW + timedelta(seconds=6))),
    "not in sync": lambda told: replace(told, is_in_sync=False, phase="BUFFERING"),
    "untrusted": lambda told: replace(told, is_in_sync=False, phase="UNTRUSTED"),
    "crossed": lambda told: replace(told, bids=told.asks, asks=told.bids),
    "empty": lambda told: replace(told, bids=(), asks=()),
    "one side": lambda told: replace(told, asks=()),
    "twice": lambda told: replace(told, bids=(told.bids[0], *told.bids)),
    "another's": lambda told: best(last(SOL)),
    "far": lambda told: best(last(ETH) * 1.3),
    "wide": lambda told: replace(
        told, bids=((f"{last(ETH) * 0.8:.2f}", "1"),), asks=((f"{last(ETH) * 1.2:.2f}", "1"),)
    ),
}
BROKEN: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: None,
    "no bytes": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(b'{"at_ns": 17'),
    "no text": lambda path: path.write_bytes(b"\xff\xfe" * 100),
    "a list": lambda path: path.write_bytes(b"[]"),
    "a folder": lambda path: path.mkdir(),
    "nowhere": lambda path: path.symlink_to("/nowhere"),
    "no folder": lambda path: path.parent.rmdir(),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", [*ODD, *BROKEN])
def test_of_any_other_book_its_exchange_is_asked_as_without_a_recorder(
    home: Path,
    server: KucoinServer,  # noqa: F811
    how: str,
) -> None:
    if how in ODD:
        say(home, ODD[how](best(last(ETH))))
    else:
        BROKEN[how](place_of(root_of(home / "data"), "kucoin", ETH).book)
    run_tick(made(home), AS_OF, stages=["book_snapshot"])
    row = books_of(home)[ETH]
    assert (row["origin"], row["refused"]) == ("ASKED", None)
    assert {request.query["symbol"] for request in server.requests if request.path == BOOK} == {ETH, SOL}


def test_with_record_false_the_recorders_book_is_not_looked_at(home: Path) -> None:
    say(home, best(last(ETH)))
    (home / "configuration" / "books.yaml").write_text(yaml.safe_dump({**BOOKS, "record": False}))
    run_tick(made(home), AS_OF, stages=["book_snapshot"])
    assert books_of(home)[ETH]["origin"] == "ASKED"


def decided(project: Project) -> dict[str, pl.DataFrame]:
    """All that a tick decides and measures, without what only a live run knows."""
    return {table: project.lake.read(table).drop(LIVE_ONLY, strict=False) for table in EVERY_BAR}


@pytest.mark.long
def test_no_bit_of_a_tick_depends_on_a_recorder_that_runs_is_off_or_dead(home: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    (whole / "data").parent.mkdir()
    shutil.copytree(home / "configuration", whole / "configuration")
    shutil.copytree(home / "data", whole / "data")
    (whole / "configuration" / "books.yaml").unlink()
    run_tick(made(whole), AS_OF)
    without = decided(made(whole))
    assert without["exit_state"].height > 0

    def records(folder: Path) -> None:
        say(folder, best(last(ETH)))
        recording = Recording(folder / "data", "kucoin", ETH, ns(NOW - timedelta(minutes=40)))
        recording.quarters(3, each=20)
        recording.stop()
        project = made(folder)
        keep_segments(project, "books")
        keep_features(project, "books", Span(AS_OF - timedelta(hours=2), AS_OF + timedelta(hours=1)))
        assert project.lake.read("book_features").height > 0

    def is_dead(folder: Path) -> None:
        records(folder)
        say(folder, best(last(ETH), NOW - timedelta(hours=1)))
        for path in (folder / "data" / "books").rglob("*.parquet"):
            path.write_bytes(b"gone")

    def is_off(folder: Path) -> None:
        records(folder)
        (folder / "configuration" / "books.yaml").write_text(yaml.safe_dump({**BOOKS, "record": False}))

    for prepare in (records, is_dead, is_off):
        folder = tmp_path / prepare.__name__
        folder.mkdir()
        shutil.copytree(home / "configuration", folder / "configuration")
        shutil.copytree(home / "data", folder / "data")
        prepare(folder)
        run_tick(made(folder), AS_OF)
        found = decided(made(folder))
        for table, rows in without.items():
            assert found[table].equals(rows), (prepare.__name__, table)
