"""The page for 3 a.m.: the last ticks, how long each stage took, what failed and why."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, Span, ceil_bar, floor_bar, iso, parse_time
from mm_dagster.history.lake import Lake
from mm_dagster.pictures import glance
from mm_dagster.pipeline.exhibits import Picture
from mm_dagster.pipeline.findings import Finding
from mm_dagster.tables.stages import GROUPS

TICKS_LISTED = 12
"""How many ticks are listed with their stages: each costs a look into its run."""
WENT_WELL = "the_last_ticks_went_well"
"""The name of the check."""


def first_tick(lake: Lake, clock: datetime) -> datetime | None:
    """The first tick that ever ran before a moment; None: none did."""
    first: datetime | None = lake.sql(f"SELECT min(as_of) AS first FROM tick WHERE as_of <= '{iso(clock)}'")["first"][0]
    return first


def count_ticks(lake: Lake, clock: datetime, back: timedelta) -> tuple[int, int]:
    """How many ticks ran to their end, and how many were due; before the first that ever ran none was.

    The quarter hour that has just ended counts when its tick has ended, since it cannot have at once.

    Args:
        lake: the history.
        clock: the moment up to which is counted, UTC.
        back: how far back from the last tick that counts.
    """
    until, first = floor_bar(clock), first_tick(lake, clock)
    if first is None:
        return 0, 0
    rows = lake.read("tick", span=Span(floor_bar(until - back) - BAR, until), columns=["as_of", "finished_at"])
    finished = set(rows.drop_nulls("finished_at")["as_of"])
    if until not in finished:
        until -= BAR
    start = max(first, ceil_bar(until - back + BAR))
    return sum(start <= as_of <= until for as_of in finished), max(0, (until - start) // BAR + 1)


@dataclass(frozen=True)
class TickRun:
    """What is known of the run of a tick.

    Attributes:
        run_id: which run.
        seconds: how long it took; None: it is not over.
        stages: seconds by the room of the flow.
        failure: the first line of its error; None: it did not fail.
    """

    run_id: str
    seconds: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True)
class TickLog:
    """What is said of the last ticks.

    Attributes:
        finding: whether those of the last hour went well.
        rows: a line a tick, newest first; None: no tick ran yet.
        picture: the last twelve hours at a glance.
    """

    finding: Finding
    rows: pl.DataFrame | None = None
    picture: Picture | None = None


def tick_log(lake: Lake, now: datetime, runs: Collection[str], look: Callable[[str], TickRun | None]) -> TickLog:
    """What is said of the ticks before a moment, by what the lake has noted of them, and what is known of their runs.

    Args:
        lake: the history.
        now: the tick that asks, or the present.
        runs: the ticks that a run is known of, as ISO 8601 UTC.
        look: looks into the run of a tick; None: there is none. Asked of those that are listed only.
    """
    before = {name for name in runs if parse_time(name) < now}
    ticks = lake.read("tick").filter(pl.col("as_of") < now).sort("as_of").tail(glance.TICKS_SHOWN)
    noted = {iso(row["as_of"]): row for row in ticks.iter_rows(named=True)}
    named = sorted({*before, *noted}, reverse=True)
    if not named:
        return TickLog(Finding(WENT_WELL, False, "No tick ran before this one."))
    last, began = named[0], named[-1]
    rows = [_row(name, noted.get(name), look(name) if name in before else None) for name in named[:TICKS_LISTED]]
    hour = [iso(parse_time(last) - back * BAR) for back in range(4)]
    failed = [f"{row['tick']}: {row['what']}" for row in rows if row["tick"] in hour and row["what"]]
    failed += [f"{name}: it did not run" for name in hour if name not in named and name > began]
    sentence = "; ".join(failed) or f"The ticks up to {last} ran, ended, and knew every market."
    drawn = Picture(glance.ticks_glance(ticks, parse_time(last)), f"seconds of each tick to {last}")
    return TickLog(Finding(WENT_WELL, not failed, sentence), pl.DataFrame(rows), drawn)


def _row(name: str, noted: Mapping[str, Any] | None, run: TickRun | None) -> dict[str, Any]:
    """One tick: what the lake has noted of it, and what is known of its run."""
    seconds, what = glance.seconds_of(dict(noted) if noted else None), noted["reason"] if noted else None
    stages: Mapping[str, float] = {}
    if run is not None:
        seconds = seconds if run.seconds is None else run.seconds
        stages = run.stages
        what = run.failure or what
    if not what and noted and noted["symbols_failed"]:
        what = f"not known: {', '.join(noted['symbols_failed'])}"
    if not what and noted and noted["finished_at"] is None:
        what = "it did not end"
    return {
        "tick": name,
        "seconds": round(seconds, 1) if seconds is not None else None,
        "of which": ", ".join(f"{stage} {stages[stage]:.1f}" for stage in GROUPS if stage in stages) or None,
        "what": what,
        "run": run.run_id[:8] if run else None,
    }
