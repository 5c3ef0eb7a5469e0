"""Logarithms, powers and compiled loops: the same bits wherever a value stands."""

import math
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from mm_dagster.arrays import exponential, kernel, log_ratio, natural_log, power
from mm_dagster_tests.conftest import PROJECT


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


@pytest.mark.parametrize(
    ("ours", "of_the_c_library"),
    [
        (natural_log, math.log),
        (exponential, math.exp),
        *[(partial(power, exponent=one), lambda x, one=one: math.pow(x, one)) for one in (1.75, 1 / 1.75, 1.5)],
        (partial(power, exponent=2.0), lambda x: x * x),
        (partial(power, exponent=0.5), math.sqrt),
    ],
)
def test_every_processor_finds_the_bits_of_the_c_library(ours, of_the_c_library):
    """numpy does not, where there is AVX-512: one value in a hundred has another last bit there."""
    values = np.random.default_rng(5).lognormal(0.0, 3.0, (3, 20_000)).clip(1e-300, 700.0)
    expected = [of_the_c_library(value) for value in values.reshape(-1).tolist()]
    assert ours(values).reshape(-1).tolist() == expected
    assert ours(values[:, ::2]).tolist() == ours(values)[:, ::2].tolist()


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


OLD = """
from typing import NamedTuple
import numpy as np
from mm_dagster.arrays import kernel
class {name}(NamedTuple):
    factor: float
@kernel
def scaled(values, by):
    return values[0] * by.factor
print(scaled(np.ones(1), {name}(3.0)))
"""


def run(folder, source):
    """What a module prints that an upgrade leaves in place, with the cache of the program before it."""
    (folder / "loops.py").write_text(source)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": f"{folder}:{PROJECT}"}
    # Without Python's own bytecode: it keeps a file of the same length that was written anew within a second.
    command = [sys.executable, "-B", "-c", "import loops"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout, done.stderr[-500:]


@pytest.mark.slow
def test_a_cache_of_a_program_before_that_names_a_class_that_is_gone_is_begun_anew(tmp_path):
    assert run(tmp_path, OLD.format(name="Book")) == (0, "3.0\n", "")
    indices = list((tmp_path / "cache").rglob("*.nbi"))
    assert len(indices) == 1
    assert b"Book" in indices[0].read_bytes()
    assert run(tmp_path, OLD.format(name="Terms")) == (0, "3.0\n", "")
    # What was compiled anew is kept: the next process reads it.
    assert b"Terms" in indices[0].read_bytes()
    written = indices[0].stat().st_mtime_ns
    assert run(tmp_path, OLD.format(name="Terms")) == (0, "3.0\n", "")
    assert indices[0].stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("left", [b"", b"torn", "half"])
def test_a_torn_cache_is_begun_anew(tmp_path, left):
    assert run(tmp_path, OLD.format(name="Terms"))[0] == 0
    (index,) = (tmp_path / "cache").rglob("*.nbi")
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2] if left == "half" else left)
    assert run(tmp_path, OLD.format(name="Terms")) == (0, "3.0\n", "")


CALLED = """
from mm_dagster.arrays import kernel
@kernel
def step(value):
    return value + {added}
"""
CALLS = """
import numpy as np
from called import step
from mm_dagster.arrays import kernel
@kernel
def total(values):
    found = 0.0
    for value in values:
        found += step(value)
    return found
print(total(np.ones(2)))
"""


def test_a_loop_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path):
    (tmp_path / "called.py").write_text(CALLED.format(added="1.0"))
    assert run(tmp_path, CALLS) == (0, "4.0\n", "")
    written = (tmp_path / "called.py").stat()
    (tmp_path / "called.py").write_text(CALLED.format(added="2.0"))
    os.utime(tmp_path / "called.py", ns=(written.st_atime_ns, written.st_mtime_ns))
    assert run(tmp_path, CALLS) == (0, "6.0\n", "")


def test_contract_with_numba_the_stamp_of_the_source_is_compared_when_a_cache_is_read():
    from numba.core.caching import IndexDataCacheFile

    @kernel
    def one(values):
        return values[0]

    assert isinstance(one._cache._cache_file, IndexDataCacheFile)
    own, room = one._cache._cache_file._source_stamp
    assert own == one._cache._impl.locator.get_source_stamp()
    assert len(room) == 32


def test_contract_with_numba_the_cache_of_a_loop_is_loaded_and_flushed_by_these_methods():
    from numba.core.caching import FunctionCache

    assert all(hasattr(FunctionCache, name) for name in ("load_overload", "flush", "cache_path"))

    @kernel
    def one(values):
        return values[0]

    assert isinstance(one._cache, FunctionCache)
