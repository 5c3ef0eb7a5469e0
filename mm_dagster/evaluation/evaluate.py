"""The whole evaluation: from stored candles to the table of what every signal was worth on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import polars as pl

from mm_dagster.bars import DAY_BARS, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import leaving
from mm_dagster.evaluation.cohort import Cohort, cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.leaving import Leavings
from mm_dagster.evaluation.market import Market, markets
from mm_dagster.evaluation.placebo import SIGNS, flip
from mm_dagster.evaluation.quality import Judged, judge, measure
from mm_dagster.evaluation.signals import Signals, signals_of
from mm_dagster.regime import features, verdict
from mm_dagster.tables.regime import HYSTERESIS_BARS, WARMUP_BARS

HISTORY_BARS = WARMUP_BARS + HYSTERESIS_BARS
"""Bars before the first day that the features and verdicts of it look back on."""

Progress = Callable[[str], None]


def evaluate(
    symbols: Sequence[str],
    candles: Callable[[str], pl.DataFrame],
    days: Span,
    config: Config,
    progress: Progress = lambda symbol: None,
) -> pl.DataFrame:
    """Judges every signal on the grids that the rule opens on these days.

    Only what is known by the end of the last day is looked at: a grid that lives on then is cut there.

    Args:
        symbols: the markets.
        candles: rows of `candles` of a symbol, from LEAD_BARS before the days on, or as far back as they go.
        days: whole days.
        config: under which everything is computed.
        progress: told the symbol after each market.

    Returns:
        As `quality.measure`.
    """
    judged, placebo = [], []
    for symbol in symbols:
        known = candles(symbol)
        judged += daily_grids(symbol, known, days, config)
        placebo += placebo_grids(symbol, known, days, config)
        progress(symbol)
    return measure(judged, config.exit.policy, placebo=placebo)


def daily_grids(symbol: str, candles: pl.DataFrame, days: Span, config: Config) -> list[Judged]:
    """The rule's grids on a market, judged; none where no grid could be opened.

    Args:
        symbol: the market.
        candles: rows of `candles`, as of `evaluate`.
        days: whole days.
        config: under which everything is computed.
    """
    return [judge(cohort, signals) for _, cohort, signals in _opened(symbol, candles, days, config)]


def placebo_grids(symbol: str, candles: pl.DataFrame, days: Span, config: Config) -> list[Judged]:
    """The same on the market with random signs, turned over at the same bars as every other market of these days."""
    return daily_grids(symbol, flip(candles, SIGNS, days.back(HISTORY_BARS).start), days, config)


def leavings_on(symbol: str, candles: pl.DataFrame, days: Span, config: Config) -> dict[str, Leavings]:
    """By kind of moment, when the rule's grids on a market were left, and what that cost; none where there is no grid.

    Args:
        symbol: the market.
        candles: rows of `candles`, as of `evaluate`.
        days: whole days.
        config: under which everything is computed.
    """
    for market, cohort, signals in _opened(symbol, candles, days, config):
        return leaving.after(market, cohort, signals, config)
    return {}


def _opened(symbol: str, candles: pl.DataFrame, days: Span, config: Config) -> Iterator[tuple[Market, Cohort, Signals]]:
    """A market with the rule's grids on it and what was said of them; nothing where no grid could be opened."""
    for market in measured_markets([symbol], candles, days, config):
        if grids := open_daily(market, days, config.evaluation):
            yield market, *_said_of(market, grids, config)


def measured_markets(symbols: Sequence[str], candles: pl.DataFrame, days: Span, config: Config) -> Iterator[Market]:
    """The markets with everything that the signals read, from candles alone; those without a candle are left out."""
    known = candles.filter(pl.col("symbol").is_in(list(symbols)), pl.col("open_time") < days.end)
    if known.is_empty():
        return
    oldest, newest = known["open_time"].min(), known["close_time"].max()
    assert isinstance(oldest, datetime)
    assert isinstance(newest, datetime)
    span = Span(max(days.back(HISTORY_BARS).start, oldest), newest)
    measured = features.compute(known, span, config.risk.vol)
    judged = verdict.compute(measured, span, config.regime)
    yield from markets(known["symbol"].unique().sort().to_list(), known, measured, judged, span)


def judge_grids(market: Market, grids: Sequence[GridConfig], config: Config) -> Judged:
    """Some grids of one market, at least one, reduced to what the figures need."""
    return judge(*_said_of(market, grids, config))


def judge_and_leave(market: Market, grids: Sequence[GridConfig], config: Config) -> tuple[Judged, dict[str, Leavings]]:
    """The same, and by kind of moment when they were left, and what that cost."""
    cohort, signals = _said_of(market, grids, config)
    return judge(cohort, signals), leaving.after(market, cohort, signals, config)


def _said_of(market: Market, grids: Sequence[GridConfig], config: Config) -> tuple[Cohort, Signals]:
    cohort = cohort_of(market, grids, config.evaluation.life_days * DAY_BARS)
    return cohort, signals_of(cohort, market, config)
