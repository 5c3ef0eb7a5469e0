"""Effects add up: in each period, and linked over all of them, whatever the weights and returns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.arrays import Floats
from mm_dagster.evaluation.attribution import Attribution, attribute

Case = tuple[Floats, Floats, Floats, Floats]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Weights and returns; some markets are not held, by the portfolio, the benchmark or both, some periods alike."""
    periods, markets = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-12, 1e-6, 0.01, 0.1]))
    weights, benchmark_weights = generator.dirichlet(np.ones(markets), (2, periods))
    for one in (weights, benchmark_weights):
        one[generator.random(one.shape) < draw(st.sampled_from([0.0, 0.4]))] = 0.0
        one[one.sum(axis=1) == 0, 0] = 1.0
        one /= one.sum(axis=1, keepdims=True)
    returns, benchmark_returns = np.clip(generator.standard_t(4, (2, periods, markets)) * scale, -0.9, None)
    alike = generator.random(periods) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    returns[alike] = benchmark_returns[alike]
    if draw(st.booleans()):
        weights[alike] = benchmark_weights[alike]
    return weights, returns, benchmark_weights, benchmark_returns


@given(cases())
def test_the_effects_add_up_in_each_period_and_linked(case: Case) -> None:
    weights, returns, benchmark_weights, benchmark_returns = case
    found = attribute(*case)
    portfolio, benchmark = (weights * returns).sum(axis=1), (benchmark_weights * benchmark_returns).sum(axis=1)
    assert found.portfolio == pytest.approx(portfolio, abs=1e-14)
    assert found.benchmark == pytest.approx(benchmark, abs=1e-14)
    assert found.effects.total.sum(axis=1) == pytest.approx(portfolio - benchmark, abs=1e-12)
    compounded = np.prod(1 + portfolio) - 1, np.prod(1 + benchmark) - 1
    size = max(1.0, *(1 + one for one in compounded))
    assert (found.portfolio_return, found.benchmark_return) == pytest.approx(compounded, abs=1e-12 * size)
    assert found.linked.total.sum() == pytest.approx(compounded[0] - compounded[1], abs=1e-12 * size)
    assert found.linked.total.sum() == pytest.approx(found.excess, abs=1e-12 * size)


@given(cases())
def test_what_is_not_held_only_adds_its_allocation(case: Case) -> None:
    weights, _, benchmark_weights, benchmark_returns = case
    found = attribute(*case)
    absent = weights == 0
    assert (found.effects.selection[absent] == 0).all()
    assert (found.effects.interaction[absent] == 0).all()
    expected = -benchmark_weights * (benchmark_returns - found.benchmark[:, None])
    assert found.effects.allocation[absent] == pytest.approx(expected[absent], abs=1e-15)


@given(cases())
def test_a_portfolio_that_is_its_benchmark_has_no_effects(case: Case) -> None:
    _, _, weights, returns = case
    found = attribute(weights, returns, weights, returns)
    assert found.excess == 0
    assert not found.effects.total.any()
    assert not found.linked.total.any()


@given(cases())
def test_one_period_is_linked_to_itself(case: Case) -> None:
    found = attribute(*(one[:1] for one in case))
    for name in ("allocation", "selection", "interaction"):
        assert getattr(found.linked, name) == pytest.approx(getattr(found.effects, name)[0], rel=1e-9, abs=1e-18)


def by_hand() -> Attribution:
    weights, benchmark_weights = np.array([[0.6, 0.4], [0.5, 0.5]]), np.full((2, 2), 0.5)
    return attribute(weights, np.array([[0.10, 0.02], [0.0, 0.04]]), benchmark_weights, np.array([[0.08, 0.0], [0, 0]]))


def test_effects_by_hand() -> None:
    found = by_hand()
    assert found.effects.allocation.tolist()[0] == pytest.approx([0.1 * 0.04, -0.1 * -0.04])
    assert found.effects.selection.tolist() == [pytest.approx([0.01, 0.01]), pytest.approx([0.0, 0.02])]
    assert found.effects.interaction.tolist() == [pytest.approx([0.002, -0.002]), pytest.approx([0.0, 0.0])]
    assert (found.portfolio_return, found.benchmark_return) == pytest.approx((1.068 * 1.02 - 1, 0.04))


