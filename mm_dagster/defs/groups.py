"""Many markets: a run for each group of them, and then one for what needs all.

They are runs of the same jobs, narrowed to some markets by their configuration and to some assets. No state is handed
from one to another: what is done stands in the lake, and which runs there are in Dagster's instance.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from mm_dagster import logs
from mm_dagster.bars import iso, parse_time
from mm_dagster.defs.automation import tick
from mm_dagster.defs.partitions import partition_of
from mm_dagster.defs.parts import TICK_WITH_ALL, turn_of
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.defs.runs import EACH_ROUND_SECONDS
from mm_dagster.logs import TICK_TAG
from mm_dagster.pipeline.groups import GROUP_TAG, TOGETHER_TAG, parts_done

LATELY = timedelta(minutes=45)
"""Groups that were asked for before are of no tick that anybody waits for."""


@dg.sensor(
    job=tick,
    minimum_interval_seconds=EACH_ROUND_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Asks for what needs all markets of a tick when the runs of its groups are done, or when the slowest takes too "
        "long. Off: with more markets than tick.markets_a_run there are no figures of all grids together."
    ),
)
@logs.bound()
def the_groups_are_done(
    context: dg.SensorEvaluationContext, project: ProjectOfRun
) -> list[dg.RunRequest] | dg.SkipReason:
    """One run for each tick whose groups are done, or have taken too long; a group that died silences nothing."""
    lately = datetime.now(UTC) - LATELY
    records = context.instance.get_run_records(dg.RunsFilter(job_name=tick.name, created_after=lately))
    ticks: dict[str, list[dg.RunRecord]] = {}
    for record in records:
        if GROUP_TAG in record.dagster_run.tags:
            ticks.setdefault(record.dagster_run.tags[TICK_TAG], []).append(record)
    asked = {one.dagster_run.tags.get(TICK_TAG) for one in records if TOGETHER_TAG in one.dagster_run.tags}
    patience = timedelta(seconds=project.config.markets.tick.wait_seconds)
    due = [request_of_all(parse_time(as_of)) for as_of, runs in sorted(ticks.items()) if _is_due(runs, patience)]
    return [one for one in due if one.tags[TICK_TAG] not in asked] or dg.SkipReason("no tick has groups that are done")


def _is_due(records: Sequence[dg.RunRecord], patience: timedelta) -> bool:
    """Whether all groups of a tick are done, or the first was asked for too long ago."""
    runs = [one.dagster_run for one in records]
    done = [run.tags[GROUP_TAG] for run in runs if run.status == dg.DagsterRunStatus.SUCCESS]
    return parts_done(done) or min(one.create_timestamp for one in records) + patience < datetime.now(UTC)


def request_of_all(as_of: datetime) -> dg.RunRequest:
    """What needs all markets of a tick."""
    return dg.RunRequest(
        run_key=f"{iso(as_of)} together",
        partition_key=partition_of(as_of),
        run_config=turn_of(as_of),
        asset_selection=TICK_WITH_ALL.assets,
        asset_check_keys=TICK_WITH_ALL.checks,
        tags={TICK_TAG: iso(as_of), TOGETHER_TAG: "all"},
    )
