"""Stage 7, execution: what leaving a grid costs. No decision reads it."""

import dagster as dg

from mm_dagster.defs.describe import page, preview
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import costs, exhibits


@history_asset("exit_cost", kinds={"polars"}, also_after=["book_snapshot"])
def exit_cost(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """What selling all that a grid holds would cost now, and over 5, 15 and 60 minutes, with 80 and 90 % intervals.

    No decision reads it. It is a model of volume and volatility; beside it stands what the order book of the tick says,
    where one was read. Where more than the volume of a minute is to be sold the horizons are ranked and no figure is
    promised. When it is red: nothing but the costs is missing; the exit states stand.
    """
    job = work(context, project, turn)
    done = costs.cost_exits(job)
    if not job.tick:
        return dg.MaterializeResult(metadata={"rows_changed": done.changed, "days": str(job.window)})
    shown = [
        "grid_id",
        "horizon_minutes",
        "notional",
        "expected_bp",
        "low_80_bp",
        "high_80_bp",
        "chosen",
        "beyond_model",
        "live_expected_bp",
        "shown_share",
    ]
    pictures = exhibits.dearest(project, done.newest) if job.draws else None
    return dg.MaterializeResult(
        metadata={
            "rows_changed": done.changed,
            "costs": preview(exhibits.stacked(done.newest, shown)),
            **(page({"what leaving costs": pictures}) if pictures else {}),
        }
    )
