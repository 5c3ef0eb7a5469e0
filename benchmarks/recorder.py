"""What the recorder costs a message on its way from the socket to log and book: a part of `benchmarks.books`.

A loopback Binance in another process sends recorded messages of BTC-USDT (`MM_SHARED_DATA`) with numbers that go on, so
that the recording may come again and again, each time on a new connection, for which the recorder asks for the book.
Held beside the whole service (sockets, log, machine, status) is a bare aiohttp client of the same address that does
nothing with what it receives. They take turns. Told is the time of the processor in the client's process.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
from aiohttp import web
from rich.table import Table

from benchmarks.shared import SHARED
from mm_dagster.config.books import BooksConfig
from mm_dagster.recorder.line import Pace
from mm_dagster.recorder.service import Service, World
from mm_dagster.recorder.status import Status
from mm_dagster_tests.books.recorded import binance_l2

RATES = (600, 2_000)
"""Messages a second of what is paced: those of four markets like the recorded one, and of thirteen."""
ROUNDS = 3
MESSAGES = 30_000
MANY = 3_000_000
PACE = Pace(first_pause=0.05, most_pause=0.2)
"""Pauses are no part of what is measured."""
MARKET, STREAM = "BTC-USDT", "btcusdt@depth@100ms"
_NUMBER = re.compile(rb'"([Uu]|lastUpdateId)":(\d+)')
_NAMELESS = re.compile(rb'"s":"M"')


@cache
def recording() -> tuple[bytes, list[bytes]]:
    """The book, and what came after it."""
    rows = list(binance_l2(SHARED / "l2" / "binance" / "BTC-USDT", is_usdm=False))
    place = next(place for place, (_, kind, _) in enumerate(rows) if kind == "snapshot")
    last = int(_NUMBER.search(rows[place][2])[2])  # type: ignore[index]
    # The first change that was buffered before the book came is the first that follows it.
    after = [payload for _, kind, payload in rows if kind != "snapshot" and _last(payload) > last]
    wrapped = [b'{"stream":"%s","data":%s}' % (STREAM.encode(), _NAMELESS.sub(b'"s":"BTCUSDT"', one)) for one in after]
    return rows[place][2], wrapped


def _last(payload: bytes) -> int:
    return max(int(found[2]) for found in _NUMBER.finditer(payload))


def moved(payload: bytes, by: int) -> bytes:
    """A message with other numbers."""
    return _NUMBER.sub(lambda found: b'"%s":%d' % (found[1], int(found[2]) + by), payload) if by else payload


class Binance:
    """A server that says what was recorded."""

    def __init__(self, most: int, rate: int | None) -> None:
        self.most, self.rate = most, rate
        self.book, self.after = recording()
        self.first = next(place for place, one in enumerate(self.after) if b"depthUpdate" in one)
        self.by = self.turns = 0
        self.was_asked = asyncio.Event()

    async def serve(self, pipe: Connection) -> None:
        """Says its port, and serves until it is killed."""
        app = web.Application()
        app.router.add_get("/api/v3/exchangeInfo", self.info)
        app.router.add_get("/api/v3/depth", self.depth)
        app.router.add_get("/stream", self.stream)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    async def info(self, request: web.Request) -> web.Response:
        """The one market."""
        lot = {"filterType": "LOT_SIZE", "minQty": "0.00001000"}
        row = {"symbol": "BTCUSDT", "quotePrecision": 8, "baseAssetPrecision": 8, "filters": [lot]}
        return web.json_response({"symbols": [row]})

    async def depth(self, request: web.Request) -> web.Response:
        """The book as it was before the recording's first message."""
        self.was_asked.set()
        return web.Response(body=moved(self.book, self.by))

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """The recording once, with higher numbers at each connection; then the next one has to be opened."""
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        hears = asyncio.create_task(self._hear(socket))
        span = _last(self.after[-1]) - _last(self.book) + 10
        self.by, self.turns = self.turns * span, self.turns + 1
        self.was_asked.clear()
        began = time.perf_counter()
        # The connection is closed from the other side when it has had enough.
        with suppress(aiohttp.ClientConnectionResetError):
            for place, payload in enumerate(self.after[: self.most]):
                await socket.send_str(moved(payload, self.by).decode())
                # A bare client never asks for the book, and is not waited for.
                if place == self.first and "bare" not in request.query:
                    await self.was_asked.wait()
                if self.rate:
                    await asyncio.sleep(max(0.0, place / self.rate - (time.perf_counter() - began)))
            await socket.close()
        hears.cancel()
        return socket

    async def _hear(self, socket: web.WebSocketResponse) -> None:
        """Answers pings, which nothing else does."""
        async for _ in socket:
            pass


