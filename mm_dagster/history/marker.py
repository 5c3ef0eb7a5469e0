"""What tells that a place holds a lake, when its catalogue does not: a marker with an identity, and the files.

A lake without its catalogue looks like no lake at all. Begun anew, its old files would be nobody's, and the next
night would take them away. So the folder, or the prefix of a bucket, says of itself that it was one, and which.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import duckdb

from mm_dagster.history.connection import METADATA, LakeError, one_line
from mm_dagster.history.places import FILES, Place, Stored
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
    """What `lake.json` says.

    Attributes:
        id: of the lake; None: it cannot be read.
        copy_of: the lake that this one is becoming a copy of; None: it is whole.
    """

    id: str | None
    copy_of: str | None = None


def new_identity() -> str:
    """One that no other lake has."""
    return str(uuid.uuid4())


def read(place: Place) -> Marker | None:
    """The marker of a place; None: there is none.

    Raises:
        LakeError: the object storage does not answer.
    """
    try:
        content = place.read(NAME)
        if content is None:
            return None
        said = json.loads(content)
        identity, copy_of = said["id"], said.get("copy_of")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Marker(None)
    return Marker(*(text if isinstance(text, str) and text else None for text in (identity, copy_of)))


def write(place: Place, identity: str, *, copy_of: str | None = None) -> None:
    """Writes the marker whole or not at all.

    Args:
        place: of the lake.
        identity: its own.
        copy_of: the lake that this one is becoming a copy of.

    Raises:
        OSError: it cannot be written.
        LakeError: the object storage does not store it.
    """
    half = {"copy_of": copy_of} if copy_of else {}
    write_whole(place, NAME, {"id": identity, "schema": registry.SCHEMA_VERSION, **half})


def write_whole(place: Place, name: str, content: Mapping[str, object]) -> None:
    """Writes a JSON file of a lake whole or not at all, and to the disk.

    Raises:
        OSError: it cannot be written.
        LakeError: the object storage does not store it.
    """
    place.write(name, json.dumps(content).encode())


def parquet_files(place: Place, below: str = FILES) -> list[Stored]:
    """Every Parquet file of the lake in a place, known to a catalogue or not."""
    return [file for file in place.files(below) if file.name.endswith(".parquet")]


def trace(folder: Path, place: Place) -> str | None:
    """What tells of a lake in its folder and where its files are, in words; None: there was none."""
    if read(place) is not None:
        return NAME
    files = parquet_files(place)
    if files:
        return f"{len(files)} Parquet file{'s' * (len(files) > 1)}"
    if any((folder / "copies").glob("catalog-*.sqlite")):
        return "copies of its catalogue"
    log = folder / "catalog.sqlite-wal"
    return log.name if log.is_file() and log.stat().st_size else None


def lost(place: object, traced: str, why: str) -> LakeError:
    """A lake is here, and no catalogue that fits it."""
    return LakeError(
        f"{place}: holds a lake ({traced}), but {why}; nothing is begun anew: put a backup back with `mm restore`, "
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
    return {PurePosixPath(str(path)).name for (path,) in rows}


def needed_names(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The names of the files that hold what is stored now."""
    rows = connection.execute(
        f"SELECT path FROM {METADATA}.ducklake_data_file WHERE end_snapshot IS NULL "
        f"UNION SELECT path FROM {METADATA}.ducklake_delete_file WHERE end_snapshot IS NULL"
    ).fetchall()
    return {PurePosixPath(str(path)).name for (path,) in rows}


def is_settled(place: Place, connection: duckdb.DuckDBPyConnection, *, half: bool = False) -> bool:
    """Whether marker and attached catalogue are of the same lake; False: one of them does not say so yet.

    Args:
        place: of the files.
        connection: with the catalogue.
        half: whether half a copy will do.

    Raises:
        LakeError: they are of two lakes, or it is half a copy.
    """
    marker, identity = read(place), identity_of(connection)
    if marker is not None and marker.copy_of is not None and not half:
        raise LakeError(f"{place}: is half a copy of another lake; run the same `mm history copy` once more")
    if marker is not None and marker.id is not None and marker.id != identity:
        raise lost(place, NAME, "the catalogue is that of another lake")
    return marker is not None and marker.id == identity


def settle(place: Place, connection: duckdb.DuckDBPyConnection, *, half: bool = False) -> None:
    """Gives catalogue and place the same identity, where one of them has none yet; call it as a writer.

    Raises:
        LakeError: they are of two lakes, or the files are elsewhere.
    """
    if is_settled(place, connection, half=half):
        return
    names = {file.base for file in parquet_files(place)}
    if names and not names & known_names(connection):
        raise lost(place, f"{len(names)} Parquet files", "the catalogue knows none of them: it is that of another")
    needed = needed_names(connection)
    if needed and not names and read(place) is None:
        raise LakeError(
            f"{place}: holds none of the {len(needed)} files that the catalogue knows: they are where data.path of "
            "history.yaml said before; name that again, and move them by `mm history copy`"
        )
    identity = identity_of(connection)
    if identity is None:
        identity = new_identity()
        connection.execute(f"INSERT INTO {METADATA}.ducklake_metadata (key, value) VALUES ('{KEY}', '{identity}')")
    write(place, identity)
