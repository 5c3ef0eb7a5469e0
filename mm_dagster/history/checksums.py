"""What each file of a lake held when a night first saw it: a byte that flipped on the disk is found, and named.

DuckDB writes Parquet without checksums, so that a value in which a byte flips is read as another value. A file of the
lake is written once and never changed: whatever holds other bytes than before, was changed by nobody of ours.

Of object storage nothing is read for that: it keeps checksums of its own. Proven is that nobody wrote an object again,
by its size and by when the storage says that it was written.
"""

from __future__ import annotations

import json

from mm_dagster.history import marker
from mm_dagster.history.connection import LakeError
from mm_dagster.history.places import Place

NAME = "checksums.json"


def refuse_changed(place: Place) -> int:
    """Reads every file that was seen before, before anything is made of it; returns how many those were.

    Raises:
        LakeError: one of them holds other bytes.
    """
    noted = _noted(place)
    known = [file for file in marker.parquet_files(place) if file.base in noted]
    changed = [file for file in known if place.fingerprint(file) != noted[file.base]]
    if changed:
        raise LakeError(
            f"{place}: {len(changed)} files hold other bytes than when they were written, first "
            f"{changed[0].name}: the disk changed them, or a person; nothing was merged or deleted. Put "
            "a backup back with `mm restore`, or move these files away and run `mm history rescue`: it keeps the rest"
        )
    return len(known)


def note(place: Place) -> None:
    """Writes down what the files hold that were not seen before, and forgets those that are gone.

    Raises:
        LakeError: the disk is full, say.
    """
    noted = _noted(place)
    now = {file.base: noted.get(file.base) or place.fingerprint(file) for file in marker.parquet_files(place)}
    if now == noted:
        return
    try:
        marker.write_whole(place, NAME, now)
    except OSError as error:
        raise LakeError(f"{place.url(NAME)}: {error.strerror or error}; is the disk full?") from error


def _noted(place: Place) -> dict[str, str]:
    """What is written down; nothing where that itself cannot be read, since it proves nothing then."""
    try:
        said = json.loads(place.read(NAME) or b"{}")
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(name): str(digest) for name, digest in said.items()} if isinstance(said, dict) else {}
