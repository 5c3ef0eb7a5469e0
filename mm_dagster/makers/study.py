"""Makers on recorded books, stretch by stretch: fitted on the earlier ones, quoting on the next, beside controls.

A stretch begins and ends without inventory, so that its result is its own. The controls of a maker are the same quotes
at other times of the stretch, the same quotes with their sides exchanged, the naive maker, and doing nothing, which
makes 0. Nothing is judged here: that needs the ledger of trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Floats, Integers
from mm_dagster.books.book import BP
from mm_dagster.books.ladder import Scale
from mm_dagster.config.makers import MakersConfig
from mm_dagster.errors import ForeseenError
from mm_dagster.makers import quotes
from mm_dagster.makers.fill_probability import FillModel, columns_of, fit
from mm_dagster.makers.ledger import Ledger, ledger_of
from mm_dagster.makers.matching import CLOSED, MICRO, MOST, Matched, Plan, Terms, match
from mm_dagster.makers.moments import Moments, moments_of
from mm_dagster.makers.probe import Probes, probe
from mm_dagster.makers.sizing import terms_of
from mm_dagster.makers.track import SECOND_NS, Track, TrackError, cut

MINUTE_NS = 60 * SECOND_NS
OWN = "own"
"""The name of a maker that somebody brings."""
FEES_BP = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Fees less rebates at which each maker is tried, beside that of makers.yaml."""
PARTS = ("spread", "fees", "adverse_selection", "inventory")


class MakersError(ForeseenError):
    """A study of makers has no answer; one line, with the remedy."""


@dataclass(frozen=True)
class Stretch:
    """A part of a track, ready to be quoted on.

    Attributes:
        track: of it.
        moments: its decisions.
        terms: of all quotes of the study.
        columns: what the fill model looks at, shape (n, 2, k, c).
        probes: what a lot would have become everywhere.
    """

    track: Track
    moments: Moments
    terms: Terms
    columns: Floats
    probes: Probes


@dataclass(frozen=True)
class Made:
    """What a maker made of a stretch.

    Attributes:
        matched: its fills.
        ledger: marked.
        shifted: of the same quotes at other times.
        swapped: of the same quotes with their sides exchanged.
        decisions: how many it made while the book was known.
        quoting: at how many of these it quoted on a side at least.
        held: mean inventory over the stretch, lots.
        move: of the mid from the first decision with a book to the end, ticks.
    """

    matched: Matched
    ledger: Ledger
    shifted: tuple[Ledger, ...]
    swapped: Ledger
    decisions: int
    quoting: int
    held: float
    move: float


@dataclass(frozen=True)
class Outcome:
    """A maker at a fee, by stretch.

    Attributes:
        maker: its name.
        fee_bp: fee less rebate, basis points.
        parts: PARTS, quote currency, shape (4, s).
        turnover: quote currency, shape (s,).
        holding: what its mean inventory made by being held, quote currency, shape (s,).
        shifted: of the same quotes at other times, quote currency, shape (shifts, s).
        swapped: of the same quotes with their sides exchanged, shape (s,).
        fills: how many, without those that close.
        decisions: how many.
        quoting: at how many of these it quoted.
        markouts_bp: mean of the fills that rested, weighted by turnover, after 1, 5 and 30 s; NaN without one.
    """

    maker: str
    fee_bp: float
    parts: Floats
    turnover: Floats
    holding: Floats
    shifted: Floats
    swapped: Floats
    fills: int
    decisions: int
    quoting: int
    markouts_bp: Floats

    @property
    def net(self) -> Floats:
        """Quote currency of each stretch."""
        return self.parts.sum(axis=0)


@dataclass(frozen=True)
class Study:
    """All of it.

    Attributes:
        outcomes: of each maker and fee.
        starts: when each stretch that was quoted on began, UTC nanoseconds, shape (s,).
        models: what was fitted before each; None: too little had been filled.
        made: by maker, at the fee of makers.yaml, of each stretch.
        calibration: of the probes of those stretches, what was predicted and whether it was filled; shape (2, p).
        terms: of the quotes.
        unit: ticks times lots of one of the quote currency.
        scale: of prices and amounts.
    """

    outcomes: tuple[Outcome, ...]
    starts: Integers
    models: tuple[FillModel | None, ...]
    made: dict[str, tuple[Made, ...]]
    calibration: Floats
    terms: Terms
    unit: int
    scale: Scale


Quoter = Callable[[Stretch], Plan]
"""Somebody's own quotes on a stretch."""


