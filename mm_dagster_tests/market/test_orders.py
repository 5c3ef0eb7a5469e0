"""Orders at KuCoin, Kraken and OKX through ccxt's real client: what goes out, and what an answer is taken for."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import ccxt
import pytest

from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market.account import Credentials
from mm_dagster.market.bots import can_stop, open_stop
from mm_dagster.market.order_venue import Holding, MarketRules
from mm_dagster.market.orders import AccountOrders, fingerprint, open_orders, permissions
from mm_dagster.market.venue import VenueError
from mm_dagster_tests.execution.exchange import Exchange, Whims
from mm_dagster_tests.execution.loopback import DIALECTS, SYMBOL, Bot, Kraken, Kucoin, Loopback, Okx, Request

RULES = MarketRules(Decimal("0.001"), Decimal("0.01"), Decimal("0.01"), Decimal("1"))
NUMBER = "mmabcdefghn1"
ALL = pytest.mark.parametrize("name", sorted(DIALECTS))


def server_of(name: str, whims: Whims | None = None, **more: Any) -> Loopback:
    dialect = DIALECTS[name]
    exchange = Exchange(time.monotonic, RULES, Decimal("5.5"), name=dialect.order_name, whims=whims or Whims())
    return dialect(exchange, **more)


def settings_of(server: Loopback, **more: Any) -> CcxtVenue:
    known = {"exchange": server.name, "api_url": server.url, "requests_per_second": 1_000, "timeout_seconds": 2.0}
    return CcxtVenue(kind="ccxt", **(known | more))


def account(server: Loopback, **more: Any) -> AccountOrders:
    return AccountOrders("mine", settings_of(server), server.key, **more)


@pytest.fixture
def kucoin() -> Iterator[Loopback]:
    with server_of("kucoin") as server:
        yield server


def placed(server: Loopback) -> list[Request]:
    return [one for one in server.requests if server.change(one) is not None]


def sent(request: Request) -> dict[str, str]:
    found: dict[str, str] = dict(parse_qsl(request.body)) if "=" in request.body else json.loads(request.body)
    return found


# what goes out --------------------------------------------------------------------------------------------------------

WRITTEN = {
    "kucoin": ("size", "price", "clientOid", {"side": "sell", "type": "limit", "timeInForce": "IOC"}),
    "kraken": ("volume", "price", "cl_ord_id", {"type": "sell", "ordertype": "limit", "timeinforce": "IOC"}),
    "okx": ("sz", "px", "clOrdId", {"side": "sell", "ordType": "ioc", "tdMode": "cash"}),
}


@ALL
@pytest.mark.parametrize(
    ("amount", "limit", "size", "price"),
    [
        ("1.2345", "99.50", "1.234", "99.50"),
        ("0.1000", "100", "0.100", "100"),
        ("3", "1E+2", "3.000", "100"),
        ("0.3000000000000000000000001", "0.1", "0.300", "0.1"),
        # What is not a float goes out as it is, too.
        ("5.4999999999999999999999999", "123456789012.123456789", "5.499", "123456789012.123456789"),
    ],
)
def test_an_order_goes_out_digit_by_digit_once_and_sells(
    name: str, amount: str, limit: str, size: str, price: str
) -> None:
    with server_of(name) as server:
        venue = account(server)
        # The loopback refuses a price that is off its ticks: it goes out as it is all the same.
        with contextlib.suppress(VenueError):
            venue.sell(SYMBOL, NUMBER, Decimal(amount), Decimal(limit))
        (request,) = placed(server)
    size_name, price_name, id_name, rest = WRITTEN[name]
    order = sent(request)
    assert (order[size_name], order[price_name], order[id_name]) == (size, price, NUMBER)
    assert rest.items() <= order.items()


@ALL
@pytest.mark.parametrize(
    ("client_id", "amount", "limit"),
    [
        ("mm-1", "1", "99"), ("", "1", "99"), ("a" * 19, "1", "99"), ("mm1/../x", "1", "99"), (NUMBER, "0", "99"),
        (NUMBER, "0.0009", "99"), (NUMBER, "-1", "99"), (NUMBER, "NaN", "99"), (NUMBER, "Infinity", "99"),
        (NUMBER, "1", "0"), (NUMBER, "1", "-5"), (NUMBER, "1", "NaN"), (NUMBER, "1", "Infinity"),
    ],
)  # fmt: skip
def test_what_is_no_order_is_not_sent(name: str, client_id: str, amount: str, limit: str) -> None:
    with server_of(name) as server:
        with pytest.raises(VenueError, match=r"nothing was sent"):
            account(server).sell(SYMBOL, client_id, Decimal(amount), Decimal(limit))
        assert placed(server) == []


@ALL
@pytest.mark.parametrize("order_id", ["", " ", "/", "../orders", "12345", "x1", "all", "*", "1,2", "A?symbol=B", "O1"])
def test_what_is_no_number_of_one_order_is_never_cancelled(name: str, order_id: str) -> None:
    """KuCoin's path without a number cancels all of the market; Kraken takes a plain number for one of many orders."""
    with server_of(name) as server:
        with pytest.raises(VenueError, match="is no number of an order; nothing is cancelled"):
            account(server).cancel(SYMBOL, order_id)
        assert placed(server) == []


