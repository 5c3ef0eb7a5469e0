"""Leaving a grid on paper: which book its sales meet, and what time it is there.

Of a live or simulated market the order book of now, asked for when a sale is: the time until it has come is the
latency. Of recorded candles a book that is modelled from the newest one. And a plan of the past is carried out in the
time of its candles, which is over at once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl

from mm_dagster.bars import BAR, Span, by_bar, floor_bar, iso
from mm_dagster.books.book import BP
from mm_dagster.config.grid import GridConfig
from mm_dagster.evaluation.leaving import mean_prices
from mm_dagster.execution.drive import World
from mm_dagster.execution.exit_cost import LEAD_BARS
from mm_dagster.execution.journal import Journal, Kept
from mm_dagster.execution.modelled_book import Candles, Past
from mm_dagster.execution.paper import Ledger, PaperVenue, Update
from mm_dagster.grid.slippage import traded
from mm_dagster.market.order_venue import MarketRules
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline.books import book_now
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.market import NO_RULES
from mm_dagster.text import exact

OF_THE_PAST = "of_the_past"
"""In what is noted beside a plan's forecast: it is carried out on stored candles, in their time."""
LONGEST = timedelta(hours=3)
"""So much after its bar a plan of the past is over, or halted: the candles until then are looked at."""
_OLD = timedelta(days=1)
"""An older candle is no price."""
_FINEST = 0.01
"""Quote currency of a lot, at most, where the market does not say what one is."""


def paper_venue(project: Project, grid: GridConfig, kept: Kept | None) -> PaperVenue:
    """The account on paper: it has what the plan is to sell, and nothing foreign.

    Args:
        project: configuration, lake and venues.
        grid: which is left.
        kept: the plan; None: there is none yet, and only the market's rules can be asked for.
    """
    ledger = Ledger(project.data)
    account = "" if kept is None else kept.plan_id
    if kept is not None:
        terms, market = kept.plan.terms, project.config.market(grid.symbol)
        ledger.open(account, f"{market.venue} {grid.symbol}", terms.rules, terms.rules.amount(terms.inventory))
    rules = rules_on_paper(project, grid) if kept is None else kept.plan.terms.rules
    books, seconds = _books_now(project, grid, rules), _nobody_sets
    return PaperVenue(ledger, account, rules, _fee(grid), books, seconds)


def on_paper(project: Project, grid: GridConfig, kept: Kept, world: World) -> World:
    """The world of a plan on paper.

    Args:
        project: configuration, lake and venues.
        grid: which is left.
        kept: the plan.
        world: of a real one at this moment.
    """
    rules = kept.plan.terms.rules
    if not kept.forecast.get(OF_THE_PAST):
        updates, seconds = _books_now(project, grid, rules), world.seconds
        venue = PaperVenue(Ledger(project.data), kept.plan_id, rules, _fee(grid), updates, seconds)
        return replace(world, venue=venue, book=lambda: updates().book, stop=None)
    past = _Past(project, grid, kept)
    venue = PaperVenue(Ledger(project.data), kept.plan_id, rules, _fee(grid), past.update, past.seconds)
    return replace(
        world, venue=venue, book=lambda: past.update().book, stop=None,
        seconds=past.seconds, sleep=past.sleep, utc=past.utc,
    )  # fmt: skip


def reconcile(project: Project, kept: Kept) -> list[str]:
    """Where the journal of a plan on paper and the ledger do not agree, in sentences."""
    ledger = Ledger(project.data)
    found = ledger.faults(kept.plan_id)
    there = {one.client_id: one for one in ledger.orders(kept.plan_id)}
    for order in kept.plan.orders:
        one = there.pop(order.client_id, None)
        if one is None:
            if order.state == "CLOSED":
                found.append(f"order {order.client_id}: the journal has a fill of it, and the ledger has no such order")
        elif order.state == "ABSENT":
            found.append(f"order {order.client_id}: the ledger has it, and the journal says that it never arrived")
        elif order.state == "CLOSED" and (one.filled, one.proceeds, one.fee) != (
            order.filled, order.proceeds, order.fee,
        ):  # fmt: skip
            found.append(f"order {order.client_id}: journal and ledger say other fills of it")
    found += [f"order {name}: the ledger has it, and no intent stands for it" for name in there]
    return found


