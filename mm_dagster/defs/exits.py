"""Leaving grids by the program: a plan that a person approved is carried out, outside of the pipeline's turns.

Nothing of it is loaded while orders.yaml says `mode: off`, and nothing sells by itself.
"""

from datetime import timedelta

import dagster as dg

from mm_dagster import logs
from mm_dagster.defs.describe import KIND_TAG
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.defs.runs import under_way

SECONDS_A_RUN = 240.0
"""After which a run lets go of a plan that goes on; the sensor asks for another."""
LONGEST = timedelta(minutes=10)
"""A run that was killed stays STARTED for ever: what is older is dead. The account's lock says so, too."""
ACCOUNT_TAG = "mm/account"


@dg.op(
    config_schema={"plan_id": dg.Field(str, description="The plan, as `mm exit status` lists it.")},
    description="Carries out one approved plan to leave a grid, as far as it gets in a few minutes.",
)
def carry_out_plan(context: dg.OpExecutionContext, project: ProjectOfRun) -> None:
    """Asks the order machine what to do next until nothing is; each step is an event of the run."""
    # Imported here because with `mode: off` nothing of this is loaded.
    from mm_dagster.pipeline.exit_account import Occupied
    from mm_dagster.pipeline.exits import carry_out

    def say(kind: str, said: str) -> None:
        context.log.info(f"{kind}: {said}")

    plan_id: str = context.op_config["plan_id"]
    try:
        kept = carry_out(project, plan_id, seconds=SECONDS_A_RUN, say=say)
    except Occupied as error:
        # A person's `mm exit` does it; the sensor looks again.
        context.log.info(str(error))
        return
    context.log.info(f"plan {plan_id} is {kept.plan.state}: {kept.reason}")


@dg.job(
    description="Leaves a grid by a plan that a person approved. Nothing sells by itself.",
    tags={KIND_TAG: "exit"},
    executor_def=dg.in_process_executor,
)
def leave_grid() -> None:
    carry_out_plan()


@dg.sensor(
    job=leave_grid,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run as long as an approved plan to leave a grid is not over. Off: only `mm exit` works.",
)
@logs.bound()
def plans_are_open(context: dg.SensorEvaluationContext, project: ProjectOfRun) -> dg.SensorResult | dg.SkipReason:
    """One run at a time for each account; a run that died is followed by another."""
    # A plan that was under way when the mode was switched off is halted and told; where none ever was, nothing is.
    if project.config.orders.mode == "off" and not (project.data / "orders").is_dir():
        return dg.SkipReason("orders.yaml: mode is off")
    from mm_dagster.pipeline.exits import open_plans

    wanted: dict[str, dg.RunRequest] = {}
    for kept in open_plans(project):
        account = f"{kept.mode} at {kept.venue}"
        if account in wanted or under_way(context.instance, leave_grid.name, LONGEST, {ACCOUNT_TAG: account}):
            continue
        wanted[account] = dg.RunRequest(
            run_config={"ops": {carry_out_plan.name: {"config": {"plan_id": kept.plan_id}}}},
            tags={ACCOUNT_TAG: account, "mm/plan": kept.plan_id, "mm/grid": kept.grid_id},
        )
    return dg.SensorResult(run_requests=list(wanted.values())) if wanted else dg.SkipReason("no plan is open")
