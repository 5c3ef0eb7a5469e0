"""Anchored windows: right, and the same to the bit wherever the data starts and ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mm_dagster.regime import windows

VALUES = arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, allow_subnormal=False)),
)
WIDTHS = st.integers(1, 12)
ANCHORS = st.integers(0, 10**7)

KERNELS: dict[str, Callable] = {
    "sum": lambda values, width, anchor: windows.windowed_sum(values, width, anchor),
    "max": lambda values, width, anchor: (windows.windowed_max(values, width, anchor),),
    "decayed sum": lambda values, width, anchor: windows.decayed_sum(values, 0.9, width, anchor),
    "moments": lambda values, width, anchor: windows.windowed_moments(values, width),
    "rank": lambda values, width, anchor: windows.windowed_rank(values, width),
    "median": lambda values, width, anchor: windows.windowed_median(values, width),
}


@settings(max_examples=60, deadline=None)
@given(VALUES, WIDTHS, ANCHORS)
def test_each_window_holds_what_a_plain_loop_finds(values, width, anchor):
    total, known = windows.windowed_sum(values, width, anchor)
    largest = windows.windowed_max(values, width, anchor)
    decayed, weight = windows.decayed_sum(values, 0.9, width, anchor)
    median, _ = windows.windowed_median(values, width)
    for i in range(width - 1, values.size):
        window = values[i - width + 1 : i + 1]
        there = window[~np.isnan(window)]
        powers = 0.9 ** np.arange(width)[::-1]
        assert known[i] == there.size
        assert total[i] == pytest.approx(there.sum(), rel=1e-9, abs=1e-6)
        assert decayed[i] == pytest.approx((powers * np.nan_to_num(window)).sum(), rel=1e-9, abs=1e-6)
        assert weight[i] == pytest.approx(powers[~np.isnan(window)].sum(), rel=1e-9)
        if there.size:
            assert largest[i] == there.max()
            assert median[i] == np.median(there)
        else:
            assert np.isnan(largest[i])
            assert np.isnan(median[i])


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=40, deadline=None)
@given(VALUES, WIDTHS, ANCHORS, st.integers(0, 30), st.integers(0, 30))
def test_a_window_has_the_same_bits_wherever_the_series_is_cut(name, values, width, anchor, head, tail):
    whole = KERNELS[name](values, width, anchor)
    cut = np.ascontiguousarray(values[head : max(head, values.size - tail)])
    part = KERNELS[name](cut, width, anchor + head)
    # The rank looks at the `width` values before each.
    first = width if name == "rank" else width - 1
    for one, other in zip(whole, part, strict=True):
        assert one[head + first : head + cut.size].tobytes() == other[first:].tobytes()


@pytest.mark.parametrize("name", ["sum", "max", "decayed sum", "median"])
def test_a_window_that_begins_before_the_series_knows_nothing(name):
    found = KERNELS[name](np.ones(5), 6, 0)
    assert all(np.isnan(one).all() or not one.any() for one in found)


def test_a_flat_window_has_exactly_no_deviation():
    mean, deviation = windows.windowed_moments(np.full(40, 0.1), 20)
    assert set(deviation[19:]) == {0.0}
    assert set(mean[19:]) == {0.1}


def test_a_median_counts_infinite_values_and_skips_unknown_ones():
    median, known = windows.windowed_median(np.array([1.0, np.inf, np.nan, np.inf, 5.0, np.inf]), 4)
    assert median[3:].tolist() == [np.inf, np.inf, np.inf]
    assert known[3:].tolist() == [3, 3, 3]
    assert windows.windowed_median(np.array([1.0, 3.0, np.inf, np.nan]), 4)[0][3] == 3.0


def test_the_rank_counts_equal_values_and_leaves_the_newest_out():
    below, known = windows.windowed_rank(np.array([1.0, 2.0, np.nan, 3.0, 2.0]), 4)
    assert (below[4], known[4]) == (2, 3)


def test_logarithms_of_zero_and_of_less_are_defined():
    assert windows.natural_log(np.array([1.0, 0.0, -1.0, np.inf, np.nan])).tolist()[:2] == [0.0, -np.inf]
    assert np.isnan(windows.natural_log(np.array([-1.0, np.nan]))).all()
