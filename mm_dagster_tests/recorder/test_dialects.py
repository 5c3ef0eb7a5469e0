"""How each venue is asked and subscribed to, what its markets' numbers look like, and what time its messages say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

from mm_dagster.books.ladder import MOST, Scale
from mm_dagster.config.books import Feed
from mm_dagster.recorder.binance import Binance, BinanceUsdm
from mm_dagster.recorder.kraken import Kraken
from mm_dagster.recorder.kucoin import Kucoin
from mm_dagster.recorder.rest import Budget, Rest
from mm_dagster.recorder.scales import decimals_of, fitting, roomy
from mm_dagster.recorder.service import venue_of
from mm_dagster.recorder.venue import VenueError


class Says:
    """A venue that answers the same whatever is asked."""

    def __init__(self, body: object, base: str = "https://api.example") -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.budget = Budget(None)
        self.base = base
        self.asked: list[tuple[str, int]] = []

    async def get(self, path: str, params: object = None, weight: int = 1) -> bytes:
        self.asked.append((path, weight))
        return self.body

    async def post(self, path: str) -> bytes:
        return await self.get(path)


def scales(venue: Any, body: object) -> dict[str, Scale]:
    return asyncio.run(venue.scales(cast("Rest", Says(body))))


def test_each_exchange_of_books_yaml_has_a_venue() -> None:
    for exchange, kind in (("kucoin", Kucoin), ("binance", Binance), ("binance_usdm", BinanceUsdm), ("kraken", Kraken)):
        venue = venue_of(Feed(exchange=exchange, markets=("ETH-USDT",), kraken_depth=25))  # type: ignore[arg-type]
        assert type(venue) is kind
        assert venue.exchange == exchange
    assert venue.depth == 25


# scales ---------------------------------------------------------------------------------------------------------------


def test_kucoins_amounts_have_all_decimals_that_fit() -> None:
    def row(name: str, price: str, amount: str, smallest: str) -> dict[str, str]:
        return {"symbol": name, "priceIncrement": price, "baseIncrement": amount, "baseMinSize": smallest}

    rows = [
        row("BTC-USDT", "0.1", "0.00000001", "0.00001"),
        row("DOGE-USDT", "0.00001", "0.0001", "1"),
        row("SHIB-USDT", "0.000000001", "1", "10000"),
        row("ONE-USDT", "1", "10", "100"),
        row("GONE-USDT", "x", "1", "1"),
        {"symbol": "BARE-USDT"},
        7,
    ]
    found = scales(Kucoin(), {"code": "200000", "data": rows})
    assert found == {
        "BTC-USDT": Scale(1, 11), "DOGE-USDT": Scale(5, 9), "SHIB-USDT": Scale(9, 5), "ONE-USDT": Scale(0, 7),
    }  # fmt: skip
    # As KuCoin sent it, and as much of a market as anybody has.
    assert found["BTC-USDT"].lots("0.12345678901") == 12345678901
    assert found["BTC-USDT"].lots("9000000") <= MOST
    assert found["SHIB-USDT"].lots("90000000000000") <= MOST


def test_binances_numbers_have_the_decimals_that_it_sends() -> None:
    def row(name: str, smallest: str) -> dict[str, Any]:
        filters = [{"filterType": "PRICE_FILTER"}, {"filterType": "LOT_SIZE", "minQty": smallest}]
        return {"symbol": name, "quotePrecision": 8, "baseAssetPrecision": 8, "filters": filters}

    limits = [
        {"rateLimitType": "ORDERS"},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 7},
    ]
    says = Says({"symbols": [row("ETHUSDT", "0.00010000"), row("SHIBUSDT", "1.00000000"), {}], "rateLimits": limits})
    assert asyncio.run(Binance().scales(cast("Rest", says))) == {"ETHUSDT": Scale(8, 8), "SHIBUSDT": Scale(8, 8)}
    assert says.budget.limit == 7
    assert says.asked == [("/api/v3/exchangeInfo", 20)]


def test_of_the_futures_only_perpetuals_are_markets() -> None:
    rows = [
        {"symbol": "ETHUSDT", "contractType": "PERPETUAL", "pricePrecision": 2, "quantityPrecision": 3},
        {"symbol": "ETHUSDT_261225", "contractType": "CURRENT_QUARTER", "pricePrecision": 2, "quantityPrecision": 3},
    ]
    assert scales(BinanceUsdm(), {"symbols": rows}) == {"ETHUSDT": Scale(2, 3)}


def test_krakens_numbers_are_exactly_those_of_its_checksum() -> None:
    pairs = {
        "XETHZUSD": {"wsname": "ETH/USD", "pair_decimals": 2, "lot_decimals": 8},
        "XXBTZEUR": {"wsname": "XBT/EUR", "pair_decimals": 1, "lot_decimals": 8},
        "XDGXBT": {"wsname": "XDG/XBT", "pair_decimals": 9, "lot_decimals": 8},
        "OLD.d": {},
    }
    found = scales(Kraken(100), {"error": [], "result": pairs})
    assert found == {"ETH/USD": Scale(2, 8), "BTC/EUR": Scale(1, 8), "DOGE/BTC": Scale(9, 8)}


@pytest.mark.parametrize("venue", [Kucoin(), Binance(), BinanceUsdm(), Kraken(10)], ids=lambda venue: venue.exchange)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"\xff", b"null", b"[]", b"7", b"{}", b"[" * 100_000, {"code": "429000"},
        {"code": "200000", "data": []}, {"code": "200000", "data": [None, 7, {"symbol": []}]}, {"symbols": None},
        {"symbols": [{"symbol": "X"}]},
        {"symbols": [{"symbol": "X", "contractType": "PERPETUAL", "pricePrecision": -1, "quantityPrecision": 99}]},
        {"error": ["EAPI"], "result": {}}, {"error": [], "result": {"A": None}},
    ],
    ids=lambda body: repr(body)[:30],
)  # fmt: skip
def test_an_answer_that_is_none_is_one_line(venue: Any, body: object) -> None:
    with pytest.raises(VenueError) as found:
        scales(venue, body)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("step", "decimals"), [("0.01", 2), ("0.010", 2), ("1", 0), ("10", 0), ("1e-8", 8), ("0.5", 1)]
)
def test_decimals_of_a_step(step: str, decimals: int) -> None:
    assert decimals_of(step) == decimals


@pytest.mark.parametrize("step", ["", "0", "-1", "x", "NaN", "inf", "1e-30"])
def test_what_is_no_step(step: str) -> None:
    with pytest.raises(ValueError, match=r"no step|too fine"):
        decimals_of(step)


def test_room_is_left_in_64_bits_but_never_less_than_needed() -> None:
    assert roomy(0, 11, "1000000000") == 0
    assert roomy(8, 11, "1000000000") == 8
    assert roomy(0, 11, "10") == 8
    assert roomy(3, 11, "0.001") == 11


def _answer(*amounts: str, price: str = "1.5") -> bytes:
    return json.dumps({"code": "200000", "data": {"bids": [[price, one] for one in amounts], "asks": []}}).encode()


@pytest.mark.parametrize(
    ("scale", "body", "fits"),
    [
        (Scale(2, 11), _answer("1", "100000000"), Scale(2, 7)),  # too great: fewer decimals, and room for more
        (Scale(2, 3), _answer("0.12345"), Scale(2, 5)),  # too fine
        (Scale(2, 3), _answer("1", price="0.00015"), Scale(5, 3)),
        (Scale(2, 3), _answer("1e-5", "2.50000"), Scale(2, 5)),
        (Scale(2, 11), _answer("0.12345678901", "100000000"), Scale(2, 11)),  # both: no scale has room
        (Scale(2, 3), _answer("1.5"), Scale(2, 3)),
        (Scale(2, 3), _answer(), Scale(2, 3)),
        (Scale(2, 3), _answer("NaN"), Scale(2, 3)),
        (Scale(2, 3), _answer("Infinity"), Scale(2, 3)),
        (Scale(2, 3), _answer("1e-40"), Scale(2, 3)),
        (Scale(2, 3), b"<html>", Scale(2, 3)),
        (Scale(2, 3), b"{}", Scale(2, 3)),
        (Scale(2, 3), b'{"bids":[7],"asks":null}', Scale(2, 3)),
        (Scale(8, 8), b'{"lastUpdateId":1,"bids":[["0.1","900000000000"]],"asks":[]}', Scale(8, 4)),
    ],
)
def test_a_book_that_cannot_be_read_says_in_which_scale_it_can(scale: Scale, body: bytes, fits: Scale) -> None:
    assert fitting(scale, body) == fits


# openings -------------------------------------------------------------------------------------------------------------

SERVER = {"endpoint": "wss://ws.example/endpoint", "pingInterval": 18000, "pingTimeout": 10000}
TOKEN = {"token": "T", "instanceServers": [SERVER]}


def test_kucoin_is_opened_with_a_token_and_says_how_often_it_wants_to_hear_of_us() -> None:
    says = cast("Rest", Says({"code": "200000", "data": TOKEN}))
    opening = asyncio.run(Kucoin().opening(says, ["ETH-USDT", "BTC-USDT"], None))
    assert opening.url == "wss://ws.example/endpoint?token=T&connectId=mm"
    assert [json.loads(text)["topic"] for text in opening.subscribe] == [
        "/market/level2:ETH-USDT,BTC-USDT", "/market/match:ETH-USDT,BTC-USDT", "/market/ticker:ETH-USDT,BTC-USDT",
    ]  # fmt: skip
    assert (opening.ping_seconds, opening.silence, opening.acks, opening.greets) == (18.0, 28.0, 3, True)
    assert json.loads(opening.ping or "")["type"] == "ping"


@pytest.mark.parametrize(
    "data",
    [
        {}, {"token": "T"}, {"token": "T", "instanceServers": []}, {"token": 7, "instanceServers": [SERVER]},
        {"token": "T", "instanceServers": [{"endpoint": "ws://ws.example", "pingInterval": 1, "pingTimeout": 1}]},
        {"token": "T", "instanceServers": [{"endpoint": None, "pingInterval": 1, "pingTimeout": 1}]},
        {"token": "T", "instanceServers": [{"endpoint": "wss://ws.example", "pingInterval": "x", "pingTimeout": 1}]},
    ],
)  # fmt: skip
def test_a_token_that_is_none_or_leads_to_a_server_without_encryption_is_refused(data: object) -> None:
    with pytest.raises(VenueError):
        asyncio.run(Kucoin().opening(cast("Rest", Says({"code": "200000", "data": data})), ["ETH-USDT"], None))


def test_binance_has_what_is_wanted_in_its_address() -> None:
    opening = asyncio.run(Binance().opening(cast("Rest", None), ["ETHUSDT"], None))
    assert opening.url == (
        "wss://stream.binance.com:9443/stream?streams=ethusdt@depth@100ms/ethusdt@bookTicker/ethusdt@aggTrade"
    )
    assert opening.lifetime is not None
    assert opening.lifetime < 24 * 3600
    asked = Binance().question("ETHUSDT")
    assert (asked.path, asked.params, asked.weight) == ("/api/v3/depth", {"symbol": "ETHUSDT", "limit": "5000"}, 250)
    asked = BinanceUsdm().question("ETHUSDT")
    assert (asked.path, asked.params, asked.weight) == ("/fapi/v1/depth", {"symbol": "ETHUSDT", "limit": "1000"}, 20)


def test_kraken_gets_its_book_with_the_subscription() -> None:
    kraken = Kraken(25)
    opening = asyncio.run(kraken.opening(cast("Rest", None), ["ETH/USD"], None))
    assert [json.loads(text)["params"]["channel"] for text in opening.subscribe] == ["book", "trade", "ticker"]
    assert json.loads(opening.subscribe[0])["params"]["depth"] == 25
    assert [json.loads(text)["method"] for text in kraken.resubscription("ETH/USD")] == ["unsubscribe", "subscribe"]
    assert kraken.question("ETH/USD") is None


# messages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "payload", "milliseconds"),
    [
        (Kucoin(), b'{"data":{"time":1663747970273,"symbol":"A"}}', 1663747970273),
        (Kucoin(), b'{"data":{"sequence":"1","Time":1704873323416}}', 1704873323416),
        (Kucoin(), b'{"data":{"time":"1619378327739050725"}}', 1619378327739),
        (Kucoin(), b'{"data":{"sequence":"1619378327739"}}', None),
        (Binance(), b'{"stream":"x","data":{"e":"depthUpdate","E":1633998512068,"s":"A"}}', 1633998512068),
        (Binance(), b'{"data":{"u":1,"s":"A"}}', None),
        (Kraken(10), b'{"data":[{"timestamp":"2023-10-06T17:35:55.440295Z"}]}', 1696613755440),
        (Kraken(10), b'{"data":[{"timestamp":"2023-13-06T17:35:55.440295Z"}]}', None),
        (Kraken(10), b'{"channel":"heartbeat"}', None),
    ],
)
def test_the_venues_time(venue: Any, payload: bytes, milliseconds: int | None) -> None:
    assert venue.event_ms(payload) == milliseconds


def test_what_kucoin_confirms_and_refuses() -> None:
    kucoin = Kucoin()
    assert kucoin.is_ack(b'{"id":"1","type":"ack"}')
    assert not kucoin.is_ack(b'{"id":"1","type":"pong"}')
    assert not kucoin.is_ack(b"<html>")
    assert kucoin.refusal(b'{"type":"error","code":401,"data":"token is expired"}') is not None
    assert kucoin.refusal(b"<html>") is None
    assert kucoin.refusal(b'{"type":"welcome"}') is None


@pytest.mark.parametrize(
    ("file", "venue"),
    [
        ("kucoin_spot_2021-04-25", Kucoin()),
        ("binance_spot_2021-10-12", Binance()),
        ("binance_usdm_2021", BinanceUsdm()),
    ],
)
def test_the_clock_of_recorded_messages(shared_data: Path, file: str, venue: Any) -> None:
    rows = pl.read_parquet(shared_data / "books" / "protocol" / f"{file}.parquet").filter(
        pl.col("direction") == "received"
    )
    offsets = [
        found - recv_us / 1000
        for recv_us, payload in rows.select("recv_us", "payload").iter_rows()
        if (found := venue.event_ms(payload.encode())) is not None
    ]
    assert len(offsets) > 50
    assert -2000 < sorted(offsets)[len(offsets) // 2] < 100
