"""Leaving on paper, on the books of now and on stored candles; and the operator that does it by itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.defs.paper import leave_on_paper, paper_session_is_due
from mm_dagster.execution.journal import Journal
from mm_dagster.execution.locks import account_lock
from mm_dagster.execution.machine import RUNNING
from mm_dagster.execution.paper import Ledger, PaperVenue
from mm_dagster.history.lake import Commit
from mm_dagster.market.simulated import simulate
from mm_dagster.pages.lines import lines
from mm_dagster.pipeline import exit_ledger, exits, paper_sessions
from mm_dagster.pipeline.paper import reconcile
from mm_dagster.pipeline.paper_sessions import SessionRefused
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_days, run_tick
from mm_dagster.tables.registry import dtypes
from mm_dagster_tests import paper_home
from mm_dagster_tests.execution.trials import Hasty
from mm_dagster_tests.paper_home import DAYS, GRID, NOW, calm, copied, opened, set_clock, states


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_home.filled(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def folder(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which waiting takes no time."""
    monkeypatch.setattr(exits, "time", Hasty())
    return copied(filled, tmp_path / "home")


@pytest.fixture
def project(folder: Path) -> Project:
    return opened(folder)


# one plan -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_grid_of_a_simulated_market_is_left_on_the_books_of_now(project: Project) -> None:
    kept = exits.propose(project, GRID, "paper", accept=True)
    kept = exits.approve(project, kept.plan_id, "a test")
    kept = exits.carry_out(project, kept.plan_id)
    assert (kept.plan.state, kept.reason[-9:]) == ("DONE", "were sold")
    row = exit_ledger.plan_row(kept)
    assert row["filled"] == row["amount"] > 0
    assert row["fee"] == pytest.approx(0.001 * row["proceeds"])
    assert 10 < row["shortfall_bp"] < 60
    assert reconcile(project, kept) == []
    assert project.lake.read("exit_plan")["state"].to_list() == ["DONE"]


def test_the_lake_gets_what_is_new_and_all_of_it_where_it_knows_another_journal(project: Project) -> None:
    for _ in range(2):
        kept = exits.propose(project, GRID, "paper", accept=True)
        exits.approve(project, kept.plan_id, "a test")
        exits.carry_out(project, kept.plan_id)
    lake, journal = project.lake, Journal(project.data)

    def events() -> list[tuple[int, str, str]]:
        return [(row["sequence"], row["kind"], row["said"]) for row in lake.read("exit_event").to_dicts()]

    whole = [(event.number, event.kind, event.said) for event in journal.events()]
    assert events() == whole
    before = lake.stamp()
    exit_ledger.keep(project)
    assert lake.stamp() == before, "nothing is new"
    journal.note(kept.plan_id, "STOP", "one more", NOW)
    exit_ledger.keep(project)
    assert events() == [*whole, (whole[-1][0] + 1, "STOP", "one more")]
    other = lake.read("exit_event").with_columns(said=pl.lit("of another journal"))
    lake.upsert("exit_event", other, commit=Commit("test", "exit_event", ""))
    exit_ledger.keep(project)
    assert events() == [*whole, (whole[-1][0] + 1, "STOP", "one more")]
    assert lake.read("exit_plan").height == 2


@pytest.mark.slow
def test_another_process_goes_on_where_one_let_go(folder: Path) -> None:
    kept = exits.propose(opened(folder), GRID, "paper", over=5, accept=True)
    exits.approve(opened(folder), kept.plan_id, "a test")
    seen = []
    for _ in range(40):
        kept = exits.carry_out(opened(folder), kept.plan_id, seconds=100.0)
        seen.append(len(kept.plan.orders))
        if kept.plan.state not in RUNNING:
            break
    assert kept.plan.state == "DONE"
    assert seen[0] < seen[-1] == 5
    assert reconcile(opened(folder), kept) == []


@pytest.mark.slow
def test_of_recorded_candles_the_newest_one_is_sold_into(folder: Path) -> None:
    rows = simulate("ETH-USDT", Span(DAYS.start - timedelta(days=40), DAYS.end))
    (folder / "candles" / "ETH-USDT").mkdir(parents=True)
    rows.write_parquet(folder / "candles" / "ETH-USDT" / "15m.parquet")
    markets = {
        "venues": {"main": {"kind": "recorded", "path": str(folder / "candles")}},
        "markets": [{"symbol": "ETH-USDT", "venue": "main"}],
    }
    (folder / "configuration" / "markets.yaml").write_text(json.dumps(markets))
    shutil.rmtree(folder / "data" / "history")
    project = opened(folder)
    project.now = lambda: NOW  # type: ignore[method-assign]
    run_days(project, DAYS)
    kept = exits.propose(project, GRID, "paper", accept=True)
    kept = exits.approve(project, kept.plan_id, "a test")
    kept = exits.carry_out(project, kept.plan_id)
    assert kept.plan.state == "DONE"
    row = exit_ledger.plan_row(kept)
    close = rows["close"][-1]
    assert row["arrival_mid"] == pytest.approx(close)
    # At once: what is said and what is sold into are one model.
    assert row["shortfall_bp"] == pytest.approx(row["expected_bp"], abs=0.3)


