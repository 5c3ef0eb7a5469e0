"""What real venues sent, as the bytes that a recorder would receive, in the order of receipt."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from mm_dagster.books import messages
from mm_dagster.books.follow import EXCHANGES, BookMarket, Follower, addressed
from mm_dagster.books.ladder import Scale
from mm_dagster.books.messages import Record
from mm_dagster.books.reading import answered, pushed
from mm_dagster.books.sync import Rule


def scales(path: Path, rule: Rule) -> dict[str, Scale]:
    """As many decimals as each market sends in a sample.

    KuCoin sent an amount of 11, which is finer than its market's own step.
    """
    most: dict[str, list[int]] = {}
    for address, payload in pl.read_parquet(path).select("address", "payload").iter_rows():
        found = json.loads(payload or "{}")
        data = found.get("data", found) if isinstance(found, dict) else {}
        if "symbol=" in address:
            symbol, sides = address.split("symbol=")[1].split("&")[0], (data["bids"], data["asks"])
        elif rule is Rule.KUCOIN and "changes" in data:
            symbol, sides = data["symbol"], (data["changes"]["bids"], data["changes"]["asks"])
        elif data.get("e") == "depthUpdate":
            symbol, sides = data["s"], (data["b"], data["a"])
        else:
            continue
        known = most.setdefault(symbol, [0, 0])
        for level in (*sides[0], *sides[1]):
            for place in (0, 1):
                known[place] = max(known[place], len(level[place].partition(".")[2].rstrip("0")))
    return {symbol: Scale(*decimals) for symbol, decimals in most.items()}


def numbered(path: Path, rule: Rule) -> Iterator[tuple[int, Record]]:
    """Records of KuCoin or Binance with their times, nanoseconds; ordered by receipt."""
    known = scales(path, rule)
    rows = pl.read_parquet(path).sort("recv_us", maintain_order=True)
    for address, direction, recv_us, payload in rows.select("address", "direction", "recv_us", "payload").iter_rows():
        at_ns = recv_us * 1000
        if direction == "open":
            yield at_ns, messages.Connected()
        elif direction == "answer":
            symbol = re.search(r"symbol=([A-Z0-9-]+)", address)[1]  # type: ignore[index]
            yield at_ns, answered(rule, payload.encode(), symbol, known[symbol])
        elif direction == "received":
            for record in pushed(rule, payload.encode(), known):
                yield at_ns, record


def digits(text: str) -> str:
    """As Kraken's checksum has a number."""
    return text.replace(".", "").lstrip("0")


def kraken_as_v2(path: Path) -> Iterator[tuple[int, str, bytes]]:
    """Time, pair and bytes of book messages of version 2, rebuilt from recorded ones of version 1.

    A snapshot of version 1 has no checksum: here it gets one from its texts.
    """
    rows = pl.read_parquet(path).filter((pl.col("source") == "ws book") & (pl.col("direction") == "received"))
    for recv_us, payload in rows.sort("recv_us", maintain_order=True).select("recv_us", "payload").iter_rows():
        found = json.loads(payload)
        if not isinstance(found, list):
            continue
        parts: dict[str, object] = {}
        for part in found[1:-2]:
            parts |= part
        is_snapshot = "as" in parts
        asks, bids = (parts.get(name + "s" * is_snapshot, []) for name in "ab")
        if is_snapshot:
            best = "".join(digits(price) + digits(lots) for price, lots, _ in (*asks[:10], *bids[:10]))  # type: ignore[index]
            crc = zlib.crc32(best.encode())
        else:
            crc = int(parts["c"])  # type: ignore[call-overload]
        sides = [
            ",".join(f'{{"price":{level[0]},"qty":{level[1]}}}' for level in side)  # type: ignore[attr-defined]
            for side in (bids, asks)
        ]
        kind = "snapshot" if is_snapshot else "update"
        text = (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{found[-1]}",'
            f'"bids":[{sides[0]}],"asks":[{sides[1]}],"checksum":{crc}}}]}}'
        )
        yield recv_us * 1000, found[-1], text.encode()


def kraken_scales(path: Path) -> dict[str, Scale]:
    """The decimals that Kraken sends for each pair."""
    found = {}
    for _, pair, payload in kraken_as_v2(path):
        price, lots = re.search(rb'"price":\d+\.(\d+),"qty":\d+\.(\d+)', payload).groups()  # type: ignore[union-attr]
        found.setdefault(pair, Scale(len(price), len(lots)))
    return found


