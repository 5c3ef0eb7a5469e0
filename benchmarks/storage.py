"""What a month leaves on the disk, with the nightly job: Dagster's storage and the lake, `make bench`.

Dagster's storage: real runs of the demo's configuration in a real instance, whose records are then multiplied, row by
row and file by file, with new run ids and times: 96 ticks a day, each other job as often as it runs, and the looks of
the sensors. What the real nightly job does runs on that every night. The runs are made in this process; one that the
daemon starts has a few more events of about 1 kB.

The lake: the rows of a real backfill of the demo, written again tick by tick as the assets write them (the last hour,
of which three quarter hours are the same), with the real upkeep every night; beside it, after each night, the same rows
written once, one file for each table and month, sorted by the key, by the same writer. Only some days are: the
23,000 commits of a whole month take an hour, and a day more does not raise the ratio, as the nights show.

    python -m benchmarks.storage [DAYS [DAYS_BY_TICK]]
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from rich.console import Console
from rich.table import Table

from mm_dagster.bars import BAR, Span, iso, midnight
from mm_dagster.config.history import HistoryConfig
from mm_dagster.definitions import defs
from mm_dagster.defs.internals.runs import tidy
from mm_dagster.defs.partitions import partition_of, range_tags
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.tables import registry

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo"
FIRST = date(2026, 6, 23)
"""All grids of the demo run by then, so that each tick has its pictures."""
TICKS_A_DAY = 96
OTHERS_A_DAY = {"send_alerts": 6, "proofs": 1, "audit": 1, "maintenance": 1}
LOOKS_A_DAY = {"receipts_are_open": 17_280, "alerts_are_due": 17_280, "a_run_failed": 2_880, "a_check_failed": 2_880}
"""How often each sensor looks and finds nothing: every 5, 5, 30 and 30 seconds."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
WRITTEN = ("candles", "regime_features", "regime_verdict", "grid_risk", "entry_assessment", "exit_state", "tick")
MB = 1e6
Swaps = list[tuple[str, str]]


class Storage:
    """A real instance in a folder, and the means to multiply what is in it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.instance = dg.DagsterInstance.local_temp(str(base))
        self._location = RegisteredCodeLocationOrigin("mm_dagster")

    @property
    def bytes(self) -> int:
        """Of every file, however small."""
        return sum(path.stat().st_size for path in self.base.rglob("*") if path.is_file())

    def shard(self, run_id: str) -> Path:
        return self.base / "history" / "runs" / f"{run_id}.db"

    def repeat(self, run_id: str, partition: str | None, day: date, moments: Sequence[datetime]) -> None:
        """Copies of a run, one at each moment, with that day as its partition."""
        names = {moment: str(uuid.uuid4()) for moment in moments}
        swaps = [(partition, f"{day:%Y-%m-%d}")] if partition else []
        index = self.base / "history" / "runs" / "index.db"
        for moment, new in names.items():
            shutil.copyfile(self.shard(run_id), self.shard(new))
            with closing(sqlite3.connect(self.shard(new))) as database, database:
                _rewrite(database, "event_logs", [(run_id, new), *swaps], moment)
            logs = self.base / run_id
            if logs.is_dir():
                shutil.copytree(logs, self.base / new)
        with closing(sqlite3.connect(index)) as database, database:
            for moment, new in names.items():
                _copy(database, "event_logs", run_id, [(run_id, new), *swaps], moment)
                _copy(database, "asset_check_executions", run_id, [(run_id, new), *swaps], moment)
        with closing(sqlite3.connect(self.base / "history" / "runs.db")) as database, database:
            for moment, new in names.items():
                _copy(database, "runs", run_id, [(run_id, new), *swaps], moment)
                _copy(database, "run_tags", run_id, [(run_id, new), *swaps], moment)

    def look(self, sensor: str, day: date, times: int) -> None:
        """As many looks of a sensor on a day that found nothing."""
        origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(self._location, "__repository__"), sensor)
        state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
        if not self.instance.get_instigator_state(state.instigator_origin_id, state.selector_id):
            self.instance.add_instigator_state(state)
        began = midnight(day)
        # One is written by Dagster itself, the others are copies of its row.
        self.instance.create_tick(
            TickData(
                state.instigator_origin_id, sensor, InstigatorType.SENSOR, TickStatus.SKIPPED, began.timestamp(),
                skip_reason="no emergency rings", selector_id=state.selector_id, end_timestamp=began.timestamp() + 1,
            )
        )  # fmt: skip
        with closing(sqlite3.connect(self.base / "schedules" / "schedules.db")) as database, database:
            columns = [name for _, name, *_ in database.execute("PRAGMA table_info(job_ticks)") if name != "id"]
            row = database.execute(f"SELECT {', '.join(columns)} FROM job_ticks ORDER BY id DESC LIMIT 1").fetchone()
            given = dict(zip(columns, row, strict=True))
            step = timedelta(days=1) / times
            rows = [{**given, "timestamp": _naive(began + number * step)} for number in range(1, times)]
            database.executemany(
                f"INSERT INTO job_ticks ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})",
                rows,
            )


def _naive(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S.%f}"


_TIMES = ("timestamp", "create_timestamp", "update_timestamp", "evaluation_event_timestamp")


def _columns(database: sqlite3.Connection, table: str, swaps: Swaps, moment: datetime) -> dict[str, str]:
    """What each column of a table becomes in a copy: other ids and times, the same length."""
    becomes = {}
    for _, name, kind, *_ in database.execute(f"PRAGMA table_info({table})"):
        becomes[name] = name
        if name in _TIMES:
            becomes[name] = f"'{_naive(moment)}'"
        elif kind.startswith(("VARCHAR", "TEXT")):
            for old, new in swaps:
                becomes[name] = f"replace({becomes[name]}, '{old}', '{new}')"
    del becomes["id"]
    return becomes


def _rewrite(database: sqlite3.Connection, table: str, swaps: Swaps, moment: datetime) -> None:
    becomes = _columns(database, table, swaps, moment)
    database.execute(f"UPDATE {table} SET {', '.join(f'{name} = {value}' for name, value in becomes.items())}")


def _copy(database: sqlite3.Connection, table: str, run_id: str, swaps: Swaps, moment: datetime) -> None:
    becomes = _columns(database, table, swaps, moment)
    database.execute(
        f"INSERT INTO {table} ({', '.join(becomes)}) SELECT {', '.join(becomes.values())} FROM {table} "
        f"WHERE run_id = '{run_id}' ORDER BY id"
    )


def dagster_month(base: Path, days: int, *, ticks_a_day: int = TICKS_A_DAY) -> list[tuple[int, int]]:
    """Bytes of Dagster's storage before and after each night."""
    storage = Storage(base)
    with tempfile.TemporaryDirectory() as data:
        os.environ |= {"MM_CONFIG_DIR": str(DEMO), "MM_DATA_DIR": data}
        as_of = midnight(FIRST) + timedelta(days=6, hours=17)
        given = [_run("tick", storage.instance, as_of + step * BAR) for step in range(2)]
        others = {job: _run(job, storage.instance) for job in OTHERS_A_DAY}
    # The simulated month lies in the past of the templates, which therefore stay; their own bytes are not counted.
    sizes = []
    for number in range(days):
        day = FIRST - timedelta(days=days - number)
        step = timedelta(days=1) / ticks_a_day
        moments = [midnight(day) + quarter * step for quarter in range(ticks_a_day)]
        for half, run_id in enumerate(given):
            storage.repeat(run_id, partition_of(as_of), day, moments[half::2])
        for job, run_id in others.items():
            storage.repeat(
                run_id, None, day, [midnight(day) + timedelta(hours=3 + n) for n in range(OTHERS_A_DAY[job])]
            )
        for sensor, times in LOOKS_A_DAY.items():
            storage.look(sensor, day, times)
        before = storage.bytes
        night = midnight(day) + timedelta(days=1, hours=3, minutes=8)
        tidy(storage.instance, HistoryConfig(), night)
        sizes.append((before, storage.bytes))
    return sizes


