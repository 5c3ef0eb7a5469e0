"""A backfill by Dagster's queue: `mm backfill --queue` asks, the daemon makes a run of each group of markets."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from mm_dagster import logs
from mm_dagster.bars import BAR, DAY_BARS, Span, midnight
from mm_dagster.defs.automation import history
from mm_dagster.defs.describe import KIND_TAG
from mm_dagster.defs.internals.asked import Part, asked, is_made_again, runs_of
from mm_dagster.defs.partitions import range_tags
from mm_dagster.defs.parts import APART, WITH_ALL
from mm_dagster.pipeline.groups import ASKED_TAG, GROUP_TAG


@dg.sensor(
    job=history,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for the runs of backfills that `mm backfill --queue` wants. Off: such a backfill never begins.",
)
@logs.bound()
def backfills_are_asked_for(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """A run for each group, once, and another in the place of one that Dagster lost."""
    wanted = asked(context.instance)
    if not wanted:
        return dg.SkipReason("no backfill is asked for")
    requests = []
    for name, parts in wanted.items():
        runs = runs_of(context.instance, name)
        for part in parts:
            if part.name not in runs:
                requests.append(request_of(name, part))
                continue
            newest = runs[part.name][0]
            if datetime.now(UTC) - newest.update_timestamp > LOST_AFTER:
                requests += _in_place_of(context.instance, newest.dagster_run, name, part)
    return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("all runs were asked for")


LOST_AFTER = timedelta(minutes=1)
"""From when on nothing becomes of a run by itself that nobody works on: Dagster looks every few seconds."""


def _in_place_of(instance: dg.DagsterInstance, run: dg.DagsterRun, backfill: str, part: Part) -> list[dg.RunRequest]:
    """What is asked for where a run came to nothing: its storage did not answer at the moment of the next step.

    Dagster says of a run that failed that it will be made again, and forgets it where that very moment fails; and
    where it made a run and could not put it into the queue, it never comes back to it.
    """
    if run.status == dg.DagsterRunStatus.NOT_STARTED:
        instance.report_run_failed(run, "It was made and never came into the queue.")
    elif run.status == dg.DagsterRunStatus.FAILURE and is_made_again(run):
        return [request_of(backfill, part, in_place_of=run.run_id)]
    return []


def request_of(backfill: str, part: Part, in_place_of: str | None = None) -> dg.RunRequest:
    """A run of a backfill; it stands behind the tick in the queue. Dagster makes one of a key, however often asked."""
    turn = {"symbols": list(part.symbols), "again": part.again}
    days = Span(midnight(date.fromisoformat(part.first)), midnight(date.fromisoformat(part.last)) + DAY_BARS * BAR)
    made = APART if part.symbols else WITH_ALL
    return dg.RunRequest(
        run_key=f"{backfill} {part.name}" + (f" in place of {in_place_of}" if in_place_of else ""),
        run_config={"resources": {"turn": {"config": turn}}},
        asset_selection=made.assets,
        asset_check_keys=made.checks,
        tags={
            **range_tags(days), KIND_TAG: "backfill", "dagster/priority": "-1",
            ASKED_TAG: backfill, GROUP_TAG: part.name,
        },
    )  # fmt: skip
