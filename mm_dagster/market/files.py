"""Candle files, Parquet or CSV, as bars: what a time means is told by its size, and what may look ahead is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from mm_dagster.bars import BAR, TIME, Span, ceil_bar, floor_bar, iso, parse_time
from mm_dagster.market.venue import ROWS
from mm_dagster.text import counted

_VALUES = ROWS.names()[1:]
_COMMON = 0.05
"""Share of neighbouring rows that must lie an interval apart for a file to have that interval."""
_REGULAR = 12
"""Steps in a row of one and the same multiple of the interval that no market makes by trading rarely."""
_REGULAR_IN_A_WHOLE_FILE = 4
"""Likewise in a file that has hardly another gap."""
_WHOLE = 0.005
"""Share of steps that may be gaps in such a file."""
_GROUPED = r"^\D{0,3}\d{1,3}([,.'’_\s]\d{3})+([.,]\d+)?\D{0,3}$|^\d+,\d+$|^[^\d.+-]+[\d.,]+$"
"""A number as people write it: with thousands separators, a decimal comma, or a currency before it."""
_WRITTEN_OTHERWISE = 0.01
"""Share of rows with a value that is no number from which it is the file that is wrong, and not a row."""
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
        notes: how it was read where that is not plain: the unit of its times, rows that were not used.
    """

    bars: pl.DataFrame
    span: Span
    has_volume: bool
    notes: tuple[str, ...]


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
    rows = rows.select(times, *(_value(rows[name], path) for name in _VALUES)).with_row_index("row")
    timed = rows.filter(pl.col("open_time").is_not_null())
    if timed.is_empty():
        raise CandleFileError(f"{path} holds no candle; replace it or take its market out")
    notes = [f"times in {units}"] if units else []
    if timed.height < rows.height:
        notes.append(f"{counted(rows.height - timed.height, 'row')} without a time not used")
    interval = _interval(timed, path)
    rows, halves = _without_halves(timed)
    if halves:
        notes.append(f"{counted(halves, 'half candle')} gave way to the whole one of the same time")
    rows = rows.drop("row")
    first, last = rows["open_time"].min(), rows["open_time"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return CandleFile(
        rows if interval == BAR else _aggregated(rows),
        Span(ceil_bar(first), max(ceil_bar(first), floor_bar(last + interval))),
        bool((rows["volume"] != 0).any()),
        tuple(notes),
    )


def _at(path: Path, row: int, value: object, column: str = "open_time") -> str:
    """Where a value stands; the first row of a CSV file below its header is row 2, as editors count."""
    number = row + 2 if path.suffix == ".csv" else row + 1
    return f"{path}: row {number:,}: {column}: {value!r}"


def _value(given: pl.Series, path: Path) -> pl.Series:
    """A column of prices or volumes. What is no number in a single row is null, and only that row is set apart.

    Raises:
        CandleFileError: the file writes its numbers otherwise.
    """
    if given.dtype != pl.String:
        return given.cast(pl.Float64, strict=False)
    texts = given.str.strip_chars()
    read = texts.cast(pl.Float64, strict=False)
    wrong = (read.is_null() & texts.is_not_null() & (texts != "")).fill_null(False)
    grouped = (wrong & texts.str.contains(_GROUPED)).fill_null(False)
    blamed = grouped if grouped.any() else wrong
    if grouped.any() or (wrong & texts.str.contains(r"\d")).sum() > _WRITTEN_OTHERWISE * len(texts):
        row = int(blamed.arg_true()[0])
        raise CandleFileError(
            f"{_at(path, row, texts[row], given.name)} is no number, and so are {blamed.sum() - 1:,} more in this "
            "column; write 3013.94, with a decimal point and nothing between the thousands"
        )
    return read


def _without_halves(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Without the candles that were kept while they still grew, where the whole one stands, too; and how many.

    Of rows of one time the one with most volume is whole, if it began at the same price as the other and is as wide.
    All others stay, and are set apart as different rows for one bar.
    """
    plain = rows.unique(ROWS.names(), keep="last", maintain_order=True)
    last = plain.sort("volume", maintain_order=True).group_by("open_time", maintain_order=True).last()
    both = plain.join(last, on="open_time", suffix="_last").filter(pl.col("row") != pl.col("row_last"))
    grown = both.filter(
        (pl.col("open") == pl.col("open_last"))
        & (pl.col("high") <= pl.col("high_last"))
        & (pl.col("low") >= pl.col("low_last"))
        & (pl.col("volume") < pl.col("volume_last"))
    )
    return plain.join(grown, on="row", how="anti"), grown.height


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
    for place in _coarser(steps.dt.total_microseconds() // micros):
        step = steps[place]
        if times.dt.epoch("us")[place] % (step // timedelta(microseconds=1)) == 0:
            row = order.row(place, named=True)
            raise CandleFileError(
                f"{_at(path, row['row'], iso(row['open_time']))}: from here on there is a candle every {step}, "
                f"elsewhere every {interval}; a file must have one interval"
            )
    return interval


def _coarser(multiple: pl.Series) -> Iterator[int]:
    """Where the same multiple of the interval comes again and again: a coarser part, not a market that rarely trades.

    Args:
        multiple: the steps between neighbouring rows, in intervals.
    """
    runs = (
        pl.DataFrame({"multiple": multiple, "run": multiple.rle_id(), "place": pl.int_range(len(multiple), eager=True)})
        .group_by("run", maintain_order=True)
        .agg(pl.col("multiple").first(), place=pl.col("place").min(), steps=pl.len())
        .filter(pl.col("multiple") > 1)
    )
    short = runs.filter(pl.col("steps") < _REGULAR_IN_A_WHOLE_FILE)["steps"].sum()
    needed = _REGULAR_IN_A_WHOLE_FILE if short <= _WHOLE * len(multiple) else _REGULAR
    yield from runs.filter(pl.col("steps") >= needed)["place"]


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
