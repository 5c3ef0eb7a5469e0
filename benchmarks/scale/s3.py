"""The lake in object storage: the ten queries beside a local lake with the same files, and what faults do to it.

The storage is moto, which checks signatures, in a process of its own, behind a proxy that makes each request take 30 ms
longer; no real Amazon S3 was seen. Both lakes hold the same bytes: SYNTHETIC rows of 20 markets over three years, see
benchmarks/queries.py. A writer beside each commits a tick once a second. Each question is asked in turn of both, so
that what else the machine does meets both; the first time on a connection, which fetches, stands for itself.

The trial does harm to one request in ten of a writer, a reader and an upkeep, and counts the rows in the end:

    python -m benchmarks.scale.s3 --quick
    python -m benchmarks.scale.s3 --faults 1000      # the trial alone, until so many faults were done
    python -m benchmarks.scale.s3 --lake FOLDER      # keeps the synthetic lake for the next time
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing as mp
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.queries import MARKETS, YEARS, build, write_ticks
from mm_dagster.bars import Span
from mm_dagster.history import marker
from mm_dagster.history.lake import Commit, Lake, LakeError
from mm_dagster.history.places import Bucket, Folder
from mm_dagster.history.questions import QUESTIONS
from mm_dagster_tests.history import s3
from mm_dagster_tests.history.test_lake import span, verdicts

DELAY_SECONDS = 0.03
REPEATS = 20
TARGET = 3.0
FAULTS = 100
SHARE = 0.1
BARS = 60
"""Of a write of the trial: more than stay in the catalogue, so that each writes a file."""
_COMMIT = Commit("benchmark", "s3", "a trial")


@dataclass(frozen=True)
class Server:
    """A storage in another process, for as long as it runs."""

    endpoint: str
    key: str
    secret: str

    def bucket(self, prefix: str) -> Bucket:
        return Bucket(f"s3://{s3.BUCKET}/{prefix}", self.key, self.secret, endpoint=self.endpoint, region=s3.REGION)


@contextmanager
def served(delay: float) -> Iterator[Server]:
    """The storage and its proxy, which take no turn of this process' interpreter."""
    spawn = mp.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there, delay), daemon=True)
    process.start()
    try:
        yield Server(*here.recv())
    finally:
        here.send(None)
        process.join(10)


def _serve(end: Any, delay: float) -> None:
    with s3.running() as storage:
        storage.proxy.delay = delay
        end.send((storage.proxy.endpoint, *storage.keys["writer"]))
        end.recv()


def mirror(folder: Path, place: Bucket, target: Path) -> None:
    """The same lake with its files in a bucket: the same bytes, and a catalogue of its own in an empty folder."""
    here = Folder(folder)
    for file in marker.parquet_files(here):
        place.put(folder / file.name, file.name)
    shutil.copyfile(folder / "catalog.sqlite", target / "catalog.sqlite")
    place.write(marker.NAME, here.read(marker.NAME) or b"")


@contextmanager
def _writing(folder: Path, place: Bucket | None, markets: list[str]) -> Iterator[None]:
    """Another process commits a tick a second to a lake meanwhile."""
    spawn = mp.get_context("spawn")
    begun, ended, ticks = spawn.Event(), spawn.Event(), spawn.Value("i", 0)
    writer = spawn.Process(target=write_ticks, args=(folder, markets, begun, ended, ticks, place), daemon=True)
    writer.start()
    try:
        if not begun.wait(180):
            raise SystemExit("the writer did not commit a tick within three minutes")
        yield
    finally:
        ended.set()
        writer.join()


def ask(local: Lake, remote: Lake) -> list[tuple[str, tuple[float, float], list[tuple[float, float]]]]:
    """Of each question the milliseconds of its first time and of each later one, local and in object storage."""
    taken = []
    for question in QUESTIONS:
        pairs = []
        for number in range(REPEATS + 1):
            pair = {}
            for lake in (local, remote) if number % 2 else (remote, local):
                started = time.perf_counter()
                lake.sql(question.query)
                pair[lake] = (time.perf_counter() - started) * 1000
            pairs.append((pair[local], pair[remote]))
        taken.append((question.asked, pairs[0], pairs[1:]))
    return taken


def questions(console: Console, folder: Path, markets: list[str], years: Span) -> float:
    """Prints how long the ten queries take on both.

    Returns:
        The ratio of the medians, all questions together.
    """
    if not (folder / "history").exists():
        started = time.perf_counter()
        build(folder / "history", markets, years)
        console.print(f"the synthetic lake took {time.perf_counter() - started:.0f} s to build")
    Lake(folder / "history").close()
    with tempfile.TemporaryDirectory() as temporary, served(DELAY_SECONDS) as server:
        place, local, remote = server.bucket("queries"), Path(temporary) / "local", Path(temporary) / "remote"
        remote.mkdir()
        mirror(folder / "history", place, remote)
        shutil.copytree(folder / "history", local)
        with _writing(local, None, markets), _writing(remote, place, markets):
            taken = ask(Lake(local), Lake(remote, place=place))
    table = Table(
        title=f"{len(markets)} markets, {years} (SYNTHETIC), 30 ms a request; milliseconds", title_justify="left"
    )
    for name in ("question", "first: local", "S3", "later: local", "S3", "ratio"):
        table.add_column(name, justify="left" if name == "question" else "right")
    sums = [0.0, 0.0]
    for asked, first, later in taken:
        medians = [statistics.median(pair[side] for pair in later) for side in (0, 1)]
        sums = [total + one for total, one in zip(sums, medians, strict=True)]
        table.add_row(asked, *(f"{one:.0f}" for one in (*first, *medians)), f"{medians[1] / medians[0]:.2f}")
    table.add_row("all", "", "", *(f"{one:.0f}" for one in sums), f"{sums[1] / sums[0]:.2f}")
    console.print(table)
    console.print(f"median of {REPEATS} each, in turns; a writer beside each; target: at most {TARGET} times")
    return sums[1] / sums[0]


