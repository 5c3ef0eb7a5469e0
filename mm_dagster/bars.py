"""Bar and time arithmetic: what a bar is, which one closed last, which bars a span holds.

A bar is named by its opening time; a decision by `as_of`, the closing time of the newest bar that it knows.
Bars have an absolute number, counted from the Unix epoch, so that nothing depends on where the data starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

Numbers = npt.NDArray[np.int64]

BAR = timedelta(minutes=15)
HOUR_BARS = 4
"""Base bars in an hour."""
FOUR_HOUR_BARS = 16
"""Base bars in four hours."""
DAY_BARS = 96
"""Base bars in a day."""
WEEK_BARS = 672
"""Base bars in a week."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DAY = datetime(2017, 1, 1, tzinfo=UTC)
"""The first day that history has a place for."""

TIME = pl.Datetime("us", "UTC")
"""The one type of every time column."""


def time_of_ns(ns: int) -> datetime:
    """Nanoseconds since 1970 as a time, UTC, microseconds cut."""
    return EPOCH + timedelta(microseconds=ns // 1000)


def bar_number(open_time: datetime) -> int:
    """Absolute number of the bar that is open at this time: whole bars since the Unix epoch."""
    return (open_time - EPOCH) // BAR


def bar_numbers(times: pl.Series) -> Numbers:
    """The same of a column of times, shape (n,)."""
    return (times.cast(TIME).to_physical().to_numpy() // (BAR // timedelta(microseconds=1))).astype(
        np.int64, copy=False
    )


def weekend_bars(first: Numbers, bars: int) -> Numbers:
    """How many of `bars` bars open on a Saturday or a Sunday, UTC.

    Args:
        first: absolute number of the first of them, shape (n,).
        bars: how many they are.

    Returns:
        Shape (n,), 0 to `bars`.
    """
    return _weekend_bars_before(first + bars) - _weekend_bars_before(first)


def _weekend_bars_before(number: Numbers) -> Numbers:
    """Of the bars from the epoch to there. It was a Thursday: two days, and the weekend is the third and fourth."""
    weeks = number // WEEK_BARS
    into_weekend = number - weeks * WEEK_BARS - 2 * DAY_BARS
    return weeks * (2 * DAY_BARS) + np.clip(into_weekend, 0, 2 * DAY_BARS)


def floor_bar(time: datetime) -> datetime:
    """Opening time of the bar that is open at this time; also `as_of` of the last bar closed by then."""
    return EPOCH + bar_number(time) * BAR


def ceil_bar(time: datetime) -> datetime:
    """The first quarter hour at or after this time: the first `as_of` that knows all until then."""
    floor = floor_bar(time)
    return floor if floor == time else floor + BAR


def is_aligned(time: datetime) -> bool:
    """Whether a bar opens at exactly this time."""
    return (time - EPOCH) % BAR == timedelta(0)


def iso(time: datetime) -> str:
    """ISO 8601 in UTC, to the second, with a Z: how rows, files and programs have times; people: `text.local_time`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Reads a date or an ISO 8601 time; without a zone it is UTC.

    Raises:
        ValueError: the text is neither.
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write 2026-01-31 or 2026-01-31T14:15:00Z") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def midnight(day: date) -> datetime:
    """The UTC midnight at which the day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@dataclass(frozen=True)
class Span:
    """The bars that open in [start, end). Their `as_of` lie in (start, end]: a bar is known when it closes.

    Attributes:
        start: opening time of the first bar, UTC, aligned.
        end: closing time of the last bar, UTC, aligned.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for time in (self.start, self.end):
            if time.tzinfo is None or not is_aligned(time):
                raise ValueError(f"{time} is not a UTC quarter hour")

    @property
    def bars(self) -> int:
        """How many bars it holds; 0 when empty."""
        return max(0, (self.end - self.start) // BAR)

    def back(self, bars: int) -> Span:
        """The same span with that many earlier bars in front."""
        return Span(self.start - bars * BAR, self.end)

    def opens(self, column: str = "open_time") -> pl.Expr:
        """Filter on the opening time of rows."""
        return (pl.col(column) >= self.start) & (pl.col(column) < self.end)

    def closes(self, column: str = "as_of") -> pl.Expr:
        """Filter on the closing time of rows."""
        return (pl.col(column) > self.start) & (pl.col(column) <= self.end)

    def open_times(self) -> pl.Series:
        """Every opening time, ascending, named open_time."""
        first = (self.start - EPOCH) // timedelta(microseconds=1)
        step = BAR // timedelta(microseconds=1)
        return pl.int_range(first, first + step * self.bars, step, eager=True).cast(TIME).alias("open_time")

    def months(self) -> Iterator[Span]:
        """The same bars cut at the UTC months, oldest first."""
        start = self.start
        while start < self.end:
            following = datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
            yield Span(start, min(following, self.end))
            start = following

    def __str__(self) -> str:
        return f"{iso(self.start)} to {iso(self.end)}"


def by_bar(
    frame: pl.DataFrame, span: Span, lanes: pl.DataFrame, *columns: str, time: str = "as_of"
) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of a table as arrays in which every bar has its place, whether the table has a row for it or not.

    Args:
        frame: rows in any order; those of other lanes and times are ignored.
        span: the bars.
        lanes: what tells the rows of one lane from those of another: key columns, one row for each lane.
        columns: which columns.
        time: the column with the closing time of the bar.

    Returns:
        By column, shape (lanes, bars of the span); NaN where there is no row or no value.

    Raises:
        ValueError: a lane has two rows for a bar.
    """
    rows = frame.filter(span.closes(time))
    if whole := _whole(rows, span, lanes, columns, time):
        return whole
    minutes = BAR // timedelta(minutes=1)
    rows = rows.join(lanes.with_row_index("lane"), on=lanes.columns).select(
        pl.col("lane").cast(pl.Int64) * span.bars + (pl.col(time) - span.start).dt.total_minutes() // minutes - 1,
        pl.col(columns).cast(pl.Float64).fill_null(math.nan),
    )
    place = rows["lane"].to_numpy()
    taken = np.zeros(lanes.height * span.bars, np.bool_)
    taken[place] = True
    if np.count_nonzero(taken) != place.size:
        raise ValueError(f"{', '.join(columns)}: a bar has two rows")
    found = {}
    for column in columns:
        values = np.full(taken.size, np.nan)
        values[place] = rows[column].to_numpy()
        found[column] = values.reshape(lanes.height, span.bars)
    return found


def _whole(
    rows: pl.DataFrame, span: Span, lanes: pl.DataFrame, columns: Sequence[str], time: str
) -> dict[str, npt.NDArray[np.float64]] | None:
    """`by_bar` of rows that are all there and no others: in their order they are the arrays, which saves a search.

    Args:
        rows: those of the span.
        span: the bars.
        lanes: of one key column.
        columns: which are wanted.
        time: the column with the closing time of the bar.

    Returns:
        None where a row is lacking, or there is another.
    """
    if len(lanes.columns) != 1 or not rows.height or rows.height != lanes.height * span.bars:
        return None
    [key] = lanes.columns
    ordered = rows.select(key, time, *dict.fromkeys(name for name in columns if name not in (key, time))).sort(
        key, time
    )
    ends = [place * span.bars + end for place in range(lanes.height) for end in (0, span.bars - 1)]
    if ordered[key].gather(ends).to_list() != [name for name in lanes[key].to_list() for _ in range(2)]:
        return None
    times = ordered[time].cast(TIME).dt.epoch("us").to_numpy().reshape(lanes.height, span.bars)
    if not (times == (span.open_times() + BAR).dt.epoch("us").to_numpy()).all():
        return None
    shape = lanes.height, span.bars
    return {
        name: ordered[name].cast(pl.Float64).fill_null(math.nan).to_numpy().copy().reshape(shape) for name in columns
    }
