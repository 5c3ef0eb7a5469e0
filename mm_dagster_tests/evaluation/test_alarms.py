"""Alarms against breaks, on lives short enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.evaluation.alarms import HORIZON, judge, quantile, raised
from mm_dagster.evaluation.cohort import NEVER, Cohort

WIDE = 4 * HORIZON
"""Columns of a life here: four days."""


def cohort(broken: int | None = None, high: int | None = None, last: int = WIDE) -> Cohort:
    """One grid that breaks below, or above, at a column, or does not."""
    columns = last + 1

    def at(column: int | None) -> np.ndarray:
        return np.array([NEVER if column is None else column])

    empty = np.full((1, columns), np.nan)
    return Cohort(
        symbol="AAA-USDT",
        grids=(),
        close=empty,
        low=empty,
        last=np.array([last]),
        whole=np.array([True]),
        broken_low=at(broken),
        stopped=at(None),
        broken_high=at(high),
        left=np.full((1, columns), 100.0),
    )


def alarm(*stands: tuple[int, int], columns: int = WIDE + 1) -> np.ndarray:
    """An alarm that stands from a column up to another."""
    found = np.zeros((1, columns), np.bool_)
    for since, until in stands:
        found[0, since:until] = True
    return found


def test_an_alarm_that_stands_at_the_break_is_true_and_leads_by_the_time_since_it_was_raised() -> None:
    found = judge(alarm((100, 200)), cohort(broken=120))
    assert (found.true[0], found.false[0], found.open[0]) == (1, 0, 0)
    assert found.lead[0] == 5.0
    assert found.weeks[0] == pytest.approx(120 / 672)


def test_an_alarm_that_has_ended_before_the_break_is_true_within_a_day_and_yet_the_break_came_unwarned() -> None:
    found = judge(alarm((100, 110)), cohort(broken=120))
    assert (found.true[0], found.lead[0]) == (1, 0.0)


@pytest.mark.parametrize(("broken", "true"), [(100 + HORIZON, 1), (101 + HORIZON, 0)])
def test_a_break_counts_for_an_alarm_for_one_day(broken: int, true: int) -> None:
    found = judge(alarm((100, 102)), cohort(broken=broken))
    assert (found.true[0], found.false[0]) == (true, 1 - true)


def test_what_is_raised_by_the_very_break_warned_of_nothing() -> None:
    found = judge(alarm((120, 200)), cohort(broken=120))
    assert (found.true[0], found.false[0], found.open[0], found.lead[0]) == (0, 0, 0, 0.0)


def test_after_a_grid_was_sold_out_above_nothing_is_watched() -> None:
    found = judge(alarm((10, 12), (60, 200)), cohort(broken=80, high=50))
    assert (found.true[0], found.false[0]) == (0, 1)
    assert np.isnan(found.lead[0])
    assert not found.broke[0]


@given(st.lists(st.tuples(st.integers(0, WIDE - 1), st.integers(1, 40)), max_size=6), st.integers(1, WIDE))
def test_every_alarm_is_true_false_or_open(stands: list[tuple[int, int]], broken: int) -> None:
    given_ = alarm(*((since, since + long) for since, long in stands))
    found = judge(given_, cohort(broken=broken))
    before = given_[0, :broken]
    onsets = int(np.count_nonzero(before & ~np.concatenate([[False], before[:-1]])))
    assert found.true[0] + found.false[0] + found.open[0] == onsets
    assert (found.lead[0] > 0) == before[-1]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("010100", "000000"),
        ("011000", "001111"),
        ("0110000000", "0011110000"),
        ("0110010000", "0011111110"),
    ],
)
def test_a_condition_rings_after_two_bars_and_ends_after_four_without_it(condition: str, expected: str) -> None:
    found = raised(np.array([[bit == "1" for bit in condition]]))
    assert "".join("1" if bit else "0" for bit in found[0])[: len(expected)] == expected[: len(condition)]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.floats(0.05, 0.95))
def test_a_weighted_quantile_is_that_of_the_values_repeated(values: list[int], share: float) -> None:
    times = np.arange(1, len(values) + 1) % 3
    repeated = np.repeat(np.array(values, float), times)
    found = quantile(np.array(values, float), share, times[None, :].astype(float))[0]
    if repeated.size == 0:
        assert np.isnan(found)
    else:
        assert found == np.quantile(repeated, share, method="inverted_cdf")
