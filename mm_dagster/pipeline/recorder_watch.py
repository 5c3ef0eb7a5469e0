"""Whether the recorder works: what is wrong now, and who is told of it, once, and when it is over."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mm_dagster.alerts.failures import OVER
from mm_dagster.bars import iso, parse_time, time_of_ns
from mm_dagster.config.books import BooksConfig
from mm_dagster.pipeline.book_places import now_here, recorded_markets
from mm_dagster.pipeline.notify import notify_failures
from mm_dagster.pipeline.project import Project
from mm_dagster.recorder.places import root_of
from mm_dagster.recorder.status import MarketStatus, Status, read_status

logger = logging.getLogger("mm_dagster")

NAME = "recorder"
LOST_LASTS = timedelta(minutes=5)
"""How long lost messages are spoken of."""
HAS_BOOK = ("IN_SYNC", "UNTRUSTED")
"""Phases of a market in which there is a book."""
NO_BOOK_LASTS = timedelta(minutes=5)
"""How long a market may be without one: a recorder asks again by itself."""
SHORT_LASTS = timedelta(minutes=20)
"""How long the disk must be short: with the next quarter hour what may go is removed."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the recorder.

    Attributes:
        name: of what.
        line: in one line, with the remedy; the same as long as it is the same trouble.
        lasts: how long it must have been there before somebody is told.
        markets: which it concerns; none: all.
    """

    name: str
    line: str
    lasts: timedelta = timedelta(0)
    markets: tuple[str, ...] = ()


def troubles(config: BooksConfig, status: Status | None, now: datetime, lost: Mapping[str, datetime]) -> list[Trouble]:
    """What is wrong now, whether for long or not.

    Args:
        config: books.yaml.
        status: what the recorder said last; None: nothing that can be read.
        now: the time of this computer.
        lost: when a market last lost messages, by name.
    """
    if not config.record:
        return []
    silence = timedelta(seconds=config.silent_seconds)
    if status is None:
        return [Trouble(NAME, "books.yaml says record, and no recorder ever ran here: start `mm record`")]
    at = time_of_ns(status.at_ns)
    if now - at > silence:
        said = "nothing was heard of it since" if status.is_running else "it was ended at"
        return [Trouble(NAME, f"{said} {iso(at)}: start `mm record`")]
    found = list(_of_disk(config, status))
    if now - time_of_ns(status.started_ns) > silence:
        found += _of_exchanges(config, status, now, lost)
    return found


def _of_disk(config: BooksConfig, status: Status) -> Iterator[Trouble]:
    if status.free_bytes is not None and status.free_bytes < config.free_gib * 2**30:
        line = f"less than {config.free_gib:g} GiB are free on its disk: make room, or set free_gib in books.yaml"
        yield Trouble(f"{NAME} disk", line, SHORT_LASTS)


def _of_exchanges(
    config: BooksConfig, status: Status, now: datetime, lost: Mapping[str, datetime]
) -> Iterator[Trouble]:
    """One for each exchange: what is wrong with one market is mostly wrong with the others."""
    silence = timedelta(seconds=config.silent_seconds)
    by_exchange: dict[str, list[tuple[MarketStatus, str, timedelta]]] = {}
    for market in status.markets:
        if not config.records(market.exchange, market.symbol):
            continue
        if market.problem is not None:
            found = market.problem, silence
        elif now - lost.get(_name(market), now - LOST_LASTS) < LOST_LASTS:
            found = "messages were received and not kept", timedelta(0)
        elif market.phase not in HAS_BOOK:
            # That nothing comes is no sign: a small market is silent for minutes, and the recorder watches its line.
            found = f"no book ({market.phase or 'not begun'})", NO_BOOK_LASTS
        else:
            continue
        by_exchange.setdefault(market.exchange, []).append((market, *found))
    for exchange, wrong in by_exchange.items():
        names = ", ".join(market.symbol for market, *_ in wrong)
        first, lasts = wrong[0][1], min(one[2] for one in wrong)
        line = f"{names}: {first}; `mm books status` says how each stands"
        yield Trouble(f"{NAME} {exchange}", line, lasts, tuple(_name(market) for market, *_ in wrong))


def _name(market: MarketStatus) -> str:
    return f"{market.exchange}:{market.symbol}"


def standing(project: Project) -> list[Trouble]:
    """What is wrong at this moment, for who looks once."""
    status = read_status(root_of(project.data))
    return troubles(project.config.books, status, now_here(), {})


@dataclass
class _Seen:
    """A trouble that was seen.

    Attributes:
        since: since when.
        told: whether somebody was told.
        line: what is wrong.
        markets: which it concerns.
        fine: since when it is not there any more; None: it is.
    """

    since: str
    line: str
    markets: list[str]
    told: bool = False
    fine: str | None = None


def watch(project: Project, memory: str | None) -> tuple[str, int]:
    """Tells of what is wrong for long enough, once, and when it is over.

    Args:
        project: configuration, and what the recorder says.
        memory: what this gave the last time; None: it never did.

    Returns:
        What to give the next time, and how many alerts were noted.
    """
    config, now = project.config.books, now_here()
    if not config.record:
        return "", 0
    known = _remembered(memory)
    silence = timedelta(seconds=config.silent_seconds)
    status = read_status(root_of(project.data))
    lost = _losses(known, status, now)
    found = {one.name: one for one in troubles(config, status, now, lost)}
    seen = {name: _Seen(**one) for name, one in known.get("seen", {}).items()}
    begun = _begun(known, now, silence)
    # Of a silent recorder, or one that just began, nobody knows how its exchanges and its disk are.
    is_known = NAME not in found and status is not None and now - time_of_ns(status.started_ns) > silence
    notified = 0
    for trouble in found.values():
        notified += _tell(project, trouble, seen, now, may_ring=now - begun >= silence)
    for name in [name for name in seen if name not in found and (name == NAME or is_known)]:
        notified += _tell_over(project, name, seen, now, silence)
    kept = {"looked": iso(now), "begun": iso(begun), "seen": {name: vars(one) for name, one in seen.items()}}
    return json.dumps(
        kept | {"lost": {name: iso(at) for name, at in lost.items()}, "counts": _counts(status)}
    ), notified


def _begun(known: Mapping[str, Any], now: datetime, silence: timedelta) -> datetime:
    """Since when somebody looks all the time: after a start, or a sleep, the recorder may be about to begin as well."""
    if not known or now - parse_time(known["looked"]) > silence + timedelta(minutes=1):
        return now
    return parse_time(known["begun"])


def _tell(project: Project, trouble: Trouble, seen: dict[str, _Seen], now: datetime, *, may_ring: bool) -> int:
    one = seen.get(trouble.name)
    if one is None or not set(trouble.markets) <= {*one.markets}:
        one = seen[trouble.name] = _Seen(iso(now), trouble.line, list(trouble.markets))
    one.fine = None
    if one.told or not may_ring or now - parse_time(one.since) < trouble.lasts:
        return 0
    one.told, one.line = True, trouble.line
    return notify_failures(project, [(trouble.name, trouble.line)], f"{trouble.name} {one.since}")


def _tell_over(project: Project, name: str, seen: dict[str, _Seen], now: datetime, silence: timedelta) -> int:
    one = seen[name]
    one.fine = one.fine or iso(now)
    if one.told and now - parse_time(one.fine) < silence:
        return 0  # it may come back at once
    del seen[name]
    if not one.told:
        return 0
    line = f"It works again since {one.fine}. It did not since {one.since}; what it missed `mm books gaps` lists."
    return notify_failures(project, [(f"{name}{OVER}", line)], f"{name} {one.since}")


_KEPT = {"looked", "begun", "seen", "lost", "counts"}


def _remembered(memory: str | None) -> dict[str, Any]:
    try:
        found = json.loads(memory or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.keys() >= _KEPT else {}


def _counts(status: Status | None) -> dict[str, Any]:
    """What was lost so far, to tell later whether it became more."""
    if status is None:
        return {}
    return {"started": status.started_ns, **{_name(market): market.lost for market in status.markets}}


def _losses(known: Mapping[str, Any], status: Status | None, now: datetime) -> dict[str, datetime]:
    """When markets last lost messages, as far as it is not long ago."""
    before, counted = known.get("counts", {}), _counts(status)
    lost = {name: parse_time(at) for name, at in known.get("lost", {}).items()}
    if before.get("started") == counted.get("started"):
        lost |= {name: now for name, count in counted.items() if name != "started" and count > before.get(name, count)}
    return {name: at for name, at in lost.items() if now - at < LOST_LASTS}


def is_recorded(project: Project) -> bool:
    """Whether there is, or may soon be, something recorded."""
    return project.config.books.record or bool(recorded_markets(project.data))
