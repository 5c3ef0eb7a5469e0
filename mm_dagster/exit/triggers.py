"""The twelve triggers of the ladder, at every bar of an episode: value, threshold, fired.

They know no policy: which of them decide, and at which level, is the ladder's business. Lagged values are looked up
by time, so the start of the frames, the order of their rows and the rows of other markets and grids do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from mm_dagster.arrays import Flags, Floats, Integers, kernel
from mm_dagster.bars import BAR, EPOCH, FOUR_HOUR_BARS, HOUR_BARS, TIME, Span, by_bar, floor_bar
from mm_dagster.config.exit import ExitConfig, Thresholds
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables.words import STATES, VERDICTS

Logic = npt.NDArray[np.int8]

FALSE, UNKNOWN, TRUE = 0, 1, 2
"""Three-valued logic (Kleene 1938) as numbers: `and` is the minimum, `or` the maximum."""

NORMAL, WARNING, LATEST_ACCEPTABLE_EXIT, MANDATORY_EXIT = STATES
TRANSITION, TREND = VERDICTS.index("TRANSITION"), VERDICTS.index("TREND")


@dataclass(frozen=True)
class Trigger:
    """A trigger as the requirements list it.

    Attributes:
        name: its name.
        family: hard, regime, range, reversion, volatility, trend, or measured.
        level: the state it asks for.
        one_of: whether it is one of those of which only several together make a WARNING.
    """

    name: str
    family: str
    level: str
    one_of: bool = False


TRIGGERS = (
    Trigger("STOP_BREACHED", "hard", MANDATORY_EXIT),
    Trigger("CLOSES_OUTSIDE", "hard", MANDATORY_EXIT),
    Trigger("REGIME_TREND", "regime", MANDATORY_EXIT),
    Trigger("RANGE_INVALIDATED", "range", MANDATORY_EXIT),
    Trigger("TRANSITION_PERSISTS", "regime", LATEST_ACCEPTABLE_EXIT),
    Trigger("REVERSION_LOST", "reversion", LATEST_ACCEPTABLE_EXIT),
    Trigger("VOLATILITY_EXPANDED", "volatility", LATEST_ACCEPTABLE_EXIT),
    Trigger("TRANSITION_LIKELY", "regime", WARNING, one_of=True),
    Trigger("CONFIDENCE_FALLING", "regime", WARNING, one_of=True),
    Trigger("EFFICIENCY_RISING", "trend", WARNING, one_of=True),
    Trigger("REVERSION_SLOWING", "reversion", WARNING, one_of=True),
    Trigger("BREAK_LIKELY", "measured", WARNING),
)
"""In the order in which they are stored. BREAK_LIKELY has a second threshold, for LATEST_ACCEPTABLE_EXIT."""

Reading = tuple[Floats, Floats, Logic]
"""Value, threshold and fired of one trigger, each of shape (n,); NaN in the first two is unknown."""

_BAR_MINUTES = BAR // timedelta(minutes=1)
LAG = FOUR_HOUR_BARS
"""Base bars before the activation that triggers look back to."""

FEATURES = ("half_life", "half_life_baseline", "atr_expansion", "efficiency_ratio", "range_high", "range_low", "atr")
"""Columns of `regime_features` that the triggers read."""
CANDLES = ("close_time", "close", "low")
"""Those of `candles`."""
VERDICT = ("verdict", "confidence", "transition_probability")
"""Those of `regime_verdict`."""
RISK = ("p_break_low_24h", "inventory")
"""Those of `grid_risk`; what a grid holds decides nothing, but no advice may contradict it."""

INPUTS = {
    "p_break_low_24h": "the probability of a break",
    "verdict": "the verdict",
    "half_life": "the half-life of the reversion",
    "half_life_baseline": "its baseline",
    "atr_expansion": "the true range against its week",
    "efficiency_ratio": "the efficiency ratio",
}
"""What soft triggers need besides the range frozen at activation, and what it is called."""
_LAGS = {"verdict": 4, "half_life": 1, "efficiency_ratio": 1}
"""Of some of them also the values so many steps before: of hours of the verdict, of 4 hours of the others."""


@dataclass(frozen=True)
class Readings:
    """The triggers at the n bars of an episode, from its activation on.

    Attributes:
        grid: whose episode it is.
        numbers: close (NaN when MISSING); age_minutes, of the newest known bar (infinite when there is none);
            range_fires_below and range_fires_above, the prices beyond which a close leaves the range frozen at
            activation (NaN when it is not there); lower, upper and stop of the grid; for each trigger `<name>.value`
            and `<name>.threshold`, NaN where unknown; each of shape (n,).
        logic: three-valued, for each trigger `<name>.fired`; and `BREAK_LIKELY.warning_on`, `.warning_off`,
            `.latest_acceptable_exit_on`, `.latest_acceptable_exit_off`; each of shape (n,).
        complete: whether the range frozen at activation is there.
        known_from: for each of INPUTS the first bar at which it was known, n if there is none: unlike what was lost,
            what was never known says nothing.
    """

    grid: GridConfig
    numbers: Mapping[str, Floats]
    logic: Mapping[str, Logic]
    complete: bool
    known_from: Mapping[str, int]

    @property
    def bars(self) -> int:
        """How many bars, n."""
        return self.numbers["close"].size

    @property
    def judged_from(self) -> int:
        """The first known bar since the activation; n if there is none. Before it nothing is judged."""
        return _first(~np.isnan(self.numbers["close"]))

    @property
    def informed_from(self) -> int:
        """The first judged bar by which every one of INPUTS has been known; n if there is none."""
        return max(self.judged_from, *self.known_from.values())

    @property
    def unknown_triggers(self) -> Integers:
        """How many triggers are null at each bar, shape (n,)."""
        return np.count_nonzero([self.logic[f"{trigger.name}.fired"] == UNKNOWN for trigger in TRIGGERS], axis=0)


def evaluate(
    grids: Sequence[GridConfig],
    candles: pl.DataFrame,
    features: pl.DataFrame,
    verdict: pl.DataFrame,
    risk: pl.DataFrame,
    end: datetime,
    config: ExitConfig,
) -> list[Readings]:
    """Evaluates every trigger at every bar of some episodes, from `first_as_of` to `end`.

    A trigger is unknown where any of its inputs is; only RANGE_INVALIDATED, once fired, stays so whatever is missing.
    What each `value` and `threshold` says:

    - STOP_BREACHED: low of the bar; stop. Of a bar that closes at the very activation only the close counts: its low
      came before the grid.
    - CLOSES_OUTSIDE: closes in a row beyond one bound since activation, negative below and positive above the grid,
      0 inside; the number that fires, with the same sign.
    - REGIME_TREND: place of the verdict in `words.VERDICTS`; that of TREND.
    - RANGE_INVALIDATED: how far the close is outside the range frozen at activation, in ATRs frozen with it
      (negative inside); ATRs.
    - TRANSITION_PERSISTS: the larger of the least verdict now and 1, 2, 3 hours before and the lesser verdict of now
      and 4 hours before, as places in `words.VERDICTS`; that of TRANSITION.
    - REVERSION_LOST: half-life, hours; multiple of its baseline.
    - VOLATILITY_EXPANDED: expansion; limit.
    - TRANSITION_LIKELY: transition probability; limit.
    - CONFIDENCE_FALLING: fall of the confidence in 4 hours; limit. It fires only from a range verdict.
    - EFFICIENCY_RISING: rise of the efficiency ratio in 4 hours; limit.
    - REVERSION_SLOWING: half-life, hours; multiple of the one 4 hours before, at least the floor.
    - BREAK_LIKELY: p_break_low_24h; the threshold that it is beyond, or the lower one.

    Args:
        grids: the grids; the episode of each begins at its `first_as_of`.
        candles: rows of `candles`, reaching at least 75 minutes back before the earliest `first_as_of`
            (`blindness.latest_acceptable_exit_minutes`), so that the age of the newest known bar is right. All frames
            may hold other markets, grids and times.
        features: rows of `regime_features` from 4 hours before the earliest `first_as_of` on.
        verdict: rows of `regime_verdict` from 4 hours before the earliest `first_as_of` on.
        risk: rows of `grid_risk`.
        end: last `as_of`.
        config: thresholds.

    Returns:
        One for each grid, in their order; without bars when `end` is before the activation.
    """
    if not grids:
        return []
    begins = [grid.first_as_of - (LAG + 1) * BAR for grid in grids]
    ends = [max(floor_bar(end), grid.first_as_of - BAR) for grid in grids]
    axis = Span(min(begins), max(ends))
    symbols = sorted({grid.symbol for grid in grids})
    of_market = inputs_by_bar(symbols, candles, features, verdict, axis)
    episodes = pl.DataFrame(
        [(grid.id, grid.activated_at) for grid in grids],
        schema={"grid_id": pl.String, "activated_at": TIME},
        orient="row",
    )
    of_grid = by_bar(risk, axis, episodes, *RISK)
    found = []
    for number, grid in enumerate(grids):
        life = slice((begins[number] - axis.start) // BAR, (ends[number] - axis.start) // BAR)
        known = {name: values[symbols.index(grid.symbol), life] for name, values in of_market.items()}
        known |= {name: values[number, life] for name, values in of_grid.items()}
        found.append(read_triggers(grid, known, config.thresholds))
    return found


def inputs_by_bar(
    symbols: Sequence[str], candles: pl.DataFrame, features: pl.DataFrame, verdict: pl.DataFrame, axis: Span
) -> dict[str, Floats]:
    """What the triggers read of some markets.

    Args:
        symbols: the markets.
        candles: see `evaluate`; likewise features and verdict.
        features: see there.
        verdict: see there.
        axis: the bars that are wanted.

    Returns:
        By column, shape (symbols, bars of the axis), NaN where unknown: close, low and age_minutes of the candles,
        FEATURES, and VERDICT with the verdict as its place in `words.VERDICTS`.
    """
    # The newest known bar may be older than the axis.
    oldest = candles["close_time"].min() if candles.height else axis.end
    since_oldest = Span(min(axis.start, floor_bar(oldest) - BAR), axis.end)  # type: ignore[arg-type]
    lanes = pl.DataFrame({"symbol": symbols})
    bars = by_bar(candles, since_oldest, lanes, "close", "low", time="close_time")
    bars["age_minutes"] = _age_minutes(bars["close"])
    places = {name: float(place) for place, name in enumerate(VERDICTS)}
    verdicts = verdict.with_columns(pl.col("verdict").replace_strict(places, default=None, return_dtype=pl.Float64))
    return {
        **{name: values[:, -axis.bars :] for name, values in bars.items()},
        **by_bar(features, axis, lanes, *FEATURES),
        **by_bar(verdicts, axis, lanes, *VERDICT),
    }


def table(readings: Sequence[Readings], firsts: Sequence[int]) -> pl.DataFrame:
    """The bars of episodes from some bar of each on, one episode below the other.

    Args:
        readings: at least one.
        firsts: for each the first bar that is asked for.

    Returns:
        grid_id, activated_at, symbol, as_of, complete, never_known, and all that the readings hold; null where unknown.
    """
    owner = np.repeat(np.arange(len(readings)), [one.bars - first for one, first in zip(readings, firsts, strict=True)])

    def stack(what: Literal["numbers", "logic"]) -> pl.DataFrame:
        parts = [getattr(one, what) for one in readings]
        return pl.DataFrame(
            {
                name: np.concatenate([part[name][first:] for part, first in zip(parts, firsts, strict=True)])
                for name in parts[0]
            }
        )

    names = pl.DataFrame(
        [(one.grid.id, one.grid.activated_at, one.grid.symbol) for one in readings],
        schema={"grid_id": pl.String, "activated_at": TIME, "symbol": pl.String},
        orient="row",
    )[owner]
    never_known = [names for one, first in zip(readings, firsts, strict=True) for names in _never_known(one, first)]
    complete = np.concatenate(
        [
            np.arange(first, one.bars) >= (one.informed_from if one.complete else one.bars)
            for one, first in zip(readings, firsts, strict=True)
        ]
    )
    as_of = pl.concat(
        [times(one.grid, np.arange(first, one.bars)) for one, first in zip(readings, firsts, strict=True)]
    )
    # All columns of a kind in one expression: a call of polars for each would cost a tick more than the triggers do.
    return pl.concat(
        [
            names.with_columns(
                as_of=as_of,
                complete=pl.Series(complete, dtype=pl.Boolean),
                never_known=pl.Series(never_known, dtype=pl.List(pl.String)),
            ),
            stack("numbers").select(pl.all().fill_nan(None)),
            stack("logic").select(pl.when(pl.all() != UNKNOWN).then(pl.all() == TRUE)),
        ],
        how="horizontal",
    )


def _never_known(one: Readings, first: int) -> Iterator[list[str]]:
    """What was not known at any bar from the activation to each, from bar `first` on."""
    begins = {"any bar since the activation": one.judged_from} | {
        INPUTS[name]: bar for name, bar in one.known_from.items()
    }
    steps = sorted({first, one.bars, *(bar for bar in begins.values() if first < bar)})
    for start, end in pairwise(steps):
        names = [name for name, bar in begins.items() if start < bar]
        for _ in range(start, end):
            yield names


def times(grid: GridConfig, bars: Integers) -> pl.Series:
    """`as_of` of bars of an episode by their number, 0 the first."""
    first, step = ((time // timedelta(microseconds=1)) for time in (grid.first_as_of - EPOCH, BAR))
    return pl.Series(first + step * bars).cast(TIME)


def read_triggers(grid: GridConfig, known: Mapping[str, Floats], limits: Thresholds) -> Readings:
    """The readings of one episode.

    Args:
        grid: the grid.
        known: what `inputs_by_bar` found of its market, and RISK of the grid itself, at the bars of the episode and LAG
            bars before it, each of shape (LAG + n,).
        limits: the thresholds.
    """
    close, half_life, regime, confidence = (known[name] for name in ("close", "half_life", "verdict", "confidence"))
    bars = close.size - LAG
    frozen = _freeze(known["range_low"], known["range_high"], known["atr"])
    broken, variants = _break_likely(_ago(known["p_break_low_24h"]), limits)
    readings: dict[str, Reading] = {
        "STOP_BREACHED": _compare(_lows(_ago(known["low"]), _ago(close), grid), "<=", np.full(bars, grid.stop)),
        "CLOSES_OUTSIDE": _closes_outside(_ago(close), grid, limits.closes_outside),
        "REGIME_TREND": _over(_ago(regime), ">=", float(TREND)),
        "RANGE_INVALIDATED": _range_invalidated(_ago(close), frozen, limits),
        "TRANSITION_PERSISTS": _transition_persists(regime),
        "REVERSION_LOST": _reversion_lost(_ago(half_life), _ago(known["half_life_baseline"]), limits),
        "VOLATILITY_EXPANDED": _over(_ago(known["atr_expansion"]), ">", limits.volatility_expansion),
        "TRANSITION_LIKELY": _over(_ago(known["transition_probability"]), ">=", limits.transition_likely),
        "CONFIDENCE_FALLING": _confidence_falling(confidence, regime, limits),
        "EFFICIENCY_RISING": _over(
            _ago(known["efficiency_ratio"]) - _ago(known["efficiency_ratio"], LAG), ">=", limits.efficiency_rise
        ),
        "REVERSION_SLOWING": _reversion_slowing(_ago(half_life), _ago(half_life, LAG), limits),
        "BREAK_LIKELY": broken,
    }
    below, above = (math.nan, math.nan) if frozen is None else frozen.fires_beyond(limits.range_atr)
    constant = {"range_fires_below": below, "range_fires_above": above}
    constant |= {"lower": grid.lower, "upper": grid.upper, "stop": grid.stop}
    numbers = {"close": _ago(close), "age_minutes": _ago(known["age_minutes"])}
    numbers["inventory"] = _ago(known["inventory"]) if "inventory" in known else np.full(bars, math.nan)
    numbers |= {name: np.full(bars, value) for name, value in constant.items()}
    logic = {f"BREAK_LIKELY.{name}": holds for name, holds in variants.items()}
    for name, (value, threshold, fired) in readings.items():
        numbers |= {f"{name}.value": value, f"{name}.threshold": threshold}
        logic |= {f"{name}.fired": fired}
    return Readings(grid, numbers, logic, complete=frozen is not None, known_from=_known_from(known))


def _known_from(known: Mapping[str, Floats]) -> dict[str, int]:
    """For each of INPUTS the first bar at which it, and those of its earlier values that are needed, are known."""
    found = {}
    for name in INPUTS:
        there = ~np.isnan(_ago(known[name]))
        for step in range(_LAGS.get(name, 0)):
            lag = LAG // _LAGS[name] * (step + 1)
            there &= ~np.isnan(_ago(known[name], lag))
        found[name] = _first(there)
    return found


def _first(holds: Flags) -> int:
    """The place of the first that holds; the length if none does."""
    return int(holds.argmax()) if holds.any() else holds.size


def _ago(values: Floats, bars: int = 0) -> Floats:
    """The values so many bars before each bar of the episode."""
    return values[LAG - bars : values.size - bars]


def _logic(condition: Flags, *inputs: Floats) -> Logic:
    """The condition where all inputs are known, else UNKNOWN."""
    unknown = np.any([np.isnan(values) for values in inputs], axis=0)
    return np.where(unknown, UNKNOWN, np.where(condition, TRUE, FALSE)).astype(np.int8)


def _compare(value: Floats, operator: Literal["<=", ">=", ">"], threshold: Floats) -> Reading:
    holds = {"<=": value <= threshold, ">=": value >= threshold, ">": value > threshold}[operator]
    return value, threshold, _logic(holds, value, threshold)


def _over(value: Floats, operator: Literal[">=", ">"], limit: float) -> Reading:
    return _compare(value, operator, np.full(value.size, limit))


def _lows(low: Floats, close: Floats, grid: GridConfig) -> Floats:
    if grid.first_as_of != grid.activated_at:
        return low
    return np.concatenate([close[:1], low[1:]])


def _closes_outside(close: Floats, grid: GridConfig, needed: int) -> Reading:
    """Closes before the activation do not count, and a MISSING bar ends a run: what it closed at is not known."""
    side = np.where(close < grid.lower, -1, np.where(close > grid.upper, 1, 0))
    runs, fired = _runs(side, np.isnan(close), needed)
    threshold = np.where(runs < 0, -float(needed), float(needed))
    return runs, threshold, fired


@kernel
def _runs(side: Integers, missing: Flags, needed: int) -> tuple[Floats, Logic]:
    """Signed closes in a row beyond a bound, and whether they are enough: UNKNOWN where a hole may hide the rest."""
    runs = np.empty(side.size)
    fired = np.empty(side.size, np.int8)
    run, after_hole = 0, False
    for bar in range(side.size):
        if missing[bar]:
            run, after_hole = 0, True
            runs[bar], fired[bar] = np.nan, UNKNOWN
            continue
        if side[bar] == 0 or run * side[bar] < 0:
            after_hole = False
        run = side[bar] if run * side[bar] <= 0 else run + side[bar]
        runs[bar] = run
        fired[bar] = TRUE if abs(run) >= needed else UNKNOWN if after_hole else FALSE
    return runs, fired


@dataclass(frozen=True)
class _Frozen:
    """The range at activation and the ATR of that bar, quote currency."""

    low: float
    high: float
    atr: float

    def fires_beyond(self, atrs: float) -> tuple[float, float]:
        """The prices below and above which a close is so many ATRs outside."""
        return self.low - atrs * self.atr, self.high + atrs * self.atr


def _freeze(range_low: Floats, range_high: Floats, atr: Floats) -> _Frozen | None:
    """What is known at the first evaluation; None when any of it is not, or when there is no evaluation."""
    if atr.size == LAG:
        return None
    low, high, unit = float(range_low[LAG]), float(range_high[LAG]), float(atr[LAG])
    known = not (math.isnan(low) or math.isnan(high)) and unit > 0
    return _Frozen(low, high, unit) if known else None


def _range_invalidated(close: Floats, frozen: _Frozen | None, limits: Thresholds) -> Reading:
    """It sticks: leaving the range is not undone."""
    threshold = np.full(close.size, limits.range_atr)
    if frozen is None:
        return np.full(close.size, np.nan), threshold, np.full(close.size, UNKNOWN, np.int8)
    value = np.maximum(close - frozen.high, frozen.low - close) / frozen.atr
    fired = _logic(value > threshold, value)
    stuck = np.logical_or.accumulate(fired == TRUE)
    return value, threshold, np.where(stuck, TRUE, fired).astype(np.int8)


def _transition_persists(regime: Floats) -> Reading:
    now, *hours = (_ago(regime, lag * HOUR_BARS) for lag in range(5))
    lasting = np.minimum.reduce([now, *hours[:3]])
    value = np.maximum(lasting, np.minimum(now, hours[3]))
    return _over(value, ">=", float(TRANSITION))


def _reversion_lost(half_life: Floats, baseline: Floats, limits: Thresholds) -> Reading:
    floored = np.maximum(np.where(np.isinf(baseline), np.nan, baseline), limits.reversion_lost_floor_hours)
    return _compare(half_life, ">=", limits.reversion_lost_factor * floored)


def _reversion_slowing(half_life: Floats, before: Floats, limits: Thresholds) -> Reading:
    slower = limits.reversion_slowing_factor * np.where(np.isinf(before), np.nan, before)
    return _compare(half_life, ">=", np.maximum(slower, limits.reversion_slowing_floor_hours))


def _confidence_falling(confidence: Floats, regime: Floats, limits: Thresholds) -> Reading:
    regime_before = _ago(regime, LAG)
    value, threshold, fell = _over(_ago(confidence, LAG) - _ago(confidence), ">=", limits.confidence_fall)
    from_range = _logic(regime_before < TRANSITION, regime_before)
    both = np.where((fell == UNKNOWN) | (from_range == UNKNOWN), UNKNOWN, np.minimum(fell, from_range))
    return value, threshold, both.astype(np.int8)


def _break_likely(p: Floats, limits: Thresholds) -> tuple[Reading, dict[str, Logic]]:
    """The reading, and whether p is beyond each of its four thresholds."""
    names = ("warning_on", "warning_off", "latest_acceptable_exit_on", "latest_acceptable_exit_off")
    variants = {name: _logic(p >= getattr(limits.break_likely, name), p) for name in names}
    upper = variants["latest_acceptable_exit_on"] == TRUE
    threshold = np.where(upper, limits.break_likely.latest_acceptable_exit_on, limits.break_likely.warning_on)
    fired = np.maximum(variants["warning_on"], variants["latest_acceptable_exit_on"])
    return (p, threshold, fired), variants


def _age_minutes(close: Floats) -> Floats:
    """Of the newest known bar at each bar of each market, shape (markets, bars); infinite where there is none yet."""
    bar = np.arange(close.shape[1])
    newest = np.maximum.accumulate(np.where(np.isnan(close), -1, bar), axis=1)
    return np.where(newest >= 0, (bar - newest) * float(_BAR_MINUTES), np.inf)
