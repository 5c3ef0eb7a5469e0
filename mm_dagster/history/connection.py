"""A connection to DuckDB: opened with what the lake needs, its errors in one line, its SQL quoted."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import duckdb
import polars as pl

from mm_dagster import logs
from mm_dagster.errors import ForeseenError
from mm_dagster.history.catalog import PostgresCatalog, SqliteCatalog

if TYPE_CHECKING:
    from mm_dagster.history.places import Place

METADATA = "__ducklake_metadata_history"
"""What DuckLake calls the database of its own tables, when the lake is attached as `history`."""
_LOOKS = (0.0, 0.2, 1.0, 2.0)
"""Seconds before each look at what was uploaded."""
_PATIENT = 8
"""Repetitions of each request of the last look: a storage that throttles is no storage that lost something."""
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


_before_commit: ContextVar[Callable[[], None]] = ContextVar("before_commit", default=lambda: None)


@contextmanager
def refusing(check: Callable[[], None]) -> Iterator[None]:
    """Meanwhile no commit of this thread is made before a check, which raises where none may be."""
    token = _before_commit.set(check)
    try:
        yield
    finally:
        _before_commit.reset(token)


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection, commit: Commit) -> Iterator[None]:
    """One commit with its message. Whoever fails in it must close the connection, which rolls back."""
    said = {"run_id": commit.run_id, "asset": commit.asset, "span": commit.span}
    asked = logs.request_id()
    extra = json.dumps(said | ({"request_id": asked} if asked else {}))
    with proven(connection):
        yield
        connection.execute(
            "CALL history.set_commit_message('mm_dagster', ?, extra_info => ?)",
            [f"{commit.asset} {commit.span}".strip(), extra],
        )


@contextmanager
def proven(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One commit, before which all that it uploaded to object storage is read back; see `transaction`.

    A storage that says 200 and stores nothing would leave a table that nobody can read.

    Raises:
        LakeError: something that was uploaded is not there.
    """
    [(reached,)] = connection.execute("SELECT current_setting('allowed_directories')").fetchall()
    uploads_to = next((str(one) for one in reached if "://" in str(one)), None)
    if uploads_to:
        connection.execute("CALL truncate_duckdb_logs()")
    connection.execute("BEGIN")
    yield
    if uploads_to:
        _read_back(connection, uploads_to)
    _before_commit.get()()
    connection.execute("COMMIT")


def _read_back(connection: duckdb.DuckDBPyConnection, files: str) -> None:
    """Reads every value of all that a writer uploaded since its transaction began.

    Args:
        connection: of `reach_only`, with its log of requests.
        files: the prefix below which it writes, with bucket and slash.
    """
    asked = connection.execute(
        "SELECT DISTINCT request.url FROM duckdb_logs_parsed('HTTP') WHERE request.type IN ('PUT', 'POST')"
    ).fetchall()
    # A bucket is a part of the path or of the host; what follows it is the same.
    inside = "/" + files.removeprefix("s3://").partition("/")[2]
    paths = [unquote(str(url).partition("?")[0]) for (url,) in asked]
    names = sorted({quoted(path.partition(inside)[2]) for path in paths if inside in path})
    if not names:
        return
    listed = ", ".join(f"'{quoted(files)}{name}'" for name in names)
    query = (
        "SELECT bit_xor(hash(COLUMNS(*))) "
        f"FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
    )
    # Of its own, since DuckDB repeats a request for what is not there as often as one that failed.
    with connection.cursor() as cursor:
        for pause in _LOOKS:
            time.sleep(pause)
            cursor.execute(f"SET SESSION http_retries = {0 if pause < _LOOKS[-1] else _PATIENT}")
            try:
                cursor.execute(query).fetchall()
                return
            except duckdb.HTTPException as error:
                wrong: Exception = error
            except (duckdb.IOException, duckdb.InvalidInputException) as error:
                wrong = error
    raise LakeError(
        f"{files.removesuffix('/')}: the storage said that it had stored {len(names)} files, and reading them back "
        f"failed ({one_line(wrong)}); nothing was committed. Run it again, and ask who runs the storage"
    ) from wrong


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
def asking(place: Place) -> Iterator[None]:
    """What is wrong with a query, or with the place of the files, is told in one line."""
    try:
        yield
    except duckdb.Error as error:
        told = place.explain(error)
        if told:
            raise LakeError(told) from error
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


