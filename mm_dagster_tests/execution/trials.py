"""Trials of the order machine: a seeded exchange, a seeded world of kills, and the truth beside the journal."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from mm_dagster.execution.drive import Driver, World
from mm_dagster.execution.journal import Journal, Kept, new_plan_id
from mm_dagster.execution.machine import Plan, Stopper, Terms
from mm_dagster.market.order_venue import MarketRules
from mm_dagster_tests.execution.exchange import Exchange, InProcess, Whims

RULES = MarketRules(Decimal("0.001"), Decimal("0.01"), Decimal("0.01"), Decimal("1"))
START = datetime(2026, 6, 29, 12, tzinfo=UTC)
SETTLE = 15.0


class Killed(BaseException):
    """The process is gone, at this very line."""


@dataclass
class Clock:
    """Seconds that pass as they are slept and asked through."""

    now: float = 1_000.0
    calendar_jump: float = 0.0

    def seconds(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-3)

    def utc(self) -> datetime:
        return START + timedelta(seconds=self.now + self.calendar_jump)


class Hasty:
    """A clock that nobody waits for: what is slept has passed. For servers that are never late."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        self._ahead += max(0.0, seconds)


@dataclass
class Result:
    """What became of a trial.

    Attributes:
        kept: the plan at the end.
        exchange: the truth.
        inventory: what the grid held, base currency.
        foreign: what the account held beside.
        kills: how often the process died.
        processes: how often one began.
    """

    kept: Kept
    exchange: Exchange
    inventory: Decimal
    foreign: Decimal
    kills: int = 0
    processes: int = 0
    said: list[tuple[str, str]] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """All that must never be, in words."""
        exchange, plan = self.exchange, self.kept.plan
        found = []
        journal = sum((plan.terms.rules.amount(order.filled) for order in plan.orders), Decimal(0))
        ours = [one for one in exchange.orders.values() if one.client_id is not None]
        if exchange.sold > self.inventory:
            found.append(f"oversold: {exchange.sold} of {self.inventory}")
        elif exchange.sold and exchange.sold + exchange.sold_by_grid > self.inventory:
            found.append(f"foreign coins: {exchange.sold} sold, and the grid had sold {exchange.sold_by_grid}")
        if "buy" in exchange.sides:
            found.append("bought")
        if exchange.others_cancelled:
            found.append(f"cancelled orders of others: {exchange.others_cancelled}")
        known = {order.client_id for order in plan.orders}
        if any(one.client_id not in known for one in ours):
            found.append("an order that no intent stands for")
        if exchange.duplicates:
            found.append(f"{exchange.duplicates} numbers used twice")
        is_known = all(order.state != "INTENDED" for order in plan.orders)
        if is_known and journal != exchange.sold:
            found.append(f"wrong fills: the journal says {journal}, the exchange sold {exchange.sold}")
        if plan.state not in ("DONE", "HALTED", "EXPIRED"):
            found.append(f"it ended as {plan.state}")
        if any(one.is_open for one in ours) and plan.state != "HALTED":
            found.append(f"an order is stuck, and the plan is {plan.state}")
        if plan.state in ("HALTED", "EXPIRED") and not self.kept.reason:
            found.append(f"{plan.state}, and nobody is told why")
        return found


def whims(chance: random.Random) -> Whims:
    """Some of all that an exchange may do, more or less of it."""

    def some(most: float) -> float:
        return chance.uniform(0, most) if chance.random() < 0.5 else 0.0

    return Whims(
        lost_request=some(0.3),
        lost_answer=some(0.5),
        late_request=some(0.3),
        wrong_answer=some(0.3),
        partial=some(0.5),
        no_answer=some(0.4),
        lag=some(SETTLE * 0.9),
        balance_lag=some(SETTLE * 0.9),
        fill_lag=some(SETTLE * 0.9),
        stuck_order=some(0.3),
        stuck_cancel=some(0.5),
        bot_orders=chance.choice([0, 0, 1, 2, 5]),
        bot_fills=some(0.5),
    )


def trial(
    folder: Path, seed: int, *, changed: Callable[[Whims], Whims] = lambda found: found, most_kills: int = 5
) -> Result:
    """One plan from approval to its end, with kills at any line that touches the outside.

    Args:
        folder: of the journal.
        seed: of all chance.
        changed: what is made of the exchange's whims.
        most_kills: after so many the process lives.
    """
    chance = random.Random(seed)
    clock = Clock()
    exchange, terms, foreign = grid(chance, clock.seconds, changed(whims(chance)))
    journal = Journal(folder)
    propose(journal, terms, clock.utc())
    journal.approve(terms.plan_id, terms, "a test", clock.utc(), None)
    result = Result(journal.kept(terms.plan_id), exchange, RULES.amount(terms.inventory), foreign)

    def step(kind: str, said: str) -> None:
        result.said.append((kind, said))
        die()

    def die() -> None:
        if result.kills < most_kills and chance.random() < 0.06:
            result.kills += 1
            raise Killed
        if chance.random() < 0.01:
            # Somebody sets the computer's clock.
            clock.calendar_jump += chance.uniform(-7_200, 300)

    venue = _Deadly(exchange, die, clock)
    while True:
        result.processes += 1
        clock.sleep(chance.uniform(0, 3))
        world = World(venue, venue.book, None, clock.seconds, clock.sleep, clock.utc, lambda: False, step)
        try:
            Driver(deadly(Journal(folder), die), terms.plan_id, world).run(clock.now + 30_000)
        except Killed:
            continue
        break
    clock.now += 3_600
    exchange._go_on()
    return replace(result, kept=journal.kept(terms.plan_id))


