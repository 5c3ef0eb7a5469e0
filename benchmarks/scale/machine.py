"""Faster on one machine, beside the commit before: `python -m benchmarks.scale.machine`, an hour, or `--quick`.

Both commits are processes of their own, in turns (before, after, before, after), over the same data; the one before in
a worktree of git that is made for it and taken away. Told are seconds of the clock and of the processor, and the ratio
with its spread: the machine is its own measure. Parts, by `--part`:

- `year`: a year of 20 simulated markets with a grid each, in one run of the job `history`, on Dagster's own storage.
- `tick`: the daemon's tick of 20 markets and grids on a loopback KuCoin: a run by a code server of Dagster's, as the
  daemon launches it, until its process is gone. The processor's seconds are without those of the exchange itself.
- `many`: ticks of 20, 100 and 500 markets and grids, of this commit alone: seconds, a market, and memory.

The rows of both must be the same to the last bit: of every table of a backfill, what each value reads as, but for the
columns that only a live run knows and the version of the code. It ends with 1 where they are not, or a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

PROJECT = Path(__file__).resolve().parents[2]
END = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""The first tick."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
COMPARED = (
    "candles", "regime_features", "regime_verdict", "grid_episode", "grid_risk", "entry_assessment", "exit_cost",
    "exit_state", "portfolio_risk", "portfolio_contribution", "limit_state",
)  # fmt: skip
BEFORE = "dd2e749"
"""The commit before all that was made faster here."""
YEAR_AT_MOST, TICK_AT_MOST = 0.6, 0.7
MANY_AT_MOST_MIB = 4096


@dataclass(frozen=True)
class Side:
    """A commit, and what its processes took, one a turn."""

    name: str
    code: Path
    turns: list[dict[str, Any]] = field(default_factory=list)

    def median(self, key: str) -> float:
        return statistics.median(one[key] for one in self.turns)


def environment(code: Path, folder: Path) -> dict[str, str]:
    """What a process of a commit is given."""
    return {
        **os.environ,
        # Older code took logarithms by numpy, which with AVX-512 have other last bits: the rows are compared.
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "PYTHONPATH": str(code),
        "MM_CONFIG_DIR": str(folder / "configuration"),
        "MM_DATA_DIR": str(folder / "data"),
        "MM_DAGSTER_DIR": str(folder / "data" / "dagster"),
        "DAGSTER_HOME": str(code),
        "MM_LOG_LEVEL": "CRITICAL",
        # As where it is installed: compiled modules are kept.
        "PYTHONDONTWRITEBYTECODE": "",
    }


def child(code: Path, folder: Path, *arguments: object) -> dict[str, Any]:
    """This file by the code of a commit; what it prints last.

    Raises:
        SystemExit: it failed.
    """
    # -P: the folder of this file, whose modules have short names, is none to import from.
    command = [sys.executable, "-P", __file__, "--folder", str(folder), "--child", *map(str, arguments)]
    done = subprocess.run(command, env=environment(code, folder), cwd=code, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A worktree of a revision, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made) / "before"
        git = ("git", "-C", str(PROJECT), "worktree")
        subprocess.run([*git, "add", "--detach", str(place), revision], check=True, capture_output=True)
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True, capture_output=True)


# in the process of a commit -------------------------------------------------------------------------------------------


def configure(folder: Path, venue: Mapping[str, object], markets: int, begun: datetime) -> None:
    """So many markets with a wide grid each."""
    symbols = [f"C{number:03d}-USDT" for number in range(markets)]
    (folder / "grids").mkdir(parents=True)
    watched = [{"symbol": symbol, "venue": "main"} for symbol in symbols]
    (folder / "markets.yaml").write_text(yaml.safe_dump({"venues": {"main": dict(venue)}, "markets": watched}))
    for symbol in symbols:
        grid = {
            "id": symbol.lower(), "symbol": symbol, "activated_at": f"{begun:%Y-%m-%dT%H:%M:%SZ}", "lower": 1e-4,
            "upper": 1e6, "levels": 20, "spacing": "geometric", "stop": 1e-5, "capital": 1000,
        }  # fmt: skip
        (folder / "grids" / f"{symbol}.yaml").write_text(yaml.safe_dump(grid))


def fill(days: int) -> dict[str, Any]:
    """The job `history` over the last whole days before END; what it took, and its rows in one figure a table."""
    import dagster as dg

    from mm_dagster.definitions import defs

    Path(os.environ["MM_DAGSTER_DIR"]).mkdir(parents=True, exist_ok=True)
    last = END.replace(hour=0) - timedelta(days=1)
    tags = {
        "dagster/asset_partition_range_start": f"{last - timedelta(days=days - 1):%Y-%m-%d}",
        "dagster/asset_partition_range_end": f"{last:%Y-%m-%d}",
    }
    job = defs().resolve_job_def("history")
    with dg.DagsterInstance.get() as instance:
        began, began_cpu = time.perf_counter(), time.process_time()
        done = job.execute_in_process(instance=instance, run_config=QUIET, tags=tags)
        seconds, processor = time.perf_counter() - began, time.process_time() - began_cpu
        stages = {
            one.step_key: one.end_time - one.start_time
            for one in instance.get_run_step_stats(done.run_id)
            if one.end_time and one.start_time
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "processor": processor, "mib": peak, "stages": stages, "rows": bits()}


def bits() -> dict[str, str]:
    """Of each table the number of rows, and the sum of the hashes of what their values read as."""
    from mm_dagster.history.lake import Lake
    from mm_dagster.tables import registry

    found = {}
    with Lake(Path(os.environ["MM_DATA_DIR"]) / "history").sessions.reading() as reader:
        for table in COMPARED:
            names = sorted(registry.dtypes(table).keys() - registry.LIVE_ONLY - {"code_version"})
            text = ", ".join(f"""coalesce("{name}"::VARCHAR, 'null')""" for name in names)
            query = f"SELECT count(*), coalesce(sum(hash(concat_ws('|', {text}))::HUGEINT), 0)::VARCHAR FROM {table}"
            found[table] = " ".join(map(str, reader.execute(query).fetchall()[0]))
    return found


def daemon() -> None:
    """What the daemon does of a tick: for each moment that is told by a line, the run, given to a code server.

    Prints what each took, from its launch until its process is gone: seconds, those of the processor of the code server
    and all below it, and the most memory of the run's process.
    """
    import dagster as dg
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget

    from mm_dagster.bars import parse_time
    from mm_dagster.definitions import defs
    from mm_dagster.defs.partitions import partition_of

    # Dagster and its code server say other things.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    code = os.environ["PYTHONPATH"]
    target = ModuleTarget("mm_dagster.definitions", attribute=None, working_directory=code, location_name="mm_dagster")
    job = defs().resolve_job_def("tick")
    with dg.DagsterInstance.get() as instance, WorkspaceProcessContext(instance, target) as workspace:
        asked = workspace.create_request_context()
        [repository] = asked.get_code_location("mm_dagster").get_repositories().values()
        remote = repository.get_full_job("tick")
        for line in sys.stdin:
            as_of = line.strip()
            run = instance.create_run_for_job(
                job,
                run_config={"resources": {"turn": {"config": {"as_of": as_of}}}, **QUIET},
                tags={"dagster/partition": partition_of(parse_time(as_of)), "mm/as_of": as_of},
                remote_job_origin=remote.get_remote_origin(),
                job_code_origin=remote.get_python_origin(),
            )
            began, began_cpu = time.perf_counter(), processor_below(os.getpid())
            instance.launch_run(run.run_id, asked)
            mib = watched(instance, run.run_id)
            took = {
                "seconds": time.perf_counter() - began,
                "processor": processor_below(os.getpid()) - began_cpu,
                "mib": mib,
                "stages": ended(instance, run.run_id),
            }
            print(json.dumps(took), file=told, flush=True)


def watched(instance: Any, run_id: str) -> float:
    """Waits until the process of a run is gone; the most memory that it had, MiB."""
    import dagster as dg

    pid = None
    while pid is None:
        time.sleep(0.05)
        for event in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            told = re.search(r"Started process for run \(pid: (\d+)\)", event.message)
            pid = int(told[1]) if told else pid
    most = 0.0
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return most
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        if peak is None:  # a zombie has no memory
            return most
        most = int(peak[1]) / 1024
        time.sleep(0.02)


def processor_below(root: int) -> float:
    """Seconds of the processor of all processes below one, of those that are gone, too."""
    fields = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, parents = 0, {root}
    while parents:
        children = {pid for pid, one in fields.items() if int(one[1]) in parents}
        found += sum(int(value) for pid in children for value in fields[pid][11:15])
        parents = children
    return found / os.sysconf("SC_CLK_TCK")


def ended(instance: Any, run_id: str) -> dict[str, float]:
    """How long each step of a run took.

    Raises:
        SystemExit: it failed.
    """
    import dagster as dg

    run = instance.get_run_by_id(run_id)
    if run is None or run.status != dg.DagsterRunStatus.SUCCESS:
        raise SystemExit(f"the tick {run_id} did not succeed")
    steps = instance.get_run_step_stats(run_id)
    return {one.step_key: one.end_time - one.start_time for one in steps if one.end_time and one.start_time}


# beside each other ----------------------------------------------------------------------------------------------------


def year(sides: Sequence[Side], turns: int, markets: int, days: int) -> bool:
    """A backfill by both; whether the goal is met and no bit differs. A small one first compiles what must be."""
    for number in range(turns + 1):
        size = (markets, days) if number else (2, min(days, 100))
        for side in sides:
            with tempfile.TemporaryDirectory() as made:
                begun = END - timedelta(days=max(size[1] - 30, 1))
                configure(Path(made) / "configuration", {"kind": "simulated"}, size[0], begun)
                found = child(side.code, Path(made), "fill", size[1])
                if number:
                    side.turns.append(found)
    rows = [side.turns[0]["rows"] for side in sides]
    differing = [table for table in COMPARED if rows[0][table] != rows[1][table]]
    table = shown(f"{days} days of {markets} simulated markets and grids, {turns} turns", sides)
    for stage in sides[1].turns[0]["stages"]:
        figures = [statistics.median(one["stages"].get(stage, 0.0) for one in side.turns) for side in sides]
        table.add_row(stage, *(f"{one:.2f}" for one in figures), f"{figures[1] / figures[0]:.2f}" if figures[0] else "")
    print_table(table)
    many = sum(int(rows[1][one].split()[0]) for one in COMPARED)
    print(
        f"rows of {', '.join(differing)} DIFFER" if differing else f"{many:,} rows of {len(COMPARED)} tables: same bits"
    )
    return not differing and ratio(sides, "processor") <= YEAR_AT_MOST


def shown(title: str, sides: Sequence[Side]) -> Table:
    """A table with the medians of both sides, and the ratio with the least and the most of its turns."""
    table = Table(title=title, title_justify="left")
    for name in ("", *(side.name for side in sides), "ratio (least, most)"):
        table.add_column(name, justify="right" if name else "left")
    for key, said in (("seconds", "seconds"), ("processor", "of the processor"), ("mib", "peak MiB")):
        each = [new[key] / old[key] for old, new in zip(sides[0].turns, sides[1].turns, strict=True)]
        told = f"{ratio(sides, key):.2f} ({min(each):.2f}, {max(each):.2f})"
        table.add_row(said, *(f"{side.median(key):.2f}" for side in sides), told)
    return table


def ratio(sides: Sequence[Side], key: str) -> float:
    return sides[1].median(key) / sides[0].median(key)


def print_table(table: Table) -> None:
    Console(width=110 if not sys.stdout.isatty() else None).print(table)


@contextmanager
def exchange_of(markets: int) -> Iterator[Any]:
    """A loopback KuCoin with so many markets."""
    import polars as pl

    from mm_dagster.bars import TIME, Span
    from mm_dagster.market.simulated import simulate
    from mm_dagster_tests.kucoin import KucoinServer

    span = Span(END - timedelta(days=80), END + timedelta(days=1))
    candles = {
        symbol: simulate(symbol, span).with_columns(pl.col("open_time").cast(TIME))
        for symbol in (f"C{number:03d}-USDT" for number in range(markets))
    }
    with KucoinServer(candles, END) as exchange:
        yield exchange


@contextmanager
def daemon_of(side: Side, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A daemon of a commit that makes a tick for each line that it is given."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, "--child", "daemon", ""],
        env=environment(side.code, folder), cwd=side.code, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=(folder / "daemon.log").open("w"), text=True,
    )  # fmt: skip
    with process:
        yield process
        process.communicate()


def tick(process: subprocess.Popen[str], folder: Path, exchange: Any, as_of: datetime) -> dict[str, Any]:
    """One tick by a daemon.

    Raises:
        SystemExit: it failed.
    """
    exchange.now = as_of + timedelta(minutes=1)
    exchange.requests.clear()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{as_of:%Y-%m-%dT%H:%M:%SZ}\n")
    process.stdin.flush()
    told = process.stdout.readline()
    if not told:
        raise SystemExit(f"the tick of {as_of} failed: {(folder / 'daemon.log').read_text()[-3000:]}")
    found: dict[str, Any] = json.loads(told)
    return found


def ticks(sides: Sequence[Side], turns: int, markets: int) -> None:
    """Ticks of all sides in turns, each over a history of its own; the first two of each fill it and do not count."""
    # A code server ends within 45 s of its daemon, when it has not heard of it, and may write until then.
    place = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with exchange_of(markets) as exchange, place as made, ExitStack() as stack:
        venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": exchange.url}
        daemons = []
        for side in sides:
            configure(Path(made) / side.name / "configuration", venue, markets, END - timedelta(days=7))
            (Path(made) / side.name / "data" / "dagster").mkdir(parents=True)
            daemons.append(stack.enter_context(daemon_of(side, Path(made) / side.name)))
        for number in range(turns + 2):
            for side, process in zip(sides, daemons, strict=True):
                one = tick(process, Path(made) / side.name, exchange, END + number * timedelta(minutes=15))
                if number > 1:
                    side.turns.append(one)


def daemons_tick(sides: Sequence[Side], turns: int, markets: int) -> bool:
    """The daemon's tick by both; whether the goal is met."""
    ticks(sides, turns, markets)
    table = shown(f"a tick of {markets} markets and grids, loopback KuCoin, {turns} turns", sides)
    for stage in sides[1].turns[0]["stages"]:
        figures = [statistics.median(one["stages"].get(stage, 0.0) for one in side.turns) for side in sides]
        table.add_row(stage, *(f"{one:.2f}" for one in figures), f"{figures[1] / figures[0]:.2f}" if figures[0] else "")
    print_table(table)
    return ratio(sides, "seconds") <= TICK_AT_MOST


