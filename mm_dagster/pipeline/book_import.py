"""Bought history: the files of Tardis as rows of `book_features`, beside those that were recorded."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, Span, midnight, time_of_ns
from mm_dagster.books.features import measure
from mm_dagster.books.follow import BookMarket
from mm_dagster.books.tape import Tape
from mm_dagster.books.tardis import QUARTER_NS, TardisError, scale_of, tapes
from mm_dagster.config.sources import digest
from mm_dagster.errors import ForeseenError
from mm_dagster.pipeline.book_features import DAY, ROWS_A_TURN, Past, write
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.registry import CODE_VERSIONS

GZIP = b"\x1f\x8b"


class NotImported(ForeseenError):
    """A file cannot be taken in; one line that names it, with what would be right."""


class _Lines:
    """The lines of files, and which file was read last, so that an error names it."""

    def __init__(self) -> None:
        self.reads: Path | None = None

    def of(self, path: Path) -> Iterator[bytes]:
        """The lines of a file, packed or not."""
        self.reads = path
        with path.open("rb") as opened:
            is_packed = opened.read(2) == GZIP
        with gzip.open(path, "rb") if is_packed else path.open("rb") as lines:
            for line in lines:
                self.reads = path
                yield line


def import_files(
    project: Project, exchange: str, symbol: str, book: Path, trades: Path, depth: int,
    say: Callable[[datetime], None] = lambda as_of: None,
) -> tuple[int, int]:  # fmt: skip
    """Takes in a market's `incremental_book_L2` and `trades` of the same time.

    Args:
        project: configuration and lake.
        exchange: its name in books.yaml.
        symbol: like ETH-USDT.
        book: a file of Tardis, packed or not.
        trades: likewise.
        depth: levels of a side; a snapshot with as many may have been cut.
        say: how far it is.

    Returns:
        How many rows were made, and how many quarter hours were left out, since they were recorded.

    Raises:
        NotImported: a file is not what it has to be. What was made before the place stays.
    """
    lines = _Lines()
    try:
        files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (book, trades)]
        market = BookMarket(exchange, symbol, scale_of(lines.of(book), lines.of(trades)), depth)
        return _Taken(project, market, files).take(tapes(market, lines.of(book), lines.of(trades)), say)
    except TardisError as error:
        raise NotImported(f"{lines.reads}: {error}") from None
    except (OSError, EOFError) as error:
        raise NotImported(f"{lines.reads or book}: cannot be read: {error}") from None


class _Taken:
    """What is made of the tapes of a market."""

    def __init__(self, project: Project, market: BookMarket, files: list[str]) -> None:
        self._project, self._market, self._files = project, market, files
        self._levels = project.config.books.levels
        self._rows: dict[datetime, dict[str, Any]] = {}
        self._recorded: set[datetime] = set()

    def take(self, told: Iterator[tuple[int, Tape]], say: Callable[[datetime], None]) -> tuple[int, int]:
        """Makes the rows, and writes them a day at a time."""
        made, left_out = 0, 0
        waiting: list[dict[str, Any]] = []
        try:
            for start_ns, tape in told:
                as_of = time_of_ns(start_ns) + BAR
                if not self._rows:
                    self._remember(as_of)
                say(as_of)
                if as_of in self._recorded:
                    left_out += 1
                    continue
                waiting.append(self._row(tape, start_ns, as_of))
                made += 1
                if len(waiting) >= ROWS_A_TURN:
                    write(self._project, "mm books import", waiting)
                    waiting = []
        finally:
            write(self._project, "mm books import", waiting)
        return made, left_out

    def _remember(self, first: datetime) -> None:
        """The rows of the day before, and which quarter hours were recorded."""
        start = midnight((first - BAR).date()) - DAY
        ours = (pl.col("exchange") == self._market.exchange) & (pl.col("as_of") > start)
        lake, symbols = self._project.lake, [self._market.symbol]
        span = Span(start, start + 3650 * timedelta(days=1))
        for row in lake.read("book_features", span=span, symbols=symbols).filter(ours).iter_rows(named=True):
            self._rows[row["as_of"]] = row
        segments = lake.read("book_segment", span=span, symbols=symbols).filter(ours)
        self._recorded = set(segments["as_of"].to_list())

    def _row(self, tape: Tape, start_ns: int, as_of: datetime) -> dict[str, Any]:
        past = Past.of(self._rows, as_of)
        row = {
            "exchange": self._market.exchange,
            "symbol": self._market.symbol,
            "as_of": as_of,
            **measure(tape, start_ns, start_ns + QUARTER_NS, self._levels, past.volume(self._market.scale)),
            "config_hash": digest(
                {"levels": self._levels, "files": self._files, "yesterday": past.yesterday, "today": past.today}
            ),
            "code_version": CODE_VERSIONS["book_features"],
        }
        self._rows[as_of] = row
        return row
