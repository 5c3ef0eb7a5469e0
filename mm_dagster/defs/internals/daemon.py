"""Dagster's daemon as the child of `mm daemon`: it ends with it, and with it all that it started.

Its standard input is a pipe whose other end `mm daemon` alone holds. Where that was killed somebody else may be active
already, so nothing here takes its time: the whole group is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from importlib.metadata import entry_points

import dagster as dg

from mm_dagster import modes
from mm_dagster.defs.internals import servers
from mm_dagster.defs.internals.launcher import end_lost, in_flight


def main() -> None:
    """Runs `dagster-daemon` with the arguments of this process, after it has ended what a lost host left."""
    modes.keep_private()
    _end_with_parent()
    servers.keep()
    with dg.DagsterInstance.get() as instance:
        lost = end_lost(instance)
        if lost:
            print(f"{lost} runs were lost with whoever worked at them, and are begun again", file=sys.stderr)
    [command] = entry_points(group="console_scripts", name="dagster-daemon")
    try:
        command.load()()
    finally:
        # Told to end: what a code server of its own has under way ends first. Who told us waits only for so long.
        with dg.DagsterInstance.get() as instance:
            while in_flight(instance):
                time.sleep(0.5)


def storage() -> None:
    """Says on stdout in which database of PostgreSQL Dagster keeps its storage; nothing where it is SQLite."""
    with dg.DagsterInstance.get() as instance:
        print(getattr(instance.run_storage, "postgres_url", ""), end="")


def _end_with_parent() -> None:
    pipe = os.dup(sys.stdin.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())

    def watch() -> None:
        os.read(pipe, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
