"""What makes the lakes of the tests cheap: nearly every test begins one, and most open it several times.

- A new lake is a copy of one that was made once, since making it takes over a second.
- DuckDB does not prove the signatures of its extensions, 70 MB at each connection.

Both are as the program does them wherever a test starts it in a process of its own, and below `as_the_program_does`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mm_dagster.history.catalog import SqliteCatalog
from mm_dagster.history.lake import Lake
from mm_dagster.history.marker import KEY
from mm_dagster.history.sessions import Sessions

_attach, _connect = Sessions._attach, duckdb.connect


@contextmanager
def as_the_program_does() -> Iterator[None]:
    """Within it lakes are made and opened as everywhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sessions, "_attach", _attach)
        patch.setattr(duckdb, "connect", _connect)
        yield


@contextmanager
def cheap(folder: Path) -> Iterator[None]:
    """Within it they are cheap; the lake that new ones are copies of is made in that folder when it is needed."""

    def attach(self: Sessions, connection: duckdb.DuckDBPyConnection, *, create: bool = False, **more: Any) -> None:
        if create and isinstance(self.catalog, SqliteCatalog) and not os.path.lexists(self.catalog.path):
            shutil.copyfile(_made_once(folder), self.catalog.path)
        _attach(self, connection, create=create, **more)

    def connect(*place: Any, config: dict[str, str] | None = None, **more: Any) -> duckdb.DuckDBPyConnection:
        return _connect(*place, config={**(config or {}), "allow_unsigned_extensions": "true"}, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sessions, "_attach", attach)
        patch.setattr(duckdb, "connect", connect)
        yield


def _made_once(folder: Path) -> Path:
    """The catalogue of a new lake that has no identity yet: each copy gets its own."""
    catalog = folder / "catalog.sqlite"
    if not catalog.exists():
        with as_the_program_does():
            Lake(folder / "made").close()
        with sqlite3.connect(folder / "made" / "catalog.sqlite") as connection:
            connection.execute("DELETE FROM ducklake_metadata WHERE key = ?", [KEY])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        (folder / "made" / "catalog.sqlite").rename(catalog)
    return catalog
