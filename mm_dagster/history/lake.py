"""The lake: every table of tables.py in a DuckLake, Parquet files behind a SQLite or PostgreSQL catalogue.

Readers attach read-only and never wait. Writers take one file lock, replace in one transaction only the rows that
differ, and say in the commit which run wrote what. A lake that has lost its catalogue is refused, never begun anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

from mm_dagster.bars import Span
from mm_dagster.history import checksums, copies, marker, schema, sqlite_files, upkeep, views, wall
from mm_dagster.history.catalog import PostgresCatalog, SqliteCatalog
from mm_dagster.history.connection import METADATA, asking, count, interruptible, quote, transaction
from mm_dagster.history.connection import Commit as Commit
from mm_dagster.history.connection import LakeError as LakeError
from mm_dagster.history.memory import Recall, Stamp
from mm_dagster.history.places import Folder, Place
from mm_dagster.history.reader import is_behind, parts
from mm_dagster.history.rows import Staged, key_of, listed, refuse_invalid, replace, same_key, selection, stage
from mm_dagster.history.rows import Written as Written
from mm_dagster.history.sessions import Sessions
from mm_dagster.history.sources import EVERY_SOURCE, Sources
from mm_dagster.tables import registry

_GIVEN = "EXISTS (SELECT 1 FROM __new n WHERE {same})"
"""Whether there is a new row in the place of a stored one, in SQL."""


class Lake:
    """The history below one folder. One instance may be used by several threads; processes take turns by the lock."""

    def __init__(
        self, folder: Path, catalog: str | None = None, place: Place | None = None, *, half: bool = False
    ) -> None:
        """Opens the history, and makes it with all its tables where there is none.

        Args:
            folder: holds `catalog.sqlite`, `files/` and `write.lock`; may be moved as a whole.
            catalog: address of a PostgreSQL database that is the catalogue, with its password; None: SQLite.
            place: where its files are, in place of the folder: a prefix of a bucket.
            half: half a copy of another lake will do, see transfer.py.

        Raises:
            LakeError: it was written by a newer program, has lost its catalogue, or is not readable.
        """
        folder = folder.resolve()
        try:
            known = SqliteCatalog(folder / "catalog.sqlite") if catalog is None else PostgresCatalog.at(catalog)
        except ValueError as error:
            raise LakeError(f"the address of the catalogue {error}") from None
        self.sessions = Sessions(folder, known, place, half=half)
        self._sources = EVERY_SOURCE
        self._used: set[str] = set()
        self._recall: Recall | None = None
        with self.sessions.reading():
            pass

    def of(self, sources: Sources) -> Lake:
        """The same lake, through the same connections, as the sources in force see it.

        Rows of another source are not there, but for `sql` and `stream`, which show all of them. They stay where they
        are when others are written, but where a new row has the same key. The source in force is written into each new
        row that lacks one.
        """
        seen = copy(self)
        seen._sources = sources
        return seen

    def recalling(self, recall: Recall) -> Lake:
        """The same lake, which reads by `read`, `newest` and `sql` only what it does not remember."""
        seen = copy(self)
        seen._recall = recall
        return seen

    def stamp(self) -> Stamp:
        """What tells its content now from that at any other time; costs less than any reading.

        Raises:
            LakeError: it cannot be read.
        """
        with self.sessions.reading() as connection:
            rows = connection.execute(
                "SELECT snapshot_id, snapshot_time::TIMESTAMPTZ AS at, schema_version, next_catalog_id, next_file_id "
                f"FROM {METADATA}.ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1"
            ).pl()
        identity = self.sessions.catalog.identity()
        if rows.is_empty():
            return Stamp(identity)
        number, at, *counted = rows.row(0)
        return Stamp(identity, number, at, tuple(counted))

    def _recalled(self, key: tuple[Hashable, ...], read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        return read() if self._recall is None else self._recall.rows(key, read)

    def close(self) -> None:
        """Ends its connections; they are opened anew when they are needed."""
        self.sessions.close()

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
        """Rows of a table of the sources in force, sorted by its key.

        Args:
            table: see registry.TABLES.
            span: rows whose bar opens in it (tables by open_time) or closes in it (tables by as_of); None: all.
            symbols: only these markets; None: all.
            grids: only these grids; None: all.
            columns: only these; None: all.

        Raises:
            ValueError: the table has no such column to select by.
            LakeError: a file of the history is missing or unreadable.
        """
        chosen = tuple(None if names is None else tuple(names) for names in (symbols, grids, columns))
        return self._recalled(
            ("rows", table, span, *chosen, self.in_force(table)),
            lambda: self._read(table, span, symbols, grids, columns),
        )

    def _read(
        self,
        table: str,
        span: Span | None,
        symbols: Sequence[str] | None,
        grids: Sequence[str] | None,
        columns: Sequence[str] | None,
    ) -> pl.DataFrame:
        types = registry.dtypes(table)
        key = registry.TABLES[table].primary_key()
        wanted = list(types if columns is None else columns)
        fetched = list(dict.fromkeys([*wanted, *key]))
        where, values = selection(table, span, symbols, grids)
        if self._was_never_used(table):
            return registry.empty(table).select(wanted)
        with self.sessions.reading() as connection:
            rows = connection.execute(
                f"SELECT {listed(fetched)} FROM {table} WHERE {where} AND {self.in_force(table)}", values
            ).pl()
        return rows.cast({name: types[name] for name in fetched}).sort(key).select(wanted)

    def newest(self, table: str, *, known: bool = False) -> dict[str, datetime]:
        """The newest open_time or as_of of each symbol that has any.

        Args:
            table: with a column `symbol`.
            known: of `candles` only the bars that are not MISSING.
        """
        if self._was_never_used(table):
            return {}
        of_these = " AND status != 'MISSING'" if known else ""
        query = (
            f"SELECT symbol, max({registry.time_column(table)}) AS newest FROM {table} "
            f"WHERE {self.in_force(table)}{of_these} GROUP BY symbol ORDER BY symbol"
        )
        return dict(self._recalled(("newest", query), lambda: self._asked(query)).iter_rows())

    def _asked(self, query: str) -> pl.DataFrame:
        with self.sessions.reading() as connection:
            return connection.execute(query).pl()

    def _was_never_used(self, table: str) -> bool:
        """Whether a table never held a row, so that nobody need ask: for each column of such a table DuckLake asks its
        catalogue several times, which takes a tenth of a second. Once used is used for ever.
        """
        if table not in self._used:
            with self.sessions.reading() as reader:
                self._used |= schema.used_tables(reader)
        return table not in self._used

    def ever_held(self, table: str) -> bool:
        """Whether a table holds a row, or once held one."""
        return not self._was_never_used(table)

    def sql(self, query: str) -> pl.DataFrame:
        """One query in DuckDB's SQL, with the tables under their bare names; times are UTC.

        Nothing is changed and nothing else is read: the lake is attached read-only, the connection reaches no other
        file, and only queries over its tables by functions of a list are accepted, see wall.py.

        Raises:
            LakeError: it is no valid query, or would change something.
        """
        return self._recalled(("sql", query), lambda: self._checked(query))

    def _checked(self, query: str) -> pl.DataFrame:
        with self.sessions.reading() as reader, asking(self.sessions.place):
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
        with self.sessions.reading():
            pass  # the lake is there and complete
        with interruptible(), asking(self.sessions.place):
            begun = False
            for attempt in range(2):
                with self.sessions.reading_at(at, anew=attempt > 0) as connection:
                    wall.check(connection, query)
                    try:
                        with closing(parts(connection, query)) as found:
                            for part in found:
                                yield part
                                begun = begun or part.height > 0
                        return
                    except duckdb.Error as error:
                        if not is_behind(error):
                            raise
                        if begun:
                            raise LakeError("the upkeep moved rows while they were read; ask again") from error
                        if attempt:
                            raise

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
        with self.sessions.reading() as connection:
            return connection.execute(
                "SELECT snapshot_id, snapshot_time, commit_message, commit_extra_info "
                "FROM history.snapshots() ORDER BY snapshot_id"
            ).pl()

    def newest_commits(self, most: int) -> pl.DataFrame:
        """The newest commits that are still kept, oldest first: number, when, by which run of what, and how many
        there are in all.

        Asked of the catalogue's own tables: `snapshots` unfolds what each one changed, which at a month of ticks takes
        forty times as long.

        Args:
            most: how many at most.
        """
        with self.sessions.reading() as connection:
            return connection.execute(
                "SELECT snapshot_id, snapshot_time::TIMESTAMPTZ AS at, commit_extra_info::JSON ->> 'run_id' AS run_id, "
                "commit_extra_info::JSON ->> 'asset' AS asset, commit_extra_info::JSON ->> 'span' AS span, kept FROM ("
                f"SELECT *, count(*) OVER () AS kept FROM {METADATA}.ducklake_snapshot ORDER BY snapshot_id DESC "
                f"LIMIT {most}) JOIN {METADATA}.ducklake_snapshot_changes USING (snapshot_id) ORDER BY snapshot_id"
            ).pl()

    def size(self) -> dict[str, int]:
        """How many files there are below its folder, and in object storage, and their bytes."""
        places: list[Place] = [Folder(self.sessions.folder)]
        if self.sessions.place.is_remote:
            places.append(self.sessions.place)
        sizes = [file.size for place in places for file in place.files("")]
        return {"files": len(sizes), "bytes": sum(sizes)}

    def check(self) -> str:
        """One line for `mm doctor`: how much there is.

        Raises:
            LakeError: the catalogue is damaged, or files are lost or hold other bytes than they did.
        """
        checksums.refuse_changed(self.sessions.place)
        if isinstance(self.sessions.catalog, SqliteCatalog):
            with self.sessions.reading():
                pass
            upkeep.refuse_damage(self.sessions.folder, self.sessions.place, self.sessions.catalog)
        with self.sessions.reading() as reader:
            rows = sum(
                n for table in registry.TABLES for (n,) in reader.execute(f"SELECT count(*) FROM {table}").fetchall()
            )
            strange = upkeep.strange_files(self.sessions.place, reader.connection)
        extent = self._extent()
        return (
            f"{self.sessions.place}: {rows:,} rows, {extent['files']} files, {extent['bytes'] / 1e6:.1f} MB, "
            f"{extent['snapshots']} snapshots{strange}"
        )

    def check_copies(self) -> str:
        """One line for `mm doctor`: how many copies of the catalogue there are, and how old the newest is.

        Raises:
            LakeError: there is none that can be used, or it is old.
        """
        if not isinstance(self.sessions.catalog, SqliteCatalog):
            return "the catalogue is on a server: copy it with pg_dump, see docs/deployment.md"
        return copies.examine(self.sessions.folder, self.sessions.place, datetime.now(UTC))

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
        knows (registry.LIVE_ONLY) counts only where the new row has it: null never replaces a row that is otherwise
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
        return self.put(self.staged(table, frame, span=span, symbols=symbols, grids=grids), commit)

    def staged(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        span: Span,
        symbols: Sequence[str] | None = None,
        grids: Sequence[str] | None = None,
    ) -> Staged:
        """The first half of `write`, with its arguments: all of it that needs no lock.

        Raises:
            ValueError: see `write`.
            LakeError: a row breaks a rule of the table.
        """
        within, values = selection(table, span, symbols, grids)
        rows = self._conformed(frame, table)
        column = registry.time_column(table)
        inside = span.opens(column) if column == "open_time" else span.closes("as_of")
        if symbols is not None:
            inside &= pl.col("symbol").is_in(list(symbols))
        if grids is not None:
            inside &= pl.col("grid_id").is_in(list(grids))
        outside = rows.filter(~inside)
        if outside.height:
            raise ValueError(f"{table}: {outside.height} rows lie outside of {span}: {key_of(outside, table)}")
        return stage(table, rows, self._giving_way(table, within), values, within)

    def put(self, staged: Staged, commit: Commit) -> Written:
        """The second half of `write`: under the lock, what differs is found, written and committed.

        Raises:
            LakeError: the history cannot be written. Nothing was written.
        """
        if not staged.rows.num_rows and self._was_never_used(staged.table):
            return Written(0, 0, 0)
        with self.sessions.writing() as connection:
            return replace(connection, staged, commit)

    def upsert(self, table: str, frame: pl.DataFrame, *, commit: Commit) -> Written:
        """Inserts rows, each in place of the one with the same key; all others stay.

        Raises:
            LakeError: a row breaks a rule of the table, or the history cannot be written. Nothing was written.
        """
        given = _GIVEN.format(same=same_key(table))
        return self.put(stage(table, self._conformed(frame, table), self._giving_way(table, given), [], None), commit)

    def _conformed(self, frame: pl.DataFrame, table: str) -> pl.DataFrame:
        rows = self._sources.signed(registry.conform(frame, table), table)
        refuse_invalid(rows, table)
        return rows

    def _giving_way(self, table: str, where: str) -> str:
        """Of the stored rows that are selected those that new ones replace."""
        in_force = self.in_force(table)
        # A row of another source gives way only to a new one in its place.
        return where if in_force == "true" else f"({where}) AND ({in_force} OR {_GIVEN.format(same=same_key(table))})"

    def in_force(self, table: str) -> str:
        """What selects the rows of the sources in force, in SQL."""
        return self._sources.in_force(table)

    def adopt(self, sources: Sources) -> None:
        """Gives the rows from before rows carried their source the one that is proven for them: one commit a table.

        Candles come last: as long as one of them lacks its source, all of it is done again.
        """
        for table in sorted(registry.TABLES, key=lambda name: name == "candles"):
            source = registry.source_column(table)
            if source is not None:
                self._fill(table, source, *sources.of(table))

    def _fill(self, table: str, column: str, by: str, values: Mapping[str, str]) -> None:
        """Gives the rows that lack a value of a text column one by another of their columns, in one commit."""
        with self.sessions.writing() as connection:
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
        if isinstance(self.sessions.catalog, SqliteCatalog):
            upkeep.refuse_damage(self.sessions.folder, self.sessions.place, self.sessions.catalog)
        checksums.refuse_changed(self.sessions.place)
        upkeep.wait_for_readers(self.sessions.folder, self.sessions.catalog, self.sessions.writing)
        until = datetime.now(UTC) - timedelta(days=keep_days)
        with self.sessions.writing() as connection:
            quiet = upkeep.nobody_reads(self.sessions.folder, self.sessions.catalog, connection)
            if quiet:
                upkeep.tidy(connection, until)
            orphans = upkeep.clear(
                self.sessions.folder,
                self.sessions.place,
                self.sessions.catalog,
                connection,
                datetime.now(UTC),
                quiet=quiet,
            )
            checksums.note(self.sessions.place)
        after = self._extent()
        extents = {
            f"{name}_{when}": part[name] for when, part in (("before", before), ("after", after)) for name in part
        }
        return {**extents, "postponed": int(not quiet), "orphans": orphans}

    def copy_to(self, folder: Path) -> None:
        """A whole lake of this moment in a new folder, which can be attached like this one.

        Nobody writes meanwhile, and nobody waits for long: a Parquet file never changes, so it is linked and not
        copied where both folders are on one disk. From object storage it is fetched, which takes as long as that takes.

        Raises:
            LakeError: the catalogue is no file of this folder, a file holds other bytes than it did, or the copy cannot
                be written.
        """
        if not isinstance(self.sessions.catalog, SqliteCatalog):
            raise LakeError(
                f"{self.sessions.folder}: the catalogue is in a database server; save that with pg_dump, and the "
                "Parquet files as files"
            )
        checksums.refuse_changed(self.sessions.place)
        catalog = self.sessions.catalog.path
        with self.sessions.writing():
            try:
                folder.mkdir(parents=True)
                sqlite_files.copy([(catalog, folder / catalog.name)])
            except sqlite_files.SqliteFileError as error:
                raise LakeError(f"{catalog}: {error}") from error
            place = self.sessions.place
            said = place.read(marker.NAME)
            if said is not None:
                (folder / marker.NAME).write_bytes(said)
            for file in marker.parquet_files(place):
                place.fetch(file.name, folder / file.name)

    def _extent(self) -> dict[str, int]:
        with self.sessions.reading() as reader:
            [(snapshots,)] = reader.execute("SELECT count(*) FROM history.snapshots()").fetchall()
        return {**self.size(), "snapshots": snapshots}
