"""What recorded books say is known a bar later, counts no less on the placebo, and is asked of enough days alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.research import book_candidates, promotion
from mm_dagster.research.book_candidates import COLUMNS, LEAST_ROWS, lacking, lanes, names, recorded_days
from mm_dagster_tests.evaluation.walks import CONFIG, SYMBOLS, WARM_UP_DAYS, walk
from mm_dagster_tests.evaluation.walks import START as WALK_START

START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = Span(START, START + timedelta(days=2))


def rows(span: Span, seed: int = 1) -> pl.DataFrame:
    """Made-up features of every quarter hour."""
    random = np.random.default_rng(seed)
    times = (span.open_times() + BAR).alias("as_of")
    return times.to_frame().with_columns(*(pl.Series(name, 1.0 + random.random(span.bars)) for name in COLUMNS))


def test_a_candidate_is_what_the_bar_before_said() -> None:
    told = rows(SPAN)
    found = lanes(told, SPAN)
    assert list(found) == names()
    assert np.isnan(found["book_spread_bp"][0])
    assert found["book_spread_bp"][1:].tolist() == told["spread_bp"].to_list()[:-1]
    # Changing what comes at a bar and after it changes nothing at that bar.
    cut = told.with_columns(
        pl.when(pl.col("as_of") > START + 50 * BAR).then(99.0).otherwise(pl.col(COLUMNS)).name.keep()
    )
    for name, values in lanes(cut, SPAN).items():
        assert np.array_equal(values[:51], found[name][:51], equal_nan=True), name
        assert not np.array_equal(values, found[name], equal_nan=True), name


def test_what_is_not_known_is_nothing_and_never_infinite() -> None:
    told = rows(SPAN).with_columns(
        rv_mid=pl.lit(0.0), ask_depth_25bp=pl.lit(0.0), buy_volume=pl.lit(0.0), sell_volume=pl.lit(0.0)
    )
    found = lanes(told.filter(pl.col("as_of") != START + 4 * BAR), SPAN)
    assert np.flatnonzero(np.isnan(found["book_vpin"])).tolist() == [0, 4]
    for name in ("book_volatility", "book_depth_ratio", "book_signed_volume"):
        assert np.isnan(found[name]).all()
    assert all(np.isnan(values).all() for values in lanes(told.clear(), SPAN).values())


def test_a_day_counts_with_half_of_its_quarter_hours() -> None:
    told = rows(Span(START, START + timedelta(days=10)))
    thin = told.filter(
        (pl.col("as_of") <= START + timedelta(days=9))
        | (pl.col("as_of") <= START + timedelta(days=9) + (LEAST_ROWS - 1) * BAR)
    )
    assert book_candidates.count_days(told) == 10
    assert book_candidates.count_days(thin) == 9
    assert recorded_days(thin) == Span(START, START + timedelta(days=9))
    assert lacking({"ETH-USDT": told, "SOL-USDT": told.clear()}, 12) == {"ETH-USDT": 2, "SOL-USDT": 12}
    assert lacking({"ETH-USDT": told}, 10) == {}


@pytest.mark.long
def test_what_knows_nothing_of_a_market_does_not_pass_the_gate() -> None:
    count = WARM_UP_DAYS + 30 + promotion.LEAST_DAYS
    days = Span(WALK_START + timedelta(days=WARM_UP_DAYS + 30), WALK_START + timedelta(days=count))
    candles = {SYMBOLS[0]: walk(SYMBOLS[0], count, seed=3)}
    found = promotion.judge_books(candles, {SYMBOLS[0]: rows(days)}, days, CONFIG)
    assert [one.candidate for one in found.results] == names()
    assert not any(one.passes for one in found.results)
    few = Span(days.start, days.start + timedelta(days=30))
    with pytest.raises(promotion.PromotionError, match="needs grids on 140 days"):
        promotion.judge_books(candles, {SYMBOLS[0]: rows(few)}, few, CONFIG)
