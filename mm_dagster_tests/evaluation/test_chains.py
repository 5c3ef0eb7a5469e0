"""Chains of grids beside a naive follower of the capital, bar by bar and start by start."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import DAY_BARS, Span
from mm_dagster.evaluation import chains
from mm_dagster.evaluation.chains import EXITS, FREE, GATED, Openings, openings
from mm_dagster.evaluation.cohort import Cohort, cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import measured_markets
from mm_dagster.evaluation.signals import break_probability
from mm_dagster_tests.evaluation.walks import CONFIG, SYMBOLS, days_of, walk

DAYS = 150
GATE = 0.20

Told = tuple[Cohort, np.ndarray]


@pytest.fixture(scope="module")
def told() -> list[Told]:
    days, found = days_of(DAYS), []
    for number, symbol in enumerate(SYMBOLS):
        for market in measured_markets([symbol], walk(symbol, DAYS, number), days, CONFIG):
            cohort = cohort_of(market, open_daily(market, days, CONFIG.evaluation), 14 * DAY_BARS)
            found.append((cohort, break_probability(cohort, market, CONFIG)))
    return found


@pytest.fixture(scope="module")
def markets(told: list[Told]) -> list[Openings]:
    return [openings(cohort, probability) for cohort, probability in told]


def followed(cohort: Cohort, probability: np.ndarray, limit: float, gate: float, start: int) -> float:
    """Log growth of the capital of one chain, its grids looked at bar by bar."""
    first = cohort.grids[0].activated_at.toordinal()
    opens_on = {grid.activated_at.toordinal() - first: row for row, grid in enumerate(cohort.grids)}
    capital, day = 1.0, start
    while day <= max(opens_on):
        row = opens_on.get(day)
        if row is None or not probability[row, 0] < gate:
            day += 1
            continue
        column = 0
        while not (
            probability[row, column] >= limit
            or (cohort.low[row, column] <= cohort.grids[row].stop and column > 0)
            or _two_above(cohort, row, column)
            or column == cohort.last[row]
        ):
            column += 1
        capital *= cohort.left[row, column] / 100.0
        # The order is filled in the bar after the one that decides; the next midnight is the first to open anew.
        bars = day * DAY_BARS + column + 1
        day = -(-bars // DAY_BARS)
    return float(np.log(capital))


def _two_above(cohort: Cohort, row: int, column: int) -> bool:
    upper = cohort.grids[row].upper
    return column > 0 and bool((cohort.close[row, column - 1 : column + 1] > upper).all())


@pytest.mark.slow
@pytest.mark.parametrize("limit", EXITS)
@pytest.mark.parametrize(("entry", "gate"), [(FREE, 2.0), (GATED, GATE)])
def test_a_chain_grows_as_one_that_is_followed_bar_by_bar(
    told: list[Told], markets: list[Openings], limit: float, entry: str, gate: float
) -> None:
    found = {(one.exit, one.entry, one.metric): one for one in chains.measure(markets, GATE)}
    by_hand, days = 0.0, 0
    for cohort, probability in told:
        grown = [followed(cohort, probability, limit, gate, start) for start in range(chains.STARTS)]
        by_hand += float(np.mean(grown))
        days += (cohort.grids[-1].activated_at - cohort.grids[0].activated_at).days + 1
    assert found[limit, entry, "growth_percent_per_week"].value == pytest.approx(700.0 * by_hand / days, abs=1e-6)
    assert found[limit, entry, "gain_vs_cash"] == found[limit, entry, "growth_percent_per_week"]._replace(
        metric="gain_vs_cash"
    )


def test_an_open_gate_changes_nothing_and_a_shut_one_leaves_cash(markets: list[Openings]) -> None:
    by_gate = {
        gate: {(one.exit, one.entry, one.metric): one for one in chains.measure(markets, gate)} for gate in (2, 0)
    }
    for limit in EXITS:
        for metric in ("growth_percent_per_week", "gain_vs_hold", "gain_vs_same_schedule"):
            gated, free = (by_gate[2][limit, entry, metric] for entry in (GATED, FREE))
            assert gated._replace(entry=FREE) == free
        assert by_gate[2][limit, GATED, "gain_of_gate"].value == 0
        shut = by_gate[0][limit, GATED, "growth_percent_per_week"]
        assert (shut.value, shut.n) == (0, 0)
        gate = by_gate[0][limit, GATED, "gain_of_gate"].value
        assert gate == pytest.approx(-by_gate[0][limit, FREE, "growth_percent_per_week"].value)


def test_on_a_random_walk_no_chain_beats_its_own_schedule_at_other_dates(markets: list[Openings]) -> None:
    for one in chains.measure(markets, GATE):
        if one.metric == "gain_vs_same_schedule":
            assert one.low is not None
            assert one.low < 0, one


def test_who_never_leaves_gains_nothing_on_holding(markets: list[Openings]) -> None:
    never = [
        replace(one, exits={limit: np.full_like(one.over, one.left.shape[1] - 1) for limit in EXITS}) for one in markets
    ]
    for one in chains.measure(never, GATE):
        if one.metric == "gain_vs_hold":
            assert one.value == 0


def test_a_year_without_candles_is_no_year_in_cash_and_sells_no_grid() -> None:
    """The same candles with a hole of a year before them, and other candles before the hole."""
    hole = timedelta(days=364)
    early = walk(SYMBOLS[0], 80, 5)
    late = walk(SYMBOLS[0], DAYS, 0).with_columns(pl.col("open_time", "close_time") + hole)
    late = late.with_columns(pl.col("open", "high", "low", "close") * 7.0)

    def follow(candles: pl.DataFrame, days: Span) -> Openings:
        market = next(measured_markets([SYMBOLS[0]], candles, days, CONFIG))
        cohort = cohort_of(market, open_daily(market, days, CONFIG.evaluation), 14 * DAY_BARS)
        assert cohort.left.max() < 200, "a grid that ends in the hole is not sold a year later"
        return openings(cohort, break_probability(cohort, market, CONFIG))

    both = follow(pl.concat([early, late]), Span(days_of(80).start, days_of(DAYS).end + hole))
    assert _known_days(follow(late, Span(days_of(DAYS).start + hole, days_of(DAYS).end + hole))) > 90
    assert 120 < _known_days(both) < 80 + DAYS < _days(both)


def _days(one: Openings) -> int:
    return int(one.day[-1] - one.day[0])


def _known_days(one: Openings) -> int:
    return int(chains._known(one).sum())


def test_no_market_no_figure_and_few_weeks_no_interval(markets: list[Openings]) -> None:
    assert chains.measure([], GATE) == []
    few = [
        replace(
            one, day=one.day[:20], left=one.left[:20], over=one.over[:20], chance=one.chance[:20],
            exits={limit: columns[:20] for limit, columns in one.exits.items()},
        )
        for one in markets
    ]  # fmt: skip
    for figure in chains.measure(few, GATE):
        assert figure.low is None
        assert figure.high is None
        # In 20 days no other date is far enough away: nothing is held against nothing.
        if figure.metric == "gain_vs_same_schedule":
            assert figure.value is None
        else:
            assert figure.value is not None
            assert np.isfinite(figure.value)


def test_a_market_too_young_for_other_dates_takes_the_others_no_figure(markets: list[Openings]) -> None:
    old, young = markets[:2], markets[2]
    few = replace(
        young, day=young.day[:20], left=young.left[:20], over=young.over[:20], chance=young.chance[:20],
        exits={limit: columns[:20] for limit, columns in young.exits.items()},
    )  # fmt: skip
    alone, beside = (
        {one[:3]: one.value for one in chains.measure(some, GATE) if one.metric == "gain_vs_same_schedule"}
        for some in (old, [*old, few])
    )
    assert beside == pytest.approx(alone)
