"""Whether Dagster's daemon, which runs the schedule, is alive, and on which of several hosts."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mm_dagster import environment
from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError
from mm_dagster.cli.lease import Place, lease_of

logger = logging.getLogger("mm_dagster")

HEARTBEAT = timedelta(minutes=5)
"""Age from which a daemon counts as dead; each reports twice a minute."""


def daemon_beat(now: datetime) -> str:
    """When the daemon whose last beat is the oldest beat last."""
    import dagster as dg

    try:
        with dg.DagsterInstance.get() as instance:
            required = instance.get_required_daemon_types()
            beats = instance.get_daemon_heartbeats()
    except Exception as error:
        raise CommandError(f"Dagster's storage cannot be read: {first_cause(error)}") from error
    absent = sorted(required - beats.keys())
    if absent:
        raise CommandError(f"{absent[0]} has never run; start `mm daemon`, or `mm up`")
    name = min(required, key=lambda one: beats[one].timestamp)
    last = datetime.fromtimestamp(beats[name].timestamp, UTC)
    if now - last > HEARTBEAT:
        raise CommandError(f"{name} last beat {iso(last.replace(microsecond=0))}; restart `mm daemon`, or `mm up`")
    found = places()
    where = f"; {in_words(found)}" if found else ""
    return f"{len(required)} daemons, the oldest beat {iso(last.replace(microsecond=0))}{where}"


def places() -> list[Place]:
    """Where `mm daemon` runs on Dagster's storage, the active one first; none where that is not known."""
    import dagster as dg

    try:
        with dg.DagsterInstance.get() as instance:
            address = getattr(instance.run_storage, "postgres_url", "")
        return lease_of(Path(os.environ[environment.DAGSTER_DIR]), address).places()
    except Exception as error:
        logger.warning("who is active is not known: %s", first_cause(error))
        return []


def stands_by() -> bool:
    """Whether `mm daemon` of this computer waits for another one's."""
    here = [place for place in places() if socket.gethostname().startswith(place.name.partition("@")[2] or "@")]
    return bool(here) and not any(place.is_active for place in here)


def in_words(found: Sequence[Place]) -> str:
    """Who is active and who stands by, in one line."""
    if found and not found[0].is_active:
        return f"nobody is active; {', '.join(place.name for place in found)} will be within a minute"
    return "; ".join(
        f"{place.name} {'is active' if place.is_active else 'stands by'} since {iso(place.since)}" for place in found
    )


def first_cause(error: Exception) -> str:
    """The first line of an error; only its kind where the line might hold an address with a password."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines and "://" not in lines[0] else type(error).__name__
