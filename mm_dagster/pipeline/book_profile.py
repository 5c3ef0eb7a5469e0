"""What books are like at each hour, from the features of the four weeks before: a row a market, day and hour."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from mm_dagster.bars import Span, iso, midnight
from mm_dagster.books.profile import DAYS, profiled
from mm_dagster.config.sources import digest
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.book_places import now_here
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.registry import CODE_VERSIONS, conform, empty

COLUMNS = (
    "exchange", "symbol", "as_of", "in_sync_share", "spread_bp", "bid_depth_10bp", "bid_depth_25bp", "bid_depth_50bp",
    "recovery_ms", "config_hash",
)  # fmt: skip


def keep_profiles(project: Project, run_id: str, window: Span) -> pl.DataFrame:
    """Makes the profiles of the days that end in a window; those that are made of the same stay.

    Args:
        project: configuration and lake.
        run_id: names the run in the commits.
        window: whose days.

    Returns:
        The newest profiles.
    """
    days = [day for day in _midnights(window) if day <= now_here()]
    if not days:
        return empty("liquidity_profile")
    span = Span(days[0] - timedelta(days=DAYS), days[-1])
    rows = project.lake.read("book_features", span=span, columns=list(COLUMNS))
    found = [_profile(rows, day) for day in days]
    every = pl.concat([empty("liquidity_profile"), *(one for one in found if one.height)])
    if every.is_empty():
        return every
    with project.turn_lock():
        commit = Commit(run_id, "liquidity_profile", f"{iso(days[0])} to {iso(days[-1])}")
        project.lake.upsert("liquidity_profile", every, commit=commit)
    return every.filter(pl.col("as_of") == pl.col("as_of").max())


def _midnights(window: Span) -> list[datetime]:
    first = midnight(window.start.date())
    days = (window.end - first) // timedelta(days=1)
    return [first + timedelta(days=number) for number in range(1, days + 1)]


def _profile(rows: pl.DataFrame, day: datetime) -> pl.DataFrame:
    """The profiles at the end of a day, of the markets that were recorded on it."""
    mine = rows.filter((pl.col("as_of") > day - timedelta(days=DAYS)) & (pl.col("as_of") <= day))
    recorded = mine.filter(pl.col("as_of") > day - timedelta(days=1)).select("exchange", "symbol").unique()
    mine = mine.join(recorded, on=["exchange", "symbol"], how="semi")
    if mine.is_empty():
        return empty("liquidity_profile")
    hashes = {
        (exchange, symbol): digest(sorted(zip((iso(at) for at in part["as_of"]), part["config_hash"], strict=True)))
        for (exchange, symbol), part in mine.group_by("exchange", "symbol")
    }
    made_of = pl.DataFrame(
        [(*name, made) for name, made in hashes.items()],
        schema={"exchange": pl.String, "symbol": pl.String, "config_hash": pl.String},
        orient="row",
    )
    told = profiled(mine, day).join(made_of, on=["exchange", "symbol"])
    told = told.with_columns(code_version=pl.lit(CODE_VERSIONS["liquidity_profile"]))
    return conform(told, "liquidity_profile")
