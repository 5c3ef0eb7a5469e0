"""What the operator's grids made, from the stored rows."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mm_dagster.bars import Span, iso
from mm_dagster.evaluation.realised import daily
from mm_dagster.pipeline.project import Project


def marks_of(project: Project, days: Span, symbols: Sequence[str]) -> pl.DataFrame:
    """What each running grid of some markets made on each of some days; see `realised.daily`.

    Args:
        project: configuration and lake.
        days: whole days.
        symbols: the markets.
    """
    lake = project.lake
    rows = lake.sql(
        "SELECT r.grid_id, r.activated_at, r.symbol, e.capital, "
        "date_trunc('day', r.as_of - INTERVAL 15 MINUTE) AS day, "
        "arg_max(r.total_pnl, r.as_of) AS total_pnl, arg_max(r.inventory * r.price, r.as_of) AS exposure "
        f"FROM (FROM grid_risk WHERE {lake.in_force('grid_risk')}) r "
        f"JOIN (FROM grid_episode WHERE {lake.in_force('grid_episode')}) e USING (grid_id, activated_at) "
        f"WHERE e.enabled AND r.total_pnl IS NOT NULL AND r.as_of > '{iso(days.start)}' "
        f"AND r.as_of <= '{iso(days.end)}' AND r.as_of < coalesce(e.closed_at, TIMESTAMPTZ '9999-01-01') "
        "GROUP BY ALL"
    )
    return daily(rows.filter(pl.col("symbol").is_in(list(symbols))))


def closes_of(project: Project, days: Span, symbols: Sequence[str]) -> pl.DataFrame:
    """The last known close of each day of some markets: symbol, day, close in quote currency."""
    lake = project.lake
    rows = lake.sql(
        "SELECT symbol, date_trunc('day', open_time) AS day, arg_max(close, open_time) AS close FROM candles "
        f"WHERE {lake.in_force('candles')} AND close IS NOT NULL AND status <> 'MISSING' "
        f"AND open_time >= '{iso(days.start)}' AND open_time < '{iso(days.end)}' GROUP BY ALL"
    )
    return rows.filter(pl.col("symbol").is_in(list(symbols)))
