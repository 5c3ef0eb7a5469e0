"""Alerts from end to end: what became of an emergency, failures, the second channel, the sign of life."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from mm_dagster.bars import BAR
from mm_dagster.definitions import defs
from mm_dagster.defs.partitions import partition_of
from mm_dagster.pipeline.notify import follow_receipts, notify_failures
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.alerts.test_heartbeat import watcher
from mm_dagster_tests.defs.live import QUIET, Live, flash_crash, grid_file

pytestmark = pytest.mark.slow

CRASH = datetime(2025, 10, 10, 21, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Live]:
    """The tick in which the stop of one grid is breached, with an emergency that rings, and a heartbeat."""
    with (
        flash_crash(tmp_path_factory.mktemp("alerts"), shared_data, ("ETH-USDT",)) as live,
        watcher(200) as (heart, beats),
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("MM_TEST_HEARTBEAT", heart)
        alerts = {"pushover": {"api_url": live.pushover.api_url}, "heartbeat": {"url_env": "MM_TEST_HEARTBEAT"}}
        live.configure([grid_file("eth")], alerts=alerts)
        live.tick(CRASH)
        assert beats == ["/ping/secret"]
        for name, value in live.environment().items():
            environment.setenv(name, value)
        yield live


def events(live: Live) -> list[tuple[str, str | None]]:
    """What came of the messages; that a send was begun is noted before each."""
    noted = live.lake().read("alert_event").sort("at", "event").select("event", "channel").rows()
    return [one for one in noted if one[0] != "TRYING"]


def test_an_emergency_that_is_acknowledged_is_noted_with_the_device(crashed: Live) -> None:
    (receipt,) = crashed.pushover.receipts
    project = Project.here()
    assert follow_receipts(project) == 1
    assert crashed.lake().read("notification")["acknowledged_at"].to_list() == [None]
    acknowledged = CRASH + timedelta(minutes=2)
    crashed.pushover.acknowledge(receipt, device="watch", at=int(acknowledged.timestamp()))
    asked = crashed.pushover.requests.count(f"GET /1/receipts/{receipt}.json")
    assert follow_receipts(Project.here()) == 1
    assert crashed.pushover.requests.count(f"GET /1/receipts/{receipt}.json") == asked + 1
    row = crashed.lake().read("notification").row(0, named=True)
    assert (row["acknowledged_at"], row["acknowledged_by_device"]) == (acknowledged, "watch")
    assert follow_receipts(Project.here()) == 0
    assert [event for event, _ in events(crashed)] == ["NOTED", "SENT", "ACKNOWLEDGED"]


def test_the_message_says_what_is_at_stake(crashed: Live) -> None:
    message = crashed.pushover.messages[0]["message"]
    # What happened comes before all else.
    assert message.startswith("The stop sold everything by 10 Oct 21:15 UTC.\nMake sure on the exchange")
    assert "he grid stands at -" in message


def test_a_failed_run_is_told_once_with_asset_and_error(crashed: Live) -> None:
    config = {"resources": {"turn": {"config": {"as_of": "soon"}}}}
    everything = defs()
    tick = everything.resolve_job_def("tick")
    done = tick.execute_in_process(
        instance=crashed.instance,
        run_config={**QUIET, **config},
        partition_key=partition_of(CRASH),
        raise_on_error=False,
    )
    assert not done.success
    sensor = everything.resolve_sensor_def("a_run_failed")
    for _ in range(2):
        context = dg.build_run_status_sensor_context(
            "a_run_failed",
            dagster_event=done.get_run_failure_event(),
            dagster_instance=crashed.instance,
            dagster_run=done.dagster_run,
            resources={"project": Project.here()},
        ).for_run_failure()
        sensor(context)
    told = [one for one in crashed.pushover.messages if one["title"].startswith("FAILURE")]
    assert sorted(one["title"] for one in told) == [
        "FAILURE · account_snapshot",
        "FAILURE · candles",
        "FAILURE · grid_bot",
    ]
    assert all("'soon' is not a time" in one["message"] for one in told)
    assert all("mm doctor" in one["message"] for one in told)


def test_a_failed_check_of_severity_error_is_told(crashed: Live) -> None:
    live = crashed
    live.exchange.now = CRASH + 5 * BAR
    config = {"resources": {"turn": {"config": {"as_of": "2025-10-10T23:15:00Z"}}}}
    # The exchange's clock stands: the newest bar is older than the tick.
    done = live.run("tick", partition_key=partition_of(CRASH), run_config=config)
    assert done.success
    context = dg.build_run_status_sensor_context(
        "a_check_failed",
        dagster_event=next(event for event in done.all_events if event.is_job_success),
        dagster_instance=live.instance,
        dagster_run=done.dagster_run,
        resources={"project": Project.here()},
    )
    defs().resolve_sensor_def("a_check_failed")(context)
    (told,) = (one for one in live.pushover.messages if "newest_bar_is_fresh" in one["title"])
    assert "The newest bar of ETH-USDT is older than 30 minutes" in told["message"]


def test_the_same_failure_is_not_told_again_for_hours(crashed: Live) -> None:
    assert notify_failures(Project.here(), [("lake", "disk full")], "run-1") == 1
    assert notify_failures(Project.here(), [("lake", "disk full")], "run-2") == 0


def test_a_test_message_says_what_came_back(crashed: Live) -> None:
    done = crashed.mm("alert-test", "--json")
    assert done.exit_code == 0
    (row,) = json.loads(done.stdout)
    assert (row["channel"], row["status"]) == ("pushover", "SENT")
    assert crashed.pushover.messages[-1]["title"] == "TEST · pushover"
    crashed.pushover.fail("400")
    failed = crashed.mm("alert-test", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)[0]["status"] == "FAILED", failed.output


def test_everything_that_was_told_stands_in_the_ledger(crashed: Live) -> None:
    ledger = crashed.lake().read("notification").filter(pl.col("status") == "SENT")
    assert sorted(ledger["title"]) == sorted(one["title"] for one in crashed.pushover.messages)


@pytest.mark.long
def test_after_six_hours_of_silence_what_is_true_now_is_told_once(tmp_path: Path, shared_data: Path) -> None:
    with flash_crash(tmp_path, shared_data, ("ETH-USDT",)) as live:
        live.configure([grid_file("eth")], alerts={"pushover": {"api_url": live.pushover.api_url}})
        live.tick(CRASH - timedelta(hours=6))
        before = len(live.pushover.messages)
        live.tick(CRASH)
        live.tick(CRASH + BAR)
        # On the way down there was a WARNING and a LATEST_ACCEPTABLE_EXIT: both are history by now.
        assert [one["title"] for one in live.pushover.messages[before:]] == ["MANDATORY EXIT · eth ETH-USDT"]
        passed = live.lake().read("exit_state").filter(pl.col("as_of") > CRASH - timedelta(hours=6))["state"].to_list()
        assert {"WARNING", "LATEST_ACCEPTABLE_EXIT"} & set(passed)
        assert len(passed) == 6 * 4 + 1
