"""`mm daemon` runs one child while it has the lease, and not a moment longer."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from mm_dagster.cli import lease, standby
from mm_dagster.cli.app import CommandError
from mm_dagster.cli.lease import LeaseError, Place
from mm_dagster.config.last_valid import load_or_last_valid
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.cli.test_lease import wait_until

CHILD = """
import os, signal, subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
run = subprocess.Popen([sys.executable, "-c", deaf])
def told(*_):
    if {gentle}:
        run.kill()
    sys.exit()
signal.signal(signal.SIGINT, told)
open({note!r}, "w").write(str(run.pid))
time.sleep(600)
"""
"""In the place of Dagster's daemon: a run of it knows no Ctrl-C."""


class Stub:
    """A lease that is as it is told to be."""

    def __init__(self, *taken: bool | str) -> None:
        self.taken = list(taken)
        self.is_lost = self.is_released = False

    def take(self) -> bool:
        found = self.taken.pop(0)
        if isinstance(found, str):
            raise LeaseError(found)
        return found

    def confirm(self) -> None:
        if self.is_lost:
            raise LeaseError("the session in PostgreSQL is lost: gone")

    def release(self) -> None:
        self.is_released = True

    def places(self) -> list[Place]:
        return [Place("1@alpha", True, datetime(2026, 1, 1, tzinfo=UTC))]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lease, standby):
        monkeypatch.setattr(module, "ASK_SECONDS", 0.05)
    monkeypatch.setattr(standby, "_LOOK_SECONDS", 0.02)


def command(tmp_path: Path, *, gentle: bool = True) -> list[str]:
    return [sys.executable, "-c", CHILD.format(note=str(tmp_path / "pid"), gentle=gentle)]


def started(tmp_path: Path) -> psutil.Process:
    """The run that the child has under way, once it has."""
    note = tmp_path / "pid"
    wait_until(lambda: note.exists() and note.read_text() != "")
    return psutil.Process(int(note.read_text()))


def is_over(run: psutil.Process) -> bool:
    return not run.is_running() or run.status() == psutil.STATUS_ZOMBIE


def be_active(stub: Stub, command: list[str], drain: int) -> tuple[threading.Thread, threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=standby._be_active, args=(stub, command, stop, drain, 0.0))
    thread.start()
    return thread, stop


def test_where_the_lease_is_lost_nothing_of_the_child_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stub = Stub()
    thread, _ = be_active(stub, command(tmp_path, gentle=False), 50)
    run = started(tmp_path)
    stub.is_lost = True
    began = time.monotonic()
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - began < 5
    assert is_over(run)
    assert "not active any more, and Dagster's daemon is ended: the session in PostgreSQL is lost: gone" in caplog.text
    # Closing it might wait as long as asking does.
    assert not stub.is_released


@pytest.mark.parametrize(("gentle", "drain"), [(True, 50), (False, 1)], ids=["in time", "too late"])
def test_told_to_end_it_waits_for_what_is_under_way_and_no_longer(tmp_path: Path, gentle: bool, drain: int) -> None:
    stub = Stub()
    thread, stop = be_active(stub, command(tmp_path, gentle=gentle), drain)
    run = started(tmp_path)
    began = time.monotonic()
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert is_over(run)
    assert (time.monotonic() - began >= drain) is not gentle
    assert stub.is_released


def test_a_child_that_ends_by_itself_is_no_success() -> None:
    stub = Stub()
    with pytest.raises(CommandError, match="ended by itself with code 3"):
        standby._be_active(stub, [sys.executable, "-c", "raise SystemExit(3)"], threading.Event(), 1, 0.0)


def test_whoever_stands_by_says_so_once_and_takes_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(standby, "_follow_configuration", lambda: None)
    stub = Stub(False, False, "PostgreSQL cannot be asked who is active: gone", False, True)
    monkeypatch.setattr(standby, "lease_here", lambda _: stub)
    assert standby._wait(tmp_path, threading.Event()) == (stub, True)
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    waits = "standby: 1@alpha is active since 2026-01-01T00:00:00Z"
    assert [line.partition(";")[0] for line in said] == [
        waits, "standby, not active: PostgreSQL cannot be asked who is active: gone", waits,
    ]  # fmt: skip


def test_whoever_stands_by_knows_the_configuration_as_it_was_last_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path)
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / "configuration"))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(standby, "lease_here", lambda _: Stub(False, False, True))
    monkeypatch.setattr(standby, "READ_SECONDS", 0.0)
    standby._wait(tmp_path, threading.Event())
    assert not (tmp_path / "data" / "history").exists()
    (tmp_path / "configuration" / "markets.yaml").write_text("markets: [")
    found = load_or_last_valid(tmp_path / "configuration", tmp_path / "data" / "config")
    assert [grid.id for grid in found.config.grids] == ["eth"]
    assert found.fault is not None


def test_whoever_stands_by_ends_when_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(False)
    monkeypatch.setattr(standby, "lease_here", lambda _: stub)
    monkeypatch.setattr(standby, "_follow_configuration", lambda: None)
    stop = threading.Event()
    stop.set()
    assert standby._wait(tmp_path, stop) == (None, True)
    assert stub.is_released


def test_the_child_dies_with_whoever_watches_over_it(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time; from mm_dagster.defs.internals import daemon; daemon._end_with_parent();"
        f"run = subprocess.Popen({command(tmp_path, gentle=False)!r}); run.wait()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, start_new_session=True, env=dict(os.environ)
    )
    try:
        run = started(tmp_path)
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(30) == -signal.SIGKILL
        wait_until(lambda: is_over(run), 10)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
