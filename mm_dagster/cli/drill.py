"""For the operator: the whole chain of an alarm, tried before it counts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.operate import PANEL
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.tables.words import RESPONSES
from mm_dagster.text import did_you_mean


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm drill`, `mm drill eth-v3 --wait 300`, `mm drill eth-v3 --yes --json`",
)
def drill(
    grid: Annotated[str | None, typer.Argument(help="The grid to play; default: the first enabled one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, neither before nor for your response.")] = False,
    wait: Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for an acknowledgement.")] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Send one test MANDATORY EXIT through the whole chain, labelled DRILL, and show what arrived when.

    It says beforehand what will ring where, and changes no decision. The code is not 0 when a channel did not take it,
    or nobody acknowledged it in time. On a simulated or recorded market it goes to the log only.
    """
    from mm_dagster.pipeline.drill import hold, plan

    project = project_here()
    grids = {one.id: one for one in project.config.grids}
    if not grids:
        raise CommandError("there is no grid to play; put one under grids/ in the configuration")
    if grid is not None and grid not in grids:
        raise CommandError(f"{grid!r} is no grid of the configuration{did_you_mean(grid, grids)}")
    chosen = grids[grid] if grid else next((one for one in grids.values() if one.enabled), next(iter(grids.values())))
    planned = plan(project, chosen)
    for line in planned.lines():
        err.print(line, soft_wrap=True, highlight=False)
    asks = not yes and sys.stdin.isatty()
    if not yes and not asks:
        raise CommandError("nobody can be asked here; give --yes to send it all the same")
    if asks and not typer.confirm("Send it?", err=True):
        raise typer.Exit(1)

    def answer() -> str | None:
        if not asks or planned.channels == ("log",):
            return None
        said = typer.prompt(f"What did you do ({', '.join(RESPONSES)}; empty: nothing)", default="", err=True)
        return said if said in RESPONSES else None

    held = hold(project, planned, wait_seconds=wait, answer=answer, say=lambda line: err.print(line, soft_wrap=True))
    print_rows(held.steps, as_json, title=f"DRILL · {chosen.id}")
    missed = list(held.failures)
    if planned.is_real and planned.channels == ("log",):
        missed.append(
            "there is no channel: set PUSHOVER_TOKEN and PUSHOVER_USER, or name `telegram` or `apprise` in alerts.yaml"
        )
    for line in missed:
        err.print(f"[bold red]did not work:[/] {line}", soft_wrap=True, highlight=False)
    if missed:
        raise typer.Exit(1)
