"""Bar arithmetic: what closed, what a span holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.bars import (
    BAR,
    EPOCH,
    TIME,
    Span,
    bar_number,
    bar_numbers,
    by_bar,
    ceil_bar,
    floor_bar,
    is_aligned,
    iso,
    parse_time,
    weekend_bars,
)

TIMES = st.datetimes(datetime(2017, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(TIMES)
def test_floor_and_ceiling_enclose_a_time_within_one_bar(time: datetime) -> None:
    assert floor_bar(time) <= time <= ceil_bar(time)
    assert ceil_bar(time) - floor_bar(time) in (timedelta(0), BAR)
    assert is_aligned(floor_bar(time))
    assert bar_number(time) == bar_number(floor_bar(time))


@given(st.lists(TIMES, max_size=5))
def test_a_column_of_times_has_the_numbers_of_its_times(times: list[datetime]) -> None:
    assert bar_numbers(pl.Series(times, dtype=TIME)).tolist() == [bar_number(time) for time in times]


@given(st.integers(-100_000, 3_000_000), st.integers(0, 1_500))
def test_weekend_bars_are_those_that_open_on_a_saturday_or_a_sunday(first: int, bars: int) -> None:
    opened = (EPOCH + number * BAR for number in range(first, first + bars))
    expected = sum(time.weekday() >= 5 for time in opened)
    assert weekend_bars(np.array([first]), bars).tolist() == [expected]


def test_a_weekend_is_192_bars_of_672() -> None:
    saturday = bar_number(datetime(2026, 3, 7, tzinfo=UTC))
    firsts = saturday + np.array([-672, -1, 0, 191, 192])
    assert weekend_bars(firsts, 1).tolist() == [1, 0, 1, 1, 0]
    assert weekend_bars(firsts, 672).tolist() == [192] * 5


@given(TIMES, st.integers(0, 20_000))
def test_months_partition_a_span(time: datetime, bars: int) -> None:
    span = Span(floor_bar(time), floor_bar(time) + bars * BAR)
    months = list(span.months())
    assert sum(month.bars for month in months) == span.bars == span.open_times().len()
    assert all(before.end == after.start for before, after in pairwise(months))
    assert all((month.end - BAR).strftime("%Y-%m") == month.start.strftime("%Y-%m") for month in months)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31", "2026-01-31T00:00:00Z"),
        ("2026-01-31T14:15Z", "2026-01-31T14:15:00Z"),
        ("2026-01-31T14:15:00+02:00", "2026-01-31T12:15:00Z"),
    ],
)
def test_times_are_read_as_utc(text: str, time: str) -> None:
    assert iso(parse_time(text)) == time


def test_what_is_no_time_is_said_with_an_example() -> None:
    with pytest.raises(ValueError, match="'soon' is not a time; write 2026-01-31"):
        parse_time("soon")


def test_a_span_refuses_what_is_no_quarter_hour() -> None:
    with pytest.raises(ValueError, match="not a UTC quarter hour"):
        Span(datetime(2026, 1, 1, 0, 7, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    cet = timezone(timedelta(hours=1))
    assert Span(datetime(2026, 1, 1, tzinfo=cet), datetime(2026, 1, 2, tzinfo=cet)).bars == 96


START = datetime(2026, 3, 2, tzinfo=UTC)
LANES = pl.DataFrame({"symbol": ["B", "A"]})


def rows(*values: tuple[str, int, float | None]) -> pl.DataFrame:
    """A symbol, after how many bars it closed, and a value."""
    return pl.DataFrame(
        [(symbol, START + bars * BAR, value) for symbol, bars, value in values],
        schema={"symbol": pl.String, "as_of": TIME, "value": pl.Float64},
        orient="row",
    )


def test_every_bar_has_its_place_whether_there_is_a_row_for_it_or_not() -> None:
    span = Span(START, START + 3 * BAR)
    frame = rows(
        ("A", 3, 3.0), ("A", 1, 1.0), ("B", 2, None), ("C", 1, 9.0), ("A", 0, 9.0), ("B", 4, 9.0), ("B", 1, 5.0)
    )
    found = by_bar(frame, span, LANES, "value")["value"]
    assert str(found.tolist()) == "[[5.0, nan, nan], [1.0, nan, 3.0]]"
    assert by_bar(frame, Span(START, START), LANES, "value")["value"].shape == (2, 0)
    assert by_bar(frame, span, LANES.clear(), "value")["value"].shape == (0, 3)


def test_two_rows_for_a_bar_are_refused() -> None:
    with pytest.raises(ValueError, match="value: a bar has two rows"):
        by_bar(rows(("A", 1, 1.0), ("B", 1, 1.0), ("A", 1, 2.0)), Span(START, START + BAR), LANES, "value")