@ALL
def test_one_order_is_cancelled_of_the_market(name: str) -> None:
    with server_of(name) as server:
        exchange, venue = server.exchange, account(server)
        one, other = (exchange.place(None, "sell", Decimal(1), Decimal(105), rests=True) for _ in range(2))
        venue.cancel(SYMBOL, one.order_id)
        assert [found.order_id for found in venue.open_orders(SYMBOL)] == [other.order_id]
        with pytest.raises(VenueError):
            venue.cancel(SYMBOL, one.order_id)
        if name == "kucoin":
            assert {request.query["symbol"] for request in placed(server)} == {SYMBOL}


@ALL
@pytest.mark.parametrize("what", ["lost", "unheard", "reset", "broken", "denied", "busy", "late"])
def test_what_changes_something_is_asked_for_once_whatever_is_answered(name: str, what: str) -> None:
    with server_of(name, window=0.6, patience=0.4) as server:
        venue = account(server, patience=0.4, request_window=0.6)
        venue.holding(SYMBOL)
        setattr(server.fate, what, 1.0)
        began = time.monotonic()
        with pytest.raises(VenueError) as error:
            venue.sell(SYMBOL, NUMBER, Decimal(1), Decimal("99.5"))
        assert time.monotonic() - began < 2.0
        assert len(placed(server)) == 1
    assert "\n" not in str(error.value)


@ALL
def test_a_request_that_is_too_old_is_refused_by_the_exchange(name: str) -> None:
    """The time until which it lives goes out with it, and is never later than it is believed to be."""
    with server_of(name, window=5.0) as server:
        venue = account(server)
        before = time.time()
        venue.sell(SYMBOL, NUMBER, Decimal(1), Decimal("99.5"))
        (request,) = placed(server)
        assert server.sent_at(request) + server.window <= time.time() + venue.request_window
        # Kraken tells whole seconds only.
        assert server.sent_at(request) > before - 1.1
        assert server.ahead == 0


@ALL
def test_a_wrong_clock_of_the_computer_makes_no_request_live_longer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt.Exchange, "milliseconds", staticmethod(lambda: int((time.time() + 86_400) * 1000)))
    with server_of(name) as server:
        account(server).sell(SYMBOL, NUMBER, Decimal(1), Decimal("99.5"))
        (request,) = placed(server)
        assert server.exchange.sold == 1
        assert server.sent_at(request) + server.window <= time.time() + server.window
        assert server.ahead == 0


# what is told ---------------------------------------------------------------------------------------------------------