def _run(job: str, instance: dg.DagsterInstance, as_of: datetime | None = None) -> str:
    """One real run."""
    turn = {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}, **QUIET} if as_of else QUIET
    arguments = {"partition_key": partition_of(as_of), "tags": {"mm/as_of": iso(as_of)}} if as_of else {}
    definition = defs().resolve_job_def(job)
    return definition.execute_in_process(instance=instance, run_config=turn, **arguments).run_id  # type: ignore[arg-type]


@dataclass(frozen=True)
class Night:
    """What the lake is after a night.

    Attributes:
        stored: bytes of the Parquet files of each table.
        ideal: the same of ideal files with the same rows.
        catalogue: bytes of the catalogue.
        seconds: of the upkeep.
    """

    stored: dict[str, int]
    ideal: dict[str, int]
    catalogue: int
    seconds: float


def lake_nights(folder: Path, days: int) -> Iterator[Night]:
    """Days of ticks, each with the real upkeep at its end."""
    span = Span(midnight(FIRST), midnight(FIRST) + timedelta(days=days))
    rows = _rows_of_ticks(folder / "given", span)
    home = folder / "ticks" / "history"
    lake = Lake(home)
    for opened in span.open_times():
        as_of = opened + BAR
        newest, hour = Span(opened, as_of), Span(max(span.start, as_of - 4 * BAR), as_of)
        commit = Commit(str(uuid.uuid4()), "tick", iso(as_of))
        begun = _of(rows, newest)["tick"].with_columns(finished_at=None)
        lake.write("tick", begun, span=newest, commit=commit)
        for table, part in _of(rows, hour).items():
            lake.write(table, part, span=hour, commit=commit)
        if as_of == midnight(as_of.date()):
            began = time.perf_counter()
            lake.maintain(HistoryConfig().keep_snapshots_days)
            seconds = time.perf_counter() - began
            so_far = _of(rows, Span(span.start, as_of))
            for table, part in so_far.items():
                assert lake.read(table).equals(part), table
            ideal = ideal_files(so_far, folder / f"ideal {as_of:%Y-%m-%d}")
            yield Night(_parquet(home), ideal, (home / "catalog.sqlite").stat().st_size, seconds)


