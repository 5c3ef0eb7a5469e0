"""Episodes, risk and exit states of the grids, from the stored rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, TIME, Span, floor_bar, iso
from mm_dagster.config import CcxtVenue, GridConfig
from mm_dagster.exit import ladder, triggers
from mm_dagster.exit.live import advise_live
from mm_dagster.grid import account, episode
from mm_dagster.market.candles import judge
from mm_dagster.market.contradiction import UNSURE, held_back, ticker_doubt
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline.reach import LAG_BARS
from mm_dagster.pipeline.work import Work
from mm_dagster.tables import NO_RULES, MarketRules, dtypes

Row = Mapping[str, Any]


def keep_episodes(job: Work) -> tuple[dict[str, str], dict[str, MarketRules]]:
    """Stores each grid with its first evaluation and closes the episodes that are over.

    Returns:
        What to do about each grid that was changed without a new activation; and of every grid what its venue asked of
        an order when it was first seen.
    """
    stored = job.project.lake.read("grid_episode")
    known = {(row["grid_id"], row["activated_at"]): row for row in stored.iter_rows(named=True)}
    fresh, refused, rules = [], {}, {}
    for grid in (grid for symbol in job.symbols for grid in job.grids(symbol)):
        row = known.get((grid.id, grid.activated_at))
        if row is None:
            rules[grid.id] = _rules(job, grid)
            fresh.append(episode.episode_of(grid, grid.first_as_of, rules[grid.id]))
        else:
            rules[grid.id] = episode.rules_of(row)
            if changed := episode.changed_keys(grid, row):
                refused[grid.id] = (
                    f"{grid.id}: {', '.join(changed)} changed since {iso(grid.activated_at)}; a changed grid is a new "
                    "episode: give it a new activated_at"
                )
    rows = pl.concat([*fresh, episode.closings(stored, job.config.grids, job.window.end)])
    if not rows.is_empty():
        with job.project.turn_lock():
            job.project.lake.upsert("grid_episode", rows, commit=job.commit("grid_episode", job.window))
    return refused, rules


def fills(job: Work, grid: GridConfig, accounts: pl.DataFrame) -> pl.DataFrame | str | None:
    """The fills of a running grid in its venue's account; see `account.fills_of`."""
    venue = job.config.venue_of(grid.symbol)[0]
    running = [one for one in job.config.grids if one.enabled and job.config.venue_of(one.symbol)[0] == venue]
    return account.fills_of(grid, running, accounts.filter(pl.col("venue") == venue)) if grid.enabled else None


def _rules(job: Work, grid: GridConfig) -> MarketRules:
    """What the grid's venue asks of an order; nothing where it cannot be asked."""
    try:
        return job.project.venue(grid.symbol).rules(grid.symbol) or NO_RULES
    except VenueError:
        return NO_RULES


def evaluate(job: Work, grids: list[GridConfig], span: Span) -> pl.DataFrame:
    """The rows of a span, each grid folded from the start of its episode."""
    lake = job.project.lake
    whole = Span(min(grid.first_as_of for grid in grids) - BAR, span.end).back(LAG_BARS)
    symbols = sorted({grid.symbol for grid in grids})
    key = ["symbol", "as_of"]
    bars = lake.read("candles", span=whole, symbols=symbols, columns=["symbol", *triggers.CANDLES])
    measured = lake.read("regime_features", span=whole, symbols=symbols, columns=[*key, *triggers.FEATURES])
    verdicts = lake.read("regime_verdict", span=whole, symbols=symbols, columns=[*key, *triggers.VERDICT])
    episode = ["grid_id", "activated_at", "as_of", *triggers.RISK]
    risks = lake.read("grid_risk", span=whole, grids=[grid.id for grid in grids], columns=episode)
    return ladder.compute(grids, bars, measured, verdicts, risks, span, job.config.exit)