def rules_on_paper(project: Project, grid: GridConfig) -> MarketRules:
    """What the market takes as an order; of one that does not say, steps that are fine enough to matter to nobody.

    Raises:
        VenueError: it cannot be asked.
    """
    found = project.venues.of(grid.symbol).rules(grid.symbol) or NO_RULES
    tick = found.price_tick or 10.0 ** (math.floor(math.log10(grid.upper)) - 5)
    lot = found.amount_lot or 10.0 ** math.floor(math.log10(_FINEST / grid.upper))
    least, funds = found.amount_min or 0.0, found.cost_min or 0.0
    return MarketRules(*(Decimal(f"{one:.15g}") for one in (lot, tick, least, funds)))


def _impact(project: Project, kept: Kept) -> float:
    """What the slices of a plan do to each other, as it was said with its forecast, fraction: no candle shows it."""
    as_of, minutes = kept.created_at, kept.forecast.get("minutes")
    rows = project.lake.read(
        "exit_cost", span=Span(as_of - BAR, as_of), grids=[kept.grid_id], columns=["horizon_minutes", "impact_bp"]
    )
    found = rows.filter(pl.col("horizon_minutes") == minutes)["impact_bp"].drop_nulls()
    return float(found[0]) * BP if found.len() else 0.0


def _fee(grid: GridConfig) -> Decimal:
    return exact(grid.fees.taker)


def _nobody_sets() -> float:
    """A clock for who only asks what an account has."""
    return 0.0


def _books_now(project: Project, grid: GridConfig, rules: MarketRules) -> Callable[[], Update]:
    """The books of a market as it is now."""
    if project.config.market(grid.symbol).kind == "recorded":
        return lambda: _of_newest(project, grid, rules)

    def asked() -> Update:
        book = book_now(project, grid.symbol)
        # A book is another one as soon as its buyers are: what they were sold before, they do not buy again.
        return Update(hashlib.sha256(book.bids.tobytes()).hexdigest()[:16], book)

    return asked


def _of_newest(project: Project, grid: GridConfig, rules: MarketRules) -> Update:
    """The book of this minute, modelled from the newest stored candle."""
    now = project.now()
    newest = min(floor_bar(now), project.lake.newest("candles").get(grid.symbol, now - 2 * _OLD) + BAR)
    if now - newest > _OLD:
        raise VenueError(f"{grid.symbol}: no order book can be modelled: the newest candle is of {iso(newest)}")
    candles = _candles(project, grid, Span(newest - BAR, newest))
    book = candles.book(newest, float(candles.close[candles.place(newest)]), 0.0, rules.lot)
    return Update(f"modelled {iso(newest)} {int(now.timestamp() // 60)}", book)


def _candles(project: Project, grid: GridConfig, span: Span) -> Candles:
    """The stored candles of a grid's market over a span, and what volume and volatility look back on."""
    wide, columns = span.back(LEAD_BARS), ["open", "high", "low", "close", "volume"]
    rows = project.lake.read("candles", span=wide, symbols=[grid.symbol], columns=["symbol", "close_time", *columns])
    by_name = by_bar(rows, wide, pl.DataFrame({"symbol": [grid.symbol]}), *columns, time="close_time")
    prices = {name: values[0] for name, values in by_name.items()}
    return Candles(
        symbol=grid.symbol,
        first=wide.start,
        close=prices["close"],
        mean=mean_prices(prices),
        traded=traded(prices["close"], prices["volume"]),
        half_spread=project.config.risk.half_spread(grid.symbol),
    )


class _Past:
    """Time as it passes on stored candles, and the books of its minutes."""

    def __init__(self, project: Project, grid: GridConfig, kept: Kept) -> None:
        self._gone = 0.0
        # A process that was killed goes on where the journal ends.
        self._begins = max(event.at for event in Journal(project.data).events(kept.plan_id))
        as_of = floor_bar(kept.created_at)
        candles = _candles(project, grid, Span(as_of - BAR, as_of + LONGEST))
        self._books = Past(candles, as_of, _impact(project, kept), kept.plan.terms.rules.lot)

    def seconds(self) -> float:
        """Of a clock that nobody sets."""
        return self._gone

    def sleep(self, seconds: float) -> None:
        """Is over at once."""
        self._gone += max(0.0, seconds)

    def utc(self) -> datetime:
        """The time of the candles."""
        return self._begins + timedelta(seconds=self._gone)

    def update(self) -> Update:
        """The book of this minute."""
        return self._books.update(self.utc())
