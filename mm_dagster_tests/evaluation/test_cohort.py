"""Grids side by side: when their bounds broke, and what leaving at each bar leaves."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config.evaluation import EvaluationConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.evaluation.cohort import NEVER, Cohort, cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import measured_markets
from mm_dagster.evaluation.market import Market
from mm_dagster.grid.replay import replay, terms_of
from mm_dagster_tests.evaluation.walks import CONFIG, START, days_of, walk

DAYS = 70
LIFE = 14 * DAY_BARS


@pytest.fixture(scope="module")
def market() -> Market:
    return next(measured_markets(["AAA-USDT"], walk("AAA-USDT", DAYS, seed=5), days_of(DAYS), CONFIG))


@pytest.fixture(scope="module")
def grids(market: Market) -> list[GridConfig]:
    return open_daily(market, days_of(DAYS), EvaluationConfig())


@pytest.fixture(scope="module")
def cohort(market: Market, grids: list[GridConfig]) -> Cohort:
    return cohort_of(market, grids, LIFE)


def test_a_grid_is_opened_every_midnight_around_the_price(market: Market, grids: list[GridConfig]) -> None:
    assert len(grids) == days_of(DAYS).bars // DAY_BARS
    for grid in grids:
        place = (grid.activated_at - market.span.start) // BAR - 1
        price = market.prices["close"][place]
        assert grid.activated_at.hour == grid.activated_at.minute == 0
        assert grid.lower <= price * 0.98 * 0.995
        assert grid.upper >= price * 1.02 * 1.005
        assert grid.stop == pytest.approx(grid.lower * 0.97)
        assert 2 <= grid.levels <= 16


def test_the_rule_knows_nothing_that_comes_later(grids: list[GridConfig]) -> None:
    cut = START + timedelta(days=60)
    known = walk("AAA-USDT", DAYS, seed=5).filter(pl.col("open_time") < cut)
    days = Span(days_of(DAYS).start, cut)
    early = next(measured_markets(["AAA-USDT"], known, days, CONFIG))
    assert open_daily(early, days, EvaluationConfig()) == [grid for grid in grids if grid.activated_at < cut]


def test_leaving_is_what_the_replay_holds_then_sold_at_the_next_open(market: Market, cohort: Cohort) -> None:
    row = 3
    grid = cohort.grids[row]
    first = (grid.activated_at - market.span.start) // BAR - 1
    life = slice(first, first + int(cohort.last[row]) + 1)
    opens, highs, lows, closes = (market.prices[name][life].copy() for name in ("open", "high", "low", "close"))
    opens[0] = highs[0] = lows[0] = closes[0]
    lived = replay(terms_of(grid, float(closes[0])), opens, highs, lows, closes)
    for column in (0, 17, 400, closes.size - 2):
        price = opens[column + 1] * (1 - grid.fees.slippage) * (1 - grid.fees.taker)
        value = lived.cash[column] + (lived.inventory[column] * price if lived.inventory[column] else 0.0)
        assert cohort.left[row, column] == pytest.approx(100 * value / grid.capital)
    assert (cohort.left[row, closes.size :] == cohort.left[row, closes.size - 1]).all()


def test_two_closes_break_a_bound_and_one_does_not(market: Market, grids: list[GridConfig]) -> None:
    closes = np.full(market.span.bars, 100.0)
    first = (grids[0].activated_at - market.span.start) // BAR - 1
    closes[first + 10] = closes[first + 20] = closes[first + 21] = 80.0
    closes[first + 40] = closes[first + 41] = 130.0
    quiet = Market("AAA-USDT", market.span, dict.fromkeys(("open", "high", "low", "close"), closes), market.known)
    grid = grids[0].model_copy(update={"lower": 90.0, "upper": 110.0, "stop": 70.0})
    found = cohort_of(quiet, [grid], LIFE)
    assert (found.broken_low[0], found.broken_high[0], found.stopped[0]) == (21, 41, NEVER)
    assert found.over[0] == 21
    stopped = cohort_of(quiet, [grid.model_copy(update={"stop": 85.0})], LIFE)
    assert (stopped.stopped[0], stopped.broken[0]) == (10, 10)
    assert (stopped.left[0, 10:] == stopped.left[0, 10]).all()


def test_a_life_that_the_data_or_the_operator_cut_is_not_whole(market: Market, grids: list[GridConfig]) -> None:
    found = cohort_of(market, grids, LIFE)
    until_end = np.array([(market.span.end - grid.activated_at) // BAR for grid in grids])
    assert (found.last == np.minimum(LIFE, until_end)).all()
    assert (found.whole == (until_end >= LIFE)).all()
    ended = cohort_of(market, grids[:1], LIFE, [grids[0].activated_at + 33 * BAR])
    assert (ended.last[0], ended.whole[0]) == (33, False)
    assert (ended.left[0, 33:] == ended.left[0, 33]).all()
