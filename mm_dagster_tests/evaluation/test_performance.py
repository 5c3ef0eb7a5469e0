"""Figures of an equity: plain references, other programs' errors, and every edge at which a ratio has no meaning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.sandwich_covariance import S_hac_simple

from mm_dagster.arrays import Floats
from mm_dagster.evaluation import performance, resample
from mm_dagster.evaluation.performance import METRICS, Figure, measure

CAPITAL = 1_000.0
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def marks_of(days: int, seed: int = 1, mean: float = 0.001, follows: float = 0.0) -> Floats:
    """Marks of an equity that begins with the capital; a day follows the one before to a share."""
    steps = 0.01 * np.random.default_rng(seed).standard_t(5, days)
    for day in range(1, days):
        steps[day] += follows * steps[day - 1]
    return CAPITAL * (1 + np.concatenate([[0.0], np.cumsum(mean + steps)]))


def figures(marks: Floats, capital: float = CAPITAL) -> dict[str, Figure]:
    return {figure.metric: figure for figure in measure(marks, capital).figures}


def values(marks: Floats, capital: float = CAPITAL) -> dict[str, float | None]:
    return {metric: figure.value for metric, figure in figures(marks, capital).items()}


# the figures ----------------------------------------------------------------------------------------------------------


def test_every_figure_is_the_plain_formula() -> None:
    marks = marks_of(365, mean=0.003)
    returns = pd.Series(np.diff(marks) / CAPITAL)
    below = np.sqrt((returns.clip(upper=0) ** 2).mean())
    drawdown = 1 - marks / np.maximum.accumulate(marks)
    worst = np.sort(returns)
    assert values(marks) == pytest.approx(
        {
            "total_return": 100 * (marks[-1] - marks[0]) / CAPITAL,
            "daily_return": 100 * returns.mean(),
            "volatility": 100 * math.sqrt(365) * returns.std(),
            "sharpe": math.sqrt(365) * returns.mean() / returns.std(),
            "sharpe_error": math.sqrt(365 * (1 + (returns.mean() / returns.std()) ** 2 / 2) / 365),
            "sharpe_error_serial": values(marks)["sharpe_error_serial"],
            "sortino": math.sqrt(365) * returns.mean() / below,
            "calmar": 365 * returns.mean() / drawdown.max(),
            "max_drawdown": drawdown.max(),
            "max_drawdown_days": values(marks)["max_drawdown_days"],
            "profit_factor": returns[returns > 0].sum() / -returns[returns < 0].sum(),
            # 18 days and a quarter of the next one.
            "daily_shortfall_5pct": 100 * (worst[:18].sum() + 0.25 * worst[18]) / 18.25,
            "kelly": returns.mean() / returns.var(),
        },
        rel=1e-10,
    )


@pytest.mark.parametrize(("seed", "follows"), [(1, 0.0), (2, 0.4), (3, -0.4)])
def test_the_serial_error_is_the_one_of_statsmodels_long_run_variance(seed: int, follows: float) -> None:
    marks = marks_of(300, seed, follows=follows)
    returns = np.diff(marks) / CAPITAL
    sharpe = returns.mean() / returns.std(ddof=1)
    standard = (returns - returns.mean()) / returns.std()
    influence = standard - sharpe * (standard**2 - 1) / 2
    variance = float(S_hac_simple(influence[:, None], nlags=resample.BLOCK_DAYS - 1)[0, 0]) / 300
    assert values(marks)["sharpe_error_serial"] == pytest.approx(math.sqrt(365 * variance / 300), rel=1e-12)


def test_the_error_is_how_far_the_ratios_of_independent_normal_days_lie_apart() -> None:
    """4,000 series of 120 days."""
    days = np.random.default_rng(3).normal(0.4, 1.0, (4_000, 120))
    ratios = days.mean(axis=1) / days.std(axis=1, ddof=1)
    assert performance._error(0.4, 120) == pytest.approx(float(ratios.std()), rel=0.04)


def test_days_that_follow_each_other_have_a_larger_error_than_independent_ones() -> None:
    found = values(marks_of(365, 4, follows=0.5))
    assert (found["sharpe_error_serial"] or 0) > 1.2 * (found["sharpe_error"] or 0)


def deepest(marks: list[float]) -> tuple[float, int]:
    """The deepest fall and its days, one mark after another; the first of equals."""
    depth, length, top = 0.0, 0, 0
    for day, mark in enumerate(marks):
        if mark >= marks[top]:
            top = day
        if min(1 - mark / marks[top], 1.0) > depth:
            depth = min(1 - mark / marks[top], 1.0)
            length = next((k for k in range(day + 1, len(marks)) if marks[k] >= marks[top]), len(marks) - 1) - top
    return depth, length


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), SEEDS)
def test_the_drawdown_is_what_is_found_mark_by_mark(marks: list[int], seed: int) -> None:
    other = np.random.default_rng(seed).permutation(marks).tolist()
    depth, days = performance._drawdown(np.array([marks, other], np.float64), np.arange(len(marks)))
    for place, path in enumerate((marks, other)):
        assert (depth[place], days[place]) == deepest([float(mark) for mark in path])


# the intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 13, 14, 15, 27, 28, 29, 60, 200])
def test_a_draw_is_made_of_runs_of_fourteen_days(count: int) -> None:
    places = resample.in_blocks(count, times=20)
    assert places.shape == (21, count)
    assert places[0].tolist() == list(range(count))
    run = (np.arange(1, count) % resample.BLOCK_DAYS) != 0
    assert ((places[1:, 1:] - places[1:, :-1])[:, run] % count == 1 % count).all()


def test_no_day_is_drawn_less_than_another() -> None:
    """Also not the first and the last ones; 4,000 draws, so that three standard errors are 6 %."""
    times = np.bincount(resample.in_blocks(70, times=4_000)[1:].ravel(), minlength=70) / 4_000
    assert times == pytest.approx(np.ones(70), abs=0.08)


def test_nearly_all_intervals_hold_the_true_mean() -> None:
    """100 series of 120 days, some of which follow each other; nine in ten hold it."""
    found = [figures(marks_of(120, seed, 0.0, 0.2 * (seed % 2)))["daily_return"] for seed in range(100)]
    held = [(figure.low or 0.0) <= 0 <= (figure.high or 0.0) for figure in found]
    assert 0.8 <= np.mean(held) <= 0.98


def test_an_interval_holds_its_figure_and_is_the_same_each_time() -> None:
    marks = marks_of(200)
    found = figures(marks)
    assert measure(marks, CAPITAL) == measure(marks, CAPITAL)
    for metric in set(METRICS) - {"sharpe_error", "sharpe_error_serial", "max_drawdown_days", "kelly"}:
        low, value, high = found[metric].low, found[metric].value, found[metric].high
        assert low is not None
        assert value is not None
        assert high is not None
        assert low < value < high, metric
        assert found[metric].n == 200
    assert found["sharpe_error"].low is found["sharpe_error_serial"].high is None


@given(st.floats(1e-3, 1e6), SEEDS)
@settings(max_examples=10)
def test_the_unit_of_money_changes_nothing(unit: float, seed: int) -> None:
    marks = marks_of(90, seed)
    found = values(unit * marks, unit * CAPITAL)
    expected = values(marks)
    # Rounding may move the end of a fall that ends where it began.
    for metric in set(METRICS) - {"max_drawdown_days"}:
        assert found[metric] == pytest.approx(expected[metric], rel=1e-6), metric


def test_a_stake_is_only_for_what_surely_gains() -> None:
    sure, unsure = figures(marks_of(365, 1, mean=0.01))["kelly"], figures(marks_of(365, 1, mean=0.0005))["kelly"]
    assert (sure.low or 0) > 0
    assert sure.value == pytest.approx(np.mean(r := np.diff(marks_of(365, 1, mean=0.01))) / np.var(r, ddof=1) * CAPITAL)
    assert unsure.low is not None
    assert unsure.low <= 0 < (unsure.high or 0)
    assert unsure.value == 0.0


# edges ----------------------------------------------------------------------------------------------------------------


def test_every_metric_has_a_unit_and_a_meaning() -> None:
    assert [figure.metric for figure in measure(marks_of(60), CAPITAL).figures] == list(METRICS)
    assert [figure.metric for figure in measure(marks_of(3), CAPITAL).figures] == list(METRICS)
    assert all(unit and meaning for unit, meaning in METRICS.values())


@pytest.mark.parametrize("days", [0, 1, 59])
def test_below_sixty_days_nothing_is_known_and_the_reason_is_said(days: int) -> None:
    found = measure(marks_of(days), CAPITAL)
    assert found.reason == f"The return of {days} days is known, 60 are needed."
    assert found.days == days
    assert all(figure[1:] == (None, None, None, days) for figure in found.figures)
    assert measure(np.empty(0), CAPITAL).days == 0


def test_from_sixty_days_on_it_is() -> None:
    found = measure(marks_of(60), CAPITAL)
    assert found.reason is None
    assert all(figure.value is not None for figure in found.figures)


@pytest.mark.parametrize("marks", [np.full(101, 1_000.0), 1_000 + 0.1 * np.arange(101)])
def test_what_does_not_vary_has_no_ratio(marks: Floats) -> None:
    """The steps of the second one differ by rounding alone."""
    found = values(marks)
    assert found["total_return"] == pytest.approx(100 * (marks[-1] - 1_000) / CAPITAL)
    assert found["volatility"] == pytest.approx(0, abs=1e-9)
    assert found["max_drawdown"] == found["max_drawdown_days"] == 0
    assert {metric for metric, value in found.items() if value is None} == {
        "sharpe", "sharpe_error", "sharpe_error_serial", "sortino", "calmar", "profit_factor", "kelly",
    }  # fmt: skip


def test_without_a_losing_day_there_is_no_loss_to_divide_by() -> None:
    marks = 1_000 + np.cumsum(np.abs(np.random.default_rng(2).normal(size=100)))
    found = figures(marks)
    assert {metric for metric, figure in found.items() if figure.value is None} == {
        "sortino", "calmar", "profit_factor",
    }  # fmt: skip
    assert found["profit_factor"] == Figure("profit_factor", None, None, None, 99)
    assert (found["daily_shortfall_5pct"].value or 0) > 0


def test_days_that_are_not_known_are_left_out_and_counted_and_stay_in_the_total() -> None:
    marks = marks_of(200)
    whole = values(marks)
    marks[[0, 50, 51, 120]] = np.nan
    found = measure(marks, CAPITAL)
    assert (found.days, found.unknown) == (194, 6)
    steps = np.diff(marks) / CAPITAL
    by_metric = {figure.metric: figure for figure in found.figures}
    assert by_metric["daily_return"].value == pytest.approx(100 * np.nanmean(steps))
    assert by_metric["total_return"].value == pytest.approx(100 * (marks[-1] - marks[1]) / CAPITAL)
    assert (by_metric["total_return"].low or 0) < (by_metric["total_return"].value or 0)
    assert whole["total_return"] != by_metric["total_return"].value
    assert {figure.n for figure in found.figures} == {194}


def test_a_fall_over_days_that_are_not_known_is_in_the_drawdown_with_all_its_days() -> None:
    marks = np.concatenate([np.full(50, 1_000.0), [np.nan] * 10, np.full(50, 700.0)])
    found = values(marks)
    assert found["max_drawdown"] == pytest.approx(0.3)
    assert found["max_drawdown_days"] == 60
    assert found["total_return"] == pytest.approx(-30)
    assert found["daily_return"] == 0


def test_ruin_is_a_fall_of_everything_and_no_more() -> None:
    marks = marks_of(100)
    marks[60:] -= 1_500
    found = figures(marks)
    assert found["max_drawdown"].value == 1.0
    assert 1.0 >= (found["max_drawdown"].high or 0) > (found["max_drawdown"].low or 0)
    assert (found["total_return"].value or 0) < -100
    assert found["kelly"].value == 0.0


def test_an_equity_that_begins_with_nothing_has_no_figures() -> None:
    found = measure(np.arange(100.0), CAPITAL)
    assert found.reason == "The first mark that is known is not above 0: there is nothing to lose a share of."
    assert {figure.value for figure in found.figures} == {None}


@pytest.mark.parametrize("capital", [0.0, -1.0, math.nan, math.inf])
def test_a_capital_that_is_none_is_refused(capital: float) -> None:
    with pytest.raises(ValueError, match="it lies above 0"):
        measure(marks_of(100), capital)
