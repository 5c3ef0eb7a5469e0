"""Stage 1, market: closed candles from the venues, labelled and checked."""

from datetime import datetime, timedelta

import dagster as dg
import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.defs.describe import preview, stage_asset
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import collect
from mm_dagster.pipeline.work import Work
from mm_dagster.tables.registry import broken_rules, conform

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
        "no_bar_was_revised": "No venue changed a closed bar in the last 30 days. If not: nothing is to do; what "
        "depends on such a bar is computed again by itself, and the old values stand in `candle_revision`.",
        "newest_bar_is_fresh": "The venue's last bar is known. If not: the exit ladder grows blind; see `mm doctor` "
        "and the exchange's status page.",
    },
)
def candles(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """Closed 15-minute bars of every watched market, as its venue sent them.

    A bar is TRADED, NO_TRADE (the venue answered and had none) or MISSING; nothing invents a price. Rows that cannot be
    true are kept apart with the reason. One market's failure never stops the others. When it is red: `errors` below has
    the venue's words; nothing need be run again, since every tick asks for what is missing.
    """
    job = work(context, project, turn)

    def say(month: datetime, changed: int) -> None:
        if job.tick is None:
            context.log.info(f"{month:%Y-%m}: {changed} rows of candles changed")

    done = collect.collect(job, say)
    months = [(f"{month:%Y-%m}", *counts) for month, counts in done.months.items()]
    for symbol, error in done.problems.items():
        context.log.error(error, extra={"symbol": symbol})
    recent = project.lake.read("candles", span=job.window, symbols=job.symbols)
    by_month = _by_month(recent, months)
    return dg.MaterializeResult(
        metadata={
            "rows_changed": sum(changed for _, changed, _ in months),
            "rows_quarantined": sum(quarantined for *_, quarantined in months),
            "newest_bar": _newest(recent),
            "preview": preview(recent.tail(8)),
            **({"by_month": preview(by_month)} if job.tick is None else {}),
            **({"errors": "; ".join(done.problems.values())} if done.problems else {}),
        },
        check_results=list(_checks(job, recent, done.problems)),
    )


@stage_asset(
    kinds={"ccxt", "parquet"},
    checks={
        "account_is_read": "Every account was wholly read. If not: `mm doctor` says which variable or permission is "
        "wrong; until then its grids are modelled from candles."
    },
)
def account_snapshot(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """Balances, open orders and fills of each account that markets.yaml has keys for, at every live tick.

    Read with a read-only key; the program places no order. Without keys there are no rows, and what the grids hold is
    modelled from candles.
    """
    read, problems = collect.collect_accounts(project, turn.time, context.run.run_id)
    for problem in problems:
        context.log.error(problem)
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


def _by_month(bars: pl.DataFrame, months: list[tuple[str, int, int]]) -> pl.DataFrame:
    """What the run did, by month; by year where there are many: Dagster repeats it for every partition."""
    form = "%Y-%m" if bars["open_time"].dt.truncate("1mo").n_unique() <= MONTHS_SHOWN else "%Y"
    schema = {"month": pl.String, "changed": pl.Int64, "quarantined": pl.Int64}
    done = pl.DataFrame(months, schema=schema, orient="row").group_by(
        pl.col("month").str.slice(0, 7 if form == "%Y-%m" else 4)
    )
    there = bars.group_by(month=pl.col("open_time").dt.strftime(form)).agg(
        rows=pl.len(), missing=(pl.col("status") == "MISSING").sum()
    )
    return (
        there.join(done.agg(pl.col("changed", "quarantined").sum()), on="month", how="full", coalesce=True)
        .select("month", pl.col("rows", "changed", "quarantined", "missing").fill_null(0))
        .sort("month")
    )


MONTHS_SHOWN = 24
"""How many months a run tells apart."""


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
    yield _revised(job)
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


_REVISIONS_TOLD = timedelta(days=30)


def _revised(job: Work) -> dg.AssetCheckResult:
    """Which closed bars the venues changed lately; filled holes are none."""
    told = Span(floor_bar(job.window.end - _REVISIONS_TOLD), job.window.end)
    rows = job.project.lake.read("candle_revision", span=told, symbols=job.symbols)
    traded = (pl.col("old_status") == "TRADED") | (pl.col("new_status") == "TRADED")
    revised = rows.filter(pl.col("old_observed_at").is_not_null() & traded).sort("open_time", "symbol")
    waiting = revised["recomputed_at"].null_count()
    if revised.is_empty():
        says = "No venue changed a closed bar of the last 30 days."
    else:
        last = revised.row(-1, named=True)
        says = (
            f"{revised.height} bars of the last 30 days were revised by their venue, the last {last['symbol']} at "
            f"{iso(last['open_time'])}; "
            + (f"what depends on {waiting} of them is yet to be computed again." if waiting else "all is recomputed.")
        )
    return dg.AssetCheckResult(
        check_name="no_bar_was_revised",
        passed=revised.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=says,
    )


def _late(job: Work, recent: pl.DataFrame) -> list[str]:
    """The markets whose newest known bar closed too long before the end of the window."""
    known = recent.filter((pl.col("status") != "MISSING") & (pl.col("close_time") > job.window.end - FRESH_BARS * BAR))
    return [symbol for symbol in job.symbols if symbol not in set(known["symbol"])]


def _newest(recent: pl.DataFrame) -> str:
    closed = recent.filter(pl.col("status") != "MISSING")["close_time"].max()
    return iso(closed) if isinstance(closed, datetime) else "none"
