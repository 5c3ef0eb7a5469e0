"""A long row of ticks in one process: memory, open files, threads and files on the disk stay bounded.

MM_SOAK_MINUTES says how long it runs; without it a minute, and six hours of ticks at least, which finds what leaks
fast. Each simulated day ends with the nightly job. The clock is given to each tick; nothing waits for it.

`make up` gives each tick a process of its own; one process for all of them is the harder test.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from mm_dagster.bars import BAR, iso
from mm_dagster.config.history import HistoryConfig
from mm_dagster.definitions import defs
from mm_dagster.defs.internals.runs import tidy
from mm_dagster.defs.partitions import partition_of
from mm_dagster.pipeline.project import Project

MINUTES = float(os.environ.get("MM_SOAK_MINUTES", "1"))
SIX_HOURS = 24
"""Ticks; there are never fewer, however short the time."""
FIRST = datetime(2026, 6, 27, tzinfo=UTC)
WARM_UP_TICKS = 80
"""They load what is loaded once (kernels, fonts, caches of Dagster), and fill the pools of the allocators; a third of
the ticks in a shorter run."""
COMPARED_TICKS = 8
"""Once warm, and at the end; the least memory of them counts, between two connections of the lake."""
MEGABYTES = 20.0
"""Of memory, by which a warm process may grow. The lake's connections gather some 8 before others take their place,
and what the allocators of DuckDB and polars keep of freed memory comes and goes by 10."""
KILOBYTES_A_TICK = 20.0
"""What may stay of each tick for good. Dagster keeps some 70 small objects of the two runs."""
LAKE_FILES_A_DAY = 20
"""What one more night may add to the lake: a file or two for each table, more in a new month."""
DAGSTER_FILES_A_DAY = 8
"""The newest run of the day and its captured output."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Footprint:
    """What a process holds after a tick: MB of memory, open files and sockets, threads, children, files by folder."""

    tick: int
    megabytes: float
    handles: int
    threads: int
    children: int
    lake_files: int
    mirror_files: int
    dagster_files: int
    seconds: float


def footprint(tick: int, data: Path, seconds: float) -> Footprint:
    gc.collect()
    with suppress(OSError, AttributeError):
        # The program holds on to freed memory on purpose (regime/features.py). What is counted is what is in use.
        ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    return Footprint(
        tick,
        process.memory_info().rss / 2**20,
        process.num_fds(),
        process.num_threads(),
        len(process.children(recursive=True)),
        *(sum(path.is_file() for path in (data / part).rglob("*")) for part in ("history", "mirror", "dagster")),
        seconds,
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three simulated markets with a grid each, and an instance that keeps its storage on the disk."""
    configuration = tmp_path / "configuration"
    (configuration / "grids").mkdir(parents=True)
    symbols = ["ETH-USDT", "SOL-USDT", "BTC-USDT"]
    markets = {
        "venues": {"main": {"kind": "simulated"}},
        "markets": [{"symbol": symbol, "venue": "main"} for symbol in symbols],
    }
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    bounds = ((2550, 2820, 2480), (160, 200, 150), (48000, 60000, 46000))
    for symbol, (lower, upper, stop) in zip(symbols, bounds, strict=True):
        grid = {
            "id": symbol[:3].lower(), "symbol": symbol, "activated_at": "2026-06-26", "lower": lower, "upper": upper,
            "levels": 12, "stop": stop, "capital": 1000,
        }  # fmt: skip
        (configuration / "grids" / f"{symbol}.yaml").write_text(yaml.safe_dump(grid))
    monkeypatch.setenv("MM_CONFIG_DIR", str(configuration))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def one_tick(everything: dg.Definitions, instance: dg.DagsterInstance, as_of: datetime) -> None:
    """A tick, and the alerts that are then due, as the daemon would run them."""
    turn = {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}, **QUIET}
    for job, arguments in (("tick", {"partition_key": partition_of(as_of)}), ("send_alerts", {})):
        definition = everything.resolve_job_def(job)
        assert definition.execute_in_process(instance=instance, run_config=turn, **arguments).success


@pytest.mark.long
def test_ticks_leave_nothing_behind(project: Path, record_property: pytest.RecordProperty) -> None:
    seen: list[Footprint] = []
    nights: list[Footprint] = []
    (project / "dagster").mkdir(parents=True)
    everything = defs()
    as_of, deadline = FIRST, time.monotonic() + 60 * MINUTES
    with dg.DagsterInstance.local_temp(str(project / "dagster")) as instance:
        while time.monotonic() < deadline or len(seen) < SIX_HOURS:
            as_of += BAR
            began = time.perf_counter()
            one_tick(everything, instance, as_of)
            seen.append(footprint(len(seen), project, time.perf_counter() - began))
            if as_of.hour == as_of.minute == 0:
                Project.here().lake.maintain(HistoryConfig().keep_snapshots_days)
                # All that was written a moment ago is a day old.
                tidy(instance, HistoryConfig(), datetime.now(UTC) + timedelta(days=1, hours=1))
                nights.append(footprint(len(seen), project, 0.0))
    warm = seen[min(WARM_UP_TICKS, len(seen) // 3) :]
    first, last = warm[:COMPARED_TICKS], warm[-COMPARED_TICKS:]
    grown = min(one.megabytes for one in last) - min(one.megabytes for one in first)
    record_property("footprints", json.dumps([asdict(one) for one in seen]))
    said = f"{len(seen)} ticks, {grown:+.1f} MB since {first[0]}, now {last[-1]}; nights: {nights}"
    print(said)
    assert grown < MEGABYTES + KILOBYTES_A_TICK / 1024 * (last[-1].tick - first[0].tick), said
    assert max(one.handles for one in last) <= max(one.handles for one in first), said
    # Pools of threads start one when they first need it, up to one for each core.
    pools = os.cpu_count() or 1
    assert max(one.threads for one in last) <= max(one.threads for one in first) + pools, said
    assert all(one.children == 0 for one in warm), said
    for before, after in itertools.pairwise(nights):
        assert after.lake_files <= before.lake_files + LAKE_FILES_A_DAY, said
        assert after.dagster_files <= before.dagster_files + DAGSTER_FILES_A_DAY, said
