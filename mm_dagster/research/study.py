"""A study of strategies: what each would have earned on each market, beside controls that could show it useless.

Everything is computed from candles; nothing is stored and nothing judged here, since a verdict needs the ledger of
trials, which only the pipeline has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import BAR, DAY_BARS, TIME, Span, by_bar, iso
from mm_dagster.config.whole import Config
from mm_dagster.errors import ForeseenError
from mm_dagster.evaluation import performance, resample
from mm_dagster.evaluation.evaluate import HISTORY_BARS
from mm_dagster.evaluation.placebo import flip
from mm_dagster.regime import features, verdict
from mm_dagster.research.promotion import LEAST_IDEA_DAYS, Idea
from mm_dagster.strategies import accounting, matrix, sizing
from mm_dagster.strategies.accounting import Earned, Prices
from mm_dagster.strategies.signals import COLUMNS, Strategy
from mm_dagster.tables.regime import HYSTERESIS_BARS
from mm_dagster.tables.words import VERDICTS

PLACEBOS = (1, 2, 3)
"""Seeds of the signs: the mean of three placebos varies less than one."""
MATRIX = "matrix"
"""The name of the matrix among the strategies."""
ALL = "ALL"
"""All markets together, with equal capital each."""


class StudyError(ForeseenError):
    """A study has no answer. One line, with the remedy."""


@dataclass(frozen=True)
class Lane:
    """One market of a study, on the bars of its reach.

    Attributes:
        symbol: which.
        frame: what a strategy is handed: COLUMNS, one row for each bar of the reach.
        prices: what a position earns, on the bars of the days.
        verdict: place of the verdict in VERDICTS, -1 where it is not known, shape (n,), n bars of the days.
        sigma: forecast deviation of an hour's log return, likewise.
        atr: average true range of an hour over the close, likewise.
    """

    symbol: str
    frame: pl.DataFrame
    prices: Prices
    verdict: Integers
    sigma: Floats
    atr: Floats


@dataclass(frozen=True)
class Setting:
    """Markets of the same days: the real ones, or a placebo of them.

    Attributes:
        days: whole days.
        lanes: the markets, in alphabetic order.
    """

    days: Span
    lanes: tuple[Lane, ...]

    @property
    def has_funding(self) -> bool:
        """Whether a funding rate is known of any market."""
        return any(bool(lane.prices.funding.any()) for lane in self.lanes)


@dataclass(frozen=True)
class Result:
    """What a strategy did.

    Attributes:
        strategy: its name.
        days: on which it is measured.
        earned: by symbol.
        exposure: mean position, by symbol.
        market: what the market did by day, by symbol, shape (D,).
        together: equal capital in each market that is known, net, shape (D,).
        sized: the same with the sizes of the rules, shares of the equity, shape (D,).
        staked: likewise with that of Kelly among them.
        idea: with its controls.
    """

    strategy: str
    days: Span
    earned: Mapping[str, Earned]
    exposure: Mapping[str, float]
    market: Mapping[str, Floats]
    together: Floats
    sized: Floats
    staked: Floats
    idea: Idea


@dataclass(frozen=True)
class Step:
    """A month of the walk of the matrix.

    Attributes:
        train: the months that it was chosen on.
        test: the month after them.
        chosen: the strategy of each scenario; None: none earned anything there.
        in_training: what it earned on those months, mean of a day.
        out_of_sample: likewise on the month.
    """

    train: Span
    test: Span
    chosen: tuple[str | None, ...]
    in_training: float
    out_of_sample: float


@dataclass(frozen=True)
class Study:
    """All of it.

    Attributes:
        days: whole days.
        symbols: the markets.
        results: one a strategy, the matrix last.
        steps: the walk of the matrix; empty: there are too few months.
        without: strategies that could not be tried here, each with the reason.
    """

    days: Span
    symbols: tuple[str, ...]
    results: tuple[Result, ...]
    steps: tuple[Step, ...]
    without: Mapping[str, str]


def setting(candles: pl.DataFrame, funding: pl.DataFrame, days: Span, config: Config) -> Setting:
    """Lays the markets out.

    Args:
        candles: rows of `candles`, from HISTORY_BARS before the days on, or as far back as they go.
        funding: `symbol`, `open_time` of the bar as which closes it falls due, `funding_rate`.
        days: whole days.
        config: under which features and verdicts are computed.
    """
    known = candles.filter(pl.col("open_time") < days.end, pl.col("open_time") >= days.back(HISTORY_BARS).start)
    reach = days.back(HISTORY_BARS)
    measured = features.compute(known, days.back(HYSTERESIS_BARS), config.risk.vol)
    judged = verdict.compute(measured, days, config.regime)
    place = {word: number for number, word in enumerate(VERDICTS)}
    judged = judged.with_columns(place=pl.col("verdict").replace_strict(place, default=None, return_dtype=pl.Float64))
    return Setting(days, tuple(_lanes(known, funding, measured, judged, days, reach)))


def _lanes(
    candles: pl.DataFrame, funding: pl.DataFrame, measured: pl.DataFrame, judged: pl.DataFrame, days: Span, reach: Span
) -> Iterator[Lane]:
    for symbol in candles["symbol"].unique().sort():
        mine = pl.col("symbol") == symbol
        frame = frame_of(candles, funding, symbol, reach)
        asked = frame.tail(days.bars)
        opens, closes, paid = (asked[name].fill_null(np.nan).to_numpy() for name in ("open", "close", "funding_rate"))
        lane = pl.DataFrame({"symbol": [symbol]})
        of_features = by_bar(measured.filter(mine), days, lane, "volatility_forecast", "atr", "close")
        named = by_bar(judged.filter(mine), days, lane, "place")["place"][0]
        yield Lane(
            symbol,
            frame,
            accounting.prices_of(opens, closes, paid),
            np.where(np.isfinite(named), named, -1).astype(np.int64),
            of_features["volatility_forecast"][0],
            of_features["atr"][0] / of_features["close"][0],
        )


def frame_of(candles: pl.DataFrame, funding: pl.DataFrame, symbol: str, span: Span) -> pl.DataFrame:
    """What a strategy is handed: COLUMNS of one market, one row for each bar of a span."""
    mine = pl.col("symbol") == symbol
    rates = funding.filter(mine).select(pl.col("open_time").cast(TIME), pl.col("funding_rate").cast(pl.Float64))
    rows = candles.filter(mine).select(COLUMNS[1:-1]).with_columns(pl.col("open_time").cast(TIME))
    frame = span.open_times().to_frame().join(rows, on="open_time", how="left", maintain_order="left")
    frame = frame.join(rates, on="open_time", how="left", maintain_order="left")
    return frame.with_columns(symbol=pl.lit(symbol)).select(COLUMNS)


Positions = Mapping[str, Floats]
"""By symbol, on the bars of the days."""


def positions(strategy: Strategy, where: Setting, short: bool) -> Positions:
    """What a strategy holds on each market; on spot nothing below 0."""
    found = {lane.symbol: strategy(lane.frame)[-where.days.bars :] for lane in where.lanes}
    return found if short else {symbol: np.maximum(held, 0.0) for symbol, held in found.items()}


def study(
    real: Setting,
    placebos: Sequence[Setting],
    strategies: Mapping[str, Strategy],
    config: Config,
    progress: Callable[[str], None] = lambda name: None,
) -> Study:
    """Everything but the verdicts.

    Args:
        real: the markets.
        placebos: the same with random signs.
        strategies: by name.
        config: costs and rules.
        progress: told each strategy when it is done.

    Raises:
        StudyError: too few days, or no market.
    """
    if not real.lanes:
        raise StudyError(f"{real.days}: no market has candles; choose other days or markets")
    if real.days.bars < LEAST_IDEA_DAYS * DAY_BARS:
        raise StudyError(
            f"{real.days.bars // DAY_BARS} days are too few: a study needs {LEAST_IDEA_DAYS}, and "
            f"{HISTORY_BARS // DAY_BARS + 1} of candles before them"
        )
    terms = config.strategies
    without: dict[str, str] = {}
    if "funding_carry" in strategies and not real.has_funding:
        without["funding_carry"] = "no funding rate is known of these markets"
    tried = {name: one for name, one in strategies.items() if name not in without}
    held = {name: [positions(one, where, terms.short) for where in (real, *placebos)] for name, one in tried.items()}
    results = []
    for name, (own, *flipped) in held.items():
        results.append(_result(name, real, own, [*zip(placebos, flipped, strict=True)], config))
        progress(name)
    steps: list[Step] = []
    if built_in := [name for name in held if name in _BUILT_IN]:
        try:
            found, steps = _matrix(real, placebos, [held[name] for name in built_in], built_in, config)
            results.append(found)
            progress(MATRIX)
        except StudyError as error:
            without = {**without, MATRIX: str(error)}
    return Study(real.days, tuple(lane.symbol for lane in real.lanes), tuple(results), tuple(steps), without)


def _matrix(
    real: Setting, placebos: Sequence[Setting], held: Sequence[Sequence[Positions]], names: Sequence[str],
    config: Config,
) -> tuple[Result, list[Step]]:  # fmt: skip
    """The matrix of some strategies, on the months after those that it is first chosen on.

    Raises:
        StudyError: these are too few.
    """
    own, steps = _walk(real, [one[0] for one in held], names, config)
    tested = Span(steps[0].test.start, steps[-1].test.end) if steps else Span(real.days.end, real.days.end)
    days = tested.bars // DAY_BARS
    if days < LEAST_IDEA_DAYS:
        raise StudyError(f"the days after the months it is chosen on are {days}, and it needs {LEAST_IDEA_DAYS}")
    others = [
        (where, _walk(where, [one[1 + place] for one in held], names, config)[0])
        for place, where in enumerate(placebos)
    ]
    return _result(MATRIX, real, own, others, config, tested), steps


_BUILT_IN = ("trend_following", "mean_reversion", "range_trading", "funding_carry")


def _cut(where: Setting, days: Span) -> slice:
    """The bars of some days of a setting."""
    first = (days.start - where.days.start) // BAR
    return slice(first, first + days.bars)


def _earned(where: Setting, held: Positions, cost: float) -> dict[str, Earned]:
    return {lane.symbol: accounting.earned(held[lane.symbol], lane.prices, cost) for lane in where.lanes}


def _of_days(found: Earned, prices: Prices, bars: slice) -> tuple[Earned, Prices]:
    """Both on some whole days only."""
    days = slice(bars.start // DAY_BARS, bars.stop // DAY_BARS)
    cut = Earned(*(values[bars] for values in vars(found).values()))
    return cut, Prices(prices.returns[bars], prices.tradable[bars], prices.funding[bars], prices.known[days])


def _result(
    name: str, real: Setting, own: Positions, others: Sequence[tuple[Setting, Positions]], config: Config,
    days: Span | None = None,
) -> Result:  # fmt: skip
    """What positions did on the real markets, with their controls, on all days or on some of them."""
    days = days or real.days
    cost = config.strategies.cost
    found = _earned(real, own, cost)
    cut = {lane.symbol: _of_days(found[lane.symbol], lane.prices, _cut(real, days)) for lane in real.lanes}
    net, holding = _against_holding(cut)
    placebo = np.zeros(net.size)
    for where, held in others:
        flipped = _earned(where, held, cost)
        on_placebo = {
            lane.symbol: _of_days(flipped[lane.symbol], lane.prices, _cut(where, days)) for lane in where.lanes
        }
        one, other = _against_holding(on_placebo)
        placebo += (one - other) / len(others)
    known = np.array([prices.known for _, prices in cut.values()])
    share = known / np.maximum(known.sum(axis=0), 1)
    moved = np.zeros((net.size, net.size))
    for place, (made, prices) in enumerate(cut.values()):
        moved += accounting.at_other_days(made, prices) * share[place]
    return Result(
        name,
        days,
        {symbol: one for symbol, (one, _) in cut.items()},
        {symbol: accounting.exposure(*both) for symbol, both in cut.items()},
        {symbol: accounting.by_day(prices.returns - prices.funding) for symbol, (_, prices) in cut.items()},
        net,
        *_sized(real, own, days, config),
        Idea(net, holding, accounting.shifted(moved, resample.LEAST_SHIFT_DAYS), placebo),
    )


def _against_holding(cut: Mapping[str, tuple[Earned, Prices]]) -> tuple[Floats, Floats]:
    """Net by day of all markets with equal capital, and what holding each one's mean exposure would have earned."""
    known = np.array([prices.known for _, prices in cut.values()])
    count = np.maximum(known.sum(axis=0), 1)
    net = np.array([accounting.by_day(one.net) for one, _ in cut.values()])
    exposure = np.array([accounting.exposure(one, prices) for one, prices in cut.values()])
    market = np.array([accounting.by_day(prices.returns - prices.funding) for _, prices in cut.values()])
    return (net * known).sum(axis=0) / count, (exposure[:, None] * market * known).sum(axis=0) / count


