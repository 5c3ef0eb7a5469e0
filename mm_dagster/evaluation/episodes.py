"""Grids that a fixed rule opens every day on every market: it looks at prices alone and knows no signal."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from mm_dagster.bars import DAY_BARS, Span
from mm_dagster.config.evaluation import EvaluationConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.evaluation.market import Market
from mm_dagster.grid.proposal import propose

CAPITAL = 1000.0
"""Quote currency; results are in percent of it."""
NEEDED = ("volatility_forecast", "adx_4h", "half_life_baseline")
"""Features without which the signals say nothing yet: those with the longest windows."""


def open_daily(market: Market, days: Span, rule: EvaluationConfig) -> list[GridConfig]:
    """One grid a day at 00:00 UTC, with the bounds that an entry would propose; none where they are not known.

    A day counts from the time on when the slowest features are known, so that every signal could speak.

    Args:
        market: where.
        days: whole days; the first grid is opened at the start, the last one a day before the end.
        rule: stop and fees.
    """
    days_long = days.bars // DAY_BARS
    opening = [time for day in range(days_long) if market.span.start < (time := days.start + timedelta(days=day))]
    opening = [time for time in opening if time <= market.span.end]
    place = np.array([market.place(time) for time in opening], np.int64)
    known = np.all([~np.isnan(market.known[name][place]) for name in NEEDED], axis=0)
    price, low, high = (
        values[place] for values in (market.prices["close"], market.known["range_low"], market.known["range_high"])
    )
    proposal = propose(price, low, high, rule.fees)
    return [
        GridConfig(
            id=f"{market.symbol}-{time:%Y-%m-%d}",
            symbol=market.symbol,
            activated_at=time,
            lower=lower,
            upper=upper,
            levels=intervals,
            spacing="geometric",
            stop=lower * (1 - rule.stop),
            capital=CAPITAL,
            fees=rule.fees,
        )
        for time, lower, upper, intervals, speaks in zip(
            opening, proposal.lower.tolist(), proposal.upper.tolist(), proposal.intervals, known.tolist(), strict=True
        )
        if intervals is not None and speaks
    ]
