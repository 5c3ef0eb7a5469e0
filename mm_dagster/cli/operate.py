"""For the operator: what is true now, and what was done about it."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from mm_dagster import modes
from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import moment_of, time_of
from mm_dagster.cli.printing import AsJson, print_frame, print_rows
from mm_dagster.errors import ForeseenError
from mm_dagster.tables.words import RESPONSES
from mm_dagster.text import did_you_mean

if TYPE_CHECKING:
    from mm_dagster.pages.grid import GridOnPage
    from mm_dagster.pages.page import Page

PANEL = "Operate"


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm status`, `mm status --grid eth-v3 --watch 30`, `mm status --check || echo look`, "
    "`mm status --json | jq '.[].state'`",
)
def status(
    grid: Annotated[str | None, typer.Option(help="Only this grid.")] = None,
    as_of: Annotated[str | None, typer.Option(help="As it stood then, UTC; default: now.")] = None,
    watch: Annotated[int | None, typer.Option(min=1, help="Again every so many seconds, until Ctrl-C.")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit code by the worst running grid: 0 NORMAL, 3 WARNING, 4 stale or never judged, "
            "5 LATEST_ACCEPTABLE_EXIT, 6 MANDATORY_EXIT.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What is true now, the worst first: each grid's state, why, what to do by when, what is at stake; and the system.

    What is old is called STALE before anything else is said. The exit code is 0 unless `--check` is given.
    """
    if watch is not None:
        if as_of or check or as_json:
            raise CommandError("--watch: shows the present to a person; leave out --as-of, --check and --json")
        _watch(grid, watch)
        return
    found = _page_at(as_of, grid)
    if as_json:
        from mm_dagster.pages.rows import row_of

        print_rows([row_of(one, found) for one in found.grids], as_json)
    else:
        from mm_dagster.pages.terminal import status_page

        out.print(status_page(found, out.width))
    if check and found.worst and found.worst.urgency:
        raise typer.Exit(_EXIT_CODES[found.worst.urgency])


