"""Grids that a fixed rule opens every day on every market: it looks at prices alone and knows no signal."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config import Fees, GridConfig
from mm_dagster.evaluation.market import Market
from mm_dagster.grid.proposal import propose

LIFE_DAYS = 14
"""How long a grid is held when nothing ends it."""
STOP = 0.03
"""How far below the lower bound its stop lies, as a fraction of it."""
CAPITAL = 1000.0
"""Quote currency; results are in percent of it."""
NEEDED = ("volatility_forecast", "adx_4h", "half_life_baseline")
"""Features without which the signals say nothing yet; those with the longest windows."""


def open_daily(market: Market, days: Span, fees: Fees) -> list[GridConfig]:
    """One grid a day at 00:00, with the bounds that an entry would propose; none where they are not known.

    A day counts from the time on when all features are known, so that every signal could speak.
    """
    close, low, high = market.prices["close"], market.known["range_low"], market.known["range_high"]
    known = np.all([~np.isnan(market.known[name]) for name in NEEDED], axis=0)
    opening = [
        time
        for time in (days.start + day * timedelta(days=1) for day in range(days.bars // DAY_BARS + 1))
        if market.span.start < time <= min(days.end, market.span.end)
    ]
    place = np.array([(time - market.span.start) // BAR - 1 for time in opening], np.int64)
    proposal = propose(close[place], low[place], high[place], fees)
    grids = []
    for row, time in enumerate(opening):
        intervals = proposal.intervals[row]
        if intervals is None or not known[place[row]]:
            continue
        lower = float(proposal.lower[row])
        grids.append(
            GridConfig(
                id=f"{market.symbol}-{time:%Y-%m-%d}",
                symbol=market.symbol,
                activated_at=time,
                lower=lower,
                upper=float(proposal.upper[row]),
                levels=intervals,
                spacing="geometric",
                stop=lower * (1 - STOP),
                capital=CAPITAL,
                fees=fees,
            )
        )
    return grids
