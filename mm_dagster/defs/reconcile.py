"""What puts the past right by itself: days that are missing, days that are stale, and a second look at yesterday.

A tick puts the last `history.catch_up_days` right; what lies further back is asked for here, oldest first, a month at
a time, and never while a tick is under way. Runs of the job `history` send nothing: only the newest state is news.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from mm_dagster import logs
from mm_dagster.bars import BAR, Span, iso, midnight, parse_time
from mm_dagster.config import RecordedVenue
from mm_dagster.defs.automation import OFFSET_MINUTES, history, tick, under_way
from mm_dagster.defs.describe import KIND_TAG, RECONCILE
from mm_dagster.defs.partitions import dependents, partition_of, range_tags
from mm_dagster.defs.resources import Project
from mm_dagster.history.completeness import holes

RECONCILE_TAG = "mm/reconcile"
FIRST_WAIT = timedelta(minutes=15)
LONGEST_WAIT = timedelta(days=7)
LONGEST_RUN = timedelta(hours=3)
"""What began before is no longer at work."""


@dataclass(frozen=True)
class Repair:
    """Days to compute again.

    Attributes:
        name: tells it from others; the same as long as it is about the same.
        span: whole days.
        symbols: markets.
        absent: how much is to be put right: rows that are missing, or bars that changed.
        why: in one word.
    """

    name: str
    span: Span
    symbols: tuple[str, ...]
    absent: int
    why: str


def repairs(project: Project, now: datetime) -> list[Repair]:
    """What is to be put right, oldest first: by market what is stale, by month what is missing."""
    config, lake = project.config, project.lake
    found = []
    pending = lake.read("candle_revision", symbols=config.symbols).filter(pl.col("recomputed_at").is_null())
    if pending.height:
        newest = lake.newest("regime_verdict")
        for symbol, rows in pending.sort("symbol").partition_by("symbol", as_dict=True, maintain_order=True).items():
            name = str(symbol[0])
            first: datetime = rows["open_time"].min()  # type: ignore[assignment]
            last: datetime = rows["open_time"].max()  # type: ignore[assignment]
            until = newest.get(name, first)
            ends = [dependents(opened, config.grids_on(name), until).end for opened in (first, last)]
            span = Span(midnight(first.date()), midnight((max(ends) - BAR).date()) + timedelta(days=1))
            found.append(Repair(f"{name} {iso(first)}", span, (name,), rows.height, "revised"))
    # What is newer is the tick's. Whole days, so that of a market that is dead no more is missing every quarter hour.
    until = midnight((now - timedelta(days=config.history.catch_up_days - 1)).date())
    # A recording does not grow.
    growing = [symbol for symbol in config.symbols if not isinstance(config.venue_of(symbol)[1], RecordedVenue)]
    missing = holes(lake, config, until).filter(pl.col("symbol").is_in(growing))
    months = missing.group_by(month=pl.col("day").dt.truncate("1mo")).agg(
        first=pl.col("day").min(),
        last=pl.col("day").max(),
        symbols=pl.col("symbol").unique().sort(),
        absent=pl.col("absent").sum(),
    )
    for row in months.iter_rows(named=True):
        span = Span(row["first"], row["last"] + timedelta(days=1))
        found.append(Repair(f"{row['month']:%Y-%m}", span, tuple(row["symbols"]), row["absent"], "missing"))
    return sorted(found, key=lambda repair: (repair.span.start, repair.name))


def choose(
    found: Sequence[Repair], tried: Mapping[str, Sequence[Any]], now: datetime
) -> tuple[Repair | None, dict[str, list[Any]]]:
    """The oldest repair whose turn it is: one that changed nothing is asked for again after twice as long as before.

    Args:
        found: what is to be put right, oldest first.
        tried: by name, how much was absent when it was asked for, when that may be again, and the wait, seconds.
        now: the time.

    Returns:
        What to ask for, and the new `tried`, in which nothing is kept of what is whole by now.
    """
    kept = {repair.name: list(tried[repair.name]) for repair in found if repair.name in tried}
    for repair in found:
        absent, due, wait = kept.get(repair.name, (None, "", 0.0))
        if absent != repair.absent:
            wait = FIRST_WAIT.total_seconds()
        elif parse_time(due) > now:
            continue
        else:
            wait = min(2 * wait, LONGEST_WAIT.total_seconds())
        kept[repair.name] = [repair.absent, iso(now + timedelta(seconds=wait)), wait]
        return repair, kept
    return None, kept


@dg.sensor(
    job=history,
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for days that are missing or stale, oldest first, one month a run. Off: holes stay.",
)
@logs.told()
def the_past_is_not_whole(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult | dg.SkipReason:
    """Asks for days that are missing or stale, oldest first, one month a run; never while a tick is under way."""
    now = datetime.now(UTC)
    if any(under_way(context.instance, job.name, LONGEST_RUN) for job in (tick, history)):
        return dg.SkipReason("a tick or a run over whole days is under way")
    tried = json.loads(context.cursor) if context.cursor else {}
    repair, tried = choose(repairs(project, now), tried, now)
    if repair is None:
        waiting = f"; {len(tried)} were tried in vain and wait" if tried else ""
        return dg.SensorResult(skip_reason=f"nothing is missing or stale{waiting}", cursor=json.dumps(tried))
    return dg.SensorResult(run_requests=[request(repair)], cursor=json.dumps(tried))


def request(repair: Repair) -> dg.RunRequest:
    """The run that puts it right; it stands behind the tick in the queue."""
    return dg.RunRequest(
        run_config={"resources": {"turn": {"config": {"symbols": list(repair.symbols)}}}},
        tags=_tags(repair.span, repair.why),
    )


@dg.schedule(
    job=history,
    cron_schedule=f"{OFFSET_MINUTES + 7} 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Asks the venues once more for the last two days, since some revise their bars hours later.",
)
@logs.told()
def every_night_again(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """The last two whole days, asked for although they are known."""
    today = midnight(context.scheduled_execution_time.date())
    return dg.RunRequest(
        run_key=f"again {partition_of(today)}",
        run_config={"resources": {"turn": {"config": {"again": True}}}},
        tags=_tags(Span(today - timedelta(days=2), today), "again"),
    )


def _tags(span: Span, why: str) -> dict[str, str]:
    """Of one run over several daily partitions, which lets a tick go first."""
    return {**range_tags(span), "dagster/priority": "-1", KIND_TAG: RECONCILE, RECONCILE_TAG: why}
