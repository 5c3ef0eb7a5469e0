"""Stage 10, evaluation, once a month: what the signals were worth, and the models that might tell more.

It reads the lake, and writes its own tables only.
"""

from datetime import datetime

import dagster as dg
from pydantic import Field

from mm_dagster.bars import parse_time
from mm_dagster.defs.describe import checked, page, preview, stage_asset
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.evaluation import monthly
from mm_dagster.pipeline.coverage import TRUE, judge_nights
from mm_dagster.pipeline.evaluate import CAME_TRUE, HEARD, SANE, exhibits_of, fit_candidates, judge_signals
from mm_dagster.pipeline.exhibits import listed
from mm_dagster.pipeline.findings import Finding
from mm_dagster.research import candidates
from mm_dagster.tables.registry import STAGES


class Until(dg.Config):
    """How far a judgement looks."""

    until: str = Field(
        default="",
        description="Judge up to the beginning of this month, like 2026-06-01; empty: of the newest candle's month.",
    )


@stage_asset(
    kinds={"numba", "polars"},
    cadence="month",
    code_version=STAGES["signal_quality"].code_version,
    deps=STAGES["signal_quality"].after,
    checks={
        HEARD: "The break probability of the last year ranked better than chance and meant what "
        "it said. If not: look at the pictures; the market is not what the signals were made for, or the data is "
        "wrong.",
        CAME_TRUE: "After breaks below, the cost of leaving came within its 80 % interval about as often as that says. "
        "If not: trust the order book and not the interval; after a break these markets move otherwise than where it "
        "was fitted.",
    },
)
def signal_quality(context: dg.AssetExecutionContext, project: ProjectOfRun, config: Until) -> dg.MaterializeResult:
    """What every signal was worth in the last year, beside rules that anybody could follow, with 95 % intervals.

    On grids that a fixed rule opens every day on every market, whatever the signals say; on the operator's own grids,
    each cut where they ended it; and of what they were notified of: were the alerts right, how early, how soon were
    they answered. Made once a month up to the last whole month, and by hand for any other: a month that is judged again
    replaces its rows. What is judged and what each metric means: docs/evaluation.md.
    """
    done = judge_signals(project, context.run.run_id, _until(config.until), context.log.info)
    if done is None:
        return dg.MaterializeResult(
            check_results=[
                checked(Finding(name, False, "Nothing was judged: no candle is stored yet."))
                for name in (HEARD, CAME_TRUE)
            ]
        )
    found = done.assessment
    for reason in found.left_out:
        context.log.warning(f"not judged: {reason}")
    return dg.MaterializeResult(
        metadata={
            "days": str(done.days),
            "rows_changed": done.changed,
            "grids_of_the_rule": found.grids[monthly.RULE],
            "grids_of_the_operator": found.grids[monthly.REAL],
            "of_these_cut": found.censored,
            "not_judged": dg.MetadataValue.md(listed(found.left_out)),
            **page(exhibits_of(project, found)),
        },
        check_results=[checked(finding) for finding in done.findings],
    )


@stage_asset(
    kinds={"numba", "polars"},
    cadence="month",
    code_version=STAGES["portfolio_coverage"].code_version,
    deps=STAGES["portfolio_coverage"].after,
    checks={
        TRUE: "Nights of your own grids were worse than the figure about as often as it says. If not: trust the sum of "
        "all stops and not the night; `mm evaluate --portfolio` looks at all watched markets."
    },
)
def portfolio_coverage(context: dg.AssetExecutionContext, project: ProjectOfRun, config: Until) -> dg.MaterializeResult:
    """Whether the loss figure of all grids together came true on the operator's own grids, in the last year.

    From midnight to midnight: how many nights were worse than one in 20, or in 100, is; whether they followed each
    other; and how bad they were. Made once a month up to the last whole month.
    """
    done = judge_nights(project, context.run.run_id, _until(config.until))
    if done is None:
        return dg.MaterializeResult(
            check_results=[checked(Finding(TRUE, False, "No night was looked at: no candle is stored yet."))]
        )
    shown = ["quote", "level", "days", "hits", "rate", "kupiec_p", "christoffersen_p", "z2", "z2_p"]
    return dg.MaterializeResult(
        metadata={
            "days": str(done.days),
            "rows_changed": done.changed,
            "coverage": preview(done.rows.select(shown)),
        },
        check_results=[checked(done.finding)],
    )


if not candidates.missing():

    @stage_asset(
        kinds={"numba", "polars"},
        cadence="month",
        code_version=STAGES["candidate_parameters"].code_version,
        deps=STAGES["candidate_parameters"].after,
        checks={
            SANE: "The newest models can be believed: in every GARCH a shock dies away, and every "
            "state of a hidden Markov model is visited. If not: wait a month; nothing that decides reads them."
        },
    )
    def candidate_parameters(context: dg.AssetExecutionContext, project: ProjectOfRun) -> dg.MaterializeResult:
        """The models that might tell of a break, fitted at the beginning of each month on the 60 days before it.

        A hidden Markov model and a GARCH(1,1) of every watched market's hourly returns, for each month of the window of
        evaluation.yaml and the one under way. Nothing that decides reads them: `mm evaluate --candidates` asks whether
        they know more than the break probability. A month is fitted again only when its candles, the code or the
        library have changed; each row has the hash of what it was fitted on, and of what came of it.
        """
        done = fit_candidates(project, context.run.run_id, context.log.info, context.log.warning)
        if done.months is None:
            return dg.MaterializeResult(check_results=[checked(done.finding)])
        first, last = done.months
        return dg.MaterializeResult(
            data_version=dg.DataVersion(done.identity),
            metadata={
                "months": f"{first:%Y-%m} to {last:%Y-%m}",
                "fitted": done.fitted,
                "kept": done.rows.height - done.fitted,
                "rows_changed": done.changed,
                "fitted_with": ", ".join(done.rows["fitted_with"].unique().sort()) or "nothing",
                "not_fitted": dg.MetadataValue.md(listed(done.left_out)),
                "newest_month": preview(done.newest),
            },
            check_results=[checked(done.finding)],
        )


def _until(text: str) -> datetime | None:
    """The month of a run by hand.

    Raises:
        dg.Failure: it is not a time.
    """
    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise dg.Failure(f"until: {error}") from None