def _sized(real: Setting, own: Positions, days: Span, config: Config) -> tuple[Floats, Floats]:
    """Net by day with the sizes of the rules, shares of the equity: without Kelly, and with it of the days before."""
    terms = config.strategies
    cap = sizing.most(config.portfolio.limits, len(real.lanes))
    net = np.mean([one.net for one in _earned(real, own, terms.cost).values()], axis=0)
    stakes = kelly_by_bar(accounting.by_day(net), real.days)

    def net_with(kelly: Floats) -> Floats:
        total = np.zeros(real.days.bars)
        for lane in real.lanes:
            size = sizing.size(lane.atr, lane.sigma, kelly, terms.sizing, cap)
            # Sized once a day, so that the size itself trades little.
            daily = np.repeat(size.reshape(-1, DAY_BARS)[:, 0], DAY_BARS)
            total += accounting.earned(own[lane.symbol] * daily, lane.prices, terms.cost).net
        return accounting.by_day(total[_cut(real, days)])

    return net_with(np.full(stakes.size, np.inf)), net_with(stakes)


def kelly_by_bar(net: Floats, days: Span) -> Floats:
    """The Kelly stake at each bar, from all days before its month; 0 while these are too few, or may as well lose.

    Args:
        net: of the days, shape (D,).
        days: whole days.
    """
    stakes = np.zeros(days.bars)
    for month in days.months():
        before = (month.start - days.start) // BAR // DAY_BARS
        # What lost may as well lose, and needs no interval.
        if before == 0 or net[:before].sum() <= 0:
            continue
        found = performance.measure(1.0 + np.append(0.0, np.cumsum(net[:before])), 1.0)
        figure = next(one for one in found.figures if one.metric == "kelly")
        first = (month.start - days.start) // BAR
        stakes[first : first + month.bars] = figure.value or 0.0
    return stakes


