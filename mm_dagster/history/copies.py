"""The copies of a SQLite catalogue beside itself: one a day, numbered, each proven before an older one leaves.

They are numbered and not only dated, since a clock that jumped would make an old one the newest. What a copy knows
stays on disk as long as the copy does, so that each of them is a whole lake. Where the files are in object storage,
each copy goes there, too: this computer may be what is lost.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from mm_dagster.bars import iso
from mm_dagster.history import connection as connections
from mm_dagster.history import marker, sqlite_files
from mm_dagster.history.catalog import SqliteCatalog
from mm_dagster.history.connection import LakeError, one_line
from mm_dagster.history.places import Place

FOLDER = "copies"
KEPT = 7
OLD = timedelta(days=2)
"""After which `mm doctor` asks where the nights have gone."""
_NAME = re.compile(r"catalog-(\d{6,})-(\d{4}-\d{2}-\d{2})\.sqlite")
_KNOWN = "SELECT path FROM ducklake_data_file UNION SELECT path FROM ducklake_delete_file"


@dataclass(frozen=True, order=True)
class Copy:
    """One copy: its number, the day it was made on by the clock of that day, and its file."""

    number: int
    day: str
    path: Path


def kept(folder: Path) -> list[Copy]:
    """The copies of a lake's catalogue, oldest first, whatever state they are in."""
    found = []
    for path in (folder / FOLDER).glob("catalog-*.sqlite"):
        match = _NAME.fullmatch(path.name)
        if match and path.is_file():
            found.append(Copy(int(match[1]), match[2], path))
    return sorted(found)


def make(folder: Path, place: Place, catalog: SqliteCatalog, today: datetime) -> None:
    """Copies the catalogue as of one moment, proves the copy, and only then lets it take its place.

    Raises:
        LakeError: the disk is full, or the copy cannot be read. The older copies are as they were.
    """
    here = folder / FOLDER
    older = kept(folder)
    day = f"{today:%Y-%m-%d}"
    number = older[-1].number + (older[-1].day != day) if older else 1
    target = here / f"catalog-{number:06}-{day}.sqlite"
    fresh = here / f".{target.name}.part"
    try:
        here.mkdir(exist_ok=True)
        _remove(fresh)
        sqlite_files.copy([(catalog.path, fresh)])
        sqlite_files.without_log(fresh)
        prove(fresh, place)
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(target)
        if place.is_remote:
            place.put(target, f"{FOLDER}/{target.name}")
    except sqlite_files.SqliteFileError as error:
        raise LakeError(f"{target}: {error}; is the disk full? The older copies are kept") from error
    except OSError as error:
        raise LakeError(f"{target}: {error.strerror or error}; the older copies are kept") from error
    finally:
        _remove(fresh)
    old = kept(folder)[:-KEPT]
    for copy in old:
        copy.path.unlink(missing_ok=True)
    if place.is_remote:
        place.delete(f"{FOLDER}/{copy.path.name}" for copy in old)


def fetch(folder: Path, place: Place) -> None:
    """Brings the copies here that are in object storage alone."""
    here = {copy.path.name for copy in kept(folder)}
    for file in place.files(FOLDER) if place.is_remote else ():
        if _NAME.fullmatch(file.base) and file.base not in here:
            place.fetch(file.name, folder / FOLDER / file.base)


def prove(path: Path, place: Place) -> None:
    """Checks a copy: every page of it, that DuckLake attaches it, and that it is of this lake.

    Raises:
        LakeError: it cannot be used.
    """
    try:
        sqlite_files.check(path)
        catalog = SqliteCatalog(path)
        connection = connections.load(catalog, place)
        try:
            connections.attach(connection, place, catalog, read_only=True)
            # A table that every lake has; its rows may lie in a file that is lost.
            connection.execute("DESCRIBE lake_schema").fetchall()
            marker.is_settled(place, connection)
        finally:
            connection.close()
    except (sqlite_files.SqliteFileError, duckdb.Error) as error:
        raise LakeError(f"{path}: {one_line(error)}") from error


def known_names(folder: Path) -> set[str]:
    """The names of all files that one of the kept copies knows.

    Raises:
        LakeError: a copy cannot be read, so that nobody knows what it needs.
    """
    try:
        found = sqlite_files.columns(_KNOWN, [copy.path for copy in kept(folder)])
    except sqlite_files.SqliteFileError as error:
        raise LakeError(
            f"{folder / FOLDER}: a copy of the catalogue cannot be read ({error}); move it elsewhere"
        ) from error
    return {Path(path).name for paths in found for path in paths}


def newest_usable(folder: Path, place: Place) -> tuple[Copy | None, list[str]]:
    """The newest copy that can be used, and what was wrong with newer ones, in a line each."""
    wrong = []
    for copy in reversed(kept(folder)):
        try:
            prove(copy.path, place)
        except LakeError as error:
            wrong.append(str(error))
        else:
            return copy, wrong
    return None, wrong


def examine(folder: Path, place: Place, now: datetime) -> str:
    """How many copies there are, and how old the newest is.

    Raises:
        LakeError: there is none although nights have passed, the newest cannot be used, or it is old.
    """
    found = kept(folder)
    if not found:
        since = [file.changed_ns / 1e9 for file in place.files("") if file.name == marker.NAME]
        made = since[0] if since else now.timestamp()
        if now - datetime.fromtimestamp(made, UTC) > OLD:
            raise LakeError(f"{folder / FOLDER}: no copy of the catalogue; run the job `maintenance`, see its log")
        return "no copy of the catalogue yet; the first night makes one"
    newest = found[-1]
    try:
        prove(newest.path, place)
    except LakeError as error:
        raise LakeError(f"{error}; run the job `maintenance`, which makes another copy") from error
    made_at = datetime.fromtimestamp(newest.path.stat().st_mtime, UTC)
    said = f"{len(found)} of {KEPT} copies of the catalogue, the newest of {iso(made_at.replace(microsecond=0))}"
    if now - made_at > OLD:
        raise LakeError(f"{folder / FOLDER}: {said}: the nights since made none; run the job `maintenance`")
    return said


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
