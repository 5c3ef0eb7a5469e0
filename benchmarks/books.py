"""What order books cost: `python -m benchmarks.books`, some minutes. A part by `--part log`.

**The log.** What keeping a message costs, beside a bare append of the very bytes that the log's files have, both
brought to the disk after each second of the messages' own clock; and with that left to a thread, which at this pace
comes less often. They take turns. The messages are recorded ones of KuCoin, over and over, where `MM_SHARED_DATA` has
them, so that how small they are sealed says nothing. Then how many times faster than real time they are sealed.

**The path** and **the memory** of the whole recorder: see `benchmarks/recorder.py`.

**The features** of a quarter hour, where `MM_SHARED_DATA` has a recorded one: how many messages a second become a tape,
and what the walk through a window takes beside the plain one that the tests hold it to, which looks through the whole
book each time. They take turns on two minutes of Binance's BTC-USDT, must find the same whole numbers, and time of the
processor is told. Then a window from the tape to its row.

**The tick**, of 20 grids.
Twenty markets on a loopback KuCoin, a grid on each; Dagster's own run, in process, its events kept in memory. Ticks
with books and ticks without them take turns, so that both meet the same machine. Told is, from the start of a run, when
its exit states are committed and when it ends: the median, and the lowest and the highest. An exchange that answers at
once is the hardest case for the share of the whole; one that takes its time is the likelier one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import dagster as dg
import numpy as np
import polars as pl
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.recorder import memory, paths
from benchmarks.shared import SHARED
from mm_dagster.bars import BAR, TIME, Span, iso
from mm_dagster.books.features import measure as measure_features_of
from mm_dagster.books.kernel import walk
from mm_dagster.books.tape import tape_of
from mm_dagster.definitions import defs
from mm_dagster.defs import automation
from mm_dagster.defs.partitions import partition_of
from mm_dagster.history.lake import Lake
from mm_dagster.market.simulated import simulate
from mm_dagster.recorder.frames import Frame, Reader
from mm_dagster.recorder.log import QUARTER_NS, SECOND_NS, Log, files, quarter_of
from mm_dagster.recorder.seal import seal, unsealed
from mm_dagster_tests.books.plain_features import plain_walk, told
from mm_dagster_tests.books.recorded import binance_log
from mm_dagster_tests.kucoin import BOOK, Fault, KucoinServer, Request

T = TypeVar("T")
MARKETS = 20
START = datetime(2026, 2, 3, 12, tzinfo=UTC)
TICKS = 9
"""Of each kind that are counted."""
MESSAGES, ROUNDS = 120_000, 7
"""Of the log: messages a round, and rounds of each kind."""
FEATURE_ROUNDS = 3
"""Of each kind."""
RATE = 1000
"""Messages a second of their own clock."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
WITHOUT = dg.define_asset_job(
    "tick_without_books",
    selection=automation.tick.selection - dg.AssetSelection.assets("book_snapshot"),
    executor_def=dg.in_process_executor,
)


class Slow(KucoinServer):
    """A KuCoin that takes its time for each answer.

    Attributes:
        seconds: how much.
    """

    seconds = 0.0

    def _answer(self, request: Request) -> Fault:
        time.sleep(self.seconds)
        return super()._answer(request)


def configure(folder: Path, exchange: KucoinServer) -> None:
    """A wide grid on each market, a week old."""
    (folder / "grids").mkdir(parents=True)
    markets = {
        "venues": {"main": {"kind": "ccxt", "exchange": "kucoin", "api_url": exchange.url}},
        "markets": [{"symbol": symbol, "venue": "main"} for symbol in exchange.candles],
    }
    (folder / "markets.yaml").write_text(yaml.safe_dump(markets))
    for symbol in exchange.candles:
        grid = {
            "id": symbol.lower(), "symbol": symbol, "activated_at": iso(START - timedelta(days=7)), "lower": 1e-4,
            "upper": 1e6, "levels": 20, "spacing": "geometric", "stop": 1e-5, "capital": 1000,
        }  # fmt: skip
        (folder / "grids" / f"{symbol}.yaml").write_text(yaml.safe_dump(grid))


def tick(exchange: KucoinServer, data: Path, as_of: datetime, *, books: bool) -> dict[str, float]:
    """Seconds from the start of a run to the commit of its exit states and to its end, and those of each step."""
    exchange.now = as_of + timedelta(minutes=1)
    exchange.requests.clear()
    job = dg.Definitions.merge(defs(), dg.Definitions(jobs=[WITHOUT])).resolve_job_def(
        "tick" if books else WITHOUT.name
    )
    with dg.DagsterInstance.ephemeral() as instance:
        config = {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}, **QUIET}
        done = job.execute_in_process(instance=instance, run_config=config, partition_key=partition_of(as_of))
        (run,) = instance.get_run_records(dg.RunsFilter(run_ids=[done.run_id]))
        steps = {one.step_key: one.end_time - one.start_time for one in instance.get_run_step_stats(done.run_id)}
    assert exchange.count(BOOK) == (MARKETS if books else 0)
    commits = Lake(data / "history").snapshots()
    mine = commits.filter(
        pl.col("commit_extra_info").str.contains(done.run_id, literal=True),
        pl.col("commit_message").str.starts_with("exit_state"),
    )
    committed = mine["snapshot_time"].max().timestamp()  # type: ignore[union-attr]
    return {
        **steps,
        "exit_state committed": committed - run.start_time,
        "whole run": run.end_time - run.start_time,
    }


