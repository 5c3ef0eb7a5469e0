"""A lake that has lost its catalogue is refused by everybody, begun anew by nobody, and rescued from what is left."""

from __future__ import annotations

import multiprocessing as mp
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.history import copies, marker, upkeep
from mm_dagster.history.lake import Lake, LakeError
from mm_dagster.history.places import Folder
from mm_dagster.history.rescue import rescue
from mm_dagster_tests.history.test_lake import COMMIT, FULL, span, verdicts

NOW = datetime(2026, 7, 1, 3, 8, tzinfo=UTC)
PATIENCE = 120.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake after one night, with a day more in files that its copy does not know, and three rows in none."""
    folder = tmp_path_factory.mktemp("whole") / "history"
    lake = Lake(folder)
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    lake.upsert("exit_state", FULL["exit_state"], commit=COMMIT)
    lake.maintain(keep_days=30)
    lake.write("regime_verdict", verdicts(0, 96, seed=1), span=span(0, 96), commit=COMMIT)
    lake.write("regime_verdict", verdicts(96, 60), span=span(96, 60), commit=COMMIT)
    lake.write("regime_verdict", verdicts(200, 3), span=span(200, 3), commit=COMMIT)
    lake.close()
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(whole, tmp_path / "history")
    return tmp_path / "history"


def _other(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE a (b)")


def _of_another_lake(path: Path) -> None:
    other = Lake(path.parent.parent / "other")
    other.upsert("regime_verdict", verdicts(0, 3), commit=COMMIT)
    other.close()
    shutil.copy(path.parent.parent / "other" / path.name, path)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[16:4000] = bytes(byte ^ 255 for byte in content[16:4000])
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "flipped": _flip,
    "no SQLite": lambda path: path.write_text("hello " * 1000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "SQLite of somebody else": _other,
    "of another lake": _of_another_lake,
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


def _damage(folder: Path, how: str) -> None:
    for suffix in ("-wal", "-shm"):
        (folder / f"catalog.sqlite{suffix}").unlink(missing_ok=True)
    DAMAGES[how](folder / "catalog.sqlite")


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
def test_a_lost_catalogue_is_refused_in_one_line_and_nothing_is_touched(folder: Path, how: str) -> None:
    _damage(folder, how)
    before = _files(folder)
    for _ in range(2):
        with pytest.raises(LakeError, match=r"nothing is begun anew: .*`mm restore`.*`mm history rescue`") as raised:
            Lake(folder)
        assert "\n" not in str(raised.value)
    assert _files(folder) == before


@pytest.mark.parametrize("left", ["marker", "files", "copies"])
def test_each_trace_of_a_lake_alone_suffices(folder: Path, left: str) -> None:
    (folder / "catalog.sqlite").unlink()
    for suffix in ("-wal", "-shm"):
        (folder / f"catalog.sqlite{suffix}").unlink(missing_ok=True)
    if left != "marker":
        (folder / marker.NAME).unlink()
    for name in {"files", "copies"} - {left}:
        shutil.rmtree(folder / name)
    with pytest.raises(LakeError, match="nothing is begun anew"):
        Lake(folder)


def test_a_lake_that_was_open_when_its_catalogue_went_is_refused_too(folder: Path) -> None:
    lake = Lake(folder)
    lake.upsert("regime_verdict", verdicts(300, 1), commit=COMMIT)
    before = _files(folder)
    _damage(folder, "gone")
    for work in (
        lambda: lake.read("tick"),
        lambda: lake.upsert("regime_verdict", verdicts(301, 1), commit=COMMIT),
        lambda: lake.maintain(keep_days=1),
        lake.check,
    ):
        with pytest.raises(LakeError, match="nothing is begun anew"):
            work()
    assert _files(folder) == before
    assert not (folder / "catalog.sqlite").exists()


def test_a_lake_of_an_older_program_gains_its_marker_and_a_torn_one_is_written_anew(folder: Path) -> None:
    (folder / marker.NAME).unlink()
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute(f"DELETE FROM ducklake_metadata WHERE key = '{marker.KEY}'")
    assert Lake(folder).read("regime_verdict").height == 159
    said = marker.read(Folder(folder))
    assert said is not None
    assert said.id
    (folder / marker.NAME).write_text("{")
    assert Lake(folder).read("regime_verdict").height == 159
    assert marker.read(Folder(folder)) == said


@pytest.mark.parametrize(
    "copied", [pytest.param(True, marks=pytest.mark.long), False], ids=["with a copy", "from the files alone"]
)
def test_a_rescue_brings_back_what_the_files_prove_and_says_what_they_do_not(folder: Path, copied: bool) -> None:
    if not copied:
        shutil.rmtree(folder / "copies")
    _damage(folder, "gone")
    before = _files(folder)
    done = rescue(folder, NOW)
    lake = Lake(folder)
    expected = pl.concat([verdicts(0, 96, seed=1), verdicts(96, 60)]).sort("symbol", "as_of")
    assert_frame_equal(lake.read("regime_verdict"), expected)
    assert_frame_equal(lake.read("exit_state"), FULL["exit_state"])
    assert (done.base is not None) == copied
    assert done.contested == ({} if copied else {"regime_verdict": 96})
    assert any("small commits" in line for line in done.said)
    assert before.items() <= _files(folder).items()
    assert (done.aside / "files").is_dir()
    with pytest.raises(LakeError, match="nothing to rescue"):
        rescue(folder, NOW)
    lake.maintain(keep_days=30)
    assert_frame_equal(lake.read("regime_verdict"), expected)


@pytest.mark.slow
def test_an_unreadable_file_is_named_and_the_others_come_back(folder: Path) -> None:
    shutil.rmtree(folder / "copies")
    _damage(folder, "gone")
    victim = max((folder / "files" / "main" / "exit_state").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-100])
    done = rescue(folder, NOW)
    assert any(victim.name in line for line in done.said)
    assert Lake(folder).read("regime_verdict").height == 156


@pytest.mark.slow
def test_files_that_went_are_forgotten_by_name_and_the_catalogue_kept(folder: Path) -> None:
    victim = next((folder / "files" / "main" / "exit_state").rglob("*.parquet"))
    victim.unlink()
    with pytest.raises(LakeError, match=rf"files of it are gone, first {victim.name}"):
        Lake(folder).check()
    done = rescue(folder, NOW)
    assert any(victim.name in line for line in done.said)
    lake = Lake(folder)
    assert lake.read("regime_verdict").height == 159
    assert lake.read("exit_state").height < FULL["exit_state"].height


# nights ---------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_an_orphan_waits_seven_nights_in_the_trash_whatever_the_clock_says_and_can_be_put_back(folder: Path) -> None:
    lake = Lake(folder)
    stored = next((folder / "files").rglob("*.parquet"))
    orphan = stored.with_name("ducklake-orphan.parquet")
    shutil.copy(stored, orphan)
    assert "1 files that no snapshot knows" in lake.check()
    assert lake.maintain(keep_days=30)["orphans"] == 1
    [thrown] = upkeep.in_the_trash(Folder(folder))
    assert upkeep.home(thrown) == orphan.relative_to(folder).as_posix()
    assert upkeep.put_back(Folder(folder), {orphan.name}) == 1
    assert orphan.is_file()
    lake.maintain(keep_days=30)
    far = datetime.now(UTC) + timedelta(days=400)
    for _ in range(9):
        upkeep._empty_the_trash(Folder(folder), far)
    assert upkeep.in_the_trash(Folder(folder))
    for night in range(upkeep.NIGHTS - 1):
        upkeep._empty_the_trash(Folder(folder), far + timedelta(days=night + 1))
    assert not upkeep.in_the_trash(Folder(folder))


def test_files_that_the_catalogue_knows_come_home_from_the_trash(folder: Path) -> None:
    lake = Lake(folder)
    expected = lake.read("exit_state")
    for path in (folder / "files" / "main" / "exit_state").rglob("*.parquet"):
        place = folder / upkeep.TRASH / "2026-06-30" / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    with pytest.raises(LakeError, match="maintenance"):
        lake.check()
    upkeep.put_back(Folder(folder), upkeep.marker.needed_names(lake.sessions._reader.connection))  # type: ignore[union-attr]
    assert_frame_equal(lake.read("exit_state"), expected)


@pytest.mark.long
def test_a_copy_a_day_seven_kept_and_each_is_a_whole_lake(folder: Path, tmp_path: Path) -> None:
    lake = Lake(folder)
    oldest = copies.kept(folder)[0]
    for night in range(3):
        lake.write("regime_verdict", verdicts(0, 96, seed=5 + night), span=span(0, 96), commit=COMMIT)
        with lake.sessions.writing() as connection:
            upkeep.tidy(connection, datetime.now(UTC) + timedelta(hours=1))
            upkeep.clear(
                folder, Folder(folder), lake.sessions.catalog, connection, NOW + timedelta(days=night), quiet=True
            )
    assert [copy.number for copy in copies.kept(folder)] == [1, 2, 3, 4]
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    for suffix in ("-wal", "-shm"):
        (old / f"catalog.sqlite{suffix}").unlink(missing_ok=True)
    shutil.copy(oldest.path, old / "catalog.sqlite")
    assert_frame_equal(Lake(old).read("regime_verdict"), verdicts(0, 96))
    for night in range(3, 9):
        copies.make(folder, Folder(folder), lake.sessions.catalog, NOW + timedelta(days=night))  # type: ignore[arg-type]
    assert [copy.number for copy in copies.kept(folder)] == [4, 5, 6, 7, 8, 9, 10]
    assert "7 of 7 copies" in lake.check_copies()


def test_a_bad_copy_takes_no_good_one_s_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(folder)
    before = {copy.path.name: copy.path.read_bytes() for copy in copies.kept(folder)}
    copy = copies.sqlite_files.copy

    def torn(pairs: list[tuple[Path, Path]]) -> None:
        copy(pairs)
        _flip(pairs[0][1])

    monkeypatch.setattr("mm_dagster.history.copies.sqlite_files.copy", torn)
    with pytest.raises(LakeError, match="catalog-"):
        copies.make(folder, Folder(folder), lake.sessions.catalog, datetime.now(UTC))  # type: ignore[arg-type]
    assert {one.path.name: one.path.read_bytes() for one in copies.kept(folder)} == before


def test_a_damaged_catalogue_ends_the_upkeep_before_it_begins(folder: Path) -> None:
    lake = Lake(folder)
    before = _files(folder)
    path = folder / "catalog.sqlite"
    content = bytearray(path.read_bytes())
    half = len(content) // 2 // 4096 * 4096
    content[half : half + 8192] = b"\x5a" * 8192
    lake.close()
    for suffix in ("-wal", "-shm"):
        (folder / f"catalog.sqlite{suffix}").unlink(missing_ok=True)
    path.write_bytes(content)
    with pytest.raises(LakeError, match="mm restore"):
        Lake(folder).maintain(keep_days=0)
    assert _files(folder) == before


# kills ----------------------------------------------------------------------------------------------------------------


def _rescued(folder: Path, begun: object) -> None:
    begun.set()  # type: ignore[attr-defined]
    rescue(folder, NOW)


@pytest.mark.long
@pytest.mark.parametrize("after", [0.05, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0])
def test_a_rescue_killed_at_any_moment_is_done_by_the_next_one(folder: Path, after: float) -> None:
    _damage(folder, "gone")
    before = _files(folder)
    spawn = mp.get_context("spawn")
    begun = spawn.Event()
    process = spawn.Process(target=_rescued, args=(folder, begun))
    process.start()
    assert begun.wait(PATIENCE)
    process.join(after)
    process.kill()
    process.join(PATIENCE)
    if not (folder / "catalog.sqlite").exists() or (folder / "rescue-work" / "ready").exists():
        rescue(folder, NOW)
    assert Lake(folder).read("regime_verdict").height == 156
    assert before.items() <= _files(folder).items()


def _kept_tidy(folder: Path, begun: object) -> None:
    lake = Lake(folder)
    begun.set()  # type: ignore[attr-defined]
    while True:
        lake.maintain(keep_days=30)


@pytest.mark.long
@pytest.mark.parametrize("after", [0.02, 0.1, 0.2, 0.4, 0.7, 1.1])
def test_an_upkeep_killed_at_any_moment_loses_nothing(folder: Path, after: float) -> None:
    expected = Lake(folder).read("regime_verdict")
    spawn = mp.get_context("spawn")
    begun = spawn.Event()
    process = spawn.Process(target=_kept_tidy, args=(folder, begun))
    process.start()
    assert begun.wait(PATIENCE)
    process.join(after)
    process.kill()
    process.join(PATIENCE)
    lake = Lake(folder)
    assert_frame_equal(lake.read("regime_verdict"), expected)
    lake.maintain(keep_days=30)
    assert_frame_equal(lake.read("regime_verdict"), expected)
    assert "copies of the catalogue" in lake.check_copies()
