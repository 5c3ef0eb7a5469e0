"""Stage 8, alerts: what is due is noted, sent once, and noted again. Outside of partitions and backfills."""

import dagster as dg
import polars as pl

from mm_dagster.defs.describe import checked, preview, stage_asset
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import findings
from mm_dagster.pipeline.notify import send_due
from mm_dagster.tables.registry import STAGES


@stage_asset(
    kinds={"pushover"},
    cadence="when_due",
    deps=STAGES["notification"].after,
    pool="alerts",
    checks={
        "everything_due_was_taken": "Every channel took what it was given. If not: it is tried again by itself; "
        "`mm alert-test` tries each channel, `mm doctor` its credentials."
    },
)
def notification(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """The ledger of alerts: a row is committed before anything is sent, and again with what became of it.

    A crash between the two sends again rather than never. Only the newest state of a fresh bar is news, so a backfill
    never sends. What quiet hours, limits an hour and the monthly budget hold back is noted with the reason and sent
    later if it is still true. A simulated market, and everything while there are no credentials, goes to the log.
    """
    sent, ledger = send_due(project, context.run.run_id, turn.time)
    shown = ["grid_id", "as_of", "kind", "state", "priority", "status", "channel", "title"]
    return dg.MaterializeResult(
        metadata={
            "notified": sent.filter(pl.col("status") == "SENT").height,
            "preview": preview(ledger.sort("created_at").tail(10).select(shown)),
        },
        check_results=[checked(findings.of_notices(sent))],
    )
