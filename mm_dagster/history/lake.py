"""The lake: every table of tables.py in a DuckLake, Parquet files behind a SQLite or PostgreSQL catalogue.

Readers attach read-only and never wait. Writers take one file lock, replace in one transaction only the rows that
differ, and say in the commit which run wrote what. The only module that imports duckdb.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import threading
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from mm_dagster import tables
from mm_dagster.bars import Span, iso
from mm_dagster.history import sqlite_files, views
from mm_dagster.history.catalog import PostgresCatalog, SqliteCatalog

_LOCK_SECONDS = 600
_LOCK_NUMBER = 0x6D6D6C616B65
"""Of the advisory lock that writers on several hosts take; one lake a database, so one number does."""
_INLINE_ROWS = 50
"""Commits of fewer rows stay in the catalogue until the upkeep flushes them: a tick writes no file."""
_READERS_SECONDS = 60.0
"""How long the upkeep waits for open transactions of readers to end, before it leaves the files as they are."""
_BATCH_ROWS = 122_880
"""As many as DuckDB puts into a row group of Parquet."""
_USES = 200
"""Of a connection, before the next one is opened: DuckLake keeps the statistics of each commit that a connection saw,
some 16 kB, until that is closed. A tick of 20 markets uses each of its two less often."""


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

    def __init__(self, folder: Path, catalog: str | None = None) -> None:
        """Opens the history, and makes it with all its tables where there is none.

        Args:
            folder: holds `catalog.sqlite`, `files/` and `write.lock`; may be moved as a whole.
            catalog: address of a PostgreSQL database that is the catalogue, with its password; None: SQLite.

        Raises:
            LakeError: it was written by a newer program, or is not readable.
        """
        self._folder = folder.resolve()
        try:
            self._catalog = (
                SqliteCatalog(self._folder / "catalog.sqlite") if catalog is None else PostgresCatalog.at(catalog)
            )
        except ValueError as error:
            raise LakeError(f"the address of the catalogue {error}") from None
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._reader: _Attached | None = None
        self._writer: _Attached | None = None
        with self._reading():
            pass

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

        Raises:
            ValueError: the table has no such column to select by.
            LakeError: a file of the history is missing or unreadable.
        """
        types = tables.dtypes(table)
        key = tables.TABLES[table].primary_key()
        wanted = list(types if columns is None else columns)
        fetched = list(dict.fromkeys([*wanted, *key]))
        where, values = _where(table, span, symbols, grids)
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {_names(fetched)} FROM {table} WHERE {where}", values).pl()
        return rows.cast({name: types[name] for name in fetched}).sort(key).select(wanted)

    def newest(self, table: str) -> dict[str, datetime]:
        """The newest open_time or as_of of each symbol that has any."""
        column = tables.time_column(table)
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT symbol, max({column}) AS newest FROM {table} GROUP BY symbol ORDER BY symbol"
            ).pl()
        return dict(rows.iter_rows())

    def sql(self, query: str) -> pl.DataFrame:
        """One query in DuckDB's SQL, with the tables under their bare names; times are UTC.

        Nothing can be changed by mistake: the lake is attached read-only, the connection reaches no other file, and
        only queries are accepted. It is no wall against an analyst who can write to the folder anyway.

        Raises:
            LakeError: it is no valid query, or would change something.
        """
        with self._reading() as connection, _asking():
            cursor = connection.cursor()
            _refuse_all_but_queries(cursor, query)
            cursor.execute("USE history")
            return cursor.execute(query).pl()

    def stream(self, query: str, *, at: datetime | None = None) -> Iterator[pl.DataFrame]:
        """Like `sql`, part by part, however large the result is.

        Args:
            query: in DuckDB's SQL.
            at: every table and view as it was stored at that time; None: as it is now.

        Yields:
            The rows in order; one part even if there are none, so that the columns are known.

        Raises:
            LakeError: it is no valid query, would change something, or nothing is kept of that time.
        """
        with self._reading():
            pass  # the lake is there and complete
        with _interruptible(), _asking(), self._reading_at(at) as connection:
            _refuse_all_but_queries(connection, query)
            parts = connection.execute(query).to_arrow_reader(_BATCH_ROWS)
            for column in parts.schema:
                if "interval" in str(column.type):
                    raise LakeError(f"{column.name} is an INTERVAL, which no file format here has; cast it to VARCHAR")
            yield _frame(parts.schema.empty_table())
            for part in parts:
                yield _frame(part)

    @contextmanager
    def _reading_at(self, at: datetime | None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own for reading.

        Raises:
            LakeError: nothing is kept of that time.
        """
        try:
            connection = self._attached_for_reading(at).connection
        except duckdb.InvalidInputException as error:
            if at is None or "snapshot" not in str(error):
                raise
            oldest = self.snapshots().row(0, named=True)["snapshot_time"] + timedelta(seconds=1)
            raise LakeError(
                f"nothing is kept of {iso(at)}; the oldest time that can be asked about is {iso(oldest)}"
            ) from error
        try:
            yield connection
        finally:
            connection.close()

    def contents(self) -> pl.DataFrame:
        """Every table and view by name, with what one row of it is."""
        query = """
            SELECT kind, name, string_split(comment, chr(10))[1] AS about
            FROM (
                SELECT 'table' AS kind, table_name AS name, comment FROM duckdb_tables() WHERE database_name = 'history'
                UNION ALL
                SELECT 'view', view_name, comment FROM duckdb_views() WHERE database_name = 'history' AND NOT internal
            )
        """
        order = [*tables.TABLES, *views.VIEWS]
        found = self.sql(query)
        return found.sort(pl.col("name").replace_strict(order, range(len(order)), default=len(order)), "name")

    def snapshots(self) -> pl.DataFrame:
        """Every commit that is still kept, oldest first: when, by which run, of what."""
        with self._reading() as connection:
            return connection.execute(
                "SELECT snapshot_id, snapshot_time, commit_message, commit_extra_info "
                "FROM history.snapshots() ORDER BY snapshot_id"
            ).pl()

    def check(self) -> str:
        """One line for `mm doctor`: how much there is."""
        with self._reading() as connection:
            rows = sum(_count(connection, f"SELECT count(*) FROM {table}") for table in tables.TABLES)
        extent = self._extent()
        return (
            f"{self._folder}: {rows:,} rows, {extent['files']} files, {extent['bytes'] / 1e6:.1f} MB, "
            f"{extent['snapshots']} snapshots"
        )

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

        Rows that are the same stay as they are; a write that changes nothing leaves no snapshot. What only a live run
        knows (tables.LIVE_ONLY) counts only where the new row has it: null never replaces a row that is otherwise
        equal, so that a backfill erases nothing. Of `observed_at` only its presence counts: the same answer at another
        time is the same answer. A row that differs elsewhere replaces the stored one as a whole.

        Args:
            table: one with a time; the others are upserted.
            frame: the rows; columns that it lacks become null.
            span: the bars, by open_time or as_of.
            symbols: only these markets; None: all.
            grids: only these grids; None: all.
            commit: what the write says of itself.

        Raises:
            ValueError: the frame has rows outside of what is replaced, or the table no such column to select by.
            LakeError: a row breaks a rule of the table, or the history cannot be written. Nothing was written.
        """
        where, values = _where(table, span, symbols, grids)
        rows = self._valid(table, frame)
        column = tables.time_column(table)
        inside = span.opens(column) if column == "open_time" else span.closes("as_of")
        if symbols is not None:
            inside &= pl.col("symbol").is_in(list(symbols))
        if grids is not None:
            inside &= pl.col("grid_id").is_in(list(grids))
        outside = rows.filter(~inside)
        if outside.height:
            raise ValueError(f"{table}: {outside.height} rows lie outside of {span}: {_key_of(outside, table)}")
        return self._replace(table, rows, where, values, commit)

    def upsert(self, table: str, frame: pl.DataFrame, *, commit: Commit) -> Written:
        """Inserts rows, each in place of the one with the same key; all others stay.

        Raises:
            LakeError: a row breaks a rule of the table, or the history cannot be written. Nothing was written.
        """
        rows = self._valid(table, frame)
        return self._replace(table, rows, f"EXISTS (SELECT 1 FROM __new n WHERE {_same_key(table)})", [], commit)

    def in_force(self, table: str) -> str:
        """What selects the rows of the sources in force, in SQL: here all; see sourced.py."""
        return "true"

    def fill(self, table: str, column: str, by: str, values: Mapping[str, str]) -> None:
        """Gives the rows that lack a value of a text column one by another of their columns, in one commit."""
        with self._writing() as connection:
            lacking = f"{_quote(column)} IS NULL AND {_quote(by)} IN ({', '.join('?' * len(values))})"
            if not values or not _count(connection, f"SELECT count(*) FROM {table} WHERE {lacking}", list(values)):
                return
            whens = " ".join(f"WHEN {_quote(by)} = ? THEN ?" for _ in values)
            given = [part for pair in values.items() for part in pair]
            with _transaction(connection, Commit("", table, f"{column} of rows from before")):
                connection.execute(
                    f"UPDATE {table} SET {_quote(column)} = CASE {whens} END WHERE {lacking}", [*given, *values]
                )

    def maintain(self, keep_days: int) -> dict[str, int]:
        """The upkeep that bounds the size: flush, expire, rewrite, merge, clean up, vacuum.

        Args:
            keep_days: how long "what did we know then" can be asked.

        Returns:
            Files, bytes and snapshots, before and after; `postponed` is 1 when a reader's transaction stayed open, so
            that the files were left as they are until the next time.
        """
        before = self._extent()
        self._wait_for_readers()
        until = datetime.now(UTC) - timedelta(days=keep_days)
        with self._writing() as connection:
            quiet = self._nobody_reads()
            connection.execute("CALL ducklake_expire_snapshots('history', older_than => ?)", [until])
            if quiet:
                connection.execute("CALL ducklake_flush_inlined_data('history')")
                connection.execute("CALL ducklake_rewrite_data_files('history', delete_threshold => 0.1)")
                connection.execute("CALL ducklake_merge_adjacent_files('history')")
                connection.execute("CALL ducklake_cleanup_old_files('history', cleanup_all => true)")
                connection.execute("CALL ducklake_delete_orphaned_files('history', cleanup_all => true)")
                if isinstance(self._catalog, SqliteCatalog):
                    _shrink(self._catalog.path)
        after = self._extent()
        extents = {
            f"{name}_{when}": part[name] for when, part in (("before", before), ("after", after)) for name in part
        }
        return {**extents, "postponed": int(not quiet)}

    def _wait_for_readers(self) -> None:
        """Gives transactions of readers a while to end. Others may write meanwhile."""
        deadline = time.monotonic() + _READERS_SECONDS
        while time.monotonic() < deadline:
            with self._writing():
                if self._nobody_reads():
                    return
            time.sleep(0.2)

    def _nobody_reads(self) -> bool:
        """Whether files may be merged.

        DuckDB reads a SQLite catalogue in part outside of the transaction that a reader has open: whoever still works
        on a snapshot from before files were merged, reads NO ROWS then, without an error.
        """
        if not isinstance(self._catalog, SqliteCatalog):
            return True  # a server reads as it should
        try:
            return sqlite_files.nobody_reads(self._catalog.path)
        except sqlite_files.SqliteFileError as error:
            raise LakeError(f"{self._catalog.path}: {error}; is the disk full?") from error

    def copy_to(self, folder: Path) -> None:
        """A whole lake of this moment in a new folder, which can be attached like this one.

        Nobody writes meanwhile, and nobody waits for long: a Parquet file never changes, so it is linked and not
        copied where both folders are on one disk.

        Raises:
            LakeError: the catalogue is no file of this folder, or the copy cannot be written.
        """
        if not isinstance(self._catalog, SqliteCatalog):
            raise LakeError(
                f"{self._folder}: the catalogue is in a database server; save that with pg_dump, and the Parquet files "
                "as files"
            )
        catalog = self._catalog.path
        with self._writing():
            try:
                folder.mkdir(parents=True)
                sqlite_files.copy([(catalog, folder / catalog.name)])
            except sqlite_files.SqliteFileError as error:
                raise LakeError(f"{catalog}: {error}") from error
            for path in sorted((self._folder / "files").rglob("*.parquet")):
                target = folder / path.relative_to(self._folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, target)
                except OSError:
                    shutil.copyfile(path, target)

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
        key = tables.TABLES[table].primary_key()
        with self._writing() as connection:
            connection.register("__given", rows)
            connection.execute("CREATE TEMP TABLE __new AS SELECT * FROM __given")
            connection.unregister("__given")
            connection.execute(
                f"CREATE TEMP TABLE __stored AS SELECT {_names(key, 's')}, "
                f"n.{_quote(key[0])} IS NOT NULL AND {_same_row(table)} AS kept "
                f"FROM (SELECT * FROM {table} s WHERE {where}) s LEFT JOIN __new n ON {_same_key(table)}",
                values,
            )
            unchanged = _count(connection, "SELECT count(*) FROM __stored WHERE kept")
            deleted = _count(connection, "SELECT count(*) FROM __stored") - unchanged
            inserted = rows.height - unchanged
            if inserted or deleted:
                with _transaction(connection, commit):
                    if deleted:
                        connection.execute(
                            f"DELETE FROM {table} s WHERE ({where}) "
                            f"AND EXISTS (SELECT 1 FROM __stored n WHERE NOT n.kept AND {_same_key(table)})",
                            values,
                        )
                    connection.execute(
                        f"INSERT INTO {table} BY NAME SELECT * FROM __new n "
                        f"WHERE NOT EXISTS (SELECT 1 FROM __stored s WHERE s.kept AND {_same_key(table)}) "
                        f"ORDER BY {_names(key)}"
                    )
            connection.execute("DROP TABLE __new")
            connection.execute("DROP TABLE __stored")
        return Written(inserted, deleted, unchanged)

    # connections --------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The one connection that reads. It waits for no writer, neither in this process nor in another."""
        with self._read_lock, _interruptible():
            try:
                if self._reader is None or not self._reader.serves(self._catalog):
                    self._reader = self._open_reader()
                self._reader.uses += 1
                yield self._reader.connection
            except duckdb.Error as error:
                raise LakeError(f"{self._folder}: {_one_line(error)}; see `mm doctor`") from error

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The one connection that writes, while nobody else does; the lake is complete by then."""
        lock = FileLock(self._folder / "write.lock", timeout=_LOCK_SECONDS)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._write_lock, lock, _interruptible():
                if self._writer is not None and not self._writer.serves(self._catalog):
                    self._writer = None
                connection = self._writer.connection if self._writer else self._load()
                try:
                    with self._turn(connection):
                        if self._writer is None:
                            self._attach(connection, read_only=False)
                            if not self._is_complete(connection):
                                self._complete(connection)
                            self._writer = _Attached(connection, self._catalog.identity())
                        self._writer.uses += 1
                        yield connection
                except BaseException:
                    # Closing rolls back, and forgets what was staged.
                    connection.close()
                    self._writer = None
                    raise
        except Timeout as error:
            raise LakeError(
                f"{self._folder / 'write.lock'}: held by another process for {_LOCK_SECONDS} s; end that process"
            ) from error
        except (duckdb.Error, OSError) as error:
            raise LakeError(f"{self._folder}: {_one_line(error)}; nothing was written, see `mm doctor`") from error

    @contextmanager
    def _turn(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """The lock among hosts, where a server keeps the catalogue: two writers there conflict. It dies with us."""
        if self._catalog.turn is None:
            yield
            return
        if "turn" not in _databases(connection):
            connection.execute(self._catalog.turn)
        # A transaction of its own, which another statement of this program cannot end. The lock goes with it.
        holder = connection.cursor()
        try:
            holder.execute("BEGIN")
            ask = f"FROM postgres_query('turn', 'SELECT pg_try_advisory_xact_lock({_LOCK_NUMBER})')"
            deadline = time.monotonic() + _LOCK_SECONDS
            # Asked for again and again, since Ctrl-C does not reach a statement that waits on the server.
            while holder.execute(ask).fetchall() != [(True,)]:
                if time.monotonic() > deadline:
                    raise LakeError(
                        f"{self._folder}: another host has been writing for {_LOCK_SECONDS} s; end the session that "
                        f"holds the advisory lock {_LOCK_NUMBER} on the catalogue's server (pg_locks)"
                    )
                time.sleep(0.05)
            yield
        finally:
            holder.close()

    def _open_reader(self) -> _Attached:
        """Attaches for reading; what the lake lacks is made first, under the lock, where another may be at it."""
        with suppress(duckdb.Error):
            attached = self._attached_for_reading()
            if self._is_complete(attached.connection):
                return attached
        with self._writing():
            return self._attached_for_reading()

    def _attached_for_reading(self, at: datetime | None = None) -> _Attached:
        identity = self._catalog.identity()
        if identity is None:
            raise duckdb.IOException("there is no catalogue")
        connection = self._load()
        self._attach(connection, read_only=True, at=at)
        connection.execute(f"SET allowed_directories = ['{_quoted(self._folder / 'files')}/']")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return _Attached(connection, identity)

    def _load(self) -> duckdb.DuckDBPyConnection:
        """A connection that knows how to attach the lake."""
        connection = duckdb.connect(config={"python_enable_replacements": "false", "allow_unredacted_secrets": "false"})
        for name in self._catalog.extensions:
            path = _extension_path(name)
            if path:
                connection.execute(f"LOAD '{_quoted(path)}'")
            else:
                connection.execute(f"INSTALL {name}; LOAD {name}")
        # GLOBAL: of the cursors too.
        connection.execute("SET GLOBAL timezone = 'UTC'")
        # It would be drawn on stdout, among the rows.
        connection.execute("SET enable_progress_bar = false")
        if self._catalog.secret is not None:
            connection.execute(self._catalog.secret)
        return connection

    def _attach(self, connection: duckdb.DuckDBPyConnection, *, read_only: bool, at: datetime | None = None) -> None:
        # Given each time, since the catalogue remembers where the files once were, and the folder may have moved.
        options = [
            f"DATA_PATH '{_quoted(self._folder / 'files')}'",
            "OVERRIDE_DATA_PATH true",
            *self._catalog.options(read_only=read_only),
            "READ_ONLY" if read_only else f"DATA_INLINING_ROW_LIMIT {_INLINE_ROWS}",
            *([f"SNAPSHOT_TIME '{at.astimezone(UTC).isoformat()}'"] if at else []),
        ]
        connection.execute(f"ATTACH 'ducklake:{_quoted(self._catalog.attached)}' AS history ({', '.join(options)})")
        connection.execute("USE history")

    def _is_complete(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Whether all tables and columns of this program are there.

        Raises:
            LakeError: a newer program wrote it.
        """
        columns = connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'history'"
        ).fetchall()
        if ("lake_schema", "version") not in columns:
            return False
        version = _count(connection, "SELECT coalesce(max(version), 0) FROM lake_schema")
        if version > tables.SCHEMA_VERSION:
            raise LakeError(
                f"{self._folder}: was written by a newer program (schema {version}, this one knows "
                f"{tables.SCHEMA_VERSION}); update mm_dagster"
            )
        said = "SELECT comment FROM duckdb_tables() WHERE database_name = 'history' AND table_name = 'lake_schema'"
        if connection.execute(said).fetchall() != [(_about_schema(),)]:
            return False
        needed = {(table, name) for table in tables.TABLES for name in tables.dtypes(table)}
        return version == tables.SCHEMA_VERSION and needed <= set(columns)

    def _complete(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Makes the tables, columns and views as this program knows them, and notes the version of the schema."""
        connection.execute("CALL history.set_option('parquet_compression', 'zstd')")
        with _transaction(connection, Commit("", "schema", str(tables.SCHEMA_VERSION))):
            connection.execute("CREATE TABLE IF NOT EXISTS lake_schema (version BIGINT)")
            for table in tables.TABLES:
                _make_table(connection, table)
            for name, view in views.VIEWS.items():
                connection.execute(f"CREATE OR REPLACE VIEW {name} AS {view.query}")
                connection.execute(f"COMMENT ON VIEW {name} IS '{_quoted(view.comment)}'")
            connection.execute(f"COMMENT ON TABLE lake_schema IS '{_quoted(_about_schema())}'")
            connection.execute("DELETE FROM lake_schema")
            connection.execute("INSERT INTO lake_schema VALUES (?)", [tables.SCHEMA_VERSION])

    def _extent(self) -> dict[str, int]:
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        with self._reading() as connection:
            snapshots = _count(connection, "SELECT count(*) FROM history.snapshots()")
        return {"files": len(files), "bytes": sum(path.stat().st_size for path in files), "snapshots": snapshots}


@dataclass
class _Attached:
    """A connection, the catalogue that it was opened on, and how often it was used."""

    connection: duckdb.DuckDBPyConnection
    identity: Hashable | None
    uses: int = 0

    def serves(self, catalog: SqliteCatalog | PostgresCatalog) -> bool:
        """Whether it is good for one more use.

        The folder may have been deleted, or restored from a backup, meanwhile; or it has gathered enough.
        """
        return self.uses < _USES and self.identity is not None and catalog.identity() == self.identity


def _about_schema() -> str:
    """The comment of `lake_schema`: it tells one set of views and descriptions from another."""
    said = [(name, view.query, view.comment) for name, view in views.VIEWS.items()]
    described = [(table, schema.__doc__, tables.describe(table)) for table, schema in tables.TABLES.items()]
    return f"Version of the tables; views and descriptions are those of {tables.identity(said, described)}."


def _databases(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is Ctrl-C: DuckDB makes an error of its own of it."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


@contextmanager
def _asking() -> Iterator[None]:
    """What is wrong with a query is told in one line."""
    try:
        yield
    except duckdb.Error as error:
        raise LakeError(f"{_one_line(error)}; `mm sql` lists what there is") from error
    except pl.exceptions.DuplicateError as error:
        raise LakeError("two columns of the answer have one name; give each its own with AS") from error
    except pl.exceptions.PolarsError as error:
        raise LakeError(f"{_one_line(error)}; cast that column to VARCHAR") from error


def _frame(part: Any) -> pl.DataFrame:
    frame = pl.from_arrow(part)
    assert isinstance(frame, pl.DataFrame)
    return frame


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection, commit: Commit) -> Iterator[None]:
    """One commit with its message. Whoever fails in it must close the connection, which rolls back."""
    extra = json.dumps({"run_id": commit.run_id, "asset": commit.asset, "span": commit.span})
    connection.execute("BEGIN")
    yield
    connection.execute(
        "CALL history.set_commit_message('mm_dagster', ?, extra_info => ?)",
        [f"{commit.asset} {commit.span}".strip(), extra],
    )
    connection.execute("COMMIT")


def _shrink(catalog: Path) -> None:
    """Gives the space of expired snapshots back."""
    try:
        sqlite_files.vacuum([catalog])
    except sqlite_files.SqliteFileError as error:
        raise LakeError(f"{catalog}: {error}; is the disk full?") from error


def _refuse_all_but_queries(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    # EXPLAIN is none: EXPLAIN ANALYZE carries out what it explains, a COPY over a file of the lake too.
    statements = connection.extract_statements(text)
    # PIVOT is a query that DuckDB rewrites to the creation of a temporary type, which nobody wrote, and a SELECT.
    refused = [
        statement.type
        for statement in statements
        if statement.type != duckdb.StatementType.SELECT
        and not (statement.type == duckdb.StatementType.CREATE and "create" not in statement.query.lower())
    ]
    if refused or not statements:
        what = refused[0].name if refused else "an empty text"
        raise LakeError(f"{what} is not a query; write SELECT, FROM, SHOW or DESCRIBE")


def _make_table(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Makes a table, or adds the columns that an older one lacks; both carry their descriptions."""
    known = dict(
        connection.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = 'history' AND table_name = ?",
            [table],
        ).fetchall()
    )
    described = {column["column"]: column["description"] or "" for column in tables.describe(table)}
    types = {name: _sql_type(dtype) for name, dtype in tables.dtypes(table).items()}
    if not known:
        connection.execute(f"CREATE TABLE {table} ({', '.join(f'{_quote(n)} {t}' for n, t in types.items())})")
        column = tables.time_column(table)
        if column:
            connection.execute(f"ALTER TABLE {table} SET PARTITIONED BY (year({column}), month({column}))")
    for name in [name for name in types if known and name not in known]:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {_quote(name)} {types[name]}")
    comment = " ".join((tables.TABLES[table].__doc__ or "").split())
    connection.execute(f"COMMENT ON TABLE {table} IS '{_quoted(comment)}'")
    for name in types:
        if known.get(name) != described[name]:
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


