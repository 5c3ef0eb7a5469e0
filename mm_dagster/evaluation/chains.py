"""Chains of grids on one market: leave by a rule, wait, open again by a rule. What does that make of the capital?

A single grid that is left early may look better than one that is held, and its operator may still lose by opening the
next one too soon. So a chain follows the capital through all of it. A grid may be opened every midnight, as
`episodes.open_daily` does; it is left when the break probability reaches a threshold, at its stop, when the price has
closed above it twice, or at the end of its life; and the next one is opened at the first midnight after that when the
rule of entry lets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import DAY_BARS
from mm_dagster.evaluation import resample
from mm_dagster.evaluation.alarms import first
from mm_dagster.evaluation.cohort import Cohort

EXITS = (0.20, 0.38, 0.75)
"""p_break_low_24h from which a grid is left: about a WARNING, about a LATEST_ACCEPTABLE_EXIT, and one before both."""
FREE, GATED = "free", "gated"
"""Rules of entry: at every midnight, or where the break probability of the new grid is below the gate."""
STARTS = 14
"""A chain is begun on each of the first so many days, and the mean of them is taken: one start is an accident."""
SHIFT_DAYS = 5
"""The same schedule is tried at every so many-th other date: next ones hardly differ. No multiple of a week."""
METRICS = {
    "growth_percent_per_week": "mean log growth of the capital, waiting included",
    "gain_vs_hold": "the same less that of leaving no grid before its stop or its end, under the same rule of entry",
    "gain_vs_cash": "the same less that of cash, which earns nothing here",
    "gain_vs_same_schedule": "the same less that of being in and out for the same times at other dates",
    "gain_of_gate": "gated less free, at the same exit",
}
"""What is measured, all in percent a week."""


@dataclass(frozen=True)
class Openings:
    """What a chain needs to know of one market's m daily grids.

    Attributes:
        symbol: the market.
        day: number of the day of the activation, ascending, shape (m,).
        left: see `Cohort.left`, shape (m, n).
        over: the column with which a grid is over that nobody leaves, shape (m,).
        chance: break probability at the activation, shape (m,).
        exits: the column at which it first reaches each of EXITS, n - 1 where it never does; shape (m,) each.
    """

    symbol: str
    day: Integers
    left: Floats
    over: Integers
    chance: Floats
    exits: Mapping[float, Integers]


class Chained(NamedTuple):
    """One figure of one chain.

    Attributes:
        exit: of EXITS.
        entry: FREE or GATED.
        metric: of METRICS.
        value: percent a week; None: no market has other dates far enough away to tell.
        low: lower end of its 95 % interval; None: too few weeks.
        high: upper end.
        n: grids that a chain opened, the mean over its starts.
    """

    exit: float
    entry: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int


def openings(cohort: Cohort, probability: Floats) -> Openings:
    """Of a cohort and its break probability, shape (m, n), what a chain needs."""
    with np.errstate(invalid="ignore"):
        exits = {limit: first(probability >= limit, cohort) for limit in EXITS}
    return Openings(
        symbol=cohort.symbol,
        day=np.array([grid.activated_at.toordinal() for grid in cohort.grids], np.int64),
        left=cohort.left,
        over=np.minimum(np.minimum(cohort.stopped, cohort.broken_high), cohort.last),
        chance=probability[:, 0],
        exits=exits,
    )


def measure(markets: Sequence[Openings], gate: float) -> list[Chained]:
    """Every figure of every chain; none where no grid was opened.

    Args:
        markets: each of one market.
        gate: the break probability below which a gated chain opens a grid.
    """
    markets = [market for market in markets if market.day.size]
    return list(_figures(markets, gate)) if markets else []


def _figures(markets: Sequence[Openings], gate: float) -> Iterator[Chained]:
    counted = np.concatenate([_known(market) for market in markets])
    day = np.concatenate([_days(market) for market in markets])[counted]
    symbol = np.repeat(np.arange(len(markets)), [_days(market).size for market in markets])[counted]
    weights = resample.draws(day - day.min(), symbol)
    sure = resample.enough(day)
    growth: dict[tuple[float, str], Floats] = {}
    for entry in (FREE, GATED):
        allowed = [np.ones(one.day.size, np.bool_) if entry == FREE else one.chance < gate for one in markets]
        held = _grown(markets, allowed, [one.over for one in markets])
        for limit in EXITS:
            found = _grown(markets, allowed, [np.minimum(one.over, one.exits[limit]) for one in markets])
            growth[limit, entry] = found.daily
            against = {
                "growth_percent_per_week": found.daily,
                "gain_vs_hold": found.daily - held.daily,
                "gain_vs_cash": found.daily,
                "gain_vs_same_schedule": found.daily - found.elsewhere,
            }
            if entry == GATED:
                against["gain_of_gate"] = found.daily - growth[limit, FREE]
            for metric, values in against.items():
                known = np.isfinite(values[counted])
                if not known.any():
                    yield Chained(limit, entry, metric, None, None, None, found.grids)
                    continue
                drawn = 100.0 * 7.0 * resample.mean(weights[:, known], values[counted][known])
                low, high = resample.interval(drawn[1:]) if sure else (None, None)
                yield Chained(limit, entry, metric, float(drawn[0]), low, high, found.grids)


class _Growth(NamedTuple):
    """Log growth of the capital by market and day, mean over the starts, shape (market days,).

    Attributes:
        daily: of the chain.
        elsewhere: of its schedule at other dates, mean over them; NaN on a market that has none far enough away.
        grids: how many a chain opened.
    """

    daily: Floats
    elsewhere: Floats
    grids: int


def _grown(markets: Sequence[Openings], allowed: Sequence[Flags], exits: Sequence[Integers]) -> _Growth:
    daily, elsewhere, grids = [], [], 0.0
    for one, may, columns in zip(markets, allowed, exits, strict=True):
        often = _visits(one, may, columns)
        daily.append(_spread(one, often, np.arange(one.day.size), columns))
        elsewhere.append(_shifted(one, often, columns))
        grids += float(often.sum())
    return _Growth(np.concatenate(daily), np.concatenate(elsewhere), round(grids))


def _days(one: Openings) -> Integers:
    """Every day from the first grid's to the last one's."""
    return np.arange(one.day[0], one.day[-1] + 1)


def _known(one: Openings) -> Flags:
    """Which of them count: a grid could be opened, or one may have lived. A year without candles is no year in cash."""
    opened = _on_day(one) >= 0
    life = one.left.shape[1] // DAY_BARS
    before = np.concatenate([[0], np.cumsum(opened)])
    return np.asarray(before[1:] > before[np.maximum(np.arange(opened.size) + 1 - life, 0)])


def _on_day(one: Openings) -> Integers:
    """The row of the grid that opens on each of the days, -1 where none does."""
    rows = np.full(_days(one).size, -1, np.int64)
    rows[one.day - one.day[0]] = np.arange(one.day.size)
    return rows


def _visits(one: Openings, allowed: Flags, columns: Integers) -> Floats:
    """How often a chain holds each grid, as a mean over the starts, shape (m,)."""
    days = _days(one).size
    following = np.full(days + 1, -1, np.int64)
    on_day = _on_day(one)
    for day in range(days - 1, -1, -1):
        row = on_day[day]
        following[day] = row if row >= 0 and allowed[row] else following[day + 1]
    # What is decided at a column is filled at the next open: a new grid opens at a midnight from then on.
    free = np.minimum(one.day - one.day[0] + columns // DAY_BARS + 1, days)
    often = np.zeros(one.day.size)
    for start in range(min(STARTS, days)):
        row = following[start]
        while row >= 0:
            often[row] += 1.0 / min(STARTS, days)
            row = following[free[row]]
    return often


def _spread(one: Openings, often: Floats, rows: Integers, columns: Integers) -> Floats:
    """Log growth by day of grids that are held so often, each marked at what leaving it would leave.

    Args:
        one: the market.
        often: weight of each grid, shape (k,).
        rows: which grids, shape (k,).
        columns: when each is left, shape (k,).
    """
    found = np.zeros(_days(one).size)
    used = np.flatnonzero(often > 0)
    if not used.size:
        return found
    rows, columns, often = rows[used], columns[used], often[used]
    lasts = columns // DAY_BARS + 1
    before = np.zeros(rows.size)
    for day in range(int(lasts.max())):
        worth = np.log(one.left[rows, np.minimum((day + 1) * DAY_BARS, columns)] / 100.0)
        place = one.day[rows] - one.day[0] + day
        inside = (day < lasts) & (place < found.size)
        np.add.at(found, place[inside], (often * (worth - before))[inside])
        before = worth
    return found


def _shifted(one: Openings, often: Floats, columns: Integers) -> Floats:
    """Log growth by day of the same schedule at other dates: opened, and left after as long, on other days."""
    days, on_day = _days(one).size, _on_day(one)
    used = np.flatnonzero(often > 0)
    shifts = range(resample.LEAST_SHIFT_DAYS, days - resample.LEAST_SHIFT_DAYS + 1, SHIFT_DAYS)
    if not shifts:
        return np.full(days, np.nan)
    found = np.zeros(days)
    for shift in shifts:
        rows = on_day[(one.day[used] - one.day[0] + shift) % days]
        there = rows >= 0
        moved = rows[there]
        found += _spread(one, often[used][there], moved, np.minimum(columns[used][there], one.over[moved]))
    return found / len(shifts)
