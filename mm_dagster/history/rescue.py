"""`mm history rescue`: a catalogue again, from what the files of a lake prove.

The base is the newest usable nightly copy of the catalogue, with the files that it knows; where there is none, an empty
lake. Onto it come the rows of all files that the base does not know, month by month, so that memory stays small. Of
several versions of one row the one in the newest file counts, since writers take turns and a file's name tells when it
was begun; where two versions differ, all of them are written down beside the former folder, and counted. What cannot be
read is named. The new lake is built aside; the former one is then moved aside and stays until somebody deletes it.

Where the files are in object storage, those that the base knows stay where they are, and those whose rows were taken
are moved aside there. Of a catalogue on a server only files that are gone are forgotten.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from mm_dagster.history import checksums, copies, marker, sqlite_files, upkeep
from mm_dagster.history.connection import METADATA, Commit, LakeError, load_files, quote, quoted
from mm_dagster.history.lake import Lake
from mm_dagster.history.places import Folder, Place, Stored
from mm_dagster.tables import registry

_WORK = "rescue-work"
_READY = "ready"
_MOVED = "moved"
_PARTS = (
    *("catalog.sqlite-wal", "catalog.sqlite-shm", "catalog.sqlite", "files"),
    *(copies.FOLDER, upkeep.TRASH, checksums.NAME),
)
_AT_ONCE = 500_000
_LOCK_SECONDS = 60
_NOT_FOUND = 404


@dataclass
class Report:
    """What came of it.

    Attributes:
        base: the copy of the catalogue that it began with; None: none could be used.
        aside: where the former folder's content is now.
        rows: how many rows each table has now.
        taken: how many rows came from files that the base does not know, by table.
        contested: for how many keys files contradicted each other, by table; all versions are in `aside`.
        said: what could not be had, or could not be proven, a sentence each.
    """

    base: str | None
    aside: Path
    rows: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    contested: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class _Files:
    """Reads Parquet files of a place; after one that cannot be read by a new connection, which knows nothing of it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._connection = load_files(place)

    def pl(self, columns: str, file: Stored, *options: str) -> pl.DataFrame:
        """What is selected of a file.

        Raises:
            duckdb.Error: it cannot be read.
            LakeError: the storage does not answer; it has lost nothing, and nothing is rescued from it meanwhile.
        """
        read = ", ".join((f"'{quoted(self.place.url(file.name))}'", "hive_partitioning = false", *options))
        try:
            return self._connection.execute(f"SELECT {columns} FROM read_parquet({read})").pl()
        except duckdb.Error as error:
            self._connection.close()
            self._connection = load_files(self.place)
            told = self.place.explain(error)
            if told and getattr(error, "status_code", None) != _NOT_FOUND:
                raise LakeError(told) from error
            raise

    def is_readable(self, file: Stored) -> bool:
        """Whether all of a file can be read."""
        try:
            self.pl("bit_xor(hash(COLUMNS(*)))", file)
        except duckdb.Error:
            return False
        return True


@dataclass
class _Work:
    """A rescue under way.

    Attributes:
        folder: the lake's.
        place: where its files are.
        new: the folder in which the new lake is built.
        report: what came of it so far.
        files: reads them.
        unreadable: files that cannot be read.
        known: the names of the files that the base knows.
    """

    folder: Path
    place: Place
    new: Path
    report: Report
    files: _Files
    unreadable: set[Stored] = field(default_factory=set)
    known: set[str] = field(default_factory=set)