def measure(seconds: float, ticks: int) -> dict[bool, list[dict[str, float]]]:
    """Ticks with books and without, in turn, on an exchange that takes so long for each answer."""
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    span = Span(START - timedelta(days=70), START + timedelta(days=2))
    candles = {
        symbol: simulate(symbol, span).with_columns(pl.col("open_time").cast(TIME))
        for symbol in (f"C{number:02d}-USDT" for number in range(MARKETS))
    }
    with tempfile.TemporaryDirectory() as name, Slow(candles, START) as exchange:
        folder = Path(name)
        os.environ |= {"MM_CONFIG_DIR": f"{folder}/configuration", "MM_DATA_DIR": f"{folder}/data"}
        configure(folder / "configuration", exchange)
        # The first two fill the history, load kernels and caches, and are not counted.
        for number in range(2 * ticks + 2):
            exchange.seconds = seconds if number else 0.0
            one = tick(exchange, folder / "data", START + number * BAR, books=number % 2 == 0)
            if number > 1:
                found[number % 2 == 0].append(one)
    return found


def payloads() -> list[bytes]:
    """Messages as a venue sends them."""
    recording = SHARED / "books" / "protocol" / "kucoin_spot_2021-04-25.parquet"
    if not recording.is_file():
        return [os.urandom(100 + number % 400) for number in range(4000)]
    rows = pl.read_parquet(recording).filter((pl.col("source") == "ws") & (pl.col("payload").str.len_bytes() > 0))
    return [payload.encode() for payload in rows["payload"]]


def keep(folder: Path, messages: list[bytes], beside: Executor | None = None) -> tuple[float, float]:
    """Seconds of the processor and of the clock that the log takes for its messages."""
    now = quarter_of(time.time_ns())
    log = Log(folder, lambda: b"", lambda: now, beside=beside, has_status=beside is None)
    began, began_cpu = time.perf_counter(), time.process_time()
    for payload in messages:
        now += SECOND_NS // RATE
        log.append("BTC-USDT level2", payload, now)
    log.close()
    return time.process_time() - began_cpu, time.perf_counter() - began


def append(path: Path, written: list[bytes]) -> tuple[float, float]:
    """Seconds of the processor and of the clock that appending the same bytes takes."""
    now = synced = 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    began, began_cpu = time.perf_counter(), time.process_time()
    for data in written:
        now += SECOND_NS // RATE
        os.write(file, data)
        if now - synced >= SECOND_NS:
            os.fdatasync(file)
            synced = now
    os.fdatasync(file)
    taken = time.process_time() - began_cpu, time.perf_counter() - began
    os.close(file)
    return taken


def frames_written(folder: Path) -> list[bytes]:
    """The bytes of each message's frame in a log."""
    found = []
    for file in files(folder):
        data = file.path.read_bytes()
        sizes = [22 + len(one.stream.encode()) + len(one.payload) for one in _read(file.path)]
        place = 24
        for size in sizes:
            found.append(data[place : place + size])
            place += size
    return found


def _read(path: Path) -> list[Frame]:
    with path.open("rb") as file:
        return list(Reader(file))


def measure_log() -> Table:
    """The log beside a bare append; and sealing beside real time."""
    table = Table(title=f"a message of the log, microseconds: median of {ROUNDS} rounds of {MESSAGES:,} (least, most)")
    for name in ("", "bare append", "log", "times", "disk beside", "times"):
        table.add_column(name, justify="left" if not name else "right")
    sample = payloads()
    messages = [sample[number % len(sample)] for number in range(MESSAGES)]
    found: dict[str, list[tuple[float, float]]] = {"append": [], "log": [], "beside": []}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as beside:
        folder = Path(name)
        keep(folder / "first", messages)
        written = frames_written(folder / "first")
        assert len(written) == MESSAGES + 1  # the book
        for number in range(ROUNDS):
            found["append"].append(append(folder / f"bare {number}", written[1:]))
            found["log"].append(keep(folder / f"log {number}", messages))
            found["beside"].append(keep(folder / f"beside {number}", messages, beside))
        for place, said in enumerate(("processor", "clock, with the disk")):
            bare, here, aside = ([1e6 * one[place] / MESSAGES for one in found[kind]] for kind in found)
            least = statistics.median(bare)
            shown = [(_shown(times), f"{statistics.median(times) / least:.2f}") for times in (here, aside)]
            table.add_row(said, _shown(bare), *shown[0], *shown[1])
        size = sum(len(one) for one in written) / len(written)
        table.add_row("bytes a message", "", f"{size:.0f}", f"{size / statistics.mean(map(len, messages)):.2f}")
        table.add_row(*sealing(folder / "sealed", sample))
    return table


