"""A backup restores to the bit, while others write; what is torn, changed or hostile is refused before it does harm."""

from __future__ import annotations

import io
import json
import multiprocessing as mp
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, Span
from mm_dagster.execution.journal import Journal
from mm_dagster.history.backup import Backup, BackupError, Places, beside, examine, pack, restore, stage, staged_bytes
from mm_dagster.history.lake import Commit, Lake, LakeError
from mm_dagster.history.mirror import Mirror
from mm_dagster.tables import registry
from mm_dagster_tests.execution.test_journal import selling
from mm_dagster_tests.history.samples import sample, times
from mm_dagster_tests.postgres import Postgres

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
WHOLE = Span(START, START + 96 * BAR)
PATIENCE = 60.0


def silently(_: int) -> None:
    """Nobody watches."""


def places(data: Path) -> Places:
    return Places(data, data / "dagster")


def save(data: Path, archive: Path) -> Backup:
    with beside(data, "backup") as folder:
        return pack(folder, archive, left_out=stage(places(data), folder), advance=silently)


def generation(number: int) -> Any:
    """A day over two months, in which every row says the same number."""
    return sample("regime_verdict", times(START + BAR, 96), ("ETH-USDT",)).with_columns(
        confidence=pl.lit(float(number))
    )


def fill(data: Path) -> None:
    """A little of everything that a data folder holds."""
    lake = Lake(data / "history")
    for table in ("candles", "exit_state", "notification"):
        lake.upsert(table, sample(table, times(START, 60)), commit=Commit("run", table, ""))
    mirror = Mirror(data / "mirror", None, "trunk")
    for number in range(3):
        mirror.write({"metrics/eth.yaml": f"number: {number}\n"}, f"commit {number}")
    (data / "config").mkdir()
    (data / "config" / "valid.json").write_text('{"url_env": "NAME_OF_A_VARIABLE"}')
    (data / "dagster" / "history").mkdir(parents=True)
    with sqlite3.connect(data / "dagster" / "history" / "runs.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE runs AS SELECT 'one' AS run_id")
    connection.close()
    (data / "dagster" / "one" / "compute_logs").mkdir(parents=True)
    (data / "dagster" / "one" / "compute_logs" / "x.out").write_text("said")
    (data / "pictures").mkdir()
    (data / "pictures" / "eth.png").write_text("can be drawn again")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup")
    fill(folder / "data")
    save(folder / "data", folder / "good.tar.gz")
    return folder


def commits(mirror: Path) -> str:
    return Mirror(mirror, None, "trunk")._git.log("--format=%H %s", "trunk")


@pytest.mark.slow
def test_what_is_restored_is_the_same_to_the_bit_and_goes_on(filled: Path, tmp_path: Path) -> None:
    restored, aside = restore(filled / "good.tar.gz", places(tmp_path / "new"), force=False, advance=silently)
    assert aside is None
    old, new = filled / "data", tmp_path / "new"
    there, here = Lake(old / "history"), Lake(new / "history")
    for table in registry.TABLES:
        assert_frame_equal(here.read(table), there.read(table), check_exact=True)
    assert here.snapshots().equals(there.snapshots())
    assert commits(new / "mirror") == commits(old / "mirror")
    assert (new / "mirror" / "metrics" / "eth.yaml").read_text() == "number: 2\n"
    assert (new / "config" / "valid.json").read_text() == (old / "config" / "valid.json").read_text()
    assert (new / "dagster" / "one" / "compute_logs" / "x.out").read_text() == "said"
    with sqlite3.connect(new / "dagster" / "history" / "runs.db") as connection:
        assert connection.execute("SELECT run_id FROM runs").fetchall() == [("one",)]
        # Dagster sets it once, when it makes the file.
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert not (new / "pictures").exists()
    assert sorted(path.name for path in new.iterdir()) == ["config", "dagster", "history", "mirror"]
    assert restored.files == len(_members(filled / "good.tar.gz")) - 1
    # Both sides can be written, and neither reaches into the other.
    shutil.rmtree(old / "pictures")
    here.upsert("regime_verdict", generation(1), commit=Commit("", "", ""))
    assert Mirror(new / "mirror", None, "trunk").write({"metrics/eth.yaml": "number: 3\n"}, "next")
    here.maintain(keep_days=1)
    assert there.read("regime_verdict").height == 0
    assert there.read("candles").height == 120


