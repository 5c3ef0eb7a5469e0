"""Sound bars: what is certain of them need not be looked at, and bars that are not sound are looked at."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import features
from mm_dagster.tables.regime import WARMUP_BARS
from mm_dagster_tests.regime.markets import PRICES, bits, random_walk, real, without

VOL = VolatilityConfig()
START = datetime(2024, 12, 30, tzinfo=UTC)
BARS = 4600
"""Enough for every window, and some days with all of them."""
Change = Callable[[pl.DataFrame], pl.DataFrame]


def walk(bars: int = BARS) -> pl.DataFrame:
    return random_walk(START, bars)


def with_prices(**columns: object) -> Change:
    return lambda candles: candles.with_columns(**{name: pl.lit(value) for name, value in columns.items()})


def times(factor: float) -> Change:
    return lambda candles: candles.with_columns(pl.col(name) * factor for name in PRICES[:4])


def alternating(candles: pl.DataFrame) -> pl.DataFrame:
    """As far up and down as sound prices go, from bar to bar."""
    price = pl.when(pl.int_range(pl.len()) % 2 == 0).then(1e49).otherwise(1e-49)
    return candles.with_columns(price.alias(name) for name in PRICES[:4])


def one_bar(number: int, **values: float | None) -> Change:
    here = pl.int_range(pl.len()) == number
    return lambda candles: candles.with_columns(
        pl.when(here).then(pl.lit(value, pl.Float64)).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def hole(candles: pl.DataFrame) -> pl.DataFrame:
    return without(candles, Span(START + 4000 * BAR, START + 4001 * BAR))


FLAT = dict.fromkeys(PRICES[:4], 0.1)
SOUND: dict[str, Change] = {
    "a walk": lambda candles: candles,
    "flat": with_prices(**FLAT),
    "flat and without volume": with_prices(**FLAT, volume=0.0),
    "as large as may be": times(1e46),
    "as small as may be": times(1e-50),
    "up and down": alternating,
    "large volumes": with_prices(volume=9e49),
    "one tick": one_bar(4000, open=1e-40, high=1e40, low=1e-45, close=1e-40),
}
NOT_SOUND: dict[str, Change] = {
    "a hole": hole,
    "a row that is not there": lambda candles: candles.filter(pl.int_range(pl.len()) != 4000),
    "the first one is MISSING": one_bar(0, close=None),
    "the first ones are MISSING": lambda candles: without(candles, Span(START, START + 4500 * BAR)),
    "the last one lacks": lambda candles: candles.head(BARS - 1),
    "a null": one_bar(4000, volume=None),
    "out of order": lambda candles: candles.reverse(),
    "twice": lambda candles: pl.concat([candles.head(10), candles]),
    "larger than may be": times(1e70),
    "smaller than may be": times(1e-70),
    "one price of 0": one_bar(4000, low=0.0),
    "one price below 0": one_bar(4000, close=-1.0),
    "one infinite volume": one_bar(4000, volume=np.inf),
    "volumes that add up to no number": with_prices(volume=1.7e308),
    "one volume below 0": one_bar(4000, volume=-1.0),
}
SPANS = {
    "the whole": Span(START, START + BARS * BAR),
    "the last days": Span(START + 4300 * BAR, START + BARS * BAR),
    "a tick": Span(START + (BARS - 1) * BAR, START + BARS * BAR),
}


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """What was certain of each series that was measured."""
    seen: list[frozenset[str]] = []
    columns = features._columns

    def watched(found, missing, short, certain):
        seen.append(certain)
        return columns(found, missing, short, certain)

    monkeypatch.setattr(features, "_columns", watched)
    return seen


def looked_at(candles: pl.DataFrame, span: Span, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    with monkeypatch.context() as patched:
        patched.setattr(features, "_CERTAIN", frozenset())
        return features.compute(candles, span, VOL)


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("name", SOUND)
def test_what_is_certain_of_sound_bars_is_what_a_look_finds(name, span, certain, monkeypatch):
    candles = SOUND[name](walk())
    found = features.compute(candles, SPANS[span], VOL)
    assert certain == [features._CERTAIN] * 3
    assert bits(found) == bits(looked_at(candles, SPANS[span], monkeypatch))
    last = found.select(sorted(features._CERTAIN)).row(-1)
    assert all(value is not None and np.isfinite(value) for value in last)


@pytest.mark.parametrize("name", NOT_SOUND)
def test_bars_that_are_not_sound_are_looked_at(name, certain):
    found = features.compute(NOT_SOUND[name](walk()), SPANS["the whole"], VOL)
    assert certain == [frozenset()] * 3
    assert not any(
        found[column].is_nan().any() or found[column].is_infinite().any()
        for column in features._CERTAIN
        if found.schema[column] == pl.Float64
    )


@pytest.mark.parametrize("bars", [1, 400, 400 + WARMUP_BARS - 200, 400 + WARMUP_BARS, 400 + WARMUP_BARS + 200])
def test_a_hole_up_to_the_first_bar_that_is_read_is_seen(bars, certain, monkeypatch):
    """The symbol has an older candle; between it and bar 400 of the span nothing is known."""
    begin = WARMUP_BARS + 1_000
    candles = walk(begin + 1_000)
    span = Span(START + begin * BAR, START + (begin + 1_000) * BAR)
    candles = without(candles, Span(START + (begin + 400 - bars) * BAR, START + (begin + 400) * BAR))
    found = features.compute(candles, span, VOL)
    assert certain == [frozenset()] * 3
    assert found["close"].null_count() == min(bars, 400)
    assert bits(found) == bits(looked_at(candles, span, monkeypatch))


def test_whatever_lacks_wherever_a_look_finds_what_was_certain(certain, monkeypatch):
    candles = walk(6_000)
    sound = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        first = int(random.choice([0, random.integers(6_000)]))
        hole = Span(START + first * BAR, START + (first + int(random.choice([1, 3, 200, 5_000]))) * BAR)
        lacking = without(candles, hole) if random.random() < 0.5 else candles.filter(~hole.opens())
        begin = random.choice([hole.start, hole.end, START + int(random.integers(6_000)) * BAR])
        span = Span(begin, begin + int(random.choice([1, 5, 40, 300])) * BAR)
        certain.clear()
        found = features.compute(lacking, span, VOL)
        sound += certain == [features._CERTAIN] * 3
        assert bits(found) == bits(looked_at(lacking, span, monkeypatch)), (seed, hole, span)
    assert 20 < sound < 180


def test_nothing_is_certain_of_a_shorter_warm_up(certain):
    features.compute(walk(), SPANS["a tick"], VOL, warmup_bars=WARMUP_BARS - 1)
    assert certain == [frozenset()] * 3


def test_one_symbol_with_a_hole_makes_its_neighbours_be_looked_at_and_changes_nothing(certain):
    other = walk().with_columns(pl.lit("OTHER-USDT").alias("symbol"))
    span = SPANS["the last days"]
    both = features.compute(pl.concat([hole(walk()), other]), span, VOL)
    assert certain == [frozenset()] * 3
    alone = features.compute(other, span, VOL)
    assert bits(both.filter(pl.col("symbol") == "OTHER-USDT")) == bits(alone)


def test_what_is_certain_of_a_real_market_is_what_a_look_finds(shared_data: Path, certain, monkeypatch):
    candles = real(shared_data)
    span = Span(candles["open_time"][0], candles["open_time"][-1] + BAR)
    found = features.compute(candles, span, VOL)
    assert certain == [features._CERTAIN] * 3
    assert bits(found) == bits(looked_at(candles, span, monkeypatch))