def load(catalog: SqliteCatalog | PostgresCatalog, place: Place) -> duckdb.DuckDBPyConnection:
    """A connection that knows how to attach a lake with such a catalogue, and its files in such a place.

    Raises:
        LakeError: the package of object storage is not installed.
    """
    connection = _connected((*catalog.extensions, *place.extensions), place)
    # GLOBAL: of the cursors too.
    connection.execute("SET GLOBAL timezone = 'UTC'")
    # It would be drawn on stdout, among the rows.
    connection.execute("SET enable_progress_bar = false")
    if catalog.secret is not None:
        connection.execute(catalog.secret)
    return connection


def load_files(place: Place) -> duckdb.DuckDBPyConnection:
    """A connection that reads Parquet files of a place, and knows no lake.

    Raises:
        LakeError: the package of object storage is not installed.
    """
    connection = _connected(place.extensions, place)
    connection.execute("SET timezone = 'UTC'")
    return connection


def _connected(extensions: tuple[str, ...], place: Place) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"python_enable_replacements": "false", "allow_unredacted_secrets": "false"})
    for name in extensions:
        path = extension_path(name)
        if path is None and name in place.extensions:
            raise LakeError(
                f"{place}: needs the package duckdb-extension-{name} in version {duckdb.__version__}; install "
                "mm-dagster[s3]"
            )
        if path:
            connection.execute(f"LOAD '{quoted(path)}'")
        else:
            connection.execute(f"INSTALL {name}; LOAD {name}")
    for name, value in place.settings().items():
        connection.execute(f"SET GLOBAL {name} = {value}")
    secret = place.secret()
    if secret is not None:
        connection.execute(secret)
    return connection


def attach(
    connection: duckdb.DuckDBPyConnection,
    place: Place,
    catalog: SqliteCatalog | PostgresCatalog,
    *,
    read_only: bool,
    create: bool = False,
    at: datetime | None = None,
) -> None:
    """Attaches a lake as `history`.

    Args:
        connection: see `load`.
        place: where its Parquet files are, given each time, since the catalogue remembers where they once were.
        catalog: what knows them.
        read_only: for a reader.
        create: begin a lake where there is none; else that is an error.
        at: as it was stored at that time; None: as it is now.
    """
    options = [
        f"DATA_PATH '{quoted(place.url('files'))}'",
        "OVERRIDE_DATA_PATH true",
        f"CREATE_IF_NOT_EXISTS {str(create).lower()}",
        *catalog.options(read_only=read_only),
        "READ_ONLY" if read_only else f"DATA_INLINING_ROW_LIMIT {_INLINE_ROWS}",
        *([f"SNAPSHOT_TIME '{at.astimezone(UTC).isoformat()}'"] if at else []),
    ]
    address = catalog.attached(read_only=read_only)
    connection.execute(f"ATTACH 'ducklake:{quoted(address)}' AS history ({', '.join(options)})")
    connection.execute("USE history")


def lock_down(connection: duckdb.DuckDBPyConnection, place: Place) -> None:
    """From now on it reaches no file but the lake's own, loads nothing, and cannot be told otherwise."""
    reach_only(connection, place)
    connection.execute("SET lock_configuration = true")


def reach_only(connection: duckdb.DuckDBPyConnection, place: Place) -> None:
    """From now on it reaches no file but the lake's own: any other is refused before it is asked for."""
    connection.execute(f"SET allowed_directories = ['{quoted(place.url('files'))}/']")
    connection.execute("SET enable_external_access = false")


def log_uploads(connection: duckdb.DuckDBPyConnection) -> None:
    """From now on a writer remembers its requests, so that `proven` knows what it uploaded."""
    connection.execute("CALL enable_logging('HTTP')")
