"""Order books from the venues into the lake, after everything that decides: what leaving would cost now."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.books.book import Book, BookError, parse
from mm_dagster.books.snapshot import FARTHEST, doubt, figures, is_far
from mm_dagster.history.lake import Commit
from mm_dagster.market.ask_books import ask_books as ask_together
from mm_dagster.market.venue import OrderBook, Venue, VenueError
from mm_dagster.pipeline.book_answers import NowRecorded, now_recorded
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.work import Work, makes
from mm_dagster.tables.registry import dtypes, empty
from mm_dagster.text import counted, price_text

logger = logging.getLogger("mm_dagster")

SECONDS = 10.0
"""How long all order books of a tick may take."""
ENOUGH_BOOKS = 96
"""A day of them: a spread breathes with the hour."""
OFF = 0.2
"""A half spread is said to be another from this share of it on: less is less than a book moves in a minute."""
READ = "books_are_read"
"""The name of the check."""
_NEWEST = timedelta(hours=6)
"""How old the newest close may be that a book is measured by."""


def ask_books(project: Project, symbols: Sequence[str], as_of: datetime, *, seconds: float = SECONDS) -> pl.DataFrame:
    """Asks for the order books of some markets as they are now, all together; writes nothing.

    Args:
        project: configuration, lake and venues.
        symbols: the markets.
        as_of: the tick that their rows belong to.
        seconds: how long all of it may take.

    Returns:
        A row of `book_snapshot` for each market; where there is no book that can be believed, it says why.
    """
    begun, ends = project.now(), time.monotonic() + seconds
    told = _of_recorder(project, symbols, as_of)
    wanted: dict[str, Venue] = {}
    answers: dict[str, OrderBook | VenueError] = {}
    for symbol in dict.fromkeys(symbols):
        if symbol in told:
            continue
        try:
            wanted[symbol] = project.venues.of(symbol)
        except VenueError as error:
            answers[symbol] = error
    answers |= ask_together(wanted, seconds, project.config.markets.candles.at_once)
    judged = {symbol: _judged(f"{_venue(project, symbol)}: {symbol}", answer) for symbol, answer in answers.items()}
    books = {symbol: book for symbol, book in judged.items() if isinstance(book, Book)}
    judged |= _measured(project, books, as_of, ends)
    rows = []
    judged |= {symbol: one.book for symbol, one in told.items()}
    for symbol in dict.fromkeys(symbols):
        book, sent = judged[symbol], answers.get(symbol)
        row: dict[str, Any] = {
            **dict.fromkeys(dtypes("book_snapshot")),
            "symbol": symbol,
            "as_of": as_of,
            "venue": _venue(project, symbol),
            "asked_at": begun,
            "origin": "RECORDER" if symbol in told else "ASKED",
            "source": project.config.market(symbol).source,
        }
        if symbol in told:
            row |= {"observed_at": told[symbol].at, "update_id": told[symbol].update_id}
        if isinstance(sent, OrderBook):
            row |= {"asked_at": sent.asked_at, "observed_at": sent.observed_at, "update_id": sent.update_id}
        rows.append(row | (figures(book) if isinstance(book, Book) else {"refused": book}))
    return pl.DataFrame(rows, schema=dtypes("book_snapshot"), orient="row")


@makes("book_snapshot")
def keep_books(job: Work) -> tuple[pl.DataFrame, Finding]:
    """Asks for and stores the order book of each market with a running grid; nothing but in a live tick.

    Nothing that decides waits for it, and whatever happens here is a sentence, no end of the tick.

    Returns:
        Rows of `book_snapshot`, and what is to be said of them.
    """
    if job.tick is None:
        return nothing()
    running = [symbol for symbol in job.symbols if any(grid.enabled for grid in job.grids(symbol))]
    if not running:
        return empty("book_snapshot"), Finding(READ, True, "No grid runs, so no order book was asked for.")
    try:
        longest = timedelta(minutes=job.config.alerts.max_age_minutes)
        live = [symbol for symbol in running if job.project.venues.clock(symbol) - job.tick < longest]
        if not live:
            said = f"{iso(job.tick)} is past, and what the order books were then nobody can ask for now."
            return empty("book_snapshot"), Finding(READ, True, said)
        rows = ask_books(job.project, live, job.tick, seconds=SECONDS)
        with job.turn():
            commit = Commit(run_id=job.run_id, asset="book_snapshot", span=iso(job.tick))
            job.project.lake.upsert("book_snapshot", rows, commit=commit)
    except (Exception, pl.exceptions.PanicException) as error:
        logger.error("order books: %s", error, exc_info=error)
        said = f"No order book is stored ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
        return empty("book_snapshot"), Finding(READ, False, said)
    return rows, of_books(rows)


@dataclass(frozen=True)
class HalfSpread:
    """What the order books of a market showed.

    Attributes:
        symbol: the market.
        median_bp: median of half the spread, basis points.
        books: of how many.
        assumed_bp: what is reckoned with.
    """

    symbol: str
    median_bp: float
    books: int
    assumed_bp: float

    @property
    def proposed(self) -> bool:
        """Whether there are books enough, and they say another thing than what is reckoned with."""
        return self.books >= ENOUGH_BOOKS and abs(self.median_bp - self.assumed_bp) > OFF * self.assumed_bp


def half_spreads(project: Project) -> list[HalfSpread]:
    """What the order books of the last week showed, by market."""
    lake = project.lake
    since = iso(project.now() - timedelta(days=7))
    seen = lake.sql(
        "SELECT symbol, median(half_spread_bp) AS median_bp, count(*) AS books FROM book_snapshot "
        f"WHERE half_spread_bp IS NOT NULL AND as_of > '{since}' AND {lake.in_force('book_snapshot')} "
        "GROUP BY symbol ORDER BY symbol"
    )
    return [
        HalfSpread(symbol, median, books, 10_000 * project.config.risk.half_spread(symbol))
        for symbol, median, books in seen.iter_rows()
        if symbol in project.config.symbols
    ]


def nothing() -> tuple[pl.DataFrame, Finding]:
    """What a run over whole days keeps, which no order book is known of."""
    return empty("book_snapshot"), Finding(READ, True, "A run over whole days asks for no order book.")


def of_books(rows: pl.DataFrame) -> Finding:
    """Whether the order book of each market was read.

    Args:
        rows: of `book_snapshot`, at least one.
    """
    refused = rows.filter(pl.col("refused").is_not_null())
    if refused.is_empty():
        return Finding(READ, True, f"{counted(rows.height, 'order book')} read.")
    return Finding(READ, False, "; ".join(refused["refused"]))


def _of_recorder(project: Project, symbols: Sequence[str], as_of: datetime) -> dict[str, NowRecorded]:
    """The recorder's books of markets that it follows at their own exchange; whatever is odd about one, it is asked."""
    found: dict[str, NowRecorded] = {}
    for symbol in symbols:
        exchange = getattr(project.config.market(symbol).settings, "exchange", None)
        if exchange is not None and project.config.books.records(exchange, symbol):
            try:
                found[symbol] = now_recorded(project, exchange, symbol)
            except Exception as error:
                logger.info("%s: its exchange is asked: %s", symbol, error)
    closes = _closes(project, list(found), as_of)
    return {symbol: one for symbol, one in found.items() if not is_far(one.book, closes.get(symbol))}