def sealing(folder: Path, sample: list[bytes]) -> tuple[str, str, str, str]:
    """A line on a quarter hour of one market at a hundred messages a second, sealed."""
    now = quarter_of(time.time_ns())
    log = Log(folder / "log", lambda: b"", lambda: now)
    rate = 100
    for number in range(rate * QUARTER_NS // SECOND_NS):
        now += SECOND_NS // rate
        log.append("BTC-USDT level2", sample[number % len(sample)], now)
    now += SECOND_NS
    log.beat()
    log.close()
    began, began_cpu = time.perf_counter(), time.process_time()
    (row,) = (
        seal("BTC-USDT", folder / "log", folder / "segments", one)
        for one in unsealed(folder / "log", folder / "segments")
    )
    taken, taken_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    assert row.is_complete
    said = f"{row.messages:,} messages of 15 minutes sealed, seconds (of the processor); times real time"
    return said, "", f"{taken:.2f} ({taken_cpu:.2f})", f"{900 / taken:.0f}"


def measure_features() -> Table:
    """The tape of a recorded market, and the walk through a window of it beside a plain one."""
    table = Table(title="features of Binance's BTC-USDT, seconds of the processor: median (least, most)")
    for name in ("", "messages or rows", "seconds", "a second"):
        table.add_column(name, justify="left" if not name else "right")
    folder = SHARED / "l2" / "binance" / "BTC-USDT"
    if not folder.is_dir():
        table.add_row("MM_SHARED_DATA has no recorded books", "", "", "")
        return table
    frames = binance_log(folder, "binance")
    found: dict[str, list[float]] = {"tape": [], "plain": [], "compiled": [], "row": []}
    for _ in range(FEATURE_ROUNDS):
        tape = _timed(found["tape"], lambda: tape_of(frames))
    start_ns, until_ns = int(tape.spans[0, 0]), tape.until_ns
    end_ns = start_ns + 120 * SECOND_NS
    told(walk(tape, start_ns, end_ns, 5))  # compiled, or read from the disk
    for _ in range(FEATURE_ROUNDS):
        plain = _timed(found["plain"], lambda: plain_walk(tape, start_ns, end_ns, 5))
        compiled = _timed(found["compiled"], lambda: walk(tape, start_ns, end_ns, 5))
        if told(plain) != told(compiled):
            raise SystemExit("the compiled walk found something else than the plain one")
        _timed(found["row"], lambda: measure_features_of(tape, start_ns, until_ns, 5))
    rows = int(np.searchsorted(tape.rows[:, 0], end_ns))
    for name, said, count in (
        ("tape", "messages to a tape", len(frames)),
        ("plain", "two minutes, plain", rows),
        ("compiled", "two minutes, compiled", rows),
        ("row", f"a row of {(until_ns - start_ns) / 60 / SECOND_NS:.0f} minutes", len(tape.rows)),
    ):
        table.add_row(said, f"{count:,}", _shown3(found[name]), f"{count / statistics.median(found[name]):,.0f}")
    times = statistics.median(found["plain"]) / statistics.median(found["compiled"])
    table.add_row("compiled, times plain; the same whole numbers", "", f"{times:.0f}", "")
    return table


def _timed(taken: list[float], work: Callable[[], T]) -> T:
    began = time.process_time()
    found = work()
    taken.append(time.process_time() - began)
    return found


def _shown3(times: list[float]) -> str:
    return f"{statistics.median(times):.3f} ({min(times):.3f}, {max(times):.3f})"


def measure_tick(ticks: int) -> Table:
    """Ticks with books and without them."""
    table = Table(title=f"{MARKETS} markets and grids, loopback KuCoin; seconds, median of {ticks} (least, most)")
    for name in ("", "without books", "with books", "more"):
        table.add_column(name, justify="left" if not name else "right")
    for latency in (0.0, 0.15):
        found = measure(latency, ticks)
        said = f", {latency * 1000:.0f} ms an answer" if latency else ", at once"
        for row in ("exit_state committed", "book_snapshot", "whole run"):
            without, with_books = ([one[row] for one in found[kind] if row in one] for kind in (False, True))
            medians = [statistics.median(times) if times else 0.0 for times in (without, with_books)]
            more = f"{medians[1] / medians[0] - 1:+.1%}" if medians[0] else ""
            table.add_row(row + said, *(_shown(times) for times in (without, with_books)), more)
    return table


def main() -> None:
    """Prints the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--ticks", type=int, default=TICKS, help="of each kind")
    arguments.add_argument("--part", choices=("log", "path", "memory", "features", "tick"), help="only this one")
    given = arguments.parse_args()
    parts: dict[str, Callable[[], Table]] = {
        "log": measure_log,
        "path": paths,
        "memory": memory,
        "features": measure_features,
        "tick": lambda: measure_tick(given.ticks),
    }
    for name, measured in parts.items():
        if given.part in (None, name):
            Console(width=110 if not sys.stdout.isatty() else None).print(measured())


def _shown(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f}, {max(times):.2f})" if times else ""


if __name__ == "__main__":
    main()
