"""Did leaving cost what it was said to cost? What the model said when grids were left, and what the candles say came.

Two kinds of moments are looked at, each bar of a market once however many grids it concerns: the bar with which a grid
breaks, and the one at which the ladder first asks to leave. MANDATORY_EXIT is no third kind: most of its moments are
those of the breaks.

Candles tell where the price went meanwhile, and nothing of the order book. So what came is the drift of the mean price
of the horizon, and the parts that are modelled stay as they were said. The mean price of a quarter hour is taken as the
mean of its open, high, low and close. Nothing looks ahead: an outcome is told when its time has passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import DAY_BARS, HOUR_BARS, bar_number
from mm_dagster.books.book import BP
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import resample
from mm_dagster.evaluation.cohort import NEVER, Cohort
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.signals import Signals
from mm_dagster.execution import costs
from mm_dagster.execution.costs import HORIZONS, SPREAD_80, SPREAD_90, Costs
from mm_dagster.grid import touch
from mm_dagster.grid.slippage import Traded, traded

BROKEN, LATEST = "broken", "latest_acceptable_exit"
MOMENTS = {
    BROKEN: "the bar with which two closes in a row lie below the grid, or its stop is touched",
    LATEST: "the bar at which the state is first LATEST_ACCEPTABLE_EXIT or higher",
}
NOTIONALS = (1_000.0, 10_000.0)
"""What is sold, quote currency."""
BARS = {15: 1, 60: 4}
"""Bars of the horizons, in minutes, of which candles tell what came: of at once and of 5 minutes they tell nothing."""
WORST = resample.SHORTFALL
METRICS = {
    "coverage_80": "share of the moments whose cost came within the 80 % interval, whatever is sold",
    "coverage_90": "the same of the 90 % interval",
    "expected_bp": "mean cost that was said",
    "realised_bp": "mean cost that came: the drift, and the modelled parts as they were said",
    "worst_5_bp": "mean of the dearest 5 % of what came; at once, where nothing drifts, of what was said",
    "now_mean_bp": "mean cost of selling at once",
    "now_worst_5_bp": "mean of its dearest 5 %",
    "plan_mean_bp": "mean cost that came of the plan: of the horizon that it chose at each moment",
    "plan_worst_5_bp": "mean of its dearest 5 %",
    "gain_mean_bp": "now_mean_bp less plan_mean_bp, on the same moments",
    "gain_worst_5_bp": "now_worst_5_bp less plan_worst_5_bp, on the same moments",
    "plan_now_share": "share of the moments at which the plan is to sell at once",
    "now_share": "the same where no more is sold than is traded in a minute: the model was fitted to these",
}
"""What is measured. Costs in basis points of the mid price."""
BAND = (0.75, 0.92)
"""The 80 % interval came true where the coverage may lie here."""


@dataclass(frozen=True)
class Leavings:
    """n moments on one market.

    Attributes:
        symbol: the market.
        place: bars on the market's axis, ascending, shape (n,).
        day: number of the day on which each closed, shape (n,).
        drift: by horizon of BARS, what the mean price lost against the close, basis points; NaN where its time has not
            passed or a bar of it is MISSING; shape (n,) each.
        market: how it traded.
        forecast: standard deviation of an hourly log return over the next hour, shape (n,).
        costs: what was said, by NOTIONALS.
    """

    symbol: str
    place: Integers
    day: Integers
    drift: Mapping[int, Floats]
    market: Traded
    forecast: Floats
    costs: Mapping[float, Costs]


class Left(NamedTuple):
    """One figure.

    Attributes:
        moment: of MOMENTS.
        horizon_minutes: over which is sold; None: by the plan, or at once.
        notional: what is sold, quote currency; None: it does not matter.
        metric: of METRICS.
        value: share, or basis points.
        low: lower end of its 95 % interval; None: too few weeks.
        high: upper end.
        n: moments.
    """

    moment: str
    horizon_minutes: int | None
    notional: float | None
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


def after(market: Market, cohort: Cohort, signals: Signals, config: Config) -> dict[str, Leavings]:
    """What was said, and what came, at both kinds of moments of a cohort.

    Args:
        market: of the cohort.
        cohort: the grids.
        signals: what was said of them.
        config: under which everything is computed.
    """
    asked = signals.alarms[config.exit.policy, "LATEST_ACCEPTABLE_EXIT"]
    entered = np.where(asked.any(axis=1), asked.argmax(axis=1), NEVER)
    columns = {BROKEN: cohort.broken, LATEST: entered}
    return {moment: leavings(market, moments(market, cohort, found), config) for moment, found in columns.items()}


def moments(market: Market, cohort: Cohort, columns: Integers) -> Integers:
    """The bars of the market at which grids of it are left, each once, ascending.

    Args:
        market: of the cohort.
        cohort: the grids.
        columns: when each is left, NEVER or beyond its life: it is not; shape (m,).
    """
    start = np.array([market.place(grid.first_as_of) for grid in cohort.grids], np.int64)
    lived = columns <= cohort.last
    return np.unique(start[lived] + columns[lived])


def leavings(market: Market, place: Integers, config: Config) -> Leavings:
    """What was said at some bars of a market, and what came.

    Args:
        market: the market.
        place: bars on its axis, shape (n,).
        config: fees, half spread and weekend.
    """
    close = market.prices["close"]
    trades = traded(close, market.prices["volume"])
    there = Traded(trades.sigma[place], trades.volume[place])
    first = bar_number(market.span.start)
    ahead = first + 1 + place
    forecast = touch.forecast(market.known["volatility_forecast"][place], ahead, HOUR_BARS, config.risk.vol.weekend)
    spread, fee = config.risk.half_spread(market.symbol), config.evaluation.fees.taker
    return Leavings(
        symbol=market.symbol,
        place=place,
        day=(first + place) // DAY_BARS,
        drift={minutes: drift(market.prices, place, bars) for minutes, bars in BARS.items()},
        market=there,
        forecast=forecast,
        costs={
            notional: costs.model(np.full(place.size, notional), spread, forecast, there, fee) for notional in NOTIONALS
        },
    )


def drift(prices: Mapping[str, Floats], place: Integers, bars: int) -> Floats:
    """What the mean price of the next bars lost against the close, basis points of it.

    Args:
        prices: open, high, low and close, shape (bars,) each.
        place: shape (n,).
        bars: how many; NaN where one of them is not there or MISSING.
    """
    means = mean_prices(prices)
    known = np.concatenate([means, np.full(bars, np.nan)])
    came = sum((known[place + number] for number in range(1, bars + 1)), np.zeros(place.size)) / bars
    return np.asarray((1.0 - came / prices["close"][place]) / BP)


def mean_prices(prices: Mapping[str, Floats]) -> Floats:
    """What an equal sale over each bar would have fetched, shape (bars,)."""
    return np.asarray((prices["open"] + prices["high"] + prices["low"] + prices["close"]) / 4.0)


def measure(moment: str, parts: Sequence[Leavings]) -> list[Left]:
    """Every figure; none where no outcome is known.

    Only moments of which all is known count, so that figures of one horizon can be held against those of another.

    Args:
        moment: of MOMENTS.
        parts: each of one market.
    """
    pool = _Pool([one for one in parts if one.place.size])
    return list(_figures(moment, pool)) if pool.day.size else []


class _Pool:
    """All moments of which everything is known, and how often each is drawn.

    Attributes:
        day: shape (n,).
        weights: shape (1 + draws, n).
        drift: shape (n, horizons), basis points. At once nothing drifts. Of 5 minutes candles tell nothing: with those
            of the whole quarter hour a plan that chooses them is not flattered.
        half: half widths of the intervals by metric, shape (n, horizons).
        costs: by notional: expected costs and whether chosen, shape (n, horizons), and whether more is sold than is
            traded in a minute, shape (n,).
    """

    def __init__(self, parts: Sequence[Leavings]) -> None:
        self.costs: dict[float, tuple[Floats, Flags, Flags]] = {}
        if not parts:
            self.day = np.zeros(0, np.int64)
            return
        # Of the last hour the end of the time is what is not known, whatever came: nothing is left out by its outcome.
        drifts = {minutes: np.concatenate([one.drift[minutes] for one in parts]) for minutes in BARS}
        said = {notional: [one.costs[notional] for one in parts] for notional in NOTIONALS}
        scores = [np.concatenate([one.score for one in said[notional]]) for notional in NOTIONALS]
        known = np.isfinite(np.column_stack([*drifts.values(), *scores])).all(axis=1)
        symbol = np.repeat(np.arange(len(parts)), [one.place.size for one in parts])[known]
        self.day = np.concatenate([one.day for one in parts])[known]
        if not self.day.size:
            return
        self.sure = resample.enough(self.day)
        self.weights = resample.draws(self.day - self.day.min(), symbol)
        by_horizon = {0: np.zeros(known.size), 5: drifts[15], **drifts}
        self.drift = np.column_stack([by_horizon[minutes] for minutes in HORIZONS])[known]
        deviation = np.concatenate([one.deviation for one in said[NOTIONALS[0]]])[known]
        self.half = {
            name: deviation * np.array([spread.get(minutes, 0.0) for minutes in HORIZONS])
            for name, spread in (("coverage_80", SPREAD_80), ("coverage_90", SPREAD_90))
        }
        for notional, found in said.items():
            self.costs[notional] = (
                np.concatenate([one.expected for one in found])[known],
                np.concatenate([one.chosen for one in found])[known],
                np.concatenate([one.beyond[:, 0] for one in found])[known],
            )

    def within(self, name: str, minutes: int) -> Floats:
        """Whether what came lies within an interval, 0 or 1: both move with the cost, so that the drift decides."""
        column = HORIZONS.index(minutes)
        return (np.abs(self.drift[:, column]) <= self.half[name][:, column]).astype(np.float64)


def _figures(moment: str, pool: _Pool) -> Iterator[Left]:
    n = pool.day.size

    def figure(minutes: int | None, notional: float | None, metric: str, drawn: Floats, count: int = n) -> Left:
        low, high = resample.interval(drawn[1:])
        ends = (low, high) if pool.sure and np.isfinite(low) else (None, None)
        return Left(moment, minutes, notional, metric, float(drawn[0]), ends[0], ends[1], count)

    def mean(values: Floats) -> Floats:
        return resample.mean(pool.weights, values)

    def dearest(values: Floats) -> Floats:
        return -resample.shortfall(pool.weights, -values)

    for minutes in BARS:
        for name in pool.half:
            yield figure(minutes, None, name, mean(pool.within(name, minutes)))
    for notional, (expected, chosen, beyond) in pool.costs.items():
        came = expected + pool.drift
        for column, minutes in enumerate(HORIZONS):
            yield figure(minutes, notional, "expected_bp", mean(expected[:, column]))
            if minutes in BARS:
                yield figure(minutes, notional, "realised_bp", mean(came[:, column]))
            if minutes in (0, *BARS):
                yield figure(minutes, notional, "worst_5_bp", dearest(came[:, column]))
        now, plan = came[:, 0], came[chosen]
        at_once = chosen[:, 0].astype(np.float64)
        for name, values in (("now", now), ("plan", plan)):
            yield figure(None, notional, f"{name}_mean_bp", mean(values))
            yield figure(None, notional, f"{name}_worst_5_bp", dearest(values))
        yield figure(None, notional, "gain_mean_bp", mean(now - plan))
        yield figure(None, notional, "gain_worst_5_bp", dearest(now) - dearest(plan))
        yield figure(None, notional, "plan_now_share", mean(at_once))
        if (fitted := ~beyond).any():
            drawn = resample.mean(pool.weights[:, fitted], at_once[fitted])
            yield figure(None, notional, "now_share", drawn, int(fitted.sum()))


def find(
    rows: Sequence[Left], moment: str, metric: str, minutes: int | None = None, notional: float | None = None
) -> Left | None:
    """One figure; None: there is none."""
    key = (moment, minutes, notional, metric)
    return next((one for one in rows if (one.moment, one.horizon_minutes, one.notional, one.metric) == key), None)


def verdict(rows: Sequence[Left]) -> tuple[bool, str]:
    """Whether the 80 % intervals came true after breaks, and in a sentence how often.

    They did not where the 95 % interval of a coverage lies wholly outside of BAND.
    """
    found = [one for minutes in BARS if (one := find(rows, BROKEN, "coverage_80", minutes)) is not None]
    if not found:
        return True, "No grid of the rule has broken with an outcome that is known: there is nothing to judge yet."
    said = " and ".join(f"{100 * one.value:.0f} % {_interval(one)}over {one.horizon_minutes} min" for one in found)
    sentence = f"Of {found[0].n:,} breaks below, the cost came within the 80 % interval in {said}"
    if any(one.low is None for one in found):
        return True, f"{sentence}. They lie in too few weeks to say whether it came true."
    wrong = [one for one in found if one.high is not None and one.low is not None and _outside(one.low, one.high)]
    if not wrong:
        return True, f"{sentence}: it came true."
    way = "too narrow: leaving may cost more than was said" if wrong[0].value < BAND[0] else "wider than need be"
    return False, f"{sentence}: it did not come true, it is {way}."


def _outside(low: float, high: float) -> bool:
    return high < BAND[0] or low > BAND[1]


def _interval(one: Left) -> str:
    return "" if one.low is None or one.high is None else f"({100 * one.low:.0f} to {100 * one.high:.0f} %) "
