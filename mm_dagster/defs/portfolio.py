"""Stage 5, portfolio: what all grids may lose together in one night, and which limits that passes. It stops nothing."""

import dagster as dg

from mm_dagster.defs.describe import checked, page, preview
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import exhibits, findings, portfolio


@history_asset(
    "portfolio_risk",
    kinds={"numba"},
    also_after=["exit_state"],
    checks={
        "the_night_can_be_told": "The past of each market with a running grid is known. If not: nothing is said of all "
        "grids together: the reason names the market; `mm backfill` fetches what is older."
    },
)
def portfolio_risk(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """What all running grids may lose together within 24 hours: in one night of 20, and in one of 100.

    The markets follow each night of the past months again, in units of today's volatility, and every grid is replayed
    on it from where it stands. When it is red: nothing is said of all grids together; the state of each stands.
    """
    job = work(context, project, turn)
    done = portfolio.assess_portfolio(job)
    picture = exhibits.night_of_all(project, job.window.end) if job.draws else None
    shown = [
        *("quote", "grids", "capital", "var_5_24h", "es_5_24h", "var_1_24h", "diversification", "counts_as"),
        *("p_half_break_24h", "all_stops", "drawdown_share", "drawdown_level", "reason"),
    ]
    return dg.MaterializeResult(
        metadata={
            "rows_changed": done.changed,
            "night": preview(exhibits.stacked([done.newest], shown)),
            **(page({"what all grids may lose": picture}) if picture else {}),
        },
        check_results=[checked(findings.of_portfolio(done.newest))],
    )


@history_asset("portfolio_contribution", kinds={"numba"}, also_after=["portfolio_risk"])
def portfolio_contribution(
    context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn
) -> dg.MaterializeResult:
    """How much each running grid has of the bad night, and what stopping it would take off.

    `portfolio_risk` writes both, from the same nights; here only what is lacking is made.
    """
    done = portfolio.share_out(work(context, project, turn))
    shown = ["quote", "grid_id", "capital", "es_5_contribution", "es_5_share", "stopping_takes_off", "p_break_24h"]
    newest = exhibits.stacked(done.newest, shown)
    return dg.MaterializeResult(metadata={"rows_changed": done.changed, "preview": preview(newest)})


@history_asset("limit_state", kinds={"polars"})
def limit_state(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """Each limit of portfolio.yaml beside its value: breached since when, and how much room is left.

    They advise: a message says when one is breached and when it is over, and nothing is stopped.
    """
    done = portfolio.watch_limits(work(context, project, turn))
    shown = ["quote", "limit", "subject", "value", "threshold", "breached", "since", "room"]
    newest = exhibits.stacked(done.newest, shown)
    return dg.MaterializeResult(metadata={"rows_changed": done.changed, "preview": preview(newest)})
