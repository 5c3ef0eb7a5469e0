"""Markets at their worst: no infinity but in half-lives, no silent nonsense, and sight comes back soon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR, Span
from mm_dagster.config.regime import RegimeConfig
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import features, verdict
from mm_dagster.regime.features import definitions
from mm_dagster.tables.regime import HYSTERESIS_BARS, WARMUP_BARS, RegimeFeatures, RegimeVerdict
from mm_dagster_tests.regime.markets import PRICES, random_walk, real, without

VOL, REGIME = VolatilityConfig(), RegimeConfig()
START = datetime(2025, 1, 1, tzinfo=UTC)
ASKED = 40
NAMES = [name for one in definitions(VOL) for names in one.columns.values() for name in names]
INPUTS = [*verdict._TREND_INPUTS, *verdict._TREND_INPUTS_4H, *verdict._OTHER_INPUTS]


def decided(candles: pl.DataFrame, span: Span) -> tuple[pl.DataFrame, pl.DataFrame]:
    found = features.compute(candles, span.back(HYSTERESIS_BARS - 1), VOL)
    return found.filter(span.closes()), verdict.compute(found, span, REGIME)


def assert_sane(found: pl.DataFrame, verdicts: pl.DataFrame) -> None:
    """What must hold of every market, whatever it did."""
    stamps = {"config_hash": pl.lit("x"), "code_version": pl.lit("x"), "source": pl.lit("recorded:x")}
    RegimeFeatures.validate(found.with_columns(**stamps))
    RegimeVerdict.validate(verdicts.with_columns(**stamps))
    for name in NAMES:
        values = found[name].cast(pl.Float64).drop_nulls()
        assert not values.is_nan().any(), name
        assert name.startswith("half_life") or values.is_finite().all(), name
    blind = found.select(pl.any_horizontal(pl.col(INPUTS).is_null())).to_series()
    # An ATR of 0 divides the distance of the EMAs: it is unknown then.
    blind |= ((found["atr"] == 0.0) | (found["atr_4h"] == 0.0)).fill_null(True)
    assert verdicts["verdict"].is_null().to_list() == blind.to_list()
    assert verdicts["confidence"].is_null().to_list() == blind.to_list()


@settings(max_examples=12)
@given(
    st.sampled_from([1e-5, 1.0, 3e5]),
    st.integers(0, 2**32 - 1),
    st.floats(0.0, 0.5),
    st.sampled_from([0.0, 0.001, 0.05, 0.5]),
    st.sampled_from([0.0, 1e-4, 0.01, 1.0]),
    st.booleans(),
)
def test_whatever_the_market_does_each_feature_is_sane(
    price: float, seed: int, flat: float, missing: float, jumps: float, rounded: bool
) -> None:
    random = np.random.default_rng(seed)
    bars = WARMUP_BARS + HYSTERESIS_BARS + ASKED
    size = random.normal(0.0, 0.003, bars) * (random.random(bars) > flat)
    size += random.normal(0.0, 1.0, bars) * (random.random(bars) < jumps)
    close = price * np.exp(np.clip(np.cumsum(size), -8.0, 8.0))
    if rounded:
        # To the tick: most bars then close where the one before did.
        close = np.maximum(np.round(close / (price * 0.01)), 1.0) * (price * 0.01)
    opens = np.concatenate([[close[0]], close[:-1]])
    spread = 1.0 + random.exponential(0.001, bars) * (random.random(bars) > flat)
    columns = [
        opens,
        np.maximum(opens, close) * spread,
        np.minimum(opens, close) / spread,
        close,
        random.lognormal(3.0, 3.0, bars) * (random.random(bars) > flat),
    ]
    lost = random.random(bars) < missing
    candles = pl.DataFrame(
        {"open_time": Span(START, START + bars * BAR).open_times(), **dict(zip(PRICES, columns, strict=True))}
    ).with_columns(
        pl.lit("WILD-USDT").alias("symbol"),
        *(pl.when(pl.Series(~lost)).then(pl.col(name)).alias(name) for name in PRICES),
    )
    end = START + bars * BAR
    assert_sane(*decided(candles, Span(end - ASKED * BAR, end)))


@pytest.mark.parametrize("price", [1e-5, 3e5])
def test_a_price_of_any_size_gives_the_same_verdicts(price: float) -> None:
    bars = WARMUP_BARS + HYSTERESIS_BARS + 600
    span = Span(START + (bars - 600) * BAR, START + bars * BAR)
    one = decided(random_walk(START, bars), span)[1]
    other = decided(random_walk(START, bars, price=price), span)[1]
    assert one["verdict"].null_count() == 0
    assert other["verdict"].to_list() == one["verdict"].to_list()
    assert np.allclose(other["confidence"].to_numpy(), one["confidence"].to_numpy(), atol=1e-9)


def test_a_day_without_a_trade_is_seen_through(shared_data: Path) -> None:
    candles = real(shared_data)
    start = datetime(2025, 9, 10, tzinfo=UTC)
    quiet = Span(start, start + timedelta(days=1)).opens()
    last = pl.col("close").filter(pl.col("open_time") == start - BAR).first()
    still = candles.with_columns(
        *(pl.when(quiet).then(last).otherwise(pl.col(name)).alias(name) for name in PRICES[:4]),
        volume=pl.when(quiet).then(0.0).otherwise(pl.col("volume")),
    )
    week = Span(start, start + timedelta(days=7))
    found, verdicts = decided(still, week)
    assert_sane(found, verdicts)
    after = found.filter(pl.col("as_of") == start + timedelta(days=1))
    assert after["atr"].item() == 0.0
    assert after["volume_24h"].item() == 0.0
    assert after["efficiency_ratio"].item() > 0.0
    # No true range in 14 hours leaves nothing to measure the distance of the EMAs by; an hour later there is.
    seen = verdicts.filter(pl.col("as_of") > start + timedelta(hours=26))
    assert seen["verdict"].null_count() == 0


@pytest.mark.parametrize("minute", [0, 15, 30, 45])
def test_one_missing_candle_blinds_for_less_than_four_days(shared_data: Path, minute: int) -> None:
    lost = datetime(2025, 9, 3, 7, minute, tzinfo=UTC)
    span = Span(lost, lost + timedelta(days=60))
    candles = real(shared_data)
    found, verdicts = decided(without(candles, Span(lost, lost + BAR)), span)
    assert_sane(found, verdicts)
    blind = verdicts.filter(pl.col("verdict").is_null())["as_of"]
    assert decided(candles, span)[1]["verdict"].null_count() == 0
    soon = blind.filter(blind <= lost + timedelta(hours=92))
    assert soon.len() <= 92 * 4
    # Four more hours when the lost bar is the far end of the efficiency ratio's 40 4-hour returns.
    late = blind.filter(blind > lost + timedelta(hours=92))
    assert late.len() <= 16
    assert late.is_empty() or late[0] > lost + timedelta(hours=160)
    assert late.is_empty() or late[-1] <= lost + timedelta(hours=164, minutes=15)


def test_after_a_week_without_candles_the_verdict_comes_back_with_its_windows(shared_data: Path) -> None:
    start = datetime(2025, 7, 1, tzinfo=UTC)
    hole = Span(start, start + timedelta(days=7))
    candles = without(real(shared_data), hole)
    span = Span(start, start + timedelta(days=70))
    found, verdicts = decided(candles, span)
    assert_sane(found, verdicts)
    known = verdicts.filter(pl.col("verdict").is_not_null())["as_of"]
    assert known[0] > hole.end
    back = hole.end + WARMUP_BARS * BAR
    assert verdicts.filter(pl.col("as_of") > back)["verdict"].null_count() == 0


def test_a_half_life_is_infinite_where_the_price_never_comes_back_and_the_verdict_knows_it(shared_data: Path) -> None:
    found, verdicts = decided(
        real(shared_data), Span(datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))
    )
    endless = found["half_life"].is_infinite()
    assert endless.any()
    assert verdicts.filter(endless)["mean_reversion_score"].null_count() == 0
