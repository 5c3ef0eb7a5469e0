"""The lake: every table of tables.py in a DuckLake, Parquet files behind a SQLite catalogue.

Readers attach read-only and never wait. Writers take one file lock, replace in one transaction only the rows that
differ, and say in the commit which run wrote what. The only module that imports duckdb.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from filelock import FileLock

from mm_dagster import tables
from mm_dagster.bars import Span, iso

_EXTENSIONS = {"ducklake": "duckdb_extension_ducklake", "sqlite_scanner": "duckdb_extension_sqlite_scanner"}
_BUSY_MS = 10_000
_INLINE_ROWS = 50
"""Commits of fewer rows stay in the catalogue until the upkeep flushes them: a tick writes no file."""


class LakeError(Exception):
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


@dataclass(frozen=True)
class Written:
    """What a write changed: rows inserted, rows deleted, and rows that were there already."""

    inserted: int
    deleted: int
    unchanged: int


class Lake:
    """The history below one folder. One instance may be used by several threads; processes take turns by the lock."""

    def __init__(self, folder: Path) -> None:
        """Opens the history, and makes it with all its tables where there is none.

        Args:
            folder: holds `catalog.sqlite`, `files/` and `write.lock`; may be moved as a whole.

        Raises:
            LakeError: it was written by a newer program, or is not readable.
        """
        self._folder = folder.resolve()
        self._threads = threading.RLock()
        self._reader: duckdb.DuckDBPyConnection | None = None
        self._writer: duckdb.DuckDBPyConnection | None = None
        try:
            self._make()
        except duckdb.Error as error:
            raise LakeError(
                f"{self._folder}: {_first_line(error)}; restore a backup, or move the folder away"
            ) from error

    # reading ------------------------------------------------------------------------------------------------------

    def read(
        self,
        table: str,
        *,
        span: Span | None = None,
        symbols: Sequence[str] | None = None,
        grids: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Rows of a table, sorted by its key.

        Args:
            table: see tables.TABLES.
            span: rows whose bar opens in it (tables by open_time) or closes in it (tables by as_of); None: all.
            symbols: only these markets; None: all.
            grids: only these grids; None: all.
            columns: only these; None: all.
        """
        wanted = list(columns or tables.dtypes(table))
        where, values = _where(table, span, symbols, grids)
        order = [name for name in tables.TABLES[table].primary_key() if name in wanted]
        query = f"SELECT {_names(wanted)} FROM {table} WHERE {where}"
        with self._threads:
            rows = self._read_connection().execute(query, values).pl()
        types = tables.dtypes(table)
        rows = rows.cast({name: types[name] for name in wanted})
        return rows.sort(order) if order else rows

    def newest(self, table: str) -> dict[str, datetime]:
        """The newest open_time or as_of of each symbol that has any."""
        column = tables.time_column(table)
        query = f"SELECT symbol, max({column}) AS newest FROM {table} GROUP BY symbol ORDER BY symbol"
        with self._threads:
            rows = self._read_connection().execute(query).pl()
        return dict(zip(rows["symbol"], rows["newest"], strict=True))

    def sql(self, query: str) -> pl.DataFrame:
        """One query in DuckDB's SQL, with the tables under their bare names. Nothing can be changed.

        Raises:
            LakeError: it is no valid query, or would change something.
        """
        connection = self._connect(read_only=True)
        try:
            return connection.execute(query).pl()
        except duckdb.Error as error:
            raise LakeError(f'{_first_line(error)}; `mm sql "SHOW TABLES"` lists what there is') from error
        finally:
            connection.close()

    def snapshots(self) -> pl.DataFrame:
        """Every commit that is still kept, oldest first: when, by which run, of what."""
        return self.sql(
            "SELECT snapshot_id, snapshot_time, commit_message, commit_extra_info FROM history.snapshots() ORDER BY 1"
        )

    def check(self) -> str:
        """One line for `mm doctor`: how much there is."""
        counts = self.sql(" UNION ALL ".join(f"SELECT count(*) AS n FROM {table}" for table in tables.TABLES))
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        return f"{self._folder}: {counts['n'].sum():,} rows, {len(files)} files, {size:.1f} MB"

    # writing ------------------------------------------------------------------------------------------------------

    def write(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        span: Span,
        symbols: Sequence[str] | None = None,
        grids: Sequence[str] | None = None,
        commit: Commit,
    ) -> Written:
        """Makes the rows of a span, of these symbols or grids, exactly those of the frame, in one transaction.

        Rows that are the same stay as they are. What only a live run knows (tables.LIVE_ONLY) makes no difference
        unless the new row has something where the stored one has nothing: a backfill erases nothing, and an answer
        that came at another time is the same answer.

        Raises:
            ValueError: the frame has rows outside of what is replaced.
            LakeError: a row breaks a rule of the table; nothing was written.
        """
        rows = self._valid(table, frame)
        column = tables.time_column(table)
        inside = pl.lit(True)
        if column is not None:
            inside &= span.opens(column) if column == "open_time" else span.closes(column)
        if symbols is not None:
            inside &= pl.col("symbol").is_in(list(symbols))
        if grids is not None:
            inside &= pl.col("grid_id").is_in(list(grids))
        outside = rows.filter(~inside)
        if outside.height:
            raise ValueError(f"{table}: {outside.height} rows lie outside of {span}: {_key_of(outside, table)}")
        where, values = _where(table, span, symbols, grids)
        return self._replace(table, rows, where, values, commit)

    def upsert(self, table: str, frame: pl.DataFrame, *, commit: Commit) -> Written:
        """Inserts rows, each in place of the one with the same key; all others stay.

        Raises:
            LakeError: a row breaks a rule of the table; nothing was written.
        """
        rows = self._valid(table, frame)
        return self._replace(table, rows, f"EXISTS (SELECT 1 FROM __new n WHERE {_same_key(table)})", [], commit)

    def maintain(self, keep_days: int) -> dict[str, Any]:
        """The upkeep that bounds the size: flush, expire, rewrite, merge, clean up, vacuum.

        Args:
            keep_days: how long "what did we know then" can be asked.

        Returns:
            Files and bytes before and after.
        """
        before = self._size()
        until = datetime.now(UTC) - timedelta(days=keep_days)
        with self._writing() as connection:
            connection.execute("CALL ducklake_flush_inlined_data('history')")
            connection.execute(f"CALL ducklake_expire_snapshots('history', older_than => TIMESTAMPTZ '{iso(until)}')")
            connection.execute("CALL ducklake_rewrite_data_files('history', delete_threshold => 0.1)")
            connection.execute("CALL ducklake_merge_adjacent_files('history')")
            connection.execute("CALL ducklake_cleanup_old_files('history', cleanup_all => true)")
            connection.execute("CALL ducklake_delete_orphaned_files('history', cleanup_all => true)")
        after = self._size()
        return {"files_before": before[0], "bytes_before": before[1], "files_after": after[0], "bytes_after": after[1]}

    def _valid(self, table: str, frame: pl.DataFrame) -> pl.DataFrame:
        rows = tables.conform(frame, table)
        broken = tables.broken_rules(rows, table)
        if broken:
            rule, count = next(iter(broken.items()))
            failing = tables.TABLES[table].filter(rows, cast=True).failure.invalid()
            raise LakeError(
                f"{table}: {count} rows break the rule {rule}, first {_key_of(failing, table)}; not written"
            )
        return rows

    def _replace(self, table: str, rows: pl.DataFrame, where: str, values: list[Any], commit: Commit) -> Written:
        """Deletes and inserts only what differs between the rows that `where` selects and the new ones."""
        key = _names(tables.TABLES[table].primary_key())
        live = [name for name in tables.dtypes(table) if name in tables.LIVE_ONLY]
        same = " AND ".join(
            [f's."{name}" IS NOT DISTINCT FROM n."{name}"' for name in tables.dtypes(table) if name not in live]
            + [f'(n."{name}" IS NULL OR s."{name}" IS NOT NULL)' for name in live if name == "observed_at"]
            + [
                f'(n."{name}" IS NULL OR s."{name}" IS NOT DISTINCT FROM n."{name}")'
                for name in live
                if name != "observed_at"
            ]
        )
        with self._writing() as connection:
            connection.register("__new_rows", rows)
            connection.execute("CREATE OR REPLACE TEMP TABLE __new AS SELECT * FROM __new_rows")
            stored = f"SELECT * FROM {table} s WHERE {where}"
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE __kept AS SELECT {_names(tables.TABLES[table].primary_key(), 'n')} "
                f"FROM __new n JOIN ({stored}) s ON {_same_key(table)} WHERE {same}",
                values,
            )
            unchanged = _count(connection, "SELECT count(*) FROM __kept")
            kept = f"EXISTS (SELECT 1 FROM __kept n WHERE {_same_key(table)})"
            doomed = _count(connection, f"SELECT count(*) FROM ({stored}) s WHERE NOT {kept}", values)
            if not doomed and unchanged == rows.height:
                return Written(0, 0, unchanged)
            with _transaction(connection, commit):
                if doomed:
                    connection.execute(f"DELETE FROM {table} s WHERE ({where}) AND NOT {kept}", values)
                connection.execute(
                    f"INSERT INTO {table} BY NAME SELECT * FROM __new n "
                    f"WHERE NOT EXISTS (SELECT 1 FROM __kept s WHERE {_same_key(table)}) ORDER BY {key}"
                )
        return Written(rows.height - unchanged, doomed, unchanged)

    # connections --------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        """Makes what is missing: the catalogue, tables, columns. Nothing to do costs one attach."""
        if (self._folder / "catalog.sqlite").is_file() and self._is_current():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._writing() as connection, _transaction(connection, Commit("", "schema", "")):
            connection.execute("CREATE TABLE IF NOT EXISTS lake_schema (version BIGINT)")
            versions = connection.execute("SELECT max(version) FROM lake_schema").fetchone()
            version = versions[0] if versions else None
            self._refuse_newer(version)
            for table in tables.TABLES:
                _make_table(connection, table)
            if version != tables.SCHEMA_VERSION:
                connection.execute("DELETE FROM lake_schema")
                connection.execute("INSERT INTO lake_schema VALUES (?)", [tables.SCHEMA_VERSION])

    def _is_current(self) -> bool:
        try:
            with self._threads:
                connection = self._read_connection()
                columns = connection.execute(
                    "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'history'"
                ).fetchall()
                if ("lake_schema", "version") not in columns:
                    return False
                row = connection.execute("SELECT max(version) FROM lake_schema").fetchone()
        except duckdb.CatalogException:
            return False  # another process is making it: the lock lets us wait for that
        version = row[0] if row else None
        self._refuse_newer(version)
        needed = {(table, name) for table in tables.TABLES for name in tables.dtypes(table)}
        return version == tables.SCHEMA_VERSION and needed <= set(columns)

    def _refuse_newer(self, version: int | None) -> None:
        if version is not None and version > tables.SCHEMA_VERSION:
            raise LakeError(
                f"{self._folder}: was written by a newer program (schema {version}, this one knows "
                f"{tables.SCHEMA_VERSION}); update mm_dagster"
            )

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        for name, package in _EXTENSIONS.items():
            path = _extension_path(name, package)
            if path:
                connection.execute(f"LOAD '{_quoted(path)}'")
            else:
                connection.execute(f"INSTALL {name}; LOAD {name}")
        connection.execute("SET timezone = 'UTC'")
        # Given each time, since the catalogue remembers where the files once were, and the folder may have moved.
        options = [
            f"DATA_PATH '{_quoted(self._folder / 'files')}'",
            "OVERRIDE_DATA_PATH true",
            f"META_BUSY_TIMEOUT {_BUSY_MS}",
            *(["READ_ONLY"] if read_only else ["META_JOURNAL_MODE 'WAL'", f"DATA_INLINING_ROW_LIMIT {_INLINE_ROWS}"]),
        ]
        catalog = _quoted(self._folder / "catalog.sqlite")
        connection.execute(f"ATTACH 'ducklake:sqlite:{catalog}' AS history ({', '.join(options)})")
        connection.execute("USE history")
        return connection

    def _read_connection(self) -> duckdb.DuckDBPyConnection:
        if self._reader is None:
            self._reader = self._connect(read_only=True)
        return self._reader

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The one connection that writes, while no other process does."""
        with self._threads, FileLock(self._folder / "write.lock"):
            if self._writer is None:
                self._writer = self._connect(read_only=False)
            yield self._writer

    def _size(self) -> tuple[int, int]:
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        return len(files), sum(path.stat().st_size for path in files)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection, commit: Commit) -> Iterator[None]:
    extra = json.dumps({"run_id": commit.run_id, "asset": commit.asset, "span": commit.span})
    connection.execute("BEGIN")
    try:
        yield
        connection.execute(
            "CALL history.set_commit_message('mm_dagster', ?, extra_info => ?)",
            [f"{commit.asset} {commit.span}".strip(), extra],
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _make_table(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Makes a table, or adds the columns that an older one lacks; columns carry their descriptions."""
    known = {
        name
        for (name,) in connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'history' AND table_name = ?", [table]
        ).fetchall()
    }
    described = {column["column"]: column["description"] or "" for column in tables.describe(table)}
    types = {name: _sql_type(dtype) for name, dtype in tables.dtypes(table).items()}
    if not known:
        connection.execute(f"CREATE TABLE {table} ({', '.join(f'{_quote(n)} {t}' for n, t in types.items())})")
        column = tables.time_column(table)
        if column:
            connection.execute(f"ALTER TABLE {table} SET PARTITIONED BY (year({column}), month({column}))")
        comment = " ".join((tables.TABLES[table].__doc__ or "").split())
        connection.execute(f"COMMENT ON TABLE {table} IS '{_quoted(comment)}'")
    for name in types.keys() - known:
        if known:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {_quote(name)} {types[name]}")
        connection.execute(f"COMMENT ON COLUMN {table}.{_quote(name)} IS '{_quoted(described[name])}'")


