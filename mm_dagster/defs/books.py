"""Stage 6, books: what leaving would cost now. Beside the decision, never before or in it."""

import dagster as dg

from mm_dagster.defs.describe import checked, preview, stage_asset
from mm_dagster.defs.partitions import work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import books


@stage_asset(
    kinds={"ccxt", "parquet"},
    deps=["exit_state", "entry_assessment"],
    # Of what is ready the last: the snapshot, which ends the tick, waits for no venue.
    op_tags={"dagster/priority": "-1"},
    checks={
        books.READ: "The order book of each market with a running grid was read. If not: nothing is to do, no decision "
        "reads it; the next tick asks again, and `mm doctor` says whether the venue answers."
    },
)
def book_snapshot(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """The public order book of each market with a running grid: spread, depth on both sides, and 100 levels of each.

    Asked for at each live tick after its exit states are stored, all together and for ten seconds at most. What cannot
    be believed (crossed, stale, absurd, another market's) is refused in `refused`, and has no figures. A backfill has
    no rows, and no decision reads them. When it is red: what was refused, and why, stands in the check.
    """
    rows, finding = books.keep_books(work(context, project, turn)) if turn.time else books.nothing()
    if not finding.passed:
        context.log.warning(finding.sentence)
    shown = rows.select(
        "symbol", "asked_at", "mid", "half_spread_bp", "bid_depth_10bp", "bid_depth_50bp", "depth_reach_bp", "refused"
    )
    return dg.MaterializeResult(
        metadata={"books": rows["mid"].count(), "preview": preview(shown)}, check_results=[checked(finding)]
    )