def stretches(tracks: Sequence[Track], config: MakersConfig) -> list[Stretch]:
    """The whole stretches of some tracks of one market, in order of time.

    Raises:
        MakersError: there are too few, or their numbers are too great.
    """
    length = length_ns(config)
    found: list[Stretch] = []
    for track in tracks:
        whole = known_on(track, config)
        for start in range(track.from_ns, track.until_ns - length + 1, length):
            part = stretch_of(track, whole, start, config, found[0].terms if found else None)
            if part is not None:
                found.append(part)
    if len(found) <= config.learn_stretches:
        raise MakersError(
            f"{len(found)} whole stretches of {config.stretch_minutes:g} minutes with a book: a study needs "
            f"{config.learn_stretches + 1}; record longer, or lower stretch_minutes or learn_stretches in makers.yaml"
        )
    return found


def length_ns(config: MakersConfig) -> int:
    """Of a stretch, nanoseconds."""
    return round(config.stretch_minutes * MINUTE_NS)


def known_on(track: Track, config: MakersConfig) -> Moments:
    """What is known at each decision of a track.

    Raises:
        MakersError: its numbers are too great.
    """
    whole = moments_of(track, config.decide_ms * 1_000_000, config.distances_bp)
    if int(whole.ask.max(initial=0)) * MICRO >= MOST // 4:
        market = f"{track.market.exchange}:{track.market.symbol}"
        raise MakersError(f"{market}: its prices have more decimals than the study has room for")
    return whole


def stretch_of(
    track: Track, whole: Moments, start_ns: int, config: MakersConfig, terms: Terms | None
) -> Stretch | None:  # fmt: skip
    """The stretch of a track that begins at a time; None: nobody could quote on it.

    Args:
        track: of a market; where it ends before the stretch does, so does what is given.
        whole: what is known on the track, see `known_on`.
        start_ns: UTC nanoseconds.
        config: makers.yaml.
        terms: of the market's first stretch; None: it is this one.
    """
    end_ns = start_ns + length_ns(config)
    try:
        part = cut(track, start_ns, end_ns)
    except TrackError:
        return None
    moments = whole.between(start_ns, end_ns)
    if not moments.known.any():
        return None
    terms = terms or terms_of(part, moments, config)
    return Stretch(part, moments, terms, columns_of(moments, terms.unit_lots), probe(part, moments, terms))


def swapped(plan: Plan, moments: Moments) -> Plan:
    """The same quotes with bids where asks were, as far from the mid: worth as much to who knows no direction."""
    twice_mid = np.rint(moments.mid * 2_000_000).astype(np.int64)[:, None, None]
    price = np.where(plan.price > 0, twice_mid - plan.price[:, ::-1], 0)
    value, chance, lots = (table[:, ::-1].copy() for table in (plan.value, plan.chance, plan.lots))
    return Plan(price, value, chance, lots, plan.skew, plan.cost)


def make(stretch: Stretch, plan: Plan, shifts: int) -> Made:
    """Matches a plan on a stretch, and its controls.

    Raises:
        PlanError: its numbers are too great.
    """
    matched, ledger = _matched(stretch, plan)
    moments = stretch.moments
    steps = np.linspace(0, int(moments.known.sum()), shifts + 2).astype(int)[1:-1].tolist()
    others = tuple(_matched(stretch, quotes.shifted(plan, moments, one))[1] for one in steps)
    quoting = (matched.quotes[:, :, 1] > 0).any(axis=1) & moments.known
    mid = moments.mid[moments.bid > 0]
    return Made(
        matched,
        ledger,
        others,
        _matched(stretch, swapped(plan, moments))[1],
        int(moments.known.sum()),
        int(quoting.sum()),
        _held(matched, stretch.track),
        ledger.final / 2 - float(mid[0]),
    )


def _matched(stretch: Stretch, plan: Plan) -> tuple[Matched, Ledger]:
    track, moments = stretch.track, stretch.moments
    if not (plan.value > 0).any():
        none = Matched(np.zeros((0, 6), np.int64), np.zeros((len(moments.at), 2, 3), np.int64), 0, 0, 0)
        return none, ledger_of(none, moments.tops, track.unit, track.until_ns)
    matched = match(track, moments.at, plan, stretch.terms)
    return matched, ledger_of(matched, moments.tops, track.unit, track.until_ns)


def _held(matched: Matched, track: Track) -> float:
    """Mean inventory, lots."""
    fills = matched.fills
    left = track.until_ns - fills[:, 0]
    return float((fills[:, 1] * fills[:, 3] * left).sum()) / (track.until_ns - track.from_ns)


