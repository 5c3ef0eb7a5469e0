"""The paper operator, for programs: the same as `mm paper`. No order is placed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from mm_dagster.api import answers
from mm_dagster.pages.plain import plain
from mm_dagster.pipeline.access import Caller
from mm_dagster.pipeline.project import Project


class Begin(BaseModel):
    """Which grids are left on paper, and when."""

    model_config = ConfigDict(extra="forbid")
    level: Literal["WARNING", "LATEST_ACCEPTABLE_EXIT", "MANDATORY_EXIT"] = "LATEST_ACCEPTABLE_EXIT"
    grids: Annotated[list[str], Field(max_length=200)] = []
    over: Literal[0, 5, 15, 60] | None = None
    since: datetime | None = None
    candles: bool = False


class End(BaseModel):
    """How a session ends."""

    model_config = ConfigDict(extra="forbid")
    let_go: bool = False


def add_sessions(
    app: FastAPI,
    project: Callable[[], Project],
    caller: Callable[..., Caller],
    acting: Callable[..., Caller],
) -> None:
    """Adds the routes.

    Args:
        app: the server's.
        project: makes a project, anew for each request.
        caller: who asks, if they may.
        acting: who acts, if they may.
    """
    asks, acts = Depends(caller), Depends(acting)

    @app.post("/sessions/start", tags=["act"], summary="Begins to leave grids on paper: `mm paper start`")
    def start(asked: Begin, who: Caller = acts) -> dict[str, Any]:
        here = _allowed(project())
        # Imported here because with `mode: off` nothing of this is loaded.
        from mm_dagster.pipeline import paper_sessions

        row = paper_sessions.start(
            here,
            level=asked.level,
            grids=asked.grids,
            over=asked.over,
            since=answers.utc(asked.since),
            on_candles=asked.candles,
            by=who.person or who.through,
        )
        paper_sessions.act(here)
        return plain(paper_sessions.report(here, row["session_id"]))

    @app.post("/sessions/stop", tags=["act"], summary="No new plan on paper; those under way end: `mm paper stop`")
    def stop(asked: End, who: Caller = acts) -> dict[str, Any]:
        here = _allowed(project())
        from mm_dagster.pipeline import paper_sessions

        row = paper_sessions.stop(here, who.person or who.through, let_go=asked.let_go)
        return plain(paper_sessions.report(here, row["session_id"]))

    @app.get("/sessions/status", tags=["state"], summary="What was left on paper, and what that was worth")
    def status(session: str | None = None, who: Caller = asks) -> dict[str, Any]:
        return _report(_allowed(project()), session)

    @app.post("/settlement/trigger", tags=["act"], summary="Settles the plans on paper: journal, ledger and history")
    def settle(session: str | None = None, who: Caller = acts) -> dict[str, Any]:
        here = _allowed(project())
        from mm_dagster.pipeline.exit_ledger import keep

        keep(here)
        return _report(here, session)


def _allowed(project: Project) -> Project:
    """Raises:
    HTTPException: nothing is left on paper here.
    """
    if not project.config.orders.allows("paper"):
        raise HTTPException(409, f"orders.yaml: mode: {project.config.orders.mode} allows no plan on paper")
    return project


def _report(project: Project, session: str | None) -> dict[str, Any]:
    from mm_dagster.pipeline import paper_sessions

    row = paper_sessions.newest(project) if session is None else paper_sessions.one(project, session)
    if row is None:
        raise HTTPException(404, "there is no such session")
    return plain(paper_sessions.report(project, row["session_id"]))
