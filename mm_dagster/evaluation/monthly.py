"""What the signals were worth up to the end of a month: on the grids of the rule and of the operator, and as alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from mm_dagster.bars import BAR, Span, iso, midnight
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import leaving, probability, resample, responses
from mm_dagster.evaluation.cohort import Cohort, cohort_of
from mm_dagster.evaluation.episodes import NEEDED, open_daily
from mm_dagster.evaluation.evaluate import judge_and_leave, measured_markets, placebo_grids
from mm_dagster.evaluation.leaving import MOMENTS, Leavings, Left
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.probability import CALIBRATION_BINS
from mm_dagster.evaluation.quality import PROBABILITY, Judged, judge, measure
from mm_dagster.evaluation.signals import signals_of
from mm_dagster.exit.triggers import LAG
from mm_dagster.grid.episode import grid_of
from mm_dagster.tables.registry import CODE_VERSIONS, conform
from mm_dagster.tables.words import STATES

RULE, REAL = "rule", "real"
"""Whose grids."""
LEAST_AUC, MOST_ECE = 0.5, 0.1
"""A probability that may rank no better than chance, or is off by so much on average, is not to be relied on."""
_CELLS = 2_000_000
"""Grids times bars that are looked at together: some hundred MB with everything that is said of them."""


@dataclass(frozen=True)
class Operated:
    """The operator's own.

    Attributes:
        episodes: rows of `grid_episode`.
        alerts: rows of the view `alert_responses`.
    """

    episodes: pl.DataFrame
    alerts: pl.DataFrame


@dataclass(frozen=True)
class Assessment:
    """What was found.

    Attributes:
        rows: of `signal_quality`, all of one as_of.
        bins: how the break probability of the rule's grids came true; see `reliability`.
        leaving: what leaving the rule's grids cost, and whether it was what was said.
        grids: how many were judged, by whose.
        censored: of the operator's, those that they ended or that still ran: cut there, and not left out.
        left_out: of the operator's, those that could not be judged, each with the reason.
    """

    rows: pl.DataFrame
    bins: pl.DataFrame
    leaving: Sequence[Left]
    grids: Mapping[str, int]
    censored: int
    left_out: tuple[str, ...]


def window(newest: datetime, days: int) -> Span:
    """So many days up to the end of the last month that is over.

    Args:
        newest: closing time of the newest candle.
        days: how many.
    """
    end = midnight(newest.date().replace(day=1))
    return Span(end - timedelta(days=days), end)


def assess(
    symbols: Sequence[str],
    candles: Callable[[str], pl.DataFrame],
    operated: Operated,
    days: Span,
    config: Config,
    progress: Callable[[str], None] = lambda symbol: None,
) -> Assessment:
    """Judges the signals on the rule's grids and on the operator's that were opened on these days, market by market.

    Args:
        symbols: markets on which the rule opens grids. The operator's are judged wherever they are.
        candles: rows of `candles` of a symbol, from LEAD_BARS before the days on, or as far back as they go.
        operated: their grids, and what they were notified of. A grid that they ended is cut there.
        days: whole days; nothing later is looked at.
        config: under which everything is computed.
        progress: told the symbol after each market.
    """
    opened, left_out = real_grids(operated.episodes, days)
    alerts = operated.alerts.filter(days.opens("sent_at"))
    by_rule, placebo, real, followed = [], [], [], []
    left: dict[str, list[Leavings]] = {moment: [] for moment in MOMENTS}
    for symbol in sorted({*symbols, *(grid.symbol for grid, _ in opened)}):
        mine = [(grid, ended) for grid, ended in opened if grid.symbol == symbol]
        stored = candles(symbol)
        market = next(measured_markets([symbol], stored, days, config), None)
        known = [one for one in mine if market is not None and _speaks(market, one[0])]
        left_out += [
            f"{grid.id} of {iso(grid.activated_at)}: the history does not reach back far enough"
            for grid, ended in mine
            if (grid, ended) not in known
        ]
        if market is not None:
            grids = open_daily(market, days, config.evaluation) if symbol in symbols else []
            if grids:
                judged, leavings = judge_and_leave(market, grids, config)
                by_rule.append(judged)
                for moment, found in leavings.items():
                    left[moment].append(found)
                placebo += placebo_grids(symbol, stored, days, config)
            for cohort in _cohorts(market, known):
                real.append(judge(cohort, signals_of(cohort, market, config)))
                followed.append(responses.outcomes(alerts, cohort, market))
        progress(symbol)
    active = config.exit.policy
    rows = [
        (RULE, measure(by_rule, active, placebo=placebo)),
        (REAL, measure(real, active, daily=False)),
        (REAL, responses.measure(alerts, pl.concat([responses.NOTHING, *followed]))),
    ]
    return Assessment(
        rows=conform(
            pl.concat([frame.with_columns(grids=pl.lit(whose)) for whose, frame in rows]).with_columns(
                as_of=pl.lit(days.end),
                config_hash=pl.lit(config.hash_of_quality()),
                code_version=pl.lit(CODE_VERSIONS["signal_quality"]),
            ),
            "signal_quality",
        ),
        bins=reliability(by_rule),
        leaving=[one for moment, parts in left.items() for one in leaving.measure(moment, parts)],
        grids={RULE: _count(by_rule), REAL: _count(real)},
        censored=sum(int(np.count_nonzero(~one.whole)) for one in real),
        left_out=tuple(left_out),
    )


def real_grids(episodes: pl.DataFrame, days: Span) -> tuple[list[tuple[GridConfig, datetime | None]], list[str]]:
    """The operator's running grids that were opened on these days, each with when they ended it, and who is no grid.

    Args:
        episodes: rows of `grid_episode`.
        days: whole days.
    """
    grids, refused = [], []
    for row in episodes.filter("enabled", days.opens("activated_at")).iter_rows(named=True):
        try:
            grid = grid_of(row)
        except ValidationError as error:
            refused.append(f"{row['grid_id']} of {iso(row['activated_at'])}: {error.errors()[0]['msg']}")
            continue
        grids.append((grid, row["closed_at"]))
    return grids, refused


def _speaks(market: Market, grid: GridConfig) -> bool:
    """Whether every signal could speak when the grid was opened, as of the rule's grids."""
    place = market.place(grid.first_as_of)
    if not LAG <= place < market.span.bars:
        return False
    needed = [market.prices["close"], *(market.known[name] for name in NEEDED)]
    return not any(np.isnan(values[place]) for values in needed)


