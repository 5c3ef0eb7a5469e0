"""What the set-up of a grid still waits for, in the operator's words. Nothing of it is a danger, and nothing rings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, Span, floor_bar, iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.reach import WHOLE_BARS, fully_judged_from

NOT_ACTIVE = "It was not active yet"
"""Of a moment before the activation that somebody looks up."""


def unfinished(
    project: Project,
    grids: Sequence[GridConfig],
    states: pl.DataFrame,
    clock: datetime,
    *,
    looked_up: bool = False,
) -> dict[str, str]:
    """For each running grid that is not, or not fully, judged yet, what it waits for.

    A grid of which no tick was finished yet is being set up and not named: a first tick may take long, since it fetches
    the history.

    Args:
        project: where the rows are.
        grids: the grids.
        states: the newest row of `exit_state` of each grid that has one; that of an earlier episode says nothing.
        clock: the moment, UTC.
        looked_up: whether it is a moment of the past that somebody asked for.

    Returns:
        A sentence by grid_id.
    """
    rows = {(row["grid_id"], row["activated_at"]): row for row in states.iter_rows(named=True)}
    found: dict[str, str] = {}
    for grid in grids:
        row = rows.get((grid.id, grid.activated_at))
        if not grid.enabled or (row is not None and row["state"] is not None and not row["never_known"]):
            continue
        if looked_up and grid.activated_at > clock:
            found[grid.id] = f"{NOT_ACTIVE}: this episode begins {iso(grid.activated_at)}."
            continue
        sentence = _waits_for(project, grid, row, clock)
        if sentence:
            found[grid.id] = sentence
    return found


def _waits_for(project: Project, grid: GridConfig, row: Mapping[str, Any] | None, clock: datetime) -> str | None:
    if grid.activated_at > clock:
        return (
            f"Its activation lies ahead: {iso(grid.activated_at)}, and now it is {iso(clock)}. A local time taken for "
            "UTC looks like this."
        )
    if row is not None and row["state"] is not None:
        return _too_short(project, grid, row)
    tick = _last_tick(project, grid, clock)
    if tick is None:
        return None
    failed = [
        part for part in (tick["reason"] or "").split("; ") if part.startswith((f"{grid.symbol}: ", f"{grid.id}: "))
    ]
    if failed:
        return f"The tick of {iso(tick['as_of'])} says of {failed[0]}."
    if _first_bar(project, grid.symbol) is None:
        return f"No candle of {grid.symbol} is known. Is that its name at the venue? `mm doctor` asks."
    return f"No candle of {grid.symbol} since the activation {iso(grid.activated_at)} is known."


def _too_short(project: Project, grid: GridConfig, row: Mapping[str, Any]) -> str:
    """The history that there is, and when it will be enough."""
    names = ", ".join(row["never_known"])
    first = _first_bar(project, grid.symbol)
    days = WHOLE_BARS / DAY_BARS
    ready = fully_judged_from(first) if first else None
    if first is None or ready is None or ready <= row["as_of"]:
        return f"Not fully judged yet: not known since the activation: {names}. The history has holes."
    return (
        f"Not fully judged yet: the history of {grid.symbol} begins {iso(first)} and {days:.0f} days are needed; known "
        f"from about {iso(ready)[:10]}. Not known yet: {names}."
    )


def _first_bar(project: Project, symbol: str) -> datetime | None:
    """Opening time of the first candle that is known."""
    sql = f"SELECT min(open_time) AS first FROM candles WHERE symbol = '{symbol}' AND status <> 'MISSING'"
    first: datetime | None = project.lake.sql(sql)["first"][0]
    return first


def _last_tick(project: Project, grid: GridConfig, clock: datetime) -> dict[str, Any] | None:
    """The newest tick that was finished since the grid's activation."""
    newest = project.lake.sql(
        f"SELECT max(as_of) AS newest FROM tick WHERE finished_at IS NOT NULL AND as_of <= '{iso(floor_bar(clock))}' "
        f"AND as_of >= '{iso(grid.first_as_of)}'"
    )["newest"][0]
    if newest is None:
        return None
    return project.lake.read("tick", span=Span(newest - BAR, newest)).row(0, named=True)
