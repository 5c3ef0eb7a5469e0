"""What leaving was said to cost beside what came: counted by hand, without a look ahead, and true on real candles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.evaluation import leaving, monthly
from mm_dagster.evaluation.cohort import NEVER, cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import judge_and_leave, leavings_on, measured_markets
from mm_dagster.evaluation.leaving import BROKEN, LATEST, MOMENTS, NOTIONALS, Leavings, Left, find
from mm_dagster.evaluation.signals import signals_of
from mm_dagster.execution import costs
from mm_dagster.execution.costs import HORIZONS
from mm_dagster.grid.slippage import Traded
from mm_dagster.tables import registry
from mm_dagster_tests.evaluation.test_monthly import alerts
from mm_dagster_tests.evaluation.walks import CONFIG, SYMBOLS, days_of, walk

NAN = math.nan
DAYS = 150


def value(rows: Sequence[Left], metric: str, minutes: int | None = None, notional: float | None = None) -> float:
    found = find(rows, BROKEN, metric, minutes, notional)
    assert found is not None, metric
    return found.value


def test_the_drift_is_that_of_the_mean_price_of_the_bars_after() -> None:
    opens = np.array([100.0, 98.0, 96.0, 100.0, 101.0, 99.0])
    prices = {"open": opens, "high": opens + 2.0, "low": opens - 2.0, "close": opens}
    assert leaving.drift(prices, np.array([0, 1]), 1) == pytest.approx([200.0, 1e4 * 2 / 98])
    # 98, 96, 100 and 101 are 98.75 on average.
    assert leaving.drift(prices, np.array([0]), 4) == pytest.approx([125.0])


def test_an_outcome_whose_time_has_not_passed_or_whose_bar_is_missing_is_not_known() -> None:
    closes = np.array([100.0, 99.0, 98.0, 97.0, 96.0, 95.0, 94.0, 93.0])
    prices = dict.fromkeys(("open", "high", "low", "close"), closes)
    known = ~np.isnan(leaving.drift(prices, np.arange(8), 4))
    assert known.tolist() == [True] * 4 + [False] * 4
    assert np.isnan(leaving.drift(prices, np.array([7]), 1)).all()
    holed = {name: np.where(np.arange(8) == 3, NAN, values) for name, values in prices.items()}
    assert np.isnan(leaving.drift(holed, np.arange(4), 4)).all()
    assert np.isnan(leaving.drift(holed, np.arange(4), 1)).tolist() == [False, False, True, True]


def leavings(
    drifts: dict[int, list[float]], volume: float, sigma: float = 0.001, days: Sequence[int] | None = None
) -> Leavings:
    """Moments with these drifts on a market that trades so much a minute."""
    count = len(drifts[15])
    market = Traded(np.full(count, sigma), np.full(count, volume))
    forecast = np.full(count, sigma * math.sqrt(60))
    return Leavings(
        symbol="AAA-USDT",
        place=np.arange(count),
        day=np.array(days if days is not None else [1] * count, np.int64),
        drift={minutes: np.array(values) for minutes, values in drifts.items()},
        market=market,
        forecast=forecast,
        costs={sold: costs.model(np.full(count, sold), 2.5e-4, forecast, market, 0.001) for sold in NOTIONALS},
    )


def test_every_figure_by_hand() -> None:
    # A minute has a standard deviation of 10 basis points: the mean price over 15 and 60 of 22.36 and 44.72.
    inside, outside = 22.36 * 1.32 - 0.1, 22.36 * 1.32 + 0.1
    one = leavings({15: [inside, -inside, outside, -22.36 * 1.77], 60: [0.0, 62.7, 78.3, 500.0]}, volume=1e6)
    rows = leaving.measure(BROKEN, [one])
    assert {row.metric for row in rows} == set(leaving.METRICS)
    assert all((row.moment, row.low, row.high) == (BROKEN, None, None) for row in rows)
    assert value(rows, "coverage_80", 15) == 0.5
    assert value(rows, "coverage_90", 15) == 0.75
    # 1.40 and 1.75 times 44.72 are 62.6 and 78.3.
    assert value(rows, "coverage_80", 60) == 0.25
    assert value(rows, "coverage_90", 60) == pytest.approx(0.5)
    for sold in NOTIONALS:
        said = one.costs[sold].expected[0]
        for column, minutes in enumerate(HORIZONS):
            assert value(rows, "expected_bp", minutes, sold) == pytest.approx(said[column])
        assert value(rows, "realised_bp", 60, sold) == pytest.approx(said[3] + (62.7 + 78.3 + 500.0) / 4)
        # A twentieth of four moments is a part of the dearest one.
        assert value(rows, "worst_5_bp", 60, sold) == pytest.approx(said[3] + 500.0)
        assert value(rows, "worst_5_bp", 0, sold) == pytest.approx(said[0])
        # So much is traded that the plan is to sell at once.
        for way in ("now", "plan"):
            assert value(rows, f"{way}_mean_bp", None, sold) == pytest.approx(said[0])
            assert value(rows, f"{way}_worst_5_bp", None, sold) == pytest.approx(said[0])
        assert value(rows, "plan_now_share", None, sold) == value(rows, "now_share", None, sold) == 1.0
        assert find(rows, BROKEN, "realised_bp", 5, sold) is None


def test_the_plan_costs_what_its_own_horizon_came_to() -> None:
    # 10,000 are 100 minutes of this market: an hour costs less, whatever the price may do.
    one = leavings({15: [5.0, 5.0], 60: [-30.0, 90.0]}, volume=100.0, sigma=0.0005)
    said = one.costs[10_000.0]
    assert said.chosen.argmax(axis=1).tolist() == [3, 3]
    rows = leaving.measure(BROKEN, [one])
    assert value(rows, "plan_mean_bp", None, 10_000.0) == pytest.approx(said.expected[0, 3] + 30.0)
    assert value(rows, "plan_worst_5_bp", None, 10_000.0) == pytest.approx(said.expected[0, 3] + 90.0)
    saved = said.expected[0, 0] - said.expected[0, 3]
    assert value(rows, "gain_mean_bp", None, 10_000.0) == pytest.approx(saved - 30.0)
    assert value(rows, "gain_worst_5_bp", None, 10_000.0) == pytest.approx(saved - 90.0)
    assert value(rows, "plan_now_share", None, 10_000.0) == 0.0
    # All is beyond a minute's volume: of what the model was fitted to there is no case.
    assert find(rows, BROKEN, "now_share", None, 10_000.0) is None


def test_only_moments_of_which_all_is_known_count_and_none_is_no_figure() -> None:
    one = leavings({15: [1.0, 2.0, NAN], 60: [1.0, NAN, NAN]}, volume=1e6)
    assert {row.n for row in leaving.measure(BROKEN, [one])} == {1}
    assert leaving.measure(BROKEN, [leavings({15: [1.0], 60: [NAN]}, volume=1e6)]) == []
    assert leaving.measure(BROKEN, [leavings({15: [], 60: []}, volume=1e6)]) == []
    assert leaving.measure(BROKEN, []) == []


@given(
    st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=1, max_size=30),
    st.floats(1e2, 1e7),
    st.floats(1e-5, 1e-2),
)
def test_shares_are_shares_wider_holds_more_and_gains_add_up(
    drifts: list[tuple[float, float]], volume: float, sigma: float
) -> None:
    rows = leaving.measure(
        BROKEN, [leavings({15: [one for one, _ in drifts], 60: [two for _, two in drifts]}, volume, sigma)]
    )
    for minutes in leaving.BARS:
        assert 0 <= value(rows, "coverage_80", minutes) <= value(rows, "coverage_90", minutes) <= 1
    for sold in NOTIONALS:
        for figure in ("mean", "worst_5"):
            now, plan, gain = (value(rows, f"{name}_{figure}_bp", None, sold) for name in ("now", "plan", "gain"))
            assert gain == pytest.approx(now - plan, abs=1e-6)
        assert value(rows, "plan_worst_5_bp", None, sold) >= value(rows, "plan_mean_bp", None, sold) - 1e-6
        if (now_share := find(rows, BROKEN, "now_share", None, sold)) is not None:
            assert now_share.value == 1.0


@pytest.fixture(scope="module")
def candles() -> pl.DataFrame:
    return walk(SYMBOLS[0], DAYS, 3)


def test_a_bar_is_a_moment_once_however_many_grids_it_breaks_and_never_beyond_a_life(candles: pl.DataFrame) -> None:
    days = days_of(DAYS)
    market = next(measured_markets([SYMBOLS[0]], candles, days, CONFIG))
    cohort = cohort_of(market, open_daily(market, days, CONFIG.evaluation), 14 * DAY_BARS)
    place = leaving.moments(market, cohort, cohort.broken)
    starts = [market.place(grid.first_as_of) for grid in cohort.grids]
    wanted = {
        start + int(column)
        for start, column, last in zip(starts, cohort.broken, cohort.last, strict=True)
        if column <= last
    }
    assert place.tolist() == sorted(wanted)
    assert 5 < place.size < len(cohort.grids)
    assert leaving.moments(market, cohort, np.full(len(cohort.grids), NEVER)).size == 0
    assert leaving.moments(market, cohort, cohort.last + 1).size == 0
    # The close of a break lies below the grid that broke, or the low at its stop.
    for start, grid, column, last in zip(starts, cohort.grids, cohort.broken, cohort.last, strict=True):
        if column <= last:
            low, close = market.prices["low"][start + column], market.prices["close"][start + column]
            assert close < grid.lower or low <= grid.stop

    signals = signals_of(cohort, market, CONFIG)
    after = leaving.after(market, cohort, signals, CONFIG)
    assert set(after) == set(MOMENTS)
    asked = signals.alarms["confirmed", "LATEST_ACCEPTABLE_EXIT"]
    entered = {start + int(row.argmax()) for start, row in zip(starts, asked, strict=True) if row.any()}
    assert after[LATEST].place.tolist() == sorted(entered)


def test_the_month_judges_the_same_moments_as_the_command(candles: pl.DataFrame) -> None:
    days, symbol = days_of(DAYS), SYMBOLS[0]
    found = leavings_on(symbol, candles, days, CONFIG)
    wanted = [one for moment in MOMENTS for one in leaving.measure(moment, [found[moment]])]
    # Nobody operates a grid here.
    operated = monthly.Operated(registry.empty("grid_episode"), alerts([1.0]).clear())
    assert list(monthly.assess([symbol], lambda _: candles, operated, days, CONFIG).leaving) == wanted
    market = next(measured_markets([symbol], candles, days, CONFIG))
    _, again = judge_and_leave(market, open_daily(market, days, CONFIG.evaluation), CONFIG)
    assert all(again[moment].place.tolist() == found[moment].place.tolist() for moment in MOMENTS)


def test_what_was_said_is_the_same_whatever_came_and_what_came_is_told_when_its_time_has_passed(
    candles: pl.DataFrame,
) -> None:
    whole = leavings_on(SYMBOLS[0], candles, days_of(DAYS), CONFIG)[BROKEN]
    # Known only up to a quarter hour after one of the breaks.
    market = next(measured_markets([SYMBOLS[0]], candles, days_of(DAYS), CONFIG))
    alone = whole.place[:-1][np.diff(whole.place) > 1]
    place = int(alone[alone.size // 2])
    until = market.span.start + (place + 2) * BAR
    first = days_of(DAYS).start
    days = Span(first, first + ((until - first) // (DAY_BARS * BAR) + 1) * DAY_BARS * BAR)
    then = leavings_on(SYMBOLS[0], candles.filter(pl.col("close_time") <= until), days, CONFIG)[BROKEN]
    count = then.place.size
    assert then.place.tolist() == whole.place[:count].tolist()
    assert then.place[-1] == place
    for sold in NOTIONALS:
        for name in ("expected", "deviation", "chosen", "score"):
            a, b = (getattr(one.costs[sold], name)[:count] for one in (then, whole))
            assert np.array_equal(a, b), name
    for minutes, bars in leaving.BARS.items():
        passed = then.place + bars <= place + 1
        assert passed[-1] == (minutes == 15)
        assert np.array_equal(~np.isnan(then.drift[minutes]), passed)
        assert np.array_equal(then.drift[minutes][passed], whole.drift[minutes][:count][passed])


def coverage(value: float, low: float | None, high: float | None, minutes: int = 15) -> list[Left]:
    return [Left(BROKEN, minutes, None, "coverage_80", value, low, high, 640)]


@pytest.mark.parametrize(
    ("rows", "passed", "says"),
    [
        ([], True, "there is nothing to judge yet"),
        (coverage(0.3, None, None), True, "too few weeks to say more"),
        (
            coverage(0.795, 0.72, 0.86),
            True,
            "Of 640 breaks below, the cost came within the 80 % interval in 80 % (72 to",
        ),
        (coverage(0.7, 0.66, 0.76), True, "nothing speaks against it"),
        (coverage(0.7, 0.66, 0.74), False, "too narrow: leaving may cost more than was said"),
        (coverage(0.96, 0.93, 0.99), False, "wider than need be"),
        (coverage(0.8, 0.7, 0.9) + coverage(0.6, 0.5, 0.7, 60), False, "80 % (70 to 90 %) over 15 min and 60 % (50 to"),
    ],
    ids=["nothing", "few", "true", "just", "narrow", "wide", "one of two"],
)
def test_the_check_warns_only_where_the_coverage_surely_lies_outside(rows: list[Left], passed: bool, says: str) -> None:
    assert leaving.verdict(rows)[0] == passed
    assert says in leaving.verdict(rows)[1]


def test_weeks_enough_give_an_interval() -> None:
    days = [7 * number for number in range(40)]
    # Two weeks after two weeks both, one or none of two comes within it.
    one = leavings({15: [0.0, 0.0, 0.0, 100.0, 100.0, 100.0, 0.0, 100.0] * 5, 60: [0.0] * 40}, volume=1e6, days=days)
    found = find(leaving.measure(BROKEN, [one]), BROKEN, "coverage_80", 15)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0.2 < found.low < found.value == 0.5 < found.high < 0.8


BANDS = {"coverage_80": (0.78, 0.90), "coverage_90": (0.88, 0.96)}


@pytest.mark.parametrize(
    "name",
    [
        "KuCoin 2025, September to December",
        pytest.param("Binance 2022, January to June", marks=pytest.mark.long),
    ],
)
def test_on_real_candles_that_nothing_was_fitted_on_the_intervals_come_true_and_the_plan_is_no_dearer(
    name: str, shared_data: Path
) -> None:
    from benchmarks.exit_cost import JUDGED
    from benchmarks.sets import grids_on
    from benchmarks.shared import CONFIG as DEFAULTS

    [one] = [part for part in JUDGED if part.name == name]
    found = [
        leaving.after(market, cohort, signals_of(cohort, market, DEFAULTS), DEFAULTS)
        for symbol in one.markets()
        for market, cohort in grids_on(one, symbol)
    ]
    for moment in MOMENTS:
        rows = leaving.measure(moment, [left[moment] for left in found])
        assert len(rows) > 30
        for row in rows:
            low, high = BANDS.get(row.metric, (-math.inf, math.inf))
            assert low <= row.value <= high, row
            if row.metric == "now_share":
                assert row.value == 1.0, row
            if row.metric == "gain_worst_5_bp":
                assert row.value >= -1e-9, row
        assert leaving.verdict(rows)[0]
