"""The table of what signals are worth: every figure of every signal beside every control, with its interval.

Money is in percent of the capital. The equity of a grid is what leaving it when the signal was first raised left of the
capital, or holding it to its stop or the end of its life where it never was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, Integers
from mm_dagster.bars import HOUR_BARS
from mm_dagster.evaluation import alarms, probability, resample
from mm_dagster.evaluation.alarms import Alarms
from mm_dagster.evaluation.cohort import Cohort
from mm_dagster.evaluation.probability import Samples
from mm_dagster.evaluation.signals import CONTROL, Name, Signals

PROBABILITY = "p_break_low_24h"
SHORTFALL = 0.05
"""The share of the worst grids whose mean is the expected shortfall (Acerbi, Tasche 2002)."""
PERMUTATIONS = 200
LEAST_SHIFT_DAYS = 14
"""Nearer dates share the market of the grid whose exit is borrowed."""

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
        samples: of the break probability.
    """

    symbol: str
    day: Integers
    last: Integers
    ends: Integers
    whole: np.ndarray
    left: Floats
    alarms: Mapping[Name, Alarms]
    exits: Mapping[Name, Integers]
    samples: Samples


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
        samples=probability.sample(signals.probability, cohort, fold),
    )


def measure(
    judged: Sequence[Judged], active: str, *, daily: bool = True, signals: Collection[Name] | None = None
) -> pl.DataFrame:
    """Every figure of every signal.

    Args:
        judged: the cohorts, each of one market.
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
    found = pl.DataFrame(list(_rows(pool, active, signals)), schema=SCHEMA, orient="row")
    if resample.enough(pool.day):
        return found
    return found.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("low", "high"))


def _rows(pool: Pool, active: str, signals: Collection[Name] | None) -> Iterator[Row]:
    judged = pool.judged
    yield from _of_probability(pool, active)
    names = [name for name in judged[0].alarms if signals is None or name in signals]
    exits = {name: [one.exits[name] for one in judged] for name in names}
    for name in names:
        if name[1] != "hold_to_stop":
            yield from _of_alarms(pool, name)
        yield from _of_money(pool, name, exits[name])
    if signals is None:
        # What luck would have made of the same holding times, for the signal that asks to act.
        acted = exits[active, "LATEST_ACCEPTABLE_EXIT"]
        yield from _of_money(pool, (CONTROL, "mean_holding_time"), pool.mean_holding(acted))
        yield from _random(pool, (CONTROL, "random_exits"), acted)


Row = tuple[str, str, str, float | None, float | None, float | None, int]


class Pool:
    """All grids of all cohorts in one order, and how often each is drawn."""

    def __init__(self, judged: Sequence[Judged], daily: bool = True) -> None:
        self.judged = judged
        self.daily = daily
        self.day = np.concatenate([one.day for one in judged])
        self.symbol = np.repeat(np.arange(len(judged)), [one.day.size for one in judged])
        self.weights = resample.draws(self.day - self.day.min(), self.symbol)
        self.held = np.concatenate([one.left[np.arange(one.day.size), one.last] for one in judged])

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

    def shifted(self, exits: Sequence[Integers]) -> Floats:
        """The null: every grid left when the same market's grid of another date was, all markets shifted alike.

        Returns:
            Equity by shift and grid, shape (shifts, m); NaN where the other date has no grid.
        """
        first, days = int(self.day.min()), int(self.day.max() - self.day.min()) + 1
        shifts = np.arange(LEAST_SHIFT_DAYS, days - LEAST_SHIFT_DAYS + 1)
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


def _mean(weights: Floats, values: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights @ values) / weights.sum(axis=1)


def _shortfall(weights: Floats, values: Floats) -> Floats:
    """Mean of the worst SHORTFALL of the weight, shape (draws,)."""
    order = np.argsort(values, kind="stable")
    ordered = weights[:, order]
    total = ordered.sum(axis=1, keepdims=True)
    before = np.cumsum(ordered, axis=1) - ordered
    taken = np.clip(SHORTFALL * total - before, 0.0, ordered)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (taken @ values[order]) / taken.sum(axis=1)


def _of_money(pool: Pool, name: Name, exits: Sequence[Integers]) -> Iterator[Row]:
    equity = pool.equity(exits)
    n = equity.size
    yield _figure(name, "mean_equity", _mean(pool.weights, equity), n)
    yield _figure(name, "shortfall_5pct", _shortfall(pool.weights, equity), n)
    yield _figure(name, "hours_held", _mean(pool.weights, pool.held_hours(exits)), n)
    if name[1] == "hold_to_stop":
        return
    yield _figure(name, "gain_vs_hold", _mean(pool.weights, equity - pool.held), n)
    null = pool.shifted(exits) if pool.daily else np.empty(0)
    if null.size:
        by_shift = np.nanmean(null, axis=1)
        yield _figure(name, "gain_vs_null", _mean(pool.weights, equity - np.nanmean(null, axis=0)), n)
        yield (*name, "p_null", p_value(equity.mean(), by_shift), None, None, by_shift.size)
    yield (*name, "p_random", p_value(equity.mean(), pool.permuted(exits).mean(axis=1)), None, None, PERMUTATIONS)


def _random(pool: Pool, name: Name, exits: Sequence[Integers]) -> Iterator[Row]:
    """Random exits with the same holding times: the mean over permutations, and their spread."""
    drawn = pool.permuted(exits)
    n = drawn.shape[1]
    mean = drawn.mean(axis=0)
    yield _figure(name, "mean_equity", _mean(pool.weights, mean), n)
    ones = np.ones((1, n))
    worst = float(np.mean([_shortfall(ones, row)[0] for row in drawn]))
    yield (*name, "shortfall_5pct", worst, None, None, n)
    yield _figure(name, "gain_vs_hold", _mean(pool.weights, mean - pool.held), n)
    yield _figure(name, "hours_held", _mean(pool.weights, pool.held_hours(exits)), n)


def p_value(observed: float, by_chance: Floats) -> float:
    """Share of the chances, itself among them, that do at least as well (Davison, Hinkley 1997)."""
    return (1.0 + np.count_nonzero(by_chance >= observed)) / (1.0 + by_chance.size)
