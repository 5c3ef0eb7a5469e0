"""What runs by itself: the jobs, the tick every quarter hour, the sensor that asks for alerts to be sent."""

import logging
from datetime import timedelta
from typing import Any

import dagster as dg

from mm_dagster import environment, logs
from mm_dagster.bars import BAR, floor_bar, iso
from mm_dagster.defs.calibration import CHECK_KEYS
from mm_dagster.defs.describe import GROUPS, KIND_TAG, RECONCILE, cause
from mm_dagster.defs.exit import JUDGED
from mm_dagster.defs.exits import leave_grid
from mm_dagster.defs.housekeeping import maintenance
from mm_dagster.defs.partitions import partition_of
from mm_dagster.defs.parts import TICK_APART, turn_of
from mm_dagster.defs.proofs import CHECKS
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.defs.runs import EACH_ROUND_SECONDS, under_way
from mm_dagster.errors import ForeseenError
from mm_dagster.history.memory import Memory
from mm_dagster.logs import TICK_TAG
from mm_dagster.pipeline.groups import of_a_tick
from mm_dagster.pipeline.notify import count_due, follow_receipts, notify_checks, notify_failures, notify_troubles
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.telegram import listen
from mm_dagster.tables.registry import EVERY_BAR
from mm_dagster.text import counted

logger = logging.getLogger(__name__)

PROOFS = dg.AssetSelection.checks(*CHECKS, *CHECK_KEYS)
HISTORY = dg.AssetSelection.assets(*EVERY_BAR) - PROOFS - dg.AssetSelection.checks(JUDGED)
"""With the checks that the assets make themselves, but not the proofs, which look at whole days, and the present."""


def _offset_minutes() -> int:
    """That of the environment; where that cannot be read the ticks go on all the same, and it is said."""
    try:
        offset = environment.tick_offset_minutes()
    except environment.VariableError as error:
        logger.error("%s; %d is taken", error, environment.OFFSET_MINUTES)
        offset = environment.OFFSET_MINUTES
    try:
        late = minutes_late(Project.here().ahead)
    except ForeseenError:
        # What is wrong is said by whatever is asked for.
        late = 0
    return (offset + late) % 15


def minutes_late(ahead: timedelta) -> int:
    """How many minutes after a quarter hour of ours one has ended where the clock is so far ahead, as in a demo."""
    return -(-(-ahead % BAR) // timedelta(minutes=1))


OFFSET_MINUTES = _offset_minutes()
"""Minutes after a quarter hour at which the tick runs: venues need a moment to close their bars."""

BETWEEN = OFFSET_MINUTES + 7
"""Half-way between two ticks: where what runs once a day is in nobody's way."""

LONGEST_SENDING = timedelta(minutes=10)
LASTED = timedelta(minutes=1)
"""How long the configuration must be wrong for an alert between two ticks: an editor saves in two steps."""

tick = dg.define_asset_job(
    "tick",
    selection=HISTORY
    | dg.AssetSelection.checks(JUDGED)
    | dg.AssetSelection.assets("account_snapshot", "grid_bot", "book_snapshot", "snapshot", "tick_log"),
    description="The newest bar, from candles to exit states and the snapshot; heals what earlier ticks missed.",
    tags={KIND_TAG: "tick"},
    executor_def=dg.in_process_executor,
)

history = dg.define_asset_job(
    "history",
    selection=HISTORY,
    description="Whole days, from candles to exit states. Never sends anything.",
    tags={KIND_TAG: "backfill"},
    executor_def=dg.in_process_executor,
)

send_alerts = dg.define_asset_job(
    "send_alerts",
    selection=dg.AssetSelection.assets("notification"),
    description="Sends what is due, once.",
    tags={KIND_TAG: "alerts"},
    executor_def=dg.in_process_executor,
)


proofs = dg.define_asset_job(
    "proofs",
    selection=PROOFS,
    description=(
        "Proves on the newest whole day: no look-ahead, enough warm-up, live equals backfill; of the last months, that "
        "what was predicted came true. Reads only."
    ),
    tags={KIND_TAG: "proofs"},
    executor_def=dg.in_process_executor,
)


audit = dg.define_asset_job(
    "audit",
    selection=dg.AssetSelection.assets("alert_audit", "alert_outcome"),
    description="What the operator did about the alerts, by month, and what came after each.",
    tags={KIND_TAG: "audit"},
    executor_def=dg.in_process_executor,
)

evaluation = dg.define_asset_job(
    "evaluation",
    # candidate_parameters is there only where what fits them is installed.
    selection=dg.AssetSelection.groups(GROUPS["evaluation"]),
    description="What the signals were worth in the last year, up to the last whole month; the candidates' parameters.",
    tags={KIND_TAG: "evaluation", "dagster/priority": "-1"},
    executor_def=dg.in_process_executor,
)


books = dg.define_asset_job(
    "books",
    selection=dg.AssetSelection.assets("book_segment", "book_gap", "book_features", "liquidity_profile"),
    description="What was recorded of order books: sealed, replayed, measured. No decision waits for it or reads it.",
    tags={KIND_TAG: "books", "dagster/priority": "-1"},
    executor_def=dg.in_process_executor,
)


def _daily(name: str, job: Any, minute: int, says: str) -> dg.ScheduleDefinition:
    """A job that runs once a day, after three at night."""
    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=f"{minute} 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=says,
    )