def rescue(folder: Path, now: datetime, place: Place | None = None) -> Report:
    """Rebuilds the catalogue of a lake that has lost it. Nothing of the former folder is deleted.

    Args:
        folder: the lake's.
        now: names the folder that the former content is moved to.
        place: where its files are, in place of the folder.

    Raises:
        LakeError: there is nothing to rescue, a writer is at work, or the disk is full; then all is as it was, and the
            same command goes on.
    """
    folder = folder.resolve()
    place = place or Folder(folder)
    if place.is_remote:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir() or marker.trace(folder, place) is None:
        raise LakeError(f"{place}: holds nothing of a lake; put a backup back with `mm restore`")
    try:
        with FileLock(folder / "write.lock", timeout=_LOCK_SECONDS):
            work = folder / _WORK
            if (work / _READY).is_file():
                return _finish(folder, place, work)
            if work.exists():
                shutil.rmtree(work)
            copies.fetch(folder, place)
            files = _Files(place)
            _build(folder, work, now, files, keeps_catalog=_catalog_serves(folder, files))
            return _finish(folder, place, work)
    except Timeout as error:
        raise LakeError(f"{folder / 'write.lock'}: held by another process; end that process") from error
    except sqlite_files.SqliteFileError as error:
        raise LakeError(f"{folder}: {error}; the former files are as they were") from error
    except OSError as error:
        raise LakeError(f"{folder}: {error.strerror or error}; the former files are as they were") from error


def forget_lost(lake: Lake) -> Report:
    """Forgets files that are gone or cannot be read, where a server keeps the catalogue: all else is kept.

    Raises:
        LakeError: there are none; or the storage or the server does not answer.
    """
    place = lake.sessions.place
    files = _Files(place)
    report = Report("the catalogue on the server", lake.sessions.folder)
    with lake.sessions.writing() as connection:
        there = {file.base: file for file in marker.parquet_files(place)}
        needed = sorted(marker.needed_names(connection))
        lost = [name for name in needed if name not in there or not files.is_readable(there[name])]
        if not lost:
            raise LakeError(f"{place}: the catalogue and its files can be read; there is nothing to rescue")
        connection.execute("BEGIN")
        ends = " OR ".join(f"path LIKE '%{quoted(name)}'" for name in lost)
        ids = f"(SELECT data_file_id FROM {METADATA}.ducklake_data_file WHERE {ends})"
        for table in ("file_column_stats", "file_partition_value", "file_variant_stats", "delete_file", "data_file"):
            connection.execute(f"DELETE FROM {METADATA}.ducklake_{table} WHERE data_file_id IN {ids}")
        connection.execute(f"DELETE FROM {METADATA}.ducklake_delete_file WHERE {ends}")
        connection.execute("COMMIT")
    lake.close()
    report.said += [f"{name} is gone or cannot be read, and was forgotten; its rows are lost" for name in lost]
    _say_what_files_cannot_prove(report)
    for table in registry.TABLES:
        if lake.ever_held(table):
            report.rows[table] = int(lake.sql(f"SELECT count(*) FROM {table}").item())
    return report


def _catalog_serves(folder: Path, files: _Files) -> bool:
    """Whether the catalogue that is there can be read, is of this lake, and knows files that are there.

    Raises:
        LakeError: it does, and all its files can be read: there is nothing to rescue.
    """
    path, place = folder / "catalog.sqlite", files.place
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        copies.prove(path, place)
        known, needed = _names(path)
    except (LakeError, sqlite_files.SqliteFileError):
        return False
    there = {file.base: file for file in marker.parquet_files(place)}
    if there and not there.keys() & known:
        return False
    if all(name in there and files.is_readable(there[name]) for name in sorted(needed)):
        raise LakeError(
            f"{place}: the catalogue and its files can be read; there is nothing to rescue, see `mm doctor`"
        )
    return True


def _names(catalog: Path) -> tuple[set[str], set[str]]:
    """The files that a catalogue knows, and those of them that hold what is stored now."""
    now = "SELECT path FROM {} WHERE end_snapshot IS NULL"
    ever = "SELECT path FROM {}"
    found = []
    for query in (ever, now):
        both = " UNION ".join(query.format(table) for table in ("ducklake_data_file", "ducklake_delete_file"))
        found.append({PurePosixPath(path).name for path in sqlite_files.columns(both, [catalog])[0]})
    return found[0], found[1]


