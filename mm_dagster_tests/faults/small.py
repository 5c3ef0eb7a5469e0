"""One market at the moment when its grid must be left, for faults of everything but the exchange."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mm_dagster.alerts.channel import Refused, Unavailable
from mm_dagster.config.errors import ConfigError
from mm_dagster.history.backup import BackupError
from mm_dagster.history.lake import LakeError
from mm_dagster.history.mirror import MirrorError
from mm_dagster.market.venue import VenueError
from mm_dagster_tests.faults import spine, venue
from mm_dagster_tests.faults.exchange import MINUTE, Exchange
from mm_dagster_tests.faults.judge import Result, compare, compare_messages, said
from mm_dagster_tests.faults.phone import Phone
from mm_dagster_tests.faults.spine import BAR

SYMBOLS = ("ADA-USDT",)
MOMENT = venue.MOMENTS[1]
"""The stop is touched between the base and this tick: an emergency is due that was not due before."""
FORESEEN = (
    BackupError, ConfigError, LakeError, MirrorError, Refused, Unavailable, VenueError,
)  # fmt: skip
"""What a command turns into one line with the remedy."""


@dataclass
class Small:
    """A project before its worst quarter hour."""

    folder: Path
    world: Exchange
    phone: Phone
    config: Path
    data: Path

    def tick(self, step: int) -> None:
        """The tick so many bars after the moment, and what is then due."""
        as_of = MOMENT.as_of + step * BAR
        self.world.now = as_of + MINUTE
        spine.tick(self.config, self.data, as_of)
        spine.send(self.config, self.data)

    def as_of(self, step: int) -> datetime:
        """The tick's time."""
        return MOMENT.as_of + step * BAR


@contextmanager
def project() -> Iterator[Small]:
    """A copy of the project, in memory."""
    known = venue.control(MOMENT, SYMBOLS)
    assert known.base is not None
    assert any(state == "MANDATORY_EXIT" for _, _, state in known.said[0]), "no emergency is due"
    folder = venue.scratch()
    try:
        data = spine.copy(known.base, folder / "data")
        with venue.running(MOMENT, folder, SYMBOLS) as (world, phone, config):
            world.now = MOMENT.as_of + MINUTE
            yield Small(folder, world, phone, config, data)
    finally:
        spine.close(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)


def attempt(result: Result, what: Callable[[], object], allowed: tuple[type[Exception], ...] = FORESEEN) -> str | None:
    """Does something that may be refused; returns the refusal. Everything else is counted as not foreseen."""
    try:
        what()
    except allowed as refusal:
        text = str(refusal)
        if "\n" in text.strip():
            result.add("not foreseen", 1, f"more than one line: {text[:100]!r}")
        return text
    except Exception as error:
        result.add("not foreseen", 1, f"{type(error).__name__}: {str(error)[:160]}")
        return str(error)
    return None


def finish(result: Result, one: Small, step: int) -> None:
    """Compares with the undisturbed run after the healthy tick `step`."""
    known = venue.control(MOMENT, SYMBOLS)
    until = one.as_of(step)
    spine.close(one.data)
    try:
        found = spine.rows(one.data, until)
        ledger = spine.lake(one.data).read("notification")
        kept = spine.lake(one.data).read("operator_response").height
    except Exception as error:
        result.add("lost rows", 1, f"the lake cannot be read: {type(error).__name__}: {str(error)[:160]}")
        return
    expected = {
        name: rows.filter(rows["close_time" if name == "candles" else "as_of"] <= until)
        for name, rows in known.rows.items()
    }
    compare(result, found, expected)
    result.add("lost rows", 1 - kept, "operator_response: the answer is gone")
    due = known.said[min(step, len(known.said) - 1)]
    compare_messages(result, said(one.phone.rings, ledger), due, known.said[-1], ["ada", ""])


def heal(result: Result, one: Small, step: int) -> None:
    """The next healthy tick, and what is left of the fault after it."""
    with suppress(AttributeError):
        one.world.changes.clear()
    attempt(result, lambda: one.tick(step), ())
    finish(result, one, step)
