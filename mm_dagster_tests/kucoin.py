"""KuCoin on loopback: the part of its REST API that ccxt's real client needs for public candles, and its faults.

The shapes are those of KuCoin's own documentation and SDK: candles newest first, as time in seconds, open, close, high,
low, volume and turnover, all of them strings; at most 1,500; none where nothing traded; the one in progress unmarked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl

from mm_dagster.bars import EPOCH, floor_bar

CANDLES = "/api/v1/market/candles"
SYMBOLS = "/api/v2/symbols"
TIMESTAMP = "/api/v1/timestamp"
STATS = "/api/v1/market/stats"
TICKER = "/api/v1/market/orderbook/level1"
PAGE = 1_500


@dataclass(frozen=True)
class Fault:
    """What is answered instead of the truth.

    Attributes:
        status: HTTP status.
        body: as sent.
        path: the requests that it is for; empty: any.
        content_type: header.
        stall_seconds: how long the answer stops in the middle of its body.
        hang_up: close the connection without an answer.
    """

    status: int = 200
    body: str = ""
    path: str = CANDLES
    content_type: str = "application/json"
    stall_seconds: float = 0.0
    hang_up: bool = False


def _refusal(code: str, message: str) -> str:
    return json.dumps({"code": code, "msg": message})


TOO_MANY_REQUESTS = Fault(429, _refusal("429000", "Too many requests"))
CLOUDFLARE_1015 = Fault(
    429, "<html><title>Error 1015 You are being rate limited</title></html>", content_type="text/html"
)
INTERNAL_ERROR = Fault(500, "<html><body>Internal Server Error</body></html>", content_type="text/html")
FORBIDDEN = Fault(403, "<html><body>Access denied</body></html>", content_type="text/html")
TOO_BUSY = Fault(200, _refusal("200002", "Server is busy"))
BAD_REQUEST = Fault(400, _refusal("400100", "Invalid parameter"))
UNKNOWN_SYMBOL = Fault(200, _refusal("900001", "symbol not exists"))
EMPTY_BODY = Fault(200, "")
NOT_JSON = Fault(200, "<html>maintenance</html>", content_type="text/html")
HANG_UP = Fault(hang_up=True)


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    path: str
    query: dict[str, str] = field(default_factory=dict)


class KucoinServer:
    """A KuCoin of one's own, to be used in a `with` statement.

    Attributes:
        candles: by symbol, columns open_time, open, high, low, close, volume: 15-minute bars.
        now: the exchange's time, UTC; it stands still until it is set.
        faults: answers to the next requests to their path, used up one by one.
        requests: what was asked, in order.
        end_is_included: whether a candle that opens at exactly `endAt` is sent.
    """

    def __init__(self, candles: Mapping[str, pl.DataFrame], now: datetime) -> None:
        self.candles = dict(candles)
        self.now = now
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.end_is_included = True
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """What `api_url` must be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> KucoinServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(request.path == path for request in self.requests)

    def _fault(self, request: Request) -> Fault | None:
        """Notes a request and takes the first fault that is meant for it."""
        with self._lock:
            self.requests.append(request)
            for index, fault in enumerate(self.faults):
                if fault.path in ("", request.path):
                    return self.faults.pop(index)
        return None

    def _answer(self, request: Request) -> Fault:
        """The truth, in the form of an answer."""
        symbol = request.query.get("symbol", "")
        if request.path == TIMESTAMP:
            return _data(_milliseconds(self.now))
        if request.path == SYMBOLS:
            return _data([_symbol(name) for name in self.candles])
        if request.path not in (CANDLES, STATS, TICKER):
            return Fault(404, _refusal("404000", f"no {request.path} here"))
        if symbol not in self.candles:
            return UNKNOWN_SYMBOL
        if request.path == CANDLES:
            if request.query.get("type") != "15min" or not {"startAt", "endAt"} <= set(request.query):
                return BAD_REQUEST
            return _data(self._rows(symbol, int(request.query["startAt"]), int(request.query["endAt"])))
        price = _text(self._until_now(symbol)["close"][-1])
        now = _milliseconds(self.now)
        if request.path == STATS:
            return _data({"time": now, "symbol": symbol, "last": price, "buy": price, "sell": price})
        return _data({"time": now, "price": price, "bestBid": price, "bestAsk": price})

    def _until_now(self, symbol: str) -> pl.DataFrame:
        """The candles until now; the one in progress has seen its first trade only."""
        present = floor_bar(self.now)
        known = (
            self.candles[symbol].filter((pl.col("open_time") <= present) & (pl.col("volume") != 0)).sort("open_time")
        )
        unfinished = pl.col("open_time") == present
        return known.with_columns(
            *(pl.when(unfinished).then("open").otherwise(name).alias(name) for name in ("high", "low", "close")),
            volume=pl.when(unfinished).then(pl.col("volume") / 1024).otherwise("volume"),
        )

    def _rows(self, symbol: str, start: int, end: int) -> list[list[str]]:
        seconds = pl.col("open_time").dt.epoch("s")
        last = end if self.end_is_included else end - 1
        wanted = self._until_now(symbol).with_columns(time=seconds).filter(pl.col("time").is_between(start, last))
        newest_first = wanted.reverse().head(PAGE).iter_rows(named=True)
        return [
            [
                str(row["time"]),
                *(_text(row[name]) for name in ("open", "close", "high", "low", "volume")),
                _text(row["close"] * row["volume"]),
            ]
            for row in newest_first
        ]


def _handler(exchange: KucoinServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            request = Request(parts.path, dict(parse_qsl(parts.query)))
            answer = exchange._fault(request) or exchange._answer(request)
            if answer.hang_up:
                self.close_connection = True
                return
            body = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if answer.stall_seconds:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                exchange._closing.wait(answer.stall_seconds)
                body = body[len(body) // 2 :]
            try:
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    return Handler


def _data(data: Any) -> Fault:
    return Fault(200, json.dumps({"code": "200000", "data": data}))


def _symbol(name: str) -> dict[str, Any]:
    base, quote = name.split("-")
    return {
        "symbol": name,
        "name": name,
        "baseCurrency": base,
        "quoteCurrency": quote,
        "feeCurrency": quote,
        "market": "USDS",
        "baseMinSize": "0.00001",
        "quoteMinSize": "0.1",
        "baseMaxSize": "10000000000",
        "quoteMaxSize": "99999999",
        "baseIncrement": "0.00000001",
        "quoteIncrement": "0.000001",
        "priceIncrement": "0.01",
        "priceLimitRate": "0.1",
        "minFunds": "0.1",
        "isMarginEnabled": True,
        "enableTrading": True,
        "feeCategory": 1,
        "makerFeeCoefficient": "1.00",
        "takerFeeCoefficient": "1.00",
        "st": False,
    }


def _text(number: float) -> str:
    """As KuCoin writes numbers: never with an exponent; the same double when read again."""
    return format(Decimal(repr(number)), "f")


def _milliseconds(when: datetime) -> int:
    return int((when - EPOCH).total_seconds() * 1000)
