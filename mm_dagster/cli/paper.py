"""For who wants to see what leaving by a rule would have done: the paper operator. Nothing is sent to an exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import moment_of
from mm_dagster.cli.leave import who
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.text import counted, local_time

if TYPE_CHECKING:
    from mm_dagster.pipeline.project import Project

PANEL = "Operate"
LEVELS = {"warning": "WARNING", "latest": "LATEST_ACCEPTABLE_EXIT", "mandatory": "MANDATORY_EXIT"}
"""Short words for the levels."""

paper_app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Leave grids on paper as soon as they reach a level, and see what that was worth. No order is placed.",
)
app.add_typer(paper_app, name="paper", rich_help_panel=PANEL)


@paper_app.command(
    epilog="Examples: `mm paper start`, `mm paper start --at mandatory --grid eth-v3`, "
    "`mm paper start --from 2026-06-01`, `mm paper start --over 15 --json`"
)
def start(
    at: Annotated[
        str, typer.Option("--at", metavar="LEVEL", help="warning, latest or mandatory; a higher one counts, too.")
    ] = "latest",
    grid: Annotated[list[str] | None, typer.Option("--grid", help="Only this one; may be repeated.")] = None,
    over: Annotated[int | None, typer.Option(help="Minutes: 0, 5, 15 or 60; default: by each plan.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="On stored candles, from then on; default: from now on."),
    ] = None,
    candles: Annotated[
        bool, typer.Option("--candles", help="On stored candles, three hours late, although there are order books.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Begin a session: each grid that reaches the level is left once, on paper.

    On the order books of now the daemon does it, after each tick: `mm up` must run. On stored candles what has happened
    is done at once. orders.yaml must allow it (`mode: paper`).
    """
    # Imported here because with `mode: off` nothing of this is loaded.
    project = project_here()
    _refuse_off(project)
    from mm_dagster.execution.costs import HORIZONS
    from mm_dagster.pipeline import paper_sessions

    level = LEVELS.get(at.lower(), at.upper())
    if over is not None and over not in HORIZONS:
        raise CommandError(f"--over {over}: the costs are known for {', '.join(map(str, HORIZONS))} minutes")
    row = paper_sessions.start(
        project,
        level=level,
        grids=grid or (),
        over=over,
        since=moment_of(since, "--from") if since else None,
        on_candles=candles,
        by=who(),
    )
    paper_sessions.act(project, lambda said: err.print(said, highlight=False, soft_wrap=True))
    _print(project, row["session_id"], as_json)
    if not as_json and row["prices"] == "BOOKS":
        err.print("the daemon carries it on after each tick, if `mm up` runs; `mm paper stop` ends it", highlight=False)


@paper_app.command(epilog="Examples: `mm paper stop`, `mm paper stop --let-go`")
def stop(
    let_go: Annotated[bool, typer.Option("--let-go", help="Halt the plans under way; default: they end.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the session: it makes no new plan, and those under way come to their end, or are let go."""
    project = project_here()
    _refuse_off(project)
    from mm_dagster.pipeline import paper_sessions

    row = paper_sessions.stop(project, who(), let_go=let_go)
    left = len(paper_sessions.under_way(project, row["session_id"]))
    if left:
        err.print(f"{counted(left, 'plan')} under way: the session ends when the daemon has carried them out")
    _print(project, row["session_id"], as_json)


@paper_app.command(
    epilog="Examples: `mm paper status`, `mm paper status 20260629-a1b2c3`, `mm paper status --json | jq '.[0].plans'`"
)
def status(
    session: Annotated[str | None, typer.Argument(metavar="[SESSION]", help="Default: the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a session: what each plan sold, what it cost beside the forecast, and what leaving was worth.

    Doing nothing is what the grid would fetch 14 days later, or now where that is sooner. `own` is what it would have
    fetched when you stopped it.
    """
    project = project_here()
    _refuse_off(project)
    from mm_dagster.pipeline import paper_sessions

    row = paper_sessions.newest(project) if session is None else paper_sessions.one(project, session)
    if row is None:
        raise CommandError(
            "no session was ever started; `mm paper start` begins one"
            if session is None
            else f"{session}: there is no such session; `mm sql 'FROM session'` lists them"
        )
    _print(project, row["session_id"], as_json)


def _refuse_off(project: Project) -> None:
    if not project.config.orders.allows("paper"):
        raise CommandError(
            f"orders.yaml: mode: {project.config.orders.mode} allows no plan on paper; write `mode: paper` into it"
        )


def _print(project: Project, session_id: str, as_json: bool) -> None:
    from mm_dagster.pipeline import paper_sessions

    found = paper_sessions.report(project, session_id)
    if as_json:
        print_rows([found], as_json)
        return
    zone = project.config.alerts.timezone
    over = "by each plan" if found["over_minutes"] is None else f"over {found['over_minutes']} min"
    which = ", ".join(found["grids"]) if found["grids"] else "all running grids"
    sold_into = "the order books of now" if found["prices"] == "BOOKS" else f"stored candles from {iso(found['since'])}"
    out.print(
        f"session {session_id}: {found['state']} since {local_time(found['started_at'], zone)}, leaves {which} at "
        f"{found['level']} {over}, on {sold_into}",
        highlight=False,
        soft_wrap=True,
    )
    if project.config.is_simulated:
        out.print("[bold]SIMULATED:[/] no price of it is real.")
    shown: list[dict[str, Any]] = [
        {
            "grid": row["grid_id"], "at": row["as_of"], "state": row["state"],
            "sold": f"{row['filled']:g} of {row['amount']:g}", "cost_bp": row["shortfall_bp"],
            "forecast_bp": row["expected_bp"], "vs_nothing": row["gain_vs_nothing"], "vs_own": row["gain_vs_own"],
        }
        for row in found["plans"]
    ]  # fmt: skip
    if shown:
        print_rows(shown, as_json)
    else:
        out.print("no grid has been left yet")
    for row in found["plans"]:
        for fault in row["faults"]:
            err.print(f"[red]does not agree:[/] {fault}", soft_wrap=True)
