"""What KuCoin and Binance really sent, through the whole recorder: its books are those of the samples."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiohttp import WSMsgType, web

from mm_dagster.books.follow import Follower
from mm_dagster.books.messages import Record
from mm_dagster.books.sync import Rule, State, begin, step
from mm_dagster.config.books import BooksConfig
from mm_dagster.recorder.frames import Kind
from mm_dagster.recorder.market import Recorded
from mm_dagster.recorder.service import Service, World
from mm_dagster_tests.books import recorded
from mm_dagster_tests.recorder.logs import replay
from mm_dagster_tests.recorder.test_service import SURE
from mm_dagster_tests.recorder.trials import Clock, replayed

FILES = {
    "kucoin": "kucoin_spot_2021-04-25",
    "binance": "binance_spot_2021-10-12",
    "binance_usdm": "binance_usdm_2021",
}
RULES = {"kucoin": Rule.KUCOIN, "binance": Rule.BINANCE, "binance_usdm": Rule.BINANCE_USDM}


class Sample:
    """A venue that sends again what it sent once."""

    def __init__(self, exchange: str, path: Path) -> None:
        self.exchange, self.rule = exchange, RULES[exchange]
        self.scales = recorded.scales(path, self.rule)
        rows = pl.read_parquet(path).sort("recv_us", maintain_order=True)
        self.books: dict[str, bytes] = {}
        self.messages: list[bytes] = []
        for address, direction, payload in rows.select("address", "direction", "payload").iter_rows():
            if direction == "answer":
                found = re.search(r"symbol=([A-Z0-9-]+)", address)
                assert found
                self.books[found[1]] = payload.encode()
            elif direction == "received" and '"ack"' not in payload and '"welcome"' not in payload:
                self.messages.append(payload.encode())
        self.names = sorted(self.books)
        self.done = asyncio.Event()

    async def begin(self) -> web.AppRunner:
        app = web.Application()
        for path in ("/api/v2/symbols", "/api/v3/exchangeInfo", "/fapi/v1/exchangeInfo"):
            app.router.add_get(path, self.instruments)
        for path in ("/api/v1/market/orderbook/level2_100", "/api/v3/depth", "/fapi/v1/depth"):
            app.router.add_get(path, self.book)
        app.router.add_post("/api/v1/bullet-public", self.token)
        for path in ("/endpoint", "/stream"):
            app.router.add_get(path, self.socket)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return runner

    async def instruments(self, _: web.Request) -> web.Response:
        rows: list[dict[str, Any]] = []
        for name, scale in self.scales.items():
            smallest = f"{10**-scale.amount_decimals:.{scale.amount_decimals}f}"
            rows.append({
                "symbol": name, "priceIncrement": f"1e-{scale.price_decimals}", "baseIncrement": smallest,
                "baseMinSize": "10", "quotePrecision": scale.price_decimals, "contractType": "PERPETUAL",
                "baseAssetPrecision": scale.amount_decimals, "pricePrecision": scale.price_decimals,
                "quantityPrecision": scale.amount_decimals,
                "filters": [{"filterType": "LOT_SIZE", "minQty": smallest}],
            })  # fmt: skip
        return web.json_response({"code": "200000", "data": rows, "symbols": rows})

    async def token(self, _: web.Request) -> web.Response:
        server = {"endpoint": f"ws://127.0.0.1:{self.port}/endpoint", "pingInterval": 18000, "pingTimeout": 10000}
        return web.json_response({"code": "200000", "data": {"token": "T", "instanceServers": [server]}})

    async def book(self, request: web.Request) -> web.Response:
        return web.Response(body=self.books[request.query["symbol"]])

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if self.rule is Rule.KUCOIN:
            await socket.send_str('{"id":"x","type":"welcome"}')
            for number in range(1, 4):
                message = await socket.receive_json()
                assert message["id"] == str(number)
                await socket.send_json({"id": message["id"], "type": "ack"})
        for payload in self.messages:
            await socket.send_frame(payload, WSMsgType.TEXT)
        self.done.set()
        async for _ in socket:
            pass
        return socket


@pytest.mark.parametrize("exchange", FILES)
def test_recorded_messages_give_the_books_of_the_sample(exchange: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "books" / "protocol" / f"{FILES[exchange]}.parquet"

    sample = Sample(exchange, path)
    truth = _followed(sample, path)

    async def body() -> list[Recorded]:
        runner = await sample.begin()
        url = f"http://127.0.0.1:{sample.port}"
        symbols = {name: name if "-" in name else f"{name[:3]}-{name[3:]}" for name in sample.names}
        socket = {} if exchange == "kucoin" else {"socket_url": url.replace("http", "ws")}
        feed = {"exchange": exchange, "markets": list(symbols.values()), "api_url": url, **socket}
        config = BooksConfig.model_validate({"record": True, "feeds": [feed], "free_gib": 0})
        service, stop = Service(config, tmp_path, World(Clock(), pace=SURE)), asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        await asyncio.wait_for(sample.done.wait(), 20)
        end = time.monotonic() + 20
        while time.monotonic() < end and not _have_all(truth, service):
            await asyncio.sleep(0.1)
        stop.set()
        await running
        await runner.cleanup()
        return list(service.markets())

    markets = asyncio.run(body())
    assert {one.market.name for one in markets} == set(sample.names)
    heard: list[bytes] = []
    synced = 0
    for market in markets:
        name, scale = market.market.name, market.market.scale
        frames = [frame for frame in replay(market.place.log)[0] if frame.kind is Kind.RECORD]
        heard += [frame.payload for frame in frames if frame.stream == "PUSHED 1"]
        assert replayed(market.place.log)[0].kept() == market.follower.kept()
        assert frames.pop().stream == "DISCONNECTED 1"
        follower = Follower.begin(market.market, 0)
        for frame in frames:
            follower.take(frame.stream, frame.payload, frame.recv_ns)
        state, first = truth[name]
        assert market.gaps == (first is not None), name
        assert (follower.state.last_id, follower.state.is_in_sync) == (state.last_id, state.is_in_sync), name
        finer = 10 ** (scale.amount_decimals - sample.scales[name].amount_decimals)
        for mine, its in ((follower.state.book.bids, state.book.bids), (follower.state.book.asks, state.book.asks)):
            assert [(price, lots // finer) for price, lots in mine.top()] == list(its.top())
        synced += state.is_in_sync
    assert sorted(heard) == sorted(payload for payload in sample.messages if _is_ours(payload))
    assert synced >= len(markets) // 2


def _have_all(truth: dict[str, tuple[State, int | None]], service: Service) -> bool:
    """Whether every market is where the sample ends."""
    stands = {one.market.name: one.follower.state for one in service.markets()}
    return all(
        name in stands and (stands[name].last_id, stands[name].is_in_sync) == (state.last_id, state.is_in_sync)
        for name, (state, _) in truth.items()
    )


def _is_ours(payload: bytes) -> bool:
    """Whether the recorder keeps it: it is of a market."""
    found = json.loads(payload)
    return ("topic" in found and "candles" not in found["topic"]) or "stream" in found or "s" in found


def _followed(sample: Sample, path: Path) -> dict[str, tuple[State, int | None]]:
    """Each market's machine over the sample as it was received, and the number at which it came in sync."""
    states: dict[str, tuple[State, int | None]] = {
        name: (begin(sample.rule, name, 0, 5000), None) for name in sample.names
    }
    for at_ns, record in recorded.numbered(path, sample.rule):
        for name, (state, first) in states.items():
            states[name] = _stepped(state, first, record, at_ns)
    return states


def _stepped(state: State, first: int | None, record: Record, at_ns: int) -> tuple[State, int | None]:
    state, _ = step(state, record, at_ns)
    return state, state.last_id if first is None and state.is_in_sync else first
