"""Trials of leaving a grid with real processes: ccxt's real client, a loopback exchange, SIGKILL, and the truth after.

One trial is one plan. Its workers are killed by the exchange in the middle of a request, or at any time; they come two
at once, with a wrong clock, without room on the disk; and somebody may put the kill file there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing.process import BaseProcess
from pathlib import Path

from mm_dagster.execution.journal import Journal
from mm_dagster.execution.machine import Stopper
from mm_dagster_tests.execution.exchange import Whims
from mm_dagster_tests.execution.loopback import DIALECTS, Bot, Fate, Loopback, Okx
from mm_dagster_tests.execution.trials import RULES, Result, grid, propose
from mm_dagster_tests.execution.worker import CRASHED, KILL_FILE, NO_JOURNAL, OVER, SCALE, TRACE, Job, work

SETTLE = 6.0
"""Seconds of the plan, as all that follow but those that say otherwise."""
WINDOW = 6.0
EVERY = 8.0
PATIENCE = 0.35
"""Seconds of the clock."""
MOST_KILLS = 4
TOO_LONG = 300.0
"""Seconds of the clock after which a plan never ends."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["mm_dagster_tests.execution.worker", "pytest"])
_PROCESSES = threading.Lock()
"""multiprocessing looks after all children of all threads whenever one begins."""


@dataclass
class KillResult(Result):
    """What became of a trial with processes.

    Attributes:
        name: exchange and kind of grid.
        crashes: what ended a worker that nobody killed.
        after_the_file: orders that were placed although the kill file was there.
        full: how often there was no room for the journal.
        locked: how often a second worker was turned away.
        server: what was asked.
    """

    name: str = ""
    crashes: list[str] = field(default_factory=list)
    after_the_file: int = 0
    full: int = 0
    locked: int = 0
    server: Loopback | None = None

    @property
    def faults(self) -> list[str]:
        found = list(super().faults) + self.crashes
        if self.after_the_file:
            found.append(f"{self.after_the_file} orders were placed although the kill file was there")
        if self.server is not None and self.server.ahead:
            found.append(f"{self.server.ahead} requests were signed with a time that had not come")
        bot = self.server.bot if isinstance(self.server, Okx) else None
        if bot is not None and not bot.kept and self.exchange.sold:
            found.append("the bot sold at market, and orders sold again")
        return found


def kinds(name: str) -> tuple[str, Stopper | None]:
    """The exchange of a kind of trial, and who stops the grid: `okx-bot` is OKX's own bot."""
    return (name.partition("-")[0], "bot") if name.endswith("-bot") else (name, None)


def kill_trials(folder: Path, name: str, seeds: Sequence[int], at_once: int, broken: str = "") -> list[KillResult]:
    """Trials of one kind, so many at once."""
    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(lambda seed: kill_trial(folder / f"{name}-{seed}", name, seed, broken), seeds))


def kill_trial(folder: Path, name: str, seed: int, broken: str = "") -> KillResult:
    """One plan from approval to its end.

    Args:
        folder: of the journal.
        name: see `kinds`.
        seed: of all chance but that of the operating system.
        broken: see `Job`.
    """
    chance = random.Random(f"{name} {seed}")
    folder.mkdir(parents=True)
    exchange_name, stopper = kinds(name)
    if stopper == "bot" and chance.random() < 0.2:
        stopper = "bot_sells"
    dialect = DIALECTS[exchange_name]
    exchange, terms, foreign = grid(
        chance, lambda: time.monotonic() * SCALE, _whims(chance), settle=SETTLE, every=EVERY, name=dialect.order_name,
        stopper=stopper,
    )  # fmt: skip
    if chance.random() < 0.1:
        # Dust: less than an order.
        terms = replace(terms, inventory=RULES.lots(RULES.least) - 1)
    inventory = RULES.amount(terms.inventory)
    journal = Journal(folder)
    now = datetime.now(UTC)
    propose(journal, terms, now)
    journal.approve(terms.plan_id, terms, "a test", now, None)
    server = dialect(exchange, WINDOW / SCALE, PATIENCE, _fate(chance), chance)
    if isinstance(server, Okx) and stopper is not None:
        server.bot, server.stop_lag = Bot(inventory, stays=chance.random() < 0.05), SETTLE
    result = KillResult(journal.kept(terms.plan_id), exchange, inventory, foreign, name=name, server=server)
    with server:
        _run(folder, seed, chance, server, result, stopper, broken)
    return replace(result, kept=journal.kept(terms.plan_id))


