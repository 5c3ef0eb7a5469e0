"""Order books as exchanges had them, update by update, from recorded messages."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path

import polars as pl

from mm_dagster.books.book import Book, parse
from mm_dagster.market.order_venue import MarketRules

Levels = tuple[tuple[Decimal, Decimal], ...]


@dataclass(frozen=True)
class Recorded:
    """A book at one moment.

    Attributes:
        seconds: since the first one.
        bids: prices and amounts, the best first.
        asks: likewise.
    """

    seconds: float
    bids: Levels
    asks: Levels

    @cached_property
    def book(self) -> Book:
        return parse(self.bids, self.asks)


@dataclass
class _Sides:
    """Both sides while they are being replayed; prices and amounts as they were sent."""

    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)

    def change(self, side: str, price: object, amount: object) -> None:
        levels, key, left = getattr(self, side), Decimal(str(price)), Decimal(str(amount))
        if key == 0:
            return
        if left == 0:
            levels.pop(key, None)
        else:
            levels[key] = left

    def at(self, seconds: float, depth: int) -> Recorded | None:
        """None: it is crossed for a moment, between two messages."""
        bids = tuple(heapq.nlargest(depth, self.bids.items()))
        asks = tuple(heapq.nsmallest(depth, self.asks.items()))
        return Recorded(seconds, bids, asks) if bids and asks and bids[0][0] < asks[0][0] else None


def rules_of(books: Iterable[Recorded]) -> MarketRules:
    """Lot and tick that all prices and amounts are whole steps of."""
    prices, amounts = 0, 0
    for one in books:
        for price, amount in (*one.bids, *one.asks):
            prices = max(prices, -int(price.normalize().as_tuple().exponent))
            amounts = max(amounts, -int(amount.normalize().as_tuple().exponent))
    return MarketRules(Decimal(1).scaleb(-amounts), Decimal(1).scaleb(-prices))


def binance(data: Path, symbol: str, *, every: int = 40, depth: int = 200) -> list[Recorded]:
    """Books of `l2/binance`: its snapshot, and every so-manieth update after it."""
    rows = pl.read_parquet(data / "l2" / "binance" / symbol / "depth.parquet")
    snapshot = rows.filter("is_snapshot")
    sides, last = _Sides(), snapshot["final_id"][0]
    found: list[Recorded | None] = []
    begun = snapshot["local_ns"][0]
    for side, price, amount in snapshot.select("side", "price", "qty").iter_rows():
        sides.change(f"{side}s", price, amount)
    found.append(sides.at(0.0, depth))
    updates = rows.filter(~pl.col("is_snapshot") & (pl.col("final_id") > last)).sort("seq", maintain_order=True)
    for number, part in enumerate(updates.partition_by("seq", maintain_order=True)):
        for side, price, amount in part.select("side", "price", "qty").drop_nulls().iter_rows():
            sides.change(f"{side}s", price, amount)
        if number % every == 0:
            found.append(sides.at((part["local_ns"][0] - begun) / 1e9, depth))
    return [one for one in found if one is not None]


def kucoin(data: Path) -> dict[str, list[Recorded]]:
    """Nine small markets: the snapshot of each, and about sixty books after it."""
    rows = pl.read_parquet(data / "books" / "protocol" / "kucoin_spot_2021-04-25.parquet")
    answers = rows.filter((pl.col("source") == "rest") & (pl.col("direction") == "answer"))
    found: dict[str, list[Recorded]] = {}
    for address, at, payload in answers.select("address", "recv_us", "payload").iter_rows():
        symbol, sent = address.rpartition("=")[2], json.loads(payload)["data"]
        found[symbol] = list(_kucoin(rows, symbol, sent, at))
    return found


def _kucoin(rows: pl.DataFrame, symbol: str, sent: dict, begun: int) -> Iterator[Recorded]:
    sides = _Sides()
    for side in ("bids", "asks"):
        for price, amount in sent[side]:
            sides.change(side, price, amount)
    if (first := sides.at(0.0, 200)) is not None:
        yield first
    messages = rows.filter(
        (pl.col("direction") == "received") & pl.col("payload").str.contains(f'"/market/level2:{symbol}"', literal=True)
    )
    for number, (at, payload) in enumerate(messages.select("recv_us", "payload").iter_rows()):
        for side, levels in json.loads(payload)["data"]["changes"].items():
            for price, amount, sequence in levels:
                if int(sequence) > int(sent["sequence"]):
                    sides.change(side, price, amount)
        if (
            number % max(1, messages.height // 60) == 0
            and (now := sides.at(max(0.0, (at - begun) / 1e6), 200)) is not None
        ):
            yield now


def kraken(data: Path, pair: str) -> list[Recorded]:
    """One pair: its snapshot, and every fifth message after it."""
    rows = pl.read_parquet(data / "books" / "protocol" / "kraken_spot_v1_2021-04-17.parquet")
    rows = rows.filter((pl.col("direction") == "received") & pl.col("payload").str.contains(f'"{pair}"', literal=True))
    sides, found, begun = _Sides(), [], None
    names = {"as": "asks", "a": "asks", "bs": "bids", "b": "bids"}
    for number, (at, payload) in enumerate(rows.select("recv_us", "payload").iter_rows()):
        message = json.loads(payload)
        if not isinstance(message, list) or not str(message[-2]).startswith("book"):
            continue
        begun = begun or at
        for part in message[1:-2]:
            for name, levels in part.items():
                for level in levels if name in names else ():
                    sides.change(names[name], level[0], level[1])
        if number % 5 == 0:
            found.append(sides.at((at - begun) / 1e6, 200))
    return [one for one in found if one is not None]
