"""The `mm` command: run the pipeline, look at it, ask it. Tables on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import dagster as dg
import polars as pl
import stamina.instrumentation
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mm_dagster.alerts.pushover import PushoverRefused, PushoverUnavailable
from mm_dagster.bars import BAR, DAY_BARS, FIRST_DAY, Span, floor_bar, iso, midnight, parse_time
from mm_dagster.config import CcxtVenue, ConfigError
from mm_dagster.history.lake import Commit, LakeError
from mm_dagster.history.mirror import MirrorError
from mm_dagster.market.venue import VenueError, did_you_mean
from mm_dagster.tables import RESPONSES, VERDICTS

if TYPE_CHECKING:
    from mm_dagster.regime.proofs import Proof

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    help="Every quarter hour: may this grid go on, and if not, how long is left to get out.",
    epilog="Where things are: MM_CONFIG_DIR (default configs/demo), MM_DATA_DIR (default data).",
)
# A pipe has no width of its own: 80 columns would fold every name.
out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True)


class CommandError(Exception):
    """What the user asked for cannot be done. One line, with the remedy."""


FORESEEN = (
    CommandError,
    ConfigError,
    LakeError,
    MirrorError,
    VenueError,
    PushoverRefused,
    PushoverUnavailable,
)
"""Errors that say what to do in one line."""


INTERRUPTED = 130
"""Exit code after Ctrl-C."""

TOO_WIDE = 12
"""With more columns than this a table cannot be read: rows are printed one below the other."""


@dataclass
class _Options:
    debug: bool = False


_options = _Options()
AsJson = Annotated[bool, typer.Option("--json", help="An array of objects on stdout, and nothing else there.")]


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole trace of an error.")] = False,
) -> None:
    """Options of every command; without one, the help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
    _options.debug = debug
    if not debug:
        stamina.instrumentation.set_on_retry_hooks(())


# the commands ---------------------------------------------------------------------------------------------------------


