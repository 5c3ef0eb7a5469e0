"""Running the pipeline: the newest quarter hour, whole days, and days again to prove them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.markup import escape

from mm_dagster.bars import BAR, DAY_BARS, Span, floor_bar, iso, midnight
from mm_dagster.cli.app import CommandError, app, chosen, err, out, project_here
from mm_dagster.cli.arguments import closed, configured, whole_days
from mm_dagster.cli.loading import Loading, candles_shown
from mm_dagster.cli.operate import print_decisions
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.tables.words import VERDICTS
from mm_dagster.text import counted

if TYPE_CHECKING:
    import dagster as dg

    from mm_dagster.regime.proofs import Proof

PANEL = "Run"


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm tick`, `mm tick --as-of 2026-07-01T00:00Z`, `mm tick --json`")
def tick(
    as_of: Annotated[str | None, typer.Option(help="Quarter hour, UTC; default: the last one that closed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the newest quarter hour now: candles, regime, risk, exit states, alerts, snapshot."""
    from mm_dagster.defs.partitions import partition_of
    from mm_dagster.logs import TICK_TAG
    from mm_dagster.pages.gather import at_bar

    time = closed(as_of) if as_of else newest_as_of(project_here())
    chosen.when_stopped = "what was fetched stays, and `mm tick` goes on from there"
    with candles_shown("tick"):
        result = run_job(
            "tick",
            partition_key=partition_of(time),
            turn={"as_of": iso(time)},
            tags={TICK_TAG: iso(time)},
        )
    _send_what_is_due(time if as_of else None)
    print_decisions(at_bar(project_here(), time), time, as_json)
    if not as_json:
        _save_pictures(time)
    _say_what_was_not_kept(result)
    _say_what_failed(time)


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
    as_json: AsJson = False,
) -> None:
    """Compute whole days of history. Sends nothing. Stop it with Ctrl-C: finished months stay, and are not done again.

    Days that are whole under the configuration and the code in force are skipped.
    """
    from mm_dagster.defs.partitions import range_tags
    from mm_dagster.market.progress import heard_by
    from mm_dagster.pipeline.completeness import unfinished

    chosen.when_stopped = "finished months stay, and the same command goes on from there"
    days, wanted = whole_days(first, last), configured(symbols)
    project = project_here()
    lacking = None if again else unfinished(project.lake, project.config, days, wanted)
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


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm replay --from 2026-06-01 --to 2026-06-28`, "
    "`mm replay --from 2026-06-28 --to 2026-06-28 --symbols ETH-USDT --check`",
)
def replay(
    first: Annotated[str, typer.Option("--from", help="First day, UTC.")],
    last: Annotated[str | None, typer.Option("--to", help="Last day, inclusive; default: today.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Only these markets, separated by commas.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Prove it: no look-ahead, enough warm-up, live equals backfill.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute features and verdicts of whole days again, from the stored candles under the configuration in force.

    Says how often each verdict was found, and at how many bars another one is stored. Writes nothing. With `--check`
    every cell is compared, bit for bit, and a difference ends with exit code 1.
    """
    days, wanted = whole_days(first, last), configured(symbols)
    span = _with_candles(days, wanted)
    if check:
        print_proofs(_proven(span, wanted), as_json)
    else:
        print_rows(_replayed(span, wanted), as_json, title=f"Verdicts computed again, from {span}")


def _with_candles(days: Span, symbols: Sequence[str]) -> Span:
    """The part of the days that has closed: of today as much as is stored.

    Raises:
        CommandError: the lake lacks candles of it.
    """
    stored = project_here().lake.read("candles", span=days, symbols=symbols, columns=["symbol", "open_time"])
    newest = max((time + BAR for time in stored["open_time"]), default=days.start)
    span = Span(days.start, min(days.end, max(newest, midnight(project_here().now().date()))))
    for symbol in symbols:
        own = stored.filter(pl.col("symbol") == symbol)
        absent = span.open_times().to_frame().join(own, on="open_time", how="anti")["open_time"]
        if absent.len() or not span.bars:
            raise CommandError(
                f"{symbol}: {absent.len():,} of {span.bars:,} candles from {span} are not in the lake"
                f"{f', the first {iso(absent[0])}' if absent.len() else ''}; fetch them with "
                f"`mm backfill --from {iso(days.start)[:10]} --to {iso(days.end - BAR)[:10]}`, or choose other days"
            )
    return span


def _replayed(span: Span, symbols: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each market: how often each verdict was found again, and where another one is stored."""
    from mm_dagster.pipeline.proofs import evidence
    from mm_dagster.regime.proofs import recompute

    project = project_here()
    found = []
    with days_done("replay", transient=True) as progress:
        bar = progress.add_task("", total=span.bars // DAY_BARS)
        for month in span.months():
            stored = evidence(project.lake, project.config, month, symbols)
            _, verdicts = recompute(stored.candles, month, project.config)
            before = stored.verdicts.select("symbol", "as_of", before="verdict", stored=True)
            found.append(
                verdicts.select("symbol", "as_of", "verdict").join(
                    before, on=["symbol", "as_of"], how="left", maintain_order="left"
                )
            )
            progress.advance(bar, month.bars // DAY_BARS)
    differs = pl.col("stored") & pl.col("verdict").ne_missing(pl.col("before"))
    return (
        pl.concat(found)
        .group_by("symbol")
        .agg(
            bars=pl.len(),
            **{word.lower(): (pl.col("verdict") == word).sum() / pl.len() for word in VERDICTS},
            unknown=pl.col("verdict").is_null().mean(),
            stored=pl.col("stored").sum(),
            differs=differs.sum(),
            first_difference=pl.col("as_of").filter(differs).min(),
        )
        .sort("symbol")
        .to_dicts()
    )


def _proven(span: Span, symbols: Sequence[str]) -> list[Proof]:
    """The proofs over a span, month by month."""
    from mm_dagster.pipeline.proofs import evidence
    from mm_dagster.regime.proofs import pooled, prove

    project = project_here()
    months = []
    with days_done("replay", transient=True) as progress:
        bar = progress.add_task("", total=span.bars / DAY_BARS)
        for month in span.months():
            begun = (month.start - span.start) / timedelta(days=1)
            progress.update(bar, description=f"{month.start:%Y-%m}")

            def advance(share: float, begun: float = begun, month: Span = month) -> None:
                progress.update(bar, completed=begun + share * month.bars / DAY_BARS)

            months.append(prove(evidence(project.lake, project.config, month, symbols), advance))
    return [pooled(parts) for parts in zip(*months, strict=True)]


def print_proofs(proofs: Sequence[Proof], as_json: bool) -> None:
    """One row for each proof, with its sentence below.

    Raises:
        CommandError: something differs; with the first difference.
    """
    rows: list[dict[str, Any]] = [
        {
            "proof": proof.name,
            "markets": sorted(proof.symbols),
            "compared": proof.cells,
            "differing": proof.differing,
            "result": proof.result,
        }
        for proof in proofs
    ]
    if as_json:
        more = [
            {
                "not_compared": proof.not_compared or None,
                "first_difference": proof.first.sentence if proof.first else None,
            }
            for proof in proofs
        ]
        print_rows([row | extra for row, extra in zip(rows, more, strict=True)], as_json)
    else:
        print_rows([row | {"markets": ", ".join(row["markets"]) or None} for row in rows], as_json, title="Proofs")
        for proof in proofs:
            out.print(f"  - {escape(proof.sentence)}", highlight=False, soft_wrap=True)
    broken = next((proof for proof in proofs if proof.first), None)
    if broken and broken.first:
        raise CommandError(f"{broken.name}: {broken.first.sentence}")


# running --------------------------------------------------------------------------------------------------------------


def run_job(
    job: str, *, turn: dict[str, Any], tags: dict[str, str], partition_key: str | None = None
) -> dg.ExecuteInProcessResult:
    """Runs a job in this process, noted in Dagster's history like any other.

    Raises:
        CommandError: a step failed; with the first line of the error.
    """
    import dagster as dg

    from mm_dagster import logs
    from mm_dagster.defs.loading import load

    asked = logs.request_id()
    _ = project_here()  # it says where Dagster keeps its own things
    try:
        result = (
            load()
            .resolve_job_def(job)
            .execute_in_process(
                instance=dg.DagsterInstance.get(),
                partition_key=partition_key,
                run_config={
                    "resources": {"turn": {"config": turn}},
                    "loggers": {"console": {"config": {"log_level": chosen.level_of_runs}}},
                },
                tags={**tags, "mm/by": "mm", **({logs.REQUEST_TAG: asked} if asked else {})},
                raise_on_error=chosen.debug,
            )
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
