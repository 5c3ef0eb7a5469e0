"""The touch probability against numeric integration of the density that it claims to integrate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.grid import touch


def density(x: float) -> float:
    """Student's t with 4 degrees of freedom: gamma(5/2) / (sqrt(4 pi) gamma(2)) (1 + x^2/4)^(-5/2)."""
    return math.gamma(2.5) / (math.sqrt(4 * math.pi) * math.gamma(2.0)) * (1 + x * x / 4) ** -2.5


def integral(upper: float, steps: int = 20_000) -> float:
    """Simpson's rule over t = tan(angle) from -infinity to `upper`."""
    low, high = -math.pi / 2, math.atan(upper)
    width = (high - low) / steps
    total = 0.0
    for index in range(steps + 1):
        angle = low + index * width
        cosine = math.cos(angle)
        value = 0.0 if index == 0 else density(math.tan(angle)) / (cosine * cosine)
        total += value * (1 if index in (0, steps) else 4 if index % 2 else 2)
    return total * width / 3


@pytest.mark.parametrize("x", [-30.0, -6.0, -2.776445, -1.0, -0.1, 0.0, 0.7, 2.131847, 12.0])
def test_distribution_equals_the_integral_of_the_density(x: float) -> None:
    assert touch.student_t4_cdf(np.array([x]))[0] == pytest.approx(integral(x), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize(
    ("quantile", "tail"), [(1.533206, 0.10), (2.131847, 0.05), (2.776445, 0.025), (4.604095, 0.005)]
)
def test_distribution_has_the_tabulated_quantiles(quantile: float, tail: float) -> None:
    assert touch.student_t4_cdf(np.array([-quantile]))[0] == pytest.approx(tail, abs=1e-7)
    assert touch.student_t4_cdf(np.array([quantile]))[0] == pytest.approx(1 - tail, abs=1e-7)


@given(st.floats(-50, 50))
def test_distribution_is_the_closed_form_of_the_method(x: float) -> None:
    q = 1 + x * x / 4
    closed = 0.5 + 3 / 8 * x / math.sqrt(q) * (1 - x * x / (12 * q))
    assert touch.student_t4_cdf(np.array([x]))[0] == pytest.approx(closed, abs=1e-14)


def test_far_tail_does_not_cancel() -> None:
    # The density falls like 12 |x|^-5, so the tail is 3 x^-4 and the closed form as printed would be 0 or negative.
    assert touch.student_t4_cdf(np.array([-1e6]))[0] == pytest.approx(12e-24, rel=1e-6)
    assert touch.student_t4_cdf(np.array([-np.inf, np.inf])).tolist() == [0.0, 1.0]


def one(distance: float, sigma: float, hours: float = 24, scale: float = 0.72) -> float:
    return float(touch.probability(np.array([distance]), np.array([sigma]), hours, scale)[0])


def test_probability_is_two_tails_of_the_scaled_distance() -> None:
    assert one(0.05, 0.008) == pytest.approx(2 * integral(-0.05 / (0.72 * 0.008 * math.sqrt(24))), rel=1e-7)


@pytest.mark.parametrize("distance", [0.0, -0.01, -math.inf])
def test_beyond_the_bound_the_probability_is_one_whatever_the_volatility(distance: float) -> None:
    assert one(distance, 0.01) == 1.0
    assert one(distance, 0.0) == 1.0


def test_unknown_or_no_volatility_gives_no_probability() -> None:
    assert math.isnan(one(0.01, math.nan))
    assert math.isnan(one(-0.01, math.nan))
    assert math.isnan(one(math.nan, 0.01))
    assert math.isnan(one(0.01, 0.0))


@given(st.floats(1e-6, 1), st.floats(1e-6, 1), st.floats(1e-5, 0.1), st.floats(1e-5, 0.1), st.floats(1, 100))
def test_nearer_wilder_and_longer_are_never_less_likely(
    distance: float, other: float, sigma: float, more: float, hours: float
) -> None:
    slack = 1 + 1e-12
    p = one(distance, sigma, hours)
    assert 0 <= p <= 1
    assert one(distance + other, sigma, hours) <= p * slack
    assert p <= one(distance, sigma + more, hours) * slack
    assert p <= one(distance, sigma, hours + 1) * slack


def test_a_row_has_the_same_bits_alone_and_among_others() -> None:
    source = np.random.default_rng(4)
    price = source.uniform(2500, 3500, 257)
    bound = np.full(257, 3070.0)
    sigma = source.uniform(1e-4, 0.05, 257)
    p = touch.probability(touch.log_ratio(price, bound), sigma, 24, 0.72)
    for cut in (1, 2, 3, 8, 100):
        tail = touch.probability(touch.log_ratio(price[cut:], bound[cut:]), sigma[cut:], 24, 0.72)
        assert tail.tobytes() == p[cut:].tobytes()
    alone = [
        touch.probability(touch.log_ratio(price[[i]], bound[[i]]), sigma[[i]], 24, 0.72)[0] for i in range(price.size)
    ]
    assert np.array(alone).tobytes() == p.tobytes()
