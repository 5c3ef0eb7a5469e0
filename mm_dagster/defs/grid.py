"""Stage 3, grid: where the price stands in each grid, and whether a waiting one may start."""

from datetime import timedelta

import dagster as dg
import polars as pl

from mm_dagster.bars import Span
from mm_dagster.defs.describe import picture, preview
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pictures import equity
from mm_dagster.pipeline import judge
from mm_dagster.pipeline.work import Work

EQUITY_SHOWN = timedelta(days=30)
"""How much of a grid's life its picture shows."""


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
    changed without a new activation is refused. Realised and unrealised profit add up to the total; the picture shows
    the grid with most at stake. What the figures mean: docs/grid.md.
    """
    job = work(context, project, turn)
    done = judge.assess_risk(job)
    for grid_id, why in done.refused.items():
        context.log.error(why, extra={"grid": grid_id})
    shown = [
        *("grid_id", "as_of", "price", "position_health", "stop_loss_risk", "risk_level", "p_break_low_24h"),
        *("liquidation_value", "grid_profit", "unrealised_pnl", "total_pnl", "capital_at_risk", "profit_giveback"),
    ]
    return dg.MaterializeResult(
        metadata={
            "rows_changed": done.changed,
            "preview": preview(_stack(done.newest, shown)),
            **_equity(job, _stack(done.newest, shown)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="episodes_are_unchanged",
                passed=not done.refused,
                severity=dg.AssetCheckSeverity.ERROR,
                description="; ".join(done.refused.values())
                or f"{len(done.followed)} grids are as they were first seen.",
            ),
            dg.AssetCheckResult(
                check_name="account_agrees_with_model",
                passed=not done.differing,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(done.differing)
                or (
                    f"{done.compared} grids agree with their accounts."
                    if done.compared
                    else "No grid's account is read."
                ),
            ),
        ],
    )


@history_asset("entry_assessment", kinds={"polars"})
def entry_assessment(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """For grids that are not running: WAIT, WATCH or ENTER, with the bounds that the range proposes.

    It lengthens a grid's life; it was not found to earn more.
    """
    done = judge.assess_entry(work(context, project, turn))
    shown = ["grid_id", "as_of", "advice", "price", "lower", "upper", "p_leave_72h", "reasons"]
    return dg.MaterializeResult(metadata={"rows_changed": done.changed, "preview": preview(_stack(done.newest, shown))})


def _equity(job: Work, newest: pl.DataFrame) -> dict[str, dg.MarkdownMetadataValue]:
    """The money of the grid that has most at stake."""
    at_stake = newest.filter(pl.col("capital_at_risk").is_not_null()).sort("capital_at_risk", "grid_id")
    if at_stake.is_empty():
        return {}
    grid = next(grid for grid in job.config.grids if grid.id == at_stake["grid_id"][-1])
    until = at_stake["as_of"][-1]
    rows = job.project.lake.read("grid_risk", span=Span(until - EQUITY_SHOWN, until), grids=[grid.id])
    prefix = job.project.config.market(grid.symbol).label
    drawn = equity.equity_picture(grid, rows, title_prefix=prefix, dots_per_inch=60)
    return {"equity": picture(drawn, f"{grid.id}: what it is worth, realised and unrealised")}


def _stack(frames: list[pl.DataFrame], columns: list[str]) -> pl.DataFrame:
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    return pl.concat(frames).select(columns)
