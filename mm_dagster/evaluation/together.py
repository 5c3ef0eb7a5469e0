"""All grids at once on stored candles: did the loss of a bad night come true, and would a simpler figure have?

On every market one of the rule's grids runs at any time: opened at midnight, held to its stop or to the day on which
the next one is due, and followed by another. Each midnight the portfolio of them says what it may lose by the next one,
as `portfolio_risk` does, and the candles say what it lost. Beside it stand figures that people use instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, Integers
from mm_dagster.bars import BAR, DAY_BARS, HOUR_BARS, Span, bar_number
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import coverage
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import measured_markets
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.resample import SEED
from mm_dagster.grid.replay import GridTerms, Replay, replay, terms_of
from mm_dagster.grid.touch import student_t4_cdf
from mm_dagster.portfolio import weights
from mm_dagster.portfolio.allocation import returns_of
from mm_dagster.portfolio.loss import held, lost
from mm_dagster.portfolio.paths import Past, Starts, lacking, lead_bars, past, starts
from mm_dagster.portfolio.tail import NIGHT, RARE, added_up, tail

METHODS = {
    "filtered": "nights of the past in units of today's volatility, all markets together: `portfolio_risk`",
    "unfiltered": "the same without today's volatility",
    "t_copula": "each grid's own nights, tied by a Student-t copula with 4 degrees of freedom",
    "delta_normal": "what is held times normal returns, with their correlations",
    "independent": "each grid's own nights, as if grids did not fall together",
}
"""How the loss of a night is found; the first is ours, the others are what people use instead."""
LEVELS = (NIGHT, RARE)
DRAWS = 2_000
"""Nights of the copula, the same ones each time."""
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Run:
    """A grid of a market's chain.

    Attributes:
        grid: the grid.
        first: column of the bar at whose close it begins.
        until: column of the bar at whose close it is followed by another.
        terms: its cells.
        lived: its replay from `first` on, a day longer than it runs where that is known.
    """

    grid: GridConfig
    first: int
    until: int
    terms: GridTerms
    lived: Replay

    def runs_at(self, column: int) -> bool:
        """Whether it holds anything, or may, at a bar."""
        stopped = self.lived.stopped
        return self.first <= column < self.until and not 0 <= stopped <= column - self.first


class Nights(NamedTuple):
    """What nights were said to cost, and what they cost.

    Attributes:
        start: `as_of` at which each began.
        losses: what each cost, shape (n,), quote currency.
        paths: by method, the simulated losses of each, shape (n, k).
        grids: how many ran, shape (n,).
        left_out: why a night has no figure, and how many.
    """

    start: list[datetime]
    losses: Floats
    paths: Mapping[str, Floats]
    grids: list[int]
    left_out: Mapping[str, int]


class Covered(NamedTuple):
    """How the figure of one method came true at one level; see `Coverage`."""

    method: str
    level: float
    days: int
    hits: int
    rate: float | None
    kupiec_p: float | None
    christoffersen_p: float | None
    z2: float | None
    z2_p: float | None


def lead(config: Config) -> int:
    """How many bars before the first night are looked at, beside those that the features look back on."""
    return lead_bars(config.portfolio.window_days) + config.evaluation.life_days * DAY_BARS


def markets_of(
    symbols: Sequence[str],
    candles: Callable[[str], pl.DataFrame],
    days: Span,
    config: Config,
    progress: Callable[[str], None] = lambda symbol: None,
) -> list[Market]:
    """The markets, each from `lead` before the days on, or as far back as its candles go.

    Args:
        symbols: which; one without candles is left out.
        candles: rows of `candles` of a symbol.
        days: whole days.
        config: under which everything is computed.
        progress: told the symbol after each market.
    """
    found: list[Market] = []
    for symbol in sorted(symbols):
        found += measured_markets([symbol], candles(symbol), days.back(lead(config)), config)
        progress(symbol)
    return found


def nights(markets: Sequence[Market], days: Span, config: Config) -> Nights:
    """Each midnight of some days: what the portfolio may lose by the next one, and what it lost.

    Args:
        markets: as of `markets_of`, at least one.
        days: whole days; the last night ends where they do.
        config: window, life, stop, fees.
    """
    span = Span(min(one.span.start for one in markets), min(days.end, max(one.span.end for one in markets)))
    known = past_of(markets, span, config)
    every = [_chain(one, span, place, len(markets), days, config) for place, one in enumerate(markets)]
    window = config.portfolio.window_days
    found: list[tuple[datetime, float, int]] = []
    paths: dict[str, list[Floats]] = {method: [] for method in METHODS}
    left_out: dict[str, int] = {}
    copula = _copula(len(markets))
    for start in _midnights(days, span):
        begin = starts(known, bar_number(start) - 1, window)
        running = [(place, run) for place, chain in enumerate(every) for run in chain if run.runs_at(begin.now)]
        absent = lacking(known, begin, window)
        names = [known.symbols[place] for place in sorted({place for place, _ in running}) if absent[place]]
        if not running or names:
            why = f"the last {window} days of {', '.join(names)} are not known" if names else "no grid ran"
            left_out[why] = left_out.get(why, 0) + 1
            continue
        found.append((start, sum(_realised(run, begin.now) for _, run in running), len(running)))
        for method, losses in _simulated(running, known, begin, copula):
            paths[method].append(losses)
    return Nights(
        start=[start for start, _, _ in found],
        losses=np.array([loss for _, loss, _ in found]),
        paths={method: np.array(losses) for method, losses in paths.items()},
        grids=[grids for _, _, grids in found],
        left_out=left_out,
    )


def cover(found: Nights) -> list[Covered]:
    """How the figure of every method came true at every level; none without a night."""
    if not found.start:
        return []
    rows = []
    for method, paths in found.paths.items():
        for level in LEVELS:
            tails = [tail(losses, level) for losses in paths]
            var, es = (np.array([getattr(one, name) for one in tails]) for name in ("var", "es"))
            rows.append(Covered(method, *coverage.measure(found.losses, var, es, paths, level)))
    return rows


def _midnights(days: Span, span: Span) -> Iterator[datetime]:
    """Those with a whole day after them and a bar before them."""
    start = days.start
    while start + timedelta(days=1) <= min(days.end, span.end):
        if start > span.start:
            yield start
        start += timedelta(days=1)


def past_of(markets: Sequence[Market], span: Span, config: Config) -> Past:
    """All markets on one axis, which the span is."""

    def on_axis(values: Floats, one: Market) -> Floats:
        before = (one.span.start - span.start) // BAR
        row = np.full(span.bars, np.nan)
        many = min(values.size, span.bars - before)
        row[before : before + many] = values[:many]
        return row

    prices = np.stack(
        [np.stack([on_axis(one.prices[name], one) for one in markets]) for name in ("open", "high", "low", "close")]
    )
    forecast = np.stack([on_axis(one.known["volatility_forecast"], one) for one in markets])
    return past(tuple(one.symbol for one in markets), span, prices, forecast, config.risk.vol.weekend)


def _chain(market: Market, span: Span, place: int, many: int, days: Span, config: Config) -> list[Run]:
    """The grids of one market, one after another.

    A new one is due every `life_days` days, counted from the epoch, so that nothing depends on the first day that is
    asked for; markets take turns. What was stopped is followed at the next midnight at which a grid can be opened.
    """
    life = config.evaluation.life_days
    opened = open_daily(market, days.back(life * DAY_BARS), config.evaluation)
    turn = place * life // many
    runs: list[Run] = []
    free = None
    for grid in opened:
        if free is not None and grid.activated_at < free:
            continue
        day = bar_number(grid.activated_at) // DAY_BARS
        due = grid.activated_at + timedelta(days=life - (day + turn) % life)
        run = _run(market, span, grid, due)
        runs.append(run)
        stopped = run.lived.stopped
        free = due if stopped < 0 else min(due, grid.activated_at + timedelta(days=stopped // DAY_BARS + 1))
    return runs


def _run(market: Market, span: Span, grid: GridConfig, due: datetime) -> Run:
    """A grid from its activation to a day after it is due to be followed."""
    first = market.place(grid.first_as_of)
    last = min(market.place(due) + DAY_BARS, market.span.bars - 1)
    opens, highs, lows, closes = (
        market.prices[name][first : last + 1].copy() for name in ("open", "high", "low", "close")
    )
    opens[0] = highs[0] = lows[0] = closes[0]
    terms = terms_of(grid, float(closes[0]))
    shift = (market.span.start - span.start) // BAR
    return Run(grid, shift + first, shift + market.place(due), terms, replay(terms, opens, highs, lows, closes))


def _realised(run: Run, now: int) -> float:
    """What a grid loses in the day after a bar, quote currency; where a bar is not known, up to the last that is."""
    values = run.lived.liquidation_value[: now - run.first + DAY_BARS + 1]
    known = values[~np.isnan(values)]
    before = values[: now - run.first + 1]
    return float(before[~np.isnan(before)][-1] - known[-1])


def _simulated(
    running: Sequence[tuple[int, Run]], known: Past, begin: Starts, copula: Floats
) -> Iterator[tuple[str, Floats]]:
    """The losses of a night by every method."""
    grids = [
        held(run.terms, is_modelled=False).standing(
            float(np.exp(known.close[place, begin.now])), float(run.lived.inventory[begin.now - run.first])
        )
        for place, run in running
    ]
    places = [place for place, _ in running]
    losses = np.stack([lost(grid, known, place, begin).loss for grid, place in zip(grids, places, strict=True)])
    yield "filtered", added_up(losses)
    still = replace(known, sigma=np.ones_like(known.sigma))
    plain = [lost(grid, still, place, begin).loss for grid, place in zip(grids, places, strict=True)]
    yield "unfiltered", added_up(np.stack(plain))
    markets, lanes = np.unique(np.array(places), return_inverse=True)
    shrunk = weights.shrunk_covariance(returns_of(known, begin.now, markets)).covariance
    correlation = weights.correlation(shrunk)
    yield "t_copula", _tied(losses, correlation, lanes, copula)
    # The forecast is that of an hourly return.
    sigma = known.sigma[markets, begin.now] * np.sqrt(DAY_BARS / HOUR_BARS)
    price = np.exp(known.close[markets, begin.now])
    exposure = np.bincount(lanes, weights=[grid.inventory for grid in grids], minlength=markets.size) * price
    spread = weights.sigma_of(weights.scaled(shrunk, sigma), exposure)
    shares = (np.arange(losses.shape[1]) + 0.5) / losses.shape[1]
    yield "delta_normal", spread * np.array([_NORMAL.inv_cdf(share) for share in shares.tolist()])
    apart = max(1, losses.shape[1] // len(losses))
    yield "independent", added_up(np.stack([np.roll(row, place * apart) for place, row in enumerate(losses)]))


def _copula(markets: int) -> Floats:
    """Independent Student-t deviates that share their denominator, shape (DRAWS, markets); the same ones each time."""
    generator = np.random.default_rng(SEED)
    normal = generator.standard_normal((DRAWS, markets))
    return np.asarray(normal / np.sqrt(generator.chisquare(4, DRAWS)[:, None] / 4.0))


def _tied(losses: Floats, correlation: Floats, lanes: Integers, copula: Floats) -> Floats:
    """Each grid's own losses, drawn together as the copula ties its market to the others; a fall is a high loss."""
    factor = np.linalg.cholesky(correlation)
    ranks = student_t4_cdf(-(copula[:, : len(correlation)] @ factor.T))
    ordered = np.sort(losses, axis=1)
    columns = np.minimum((ranks * losses.shape[1]).astype(np.int64), losses.shape[1] - 1)
    return added_up(np.stack([row[columns[:, lane]] for row, lane in zip(ordered, lanes, strict=True)]))
