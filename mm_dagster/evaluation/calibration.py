"""Is a touch probability honest? Of all the times it said 30 %, how often did it happen?

A row of grid_risk says at `as_of` how likely an event is within the next hours; the candles of these hours say whether
it happened. Hourly rows of one day share nearly all of their 24 hours, and markets move together, so n rows are far
from n independent looks: intervals count only as many as there are horizons that do not overlap.

One episode's rows become samples (`observe`), samples of any number of episodes, put below each other, become one
calibration (`calibrate`), and that becomes a sentence (`verdict_of`). Sums are exact (math.fsum), so that no result
depends on the order of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Literal

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import BAR, EPOCH, HOUR_BARS, TIME, Span, bar_numbers, by_bar
from mm_dagster.evaluation import scores

Event = Literal["break_low", "break_high", "stop"]

EVENTS: dict[Event, str] = {
    "break_low": "two closes below the grid",
    "break_high": "two closes above the grid",
    "stop": "a low at or below the stop",
}
"""What each probability of grid_risk is of, in words."""

SAMPLE_BARS = HOUR_BARS
"""Every so many bars a row is looked at, counted in absolute bar numbers: on the clock hour."""

EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Bins of the prediction, each with its lower edge; the last also with its upper one."""

ENOUGH_HORIZONS = 20
"""Independent horizons that a verdict needs in all."""
ENOUGH_IN_BIN = 10
"""Independent horizons from which a bin is judged by itself: below, its interval is no more than a guess."""
TOLERANCE = 0.1
"""A smaller difference between predicted and observed changes no decision, however sure it is."""

LIKELY = 0.3
"""From here on a prediction moves the exit ladder or the stop-loss risk: these are judged together as well."""

SAMPLE_SCHEMA = {"as_of": TIME, "predicted": pl.Float64(), "happened": pl.Boolean(), "over": pl.Boolean()}
"""Columns of samples: see `observe`."""


@dataclass(frozen=True)
class Bin:
    """Samples whose prediction lies in one interval.

    Attributes:
        low: lower edge of the predictions, included.
        high: upper edge, excluded but for 1.
        count: samples.
        horizons: how many of their horizons fit beside each other without overlap: the effective sample size.
        predicted: mean prediction; None when empty.
        observed: share that happened; None when empty.
        lower: lower end of the 95 % interval of `observed`; None when empty.
        upper: upper end.
    """

    low: float
    high: float
    count: int
    horizons: int
    predicted: float | None
    observed: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Calibration:
    """How predictions compare with what happened.

    Attributes:
        event: which event.
        hours: within how many hours.
        bins: by prediction, one for each pair of EDGES.
        whole: all samples as one bin: `observed` is the base rate, with its interval.
        likely: samples predicted with LIKELY or more, as one bin.
        censored: samples left out because the hours after them are not wholly known.
        unknown: samples left out because there is no prediction.
        over: samples left out because the grid was over.
        expected_calibration_error: see `scores`, over these bins.
        brier_score: mean squared difference between prediction and outcome (Brier 1950).
        brier_skill: see `scores`; None where nothing or everything happened.
        auc: likewise.

    The last four are None without samples.
    """

    event: Event
    hours: int
    bins: tuple[Bin, ...]
    whole: Bin
    likely: Bin
    censored: int
    unknown: int
    over: int
    expected_calibration_error: float | None
    brier_score: float | None
    brier_skill: float | None
    auc: float | None


