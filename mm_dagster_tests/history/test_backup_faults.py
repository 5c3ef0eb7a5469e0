"""A backup that is killed leaves nothing, a restore never ends half way, and neither takes a link."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from mm_dagster.history import backup as module
from mm_dagster.history.backup import BackupError, Places, beside, examine, pack, refuse_unfinished, restore


def silently(_: int) -> None:
    """Nobody watches."""


def made(folder: Path, word: str) -> Places:
    """A data folder without a lake, in which every part says the same word."""
    for part in ("history", "config", "dagster"):
        (folder / part).mkdir(parents=True)
        (folder / part / "word").write_text(word)
    return Places(folder, folder / "dagster")


def archived(tmp_path: Path, word: str) -> Path:
    staged = tmp_path / f"staged {word}"
    made(staged, word)
    pack(staged, tmp_path / f"{word}.tar.gz", advance=silently)
    return tmp_path / f"{word}.tar.gz"


def words(places: Places) -> set[str]:
    return {(places.of(part) / "word").read_text() for part in ("history", "config", "dagster")}


class Killed(BaseException):
    """What no handler of the code may take for an error that it knows."""


@pytest.mark.parametrize("at", range(8))
def test_a_restore_that_is_killed_at_any_rename_is_refused_and_then_finished(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, places = archived(tmp_path, "new"), made(tmp_path / "data", "old")
    moves = 0
    move = module._move

    def dies(source: Path, target: Path) -> None:
        nonlocal moves
        if moves == at:
            raise Killed
        moves += 1
        move(source, target)

    monkeypatch.setattr(module, "_move", dies)
    try:
        restore(archive, places, force=True, advance=silently)
        is_killed = False
    except Killed:
        is_killed = True
        with pytest.raises(BackupError, match="a restore was interrupted; run `mm restore` once more"):
            refuse_unfinished(places.data)
    assert is_killed is (at < 6)
    monkeypatch.setattr(module, "_move", move)
    if is_killed:
        restore(archive, places, force=True, advance=silently)
    refuse_unfinished(places.data)
    assert words(places) == {"new"}
    aside = [folder for folder in places.data.glob("before-restore-*") if (folder / "history").exists()]
    kept = {(folder / part / "word").read_text() for folder in aside for part in ("history", "config", "dagster")}
    assert "old" in kept


def test_what_a_killed_backup_left_goes_with_the_next_and_what_is_in_use_stays(tmp_path: Path) -> None:
    left = tmp_path / ".backup-left"
    left.mkdir()
    (left / "half").write_text("x")
    torn = tmp_path / ".good.tar.gz.1.tmp"
    torn.write_text("half an archive")
    with beside(tmp_path, "backup") as first:
        assert not left.exists()
        with beside(tmp_path, "backup") as second:
            assert first.exists()
            assert second != first
        made(first, "x")
        pack(first, tmp_path / "good.tar.gz", advance=silently)
    assert [path.name for path in tmp_path.iterdir()] == ["good.tar.gz"]
    assert (tmp_path / "good.tar.gz").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kind", ["file", "folder", "dangling", "pipe"])
@pytest.mark.parametrize("part", ["config", "dagster", "history"])
def test_a_link_or_a_pipe_among_the_files_is_refused(kind: str, part: str, tmp_path: Path) -> None:
    places = made(tmp_path / "data", "x")
    odd = places.of(part) / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to({"file": "/etc/passwd", "folder": "/etc", "dangling": "/nowhere"}[kind])
    with pytest.raises(BackupError, match=r"odd: is (a link|no plain file)") as caught:
        module.stage(places, tmp_path / "staged")
    assert "\n" not in str(caught.value)


def hostile(path: Path, *entries: tarfile.TarInfo, claims: dict[str, int] | None = None) -> Path:
    files = [
        {"name": name, "bytes": size, "sha256": sha256(b"").hexdigest()}
        for name, size in (claims or {entry.name: entry.size for entry in entries}).items()
    ]
    manifest = json.dumps({"format": 1, "made_at": "x", "left_out": [], "files": files}).encode()
    with tarfile.open(path, "w:gz") as tar:
        head = tarfile.TarInfo("manifest.json")
        head.size = len(manifest)
        tar.addfile(head, io.BytesIO(manifest))
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


@pytest.mark.parametrize(
    "entries",
    [
        [entry("config/x", tarfile.SYMTYPE, "/etc/passwd")],
        [entry("config/x", tarfile.LNKTYPE, "config/y")],
        [entry("config/x", tarfile.CHRTYPE)],
        [entry("config/x", tarfile.BLKTYPE)],
        [entry("config/x", tarfile.FIFOTYPE)],
        [entry("config/x", tarfile.DIRTYPE)],
        [entry("config/x", tarfile.CONTTYPE)],
        [entry("config/x"), entry("config/x")],
        [entry("/etc/x")],
        [entry("config/../../x")],
        [entry("elsewhere/x")],
    ],
)
def test_a_hostile_archive_is_refused_in_one_line_and_nothing_is_written(
    entries: list[tarfile.TarInfo], tmp_path: Path
) -> None:
    archive = hostile(tmp_path / "hostile.tar.gz", *entries)
    places = Places(tmp_path / "data", tmp_path / "data" / "dagster")
    with pytest.raises(BackupError, match="which no backup does") as caught:
        restore(archive, places, force=False, advance=silently)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_archive_that_claims_more_than_the_disk_holds_is_refused(tmp_path: Path) -> None:
    archive = hostile(tmp_path / "huge.tar.gz", claims={"config/x": 2**60})
    places = Places(tmp_path / "data", tmp_path / "data" / "dagster")
    with pytest.raises(BackupError, match="has fewer"):
        restore(archive, places, force=False, advance=silently)


def test_what_is_no_file_is_no_backup(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    places = Places(tmp_path / "data", tmp_path / "data" / "dagster")
    for odd in (tmp_path / "pipe", tmp_path):
        with pytest.raises(BackupError, match="is not there"):
            restore(odd, places, force=False, advance=silently)
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    with pytest.raises(BackupError):
        examine(tmp_path / "nothing", silently)
