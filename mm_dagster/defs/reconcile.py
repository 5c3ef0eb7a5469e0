"""What puts the past right by itself: days that are missing, days that are stale, and a second look at yesterday.

A tick puts the last `history.catch_up_days` right; what lies further back is asked for here, oldest first, a month at
a time, many markets in groups, and never while a tick is under way. Runs of the job `history` send nothing: only the
newest state is news.
"""

import json
from datetime import timedelta

import dagster as dg

from mm_dagster import logs
from mm_dagster.bars import Span, midnight
from mm_dagster.config.whole import Config
from mm_dagster.defs.automation import BETWEEN, history, tick
from mm_dagster.defs.describe import KIND_TAG, RECONCILE
from mm_dagster.defs.partitions import partition_of, range_tags
from mm_dagster.defs.parts import APART
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.defs.runs import under_way
from mm_dagster.pipeline.groups import ASKED_TAG, groups
from mm_dagster.pipeline.repairs import Repair, choose, repairs, second_look

RECONCILE_TAG = "mm/reconcile"
LONGEST_RUN = timedelta(hours=3)
"""What began before is no longer at work."""


@dg.sensor(
    job=history,
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for days that are missing or stale, oldest first, one month a run. Off: holes stay.",
)
@logs.bound()
def the_past_is_not_whole(
    context: dg.SensorEvaluationContext, project: ProjectOfRun
) -> dg.SensorResult | dg.SkipReason:
    """Asks for days that are missing or stale, oldest first, one month a run; never while a tick is under way."""
    now = project.now()
    if any(under_way(context.instance, job.name, LONGEST_RUN) for job in (tick, history)):
        return dg.SkipReason("a tick or a run over whole days is under way")
    tried = json.loads(context.cursor) if context.cursor else {}
    repair, tried = choose(repairs(project, now), tried, now)
    if repair is None:
        waiting = f"; {len(tried)} were tried in vain and wait" if tried else ""
        return dg.SensorResult(skip_reason=f"nothing is missing or stale{waiting}", cursor=json.dumps(tried))
    return dg.SensorResult(run_requests=requests(repair, project.config), cursor=json.dumps(tried))


def request(repair: Repair) -> dg.RunRequest:
    """The run that puts it right; it stands behind the tick in the queue."""
    return dg.RunRequest(
        run_config={"resources": {"turn": {"config": {"symbols": list(repair.symbols)}}}},
        tags=_tags(repair.span, repair.why),
    )


def requests(repair: Repair, config: Config) -> list[dg.RunRequest]:
    """The runs that put it right: of more markets than one run is to have a run for each group.

    What needs all markets is missing after them, and the next repair.
    """
    parts = groups(repair.symbols, config.markets.tick.markets_a_run)
    if len(parts) == 1:
        return [request(repair)]
    return [
        dg.RunRequest(
            run_config={"resources": {"turn": {"config": {"symbols": list(part.symbols)}}}},
            asset_selection=APART.assets,
            asset_check_keys=APART.checks,
            tags={**_tags(repair.span, repair.why), **part.tags, ASKED_TAG: f"{RECONCILE} {repair.name}"},
        )
        for part in parts
    ]


@dg.schedule(
    job=history,
    cron_schedule=f"{BETWEEN} 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Asks the venues once more for the last two days, since some revise their bars hours later.",
)
@logs.bound()
def every_night_again(context: dg.ScheduleEvaluationContext, project: ProjectOfRun) -> dg.RunRequest:
    """The last two whole days, asked for although they are known."""
    today = midnight((context.scheduled_execution_time + project.ahead).date())
    return dg.RunRequest(
        run_key=f"again {partition_of(today)}",
        run_config={"resources": {"turn": {"config": {"again": True}}}},
        tags=_tags(second_look(today), "again"),
    )


def _tags(span: Span, why: str) -> dict[str, str]:
    """Of one run over several daily partitions, which lets a tick go first."""
    return {**range_tags(span), "dagster/priority": "-1", KIND_TAG: RECONCILE, RECONCILE_TAG: why}
