"""Stage 4, exit: may the grid go on, and if not, how long is left."""

import dagster as dg
import polars as pl

from mm_dagster import environment
from mm_dagster.alerts.heartbeat import beat
from mm_dagster.bars import iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.defs.describe import glance, picture, preview
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pictures import glance as pictures_glance
from mm_dagster.pipeline import judge
from mm_dagster.pipeline.tell import grid_picture, shown
from mm_dagster.pipeline.work import Work
from mm_dagster.tables.words import STATES


@history_asset(
    "exit_state",
    kinds={"polars"},
    checks={
        "every_active_grid_is_judged": "Each active grid has a state. If not: `mm status` says what its set-up waits "
        "for; a grid that is not judged is not watched, so look at it by hand."
    },
)
def exit_state(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """May the grid go on? NORMAL, WARNING, LATEST_ACCEPTABLE_EXIT or MANDATORY_EXIT, with every trigger and its value.

    The episode is folded from its activation at every evaluation; the state is a function of stored rows alone. What
    only a live run knows, the last price and the clock, stands beside it in live_state. `states` below is the answer of
    now, the picture the grid that most needs a look. When it is red: a grid is not judged, and so not watched.
    """
    job = work(context, project, turn)
    done = judge.judge(job)
    _give_sign_of_life(context, job)
    shown = ["grid_id", "as_of", "state", "literal_state", "since", "recommended_window_minutes"]
    table = (
        pl.concat(done.newest).select(shown) if done.newest else pl.DataFrame(schema=dict.fromkeys(shown, pl.String))
    )
    judged = set(table.filter(pl.col("state").is_not_null())["grid_id"])
    left_out = [grid.id for grid in done.active if grid.id not in judged]
    worst = max(done.active, key=lambda grid: _rank(table, grid.id), default=None)
    return dg.MaterializeResult(
        metadata={
            "rows_changed": done.changed,
            "states": preview(table),
            **(_pictures(job, worst) if worst and worst.id in judged else {}),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="every_active_grid_is_judged",
                passed=not left_out,
                severity=_severity(job, [grid for grid in done.active if grid.id in left_out]),
                description=(
                    f"No state for {', '.join(left_out)}."
                    if left_out
                    else f"All {len(done.active)} active grids are judged at {iso(job.window.end)}."
                ),
            )
        ],
    )


def _severity(job: Work, left_out: list[GridConfig]) -> dg.AssetCheckSeverity:
    """Of grids without a state: an error is that one was judged before; what was never is being set up."""
    if left_out:
        judged = job.project.lake.sql("SELECT DISTINCT grid_id, activated_at FROM exit_state WHERE state IS NOT NULL")
        if not {(grid.id, grid.activated_at) for grid in left_out} & set(judged.iter_rows()):
            return dg.AssetCheckSeverity.WARN
    return dg.AssetCheckSeverity.ERROR


def _give_sign_of_life(context: dg.AssetExecutionContext, job: Work) -> None:
    """Calls the heartbeat's address at the end of a tick, if there is one. It never fails a tick."""
    heart = job.config.alerts.heartbeat
    if job.tick is None or heart is None:
        return
    url = environment.secret(heart.url_env)
    missed = beat(url) if url else f"the variable {heart.url_env} is not set"
    if missed:
        context.log.warning(f"alerts.yaml: heartbeat: {missed}")


def _rank(table: pl.DataFrame, grid_id: str) -> int:
    states = table.filter(pl.col("grid_id") == grid_id)["state"].drop_nulls()
    return STATES.index(states[0]) if states.len() else -1


def _pictures(job: Work, grid: GridConfig) -> dict[str, dg.MarkdownMetadataValue]:
    """The grid that most needs a look: at a glance on the page itself, and whole behind a click."""
    bars = job.project.lake.read("candles", span=shown(job.window.end), symbols=[grid.symbol])
    return {
        "at_a_glance": glance(
            pictures_glance.glance(grid, bars), f"{grid.id} {grid.symbol}: a week of price, grid and stop"
        ),
        "picture": picture(
            grid_picture(job.project, grid, job.window.end, dots_per_inch=60),
            f"{grid.id}: price, grid, regime and exit states",
        ),
    }
