"""What has not fired yet and is nearest to it, and what would fire it: in words, with figures.

Nearness is the share of its way that a trigger has gone, from where it rests (0) to where it fires (1), so that
prices, probabilities and hours can stand in one order. It is no probability. A trigger rests

- at the middle of the grid: STOP_BREACHED (its way is that of the low down to the stop) and CLOSES_OUTSIDE (that of the
  close to the nearer bound; 1 while closes beyond it are being counted);
- at the middle of the range frozen at activation: RANGE_INVALIDATED;
- at 1, the mean of its week: VOLATILITY_EXPANDED;
- at 0: all others.

Under the policy `confirmed` a soft trigger counts only together with p_break_low_24h: its share is multiplied by the
one that this probability has of `confirm.warning`. BREAK_LIKELY fires twice, and is on its way to the next of its
thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats, Integers, log_ratio
from mm_dagster.bars import HOUR_BARS
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit.triggers import TRIGGERS
from mm_dagster.tables.words import VERDICTS
from mm_dagster.text import price_text

MOST_SENTENCES = 3
"""Sentences a bar at most."""

_UNKNOWN = {
    "STOP_BREACHED": "the stop",
    "CLOSES_OUTSIDE": "closes outside the grid",
    "REGIME_TREND": "the verdict",
    "RANGE_INVALIDATED": "the range of the activation",
    "TRANSITION_PERSISTS": "the verdict of the last hours",
    "REVERSION_LOST": "the half-life against its baseline",
    "VOLATILITY_EXPANDED": "the true range against its week",
    "TRANSITION_LIKELY": "the probability of a transition",
    "CONFIDENCE_FALLING": "the change of the confidence",
    "EFFICIENCY_RISING": "the change of the efficiency ratio",
    "REVERSION_SLOWING": "the half-life against that of 4 h before",
    "BREAK_LIKELY": "a break below the grid within 24 h",
}
"""What is not known when a trigger is null."""


def nearest_triggers(table: pl.DataFrame, config: ExitConfig, scales: TouchConfig) -> pl.Series:
    """The unfired triggers of each bar that are nearest to firing, and what would fire them.

    A probability names the price at which it would reach its threshold with the volatility of that bar. Figures are
    cut, not rounded, so that what has not fired never reads as if it had. What is at rest or moves away is left out,
    and so is a fall of the confidence that cannot fire, since the verdict 4 hours before was no range.

    Args:
        table: what `triggers.evaluate` returned, n bars; of several grids, one below the other, as well.
        config: policy and thresholds.
        scales: of the break probability.

    Returns:
        Lists of at most MOST sentences, shape (n,): the nearest first (of equals, the first of TRIGGERS); where
        triggers are unknown, the last sentence says which.
    """
    bars = _Bars(table, config, scales)
    order = np.argsort(-bars.near, axis=1, kind="stable")[:, :MOST_SENTENCES]
    order = np.where(np.take_along_axis(bars.near, order, axis=1) > 0, order, -1)
    partly = bars.unknown.any(axis=1)
    order[partly, -1] = -1
    # Each sentence of a trigger is written for all of its bars at once; the first one stands for no sentence.
    pool = [pl.Series([None], dtype=pl.String)]
    place = np.zeros(order.shape, np.int64)
    written = 1
    for index, trigger in enumerate(TRIGGERS):
        rows, slots = np.nonzero(order == index)
        if rows.size:
            pool.append(bars.say(trigger.name, rows))
            place[rows, slots] = written + np.arange(rows.size)
            written += rows.size
    pool.append(_say_unknown(bars.unknown[partly]))
    place[partly, -1] = written + np.arange(int(partly.sum()))
    said = pl.concat(pool, rechunk=True).gather(place.ravel())
    return said.reshape(place.shape).arr.to_list().list.drop_nulls().alias("nearest")


def offset_of(scales: TouchConfig) -> float:
    """How far away, in spreads k sigma sqrt(24), a bound is that the price has reached: c sqrt(1/4) / (k sqrt(24)).

    The volatility cancels out, as everywhere in this file; `grid/touch.py` says what c is.
    """
    return scales.continuity * math.sqrt(1.0 / HOUR_BARS) / (scales.k_break.h24 * math.sqrt(24))


def price_of_probability(p: Floats, price: Floats, bound: Floats, target: Floats, offset: float) -> Floats:
    """The price at which the touch probability of a lower bound would be `target`, with the volatility of now.

    p = 2 F4(-(d / s + o)) with d = ln(price / bound), the spread s = k sigma sqrt(h) and the offset o gives
    s = d / (x(p) - o), where x(p) = -F4^-1(p / 2); at the same spread `target` lies at
    bound * (price / bound)^((x(target) - o) / (x(p) - o)). So the volatility does not have to be known.

    Args:
        p: the probability now, shape (n,).
        price: the price now, above the bound, shape (n,).
        bound: the bound, same unit, shape (n,).
        target: the probability asked for, shape (n,).
        offset: see `offset_of`.

    Returns:
        Shape (n,); NaN where anything is not known, the price is not above the bound, p is not within (0, 1), or the
        target is not reached above the bound.
    """
    known = (p > 0) & (p < 1) & (price > bound)
    here = _t4_quantile(np.where(known, p, 0.5)) - offset
    there = _t4_quantile(np.where(known, target, 1.0)) - offset
    known &= (here > 0) & (there >= 0)
    ratio = there / np.where(known, here, 1.0)
    away = log_ratio(np.where(known, price, 1.0), np.where(known, bound, 1.0))
    # One by one, like the logarithms.
    nearer = np.array([math.exp(exponent) for exponent in (ratio * away).tolist()], dtype=np.float64)
    return np.where(known, bound * nearer, math.nan)


def _t4_quantile(p: Floats) -> Floats:
    """x >= 0 with 2 F4(-x) = p, F4 the distribution function of Student's t (Student 1908) with 4 degrees of freedom.

    With w = 4 / (r (r + x)), r = sqrt(x^2 + 4), p = w^2 (3 - w) / 2. That is convex in w over [0, 1], so Newton's
    steps from below reach the root from above; then x = 2 (1 - w) / sqrt(w (2 - w)). No transcendental function.
    """
    w = np.sqrt(2.0 * p / 3.0)
    for _ in range(_NEWTON_STEPS):
        w = w - (w * w * (3.0 - w) - 2.0 * p) / (3.0 * w * (2.0 - w))
    w = np.minimum(w, 1.0)
    return 2.0 * (1.0 - w) / np.sqrt(w * (2.0 - w))


_NEWTON_STEPS = 6
"""The error is squared at each; the first guess is at most a fifth off."""


class _Bars:
    """The readings of all bars as arrays, and what can be said of them.

    Attributes:
        near: nearness, shape (n, triggers), in the order of TRIGGERS; 0 where it is at rest, has nothing left to
            fire, or is unknown.
        unknown: whether a trigger is null, same shape.
    """

    def __init__(self, table: pl.DataFrame, config: ExitConfig, scales: TouchConfig) -> None:
        self._config = config
        self._offset = offset_of(scales)
        numbers = table.select(pl.col(pl.Float64).fill_null(math.nan))
        self._value = {trigger.name: numbers[f"{trigger.name}.value"].to_numpy() for trigger in TRIGGERS}
        self._threshold = {trigger.name: numbers[f"{trigger.name}.threshold"].to_numpy() for trigger in TRIGGERS}
        self._close, self._below, self._above, self._lower, self._upper, self._stop = (
            numbers[name].to_numpy()
            for name in ("close", "range_fires_below", "range_fires_above", "lower", "upper", "stop")
        )
        steps = config.thresholds.break_likely
        p = self._value["BREAK_LIKELY"]
        self._next = np.where(p >= steps.warning_on, steps.latest_acceptable_exit_on, steps.warning_on)
        self._exposed = np.ones(p.size)
        if config.policy == "confirmed" and config.confirm.warning > 0:
            # Where the probability is not known, nobody can say that the trigger would not count.
            self._exposed = np.fmin(p / config.confirm.warning, 1.0)

        fired = table.select(f"{trigger.name}.fired" for trigger in TRIGGERS)
        self.unknown = fired.select(pl.all().is_null()).to_numpy()
        near = []
        for trigger, over in zip(TRIGGERS, fired.select(pl.all().fill_null(True)).to_numpy().T, strict=True):
            share = np.clip(self._share(trigger.name), 0.0, 1.0)
            if trigger.family not in ("hard", "measured"):
                share = share * self._exposed
            if trigger.name == "BREAK_LIKELY":
                over = np.isnan(p) | (p >= self._next)
            if trigger.name == "CONFIDENCE_FALLING":
                over = over | (self._value[trigger.name] >= self._threshold[trigger.name])
            near.append(np.where(over, 0.0, share))
        self.near = np.column_stack(near)

    def _share(self, name: str) -> Floats:
        """The share of its way from rest to threshold, not yet cut to [0, 1]."""
        value, threshold = self._value[name], self._threshold[name]
        middle = (self._lower + self._upper) / 2
        match name:
            case "STOP_BREACHED":
                return (middle - value) / (middle - self._stop)
            case "CLOSES_OUTSIDE":
                return np.abs(self._close - middle) / (self._upper - middle)
            case "RANGE_INVALIDATED":
                centre = (self._below + self._above) / 2
                return np.abs(self._close - centre) / (self._above - centre)
            case "BREAK_LIKELY":
                return np.divide(value, self._next, out=np.zeros(value.size), where=self._next > 0)
        rest = 1.0 if name == "VOLATILITY_EXPANDED" else 0.0
        way = threshold - rest
        return np.divide(value - rest, way, out=np.zeros(value.size), where=way > 0)

    def say(self, name: str, rows: Integers) -> pl.Series:
        """What the trigger reads and what would fire it, for each of the rows, where it has not fired."""
        value, threshold = self._value[name][rows], self._threshold[name][rows]
        limits = self._config.thresholds
        match name:
            case "STOP_BREACHED":
                stop = self._stop[rows]
                away = _write(_cut(100 * (self._close[rows] - stop) / self._close[rows], 1), ".1f")
                return _join("Stop ", _write(stop, price_text), ": ", away, " % below")
            case "CLOSES_OUTSIDE":
                return self._say_closes(value, rows)
            case "BREAK_LIKELY":
                return self._say_break(value, rows)
            case "REGIME_TREND":
                said = _join("Verdict: ", _verdict(value), " (fires at TREND")
            case "RANGE_INVALIDATED":
                said = self._say_range(rows)
            case "TRANSITION_PERSISTS":
                said = _join("Mildest verdict of the last hours: ", _verdict(value), " (fires at TRANSITION")
            case "REVERSION_LOST":
                said = _join("Half-life of the reversion: ", _hours(value, threshold), " h, from its baseline")
            case "VOLATILITY_EXPANDED":
                above = f" (fires above {limits.volatility_expansion:.2f}"
                said = _join("True range against its week: ", _write(_cut(value, 2), ".2f"), above)
            case "TRANSITION_LIKELY":
                at = f" % (fires at {100 * limits.transition_likely:.0f} %"
                said = _join("Transition or trend: ", _write(_cut(100 * value, 0), ".0f"), at)
            case "CONFIDENCE_FALLING":
                at = f" (fires at {limits.confidence_fall:.2f}"
                said = _join("Confidence in the range fell within 4 h by ", _write(_cut(value, 2), ".2f"), at)
            case "EFFICIENCY_RISING":
                at = f" (fires at {limits.efficiency_rise:.2f}"
                said = _join("Efficiency ratio rose within 4 h by ", _write(_cut(value, 2), ".2f"), at)
            case "REVERSION_SLOWING":
                said = _join("Half-life of the reversion: ", _hours(value, threshold), " h, from 4 h before")
            case _:
                raise ValueError(f"{name!r} is no trigger of the ladder")
        company = f"; counts only with a break below at {100 * self._config.confirm.warning:.0f} %)"
        return _join(said, _either(self._exposed[rows] < 1, company, ")"))

    def _say_closes(self, value: Floats, rows: Integers) -> pl.Series:
        close, lower, upper = self._close[rows], self._lower[rows], self._upper[rows]
        down = np.where(value == 0, close - lower <= upper - close, value < 0)
        away = _cut(100 * np.where(down, close - lower, upper - close) / close, 1)
        beyond = _either(down, " (below ", " (above ")
        bound = _write(np.where(down, lower, upper), price_text)
        of = f" of {self._config.thresholds.closes_outside}"
        more = _write(np.where(value == 0, away, np.nan), ".1f", ", {} % away)", missing=")")
        side = _either(down, "Closes below the grid: ", "Closes above the grid: ")
        return _join(side, _write(np.abs(value), ".0f"), of, beyond, bound, more)

    def _say_range(self, rows: Integers) -> pl.Series:
        close, below, above = self._close[rows], self._below[rows], self._above[rows]
        down = close - below <= above - close
        away = _cut(100 * np.where(down, close - below, above - close) / close, 1)
        side = _either(down, "below ", "above ")
        price = _write(np.where(down, below, above), price_text)
        return _join(
            "Range of the activation: inside (left at a close ", side, price, ", ", _write(away, ".1f"), " % away"
        )

    def _say_break(self, p: Floats, rows: Integers) -> pl.Series:
        lower = self._lower[rows]
        price = price_of_probability(p, self._close[rows], lower, self._next[rows], self._offset)
        # To the fourth digit of the bound: the probability is good to some points, so a price is to some parts in 1000.
        unit = np.array([10.0 ** (math.floor(math.log10(bound)) - 3) for bound in lower.tolist()])
        at = _write(np.rint(price / unit) * unit, price_text, ", at a price of {})", missing=")")
        now, limit = _write(_cut(100 * p, 0), ".0f"), _write(100 * self._next[rows], ".0f")
        return _join("Break below the grid within 24 h: ", now, " % (fires at ", limit, " %", at)


def _say_unknown(unknown: Flags) -> pl.Series:
    """Which triggers are unknown, for each row; only how many, where it is more than half."""

    def sentence(mask: int) -> str:
        names = [_UNKNOWN[trigger.name] for index, trigger in enumerate(TRIGGERS) if mask >> index & 1]
        if 2 * len(names) > len(TRIGGERS):
            return f"{len(names)} of {len(TRIGGERS)} triggers cannot be known"
        return f"Cannot be known: {', '.join(names)}"

    masks, place = np.unique(unknown @ (1 << np.arange(len(TRIGGERS))), return_inverse=True)
    return pl.Series([sentence(mask) for mask in masks.tolist()], dtype=pl.String).gather(place)


def _cut(values: Floats, digits: int) -> Floats:
    """The values cut downwards to so many decimal digits; what only rounding took off them stays."""
    scale = 10.0**digits
    return np.floor(values * scale + 1e-9) / scale


def _write(
    values: Floats, written: str | Callable[[float], str], around: str = "{}", missing: str = "not known"
) -> pl.Series:
    """Each value in words, by a format or a function; equal ones, of which there are many, are written once."""
    said = written if callable(written) else lambda value: format(value, written)
    found, place = np.unique(values, return_inverse=True)
    words = [missing if math.isnan(value) else around.format(said(value)) for value in found.tolist()]
    return pl.Series(words, dtype=pl.String).gather(place)


def _hours(value: Floats, threshold: Floats) -> pl.Series:
    return _join(_write(_cut(value, 1), ".1f"), " h (fires at ", _write(_cut(threshold, 1), ".1f"))


def _verdict(place: Floats) -> pl.Series:
    return pl.Series(VERDICTS, dtype=pl.String).gather(place.astype(np.int64))


def _either(which: Flags, one: str, other: str) -> pl.Series:
    return pl.Series([other, one], dtype=pl.String).gather(which.astype(np.int64))


def _join(*parts: str | pl.Series) -> pl.Series:
    return pl.select(pl.concat_str([pl.lit(part) for part in parts])).to_series()
