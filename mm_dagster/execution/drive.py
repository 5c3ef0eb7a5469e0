"""Carries a plan out: asks the machine what to do, writes it down, does it, and looks again.

Everything from outside comes in as a function or a protocol: the exchange, the clock, the kill file. So what is tried
with a simulated exchange and a simulated clock is what runs. It may die at any line; another process takes the plan up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from mm_dagster.books.book import Book
from mm_dagster.errors import ForeseenError
from mm_dagster.execution import machine
from mm_dagster.execution.journal import Journal, Kept, Overtaken
from mm_dagster.execution.machine import (
    RUNNING,
    Action,
    Ask,
    Cancel,
    Enter,
    Intend,
    Seen,
    Settle,
    StopGrid,
    Told,
    Wait,
)
from mm_dagster.market.order_venue import GridStop, OrderVenue
from mm_dagster.text import exact

LONGEST_PAUSE = 30.0
"""Seconds between two questions to an exchange that does not answer."""


SILENT = "SILENT"
"""In the history of a plan: a question had no answer."""


@dataclass(frozen=True)
class World:
    """What a plan is carried out with.

    Attributes:
        venue: the account.
        book: the order book of now, if it is to be believed; else a ForeseenError.
        stop: the exchange's bot; None: no program stops this grid.
        seconds: a clock that nobody sets.
        sleep: waits so many seconds.
        utc: the time that is written down. Nothing is decided by it but whether an approval, or an order of which
            nothing is known, is too old.
        is_killed: whether the kill file is there; also where it cannot be looked for.
        say: is told each step, with its kind and in words.
    """

    venue: OrderVenue
    book: Callable[[], Book]
    stop: GridStop | None
    seconds: Callable[[], float]
    sleep: Callable[[float], None]
    utc: Callable[[], datetime]
    is_killed: Callable[[], bool]
    say: Callable[[str, str], None] = lambda kind, said: None


class Driver:
    """One process at work on one plan."""

    def __init__(self, journal: Journal, plan_id: str, world: World) -> None:
        """
        Args:
            journal: holds the plan.
            plan_id: an approved plan, or a halted one of which an order is not settled.
            world: what it is carried out with.
        """
        self._journal, self._plan_id, self._world = journal, plan_id, world
        now = world.seconds()
        self._seen = Seen(now=now, began=now)
        self._failures: dict[str, int] = {}
        self._silent = self._silent_before()

    def run(self, until: float | None = None) -> Kept:
        """Goes on until nothing is to be done, and says where the plan stands.

        Args:
            until: seconds of the world's clock at which it lets go, to be taken up again; None: never.

        Raises:
            JournalError: the journal cannot be written. Nothing was sent that is not in it.
        """
        while True:
            kept = self._journal.kept(self._plan_id)
            action = self._next(kept)
            if action is None or (until is not None and self._world.seconds() >= until):
                return self._journal.kept(self._plan_id)
            try:
                self._do(kept, action)
            except Overtaken:
                # A person, or another process: the journal is read again.
                continue

    def _next(self, kept: Kept) -> Action | None:
        world, utc = self._world, self._world.utc()
        intended = [kept.intended_at[order.number] for order in kept.plan.orders if order.state == "INTENDED"]
        self._seen = replace(
            self._seen,
            now=world.seconds(),
            is_killed=world.is_killed(),
            approved_for=(utc - (kept.approved_at or kept.created_at)) / timedelta(seconds=1),
            pending_for=(utc - min(intended, default=utc)) / timedelta(seconds=1),
        )
        return machine.next_action(kept.plan, self._seen, world.venue.request_window)

    def _do(self, kept: Kept, action: Action) -> None:
        match action:
            case Wait():
                self._world.sleep(action.seconds)
            case Ask():
                self._ask(kept, action)
            case Enter():
                before = (*RUNNING, "PROPOSED") if action.state == "HALTED" else (kept.plan.state,)
                self._journal.enter(self._plan_id, before, action.state, action.why, self._world.utc())
                self._world.say(action.state, action.why)
            case Settle():
                self._journal.settle(self._plan_id, action.order, self._world.utc())
                self._seen = replace(self._seen, since_closed=self._world.seconds())
                self._world.say(action.order.state, action.order.client_id)
            case Intend():
                self._intend(kept, action)
            case Cancel():
                said = f"order {action.order_id} is to be cancelled"
                self._journal.note(self._plan_id, "CANCEL", said, self._world.utc(), rounds=int(action.new_round))
                self._world.say("CANCEL", said)
                self._send(lambda: self._world.venue.cancel(kept.plan.terms.symbol, action.order_id), action.order_id)
            case StopGrid():
                self._journal.note(self._plan_id, "STOP", "the bot is asked to stop", self._world.utc(), stops=1)
                self._world.say("STOP", "the bot is asked to stop")
                assert self._world.stop is not None
                self._send(self._world.stop.stop, None)

    def _ask(self, kept: Kept, action: Ask) -> None:
        """A question. Its moment is that before it was put: what it tells is no newer."""
        at = self._world.seconds()
        if self._world.is_killed():
            return
        try:
            value = self._answer(kept, action)
        except ForeseenError as error:
            self._failed(action.what, str(error))
            return
        told = Told(at, value, self._world.seconds())
        match action.what:
            case "record":
                self._seen = replace(self._seen, records={**self._seen.records, action.number: told})
            case "book":
                self._seen = replace(self._seen, mid=told)
            case "open":
                self._seen = replace(self._seen, open=told)
            case "holding":
                self._seen = replace(self._seen, holding=told)
            case "stop":
                self._seen = replace(self._seen, stop=told)
        self._failures.pop(action.what, None)
        self._silent.pop(action.what, None)
        unheard = {what: since for what, since in self._seen.unheard.items() if what != action.what}
        self._seen = replace(self._seen, unheard=unheard)

    def _answer(self, kept: Kept, action: Ask) -> object:
        """What the exchange says.

        Raises:
            ForeseenError: nothing.
        """
        venue, symbol = self._world.venue, kept.plan.terms.symbol
        match action.what:
            case "open":
                return tuple(venue.open_orders(symbol))
            case "holding":
                return venue.holding(symbol)
            case "book":
                return exact(self._world.book().mid)
            case "stop":
                return "unknown" if self._world.stop is None else self._world.stop.state()
            case _:
                return venue.record(symbol, machine.client_id(self._plan_id, action.number))

    def _intend(self, kept: Kept, action: Intend) -> None:
        """On disk first, then the kill file, then the request; its answer is looked at by nobody."""
        order, terms = action.order, kept.plan.terms
        assert self._seen.mid is not None
        mid: Decimal = self._seen.mid.value  # type: ignore[assignment]
        self._journal.intend(self._plan_id, order, mid, self._world.utc())
        self._world.say("INTENDED", f"{order.client_id}: {terms.rules.amount(order.lots)} at {order.limit} or better")
        self._send(
            lambda: self._world.venue.sell(terms.symbol, order.client_id, terms.rules.amount(order.lots), order.limit),
            None,
        )

    def _send(self, request: Callable[[], None], cancelled: str | None) -> None:
        """A request that changes something. What is known of the exchange is of before it from now on."""
        counts = dict(self._seen.cancelled)
        if cancelled is not None:
            counts[cancelled] = counts.get(cancelled, 0) + 1
        try:
            if not self._world.is_killed():
                request()
        except ForeseenError as error:
            self._world.say("NOT_ANSWERED", str(error))
        finally:
            self._seen = replace(
                self._seen, sent=self._world.seconds(), cancelled=counts, open=None, holding=None, mid=None, stop=None,
                records={},
            )  # fmt: skip

    def _silent_before(self) -> dict[str, datetime]:
        """Since when questions had no answer that a process before this one put: a run of the daemon is short."""
        found: dict[str, datetime] = {}
        for event in self._journal.events(self._plan_id):
            if event.kind == SILENT:
                found.setdefault(event.said.partition(":")[0], event.at)
            else:
                # The plan got on, so that there were answers.
                found = {}
        return found

    def _failed(self, what: str, said: str) -> None:
        """No answer: it is asked again, less and less often, and one line in the history says since when."""
        now, utc = self._world.seconds(), self._world.utc()
        if what not in self._seen.unheard:
            if what not in self._silent:
                self._journal.note(self._plan_id, SILENT, f"{what}: {said}"[:300], utc)
                self._silent[what] = utc
            since = now - max(0.0, (utc - self._silent[what]) / timedelta(seconds=1))
            self._seen = replace(self._seen, unheard={**self._seen.unheard, what: since})
        self._world.say(SILENT, said)
        failures = self._failures.get(what, 0)
        self._failures[what] = min(failures + 1, 10)
        self._world.sleep(min(LONGEST_PAUSE, machine.POLL_SECONDS * 2.0**failures))