def _build(folder: Path, work: Path, now: datetime, files: _Files, *, keeps_catalog: bool) -> None:
    """Builds the new lake in the work folder, and says at its very end that it is whole."""
    place = files.place
    copy, wrong = None, list[str]()
    base: Path | None = folder / "catalog.sqlite"
    if not keeps_catalog:
        copy, wrong = copies.newest_usable(folder, place)
        base = copy.path if copy else None
    report = Report(base.name if base else None, folder / f"before-rescue-{now:%Y%m%dT%H%M%SZ}")
    report.said += [f"a copy of the catalogue could not be used: {line}" for line in wrong]
    at = _Work(folder, place, work / "new", report, files)
    at.new.mkdir(parents=True)
    since = 0
    if base is not None:
        _take_base(at, base)
        since = int(base.stat().st_mtime * 1000)
    lake = _begun(at, with_base=base is not None)
    later = [file for file in marker.parquet_files(place) if file.base not in at.known]
    # What nobody knew before the copy was made was in the trash by then.
    later += [file for file in upkeep.in_the_trash(place) if file.base not in at.known and _begun_ms(file) >= since]
    # What the catalogue in force does not know was never part of it.
    later = [] if keeps_catalog else later
    _add_later(at, lake, later)
    for file in sorted(at.unreadable):
        report.said.append(f"{file.name} cannot be read and was left out; its rows may be lost")
    _say_what_files_cannot_prove(report)
    for table in registry.TABLES:
        report.rows[table] = int(lake.sql(f"SELECT count(*) FROM {table}").item())
    lake.close()
    sqlite_files.vacuum([at.new / "catalog.sqlite"])
    sqlite_files.check(at.new / "catalog.sqlite")
    for extra in ("write.lock", "catalog.sqlite-wal", "catalog.sqlite-shm"):
        (at.new / extra).unlink(missing_ok=True)
    taken = sorted({file.name for file in (*later, *at.unreadable)})
    said = {"report": {**asdict(report), "aside": report.aside.name}, "taken": taken}
    Folder(work).write(_READY, json.dumps(said).encode())


def _begun(at: _Work, *, with_base: bool) -> Lake:
    """The new lake: on its base, or empty; with the identity of the lost one."""
    identity = marker.read(at.place)
    known = identity.id if identity is not None else None
    new = Folder(at.new)
    if not with_base:
        known = known or marker.new_identity()
        begun = Lake(at.new)
        with begun.sessions.writing() as connection:
            connection.execute(
                f"UPDATE {METADATA}.ducklake_metadata SET value = '{quoted(known)}' WHERE key = '{marker.KEY}'"
            )
        begun.close()
        if at.place.is_remote:
            marker.write(at.place, known)
    if known is not None:
        marker.write(new, known)
    return Lake(at.new, place=at.place if at.place.is_remote else None)


def _take_base(at: _Work, copy: Path) -> None:
    """Puts a copy of the catalogue and the files that it knows in the new lake; what is lost of them is forgotten."""
    catalog = at.new / "catalog.sqlite"
    sqlite_files.copy([(copy, catalog)])
    at.known, needed = _names(catalog)
    there = {file.base: file for file in [*upkeep.in_the_trash(at.place), *marker.parquet_files(at.place)]}
    gone = needed - there.keys()
    for name in sorted(at.known & there.keys()):
        file = there[name]
        if not at.files.is_readable(file):
            at.unreadable.add(file)
            gone.add(name)
            continue
        thrown = file.name.startswith(f"{upkeep.TRASH}/")
        home = upkeep.home(file) if thrown else file.name
        if not at.place.is_remote:
            at.place.fetch(file.name, at.new / home)
        elif thrown:
            at.place.move(file.name, home)
    for name in sorted(gone & needed):
        at.report.said.append(
            f"{name}, which the copy of the catalogue needs, is gone or unreadable; its rows may be lost"
        )
    sqlite_files.forget(catalog, sorted(gone))