@ALL
def test_rules_and_holdings_are_exact(name: str) -> None:
    with server_of(name) as server:
        venue = account(server)
        least_funds = Decimal(0) if name == "okx" else RULES.least_funds
        assert venue.rules(SYMBOL) == MarketRules(RULES.lot, RULES.tick, RULES.least, least_funds)
        server.exchange.place(None, "sell", Decimal("0.3"), Decimal(105), rests=True)
        assert venue.holding(SYMBOL) == Holding(Decimal("5.5"), Decimal("5.2"))


@ALL
def test_only_the_exchange_saying_so_means_that_there_is_no_order(name: str) -> None:
    with server_of(name) as server:
        venue = account(server, patience=0.5)
        assert venue.record(SYMBOL, NUMBER) is None
        venue.sell(SYMBOL, NUMBER, Decimal("1.5"), Decimal("99.5"))
        record = venue.record(SYMBOL, NUMBER)
        assert record is not None
        assert (record.filled, record.amount, record.limit, record.side) == (
            Decimal("1.5"), Decimal("1.5"), Decimal("99.5"), "sell",
        )  # fmt: skip
        assert not record.is_open
        assert record.fee is not None
        assert record.fee > 0
        server.fate.silent = 1.0
        for _ in range(12):
            with pytest.raises(VenueError):
                venue.record(SYMBOL, NUMBER)


@ALL
def test_an_open_order_is_open_and_a_part_is_a_part(name: str) -> None:
    with server_of(name, Whims(stuck_order=1.0)) as server:
        venue = account(server)
        venue.sell(SYMBOL, NUMBER, Decimal(1), Decimal("99.5"))
        record = venue.record(SYMBOL, NUMBER)
        assert record is not None
        assert (record.is_open, record.filled, record.proceeds) == (True, Decimal(0), Decimal(0))
        assert [one.client_id for one in venue.open_orders(SYMBOL)] == [NUMBER]


KUCOIN_ORDER = {
    "id": "5" * 24, "clientOid": NUMBER, "symbol": SYMBOL, "side": "sell", "price": "99.5", "size": "1",
    "dealSize": "0.5", "dealFunds": "49.75", "fee": "0.05", "feeCurrency": "USDT", "active": False,
}  # fmt: skip
KRAKEN_ORDER = {
    "cl_ord_id": NUMBER, "status": "closed", "vol": "1", "vol_exec": "0.5", "cost": "49.75", "fee": "0.05",
    "descr": {"pair": "SOLUSDT", "type": "sell", "price": "99.5"}, "oflags": "fciq",
}  # fmt: skip
OKX_ORDER = {
    "instId": SYMBOL, "ordId": "680800019749904385", "clOrdId": NUMBER, "px": "99.5", "sz": "1", "side": "sell",
    "accFillSz": "0.5", "avgPx": "99.5", "state": "canceled", "fee": "-0.05", "feeCcy": "USDT",
}  # fmt: skip


def told_of(name: str, row: dict[str, Any]) -> dict[str, Any]:
    if name == "kucoin":
        return {"code": "200000", "data": row}
    if name == "okx":
        return {"code": "0", "msg": "", "data": [row]}
    return {"error": [], "result": {"closed": {"OAAAAA-BBBBB-CCCCCC": row}, "count": 1}}


BASE = {"kucoin": KUCOIN_ORDER, "kraken": KRAKEN_ORDER, "okx": OKX_ORDER}
PATH = {
    "kucoin": f"/api/v1/hf/orders/client-order/{NUMBER}", "kraken": "/0/private/ClosedOrders",
    "okx": "/api/v5/trade/order",
}  # fmt: skip


@ALL
def test_a_record_is_read(name: str) -> None:
    with server_of(name) as server:
        server.answers[PATH[name]] = [(200, json.dumps(told_of(name, BASE[name])))]
        record = account(server).record(SYMBOL, NUMBER)
    assert record is not None
    assert (record.is_open, record.filled, record.proceeds, record.fee) == (
        False, Decimal("0.5"), Decimal("49.75"), Decimal("0.05"),
    )  # fmt: skip


