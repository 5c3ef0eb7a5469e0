"""A connection to DuckDB: opened with what the lake needs, its errors in one line, its SQL quoted."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from mm_dagster import logs
from mm_dagster.errors import ForeseenError
from mm_dagster.history.catalog import PostgresCatalog, SqliteCatalog

METADATA = "__ducklake_metadata_history"
"""What DuckLake calls the database of its own tables, when the lake is attached as `history`."""
_INLINE_ROWS = 50
"""Commits of fewer rows stay in the catalogue until the upkeep flushes them: a tick writes no file."""


class LakeError(ForeseenError):
    """The history cannot be read or written as asked. One line, with the remedy."""


@dataclass(frozen=True)
class Commit:
    """What a write says of itself.

    Attributes:
        run_id: the run that wrote.
        asset: the table or asset.
        span: the bars, in words.
    """

    run_id: str
    asset: str
    span: str


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection, commit: Commit) -> Iterator[None]:
    """One commit with its message. Whoever fails in it must close the connection, which rolls back."""
    said = {"run_id": commit.run_id, "asset": commit.asset, "span": commit.span}
    asked = logs.request_id()
    extra = json.dumps(said | ({"request_id": asked} if asked else {}))
    connection.execute("BEGIN")
    yield
    connection.execute(
        "CALL history.set_commit_message('mm_dagster', ?, extra_info => ?)",
        [f"{commit.asset} {commit.span}".strip(), extra],
    )
    connection.execute("COMMIT")


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is Ctrl-C: DuckDB makes an error of its own of it."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


@contextmanager
def asking() -> Iterator[None]:
    """What is wrong with a query is told in one line."""
    try:
        yield
    except duckdb.Error as error:
        raise LakeError(f"{one_line(error)}; `mm sql` lists what there is") from error
    except pl.exceptions.DuplicateError as error:
        raise LakeError("two columns of the answer have one name; give each its own with AS") from error
    except pl.exceptions.PolarsError as error:
        raise LakeError(f"{one_line(error)}; cast that column to VARCHAR") from error


def databases(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()}


def count(connection: duckdb.DuckDBPyConnection, query: str, values: list[Any] | None = None) -> int:
    # All of it is fetched: a result that is left open holds its snapshot of the catalogue, and its log grows.
    [(number,)] = connection.execute(query, values or []).fetchall()
    return int(number)


def quote(name: str) -> str:
    return f'"{name}"'


def quoted(text: object) -> str:
    """Text between single quotes, where SQL takes no parameter."""
    return str(text).replace("'", "''")


def one_line(error: BaseException) -> str:
    """What DuckDB said, with its "did you mean", without the excerpt of the query below it."""
    return " ".join(str(error).strip().split("\n\n")[0].split())


def extension_path(name: str) -> Path | None:
    """The signed binary that the package of an extension carries for this DuckDB; None: it is not installed."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / f"extensions/v{duckdb.__version__}/{name}.duckdb_extension"
    return path if path.is_file() else None


def load(catalog: SqliteCatalog | PostgresCatalog) -> duckdb.DuckDBPyConnection:
    """A connection that knows how to attach a lake with such a catalogue."""
    connection = duckdb.connect(config={"python_enable_replacements": "false", "allow_unredacted_secrets": "false"})
    for name in catalog.extensions:
        path = extension_path(name)
        if path:
            connection.execute(f"LOAD '{quoted(path)}'")
        else:
            connection.execute(f"INSTALL {name}; LOAD {name}")
    # GLOBAL: of the cursors too.
    connection.execute("SET GLOBAL timezone = 'UTC'")
    # It would be drawn on stdout, among the rows.
    connection.execute("SET enable_progress_bar = false")
    if catalog.secret is not None:
        connection.execute(catalog.secret)
    return connection


def attach(
    connection: duckdb.DuckDBPyConnection,
    files: Path,
    catalog: SqliteCatalog | PostgresCatalog,
    *,
    read_only: bool,
    create: bool = False,
    at: datetime | None = None,
) -> None:
    """Attaches a lake as `history`.

    Args:
        connection: see `load`.
        files: the folder of its Parquet files, given each time, since the catalogue remembers where they once were.
        catalog: what knows them.
        read_only: for a reader.
        create: begin a lake where there is none; else that is an error.
        at: as it was stored at that time; None: as it is now.
    """
    options = [
        f"DATA_PATH '{quoted(files)}'",
        "OVERRIDE_DATA_PATH true",
        f"CREATE_IF_NOT_EXISTS {str(create).lower()}",
        *catalog.options(read_only=read_only),
        "READ_ONLY" if read_only else f"DATA_INLINING_ROW_LIMIT {_INLINE_ROWS}",
        *([f"SNAPSHOT_TIME '{at.astimezone(UTC).isoformat()}'"] if at else []),
    ]
    address = catalog.attached(read_only=read_only)
    connection.execute(f"ATTACH 'ducklake:{quoted(address)}' AS history ({', '.join(options)})")
    connection.execute("USE history")


def lock_down(connection: duckdb.DuckDBPyConnection, files: Path) -> None:
    """From now on it reaches no file but the lake's own, loads nothing, and cannot be told otherwise."""
    connection.execute(f"SET allowed_directories = ['{quoted(files)}/']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
