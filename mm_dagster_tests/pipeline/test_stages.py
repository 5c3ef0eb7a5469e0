"""Each stage alone, in a tick, and run again after a failure at any stage: the same rows in every table."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR
from mm_dagster.pipeline import tick_row
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import MADE_BY, run_tick
from mm_dagster.pipeline.work import Work
from mm_dagster.tables import registry
from mm_dagster_tests.pipeline.recordings import NOW, configure, grid, price_of, record

pytestmark = pytest.mark.slow

CLOCK = ("started_at", "finished_at", "recomputed_at")
MOMENTS = ("before it writes", "after it wrote")
QUICK = (("exit_state", "before it writes"),)
"""The failures that every run of the tests tries."""
ETH, SOL, GONE = "ETH-USDT", "SOL-USDT", "GONE-USDT"


class Crash(Exception):
    """What ends a run."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tick of before; then a grid is changed, a bar revised and a market still fails."""
    folder = tmp_path_factory.mktemp("stages")
    for symbol in (ETH, SOL):
        record(folder / "recordings", symbol, NOW - BAR)
    grids = [
        grid("steady", ETH, price_of(ETH)),
        grid("changed", SOL, price_of(SOL)),
        grid("unseen", GONE, 10.0),
        grid("waiting", ETH, price_of(ETH), enabled=False),
    ]
    venues: dict[str, object] = {"files": {"kind": "recorded", "path": "../recordings", "file": "15m.parquet"}}
    markets = dict.fromkeys((ETH, SOL, GONE), "files")
    configure(folder / "configuration", grids, venues, markets)
    run_tick(project(folder, "data"), NOW - BAR)
    record(folder / "recordings", ETH, NOW, revised=NOW - 6 * BAR)
    record(folder / "recordings", SOL, NOW)
    changed = grid("changed", SOL, price_of(SOL), stop=round(price_of(SOL) * 0.94, 2))
    configure(folder / "configuration", [changed], venues, markets)
    return folder


def project(folder: Path, data: str) -> Project:
    return Project(str(folder / "configuration"), str(folder / data))


def stored(folder: Path, data: str) -> dict[str, pl.DataFrame]:
    """Every table, but for what only a live run knows and what the wall clock said."""
    lake = project(folder, data).lake
    left_out = (*registry.LIVE_ONLY - {"problems"}, *CLOCK)
    found = {}
    for table in registry.TABLES:
        rows = lake.read(table)
        settled = [pl.col(name).is_null() for name in CLOCK if name in rows.columns]
        found[table] = rows.with_columns(settled).drop(
            *(name for name in left_out if name in rows.columns and name not in CLOCK)
        )
        if table == "candle_revision":
            found[table] = found[table].sort("symbol", "open_time")
    return found


def begin(folder: Path, data: str) -> str:
    shutil.copytree(folder / "data", folder / data)
    return data


def tick(folder: Path, data: str, *stages: str) -> None:
    """A process of its own: nothing of an earlier one is in memory."""
    run_tick(project(folder, data), NOW, stages=stages)


@pytest.fixture(scope="module")
def whole(before: Path) -> dict[str, pl.DataFrame]:
    tick(before, begin(before, "whole"))
    return stored(before, "whole")


def assert_same(before: Path, data: str, whole: dict[str, pl.DataFrame]) -> None:
    for table, rows in stored(before, data).items():
        ignored = ["observed_at", "old_observed_at"] if table in ("candle_revision", "quarantine") else []
        kept = [name for name in rows.columns if name not in ignored]
        assert_frame_equal(rows.select(kept), whole[table].select(kept), check_exact=True)


def test_a_whole_tick_refuses_fails_and_revises_as_it_should(whole: dict[str, pl.DataFrame]) -> None:
    newest = whole["exit_state"].filter(pl.col("as_of") == NOW)
    assert newest["grid_id"].to_list() == ["steady"]
    assert "changed" not in whole["grid_risk"].filter(pl.col("as_of") == NOW)["grid_id"]
    assert whole["candle_revision"].filter(~pl.col("recomputed_at")).height == 1
    (last,) = whole["tick"].filter(pl.col("as_of") == NOW).to_dicts()
    assert [one["symbol"] for one in last["problems"]] == [GONE]
    assert "changed: stop changed since" in last["reason"]
    assert GONE in last["reason"]


def test_each_stage_alone_gives_the_same_rows(before: Path, whole: dict[str, pl.DataFrame]) -> None:
    data = begin(before, "alone")
    for stage in MADE_BY:
        tick(before, data, stage)
    assert_same(before, data, whole)


@pytest.mark.long
def test_a_stage_alone_before_those_that_it_needs_leaves_nothing_behind(
    before: Path, whole: dict[str, pl.DataFrame]
) -> None:
    data = begin(before, "backwards")
    for stage in reversed(MADE_BY):
        tick(before, data, stage)
    tick(before, data)
    assert_same(before, data, whole)


@pytest.mark.parametrize(
    ("stage", "moment"),
    [
        pytest.param(stage, moment, marks=() if (stage, moment) in QUICK else pytest.mark.long)
        for moment in MOMENTS
        for stage in MADE_BY
    ],
)
def test_a_tick_that_failed_at_a_stage_is_run_again_from_there(
    before: Path, whole: dict[str, pl.DataFrame], stage: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = begin(before, f"{stage} {moment}".replace(" ", "-"))
    stages = list(MADE_BY)
    at = stages.index(stage)
    tick(before, data, *stages[:at])

    def crash(*arguments: object, **named: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        of_tick = stage in ("candles", "account_snapshot", "grid_bot")
        if moment == "before it writes":
            patched.setattr(*((tick_row, "begin_tick") if of_tick else (Work, "write")), crash)
        else:
            patched.setattr(*((tick_row, "note_problems") if of_tick else (Work, "settle")), crash)
        # The contributions come with the nights that they are taken from: there is nothing left to write. Nor is there
        # of books, which a simulated market does not have.
        writes = stage not in ("account_snapshot", "grid_bot", "book_snapshot")
        assert whole["book_snapshot"].is_empty()
        if writes and (stage, moment) != ("portfolio_contribution", MOMENTS[0]):
            with pytest.raises(Crash):
                tick(before, data, stage)
    tick(before, data, *stages[at:])
    assert_same(before, data, whole)


def test_a_refused_grid_is_not_judged_when_the_exit_stage_runs_alone(before: Path) -> None:
    data = begin(before, "refused")
    known = stored(before, data)["exit_state"].filter(pl.col("grid_id") == "changed")
    tick(before, data, "exit_state")
    assert_frame_equal(stored(before, data)["exit_state"].filter(pl.col("grid_id") == "changed"), known)
    (last,) = project(before, data).lake.read("tick").filter(pl.col("as_of") == NOW).to_dicts()
    assert "changed: stop changed since" in last["reason"]
