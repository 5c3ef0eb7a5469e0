"""A recorded market: candle files in Parquet or CSV, whose clock stands at the end of what they hold."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from mm_dagster.bars import Span, iso
from mm_dagster.config.markets import RecordedVenue
from mm_dagster.market.files import CandleFileError, read_candles
from mm_dagster.market.venue import Answer, OrderBook, VenueError
from mm_dagster.tables.market import MarketRules
from mm_dagster.text import counted, did_you_mean


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
        self._has_volume: dict[str, bool] = {}
        self._notes: dict[str, str] = {}
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
        """The end of the recording: when the last bar of all symbols closes that can be read.

        Raises:
            VenueError: there is no recording, or none can be read.
        """
        if self._now is None:
            symbols = self._symbols()
            if not symbols:
                raise VenueError(f"{self.name}: {self._folder} holds no <SYMBOL>/{self._file}; put the candles there")
            ends: list[datetime] = []
            failures: list[VenueError] = []
            for symbol in symbols:
                try:
                    ends.append(self._recording(symbol)[1].end)
                except VenueError as failure:
                    # It is said where its market is asked for; those beside it are read all the same.
                    failures.append(failure)
            if not ends:
                raise failures[0]
            self._now = max(ends)
        return self._now

    def fetch(self, symbol: str, span: Span) -> Answer:
        """The recorded candles of a span.

        Raises:
            VenueError: there is no file for the symbol, or it cannot be read.
        """
        rows, recorded = self._recording(symbol)
        answered = Span(max(span.start, recorded.start), min(span.end, recorded.end))
        error = None
        if recorded.end < min(span.end, self.now()):
            error = f"{self.name}: {symbol}: {self._path(symbol)} holds {recorded} and was asked for {span}"
        return Answer(
            rows.filter(span.opens()),
            (answered,) if answered.bars else (),
            error,
            # What is before its first row nobody will ever know; it is no fault of the recording.
            kept_from=recorded.start,
            final=True,
            has_volume=self._has_volume[symbol],
            note=self._notes.get(symbol),
        )

    def last_prices(self, symbols: Sequence[str], seconds: float | None = None) -> dict[str, float | None]:
        """The last recorded close of each, quote currency; None where there is no file that can be read."""
        return {symbol: self._last_close(symbol) for symbol in symbols}

    def _last_close(self, symbol: str) -> float | None:
        try:
            closes = self._recording(symbol)[0].sort("open_time")["close"]
        except VenueError:
            return None
        return float(closes[-1]) if len(closes) else None

    def order_book(self, symbol: str, seconds: float) -> OrderBook:
        """None.

        Raises:
            VenueError: always.
        """
        raise VenueError(f"{self.name}: {symbol}: no order book: a recording of candles has none")

    def rules(self, symbol: str) -> MarketRules | None:
        """None: recorded candles do not tell what an order must keep to."""
        return None

    def check(self) -> str:
        """How many markets are recorded, and until when.

        Raises:
            VenueError: there is no recording, or one cannot be read.
        """
        until = iso(self.now())
        for symbol in self._symbols():
            self._recording(symbol)
        notes = "".join(f"; {note}" for _, note in sorted(self._notes.items()))
        return (
            f"{counted(len(self._symbols()), 'recorded market')} in {self._folder}; the clock stands at {until}{notes}"
        )

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
            try:
                recorded = read_candles(path)
            except CandleFileError as error:
                raise VenueError(f"{self.name}: {symbol}: {error}") from None
            self._frames[symbol] = recorded.bars, recorded.span
            self._has_volume[symbol] = recorded.has_volume
            if recorded.notes:
                self._notes[symbol] = f"{symbol}: {', '.join(recorded.notes)}"
        return self._frames[symbol]
