"""The server: JSON for programs, the live page for people, one stream of news, the metrics.

A request passes `gate.Gate` first. Who may, says `access.Access`. Nothing that is asked by GET changes anything, no
endpoint changes the configuration, and runs, backfills and lineage stay with Dagster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from mm_dagster.api import answers, metrics
from mm_dagster.api.collecting import Collecting, UnderWay
from mm_dagster.api.exits import add_exits
from mm_dagster.api.gate import FAILED, Gate, hostname
from mm_dagster.api.kept import DAYS, Kept
from mm_dagster.api.news import MOST_STREAMS, News
from mm_dagster.api.pages import add_pages
from mm_dagster.api.sessions import add_sessions
from mm_dagster.errors import ForeseenError
from mm_dagster.pages.plain import plain
from mm_dagster.pipeline.access import SESSION_SECONDS, Access, Caller, TooManyFailures
from mm_dagster.pipeline.answers import answer
from mm_dagster.pipeline.project import Project

COOKIE = "mm_session"

TAGS = [
    {"name": "state", "description": "What is true now, and was."},
    {"name": "act", "description": "What you did, and a tick of its own."},
    {"name": "service", "description": "For probes, Prometheus and pages."},
]


@dataclass(frozen=True)
class Server:
    """What the app is made of.

    Attributes:
        project: makes a project, anew for each request: an edited configuration is live.
        access: who may.
        hosts: names by which it may be called.
        is_tls: whether browsers reach it by https, so that the cookie never leaves it.
        dagster: where Dagster's page is; None: nobody said.
        collecting: the ticks that programs ask for.
    """

    project: Callable[[], Project]
    access: Access
    hosts: Collection[str]
    is_tls: bool = False
    dagster: str | None = None
    collecting: Collecting = field(default_factory=Collecting)


class Code(BaseModel):
    """A one-time code, as `mm link` gives it."""

    model_config = ConfigDict(extra="forbid")
    code: Annotated[str, Field(max_length=64)]


class Done(BaseModel):
    """What you did about a grid."""

    model_config = ConfigDict(extra="forbid")
    action: Literal["stopped", "reduced", "kept", "snoozed", "reopened"]
    note: Annotated[str | None, Field(max_length=500)] = None
    at: datetime | None = None


def create_app(server: Server) -> Gate:
    """The server's app, behind its gate."""
    kept = Kept(server.project)
    news = News(kept.look, kept.warm)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(news.watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            server.collecting.end()

    app = FastAPI(
        title="mm_dagster",
        version=version("mm-dagster"),
        summary="May the grids go on?",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_tags=TAGS,
        redirect_slashes=False,
    )
    app.state.server, app.state.news = server, news
    latency = metrics.Latency()
    _say_errors(app)
    _service(app, server, news, latency)
    _state(app, kept)
    _act(app, server)
    add_sessions(app, server.project, caller, acting)
    add_exits(app, server.project, person, caller, acting)
    add_pages(app, kept, person, server.dagster)
    return Gate(app, server.hosts, latency.observe)


# who --------------------------------------------------------------------------------------------------------------


def caller(request: Request) -> Caller:
    """Who asks.

    Raises:
        HTTPException: nobody who may.
    """
    server: Server = request.app.state.server
    address = request.client.host if request.client else "-"
    header = request.headers.get("authorization")
    if header is not None:
        try:
            found = server.access.program(header, address)
        except TooManyFailures as failure:
            raise _slow_down(failure) from None
    else:
        found = person(request)
    if found is None:
        raise HTTPException(401, "bring `Authorization: Bearer TOKEN`, or enter with a code of `mm link`")
    return found


def person(request: Request) -> Caller | None:
    """Whose session a browser brings; None: nobody's, or it is over."""
    server: Server = request.app.state.server
    return server.access.person_of(request.cookies.get(COOKIE, ""))


def acting(request: Request, who: Annotated[Caller, Depends(caller)]) -> Caller:
    """Who acts: a person's browser must say that our own page asks.

    Raises:
        HTTPException: nobody who may, or another page asks.
    """
    if who.through == "page":
        _refuse_other_pages(request)
    return who


def _refuse_other_pages(request: Request) -> None:
    server: Server = request.app.state.server
    origin = request.headers.get("origin", "")
    if hostname(origin) not in {host.lower() for host in server.hosts} or request.headers.get("sec-fetch-site") not in (
        None, "same-origin", "none",
    ):  # fmt: skip
        raise HTTPException(403, "another page asked for this")


def _slow_down(failure: TooManyFailures) -> HTTPException:
    return HTTPException(429, "too many failures; wait", headers={"Retry-After": f"{failure.seconds}"})


Who = Annotated[Caller, Depends(caller)]
Acts = Annotated[Caller, Depends(acting)]


# errors ---------------------------------------------------------------------------------------------------------------


def _say_errors(app: FastAPI) -> None:
    """Every error is one line of JSON with the number of the request."""

    def said(request: Request, status: int, words: str, headers: Any = None) -> JSONResponse:
        number = request.scope.get("state", {}).get("request_id")
        return JSONResponse({"error": words, "request_id": number}, status, headers)

    @app.exception_handler(StarletteHTTPException)
    async def of_http(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return said(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_values(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # What was sent is not said again: it may be a secret in the wrong place.
        where = ".".join(str(part) for part in first["loc"])
        return said(request, 422, f"{where}: {first['msg']}")

    @app.exception_handler(answers.NotThere)
    async def of_nothing(request: Request, error: answers.NotThere) -> JSONResponse:
        return said(request, 404, str(error))

    @app.exception_handler(ForeseenError)
    async def of_the_foreseen(request: Request, error: ForeseenError) -> JSONResponse:
        return said(request, 409, str(error))

    @app.exception_handler(Exception)
    async def of_the_rest(request: Request, error: Exception) -> JSONResponse:
        return said(request, 500, FAILED)


# routes ---------------------------------------------------------------------------------------------------------------


def _service(app: FastAPI, server: Server, news: News, latency: metrics.Latency) -> None:
    @app.get("/health", tags=["service"], summary="Is the server up? Open to everybody, and says nothing else")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", tags=["service"], summary="Is what it says up to date? 503 and the parts that are not")
    def ready(who: Who) -> Response:
        fine, parts = answers.ready(server.project())
        return JSONResponse({"ready": fine, "parts": parts}, 200 if fine else 503)

    @app.get("/metrics", tags=["service"], summary="What Prometheus scrapes: docs/metrics.md")
    def scraped(who: Who) -> Response:
        return Response(metrics.render(server.project(), latency), media_type=metrics.CONTENT_TYPE)

    @app.get("/stream", tags=["service"], summary="Server-sent events: `changed` with a commit's number, and `alive`")
    async def stream(
        who: Annotated[Caller, Depends(caller)], last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        if news.streams >= MOST_STREAMS:
            raise HTTPException(503, "too many streams; close a page")
        seen = int(last_event_id) if last_event_id and last_event_id.isdigit() else None
        return StreamingResponse(news.stream(seen), media_type="text/event-stream")

    @app.post("/enter", tags=["service"], summary="A session for a one-time code, which is spent", status_code=204)
    def enter(request: Request, code: Code) -> Response:
        _refuse_other_pages(request)
        try:
            session = server.access.redeem(code.code, request.client.host if request.client else "-")
        except TooManyFailures as failure:
            raise _slow_down(failure) from None
        if session is None:
            raise HTTPException(403, "this code is none, or was spent, or is over; `mm link` gives another")
        answered = Response(status_code=204)
        answered.set_cookie(
            COOKIE, session, max_age=SESSION_SECONDS, httponly=True, samesite="lax", secure=server.is_tls, path="/"
        )
        return answered

    @app.post("/leave", tags=["service"], summary="Forgets the cookie of this browser", status_code=204)
    def leave(request: Request) -> Response:
        _refuse_other_pages(request)
        answered = Response(status_code=204)
        answered.delete_cookie(COOKIE, path="/")
        return answered


def _state(app: FastAPI, kept: Kept) -> None:
    @app.get("/status", tags=["state"], summary="All of it: problems, the worst grid, each grid")
    def status(who: Who) -> dict[str, Any]:
        return kept.answered(lambda reading: answers.status(reading.page()))

    @app.get("/grids", tags=["state"], summary="Each grid: state, reasons, what next, money")
    def grids(who: Who) -> dict[str, Any]:
        return {"grids": kept.answered(lambda reading: answers.status(reading.page()))["grids"]}

    @app.get("/grids/{grid_id}", tags=["state"], summary="One grid")
    def grid(grid_id: str, who: Who) -> dict[str, Any]:
        return kept.answered(lambda reading: answers.grid(reading.page(), grid_id))

    @app.get("/grids/{grid_id}/history", tags=["state"], summary="What was decided, bar by bar; a week by default")
    def history(
        grid_id: str,
        who: Who,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: Annotated[int, Query(ge=1, le=answers.MOST_ROWS)] = 1_000,
    ) -> dict[str, Any]:
        return kept.answered(
            lambda reading: answers.history(reading.project, grid_id, answers.utc(since), answers.utc(until), limit)
        )

    @app.get(
        "/grids/{grid_id}/exit-cost", tags=["state"], summary="The plan to leave it: what, how long, what it costs"
    )
    def exit_cost(grid_id: str, who: Who) -> dict[str, Any]:
        return kept.answered(lambda reading: answers.exit_cost(reading.project, grid_id))

    @app.get("/portfolio", tags=["state"], summary="What a bad night costs all grids together; limits")
    def portfolio(who: Who) -> dict[str, Any]:
        return kept.answered(lambda reading: answers.portfolio(reading.project))

    @app.get("/alerts", tags=["state"], summary="Messages, newest first, and what was done about each")
    def alerts(who: Who, days: Annotated[int, Query(ge=1, le=92)] = DAYS) -> dict[str, Any]:
        return kept.answered(lambda reading: answers.alerts(reading.page(days)))

    @app.get(
        "/performance/stats", tags=["state"], summary="Were the alerts right, how soon was acted, how many ticks ran"
    )
    def stats(who: Who, days: Annotated[int, Query(ge=1, le=366)] = 30) -> dict[str, Any]:
        return kept.answered(lambda reading: answers.performance(reading.project, days))


def _act(app: FastAPI, server: Server) -> None:
    @app.post("/grids/{grid_id}/respond", tags=["act"], summary="What you did: the same row as `mm respond`")
    def respond(grid_id: str, done: Done, who: Acts) -> dict[str, Any]:
        project = server.project()
        answers.known(project, grid_id)
        now = project.now().replace(microsecond=0)
        at = answers.utc(done.at) or now
        if at > now:
            raise HTTPException(422, "at: lies ahead; write when it was done")
        try:
            row, more = answer(
                project, grid_id, done.action, at, done.note or None, person=who.person, through=who.through
            )
        except ValueError as error:
            raise HTTPException(409, str(error)) from None
        noted = row.row(0, named=True)
        names = ("response_id", "grid_id", "action", "at", "note", "person", "seconds_from_alert", "within_window")
        sentence = f"Noted: {done.action}.{f' {more}' if more else ''}"
        return plain({name: noted[name] for name in names} | {"sentence": sentence})

    @app.post(
        "/metrics/collect",
        tags=["act"],
        summary="A tick now, beside the schedule; 202 with its number",
        status_code=202,
    )
    def collect(
        request: Request, who: Acts, idempotency_key: Annotated[str | None, Header(max_length=128)] = None
    ) -> JSONResponse:
        try:
            run = server.collecting.begin(idempotency_key, request.scope["state"]["request_id"])
        except UnderWay as other:
            raise HTTPException(409, f"run {other} is under way; wait for it") from None
        return JSONResponse(
            {"run_id": run.run_id, "state": run.state}, 202, {"Location": f"/metrics/collect/{run.run_id}"}
        )

    @app.get("/metrics/collect/{run_id}", tags=["act"], summary="What became of it")
    def collected(run_id: str, who: Who) -> dict[str, str]:
        run = server.collecting.run(run_id)
        if run is None:
            raise HTTPException(404, "there is no such run since the server began")
        return {"run_id": run.run_id, "state": run.state}
