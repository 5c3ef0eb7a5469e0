"""Full and read-only disks, two writers, the git mirror, and clocks."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from mm_dagster.history.mirror import Mirror
from mm_dagster_tests.faults import small, spine, venue
from mm_dagster_tests.faults.clockwork import computer_clock
from mm_dagster_tests.faults.deaths import reader
from mm_dagster_tests.faults.exchange import MINUTE, Exchange, at, walked
from mm_dagster_tests.faults.judge import Result, compare
from mm_dagster_tests.faults.phone import Phone
from mm_dagster_tests.faults.spine import BAR, Grid


@dataclass(frozen=True)
class Task:
    """One of them."""

    what: str
    seed: int


def plan(rounds: int) -> list[Task]:
    """Each of them, seeded."""
    rng = random.Random(5)
    found = [Task("disk: full", rng.randrange(10**6)) for _ in range(6 * rounds)]
    found += [Task("disk: read-only", rng.randrange(10**6)) for _ in range(rounds)]
    found += [Task("two writers", rng.randrange(10**6)) for _ in range(2 * rounds)]
    found += [Task(f"git: {what}", rng.randrange(10**6)) for what in _GIT for _ in range(2 * rounds)]
    found += [Task(f"time: {name}", 0) for name in TIMES]
    return found


def run(task: Task) -> list[Result]:
    """By its name."""
    result = Result(task.what, f"others:{task.what}:{task.seed}")
    kind, _, rest = task.what.partition(": ")
    rng = random.Random(task.seed)
    if kind == "disk":
        _disk(result, rng, rest)
    elif kind == "two writers":
        _writers(result)
    else:
        folder = venue.scratch()
        try:
            _git(result, rng, rest, folder) if kind == "git" else _time(result, rest, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return [result]


# disks ----------------------------------------------------------------------------------------------------------------


@contextmanager
def _full(rng: random.Random, data: Path) -> Iterator[None]:
    """No file may grow beyond what it is, as good as: a write fails in its midst."""
    largest = max(path.stat().st_size for path in data.rglob("*") if path.is_file())
    limit = rng.choice([0, 4096, rng.randrange(1, largest), largest, largest + rng.randrange(60_000)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)


@contextmanager
def _read_only(data: Path) -> Iterator[bool]:
    """A read-only mount of the folder over itself, where that is allowed."""
    mounted = subprocess.run(["mount", "--bind", str(data), str(data)], capture_output=True).returncode == 0
    read_only = mounted and subprocess.run(
        ["mount", "-o", "remount,ro,bind", str(data)], capture_output=True
    ).returncode == 0  # fmt: skip
    try:
        yield read_only
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(data)], capture_output=True)


def _disk(result: Result, rng: random.Random, what: str) -> None:
    with small.project() as one:
        spine.close(one.data)
        if what == "full":
            with _full(rng, one.data):
                small.attempt(result, lambda: one.tick(0), (*small.FORESEEN, OSError))
        else:
            with _read_only(one.data) as possible:
                if not possible:
                    result.kind += " (not possible here)"
                    return
                small.attempt(result, lambda: one.tick(0), (*small.FORESEEN, OSError))
                spine.close(one.data)
        spine.close(one.data)
        small.heal(result, one, 1)


# writers --------------------------------------------------------------------------------------------------------------


def _second(config: Path, data: Path, now: datetime) -> None:
    with spine.surroundings(config, data):
        spine._stages()
        with computer_clock(lambda: now):
            spine.tick(config, data, now - MINUTE)
            spine.send(config, data)


def _writers(result: Result) -> None:
    """Two ticks of the same bar at once, in two processes."""
    with small.project() as one:
        spine.close(one.data)
        other = multiprocessing.get_context("spawn").Process(
            target=_second, args=(one.config, one.data, one.world.now), daemon=False
        )
        with reader(result, one):
            other.start()
            small.attempt(result, lambda: one.tick(0), ())
            other.join(240)
        result.add("not foreseen", int(other.exitcode != 0), f"the other ended with {other.exitcode}")
        if other.is_alive():
            other.kill()
        small.heal(result, one, 1)


# git ------------------------------------------------------------------------------------------------------------------


def _git_in(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@y", "GIT_COMMITTER_NAME": "x",
                   "GIT_COMMITTER_EMAIL": "x@y"}  # fmt: skip
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, env=environment)
    return done.stdout.decode("utf-8", "replace")


def _spoil(name: str) -> Callable[[random.Random, Path, Path], None]:
    def spoil(rng: random.Random, mirror: Path, remote: Path) -> None:
        path = mirror / ".git" / name
        if not path.is_file():
            path = next(iter(sorted((mirror / ".git").rglob(name))), mirror / ".git" / "HEAD")
        body = bytearray(path.read_bytes())
        way = rng.randrange(3)
        if way == 0:
            path.chmod(0o600)
            path.write_bytes(b"")
        elif way == 1 and body:
            path.chmod(0o600)
            body[rng.randrange(len(body))] ^= 0xFF
            path.write_bytes(body)
        else:
            path.unlink()

    return spoil


def _symlink(rng: random.Random, mirror: Path, remote: Path) -> None:
    """Somebody pushes a link in the place of the folder of snapshots."""
    clone = mirror.parent / "somebody"
    _git_in(mirror.parent, "clone", "-q", str(remote), str(clone))
    _git_in(clone, "rm", "-rq", "metrics")
    outside = mirror.parent / "outside"
    outside.mkdir(exist_ok=True)
    (clone / "metrics").symlink_to(outside)
    _git_in(clone, "add", "-A")
    _git_in(clone, "commit", "-qm", "link")
    _git_in(clone, "push", "-q", "origin", "HEAD")


def _rewritten(rng: random.Random, mirror: Path, remote: Path) -> None:
    clone = mirror.parent / "somebody"
    _git_in(mirror.parent, "clone", "-q", str(remote), str(clone))
    _git_in(clone, "checkout", "-q", "--orphan", "other")
    _git_in(clone, "commit", "-qm", "other", "--allow-empty")
    _git_in(clone, "push", "-qf", "origin", "other:main")


def _remote_gone(rng: random.Random, mirror: Path, remote: Path) -> None:
    remote.rename(remote.with_name("was"))


def _locked(rng: random.Random, mirror: Path, remote: Path) -> None:
    """What a killed git leaves."""
    for name in ("index.lock", "HEAD.lock", "refs/heads/main.lock"):
        path = mirror / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


_GIT: dict[str, Callable[[random.Random, Path, Path], None]] = {
    "index": _spoil("index"), "HEAD": _spoil("HEAD"), "the branch's ref": _spoil("refs/heads/main"),
    "an object": _spoil("objects/??/*"), "config": _spoil("config"), "a link is pushed": _symlink,
    "the remote is rewritten": _rewritten, "the remote is gone": _remote_gone, "locks are left": _locked,
}  # fmt: skip


def _git(result: Result, rng: random.Random, what: str, folder: Path) -> None:
    """Snapshots before and after; all of them must be in a history that git can read, or be named as set aside."""
    remote, place = folder / "remote.git", folder / "mirror"
    _git_in(folder, "init", "-q", "--bare", "-b", "main", str(remote))

    def write(number: int) -> str | None:
        mirror = Mirror(place, str(remote), "main")
        text = {f"metrics/2026/01/01/{number:04d}_X-USDT.yaml": f"number: {number}\n"}
        refusal = small.attempt(result, lambda: mirror.write(text, f"snapshot {number}"))
        return refusal or small.attempt(result, mirror.push)

    for number in range(3):
        write(number)
    _GIT[what](rng, place, remote)
    refusals = [write(number) for number in range(3, 7)]
    if (folder / "was").exists():
        (folder / "was").rename(remote)
    refusals.append(write(7))
    result.add("not foreseen", int(refusals[-1] is not None), f"it does not heal: {refusals[-1]}")
    outside = folder / "outside"
    result.add(
        "not foreseen", int(outside.is_dir() and any(outside.iterdir())), "a link was followed out of the mirror"
    )
    shown = "".join(
        _git_in(place, "cat-file", "--batch-all-objects", "--batch")
        for place in folder.iterdir()
        # Whatever is left of it, wherever it was set aside: a log would stop at the first hole.
        if place.is_dir()
    )
    # By what a file says: where the mirror is begun anew, the files that lay there are in one commit of its own.
    lost = [number for number in range(8) if f"number: {number}\n" not in shown]
    if refusals[-1] is None:
        lost = [number for number in lost if number < 3 or refusals[number - 3] is None]
        result.add("lost rows", len(lost), f"snapshots {lost} are in no history")


# clocks ---------------------------------------------------------------------------------------------------------------

TIMES = {
    "year's end": (at("2026-01-01T00:00"), (0, 1, 2)),
    "leap day": (at("2028-02-29T00:00"), (0, 1, 2)),
    "after a leap day": (at("2028-03-01T00:00"), (0, 1, 2)),
    "the clocks go forward": (at("2026-03-29T01:00"), (0, 1, 2)),
    "the clocks go back": (at("2026-10-25T01:00"), (0, 1, 2)),
    "2038": (at("2038-01-19T03:15"), (0, 1, 2)),
    "a tick in the past": (at("2026-06-10T12:00"), (0, -1, -4, 1, 2)),
    "a day of the past": (at("2026-06-10T12:00"), (0, -96, 1, 2)),
    "a week without ticks": (at("2026-06-10T12:00"), (0, 672, 673)),
    "the same tick thrice": (at("2026-06-10T12:00"), (0, 0, 0, 1, 2)),
    "every other tick": (at("2026-06-10T12:00"), (0, 2, 4)),
}
"""When, and which ticks come in which order, in bars from then."""


def _time(result: Result, name: str, folder: Path) -> None:
    """However the ticks come, the rows are those of one that comes once, at the end."""
    moment, steps = TIMES[name]
    with Phone() as phone:
        series = {"ADA-USDT": walked("ADA-USDT", moment - timedelta(days=80), moment + timedelta(days=9))}
        with Exchange(series, moment) as world:
            begun = moment - timedelta(hours=36)
            price = float(series["ADA-USDT"].until(int(begun.timestamp())).values[-1, 3])
            config = folder / "configuration"
            urls = {"ADA-USDT": world.url("ADA-USDT")}
            alerts = {
                "pushover": {"api_url": phone.url, "timeout_seconds": 2}, "timezone": "Europe/Berlin",
                "digest_at": "02:30", "quiet_hours": {"start": "22:00", "end": "07:00"},
            }  # fmt: skip
            spine.configure(
                config, urls, [Grid("ada", "ADA-USDT", begun, price)], phone.url, alerts=alerts,
                history={"catch_up_days": 9},
            )  # fmt: skip
            last = moment + max(steps) * BAR
            found = []
            for data, order in ((folder / "data", steps), (folder / "once", (max(steps),))):
                _ticks(result, config, data, world, [moment + step * BAR for step in order])
                since = last - timedelta(hours=30)
                found.append(
                    {
                        name: rows.filter(rows["close_time" if name == "candles" else "as_of"] > since)
                        for name, rows in spine.rows(data, last).items()
                    }
                )
                spine.close(data)
            compare(result, *found)
            emergencies = [ring for ring in phone.rings if ring.priority == 2]
            result.add("doubled alerts", len(emergencies) - len({ring.title for ring in emergencies}))


def _ticks(result: Result, config: Path, data: Path, world: Exchange, order: list[datetime]) -> None:
    with spine.surroundings(config, data):
        spine._stages()
        with computer_clock(lambda: world.now):
            for as_of in order:
                world.now = as_of + MINUTE
                small.attempt(result, partial(spine.tick, config, data, as_of), ())
                if data.name == "data":
                    small.attempt(result, partial(spine.send, config, data), ())
