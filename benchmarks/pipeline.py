"""What a tick and a backfill cost, stage by stage, on the simulated market: `make bench`.

Each figure is the median of several runs in one process, after one that is not counted (kernels are loaded, caches
filled). The run is Dagster's own, in process, with its events kept in memory.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import yaml
from rich.console import Console
from rich.table import Table

from mm_dagster.bars import BAR, iso
from mm_dagster.definitions import defs
from mm_dagster.defs.partitions import partition_of
from mm_dagster.exit import ladder
from mm_dagster.grid import entry, risk
from mm_dagster.regime import features, verdict

MARKETS = 20
START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 31
TICKS = 5
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def configure(folder: Path) -> None:
    """Twenty simulated markets with one wide grid each."""
    symbols = [f"C{number:02d}-USDT" for number in range(MARKETS)]
    (folder / "grids").mkdir(parents=True)
    markets = [{"symbol": symbol, "venue": "main"} for symbol in symbols]
    (folder / "markets.yaml").write_text(
        yaml.safe_dump({"venues": {"main": {"kind": "simulated"}}, "markets": markets})
    )
    for symbol in symbols:
        grid = {
            "id": symbol.lower(), "symbol": symbol, "activated_at": iso(START + timedelta(days=24)),
            "lower": 1e-4, "upper": 1e6, "levels": 20, "spacing": "geometric", "stop": 1e-5, "capital": 1000,
        }  # fmt: skip
        (folder / "grids" / f"{symbol}.yaml").write_text(yaml.safe_dump(grid))


COMPUTING = ((features, "compute"), (verdict, "compute"), (risk, "compute"), (entry, "assess"), (ladder, "compute"))
"""Everything that is computed; the rest of a stage reads, checks, writes and tells."""


@contextmanager
def timed_computing(calls: Sequence[tuple[Any, str]] = COMPUTING) -> Iterator[list[float]]:
    """Collects, while it is open, the seconds of each of these calls."""
    seconds: list[float] = []

    def timed(compute: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            found = compute(*arguments, **named)
            seconds.append(time.perf_counter() - started)
            return found

        return call

    with ExitStack() as patches:
        for module, name in calls:
            patches.enter_context(patch.object(module, name, timed(getattr(module, name))))
        yield seconds


def run(job: str, instance: dg.DagsterInstance, **arguments: object) -> dict[str, float]:
    """Seconds of each step and of the whole run."""
    run_config = {**QUIET, **arguments.pop("run_config", {})}  # type: ignore[dict-item]
    started = time.perf_counter()
    with timed_computing() as computing:
        result = defs().resolve_job_def(job).execute_in_process(instance=instance, run_config=run_config, **arguments)  # type: ignore[arg-type]
    whole = time.perf_counter() - started
    steps = {stats.step_key: stats.end_time - stats.start_time for stats in instance.get_run_step_stats(result.run_id)}
    return {**steps, "whole run": whole, "of which computing": sum(computing)}


def tick(as_of: datetime, instance: dg.DagsterInstance) -> dict[str, float]:
    """Seconds of each step of one tick."""
    config = {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}}
    return run("tick", instance, partition_key=partition_of(as_of), run_config=config)


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder) / "configuration")
        os.environ |= {"MM_CONFIG_DIR": f"{folder}/configuration", "MM_DATA_DIR": f"{folder}/data"}
        instance = dg.DagsterInstance.ephemeral()
        end = START + timedelta(days=DAYS)
        tags = {
            "dagster/asset_partition_range_start": f"{START:%Y-%m-%d}",
            "dagster/asset_partition_range_end": f"{end - BAR:%Y-%m-%d}",
        }
        filled = run("history", instance, tags=tags)
        ticks = [tick(end + step * BAR, instance) for step in range(1, TICKS + 2)][1:]
    table = Table(title=f"{MARKETS} simulated markets, {MARKETS} grids; seconds")
    for name in ("stage", f"backfill of {DAYS} days", f"tick, median of {TICKS}", "slowest tick"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in ticks[0]:
        times = [one[stage] for one in ticks]
        table.add_row(
            stage,
            f"{filled[stage]:.2f}" if stage in filled else "",
            f"{statistics.median(times):.2f}",
            f"{max(times):.2f}",
        )
    Console(width=100 if not sys.stdout.isatty() else None).print(table)


if __name__ == "__main__":
    main()
