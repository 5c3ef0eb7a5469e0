"""A backfill by Dagster's queue: runs of groups of markets, wherever a worker is free, and how they come on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.cli.app import CommandError, chosen, err, project_here
from mm_dagster.cli.daemon import daemon_beat, first_cause
from mm_dagster.cli.printing import days_done, print_rows
from mm_dagster.retries import retry_context
from mm_dagster.text import counted

if TYPE_CHECKING:
    import dagster as dg
    import polars as pl

    from mm_dagster.defs.internals.asked import Part
    from mm_dagster.pipeline.groups import Group

MARKETS_A_RUN = 25
"""So that a run ends in minutes, and is soon made again when its worker died."""
LOOK_SECONDS = 2.0
SILENT_SECONDS = 120.0
"""How long Dagster's storage may not answer before this command gives up."""
TOGETHER = "together"


@dataclass(frozen=True)
class Standing:
    """How a part of a backfill stands.

    Attributes:
        state: of its last run, in Dagster's words; NOT_STARTED: there is none yet.
        is_over: whether nothing more happens to it.
        share: how much of its last run is done, 0 to 1.
        attempts: how many runs there were.
        seconds: from the first begin to the last end; None: it is not over.
        run_id: of the last one.
    """

    state: str = "NOT_STARTED"
    is_over: bool = False
    share: float = 0.0
    attempts: int = 0
    seconds: float | None = None
    run_id: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it ended well."""
        return self.state == "SUCCESS"


def backfill_by_queue(
    days: Span, symbols: Sequence[str], lacking: pl.DataFrame | None, markets_a_run: int, *, as_json: bool
) -> None:
    """Asks the daemon for a run of each group, then for one of what needs all, and shows how they come on.

    Args:
        days: whole days.
        symbols: markets.
        lacking: which of them are not whole, as of `completeness.unfinished`; None: all are made again.
        markets_a_run: at most.
        as_json: whether the rows are printed as JSON.

    Raises:
        CommandError: Dagster's daemon does not run, or a group failed for good.
    """
    from mm_dagster.pipeline.groups import groups

    if lacking is not None:
        if lacking.is_empty():
            err.print(f"all days of {counted(len(symbols), 'market')} are whole; --again computes them anew")
            return
        symbols = lacking["symbol"].unique().to_list()
        days = Span(lacking["day"].min(), lacking["day"].max() + timedelta(days=1))  # type: ignore[arg-type, operator]
    _make(days, groups(symbols, markets_a_run), again=lacking is None, as_json=as_json)


def _make(days: Span, parts: Sequence[Group], *, again: bool, as_json: bool) -> None:
    import dagster as dg

    daemon_beat(project_here().now() - project_here().ahead)
    chosen.when_stopped = "what ended stays, what waited is cancelled, and the same command goes on from there"
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}"
    with dg.DagsterInstance.get() as instance:
        made = _parts(days, parts, again)
        try:
            stood = _follow(instance, name, made, days)
            if all(one.is_done for one in stood.values()):
                stood |= _follow(instance, name, [*made, _part(TOGETHER, (), days, again)], days, quiet=as_json)
        finally:
            _end(instance, name)
    rows = [{"part": part, **_row(one)} for part, one in stood.items()]
    print_rows(rows, as_json, title=f"Backfill {name}, from {days}")
    failed = [part for part, one in stood.items() if not one.is_done]
    if failed:
        raise CommandError(
            f"{len(failed)} of {counted(len(stood), 'run')} failed: {', '.join(failed)}; see their runs in the UI; "
            "the same command makes what is missing"
        )
    markets = sum(len(part.symbols) for part in parts)
    err.print(
        f"{counted(days.bars // DAY_BARS, 'day')} of {counted(markets, 'market')} in {counted(len(stood), 'run')}; "
        "ask them with `mm sql`, see `mm status`",
        soft_wrap=True,
    )


def _row(one: Standing) -> dict[str, Any]:
    seconds = None if one.seconds is None else round(one.seconds, 1)
    return {"state": one.state, "attempts": one.attempts, "seconds": seconds, "run": (one.run_id or "")[:8] or None}


def _parts(days: Span, parts: Sequence[Group], again: bool) -> list[Part]:
    return [_part(part.name, part.symbols, days, again) for part in parts]


def _part(name: str, symbols: tuple[str, ...], days: Span, again: bool) -> Part:
    from mm_dagster.defs.internals.asked import Part

    return Part(name, symbols, f"{days.start:%Y-%m-%d}", f"{days.end - BAR:%Y-%m-%d}", again)


def _follow(
    instance: dg.DagsterInstance, backfill: str, wanted: Sequence[Part], days: Span, *, quiet: bool = False
) -> dict[str, Standing]:
    """Asks, and waits until each part is over."""
    from mm_dagster.defs.internals.asked import ask

    _surely(lambda: ask(instance, backfill, list(wanted)))
    many = days.bars // DAY_BARS
    weights = {part.name: max(1, len(part.symbols)) * many for part in wanted}
    with days_done("backfill", unit="market days", transient=quiet) as progress:
        bar = progress.add_task("", total=sum(weights.values()))
        answered = time.monotonic()
        while True:
            try:
                stood, answered = standing(instance, backfill, list(weights)), time.monotonic()
            except Exception as error:
                # A session that the server ended; the work does not depend on this command.
                if time.monotonic() - answered > SILENT_SECONDS:
                    raise CommandError(f"Dagster's storage does not answer: {first_cause(error)}") from error
                time.sleep(LOOK_SECONDS)
                continue
            done = sum(weights[name] * one.share for name, one in stood.items())
            over = sum(one.is_over for one in stood.values())
            progress.update(bar, completed=int(done), description=f"{over} of {len(stood)} runs")
            if over == len(stood):
                return stood
            time.sleep(LOOK_SECONDS)


def _surely(change: Callable[[], None]) -> None:
    """Changes what is asked for, once more where the server ended a session meanwhile; one process at a time does."""
    for attempt in retry_context(on=Exception, attempts=5, timeout=60):
        with attempt, project_here().locks.of("asked"):
            change()


def standing(instance: dg.DagsterInstance, backfill: str, names: Sequence[str]) -> dict[str, Standing]:
    """How each part stands, by Dagster's storage alone, whichever host works on it."""
    from mm_dagster.defs.internals.asked import runs_of

    runs = runs_of(instance, backfill)
    return {name: _standing(instance, runs.get(name, [])) for name in names}


