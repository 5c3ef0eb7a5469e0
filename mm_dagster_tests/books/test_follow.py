"""Whose a message is, and a machine that goes on from what was kept of it."""

from __future__ import annotations

import json
import random

import pytest

from mm_dagster.books.checkpoint import CheckpointError
from mm_dagster.books.follow import EXCHANGES, BookMarket, Follower, Stream, addressed, venue_name
from mm_dagster.books.ladder import MessageError, Scale
from mm_dagster.books.messages import Trade
from mm_dagster.books.sync import Phase, Rule
from mm_dagster_tests.books.venue import SCALES, Line

NAMES = {"kucoin": "ETH-USDT", "binance": "ETHUSDT", "binance_usdm": "ETHUSDT", "kraken": "ETH/USDT"}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_each_venue_has_its_own_name_of_a_market(exchange: str) -> None:
    assert venue_name(exchange, "ETH-USDT") == NAMES[exchange]
    assert BookMarket(exchange, "ETH-USDT", Scale(2, 3), 100).name == NAMES[exchange]


@pytest.mark.parametrize(
    ("rule", "message", "whose"),
    [
        (Rule.KUCOIN, {"type": "message", "topic": "/market/level2:ETH-USDT", "data": {}}, {"ETH-USDT"}),
        (Rule.KUCOIN, {"type": "message", "topic": "/market/match:BTC-USDT", "data": 7}, {"BTC-USDT"}),
        (Rule.KUCOIN, {"type": "welcome", "id": "1"}, set()),
        (Rule.KUCOIN, {"type": "ack", "id": "1"}, set()),
        (Rule.KUCOIN, {"type": "error", "code": 404}, None),
        (Rule.BINANCE, {"stream": "ethusdt@depth", "data": {"e": "depthUpdate", "s": "ETHUSDT"}}, {"ETHUSDT"}),
        (Rule.BINANCE, {"u": 1, "s": "ETHUSDT", "b": "1"}, {"ETHUSDT"}),
        (Rule.BINANCE, {"result": None, "id": 1}, set()),
        (Rule.BINANCE, {"error": {"code": 2}}, None),
        (Rule.BINANCE_USDM, {"code": -1121, "msg": "no"}, None),
        (Rule.BINANCE, {"stream": "x@depth", "data": {"s": 7}}, None),
        (Rule.KRAKEN, {"channel": "book", "data": [{"symbol": "ETH/USDT"}]}, {"ETH/USDT"}),
        (Rule.KRAKEN, {"channel": "trade", "data": [{"symbol": "A/B"}, {"symbol": "C/D"}]}, {"A/B", "C/D"}),
        (Rule.KRAKEN, {"channel": "book", "data": [{"symbol": None}]}, None),
        (Rule.KRAKEN, {"channel": "heartbeat"}, set()),
        (Rule.KRAKEN, {"method": "subscribe", "success": True}, set()),
        (Rule.KRAKEN, {"method": "subscribe", "success": False}, None),
    ],
)
def test_whose_a_message_is(rule: Rule, message: dict, whose: set[str] | None) -> None:
    assert addressed(rule, json.dumps(message).encode()) == whose


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"null", b'{"a":1,"a":2}', b'{"a":NaN}', b"<html>"])
def test_what_cannot_be_read_concerns_everybody(rule: Rule, payload: bytes) -> None:
    assert addressed(rule, payload) is None


def _records(rule: Rule, seed: int) -> list[tuple[str, bytes, int]]:
    """What a recorder's log has of a trial against a line with faults."""
    exchange = next(name for name, one in EXCHANGES.items() if one is rule)
    line = Line(rule, seed)
    line.run()
    name = NAMES[exchange].encode()
    found = []
    for at_ns, (source, payload) in line.log:
        if source == "line":
            word, number = payload.split()
            kind = Stream.CONNECTED if word == b"up" else Stream.DISCONNECTED
            found.append((kind.named(int(number)), b"", at_ns))
        else:
            kinds = {"answer": Stream.ANSWER, "timeout": Stream.FAILED, "socket": Stream.PUSHED}
            named = payload.replace(b':M"', b":" + name + b'"').replace(b'"M"', b'"' + name + b'"')
            found.append((kinds[source].named(1), named, at_ns))
    return found


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_what_was_kept_goes_on_to_the_same_book_and_the_same_actions(exchange: str) -> None:
    rule, chance = EXCHANGES[exchange], random.Random(exchange)
    synced = 0
    for seed in range(6):
        records = _records(rule, seed)
        one = Follower.begin(BookMarket(exchange, "ETH-USDT", SCALES["M"], 1000), records[0][2])
        places = {chance.randrange(len(records)) for _ in range(10)}
        others: list[Follower] = []
        for place, record in enumerate(records):
            if place in places:
                others.append(Follower.again(one.kept()))
            actions = one.take(*record)
            synced += one.state.is_in_sync
            for other in others:
                assert other.take(*record) == actions
        assert {other.kept() for other in others} == {one.kept()}
        assert {other.state.book.digest() for other in others} == {one.state.book.digest()}
        assert {other.market for other in others} == {one.market}
    assert synced > 100


