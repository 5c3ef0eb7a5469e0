"""What a digest says beside the states: ticks, money, own alerts, all grids together; gathered from the lake."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import polars as pl

from mm_dagster.alerts.digest import DAY, opens
from mm_dagster.alerts.digest_words import Change, Day
from mm_dagster.alerts.responses import Answers
from mm_dagster.alerts.together import named_limits
from mm_dagster.bars import BAR, Span, floor_bar
from mm_dagster.config.grid import GridConfig
from mm_dagster.evaluation.outcomes import hit_rate
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.tick_log import count_ticks, first_tick
from mm_dagster.pipeline.together import Together, in_a_line, together

logger = logging.getLogger(__name__)

T = TypeVar("T")


def day_of(project: Project, clock: datetime, grids: Sequence[GridConfig], answers: Answers) -> Day | None:
    """What is known of the 24 hours before a moment; None: nothing ran here yet when the digest was due.

    Args:
        project: where the rows are.
        clock: the moment, UTC.
        grids: those that the digest tells of.
        answers: the operator's newest answer in each episode.
    """
    first = first_tick(project.lake, clock)
    if first is None or first > opens(clock, project.config.alerts):
        return None
    running = [grid for grid in grids if grid.enabled]
    stopped = {grid.id for grid in running if answers.get((grid.id, grid.activated_at), {}).get("action") == "stopped"}
    nights: list[Together] = _unless_it_fails(lambda: fresh_together(project, clock), [])
    return Day(
        ticks=_unless_it_fails(lambda: count_ticks(project.lake, clock, DAY), None),
        changes=_unless_it_fails(lambda: changes(project, clock, [g for g in running if g.id not in stopped]), []),
        right=_unless_it_fails(lambda: _right(project, grids), None),
        together=in_a_line(nights),
        breached=[name for one in nights for name in named_limits(one.limits)],
        stopped=frozenset(stopped),
    )


def _unless_it_fails(ask: Callable[[], T], otherwise: T) -> T:
    """What is asked for. Nothing of it is ever worth losing the digest for."""
    try:
        return ask()
    except Exception:
        logger.exception("a part of the digest is left out")
        return otherwise


def fresh_together(project: Project, clock: datetime) -> list[Together]:
    """What all grids may lose together, where it is fresh."""
    since = clock - timedelta(minutes=project.config.alerts.blind_after_minutes)
    return [one for one in together(project, clock) if one.risk["as_of"] > since]


def changes(project: Project, clock: datetime, grids: Sequence[GridConfig]) -> list[Change]:
    """How the total PnL changed in 24 hours, by quote currency, of the grids of which both ends are known.

    Args:
        project: where the rows are.
        clock: the moment, UTC. A total that is too old to be news is none of now.
        grids: those that run.
    """
    if not grids:
        return []
    names = [grid.id for grid in grids]
    until = floor_bar(clock)
    window = timedelta(minutes=project.config.alerts.max_age_minutes)
    columns = ["grid_id", "activated_at", "as_of", "total_pnl"]

    def known(span: Span) -> pl.DataFrame:
        return project.lake.read("grid_risk", span=span, grids=names, columns=columns).drop_nulls("total_pnl")

    now = known(Span(floor_bar(until - window), until)).sort("as_of").group_by("grid_id", "activated_at").last()
    then = known(Span(floor_bar(until - window) - DAY - BAR, until - DAY)).with_columns(pl.col("as_of") + DAY)
    both = now.join(then, on=["grid_id", "activated_at", "as_of"], suffix="_then")
    change = {
        (row["grid_id"], row["activated_at"]): row["total_pnl"] - row["total_pnl_then"]
        for row in both.iter_rows(named=True)
    }
    found = []
    for quote in sorted({grid.symbol.partition("-")[2] for grid in grids}):
        mine = [grid for grid in grids if grid.symbol.partition("-")[2] == quote]
        told = [grid for grid in mine if (grid.id, grid.activated_at) in change]
        if told:
            amount = sum(change[grid.id, grid.activated_at] for grid in told)
            found.append(Change(quote, amount, sum(grid.capital for grid in told), len(told), len(mine)))
    return found


def _right(project: Project, grids: Sequence[GridConfig]) -> tuple[int, int, int] | None:
    """Of the alerts that were sent: how many were right, of how many that is known, and how many came too late."""
    mine = pl.col("grid_id").is_in([grid.id for grid in grids])
    outcomes = project.lake.read("alert_outcome").filter(mine & pl.col("told"))["outcome"]
    own = hit_rate(outcomes)
    return (own.hits, own.known, int((outcomes == "LATE").sum())) if own.known else None
