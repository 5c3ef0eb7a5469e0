"""Bought history: the `incremental_book_L2` and `trades` files of Tardis, as the tapes of a log.

Their times are microseconds of the receiver's clock. Nothing in them is numbered: a book begins with the rows of a
snapshot, and another snapshot says that something may have been missed before it. Other rows of one time are one
message. A file is read strictly: what is odd about it is told with its line.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from itertools import groupby

import numpy as np

from mm_dagster.bars import BAR, DAY_BARS
from mm_dagster.books.follow import BookMarket, Recent
from mm_dagster.books.ladder import Ladder, MessageError, Scale
from mm_dagster.books.messages import Trade
from mm_dagster.books.sync import Gap, Reason
from mm_dagster.books.tape import Op, Rows, Tape, columns
from mm_dagster.errors import ForeseenError

QUARTER_NS = BAR // timedelta(microseconds=1) * 1000
DAY_NS = DAY_BARS * QUARTER_NS
BOOK_COLUMNS = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
TRADE_COLUMNS = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
EXCHANGES = {"kucoin": "kucoin", "binance": "binance", "binance_usdm": "binance-futures", "kraken": "kraken"}
"""Tardis' names of them."""
MOST_US = (2**63 - 1) // 1000 - 10**12
"""Of a time, so that the end of its quarter hour fits into 64 bits of nanoseconds."""

Level = tuple[int, Op, int, int]
"""Nanoseconds, side, ticks, lots."""


class TardisError(ForeseenError):
    """A file is not what Tardis sells of this market; one line: the number of the line, the column, the value."""


@dataclass(frozen=True)
class _Message:
    """What was said at a time.

    Attributes:
        at_ns: when, by its last row.
        is_snapshot: it is the whole book.
        goes_on: what comes next is no snapshot.
        levels: what it says.
    """

    at_ns: int
    is_snapshot: bool
    goes_on: bool
    levels: list[Level]


def scale_of(book: Iterable[bytes], trades: Iterable[bytes]) -> Scale:
    """As many decimals as the prices and amounts of the two files have.

    Raises:
        TardisError: one of them is no such file.
    """
    most = [0, 0]
    for lines, header in ((book, BOOK_COLUMNS), (trades, TRADE_COLUMNS)):
        for number, fields in _rows(lines, header):
            for place in (0, 1):
                text = fields[6 + place]
                try:
                    exponent = Decimal(text).normalize().as_tuple().exponent
                except InvalidOperation:
                    exponent = "n"
                if not isinstance(exponent, int):
                    raise _odd(number, ("price", "amount")[place], text, "must be a number")
                most[place] = max(most[place], -exponent)
    return Scale(most[0], most[1])


def tapes(market: BookMarket, book: Iterable[bytes], trades: Iterable[bytes]) -> Iterator[tuple[int, Tape]]:
    """The quarter hours of a market's two files, each a tape of its own; the book goes on from one to the next.

    Args:
        market: whose they have to be; a snapshot that has as many levels of a side as its depth may have been cut.
        book: lines of `incremental_book_L2`, each with its end.
        trades: lines of `trades`, of the same time.

    Returns:
        Beginning of each quarter hour of which anything is known, UTC nanoseconds, and its tape.

    Raises:
        TardisError: one of the files is none of this market.
    """
    told: _Told | None = None
    both: Iterator[_Event] = heapq.merge(_messages(_levels(market, book)), _trades(market, trades), key=_time)
    for one in both:
        at_ns = _time(one)
        told = told or _Told(market, at_ns)
        while at_ns >= told.start_ns + QUARTER_NS:
            yield from told.quarter(told.start_ns + QUARTER_NS)
        if isinstance(one, _Message):
            told.take(one)
        else:
            told.trade(*one)
    if told is None:
        raise TardisError("the files have no rows")
    yield from told.quarter(told.now + 1)


_Event = _Message | tuple[int, Trade]


def _time(one: _Event) -> int:
    return one.at_ns if isinstance(one, _Message) else one[0]


