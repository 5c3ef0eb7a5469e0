"""The live page on loopback: its renderers behind the smallest server that speaks the contract.

The real one is `mm serve`. This one lets a test say what it answers, what the stream says, and when.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse

from mm_dagster.api.gate import CSP
from mm_dagster.pages import live

Shown = Callable[[str, dict[str, str], bool], str]
"""From path, query and whether only a part is wanted, the page."""


@dataclass
class Served:
    """What a test sees and says.

    Attributes:
        url: where it listens.
        answers: what was posted to a grid, as (grid, content, headers).
        sentence: what an answer is told.
        gets: the paths that were asked for, pages only.
        streams: how many are open.
        refuses: the status with which an answer is refused; None: it is taken.
    """

    url: str = ""
    answers: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    sentence: str = "Noted: kept."
    gets: list[str] = field(default_factory=list)
    streams: int = 0
    refuses: int | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _queues: set[asyncio.Queue[str]] = field(default_factory=set)

    def tell(self, event: str) -> None:
        """An event to every open stream; none ends it."""
        assert self._loop is not None, "nothing listens yet"
        for queue in list(self._queues):
            self._loop.call_soon_threadsafe(queue.put_nowait, event)


@contextmanager
def serving(shown: Shown) -> Iterator[Served]:
    """Serves until the block ends."""
    found = Served()
    config = uvicorn.Config(
        _app(found, shown), host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    ready = threading.Event()

    def run() -> None:
        async def listen() -> None:
            found._loop = asyncio.get_running_loop()
            task = asyncio.create_task(server.serve())
            while not server.started and not task.done():
                await asyncio.sleep(0.01)
            ready.set()
            await task

        asyncio.run(listen())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30), "the server did not start"
    found.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        found.tell("")
        server.should_exit = True
        thread.join(10)


def _app(found: Served, shown: Shown) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Any) -> Response:
        answer = await call_next(request)
        answer.headers["Content-Security-Policy"] = CSP
        return answer

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        path = live.STATIC / name
        return FileResponse(path, media_type=live.TYPES[path.suffix]) if path.is_file() else Response(status_code=404)

    @app.get("/stream")
    async def stream() -> Response:
        return StreamingResponse(_events(found), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.get("/enter")
    def door() -> Response:
        return HTMLResponse(live.enter())

    @app.post("/grids/{grid}/respond")
    async def respond(grid: str, request: Request) -> Response:
        found.answers.append((grid, await request.json(), dict(request.headers)))
        if found.refuses:
            return JSONResponse({"detail": found.sentence}, status_code=found.refuses)
        return JSONResponse({"sentence": found.sentence})

    @app.get("/{path:path}")
    def page(path: str, request: Request) -> Response:
        found.gets.append(f"/{path}")
        part = request.headers.get("x-part") == "main"
        return HTMLResponse(shown(f"/{path}", dict(request.query_params), part))

    return app


async def _events(found: Served) -> AsyncIterator[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    found._queues.add(queue)
    found.streams += 1
    try:
        yield ": open\n\n"
        while True:
            event = await queue.get()
            if not event:
                return
            yield f"event: {event}\ndata: 1\n\n"
    finally:
        found._queues.discard(queue)
        found.streams -= 1
