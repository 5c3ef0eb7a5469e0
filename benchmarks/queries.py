"""Analysts' ten queries over three years of 20 markets, while a writer commits ticks: `make bench`.

The rows are SYNTHETIC: random numbers in the shape of the tables, every market for every quarter hour, 20 grids that
run all the time, one activation every two months. `python -m benchmarks.queries FOLDER` keeps the lake for the next
time.
"""

from __future__ import annotations

import multiprocessing as mp
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.exit.triggers import TRIGGERS
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.history.places import Place
from mm_dagster.history.questions import QUESTIONS
from mm_dagster.tables import registry
from mm_dagster.tables.words import POSITION_HEALTH, STATES, VERDICTS

MARKETS = ["BTC-USDT", "ETH-USDT", "SOL-USDT", *(f"C{number:02d}-USDT" for number in range(3, 20))]
YEARS = Span(datetime(2023, 7, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
ACTIVATION = timedelta(days=60)
ALERTS_A_MONTH = 40
REPEATS = 20
TICK_SECONDS = 1.0
TARGET_MS = 100
SYNTHETIC = Commit("benchmark", "SYNTHETIC", "random numbers")


def build(folder: Path, markets: list[str], years: Span) -> None:
    """A lake full of synthetic rows, month by month, and its upkeep done."""
    lake = Lake(folder)
    for month in years.months():
        for table, rows in synthetic(month, markets, years.start).items():
            if registry.time_column(table):
                lake.write(table, rows, span=month, commit=SYNTHETIC)
            else:
                lake.upsert(table, rows, commit=SYNTHETIC)
    lake.maintain(keep_days=30)


def synthetic(month: Span, markets: list[str], start: datetime) -> dict[str, pl.DataFrame]:
    """Rows of the tables for the bars of a month, one grid on each market; the same for the same month.

    Args:
        month: the bars.
        markets: the symbols.
        start: of the first activation; a grid is activated again every two months.
    """
    random = np.random.default_rng(int(month.start.timestamp()))
    bars, n = month.bars, month.bars * len(markets)
    # One row for each market and bar, market by market.
    key = pl.DataFrame(
        {
            "symbol": pl.Series(markets).gather(np.repeat(np.arange(len(markets)), bars)),
            "open_time": month.open_times().gather(np.tile(np.arange(bars), len(markets))),
        }
    )
    as_of = (pl.col("open_time") + BAR).alias("as_of")
    written = {"config_hash": pl.lit("SYNTHETIC"), "code_version": pl.lit("1")}
    walk = np.exp(np.cumsum(random.normal(0, 2e-3, (len(markets), bars)), axis=1)).ravel()
    close = pl.Series("close", (100 * walk).round(4))
    known = pl.Series(random.random(n) >= 1e-3)
    candles = key.with_columns(
        close_time=as_of, status=pl.when(known).then(pl.lit("TRADED")).otherwise(pl.lit("MISSING")),
        open=pl.when(known).then(close), high=pl.when(known).then(close * 1.002),
        low=pl.when(known).then(close * 0.998), close=pl.when(known).then(close),
        volume=pl.when(known).then(pl.Series(random.random(n).round(3))),
        venue=pl.lit("synthetic"), observed_at=as_of + timedelta(seconds=66), **written,
    )  # fmt: skip
    decided = key.select("symbol", as_of).with_columns(**written)
    verdict = _words(random, VERDICTS, len(markets), bars)
    days = (pl.col("as_of") - BAR - start).dt.total_days() // ACTIVATION.days * ACTIVATION.days
    running = decided.with_columns(
        grid_id=pl.col("symbol").str.split("-").list.first().str.to_lowercase() + "-range",
        activated_at=(pl.lit(start) + pl.duration(days=days)).cast(TIME),
    )
    state = _words(random, STATES, len(markets), bars)
    states = running.with_columns(
        complete=True, state=state, raw_state=state, literal_state=state, since="as_of",
        triggers=_triggers(random, n), nearest=_sentences(2, n), recommended_window_minutes=240,
        advice=pl.lit("Be ready to stop the grid, and look again within 240 minutes: Transition or trend: 77 %."),
    )  # fmt: skip
    health = _words(random, POSITION_HEALTH, len(markets), bars)
    risk = running.with_columns(
        price=close, position_health=health, stop_loss_risk=pl.lit("SAFE"), risk_level=pl.lit("LOW"),
        source=pl.lit("MODELLED"), recommendations=_sentences(1, n),
    )  # fmt: skip
    resting = decided.head(bars).with_columns(
        grid_id=pl.lit("btc-next"), advice=pl.lit("WAIT"), reasons=_sentences(4, bars)
    )
    return {
        "candles": registry.conform(candles, "candles"),
        "regime_features": _filled("regime_features", decided.with_columns(close), random),
        "regime_verdict": _filled("regime_verdict", decided.with_columns(verdict=verdict, raw_verdict=verdict), random),
        "grid_episode": _filled("grid_episode", _episodes(running, start), random),
        "grid_risk": _filled("grid_risk", risk, random),
        "exit_state": registry.conform(states, "exit_state"),
        "entry_assessment": _filled("entry_assessment", resting, random),
        **_alerts(running, random),
    }


def _filled(table: str, rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """The rows with random numbers in the columns that they lack; texts and times stay null."""
    numbers: dict[str, Any] = {}
    for name, dtype in registry.dtypes(table).items():
        if name not in rows.columns and dtype == pl.Float64:
            numbers[name] = random.random(rows.height)
        elif name not in rows.columns and dtype == pl.Int64:
            numbers[name] = random.integers(0, 9, rows.height)
    return registry.conform(rows.with_columns(**{name: pl.Series(values) for name, values in numbers.items()}), table)


def _words(random: np.random.Generator, words: Sequence[str], markets: int, bars: int) -> pl.Series:
    """A word for each row, which stays for four hours on average."""
    changes = np.cumsum(random.random((markets, bars)) < 1 / 16, axis=1)
    chosen = random.integers(0, len(words), (markets, bars + 1))
    rows = np.arange(markets)[:, None]
    return pl.Series(words).gather(chosen[rows, changes].ravel())


def _triggers(random: np.random.Generator, n: int) -> pl.Series:
    """All triggers with value, threshold and fired, for each of n rows."""
    count = len(TRIGGERS)
    order = np.tile(np.arange(count), n)
    flat = pl.DataFrame(
        {
            "name": pl.Series([one.name for one in TRIGGERS]).gather(order),
            "family": pl.Series([one.family for one in TRIGGERS]).gather(order),
            "level": pl.Series([one.level for one in TRIGGERS]).gather(order),
            "value": random.random(n * count),
            "threshold": np.tile(np.linspace(0.1, 0.9, count), n),
            "fired": random.random(n * count) < 0.1,
        }
    )
    return flat.to_struct("triggers").reshape((n, count)).arr.to_list()


def _sentences(count: int, n: int) -> pl.Series:
    words = [f"Break below the grid within {24 + number} h: 10 % (fires at 35 %)" for number in range(count)]
    return pl.Series([words]).gather(np.zeros(n, np.int64))


def _episodes(running: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """The activations that began with the rows, the older ones closed by them."""
    seen = running.unique(["grid_id", "activated_at"]).select("grid_id", "activated_at", "symbol")
    newest = pl.col("activated_at") + ACTIVATION >= YEARS.end
    return seen.with_columns(
        enabled=True, level_convention=pl.lit("intervals"), spacing=pl.lit("geometric"), fee_paid_in=pl.lit("quote"),
        first_seen="activated_at", closed_at=pl.when(~newest).then(pl.col("activated_at") + ACTIVATION),
        closed_by=pl.when(~newest).then(pl.lit("reactivated")),
    )  # fmt: skip


def _alerts(running: pl.DataFrame, random: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Some alerts of the month, half of them answered."""
    told = running.sample(min(ALERTS_A_MONTH, running.height), seed=1).select(
        "grid_id", "activated_at", "symbol", "as_of"
    )
    told = told.with_columns(
        alert_id=pl.concat_str("grid_id", pl.col("as_of").dt.to_string("%Y%m%d%H%M")),
        kind=pl.lit("ESCALATION"), state=pl.lit("WARNING"), state_since="as_of", priority=0, title=pl.lit("SYNTHETIC"),
        message=pl.lit("SYNTHETIC"), status=pl.lit("SENT"), attempts=1, created_at="as_of", sent_at="as_of",
    )  # fmt: skip
    answers = told.head(ALERTS_A_MONTH // 2).select(
        "alert_id", "grid_id", response_id="alert_id", at=pl.col("as_of") + timedelta(minutes=9),
        action=pl.lit("kept"), seconds_from_alert=540.0, within_window=True,
    )  # fmt: skip
    return {
        "notification": registry.conform(told, "notification"),
        "operator_response": registry.conform(answers, "operator_response"),
    }


def write_ticks(
    folder: Path, markets: list[str], begun: Any, ended: Any, ticks: Any, place: Place | None = None
) -> None:
    """Commits a tick's rows of every table once a second, until it is told to end."""
    lake = Lake(folder, place=place)
    bar = Span(YEARS.end, YEARS.end + BAR)
    while not ended.is_set():
        for table, rows in synthetic(bar, markets, YEARS.start).items():
            if registry.time_column(table):
                lake.write(table, rows, span=bar, commit=SYNTHETIC)
        ticks.value += 1
        begun.set()
        bar = Span(bar.end, bar.end + BAR)
        ended.wait(TICK_SECONDS)


def measure(lake: Lake) -> list[tuple[str, int, list[float]]]:
    """Question, rows of the answer, and milliseconds of each time it was asked; the first time does not count."""
    measured = []
    for question in QUESTIONS:
        taken = []
        for _ in range(REPEATS + 1):
            started = time.perf_counter()
            rows = lake.sql(question.query).height
            taken.append((time.perf_counter() - started) * 1000)
        measured.append((question.asked, rows, taken[1:]))
    return measured


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary) / "history"
        console = Console(width=100 if not sys.stdout.isatty() else None)
        if not folder.exists():
            started = time.perf_counter()
            build(folder, MARKETS, YEARS)
            console.print(f"the synthetic lake took {time.perf_counter() - started:.0f} s to build")
        lake = Lake(folder)
        console.print(lake.check())
        spawn = mp.get_context("spawn")
        begun, ended, ticks = spawn.Event(), spawn.Event(), spawn.Value("i", 0)
        writer = spawn.Process(target=write_ticks, args=(folder, MARKETS, begun, ended, ticks))
        writer.start()
        if not begun.wait(120):
            raise SystemExit("the writer did not commit a tick within two minutes")
        before, started = ticks.value, time.perf_counter()
        measured = measure(lake)
        written, seconds = ticks.value - before, time.perf_counter() - started
        ended.set()
        writer.join()
    table = Table(title=f"{len(MARKETS)} markets, 3 years (SYNTHETIC); milliseconds of {REPEATS} runs")
    for name in ("question", "rows", "median", "p95"):
        table.add_column(name, justify="left" if name == "question" else "right")
    for asked, rows, taken in measured:
        table.add_row(asked, str(rows), f"{statistics.median(taken):.0f}", f"{np.quantile(taken, 0.95):.0f}")
    console.print(table)
    console.print(
        f"meanwhile another process committed {written} ticks in {seconds:.0f} s; target: median < {TARGET_MS}"
    )


if __name__ == "__main__":
    main()
