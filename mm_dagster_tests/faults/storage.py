"""The lake's files, spoiled at any byte: refused or right, never silently wrong, and nothing more is deleted."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mm_dagster_tests.faults import small, spine
from mm_dagster_tests.faults.judge import Result

Spoil = Callable[[random.Random, Path], None]


def _flip(rng: random.Random, path: Path) -> None:
    body = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 8])):
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    path.write_bytes(body)


def _block(rng: random.Random, path: Path) -> None:
    """A sector that the disk lost."""
    body = bytearray(path.read_bytes())
    start = rng.randrange(len(body)) // 512 * 512
    body[start : start + 512] = bytes(min(512, len(body) - start))
    path.write_bytes(body)


def _cut(rng: random.Random, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(rng.randrange(path.stat().st_size))


def _empty(rng: random.Random, path: Path) -> None:
    path.write_bytes(b"")


def _gone(rng: random.Random, path: Path) -> None:
    path.unlink()


def _other(rng: random.Random, path: Path) -> None:
    path.write_bytes(rng.randbytes(4096))


_WAYS: dict[str, Spoil] = {
    "a byte flipped": _flip, "a sector zeroed": _block, "truncated": _cut, "emptied": _empty, "gone": _gone,
    "other content": _other,
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One file, spoiled one way."""

    what: str
    way: str
    seed: int


def plan(rounds: int) -> list[Task]:
    """Weighted by how many places there are to spoil."""
    rng = random.Random(14)
    found = []
    for what, weight in (("catalogue", 5), ("Parquet", 3), ("last valid configuration", 1)):
        for way in _WAYS:
            many = weight * rounds if way in ("a byte flipped", "a sector zeroed", "truncated") else rounds
            found += [Task(what, way, rng.randrange(10**6)) for _ in range(many)]
    found += [
        Task("catalogue", way, rng.randrange(10**6)) for way in ("locked", "locked by a reader") for _ in range(rounds)
    ]
    return found


def run(task: Task) -> list[Result]:
    """Spoils a file, ticks, puts the file back where that was refused, and ticks again."""
    rng = random.Random(task.seed)
    result = Result(f"{task.what}: {task.way}", f"storage:{task.what}:{task.way}:{task.seed}")
    with small.project() as one:
        history = one.data / "history"
        if task.way.startswith("locked"):
            _locked(result, one, task.way)
            return [result]
        path = {
            "catalogue": lambda: history / "catalog.sqlite",
            "Parquet": lambda: rng.choice(sorted(history.rglob("*.parquet"))),
            "last valid configuration": lambda: next((one.data / "config").glob("*.json")),
        }[task.what]()
        kept = one.folder / "kept"
        shutil.copyfile(path, kept)
        if task.what == "last valid configuration":
            # It counts only while the folder's own is invalid.
            (one.config / "exit.yaml").write_text("policy: [")
        spine.close(one.data)
        _WAYS[task.way](rng, path)
        there = set(history.rglob("*.parquet"))
        refusal = small.attempt(result, lambda: one.tick(0))
        gone = there - set(history.rglob("*.parquet"))
        result.add("lost rows", len(gone), f"{len(gone)} files of the lake were deleted")
        (one.config / "exit.yaml").unlink(missing_ok=True)
        if refusal is not None:
            spine.close(one.data)
            for beside in ("-wal", "-shm"):
                path.with_name(path.name + beside).unlink(missing_ok=True)
            shutil.copyfile(kept, path)
        small.heal(result, one, 1)
    return [result]


def _locked(result: Result, one: small.Small, way: str) -> None:
    """Another program holds the catalogue for the whole tick."""
    other = sqlite3.connect(one.data / "history" / "catalog.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE" if way == "locked" else "BEGIN")
    other.execute("SELECT count(*) FROM sqlite_master").fetchall()
    try:
        small.attempt(result, lambda: one.tick(0))
    finally:
        other.close()
    small.heal(result, one, 1)
