"""No order too many, whatever the exchange does and wherever the process dies; and each rule is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mm_dagster.execution import drive, journal, machine
from mm_dagster.execution.machine import Plan
from mm_dagster.market.order_venue import Holding
from mm_dagster_tests.execution.trials import trial


def test_no_trial_sells_more_than_the_grid_held_or_writes_down_what_was_not_sold(trials: int, tmp_path: Path) -> None:
    results = [trial(tmp_path / str(seed), seed) for seed in range(trials)]
    assert {seed: result.faults for seed, result in enumerate(results) if result.faults} == {}
    assert sum(result.kills for result in results) > trials
    assert {"DONE", "HALTED"} <= {result.kept.plan.state for result in results}


def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "to_wait", lambda plan, seen, request_window: 0.0)


def _no_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_it(plan: Plan, holding: Holding) -> int:
        return plan.terms.rules.lots(min(holding.total, holding.free))

    monkeypatch.setattr(machine, "left_by_account", all_of_it)


def _no_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "left_by_account", lambda plan, holding: 10**9)


def _numbers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "client_id", lambda plan_id, number: f"mm{plan_id}n1")
    monkeypatch.setattr(journal, "_SCHEMA", journal._SCHEMA.replace(" UNIQUE", ""))


def _answer_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A placed order is done when the exchange says so, and never was when it says that it was not."""
    send = drive.Driver._send

    def believing(self: Any, request: Callable[[], None], cancelled: str | None) -> None:
        heard = []

        def asked() -> None:
            request()
            heard.append(True)

        send(self, asked, cancelled)
        if cancelled is None:
            order = self._journal.kept(self._plan_id).plan.orders[-1]
            closed = replace(order, state="CLOSED", filled=order.lots, proceeds=order.limit * order.lots)
            self._journal.settle(self._plan_id, closed if heard else replace(order, state="ABSENT"), self._world.utc())

    monkeypatch.setattr(drive.Driver, "_send", believing)
    monkeypatch.setattr(machine, "_once_more", lambda *args: None)


@pytest.mark.parametrize("broken", [_no_wait, _no_baseline, _no_balance, _numbers_again, _answer_believed])
def test_a_machine_without_one_of_its_rules_is_found_out(
    broken: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert any(trial(tmp_path / str(seed), seed).faults for seed in range(200))
