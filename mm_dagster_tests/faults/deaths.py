"""Kills and SIGTERM at any instruction of tick, send, backfill, backup, restore and upkeep, with a reader beside."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mm_dagster_tests.faults import small, spine
from mm_dagster_tests.faults.exchange import MINUTE
from mm_dagster_tests.faults.judge import Result

WHAT = {"tick": 6, "send": 3, "backfill": 2, "backup": 2, "restore": 2, "upkeep": 3}
"""How often each is killed a round."""


@dataclass(frozen=True)
class Task:
    """One death."""

    what: str
    mode: str
    signal: int
    seed: int


def plan(rounds: int) -> list[Task]:
    """Half by SIGKILL, half by SIGTERM; at a line, at an audited event, and at a time."""
    rng = random.Random(2)
    modes, signals = ("line", "audit", "time"), (signal.SIGKILL, signal.SIGTERM)
    return [
        Task(what, modes[number % 3], int(signals[number // 3 % 2]), rng.randrange(10**6))
        for what, weight in WHAT.items()
        for number in range(weight * rounds)
    ]


class _Mother:
    """The process that forks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mm_dagster_tests.faults.doomed"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )  # fmt: skip

    def bear(self, task: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told


@cache
def _mother() -> _Mother:
    return _Mother()


def _task(one: small.Small, what: str, mode: str, number: int, how: int, after: float) -> dict[str, Any]:
    return {
        "config": str(one.config), "data": str(one.data), "now": (small.MOMENT.as_of + MINUTE).isoformat(),
        "what": what, "mode": mode, "number": number, "signal": how, "after": after,
        "archive": str(one.folder / "safe" / "backup.tar.gz"),
    }  # fmt: skip


def _prepare(one: small.Small, what: str) -> None:
    """What must have happened before, without a fault."""
    (one.folder / "safe").mkdir(exist_ok=True)
    (one.data / "dagster").mkdir(exist_ok=True)
    before = []
    if what == "send":
        spine.tick(one.config, one.data, one.as_of(0))
    if what == "restore":
        before = ["backup"]
    for done in before:
        told = _mother().bear(_task(one, done, "none", 0, 9, 0.0))
        assert told["status"] == 0, told
    spine.close(one.data)


@cache
def _length(what: str, mode: str) -> tuple[int, float]:
    """How many steps, and seconds, an undisturbed one takes."""
    with small.project() as one:
        _prepare(one, what)
        told = _mother().bear(_task(one, what, mode, 0, 9, 3600.0))
        assert told["status"] == 0, (what, told)
        return int(told["told"]), float(told["seconds"])


@contextmanager
def reader(result: Result, one: small.Small) -> Iterator[None]:
    """Reads all the while, and counts what is half there."""
    ended = threading.Event()
    as_of = f"TIMESTAMPTZ '{one.as_of(0).isoformat()}'"
    query = f"""SELECT (SELECT count(*) FROM exit_state WHERE as_of = {as_of}) AS states,
        (SELECT count(*) - count(DISTINCT open_time) FROM candles) AS twice,
        (SELECT count(*) FROM candles) AS bars, (SELECT count(*) FROM operator_response) AS answers"""

    def read() -> None:
        lake, most = spine.lake(one.data), 0
        while not ended.is_set():
            try:
                row = lake.sql(query).row(0, named=True)
                torn = row["states"] > 1 or row["twice"] or row["bars"] < most or row["answers"] != 1
                most = max(most, row["bars"])
                result.add("torn reads", int(torn), f"{row}")
            except Exception as error:
                result.add("torn reads", 1, f"{type(error).__name__}: {str(error)[:160]}")
            ended.wait(0.1)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def run(task: Task) -> list[Result]:
    """Dies once, then goes on as if it were started again."""
    rng = random.Random(task.seed)
    name = signal.Signals(task.signal).name
    result = Result(f"{task.what}: {name}", f"deaths:{task.what}:{task.mode}:{name}:{task.seed}")
    steps, seconds = _length(task.what, task.mode)
    number, after = rng.randrange(1, steps + 1) if steps else 0, rng.uniform(0.0, seconds)
    with small.project() as one:
        _prepare(one, task.what)
        readable = task.what != "restore"
        with reader(result, one) if readable else _nobody():
            told = _mother().bear(_task(one, task.what, task.mode, number, task.signal, after))
        result.add("not foreseen", int(told["hung"]), "it hangs")
        if task.what in ("backup", "restore"):
            again = _mother().bear(_task(one, task.what, "none", 0, 9, 0.0))
            result.add("not foreseen", int(again["status"] != 0), f"the next {task.what}: {again['told'][:160]}")
            if task.what == "backup":
                left = [path.name for path in (one.folder / "safe").iterdir() if path.name != "backup.tar.gz"]
                left += [path.name for path in one.data.iterdir() if "backup" in path.name and path.is_dir()]
                result.add("not foreseen", len(left), f"left behind: {', '.join(left)}")
        spine.close(one.data)
        small.heal(result, one, 1)
    return [result]


@contextmanager
def _nobody() -> Iterator[None]:
    yield
