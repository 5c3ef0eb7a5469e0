"""What venues send is read digit by digit, and what they do not send is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mm_dagster.books import messages
from mm_dagster.books.ladder import MessageError, Scale
from mm_dagster.books.messages import Checked, Delta, Quote, Snapshot, SnapshotFailed, Trade, Unreadable
from mm_dagster.books.reading import READERS, pushed
from mm_dagster.books.sync import Rule
from mm_dagster_tests.books.venue import Venue

SCALES = {"BTC-USDT": Scale(1, 8), "BTCUSDT": Scale(2, 8), "BTC/USD": Scale(1, 8)}
KUCOIN = (
    b'{"data":{"sequenceStart":5,"symbol":"BTC-USDT","changes":{"asks":[["0","0","5"]],"bids":[["7.1","2","6"]]},'
    b'"sequenceEnd":6},"subject":"trade.l2update","topic":"/market/level2:BTC-USDT","type":"message"}'
)
SPOT = b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":5,"u":6,"b":[["7.10000000","0.00000000"]],"a":[]}'
USDM = (
    b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","s":"BTCUSDT","U":5,"u":6,"pu":3,"b":[],"a":[["7.1","2"]]}}'
)
KRAKEN = (
    b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":45283.5,"qty":0.10000000}],'
    b'"asks":[],"checksum":3310070434,"timestamp":"2023-10-06T17:35:55.440295Z"}]}'
)


def test_changes_of_each_venue() -> None:
    assert messages.kucoin(KUCOIN, SCALES) == (
        Delta("BTC-USDT", 5, 6, None, ((71, 200_000_000),), ((0, 0),), (6,), (5,)),
    )
    assert messages.binance(SPOT, SCALES) == (Delta("BTCUSDT", 5, 6, None, ((710, 0),), ()),)
    assert messages.binance_usdm(USDM, SCALES) == (Delta("BTCUSDT", 5, 6, 3, (), ((710, 200_000_000),)),)
    assert messages.kraken(KRAKEN, SCALES) == (Checked("BTC/USD", False, ((452_835, 10_000_000),), (), 3310070434),)


def test_quotes_and_trades_of_each_venue() -> None:
    kucoin = b'{"type":"message","topic":"/market/ticker:BTC-USDT","data":{"sequence":"9","bestAsk":"7.2",'
    kucoin += b'"bestBid":"7.1","bestBidSize":"1","bestAskSize":"2"}}'
    assert messages.kucoin(kucoin, SCALES) == (Quote("BTC-USDT", 9, 71, 10**8, 72, 2 * 10**8),)
    spot = b'{"u":9,"s":"BTCUSDT","b":"7.1","B":"1","a":"7.2","A":"2"}'
    assert messages.binance(spot, SCALES) == (Quote("BTCUSDT", 9, 710, 10**8, 720, 2 * 10**8),)
    kraken = b'{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD",'
    kraken += b'"bid":7,"bid_qty":1,"ask":7.2,"ask_qty":2}]}'
    assert messages.kraken(kraken, SCALES) == (Quote("BTC/USD", None, 70, 10**8, 72, 2 * 10**8),)
    match = b'{"type":"message","topic":"/market/match:BTC-USDT",'
    match += b'"data":{"side":"sell","size":"2","price":"7.1","tradeId":"x"}}'
    assert messages.kucoin(match, SCALES) == (Trade("BTC-USDT", "x", 71, 2 * 10**8, True),)
    trade = b'{"e":"aggTrade","s":"BTCUSDT","a":4,"p":"7.1","q":"2","m":false}'
    assert messages.binance(trade, SCALES) == (Trade("BTCUSDT", "4", 710, 2 * 10**8, False),)
    trade = b'{"channel":"trade","type":"update",'
    trade += b'"data":[{"symbol":"BTC/USD","side":"buy","price":7.1,"qty":2,"trade_id":4}]}'
    assert messages.kraken(trade, SCALES) == (Trade("BTC/USD", "4", 71, 2 * 10**8, False),)


@pytest.mark.parametrize(
    ("rule", "payload"),
    [
        (Rule.KUCOIN, b'{"id":"x","type":"welcome"}'),
        (Rule.KUCOIN, b'{"id":"1","type":"ack"}'),
        (Rule.KUCOIN, b'{"type":"message","topic":"/market/candles:BTC-USDT_1min","data":{}}'),
        (Rule.BINANCE, b'{"result":null,"id":1}'),
        (Rule.BINANCE, b'{"stream":"btcusdt@kline_1m","data":{"e":"kline"}}'),
        (Rule.KRAKEN, b'{"channel":"heartbeat"}'),
        (Rule.KRAKEN, b'{"method":"subscribe","result":{},"success":true}'),
        (Rule.KRAKEN, b'{"channel":"status","type":"update","data":[{"system":"online"}]}'),
    ],
)
def test_what_is_about_something_else_says_nothing(rule: Rule, payload: bytes) -> None:
    assert READERS[rule](payload, SCALES) == ()


@pytest.mark.parametrize(
    ("rule", "payload"),
    [
        (Rule.KUCOIN, b'{"id":"1","type":"error","code":404,"data":"topic is not found"}'),
        (Rule.BINANCE, b'{"error":{"code":2,"msg":"Invalid request"}}'),
        (Rule.KRAKEN, b'{"method":"subscribe","success":false,"error":"Currency pair not supported"}'),
    ],
)
def test_a_refusal_is_a_failed_snapshot(rule: Rule, payload: bytes) -> None:
    (record,) = READERS[rule](payload, SCALES)
    assert isinstance(record, SnapshotFailed)


ODD = [
    (
        Rule.KUCOIN,
        KUCOIN,
        [
            (b'"sequenceStart":5', b'"sequenceStart":7'),
            (b'"sequenceStart":5', b'"sequenceStart":5.0'),
            (b'"sequenceStart":5', b'"sequenceStart":true'),
            (b'"sequenceStart":5', b'"sequenceStart":-5'),
            (b'"sequenceStart":5', b'"sequenceStart":' + b"5" * 40),
            (b'"7.1","2","6"', b'"7.1","2","7"'),
            (b'"7.1","2","6"', b'"7.1","2"'),
            (b'"7.1","2","6"', b'"7.15","2","6"'),
            (b'"7.1","2","6"', b'"7.1","-2","6"'),
            (b'"7.1","2","6"', b'7.1,"2","6"]],"bids":[["7.1","2","6"'),
            (b"level2:BTC-USDT", b"level2:ETH-USDT"),
            (b'"symbol":"BTC-USDT"', b'"symbol":"ETH-USDT"'),
            (b'"changes"', b'"change"'),
            (b'"bids":', b'"bid":'),
            (b'"sequenceEnd":6', b'"sequenceEnd":6,"sequenceEnd":6'),
            (b'"type":"message"', b'"type":3'),
        ],
    ),
    (
        Rule.BINANCE,
        SPOT,
        [
            (b'"U":5', b'"U":7'),
            (b'"U":5', b'"U":null'),
            (b'"U":5,', b""),
            (b'"a":[]', b'"a":{}'),
            (b'"a":[]', b'"a":[[]]'),
            (b'"7.10000000"', b'"0.00000000"'),
            (b'"7.10000000"', b'"7.10000001"'),
            (b'"7.10000000"', b'"NaN"'),
            (b'"7.10000000"', b"NaN"),
            (b'"7.10000000"', b"7"),
            (b'"s":"BTCUSDT"', b'"s":"XXX"'),
            (b'"s":"BTCUSDT"', b'"s":[]'),
        ],
    ),
    (
        Rule.BINANCE_USDM,
        USDM,
        [
            (b'"pu":3,', b""),
            (b'"pu":3', b'"pu":6'),
            (b'"e":"depthUpdate"', b'"e":"depth"'),
            (b'"data":{', b'"data":3,"x":{'),
        ],
    ),
    (
        Rule.KRAKEN,
        KRAKEN,
        [
            (b"45283.5", b"45283.55"),
            (b"45283.5", b"-45283.5"),
            (b"45283.5", b"0.0"),
            (b"45283.5", b"null"),
            (b"3310070434", b"33100704340"),
            (b"3310070434", b"null"),
            (b"3310070434", b"1.5"),
            (b'"update"', b'"delta"'),
            (b'"symbol":"BTC/USD"', b'"symbol":"X"'),
            (b'[{"price":45283.5,"qty":0.10000000}]', b"[[45283.5,0.1]]"),
            (b'"asks":[],', b""),
            (b'"data":[', b'"data":[1,'),
        ],
    ),
]


@pytest.mark.parametrize(
    ("rule", "payload", "old", "new"), [(rule, payload, *pair) for rule, payload, pairs in ODD for pair in pairs]
)
def test_what_a_venue_does_not_send_is_refused(rule: Rule, payload: bytes, old: bytes, new: bytes) -> None:
    assert payload.count(old) == 1
    odd = payload.replace(old, new)
    with pytest.raises(MessageError) as caught:
        READERS[rule](odd, SCALES)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 160
    assert pushed(rule, odd, SCALES) == (Unreadable(str(caught.value)),)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"3", b"null", b"\xff\xfe", b"{", b"[" * 100_000, b'{"a":1}x', b'{"a":1e}']
)
@pytest.mark.parametrize("rule", list(Rule))
def test_what_is_no_object_is_refused(rule: Rule, payload: bytes) -> None:
    with pytest.raises(MessageError):
        READERS[rule](payload, SCALES)


@pytest.mark.parametrize("rule", list(Rule))
def test_any_bytes_give_records_or_the_foreseen_error(rule: Rule) -> None:
    rng = random.Random(rule)
    venue = Venue(rule, rng, 10)
    refused = 0
    for _ in range(1500):
        payload = bytearray(venue.message()[1])
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(payload))
            payload[place : place + rng.choice((0, 1, 1, 5))] = rng.randbytes(rng.choice((0, 1, 1, 2)))
            payload = payload or bytearray(b" ")
        records = pushed(rule, bytes(payload), {"M": Scale(2, 3)})
        refused += any(isinstance(record, Unreadable) for record in records)
    assert refused > 500


def test_snapshots_of_both_venues_that_answer_requests() -> None:
    kucoin = {"code": "200000", "data": {"time": 1, "sequence": "6", "bids": [["7.1", "2"]], "asks": [["7.2", "1"]]}}
    expected = Snapshot("M", 6, ((710, 2000),), ((720, 1000),))
    assert messages.kucoin_snapshot(json.dumps(kucoin).encode(), "M", Scale(2, 3)) == expected
    binance = {"lastUpdateId": 6, "bids": [["7.10000000", "2.000"]], "asks": [["7.2", "1"]]}
    assert messages.binance_snapshot(json.dumps(binance).encode(), "M", Scale(2, 3)) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"bids": [["7.1", "0"]]},
        {"bids": [["7.1", "1"], ["7.1", "2"]]},
        {"bids": [["7.0", "1"], ["7.1", "2"]]},
        {"asks": [["7.3", "1"], ["7.2", "2"]]},
        {"asks": [["7.1", "1"]]},
        {"asks": [["0", "1"]]},
        {"asks": None},
        {"lastUpdateId": "x"},
        {"code": -1003, "msg": "Too much request weight used"},
    ],
)
def test_what_is_no_book_is_a_failed_snapshot(change: dict) -> None:
    answer = {"lastUpdateId": 6, "bids": [["7.1", "2"]], "asks": [["7.2", "1"]]} | change
    found = messages.read_snapshot(messages.binance_snapshot, json.dumps(answer).encode(), "M", Scale(2, 3))
    assert isinstance(found, SnapshotFailed)


def test_the_examples_of_kucoins_own_documentation_are_read(shared_data: Path) -> None:
    text = (shared_data / "kucoin_api" / "sdk_ws_examples.json").read_text()
    examples = _objects(json.loads(text))
    found = [one for one in examples if "type" in one and str(one.get("topic")).startswith("/market/level2:")]
    assert found
    for example in found:
        symbol = example["topic"].partition(":")[2]
        (record,) = messages.kucoin(json.dumps(example).encode(), {symbol: Scale(10, 10)})
        assert isinstance(record, Delta)


def _objects(found: object) -> list[dict]:
    if isinstance(found, dict):
        return [found, *(one for value in found.values() for one in _objects(value))]
    if isinstance(found, list):
        return [one for value in found for one in _objects(value)]
    return []