def outcome(maker: str, fee_bp: float, made: Sequence[Made], taker_fee_bp: float) -> Outcome:
    """What a maker made at a fee, by stretch."""

    def net(ledger: Ledger) -> float:
        return float(sum(part.sum() for part in ledger.parts(fee_bp, taker_fee_bp).values()))

    parts = [[float(one.ledger.parts(fee_bp, taker_fee_bp)[name].sum()) for one in made] for name in PARTS]
    rested = [one.ledger.fills[:, 5] != CLOSED for one in made]
    weight = np.concatenate([one.ledger.turnover[use] for one, use in zip(made, rested, strict=True)])
    marks = np.concatenate([one.ledger.markouts_bp()[use] for one, use in zip(made, rested, strict=True)])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weight[:, None] * marks).sum(axis=0) / weight.sum()
    return Outcome(
        maker,
        fee_bp,
        np.array(parts),
        np.array([float(one.ledger.turnover.sum()) for one in made]),
        np.array([one.held * one.move / one.ledger.unit for one in made]),
        np.array([[net(ledger) for ledger in one.shifted] for one in made]).T.reshape(-1, len(made)),
        np.array([net(one.swapped) for one in made]),
        sum(int(use.sum()) for use in rested),
        sum(one.decisions for one in made),
        sum(one.quoting for one in made),
        mean,
    )


def study(
    parts: Sequence[Stretch],
    config: MakersConfig,
    own: Quoter | None = None,
    fees_bp: Sequence[float] = FEES_BP,
    progress: Callable[[int], None] = lambda done: None,
) -> Study:
    """Walks forward over the stretches.

    Args:
        parts: see `stretches`.
        config: makers.yaml.
        own: somebody's own quotes, made on every stretch that is quoted on.
        fees_bp: fees less rebates to try beside that of makers.yaml.
        progress: told how many stretches are done.
    """
    fees = tuple(sorted({*fees_bp, config.net_fee_bp}))
    made: dict[tuple[str, float | None], list[Made]] = {}
    models, calibration = [], []
    learned = [(one.columns, one.probes) for one in parts]
    tested = parts[config.learn_stretches :]
    for place, stretch in enumerate(tested, start=config.learn_stretches):
        model = fit(learned[:place])
        models.append(model)
        for name, fee, plan in _plans(stretch, config, model, fees, own):
            made.setdefault((name, fee), []).append(make(stretch, plan, config.shifts))
        if model is not None:
            known = stretch.probes.known
            calibration.append([model.probability(stretch.columns[known]), stretch.probes.filled[known]])
        progress(place - config.learn_stretches + 1)
    outcomes = tuple(
        outcome(name, fee, whole, config.taker_fee_bp)
        for (name, fixed), whole in made.items()
        for fee in (fees if fixed is None else (fixed,))
    )
    return Study(
        outcomes,
        np.array([one.track.from_ns for one in tested]),
        tuple(models),
        {name: tuple(whole) for (name, fee), whole in made.items() if fee in (None, config.net_fee_bp)},
        np.concatenate(calibration, axis=1) if calibration else np.zeros((2, 0)),
        tested[0].terms,
        tested[0].track.unit,
        tested[0].track.market.scale,
    )


def _plans(
    stretch: Stretch, config: MakersConfig, model: FillModel | None, fees: Sequence[float], own: Quoter | None
) -> Iterator[tuple[str, float | None, Plan]]:
    """Every maker's plan, and the fee that it knows; None: it knows none."""
    yield quotes.NAIVE, None, plan_of(quotes.NAIVE, stretch, config, model)
    yield quotes.GLFT, None, plan_of(quotes.GLFT, stretch, config, model)
    for fee in fees:
        yield quotes.EXPECTED_VALUE, fee, plan_of(quotes.EXPECTED_VALUE, stretch, config, model, fee)
    if own is not None:
        yield OWN, None, own(stretch)


def plan_of(
    maker: str, stretch: Stretch, config: MakersConfig, model: FillModel | None, fee_bp: float | None = None
) -> Plan:
    """What a maker quotes on a stretch.

    Args:
        maker: one of `quotes.MAKERS`.
        stretch: which.
        config: makers.yaml.
        model: fitted on earlier stretches; None: who needs one quotes nothing.
        fee_bp: fee less rebate that it knows, if it asks for one; None: that of makers.yaml.
    """
    moments, terms = stretch.moments, stretch.terms
    if maker == quotes.NAIVE:
        return quotes.naive(moments, terms, config)
    if model is None:
        return Plan.empty(len(moments.at))
    if maker == quotes.GLFT:
        return quotes.glft(moments, terms, config, model)
    return quotes.expected_value(moments, terms, config, model, config.net_fee_bp if fee_bp is None else fee_bp)


def per_turnover_bp(found: Outcome) -> float:
    """Net over what was traded, basis points; NaN where nothing was."""
    traded = float(found.turnover.sum())
    return float(found.net.sum()) / traded / BP if traded > 0 else float("nan")