def _add_later(at: _Work, lake: Lake, later: list[Stored]) -> None:
    """Adds the rows of files that the base does not know: the newest version of each key."""
    report = at.report
    dead: dict[str, set[int]] = defaultdict(set)
    groups: dict[tuple[str, str], list[Stored]] = defaultdict(list)
    for file in later:
        if file.name.endswith("-delete.parquet"):
            if not _note_deleted(at, file, dead):
                at.unreadable.add(file)
        else:
            table, month = _table_of(file)
            if table in registry.TABLES:
                groups[table, month].append(file)
            elif table != "lake_schema":
                report.said.append(f"{file.name} is of no table that this program knows; left out")
    for (table, month), files in sorted(groups.items()):
        versions: list[pl.DataFrame] = []
        for file in sorted(files, key=lambda file: (_begun_ms(file), file.base)):
            rows = _rows(at, file, table, dead.get(file.base, set()))
            if rows is None:
                at.unreadable.add(file)
            else:
                versions.append(rows.with_columns(__file=pl.lit(file.base), __order=pl.lit(len(versions))))
        if versions:
            _add(lake, table, month, pl.concat(versions), report, at.folder)
    counted = sum(len(positions) for name, positions in dead.items() if name not in at.known)
    if counted:
        report.said.append(f"{counted} rows that files of deletions name were left out as deleted or replaced")
    of_the_base = sum(len(positions) for name, positions in dead.items() if name in at.known)
    if of_the_base:
        report.said.append(
            f"{of_the_base} rows of {report.base} were deleted or replaced after it was made; those that no newer row "
            "replaces are still there"
        )


def _add(lake: Lake, table: str, month: str, versions: pl.DataFrame, report: Report, folder: Path) -> None:
    key = list(registry.TABLES[table].primary_key())
    values = [name for name in versions.columns if name not in ("__file", "__order")]
    distinct = versions.with_columns(_digests(versions, values)).unique(
        [*key, "__digest"], keep="last", maintain_order=True
    )
    contested = distinct.filter(pl.len().over(key) > 1)
    if contested.height:
        keys = contested.select(key).n_unique()
        report.contested[table] = report.contested.get(table, 0) + keys
        place = folder / _WORK / "contested"
        place.mkdir(parents=True, exist_ok=True)
        name = f"{table}-{month.replace('/', '-').replace('=', '') or 'all'}.parquet"
        contested.drop("__order", "__digest").write_parquet(place / name)
    rows = distinct.sort("__order").unique(key, keep="last", maintain_order=True).select(values)
    rows = registry.conform(rows, table)
    valid, _ = registry.TABLES[table].filter(rows, cast=True)
    if valid.height < rows.height:
        report.said.append(f"{table}: {rows.height - valid.height} rows of later files break a rule and were left out")
    for first in range(0, valid.height, _AT_ONCE):
        part = valid[first : first + _AT_ONCE]
        written = lake.upsert(table, part, commit=Commit("", "rescue", table))
        report.taken[table] = report.taken.get(table, 0) + written.inserted


def _digests(versions: pl.DataFrame, names: list[str]) -> pl.Series:
    """Of each row's values, lists and structs included."""
    values = ", ".join(f"coalesce(CAST({quote(name)} AS VARCHAR), chr(1))" for name in names)
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.register("versions", versions)
        return connection.execute(f"SELECT md5(concat_ws(chr(2), {values})) AS __digest FROM versions").pl().to_series()


def _say_what_files_cannot_prove(report: Report) -> None:
    if report.base in ("catalog.sqlite", "the catalogue on the server"):
        report.said.append(
            "the catalogue itself can be read; what was lost is what the files held that are named above"
        )
    elif report.base is None:
        report.said.append(
            "no copy of the catalogue could be used: rows of small commits since the last night, deletions since then, "
            "and what was stored at which time were known to the catalogue only; rows that were removed may be back"
        )
    else:
        report.said.append(
            f"rows of small commits after {report.base} was made, and deletions after it, were known to the catalogue "
            "only"
        )
    for table, number in sorted(report.contested.items()):
        report.said.append(
            f"{table}: of {number} keys files hold different versions; the one in the newest file was taken, all are "
            f"in {report.aside.name}/contested"
        )
    report.said.append(
        "the next tick computes again what follows from candles; `mm backfill` what is older; answers of the operator "
        "and receipts of that time stay lost"
    )


