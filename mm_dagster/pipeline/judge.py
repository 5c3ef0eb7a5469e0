"""Episodes, risk and exit states of the grids, from the stored rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

import polars as pl

from mm_dagster.alerts.responses import Answers, answers_of
from mm_dagster.bars import BAR, TIME, Span, floor_bar
from mm_dagster.config.grid import GridConfig
from mm_dagster.exit import ladder, triggers
from mm_dagster.exit.live import live_state
from mm_dagster.grid import account, bot, entry, episode, risk
from mm_dagster.market.candles import sift
from mm_dagster.market.contradiction import UNSURE, held_back, ticker_doubt
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline import tick_row
from mm_dagster.pipeline.measure import Computed
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.reach import LAG_BARS
from mm_dagster.pipeline.work import Work, in_batches, makes
from mm_dagster.tables.market import NO_RULES, MarketRules
from mm_dagster.tables.registry import dtypes

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Risks(Computed):
    """What was computed of `grid_risk`.

    Attributes:
        followed: the grids that were looked at.
        refused: why a grid was not, by grid; see `episodes.refusals`.
        compared: how many grids were compared with their account.
        differing: what their accounts say that the model does not.
    """

    followed: list[GridConfig]
    refused: dict[str, str]
    compared: int
    differing: list[str]


@makes("grid_risk")
def assess_risk(job: Work) -> Risks:
    """Keeps the episodes, then computes and stores `grid_risk`."""
    lake = job.project.lake
    rules = keep_episodes(job)
    refused = job.refusals()
    accounts, bots = lake.read("account_snapshot"), lake.read("grid_bot")
    followed = [grid for symbol in job.symbols for grid in job.grids(symbol) if grid.id not in refused]
    changed, last, compared = 0, [], 0
    differing: list[str] = []
    for span, grids in in_batches(job.grid_spans("grid_risk", followed)):
        symbols = [grid.symbol for grid in grids]
        columns = ["symbol", "as_of", *risk.FEATURES]
        features = lake.read("regime_features", span=span, symbols=symbols, columns=columns)
        starts = [grid.first_as_of - BAR for grid in grids if grid.enabled]
        lives = Span(min([span.start, *starts]), span.end)
        candles = lake.read("candles", span=lives, symbols=symbols)
        told = {grid.id: _told(grid, bots) for grid in grids if grid.enabled and grid.source}
        filled = {grid.id: fills(job, grid, accounts) for grid in grids if grid.id not in told}
        rows = risk.compute(grids, features, candles, span, job.config.risk, rules, filled, told)
        newest = Span(span.end - BAR, span.end)
        for grid in grids:
            row = rows.filter((pl.col("grid_id") == grid.id) & (pl.col("as_of") == span.end)).to_dicts()
            if grid.id in told and row and row[0]["source"] == "ACCOUNT":
                compared += 1
                said = [one for one in row[0]["recommendations"] if one.startswith(bot.DIFFERS)]
                differing += [f"{grid.id}: {one[:1].lower()}{one[1:].rstrip('.')}" for one in said]
        for grid in (grid for grid in grids if isinstance(filled.get(grid.id), pl.DataFrame)):
            model = risk.compute([grid], features, candles, newest, job.config.risk, rules)
            differing += account.differences(grid, model, rows.filter(pl.col("grid_id") == grid.id).tail(1))
            compared += 1
        rows = job.stamp(rows, "grid_risk", grids)
        changed += job.write("grid_risk", rows, span, grids=[grid.id for grid in grids])
        last.append(rows.filter(pl.col("as_of") == span.end))
    job.settle("grid_risk")
    return Risks(changed, last, followed, refused, compared, differing)


@makes("entry_assessment")
def assess_entry(job: Work) -> Computed:
    """Computes and stores `entry_assessment`."""
    lake = job.project.lake
    changed, last = 0, []
    waiting = [grid for symbol in job.symbols for grid in job.grids(symbol) if not grid.enabled]
    for span, grids in job.grid_spans("entry_assessment", waiting).items():
        symbols = [grid.symbol for grid in grids]
        features = lake.read("regime_features", span=span, symbols=symbols)
        verdicts = lake.read("regime_verdict", span=span, symbols=symbols)
        rows = pl.concat([entry.assess(grid, features, verdicts, span, job.config.risk) for grid in grids])
        rows = job.stamp(rows, "entry_assessment", grids)
        changed += job.write("entry_assessment", rows, span, grids=[grid.id for grid in grids])
        last.append(rows.filter(pl.col("as_of") == span.end))
    job.settle("entry_assessment")
    return Computed(changed, last)


@dataclass(frozen=True)
class States(Computed):
    """What was computed of `exit_state`.

    Attributes:
        active: the grids that run, judged or not.
    """

    active: list[GridConfig]


@makes("exit_state")
def judge(job: Work) -> States:
    """Computes and stores `exit_state`, and notes what the tick knows."""
    changed, newest = 0, []
    refused = job.refusals()
    active = [grid for symbol in job.symbols for grid in job.grids(symbol) if grid.enabled]
    judgeable = [grid for grid in active if grid.id not in refused]
    for span, grids in in_batches(job.grid_spans("exit_state", judgeable)):
        rows = job.stamp(with_live(job, grids, evaluate(job, grids, span)), "exit_state", grids)
        changed += job.write("exit_state", rows, span, grids=[grid.id for grid in grids])
        newest.append(rows.filter(pl.col("as_of") == span.end))
    job.settle("exit_state")
    tick_row.note_judged(job, refused)
    return States(changed, newest, active)


def keep_episodes(job: Work) -> dict[str, MarketRules]:
    """Stores each grid with its first evaluation and closes the episodes that are over.

    Returns:
        Of every grid what its venue asked of an order when it was first seen.
    """
    stored = settled(job.project.lake.read("grid_episode"), job.project)
    known = {(row["grid_id"], row["activated_at"]): row for row in stored.iter_rows(named=True)}
    fresh, rules = [], {}
    for grid in (grid for symbol in job.symbols for grid in job.grids(symbol)):
        row = known.get((grid.id, grid.activated_at))
        if row is None:
            rules[grid.id] = _rules(job, grid)
            fresh.append(episode.episode_of(grid, grid.first_as_of, rules[grid.id]))
            continue
        rules[grid.id] = episode.rules_of(row)
        if rules[grid.id] == NO_RULES and not _has_run(job, grid):
            # Its venue said nothing when the grid was first seen, and nothing was computed by that yet.
            rules[grid.id] = _rules(job, grid)
            if rules[grid.id] != NO_RULES:
                fresh.append(episode.with_rules(row, rules[grid.id]))
    closed = episode.closings(stored, job.config.grids, job.window.end)
    # One whose rules are known at last may end in the same run: then that it ends is what is noted.
    rows = pl.concat([*(one.join(closed, on=["grid_id", "activated_at"], how="anti") for one in fresh), closed])
    # What the operator said may not be noted here yet: a crash may lie between.
    said = episode.stopped(job.project.lake.read("grid_episode"), answers_in(job.project))
    rows = pl.concat([said.join(rows, on=["grid_id", "activated_at"], how="anti"), rows])
    if not rows.is_empty():
        with job.turn():
            job.project.lake.upsert("grid_episode", rows, commit=job.commit("grid_episode", job.window))
    return rules


def answers_in(project: Project) -> Answers:
    """The newest answer of the operator in each episode."""
    return answers_of(project.lake.read("operator_response"), project.lake.read("notification"))


def settled(stored: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Episodes as they stand by what the operator has said."""
    said = episode.stopped(stored, answers_in(project))
    return pl.concat([stored.join(said, on=["grid_id", "activated_at"], how="anti"), said])


