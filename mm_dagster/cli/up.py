"""Everything at once, until Ctrl-C: one tick, then Dagster's web server and daemon with the schedule."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from mm_dagster import environment, logs
from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.lease import Keeper, LeaseError, lease_here
from mm_dagster.cli.pipeline import PANEL
from mm_dagster.cli.processes import is_signalled

HOST, ANY = "127.0.0.1", "0.0.0.0"
"""Dagster's web server has no login: unless another address is named, nobody but this computer reaches it."""
SERVE_PORT, DAGSTER_PORT = 8080, 3000
"""Of the live page, and of Dagster's."""
LOOK_SECONDS = 0.5
"""Between two looks whether it is still the active one."""
WAIT_SECONDS, LAST_WAIT_SECONDS = 15, 3
"""How long what was started may take to end by itself, and after it was told so once more."""


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm up`, `mm up --port 3001`, `mm up --no-tick`")
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page is.")] = DAGSTER_PORT,
    host: Annotated[
        str, typer.Option(help=f"The address it is bound to: this computer alone; {ANY} in a container.")
    ] = HOST,
    serve_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where the live page and the API are, on this computer; 0: nowhere.")
    ] = SERVE_PORT,
    tick: Annotated[bool, typer.Option("--tick/--no-tick", help="Begin with the newest quarter hour.")] = True,
) -> None:
    """Watch: the schedule, the alerts, the live page and Dagster's page, until Ctrl-C. What `make up` does.

    The live page is on http://127.0.0.1:8080 (`mm serve`), Dagster's on http://127.0.0.1:3000.

    The configuration and the data are those that the first line names, whatever is changed in the surroundings
    afterwards; an edit in the configuration is live at the next tick.
    """
    from mm_dagster.web import is_loopback

    project = project_here()
    _refuse_taken(host, port)
    folder = environment.dagster_folder(project.data)
    os.close(_alone(folder))
    if not is_loopback(host):
        err.print(
            f"--host {host}: the page has no login, and whoever reaches this address can use it; publish a container's "
            f"port on {HOST} alone", soft_wrap=True, highlight=False,
        )  # fmt: skip
    # What is started finds the same folders, wherever it stands.
    os.environ[environment.CONFIG_DIR] = str(environment.config_folder())
    os.environ[environment.DATA_DIR] = str(project.data)
    with _ended_like_ctrl_c(), _active(folder) as keeper:
        if tick:
            code = _run(_mm("tick"))
            if code:
                err.print("the tick failed; the page starts all the same", highlight=False)
        os.environ[environment.DAGSTER_LINK] = f"http://{HOST if host == ANY else host}:{port}"
        with _page_beside(serve_port):
            err.print(
                f"Dagster {os.environ[environment.DAGSTER_LINK]}; Ctrl-C ends it", soft_wrap=True, highlight=False
            )
            code = _run(_dagster(host, port), keeper)
    raise CommandError(f"Dagster ended by itself with code {code}; what it said stands above, and in {project.data}")


@contextmanager
def _active(folder: Path) -> Iterator[Keeper]:
    """Whoever runs it is the active one of all that share Dagster's storage; it does not stand by, as `mm daemon` does.

    Raises:
        CommandError: another is.
    """
    try:
        lease = lease_here(folder)
        if not lease.take():
            who = ", ".join(place.name for place in lease.places() if place.is_active)
            lease.release()
            raise CommandError(f"{who or 'another'} is active on the same storage; end that one, or run `mm daemon`")
    except LeaseError as error:
        raise CommandError(str(error)) from error
    keeper = Keeper(lease)
    try:
        with keeper:
            yield keeper
    finally:
        keeper.release()


def _mm(*command: str) -> list[str]:
    return [sys.executable, "-c", "from mm_dagster.cli import main; main()", *command]


@contextmanager
def _page_beside(port: int) -> Iterator[None]:
    """The live page while Dagster runs. Without it the watch goes on: where its port is taken, that is said."""
    os.environ.pop(environment.PAGE_LINK, None)
    if not port:
        yield
        return
    try:
        _refuse_taken(HOST, port)
    except CommandError as error:
        err.print(f"no live page: {error}", soft_wrap=True, highlight=False, markup=False)
        yield
        return
    command = [sys.executable, "-c", "from mm_dagster.cli.up import beside; beside()", "serve", "--port", str(port)]
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as started:
        try:
            err.print(f"live page {one_link(port)}", soft_wrap=True, highlight=False, markup=False)
            os.environ[environment.PAGE_LINK] = f"http://{HOST}:{port}"
            yield
        finally:
            _end(started)


def beside() -> None:
    """A command as `mm up` starts it beside Dagster: it ends when nobody holds the other end of its standard input."""

    def end_with_parent() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    from mm_dagster.cli import main

    main()


def one_link(port: int) -> str:
    """A link for one use within the hour, so that whoever starts it is let in."""
    from mm_dagster.cli.serve import access_of

    return f"http://{HOST}:{port}/enter#{access_of().new_code(None, 3_600)}"


def _dagster(host: str, port: int) -> list[str]:
    """Web server, daemon and code server by Dagster's own command, from a workspace that needs no project around it."""
    form = "json" if environment.given(logs.FORMAT).lower() == "json" else "colored"
    workspace = environment.shipped() / "workspace.yaml"
    return [
        sys.executable, "-c", "from mm_dagster.cli.up import dagster; dagster()", "dev", "--workspace", str(workspace),
        "--host", host, "--port", str(port), "--log-format", form,
    ]  # fmt: skip


def dagster() -> None:
    """Dagster's command as `mm up` starts it: it runs once on a data folder, and ends with `mm up`, even a killed one.

    Its standard input is a pipe whose other end `mm up` alone holds: it closes with it. In its place comes the turn,
    which what it starts inherits: where this process is killed, too, the turn is not free before the last of them ends.
    """
    pipe = os.dup(sys.stdin.fileno())
    try:
        turn = _alone(Path(environment.given(environment.DAGSTER_DIR)))
    except CommandError as error:
        sys.exit(f"error: {error}")
    os.ftruncate(turn, 0)
    os.write(turn, str(os.getpgrp()).encode())
    os.dup2(turn, sys.stdin.fileno())
    left = threading.Event()

    def end_with_parent() -> None:
        os.read(pipe, 1)
        left.set()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(WAIT_SECONDS)
        os.killpg(0, signal.SIGKILL)

    watching = threading.Thread(target=end_with_parent, daemon=True)
    watching.start()
    from dagster_dg_cli.cli import main

    try:
        main()  # type: ignore[no-untyped-call]
    finally:
        if left.is_set():
            # What it started may end later than it does, and nobody else is left to see to it.
            watching.join()


def _alone(folder: Path) -> int:
    """The turn to run Dagster on a data folder: an open file, whose lock holds until nobody has it open any more.

    Raises:
        CommandError: somebody has it.
    """
    # No such module on Windows, where `main` has refused before.
    import fcntl

    turn = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        group = os.read(turn, 20).decode()
        os.close(turn)
        rest = f": `kill -- -{group}` ends what a killed one left" if group else ""
        raise CommandError(
            f"{folder}: `mm up` runs on it already, or ends within {WAIT_SECONDS} seconds; end that one{rest}"
        ) from None
    return turn


def _refuse_taken(host: str, port: int) -> None:
    """
    Raises:
        CommandError: something listens there already, or nobody may, or it is no address of this computer.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except socket.gaierror:
            raise CommandError(f"--host {host}: is no address; write one of this computer, like {HOST}") from None
        except OSError as error:
            option = f"--port {port}" if host == HOST else f"--host {host} --port {port}"
            raise CommandError(
                f"{option}: {error.strerror}; is `mm up` running already? Else name another port"
            ) from None


def _run(command: Sequence[str], keeper: Keeper | None = None) -> int:
    """Runs a command in a group of its own and waits for it; of what it started nothing is left, however it ends.

    Raises:
        CommandError: another may be active by now.
    """
    # The pipe says to the command, by its end, that nobody waits any more.
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.PIPE) as started:
        try:
            while keeper is None or keeper.lost() is None:
                with suppress(subprocess.TimeoutExpired):
                    return started.wait(None if keeper is None else LOOK_SECONDS)
            is_signalled(started.pid, signal.SIGKILL)
            raise CommandError(f"not active any more, and Dagster is ended: {keeper.lost()}")
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
            if not is_signalled(started.pid, emphasis):
                break
            until = time.monotonic() + LAST_WAIT_SECONDS
            while is_signalled(started.pid, 0) and time.monotonic() < until:
                started.poll()
                time.sleep(0.05)
        started.wait()


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
