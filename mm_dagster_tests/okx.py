"""OKX on loopback: its spot grids, with signatures verified, pages of 100, and its errors inside of good answers.

The shapes are those of its guide: all values are texts, none is an empty one; a list lacks what a grid holds.
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
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LIST = "/api/v5/tradingBot/grid/orders-algo-pending"
FILLS = "/api/v5/tradingBot/grid/sub-orders"
DETAILS = "/api/v5/tradingBot/grid/orders-algo-details"
KEY, SECRET, PASSPHRASE = "key-of-okx-0001", "secret-of-okx-0002", "passphrase-0003"


def filled(number: int, at: int, side: str, price: float, size: float, **changes: Any) -> dict[str, Any]:
    """A filled order of a grid; its buys pay their fee in the base currency, its sells in the other."""
    fee, currency = (size * 0.001, "ETH") if side == "buy" else (size * price * 0.001, "USDT")
    row = {
        "ordId": f"{700000 + number}", "side": side, "px": f"{price}", "avgPx": f"{price}", "sz": f"{size}",
        "accFillSz": f"{size}", "fee": f"{-fee:.10f}", "feeCcy": currency, "state": "filled", "uTime": f"{at}",
        "cTime": f"{at}", "rebate": "0",
    }  # fmt: skip
    return row | changes


ONLY_DETAILS = ("curBaseSz", "curQuoteSz", "tradeNum", "singleAmt")


def grid(number: int, **changes: Any) -> dict[str, Any]:
    """A running spot grid, as details tell it."""
    row = {
        "algoId": f"{448965992920907000 + number}", "algoOrdType": "grid", "instId": "ETH-USDT", "state": "running",
        "minPx": "2800", "maxPx": "3200", "gridNum": "8", "runType": "1", "investment": "1000", "gridProfit": "12.5",
        "floatProfit": "-3.1", "totalPnl": "9.4", "tpTriggerPx": "", "slTriggerPx": "2700", "cancelType": "0",
        "cTime": "1767225600000", "curBaseSz": "0.15", "curQuoteSz": "512.3", "tradeNum": "17", "singleAmt": "0.04",
        "triggerParams": [], "perMaxProfitRate": "0.0158",
    }  # fmt: skip
    return row | changes


@dataclass
class Okx:
    """The server; used as a context.

    Attributes:
        grids: what its accounts run.
        fills: the filled orders of each grid by its number, the oldest first.
        answers: bodies that are given in place of the truth, by path, one after another; (status, body).
        asked: path and query of every request.
    """

    grids: list[dict[str, Any]] = field(default_factory=list)
    fills: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> Okx:
        okx = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = okx.answer(self)
                self.send_response(status)
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

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query))
        self.asked.append((parts.path, query))
        if self.answers.get(parts.path):
            status, body = self.answers[parts.path].pop(0)
            return status, body.encode()
        refused = self.refusal(request)
        if refused:
            return refused
        if query.get("algoOrdType") != "grid":
            return 200, b'{"code":"51000","data":[],"msg":"Parameter algoOrdType error"}'
        return 200, json.dumps({"code": "0", "data": self._rows(parts.path, query), "msg": ""}).encode()

    @staticmethod
    def refusal(request: BaseHTTPRequestHandler, body: str = "") -> tuple[int, bytes] | None:
        """Why who asks is not let in; None: they are."""
        signed = f"{request.headers['OK-ACCESS-TIMESTAMP']}{request.command}{request.path}{body}".encode()
        proof = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
        if request.headers["OK-ACCESS-KEY"] != KEY:
            return 401, b'{"code":"50119","data":[],"msg":"API key doesn\'t exist"}'
        if request.headers["OK-ACCESS-SIGN"] != proof or request.headers["OK-ACCESS-PASSPHRASE"] != PASSPHRASE:
            return 401, b'{"code":"50113","data":[],"msg":"Invalid Sign"}'
        return None

    def _rows(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        if path == DETAILS:
            return [row for row in self.grids if row.get("algoId") == query["algoId"]]
        if path == FILLS:
            rows = self.fills.get(query["algoId"], [])[::-1] if query["type"] == "filled" else []
            numbers = [row["ordId"] for row in rows]
            start = numbers.index(query["after"]) + 1 if query.get("after") in numbers else 0
            return rows[start : start + int(query.get("limit", "100"))]
        running = [row for row in self.grids if row.get("state") != "stopped"]
        if "after" in query:
            numbers = [row.get("algoId") for row in running]
            running = running[numbers.index(query["after"]) + 1 :] if query["after"] in numbers else []
        shown = running[: int(query.get("limit", "100"))]
        return [{name: value for name, value in row.items() if name not in ONLY_DETAILS} for row in shown]
