"""Answers x moments: a dozen markets meet a dozen lies in one tick, and an hour later nothing of them may be left."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import polars as pl

from mm_dagster.bars import iso
from mm_dagster_tests.faults import spine
from mm_dagster_tests.faults.clockwork import computer_clock
from mm_dagster_tests.faults.exchange import MINUTE, Exchange, Series, at, recorded, shared_data, walked
from mm_dagster_tests.faults.judge import Result, Said, compare, compare_messages, said
from mm_dagster_tests.faults.lies import Liar, kinds
from mm_dagster_tests.faults.phone import Phone
from mm_dagster_tests.faults.spine import BAR, Grid

SYMBOLS = tuple(
    f"{name}-USDT"
    for name in ("AAVE", "ADA", "ALGO", "APT", "ATOM", "AVAX", "BTC", "ETH", "FIL", "LINK", "NEAR", "SOL", "SUI", "UNI")
)
BYSTANDERS = 2
"""Markets of a batch to which nothing is done: what happens to the others must not touch them."""
HEALTHY = 4
"""Honest ticks after a lie: an hour."""
SLOW_SECONDS = 60.0
"""What a tick may take in which a dozen markets lie, some of them by silence."""
BLIND_FROM = 3 * BAR
"""How long nothing may be known of a market before that is a reason to act."""


@dataclass(frozen=True)
class Moment:
    """When a lie is told.

    Attributes:
        name: as it is shown.
        as_of: the tick, UTC.
        since: quarter hours since the last one; 0: there was none.
    """

    name: str
    as_of: datetime
    since: int = 1


MOMENTS = (
    Moment("a calm morning", at("2025-09-10T10:00")),
    Moment("the crash begins", at("2025-10-10T21:00")),
    Moment("the crash", at("2025-10-10T21:15")),
    Moment("the day after", at("2025-10-11T06:00")),
    Moment("six hours without a tick", at("2025-09-10T16:00"), 24),
    Moment("the clocks go back", at("2025-10-26T01:00")),
    Moment("the first tick ever", at("2025-09-10T10:00"), 0),
)


@cache
def series() -> dict[str, Series]:
    """The true candles of all markets."""
    folder = shared_data()
    if folder is None:
        return {symbol: _fallen(walked(symbol, at("2025-06-01"), at("2025-11-01"))) for symbol in SYMBOLS}
    return {symbol: recorded(folder, symbol) for symbol in SYMBOLS}


def _fallen(one: Series) -> Series:
    """The same with a crash where the real ones have theirs."""
    bar = one.opens == int(at("2025-10-10T20:45").timestamp())
    values = one.values.copy()
    values[one.opens > one.opens[bar][0], :4] *= 0.84
    values[bar, 2:4] *= 0.84
    return Series(one.opens, values)


def grids(moment: Moment, symbols: Sequence[str] = SYMBOLS) -> list[Grid]:
    """A grid a market, begun a day and a half before the moment around the price of then."""
    begun = moment.as_of - 36 * timedelta(hours=1)
    price = {name: float(series()[name].until(int(begun.timestamp())).values[-1, 3]) for name in symbols}
    return [Grid(symbol.split("-")[0].lower(), symbol, begun, price[symbol]) for symbol in symbols]


@contextmanager
def running(moment: Moment, folder: Path, symbols: Sequence[str] = SYMBOLS) -> Iterator[tuple[Exchange, Phone, Path]]:
    """The exchange and the phone, a configuration, and the environment of a project below a folder."""
    with ExitStack() as stack:
        world = stack.enter_context(Exchange(series(), moment.as_of))
        phone = stack.enter_context(Phone())
        config = folder / "configuration"
        spine.configure(config, {symbol: world.url(symbol) for symbol in symbols}, grids(moment, symbols), phone.url)
        stack.enter_context(spine.surroundings(config, folder / "data"))
        spine._stages()
        stack.enter_context(computer_clock(lambda: world.now))
        yield world, phone, config


def scratch() -> Path:
    """A folder in memory, where there is one."""
    base = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="mm-faults-", dir=base if os.access(base, os.W_OK) else None))


@dataclass(frozen=True)
class Control:
    """An undisturbed run.

    Attributes:
        base: the project's data before the moment; None: there is none.
        rows: what was decided, an hour after the moment.
        said: the phone's messages until each tick from the moment on.
    """

    base: Path | None
    rows: dict[str, pl.DataFrame]
    said: list[Counter[Said]]


_STORE = Path(os.environ.get("MM_FAULTS_STORE") or tempfile.gettempdir()) / f"mm-faults-{os.getpid()}"


@cache
def control(moment: Moment, symbols: tuple[str, ...] = SYMBOLS) -> Control:
    """The undisturbed run of a moment; its folder serves all workers of a run."""
    name = f"{moment.name.replace(' ', '_')}-{len(symbols)}"
    store = Path(os.environ.get("MM_FAULTS_STORE") or _STORE) / name
    store.mkdir(parents=True, exist_ok=True)
    with (store / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (store / "done").exists():
            _run_control(moment, store, symbols)
            (store / "done").touch()
    rows = {name: pl.read_parquet(store / f"{name}.parquet") for name in spine.DECIDED}
    told = pl.read_parquet(store / "said.parquet")
    steps = [
        Counter({tuple(row[1:4]): row[4] for row in told.iter_rows() if row[0] == step})  # type: ignore[misc]
        for step in range(_steps(symbols))
    ]
    return Control(store / "base" if moment.since else None, rows, steps)


def _steps(symbols: Sequence[str]) -> int:
    """How many ticks an undisturbed run goes on: lies may last two, and heal for an hour; all else heals at once."""
    return HEALTHY + 2 if symbols == SYMBOLS else 2


def _run_control(moment: Moment, store: Path, symbols: tuple[str, ...]) -> None:
    data = store / "data"
    shutil.rmtree(data, ignore_errors=True)
    with running(moment, store, symbols) as (world, phone, config):
        if moment.since:
            before = moment.as_of - moment.since * BAR
            world.now = before + MINUTE
            spine.tick(config, data, before)
            spine.send(config, data)
            spine.respond(data, before)
            spine.close(data)
            shutil.rmtree(store / "base", ignore_errors=True)
            spine.copy(data, store / "base")
        phone.rings.clear()
        told = []
        for step in range(_steps(symbols)):
            as_of = moment.as_of + step * BAR
            world.now = as_of + MINUTE
            spine.tick(config, data, as_of)
            spine.send(config, data)
            now = said(phone.rings, spine.lake(data).read("notification"))
            told += [(step, *key, count) for key, count in now.items()]
        last = moment.as_of + (_steps(symbols) - 1) * BAR
        for name, rows in spine.rows(data, last).items():
            rows.write_parquet(store / f"{name}.parquet")
        columns = {"step": pl.Int64, "grid": pl.String, "kind": pl.String, "state": pl.String, "count": pl.Int64}
        pl.DataFrame(told, schema=columns, orient="row").write_parquet(store / "said.parquet")
        spine.close(data)
    shutil.rmtree(data)


@dataclass(frozen=True)
class Batch:
    """Lies that are told in one tick, each to another market."""

    moment: Moment
    seed: int
    lies: tuple[tuple[str, frozenset[int] | None, int], ...]
    """Which kind, which answers of it (None: all), and for how many ticks."""


def true_of_the_blind(ledger: pl.DataFrame, moment: Moment) -> list[Said]:
    """Messages that an undisturbed run never sends, and that are true: after hours without a tick, nothing is known.

    The escalation names the newest bar that is known, and that was so; the state comes down again once it is not.
    """
    newest = f"BLIND: the newest candle closed at {iso(moment.as_of - moment.since * BAR)}"
    if moment.since * BAR < BLIND_FROM:
        return []
    rows = ledger.filter(pl.col("created_at") >= moment.as_of).sort("created_at")
    said = pl.col("message").str.contains(newest.removeprefix("BLIND: "), literal=True)
    # Likewise where rows came that cannot be true: then it says of how many triggers nothing is known.
    said |= pl.col("message").str.contains(r"\d+ of \d+ triggers cannot be known")
    said &= pl.col("kind") == "ESCALATION"
    stopped = (pl.col("kind") == "BLIND") & (pl.col("as_of") == moment.as_of - moment.since * BAR)
    blind = rows.filter(said | stopped)
    after = rows.filter(pl.col("kind").is_in(["DEESCALATION", "RECOVERED"]))
    back = after.join(blind.select("grid_id"), on="grid_id", how="semi")
    return pl.concat([blind, back]).select("grid_id", "kind", "state").rows()


def since_the_first(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The rows that are no older than the first of an undisturbed run."""
    time = "open_time" if "open_time" in rows.columns else "as_of"
    return rows.filter(pl.col(time) >= known[time].min())


