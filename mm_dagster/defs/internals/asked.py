"""What a command asks of the daemon: backfills that become runs of groups. Kept with the cursors of Dagster's daemon.

That storage is Dagster's own and the same for all hosts; it has no public name for values of others.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from mm_dagster.pipeline.groups import ASKED_TAG, GROUP_TAG

_KEY = "mm_dagster/asked"


@dataclass(frozen=True)
class Part:
    """A run of a backfill that is asked for.

    Attributes:
        name: which part of its backfill.
        symbols: its markets; none: what needs all.
        first: the first day, ISO.
        last: the last day, inclusive.
        again: whether days that are whole are made again.
    """

    name: str
    symbols: tuple[str, ...]
    first: str
    last: str
    again: bool = False


def ask(instance: dg.DagsterInstance, backfill: str, parts: list[Part]) -> None:
    """Asks for the runs of a backfill, in the place of those that it asked for before. One process at a time does."""
    kept = _read(instance) | {backfill: [asdict(part) for part in parts]}
    _write(instance, kept)


def withdraw(instance: dg.DagsterInstance, backfill: str) -> None:
    """From now on no run of a backfill is made that was not made yet."""
    _write(instance, {name: parts for name, parts in _read(instance).items() if name != backfill})


def asked(instance: dg.DagsterInstance) -> dict[str, list[Part]]:
    """The runs that are asked for, by backfill."""
    return {
        name: [Part(**{**part, "symbols": tuple(part["symbols"])}) for part in parts]
        for name, parts in _read(instance).items()
    }


def runs_of(instance: dg.DagsterInstance, backfill: str) -> dict[str, list[dg.RunRecord]]:
    """The runs of a backfill by part, the newest first."""
    found: dict[str, list[dg.RunRecord]] = {}
    for record in instance.get_run_records(dg.RunsFilter(tags={ASKED_TAG: backfill})):
        found.setdefault(record.dagster_run.tags[GROUP_TAG], []).append(record)
    return found


def is_made_again(run: dg.DagsterRun) -> bool:
    """Whether Dagster makes another run in the place of one that failed."""
    return run.tags.get(WILL_RETRY_TAG) == "true"


def _read(instance: dg.DagsterInstance) -> dict[str, list[Mapping[str, Any]]]:
    kept = instance.daemon_cursor_storage.get_cursor_values({_KEY}).get(_KEY)
    return json.loads(kept) if kept else {}


def _write(instance: dg.DagsterInstance, kept: Mapping[str, Any]) -> None:
    instance.daemon_cursor_storage.set_cursor_values({_KEY: json.dumps(kept)})
