"""What the operator did about a grid is noted and counted, and the episode of one that they stopped is closed."""

from datetime import datetime

import polars as pl

from mm_dagster.alerts.responses import response
from mm_dagster.config.whole import SIMULATED
from mm_dagster.grid import episode
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.exhibits import Picture
from mm_dagster.pipeline.judge import answers_in
from mm_dagster.pipeline.project import Project
from mm_dagster.text import did_you_mean


def answer(
    project: Project,
    grid_id: str,
    action: str,
    at: datetime,
    note: str | None,
    *,
    told_by: str | None = None,
    person: str | None = None,
    through: str = "mm",
    to: str | None = None,
    key: str | None = None,
) -> tuple[pl.DataFrame, str | None]:
    """Notes an answer. Emergencies that it ends are cancelled by the next run of the sender.

    Args:
        project: where the ledger is.
        grid_id: a grid of the configuration, or one of former episodes, whose file may be gone.
        action: see words.RESPONSES.
        at: when it was done, UTC.
        note: in the operator's words.
        told_by: the venue that told of it; None: the operator did.
        person: whose answer it is; None: not said.
        through: where it came in; see the table.
        to: the alert_id of the message that it is given to; None: to the last one.
        key: names an answer that may come in twice, which is then noted once; None: it comes in once.

    Returns:
        The row of `operator_response`, and what is left to do, in a sentence; None: nothing.

    Raises:
        ValueError: there is no such grid, or nothing to answer; in one line.
    """
    lake = project.lake
    with project.turn_lock():
        stored = lake.read("grid_episode")
        configured = {grid.id: grid for grid in project.config.grids}
        known = sorted({*configured, *stored["grid_id"].to_list()})
        if grid_id not in known:
            raise ValueError(f"{grid_id!r} is no grid of the configuration{did_you_mean(grid_id, known)}")
        grid = configured.get(grid_id)
        begun = set(stored.filter((pl.col("grid_id") == grid_id) & pl.col("enabled"))["activated_at"])
        begun |= {grid.activated_at} if grid and grid.enabled else set()
        if not begun:
            raise ValueError(f"{grid_id}: it never ran, its file says `enabled: false`; nothing to respond to")
        windows = project.config.exit.window_minutes
        ledger, before = lake.read("notification"), lake.read("operator_response")
        row = response(grid_id, action, at, note, ledger, windows, sorted(begun), before, told_by, to, key)
        if key is None or row["response_id"][0] not in before["response_id"]:
            row = row.with_columns(person=pl.lit(person, pl.String), through=pl.lit(through))
            lake.upsert("operator_response", row, commit=Commit("mm", "operator_response", f"{at:%Y-%m-%dT%H:%MZ}"))
        changed = episode.stopped(stored, answers_in(project))
        if changed.height:
            lake.upsert("grid_episode", changed, commit=Commit("mm", "grid_episode", ""))
    activated_at = row["activated_at"][0]
    runs = grid is not None and grid.enabled and grid.activated_at == activated_at
    if action == "stopped" and grid_id in project.gone_grids:
        return row, f"{grid_id}: its episode is closed. Its file is gone, so it is no longer watched."
    if action == "stopped" and runs:
        return row, (
            f"{grid_id}: its episode is closed and nothing more of it is told. Its file still reads `enabled: true`: "
            "set it to false, or give it a new activated_at when it runs again."
        )
    return row, None


def response_figures(project: Project) -> dict[str, pl.DataFrame | Picture]:
    """How soon and how often the operator answered, by month and state, with the picture of it.

    Once there are alerts of a live exchange, rehearsals on recorded or simulated candles are left out.
    """
    # Imported here because it loads matplotlib, and every run of any job loads this module.
    from mm_dagster.pictures import quality

    kpis = project.lake.sql("FROM response_kpis")
    kind = next((one for one in ("ccxt", "recorded", "simulated") if one in set(kpis["kind"])), None)
    kpis = kpis.filter(pl.col("kind").eq_missing(kind)).drop("kind")
    if kpis.is_empty():
        return {"by_month_and_state": kpis}
    prefix = SIMULATED if kind == "simulated" else ""
    drawn = quality.response_picture(kpis, title_prefix=prefix, dots_per_inch=60)
    return {"by_month_and_state": kpis, "picture": Picture(drawn, "minutes to act, and alerts answered")}
