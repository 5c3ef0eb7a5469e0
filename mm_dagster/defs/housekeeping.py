"""What keeps sizes bounded: once a night the lake's upkeep, and the end of Dagster's old runs."""

import logging
from datetime import UTC, datetime

import dagster as dg

from mm_dagster.defs.describe import KIND_TAG
from mm_dagster.defs.internals.runs import tidy
from mm_dagster.defs.resources import ProjectOfRun

logger = logging.getLogger("mm_dagster")


@dg.op(tags={"dagster/priority": "1"})
def upkeep(context: dg.OpExecutionContext, project: ProjectOfRun) -> None:
    """Flushes, merges and expires what the lake has gathered; time travel reaches back `keep_snapshots_days`."""
    with project.turn_lock():
        done = project.lake.maintain(project.config.history.keep_snapshots_days)
    if done["postponed"]:
        context.log.warning("a reader's transaction stayed open: files were left as they are until tomorrow")
    if done["orphans"]:
        context.log.warning(f"{done['orphans']} files that no snapshot knows are in history/trash, for seven nights")
    context.log.info(str(done))
    context.add_output_metadata(done)


@dg.op
def forget_old_runs(context: dg.OpExecutionContext, project: ProjectOfRun) -> None:
    """Deletes old runs from Dagster's storage, see `keep_runs_days` in history.yaml; partitions keep their status."""
    done = tidy(context.instance, project.config.history, datetime.now(UTC))
    context.log.info(str(done))
    context.add_output_metadata(done)


@dg.job(
    executor_def=dg.in_process_executor,
    description="The nightly upkeep that bounds sizes: of the lake, and of what Dagster notes of its runs.",
    tags={KIND_TAG: "maintenance"},
)
def maintenance() -> None:
    """Two steps; neither waits for the other to succeed."""
    upkeep()
    forget_old_runs()
