"""Runs the faults, prints what came of them, and writes docs/reliability.md: `make test-faults`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mm_dagster_tests.faults.document import FORGIVEN, accepted, document
from mm_dagster_tests.faults.judge import MEASURES, Result

DEADLINE_SECONDS = 900.0
"""For one task, which may be a dozen trials."""


def tiers() -> dict[str, Any]:
    """The modules that plan and run trials, the longest first."""
    from mm_dagster_tests.faults import channels, deaths, edits, others, storage, venue

    return {
        "venue": venue,
        "deaths": deaths,
        "storage": storage,
        "others": others,
        "channels": channels,
        "edits": edits,
    }


def plan(rounds: int, only: Sequence[str]) -> list[tuple[str, Any]]:
    """Every task of every tier."""
    found: list[tuple[str, Any]] = []
    for name, tier in tiers().items():
        if not only or name in only:
            made = tier.batches(14, rounds) if name == "venue" else tier.plan(rounds)
            found += [(name, one) for one in made]
    # Mixed, so that a run that is cut short has tried some of everything.
    random.Random(14).shuffle(found)
    return found


def one(tier: str, task: Any) -> list[Result]:
    """One task, here."""
    found: list[Result] = tiers()[tier].run(task)
    return found


def _work(line: Connection) -> None:
    """A worker: tasks come in, results go out. What it prints is nobody's concern."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    while True:
        tier, task = line.recv()
        try:
            line.send(one(tier, task))
        except Exception as error:
            failed = Result(f"{tier}: the trial itself", repr(task)[:200])
            failed.add("not run", 1, f"{type(error).__name__}: {str(error)[:300]}")
            line.send([failed])


@dataclass
class _Worker:
    process: Any
    line: Connection
    task: tuple[str, Any] | None = None
    began: float = 0.0


def _hire() -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,))
    process.start()
    theirs.close()
    return _Worker(process, ours)


def run_all(tasks: list[tuple[str, Any]], at_once: int, until: float) -> tuple[list[Result], int]:
    """Runs the tasks, some at once; one that dies or hangs is a result, too.

    Returns:
        The results, and how many tasks were left when the time was over.
    """
    waiting, results = list(tasks), []
    workers = [_hire() for _ in range(at_once)]
    shown = time.monotonic()
    while workers:
        for worker in list(workers):
            if worker.task is None:
                if not waiting or time.monotonic() > until:
                    worker.process.terminate()
                    workers.remove(worker)
                    continue
                worker.task, worker.began = waiting.pop(0), time.monotonic()
                worker.line.send(worker.task)
        ready = wait([worker.line for worker in workers], timeout=1.0)
        for index, worker in enumerate(workers):
            late = time.monotonic() - worker.began > DEADLINE_SECONDS
            if worker.line not in ready and not late:
                continue
            try:
                if late and worker.line not in ready:
                    raise EOFError("it hangs")
                came = worker.line.recv()
                results += came
                worker.task = None
                for failed in failures(came):
                    print(_line(failed), file=sys.stderr, flush=True)
            except (EOFError, OSError) as error:
                assert worker.task is not None
                tier, task = worker.task
                died = Result(f"{tier}: {getattr(task, 'what', 'a tick')}", repr(task)[:300])
                died.add("not foreseen", 1, f"the process died ({worker.process.exitcode}, {error or 'no word'})")
                results.append(died)
                worker.process.kill()
                workers[index] = _hire()
        if time.monotonic() - shown > 20:
            shown = time.monotonic()
            print(f"{len(results)} trials, {len(waiting)} tasks to go", file=sys.stderr, flush=True)
    return results, len(waiting)


def table(results: Sequence[Result]) -> str:
    """One line a kind, as Markdown."""
    by_kind: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_kind[result.kind].append(result)
    columns = [*MEASURES, *FORGIVEN]
    lines = ["| fault | trials | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) + 1)]
    total: Counter[str] = Counter()
    for kind in sorted(by_kind):
        counts: Counter[str] = Counter()
        for result in by_kind[kind]:
            counts.update(result.counts)
        total.update(counts)
        lines.append(f"| {kind} | {len(by_kind[kind])} | " + " | ".join(str(counts[name]) for name in columns) + " |")
    lines.append(f"| **all** | **{len(results)}** | " + " | ".join(f"**{total[name]}**" for name in columns) + " |")
    return "\n".join(lines)


def failures(results: Sequence[Result]) -> list[Result]:
    """Those that lost, doubled, invented or changed something."""
    return [one for one in results if any(name not in FORGIVEN for name in +(one.counts - accepted(one)))]


def _line(result: Result) -> str:
    return f"{result.kind} [{result.seed}]: {dict(result.counts)}; {'; '.join(result.notes[:3])}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="how often each kind is tried with other seeds")
    parser.add_argument("--at-once", type=int, default=2, help="processes")
    parser.add_argument("--minutes", type=float, default=20.0, help="no task begins later")
    parser.add_argument("--only", nargs="*", default=[], help="tiers: venue, deaths, storage, others, channels, edits")
    parser.add_argument("--kind", default="", help="only tasks whose description holds this")
    parser.add_argument("--out", type=Path, help="write the document, too")
    chosen = parser.parse_args()
    store = tempfile.mkdtemp(prefix="mm-faults-store-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    os.environ.setdefault("MM_FAULTS_STORE", store)
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    began = time.monotonic()
    try:
        tasks = [task for task in plan(chosen.rounds, chosen.only) if chosen.kind in repr(task)]
        results, left = run_all(tasks, chosen.at_once, began + 60 * chosen.minutes)
    finally:
        shutil.rmtree(store, ignore_errors=True)
    minutes = (time.monotonic() - began) / 60
    print(table(results))
    failed = failures(results)
    for result in failed:
        print(_line(result))
    print(f"{len(results)} trials in {minutes:.1f} minutes; {len(failed)} failed, {left} tasks were not begun")
    if chosen.out:
        chosen.out.write_text(document(results, minutes, chosen.at_once, left, table(results)))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
