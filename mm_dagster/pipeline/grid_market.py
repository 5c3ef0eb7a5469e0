"""The market of a grid that is being added: where its price stands, and the grid judged at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from mm_dagster.bars import floor_bar
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.whole import Config
from mm_dagster.market.venue import UNKNOWN_MARKET, VenueError
from mm_dagster.pipeline.grids import GridError
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.tick_row import end_tick
from mm_dagster.pipeline.ticks import MADE_BY
from mm_dagster.pipeline.venues import Venues
from mm_dagster.pipeline.work import plan
from mm_dagster.text import plain_text


@dataclass(frozen=True)
class Price:
    """A price of a market.

    Attributes:
        price: quote currency; None: it is not known.
        as_of: when it was; None: it is the venue's last one.
        silence: why its venue, which was asked, does not answer; None: it does, or was not asked.
    """

    price: float | None
    as_of: datetime | None = None
    silence: str | None = None


def price_of(
    project: Project, config: Config, symbol: str, *, ask: bool, say: Callable[[str], None] = lambda sentence: None
) -> Price:
    """Where the price of a market stands: the last close that is stored, or what its venue says.

    Its venue is asked by somebody who waits: that it is dead shows within seconds.

    Args:
        project: where candles are stored.
        config: a configuration that knows the market; the project's may not yet.
        symbol: the market.
        ask: whether its venue may be asked.
        say: is told what is waited for.

    Raises:
        GridError: the venue has no such market.
    """
    stored = _last_close(project, symbol)
    if not ask or (stored.as_of and project.now() - stored.as_of < timedelta(hours=1)):
        return stored
    market = config.market(symbol)
    if market.is_real:
        say(f"asking {market.venue} for {symbol}")
    try:
        venue = Venues(config, Path(project.config_dir), project.now, hurried=True).of(symbol)
        venue.now()
        venue.rules(symbol)
        price = venue.last_prices([symbol])[symbol]
    except VenueError as error:
        if UNKNOWN_MARKET in str(error):
            raise GridError(f"symbol: {symbol}: {error}") from None
        return replace(stored, silence=str(error))
    return Price(price) if price else stored


def _last_close(project: Project, symbol: str) -> Price:
    if symbol not in project.config.symbols:
        return Price(None)
    sql = (
        f"SELECT close, close_time FROM candles WHERE symbol = '{symbol}' AND status <> 'MISSING' "
        "ORDER BY close_time DESC LIMIT 1"
    )
    rows = project.lake.sql(sql).rows()
    return Price(*rows[0]) if rows else Price(None)


FAR = 3.0
"""How many times beyond a bound the price makes one think of another market, or of another unit."""


def far_away(grid: GridConfig, price: float) -> str | None:
    """Why a grid cannot be meant where the price stands, in one sentence; None: it can."""
    if grid.lower / FAR < price < grid.upper * FAR:
        return None
    return (
        f"the price of {grid.symbol} is {plain_text(price)}, far from the bounds {plain_text(grid.lower)} to "
        f"{plain_text(grid.upper)}; is it the right market, and are the decimals right?"
    )


def judge_now(project: Project, symbol: str, say: Callable[[str, int, int], None]) -> datetime:
    """Fetches the candles of a market and judges its grids, as the newest tick would; returns its as_of.

    Args:
        project: a project that has read the new configuration.
        symbol: the market.
        say: is called before each step with its table, its number from 0 and how many there are.

    Raises:
        ForeseenError: the venue or the history cannot be used; what was finished stays.
    """
    as_of = floor_bar(project.venues.of(symbol).now())
    for number, (table, make) in enumerate(MADE_BY.items()):
        say(table, number, len(MADE_BY))
        make(plan(project, "mm grid", as_of=as_of, symbols=[symbol]))
    end_tick(plan(project, "mm grid", as_of=as_of, symbols=[symbol]))
    return as_of
