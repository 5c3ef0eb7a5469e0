"""What all grids may lose together, and which limits that passes, from the stored rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from pydantic import ValidationError

from mm_dagster.bars import BAR, DAY_BARS, Span, iso
from mm_dagster.config.sources import kind_of
from mm_dagster.config.whole import Config
from mm_dagster.grid import account
from mm_dagster.grid.episode import grid_of, rules_of
from mm_dagster.grid.position import LATEST_START_BARS
from mm_dagster.history.lake import Lake
from mm_dagster.pipeline.measure import Computed
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.work import Work, makes
from mm_dagster.portfolio import limits, risk
from mm_dagster.portfolio.risk import Inputs, Member
from mm_dagster.tables import registry
from mm_dagster.tables.registry import CODE_VERSIONS

_HASHED = ("grid_id", "activated_at", "as_of", "config_hash", "code_version")
_CASH = ("cash", "required_cash")


@dataclass(frozen=True)
class Assessed:
    """What was computed of all grids together.

    Attributes:
        changed: how many stored rows changed, of both tables.
        newest: rows of `portfolio_risk` of the last bar.
        contributions: rows of `portfolio_contribution` of the last bar.
    """

    changed: int
    newest: pl.DataFrame
    contributions: pl.DataFrame


@makes("portfolio_risk")
def assess_portfolio(job: Work) -> Assessed:
    """Computes and stores `portfolio_risk` and, from the same nights, `portfolio_contribution`."""
    project, changed = job.project, 0
    members = members_of(project.lake, job.config)
    # The limits look back on some days before the first bar that is asked for.
    needed = job.window.back(limits.LEAD_BARS)
    before = Span(needed.start, job.window.start)
    told = project.lake.read("portfolio_risk", span=before, columns=["as_of"])["as_of"].n_unique()
    if told == before.bars:
        needed = job.window
    found = [registry.empty("portfolio_risk"), registry.empty("portfolio_contribution")]
    # A tick has few days, and each question to the lake has a price of its own.
    for part in [needed] if job.tick else needed.months():
        wanted = _wanted(job, members, part)
        for moments in _runs(wanted):
            span = Span(moments[0] - BAR, moments[-1])
            rows = [_stamped(one, wanted) for one in at_moments(project, members, moments)]
            for place, table in enumerate(("portfolio_risk", "portfolio_contribution")):
                changed += job.write(table, rows[place], span)
                newest = rows[place].filter(pl.col("as_of") == job.window.end)
                found[place] = pl.concat([found[place], registry.conform(newest, table)])
    job.settle("portfolio_risk")
    return Assessed(changed, *found)


@makes("portfolio_contribution")
def share_out(job: Work) -> Computed:
    """Computes and stores what `portfolio_contribution` lacks of the rows of `portfolio_risk` that are stored.

    Both come from the same nights, so that there is nothing left to do unless one of them was lost.
    """
    lake, changed = job.project.lake, 0
    wanted: dict[datetime, dict[str, str]] = {}
    span = job.window.back(limits.LEAD_BARS)
    same = "s.quote = r.quote AND s.as_of = r.as_of AND s.config_hash = r.config_hash"
    lacking = lake.sql(
        f"SELECT quote, as_of, config_hash FROM (FROM portfolio_risk WHERE {lake.in_force('portfolio_risk')}) r "
        f"WHERE reason IS NULL AND code_version = '{CODE_VERSIONS['portfolio_risk']}' "
        f"AND as_of > '{iso(span.start)}' AND as_of <= '{iso(span.end)}' AND NOT EXISTS "
        f"(SELECT 1 FROM (FROM portfolio_contribution WHERE {lake.in_force('portfolio_contribution')}) s WHERE {same}) "
        "ORDER BY as_of, quote"
    )
    for quote, as_of, config_hash in lacking.iter_rows():
        wanted.setdefault(as_of, {})[quote] = config_hash
    members = members_of(lake, job.config) if wanted else []
    for moments in _runs(wanted):
        part = Span(moments[0] - BAR, moments[-1])
        _, made = at_moments(job.project, members, moments)
        rows = registry.conform(_stamped(made, wanted), "portfolio_contribution")
        kept = lake.read("portfolio_contribution", span=part).join(rows, on=["quote", "as_of"], how="anti")
        changed += job.write("portfolio_contribution", pl.concat([rows, kept]), part)
    job.settle("portfolio_contribution")
    newest = lake.read("portfolio_contribution", span=Span(job.window.end - BAR, job.window.end))
    return Computed(changed, [newest])


@makes("limit_state")
def watch_limits(job: Work) -> Computed:
    """Computes and stores `limit_state`."""
    lake, settings = job.project.lake, job.config.portfolio
    members = members_of(lake, job.config)
    changed, newest = 0, []
    stale = Span(_stale_from(job), job.window.end)
    for span in stale.months():
        wide = span.back(limits.LEAD_BARS)
        risks, shares = (lake.read(table, span=wide) for table in ("portfolio_risk", "portfolio_contribution"))
        columns = ["grid_id", "activated_at", "as_of", *limits.FILLED]
        filled = lake.read("grid_risk", span=wide.back(limits.COUNTING_BARS), columns=columns)
        makers = {member.grid.id: member.grid.fees.maker for member in members}
        hashes = risks.select("quote", "as_of", "config_hash")
        parts = [
            limits.compute(quote, risks, shares, filled, makers, span, settings)
            for quote in risks["quote"].unique().sort()
        ]
        rows = pl.concat([registry.empty("limit_state").drop("config_hash", "code_version"), *parts])
        rows = rows.join(hashes, on=["quote", "as_of"], how="left").with_columns(
            code_version=pl.lit(CODE_VERSIONS["limit_state"])
        )
        changed += job.write("limit_state", rows, span)
        newest.append(rows.filter(pl.col("as_of") == job.window.end))
    job.settle("limit_state")
    return Computed(changed, newest)


def _stale_from(job: Work) -> datetime:
    """The first bar whose limits are to be computed: those after it look back on it.

    In a run over whole days all of the window; in a tick what is missing, was made of other rows, or could not be told
    when it was made and can now; the newest bar in any case.
    """
    if not job.tick:
        return job.window.start
    lake = job.project.lake
    key = ["quote", "as_of", "config_hash", "code_version"]
    told = lake.read("portfolio_risk", span=job.window, columns=[*key[:3], "es_5_24h", "equity", "live_equity"])
    made = lake.read("limit_state", span=job.window, columns=[*key, "limit", "value"]).filter(
        pl.col("limit") == "es_5_24h", pl.col("code_version") == CODE_VERSIONS["limit_state"]
    )
    is_known = pl.col("es_5_24h").is_not_null() & pl.coalesce("equity", "live_equity").is_not_null()
    kept = told.join(made, on=key[:3], how="inner").filter(is_known == pl.col("value").is_not_null())
    stale = told.join(kept, on=key[:3], how="anti")["as_of"].to_list()
    revised = job.changed("limit_state")["open_time"].to_list()
    return max(job.window.start, min([job.window.end, *stale, *(time + BAR for time in revised)]) - BAR)


def members_of(lake: Lake, config: Config) -> list[Member]:
    """The grids that ever ran and may be added up, in the order of grid_id: of the kind of most consequence alone."""
    kinds = {symbol: config.market(symbol).kind for symbol in config.symbols}
    found = []
    for row in lake.read("grid_episode").sort("grid_id", "activated_at").iter_rows(named=True):
        kind = kinds.get(row["symbol"]) or (kind_of(row["source"]) if row["source"] else None)
        if not row["enabled"] or kind != config.kind:
            continue
        try:
            found.append(Member(grid_of(row), rules_of(row), row["closed_at"]))
        except ValidationError:
            # One that the configuration of today refuses has no risk either.
            continue
    return found


def quote_of(member: Member) -> str:
    """The currency in which a grid's money is counted."""
    return member.grid.symbol.partition("-")[2]


