"""Does a backtest of the last week choose width, levels and stop? And what does a grid earn without a direction?

Every midnight, on every market, each of 100 sets of parameters is laid around the price. The one whose grid, opened a
week before, is worth most now is opened, held to its stop or for a fortnight, and stands against the grid of the fixed
rule and against one of the 100 taken blindly. A price is only a unit: the candles are divided by the price at the
midnight, so that each set of parameters is one book for all midnights and markets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import NamedTuple

import numpy as np

from benchmarks.portfolio import judged
from benchmarks.portfolio.judged import Figure, Gains, Judgement
from benchmarks.portfolio.panel import LIFE, Panel
from benchmarks.portfolio.ranking import SEEDS
from benchmarks.shared import CONFIG, Lot
from mm_dagster.arrays import Floats, Integers
from mm_dagster.bars import DAY_BARS
from mm_dagster.evaluation import resample
from mm_dagster.evaluation.cohort import HOLE
from mm_dagster.evaluation.episodes import CAPITAL
from mm_dagster.evaluation.market import Market
from mm_dagster.grid.replay import GridTerms, quantity_per_cell, replay, terms

WIDTHS = (0.04, 0.06, 0.09, 0.13, 0.20)
"""Log distance of either bound from the price."""
LEVELS = (3, 5, 8, 12, 16)
"""Geometric steps between the bounds; the smallest of all is 2.5 times the one that pays its fees."""
STOPS = (0.01, 0.03, 0.06, 0.10)
"""How far below the lower bound, as a fraction of it."""
BACKTEST_DAYS = 7
PLANTED = "the one that will be worth most"


class Parameters(NamedTuple):
    """One set of parameters; a value each of WIDTHS, LEVELS and STOPS."""

    width: float
    levels: int
    stop: float

    def __str__(self) -> str:
        return f"{100 * self.width:.0f} %, {self.levels} levels, stop {100 * self.stop:.0f} %"

    def terms(self) -> GridTerms:
        """The book of a grid that is activated at price 1."""
        fees = CONFIG.evaluation.fees
        prices = np.exp(np.linspace(-self.width, self.width, self.levels + 1))
        stop = math.exp(-self.width) * (1.0 - self.stop)
        return terms(prices, quantity_per_cell(prices, 1.0, CAPITAL, fees), 1.0, CAPITAL, stop, fees)


TRIED = tuple(Parameters(*one) for one in product(WIDTHS, LEVELS, STOPS))
FEWEST = [place for place, one in enumerate(TRIED) if one.levels == LEVELS[0]]
"""Those of the fewest levels."""


@dataclass(frozen=True)
class Tried:
    """The 100 grids of every midnight and market of a recording, and the fixed rule's.

    Attributes:
        name: of the recording.
        day: number of each day, shape (d,).
        tested: what each set of parameters opened BACKTEST_DAYS before is worth at the midnight, percent of the
            capital, shape (d, m, 100); NaN where unknown.
        held: equity of each opened at the midnight, after the fortnight, likewise.
        fixed: of the fixed rule's, shape (d, m).
        booked: grid profit of the fixed rule's, percent of the capital, likewise.
    """

    name: str
    day: Integers
    tested: Floats
    held: Floats
    fixed: Floats
    booked: Floats

    def between(self, first: int, end: int) -> Tried:
        """The midnights from one day to before another."""
        rows = (self.day >= first) & (self.day < end)
        values = {one.name: getattr(self, one.name)[rows] for one in fields(self) if one.name != "name"}
        return Tried(self.name, **values)


@dataclass(frozen=True)
class Parametered:
    """What was found.

    Attributes:
        choices: by name of the choice, and what it stands against.
        sets: the gains of the same choices by set.
        best: the best of the 100 in hindsight, and its gain on the fixed rule.
        fewest: share of the backtest's choices that have the fewest levels; a fifth of the 100 have.
        noise: of the seeds of blind choices, how many have an interval above 0 against the mean of the 100, and how
            many pass.
        seeds: of noise.
        driftless: by set, and of all: what the fixed rule's grids booked and what was left of it, on the markets and on
            the placebo.
        levels: by width, mean result by levels at a stop of 3 %, and what the fewest gain on the most; on the markets
            and on the placebo.
        grids: of the fixed rule, by set.
        days: midnights with one.
    """

    choices: Mapping[str, Judgement]
    sets: Mapping[str, Mapping[str, Figure]]
    best: tuple[Parameters, Judgement]
    fewest: float
    noise: tuple[int, int]
    seeds: int
    driftless: Mapping[str, tuple[Figure, ...]]
    levels: Mapping[float, tuple[Sequence[Figure], Sequence[Figure]]]
    grids: Mapping[str, int]
    days: Mapping[str, int]


@dataclass(frozen=True)
class TriedPair:
    """A set and its placebo."""

    real: Tried
    placebo: Tried


def tried(lot: Lot, panel: Panel) -> Tried:
    """All grids of a recording, or of its placebo.

    Args:
        lot: the markets.
        panel: the fixed rule's grids on them.
    """
    books = [one.terms() for one in TRIED]
    shape = (panel.day.size, len(lot.markets), len(TRIED))
    tested, held = np.full(shape, np.nan), np.full(shape, np.nan)
    first = panel.day[0]
    for column, market in enumerate(lot.markets):
        for row in range(panel.day.size):
            place = (int(first) + row - lot.span.start.toordinal()) * DAY_BARS - 1
            after, end = _worth(market, place, books)
            if row + BACKTEST_DAYS < panel.day.size:
                tested[row + BACKTEST_DAYS, column] = after
            held[row, column] = end
    return Tried(lot.name, panel.day, tested, held, panel.held, panel.booked)


def _worth(market: Market, place: int, books: Sequence[GridTerms]) -> tuple[Floats, Floats]:
    """Of grids opened at the close of a bar: after BACKTEST_DAYS and LIFE days, percent of the capital, shape (100,).

    The first is sold at the open of the bar that closes at that midnight, which is known by then; the second at the
    next open, as `Cohort.left` has it.
    """
    unknown = np.full(len(books), np.nan)
    columns = LIFE * DAY_BARS
    price = market.prices["close"][place]
    opens, highs, lows, closes = (
        market.prices[name][place : place + columns + 2] / price for name in ("open", "high", "low", "close")
    )
    if np.isnan(price) or closes.size < BACKTEST_DAYS * DAY_BARS + 1:
        return unknown, unknown
    # The grid begins flat at the close of its first bar.
    opens[0], highs[0], lows[0] = 1.0, 1.0, 1.0
    tested, held = unknown.copy(), unknown.copy()
    for number, book in enumerate(books):
        lived = replay(book, opens, highs, lows, closes)
        for into, column in ((tested, BACKTEST_DAYS * DAY_BARS - 1), (held, columns)):
            # The newest bar has no next open: it is sold at its close.
            sold_at = opens[column + 1] if column + 1 < opens.size else closes[-1] if column < opens.size else np.nan
            inventory = lived.inventory[column] if column < opens.size else np.nan
            value = lived.cash[min(column, opens.size - 1)] + (
                0.0 if inventory == 0 else inventory * sold_at * book.sold_for
            )
            into[number] = 100.0 * value / book.capital
    if np.isnan(closes).sum() >= HOLE:
        held[:] = np.nan
    if np.isnan(closes[: BACKTEST_DAYS * DAY_BARS + 1]).sum() >= HOLE:
        tested[:] = np.nan
    return tested, held


def chosen(liked: Floats, held: Floats) -> Floats:
    """Equity of what is liked most, the first of equals, shape (d, m); NaN where not all are known.

    Args:
        liked: of each set of parameters, shape (d, m, 100).
        held: their equity after the fortnight, likewise.
    """
    known = np.asarray(np.isfinite(liked).all(axis=2))
    best = np.argmax(np.where(known[:, :, None], liked, 0.0), axis=2)
    return np.where(known, np.take_along_axis(held, best[:, :, None], axis=2)[:, :, 0], np.nan)


def _daily(values: Floats) -> Floats:
    """Mean over the markets where known, shape (d, ...)."""
    known = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)


CHOICES = (
    "backtest less the fixed rule",
    "one of the 100 taken blindly less the fixed rule",
    "backtest less one taken blindly",
    f"backtest less one of {LEVELS[0]} levels taken blindly",
    f"planted: {PLANTED}, less the fixed rule",
)


def _gains(one: Tried) -> Floats:
    """Of CHOICES a day, shape (d, choices)."""
    by_backtest = chosen(one.tested, one.held)
    blindly = one.held.mean(axis=2)
    fewest = one.held[:, :, FEWEST].mean(axis=2)
    ahead = chosen(one.held, one.held)
    fixed = np.where(np.isfinite(by_backtest), one.fixed, np.nan)
    # Where the fixed rule has no grid nothing is compared.
    found = (by_backtest - fixed, blindly - fixed, by_backtest - blindly, by_backtest - fewest, ahead - fixed)
    return np.column_stack([_daily(values + 0.0 * fixed) for values in found])


def measure(pairs: Mapping[str, TriedPair], seeds: int = SEEDS) -> Parametered:
    """The choices, the best of all, and the two facts, on each set and on all of them.

    Args:
        pairs: by name of the set.
        seeds: of blind choices.
    """
    by_set = {name: Gains(pair.real.day, _gains(pair.real), _planted_on(pair)) for name, pair in pairs.items()}
    every = judged.joined(list(by_set.values()))
    blind = judged.joined([_blind(pair, number, seeds) for number, pair in enumerate(pairs.values())])
    luck = judged.luck_of(blind, len(TRIED))
    found = judged.judged(every, luck)
    chances = judged.judged(blind, luck)
    each = judged.joined(
        [
            Gains(
                pair.real.day,
                *(_daily(one.held - one.fixed[:, :, None]) for one in (pair.real, pair.placebo)),
            )
            for pair in pairs.values()
        ]
    )
    best = int(np.nanargmax(judged.drawn_means(each.day, each.real)[0]))
    [of_best] = judged.judged(Gains(each.day, each.real[:, [best]], each.placebo[:, [best]]), luck)
    return Parametered(
        choices=dict(zip(CHOICES, found, strict=True)),
        sets={name: dict(zip(CHOICES, judged.figures(one.day, one.real), strict=True)) for name, one in by_set.items()},
        best=(TRIED[best], of_best),
        fewest=_fewest([pair.real for pair in pairs.values()]),
        noise=(sum(one.gain.low > 0 for one in chances), sum(one.passes for one in chances)),
        seeds=seeds,
        driftless={
            **{name: _driftless([pair]) for name, pair in pairs.items()},
            "all sets together": _driftless(list(pairs.values())),
        },
        levels=_levels(list(pairs.values())),
        grids={name: int(np.isfinite(pair.real.fixed).sum()) for name, pair in pairs.items()},
        days={name: int(np.isfinite(pair.real.fixed).any(axis=1).sum()) for name, pair in pairs.items()},
    )


def _fewest(sets: Sequence[Tried]) -> float:
    """See `Parametered.fewest`."""
    liked = np.concatenate([one.tested[np.isfinite(one.tested).all(axis=2)] for one in sets])
    return float(np.isin(np.argmax(liked, axis=1), FEWEST).mean())


def _planted_on(pair: TriedPair) -> Floats:
    """The gains on the placebo; what looks ahead still knows the real market, which says nothing there."""
    found = _gains(pair.placebo)
    ahead = chosen(pair.real.held, pair.placebo.held)
    known = np.isfinite(chosen(pair.placebo.tested, pair.placebo.held))
    found[:, -1] = _daily(np.where(known, ahead - pair.placebo.fixed, np.nan))
    return found


def _blind(pair: TriedPair, number: int, seeds: int) -> Gains:
    """Of choices by chance, one a midnight and market, against the mean of all."""
    found: list[list[Floats]] = [[], []]
    for seed in range(seeds):
        drawn = np.random.default_rng(seeds * number + seed).random(pair.real.held.shape)
        for one, into in zip((pair.real, pair.placebo), found, strict=True):
            into.append(_daily(chosen(drawn, one.held) - one.held.mean(axis=2)))
    return Gains(pair.real.day, np.column_stack(found[0]), np.column_stack(found[1]))


def _driftless(pairs: Sequence[TriedPair]) -> tuple[Figure, ...]:
    """Booked and net on the markets, and the same on the placebo; a mean over grids, drawn as `quality` draws them."""
    found = []
    for which in ("real", "placebo"):
        booked, net, day, symbol = [], [], [], []
        for number, pair in enumerate(pairs):
            one: Tried = getattr(pair, which)
            known = np.isfinite(one.fixed)
            rows, columns = np.nonzero(known)
            booked.append(one.booked[known])
            net.append(one.fixed[known] - 100.0)
            day.append(one.day[rows])
            symbol.append(100 * number + columns)
        days = np.concatenate(day)
        weights = resample.draws(days - days.min(), np.concatenate(symbol))
        for values in (booked, net):
            drawn = resample.mean(weights, np.concatenate(values))
            if not resample.enough(days):
                drawn[1:] = np.nan
            found.append(judged.figure(drawn))
    return tuple(found)


def _levels(pairs: Sequence[TriedPair]) -> dict[float, tuple[Sequence[Figure], Sequence[Figure]]]:
    """By width, the mean result by levels and the difference of the fewest and the most, at the fixed rule's stop."""
    places = {
        width: [TRIED.index(Parameters(width, levels, CONFIG.evaluation.stop)) for levels in LEVELS] for width in WIDTHS
    }
    day = np.concatenate([pair.real.day for pair in pairs])
    found: dict[float, tuple[Sequence[Figure], Sequence[Figure]]] = {}
    for width, those in places.items():
        both = []
        for which in ("real", "placebo"):
            values = np.concatenate([_daily(getattr(pair, which).held[:, :, those]) - 100.0 for pair in pairs])
            both.append(judged.figures(day, np.column_stack([values, values[:, 0] - values[:, -1]])))
        found[width] = (both[0], both[1])
    return found
