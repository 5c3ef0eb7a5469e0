"""Stage 1, market: closed candles from the venues, labelled and checked."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.defs.describe import preview, stage_asset
from mm_dagster.defs.partitions import Work, history_asset, work
from mm_dagster.defs.resources import Project, Turn
from mm_dagster.history.lake import Commit
from mm_dagster.market.candles import collect
from mm_dagster.market.venue import VenueError
from mm_dagster.tables import broken_rules, conform, empty

if TYPE_CHECKING:
    from mm_dagster.market.account import ExchangeAccount

FRESH_BARS = 2
"""How many bars behind the tick the newest known one may be."""


@history_asset(
    "candles",
    kinds={"ccxt"},
    checks={
        "configuration_is_valid": "The configuration in force is the one in the folder. If not: correct the file and "
        "key that it names; until then the last valid one decides.",
        "no_duplicates": "Every bar is stored once. If not: two writers met; `mm backfill` of that day writes it anew.",
        "prices_are_sane": "Highs and lows enclose every bar. If not: the lake was written by something else; `mm "
        "backfill` of that day.",
        "no_gap": "No bar of the span is MISSING. If not: the venue did not answer for it yet; later ticks ask again "
        "by themselves.",
        "newest_bar_is_fresh": "The venue's last bar is known. If not: the exit ladder grows blind; see `mm doctor` "
        "and the exchange's status page.",
    },
)
def candles(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """Closed 15-minute bars of every watched market, as its venue sent them.

    A bar is TRADED, NO_TRADE (the venue answered and had none) or MISSING; nothing invents a price. Rows that cannot be
    true are kept apart with the reason. One market's failure never stops the others. When it is red: `errors` below has
    the venue's words; nothing need be run again, since every tick asks for what is missing.
    """
    job = work(context, project, turn)
    job.begin_tick()
    changed, quarantined, errors = 0, 0, project.failures
    fetched: dict[Span, list[pl.DataFrame]] = {}
    for symbol, span in job.fetch_spans().items():
        try:
            got = collect(project.venue(symbol), symbol, span, job.config.markets.candles)
        except VenueError as error:
            errors[symbol] = str(error)
            context.log.error(f"{symbol}: {error}")
            continue
        if got.error:
            errors[symbol] = got.error
            context.log.error(f"{symbol}: {got.error}")
        if got.candles.height:
            stored = Span(span.start, got.candles["close_time"].max())  # type: ignore[arg-type]
            fetched.setdefault(stored, []).append(got.candles)
        if job.tick is None:
            # Whole days take long to fetch: what is there is kept at once. A tick writes all markets together.
            changed += _store(job, fetched)
        if not got.quarantined.is_empty():
            quarantined += len(got.quarantined)
            with project.turn_lock():
                project.lake.upsert("quarantine", got.quarantined, commit=job.commit("quarantine", span))
    changed += _store(job, fetched)
    recent = project.lake.read("candles", span=job.window, symbols=job.symbols)
    return dg.MaterializeResult(
        metadata={
            "rows_changed": changed,
            "rows_quarantined": quarantined,
            "newest_bar": _newest(recent),
            "preview": preview(recent.tail(8)),
            **({"errors": "; ".join(errors.values())} if errors else {}),
        },
        check_results=list(_checks(job, recent, errors)),
    )


@stage_asset(
    kinds={"ccxt", "parquet"},
    checks={
        "account_is_read": "Every account was wholly read. If not: `mm doctor` says which variable or permission is "
        "wrong; until then its grids are modelled from candles."
    },
)
def account_snapshot(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """Balances, open orders and fills of each account that markets.yaml has keys for, at every live tick.

    Read with a read-only key; the program places no order. Without keys there are no rows, and what the grids hold is
    modelled from candles.
    """
    as_of, problems, rows = turn.time, [], []
    for venue in project.config.markets.venues if as_of else ():
        try:
            account = project.account(venue)
            if account is not None:
                rows.append(_read_account(project, account, venue, floor_bar(as_of)))  # type: ignore[arg-type]
        except VenueError as error:
            problems.append(str(error))
    read = pl.concat(rows) if rows else empty("account_snapshot")
    problems += read["detail"].drop_nulls().to_list()
    for problem in problems:
        context.log.error(problem)
    if not read.is_empty():
        with project.turn_lock():
            commit = Commit(run_id=context.run.run_id, asset="account_snapshot", span=str(turn.as_of))
            project.lake.upsert("account_snapshot", read, commit=commit)
    shown = read.select("venue", "as_of", "complete", pl.col("balances", "open_orders", "fills").list.len())
    said = f"{read.height} accounts were read; elsewhere positions are modelled."
    return dg.MaterializeResult(
        metadata={"preview": preview(shown)},
        check_results=[
            dg.AssetCheckResult(
                check_name="account_is_read",
                passed=not problems,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(problems) or said,
            )
        ],
    )


_LISTED_LATE = timedelta(hours=1)
"""How far back fills are asked for again: an exchange may list one a little late."""


def _read_account(project: Project, account: "ExchangeAccount", venue: str, as_of: datetime) -> pl.DataFrame:
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


def _store(job: Work, fetched: dict[Span, list[pl.DataFrame]]) -> int:
    """Writes what was fetched, and lets no bar be forgotten because its venue did not answer for it this time."""
    changed = 0
    while fetched:
        span, frames = fetched.popitem()
        rows = job.stamp(pl.concat(frames), "candles")
        symbols = rows["symbol"].unique().to_list()
        unanswered = rows.filter(pl.col("observed_at").is_null())
        if unanswered.height:
            stored = job.project.lake.read("candles", span=span, symbols=symbols)
            key = ["symbol", "open_time"]
            kept = stored.filter(pl.col("observed_at").is_not_null()).join(unanswered, on=key, how="semi")
            rows = pl.concat([rows.join(kept, on=key, how="anti"), kept.select(rows.columns)])
        changed += job.write("candles", rows, span, symbols=symbols)
    return changed


def _checks(job: Work, recent: pl.DataFrame, errors: dict[str, str]):  # type: ignore[no-untyped-def]
    """What can be said of the bars of the run's window, as sentences."""
    invalid = job.project.config_error
    yield dg.AssetCheckResult(
        check_name="configuration_is_valid",
        passed=invalid is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"The last valid one stays in force: {invalid}" if invalid else "That of the folder is in force.",
    )
    twice = recent.height - recent.n_unique(["symbol", "open_time"])
    yield dg.AssetCheckResult(
        check_name="no_duplicates",
        passed=twice == 0,
        description=f"{twice} of {recent.height} bars are stored twice.",
    )
    broken = broken_rules(conform(recent, "candles"), "candles")
    yield dg.AssetCheckResult(
        check_name="prices_are_sane",
        passed=not broken,
        description=f"{recent.height} bars keep every rule." if not broken else f"broken: {broken}",
    )
    missing = recent.filter(pl.col("status") == "MISSING")
    yield dg.AssetCheckResult(
        check_name="no_gap",
        passed=missing.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{missing.height} of {recent.height} bars are MISSING"
        + (f", the first {missing['symbol'][0]} at {iso(missing['open_time'].min())}." if missing.height else "."),  # type: ignore[arg-type]
    )
    late = _late(job, recent)
    because = f" ({'; '.join(errors.values())})" if errors else ""
    yield dg.AssetCheckResult(
        check_name="newest_bar_is_fresh",
        passed=not late or job.tick is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"The newest bar of {', '.join(late)} is older than {FRESH_BARS * 15} minutes{because}."
            if late
            else f"All {len(job.symbols)} markets are known up to {iso(job.window.end)}."
        ),
    )


def _late(job: Work, recent: pl.DataFrame) -> list[str]:
    """The markets whose newest known bar closed too long before the end of the window."""
    known = recent.filter((pl.col("status") != "MISSING") & (pl.col("close_time") > job.window.end - FRESH_BARS * BAR))
    return [symbol for symbol in job.symbols if symbol not in set(known["symbol"])]


def _newest(recent: pl.DataFrame) -> str:
    closed = recent.filter(pl.col("status") != "MISSING")["close_time"].max()
    return iso(closed) if isinstance(closed, datetime) else "none"
