"""35 ways to say which market deserves a grid, each by what is known at the midnight, in the direction people expect.

Each is one column of the program's own tables, or a plain measure of past prices, volumes or grids. None is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.shared import Lot
from mm_dagster.arrays import Floats, Integers, log_ratio, natural_log
from mm_dagster.bars import DAY_BARS, bar_number
from mm_dagster.config.grid import break_even_ratio
from mm_dagster.config.whole import Config
from mm_dagster.evaluation.cohort import Cohort
from mm_dagster.evaluation.market import Market
from mm_dagster.grid import touch
from mm_dagster.grid.entry import HORIZON_HOURS
from mm_dagster.tables.words import VERDICTS

PAST_DAYS = (7, 14, 28)
"""How long the grids whose profit is looked back on have run."""
CORRELATED_STEPS = 112
"""6-hour returns in a correlation: 28 days."""


class Ranking(NamedTuple):
    """One way to rank markets.

    Attributes:
        name: of the chapter.
        of: the measure, a key of what `measured` and `panel` find.
        sign: 1 where more of it is liked, -1 where less.
    """

    name: str
    of: str
    sign: int


RANKINGS = (
    Ranking("probability of RANGE_OK high", "p_range_ok", 1),
    Ranking("confidence of a range verdict high", "confidence", 1),
    Ranking("range score high", "range_score", 1),
    Ranking("mean reversion score high", "mean_reversion_score", 1),
    Ranking("trend score low", "trend_score", -1),
    Ranking("trend score, 4 hours, low", "trend_score_4h", -1),
    Ranking("transition probability low", "transition_probability", -1),
    Ranking("break probability, 24 h, low", "p_break_low_24h", -1),
    Ranking("probability to leave, 72 h, low", "p_leave_72h", -1),
    Ranking("volatility forecast low", "volatility_forecast", -1),
    Ranking("volatility forecast high", "volatility_forecast", 1),
    Ranking("ATR over price low", "atr_share", -1),
    Ranking("ATR expansion low", "atr_expansion", -1),
    Ranking("Bollinger width percentile low", "bollinger_width_percentile", -1),
    Ranking("share of jumps low", "jump_share", -1),
    Ranking("half-life short", "half_life", -1),
    Ranking("Dickey-Fuller statistic low", "ou_tau", -1),
    Ranking("variance ratio, 4 hours, low", "variance_ratio_4", -1),
    Ranking("variance ratio, 16 hours, low", "variance_ratio_16", -1),
    Ranking("efficiency ratio low", "efficiency_ratio", -1),
    Ranking("ADX low", "adx", -1),
    Ranking("ADX, 4 hours, low", "adx_4h", -1),
    Ranking("volume of 24 h high", "turnover", 1),
    Ranking("volume ratio low", "volume_ratio", -1),
    Ranking("grid profit of 7 days high", "grid_profit_7d", 1),
    Ranking("grid profit of 14 days high", "grid_profit_14d", 1),
    Ranking("grid profit of 28 days high", "grid_profit_28d", 1),
    Ranking("equity of the last grid high", "equity_14d", 1),
    Ranking("momentum of 1 day high", "momentum_1d", 1),
    Ranking("momentum of 7 days high", "momentum_7d", 1),
    Ranking("momentum of 28 days high", "momentum_28d", 1),
    Ranking("price low in its range of 4 days", "place_4d", -1),
    Ranking("price low in its range of 28 days", "place_28d", -1),
    Ranking("correlation to the others low", "correlation", -1),
    Ranking("step over fee high", "step_over_fee", 1),
)

_FEATURES = (
    "close", "range_low", "range_high", "volatility_forecast", "atr", "atr_expansion", "bollinger_width_percentile",
    "jump_share", "half_life", "ou_tau", "variance_ratio_4", "variance_ratio_16", "efficiency_ratio", "adx", "adx_4h",
    "volume_24h", "volume_ratio",
)  # fmt: skip
_VERDICT = (
    "p_range_ok", "range_score", "mean_reversion_score", "trend_score", "trend_score_4h", "transition_probability",
    "confidence",
)  # fmt: skip


def liked(values: Mapping[str, Floats]) -> dict[str, Floats]:
    """How much each ranking likes each market, by its name, from the measures."""
    return {one.name: one.sign * values[one.of] for one in RANKINGS}


def measured(lot: Lot, place: Integers, steps: Floats, step: Integers) -> dict[str, Floats]:
    """The measures that need no grid, shape (d, m) each.

    Args:
        lot: the markets.
        place: the bar that closes at each midnight, shape (d,).
        steps: last known price every 6 hours, shape (6-hour steps, m).
        step: its row at each midnight, shape (d,).
    """
    found = {name: values.T[place] for name, values in lot.lanes(lot.features, *_FEATURES).items()}
    found |= {name: values.T[place] for name, values in lot.lanes(lot.verdicts, *_VERDICT).items()}
    verdict = np.column_stack([market.known["verdict"][place] for market in lot.markets])
    ranges = verdict <= VERDICTS.index("RANGE_WEAK")
    found["confidence"] = np.where(np.isnan(verdict), np.nan, np.where(ranges, 1.0, -1.0) * found["confidence"])
    found["atr_share"] = found["atr"] / found["close"]
    found["turnover"] = found["volume_24h"] * found["close"]
    found["place_4d"] = _place(found["close"], found["range_low"], found["range_high"])
    highs, lows = (np.column_stack([market.prices[name] for market in lot.markets]) for name in ("high", "low"))
    found["place_28d"] = _place(found["close"], *_range_of(lows, highs, place, 28))
    logs = natural_log(steps)
    for days in (1, 7, 28):
        found[f"momentum_{days}d"] = _change(logs, step, 4 * days)
    found["correlation"] = np.array([_correlation(logs, int(row)) for row in step])
    return found


def _place(price: Floats, low: Floats, high: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return (price - low) / (high - low)


def _range_of(lows: Floats, highs: Floats, place: Integers, days: int) -> tuple[Floats, Floats]:
    """Lowest low and highest high of the days that end at each midnight; NaN before so many are there."""
    shape = (place.size, lows.shape[1])
    low, high = np.full(shape, np.nan), np.full(shape, np.nan)
    for row, end in enumerate(place.tolist()):
        if (first := end + 1 - days * DAY_BARS) >= 0:
            low[row] = np.fmin.reduce(lows[first : end + 1])
            high[row] = np.fmax.reduce(highs[first : end + 1])
    return low, high


def _change(logs: Floats, step: Integers, back: int) -> Floats:
    before = step - back
    return np.where((before >= 0)[:, None], logs[step] - logs[np.maximum(before, 0)], np.nan)


def _correlation(logs: Floats, row: int) -> Floats:
    """Mean correlation of each market's last 6-hour returns with those of the others, shape (m,)."""
    if row < CORRELATED_STEPS:
        return np.full(logs.shape[1], np.nan)
    moves = np.diff(logs[row - CORRELATED_STEPS : row + 1], axis=0)
    there = np.isfinite(moves).all(axis=0) & (np.ptp(np.nan_to_num(moves), axis=0) > 0)
    found = np.full(logs.shape[1], np.nan)
    if (count := int(there.sum())) > 1:
        found[there] = (np.corrcoef(moves[:, there].T).sum(axis=1) - 1.0) / (count - 1)
    return found


def leave_probability(cohort: Cohort, market: Market, config: Config) -> Floats:
    """p_leave_72h as `entry_assessment` has it, of each new grid, shape (m,): both sides summed."""
    place = np.array([market.place(grid.first_as_of) for grid in cohort.grids], np.int64)
    price = cohort.close[:, 0]
    lower, upper = (np.array([getattr(grid, name) for grid in cohort.grids]) for name in ("lower", "upper"))
    scales = config.risk.touch
    below, above = (
        touch.probability_ahead(
            away,
            market.known["volatility_forecast"][place],
            bar_number(market.span.start) + 1 + place,
            HORIZON_HOURS,
            scales.k_break.h24,
            config.risk.vol.weekend,
            scales.continuity,
        )
        for away in (log_ratio(price, lower), log_ratio(upper, price))
    )
    return below + above


def step_over_fee(cohort: Cohort) -> Floats:
    """Log step of each grid over the log step at which a round trip earns nothing, shape (m,)."""
    return np.array(
        [
            math.log(grid.upper / grid.lower)
            / grid.levels
            / math.log(break_even_ratio(grid.fees.maker, grid.fees.paid_in))
            for grid in cohort.grids
        ]
    )