def test_the_linking_is_carinos_formula() -> None:
    found = by_hand()
    k = math.log(1.068 * 1.02 / 1.04) / (1.068 * 1.02 - 1.04)
    first, second = math.log(1.068 / 1.04) / 0.028, math.log(1.02) / 0.02
    effects = found.effects
    assert found.linked.selection == pytest.approx((first * effects.selection[0] + second * effects.selection[1]) / k)
    assert found.linked.allocation == pytest.approx(first * effects.allocation[0] / k)


def test_periods_of_opposite_excess_that_cancel_each_other_are_linked_without_dividing_by_nothing() -> None:
    weights = np.full((2, 2), 0.5)
    returns = np.array([[0.1, 0.1], [0.0, 0.0]])
    found = attribute(weights, returns, weights, returns[::-1])
    assert found.excess == pytest.approx(0, abs=1e-15)
    assert found.linked.selection == pytest.approx([0, 0], abs=1e-15)
    assert found.effects.selection.tolist() == [pytest.approx([0.05, 0.05]), pytest.approx([-0.05, -0.05])]


def test_the_effects_of_returns_that_are_all_but_equal_keep_their_digits() -> None:
    """Allocation and selection cancel to the last digits, and are linked by a factor that is nothing but 1."""
    weights, benchmark_weights = np.array([[0.7, 0.3]]), np.array([[0.5, 0.5]])
    benchmark_returns = np.array([[0.02, 0.0]])
    returns = benchmark_returns - (0.2 * 0.02) + 1e-15
    found = attribute(weights, returns, benchmark_weights, benchmark_returns)
    assert abs(found.excess) < 1e-14
    assert found.linked.allocation == pytest.approx(found.effects.allocation[0], rel=1e-12)
    assert found.linked.selection == pytest.approx(found.effects.selection[0], rel=1e-12)


def test_a_return_of_what_nobody_holds_may_be_unknown() -> None:
    weights, benchmark_weights = np.array([[0.0, 1.0, 0.0]]), np.array([[0.5, 0.5, 0.0]])
    found = attribute(weights, np.array([[np.nan, 0.02, np.nan]]), benchmark_weights, np.array([[0.04, 0.0, np.nan]]))
    assert found.effects.allocation[0] == pytest.approx([-0.5 * 0.02, 0.5 * -0.02, 0.0])
    assert found.excess == pytest.approx(0.0, abs=1e-15)
    only_ours = attribute(
        np.array([[0.5, 0.5]]), np.full((1, 2), 0.02), np.array([[1.0, 0.0]]), np.array([[0, np.nan]])
    )
    assert only_ours.effects.allocation[0] == pytest.approx([0.0, 0.5 * 0.02])
    assert only_ours.effects.interaction[0] == pytest.approx([-0.5 * 0.02, 0.0])
    assert only_ours.excess == pytest.approx(0.02)


def test_no_period_has_no_excess() -> None:
    none = np.empty((0, 3))
    found = attribute(none, none, none, none)
    assert (found.excess, found.portfolio_return) == (0.0, 0.0)
    assert found.linked.total.tolist() == [0.0, 0.0, 0.0]


def test_what_cannot_be_attributed_says_why() -> None:
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    with pytest.raises(ValueError, match=r"add up to 1\.0 in period 0 and the benchmark's to 0\.0; idle capital"):
        attribute(one, zero, zero, zero)
    with pytest.raises(ValueError, match="one shape"):
        attribute(one, zero, one, np.zeros((2, 1)))
    with pytest.raises(ValueError, match="weights: 1 are not finite"):
        attribute(one * np.nan, zero, one, zero)
    with pytest.raises(ValueError, match=r"^returns: nan in period 0 of market 0, which is held"):
        attribute(one, one * np.nan, one, zero)
    with pytest.raises(ValueError, match="benchmark_returns: nan in period 0 of market 0, which is held"):
        attribute(one, zero, one, one * np.nan)
    with pytest.raises(ValueError, match=r"portfolio: a return of -1\.0 in period 0; it lies above -1"):
        attribute(one, -one, one, zero)