def _run(pipe: Connection, most: int, rate: int | None) -> None:
    asyncio.run(Binance(most, rate).serve(pipe))


class Server:
    """The server in a process of its own."""

    def __init__(self, most: int, rate: int | None) -> None:
        mine, its = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=_run, args=(its, most, rate), daemon=True)
        self.process.start()
        self.port = mine.recv()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.join()


async def bare(port: int) -> float:
    """Microseconds of the processor a message of a client that does nothing with it."""
    address = f"http://127.0.0.1:{port}/stream?bare=1"
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        began, received = time.process_time(), 0
        async for _ in socket:
            received += 1
        return 1e6 * (time.process_time() - began) / received


async def whole(port: int, most: int, seen: list[tuple[int, int]]) -> tuple[float, Status]:
    """The same of the whole service, and how it stood at the end; `seen` gets messages and memory each second."""
    url = f"http://127.0.0.1:{port}"
    feed = {"exchange": "binance", "markets": [MARKET], "api_url": url, "socket_url": url}
    config = BooksConfig.model_validate({"record": True, "feeds": [feed], "free_gib": 0})
    stop = asyncio.Event()
    began: list[float] = []
    last: list[Status] = []

    def say(status: Status) -> None:
        market = status.markets[0]
        seen.append((market.written, _resident()))
        last[:] = [status]
        if market.written and not began:
            began.extend((time.process_time(), market.written))
        if market.written >= most:
            stop.set()

    with tempfile.TemporaryDirectory() as folder:
        await Service(config, Path(folder), World(pace=PACE)).run(stop, say)
    done = last[0].markets[0].written - began[1]
    return 1e6 * (time.process_time() - began[0]) / done, last[0]


def _resident() -> int:
    """Bytes of this process that are in memory."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def paths() -> Table:
    """The whole cost of a message beside a bare client, paced and as fast as it goes."""
    table = Table(title=f"a message on its way, microseconds of the processor: median of {ROUNDS} rounds (least, most)")
    for name in ("", "bare aiohttp", "recorder", "times"):
        table.add_column(name, justify="left" if not name else "right")
    for rate, most in (*((rate, 15 * rate) for rate in RATES), (None, 5 * MESSAGES)):
        found: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            with Server(most, rate) as server:
                one = asyncio.run(bare(server.port))
            with Server(2 * most, rate) as server:
                other, status = asyncio.run(whole(server.port, most, []))
            assert status.markets[0].lost == 0
            found.append((one, other))
        said = f"{rate:,} messages a second" if rate else "as fast as it goes"
        columns = [sorted(column) for column in zip(*found, strict=True)]
        shown = [f"{statistics.median(one):.1f} ({one[0]:.1f}, {one[-1]:.1f})" for one in columns]
        table.add_row(said, *shown, f"{statistics.median(other / one for one, other in found):.2f}")
    return table


def memory(most: int = MANY) -> Table:
    """Messages and memory, over many."""
    seen: list[tuple[int, int]] = []
    with Server(2 * most, None) as server:
        began = time.perf_counter()
        cost, status = asyncio.run(whole(server.port, most, seen))
        taken = time.perf_counter() - began
    market = status.markets[0]
    said = f"{market.written:,} messages in {taken:.0f} s, {cost:.1f} µs each, {market.gaps} gaps, {market.lost} lost"
    table = Table(title=said)
    table.add_column("messages", justify="right")
    table.add_column("MiB in memory", justify="right")
    for messages, held in _tenths(seen, most):
        table.add_row(f"{messages:,}", f"{held / 1024**2:.0f}")
    return table


def _tenths(seen: list[tuple[int, int]], most: int) -> Iterator[tuple[int, int]]:
    for part in range(1, 11):
        yield next(one for one in seen if one[0] >= part * most // 10)
