"""Better thresholds, proposed: searched on the past, judged on what came after it, deflated for the looking.

Days are cut into an expanding past and a block that follows it, with a gap between them as long as a grid lives, so
that no grid of the past reaches into the block. On each past an own search runs; what it finds is applied to the block.
The search on the last past makes the proposal, and the last block is the one that no trial has ever touched.

What is maximised is the worth of the alarms per week that a grid was watched:

    worth = sum over levels of weight x (breaks caught in time - price x false alarms) / grid-weeks

A break is caught in time at a level when the alarm that stood at the break had been raised at least the operator's
window of that level (`exit.window_minutes`) and at most 24 hours before: an alarm that always stands catches nothing.
A false alarm is one that no break follows within 24 hours. LATEST_ACCEPTABLE_EXIT asks to leave: weight 1, price as
given; 1/2 by default, so a needless exit costs half of what one in time saves, and alarms that are right less often
than every third time do not pay. WARNING asks to look: weight 1/2, half the price. The price is the operator's: another
one moves the thresholds for a reason that no data can give.

Trials differ in thresholds alone: features, grids and what became of them are computed once, and the states come from
the very code that runs every quarter hour.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import DAY_BARS, Span, iso
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import alarms, resample
from mm_dagster.evaluation.evaluate import HISTORY_BARS
from mm_dagster.research import deflation
from mm_dagster.research.search import Search
from mm_dagster.research.space import SPACE, Key, TuningError, Values, with_values
from mm_dagster.research.worth import (
    BLOCKS,
    LEVELS,
    PRICE,
    SEARCH_GRIDS,
    Fold,
    Outcome,
    PreparedMarket,
    edges,
    folds,
    judge,
)
from mm_dagster.tables.registry import CODE_VERSIONS, EVERY_BAR

SURE = 0.95

LEAST_BLOCKS = 8
"""Of weeks: fewer are too few to draw from, and a figure on them stands without an interval."""

BOTH = "both"
"""In the place of a signal: the worth is that of both levels."""

IN_SAMPLE, OUT_OF_SAMPLE, HOLD_OUT = "in sample", "out of sample", "hold-out"


@dataclass(frozen=True)
class Proposal:
    """What a study proposes, and how far it can be believed.

    Attributes:
        current: values in force, by key.
        proposed: values that the search on the longest past found.
        by_fold: what the search on each past found, in their order.
        folds: the pasts and blocks.
        figures: part, signal, metric; current, current_low, current_high; proposed, proposed_low, proposed_high;
            difference, low, high; grids. Parts are IN_SAMPLE (the longest past, on which the proposal was found),
            OUT_OF_SAMPLE (all blocks, each under what its own past proposed) and HOLD_OUT (the last block alone).
            Intervals are null where there are fewer than LEAST_BLOCKS of weeks.
        tried: sets of values that the search on the longest past looked at.
        ratio: edge to noise of the proposal in sample, by block of weeks.
        luck: the ratio to expect of the best of so many that are worth nothing.
        deflated: probability that the true one is above that.
        real: probability that the edge out of sample is above 0.
    """

    current: dict[str, float]
    proposed: dict[str, float]
    by_fold: tuple[dict[str, float], ...]
    folds: tuple[Fold, ...]
    figures: pl.DataFrame
    tried: int
    ratio: float
    luck: float
    deflated: float
    real: float

    @property
    def changed(self) -> dict[str, float]:
        """Proposed values that differ from the current ones."""
        return {path: value for path, value in self.proposed.items() if value != self.current[path]}

    @property
    def verdict(self) -> str:
        """One sentence: proven, or why not."""
        if not self.changed:
            return "nothing to propose: no trial was worth more than the current values"
        edge = {part: self.edge(part) for part in (OUT_OF_SAMPLE, HOLD_OUT)}
        difference, low, high = edge[OUT_OF_SAMPLE]
        if low is None or high is None:
            return "not proven: there are too few weeks out of sample for an interval"
        if low <= 0.0 <= high:
            return "not proven: the interval of the difference out of sample holds 0"
        if difference is not None and difference < 0:
            return "worse: out of sample the search loses against the current values"
        if self.deflated < SURE:
            return f"not proven: in sample the best of {self.tried} trials would look as good by luck alone"
        if (edge[HOLD_OUT][0] or 0.0) <= 0:
            return "not proven: nothing is gained on the hold-out"
        return "better out of sample; a person decides"

    @property
    def proven(self) -> bool:
        """Whether the verdict is that it is better."""
        return self.verdict.startswith("better")

    def edge(self, part: str) -> tuple[float | None, float | None, float | None]:
        """Difference in worth, with its interval."""
        return self.figures.filter(part=part, metric="worth").select("difference", "low", "high").row(0)


def about(
    grounds: Sequence[PreparedMarket], days: Span, config: Config, keys: Sequence[Key], price: float
) -> dict[str, str]:
    """What a study stands on: trials under another of these must not be mixed with it."""

    def digest(*parts: bytes) -> str:
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]

    parts = [config.regime, config.risk, config.exit, config.evaluation]
    versions = {table: CODE_VERSIONS[table] for table in EVERY_BAR}
    prices = [values.tobytes() for ground in grounds for values in ground.market.prices.values()]
    return {
        "symbols": ",".join(ground.market.symbol for ground in grounds),
        "days": f"{iso(days.start)[:10]} to {iso(days.end - timedelta(days=1))[:10]}",
        "keys": ",".join(key.path for key in keys),
        "price": f"{price:g}",
        "candles": digest(*prices),
        "configuration": digest(*(part.model_dump_json().encode() for part in parts)),
        "code": digest(repr((SPACE, BLOCKS, SEARCH_GRIDS, LEVELS, versions)).encode()),
    }


NOTE = "study.json"


def stands_on(folder: Path) -> dict[str, str]:
    """What the study in a folder was found to stand on when it began; nothing where there is none."""
    note = folder / NOTE
    return json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}


def claim(folder: Path, now: Mapping[str, str]) -> None:
    """Writes down what a study stands on when it is new, and refuses one that stands on something else.

    Raises:
        TuningError: the study was made under other circumstances.
    """
    before = stands_on(folder)
    if not before:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{NOTE}"
        fresh.write_text(json.dumps(dict(now), indent=1) + "\n", encoding="utf-8")
        fresh.replace(folder / NOTE)
        return
    for name, value in now.items():
        if before.get(name) != value:
            raise TuningError(
                f"--study {folder.name}: was made with other {name} ({before.get(name)!s:.60}, now {value:.60}); "
                "choose another name"
            )


Progress = Callable[[int, int, float], None]
"""Told the number of the fold, how many trials it has now, and the best edge so far."""


def tune(
    name: str,
    folder: Path,
    grounds: Sequence[PreparedMarket],
    days: Span,
    config: Config,
    keys: Sequence[Key],
    trials: int,
    price: float = PRICE,
    progress: Progress = lambda fold, done, best: None,
) -> Proposal:
    """Searches on every past, and judges what was found on the block that follows it.

    Args:
        name: of the study; with the number of trials and the data it decides everything.
        folder: where its trials are kept; those that are there count.
        grounds: see `prepare`.
        days: likewise.
        config: the current configuration.
        keys: what is searched.
        trials: for each past.
        price: of a false alarm, in breaks caught in time.
        progress: see there.

    Raises:
        TuningError: there are too few days or no grids, or the study was made under other circumstances.
    """
    cut = folds(days, config.evaluation.life_days)
    if not any(len(ground.day[ground.opened(cut[0].past)]) for ground in grounds):
        raise TuningError(
            f"no grid could be opened from {iso(cut[0].past.start)[:10]} to {iso(cut[0].past.end)[:10]}: features need "
            f"{HISTORY_BARS // DAY_BARS} days of candles before; choose a later --from, or backfill earlier days"
        )
    claim(folder, about(grounds, days, config, keys, price))
    search = Search(grounds, config, keys, price, name, folder / "trials.journal")
    found = [
        search.run(fold, number, trials, lambda done, best, number=number: progress(number, done, best))  # type: ignore[misc]
        for number, fold in enumerate(cut)
    ]

    def both(span: Span, values: Values) -> tuple[Outcome, Outcome]:
        now = judge(grounds, span, config, config, price)
        if values == search.current:
            return now, now
        return now, judge(grounds, span, with_values(config, values), config, price)

    blocks = [both(fold.block, one.values) for fold, one in zip(cut, found, strict=True)]
    pooled = _together([now for now, _ in blocks]), _together([new for _, new in blocks])
    parts = {
        IN_SAMPLE: both(cut[-1].past, found[-1].values),
        OUT_OF_SAMPLE: pooled,
        HOLD_OUT: blocks[-1],
    }
    rows = [row for part, (now, new) in parts.items() for row in _compared(part, now, new)]
    last = found[-1]
    luck = deflation.best_by_luck(last.ratios, last.ratios.size)
    return Proposal(
        current=search.current,
        proposed=last.values,
        by_fold=tuple(one.values for one in found),
        folds=tuple(cut),
        figures=pl.DataFrame(rows, schema=FIGURES, orient="row"),
        tried=last.ratios.size,
        ratio=deflation.ratio(last.edges),
        luck=luck,
        deflated=deflation.probability(last.edges, luck),
        real=deflation.probability(edges(pooled[1], pooled[0])),
    )


FIGURES = {
    "part": pl.String(),
    "signal": pl.String(),
    "metric": pl.String(),
    **{
        name: pl.Float64()
        for name in (
            "current", "current_low", "current_high", "proposed", "proposed_low", "proposed_high", "difference", "low",
            "high",
        )
    },
    "grids": pl.Int64(),
}  # fmt: skip


def _together(parts: Sequence[Outcome]) -> Outcome:
    return Outcome(
        np.concatenate([part.day for part in parts]),
        np.concatenate([part.symbol for part in parts]),
        {level: alarms.pooled([part.alarms[level] for part in parts]) for level in LEVELS},
        np.concatenate([part.worth for part in parts]),
        {level: np.concatenate([part.in_time[level] for part in parts]) for level in LEVELS},
    )


def _compared(part: str, now: Outcome, new: Outcome) -> Iterator[tuple[Any, ...]]:
    """The figures of both, and their difference on the same draws."""
    if not now.day.size:
        return
    weights = resample.draws(now.day - now.day.min(), now.symbol)
    if not resample.enough(now.day, LEAST_BLOCKS):
        weights = weights[:1]
    before, after = (_figures(one, weights) for one in (now, new))
    for name, values in before.items():
        row: list[float | None] = []
        for drawn in (values, after[name], after[name] - values):
            known = [float(drawn[0]), *resample.interval(drawn[1:])]
            row += [value if np.isfinite(value) else None for value in known]
        yield (part, *name, *row, now.day.size)


def _figures(one: Outcome, weights: Floats) -> dict[tuple[str, str], Floats]:
    """By signal and metric, shape (1 + draws,)."""
    found = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        weeks = weights @ one.weeks
        found[BOTH, "worth"] = weights @ one.worth / weeks
        for level, raised in one.alarms.items():
            true, false, broke = weights @ raised.true, weights @ raised.false, weights @ raised.broke
            warned = np.flatnonzero(raised.lead > 0)
            found[level, "precision"] = true / (true + false)
            found[level, "recall"] = weights @ (raised.lead > 0) / broke
            found[level, "caught_in_time"] = weights @ one.in_time[level] / broke
            found[level, "false_alarms_per_grid_week"] = false / weeks
            found[level, "lead_p50_hours"] = alarms.quantile(raised.lead[warned], 0.5, weights[:, warned])
    return found
