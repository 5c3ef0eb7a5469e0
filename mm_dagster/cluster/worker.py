"""What `celery --app mm_dagster.cluster.worker worker` runs: a process that has loaded all and forks for each run.

Broker and settings are those of the launcher in dagster.yaml. Nothing here may start a thread: a fork has none of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import celery
import dagster as dg
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster_celery.tasks import create_execute_job_task

from mm_dagster.cluster.launcher import PROCESSOR_TAG, SECONDS_TAG, WAITED_TAG, Launcher, lock_of
from mm_dagster.definitions import defs
from mm_dagster.history.locks import waited

logger = logging.getLogger("mm_dagster")

_BEGINS = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)
_LOCK_SECONDS = 10
"""The monitoring has it for a moment when it looks."""


class OneRun(celery.Task):  # type: ignore[misc]
    """A run is begun once: what the broker gives out again, after a restart or a long time, is not."""

    abstract = True

    def __call__(self, *arguments: Any, **given: Any) -> Any:
        """Works on the run, with its lock held, unless somebody does or has."""
        run_id = unpack_value(given["execute_job_args_packed"], as_type=ExecuteRunArgs).run_id
        lock = lock_of(run_id)
        lock.acquire(_LOCK_SECONDS)
        try:
            with dg.DagsterInstance.get() as instance:
                run = instance.get_run_by_id(run_id)
            if run is None or run.status not in _BEGINS:
                logger.warning("run %s is %s: it is not begun again", run_id, run.status.value if run else "unknown")
                return 0
            return _noted(run_id, lambda: super(OneRun, self).__call__(*arguments, **given))
        finally:
            lock.release()


def _noted(run_id: str, work: Callable[[], Any]) -> Any:
    """Does it, and notes with the run what it took: its process has done nothing else."""
    began = time.monotonic()
    try:
        return work()
    finally:
        took = {
            SECONDS_TAG: time.monotonic() - began,
            PROCESSOR_TAG: time.process_time(),
            WAITED_TAG: sum(waited().values()),
        }
        with suppress(Exception), dg.DagsterInstance.get() as instance:
            instance.add_run_tags(run_id, {name: f"{seconds:.3f}" for name, seconds in took.items()})


def _app() -> celery.Celery:
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, Launcher):
            raise SystemExit(
                "DAGSTER_HOME: its dagster.yaml names another run_launcher; see deploy/celery/dagster.yaml"
            )
        app = launcher.celery
    create_execute_job_task(app, base=OneRun)  # type: ignore[arg-type]
    defs()
    return app


app = _app()