def _cohorts(market: Market, grids: Sequence[tuple[GridConfig, datetime | None]]) -> Iterator[Cohort]:
    """The operator's grids on one market, so many at a time that memory stays bounded however long they ran."""
    lives = [(min(ended or market.span.end, market.span.end) - grid.first_as_of) // BAR for grid, ended in grids]
    # A bar more than the longest life: none is over by a rule, all are cut.
    bars = max(0, *lives, 0) + 1
    many = max(1, _CELLS // (bars + 1))
    for first in range(0, len(grids), many):
        some = grids[first : first + many]
        yield cohort_of(market, [grid for grid, _ in some], bars, [ended for _, ended in some])


def _count(judged: Sequence[Judged]) -> int:
    return sum(one.day.size for one in judged)


def reliability(judged: Sequence[Judged]) -> pl.DataFrame:
    """Predicted and observed by bin of the prediction, over the same ten bins as the calibration error.

    Returns:
        `low` and `high` of each bin that holds a sample, `count`, `predicted` and `observed`, and `lower` and `upper`,
        the 95 % interval of the latter.
    """
    schema = dict.fromkeys(("low", "high", "count", "predicted", "observed", "lower", "upper"), pl.Float64())
    if not judged:
        return pl.DataFrame(schema=schema)
    samples = probability.pooled([one.samples for one in judged], [one.day.size for one in judged])
    day = np.concatenate([one.day for one in judged])
    symbol = np.repeat(np.arange(len(judged)), [one.day.size for one in judged])
    sums = probability.summarise(samples, day.size)
    bins = probability.calibration_bin(samples.predicted)
    shape = (day.size, CALIBRATION_BINS)
    counts = np.bincount(samples.grid * CALIBRATION_BINS + bins, minlength=day.size * CALIBRATION_BINS).reshape(shape)
    weights = resample.draws(day - day.min(), symbol)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = (weights @ sums.happened_in) / (weights @ counts)
        predicted = sums.predicted_in.sum(axis=0) / counts.sum(axis=0)
    rows = []
    for place in np.flatnonzero(counts.sum(axis=0)):
        lower, upper = resample.interval(observed[1:, place]) if resample.enough(day) else (None, None)
        edges = (place / CALIBRATION_BINS, (place + 1) / CALIBRATION_BINS)
        rows.append((*edges, counts[:, place].sum(), predicted[place], observed[0, place], lower, upper))
    return pl.DataFrame(rows, schema=schema, orient="row")


def figure(rows: pl.DataFrame, grids: str, policy: str, signal: str, metric: str) -> dict[str, Any]:
    """One row of `signal_quality`; all null where there is none."""
    key = {"grids": grids, "policy": policy, "signal": signal, "metric": metric}
    found = rows.filter(*(pl.col(name) == value for name, value in key.items())).to_dicts()
    return found[0] if found else {**key, "value": None, "low": None, "high": None, "n": 0}


def verdict(rows: pl.DataFrame, active: str) -> tuple[bool, str]:
    """Whether the signals may be relied on, and in sentences how often they were right on the rule's grids.

    Args:
        rows: of `signal_quality` of one as_of.
        active: the policy in force.
    """
    auc, ece = (figure(rows, RULE, active, PROBABILITY, metric) for metric in ("auc", "ece"))
    if auc["value"] is None:
        return (
            True,
            "No grid could be judged yet: the features need 48 days of candles, a judgement a month after that.",
        )
    said = []
    for level in STATES[1:3]:
        precision, recall, lead = (
            figure(rows, RULE, active, level, metric) for metric in ("precision", "recall", "lead_p50_hours")
        )
        if precision["value"] is None:
            said.append(f"{level} was never raised before its outcome was known.")
            continue
        part = f"{level} was right in {_percent(precision)} of its {precision['n']:,} alarms"
        if recall["value"] is not None:
            part += f", stood at {_percent(recall)} of the {recall['n']:,} breaks"
        if lead["value"] is not None:
            part += f", with a median lead of {lead['value']:.1f} h"
        said.append(f"{part}.")
    least = auc["value"] if auc["low"] is None else auc["low"]
    wrong = []
    if least < LEAST_AUC:
        wrong.append(f"the AUC may be as low as {least:.2f}, no better than chance")
    if ece["value"] > MOST_ECE:
        wrong.append(f"the calibration error is {ece['value']:.2f}")
    ranks = f"The break probability ranks with an AUC of {_number(auc)} and is off by {_number(ece)} on average"
    warning = f"; not to be relied on: {', and '.join(wrong)}" if wrong else ""
    return not wrong, " ".join([*said, f"{ranks}{warning}."])


def _percent(row: Mapping[str, Any]) -> str:
    value = f"{100 * row['value']:.0f} %"
    return value if row["low"] is None else f"{value} ({100 * row['low']:.0f} to {100 * row['high']:.0f})"


def _number(row: Mapping[str, Any]) -> str:
    value = f"{row['value']:.3f}"
    return value if row["low"] is None else f"{value} ({row['low']:.3f} to {row['high']:.3f})"
