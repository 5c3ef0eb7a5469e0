"""A tick and a backfill without Dagster: each stage for itself, in the order of the flow."""

from collections.abc import Sequence
from datetime import datetime

from mm_dagster.bars import Span
from mm_dagster.pipeline import books, collect, costs, judge, measure, portfolio
from mm_dagster.pipeline.follow_bots import follow_bots
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.tick_row import end_tick
from mm_dagster.pipeline.work import MAKERS, Work, makes, plan
from mm_dagster.tables import registry


@makes("account_snapshot")
def _accounts(job: Work) -> object:
    return collect.collect_accounts(job.project, job.tick, job.run_id, is_part=job.is_narrowed)


@makes("grid_bot")
def _bots(job: Work) -> object:
    return follow_bots(job.project, job.tick, job.run_id, is_part=job.is_narrowed)


_MODULES = (collect, measure, judge, portfolio, books, costs)
"""Each notes what it makes when it is imported."""

MADE_BY = {table: MAKERS[table] for table in registry.STAGES if table in MAKERS}
"""What makes a table of a tick, in the order of the flow. None is handed anything by another: what it must know stands
in the lake."""


APART = tuple(table for table in MADE_BY if table not in registry.TOGETHER)
"""What can be made of some markets alone; the rest needs all."""


def run_tick(
    project: Project, as_of: datetime, *, run_id: str = "tick", symbols: Sequence[str] = (), stages: Sequence[str] = ()
) -> None:
    """One tick, without its snapshot.

    Args:
        project: configuration and lake.
        as_of: closing time of the newest bar.
        run_id: names the run in the commits.
        symbols: only these markets; none named: all of the configuration.
        stages: only these; none named: all. They run in the order of the flow in any case.
    """
    for table, make in MADE_BY.items():
        if table in stages or not stages:
            make(plan(project, run_id, as_of=as_of, symbols=symbols))
    if (not stages or "exit_state" in stages) and not symbols:
        # Of some markets it is a part, and done when all are.
        end_tick(plan(project, run_id, as_of=as_of))


def run_days(
    project: Project, days: Span, *, run_id: str = "days", symbols: Sequence[str] = (), stages: Sequence[str] = ()
) -> None:
    """Whole days, like a backfill; see `run_tick`."""
    for table, make in MADE_BY.items():
        if table in stages or not stages:
            make(plan(project, run_id, window=days, symbols=symbols))
