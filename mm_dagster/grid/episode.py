"""The life of a grid from one activation to the next: what it was configured with, and when it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster.config.grid import GridConfig
from mm_dagster.tables import registry
from mm_dagster.tables.market import MarketRules

_KEYS = {
    "symbol": "symbol",
    "lower": "lower",
    "upper": "upper",
    "levels": "levels",
    "level_convention": "level_convention",
    "spacing": "spacing",
    "stop": "stop",
    "capital": "capital",
    "fee_maker": "fees.maker",
    "fee_taker": "fees.taker",
    "fee_paid_in": "fees.paid_in",
    "slippage": "fees.slippage",
}
"""Column of `grid_episode` -> key of the grid's file, for all that must not change within an episode."""


def episode_of(grid: GridConfig, first_seen: datetime, rules: MarketRules) -> pl.DataFrame:
    """The open episode of a grid as it is configured: one row of `grid_episode`.

    Args:
        grid: the grid.
        first_seen: `as_of` of its first evaluation.
        rules: what its venue asked of an order then. The episode is replayed with them, whatever the venue asks later.
    """
    row = {
        "grid_id": grid.id,
        "activated_at": grid.activated_at,
        "enabled": grid.enabled,
        "first_seen": first_seen,
        **_configured(grid),
        **asdict(rules),
    }
    return registry.conform(pl.DataFrame([row]), "grid_episode")


def changed_keys(grid: GridConfig, stored_row: Mapping[str, Any]) -> list[str]:
    """Keys of the grid's file whose values are not those that its episode began with.

    Whether it is enabled does not count: switching off ends an episode, see `closings`. Nor does a key that was not
    there yet when the row was stored, or that leaves to a model what the row has as a number: what a sale costs is no
    property of the grid.

    Args:
        grid: the grid as configured now.
        stored_row: the row of `grid_episode` with the same `grid_id` and `activated_at`.

    Returns:
        Names like `lower` or `fees.maker`, in the order of the file; empty when nothing changed.
    """
    now = _configured(grid)
    return [
        key
        for column, key in _KEYS.items()
        if None not in (stored_row[column], now[column]) and now[column] != stored_row[column]
    ]


def rules_of(stored_row: Mapping[str, Any]) -> MarketRules:
    """What the venue asked of an order when the episode was first seen, from its row of `grid_episode`."""
    return MarketRules(**{field.name: stored_row[field.name] for field in fields(MarketRules)})


def grid_of(stored_row: Mapping[str, Any]) -> GridConfig:
    """The grid as it was first seen, from its row of `grid_episode`.

    Raises:
        ValidationError: the configuration would refuse it by now.
    """
    names = ("symbol", "activated_at", "lower", "upper", "levels", "level_convention", "spacing", "stop", "capital")
    fees = {"maker": stored_row["fee_maker"], "taker": stored_row["fee_taker"], "paid_in": stored_row["fee_paid_in"]}
    slippage = {} if stored_row["slippage"] is None else {"slippage": stored_row["slippage"]}
    return GridConfig.model_validate(
        {
            "id": stored_row["grid_id"],
            "enabled": stored_row["enabled"],
            **{name: stored_row[name] for name in names},
            "fees": {**fees, **slippage},
        }
    )


def with_rules(stored_row: Mapping[str, Any], rules: MarketRules) -> pl.DataFrame:
    """The same row of `grid_episode`, with what its venue asks of an order."""
    return registry.conform(pl.DataFrame([{**stored_row, **asdict(rules)}]), "grid_episode")


def closings(stored: pl.DataFrame, grids: Sequence[GridConfig], as_of: datetime) -> pl.DataFrame:
    """The open episodes that have ended, with `closed_at` and `closed_by` set.

    An episode ends by a newer activation of the same grid (`reactivated`, at that activation), by its grid being
    switched off (`disabled`) or by leaving the configuration (`removed`), the last two at `as_of`; by the
    operator's word it ends in `stopped`. One that was disabled from the start does not end by being so.

    Args:
        stored: rows of `grid_episode`; those already closed are left alone.
        grids: every configured grid.
        as_of: the evaluation that found out.

    Returns:
        Only the rows that change, as rows of `grid_episode`, by key.
    """
    configured = {grid.id: grid for grid in grids}
    activations: dict[str, set[datetime]] = {}
    for grid in grids:
        activations.setdefault(grid.id, set()).add(grid.activated_at)
    for grid_id, activated_at in stored.select("grid_id", "activated_at").iter_rows():
        activations.setdefault(grid_id, set()).add(activated_at)

    ended = []
    for row in stored.filter(pl.col("closed_at").is_null()).iter_rows(named=True):
        newer = [time for time in activations[row["grid_id"]] if time > row["activated_at"]]
        now = configured.get(row["grid_id"])
        if newer:
            ended.append({**row, "closed_at": min(newer), "closed_by": "reactivated"})
        elif now is None or now.activated_at != row["activated_at"]:
            ended.append({**row, "closed_at": as_of, "closed_by": "removed"})
        elif row["enabled"] and not now.enabled:
            ended.append({**row, "closed_at": as_of, "closed_by": "disabled"})
    frame = pl.DataFrame(ended, schema=registry.dtypes("grid_episode"), orient="row")
    return frame.sort("grid_id", "activated_at")


def stopped(stored: pl.DataFrame, answers: Mapping[tuple[str, datetime], Mapping[str, Any]]) -> pl.DataFrame:
    """The episodes that end, or go on, because the operator says so.

    One that the operator stopped is closed at that time (`stopped`), unless something closed it before; one that they
    reopened is open again. It follows from the answers alone, so whatever computes it finds the same.

    Args:
        stored: rows of `grid_episode`.
        answers: the newest row of `operator_response` of each episode.

    Returns:
        Only the rows that change, as rows of `grid_episode`, by key.
    """
    changed = []
    for row in stored.iter_rows(named=True):
        answer = answers.get((row["grid_id"], row["activated_at"]))
        if answer is None:
            continue
        if answer["action"] == "stopped" and row["closed_by"] in (None, "stopped"):
            now = {"closed_at": answer["at"], "closed_by": "stopped"}
        elif answer["action"] != "stopped" and row["closed_by"] == "stopped":
            now = {"closed_at": None, "closed_by": None}
        else:
            continue
        if any(row[name] != value for name, value in now.items()):
            changed.append(row | now)
    return pl.DataFrame(changed, schema=registry.dtypes("grid_episode"), orient="row").sort("grid_id", "activated_at")


def _configured(grid: GridConfig) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column, key in _KEYS.items():
        value: Any = grid
        for part in key.split("."):
            value = getattr(value, part)
        values[column] = value
    return values
