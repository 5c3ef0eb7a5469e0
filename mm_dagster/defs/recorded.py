"""Stage 6, books: what the recorder kept of order books. A run of its own after each quarter hour, never in a tick."""

from datetime import timedelta

import dagster as dg

from mm_dagster import logs
from mm_dagster.bars import floor_bar, iso
from mm_dagster.defs.automation import OFFSET_MINUTES, books
from mm_dagster.defs.describe import checked, page, preview
from mm_dagster.defs.partitions import history_asset, partition_of, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.defs.runs import under_way
from mm_dagster.pipeline import book_features as features
from mm_dagster.pipeline import book_findings, exhibits, segments
from mm_dagster.pipeline.book_profile import keep_profiles
from mm_dagster.pipeline.recorder_watch import is_recorded, watch

LONGEST = timedelta(hours=1)
"""A run that is older is dead."""
CADENCE = "when_due"
"""Where nothing is recorded, nothing is made, which is no failure."""
AFTER_MINUTES = (OFFSET_MINUTES + 3) % 15
"""Minutes after a quarter hour: the tick comes first."""


@history_asset(
    "book_segment",
    kinds={"parquet"},
    cadence=CADENCE,
    checks={
        book_findings.COMPLETE: "Every segment has all frames that were written, and is what was sealed. If not: the "
        "sentence names the file; `mm books replay` says what of it can be read, and the log is kept where it is.",
        book_findings.AGREE: "The exchange's best prices are those of the book with the same number. If not: look at "
        "the market with `mm books replay`; the recorder misread what the exchange sends.",
        book_findings.CROSSED: "No book was given up because its best prices crossed. If not: nothing is to do, the "
        "book was asked for again; if it is often, messages are missed that nobody tells of.",
        book_findings.SAME: "Each replay gave the states that the recorder had, byte for byte. If not: features of "
        "these quarter hours are not what was live; another version of the program recorded, or a file was changed.",
        book_findings.CLOCK: "The exchanges' times of events are within a second of ours. If not: set the clock of "
        "this computer by NTP; the line may be slow as well.",
        book_findings.ALIVE: "The recorder works, and every market has a book. If not: the sentence says what to do; "
        "`mm books status` says how each market stands.",
    },
)
def book_segment(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """Each finished quarter hour of each recorded market as one Parquet file, replayed, with a row of what is in it.

    The log of the recorder is sealed as soon as the next quarter hour has begun. The books themselves stay beside the
    lake. Each file is looked at for changed bytes once a day. One market's failure never stops the others. When it is
    red: what was recorded is not lost; the check names the file.
    """
    job = work(context, project, turn)
    done = segments.keep_segments(project, context.run.run_id, looks_at_all=job.tick is None)
    for sentence in [*done.problems.values(), *done.changed]:
        context.log.error(sentence)
    rows = project.lake.read("book_segment", span=job.window)
    shown = ["exchange", "symbol", "as_of", "messages", "bytes", "is_complete", "crossed", "quotes_differing"]
    return dg.MaterializeResult(
        metadata={
            "sealed": done.sealed,
            "replayed": done.replayed,
            "preview": preview(rows.sort("as_of").tail(12).select(shown)),
        },
        check_results=[checked(one) for one in book_findings.of_segments(project, job.window, done)],
    )


@history_asset("book_gap", kinds={"parquet"}, cadence=CADENCE)
def book_gap(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """Each place where something of a recorded market may be missing, and why: of the log, or of the book.

    `book_segment` writes both, from the same replay; here only what is lacking is made.
    """
    job = work(context, project, turn)
    done = segments.keep_segments(project, context.run.run_id)
    rows = book_findings.gaps(project, job.window)
    return dg.MaterializeResult(
        metadata={"replayed": done.replayed, "gaps": rows.height, "preview": preview(rows.tail(12).drop("number"))}
    )


@history_asset("book_features", kinds={"numba", "polars"}, also_after=["book_gap"], cadence=CADENCE)
def book_features(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """Spread, depth, imbalances, order flow, VPIN, Kyle's lambda and more of each sealed quarter hour.

    From segments alone, so that a row made years later is the one of then, bit for bit; a row is made anew when the
    configuration, its segment, or the code has changed. No decision reads them; `mm evaluate --candidates` asks whether
    they know more than the break probability. When it is red: the error names the file; all other rows are made.
    """
    job = work(context, project, turn)
    done = features.keep_features(project, context.run.run_id, job.window)
    for name, said in done.problems.items():
        context.log.error(f"{name}: {said}")
    rows = project.lake.read("book_features", span=job.window)
    shown = ["exchange", "symbol", "as_of", "in_sync_share", "spread_bp", "bid_depth_10bp", "vpin", "rv_mid", "lead_ms"]
    return dg.MaterializeResult(
        metadata={
            "rows_changed": done.rows,
            "preview": preview(rows.sort("as_of").tail(12).select(shown)),
            **page(exhibits.days_of_books(project, rows)),
        }
    )


@history_asset("liquidity_profile", kinds={"polars"}, cadence=CADENCE)
def liquidity_profile(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """What the book of each recorded market is like at each hour of the day, over the four weeks before.

    Median spread and depth, and what one quarter hour of ten exceeds or falls short of. By the hour of the day, not of
    the week: four weeks are too few for that. The plan to leave a grid says what its hour is usually like.
    """
    newest = keep_profiles(project, context.run.run_id, work(context, project, turn).window)
    shown = ["exchange", "symbol", "hour", "days", "spread_bp", "spread_bp_90", "bid_depth_10bp", "bid_depth_10bp_low"]
    return dg.MaterializeResult(metadata={"rows": newest.height, "preview": preview(newest.head(24).select(shown))})


@dg.schedule(
    job=books,
    cron_schedule=",".join(str(quarter + AFTER_MINUTES) for quarter in (0, 15, 30, 45)) + " * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="After each quarter hour, behind the tick, where something is or was recorded.",
)
@logs.bound()
def every_quarter_hour_of_books(
    context: dg.ScheduleEvaluationContext, project: ProjectOfRun
) -> dg.RunRequest | dg.SkipReason:
    """A run where books.yaml says record, or something is there to be sealed; one at a time."""
    if not is_recorded(project):
        return dg.SkipReason("books.yaml: record is false, and nothing was ever recorded")
    if under_way(context.instance, books.name, LONGEST):
        return dg.SkipReason("the last run is under way; the next one takes up what is left")
    as_of = floor_bar(context.scheduled_execution_time)
    return dg.RunRequest(
        run_key=f"books {iso(as_of)}",
        partition_key=partition_of(as_of),
        run_config={"resources": {"turn": {"config": {"as_of": iso(as_of)}}}},
    )


@dg.sensor(
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of a recorder that is silent, loses messages, or has no room, once, and when it is over.",
)
@logs.bound()
def recorder_is_alive(context: dg.SensorEvaluationContext, project: ProjectOfRun) -> dg.SensorResult:
    """Looks at what the recorder said last; off: nobody hears that it died."""
    if not project.config.books.record:
        return dg.SensorResult(skip_reason="books.yaml: record is false", cursor="")
    memory, told = watch(project, context.cursor)
    return dg.SensorResult(skip_reason=f"{told} alerts were noted" if told else "nothing is new", cursor=memory)
