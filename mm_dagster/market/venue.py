"""What a venue is: where candles come from, whether an exchange, recorded files or a simulated market.

A venue says what it sent and which intervals it answered for, and judges neither. What becomes of an answer is decided
in collect.py and candles.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import polars as pl

from mm_dagster.bars import TIME, Span
from mm_dagster.errors import ForeseenError
from mm_dagster.tables.market import MarketRules

FIRST_CONTACT_SECONDS = 3.0
"""How long one answer may take where a person waits to hear whether an exchange is there at all."""

ROWS = pl.Schema(
    {
        "open_time": TIME,
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
    }
)
"""Columns of an answer: prices in quote currency, volume in base currency."""


UNKNOWN_MARKET = "is no spot market of it"
"""What the error of a market says that an exchange does not have, or not any more: asking again cannot help."""


class VenueError(ForeseenError):
    """A venue that cannot be used as configured. The message is one line: venue, symbol, address, what to do."""


@dataclass(frozen=True)
class Answer:
    """What a venue said when it was asked for candles.

    Attributes:
        rows: columns of ROWS, as sent: not validated, in any order, perhaps with duplicates and the bar in progress.
        answered: the intervals that it did answer for, ascending and disjoint: what a page covered from its first row
            to its last, and what was asked for by itself and brought none.
        error: why the rest was not answered, in one line; None: all was.
        unread: rows that cannot be read at all, as JSON, each with the first bar of the page that it came in.
        kept_from: the first bar that the venue keeps, if it showed that it keeps none before; None: it did not.
        final: whether asking again would bring the same, as of a file: then no row means no trade at once.
        has_volume: whether a volume of 0 says that nobody traded; a file may have none throughout.
        note: how it was read, where that is not plain: nothing is wrong with it; None: there is nothing to say.
    """

    rows: pl.DataFrame
    answered: tuple[Span, ...]
    error: str | None = None
    unread: tuple[tuple[datetime, str], ...] = ()
    kept_from: datetime | None = None
    final: bool = False
    has_volume: bool = True
    note: str | None = None


@dataclass(frozen=True)
class OrderBook:
    """What a venue said when it was asked for an order book: unjudged, in the order of its levels.

    Attributes:
        bids: price in quote and amount in base currency of each level; None or worse where it sent no number.
        asks: likewise.
        asked_at: when it was asked for, by the venue's clock.
        observed_at: the time of the book as the venue says it; None: it does not.
        age: how old the book was by that when it was asked for, on the venue's own clock; None: it does not say.
        update_id: the venue's number of the book; None: it has none.
    """

    bids: Sequence[Sequence[object]]
    asks: Sequence[Sequence[object]]
    asked_at: datetime
    observed_at: datetime | None = None
    age: timedelta | None = None
    update_id: str | None = None


class Venue(Protocol):
    """Where candles come from.

    Attributes:
        name: its name in markets.yaml.
        simulated: whether its prices are synthetic; what is said of them must say so.
    """

    name: str
    simulated: bool

    def now(self) -> datetime:
        """The venue's time, UTC: by it a bar is closed or open.

        Raises:
            VenueError: it does not tell.
        """

    def fetch(self, symbol: str, span: Span) -> Answer:
        """The 15-minute candles that open in the span. A fault on the way there is part of the answer.

        Raises:
            VenueError: the venue does not know the symbol.
        """

    def last_prices(self, symbols: Sequence[str], seconds: float | None = None) -> dict[str, float | None]:
        """The last traded price of each market, quote currency; None where it cannot be had.

        Args:
            symbols: the markets.
            seconds: how long it may take; None: as long as other questions.
        """

    def order_book(self, symbol: str, seconds: float) -> OrderBook:
        """The public order book of a market as it is now, asked for once: late it is worth nothing.

        Args:
            symbol: market.
            seconds: how long it may take, waiting for its turn included.

        Raises:
            VenueError: there is none, or it did not come.
        """

    def rules(self, symbol: str) -> MarketRules | None:
        """What an order must keep to; None where the venue has no such rules or does not tell them.

        Raises:
            VenueError: the venue does not know the symbol.
        """

    def check(self) -> str:
        """One line for `mm doctor`: that the venue can be reached, and how far its clock is from ours.

        Raises:
            VenueError: it cannot be reached.
        """
