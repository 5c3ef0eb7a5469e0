"""The table of what signals are worth: every figure of every signal beside every control, with its interval.

Money is in percent of the capital. The equity of a grid is what leaving it when the signal was first raised left of the
capital, or holding it to its stop or the end of its life where it never was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, Integers
from mm_dagster.bars import HOUR_BARS
from mm_dagster.evaluation import alarms, chains, probability, resample
from mm_dagster.evaluation.alarms import Alarms
from mm_dagster.evaluation.chains import Openings
from mm_dagster.evaluation.cohort import Cohort
from mm_dagster.evaluation.probability import Samples
from mm_dagster.evaluation.signals import CONTROL, LEVELS, LOW_POSITION, POSITION, Name, Signals

PROBABILITY = "p_break_low_24h"
POSITIONS = np.arange(101) / 100.0
"""Places between the bounds, 0 the lower, at which anybody could leave."""
LOWEST_FIFTH = round(100 * POSITION)
"""Which of them the control `low_position` is."""
PERMUTATIONS = 200
SHIFTS_OF_SHORTFALL = 12
"""The shortfall of the null is the mean over so many dates, evenly apart: next ones hardly differ."""
PLACEBO = "placebo"
"""Stands in the place of a policy for the active one on the same markets with random signs."""

SCHEMA = {
    "policy": pl.String(),
    "signal": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "n": pl.Int64(),
}


@dataclass(frozen=True)
class Judged:
    """One cohort reduced to what the figures need; m grids.

    Attributes:
        symbol: the market.
        day: number of the day of the activation, shape (m,).
        last: last column of each life, shape (m,).
        ends: the column with which a grid that is held is over: its stop, or the last one; shape (m,).
        whole: whether the life ended by its own rule, shape (m,).
        left: see `Cohort.left`, shape (m, n).
        alarms: of every signal.
        exits: the column at which each signal leaves, n - 1 when it never does; shape (m,) each.
        positions: the column at which the close first lies at or below each of POSITIONS, n - 1 where it never does;
            shape (positions, m).
        samples: of the break probability.
        openings: what a chain of these grids needs.
    """

    symbol: str
    day: Integers
    last: Integers
    ends: Integers
    whole: np.ndarray
    left: Floats
    alarms: Mapping[Name, Alarms]
    exits: Mapping[Name, Integers]
    positions: Integers
    samples: Samples
    openings: Openings


def judge(cohort: Cohort, signals: Signals) -> Judged:
    """Reduces a cohort and what was said of it to what the figures need."""
    day = np.array([grid.activated_at.toordinal() for grid in cohort.grids], np.int64)
    fold = day // resample.BLOCK_DAYS % 2
    return Judged(
        symbol=cohort.symbol,
        day=day,
        last=cohort.last,
        ends=np.minimum(cohort.stopped, cohort.last),
        whole=cohort.whole,
        left=cohort.left,
        alarms={name: alarms.judge(alarm, cohort) for name, alarm in signals.alarms.items()},
        exits={name: alarms.first(alarm, cohort) for name, alarm in signals.alarms.items()},
        positions=_positions(cohort),
        samples=probability.sample(signals.probability, cohort, fold),
        openings=chains.openings(cohort, signals.probability),
    )


def _positions(cohort: Cohort) -> Integers:
    """See `Judged.positions`."""
    lower, upper = (np.array([[getattr(grid, name)] for grid in cohort.grids]) for name in ("lower", "upper"))
    within = np.arange(cohort.close.shape[1]) <= cohort.last[:, None]
    lowest = np.fmin.accumulate(np.where(within, (cohort.close - lower) / (upper - lower), np.nan), axis=1)
    above = np.stack([np.count_nonzero(lowest > position, axis=1) for position in POSITIONS])
    return np.where(above > cohort.last, cohort.close.shape[1] - 1, above)


def measure(
    judged: Sequence[Judged],
    active: str,
    *,
    placebo: Sequence[Judged] = (),
    daily: bool = True,
    signals: Collection[Name] | None = None,
) -> pl.DataFrame:
    """Every figure of every signal.

    Args:
        judged: the cohorts, each of one market.
        placebo: the rule's grids on the same markets with random signs, if they are to stand beside.
        active: the policy in force; the break probability, on which it decides, is listed under it.
        daily: whether a grid was opened every day, so that exits can be borrowed from other dates.
        signals: only these signals and controls; without the controls that follow the holding times of another.

    Returns:
        SCHEMA: `value` with its 95 % interval, null where there is none or the weeks are too few for it, and `n`, what
        it is a figure of: samples for the probability, alarms for the precision, breaks for the recall, breaks that
        were warned of for the leads, and grids for the rest.
    """
    judged = [one for one in judged if one.day.size]
    if not judged:
        return pl.DataFrame(schema=SCHEMA)
    pool = Pool(judged, daily)
    parts = [_sure(pool, _rows(pool, active, signals))]
    if other := [one for one in placebo if one.day.size]:
        flipped = Pool(other, daily)
        parts.append(_sure(flipped, _of_placebo(flipped, active)))
    return pl.concat(parts)


def _sure(pool: Pool, rows: Iterator[Row]) -> pl.DataFrame:
    """The rows, without their intervals where the weeks are too few for one."""
    found = pl.DataFrame(list(rows), schema=SCHEMA, orient="row")
    if resample.enough(pool.day):
        return found
    return found.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("low", "high"))


def _of_placebo(pool: Pool, active: str) -> Iterator[Row]:
    """What the policy does for the money where no price has a direction: what stays is the shape of the grid."""
    held = (PLACEBO, "hold_to_stop")
    yield from _levels_of_money(pool, held, [one.last for one in pool.judged], pool.held)
    for level in LEVELS:
        exits = [one.exits[active, level] for one in pool.judged]
        found = pool.outcome(exits)
        yield from _levels_of_money(pool, (PLACEBO, level), exits, found)
        yield from _against(pool, (PLACEBO, level), "hold", found, pool.held)


def _rows(pool: Pool, active: str, signals: Collection[Name] | None) -> Iterator[Row]:
    judged = pool.judged
    yield from _of_probability(pool, active)
    names = [name for name in judged[0].alarms if signals is None or name in signals]
    exits = {name: [one.exits[name] for one in judged] for name in names}
    for name in names:
        if name[1] != "hold_to_stop":
            yield from _of_alarms(pool, name)
        yield from _of_money(pool, name, exits[name])
        if (following := _next_level(name)) in exits:
            yield from _against(pool, name, "next_level", pool.outcome(exits[name]), pool.outcome(exits[following]))
    if signals is None:
        # What luck would have made of the same holding times, for the signal that asks to act.
        acted = exits[active, "LATEST_ACCEPTABLE_EXIT"]
        yield from _of_money(pool, (CONTROL, "mean_holding_time"), pool.mean_holding(acted))
        yield from _of_money(pool, (CONTROL, "low_position_as_long"), pool.as_long(acted))
        yield from _random(pool, (CONTROL, "random_exits"), acted)


Row = tuple[str, str, str, float | None, float | None, float | None, int]


def _next_level(name: Name) -> Name | None:
    """The state that follows a state under the same policy; None: there is none, or it is no state."""
    policy, signal = name
    return (policy, LEVELS[LEVELS.index(signal) + 1]) if signal in LEVELS[:-1] else None


class Outcome(NamedTuple):
    """What one way to leave the grids left.

    Attributes:
        equity: percent of the capital, shape (m,).
        worst: mean of the worst SHORTFALL of it, shape (draws,).
    """

    equity: Floats
    worst: Floats


class Pool:
    """All grids of all cohorts in one order, and how often each is drawn."""

    def __init__(self, judged: Sequence[Judged], daily: bool = True) -> None:
        self.judged = judged
        self.daily = daily
        self.day = np.concatenate([one.day for one in judged])
        self.symbol = np.repeat(np.arange(len(judged)), [one.day.size for one in judged])
        self.weights = resample.draws(self.day - self.day.min(), self.symbol)

    @cached_property
    def held(self) -> Outcome:
        """Of holding every grid to its stop or the end of its life."""
        return self.outcome([one.last for one in self.judged])

    @cached_property
    def lowest_fifth(self) -> Outcome:
        """Of leaving at the first close in the lowest fifth of the grid."""
        return self.outcome([one.positions[LOWEST_FIFTH] for one in self.judged])

    def outcome(self, exits: Sequence[Integers]) -> Outcome:
        """What leaving at these columns left, and the mean of the worst of it in every draw."""
        equity = self.equity(exits)
        return Outcome(equity, resample.shortfall(self.weights, equity))

    def equity(self, exits: Sequence[Integers]) -> Floats:
        """What leaving at these columns left, percent of the capital, shape (m,)."""
        return np.concatenate(
            [one.left[np.arange(one.day.size), columns] for one, columns in zip(self.judged, exits, strict=True)]
        )

    def held_hours(self, exits: Sequence[Integers]) -> Floats:
        """How long the grids ran, to their exit or their stop, shape (m,)."""
        return np.concatenate(
            [np.minimum(columns, one.ends) / HOUR_BARS for one, columns in zip(self.judged, exits, strict=True)]
        )

    def mean_holding(self, exits: Sequence[Integers]) -> list[Integers]:
        """Every grid left after the same time, the mean of these."""
        column = round(float(self.held_hours(exits).mean()) * HOUR_BARS)
        return [np.full(one.day.size, min(column, one.left.shape[1] - 1), np.int64) for one in self.judged]

    def as_long(self, exits: Sequence[Integers]) -> list[Integers]:
        """Every grid left at the same place between its bounds, the one at which grids run as long as with these."""
        hours = float(self.held_hours(exits).mean())
        found = [self.held_hours([one.positions[place] for one in self.judged]) for place in range(POSITIONS.size)]
        place = int(np.argmin([abs(float(one.mean()) - hours) for one in found]))
        return [one.positions[place] for one in self.judged]

    def shifted(self, exits: Sequence[Integers]) -> Floats:
        """The null: every grid left when the same market's grid of another date was, all markets shifted alike.

        Returns:
            Equity by shift and grid, shape (shifts, m); NaN where the other date has no grid.
        """
        first, days = int(self.day.min()), int(self.day.max() - self.day.min()) + 1
        shifts = np.arange(resample.LEAST_SHIFT_DAYS, days - resample.LEAST_SHIFT_DAYS + 1)
        parts = []
        for one, columns in zip(self.judged, exits, strict=True):
            on_day = np.full(days, -1, np.int64)
            on_day[one.day - first] = columns
            borrowed = on_day[(one.day - first + shifts[:, None]) % days]
            equity = one.left[np.arange(one.day.size), np.maximum(borrowed, 0)]
            parts.append(np.where(borrowed >= 0, equity, np.nan))
        return np.concatenate(parts, axis=1)

    def permuted(self, exits: Sequence[Integers]) -> Floats:
        """Every grid left when a random grid of the same market was, shape (PERMUTATIONS, m)."""
        generator = np.random.default_rng(resample.SEED)
        parts = []
        for one, columns in zip(self.judged, exits, strict=True):
            drawn = generator.permuted(np.tile(columns, (PERMUTATIONS, 1)), axis=1)
            parts.append(one.left[np.arange(one.day.size), drawn])
        return np.concatenate(parts, axis=1)


def _figure(name: Name, metric: str, values: Floats, n: int) -> Row:
    """A figure from its value, which stands first, and its draws."""
    value = float(values[0])
    low, high = resample.interval(values[1:])
    known = np.isfinite(value)
    sure = known and np.isfinite(low)
    return (*name, metric, value if known else None, low if sure else None, high if sure else None, n)


def _of_probability(pool: Pool, active: str) -> Iterator[Row]:
    samples = probability.pooled([one.samples for one in pool.judged], [one.day.size for one in pool.judged])
    sums = probability.summarise(samples, pool.day.size)
    for metric, values in probability.figures(sums, pool.weights).items():
        yield _figure((active, PROBABILITY), metric, values, samples.predicted.size)


def _of_alarms(pool: Pool, name: Name) -> Iterator[Row]:
    found = alarms.pooled([one.alarms[name] for one in pool.judged])
    weights = pool.weights
    warned = np.flatnonzero(found.lead > 0)
    early = np.flatnonzero(found.lead >= 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        true, false = weights @ found.true, weights @ found.false
        broke = weights @ found.broke
        yield _figure(name, "precision", true / (true + false), int(found.true.sum() + found.false.sum()))
        yield _figure(name, "recall", weights[:, warned].sum(axis=1) / broke, int(found.broke.sum()))
        yield _figure(name, "misses", broke - weights[:, warned].sum(axis=1), int(found.broke.sum()))
        yield _figure(name, "false_alarms_per_grid_week", false / (weights @ found.weeks), found.weeks.size)
        yield _figure(name, "lead_1h_share", weights[:, early].sum(axis=1) / broke, int(found.broke.sum()))
    for metric, share in (("lead_p25_hours", 0.25), ("lead_p50_hours", 0.50)):
        values = alarms.quantile(found.lead[warned], share, weights[:, warned])
        yield _figure(name, metric, values, warned.size)


def _levels_of_money(pool: Pool, name: Name, exits: Sequence[Integers], found: Outcome) -> Iterator[Row]:
    n = found.equity.size
    yield _figure(name, "mean_equity", resample.mean(pool.weights, found.equity), n)
    yield _figure(name, "shortfall_5pct", found.worst, n)
    yield _figure(name, "hours_held", resample.mean(pool.weights, pool.held_hours(exits)), n)


def _against(pool: Pool, name: Name, what: str, found: Outcome, other: Outcome) -> Iterator[Row]:
    """Mean and worst grids against those of another way to leave the same grids, drawn together."""
    gain = resample.mean(pool.weights, found.equity - other.equity)
    yield _figure(name, f"gain_vs_{what}", gain, found.equity.size)
    yield _figure(name, f"shortfall_vs_{what}", found.worst - other.worst, found.equity.size)


def _of_money(pool: Pool, name: Name, exits: Sequence[Integers]) -> Iterator[Row]:
    found = pool.outcome(exits)
    equity, n = found.equity, found.equity.size
    yield from _levels_of_money(pool, name, exits, found)
    if name[1] == "hold_to_stop":
        return
    yield from _against(pool, name, "hold", found, pool.held)
    if name != LOW_POSITION:
        yield from _against(pool, name, "position", found, pool.lowest_fifth)
    if name[1] in LEVELS:
        yield from _against(pool, name, "position_as_long", found, pool.outcome(pool.as_long(exits)))
    null = pool.shifted(exits) if pool.daily else np.empty(0)
    if null.size:
        by_shift = np.nanmean(null, axis=1)
        yield _figure(name, "gain_vs_null", resample.mean(pool.weights, equity - np.nanmean(null, axis=0)), n)
        yield _figure(name, "shortfall_vs_null", found.worst - _null_shortfall(pool, null), n)
        yield (*name, "p_null", p_value(equity.mean(), by_shift), None, None, by_shift.size)
    yield (*name, "p_random", p_value(equity.mean(), pool.permuted(exits).mean(axis=1)), None, None, PERMUTATIONS)


def _null_shortfall(pool: Pool, null: Floats) -> Floats:
    """The shortfall of the same exits at other dates, the mean over some of them, shape (draws,)."""
    some = np.unique(np.linspace(0, len(null) - 1, SHIFTS_OF_SHORTFALL).round().astype(np.int64))
    found = []
    for equity in null[some]:
        known = ~np.isnan(equity)
        found.append(resample.shortfall(pool.weights[:, known], equity[known]))
    return np.asarray(np.mean(found, axis=0))


def _random(pool: Pool, name: Name, exits: Sequence[Integers]) -> Iterator[Row]:
    """Random exits with the same holding times: the mean over permutations, and their spread."""
    drawn = pool.permuted(exits)
    n = drawn.shape[1]
    mean = drawn.mean(axis=0)
    yield _figure(name, "mean_equity", resample.mean(pool.weights, mean), n)
    ones = np.ones((1, n))
    worst = float(np.mean([resample.shortfall(ones, row)[0] for row in drawn]))
    yield (*name, "shortfall_5pct", worst, None, None, n)
    yield _figure(name, "gain_vs_hold", resample.mean(pool.weights, mean - pool.held.equity), n)
    yield _figure(name, "hours_held", resample.mean(pool.weights, pool.held_hours(exits)), n)


def p_value(observed: float, by_chance: Floats) -> float:
    """Share of the chances, itself among them, that do at least as well (Davison, Hinkley 1997)."""
    return (1.0 + np.count_nonzero(by_chance >= observed)) / (1.0 + by_chance.size)
