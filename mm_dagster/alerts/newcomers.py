"""A grid bot that runs at an exchange and that no file watches: said once, since nobody else would."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.alerts.alert import EVERY_GRID, HELD_BACK, PLAIN, Alert
from mm_dagster.alerts.parts import Part, text_of, title_of
from mm_dagster.alerts.pending import again, retry
from mm_dagster.bars import iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables import registry
from mm_dagster.text import plain_text

KIND = "SETUP"
UNWATCHED = "UNWATCHED"
"""How the state begins of what is said of such a bot; then venue and number follow."""

FRESH = timedelta(minutes=30)
"""How old what was told of a bot may be to be news."""


def due(
    bots: pl.DataFrame, grids: Collection[GridConfig], ledger: pl.DataFrame, clock: datetime, timezone: str
) -> list[Alert]:
    """What is to be said of bots that nobody watches.

    Args:
        bots: rows of `grid_bot` of lately.
        grids: all grids of the configuration, running or not. One that is no `source` but has the same market and
            bounds is taken for the bot.
        ledger: all rows of `notification`.
        clock: the tick's clock, UTC.
        timezone: the operator's.
    """
    sources = {(grid.source.exchange, grid.source.id) for grid in grids if grid.source}
    alike = {(grid.symbol, grid.lower, grid.upper) for grid in grids}
    newest = bots.sort("as_of").group_by("venue", "bot_id", maintain_order=True).last()
    known = {row["alert_id"]: row for row in ledger.filter(pl.col("kind") == KIND).iter_rows(named=True)}
    found: list[Alert] = []
    for row in newest.sort("venue", "bot_id").iter_rows(named=True):
        watched = (row["venue"], row["bot_id"]) in sources or (row["symbol"], row["lower"], row["upper"]) in alike
        if watched or row["state"] != "running" or clock - row["as_of"] > FRESH:
            continue
        alert_id = registry.identity(KIND, UNWATCHED, row["venue"], row["bot_id"])
        noted = known.get(alert_id)
        if noted is None:
            found.append(_new(alert_id, row, clock, timezone))
        elif noted["status"] == "PENDING":
            found += retry(noted, clock)
        elif noted["status"] == "SUPPRESSED" and (noted["detail"] or "").startswith(HELD_BACK):
            found.append(again(noted, "PENDING", None))
    return found


def _new(alert_id: str, row: Mapping[str, Any], clock: datetime, timezone: str) -> Alert:
    venue, bot_id, symbol = row["venue"], row["bot_id"], row["symbol"]
    lower, upper, capital = (plain_text(row[name]) for name in ("lower", "upper", "capital"))
    fact = f"A grid of {symbol} runs on {venue} since {iso(row['created_at'])}"
    size = f"{lower} to {upper}, {row['levels']} grids, {capital} {symbol.partition('-')[2]}"
    parts = [
        Part(0, (f"`mm grid add --from {venue} {bot_id}` watches it.",), must=True),
        Part(1, (f"{fact}: {size}.", f"{fact}."), must=True),
        Part(2, ("Nobody tells you when to leave it.",), begins_line=False),
        Part(3, ("This is said once.",), begins_line=False),
    ]
    return Alert(
        alert_id=alert_id,
        kind=KIND,
        grid_id=EVERY_GRID,
        symbol=EVERY_GRID,
        activated_at=row["created_at"],
        as_of=row["as_of"],
        state=f"{UNWATCHED} {venue} {bot_id}",
        state_since=row["created_at"],
        priority=PLAIN,
        title=title_of(f"NOT WATCHED · a grid of {symbol} on {venue}"),
        message=text_of(parts, timezone),
        found_at=clock,
    )
