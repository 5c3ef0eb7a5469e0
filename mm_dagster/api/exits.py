"""Leaving a grid from the page: proposed by whoever may, shown by a signed link, approved by a person who posts it.

The link is signed over the plan and its expiry, shows on GET and acts on POST, once: an approved plan is no proposed
one any more. Programs propose, look and halt; none approves. While orders.yaml says `mode: off` there is nothing here,
and nothing of it is loaded.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from mm_dagster.api.answers import known
from mm_dagster.pages import live
from mm_dagster.pages.plain import plain
from mm_dagster.pipeline.access import Caller
from mm_dagster.pipeline.project import Project
from mm_dagster.text import exact, positive_decimal

if TYPE_CHECKING:
    from mm_dagster.execution.journal import Kept

_KEY = "link.key"
_KEY_BYTES = 32
_OFF = "orders.yaml: mode is off: no grid is left by the program"
PlanId = Annotated[str, Field(pattern=r"^[a-z0-9]{8}$")]


class Wish(BaseModel):
    """How a grid is to be left."""

    model_config = ConfigDict(extra="forbid")
    mode: Literal["paper", "test", "live"] = "paper"
    over: Literal[0, 5, 15, 60] | None = None
    accept: bool = False


class Approval(BaseModel):
    """What a person says who approves a plan; the signature is that of the link."""

    model_config = ConfigDict(extra="forbid")
    until: Annotated[int, Field(ge=0)]
    signature: Annotated[str, Field(max_length=64)]
    stopped: bool = False
    amount: Annotated[str | None, Field(max_length=40)] = None


def add_exits(
    app: FastAPI,
    project_of: Callable[[], Project],
    person_of: Callable[[Request], Caller | None],
    caller: Callable[..., Caller],
    acting: Callable[..., Caller],
) -> None:
    """Adds the addresses at which a grid is left.

    Args:
        app: the server's.
        project_of: makes a project, anew for each request.
        person_of: who looks; None: nobody who has entered.
        caller: who asks, if they may.
        acting: who acts, if they may.
    """
    asks, acts = Depends(caller), Depends(acting)

    def allowed() -> Project:
        project = project_of()
        if project.config.orders.mode == "off":
            raise HTTPException(404, _OFF)
        return project

    @app.post(
        "/grids/{grid_id}/exit", tags=["act"], status_code=201, summary="Proposes a plan to leave it; sells nothing"
    )
    def propose(grid_id: str, wish: Wish, who: Caller = acts) -> dict[str, Any]:
        from mm_dagster.pipeline import exits

        project = allowed()
        known(project, grid_id)
        kept = exits.propose(project, grid_id, wish.mode, over=wish.over, accept=wish.accept)
        answer = _row(kept) | {"expires_at": plain(kept.expires_at)}
        # A program gets no link: a person approves.
        return answer | ({"link": _link(project, kept)} if who.through == "page" else {})

    @app.get("/exits", tags=["state"], summary="All plans to leave a grid, newest first")
    def plans(who: Caller = asks) -> dict[str, Any]:
        from mm_dagster.execution.journal import Journal, exists

        project = allowed()
        found = Journal(project.data).all() if exists(project.data) else ()
        return {"plans": [_row(one) for one in reversed(found)]}

    @app.get("/exits/{plan_id}", tags=["state"], summary="One plan, and each of its steps")
    def plan(plan_id: PlanId, who: Caller = asks) -> dict[str, Any]:
        from mm_dagster.execution.journal import Journal

        journal = Journal(allowed().data)
        events = [asdict(one) for one in journal.events(plan_id)]
        return _row(journal.kept(plan_id)) | {"events": plain(events)}

    @app.post("/exits/{plan_id}/halt", tags=["act"], summary="No further order of this plan")
    def halt(plan_id: PlanId, who: Caller = acts) -> dict[str, Any]:
        from mm_dagster.pipeline import exits

        kept = exits.halt(allowed(), plan_id, who.person or who.through)
        return _row(kept) | {"sentence": "Halted. What was sent is sent."}

    @app.get("/x/{plan_id}", include_in_schema=False)
    def shown(
        request: Request,
        plan_id: PlanId,
        until: Annotated[int, Query(ge=0)],
        signature: Annotated[str, Query(max_length=64)],
        x_part: Annotated[str, Header()] = "",
    ) -> Response:
        person = person_of(request)
        if person is None:
            return HTMLResponse(live.enter(), 401)
        project = allowed()
        kept = _signed(project, plan_id, until, signature)
        text = live.exit_plan(
            _page(project, kept), until=until, signature=signature, person=person.person, part=x_part == "main"
        )
        return HTMLResponse(text)

    @app.post("/x/{plan_id}", include_in_schema=False)
    def approve(plan_id: PlanId, approval: Approval, who: Caller = acts) -> JSONResponse:
        from mm_dagster.pipeline import exits

        if who.through != "page":
            raise HTTPException(403, "a person approves: open the link in a browser that has entered")
        project = allowed()
        _signed(project, plan_id, approval.until, approval.signature)
        kept = exits.approve(
            project, plan_id, who.person or "page", stopped=approval.stopped, amount=_amount(approval.amount)
        )
        said = "Approved. The schedule carries it out within seconds, if `mm up` runs it; this page says how far it is."
        return JSONResponse(_row(kept) | {"sentence": said})


def _row(kept: Kept) -> dict[str, Any]:
    from mm_dagster.pipeline.exit_ledger import plan_row

    return plain(plan_row(kept))


def _page(project: Project, kept: Kept) -> Mapping[str, Any]:
    """What the page of a plan shows."""
    from mm_dagster.execution.journal import Journal
    from mm_dagster.execution.machine import limit_of

    rules, terms = kept.plan.terms.rules, kept.plan.terms
    base, _, quote = terms.symbol.partition("-")
    price = kept.forecast.get("price")
    return {
        "kept": kept,
        "row": _row(kept),
        "events": Journal(project.data).events(kept.plan_id),
        "amount": rules.amount(terms.inventory),
        "base": base,
        "quote": quote,
        "limit": limit_of(terms, exact(price)) if price else None,
        "is_open": kept.plan.state == "PROPOSED" and kept.expires_at > project.now(),
        "timezone": project.config.alerts.timezone,
        "simulated": project.config.market(terms.symbol).is_simulated,
    }


def _amount(text: str | None) -> Decimal | None:
    """What a person typed.

    Raises:
        HTTPException: it is no amount.
    """
    if not text:
        return None
    found = positive_decimal(text)
    if found is None:
        raise HTTPException(422, "amount: write it with a point, like 0.42")
    return found


# the signature --------------------------------------------------------------------------------------------------------


def _link(project: Project, kept: Kept) -> str:
    until = int(kept.expires_at.timestamp())
    return f"/x/{kept.plan_id}?{urlencode({'until': until, 'signature': _signature(project, kept.plan_id, until)})}"


def _signature(project: Project, plan_id: str, until: int) -> str:
    return hmac.new(_key(project.data), f"{plan_id}.{until}".encode(), hashlib.sha256).hexdigest()


def _signed(project: Project, plan_id: str, until: int, signature: str) -> Kept:
    """The plan of a link that we made, and whose time is not over.

    Raises:
        HTTPException: it is none of ours, or too old.
        JournalError: there is no such plan.
    """
    from mm_dagster.execution.journal import Journal

    if not hmac.compare_digest(_signature(project, plan_id, until).encode(), signature.encode()):
        raise HTTPException(403, "this link is none of ours")
    kept = Journal(project.data).kept(plan_id)
    if int(kept.expires_at.timestamp()) != until:
        raise HTTPException(403, "this link is none of ours")
    return kept


def _key(data: Path) -> bytes:
    """The key of this data folder, made when it is first needed; no backup has it."""
    path = data / "orders" / _KEY
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a key that is empty, of a full disk or of a reader in between, could be had by anybody.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{_KEY}-") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)
    return path.read_bytes()
