"""A home: one folder with configuration and data, found from wherever somebody stands.

`mm init` makes it and puts a mark into it. It is found, in this order, by the variable MM_HOME, by walking up from the
working folder to the mark, by the note in the user's configuration folder. `environment` asks here, and puts the
variables MM_CONFIG_DIR and MM_DATA_DIR before all of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from mm_dagster.errors import ForeseenError

VARIABLE = "MM_HOME"
MARK = "mm-home.toml"
"""The file that makes a folder a home."""
CONFIG, DATA = "config", "data"


class HomeError(ForeseenError, ValueError):
    """What should be a home is none, or is not the only one. One line, with the remedy."""


@dataclass(frozen=True)
class Home:
    """A home that was found.

    Attributes:
        folder: where it is, absolute.
        found_by: how it was found, in words that follow its name.
        is_noted: whether the note in the user's configuration folder names it.
    """

    folder: Path
    found_by: str
    is_noted: bool = False

    @property
    def config(self) -> Path:
        """The configuration's folder."""
        return self.folder / CONFIG

    @property
    def data(self) -> Path:
        """Everything that the program writes is below it."""
        return self.folder / DATA


def find(named: Path | None, start: Path | None) -> Home | None:
    """The home that counts; None: there is none.

    Args:
        named: the folder that MM_HOME names; None: it is not set.
        start: the folder to walk up from; None: nowhere.

    Raises:
        HomeError: what is named or noted is no home, or there are two on the way up.
    """
    if named is not None:
        if not is_home(named):
            raise HomeError(
                f"{VARIABLE}: {named} {_lacks(named)}; name one, make it with `mm init`, or unset {VARIABLE}"
            )
        return Home(named, f"named by {VARIABLE}")
    around = marked(start) if start else []
    if len(around) > 1:
        raise HomeError(
            f"{around[0]}: is a home inside the home {around[1]}; name the one that is meant in {VARIABLE}, or delete "
            f"{MARK} in the other"
        )
    if around:
        _refuse_foreign(around[0])
        return Home(around[0], "around the working folder")
    folder = noted()
    if folder is None:
        return None
    if not is_home(folder):
        raise HomeError(
            f"{note()}: names the home {folder}, which {_lacks(folder)}; bring it back, name another with "
            f"`mm init FOLDER --default`, or delete the note"
        )
    return Home(folder, f"named by {note()}", is_noted=True)


def is_home(folder: Path) -> bool:
    """Whether a folder has the mark."""
    # Of a folder that may not be looked into it is not known, which is no reason to fail on the way up.
    return os.path.isfile(folder / MARK)  # noqa: PTH113


def marked(start: Path) -> list[Path]:
    """The homes that a folder lies in, or is, the innermost first."""
    return [folder for folder in (start, *start.parents) if is_home(folder)]


def note() -> Path:
    """The file in the user's configuration folder that names the home for all terminals, in one line."""
    return platformdirs.user_config_path("mm-dagster", appauthor=False) / "home"


def noted() -> Path | None:
    """The home that the note names; None: there is no note.

    Raises:
        HomeError: it cannot be read, or names nothing.
    """
    try:
        text = note().read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(
            f"{note()}: cannot be read: {getattr(error, 'strerror', None) or error}; let the user who runs this read "
            f"it, or set {VARIABLE}"
        ) from None
    if not Path(text).is_absolute() or "\n" in text:
        raise HomeError(f"{note()}: {text!r:.80} is no whole path of one folder; write one, or delete the note")
    return Path(text)


def _lacks(folder: Path) -> str:
    if not os.path.exists(folder):  # noqa: PTH110
        return "is not there, or cannot be entered"
    return f"is no home: it has no {MARK}" if os.path.isdir(folder) else "is no folder"  # noqa: PTH112


def _refuse_foreign(folder: Path) -> None:
    """A mark that another user put into a folder above ours, like /tmp, decides nothing.

    Raises:
        HomeError: it is another user's.
    """
    if hasattr(os, "getuid") and (folder / MARK).stat().st_uid not in (os.getuid(), 0):
        raise HomeError(f"{folder / MARK}: belongs to another user; if this home is meant, name it in {VARIABLE}")
