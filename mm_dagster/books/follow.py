"""A market's machine, fed with what its log has: the recorder and a replay run the very same one.

A log's record is a stream's name and bytes. `Follower` takes them in the order in which they were received; a file of
the log begins with `Follower.kept`, from which `Follower.again` goes on, wherever it stood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from mm_dagster.books.checkpoint import CheckpointError, checkpoint, restored
from mm_dagster.books.ladder import MessageError, Scale
from mm_dagster.books.messages import Connected, Disconnected, Record, SnapshotFailed, Trade, decoded
from mm_dagster.books.reading import answered, pushed
from mm_dagster.books.sync import Action, Rule, State, begin, step

EXCHANGES: dict[str, Rule] = {
    "kucoin": Rule.KUCOIN,
    "binance": Rule.BINANCE,
    "binance_usdm": Rule.BINANCE_USDM,
    "kraken": Rule.KRAKEN,
}
"""By their names in books.yaml."""
TRADES_KNOWN = 512
"""Newest trades of which it is remembered that they came: two connections that are open at a time bring each twice."""


class Stream(StrEnum):
    """What a record of the log is; the name of its stream is one of these and the connection's number: `PUSHED 3`.

    PUSHED: a message of the socket. ANSWER: the body of the answer to a request for the book. FAILED: a request for it
    that brought none, the reason in UTF-8. CONNECTED, DISCONNECTED: a connection was opened and what it needs
    subscribed, or ended; what is known of it in UTF-8.
    """

    PUSHED = "PUSHED"
    ANSWER = "ANSWER"
    FAILED = "FAILED"
    CONNECTED = "CONNECTED"
    DISCONNECTED = "DISCONNECTED"

    def named(self, connection: int) -> str:
        """The name of a record's stream in the log."""
        return f"{self.value} {connection}"


@dataclass(frozen=True, slots=True)
class BookMarket:
    """A market whose book is followed.

    Attributes:
        exchange: its name in books.yaml.
        symbol: like ETH-USDT.
        scale: of its numbers; as many decimals as the venue sends.
        depth: levels of a side that a request for the book is answered with at most.
    """

    exchange: str
    symbol: str
    scale: Scale
    depth: int

    @property
    def rule(self) -> Rule:
        """Whose rule its messages follow."""
        return EXCHANGES[self.exchange]

    @property
    def name(self) -> str:
        """The venue's name of it."""
        return venue_name(self.exchange, self.symbol)


def venue_name(exchange: str, symbol: str) -> str:
    """What an exchange calls a market: ETH-USDT, ETHUSDT, ETH/USDT."""
    match EXCHANGES[exchange]:
        case Rule.BINANCE | Rule.BINANCE_USDM:
            return symbol.replace("-", "")
        case Rule.KRAKEN:
            return symbol.replace("-", "/")
    return symbol


def addressed(rule: Rule, payload: bytes) -> frozenset[str] | None:
    """The venue's names of the markets that a message of a socket is of; empty: of none, it is about the connection.

    None: nobody can say, and every market of the connection has to hear of it.
    """
    try:
        found = decoded(payload)
    except MessageError:
        return None
    names: list[Any]
    match rule:
        case Rule.KUCOIN:
            if found.get("type") == "error":
                return None
            topic = found.get("topic")
            names = [topic.partition(":")[2]] if isinstance(topic, str) and found.get("type") == "message" else []
        case Rule.KRAKEN:
            if found.get("success") is False:
                return None
            data = found.get("data")
            names = [one.get("symbol") for one in data if isinstance(one, dict)] if isinstance(data, list) else []
        case _:
            if "error" in found or "code" in found:
                return None
            data = found.get("data") if "stream" in found else found
            names = [data.get("s")] if isinstance(data, dict) and "s" in data else []
    return frozenset(names) if all(isinstance(name, str) for name in names) else None


