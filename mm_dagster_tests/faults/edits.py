"""A configuration that is edited while it runs: torn at any byte, flipped, emptied, gone, and what editors leave."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mm_dagster.config.errors import ConfigError
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.faults import small, spine, venue
from mm_dagster_tests.faults.judge import Result
from mm_dagster_tests.faults.spine import Grid

FILES = ("markets.yaml", "alerts.yaml", "exit.yaml", "grids/ada.yaml")
READ_ONLY_A_TASK = 25
"""Edits a task that are only read: a tick costs a hundred times as much."""


@dataclass(frozen=True)
class Task:
    """Many edits that are read, or one with a tick."""

    what: str
    seed: int


def _torn(rng: random.Random, path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[: rng.randrange(len(body))])


def _flipped(rng: random.Random, path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    path.write_bytes(body)


def _inserted(rng: random.Random, path: Path) -> None:
    body = path.read_bytes()
    at = rng.randrange(len(body))
    odd = rng.choice(_ODD)
    path.write_bytes(body[:at] + odd + body[at:])


_ODD = (
    b"\0", b"\t", b"\xff\xfe", b"&a", b"*a", b"!!python/object:os.system ", b"\xe2\x80\xa9", b"{", b"- ",
    b": 2026-06-31", b": 12:30:60", b"[" * 2000, b"?", b"|", b"%YAML 9\n", b"<<: ",
)  # fmt: skip
_SPOIL: dict[str, Callable[[random.Random, Path], None]] = {
    "torn at any byte": _torn, "a bit flipped at any byte": _flipped, "something odd at any byte": _inserted,
}  # fmt: skip


def _lock_link(config: Path) -> None:
    (config / "grids" / ".#ada.yaml").symlink_to("me@host.1234:1")


def _folder(config: Path) -> None:
    (config / "grids" / "old.yaml").mkdir()


def _fifo(config: Path) -> None:
    os.mkfifo(config / "grids" / "pipe.yaml")


def _deep(config: Path) -> None:
    (config / "exit.yaml").write_text("[" * 100_000)


def _emptied(config: Path) -> None:
    (config / "exit.yaml").write_text("")


def _grid_emptied(config: Path) -> None:
    (config / "grids" / "ada.yaml").write_text("")


def _grid_gone(config: Path) -> None:
    (config / "grids" / "ada.yaml").unlink()


def _grids_gone(config: Path) -> None:
    (config / "grids").rename(config / "was")


def _all_gone(config: Path) -> None:
    config.rename(config.with_name("was"))


def _a_date(config: Path) -> None:
    path = config / "grids" / "ada.yaml"
    path.write_text(path.read_text().replace("activated_at: ", "activated_at: 2026-06-31T00:00:00Z # "))


def _dangling(config: Path) -> None:
    path = config / "exit.yaml"
    path.unlink()
    path.symlink_to("nowhere.yaml")


def _loop(config: Path) -> None:
    path = config / "exit.yaml"
    path.unlink()
    path.symlink_to("exit.yaml")


def _huge(config: Path) -> None:
    (config / "exit.yaml").write_text("policy: literal\n" + "# \n" * 200_000)


def _backup_copy(config: Path) -> None:
    (config / "grids" / "ada.yaml~").write_text("half")
    (config / "grids" / ".ada.yaml.swp").write_bytes(b"\0\1")
    (config / "grids" / "._ada.yaml").write_bytes(b"\0\5\x16\7")


WITH_TICK: dict[str, Callable[[Path], None]] = {
    "Emacs' lock link": _lock_link, "a folder named old.yaml": _folder, "a FIFO": _fifo, "100,000 brackets": _deep,
    "exit.yaml emptied": _emptied, "a grid's file emptied": _grid_emptied, "a grid's file gone": _grid_gone,
    "grids/ gone": _grids_gone, "the folder gone": _all_gone, "a day that is none": _a_date,
    "a link to nowhere": _dangling, "a link to itself": _loop, "200,000 comments": _huge,
    "what editors leave": _backup_copy,
}  # fmt: skip


def plan(rounds: int) -> list[Task]:
    """Reading is cheap, so that there are many of these."""
    rng = random.Random(31)
    found = [Task(what, rng.randrange(10**6)) for what in _SPOIL for _ in range(2 * rounds)]
    return found + [Task(what, rng.randrange(10**6)) for what in WITH_TICK]


def run(task: Task) -> list[Result]:
    """Edits are read by the next turn; where they are not valid the last valid configuration must be in force."""
    if task.what in WITH_TICK:
        return [_with_tick(task)]
    rng = random.Random(task.seed)
    folder = venue.scratch()
    config, data = folder / "configuration", folder / "data"
    grid = Grid("ada", "ADA-USDT", small.MOMENT.as_of, 0.8)
    spine.configure(
        config, {"ADA-USDT": "http://127.0.0.1:9"}, [grid], "http://127.0.0.1:9/1/", exit={"policy": "literal"}
    )
    try:
        return [_read(task, rng, number, config, data) for number in range(READ_ONLY_A_TASK)]
    finally:
        shutil.rmtree(folder)


def _read(task: Task, rng: random.Random, number: int, config: Path, data: Path) -> Result:
    """One edit, as the next turn reads it."""
    valid = Project(str(config), str(data)).config.model_dump_json()
    path = config / rng.choice(FILES)
    body = path.read_bytes()
    result = Result(f"configuration: {task.what}", f"edits:{task.what}:{task.seed}:{number}:{path.name}")
    _SPOIL[task.what](rng, path)
    project = Project(str(config), str(data))
    try:
        if project.config_error is None and project.config.model_dump_json() != valid:
            result.add("another meaning", 1, f"{path.name}: valid, and says something else")
        elif project.config_error is not None and project.config.model_dump_json() != valid:
            result.add("bits that differ", 1, "not the last valid configuration")
        elif project.config_error is not None and path.name not in project.config_error:
            result.add("not foreseen", 1, f"{path.name} is not named: {project.config_error[:120]}")
    except ConfigError as error:
        result.add("not foreseen", 1, f"the last valid one is not used: {error}")
    except Exception as error:
        result.add("not foreseen", 1, f"{type(error).__name__}: {str(error)[:120]}")
    path.write_bytes(body)
    # What was valid for a moment was kept as the last valid one.
    _ = Project(str(config), str(data)).config
    return result


def _with_tick(task: Task) -> Result:
    result = Result(f"configuration: {task.what}", f"edits:{task.what}")
    with small.project() as one:
        _ = Project(str(one.config), str(one.data)).config
        if (one.config / "exit.yaml").exists() is False and "exit" not in task.what:
            (one.config / "exit.yaml").write_text("policy: confirmed\n")
        kept = {path: path.read_bytes() for path in one.config.rglob("*.yaml")}
        WITH_TICK[task.what](one.config)
        worker = threading.Thread(target=small.attempt, args=(result, lambda: one.tick(0), ()), daemon=True)
        worker.start()
        worker.join(120)
        if worker.is_alive():
            result.add("not foreseen", 1, "the tick hangs")
        # The grid must be left now, whatever became of its file: that is told, once.
        told = [ring for ring in one.phone.rings if ring.priority == 2 and "ada" in ring.title]
        result.add("lost alerts", 1 - min(len(told), 1), "the MANDATORY_EXIT of the grid was not told")
        for path in list(one.config.rglob("*.yaml")) if one.config.is_dir() else []:
            if path not in kept:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for path, body in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                path.unlink()
            path.write_bytes(body)
        if not worker.is_alive():
            small.heal(result, one, 1)
    return result
