"""What every signal and every control says at every bar of a grid: the states, each trigger alone, the naive rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Flags, Floats, log_ratio
from mm_dagster.bars import bar_number
from mm_dagster.config.whole import Config
from mm_dagster.evaluation.alarms import raised
from mm_dagster.evaluation.cohort import Cohort
from mm_dagster.evaluation.market import Market
from mm_dagster.exit import ladder, triggers
from mm_dagster.exit.triggers import LAG, TRIGGERS, TRUE
from mm_dagster.grid import touch
from mm_dagster.tables.words import STATES

LEVELS = STATES[1:]
POLICIES = ("confirmed", "literal")
TRIGGER, CONTROL = "trigger", "control"
"""Stand in the place of a policy for what decides by itself."""

NEAR_BOUND = 0.10
"""The control `near_bound` leaves when the close is so near to the lower bound, as a share of the grid's width."""
TIGHT_STOP = 0.20
"""The control `tight_stop` leaves when the price has fallen to so much of the grid's width above its lower bound."""
ADX = 25.0
EXPANSION = 1.25

Name = tuple[str, str]
"""Policy and signal."""

POSITION = 0.20
"""The control `low_position` leaves when a bar closes at or below this share of the grid's width."""
LOW_POSITION: Name = (CONTROL, "low_position")


@dataclass(frozen=True)
class Signals:
    """What was said of the grids of a cohort.

    Attributes:
        probability: of a break below within 24 hours, shape (m, n).
        alarms: whether each signal's alarm stands, shape (m, n), by policy and name.
    """

    probability: Floats
    alarms: Mapping[Name, Flags]


def break_probability(cohort: Cohort, market: Market, config: Config) -> Floats:
    """p_break_low_24h as `grid_risk` has it, shape (m, n)."""
    place = places(cohort, market)
    first = bar_number(market.span.start) + 1 + place.ravel()
    volatility = market.known["volatility_forecast"][place.ravel()]
    lower = np.broadcast_to(np.array([[grid.lower] for grid in cohort.grids]), place.shape)
    away = log_ratio(cohort.close.ravel(), lower.ravel())
    scales = config.risk.touch
    p = touch.probability_ahead(
        away, volatility, first, 24, scales.k_break.h24, config.risk.vol.weekend, scales.continuity
    )
    return p.reshape(place.shape)


def places(cohort: Cohort, market: Market) -> np.ndarray:
    """Place on the market's axis of every bar of a cohort, shape (m, n); beyond its end, the last one."""
    start = np.array([market.place(grid.first_as_of) for grid in cohort.grids], np.int64)
    return np.minimum(start[:, None] + np.arange(cohort.close.shape[1]), market.span.bars - 1)


def signals_of(cohort: Cohort, market: Market, config: Config) -> Signals:
    """Everything that is judged, on the grids of one cohort.

    The states are those of the ladder, from the same code that runs every quarter hour. A trigger alone, and a control
    that is a plain condition, becomes an alarm as `alarms.raised` says.
    """
    probability = break_probability(cohort, market, config)
    shape = probability.shape
    states = {policy: np.zeros(shape, np.int8) for policy in POLICIES}
    fired = np.zeros((len(TRIGGERS), *shape), np.bool_)
    for row, grid in enumerate(cohort.grids):
        count = int(cohort.last[row]) + 1
        first = market.place(grid.first_as_of)
        life = slice(first - LAG, first + count)
        known = {name: values[life] for name, values in market.known.items()}
        known["p_break_low_24h"] = np.concatenate([np.full(LAG, np.nan), probability[row, :count]])
        episode = ladder.fold(triggers.read_triggers(grid, known, config.exit.thresholds), config.exit)
        for policy in POLICIES:
            states[policy][row, :count] = episode.ladders[policy].state
        for number, trigger in enumerate(TRIGGERS):
            fired[number, row, :count] = episode.readings.logic[f"{trigger.name}.fired"] == TRUE
    alarms: dict[Name, Flags] = {
        (policy, level): states[policy] >= place for policy in POLICIES for place, level in enumerate(LEVELS, start=1)
    }
    alarms |= {
        (TRIGGER, trigger.name): fired[number] if trigger.family == "hard" else raised(fired[number])
        for number, trigger in enumerate(TRIGGERS)
    }
    return Signals(probability, alarms | _controls(cohort, market))


def _controls(cohort: Cohort, market: Market) -> dict[Name, Flags]:
    """Rules that anybody could follow without us."""
    place = places(cohort, market)
    column = np.arange(place.shape[1])
    lower, upper = (np.array([[getattr(grid, name)] for grid in cohort.grids]) for name in ("lower", "upper"))
    width = upper - lower
    adx, expansion = (market.known[name][place] for name in ("adx", "atr_expansion"))
    ends = np.minimum(cohort.broken_low, cohort.broken_high)[:, None]
    return {
        (CONTROL, "hold_to_stop"): np.zeros(place.shape, np.bool_),
        (CONTROL, "break_only"): column >= ends,
        (CONTROL, "near_bound"): raised(cohort.close <= lower + NEAR_BOUND * width),
        LOW_POSITION: cohort.close <= lower + POSITION * width,
        (CONTROL, "tight_stop"): cohort.low <= lower + TIGHT_STOP * width,
        (CONTROL, "adx_25"): raised(adx > ADX),
        (CONTROL, "atr_expansion"): raised(expansion > EXPANSION),
    }
