"""What each file of a lake held when a night first saw it: a byte that flipped on the disk is found, and named.

DuckDB writes Parquet without checksums, so that a value in which a byte flips is read as another value. A file of the
lake is written once and never changed: whatever holds other bytes than before, was changed by nobody of ours.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mm_dagster.history import marker
from mm_dagster.history.connection import LakeError

NAME = "checksums.json"


def refuse_changed(folder: Path) -> int:
    """Reads every file that was seen before, before anything is made of it; returns how many those were.

    Raises:
        LakeError: one of them holds other bytes.
    """
    noted = _noted(folder)
    known = [path for path in marker.parquet_files(folder) if path.name in noted]
    changed = [path for path in known if _digest(path) != noted[path.name]]
    if changed:
        raise LakeError(
            f"{folder}: {len(changed)} files hold other bytes than when they were written, first "
            f"{changed[0].relative_to(folder)}: the disk changed them, or a person; nothing was merged or deleted. Put "
            "a backup back with `mm restore`, or move these files away and run `mm history rescue`: it keeps the rest"
        )
    return len(known)


def note(folder: Path) -> None:
    """Writes down what the files hold that were not seen before, and forgets those that are gone.

    Raises:
        LakeError: the disk is full, say.
    """
    noted = _noted(folder)
    now = {path.name: noted.get(path.name) or _digest(path) for path in marker.parquet_files(folder)}
    if now == noted:
        return
    try:
        marker.write_whole(folder / NAME, now)
    except OSError as error:
        raise LakeError(f"{folder / NAME}: {error.strerror or error}; is the disk full?") from error


def _noted(folder: Path) -> dict[str, str]:
    """What is written down; nothing where that itself cannot be read, since it proves nothing then."""
    try:
        said = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(name): str(digest) for name, digest in said.items()} if isinstance(said, dict) else {}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
