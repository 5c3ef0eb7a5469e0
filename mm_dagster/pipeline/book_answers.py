"""What is asked about recorded books: how markets stand, what lacks, what a replay says, what selling costs now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, Span, ceil_bar, floor_bar, midnight, time_of_ns
from mm_dagster.books.book import BP, Book, BookError, parse, walk
from mm_dagster.books.snapshot import doubt
from mm_dagster.books.tape import Op
from mm_dagster.errors import ForeseenError
from mm_dagster.pipeline.book_places import RecordedMarket, now_here, recorded_markets
from mm_dagster.pipeline.book_tapes import play
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.segments import CHANGED, ended
from mm_dagster.recorder.places import root_of
from mm_dagster.recorder.seal import is_intact, manifest
from mm_dagster.recorder.status import MarketStatus, read_book, read_status
from mm_dagster.text import counted, number_text, spoken

OLDEST = timedelta(seconds=5)
"""Of the recorder's book, to be taken for the present one."""
LONGEST_AGO = timedelta(days=3)
"""A profile that is older says nothing of what is usual now."""
LEAST_LEADS = 16
"""Quarter hours of a day that know a lead, from which it is spoken of."""
LEAST_WINDOWS = 20
"""Quarter hours of an hour of the day, five days of them, from which something is said to be usual."""


class NoBook(ForeseenError):
    """The recorder has no book of this moment; one line, with the remedy."""


def known_markets(project: Project) -> list[RecordedMarket]:
    """Every market that is or was recorded, by name."""
    root = root_of(project.data)
    named = [RecordedMarket(exchange, symbol, root) for exchange, symbol in project.config.books.recorded]
    return sorted({*named, *recorded_markets(project.data)})


def stands(project: Project) -> list[dict[str, Any]]:
    """How each market stands, by what the recorder said last, and by the rows of today."""
    status, now = read_status(root_of(project.data)), now_here()
    told = {(one.exchange, one.symbol): one for one in (status.markets if status else ())}
    today = gaps_since(project, midnight(now.date()), None)
    rows = []
    for market in known_markets(project):
        one: MarketStatus | None = told.get((market.exchange, market.symbol))
        last = None if one is None or one.last_recv_ns is None else time_of_ns(one.last_recv_ns)
        rows.append(
            {
                "market": market.name,
                "phase": one.phase if one else None,
                "age_seconds": None if last is None else round((now - last).total_seconds(), 1),
                "messages": one.written if one else None,
                "per_second": one.per_second if one else None,
                "lost": one.lost if one else None,
                "gaps_today": sum(row["market"] == market.name for row in today),
                "disk_mb": round(_size(market.place.folder) / 1e6, 1),
                "problem": one.problem if one else None,
            }
        )
    return rows


def _size(folder: Path) -> int:
    """Bytes of all that is kept of a market; what is removed meanwhile is none."""
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def gaps_since(project: Project, start: datetime, market: RecordedMarket | None) -> list[dict[str, Any]]:
    """The gaps that were open then or came later, the oldest first."""
    rows = project.lake.read("book_gap", symbols=[market.symbol] if market else None)
    rows = rows.filter(pl.col("to_time").is_null() | (pl.col("to_time") >= start))
    if market is not None:
        rows = rows.filter(pl.col("exchange") == market.exchange)
    named = rows.sort("from_time", "exchange", "symbol").with_columns(market=pl.format("{}:{}", "exchange", "symbol"))
    return named.select("market", "from_time", "to_time", "part", "kind", "messages", "said").to_dicts()


def sealed_since(project: Project, start: datetime, market: RecordedMarket | None) -> int:
    """How many quarter hours that ended since are sealed."""
    columns = ["exchange", "as_of"]
    rows = project.lake.read("book_segment", symbols=[market.symbol] if market else None, columns=columns)
    mine = rows if market is None else rows.filter(pl.col("exchange") == market.exchange)
    return mine.filter(pl.col("as_of") >= start).height


def everything_recorded(project: Project) -> Span | None:
    """From the first segment to the last; None: there is none."""
    ends = project.lake.read("book_segment", columns=["as_of"])["as_of"].to_list()
    return Span(min(ends) - BAR, max(*ends, ceil_bar(now_here()))) if ends else None


