"""Dagster's launcher for Celery, which knows whether a run's process is alive.

Celery knows of a task what its worker could still say: of a worker that was killed as a whole, or whose host is gone,
it says STARTED for ever. So the process of a run holds a lock by its id, on the server of Dagster's storage, and
Dagster's run monitoring asks whether anybody has it (history/advisory.py: at once after kill -9, within half a minute
when a host is gone). What is then marked as failed `run_retries` takes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import DagsterRun
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from mm_dagster import environment
from mm_dagster.history.locks import Lock, LockError, Locks

SETTINGS: Mapping[str, Any] = {
    # One run at a time and none in reserve: what waits is taken by whichever worker is free first.
    "worker_prefetch_multiplier": 1,
    "task_acks_late": True,
    # Each run in a fork of its own, of a process that has loaded everything.
    "worker_max_tasks_per_child": 1,
    # A run whose process died is taken again by Dagster, and not by Celery beside it.
    "task_reject_on_worker_lost": False,
    "task_ignore_result": True,
    "worker_hijack_root_logger": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_transport_options": {
        # Longer than any run: what is given out again meanwhile is known to be under way, see worker.py.
        "visibility_timeout": 24 * 3600,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
}
"""Of Celery, for the launcher and its workers alike; `config_source` in dagster.yaml changes them."""


SECONDS_TAG, PROCESSOR_TAG, WAITED_TAG = "mm/seconds", "mm/processor_seconds", "mm/waited_seconds"
"""Of a run that is over: how long its process worked, how much of the processor, and how long it waited for locks."""


def lock_of(run_id: str) -> Lock:
    """The lock that the process of a run holds as long as it lives.

    Raises:
        LockError: the server's address is not known.
    """
    address = environment.secret("MM_DAGSTER_URL")
    if not address:
        raise LockError("MM_DAGSTER_URL is not set: runs on several hosts need the PostgreSQL of Dagster's storage")
    return Locks.at(address).of(f"run {run_id}")


class Launcher(CeleryRunLauncher):
    """Starts each run as a task of Celery, with settings that fit runs."""

    def __init__(
        self,
        default_queue: str,
        broker: str | None = None,
        backend: str | None = None,
        include: list[str] | None = None,
        config_source: dict[str, Any] | None = None,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        super().__init__(
            default_queue=default_queue,
            broker=broker,
            backend=backend,
            include=include,
            config_source={**SETTINGS, **(config_source or {})},
            inst_data=inst_data,
        )

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a run that began lives. Without an answer of the server nothing is concluded.

        Raises:
            LockError: the server does not answer; the monitoring asks again.
        """
        lock = lock_of(run.run_id)
        if not lock.try_acquire():
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        lock.release()
        return CheckRunHealthResult(WorkerStatus.FAILED, "nobody holds the lock of this run: its process is gone")

    def terminate(self, run_id: str) -> bool:
        """Tells a run to end; it is noted first, or the run that then dies would be made again."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """Nothing that the check has not said: results are not kept."""
        return None