def batches(seed: int, rounds: int, only: str = "") -> list[Batch]:
    """Every kind of lie at every moment, `rounds` times, with a scope drawn each time."""
    rng = random.Random(seed)
    chosen = [kind for kind in kinds() if only in kind.name]
    found = []
    for moment in MOMENTS:
        for _ in range(1 if moment.since == 0 else rounds):
            lies = []
            for kind in chosen:
                scopes = [frozenset({0}), frozenset({0}), None, frozenset({rng.randrange(4)})]
                lies.append((kind.name, rng.choice(scopes), rng.choice([1, 1, 1, 2])))
            rng.shuffle(lies)
            many = len(SYMBOLS) - BYSTANDERS
            found += [
                Batch(moment, rng.randrange(10**6), tuple(lies[first : first + many]))
                for first in range(0, len(lies), many)
            ]
    return found


def run(batch: Batch) -> list[Result]:
    """Tells the lies, lets an hour pass, and says what is left of them."""
    known = control(batch.moment)
    folder = scratch()
    try:
        return _run(batch, known, folder)
    finally:
        spine.close(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)


def _run(batch: Batch, known: Control, folder: Path) -> list[Result]:
    rng = random.Random(batch.seed)
    symbols = list(SYMBOLS)
    rng.shuffle(symbols)
    by_name = {kind.name: kind for kind in kinds()}
    lies = [(by_name[name], times, ticks) for name, times, ticks in batch.lies]
    told = dict(zip(symbols, lies, strict=False))
    results = {
        symbol: Result(
            kind.name,
            f"venue:{batch.moment.name}:{batch.seed}:{symbol}:{kind.name}:"
            f"{'all' if times is None else min(times)}:{ticks}",
        )
        for symbol, (kind, times, ticks) in told.items()
    }
    for symbol in symbols[len(told) :]:
        results[symbol] = Result("a bystander of the above", f"venue:{batch.moment.name}:{batch.seed}:{symbol}")
    data = folder / "data"
    if known.base:
        spine.copy(known.base, data)
    with running(batch.moment, folder) as (world, phone, config):
        longest = max(ticks for *_, ticks in batch.lies)
        fitting = {symbol: Liar(kind, batch.seed, times) for symbol, (kind, times, _) in told.items()}
        settled: dict[str, int] = {}
        for step in range(longest + HEALTHY):
            as_of = batch.moment.as_of + step * BAR
            world.now = as_of + MINUTE
            world.changes = {symbol: fitting[symbol] for symbol, (*_, ticks) in told.items() if step < ticks}
            began = time.monotonic()
            for what in (spine.tick, spine.send):
                try:
                    what(*((config, data, as_of) if what is spine.tick else (config, data)))
                except Exception as error:
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    for symbol in told:
                        results[symbol].add(
                            "not foreseen",
                            1,
                            f"{type(error).__name__}: {str(error)[:120]} ({where.name}:{where.lineno})",
                        )
            if time.monotonic() - began > SLOW_SECONDS:
                for symbol, (kind, *_) in told.items():
                    if "drips" in kind.name:
                        results[symbol].add("not foreseen", 1, f"the tick took {time.monotonic() - began:.0f} s")
            final = step == longest + HEALTHY - 1
            repaired = spine.repair(config, data, world.now) if final and len(settled) < len(results) else 0
            found = spine.rows(data, as_of)
            if repaired:
                # A repair may know more of what lies before, than a tick ever asks for.
                found = {name: since_the_first(rows, known.rows[name]) for name, rows in found.items()}
            expected = {
                name: rows.filter((pl.col("close_time") if name == "candles" else pl.col("as_of")) <= as_of)
                for name, rows in known.rows.items()
            }
            ledger = spine.lake(data).read("notification")
            heard = said(phone.rings, ledger)
            for key in true_of_the_blind(ledger, batch.moment):
                heard.pop(key, None)
            for symbol, result in results.items():
                if symbol in settled or step < (told[symbol][2] if symbol in told else 0):
                    continue
                here = Result(result.kind, result.seed)
                compare(here, found, expected, [symbol])
                if not here.counts or final:
                    settled[symbol] = step
                    result.counts.update(here.counts)
                    result.notes += here.notes
                    late = step - (told[symbol][2] if symbol in told else 0)
                    if late and not here.counts:
                        by = f"{late} ticks after the next, and {repaired} repairs" if final else f"{late} ticks later"
                        result.add("healed later", 1, by)
            if len(settled) == len(results) and step >= longest:
                break
        steps = min(step, len(known.said) - 1)
        for symbol, result in results.items():
            mine = [symbol.split("-")[0].lower()]
            compare_messages(result, heard, known.said[steps], known.said[-1], mine)
        for symbol, (kind, *_) in told.items():
            if "40 MB" in kind.name and world.most_sent > 20_000_000:
                results[symbol].add("not foreseen", 1, f"{world.most_sent / 1e6:.0f} MB were read")
    return list(results.values())