def replays(market: RecordedMarket, span: Span) -> Iterator[tuple[dict[str, Any], int]]:
    """A row for each segment of a span, as it is replayed, and of how many.

    Args:
        market: whose.
        span: whose quarter hours.
    """
    place = market.place
    everything = manifest(place.segments)
    following = {one.quarter_ns: other for one, other in pairwise(everything)}
    rows = [row for row in everything if span.start < ended(row) <= span.end]
    for row in rows:
        found: dict[str, Any] = {
            "as_of": ended(row),
            **dict.fromkeys(
                (
                    "messages",
                    "changes",
                    "trades",
                    "gaps",
                    "states",
                    "differing",
                    "crossed",
                    "quotes",
                    "quotes_differing",
                )
            ),
            "in_sync_at_end": None,
            "refused": None,
        }
        try:
            if not is_intact(place.segments, row):
                found["refused"] = f"{market.file(row.file)}: {CHANGED}"
            else:
                played = play(place, row, following.get(row.quarter_ns))
                tape = played.tape
                quotes, differing = tape.compared()
                found |= {
                    "messages": len(tape.records),
                    "changes": int(tape.rows[:, 3][tape.rows[:, 1] == Op.STANDS].sum()),
                    "trades": len(tape.trades),
                    "gaps": len(tape.gaps) + len(row.gaps),
                    "states": tape.checkpoints,
                    "differing": tape.differs,
                    "crossed": tape.crossed,
                    "quotes": quotes,
                    "quotes_differing": differing,
                    "in_sync_at_end": played.is_in_sync,
                }
        except (ForeseenError, OSError, ValueError) as error:
            found["refused"] = f"{market.file(row.file)}: cannot be replayed: {error}"
        yield found, len(rows)


@dataclass(frozen=True)
class NowRecorded:
    """The recorder's book of this moment.

    Attributes:
        book: its best levels.
        at: when the recorder said so.
        update_id: the exchange's number of it; None: it has none.
    """

    book: Book
    at: datetime
    update_id: str | None


def now_recorded(project: Project, exchange: str, symbol: str) -> NowRecorded:
    """The recorder's book of this moment.

    Raises:
        NoBook: there is none that can be believed.
    """
    market = RecordedMarket(exchange, symbol, root_of(project.data))
    told = read_book(market.place.book)
    if told is None:
        raise NoBook(f"{market.name}: the recorder has written no book; `mm books status` says how it stands")
    age = now_here() - time_of_ns(told.at_ns)
    if abs(age) > OLDEST:
        raise NoBook(f"{market.name}: the recorder's book is not of now, but {spoken(abs(age))} off; start `mm record`")
    if not told.is_in_sync:
        raise NoBook(f"{market.name}: the recorder's book is not in sync ({told.phase}); ask again in some seconds")
    try:
        book = parse(told.bids, told.asks)
    except BookError as error:
        raise NoBook(f"{market.name}: the recorder's book cannot be used: {error}") from None
    why = doubt(book, age)
    if why:
        raise NoBook(f"{market.name}: the recorder's book is not believed: {why}")
    return NowRecorded(book, time_of_ns(told.at_ns), None if told.last_id is None else str(told.last_id))


def cost_now(project: Project, market: RecordedMarket, amount: float) -> dict[str, Any]:
    """What selling an amount at once costs in the recorder's book.

    Raises:
        NoBook: there is none of this moment.
    """
    book = now_recorded(project, market.exchange, market.symbol).book
    sold = walk(book, amount)
    return {
        "hour": None,
        "days": None,
        "mid": book.mid,
        "cost_bp": sold.cost_bp,
        "shown_share": sold.shown_share,
        "worst": sold.worst,
    }


def profile_of(project: Project, market: RecordedMarket) -> list[dict[str, Any]]:
    """The newest profile of a market, by hour; none: there is none."""
    rows = project.lake.read("liquidity_profile", symbols=[market.symbol])
    rows = rows.filter(pl.col("exchange") == market.exchange)
    return rows.filter(pl.col("as_of") == pl.col("as_of").max()).sort("hour").to_dicts()