WRONG: list[tuple[str, dict[str, Any]]] = [
    *(("kucoin", change) for change in (
        {"symbol": "ETH-USDT"}, {"clientOid": "mmabcdefghn2"}, {"clientOid": None}, {"side": "buy"}, {"side": None},
        {"active": None}, {"active": "false"}, {"active": 0}, {"dealSize": None}, {"dealSize": ""}, {"dealSize": "-1"},
        {"dealSize": "1.5"}, {"dealSize": "nan"}, {"dealSize": "1e999"}, {"dealSize": True}, {"dealSize": "0x1"},
        {"dealFunds": "0"}, {"dealFunds": None}, {"dealSize": "0"}, {"size": "0"}, {"id": ""}, {"id": 5},
        {"dealSize": "1_0"}, {"dealSize": " 1"}, {"dealSize": "٣"}, {"fee": "?"}, {"size": None},
    )),
    *(("kraken", change) for change in (
        {"cl_ord_id": "mmabcdefghn2"}, {"status": "unheard-of"}, {"status": None}, {"vol_exec": "-1"}, {"cost": ""},
        {"descr": {"pair": "ETHUSDT", "type": "sell", "price": "1"}}, {"descr": None}, {"vol_exec": "2"},
        {"descr": {"pair": "SOLUSDT", "type": "buy", "price": "1"}}, {"vol_exec": []}, {"vol": None},
    )),
    *(("okx", change) for change in (
        {"instId": "ETH-USDT"}, {"clOrdId": ""}, {"state": "unheard-of"}, {"state": ""}, {"side": "buy"},
        {"accFillSz": ""}, {"avgPx": ""}, {"avgPx": "0"}, {"accFillSz": "2"}, {"ordId": ""}, {"sz": ""},
        {"sCode": "51000", "sMsg": "wrong"},
    )),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_a_record_that_is_not_plain_is_no_answer(name: str, change: dict[str, Any]) -> None:
    with server_of(name) as server:
        server.answers[PATH[name]] = [(200, json.dumps(told_of(name, BASE[name] | change)))]
        with pytest.raises(VenueError) as error:
            account(server).record(SYMBOL, NUMBER)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


ODD = {
    "kucoin": [
        (200, ""), (200, "[]"), (200, "null"), (200, "{}"), (200, '{"code":"200000"}'), (200, '{"data":null}'),
        (200, '{"code":"200000","data":[]}'), (200, '{"code":"200000","data":{}}'),
        (200, '{"code":200000,"data":null}'),
        (200, '{"code":"200000","data":"order not exist?"}'), (404, '{"code":"404000","msg":"url not found"}'),
        (200, '{"code":"400100","msg":"symbol not exist"}'), (200, '{"code":"500000","msg":"internal"}'),
        (500, '{"code":"200000","data":null}'), (503, "order not exist"), (200, "<html>order not exist</html>"),
        (200, '{"code":"900001","msg":"symbol not exists"}'), (401, '{"code":"400003","msg":"KC-API-KEY not exists"}'),
        (429, '{"code":"429000","msg":"Too many requests"}'), (200, '{"code":"200000","data":false}'),
    ],
    "kraken": [
        (200, ""), (200, "[]"), (200, "{}"), (200, '{"error":[]}'), (200, '{"error":[],"result":{}}'),
        (200, '{"error":[],"result":{"closed":[]}}'), (200, '{"error":[],"result":{"closed":null}}'),
        (200, '{"error":[],"result":{"open":{}}}'), (200, '{"result":{"closed":{}}}'),
        (200, '{"error":["EService:Unavailable"]}'), (500, '{"error":[],"result":{"closed":{}}}'),
        (200, '{"error":["EOrder:Unknown order"]}'), (200, '{"error":null,"result":{"closed":{}}}'),
        (200, '{"error":[],"result":{"closed":{"O1":{"cl_ord_id":"another"}},"count":1}}'),
    ],
    "okx": [
        (200, ""), (200, "[]"), (200, "{}"), (200, '{"code":"0"}'), (200, '{"data":[]}'),
        (200, '{"code":"0","data":{}}'),
        (200, '{"code":"1","data":[],"msg":"x"}'), (200, '{"code":"2","data":[],"msg":"x"}'),
        (200, '{"code":"0","data":[{}]}'), (200, '{"code":"0","data":[{},{}]}'), (200, '{"code":"0","data":[null]}'),
        (200, '{"code":"0","data":[{"sCode":"51603","sMsg":"Order does not exist"}]}'),
        (200, '{"code":"51000","data":[],"msg":"Parameter error"}'), (500, '{"code":"0","data":[]}'),
        (200, '{"code":"50001","data":[],"msg":"Service temporarily unavailable"}'),
        (200, '{"code":"51001","data":[],"msg":"Instrument ID does not exist"}'),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "answer"), [(name, one) for name, many in ODD.items() for one in many])
def test_an_odd_answer_never_means_that_there_is_no_order(name: str, answer: tuple[int, str]) -> None:
    with server_of(name) as server:
        server.answers[PATH[name]] = [answer]
        with pytest.raises(VenueError) as error:
            account(server).record(SYMBOL, NUMBER)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("kucoin", "/api/v1/hf/orders/active", '{"code":"200000","data":{}}'),
        ("kucoin", "/api/v1/hf/orders/active", '{"code":"200000","data":[{"id":"5","symbol":"ETH-USDT"}]}'),
        ("kucoin", "/api/v1/hf/orders/active", '{"code":"200000","data":[{"id":"5","symbol":"SOL-USDT","side":"?"}]}'),
        ("kucoin", "/api/v1/hf/orders/active", '{"code":"200000","data":[7]}'),
        ("kucoin", "/api/v1/accounts", '{"code":"200000","data":null}'),
        ("kucoin", "/api/v1/accounts", '{"code":"200000","data":[{"currency":"SOL","type":"trade_hf"}]}'),
        ("kraken", "/0/private/OpenOrders", '{"error":[],"result":{}}'),
        ("kraken", "/0/private/OpenOrders", '{"error":[],"result":{"open":{"O1":{"descr":{}}}}}'),
        ("kraken", "/0/private/BalanceEx", '{"error":[],"result":{"SOL":{"balance":"1"}}}'),
        ("kraken", "/0/private/BalanceEx", '{"error":[]}'),
        ("okx", "/api/v5/trade/orders-pending", '{"code":"0","data":[{"instId":"ETH-USDT"}]}'),
        ("okx", "/api/v5/trade/orders-pending", '{"code":"0","data":[{"sCode":"51000"}]}'),
        ("okx", "/api/v5/account/balance", '{"code":"0","data":[]}'),
        ("okx", "/api/v5/account/balance", '{"code":"0","data":[{"details":[{"ccy":"SOL","cashBal":""}]}]}'),
        ("okx", "/api/v5/account/balance", '{"code":"0","data":[{"details":null}]}'),
    ],
)
def test_half_an_answer_is_none(name: str, path: str, body: str) -> None:
    with server_of(name) as server:
        venue = account(server)
        ask = venue.open_orders if "rders" in path else venue.holding
        server.answers[path] = [(200, body)]
        with pytest.raises(VenueError):
            ask(SYMBOL)
        assert ask(SYMBOL) is not None


