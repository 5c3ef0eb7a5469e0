"""A run of a backfill by the queue that Dagster lost is asked for again, once, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest

from mm_dagster.defs import queue
from mm_dagster.defs.internals.asked import Part, ask, withdraw
from mm_dagster.pipeline.groups import ASKED_TAG, GROUP_TAG

PARTS = [
    Part("1 of 2", ("A-USDT",), "2026-01-01", "2026-01-03"),
    Part("2 of 2", ("B-USDT",), "2026-01-01", "2026-01-03"),
]
AGAIN = "dagster/will_retry"


@dg.op
def nothing() -> None:
    """What the job consists of."""


@dg.job
def history() -> None:
    nothing()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(settings={"run_retries": {"enabled": True, "max_retries": 3}}) as instance:
        ask(instance, "mine", PARTS)
        yield instance


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is there was there for long."""
    monkeypatch.setattr(queue, "LOST_AFTER", timedelta(seconds=-1))


def made(
    instance: dg.DagsterInstance, part: Part, status: dg.DagsterRunStatus, again: str | None = None
) -> dg.DagsterRun:
    tags = {ASKED_TAG: "mine", GROUP_TAG: part.name} | ({AGAIN: again} if again else {})
    return instance.create_run_for_job(history, status=status, tags=tags)


def asked_for(instance: dg.DagsterInstance) -> list[str]:
    """The keys of the runs that the sensor asks for now."""
    found = queue.backfills_are_asked_for(dg.build_sensor_context(instance=instance))
    return [one.run_key or "" for one in found.run_requests or ()] if isinstance(found, dg.SensorResult) else []


def test_a_run_of_each_part_is_asked_for_until_it_is_there(instance: dg.DagsterInstance) -> None:
    keys = ["mine 1 of 2", "mine 2 of 2"]
    assert asked_for(instance) == keys
    assert asked_for(instance) == keys, "the key says that it is the same one"
    made(instance, PARTS[0], dg.DagsterRunStatus.STARTING)
    assert asked_for(instance) == keys[1:]
    made(instance, PARTS[1], dg.DagsterRunStatus.STARTED)
    assert asked_for(instance) == []


@pytest.mark.usefixtures("at_once")
def test_a_promised_run_that_was_never_made_is_asked_for(instance: dg.DagsterInstance) -> None:
    made(instance, PARTS[0], dg.DagsterRunStatus.SUCCESS)
    lost = made(instance, PARTS[1], dg.DagsterRunStatus.FAILURE, again="true")
    assert asked_for(instance) == [f"mine 2 of 2 in place of {lost.run_id}"]
    made(instance, PARTS[1], dg.DagsterRunStatus.STARTED)
    assert asked_for(instance) == []


def test_dagster_is_given_the_time_to_make_it(instance: dg.DagsterInstance) -> None:
    made(instance, PARTS[0], dg.DagsterRunStatus.FAILURE, again="true")
    made(instance, PARTS[1], dg.DagsterRunStatus.NOT_STARTED)
    assert asked_for(instance) == []
    assert instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])) == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("again", ["false", None])
def test_what_failed_for_good_stays_so(instance: dg.DagsterInstance, again: str | None) -> None:
    for part in PARTS:
        made(instance, part, dg.DagsterRunStatus.FAILURE, again)
    assert asked_for(instance) == []


@pytest.mark.usefixtures("at_once")
def test_a_run_that_never_came_into_the_queue_is_noted_as_failed(instance: dg.DagsterInstance) -> None:
    made(instance, PARTS[0], dg.DagsterRunStatus.STARTED)
    stuck = made(instance, PARTS[1], dg.DagsterRunStatus.NOT_STARTED)
    assert asked_for(instance) == []
    found = instance.get_run_by_id(stuck.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.FAILURE
    assert found.tags[AGAIN] == "true", "by which Dagster makes it again"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "status", [dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]
)
def test_what_is_cancelled_or_under_way_is_left_alone(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    for part in PARTS:
        made(instance, part, status)
    assert asked_for(instance) == []


@pytest.mark.usefixtures("at_once")
def test_nothing_is_asked_for_a_backfill_that_was_withdrawn(instance: dg.DagsterInstance) -> None:
    made(instance, PARTS[0], dg.DagsterRunStatus.FAILURE, again="true")
    withdraw(instance, "mine")
    assert asked_for(instance) == []