def test_a_kill_file_halts_it_on_paper_too(project: Project) -> None:
    kept = exits.propose(project, GRID, "paper", accept=True)
    kept = exits.approve(project, kept.plan_id, "a test")
    (project.data / "KILL").touch()
    assert exits.carry_out(project, kept.plan_id).plan.state == "HALTED"
    assert Ledger(project.data).orders(kept.plan_id) == ()


def test_what_the_ledger_and_the_journal_do_not_share_is_said(project: Project) -> None:
    kept = exits.propose(project, GRID, "paper", accept=True)
    kept = exits.approve(project, kept.plan_id, "a test")
    kept = exits.carry_out(project, kept.plan_id)
    journal = Journal(project.data)
    (order,) = kept.plan.orders
    for changed, said in (
        ({"filled": order.filled - 1}, "other fills"),
        ({"state": "ABSENT"}, "never arrived"),
    ):
        journal.settle(kept.plan_id, replace(order, **changed), NOW)  # type: ignore[arg-type]
        assert said in " ".join(reconcile(project, journal.kept(kept.plan_id)))


# the operator ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_leaves_what_reaches_the_level_once_and_the_daemon_carries_it_out(folder: Path) -> None:
    project = opened(folder)
    calm(project)
    row = paper_sessions.start(project, level="LATEST_ACCEPTABLE_EXIT", by="a test")
    assert (row["prices"], row["state"]) == ("BOOKS", "RUNNING")
    assert paper_sessions.act(opened(folder)) == []
    states(project, {DAYS.end: "WARNING"})
    assert not paper_sessions.is_due(opened(folder))
    states(project, {DAYS.end: "MANDATORY_EXIT"})
    assert paper_sessions.is_due(opened(folder))
    (kept,) = paper_sessions.act(opened(folder))
    assert (kept.plan.state, kept.approved_by) == ("APPROVED", "paper")
    assert paper_sessions.act(opened(folder)) == []
    assert [one.plan_id for one in exits.open_plans(project)] == [kept.plan_id]
    exits.carry_out(opened(folder), kept.plan_id)
    (settled,) = paper_sessions.settlement(opened(folder), row["session_id"])
    assert (settled["state"], settled["level"], settled["faults"]) == ("DONE", "MANDATORY_EXIT", [])
    assert settled["slippage_bp"] == pytest.approx(settled["shortfall_bp"] - settled["expected_bp"])
    shown = {line.label: line.text for line in lines(opened(folder), opened(folder).now())}
    assert shown["paper"].startswith("RUNNING since 2026-06-27T00:0")
    assert "1 plan, 1 done, cost " in shown["paper"]
    assert "leaving" not in shown, "it is done"
    assert project.lake.read("exit_plan")["session_id"].to_list() == [row["session_id"]]


def test_who_dies_between_proposal_and_approval_keeps_no_grid_from_being_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = opened(folder)
    calm(project)
    paper_sessions.start(project, level="WARNING", by="a test")
    states(project, {DAYS.end: "MANDATORY_EXIT"})

    def dies(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exits, "approve", dies)
        with pytest.raises(KeyboardInterrupt):
            paper_sessions.act(project)
    with account_lock(project.data / "orders", "paper-session"):
        assert paper_sessions.act(opened(folder)) == [], "another process does it just now"
    (kept,) = paper_sessions.act(opened(folder))
    assert kept.plan.state == "APPROVED"


def test_an_old_state_is_no_reason_to_leave_on_the_books_of_now(project: Project) -> None:
    states(project, {DAYS.end: "MANDATORY_EXIT"})
    paper_sessions.start(project, level="WARNING", by="a test")
    set_clock(project.data.parent, NOW + timedelta(hours=2))
    assert not paper_sessions.is_due(project)
    assert paper_sessions.act(project) == []


