"""`mm backup` and `mm restore` as an engineer calls them: a project goes on elsewhere as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock
from polars.testing import assert_frame_equal

from mm_dagster.history.lake import Lake
from mm_dagster.history.places import Bucket
from mm_dagster.tables import registry
from mm_dagster_tests.cli.small import called, configure
from mm_dagster_tests.history import s3
from mm_dagster_tests.history.test_lake import COMMIT, FULL

MM = [sys.executable, "-c", "from mm_dagster.cli import main; main()"]
PATIENCE_SECONDS = 240
SECRET = "a-token-that-nobody-may-read"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project after one tick, and a backup of it."""
    folder = tmp_path_factory.mktemp("keep")
    configure(folder)
    assert mm(folder, "tick", "--as-of", "2026-06-27T00:00Z").returncode == 0
    done = mm(folder, "backup", "--to", str(folder / "b.tar.gz"), "--json")
    assert done.returncode == 0
    (folder / "said.json").write_text(done.stdout)
    return folder


def mm(folder: Path, *arguments: str, data: str = "data") -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    places = {"MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / data)}
    return subprocess.run(
        [*MM, *arguments], env={**own, **places, "PUSHOVER_TOKEN": SECRET, "PUSHOVER_USER": SECRET},
        capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip


@contextmanager
def storage(data: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(data / "dagster")) as instance:
        yield instance


@pytest.mark.long
def test_a_project_goes_on_elsewhere_as_if_nothing_had_happened(folder: Path) -> None:
    [made] = json.loads((folder / "said.json").read_text())
    assert made["where"] == str(folder / "b.tar.gz")
    assert made["left_out"] == []
    assert made["packed_bytes"] == (folder / "b.tar.gz").stat().st_size
    done = mm(folder, "restore", str(folder / "b.tar.gz"), "--data", str(folder / "elsewhere"), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["files"] == made["files"]

    before, after = Lake(folder / "data" / "history"), Lake(folder / "elsewhere" / "history")
    for table in registry.TABLES:
        assert_frame_equal(after.read(table), before.read(table), check_exact=True)
    with storage(folder / "data") as old, storage(folder / "elsewhere") as new:
        assert [run.run_id for run in new.get_runs()] == [run.run_id for run in old.get_runs()]
        (run, *_) = [run for run in new.get_runs() if run.job_name == "tick"]
        assert len(new.all_logs(run.run_id)) == len(old.all_logs(run.run_id)) > 20

    for data in ("data", "elsewhere"):
        assert mm(folder, "tick", "--as-of", "2026-06-27T00:15Z", data=data).returncode == 0
    for table in ("candles", "regime_features", "regime_verdict", "grid_risk", "exit_state"):
        compared = [name for name in registry.dtypes(table) if name not in registry.LIVE_ONLY]
        assert_frame_equal(after.read(table).select(compared), before.read(table).select(compared), check_exact=True)
    assert after.read("exit_state").height == before.read("exit_state").height > 0
    assert [git(folder, data) for data in ("data", "elsewhere")] == [
        ["2026-06-27T00:15:00Z", "2026-06-27T00:00:00Z"]
    ] * 2


def git(folder: Path, data: str) -> list[str]:
    """The ticks that the mirror's commits name, newest first."""
    done = subprocess.run(
        ["git", "-C", str(folder / data / "mirror"), "log", "--format=%s"], capture_output=True, text=True, check=True
    )
    return [line.partition(": ")[0] for line in done.stdout.splitlines()]


@pytest.mark.long
def test_a_restore_over_data_is_refused_in_one_line_that_names_the_remedy(folder: Path) -> None:
    done = mm(folder, "restore", str(folder / "b.tar.gz"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not empty; choose another folder with --data, or --force" in done.stderr


@pytest.mark.long
def test_a_backup_waits_for_the_run_that_is_under_way_and_says_so(folder: Path) -> None:
    own = {**os.environ, "MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / "data")}
    own.pop("MM_DAGSTER_DIR", None)
    with FileLock(folder / "data" / "pipeline.lock"):
        command = [*MM, "backup", "--to", str(folder / "waited.tar.gz")]
        process = subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert "waiting for the run that is under way" in process.stderr.readline()
        assert not (folder / "waited.tar.gz").exists()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert (folder / "waited.tar.gz").exists()


@pytest.mark.long
def test_no_secret_of_the_environment_is_in_it(folder: Path) -> None:
    with tarfile.open(folder / "b.tar.gz") as tar:
        for entry in tar:
            content = tar.extractfile(entry)
            assert content is not None
            assert SECRET.encode() not in content.read(), entry.name


@pytest.mark.long
def test_a_folder_that_is_not_there_is_said_before_anything_is_done(folder: Path) -> None:
    done = mm(folder, "backup", "--to", str(folder / "nowhere" / "b.tar.gz"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there is no folder" in done.stderr


@pytest.mark.long
def test_a_history_goes_to_object_storage_and_everything_goes_on_there(tmp_path: Path) -> None:
    pytest.importorskip("moto", reason="moto is not installed; it is in the extra dev")
    configure(tmp_path)
    lake = Lake(tmp_path / "data" / "history")
    lake.upsert("candles", FULL["candles"], commit=COMMIT)
    lake.close()
    with s3.running() as storage:
        key, secret = storage.keys["writer"]
        places = {"MM_CONFIG_DIR": str(tmp_path / "configuration"), "MM_DATA_DIR": str(tmp_path / "data")}
        keys = {**places, "S3_KEY": key, "S3_SECRET": secret}
        said = (
            f"data: {{path: 's3://{s3.BUCKET}/grids', endpoint: '{storage.proxy.endpoint}', region: {s3.REGION}, "
            "key_env: S3_KEY, secret_env: S3_SECRET}\n"
        )
        (tmp_path / "history.yaml").write_text(said)
        command = ("history", "copy", "--to", str(tmp_path / "in-s3"), "--settings", str(tmp_path / "history.yaml"))
        code, _, told = called(places, *command)
        assert code == 1
        assert "data.key_env: S3_KEY is not set; give it the key of the object storage" in told
        code, copied, told = called(keys, *command, "--json")
        assert code == 0, told
        assert {row["table"]: row["rows"] for row in json.loads(copied)}["candles"] == FULL["candles"].height
        (tmp_path / "configuration" / "history.yaml").write_text(said)
        code, _, told = called(keys, "sql", "SELECT count(*) FROM candles")
        assert code == 1
        assert "the catalogue is that of another lake" in told
        shutil.move(tmp_path / "data" / "history", tmp_path / "former")
        shutil.move(tmp_path / "in-s3", tmp_path / "data" / "history")
        place = Bucket(f"s3://{s3.BUCKET}/grids", key, secret, endpoint=storage.proxy.endpoint, region=s3.REGION)
        assert_frame_equal(Lake(tmp_path / "data" / "history", place=place).read("candles"), FULL["candles"])
    assert not list((tmp_path / "data" / "history").rglob("*.parquet"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