def binance_l2(folder: Path, is_usdm: bool) -> Iterator[tuple[int, str, bytes]]:
    """Time, kind (depth, snapshot, quote) and bytes of a market of `l2/`, rebuilt from its rows."""
    depth = pl.read_parquet(folder / "depth.parquet")
    grouped = depth.group_by("seq", maintain_order=True).agg(
        pl.col("local_ns", "first_id", "final_id", "prev_final_id", "is_snapshot").first(),
        *(
            pl.format('["{}","{}"]', "price", "qty").filter(pl.col("side") == side).str.join(",").alias(side)
            for side in ("bid", "ask")
        ),
    )
    told = []
    for seq, at_ns, first, last, previous, is_snapshot, bids, asks in grouped.iter_rows():
        if is_snapshot:
            text = f'{{"lastUpdateId":{last},"bids":[{bids}],"asks":[{asks}]}}'
        else:
            pu = f'"pu":{previous},' if is_usdm else ""
            text = f'{{"e":"depthUpdate","s":"M","U":{first},"u":{last},{pu}"b":[{bids}],"a":[{asks}]}}'
        told.append((seq, at_ns, "snapshot" if is_snapshot else "depth", text))
    quotes = pl.read_parquet(folder / "book_ticker.parquet")
    columns = ("seq", "local_ns", "update_id", "bid", "bid_qty", "ask", "ask_qty")
    for seq, at_ns, number, bid, bid_qty, ask, ask_qty in quotes.select(columns).iter_rows():
        text = f'{{"u":{number},"s":"M","b":"{bid}","B":"{bid_qty}","a":"{ask}","A":"{ask_qty}"}}'
        told.append((seq, at_ns, "quote", text))
    for _, at_ns, kind, text in sorted(told):
        yield at_ns, kind, text.encode()


def binance_log(folder: Path, exchange: str, depth: int = 1001) -> list[tuple[bool, int, str, bytes]]:
    """The log of a market of `l2/`: what a recorder would have kept of it, with its trades.

    There is one snapshot of 1,000 levels, and with a depth of more than that a machine never asks for another.
    """
    market = BookMarket(exchange, "M", Scale(8, 8), depth)
    told = [(at_ns, kind, payload) for at_ns, kind, payload in binance_l2(folder, exchange == "binance_usdm")]
    trades = pl.read_parquet(folder / "trades.parquet").select(
        "local_ns", "trade_id", "price", "qty", "buyer_is_maker", "order_type"
    )
    for at_ns, number, price, qty, is_maker, kind in trades.iter_rows():
        if kind in (None, "MARKET"):
            said = "true" if is_maker else "false"
            text = f'{{"e":"aggTrade","s":"M","a":{number},"p":"{price}","q":"{qty}","m":{said}}}'
            told.append((at_ns, "trade", text.encode()))
    told.sort(key=lambda one: one[0])
    first = told[0][0]
    frames = [(True, first, "opened", Follower.begin(market, first).kept()), (False, first, "CONNECTED 0", b"")]
    return frames + [
        (False, at_ns, ("ANSWER" if kind == "snapshot" else "PUSHED") + " 0", payload) for at_ns, kind, payload in told
    ]


Log = list[tuple[bool, int, str, bytes]]
"""Frames as `tape_of` takes them."""


def numbered_logs(path: Path, exchange: str, depth: int) -> dict[str, Log]:
    """The log of each market of a sample of KuCoin or Binance, by the venue's name of it."""
    rule, known = EXCHANGES[exchange], scales(path, EXCHANGES[exchange])
    rows = pl.read_parquet(path).sort("recv_us", maintain_order=True)
    first = rows["recv_us"][0] * 1000
    logs: dict[str, Log] = {}
    for name, scale in known.items():
        market = BookMarket(exchange, name, scale, depth)
        logs[name] = [(True, first, "opened", Follower.begin(market, first).kept())]
    for address, direction, recv_us, payload in rows.select("address", "direction", "recv_us", "payload").iter_rows():
        at_ns = recv_us * 1000
        if direction == "open":
            for log in logs.values():
                log.append((False, at_ns, "CONNECTED 0", b""))
        elif direction == "answer":
            name = re.search(r"symbol=([A-Z0-9-]+)", address)[1]  # type: ignore[index]
            logs[name].append((False, at_ns, "ANSWER 0", payload.encode()))
        elif direction == "received":
            # The candles of the sample are on topics of their own.
            for name in (addressed(rule, payload.encode()) or frozenset()) & logs.keys():
                logs[name].append((False, at_ns, "PUSHED 0", payload.encode()))
    return logs


def kraken_logs(path: Path) -> dict[str, Log]:
    """The log of each pair of Kraken's sample."""
    known, logs = kraken_scales(path), {}
    for at_ns, pair, payload in kraken_as_v2(path):
        if pair not in logs:
            market = BookMarket("kraken", pair.replace("/", "-"), known[pair], 1000)
            logs[pair] = [(True, at_ns, "opened", Follower.begin(market, at_ns).kept())]
            logs[pair].append((False, at_ns, "CONNECTED 0", b""))
        logs[pair].append((False, at_ns, "PUSHED 0", payload))
    return logs
