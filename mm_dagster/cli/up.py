"""Everything at once, until Ctrl-C: one tick, then Dagster's web server and daemon with the schedule."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated

import typer

from mm_dagster import environment, logs
from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.pipeline import PANEL

HOST = "127.0.0.1"
"""Dagster's web server has no login: nobody but this computer reaches it."""
WAIT_SECONDS, LAST_WAIT_SECONDS = 15, 3
"""How long what was started may take to end by itself, and after it was told so once more."""


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm up`, `mm up --port 3001`, `mm up --no-tick`")
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page is, on this computer alone.")] = 3000,
    tick: Annotated[bool, typer.Option("--tick/--no-tick", help="Begin with the newest quarter hour.")] = True,
) -> None:
    """Watch: the page on http://127.0.0.1:3000, the schedule and the alerts, until Ctrl-C. What `make up` does.

    The configuration and the data are those that the first line names, whatever is changed in the surroundings
    afterwards; an edit in the configuration is live at the next tick.
    """
    project = project_here()
    _refuse_taken(port)
    # What is started finds the same folders, wherever it stands.
    os.environ[environment.CONFIG_DIR] = str(environment.config_folder())
    os.environ[environment.DATA_DIR] = str(project.data)
    with _ended_like_ctrl_c():
        if tick:
            code = _run(_mm("tick"))
            if code:
                err.print("the tick failed; the page starts all the same", highlight=False)
        err.print(f"page http://{HOST}:{port}; Ctrl-C ends it", soft_wrap=True, highlight=False)
        code = _run(_dagster(port))
    raise CommandError(f"Dagster ended by itself with code {code}; what it said stands above, and in {project.data}")


def _mm(*command: str) -> list[str]:
    return [sys.executable, "-c", "from mm_dagster.cli import main; main()", *command]


def _dagster(port: int) -> list[str]:
    """Web server, daemon and code server by Dagster's own command, from a workspace that needs no project around it."""
    form = "json" if environment.given(logs.FORMAT).lower() == "json" else "colored"
    workspace = environment.shipped() / "workspace.yaml"
    return [
        sys.executable, "-c", "from dagster_dg_cli.cli import main; main()", "dev", "--workspace", str(workspace),
        "--host", HOST, "--port", str(port), "--log-format", form,
    ]  # fmt: skip


def _refuse_taken(port: int) -> None:
    """
    Raises:
        CommandError: something listens there already, or nobody may.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as error:
            raise CommandError(
                f"--port {port}: {error.strerror}; is `mm up` running already? Else name another port"
            ) from None


def _run(command: Sequence[str]) -> int:
    """Runs a command in a group of its own and waits for it; of what it started nothing is left, however it ends."""
    started = subprocess.Popen(command, start_new_session=True)
    try:
        return started.wait()
    finally:
        _end(started)


def _end(started: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it started: first as Ctrl-C would, then with more emphasis."""
    with _deaf():
        if started.poll() is None:
            started.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                started.wait(WAIT_SECONDS)
        # What it started ends a moment later than it does.
        for emphasis in (0, signal.SIGTERM, signal.SIGKILL):
            if not _signalled(started.pid, emphasis):
                break
            until = time.monotonic() + LAST_WAIT_SECONDS
            while _signalled(started.pid, 0) and time.monotonic() < until:
                started.poll()
                time.sleep(0.05)
        started.wait()


def _signalled(group: int, number: int) -> bool:
    """Whether there was anybody in a group of processes to take a signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


_ENDINGS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """A service manager and a terminal that is closed end it as Ctrl-C does.

    Ctrl-C itself stands among them: what a shell begins in the background ignores it, and so would all that we start.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, interrupt) for one in _ENDINGS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _deaf() -> Iterator[None]:
    """While it ends, a second Ctrl-C must not leave half of it running."""
    before = {one: signal.signal(one, signal.SIG_IGN) for one in _ENDINGS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
