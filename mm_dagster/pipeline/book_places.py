"""Which markets were ever recorded: a folder each below `books` in the data, whether books.yaml names it or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from mm_dagster.recorder.log import folder_name
from mm_dagster.recorder.places import Place, place_of, root_of


@dataclass(frozen=True, order=True)
class RecordedMarket:
    """A market of the recorder.

    Attributes:
        exchange: its name in books.yaml.
        symbol: like ETH-USDT.
        root: folder of all that is recorded.
    """

    exchange: str
    symbol: str
    root: Path

    @property
    def name(self) -> str:
        """Like kucoin:ETH-USDT."""
        return f"{self.exchange}:{self.symbol}"

    @property
    def place(self) -> Place:
        """Where its files are."""
        return place_of(self.root, self.exchange, self.symbol)

    def file(self, segment: str) -> str:
        """A segment, relative to the root."""
        return str((self.place.segments / segment).relative_to(self.root))


def now_here() -> datetime:
    """This computer's time, by which the recorder's words are; no exchange is asked, and no demo moves it."""
    return datetime.now(UTC)


def recorded_markets(data: Path) -> list[RecordedMarket]:
    """Every market that was ever recorded, by name."""
    root = root_of(data)
    if not root.is_dir():
        return []
    found = []
    for folder in root.iterdir():
        exchange, colon, symbol = unquote(folder.name).partition(":")
        if colon and symbol and folder.is_dir() and folder_name(f"{exchange}:{symbol}") == folder.name:
            found.append(RecordedMarket(exchange, symbol, root))
    return sorted(found)