def _venue(project: Project, symbol: str) -> str:
    return project.config.market(symbol).venue


def _judged(whose: str, sent: OrderBook | VenueError) -> Book | str:
    """A book that can be true by itself, or why there is none."""
    if isinstance(sent, VenueError):
        return str(sent)
    try:
        book = parse(sent.bids, sent.asks)
    except BookError as error:
        return f"{whose}: no order book: {error}"
    why = doubt(book, sent.age)
    return f"{whose}: no order book: {why}" if why else book


def _measured(project: Project, books: Mapping[str, Book], as_of: datetime, ends: float) -> dict[str, Book | str]:
    """Books that their markets' prices bear out, or why they are not believed.

    The newest close is a minute old, and a crash is in the bar in progress first: where a book is far from it, its
    venue is asked for the last price, which is far away with it in a crash, and is not where it is another market's.
    """
    closes = _closes(project, list(books), as_of)
    far = [symbol for symbol, book in books.items() if is_far(book, closes.get(symbol))]
    last = _last_prices(project, far, ends)
    judged: dict[str, Book | str] = dict(books)
    for symbol in far:
        close, price = closes.get(symbol), last.get(symbol)
        if not is_far(books[symbol], price):
            continue
        known = [f"the newest close is {price_text(close)}" if close else "no close of the last hours is known"]
        known += [f"the last price is {price_text(price)}" if price else "no last price is told"]
        judged[symbol] = (
            f"{_venue(project, symbol)}: {symbol}: no order book: it is absurd, or another market's: its mid is "
            f"{price_text(books[symbol].mid)}, farther than {FARTHEST:.0%} from what is known: {', '.join(known)}"
        )
    return judged


def _closes(project: Project, symbols: Sequence[str], as_of: datetime) -> dict[str, float]:
    """The newest close of each market that is known and not old."""
    if not symbols:
        return {}
    rows = project.lake.read(
        "candles",
        span=Span(as_of - _NEWEST, as_of + BAR),
        symbols=list(symbols),
        columns=["symbol", "open_time", "close", "status"],
    )
    known = rows.filter(pl.col("status") != "MISSING").sort("open_time").group_by("symbol").agg(pl.col("close").last())
    return dict(known.iter_rows())


def _last_prices(project: Project, symbols: Sequence[str], ends: float) -> dict[str, float | None]:
    """What markets trade at now, as far as their venues say so until then."""
    prices: dict[str, float | None] = {}
    of_venue: dict[str, list[str]] = {}
    for symbol in symbols:
        of_venue.setdefault(_venue(project, symbol), []).append(symbol)
    for group in of_venue.values():
        left = ends - time.monotonic()
        if left > 0:
            prices |= project.venues.of(group[0]).last_prices(group, left)
    return {symbol: price for symbol, price in prices.items() if price is not None and 0 < price < float("inf")}


def book_now(project: Project, symbol: str) -> Book:
    """The order book of a market at this moment.

    Raises:
        VenueError: there is none that can be believed.
    """
    ends = time.monotonic() + SECONDS
    judged: Book | str = _judged(
        f"{_venue(project, symbol)}: {symbol}", project.venues.of(symbol).order_book(symbol, SECONDS)
    )
    if isinstance(judged, Book):
        judged = _measured(project, {symbol: judged}, floor_bar(project.venues.clock(symbol)), ends)[symbol]
    if isinstance(judged, Book):
        return judged
    raise VenueError(judged)
