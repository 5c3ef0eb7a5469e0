"""The fits over windows with holes: right beside them, and the same to the bit wherever the series is cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.regime import ornstein_uhlenbeck
from mm_dagster.regime import variance_ratio as ratios
from mm_dagster.regime.terms import change, swing
from mm_dagster.regime.variance_ratio import variance_ratio
from mm_dagster.regime.windows import windowed_mean

WIDTH, Q = 30, 5
FITS: dict[str, Callable] = {
    "Ornstein-Uhlenbeck": lambda y, anchor, lanes=1: ornstein_uhlenbeck.fit(y, WIDTH, anchor, lanes),
    "variance ratio": lambda y, anchor, lanes=1: ratio_and_z(y, anchor, lanes),
}


def ratio_and_z(y: np.ndarray, anchor: int, lanes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    returns = change(y, lanes)
    return variance_ratio(y, returns, windowed_mean(returns**2, WIDTH, anchor, lanes), WIDTH, Q, anchor, lanes)


def walk(seed: int, bars: int, holes: float, flat: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    steps = random.normal(0.0, 0.01, bars) * (random.random(bars) > flat)
    y = 5.0 + np.cumsum(steps)
    # Holes come alone and in rows, with stretches between them that are longer than a window.
    lost = (random.random(bars) < holes) & (np.sin(np.arange(bars) / 40.0) > 0.0)
    lost[200 : 200 + random.integers(0, 50)] = True
    y[lost] = np.nan
    return y[None]


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.02, 0.1]),
    st.sampled_from([0.0, 0.3, 0.97]),
    st.integers(0, 10**6),
    st.integers(0, 300),
    st.integers(0, 100),
)
def test_a_fit_has_the_same_bits_wherever_the_series_is_cut(name, seed, holes, flat, anchor, head, tail) -> None:
    y = walk(seed, 420, holes, flat)
    whole = FITS[name](y, anchor)
    part = FITS[name](np.ascontiguousarray(y[:, head : 420 - tail]), anchor + head)
    for one, other in zip(whole, part, strict=True):
        assert one[:, head + WIDTH : 420 - tail].tobytes() == other[:, WIDTH:].tobytes()
        assert np.isnan(other[:, : WIDTH - 1]).all()


@pytest.mark.parametrize("name", [*FITS, "swing"])
@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.02, 0.1]),
    st.sampled_from([0.0, 0.3, 0.97]),
    st.integers(0, 10**6),
    st.sampled_from([2, 4, 8]),
)
def test_lanes_side_by_side_have_the_same_bits_as_each_alone(name, seed, holes, flat, anchor, lanes) -> None:
    series = np.concatenate([walk(seed + k, 420, holes, flat) for k in range(lanes)])
    fits = {**FITS, "swing": lambda y, anchor, lanes=1: (swing(y, WIDTH, 3, 1.0, lanes),)}
    together = fits[name](np.ascontiguousarray(series.T).reshape(1, -1), anchor, lanes)
    for found, alone in zip(together, fits[name](series, anchor), strict=True):
        assert np.ascontiguousarray(found.reshape(-1, lanes).T).tobytes() == alone.tobytes()


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.1]), st.integers(0, 10**6))
def test_the_sums_of_two_blocks_find_what_two_passes_over_the_window_find(seed, holes, anchor) -> None:
    y = walk(seed, 420, holes, 0.0)
    phi, _, sigma, tau, *_ = ornstein_uhlenbeck.fit(y, WIDTH, anchor)
    ratio, z = ratio_and_z(y, anchor)
    weight = np.array([0.0, *((2.0 * (Q - j) / Q) ** 2 for j in range(1, Q))])
    for i in range(WIDTH, 420):
        pairs = np.stack([y[0, i - WIDTH : i], y[0, i - WIDTH + 1 : i + 1]])
        x, after = pairs[:, ~np.isnan(pairs).any(axis=0)]
        if np.isnan(y[0, i]) or x.size < 0.9 * WIDTH:
            assert np.isnan(phi[0, i])
            assert np.isnan(ratio[0, i])
            continue
        slope, intercept = np.polyfit(x - 5.0, after - 5.0, 1)
        assert phi[0, i] == pytest.approx(slope, rel=1e-8, abs=1e-9)
        residuals = after - 5.0 - intercept - slope * (x - 5.0)
        assert sigma[0, i] == pytest.approx(np.sqrt((residuals**2).sum() / (x.size - 2)), rel=1e-8)
        error = sigma[0, i] / np.sqrt(((x - x.mean()) ** 2).sum())
        assert tau[0, i] == pytest.approx((slope - 1.0) / error, rel=1e-7, abs=1e-7)
        directly = ratios._directly(y[0], i, WIDTH, Q, weight)
        assert np.allclose([ratio[0, i], z[0, i]], directly, rtol=1e-8, atol=1e-8, equal_nan=True)