def fills(job: Work, grid: GridConfig, accounts: pl.DataFrame) -> pl.DataFrame | str | None:
    """The fills of a running grid in its venue's account; see `account.fills_of`."""
    venue = job.config.market(grid.symbol).venue
    running = [one for one in job.config.grids if one.enabled and job.config.market(one.symbol).venue == venue]
    return account.fills_of(grid, running, accounts.filter(pl.col("venue") == venue)) if grid.enabled else None


def _told(grid: GridConfig, bots: pl.DataFrame) -> pl.DataFrame:
    """What the exchange told of the bot that a grid is, since its activation."""
    assert grid.source is not None
    mine = (pl.col("venue") == grid.source.exchange) & (pl.col("bot_id") == grid.source.id)
    return bots.filter(mine & (pl.col("symbol") == grid.symbol) & (pl.col("as_of") >= grid.activated_at))


def _has_run(job: Work, grid: GridConfig) -> bool:
    """Whether something of a grid's present episode is known that the rules of its venue were applied to."""
    if not job.config.market(grid.symbol).is_real:
        return True
    rows = job.project.lake.read("grid_risk", grids=[grid.id], columns=["activated_at", "price"])
    return not rows.filter((pl.col("activated_at") == grid.activated_at) & pl.col("price").is_not_null()).is_empty()