def _run(
    folder: Path,
    seed: int,
    chance: random.Random,
    server: Loopback,
    result: KillResult,
    stopper: Stopper | None,
    broken: str,
) -> None:
    """Workers, until one has nothing more to do."""
    living: list[BaseProcess] = []
    guard = threading.Lock()

    def kill() -> None:
        with guard:
            if result.kills >= MOST_KILLS or not living:
                return
            result.kills += 1
            for one in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid or 0, signal.SIGKILL)
            living.clear()

    server.kill = kill
    bot = server.bot if isinstance(server, Okx) else None
    key = server.key
    job = Job(
        folder, result.kept.plan_id, server.name, server.url, (key.key, key.secret, key.passphrase),
        None if bot is None else (bot.number, stopper == "bot_sells"), server.window, PATIENCE, result.exchange.mid,
        jump=0.0, room=None, seed=seed, broken=broken,
    )  # fmt: skip
    file_at = time.monotonic() + chance.uniform(0, 8) if chance.random() < 0.1 else None
    began, is_put = time.monotonic(), None
    while True:
        fresh = replace(
            job,
            jump=chance.choice([0.0, 0.0, chance.uniform(-7_200, 300)]),
            room=chance.choice([None, None, None, None, chance.randrange(60_000)]),
            seed=seed + result.processes,
        )
        mine = [_start(fresh) for _ in range(2 if chance.random() < 0.3 else 1)]
        result.processes += len(mine)
        with guard:
            living[:] = mine
        kill_at = time.monotonic() + chance.uniform(0, 2.5) if chance.random() < 0.4 else None
        codes: list[int | None] = []
        while not codes or None in codes:
            time.sleep(0.02)
            now = time.monotonic()
            if kill_at is not None and kill_at <= now:
                kill()
                kill_at = None
            if file_at is not None and file_at <= now and is_put is None:
                (folder / KILL_FILE).touch()
                is_put = time.monotonic()
            if now - began > TOO_LONG:
                result.crashes.append("it does not come to an end")
                with guard:
                    result.kills = 0
                kill()
            with _PROCESSES:
                codes = [one.exitcode for one in mine]
        with guard:
            living.clear()
        result.full += codes.count(NO_JOURNAL)
        result.locked += codes.count(3)
        if CRASHED in codes:
            trace = folder / TRACE
            result.crashes.append(trace.read_text()[-600:] if trace.is_file() else "a worker ended without a word")
        if OVER in codes or result.crashes:
            break
    if is_put is not None:
        # A request that was begun before is no fault.
        result.after_the_file = sum(
            one.at > is_put + PATIENCE and server.change(one) is not None for one in server.requests
        )


def _start(job: Job) -> BaseProcess:
    with _PROCESSES:
        process = _CONTEXT.Process(target=work, args=(job,), daemon=True)
        process.start()
    return process


def _some(chance: random.Random, most: float) -> float:
    return chance.uniform(0, most) if chance.random() < 0.5 else 0.0


def _whims(chance: random.Random) -> Whims:
    return Whims(
        partial=_some(chance, 0.5), lag=_some(chance, SETTLE * 0.8), balance_lag=_some(chance, SETTLE * 0.8),
        fill_lag=_some(chance, SETTLE * 0.8), stuck_order=_some(chance, 0.15), stuck_cancel=_some(chance, 0.3),
        bot_orders=chance.choice([0, 0, 0, 0, 1, 2, 5]), bot_fills=_some(chance, 0.5),
    )  # fmt: skip


def _fate(chance: random.Random) -> Fate:
    return Fate(
        lost=_some(chance, 0.2), late=_some(chance, 0.3), unheard=_some(chance, 0.3), reset=_some(chance, 0.3),
        broken=_some(chance, 0.3), denied=_some(chance, 0.2), claimed=_some(chance, 0.15), again=_some(chance, 0.3),
        busy=_some(chance, 0.2), silent=_some(chance, 0.25), deadly=chance.choice([0.0, 0.01, 0.02, 0.05]),
    )  # fmt: skip


def told(results: Sequence[KillResult]) -> str:
    """A line of figures."""
    states: dict[str, int] = {}
    for one in results:
        states[one.kept.plan.state] = states.get(one.kept.plan.state, 0) + 1
    sold = sum((one.exchange.sold for one in results), Decimal(0))
    orders = sum(len(one.kept.plan.orders) for one in results)
    asked = sum(len(one.server.requests) for one in results if one.server is not None)
    ends = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    return (
        f"{results[0].name}: {len(results)} plans, {sum(one.kills for one in results)} kills, "
        f"{sum(one.processes for one in results)} processes ({sum(one.locked for one in results)} turned away, "
        f"{sum(one.full for one in results)} without room), {asked} requests, {orders} orders, {sold} sold; {ends}; "
        f"faults: {sum(bool(one.faults) for one in results)}"
    )
