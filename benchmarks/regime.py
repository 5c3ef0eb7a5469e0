"""What the regime features cost, against what people use today: `python -m benchmarks.regime`.

One run, the same candles and the same columns for all: 20 markets, three years of 15-minute bars, every feature. Each
contender is a process of its own on one core, with one thread; they take turns, and the figure is the median of their
turns. A turn goes through the markets one by one and keeps of each result a sum per column. The first call, which
loads or compiles kernels and builds queries, is told apart and does not count.

What is compared is also held together: the peers' values against ours, column by column, before any time is printed.

`--before REVISION` measures our code as it was then beside it, in the same turns, and counts the bits that differ from
ours now, in every column of every market.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.groups import COLUMNS, FRAMING, GROUPS, PRICES, Seconds, Series
from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import features
from mm_dagster.tables.regime import WARMUP_BARS

PROJECT = Path(__file__).resolve().parent.parent
START = datetime(2023, 1, 1, tzinfo=UTC)
VOL = VolatilityConfig()
OURS, OURS_2, TALIB, TUNED, POLARS = "ours", "ours, 2 cores", "TA-Lib", "TA-Lib tuned", "polars"
BEFORE, BEFORE_2 = "before", "before, 2 cores"
CONTENDERS = (OURS, TALIB, TUNED, POLARS, OURS_2)
PEERS = (TALIB, TUNED, POLARS)
TWO_CORES = (OURS_2, BEFORE_2)
TOGETHER = 2
"""Markets that a run on two cores is given at once."""
BUSY = 1.2
"""Wall over processor time of a single thread that says that the core was not its own."""
GROUP_OF = {name: group.name for group in GROUPS for name in group.columns}


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    markets: int
    days: int
    repetitions: int
    tails: int

    @property
    def span(self) -> Span:
        return Span(START, START + self.days * DAY_BARS * BAR)


FULL = Size(markets=20, days=1096, repetitions=5, tails=60)
QUICK = Size(markets=2, days=365, repetitions=3, tails=20)


# The candles ----------------------------------------------------------------------------------------------------------


def recordings() -> list[Path]:
    """Files of real candles, none where the data is not here."""
    folder = Path(os.environ.get("MM_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    return sorted((folder / "candles" / "kucoin").glob("*/15m.parquet"))


def origin_of_candles(size: Size) -> str:
    """What the candles are, for people."""
    many = min(len(recordings()), size.markets)
    if not many:
        return "synthetic random walks"
    return f"real candles of {many} markets, a year of each, repeated to fill the markets and years"


def candles(size: Size) -> list[pl.DataFrame]:
    """Of each market its candles without a hole, the same every time."""
    span = size.span
    files = recordings()
    years = [pl.read_parquet(file).select(PRICES).to_numpy() for file in files[: size.markets]]
    markets = []
    for number in range(size.markets):
        if years:
            year = years[number % len(years)]
            # A market that comes a second time begins in the middle of its year.
            prices = joined(np.roll(year, -(number // len(years) * year.shape[0] // 2), axis=0), span.bars)
        else:
            prices = random_walk(number, span.bars)
        columns = {name: np.ascontiguousarray(prices[:, k]) for k, name in enumerate(PRICES)}
        frame = pl.DataFrame({"open_time": span.open_times(), **columns})
        markets.append(frame.select(pl.lit(f"C{number:02d}-USDT").alias("symbol"), pl.all()))
    return markets


def joined(year: Series, bars: int) -> Series:
    """The year again and again, prices scaled so that each time it opens where it closed."""
    growth = year[-1, 3] / year[0, 0]
    times = -(-bars // year.shape[0])
    scaled = [year * [*[growth**k] * 4, 1.0] for k in range(times)]
    return np.concatenate(scaled)[:bars]


def random_walk(seed: int, bars: int) -> Series:
    """A made-up market, where there are no recordings."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.003, bars)))
    opens = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opens, close) * (1.0 + random.exponential(0.001, bars))
    low = np.minimum(opens, close) * (1.0 - random.exponential(0.001, bars))
    return np.column_stack([opens, high, low, close, random.lognormal(3.0, 1.0, bars)])


# A contender, in a process of its own ---------------------------------------------------------------------------------


