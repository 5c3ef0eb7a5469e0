"""Years of history in one run, from recorded candles to exit states: `python -m benchmarks.years`.

A year of 20 markets with a grid each, the same with four times the markets, and with three times the years: how long,
how much memory, and which stage takes it, by the clock and in seconds of the processor, which say more where others use
the machine too. Each case is a process of its own that runs the `history` job once, as the
asset graph does, on Dagster's own storage in files. The candles are real ones of KuCoin, repeated to fill the markets
and the years; without `MM_SHARED_DATA` they are random walks, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.regime import PROJECT, Size, candles, origin_of_candles
from mm_dagster.bars import BAR, iso
from mm_dagster.definitions import defs
from mm_dagster.history.lake import Lake
from mm_dagster.tables.registry import TABLES

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
STAGES = ("candles", "regime_features", "regime_verdict", "grid_risk", "entry_assessment", "exit_state")
THE_REST = "the rest"
"""Dagster plans every day of every stage before the first begins, and notes what is between them and after."""
GRIDS = 20
RUNS_FOR = timedelta(days=28)
"""How long a grid has been running at the end: people re-centre theirs every few weeks."""


@dataclass(frozen=True)
class Case:
    """How much history.

    Attributes:
        markets: how many.
        days: how many.
        grids: how many of the markets have a grid.
        whole: whether the grids run from the first day on, and not only in the last weeks.
    """

    markets: int
    days: int
    grids: int = GRIDS
    whole: bool = True

    @property
    def name(self) -> str:
        return f"{self.markets} markets, {self.days // 365} y"


CASES = (Case(20, 365), Case(80, 365, grids=80), Case(20, 1095))


def configure(folder: Path, case: Case) -> Size:
    """Recorded markets below the folder, and a wide grid on each of the first ones."""
    size = Size(markets=case.markets, days=case.days, repetitions=0, tails=0)
    symbols = []
    for frame in candles(size):
        symbol = str(frame["symbol"][0])
        symbols.append(symbol)
        (folder / "candles" / symbol).mkdir(parents=True)
        frame.drop("symbol").write_parquet(folder / "candles" / symbol / "15m.parquet")
    configuration = folder / "configuration"
    (configuration / "grids").mkdir(parents=True)
    venue = {"kind": "recorded", "path": str(folder / "candles")}
    markets = {"venues": {"main": venue}, "markets": [{"symbol": symbol, "venue": "main"} for symbol in symbols]}
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    begun = size.span.start + timedelta(days=30) if case.whole else size.span.end - RUNS_FOR
    for symbol in symbols[: case.grids]:
        grid = {
            "id": symbol.lower(), "symbol": symbol, "activated_at": iso(begun), "lower": 1e-4, "upper": 1e6,
            "levels": 20, "spacing": "geometric", "stop": 1e-5, "capital": 1000,
        }  # fmt: skip
        (configuration / "grids" / f"{symbol}.yaml").write_text(yaml.safe_dump(grid))
    return size


def environment(folder: Path) -> dict[str, str]:
    """Where the program finds the case."""
    return {
        "MM_CONFIG_DIR": str(folder / "configuration"),
        "MM_DATA_DIR": str(folder / "data"),
        "MM_DAGSTER_DIR": str(folder / "data" / "dagster"),
        "DAGSTER_HOME": str(PROJECT),
    }


class Samples:
    """What this process has used of the processor, at many moments: Dagster tells only by the clock when a step was."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._used: list[float] = []
        self._stopped = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Samples:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._sampler.join()

    def _sample(self) -> None:
        while True:
            self._times.append(time.time())
            self._used.append(time.process_time())
            if self._stopped.wait(0.05):
                return

    def between(self, start: float, end: float) -> float:
        """Seconds of the processor, all threads together, between two times since the epoch."""
        return float(np.diff(np.interp([start, end], self._times, self._used)).item())