def test_all_pages_of_open_orders_are_read_or_none() -> None:
    with server_of("okx") as server:
        for _ in range(230):
            server.exchange.place(None, "buy", Decimal("0.01"), Decimal(50), rests=True)
        venue = account(server)
        assert len({one.order_id for one in venue.open_orders(SYMBOL)}) == 230
        for _ in range(1_900):
            server.exchange.place(None, "buy", Decimal("0.01"), Decimal(50), rests=True)
        with pytest.raises(VenueError, match="more than 2000 orders rest there"):
            venue.open_orders(SYMBOL)


def test_orders_of_other_markets_at_kraken_are_not_of_this_one() -> None:
    row = {"cl_ord_id": None, "status": "open", "descr": {"pair": "ETHUSDT", "type": "buy", "price": "1"}}
    with server_of("kraken") as server:
        body = json.dumps({"error": [], "result": {"open": {"OAAAAA-BBBBB-CCCCCC": row}}})
        server.answers["/0/private/OpenOrders"] = [(200, body)]
        assert account(server).open_orders(SYMBOL) == ()


# who asks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classic", "unified"])
def test_another_kind_of_account_at_kucoin_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kucoin.account, "kind", kind)
    with server_of("kucoin") as server:
        for ask in (account(server).holding, account(server).open_orders):
            with pytest.raises(VenueError, match="an account of another kind"):
                ask(SYMBOL)
        with pytest.raises(VenueError, match="an account of another kind"):
            account(server).sell(SYMBOL, NUMBER, Decimal(1), Decimal(99))
        assert placed(server) == []


