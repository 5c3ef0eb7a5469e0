"""Leaving for real, attacked: what is edited, taken away or done twice in the middle of a plan."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.errors import ForeseenError
from mm_dagster.execution.journal import Journal, Kept
from mm_dagster.execution.machine import Order
from mm_dagster.pipeline import exit_account, exits
from mm_dagster_tests.pipeline.test_exits import GRID, NOW, ORDERS, Desk, desk, home

__all__ = ["desk", "home"]


def rehearsed(desk: Desk) -> None:
    """A plan on paper was finished, without the time that it takes."""
    kept = desk.proposed("paper")
    Journal(desk.folder / "data").enter(kept.plan_id, ("PROPOSED",), "DONE", "a test", NOW)


def approved(desk: Desk) -> Kept:
    rehearsed(desk)
    return exits.approve(desk.project, desk.proposed().plan_id, "anna", stopped=True)


def told(desk: Desk) -> list[str]:
    return desk.project.lake.read("notification").filter(pl.col("kind") == "EXIT")["message"].to_list()


def _grid_taken_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.folder / "configuration" / "grids" / "sol-range.yaml").unlink()
    desk.write("grids/another", GRID | {"id": "another", "upper": 111})
    desk.allow(grids={})


def _activated_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("grids/sol-range", GRID | {"activated_at": (NOW - timedelta(hours=2)).isoformat()})


def _trade_key_taken_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("orders", {"mode": "paper"})


def _secret_not_set(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADE_SECRET")


def _another_account(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADE_KEY", "key-of-another-account")


def _less_allowed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.allow(grids={"sol-range": {"allow": True, "max_notional": 100}})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_grid_taken_away, "is not allowed"), (_activated_anew, "another one since"),
        (_trade_key_taken_away, "mode: paper"),
        (_secret_not_set, "TRADE_SECRET"), (_another_account, "another key"), (_less_allowed, "max_notional"),
    ],
)  # fmt: skip
def test_what_is_taken_away_in_the_middle_of_a_plan_halts_it_and_is_told_once(
    desk: Desk, edit: Callable[[Desk, pytest.MonkeyPatch], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = approved(desk)
    edit(desk, monkeypatch)
    left = exits.carry_out(desk.project, kept.plan_id)
    assert (left.plan.state, desk.changing) == ("HALTED", [])
    assert said in left.reason
    assert [kept.plan_id in one for one in told(desk)] == [True]
    assert exits.open_plans(desk.project) == []


def test_an_intent_of_a_grid_that_is_gone_is_told_of(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = approved(desk)
    journal = Journal(desk.folder / "data")
    journal.enter(kept.plan_id, ("APPROVED",), "SELLING", "a test", NOW)
    journal.intend(kept.plan_id, Order(1, f"mm{kept.plan_id}n1", 5_000, Decimal("99.5")), Decimal(100), NOW)
    _activated_anew(desk, monkeypatch)
    left = exits.carry_out(desk.project, kept.plan_id)
    assert (left.plan.state, desk.changing) == ("HALTED", [])
    assert any(f"mm{kept.plan_id}n1" in one for one in told(desk))


def test_what_was_sold_already_is_not_sold_again_by_a_second_plan(desk: Desk) -> None:
    desk.server.exchange.total = Decimal(20)
    first = approved(desk)
    assert exits.carry_out(desk.project, first.plan_id).plan.state == "DONE"
    second = desk.proposed()
    with pytest.raises(ForeseenError, match=f"plan {first.plan_id} sold"):
        exits.approve(desk.project, second.plan_id, "anna", stopped=True)
    assert desk.server.exchange.sold == Decimal(5)


def test_a_holding_of_long_ago_is_sold_by_a_persons_word_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsed(desk)
    kept = desk.proposed()
    later = NOW + timedelta(hours=3)
    project = desk.project
    monkeypatch.setattr(project, "now", lambda: later)
    with Journal(desk.folder / "data")._turn() as file:
        file.execute("UPDATE plan SET expires_at = '2099-01-01T00:00:00Z' WHERE plan_id = ?", (kept.plan_id,))
    with pytest.raises(ForeseenError, match="--amount"):
        exits.approve(project, kept.plan_id, "anna", stopped=True)


def test_an_approval_takes_the_max_notional_of_its_moment(desk: Desk) -> None:
    rehearsed(desk)
    kept = desk.proposed()
    desk.allow(grids={"sol-range": {"allow": True, "max_notional": 300}})
    after = exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    assert after.plan.terms.most_quote == 300
    assert exits.carry_out(desk.project, kept.plan_id).plan.state == "HALTED"
    assert desk.server.exchange.sold == 0


def test_nothing_is_proposed_or_approved_while_the_kill_file_is_there(desk: Desk) -> None:
    rehearsed(desk)
    kept = desk.proposed()
    before = len(desk.server.requests)
    (desk.folder / "data" / "KILL").symlink_to("nowhere")
    with pytest.raises(ForeseenError, match="kill file"):
        exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    with pytest.raises(ForeseenError, match="kill file"):
        desk.proposed()
    assert len(desk.server.requests) == before


def test_less_than_a_lot_is_no_amount(desk: Desk) -> None:
    rehearsed(desk)
    kept = desk.proposed()
    with pytest.raises(ForeseenError, match="less than the smallest amount"):
        exits.approve(desk.project, kept.plan_id, "anna", stopped=True, amount=Decimal("0.0001"))


def test_an_approval_that_expired_is_told(desk: Desk) -> None:
    kept = approved(desk)
    with Journal(desk.folder / "data")._turn() as file:
        file.execute("UPDATE plan SET approved_at = '2026-01-01T00:00:00Z' WHERE plan_id = ?", (kept.plan_id,))
    assert exits.carry_out(desk.project, kept.plan_id).plan.state == "EXPIRED"
    assert [kept.plan_id in one for one in told(desk)] == [True]
    assert desk.changing == []


def test_a_plan_of_days_ago_does_not_go_on_by_itself(desk: Desk) -> None:
    kept = approved(desk)
    journal = Journal(desk.folder / "data")
    journal.enter(kept.plan_id, ("APPROVED",), "SELLING", "a test", NOW)
    with journal._turn() as file:
        file.execute("UPDATE plan SET approved_at = '2026-01-01T00:00:00Z' WHERE plan_id = ?", (kept.plan_id,))
    left = exits.carry_out(desk.project, kept.plan_id)
    assert (left.plan.state, desk.changing) == ("HALTED", [])
    assert len(told(desk)) == 1


@pytest.mark.long
def test_whoever_halts_a_plan_hears_of_an_order_that_stays_open(desk: Desk) -> None:
    kept = approved(desk)
    journal = Journal(desk.folder / "data")
    journal.enter(kept.plan_id, ("APPROVED",), "SELLING", "a test", NOW)
    name = f"mm{kept.plan_id}n1"
    journal.intend(kept.plan_id, Order(1, name, 5_000, Decimal("99.5")), Decimal(100), NOW)
    desk.server.exchange.place(name, "sell", Decimal(5), Decimal("99.5"), rests=True).is_stuck = True
    exits.halt(desk.project, kept.plan_id, "anna")
    assert exits.carry_out(desk.project, kept.plan_id).plan.state == "HALTED"
    exits.carry_out(desk.project, kept.plan_id)
    assert [name in one for one in told(desk)] == [True]


def test_a_plan_that_waits_is_not_kept_waiting_by_another(desk: Desk) -> None:
    first = approved(desk)
    second = desk.proposed("paper")
    exits.approve(desk.project, second.plan_id, "anna")
    journal = Journal(desk.folder / "data")
    journal.enter(first.plan_id, ("APPROVED",), "CANCELLING", "it was begun", NOW)
    assert [one.plan_id for one in exits.open_plans(desk.project)] == [second.plan_id, first.plan_id]
    journal.enter(first.plan_id, ("CANCELLING",), "HALTED", "a test", NOW)
    assert [one.plan_id for one in exits.open_plans(desk.project)] == [second.plan_id, first.plan_id]


@pytest.mark.parametrize("orders", [{"mode": "off"}, ORDERS | {"grids": {}}])
def test_a_resumed_plan_is_one_that_is_still_allowed(desk: Desk, orders: dict[str, object]) -> None:
    kept = approved(desk)
    exits.halt(desk.project, kept.plan_id, "anna")
    desk.write("orders", orders)
    with pytest.raises(ForeseenError, match="allow"):
        exits.resume(desk.project, kept.plan_id, "anna")
    assert Journal(desk.folder / "data").kept(kept.plan_id).plan.state == "HALTED"


def test_what_is_left_is_said_only_when_every_order_is_known(desk: Desk) -> None:
    kept = approved(desk)
    journal = Journal(desk.folder / "data")
    journal.enter(kept.plan_id, ("APPROVED",), "SELLING", "a test", NOW)
    journal.intend(kept.plan_id, Order(1, f"mm{kept.plan_id}n1", 5_000, Decimal("99.5")), Decimal(100), NOW)
    exits.halt(desk.project, kept.plan_id, "anna")
    with pytest.raises(ForeseenError, match="what became of"):
        exits.resume(desk.project, kept.plan_id, "anna", amount=Decimal(2))


def test_coins_that_are_gone_since_the_approval_are_said(desk: Desk) -> None:
    kept = approved(desk)
    desk.server.exchange.total = Decimal("5.5")
    left = exits.carry_out(desk.project, kept.plan_id)
    assert (left.plan.state, desk.server.exchange.sold) == ("HALTED", Decimal(3))
    assert "has less" in left.reason


def test_the_key_that_reads_at_another_venue_of_the_exchange_does_not_trade(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed(desk)
    monkeypatch.setenv("READ_KEY", desk.server.key.key)
    account = {"key_env": "READ_KEY", "secret_env": "READ_SECRET", "passphrase_env": "READ_PASS"}
    venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": desk.server.url, "requests_per_second": 1000}
    desk.write("markets", {
        "venues": {"mine": venue, "other": venue | {"account": account}},
        "markets": [{"symbol": "SOL-USDT", "venue": "mine"}],
    })  # fmt: skip
    desk.allow(trade_key={**ORDERS["trade_key"], "venue": "mine"})
    with pytest.raises(ForeseenError, match="holds the key that reads the account"):
        desk.proposed()


def test_a_service_and_a_login_of_one_home_have_one_lock(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login has a runtime folder, a service may have another one."""
    kept = approved(desk)
    for name in ("login", "service"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "login"))
    with exit_account.one_at_a_time(desk.project, kept, "live"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "service"))
        with pytest.raises(exit_account.Occupied):
            exits.carry_out(desk.project, kept.plan_id)
    assert desk.changing == []
