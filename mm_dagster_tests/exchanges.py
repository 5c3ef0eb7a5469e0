"""Bybit and OKX on loopback: what ccxt's real client needs of their public REST for candles, beside OKX's grids.

The shapes are those of their guides: candles newest first, all values texts, milliseconds; Bybit sends at most 1,000
and the one in progress unmarked, OKX 300 (of long ago 100) with a mark. Whose prices they are the caller says.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl

from mm_dagster.bars import EPOCH, floor_bar
from mm_dagster_tests.kucoin import _text as text
from mm_dagster_tests.kucoin import book
from mm_dagster_tests.okx import DETAILS, LIST, Okx

BALANCE = "/api/v5/account/balance"
Query = dict[str, str]
Row = tuple[int, list[str], bool]
"""Milliseconds; open, high, low, close and volume as texts; whether it has closed."""


def milliseconds(when: datetime) -> int:
    return (when - EPOCH) // timedelta(milliseconds=1)


def rows_of(candles: pl.DataFrame, now: datetime, first: int, last: int) -> list[Row]:
    """The candles that open from `first` to `last`, both included, newest first; the one in progress has its open."""
    present = floor_bar(now)
    until = datetime.fromtimestamp(last / 1000, UTC)
    known = candles.filter(
        (pl.col("open_time") <= min(present, until))
        & (pl.col("open_time") >= datetime.fromtimestamp(first / 1000, UTC))
    )
    found: list[Row] = []
    for row in known.sort("open_time", descending=True).iter_rows(named=True):
        closed = row["open_time"] < present
        values = [row[name] if closed else row["open"] for name in ("open", "high", "low", "close")]
        texts = [text(value) for value in (*values, row["volume"])]
        found.append((milliseconds(row["open_time"]), texts, closed))
    return found


@dataclass
class Bybit:
    """The server; used as a context.

    Attributes:
        candles: by symbol, like SOL-USDT.
        now: its time; it stands still until it is set.
        asked: paths, in order.
    """

    candles: Mapping[str, pl.DataFrame]
    now: datetime
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Bybit:
        exchange = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                exchange.asked.append(parts.path)
                result = exchange.answer(parts.path, dict(parse_qsl(parts.query)))
                code, message = (0, "OK") if result is not None else (10001, "Not found")
                told = {"retCode": code, "retMsg": message, "result": result or {}, "time": milliseconds(exchange.now)}
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, query: Query) -> dict[str, Any] | None:
        """The truth; None: it knows no such path or market."""
        if path == "/v5/market/time":
            return {"timeSecond": str(milliseconds(self.now) // 1000), "timeNano": str(milliseconds(self.now) * 10**6)}
        if path == "/v5/market/instruments-info":
            return {"category": "spot", "list": [self._instrument(name) for name in self.candles]}
        name = {one.replace("-", ""): one for one in self.candles}.get(query.get("symbol", ""))
        if name is None or query.get("category", "spot") != "spot":
            return None
        about = {"category": "spot", "symbol": query["symbol"]}
        if path == "/v5/market/kline":
            end = int(query.get("end", milliseconds(self.now)))
            limit = min(int(query.get("limit", 200)), 1_000)
            rows = rows_of(self.candles[name], self.now, int(query.get("start", 0)), end)[:limit]
            return {**about, "list": [[str(at), *values, "0"] for at, values, _ in rows]}
        last = rows_of(self.candles[name], self.now, 0, milliseconds(self.now))[0][1][3]
        if path == "/v5/market/tickers":
            return {"category": "spot", "list": [{"symbol": query["symbol"], "lastPrice": last}]}
        if path == "/v5/market/orderbook":
            sides = book(float(last), milliseconds(self.now))
            return {"s": query["symbol"], "b": sides["bids"], "a": sides["asks"], "ts": sides["time"], "u": 1, "seq": 1}
        return None

    @staticmethod
    def _instrument(name: str) -> dict[str, Any]:
        base, quote = name.split("-")
        return {
            "symbol": f"{base}{quote}", "baseCoin": base, "quoteCoin": quote, "status": "Trading",
            "marginTrading": "none",
            "lotSizeFilter": {"basePrecision": "0.0001", "quotePrecision": "0.0000001", "minOrderQty": "0.01",
                              "maxOrderQty": "100000", "minOrderAmt": "1", "maxOrderAmt": "200000"},
            "priceFilter": {"tickSize": "0.01"},
        }  # fmt: skip


@dataclass
class OkxWithMarkets(Okx):
    """OKX's grids of an account, and the candles of its markets.

    Attributes:
        candles: by symbol.
        now: its time; it stands still until it is set.
        balances: what the account holds.
    """

    candles: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    now: datetime = EPOCH
    balances: list[Any] = field(default_factory=lambda: [{"details": [], "uTime": "1751284800000"}])

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        parts = urlsplit(request.path)
        if parts.path in (LIST, DETAILS):
            return super().answer(request)
        query = dict(parse_qsl(parts.query))
        self.asked.append((parts.path, query))
        data = self._public(parts.path, query)
        if data is None and request.headers["OK-ACCESS-KEY"]:
            refused = self.refusal(request)
            if refused:
                return refused
            data = self.balances if parts.path == BALANCE else []
        if data is None:
            return 404, b'{"code":"404","data":[],"msg":"Not Found"}'
        return 200, json.dumps({"code": "0", "data": data, "msg": ""}).encode()

    def _public(self, path: str, query: Query) -> list[Any] | None:
        if path == "/api/v5/public/time":
            return [{"ts": str(milliseconds(self.now))}]
        if path == "/api/v5/public/instruments":
            return [self._instrument(name) for name in self.candles] if query.get("instType") == "SPOT" else []
        if query.get("instId") not in self.candles:
            return None
        candles = self.candles[query["instId"]]
        if path in ("/api/v5/market/candles", "/api/v5/market/history-candles"):
            most = 300 if path.endswith("/candles") else 100
            # Both bounds are excluded, and `after` is the later one.
            first, last = int(query.get("before", 0)) + 1, int(query.get("after", milliseconds(self.now) + 1)) - 1
            rows = rows_of(candles, self.now, first, last)[: min(int(query.get("limit", 100)), most)]
            return [[str(at), *values, "0", "0", "1" if closed else "0"] for at, values, closed in rows]
        last_price = rows_of(candles, self.now, 0, milliseconds(self.now))[0][1][3]
        if path == "/api/v5/market/ticker":
            return [
                {"instType": "SPOT", "instId": query["instId"], "last": last_price, "ts": str(milliseconds(self.now))}
            ]
        if path == "/api/v5/market/books":
            sides = book(float(last_price), milliseconds(self.now))
            levels = {name: [[*level, "0", "1"] for level in sides[name]] for name in ("bids", "asks")}
            return [{**levels, "ts": str(sides["time"])}]
        return None

    @staticmethod
    def _instrument(name: str) -> dict[str, Any]:
        base, quote = name.split("-")
        return {
            "instType": "SPOT", "instId": name, "baseCcy": base, "quoteCcy": quote, "state": "live", "tickSz": "0.0001",
            "lotSz": "0.0001", "minSz": "1", "lever": "", "settleCcy": "", "uly": "", "ctVal": "", "expTime": "",
            "listTime": "1548133413000", "maxLmtSz": "1000000", "maxMktSz": "1000000",
        }  # fmt: skip