@pytest.mark.parametrize(("level", "said"), [("3", "may borrow"), ("4", "may borrow"), ("", "is not known")])
def test_an_account_of_okx_that_may_borrow_is_refused(level: str, said: str) -> None:
    with server_of("okx") as server:
        assert isinstance(server, Okx)
        server.level = level
        with pytest.raises(VenueError, match=said):
            account(server).sell(SYMBOL, NUMBER, Decimal(1), Decimal(99))
        assert placed(server) == []


@ALL
def test_what_a_key_may_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with server_of(name) as server:
        may = permissions("mine", settings_of(server), server.key)
        assert may is not None
        assert (may.trades, may.moves_funds) == (True, False)
        told, path = {
            "kucoin": ('{"code":"200000","data":{"permission":"General,Withdrawal"}}', "/api/v1/user/api-key"),
            "kraken": (
                '{"error":[],"result":{"permissions":["query-funds","withdraw-funds"]}}', "/0/private/GetApiKeyInfo",
            ),
            "okx": ('{"code":"0","data":[{"perm":"read_only,withdraw"}]}', "/api/v5/account/config"),
        }[name]  # fmt: skip
        server.answers[path] = [(200, told)]
        may = permissions("mine", settings_of(server), server.key)
        assert may is not None
        assert (may.trades, may.moves_funds) == (False, True)
        silent = re.sub(r'"(permissions?|perm)":("[^"]*"|\[[^]]*\])', r'"\1":null', told)
        server.answers[path] = [(200, silent)]
        assert permissions("mine", settings_of(server), server.key) is None


@pytest.mark.parametrize("name", ["kucoin", "kraken"])
def test_a_test_asks_for_a_verdict_and_places_nothing(name: str) -> None:
    with server_of(name) as server:
        venue = open_orders("mine", settings_of(server), server.key, test=True)
        assert isinstance(venue, AccountOrders)
        assert venue.rehearse(SYMBOL, NUMBER, Decimal("1.2345"), Decimal("99.5")) == (
            "the exchange would take an order to sell 1.234 at 99.5 or better"
        )
        own = server.exchange.place(None, "sell", Decimal(1), Decimal(105), rests=True)
        with pytest.raises(VenueError, match="this is a test: no order is placed"):
            venue.sell(SYMBOL, NUMBER, Decimal(1), Decimal(99))
        with pytest.raises(VenueError, match="this is a test: no order is cancelled"):
            venue.cancel(SYMBOL, own.order_id)
        path = {"kucoin": "/api/v1/hf/orders/test", "kraken": "/0/private/AddOrder"}[name]
        server.answers[path] = [server.error("denied")]
        with pytest.raises(VenueError, match="it refuses"):
            venue.rehearse(SYMBOL, NUMBER, Decimal(1), Decimal(99))
        assert placed(server) == []
        assert server.exchange.sold == 0
        with pytest.raises(VenueError, match="does not only check"):
            account(server).rehearse(SYMBOL, NUMBER, Decimal(1), Decimal(99))


