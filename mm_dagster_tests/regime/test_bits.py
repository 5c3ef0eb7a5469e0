"""The same bits however the history is cut: on a sample of the real candles, and on all in `make test-long`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config.regime import RegimeConfig
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import features, verdict
from mm_dagster.tables.regime import HYSTERESIS_BARS, WARMUP_BARS
from mm_dagster_tests.regime.markets import PRICES, bits, real, warm

SYMBOLS = ["AAVE", "ADA", "ALGO", "APT", "ATOM", "AVAX", "BTC", "ETH", "FIL", "LINK", "NEAR", "SOL", "SUI", "UNI"]
DAY = timedelta(days=1)


def whole(candles: pl.DataFrame) -> Span:
    return Span(candles["open_time"].min(), candles["close_time"].max())


def decided(candles: pl.DataFrame, span: Span) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Features and verdicts of a span, as a backfill of it finds them."""
    lead = span.back(HYSTERESIS_BARS - 1)
    found = features.compute(candles, lead, VolatilityConfig())
    return found.filter(span.closes()), verdict.compute(found, span, RegimeConfig())


def days(span: Span) -> Iterator[Span]:
    start = span.start.replace(hour=0, minute=0)
    while start < span.end:
        yield Span(max(start, span.start), min(start + DAY, span.end))
        start += DAY


def differing(one: pl.DataFrame, other: pl.DataFrame) -> list[str]:
    """Columns that do not hold the same bits."""
    assert one.columns == other.columns
    return [name for name in one.columns if bits(one.select(name)) != bits(other.select(name))]


def assert_partitions_equal_one_run(candles: pl.DataFrame, every: int) -> None:
    """Day by day, each from its own warm-up, against one run over all; `every` so many days one is compared."""
    run = decided(candles, whole(candles))
    for number, day in enumerate(days(whole(candles))):
        if number % every == 0:
            lead = day.back(HYSTERESIS_BARS - 1)
            for part, table in zip(decided(warm(candles, lead), day), run, strict=True):
                assert part.height == day.bars
                assert differing(part, table.filter(day.closes())) == [], day


def corrupted(candles: pl.DataFrame, cut: datetime, random: np.random.Generator) -> pl.DataFrame:
    """The same up to the cut, and then prices gone wild: tiny and huge ones, holes, no volume."""
    future = pl.col("open_time") >= cut
    factor = pl.Series(np.exp(random.normal(0.0, 4.0, candles.height)))
    hole = pl.Series(random.random(candles.height) < 0.2)
    return candles.with_columns(
        pl.when(future & hole).then(None).when(future).then(pl.col(name) * factor).otherwise(pl.col(name)).alias(name)
        for name in PRICES
    )


def assert_no_cut_is_seen_through(candles: pl.DataFrame, cuts: int) -> None:
    random = np.random.default_rng(11)
    run = decided(candles, whole(candles))
    for place in random.integers(WARMUP_BARS, candles.height, cuts):
        cut = candles["open_time"][int(place)]
        past = pl.col("as_of") <= cut
        found = decided(corrupted(candles, cut, random), whole(candles))
        for part, table in zip(found, run, strict=True):
            assert differing(part.filter(past), table.filter(past)) == [], cut
            assert differing(part, table) != []


def test_days_alone_equal_one_run_over_all_of_them(shared_data: Path) -> None:
    assert_partitions_equal_one_run(real(shared_data, "SOL-USDT"), every=45)


@pytest.mark.slow
def test_what_comes_after_a_cut_changes_nothing_before_it(shared_data: Path) -> None:
    assert_no_cut_is_seen_through(real(shared_data, "SOL-USDT"), cuts=4)


@pytest.mark.long
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_day_of_every_market_alone_equals_one_run(shared_data: Path, symbol: str) -> None:
    assert_partitions_equal_one_run(real(shared_data, f"{symbol}-USDT"), every=1)


@pytest.mark.long
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_nothing_after_any_of_fifty_cuts_is_seen_in_any_market(shared_data: Path, symbol: str) -> None:
    assert_no_cut_is_seen_through(real(shared_data, f"{symbol}-USDT"), cuts=50)


@pytest.mark.long
def test_every_bar_of_a_week_on_history_cut_at_it_equals_one_run(shared_data: Path) -> None:
    candles = real(shared_data, "ETH-USDT")
    week = Span(datetime(2025, 10, 6, tzinfo=UTC), datetime(2025, 10, 13, tzinfo=UTC))
    run = decided(candles, week)
    for close in week.open_times() + BAR:
        bar = Span(close - BAR, close)
        for part, table in zip(decided(candles.filter(pl.col("open_time") < close), bar), run, strict=True):
            assert differing(part, table.filter(bar.closes())) == []
    assert week.bars == 7 * DAY_BARS


def test_a_changed_bit_is_seen(shared_data: Path) -> None:
    candles = real(shared_data, "SOL-USDT")
    found, _ = decided(candles, Span(datetime(2025, 5, 5, tzinfo=UTC), datetime(2025, 5, 6, tzinfo=UTC)))
    changed = found.with_columns(
        adx=pl.Series([np.nextafter(found["adx"][0], 100.0), *found["adx"][1:]]),
    )
    assert differing(found, changed) == ["adx"]
