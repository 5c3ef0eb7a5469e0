"""Episodes of the grids: which are not judged, changed without a new activation, and how venues write their prices."""

from collections.abc import Iterable
from datetime import datetime

import polars as pl

from mm_dagster.bars import iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.grid import episode
from mm_dagster.history.lake import Lake


def refusals(lake: Lake, grids: Iterable[GridConfig]) -> dict[str, str]:
    """What to do about each grid whose configuration is not the one that its episode was first seen with.

    Every stage and every page asks here, so that none judges what another refused, in whichever run it is.

    Args:
        lake: the history.
        grids: as they are configured.

    Returns:
        A sentence by grid; nothing of a grid that is as it was, or was never seen.
    """
    stored = lake.read("grid_episode")
    known = {(row["grid_id"], row["activated_at"]): row for row in stored.iter_rows(named=True)}
    refused = {}
    for grid in grids:
        row = known.get((grid.id, grid.activated_at))
        changed = episode.changed_keys(grid, row) if row else []
        if changed:
            refused[grid.id] = (
                f"{grid.id}: {', '.join(changed)} changed since {iso(grid.activated_at)}; a changed grid is a new "
                "episode: give it a new activated_at"
            )
    return refused


def ended(lake: Lake, grids: Iterable[GridConfig]) -> dict[str, datetime]:
    """When each grid that is switched off now, and ran since the same activation, was ended, by grid.

    What it did before then is history: it is not told anew of a grid that does not run.

    Args:
        lake: the history.
        grids: as they are configured.
    """
    off = [grid for grid in grids if not grid.enabled]
    if not off:
        return {}
    ran = lake.read("grid_episode").filter(pl.col("enabled") & pl.col("closed_at").is_not_null())
    closed = {(row["grid_id"], row["activated_at"]): row["closed_at"] for row in ran.iter_rows(named=True)}
    return {grid.id: closed[grid.id, grid.activated_at] for grid in off if (grid.id, grid.activated_at) in closed}


def price_ticks(lake: Lake) -> dict[tuple[str, datetime], float | None]:
    """By grid and activation the step between the prices of its venue, quote currency; None: not known."""
    rows = lake.read("grid_episode", columns=["grid_id", "activated_at", "price_tick"])
    return {(row["grid_id"], row["activated_at"]): row["price_tick"] for row in rows.iter_rows(named=True)}