def observe(
    risk: pl.DataFrame,
    candles: pl.DataFrame,
    *,
    event: Event,
    lower: float,
    upper: float,
    stop: float,
    hours: int = 24,
) -> pl.DataFrame:
    """What was predicted for one episode, hour by hour, and what happened.

    The row of as_of t is followed over the bars that close in (t, t + hours]. A break has happened at the bar with
    which two closes in a row lie beyond the bound, like the trigger CLOSES_OUTSIDE; the first of the two may be the
    bar that closes at t. The stop is touched by a low at or below it. A row counts while the grid lives: until the
    event itself, or the stop, which sells everything, has happened since the first row.

    Args:
        risk: rows of `grid_risk` of one episode; those on a clock hour are looked at.
        candles: rows of `candles`; other markets are ignored. A bar without a row, or without a close, is not known.
        event: break_low, break_high or stop.
        lower: lower bound of the episode's grid, quote currency.
        upper: upper bound.
        stop: stop.
        hours: horizon; the column p_<event>_<hours>h is judged.

    Returns:
        SAMPLE_SCHEMA, by `as_of`: the prediction (null: there was none), whether it happened (null: the hours are
        not wholly known), and whether the grid was over, so that the row says nothing.

    Raises:
        ValueError: the rows are of more than one episode.
    """
    if risk.is_empty():
        return pl.DataFrame(schema=SAMPLE_SCHEMA)
    episodes = risk.select("grid_id", "activated_at", "symbol").unique().sort("grid_id", "activated_at")
    if episodes.height > 1:
        named = ", ".join(f"{row[0]} since {row[1]}" for row in episodes.iter_rows())
        raise ValueError(f"risk: holds rows of {episodes.height} episodes ({named}); give those of one at a time")
    rows = risk.sort("as_of")
    number = bar_numbers(rows["as_of"])
    horizon = hours * HOUR_BARS
    first, size = int(number[0]), int(number[-1] - number[0]) + 1 + horizon
    axis = Span(EPOCH + (first - 1) * BAR, EPOCH + (first - 1 + size) * BAR)
    known_bars = by_bar(candles, axis, episodes.select("symbol"), "close", "low", time="close_time")
    close, low = known_bars["close"][0], known_bars["low"][0]

    ends = {
        "break_low": _second_of_two(close < lower),
        "break_high": _second_of_two(close > upper),
        "stop": low <= stop,
    }
    # The row at `first` is the first that knows of the grid: what its own bar did came before.
    for happens in ends.values():
        happens[0] = False
    next_one = _next(ends[event])
    over = np.cumsum(ends[event] | ends["stop"]) > 0
    known = np.concatenate([[0], np.cumsum(~np.isnan(close))])

    # Position p on the axis is the bar that closes at as_of number `first` + p.
    place = (number - first)[number % SAMPLE_BARS == 0]
    happened = next_one[place] <= place + horizon
    whole = known[place + 1 + horizon] - known[place + 1] == horizon
    samples = rows.filter(pl.Series(number % SAMPLE_BARS == 0)).select(
        "as_of",
        predicted=f"p_{event}_{hours}h",
        happened=pl.when(pl.Series(whole)).then(pl.Series(happened)),
        over=pl.Series(over[place]),
    )
    return samples.cast(SAMPLE_SCHEMA)  # type: ignore[arg-type]


def calibrate(samples: pl.DataFrame, *, event: Event, hours: int = 24) -> Calibration:
    """Compares predictions with outcomes, in fixed bins.

    Intervals are Wilson's (1927) with n the number of horizons that do not overlap: going through the samples in
    time, one is counted when it lies `hours` or more after the last that was. Samples of different grids and markets
    at one time count once, since markets move together. This is on the safe side: what a sample adds between two
    counted ones is not used.

    Args:
        samples: from `observe`, of any number of episodes, in any order.
        event: the event they are about.
        hours: its horizon.

    Returns:
        The calibration; samples that are over, unknown or censored (in this order) are left out and counted.
    """
    over = samples["over"]
    unknown = ~over & samples["predicted"].is_null()
    censored = ~over & ~unknown & samples["happened"].is_null()
    used = samples.filter(~over & ~unknown & ~censored).sort("as_of")
    number = bar_numbers(used["as_of"])
    predicted = used["predicted"].to_numpy()
    happened = used["happened"].to_numpy()
    horizon = hours * HOUR_BARS

    which = np.searchsorted(np.array(EDGES[1:-1]), predicted, side="right")
    bins = tuple(
        _bin(low, high, number[which == place], predicted[which == place], happened[which == place], horizon)
        for place, (low, high) in enumerate(pairwise(EDGES))
    )
    high = predicted >= LIKELY
    whole = _bin(EDGES[0], EDGES[-1], number, predicted, happened, horizon)
    samples_used = np.array(whole.count, np.float64)
    squares = math.fsum(((predicted - happened) ** 2).tolist())
    predicted_in = np.array([math.fsum(predicted[which == place].tolist()) for place in range(len(bins))])
    happened_in = np.bincount(which[happened], minlength=len(bins)).astype(np.float64)
    return Calibration(
        event=event,
        hours=hours,
        bins=bins,
        whole=whole,
        likely=_bin(LIKELY, EDGES[-1], number[high], predicted[high], happened[high], horizon),
        censored=int(censored.sum()),
        unknown=int(unknown.sum()),
        over=int(over.sum()),
        expected_calibration_error=_known(scores.expected_calibration_error(predicted_in, happened_in, samples_used)),
        brier_score=squares / whole.count if whole.count else None,
        brier_skill=_known(scores.brier_skill(np.array(squares), happened_in.sum(), samples_used)),
        auc=_known(scores.auc(*_by_rank(predicted, happened))),
    )


