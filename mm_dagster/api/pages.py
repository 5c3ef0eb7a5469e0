"""The live page: what a browser is given at each address. Whoever has not entered sees where one enters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from mm_dagster.api.kept import DAYS, Kept, Reading
from mm_dagster.pages import gather, live
from mm_dagster.pages.page import DAY, Page
from mm_dagster.pipeline.access import Caller
from mm_dagster.pipeline.tick_log import count_ticks
from mm_dagster.web import is_loopback

Days = Annotated[int, Query(ge=1, le=92)]
Part = Annotated[str, Header()]
"""`main`: only the inside of <main> is wanted, by the script that renews the page."""

Write = Callable[[Reading, Page, str | None], str]
"""Makes a page of what was gathered, for a person."""


def add_pages(
    app: FastAPI, kept: Kept, person_of: Callable[[Request], Caller | None], dagster: str | None = None
) -> None:
    """Adds the addresses of the page.

    Args:
        app: the server's.
        kept: what was gathered, and is still true.
        person_of: who looks; None: nobody who has entered.
        dagster: where Dagster's page is; None: nobody said.
    """

    def shown(request: Request, write: Write, days: int = DAYS) -> Response:
        who = person_of(request)
        if who is None:
            return HTMLResponse(live.enter(), 401)
        text = kept.answered(lambda reading: write(reading, reading.page(days), who.person))
        # Of nobody: whose session it is may change, and is asked at each request.
        kept.looked_at((request.url.path, days), lambda reading: write(reading, reading.page(days), None))
        return HTMLResponse(text)

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        path = live.STATIC / name
        # Only what lies in the folder itself: a name with a slash is no route of ours.
        if path.suffix not in live.TYPES or not path.is_file():
            return Response(status_code=404)
        # Its address holds a hash of its content.
        return FileResponse(
            path, media_type=live.TYPES[path.suffix], headers={"cache-control": "public, max-age=31536000, immutable"}
        )

    @app.get("/enter", include_in_schema=False)
    def door() -> Response:
        return HTMLResponse(live.enter())

    @app.get("/", include_in_schema=False)
    def now(request: Request, x_part: Part = "") -> Response:
        return shown(request, _now(x_part == "main"))

    @app.get("/g/{grid_id}", include_in_schema=False)
    def grid(request: Request, grid_id: str, days: Days = DAYS, x_part: Part = "") -> Response:
        return shown(request, _grid(grid_id, x_part == "main"), days)

    @app.get("/right", include_in_schema=False)
    def right(request: Request, x_part: Part = "") -> Response:
        return shown(request, _right(x_part == "main"))

    @app.get("/state", include_in_schema=False)
    def state(request: Request, x_part: Part = "") -> Response:
        return shown(request, _health(x_part == "main", reachable(dagster, request.url.hostname or "")))

    @app.get("/history", include_in_schema=False)
    def history(
        request: Request,
        as_of: Annotated[str | None, Query(max_length=64)] = None,
        days: Days = DAYS,
        x_part: Part = "",
    ) -> Response:
        who = person_of(request)
        if who is None:
            return HTMLResponse(live.enter(), 401)
        text, refused = kept.answered(lambda reading: _history(reading, as_of, days, who.person, x_part == "main"))
        return HTMLResponse(text, 400 if refused else 200)


# what is written ------------------------------------------------------------------------------------------------------


def _now(part: bool) -> Write:
    def write(reading: Reading, found: Page, person: str | None) -> str:
        return live.now(found, reading.drawn(found), reading.nights(found), person=person, part=part)

    return write


def _grid(grid_id: str, part: bool) -> Write:
    def write(reading: Reading, found: Page, person: str | None) -> str:
        one = next((one for one in found.grids if one.grid.id == grid_id), None)
        if one is None:
            return _now(part)(reading, found, person)
        rows = reading.stays(one, found), gather.responses(reading.project, one, found.clock)
        plan, drawn = reading.plan(one, found), reading.drawn(found)
        orders = reading.project.config.orders
        modes = [mode for mode in ("paper", "test", "live") if orders.allows(mode)]
        return live.grid(found, one, drawn, *rows, plan, modes, person=person, part=part)

    return write


def _right(part: bool) -> Write:
    return lambda reading, found, person: live.right(found, *reading.outcomes(), person=person, part=part)


def reachable(address: str | None, host: str) -> str | None:
    """An address, where whoever looks can open it: one of this computer leads nowhere from another.

    Args:
        address: of another page; None: it is not known.
        host: the name by which we were called.
    """
    return None if is_loopback(urlsplit(address or "").hostname or "") and not is_loopback(host) else address


def _health(part: bool, dagster: str | None) -> Write:
    def write(reading: Reading, found: Page, person: str | None) -> str:
        ticks, channels = (of(reading.project, found.clock) for of in (gather.ticks, gather.channels))
        _, due = count_ticks(reading.project.lake, found.clock, DAY)
        return live.health(found, ticks, channels, dagster, due=due, person=person, part=part)

    return write


def _history(reading: Reading, as_of: str | None, days: int, person: str | None, part: bool) -> tuple[str, str | None]:
    """The page of a time, and why the time that was asked for is none."""
    project, moment, refused = reading.project, reading.clock, None
    if as_of is not None:
        try:
            moment = min(live.asked(as_of, project.config.alerts.timezone), moment)
        except ValueError as error:
            refused = str(error)
    found = gather.page(project, moment, looked_up=True, days=days)
    drawn, nights = gather.drawn(project, found), gather.drawn_together(project, found)
    return live.history(found, drawn, nights, refused=refused, person=person, part=part), refused
