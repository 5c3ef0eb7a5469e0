"""What every request passes: is it meant for us, is it small and soon enough; and what every answer carries."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any

from mm_dagster import environment, logs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("mm_dagster.api")

MOST_BYTES = 16_384
"""Of a body; the longest that is asked for is a note."""
BODY_SECONDS = 10.0
"""In which all of a body must have come."""
REQUEST_ID = "x-request-id"
FAILED = "it failed; the log says why, under this request_id"

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Refused(Exception):
    """A request that is not listened to.

    Attributes:
        status: of HTTP.
        words: why, in one line.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


class Gate:
    """Stands before the app; a request that is refused never reaches it."""

    def __init__(
        self, app: App, hosts: Collection[str], note: Callable[[str | None, str, int, float], None] = lambda *_: None
    ) -> None:
        """
        Args:
            app: what lies behind it.
            hosts: names by which this server may be called, without ports.
            note: is told route, method, status and seconds of each request.
        """
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, started = time.monotonic(), 500, False
        heads = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = heads.get(REQUEST_ID, "")
        number = given if environment.is_request_id(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = number

        async def sending(message: Scope) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                had = {name.lower() for name, _ in message["headers"]}
                extra = {REQUEST_ID: number, **HEADERS}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in had),
                ]
            await send(message)

        with logs.bound(request_id=number):
            try:
                self._look(scope, heads)
                await self._app(scope, _bounded(receive, heads), sending)
            except Refused as refused:
                status = refused.status
                await _answer(sending, refused.status, refused.words, number)
            except Exception:
                # What it was stands in the log, under its number; who asked is told the number.
                logger.exception("%s %s failed", scope["method"], scope["path"][:200])
                if not started:
                    await _answer(sending, 500, FAILED, number)
            finally:
                route = getattr(scope.get("route"), "path", None)
                self._note(route, scope["method"], status, time.monotonic() - began)

    def _look(self, scope: Scope, heads: Mapping[str, str]) -> None:
        """
        Raises:
            Refused: the name that it is called by is not its own, or what it is asked is too long.
        """
        if hostname(heads.get("host", "")) not in self._hosts:
            raise Refused(421, "this server is not called so; `mm serve --allow-host NAME` adds a name")
        if len(scope["path"]) + len(scope.get("query_string", b"")) > 2_000:
            raise Refused(414, "the address is too long")
        length = heads.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            raise Refused(413, f"a body has at most {MOST_BYTES} bytes")


def hostname(host: str) -> str:
    """The name in a Host header or an origin, without its port."""
    name = host.rsplit("//", 1)[-1].strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


def _bounded(receive: Receive, heads: Mapping[str, str]) -> Receive:
    """The body in pieces, of which there are not too many, and which do not dawdle."""
    left, until = MOST_BYTES, time.monotonic() + BODY_SECONDS
    has_body = heads.get("content-length", "0") != "0" or "transfer-encoding" in heads
    done = not has_body

    async def receiving() -> Scope:
        nonlocal left, done
        if done:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.001, until - time.monotonic()))
        except TimeoutError:
            raise Refused(408, f"the body did not come within {BODY_SECONDS:g} s") from None
        left -= len(message.get("body", b""))
        if left < 0:
            raise Refused(413, f"a body has at most {MOST_BYTES} bytes")
        done = not message.get("more_body", False)
        return message

    return receiving


async def _answer(send: Send, status: int, words: str, number: str) -> None:
    body = json.dumps({"error": words, "request_id": number}).encode()
    heads = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": heads})
    await send({"type": "http.response.body", "body": body})
