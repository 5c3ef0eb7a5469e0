"""The touch probability against scipy's distribution and against simulated paths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mm_dagster.arrays import log_ratio
from mm_dagster.config.risk import RiskConfig
from mm_dagster.grid import touch

TOUCH = RiskConfig().touch
SHIFT = TOUCH.continuity
HORIZONS = ((6, TOUCH.k_break.h6), (12, TOUCH.k_break.h12), (24, TOUCH.k_break.h24))
SIGMAS = st.floats(1e-6, 0.3)


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


def one(distance: float, sigma: float, hours: float = 24, scale: float = 0.72, shift: float = 0.0) -> float:
    return float(touch.probability(np.array([distance]), np.array([sigma]), hours, scale, shift)[0])


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


@pytest.mark.parametrize("shift", [0.0, SHIFT])
def test_a_row_has_the_same_bits_alone_and_among_thousands(shift: float) -> None:
    source = np.random.default_rng(4)
    price = source.uniform(2500, 3500, 4_001)
    bound = np.full(price.size, 3070.0)
    sigma = source.uniform(1e-4, 0.05, price.size)

    def p_of(rows: slice | list[int]) -> np.ndarray:
        return touch.probability(log_ratio(price[rows], bound[rows]), sigma[rows], 24, 0.72, shift)

    p = p_of(slice(None))
    for cut in (1, 2, 3, 8, 100):
        assert p_of(slice(cut, None)).tobytes() == p[cut:].tobytes()
    alone = [p_of([row])[0] for row in range(price.size)]
    assert np.array(alone).tobytes() == p.tobytes()


# closes are looked at every quarter hour ------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "scale"), HORIZONS)
@pytest.mark.parametrize("distance", [0.0, -0.01, -math.inf])
def test_at_the_bound_and_beyond_it_two_closes_are_still_to_come(distance: float, hours: int, scale: float) -> None:
    at_most = 2 * stats.t.cdf(-(SHIFT / 2) / (scale * math.sqrt(hours)), df=4)
    assert 0.9 < at_most < 1
    for sigma in (1e-5, 0.006, 0.2):
        assert one(distance, sigma, hours, scale, SHIFT) == pytest.approx(at_most, rel=1e-12)


@given(st.floats(-0.1, 1), SIGMAS, st.sampled_from(HORIZONS))
def test_the_bound_is_so_much_farther_away_and_nothing_else_is_changed(
    distance: float, sigma: float, horizon: tuple[int, float]
) -> None:
    farther = max(0.0, distance) + SHIFT * sigma * math.sqrt(1 / 4)
    assert one(distance, sigma, *horizon, SHIFT) == pytest.approx(one(farther, sigma, *horizon), rel=1e-12, abs=1e-300)


@given(st.floats(-0.1, 1), st.floats(0, 1), SIGMAS, st.sampled_from(HORIZONS))
def test_with_the_correction_too_nearer_is_never_less_likely(
    distance: float, other: float, sigma: float, horizon: tuple[int, float]
) -> None:
    assert one(distance + other, sigma, *horizon, SHIFT) <= one(distance, sigma, *horizon, SHIFT) * (1 + 1e-12)


@given(SIGMAS, st.floats(-1, 12))
def test_by_default_more_hours_are_never_less_likely(sigma: float, sigmas_away: float) -> None:
    # The factors k differ by horizon, so this is not given by the formula; at the bound it is closest.
    for distance in (0.0, 1e-9, sigmas_away * sigma):
        p_6h, p_12h, p_24h = (one(distance, sigma, hours, scale, SHIFT) for hours, scale in HORIZONS)
        assert p_6h <= p_12h <= p_24h


@given(st.floats(-0.1, 1), SIGMAS, st.floats(1, 100), st.floats(0.3, 1.5))
def test_without_the_correction_it_is_the_reflection_principle(
    distance: float, sigma: float, hours: float, scale: float
) -> None:
    plain = 2.0 * touch.student_t4_cdf(np.array([-(max(0.0, distance) / (scale * sigma * math.sqrt(hours)))]))[0]
    assert one(distance, sigma, hours, scale, 0.0) == plain
    assert one(distance, sigma, hours, scale) == plain


def test_closes_of_a_walk_pass_a_bound_less_often_than_the_walk_itself() -> None:
    # The correction of Broadie, Glasserman and Kou for one close is .5826; two in a row are farther apart still.
    random = np.random.default_rng(5)
    paths, bars = 40_000, 96
    spread = np.sqrt(4.0 / random.chisquare(4, paths))
    lowest, place = np.full(paths, np.inf), np.zeros(paths)
    for _ in range(bars):
        place += random.standard_normal(paths) * spread / math.sqrt(bars)
        np.minimum(lowest, place, out=lowest)
    closed_below = np.mean(lowest <= -1.0)
    # With sigma such that 24 hours spread by 1 at a scale of 1.
    sigma = 1 / math.sqrt(24)
    p, uncorrected = (one(1.0, sigma, 24, 1.0, shift) for shift in (0.5826, 0.0))
    assert closed_below == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / paths))
    assert closed_below < uncorrected - 4 * math.sqrt(p * (1 - p) / paths)