def _members(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def write_on(folder: Path, begun: Any, enough: Any) -> None:
    """Replaces a day over and over, with upkeep in between, until it is enough."""
    lake, number = Lake(folder), 0
    while not enough.is_set():
        commit = Commit("writer", "regime_verdict", str(WHOLE))
        lake.write("regime_verdict", generation(number), span=WHOLE, symbols=["ETH-USDT"], commit=commit)
        number += 1
        if number % 3 == 0:
            lake.maintain(keep_days=1)
        if number == 2:
            begun.set()


@pytest.mark.long
def test_a_backup_beside_a_busy_writer_holds_one_whole_commit(tmp_path: Path) -> None:
    spawn = mp.get_context("spawn")
    begun, enough = spawn.Event(), spawn.Event()
    data = tmp_path / "data"
    Lake(data / "history")
    writer = spawn.Process(target=write_on, args=(data / "history", begun, enough))
    writer.start()
    try:
        assert begun.wait(PATIENCE)
        for number in range(2):
            save(data, tmp_path / f"{number}.tar.gz")
    finally:
        enough.set()
        writer.join(PATIENCE)
    assert writer.exitcode == 0
    for number in range(2):
        new = tmp_path / f"restored-{number}"
        restore(tmp_path / f"{number}.tar.gz", places(new), force=False, advance=silently)
        assert Lake(new / "history").read("regime_verdict")["confidence"].value_counts()["count"].to_list() == [96]


def test_nothing_is_left_beside_the_archive_or_in_the_data(filled: Path) -> None:
    assert sorted(path.name for path in filled.iterdir() if path.name.endswith("gz") or "tmp" in path.name) == [
        "good.tar.gz"
    ]
    assert not [path for path in (filled / "data").iterdir() if path.name.startswith(".")]


def test_every_byte_is_told_three_times(filled: Path, tmp_path: Path) -> None:
    told: list[int] = []
    with beside(filled / "data", "backup") as folder:
        left_out = stage(places(filled / "data"), folder)
        expected = 3 * staged_bytes(folder)
        pack(folder, tmp_path / "b.tar.gz", left_out=left_out, advance=told.append)
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        assert sum(told) - expected == tar.getmember("manifest.json").size


def test_a_configuration_with_a_login_stays_out_and_it_is_said(filled: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(filled / "data" / "config", data / "config")
    (data / "config" / "login.json").write_text('{"remote": "https://me:hunter2@example.org/x.git"}')
    made = save(data, tmp_path / "b.tar.gz")
    assert made.left_out == ("config/login.json (an address in it holds a login)",)
    assert examine(tmp_path / "b.tar.gz", silently) == made
    assert "config/login.json" not in _members(tmp_path / "b.tar.gz")
    assert "config/valid.json" in _members(tmp_path / "b.tar.gz")


def test_a_folder_that_holds_something_is_refused_and_with_force_moved_aside(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "mine.json").write_text("{}")
    with pytest.raises(BackupError, match=r"config: is not empty; .*--force"):
        restore(filled / "good.tar.gz", places(tmp_path), force=False, advance=silently)
    assert [path.name for path in tmp_path.iterdir()] == ["config"]
    _, aside = restore(filled / "good.tar.gz", places(tmp_path), force=True, advance=silently)
    assert aside is not None
    assert (aside / "config" / "mine.json").read_text() == "{}"
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["valid.json"]


def refused(archive: Path, target: Path) -> str:
    """What is said of an archive; nothing may come of it, even with force."""
    target.mkdir()
    (target / "config").mkdir()
    (target / "config" / "mine.json").write_text("{}")
    before = sorted(path.as_posix() for path in target.parent.rglob("*"))
    with pytest.raises(BackupError) as refusal:
        restore(archive, places(target), force=True, advance=silently)
    assert sorted(path.as_posix() for path in target.parent.rglob("*")) == before
    said = str(refusal.value)
    assert "\n" not in said
    assert said.startswith(str(archive))
    return said


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_torn_archive_is_refused(filled: Path, tmp_path: Path, share: float) -> None:
    whole = (filled / "good.tar.gz").read_bytes()
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(whole[: int(len(whole) * share)])
    assert "torn" in refused(torn, tmp_path / "data") or "missing" in refused(torn, tmp_path / "again")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_an_archive_in_which_a_bit_has_turned_is_refused(filled: Path, tmp_path: Path, share: float) -> None:
    content = bytearray((filled / "good.tar.gz").read_bytes())
    content[int(len(content) * share)] ^= 0x10
    turned = tmp_path / "turned.tar.gz"
    turned.write_bytes(content)
    refused(turned, tmp_path / "data")


def repacked(filled: Path, path: Path, change: Callable[[tarfile.TarInfo], tarfile.TarInfo], name: str) -> Path:
    """The good archive with one entry changed, in the manifest too, as one who knows the format would."""
    with tarfile.open(filled / "good.tar.gz") as old, tarfile.open(path, "w:gz") as new:
        manifest = json.loads(old.extractfile("manifest.json").read())  # type: ignore[union-attr]
        for file in manifest["files"]:
            if file["name"] == "config/valid.json":
                file["name"] = name
        content = json.dumps(manifest).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(content)
        new.addfile(entry, io.BytesIO(content))
        for entry in old.getmembers()[1:]:
            content = old.extractfile(entry).read()  # type: ignore[union-attr]
            if entry.name == "config/valid.json":
                entry = change(entry)
                content = content if entry.isreg() else b""
            new.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../outside", tarfile.REGTYPE, ""),
        ("config/../../outside", tarfile.REGTYPE, ""),
        ("/tmp/outside", tarfile.REGTYPE, ""),
        ("config\\..\\outside", tarfile.REGTYPE, ""),
        ("pipeline.lock", tarfile.REGTYPE, ""),
        ("elsewhere/file", tarfile.REGTYPE, ""),
        ("config/./valid.json", tarfile.REGTYPE, ""),
        ("config/valid.json", tarfile.SYMTYPE, "/etc/passwd"),
        ("config/valid.json", tarfile.LNKTYPE, "history/catalog.sqlite"),
        ("config/valid.json", tarfile.FIFOTYPE, ""),
        ("config/valid.json", tarfile.CHRTYPE, ""),
        ("config/valid.json", tarfile.DIRTYPE, ""),
    ],
)
def test_a_hostile_archive_is_refused(filled: Path, tmp_path: Path, name: str, kind: bytes, target: str) -> None:
    def change(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.name, entry.type, entry.linkname = name, kind, target
        entry.size = entry.size if entry.isreg() else 0
        return entry

    said = refused(repacked(filled, tmp_path / "hostile.tar.gz", change, name), tmp_path / "data")
    assert "which no backup does" in said


def test_what_is_no_backup_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"nowhere\.tar\.gz: is not there; give the file"):
        restore(tmp_path / "nowhere.tar.gz", places(tmp_path / "data"), force=False, advance=silently)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(BackupError, match="torn or no backup"):
        examine(tmp_path / "text", silently)
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "text", "manifest.json")
    with pytest.raises(BackupError, match="manifest cannot be read"):
        examine(tmp_path / "other.tar.gz", silently)