def with_live(job: Work, grids: list[GridConfig], rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with what only a live run knows on the newest ones; a tick of the past knows nothing live."""
    if job.tick is None:
        return rows
    columns = ["symbol", "open_time", "close_time", "low", "high", "close", "status"]
    symbols = [grid.symbol for grid in grids]
    recent = job.project.lake.read("candles", span=job.window, symbols=symbols, columns=columns)
    newest = {
        row["symbol"]: row
        for row in recent.filter(pl.col("status") != "MISSING").sort("open_time").iter_rows(named=True)
    }
    known = {symbol: row["close_time"] for symbol, row in newest.items()}
    clocks = {grid.symbol: job.project.clock(grid.symbol) for grid in grids}
    longest = timedelta(minutes=job.config.alerts.max_age_minutes)
    fresh = [grid for grid in grids if clocks[grid.symbol] - job.tick < longest]
    prices = _last_prices(job, sorted({grid.symbol for grid in fresh}))
    live, looked_at = [], dict[str, BarInProgress]()
    for grid in fresh:
        clock, failure = clocks[grid.symbol], job.project.failures.get(grid.symbol)
        last_price = prices[grid.symbol]
        if isinstance(last_price, VenueError):
            last_price, failure = None, failure or str(last_price)
        elif doubt := _doubt(job, grid, last_price, newest.get(grid.symbol), looked_at):
            last_price, failure = None, "; ".join(filter(None, [failure, doubt]))
        state, reason = advise_live(
            grid,
            job.config.exit,
            clock=clock,
            newest_known=known.get(grid.symbol),
            last_price=last_price,
            failure=failure,
        )
        live.append({"grid_id": grid.id, "as_of": job.tick, "live_state": state, "live_reason": reason})
    told = pl.DataFrame(live, schema={name: dtypes("exit_state")[name] for name in _LIVE}, orient="row")
    return rows.drop("live_state", "live_reason").join(told, on=["grid_id", "as_of"], how="left").select(rows.columns)


def _last_prices(job: Work, symbols: Sequence[str]) -> dict[str, float | VenueError | None]:
    """What each market trades at now, or why that is not known; each venue is asked for all of its markets together."""

    def venue(symbol: str) -> str:
        return job.config.venue_of(symbol)[0]

    prices: dict[str, float | VenueError | None] = {}
    for _, of_venue in groupby(sorted(symbols, key=venue), key=venue):
        group = list(of_venue)
        try:
            prices |= job.project.venue(group[0]).last_prices(group)
        except VenueError as error:
            prices |= dict.fromkeys(group, error)
    return prices


@dataclass(frozen=True)
class BarInProgress:
    """What a market's venue says of the bar that is not closed yet; None: it says nothing that can be used."""

    low: float | None
    high: float | None


def _doubt(
    job: Work, grid: GridConfig, price: float | None, newest: Row | None, looked_at: dict[str, BarInProgress]
) -> str | None:
    """Why a last price says nothing about a grid; None: it may be believed.

    Where it would matter, below the stop or far from the newest bar, the bar in progress is asked for, since a crash is
    in that one first. A price that is where it was needs no such question.

    Args:
        job: the run.
        grid: the grid.
        price: as the venue says it.
        newest: the newest stored bar that is known.
        looked_at: bars in progress of this run by market; a new one is added.
    """
    if not isinstance(job.config.venue_of(grid.symbol)[1], CcxtVenue):
        return None
    low, high = (newest["low"], newest["high"]) if newest else (None, None)
    doubt = ticker_doubt(price, low, high, "the newest bar")
    if price is None or not math.isfinite(price) or price <= 0:
        return f"{grid.symbol}: {doubt}; nothing is concluded from it"
    if not doubt and price > grid.stop:
        return None
    if grid.symbol not in looked_at:
        looked_at[grid.symbol] = _in_progress(job, grid.symbol, newest)
    present = looked_at[grid.symbol]
    if present.low is not None:
        doubt = ticker_doubt(price, present.low, present.high, "the bar in progress")
    return f"{UNSURE}{grid.symbol}: {doubt}; nothing is concluded from it" if doubt else None


def _in_progress(job: Work, symbol: str, newest: Row | None) -> BarInProgress:
    """The bar in progress, if its row can be true and joins on to the newest bar."""
    nothing = BarInProgress(None, None)
    try:
        venue = job.project.venue(symbol)
        begin = floor_bar(venue.now())
        answer = venue.fetch(symbol, Span(begin, begin + BAR))
    except VenueError:
        return nothing
    rows, _ = judge(answer.rows, Span(begin, begin + BAR))
    stored = pl.DataFrame([newest], schema_overrides={"open_time": TIME}) if newest else None
    if rows.is_empty():
        return nothing
    if stored is not None:
        known = stored.select("open_time", open="close", close="close")
        if held_back(rows, known.filter(pl.col("open_time") < begin)).height:
            return nothing
    return BarInProgress(rows["low"][0], rows["high"][0])


_LIVE = ("grid_id", "as_of", "live_state", "live_reason")
