"""Where the recorder's files are: one root, and in it a folder for each market."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mm_dagster.errors import ForeseenError
from mm_dagster.recorder.log import LOCK, folder_name

BOOK = "book.json"


class PlaceError(ForeseenError):
    """The root cannot be used, or not by this process; one line, with the remedy."""


@dataclass(frozen=True)
class Place:
    """The folder of a market.

    Attributes:
        folder: where everything of it is.
    """

    folder: Path

    @property
    def log(self) -> Path:
        """Folder of its log."""
        return self.folder / "log"

    @property
    def segments(self) -> Path:
        """Folder of its sealed quarter hours."""
        return self.folder / "segments"

    @property
    def book(self) -> Path:
        """File with its best levels as they are now."""
        return self.folder / BOOK


def root_of(data: Path) -> Path:
    """The root of a data folder."""
    return data / "books"


def place_of(root: Path, exchange: str, symbol: str) -> Place:
    """Where a market's files are.

    Args:
        root: of all.
        exchange: its name in books.yaml.
        symbol: like ETH-USDT.
    """
    return Place(root / folder_name(f"{exchange}:{symbol}"))


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Sees to it that nobody else records to a root meanwhile; makes it where it is missing.

    Raises:
        PlaceError: somebody does, or it cannot be used.
    """
    lock = FileLock(root / LOCK, timeout=0)
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire()
    except Timeout:
        raise PlaceError(f"{root}: another `mm record` writes there; end that one first") from None
    except OSError as error:
        raise PlaceError(
            f"{root}: cannot be used: {error.strerror or error}; let the user who runs this write there"
        ) from None
    try:
        yield
    finally:
        lock.release()
