"""The exit ladder: folds the triggers of an episode, bar by bar, into one state that does not flicker.

Up at once, or after `persist.on` evaluations; down one level at a time, after a quiet time; MANDATORY_EXIT never down.
The whole episode is folded each time, so the newest row never depends on how the earlier ones came to be.

Where METHOD leaves room, this is what holds:

- **Not judged yet.** Before the first known bar since the activation there is no state: nothing was known that could
  be lost, so no age and no null input says anything. From there until each of `triggers.INPUTS` has been known at
  some bar since the activation only hard triggers, and blindness by age, count: history that nobody has is no signal.
  What was known once and is lost is blindness, as below.
- **Known evaluations.** An evaluation is null, and neither counts nor resets the quiet time, when more than half of
  the triggers are null, as at a MISSING bar, when the newest known bar is `blindness.hold_minutes` old, or, under the
  policy `confirmed`, when p_break_low_24h is null, since that decides there.
- **Null triggers.** A null trigger never raises the state: its run of persistence waits. Nor does it lower the state:
  for the way down it is taken as it last was known since activation.
- **Blindness** by age counts like a trigger without persistence, up and down: a state that it caused is left by the
  quiet time like any other. "More than half of the triggers null" asks for a WARNING only at a bar that is known:
  at a MISSING one all are null, and the age says how bad that is. Under `confirmed` a null p_break_low_24h at a known
  bar is as bad: no soft trigger can be confirmed, and the only measured one is silent, so the grid may be exposed
  without a word. That, too, is a WARNING, at once, and never more: missing data alone is never MANDATORY_EXIT.
- **One of two.** Each of them must persist (and be confirmed) by itself; then they are counted.
- **Literal.** BREAK_LIKELY takes no part, since the requirements do not have it. With fewer distinct families fired
  than `literal.min_families`, a soft MANDATORY trigger counts as LATEST_ACCEPTABLE_EXIT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats, Integers, kernel
from mm_dagster.bars import BAR, Span
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit.advice import advise
from mm_dagster.exit.next_triggers import nearest_triggers
from mm_dagster.exit.triggers import FALSE, TRIGGERS, TRUE, UNKNOWN, Logic, Readings, evaluate, table, times
from mm_dagster.tables import registry
from mm_dagster.tables.words import STATES

_WARNING, _LATEST, _MANDATORY = (STATES.index(state) for state in STATES[1:])


def compute(
    grids: Sequence[GridConfig],
    candles: pl.DataFrame,
    features: pl.DataFrame,
    verdict: pl.DataFrame,
    risk: pl.DataFrame,
    span: Span,
    config: ExitConfig,
    scales: TouchConfig,
) -> pl.DataFrame:
    """The exit states of episodes at the bars of a span; each episode is folded from its activation on.

    In `triggers`, `fired` is the definition at this bar alone. `level` is the highest level for which the trigger
    counts at this bar under the active policy, before persistence; where it does not count (not fired, unknown, or
    not confirmed), the level that it is listed at. `nearest` is explained in the module of that name.

    Args:
        grids: the grids of the episodes. A disabled one gets no rows.
        candles: rows of `candles`, from 75 minutes before the earliest `first_as_of` on at the latest; a bar without
            a row is MISSING. All frames may hold other markets, grids and times.
        features: rows of `regime_features` from 4 hours before the earliest `first_as_of` on.
        verdict: rows of `regime_verdict` from 4 hours before the earliest `first_as_of` on.
        risk: rows of `grid_risk` from the earliest `first_as_of` on.
        span: its bars; before the activation there are no rows.
        config: policy and thresholds.
        scales: of the break probability, for the price at which it reaches a threshold.

    Returns:
        Rows of `exit_state` without stamps, one per grid and bar, in the order of the grids and by `as_of`;
        `live_state` and `live_reason` are null.
    """
    episodes = follow(grids, candles, features, verdict, risk, span.end, config)
    firsts = [max(0, (span.start - episode.grid.first_as_of) // BAR + 1) for episode in episodes]
    asked = [(one, first) for one, first in zip(episodes, firsts, strict=True) if first < one.readings.bars]
    if not asked:
        return registry.empty("exit_state").drop("config_hash", "code_version")
    # What is said is said for all grids at once: there are many columns, and each costs a call.
    said = table([one.readings for one, _ in asked], [first for _, first in asked])

    def stack(column: Callable[[Episode], Integers]) -> Integers:
        return np.concatenate([column(one)[first:] for one, first in asked])

    state = stack(lambda one: one.ladder.state)
    counted = stack(lambda one: one.counted)
    listed = np.array([STATES.index(trigger.level) for trigger in TRIGGERS])
    frame = said.select(
        "grid_id",
        "activated_at",
        "symbol",
        "as_of",
        "complete",
        "never_known",
        since=pl.concat([_entered(one, first) for one, first in asked]),
        literal_state=_names(stack(lambda one: one.ladders["literal"].state)),
        state=_names(state),
        raw_state=_names(stack(lambda one: one.ladder.raw)),
        triggers=_structs(said, np.where(counted > 0, counted, listed)),
        nearest=nearest_triggers(said, config, scales),
        recommended_window_minutes=_windows(state, config),
        advice=pl.Series(
            [words for one, first in asked for words in _advice(one, first, config, scales)], dtype=pl.String
        ),
    )
    return registry.conform(frame, "exit_state").drop("config_hash", "code_version")


@dataclass(frozen=True)
class Ladder:
    """State, state of the bar alone, and the bar at which the state was entered; places in `words.STATES`, shape (n,).

    The entered bar is counted from the activation. All are -1 at bars that are not judged yet.
    """

    state: Integers
    raw: Integers
    since: Integers


@dataclass(frozen=True)
class Episode:
    """One grid's way over the ladder, n bars from its activation on.

    Attributes:
        readings: the triggers.
        ladders: the way under each policy, by name.
        ladder: that under the active one.
        counted: the highest level for which each trigger counts there, shape (n, triggers); 0: it does not count.
    """

    readings: Readings
    ladders: Mapping[str, Ladder]
    ladder: Ladder
    counted: Integers

    @property
    def grid(self) -> GridConfig:
        """Whose episode it is."""
        return self.readings.grid


def follow(
    grids: Sequence[GridConfig],
    candles: pl.DataFrame,
    features: pl.DataFrame,
    verdict: pl.DataFrame,
    risk: pl.DataFrame,
    end: datetime,
    config: ExitConfig,
) -> list[Episode]:
    """Folds episodes into states, as numbers alone: what `compute` puts into words, at a fraction of its cost.

    Args:
        grids: see `compute`; likewise candles, features, verdict, risk and config.
        candles: see there.
        features: see there.
        verdict: see there.
        risk: see there.
        end: last `as_of`.
        config: see there.

    Returns:
        One for each enabled grid that was activated by then, in their order.
    """
    begun = [grid for grid in grids if grid.enabled and grid.first_as_of <= end]
    return [fold(one, config) for one in evaluate(begun, candles, features, verdict, risk, end, config)]


def fold(readings: Readings, config: ExitConfig) -> Episode:
    """The states of one episode, from what its triggers read."""
    policies = {
        "confirmed": _confirmed(readings.numbers["BREAK_LIKELY.value"], readings.logic, config),
        "literal": _literal(readings.logic, config),
    }
    policies = {name: _only_hard(rules, readings.informed_from) for name, rules in policies.items()}
    ladders = {name: _climb(readings, rules, config) for name, rules in policies.items()}
    active = policies[config.policy]
    counted = _counted_levels(active.on, active.trigger, active.level, len(TRIGGERS))
    return Episode(readings, ladders, ladders[config.policy], counted)


@dataclass(frozen=True)
class _Conditions:
    """What can count under a policy: one column for each trigger and level at which it may.

    Attributes:
        trigger: index into TRIGGERS, shape (c,).
        level: index into STATES, shape (c,).
        persistence: evaluations for which it must hold before it raises the state, shape (c,).
        one_of: whether it needs company to count, shape (c,).
        on: three-valued, shape (n, c): it holds with the thresholds for going up.
        off: likewise, with those for coming down.
        decided: shape (n,): whether what decides under this policy is known.
    """

    trigger: Integers
    level: Integers
    persistence: Integers
    one_of: Flags
    on: Logic
    off: Logic
    decided: Flags


def _confirmed(p_break: Floats, truths: Mapping[str, Logic], config: ExitConfig) -> _Conditions:
    """Soft triggers count at the levels, up to their own, whose exposure holds; the rest counts by itself."""
    confirm = config.confirm
    levels = ((_WARNING, confirm.warning), (_LATEST, confirm.latest_acceptable_exit), (_MANDATORY, confirm.mandatory))
    decided = ~np.isnan(p_break)
    exposure = {
        level: np.where(decided, np.where(p_break >= least, TRUE, FALSE), UNKNOWN).astype(np.int8)
        for level, least in levels
    }
    columns: list[tuple[int, int, Logic, Logic]] = []
    for index, trigger in enumerate(TRIGGERS):
        if trigger.name == "BREAK_LIKELY":
            for level, name in ((_WARNING, "warning"), (_LATEST, "latest_acceptable_exit")):
                columns.append((index, level, truths[f"BREAK_LIKELY.{name}_on"], truths[f"BREAK_LIKELY.{name}_off"]))
            continue
        fired = truths[f"{trigger.name}.fired"]
        if trigger.family == "hard":
            columns.append((index, _MANDATORY, fired, fired))
            continue
        for level in range(_WARNING, STATES.index(trigger.level) + 1):
            both = np.minimum(fired, exposure[level])
            columns.append((index, level, both, both))
    return _conditions(columns, config, decided)


def _literal(truths: Mapping[str, Logic], config: ExitConfig) -> _Conditions:
    """Every trigger of the requirements at its listed level; a soft MANDATORY needs enough families."""
    fired = {trigger.name: truths[f"{trigger.name}.fired"] for trigger in TRIGGERS}
    soft = [trigger for trigger in TRIGGERS if trigger.family not in ("hard", "measured")]
    families = [
        np.maximum.reduce([fired[trigger.name] for trigger in soft if trigger.family == family])
        for family in dict.fromkeys(trigger.family for trigger in soft)
    ]
    # The k-th largest of three-valued statements says whether at least k of them hold.
    enough = np.sort(np.array(families), axis=0)[-config.literal.min_families]
    columns: list[tuple[int, int, Logic, Logic]] = []
    for index, trigger in enumerate(TRIGGERS):
        level, holds = STATES.index(trigger.level), fired[trigger.name]
        if trigger in soft and level == _MANDATORY:
            columns.append((index, _LATEST, holds, holds))
            holds = np.minimum(holds, enough)
        if trigger.family != "measured":
            columns.append((index, level, holds, holds))
    return _conditions(columns, config, decided=np.ones(enough.size, dtype=np.bool_))


def _conditions(columns: list[tuple[int, int, Logic, Logic]], config: ExitConfig, decided: Flags) -> _Conditions:
    triggers = [TRIGGERS[index] for index, *_ in columns]
    return _Conditions(
        trigger=np.array([index for index, *_ in columns]),
        level=np.array([level for _, level, *_ in columns]),
        persistence=np.array([1 if trigger.family == "hard" else config.persist.on for trigger in triggers]),
        one_of=np.array([trigger.one_of for trigger in triggers]),
        on=np.column_stack([on for *_, on, _ in columns]),
        off=np.column_stack([off for *_, off in columns]),
        decided=decided,
    )


def _only_hard(conditions: _Conditions, bars: int) -> _Conditions:
    """The conditions with none but the hard ones counting at the first so many bars."""
    soft = np.array([TRIGGERS[index].family != "hard" for index in conditions.trigger])
    early = (np.arange(conditions.decided.size) < bars)[:, None] & soft
    return replace(
        conditions,
        on=np.where(early, FALSE, conditions.on).astype(np.int8),
        off=np.where(early, FALSE, conditions.off).astype(np.int8),
    )


def _climb(readings: Readings, conditions: _Conditions, config: ExitConfig) -> Ladder:
    begin, blind = readings.judged_from, config.blindness
    age = readings.numbers["age_minutes"]
    mostly_null = readings.unknown_triggers * 2 > len(TRIGGERS)
    undecided = (mostly_null | ~conditions.decided) & (np.arange(age.size) >= readings.informed_from)
    floor = np.where((age == 0) & undecided, _WARNING, 0)
    floor = np.where(age >= blind.warning_minutes, _WARNING, floor)
    floor = np.where(age >= blind.latest_acceptable_exit_minutes, _LATEST, floor)
    known = (age < blind.hold_minutes) & ~undecided
    quiet = np.array([0, config.persist.off_warning, config.persist.off_latest_acceptable_exit, 0])
    together = config.thresholds.soft_for_warning
    states, raws, sinces = _fold(
        conditions.on[begin:],
        conditions.off[begin:],
        conditions.level,
        conditions.persistence,
        conditions.one_of,
        together,
        floor[begin:],
        known[begin:],
        quiet,
    )
    before = np.full(begin, -1, np.int64)
    return Ladder(*(np.concatenate([before, found]) for found in (states, raws, sinces + begin)))


@kernel
def _highest(holds: Flags, level: Integers, one_of: Flags, together: int, floor: int) -> int:
    """The highest level that holds; those that need company count only `together`."""
    highest = floor
    company = 0
    for index in range(holds.size):
        company += holds[index] and one_of[index]
    for index in range(holds.size):
        if holds[index] and (not one_of[index] or company >= together):
            highest = max(highest, level[index])
    return highest


@kernel
def _fold(
    on: Logic,
    off: Logic,
    level: Integers,
    persistence: Integers,
    one_of: Flags,
    together: int,
    floor: Integers,
    known: Flags,
    quiet: Integers,
) -> tuple[Integers, Integers, Integers]:
    """Folds conditions into states.

    Args:
        on: three-valued, shape (n, c), see _Conditions; likewise off, level, persistence, one_of.
        off: see there.
        level: see there.
        persistence: see there.
        one_of: see there.
        together: how many of the one_of make them count.
        floor: least level by blindness, shape (n,).
        known: evaluations that count towards coming down, shape (n,).
        quiet: known evaluations below a state in a row until it is left, by state.

    Returns:
        state, raw, since, each of shape (n,); see Ladder.
    """
    rows, columns = on.shape
    states = np.zeros(rows, np.int64)
    raws = np.zeros(rows, np.int64)
    sinces = np.zeros(rows, np.int64)
    run = np.zeros(columns, np.int64)
    last_off = np.full(columns, FALSE, np.int8)
    holds = np.zeros(columns, np.bool_)
    state, since, calm = 0, 0, 0
    for row in range(rows):
        for column in range(columns):
            holds[column] = on[row, column] == TRUE
        raws[row] = _highest(holds, level, one_of, together, floor[row])
        for column in range(columns):
            if on[row, column] == TRUE:
                run[column] += 1
            elif on[row, column] == FALSE:
                run[column] = 0
            holds[column] = on[row, column] == TRUE and run[column] >= persistence[column]
        level_on = _highest(holds, level, one_of, together, floor[row])
        for column in range(columns):
            if off[row, column] != UNKNOWN:
                last_off[column] = off[row, column]
            holds[column] = last_off[column] == TRUE
        level_off = max(level_on, _highest(holds, level, one_of, together, floor[row]))

        if level_on > state:
            state, since, calm = level_on, row, 0
        elif floor[row] >= state or (known[row] and level_off >= state):
            calm = 0
        elif known[row] and state < 3:
            calm += 1
            if calm >= quiet[state]:
                state, since, calm = state - 1, row, 0
        states[row] = state
        sinces[row] = since
    return states, raws, sinces


@kernel
def _counted_levels(on: Logic, trigger: Integers, level: Integers, triggers: int) -> Integers:
    """The highest level for which each trigger counts at each bar, shape (n, triggers); 0: it does not count."""
    counted = np.zeros((on.shape[0], triggers), np.int64)
    for row in range(on.shape[0]):
        for column in range(on.shape[1]):
            if on[row, column] == TRUE:
                counted[row, trigger[column]] = max(counted[row, trigger[column]], level[column])
    return counted


def _names(levels: Integers) -> pl.Series:
    """The states by their places; null for -1."""
    return pl.Series([None, *STATES], dtype=pl.String).gather(levels + 1)


def _entered(one: Episode, first: int) -> pl.Series:
    """When the state of each bar from `first` on was entered; null where there is none."""
    since = one.ladder.since[first:]
    return times(one.grid, since).set(pl.Series(since < 0), None)


def _advice(episode: Episode, first: int, config: ExitConfig, scales: TouchConfig) -> list[str]:
    ladder = episode.ladder
    return advise(episode.readings, ladder.state, ladder.since, episode.counted, first, config, scales)


def _windows(state: Integers, config: ExitConfig) -> pl.Series:
    window = config.window_minutes
    minutes = pl.Series([None, None, window.warning, window.latest_acceptable_exit, window.mandatory], dtype=pl.Int64)
    return minutes.gather(state + 1)


def _structs(table: pl.DataFrame, level: Integers) -> pl.Series:
    """The list of `TRIGGER` of each bar."""

    def by_bar(what: str) -> pl.Series:
        columns = [table[f"{trigger.name}.{what}"] for trigger in TRIGGERS]
        return pl.concat(columns, rechunk=True).gather(order)

    bars, count = table.height, len(TRIGGERS)
    # Row by row what the columns hold one below the other: building the structs once is 10 times faster than by list.
    order = np.arange(bars * count).reshape(count, bars).T.ravel()
    listed = pl.DataFrame(
        {
            "name": pl.Series([trigger.name for trigger in TRIGGERS] * bars),
            "family": pl.Series([trigger.family for trigger in TRIGGERS] * bars),
            "level": _names(level.ravel()),
            "value": by_bar("value"),
            "threshold": by_bar("threshold"),
            "fired": by_bar("fired"),
        }
    )
    return listed.to_struct().reshape((bars, count)).arr.to_list()
