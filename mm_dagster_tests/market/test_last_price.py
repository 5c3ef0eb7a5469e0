"""A last price decides only where no bar contradicts it; a file brings what a venue keeps no more."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline import judge
from mm_dagster.pipeline.collect import ImportRefusedError, import_file
from mm_dagster.pipeline.judge import _doubt
from mm_dagster_tests.market.faulty import BEGIN, SYMBOL, Exchange, Watch, market


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    exchange = Exchange({SYMBOL: market(days=6)})
    exchange.time = BEGIN + timedelta(minutes=1)
    return Watch(tmp_path, exchange)


@pytest.mark.parametrize(
    ("price", "doubted", "pages"),
    [
        (1.0, False, 0),
        (0.001, True, 1),
        (1_000.0, True, 1),
        (0.0, True, 0),
        (-1.0, True, 0),
        (math.nan, True, 0),
        (None, True, 0),
    ],
)
def test_a_price_is_measured_by_the_bar_in_progress_only_where_it_would_matter(
    watch: Watch, price: float | None, doubted: bool, pages: int
) -> None:
    newest = watch.exchange.candles[SYMBOL].filter(pl.col("open_time") == BEGIN - BAR).row(0, named=True)
    grid = SimpleNamespace(symbol=SYMBOL, stop=newest["close"] * 0.9)
    job = watch.job(Span(BEGIN - BAR, BEGIN), BEGIN)
    said = None if price is None else price * newest["close"]
    doubt = _doubt(job, grid, said, newest, {})  # type: ignore[arg-type]
    assert (doubt is not None) == doubted
    assert len(watch.exchange.asked) == pages


def test_a_crash_in_the_bar_in_progress_is_believed(watch: Watch) -> None:
    candles = watch.exchange.candles[SYMBOL]
    newest = candles.filter(pl.col("open_time") == BEGIN - BAR).row(0, named=True)
    low = newest["close"] * 0.5
    crashed = candles.with_columns(low=pl.when(pl.col("open_time") == BEGIN).then(low).otherwise("low"))
    watch.exchange.candles = {SYMBOL: crashed}
    grid = SimpleNamespace(symbol=SYMBOL, stop=newest["close"] * 0.9)
    job = watch.job(Span(BEGIN - BAR, BEGIN), BEGIN)
    assert _doubt(job, grid, low, newest, {}) is None  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_file_is_taken_in_before_what_is_stored_and_refused_where_it_contradicts(
    watch: Watch, tmp_path: Path
) -> None:
    truth = watch.exchange.candles[SYMBOL]
    days = Span(BEGIN - timedelta(days=2, hours=12), BEGIN - timedelta(hours=12))
    watch.exchange.candles = {SYMBOL: truth.filter(pl.col("open_time") >= days.start)}
    watch.backfill(days)
    older = truth.filter(pl.col("open_time") < days.start + 10 * BAR)
    wrong = older.with_columns(pl.col(name) * 3 for name in ("open", "high", "low", "close"))
    older.write_parquet(tmp_path / "older.parquet")
    wrong.write_parquet(tmp_path / "wrong.parquet")
    job = watch.job(days, None)
    before = watch.candles()
    with pytest.raises(ImportRefusedError, match=r"wrong.parquet: \d+ bars contradict what is stored of ETH-USDT"):
        import_file(job, SYMBOL, tmp_path / "wrong.parquet")
    assert watch.candles().equals(before)
    bars, changed, _ = import_file(job, SYMBOL, tmp_path / "older.parquet")
    assert bars == older.height
    assert changed > 0
    stored = watch.lake.read("candles").filter(pl.col("status") == "TRADED")
    assert stored["open_time"].min() == older["open_time"].min()
    assert stored.select(truth.columns).equals(truth.filter(pl.col("open_time").is_in(stored["open_time"].to_list())))


@pytest.mark.parametrize(
    ("answers", "counts"),
    [
        ((0.8, 0.99), 0.99),
        ((0.8, 0.79), 0.79),
        ((0.8, None), 0.8),
        ((0.8, math.nan), 0.8),
        ((0.8, VenueError("no answer")), 0.8),
    ],
    ids=["not so", "lower still", "not said", "no number", "not answered"],
)
def test_a_price_below_the_stop_is_asked_for_once_more_and_kept_where_there_is_no_other(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, answers: tuple[float, float | VenueError | None], counts: float
) -> None:
    job = watch.job(Span(BEGIN - BAR, BEGIN), BEGIN)
    monkeypatch.setattr(judge, "_last_prices", lambda job, symbols: dict.fromkeys(symbols, answers[1]))
    assert judge._asked_again(job, SYMBOL, answers[0]) == counts
