"""The daily grids of a recording, midnights down and markets across: what was known at each, and what came of it.

A row is a UTC midnight, a column a market. What is known at a midnight stands on candles that had closed by then; what
came of a grid is of the fortnight after it. A grid whose fortnight is not known to its end has no outcome, even where
its stop was reached before: to count those alone would count the bad ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta

import numpy as np
import polars as pl

from benchmarks.portfolio import rankings
from benchmarks.shared import CONFIG, Lot
from mm_dagster.arrays import Floats, Integers, natural_log
from mm_dagster.bars import DAY_BARS
from mm_dagster.evaluation import alarms
from mm_dagster.evaluation.cohort import Cohort
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.signals import signals_of
from mm_dagster.grid.replay import replay, terms_of

LIFE = CONFIG.evaluation.life_days
SIX_HOURS = 24
"""Bars; returns over as long are what covariances are made of."""
WARNING = ("confirmed", "WARNING")
"""The alarm at which the outcome `left` leaves."""
TAIL = 0.05


@dataclass(frozen=True)
class Panel:
    """d midnights by m markets.

    Attributes:
        name: of the recording.
        symbols: the markets, in the order of the columns.
        day: number of each day that begins at the midnight, one after the other, shape (d,).
        rankings: how much each of `rankings.RANKINGS` likes a market, shape (d, m) each; NaN where unknown.
        held: equity of the grid opened at the midnight, held to its stop or for 14 days, percent of the capital.
        left: the same, left at the first WARNING.
        booked: grid profit that it booked in that time, percent of the capital.
        marks: what leaving it would have left at each midnight of its life, shape (d, m, LIFE + 1); NaN where unknown.
        sigma: forecast standard deviation of an hourly log return.
        chance: probability of the new grid that it breaks below within 24 hours.
        closes: last known price every 6 hours, shape (6-hour steps, m).
        step: the row of `closes` at each midnight, shape (d,).
    """

    name: str
    symbols: tuple[str, ...]
    day: Integers
    rankings: Mapping[str, Floats]
    held: Floats
    left: Floats
    booked: Floats
    marks: Floats
    sigma: Floats
    chance: Floats
    closes: Floats
    step: Integers

    @property
    def tail(self) -> Floats:
        """How far a grid that is held falls below the worst twentieth of them all, times 20, percent of the capital.

        Its mean over all grids is their expected shortfall less the quantile (Rockafellar, Uryasev 2000).
        """
        known = self.held[np.isfinite(self.held)]
        worst = float(np.quantile(known, TAIL)) if known.size else np.nan
        return np.minimum(self.held - worst, 0.0) / TAIL

    def to_come(self, days: int) -> Floats:
        """Log return of the days after each midnight: what nobody knows at it; NaN where they have not come."""
        ahead = self.step + days * (DAY_BARS // SIX_HOURS)
        logs = natural_log(self.closes)
        there = (ahead < len(logs))[:, None]
        return np.where(there, logs[np.minimum(ahead, len(logs) - 1)] - logs[self.step], np.nan)

    def between(self, first: int, end: int) -> Panel:
        """The midnights from one day to before another; what is known at them still reaches further back."""
        rows = (self.day >= first) & (self.day < end)
        daily = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("day", "held", "left", "booked", "marks", "sigma", "chance", "step"):
            daily[name] = daily[name][rows]
        rankings_there = {name: values[rows] for name, values in self.rankings.items()}
        return Panel(**daily | {"rankings": rankings_there})


def panel_of(lot: Lot) -> Panel:
    """The daily grids of a recording, or of its placebo."""
    span = lot.span
    start = (span.start + timedelta(days=1)).replace(hour=0, minute=0)
    midnights = [start + timedelta(days=number) for number in range((span.end - start) // timedelta(days=1) + 1)]
    day = np.array([time.toordinal() for time in midnights], np.int64)
    place = np.array([lot.markets[0].place(time) for time in midnights], np.int64)
    shape = (day.size, len(lot.markets))
    cells = {name: np.full(shape, np.nan) for name in ("held", "left", "booked", "chance", "step_over_fee", "p_leave")}
    marks = np.full((*shape, LIFE + 1), np.nan)
    past = {days: np.full(shape, np.nan) for days in rankings.PAST_DAYS}
    for column, (market, cohort) in enumerate(zip(lot.markets, lot.cohorts, strict=True)):
        rows = np.array([grid.activated_at.toordinal() for grid in cohort.grids], np.int64) - day[0]
        signals = signals_of(cohort, market, CONFIG)
        exits = alarms.first(signals.alarms[WARNING], cohort)
        whole = np.where(cohort.whole, 0.0, np.nan)
        cells["held"][rows, column] = cohort.held + whole
        cells["left"][rows, column] = cohort.left[np.arange(rows.size), exits] + whole
        cells["chance"][rows, column] = signals.probability[:, 0]
        cells["p_leave"][rows, column] = rankings.leave_probability(cohort, market, CONFIG)
        cells["step_over_fee"][rows, column] = rankings.step_over_fee(cohort)
        marks[rows, column] = _marks(cohort)
        for row, profit in zip(rows.tolist(), _profits(market, cohort), strict=True):
            if np.isfinite(cells["held"][row, column]):
                cells["booked"][row, column] = profit[LIFE]
            for days, values in past.items():
                if row + days < day.size:
                    values[row + days, column] = profit[days]
    closes = _filled(np.column_stack([market.prices["close"] for market in lot.markets]))
    sigma = np.column_stack([market.known["volatility_forecast"][place] for market in lot.markets])
    # A step ends at the first midnight's bar, so that every midnight ends one.
    offset = int(place[0]) % SIX_HOURS
    steps = closes[offset::SIX_HOURS]
    step = (place - offset) // SIX_HOURS
    measured = {
        **rankings.measured(lot, place, steps, step),
        **{f"grid_profit_{days}d": grids for days, grids in past.items()},
        "equity_14d": _before(marks[:, :, LIFE], LIFE),
        "p_break_low_24h": cells["chance"],
        "p_leave_72h": cells["p_leave"],
        "step_over_fee": cells["step_over_fee"],
    }
    return Panel(
        name=lot.name,
        symbols=tuple(market.symbol for market in lot.markets),
        day=day,
        rankings=rankings.liked(measured),
        held=cells["held"],
        left=cells["left"],
        booked=cells["booked"],
        marks=marks,
        sigma=sigma,
        chance=cells["chance"],
        closes=steps,
        step=step,
    )


def _marks(cohort: Cohort) -> Floats:
    """See `Panel.marks`: sold at the open of the bar that closes at the midnight, which is known by then."""
    columns = np.maximum(np.arange(LIFE + 1) * DAY_BARS - 1, 0)
    found = np.where(columns <= cohort.last[:, None], cohort.left[:, columns], np.nan)
    found[:, 0] = 100.0
    return found


def _profits(market: Market, cohort: Cohort) -> Iterator[Mapping[int, float]]:
    """Grid profit of each grid by days since its opening, percent of the capital."""
    most = max(rankings.PAST_DAYS)
    for grid in cohort.grids:
        first = market.place(grid.first_as_of)
        rows = slice(first, first + most * DAY_BARS + 1)
        opens, highs, lows, closes = (market.prices[name][rows].copy() for name in ("open", "high", "low", "close"))
        # The grid begins flat at the close of its first bar.
        for prices in (opens, highs, lows):
            prices[0] = closes[0]
        profit = replay(terms_of(grid, float(closes[0])), opens, highs, lows, closes).grid_profit
        yield {
            days: 100.0 * float(profit[days * DAY_BARS]) / grid.capital if days * DAY_BARS < profit.size else np.nan
            for days in rankings.PAST_DAYS
        }


def _filled(prices: Floats) -> Floats:
    """The last known price at every bar, shape (bars, m)."""
    return pl.DataFrame(prices).fill_nan(None).fill_null(strategy="forward").fill_null(np.nan).to_numpy()


def _before(values: Floats, days: int) -> Floats:
    """The values so many rows before."""
    found = np.full(values.shape, np.nan)
    found[days:] = values[:-days]
    return found
