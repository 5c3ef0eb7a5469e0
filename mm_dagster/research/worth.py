"""What a configuration is worth on a stretch of days: its grids are left at its alarms, and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, Integers, log_ratio
from mm_dagster.bars import BAR, DAY_BARS, Span, bar_number, by_bar, iso
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import alarms, resample
from mm_dagster.evaluation.alarms import Alarms
from mm_dagster.evaluation.cohort import Cohort, cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import HISTORY_BARS
from mm_dagster.evaluation.market import Market, markets
from mm_dagster.exit import ladder, triggers
from mm_dagster.exit.triggers import LAG
from mm_dagster.grid import touch
from mm_dagster.regime import features, verdict
from mm_dagster.research.space import TuningError
from mm_dagster.tables.words import STATES, VERDICTS

BLOCKS = 4
"""Blocks that follow a past each, all of the same length; the first past, with its gap, is as long as two of them."""

LEAST_BLOCK_DAYS = 21

SEARCH_GRIDS = 1_000
"""Trials look at every k-th grid of each market, so that there are about so many; every final figure uses all."""


@dataclass(frozen=True)
class Fold:
    """Days on which grids are opened: a past, and the block that follows it after the gap."""

    past: Span
    block: Span


def folds(days: Span, life_days: int) -> list[Fold]:
    """Cuts days into BLOCKS folds; the last block ends with the days.

    Args:
        days: whole days.
        life_days: the longest life of a grid; the gap is a day more, since a break is looked for so long after it.

    Raises:
        TuningError: there are too few days.
    """
    count = days.bars // DAY_BARS
    length = count // (BLOCKS + 2)
    gap = life_days + 1
    least = max(LEAST_BLOCK_DAYS, gap)
    if length < least:
        raise TuningError(
            f"{count} days from {iso(days.start)[:10]} on are too few for {BLOCKS} blocks of {least} days after a past "
            f"of twice that: choose at least {least * (BLOCKS + 2)} days, or backfill more"
        )
    cuts = [days.end - timedelta(days=length * left) for left in range(BLOCKS, -1, -1)]
    return [Fold(Span(days.start, start - timedelta(days=gap)), Span(start, end)) for start, end in pairwise(cuts)]


@dataclass(frozen=True)
class PreparedMarket:
    """Everything of one market that no trial changes.

    Attributes:
        market: what is known of it.
        features: rows of `regime_features`, from which other verdicts are computed.
        cohort: the grids, in the order of their days.
        day: number of the day on which each was opened, shape (m,).
        away: log distance of each close to the lower bound, shape (m, n).
    """

    market: Market
    features: pl.DataFrame
    cohort: Cohort
    day: Integers
    away: Floats

    def opened(self, days: Span, every: int = 1) -> slice:
        """The rows of the grids opened on some days, or of every k-th of them."""
        first, last = np.searchsorted(self.day, [days.start.toordinal(), days.end.toordinal()])
        return slice(int(first), int(last), every)


def prepare(
    symbols: Sequence[str], candles: Callable[[str], pl.DataFrame], days: Span, config: Config
) -> Iterator[PreparedMarket]:
    """The markets, one after another; those on which no grid could be opened are left out.

    Args:
        symbols: which.
        candles: rows of `candles` of a symbol, from LEAD_BARS before the days on, or as far back as they go.
        days: whole days.
        config: the current one.
    """
    for symbol in symbols:
        known = candles(symbol).filter(pl.col("symbol") == symbol, pl.col("open_time") < days.end)
        if known.is_empty():
            continue
        oldest = known["open_time"].min()
        assert isinstance(oldest, datetime)
        span = Span(max(days.back(HISTORY_BARS).start, oldest), days.end)
        measured = features.compute(known, span, config.risk.vol)
        [market] = markets([symbol], known, measured, verdict.compute(measured, span, config.regime), span)
        grids = open_daily(market, days, config.evaluation)
        if not grids:
            continue
        cohort = cohort_of(market, grids, config.evaluation.life_days * DAY_BARS)
        lower = np.broadcast_to(np.array([[grid.lower] for grid in grids]), cohort.close.shape)
        away = log_ratio(cohort.close.ravel(), lower.ravel()).reshape(cohort.close.shape)
        day = np.array([grid.activated_at.toordinal() for grid in grids], np.int64)
        # Equity is no part of the worth.
        yield PreparedMarket(market, measured, replace(cohort, left=np.empty((len(grids), 0))), day, away)


LATEST, WARNING = "LATEST_ACCEPTABLE_EXIT", "WARNING"

PRICE = 0.5
"""Of a false alarm, in breaks caught in time."""

LEVELS = {LATEST: (1.0, 1.0), WARNING: (0.5, 0.5)}
"""Weight of a level, and its share of the price of a false alarm."""

LATEST_USEFUL_HOURS = alarms.HORIZON * BAR / timedelta(hours=1)


@dataclass(frozen=True)
class Outcome:
    """What became of the alarms on some grids, m in all.

    Attributes:
        day: on which each was opened, shape (m,).
        symbol: number of its market, shape (m,).
        alarms: by level.
        worth: of the alarms of each, shape (m,).
        in_time: whether its break was caught in time, by level, shape (m,) each.
    """

    day: Integers
    symbol: Integers
    alarms: Mapping[str, Alarms]
    worth: Floats
    in_time: Mapping[str, np.ndarray]

    @property
    def weeks(self) -> Floats:
        """How long each was watched, shape (m,)."""
        return self.alarms[LATEST].weeks

    @property
    def score(self) -> float:
        """Worth per grid-week."""
        weeks = float(self.weeks.sum())
        return float(self.worth.sum()) / weeks if weeks > 0 else 0.0


def judge(
    grounds: Sequence[PreparedMarket], days: Span, config: Config, base: Config, price: float, every: int = 1
) -> Outcome:
    """What the alarms of the active policy are worth on the grids opened on some days.

    Args:
        grounds: the markets, prepared under `base`.
        days: the days.
        config: what is tried.
        base: the current configuration, whose windows say what is in time.
        price: of a false alarm.
        every: look at every k-th grid of each market.
    """
    window = base.exit.window_minutes
    hours = {LATEST: window.latest_acceptable_exit / 60, WARNING: window.warning / 60}
    # Nothing that comes after the last life is looked at.
    until = days.end + timedelta(days=base.evaluation.life_days + 1)
    parts: dict[str, list[Alarms]] = {level: [] for level in LEVELS}
    day, symbol = [], []
    for number, ground in enumerate(grounds):
        rows = ground.opened(days, every)
        cohort = _part(ground.cohort, rows)
        state = _states(ground, rows, until, config, base)
        for level in LEVELS:
            parts[level].append(alarms.judge(state >= STATES.index(level), cohort))
        day.append(ground.day[rows])
        symbol.append(np.full(day[-1].size, number, np.int64))
    found = {level: alarms.pooled(part) for level, part in parts.items()}
    in_time = {
        level: (one.lead >= max(hours[level], BAR / timedelta(hours=1))) & (one.lead <= LATEST_USEFUL_HOURS)
        for level, one in found.items()
    }
    worth = sum(
        weight * (in_time[level] - price * share * found[level].false) for level, (weight, share) in LEVELS.items()
    )
    return Outcome(np.concatenate(day), np.concatenate(symbol), found, np.asarray(worth, np.float64), in_time)


def _part(cohort: Cohort, rows: slice) -> Cohort:
    cut = {
        name: getattr(cohort, name)[rows]
        for name in ("grids", "close", "low", "last", "whole", "broken_low", "stopped", "broken_high", "left")
    }
    return replace(cohort, **cut)


def _states(ground: PreparedMarket, rows: slice, until: datetime, config: Config, base: Config) -> np.ndarray:
    """States of the active policy, as places in `words.STATES`, up to the bar that ends what there is to warn of."""
    market, cohort = ground.market, _part(ground.cohort, rows)
    over, away = cohort.over, ground.away[rows]
    known = dict(market.known)
    if config.regime != base.regime:
        known |= _verdicts(ground, until, config)
    scales = config.risk.touch
    states = np.zeros((len(cohort.grids), away.shape[1]), np.int8)
    for row, grid in enumerate(cohort.grids):
        count = int(over[row]) + 1
        first = market.place(grid.first_as_of)
        life = slice(first - LAG, first + count)
        seen = {name: values[life] for name, values in known.items()}
        ahead = bar_number(grid.first_as_of) + np.arange(count)
        p = touch.probability_ahead(
            away[row, :count],
            seen["volatility_forecast"][LAG:],
            ahead,
            24,
            scales.k_break.h24,
            config.risk.vol.weekend,
            scales.continuity,
        )
        seen["p_break_low_24h"] = np.concatenate([np.full(LAG, np.nan), p])
        episode = ladder.fold(triggers.read_triggers(grid, seen, config.exit.thresholds), config.exit)
        states[row, :count] = episode.ladder.state
    return states


def _verdicts(ground: PreparedMarket, until: datetime, config: Config) -> dict[str, Floats]:
    """The verdict's columns under another `regime.yaml`, NaN from `until` on."""
    market = ground.market
    span = Span(market.span.start, min(market.span.end, until))
    said = verdict.compute(ground.features, span, config.regime)
    places = {name: float(place) for place, name in enumerate(VERDICTS)}
    said = said.with_columns(pl.col("verdict").replace_strict(places, default=None, return_dtype=pl.Float64))
    lane = pl.DataFrame({"symbol": [market.symbol]})
    return {
        name: np.pad(values[0], (0, market.span.bars - span.bars), constant_values=np.nan)
        for name, values in by_bar(said, span, lane, *triggers.VERDICT).items()
    }


def edges(one: Outcome, other: Outcome) -> Floats:
    """What one set of values gains on another on the same grids, by block of weeks, per grid-week, shape (blocks,)."""
    block = one.day // resample.BLOCK_DAYS
    block = block - block.min() if block.size else block
    weeks = np.bincount(block, one.weeks)
    return np.bincount(block, one.worth - other.worth)[weeks > 0] / weeks[weeks > 0]
