"""The lake: every table of tables.py in a DuckLake, Parquet files behind a SQLite or PostgreSQL catalogue.

Readers attach read-only and never wait. Writers take one file lock, replace in one transaction only the rows that
differ, and say in the commit which run wrote what. A lake that has lost its catalogue is refused, never begun anew.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from mm_dagster.bars import Span, iso
from mm_dagster.history import checksums, copies, marker, schema, sqlite_files, upkeep, views, wall
from mm_dagster.history import connection as connections
from mm_dagster.history.catalog import PostgresCatalog, SqliteCatalog
from mm_dagster.history.connection import Commit as Commit
from mm_dagster.history.connection import LakeError as LakeError
from mm_dagster.history.connection import asking, count, databases, interruptible, one_line, quote, transaction
from mm_dagster.tables import registry

_LOCK_SECONDS = 600
_LOCK_NUMBER = 0x6D6D6C616B65
"""Of the advisory lock that writers on several hosts take; one lake a database, so one number does."""
_BATCH_ROWS = 122_880
"""As many as DuckDB puts into a row group of Parquet."""
_USES = 200
"""Of a connection, before the next one is opened: DuckLake keeps the statistics of each commit that a connection saw,
some 16 kB, until that is closed. A tick of 20 markets uses each of its two less often."""


@dataclass(frozen=True)
class Written:
    """What a write changed: rows inserted, rows deleted, and rows that were there already."""

    inserted: int
    deleted: int
    unchanged: int


_Rows = TypeVar("_Rows")


class Lake:
    """The history below one folder. One instance may be used by several threads; processes take turns by the lock."""

    def __init__(self, folder: Path, catalog: str | None = None) -> None:
        """Opens the history, and makes it with all its tables where there is none.

        Args:
            folder: holds `catalog.sqlite`, `files/` and `write.lock`; may be moved as a whole.
            catalog: address of a PostgreSQL database that is the catalogue, with its password; None: SQLite.

        Raises:
            LakeError: it was written by a newer program, has lost its catalogue, or is not readable.
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

    def close(self) -> None:
        """Ends its connections; they are opened anew when they are needed."""
        for attached in (self._reader, self._writer):
            if attached is not None:
                attached.connection.close()
        self._reader = self._writer = None

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
        types = registry.dtypes(table)
        key = registry.TABLES[table].primary_key()
        wanted = list(types if columns is None else columns)
        fetched = list(dict.fromkeys([*wanted, *key]))
        where, values = _where(table, span, symbols, grids)
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {_names(fetched)} FROM {table} WHERE {where}", values).pl()
        return rows.cast({name: types[name] for name in fetched}).sort(key).select(wanted)

    def newest(self, table: str) -> dict[str, datetime]:
        """The newest open_time or as_of of each symbol that has any."""
        column = registry.time_column(table)
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT symbol, max({column}) AS newest FROM {table} GROUP BY symbol ORDER BY symbol"
            ).pl()
        return dict(rows.iter_rows())

    def sql(self, query: str) -> pl.DataFrame:
        """One query in DuckDB's SQL, with the tables under their bare names; times are UTC.

        Nothing is changed and nothing else is read: the lake is attached read-only, the connection reaches no other
        file, and only queries over its tables by functions of a list are accepted, see wall.py.

        Raises:
            LakeError: it is no valid query, or would change something.
        """
        with self._reading() as reader, asking():
            wall.check(reader.connection, query)
            return reader.execute(query).pl()

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
        with interruptible(), asking():
            begun = False
            for attempt in range(2):
                with self._reading_at(at, anew=attempt > 0) as connection:
                    wall.check(connection, query)
                    try:
                        with closing(_parts(connection, query)) as parts:
                            for part in parts:
                                yield part
                                begun = begun or part.height > 0
                        return
                    except duckdb.Error as error:
                        if not _is_behind(error):
                            raise
                        if begun:
                            raise LakeError("the upkeep moved rows while they were read; ask again") from error
                        if attempt:
                            raise

    @contextmanager
    def _reading_at(self, at: datetime | None, *, anew: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own for reading: of the present it shares what the one that reads has opened.

        To open it all again takes longer than most queries: DuckDB proves the signatures of its extensions each time.

        Args:
            at: as it was stored at that time; None: as it is now.
            anew: share nothing, since what was opened is behind.

        Raises:
            LakeError: nothing is kept of that time.
        """
        try:
            if at is None and not anew:
                with self._reading() as reader:
                    connection = reader.connection.cursor()
                    connection.execute("USE history")
            else:
                connection = self._attached_for_reading(at).connection
                connections.lock_down(connection, self._folder / "files")
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
        order = [*registry.TABLES, *views.VIEWS]
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
        """One line for `mm doctor`: how much there is.

        Raises:
            LakeError: the catalogue is damaged, or files are lost or hold other bytes than they did.
        """
        checksums.refuse_changed(self._folder)
        if isinstance(self._catalog, SqliteCatalog):
            with self._reading():
                pass
            upkeep.refuse_damage(self._folder, self._catalog)
        with self._reading() as reader:
            rows = sum(
                n for table in registry.TABLES for (n,) in reader.execute(f"SELECT count(*) FROM {table}").fetchall()
            )
            strange = upkeep.strange_files(self._folder, reader.connection)
        extent = self._extent()
        return (
            f"{self._folder}: {rows:,} rows, {extent['files']} files, {extent['bytes'] / 1e6:.1f} MB, "
            f"{extent['snapshots']} snapshots{strange}"
        )

    def check_copies(self) -> str:
        """One line for `mm doctor`: how many copies of the catalogue there are, and how old the newest is.

        Raises:
            LakeError: there is none that can be used, or it is old.
        """
        if not isinstance(self._catalog, SqliteCatalog):
            return "the catalogue is on a server: copy it with pg_dump, see docs/deployment.md"
        return copies.examine(self._folder, datetime.now(UTC))

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
        column = registry.time_column(table)
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
            lacking = f"{quote(column)} IS NULL AND {quote(by)} IN ({', '.join('?' * len(values))})"
            if not values or not count(connection, f"SELECT count(*) FROM {table} WHERE {lacking}", list(values)):
                return
            whens = " ".join(f"WHEN {quote(by)} = ? THEN ?" for _ in values)
            given = [part for pair in values.items() for part in pair]
            with transaction(connection, Commit("", table, f"{column} of rows from before")):
                connection.execute(
                    f"UPDATE {table} SET {quote(column)} = CASE {whens} END WHERE {lacking}", [*given, *values]
                )

    def maintain(self, keep_days: int) -> dict[str, int]:
        """The upkeep that bounds the size: flush, expire, rewrite, merge, copy the catalogue, clean up, vacuum.

        Args:
            keep_days: how long "what did we know then" can be asked.

        Returns:
            Files, bytes and snapshots, before and after; `postponed` is 1 when a reader's transaction stayed open, so
            that the files were left as they are until the next time; `orphans` is how many files that no snapshot
            knows went to the trash.

        Raises:
            LakeError: the catalogue is damaged, or cannot be copied, or a file holds other bytes than it did; nothing
                that a copy knows was deleted.
        """
        before = self._extent()
        if isinstance(self._catalog, SqliteCatalog):
            upkeep.refuse_damage(self._folder, self._catalog)
        checksums.refuse_changed(self._folder)
        upkeep.wait_for_readers(self._folder, self._catalog, self._writing)
        until = datetime.now(UTC) - timedelta(days=keep_days)
        with self._writing() as connection:
            quiet = upkeep.nobody_reads(self._folder, self._catalog, connection)
            if quiet:
                upkeep.tidy(connection, until)
            orphans = upkeep.clear(self._folder, self._catalog, connection, datetime.now(UTC), quiet=quiet)
            checksums.note(self._folder)
        after = self._extent()
        extents = {
            f"{name}_{when}": part[name] for when, part in (("before", before), ("after", after)) for name in part
        }
        return {**extents, "postponed": int(not quiet), "orphans": orphans}

    def copy_to(self, folder: Path) -> None:
        """A whole lake of this moment in a new folder, which can be attached like this one.

        Nobody writes meanwhile, and nobody waits for long: a Parquet file never changes, so it is linked and not
        copied where both folders are on one disk.

        Raises:
            LakeError: the catalogue is no file of this folder, a file holds other bytes than it did, or the copy cannot
                be written.
        """
        if not isinstance(self._catalog, SqliteCatalog):
            raise LakeError(
                f"{self._folder}: the catalogue is in a database server; save that with pg_dump, and the Parquet files "
                "as files"
            )
        checksums.refuse_changed(self._folder)
        catalog = self._catalog.path
        with self._writing():
            try:
                folder.mkdir(parents=True)
                sqlite_files.copy([(catalog, folder / catalog.name)])
            except sqlite_files.SqliteFileError as error:
                raise LakeError(f"{catalog}: {error}") from error
            if marker.read(self._folder) is not None:
                shutil.copyfile(self._folder / marker.NAME, folder / marker.NAME)
            for path in sorted((self._folder / "files").rglob("*.parquet")):
                target = folder / path.relative_to(self._folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, target)
                except OSError:
                    shutil.copyfile(path, target)

    def _valid(self, table: str, frame: pl.DataFrame) -> pl.DataFrame:
        rows = registry.conform(frame, table)
        broken = registry.broken_rules(rows, table)
        if broken:
            rule, count = next(iter(broken.items()))
            failing = registry.TABLES[table].filter(rows, cast=True).failure.invalid()
            raise LakeError(
                f"{table}: {count} rows break the rule {rule}, first {_key_of(failing, table)}; not written"
            )
        return rows

    def _replace(self, table: str, rows: pl.DataFrame, where: str, values: list[Any], commit: Commit) -> Written:
        """Deletes and inserts only what differs between the rows that `where` selects and the new ones."""
        key = registry.TABLES[table].primary_key()
        with self._writing() as connection:
            connection.register("__given", rows)
            connection.execute("CREATE TEMP TABLE __new AS SELECT * FROM __given")
            connection.unregister("__given")
            connection.execute(
                f"CREATE TEMP TABLE __stored AS SELECT {_names(key, 's')}, "
                f"n.{quote(key[0])} IS NOT NULL AND {_same_row(table)} AS kept "
                f"FROM (SELECT * FROM {table} s WHERE {where}) s LEFT JOIN __new n ON {_same_key(table)}",
                values,
            )
            unchanged = count(connection, "SELECT count(*) FROM __stored WHERE kept")
            deleted = count(connection, "SELECT count(*) FROM __stored") - unchanged
            inserted = rows.height - unchanged
            if inserted or deleted:
                with transaction(connection, commit):
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
    def _reading(self) -> Iterator[_Reader]:
        """The one connection that reads. It waits for no writer, neither in this process nor in another."""
        with self._read_lock, interruptible():
            try:
                if self._reader is None or not self._reader.serves(self._catalog):
                    self._reader = self._open_reader()
                self._reader.uses += 1
                yield _Reader(self)
            except duckdb.Error as error:
                self._reader = None
                raise self._told(error, "see `mm doctor`") from error

    def _told(self, error: BaseException, remedy: str) -> LakeError:
        """What went wrong, in one line; where the catalogue is damaged, with what puts it right."""
        if marker.looks_damaged(error):
            traced = marker.trace(self._folder) or "a catalogue"
            return marker.lost(self._folder, traced, marker.why_unreadable(self._catalog.name, error))
        return LakeError(f"{self._folder}: {one_line(error)}; {remedy}")

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The one connection that writes, while nobody else does; the lake is complete by then."""
        lock = FileLock(self._folder / "write.lock", timeout=_LOCK_SECONDS)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._write_lock, lock, interruptible():
                if self._writer is not None and not self._writer.serves(self._catalog):
                    self._writer = None
                connection = self._writer.connection if self._writer else connections.load(self._catalog)
                try:
                    with self._turn(connection):
                        if self._writer is None:
                            self._writer = self._open_writer(connection)
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
            raise self._told(error, "nothing was written, see `mm doctor`") from error

    @contextmanager
    def _turn(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """The lock among hosts, where a server keeps the catalogue: two writers there conflict. It dies with us."""
        if self._catalog.turn is None:
            yield
            return
        if "turn" not in databases(connection):
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
        self._refuse_a_lost_catalog()
        with suppress(duckdb.Error):
            attached = self._attached_for_reading()
            if marker.is_settled(self._folder, attached.connection) and schema.is_complete(
                self._folder, attached.connection
            ):
                connections.lock_down(attached.connection, self._folder / "files")
                return attached
        with self._writing():
            attached = self._attached_for_reading()
            connections.lock_down(attached.connection, self._folder / "files")
            return attached

    def _attached_for_reading(self, at: datetime | None = None) -> _Attached:
        identity = self._catalog.identity()
        if identity is None:
            raise duckdb.IOException("there is no catalogue")
        connection = connections.load(self._catalog)
        self._attach(connection, read_only=True, at=at)
        return _Attached(connection, identity)

    def _open_writer(self, connection: duckdb.DuckDBPyConnection) -> _Attached:
        """Attaches for writing. A lake is begun only where nothing tells of an older one.

        Raises:
            LakeError: there was a lake, and its catalogue is gone, damaged, or that of another.
        """
        self._refuse_a_lost_catalog()
        traced = marker.trace(self._folder)
        begins = traced is None and self._begins()
        try:
            self._attach(connection, read_only=False, create=begins)
        except duckdb.Error as error:
            if not marker.looks_damaged(error):
                raise
            raise marker.lost(
                self._folder, traced or "a catalogue", marker.why_unreadable(self._catalog.name, error)
            ) from error
        marker.settle(self._folder, connection)
        if not schema.is_complete(self._folder, connection):
            schema.complete(connection)
        return _Attached(connection, self._catalog.identity())

    def _begins(self) -> bool:
        """Whether there is nothing yet that could be a catalogue; on a server DuckLake itself looks."""
        if not isinstance(self._catalog, SqliteCatalog):
            return True
        path = self._catalog.path
        return not os.path.lexists(path) or (path.is_file() and (path.stat().st_size == 0 or self._is_barren(path)))

    def _is_barren(self, path: Path) -> bool:
        """Whether a SQLite file holds no table: what a first start that was killed leaves."""
        try:
            return sqlite_files.is_barren(path)
        except sqlite_files.SqliteFileError:
            return False

    def _refuse_a_lost_catalog(self) -> None:
        """What can be seen without opening it: there was a lake, and no file is where its catalogue should be.

        Raises:
            LakeError: that is so.
        """
        if not isinstance(self._catalog, SqliteCatalog):
            return
        path = self._catalog.path
        if path.is_file() and path.stat().st_size:
            return
        traced = marker.trace(self._folder)
        if traced is None and (path.is_file() or not os.path.lexists(path)):
            return
        what = "is empty" if path.is_file() else "is no file" if os.path.lexists(path) else "is gone"
        raise marker.lost(self._folder, traced or "something", f"{path.name} {what}")

    def _attach(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        read_only: bool,
        create: bool = False,
        at: datetime | None = None,
    ) -> None:
        connections.attach(connection, self._folder / "files", self._catalog, read_only=read_only, create=create, at=at)

    def _extent(self) -> dict[str, int]:
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        with self._reading() as reader:
            [(snapshots,)] = reader.execute("SELECT count(*) FROM history.snapshots()").fetchall()
        return {"files": len(files), "bytes": sum(path.stat().st_size for path in files), "snapshots": snapshots}


class _Reader:
    """What reads through the lake's one connection."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The one connection as it is now."""
        assert self._lake._reader is not None
        return self._lake._reader.connection

    def execute(self, query: str, values: Sequence[Any] = ()) -> _Answer:
        """A query; it is carried out when its rows are asked for."""
        return _Answer(self, query, list(values))

    def anew(self) -> None:
        """Another connection in place of one that knows tables which are no more."""
        self._lake._reader = self._lake._open_reader()


@dataclass
class _Answer:
    """Rows that are asked for once more where the upkeep dropped a table that the connection still knew.

    DuckLake keeps the rows of small commits in one table for each version of a table's columns; another connection's
    upkeep moves them to a file and drops it.
    """

    reader: _Reader
    query: str
    values: list[Any]

    def pl(self) -> pl.DataFrame:
        """All rows as a frame."""
        return self._asked(lambda answer: answer.pl())

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as tuples."""
        return self._asked(lambda answer: answer.fetchall())

    def _asked(self, take: Callable[[duckdb.DuckDBPyConnection], _Rows]) -> _Rows:
        try:
            return take(self.reader.connection.execute(self.query, self.values))
        except duckdb.Error as error:
            if not _is_behind(error):
                raise
        self.reader.anew()
        return take(self.reader.connection.execute(self.query, self.values))


def _parts(connection: duckdb.DuckDBPyConnection, query: str) -> Generator[pl.DataFrame, None, None]:
    """The rows of a query, part by part.

    Raises:
        LakeError: a column has a type that no file format here has.
    """
    # Imported here because DuckDB and polars, too, import it only where rows are read.
    import pyarrow as pa

    parts = connection.execute(query).to_arrow_reader(_BATCH_ROWS)
    for column in parts.schema:
        if "interval" in str(column.type):
            raise LakeError(f"{column.name} is an INTERVAL, which no file format here has; cast it to VARCHAR")
    try:
        part = next(parts, None)  # an error of the query shows before anything is given out
        # Not `schema.empty_table()`, which imports pandas where it is installed.
        yield _frame(pa.Table.from_batches([], parts.schema))
        while part is not None:
            yield _frame(part)
            part = next(parts, None)
    finally:
        # Whoever stops early holds no transaction open.
        parts.close()


def _is_behind(error: BaseException) -> bool:
    """Whether a connection failed since it knows tables of inlined rows that are no more.

    Where they go between two of its own questions, DuckDB calls that an internal error, and the connection is of no
    more use.
    """
    text = str(error)
    is_broken = isinstance(error, duckdb.InternalException | duckdb.FatalException)
    return is_broken or "ducklake_inlined_" in text or "Current transaction is aborted" in text


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


def _frame(part: Any) -> pl.DataFrame:
    frame = pl.from_arrow(part)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _where(
    table: str, span: Span | None, symbols: Sequence[str] | None, grids: Sequence[str] | None
) -> tuple[str, list[Any]]:
    """What selects the rows of a span, of these markets and grids; with the values to be bound.

    Raises:
        ValueError: the table has no such column to select by.
    """
    parts = ["true"]
    values: list[Any] = []
    column = registry.time_column(table)
    if span is not None:
        if column is None:
            raise ValueError(f"{table} has no time to select a span by")
        parts.append(f"{column} >= ? AND {column} < ?" if column == "open_time" else f"{column} > ? AND {column} <= ?")
        values += [span.start, span.end]
    for name, wanted in (("symbol", symbols), ("grid_id", grids)):
        if wanted is not None:
            if name not in registry.dtypes(table):
                raise ValueError(f"{table} has no {name} to select by")
            # Single values, and not a list: by them files are left out that hold none of them.
            parts.append(f"{name} IN ({', '.join('?' * len(wanted))})" if wanted else "false")
            values += wanted
    return " AND ".join(parts), values


def _same_row(table: str) -> str:
    """Whether a new row n says nothing that the stored row s does not: see Lake.write."""
    parts = []
    for name in map(quote, registry.dtypes(table)):
        if name not in map(quote, registry.LIVE_ONLY):
            parts.append(f"s.{name} IS NOT DISTINCT FROM n.{name}")
        elif name == quote("observed_at"):
            parts.append(f"(n.{name} IS NULL OR s.{name} IS NOT NULL)")
        else:
            parts.append(f"(n.{name} IS NULL OR s.{name} IS NOT DISTINCT FROM n.{name})")
    return " AND ".join(parts)


def _same_key(table: str) -> str:
    return " AND ".join(f's."{name}" = n."{name}"' for name in registry.TABLES[table].primary_key())


def _names(names: Sequence[str], alias: str = "") -> str:
    return ", ".join(f"{alias}.{quote(name)}" if alias else quote(name) for name in names)


def _key_of(rows: pl.DataFrame, table: str) -> str:
    """The key of the first row, in words."""
    key = rows.select(registry.TABLES[table].primary_key()).row(0, named=True)
    return ", ".join(f"{name} {iso(value) if isinstance(value, datetime) else value}" for name, value in key.items())
