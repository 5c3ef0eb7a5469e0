"""What each trigger and each feature adds, out of sample: `python -m benchmarks.ablation [--out FILE]`.

Two questions. Through the promotion gate: does a trigger, or a column of the features, know more of a break within a
day than the break probability does? And on the ladder: what does it lose when a trigger never fires? It needs the
recordings (see `benchmarks.shared`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from benchmarks.shared import (
    CONFIG,
    MAIN,
    RECORDINGS,
    Candidates,
    Lot,
    forecast,
    lot,
    markdown,
    put,
    questions,
    report,
    shown,
    titled,
    with_pool,
)
from mm_dagster.arrays import Flags, Floats
from mm_dagster.bars import BAR
from mm_dagster.evaluation import alarms, resample
from mm_dagster.evaluation.alarms import Alarms
from mm_dagster.evaluation.signals import LEVELS, POLICIES, break_probability
from mm_dagster.exit import ladder, triggers
from mm_dagster.exit.triggers import FALSE, LAG, TRIGGERS, TRUE, Readings
from mm_dagster.research.questions import Questions

JUDGED = LEVELS[:2]
"""WARNING and LATEST_ACCEPTABLE_EXIT: MANDATORY_EXIT says that a break came, or that a trend is on."""
EVERY_DAYS = 3
"""On the ladder grids of every so many days are looked at: those of the days between live through the same."""
OF_GRIDS = ("close", "low", "last", "whole", "broken_low", "stopped", "broken_high", "left")
"""Arrays of a cohort with a row for each grid."""
PLAIN = (
    "bollinger_percent_b", "bollinger_width_percentile", "inside_range", "atr_expansion", "ou_phi", "ou_z",
    "half_life", "efficiency_ratio", "adx", "variance_ratio_4_z", "variance_ratio_16_z", "jump_share", "volume_ratio",
    "change_24h", "efficiency_ratio_4h", "adx_4h", "variance_ratio_4_z_4h", "closes_outside_15m", "atr_expansion_15m",
)  # fmt: skip
"""Features that are taken as they are."""
OVER_FORECAST = (
    "bollinger_width", "ou_sigma", "parkinson", "garman_klass", "rogers_satchell", "volatility_4_15m",
    "volatility_96_15m",
)  # fmt: skip
"""Measures of how far the price moves: what they add to the forecast is their ratio to it."""
FROM_CLOSE = (
    "range_low", "range_high", "swing_low", "swing_high", "ema_12", "ema_26", "ema_50", "ou_mu", "swing_low_4h",
    "swing_high_4h", "ema_12_4h", "ema_26_4h", "ema_50_4h",
)  # fmt: skip
"""Prices: what they say is how far the close is from them, in what it is expected to move in an hour."""
VERDICT = (
    "confidence", "transition_probability", "p_range_ok", "p_range_weak", "p_transition", "p_trend", "trend_score",
    "mean_reversion_score", "range_score", "trend_score_4h",
)  # fmt: skip


def readings(one: Lot) -> Iterator[list[Readings]]:
    """What the triggers read on the grids of each market, to the end of each life."""
    for market, cohort in zip(one.markets, one.cohorts, strict=True):
        probability = break_probability(cohort, market, CONFIG)
        found = []
        for row, grid in enumerate(cohort.grids):
            count = int(cohort.last[row]) + 1
            first = (grid.first_as_of - one.span.start) // BAR - 1
            known = {name: values[first - LAG : first + count] for name, values in market.known.items()}
            known["p_break_low_24h"] = np.concatenate([np.full(LAG, np.nan), probability[row, :count]])
            found.append(triggers.read_triggers(grid, known, CONFIG.exit.thresholds))
        yield found


def candidates(one: Lot, asked: Questions, sigma: Floats, read: Sequence[Sequence[Readings]]) -> Candidates:
    """The triggers and the columns, at each question."""
    flat = [reading for market in read for reading in market]
    starts = np.concatenate([[0], np.cumsum([reading.bars for reading in flat])])
    place = starts[asked.grid] + asked.column
    fired = {
        trigger.name: (np.concatenate([reading.logic[f"{trigger.name}.fired"] for reading in flat])[place] == TRUE)
        * 1.0
        for trigger in TRIGGERS
    }
    close = one.lanes(one.candles, "close", time="close_time")["close"]

    def at(frame: pl.DataFrame, name: str) -> Floats:
        return np.nan_to_num(asked.read(one.lanes(frame, name)[name]), nan=np.nan, posinf=1e3)

    price, expected = asked.read(close), asked.read(sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = {name: at(one.features, name) for name in PLAIN}
        measured |= {f"{name}, over forecast": np.log(at(one.features, name) / expected) for name in OVER_FORECAST}
        measured |= {f"close to {name}": np.log(price / at(one.features, name)) / expected for name in FROM_CLOSE}
        measured |= {
            "half_life over baseline": np.log(at(one.features, "half_life") / at(one.features, "half_life_baseline")),
        }
    return {"trigger": fired, "feature": measured, "verdict": {name: at(one.verdicts, name) for name in VERDICT}}


def thinned(one: Lot, read: Sequence[Sequence[Readings]]) -> tuple[Lot, list[list[Readings]]]:
    """The grids of every EVERY_DAYS-th day alone."""
    cohorts, readings_left = [], []
    for cohort, market in zip(one.cohorts, read, strict=True):
        kept = [row for row, grid in enumerate(cohort.grids) if grid.activated_at.toordinal() % EVERY_DAYS == 0]
        rows = {name: getattr(cohort, name)[kept] for name in OF_GRIDS}
        cohorts.append(replace(cohort, grids=tuple(cohort.grids[row] for row in kept), **rows))
        readings_left.append([market[row] for row in kept])
    return replace(one, cohorts=cohorts), readings_left


def without(reading: Readings, names: Sequence[str]) -> Readings:
    """The same, but some triggers never fire."""
    never = np.full(reading.bars, FALSE, np.int8)
    silent = {key: never for key in reading.logic if key.split(".")[0] in names}
    return replace(reading, logic={**reading.logic, **silent})


SOFT = tuple(trigger.name for trigger in TRIGGERS if trigger.family not in ("hard", "measured"))
SILENCED = {
    "all triggers": (),
    **{f"without {trigger.name}": (trigger.name,) for trigger in TRIGGERS},
    "without any soft trigger": SOFT,
}
"""The triggers that never fire, by the name of the row."""


FIGURES = ("precision", "recall", "false alarms a grid-week", "median lead, h", "mean equity, %")


LADDER = ("policy", "level", "ladder", *FIGURES)


def on_the_ladder(one: Lot, read: Sequence[Sequence[Readings]]) -> Iterator[tuple[str, ...]]:
    """What each policy and level says with all triggers, and how that changes without each."""
    one, read = thinned(one, read)
    day = np.array([grid.activated_at.toordinal() for cohort in one.cohorts for grid in cohort.grids], np.int64)
    symbol = np.repeat(np.arange(len(one.cohorts)), [len(cohort.grids) for cohort in one.cohorts])
    weights = resample.draws(day - day.min(), symbol)
    whole: dict[tuple[str, str], list[Floats]] = {}
    for row, names in SILENCED.items():
        for key, figures in _judged(one, read, names, weights).items():
            if not names:
                whole[key] = figures
                yield (*key, row, *(f"{draws[0]:.3f}" for draws in figures))
                continue
            changes = (draws - full for draws, full in zip(figures, whole[key], strict=True))
            yield (*key, row, *(_change(change) for change in changes))


def _change(draws: Floats) -> str:
    """A change; in brackets where its interval holds 0."""
    if not np.nan_to_num(draws).any():
        return "0"
    low, high = resample.interval(draws[1:])
    return f"{draws[0]:+.3f}" if low > 0 or high < 0 else f"({draws[0]:+.3f})"


def _judged(
    one: Lot, read: Sequence[Sequence[Readings]], names: Sequence[str], weights: Floats
) -> dict[tuple[str, str], list[Floats]]:
    keys = [(policy, level) for policy in POLICIES for level in JUDGED]
    found: dict[tuple[str, str], list[Alarms]] = {key: [] for key in keys}
    equity: dict[tuple[str, str], list[Floats]] = {key: [] for key in keys}
    for cohort, market in zip(one.cohorts, read, strict=True):
        states = {policy: np.zeros(cohort.close.shape, np.int8) for policy in POLICIES}
        for row, reading in enumerate(market):
            episode = ladder.fold(without(reading, names), CONFIG.exit)
            for policy in POLICIES:
                states[policy][row, : reading.bars] = episode.ladders[policy].state
        for policy, level in keys:
            alarm: Flags = states[policy] > LEVELS.index(level)
            found[policy, level].append(alarms.judge(alarm, cohort))
            leave = alarms.first(alarm, cohort)
            equity[policy, level].append(cohort.left[np.arange(leave.size), leave])
    figures = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for key in keys:
            all_alarms, left = alarms.pooled(found[key]), np.concatenate(equity[key])
            true, false = weights @ all_alarms.true, weights @ all_alarms.false
            warned = np.flatnonzero(all_alarms.lead > 0)
            figures[key] = [
                true / (true + false),
                weights[:, warned].sum(axis=1) / (weights @ all_alarms.broke),
                false / (weights @ all_alarms.weeks),
                alarms.quantile(all_alarms.lead[warned], 0.5, weights[:, warned]),
                (weights @ left) / weights.sum(axis=1),
            ]
    return figures


def main() -> None:
    """Prints the tables; with --out, writes them as markdown too."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, help="file for the tables as markdown")
    arguments.add_argument("--only", help=f"recordings, comma-separated, of {', '.join(RECORDINGS)}")
    given = arguments.parse_args()
    names = given.only.split(",") if given.only else list(MAIN)
    console = Console(width=170)
    started = time.perf_counter()
    tables, ladders = [], []
    for name in names:
        with console.status(RECORDINGS[name].title):
            sides = []
            for placebo in (False, True):
                one = lot(name, placebo)
                asked, read = questions(one), list(readings(one))
                sides.append((asked, candidates(one, asked, forecast(one), read)))
                if not placebo:
                    ladders.append((f"{RECORDINGS[name].title}: the ladder", list(on_the_ladder(one, read))))
            tables.append((titled(name, sides[0][0]), list(put(*sides))))
    parts = [report(console, *table) for table in with_pool(names, tables)]
    for title, rows in ladders:
        console.print(shown(title, LADDER, rows))
        parts.append(f"**{title}**\n\n{markdown(LADDER, rows)}\n")
    console.print(f"{time.perf_counter() - started:.0f} s")
    if given.out:
        given.out.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
