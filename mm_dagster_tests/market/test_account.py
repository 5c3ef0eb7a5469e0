"""The real ccxt client reads an account of KuCoin on loopback, which verifies key, passphrase, signature and time."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR, EPOCH, TIME
from mm_dagster.config.markets import AccountKeys, CcxtVenue
from mm_dagster.market.account import Credentials, ExchangeAccount, credentials
from mm_dagster.market.connection import Retry
from mm_dagster.market.pace import Pace
from mm_dagster.market.venue import VenueError
from mm_dagster.tables.registry import broken_rules
from mm_dagster_tests import kucoin
from mm_dagster_tests.kucoin import BALANCES, FILLS, KIND, MODE, ORDERS, Account, Fault, KucoinServer

NOW = datetime(2025, 12, 20, 12, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
AS_OF = datetime(2025, 12, 20, 12, tzinfo=UTC)
MINUTE = 60_000
FAST = Retry(attempts=3, first_wait=0.005, longest_wait=0.01, jitter=0.0)
SYMBOLS = ("ETH-USDT", "ATOM-USDT")
KEYS = AccountKeys(key_env="MM_KEY", secret_env="MM_SECRET", passphrase_env="MM_PASSPHRASE")
PRIVATE = {MODE, KIND, BALANCES, ORDERS, FILLS}
TORN = Fault(200, '{"code":"200000","data":{"items":[{"id":1,"sym')

Connect = Callable[..., ExchangeAccount]


@pytest.fixture(autouse=True)
def unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the pauses between calls away: the exchange's quota is no concern on loopback."""
    monkeypatch.setattr(Pace, "take", lambda *_: None)


@pytest.fixture
def server() -> Iterator[KucoinServer]:
    candle = pl.DataFrame(
        [{"open_time": AS_OF, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0}]
    ).with_columns(pl.col("open_time").cast(TIME))
    account = Account(balances={"USDT": ("100.50", "20"), "ETH": ("0", "1.5000000001"), "XRP": ("0", "0")})
    with KucoinServer(dict.fromkeys(SYMBOLS, candle), NOW, account) as running:
        yield running


@pytest.fixture
def connect(server: KucoinServer) -> Connect:
    def connected(timeout_seconds: float = 5.0, **wrong: str) -> ExchangeAccount:
        venue = CcxtVenue(
            kind="ccxt", exchange="kucoin", api_url=server.url, timeout_seconds=timeout_seconds, account=KEYS
        )
        right = {"key": server.account.key, "secret": server.account.secret, "passphrase": server.account.passphrase}
        return ExchangeAccount("main", venue, Credentials(**{**right, **wrong}), retry=FAST)

    return connected


def read(account: ExchangeAccount, days: float = 1, **more: Any) -> dict[str, Any]:
    """A snapshot as a dict; the table's contract is kept by each."""
    frame = account.snapshot(SYMBOLS, NOW - timedelta(days=days), AS_OF, **more)
    assert broken_rules(frame, "account_snapshot") == {}
    assert frame.height == 1
    return frame.row(0, named=True)


def ids(fills: list[dict[str, Any]]) -> list[int]:
    """The numbers that the fills were made with."""
    return [int(fill["fill_id"]) - 11_029_373_945_000_000 for fill in fills]


