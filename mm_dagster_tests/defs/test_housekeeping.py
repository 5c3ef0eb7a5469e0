"""The nightly job on a real instance of Dagster: what is old goes whole, and whatever the UI shows stays."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)

from benchmarks.storage import Storage
from mm_dagster.config.history import HistoryConfig
from mm_dagster.defs.internals.runs import FAILED_KEPT, forget, sqlite_storage, tidy

DAYS = dg.DailyPartitionsDefinition("2026-01-01")
NOW = datetime.now(UTC)
SETTINGS = HistoryConfig()


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def bars() -> None:
    """By day."""


@dg.asset
def told() -> None:
    """By no day."""


@dg.asset_check(asset=bars)
def bars_are_whole() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.op
def stumble() -> None:
    raise ValueError("always")


@dg.job
def stumbling() -> None:
    stumble()


DEFINITIONS = dg.Definitions(
    assets=[bars, told],
    asset_checks=[bars_are_whole],
    jobs=[
        dg.define_asset_job("tick", selection=[bars]),
        dg.define_asset_job("tell", selection=[told]),
        stumbling,
    ],
    executor=dg.in_process_executor,
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as one:
        yield one


def run(instance: dg.DagsterInstance, job: str, *, days_ago: float, **arguments: object) -> str:
    """A real run, dated back."""
    definition = DEFINITIONS.resolve_job_def(job)
    result = definition.execute_in_process(instance=instance, raise_on_error=False, **arguments)  # type: ignore[arg-type]
    [runs] = [path for path in sqlite_storage(instance) if path.name == "runs.db"]
    when = (NOW - timedelta(days=days_ago)).replace(tzinfo=None)
    with sqlite3.connect(runs) as connection:
        connection.execute("UPDATE runs SET create_timestamp = ? WHERE run_id = ?", (str(when), result.run_id))
    connection.close()
    return result.run_id


def tick(instance: dg.DagsterInstance, day: str, *, days_ago: float) -> str:
    return run(instance, "tick", days_ago=days_ago, partition_key=day)


def runs_of(instance: dg.DagsterInstance) -> set[str]:
    return {one.run_id for one in instance.get_runs()}


@pytest.mark.slow
def test_the_newest_run_of_each_partition_stays_and_the_others_go_whole(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    old = [tick(instance, "2026-01-01", days_ago=5), tick(instance, "2026-01-02", days_ago=4)]
    kept = [tick(instance, day, days_ago=3) for day in ("2026-01-01", "2026-01-02")]
    recent = [tick(instance, "2026-01-03", days_ago=0.1), tick(instance, "2026-01-03", days_ago=0.1)]
    assert forget(instance, SETTINGS, NOW) == {"runs_deleted": 2, "runs_kept": 4}
    assert runs_of(instance) == {*kept, *recent}
    assert instance.get_materialized_partitions(dg.AssetKey("bars")) == {f"2026-01-0{day}" for day in (1, 2, 3)}
    assert not [path for path in tmp_path.rglob("*") for run_id in old if run_id in path.name]
    [index] = [path for path in sqlite_storage(instance) if path.name == "index.db"]
    with sqlite3.connect(index) as connection:
        for table in ("event_logs", "asset_check_executions"):
            assert {run_id for (run_id,) in connection.execute(f"SELECT DISTINCT run_id FROM {table}")} == {
                *kept,
                *recent,
            }
    connection.close()


def test_a_backfill_stays_as_long_as_one_of_its_days_has_no_newer_run(instance: dg.DagsterInstance) -> None:
    span = {"dagster/asset_partition_range_start": "2026-01-01", "dagster/asset_partition_range_end": "2026-01-02"}
    backfill = run(instance, "tick", days_ago=9, tags=span)
    newer = run(instance, "tick", days_ago=8, tags=span)
    first = tick(instance, "2026-01-01", days_ago=7)
    forget(instance, SETTINGS, NOW)
    assert runs_of(instance) == {newer, first}
    second = tick(instance, "2026-01-02", days_ago=6)
    forget(instance, SETTINGS, NOW)
    # The newest successful run of the job without a partition of its own.
    assert runs_of(instance) == {newer, first, second}
    assert backfill not in runs_of(instance)


def test_of_a_job_without_partitions_the_newest_success_stays(instance: dg.DagsterInstance) -> None:
    _, newest = [run(instance, "tell", days_ago=days) for days in (60, 50)]
    forget(instance, SETTINGS, NOW)
    assert runs_of(instance) == {newest}
    assert instance.get_latest_materialization_event(dg.AssetKey("told")).run_id == newest  # type: ignore[union-attr]


def test_failed_runs_stay_longer_but_not_without_number(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired, old, newer = [run(instance, "stumbling", days_ago=days) for days in (20, 10, 9)]
    forget(instance, SETTINGS, NOW)
    assert runs_of(instance) == {old, newer}
    assert expired not in runs_of(instance)
    assert FAILED_KEPT > 2
    monkeypatch.setattr("mm_dagster.defs.internals.runs.FAILED_KEPT", 1)
    forget(instance, SETTINGS, NOW)
    assert runs_of(instance) == {newer}


def test_a_run_that_is_not_over_is_never_deleted(instance: dg.DagsterInstance) -> None:
    run_id = run(instance, "tell", days_ago=50)
    run(instance, "tell", days_ago=40)
    [runs] = [path for path in sqlite_storage(instance) if path.name == "runs.db"]
    with sqlite3.connect(runs) as connection:
        connection.execute("UPDATE runs SET status = 'STARTED' WHERE run_id = ?", (run_id,))
    connection.close()
    forget(instance, SETTINGS, NOW)
    assert run_id in runs_of(instance)


def test_idle_looks_of_a_sensor_are_forgotten_after_an_hour_and_others_are_not(instance: dg.DagsterInstance) -> None:
    location = RegisteredCodeLocationOrigin("here")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "receipts_are_open")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    instance.add_instigator_state(state)
    for minutes in (200, 100, 10):
        for status in (TickStatus.SKIPPED, TickStatus.SUCCESS):
            instance.create_tick(
                TickData(
                    state.instigator_origin_id, origin.instigator_name, InstigatorType.SENSOR, status,
                    (NOW - timedelta(minutes=minutes)).timestamp(), selector_id=state.selector_id,
                    run_ids=[] if status == TickStatus.SKIPPED else ["one"],
                )
            )  # fmt: skip
    forget(instance, SETTINGS, NOW)
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
    assert sorted(one.status.value for one in ticks) == ["SKIPPED", "SUCCESS", "SUCCESS", "SUCCESS"]


@pytest.mark.long
def test_the_storage_of_many_days_grows_by_one_run_a_day(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with storage.instance as instance:
        given = tick(instance, "2026-01-01", days_ago=0)
        sizes = []
        for number in range(1, 6):
            day = datetime(2026, 1, number, tzinfo=UTC)
            moments = [day + timedelta(hours=hour) for hour in range(12)]
            storage.repeat(given, "2026-01-01", day.date(), moments)
            storage.look("receipts_are_open", day.date(), 2_000)
            tidy(instance, SETTINGS, day + timedelta(days=1, hours=3))
            sizes.append(storage.bytes)
        one_run = storage.shard(given).stat().st_size
    growth = [after - before for before, after in itertools.pairwise(sizes)]
    assert len(growth) == 4
    assert max(growth) < 2 * one_run
