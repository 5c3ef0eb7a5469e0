"""The lake with its files in object storage: all that it does in a folder, and what only a storage can do to it."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.history import backup as backups
from mm_dagster.history import checksums, connection, copies, marker, transfer, upkeep
from mm_dagster.history.lake import Lake, LakeError, Written
from mm_dagster.history.places import Bucket, Folder
from mm_dagster.history.rescue import forget_lost, rescue
from mm_dagster_tests.history import s3
from mm_dagster_tests.history.test_lake import COMMIT, FULL, span, verdicts
from mm_dagster_tests.postgres import Postgres

pytest.importorskip("moto", reason="moto is not installed; it is in the extra dev")
pytest.importorskip("duckdb_extension_httpfs", reason="httpfs is not installed; it is in the extra s3")

NOW = datetime(2026, 7, 1, tzinfo=UTC)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def storage() -> Iterator[s3.Storage]:
    with s3.running() as running:
        yield running


@pytest.fixture
def place(storage: s3.Storage) -> Iterator[Bucket]:
    """A prefix of its own, with patience for tests."""
    storage.proxy.heal()
    yield bucket(storage, f"test/{next(_numbers)}")
    storage.proxy.heal()


def bucket(storage: s3.Storage, prefix: str, who: str = "writer", *, name: str = s3.BUCKET, retries: int = 3) -> Bucket:
    key, secret = storage.keys[who]
    return Bucket(
        f"s3://{name}/{prefix}", key, secret, endpoint=storage.proxy.endpoint, region=s3.REGION, retries=retries,
        wait=0.05, timeout=2,
    )  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path, place: Bucket) -> Iterator[Lake]:
    lake = Lake(tmp_path / "history", place=place)
    yield lake
    lake.close()


def names(place: Bucket, below: str = "files") -> set[str]:
    return {file.name for file in place.files(below)}


@pytest.mark.long
def test_rows_come_back_to_the_bit_after_upkeep_and_of_another_time(lake: Lake, place: Bucket) -> None:
    for table in ("candles", "exit_state", "notification"):
        lake.upsert(table, FULL[table].sample(fraction=1, shuffle=True, seed=1), commit=COMMIT)
        assert_frame_equal(lake.read(table), FULL[table], check_exact=True)
    before = datetime.now(UTC)
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    lake.write("regime_verdict", verdicts(0, 96, seed=1), span=span(0, 96), commit=COMMIT)
    assert lake.write("regime_verdict", verdicts(0, 96, seed=1), span=span(0, 96), commit=COMMIT) == Written(0, 0, 96)
    lake.maintain(keep_days=30)
    assert_frame_equal(lake.read("regime_verdict"), verdicts(0, 96, seed=1), check_exact=True)
    [then] = pl.concat(lake.stream("SELECT count(*) AS rows FROM regime_verdict", at=before))["rows"]
    assert then == 0
    assert place.path in lake.check()
    assert "1 of 7 copies" in lake.check_copies()
    assert f"copies/{copies.kept(lake.sessions.folder)[0].path.name}" in names(place, "copies")
    assert lake.size()["bytes"] > sum(file.size for file in place.files("")) > 10_000
    assert not list((lake.sessions.folder / "files").rglob("*"))


@pytest.mark.slow
def test_a_lost_upload_is_never_committed(lake: Lake, storage: s3.Storage, place: Bucket) -> None:
    first = verdicts(0, 160)
    lake.write("regime_verdict", first, span=span(0, 160), commit=COMMIT)
    storage.proxy.harm = lambda asked: "lost" if asked.uploads else None
    for rows, bars in ((verdicts(160, 96), span(160, 96)), (first.head(60), span(0, 160))):
        # New rows lose their file; a deletion loses the file that names the rows.
        with pytest.raises(LakeError, match="reading them back failed"):
            lake.write("regime_verdict", rows, span=bars, commit=COMMIT)
    assert storage.proxy.done["lost"] >= 2
    storage.proxy.heal()
    assert_frame_equal(lake.read("regime_verdict"), first, check_exact=True)
    assert lake.write("regime_verdict", verdicts(160, 96), span=span(160, 96), commit=COMMIT).inserted == 96
    assert lake.read("regime_verdict").height == 256


@pytest.mark.long
def test_the_upkeep_commits_no_lost_upload_either(lake: Lake, storage: s3.Storage) -> None:
    for number in range(3):
        lake.write("regime_verdict", verdicts(number * 60, 60), span=span(number * 60, 60), commit=COMMIT)
    lake.write("regime_verdict", verdicts(180, 1), span=span(180, 1), commit=COMMIT)  # stays in the catalogue
    expected = lake.read("regime_verdict")
    for step in range(2):
        seen = itertools.count()
        storage.proxy.harm = lambda asked: "lost" if asked.uploads and next(seen) == step else None  # noqa: B023
        with pytest.raises(LakeError, match="read"):
            lake.maintain(keep_days=30)
        storage.proxy.heal()
        assert_frame_equal(lake.read("regime_verdict"), expected, check_exact=True)
    lake.maintain(keep_days=30)
    assert_frame_equal(lake.read("regime_verdict"), expected, check_exact=True)
    assert "files of it are gone" not in lake.check()


def test_nothing_outside_of_the_lake_is_ever_asked_for(lake: Lake, storage: s3.Storage, place: Bucket) -> None:
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    lake.close()
    elsewhere = f"s3://other-{s3.BUCKET}/x/ducklake-1.parquet"
    with sqlite3.connect(lake.sessions.folder / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE ducklake_data_file SET path = ?, path_is_relative = 0", [elsewhere])
    catalog.close()
    lake.stamp()
    storage.proxy.asked.clear()
    with pytest.raises(LakeError, match="outside of it, which is not asked for"):
        lake.read("regime_verdict")
    with pytest.raises(LakeError, match="outside of it, which is not asked for"):
        lake.sql("FROM regime_verdict")
    with pytest.raises(LakeError, match="not asked for"), lake.sessions.writing() as writer:
        writer.execute("SELECT sum(confidence) FROM regime_verdict").fetchall()
    assert not [asked for asked in storage.proxy.asked if "other" in asked.path or ".parquet" in asked.path]
    for query in (f"FROM read_parquet('{elsewhere}')", f"FROM '{elsewhere}'", f"FROM glob('{place.url()}/**')"):
        with pytest.raises(LakeError):
            lake.sql(query)
    assert not [asked for asked in storage.proxy.asked if "other" in asked.path or "list-type" in asked.path]


def test_a_key_is_in_no_catalogue_no_error_and_no_answer(lake: Lake, storage: s3.Storage, place: Bucket) -> None:
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    assert place.key_secret not in repr(place)
    with lake.sessions.reading() as reader:
        said = (
            reader.execute("SELECT * FROM duckdb_secrets()").fetchall(),
            reader.execute("FROM duckdb_databases()").pl(),
        )
    assert place.key_secret not in str(said)
    assert place.key_secret.encode() not in (lake.sessions.folder / "catalog.sqlite").read_bytes()
    with pytest.raises(LakeError):
        lake.sql("FROM duckdb_secrets()")


@pytest.mark.long
@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("ExpiredToken", "the key has expired"),
        ("RequestTimeTooSkewed", "this computer's clock"),
        ("InvalidAccessKeyId", "does not know the key"),
        ("SignatureDoesNotMatch", "does not belong to the key"),
        ("NoSuchBucket", "no such bucket"),
        ("AccessDenied", "the key may not do this"),
        ("503", "fewer requests"),
        ("500", "the storage failed"),
        ("reset", "cannot be reached, or breaks off"),
    ],
)
def test_what_a_storage_says_becomes_one_line_with_the_remedy(
    lake: Lake, storage: s3.Storage, tmp_path: Path, word: str, told: str
) -> None:
    """At three doors: DuckDB reads, DuckDB writes, and our own client opens a lake."""
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    place = lake.sessions.place
    storage.proxy.harm = lambda asked: word
    doors: list[Callable[[], object]] = [
        lambda: lake.read("regime_verdict"),
        lambda: lake.sql("FROM regime_verdict"),
        lambda: lake.write("regime_verdict", verdicts(96, 96), span=span(96, 96), commit=COMMIT),
        lambda: Lake(tmp_path / "history", place=place),
        lambda: lake.check(),
    ]
    for door in doors:
        with pytest.raises(LakeError, match=told) as caught:
            door()
        assert "\n" not in str(caught.value)
        assert str(place) in str(caught.value)
    storage.proxy.heal()
    assert lake.read("regime_verdict").height == 96


@pytest.mark.long
def test_a_wrong_secret_a_key_that_only_reads_and_no_server_are_told_apart(
    lake: Lake, storage: s3.Storage, place: Bucket, tmp_path: Path
) -> None:
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    lake.close()
    folder = tmp_path / "history"
    wrong = Bucket(**{**place.__dict__, "key_secret": "x" * 40})
    with pytest.raises(LakeError, match="secret does not belong to the key"):
        Lake(folder, place=wrong)
    nowhere = Bucket(**{**place.__dict__, "endpoint": "http://127.0.0.1:1", "retries": 0})
    with pytest.raises(LakeError, match="cannot be reached"):
        Lake(folder, place=nowhere)
    reads = Lake(folder, place=bucket(storage, place.path.removeprefix(f"s3://{s3.BUCKET}/"), "reader"))
    assert reads.read("regime_verdict").height == 96
    with pytest.raises(LakeError, match="may not do this"):
        reads.write("regime_verdict", verdicts(96, 96), span=span(96, 96), commit=COMMIT)


def test_a_place_of_another_lake_and_one_that_lost_its_catalogue_are_refused(
    lake: Lake, place: Bucket, tmp_path: Path
) -> None:
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    before = names(place, "")
    with pytest.raises(LakeError, match=r"lake\.json.*catalog\.sqlite is gone; nothing is begun anew"):
        Lake(tmp_path / "elsewhere", place=place)
    Lake(tmp_path / "other").close()
    with pytest.raises(LakeError, match="the catalogue is that of another lake"):
        Lake(tmp_path / "other", place=place)
    assert names(place, "") == before


def test_a_catalogue_whose_files_are_elsewhere_is_refused(tmp_path: Path, place: Bucket) -> None:
    local = Lake(tmp_path / "history")
    local.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    local.close()
    with pytest.raises(LakeError, match=r"none of the 2 files that the catalogue knows.*mm history copy"):
        Lake(tmp_path / "history", place=place)
    assert not place.files("")


@pytest.mark.long
def test_a_lost_file_is_named_and_rescued_from(lake: Lake, place: Bucket, storage: s3.Storage) -> None:
    lake.upsert("candles", FULL["candles"], commit=COMMIT)
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    kept = lake.read("candles")
    lost = sorted(name for name in names(place) if "regime_verdict" in name)[0]
    place.delete([lost])
    with pytest.raises(LakeError, match=lost.split("/")[-1]):
        lake.check()
    with pytest.raises(LakeError, match="mm history rescue"):
        lake.read("regime_verdict")
    lake.close()
    storage.proxy.harm = lambda asked: "503"
    with pytest.raises(LakeError, match="fewer requests"):
        rescue(lake.sessions.folder, NOW, place)
    storage.proxy.heal()
    done = rescue(lake.sessions.folder, NOW, place)
    assert done.base == "catalog.sqlite"
    assert any(lost.split("/")[-1] in line for line in done.said)
    again = Lake(lake.sessions.folder, place=place)
    assert_frame_equal(again.read("candles"), kept, check_exact=True)
    assert again.read("regime_verdict").height < 96
    again.check()
    with pytest.raises(LakeError, match="nothing to rescue"):
        rescue(lake.sessions.folder, NOW, place)


@pytest.mark.long
@pytest.mark.parametrize("with_copy", [True, False])
def test_a_lost_computer_is_rebuilt_from_the_bucket_alone(lake: Lake, place: Bucket, with_copy: bool) -> None:
    lake.upsert("candles", FULL["candles"], commit=COMMIT)
    lake.maintain(keep_days=30)
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    expected = {table: lake.read(table) for table in ("candles", "regime_verdict")}
    lake.close()
    shutil.rmtree(lake.sessions.folder)
    if not with_copy:
        place.delete(names(place, "copies"))
    done = rescue(lake.sessions.folder, NOW, place)
    assert (done.base is not None) == with_copy
    again = Lake(lake.sessions.folder, place=place)
    for table, rows in expected.items():
        assert_frame_equal(again.read(table), rows, check_exact=True)
    again.maintain(keep_days=30)
    assert "no snapshot knows" not in again.check()
    assert names(place, done.aside.name)  # what was taken apart is kept


@pytest.mark.long
def test_an_orphan_goes_to_the_trash_and_comes_home(lake: Lake, place: Bucket) -> None:
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    lake.maintain(keep_days=30)
    stored = next(file for file in marker.parquet_files(place) if "regime_verdict" in file.name)
    orphan = stored.name.replace(stored.base, "ducklake-orphan.parquet")
    place.write(orphan, place.read(stored.name) or b"")
    assert "1 files that no snapshot knows" in lake.check()
    assert lake.maintain(keep_days=30)["orphans"] == 1
    [thrown] = upkeep.in_the_trash(place)
    assert upkeep.home(thrown) == orphan
    assert upkeep.put_back(place, {"ducklake-orphan.parquet"}) == 1
    assert orphan in names(place)
    place.move(orphan, thrown.name)
    for night in range(upkeep.NIGHTS):
        assert upkeep.in_the_trash(place)
        upkeep._empty_the_trash(place, datetime.now(UTC) + timedelta(days=night + 1))
    assert not upkeep.in_the_trash(place)


def test_a_file_is_never_without_a_name(place: Bucket, storage: s3.Storage) -> None:
    place.write("files/a.parquet", b"content")
    storage.proxy.harm = lambda asked: "lost" if asked.method == "PUT" else None
    with pytest.raises(LakeError, match="it is not there"):
        place.move("files/a.parquet", "trash/a.parquet")
    with pytest.raises(LakeError, match="it is not there"):
        place.write("files/b.parquet", b"content")
    storage.proxy.heal()
    assert place.read("files/a.parquet") == b"content"
    place.move("files/none.parquet", "trash/none.parquet")
    assert names(place, "") == {"files/a.parquet"}


@pytest.mark.long
def test_an_object_that_somebody_wrote_again_is_named(lake: Lake, place: Bucket) -> None:
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    lake.maintain(keep_days=30)
    stored = next(file for file in marker.parquet_files(place) if "regime_verdict" in file.name)
    content = bytearray(place.read(stored.name) or b"")
    content[len(content) // 2] ^= 1
    place.write(stored.name, bytes(content) + b"x")
    with pytest.raises(LakeError, match=stored.base):
        checksums.refuse_changed(place)
    with pytest.raises(LakeError, match=stored.base):
        lake.maintain(keep_days=30)


def test_without_its_package_the_remedy_is_named(
    place: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = connection.extension_path
    monkeypatch.setattr(connection, "extension_path", lambda name: None if name == "httpfs" else found(name))
    with pytest.raises(LakeError, match=r"needs the package duckdb-extension-httpfs.*install mm-dagster\[s3\]"):
        Lake(tmp_path / "history", place=place)


@pytest.mark.long
def test_a_copy_goes_to_the_bucket_and_back_and_is_never_taken_for_whole_before(
    tmp_path: Path, place: Bucket, storage: s3.Storage
) -> None:
    source = Lake(tmp_path / "history")
    for table in ("candles", "exit_state", "notification", "grid_episode"):
        source.upsert(table, FULL[table], commit=COMMIT)
    storage.proxy.harm = lambda asked: (
        "AccessDenied" if asked.method == "PUT" and "/notification/" in asked.path else None
    )
    made = transfer.target(tmp_path / "s3", None, place, source)
    with pytest.raises(LakeError, match="may not do this"):
        transfer.copy(source, made, _quiet(), lambda _: None)
    storage.proxy.heal()
    made.close()
    with pytest.raises(LakeError, match="is half a copy"):
        Lake(tmp_path / "s3", place=place)
    made = transfer.target(tmp_path / "s3", None, place, source)
    copied = {one.table: one for one in transfer.copy(source, made, _quiet(), lambda _: None)}
    assert copied["candles"].written == 0  # it was there already
    assert copied["notification"].written == copied["notification"].rows == FULL["notification"].height
    there = Lake(tmp_path / "s3", place=place)
    back = transfer.target(tmp_path / "back", None, None, there)
    again = {one.table: one for one in transfer.copy(there, back, _quiet(), lambda _: None)}
    for table in ("candles", "exit_state", "notification", "grid_episode"):
        assert_frame_equal(Lake(tmp_path / "back").read(table), FULL[table], check_exact=True)
        assert again[table].digest == copied[table].digest
    with pytest.raises(LakeError, match="holds another lake"):
        transfer.target(tmp_path / "s3", None, place, back)
    with pytest.raises(LakeError, match="is the lake itself"):
        transfer.target(tmp_path / "s3", None, place, there)


@pytest.mark.long
def test_a_server_may_keep_the_catalogue(
    postgres: Postgres, place: Bucket, storage: s3.Storage, tmp_path: Path
) -> None:
    address = postgres.database()
    lake = Lake(tmp_path / "history", address, place)
    lake.upsert("candles", FULL["candles"], commit=COMMIT)
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    storage.proxy.harm = lambda asked: "lost" if asked.uploads else None
    with pytest.raises(LakeError, match="reading them back failed"):
        lake.write("regime_verdict", verdicts(96, 96), span=span(96, 96), commit=COMMIT)
    storage.proxy.heal()
    lake.maintain(keep_days=30)
    assert_frame_equal(Lake(tmp_path / "another host", address, place).read("candles"), FULL["candles"])
    assert lake.read("regime_verdict").height == 96
    with pytest.raises(LakeError, match="there is nothing to rescue"):
        forget_lost(lake)
    lost = next(name for name in sorted(names(place)) if "regime_verdict" in name)
    place.delete([lost])
    with pytest.raises(LakeError, match="mm history rescue"):
        Lake(tmp_path / "history", address, place).read("regime_verdict")
    assert any(lost.split("/")[-1] in line for line in forget_lost(lake).said)
    assert lake.read("regime_verdict").height < 96
    assert_frame_equal(lake.read("candles"), FULL["candles"], check_exact=True)
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    assert_frame_equal(lake.read("regime_verdict"), verdicts(0, 96), check_exact=True)
    assert "gone" not in lake.check()


@pytest.mark.long
def test_a_copy_goes_to_another_catalogue(postgres: Postgres, tmp_path: Path) -> None:
    source = Lake(tmp_path / "history")
    source.upsert("candles", FULL["candles"], commit=COMMIT)
    address = postgres.database()
    made = transfer.target(tmp_path / "copy", address, None, source)
    transfer.copy(source, made, _quiet(), lambda _: None)
    assert_frame_equal(Lake(tmp_path / "copy", address).read("candles"), FULL["candles"], check_exact=True)


class _quiet:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.long
def test_a_backup_of_a_bucket_is_whole_and_goes_back_to_it(lake: Lake, place: Bucket, tmp_path: Path) -> None:
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    lake.write("regime_verdict", verdicts(96, 1), span=span(96, 1), commit=COMMIT)
    expected = lake.read("regime_verdict")
    lake.close()
    places = backups.Places(tmp_path, tmp_path / "dagster", place)
    archive = tmp_path / "b.tar.gz"
    with backups.beside(tmp_path, "backup") as folder:
        backups.pack(folder, archive, left_out=backups.stage(places, folder), advance=lambda _: None)
    local = backups.Places(tmp_path / "local", tmp_path / "local" / "dagster")
    backups.restore(archive, local, force=False, advance=lambda _: None)
    assert_frame_equal(Lake(tmp_path / "local" / "history").read("regime_verdict"), expected, check_exact=True)
    with pytest.raises(backups.BackupError, match="is not empty"):
        backups.restore(archive, places, force=False, advance=lambda _: None)
    old = names(place)
    place.delete(sorted(old)[:1])
    _, aside = backups.restore(archive, places, force=True, advance=lambda _: None)
    assert aside is not None
    assert names(place) == old
    assert len(names(place, aside.name)) == len(old)  # the marker, and all but the one that was lost
    again = Lake(tmp_path / "history", place=place)
    assert_frame_equal(again.read("regime_verdict"), expected, check_exact=True)
    assert not list((tmp_path / "history" / "files").rglob("*"))


@pytest.mark.long
def test_seldom_harm_loses_and_doubles_nothing(lake: Lake, storage: s3.Storage) -> None:
    """Some of what `python -m benchmarks.scale.s3 --faults 100` does."""
    stored: dict[int, pl.DataFrame] = {}
    storage.proxy.harm = s3.seldom(0.1, 3, ("503", "500", "reset", "reset after", "torn", "lost"))
    for number in range(8):
        rows = verdicts(number * 60, 60)
        try:
            lake.write("regime_verdict", rows, span=span(number * 60, 60), commit=COMMIT)
        except LakeError:
            continue
        stored[number] = rows
    done = sum(storage.proxy.done.values())
    storage.proxy.heal()
    assert done
    assert_frame_equal(lake.read("regime_verdict"), pl.concat([stored[number] for number in sorted(stored)]))


def test_the_log_of_duckdb_names_what_it_uploads(place: Bucket) -> None:
    """A private interface of DuckDB: by it a writer knows what it must read back."""
    with connection.load_files(place) as files:
        connection.log_uploads(files)
        files.execute(f"COPY (SELECT 1 AS a) TO '{place.url('files/x.parquet')}'")
        asked = files.execute("SELECT request.type, request.url FROM duckdb_logs_parsed('HTTP')").fetchall()
    assert [url.endswith("/files/x.parquet") for kind, url in asked if kind == "PUT"] == [True]
    assert isinstance(duckdb.HTTPException(), duckdb.Error)
    assert Folder(Path("/x")).url("a") == "/x/a"