def fill(folder: Path, case: Case) -> dict[str, object]:
    """The whole history in one run; what it took."""
    size = configure(folder, case)
    os.environ |= environment(folder)
    (folder / "data" / "dagster").mkdir(parents=True)
    tags = {
        "dagster/asset_partition_range_start": f"{size.span.start:%Y-%m-%d}",
        "dagster/asset_partition_range_end": f"{size.span.end - BAR:%Y-%m-%d}",
    }
    job = defs().resolve_job_def("history")
    with dg.DagsterInstance.get() as instance:
        with Samples() as samples:
            started = time.time()
            result = job.execute_in_process(instance=instance, run_config=QUIET, tags=tags)
            ended = time.time()
        steps = instance.get_run_step_stats(result.run_id)
    seconds, used = ended - started, samples.between(started, ended)
    stages = {}
    for one in steps:
        assert one.start_time is not None
        assert one.end_time is not None
        stages[one.step_key] = (one.end_time - one.start_time, samples.between(one.start_time, one.end_time))
    rest = (seconds - sum(one for one, _ in stages.values()), used - sum(one for _, one in stages.values()))
    lake = Lake(folder / "data" / "history")
    rows = {table: int(lake.sql(f"SELECT count(*) FROM {table}").item()) for table in TABLES}
    return {
        "seconds": seconds,
        "processor": used,
        "stages": stages | {THE_REST: rest},
        "rows": sum(rows.values()),
        "bars": rows["candles"],
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "lake": sum(path.stat().st_size for path in (folder / "data" / "history").rglob("*") if path.is_file()) / 1e6,
    }


def measured(case: Case) -> dict[str, object]:
    """The case in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given = json.dumps([case.markets, case.days, case.grids, case.whole])
        command = [sys.executable, "-m", "benchmarks.years", "--case", given, "--folder", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PROJECT)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--case", help=argparse.SUPPRESS)
    arguments.add_argument("--folder", help=argparse.SUPPRESS)
    arguments.add_argument("--quick", action="store_true", help="sixty days of 4 markets, with the same ratios")
    given = arguments.parse_args()
    if given.case:
        print(json.dumps(fill(Path(given.folder), Case(*json.loads(given.case)))))
        return
    cases = (Case(4, 60, 4), Case(16, 60, 16), Case(4, 180, 4)) if given.quick else CASES
    found = [measured(case) for case in cases]
    first = found[0]
    size = Size(markets=cases[0].markets, days=cases[0].days, repetitions=0, tails=0)
    table = Table(title=f"From recorded candles to exit states in one run ({origin_of_candles(size)})")
    table.add_column("")
    for case in cases:
        table.add_column(f"{case.markets} markets, {case.grids} grids, {case.days} days", justify="right")

    def row(name: str, texts: list[str]) -> None:
        table.add_row(name, *texts)

    row("seconds", [f"{one['seconds']:.0f}" for one in found])
    row("times the first", [f"{one['seconds'] / first['seconds']:.2f}" for one in found])  # type: ignore[operator]
    row("seconds of the processor", [f"{one['processor']:.0f}" for one in found])
    row("times the first", [f"{one['processor'] / first['processor']:.2f}" for one in found])  # type: ignore[operator]
    row("rows written", [f"{one['rows']:,}" for one in found])
    row("microseconds a bar", [f"{1e6 * one['seconds'] / one['bars']:.0f}" for one in found])  # type: ignore[operator]
    row("peak MiB", [f"{one['megabytes']:.0f}" for one in found])
    row("lake, MB", [f"{one['lake']:.0f}" for one in found])
    for stage in (*STAGES, THE_REST):
        shares = []
        for one in found:
            stages: dict[str, tuple[float, float]] = one["stages"]  # type: ignore[assignment]
            seconds, used = stages[stage]
            shares.append(f"{seconds:.1f} s, {seconds / one['seconds']:.0%}; processor {used:.1f} s")  # type: ignore[operator]
        row(stage, shares)
    Console(width=120 if not sys.stdout.isatty() else None).print(table)


if __name__ == "__main__":
    main()
