"""Arrays of numbers: what every room calls them, how loops over them are compiled, and how logarithms are taken.

There are two rules for logarithms, since numpy's and the C library's differ in the last bit of one value in a hundred,
and rows with the bits of either are stored. A logarithm on which a stored value depends goes through one of the two
functions here, never through another library.

- `natural_log` is numpy's, over a whole array: features, verdicts, and everything that an evaluation computes.
- `log_ratio` is the C library's, one value after another: the distance to a bound, and so every break probability.

The logarithm of a constant, or of a setting, is `math.log`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
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
    _forget_what_cannot_be_read(compiled._cache)
    return cast(_Loop, compiled)


def _forget_what_cannot_be_read(cache: Any) -> None:
    """Begins a loop's cache anew where its index cannot be read, instead of failing at each call for ever.

    An index names the classes of the arguments, and numba reads it before it looks whether it is of this source: one
    that an older program left may name a class that is no more, and a disk may have torn it. Numba has no setting for
    that; a test holds that its cache still has these two methods.
    """
    load = cache.load_overload

    def load_or_forget(*of: Any) -> Any:
        try:
            return load(*of)
        except Exception as error:
            logger.info("%s is compiled anew: its cache cannot be read: %s", cache.cache_path, error)
            cache.flush()
            return None

    cache.load_overload = load_or_forget


def natural_log(values: Floats) -> Floats:
    """ln; -inf of 0 and NaN below it. A value's bits do not depend on where in the array it stands: a test holds it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values)


def log_ratio(numerator: Floats, denominator: Floats) -> Floats:
    """ln(numerator / denominator) for positive values of the same shape (n,); NaN where either is NaN."""
    ratio = numerator / denominator
    return np.array([math.log(value) for value in ratio.tolist()], dtype=np.float64)


def power(values: Floats, exponent: float) -> Floats:
    """values^exponent, as independent of the place as `natural_log`; NaN below 0."""
    return np.power(values, exponent)


def exponential(values: Floats) -> Floats:
    """e^x, likewise; inf where it is beyond the numbers."""
    with np.errstate(over="ignore"):
        return np.exp(values)