@pytest.mark.parametrize("rule", [Rule.KUCOIN, Rule.BINANCE, Rule.BINANCE_USDM])
def test_a_message_of_another_market_is_a_loss_and_no_change(rule: Rule) -> None:
    exchange = next(name for name, one in EXCHANGES.items() if one is rule)
    follower = Follower.begin(BookMarket(exchange, "ETH-USDT", SCALES["M"], 1000), 0)
    records = _records(rule, 1)
    for record in records:
        follower.take(*record)
        if follower.state.is_in_sync:
            break
    assert follower.state.is_in_sync
    digest = follower.state.book.digest()
    name = NAMES[exchange].encode()
    foreign = next(payload for stream, payload, _ in records[::-1] if stream.startswith("PUSHED") and name in payload)
    other = foreign.replace(name, name.replace(b"ETH", b"XYZ"))
    assert addressed(rule, other) == {NAMES[exchange].replace("ETH", "XYZ")}
    # A recorder gives it to nobody. Who gets it all the same cannot read it, and says so.
    follower.take("PUSHED 1", other, records[-1][2])
    assert follower.state.lost == ("UNREADABLE",)
    assert follower.state.book.digest() != digest
    assert follower.state.last_id is None


def test_trades_are_handed_on() -> None:
    follower = Follower.begin(BookMarket("binance", "ETH-USDT", Scale(2, 3), 1000), 0)
    heard: list[tuple[Trade, int]] = []
    follower.trade = lambda trade, at_ns: heard.append((trade, at_ns))
    trade = {"e": "aggTrade", "s": "ETHUSDT", "a": 5, "p": "10.5", "q": "0.25", "m": True}
    follower.take("PUSHED 1", json.dumps(trade).encode(), 7)
    assert heard == [(Trade("ETHUSDT", "5", 1050, 250, True), 7)]


def test_streams_of_a_log() -> None:
    follower = Follower.begin(BookMarket("kucoin", "ETH-USDT", Scale(2, 3), 100), 0)
    follower.take(Stream.CONNECTED.named(3), b"", 1)
    assert follower.state.connections == {3}
    assert follower.state.phase is Phase.BUFFERING
    follower.take(Stream.FAILED.named(3), b"\xff no answer", 2)
    follower.take(Stream.DISCONNECTED.named(3), b"", 3)
    assert follower.state.phase is Phase.DISCONNECTED
    with pytest.raises(MessageError, match="no stream of a log"):
        follower.take("depth", b"", 4)


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"{}",
        b"\n",
        b"no",
        b'{"exchange":"kucoin"}\n',
        b"[]\nx",
        b"\xff\n",
        b'{"exchange":"mars","symbol":"A-B"}\n',
    ],
)
def test_what_was_not_kept_is_refused(kept: bytes) -> None:
    with pytest.raises(CheckpointError):
        Follower.again(kept)


def test_a_checkpoint_of_another_market_is_refused() -> None:
    one = Follower.begin(BookMarket("kucoin", "ETH-USDT", Scale(2, 3), 100), 0).kept()
    other = Follower.begin(BookMarket("kucoin", "BTC-USDT", Scale(2, 3), 100), 0).kept()
    mixed = one.partition(b"\n")[0] + b"\n" + other.partition(b"\n")[2]
    with pytest.raises(CheckpointError, match="has the book of"):
        Follower.again(mixed)


def test_a_checkpoint_that_was_changed_is_refused_or_is_one_of_a_book_that_is_whole() -> None:
    one = Follower.begin(BookMarket("kucoin", "ETH-USDT", Scale(2, 3), 100), 0)
    kept = one.kept()
    refused = 0
    for place in range(len(kept)):
        changed = bytearray(kept)
        changed[place] ^= 1
        try:
            # The head has no digest of its own: a frame's checksum is over it, and the book has one.
            assert Follower.again(bytes(changed)).state == one.state
            assert place < kept.index(b"\n")
        except CheckpointError:
            refused += 1
    assert refused > len(kept) * 0.8
