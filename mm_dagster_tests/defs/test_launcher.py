"""A run whose code server is gone is known as such, and noted as failed by whoever takes over; no other is."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from mm_dagster.defs.internals import launcher
from mm_dagster.defs.internals.launcher import Launcher, end_lost, in_flight

OURS = {"run_launcher": {"module": launcher.__name__, "class": Launcher.__name__}}


@dg.op
def nothing() -> None:
    """Is never carried out."""


@dg.job
def job() -> None:
    nothing()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=OURS) as one:
        yield one


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(launcher, "ASK_SECONDS", 1)


def run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, given: dict[str, Any] | None) -> str:
    """A run in that state that was given to the server at that address."""
    tags = {GRPC_INFO_TAG: json.dumps(given)} if given else {}
    return instance.create_run_for_job(job, status=status, tags=tags).run_id


GONE = {"host": "localhost", "socket": "/nowhere/at/all"}
"""As of a code server that Dagster's daemon started on another host."""


def test_a_run_of_a_server_that_is_gone_has_failed_and_no_other(
    instance: dg.DagsterInstance,
) -> None:
    states = dg.DagsterRunStatus
    lost = [run(instance, *one) for one in ((states.STARTED, GONE), (states.STARTING, GONE), (states.STARTING, None))]
    others = {
        run(instance, status, GONE): status
        for status in (states.NOT_STARTED, states.SUCCESS, states.FAILURE, states.CANCELED)
    }
    assert in_flight(instance) == 3
    assert end_lost(instance) == 3
    for run_id in lost:
        record = instance.get_run_by_id(run_id)
        assert record is not None
        assert record.status == states.FAILURE
        [event] = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        why = event.message.removeprefix("Whoever worked at it is gone: ")
        assert why in ("its code server is gone.", "it was given to no code server.")
    assert {one: instance.get_run_by_id(one).status for one in others} == others  # type: ignore[union-attr]
    assert (in_flight(instance), end_lost(instance)) == (0, 0)


def test_a_server_that_takes_its_time_has_lost_nothing(instance: dg.DagsterInstance) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        run_id = run(instance, dg.DagsterRunStatus.STARTED, {"host": "127.0.0.1", "port": deaf.getsockname()[1]})
        found = instance.run_launcher.check_run_worker_health(instance.get_run_by_id(run_id))  # type: ignore[arg-type]
        assert found.status == WorkerStatus.RUNNING
        assert end_lost(instance) == 0
    assert end_lost(instance) == 1


@pytest.mark.parametrize("has_it", [True, False])
def test_a_server_that_answers_decides(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, has_it: bool
) -> None:
    asked: list[tuple[dict[str, Any], str]] = []

    def has(address: dict[str, Any], run_id: str) -> bool:
        asked.append((address, run_id))
        return has_it

    monkeypatch.setattr(launcher, "_has", has)
    run_id = run(instance, dg.DagsterRunStatus.STARTED, GONE)
    assert end_lost(instance) == (not has_it)
    assert asked == [(GONE, run_id)]


def test_where_others_start_the_runs_nothing_is_touched(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_id = run(instance, dg.DagsterRunStatus.STARTED, GONE)
        assert (in_flight(instance), end_lost(instance)) == (0, 0)
        record = instance.get_run_by_id(run_id)
        assert record is not None
        assert record.status == dg.DagsterRunStatus.STARTED


def test_run_monitoring_asks_it() -> None:
    assert Launcher().supports_check_run_worker_health
    assert not dg.DefaultRunLauncher().supports_check_run_worker_health, "Dagster's own asks by now: ours may go"