@contextmanager
def timed_groups() -> Iterator[Seconds]:
    """Adds up, while it is open, what each group of our indicators costs."""
    seconds: Seconds = {}
    definitions = features.definitions

    def timed(indicator: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(bars: Any) -> Any:
            started = time.process_time()
            found = indicator(bars)
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - started
            return found

        return call

    def watched(vol: VolatilityConfig) -> tuple[features.Definition, ...]:
        return tuple(
            replace(one, indicator=timed(one.indicator, GROUP_OF[columns[0]]), columns={step: columns})
            for one in definitions(vol)
            for step, columns in one.columns.items()
        )

    features.definitions = watched
    try:
        yield seconds
    finally:
        features.definitions = definitions


class Contender:
    """Does what it is told on standard input, one line of JSON each, and answers likewise."""

    def __init__(self, name: str, size: Size) -> None:
        self.name = name
        markets = candles(size)
        self.span = size.span
        self.last = Span(size.span.end - BAR, size.span.end)
        tails = [frame.tail(WARMUP_BARS + 1).clone() for frame in markets]
        self.tails = tails if name in PEERS else [pl.concat(tails, rechunk=True)]
        together = TOGETHER if name in TWO_CORES else 1
        lots = range(0, size.markets, together)
        self.lots = [pl.concat(markets[first : first + together], rechunk=True) for first in lots]
        if name in PEERS:
            # Not in our own processes, whose memory is measured.
            from benchmarks import peers

            self.ou_alone_fits = peers.OU_ALONE
            self.peer: Callable[..., tuple[dict[str, Series], Seconds]] = {
                TALIB: peers.talib_bundle,
                TUNED: partial(peers.talib_bundle, instead=peers.TUNED),
                POLARS: peers.polars_expressions,
            }[name]

    def ours(self, lot: pl.DataFrame, span: Span) -> pl.DataFrame:
        return features.compute(lot, span, VOL, threads=2 if self.name in TWO_CORES else 1)

    def compute(self, lot: pl.DataFrame) -> tuple[dict[str, Series] | pl.DataFrame, Seconds]:
        if self.name in PEERS:
            return self.peer(lot)
        if self.name in TWO_CORES:
            return self.ours(lot, self.span), {}
        with timed_groups() as seconds:
            started = time.process_time()
            found = self.ours(lot, self.span)
            whole = time.process_time() - started
        return found, {**seconds, FRAMING: whole - sum(seconds.values())}

    def newest(self, lot: pl.DataFrame) -> object:
        if self.name in PEERS:
            return self.peer(lot, newest=True)
        return self.ours(lot, self.last)

    def first(self) -> dict[str, float]:
        started = time.perf_counter()
        self.newest(self.tails[0])
        return {"seconds": time.perf_counter() - started}

    def turn(self) -> dict[str, Any]:
        wall, cpu, faults, checksum = 0.0, 0.0, 0, 0.0
        groups: Seconds = {}
        for lot in self.lots:
            before = page_faults()
            started, used = time.perf_counter(), time.process_time()
            found, seconds = self.compute(lot)
            wall += time.perf_counter() - started
            cpu += time.process_time() - used
            faults += page_faults() - before
            for name, spent in seconds.items():
                groups[name] = groups.get(name, 0.0) + spent
            checksum += sum(sums(found).values())
            del found
        return {"wall": wall, "cpu": cpu, "faults": faults, "groups": groups, "checksum": checksum}

    def tail(self) -> dict[str, float]:
        started = time.perf_counter()
        for lot in self.tails:
            self.newest(lot)
        return {"seconds": time.perf_counter() - started}

    def memory(self) -> dict[str, float]:
        return {"mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0}

    def compare(self) -> dict[str, Any]:
        return agreement(self.peer(self.lots[0])[0], self.ours(self.lots[0], self.span))

    def bits(self, lot: str, file: str) -> dict[str, int]:
        """Writes the bits of every column of a lot, shape (columns, rows); a null is NaN."""
        found = self.ours(self.lots[int(lot)], self.span)
        np.save(file, np.array([as_array(found[name]) for name in COLUMNS]).view(np.uint64))
        return {"lots": len(self.lots), "values": found.height * len(COLUMNS)}

    def ou_alone(self) -> dict[str, dict[str, float]]:
        """Nanoseconds a row of one hourly series, and the largest difference of phi from ours."""
        y = np.log(self.lots[0]["close"].gather_every(4, 3).to_numpy())
        phi = as_array(self.ours(self.lots[0], self.span)["ou_phi"])[3::4]
        found = {}
        for name, (fit, bars) in self.ou_alone_fits.items():
            bars = min(bars, y.size)
            fit(y[:500])
            started = time.process_time()
            theirs = fit(y[:bars])
            spent = time.process_time() - started
            found[name] = {
                "ns_per_row": spent / bars * 1e9,
                "rows": bars,
                "largest_difference": float(np.nanmax(np.abs(theirs[193:bars] - phi[193:bars]))),
            }
        return found


def page_faults() -> int:
    """Pages of memory that the process has been given so far; each costs about as much as a row."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def as_array(column: pl.Series) -> Series:
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def sums(found: dict[str, Series] | pl.DataFrame) -> dict[str, float]:
    """The sum of each column's finite values."""
    arrays = {name: as_array(found[name]) if isinstance(found, pl.DataFrame) else found[name] for name in COLUMNS}
    return {name: float(array.sum(where=np.isfinite(array))) for name, array in arrays.items()}


def tolerance(column: str) -> tuple[float, float]:
    """Relative to the value, and to the column's median size.

    The EMAs and the ADX of the peers never forget; e^-10 of their weight lies before our window. Sliding sums lose
    digits where a value is a small difference of them.
    """
    if column.startswith("ema_"):
        return 5e-5, 0.0
    if column.startswith("adx"):
        return 0.0, 2e-3
    return 1e-6, 1e-8


def agreement(theirs: dict[str, Series], mine: pl.DataFrame) -> dict[str, Any]:
    """Of each column, in how many of the rows where we have a value they have another, or none."""
    different = {}
    for name in COLUMNS:
        ours_here = as_array(mine[name])
        known = ~np.isnan(ours_here)
        relative, absolute = tolerance(name)
        absolute *= float(np.median(np.abs(ours_here[np.isfinite(ours_here)])))
        same = np.isclose(theirs[name][known], ours_here[known], rtol=relative, atol=absolute)
        different[name] = int((~same).sum())
    return {"rows": mine.height, "different": different}


def serve(name: str, size: Size, cores: list[int]) -> None:
    """The process of one contender."""
    os.sched_setaffinity(0, cores)
    contender = Contender(name, size)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order, *arguments = line.split()
        print(json.dumps(getattr(contender, order)(*arguments)), flush=True)


# The run --------------------------------------------------------------------------------------------------------------


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A folder with the product as it was at a revision, and the benchmarks of today."""
    with tempfile.TemporaryDirectory() as made:
        folder, tree = Path(made), Path(made) / "tree"
        git = ("git", "-C", str(PROJECT), "worktree")
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), revision], check=True)
        try:
            (folder / "mm_dagster").symlink_to(tree / "mm_dagster")
            (folder / "benchmarks").symlink_to(PROJECT / "benchmarks")
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


WITHOUT_AVX512 = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}
"""For older code of ours, which took logarithms and powers by numpy: with AVX-512 these have other last bits."""


@contextmanager
def process(name: str, quick: bool, folder: Path = PROJECT) -> Iterator[Callable[[str], Any]]:
    """Starts a contender on its cores; what it yields sends an order and waits for the answer."""
    cores = sorted(os.sched_getaffinity(0))[-(2 if name in TWO_CORES else 1) :]
    threads = {f"{library}_NUM_THREADS": str(len(cores)) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    command = [sys.executable, "-m", "benchmarks.regime", "--contender", name, "--cores", ",".join(map(str, cores))]
    with subprocess.Popen(
        [*command, *(["--quick"] if quick else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            **threads,
            **(WITHOUT_AVX512 if name in (BEFORE, BEFORE_2) else {}),
            "POLARS_MAX_THREADS": str(len(cores)),
            "PYTHONPATH": str(folder),
        },
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        orders, answers = child.stdin, child.stdout

        def answer() -> Any:
            line = answers.readline()
            if not line:
                raise SystemExit(f"{name}: ended with {child.wait()}, its message is above")
            return json.loads(line)

        def ask(order: str) -> Any:
            orders.write(f"{order}\n")
            orders.flush()
            return answer()

        answer()
        yield ask


def measure(quick: bool, before: str | None = None, contenders: tuple[str, ...] = CONTENDERS) -> dict[str, Any]:
    """Every figure, as it goes into JSON; seconds, milliseconds, nanoseconds and mebibytes as named."""
    size = QUICK if quick else FULL
    rows = size.markets * size.days * DAY_BARS
    with ExitStack() as stack:
        folders = dict.fromkeys(contenders, PROJECT)
        if before:
            folders |= dict.fromkeys((BEFORE, BEFORE_2), stack.enter_context(checked_out(before)))
        names = tuple(folders)
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        tails: dict[str, list[float]] = {name: [] for name in names}
        ask = {name: stack.enter_context(process(name, quick, folders[name])) for name in names}
        first = {name: ask[name]("first")["seconds"] for name in names}
        for name in names:
            ask[name]("turn")
        for _ in range(size.repetitions):
            for name in names:
                turns[name].append(ask[name]("turn"))
        for _ in range(size.tails):
            for name in names:
                tails[name].append(1e3 * ask[name]("tail")["seconds"])
        memory = {name: ask[name]("memory")["mebibytes"] for name in names}
        agree = {name: ask[name]("compare") for name in PEERS if name in names}
        alone = ask[TALIB]("ou_alone")
        bits = differing_bits(ask[OURS], ask[BEFORE]) if before else None
    result = {
        name: {
            "wall_seconds": statistics.median(turn["wall"] for turn in turns[name]),
            "cpu_seconds": statistics.median(turn["cpu"] for turn in turns[name]),
            "ns_per_row": statistics.median(turn["wall"] for turn in turns[name]) / rows * 1e9,
            "turns": [turn["wall"] for turn in turns[name]],
            "page_faults": statistics.median(turn["faults"] for turn in turns[name]),
            "groups_ns_per_row": {
                group: statistics.median(turn["groups"][group] for turn in turns[name]) / rows * 1e9
                for group in turns[name][0]["groups"]
            },
            "first_call_seconds": first[name],
            "peak_mebibytes": memory[name],
            "tail_milliseconds_median": statistics.median(tails[name]),
            "tail_milliseconds_p95": float(np.percentile(tails[name], 95)),
            "checksum": turns[name][0]["checksum"],
        }
        for name in names
    }
    return {
        "candles": origin_of_candles(size),
        "markets": size.markets,
        "bars_each": size.days * DAY_BARS,
        "rows": rows,
        "columns": len(COLUMNS),
        "repetitions": size.repetitions,
        "contenders": result,
        "agreement": agree,
        "bits": bits,
        "ou_alone": alone,
    }


def differing_bits(ours: Callable[[str], Any], before: Callable[[str], Any]) -> dict[str, Any]:
    """How many values were compared, and how many bits differ, by column."""
    values, different = 0, dict.fromkeys(COLUMNS, 0)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.npy" for name in ("ours", "before")]
        lot, lots = 0, 1
        while lot < lots:
            answers = [ask(f"bits {lot} {file}") for ask, file in zip((ours, before), files, strict=True)]
            lots = answers[0]["lots"]
            values += answers[0]["values"]
            bits = np.bitwise_count(np.load(files[0]) ^ np.load(files[1])).sum(axis=1, dtype=np.int64)
            for name, many in zip(COLUMNS, bits.tolist(), strict=True):
                different[name] += many
            lot += 1
    return {"values": values, "different": different}


def show(found: dict[str, Any], console: Console) -> None:
    """The tables."""
    console.print(
        f"{found['markets']} markets x {found['bars_each']:,} bars of 15 minutes = {found['rows']:,} rows, "
        f"{found['columns']} columns; {found['candles']}; median of {found['repetitions']} turns"
    )
    for name, one in found["agreement"].items():
        worst = {column: many for column, many in one["different"].items() if many}
        less = ", ".join(f"{column} in all but {many}" for column, many in worst.items())
        same = f"{len(one['different']) - len(worst)} of {len(one['different'])} columns"
        console.print(f"{name}: {same} agree with ours in each of {one['rows']:,} rows" + (f"; {less}" if less else ""))
    if found["bits"]:
        worst = {column: many for column, many in found["bits"]["different"].items() if many}
        values = f"{found['bits']['values']:,} values"
        console.print(f"{BEFORE}: {sum(worst.values())} differing bits in {values}" + (f"; {worst}" if worst else ""))
    console.print(totals(found), groups(found), alone(found))
    shared = [name for name in (OURS, BEFORE, *PEERS) if name in found["contenders"]]
    shared = [name for name in shared if found["contenders"][name]["wall_seconds"] > BUSY * cpu(found, name)]
    if shared:
        console.print(f"Others used the core of {', '.join(shared)} meanwhile: there, only its CPU seconds tell.")


def cpu(found: dict[str, Any], name: str) -> float:
    """Seconds of processor of a contender's run."""
    return float(found["contenders"][name]["cpu_seconds"])


def grid(title: str, *columns: str) -> Table:
    """A table with the names on the left and figures on the right."""
    table = Table(title=title, title_justify="left")
    for k, column in enumerate(columns):
        table.add_column(column, justify="right" if k else "left")
    return table


def totals(found: dict[str, Any]) -> Table:
    """What a whole run costs."""
    heads = (
        "",
        "wall s",
        "CPU s",
        "ns a row",
        "million rows/s",
        "ours faster",
        "by CPU",
        "newest row ms",
        "p95",
        "peak MiB",
    )
    table = grid("All features", *heads, "first call s")
    mine = found["contenders"][OURS]["ns_per_row"]
    for name, one in found["contenders"].items():
        table.add_row(
            name,
            f"{one['wall_seconds']:.2f}",
            f"{one['cpu_seconds']:.2f}",
            f"{one['ns_per_row']:.0f}",
            f"{1e3 / one['ns_per_row']:.2f}",
            f"{one['ns_per_row'] / mine:.2f}x",
            f"{one['cpu_seconds'] / cpu(found, OURS):.2f}x",
            f"{one['tail_milliseconds_median']:.1f}",
            f"{one['tail_milliseconds_p95']:.1f}",
            f"{one['peak_mebibytes']:.0f}",
            f"{one['first_call_seconds']:.2f}",
        )
    return table


def groups(found: dict[str, Any]) -> Table:
    """What each indicator costs, and how many times as long as ours the peers take."""
    peers = [name for name in (*PEERS, BEFORE) if name in found["contenders"]]
    names = (*peers, OURS)
    table = grid("Nanoseconds of processor a row", "", *names, *(f"{name}/{OURS}" for name in peers))
    spent = [found["contenders"][name]["groups_ns_per_row"] for name in names]
    for group in [*(group.name for group in GROUPS), FRAMING]:
        *theirs, mine = (one.get(group, 0.0) for one in spent)
        figures = (f"{ns:.1f}" for ns in (*theirs, mine))
        table.add_row(group, *figures, *(f"{ns / mine:.2f}x" for ns in theirs))
    return table


def alone(found: dict[str, Any]) -> Table:
    """The fit of an Ornstein-Uhlenbeck process alone, on a slice, per row of one hourly series."""
    table = grid("OU fit alone, measured on a slice of one series", "", "rows", "ns a row", "ours faster", "differs by")
    mine = found["contenders"][OURS]["groups_ns_per_row"]["OU fit"]
    table.add_row(f"{OURS} (six columns, all rows)", f"{found['rows']:,}", f"{mine:.1f}", "1x", "")
    for name, one in found["ou_alone"].items():
        table.add_row(
            f"{name} (phi)",
            f"{one['rows']:,}",
            f"{one['ns_per_row']:.0f}",
            f"{one['ns_per_row'] / mine:,.0f}x",
            f"{one['largest_difference']:.0e}",
        )
    return table


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regime", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.markets} markets, one year")
    parser.add_argument("--json", action="store_true", help="the figures, in place of tables")
    parser.add_argument("--before", help="a revision of git that is measured beside")
    parser.add_argument("--contender", choices=(*CONTENDERS, BEFORE, BEFORE_2), help=argparse.SUPPRESS)
    parser.add_argument("--cores", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        serve(given.contender, QUICK if given.quick else FULL, [int(core) for core in given.cores.split(",")])
        return
    found = measure(given.quick, given.before)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        show(found, Console(width=None if sys.stdout.isatty() else 132))


if __name__ == "__main__":
    main()
