"""What kernels write between lanes is what numpy finds for each: the contract with the compiler's inner parts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mm_dagster.arrays import kernel
from mm_dagster.regime.lanes import (
    fused,
    leading_zeros,
    put,
    roots,
    side_by_side,
    spread,
    take,
    trailing_zeros,
    upper_half,
    where,
    whole,
    with_upper_half,
)

A = np.array([1.0, -2.5, np.nan, 0.0, 3.0, 1e300, -0.0, 7.0])
B = np.array([3.0, -2.5, 1.0, -0.0, np.nan, 1e300, 0.0, 2.0])


@kernel
def _all_operations(a, b, together):
    found = np.empty((14, a.size))
    for k in range(0, a.size, len(together)):
        x, y = take(a, k, together), take(b, k, together)
        total, product = x, x
        total += y
        product *= y
        put(found[0], k, x + y)
        put(found[1], k, x - y)
        put(found[2], k, x * y)
        put(found[3], k, x / y)
        put(found[4], k, total)
        put(found[5], k, product)
        put(found[6], k, 2.0 * x + 1)
        put(found[7], k, roots(x))
        put(found[8], k, where(x > y, x, y))
        put(found[9], k, where(x >= y, 1.0, 0.0))
        put(found[10], k, where(x < y, 1.0, 0.0))
        put(found[11], k, where((x == x) & (y == y), 1.0, 0.0))
        put(found[12], k, spread(0.5, together))
        put(found[13], k, spread(1.0 if whole(x == x) else 0.0, together))
    return found


@kernel
def _zeros(word):
    return leading_zeros(word), trailing_zeros(word)


@kernel
def _dropped_and_halves(a, b, together):
    found = np.empty((3, a.size))
    for k in range(0, a.size, len(together)):
        x, y = take(a, k, together), take(b, k, together)
        put(found[0], k, fused(x, y, 0.0 - x * y))
        put(found[1], k, upper_half(x))
        put(found[2], k, with_upper_half(upper_half(x)))
    return found


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_a_product_leaves_over_what_it_drops(lanes: int) -> None:
    a, b = np.random.default_rng(2).lognormal(0.0, 5.0, (2, 64))
    dropped, upper, cut = _dropped_and_halves(a, b, side_by_side(64, lanes))
    exact = [Fraction(x) * Fraction(y) - Fraction(x * y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert [Fraction(one) for one in dropped.tolist()] == exact
    assert any(exact)
    assert upper.tolist() == (a.view(np.int64) >> 32).tolist()
    assert cut.view(np.int64).tolist() == (a.view(np.int64) >> 32 << 32).tolist()


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_lanes_are_computed_like_numbers(lanes: int) -> None:
    found = _all_operations(A, B, side_by_side(8, lanes))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        expected = [
            A + B, A - B, A * B, A / B, A + B, A * B, 2.0 * A + 1.0, np.sqrt(A), np.where(A > B, A, B),
            A >= B, A < B, ~np.isnan(A) & ~np.isnan(B), np.full(8, 0.5), np.repeat(
                [not np.isnan(A[k : k + lanes]).any() for k in range(0, 8, lanes)], lanes
            ),
        ]  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        known = ~np.isnan(one)
        assert np.signbit(one[known]).tolist() == np.signbit(np.asarray(other, np.float64)[known]).tolist()


def test_lanes_that_leave_a_rest_are_computed_one_by_one() -> None:
    assert [len(side_by_side(lanes)) for lanes in (1, 3, 4, 18, 20, 48)] == [1, 1, 4, 1, 4, 16]


def test_zeros_of_a_word_are_counted() -> None:
    assert _zeros(1) == (63, 0)
    assert _zeros(0b1011000) == (57, 3)
