"""Weights over markets: scikit-learn's shrinkage, scipy's optimiser, the conditions of an optimum, the same bits."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mm_dagster.arrays import Floats
from mm_dagster.portfolio import weights as module
from mm_dagster.portfolio.weights import (
    Pair,
    Shrunk,
    correlation,
    effective_bets,
    equal_at_risk,
    highest_pair,
    minimum_variance,
    sample_correlation,
    scaled,
    shrunk_covariance,
    sigma_of,
)

SEEDS = st.integers(0, 2**32 - 1)


def returns_of(moments: int, markets: int, seed: int) -> Floats:
    """Returns with fat tails that move together to a part."""
    generator = np.random.default_rng(seed)
    together = generator.standard_t(4, (moments, 1)) * generator.uniform(0, 0.01)
    return together + generator.standard_t(4, (moments, markets)) * generator.uniform(0.002, 0.02, markets)


def covariance_of(markets: int, seed: int) -> Floats:
    """A covariance of one of many kinds: plain, with equal markets, with one factor, very unlike, nearly singular."""
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(markets, markets + 3))
    steps = generator.integers(0, 3, markets).astype(float)
    kinds = (
        factors @ factors.T,
        np.full((markets, markets), 0.7) + 0.3 * np.eye(markets),
        np.eye(markets),
        np.outer(steps, steps) + 0.5 * np.eye(markets),
        np.outer(factors[:, 0], factors[:, 0]) + 1e-6 * np.eye(markets),
        factors[:, :2] @ factors[:, :2].T + 1e-10 * np.eye(markets),
    )
    found = kinds[seed % len(kinds)]
    return (found + found.T) / 2 * 1e-4


# the covariance -------------------------------------------------------------------------------------------------------


@given(st.integers(2, 250), st.integers(1, 30), SEEDS)
@settings(max_examples=60)
def test_the_shrunk_covariance_is_scikit_learns(moments: int, markets: int, seed: int) -> None:
    oracle = pytest.importorskip("sklearn.covariance", reason="scikit-learn comes with other packages of development")
    returns = returns_of(moments, markets, seed)
    found = shrunk_covariance(returns)
    covariance, shrinkage = oracle.ledoit_wolf(returns)
    assert found.shrinkage == pytest.approx(shrinkage, abs=1e-12)
    assert np.allclose(found.covariance, covariance, rtol=1e-12, atol=1e-12 * np.abs(covariance).max())


def test_few_moments_are_shrunk_more_and_a_positive_definite_covariance_is_left_of_fewer_than_markets() -> None:
    few, many = (shrunk_covariance(returns_of(moments, 14, 3)) for moments in (10, 2_000))
    assert 0 < many.shrinkage < few.shrinkage <= 1
    assert np.linalg.eigvalsh(few.covariance).min() > 0
    assert minimum_variance(few.covariance, 0.2).sum() == pytest.approx(1, abs=1e-14)


def test_what_is_nothing_but_noise_is_shrunk_all_the_way() -> None:
    oracle = pytest.importorskip("sklearn.covariance", reason="scikit-learn comes with other packages of development")
    returns = np.vstack([np.eye(3), -np.eye(3)]) * [1.1, 1.0, 1.0]
    found = shrunk_covariance(returns)
    assert found.shrinkage == oracle.ledoit_wolf(returns)[1] == 1
    assert found.covariance == pytest.approx(np.eye(3) * np.mean(returns**2))


def test_markets_that_do_not_move_have_no_covariance_and_no_weights() -> None:
    found = shrunk_covariance(np.full((50, 3), 0.1))
    assert found.shrinkage == 0
    assert np.abs(found.covariance).max() < 1e-30
    with pytest.raises(ValueError, match="variance of 0"):
        minimum_variance(np.zeros((3, 3)), 1.0)


def test_the_scaled_covariance_has_the_correlations_of_one_and_the_sigmas_of_the_other() -> None:
    covariance = shrunk_covariance(returns_of(240, 6, 1)).covariance
    sigma = np.linspace(0.01, 0.06, 6)
    found = scaled(covariance, sigma)
    assert np.diagonal(found).tolist() == (sigma * sigma).tolist()
    assert np.array_equal(found, found.T)
    deviation = np.sqrt(np.diagonal(covariance))
    assert np.allclose(found / np.outer(sigma, sigma), covariance / np.outer(deviation, deviation), rtol=0, atol=1e-15)


# the weights ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.floats(0, 1), SEEDS)
@settings(max_examples=200)
def test_the_weights_meet_the_conditions_of_the_one_optimum(markets: int, between: float, seed: int) -> None:
    """Karush, Kuhn, Tucker: no weight can be moved from a market that has some to one that may have more, and gain."""
    covariance = covariance_of(markets, seed)
    cap = 1 / markets + between * (1 - 1 / markets)
    _assert_optimal(covariance, cap)


@pytest.mark.parametrize("seed", [1034, 1153, 1355])
def test_a_market_comes_back_from_its_bound_for_a_gain_of_a_hundredth_of_a_percent(seed: int) -> None:
    """Found among 3,000 covariances of few factors, where a bound is left again in one of eleven."""
    factors = np.random.default_rng(seed).normal(size=(8, 4))
    _assert_optimal(factors @ factors.T + 0.05 * np.eye(8), 0.3)


def _assert_optimal(covariance: Floats, cap: float) -> None:
    weights = minimum_variance(covariance, cap)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert weights.min() >= 0
    assert weights.max() <= cap
    slope = covariance @ weights / np.mean(np.diagonal(covariance))
    may_gain = slope[weights < cap].min() if (weights < cap).any() else np.inf
    assert slope[weights > 0].max() <= may_gain + 1e-10


@pytest.mark.parametrize("seed", range(12))
def test_the_weights_are_those_of_scipys_optimiser(seed: int) -> None:
    covariance = shrunk_covariance(returns_of(120, 8, seed)).covariance
    unit = covariance / np.mean(np.diagonal(covariance))
    cap = (0.15, 0.2, 0.35, 1.0)[seed % 4]
    found = minimize(
        lambda w: w @ unit @ w,
        np.full(8, 1 / 8),
        jac=lambda w: 2 * unit @ w,
        bounds=[(0, cap)] * 8,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-18, "maxiter": 1_000},
    )
    weights = minimum_variance(covariance, cap)
    assert weights @ unit @ weights <= found.fun + 1e-12
    assert weights == pytest.approx(found.x, abs=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_no_other_choice_of_markets_at_their_bounds_is_calmer(seed: int) -> None:
    """Every one of 3^5 choices, each solved as a system of equations."""
    covariance, cap = covariance_of(5, seed), 0.4
    best = np.inf
    for code in range(3**5):
        state = np.array([code // 3**place % 3 for place in range(5)])
        free, weights = np.flatnonzero(state == 2), np.where(state == 1, cap, 0.0)
        if free.size:
            system = np.ones((free.size + 1, free.size + 1))
            system[-1, -1] = 0
            system[:-1, :-1] = covariance[np.ix_(free, free)] / np.mean(np.diagonal(covariance))
            right = np.append(-(covariance[free] @ weights) / np.mean(np.diagonal(covariance)), 1 - weights.sum())
            weights[free] = np.linalg.lstsq(system, right, rcond=None)[0][:-1]
        if abs(weights.sum() - 1) < 1e-9 and weights.min() > -1e-9 and weights.max() < cap + 1e-9:
            best = min(best, weights @ covariance @ weights)
    found = minimum_variance(covariance, cap)
    assert found @ covariance @ found == pytest.approx(best, rel=1e-7, abs=1e-16)


def test_weights_by_hand() -> None:
    assert minimum_variance(np.diag([1.0, 3.0]), 1.0) == pytest.approx([0.75, 0.25])
    assert minimum_variance(np.diag([1.0, 3.0]), 0.6).tolist() == [0.6, 0.4]
    assert minimum_variance(np.diag([1.0, 3.0]), 0.5).tolist() == [0.5, 0.5]
    # The louder of two that move as one only adds to the other.
    assert minimum_variance(np.array([[1.0, 1.9], [1.9, 4.0]]), 1.0).tolist() == [1.0, 0.0]
    assert minimum_variance(np.array([[2.0]]), 1.0).tolist() == [1.0]
    assert minimum_variance(np.eye(3), 1 / 3) == pytest.approx([1 / 3] * 3)


def test_where_all_markets_reach_a_bound_the_right_ones_do() -> None:
    # Two quiet ones that are alike, two loud ones that move with them: exactly half each.
    alike = np.array([[1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 9, 2], [1, 1, 2, 9]], float)
    assert minimum_variance(alike, 0.5).tolist() == [0.5, 0.5, 0.0, 0.0]
    assert minimum_variance(alike[::-1, ::-1], 0.5).tolist() == [0.0, 0.0, 0.5, 0.5]


def test_a_cap_or_a_covariance_that_leaves_no_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cap: 0\.2 of 4 markets adds up to less than 1; at least 0\.25"):
        minimum_variance(np.eye(4), 0.2)
    with pytest.raises(ValueError, match="not positive definite"):
        minimum_variance(np.ones((3, 3)), 1.0)
    with pytest.raises(ValueError, match="1 values are not finite"):
        minimum_variance(np.array([[np.nan]]), 1.0)
    with pytest.raises(ValueError, match="2 values are not finite"):
        shrunk_covariance(np.array([[np.nan, 1.0], [2.0, np.inf]]))
    with pytest.raises(ValueError, match="0 moments of 3 markets"):
        shrunk_covariance(np.empty((0, 3)))
    with pytest.raises(ValueError, match=r"market 1 has a variance of 0\.0"):
        correlation(np.diag([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"sigma: 0\.0 of market 1"):
        scaled(np.eye(2), np.array([1.0, 0.0]))


# what they say --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 20), SEEDS)
@settings(max_examples=50)
def test_equal_weights_at_the_factor_have_the_same_risk_and_never_need_more_than_one(markets: int, seed: int) -> None:
    covariance = covariance_of(markets, seed)
    weights = minimum_variance(covariance, 1.0)
    factor = equal_at_risk(covariance, weights)
    equal = np.full(markets, factor / markets)
    assert sigma_of(covariance, equal) == pytest.approx(sigma_of(covariance, weights), rel=1e-12)
    assert factor <= 1 + 1e-12
    assert equal_at_risk(covariance, np.full(markets, 1 / markets)) == 1.0
    assert sigma_of(covariance, weights) == pytest.approx(np.sqrt(weights @ covariance @ weights), rel=1e-6)


@given(st.integers(1, 20), SEEDS)
@settings(max_examples=50)
def test_effective_bets_are_the_participation_ratio_of_the_eigenvalues(markets: int, seed: int) -> None:
    correlations = correlation(shrunk_covariance(returns_of(60, markets, seed)).covariance)
    values = np.linalg.eigvalsh(correlations)
    assert effective_bets(correlations) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-12)
    assert 1 <= effective_bets(correlations) <= markets + 1e-12


def test_what_moves_as_one_counts_as_one_and_what_does_not_as_many() -> None:
    assert effective_bets(np.ones((7, 7))) == 1.0
    assert effective_bets(np.eye(7)) == 7.0


def test_the_highest_pair_is_the_first_of_the_most_correlated() -> None:
    correlations = np.array([[1.0, -0.9, 0.5], [-0.9, 1.0, 0.5], [0.5, 0.5, 1.0]])
    assert highest_pair(correlations) == Pair(0, 2, 0.5)
    assert highest_pair(-correlations) == Pair(0, 1, 0.9)
    assert highest_pair(np.eye(1)) is None


# bits -----------------------------------------------------------------------------------------------------------------


def test_no_sum_is_left_to_a_library_for_matrices() -> None:
    """Its last bits hang on how many threads it has."""
    source = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    named = {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    assert named.isdisjoint({"dot", "matmul", "linalg", "einsum", "tensordot", "inner", "vdot", "cov", "corrcoef"})
    assert not any(isinstance(node, ast.MatMult) for node in ast.walk(source))
    assert {"sqrt", "diagonal"} <= named


def test_no_bit_depends_on_where_in_memory_the_arrays_lie() -> None:
    returns, sigma = returns_of(240, 14, 5), np.linspace(0.01, 0.05, 14)

    def all_of(returns: Floats, sigma: Floats) -> list[float]:
        shrunk = shrunk_covariance(returns)
        covariance = scaled(shrunk.covariance, sigma)
        weights = minimum_variance(covariance, 0.15)
        correlations = correlation(covariance)
        one = [shrunk.shrinkage, equal_at_risk(covariance, weights), effective_bets(correlations)]
        return [*one, *weights.tolist(), *covariance.ravel().tolist()]

    expected = all_of(returns, sigma)
    for shift in range(1, 9):
        moved, of_sigma = np.empty(returns.size + shift), np.empty(14 + shift)
        moved[shift:], of_sigma[shift:] = returns.ravel(), sigma
        assert all_of(moved[shift:].reshape(returns.shape), of_sigma[shift:]) == expected
    assert all_of(np.asfortranarray(returns), np.repeat(sigma, 2)[::2]) == expected


def test_the_sample_correlation_is_that_of_the_returns() -> None:
    generator = np.random.default_rng(8)
    for count in (2, 5, 14):
        common = generator.normal(size=(240, 1))
        returns = (common + generator.normal(size=(240, count))) * generator.uniform(0.1, 5.0, count)
        shrunk = shrunk_covariance(returns)
        assert 0 < shrunk.shrinkage < 1
        assert sample_correlation(shrunk) == pytest.approx(np.corrcoef(returns.T), abs=1e-12)
    with pytest.raises(ValueError, match="nothing is left"):
        sample_correlation(Shrunk(np.eye(2), 1.0))
