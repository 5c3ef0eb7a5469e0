"""Features: what the textbook says, from their own window alone, and null where they are not known."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import features, terms
from mm_dagster.regime.features import definitions
from mm_dagster.tables.regime import WARMUP_BARS, RegimeFeatures
from mm_dagster_tests.regime import textbook
from mm_dagster_tests.regime.markets import PRICES, bits, random_walk, real, traded, warm, without

VOL = VolatilityConfig()
NAMES = [name for one in definitions(VOL) for columns in one.columns.values() for name in columns]


def at(as_of: datetime) -> Span:
    """The span of the one bar that closes then."""
    return Span(as_of - BAR, as_of)


def day(year: int, month: int, number: int) -> Span:
    start = datetime(year, month, number, tzinfo=UTC)
    return Span(start, start + timedelta(days=1))


def nulls(row: pl.DataFrame) -> set[str]:
    return {name for name in NAMES if row[name][0] is None}


@pytest.fixture(scope="module")
def eth(shared_data: Path) -> pl.DataFrame:
    return real(shared_data)


@pytest.fixture(scope="module")
def year(eth: pl.DataFrame) -> pl.DataFrame:
    """The features of the whole year, from one run."""
    return features.compute(eth, Span(eth["open_time"][0], eth["close_time"][-1]), VOL)


def base_bars(candles: pl.DataFrame, as_of: datetime) -> list[textbook.Bar]:
    rows = warm(candles, at(as_of)).sort("open_time").select(PRICES).rows()
    return [None if row[0] is None else row for row in rows]


def agrees(row: dict, expected: dict) -> list[str]:
    wrong = []
    for name in NAMES:
        mine, theirs = row[name], expected.get(name)
        same = mine is None if theirs is None else mine is not None and mine == pytest.approx(theirs, rel=1e-7)
        if not same:
            wrong.append(f"{name}: {mine} is not {theirs}")
    return wrong


@pytest.mark.parametrize("as_of", ["2025-03-03T07:15:00Z", "2025-08-14T00:00:00Z", "2025-10-10T21:30:00Z"])
def test_every_feature_is_what_the_textbook_says(eth, year, as_of):
    time = datetime.fromisoformat(as_of)
    row = year.filter(pl.col("as_of") == time).row(0, named=True)
    assert agrees(row, textbook.features(base_bars(eth, time), time)) == []


@pytest.mark.parametrize(("back", "bars"), [(1, 1), (30, 2), (700, 2), (1200, 20), (3000, 90)])
def test_every_feature_is_what_the_textbook_says_beside_a_hole(eth, back, bars):
    time = datetime(2025, 9, 20, 10, 45, tzinfo=UTC)
    candles = without(eth, Span(time - back * BAR, time - (back - bars) * BAR))
    row = features.compute(candles, at(time), VOL).row(0, named=True)
    assert agrees(row, textbook.features(base_bars(candles, time), time)) == []


def test_a_day_alone_has_the_same_bits_as_in_the_whole_year(eth, year):
    for span in (day(2025, 3, 1), day(2025, 7, 13), day(2025, 12, 27)):
        alone = features.compute(warm(eth, span), span, VOL)
        assert alone.height == DAY_BARS
        assert bits(alone) == bits(year.filter(span.closes()))


@pytest.mark.parametrize("minutes", range(0, 300, 15))
def test_a_quarter_hour_alone_has_the_same_bits_as_in_the_whole_year(eth, year, minutes):
    span = at(datetime(2025, 6, 1, 11, tzinfo=UTC) + timedelta(minutes=minutes))
    alone = features.compute(warm(eth, span), span, VOL)
    assert bits(alone) == bits(year.filter(span.closes()))


def test_the_year_in_unequal_pieces_has_the_same_bits_as_in_one(eth, year):
    start = datetime(2025, 4, 1, tzinfo=UTC)
    cuts = [start, start + 7 * BAR, start + 1000 * BAR, start + 1001 * BAR, start + 3003 * BAR]
    pieces = [features.compute(eth, Span(*pair), VOL) for pair in pairwise(cuts)]
    assert bits(pl.concat(pieces)) == bits(year.filter(Span(cuts[0], cuts[-1]).closes()))


def test_the_order_of_rows_does_not_matter(eth):
    span = day(2025, 5, 5)
    part = warm(eth, span)
    assert bits(features.compute(part.sample(fraction=1.0, shuffle=True, seed=1), span, VOL)) == bits(
        features.compute(part, span, VOL)
    )


def test_nothing_after_as_of_changes_anything(eth, year):
    now = datetime(2025, 8, 31, 13, 45, tzinfo=UTC)
    future = pl.col("open_time") >= now
    corrupted = eth.with_columns(
        *(pl.when(future).then(pl.col(name) * 7.0).otherwise(pl.col(name)).alias(name) for name in PRICES)
    )
    span = Span(now - 200 * BAR, now + 200 * BAR)
    seen = features.compute(corrupted, span, VOL)
    past = pl.col("as_of") <= now
    assert bits(seen.filter(past)) == bits(year.filter(span.closes() & past))
    assert bits(seen.filter(~past)) != bits(year.filter(span.closes() & ~past))


def test_two_symbols_in_a_frame_are_each_as_alone(shared_data, eth, year):
    span = day(2025, 11, 3)
    both = pl.concat([eth, real(shared_data, "ADA-USDT")])
    found = features.compute(both, span, VOL)
    assert found["symbol"].unique(maintain_order=True).to_list() == ["ADA-USDT", "ETH-USDT"]
    assert bits(found.filter(pl.col("symbol") == "ETH-USDT")) == bits(year.filter(span.closes()))


@pytest.mark.parametrize("sliced", [0, 5])
@pytest.mark.parametrize("names", [("A", "B"), ("A-NAME-OF-MORE-THAN-12", "A-NAME-OF-MORE-THAN-13"), ("", "ÄÖ-€")])
def test_a_symbol_may_have_any_name(eth, names, sliced):
    first, second = names
    one, other = eth.head(3_000), eth.slice(4_000, 2_000)
    named = [frame.with_columns(pl.lit(name).alias("symbol")) for frame, name in ((one, first), (other, second))]
    span = Span(eth["open_time"][5_900], eth["open_time"][6_000])
    found = features.compute(pl.concat([eth.head(sliced), *named]).slice(sliced), span, VOL)
    assert found["symbol"].unique(maintain_order=True).to_list() == sorted(names)
    alone = features.compute(other, span, VOL)
    assert bits(found.filter(pl.col("symbol") == second).drop("symbol")) == bits(alone.drop("symbol"))


def test_threads_and_lots_change_no_bit(shared_data, eth, year):
    span = day(2025, 11, 3)
    others = [eth.with_columns(pl.lit(f"COPY{k:02d}-USDT").alias("symbol")) for k in range(30)]
    many = pl.concat([eth, *others]).filter(span.back(WARMUP_BARS).opens())
    one = features.compute(many, span, VOL)
    assert bits(features.compute(many, span, VOL, threads=3)) == bits(one)
    assert bits(one.filter(pl.col("symbol") == "ETH-USDT")) == bits(year.filter(span.closes()))
    assert one.drop("symbol").unique().height == DAY_BARS


@pytest.mark.parametrize(("side_by_side", "tail"), [(1, 0), (9000, 16), (10**6, 10**6)])
def test_how_much_is_computed_at_once_changes_no_bit(eth, year, monkeypatch, side_by_side, tail):
    monkeypatch.setattr(features, "_SIDE_BY_SIDE", side_by_side)
    monkeypatch.setattr(features, "_TAIL", tail)
    span = Span(datetime(2025, 3, 1, 5, 15, tzinfo=UTC), datetime(2025, 6, 1, 1, 30, tzinfo=UTC))
    assert bits(features.compute(eth, span, VOL)) == bits(year.filter(span.closes()))


def test_twice_the_warm_up_changes_no_bit(eth, year):
    span = day(2025, 7, 13)
    for scale in (1.5, 2.0):
        again = features.compute(eth, span, VOL, warmup_bars=round(scale * WARMUP_BARS))
        assert bits(again) == bits(year.filter(span.closes()))


def test_the_table_keeps_its_contract(year):
    stamps = {"config_hash": pl.lit("x"), "code_version": pl.lit("1"), "source": pl.lit("recorded:x")}
    RegimeFeatures.validate(year.with_columns(**stamps))


def test_the_longest_window_leaves_room_for_the_hysteresis():
    assert WARMUP_BARS == 280 * 16 + 95 + 16 + 1
    assert set(NAMES) == {*RegimeFeatures.column_names()} - {"symbol", "as_of", "config_hash", "code_version", "source"}


def test_every_feature_needs_exactly_the_bars_it_declares(eth):
    time = datetime(2025, 10, 2, 5, 30, tzinfo=UTC)
    whole = features.compute(eth, at(time), VOL)
    assert nulls(whole) <= {"ou_z"}
    by_reach = defaultdict(set)
    for definition in definitions(VOL):
        for step, columns in definition.columns.items():
            by_reach[step * definition.bars].update(columns)
    del by_reach[1]
    for reach, names in by_reach.items():
        exact = features.compute(warm(eth, at(time), reach - 1), at(time), VOL)
        short = features.compute(warm(eth, at(time), reach - 2), at(time), VOL)
        assert bits(exact.select(sorted(names))) == bits(whole.select(sorted(names)))
        assert names <= nulls(short)


@pytest.mark.parametrize(
    ("hours", "blind"),
    [
        (5, {"adx", "adx_4h", "atr", "atr_expansion", "atr_4h", "ema_12_4h"}),
        (20, {"adx", "adx_4h", "atr_4h"}),
        (48, {"adx_4h", "atr_4h"}),
        (80, {"adx_4h"}),
        (92, set()),
        # It is just the bar at the far end of the window.
        (160, {"efficiency_ratio_4h"}),
        (164, set()),
    ],
)
def test_one_missing_bar_blinds_little_and_not_for_long(eth, hours, blind):
    time = datetime(2025, 10, 2, 5, 30, tzinfo=UTC)
    whole = nulls(features.compute(eth, at(time), VOL))
    row = features.compute(without(eth, at(time - timedelta(hours=hours))), at(time), VOL)
    assert nulls(row) - whole - {"ou_z"} == blind


def test_a_missing_newest_bar_blinds_everything(eth):
    time = datetime(2025, 10, 2, 5, 30, tzinfo=UTC)
    assert nulls(features.compute(without(eth, at(time)), at(time), VOL)) == set(NAMES)


def test_absent_rows_count_as_missing_ones(eth):
    time = datetime(2025, 10, 2, 5, 30, tzinfo=UTC)
    hole = Span(time - 300 * BAR, time - 290 * BAR)
    present = features.compute(without(eth, hole), at(time), VOL)
    absent = features.compute(eth.filter(~hole.opens()), at(time), VOL)
    assert bits(absent) == bits(present)


def test_a_hole_of_a_week_is_null_first_and_then_heals(eth):
    start = datetime(2025, 5, 1, tzinfo=UTC)
    hole = Span(start, start + timedelta(days=7))
    candles = without(eth, hole)
    inside = features.compute(candles, hole, VOL)
    assert inside.select(NAMES).null_count().sum_horizontal()[0] == len(NAMES) * hole.bars
    after = features.compute(candles, at(hole.end + 2 * BAR), VOL)
    assert after["close"][0] is not None
    assert {"atr", "ou_phi", "adx", "adx_4h", "volatility_forecast", "change_24h"} <= nulls(after)
    healed = hole.end + WARMUP_BARS * BAR
    assert bits(features.compute(candles, at(healed), VOL)) == bits(features.compute(eth, at(healed), VOL))


@pytest.mark.parametrize("price", [1e-5, 3e5])
def test_features_do_not_depend_on_the_unit_of_the_price(price):
    start = datetime(2025, 1, 1, tzinfo=UTC)
    span = at(start + (WARMUP_BARS + 1) * BAR)
    one = features.compute(random_walk(start, WARMUP_BARS + 1), span, VOL)
    other = features.compute(random_walk(start, WARMUP_BARS + 1, price=price), span, VOL)
    assert nulls(one) == nulls(other) <= {"ou_z"}
    for name in ("ou_phi", "ou_tau", "adx", "variance_ratio_16_z", "volatility_forecast", "bollinger_width"):
        assert other[name][0] == pytest.approx(one[name][0], rel=1e-6)


def test_a_flat_market_is_null_where_nothing_can_be_said():
    start = datetime(2025, 1, 1, tzinfo=UTC)
    bars = WARMUP_BARS + 1
    flat = traded(
        pl.DataFrame({"open_time": Span(start, start + bars * BAR).open_times()}).with_columns(
            *(pl.lit(0.1).alias(name) for name in PRICES[:4]), pl.lit(0.0).alias("volume")
        ),
        "FLAT-USDT",
    )
    row = features.compute(flat, at(start + bars * BAR), VOL)
    zero = {"bollinger_width", "atr", "volatility_forecast", "parkinson", "volume_24h", "change_24h", "swing_high"}
    assert {row[name][0] for name in zero} == {0.0}
    assert {"bollinger_percent_b", "adx", "efficiency_ratio", "atr_expansion", "ou_phi", "half_life"} <= nulls(row)
    assert {"half_life_baseline", "variance_ratio_4", "jump_share", "volume_ratio", "adx_4h"} <= nulls(row)
    assert row["inside_range"][0] is True
    assert row["closes_outside_15m"][0] is False


@pytest.mark.parametrize(
    ("highs", "expected"),
    [
        ([1, 2, 3, 9, 3, 2, 1, 2, 8, 3, 2, 1], -1.0),
        ([1, 2, 3, 8, 3, 2, 1, 2, 9, 3, 2, 1], 1.0),
        ([1, 2, 3, 9, 3, 2, 1, 2, 9, 3, 2, 1], 0.0),
        # A plateau is a pivot at its first bar, and only there.
        ([1, 2, 8, 8, 1, 2, 3, 7, 6, 5, 1, 1], -1.0),
        # Not known yet: two bars after the second pivot.
        ([1, 1, 2, 3, 8, 3, 2, 1, 2, 9, 3, 2], 0.0),
        # A pivot beside a MISSING bar is none.
        ([1, 2, math.nan, 8, 3, 2, 1, 2, 9, 3, 2, 1], 0.0),
        # The older one has left the window.
        ([8, 3, 2, 1, 2, 9, 3, 2, 1, 1, 1, 1], 0.0),
    ],
)
def test_a_swing_compares_the_last_two_known_pivots(highs, expected):
    assert terms.swing(np.array([[0.0, *highs]]), 9, 3, 1.0)[0, -1] == expected


def test_the_half_life_is_infinite_for_a_price_that_runs_away_and_zero_for_one_that_alternates():
    start = datetime(2025, 1, 1, tzinfo=UTC)
    walk = random_walk(start, 193 * 4)
    hour = pl.int_range(pl.len()) // 4
    for log_price, expected in ((0.01 * hour + 0.0001 * (hour % 3), math.inf), (0.01 * (hour % 2), 0.0)):
        price = log_price.exp()
        candles = walk.with_columns(open=price, high=price, low=price, close=price)
        assert features.compute(candles, at(start + 193 * 4 * BAR), VOL)["half_life"][0] == expected


def test_the_forecast_follows_its_configuration(eth):
    # A Monday morning: the windows hold the weekend.
    span = at(datetime(2025, 10, 6, 5, 30, tzinfo=UTC))
    quick = VolatilityConfig(half_life_fast_hours=6, half_life_slow_hours=12, weight_fast=0.25, weekend=0.5, power=2.0)
    needed = 4 * 6 * 12 + 1
    found = features.compute(warm(eth, span, needed - 1), span, quick)["volatility_forecast"][0]
    steps = textbook.returns(base_bars(eth, span.end))
    opened = [span.end - (len(steps) - place) * BAR for place in range(len(steps))]
    calm = [step / 0.5 if time.weekday() >= 5 else step for step, time in zip(steps, opened, strict=True)]
    fast, slow = (
        textbook.exponential_mean(textbook.squared(calm[-4 * 6 * hours :]), 0.5 ** (1 / (4 * hours)))
        for hours in (6, 12)
    )
    assert found == pytest.approx(2.0 * math.sqrt(0.25 * fast + 0.75 * slow))
    assert features.compute(warm(eth, span, needed - 2), span, quick)["volatility_forecast"][0] is None


def test_a_forecast_without_a_weekend_is_that_of_plain_returns(eth):
    span = at(datetime(2025, 10, 6, 5, 30, tzinfo=UTC))
    flat = VolatilityConfig(weekend=1.0, power=1.0)
    steps = textbook.sizes(textbook.returns(base_bars(eth, span.end)))
    means = [textbook.exponential_mean(steps[-24 * hours :], 0.5 ** (1 / (4 * hours))) for hours in (12, 168)]
    plain = features.compute(eth, span, flat)["volatility_forecast"][0]
    assert plain == pytest.approx(sum(means) * math.sqrt(math.pi / 2.0))
    assert features.compute(eth, span, VolatilityConfig(power=1.0))["volatility_forecast"][0] > 1.05 * plain


@pytest.mark.parametrize(("minutes", "calm"), [(0, False), (15, True), (48 * 60, True), (48 * 60 + 15, False)])
def test_the_weekend_is_that_of_the_bar_and_begins_and_ends_at_midnight(minutes, calm):
    # One return in an otherwise flat market: what it adds to the forecast tells its day.
    close = datetime(2025, 3, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    bars = 4033
    walk = random_walk(close - bars * BAR, bars)
    price = pl.when(pl.int_range(pl.len()) == bars - 1).then(101.0).otherwise(100.0)
    jump = walk.with_columns(open=price, high=price, low=price, close=price)
    plain = features.compute(jump, at(close), VolatilityConfig(weekend=1.0))["volatility_forecast"][0]
    found = features.compute(jump, at(close), VOL)["volatility_forecast"][0]
    assert found == pytest.approx(plain / 0.7 if calm else plain, rel=1e-12)
    assert (found == plain) is not calm


def test_no_return_of_the_forecast_reaches_across_a_hole(eth):
    time = datetime(2025, 10, 2, 5, 30, tzinfo=UTC)
    hole = Span(time - 40 * BAR, time - 30 * BAR)
    doubled = pl.col("open_time") >= hole.end
    candles = without(eth, hole)
    jumped = candles.with_columns(
        *(pl.when(doubled).then(2.0 * pl.col(name)).otherwise(pl.col(name)).alias(name) for name in PRICES[:4])
    )
    found, expected = (features.compute(one, at(time), VOL)["volatility_forecast"][0] for one in (jumped, candles))
    assert found == pytest.approx(expected, rel=1e-9)


def test_there_is_a_row_for_every_bar_of_the_span_and_every_symbol(eth):
    before = Span(datetime(2024, 12, 1, tzinfo=UTC), datetime(2024, 12, 2, tzinfo=UTC))
    found = features.compute(eth, before, VOL)
    assert found.height == DAY_BARS
    assert found.select(NAMES).null_count().sum_horizontal()[0] == len(NAMES) * DAY_BARS
    assert features.compute(eth.clear(), before, VOL).is_empty()
    assert features.compute(eth, Span(before.start, before.start), VOL).is_empty()
