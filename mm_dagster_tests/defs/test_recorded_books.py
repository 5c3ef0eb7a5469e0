"""What was recorded of books, in Dagster: a run of its own, skipped where nothing is recorded, checks that can fail."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest

from mm_dagster.bars import iso
from mm_dagster.definitions import defs
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.defs.live import QUIET
from mm_dagster_tests.pipeline.recorder import Recording, ns

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    configure(tmp_path)
    return Project(str(tmp_path / "configuration"), str(tmp_path / "data"))


def scheduled(project: Project, folder: Path) -> dg.RunRequest | None:
    everything = defs()
    schedule = everything.resolve_schedule_def("every_quarter_hour_of_books")
    # Not entered here: the context enters it, and an instance that is entered twice leaves the next test another's.
    context = dg.build_schedule_context(
        instance=dg.DagsterInstance.local_temp(str(folder)),
        scheduled_execution_time=NOON + timedelta(minutes=49),
        repository_def=everything.get_repository_def(),
        resources={"project": project},
    )
    requests = schedule.evaluate_tick(context).run_requests or []
    return requests[0] if requests else None


def test_without_a_recorder_no_run_is_asked_for_and_nobody_told(project: Project, tmp_path: Path) -> None:
    assert scheduled(project, tmp_path) is None
    sensor = defs().resolve_sensor_def("recorder_is_alive")
    context = dg.build_sensor_context(
        instance=dg.DagsterInstance.ephemeral(), resources={"project": project}, cursor="old"
    )
    found = sensor.evaluate_tick(context)
    assert found.skip_message == "books.yaml: record is false"


def test_the_job_seals_replays_and_measures_and_its_checks_pass(project: Project, tmp_path: Path) -> None:
    recording = Recording(project.data, "binance", "ETH-USDT", ns(NOON + timedelta(minutes=1)))
    recording.quarters(3, each=10)
    recording.stop()
    request = scheduled(project, tmp_path)
    assert request is not None
    assert request.run_config == {"resources": {"turn": {"config": {"as_of": iso(NOON + timedelta(minutes=45))}}}}
    surroundings = {"MM_CONFIG_DIR": str(tmp_path / "configuration"), "MM_DATA_DIR": str(tmp_path / "data")}
    with mock.patch.dict(os.environ, surroundings):
        job = defs().resolve_job_def("books")
        done = job.execute_in_process(
            instance=dg.DagsterInstance.ephemeral(),
            partition_key=request.partition_key,
            run_config={**QUIET, **request.run_config},
        )
    assert done.success
    checks = {one.check_name: one.passed for one in done.get_asset_check_evaluations()}
    assert checks == {
        "segment_complete": True, "quotes_agree": True, "never_crossed": True, "replay_equals_live": True,
        "clock_offset": True, "recorder_alive": True,
    }  # fmt: skip
    assert project.lake.read("book_segment").height == 3
    assert project.lake.read("book_features").height == 3
    assert project.lake.read("exit_state").height == 0