class Recent:
    """The newest trades, so that none is taken twice."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        """Those that were heard last."""
        self._ids = dict.fromkeys(ids)

    @property
    def ids(self) -> list[str]:
        """Their names, the newest last."""
        return list(self._ids)

    def is_new(self, trade_id: str) -> bool:
        """Whether a trade was not heard yet; from now on it was."""
        if trade_id in self._ids:
            return False
        self._ids[trade_id] = None
        if len(self._ids) > TRADES_KNOWN:
            del self._ids[next(iter(self._ids))]
        return True


class Follower:
    """The book of one market, by its records.

    Attributes:
        market: whose.
        state: where the machine stands.
        trade: what is called with each trade and its time, once, however many connections bring it; None: nobody asks.
    """

    def __init__(self, market: BookMarket, state: State, trade_ids: Iterable[str] = ()) -> None:
        """One that goes on from a state, and from the trades that were heard last."""
        self.market = market
        self.state = state
        self.trade: Callable[[Trade, int], None] | None = None
        self._rule = market.rule
        self._scales = {market.name: market.scale}
        self._trades = Recent(trade_ids)

    @classmethod
    def begin(cls, market: BookMarket, at_ns: int) -> Follower:
        """One that has heard nothing yet."""
        return cls(market, begin(market.rule, market.name, at_ns, market.depth))

    @classmethod
    def again(cls, kept: bytes) -> Follower:
        """One that goes on from what `kept` gave.

        Raises:
            CheckpointError: it is not what was kept.
        """
        head, _, rest = kept.partition(b"\n")
        try:
            said = json.loads(head)
            market = BookMarket(said["exchange"], said["symbol"], Scale(**said["scale"]), said["depth"])
            rule, trade_ids = market.rule, [str(one) for one in said.get("trade_ids", ())]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"a checkpoint names no market: {type(error).__name__}") from None
        state = restored(rest)
        if (state.rule, state.symbol) != (rule, market.name):
            raise CheckpointError(f"a checkpoint of {market.name} has the book of {state.symbol!r:.40}")
        return cls(market, state, trade_ids)

    def kept(self) -> bytes:
        """Everything that it knows, as bytes."""
        head = asdict(self.market) | {"trade_ids": self._trades.ids}
        return json.dumps(head, sort_keys=True).encode() + b"\n" + checkpoint(self.state)

    def take(self, stream: str, payload: bytes, at_ns: int) -> tuple[Action, ...]:
        """Takes a record of the log.

        Args:
            stream: its name, see `Stream`.
            payload: its bytes.
            at_ns: when it was received, UTC nanoseconds.

        Returns:
            What follows, in order.
        """
        done: tuple[Action, ...] = ()
        for record in self.records(stream, payload):
            done += self.step(record, at_ns)
        return done

    def step(self, record: Record, at_ns: int) -> tuple[Action, ...]:
        """Takes one of the records of `records`, and says what follows."""
        if isinstance(record, Trade) and self._trades.is_new(record.trade_id) and self.trade is not None:
            self.trade(record, at_ns)
        self.state, actions = step(self.state, record, at_ns)
        return actions

    def records(self, stream: str, payload: bytes) -> tuple[Record, ...]:
        """What a record of the log says, see `take`.

        Raises:
            MessageError: its stream is none of a log.
        """
        kind, _, connection = stream.partition(" ")
        if kind == "PUSHED":  # nearly all
            return pushed(self._rule, payload, self._scales)
        market = self.market
        match kind:
            case Stream.ANSWER:
                return (answered(market.rule, payload, market.name, market.scale),)
            case Stream.FAILED:
                return (SnapshotFailed(payload.decode(errors="replace")),)
            case Stream.CONNECTED if connection.isdecimal():
                return (Connected(int(connection)),)
            case Stream.DISCONNECTED if connection.isdecimal():
                return (Disconnected(int(connection)),)
        raise MessageError(f"no stream of a log: {stream!r:.40}")
