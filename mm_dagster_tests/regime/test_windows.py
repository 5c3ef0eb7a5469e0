"""Anchored windows: right, and the same to the bit wherever the data starts and ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mm_dagster.regime import windows
from mm_dagster.regime.median import windowed_median

VALUES = arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 60)),
    elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, allow_subnormal=False)),
)
WIDTHS = st.integers(1, 12)
ANCHORS = st.integers(0, 10**7)

KERNELS: dict[str, Callable] = {
    "mean": lambda values, width, anchor, lanes=1: (windows.windowed_mean(values, width, anchor, lanes),),
    "range": lambda values, width, anchor, lanes=1: windows.windowed_range(values, values, width, anchor, lanes),
    "decayed mean": lambda values, width, anchor, lanes=1: (windows.decayed_mean(values, 0.9, width, anchor, lanes),),
    "moments": lambda values, width, anchor, lanes=1: windows.windowed_moments(values, width, lanes),
    "rank": lambda values, width, anchor, lanes=1: (windows.windowed_rank(values, width, lanes),),
    "median": lambda values, width, anchor, lanes=1: (windowed_median(values, width, lanes),),
}

BEFORE = ("range", "rank")
"""What looks at the `width` values before each, and not at the value itself."""


def in_a_loop(name: str, values: np.ndarray, width: int) -> list[np.ndarray]:
    """The same with numpy over each window alone."""
    found = [np.full(values.shape, np.nan) for _ in range(2 if name in ("range", "moments") else 1)]
    for (lane, i), newest in np.ndenumerate(values):
        first = i - width + (name not in BEFORE)
        if first < 0 or (name in ("rank", "moments") and np.isnan(newest)):
            continue
        window = values[lane, first : first + width]
        known = window[~np.isnan(window)]
        powers = 0.9 ** np.arange(width)[::-1]
        if name == "decayed mean":
            weight = powers[~np.isnan(window)]
            if weight.sum() >= windows.KNOWN * powers.sum():
                found[0][lane, i] = (weight * known).sum() / weight.sum()
        elif known.size >= windows.KNOWN * width:
            found[0][lane, i] = {
                "mean": np.mean,
                "range": np.max,
                "moments": np.mean,
                "rank": lambda window, newest=newest: np.mean(window <= newest),
                "median": np.median,
            }[name](known)
            if name in ("range", "moments"):
                found[1][lane, i] = np.min(known) if name == "range" else np.std(known)
    return found


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=60)
@given(VALUES, WIDTHS, ANCHORS)
def test_each_window_holds_what_a_plain_loop_finds(name, values, width, anchor):
    for found, expected in zip(KERNELS[name](values, width, anchor), in_a_loop(name, values, width), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=40)
@given(VALUES, WIDTHS, ANCHORS, st.integers(0, 30), st.integers(0, 30))
def test_a_window_has_the_same_bits_wherever_the_series_is_cut(name, values, width, anchor, head, tail):
    whole = KERNELS[name](values, width, anchor)
    end = max(head, values.shape[1] - tail)
    part = KERNELS[name](np.ascontiguousarray(values[:, head:end]), width, anchor + head)
    first = width - (name not in BEFORE)
    for one, other in zip(whole, part, strict=True):
        assert one[:, head + first : end].tobytes() == other[:, first:].tobytes()


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=20)
@given(VALUES, WIDTHS, ANCHORS)
def test_a_lane_has_the_same_bits_alone(name, values, width, anchor):
    whole = KERNELS[name](values, width, anchor)
    for lane in range(values.shape[0]):
        for one, other in zip(whole, KERNELS[name](values[lane : lane + 1].copy(), width, anchor), strict=True):
            assert one[lane].tobytes() == other[0].tobytes()


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=40)
@given(VALUES, WIDTHS, ANCHORS, st.sampled_from([2, 4, 8, 16]), st.integers(0, 2**32 - 1))
def test_lanes_side_by_side_have_the_same_bits_as_each_alone(name, values, width, anchor, lanes, seed):
    # Each lane has the same values in another order, so that holes and flat stretches lie elsewhere.
    series = np.stack([np.random.default_rng(seed + k).permutation(values[0]) for k in range(lanes)])
    together = KERNELS[name](np.ascontiguousarray(series.T).reshape(1, -1), width, anchor, lanes)
    for found, alone in zip(together, KERNELS[name](series, width, anchor), strict=True):
        assert np.ascontiguousarray(found.reshape(-1, lanes).T).tobytes() == alone.tobytes()


@pytest.mark.parametrize("name", KERNELS)
def test_long_series_are_computed_in_blocks_like_short_ones(name):
    values = np.random.default_rng(3).normal(size=(2, 1700))
    values[1, 900:905] = np.nan
    for found, expected in zip(KERNELS[name](values, 168, 77), in_a_loop(name, values, 168), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", KERNELS)
def test_a_window_that_begins_before_the_series_is_not_known(name):
    assert all(np.isnan(found).all() for found in KERNELS[name](np.ones((1, 5)), 6, 0))


def test_a_flat_window_has_exactly_no_deviation():
    mean, deviation = windows.windowed_moments(np.full((1, 40), 0.1), 20)
    assert set(deviation[0, 19:]) == {0.0}
    assert set(mean[0, 19:]) == {0.1}


def test_values_that_differ_in_their_last_bits_alone_are_ranked():
    near = np.nextafter(1.0, 2.0, dtype=np.float64) + np.spacing(1.0) * np.array([7.0, 3.0, 5.0, 0.0, 9.0, 1.0])
    assert windowed_median(near[None], 3)[0, 2:].tolist() == [sorted(near[k : k + 3])[1] for k in range(4)]
    assert windowed_median(-near[None], 3)[0, 2:].tolist() == [-sorted(near[k : k + 3])[1] for k in range(4)]


def test_a_median_counts_infinite_values():
    median = windowed_median(np.array([[1.0, np.inf, 2.0, np.inf, 5.0, 6.0]]), 4)
    assert median[0, 3:].tolist() == [np.inf, np.inf, 5.5]


def test_the_rank_counts_equal_values_and_leaves_the_newest_out():
    assert windows.windowed_rank(np.array([[1.0, 2.0, 3.0, 4.0, 2.0]]), 4)[0, 4] == 0.5
