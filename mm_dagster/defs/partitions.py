"""Which bars a run works on: daily partitions, the ticks within them, and what they need from before."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import dagster as dg

from mm_dagster.bars import BAR, FIRST_DAY, Span, iso
from mm_dagster.defs.describe import stage_asset
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline.work import Work, plan
from mm_dagster.tables.registry import STAGES

DAILY = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1, timezone="UTC", fmt="%Y-%m-%d")
"""By open date, UTC; today's partition exists from its first bar on."""


def history_asset(
    table: str,
    *,
    kinds: set[str],
    checks: Mapping[str, str] | None = None,
    also_after: Sequence[str] = (),
    cadence: str = "quarter_hour",
) -> Callable[[Callable[..., dg.MaterializeResult]], dg.AssetsDefinition]:
    """An asset that is a table of the history: what all of them have in common.

    Args:
        table: its name.
        kinds: what it is made with.
        checks: what each of its checks says when it passes, by name.
        also_after: tables that are made before it in the same run and no row but a live one depends on.
        cadence: how often it is made, see `stage_asset`.
    """
    return stage_asset(
        deps=[*STAGES[table].after, *also_after],
        checks=checks,
        kinds={*kinds, "parquet"},
        cadence=cadence,
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=STAGES[table].code_version,
    )


def work(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> Work:
    """What this run is to do.

    Raises:
        dg.Failure: a symbol of the run is not in the configuration.
    """
    tick = turn.time
    partitions = context.partition_time_window if tick is None else None
    try:
        return plan(
            project,
            context.run.run_id,
            window=Span(partitions.start, partitions.end) if partitions else None,
            as_of=tick,
            symbols=turn.symbols,
            again=turn.again,
        )
    except ValueError as error:
        raise dg.Failure(str(error)) from None


def range_tags(days: Span) -> dict[str, str]:
    """The tags that make one run of several daily partitions."""
    return {
        "dagster/asset_partition_range_start": f"{days.start:%Y-%m-%d}",
        "dagster/asset_partition_range_end": f"{days.end - BAR:%Y-%m-%d}",
    }


def partition_of(as_of: datetime) -> str:
    """The partition of a tick: the day in which its last closed bar opened."""
    return iso(as_of - BAR)[:10]