def test_a_session_of_the_past_leaves_at_the_first_bar_of_the_level_in_the_time_of_its_candles(folder: Path) -> None:
    project = opened(folder)
    calm(project)
    since, at = DAYS.start + 100 * BAR, DAYS.start + 200 * BAR
    states(project, {since - BAR: "MANDATORY_EXIT", at: "WARNING", at + BAR: "MANDATORY_EXIT"})
    row = paper_sessions.start(project, level="WARNING", since=since, by="a test")
    assert row["prices"] == "CANDLES"
    (kept,) = paper_sessions.act(project)
    assert kept.plan.state == "DONE"
    assert kept.created_at == at
    assert kept.ended_at is not None
    assert at < kept.ended_at < at + timedelta(hours=1)
    (settled,) = paper_sessions.settlement(project, row["session_id"])
    close = float(project.lake.read("candles", span=Span(at - BAR, at))["close"][0])
    assert settled["arrival_mid"] == pytest.approx(close)
    # At once one figure is said, and no interval.
    assert settled["within_80"] is None
    assert settled["faults"] == []
    risk = project.lake.read("grid_risk", span=Span(at - BAR, DAYS.end)).sort("as_of")
    # Sold at once by the model that values the grid, it is worth what the grid was.
    assert settled["value"] == pytest.approx(risk["liquidation_value"][0], rel=2e-4)
    assert settled["gain_vs_nothing"] == pytest.approx(settled["value"] - risk["liquidation_value"][-1])
    assert settled["is_open"]
    assert settled["gain_vs_own"] is None
    assert paper_sessions.act(project) == []


@pytest.mark.slow
def test_it_is_held_against_what_the_operator_did(folder: Path) -> None:
    project = opened(folder)
    calm(project)
    at = DAYS.start + 200 * BAR
    states(project, {at: "WARNING"})
    row = paper_sessions.start(project, level="WARNING", since=DAYS.start + 100 * BAR, by="a test")
    paper_sessions.act(project)
    said = dict.fromkeys(dtypes("operator_response")) | {
        "response_id": "1", "grid_id": GRID, "at": at + 10 * BAR - timedelta(minutes=3), "action": "stopped",
    }  # fmt: skip
    frame = pl.DataFrame([said], schema=dtypes("operator_response"), orient="row")
    project.lake.upsert("operator_response", frame, commit=Commit("test", "operator_response", ""))
    (settled,) = paper_sessions.settlement(opened(folder), row["session_id"])
    risk = project.lake.read("grid_risk", span=Span(at + 9 * BAR, at + 10 * BAR))
    assert settled["gain_vs_own"] == pytest.approx(settled["value"] - risk["liquidation_value"][0])


@pytest.mark.slow
def test_what_candles_do_not_tell_yet_waits(folder: Path) -> None:
    project = opened(folder)
    calm(project)
    states(project, {DAYS.end - 2 * BAR: "WARNING"})
    paper_sessions.start(project, level="WARNING", since=DAYS.start + 100 * BAR, by="a test")
    assert not paper_sessions.is_due(project)
    set_clock(folder, NOW + 13 * BAR)
    run_tick(project, DAYS.end + 13 * BAR)
    project = opened(folder)
    states(project, {DAYS.end + number * BAR: "NORMAL" for number in range(1, 14)})
    assert paper_sessions.is_due(project)
    (kept,) = paper_sessions.act(project)
    assert kept.created_at == DAYS.end - 2 * BAR


@pytest.mark.slow
def test_a_stop_lets_plans_end_and_makes_no_new_one(folder: Path) -> None:
    project = opened(folder)
    states(project, {DAYS.end: "MANDATORY_EXIT"})
    row = paper_sessions.start(project, level="WARNING", by="a test")
    (kept,) = paper_sessions.act(project)
    assert paper_sessions.stop(project, "a test")["state"] == "STOPPING"
    assert not paper_sessions.is_due(project)
    with pytest.raises(SessionRefused, match="is STOPPING"):
        paper_sessions.start(project, level="WARNING", by="a test")
    exits.carry_out(opened(folder), kept.plan_id)
    assert paper_sessions.is_due(project)
    paper_sessions.act(opened(folder))
    ended = paper_sessions.newest(project)
    assert ended is not None
    assert (ended["session_id"], ended["state"]) == (row["session_id"], "ENDED")
    assert ended["ended_at"] >= ended["stopped_at"]


@pytest.mark.slow
def test_a_stop_may_let_plans_go(project: Project) -> None:
    states(project, {DAYS.end: "MANDATORY_EXIT"})
    paper_sessions.start(project, level="WARNING", by="a test")
    (kept,) = paper_sessions.act(project)
    assert paper_sessions.stop(project, "a test", let_go=True)["state"] == "ENDED"
    after = Journal(project.data).kept(kept.plan_id)
    assert (after.plan.state, "let go" in after.reason) == ("HALTED", True)
    assert exits.open_plans(project) == []


