"""Changes to a configuration folder that are put in place whole and valid, or not at all.

The whole folder with the changes is read first, in a copy. Only what can be read and cross-checked is moved in place,
each file at once; what cannot leaves the folder byte for byte as it was.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mm_dagster.config.errors import ConfigError, foreseen
from mm_dagster.config.load import FILES, load
from mm_dagster.config.whole import Config
from mm_dagster.config.yaml_files import read_folder


def contents_of(folder: Path) -> dict[Path, bytes]:
    """The content of every file of a configuration folder and of its `grids/`, all of one moment.

    Raises:
        ConfigError: one of them cannot be read.
    """
    return read_folder(folder, {f"{name}.yaml" for name in FILES})


def checked(folder: Path, contents: Mapping[Path, bytes], changes: Mapping[Path, bytes]) -> Config:
    """What the folder would say with some files changed. Nothing is written to it.

    Args:
        folder: the configuration folder.
        contents: of its files; see `contents_of`.
        changes: what is to stand in files of it.

    Raises:
        ConfigError: it would be invalid; with the line that the folder itself would give.
    """
    with tempfile.TemporaryDirectory(prefix="mm-") as place:
        copy = Path(place) / folder.name
        for path, content in {**contents, **changes}.items():
            there = copy / path.relative_to(folder)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)
        try:
            return load(copy)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(copy), str(folder))) from None


def put(folder: Path, contents: Mapping[Path, bytes], changes: Mapping[Path, bytes]) -> Config:
    """Puts changes in place, in their order, after the whole was checked.

    Args:
        folder: the configuration folder.
        contents: of its files when the changes were made; see `contents_of`.
        changes: what is to stand in files of it.

    Returns:
        The configuration as it is now.

    Raises:
        ConfigError: it would be invalid, a file cannot be written, or somebody changed one meanwhile.
    """
    config = checked(folder, contents, changes)
    with foreseen(folder):
        fresh: dict[Path, Path] = {}
        done: list[Path] = []
        try:
            for path, content in changes.items():
                fresh[path] = _fresh(path, content, like=folder / "markets.yaml")
            if contents_of(folder) != dict(contents):
                raise ConfigError(f"{folder}: was changed by somebody else meanwhile; look at it, and try again")
            for path, file in fresh.items():
                file.replace(path.resolve())
                done.append(path)
        except BaseException as error:
            for path in done:
                _put_back(path, contents.get(path))
            if isinstance(error, OSError):
                raise ConfigError(_cannot("written", error, folder)) from None
            raise
        finally:
            for file in fresh.values():
                file.unlink(missing_ok=True)
    return config


def _fresh(path: Path, content: bytes, like: Path) -> Path:
    """The content in a hidden file beside the one whose place it takes, with its mode, safely on the disk."""
    # A link stays one: the file that it leads to is changed.
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # Of a disk that is full nothing half is left.
        fresh.unlink(missing_ok=True)
        raise
    with suppress(OSError):
        fresh.chmod(stat.S_IMODE((target if target.exists() else like).stat().st_mode))
    return fresh


def _cannot(what: str, error: OSError, path: Path) -> str:
    """Why a file cannot be written, with the remedy; where it is the disk, the command line names that of all."""
    remedy = "; let the user who runs this write to it" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return f"{error.filename or path}: cannot be {what}: {error.strerror}{remedy}"


def _put_back(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def moved_away(path: Path, to: Path) -> None:
    """Moves a file of the folder elsewhere; there is a whole copy before it is gone.

    Raises:
        ConfigError: it cannot be copied or deleted.
    """
    with foreseen(path):
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            half = to.with_name(f".{to.name}.tmp")
            shutil.copyfile(path, half)
            half.replace(to)
            path.unlink()
        except OSError as error:
            raise ConfigError(_cannot("moved", error, path)) from None
