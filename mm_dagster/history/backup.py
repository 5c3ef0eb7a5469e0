"""A backup: everything below data/ that cannot be made again, in one file that proves its own content.

First it is staged, as of one moment, beside the data: the lake by links, SQLite files by SQLite's own backup, the
mirror as a bundle of git. The archive begins with a manifest of checksums; it is read back whole before it gets its
name. A restore trusts nothing: it unpacks beside the target, compares every checksum, and only then renames.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from mm_dagster.bars import iso
from mm_dagster.errors import ForeseenError
from mm_dagster.history import sqlite_files
from mm_dagster.history.lake import Lake
from mm_dagster.history.places import FILES, Place

FORMAT = 1
PARTS = ("history", "mirror", "config", "orders", "dagster")
_MANIFEST = "manifest.json"
_BUNDLE = "mirror/commits.bundle"
_MANIFEST_BYTES = 64 * 2**20
_CHUNK = 2**20
_ANY = "main"
"""A bundle knows its own branches; this one is only what git calls a repository's first until it has any."""
_READY = ".restored"
"""What was unpacked and proven, on its way to its place: when this folder is there, a restore did not end."""
_NEWS = "restore.json"
_CLEARED = ".cleared"
"""Within the history that was unpacked: what the object storage held before is moved aside already."""
_LOGIN_IN_ADDRESS = re.compile(rb"://[^/\s\"]*@")

Advance = Callable[[int], None]
"""Told how many bytes more are done."""


class BackupError(ForeseenError):
    """The backup cannot be made or restored. One line, with the remedy."""


@dataclass(frozen=True)
class Places:
    """Where the parts live.

    Attributes:
        data: holds `history`, `mirror`, `config` and `orders`.
        dagster: Dagster's storage.
        files: where the files of the history are, if that is not its folder: a prefix of a bucket.
    """

    data: Path
    dagster: Path
    files: Place | None = None

    def of(self, part: str) -> Path:
        return self.dagster if part == "dagster" else self.data / part


@dataclass(frozen=True)
class Backup:
    """What an archive holds: files and bytes in all, bytes as packed, when it was made, and what was left out."""

    files: int
    bytes: int
    packed: int
    made_at: str
    left_out: tuple[str, ...] = ()


def stage(places: Places, folder: Path) -> tuple[str, ...]:
    """Copies all parts to an empty folder, see `beside`; call it while no run of the pipeline works.

    Returns:
        What was left out, in words: a configuration that holds a login.

    Raises:
        BackupError: a database cannot be copied, or there is a link or a special file among the files.
        LakeError: the lake cannot be copied.
        MirrorError: the mirror cannot be packed.
    """
    left_out = []
    for part in PARTS:
        _refuse_links(places.of(part), part)
    Lake(places.of("history"), place=places.files).copy_to(folder / "history")
    if (places.of("mirror") / ".git").is_dir():
        (folder / "mirror").mkdir()
        # Imported here because every command asks this module whether a restore ended, and few need git.
        from mm_dagster.history.mirror import Mirror

        Mirror(places.of("mirror"), None, _ANY).bundle(folder / _BUNDLE)
    for path in _files(places.of("config")):
        if _LOGIN_IN_ADDRESS.search(path.read_bytes()):
            left_out.append(f"config/{path.name} (an address in it holds a login)")
        else:
            _copy(path, folder / "config" / path.name)
    databases = []
    if (journal := places.of("orders") / "journal.sqlite").is_file():
        # Nothing else of that folder: what marks this copy as the one in force must not be in another.
        (folder / "orders").mkdir()
        databases.append((journal, folder / "orders" / journal.name))
    for path in _files(places.dagster):
        target = folder / "dagster" / path.relative_to(places.dagster)
        if path.suffix == ".db":
            target.parent.mkdir(parents=True, exist_ok=True)
            databases.append((path, target))
        elif not path.name.endswith((".db-wal", ".db-shm", ".lock")):
            _copy(path, target)
    try:
        sqlite_files.copy(databases)
    except sqlite_files.SqliteFileError as error:
        raise BackupError(f"{places.data}: {error}") from error
    return tuple(left_out)


