"""Candle files as people have them: times of any unit, and what would look ahead is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, EPOCH
from mm_dagster.market.candles import Assembled, assemble
from mm_dagster.market.files import CandleFile, CandleFileError, read_candles
from mm_dagster.market.venue import Answer

START = datetime(2026, 6, 1, tzinfo=UTC)
FORMS = {
    "seconds": lambda time: str(int(time.timestamp())),
    "milliseconds": lambda time: str(int(time.timestamp()) * 1_000),
    "microseconds": lambda time: str(int(time.timestamp()) * 1_000_000),
    "nanoseconds": lambda time: str(int(time.timestamp()) * 1_000_000_000),
    "YYYYMMDDhhmm": lambda time: f"{time:%Y%m%d%H%M}",
    "YYYYMMDDhhmmss": lambda time: f"{time:%Y%m%d%H%M%S}",
}


def write(folder: Path, times: list[str], name: str = "15m.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(["open_time,open,high,low,close,volume", *(f"{time},1,2,1,2,5" for time in times)]))
    return path


@pytest.mark.parametrize("unit", FORMS)
@pytest.mark.parametrize("year", [2012, 2026, 2089])
def test_the_size_of_a_number_tells_its_unit(tmp_path: Path, unit: str, year: int) -> None:
    times = [START.replace(year=year) + number * BAR for number in range(4)]
    file = read_candles(write(tmp_path, [FORMS[unit](time) for time in times]))
    assert file.bars["open_time"].to_list() == times
    assert file.notes == (f"times in {unit}",)


def test_a_file_may_change_its_unit_on_the_way_and_says_so(tmp_path: Path) -> None:
    times = [START + number * BAR for number in range(6)]
    texts = [FORMS["milliseconds"](time) for time in times[:3]] + [FORMS["microseconds"](time) for time in times[3:]]
    file = read_candles(write(tmp_path, texts))
    assert file.bars["open_time"].to_list() == times
    assert file.notes == ("times in milliseconds, then microseconds",)


@pytest.mark.parametrize("unit", ["seconds", "nanoseconds"])
def test_numbers_in_parquet_are_read_alike(tmp_path: Path, unit: str) -> None:
    times = [START + number * BAR for number in range(4)]
    numbers = [int(FORMS[unit](time)) for time in times]
    path = tmp_path / "15m.parquet"
    ones = [1.0] * 4
    pl.DataFrame(
        {"open_time": numbers, "open": ones, "high": ones, "low": ones, "close": ones, "volume": ones}
    ).write_parquet(path)
    assert read_candles(path).bars["open_time"].to_list() == times


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (2, "99999999999999999999999", "row 4: open_time: '99999999999999999999999' is no time between 2000 and 2100"),
        (1, "17", "row 3: open_time: '17' is no time"),
        (0, "-1780272000000", "row 2: open_time: '-1780272000000' is no time"),
        (3, "open_time", "row 5: open_time: 'open_time' is no time"),
    ],
)
def test_a_number_that_is_no_time_is_refused_with_its_row(tmp_path: Path, row: int, value: str, message: str) -> None:
    texts = [FORMS["milliseconds"](START + number * BAR) for number in range(4)]
    texts[row] = value
    with pytest.raises(CandleFileError, match=message):
        read_candles(write(tmp_path, texts))


def test_a_timestamp_that_no_market_has_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "15m.parquet"
    ones = [1.0, 1.0]
    times = pl.Series([int((START - EPOCH).total_seconds()) * 10**6, 9 * 10**18]).cast(pl.Datetime("us"))
    pl.DataFrame(
        {"open_time": times, "open": ones, "high": ones, "low": ones, "close": ones, "volume": ones}
    ).write_parquet(path)
    with pytest.raises(CandleFileError, match=r"15m\.parquet"):
        read_candles(path)


def test_a_file_that_changes_its_interval_is_refused_where_it_does(tmp_path: Path) -> None:
    hourly = [START + 4 * number * BAR for number in range(24)]
    quarters = [hourly[-1] + 4 * BAR + number * BAR for number in range(200)]
    for times, row in ((hourly + quarters, 2), (quarters, None)):
        path = write(tmp_path, [time.isoformat() for time in times])
        if row is None:
            assert read_candles(path).bars.height == 200
        else:
            with pytest.raises(CandleFileError, match=f"row {row}: .* a candle every 1:00:00, elsewhere every 0:15:00"):
                read_candles(path)


@pytest.mark.parametrize("minutes", [5, 15])
def test_a_row_off_its_interval_is_refused(tmp_path: Path, minutes: int) -> None:
    texts = [f"2026-06-01T{n * minutes // 60:02}:{n * minutes % 60:02}:00Z" for n in range(24)]
    texts[7] = texts[7].replace(":00Z", ":30Z")
    with pytest.raises(CandleFileError, match=r"row 9: .*:30Z' is no multiple of 0:"):
        read_candles(write(tmp_path, texts))


GRID = [f"{START + n * BAR:%Y-%m-%dT%H:%M:00Z}" for n in range(40)]


def with_values(folder: Path, rows: list[str]) -> Path:
    path = folder / "15m.csv"
    path.write_text("\n".join(["open_time,open,high,low,close,volume", *rows]))
    return path


@pytest.mark.parametrize(
    "price", ['"3,013.94"', "3'013.94", "3 013.94", "3\u202f013.94", '"3.013,94"', '"3013,94"', "$3013.94", "3_013.94"]
)
@pytest.mark.parametrize("share", [1, 20])
def test_numbers_as_people_write_them_are_refused_with_the_row(tmp_path: Path, price: str, share: int) -> None:
    """Also where only one of twenty is: above a thousand, or on the days that somebody edited."""
    rows = [f"{time},{price if n % share == 3 % share else '3013.94'},4000,2000,3000,5" for n, time in enumerate(GRID)]
    row = 2 if share == 1 else 5
    with pytest.raises(
        CandleFileError, match=rf"row {row}: open: .* is no number, and so are \d+ more.*; write 3013.94"
    ):
        read_candles(with_values(tmp_path, rows))


@pytest.mark.parametrize("nothing", ["", "n/a", "null", "-", "NaN"])
def test_a_row_without_a_number_is_set_apart_alone(tmp_path: Path, nothing: str) -> None:
    rows = [f"{time},{nothing if n == 7 else '1'},2,1,1,5" for n, time in enumerate(GRID)]
    made = assembled(read_candles(with_values(tmp_path, rows)))
    assert made.candles["status"].to_list() == ["TRADED" if n != 7 else "MISSING" for n in range(40)]
    assert made.quarantined["open_time"].to_list() == [START + 7 * BAR]


def assembled(file: CandleFile) -> Assembled:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    return assemble("X-USDT", "files", Answer(file.bars, (file.span,), final=True), file.span, now, now, 4)


@pytest.mark.parametrize("whole_first", [False, True])
@pytest.mark.parametrize("step", [5, 15])
def test_a_half_candle_gives_way_to_the_whole_one(tmp_path: Path, step: int, whole_first: bool) -> None:
    times = [f"2026-06-01T{n * step // 60:02}:{n * step % 60:02}:00Z" for n in range(24)]
    both = [f"{times[7]},10,11,9,10.5,3", f"{times[7]},10,12,9,11,8"]
    rows = [f"{time},10,12,9,11,8" for time in times]
    rows[7:8] = reversed(both) if whole_first else both
    file = read_candles(with_values(tmp_path, rows))
    assert file.notes == ("1 half candle gave way to the whole one of the same time",)
    made = assembled(file)
    assert made.quarantined.is_empty()
    assert set(made.candles["close"]) == {11.0}


@pytest.mark.parametrize("other", ["10,11,9,10.5,9", "10.1,11,9,10.5,3", "10,13,9,10.5,3"])
def test_rows_that_only_differ_are_set_apart_and_nobody_guesses(tmp_path: Path, other: str) -> None:
    rows = [f"{time},10,12,9,11,8" for time in GRID]
    rows.insert(7, f"{GRID[7]},{other}")
    file = read_candles(with_values(tmp_path, rows))
    assert file.notes == ()
    assert assembled(file).candles["status"].to_list()[7] == "MISSING"


@pytest.mark.parametrize(("begin", "rows", "step"), [(0, 6, 60), (12, 8, 30), (32, 4, 30)])
def test_a_short_coarser_part_of_a_whole_file_is_refused(tmp_path: Path, begin: int, rows: int, step: int) -> None:
    times, at = [], START
    for n in range(60):
        times.append(f"{at:%Y-%m-%dT%H:%M:00Z}")
        at += (step // 15 if begin <= n < begin + rows else 1) * BAR
    with pytest.raises(CandleFileError, match=f"row {begin + 2}: .* a candle every 0?{step // 60}:{step % 60:02}:00"):
        read_candles(write(tmp_path, times))


def test_a_row_without_a_time_is_counted(tmp_path: Path) -> None:
    assert read_candles(write(tmp_path, [*GRID[:9], "", *GRID[9:]])).notes == ("1 row without a time not used",)


def test_the_files_of_the_field_are_read_or_refused_in_one_line(shared_data: Path) -> None:
    said = {}
    for path in sorted((shared_data / "field").glob("*.csv")):
        try:
            said[path.stem] = "; ".join(read_candles(path).notes) or "read"
        except CandleFileError as error:
            said[path.stem] = "refused" if path.name in str(error) and "\n" not in str(error) else str(error)
    assert said == {
        "five_minutes_off_the_quarter_hour": "refused",
        "half_candle_then_whole": "1 half candle gave way to the whole one of the same time",
        "hourly_then_quarter_hours": "refused",
        "microseconds": "times in microseconds",
        "milliseconds_then_microseconds": "times in milliseconds, then microseconds",
        "nanoseconds": "times in nanoseconds",
        "repeated_header": "refused",
        "seconds": "times in seconds",
        "thousands": "refused",
    }


@pytest.mark.long
def test_every_recording_of_ours_is_read(shared_data: Path) -> None:
    for path in sorted((shared_data / "candles").rglob("*.parquet")):
        if path.name in ("1h.parquet", "30m.parquet"):
            continue
        assert read_candles(path).has_volume


@pytest.mark.long
def test_of_all_real_candles_131_are_no_trades_and_two_of_them_lie_in_a_real_halt(shared_data: Path) -> None:
    quiet, missing = 0, []
    for path in sorted((shared_data / "candles").rglob("*.parquet")):
        if path.name in ("1h.parquet", "30m.parquet"):
            continue
        file = read_candles(path)
        answer = Answer(file.bars, (file.span,), final=True, has_volume=file.has_volume)
        made = assemble("X-USDT", "main", answer, file.span, file.span.end, file.span.end, 4).candles
        without = file.bars.filter(pl.col("volume") == 0).select("open_time")
        labelled = made.join(without, on="open_time").filter(pl.col("status") != "TRADED")
        quiet += labelled.height
        missing += labelled.filter(pl.col("status") == "MISSING")["open_time"].to_list()
    assert quiet == 131
    assert missing == [datetime(2023, 3, 24, 12, 30, tzinfo=UTC)] * 2
