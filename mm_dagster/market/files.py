"""Candle files, Parquet or CSV, as bars: what a time means is told by its size, and what may look ahead is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from mm_dagster.bars import BAR, TIME, Span, ceil_bar, floor_bar, iso, parse_time
from mm_dagster.market.venue import ROWS

_VALUES = ROWS.names()[1:]
_COMMON = 0.05
"""Share of neighbouring rows that must lie an interval apart for a file to have that interval."""
_REGULAR = 12
"""Steps in a row of one and the same multiple of the interval that no market makes by trading rarely."""
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""What lies outside is no time of a candle."""
_UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
"""Microseconds in each."""
_DATES = {"YYYYMMDD": ("%Y%m%d", 8), "YYYYMMDDhhmm": ("%Y%m%d%H%M", 12), "YYYYMMDDhhmmss": ("%Y%m%d%H%M%S", 14)}


class CandleFileError(Exception):
    """A file that cannot be used. One line: file, row, column, value, and what would be right."""


@dataclass(frozen=True)
class CandleFile:
    """A file of candles as 15-minute bars.

    Attributes:
        bars: columns of venue.ROWS, not validated.
        span: the bars that lie wholly inside of it.
        has_volume: whether any row has some.
        units: how its times are written where they are numbers; empty: they are none.
    """

    bars: pl.DataFrame
    span: Span
    has_volume: bool
    units: str


