"""What tells that a folder holds a lake, when its catalogue does not: a marker with an identity, and the files.

A lake without its catalogue looks like no lake at all. Begun anew, its old files would be nobody's, and the next
night would take them away. So the folder says of itself that it was one, and which.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from mm_dagster.history.connection import METADATA, LakeError, one_line
from mm_dagster.tables import registry

NAME = "lake.json"
KEY = "mm_lake_id"
"""Under which the catalogue keeps the same identity, among DuckLake's own settings."""
_DAMAGE = re.compile(
    r"malformed|not a database|disk image|no such table|explicitly disabled|is encrypted|"
    r"does not have column|Table with name ducklake_(?!inlined)\w+ does not exist|no such column",
    re.IGNORECASE,
)
"""In what DuckDB says of a catalogue that is none, or is damaged."""


@dataclass(frozen=True)
class Marker:
    """What `lake.json` says; the identity is None where it cannot be read."""

    id: str | None


def new_identity() -> str:
    """One that no other lake has."""
    return str(uuid.uuid4())


def read(folder: Path) -> Marker | None:
    """The marker of a folder; None: there is none."""
    path = folder / NAME
    if not os.path.lexists(path):
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        identity = said["id"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Marker(None)
    return Marker(identity if isinstance(identity, str) and identity else None)


def write(folder: Path, identity: str) -> None:
    """Writes the marker whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(folder / NAME, {"id": identity, "schema": registry.SCHEMA_VERSION})


def write_whole(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file of a lake whole or not at all, and to the disk.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def parquet_files(folder: Path) -> list[Path]:
    """Every Parquet file of the lake in a folder, known to a catalogue or not."""
    return sorted(path for path in (folder / "files").rglob("*.parquet") if path.is_file())


def trace(folder: Path) -> str | None:
    """What tells of a lake in a folder, in words; None: there was none."""
    if read(folder) is not None:
        return NAME
    files = parquet_files(folder)
    if files:
        return f"{len(files)} Parquet file{'s' * (len(files) > 1)}"
    if any((folder / "copies").glob("catalog-*.sqlite")):
        return "copies of its catalogue"
    log = folder / "catalog.sqlite-wal"
    return log.name if log.is_file() and log.stat().st_size else None


def lost(folder: Path, traced: str, why: str) -> LakeError:
    """A lake is here, and no catalogue that fits it."""
    return LakeError(
        f"{folder}: holds a lake ({traced}), but {why}; nothing is begun anew: put a backup back with `mm restore`, "
        "or rebuild the catalogue with `mm history rescue`"
    )


def looks_damaged(error: BaseException) -> bool:
    """Whether DuckDB says that the catalogue is none, or is damaged; and not that it is busy or cannot be reached."""
    return bool(_DAMAGE.search(str(error)))


def why_unreadable(catalog: object, error: BaseException) -> str:
    """In words, why a catalogue could not be attached."""
    if "explicitly disabled" in str(error):
        return f"{catalog} is no catalogue of a lake"
    return f"{catalog} cannot be read ({one_line(error)})"


def identity_of(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The identity in the attached catalogue; None: it has none yet."""
    rows = connection.execute(f"SELECT value FROM {METADATA}.ducklake_metadata WHERE key = '{KEY}'").fetchall()
    return str(rows[0][0]) if rows else None


def known_names(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The names of all files that the attached catalogue knows, of any time; names are unique, folders may move."""
    rows = connection.execute(
        f"SELECT path FROM {METADATA}.ducklake_data_file UNION SELECT path FROM {METADATA}.ducklake_delete_file "
        f"UNION SELECT path FROM {METADATA}.ducklake_files_scheduled_for_deletion"
    ).fetchall()
    return {Path(str(path)).name for (path,) in rows}


def needed_names(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The names of the files that hold what is stored now."""
    rows = connection.execute(
        f"SELECT path FROM {METADATA}.ducklake_data_file WHERE end_snapshot IS NULL "
        f"UNION SELECT path FROM {METADATA}.ducklake_delete_file WHERE end_snapshot IS NULL"
    ).fetchall()
    return {Path(str(path)).name for (path,) in rows}


def is_settled(folder: Path, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether marker and attached catalogue are of the same lake; False: one of them does not say so yet.

    Raises:
        LakeError: they are of two lakes.
    """
    marker, identity = read(folder), identity_of(connection)
    if marker is not None and marker.id is not None and marker.id != identity:
        raise lost(folder, NAME, "the catalogue is that of another lake")
    return marker is not None and marker.id == identity


def settle(folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Gives catalogue and folder the same identity, where one of them has none yet; call it as a writer.

    Raises:
        LakeError: they are of two lakes.
    """
    if is_settled(folder, connection):
        return
    names = {path.name for path in parquet_files(folder)}
    if names and not names & known_names(connection):
        raise lost(folder, f"{len(names)} Parquet files", "the catalogue knows none of them: it is that of another")
    identity = identity_of(connection)
    if identity is None:
        identity = new_identity()
        connection.execute(f"INSERT INTO {METADATA}.ducklake_metadata (key, value) VALUES ('{KEY}', '{identity}')")
    write(folder, identity)