class _Told:
    """Tapes that are being written."""

    def __init__(self, market: BookMarket, at_ns: int) -> None:
        self.start_ns = at_ns - at_ns % QUARTER_NS
        self.now = at_ns
        self._market = market
        self._from_ns = at_ns
        self._good_ns = at_ns
        self._lost: tuple[Reason, ...] = (Reason.START,)
        self._book = Ladder()
        self._far: tuple[int | None, int | None] = (None, None)
        self._seen = Recent()
        self._begin()

    def _begin(self) -> None:
        self._rows = Rows()
        self._records, self._trades = array("q"), array("q")
        self._gaps: list[Gap] = []
        if not self._lost:
            self._whole(self.start_ns - 1, is_change=False)

    def _whole(self, at_ns: int, is_change: bool) -> None:
        self._rows.begin(at_ns, self._book.bids.top(), self._book.asks.top(), self._far)
        self._rows.stands(at_ns, is_change)

    def take(self, message: _Message) -> None:
        """A message of the book."""
        self.now = message.at_ns
        self._records.append(self.now)
        if message.is_snapshot:
            self._snapshot(message.levels)
        elif not self._lost:
            for _, op, price, lots in message.levels:
                (self._book.bids if op is Op.BID else self._book.asks).put(price, lots)
                self._rows.put(self.now, op, price, lots)
        if self._lost and not message.is_snapshot:
            return
        if self._book.is_crossed:
            self._lose(Reason.CROSSED)
        elif self._is_out_of_reach():
            self._lose(Reason.OUT_OF_REACH)
        else:
            self._stand(message.is_snapshot)
            if not message.goes_on:
                # Nobody knows what was missed before the snapshot that follows.
                self._lose(Reason.RECONNECTED)

    def _snapshot(self, levels: list[Level]) -> None:
        sides: dict[Op, dict[int, int]] = {Op.BID: {}, Op.ASK: {}}
        for _, op, price, lots in levels:
            sides[op][price] = lots
        bids, asks = ([one for one in sides[op].items() if one[1]] for op in (Op.BID, Op.ASK))
        self._book = book = Ladder(bids, asks)
        depth = self._market.depth
        self._far = (
            book.bids.worst if len(book.bids) >= depth else None,
            book.asks.worst if len(book.asks) >= depth else None,
        )

    def _is_out_of_reach(self) -> bool:
        (far_bid, far_ask), bid, ask = self._far, self._book.bids.best, self._book.asks.best
        return (far_bid is not None and (bid is None or bid[0] < far_bid)) or (
            far_ask is not None and (ask is None or ask[0] > far_ask)
        )

    def _stand(self, is_snapshot: bool) -> None:
        if is_snapshot:
            self._whole(self.now, is_change=True)
        else:
            self._rows.stands(self.now, is_change=True)
        if self._lost:
            self._gaps.append(self._gap(self.now))
        self._lost = ()
        self._good_ns = self.now

    def _lose(self, reason: Reason) -> None:
        if reason not in self._lost:
            self._lost = (*self._lost, reason)
        self._rows.lose(self.now)

    def _gap(self, to_ns: int) -> Gap:
        return Gap(self._market.name, self._lost, self._good_ns, to_ns, None, None)

    def trade(self, at_ns: int, trade: Trade) -> None:
        """A trade."""
        self.now = at_ns
        self._records.append(at_ns)
        if self._seen.is_new(trade.trade_id):
            self._trades.extend((at_ns, trade.price, trade.lots, trade.seller_aggressed))

    def quarter(self, until_ns: int) -> Iterator[tuple[int, Tape]]:
        """Ends the quarter hour; nothing where nothing of it is known."""
        rows, spans = self._rows.written(until_ns)
        gaps = (*self._gaps, *([self._gap(until_ns)] if self._lost else []))
        start_ns, from_ns = self.start_ns, max(self._from_ns, self.start_ns)
        none = np.zeros((0, 6), dtype=np.int64)
        tape = Tape(
            self._market, from_ns, until_ns, rows, columns(self._records, 1)[:, 0], columns(self._trades, 4), none,
            none[:, :5], np.maximum(spans, from_ns), gaps, 0, 0, 0,
        )  # fmt: skip
        self.start_ns += QUARTER_NS
        self._begin()
        if len(tape.rows) or len(tape.records):
            yield start_ns, tape


def _messages(levels: Iterator[tuple[bool, Level]]) -> Iterator[_Message]:
    """Rows together: those of a snapshot that come one after another, and others of the same time."""
    waiting: tuple[int, bool, list[Level]] | None = None
    for (_, is_snapshot), group in groupby(levels, key=lambda one: (-1 if one[0] else one[1][0], one[0])):
        found = [level for _, level in group]
        for part in _snapshots(found) if is_snapshot else [found]:
            if waiting is not None:
                yield _Message(waiting[0], waiting[1], not is_snapshot, waiting[2])
            waiting = part[-1][0], is_snapshot, part
    if waiting is not None:
        yield _Message(waiting[0], waiting[1], True, waiting[2])


def _snapshots(levels: list[Level]) -> Iterator[list[Level]]:
    """A run of snapshot rows in parts: where a price stands twice, another snapshot began with the time of its row."""
    part: list[Level] = []
    seen: set[tuple[Op, int]] = set()
    for _, group in groupby(levels, key=lambda level: level[0]):
        more = list(group)
        names = {(op, price) for _, op, price, _ in more}
        if seen & names:
            yield part
            part, seen = [], set()
        part, seen = part + more, seen | names
    yield part


