"""The promotion gate: candidates for a trigger on grids that a rule opens, and anything that gives daily returns.

Both are held against the same markets with random signs. Nothing is switched on by what passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, natural_log
from mm_dagster.bars import DAY_BARS, HOUR_BARS, Span, iso
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import resample
from mm_dagster.evaluation.cohort import cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import HISTORY_BARS, measured_markets
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.placebo import SIGNS, flip
from mm_dagster.evaluation.resample import BLOCK_DAYS, LEAST_BLOCKS
from mm_dagster.research import book_candidates, candidates, deflation, gate, models
from mm_dagster.research.gate import Gain
from mm_dagster.research.questions import Questions, forecast, pooled, questions_on
from mm_dagster.tables.registry import empty

LEAST_DAYS = 2 * LEAST_BLOCKS * BLOCK_DAYS
"""Days with grids that the gate needs: the second half is tested, and is drawn anew in blocks."""


class PromotionError(Exception):
    """The gate cannot answer. One line, with the remedy."""


@dataclass(frozen=True)
class Result:
    """What one candidate adds, and what it adds on the placebo."""

    candidate: str
    gain: Gain
    placebo: Gain

    @property
    def passes(self) -> bool:
        """Whether it passes the whole gate."""
        return self.gain.promising and self.gain.beats(self.placebo)


Values = Mapping[str, Floats]
"""Of each candidate at each question."""
_Told = Callable[[str, pl.DataFrame, Market, bool], Values]
"""What candidates say at every bar of a market: of its symbol, its candles, its measures, and whether it is real."""


def results_of(real: tuple[gate.Walk, Values], placebo: tuple[gate.Walk, Values]) -> Iterator[Result]:
    """Every candidate through the gate.

    Args:
        real: the walk over the questions, and the candidates' values at each.
        placebo: likewise.
    """
    (steps, values), (flipped, others) = real, placebo
    for name in values:
        yield Result(name, gate.measure(steps, values[name]), gate.measure(flipped, others[name]))


@dataclass(frozen=True)
class Findings:
    """What the gate says.

    Attributes:
        results: one a candidate.
        questions: how many there are, and how many of them are tested.
        grids: on which they are put.
        stored: models of the real markets that were taken from the lake.
        fitted: those that were fitted here.
    """

    results: tuple[Result, ...]
    questions: tuple[int, int]
    grids: int
    stored: int
    fitted: int


def reach(days: Span) -> Span:
    """The days, with all that features and candidates look back on."""
    return Span(min(days.back(HISTORY_BARS).start, candidates.reach(days).start), days.end)


def judge(
    candles: Mapping[str, pl.DataFrame],
    stored: Mapping[str, pl.DataFrame],
    days: Span,
    config: Config,
    progress: Callable[[str], None] = lambda symbol: None,
) -> Findings:
    """Puts the monthly models through the gate, on the grids that the rule opens on these days.

    Args:
        candles: rows of `candles` by symbol, in the `reach` of the days, or as far back as they go.
        stored: rows of `candidate_parameters` by symbol. A model that is not there, or was fitted on other hours, is
            fitted here; so are all of the placebo.
        days: whole days; nothing later is looked at.
        config: under which everything is computed.
        progress: told each market twice: when it is done, and when its placebo is.

    Raises:
        PromotionError: too few days have grids, or too few of these broke.
    """
    _enough(days.bars // DAY_BARS, days)
    source = _Source(stored)

    def told(symbol: str, frame: pl.DataFrame, market: Market, is_real: bool) -> Values:
        known = source if is_real else _Source({})
        said = _said(frame, market, days, known.of(symbol, candidates.reach(days)))
        return values_of(said, forecast(market, config))

    results, questions, grids = _judged(candles, days, config, told, progress)
    return Findings(results, questions, grids, source.found, source.fitted)


def judge_books(
    candles: Mapping[str, pl.DataFrame],
    books: Mapping[str, pl.DataFrame],
    days: Span,
    config: Config,
    progress: Callable[[str], None] = lambda symbol: None,
) -> Findings:
    """Puts the features of recorded books through the gate, those of the quarter hour before each question.

    On the placebo they are the same: what tells of volatility alone adds as much there, and no direction can be known.

    Args:
        candles: as of `judge`.
        books: rows of `book_features` by symbol, of the exchange of its candles.
        days: whole days on which books were recorded.
        config: under which everything is computed.
        progress: as of `judge`.

    Raises:
        PromotionError: as of `judge`.
    """

    def told(symbol: str, _: pl.DataFrame, market: Market, __: bool) -> Values:
        return book_candidates.lanes(books[symbol], market.span)

    results, questions, grids = _judged(candles, days, config, told, progress)
    return Findings(results, questions, grids, 0, 0)


def _judged(
    candles: Mapping[str, pl.DataFrame], days: Span, config: Config, told: _Told, progress: Callable[[str], None]
) -> tuple[tuple[Result, ...], tuple[int, int], int]:
    """Candidates through the gate: what it says of each, how many questions there are and are tested, how many grids.

    Args:
        candles: rows of `candles` by symbol.
        days: whole days.
        config: under which everything is computed.
        told: what candidates say at every bar of a market: of its symbol, candles and measures, and whether they are
            the real ones.
        progress: told each market twice.
    """
    together = pl.concat(list(candles.values())).filter(pl.col("open_time") < days.end)
    sides = []
    for frame, is_real in ((together, True), (flip(together, SIGNS), False)):
        parts: list[tuple[Questions, dict[str, Floats]]] = []
        for symbol in candles:
            parts += _of_market(symbol, frame.filter(pl.col("symbol") == symbol), days, config, told, is_real)
            progress(symbol)
        opened = [asked.day for asked, _ in parts if asked.grid.size]
        _enough(int(np.ptp(np.concatenate(opened))) + 1 if opened else 0, days)
        asked = pooled(questions for questions, _ in parts)
        sides.append((asked, {name: np.concatenate([values[name] for _, values in parts]) for name in parts[0][1]}))
    (asked, values), (other, others) = sides
    results = tuple(results_of((asked.walk(), values), (other.walk(), others)))
    tested = results[0].gain.tested
    if not tested or not results[0].placebo.tested:
        raise PromotionError(
            f"{days}: in the first half none of the grids broke, or all did, so nothing can be fitted; choose more "
            "days, or more markets"
        )
    return results, (asked.place.size, tested), asked.day.size


class _Source:
    """Where models come from: the lake, or a fit; and how many came from each."""

    def __init__(self, stored: Mapping[str, pl.DataFrame]) -> None:
        self._stored = stored
        self.found = self.fitted = 0

    def of(self, symbol: str, span: Span) -> candidates.Fit:
        known = candidates.Stored(self._stored.get(symbol, empty("candidate_parameters")))

        def model(kind: type[models.Model], month: int, past: Floats) -> models.Model:
            found = known.model(kind, candidates.time_of(month, span), past)
            if found is None:
                self.fitted += 1
                return candidates.fit(kind, month, past)
            self.found += 1
            return found

        return model


def _of_market(
    symbol: str, candles: pl.DataFrame, days: Span, config: Config, told: _Told, is_real: bool
) -> Iterator[tuple[Questions, dict[str, Floats]]]:
    """The questions on one market, and what the candidates say at each; nothing where no grid can be opened."""
    for market in measured_markets([symbol], candles, days, config):
        grids = open_daily(market, days, config.evaluation)
        if grids:
            asked = questions_on(market, cohort_of(market, grids, config.evaluation.life_days * DAY_BARS), config)
            over = told(symbol, candles, market, is_real)
            yield asked, {name: values[asked.place] for name, values in over.items()}


def _said(candles: pl.DataFrame, market: Market, days: Span, fitted: candidates.Fit) -> dict[str, Floats]:
    """What the models say at every bar of a market, NaN where no hour closes with it."""
    span = candidates.reach(days)
    returns = candidates.hourly_returns(candles, span)
    months = [candidates.place_of(month, span) for month in candidates.months_of(days)]
    closes = market.place(span.start) + (np.arange(returns.size) + 1) * HOUR_BARS
    inside = (closes >= 0) & (closes < market.span.bars)
    lanes = {}
    for name, hourly in candidates.monthly(returns, [*months, returns.size], fitted).items():
        lanes[name] = np.full(market.span.bars, np.nan)
        lanes[name][closes[inside]] = hourly[inside]
    return lanes


def values_of(said: Mapping[str, Floats], sigma: Floats) -> dict[str, Floats]:
    """The candidates, from what the models say: a forecast of volatility counts by how far it is from the program's.

    Args:
        said: by the names of `candidates.MODELS`, of any shape.
        sigma: the program's forecast, of the same shape.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        over = natural_log(said["garch_forecast"] / sigma)
    return {"hmm_rough": said["hmm_rough"], "hmm_falling": said["hmm_falling"], "garch_over_forecast": over}