_EXIT_CODES = (0, 3, 4, 5, 6)
"""Of `--check`, by the urgency of the worst grid; 1 and 2 are errors."""


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm report --out report.html --open`, `mm report --out - --no-money > share.html`, "
    "`mm report --out crash.html --as-of 2025-10-10T21:30Z --days 3`",
)
def report(
    to: Annotated[str, typer.Option("--out", help="The file to write, or `-` for stdout.")],
    days: Annotated[int, typer.Option(min=1, max=92, help="How far pictures and alerts reach back.")] = 7,
    as_of: Annotated[str | None, typer.Option(help="As it stood then, UTC; default: now.")] = None,
    no_money: Annotated[
        bool, typer.Option("--no-money", help="Leave out amounts, messages and notes: a page to share.")
    ] = False,
    opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write all of it as one web page that needs nothing else, fit for a phone: states, pictures, alerts, quality."""
    from mm_dagster.pages.gather import drawn, drawn_together
    from mm_dagster.pages.report import render

    if to == "-" and opened:
        raise CommandError("--open: there is no file to open with `--out -`; name one")
    found = _page_at(as_of, None, days)
    project = project_here()
    nights = () if no_money else drawn_together(project, found)
    text = render(found, drawn(project, found), nights, generated_at=project.now(), money=not no_money)
    if to == "-":
        sys.stdout.write(text)
        return
    path = Path(to).expanduser().resolve()
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fresh.write_text(text, encoding="utf-8")
        if no_money:
            modes.share(fresh)
        fresh.replace(path)
    except OSError as error:
        raise CommandError(f"--out {to}: {error.strerror}; name a file in a folder that can be written to") from None
    finally:
        fresh.unlink(missing_ok=True)
    err.print(f"report: {path} ({len(text.encode()) / 1000:,.0f} kB)", soft_wrap=True, highlight=False, markup=False)
    if opened and not webbrowser.open(path.as_uri()):
        raise CommandError(f"--open: no browser was found; open {path} yourself")


def _page_at(as_of: str | None, grid: str | None, days: int = 7) -> Page:
    """The page of the present, or of a time that was asked for; of one grid, if one is named."""
    from mm_dagster.pages.gather import page

    project = project_here()
    clock = moment_of(as_of, "--as-of") if as_of else project.now()
    found = page(project, clock, looked_up=as_of is not None, days=days)
    return only(found, grid) if grid else found


def only(found: Page, grid: str) -> Page:
    """The page of one grid and its market.

    Raises:
        CommandError: there is no such grid.
    """
    known = {one.grid.id: one for one in found.grids}
    if grid not in known:
        raise CommandError(f"--grid: {grid!r} is no grid of the configuration{did_you_mean(grid, known)}")
    return replace(
        found,
        grids=(known[grid],),
        markets=tuple(one for one in found.markets if one.symbol == known[grid].grid.symbol),
    )


def _watch(grid: str | None, seconds: int) -> None:
    """The page again and again; Ctrl-C is the way to leave, so it ends with 0."""
    from mm_dagster.pages.gather import page
    from mm_dagster.pages.terminal import status_page
    from mm_dagster.pipeline.project import Project

    project_here()

    def look() -> RenderableType:
        try:
            # A project of its own each time: the configuration may have changed.
            project = Project.here(says_troubles=False)
            found = page(project, project.now())
            return status_page(only(found, grid) if grid else found, out.width)
        except CommandError:
            raise
        except ForeseenError as error:
            return Text(f"NOT KNOWN at {iso(datetime.now(UTC))}: {error}", style="bold red")

    try:
        if not out.is_terminal:
            while True:
                out.print(look())
                time.sleep(seconds)
        with Live(look(), console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                time.sleep(seconds)
                live.update(look(), refresh=True)
    except KeyboardInterrupt:
        return


@app.command(rich_help_panel=PANEL, name="alert-test", epilog="Examples: `mm alert-test`, `mm alert-test --json`")
def alert_test(as_json: AsJson = False) -> None:
    """Send a test message to each channel, and say what came back."""
    from mm_dagster.pipeline.notify import try_channels

    sent = try_channels(project_here())
    if sent.is_empty():
        raise CommandError(
            "there is no channel: set PUSHOVER_TOKEN and PUSHOVER_USER in the environment, or name `telegram` or an "
            "address under `apprise` in alerts.yaml"
        )
    print_frame(sent.select("channel", "status", "attempts", "sent_at", "detail"), as_json)
    if set(sent["status"]) != {"SENT"}:
        raise typer.Exit(1)


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm respond eth-v3 stopped --note 'sold at 3,071'`, "
    "`mm respond eth-v3 kept --at 2026-01-10T12:20Z`",
)
def respond(
    grid: Annotated[str, typer.Argument(help="The grid's id.")],
    action: Annotated[str, typer.Argument(help=f"One of {', '.join(RESPONSES)}.")],
    note: Annotated[str | None, typer.Option(help="In your own words.")] = None,
    at: Annotated[str | None, typer.Option(help="When you did it, UTC; default: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Note what you did about a grid: reminders end until its state rises, `stopped` ends the episode.

    It answers the grid's last alert before it; the audit of response times is made of it. `snoozed` answers none: it
    puts the reminders of a LATEST_ACCEPTABLE_EXIT off for four hours.
    """
    from mm_dagster.pipeline.answers import answer

    project = project_here()
    if action not in RESPONSES:
        raise CommandError(f"{action!r} is no response{did_you_mean(action, RESPONSES)}")
    now = project.now().replace(microsecond=0)
    try:
        done = time_of(at, "--at") if at else now
        if done > now:
            raise ValueError(f"{iso(done)} lies in the future; write when it was done")
        row, more = answer(project, grid, action, done, note)
    except ValueError as error:
        raise CommandError(str(error)) from None
    noted = row.row(0, named=True)
    columns = ("grid_id", "action", "at", "seconds_from_alert", "within_window", "note")
    print_rows([{name: noted[name] for name in columns}], as_json)
    if more:
        err.print(more, soft_wrap=True, highlight=False, markup=False)


def print_decisions(grids: Sequence[GridOnPage], as_of: datetime, as_json: bool) -> None:
    """The decisions of one quarter hour: a table, with the reasons below it, since they are sentences."""
    from mm_dagster.pages.rows import decision_of
    from mm_dagster.pages.sentences import money

    if as_json:
        print_rows([decision_of(one) | {"as_of": one.as_of or as_of} for one in grids], as_json)
        return
    simulated = " (SIMULATED)" if any(one.simulated for one in grids) else ""
    columns = ("grid", "symbol", "price", "verdict", "confidence", "state", "since")
    rows = [decision_of(one) for one in grids]
    title = f"Decisions at {iso(as_of)}{simulated}"
    print_rows([{name: row[name] for name in columns} for row in rows], as_json, title=title)
    for one, row in zip(grids, rows, strict=True):
        out.print(f"[bold]{row['grid']}[/]", highlight=False)
        mark = "(not decisive) " if row["state"] == "NORMAL" and row["why"] else ""
        for reason in row["why"] or ["No trigger fires." if row["state"] else one.advice or "Not judged yet."]:
            out.print(f"  - {mark}{escape(reason)}", highlight=False)
        for sentence in one.next_triggers[:1]:
            out.print(f"  - next: {escape(sentence)}", highlight=False)
        stands = money(one)
        if stands:
            out.print(f"  - {stands}", highlight=False)