@dataclass
class Trial:
    """What faults did.

    Attributes:
        harms: how often each was done.
        told: how often what was done, and how often it was refused in one line.
        lost: rows that were committed and are not there, or are others.
        doubled: rows that are there twice, at any time that somebody looked.
    """

    harms: Counter[str]
    told: Counter[str]
    lost: int = 0
    doubled: int = 0


def trial(faults: int, seed: int) -> Trial:
    """Writes, replaces, reads and keeps up a lake until so many faults were done; then compares every row."""
    with tempfile.TemporaryDirectory() as temporary, s3.running() as storage:
        key, secret = storage.keys["writer"]
        place = Bucket(
            f"s3://{s3.BUCKET}/trial", key, secret, endpoint=storage.proxy.endpoint, region=s3.REGION, retries=4,
            wait=0.05, timeout=2,
        )  # fmt: skip
        folder, expected = Path(temporary) / "history", dict[int, pl.DataFrame]()
        lake = Lake(folder, place=place)
        done = Trial(storage.proxy.done, Counter())
        storage.proxy.harm = s3.seldom(SHARE, seed)
        ended = threading.Event()
        reader = threading.Thread(target=_look, args=(folder, place, ended, done))
        reader.start()
        for number in itertools.count():
            if sum(storage.proxy.done.values()) >= faults:
                break
            _write(lake, number, expected, done)
            if number % 8 == 7:
                _count("upkeep", done, lambda: lake.maintain(keep_days=30))
        ended.set()
        reader.join()
        storage.proxy.harm = lambda _: None
        lake.close()
        found = Lake(folder, place=place).read("regime_verdict")
        wanted = pl.concat([expected[number] for number in sorted(expected)])
        done.doubled += found.height - found.unique(["symbol", "as_of"]).height
        done.lost = wanted.height - wanted.join(found, on=wanted.columns, how="semi", nulls_equal=True).height
        done.lost += abs(found.height - wanted.height)
        return done


def _write(lake: Lake, number: int, expected: dict[int, pl.DataFrame], done: Trial) -> None:
    """New bars, or every third time others in the place of those of before."""
    place = number // 2 if number % 3 == 2 else number
    rows = verdicts(place * BARS, BARS, seed=number)

    def write() -> None:
        lake.write("regime_verdict", rows, span=span(place * BARS, BARS), commit=_COMMIT)
        expected[place] = rows

    _count("write", done, write)


def _look(folder: Path, place: Bucket, ended: threading.Event, done: Trial) -> None:
    """Reads all the while: whatever is answered holds no row twice."""
    query = "SELECT count(*) - count(DISTINCT (symbol, as_of)) FROM regime_verdict"

    def read() -> None:
        # A new one each time: what a connection has fetched it does not ask for again.
        with closing(Lake(folder, place=place)) as lake:
            done.doubled += int(lake.sql(query).item())

    while not ended.wait(0.2):
        _count("read", done, read)


def _count(what: str, done: Trial, work: Callable[[], object]) -> None:
    try:
        work()
        done.told[what] += 1
    except LakeError:
        done.told[f"{what} refused"] += 1


def faults(console: Console, wanted: int, seed: int) -> int:
    """Prints what faults did.

    Returns:
        How many rows are lost or doubled.
    """
    started = time.perf_counter()
    done = trial(wanted, seed)
    console.print(
        f"{sum(done.harms.values())} faults in {time.perf_counter() - started:.0f} s, seed {seed}: {dict(done.harms)}"
    )
    console.print(f"what came of it: {dict(done.told)}; rows lost: {done.lost}, doubled: {done.doubled}")
    return done.lost + done.doubled


def main() -> int:
    """Prints both.

    Returns:
        1 where a target is missed.
    """
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="a fraction of everything")
    arguments.add_argument("--faults", type=int, help="the trial alone, with so many faults")
    arguments.add_argument("--seed", type=int, default=1, help="of the faults")
    arguments.add_argument("--lake", type=Path, help="where the synthetic lake is kept")
    asked = arguments.parse_args()
    console = Console(width=100 if not sys.stdout.isatty() else None)
    missed = faults(console, asked.faults or (20 if asked.quick else FAULTS), asked.seed) > 0
    if asked.faults is None:
        markets, years = (
            (MARKETS[:3], Span(datetime(2026, 4, 1, tzinfo=UTC), YEARS.end)) if asked.quick else (MARKETS, YEARS)
        )
        with tempfile.TemporaryDirectory() as temporary:
            missed |= questions(console, asked.lake or Path(temporary), markets, years) > TARGET
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