# The lines ------------------------------------------------------------------------------------------------------------


def _odd(number: int, column: str, value: str, should: str) -> TardisError:
    return TardisError(f"line {number}: {column} is {value!r:.40}: {should}")


def _rows(lines: Iterable[bytes], header: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line after the first."""
    count = header.count(",") + 1
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("ascii")
        except UnicodeDecodeError:
            raise TardisError(f"line {number}: is no text: {line[:40]!r}") from None
        if not text.endswith("\n"):
            raise TardisError(f"line {number}: does not end: the file was cut")
        text = text.rstrip("\r\n")
        if number == 1:
            if text != header:
                raise TardisError(f"line 1: the columns are {text!r:.100}: must be {header}")
            continue
        fields = text.split(",")
        if len(fields) != count:
            raise TardisError(f"line {number}: has {len(fields)} fields: must be {count}")
        yield number, fields


class _Reader:
    """What the two kinds of rows have in common."""

    def __init__(self, market: BookMarket) -> None:
        self._market = market
        self._names: set[tuple[str, str]] = set()
        self._last_ns: int | None = None

    def time(self, number: int, fields: list[str]) -> int:
        """When a row was received, nanoseconds, and that it is of this market."""
        if (fields[0], fields[1]) not in self._names:
            self._is_of(number, fields[0], fields[1])
        for column, text in (("timestamp", fields[2]), ("local_timestamp", fields[3])):
            if not (text.isdigit() and len(text) <= 16 and 0 < int(text) <= MOST_US):
                raise _odd(number, column, text, "must be microseconds since 1970")
        at_ns = int(fields[3]) * 1000
        if self._last_ns is not None and not 0 <= at_ns - self._last_ns <= DAY_NS:
            should = "must not be before that of the line before, nor a day after it"
            raise _odd(number, "local_timestamp", fields[3], should)
        self._last_ns = at_ns
        return at_ns

    def _is_of(self, number: int, exchange: str, symbol: str) -> None:
        expected = EXCHANGES[self._market.exchange]
        if exchange != expected:
            raise _odd(number, "exchange", exchange, f"must be {expected}")
        if _plain(symbol) != _plain(self._market.symbol):
            raise _odd(number, "symbol", symbol, f"must be that of {self._market.symbol}")
        self._names.add((exchange, symbol))

    def amount(self, number: int, column: str, text: str, read: Callable[[object], int]) -> int:
        """A price or an amount."""
        try:
            return read(text)
        except MessageError as error:
            raise _odd(number, column, text, str(error)) from None


def _plain(symbol: str) -> str:
    """A symbol without what each writes in its own way; Kraken calls BTC so."""
    plain = symbol.upper().replace("-", "").replace("/", "").replace("_", "")
    return plain.replace("XBT", "BTC")


def _levels(market: BookMarket, lines: Iterable[bytes]) -> Iterator[tuple[bool, Level]]:
    """The rows of a book, and whether each is of a snapshot."""
    reader, scale = _Reader(market), market.scale
    flags, sides = {"true": True, "false": False}, {"bid": Op.BID, "ask": Op.ASK}
    for number, fields in _rows(lines, BOOK_COLUMNS):
        at_ns = reader.time(number, fields)
        if fields[4] not in flags:
            raise _odd(number, "is_snapshot", fields[4], "must be true or false")
        if fields[5] not in sides:
            raise _odd(number, "side", fields[5], "must be bid or ask")
        price = reader.amount(number, "price", fields[6], scale.ticks)
        if price == 0:
            raise _odd(number, "price", fields[6], "must be above 0")
        yield (
            flags[fields[4]],
            (at_ns, sides[fields[5]], price, reader.amount(number, "amount", fields[7], scale.lots)),
        )


def _trades(market: BookMarket, lines: Iterable[bytes]) -> Iterator[tuple[int, Trade]]:
    """The trades, and when each was received."""
    reader, scale = _Reader(market), market.scale
    for number, fields in _rows(lines, TRADE_COLUMNS):
        at_ns = reader.time(number, fields)
        if not fields[4]:
            raise _odd(number, "id", fields[4], "must be the name of the trade")
        if fields[5] not in ("buy", "sell"):
            raise _odd(number, "side", fields[5], "must be buy or sell: who the aggressor was is not known")
        price = reader.amount(number, "price", fields[6], scale.ticks)
        lots = reader.amount(number, "amount", fields[7], scale.lots)
        yield at_ns, Trade(market.name, fields[4], price, lots, fields[5] == "sell")