def _walk(
    where: Setting, held: Sequence[Positions], names: Sequence[str], config: Config
) -> tuple[Positions, list[Step]]:
    """The matrix, month by month, chosen on the months before; no step where there are too few of them.

    Args:
        where: the markets.
        held: of each strategy.
        names: their names.
        config: costs and months.
    """
    months = [month for month in where.days.months() if month.start.day == 1]
    train = config.strategies.train_months
    cost = config.strategies.cost
    on = {lane.symbol: np.array([one[lane.symbol] for one in held]) for lane in where.lanes}
    # What is decided as a bar closes earns in the bar after it.
    after = {
        lane.symbol: np.array(
            [np.append(accounting.earned(position, lane.prices, cost).net[1:], 0.0) for position in on[lane.symbol]]
        )
        for lane in where.lanes
    }
    own = {lane.symbol: np.zeros(where.days.bars) for lane in where.lanes}
    steps = []
    for place in range(train, len(months)):
        past, month = Span(months[place - train].start, months[place - 1].end), months[place]
        inside = np.zeros(where.days.bars, np.bool_)
        # The last bar of the past earns in the month that is tested.
        inside[_cut(where, past)] = True
        inside[_cut(where, past).stop - 1] = False
        scenario = {lane.symbol: _cells(lane, inside) for lane in where.lanes}
        parts = [(scenario[lane.symbol], after[lane.symbol], inside) for lane in where.lanes]
        chosen = matrix.choose(parts, len(names))
        followed = {lane.symbol: matrix.held(scenario[lane.symbol], on[lane.symbol], chosen) for lane in where.lanes}
        for symbol, values in followed.items():
            own[symbol][_cut(where, month)] = values[_cut(where, month)]
        words = tuple(names[one] if one >= 0 else None for one in chosen)
        daily = [_daily_mean(where, followed, days, cost) for days in (past, month)]
        steps.append(Step(past, month, words, *daily))
    return own, steps


