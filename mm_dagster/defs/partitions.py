"""Which bars a run works on: daily partitions, the ticks within them, and what they need from before."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import dagster as dg

from mm_dagster.bars import BAR, FIRST_DAY, Span, floor_bar, iso
from mm_dagster.defs.describe import stage_asset
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline.work import Work
from mm_dagster.tables import CODE_VERSIONS

DAILY = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1, timezone="UTC", fmt="%Y-%m-%d")
"""By open date, UTC; today's partition exists from its first bar on."""


def history_asset(
    table: str, *, kinds: set[str], deps: Sequence[str] = (), checks: Mapping[str, str] | None = None
) -> Callable[[Callable[..., dg.MaterializeResult]], dg.AssetsDefinition]:
    """An asset that is a table of the history: what all of them have in common.

    Args:
        table: its name in tables.TABLES.
        kinds: what it is made with.
        deps: the tables before it.
        checks: what each of its checks says when it passes, by name.
    """
    return stage_asset(
        deps=list(deps),
        checks=checks,
        kinds={*kinds, "parquet"},
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=CODE_VERSIONS[table],
    )


def work(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> Work:
    """What this run is to do.

    Raises:
        dg.Failure: a symbol of the run is not in the configuration.
    """
    config = project.config
    unknown = [symbol for symbol in turn.symbols if symbol not in config.symbols]
    if unknown:
        raise dg.Failure(f"symbols: {unknown[0]!r} is not in markets.yaml; there are {', '.join(config.symbols)}")
    tick = turn.time
    if tick is None:
        partitions = context.partition_time_window
        window = Span(partitions.start, partitions.end)
    else:
        window = Span(floor_bar(tick) - timedelta(days=config.history.catch_up_days), floor_bar(tick))
    return Work(
        project=project,
        config=config,
        symbols=tuple(turn.symbols or config.symbols),
        window=window,
        tick=floor_bar(tick) if tick else None,
        run_id=context.run.run_id,
        again=turn.again,
    )


def range_tags(days: Span) -> dict[str, str]:
    """The tags that make one run of several daily partitions."""
    return {
        "dagster/asset_partition_range_start": f"{days.start:%Y-%m-%d}",
        "dagster/asset_partition_range_end": f"{days.end - BAR:%Y-%m-%d}",
    }


def partition_of(as_of: datetime) -> str:
    """The partition of a tick: the day in which its last closed bar opened."""
    return iso(as_of - BAR)[:10]
