"""Stage 3, grid: where the price stands in each grid, and whether a waiting one may start."""

import dagster as dg
import polars as pl

from mm_dagster.config import GridConfig
from mm_dagster.defs.describe import OWNERS, columns_of, preview
from mm_dagster.defs.partitions import BACK, DAILY, Work, work
from mm_dagster.defs.resources import Project, Turn
from mm_dagster.grid import entry, episode, risk
from mm_dagster.tables import CODE_VERSIONS


@dg.asset(
    deps=["regime_features"],
    partitions_def=DAILY,
    backfill_policy=BACK,
    group_name="grid",
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=CODE_VERSIONS["grid_risk"],
    metadata=columns_of("grid_risk"),
    check_specs=[
        dg.AssetCheckSpec(
            "episodes_are_unchanged",
            asset="grid_risk",
            description="No grid was changed without a new activated_at.",
        )
    ],
)
def grid_risk(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """Where the price stands in each grid, and how likely it is to leave it or to touch the stop.

    Modelled from the grid's configuration and the candles. A grid is followed from its activation on; its configuration
    is kept with its first evaluation, and a grid that was changed without a new activation is refused.
    """
    job = work(context, project, turn)
    changed, last, refused = 0, [], []
    _keep_episodes(job)
    for symbol in job.symbols:
        for grid in job.grids(symbol):
            differing = _changed_keys(job, grid)
            if differing:
                project.failures[grid.id] = (
                    f"{grid.id}: {', '.join(differing)} changed since {grid.activated_at:%Y-%m-%dT%H:%MZ}; "
                    "a changed grid is a new episode: give it a new activated_at"
                )
                refused.append(project.failures[grid.id])
                context.log.error(refused[-1])
                continue
            span = job.grid_span(grid, "grid_risk")
            features = project.lake.read("regime_features", span=span, symbols=[symbol])
            rows = job.stamp(risk.compute(grid, features, span, job.config.risk), "grid_risk", symbol, grid)
            changed += job.write("grid_risk", rows, span, grids=[grid.id])
            last.append(rows.tail(1))
    shown = ["grid_id", "as_of", "price", "position_health", "stop_loss_risk", "risk_level", "p_break_low_24h"]
    return dg.MaterializeResult(
        metadata={"rows_changed": changed, "preview": preview(_stack(last, shown))},
        check_results=[
            dg.AssetCheckResult(
                check_name="episodes_are_unchanged",
                passed=not refused,
                severity=dg.AssetCheckSeverity.ERROR,
                description="; ".join(refused) or f"{len(last)} grids are as they were first seen.",
            )
        ],
    )


@dg.asset(
    deps=["regime_verdict"],
    partitions_def=DAILY,
    backfill_policy=BACK,
    group_name="grid",
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=CODE_VERSIONS["entry_assessment"],
    metadata=columns_of("entry_assessment"),
)
def entry_assessment(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """For grids that are not running: WAIT, WATCH or ENTER, with the bounds that the range proposes.

    It lengthens a grid's life; it was not found to earn more.
    """
    job = work(context, project, turn)
    changed, last = 0, []
    for symbol in job.symbols:
        for grid in job.grids(symbol):
            if grid.enabled:
                continue
            span = job.grid_span(grid, "entry_assessment")
            rows = entry.assess(
                grid,
                project.lake.read("regime_features", span=span, symbols=[symbol]),
                project.lake.read("regime_verdict", span=span, symbols=[symbol]),
                span,
                job.config.risk,
            )
            rows = job.stamp(rows, "entry_assessment", symbol, grid)
            changed += job.write("entry_assessment", rows, span, grids=[grid.id])
            last.append(rows.tail(1))
    shown = ["grid_id", "as_of", "advice", "price", "lower", "upper", "p_leave_72h", "reasons"]
    return dg.MaterializeResult(metadata={"rows_changed": changed, "preview": preview(_stack(last, shown))})


def _keep_episodes(job: Work) -> None:
    """Stores each grid with its first evaluation, and closes the episodes that are over."""
    lake = job.project.lake
    stored = lake.read("grid_episode")
    known = set(zip(stored["grid_id"], stored["activated_at"], strict=True))
    begun = [grid for symbol in job.symbols for grid in job.grids(symbol)]
    fresh = [
        episode.episode_of(grid, first_seen=grid.first_as_of)
        for grid in begun
        if (grid.id, grid.activated_at) not in known
    ]
    rows = (
        pl.concat([*fresh, episode.closings(stored, job.config.grids, job.window.end)])
        if fresh
        else (episode.closings(stored, job.config.grids, job.window.end))
    )
    if not rows.is_empty():
        with job.project.turn_lock():
            lake.upsert("grid_episode", rows, commit=job.commit("grid_episode", job.window))


def _changed_keys(job: Work, grid: GridConfig) -> list[str]:
    stored = job.project.lake.read("grid_episode", grids=[grid.id]).filter(pl.col("activated_at") == grid.activated_at)
    return episode.changed_keys(grid, stored.row(0, named=True)) if stored.height else []


def _stack(frames: list[pl.DataFrame], columns: list[str]) -> pl.DataFrame:
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    return pl.concat(frames).select(columns)