def _cells(lane: Lane, inside: Flags) -> Integers:
    past = lane.sigma[inside]
    past = past[np.isfinite(past)]
    return matrix.cells(lane.verdict, lane.sigma, float(np.median(past)) if past.size else np.nan)


def _daily_mean(where: Setting, held: Positions, days: Span, cost: float) -> float:
    """Net, mean of a day, of positions that begin and end with some days."""
    bars = _cut(where, days)
    inside = np.zeros(where.days.bars)
    inside[bars] = 1.0
    begun = {symbol: values * inside for symbol, values in held.items()}
    found = _earned(where, begun, cost)
    cut = {lane.symbol: _of_days(found[lane.symbol], lane.prices, bars) for lane in where.lanes}
    return float(_against_holding(cut)[0].mean())


def first_whole_day(candles: pl.DataFrame) -> datetime:
    """The first day that can be judged: all that features look back on is there of the market that begins first."""
    oldest = candles["open_time"].min()
    assert isinstance(oldest, datetime)
    begun = Span(oldest, oldest + BAR).start + (HISTORY_BARS + DAY_BARS - 1) * BAR
    return begun.replace(hour=0, minute=0, second=0, microsecond=0)


def placebos_of(
    candles: pl.DataFrame, funding: pl.DataFrame, days: Span, config: Config, progress: Callable[[str], None]
) -> list[Setting]:
    """The markets with random signs, one setting a seed; funding rates stay as they are."""
    found = []
    for seed in PLACEBOS:
        found.append(setting(flip(candles, seed), funding, days, config))
        progress(f"placebo {seed} of {iso(days.start)[:10]}")
    return found
