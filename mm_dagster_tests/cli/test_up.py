"""`mm up` that is killed leaves no process, and runs once on a home; see test_home.py for how it ends by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mm_dagster.cli import up
from mm_dagster.cli.app import CommandError
from mm_dagster.cli.lease import lease_of, own_name
from mm_dagster_tests.cli.test_home import NAME, answers, free_port, is_alive, mm, surroundings
from mm_dagster_tests.conftest import PROJECT

PATIENCE_SECONDS = 400

DAGSTER = """
import pathlib, subprocess, sys, time

def main():
    # One child that ends by nothing but SIGKILL, as a web server may that hangs.
    deaf = "import signal as s, time; s.signal(s.SIGINT, s.SIG_IGN); print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    child.stdout.readline()
    pathlib.Path(sys.argv[1]).write_text(str(child.pid))
    time.sleep(600)
"""
"""In the place of Dagster's command."""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def is_free(folder: Path) -> bool:
    """Whether the turn on a data folder can be had."""
    try:
        os.close(up._alone(folder))
    except CommandError:
        return False
    return True


def test_what_it_started_ends_with_it_however_deaf(tmp_path: Path) -> None:
    (tmp_path / "dagster_dg_cli").mkdir()
    (tmp_path / "dagster_dg_cli" / "__init__.py").touch()
    (tmp_path / "dagster_dg_cli" / "cli.py").write_text(DAGSTER)
    own = surroundings(tmp_path / "user")
    own |= {"PYTHONPATH": f"{tmp_path}{os.pathsep}{own['PYTHONPATH']}", "MM_DAGSTER_DIR": str(tmp_path)}
    note = tmp_path / "pid"
    script = "import sys; from mm_dagster.cli import up; up.WAIT_SECONDS = 1; up.dagster()"
    # Who holds the pipe is this test: it closes it as the end of `mm up` would.
    started = subprocess.Popen(
        [sys.executable, "-c", script, str(note)], env=own, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    assert started.stdin is not None
    try:
        wait_until(lambda: note.exists() and note.read_text() != "")
        child = psutil.Process(int(note.read_text()))
        with pytest.raises(CommandError, match=f"`mm up` runs on it already, .*`kill -- -{started.pid}` ends"):
            up._alone(tmp_path)
        assert is_alive(child)
        started.stdin.close()
        assert started.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        wait_until(lambda: not is_alive(child))
        wait_until(lambda: is_free(tmp_path))
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)


def test_an_address_that_cannot_be_bound_is_named() -> None:
    with pytest.raises(CommandError, match=r"^--host nowhere\.invalid: is no address"):
        up._refuse_taken("nowhere.invalid", 3000)
    # Reserved for documentation: no computer has it.
    with pytest.raises(CommandError, match=r"^--host 192\.0\.2\.1 --port 3000: "):
        up._refuse_taken("192.0.2.1", 3000)


def test_it_does_not_begin_where_another_is_active_and_is_active_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    other = lease_of(tmp_path, "")
    assert other.take()
    with pytest.raises(CommandError, match=f"^{own_name()} is active on the same storage; end that one"):
        up._active(tmp_path).__enter__()
    other.release()
    with up._active(tmp_path) as keeper:
        assert keeper.lost() is None
        assert not other.take()
    assert other.take()
    other.release()


def test_where_another_may_be_active_by_now_what_it_started_is_ended_at_once() -> None:
    class Lost:
        def lost(self) -> str:
            return "the session in PostgreSQL is lost: gone"

    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"^not active any more, and Dagster is ended: the session"):
        up._run([sys.executable, "-c", deaf], Lost())  # type: ignore[arg-type]
    assert time.monotonic() - began < up.WAIT_SECONDS


@pytest.mark.long
@pytest.mark.parametrize("also_dagster", [False, True], ids=["it", "it and Dagster"])
def test_killed_it_leaves_no_process_and_meanwhile_no_second_one_begins(also_dagster: bool, tmp_path: Path) -> None:
    folder, port = tmp_path / NAME, free_port()
    own = surroundings(tmp_path / "user")
    made = mm("init", str(folder), "--yes", "--exchange", "simulated", own=own, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    with (tmp_path / "said").open("w") as said:
        command = [sys.executable, "-c", "from mm_dagster.cli import main; main()", "up", "--no-tick"]
        killed = subprocess.Popen([*command, "--port", str(port)], env=own, cwd=tmp_path, stdout=said, stderr=said)
        started: list[psutil.Process] = []
        try:
            wait_until(lambda: answers(port) or killed.poll() is not None)
            assert killed.poll() is None, (tmp_path / "said").read_text()
            second = mm("up", "--no-tick", "--port", str(free_port()), own=own, cwd=tmp_path)
            assert second.returncode == 1
            assert "`mm up` runs on it already, or ends within" in second.stderr
            started = psutil.Process(killed.pid).children(recursive=True)
            assert len(started) >= 3
            first = psutil.Process(killed.pid).children()[0]
            for one in (first, killed) if also_dagster else (killed,):
                one.kill()
            killed.wait()
            if also_dagster:
                again = mm("up", "--no-tick", "--port", str(free_port()), own=own, cwd=tmp_path)
                remedy = re.search(r"`kill -- -(\d+)` ends what a killed one left", again.stderr)
                assert remedy, again.stderr
                os.killpg(int(remedy[1]), signal.SIGKILL)
            wait_until(lambda: not any(is_alive(child) for child in started))
            assert not answers(port)
            # Also those that began later hold it.
            wait_until(lambda: is_free(folder / "data" / "dagster"))
        finally:
            for child in (*started, psutil.Process(killed.pid) if killed.poll() is None else None):
                if child is not None and is_alive(child):
                    child.kill()