def spread(count: int, minutes: int = 10) -> list[dict[str, Any]]:
    """Fills on two markets, the last a moment ago, the others that many minutes apart."""
    return [
        kucoin.fill(n, SYMBOLS[n % 5 == 0], NOW_MS - 1 - (count - n) * minutes * MINUTE, ("buy", "sell")[n % 2])
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("kind", ["hf", "classic", "unified"])
def test_three_weeks_of_fills_on_many_pages_come_once_each_in_the_order_of_trade(server, connect, kind: str) -> None:
    server.account.kind = kind
    server.account.fills = spread(1_200, minutes=25)
    server.account.orders = [kucoin.order(n, "ETH-USDT", "buy", f"{2_000 + n}.10", "0.25") for n in range(60)]
    row = read(connect(), days=30)
    assert row["detail"] is None
    assert row["complete"]
    assert ids(row["fills"]) == list(range(1, 1_201))
    assert len(row["open_orders"]) == 60
    assert row["balances"] == [
        {"asset": "ETH", "free": 0.0, "used": 1.5000000001},
        {"asset": "USDT", "free": 100.5, "used": 20.0},
    ]
    assert (row["venue"], row["as_of"]) == ("main", AS_OF)
    assert timedelta(0) <= row["observed_at"] - NOW < timedelta(seconds=5)


def test_decimals_sides_fees_and_roles_arrive_as_they_were_sent(server, connect) -> None:
    server.account.fills = [kucoin.fill(8, "ETH-USDT", NOW_MS - 1, "sell"), kucoin.fill(9, "ATOM-USDT", NOW_MS - 2)]
    server.account.orders = [kucoin.order(7, "ETH-USDT", "sell", "3100.07", "0.1", dealSize="0.04")]
    row = read(connect())
    assert row["fills"][1] == {
        "fill_id": "11029373945000008",
        "order_id": f"{2:024x}",
        "symbol": "ETH-USDT",
        "at": NOW - timedelta(milliseconds=1),
        "side": "sell",
        "price": 2950.01,
        "amount": 0.0123456789,
        "fee": 0.036419876,
        "fee_currency": "USDT",
        "maker": False,
    }
    assert row["fills"][0]["symbol"] == "ATOM-USDT"
    assert row["open_orders"] == [
        {
            "order_id": f"{7:024x}",
            "symbol": "ETH-USDT",
            "side": "sell",
            "price": 3100.07,
            "amount": 0.1,
            "filled": 0.04,
            "placed_at": EPOCH + timedelta(milliseconds=1_766_000_000_007),
        }
    ]


def test_the_real_answers_of_the_exchange_are_read(server, connect, shared_data: Path) -> None:
    examples = json.loads((shared_data / "kucoin_api" / "sdk_rest_examples.json").read_text())
    real = {example["path"]: example["response"] for example in examples if example["method"] == "GET"}
    at = real[FILLS]["data"]["items"][0]["createdAt"]
    server.now = EPOCH + timedelta(milliseconds=at + MINUTE)
    server.candles["BTC-USDT"] = server.candles["ETH-USDT"]
    server.account.kind = "classic"
    server.faults = [
        Fault(200, json.dumps({"code": "200000", "data": True}), KIND),
        *(Fault(200, json.dumps(real[path]), path) for path in (ORDERS, FILLS)),
    ]
    frame = connect().snapshot(["BTC-USDT"], server.now - timedelta(hours=1), AS_OF)
    row = frame.row(0, named=True)
    assert [(fill["fill_id"], fill["price"], fill["fee"]) for fill in row["fills"]] == [
        ("11029373945659392", 67717.6, 0.000677176)
    ]
    assert [(order["order_id"], order["price"]) for order in row["open_orders"]] == [
        ("67120bbef094e200070976f6", 50_000.0)
    ]


@pytest.mark.parametrize(
    "whim",
    [{"overlap": 30}, {"is_shuffled": True}, {"ignores_symbol": True}, {"repeats": 1}, {"null_is_empty": True}],
    ids=str,
)
def test_pages_that_overlap_repeat_mix_or_are_in_no_order_lose_and_double_nothing(server, connect, whim) -> None:
    server.account.fills = spread(450)
    for name, value in whim.items():
        setattr(server.account, name, value)
    row = read(connect(), days=9)
    assert (row["complete"], row["detail"]) == (True, None)
    assert ids(row["fills"]) == list(range(1, 451))


def test_a_page_that_is_sent_again_and_again_is_an_incomplete_answer_and_not_an_endless_one(server, connect) -> None:
    server.account.fills = spread(450)
    server.account.repeats = 1_000
    row = read(connect(), days=9)
    assert not row["complete"]
    assert "fills of ETH-USDT" in row["detail"]
    assert row["fills"]


def test_more_fills_in_one_millisecond_than_a_page_holds_are_all_there(server, connect) -> None:
    server.account.fills = [kucoin.fill(n, "ETH-USDT", NOW_MS - 5) for n in range(1, 251)]
    row = read(connect())
    assert row["complete"]
    assert ids(row["fills"]) == list(range(1, 251))


def test_a_trade_with_oneself_is_two_fills_of_one_number(server, connect) -> None:
    both = kucoin.fill(1, "ETH-USDT", NOW_MS - 5)
    server.account.fills = [both, {**both, "id": 2, "orderId": "f" * 24, "side": "sell"}]
    assert sorted(fill["side"] for fill in read(connect())["fills"]) == ["buy", "sell"]


def test_snapshots_that_follow_each_other_hold_every_fill_once(server, connect) -> None:
    until = read(connect())["observed_at"]
    edge = (until - EPOCH) // timedelta(milliseconds=1)
    server.account.fills = [kucoin.fill(n, "ETH-USDT", edge + n - 3) for n in range(1, 6)]
    server.now = NOW + BAR
    account = connect()
    second = account.snapshot(SYMBOLS, until, AS_OF + BAR).row(0, named=True)
    assert ids(second["fills"]) == [3, 4, 5]
    again = account.snapshot(
        SYMBOLS, NOW - BAR, AS_OF + BAR, known=[("ETH-USDT", fill["fill_id"]) for fill in second["fills"]]
    )
    assert ids(again["fills"][0].to_list()) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("path", [MODE, KIND, BALANCES, ORDERS, FILLS])
@pytest.mark.parametrize(
    "fault",
    [
        kucoin.TOO_MANY_REQUESTS,
        kucoin.INTERNAL_ERROR,
        kucoin.TOO_BUSY,
        kucoin.HANG_UP,
        kucoin.EMPTY_BODY,
        kucoin.NOT_JSON,
        TORN,
    ],
    ids=["429000", "500", "200002", "hang-up", "empty", "html", "torn"],
)
def test_what_passes_is_asked_again(server, connect, fault: Fault, path: str) -> None:
    server.account.fills = spread(3)
    server.faults = [replace(fault, path=path)]
    row = read(connect())
    assert (row["complete"], row["detail"]) == (True, None)
    assert len(row["fills"]) == 3
    assert not server.faults


def test_an_answer_that_stops_in_the_middle_is_asked_for_again(server, connect) -> None:
    server.account.fills = spread(3)
    server.faults = [Fault(200, '{"code":"200000","data":{"items":[]}}', FILLS, stall_seconds=1.0)]
    assert len(read(connect(timeout_seconds=0.2))["fills"]) == 3


@pytest.mark.parametrize(
    ("path", "lost"),
    [
        (BALANCES, ["balances"]),
        (ORDERS, ["open orders of ATOM-USDT"]),
        (FILLS, ["fills of ATOM-USDT"]),
    ],
)
def test_what_is_not_answered_is_named_and_the_rest_is_kept(server, connect, path: str, lost: list[str]) -> None:
    server.account.fills = spread(9)
    server.faults = [replace(kucoin.INTERNAL_ERROR, path=path)] * FAST.attempts
    row = read(connect())
    assert not row["complete"]
    assert row["detail"] == f"main (kucoin at {server.url}): {', '.join(lost)}: it is not available (HTTP 500)"
    assert bool(row["balances"]) == (path != BALANCES)
    assert len(row["fills"]) == (8 if path == FILLS else 9)


def test_an_account_that_keeps_failing_is_left_alone_for_the_tick(server, connect) -> None:
    account = connect()
    server.faults = [replace(kucoin.INTERNAL_ERROR, path=path) for path in (BALANCES, ORDERS, FILLS) for _ in range(99)]
    row = read(account)
    asked = len(server.requests)
    assert "left alone for this tick, since it is not available (HTTP 500)" in row["detail"]
    assert (row["balances"], row["open_orders"], row["fills"]) == ([], [], [])
    read(account)
    assert len(server.requests) == asked


@pytest.mark.parametrize("data", ["null", "{}", '"x"'], ids=["null", "object", "text"])
def test_balances_without_a_list_are_no_answer_and_not_an_empty_account(server, connect, data: str) -> None:
    server.faults = [Fault(200, f'{{"code":"200000","data":{data}}}', BALANCES)] * FAST.attempts
    row = read(connect())
    assert "balances: an answer without content" in row["detail"]


def test_a_fill_that_cannot_be_read_is_reported_and_the_others_are_kept(server, connect) -> None:
    server.account.fills = [*spread(3), kucoin.fill(4, "ETH-USDT", NOW_MS - 1, price="no number")]
    row = read(connect())
    assert "fills of ETH-USDT: 1 of them cannot be read" in row["detail"]
    assert ids(row["fills"]) == [1, 2, 3]


def test_a_market_that_is_not_there_costs_the_others_nothing(server, connect) -> None:
    server.account.fills = spread(3)
    row = connect().snapshot([*SYMBOLS, "ETH-USTD"], NOW - BAR, AS_OF).row(0, named=True)
    assert "ETH-USTD is no spot market of it; did you mean ETH-USDT?" in row["detail"]
    assert len(row["fills"]) == 2


@pytest.mark.parametrize(
    ("account", "wrong", "sentence"),
    [
        ({"clock_ahead": timedelta(seconds=42)}, {}, "clock of this computer is more than 5 s from its own"),
        ({}, {"key": "another"}, "does not know the key in MM_KEY"),
        ({}, {"passphrase": "another"}, "passphrase in MM_PASSPHRASE or the secret in MM_SECRET is wrong"),
        ({}, {"secret": "another"}, "passphrase in MM_PASSPHRASE or the secret in MM_SECRET is wrong"),
        ({"address_is_listed": False}, {}, r"add this one to its IP list \(400006: .* 192\.0\.2\.7\)"),
        ({"permission": "Spot"}, {}, "give it the permission General"),
    ],
    ids=["clock", "key", "passphrase", "secret", "address", "permission"],
)
def test_a_key_that_is_refused_is_tried_once_and_the_sentence_says_what_to_do(
    server, connect, account: dict[str, Any], wrong: dict[str, str], sentence: str
) -> None:
    for name, value in account.items():
        setattr(server.account, name, value)
    refused = connect(**wrong)
    row = read(refused)
    assert not row["complete"]
    assert re.search(sentence, row["detail"])
    assert "\n" not in row["detail"]
    with pytest.raises(VenueError, match=sentence):
        refused.check()
    assert sum(request.path in PRIVATE for request in server.requests) == 1


@pytest.mark.parametrize(
    ("code", "sentence"),
    [("400001", "misses a part of the key"), ("400005", "secret in MM_SECRET"), ("411100", "account is frozen")],
)
@pytest.mark.parametrize("status", [200, 401])
def test_a_refusal_is_understood_whatever_its_http_status(server, connect, code, sentence, status: int) -> None:
    server.faults = [Fault(status, json.dumps({"code": code, "msg": "no"}), MODE)] * 9
    assert sentence in read(connect())["detail"]
    assert len(server.faults) == 8


def test_doctor_hears_what_the_key_may_do_beyond_reading(server, connect) -> None:
    assert connect().check() == f"main (kucoin at {server.url}): the key reads the account; assets held: 2"
    server.account.permission = "General, Spot,Margin,InnerTransfer, Withdrawal"
    line = connect().check()
    assert line.endswith(
        "WARNING: this key may also trade (Spot, Margin) and move funds (InnerTransfer, Withdrawal); "
        "a read-only key suffices"
    )


def test_a_variable_that_is_not_set_is_named_and_its_value_never_shown() -> None:
    environ = {"MM_KEY": " key-1\n", "MM_SECRET": "secret-2", "MM_PASSPHRASE": "passphrase-3"}
    given_key = credentials(KEYS, environ)
    assert (given_key.key, given_key.secret, given_key.passphrase) == ("key-1", "secret-2", "passphrase-3")
    assert not any(secret in repr(given_key) for secret in ("key-1", "secret-2", "passphrase-3"))
    for variable in environ:
        with pytest.raises(VenueError, match=variable) as caught:
            credentials(KEYS, {**environ, variable: "  "})
        assert not any(value.strip() in str(caught.value) for value in environ.values())


@pytest.mark.parametrize(
    ("exchange", "message"),
    [("kucoin", "passphrase_env"), ("hyperliquid", "another kind of key"), ("kukoin", "did you mean kucoin")],
)
def test_an_account_that_cannot_be_read_with_this_key_is_refused_when_it_is_opened(exchange, message: str) -> None:
    with pytest.raises(VenueError, match=message):
        ExchangeAccount("main", CcxtVenue(kind="ccxt", exchange=exchange), Credentials("k", "s"))


def chain(error: BaseException | None) -> Iterator[str]:
    """What an error and all behind it say."""
    while error is not None:
        yield f"{error!r} {error} {error.args}"
        error = error.__cause__ or error.__context__


BINANCE_MARKETS = {
    "symbols": [
        {"symbol": "ETHUSDT", "status": "TRADING", "baseAsset": "ETH", "quoteAsset": "USDT", "permissions": ["SPOT"]}
    ]
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exchange", "paths"),
    [("kucoin", [MODE, KIND, BALANCES, ORDERS, FILLS, kucoin.KEY, kucoin.SYMBOLS]), ("binance", ["/api/v3/account"])],
)
def test_no_secret_signature_or_password_is_written_raised_or_logged(
    server, caplog, capfd, exchange: str, paths: list[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    account = server.account
    key = Credentials(account.key, account.secret, account.passphrase)
    url = server.url.replace("http://", "http://user:pass-word@")
    # The configuration refuses such an address; the client must not need that.
    venue = CcxtVenue(kind="ccxt", exchange=exchange, account=KEYS).model_copy(update={"api_url": url})
    bodies = [
        json.dumps({"code": "400100", "msg": f"{account.key} {account.secret} {'x' * 110}{account.passphrase}"}),
        json.dumps({"code": "400003", "msg": f"{account.key} is unknown at http://u:pass-word@h/a?signature=feed"}),
        f"<html>{account.secret}</html>",
    ]
    faults = [Fault(status, body) for body in bodies for status in (200, 400, 403, 500)] + [kucoin.HANG_UP]
    markets = Fault(200, json.dumps(BINANCE_MARKETS), "/api/v3/exchangeInfo")
    texts = []
    for path in paths:
        for fault in faults:
            server.faults = [markets, markets, replace(fault, path=path), replace(fault, path=path)]
            opened = [ExchangeAccount("main", venue, key, retry=replace(FAST, attempts=2)) for _ in range(2)]
            texts.append(str(opened[0].snapshot(["ETH-USDT"], NOW - BAR, AS_OF).to_dicts()))
            server.faults += [replace(fault, path=path)] * 2
            try:
                texts.append(opened[1].check())
            except VenueError as error:
                texts += chain(error)
    written = capfd.readouterr()
    texts += [written.out, written.err, *(f"{record.getMessage()} {vars(record)}" for record in caplog.records)]
    signatures = {request.headers.get("kc-api-sign") or request.query.get("signature") for request in server.requests}
    signatures -= {None}
    assert signatures
    hidden = {account.key, account.secret, account.passphrase, account.signed(account.passphrase), "pass-word", "feed"}
    text = "\n".join(texts)
    assert "no connection" in text
    assert [secret for secret in sorted(hidden | signatures) if secret in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hf", "classic", "unified"])
def test_a_fill_at_the_first_millisecond_that_is_asked_for_is_there(server, connect, kind: str) -> None:
    server.account.kind = kind
    server.account.fills = [kucoin.fill(n, "ETH-USDT", NOW_MS - n) for n in range(1, 40)]
    for number in range(1, 40):
        since = NOW - timedelta(milliseconds=number)
        fills = connect().snapshot(["ETH-USDT"], since, AS_OF)["fills"][0].to_list()
        assert (len(fills), fills[0]["at"]) == (number, since)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.sampled_from([0, 0, 0, 1, 7, 60_000, 90_000_000]), max_size=320),
    overlap=st.integers(0, 99),
    is_shuffled=st.booleans(),
    kind=st.sampled_from(["hf", "classic", "unified"]),
)
def test_whatever_the_pages_of_kucoin_look_like_every_fill_is_counted_once(
    server, connect, gaps: list[int], overlap: int, is_shuffled: bool, kind: str
) -> None:
    at, fills = NOW_MS - 1, []
    for number, gap in enumerate(gaps):
        at -= gap
        fills.append(kucoin.fill(1_000 - number, "ETH-USDT", at))
    server.account.kind, server.account.overlap, server.account.is_shuffled = kind, overlap, is_shuffled
    server.account.fills = fills
    row = connect().snapshot(["ETH-USDT"], EPOCH + timedelta(milliseconds=at), AS_OF).row(0, named=True)
    assert row["complete"]
    assert sorted(ids(row["fills"])) == sorted(fill["id"] for fill in fills)
    assert [fill["at"] for fill in row["fills"]] == sorted(fill["at"] for fill in row["fills"])


class OtherExchange:
    """Stands in for the calls of another exchange, whose pages go by time."""

    def __init__(self, times: list[int], newest_first: bool, ignores_until: bool) -> None:
        self.newest_first, self.ignores_until = newest_first, ignores_until
        self.trades = [
            {
                "id": str(n),
                "order": None,
                "timestamp": time,
                "side": "buy",
                "price": 2.0,
                "amount": 1.0,
                "fee": None,
                "takerOrMaker": None,
            }
            for n, time in enumerate(sorted(times))
        ]

    def account(self) -> ExchangeAccount:
        account = ExchangeAccount("other", CcxtVenue(kind="ccxt", exchange="bybit"), Credentials("k", "s"), retry=FAST)
        exchange = account._exchange
        exchange.set_markets(
            [
                exchange.safe_market_structure(
                    {"id": "A", "symbol": "ETH/USDT", "base": "ETH", "quote": "USDT", "spot": True, "type": "spot"}
                )
            ]
        )
        exchange.features["spot"]["fetchMyTrades"]["limit"] = 4

        def told(answer: Any) -> Any:
            exchange.last_json_response = [answer]
            return answer

        def trades(market: str, since: int, limit: int, more: dict[str, int]) -> list[dict[str, Any]]:
            until = NOW_MS * 2 if self.ignores_until else more["until"]
            wanted = [trade for trade in self.trades if since <= trade["timestamp"] <= until]
            return told(wanted[-limit:] if self.newest_first else wanted[:limit])

        exchange.fetch_time = lambda: told(NOW_MS)
        exchange.fetch_balance = lambda more: told({"total": {}, "free": {}, "used": {}})
        exchange.fetch_open_orders = lambda *more: told([])
        exchange.fetch_my_trades = trades
        return account


@settings(max_examples=60)
@given(
    ago=st.lists(st.one_of(st.integers(1, 40), st.integers(1, 20 * 86_400_000)), max_size=40),
    newest_first=st.booleans(),
    ignores_until=st.booleans(),
)
def test_where_pages_go_by_time_every_fill_is_counted_once_or_the_snapshot_is_incomplete(
    ago: list[int], newest_first: bool, ignores_until: bool
) -> None:
    other = OtherExchange([NOW_MS - age for age in ago], newest_first, ignores_until)
    row = other.account().snapshot(["ETH-USDT"], NOW - timedelta(days=21), AS_OF).row(0, named=True)
    got = [int(fill["fill_id"]) for fill in row["fills"]]
    assert len(got) == len(set(got))
    if row["complete"]:
        assert sorted(got) == list(range(len(ago)))
    most_at_once = max((ago.count(age) for age in ago), default=0)
    assert row["complete"] or most_at_once >= 4 or ignores_until