def many(turns: int, sizes: Sequence[int]) -> bool:
    """Ticks of more and more markets; whether the last size costs no more a market than the first, and fits."""
    found = []
    for markets in sizes:
        side = Side("this", PROJECT)
        ticks([side], turns, markets)
        found.append(side)
    table = Table(
        title=f"a tick of so many markets and grids, loopback KuCoin, median of {turns}", title_justify="left"
    )
    for name in ("", *map(str, sizes)):
        table.add_column(name, justify="right" if name else "left")
    for key, said in (("seconds", "seconds"), ("processor", "of the processor"), ("mib", "peak MiB")):
        table.add_row(said, *(f"{side.median(key):.2f}" for side in found))
    each = [side.median("seconds") / size for side, size in zip(found, sizes, strict=True)]
    table.add_row("seconds a market", *(f"{one:.3f}" for one in each))
    for stage in found[-1].turns[0]["stages"]:
        table.add_row(
            stage, *(f"{statistics.median(one['stages'][stage] for one in side.turns):.2f}" for side in found)
        )
    print_table(table)
    return each[-1] <= each[0] and found[-1].median("mib") <= MANY_AT_MOST_MIB


def main() -> int:
    """Prints the tables; 1 where a goal is missed."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--part", choices=("year", "tick", "many"), action="append")
    arguments.add_argument("--quick", action="store_true", help="a month of 6 markets, two turns")
    arguments.add_argument("--before", default=BEFORE, help="the revision that is measured beside")
    arguments.add_argument("--turns", type=int, help="of each side that count; of ticks twice as many and one")
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.child:
        name, value = given.child
        if name == "daemon":
            daemon()
        else:
            print(json.dumps(fill(int(value))))
        return 0
    parts = given.part or ("year", "tick", "many")
    turns, markets, days, sizes = (2, 6, 31, (6, 18)) if given.quick else (3, 20, 365, (20, 100, 500))
    turns = given.turns or turns
    met = {}
    with checked_out(given.before) as code:
        for part in parts:
            sides = (Side("before", code), Side("after", PROJECT))
            if part == "year":
                met[part] = year(sides, turns, markets, days)
            elif part == "tick":
                met[part] = daemons_tick(sides, 2 * turns + 1, markets)
            else:
                met[part] = many(turns, sizes)
    for part, is_met in met.items():
        print(f"{part}: {'the goal is met' if is_met else 'the goal is MISSED'}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
