"""A recorded market: candle files in Parquet or CSV, whose clock stands at the end of what they hold."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from mm_dagster.bars import BAR, TIME, Span, ceil_bar, floor_bar, iso, parse_time
from mm_dagster.config import RecordedVenue
from mm_dagster.market.venue import ROWS, Answer, VenueError, did_you_mean
from mm_dagster.tables import MarketRules

_VALUES = ROWS.names()[1:]
_COMMON = 0.05
"""Share of neighbouring rows that must lie an interval apart for a file to have that interval."""


class RecordedMarket:
    """Candles from `<path>/<SYMBOL>/<file>`. Intervals finer than 15 minutes are aggregated, coarser ones refused.

    What lies before the first or after the last row of a file is not answered for; a hole between them is an answer.
    """

    simulated = False

    def __init__(self, name: str, settings: RecordedVenue, folder: Path) -> None:
        """
        Args:
            name: name in markets.yaml.
            settings: where the files are.
            folder: the configuration folder, which a relative path starts from.

        Raises:
            VenueError: the folder of the recordings is not there, or its files are neither Parquet nor CSV.
        """
        self.name = name
        self._folder = folder / settings.path
        self._file = settings.file
        self._frames: dict[str, tuple[pl.DataFrame, Span]] = {}
        self._now: datetime | None = None
        self._reading = threading.RLock()
        if Path(self._file).suffix not in (".parquet", ".csv"):
            raise VenueError(
                f"{name}: file: {self._file!r} is neither Parquet nor CSV; it must end in .parquet or .csv"
            )
        if not self._folder.is_dir():
            raise VenueError(
                f"{name}: path: {self._folder} is not a folder; put candles at <path>/<SYMBOL>/{self._file}"
            )

    def now(self) -> datetime:
        """The end of the recording: when the last bar of all symbols closes.

        Raises:
            VenueError: there is no recording, or one cannot be read.
        """
        if self._now is None:
            symbols = self._symbols()
            if not symbols:
                raise VenueError(f"{self.name}: {self._folder} holds no <SYMBOL>/{self._file}; put the candles there")
            self._now = max(self._recording(symbol)[1].end for symbol in symbols)
        return self._now

    def fetch(self, symbol: str, span: Span) -> Answer:
        """The recorded candles of a span.

        Raises:
            VenueError: there is no file for the symbol, or it cannot be read.
        """
        rows, recorded = self._recording(symbol)
        answered = Span(max(span.start, recorded.start), min(span.end, recorded.end))
        error = None
        if answered.start > span.start or answered.end < span.end:
            error = f"{self.name}: {symbol}: {self._path(symbol)} holds {recorded} and was asked for {span}"
        return Answer(rows.filter(span.opens()), (answered,) if answered.bars else (), error)

    def last_prices(self, symbols: Sequence[str]) -> dict[str, float | None]:
        """The last recorded close of each, quote currency; None where there is no file that can be read."""
        return {symbol: self._last_close(symbol) for symbol in symbols}

    def _last_close(self, symbol: str) -> float | None:
        try:
            closes = self._recording(symbol)[0].sort("open_time")["close"]
        except VenueError:
            return None
        return float(closes[-1]) if len(closes) else None

    def rules(self, symbol: str) -> MarketRules | None:
        """None: recorded candles do not tell what an order must keep to."""
        return None

    def check(self) -> str:
        """How many markets are recorded, and until when.

        Raises:
            VenueError: there is no recording, or one cannot be read.
        """
        until = iso(self.now())
        return f"{len(self._symbols())} recorded markets in {self._folder}; their clock stands at {until}"

    def _path(self, symbol: str) -> Path:
        return self._folder / symbol / self._file

    def _symbols(self) -> list[str]:
        return sorted(path.parent.name for path in self._folder.glob(f"*/{self._file}"))

    def _recording(self, symbol: str) -> tuple[pl.DataFrame, Span]:
        """The 15-minute rows of a symbol, and the bars that lie wholly inside its recording."""
        with self._reading:
            return self._read_once(symbol)

    def _read_once(self, symbol: str) -> tuple[pl.DataFrame, Span]:
        if symbol not in self._frames:
            path = self._path(symbol)
            if not path.is_file():
                raise VenueError(f"{self.name}: {symbol}: {path} is missing{did_you_mean(symbol, self._symbols())}")
            rows = self._read(path)
            interval = self._interval(rows["open_time"], path)
            first, last = rows["open_time"].min(), rows["open_time"].max()
            assert isinstance(first, datetime)
            assert isinstance(last, datetime)
            bars = rows if interval == BAR else _aggregated(rows)
            self._frames[symbol] = bars, Span(ceil_bar(first), max(ceil_bar(first), floor_bar(last + interval)))
        return self._frames[symbol]

    def _read(self, path: Path) -> pl.DataFrame:
        """The rows of a file, in the types of ROWS; a price that is no number becomes null."""
        try:
            # CSV is read as text: a column with one odd value must not change what the others mean.
            rows = pl.read_csv(path, infer_schema=False) if path.suffix == ".csv" else pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise VenueError(f"{self.name}: {path} cannot be read ({reason}); replace it or write it anew") from None
        absent = [name for name in ROWS if name not in rows.columns]
        if absent:
            raise VenueError(
                f"{self.name}: {path} has no column {', '.join(absent)}; it needs {', '.join(ROWS)}, "
                f"and has {', '.join(rows.columns[:12])}"
            )
        times = self._times(rows["open_time"], path)
        rows = rows.select(times, *(pl.col(name).cast(pl.Float64, strict=False) for name in _VALUES))
        rows = rows.filter(pl.col("open_time").is_not_null())
        if rows.is_empty():
            raise VenueError(f"{self.name}: {path} holds no candle; replace it or take its market out")
        return rows

    def _times(self, times: pl.Series, path: Path) -> pl.Series:
        """Opening times in UTC: timestamps of any unit, ISO 8601 text, or milliseconds since the epoch."""
        if times.dtype == pl.String:
            if times.drop_nulls().str.contains(r"^\d{9,}$").all():
                times = times.cast(pl.Int64)
            else:
                try:
                    times = pl.Series([None if text is None else parse_time(text) for text in times], dtype=TIME)
                except ValueError as error:
                    raise VenueError(f"{self.name}: {path}: open_time: {error}") from None
        if times.dtype.is_integer():
            times = times.cast(pl.Datetime("ms"))
        if not isinstance(times.dtype, pl.Datetime):
            raise VenueError(f"{self.name}: {path}: open_time is {times.dtype}; it must be a timestamp, UTC")
        zoned = times if times.dtype.time_zone else times.dt.replace_time_zone("UTC")
        return zoned.dt.convert_time_zone("UTC").cast(TIME).alias("open_time")

    def _interval(self, times: pl.Series, path: Path) -> timedelta:
        """The interval of a file: the smallest distance that is common between neighbouring rows."""
        steps = times.unique().sort().diff().drop_nulls()
        if steps.is_empty():
            return BAR
        counts = steps.value_counts().filter(pl.col("count") >= _COMMON * len(steps))
        # Holes without any pattern leave no common distance; then the smallest one says most.
        interval = (counts[steps.name] if counts.height else steps).min()
        assert isinstance(interval, timedelta)
        if interval > BAR or BAR % interval:
            raise VenueError(
                f"{self.name}: {path} has a candle every {interval}; it must be 15 minutes or divide them, like 0:05:00"
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