def _sql_type(dtype: pl.DataType) -> str:
    match dtype:
        case pl.String():
            return "VARCHAR"
        case pl.Float64():
            return "DOUBLE"
        case pl.Int64():
            return "BIGINT"
        case pl.Boolean():
            return "BOOLEAN"
        case pl.Datetime():
            return "TIMESTAMPTZ"
        case pl.List(inner=inner):
            return f"{_sql_type(inner)}[]"  # type: ignore[arg-type]
        case pl.Struct(fields=fields):
            return f"STRUCT({', '.join(f'{_quote(f.name)} {_sql_type(f.dtype)}' for f in fields)})"  # type: ignore[arg-type]
    raise TypeError(f"no column type for {dtype}")


def _extension_path(name: str, package: str) -> Path | None:
    """The signed binary that the package of an extension carries for this DuckDB; None: it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / f"extensions/v{duckdb.__version__}/{name}.duckdb_extension"
    return path if path.is_file() else None


def _where(
    table: str, span: Span | None, symbols: Sequence[str] | None, grids: Sequence[str] | None
) -> tuple[str, list[Any]]:
    """What selects the rows of a span, of these markets and grids; with the values to be bound."""
    parts: list[str] = ["true"]
    values: list[Any] = []
    column = tables.time_column(table)
    if span is not None:
        if column is None:
            raise ValueError(f"{table} has no time to select a span by")
        parts.append(f"{column} >= ? AND {column} < ?" if column == "open_time" else f"{column} > ? AND {column} <= ?")
        values += [span.start, span.end]
    for name, wanted in (("symbol", symbols), ("grid_id", grids)):
        if wanted is not None:
            parts.append(f"{name} IN (SELECT unnest(?::VARCHAR[]))")
            values.append(list(wanted))
    return " AND ".join(parts), values


def _same_key(table: str) -> str:
    return " AND ".join(f's."{name}" = n."{name}"' for name in tables.TABLES[table].primary_key())


def _names(names: Sequence[str], alias: str = "") -> str:
    return ", ".join(f"{alias}.{_quote(name)}" if alias else _quote(name) for name in names)


def _quote(name: str) -> str:
    return f'"{name}"'


def _quoted(text: object) -> str:
    """Text between single quotes, where SQL takes no parameter."""
    return str(text).replace("'", "''")


def _count(connection: duckdb.DuckDBPyConnection, query: str, values: list[Any] | None = None) -> int:
    row = connection.execute(query, values or []).fetchone()
    return int(row[0]) if row else 0


def _key_of(rows: pl.DataFrame, table: str) -> str:
    """The key of the first row, in words."""
    key = rows.select(tables.TABLES[table].primary_key()).row(0, named=True)
    return ", ".join(f"{name} {iso(value) if isinstance(value, datetime) else value}" for name, value in key.items())


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
