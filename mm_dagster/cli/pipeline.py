"""Running the pipeline: the newest quarter hour, and whole days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.markup import escape

from mm_dagster.bars import BAR, DAY_BARS, Span, floor_bar, iso
from mm_dagster.cli.app import CommandError, app, chosen, err, project_here
from mm_dagster.cli.arguments import closed, configured, whole_days
from mm_dagster.cli.loading import Loading, candles_shown
from mm_dagster.cli.operate import print_decisions
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.cli.queue import MARKETS_A_RUN, backfill_by_queue
from mm_dagster.text import counted

if TYPE_CHECKING:
    import dagster as dg

    from mm_dagster.defs.parts import Part

PANEL = "Run"


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm tick`, `mm tick --as-of 2026-07-01T00:00Z`, `mm tick --json`")
def tick(
    as_of: Annotated[str | None, typer.Option(help="Quarter hour, UTC; default: the last one that closed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the newest quarter hour now: candles, regime, risk, exit states, alerts, snapshot."""
    from mm_dagster.pages.gather import at_bar

    time = closed(as_of) if as_of else newest_as_of(project_here())
    chosen.when_stopped = "what was fetched stays, and `mm tick` goes on from there"
    with candles_shown("tick"):
        result = _run_tick(time)
    _send_what_is_due(time if as_of else None)
    print_decisions(at_bar(project_here(), time), time, as_json)
    if not as_json:
        _save_pictures(time)
    _say_what_was_not_kept(result)
    _say_what_failed(time)


