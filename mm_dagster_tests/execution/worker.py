"""A process that leaves a grid, to be killed: a driver with ccxt's real client against an exchange on loopback.

Time runs faster than the clock, so that a plan of minutes takes seconds; the network does not.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mm_dagster.books.book import Book, parse
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.execution import machine
from mm_dagster.execution.drive import Driver, World
from mm_dagster.execution.journal import Journal, JournalError
from mm_dagster.execution.locks import AccountLocked, account_lock
from mm_dagster.market.account import Credentials
from mm_dagster.market.bots import OkxGridStop
from mm_dagster.market.connection import Retry
from mm_dagster.market.order_venue import GridStop
from mm_dagster.market.orders import AccountOrders, fingerprint
from mm_dagster.market.trading import TradeConnection
from mm_dagster.market.venue import VenueError

SCALE = 10.0
"""Seconds of the plan in a second of the clock."""
OVER, CRASHED, LOCKED, NO_JOURNAL = 0, 1, 3, 4
"""How it ends by itself."""
KILL_FILE = "KILL"
TRACE = "crashed.txt"


@dataclass(frozen=True)
class Job:
    """What a worker is to do.

    Attributes:
        folder: of the journal.
        plan_id: an approved plan.
        exchange: ccxt's name of it.
        url: where it is.
        key: key, secret, passphrase.
        bot: number of the exchange's own bot, and whether it is to sell; None: there is none.
        window: seconds of the clock for which a request lives.
        patience: seconds of the clock for one answer.
        mid: of the order book.
        jump: seconds by which the computer's clock is wrong.
        room: bytes that a file may have; None: any number.
        seed: of its own chance.
        broken: the rule that its machine lacks: see `BROKEN`.
    """

    folder: Path
    plan_id: str
    exchange: str
    url: str
    key: tuple[str, str, str | None]
    bot: tuple[str, bool] | None
    window: float
    patience: float
    mid: float
    jump: float
    room: int | None
    seed: int
    broken: str = ""


BROKEN = {
    "to_wait": lambda plan, seen, request_window: 0.0,
    "left_by_account": lambda plan, holding: 10**9,
    "_once_more": lambda *asked: None,
}
"""Functions of the machine, each with one in its place that does without its rule."""


def work(job: Job) -> None:
    """Carries a plan out, and ends the process by one of the codes above."""
    code = CRASHED
    try:
        code = _work(job)
    except BaseException:
        (job.folder / TRACE).write_text(traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(code)


def _work(job: Job) -> int:
    key = Credentials(*job.key)
    settings = CcxtVenue(
        kind="ccxt", exchange=job.exchange, api_url=job.url, timeout_seconds=job.patience, requests_per_second=2_000
    )
    chance = random.Random(job.seed)
    if job.broken:
        setattr(machine, job.broken, BROKEN[job.broken])
    _set_clock_wrong(job)
    patient = {"patience": job.patience, "retry": Retry(first_wait=0.05, longest_wait=0.2)}
    venue = AccountOrders("loopback", settings, key, request_window=job.window, **patient)
    venue.request_window = job.window * SCALE
    stop: GridStop | None = None
    if job.bot is not None:
        connection = TradeConnection("loopback", settings, key, **patient)
        stop = OkxGridStop(connection, job.bot[0], "SOL-USDT", sells=job.bot[1])

    def book() -> Book:
        if chance.random() < 0.1:
            raise VenueError("no book")
        return parse([(job.mid * 0.9998, 5.0)], [(job.mid * 1.0002, 5.0)])

    world = World(
        venue, book, stop,
        seconds=lambda: time.monotonic() * SCALE,
        sleep=lambda seconds: time.sleep(seconds / SCALE),
        utc=lambda: datetime.now(UTC) + timedelta(seconds=job.jump),
        is_killed=(job.folder / KILL_FILE).exists,
    )  # fmt: skip
    try:
        with account_lock(job.folder, fingerprint(settings, key)):
            if job.room is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (job.room, resource.RLIM_INFINITY))
            Driver(Journal(job.folder), job.plan_id, world).run()
    except AccountLocked:
        return LOCKED
    except JournalError:
        return NO_JOURNAL
    return OVER


def _set_clock_wrong(job: Job) -> None:
    """The computer's clock is wrong, for all that reads it. Kraken alone counts by it, and cannot be asked then."""
    if job.jump and job.exchange != "kraken":
        right = time.time
        time.time = lambda: right() + job.jump