def at_moments(
    project: Project, members: Sequence[Member], moments: Sequence[datetime]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `portfolio_risk` and `portfolio_contribution` at some bars, without stamps.

    Args:
        project: configuration and lake.
        members: as of `members_of`, or as somebody asks what would be.
        moments: `as_of` of bars, ascending, at least one.
    """
    config = project.config
    parts: list[list[pl.DataFrame]] = [
        [registry.empty(table).drop("config_hash", "code_version")]
        for table in ("portfolio_risk", "portfolio_contribution")
    ]
    for quote, found in inputs_of(project, members, moments):
        for kept, made in zip(parts, risk.compute(quote, found, moments, config.portfolio, config.risk), strict=True):
            kept.append(made)
    risks, shares = (pl.concat(part) for part in parts)
    return risks, shares


def inputs_of(project: Project, members: Sequence[Member], moments: Sequence[datetime]) -> Iterator[tuple[str, Inputs]]:
    """What is stored of each quote currency that is needed at some bars; see `at_moments`."""
    lake, settings = project.lake, project.config.portfolio
    span = Span(moments[0] - BAR, moments[-1])
    wide = span.back(risk.lead(settings))
    window = span.back(settings.window_days * DAY_BARS)
    for quote in sorted({quote_of(member) for member in members}):
        mine = [
            member
            for member in members
            if quote_of(member) == quote
            and member.grid.first_as_of <= span.end
            and (member.closed_at is None or member.closed_at > window.start)
        ]
        if not mine:
            continue
        symbols = sorted({member.grid.symbol for member in mine})
        ids = sorted({member.grid.id for member in mine})
        rows = lake.read("grid_risk", span=span, grids=ids, columns=[*risk.HELD, *_CASH])
        before = lake.read(
            "grid_risk",
            span=Span(window.start, span.start),
            grids=ids,
            columns=["grid_id", "activated_at", "as_of", "total_pnl"],
        )
        yield (
            quote,
            Inputs(
                members=mine,
                risk_rows=pl.concat([rows, before], how="diagonal"),
                candles=_candles(lake, mine, symbols, wide),
                features=lake.read(
                    "regime_features", span=wide, symbols=symbols, columns=["symbol", "as_of", "volatility_forecast"]
                ),
                equities=_equities(project, quote, rows, mine, span) if settings.equity is None else {},
            ),
        )


def _candles(lake: Lake, members: Sequence[Member], symbols: Sequence[str], wide: Span) -> pl.DataFrame:
    """The prices of the nights, and of the first hour of each grid, whose cells follow from it."""
    columns = ["symbol", "close_time", *risk.PRICES]
    parts = [lake.read("candles", span=wide, symbols=symbols, columns=columns)]
    for member in members:
        begun = Span(member.grid.first_as_of - BAR, member.grid.first_as_of + LATEST_START_BARS * BAR)
        if begun.start < wide.start:
            until = Span(begun.start, min(begun.end, wide.start))
            parts.append(lake.read("candles", span=until, symbols=[member.grid.symbol], columns=columns))
    return pl.concat(parts).unique(["symbol", "close_time"])


def _equities(
    project: Project, quote: str, rows: pl.DataFrame, members: Sequence[Member], span: Span
) -> dict[datetime, float]:
    """What the accounts of the grids' venues hold together, by bar; nothing where one was not wholly read."""
    config = project.config
    snapshots = project.lake.read("account_snapshot", span=span).filter("complete")
    found: dict[datetime, float] = {}
    for (moment,), told in snapshots.group_by("as_of"):
        assert isinstance(moment, datetime)
        running = {member.key: member for member in members if member.runs_at(moment)}
        here = [
            row
            for row in rows.filter(pl.col("as_of") == moment).iter_rows(named=True)
            if (row["grid_id"], row["activated_at"]) in running
        ]
        venues = {symbol: config.market(symbol).venue for symbol in config.symbols}
        balances = {row["venue"]: row["balances"] for row in told.iter_rows(named=True)}
        totals = [
            account.summary(quote, [row for row in here if venues.get(row["symbol"]) == venue], balances[venue]).total
            if venue in balances
            else None
            for venue in sorted({venues.get(member.grid.symbol, "") for member in running.values()})
        ]
        if totals and None not in totals:
            found[moment] = sum(total for total in totals if total is not None)
    return found


def _wanted(job: Work, members: Sequence[Member], span: Span) -> dict[datetime, dict[str, str]]:
    """The bars of a span that are to be computed, with the hash of what each quote currency has there.

    In a run over whole days all of the window; else, and before the window, what is missing or made of other rows than
    are stored now. Bars at which no grid of any currency has a row are left out.
    """
    lake = job.project.lake
    hashes = hashes_of(lake, job.config, members, span)
    # What could not be told is tried again while a tick reaches it: the past may have been fetched since.
    told = pl.col("reason").is_null() | (pl.col("grids") == 0) | (pl.col("as_of") <= job.window.start)
    columns = ["quote", "as_of", "grids", "reason", "config_hash", "code_version"]
    stored = lake.read("portfolio_risk", span=span, columns=columns).filter(
        told, pl.col("code_version") == CODE_VERSIONS["portfolio_risk"]
    )
    current: dict[datetime, dict[str, str]] = {}
    for quote, as_of, config_hash in stored.select("quote", "as_of", "config_hash").iter_rows():
        current.setdefault(as_of, {})[quote] = config_hash
    revised = job.changed("portfolio_risk")["open_time"]
    since = revised.min() if revised.len() else None
    assert since is None or isinstance(since, datetime)
    anew = None if job.tick else job.window.start
    return {
        as_of: of_quotes
        for as_of, of_quotes in sorted(hashes.items())
        if current.get(as_of) != of_quotes
        or (anew is not None and as_of > anew)
        or (since is not None and as_of > since)
        or as_of == job.window.end
    }


def hashes_of(lake: Lake, config: Config, members: Sequence[Member], span: Span) -> dict[datetime, dict[str, str]]:
    """What the rows of each bar are made of as it is stored now, as a hash of each quote currency.

    A grid that was said to have stopped, or to run again, changes it from then on. Bars at which no grid of any
    currency has a row are left out.
    """
    made = lake.read("grid_risk", span=span, columns=list(_HASHED))
    known: dict[datetime, dict[tuple[str, datetime], tuple[str, str]]] = {}
    for grid_id, activated_at, as_of, config_hash, code_version in made.iter_rows():
        known.setdefault(as_of, {})[grid_id, activated_at] = (config_hash, code_version)
    keys = {member.key for member in members}
    hashes: dict[datetime, dict[str, str]] = {}
    digests: dict[Any, str] = {}
    for as_of, rows in known.items():
        if not keys & rows.keys():
            continue
        by_quote: dict[str, list[tuple[str, ...]]] = {}
        for member in members:
            if member.key in rows or member.runs_at(as_of):
                runs = str(member.runs_at(as_of))
                what = (*member.key, *rows.get(member.key, ("", "")))
                by_quote.setdefault(quote_of(member), []).append(tuple(str(part) for part in (*what, runs)))
        for quote, parts in by_quote.items():
            name = tuple(parts)
            if name not in digests:
                digests[name] = config.hash_of_portfolio(parts)
            hashes.setdefault(as_of, {})[quote] = digests[name]
    return hashes


def _runs(moments: Mapping[datetime, object]) -> Iterator[list[datetime]]:
    """Bars that follow each other, together."""
    run: list[datetime] = []
    for moment in moments:
        if run and moment - run[-1] != BAR:
            yield run
            run = []
        run.append(moment)
    if run:
        yield run


def _stamped(rows: pl.DataFrame, wanted: Mapping[datetime, Mapping[str, str]]) -> pl.DataFrame:
    """Rows with the hash of what they were made of."""
    hashes = pl.DataFrame(
        [(quote, as_of, digest) for as_of, of_quotes in wanted.items() for quote, digest in of_quotes.items()],
        schema={"quote": pl.String, "as_of": rows.schema["as_of"], "config_hash": pl.String},
        orient="row",
    )
    return rows.join(hashes, on=["quote", "as_of"], how="inner").with_columns(
        code_version=pl.lit(CODE_VERSIONS["portfolio_risk"])
    )