@app.command(epilog="Examples: `mm tick`, `mm tick --as-of 2026-07-01T00:00Z`, `mm tick --json`")
def tick(
    as_of: Annotated[str | None, typer.Option(help="Quarter hour, UTC; default: the last one that closed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the newest quarter hour now: candles, regime, risk, exit states, alerts, snapshot."""
    from mm_dagster.defs.automation import TICK_TAG
    from mm_dagster.defs.partitions import partition_of

    time = _closed(as_of) if as_of else _newest_as_of(_project())
    _run(
        "tick",
        partition_key=partition_of(time),
        turn={"as_of": iso(time)},
        tags={TICK_TAG: iso(time)},
    )
    _send_what_is_due(time if as_of else None)
    _print_decisions(_decisions(time), as_json)
    if not as_json:
        _save_pictures(time)
    _say_what_failed(time)


@app.command(
    epilog="Examples: `mm backfill --from 2026-01-01 --to 2026-06-30`, `mm backfill --from 2026-01 --symbols ETH-USDT`"
)
def backfill(
    first: Annotated[str, typer.Option("--from", help="First day, UTC.")],
    last: Annotated[str | None, typer.Option("--to", help="Last day, inclusive; default: today.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Only these markets, separated by commas.")] = None,
) -> None:
    """Compute whole days of history. Sends nothing. Stop it with Ctrl-C: finished months stay."""
    days = _days(first, last)
    wanted = _symbols(symbols)
    with _days_done("backfill") as progress:
        bar = progress.add_task("", total=days.bars // DAY_BARS)
        for month in days.months():
            progress.update(bar, description=f"{month.start:%Y-%m}")
            _run(
                "history",
                turn={"symbols": wanted},
                tags={
                    "dagster/asset_partition_range_start": f"{month.start:%Y-%m-%d}",
                    "dagster/asset_partition_range_end": f"{month.end - BAR:%Y-%m-%d}",
                },
            )
            progress.advance(bar, month.bars // DAY_BARS)
        progress.update(bar, description="")
    err.print(
        f"{days.bars // DAY_BARS} days of {len(wanted)} markets are in the lake; "
        "ask them with `mm sql`, see `mm status`"
    )


@app.command(
    epilog="Examples: `mm replay --from 2026-06-01 --to 2026-06-28`, "
    "`mm replay --from 2026-06-28 --to 2026-06-28 --symbols ETH-USDT --check`"
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
    days, wanted = _days(first, last), _symbols(symbols)
    span = _with_candles(days, wanted)
    if check:
        _print_proofs(_proven(span, wanted), as_json)
    else:
        _print(_replayed(span, wanted), as_json, title=f"Verdicts computed again, from {span}")


@app.command(epilog="Examples: `mm status`, `mm status --json | jq '.[].state'`")
def status(as_json: AsJson = False) -> None:
    """What is true now: for each grid its price, verdict, exit state and why."""
    _print_decisions(_decisions(None), as_json)


@app.command(epilog="Examples: `mm doctor`, `mm doctor --json`")
def doctor(as_json: AsJson = False) -> None:
    """Check configuration, lake, venues, clock, credentials, Pushover and git: each line says OK or what to do."""
    rows = _examine()
    _print(rows, as_json, title="Doctor")
    if any(row["result"] != "OK" for row in rows):
        raise typer.Exit(1)


@app.command(
    epilog='Examples: `mm sql "SELECT verdict, count(*) FROM regime_verdict GROUP BY 1"`, `mm sql "SHOW TABLES"`'
)
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the history, in DuckDB's SQL.")],
    as_json: AsJson = False,
) -> None:
    """Ask the history. Read only; it never blocks the pipeline, nor the pipeline it."""
    _print_frame(_project().lake.sql(query), as_json)


@app.command(name="alert-test", epilog="Examples: `mm alert-test`, `mm alert-test --json`")
def alert_test(as_json: AsJson = False) -> None:
    """Send a test message to each channel, and say what came back."""
    from mm_dagster.defs.alerts import try_channels

    told = try_channels(_project())
    if told.is_empty():
        raise CommandError(
            "there is no channel: set PUSHOVER_TOKEN and PUSHOVER_USER in the environment, or name an address under "
            "`apprise` in alerts.yaml"
        )
    _print_frame(told.select("channel", "status", "attempts", "sent_at", "detail"), as_json)
    if set(told["status"]) != {"SENT"}:
        raise typer.Exit(1)


@app.command(
    epilog="Examples: `mm respond eth-v3 stopped --note 'sold at 3,071'`, "
    "`mm respond eth-v3 kept --at 2026-01-10T12:20Z`"
)
def respond(
    grid: Annotated[str, typer.Argument(help="The grid's id.")],
    action: Annotated[str, typer.Argument(help="stopped, reduced, kept or reopened.")],
    note: Annotated[str | None, typer.Option(help="In your own words.")] = None,
    at: Annotated[str | None, typer.Option(help="When you did it, UTC; default: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Note what you did about a grid's last alert: the audit of response times is made of it."""
    from mm_dagster.alerts.responses import response

    project = _project()
    known = {one.id: one for one in project.config.grids}
    if grid not in known:
        raise CommandError(f"{grid!r} is no grid of the configuration{did_you_mean(grid, known)}")
    if action not in RESPONSES:
        raise CommandError(f"{action!r} is no response{did_you_mean(action, RESPONSES)}")
    now = datetime.now(UTC)
    ledger, windows = project.lake.read("notification"), project.config.exit.window_minutes
    try:
        time = parse_time(at) if at else now.replace(microsecond=0)
        if time > now:
            raise ValueError(f"{iso(time)} lies in the future; write when it was done")
        row = response(known[grid], action, time, note, ledger, windows)
    except ValueError as error:
        raise CommandError(str(error)) from None
    with project.turn_lock():
        project.lake.upsert("operator_response", row, commit=Commit("mm", "operator_response", iso(time)))
    told = row.row(0, named=True)
    columns = ("grid_id", "action", "at", "seconds_from_alert", "within_window", "note")
    _print([{name: told[name] for name in columns}], as_json)


# replaying ------------------------------------------------------------------------------------------------------------


def _with_candles(days: Span, symbols: Sequence[str]) -> Span:
    """The part of the days that has closed: of today as much as is stored.

    Raises:
        CommandError: the lake lacks candles of it.
    """
    stored = _project().lake.read("candles", span=days, symbols=symbols, columns=["symbol", "open_time"])
    newest = max((time + BAR for time in stored["open_time"]), default=days.start)
    span = Span(days.start, min(days.end, max(newest, midnight(datetime.now(UTC).date()))))
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
    from mm_dagster.defs.proofs import evidence
    from mm_dagster.regime.proofs import recompute

    project = _project()
    found = []
    with _days_done("replay", transient=True) as progress:
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
    from mm_dagster.defs.proofs import evidence
    from mm_dagster.regime.proofs import prove, together

    project = _project()
    months = []
    with _days_done("replay", transient=True) as progress:
        bar = progress.add_task("", total=span.bars / DAY_BARS)
        for month in span.months():
            begun = (month.start - span.start) / timedelta(days=1)
            progress.update(bar, description=f"{month.start:%Y-%m}")

            def advance(share: float, begun: float = begun, month: Span = month) -> None:
                progress.update(bar, completed=begun + share * month.bars / DAY_BARS)

            months.append(prove(evidence(project.lake, project.config, month, symbols), advance))
    return [together(parts) for parts in zip(*months, strict=True)]


def _print_proofs(proofs: Sequence[Proof], as_json: bool) -> None:
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
        _print([row | extra for row, extra in zip(rows, more, strict=True)], as_json)
    else:
        _print([row | {"markets": ", ".join(row["markets"]) or None} for row in rows], as_json, title="Proofs")
        for proof in proofs:
            out.print(f"  - {escape(proof.sentence)}", highlight=False, soft_wrap=True)
    broken = next((proof for proof in proofs if proof.first), None)
    if broken and broken.first:
        raise CommandError(f"{broken.name}: {broken.first.sentence}")


# running --------------------------------------------------------------------------------------------------------------


@cache
def _project() -> Any:
    """The project that the environment names; Dagster's own folders are put below its data."""
    from mm_dagster.defs.resources import Project

    project = Project.here()
    folder = Path(os.environ.setdefault("MM_DAGSTER_DIR", str(project.data / "dagster")))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("DAGSTER_HOME", str(Path(__file__).resolve().parent.parent))
    _ = project.config  # an invalid configuration is said before anything runs
    if project.config_error:
        err.print(f"[yellow]the last valid configuration stays in force:[/] {project.config_error}", soft_wrap=True)
    return project


def _run(job: str, *, turn: dict[str, Any], tags: dict[str, str], partition_key: str | None = None) -> None:
    """Runs a job in this process, noted in Dagster's history like any other.

    Raises:
        CommandError: a step failed; with the first line of the error.
    """
    from mm_dagster.definitions import defs

    _ = _project()  # it says where Dagster keeps its own things
    result = (
        defs()
        .resolve_job_def(job)
        .execute_in_process(
            instance=dg.DagsterInstance.get(),
            partition_key=partition_key,
            run_config={
                "resources": {"turn": {"config": turn}},
                "loggers": {"console": {"config": {"log_level": "INFO" if _options.debug else "CRITICAL"}}},
            },
            tags=tags,
            raise_on_error=_options.debug,
        )
    )
    if not result.success:
        if any(_was_interrupted(event) for event in result.all_events):
            raise KeyboardInterrupt
        raise CommandError(f"{job}: {_first_failure(result)}; see run {result.run_id[:8]} in the UI, or use --debug")


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


def _newest_as_of(project: Any) -> datetime:
    """The quarter hour that closed last, by the venues' clocks; by ours where none says."""
    times = []
    for symbol in project.config.symbols:
        try:
            times.append(project.venue(symbol).now())
        except VenueError as error:
            err.print(f"[yellow]{symbol}:[/] {error}", soft_wrap=True)
    return floor_bar(max(times, default=datetime.now(UTC)))


def _time(text: str, option: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from None


def _closed(text: str) -> datetime:
    """The quarter hour that `--as-of` names.

    Raises:
        CommandError: no bar of the history has closed by then, or that one has not closed yet.
    """
    time, newest = floor_bar(_time(text, "--as-of")), floor_bar(datetime.now(UTC))
    if not FIRST_DAY < time <= newest:
        raise CommandError(
            f"--as-of {text}: choose a quarter hour after {iso(FIRST_DAY)[:10]} that has closed; the last one is "
            f"{iso(newest)}"
        )
    return time


def _days(first: str, last: str | None) -> Span:
    """The whole days from `--from` to `--to`, both included; without the latter to today.

    Raises:
        CommandError: they are not in this order, or not of this history.
    """
    today = midnight(datetime.now(UTC).date())
    start = midnight(_time(first, "--from").date())
    end = midnight(_time(last, "--to").date()) if last else today
    if not FIRST_DAY <= start <= end <= today:
        given = f"--from {first} --to {last}" if last else f"--from {first}"
        raise CommandError(f"{given}: choose days from {iso(FIRST_DAY)[:10]} to today, the first one first")
    return Span(start, end + timedelta(days=1))


def _symbols(text: str | None) -> list[str]:
    known = _project().config.symbols
    wanted = [symbol.strip() for symbol in text.split(",")] if text else known
    for symbol in wanted:
        if symbol not in known:
            raise CommandError(f"--symbols: {symbol!r} is not in markets.yaml; there are {', '.join(known)}")
    return wanted


# what is true ---------------------------------------------------------------------------------------------------------


def _decisions(as_of: datetime | None) -> list[dict[str, Any]]:
    """One row for each grid: what was decided at as_of, or last."""
    from mm_dagster.exit.why import why

    project = _project()
    rows = []
    for grid in project.config.grids:
        risk = _row(project, "grid_risk", grid.id, as_of)
        time = risk["as_of"] if risk else as_of
        verdict = _row(project, "regime_verdict", grid.symbol, time) if time else None
        state = _row(project, "exit_state", grid.id, time) if grid.enabled and time else None
        entry = _row(project, "entry_assessment", grid.id, time) if not grid.enabled and time else None
        rows.append(
            {
                "grid": grid.id,
                "symbol": grid.symbol,
                "simulated": project.simulated(grid.symbol),
                "as_of": time,
                "price": risk["price"] if risk else None,
                "verdict": verdict["verdict"] if verdict else None,
                "confidence": verdict["confidence"] if verdict else None,
                "state": state["state"] if state else entry["advice"] if entry else None,
                "since": state["since"] if state else None,
                "why": why(state["triggers"], state["state"]) if state else entry["reasons"] if entry else [],
                "next": (state["nearest"] or []) if state else [],
                **{name: risk[name] if risk else None for name in _MONEY},
            }
        )
    return rows


_MONEY = ("source", "liquidation_value", "grid_profit", "exit_pnl", "unrealised_pnl", "total_pnl", "capital_at_risk")
"""Columns of grid_risk that stand beside a decision; the profits add up to the total."""


def _say_what_failed(as_of: datetime) -> None:
    """Ends the command with an error when a market or grid of the tick could not be judged.

    Raises:
        CommandError: with the reasons.
    """
    ticks = _project().lake.read("tick", span=Span(as_of - BAR, as_of))
    row = ticks.row(0, named=True) if ticks.height else {"reason": "it did not finish", "symbols_failed": []}
    if row["reason"] or row["symbols_failed"]:
        raise CommandError(row["reason"] or f"{', '.join(row['symbols_failed'])}: the newest bar is not known yet")


def _row(project: Any, table: str, name: str, as_of: datetime | None) -> dict[str, Any] | None:
    """The row of a grid or market at as_of; without one, its newest."""
    key = "symbols" if table == "regime_verdict" else "grids"
    span = Span(as_of - BAR, as_of) if as_of else None
    rows = project.lake.read(table, span=span, **{key: [name]}).sort("as_of")
    return rows.row(-1, named=True) if rows.height else None


def _save_pictures(as_of: datetime) -> None:
    """Draws each grid's week into data/pictures and says where."""
    from mm_dagster.defs.exit import grid_picture

    project = _project()
    folder = project.data / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for grid in project.config.grids:
        (folder / f"{grid.id}.png").write_bytes(grid_picture(project, grid, as_of))
    err.print(f"pictures: {folder}/*.png · history: `mm sql` · UI: `make up`", soft_wrap=True, highlight=False)


def _send_what_is_due(at: datetime | None) -> None:
    """Sends as the sensor would. A simulated market's clock is set to the tick, so that its news can be seen."""
    from mm_dagster.defs.alerts import due_now

    if due_now(_project(), at):
        _run("send_alerts", turn={"as_of": iso(at)} if at else {}, tags={})


# examining ------------------------------------------------------------------------------------------------------------


def _examine() -> list[dict[str, Any]]:
    """One row for each part of the system: OK, or what to do."""
    rows: list[dict[str, Any]] = []

    def check(part: str, examine: Callable[[], str]) -> None:
        try:
            rows.append({"part": part, "result": "OK", "detail": examine()})
        except FORESEEN as error:
            rows.append({"part": part, "result": "TO DO", "detail": str(error)})

    project = _project()
    config = project.config
    check("configuration", lambda: _configuration(project))
    check("lake", project.lake.check)
    for name in config.markets.venues:
        symbol = next((symbol for symbol in config.symbols if config.venue_of(symbol)[0] == name), None)
        if symbol:
            check(f"venue {name}", lambda symbol=symbol: project.venue(symbol).check())  # type: ignore[misc]
    for name, venue in config.markets.venues.items():
        if isinstance(venue, CcxtVenue) and venue.account:
            check(f"account {name}", lambda name=name: project.account(name).check())  # type: ignore[misc]
    check("newest bar", lambda: _freshness(project))
    check("Pushover", lambda: _pushover(project))
    for secret in config.alerts.apprise:
        check(f"address {secret.url_env}", lambda secret=secret: _second_channel(secret.url_env))  # type: ignore[misc]
    heart = config.alerts.heartbeat
    if heart:
        check(f"address {heart.url_env}", lambda: _heartbeat(heart.url_env))
    check("git mirror", project.mirror.check)
    return rows


def _address_in(variable: str) -> str:
    address = os.environ.get(variable)
    if not address:
        raise CommandError(f"the variable {variable} that alerts.yaml names is not set")
    return address


def _heartbeat(variable: str) -> str:
    _address_in(variable)
    return f"{variable} is set; it is called at the end of each tick"


def _second_channel(variable: str) -> str:
    """That apprise can read the address in a variable, which is never shown."""
    from mm_dagster.alerts.second import Second, SecondUrlError

    try:
        Second([_address_in(variable)])
    except SecondUrlError:
        raise CommandError(f"{variable} holds no address that apprise can read; write it like mailto://...") from None
    return f"{variable} can be read; `mm alert-test` tries it"


def _configuration(project: Any) -> str:
    if project.config_error:
        raise CommandError(project.config_error)
    grids = project.config.grids
    running = sum(grid.enabled for grid in grids)
    return f"{project.config_dir}: {len(project.config.symbols)} markets, {running} of {len(grids)} grids enabled"


def _freshness(project: Any) -> str:
    """How old the newest bar of each market is, by its own clock."""
    newest = project.lake.newest("candles")
    for symbol in project.config.symbols:
        if symbol not in newest:
            raise CommandError(f"{symbol}: no candle yet; run `mm tick`, or `make up` and wait a quarter hour")
        age = project.clock(symbol) - newest[symbol] - BAR
        if age > timedelta(minutes=project.config.alerts.blind_after_minutes):
            raise CommandError(
                f"{symbol}: the newest bar closed {iso(newest[symbol] + BAR)}, {age // timedelta(minutes=1)} minutes "
                "ago; run `mm tick`, or `make up` for the schedule"
            )
    return f"{len(newest)} markets, the newest closed {iso(max(newest.values()) + BAR)}"


def _pushover(project: Any) -> str:
    from mm_dagster.defs.alerts import channel_of

    if all(project.simulated(symbol) for symbol in project.config.symbols):
        return "not needed: a simulated market writes to the ledger and the log"
    missing = [name for name in ("PUSHOVER_TOKEN", "PUSHOVER_USER") if not os.environ.get(name)]
    channel = channel_of(project)
    if channel is None:
        raise CommandError(f"{' and '.join(missing)} not set: messages go to the ledger and the log only; see README")
    channel.validate()
    return "token and user key are present, and Pushover knows them"


# showing --------------------------------------------------------------------------------------------------------------


def _print(rows: Sequence[dict[str, Any]], as_json: bool, *, title: str = "") -> None:
    """Rows as a table for people or as JSON for programs."""
    if as_json:
        sys.stdout.write(json.dumps([{key: _plain(value) for key, value in row.items()} for row in rows], indent=1))
        sys.stdout.write("\n")
        return
    if not rows:
        err.print("nothing to show")
        return
    if len(rows[0]) > TOO_WIDE:
        for number, row in enumerate(rows, start=1):
            out.print(f"[bold]row {number}[/]", highlight=False)
            for name, value in row.items():
                out.print(f"  {name}: {_shown(name, value)}", highlight=False, soft_wrap=True)
        return
    table = Table(title=title or None, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(
            name.replace("_", " "), overflow="fold", justify="right" if isinstance(value, (int, float)) else "left"
        )
    for row in rows:
        table.add_row(*(_shown(name, value) for name, value in row.items()))
    out.print(table)


def _days_done(what: str, *, transient: bool = False) -> Progress:
    """A bar that counts days, with the time that is left.

    Args:
        what: the command.
        transient: the bar is gone when all is done, and where nobody sees it move it is not drawn.
    """
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=err,
        transient=transient,
        disable=transient and not err.is_terminal,
    )


def _print_decisions(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Decisions as a table with the reasons below it, since they are sentences."""
    if as_json:
        _print(rows, as_json)
        return
    times = sorted({iso(row["as_of"]) for row in rows if row["as_of"]})
    simulated = " (SIMULATED)" if any(row["simulated"] for row in rows) else ""
    columns = ("grid", "symbol", "price", "verdict", "confidence", "state", "since")
    title = f"Decisions at {' and '.join(times) or 'no time yet'}{simulated}"
    _print([{name: row[name] for name in columns} for row in rows], as_json, title=title)
    for row in rows:
        out.print(f"[bold]{row['grid']}[/]", highlight=False)
        # In NORMAL a trigger may fire and yet decide nothing, because nothing confirms it.
        mark = "(not decisive) " if row["state"] == "NORMAL" and row["why"] else ""
        for reason in row["why"] or ["No trigger fires." if row["state"] else "Not evaluated yet."]:
            out.print(f"  - {mark}{escape(reason)}", highlight=False)
        for sentence in row["next"][:1] if row["state"] != "MANDATORY_EXIT" else ():
            out.print(f"  - next: {escape(sentence)}", highlight=False)
        if row["total_pnl"] is not None:
            out.print(f"  - {_money(row)}", highlight=False)


def _money(row: dict[str, Any]) -> str:
    """Where a grid stands, in one line whose figures add up."""
    parts = [f"realised {row['grid_profit']:+,.2f}", f"unrealised {row['unrealised_pnl']:+,.2f}"]
    if row["exit_pnl"]:
        parts.append(f"sold at the stop {row['exit_pnl']:+,.2f}")
    quote = row["symbol"].partition("-")[2]
    of = "by its account" if row["source"] == "ACCOUNT" else "modelled"
    at_risk = f"; {row['capital_at_risk']:,.2f} more at risk to the stop" if row["capital_at_risk"] else ""
    return f"stands at {row['total_pnl']:+,.2f} {quote}: {', '.join(parts)} ({of}){at_risk}"


def _print_frame(frame: pl.DataFrame, as_json: bool) -> None:
    if not as_json and frame.is_empty():
        err.print(f"no rows; columns: {', '.join(frame.columns)}")
        return
    _print(list(frame.iter_rows(named=True)), as_json)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: times as ISO 8601 UTC, infinities and NaN as text."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


_COLOURS = {
    "NORMAL": "green", "WARNING": "yellow", "LATEST_ACCEPTABLE_EXIT": "dark_orange", "MANDATORY_EXIT": "bold red",
    "RANGE_OK": "green", "RANGE_WEAK": "yellow", "TRANSITION": "dark_orange", "TREND": "red",
    "OK": "green", "ENTER": "green", "WATCH": "yellow",
    "HOLDS": "green", "DIFFERS": "bold red", "NOTHING COMPARED": "yellow",
}  # fmt: skip

_SHARES = {*(word.lower() for word in VERDICTS), "unknown"}
"""Columns that are shares of the bars: shown in percent."""


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float) and name in _SHARES:
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:,.6g}" if name != "confidence" else f"{value:+.2f}"
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, list):
        return "\n".join(_shown(name, item) for item in value)
    text = str(value)
    return f"[{_COLOURS[text]}]{text}[/]" if text in _COLOURS else escape(text)


def main() -> None:
    """The entry point: every foreseen error is one line on stderr and a non-zero exit code."""
    try:
        code = app(standalone_mode=False)
    except typer.Exit as error:
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort, dg.DagsterExecutionInterruptedError):
        code = INTERRUPTED
    except FORESEEN as error:
        if _options.debug:
            err.print_exception()
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        code = 1
    except Exception as error:
        click_error = getattr(error, "format_message", None)
        if _options.debug:
            err.print_exception()
        if click_error:
            err.print(f"[bold red]error:[/] {escape(click_error())}", soft_wrap=True, highlight=False)
            code = 2
        else:
            first = escape((str(error).splitlines() or [""])[0])
            err.print(
                f"[bold red]error:[/] {type(error).__name__}: {first} (not foreseen; `mm --debug ...` shows the trace)",
                soft_wrap=True,
                highlight=False,
            )
            code = 1
    if code == INTERRUPTED:
        err.print("stopped; what was finished stays")
    sys.exit(code or 0)
