"""What is to be put right of the past, and whose turn it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, Span, iso, midnight, parse_time
from mm_dagster.pipeline.completeness import holes
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.reach import dependents
from mm_dagster.portfolio.limits import LEAD_BARS
from mm_dagster.portfolio.risk import lead as portfolio_lead


@dataclass(frozen=True)
class Repair:
    """Days to compute again.

    Attributes:
        name: tells it from others; the same as long as it is about the same.
        span: whole days.
        symbols: markets.
        absent: how much is to be put right: rows that are missing, or bars that changed.
        why: in one word.
    """

    name: str
    span: Span
    symbols: tuple[str, ...]
    absent: int
    why: str


FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=15), timedelta(days=7)
"""How long a repair that changed nothing waits, first and at most."""


def repairs(project: Project, now: datetime) -> list[Repair]:
    """What is to be put right, oldest first: by market what is stale, by month what is missing."""
    config, lake = project.config, project.lake
    found = []
    pending = lake.read("candle_revision", symbols=config.symbols).filter(pl.col("recomputed_at").is_null())
    if pending.height:
        newest = lake.newest("regime_verdict")
        for symbol, rows in pending.sort("symbol").partition_by("symbol", as_dict=True, maintain_order=True).items():
            name = str(symbol[0])
            first: datetime = rows["open_time"].min()  # type: ignore[assignment]
            last: datetime = rows["open_time"].max()  # type: ignore[assignment]
            until = newest.get(name, first)
            nights = config.portfolio.window_days
            ends = [dependents(opened, config.grids_on(name), until, nights).end for opened in (first, last)]
            span = Span(midnight(first.date()), midnight((max(ends) - BAR).date()) + timedelta(days=1))
            found.append(Repair(f"{name} {iso(first)}", span, (name,), rows.height, "revised"))
    # What is newer is the tick's. Whole days, so that of a market that is dead no more is missing every quarter hour.
    until = midnight((now - timedelta(days=config.history.catch_up_days - 1)).date())
    # A recording does not grow.
    growing = [symbol for symbol in config.symbols if config.market(symbol).kind != "recorded"]
    missing = holes(lake, config, until).filter(pl.col("symbol").is_in(growing))
    months = missing.group_by(month=pl.col("day").dt.truncate("1mo")).agg(
        first=pl.col("day").min(),
        last=pl.col("day").max(),
        symbols=pl.col("symbol").unique().sort(),
        absent=pl.col("absent").sum(),
    )
    for row in months.iter_rows(named=True):
        span = Span(row["first"], row["last"] + timedelta(days=1))
        found.append(Repair(f"{row['month']:%Y-%m}", span, tuple(row["symbols"]), row["absent"], "missing"))
    found += _nights(project, now, growing)
    return sorted(found, key=lambda repair: (repair.span.start, repair.name))


def _nights(project: Project, now: datetime, growing: Sequence[str]) -> list[Repair]:
    """The days before the history of markets with running grids that a bad night of all grids is measured on.

    A tick does not wait for them: a newcomer's first states come from the warm-up alone, and these days after it.
    """
    config = project.config
    back = portfolio_lead(config.portfolio) + LEAD_BARS
    wanted = midnight((now - back * BAR).date())
    symbols = sorted(
        {
            one.symbol
            for one in config.grids
            if one.enabled and one.symbol in growing and config.in_portfolio(one.symbol)
        }
    )
    rows = project.lake.sql(
        f"SELECT symbol, min(as_of) AS first FROM regime_verdict WHERE {project.lake.in_force('regime_verdict')} "
        "GROUP BY symbol"
    )
    firsts = {symbol: midnight((first - BAR).date()) for symbol, first in rows.iter_rows() if symbol in symbols}
    months: dict[Span, list[str]] = {}
    for symbol, first in sorted(firsts.items()):
        for month in Span(wanted, max(first, wanted)).months():
            months.setdefault(month, []).append(symbol)
    return [
        Repair(f"nights {iso(month.start)[:10]}", month, tuple(names), month.bars // DAY_BARS * len(names), "nights")
        for month, names in months.items()
    ]


def choose(
    found: Sequence[Repair], tried: Mapping[str, Sequence[Any]], now: datetime
) -> tuple[Repair | None, dict[str, list[Any]]]:
    """The oldest repair whose turn it is: one that changed nothing is asked for again after twice as long as before.

    Args:
        found: what is to be put right, oldest first.
        tried: by name, how much was absent when it was asked for, when that may be again, and the wait, seconds.
        now: the time.

    Returns:
        What to ask for, and the new `tried`, in which nothing is kept of what is whole by now.
    """
    kept = {repair.name: list(tried[repair.name]) for repair in found if repair.name in tried}
    for repair in found:
        absent, due, wait = kept.get(repair.name, (None, "", 0.0))
        if absent != repair.absent:
            wait = FIRST_WAIT.total_seconds()
        elif parse_time(due) > now:
            continue
        else:
            wait = min(2 * wait, LONGEST_WAIT.total_seconds())
        kept[repair.name] = [repair.absent, iso(now + timedelta(seconds=wait)), wait]
        return repair, kept
    return None, kept


def second_look(today: datetime) -> Span:
    """The last two whole days, which the venues are asked for once more: some revise their bars hours later."""
    return Span(today - timedelta(days=2), today)
