"""`mm makers paper`: a recorder's log that grows meanwhile, lines and rows, what is refused, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mm_dagster.cli import makers_paper
from mm_dagster.history.lake import Lake
from mm_dagster.pipeline.project import Project
from mm_dagster.recorder.places import root_of
from mm_dagster.recorder.status import Status, write_whole
from mm_dagster_tests.cli.small import called
from mm_dagster_tests.pipeline.test_paper_maker import MARKET, Growing, project_in, quick_disk, whole  # noqa: F401


@contextmanager
def recorder(folder: Path, log: Growing, each: int) -> Iterator[None]:
    """What a recorder does meanwhile: the log grows, and the status says so."""
    over = threading.Event()
    root = root_of(folder / "data")

    def say() -> None:
        now = time.time_ns()
        write_whole(root, Status(now, True, 1, now, "1", 2**40, (MARKET,)))

    def run() -> None:
        while not over.wait(0.05):
            log.grow(each)
            say()

    say()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, whole: Project) -> tuple[Path, Growing]:  # noqa: F811
    log = Growing(whole, project_in(tmp_path))
    log.grow(int(0.4 * log.size))
    return tmp_path, log


def surroundings(folder: Path) -> dict[str, str]:
    return {"MM_CONFIG_DIR": f"{folder}/configuration", "MM_DATA_DIR": f"{folder}/data", "COLUMNS": "200"}


def test_stretches_are_told_and_kept_as_they_end(home: tuple[Path, Growing], monkeypatch: pytest.MonkeyPatch):
    folder, log = home
    monkeypatch.setattr(makers_paper, "LOOK_SECONDS", 0.1)
    ask = ("makers", "paper", "eth-usdt", "--maker", "naive", "--for", "4")
    with recorder(folder, log, log.size // 50):
        code, said, errors = called(surroundings(folder), *ask)
    assert code == 0, errors
    *lines, summary = said.strip().splitlines()
    assert len(lines) >= 3
    assert all("net " in line and "adverse selection" in line and "held" in line for line in lines)
    assert f"{len(lines)} stretches" in summary
    assert "Doing nothing makes 0." in summary
    rows = Lake(folder / "data" / "history").read("maker_study")
    assert rows.height == len(lines)
    assert set(rows["study"]) == {"paper"}
    assert Lake(folder / "data" / "history").read("trial").is_empty()
    code, said, errors = called(surroundings(folder), "makers", "report", "--study", "paper")
    assert code == 0, errors


def test_what_cannot_be_is_one_line(home: tuple[Path, Growing]):
    folder, log = home
    tried = {
        ("ETH-USDT", "--maker", "naiv"): "did you mean naive",
        ("DOGE-USDT", "--maker", "naive"): "DOGE-USDT: it was never recorded",
        ("ETH-USDT", "--maker", "naive"): "no recorder ever ran here; start `mm record`",
    }
    for arguments, says in tried.items():
        code, said, errors = called(surroundings(folder), "makers", "paper", *arguments)
        assert code == 1, arguments
        assert said == "", arguments
        assert says in errors, errors
        assert len(errors.strip().splitlines()) == 1, errors
    with recorder(folder, log, 0):
        code, said, errors = called(
            surroundings(folder), "makers", "paper", "ETH-USDT", "--maker", "glft", "--for", "1"
        )
    assert code == 1
    assert said == ""
    assert "no stretch of 3 minutes began and ended meanwhile" in errors
    now = time.time_ns()
    out = Status(now, True, 1, now, "1", 2**40, (replace(MARKET, phase="SYNCING"),))
    write_whole(root_of(folder / "data"), out)
    code, said, errors = called(surroundings(folder), "makers", "paper", "ETH-USDT", "--maker", "glft")
    assert code == 1
    assert "its book is not in sync (SYNCING)" in errors


def test_a_recorder_that_ends_ends_it_and_what_was_finished_is_told(
    home: tuple[Path, Growing], monkeypatch: pytest.MonkeyPatch
):
    folder, log = home
    monkeypatch.setattr(makers_paper, "LOOK_SECONDS", 0.1)

    def say(is_running: bool) -> None:
        now = time.time_ns()
        write_whole(root_of(folder / "data"), Status(now, is_running, 1, now, "1", 2**40, (MARKET,)))

    def run() -> None:
        while log.written < 0.9 * log.size:
            log.grow(log.size // 60)
            say(True)
            time.sleep(0.05)
        say(False)

    say(True)
    thread = threading.Thread(target=run)
    thread.start()
    code, said, errors = called(surroundings(folder), "makers", "paper", "ETH-USDT", "--maker", "naive", "--json")
    thread.join()
    assert code == 1
    assert "the recorder was ended at" in errors
    assert len(json.loads(said)) >= 1


@pytest.mark.long
def test_ctrl_c_ends_within_a_second_and_keeps_what_was_finished(home: tuple[Path, Growing]):
    folder, log = home
    environment = {**os.environ, **surroundings(folder)}
    ask = [sys.executable, "-c", "from mm_dagster.cli import main; main()", "makers", "paper", "ETH-USDT"]
    with recorder(folder, log, log.size // 400):
        process = subprocess.Popen(
            [*ask, "--maker", "naive"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        at = time.monotonic()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    took = time.monotonic() - at
    assert "net " in line, errors
    assert process.returncode == 130
    assert "stopped; what was finished stays" in errors
    assert "stretches" in rest
    assert took < 1.5, took
    assert Lake(folder / "data" / "history").read("maker_study").height >= 1
