"""What to do about a disk or a folder that fails, whoever met it: ours, Dagster's SQLite, DuckDB or a library."""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mm_dagster import environment

_ROOM = "make room on the disk of {data}; then the next tick heals what is missing"
_RIGHTS = "let the user who runs this read and write it, or let MM_DATA_DIR ({data}) name another folder"
_READ_ONLY = "it is mounted read-only; mount it for writing, or let MM_DATA_DIR ({data}) name another folder"
_GONE = "it was moved or deleted meanwhile; look whether MM_DATA_DIR ({data}) and MM_CONFIG_DIR are what you mean"
_DISK = "the disk or its connection fails; look at the system's log, and take a backup of {data} while it can be read"
_FILES = "too many files are open; raise the limit (`ulimit -n`)"
_DAMAGED = "the file is damaged; stop what writes to {data}, and put a backup back with `mm restore`"
_BUSY = "another process holds it; try again, or see what else uses {data}"

_BY_NUMBER = {
    errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EFBIG: _ROOM,
    errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS,
    errno.EROFS: _READ_ONLY,
    errno.ENOENT: _GONE, errno.ENOTDIR: _GONE, errno.ESTALE: _GONE, errno.EISDIR: _GONE, errno.EEXIST: _GONE,
    errno.EIO: _DISK,
    errno.EMFILE: _FILES, errno.ENFILE: _FILES,
}  # fmt: skip
_BY_WORDS = {
    r"No space left on device|database or disk is full|Disk quota exceeded": _ROOM,
    r"Read-only file system": _READ_ONLY,
    r"Permission denied|readonly database|read-only database|unable to open database file": _RIGHTS,
    r"Input/output error|disk I/O error": _DISK,
    r"Too many open files": _FILES,
    r"disk image is malformed|file is not a database": _DAMAGED,
    r"database is locked": _BUSY,
}


def in_words(error: BaseException) -> str | None:
    """An error of files or of SQLite as one line: what, where and the remedy; None: it is of another kind."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _BY_NUMBER:
            where = one.filename if isinstance(one.filename, (str, bytes)) else None
            said = f"{Path(where if isinstance(where, str) else where.decode(errors='replace'))}: " if where else ""
            return f"{said}{one.strerror}; {_filled(_BY_NUMBER[one.errno])}"
        if isinstance(one, sqlite3.Error):
            known = _by_words(str(one))
            return f"SQLite: {one}; {known}" if known else None
    known = remedy(error)
    return f"{(str(error).splitlines() or [''])[0]} ({known})" if known else None


def can_be_said(error: BaseException) -> bool:
    """Whether it is an error, and not a wish to stop. A panic of an extension module is no Exception."""
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"


def unforeseen(error: BaseException) -> str:
    """An error that nobody foresaw, in one line."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first} (not foreseen; `mm --debug ...` shows the trace)"


def remedy(error: BaseException) -> str | None:
    """What to do, found in the words of an error and of those behind it; None: nothing is known."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _BY_NUMBER:
            return _filled(_BY_NUMBER[one.errno]) if one.errno not in (errno.ENOENT, errno.EEXIST) else None
        known = _by_words(str(one))
        if known:
            return known
    return None


def _by_words(text: str) -> str | None:
    for pattern, known in _BY_WORDS.items():
        if re.search(pattern, text):
            return _filled(known)
    return None


def _filled(text: str) -> str:
    try:
        data = str(environment.data_folder())
    except environment.VariableError:
        data = environment.given(environment.DATA_DIR)
    return text.format(data=data)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and not any(one is other for other in seen):
        seen.append(one)
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
