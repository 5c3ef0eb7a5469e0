"""The nightly upkeep of a lake, step by step. sessions.py takes the locks around it.

It deletes only what the lake's own catalogue once knew and no kept copy of it knows any more. A file that no snapshot
knows may be all that is left of something: it goes to the trash, from where it can be put back, for seven nights.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath

import duckdb

from mm_dagster.history import copies, marker, schema, sqlite_files
from mm_dagster.history.catalog import PostgresCatalog, SqliteCatalog
from mm_dagster.history.connection import METADATA, LakeError, databases, proven, quoted
from mm_dagster.history.places import Place, Stored

READERS_SECONDS = 60.0
"""How long the upkeep waits for open transactions of readers to end, before it leaves the files as they are."""
SERVER_DAYS = 7
"""How long a file that was replaced stays where a server keeps the catalogue, whose copies are not ours."""
TRASH = "trash"
NIGHTS = 7
_NIGHTS = "nights"
"""In each folder of the trash: the days on which an upkeep saw it, a line each. Counted, since a clock may jump."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_READERS = """
SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND c.relname LIKE ''ducklake%''
"""

Writing = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]


def refuse_damage(folder: Path, place: Place, catalog: SqliteCatalog) -> None:
    """Reads the whole catalogue before anything is done by it.

    Raises:
        LakeError: it is damaged.
    """
    try:
        sqlite_files.check(catalog.path)
    except sqlite_files.SqliteFileError as error:
        if "locked" in str(error):
            raise LakeError(
                f"{catalog.path}: {error}; end the process that holds it (`fuser {catalog.path}`)"
            ) from error
        traced = marker.trace(folder, place) or "a catalogue"
        raise marker.lost(place, traced, f"{catalog.name} is damaged ({error})") from error


def wait_for_readers(folder: Path, catalog: SqliteCatalog | PostgresCatalog, writing: Writing) -> None:
    """Gives transactions of readers a while to end. Others may write meanwhile."""
    deadline = time.monotonic() + READERS_SECONDS
    while time.monotonic() < deadline:
        with writing() as connection:
            if nobody_reads(folder, catalog, connection):
                return
        time.sleep(0.2)


def nobody_reads(folder: Path, catalog: SqliteCatalog | PostgresCatalog, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether files may be merged, and tables of inlined rows dropped.

    DuckDB reads a SQLite catalogue in part outside of the transaction that a reader has open: whoever still works on
    a snapshot from before files were merged, reads NO ROWS then, without an error. On a server such a reader keeps
    the tables that he read from being dropped.
    """
    if not isinstance(catalog, SqliteCatalog):
        # A cursor of its own: it is not in the lake, whose transaction would be one of those that are looked for.
        with connection.cursor() as cursor:
            if "server" not in databases(cursor):
                cursor.execute(catalog.server)
            return cursor.execute(f"FROM postgres_query('server', '{_READERS}')").fetchall() == [(0,)]
    try:
        return sqlite_files.nobody_reads(catalog.path)
    except sqlite_files.SqliteFileError as error:
        raise LakeError(f"{catalog.path}: {error}; is the disk full?") from error


