"""Episodes, risk and exit states of the grids, from the stored rows."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby

import polars as pl

from mm_dagster.alerts.responses import Answers, answers_of
from mm_dagster.bars import BAR, Span, iso
from mm_dagster.config import GridConfig
from mm_dagster.exit import ladder, triggers
from mm_dagster.exit.live import advise_live
from mm_dagster.grid import account, episode
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.reach import LAG_BARS
from mm_dagster.pipeline.work import Work
from mm_dagster.tables import NO_RULES, MarketRules, dtypes


def keep_episodes(job: Work) -> tuple[dict[str, str], dict[str, MarketRules]]:
    """Stores each grid with its first evaluation and closes the episodes that are over.

    Returns:
        What to do about each grid that was changed without a new activation; and of every grid what its venue asked of
        an order when it was first seen.
    """
    stored = settled(job.project.lake.read("grid_episode"), job.project)
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
    # What the operator said may not be noted here yet: a crash may lie between.
    said = episode.stopped(job.project.lake.read("grid_episode"), answers_in(job.project))
    rows = pl.concat([said.join(rows, on=["grid_id", "activated_at"], how="anti"), rows])
    if not rows.is_empty():
        with job.project.turn_lock():
            job.project.lake.upsert("grid_episode", rows, commit=job.commit("grid_episode", job.window))
    return refused, rules


def answers_in(project: Project) -> Answers:
    """The newest answer of the operator in each episode."""
    return answers_of(project.lake.read("operator_response"), project.lake.read("notification"))


def settled(stored: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Episodes as they stand by what the operator has said."""
    said = episode.stopped(stored, answers_in(project))
    return pl.concat([stored.join(said, on=["grid_id", "activated_at"], how="anti"), said])


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
    columns = ["symbol", "close_time", "status"]
    symbols = [grid.symbol for grid in grids]
    recent = job.project.lake.read("candles", span=job.window, symbols=symbols, columns=columns)
    known = dict(
        recent.filter(pl.col("status") != "MISSING").group_by("symbol").agg(pl.col("close_time").max()).iter_rows()
    )
    clocks = {grid.symbol: job.project.clock(grid.symbol) for grid in grids}
    longest = timedelta(minutes=job.config.alerts.max_age_minutes)
    fresh = [grid for grid in grids if clocks[grid.symbol] - job.tick < longest]
    prices = _last_prices(job, sorted({grid.symbol for grid in fresh}))
    unjudged = set(rows.filter((pl.col("as_of") == job.tick) & pl.col("state").is_null())["grid_id"])
    live = []
    for grid in fresh:
        clock, failure = clocks[grid.symbol], job.project.failures.get(grid.symbol)
        last_price = prices[grid.symbol]
        if isinstance(last_price, VenueError):
            last_price, failure = None, failure or str(last_price)
        state, reason = advise_live(
            grid,
            job.config.exit,
            judged=grid.id not in unjudged,
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


_LIVE = ("grid_id", "as_of", "live_state", "live_reason")
