"""Several processes on one lake: nobody reads half a commit, and a killed writer leaves nothing behind."""

from __future__ import annotations

import multiprocessing as mp
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.history.lake import Commit, Lake, Written
from mm_dagster_tests.history.samples import sample, times

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
WHOLE = Span(START, START + 96 * BAR)
COMMITS = 6
READS = 10
PATIENCE = 60.0
"""Seconds after which a test gives up; nothing here takes a tenth of it."""


def generation(symbol: str, number: int) -> pl.DataFrame:
    """A day over two months, in which every row says the same number."""
    rows = sample("regime_verdict", times(START + BAR, 96), (symbol,))
    return rows.with_columns(confidence=pl.lit(float(number)))


def write_generation(lake: Lake, symbol: str, number: int) -> Written:
    commit = Commit(f"run-{number}", "regime_verdict", str(WHOLE))
    return lake.write("regime_verdict", generation(symbol, number), span=WHOLE, symbols=[symbol], commit=commit)


def seen(lake: Lake, symbol: str) -> list[tuple[float, int]]:
    """Each number that a symbol's rows say, and how many say it; one pair when nothing is torn."""
    return lake.read("regime_verdict", symbols=[symbol])["confidence"].value_counts().rows()


def writer(folder: Path, symbol: str, start: Any, results: Any, catalog: str | None = None) -> None:
    start.wait(PATIENCE)
    lake = Lake(folder, catalog)
    results.put(("written", symbol, [write_generation(lake, symbol, number).inserted for number in range(COMMITS)]))


def reader(folder: Path, symbols: list[str], start: Any, results: Any, catalog: str | None = None) -> None:
    start.wait(PATIENCE)
    lake = Lake(folder, catalog)
    results.put(("read", "", [(symbol, seen(lake, symbol)) for _ in range(READS) for symbol in symbols]))


def endless_writer(folder: Path, first: int, begun: Any, catalog: str | None = None) -> None:
    lake = Lake(folder, catalog)
    for number in range(first, first + 10_000):
        write_generation(lake, "ETH-USDT", number)
        begun.set()


@pytest.mark.long
def test_processes_that_open_a_new_lake_together_read_whole_commits_only(tmp_path: Path) -> None:
    spawn = mp.get_context("spawn")
    start, results = spawn.Barrier(4), spawn.Queue()
    symbols = ["ETH-USDT", "BTC-USDT"]
    folder = tmp_path / "history"
    processes = [spawn.Process(target=writer, args=(folder, symbol, start, results)) for symbol in symbols]
    processes += [spawn.Process(target=reader, args=(folder, symbols, start, results)) for _ in range(2)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0] * 4

    assert sorted(symbol for kind, symbol, _ in answers if kind == "written") == sorted(symbols)
    assert all(inserted == [96] * COMMITS for kind, _, inserted in answers if kind == "written")
    for _, _, reads in (answer for answer in answers if answer[0] == "read"):
        assert len(reads) == READS * len(symbols)
        assert all(counts in ([], [(counts[0][0] if counts else 0, 96)]) for _, counts in reads)
        for symbol in symbols:
            numbers = [counts[0][0] for name, counts in reads if name == symbol and counts]
            assert numbers == sorted(numbers)
    lake = Lake(folder)
    assert [seen(lake, symbol) for symbol in symbols] == [[(COMMITS - 1, 96)]] * 2
    assert lake.snapshots()["commit_message"].str.starts_with("regime_verdict").sum() == 2 * COMMITS


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_lake(tmp_path: Path) -> None:
    spawn = mp.get_context("spawn")
    folder = tmp_path / "history"
    lake = Lake(folder)
    for attempt, seconds_into_the_next in enumerate((0.05, 0.1), 1):
        begun = spawn.Event()
        process = spawn.Process(target=endless_writer, args=(folder, 100_000 * attempt, begun))
        process.start()
        assert begun.wait(PATIENCE)
        process.join(seconds_into_the_next)
        process.kill()
        process.join(PATIENCE)
        assert process.exitcode == -9

        [(number, rows)] = seen(lake, "ETH-USDT")
        assert rows == 96
        assert number >= 100_000 * attempt
        assert write_generation(lake, "ETH-USDT", attempt) == Written(96, 96, 0)
    lake.maintain(keep_days=1)
    assert seen(lake, "ETH-USDT") == [(2, 96)]
