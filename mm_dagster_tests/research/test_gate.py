"""The gate lets through what knows the future, and neither noise nor what the probability already says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from mm_dagster.arrays import Floats
from mm_dagster.evaluation import resample
from mm_dagster.research import gate
from mm_dagster.research.gate import GAP_DAYS, TEST_DAYS

MARKETS, DAYS, HOURS = 6, 240, 12


def honest_walk(seed: int, shape: float = 1.0) -> tuple[gate.Walk, Floats]:
    """Grids whose break probability is known: it wanders from hour to hour, and one break is drawn for each grid.

    Args:
        seed: of the draws.
        shape: power by which the log odds that are told differ from the true ones.

    Returns:
        The walk, and the told probability of each sample.
    """
    generator = np.random.default_rng(seed)
    grids = MARKETS * DAYS
    grid = np.repeat(np.arange(grids), HOURS)
    level = generator.normal(-1.5, 1.2, grids)
    odds = level[grid] + generator.normal(0.0, 0.7, grid.size)
    true = 1.0 / (1.0 + np.exp(-odds))
    happened = generator.uniform(size=grid.size) < true
    told = 1.0 / (1.0 + np.exp(-np.sign(odds) * np.abs(odds) ** shape))
    day = np.tile(np.arange(DAYS), MARKETS)
    return gate.walk(grid, told, happened, day, np.repeat(np.arange(MARKETS), DAYS)), told


def test_noise_seldom_passes() -> None:
    steps, _ = honest_walk(0)
    size = steps.happened.size
    noise = [np.random.default_rng(seed).normal(size=size) for seed in range(10)]
    flags = [(np.random.default_rng(seed).uniform(size=size) < 0.1).astype(float) for seed in range(10)]
    assert sum(gate.measure(steps, one).promising for one in noise + flags) <= 1


def test_noise_that_is_the_same_for_a_whole_grid_seldom_passes() -> None:
    steps, _ = honest_walk(1)
    found = [
        gate.measure(steps, np.random.default_rng(seed).normal(size=MARKETS * DAYS)[steps.grid]) for seed in range(20)
    ]
    assert sum(one.promising for one in found) <= 2


def test_an_oracle_passes() -> None:
    steps, _ = honest_walk(2)
    blurred = steps.happened + np.random.default_rng(2).normal(0.0, 1.0, steps.happened.size)
    found = gate.measure(steps, blurred)
    assert found.promising
    assert found.log_loss[0] > 0.02
    assert found.lift[0] > 1.2


@pytest.mark.parametrize("shape", [1.0, 0.7, 1.4])
def test_a_function_of_the_probability_adds_nothing_even_where_that_is_badly_calibrated(shape: float) -> None:
    steps, told = honest_walk(3, shape)
    for candidate in (told, told**3, np.log(told), (told > 0.35).astype(float)):
        found = gate.measure(steps, candidate)
        assert found.log_loss[0] < 1e-3
        assert not found.promising


def test_what_the_test_days_hold_does_not_reach_the_fit() -> None:
    steps, _ = honest_walk(4)
    day = steps.grid % DAYS
    assert steps.folds
    for fold in steps.folds:
        assert day[fold.test].min() - day[fold.fit].max() > GAP_DAYS
        assert day[fold.test].max() - day[fold.test].min() < TEST_DAYS
    tested = np.concatenate([fold.test for fold in steps.folds])
    assert sorted(tested) == np.flatnonzero(day >= DAYS // 2).tolist()


def test_an_unknown_value_says_nothing() -> None:
    steps, _ = honest_walk(5)
    found = gate.measure(steps, np.full(steps.happened.size, np.nan))
    assert found.log_loss[0] == pytest.approx(0.0, abs=1e-9)
    assert found.fired == 0
    assert not found.promising


def test_the_fit_is_the_minimum_that_an_independent_search_finds() -> None:
    generator = np.random.default_rng(6)
    columns = np.column_stack([np.ones(3_000), generator.normal(size=(3_000, 3))])
    happened = generator.uniform(size=3_000) < 1.0 / (1.0 + np.exp(-(columns @ [-1.0, 0.5, 0.0, 2.0])))

    def loss(coefficients: Floats) -> float:
        score = columns @ coefficients
        ridge = 0.5 * gate._RIDGE * float(coefficients[2:] @ coefficients[2:])
        return float((np.logaddexp(0.0, score) - happened * score).sum()) + ridge

    theirs = minimize(loss, np.zeros(4), method="BFGS", tol=1e-6).x
    np.testing.assert_allclose(gate._fit(columns, happened, np.zeros(4), free=2), theirs, atol=2e-3)


def test_more_than_the_placebo_is_more_in_nearly_every_draw() -> None:
    steps, _ = honest_walk(7)
    blurred = steps.happened + np.random.default_rng(7).normal(0.0, 1.0, steps.happened.size)
    oracle, noise = (
        gate.measure(steps, blurred),
        gate.measure(steps, np.random.default_rng(8).normal(size=blurred.size)),
    )
    assert oracle.beats(noise)
    assert not noise.beats(oracle)
    assert not oracle.beats(oracle)
    low, high = resample.interval(oracle.log_loss[1:])
    assert low < oracle.log_loss[0] < high


def test_several_recordings_count_by_their_size() -> None:
    steps, _ = honest_walk(9)
    noise = gate.measure(steps, np.random.default_rng(9).normal(size=steps.happened.size))
    oracle = gate.measure(steps, steps.happened + np.random.default_rng(9).normal(size=steps.happened.size))
    both = gate.pooled([noise, oracle, oracle])
    assert both.log_loss[0] == pytest.approx((noise.log_loss[0] + 2 * oracle.log_loss[0]) / 3)
    assert both.tested == noise.tested + 2 * oracle.tested
    assert gate.pooled([oracle]).lift[0] == pytest.approx(oracle.lift[0])