def _run_tick(time: datetime) -> dg.ExecuteInProcessResult:
    """The job of the tick; of many markets group by group, then what needs all. Returns the last run.

    Raises:
        CommandError: a run failed; those of the other groups were made all the same.
    """
    from mm_dagster.defs.partitions import partition_of
    from mm_dagster.defs.parts import TICK_APART, TICK_WITH_ALL
    from mm_dagster.logs import TICK_TAG
    from mm_dagster.pipeline.groups import TOGETHER_TAG, of_a_tick

    whole: dict[str, Any] = {"as_of": iso(time)}
    tags, partition = {TICK_TAG: iso(time)}, partition_of(time)
    parts = of_a_tick(project_here().config)
    if len(parts) == 1:
        return run_job("tick", partition_key=partition, turn=whole, tags=tags)
    failed: list[CommandError] = []
    for part in parts:
        turn = {**whole, "symbols": list(part.symbols)}
        try:
            run_job("tick", partition_key=partition, turn=turn, tags={**tags, **part.tags}, part=TICK_APART)
        except CommandError as error:
            failed.append(error)
    tags |= {TOGETHER_TAG: "all"}
    result = run_job("tick", partition_key=partition, turn=whole, tags=tags, part=TICK_WITH_ALL)
    if failed:
        raise failed[0]
    return result


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm backfill --from 2026-01-01 --to 2026-06-30`, "
    "`mm backfill --from 2026-01-01 --symbols ETH-USDT`, `mm backfill --from 2026-01-01 --again --json`",
)
def backfill(
    first: Annotated[str, typer.Option("--from", help="First day, UTC.")],
    last: Annotated[str | None, typer.Option("--to", help="Last day, inclusive; default: today.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Only these markets, separated by commas.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Days that are whole, too: ask the venues anew, and compute anew.")
    ] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="As runs of groups of markets in Dagster's queue: `mm up`, or workers.")
    ] = False,
    markets_a_run: Annotated[int, typer.Option(min=1, help="With --queue: of a run.")] = MARKETS_A_RUN,
    as_json: AsJson = False,
) -> None:
    """Compute whole days of history. Sends nothing. Stop it with Ctrl-C: finished months stay, and are not done again.

    Days that are whole under the configuration and the code in force are skipped. With `--queue` the work is done by
    whoever takes runs, several at a time where there are several; this command asks for them and shows how they come
    on, and Ctrl-C cancels those that wait.
    """
    from mm_dagster.defs.partitions import range_tags
    from mm_dagster.market.progress import heard_by
    from mm_dagster.pipeline.completeness import unfinished

    chosen.when_stopped = "finished months stay, and the same command goes on from there"
    days, wanted = whole_days(first, last), configured(symbols)
    project = project_here()
    lacking = None if again else unfinished(project.lake, project.config, days, wanted)
    if queue:
        backfill_by_queue(days, wanted, lacking, markets_a_run, as_json=as_json)
        return
    todo = [(month, _parts(month, wanted, lacking)) for month in days.months()]
    asked_for = days.bars // DAY_BARS * len(wanted)
    total = sum(part.bars // DAY_BARS * len(names) for _, parts in todo for part, names in parts)
    done: list[dict[str, Any]] = []
    known: list[pl.DataFrame] = []
    said = _Said()
    with days_done("backfill", unit="market days", transient=as_json) as progress:
        bar = progress.add_task("", total=total)
        for month, parts in todo:
            progress.update(bar, description=f"{month.start:%Y-%m}")

            def show(loading: Loading, month: Span = month) -> None:
                progress.update(bar, description=f"{month.start:%Y-%m} {loading.sentence}")

            began, changed, quarantined = monotonic(), 0, 0
            for part, names in parts:
                with heard_by(Loading(show)):
                    result = run_job("history", turn={"symbols": names, "again": again}, tags=range_tags(part))
                changed += _counted(result, "rows_changed")
                quarantined += _counted(result, "rows_quarantined")
                said.hear(result)
                progress.advance(bar, part.bars // DAY_BARS * len(names))
            computed = sum(part.bars // DAY_BARS * len(names) for part, names in parts)
            candles = project.lake.read("candles", span=month, symbols=wanted, columns=["symbol", "status"])
            known.append(candles.filter(pl.col("status") != "MISSING"))
            if known[-1].height:
                said.tell()
            done.append(
                {
                    "month": f"{month.start:%Y-%m}",
                    "computed_days": computed,
                    "skipped_days": month.bars // DAY_BARS * len(wanted) - computed,
                    "rows_changed": changed,
                    "rows_quarantined": quarantined,
                    "missing_bars": candles.height - known[-1].height,
                    "seconds": round(monotonic() - began, 1),
                }
            )
        progress.update(bar, description="")
    if as_json:
        print_rows(done, as_json)
    if total < asked_for:
        err.print(
            f"{asked_for - total} of {asked_for} market days were whole under the configuration and code in force and "
            "were skipped; --again computes them anew",
            soft_wrap=True,
        )
    _say_what_is_known(days, wanted, pl.concat(known)["symbol"], done, said)


def _say_what_is_known(
    days: Span, symbols: Sequence[str], known: pl.Series, done: Sequence[dict[str, Any]], said: _Said
) -> None:
    """The last line of a backfill: how much of what was asked for is known now.

    Args:
        days: what was asked for.
        symbols: the markets.
        known: the market of each bar that is known.
        done: what was done, by month.
        said: what the venues said.

    Raises:
        CommandError: of a market no bar is known.
    """
    missing = sum(row["missing_bars"] for row in done)
    apart = sum(row["rows_quarantined"] for row in done)
    sentence = (
        f"{counted(days.bars // DAY_BARS, 'day')} of {counted(len(symbols), 'market')}: "
        f"{counted(known.len(), 'bar')} known"
    )
    if missing:
        sentence += f", {missing:,} not known"
    if apart:
        sentence += f', {counted(apart, "row")} set apart (`mm sql "FROM quarantine"`)'
    none = [symbol for symbol in symbols if symbol not in known]
    if none:
        why = said.failure(none)
        said.tell()
        raise CommandError(
            f"{sentence}; of {', '.join(none)} nothing is known from {days}: "
            f"{why or 'the venue answered, and has no candle of these days; choose later ones'}"
        )
    said.tell()
    err.print(f"{sentence}; ask them with `mm sql`, see `mm status`", soft_wrap=True)


class _Said:
    """What the venues said while a backfill ran: each line is told once, whichever months repeat it."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._told: set[str] = set()

    def hear(self, result: dg.ExecuteInProcessResult) -> None:
        """Takes in what a run noted of its candles."""
        for event in result.all_events:
            if event.is_step_materialization and event.step_key == "candles":
                noted = event.step_materialization_data.materialization.metadata
                self._lines |= {str(noted[kind].value): kind for kind in ("errors", "notes") if kind in noted}

    def tell(self) -> None:
        """Prints what was not told yet."""
        for line, kind in self._lines.items():
            if line not in self._told:
                start = "[yellow]not all is known:[/]" if kind == "errors" else "read as it is written:"
                err.print(f"{start} {escape(line)}", soft_wrap=True, highlight=False)
        self._told |= self._lines.keys()

    def failure(self, symbols: Sequence[str]) -> str | None:
        """The error that one of these markets is named in, or the first of all. It counts as told."""
        errors = [line for line, kind in self._lines.items() if kind == "errors"]
        found = next((line for line in errors if any(symbol in line for symbol in symbols)), next(iter(errors), None))
        self._told |= {found} if found else set()
        return found


def _parts(month: Span, symbols: list[str], lacking: pl.DataFrame | None) -> list[tuple[Span, list[str]]]:
    """The days of a month that must be computed, and of which markets: from the first to the last that is not whole."""
    if lacking is None:
        return [(month, symbols)]
    ranges: dict[Span, list[str]] = {}
    for symbol in symbols:
        days = lacking.filter((pl.col("symbol") == symbol) & month.opens("day"))["day"]
        if days.len():
            span = Span(days.min(), days.max() + timedelta(days=1))  # type: ignore[arg-type, operator]
            ranges.setdefault(span, []).append(symbol)
    return list(ranges.items())


def _counted(result: dg.ExecuteInProcessResult, name: str) -> int:
    """The sum of a metadata value over the assets of a run; each of its partitions repeats it."""
    found: dict[Any, int] = {}
    for event in result.all_events:
        if event.is_step_materialization:
            noted = event.step_materialization_data.materialization
            if name in noted.metadata:
                found[noted.asset_key] = int(noted.metadata[name].value)  # type: ignore[arg-type]
    return sum(found.values())


# running --------------------------------------------------------------------------------------------------------------


def run_job(
    job: str,
    *,
    turn: dict[str, Any],
    tags: dict[str, str],
    partition_key: str | None = None,
    part: Part | None = None,
) -> dg.ExecuteInProcessResult:
    """Runs a job in this process, noted in Dagster's history like any other.

    Args:
        job: its name.
        turn: which turn of the pipeline.
        tags: of the run.
        partition_key: its partition; None: the tags name a range, or there is none.
        part: only these assets and checks; None: all of the job.

    Raises:
        CommandError: a step failed; with the first line of the error.
    """
    import dagster as dg

    from mm_dagster import logs
    from mm_dagster.defs.loading import load

    asked = logs.request_id()
    _ = project_here()  # it says where Dagster keeps its own things
    work = load().resolve_job_def(job)
    if part is not None:
        work = work.get_subset(asset_selection=frozenset(part.assets), asset_check_selection=frozenset(part.checks))
    try:
        result = work.execute_in_process(
            instance=dg.DagsterInstance.get(),
            partition_key=partition_key,
            run_config={
                "resources": {"turn": {"config": turn}},
                "loggers": {"console": {"config": {"log_level": chosen.level_of_runs}}},
            },
            tags={**tags, "mm/by": "mm", **({logs.REQUEST_TAG: asked} if asked else {})},
            raise_on_error=chosen.debug,
        )
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    if not result.success:
        if any(_was_interrupted(event) for event in result.all_events):
            raise KeyboardInterrupt
        raise CommandError(f"{job}: {_first_failure(result)}; see run {result.run_id[:8]} in the UI, or use --debug")
    return result


def _was_interrupted(event: dg.DagsterEvent) -> bool:
    """Whether a step ended by Ctrl-C: Dagster makes an ordinary failure of it."""
    error = event.step_failure_data.error if event.is_step_failure else None
    while error:
        if error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt"):
            return True
        error = error.cause
    return False


def _first_failure(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            while error.cause:
                error = error.cause
            return f"{event.step_key}: {error.message.strip().splitlines()[0]}"
    return "failed"


def newest_as_of(project: Any) -> datetime:
    """The quarter hour that closed last, by the venues' clocks; by ours where none says."""
    from mm_dagster.market.venue import VenueError

    times = []
    for symbol in project.config.symbols:
        try:
            times.append(project.venues.of(symbol).now())
        except VenueError:
            # The tick asks it, too, and says why it does not answer.
            continue
    return floor_bar(max(times, default=project.now()))


def _say_what_failed(as_of: datetime) -> None:
    """Ends the command with an error when a market or grid of the tick could not be judged.

    Raises:
        CommandError: with the reasons.
    """
    ticks = project_here().lake.read("tick", span=Span(as_of - BAR, as_of))
    row = ticks.row(0, named=True) if ticks.height else {"reason": "it did not finish", "symbols_failed": []}
    if row["reason"] or row["symbols_failed"]:
        raise CommandError(row["reason"] or f"{', '.join(row['symbols_failed'])}: the newest bar is not known yet")


def _say_what_was_not_kept(result: dg.ExecuteInProcessResult) -> None:
    """Why the snapshot is not where it should be: the decisions stand all the same."""
    for event in result.all_events:
        if event.is_step_materialization and event.step_key == "snapshot":
            problem = event.step_materialization_data.materialization.metadata.get("problem")
            if problem:
                err.print(f"[yellow]to do:[/] snapshot: {escape(str(problem.value))}", soft_wrap=True, highlight=False)


def _save_pictures(as_of: datetime) -> None:
    """Draws each grid's week into data/pictures and says where."""
    from mm_dagster.pipeline.exhibits import grid_picture

    project = project_here()
    folder = project.data / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    if not project.config.grids:
        err.print("no grid is configured: `mm grid add` adds one", soft_wrap=True, highlight=False)
        return
    for grid in project.config.grids:
        (folder / f"{grid.id}.png").write_bytes(grid_picture(project, grid, as_of))
    err.print(f"pictures: {folder}/*.png · history: `mm sql` · UI: `mm up`", soft_wrap=True, highlight=False)


def _send_what_is_due(at: datetime | None) -> None:
    """Sends as the sensor would. A simulated market's clock is set to the tick, so that its news can be seen."""
    from mm_dagster.logs import TICK_TAG
    from mm_dagster.pipeline.notify import count_due, notify_troubles

    notify_troubles(project_here())
    if count_due(project_here(), at):
        run_job("send_alerts", turn={"as_of": iso(at)} if at else {}, tags={TICK_TAG: iso(at)} if at else {})
