"""Studies of makers on recorded books, when somebody asks. Nothing that decides reads them, and nothing quotes."""

import dagster as dg

from mm_dagster.defs.describe import checked, page, preview, stage_asset
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.pipeline import makers
from mm_dagster.pipeline.exhibits import Picture, listed
from mm_dagster.tables.registry import STAGES

TOLD = "what_passes_is_told"


@stage_asset(kinds={"polars"}, cadence="when_due", deps=["maker_study"], code_version=STAGES["fill_model"].code_version)
def fill_model(context: dg.AssetExecutionContext, project: ProjectOfRun) -> dg.MaterializeResult:
    """How likely a quote is filled within 5 s and what it is worth then, as fitted before each stretch of a study.

    Ridge logistic regression by reweighted least squares: every number is a column value, and has a hash. Written by
    the study that `maker_study` makes; here it is only shown.
    """
    rows = project.lake.read("fill_model")
    shown = rows.select("study", "market", "as_of", "samples", "fills", "parameters_hash").sort("as_of").tail(10)
    return dg.MaterializeResult(metadata={"models": rows.height, "preview": preview(shown)})


@stage_asset(
    kinds={"polars"},
    cadence="when_due",
    deps=["maker_study"],
    code_version=STAGES["maker_fill"].code_version,
)
def maker_fill(context: dg.AssetExecutionContext, project: ProjectOfRun) -> dg.MaterializeResult:
    """Every fill of the newest studies, its PnL in parts, and what it was worth 1, 5 and 30 s later.

    Written by the study that `maker_study` makes; here it is only shown.
    """
    rows = project.lake.read("maker_fill")
    return dg.MaterializeResult(metadata={"fills": rows.height, "preview": preview(rows.sort("at").tail(10))})


@stage_asset(
    kinds={"numba", "polars"},
    cadence="when_due",
    code_version=STAGES["maker_study"].code_version,
    checks={
        TOLD: "The study was made, and what passes the promotion gate is told. If not: the reason says why; nothing "
        "that decides reads it."
    },
)
def maker_study(context: dg.AssetExecutionContext, project: ProjectOfRun) -> dg.MaterializeResult:
    """What a naive maker, GLFT and one that quotes only what is worth something would have made of recorded books.

    On every market of books.yaml that was recorded for long enough, stretch by stretch, fitted on the earlier ones,
    at six fees, beside the same quotes at other times and doing nothing. By hand: `mm makers study`.
    """
    done, left_out = makers.study_of_the_recorded(project, "asset", context.log.info)
    shown = {}
    for one in done:
        shown[one.source.market.replace(":", "_").replace("-", "_")] = Picture(
            makers.picture_of(one), f"What makers made of {one.source.market}"
        )
    return dg.MaterializeResult(
        metadata={"left_out": dg.MetadataValue.md(listed(left_out)), **page(shown)},
        check_results=[checked(makers.finding(TOLD, done, left_out))],
    )
