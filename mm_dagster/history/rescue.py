"""`mm history rescue`: a catalogue again, from what the files of a lake prove.

The base is the newest usable nightly copy of the catalogue, with the files that it knows; where there is none, an empty
lake. Onto it come the rows of all files that the base does not know, month by month, so that memory stays small. Of
several versions of one row the one in the newest file counts, since writers take turns and a file's name tells when it
was begun; where two versions differ, all of them are written down beside the former folder, and counted. What cannot be
read is named. The new lake is built aside; the former one is then moved aside and stays until somebody deletes it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from mm_dagster.history import checksums, copies, marker, sqlite_files, upkeep
from mm_dagster.history.connection import METADATA, Commit, LakeError, quote, quoted
from mm_dagster.history.lake import Lake
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


def rescue(folder: Path, now: datetime) -> Report:
    """Rebuilds the catalogue of a lake that has lost it. Nothing of the former folder is deleted.

    Args:
        folder: the lake's.
        now: names the folder that the former content is moved to.

    Raises:
        LakeError: there is nothing to rescue, a writer is at work, or the disk is full; then all is as it was, and the
            same command goes on.
    """
    folder = folder.resolve()
    if not folder.is_dir() or marker.trace(folder) is None:
        raise LakeError(f"{folder}: holds nothing of a lake; put a backup back with `mm restore`")
    try:
        with FileLock(folder / "write.lock", timeout=_LOCK_SECONDS):
            work = folder / _WORK
            if (work / _READY).is_file():
                return _finish(folder, work)
            if work.exists():
                shutil.rmtree(work)
            _build(folder, work, now, keeps_catalog=_catalog_serves(folder))
            return _finish(folder, work)
    except Timeout as error:
        raise LakeError(f"{folder / 'write.lock'}: held by another process; end that process") from error
    except sqlite_files.SqliteFileError as error:
        raise LakeError(f"{folder}: {error}; the former files are as they were") from error
    except OSError as error:
        raise LakeError(f"{folder}: {error.strerror or error}; the former files are as they were") from error


def _catalog_serves(folder: Path) -> bool:
    """Whether the catalogue that is there can be read, is of this lake, and knows files that are there.

    Raises:
        LakeError: it does, and all its files can be read: there is nothing to rescue.
    """
    path = folder / "catalog.sqlite"
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        copies.prove(path, folder)
        known, needed = _names(path)
    except (LakeError, sqlite_files.SqliteFileError):
        return False
    there = {file.name: file for file in marker.parquet_files(folder)}
    if there and not there.keys() & known:
        return False
    if all(name in there and _readable(there[name]) for name in sorted(needed)):
        raise LakeError(
            f"{folder}: the catalogue and its files can be read; there is nothing to rescue, see `mm doctor`"
        )
    return True


def _names(catalog: Path) -> tuple[set[str], set[str]]:
    """The files that a catalogue knows, and those of them that hold what is stored now."""
    now = "SELECT path FROM {} WHERE end_snapshot IS NULL"
    ever = "SELECT path FROM {}"
    found = []
    for query in (ever, now):
        both = " UNION ".join(query.format(table) for table in ("ducklake_data_file", "ducklake_delete_file"))
        found.append({Path(path).name for path in sqlite_files.columns(both, [catalog])[0]})
    return found[0], found[1]


def _build(folder: Path, work: Path, now: datetime, *, keeps_catalog: bool) -> None:
    """Builds the new lake in the work folder, and says at its very end that it is whole."""
    copy, wrong = None, list[str]()
    base: Path | None = folder / "catalog.sqlite"
    if not keeps_catalog:
        copy, wrong = copies.newest_usable(folder)
        base = copy.path if copy else None
    report = Report(base.name if base else None, folder / f"before-rescue-{now:%Y%m%dT%H%M%SZ}")
    report.said += [f"a copy of the catalogue could not be used: {line}" for line in wrong]
    new = work / "new"
    new.mkdir(parents=True)
    unreadable: set[Path] = set()
    known: set[str] = set()
    since = 0
    if base is not None:
        known = _take_base(folder, new, base, report, unreadable)
        since = int(base.stat().st_mtime * 1000)
    identity = marker.read(folder)
    if base is None and identity is not None and identity.id is not None:
        _begin(new, identity.id)
    elif identity is not None and identity.id is not None:
        marker.write(new, identity.id)
    lake = Lake(new)
    later = [path for path in marker.parquet_files(folder) if path.name not in known]
    # What nobody knew before the copy was made was in the trash by then.
    later += [path for path in upkeep.in_the_trash(folder) if path.name not in known and _begun_ms(path) >= since]
    # What the catalogue in force does not know was never part of it.
    later = [] if keeps_catalog else later
    _add_later(lake, folder, later, report, unreadable, known)
    for path in sorted(unreadable):
        report.said.append(f"{path.relative_to(folder)} cannot be read and was left out; its rows may be lost")
    _say_what_files_cannot_prove(report)
    for table in registry.TABLES:
        report.rows[table] = int(lake.sql(f"SELECT count(*) FROM {table}").item())
    lake.close()
    sqlite_files.vacuum([new / "catalog.sqlite"])
    sqlite_files.check(new / "catalog.sqlite")
    for extra in ("write.lock", "catalog.sqlite-wal", "catalog.sqlite-shm"):
        (new / extra).unlink(missing_ok=True)
    fresh = work / f".{_READY}"
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({**report.__dict__, "aside": str(report.aside.name)}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(work / _READY)


def _begin(new: Path, identity: str) -> None:
    """An empty lake that has the identity of the lost one."""
    begun = Lake(new)
    with begun.sessions.writing() as connection:
        connection.execute(
            f"UPDATE {METADATA}.ducklake_metadata SET value = '{quoted(identity)}' WHERE key = '{marker.KEY}'"
        )
        marker.write(new, identity)
    begun.close()


def _take_base(folder: Path, new: Path, copy: Path, report: Report, unreadable: set[Path]) -> set[str]:
    """Puts a copy of the catalogue and the files that it knows in the new folder; what is lost of them is forgotten.

    Returns:
        The names that the copy knows.
    """
    catalog = new / "catalog.sqlite"
    sqlite_files.copy([(copy, catalog)])
    known, needed = _names(catalog)
    there = {path.name: path for path in [*upkeep.in_the_trash(folder), *marker.parquet_files(folder)]}
    gone = needed - there.keys()
    for name in sorted(known & there.keys()):
        path = there[name]
        if not _readable(path):
            unreadable.add(path)
            gone.add(name)
            continue
        inside = path.relative_to(folder).parts
        home = new.joinpath(*(inside[2:] if inside[0] == upkeep.TRASH else inside))
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, home)
        except OSError:
            shutil.copyfile(path, home)
    for name in sorted(gone & needed):
        report.said.append(
            f"{name}, which the copy of the catalogue needs, is gone or unreadable; its rows may be lost"
        )
    sqlite_files.forget(catalog, sorted(gone))
    return known


def _add_later(
    lake: Lake, folder: Path, later: list[Path], report: Report, unreadable: set[Path], known: set[str]
) -> None:
    """Adds the rows of files that the base does not know: the newest version of each key."""
    dead: dict[str, set[int]] = defaultdict(set)
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in later:
        if path.name.endswith("-delete.parquet"):
            if not _note_deleted(path, dead):
                unreadable.add(path)
        else:
            table, month = _place(path)
            if table in registry.TABLES:
                groups[table, month].append(path)
            elif table != "lake_schema":
                report.said.append(f"{path.relative_to(folder)} is of no table that this program knows; left out")
    for (table, month), paths in sorted(groups.items()):
        versions: list[pl.DataFrame] = []
        for path in sorted(paths, key=lambda path: (_begun_ms(path), path.name)):
            rows = _rows(path, table, dead.get(path.name, set()))
            if rows is None:
                unreadable.add(path)
            else:
                versions.append(rows.with_columns(__file=pl.lit(path.name), __order=pl.lit(len(versions))))
        if versions:
            _add(lake, table, month, pl.concat(versions), report, folder)
    counted = sum(len(positions) for name, positions in dead.items() if name not in known)
    if counted:
        report.said.append(f"{counted} rows that files of deletions name were left out as deleted or replaced")
    of_the_base = sum(len(positions) for name, positions in dead.items() if name in known)
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
    if report.base == "catalog.sqlite":
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


def _finish(folder: Path, work: Path) -> Report:
    """Moves the former content aside and the new one in; begun again, it goes on where it was stopped."""
    said = json.loads((work / _READY).read_text(encoding="utf-8"))
    aside = folder / said["aside"]
    aside.mkdir(exist_ok=True)
    new = work / "new"
    if not (work / _MOVED).is_file():
        for name in _PARTS:
            if os.path.lexists(folder / name):
                (folder / name).rename(aside / name)
        (work / _MOVED).touch()
    # The catalogue comes last: until it is there everybody is refused.
    for name in (marker.NAME, "files", "catalog.sqlite"):
        if os.path.lexists(new / name):
            (new / name).rename(folder / name)
    if (work / "contested").is_dir() and not (aside / "contested").exists():
        (work / "contested").rename(aside / "contested")
    shutil.copyfile(work / _READY, aside / "rescue.json")
    # First of all: what is left of the folder must not be taken for work that is to be finished.
    (work / _READY).unlink()
    shutil.rmtree(work)
    return Report(**{**said, "aside": aside})


def _readable(path: Path) -> bool:
    """Whether all of a file can be read."""
    try:
        with duckdb.connect() as connection:
            read = f"read_parquet('{quoted(path)}', hive_partitioning = false)"
            connection.execute(f"SELECT bit_xor(hash(COLUMNS(*))) FROM {read}")
    except duckdb.Error:
        return False
    return True


def _rows(path: Path, table: str, dead: set[int]) -> pl.DataFrame | None:
    """The rows of a data file that no file of deletions names, with the table's columns; None: it is unreadable."""
    types = registry.dtypes(table)
    try:
        with duckdb.connect() as connection:
            connection.execute("SET timezone = 'UTC'")
            rows = connection.execute(
                f"SELECT * FROM read_parquet('{quoted(path)}', hive_partitioning = false, file_row_number = true)"
            ).pl()
        kept = rows.filter(~pl.col("file_row_number").is_in(sorted(dead)))
        there = [pl.col(name).cast(kind) for name, kind in types.items() if name in kept.columns]
        absent = [pl.lit(None, kind).alias(name) for name, kind in types.items() if name not in kept.columns]
        return kept.select(*there, *absent).select(list(types))
    except (duckdb.Error, pl.exceptions.PolarsError):
        return None


def _note_deleted(path: Path, dead: dict[str, set[int]]) -> bool:
    """Notes which rows of which file a file of deletions names; False: it cannot be read."""
    try:
        with duckdb.connect() as connection:
            rows = connection.execute(
                f"SELECT file_path, pos FROM read_parquet('{quoted(path)}', hive_partitioning = false)"
            ).fetchall()
    except duckdb.Error:
        return False
    for name, position in rows:
        dead[Path(str(name)).name].add(int(position))
    return True


def _place(path: Path) -> tuple[str, str]:
    """The table of a file and its month, by the folder that it lies in: .../main/table/year=Y/month=M/..."""
    parts = path.parts
    at = len(parts) - 1 - parts[::-1].index("main") if "main" in parts else len(parts) - 2
    return parts[at + 1], "/".join(parts[at + 2 : -1])


def _begun_ms(path: Path) -> int:
    """When a file was begun: its name is a UUID of version 7, whose first 48 bits are milliseconds."""
    digits = path.name.removeprefix("ducklake-").replace("-", "")[:12]
    try:
        return int(digits, 16)
    except ValueError:
        return int(path.stat().st_mtime * 1000)
