"""A drill goes through the whole chain and changes nothing."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.alerts import drill as pure
from mm_dagster.cli.app import CommandError
from mm_dagster.pipeline import drill
from mm_dagster.pipeline.notify import count_due, news
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.pushover import PushoverServer
from mm_dagster_tests.wire import Wire, answer


@pytest.fixture
def phone() -> Iterator[PushoverServer]:
    with PushoverServer() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, phone: PushoverServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The demo's grids, one market of which is on a live exchange."""
    shutil.copytree(Path("configs/demo"), tmp_path / "configs")
    markets = yaml.safe_load((tmp_path / "configs" / "markets.yaml").read_text())
    alerts = yaml.safe_load((tmp_path / "configs" / "alerts.yaml").read_text()) or {}
    clock = answer(json.dumps({"code": "200000", "data": int(time.time() * 1000)}).encode())
    with Wire(clock) as venue:
        markets["venues"]["live"] = {"kind": "ccxt", "exchange": "kucoin", "api_url": venue.url}
        eth = next(market for market in markets["markets"] if market["symbol"] == "ETH-USDT")
        eth["venue"] = "live"
        alerts["pushover"] = {"api_url": phone.api_url, "timeout_seconds": 20}
        (tmp_path / "configs" / "markets.yaml").write_text(yaml.safe_dump(markets))
        (tmp_path / "configs" / "alerts.yaml").write_text(yaml.safe_dump(alerts))
        monkeypatch.setenv("PUSHOVER_TOKEN", phone.token)
        monkeypatch.setenv("PUSHOVER_USER", phone.user)
        monkeypatch.setattr(drill, "POLL_SECONDS", 0.05)
        monkeypatch.setattr("mm_dagster.alerts.pushover.POLL_SECONDS", 0.0)
        monkeypatch.setattr("mm_dagster.alerts.pushover.WAIT_SECONDS", 0.01)
        yield Project(str(tmp_path / "configs"), str(tmp_path / "data"))


def of(project: Project, symbol: str) -> drill.Plan:
    grid = next(one for one in project.config.grids if one.symbol == symbol and one.enabled)
    return drill.plan(project, grid)


def hold(
    project: Project, plan: drill.Plan, wait: float = 0.6, action: str | None = None
) -> tuple[drill.Held, list[str]]:
    said: list[str] = []
    return drill.hold(project, plan, wait_seconds=wait, answer=lambda: action, say=said.append), said


def acknowledge(phone: PushoverServer) -> threading.Thread:
    def press() -> None:
        until = time.monotonic() + 60
        while not phone.receipts and time.monotonic() < until:
            time.sleep(0.01)
        for state in phone.receipts.values():
            state.update(acknowledged=1, acknowledged_at=int(time.time()), acknowledged_by_device="phone")

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_drill_that_is_heard_rings_is_acknowledged_and_is_audited(project: Project, phone: PushoverServer) -> None:
    thread = acknowledge(phone)
    held, said = hold(project, of(project, "ETH-USDT"), wait=60)
    thread.join()
    (sent,) = phone.messages
    assert (sent["priority"], sent["retry"], sent["expire"]) == ("2", "30", "180")
    assert sent["title"].startswith("DRILL · ")
    assert sent["message"].startswith("DRILL. Do not stop the grid.")
    assert [row["step"] for row in held.steps] == ["NOTED", "SENT", "ACKNOWLEDGED", "RESPONSE"]
    assert held.failures == []
    assert "acknowledged on phone" in said
    (row,) = project.lake.read("notification").to_dicts()
    assert (row["kind"], row["grid_id"], row["status"]) == ("DRILL", "all", "SENT")
    (response,) = project.lake.read("operator_response").to_dicts()
    assert (response["alert_id"], response["action"], response["grid_id"]) == (row["alert_id"], "kept", "all")
    assert phone.cancelled == []


@pytest.mark.slow
def test_a_drill_that_nobody_hears_reminds_once_is_cancelled_and_says_so(
    project: Project, phone: PushoverServer
) -> None:
    held, _ = hold(project, of(project, "ETH-USDT"))
    assert [sent["priority"] for sent in phone.messages] == ["2", "1"]
    assert "reminder" in phone.messages[1]["title"]
    assert phone.cancelled == list(phone.receipts)
    assert held.failures == ["nobody acknowledged or answered it"]
    assert [row["step"] for row in held.steps if row["message"] == "emergency"] == ["NOTED", "SENT", "CANCELLED"]


def test_a_channel_that_refuses_is_a_failure(project: Project, phone: PushoverServer) -> None:
    phone.fail("400")
    held, _ = hold(project, of(project, "ETH-USDT"))
    assert len(held.failures) == 1
    assert held.failures[0].startswith("pushover did not take it: Pushover at 127.0.0.1 refused (400)")
    assert phone.token not in held.failures[0]


def test_a_simulated_market_rings_nowhere(project: Project, phone: PushoverServer) -> None:
    plan = of(project, "SOL-USDT")
    held, _ = hold(project, plan)
    assert (plan.channels, phone.requests, held.failures) == (("log",), [], [])
    assert "nothing rings: it goes to the log" in next(plan.lines())
    (row,) = project.lake.read("notification").to_dicts()
    assert row["title"].startswith("SIMULATED · DRILL · ")


@pytest.mark.long
def test_a_drill_changes_no_decision_no_budget_and_no_statistic(project: Project, phone: PushoverServer) -> None:
    before = count_due(project)
    for _ in range(2):
        hold(project, of(project, "ETH-USDT"), wait=0)
    assert count_due(project) == before
    found = [one for part in news(project, None) for one in (*part.alerts, *part.cancellations)]
    assert found == []
    assert project.lake.read("exit_state").is_empty()
    ledger = project.lake.read("notification")
    assert ledger["kind"].unique().to_list() == [pure.KIND]
    assert ledger["alert_id"].n_unique() == 2
    assert ledger.filter(pl.col("grid_id") != "all").is_empty()


def test_a_killed_drill_is_not_told_later(project: Project, phone: PushoverServer) -> None:
    plan = of(project, "ETH-USDT")
    phone.fail("closed", "closed", "closed")
    before = count_due(project)
    hold(project, plan, wait=0)
    asked = len(phone.requests)
    assert project.lake.read("notification")["status"].to_list() == ["PENDING"]
    assert count_due(project) == before
    assert len(phone.requests) == asked


def test_the_command_asks_nobody_without_a_terminal(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from mm_dagster.cli import drill as command

    monkeypatch.setattr(command, "project_here", lambda: project)
    with pytest.raises(CommandError, match="give --yes"):
        command.drill(grid=None, yes=False, wait=0.0, as_json=True)
    with pytest.raises(CommandError, match="is no grid of the configuration"):
        command.drill(grid="nothing", yes=True, wait=0.0, as_json=True)
