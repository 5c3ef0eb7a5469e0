"""What venues send about their books, read strictly from bytes.

Known are KuCoin spot (level2, match, ticker), Binance spot and USDM (depth, bookTicker, aggTrade) and Kraken v2 (book,
trade, ticker). The messages of KuCoin and Binance were recorded; those of Kraken v2 are written after its documentation
and v1 records, and no v2 message was ever seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NoReturn, TypeVar

from mm_dagster.books.ladder import Levels, MessageError, Scale

T = TypeVar("T")
LONGEST_NUMBER = 30
"""Characters of a whole number: longer ones are no sequence and no time."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection was opened and what it needs was subscribed.

    Attributes:
        connection: its number.
    """

    connection: int = 0


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection ended, however it did.

    Attributes:
        connection: its number.
    """

    connection: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole book, as far as the venue shows one: the answer to a request.

    Attributes:
        symbol: the venue's name of the market.
        last_id: number of the newest change in it.
        bids: the best first.
        asks: the best first.
    """

    symbol: str
    last_id: int
    bids: Levels
    asks: Levels


@dataclass(frozen=True, slots=True)
class SnapshotFailed:
    """A request for a book, or a subscription, brought none: refused, unreadable or unanswered."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed in a book.

    Attributes:
        symbol: the venue's name of the market.
        first_id: number of the oldest change in it.
        last_id: number of the newest.
        previous_id: last number of the message before; None: the venue does not say.
        bids: new absolute amounts; 0 removes a level.
        asks: likewise.
        bid_ids: number of each change of the bids; empty: the venue does not say.
        ask_ids: likewise.
    """

    symbol: str
    first_id: int
    last_id: int
    previous_id: int | None
    bids: Levels
    asks: Levels
    bid_ids: tuple[int, ...] = ()
    ask_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """A book or what changed in it, with a checksum of the result in place of numbers.

    Attributes:
        symbol: the venue's name of the market.
        is_snapshot: it is the whole book.
        bids: absolute amounts in the order in which they are to be applied; 0 removes a level.
        asks: likewise.
        checksum: CRC32 of the ten best levels of both sides afterwards.
    """

    symbol: str
    is_snapshot: bool
    bids: Levels
    asks: Levels
    checksum: int


@dataclass(frozen=True, slots=True)
class Quote:
    """The best prices, as the venue says them beside the book.

    Attributes:
        symbol: the venue's name of the market.
        update_id: number of the change after which they hold; None: the venue does not say.
        bid: best bid in ticks.
        bid_lots: its amount.
        ask: best ask in ticks.
        ask_lots: its amount.
    """

    symbol: str
    update_id: int | None
    bid: int
    bid_lots: int
    ask: int
    ask_lots: int


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade.

    Attributes:
        symbol: the venue's name of the market.
        trade_id: as the venue names it.
        price: in ticks.
        lots: amount.
        seller_aggressed: a resting bid was hit.
    """

    symbol: str
    trade_id: str
    price: int
    lots: int
    seller_aggressed: bool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that is not what the venue is known to send: what it said is lost, and of which market nobody knows.

    Attributes:
        reason: what is odd about it.
    """

    reason: str


Message = Delta | Checked | Quote | Trade | SnapshotFailed
Record = Connected | Disconnected | Snapshot | SnapshotFailed | Delta | Checked | Quote | Trade | Unreadable
Scales = Mapping[str, Scale]
"""By the venue's name of a market."""


