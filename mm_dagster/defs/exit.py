"""Stage 4, exit: may the grid go on, and if not, how long is left."""

import dagster as dg

from mm_dagster.defs.describe import checked, live_page, page, preview
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import exhibits, findings, judge
from mm_dagster.pipeline.notify import give_sign_of_life
from mm_dagster.tables.words import STATES

JUDGED = dg.AssetCheckKey(dg.AssetKey("exit_state"), findings.JUDGED)
"""Looks at the present, so no run over whole days makes it."""


@history_asset("exit_state", kinds={"polars"})
def exit_state(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """May the grid go on? NORMAL, WARNING, LATEST_ACCEPTABLE_EXIT or MANDATORY_EXIT, with every trigger and its value.

    The episode is folded from its activation at every evaluation; the state is a function of stored rows alone. What
    only a live run knows, the last price and the clock, stands beside it in live_state. Of a tick `states` below is the
    answer of now, the picture the grid that most needs a look, whole at the full hour and while one is not NORMAL;
    `live_page` leads to the buttons. When it is red: a grid is not judged, so not watched.
    """
    job = work(context, project, turn)
    done = judge.judge(job)
    link = live_page(project)
    if not job.tick:
        return dg.MaterializeResult(metadata={"rows_changed": done.changed, "days": str(job.window), **link})
    missed = give_sign_of_life(project)
    if missed:
        context.log.warning(missed)
    shown = ["grid_id", "as_of", "state", "literal_state", "since", "recommended_window_minutes"]
    states = exhibits.stacked(done.newest, shown)
    worst = exhibits.worst_grid(done.active, states)
    whole = job.draws or not set(states["state"].drop_nulls()) <= {STATES[0]}
    return dg.MaterializeResult(
        metadata={
            "rows_changed": done.changed,
            **link,
            "states": preview(states),
            **(page(exhibits.pictures_of(project, worst, job.window.end, whole)) if worst else {}),
        },
    )


@dg.asset_check(
    asset=JUDGED.asset_key,
    name=JUDGED.name,
    description="Each active grid has a state. If not: `mm status` says what its set-up waits for; a grid that is not "
    "judged is not watched, so look at it by hand.",
)
def every_active_grid_is_judged(project: ProjectOfRun, turn: Turn) -> dg.AssetCheckResult:
    """Whether the newest tick, or the one of this run, left no grid out."""
    return checked(findings.of_states(project, turn.symbols, turn.time))