def grid(
    chance: random.Random,
    seconds: Callable[[], float],
    whims: Whims,
    *,
    settle: float = SETTLE,
    every: float = 60.0,
    name: Callable[[int], str] = lambda number: f"x{number}",
    stopper: Stopper | None = None,
) -> tuple[Exchange, Terms, Decimal]:
    """An account in which a grid runs, beside coins and orders that are not the grid's, and the terms of leaving it.

    Returns:
        The exchange, the terms, and what the account has beside, base currency.
    """
    inventory, foreign = (
        Decimal(chance.randint(100, 9_000)) / 1000,
        Decimal(chance.choice([0, 0, 2_000, 50_000])) / 1000,
    )
    levels = (Decimal("95"), Decimal("105"))
    by = stopper or chance.choice(["orders", "orders", "operator"])
    # The coins of an exchange's own bot are apart until it is stopped.
    total = foreign if by in ("bot", "bot_sells") else inventory + foreign
    exchange = Exchange(seconds, RULES, total, levels=levels, whims=whims, random=chance, name=name)
    if by != "orders":
        exchange.whims.bot_orders = 0
    own = []
    if by == "orders":
        own.append(exchange.place(None, "sell", min(inventory, inventory / 3 + RULES.lot), levels[1], rests=True))
        own.append(exchange.place(None, "buy", Decimal(1), levels[0], rests=True))
    other = exchange.place(None, "buy", Decimal(1), Decimal("50"), rests=True)
    terms = replace(
        terms_of(RULES.lots(inventory), by),
        foreign=foreign,
        own_orders=frozenset(one.order_id for one in own),
        other_orders=frozenset({other.order_id}),
        levels=levels,
        slices=chance.choice([1, 1, 3]),
        every_seconds=every,
        settle_seconds=settle,
    )
    return exchange, terms, foreign


def terms_of(lots: int, stopper: Stopper) -> Terms:
    """Terms of leaving a grid of so many lots, in an account that holds nothing else."""
    return Terms(
        plan_id=new_plan_id(), symbol="SOL-USDT", rules=RULES, inventory=lots, foreign=Decimal(0),
        own_orders=frozenset(), other_orders=frozenset(), levels=(), stopper=stopper, slices=1, every_seconds=60.0,
        hard=Decimal("0.005"), most_quote=Decimal(1_000_000), settle_seconds=SETTLE,
    )  # fmt: skip


def propose(journal: Journal, terms: Terms, at: datetime, *, mode: str = "live") -> None:
    """A plan that waits for its approval."""
    journal.propose(
        Kept(
            plan=Plan(terms, "PROPOSED"),
            grid_id="sol-range",
            activated_at=START,
            venue="exchange",
            mode=mode,
            reason="proposed by a test",
            created_at=at,
            expires_at=at + timedelta(minutes=10),
            approved_at=None,
            approved_by=None,
            ended_at=None,
            forecast={},
        )
    )


@dataclass
class _Deadly(InProcess):
    """An exchange at whose every request the process may die, before and after."""

    def __init__(self, exchange: Exchange, die: Callable[[], None], clock: Clock) -> None:
        super().__init__(exchange)
        self._die, self._clock = die, clock

    def __getattribute__(self, name: str):  # type: ignore[no-untyped-def]
        found = super().__getattribute__(name)
        if name not in ("holding", "open_orders", "record", "book", "sell", "cancel"):
            return found

        def asked(*args):  # type: ignore[no-untyped-def]
            self._die()
            self._clock.sleep(self.exchange.random.uniform(0.01, 0.5))
            try:
                return found(*args)
            finally:
                self._clock.sleep(self.exchange.random.uniform(0.01, 0.5))
                self._die()

        return asked


def deadly(journal: Journal, die: Callable[[], None]) -> Journal:
    """A journal before and after whose every line the process may die."""
    turn = journal._turn

    @contextmanager
    def deadly() -> Iterator[object]:
        die()
        with turn() as file:
            yield file
        die()

    journal._turn = deadly  # type: ignore[method-assign]
    return journal
