"""The controls beside every mean and shortfall: counted by hand, drawn together, and blind where nothing is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import DAY_BARS, Span
from mm_dagster.evaluation import resample
from mm_dagster.evaluation.evaluate import HISTORY_BARS, daily_grids, evaluate
from mm_dagster.evaluation.placebo import SIGNS, flip
from mm_dagster.evaluation.quality import LOWEST_FIFTH, PLACEBO, POSITIONS, Judged, Pool, measure
from mm_dagster.evaluation.signals import LEVELS, LOW_POSITION
from mm_dagster_tests.evaluation.walks import CONFIG, SYMBOLS, days_of, walk

DAYS = 130
SPAN = days_of(DAYS)
WARNING, LATEST = ("confirmed", "WARNING"), ("confirmed", "LATEST_ACCEPTABLE_EXIT")


def candles(symbol: str) -> pl.DataFrame:
    return walk(symbol, DAYS, SYMBOLS.index(symbol))


@pytest.fixture(scope="module")
def judged() -> list[Judged]:
    return [one for symbol in SYMBOLS for one in daily_grids(symbol, candles(symbol), SPAN, CONFIG)]


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str, str], tuple[float, float, float, int]]:
    frame = evaluate(SYMBOLS, candles, SPAN, CONFIG)
    return {(row[0], row[1], row[2]): row[3:] for row in frame.iter_rows()}


def shortfall(equity: np.ndarray, weights: np.ndarray) -> float:
    """Mean of the worst twentieth of the weight, grid by grid."""
    left, lost = 0.05 * weights.sum(), 0.0
    asked = left
    for place in np.argsort(equity, kind="stable"):
        taken = min(left, weights[place])
        lost += taken * equity[place]
        left -= taken
    return lost / asked


def test_the_shortfall_is_that_of_every_grid_whatever_the_draw(judged: list[Judged]) -> None:
    pool = Pool(judged)
    equity = pool.equity([one.exits[WARNING] for one in judged])
    # A draw that leaves the worst out needs more of the order than a draw of all.
    heavy = np.zeros((2, equity.size))
    heavy[0, np.argsort(equity)[-40:]] = 1.0
    heavy[1, np.argsort(equity)[:3]] = 1.0
    weights = np.concatenate([pool.weights[:40], heavy])
    found = resample.shortfall(weights, equity)
    assert found == pytest.approx([shortfall(equity, one) for one in weights], rel=1e-12)


def test_the_lowest_fifth_is_left_at_the_first_close_in_it(judged: list[Judged]) -> None:
    for one in judged:
        assert POSITIONS[LOWEST_FIFTH] == pytest.approx(0.2)
        np.testing.assert_array_equal(one.positions[LOWEST_FIFTH], one.exits[LOW_POSITION])
        assert (np.diff(one.positions, axis=0) <= 0).all(), "who leaves higher leaves no later"


def test_the_place_that_is_held_as_long_is_the_nearest_of_all(judged: list[Judged]) -> None:
    pool = Pool(judged)
    exits = [one.exits[LATEST] for one in judged]
    hours = pool.held_hours(exits).mean()
    found = pool.held_hours(pool.as_long(exits)).mean()
    every = [pool.held_hours([one.positions[place] for one in judged]).mean() for place in range(POSITIONS.size)]
    assert abs(found - hours) == min(abs(one - hours) for one in every)
    assert abs(found - hours) < 0.1 * hours


@pytest.mark.slow
def test_every_level_stands_beside_every_control(
    judged: list[Judged], cells: dict[tuple[str, str, str], tuple[float, float, float, int]]
) -> None:
    pool = Pool(judged)
    for level in LEVELS:
        for what in ("hold", "null", "position", "position_as_long"):
            for kind in ("gain", "shortfall"):
                value, low, high, n = cells["confirmed", level, f"{kind}_vs_{what}"]
                assert low <= value <= high
                assert n == pool.day.size
    earlier, later = (pool.equity([one.exits[name] for one in judged]) for name in (WARNING, LATEST))
    assert cells[*WARNING, "gain_vs_next_level"][0] == pytest.approx((earlier - later).mean())
    ones = np.ones(earlier.size)
    worse = shortfall(earlier, ones) - shortfall(later, ones)
    assert cells[*WARNING, "shortfall_vs_next_level"][0] == pytest.approx(worse)
    assert ("confirmed", "MANDATORY_EXIT", "gain_vs_next_level") not in cells
    assert ("control", "low_position_as_long", "mean_equity") in cells


def test_the_placebo_is_the_same_policy_on_markets_turned_at_the_same_bars(
    cells: dict[tuple[str, str, str], tuple[float, float, float, int]],
) -> None:
    signals = {signal for policy, signal, _ in cells if policy == PLACEBO}
    assert signals == {*LEVELS, "hold_to_stop"}
    first = SPAN.back(HISTORY_BARS).start
    together = pl.concat([candles(symbol) for symbol in SYMBOLS])
    flipped = flip(together, SIGNS, first)
    for symbol in SYMBOLS:
        alone = flip(candles(symbol), SIGNS, first)
        assert alone.equals(flipped.filter(pl.col("symbol") == symbol))
    by_hand = [
        one for symbol in SYMBOLS for one in daily_grids(symbol, flip(candles(symbol), SIGNS, first), SPAN, CONFIG)
    ]
    held = np.concatenate([one.left[np.arange(one.day.size), one.last] for one in by_hand])
    left = Pool(by_hand).equity([one.exits[WARNING] for one in by_hand])
    assert cells[PLACEBO, "WARNING", "gain_vs_hold"][0] == pytest.approx((left - held).mean())
    assert cells[PLACEBO, "hold_to_stop", "mean_equity"][0] == pytest.approx(held.mean())


def test_on_a_random_walk_the_tail_is_better_than_holding_and_no_better_than_on_the_placebo(
    cells: dict[tuple[str, str, str], tuple[float, float, float, int]],
) -> None:
    """What is sold as skill where nothing can be known: the geometry of the stop."""
    real, placebo = (cells[policy, "WARNING", "shortfall_vs_hold"] for policy in ("confirmed", PLACEBO))
    assert real[1] > 0
    assert placebo[1] > 0
    assert real[1] < placebo[2]


def test_too_few_weeks_give_no_interval_and_no_grid_no_placebo(judged: list[Judged]) -> None:
    days = Span(SPAN.start, SPAN.start + 20 * (SPAN.open_times()[DAY_BARS] - SPAN.open_times()[0]))
    frame = evaluate(SYMBOLS[:1], candles, days, CONFIG)
    assert (
        frame.filter(pl.col("metric") != "p_null")["low"].null_count()
        == frame.filter(pl.col("metric") != "p_null").height
    )
    assert measure(judged, "confirmed", signals=[WARNING]).filter(pl.col("policy") == PLACEBO).is_empty()
