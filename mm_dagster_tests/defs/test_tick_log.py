"""The page for 3 a.m.: what it says of ticks that went well, that failed, that never ended and that never were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from mm_dagster.bars import BAR, iso
from mm_dagster.defs.audit import tick_log
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.logs import TICK_TAG
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.registry import dtypes

NOW = datetime(2026, 1, 10, 3, 0, tzinfo=UTC)


def written(folder: Path, *, hole: int | None = None, failed: int | None = None, open_at: int | None = None) -> None:
    """Eight ticks before NOW, counted backwards from 1; those that are named did not go well."""
    rows = [
        {
            "as_of": NOW - back * BAR,
            "started_at": NOW - back * BAR + timedelta(minutes=1),
            "finished_at": None if back == open_at else NOW - back * BAR + timedelta(seconds=62.5),
            "symbols_ok": ["ETH-USDT"],
            "symbols_failed": ["SOL-USDT"] if back == failed else [],
            "reason": "SOL-USDT: no answer within 10 s" if back == failed else None,
        }
        for back in range(1, 9)
        if back != hole
    ]
    Lake(folder / "history").upsert(
        "tick", pl.DataFrame(rows, schema=dtypes("tick")), commit=Commit("test", "tick", "")
    )


def told(folder: Path, instance: dg.DagsterInstance) -> tuple[bool, str, str]:
    """Whether its check passed, what the check says, and the table."""
    configs = Path(__file__).resolve().parents[2] / "configs" / "demo"
    resources = {"project": Project(config_dir=str(configs), data_dir=str(folder))}
    run = dg.materialize([tick_log], resources=resources, instance=instance, tags={TICK_TAG: iso(NOW)})
    (check,) = run.get_asset_check_evaluations()
    metadata = run.asset_materializations_for_node("tick_log")[0].metadata
    table = metadata["ticks"].value if "ticks" in metadata else ""
    return check.passed, check.description or "", str(table)


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


def test_ticks_that_went_well_say_so(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    written(tmp_path)
    passed, says, table = told(tmp_path, instance)
    assert passed
    assert says == "The ticks up to 2026-01-10T02:45:00Z ran, ended, and knew every market."
    assert table.count("| 2.5 |") == 8


def test_before_the_first_tick_nothing_is_red_and_nothing_passes(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    passed, says, table = told(tmp_path, instance)
    assert (passed, says, table) == (False, "No tick ran before this one.", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"failed": 2}, "2026-01-10T02:30:00Z: SOL-USDT: no answer within 10 s"),
        ({"open_at": 1}, "2026-01-10T02:45:00Z: it did not end"),
        ({"hole": 3}, "2026-01-10T02:15:00Z: it did not run"),
    ],
    ids=["failed", "not ended", "not run"],
)
def test_a_tick_of_the_last_hour_that_went_wrong_is_named(
    tmp_path: Path, instance: dg.DagsterInstance, trouble: dict[str, int], says: str
) -> None:
    written(tmp_path, **trouble)
    passed, found, _ = told(tmp_path, instance)
    assert not passed
    assert found == says


def test_a_run_that_failed_is_named_with_its_first_error(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    written(tmp_path, hole=1)

    @dg.op
    def candles() -> None:
        raise ValueError("no space left on device")

    @dg.job(name="tick")
    def failing() -> None:
        candles()

    run = failing.execute_in_process(instance=instance, tags={TICK_TAG: iso(NOW - BAR)}, raise_on_error=False)
    passed, says, table = told(tmp_path, instance)
    assert not passed
    assert says == "2026-01-10T02:45:00Z: candles: ValueError: no space left on device"
    assert f"| {run.run_id[:8]} |" in table
