"""Powers of several numbers at once: the bits of the C library, whatever the number and wherever it stands."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster import arrays
from mm_dagster.regime.powers import power

EXPONENTS = (1.75, 1.0 / 1.75)
SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 16.0, np.inf, -np.inf, np.nan, 5e-324, 1e-310, 1e-60, 1e60, 1e61, 1.7e308)


def assert_same_bits(values: np.ndarray, exponent: float) -> None:
    found, expected = power(values, exponent), arrays.power(values, exponent)
    known = ~np.isnan(expected)
    assert np.array_equal(known, ~np.isnan(found))
    assert np.array_equal(found[known].view(np.int64), expected[known].view(np.int64))


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize(("least", "most"), [(-25.0, 5.0), (-150.0, 150.0), (-1e-3, 1e-3)])
def test_a_power_has_the_bits_of_the_c_library(exponent: float, least: float, most: float) -> None:
    # One in a hundred is not the nearest number there; these have to be asked for.
    assert_same_bits(np.exp(np.random.default_rng(11).uniform(least, most, 300_007)), exponent)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_neighbours_of_powers_that_are_exact_are_told_apart(exponent: float) -> None:
    roots = np.arange(1.0, 400.0)
    exact = roots**4 if exponent == 1.75 else roots**7
    assert_same_bits(np.concatenate([exact, np.nextafter(exact, 0.0), np.nextafter(exact, np.inf)]), exponent)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_what_is_no_common_number_is_what_the_c_library_says(exponent: float) -> None:
    assert_same_bits(np.array(SPECIAL * 3), exponent)
    assert power(np.array([0.0, 1.0] * 8), exponent).tolist() == [0.0, 1.0] * 8
    assert np.isnan(power(np.full(16, -2.0), exponent)).all()


@settings(max_examples=200)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=40), st.sampled_from(EXPONENTS))
def test_any_number_beside_any_other_has_the_same_bits(values: list[float], exponent: float) -> None:
    assert_same_bits(np.array(values), exponent)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_power_is_the_same_wherever_in_an_array_it_stands(exponent: float) -> None:
    values = np.random.default_rng(7).lognormal(-7.0, 2.0, 700)
    expected = power(values, exponent)
    assert [power(values[k : k + 1], exponent)[0] for k in range(values.size)] == expected.tolist()
    assert power(values.reshape(2, -1), exponent).reshape(-1).tolist() == expected.tolist()
    assert power(values[::3], exponent).tolist() == expected[::3].tolist()


def test_other_exponents_are_asked_of_the_c_library() -> None:
    values = np.random.default_rng(1).lognormal(0.0, 3.0, 1_000)
    assert power(values, 1.5).tolist() == [math.pow(value, 1.5) for value in values.tolist()]
    assert power(values, 2.0).tolist() == (values * values).tolist()
