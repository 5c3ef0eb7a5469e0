"""Dagster's daemon on one of several hosts at a time: `mm daemon`. docs/deployment.md, "Failover"."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from mm_dagster import environment, logs
from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError, app, folders_here
from mm_dagster.cli.lease import (
    ASK_SECONDS,
    SETTLE_SECONDS,
    Keeper,
    Lease,
    LeaseError,
    lease_here,
    own_name,
)
from mm_dagster.cli.operate import PANEL
from mm_dagster.cli.processes import is_signalled
from mm_dagster.errors import ForeseenError

logger = logging.getLogger("mm_dagster")

DRAIN_SECONDS = 50
"""A tick ends within seconds; what takes longer is done in parts, and begun again by whoever is active next."""
READ_SECONDS = 60.0
"""Between two readings of the configuration while it stands by."""
_LOOK_SECONDS, _KILL_SECONDS = 0.2, 3.0


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm daemon`, `mm daemon --workspace /app/deploy/workspace.yaml`, `mm daemon --drain 120`",
)
def daemon(
    workspace: Annotated[
        Path | None, typer.Option(help="Where the code is: a workspace.yaml of Dagster's; else that of the program.")
    ] = None,
    drain: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="How long runs under way may take to end after SIGTERM.")
    ] = DRAIN_SECONDS,
) -> None:
    """Run Dagster's daemon: schedules, sensors, the queue of runs. Of several one is active, the others stand by.

    Where PostgreSQL keeps Dagster's storage they may be on several hosts: the next one takes over within a minute of
    the end of the active one, however that ended. Else a second one on this computer waits. `mm health live` says who
    is active. SIGTERM lets the runs under way end, then another takes over at once.
    """
    logs.configure(level="INFO")
    folder = folders_here()
    command = _dagster_daemon(workspace or environment.shipped() / "workspace.yaml")
    with _told() as stop:
        while not stop.is_set():
            lease, waited = _wait(folder, stop)
            if lease is not None:
                _be_active(lease, command, stop, drain, SETTLE_SECONDS if waited else 0)


def _wait(folder: Path, stop: threading.Event) -> tuple[Lease | None, bool]:
    """Waits until the lease could be taken; None: told to end before. Whether it had to wait at all, too."""
    lease: Lease | None = None
    said, waited, read_at = "", False, float("-inf")
    while True:
        try:
            lease = lease or lease_here(folder)
            if lease.take():
                return lease, waited
            if time.monotonic() - read_at >= READ_SECONDS:
                read_at = time.monotonic()
                _follow_configuration()
            active = next((place for place in lease.places() if place.is_active), None)
            line = f"standby: {active.name} is active since {iso(active.since)}" if active else "standby"
        except LeaseError as error:
            line = f"standby, not active: {error}; it is asked again every {ASK_SECONDS / 2:g} s"
        if line != said:
            said = line
            logger.info("%s: %s", own_name(), line)
        waited = True
        if stop.wait(ASK_SECONDS / 2):
            if lease is not None:
                lease.release()
            return None, waited


def _follow_configuration() -> None:
    """Reads the configuration as the active one does, so that the copy of the last valid one here is as new as there.

    An old copy would bring back what was ended since. The history is not looked at: a newer program would bring its
    tables up to date while the older one is active.
    """
    from mm_dagster.config.last_valid import load_or_last_valid

    try:
        load_or_last_valid(environment.config_folder(), environment.data_folder() / "config")
    except ForeseenError as error:
        logger.warning("%s: the configuration cannot be read: %s", own_name(), error)


def _be_active(lease: Lease, command: list[str], stop: threading.Event, drain: int, settle: float) -> None:
    """Runs Dagster's daemon until told to end, or until the lease is lost.

    Raises:
        CommandError: the daemon ended by itself.
    """
    with Keeper(lease) as keeper:
        logger.info("%s: active", own_name())
        if not stop.wait(settle):
            _run(command, keeper, stop, drain)
        lost = keeper.lost()
    if lost is not None:
        logger.error("%s: not active any more, and Dagster's daemon is ended: %s", own_name(), lost)
    keeper.release()


def _run(command: list[str], keeper: Keeper, stop: threading.Event, drain: int) -> None:
    # The pipe says to the child, by its end, that nobody watches over it any more.
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.PIPE) as child:
        try:
            _watch(child, keeper, stop)
            if keeper.lost() is None:
                _drain(child, keeper, drain)
        finally:
            _kill(child)


def _watch(child: subprocess.Popen[bytes], keeper: Keeper, stop: threading.Event) -> None:
    while not stop.wait(_LOOK_SECONDS):
        if keeper.lost() is not None:
            return
        if child.poll() is not None:
            raise CommandError(f"Dagster's daemon ended by itself with code {child.returncode}; what it said is above")


def _drain(child: subprocess.Popen[bytes], keeper: Keeper, seconds: int) -> None:
    """Begins nothing new, and lets end what is under way, in the code servers that the daemon started, too."""
    logger.info("%s: ends; runs under way have %d s", own_name(), seconds)
    child.send_signal(signal.SIGINT)
    until = time.monotonic() + seconds
    while is_signalled(child.pid, 0) and time.monotonic() < until and keeper.lost() is None:
        child.poll()
        time.sleep(_LOOK_SECONDS)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Ends all that is left of the group, and waits until nothing is: what ended and is not collected counts on."""
    until = time.monotonic() + _KILL_SECONDS
    while is_signalled(child.pid, signal.SIGKILL) and time.monotonic() < until:
        child.poll()
        time.sleep(0.01)


def _dagster_daemon(workspace: Path) -> list[str]:
    form = "json" if environment.given(logs.FORMAT).lower() == "json" else "colored"
    code = "from mm_dagster.defs.internals.daemon import main; main()"
    return [sys.executable, "-c", code, "run", "--workspace", str(workspace), "--log-format", form]


@contextmanager
def _told() -> Iterator[threading.Event]:
    """An event that SIGTERM, SIGINT and SIGHUP set; after Ctrl-C the command ends as others do."""
    stop, heard = threading.Event(), []

    def told(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        stop.set()

    before = {one: signal.signal(one, told) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    if signal.SIGINT in heard:
        raise KeyboardInterrupt