def _rules(job: Work, grid: GridConfig) -> MarketRules:
    """What the grid's venue asks of an order; nothing where it cannot be asked."""
    try:
        return job.project.venues.of(grid.symbol).rules(grid.symbol) or NO_RULES
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
    return ladder.compute(grids, bars, measured, verdicts, risks, span, job.config.exit, job.config.risk.touch)


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
    clocks = {grid.symbol: job.project.venues.clock(grid.symbol) for grid in grids}
    longest = timedelta(minutes=job.config.alerts.max_age_minutes)
    fresh = [grid for grid in grids if clocks[grid.symbol] - job.tick < longest]
    prices = _last_prices(job, sorted({grid.symbol for grid in fresh}))
    problems = tick_row.problems(job)
    unjudged = set(rows.filter((pl.col("as_of") == job.tick) & pl.col("state").is_null())["grid_id"])
    live, looked_at = [], dict[str, BarInProgress]()
    for grid in fresh:
        clock, failure = clocks[grid.symbol], problems.get(grid.symbol)
        last_price = prices[grid.symbol]
        if isinstance(last_price, VenueError):
            last_price, failure = None, failure or str(last_price)
        elif doubt := _doubt(job, grid, last_price, newest.get(grid.symbol), looked_at):
            last_price, failure = None, "; ".join(filter(None, [failure, doubt]))
        elif last_price is not None and last_price <= grid.stop:
            last_price = _asked_again(job, grid.symbol, last_price)
        state, reason = live_state(
            grid,
            job.config.exit,
            judged=grid.id not in unjudged,
            clock=clock,
            newest_known=known.get(grid.symbol),
            last_price=last_price,
            failure=failure,
        )
        live.append({"grid_id": grid.id, "as_of": job.tick, "live_state": state, "live_reason": reason})
    seen = pl.DataFrame(live, schema={name: dtypes("exit_state")[name] for name in _LIVE}, orient="row")
    return rows.drop("live_state", "live_reason").join(seen, on=["grid_id", "as_of"], how="left").select(rows.columns)


def _last_prices(job: Work, symbols: Sequence[str]) -> dict[str, float | VenueError | None]:
    """What each market trades at now, or why that is not known; each venue is asked for all of its markets together."""

    def venue(symbol: str) -> str:
        return job.config.market(symbol).venue

    prices: dict[str, float | VenueError | None] = {}
    for _, of_venue in groupby(sorted(symbols, key=venue), key=venue):
        group = list(of_venue)
        try:
            prices |= job.project.venues.of(group[0]).last_prices(group)
        except VenueError as error:
            prices |= dict.fromkeys(group, error)
    return prices


def _asked_again(job: Work, symbol: str, first: float) -> float:
    """The last price once more: one odd answer rings nobody out of bed.

    The second counts, as the newer one. Without one the first does: in a crash exchanges stop to answer.
    """
    second = _last_prices(job, [symbol])[symbol]
    return second if isinstance(second, float) and math.isfinite(second) and second > 0 else first


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
    if not job.config.market(grid.symbol).is_real:
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
        venue = job.project.venues.of(symbol)
        begin = floor_bar(venue.now())
        answer = venue.fetch(symbol, Span(begin, begin + BAR))
    except VenueError:
        return nothing
    rows, _ = sift(answer.rows, Span(begin, begin + BAR))
    stored = pl.DataFrame([newest], schema_overrides={"open_time": TIME}) if newest else None
    if rows.is_empty():
        return nothing
    if stored is not None:
        known = stored.select("open_time", open="close", close="close")
        if held_back(rows, known.filter(pl.col("open_time") < begin)).height:
            return nothing
    return BarInProgress(rows["low"][0], rows["high"][0])


_LIVE = ("grid_id", "as_of", "live_state", "live_reason")
