"""Who reads and who writes a lake: one connection for each, opened when needed, and the locks that take turns.

Readers attach read-only and never wait. Writers take one lock, see locks.py. A lake that has lost its catalogue is
refused, never begun anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from mm_dagster.bars import iso
from mm_dagster.history import connection as connections
from mm_dagster.history import marker, schema, sqlite_files
from mm_dagster.history.catalog import PostgresCatalog, SqliteCatalog
from mm_dagster.history.connection import LakeError, interruptible, one_line
from mm_dagster.history.locks import Lock, LockError, Locks, Taken
from mm_dagster.history.places import Folder, Place
from mm_dagster.history.reader import Reader

_LOCK_SECONDS = 600
_USES = 200
"""Of a connection, before the next one is opened: DuckLake keeps the statistics of each commit that a connection saw,
some 16 kB, until that is closed. A tick of 20 markets uses each of its two less often."""


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


class Sessions:
    """The connections to the lake below one folder. Threads may share it; processes take turns by the lock.

    Attributes:
        folder: of the lake: its catalogue, where that is a file, and its locks.
        place: where its Parquet files are; the folder, or a prefix of a bucket.
        catalog: what knows them.
    """

    def __init__(
        self,
        folder: Path,
        catalog: SqliteCatalog | PostgresCatalog,
        place: Place | None = None,
        *,
        half: bool = False,
    ) -> None:
        """Opens nothing yet."""
        self.folder = folder
        self.place: Place = place or Folder(folder)
        self._half = half
        self.catalog = catalog
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._reader: _Attached | None = None
        self._writer: _Attached | None = None

    def close(self) -> None:
        """Ends the connections; they are opened anew when they are needed."""
        for attached in (self._reader, self._writer):
            if attached is not None:
                attached.connection.close()
        self._reader = self._writer = None

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """The one connection that reads. It waits for no writer, neither in this process nor in another."""
        with self._read_lock, interruptible():
            try:
                if self._reader is None or not self._reader.serves(self.catalog):
                    self._reader = self._open_reader()
                self._reader.uses += 1
                yield Reader(self._reader.connection, self._reopened)
            except duckdb.Error as error:
                self._reader = None
                raise self._failure(error, "see `mm doctor`") from error

    @contextmanager
    def reading_at(self, at: datetime | None, *, anew: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own for reading: of the present it shares what the one that reads has opened.

        To open it all again takes longer than most queries: DuckDB proves the signatures of its extensions each time.

        Args:
            at: the lake as it was stored at that time; None: as it is now.
            anew: share nothing, since what was opened is behind.

        Raises:
            LakeError: nothing is kept of that time.
        """
        try:
            if at is None and not anew:
                with self.reading() as reader:
                    connection = reader.connection.cursor()
                    connection.execute("USE history")
            else:
                connection = self._attached_for_reading(at).connection
                connections.lock_down(connection, self.place)
        except duckdb.InvalidInputException as error:
            if at is None or "snapshot" not in str(error):
                raise
            with self.reading() as reader:
                first = reader.execute("SELECT min(snapshot_time) AS at FROM history.snapshots()").pl().item()
            oldest = first + timedelta(seconds=1)
            raise LakeError(
                f"nothing is kept of {iso(at)}; the oldest time that can be asked about is {iso(oldest)}"
            ) from error
        try:
            yield connection
        finally:
            connection.close()

    def _failure(self, error: BaseException, remedy: str) -> LakeError:
        """What went wrong, in one line; where the catalogue is damaged, with what puts it right."""
        if marker.looks_damaged(error):
            traced = marker.trace(self.folder, self.place) or "a catalogue"
            return marker.lost(self.place, traced, marker.why_unreadable(self.catalog.name, error))
        told = self.place.explain(error)
        if told:
            return LakeError(told)
        return LakeError(f"{self.folder}: {one_line(error)}; {remedy}")

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The one connection that writes, while nobody else does, on whichever host; the lake is complete by then.

        Raises:
            LakeError: another writes for too long, the lock was lost before a commit, or the lake cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._write_lock, interruptible():
                if self._writer is not None and not self._writer.serves(self.catalog):
                    self._writer = None
                # Before the lock, since the extensions take longer to load than most writes.
                connection = self._writer.connection if self._writer else connections.load(self.catalog, self.place)
                try:
                    with self._turn() as lock, connections.refusing(lock.check):
                        if self._writer is None:
                            self._writer = self._open_writer(connection)
                        self._writer.uses += 1
                        yield connection
                except BaseException:
                    # Closing rolls back, and forgets what was staged.
                    connection.close()
                    self._writer = None
                    raise
        except Taken as error:
            raise LakeError(
                f"{self.folder}: another process has been writing for {_LOCK_SECONDS} s ({error}); end that process"
            ) from error
        except LockError as error:
            raise LakeError(str(error)) from error
        except (duckdb.Error, OSError) as error:
            raise self._failure(error, "nothing was written, see `mm doctor`") from error

    @contextmanager
    def _turn(self) -> Iterator[Lock]:
        """The lock of writers: on a server two of them conflict, and a file takes one at a time. It dies with us."""
        lock = Locks(self.folder, self.catalog if isinstance(self.catalog, PostgresCatalog) else None).of("write")
        lock.acquire(_LOCK_SECONDS)
        try:
            yield lock
        finally:
            lock.release()

    def _reopened(self) -> duckdb.DuckDBPyConnection:
        self._reader = self._open_reader()
        return self._reader.connection

    def _open_reader(self) -> _Attached:
        """Attaches for reading; what the lake lacks is made first, under the lock, where another may be at it."""
        self._refuse_a_lost_catalog()
        with suppress(duckdb.Error):
            attached = self._attached_for_reading()
            if marker.is_settled(self.place, attached.connection, half=self._half) and schema.is_complete(
                self.folder, attached.connection
            ):
                connections.lock_down(attached.connection, self.place)
                return attached
        with self.writing():
            attached = self._attached_for_reading()
            connections.lock_down(attached.connection, self.place)
            return attached

    def _attached_for_reading(self, at: datetime | None = None) -> _Attached:
        identity = self.catalog.identity()
        if identity is None:
            raise duckdb.IOException("there is no catalogue")
        connection = connections.load(self.catalog, self.place)
        self._attach(connection, read_only=True, at=at)
        return _Attached(connection, identity)

    def _open_writer(self, connection: duckdb.DuckDBPyConnection) -> _Attached:
        """Attaches for writing. A lake is begun only where nothing tells of an older one.

        Raises:
            LakeError: there was a lake, and its catalogue is gone, damaged, or that of another.
        """
        self._refuse_a_lost_catalog()
        traced = marker.trace(self.folder, self.place)
        begins = traced is None and self._begins()
        try:
            self._attach(connection, read_only=False, create=begins)
        except duckdb.Error as error:
            if not marker.looks_damaged(error):
                raise
            raise marker.lost(
                self.place, traced or "a catalogue", marker.why_unreadable(self.catalog.name, error)
            ) from error
        if self.place.is_remote:
            if isinstance(self.catalog, PostgresCatalog):
                # The upkeep asks it; afterwards nothing more can be attached.
                connection.execute(self.catalog.server)
            connections.log_uploads(connection)
            connections.reach_only(connection, self.place)
        marker.settle(self.place, connection, half=self._half)
        if not schema.is_complete(self.folder, connection):
            schema.complete(connection)
        return _Attached(connection, self.catalog.identity())

    def _begins(self) -> bool:
        """Whether there is nothing yet that could be a catalogue; on a server DuckLake itself looks."""
        if not isinstance(self.catalog, SqliteCatalog):
            return True
        path = self.catalog.path
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
        if not isinstance(self.catalog, SqliteCatalog):
            return
        path = self.catalog.path
        if path.is_file() and path.stat().st_size:
            return
        traced = marker.trace(self.folder, self.place)
        if traced is None and (path.is_file() or not os.path.lexists(path)):
            return
        what = "is empty" if path.is_file() else "is no file" if os.path.lexists(path) else "is gone"
        raise marker.lost(self.place, traced or "something", f"{path.name} {what}")

    def _attach(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        read_only: bool,
        create: bool = False,
        at: datetime | None = None,
    ) -> None:
        connections.attach(connection, self.place, self.catalog, read_only=read_only, create=create, at=at)
