"""The paper operator in the daemon: after each tick it leaves on paper what reached its level.

Nothing of it is loaded while orders.yaml says `mode: off`.
"""

from datetime import timedelta

import dagster as dg

from mm_dagster import logs
from mm_dagster.defs.describe import KIND_TAG
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.defs.runs import under_way

LONGEST = timedelta(minutes=10)
"""A run that is older is dead."""


@dg.op(description="Makes the plans on paper that are due; those of the past are carried out at once.")
def make_plans_on_paper(context: dg.OpExecutionContext, project: ProjectOfRun) -> None:
    """What has a plan gets no second one, whoever asks, and how often."""
    # Imported here because with `mode: off` nothing of this is loaded.
    from mm_dagster.pipeline.paper_sessions import act

    act(project, context.log.info)


@dg.job(
    description="Leaves grids on paper for the session that runs. Nothing is sent to an exchange.",
    tags={KIND_TAG: "paper"},
    executor_def=dg.in_process_executor,
)
def leave_on_paper() -> None:
    make_plans_on_paper()


@dg.sensor(
    job=leave_on_paper,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run when a grid has reached the level of the paper session. Off: a session makes no plan.",
)
@logs.bound()
def paper_session_is_due(context: dg.SensorEvaluationContext, project: ProjectOfRun) -> dg.SensorResult | dg.SkipReason:
    """Once for each tick and session: what has no plan after that has none for a reason, which the run says."""
    if project.config.orders.mode == "off":
        return dg.SkipReason("orders.yaml: mode is off")
    from mm_dagster.pipeline.paper_sessions import is_due, moment

    now = moment(project)
    if now is None or now == context.cursor or not is_due(project):
        return dg.SkipReason("no session runs, or nothing is due since the newest tick")
    if under_way(context.instance, leave_on_paper.name, LONGEST):
        return dg.SkipReason("a run is under way")
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=now)