def _refuse(constant: str) -> NoReturn:
    raise MessageError(f"no number: {constant}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MessageError("a name stands twice in an object")
    return found


# Fractions stay the text that was sent: not a digit is lost, and checksums are over digits.
_DECODER = json.JSONDecoder(parse_float=str, parse_constant=_refuse, object_pairs_hook=_once, strict=True)


@lru_cache(maxsize=1)
def decoded(payload: bytes) -> dict[str, Any]:
    """The object in a message; fractions as text, whole numbers as int. Not to be changed: who asks next gets it, too.

    Raises:
        MessageError: it is no UTF-8, no JSON, no object, or says something twice.
    """
    try:
        text = payload.decode().strip(" \t\n\r")
        found, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise MessageError(f"something follows the message: {text[end:]!r:.40}")
    except MessageError:
        raise
    except (ValueError, RecursionError) as error:
        raise MessageError(f"no JSON: {type(error).__name__} in {payload[:40]!r}") from None
    if not isinstance(found, dict):
        raise MessageError(f"no object: {payload[:40]!r}")
    return found


def _of(found: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = found.get(name)
    # True is an int to Python, and no number to a venue.
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise MessageError(f"{name} is {value!r:.40}, and no {kind.__name__}")
    return value


def _number(value: object, name: str) -> int:
    """A sequence: a whole number of at least 0, written as one or in a text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= LONGEST_NUMBER:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise MessageError(f"{name} is {value!r:.40}, and no sequence")
    return value


def _scale(symbol: str, scales: Scales) -> Scale:
    try:
        return scales[symbol]
    except KeyError:
        raise MessageError(f"nobody asked for {symbol!r:.40}") from None


def _text(value: object) -> object:
    """A number that came as a JSON number, as the text that it was."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _levels(found: Mapping[str, Any], name: str, scale: Scale) -> Levels:
    levels = []
    for level in _of(found, name, list):
        if not isinstance(level, list) or len(level) < 2:
            raise MessageError(f"one of {name} is no level: {level!r:.40}")
        price = scale.ticks(level[0])
        if price == 0:
            raise MessageError(f"one of {name} has the price 0")
        levels.append((price, scale.lots(level[1])))
    return tuple(levels)


def _book(symbol: str, last_id: int, bids: Levels, asks: Levels) -> Snapshot:
    """A snapshot that is a book.

    Raises:
        MessageError: a level is empty or stands twice, a side is out of order, or they cross.
    """
    for name, levels, sign in (("bids", bids, -1), ("asks", asks, 1)):
        if any(lots == 0 for _, lots in levels):
            raise MessageError(f"one of the snapshot's {name} is empty")
        if any(sign * (after[0] - before[0]) <= 0 for before, after in pairwise(levels)):
            raise MessageError(f"the snapshot's {name} are not in the order of their prices")
    if bids and asks and bids[0][0] >= asks[0][0]:
        raise MessageError("the snapshot is crossed")
    return Snapshot(symbol, last_id, bids, asks)


def kucoin_snapshot(payload: bytes, symbol: str, scale: Scale) -> Snapshot:
    """KuCoin's answer to a request for a book.

    Raises:
        MessageError: it is none.
    """
    found = decoded(payload)
    if found.get("code") != "200000":
        raise MessageError(f"refused: {found.get('code')!r:.20} {found.get('msg')!r:.60}")
    data = _of(found, "data", dict)
    return _book(
        symbol, _number(data.get("sequence"), "sequence"), _levels(data, "bids", scale), _levels(data, "asks", scale)
    )


def kucoin(payload: bytes, scales: Scales) -> tuple[Message, ...]:
    """What a message of KuCoin's socket says of books; nothing: it is about something else.

    Raises:
        MessageError: it is not what KuCoin sends.
    """
    found = decoded(payload)
    kind = _of(found, "type", str)
    if kind == "error":
        return (SnapshotFailed(f"refused: {found.get('code')!r:.20} {found.get('data')!r:.60}"),)
    if kind != "message":
        return ()
    topic, _, symbol = _of(found, "topic", str).partition(":")
    if topic not in ("/market/level2", "/market/match", "/market/ticker"):
        return ()
    data, scale = _of(found, "data", dict), _scale(symbol, scales)
    if topic == "/market/level2":
        return (_kucoin_delta(data, symbol, scale),)
    if topic == "/market/match":
        side = _of(data, "side", str)
        if side not in ("buy", "sell"):
            raise MessageError(f"side is {side!r:.40}")
        price, lots = scale.ticks(data.get("price")), scale.lots(data.get("size"))
        return (Trade(symbol, _of(data, "tradeId", str), price, lots, side == "sell"),)
    names = ("bestBid", "bestBidSize", "bestAsk", "bestAskSize")
    return (_quote(data, symbol, scale, names, _number(data.get("sequence"), "sequence")),)


def _kucoin_delta(data: Mapping[str, Any], symbol: str, scale: Scale) -> Delta:
    if data.get("symbol") != symbol:
        raise MessageError(f"the topic says {symbol}, the message {data.get('symbol')!r:.40}")
    first, last = (_number(data.get(name), name) for name in ("sequenceStart", "sequenceEnd"))
    _ordered(first, last)
    changes = _of(data, "changes", dict)
    sides, ids = [], []
    for name in ("bids", "asks"):
        levels, numbers = [], []
        for level in _of(changes, name, list):
            if not isinstance(level, list) or len(level) != 3:
                raise MessageError(f"one of {name} is no level: {level!r:.40}")
            number = _number(level[2], "sequence")
            if not first <= number <= last:
                raise MessageError(f"a level's sequence {number} is not within {first} to {last}")
            levels.append((scale.ticks(level[0]), scale.lots(level[1])))
            numbers.append(number)
        sides.append(tuple(levels))
        ids.append(tuple(numbers))
    return Delta(symbol, first, last, None, sides[0], sides[1], ids[0], ids[1])


def _ordered(first: int, last: int) -> None:
    if first > last:
        raise MessageError(f"its first number {first} is behind its last {last}")


def _quote(data: Mapping[str, Any], symbol: str, scale: Scale, names: tuple[str, ...], number: int | None) -> Quote:
    bid, bid_lots, ask, ask_lots = names
    return Quote(
        symbol,
        number,
        scale.ticks(_text(data.get(bid))),
        scale.lots(_text(data.get(bid_lots))),
        scale.ticks(_text(data.get(ask))),
        scale.lots(_text(data.get(ask_lots))),
    )


def binance_snapshot(payload: bytes, symbol: str, scale: Scale) -> Snapshot:
    """Binance's answer to a request for a book, spot or USDM; it does not name the market.

    Raises:
        MessageError: it is none.
    """
    found = decoded(payload)
    if "code" in found:
        raise MessageError(f"refused: {found.get('code')!r:.20} {found.get('msg')!r:.60}")
    last = _number(found.get("lastUpdateId"), "lastUpdateId")
    return _book(symbol, last, _levels(found, "bids", scale), _levels(found, "asks", scale))


def binance(payload: bytes, scales: Scales) -> tuple[Message, ...]:
    """What a message of Binance's spot socket says of books; nothing: it is about something else.

    Raises:
        MessageError: it is not what Binance sends.
    """
    return _binance(payload, scales, is_usdm=False)


def binance_usdm(payload: bytes, scales: Scales) -> tuple[Message, ...]:
    """What a message of Binance's socket of USDT perpetuals says of books; nothing: it is about something else.

    Raises:
        MessageError: it is not what Binance sends.
    """
    return _binance(payload, scales, is_usdm=True)


def _binance(payload: bytes, scales: Scales, is_usdm: bool) -> tuple[Message, ...]:
    found = decoded(payload)
    if "error" in found or "code" in found:
        return (SnapshotFailed(f"refused: {found.get('error', found.get('msg'))!r:.60}"),)
    data = _of(found, "data", dict) if "stream" in found else found
    # The spot socket sends its best quotes without a name of the event.
    kind = data.get("e", "bookTicker" if {"u", "s", "b", "B", "a", "A"} <= data.keys() else None)
    if kind not in ("depthUpdate", "bookTicker", "aggTrade"):
        if "stream" in found and isinstance(found["stream"], str) and "@depth" in found["stream"]:
            raise MessageError(f"a depth message is of the kind {kind!r:.40}")
        return ()
    symbol = _of(data, "s", str)
    scale = _scale(symbol, scales)
    if kind == "bookTicker":
        return (_quote(data, symbol, scale, ("b", "B", "a", "A"), _number(data.get("u"), "u")),)
    if kind == "aggTrade":
        price, lots = scale.ticks(data.get("p")), scale.lots(data.get("q"))
        return (Trade(symbol, str(_number(data.get("a"), "a")), price, lots, _of(data, "m", bool)),)
    first, last = _number(data.get("U"), "U"), _number(data.get("u"), "u")
    _ordered(first, last)
    previous = _number(data.get("pu"), "pu") if is_usdm else None
    if previous is not None and previous >= last:
        raise MessageError(f"pu {previous} is not before u {last}")
    return (Delta(symbol, first, last, previous, _levels(data, "b", scale), _levels(data, "a", scale)),)


def kraken(payload: bytes, scales: Scales) -> tuple[Message, ...]:
    """What a message of Kraken's socket, version 2, says of books; nothing: it is about something else.

    Raises:
        MessageError: it is not what Kraken is documented to send.
    """
    found = decoded(payload)
    if "method" in found:
        if found.get("success") is False:
            return (SnapshotFailed(f"refused: {found.get('error')!r:.60}"),)
        return ()
    channel = _of(found, "channel", str)
    if channel not in ("book", "trade", "ticker"):
        return ()
    kind = _of(found, "type", str)
    if kind not in ("snapshot", "update"):
        raise MessageError(f"type is {kind!r:.40}")
    told: list[Message] = []
    for data in _of(found, "data", list):
        if not isinstance(data, dict):
            raise MessageError(f"no object: {data!r:.40}")
        symbol = _of(data, "symbol", str)
        if symbol in scales:
            told.append(_kraken(channel, kind, data, symbol, scales[symbol]))
    if not told and found["data"]:
        raise MessageError("it is of no market that anybody asked for")
    return tuple(told)


def _kraken(channel: str, kind: str, data: Mapping[str, Any], symbol: str, scale: Scale) -> Message:
    if channel == "ticker":
        return _quote(data, symbol, scale, ("bid", "bid_qty", "ask", "ask_qty"), None)
    if channel == "trade":
        side = _of(data, "side", str)
        if side not in ("buy", "sell"):
            raise MessageError(f"side is {side!r:.40}")
        price, lots = scale.ticks(_text(data.get("price"))), scale.lots(_text(data.get("qty")))
        return Trade(symbol, str(_number(data.get("trade_id"), "trade_id")), price, lots, side == "sell")
    checksum = _number(data.get("checksum"), "checksum")
    if checksum >= 2**32:
        raise MessageError(f"checksum is {checksum}, and no CRC32")
    bids, asks = (_kraken_levels(data, name, scale) for name in ("bids", "asks"))
    if kind == "snapshot":
        _book(symbol, 0, bids, asks)
    return Checked(symbol, kind == "snapshot", bids, asks, checksum)


def _kraken_levels(data: Mapping[str, Any], name: str, scale: Scale) -> Levels:
    levels = []
    for level in _of(data, name, list):
        if not isinstance(level, dict):
            raise MessageError(f"one of {name} is no level: {level!r:.40}")
        price = scale.ticks(_text(level.get("price")))
        if price == 0:
            raise MessageError(f"one of {name} has the price 0")
        levels.append((price, scale.lots(_text(level.get("qty")))))
    return tuple(levels)


def read(reader: Callable[[bytes, Scales], tuple[Message, ...]], payload: bytes, scales: Scales) -> tuple[Record, ...]:
    """What a message says; what cannot be read is a record as well, so that a machine hears of the loss."""
    try:
        return reader(payload, scales)
    except MessageError as error:
        return (Unreadable(str(error)),)


def read_snapshot(
    reader: Callable[[bytes, str, Scale], Snapshot], payload: bytes, symbol: str, scale: Scale
) -> Snapshot | SnapshotFailed:
    """What the answer to a request says; one that cannot be read has failed."""
    try:
        return reader(payload, symbol, scale)
    except MessageError as error:
        return SnapshotFailed(str(error))
