"""Upkeep and copies of SQLite files that are in use, always in a process of its own.

A process that opens a file with one SQLite library and closes it drops the locks that another library of the same
process holds on it (POSIX), and DuckDB brings its own. A child process has no other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BUSY_SECONDS = 30

_VACUUM = """
import json, sqlite3, sys
for path in json.load(sys.stdin):
    connection = sqlite3.connect(path, timeout=float(sys.argv[1]))
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
"""
_COPY = """
import json, sqlite3, sys
for source, target in json.load(sys.stdin):
    old, new = sqlite3.connect(source, timeout=float(sys.argv[1])), sqlite3.connect(target)
    old.backup(new)
    [(found,)] = new.execute("PRAGMA integrity_check(1)").fetchall()
    if found != "ok":
        sys.exit(f"{source}: {found}")
    old.close()
    new.close()
"""
_WITHOUT_LOG = """
import json, sqlite3, sys
[path] = json.load(sys.stdin)
connection = sqlite3.connect(path, timeout=float(sys.argv[1]))
connection.execute("PRAGMA journal_mode = DELETE").fetchall()
connection.close()
"""
_CHECK = """
import json, sqlite3, sys, urllib.parse
for path in json.load(sys.stdin):
    connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True, timeout=float(sys.argv[1]))
    [(found,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if found != "ok":
        sys.exit(" ".join(found.split()))
    connection.close()
"""
_IS_BARREN = """
import json, sqlite3, sys, urllib.parse
[path] = json.load(sys.stdin)
connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True, timeout=float(sys.argv[1]))
[(number,)] = connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
print(number == 0)
"""
_FORGET = """
import json, sqlite3, sys
path, names = json.load(sys.stdin)
connection = sqlite3.connect(path, timeout=float(sys.argv[1]))
ends = [(name, "%/" + name) for name in names]
numbers = []
by_name = "SELECT data_file_id FROM ducklake_data_file WHERE path = ? OR path LIKE ?"
for end in ends:
    numbers += connection.execute(by_name, end).fetchall()
with connection:
    for table in ("data_file", "delete_file", "file_column_stats", "file_partition_value", "file_variant_stats"):
        connection.executemany(f"DELETE FROM ducklake_{table} WHERE data_file_id = ?", numbers)
    connection.executemany("DELETE FROM ducklake_delete_file WHERE path = ? OR path LIKE ?", ends)
connection.close()
"""
_COLUMN = """
import json, sqlite3, sys, urllib.parse
[query, *paths] = json.load(sys.stdin)
found = []
for path in paths:
    connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True, timeout=float(sys.argv[1]))
    found.append([value for (value,) in connection.execute(query)])
    connection.close()
print(json.dumps(found))
"""

_NOBODY_READS = """
import json, sqlite3, sys
[path] = json.load(sys.stdin)
connection = sqlite3.connect(path, timeout=float(sys.argv[1]), isolation_level=None)
[(number,)] = connection.execute("PRAGMA user_version")
connection.execute(f"PRAGMA user_version = {1 - number}")
[(_, logged, moved)] = connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
print(logged == moved)
"""


class SqliteFileError(Exception):
    """A file cannot be copied or shrunk. One line."""


def vacuum(paths: Sequence[Path]) -> None:
    """Gives the space of what was deleted back to the disk; readers are not disturbed, writers wait.

    Raises:
        SqliteFileError: a writer kept the file for BUSY_SECONDS, or the disk is full.
    """
    _run(_VACUUM, [str(path) for path in paths], "VACUUM")


def copy(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Copies each file to a new one, as of one moment, while others read and write it; the copy is checked.

    Args:
        pairs: source and target; the target's folder exists.

    Raises:
        SqliteFileError: a source is no database or damaged, or a copy cannot be written.
    """
    _run(_COPY, [(str(source), str(target)) for source, target in pairs], "copy")


def without_log(path: Path) -> None:
    """Makes a file that nobody has open one that can be read where nothing can be written beside it.

    Raises:
        SqliteFileError: it cannot be written.
    """
    _run(_WITHOUT_LOG, [str(path)], "journal_mode")


def check(path: Path) -> None:
    """Reads a whole file and compares its indices with its tables.

    Raises:
        SqliteFileError: it is damaged, in one line.
    """
    _run(_CHECK, [str(path)], "integrity_check")


def is_barren(path: Path) -> bool:
    """Whether a file holds no table at all.

    Raises:
        SqliteFileError: it is no database, or damaged.
    """
    return _run(_IS_BARREN, [str(path)], "look") == "True"


def forget(catalog: Path, names: Sequence[str]) -> None:
    """Takes files of these names, which are no more, out of a catalogue of DuckLake that nobody has open.

    Raises:
        SqliteFileError: it cannot be written.
    """
    _run(_FORGET, [str(catalog), list(names)], "forget files")


def columns(query: str, paths: Sequence[Path]) -> list[list[str]]:
    """The one column that a query answers, of each file in turn.

    Raises:
        SqliteFileError: a file is no database, damaged, or has no such table.
    """
    return json.loads(_run(_COLUMN, [query, *map(str, paths)], "read") or "[]")


def nobody_reads(path: Path) -> bool:
    """Whether no transaction of a reader is open.

    One that is older than the last commit keeps SQLite from moving what was committed since from its log to the
    database. So there is a commit first, of a number that nobody reads.

    Raises:
        SqliteFileError: a writer kept the file for BUSY_SECONDS, or the disk is full.
    """
    return _run(_NOBODY_READS, [str(path)], "look for readers") == "True"


def _run(script: str, work: Sequence[object], what: str) -> str:
    """What the script says."""
    if not work:
        return ""
    done = subprocess.run(
        [sys.executable, "-c", script, str(BUSY_SECONDS)],
        input=json.dumps(work),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise SqliteFileError(f"{what}: {said[-1]}")
    return done.stdout.strip()