def staged_bytes(folder: Path) -> int:
    """How many bytes are to be packed."""
    return sum(path.stat().st_size for path in _files(folder))


def pack(folder: Path, archive: Path, *, left_out: tuple[str, ...] = (), advance: Advance) -> Backup:
    """Packs what was staged into one file, reads it back, and gives it its name.

    Args:
        folder: see `stage`.
        archive: a tar file, compressed by gzip; one of this name is replaced once the new one is proven.
        left_out: see `stage`.
        advance: told of every byte three times: checksum, packing, proof.

    Raises:
        BackupError: the disk is full, or what was read back is not what was written.
    """
    made_at = iso(datetime.now(UTC).replace(microsecond=0))
    files = [
        {"name": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": _digest(path, advance)}
        for path in _files(folder)
    ]
    manifest = json.dumps({"format": FORMAT, "made_at": made_at, "left_out": left_out, "files": files}, indent=1)
    (folder / _MANIFEST).write_text(manifest)
    for old in archive.parent.glob(f".{archive.name}.*.tmp"):
        # Of a backup that was killed.
        if _is_left(old):
            old.unlink(missing_ok=True)
    fresh = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as raw:  # noqa: PTH123
            fcntl.flock(raw, fcntl.LOCK_SH)
            with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=6) as tar:
                for name in [_MANIFEST, *(str(file["name"]) for file in files)]:
                    _add(tar, folder / name, name)
                    advance((folder / name).stat().st_size)
            raw.flush()
            os.fsync(raw.fileno())
        _read(fresh, None, advance)
        fresh.replace(archive)
        _settle(archive.parent)
    except OSError as error:
        raise BackupError(f"{archive}: {error.strerror or error}; choose a folder that can be written to") from error
    finally:
        fresh.unlink(missing_ok=True)
    return Backup(len(files), sum(int(str(f["bytes"])) for f in files), archive.stat().st_size, made_at, left_out)


def examine(archive: Path, advance: Advance) -> Backup:
    """Reads an archive to its end and compares every checksum; writes nothing.

    Raises:
        BackupError: it is torn, changed, hostile, or no backup.
    """
    return _read(archive, None, advance)


def restore(archive: Path, places: Places, *, force: bool, advance: Advance) -> tuple[Backup, Path | None]:
    """Puts the parts of an archive in their places; until all of it is unpacked and proven nothing changes there.

    Args:
        archive: see `pack`.
        places: where to; missing folders are made.
        force: move what is there aside, instead of refusing.
        advance: told of every byte.

    Returns:
        What was restored, and the folder that now holds what was there before; None: nothing was.

    Raises:
        BackupError: the archive is torn, changed, hostile or no backup; or there is something and no `force`.
        MirrorError: the mirror cannot be unpacked.
    """
    if not archive.is_file():
        raise BackupError(f"{archive}: is not there; give the file that `mm backup --to` wrote")
    if (places.data / _READY / _NEWS).is_file():
        # All of an earlier one was proven, and a part of it may stand in its place already: it comes first.
        _move_in(places)
    there: list[object] = [places.of(part) for part in PARTS if _holds_anything(places.of(part))]
    if places.files is not None and places.files.holds_a_lake():
        there.append(places.files)
    if there and not force:
        raise BackupError(f"{there[0]}: is not empty; choose another folder with --data, or --force to move it aside")
    try:
        with beside(places.data, "restoring") as fresh:
            restored = _read(archive, fresh, advance)
            bundle = fresh / _BUNDLE
            if bundle.is_file():
                from mm_dagster.history.mirror import Mirror

                Mirror(fresh / "repository", None, _ANY).unbundle(bundle)
                shutil.rmtree(fresh / "mirror")
                (fresh / "repository").rename(fresh / "mirror")
            aside = Path(tempfile.mkdtemp(prefix="before-restore-", dir=places.data)) if there else None
            old = [part for part in PARTS if places.of(part).exists()] if there else []
            (fresh / _NEWS).write_text(json.dumps({"aside": aside and aside.name, "old": old}))
            _settle(fresh)
            ready = places.data / _READY
            shutil.rmtree(ready, ignore_errors=True)
            fresh.rename(ready)
        _move_in(places)
    except OSError as error:
        raise BackupError(f"{places.data}: {error.strerror or error}; nothing was lost, try again") from error
    return restored, aside


