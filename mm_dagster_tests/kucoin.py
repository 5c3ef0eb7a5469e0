"""KuCoin on loopback: what ccxt's real client needs of its REST API for candles and for an account, and its faults.

The shapes are those of KuCoin's own documentation and SDK: candles newest first, as time in seconds, open, close, high,
low, volume and turnover, all of them strings; at most 1,500; none where nothing traded; the one in progress unmarked.
Fills newest first, at most a week at once; by cursor for a high-frequency or unified account, by page for a classic
one. Private requests are signed, and the signature is verified.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
TICKERS = "/api/v1/market/allTickers"
BOOK = "/api/v1/market/orderbook/level2_100"
PAGE = 1_500
MODE = "/api/ua/v1/account/mode"
KIND = "/api/v1/hf/accounts/opened"
KEY = "/api/v1/user/api-key"
BALANCES = "/api/v1/accounts"
FILLS = "/api/v1/hf/fills"
ORDERS = "/api/v1/hf/orders/active"
CLASSIC_FILLS = "/api/v1/fills"
CLASSIC_ORDERS = "/api/v1/orders"
UNIFIED_BALANCES = "/api/ua/v1/unified/account/balance"
UNIFIED_FILLS = "/api/ua/v1/unified/order/execution"
UNIFIED_ORDERS = "/api/ua/v1/unified/order/open-list"
WEEK = 7 * 86_400_000


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
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "GET"
    body: str = ""


@dataclass
class Account:
    """An account, its key, and the whims of the exchange.

    Attributes:
        key: what the client must send.
        secret: what it must sign with.
        passphrase: what it must send signed.
        kind: hf, classic or unified.
        permission: what the key may do, as KuCoin writes it.
        balances: available and held, by currency.
        orders: as KuCoin's items, newest first; see `order`.
        fills: as KuCoin's items, in any order; see `fill`.
        clock_ahead: how far KuCoin's clock is ahead of the computer's.
        address_is_listed: whether the key may be used from here.
        repeats: how many of the next pages are the first one again.
        overlap: how many fills of a page are sent again with the next.
        is_shuffled: whether a page is in no order.
        ignores_symbol: whether the fills of all markets are sent.
        null_is_empty: whether an empty list is written as null.
    """

    key: str = "key-5f1e"
    secret: str = "secret-a1b2-c3d4"
    passphrase: str = "passphrase-9z8y"
    kind: str = "hf"
    permission: str = "General"
    balances: dict[str, tuple[str, str]] = field(default_factory=dict)
    orders: list[dict[str, Any]] = field(default_factory=list)
    fills: list[dict[str, Any]] = field(default_factory=list)
    clock_ahead: timedelta = timedelta(0)
    address_is_listed: bool = True
    repeats: int = 0
    overlap: int = 0
    is_shuffled: bool = False
    ignores_symbol: bool = False
    null_is_empty: bool = False

    def signed(self, text: str) -> str:
        """What a client with the secret makes of a text."""
        return base64.b64encode(hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).digest()).decode()

    def refusal(self, request: Request) -> Fault | None:
        """Why a request is not let in; None: it is."""
        sent = {name: request.headers.get(f"kc-api-{name}", "") for name in ("key", "sign", "timestamp", "passphrase")}
        if not all(sent.values()):
            return Fault(401, _refusal("400001", "Please check the header of your request"))
        its_time = time.time() * 1000 + self.clock_ahead / timedelta(milliseconds=1)
        if not sent["timestamp"].isdigit() or abs(int(sent["timestamp"]) - its_time) > 5_000:
            return Fault(401, _refusal("400002", "Invalid KC-API-TIMESTAMP"))
        if sent["key"] != self.key:
            return Fault(401, _refusal("400003", "KC-API-KEY not exists"))
        if sent["passphrase"] != self.signed(self.passphrase) or request.headers.get("kc-api-key-version") != "2":
            return Fault(401, _refusal("400004", "Invalid KC-API-PASSPHRASE"))
        if sent["sign"] != self.signed(f"{sent['timestamp']}{request.method}{request.target}{request.body}"):
            return Fault(401, _refusal("400005", "Invalid KC-API-SIGN"))
        if not self.address_is_listed:
            return Fault(400, _refusal("400006", "Invalid request IP, the current client IP is: 192.0.2.7"))
        if "General" not in self.permission:
            return Fault(403, _refusal("400007", "Access denied, require more permission"))
        return None

    def answer(self, request: Request) -> Fault | None:
        """The truth; None where there is nothing at that path for this kind of account."""
        path, query = request.path, request.query
        if path == MODE:
            return _data({"selfAccountMode": "UNIFIED" if self.kind == "unified" else "CLASSIC"})
        if path == KIND:
            return _data(self.kind == "hf")
        if path == KEY:
            return _data({"remark": "reader", "apiKey": self.key, "apiVersion": 3, "permission": self.permission})
        if (self.kind, path) == ("unified", UNIFIED_BALANCES):
            return _data({"accounts": [{"currencies": [_unified_balance(*item) for item in self.balances.items()]}]})
        if self.kind != "unified" and path == BALANCES:
            kind = "trade_hf" if self.kind == "hf" else "trade"
            if query["type"] != kind:
                return _data([])
            return _data([_balance(kind, *item) for item in self.balances.items()])
        if path == {"hf": ORDERS, "classic": CLASSIC_ORDERS, "unified": UNIFIED_ORDERS}[self.kind]:
            return self._orders(query)
        if path == {"hf": FILLS, "classic": CLASSIC_FILLS, "unified": UNIFIED_FILLS}[self.kind]:
            return self._fills(query)
        return None

    def _orders(self, query: dict[str, str]) -> Fault:
        orders = [order for order in self.orders if order["symbol"] == query["symbol"]]
        if self.kind == "hf":
            return _data(None if self.null_is_empty and not orders else orders)
        if self.kind == "unified":
            return _data(_by_page([_unified_order(order) for order in orders], query, "pageNumber", 50))
        return _data(_by_page(orders, query, "currentPage", 50))

    def _fills(self, query: dict[str, str]) -> Fault:
        start, end = int(query["startAt"]), int(query["endAt"])
        if end - start > WEEK:
            return Fault(400, _refusal("400100", "The query time range cannot exceed 7 days"))
        fills = sorted(self.fills, key=lambda fill: -fill["id"])
        fills = [fill for fill in fills if start <= fill["createdAt"] <= end]
        if not self.ignores_symbol:
            fills = [fill for fill in fills if fill["symbol"] == query["symbol"]]
        if self.kind == "classic":
            items = [{name: value for name, value in fill.items() if name != "id"} for fill in fills]
            return _data(_by_page(items, query, "currentPage", 50))
        size = min(int(query.get("limit", 20)), 100) if self.kind == "hf" else min(int(query.get("pageSize", 50)), 200)
        first = 0
        if "lastId" in query:
            if self.repeats:
                self.repeats -= 1
            else:
                first = sum(fill["id"] >= int(query["lastId"]) for fill in fills)
        page = fills[first : first + size]
        last = page[-1]["id"] if page else 0
        page = fills[max(0, first - self.overlap) : first] + page if page else page
        if self.is_shuffled:
            page = page[1::2] + page[::2]
        items = [_unified_fill(fill) for fill in page] if self.kind == "unified" else page
        return _data({"items": None if self.null_is_empty and not items else items, "lastId": last})


class KucoinServer:
    """A KuCoin of one's own, to be used in a `with` statement.

    Attributes:
        candles: by symbol, columns open_time, open, high, low, close, volume: 15-minute bars.
        now: the exchange's time, UTC; it stands still until it is set.
        faults: answers to the next requests to their path, used up one by one.
        requests: what was asked, in order.
        end_is_included: whether a candle that opens at exactly `endAt` is sent.
        account: who may ask for what is private.
    """

    def __init__(self, candles: Mapping[str, pl.DataFrame], now: datetime, account: Account | None = None) -> None:
        self.account = account or Account()
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
        if request.path == TICKERS:
            return _data({"time": _milliseconds(self.now), "ticker": [self._ticker(name) for name in self.candles]})
        if request.path not in (CANDLES, STATS, TICKER, BOOK):
            answer = self.account.refusal(request) or self.account.answer(request)
            return answer or Fault(404, _refusal("404000", f"no {request.path} here"))
        if symbol not in self.candles:
            return UNKNOWN_SYMBOL
        if request.path == CANDLES:
            if request.query.get("type") != "15min" or not {"startAt", "endAt"} <= set(request.query):
                return BAD_REQUEST
            return _data(self._rows(symbol, int(request.query["startAt"]), int(request.query["endAt"])))
        price = _text(self._until_now(symbol)["close"][-1])
        now = _milliseconds(self.now)
        if request.path == BOOK:
            return _data(book(float(price), now))
        if request.path == STATS:
            return _data({"time": now, "symbol": symbol, "last": price, "buy": price, "sell": price})
        return _data({"time": now, "price": price, "bestBid": price, "bestAsk": price})

    def _ticker(self, symbol: str) -> dict[str, str]:
        price = _text(self._until_now(symbol)["close"][-1])
        return {"symbol": symbol, "symbolName": symbol, "last": price, "buy": price, "sell": price}

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
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(parts.path, dict(parse_qsl(parts.query)), self.path, headers)
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


def order(number: int, symbol: str, side: str, price: str, size: str, **more: Any) -> dict[str, Any]:
    """An order as KuCoin writes it."""
    return {
        "id": f"{number:024x}",
        "symbol": symbol,
        "opType": "DEAL",
        "type": "limit",
        "side": side,
        "price": price,
        "size": size,
        "funds": "0",
        "dealFunds": "0",
        "dealSize": "0",
        "fee": "0",
        "feeCurrency": symbol.split("-")[1],
        "stop": "",
        "isActive": True,
        "cancelExist": False,
        "tradeType": "TRADE",
        "createdAt": 1_766_000_000_000 + number,
        **more,
    }


def fill(number: int, symbol: str, at: int, side: str = "buy", **more: Any) -> dict[str, Any]:
    """A fill as KuCoin writes it; `at` in milliseconds."""
    return {
        "id": number,
        "symbol": symbol,
        "tradeId": 11_029_373_945_000_000 + number,
        "orderId": f"{number // 3:024x}",
        "counterOrderId": "67174228135f9e000709da8c",
        "side": side,
        "liquidity": "maker" if number % 4 else "taker",
        "forceTaker": False,
        "price": "2950.01",
        "size": "0.0123456789",
        "funds": "36.419876",
        "fee": "0.036419876",
        "feeRate": "0.001",
        "feeCurrency": symbol.split("-")[1],
        "stop": "",
        "tradeType": "TRADE",
        "type": "limit",
        "createdAt": at,
        **more,
    }


def _by_page(items: list[dict[str, Any]], query: dict[str, str], name: str, default: int) -> dict[str, Any]:
    size, page = min(int(query.get("pageSize", default)), 500), int(query.get(name, 1))
    return {
        name: page,
        "pageSize": size,
        "totalNum": len(items),
        "totalPage": -(-len(items) // size),
        "items": items[(page - 1) * size : page * size],
    }


def _balance(kind: str, currency: str, amounts: tuple[str, str]) -> dict[str, Any]:
    available, held = amounts
    total = format(Decimal(available) + Decimal(held), "f")
    return {"id": "1", "currency": currency, "type": kind, "balance": total, "available": available, "holds": held}


def _unified_balance(currency: str, amounts: tuple[str, str]) -> dict[str, Any]:
    available, held = amounts
    total = format(Decimal(available) + Decimal(held), "f")
    return {"currency": currency, "equity": total, "hold": held, "balance": total, "available": available}


def _unified_order(order: dict[str, Any]) -> dict[str, Any]:
    return {
        "orderId": order["id"],
        "symbol": order["symbol"],
        "orderType": "LIMIT",
        "side": order["side"].upper(),
        "size": order["size"],
        "sizeUnit": "BASECCY",
        "price": order["price"],
        "filledSize": order["dealSize"],
        "avgPrice": "0",
        "fee": "0",
        "feeCurrency": order["feeCurrency"],
        "orderTime": order["createdAt"] * 1_000_000,
        "tradeType": "SPOT",
        "status": 2,
    }


def _unified_fill(fill: dict[str, Any]) -> dict[str, Any]:
    return {
        "orderId": fill["orderId"],
        "symbol": fill["symbol"],
        "orderType": "LIMIT",
        "side": fill["side"].upper(),
        "tradeId": str(fill["tradeId"]),
        "size": fill["size"],
        "price": fill["price"],
        "value": fill["funds"],
        "executionTime": fill["createdAt"] * 1_000_000,
        "fee": fill["fee"],
        "feeCurrency": fill["feeCurrency"],
        "liquidityRole": fill["liquidity"].upper(),
    }


def book(price: float, at: int, levels: int = 100) -> dict[str, Any]:
    """An order book as KuCoin writes it: a level a basis point, worth 500 each; `at` in milliseconds."""

    def side(sign: int) -> list[list[str]]:
        prices = [price * (1 + sign * (number + 1) * 1e-4) for number in range(levels)]
        return [[_text(float(f"{one:.9g}")), _text(float(f"{500 / one:.6g}"))] for one in prices]

    return {"time": at, "sequence": str(at // 1000), "bids": side(-1), "asks": side(1)}


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
