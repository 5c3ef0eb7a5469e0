"""Old runs are forgotten: what Dagster keeps of them, in whichever database, and which of it the UI still shows.

`instance.delete_run` alone does not bound anything: it leaves the run's file, the results of its asset checks and its
captured output, and it takes the status of the partitions that the run made with it. So the newest run of each
partition stays, and what is left of the others goes.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.tags import PARTITION_NAME_TAG

from mm_dagster.config.history import HistoryConfig
from mm_dagster.history import sqlite_files

logger = logging.getLogger("mm_dagster")

FAILED_KEPT = 50
"""Failed runs of one job: a night in which each tick fails must not fill the disk."""

IDLE_TICKS_KEPT = timedelta(hours=1)
"""A sensor that looks every five seconds notes 17,280 times a day that it found nothing."""

_AT_ONCE = 500

_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def tidy(instance: dg.DagsterInstance, settings: HistoryConfig, now: datetime) -> dict[str, int]:
    """Forgets what is old, and gives its space back to the disk; a database server does that by itself.

    Returns:
        What `forget` says, and the bytes of the SQLite files.
    """
    done = forget(instance, settings, now)
    try:
        # A run's own file is deleted as a whole; these are shared by all runs.
        sqlite_files.vacuum([path for path in sqlite_storage(instance) if not _is_of_one_run(path)])
    except sqlite_files.SqliteFileError as error:
        logger.warning("Dagster's storage did not shrink, the next night tries again: %s", error)
    return {**done, "bytes": sum(path.stat().st_size for path in sqlite_storage(instance))}


def forget(instance: dg.DagsterInstance, settings: HistoryConfig, now: datetime) -> dict[str, int]:
    """Deletes what is old and not the newest of its kind, whatever database holds it.

    Args:
        instance: whose runs.
        settings: how many days are kept.
        now: from which they count.

    Returns:
        How many runs that are over were deleted, and how many kept.
    """
    events = instance.event_log_storage
    assert isinstance(events, SqlEventLogStorage)
    _purge_idle_ticks(instance, now)
    needed = _newest_of_each(events)
    recent = now - timedelta(days=settings.keep_runs_days)
    failed_since = now - timedelta(days=settings.keep_failed_runs_days)
    succeeded: set[tuple[str, str]] = set()
    failures: Counter[str] = Counter()
    old, kept = [], 0
    for record in _ended(instance):
        run = record.dagster_run
        what = (run.job_name, run.tags.get(PARTITION_NAME_TAG, ""))
        if run.status == dg.DagsterRunStatus.SUCCESS:
            stays = what not in succeeded
            succeeded.add(what)
        else:
            failures[run.job_name] += 1
            stays = record.create_timestamp >= failed_since and failures[run.job_name] <= FAILED_KEPT
        if stays or run.run_id in needed or record.create_timestamp >= recent:
            kept += 1
        else:
            old.append(run.run_id)
    for run_id in old:
        instance.delete_run(run_id)
        if isinstance(events, SqliteEventLogStorage):
            for suffix in ("", "-wal", "-shm"):
                Path(events.path_for_shard(run_id) + suffix).unlink(missing_ok=True)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    for first in range(0, len(old), _AT_ONCE):
        with events.index_connection() as connection:
            some = AssetCheckExecutionsTable.c.run_id.in_(old[first : first + _AT_ONCE])
            connection.execute(AssetCheckExecutionsTable.delete().where(some))
    return {"runs_deleted": len(old), "runs_kept": kept}


def sqlite_storage(instance: dg.DagsterInstance) -> list[Path]:
    """The SQLite files of an instance; none where a server keeps its storage."""
    events = instance.event_log_storage
    if not isinstance(events, SqliteEventLogStorage):
        return []
    runs = Path(events.path_for_shard(INDEX_SHARD_NAME)).parent
    base = runs.parent.parent
    return sorted([*base.glob("history/*.db"), *base.glob("schedules/*.db"), *runs.glob("*.db")])


def _is_of_one_run(path: Path) -> bool:
    return path.parent.name == "runs" and path.stem != INDEX_SHARD_NAME


def _newest_of_each(events: SqlEventLogStorage) -> set[str]:
    """The runs behind what the UI shows: the newest materialization of each partition, the newest of each check."""
    found = set()
    for table, group, condition in (
        (
            SqlEventLogStorageTable,
            ("asset_key", "partition"),
            SqlEventLogStorageTable.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        ),
        (AssetCheckExecutionsTable, ("asset_key", "check_name"), sa.true()),
    ):
        newest = sa.select(sa.func.max(table.c.id)).where(condition).group_by(*(table.c[name] for name in group))
        with events.index_connection() as connection:
            rows = connection.execute(sa.select(table.c.run_id).distinct().where(table.c.id.in_(newest))).fetchall()
        found |= {run_id for (run_id,) in rows}
    return found


def _ended(instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    """The runs that are over, newest first."""
    ended = dg.RunsFilter(statuses=[*_ENDED])
    cursor = None
    while True:
        records = instance.get_run_records(ended, limit=_AT_ONCE, cursor=cursor)
        yield from records
        if len(records) < _AT_ONCE:
            return
        cursor = records[-1].dagster_run.run_id


def _purge_idle_ticks(instance: dg.DagsterInstance, now: datetime) -> None:
    """Forgets when schedules and sensors found nothing to do; Dagster's own `retention` counts in whole days."""
    if instance.schedule_storage is None:
        return
    before = (now - IDLE_TICKS_KEPT).timestamp()
    for state in instance.all_instigator_state():
        instance.purge_ticks(state.instigator_origin_id, state.selector_id, before, [TickStatus.SKIPPED])
