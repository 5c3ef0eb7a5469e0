"""Runs on several hosts: a backfill from end to end, one whose worker died, one that is stopped, two of one group."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import Span
from mm_dagster.history.lake import Lake
from mm_dagster.pipeline import ticks
from mm_dagster.pipeline.project import Project
from mm_dagster.tables import registry
from mm_dagster_tests.cluster.hosts import Hosts, backfill, configure, running
from mm_dagster_tests.postgres import Postgres

SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "ADA-USDT")
FIRST, LAST = "2026-01-01", "2026-01-03"
DAYS = Span(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 4, tzinfo=UTC))
FAST = {"poll_interval_seconds": 2, "start_timeout_seconds": 60}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """What one process makes of these days."""
    folder = tmp_path_factory.mktemp("one")
    project = Project(str(configure(folder, SYMBOLS)), str(folder / "data"))
    ticks.run_days(project, DAYS)
    return project.lake


@pytest.fixture
def hosts(tmp_path: Path, postgres: Postgres) -> Iterator[Hosts]:
    configuration = configure(tmp_path, SYMBOLS, catalog={"url_env": "MM_CATALOG_URL"})
    with running(tmp_path, postgres, configuration, workers=2, run_monitoring=FAST) as found:
        yield found


def lake_of(hosts: Hosts) -> Lake:
    return Lake(hosts.folder / "data" / "history", hosts.environment["MM_CATALOG_URL"])


def assert_same(lake: Lake, expected: Lake) -> None:
    """The same rows, each once."""
    for table in registry.EVERY_BAR:
        left, right = lake.read(table), expected.read(table)
        kept = [name for name in left.columns if name not in registry.LIVE_ONLY]
        assert_frame_equal(left.select(kept), right.select(kept), check_exact=True)
    assert lake.read("regime_verdict").height == len(SYMBOLS) * 3 * 96


@pytest.mark.long
def test_a_backfill_by_two_workers_gives_the_rows_of_one_process(hosts: Hosts, expected: Lake) -> None:
    code, rows = backfill(hosts, FIRST, LAST, 2)
    assert code == 0, (hosts.folder / "mm.log").read_text()
    assert [(row["part"], row["state"]) for row in rows] == [
        ("1 of 2", "SUCCESS"), ("2 of 2", "SUCCESS"), ("together", "SUCCESS"),
    ]  # fmt: skip
    assert_same(lake_of(hosts), expected)
    # A fork has none of its parent's threads: those of numba, DuckDB and of Polars' work must not have begun there.
    threads = {
        path.read_text().strip() for one in hosts.workers for path in Path(f"/proc/{one.pid}/task").glob("*/comm")
    }
    assert threads <= {"celery", "jemalloc_bg_thd", "polars-ooc-clea"}
    code, rows = backfill(hosts, FIRST, LAST, 2)
    assert (code, rows) == (0, []), "what is whole is not made again"


@pytest.mark.long
def test_a_run_whose_worker_was_killed_is_noticed_and_made_again(hosts: Hosts, expected: Lake) -> None:
    asked = hosts.mm("backfill", "--from", FIRST, "--to", LAST, "--queue", "--markets-a-run", "2", "--json")
    deadline = time.monotonic() + 300
    while not (busy := hosts.busy()):
        assert time.monotonic() < deadline, "no run began"
        time.sleep(0.2)
    hosts.kill_worker(busy[0])
    hosts.start_worker()
    said, _ = asked.communicate(timeout=900)
    assert asked.returncode == 0, (hosts.folder / "mm.log").read_text()
    assert '"attempts": 2' in said
    assert_same(lake_of(hosts), expected)


@pytest.mark.long
def test_ctrl_c_cancels_what_waits_and_keeps_what_ended(hosts: Hosts) -> None:
    asked = hosts.mm("backfill", "--from", FIRST, "--to", LAST, "--queue", "--markets-a-run", "1", "--json")
    with dg.DagsterInstance.get() as instance:
        deadline = time.monotonic() + 300
        while not instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])):
            assert time.monotonic() < deadline, "no run ended"
            time.sleep(0.5)
        asked.send_signal(2)
        assert asked.wait(60) == 130
        deadline = time.monotonic() + 240
        open_ones = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
        while instance.get_runs_count(dg.RunsFilter(statuses=open_ones)):
            assert time.monotonic() < deadline, "a run goes on"
            time.sleep(0.5)
        states = {run.status for run in instance.get_runs()}
    assert states <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.CANCELING}


def make_days(configuration: str, data: str, address: str, symbols: tuple[str, ...], start: Any, failed: Any) -> None:
    """A run over whole days in a process of its own, which begins with the others."""
    os.environ["MM_CATALOG_URL"] = address
    try:
        project = Project(configuration, data)
        _ = project.lake
        start.wait(120)
        ticks.run_days(project, DAYS, symbols=symbols, stages=ticks.APART)
    except BaseException as error:
        failed.put(f"{type(error).__name__}: {error}")
        raise


@pytest.mark.long
def test_two_runs_of_one_group_at_once_do_no_harm_nor_does_another_group_beside(
    tmp_path: Path, postgres: Postgres, expected: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run does that was taken for dead and is not, while it is made again on another host."""
    configuration, address = configure(tmp_path, SYMBOLS, catalog={"url_env": "MM_CATALOG_URL"}), postgres.database()
    monkeypatch.setenv("MM_CATALOG_URL", address)
    spawn = mp.get_context("spawn")
    start, failed = spawn.Barrier(3), spawn.Queue()
    both, data = (SYMBOLS[:2], SYMBOLS[:2], SYMBOLS[2:]), str(tmp_path / "data")
    processes = [
        spawn.Process(target=make_days, args=(str(configuration), data, address, symbols, start, failed))
        for symbols in both
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0, 0, 0], failed.get(timeout=5)
    project = Project(str(configuration), data)
    ticks.run_days(project, DAYS, stages=registry.TOGETHER)
    assert_same(project.lake, expected)