def refuse_unfinished(data: Path) -> None:
    """Refuses a data folder in which a restore was killed between its parts.

    Raises:
        BackupError: it is one.
    """
    if (data / _READY / _NEWS).is_file():
        raise BackupError(f"{data}: a restore was interrupted; run `mm restore` once more, with --force")


def _move_in(places: Places) -> None:
    """Renames what is proven to its place, part by part. Killed at any instant, it can be called again."""
    ready = places.data / _READY
    news = json.loads((ready / _NEWS).read_text())
    aside = places.data / news["aside"] if news["aside"] else None
    if places.files is not None:
        _upload(ready / "history", places.files, news["aside"])
    for part in PARTS:
        place, new = places.of(part), ready / part
        if aside and part in news["old"] and not (aside / part).exists() and place.exists():
            _move(place, aside / part)
        if new.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                place.rmdir()
            _move(new, place)
    # First what says that it goes on, lest it goes on without its parts.
    (ready / _NEWS).unlink()
    shutil.rmtree(ready, ignore_errors=True)


def _upload(history: Path, place: Place, aside: str | None) -> None:
    """Brings the files of a lake to its place in object storage; killed at any instant, it can be called again.

    Args:
        history: what was unpacked; only its catalogue stays.
        place: where its files belong.
        aside: below which name what was there is kept; None: nothing was.

    Raises:
        LakeError: the storage does not store it.
    """
    files = sorted((history / FILES).rglob("*.parquet"))
    if aside and not (history / _CLEARED).exists():
        place.set_aside(aside)
        (history / _CLEARED).touch()
    for path in files:
        place.put(path, path.relative_to(history).as_posix())
        path.unlink()
    shutil.rmtree(history / FILES, ignore_errors=True)
    said = history / "lake.json"
    if said.exists():
        # Last of all: it says that a lake is there.
        place.write(said.name, said.read_bytes())
        said.unlink()
    (history / _CLEARED).unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    """Renames a folder; from one disk to another by a copy that gets its name when it is whole."""
    try:
        source.rename(target)
    except OSError:
        copy = target.with_name(f".{target.name}.copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy, symlinks=True)
        copy.rename(target)
        shutil.rmtree(source)


def _settle(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    end = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(end)
    finally:
        os.close(end)


def _refuse_links(folder: Path, part: str) -> None:
    """A link would bring in what lies elsewhere, or leave out what seems to be here; a pipe would wait for ever.

    Raises:
        BackupError: there is one.
    """
    if part != "dagster" and folder.is_symlink():
        raise BackupError(
            f"{folder}: is a link; a backup holds what lies in the data folder itself: put the folder there"
        )
    # Of the mirror git packs the commits.
    for path in folder.rglob("*") if part != "mirror" else ():
        mode = path.lstat().st_mode if path.is_symlink() or path.exists() else stat.S_IFREG
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "no plain file"
            raise BackupError(f"{path}: is {kind}; put the file itself there, or take it out")


def _read(archive: Path, target: Path | None, advance: Advance) -> Backup:
    """Reads an archive to its end, checks it against its manifest, and unpacks it where a target is given."""
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            entries = iter(tar)
            manifest = _manifest(archive, tar, next(entries, None))
            expected = {str(file["name"]): file for file in manifest["files"]}
            needed = sum(int(file["bytes"]) for file in manifest["files"])
            if target and needed > shutil.disk_usage(target).free:
                raise BackupError(f"{archive}: needs {needed:,} bytes, and the disk of {target.parent} has fewer")
            for entry in entries:
                file = expected.pop(entry.name, None)
                if file is None or not _is_harmless(entry) or entry.size != file["bytes"]:
                    raise BackupError(f"{archive}: holds {entry.name!r}, which no backup does; it is not used")
                content = tar.extractfile(entry)
                assert content is not None
                if _take(content, target and target / entry.name, advance) != file["sha256"]:
                    raise BackupError(f"{archive}: {entry.name} is damaged; take another backup")
            # To the end of the compressed stream, whose own checksum comes last.
            while tar.fileobj and tar.fileobj.read(_CHUNK):
                pass
            if expected:
                raise BackupError(f"{archive}: {min(expected)} is missing; take another backup")
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise BackupError(f"{archive}: is torn or no backup ({error}); take another one") from error
    except FileNotFoundError as error:
        if error.filename != str(archive):
            raise
        raise BackupError(f"{archive}: is not there; give the file that `mm backup --to` wrote") from error
    files = manifest["files"]
    total = sum(int(file["bytes"]) for file in files)
    left_out = tuple(map(str, manifest["left_out"]))
    return Backup(len(files), total, archive.stat().st_size, str(manifest["made_at"]), left_out)


def _manifest(archive: Path, tar: tarfile.TarFile, entry: tarfile.TarInfo | None) -> dict:
    """The manifest, which comes first.

    Raises:
        BackupError: there is none, or a newer program wrote it.
    """
    if entry is None or entry.name != _MANIFEST or not entry.isreg() or entry.size > _MANIFEST_BYTES:
        raise BackupError(f"{archive}: is no backup of mm; give the file that `mm backup --to` wrote")
    content = tar.extractfile(entry)
    assert content is not None
    try:
        manifest = json.load(content)
        version = manifest["format"]
        _ = [(file["name"], int(file["bytes"]), file["sha256"]) for file in manifest["files"]]
        _ = manifest["made_at"], manifest["left_out"]
    except (ValueError, TypeError, KeyError) as error:
        raise BackupError(f"{archive}: its manifest cannot be read; take another backup") from error
    if version != FORMAT:
        raise BackupError(f"{archive}: has format {version}, this program knows {FORMAT}; update mm_dagster")
    return manifest


def _is_harmless(entry: tarfile.TarInfo) -> bool:
    """A plain file below one of the parts; never a link, a device, or a path that leads out."""
    path = PurePosixPath(entry.name)
    return (
        # Nor a sparse file, which is small and large.
        entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
        and not path.is_absolute()
        and "\\" not in entry.name
        and "\0" not in entry.name
        and path.as_posix() == entry.name
        and ".." not in path.parts
        and len(path.parts) > 1
        and path.parts[0] in PARTS
    )


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """One file, without the names of users and machines."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = path.stat().st_size, 0o600
    with path.open("rb") as content:
        tar.addfile(entry, content)


def _take(content: IO[bytes], target: Path | None, advance: Advance) -> str:
    """The checksum of a stream, which is written to a file where one is given."""
    digest = hashlib.sha256()
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
    out = target.open("xb") if target else None
    try:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            if out:
                out.write(chunk)
            advance(len(chunk))
        if out:
            out.flush()
            os.fsync(out.fileno())
    finally:
        if out:
            out.close()
    return digest.hexdigest()


def _digest(path: Path, advance: Advance) -> str:
    with path.open("rb") as content:
        return _take(content, None, advance)


def _copy(path: Path, target: Path) -> None:
    """Copies a file; one that was deleted meanwhile is not part of this moment."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(path, target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _holds_anything(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


@contextmanager
def beside(folder: Path, name: str) -> Iterator[Path]:
    """A temporary folder in another one, so on the same disk, gone afterwards whatever happens.

    What a killed process left there under that name goes, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f".{name}-*"):
        if _is_left(old):
            shutil.rmtree(old, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    with _held(fresh):
        try:
            yield fresh
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Marks a file or folder as in use for as long as this process lives."""
    end = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(end, fcntl.LOCK_SH)
        yield
    finally:
        os.close(end)


def _is_left(path: Path) -> bool:
    """Whether nobody holds it any more."""
    try:
        end = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(end, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(end)
    return True