def test_a_newer_format_is_refused_with_the_remedy(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_dagster.history.backup.FORMAT", 0)
    with pytest.raises(BackupError, match="has format 1, this program knows 0; update mm_dagster"):
        examine(filled / "good.tar.gz", silently)


def test_a_lake_whose_catalogue_is_in_a_server_names_the_remedy(tmp_path: Path, postgres: Postgres) -> None:
    with pytest.raises(LakeError, match="save that with pg_dump"):
        Lake(tmp_path / "history", postgres.database()).copy_to(tmp_path / "copy")


def test_a_restored_plan_to_leave_a_grid_waits_for_a_person(tmp_path: Path) -> None:
    data = tmp_path / "data"
    fill(data)
    selling(data)
    save(data, tmp_path / "mm.tar.gz")
    assert Journal(data).kept("abcdefgh").plan.state == "SELLING"
    restore(tmp_path / "mm.tar.gz", places(tmp_path / "fresh"), force=False, advance=silently)
    found = Journal(tmp_path / "fresh").kept("abcdefgh")
    assert found.plan.state == "HALTED"
    assert found.plan.terms == Journal(data).kept("abcdefgh").plan.terms
    restore(tmp_path / "mm.tar.gz", places(data), force=True, advance=silently)
    assert Journal(data).kept("abcdefgh").plan.state == "HALTED"
