"""A SQLite file that survives a kill and a power cut: what a turn returned from is on disk, whole, or not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

PATIENCE_SECONDS = 20.0
"""How long another process's turn is waited for."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that begins and ends its transactions where it is told to."""
    file = sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)
    file.row_factory = sqlite3.Row
    # FULL, not the usual NORMAL of WAL: a commit that is lost in a power cut would be an order that nobody knows.
    file.execute("PRAGMA synchronous = FULL")
    return file


def prepare(path: Path, schema: str, refusal: Callable[[Exception], Exception]) -> None:
    """Makes the file with its tables where there is none, in a folder of its own that nobody else reads.

    Args:
        path: the file.
        schema: statements that change nothing where all is there.
        refusal: what is raised for an error of the file or the disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        with closing(connect(path)) as file:
            file.execute("PRAGMA journal_mode = WAL")
            file.executescript(schema)
        path.chmod(0o600)
    except (OSError, sqlite3.Error) as error:
        raise refusal(error) from None


@contextmanager
def turn(path: Path, refusal: Callable[[Exception], Exception]) -> Iterator[sqlite3.Connection]:
    """A transaction that writes.

    Args:
        path: the file.
        refusal: what is raised for an error of the file or the disk.
    """
    try:
        with closing(connect(path)) as file:
            file.execute("BEGIN IMMEDIATE")
            try:
                yield file
            except BaseException:
                file.execute("ROLLBACK")
                raise
            file.execute("COMMIT")
    except (OSError, sqlite3.Error) as error:
        raise refusal(error) from None


@contextmanager
def look(path: Path, refusal: Callable[[Exception], Exception]) -> Iterator[sqlite3.Connection]:
    """One moment of the file; see `turn`."""
    try:
        with closing(connect(path)) as file:
            file.execute("BEGIN")
            yield file
    except (OSError, sqlite3.Error) as error:
        raise refusal(error) from None
