"""The live page over a lake, as `mm serve` gathers it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mm_dagster.pages import gather, live
from mm_dagster.pipeline.project import Project


def shown_of(project: Project, clock: datetime) -> Any:
    """What to serve of a project at a moment."""

    def shown(path: str, query: dict[str, str], part: bool) -> str:
        days = int(query.get("days", 7))
        if path == "/history":
            at = live.asked(query["as_of"], project.config.alerts.timezone) if "as_of" in query else clock
            found = gather.page(project, at, looked_up=True)
            return live.history(found, gather.drawn(project, found), gather.drawn_together(project, found), part=part)
        found = gather.page(project, clock, days=days)
        if path == "/right":
            return live.right(found, *gather.outcomes(project), part=part)
        if path == "/state":
            return live.health(found, gather.ticks(project, clock), gather.channels(project, clock), part=part)
        drawings = gather.drawn(project, found)
        if path.startswith("/g/"):
            one = next(one for one in found.grids if one.grid.id == path[3:])
            stays, responses = gather.stays(project, one, found), gather.responses(project, one, clock)
            plan = gather.leaving_plan(project, one, clock)
            return live.grid(found, one, drawings, stays, responses, plan, person="Anna", part=part)
        return live.now(found, drawings, gather.drawn_together(project, found), person="Anna", part=part)

    return shown
