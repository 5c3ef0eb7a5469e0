"""An exchange that lies: KuCoin's public REST over raw sockets, one venue a market, with a hook on every answer.

Each market is a venue of its own, under a path of its own, with a clock, a list of markets and a ticker of its own, so
that one tick can meet a dozen faults that know nothing of each other.
"""

from __future__ import annotations

import json
import os
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import polars as pl

from mm_dagster_tests.kucoin import book

Rows = list[list[object]]
"""KuCoin's candles: seconds, open, close, high, low, volume, turnover; newest first."""

QUARTER = 900
MOST_ROWS = 1_500
CANDLES, TIME, MARKETS, TICKER, BOOK = "candles", "time", "markets", "ticker", "book"
_ENDPOINTS = {
    "/api/v1/market/candles": CANDLES,
    "/api/v1/timestamp": TIME,
    "/api/v2/symbols": MARKETS,
    "/api/v1/market/stats": TICKER,
    "/api/v1/market/allTickers": TICKER,
    "/api/v1/market/orderbook/level1": TICKER,
    "/api/v1/market/orderbook/level2_100": BOOK,
}


@dataclass(frozen=True)
class Series:
    """The true candles of a market: opening times in seconds, and open, high, low, close, volume, shape (n, 5)."""

    opens: np.ndarray
    values: np.ndarray

    def until(self, seconds: int) -> Series:
        """What closed by then, and the bar in progress a quarter of its way."""
        known = self.opens <= seconds
        opens, values = self.opens[known], self.values[known].copy()
        if opens.size and opens[-1] + QUARTER > seconds:
            first, last = values[-1, 0], values[-1, 0] + (values[-1, 3] - values[-1, 0]) / 4
            values[-1] = [first, max(first, last), min(first, last), last, values[-1, 4] / 4]
        return Series(opens, values)

    def scaled(self, factor: float) -> Series:
        """Prices times a factor."""
        return Series(self.opens, self.values * np.array([factor] * 4 + [1.0]))


def recorded(folder: Path, symbol: str) -> Series:
    """A real market."""
    rows = pl.read_parquet(folder / "candles" / "kucoin" / symbol / "15m.parquet").sort("open_time")
    seconds = rows["open_time"].cast(pl.Datetime("ms", "UTC")).dt.epoch("s").to_numpy()
    return Series(seconds, rows.select("open", "high", "low", "close", "volume").to_numpy())


def walked(symbol: str, first: datetime, last: datetime) -> Series:
    """A market that never was: a seeded walk, for places without recordings and years that none has."""
    seed = sum(ord(letter) << (index % 24) for index, letter in enumerate(symbol))
    rng = np.random.default_rng(seed)
    opens = np.arange(int(first.timestamp()), int(last.timestamp()), QUARTER)
    steps = rng.normal(0.0, 0.002, (opens.size, 4)).cumsum(axis=1)
    start = np.concatenate([[0.0], steps[:, -1].cumsum()[:-1]])
    start -= 0.98 * (start - np.sin(np.arange(opens.size) / 500) * 0.05)
    path = np.exp(np.column_stack([start, start[:, None] + steps])) * (1 + seed % 977)
    path[1:, 0] = path[:-1, -1]
    return Series(
        opens,
        np.column_stack(
            [path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1], rng.uniform(10, 1000, opens.size)]
        ).round(6),
    )


