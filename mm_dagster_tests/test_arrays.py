"""Logarithms, powers and compiled loops: the same bits wherever a value stands."""

import math
import subprocess
import sys

import numpy as np
import pytest

from mm_dagster.arrays import exponential, kernel, log_ratio, natural_log, power


def test_logarithms_of_zero_and_of_less_are_defined():
    assert natural_log(np.array([[1.0, 0.0, -1.0, np.nan]])).tolist()[0][:2] == [0.0, -np.inf]
    assert np.isnan(natural_log(np.array([[-1.0, np.nan]]))).all()


@pytest.mark.parametrize("function", [natural_log, exponential, lambda values: power(values, 1.75)])
def test_a_logarithm_exponential_or_power_is_the_same_wherever_in_an_array_it_stands(function):
    values = np.random.default_rng(7).uniform(1e-6, 50.0, 5_000)
    expected = function(values)
    assert [function(values[k : k + 1])[0] for k in range(values.size)] == expected.tolist()
    for size in (2, 3, 5, 7, 8, 9, 15, 17, 31, 33, 1000):
        for start in range(17):
            shifted = np.concatenate([np.ones(start), values[start : start + size]])[start:]
            assert np.array_equal(function(shifted), expected[start : start + size])
            assert np.array_equal(function(values[start::3][:size]), expected[start::3][:size])


def test_a_log_ratio_has_the_bits_of_the_c_library_value_by_value():
    above, below = np.random.default_rng(3).uniform(0.5, 2.0, (2, 1_000))
    assert log_ratio(above, below).tolist() == [math.log(a / b) for a, b in zip(above, below, strict=True)]
    assert np.isnan(log_ratio(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))).all()


def test_a_compiled_loop_divides_by_zero_to_infinity():
    @kernel
    def quotient(values, by):
        return values[0] / by

    assert quotient(np.ones(1), 0.0) == math.inf


def test_who_only_names_arrays_does_not_pay_for_the_compiler():
    code = "import sys; import mm_dagster.arrays, mm_dagster.grid.touch; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
