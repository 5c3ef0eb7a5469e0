"""Whether Dagster's daemon, which runs the schedule, is alive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError

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
        raise CommandError(f"{absent[0]} has never run; start `dagster-daemon run`, or `mm up`")
    name = min(required, key=lambda one: beats[one].timestamp)
    last = datetime.fromtimestamp(beats[name].timestamp, UTC)
    if now - last > HEARTBEAT:
        raise CommandError(f"{name} last beat {iso(last.replace(microsecond=0))}; restart `dagster-daemon run`")
    return f"{len(required)} daemons, the oldest beat {iso(last.replace(microsecond=0))}"


def first_cause(error: Exception) -> str:
    """The first line of an error; only its kind where the line might hold an address with a password."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines and "://" not in lines[0] else type(error).__name__