def wilson_interval(share: float, n: float, coverage: float = 0.95) -> tuple[float, float]:
    """Interval of a probability from the share in which it happened (Wilson 1927); it stays within [0, 1].

    Args:
        share: observed share, fraction.
        n: independent observations, more than 0.
        coverage: how often the interval is to hold the truth.
    """
    z = NormalDist().inv_cdf(0.5 + coverage / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def verdict_of(calibration: Calibration) -> tuple[bool, str]:
    """Whether the probability may be believed, and one sentence that says why.

    Judged are all samples together, those from LIKELY on, and each bin, as far as they have ENOUGH_IN_BIN horizons.
    It fails when one of them differs from its mean prediction by more than TOLERANCE and by more than chance
    explains: the prediction lies outside an interval that is widened (Bonferroni) so that, were the probability
    honest, none would fail with 95 %. With fewer than ENOUGH_HORIZONS in all it passes and says that it cannot tell.

    Args:
        calibration: from `calibrate`.
    """
    whole, likely, hours = calibration.whole, calibration.likely, calibration.hours
    what = f"{EVENTS[calibration.event]} within {hours} h"
    seen = f"{whole.count:,} hours looked at, {whole.horizons} spans of {hours} h that do not overlap"
    if whole.horizons < ENOUGH_HORIZONS:
        return True, f"Too little data to judge the probability of {what}: {seen}; {ENOUGH_HORIZONS} are needed."
    judged = [one for one in (likely, whole, *calibration.bins) if one.horizons >= ENOUGH_IN_BIN]
    off = [one for one in judged if _differs(one, 1 - 0.05 / len(judged))]
    if not off:
        return True, f"The probability of {what} is honest as far as can be seen: {_in_words(judged[0])} ({seen})."
    plain = off[0] if off[0] in (likely, whole) else max(off, key=lambda one: abs(_gap(one)))
    direction = "high" if _gap(plain) > 0 else "low"
    return False, f"The probability of {what} is too {direction}: {_in_words(plain)} ({seen})."


def _in_words(one: Bin) -> str:
    """A bin as a person would say it."""
    predicted, observed, lower, upper = (
        f"{100 * (share or 0.0):.0f}" for share in (one.predicted, one.observed, one.lower, one.upper)
    )
    between = f"{100 * one.low:.0f} % or more" if one.high == 1 else f"{100 * one.low:.0f}-{100 * one.high:.0f} %"
    hours = (
        f"of all {one.count:,} hours"
        if one.low == 0 and one.high == 1
        else f"of {one.count:,} hours with {between} predicted"
    )
    return f"{hours} (mean {predicted} %), it followed in {observed} % (95 % interval {lower} to {upper} %)"


def _gap(one: Bin) -> float:
    return (one.predicted or 0.0) - (one.observed or 0.0)


def _differs(one: Bin, coverage: float) -> bool:
    lower, upper = wilson_interval(one.observed or 0.0, one.horizons, coverage)
    return abs(_gap(one)) > TOLERANCE and not lower <= (one.predicted or 0.0) <= upper


def _bin(low: float, high: float, number: Integers, predicted: Floats, happened: Flags, horizon: int) -> Bin:
    """One bin of samples, which are in the order of time."""
    count = number.size
    if not count:
        return Bin(low, high, 0, 0, None, None, None, None)
    horizons, free_from = 0, number[0]
    for time in np.unique(number):
        if time >= free_from:
            horizons, free_from = horizons + 1, time + horizon
    observed = int(happened.sum()) / count
    lower, upper = wilson_interval(observed, horizons)
    return Bin(low, high, count, horizons, math.fsum(predicted.tolist()) / count, observed, lower, upper)


def _by_rank(predicted: Floats, happened: Flags) -> tuple[Floats, Floats]:
    """How many samples there are with the event, and without it, at each value of the prediction, ascending."""
    values, place = np.unique(predicted, return_inverse=True)
    with_it, without = (np.bincount(place[kind], minlength=values.size) for kind in (happened, ~happened))
    return with_it.astype(np.float64), without.astype(np.float64)


def _known(score: Floats) -> float | None:
    """The score as a plain number; None where there is none."""
    return float(score) if np.isfinite(score) else None


def _second_of_two(beyond: Flags) -> Flags:
    """Where this bar and the one before are beyond; NaN comparisons have made unknown ones False."""
    second = np.zeros_like(beyond)
    second[1:] = beyond[1:] & beyond[:-1]
    return second


def _next(happens: Flags) -> Integers:
    """For each place, the first later one at which it happens; beyond the axis when it does not."""
    places = np.where(happens, np.arange(happens.size), 2 * happens.size)
    after = np.minimum.accumulate(places[::-1])[::-1]
    return np.append(after[1:], 2 * happens.size)
