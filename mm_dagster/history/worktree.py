"""Files of a git work tree, written so that no link and no name leads them elsewhere."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath

FRESH = "fresh.tmp"
"""A file in `.git` that is being written."""


def put(folder: Path, name: str, content: bytes) -> None:
    """Writes a file of the work tree; whatever is in its way there, a link above all, gives way unread.

    Args:
        folder: the work tree, with its `.git`.
        name: of the file, see `is_good`.
        content: all of it.
    """
    fresh = folder / ".git" / FRESH
    # Outside of the work tree, so that a kill leaves no half file in it.
    fresh.unlink(missing_ok=True)
    fresh.write_bytes(content)
    *folders, last = PurePosixPath(name).parts
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for above in folders:
            below = _enter(here, above)
            os.close(here)
            here = below
        if _is_folder(here, last):
            shutil.rmtree(last, dir_fd=here)
        os.replace(fresh, last, dst_dir_fd=here)  # only this one takes a folder's descriptor
    finally:
        os.close(here)


def is_good(name: str) -> bool:
    """Whether a name is the path of a file in the work tree, and leads neither out of it nor into git's own folder."""
    path = PurePosixPath(name)
    bad = any(part == ".." or part.lower().rstrip(". ").startswith(".git") for part in path.parts)
    return (
        path.as_posix() == name
        and name != "."
        and not path.is_absolute()
        and not bad
        and not set(name) & set('\n\t\0"\\')
    )


def _enter(here: int, folder: str) -> int:
    """A folder's descriptor; one that is missing is made, and what is no folder of its own gives way."""
    if not _is_folder(here, folder):
        with suppress(FileNotFoundError):
            os.unlink(folder, dir_fd=here)
        os.mkdir(folder, dir_fd=here)
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)


def _is_folder(here: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
