"""The touch probability against scipy's distribution and against simulated paths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mm_dagster.arrays import log_ratio
from mm_dagster.grid import touch


@pytest.mark.parametrize("x", [-1e4, -30.0, -6.0, -2.776445, -1.0, -0.1, 0.0, 0.7, 2.131847, 12.0])
def test_distribution_is_that_of_scipy(x: float) -> None:
    assert touch.student_t4_cdf(np.array([x]))[0] == pytest.approx(stats.t.cdf(x, df=4), rel=1e-12)


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0])
def test_the_closed_form_is_the_share_of_simulated_paths_that_touch(distance: float) -> None:
    # A random walk whose variance is drawn anew for each path, 4 / chi^2 of 4: its end is a t with 4 degrees.
    random = np.random.default_rng(4)
    paths, steps = 20_000, 800
    spread = np.sqrt(4.0 / random.chisquare(4, paths))
    lowest = np.zeros(paths)
    place = np.zeros(paths)
    for _ in range(steps):
        place += random.standard_normal(paths) * spread / math.sqrt(steps)
        np.minimum(lowest, place, out=lowest)
    # What the walk may have gone below between two steps (Broadie, Glasserman and Kou 1997).
    touched = np.mean(lowest - 0.5826 * spread / math.sqrt(steps) <= -distance)
    sigma, hours, scale = 0.01, 24.0, 0.72
    p = touch.probability(np.array([distance * scale * sigma * math.sqrt(hours)]), np.array([sigma]), hours, scale)[0]
    assert touched == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / paths))


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


@given(st.integers(0, 200_000), st.integers(1, 2_000), st.floats(0.05, 3))
def test_the_variance_ahead_is_the_mean_of_that_of_its_bars(first: int, bars: int, weekend: float) -> None:
    each = touch.forecast(np.full(bars, 0.006), first + np.arange(bars), 1, weekend).tolist()
    found = touch.forecast(np.array([0.006]), np.array([first]), bars, weekend)[0]
    assert found**2 == pytest.approx(math.fsum(one * one for one in each) / bars)


@given(st.integers(0, 2_000_000), st.integers(1, 2_000), st.floats(1e-5, 0.1))
def test_a_forecast_without_a_weekend_keeps_its_bits(first: int, bars: int, sigma: float) -> None:
    assert touch.forecast(np.array([sigma]), np.array([first]), bars, 1.0)[0] == sigma


def test_a_forecast_that_is_not_known_stays_so() -> None:
    assert math.isnan(touch.forecast(np.array([math.nan]), np.array([300]), 96, 0.7)[0])


def one(distance: float, sigma: float, hours: float = 24, scale: float = 0.72) -> float:
    return float(touch.probability(np.array([distance]), np.array([sigma]), hours, scale)[0])


def test_probability_is_two_tails_of_the_scaled_distance() -> None:
    assert one(0.05, 0.008) == pytest.approx(2 * stats.t.cdf(-0.05 / (0.72 * 0.008 * math.sqrt(24)), df=4), rel=1e-12)


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
    p = touch.probability(log_ratio(price, bound), sigma, 24, 0.72)
    for cut in (1, 2, 3, 8, 100):
        tail = touch.probability(log_ratio(price[cut:], bound[cut:]), sigma[cut:], 24, 0.72)
        assert tail.tobytes() == p[cut:].tobytes()
    alone = [touch.probability(log_ratio(price[[i]], bound[[i]]), sigma[[i]], 24, 0.72)[0] for i in range(price.size)]
    assert np.array(alone).tobytes() == p.tobytes()
