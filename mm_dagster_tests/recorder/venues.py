"""Four venues on loopback: real servers that speak HTTP and websockets, honest, behind a line that is not.

What they send is a random walk whose truth is kept at every number; what arrives is not all of it, not once, not in
order, not always JSON. Requests are refused, slow, stale or nonsense at the rates of `Faults`.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import WSMsgType, web

from mm_dagster.books.follow import EXCHANGES, venue_name
from mm_dagster.books.ladder import Ladder, Scale
from mm_dagster.books.sync import Rule, State
from mm_dagster_tests.books.venue import Book, Venue, best, is_true, is_true_at_the_top, lots_text, price_text

SCALE = Scale(2, 3)
"""Of all that these venues send."""
KEPT = 4000
"""Truths of a market that are remembered."""
NONSENSE = (
    b"",
    b"<html>502 Bad Gateway</html>",
    b'{"topic":',
    b"[]",
    b'{"a":NaN}',
    b'{"type":"message","topic":"/market/level2:ETH-USDT","data":{}}',
    b'{"stream":"x@depth","data":{"e":"depthUpdate","s":"ETHUSDT","U":1,"u":2,"b":[["1e30","1"]],"a":[]}}',
    b'{"channel":"book","type":"update","data":[{"symbol":"ETH/USDT"}]}',
)
UNKNOWN = (
    b'{"type":"notice","text":"maintenance on Sunday"}',
    b'{"stream":"!news","data":{"e":"news"}}',
    b'{"channel":"status","type":"update","data":[{"system":"online"}]}',
)
"""By rule: KuCoin, Binance, Kraken; they are of no market."""


@dataclass(frozen=True)
class Faults:
    """How often something goes wrong, a share of messages or requests.

    Attributes:
        drop, twice, late, swap, nonsense, binary, unknown, huge, checksum: what becomes of a message.
        cut, farewell, silence: what becomes of a connection, with each message: aborted, closed politely, half open.
        handshake: connections that are refused.
        greeting, unconfirmed: of KuCoin: a token that is refused; subscriptions that nobody confirms.
        failed, slow, stale, limited: what becomes of requests: refused or nonsense, too late, of before, 429 and 418.
        lifetime: seconds after which a connection is closed; None: never.
    """

    drop: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    swap: float = 0.0
    nonsense: float = 0.0
    binary: float = 0.0
    unknown: float = 0.0
    huge: float = 0.0
    checksum: float = 0.0
    cut: float = 0.0
    farewell: float = 0.0
    silence: float = 0.0
    handshake: float = 0.0
    greeting: float = 0.0
    unconfirmed: float = 0.0
    failed: float = 0.0
    slow: float = 0.0
    stale: float = 0.0
    limited: float = 0.0
    lifetime: float | None = None

    @classmethod
    def drawn(cls, rng: random.Random) -> Faults:
        """Some of them, at rates that leave a book some time in sync."""
        often, seldom = (0.0, 0.01, 0.04), (0.0, 0.003, 0.01)
        rates = {name: rng.choice(often) for name in ("drop", "twice", "late", "swap", "unknown", "checksum")}
        rates |= {name: rng.choice(seldom) for name in ("nonsense", "binary", "huge", "cut", "farewell", "silence")}
        rates |= {name: rng.choice((0.0, 0.2, 0.5)) for name in ("handshake", "greeting", "unconfirmed")}
        rates |= {name: rng.choice((0.0, 0.2, 0.4)) for name in ("failed", "slow", "stale", "limited")}
        return cls(**rates, lifetime=rng.choice((None, 0.7)))


class Market(Venue):
    """A market of a loopback venue: the truth, and the messages that tell of it, by the venue's name."""

    def __init__(self, rule: Rule, name: str, rng: random.Random, depth: int) -> None:
        super().__init__(rule, rng, depth)
        self.name = name
        self.numbers: list[int] = []
        self.tops: deque[tuple[Any, Any]] = deque(maxlen=KEPT)

    def told_next(self, now_ms: int) -> tuple[int, list[bytes]]:
        """The next messages, the one of the book first: its last number, and their bytes."""
        number, payload = self.message()
        while len(self.truth) > KEPT:
            del self.truth[next(iter(self.truth))]
        self.numbers.append(number)
        self.tops.append((best(self.book[0], 1, 10), best(self.book[1], -1, 10)))
        found = [self._named(payload, now_ms)]
        if self.rng.random() < 0.5:
            found.append(self._quote(now_ms))
        if self.rng.random() < 0.2:
            found.append(self._trade(now_ms))
        return number, found

    def whole(self) -> bytes:
        """Kraken's first message of a subscription."""
        self.tops.append((best(self.book[0], 1, 10), best(self.book[1], -1, 10)))
        return self.kraken(None).replace(b'"M"', f'"{self.name}"'.encode())

    def _named(self, payload: bytes, now_ms: int) -> bytes:
        name = self.name.encode()
        if self.rule is Rule.KUCOIN:
            named = payload.replace(b':M"', b":" + name + b'"', 1).replace(b'"M"', b'"' + name + b'"', 1)
            return named.replace(b'"data": {', b'"data": {"time": %d, ' % now_ms, 1)
        named = payload.replace(b'"M"', b'"' + name + b'"', 1)
        if self.rule is Rule.KRAKEN:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ms / 1000)) + f".{now_ms % 1000:03d}000Z"
            return named.replace(b'"checksum":', b'"timestamp":"%s","checksum":' % stamp.encode(), 1)
        named = named.replace(b"{", b'{"E": %d, ' % now_ms, 1)
        return self._streamed("depth@100ms", named)

    def _streamed(self, stream: str, payload: bytes) -> bytes:
        return b'{"stream":"%s@%s","data":%s}' % (self.name.lower().encode(), stream.encode(), payload)

    def _quote(self, now_ms: int) -> bytes:
        (bid, bid_lots), (ask, ask_lots) = best(self.book[0], 1, 1)[0], best(self.book[1], -1, 1)[0]
        texts = price_text(bid), lots_text(bid_lots), price_text(ask), lots_text(ask_lots)
        if self.rule is Rule.KRAKEN:
            return self.quote().replace(b'"M"', f'"{self.name}"'.encode())
        if self.rule is Rule.KUCOIN:
            data = dict(zip(("bestBid", "bestBidSize", "bestAsk", "bestAskSize"), texts, strict=True))
            data |= {"sequence": str(self.number), "Time": now_ms}
            return json.dumps({"type": "message", "topic": f"/market/ticker:{self.name}", "data": data}).encode()
        quote: dict[str, object] = {"u": self.number, "s": self.name}
        quote |= dict(zip(("b", "B", "a", "A"), texts, strict=True))
        if self.rule is Rule.BINANCE_USDM:
            quote |= {"e": "bookTicker", "T": now_ms, "E": now_ms}
        return self._streamed("bookTicker", json.dumps(quote).encode())

    def _trade(self, now_ms: int) -> bytes:
        price, lots, is_sell = price_text(best(self.book[0], 1, 1)[0][0]), lots_text(17), self.rng.random() < 0.5
        if self.rule is Rule.KUCOIN:
            data = {"symbol": self.name, "side": "sell" if is_sell else "buy", "price": price, "size": lots,
                    "tradeId": str(self.number), "time": f"{now_ms}000000"}  # fmt: skip
            return json.dumps({"type": "message", "topic": f"/market/match:{self.name}", "data": data}).encode()
        if self.rule is Rule.KRAKEN:
            return (
                f'{{"channel":"trade","type":"update","data":[{{"symbol":"{self.name}","side":"sell","price":{price},'
                f'"qty":{lots},"trade_id":{self.number % 10**9}}}]}}'
            ).encode()
        trade = {"e": "aggTrade", "E": now_ms, "s": self.name, "a": self.number, "p": price, "q": lots, "m": is_sell}
        return self._streamed("aggTrade", json.dumps(trade).encode())

    def agrees(self, state: State, scale: Scale) -> bool:
        """Whether a book that is said to be in sync is the truth."""
        price, amount = 10 ** (scale.price_decimals - 2), 10 ** (scale.amount_decimals - 3)
        sides = [
            [(ticks // price, lots // amount) for ticks, lots in side.top()]
            for side in (state.book.bids, state.book.asks)
        ]
        book = Ladder(*sides)
        if self.rule is Rule.KRAKEN:
            return (list(book.bids.top(10)), list(book.asks.top(10))) in self.tops
        reach = tuple(None if far is None else far // price for far in state.reach)
        return is_true(replace(state, reach=reach, book=book), self.truth[state.last_id or 0])  # type: ignore[arg-type]

    def agrees_now(self, state: State, scale: Scale) -> bool:
        """Whether it is the newest truth."""
        if self.rule is not Rule.KRAKEN:
            return state.last_id == self.number and self.agrees(state, scale)
        top: Book = (dict(best(self.book[0], 1)), dict(best(self.book[1], -1)))
        return is_true_at_the_top(state.book, top)


@dataclass
class _Connection:
    """A client, and what waits for it.

    Attributes:
        socket: its.
        names: of the markets that it hears of.
        sending: what goes out, in order; None: closed.
        is_silent: nothing is sent any more, and the connection stays.
        held: messages that come later or in another place: how many messages later, and their bytes.
    """

    socket: web.WebSocketResponse
    request: web.BaseRequest
    names: set[str] = field(default_factory=set)
    sending: asyncio.Queue[bytes | str | None] = field(default_factory=lambda: asyncio.Queue(5000))
    is_silent: bool = False
    held: list[tuple[int, bytes]] = field(default_factory=list)

    def put(self, payload: bytes | str) -> None:
        if not self.is_silent:
            with suppress(asyncio.QueueFull):
                self.sending.put_nowait(payload)

    def abort(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


class Loopback:
    """A venue on 127.0.0.1.

    Attributes:
        exchange: its name in books.yaml.
        markets: by their names.
        faults: what goes wrong from now on.
        injected: how often what did.
        requests: times of requests for books, seconds of the monotonic clock.
        connects: of connections, those that were refused among them.
        url: where it is, once it runs.
        sent: messages of markets that were put on their way to anybody.
        price_increment: what KuCoin says of every market.
    """

    def __init__(
        self, exchange: str, symbols: Iterable[str], seed: object, *, depth: int = 1000, faults: Faults | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 10**6, slow: float = 1.0,
    ) -> None:  # fmt: skip
        """
        Args:
            exchange: its name in books.yaml.
            symbols: like ETH-USDT.
            seed: of the walk and the faults.
            depth: levels of a side that it answers with.
            faults: what goes wrong.
            clock_ms: its own clock.
            slow: seconds that a slow answer takes.
        """
        self.exchange, self.rule = exchange, EXCHANGES[exchange]
        self.rng = random.Random(f"{exchange}{seed}")
        self.markets = {
            (name := venue_name(exchange, symbol)): Market(self.rule, name, self.rng, depth) for symbol in symbols
        }
        self.faults = faults or Faults()
        self.injected: Counter = Counter()
        self.requests: list[float] = []
        self.connects: list[float] = []
        self.sent = 0
        self.url = ""
        self.price_increment = "0.01"
        self._clock_ms = clock_ms
        self._slow = slow
        self._connections: list[_Connection] = []
        self._runner: web.AppRunner | None = None

    # the server -------------------------------------------------------------------------------------------------------

    async def begin(self, port: int = 0) -> Loopback:
        app = web.Application()
        routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "/api/v2/symbols": self._instruments,
            "/api/v3/exchangeInfo": self._instruments,
            "/fapi/v1/exchangeInfo": self._instruments,
            "/0/public/AssetPairs": self._instruments,
            "/api/v1/market/orderbook/level2_100": self._book,
            "/api/v3/depth": self._book,
            "/fapi/v1/depth": self._book,
            "/endpoint": self._socket,
            "/stream": self._socket,
            "/v2": self._socket,
        }
        for path, handler in routes.items():
            app.router.add_get(path, handler)
        app.router.add_post("/api/v1/bullet-public", self._token)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def end(self) -> None:
        for connection in self._connections:
            connection.abort()
        if self._runner is not None:
            await self._runner.cleanup()

    def feed(self) -> dict[str, Any]:
        """What books.yaml says of it."""
        socket = self.url.replace("http", "ws") + ("/v2" if self.rule is Rule.KRAKEN else "")
        found = {"exchange": self.exchange, "api_url": self.url}
        return found if self.rule is Rule.KUCOIN else found | {"socket_url": socket}

    def _roll(self, fault: str) -> bool:
        hit = self.rng.random() < getattr(self.faults, fault)
        self.injected[fault] += hit
        return hit

    # requests ---------------------------------------------------------------------------------------------------------

    async def _spoiled(self) -> web.Response | None:
        """What an answer is in the place of the right one; None: it is right."""
        if self._roll("failed"):
            status = self.rng.choice((200, 200, 500, 503, 302))
            body = self.rng.choice(NONSENSE) if status == 200 else b"<html>no</html>"
            return web.Response(status=status, body=body, headers={"Location": "http://127.0.0.1:1/"})
        if self._roll("limited"):
            wait = self.rng.choice(("1", "1", "soon"))
            return web.Response(
                status=429 if wait == "soon" else self.rng.choice((429, 418)), headers={"Retry-After": "1"}
            )
        if self._roll("slow"):
            await asyncio.sleep(self._slow)
        return None

    async def _instruments(self, _: web.Request) -> web.StreamResponse:
        spoiled = await self._spoiled()
        if spoiled is not None:
            return spoiled
        names = [*self.markets, "OTHER-COIN"]
        if self.rule is Rule.KUCOIN:
            rows = [
                {
                    "symbol": name,
                    "priceIncrement": self.price_increment,
                    "baseIncrement": "0.001",
                    "baseMinSize": "0.001",
                }
                for name in names
            ]
            return web.json_response({"code": "200000", "data": [*rows, {"symbol": None}]})
        if self.rule is Rule.KRAKEN:
            pairs = {name: {"wsname": name, "pair_decimals": 2, "lot_decimals": 3} for name in names}
            return web.json_response({"error": [], "result": pairs})
        rows = [
            {"symbol": name, "contractType": "PERPETUAL", "pricePrecision": 2, "quantityPrecision": 3,
             "quotePrecision": 8, "baseAssetPrecision": 8,
             "filters": [{"filterType": "LOT_SIZE", "minQty": "0.00100000"}]}
            for name in names
        ]  # fmt: skip
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 100_000}]
        return web.json_response({"symbols": rows, "rateLimits": limits})

    async def _token(self, _: web.Request) -> web.StreamResponse:
        spoiled = await self._spoiled()
        if spoiled is not None:
            return spoiled
        server = {"endpoint": f"ws://127.0.0.1:{self.port}/endpoint", "pingInterval": 1000, "pingTimeout": 1000}
        return web.json_response({"code": "200000", "data": {"token": "T", "instanceServers": [server]}})

    async def _book(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(time.monotonic())
        spoiled = await self._spoiled()
        if spoiled is not None:
            return spoiled
        market = self.markets[request.query["symbol"]]
        back = self.rng.randint(5, 60) if self._roll("stale") else self.rng.randint(1, 3)
        numbers = list(market.truth)
        return web.Response(body=market.snapshot(numbers[max(0, len(numbers) - back)]), content_type="application/json")

    # sockets ----------------------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        self.connects.append(time.monotonic())
        if self._roll("handshake"):
            return web.Response(status=self.rng.choice((400, 429, 503)), headers={"Retry-After": "1"})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = _Connection(socket, request)
        sending = asyncio.create_task(self._send(connection))
        try:
            if self.rule is Rule.KUCOIN:
                if self._roll("greeting"):
                    connection.put('{"id":"mm","type":"error","code":401,"data":"token is expired"}')
                else:
                    connection.put('{"id":"mm","type":"welcome"}')
            elif self.rule in (Rule.BINANCE, Rule.BINANCE_USDM):
                streams = request.query["streams"].split("/")
                connection.names = {one.partition("@")[0].upper() for one in streams} & set(self.markets)
            self._connections.append(connection)
            if self.faults.lifetime:
                asyncio.get_running_loop().call_later(self.faults.lifetime, connection.sending.put_nowait, None)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._asked(connection, json.loads(message.data))
        finally:
            with suppress(ValueError):
                self._connections.remove(connection)
            sending.cancel()
        return socket

    def _asked(self, connection: _Connection, found: dict[str, Any]) -> None:
        if self.rule is Rule.KUCOIN:
            if found["type"] == "ping":
                connection.put(json.dumps({"id": found["id"], "type": "pong"}))
            elif not self._roll("unconfirmed"):
                connection.names |= set(found["topic"].partition(":")[2].split(","))
                connection.put(json.dumps({"id": found["id"], "type": "ack"}))
            return
        if found["method"] == "ping":
            connection.put('{"method":"pong"}')
        elif found["params"]["channel"] == "book":
            self._kraken_asked(connection, found)

    def _kraken_asked(self, connection: _Connection, found: dict[str, Any]) -> None:
        params = found["params"]
        for name in params["symbol"]:
            if found["method"] == "unsubscribe":
                connection.names.discard(name)
            elif self._roll("failed"):
                connection.put('{"method":"subscribe","success":false,"error":"Rate limit exceeded"}')
            else:
                market = self.markets[name]
                market.depth = params["depth"]
                connection.names.add(name)
                connection.put(json.dumps({"method": "subscribe", "success": True, "result": {"symbol": name}}))
                connection.put(market.whole())

    async def _send(self, connection: _Connection) -> None:
        with suppress(ConnectionError, RuntimeError):
            while (payload := await connection.sending.get()) is not None:
                if isinstance(payload, str):
                    await connection.socket.send_str(payload)
                elif payload.startswith(b"\x00"):
                    await connection.socket.send_bytes(payload[1:])
                else:
                    await connection.socket.send_frame(payload, WSMsgType.TEXT)
            await connection.socket.close()

    # what is told -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Every market changes once, and whoever listens hears of it, as far as the line lets it."""
        now_ms = self._clock_ms()
        for name, market in self.markets.items():
            _, payloads = market.told_next(now_ms)
            for connection in list(self._connections):
                if name in connection.names:
                    for payload in payloads:
                        self.sent += 1
                        self._tell(connection, payload)

    def _tell(self, connection: _Connection, payload: bytes) -> None:
        due = [one for left, one in connection.held if left <= 0]
        connection.held = [(left - 1, one) for left, one in connection.held if left > 0]
        if self._roll("drop"):
            pass
        elif self._roll("late"):
            connection.held.append((self.rng.randint(2, 12), payload))
        elif self._roll("swap"):
            connection.held.append((0, payload))
        elif self._roll("nonsense"):
            connection.put(self.rng.choice((*NONSENSE, payload[: self.rng.randrange(len(payload))])))
        elif self._roll("binary"):
            connection.put(b"\x00" + bytes(self.rng.randrange(256) for _ in range(40)))
        elif self.rule is Rule.KRAKEN and b'"checksum":' in payload and self._roll("checksum"):
            head, _, number = payload.rpartition(b'"checksum":')
            connection.put(head + b'"checksum":%d}]}' % (int(number.rstrip(b"}]")) ^ 1))
        else:
            connection.put(payload)
            if self._roll("twice"):
                connection.put(payload)
        for one in due:
            connection.put(one)
        self._around(connection)

    def _around(self, connection: _Connection) -> None:
        """What happens to a connection beside its messages."""
        if self._roll("unknown"):
            places = {Rule.KUCOIN: 0, Rule.KRAKEN: 2}
            connection.put(UNKNOWN[places.get(self.rule, 1)])
        if self._roll("huge"):
            connection.put(b'{"type":"notice","channel":"status","text":"' + b"x" * 2_000_000 + b'"}')
        if self._roll("cut"):
            connection.abort()
        elif self._roll("farewell"):
            with suppress(asyncio.QueueFull):
                connection.sending.put_nowait(None)
        elif self._roll("silence"):
            connection.is_silent = True

    async def go_on(self, seconds: float, a_second: float) -> None:
        """Steps for some time.

        Args:
            seconds: how long.
            a_second: steps.
        """
        began, done = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while done < passed * a_second:
                self.step()
                done += 1
            await asyncio.sleep(min(0.005, 0.5 / a_second))