def _extension_path(name: str) -> Path | None:
    """The signed binary that the package of an extension carries for this DuckDB; None: it is not installed."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / f"extensions/v{duckdb.__version__}/{name}.duckdb_extension"
    return path if path.is_file() else None


def _where(
    table: str, span: Span | None, symbols: Sequence[str] | None, grids: Sequence[str] | None
) -> tuple[str, list[Any]]:
    """What selects the rows of a span, of these markets and grids; with the values to be bound.

    Raises:
        ValueError: the table has no such column to select by.
    """
    parts = ["true"]
    values: list[Any] = []
    column = tables.time_column(table)
    if span is not None:
        if column is None:
            raise ValueError(f"{table} has no time to select a span by")
        parts.append(f"{column} >= ? AND {column} < ?" if column == "open_time" else f"{column} > ? AND {column} <= ?")
        values += [span.start, span.end]
    for name, wanted in (("symbol", symbols), ("grid_id", grids)):
        if wanted is not None:
            if name not in tables.dtypes(table):
                raise ValueError(f"{table} has no {name} to select by")
            # Single values, and not a list: by them files are left out that hold none of them.
            parts.append(f"{name} IN ({', '.join('?' * len(wanted))})" if wanted else "false")
            values += wanted
    return " AND ".join(parts), values


def _same_row(table: str) -> str:
    """Whether a new row n says nothing that the stored row s does not: see Lake.write."""
    parts = []
    for name in map(_quote, tables.dtypes(table)):
        if name not in map(_quote, tables.LIVE_ONLY):
            parts.append(f"s.{name} IS NOT DISTINCT FROM n.{name}")
        elif name == _quote("observed_at"):
            parts.append(f"(n.{name} IS NULL OR s.{name} IS NOT NULL)")
        else:
            parts.append(f"(n.{name} IS NULL OR s.{name} IS NOT DISTINCT FROM n.{name})")
    return " AND ".join(parts)


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
    # All of it is fetched: a result that is left open holds its snapshot of the catalogue, and its log grows.
    [(number,)] = connection.execute(query, values or []).fetchall()
    return int(number)


def _key_of(rows: pl.DataFrame, table: str) -> str:
    """The key of the first row, in words."""
    key = rows.select(tables.TABLES[table].primary_key()).row(0, named=True)
    return ", ".join(f"{name} {iso(value) if isinstance(value, datetime) else value}" for name, value in key.items())


def _one_line(error: BaseException) -> str:
    """What DuckDB said, with its "did you mean", without the excerpt of the query below it."""
    return " ".join(str(error).strip().split("\n\n")[0].split())
