"""Stage 1, market: closed candles from the venues, labelled and checked."""

from datetime import datetime

import dagster as dg
import polars as pl

from mm_dagster.defs.describe import checked, preview, stage_asset
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import collect, exhibits, findings
from mm_dagster.pipeline.follow_bots import follow_bots


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
    for symbol, error in done.problems.items():
        context.log.error(error, extra={"symbol": symbol})
    bars = project.lake.read("candles", span=job.window, symbols=job.symbols)
    return dg.MaterializeResult(
        metadata={
            "rows_changed": sum(changed for changed, _ in done.months.values()),
            "rows_quarantined": sum(quarantined for _, quarantined in done.months.values()),
            "newest_bar": exhibits.newest_bar(bars),
            "preview": preview(bars.tail(8)),
            **({"by_month": preview(exhibits.by_month(bars, done.months))} if job.tick is None else {}),
            **({"errors": "; ".join(done.problems.values())} if done.problems else {}),
            **({"notes": "; ".join(done.notes.values())} if done.notes else {}),
        },
        check_results=[checked(finding) for finding in findings.of_candles(job, bars, done.problems)],
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
    read, problems = collect.collect_accounts(project, turn.time, context.run.run_id, is_part=bool(turn.symbols))
    for problem in problems:
        context.log.error(problem)
    shown = read.select("venue", "as_of", "complete", pl.col("balances", "open_orders", "fills").list.len())
    return dg.MaterializeResult(
        metadata={"preview": preview(shown)}, check_results=[checked(findings.of_accounts(read, problems))]
    )


@stage_asset(
    kinds={"ccxt", "parquet"},
    checks={
        "bots_are_read": "Every bot that a grid names as its source was read, and agrees with its file. If not: the "
        "sentence says what to do; until then what the grid holds is modelled from candles.",
    },
)
def grid_bot(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """What exchanges tell of the grid bots that grids name as their `source`, at every live tick.

    Read with a read-only key of OKX, Bitget or Bybit. A bot that stopped there is a response `stopped`, a changed one a
    new episode of its grid; either counts when it was told twice. Without keys there are no rows.
    """
    done = follow_bots(project, turn.time, context.run.run_id, is_part=bool(turn.symbols))
    for problem in done.problems:
        context.log.error(problem)
    for sentence in done.done:
        context.log.info(sentence)
    shown = ["venue", "bot_id", "symbol", "state", "inventory", "cash", "grid_profit", "total_pnl", "fills"]
    return dg.MaterializeResult(
        metadata={"preview": preview(done.rows.select(shown)), **({"done": "; ".join(done.done)} if done.done else {})},
        check_results=[checked(findings.of_bots(done.rows, done.problems))],
    )