def _finish(folder: Path, place: Place, work: Path) -> Report:
    """Moves the former content aside and the new one in; begun again, it goes on where it was stopped."""
    ready = json.loads((work / _READY).read_text(encoding="utf-8"))
    said = ready["report"]
    aside = folder / said["aside"]
    aside.mkdir(exist_ok=True)
    new = work / "new"
    if not (work / _MOVED).is_file():
        for name in _PARTS:
            if os.path.lexists(folder / name):
                (folder / name).rename(aside / name)
        (work / _MOVED).touch()
    if place.is_remote:
        _set_aside(place, aside.name, ready["taken"])
    # The catalogue comes last: until it is there everybody is refused.
    for name in ("catalog.sqlite",) if place.is_remote else (marker.NAME, "files", "catalog.sqlite"):
        if os.path.lexists(new / name):
            (new / name).rename(folder / name)
    if (work / "contested").is_dir() and not (aside / "contested").exists():
        (work / "contested").rename(aside / "contested")
    (aside / "rescue.json").write_text(json.dumps(said), encoding="utf-8")
    # First of all: what is left of the folder must not be taken for work that is to be finished.
    (work / _READY).unlink()
    shutil.rmtree(work)
    return Report(**{**said, "aside": aside})


def _set_aside(place: Place, aside: str, names: list[str]) -> None:
    """Moves files of object storage away whose rows are elsewhere by now, or that cannot be read."""
    there = {file.name for below in ("files", upkeep.TRASH) for file in place.files(below)}
    for name in names:
        if name in there:
            place.move(name, f"{aside}/{name}")
    # Whatever was moved was written again, says the storage.
    place.delete([checksums.NAME])


def _rows(at: _Work, file: Stored, table: str, dead: set[int]) -> pl.DataFrame | None:
    """The rows of a data file that no file of deletions names, with the table's columns; None: it is unreadable."""
    types = registry.dtypes(table)
    try:
        rows = at.files.pl("*", file, "file_row_number = true")
        kept = rows.filter(~pl.col("file_row_number").is_in(sorted(dead)))
        there = [pl.col(name).cast(kind) for name, kind in types.items() if name in kept.columns]
        absent = [pl.lit(None, kind).alias(name) for name, kind in types.items() if name not in kept.columns]
        return kept.select(*there, *absent).select(list(types))
    except (duckdb.Error, pl.exceptions.PolarsError):
        return None


def _note_deleted(at: _Work, file: Stored, dead: dict[str, set[int]]) -> bool:
    """Notes which rows of which file a file of deletions names; False: it cannot be read."""
    try:
        rows = at.files.pl("file_path, pos", file)
    except duckdb.Error:
        return False
    for name, position in rows.iter_rows():
        dead[PurePosixPath(str(name)).name].add(int(position))
    return True


def _table_of(file: Stored) -> tuple[str, str]:
    """The table of a file and its month, by the folder that it lies in: .../main/table/year=Y/month=M/..."""
    parts = PurePosixPath(file.name).parts
    at = len(parts) - 1 - parts[::-1].index("main") if "main" in parts else len(parts) - 2
    return parts[at + 1], "/".join(parts[at + 2 : -1])


def _begun_ms(file: Stored) -> int:
    """When a file was begun: its name is a UUID of version 7, whose first 48 bits are milliseconds."""
    digits = file.base.removeprefix("ducklake-").replace("-", "")[:12]
    try:
        return int(digits, 16)
    except ValueError:
        return file.changed_ns // 1_000_000
