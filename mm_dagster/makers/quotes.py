"""Who quotes what: at a fixed half spread, by Gueant, Lehalle and Fernandez-Tapia, or where it is worth something.

Each is a function from what is known at every decision to a `Plan`; what depends on the inventory is in the plan's skew
and cost, which the matching reckons with.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Floats, Integers
from mm_dagster.books.book import BP
from mm_dagster.config.makers import MakersConfig
from mm_dagster.makers.fill_probability import FillModel, columns_of
from mm_dagster.makers.matching import MICRO, Plan, Terms
from mm_dagster.makers.moments import Moments
from mm_dagster.makers.probe import HORIZON_SECONDS
from mm_dagster.makers.sizing import sizes

NAIVE, GLFT, EXPECTED_VALUE = "naive", "glft", "expected_value"
MAKERS = (NAIVE, GLFT, EXPECTED_VALUE)
FARTHEST_BP = 1_000.0
"""No quote is farther from the mid."""


def _micro(values: Floats) -> Integers:
    return np.rint(np.nan_to_num(values) * MICRO).astype(np.int64)


def _around(moments: Moments, half_bp: Floats, skew_bp: Floats, lots: Integers) -> Plan:
    """Quotes so far on either side of the mid, everywhere where the book is known."""
    mid = moments.mid
    half = np.clip(np.nan_to_num(half_bp), 0.0, FARTHEST_BP) * BP * mid
    price = np.stack([_micro(mid - half), _micro(mid + half)], axis=1)[:, :, None]
    known = np.broadcast_to(moments.known[:, None, None], price.shape)
    skew = np.clip(np.nan_to_num(skew_bp), 0.0, FARTHEST_BP) * BP * mid
    nothing = np.zeros_like(price)
    return Plan(price, known.astype(np.int64), nothing, lots, _micro(skew), np.zeros(len(mid), np.int64))


def naive(moments: Moments, terms: Terms, config: MakersConfig) -> Plan:
    """The same half spread on both sides, whatever is known."""
    half = np.full(len(moments.at), config.naive_half_spread_bp)
    return _around(moments, half, 0.0 * half, sizes(moments, terms, config.touch_share)[:, :, :1])


def glft(moments: Moments, terms: Terms, config: MakersConfig, model: FillModel) -> Plan:
    """Gueant, Lehalle, Fernandez-Tapia 2013: half spread c1 + sigma c2 / 2, skew sigma c2 a unit of inventory, in bp.

    c1 = ln(1 + g / k) / g; c2 = sqrt(g / (2 A k) (1 + g / k)^(k / g + 1)), g the risk aversion, A and k of the fills.
    It knows no fee.
    """
    g, k, a = config.risk_aversion, model.decay, max(model.intensity, 1e-9)
    c1 = math.log1p(g / k) / g
    c2 = math.sqrt(g / (2 * a * k) * math.exp(min((k / g + 1) * math.log1p(g / k), 50.0)))
    half, skew = c1 + c2 / 2 * moments.volatility, c2 * moments.volatility
    return _around(moments, half, skew, sizes(moments, terms, config.touch_share)[:, :, :1])


def expected_value(moments: Moments, terms: Terms, config: MakersConfig, model: FillModel, fee_bp: float) -> Plan:
    """Where P(fill) (E[mark-out | fill] - fee) less what the inventory costs is greatest, and above 0; else nothing.

    The mark-out is HORIZON_SECONDS after the fill, and its prediction stays within what was seen. A unit of inventory
    costs risk aversion times the variance over as long.
    """
    columns = columns_of(moments, terms.unit_lots)
    mid, known = moments.mid[:, None, None], moments.known[:, None, None] & (moments.prices() > 0)
    chance = np.where(known, model.probability(np.nan_to_num(columns)), 0.0)
    edge = np.where(known, model.worth(np.nan_to_num(columns)) - fee_bp, 0.0)
    variance = np.nan_to_num(moments.volatility) ** 2 * HORIZON_SECONDS
    wanted = config.kappa * edge / np.maximum(variance, 1e-6)[:, None, None]
    return Plan(
        _micro(moments.prices().astype(np.float64)),
        _micro(chance * edge * BP * mid),
        _micro(chance),
        sizes(moments, terms, config.touch_share, wanted),
        np.zeros(len(moments.at), np.int64),
        _micro(config.risk_aversion * variance * BP * moments.mid),
    )


def shifted(plan: Plan, moments: Moments, steps: int) -> Plan:
    """The same quotes, as far from the mid and as large, so many decisions with a book later; the last come first.

    Whoever has no sense of time is worth as much so.
    """
    known = np.flatnonzero(moments.known)
    source = np.arange(len(moments.at))
    source[known] = np.roll(known, steps)
    micro = _micro(moments.mid)[:, None, None]
    return Plan(
        micro + (plan.price - micro)[source],
        plan.value[source],
        plan.chance[source],
        plan.lots[source],
        plan.skew[source],
        plan.cost[source],
    )