def test_a_test_at_okx_is_made_in_its_demo_account_alone() -> None:
    with server_of("okx") as server:
        assert isinstance(server, Okx)
        server.is_demo = True
        demo = open_orders("mine", settings_of(server), server.key, test=True)
        assert isinstance(demo, AccountOrders)
        assert not demo.only_checks
        demo.sell(SYMBOL, NUMBER, Decimal(1), Decimal("99.5"))
        assert [one.headers["x-simulated-trading"] for one in placed(server)] == ["1"]
        with pytest.raises(VenueError, match="50101"):
            open_orders("mine", settings_of(server), server.key, test=False).holding(SYMBOL)


@pytest.mark.parametrize("exchange", ["binance", "bybit", "gate"])
def test_elsewhere_no_order_is_placed(exchange: str, kucoin: Loopback) -> None:
    with pytest.raises(VenueError, match=f"no order can be placed at {exchange}"):
        AccountOrders("mine", settings_of(kucoin, exchange=exchange), kucoin.key)


def test_a_key_without_a_part_and_an_unknown_or_halted_market_are_refused(kucoin: Loopback) -> None:
    with pytest.raises(VenueError, match="the trade key lacks passphrase_env"):
        AccountOrders("mine", settings_of(kucoin), Credentials("a", "b"))
    with pytest.raises(VenueError, match="is no spot market of it"):
        account(kucoin).holding("ETH-USDT")
    row = json.loads(kucoin.public(Request("GET", "/api/v2/symbols", {}, "", "", {}))[1])["data"][0]  # type: ignore[index]
    halted = json.dumps({"code": "200000", "data": [row | {"enableTrading": False}]})
    kucoin.answers["/api/v2/symbols"] = [(200, halted)]
    with pytest.raises(VenueError, match="is halted there"):
        account(kucoin).sell(SYMBOL, NUMBER, Decimal(1), Decimal(99))


@ALL
def test_no_secret_is_told_or_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), server_of(name) as server:
        secrets = [part for part in (server.key.key, server.key.secret, server.key.passphrase) if part]
        venue = account(server, patience=0.5)
        said = []
        for path in (PATH[name], PATH[name], PATH[name]):
            said_back = json.dumps({"code": "1", "error": [" ".join(secrets)], "msg": " ".join(secrets), "data": []})
            server.answers[path] = [(400, said_back)]
            with pytest.raises(VenueError) as error:
                venue.record(SYMBOL, NUMBER)
            said.append(str(error.value))
        venue.sell(SYMBOL, NUMBER, Decimal(1), Decimal("99.5"))
        proofs = [value for one in server.requests for head, value in one.headers.items() if "sign" in head]
    assert proofs
    for text in (*said, repr(venue), repr(vars(venue)), caplog.text):
        assert not [secret for secret in (*secrets, *proofs) if secret in text]


def test_an_account_has_one_fingerprint_and_no_key_in_it(kucoin: Loopback) -> None:
    settings = settings_of(kucoin)
    ours = fingerprint(settings, kucoin.key)
    assert ours == fingerprint(settings, Credentials(kucoin.key.key, "another secret"))
    assert ours != fingerprint(settings, Credentials("another key", kucoin.key.secret))
    assert ours != fingerprint(settings_of(kucoin, exchange="okx"), kucoin.key)
    assert kucoin.key.key not in ours


# bots -----------------------------------------------------------------------------------------------------------------


def test_a_bot_of_okx_is_stopped_and_keeps_its_coins_unless_it_is_to_sell() -> None:
    for sells in (False, True):
        with server_of("okx") as server:
            assert isinstance(server, Okx)
            bot = server.bot = Bot(Decimal(3))
            stop = open_stop("mine", settings_of(server), server.key, bot.number, SYMBOL, sells=sells)
            assert stop.state() == "running"
            stop.stop()
            assert stop.state() == "stopped"
            (request,) = placed(server)
            (asked,) = json.loads(request.body)
            assert asked == {
                "algoId": bot.number, "instId": SYMBOL, "algoOrdType": "grid", "stopType": "1" if sells else "2",
            }  # fmt: skip
            assert bot.kept is not sells


