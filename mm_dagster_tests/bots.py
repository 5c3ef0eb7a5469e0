"""Bitget and Bybit on loopback: one grid bot by its number, with signatures verified. Their answers are those of their
guides; neither lists bots.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

KEY, SECRET, PASSPHRASE = "key-of-bots-0001", "secret-of-bots-0002", "passphrase-0003"


def of_bitget(bot_id: str = "1234567890", **changes: Any) -> dict[str, Any]:
    """A running spot grid as Bitget tells it."""
    row = {
        "botId": bot_id, "symbol": "ETHUSDT", "status": "running", "totalProfit": "9.4", "gridProfit": "12.5",
        "createdTime": "1767225600000", "runningTime": "3600000", "currentBaseBalance": "0.15",
        "currentQuoteBalance": "512.3", "gridStartPrice": "3000", "gridType": "",
        "maxPrice": "3200", "minPrice": "2800",
        "gridNum": "8", "gridOrderMode": "arithmetic", "baseInvestmentCoin": "ETH", "baseInvestmentAmount": "0.1",
        "quoteInvestmentCoin": "USDT", "quoteInvestmentAmount": "700", "stopLoss": "2700", "takeProfit": "",
    }  # fmt: skip
    return row | changes


def of_bybit(bot_id: str = "612340768081708828", **changes: Any) -> dict[str, Any]:
    """A running spot grid as Bybit tells it."""
    row = {
        "grid_id": bot_id, "symbol": "ETHUSDT", "base_token": "ETH", "quote_token": "USDT", "total_investment": "1000",
        "total_profit": "40.4186", "max_price": "3200", "min_price": "2800", "cell_number": 8, "grid_profit": "61.3113",
        "arbitrage_num": 291, "status": "RUNNING", "entry_price": "", "stop_loss_price": "2700",
        "take_profit_price": "",
        "current_price": "3010", "close_reason": "UNKNOWN_GridCloseReason", "create_time": "1767225600000",
        "end_time": "0", "cum_withdrew_amount": "0", "taker_fee_rate": "0.0006", "maker_fee_rate": "0.0004",
        "equity": "1037.412782",
    }  # fmt: skip
    return row | changes


@dataclass
class _Server:
    """One exchange; used as a context.

    Attributes:
        bots: by number.
        orders: prices of the orders that wait, by number.
        answers: bodies that are given in place of the truth, one after another; (status, body).
        asked: path of every request.
    """

    bots: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: dict[str, list[float]] = field(default_factory=dict)
    answers: list[tuple[int, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        exchange = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
                exchange.asked.append(urlsplit(self.path).path)
                status, answer = (
                    exchange.answers.pop(0) if exchange.answers else exchange.answer(self, self.command, body)
                )
                content = answer.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _do

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

    def answer(self, request: BaseHTTPRequestHandler, method: str, body: str) -> tuple[int, str]:
        raise NotImplementedError


class Bitget(_Server):
    """Bitget's unified account."""

    def answer(self, request: BaseHTTPRequestHandler, method: str, body: str) -> tuple[int, str]:
        parts = urlsplit(request.path)
        said = f"{request.headers['ACCESS-TIMESTAMP']}{method}{request.path}{body}".encode()
        proof = base64.b64encode(hmac.new(SECRET.encode(), said, hashlib.sha256).digest()).decode()
        sent = (request.headers["ACCESS-KEY"], request.headers["ACCESS-SIGN"], request.headers["ACCESS-PASSPHRASE"])
        if sent != (KEY, proof, PASSPHRASE):
            return 400, '{"code":"40009","msg":"sign signature error","requestTime":1,"data":null}'
        bot_id = dict(parse_qsl(parts.query))["botId"]
        if bot_id not in self.bots:
            return 400, '{"code":"40404","msg":"bot not found","requestTime":1,"data":null}'
        data: dict[str, Any] = self.bots[bot_id]
        if parts.path == "/api/v3/trade/grid/list-details":
            orders = [{"orderId": f"{k}", "delegatePrice": f"{price}"} for k, price in enumerate(self.orders[bot_id])]
            data = {"botId": bot_id, "buyOrderList": orders[::2], "sellOrderList": orders[1::2]}
        elif parts.path != "/api/v3/trade/grid/bot-detail":
            return 404, '{"code":"40404","msg":"no such path","data":null}'
        return 200, json.dumps({"code": "00000", "msg": "success", "requestTime": 1, "data": data})


class Bybit(_Server):
    """Bybit."""

    def answer(self, request: BaseHTTPRequestHandler, method: str, body: str) -> tuple[int, str]:
        heads = request.headers
        said = f"{heads['X-BAPI-TIMESTAMP']}{heads['X-BAPI-API-KEY']}{heads['X-BAPI-RECV-WINDOW']}{body}".encode()
        proof = hmac.new(SECRET.encode(), said, hashlib.sha256).hexdigest()
        if (heads["X-BAPI-API-KEY"], heads["X-BAPI-SIGN"]) != (KEY, proof):
            return 200, '{"retCode":10004,"retMsg":"error sign!","result":{},"time":1}'
        if (method, request.path) != ("POST", "/v5/grid/query-grid-detail"):
            return 404, "{}"
        detail = self.bots.get(str(json.loads(body)["grid_id"]))
        result: dict[str, Any] = {"status_code": 200, "debug_msg": "", "detail": detail}
        if detail is None:
            result = {"status_code": 404, "debug_msg": "grid not found", "detail": None}
        return 200, json.dumps({"retCode": 0, "retMsg": "", "result": result, "retExtInfo": {}, "time": 1})