every_day = _daily(
    "every_day",
    proofs,
    BETWEEN + 15,
    "Half-way between two ticks, so that none writes what is compared; yesterday is complete by then.",
)
every_morning = _daily("every_morning", audit, BETWEEN + 30, "Half-way between two ticks, once a day.")

every_night = _daily("every_night", maintenance, BETWEEN, "Half-way between two ticks, once a day.")

every_month = dg.ScheduleDefinition(
    name="every_month",
    job=evaluation,
    cron_schedule=f"{BETWEEN + 30} 4 1 * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Between two ticks, on the first of the month, when the last one is complete.",
)


@dg.schedule(
    job=tick,
    cron_schedule=",".join(str(quarter + OFFSET_MINUTES) for quarter in (0, 15, 30, 45)) + " * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The tick, a minute or so after each quarter hour, when the venues have closed their bars.",
)
@logs.bound()
def every_quarter_hour(context: dg.ScheduleEvaluationContext, project: ProjectOfRun) -> list[dg.RunRequest]:
    """The tick: as_of is the quarter hour that just ended, the partition the day in which its last bar opened.

    Of more markets than `tick.markets_a_run` it is a run for each group; see groups.py for what follows them.
    """
    as_of = floor_bar(context.scheduled_execution_time + project.ahead)
    return [
        dg.RunRequest(
            run_key=iso(as_of) if part.is_whole else f"{iso(as_of)} {part.name}",
            partition_key=partition_of(as_of),
            run_config=turn_of(as_of, part),
            asset_selection=None if part.is_whole else TICK_APART.assets,
            asset_check_keys=None if part.is_whole else TICK_APART.checks,
            tags={TICK_TAG: iso(as_of), **part.tags},
        )
        for part in of_a_tick(project.config)
    ]


@dg.sensor(
    job=send_alerts,
    minimum_interval_seconds=EACH_ROUND_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run of send_alerts when something is due. Off: nobody is notified of anything.",
)
@logs.bound()
def alerts_are_due(context: dg.SensorEvaluationContext, project: ProjectOfRun) -> dg.RunRequest | dg.SkipReason:
    """Asks for a run when something is due; the run itself decides again what, and sends."""
    if under_way(context.instance, send_alerts.name, LONGEST_SENDING):
        return dg.SkipReason("the last run is still sending")
    due = _due(project)
    try:
        notify_troubles(project, LASTED)
    except Exception:
        # What is due is sent all the same.
        logger.exception("what is wrong with the configuration could not be sent")
    if not due:
        return dg.SkipReason("nothing is due")
    return dg.RunRequest(tags={"mm/due": str(due)})


_READ = Memory()
"""What `alerts_are_due` has read of the history, as long as nobody writes to it: it asks every few seconds."""


def _due(project: Project) -> int:
    """How many messages wait. The clock goes on where the history does not, so that this is counted each time."""
    # A project of its own, since what is written through one that remembers is not seen by it.
    seen = Project(project.config_dir, project.data_dir)
    seen.remember(_READ)
    due = count_due(seen)
    seen.keep()
    return due


@dg.sensor(
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Follows an emergency at Pushover until it was acknowledged or has expired, and hears what is answered in "
        "Telegram. Off: neither reaches the ledger."
    ),
)
@logs.bound()
def receipts_are_open(context: dg.SensorEvaluationContext, project: ProjectOfRun) -> dg.SkipReason:
    """Asks Pushover every few seconds what became of an emergency, and Telegram what was answered."""
    waiting = follow_receipts(project)
    answers = listen(project)
    heard = f"; {counted(answers, 'answer')} came in" if answers else ""
    return dg.SkipReason((f"{waiting} emergencies are followed" if waiting else "no emergency rings") + heard)


@dg.run_failure_sensor(
    monitored_jobs=[tick, history, send_alerts, proofs, audit, evaluation, maintenance, leave_grid, books],
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Notifies of a run that failed: which asset, and the first line of the error. See tick_log.",
)
@logs.bound()
def a_run_failed(context: dg.RunFailureSensorContext, project: ProjectOfRun) -> None:
    """Notifies of a run that failed: which asset, and the error's first line; not of a backfill started by hand."""
    run = context.dagster_run
    if run.job_name == history.name and run.tags.get(KIND_TAG) != RECONCILE:
        return
    steps = context.get_step_failure_events()
    failed = [(str(event.step_key), cause(event.step_failure_data.error)) for event in steps] or [
        (context.dagster_run.job_name, context.failure_event.message or "it did not end")
    ]
    notify_failures(project, failed, context.dagster_run.run_id, _markets_of(run))


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[tick, proofs, books],
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Notifies of the checks of severity ERROR that a run did not pass, each failure once.",
)
@logs.bound()
def a_check_failed(context: dg.RunStatusSensorContext, project: ProjectOfRun) -> None:
    """Notifies of the checks of severity ERROR that a run did not pass."""
    run_id = context.dagster_run.run_id
    logged = context.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [entry.dagster_event.asset_check_evaluation_data for entry in logged if entry.dagster_event]
    failed = [
        (one.asset_key.to_user_string(), one.check_name, one.description or "")
        for one in found
        if not one.passed and one.severity == dg.AssetCheckSeverity.ERROR
    ]
    notify_checks(project, failed, run_id, _markets_of(context.dagster_run))


def _markets_of(run: dg.DagsterRun) -> list[str]:
    """The markets that a run was narrowed to; none: it was not."""
    resources: Any = run.run_config.get("resources", {})
    return list(resources.get("turn", {}).get("config", {}).get("symbols", []))
