"""An exchange that can be made to answer wrongly, and the ticks of a project that watches it, without Dagster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import yaml

from mm_dagster.bars import BAR, TIME, Span, floor_bar
from mm_dagster.history.lake import Lake
from mm_dagster.market import pages
from mm_dagster.market.connection import milliseconds
from mm_dagster.market.exchange import _frame
from mm_dagster.market.simulated import simulate
from mm_dagster.market.venue import Answer, VenueError
from mm_dagster.pipeline import collect
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.work import Work, lately
from mm_dagster.tables.market import MarketRules

Rows = list[list[float | None]]
Bend = Callable[[Rows, Span], Rows | None]

BEGIN = datetime(2026, 2, 3, 12, tzinfo=UTC)
SYMBOL = "ETH-USDT"


@dataclass
class Exchange:
    """A venue with the candles of a frame, in pages, ascending.

    Attributes:
        candles: by symbol, columns of venue.ROWS.
        time: its clock; it stands still.
        bend: what becomes of each page, in the order of the questions; None: the truth, an answer None: none.
        bends: how many more answers are bent.
        page: most rows of a page.
        newest_first: whether a page that is full holds the newest of what was asked.
        asked: what was asked for.
        price: what it says the last price is; None: the truth.
        silent: whether it tells no last price at all.
    """

    candles: dict[str, pl.DataFrame]
    time: datetime = BEGIN
    bend: Bend | None = None
    bends: int = 0
    page: int = 1_500
    newest_first: bool = False
    asked: list[Span] = field(default_factory=list)
    price: float | None = None
    silent: bool = False
    name: str = "main"
    simulated: bool = False

    def now(self) -> datetime:
        return self.time

    def fetch(self, symbol: str, span: Span) -> Answer:
        error: str | None = None

        def ask(page: Span) -> Rows | None:
            nonlocal error
            self.asked.append(page)
            rows = self.truth(symbol, page)
            rows = rows[-self.page :] if self.newest_first else rows[: self.page]
            if self.bend is not None and self.bends > 0:
                self.bends -= 1
                bent = self.bend(rows, page)
                if bent is None:
                    error = "no answer"
                return bent
            return rows

        got = pages.read(span, 1_500, ask)
        return Answer(_frame(got.rows), tuple(got.answered), error, tuple(got.unread), got.kept_from)

    def truth(self, symbol: str, page: Span) -> Rows:
        known = self.candles[symbol].filter(page.opens() & (pl.col("open_time") <= floor_bar(self.time)))
        return [[milliseconds(row[0]), *row[1:]] for row in known.sort("open_time").iter_rows()]

    def last_prices(self, symbols: Sequence[str], seconds: float | None = None) -> dict[str, float | None]:
        if self.silent:
            return dict.fromkeys(symbols)
        present = floor_bar(self.time)
        prices: dict[str, float | None] = {}
        for symbol in symbols:
            known = self.candles[symbol].filter(pl.col("open_time") <= present)
            prices[symbol] = self.price if self.price is not None else known["open"][-1]
        return prices

    def rules(self, symbol: str) -> MarketRules | None:
        return None

    def check(self) -> str:
        return "bent"


@dataclass
class Watch:
    """A project that watches markets on such an exchange."""

    folder: Path
    exchange: Exchange
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        configuration = self.folder / "configuration"
        (configuration / "grids").mkdir(parents=True)
        markets = {
            "venues": {"main": {"kind": "ccxt", "exchange": "kucoin"}},
            "markets": [{"symbol": symbol, "venue": "main"} for symbol in self.exchange.candles],
            "candles": {"late_bar_wait_seconds": 0},
        }
        (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))

    def job(self, window: Span, tick: datetime | None, *, again: bool = False) -> Work:
        project = Project(str(self.folder / "configuration"), str(self.folder / "data"))
        project.venues.opened["main"] = self.exchange
        return Work(project, project.config, project.config.symbols, window, tick, "run", again)

    def tick(self, as_of: datetime, seconds: float = 60) -> int:
        """One tick, so many seconds after the bar closed; returns how many pages it asked for."""
        self.exchange.time = as_of + timedelta(seconds=seconds)
        before = len(self.exchange.asked)
        job = self.job(lately(as_of, 3), as_of)
        self.failures = collect.collect(job, lambda month, changed: None).problems
        return len(self.exchange.asked) - before

    def backfill(self, window: Span, *, again: bool = False) -> None:
        """Whole days."""
        with suppress(VenueError):
            job = self.job(window, None, again=again)
            self.failures = collect.collect(job, lambda month, changed: None).problems

    @property
    def lake(self) -> Lake:
        return Lake(self.folder / "data" / "history")

    def candles(self) -> pl.DataFrame:
        """What is stored, without what only a live run knows."""
        return self.lake.read("candles").drop("observed_at")


def market(symbol: str = SYMBOL, days: int = 60, until: datetime = BEGIN + timedelta(days=2)) -> pl.DataFrame:
    """Synthetic candles until then."""
    return simulate(symbol, Span(until - timedelta(days=days), until)).with_columns(pl.col("open_time").cast(TIME))


def quarter_hours(count: int) -> list[datetime]:
    """So many as_of from BEGIN on."""
    return [BEGIN + number * BAR for number in range(count)]
