"""The bounds and levels of a grid that suits the last days' range: what an entry proposes, and an evaluation opens."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Floats, log_ratio
from mm_dagster.config.grid import Fees, break_even_ratio

ROOM = 0.02
"""Least distance of the price to each proposed bound before the margin, as a fraction of the price."""
MARGIN = 0.005
"""What is added beyond either bound, as a fraction of it."""
MAX_INTERVALS = 16
STEP_OVER_BREAK_EVEN = 3.0
"""A proposed step is at least so many times the step at which a round trip earns nothing."""


class Proposal(NamedTuple):
    """Proposed grids, one per price.

    Attributes:
        lower: lower bound, quote currency, shape (n,); NaN where unknown.
        upper: upper bound, likewise.
        width: ln(upper / lower), likewise.
        intervals: geometric steps between them; None where not two of them would pay their fees, or unknown.
    """

    lower: Floats
    upper: Floats
    width: Floats
    intervals: list[int | None]


def propose(price: Floats, range_low: Floats, range_high: Floats, fees: Fees) -> Proposal:
    """The range of the last 96 hours, widened so that the price has 2 % to each side, plus 0.5 %.

    Up to 16 geometric intervals, whose step is at least 3 times the break-even step.

    Args:
        price: quote currency, shape (n,), NaN where unknown; likewise the others.
        range_low: lower end of the range.
        range_high: upper end.
        fees: of the market.
    """
    lower = np.where(np.isnan(range_low), np.nan, np.minimum(range_low, price * (1 - ROOM)) * (1 - MARGIN))
    upper = np.where(np.isnan(range_high), np.nan, np.maximum(range_high, price * (1 + ROOM)) * (1 + MARGIN))
    lower = np.where(lower > 0, lower, np.nan)
    width = log_ratio(upper, lower)
    least_step = math.log1p(STEP_OVER_BREAK_EVEN * (break_even_ratio(fees.maker, fees.paid_in) - 1))
    return Proposal(lower, upper, width, [_intervals(value, least_step) for value in width.tolist()])


def _intervals(width: float, least_step: float) -> int | None:
    """How many geometric intervals of at least `least_step` fit into a log width; None below two, or unknown."""
    if math.isnan(width):
        return None
    count = min(MAX_INTERVALS, math.floor(width / least_step)) if least_step > 0 else MAX_INTERVALS
    return count if count >= 2 else None