def read_candles(path: Path) -> CandleFile:
    """Reads a file; intervals finer than 15 minutes are aggregated.

    Raises:
        CandleFileError: it cannot be read, holds no candles, or coarser ones, or such as do not open on a multiple of
            their interval.
    """
    try:
        return _read(path)
    except (CandleFileError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of polars is no Exception
        reason = " ".join(str(error).split())[:160]
        raise CandleFileError(f"{path} cannot be read ({reason}); replace it or write it anew") from None


def _read(path: Path) -> CandleFile:
    # CSV is read as text: a column with one odd value must not change what the others mean.
    rows = pl.read_csv(path, infer_schema=False) if path.suffix == ".csv" else pl.read_parquet(path)
    absent = [name for name in ROWS if name not in rows.columns]
    if absent:
        raise CandleFileError(
            f"{path} has no column {', '.join(absent)}; it needs {', '.join(ROWS)}, and has "
            f"{', '.join(rows.columns[:12])}"
        )
    times, units = _times(rows["open_time"], path)
    rows = rows.select(times, *(pl.col(name).cast(pl.Float64, strict=False) for name in _VALUES))
    rows = rows.with_row_index("row").filter(pl.col("open_time").is_not_null())
    if rows.is_empty():
        raise CandleFileError(f"{path} holds no candle; replace it or take its market out")
    interval = _interval(rows, path)
    rows = rows.drop("row")
    first, last = rows["open_time"].min(), rows["open_time"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return CandleFile(
        rows if interval == BAR else _aggregated(rows),
        Span(ceil_bar(first), max(ceil_bar(first), floor_bar(last + interval))),
        bool((rows["volume"] != 0).any()),
        units,
    )


def _at(path: Path, row: int, value: object) -> str:
    """Where a value stands; the first row of a CSV file below its header is row 2, as editors count."""
    number = row + 2 if path.suffix == ".csv" else row + 1
    return f"{path}: row {number:,}: open_time: {value!r}"


def _times(times: pl.Series, path: Path) -> tuple[pl.Series, str]:
    """Opening times in UTC, and in what they are written if in numbers."""
    units = ""
    if times.dtype == pl.String:
        times = times.str.strip_chars()
        share = times.drop_nulls().str.contains(r"^[+-]?\d+$").mean()
        if isinstance(share, float) and share > 0.5:
            times, units = _numbers(times, path)
        else:
            times = _texts(times, path)
    elif times.dtype.is_integer():
        times, units = _numbers(times.cast(pl.String), path)
    elif not isinstance(times.dtype, pl.Datetime):
        raise CandleFileError(f"{path}: open_time is {times.dtype}; it must be a timestamp, UTC")
    zoned = times if times.dtype.time_zone else times.dt.replace_time_zone("UTC")  # type: ignore[attr-defined]
    zoned = zoned.dt.convert_time_zone("UTC").cast(TIME).alias("open_time")
    absurd = ((zoned < _EARLIEST) | (zoned >= _LATEST)).arg_true()
    if absurd.len():
        row = int(absurd[0])
        raise CandleFileError(
            f"{_at(path, row, str(zoned.dt.to_string('iso')[row]))} is no time between 2000 and 2100; correct the row"
        )
    return zoned, units


def _texts(times: pl.Series, path: Path) -> pl.Series:
    parsed: list[datetime | None] = []
    for row, text in enumerate(times):
        try:
            parsed.append(None if text is None else parse_time(text))
        except (ValueError, OverflowError):
            raise CandleFileError(
                f"{_at(path, row, text)} is not a time; write 2026-01-31T14:15:00Z, or a number of milliseconds"
            ) from None
    return pl.Series(parsed, dtype=TIME)


def _numbers(texts: pl.Series, path: Path) -> tuple[pl.Series, str]:
    """Whole numbers: seconds, milliseconds, microseconds or nanoseconds since 1970, or the digits of a date.

    Between 2000 and 2100 no number is a time in two of them. A file may change its unit, as joined ones do.
    """
    given = texts.to_frame("text").with_columns(number=pl.col("text").cast(pl.Int64, strict=False))
    number = pl.col("number")
    low, high = (_micros(limit) for limit in (_EARLIEST, _LATEST))
    readings = {unit: (number * size, number.is_between(low // size, high // size)) for unit, size in _UNITS.items()}
    readings["nanoseconds"] = (number // 1_000, number.is_between(low * 1_000, high * 1_000))
    for name, (form, digits) in _DATES.items():
        read = pl.col("text").str.to_datetime(form, strict=False, time_unit="us")
        readings[name] = (read.dt.epoch("us"), (pl.col("text").str.len_chars() == digits) & read.is_not_null())
    micros, unit = pl.lit(None, dtype=pl.Int64), pl.lit(None, dtype=pl.String)
    for name, (value, fits) in readings.items():
        micros = pl.when(fits).then(value).otherwise(micros)
        unit = pl.when(fits).then(pl.lit(name)).otherwise(unit)
    read_as = given.with_columns(micros=micros, unit=unit)
    wrong = read_as.select(pl.col("micros").is_null() & pl.col("text").is_not_null()).to_series().arg_true()
    if wrong.len():
        row = int(wrong[0])
        raise CandleFileError(
            f"{_at(path, row, texts[row])} is no time between 2000 and 2100 in seconds, milliseconds, microseconds or "
            "nanoseconds, nor YYYYMMDDhhmm; correct the row"
        )
    units = read_as["unit"].drop_nulls().unique(maintain_order=True).to_list()
    return read_as["micros"].cast(pl.Datetime("us")), ", then ".join(units)


def _micros(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000


def _interval(rows: pl.DataFrame, path: Path) -> timedelta:
    """The interval of a file: the smallest distance that is common between neighbouring rows.

    Raises:
        CandleFileError: it is no part of 15 minutes, changes, or rows open elsewhere than on a multiple of it.
    """
    order = rows.select("row", "open_time").unique("open_time", keep="first").sort("open_time")
    times = order["open_time"]
    steps = times.diff().drop_nulls()
    if steps.is_empty():
        return BAR
    counts = steps.value_counts().filter(pl.col("count") >= _COMMON * len(steps))
    # Holes without any pattern leave no common distance; then the smallest one says most.
    interval = (counts[steps.name] if counts.height else steps).min()
    assert isinstance(interval, timedelta)
    if interval > BAR or BAR % interval:
        raise CandleFileError(
            f"{path} has a candle every {interval}; it must be 15 minutes or divide them, like 0:05:00"
        )
    micros = interval // timedelta(microseconds=1)
    off = (times.dt.epoch("us") % micros != 0).arg_true()
    if off.len():
        row = order.row(int(off[0]), named=True)
        raise CandleFileError(
            f"{_at(path, row['row'], iso(row['open_time']))} is no multiple of {interval}: its candle would hold "
            "minutes of the next one; a row must open on a multiple of its interval"
        )
    # The same multiple again and again is a coarser part, not a market that rarely trades.
    multiple = steps.dt.total_microseconds() // micros
    coarse = (multiple > 1) & (multiple == multiple.shift(1))
    runs = pl.DataFrame({"coarse": coarse.fill_null(False), "place": pl.int_range(len(steps), eager=True)})
    longest = (
        runs.with_columns(run=(~pl.col("coarse")).cum_sum())
        .group_by("run", maintain_order=True)
        .agg(steps=pl.len(), place=pl.col("place").min())
        .filter(pl.col("steps") >= _REGULAR)
    )
    for place in longest["place"]:
        if multiple[place] > 1 and times.dt.epoch("us")[place] % (micros * multiple[place]) == 0:
            row = order.row(place, named=True)
            raise CandleFileError(
                f"{_at(path, row['row'], iso(row['open_time']))}: from here on there is a candle every {steps[place]}, "
                f"elsewhere every {interval}; a file must have one interval"
            )
    return interval


def _aggregated(rows: pl.DataFrame) -> pl.DataFrame:
    """Finer candles as 15-minute ones; a bar is there if any of them is. What is wrong in one stays visible."""
    sound = (
        pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in _VALUES).all()
        & pl.col("open_time").is_unique().all()
    )
    merged = {
        "open": pl.col("open").first(),
        "high": pl.col("high").max(),
        "low": pl.col("low").min(),
        "close": pl.col("close").last(),
        "volume": pl.col("volume").sum(),
    }
    return (
        rows.unique()
        .sort("open_time", *_VALUES)
        .group_by(pl.col("open_time").dt.truncate("15m").alias("bar"), maintain_order=True)
        .agg(pl.when(sound).then(value).otherwise(float("nan")).alias(name) for name, value in merged.items())
        .rename({"bar": "open_time"})
    )
