"""What Dagster is given: which assets, in which jobs, and what runs by itself."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from mm_dagster.definitions import defs

HISTORY = {"candles", "regime_features", "regime_verdict", "grid_risk", "entry_assessment", "exit_state"}


@pytest.fixture(scope="module")
def everything() -> dg.Definitions:
    return defs()


def names(job: dg.JobDefinition) -> set[str]:
    return {key.to_user_string() for key in job.asset_layer.executable_asset_keys}


def test_history_is_partitioned_by_day_and_what_reaches_out_is_not(everything: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in everything.resolve_all_asset_specs()}
    assert {name for name, spec in specs.items() if spec.partitions_def} == HISTORY
    assert set(specs) - HISTORY == {"account_snapshot", "alert_audit", "notification", "snapshot"}
    assert len({spec.partitions_def for spec in specs.values() if spec.partitions_def}) == 1


def test_a_backfill_neither_sends_nor_commits(everything: dg.Definitions) -> None:
    assert names(everything.resolve_job_def("history")) == HISTORY
    assert names(everything.resolve_job_def("tick")) == HISTORY | {"account_snapshot", "snapshot"}
    assert names(everything.resolve_job_def("send_alerts")) == {"notification"}


def test_every_asset_has_description_owner_kinds_and_columns(everything: dg.Definitions) -> None:
    for spec in everything.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.description, name
        assert list(spec.owners) == ["team:mm-dagster"], name
        assert spec.kinds, name
        if name not in ("snapshot", "alert_audit"):
            assert "dagster/column_schema" in spec.metadata, name
        if name in HISTORY:
            assert spec.code_version, name


@pytest.mark.parametrize(
    ("at", "as_of", "partition"),
    [
        (datetime(2026, 1, 10, 12, 16, tzinfo=UTC), "2026-01-10T12:15:00Z", "2026-01-10"),
        (datetime(2026, 1, 10, 0, 1, tzinfo=UTC), "2026-01-10T00:00:00Z", "2026-01-09"),
        (datetime(2026, 1, 10, 0, 16, tzinfo=UTC), "2026-01-10T00:15:00Z", "2026-01-10"),
    ],
)
def test_the_tick_belongs_to_the_day_in_which_its_last_bar_opened(
    everything: dg.Definitions, at: datetime, as_of: str, partition: str
) -> None:
    schedule = everything.resolve_schedule_def("every_quarter_hour")
    context = dg.build_schedule_context(scheduled_execution_time=at, repository_def=everything.get_repository_def())
    data = schedule.evaluate_tick(context)
    (request,) = data.run_requests or []
    assert request.partition_key == partition
    assert request.run_config == {"resources": {"turn": {"config": {"as_of": as_of}}}}
    assert request.run_key == as_of


def test_schedules_and_sensor_are_on_by_default(everything: dg.Definitions) -> None:
    for schedule in ("every_quarter_hour", "every_night", "every_night_again", "every_day"):
        assert everything.resolve_schedule_def(schedule).default_status == dg.DefaultScheduleStatus.RUNNING
    for sensor in ("alerts_are_due", "the_past_is_not_whole"):
        assert everything.resolve_sensor_def(sensor).default_status == dg.DefaultSensorStatus.RUNNING


def test_every_night_the_venues_are_asked_again_for_the_last_two_days(everything: dg.Definitions) -> None:
    at = datetime(2026, 1, 10, 4, 8, tzinfo=UTC)
    context = dg.build_schedule_context(scheduled_execution_time=at, repository_def=everything.get_repository_def())
    (request,) = everything.resolve_schedule_def("every_night_again").evaluate_tick(context).run_requests or []
    assert request.run_config == {"resources": {"turn": {"config": {"again": True}}}}
    assert request.tags["dagster/asset_partition_range_start"] == "2026-01-08"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-01-09"
