"""Stage 3, grid: where the price stands in each grid, and whether a waiting one may start."""

import dagster as dg

from mm_dagster.defs.describe import checked, picture, preview
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import exhibits, findings, judge


@history_asset(
    "grid_risk",
    kinds={"polars"},
    checks={
        "episodes_are_unchanged": "No grid was changed without a new activated_at. If not: give the file a new one, "
        "or undo the change; the grid is not judged until then.",
        "account_agrees_with_model": "Where an account is read, it holds what the replay of the candles holds. If "
        "not: look for a trade by hand or a missed fill; the account's figures are used.",
    },
)
def grid_risk(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """Where the price stands in each grid, how likely it is to leave it, and what is at stake in money.

    A running grid is replayed from its activation on, candle by candle: what it bought and sold, what it holds, what
    that is worth, and what waiting may cost. Its configuration is kept with its first evaluation, and a grid that was
    changed without a new activation is refused. Realised and unrealised profit add up to the total; the picture, at
    the full hour, shows the grid with most at stake. What the figures mean: docs/grid.md.
    """
    job = work(context, project, turn)
    done = judge.assess_risk(job)
    for grid_id, reason in done.refused.items():
        context.log.error(reason, extra={"grid": grid_id})
    shown = [
        *("grid_id", "as_of", "price", "position_health", "stop_loss_risk", "risk_level", "p_break_low_24h"),
        *("liquidation_value", "grid_profit", "unrealised_pnl", "total_pnl", "capital_at_risk", "profit_giveback"),
    ]
    newest = exhibits.stacked(done.newest, shown)
    drawn = exhibits.equity_of(project, newest) if job.draws else None
    return dg.MaterializeResult(
        metadata={
            "rows_changed": done.changed,
            "preview": preview(newest),
            **({"equity": picture(drawn)} if drawn else {}),
        },
        check_results=[checked(finding) for finding in findings.of_risks(done)],
    )


@history_asset("entry_assessment", kinds={"polars"})
def entry_assessment(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """For grids that are not running: WAIT, WATCH or ENTER, with the bounds that the range proposes.

    It lengthens a grid's life; it was not found to earn more.
    """
    done = judge.assess_entry(work(context, project, turn))
    shown = ["grid_id", "as_of", "advice", "price", "lower", "upper", "p_leave_72h", "reasons"]
    newest = exhibits.stacked(done.newest, shown)
    return dg.MaterializeResult(metadata={"rows_changed": done.changed, "preview": preview(newest)})
