"""For who has to leave a grid: what to sell, over which time, at what limit, and what that costs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mm_dagster.cli.app import CommandError, app, out, project_here
from mm_dagster.cli.arguments import moment_of
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.text import did_you_mean

PANEL = "Operate"


@app.command(
    "exit",
    rich_help_panel=PANEL,
    epilog="Examples: `mm exit eth-v3`, `mm exit eth-v3 --over 15`, `mm exit eth-v3 --json | jq '.[0].minutes'`, "
    "`mm exit eth-v3 --as-of 2025-10-10T21:15Z`",
)
def leave(
    grid: Annotated[str, typer.Argument(help="Id of a running grid.")],
    over: Annotated[int | None, typer.Option(help="Minutes: 0, 5, 15 or 60; default: what costs least.")] = None,
    as_of: Annotated[str | None, typer.Option(help="As it stood then; default: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan how to leave a grid: what to sell where, how long, at what limit, what it costs, and what is not known.

    Nothing is sent to an exchange: the hand that sells is yours. The least cost weighs what waiting risks; an interval
    is what the price may do meanwhile. Costs come from the order book of the newest tick where it was read, else from a
    model of volume and volatility.
    """
    from mm_dagster.pages.exit_plan import sentences, table
    from mm_dagster.pipeline.episodes import price_ticks
    from mm_dagster.pipeline.leave import plan_of

    project = project_here()
    known = [one.id for one in project.config.grids]
    if grid not in known:
        raise CommandError(f"{grid}: there is no such grid{did_you_mean(grid, known)}")
    found = plan_of(project, grid, moment_of(as_of, "--as-of") if as_of else None, over)
    if as_json:
        row = asdict(found.plan)
        print_rows([row | {name: list(row[name]) for name in ("horizons", "unknown")}], as_json)
        return
    tick = price_ticks(project.lake).get((found.grid.id, found.grid.activated_at))
    if project.config.market(found.grid.symbol).is_simulated:
        out.print("[bold]SIMULATED:[/] there is nothing to sell.")
    for line in sentences(found.plan, project.config.alerts.timezone, tick):
        out.print(line, highlight=False, soft_wrap=True)
    if found.plan.amount:
        out.print(table(found.plan))
    if found.plan.unknown:
        out.print("What is not known:", highlight=False)
        for line in found.plan.unknown:
            out.print(f"- {line}", highlight=False, soft_wrap=True)
