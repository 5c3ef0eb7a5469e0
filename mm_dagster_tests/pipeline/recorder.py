"""A recorder's folder of a made-up market, written by the recorder's own log and machine, without a socket."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mm_dagster.bars import EPOCH
from mm_dagster.books.follow import BookMarket, Follower, Stream, venue_name
from mm_dagster.books.ladder import Scale
from mm_dagster.books.sync import Rule
from mm_dagster.recorder.log import QUARTER_NS, SECOND_NS, Log
from mm_dagster.recorder.places import place_of, root_of
from mm_dagster_tests.books.venue import Venue, best, lots_text, price_text

SCALE = Scale(2, 3)


def ns(time: datetime) -> int:
    """Nanoseconds since 1970."""
    return (time - EPOCH) // (EPOCH.resolution) * 1000


@dataclass
class Recording:
    """A market under way: what its venue sends is kept, and its machine is fed, as a recorder does it.

    Attributes:
        now: nanoseconds since 1970, UTC.
    """

    data: Path
    exchange: str
    symbol: str
    now: int
    seed: int = 1

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.exchange}{self.symbol}{self.seed}")
        self.market = BookMarket(self.exchange, self.symbol, SCALE, 1000)
        self.venue = Venue(self.market.rule, self.rng, 1000)
        self.name = venue_name(self.exchange, self.symbol).encode()
        self.trades = 0
        self.connection = 0
        self.start()

    def start(self) -> None:
        """A recorder begins, at a time at which nobody recorded."""
        self.follower = Follower.begin(self.market, self.now)
        folder = place_of(root_of(self.data), self.exchange, self.symbol).log
        self.log = Log(folder, lambda: self.follower.kept(), lambda: self.now, has_status=False)
        self.connect()

    def connect(self) -> None:
        """A connection, and the book that is asked for."""
        self.connection += 1
        self.take(Stream.CONNECTED, b"subscribed")
        if self.market.rule is Rule.KRAKEN:
            self.take(Stream.PUSHED, self.venue.kraken(None))
            return
        self.push()
        self.take(Stream.ANSWER, self.venue.snapshot(self.venue.number))

    def disconnect(self) -> None:
        """The connection ends."""
        self.take(Stream.DISCONNECTED, b"closed")

    def take(self, stream: Stream, payload: bytes) -> None:
        """What is received: kept, then applied."""
        name = stream.named(self.connection)
        payload = payload.replace(b'"M"', b'"%s"' % self.name).replace(b":M", b":%s" % self.name)
        self.log.append(name, payload, self.now)
        self.follower.take(name, payload, self.now)

    def push(self) -> None:
        """The next change of the book."""
        self.take(Stream.PUSHED, self.venue.message()[1])

    def quote(self) -> None:
        """The best prices, of Binance."""
        (bid, bid_lots), (ask, ask_lots) = (best(self.venue.book[side], 1 - 2 * side, 1)[0] for side in (0, 1))
        told = {
            "u": self.venue.number, "s": "M", "b": price_text(bid), "B": lots_text(bid_lots), "a": price_text(ask),
            "A": lots_text(ask_lots),
        }  # fmt: skip
        self.take(Stream.PUSHED, json.dumps(told).encode())

    def trade(self) -> None:
        """A trade at one of the best prices, of Binance."""
        self.trades += 1
        is_sale = self.rng.random() < 0.5
        price = best(self.venue.book[0 if is_sale else 1], 1 if is_sale else -1, 1)[0][0]
        told = {
            "e": "aggTrade", "s": "M", "a": self.trades, "p": price_text(price),
            "q": lots_text(self.rng.randint(1, 2_000)), "m": is_sale, "f": self.trades, "l": self.trades,
        }  # fmt: skip
        self.take(Stream.PUSHED, json.dumps(told).encode())

    def until(self, end: int, each: float = 2.0, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Records up to a time, a message each so many seconds."""
        while self.now + int(each * SECOND_NS) < end:
            self.now += int(each * SECOND_NS)
            self.push()
            if self.market.rule is not Rule.KRAKEN and self.market.rule is not Rule.KUCOIN:
                if self.rng.random() < 0.5:
                    self.quote()
                if self.rng.random() < 0.7:
                    self.trade()
            meanwhile()
        self.now = end
        self.log.beat()

    def quarters(self, count: int, each: float = 2.0) -> None:
        """Records so many quarter hours, the one under way among them."""
        for _ in range(count):
            self.until(self.now - self.now % QUARTER_NS + QUARTER_NS, each)

    def kill(self) -> None:
        """The process dies: no END, no DISCONNECTED."""
        writer = self.log._writer
        assert writer is not None
        writer.abandon()
        self.log._lock.release()

    def stop(self) -> None:
        """It ends as it should."""
        self.log.close()