def usual_costs(project: Project, market: RecordedMarket, amount: float, mid: float) -> list[dict[str, Any]]:
    """What selling an amount at once costs at most at each hour, by the medians of the profile.

    Depth within a distance is taken to stand at its end.
    """
    found = []
    for row in profile_of(project, market):
        depths = [row[f"bid_depth_{bp}bp"] for bp in (10, 25, 50)]
        if row["windows"] < LEAST_WINDOWS or row["spread_bp"] is None or any(depth is None for depth in depths):
            continue
        bids, before = [], 0.0
        for bp, depth in zip((10, 25, 50), depths, strict=True):
            price = mid * (1.0 - bp * BP)
            if depth > before:
                bids.append((price, (depth - before) / price))
                before = depth
        if not bids:
            continue
        half = row["spread_bp"] / 2.0 * BP
        sold = walk(Book(np.array(bids), np.array([(2.0 * mid - bids[0][0], 1.0)])), amount)
        least = max(sold.cost_bp, half / BP) if sold.cost_bp is not None else None
        found.append(
            {
                "hour": row["hour"],
                "days": row["days"],
                "mid": mid,
                "cost_bp": least,
                "shown_share": sold.shown_share,
                "worst": sold.worst,
            }
        )
    return found


def said_of_books(project: Project, symbol: str, clock: datetime) -> tuple[str, ...]:
    """What recorded books say of a market at a moment, a sentence each; none where too little was recorded.

    Args:
        project: configuration and lake.
        symbol: a market of markets.yaml; what is recorded at another exchange than its own says nothing of it.
        clock: the moment.
    """
    exchange = getattr(project.config.market(symbol).settings, "exchange", None)
    found = (_usual(project, exchange, symbol, clock), _lead(project, exchange, symbol, clock)) if exchange else ()
    return tuple(sentence for sentence in found if sentence is not None)


def _usual(project: Project, exchange: str, symbol: str, clock: datetime) -> str | None:
    """What its book is usually like at this hour of the day."""
    span = Span(midnight((clock - LONGEST_AGO).date()), floor_bar(clock))
    rows = project.lake.read("liquidity_profile", span=span, symbols=[symbol])
    rows = rows.filter((pl.col("exchange") == exchange) & (pl.col("hour") == clock.hour)).sort("as_of")
    if rows.is_empty():
        return None
    row = rows.row(-1, named=True)
    if row["windows"] < LEAST_WINDOWS or row["spread_bp"] is None or row["bid_depth_25bp"] is None:
        return None
    quote, depth = symbol.partition("-")[2], number_text(row["bid_depth_25bp"], 3)
    return (
        f"At this hour the spread is usually {number_text(row['spread_bp'], 2)} bp and the bids have {depth} {quote} "
        f"within 25 bp, by {counted(row['days'], 'day')} of recorded books."
    )


def _lead(project: Project, exchange: str, symbol: str, clock: datetime) -> str | None:
    """How far its perpetual is ahead of it, by the quarter hours of a day whose halves agree that one of them is."""
    span = Span(floor_bar(clock) - timedelta(days=1), floor_bar(clock))
    rows = project.lake.read("book_features", span=span, symbols=[symbol])
    rows = rows.filter((pl.col("exchange") == exchange) & pl.col("lead_ms").is_not_null())
    if rows.height < LEAST_LEADS:
        return None
    signs = [pl.col(name).sign() for name in ("lead_ms", "lead_first_ms", "lead_second_ms")]
    agreed = rows.filter((signs[0] == signs[1]) & (signs[0] == signs[2]))["lead_ms"]
    if agreed.len() < rows.height / 2:
        return f"Neither the perpetual nor spot moved first in most of {rows.height} recorded quarter hours of a day."
    low, middle, high = (agreed.quantile(share) or 0.0 for share in (0.1, 0.5, 0.9))
    first, second = ("the perpetual", "spot") if middle > 0 else ("spot", "the perpetual")
    ends = sorted(abs(one) if (one > 0) == (middle > 0) else -abs(one) for one in (low, high))
    return (
        f"{first.capitalize()} moved {abs(middle):.0f} ms before {second} ({ends[0]:.0f} to {ends[1]:.0f} in eight of "
        f"ten), by {agreed.len()} of {rows.height} recorded quarter hours of a day: nobody acts in such a time."
    )