def _standing(instance: dg.DagsterInstance, newest_first: Sequence[dg.RunRecord]) -> Standing:
    import dagster as dg

    from mm_dagster.defs.internals.asked import is_made_again

    if not newest_first:
        return Standing()
    record = newest_first[0]
    run = record.dagster_run
    is_over = run.is_finished and not is_made_again(run)
    is_done = run.status == dg.DagsterRunStatus.SUCCESS
    begins = [one.start_time for one in newest_first if one.start_time]
    share = 1.0 if is_over else 0.0
    if run.status == dg.DagsterRunStatus.STARTED:
        ended = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
        share = min(0.99, len(ended) / max(1, len(run.asset_selection or ())))
    seconds = record.end_time - min(begins) if is_over and begins and record.end_time else None
    return Standing(run.status.value, is_over or is_done, share, len(newest_first), seconds, run.run_id)


def _end(instance: dg.DagsterInstance, backfill: str) -> None:
    """Nothing more is begun; what waits is cancelled, and what is under way told to end, if anything still is."""
    import dagster as dg

    from mm_dagster.defs.internals.asked import withdraw
    from mm_dagster.defs.runs import UNFINISHED
    from mm_dagster.pipeline.groups import ASKED_TAG

    _surely(lambda: withdraw(instance, backfill))
    for run in instance.get_runs(dg.RunsFilter(tags={ASKED_TAG: backfill}, statuses=[*UNFINISHED])):
        try:
            instance.run_coordinator.cancel_run(run.run_id)
        except Exception as error:
            err.print(f"[yellow]to do:[/] run {run.run_id[:8]} could not be told to end: {error}", soft_wrap=True)
