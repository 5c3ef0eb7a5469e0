"""The shipped asset checks on a small simulated history: they pass, find one altered cell, and disturb nobody."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml
from filelock import FileLock

from mm_dagster.bars import BAR, Span
from mm_dagster.definitions import defs
from mm_dagster.defs.calibration import CHECK_KEYS
from mm_dagster.defs.proofs import CHECKS
from mm_dagster.defs.resources import Turn
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.proofs import newest_whole_day
from mm_dagster_tests.defs.live import QUIET

pytestmark = pytest.mark.slow

FEATURES, VERDICT = dg.AssetKey("regime_features"), dg.AssetKey("regime_verdict")
NOON = datetime(2026, 6, 28, 12, 0, tzinfo=UTC)
OF_THE_ASSETS = {
    "configuration_is_valid", "no_duplicates", "prices_are_sane", "no_gap", "no_bar_was_revised", "newest_bar_is_fresh",
    "episodes_are_unchanged", "the_night_can_be_told", "account_agrees_with_model",
}  # fmt: skip
"""The checks that the assets make themselves whenever they are computed."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One simulated market, with three months of candles before its newest day, 2026-06-28."""
    folder = tmp_path_factory.mktemp("proofs")
    (folder / "configuration").mkdir()
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (folder / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    before = dict(os.environ)
    os.environ.update(MM_CONFIG_DIR=str(folder / "configuration"), MM_DATA_DIR=str(folder / "data"))
    try:
        # Both fetch their own warm-up, so that there is twice as much before the second.
        backfill("2026-05-11")
        backfill("2026-06-28")
        yield Project.here()
    finally:
        os.environ.clear()
        os.environ.update(before)


def backfill(day: str) -> None:
    tags = {"dagster/asset_partition_range_start": day, "dagster/asset_partition_range_end": day}
    done = run("history", tags=tags)
    assert {found.check_name for found in done.get_asset_check_evaluations()} == OF_THE_ASSETS


def run(job: str, **arguments: object) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return (
            defs()
            .resolve_job_def(job)
            .execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False, **arguments)  # type: ignore[arg-type]
        )


def evaluations(done: dg.ExecuteInProcessResult) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
    return {found.asset_check_key: found for found in done.get_asset_check_evaluations()}


def test_they_pass_on_the_newest_whole_day_with_their_figures(project: Project) -> None:
    done = run("proofs")
    assert done.success
    found = evaluations(done)
    assert set(found) == {*CHECKS, *CHECK_KEYS}
    assert all(found[key].passed for key in CHECKS)
    # There is no grid whose probabilities could have come true.
    for key in CHECK_KEYS:
        assert (found[key].passed, found[key].severity) == (False, dg.AssetCheckSeverity.WARN)
        assert found[key].description == "Nothing was compared: no grid was evaluated yet."
    stored = project.lake.read("regime_features", span=newest_whole_day(project))
    cells = stored.drop("symbol", "as_of", "config_hash", "code_version", "source").count().sum_horizontal()[0]
    ahead = found[dg.AssetCheckKey(FEATURES, "no_look_ahead")]
    assert ahead.severity == dg.AssetCheckSeverity.ERROR
    assert ahead.description == (
        f"{cells:,} cells of ETH-USDT on 2026-06-28 recomputed on history cut at each bar: none differs."
    )
    metadata = {name: entry.value for name, entry in ahead.metadata.items()}
    assert metadata == {
        "first_bar": "2026-06-28T00:00:00Z",
        "last_bar": "2026-06-28T23:45:00Z",
        "markets": "ETH-USDT",
        "cells_compared": cells,
        "cells_differing": 0,
        "rows_not_compared": 0,
    }


def test_they_take_no_lock_and_write_nothing(project: Project) -> None:
    snapshots = project.lake.snapshots().height
    with FileLock(project.data / "pipeline.lock"), FileLock(project.data / "history" / "write.lock"):
        assert run("proofs").success
    assert project.lake.snapshots().height == snapshots


def test_one_altered_cell_in_the_lake_fails_the_check_and_is_named(project: Project) -> None:
    cell = Span(NOON - BAR, NOON)
    row = project.lake.read("regime_features", span=cell)
    commit = Commit("test", "regime_features", str(cell))
    value = row["adx"].item()
    altered = math.nextafter(value, math.inf)
    project.lake.upsert("regime_features", row.with_columns(adx=pl.lit(altered)), commit=commit)
    try:
        found = evaluations(run("proofs"))
        broken = found.pop(dg.AssetCheckKey(FEATURES, "live_equals_backfill"))
        assert not broken.passed
        assert broken.severity == dg.AssetCheckSeverity.ERROR
        assert broken.description
        assert broken.description.endswith(
            f"1 differs. ETH-USDT at 2026-06-28T12:00:00Z: adx is stored as {altered}, and recomputed as {value}."
        )
        assert broken.metadata["cells_differing"].value == 1
        assert all(evaluation.passed for key, evaluation in found.items() if key in CHECKS)
    finally:
        project.lake.upsert("regime_features", row, commit=commit)


def test_a_check_of_one_table_runs_alone(project: Project) -> None:
    key = dg.AssetCheckKey(VERDICT, "warm_up_suffices")
    done = dg.materialize(
        list(defs().asset_checks or []),
        selection=dg.AssetSelection.checks(key),
        resources={"project": Project.here(), "turn": Turn()},
        run_config=QUIET,
    )
    assert set(evaluations(done)) == {key}


def test_an_empty_lake_is_a_warning_and_no_pass(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path))
    done = run("proofs")
    assert done.success
    found = evaluations(done)
    for evaluation in (found[key] for key in CHECKS):
        assert not evaluation.passed
        assert evaluation.severity == dg.AssetCheckSeverity.WARN
        assert evaluation.description == "Nothing was compared: the lake holds no candle yet."


def test_neither_ticks_nor_backfills_run_them(project: Project) -> None:
    everything = defs()
    names = {key.name for key in CHECKS}
    for job in ("tick", "history"):
        assert not names & {node.name for node in everything.resolve_job_def(job).nodes}
    schedule = everything.resolve_schedule_def("every_day")
    assert schedule.job_name == "proofs"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == "23 3 * * *"
