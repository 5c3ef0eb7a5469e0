"""Runs are children of a code server; what becomes of those whose server is gone, with its process or its host.

Dagster's own launcher never asks: a run whose code server was killed stays STARTED for ever, and holds its place in the
pool `alerts`, so that no alert is sent any more. Only a code server that lives on says of a run that it ended. So this
launcher asks the server that was given a run, at the address that the run carries as a tag. Dagster's run monitoring
asks it every few seconds, and whoever takes over from another host at once (`end_lost`).
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import dagster as dg
import grpc
from dagster import DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from mm_dagster.defs.internals import idle

# Where a server keeps Dagster's storage its daemon loads nothing else of ours.
idle.leave_out()

logger = logging.getLogger("mm_dagster")

ASK_SECONDS = 5
"""How long a server may take to answer; one that takes longer is busy, not gone."""
TRIES, PAUSE_SECONDS = 3, 1.0
"""A server that is begun again is not there for a moment."""

IN_FLIGHT = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)
"""Given to a server, or about to be; what is created or queued is taken up by whoever is active."""


class Launcher(DefaultRunLauncher):
    """Gives runs to the code server, as Dagster's own does, and knows which of them it does not have any more."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does, so that run monitoring asks."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the server that was given a run still has it.

        Args:
            run: one that is not finished.

        Returns:
            RUNNING also where the server takes too long to say so; FAILED: it is gone, or does not know the run.
        """
        given = run.tags.get(GRPC_INFO_TAG)
        if given is None:
            return CheckRunHealthResult(WorkerStatus.FAILED, "it was given to no code server")
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE_SECONDS)
            try:
                has_it = _has(json.loads(given), run.run_id)
            except DagsterUserCodeUnreachableError as error:
                if not _is_gone(error):
                    return CheckRunHealthResult(WorkerStatus.RUNNING)
            else:
                if has_it:
                    return CheckRunHealthResult(WorkerStatus.RUNNING)
                return CheckRunHealthResult(WorkerStatus.FAILED, "its code server does not have it any more")
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server is gone")


def _has(address: dict[str, Any], run_id: str) -> bool:
    client = DagsterGrpcClient(
        port=address.get("port"),
        socket=address.get("socket"),
        host=address["host"],
        use_ssl=bool(address.get("use_ssl", False)),
    )
    asked = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=ASK_SECONDS)
    return bool(deserialize_value(asked, CanCancelExecutionResult).can_cancel)


def _is_gone(error: DagsterUserCodeUnreachableError) -> bool:
    """Whether nothing listens at an address; a server that only takes its time does."""
    cause = error.__cause__
    return isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNAVAILABLE


def end_lost(instance: dg.DagsterInstance) -> int:
    """Notes of the runs that died with another host that they failed, so that they are tried again, and hold nothing.

    Args:
        instance: whose runs. Where another launcher starts them, they live and die elsewhere: nothing is done.

    Returns:
        How many there were.
    """
    launcher = instance.run_launcher
    if not isinstance(launcher, Launcher):
        return 0
    lost = 0
    for run in instance.get_runs(dg.RunsFilter(statuses=[*IN_FLIGHT])):
        health = launcher.check_run_worker_health(run)
        if health.status == WorkerStatus.RUNNING:
            continue
        # It may have ended while its server was asked.
        now = instance.get_run_by_id(run.run_id)
        if now is not None and now.status in IN_FLIGHT:
            instance.report_run_failed(now, f"Whoever worked at it is gone: {health.msg}.")
            lost += 1
    return lost


def in_flight(instance: dg.DagsterInstance) -> int:
    """How many runs code servers have under way; none where another launcher starts them."""
    if not isinstance(instance.run_launcher, Launcher):
        return 0
    return instance.get_runs_count(dg.RunsFilter(statuses=[*IN_FLIGHT]))
