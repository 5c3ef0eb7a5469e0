"""x^1.75 and back, which the forecast of volatility takes of every bar: several numbers at once, by roots.

What is found is what the C library finds, to the bit. A power is computed in twice the digits, as a sum of two numbers;
where any number as near to it as the C library's answer must be rounds to the same, that is the answer. The others, one
in nine, are asked of the C library.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from mm_dagster import arrays
from mm_dagster.arrays import Floats, kernel
from mm_dagster.regime.lanes import WIDEST, fused, put, roots, side_by_side, take, upper_half, where, with_upper_half


def power(values: Floats, exponent: float) -> Floats:
    """values^exponent, with the bits of `arrays.power`; NaN below 0 where the exponent is no whole number."""
    if exponent not in (_FORTH, _BACK):
        return arrays.power(values, exponent)
    given = np.ascontiguousarray(values)
    found = np.empty(given.shape)
    _powers(given.reshape(-1), found.reshape(-1), exponent, side_by_side(WIDEST))
    return found


_FORTH = 1.75
_BACK = 1.0 / _FORTH
_C_LIBRARY = 0.54
"""How far pow of glibc and of musl is from the power at most, in units of the last place, as their source says."""
_LEAST, _MOST = 1e-60, 1e60
"""Beyond these, what a product leaves over could be too small to be a number."""


@kernel
def _powers(values: Floats, found: Floats, exponent: float, together: tuple[float, ...]) -> None:
    rest = values.size - values.size % len(together)
    for i in range(0, rest, len(together)):
        x = take(values, i, together)
        put(found, i, _forth(x) if exponent == _FORTH else _back(x))
    found[rest:] = np.nan
    for i in range(values.size):
        if math.isnan(found[i]):
            found[i] = math.pow(values[i], exponent)


@kernel
def _forth(x: Any) -> Any:
    """x h q, of the roots h = x^(1/2) and q = h^(1/2); NaN where the C library must be asked."""
    h = roots(x)
    q = roots(h)
    half = 0.5 / h
    h_low = fused(0.0 - h, h, x) * half
    q_low = (fused(0.0 - q, q, h) + h_low) * (q * half)
    hq = h * q
    hq_low = fused(h, q, 0.0 - hq) + (h * q_low + h_low * q)
    y = x * hq
    return _rounded(x, y, fused(x, hq, 0.0 - y) + x * hq_low, 0.001)


@kernel
def _back(x: Any) -> Any:
    """x u^3 of u = x^(-1/7), which is found from a first guess by steps of the fourth order (Householder 1970)."""
    logarithm = upper_half(x)
    u = with_upper_half(_GUESS - logarithm * (1.0 / 7.0))
    for _ in range(2):
        u2 = u * u
        off = 1.0 - x * (u2 * u2 * u2 * u)
        u += u * off * (1.0 / 7.0 + off * (4.0 / 49.0 + off * (20.0 / 343.0)))
    u2 = u * u
    u2_low = fused(u, u, 0.0 - u2)
    u3 = u2 * u
    u3_low = fused(u2, u, 0.0 - u3) + u2_low * u
    u4 = u2 * u2
    u4_low = fused(u2, u2, 0.0 - u4) + 2.0 * u2 * u2_low
    y = x * u3
    y_low = fused(x, u3, 0.0 - y) + x * u3_low
    one = y * u4
    off = (1.0 - one) - (fused(y, u4, 0.0 - one) + (y * u4_low + y_low * u4))
    # So near that the square of it is nothing.
    near = where(off * off < 1e-18, x, np.nan)
    y_low += y * (off * (3.0 / 7.0) + _BACK_BEYOND * (logarithm - _UPPER_HALF_OF_ONE))
    return _rounded(near, y, y_low, 0.03)


_UPPER_HALF_OF_ONE = 1023.043 * 2.0**20
"""By which the upper half of x, 2^20 to one, is log2(x), 0.043 more or less."""
_GUESS = 1023.0 * 2.0**20 * (8.0 / 7.0) - 60000.0
"""The upper half of u, and that of x over 7: nearly the same for all x."""
_BACK_BEYOND = float(Fraction(_BACK) - Fraction(4, 7)) * math.log(2.0) / 2.0**20
"""By how much 1 / 1.75, as the machine has it, is more than 4 / 7: relative, times a logarithm in those units."""


@kernel
def _rounded(x: Any, y: Any, y_low: Any, ours: float) -> Any:
    """y + y_low where every number so near to the power has the same bits, else NaN.

    Args:
        x: of which the power is taken.
        y, y_low: the power in twice the digits.
        ours: how far from the power they may be, in units of the last place.
    """
    rounded = y + y_low
    dropped = y_low - (rounded - y)
    # Half a unit more than this, and the nearest number would be the next one.
    farthest = 0.5 / (1.0 - _C_LIBRARY - ours)
    sure = (rounded + dropped * farthest == rounded) & (x > _LEAST) & (x < _MOST)
    return where(sure, rounded, np.nan)