@contextmanager
def one_thread(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Meanwhile DuckDB works in one thread. Whoever fails in it must close the connection.

    DuckLake's own upkeep ends its pieces side by side, a piece for each table of rows and each version of its columns,
    and all of them append to lists of one transaction without a lock: a process can end in the midst of it with "double
    free or corruption".
    """
    connection.execute("SET threads = 1")
    yield
    connection.execute("RESET threads")


def tidy(connection: duckdb.DuckDBPyConnection, until: datetime) -> None:
    """Ends old snapshots, and makes few files of many; no file is deleted."""
    connection.execute("CALL ducklake_expire_snapshots('history', older_than => ?)", [until])
    with one_thread(connection):
        # Of all at once it would ask the catalogue several times for each column of those that never held a row.
        for table in sorted(schema.used_tables(connection)):
            with proven(connection):
                connection.execute("CALL ducklake_flush_inlined_data('history', table_name => ?)", [table])
        for step in (
            "ducklake_rewrite_data_files('history', delete_threshold => 0.1)",
            "ducklake_merge_adjacent_files('history')",
        ):
            with proven(connection):
                connection.execute(f"CALL {step}")


def clear(
    folder: Path,
    place: Place,
    catalog: SqliteCatalog | PostgresCatalog,
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    *,
    quiet: bool,
) -> int:
    """Copies the catalogue, then takes away what nobody needs; while somebody reads, only the copy is made.

    Returns:
        How many files went to the trash.

    Raises:
        LakeError: the catalogue cannot be copied; nothing was deleted.
    """
    moved = 0
    if quiet:
        put_back(place, marker.known_names(connection))
        moved = _to_the_trash(place, marker.known_names(connection), now)
        _empty_the_trash(place, now)
    if isinstance(catalog, SqliteCatalog):
        copies.make(folder, place, catalog, now)
        if quiet:
            _delete(place, connection, _scheduled(connection) - copies.known_names(folder))
            try:
                sqlite_files.vacuum([catalog.path])
            except sqlite_files.SqliteFileError as error:
                raise LakeError(f"{catalog.path}: {error}; is the disk full?") from error
    elif quiet:
        _delete(place, connection, _scheduled(connection, f"WHERE schedule_start < now() - INTERVAL {SERVER_DAYS} DAY"))
    return moved


def _scheduled(connection: duckdb.DuckDBPyConnection, where: str = "") -> set[str]:
    """The names of files that the catalogue has replaced, and that no snapshot of it needs."""
    rows = connection.execute(f"SELECT path FROM {METADATA}.ducklake_files_scheduled_for_deletion {where}").fetchall()
    needed = connection.execute(
        f"SELECT path FROM {METADATA}.ducklake_data_file UNION SELECT path FROM {METADATA}.ducklake_delete_file"
    ).fetchall()
    return {PurePosixPath(str(path)).name for (path,) in rows} - {PurePosixPath(str(path)).name for (path,) in needed}


def _delete(place: Place, connection: duckdb.DuckDBPyConnection, names: set[str]) -> None:
    """Deletes files, and only then forgets them: a kill between the two is mended by the next night."""
    if names:
        place.delete(file.name for file in marker.parquet_files(place) if file.base in names)
    for name in sorted(names):
        connection.execute(
            f"DELETE FROM {METADATA}.ducklake_files_scheduled_for_deletion "
            f"WHERE path = '{quoted(name)}' OR path LIKE '%/{quoted(name)}'"
        )


def orphans(place: Place, known: set[str]) -> list[Stored]:
    """The files of a lake that its catalogue does not know."""
    return [file for file in marker.parquet_files(place) if file.base not in known]


def in_the_trash(place: Place) -> list[Stored]:
    """The files in the trash."""
    return marker.parquet_files(place, TRASH)


def home(thrown: Stored) -> str:
    """Where a file of the trash was before: below trash/day."""
    return thrown.name.split("/", 2)[2]


def put_back(place: Place, known: set[str]) -> int:
    """Brings files home from the trash that the catalogue knows after all: it was itself put back, say.

    Returns:
        How many.
    """
    thrown = [file for file in in_the_trash(place) if file.base in known]
    there = {file.base for file in marker.parquet_files(place)} if thrown else set()
    back = [file for file in thrown if file.base not in there]
    for file in back:
        place.move(file.name, home(file))
    return len(back)


def _to_the_trash(place: Place, known: set[str], now: datetime) -> int:
    moved = orphans(place, known)
    for file in moved:
        place.move(file.name, f"{TRASH}/{now:%Y-%m-%d}/{file.name}")
    return len(moved)


def _empty_the_trash(place: Place, now: datetime) -> None:
    """Deletes a folder of the trash when seven later nights have seen it."""
    today = f"{now:%Y-%m-%d}"
    thrown = place.files(TRASH)
    for day in sorted({file.name.split("/")[1] for file in thrown}):
        if not _DAY.fullmatch(day) or day == today:
            continue
        noted = f"{TRASH}/{day}/{_NIGHTS}"
        inside = [file.name for file in thrown if file.name.startswith(f"{TRASH}/{day}/")]
        seen = set((place.read(noted) or b"").decode(errors="replace").split()) if noted in inside else set()
        if today not in seen:
            seen.add(today)
            place.write(noted, "".join(f"{night}\n" for night in sorted(seen)).encode())
        if len(seen) >= NIGHTS:
            place.delete([*inside, noted])


def strange_files(place: Place, connection: duckdb.DuckDBPyConnection) -> str:
    """For `mm doctor`: the files that no snapshot knows, in words; nothing where there are none.

    Raises:
        LakeError: the catalogue misses a file.
    """
    there = {file.base for file in marker.parquet_files(place)}
    missing = sorted(marker.needed_names(connection) - there)
    thrown = in_the_trash(place)
    if {file.base for file in thrown} & set(missing):
        raise LakeError(
            f"{place}: {len(missing)} files of it are gone, and {TRASH}/ holds such: run the job `maintenance`, which "
            "puts them back"
        )
    if missing:
        raise LakeError(
            f"{place}: {len(missing)} files of it are gone, first {missing[0]}; put a backup back with `mm restore`, "
            "or what is left together with `mm history rescue`"
        )
    strange = [*orphans(place, marker.known_names(connection)), *thrown]
    if not strange:
        return ""
    return (
        f"; {len(strange)} files that no snapshot knows, {len(thrown)} of them in {TRASH}/, first "
        f"{strange[0].name}: a killed writer's, or newer than the catalogue (docs/operations.md)"
    )
