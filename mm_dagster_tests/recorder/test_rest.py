"""Requests to a venue: bounded in time and size, no redirect, no more of them than it allows, and growing pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from mm_dagster.recorder import rest as room
from mm_dagster.recorder.rest import Budget, Pauses, Rest, RestError, proxy_of, said


class Seconds:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_weights_are_counted_by_the_venues_own_word() -> None:
    clock = Seconds()
    budget = Budget(1000, clock)
    assert budget.wait(5000) == 0.0  # the first one, however heavy
    budget.take(100)
    budget.heard(200, {"X-MBX-USED-WEIGHT-1M": "450"})
    assert budget.wait(50) == 0.0
    assert budget.wait(51) == 60.0
    clock.now += 45
    assert budget.wait(51) == 15.0
    clock.now += 15
    assert budget.wait(51) == 0.0
    budget.take(51)
    assert budget.wait(400) == 0.0
    for nonsense in ("", "-1", "many", "٤٥٠", "9" * 40):
        budget.heard(200, {"X-MBX-USED-WEIGHT-1M": nonsense})
        assert budget.wait(400) == 0.0


def test_a_venue_that_counts_nothing_is_asked_at_once() -> None:
    budget = Budget(None, Seconds())
    for _ in range(1000):
        budget.take(1000)
    assert budget.wait(1000) == 0.0


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (200, {"Retry-After": "30"}, 0.0),
        (429, {"Retry-After": "30"}, 30.0),
        (418, {"Retry-After": "7200"}, 7200.0),
        (418, {"Retry-After": "999999999"}, 86_400.0),
        (429, {"Retry-After": "0"}, 1.0),
        (429, {}, 10.0),
        (418, {}, 300.0),
        (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        (429, {"gw-ratelimit-reset": "2500"}, 2.5),
        (429, {"Retry-After": "-5"}, 10.0),
    ],
)
def test_a_refusal_is_obeyed_for_as_long_as_it_says(status: int, headers: dict[str, str], seconds: float) -> None:
    clock = Seconds()
    budget = Budget(None, clock)
    budget.heard(status, headers)
    assert budget.wait(1) == pytest.approx(seconds)
    clock.now += seconds
    assert budget.wait(1) == 0.0


def test_a_shorter_refusal_ends_no_longer_one() -> None:
    budget = Budget(None, Seconds())
    budget.heard(418, {"Retry-After": "100"})
    budget.heard(429, {"Retry-After": "1"})
    assert budget.wait(1) == 100.0


def test_pauses_grow_to_their_bound_and_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Seconds()
    monkeypatch.setattr(room.time, "monotonic", clock)
    runs = [[Pauses(random.Random(seed), 1.0, 60.0, 180.0)] for seed in range(400)]
    for tries in range(10):
        bound = min(60.0, 2.0**tries)
        drawn = [pauses.next() for (pauses,) in runs]
        assert 0.9 * bound < max(drawn) <= bound
        assert min(drawn) < 0.1 * bound
        assert 0.4 * bound < sum(drawn) / len(drawn) < 0.6 * bound
    pauses = runs[0][0]
    clock.now += 181
    assert pauses.next() <= 1.0
    for _ in range(5):
        pauses.next()
    pauses.worked()
    assert pauses.next() <= 2.0


def test_the_first_request_needs_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Seconds()
    monkeypatch.setattr(room.time, "monotonic", clock)
    pauses = Pauses(random.Random(1), 1.0, 60.0, 180.0, is_at_once=True)
    assert pauses.next() == 0.0
    assert 0.0 < pauses.next() <= 1.0
    clock.now += 181
    assert pauses.next() == 0.0


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def asked(handler: Handler, seconds: float = 5.0) -> bytes:
    """What a request to a server with one answer brings."""

    async def body() -> bytes:
        app = web.Application()
        app.router.add_route("*", "/there", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        async with aiohttp.ClientSession() as session:
            try:
                return await Rest(session, f"http://127.0.0.1:{port}/", Budget(None), seconds).get("/there", {"a": "b"})
            finally:
                await runner.cleanup()

    return asyncio.run(body())


def test_an_answer_comes_as_it_was_sent() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"\xff" + request.query_string.encode())

    assert asked(handler) == b"\xffa=b"


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 403, 404, 429, 500, 503])
def test_whatever_is_not_200_is_no_answer(status: int) -> None:
    visits: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        visits.append(request.path)
        return web.Response(status=status, headers={"Location": "/there?again"}, body=b"" if status == 204 else b"no")

    with pytest.raises(RestError, match=f"/there: answered {status}"):
        asked(handler)
    assert len(visits) == 1


def test_the_deadline_is_for_the_whole_answer() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x")
            await asyncio.sleep(0.05)
        return response

    with pytest.raises(RestError, match=r"/there: no answer within 0\.3 s"):
        asked(handler, 0.3)


def test_a_long_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_BYTES", 1024**2)

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=bytes(2 * 1024**2))

    with pytest.raises(RestError, match="longer than 1 MiB"):
        asked(handler)


def test_an_answer_that_is_cut_off_is_none() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    with pytest.raises(RestError, match=r"/there: ClientPayloadError|/there: ClientConnection"):
        asked(handler)


def test_nobody_there_is_one_line() -> None:
    async def body() -> None:
        async with aiohttp.ClientSession() as session:
            await Rest(session, "http://127.0.0.1:9", Budget(None), 5.0).post("/token")

    with pytest.raises(RestError, match="/token: ClientConnectorError: ") as found:
        asyncio.run(body())
    assert "\n" not in str(found.value)


def test_no_token_is_said() -> None:
    assert said(ValueError("wss://host/endpoint?token=SECRET&x=1: refused\nmore")) == (
        "ValueError: wss://host/endpoint refused"
    )
    assert said(ValueError("url='wss://host/endpoint?token=SECRET'")) == "ValueError: url='wss://host/endpoint'"
    assert said(TimeoutError()) == "TimeoutError"


def test_the_environments_proxy_is_used_but_never_for_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert proxy_of("wss://stream.example/x") == "http://proxy.example:3128"
    assert proxy_of("https://api.example") == "http://proxy.example:3128"
    assert proxy_of("ws://127.0.0.1:80/x") is None
    assert proxy_of("https://localhost") is None
    assert proxy_of("https://inside.example") is None
    assert proxy_of("http://api.example") is None
