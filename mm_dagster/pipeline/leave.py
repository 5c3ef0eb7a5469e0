"""The plan to leave a grid, from the stored rows."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar
from mm_dagster.config.grid import GridConfig
from mm_dagster.errors import ForeseenError
from mm_dagster.execution import plan
from mm_dagster.execution.costs import HORIZONS
from mm_dagster.execution.plan import Plan
from mm_dagster.pipeline.project import Project


class NoPlan(ForeseenError):
    """There is no plan to give; one line, with the remedy."""


@dataclass(frozen=True)
class Planned:
    """A plan, and the grid that it is for."""

    grid: GridConfig
    plan: Plan


def plan_of(project: Project, grid_id: str, as_of: datetime | None, over: int | None) -> Planned:
    """The plan by the newest costs of a running grid, or by those of a moment of the past.

    Args:
        project: configuration and lake.
        grid_id: an id of the configuration.
        as_of: the moment; None: the present.
        over: minutes, one of HORIZONS; None: the least cost.

    Raises:
        NoPlan: the grid does not run, or nothing of it is stored.
    """
    grid = next(one for one in project.config.grids if one.id == grid_id)
    if not grid.enabled:
        raise NoPlan(f"grid {grid_id}: it does not run, so there is nothing to leave")
    if over is not None and over not in HORIZONS:
        raise NoPlan(f"--over {over}: the costs are known for {', '.join(map(str, HORIZONS))} minutes; choose one")
    clock = as_of or project.venues.clock(grid.symbol)
    end = floor_bar(clock)
    span = Span(max(grid.first_as_of - BAR, end - 96 * BAR), end) if end > grid.first_as_of - BAR else None
    costs = project.lake.read("exit_cost", span=span, grids=[grid_id]) if span else None
    if costs is None or costs.is_empty():
        raise NoPlan(
            f"grid {grid_id}: no cost of leaving is stored of the day before {end:%Y-%m-%d %H:%M}Z; a tick or "
            "`mm backfill` computes it"
        )
    costs = costs.filter(pl.col("as_of") == pl.col("as_of").max())
    newest: datetime = costs["as_of"][0]
    risk = project.lake.read("grid_risk", span=Span(newest - BAR, newest), grids=[grid_id])
    if risk.is_empty():
        raise NoPlan(f"grid {grid_id}: what it holds is not stored; a tick or `mm backfill` computes it")
    orders = project.config.orders
    limits = plan.Limits(orders.soft_bp, orders.hard_bp, orders.risk_aversion)
    return Planned(grid, plan.propose(costs.to_dicts(), risk.row(0, named=True), clock, over, limits))
