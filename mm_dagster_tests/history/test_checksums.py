"""A byte of a Parquet file that flips on the disk is found by the next night, by the doctor and by a backup."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mm_dagster.history import checksums, marker
from mm_dagster.history.lake import Lake, LakeError
from mm_dagster.history.places import Folder
from mm_dagster.history.rescue import rescue
from mm_dagster_tests.history.test_lake import COMMIT, span, verdicts


def parquet_files(folder: Path) -> list[Path]:
    return sorted((folder / "files").rglob("*.parquet"))


@pytest.fixture(scope="module")
def after_a_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake after one night."""
    folder = tmp_path_factory.mktemp("night") / "history"
    lake = Lake(folder)
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    lake.maintain(keep_days=30)
    lake.close()
    return folder


@pytest.fixture
def folder(after_a_night: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(after_a_night, tmp_path / "history")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("place", [4, 0.3, 0.6, -9])
def test_a_flipped_byte_is_named_and_nothing_is_made_of_it(folder: Path, place: float) -> None:
    path = parquet_files(folder)[0]
    size = path.stat().st_size
    flip(path, int(place) if abs(place) >= 1 else int(size * place))
    there = {file: file.read_bytes() for file in folder.rglob("*.parquet")}
    for look in (
        lambda: Lake(folder).maintain(keep_days=30),
        lambda: Lake(folder).check(),
        lambda: Lake(folder).copy_to(folder.parent / "copy"),
    ):
        with pytest.raises(LakeError) as raised:
            look()
        assert str(path.relative_to(folder)) in str(raised.value)
        assert "mm restore" in str(raised.value)
        assert "\n" not in str(raised.value)
    assert {file: file.read_bytes() for file in folder.rglob("*.parquet")} == there
    assert not (folder.parent / "copy").exists()


@pytest.mark.slow
def test_the_rest_is_kept_when_the_file_is_moved_away(folder: Path) -> None:
    lake = Lake(folder)
    lake.write(
        "regime_verdict", verdicts(96, 60, "OTHER-USDT"), span=span(96, 60), symbols=["OTHER-USDT"], commit=COMMIT
    )
    lake.maintain(keep_days=30)
    rows = lake.read("regime_verdict").height
    with lake.sessions.reading() as reader:
        needed = marker.needed_names(reader.connection)
    lake.close()
    first = next(path for path in parquet_files(folder) if path.name in needed)
    flip(first, 40)
    shutil.move(first, folder.parent / first.name)
    rescue(folder, datetime.now(UTC))
    # All of them: the small files that the night made one of are still there, for the copy's sake.
    assert Lake(folder).read("regime_verdict").height == rows
    Lake(folder).maintain(keep_days=30)
    assert "rows" in Lake(folder).check()


def test_each_night_notes_what_is_new_and_forgets_what_is_gone(folder: Path) -> None:
    before = set(checksums._noted(Folder(folder)))
    lake = Lake(folder)
    lake.write("regime_verdict", verdicts(0, 96, seed=1), span=span(0, 96), commit=COMMIT)
    lake.maintain(keep_days=30)
    there = {path.name for path in parquet_files(folder)}
    assert set(checksums._noted(Folder(folder))) == there != before
    assert checksums.refuse_changed(Folder(folder)) == len(there)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_notes_that_are_torn_prove_nothing_and_are_made_anew(folder: Path, content: bytes) -> None:
    (folder / checksums.NAME).write_bytes(content)
    assert checksums.refuse_changed(Folder(folder)) == 0
    Lake(folder).maintain(keep_days=30)
    assert checksums.refuse_changed(Folder(folder)) == len(parquet_files(folder)) > 0
