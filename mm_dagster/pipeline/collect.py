"""Candles and accounts from the venues into the lake."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.history.lake import Commit
from mm_dagster.market.candles import Collected, Wanted, collect_each
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.reach import REACH
from mm_dagster.pipeline.work import Work, unsettled
from mm_dagster.tables import conform, empty

if TYPE_CHECKING:
    from mm_dagster.market.account import ExchangeAccount

_LISTED_LATE = timedelta(hours=1)
"""How far back fills are asked for again: an exchange may list one a little late."""


def read_account(project: Project, account: "ExchangeAccount", venue: str, as_of: datetime) -> pl.DataFrame:
    """One row: what the account holds, and its fills since the last time that it was wholly read."""
    config, stored = project.config, project.lake.read("account_snapshot")
    mine = stored.filter(pl.col("venue") == venue)
    symbols = [symbol for symbol in config.symbols if config.venue_of(symbol)[0] == venue]
    grids = [grid for symbol in symbols for grid in config.grids_on(symbol) if grid.enabled]
    begun = min([grid.activated_at for grid in grids], default=as_of)
    whole = mine.filter(pl.col("complete"))["observed_at"].max()
    since = whole - _LISTED_LATE if isinstance(whole, datetime) else begun
    reached = mine["fills_from"].min()
    if isinstance(reached, datetime) and begun < reached:
        since = begun
    fills = mine.select(pl.col("fills").explode()).drop_nulls().unnest("fills")
    known = set(fills.select("symbol", "fill_id").iter_rows())
    return account.snapshot(symbols, since, as_of, known)


def open_venues(job: Work) -> None:
    """Opens what is about to be asked; what cannot be opened says so when it is."""
    for symbol in job.symbols:
        with suppress(VenueError):
            job.project.venue(symbol)


@dataclass
class Gathered:
    """What was got from the venues.

    Attributes:
        months: by month, oldest first, how many rows of candles changed, and how many rows were kept apart.
        problems: what failed, by symbol, in one line each.
    """

    months: dict[datetime, tuple[int, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def collect(job: Work, tell: Callable[[datetime, int], None] = lambda month, changed: None) -> Gathered:
    """Asks for what is needed, and writes month by month, oldest first, while the venues go on answering.

    What was answered by then is written, too, when it is interrupted.

    Args:
        job: the run.
        tell: is told of each month when it is written, and how many rows of it changed.
    """
    with ThreadPoolExecutor(1) as beside:
        # ccxt takes as long to load as DuckDB its extensions, which needs no interpreter.
        beside.submit(open_venues, job)
        job.begin_tick()
    gathered = Gathered()
    for month, changed, apart in _fetch(job, gathered.problems):
        gathered.months[month] = (changed, apart)
        tell(month, changed)
    job.note_problems(gathered.problems)
    return gathered


def collect_accounts(project: Project, as_of: datetime | None, run_id: str) -> tuple[pl.DataFrame, list[str]]:
    """Reads and stores what each account holds that there are keys for; nothing in a run over whole days.

    Returns:
        Rows of tables.AccountSnapshot, and what was not answered.
    """
    problems, rows = [], []
    for venue in project.config.markets.venues if as_of else ():
        try:
            account = project.account(venue)
            if account is not None:
                rows.append(read_account(project, account, venue, floor_bar(as_of)))  # type: ignore[arg-type]
        except VenueError as error:
            problems.append(str(error))
    read = pl.concat(rows) if rows else empty("account_snapshot")
    problems += read["detail"].drop_nulls().to_list()
    if not read.is_empty():
        with project.turn_lock():
            commit = Commit(run_id=run_id, asset="account_snapshot", span=iso(as_of) if as_of else "")
            project.lake.upsert("account_snapshot", read, commit=commit)
    return read, problems


def _fetch(job: Work, problems: dict[str, str]) -> Iterator[tuple[datetime, int, int]]:
    """Each month, and how many rows of it changed, and went into quarantine; what fails is added to the problems."""
    wanted = []
    for symbol, spans in job.fetch_spans().items():
        try:
            venue = job.project.venue(symbol)
        except VenueError as error:
            problems[symbol] = str(error)
            continue
        wanted += [Wanted(venue, symbol, part) for span in spans for part in span.months()]
    # Markets stay in their order within a month, so that what is written never depends on who answers first.
    wanted.sort(key=lambda one: _month(one.span))
    with closing(collect_each(wanted, job.config.markets.candles)) as answers:
        for month, of_month in groupby(answers, key=lambda answer: _month(answer[0].span)):
            yield month, *_store_month(job, of_month, problems)


def _store_month(
    job: Work, answers: Iterator[tuple[Wanted, Collected | VenueError]], problems: dict[str, str]
) -> tuple[int, int]:
    """Writes what was answered for a month, all of it or until now; returns how many rows changed and were apart."""
    fetched: dict[Span, list[pl.DataFrame]] = {}
    quarantined: list[pl.DataFrame] = []
    try:
        for one, got in answers:
            if isinstance(got, VenueError):
                problems.setdefault(one.symbol, str(got))
                continue
            if got.error:
                problems.setdefault(one.symbol, got.error)
            if got.candles.height:
                stored = Span(one.span.start, got.candles["close_time"].max())  # type: ignore[arg-type]
                fetched.setdefault(stored, []).append(got.candles)
            quarantined.append(got.quarantined)
    finally:
        changed = sum(_store(job, span, frames) for span, frames in fetched.items())
        apart = pl.concat(quarantined) if quarantined else empty("quarantine")
        if not apart.is_empty():
            with job.project.turn_lock():
                job.project.lake.upsert("quarantine", apart, commit=job.commit("quarantine", job.window))
    return changed, apart.height


def _month(span: Span) -> datetime:
    return span.start.replace(day=1, hour=0, minute=0)


def _store(job: Work, span: Span, frames: list[pl.DataFrame]) -> int:
    """Writes what was fetched of a span within a month; returns how many rows changed.

    No bar is forgotten because its venue did not answer for it this time. What changes of the past is noted first, so
    that no crash in between can hide it.
    """
    lake = job.project.lake
    rows = job.stamp(pl.concat(frames), "candles")
    symbols = rows["symbol"].unique().to_list()
    key = ["symbol", "open_time"]
    with job.project.turn_lock():
        stored = lake.read("candles", span=span, symbols=symbols)
        unanswered = rows.filter(pl.col("observed_at").is_null())
        kept = stored.filter(pl.col("observed_at").is_not_null()).join(unanswered, on=key, how="semi")
        rows = pl.concat([rows.join(kept, on=key, how="anti"), kept.select(rows.columns)])
        revisions = _revisions(job, stored, rows)
        if not revisions.is_empty():
            lake.upsert("candle_revision", revisions, commit=job.commit("candle_revision", span))
        written = lake.write("candles", rows, span=span, symbols=symbols, commit=job.commit("candles", span))
    return written.inserted + written.deleted


_BAR_VALUES = ("status", "open", "high", "low", "close", "volume")


def _revisions(job: Work, stored: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The bars that differ from the stored ones, where a venue takes back what it said, or a verdict depends on them.

    Args:
        job: the run.
        stored: candles of a span as they are.
        rows: the same as they will be.

    Returns:
        Rows of tables.CandleRevision.
    """
    key = ["symbol", "open_time"]
    old = stored.select(
        *key,
        *(pl.col(name).alias(f"old_{name}") for name in (*_BAR_VALUES, "observed_at")),
        its_config_hash="config_hash",
    )
    changed = rows.join(old, on=key, how="left").filter(
        pl.col("observed_at").is_not_null()
        & (
            pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"old_{name}")) for name in _BAR_VALUES[1:])
            | (pl.col("status") != pl.col("old_status"))
        )
        # Another venue or another setting is no revision: whatever depends on it is computed under another hash, too.
        & (pl.col("old_status").is_null() | (pl.col("config_hash") == pl.col("its_config_hash")))
    )
    if changed.is_empty():
        return empty("candle_revision")
    first, last = changed["open_time"].min(), changed["open_time"].max()
    decided = job.project.lake.read(
        "regime_verdict",
        span=Span(first, last + REACH),  # type: ignore[arg-type,operator]
        symbols=changed["symbol"].unique().to_list(),
        columns=["symbol", "as_of"],
    )
    changed = (
        changed.sort("open_time")
        .with_columns(closes=pl.col("open_time") + BAR)
        .join_asof(
            decided.sort("as_of"),
            left_on="closes",
            right_on="as_of",
            by="symbol",
            strategy="forward",
            tolerance=REACH,
            check_sortedness=False,
        )
        .filter(pl.col("old_observed_at").is_not_null() | pl.col("as_of").is_not_null())
    )
    noted = changed.select(
        *key,
        "observed_at",
        "venue",
        "old_observed_at",
        *(f"old_{name}" for name in _BAR_VALUES),
        *(pl.col(name).alias(f"new_{name}") for name in _BAR_VALUES),
        recomputed_at=pl.when(pl.col("as_of").is_null()).then("observed_at"),
    )
    if noted.is_empty():
        return empty("candle_revision")
    # After a crash between this note and the candles, the same change is found again: its note stands, but what was
    # computed since was computed from the old candle.
    change = [*key, *(f"new_{name}" for name in _BAR_VALUES)]
    pending = unsettled(job.project.lake, job.symbols)
    again = pending.join(noted, on=change, how="semi", nulls_equal=True).filter(pl.col("recomputed").list.len() > 0)
    fresh = noted.join(pending, on=change, how="anti", nulls_equal=True)
    return pl.concat(
        [conform(fresh, "candle_revision"), again.with_columns(recomputed=pl.lit([], dtype=pl.List(pl.String)))]
    )
