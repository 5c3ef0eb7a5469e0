"""Arrays of numbers: what every room calls them, how loops over them are compiled, and how logarithms are taken.

A logarithm, a power or an exponential on which a stored value depends goes through one of the functions here, by the C
library, one value after another. numpy takes other instructions where a processor has AVX-512, and finds another last
bit for one value in a hundred: hosts that share a lake would store rows that differ. glibc, too, takes others where a
processor has no FMA: such a host, of before 2013, does not share a lake with newer ones. The logarithm of a constant,
or of a setting, is `math.log`.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_Loop = TypeVar("_Loop", bound=Callable)


def kernel(loop: _Loop) -> _Loop:
    """A loop over arrays, compiled once and kept.

    No fastmath and no threads: the order of operations is the one that is written. x / 0 is infinite.
    """
    # Who only names arrays does not pay for the compiler.
    from numba import njit

    compiled: Any = njit(cache=True, error_model="numpy", nogil=True)(loop)
    _know_its_room(compiled._cache, Path(loop.__code__.co_filename).parent)
    _forget_what_cannot_be_read(compiled._cache)
    return cast(_Loop, compiled)


def _know_its_room(kept: Any, room: Path) -> None:
    """What is kept of a loop counts only while all modules of its room are as they were.

    A loop has the loops that it calls within itself, and numba looks at no file but its own: after an upgrade that
    changed another one, a row would be computed by half of the program before. A test holds that numba keeps the stamp
    of the source here.
    """
    kept._cache_file._source_stamp = (kept._cache_file._source_stamp, _written_in(room))


@cache
def _written_in(room: Path) -> str:
    """A digest of a room's modules, and of this one."""
    digest = hashlib.blake2b(digest_size=16)
    for path in (Path(__file__), *sorted(room.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _forget_what_cannot_be_read(kept: Any) -> None:
    """Begins a loop's cache anew where its index cannot be read, instead of failing at each call for ever.

    An index names the classes of the arguments, and numba reads it before it looks whether it is of this source: one
    that an older program left may name a class that is no more, and a disk may have torn it. Numba has no setting for
    that; a test holds that its cache still has these two methods.
    """
    load = kept.load_overload

    def load_or_forget(*of: Any) -> Any:
        try:
            return load(*of)
        except Exception as error:
            logger.info("%s is compiled anew: its cache cannot be read: %s", kept.cache_path, error)
            kept.flush()
            return None

    kept.load_overload = load_or_forget


def natural_log(values: Floats) -> Floats:
    """ln; -inf of 0 and NaN below it. A value's bits depend on nothing but the value: a test holds it."""
    return _by_the_c_library("log", values)


def log_ratio(numerator: Floats, denominator: Floats) -> Floats:
    """ln(numerator / denominator) for positive values of the same shape (n,); NaN where either is NaN."""
    ratio = numerator / denominator
    return np.array([math.log(value) for value in ratio.tolist()], dtype=np.float64)


def power(values: Floats, exponent: float) -> Floats:
    """values^exponent, likewise; NaN below 0 where the exponent is no whole number."""
    return _by_the_c_library("pow", values, exponent)


def exponential(values: Floats) -> Floats:
    """e^x, likewise; inf where it is beyond the numbers."""
    return _by_the_c_library("exp", values)


def _by_the_c_library(name: str, values: Floats, *more: float) -> Floats:
    given = np.ascontiguousarray(values, dtype=np.float64)
    found = np.empty(given.shape)
    _elementary()[name](given.reshape(-1), found.reshape(-1), *more)
    return found


@cache
def _elementary() -> dict[str, Callable[..., None]]:
    """Loops over flat arrays, compiled when there is first something to compute."""

    @kernel
    def log(values: Floats, found: Floats) -> None:
        for i in range(values.size):
            found[i] = math.log(values[i])

    @kernel
    def exp(values: Floats, found: Floats) -> None:
        for i in range(values.size):
            found[i] = math.exp(values[i])

    @kernel
    def power(values: Floats, found: Floats, exponent: float) -> None:
        for i in range(values.size):
            # A square and a root are exact.
            if exponent == 2.0:
                found[i] = values[i] * values[i]
            elif exponent == 0.5:
                found[i] = math.sqrt(values[i])
            else:
                found[i] = math.pow(values[i], exponent)

    return {"log": log, "exp": exp, "pow": power}
