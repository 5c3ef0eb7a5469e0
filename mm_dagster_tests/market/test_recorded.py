"""Recorded markets: real files, finer intervals, and files that are not what they should be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, DAY_BARS, TIME, Span, midnight
from mm_dagster.config.markets import CandlesConfig, RecordedVenue
from mm_dagster.market.collect import collect
from mm_dagster.market.open import open_venue
from mm_dagster.market.recorded import RecordedMarket
from mm_dagster.market.venue import ROWS, VenueError

DAY = datetime(2025, 1, 1, tzinfo=UTC)


def minutes(count: int, step: int = 1, start: datetime = DAY) -> pl.DataFrame:
    """Candles every `step` minutes that rise by one each."""
    times = [start + n * timedelta(minutes=step) for n in range(count)]
    price = pl.int_range(100, 100 + count, eager=True).cast(pl.Float64)
    return pl.DataFrame(
        {"open_time": times, "open": price, "high": price + 2, "low": price - 1, "close": price + 1, "volume": price},
        schema_overrides={"open_time": TIME},
    )


def recording(folder: Path, frame: pl.DataFrame, symbol: str = "ETH-USDT", file: str = "15m.parquet") -> RecordedMarket:
    path = folder / "files" / symbol / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return market(folder, file)


def market(folder: Path, file: str = "15m.parquet") -> RecordedMarket:
    return RecordedMarket("main", RecordedVenue(kind="recorded", path="files", file=file), folder)


def test_a_real_recording_is_read_bit_for_bit_and_its_clock_stands_at_its_end(shared_data: Path) -> None:
    venue = open_venue("main", RecordedVenue(kind="recorded", path="candles/kucoin"), shared_data)
    assert not venue.simulated
    end = venue.now()
    assert end == datetime(2025, 12, 28, tzinfo=UTC)
    span = Span(end - 7 * DAY_BARS * BAR, end)
    got = collect(venue, "ETH-USDT", span, CandlesConfig(), wait=pytest.fail)
    file = pl.read_parquet(shared_data / "candles/kucoin/ETH-USDT/15m.parquet").with_columns(
        pl.col("open_time").cast(TIME)
    )
    assert got.error is None
    assert got.candles.select(ROWS.names()).equals(file.filter(span.opens()).select(ROWS.names()))
    assert venue.last_prices(["ETH-USDT"])["ETH-USDT"] == file["close"][-1]


@pytest.mark.slow
def test_real_one_minute_candles_become_the_real_fifteen_minute_ones(shared_data: Path) -> None:
    span = Span(datetime(2018, 3, 1, tzinfo=UTC), datetime(2018, 3, 8, tzinfo=UTC))
    sets = []
    for file in ("1m.parquet", "15m.parquet"):
        venue = RecordedMarket("main", RecordedVenue(kind="recorded", path="candles/bitfinex", file=file), shared_data)
        sets.append(venue.fetch("ETH-USD", span).rows.sort("open_time"))
    fine, coarse = sets
    assert fine.height > 600
    assert fine.select(ROWS.names()[:-1]).equals(coarse.select(ROWS.names()[:-1]))
    assert (fine["volume"] - coarse["volume"]).abs().max() < 1e-6


def test_a_hole_inside_is_an_answer_and_what_lies_outside_is_not(tmp_path: Path) -> None:
    frame = minutes(8, step=15).filter(pl.col("open_time") != DAY + 3 * BAR)
    answer = recording(tmp_path, frame).fetch("ETH-USDT", Span(DAY - 4 * BAR, DAY + 12 * BAR))
    assert answer.answered == (Span(DAY, DAY + 8 * BAR),)
    assert answer.rows.height == 7
    # It ends where its own clock stands, and before it nobody will ever know.
    assert (answer.error, answer.kept_from) == (None, DAY)


def test_what_another_recording_knows_longer_is_said(tmp_path: Path) -> None:
    recording(tmp_path, minutes(8, step=15))
    venue = recording(tmp_path, minutes(12, step=15), "BTC-USDT")
    assert "holds" in (venue.fetch("ETH-USDT", Span(DAY, DAY + 12 * BAR)).error or "")
    assert venue.fetch("BTC-USDT", Span(DAY, DAY + 12 * BAR)).error is None


@pytest.mark.parametrize("step", [1, 3, 5])
def test_finer_candles_are_merged_into_bars(tmp_path: Path, step: int) -> None:
    per_bar = 15 // step
    answer = recording(tmp_path, minutes(4 * per_bar, step)).fetch("ETH-USDT", Span(DAY, DAY + 4 * BAR))
    second = answer.rows.sort("open_time").row(1, named=True)
    first_price = 100.0 + per_bar
    assert second["open"] == first_price
    assert second["close"] == first_price + per_bar
    assert second["high"] == first_price + per_bar + 1
    assert second["low"] == first_price - 1
    assert second["volume"] == sum(first_price + n for n in range(per_bar))


def test_a_bar_of_finer_candles_that_is_not_wholly_recorded_is_not_answered(tmp_path: Path) -> None:
    venue = recording(tmp_path, minutes(40, start=DAY + timedelta(minutes=4)))
    assert venue.now() == DAY + 2 * BAR
    assert venue.fetch("ETH-USDT", Span(DAY, DAY + 4 * BAR)).answered == (Span(DAY + BAR, DAY + 2 * BAR),)


def test_a_finer_candle_that_is_no_number_is_not_hidden_by_the_others(tmp_path: Path) -> None:
    frame = minutes(30).with_columns(low=pl.when(pl.col("open") == 120).then(float("nan")).otherwise("low"))
    got = collect(recording(tmp_path, frame), "ETH-USDT", Span(DAY, DAY + 2 * BAR), CandlesConfig())
    assert got.candles["status"].to_list() == ["TRADED", "MISSING"]
    assert got.quarantined.height == 1


@pytest.mark.parametrize(
    "times",
    [
        pl.col("open_time").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        pl.col("open_time").dt.strftime("%Y-%m-%d %H:%M:%S"),
        pl.col("open_time").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        pl.col("open_time").dt.epoch("ms"),
    ],
    ids=["zulu", "naive", "offset", "milliseconds"],
)
def test_csv_times_are_iso_or_milliseconds(tmp_path: Path, times: pl.Expr) -> None:
    frame = minutes(8, step=15)
    venue = recording(tmp_path, frame.with_columns(times), file="15m.csv")
    assert venue.fetch("ETH-USDT", Span(DAY, DAY + 8 * BAR)).rows.equals(frame)


@pytest.mark.parametrize(
    "dtype", [pl.Datetime("ms"), pl.Datetime("ns", "UTC"), pl.Datetime("us", "Europe/Berlin"), pl.Int64]
)
def test_parquet_times_may_have_any_unit_and_zone(tmp_path: Path, dtype: pl.DataType) -> None:
    frame = minutes(8, step=15)
    times = pl.col("open_time").dt.epoch("ms")
    if isinstance(dtype, pl.Datetime):
        times = pl.col("open_time").dt.convert_time_zone(dtype.time_zone or "UTC")
        times = times.cast(dtype) if dtype.time_zone else times.dt.replace_time_zone(None).cast(dtype)
    venue = recording(tmp_path, frame.with_columns(times))
    assert venue.fetch("ETH-USDT", Span(DAY, DAY + 8 * BAR)).rows.equals(frame)


def test_the_clock_is_that_of_the_longest_recording(tmp_path: Path) -> None:
    recording(tmp_path, minutes(8, step=15))
    venue = recording(tmp_path, minutes(20, step=15), symbol="BTC-USDT")
    assert venue.now() == DAY + 20 * BAR
    assert "2 recorded markets" in venue.check()


def test_a_missing_file_names_the_market_that_is_there(tmp_path: Path) -> None:
    recording(tmp_path, minutes(8, step=15))
    with pytest.raises(VenueError, match=r"ETH-USD/15m.parquet is missing; did you mean ETH-USDT\?"):
        market(tmp_path).fetch("ETH-USD", Span(midnight(DAY.date()), DAY + BAR))


def test_files_that_are_no_candles_are_refused_with_file_and_remedy(tmp_path: Path) -> None:
    span = Span(DAY, DAY + BAR)
    path = tmp_path / "files" / "ETH-USDT" / "15m.parquet"
    recording(tmp_path, minutes(4, step=15).drop("volume"))
    with pytest.raises(VenueError, match=r"15m.parquet has no column volume; it needs"):
        market(tmp_path).fetch("ETH-USDT", span)
    recording(tmp_path, minutes(4, step=60))
    with pytest.raises(VenueError, match="a candle every 1:00:00; it must be 15 minutes or divide them"):
        market(tmp_path).fetch("ETH-USDT", span)
    recording(tmp_path, minutes(0, step=15))
    with pytest.raises(VenueError, match="holds no candle"):
        market(tmp_path).fetch("ETH-USDT", span)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VenueError, match=r"15m.parquet cannot be read .*; replace it"):
        market(tmp_path).fetch("ETH-USDT", span)
    recording(tmp_path, minutes(4, step=15).with_columns(open_time=pl.lit("yesterday")), file="15m.csv")
    with pytest.raises(VenueError, match="open_time: 'yesterday' is not a time"):
        market(tmp_path, "15m.csv").fetch("ETH-USDT", span)


def test_a_folder_or_ending_that_cannot_be_is_refused_when_opened(tmp_path: Path) -> None:
    with pytest.raises(VenueError, match="files is not a folder"):
        market(tmp_path)
    with pytest.raises(VenueError, match="neither Parquet nor CSV"):
        market(tmp_path, "15m.json")
