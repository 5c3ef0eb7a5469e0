"""Studies: what the strategies hold, and would have earned. Nothing that decides reads them."""

import dagster as dg

from mm_dagster.defs.describe import checked, page, preview, stage_asset
from mm_dagster.defs.partitions import DAILY, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.errors import ForeseenError
from mm_dagster.pipeline import strategies
from mm_dagster.pipeline.exhibits import newest_each
from mm_dagster.pipeline.findings import Finding
from mm_dagster.tables.registry import STAGES

NOTHING_HIDDEN = "every_trial_is_counted"


@stage_asset(
    kinds={"polars", "parquet"},
    cadence="when_due",
    deps=STAGES["strategy_signal"].after,
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    code_version=STAGES["strategy_signal"].code_version,
)
def strategy_signal(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """What trend following, mean reversion, range trading and funding carry would hold at each bar. No advice.

    Made only when somebody asks for it: neither a tick nor a backfill makes it. What each of them is: docs/studies.md.
    """
    done = strategies.hold(work(context, project, turn))
    shown = ["symbol", "strategy", "as_of", "position"]
    return dg.MaterializeResult(
        metadata={"rows_changed": done.changed, "preview": preview(newest_each(done.newest, shown))}
    )


@stage_asset(
    kinds={"numba", "polars"},
    cadence="month",
    code_version=STAGES["strategy_performance"].code_version,
    deps=STAGES["strategy_performance"].after,
    checks={
        NOTHING_HIDDEN: "What was tried stands in the ledger of trials, and every verdict counts all of it. If not: "
        "nothing was studied; the reason says why."
    },
)
def strategy_performance(context: dg.AssetExecutionContext, project: ProjectOfRun) -> dg.MaterializeResult:
    """What the four strategies and their matrix would have earned on the watched markets, beside their controls.

    Once a month, and only with `monthly: true` in strategies.yaml. Each figure has its interval, and what passes the
    promotion gate is told; nothing is switched on. By hand, and for an idea of your own: `mm strategies study`.
    """
    if not project.config.strategies.monthly:
        return dg.MaterializeResult(
            check_results=[checked(Finding(NOTHING_HIDDEN, True, "Nothing was studied: `monthly` is off."))]
        )
    try:
        done = strategies.study_of_the_month(project, context.log.info)
    except ForeseenError as error:
        return dg.MaterializeResult(check_results=[checked(Finding(NOTHING_HIDDEN, False, f"{error}."))])
    if done is None:
        return dg.MaterializeResult(
            check_results=[checked(Finding(NOTHING_HIDDEN, False, "Nothing was studied: no candle is stored yet."))]
        )
    return dg.MaterializeResult(
        metadata=page({"days": str(done.study.days), "verdicts": strategies.verdicts(done)}),
        check_results=[checked(strategies.finding(NOTHING_HIDDEN, done))],
    )
