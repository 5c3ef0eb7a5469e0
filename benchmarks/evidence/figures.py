"""Everything that is measured for the evidence, set by set, on two processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.sets import FRESH, PARTS, SETS, Set, judged_set, pooled_sets
from benchmarks.shared import CONFIG
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import chains, quality
from mm_dagster.evaluation.chains import Chained
from mm_dagster.evaluation.quality import Judged
from mm_dagster.evaluation.signals import CONTROL, LEVELS, Name

ACTIVE = CONFIG.exit.policy
PROBABILITY: Name = (ACTIVE, quality.PROBABILITY)
WARNING, LATEST, MANDATORY = ((ACTIVE, level) for level in LEVELS)
HOLD: Name = (CONTROL, "hold_to_stop")
MAIN: tuple[Name, ...] = (WARNING, LATEST, MANDATORY, HOLD)
ALL = "all six sets together"
GATE = CONFIG.risk.entry.max_break_low_24h

Figure = tuple[float | None, float | None, float | None, int]
"""A value, the ends of its 95 % interval, and what it is a figure of."""
Cells = Mapping[tuple[str, str, str], Figure]
"""By policy, signal and metric."""
T = TypeVar("T")


@dataclass(frozen=True)
class Evidence:
    """What was found.

    Attributes:
        sets: every signal beside every control, by set.
        parts: the main signals, of the part that was fitted on and of the rest of it.
        together: the main signals on all sets together, without the null, which needs one stretch of days.
        fresh: the main signals on data on which nothing was chosen.
        before: the main signals by set, fresh ones too, before the continuity correction.
        study: the main signals on fresh sets under the forecast and the ladder of the first study.
        markets: the main signals by set and market.
        grids: how many, by set.
        chains: by set, and of ALL.
    """

    sets: Mapping[str, Cells]
    parts: Mapping[str, Cells]
    together: Cells
    fresh: Mapping[str, Cells]
    before: Mapping[str, Cells]
    study: Mapping[str, Cells]
    markets: Mapping[str, Mapping[str, Cells]]
    grids: Mapping[str, int]
    chains: Mapping[str, Sequence[Chained]]


def before() -> Config:
    """The defaults before the continuity correction, with the thresholds of that time."""
    other = CONFIG.model_dump(mode="json")
    other["risk"]["touch"] |= {"continuity": 0.0, "k_break": {"h6": 0.66, "h12": 0.70, "h24": 0.74}}
    other["exit"]["confirm"] = {"mandatory": 0.70, "latest_acceptable_exit": 0.55, "warning": 0.36}
    other["exit"]["thresholds"]["break_likely"] = {
        "warning_on": 0.38,
        "warning_off": 0.15,
        "latest_acceptable_exit_on": 0.75,
        "latest_acceptable_exit_off": 0.25,
    }
    return Config.model_validate(other)


def study() -> Config:
    """The defaults of the first study: a variance that knows no weekend, and two looks at lower thresholds."""
    other = before().model_dump(mode="json")
    other["risk"]["vol"] |= {"half_life_fast_hours": 24, "power": 2.0, "weekend": 1.0}
    other["risk"]["touch"]["k_break"]["h24"] = 0.72
    other["exit"]["confirm"] = {"mandatory": 0.60, "latest_acceptable_exit": 0.55, "warning": 0.30}
    other["exit"]["thresholds"]["break_likely"] = {
        "warning_on": 0.35,
        "warning_off": 0.25,
        "latest_acceptable_exit_on": 0.60,
        "latest_acceptable_exit_off": 0.45,
    }
    other["exit"]["persist"] = {"on": 2, "off_warning": 4, "off_latest_acceptable_exit": 16}
    return Config.model_validate(other)


def cells_of(judged: Sequence[Judged], signals: Sequence[Name] | None = MAIN, **options: object) -> Cells:
    """The figures of some markets together."""
    frame = quality.measure(judged, ACTIVE, signals=signals, **options)  # type: ignore[arg-type]
    return {(row[0], row[1], row[2]): row[3:] for row in frame.iter_rows()}


def measure(pool: ProcessPoolExecutor) -> Evidence:
    """All of it."""
    # The figures of a set are found in a process of their own while the next set is judged.
    judged: dict[str, list[Judged]] = {}
    placebo: dict[str, list[Judged]] = {}
    sets: dict[str, Future[Cells]] = {}
    markets: dict[str, Future[Mapping[str, Cells]]] = {}
    for one in SETS:
        judged[one.name] = judged_set(one, pool)
        placebo[one.name] = judged_set(one, pool, flipped=True)
        sets[one.name] = pool.submit(cells_of, judged[one.name], None, placebo=placebo[one.name])
        markets[one.name] = pool.submit(_by_market, judged[one.name])
    together = pool.submit(
        cells_of, pooled_sets(list(judged.values())), placebo=pooled_sets(list(placebo.values())), daily=False
    )
    parts = _others(PARTS, CONFIG, pool)
    fresh, of_study, old = (
        _others(FRESH, CONFIG, pool),
        _others(FRESH, study(), pool),
        _others((*SETS, *FRESH), before(), pool),
    )
    openings = {name: [one.openings for one in found] for name, found in judged.items()}
    followed = {name: chains.measure(found, GATE) for name, found in openings.items()}
    followed[ALL] = chains.measure([one for found in openings.values() for one in found], GATE)
    return Evidence(
        sets=_results(sets),
        parts=_results(parts),
        together=together.result(),
        fresh=_results(fresh),
        before=_results(old),
        study=_results(of_study),
        markets=_results(markets),
        grids={name: sum(one.day.size for one in found) for name, found in judged.items()},
        chains=followed,
    )


def _others(sets: Sequence[Set], config: Config, pool: ProcessPoolExecutor) -> dict[str, Future[Cells]]:
    return {one.name: pool.submit(cells_of, judged_set(one, pool, config)) for one in sets}


def _results(futures: Mapping[str, Future[T]]) -> dict[str, T]:
    return {name: future.result() for name, future in futures.items()}


def _by_market(judged: Sequence[Judged]) -> dict[str, Cells]:
    return {one.symbol: cells_of([one]) for one in judged}
