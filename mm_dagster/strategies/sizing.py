"""How much of the equity a position would be: risk a trade, value at risk, Kelly, and the limits of portfolio.yaml."""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Floats
from mm_dagster.config.portfolio import Limits
from mm_dagster.config.strategies import Sizing

_NIGHT = 1.6448536269514722
"""Standard deviations of a normal night that one in 20 is beyond."""


def most(limits: Limits, markets: int) -> float:
    """What the limits leave to a position, share of the equity, if as many markets have one at the same time."""
    shares = [limits.pair, limits.position, (limits.portfolio or 1.0) / markets]
    return min(share for share in shares if share is not None)


def size(atr: Floats, sigma: Floats, kelly: Floats, settings: Sizing, cap: float) -> Floats:
    """The share of the equity that a whole position is, the least of all rules; 0 where one of them is not known.

    Args:
        atr: average true range of an hour over the price, shape (n,).
        sigma: forecast deviation of an hour's log return, shape (n,).
        kelly: Kelly stake of the strategy, multiple of the capital, as known at each bar, 0 where it may as well be
            negative, shape (n,); inf does not limit.
        settings: the rules.
        cap: see `most`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        by_stop = settings.risk_per_trade / (settings.stop_atr * atr)
        by_night = settings.var_5_24h / (_NIGHT * math.sqrt(24.0) * sigma)
    rules = np.stack([by_stop, by_night, settings.kelly * kelly, np.full(atr.size, cap)])
    rules[2, np.isinf(kelly)] = np.inf
    return np.where(np.isnan(rules).any(axis=0), 0.0, np.clip(rules.min(axis=0), 0.0, None))
