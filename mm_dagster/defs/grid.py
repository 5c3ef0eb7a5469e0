"""Stage 3, grid: where the price stands in each grid, and whether a waiting one may start."""

import dagster as dg
import polars as pl

from mm_dagster.bars import iso
from mm_dagster.defs.describe import preview
from mm_dagster.defs.partitions import Work, history_asset, work
from mm_dagster.defs.resources import Project, Turn
from mm_dagster.grid import entry, episode, risk


@history_asset(
    "grid_risk",
    kinds={"polars"},
    deps=["regime_features"],
    checks={"episodes_are_unchanged": "No grid was changed without a new activated_at."},
)
def grid_risk(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """Where the price stands in each grid, and how likely it is to leave it or to touch the stop.

    Modelled from the grid's configuration and the candles. A grid is followed from its activation on; its configuration
    is kept with its first evaluation, and a grid that was changed without a new activation is refused.
    """
    job = work(context, project, turn)
    changed, last = 0, []
    refused = _keep_episodes(job)
    for grid_id, why in refused.items():
        project.failures[grid_id] = why
        context.log.error(why)
    followed = [grid for symbol in job.symbols for grid in job.grids(symbol) if grid.id not in refused]
    for span, grids in job.grid_spans("grid_risk", followed).items() if followed else ():
        features = project.lake.read("regime_features", span=span, symbols=[grid.symbol for grid in grids])
        rows = pl.concat([risk.compute(grid, features, span, job.config.risk) for grid in grids])
        rows = job.stamp(rows, "grid_risk", grids)
        changed += job.write("grid_risk", rows, span, grids=[grid.id for grid in grids])
        last.append(rows.filter(pl.col("as_of") == span.end))
    shown = ["grid_id", "as_of", "price", "position_health", "stop_loss_risk", "risk_level", "p_break_low_24h"]
    return dg.MaterializeResult(
        metadata={"rows_changed": changed, "preview": preview(_stack(last, shown))},
        check_results=[
            dg.AssetCheckResult(
                check_name="episodes_are_unchanged",
                passed=not refused,
                severity=dg.AssetCheckSeverity.ERROR,
                description="; ".join(refused.values()) or f"{len(followed)} grids are as they were first seen.",
            )
        ],
    )


@history_asset("entry_assessment", kinds={"polars"}, deps=["regime_verdict"])
def entry_assessment(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """For grids that are not running: WAIT, WATCH or ENTER, with the bounds that the range proposes.

    It lengthens a grid's life; it was not found to earn more.
    """
    job = work(context, project, turn)
    changed, last = 0, []
    waiting = [grid for symbol in job.symbols for grid in job.grids(symbol) if not grid.enabled]
    for span, grids in job.grid_spans("entry_assessment", waiting).items() if waiting else ():
        symbols = [grid.symbol for grid in grids]
        features = project.lake.read("regime_features", span=span, symbols=symbols)
        verdicts = project.lake.read("regime_verdict", span=span, symbols=symbols)
        rows = pl.concat([entry.assess(grid, features, verdicts, span, job.config.risk) for grid in grids])
        rows = job.stamp(rows, "entry_assessment", grids)
        changed += job.write("entry_assessment", rows, span, grids=[grid.id for grid in grids])
        last.append(rows.filter(pl.col("as_of") == span.end))
    shown = ["grid_id", "as_of", "advice", "price", "lower", "upper", "p_leave_72h", "reasons"]
    return dg.MaterializeResult(metadata={"rows_changed": changed, "preview": preview(_stack(last, shown))})


def _keep_episodes(job: Work) -> dict[str, str]:
    """Stores each grid with its first evaluation and closes the episodes that are over.

    Returns:
        For each grid that was changed without a new activation what to do about it.
    """
    stored = job.project.lake.read("grid_episode")
    known = {(row["grid_id"], row["activated_at"]): row for row in stored.iter_rows(named=True)}
    fresh, refused = [], {}
    for grid in (grid for symbol in job.symbols for grid in job.grids(symbol)):
        row = known.get((grid.id, grid.activated_at))
        if row is None:
            fresh.append(episode.episode_of(grid, first_seen=grid.first_as_of))
        elif changed := episode.changed_keys(grid, row):
            refused[grid.id] = (
                f"{grid.id}: {', '.join(changed)} changed since {iso(grid.activated_at)}; a changed grid is a new "
                "episode: give it a new activated_at"
            )
    rows = pl.concat([*fresh, episode.closings(stored, job.config.grids, job.window.end)])
    if not rows.is_empty():
        with job.project.turn_lock():
            job.project.lake.upsert("grid_episode", rows, commit=job.commit("grid_episode", job.window))
    return refused


def _stack(frames: list[pl.DataFrame], columns: list[str]) -> pl.DataFrame:
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    return pl.concat(frames).select(columns)
