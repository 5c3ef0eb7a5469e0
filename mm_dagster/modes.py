"""Who may read what is written here: nobody but its owner. Balances, keys' names and decisions are nobody's business.

Every process of ours calls `keep_private` where it starts, so that whatever it, Dagster, DuckDB, SQLite or git makes
is 0600 or 0700. What is older is closed by the mode of the data folder itself.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from itertools import islice
from pathlib import Path

from mm_dagster.errors import ForeseenError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MOST = 1_000_000
"""Files that are looked at, at most."""


class ModesError(ForeseenError):
    """Others may read what they should not. One line, with the remedy."""


@cache
def keep_private() -> int:
    """From now on what this process makes is for its owner alone; returns what others were allowed before."""
    return os.umask(_OTHERS)


def share(path: Path) -> None:
    """Gives a file that holds nothing private the mode that the user's other files have."""
    path.chmod(0o666 & ~keep_private())


def tighten(folder: Path) -> None:
    """Closes a folder to others, where it is ours and can be."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & _OTHERS:
            folder.chmod(mode & ~_OTHERS)
    except OSError:
        # `check` says it; a foreign folder is no reason to decide nothing.
        return


def check(folder: Path) -> str:
    """One line for `mm doctor`.

    Raises:
        ModesError: others may enter the folder, or read files below it.
    """
    if not stat.S_IMODE(folder.stat().st_mode) & _OTHERS:
        return f"{folder}: closed to other users"
    for path in islice(folder.rglob("*"), _MOST):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & _OTHERS:
            raise ModesError(f"{path}: other users may read it; run `chmod -R go= {folder}` as the owner of the folder")
    raise ModesError(f"{folder}: other users may enter it; run `chmod go= {folder}` as its owner")