DETAILS = "/api/v5/tradingBot/grid/orders-algo-details"
STOP = "/api/v5/tradingBot/grid/stop-order-algo"


@pytest.mark.parametrize(
    ("change", "sells", "state"),
    [
        ({"state": "starting"}, False, "running"), ({"state": "pending_signal"}, False, "running"),
        ({"state": "stopping"}, False, "stopping"), ({"state": "stopped"}, False, "stopped"),
        ({"state": "no_close_position"}, False, "unknown"), ({"state": "paused"}, False, "unknown"),
        ({"state": None}, False, "unknown"), ({"state": "stopped", "stopResult": "-1"}, True, "unknown"),
        ({"state": "stopped", "stopResult": "1"}, True, "stopped"), ({"state": "stopped"}, True, "unknown"),
    ],
)  # fmt: skip
def test_how_a_bot_stands(change: dict[str, Any], sells: bool, state: str) -> None:
    number = "448965992920907776"
    row = {"algoId": number, "instId": SYMBOL, "algoOrdType": "grid"} | change
    with server_of("okx") as server:
        server.answers[DETAILS] = [(200, json.dumps({"code": "0", "data": [row], "msg": ""}))]
        stop = open_stop("mine", settings_of(server), server.key, number, SYMBOL, sells=sells)
        assert stop.state() == state


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (DETAILS, '{"code":"0","data":[]}'),
        (DETAILS, '{"code":"0","data":[{"algoId":"1","state":"stopped"}]}'),
        (DETAILS, '{"code":"0","data":[{"algoId":"448965992920907776","instId":"ETH-USDT","state":"stopped"}]}'),
        (DETAILS, '{"code":"0","data":[{"algoId":"448965992920907776","sCode":"51345","state":"stopped"}]}'),
        (DETAILS, '{"code":"51345","data":[],"msg":"no such grid"}'),
        (STOP, '{"code":"0","data":[{"algoId":"448965992920907776","sCode":"51345","sMsg":"no such grid"}]}'),
        (STOP, '{"code":"2","data":[{"algoId":"448965992920907776","sCode":"0"}]}'),
        (STOP, '{"code":"0","data":[]}'),
        (STOP, '{"code":"0","data":[{"algoId":"1","sCode":"0"}]}'),
    ],
)
def test_what_okx_does_not_say_plainly_of_a_bot_is_no_answer(path: str, body: str) -> None:
    with server_of("okx") as server:
        stop = open_stop("mine", settings_of(server), server.key, "448965992920907776", SYMBOL, sells=False)
        server.answers[path] = [(200, body)]
        with pytest.raises(VenueError):
            stop.state() if path == DETAILS else stop.stop()


@pytest.mark.parametrize("exchange", ["kucoin", "binance", "bitget", "bybit", "kraken"])
def test_other_bots_are_stopped_by_people(exchange: str, kucoin: Loopback) -> None:
    assert not can_stop(exchange)
    with pytest.raises(VenueError, match=f"no program can stop a grid bot of {exchange}: stop it there yourself"):
        open_stop("mine", settings_of(kucoin, exchange=exchange), kucoin.key, "1", SYMBOL, sells=False)


def test_what_is_no_number_of_a_bot_is_refused() -> None:
    with server_of("okx") as server, pytest.raises(VenueError, match="is no number of a grid"):
        open_stop("mine", settings_of(server), server.key, "1/../2", SYMBOL, sells=False)


def test_kraken_takes_no_number_twice_of_two_processes_of_one_second() -> None:
    with server_of("kraken") as server:
        assert isinstance(server, Kraken)
        for _ in range(3):
            assert account(server).holding(SYMBOL).total == Decimal("5.5")