def _of(rows: dict[str, pl.DataFrame], span: Span) -> dict[str, pl.DataFrame]:
    """The rows of a span."""
    opened, closed = span.opens(), span.closes("as_of")
    return {
        table: whole.filter(opened if registry.time_column(table) == "open_time" else closed)
        for table, whole in rows.items()
    }


def _rows_of_ticks(folder: Path, span: Span) -> dict[str, pl.DataFrame]:
    """The rows of a real backfill of the demo, with what only ticks know: when they saw, and that they were."""
    os.environ |= {"MM_CONFIG_DIR": str(DEMO), "MM_DATA_DIR": str(folder)}
    job = defs().resolve_job_def("history")
    instance = dg.DagsterInstance.ephemeral()
    assert job.execute_in_process(instance=instance, run_config=QUIET, tags=range_tags(span)).success
    given = Lake(folder / "history")
    rows = {table: given.read(table, span=span) for table in WRITTEN}
    # Tens of milliseconds differ from tick to tick, and with them the last bits of a time.
    jitter = pl.duration(microseconds=pl.int_range(pl.len()) * 7_919 % 1_000_003)
    rows["candles"] = rows["candles"].with_columns(observed_at=pl.col("close_time") + pl.duration(seconds=64) + jitter)
    rows["exit_state"] = rows["exit_state"].with_columns(live_state=pl.col("state"))
    began = (span.open_times() + BAR).alias("as_of").to_frame()
    rows["tick"] = registry.conform(
        began.with_columns(
            started_at=pl.col("as_of") + pl.duration(seconds=62) + jitter,
            finished_at=pl.col("as_of") + pl.duration(seconds=66) + jitter,
            symbols_ok=pl.lit(sorted(rows["candles"]["symbol"].unique())),
            symbols_failed=pl.lit([], dtype=pl.List(pl.String)),
        ),
        "tick",
    )
    return rows


def ideal_files(rows: dict[str, pl.DataFrame], folder: Path) -> dict[str, int]:
    """Bytes of the same tables, each month written once into one file, sorted by its key, by the same writer."""
    lake = Lake(folder)
    for table, whole in rows.items():
        month = pl.col(str(registry.time_column(table))).dt.truncate("1mo")
        for _, part in whole.group_by(month, maintain_order=True):
            lake.upsert(table, part, commit=Commit("", table, ""))
    lake.maintain(1)
    for table in rows:
        key = registry.TABLES[table].primary_key()
        for path in (folder / "files" / "main" / table).rglob("*.parquet"):
            written = pl.read_parquet(path, columns=key, hive_partitioning=False)
            assert written.equals(written.sort(key)), path
    return _parquet(folder)


def _parquet(folder: Path) -> dict[str, int]:
    """Bytes of each table's Parquet files."""
    found: dict[str, int] = {}
    for path in (folder / "files" / "main").rglob("*.parquet"):
        table = path.relative_to(folder / "files" / "main").parts[0]
        found[table] = found.get(table, 0) + path.stat().st_size
    return found


def main() -> None:
    """Prints both tables."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    days_by_tick = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    console = Console(width=100 if not sys.stdout.isatty() else None)
    with tempfile.TemporaryDirectory() as folder:
        sizes = dagster_month(Path(folder), days)
    table = Table(title=f"Dagster's storage, {days} days of {TICKS_A_DAY} ticks, MB")
    for name in ("night", "before", "after the nightly job"):
        table.add_column(name, justify="right")
    for number in sorted({0, 1, days // 2, days - 1} & set(range(days))):
        table.add_row(str(number + 1), *(f"{size / MB:.1f}" for size in sizes[number]))
    console.print(table)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        nights = list(lake_nights(Path(folder), days_by_tick))
    seconds = time.perf_counter() - began
    shown = sorted({0, 1, 2, days_by_tick // 2, days_by_tick - 1} & set(range(days_by_tick)))
    table = Table(title=f"The lake, {days_by_tick} days of {TICKS_A_DAY} ticks: Parquet, times the ideal size")
    table.add_column("after night")
    for number in shown:
        table.add_column(str(number + 1), justify="right")
    for name in WRITTEN:
        table.add_row(name, *(f"{nights[number].stored[name] / nights[number].ideal[name]:.2f}" for number in shown))
    whole = [(sum(nights[number].stored.values()), sum(nights[number].ideal.values())) for number in shown]
    table.add_row("all", *(f"{stored / ideal:.2f}" for stored, ideal in whole))
    table.add_row("all, kB", *(f"{stored / 1e3:,.0f}" for stored, _ in whole))
    table.add_row("catalogue, kB", *(f"{nights[number].catalogue / 1e3:,.0f}" for number in shown))
    table.add_row("seconds of the night", *(f"{nights[number].seconds:.1f}" for number in shown))
    console.print(table)
    console.print(f"{days_by_tick * TICKS_A_DAY} ticks of the lake in {seconds:.0f} s")


if __name__ == "__main__":
    main()
