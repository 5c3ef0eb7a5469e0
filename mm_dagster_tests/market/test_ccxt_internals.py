"""Contract with ccxt: what ccxt_internals.py takes of it beyond the documented calls is still there, and does the same.

Whoever upgrades ccxt runs these first. The other tests of this room then say whether the exchanges do.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import ccxt
import pytest
import requests

from mm_dagster.market import ccxt_internals

BODY = b'{"code": "200000", "data": [["1767225600", "1", "2", "3", "0.5", "10", "20"], ["no time"]]}'


class Answering(requests.Session):
    """Answers every request with the same body."""

    def __init__(self, body: bytes = BODY, status: int = 200) -> None:
        super().__init__()
        self.body, self.status = body, status
        self.asked: list[str] = []

    def request(self, method: str | bytes, url: str | bytes, *arguments: Any, **options: Any) -> requests.Response:
        self.asked.append(str(url))
        response = requests.Response()
        response.status_code, response._content, response.url = self.status, self.body, str(url)
        response.reason = "Answered"
        response.headers["Content-Type"] = "application/json"
        return response


def client(session: requests.Session, exchange: str = "kucoin") -> Any:
    made = getattr(ccxt, exchange)({"enableRateLimit": True, "enableLastJsonResponse": True, "session": session})
    ccxt_internals.throttle(made, lambda weight: None)
    made.set_markets([MARKET])
    return made


MARKET = {"id": "ETH-USDT", "symbol": "ETH/USDT", "base": "ETH", "quote": "USDT", "type": "spot", "spot": True}


def test_each_request_waits_for_its_turn_with_its_weight_and_goes_to_the_other_address() -> None:
    session = Answering()
    made = client(session)
    weights: list[float | None] = []
    ccxt_internals.throttle(made, weights.append)
    ccxt_internals.redirect(made, "http://127.0.0.1:9")
    made.fetch_ohlcv("ETH/USDT", "15m")
    assert len(weights) == len(session.asked) == 1
    assert isinstance(weights[0], int | float)
    assert session.asked[0].startswith("http://127.0.0.1:9/api/")
    assert ccxt_internals.address(made) == "http://127.0.0.1:9"


def test_the_last_answer_and_the_last_headers_are_kept_and_can_be_forgotten() -> None:
    made = client(Answering())
    made.fetch_ohlcv("ETH/USDT", "15m")
    assert ccxt_internals.last_answer(made)["data"][1] == ["no time"]
    assert isinstance(ccxt_internals.last_headers(made), dict)
    ccxt_internals.forget_answer(made)
    assert ccxt_internals.last_answer(made) is None


def test_every_row_is_kept_and_one_that_cannot_be_read_stands_behind_no_time() -> None:
    made = client(Answering())
    ccxt_internals.keep_every_row(made, lambda row: isinstance(row[0], int))
    rows = made.fetch_ohlcv("ETH/USDT", "15m")
    assert rows == [[1_767_225_600_000, 1.0, 3.0, 0.5, 2.0, 10.0], [None, ["no time"]]]


def test_the_parser_that_is_replaced_takes_what_ours_takes() -> None:
    given = list(inspect.signature(ccxt.Exchange.parse_ohlcvs).parameters)[1:]
    assert given == ["ohlcvs", "market", "timeframe", "since", "limit", "tail"]
    given = list(inspect.signature(ccxt.Exchange.parse_order_book_bids_asks).parameters)[1:]
    assert given == ["bidasks", "priceKey", "amountKey", "countOrIdKey"]


BOOKS = {
    "kucoin": b'{"code": "200000", "data": {"sequence": "7", "time": 1767225600000, %s}}',
    "binance": b'{"lastUpdateId": 7, %s}',
    "okx": b'{"code": "0", "data": [{"ts": "1767225600000", "seqId": 7, %s}]}',
    "kraken": b'{"error": [], "result": {"ETH-USDT": {%s}}}',
    "bitget": b'{"code": "00000", "data": {"ts": "1767225600000", %s}}',
}
LEVELS = b'"bids": [["100", "1"], ["98", "2"], ["99", true]], "asks": [["101", "3"], ["102", "x"]]'


@pytest.mark.parametrize("exchange", BOOKS)
def test_levels_are_kept_as_sent_and_what_is_no_number_is_none(exchange: str) -> None:
    made = client(Answering(BOOKS[exchange] % LEVELS), exchange)
    sides = ccxt_internals.keep_levels_as_sent(made, 5)
    book = made.fetch_order_book("ETH/USDT", 100)
    bids, asks = ([level[:2] for level in side] for side in sides)
    assert bids == [[100.0, 1.0], [98.0, 2.0], [99.0, None]]
    assert asks == [[101.0, 3.0], [102.0, None]]
    # ccxt has sorted what can be sorted.
    assert [level[:2] for level in book["bids"]] == [[100.0, 1.0], [98.0, 2.0]]
    ccxt_internals.keep_levels_as_sent(made, 2)
    with pytest.raises(ccxt_internals.UnreadableLevels, match="it has 3 levels on a side"):
        made.fetch_order_book("ETH/USDT", 100)


@pytest.mark.parametrize("exchange", ["kucoin", "binance", "okx"])
def test_what_only_spot_changes_is_there(exchange: str) -> None:
    made = client(Answering(), exchange)
    assert {"fetchCurrencies", "fetchOHLCV", "fetchTime"} <= made.has.keys()
    assert "defaultType" in made.options or "fetchMarkets" in made.options
    ccxt_internals.only_spot(made)
    assert made.options["defaultType"] == "spot"


def test_a_silenced_client_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made = client(Answering())
    assert isinstance(made.logger, logging.Logger)
    ccxt_internals.silence(made)
    with caplog.at_level(logging.DEBUG):
        made.fetch_ohlcv("ETH/USDT", "15m")
    assert caplog.records == []


def test_an_error_quotes_the_code_of_kucoin_and_leads_to_the_status() -> None:
    made = client(Answering(b'{"code": "200002", "msg": "Too many requests"}', 429))
    with pytest.raises(ccxt.BaseError) as raised:
        made.fetch_ohlcv("ETH/USDT", "15m")
    assert ccxt_internals.kucoin_code(raised.value) == "200002"
    assert ccxt_internals.http_status(raised.value) == 429


def test_the_kind_of_an_account_is_asked_for_and_kept_where_it_is_looked_for() -> None:
    made = client(Answering(b'{"code": "200000", "data": {"selfAccountMode": "UNIFIED"}}'))
    made.apiKey, made.secret, made.password = "key", "secret", "password"
    ccxt_internals.ask_kind_of_account(made)
    assert ccxt_internals.is_unified(made)
    assert "hf" in made.options
    silent = client(Answering(b'{"code": "200000", "data": {}}'))
    silent.apiKey, silent.secret, silent.password = "key", "secret", "password"
    with pytest.raises(ccxt.NullResponse):
        ccxt_internals.ask_kind_of_account(silent)


@pytest.mark.parametrize(("exchange", "header"), [("kucoin", "KC-API-TIMESTAMP"), ("okx", "OK-ACCESS-TIMESTAMP")])
def test_a_request_is_signed_with_the_clock_that_was_set_and_has_the_headers_that_were_added(
    exchange: str, header: str
) -> None:
    made = client(Answering(b'{"code": "0", "data": []}' if exchange == "okx" else BODY), exchange)
    made.apiKey, made.secret, made.password = "key", "secret", "phrase"
    ccxt_internals.set_clock(made, lambda: 1_767_225_600_000)
    ask = made.privateGetAccountConfig if exchange == "okx" else made.privateGetUserApiKey
    ccxt_internals.add_headers(made, {"x-always": "1"})
    ask()
    with_it = made.set_headers(dict(ccxt_internals.last_headers(made)))
    assert with_it[header] in ("1767225600000", "2026-01-01T00:00:00.000Z")
    with ccxt_internals.with_headers(made, {"expTime": "5"}):
        assert made.prepare_request_headers() | {"x-always": "1", "expTime": "5"} == made.prepare_request_headers()
    assert "expTime" not in made.prepare_request_headers()
    assert made.prepare_request_headers()["x-always"] == "1"


@pytest.mark.parametrize("exchange", ["kucoin", "kraken", "okx"])
def test_ccxt_puts_a_request_once(exchange: str) -> None:
    session = Answering(b"{}", status=503)
    made = client(session, exchange)
    made.apiKey, made.secret, made.password = "key", "c2VjcmV0", "phrase"
    ask = {"kucoin": "privatePostHfOrders", "kraken": "privatePostAddOrder", "okx": "privatePostTradeOrder"}[exchange]
    with pytest.raises(ccxt.BaseError):
        getattr(made, ask)({"a": "1"})
    assert len(session.asked) == 1
