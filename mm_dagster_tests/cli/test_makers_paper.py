"""`mm makers paper`: a recorder's log that grows meanwhile, lines and rows, what is refused, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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


def say(folder: Path, is_running: bool = True, phase: str = "IN_SYNC") -> None:
    """What a recorder says of itself at this moment."""
    now = time.time_ns()
    write_whole(root_of(folder / "data"), Status(now, is_running, 1, now, "1", 2**40, (replace(MARKET, phase=phase),)))


class Time:
    """In place of `time`: the log grows while the command sleeps, and the recorder says that it works."""

    def __init__(self, folder: Path, log: Growing, ends_at: float = 2.0) -> None:
        self._folder, self._log, self._ends_at, self._now = folder, log, ends_at, 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        self._log.grow(self._log.size // 50)
        say(self._folder, is_running=self._log.written < self._ends_at * self._log.size)


@pytest.fixture
def home(tmp_path: Path, whole: Project) -> tuple[Path, Growing]:  # noqa: F811
    log = Growing(whole, project_in(tmp_path))
    log.grow(int(0.4 * log.size))
    return tmp_path, log


def surroundings(folder: Path) -> dict[str, str]:
    return {"MM_CONFIG_DIR": f"{folder}/configuration", "MM_DATA_DIR": f"{folder}/data", "COLUMNS": "200"}


@pytest.mark.slow
def test_stretches_are_told_and_kept_as_they_end(home: tuple[Path, Growing], monkeypatch: pytest.MonkeyPatch):
    folder, log = home
    monkeypatch.setattr(makers_paper, "time", Time(folder, log))
    say(folder)
    ask = ("makers", "paper", "eth-usdt", "--maker", "naive", "--for", "100")
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
    folder, _ = home
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
    say(folder)
    ask = ("makers", "paper", "ETH-USDT", "--maker", "glft")
    code, said, errors = called(surroundings(folder), *ask, "--for", "0.5")
    assert code == 1
    assert said == ""
    assert "no stretch of 3 minutes began and ended meanwhile" in errors
    say(folder, phase="SYNCING")
    code, said, errors = called(surroundings(folder), *ask)
    assert code == 1
    assert "its book is not in sync (SYNCING)" in errors


@pytest.mark.slow
def test_a_recorder_that_ends_ends_it_and_what_was_finished_is_told(
    home: tuple[Path, Growing], monkeypatch: pytest.MonkeyPatch
):
    folder, log = home
    monkeypatch.setattr(makers_paper, "time", Time(folder, log, ends_at=0.8))
    say(folder)
    code, said, errors = called(surroundings(folder), "makers", "paper", "ETH-USDT", "--maker", "naive", "--json")
    assert code == 1
    assert "the recorder was ended at" in errors
    assert len(json.loads(said)) >= 1


@pytest.mark.long
def test_ctrl_c_ends_within_a_second_and_keeps_what_was_finished(home: tuple[Path, Growing]):
    folder, log = home
    ask = [sys.executable, "-c", "from mm_dagster.cli import main; main()", "makers", "paper", "ETH-USDT"]
    say(folder)
    process = subprocess.Popen(
        [*ask, "--maker", "naive"], env={**os.environ, **surroundings(folder)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    begun = process.stderr.readline()
    assert "quotes from the next one on" in begun
    log.grow(int(0.3 * log.size))
    say(folder)
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
