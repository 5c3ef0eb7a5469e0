"""What of Dagster is private and relied on is still as it was: each failure says which name, and who uses it."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
from dagster._core import events as dagster_events
from dagster._core.instance import utils
from dagster._core.launcher import RunLauncher
from dagster._core.scheduler import instigation
from dagster._core.storage import sqlite_storage, tags
from dagster._core.storage.event_log import schema
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._grpc.client import DagsterGrpcClient
from dagster._loggers import default_loggers

from mm_dagster.defs.internals import console, idle, storage

BATCH_SIZE = "DAGSTER_EVENT_BATCH_SIZE"

SIGNATURES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "prepare_insert_event": (SqlEventLogStorage.prepare_insert_event, ["self", "event"]),
    "_store_asset_event": (SqlEventLogStorage._store_asset_event, ["self", "conn", "event", "event_id"]),
    "_store_asset_event_tags": (
        SqlEventLogStorage._store_asset_event_tags,
        ["self", "conn", "events", "event_ids"],
    ),
    "store_event": (SqliteEventLogStorage.store_event, ["self", "event"]),
    "store_event_batch": (SqliteEventLogStorage.store_event_batch, ["self", "events"]),
    "run_connection": (SqliteEventLogStorage.run_connection, ["self", "run_id"]),
    "path_for_shard": (SqliteEventLogStorage.path_for_shard, ["self", "run_id"]),
    "DagsterSqliteStorage": (DagsterSqliteStorage.__init__, ["self", "base_dir", "inst_data"]),
    "_event_logs_directory": (sqlite_storage._event_logs_directory, ["base"]),
    "can_cancel_execution": (
        DagsterGrpcClient.can_cancel_execution,
        ["self", "can_cancel_execution_request", "timeout"],
    ),
    "check_run_worker_health": (RunLauncher.check_run_worker_health, ["self", "run"]),
    "purge_ticks": (dg.DagsterInstance.purge_ticks, ["self", "origin_id", "selector_id", "before", "tick_statuses"]),
}
"""What defs/internals/ calls by its place, with the parameters that it counts on."""

NAMES: list[tuple[ModuleType | type, str]] = [
    (dagster_events, "ASSET_EVENTS"),
    (instigation.TickStatus, "SKIPPED"),
    (schema, "AssetCheckExecutionsTable"),
    (schema, "SqlEventLogStorageTable"),
    (sqlite_event_log, "INDEX_SHARD_NAME"),
    (SqlEventLogStorage, "index_connection"),
    (SqlEventLogStorage, "index_transaction"),
    (tags, "GRPC_INFO_TAG"),
    (tags, "PARTITION_NAME_TAG"),
]

COLUMNS = {
    "SqlEventLogStorageTable": {"id", "asset_key", "partition", "dagster_event_type", "run_id"},
    "AssetCheckExecutionsTable": {"id", "asset_key", "check_name", "run_id"},
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_is_called_has_the_parameters_that_are_given(name: str) -> None:
    function, expected = SIGNATURES[name]
    found = list(inspect.signature(function).parameters)
    assert found[: len(expected)] == expected, f"Dagster changed {name}: mm_dagster/defs/internals gives it {expected}"
    rest = list(inspect.signature(function).parameters.values())[len(expected) :]
    assert all(one.default is not one.empty for one in rest), f"Dagster's {name} asks for more: {rest}"


@pytest.mark.parametrize(("where", "name"), NAMES, ids=[name for _, name in NAMES])
def test_what_is_used_by_its_name_is_there(where: ModuleType | type, name: str) -> None:
    assert hasattr(where, name), f"Dagster no longer has {where.__name__}.{name}, which mm_dagster/defs/internals uses"


@pytest.mark.parametrize("table", COLUMNS)
def test_the_tables_that_old_runs_are_looked_for_in_have_their_columns(table: str) -> None:
    missing = COLUMNS[table] - set(getattr(schema, table).c.keys())
    assert not missing, f"Dagster's {table} lacks {missing}, which defs/internals/runs.py reads"


def test_the_nightly_job_finds_the_files_where_the_storage_puts_them(tmp_path: Path) -> None:
    log = SqliteEventLogStorage(str(tmp_path / "history" / "runs"))
    path = Path(log.path_for_shard("a-run"))
    assert path == tmp_path / "history" / "runs" / "a-run.db", (
        "defs/internals/runs.py deletes the file of a run by name"
    )
    assert Path(sqlite_storage._event_logs_directory(str(tmp_path))) == tmp_path / "history" / "runs", (
        "defs/internals/runs.py finds the files of the storage below history/runs"
    )


def test_a_storage_takes_the_event_log_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BATCH_SIZE, raising=False)
    ours = storage.Storage(str(tmp_path))
    assert type(ours.event_log_storage) is storage.EventLog, (
        "Dagster's storage no longer reads `_event_log_storage`, which defs/internals/storage.py sets"
    )
    assert os.environ[BATCH_SIZE] == str(storage.AT_ONCE)


def test_dagster_hands_over_as_many_events_as_its_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BATCH_SIZE, "7")
    assert utils._get_event_batch_size() == 7, f"{BATCH_SIZE} is what defs/internals/storage.py sets"


def test_dagster_stores_events_of_sqlite_one_by_one_and_so_our_class_is_needed() -> None:
    inherited = SqliteEventLogStorage.store_event_batch
    assert inherited.__qualname__ == "EventLogStorage.store_event_batch", (
        "Dagster now has a batch of its own for SQLite: measure again whether defs/internals/storage.py can go"
    )


def test_a_run_without_loggers_of_its_own_logs_through_ours() -> None:
    console.take_over()
    assert default_loggers()["console"] is console.console, (
        "Dagster takes its console logger from elsewhere: defs/internals/console.py does not reach it"
    )


def test_the_daemon_still_says_so_when_nothing_happened() -> None:
    """Its lines are told by their beginning: see idle.py."""
    from dagster._daemon import sensor

    said = inspect.getsource(sensor)
    assert 'f"Checking for new runs for sensor: {' in said
    assert 'f"No run requests returned for {' in said
    assert 'f"Sensor {remote_sensor.name} skipped: {' in said


@pytest.mark.parametrize(
    ("line", "level", "passes"),
    [
        ("Checking for new runs for sensor: alerts_are_due", logging.INFO, False),
        ("Sensor alerts_are_due skipped: nothing is due", logging.INFO, False),
        ("No run requests returned for alerts_are_due, skipping", logging.INFO, False),
        ("Completed launch of run 1 for alerts_are_due", logging.INFO, True),
        ("Sensor alerts_are_due skipped: it failed", logging.ERROR, True),
    ],
)
def test_an_idle_look_is_left_out_of_the_daemon_s_log(line: str, level: int, passes: bool) -> None:
    idle.leave_out()
    for name in idle.DAEMONS:
        logger = logging.getLogger(f"dagster.daemon.{name}")
        assert sum(isinstance(one, idle.NothingHappened) for one in logger.filters) == 1
        assert bool(logger.filter(logging.LogRecord("x", level, "", 0, line, (), None))) is passes
