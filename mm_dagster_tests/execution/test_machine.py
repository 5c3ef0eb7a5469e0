"""No order too many, whatever the exchange does and wherever the process dies; and each rule is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mm_dagster.books.book import Book
from mm_dagster.execution import drive, journal, machine
from mm_dagster.execution.drive import Driver, World
from mm_dagster.execution.journal import Journal, Kept
from mm_dagster.execution.machine import Order, Plan, client_id
from mm_dagster.market.order_venue import Holding, OpenOrder
from mm_dagster.market.venue import VenueError
from mm_dagster_tests.execution.exchange import Exchange, InProcess
from mm_dagster_tests.execution.trials import RULES, Clock, propose, terms_of, trial


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("broken", [_no_wait, _no_baseline, _no_balance, _numbers_again, _answer_believed])
def test_a_machine_without_one_of_its_rules_is_found_out(
    broken: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert any(trial(tmp_path / str(seed), seed).faults for seed in range(200))


def _sold_and_died(folder: Path, lots: int) -> tuple[Journal, Exchange, Clock, str]:
    """A plan whose order was filled by the exchange, of which the process heard nothing."""
    clock = Clock()
    exchange = Exchange(clock.seconds, RULES, RULES.amount(lots), request_window=5.0)
    terms, journal_of = terms_of(lots, "operator"), Journal(folder)
    propose(journal_of, terms, clock.utc())
    journal_of.approve(terms.plan_id, terms, "a test", clock.utc(), None)
    journal_of.enter(terms.plan_id, ("APPROVED",), "SELLING", "by a test", clock.utc())
    order = Order(1, client_id(terms.plan_id, 1), lots, RULES.limit(Decimal("99.5")))
    journal_of.intend(terms.plan_id, order, Decimal(100), clock.utc())
    exchange.place(order.client_id, "sell", RULES.amount(lots), order.limit)
    return journal_of, exchange, clock, terms.plan_id


def _go_on(found: tuple[Journal, Exchange, Clock, str], venue: InProcess) -> Kept:
    journal_of, exchange, clock, plan_id = found
    world = World(venue, exchange.book, None, clock.seconds, clock.sleep, clock.utc, lambda: False)
    return Driver(journal_of, plan_id, world).run(clock.now + 50_000)


@pytest.mark.parametrize(("days", "state", "order"), [(0.03, "SETTLING", "ABSENT"), (5, "HALTED", "INTENDED")])
def test_an_order_that_the_exchange_may_have_forgotten_is_left_to_a_person(
    days: float, state: str, order: str, tmp_path: Path
) -> None:
    """KuCoin forgets filled orders after a week: "there is none" is no proof then that nothing was sold."""
    found = _sold_and_died(tmp_path, 1_000)
    found[1].orders.clear()
    found[2].calendar_jump = days * 86_400.0
    kept = _go_on(found, InProcess(found[1]))
    assert [one.state for one in kept.plan.orders] == [order]
    if state == "HALTED":
        assert kept.plan.state == "HALTED"
        assert "may have forgotten it" in kept.reason
        assert _go_on(found, InProcess(found[1])).plan.state == "HALTED"
    else:
        assert kept.plan.state == "HALTED"
        assert "who sold it" in kept.reason, "the balance bound holds all the same"


@dataclass
class Slow(InProcess):
    """An exchange that takes some seconds for each answer, as Kraken does when it is asked too often."""

    clock: Clock = field(default_factory=Clock)

    def holding(self, symbol: str) -> Holding:
        self.clock.sleep(4.0)
        return super().holding(symbol)

    def open_orders(self, symbol: str) -> list[OpenOrder]:
        self.clock.sleep(4.0)
        return super().open_orders(symbol)


def test_a_slow_exchange_is_sold_at_all_the_same(tmp_path: Path) -> None:
    clock = Clock()
    exchange = Exchange(clock.seconds, RULES, Decimal(3))
    terms, journal_of = terms_of(3_000, "operator"), Journal(tmp_path)
    propose(journal_of, terms, clock.utc())
    journal_of.approve(terms.plan_id, terms, "a test", clock.utc(), None)
    kept = _go_on((journal_of, exchange, clock, terms.plan_id), Slow(exchange, clock=clock))
    assert (kept.plan.state, exchange.sold) == ("DONE", Decimal(3))


@dataclass
class Unasked(InProcess):
    """An exchange that has no answer to one question, and to all others."""

    mute: str = ""

    def holding(self, symbol: str) -> Holding:
        if self.mute == "holding":
            raise VenueError("no answer")
        return super().holding(symbol)

    def book(self) -> Book:
        if self.mute == "book":
            raise VenueError("a book that nobody believes")
        return super().book()


@pytest.mark.parametrize("mute", ["holding", "book"])
@pytest.mark.parametrize("seconds", [50_000.0, 240.0])
def test_a_question_that_is_never_answered_halts_the_plan_in_many_short_runs_as_in_a_long_one(
    mute: str, seconds: float, tmp_path: Path
) -> None:
    clock = Clock()
    exchange = Exchange(clock.seconds, RULES, Decimal(3))
    terms, journal_of = terms_of(3_000, "operator"), Journal(tmp_path)
    propose(journal_of, terms, clock.utc())
    journal_of.approve(terms.plan_id, terms, "a test", clock.utc(), None)
    venue, began = Unasked(exchange, mute=mute), clock.now
    for _ in range(20):
        world = World(venue, venue.book, None, clock.seconds, clock.sleep, clock.utc, lambda: False)
        kept = Driver(journal_of, terms.plan_id, world).run(clock.now + seconds)
        clock.sleep(5.0)
    assert kept.plan.state == "HALTED"
    assert "said nothing for 10 minutes" in kept.reason
    assert kept.ended_at is not None
    assert (kept.ended_at - clock.utc()).total_seconds() + clock.now - began < 800
    assert [one.kind for one in journal_of.events(terms.plan_id)].count("SILENT") == 1


def test_a_grid_that_orders_after_the_last_slice_was_not_left(tmp_path: Path) -> None:
    clock = Clock()
    exchange = Exchange(clock.seconds, RULES, Decimal(3), levels=(Decimal(95),))
    terms, journal_of = terms_of(3_000, "operator"), Journal(tmp_path)
    propose(journal_of, terms, clock.utc())
    journal_of.approve(terms.plan_id, terms, "a test", clock.utc(), None)

    def say(kind: str, said: str) -> None:
        if kind == "SETTLING":
            exchange.place(None, "buy", Decimal(1), Decimal(95), rests=True)

    world = World(InProcess(exchange), exchange.book, None, clock.seconds, clock.sleep, clock.utc, lambda: False, say)
    kept = Driver(journal_of, terms.plan_id, world).run(clock.now + 50_000)
    assert (kept.plan.state, exchange.sold) == ("HALTED", Decimal(3))
    assert "is new although the grid was said to be stopped" in kept.reason
