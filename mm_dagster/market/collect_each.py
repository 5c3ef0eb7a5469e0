"""Many spans are asked for at the same time, by threads; none of them can hold up or end the others."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from mm_dagster.bars import Span
from mm_dagster.config.markets import CandlesConfig
from mm_dagster.market import progress
from mm_dagster.market.collect import NOTHING, Collected, Known, collect
from mm_dagster.market.venue import Venue, VenueError
from mm_dagster.text import number_text

logger = logging.getLogger("mm_dagster")


@dataclass(frozen=True)
class Wanted:
    """One thing to ask a venue for, and what is known already."""

    venue: Venue
    symbol: str
    span: Span
    known: Known = NOTHING


def _collected(wanted: Wanted, settings: CandlesConfig, wait: Callable[[float], object]) -> Collected:
    return collect(wanted.venue, wanted.symbol, wanted.span, settings, wait, wanted.known)


class _Task:
    """One thing that a worker is to do, and what came of it: an answer, or whatever else happened."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.begun_at: float | None = None
        self._outcome: queue.SimpleQueue[Collected | BaseException] = queue.SimpleQueue()

    def do(self, settings: CandlesConfig, wait: Callable[[float], object]) -> None:
        """Whatever ends a worker reaches who waits for it: a panic of a library is no Exception."""
        self.begun_at = time.monotonic()
        try:
            self._outcome.put(_collected(self.wanted, settings, wait))
        except BaseException as error:
            self._outcome.put(error)

    def outcome(self, seconds: float) -> Collected | BaseException | None:
        """What came of it; None: it was begun so many seconds ago, and nothing did."""
        while True:
            begun = self.begun_at
            left = _LOOK if begun is None else begun + seconds - time.monotonic()
            if left <= 0:
                return None
            try:
                return self._outcome.get(timeout=min(left, _LOOK))
            except queue.Empty:
                continue


_LOOK = 0.5
"""Seconds after which it is looked at whether a worker has begun, or is overdue."""


def collect_each(
    wanted: Sequence[Wanted], settings: CandlesConfig
) -> Generator[tuple[Wanted, Collected | VenueError], None, None]:
    """Asks for many spans, `at_once` at the same time, and says what came of each in the order in which they are given.

    It runs ahead of who takes the answers by twice that many, so that memory is bounded. When it is closed, or its
    process ends, what is under way is abandoned. Whatever happens to one, the others go on: a worker that dies is a
    line of its market, and so is one that hangs, which another takes the place of.

    Args:
        wanted: what to ask for, the first first.
        settings: as for `collect`, how many to ask for at the same time, and how long one may take.

    Yields:
        What was wanted, and what the venue had, or why there is nothing: it does not know the symbol, say.
    """
    tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    under_way: deque[_Task] = deque()
    abandoned = threading.Event()

    def work() -> None:
        while (task := tasks.get()) is not None and not abandoned.is_set():
            task.do(settings, abandoned.wait)

    def start() -> None:
        # Not those of concurrent.futures: the interpreter would wait for them after Ctrl-C. They only ask, so that
        # nothing is lost with them.
        threading.Thread(target=work, name="candles", daemon=True).start()

    def ask(what: Wanted) -> None:
        under_way.append(_Task(what))
        tasks.put(under_way[-1])

    workers = min(settings.at_once, len(wanted))
    for _ in range(workers):
        start()
    try:
        for first in wanted[: 2 * workers]:
            ask(first)
        for number, asked in enumerate(wanted):
            outcome = under_way[0].outcome(settings.deadline_seconds)
            under_way.popleft()
            progress.tell().finished(asked.span.bars)
            if number + 2 * workers < len(wanted):
                ask(wanted[number + 2 * workers])
            if outcome is None:
                workers += 1
                start()
            yield asked, _foreseen(asked, outcome, settings)
    finally:
        abandoned.set()
        for _ in range(workers):
            tasks.put(None)


def _foreseen(
    wanted: Wanted, outcome: Collected | BaseException | None, settings: CandlesConfig
) -> Collected | VenueError:
    """What came of a question, as one of two things."""
    if outcome is None:
        return VenueError(
            f"{wanted.venue.name}: {wanted.symbol}: no answer within {number_text(settings.deadline_seconds)} s; it is "
            "left alone until the next time"
        )
    if isinstance(outcome, Collected | VenueError):
        return outcome
    said = " ".join(str(outcome).split())[:200]
    logger.error("%s: %s", wanted.symbol, said, exc_info=outcome)
    return VenueError(
        f"{wanted.venue.name}: {wanted.symbol}: what it sent cannot be worked with ({type(outcome).__name__}"
        f"{f': {said}' if said else ''}); nothing of it is used"
    )