def shared_data() -> Path | None:
    """Where the recordings are; None: nowhere."""
    folder = Path(os.environ.get("MM_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    return folder if folder.is_dir() else None


@dataclass(frozen=True)
class Question:
    """One request: which market's venue, which endpoint, and its arguments."""

    market: str
    endpoint: str
    arguments: Mapping[str, str]
    target: str
    number: int


@dataclass(frozen=True)
class Reply:
    """An answer, and how it is given.

    Attributes:
        rows: the candles that `body` was made of; empty for other endpoints.
        body: as sent.
        status: HTTP status.
        headers: more of them.
        kind: Content-Type.
        drip: seconds between the bytes of the body; 0: all at once.
        cut: bytes of the body after which the connection is reset; None: it is not.
    """

    body: bytes
    rows: Rows = field(default_factory=list)
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = "application/json"
    drip: float = 0.0
    cut: int | None = None


Change = Callable[[Question, Reply, "Exchange"], Reply]
"""What becomes of a true answer."""

DRIP_SECONDS = 25.0
"""A dripping answer ends after so long."""


def said(data: object) -> Reply:
    """KuCoin's envelope."""
    return Reply(json.dumps({"code": "200000", "data": data}).encode())


def of_rows(rows: Rows) -> Reply:
    """Candles as an answer."""
    return replace(said(rows), rows=rows)


class Exchange:
    """Runs while the `with` block does.

    Attributes:
        series: the true candles by market.
        now: the true time of all venues.
        changes: by market, what is done to its venue's answers.
        asked: how many questions came in.
        most_sent: the largest body that a client took whole.
        sends_idle: whether a bar in which nobody traded is sent, with volume 0.
    """

    def __init__(self, series: Mapping[str, Series], now: datetime) -> None:
        self.series = dict(series)
        self.now = now
        self.changes: dict[str, Change] = {}
        self.asked = 0
        self.most_sent = 0
        self.sends_idle = False
        self.closing = threading.Event()
        self._counting = threading.Lock()
        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("Line", (_Line,), {"exchange": self}))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, market: str, host: str = "127.0.0.1") -> str:
        """The address of a market's venue."""
        return f"http://{host}:{self.port}/{market}"

    def __enter__(self) -> Exchange:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, target: str) -> Reply:
        """The answer to a request, changed where a change is installed."""
        parts = urlsplit(target)
        market, _, path = unquote(parts.path).lstrip("/").partition("/")
        endpoint = _ENDPOINTS.get(f"/{path}")
        arguments = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        with self._counting:
            self.asked += 1
            number = self.asked
        if endpoint is None or market not in self.series:
            return Reply(b'{"code":"404000","msg":"not here"}', status=404)
        question = Question(market, endpoint, arguments, target, number)
        truth = self.truth(question)
        change = self.changes.get(market)
        return change(question, truth, self) if change else truth

    def truth(self, question: Question) -> Reply:
        """What an honest exchange says."""
        seconds = int(self.now.timestamp())
        if question.endpoint == TIME:
            return said(seconds * 1000)
        if question.endpoint == MARKETS:
            return said([listed(question.market)])
        symbol = question.arguments.get("symbol", question.market)
        if symbol not in self.series:
            return Reply(b'{"code":"900001","msg":"symbol not exists"}')
        known = self.series[symbol].until(seconds)
        if question.endpoint == TICKER:
            return said(ticker(symbol, float(known.values[-1, 3]), seconds))
        if question.endpoint == BOOK:
            return said(book(float(known.values[-1, 3]), seconds * 1000))
        start, end = int(question.arguments.get("startAt", 0)), int(question.arguments.get("endAt", seconds))
        inside = (known.opens >= start) & (known.opens <= end) & (self.sends_idle | (known.values[:, 4] > 0))
        return of_rows(rows_of(Series(known.opens[inside], known.values[inside]))[:MOST_ROWS])


def rows_of(series: Series) -> Rows:
    """KuCoin's form, newest first."""
    return [
        [str(int(at)), *(repr(float(one[i])) for i in (0, 3, 1, 2, 4)), repr(float(one[3] * one[4]))]
        for at, one in zip(series.opens[::-1], series.values[::-1], strict=True)
    ]


def listed(symbol: str) -> dict[str, object]:
    """A market in the list of markets."""
    base, quote = symbol.split("-")
    return {
        "symbol": symbol, "name": symbol, "baseCurrency": base, "quoteCurrency": quote, "feeCurrency": quote,
        "market": "USDS", "baseMinSize": "0.0001", "quoteMinSize": "0.1", "baseMaxSize": "10000000000",
        "quoteMaxSize": "99999999", "baseIncrement": "0.0001", "quoteIncrement": "0.000001",
        "priceIncrement": "0.000001", "priceLimitRate": "0.1", "minFunds": "0.1", "isMarginEnabled": False,
        "enableTrading": True, "feeCategory": 1, "makerFeeCoefficient": "1.00", "takerFeeCoefficient": "1.00",
        "st": False,
    }  # fmt: skip


def ticker(symbol: str, price: object, seconds: int) -> dict[str, object]:
    """The day's figures of a market, in the forms of all three endpoints at once."""
    one = {
        "symbol": symbol, "symbolName": symbol, "buy": str(price), "sell": str(price), "last": str(price),
        "price": str(price), "changeRate": "0", "changePrice": "0", "high": str(price), "low": str(price),
        "vol": "1000", "volValue": "1000", "averagePrice": str(price),
    }  # fmt: skip
    return {**one, "time": seconds * 1000, "ticker": [one]}


class _Line(socketserver.StreamRequestHandler):
    """One connection: requests one after the other, parsed by hand."""

    exchange: Exchange
    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            while (line := self.rfile.readline(65_536)).strip():
                target = line.split()[1].decode("ascii", "replace")
                length = 0
                while header := self.rfile.readline(65_536).strip():
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                self.rfile.read(length)
                if not self._give(self.exchange.reply(target)):
                    return
        except (OSError, ValueError, IndexError):
            return

    def _give(self, reply: Reply) -> bool:
        """Sends an answer; False: the connection is over."""
        lines = [f"HTTP/1.1 {reply.status} Because", f"Content-Type: {reply.kind}"]
        lines += [f"Content-Length: {len(reply.body)}", *(f"{name}: {value}" for name, value in reply.headers)]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode())
        if reply.cut is not None:
            self.wfile.write(reply.body[: reply.cut])
            # An abrupt end, not an orderly one.
            self.connection.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")
            return False
        if reply.drip:
            ends = time.monotonic() + DRIP_SECONDS
            for index in range(len(reply.body)):
                if time.monotonic() > ends or self.exchange.closing.wait(reply.drip):
                    return False
                self.wfile.write(reply.body[index : index + 1])
            return True
        self.wfile.write(reply.body)
        self.exchange.most_sent = max(self.exchange.most_sent, len(reply.body))
        return True


def at(text: str) -> datetime:
    """An instant, UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MINUTE = timedelta(minutes=1)