def _enough(opened: int, days: Span) -> None:
    """
    Raises:
        PromotionError: grids can be opened on too few days.
    """
    if opened < LEAST_DAYS:
        raise PromotionError(
            f"{days}: the gate needs grids on {LEAST_DAYS} days, and they can be opened on {opened}; choose more days, "
            f"and `mm backfill --from {iso(reach(days).start)[:10]}` what is read before them"
        )


class Idea(NamedTuple):
    """The daily returns of an idea beside its controls; D whole days that follow each other, fractions of the capital.

    Attributes:
        net: what it earned, all costs taken off, shape (D,).
        holding: what anybody earned who held its mean exposure all the time, shape (D,).
        shifted: what the same schedule earned begun on other days, shape (shifts, D).
        placebo: what it earned above holding on the same markets with random signs, mean of several, shape (D,).
    """

    net: Floats
    holding: Floats
    shifted: Floats
    placebo: Floats

    @property
    def blocks(self) -> Floats:
        """What it earned above holding by whole blocks of BLOCK_DAYS, shape (blocks,)."""
        return blocks_of(self.net - self.holding)


class Tried(NamedTuple):
    """What was tried on these data before, and now.

    Attributes:
        trials: how many different ideas, this one included.
        ratios: mean over deviation of the blocks of those that are known, shape (n,).
    """

    trials: int
    ratios: Floats


