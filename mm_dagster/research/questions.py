"""Questions: will this grid break below within a day? Asked every few hours of its life, answered by what came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import DAY_BARS, HOUR_BARS, bar_number
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import probability, signals
from mm_dagster.evaluation.cohort import Cohort
from mm_dagster.evaluation.market import Market
from mm_dagster.grid import touch
from mm_dagster.research import gate

STRIDE = 6 * HOUR_BARS
"""A question is put every so many bars of a grid's life: nearer ones hardly differ."""


@dataclass(frozen=True)
class Questions:
    """n questions on m grids of some markets.

    Attributes:
        grid: which, shape (n,).
        place: at which bar of its market's axis, shape (n,).
        column: at which bar of the grid's life, shape (n,).
        happened: the answer, shape (n,).
        predicted: break probability, shape (n,).
        day: on which each grid was opened, shape (m,).
        symbol: number of its market, shape (m,).
    """

    grid: Integers
    place: Integers
    column: Integers
    happened: Flags
    predicted: Floats
    day: Integers
    symbol: Integers

    def read(self, lanes: Floats) -> Floats:
        """What is known at each question, from values by market and bar on one axis, shape (markets, bars)."""
        return lanes[self.symbol[self.grid], self.place]

    def walk(self) -> gate.Walk:
        """The walk over them."""
        return gate.walk(self.grid, self.predicted, self.happened, self.day, self.symbol)


def questions_on(market: Market, cohort: Cohort, config: Config) -> Questions:
    """Asks every STRIDE bars while a grid lives and the next day is known."""
    predicted = signals.break_probability(cohort, market, config)
    happened, known = probability.outcome(cohort, STRIDE)
    asked = known & ~np.isnan(predicted)
    rows, columns = np.nonzero(asked)
    return Questions(
        grid=rows,
        place=signals.places(cohort, market)[asked],
        column=columns,
        happened=happened[asked],
        predicted=predicted[asked],
        day=np.array([grid.activated_at.toordinal() for grid in cohort.grids], np.int64),
        symbol=np.zeros(len(cohort.grids), np.int64),
    )


def pooled(parts: Iterable[Questions]) -> Questions:
    """The questions of several markets, at least one, whose grids and symbols are numbered on."""
    known: list[Questions] = []
    grids = 0
    for number, part in enumerate(parts):
        moved = {"grid": part.grid + grids, "symbol": part.symbol + number}
        known.append(Questions(**{field.name: getattr(part, field.name) for field in fields(part)} | moved))
        grids += part.day.size
    return Questions(*(np.concatenate([getattr(part, field.name) for part in known]) for field in fields(Questions)))


def forecast(market: Market, config: Config) -> Floats:
    """Standard deviation of an hourly return over the next 24 hours, as the program has it, shape (bars,)."""
    ahead = bar_number(market.span.start) + 1 + np.arange(market.span.bars)
    return touch.forecast(market.known["volatility_forecast"], ahead, DAY_BARS, config.risk.vol.weekend)