def test_a_grid_that_holds_nothing_is_not_left(project: Project) -> None:
    states(project, {DAYS.end: "MANDATORY_EXIT"})
    rows = project.lake.read("grid_risk", span=Span(DAYS.end - BAR, DAYS.end)).with_columns(inventory=0.0)
    project.lake.upsert("grid_risk", rows, commit=Commit("test", "grid_risk", ""))
    paper_sessions.start(project, level="WARNING", by="a test")
    assert not paper_sessions.is_due(project)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"level": "NORMAL"}, "NORMAL: is no level"),
        ({"level": "WARNINGS"}, "did you mean WARNING"),
        ({"grids": ["eht"]}, "did you mean eth"),
        ({"since": NOW + timedelta(days=1)}, "in the future"),
    ],
)
def test_what_cannot_be_started_is_refused(asked: dict[str, object], said: str, project: Project) -> None:
    with pytest.raises(SessionRefused, match=said):
        paper_sessions.start(project, **{"level": "WARNING", "by": "a test"} | asked)  # type: ignore[arg-type]
    assert paper_sessions.newest(project) is None


def test_two_sessions_do_not_run_at_once_and_off_is_off(folder: Path) -> None:
    project = opened(folder)
    with pytest.raises(SessionRefused, match="no session runs"):
        paper_sessions.stop(project, "a test")
    paper_sessions.start(project, level="WARNING", by="a test")
    with pytest.raises(SessionRefused, match="is RUNNING"):
        paper_sessions.start(project, level="WARNING", by="a test")
    states(project, {DAYS.end: "MANDATORY_EXIT"})
    (folder / "configuration" / "orders.yaml").write_text("mode: 'off'\n")
    assert not paper_sessions.is_due(opened(folder))
    assert paper_sessions.act(opened(folder)) == []
    with pytest.raises(SessionRefused, match="allows no plan on paper"):
        paper_sessions.start(opened(folder), level="WARNING", by="a test")


@pytest.mark.slow
def test_a_session_adds_its_plans_up(folder: Path) -> None:
    project = opened(folder)
    calm(project)
    states(project, {DAYS.start + 200 * BAR: "WARNING"})
    row = paper_sessions.start(project, level="WARNING", since=DAYS.start, over=15, by="a test")
    paper_sessions.act(project)
    told = paper_sessions.report(project, row["session_id"])
    (plan,) = told["plans"]
    assert (told["done"], told["halted"], told["under_way"], told["faults"]) == (1, 0, 0, 0)
    assert plan["slices"] == 15
    assert told["mean_slippage_bp"] == plan["slippage_bp"]
    assert told["within_80_share"] == float(plan["within_80"])
    assert told["gain_vs_nothing"] == plan["gain_vs_nothing"]
    with pytest.raises(SessionRefused, match="no such session"):
        paper_sessions.report(project, "nobody")


def test_a_plan_of_the_past_whose_process_was_killed_is_carried_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = opened(folder)
    calm(project)
    states(project, {DAYS.start + 200 * BAR: "WARNING"})
    row = paper_sessions.start(project, level="WARNING", since=DAYS.start, over=5, by="a test")
    sell, sold = PaperVenue.sell, []

    def killed(self: PaperVenue, *args: object) -> None:
        sell(self, *args)  # type: ignore[arg-type]
        sold.append(args)
        if len(sold) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(PaperVenue, "sell", killed)
    with pytest.raises(KeyboardInterrupt):
        paper_sessions.act(project)
    (kept,) = paper_sessions.under_way(opened(folder), row["session_id"])
    assert len(kept.plan.orders) == 3
    (kept,) = paper_sessions.act(opened(folder))
    assert (kept.plan.state, len(kept.plan.orders)) == ("DONE", 5)
    assert reconcile(project, kept) == []
    assert kept.ended_at is not None
    assert kept.ended_at - kept.created_at < timedelta(minutes=15)


@pytest.mark.slow
def test_the_daemon_asks_once_for_each_tick(folder: Path) -> None:
    project = opened(folder)
    calm(project)

    def asked(cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"project": opened(folder)}
        )  # fmt: skip
        found = paper_session_is_due(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    with dg.DagsterInstance.ephemeral() as instance:
        assert isinstance(asked(), dg.SkipReason)
        paper_sessions.start(project, level="WARNING", by="a test")
        assert isinstance(asked(), dg.SkipReason)
        states(project, {DAYS.end: "WARNING"})
        found = asked()
        assert isinstance(found, dg.SensorResult)
        assert len(found.run_requests or []) == 1
        assert isinstance(asked(found.cursor), dg.SkipReason)
        ran = leave_on_paper.execute_in_process(instance=instance, resources={"project": opened(folder)})
        assert ran.success
        assert len(exits.open_plans(project)) == 1
        assert isinstance(asked(), dg.SkipReason)
        paper_sessions.stop(project, "a test")
        exits.carry_out(project, exits.open_plans(project)[0].plan_id)
        assert isinstance(asked(found.cursor), dg.SensorResult)