class Bound(NamedTuple):
    """A mean of days with its 95 % interval, fractions of the capital a day."""

    value: float
    low: float
    high: float


class _Bounds(NamedTuple):
    net: Bound
    over_holding: Bound
    over_shifted: Bound
    over_placebo: Bound


class Promotion(NamedTuple):
    """What the gate says of daily returns.

    Attributes:
        net: mean of a day.
        over_holding: the same less holding its mean exposure.
        over_shifted: the same less the mean of the shifted schedules.
        over_placebo: over_holding less that of the placebo.
        p_shifted: share of shifted schedules that earned as much.
        deflated: probability that it is better than the best of as many worthless ideas by luck.
        trials: how many ideas were tried on these data.
        refused: why it does not pass, a clause each; empty: it passes.
    """

    net: Bound
    over_holding: Bound
    over_shifted: Bound
    over_placebo: Bound
    p_shifted: float
    deflated: float
    trials: int
    refused: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether it passes the whole gate."""
        return not self.refused


SURE = 0.95
"""What the deflated probability has to reach; and a share of 1 - SURE of the shifted schedules may be as good."""
LEAST_IDEA_DAYS = LEAST_BLOCKS * BLOCK_DAYS
"""Fewer days are no answer."""


def blocks_of(daily: Floats) -> Floats:
    """Means by whole blocks of BLOCK_DAYS, the days at the end that fill none left out, shape (blocks,)."""
    whole = daily.size // BLOCK_DAYS
    return daily[: whole * BLOCK_DAYS].reshape(whole, BLOCK_DAYS).mean(axis=1)


def judge_idea(idea: Idea, tried: Tried) -> Promotion:
    """Puts daily returns through the gate: a strategy's, a maker's, anybody's.

    It passes if it earned something; if lower bounds lie above 0 against holding its mean exposure, against its own
    schedule begun on other days and against the placebo; if at most one shifted schedule in 20 earned as much; and if
    it is better than the best of all that were tried on these data would be by luck.

    Args:
        idea: its days.
        tried: of the ledger of trials, never of the caller's memory.

    Raises:
        PromotionError: too few days, or one without a known return.
    """
    days = idea.net.size
    if days < LEAST_IDEA_DAYS:
        raise PromotionError(f"{days} days are too few: the gate needs {LEAST_IDEA_DAYS}")
    for name, values in zip(("net", "holding", "shifted", "placebo"), idea, strict=True):
        if values.shape[-1] != days or not np.isfinite(values).all():
            raise PromotionError(f"{name}: a day is missing or not finite")
    edge = idea.net - idea.holding
    drawn = resample.in_blocks(days)
    bounds = _Bounds(
        *(
            _bound(values[drawn].mean(axis=1))
            for values in (idea.net, edge, idea.net - idea.shifted.mean(axis=0), edge - idea.placebo)
        )
    )
    as_good = float(np.mean(idea.shifted.sum(axis=1) >= idea.net.sum() - 1e-12))
    blocks = idea.blocks
    luck = deflation.best_by_luck(tried.ratios, tried.trials, 1 / np.sqrt(blocks.size))
    deflated = deflation.probability(blocks, luck)
    refused = _refusals(bounds, as_good, deflated, tried.trials)
    return Promotion(*bounds, as_good, deflated, tried.trials, refused)


def _bound(means: Floats) -> Bound:
    return Bound(float(means[0]), *resample.interval(means[1:]))


def _refusals(bounds: _Bounds, as_good: float, deflated: float, trials: int) -> tuple[str, ...]:
    net, holding, shifted, placebo = bounds
    found = {
        "it earned nothing": net.value > 0,
        "no surer than holding its mean exposure": holding.low > 0,
        "no surer than its schedule on other days": shifted.low > 0,
        f"{as_good:.0%} of the shifted schedules earned as much": as_good <= 1 - SURE,
        "no surer than on markets with random signs": placebo.low > 0,
        f"luck is not ruled out among {trials} tried ({deflated:.2f}, needs {SURE:.2f})": deflated >= SURE,
    }
    return tuple(why for why, holds in found.items() if not holds)
