"""Many workers: 200 markets x 90 days by one process, then by 1, 2 and 4 workers of Celery, each the same bits.

A PostgreSQL in a temporary folder keeps Dagster's storage and the lake's catalogue, Redis is the broker, each worker is
a process with one place, and `mm backfill --queue` asks. What is said of each:

    same bits    a hash over all tables that have a row for every bar, without what only a live run knows
    waited       seconds that the runs waited for locks, as a share of the seconds that they worked: at most 5 %
    processor    seconds of the processor a market, of the runs alone; the one process has no Dagster around it

It is no measure of speed: two cores give more than one worker nothing, and all of it, the server too, shares them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import polars as pl

from mm_dagster.bars import Span
from mm_dagster.cluster.launcher import PROCESSOR_TAG, SECONDS_TAG, WAITED_TAG
from mm_dagster.history.lake import Lake
from mm_dagster.tables import registry
from mm_dagster_tests import postgres
from mm_dagster_tests.cluster.hosts import backfill, configure, running

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_ONE = """
import sys
from datetime import datetime
from mm_dagster.bars import Span
from mm_dagster.pipeline import ticks
from mm_dagster.pipeline.project import Project
configuration, data, first, last = sys.argv[1:]
for month in Span(datetime.fromisoformat(first), datetime.fromisoformat(last)).months():
    ticks.run_days(Project(configuration, data), month)
"""


@dataclass(frozen=True)
class Made:
    """What a backfill gave, and what it took.

    Attributes:
        by: who.
        bits: a hash of all rows.
        rows: how many.
        seconds: of the clock.
        processor: seconds of the processor that the work took.
        waited: share of the time of the runs; None: there were none.
        runs: how many.
    """

    by: str
    bits: str
    rows: int
    seconds: float
    processor: float
    waited: float | None = None
    runs: int = 1


def bits_of(lake: Lake, span: Span | None = None) -> tuple[str, int]:
    """A hash over all tables with a row for every bar, and how many rows they have."""
    found, rows = hashlib.sha256(), 0
    for table in registry.EVERY_BAR:
        every = lake.read(table, span=span)
        kept = [name for name in every.columns if name not in registry.LIVE_ONLY]
        frame = every.sort(registry.TABLES[table].primary_key()).select(kept)
        found.update(table.encode())
        found.update(frame.write_ipc(None, compat_level=pl.CompatLevel.oldest()).getvalue())
        rows += frame.height
    return found.hexdigest()[:16], rows


def by_one(folder: Path, symbols: Sequence[str], days: Span) -> Made:
    """One process, without Dagster."""
    configuration = configure(folder, symbols)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    given = [str(configuration), str(folder / "data"), days.start.isoformat(), days.end.isoformat()]
    subprocess.run([sys.executable, "-c", _ONE, *given], check=True)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Made("one process", *bits_of(Lake(folder / "data" / "history")), seconds, processor)


def by_workers(folder: Path, server: postgres.Postgres, symbols: Sequence[str], days: Span, many: int) -> Made:
    """So many workers, with the same groups each time."""
    configuration = configure(folder, symbols, catalog={"url_env": "MM_CATALOG_URL"})
    limits = {"runs": {"max_concurrent_runs": many, "tag_concurrency_limits": []}}
    last = f"{days.end - timedelta(days=1):%Y-%m-%d}"
    with running(folder, server, configuration, workers=many, concurrency=limits) as hosts:
        began = time.monotonic()
        code, rows = backfill(hosts, f"{days.start:%Y-%m-%d}", last, -(-len(symbols) // 8), seconds=14_400)
        seconds = time.monotonic() - began
        if code:
            raise SystemExit(f"the backfill ended with {code}: {rows}; {(folder / 'mm.log').read_text()[-2000:]}")
        with patch.dict(os.environ, hosts.environment), dg.DagsterInstance.get() as instance:
            tags = [run.tags for run in instance.get_runs()]
        lake = Lake(folder / "data" / "history", hosts.environment["MM_CATALOG_URL"])
        bits = bits_of(lake)
        lake.close()

    def total(name: str) -> float:
        return sum(float(one[name]) for one in tags)

    share = total(WAITED_TAG) / total(SECONDS_TAG)
    return Made(f"{many} workers", *bits, seconds, total(PROCESSOR_TAG), share, len(tags))


def main() -> int:
    """Prints a line for each; 1 where bits differ or too long was waited."""
    # Whatever ends it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="20 markets x 10 days, 1 and 2 workers")
    quick = arguments.parse_args().quick
    symbols = [f"M{number:03d}-USDT" for number in range(20 if quick else 200)]
    days = Span(FIRST, FIRST + timedelta(days=10 if quick else 90))
    print(f"{len(symbols)} markets x {(days.end - days.start).days} days")
    print(f"{'by':<14} {'runs':>5} {'rows':>12} {'bits':>17} {'s':>8} {'processor s/market':>19} {'waited':>7}")
    made: list[Made] = []
    with tempfile.TemporaryDirectory(prefix="mm-workers-") as name, postgres.running() as server:
        folder = Path(name)
        steps: list[Any] = [lambda: by_one(folder / "one", symbols, days)]
        for many in (1, 2) if quick else (1, 2, 4):
            steps.append(lambda many=many: by_workers(folder / f"w{many}", server, symbols, days, many))
        for step in steps:
            one = step()
            made.append(one)
            waited = "" if one.waited is None else f"{one.waited:.1%}"
            print(
                f"{one.by:<14} {one.runs:>5} {one.rows:>12,} {one.bits:>17} {one.seconds:>8.0f} "
                f"{one.processor / len(symbols):>19.2f} {waited:>7}",
                flush=True,
            )
    same = len({one.bits for one in made}) == 1
    slow = [one.by for one in made if (one.waited or 0) > 0.05]
    print(f"the same bits: {'yes' if same else 'NO'}; waited more than 5 %: {', '.join(slow) or 'nobody'}")
    return int(not same or bool(slow))


if __name__ == "__main__":
    sys.exit(main())
