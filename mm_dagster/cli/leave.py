"""For who has to leave a grid: what to sell, over which time, at what limit, what that costs; and to have it done."""

from __future__ import annotations

import os
import pwd
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import moment_of
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.text import counted, did_you_mean, local_time, positive_decimal

if TYPE_CHECKING:
    from decimal import Decimal

    from mm_dagster.config.orders import Mode
    from mm_dagster.execution.journal import Kept
    from mm_dagster.pipeline.project import Project

PANEL = "Operate"
STATUS, HALT, RESUME = "status", "halt", "resume"


@app.command(
    "exit",
    rich_help_panel=PANEL,
    epilog="Examples: `mm exit eth-v3`, `mm exit eth-v3 --over 15`, `mm exit eth-v3 --json | jq '.[0].minutes'`, "
    "`mm exit eth-v3 --as-of 2025-10-10T21:15Z`; `mm exit eth-v3 --paper`, `mm exit eth-v3 --yes --stopped`, "
    "`mm exit status`, `mm exit halt PLAN`, `mm exit resume PLAN`",
)
def leave(
    grid: Annotated[str, typer.Argument(help="Id of a running grid; or status, halt, resume.")],
    plan: Annotated[str | None, typer.Argument(help="Of status, halt and resume: the plan.")] = None,
    over: Annotated[int | None, typer.Option(help="Minutes: 0, 5, 15 or 60; default: what costs least.")] = None,
    as_of: Annotated[str | None, typer.Option(help="As it stood then; default: now.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Carry it out on paper, on the order book of now.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Let the exchange check the orders; none is placed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Carry it out for real: you approve this plan.")] = False,
    stopped: Annotated[
        bool, typer.Option("--stopped", help="You stopped the grid's bot, and it kept its coins.")
    ] = False,
    amount: Annotated[str | None, typer.Option(help="What the grid holds by your word, base currency.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Yes to what the plan asks.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Approve only; the daemon carries it out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plan how to leave a grid: what to sell where, how long, at what limit, what it costs, and what is not known.

    Without --paper, --test or --yes nothing is sent to an exchange: the hand that sells is yours. With one of them the
    plan is carried out, if orders.yaml allows it; Ctrl-C halts it. The least cost weighs what waiting risks; an
    interval is what the price may do meanwhile. Costs come from the order book of the newest tick where it was read,
    else from a model of volume and volatility.
    """
    project = project_here()
    modes: list[Mode] = [mode for mode, is_asked in (("paper", paper), ("test", test), ("live", yes)) if is_asked]  # type: ignore[misc]
    if len(modes) > 1:
        raise CommandError("--paper, --test and --yes: choose one")
    if grid in (STATUS, HALT, RESUME):
        _of_plans(project, grid, plan, _amount(amount), no_wait, as_json)
        return
    if plan is not None:
        raise CommandError(f"{plan}: one grid at a time; `mm exit status|halt|resume PLAN` is for plans")
    known = [one.id for one in project.config.grids]
    if grid not in known:
        raise CommandError(f"{grid}: there is no such grid{did_you_mean(grid, [*known, STATUS, HALT, RESUME])}")
    if not modes:
        _show(project, grid, over, as_of, as_json)
        return
    if as_of is not None:
        raise CommandError("--as-of: what is carried out is of now; leave it out")
    _carry_out(project, grid, modes[0], over, _amount(amount), stopped, accept, no_wait, as_json)


def _show(project: Project, grid: str, over: int | None, as_of: str | None, as_json: bool) -> None:
    from mm_dagster.pages.exit_plan import sentences, table
    from mm_dagster.pipeline.book_answers import said_of_books
    from mm_dagster.pipeline.episodes import price_ticks
    from mm_dagster.pipeline.leave import plan_of

    moment = moment_of(as_of, "--as-of") if as_of else None
    found = plan_of(project, grid, moment, over)
    if as_json:
        row = asdict(found.plan)
        print_rows([row | {name: list(row[name]) for name in ("horizons", "unknown")}], as_json)
        return
    tick = price_ticks(project.lake).get((found.grid.id, found.grid.activated_at))
    if project.config.market(found.grid.symbol).is_simulated:
        out.print("[bold]SIMULATED:[/] there is nothing to sell.")
    of_books = said_of_books(project, found.grid.symbol, moment or project.venues.clock(found.grid.symbol))
    for line in sentences(found.plan, project.config.alerts.timezone, tick, of_books):
        out.print(line, highlight=False, soft_wrap=True)
    if found.plan.amount:
        out.print(table(found.plan))
    if found.plan.unknown:
        out.print("What is not known:", highlight=False)
        for line in found.plan.unknown:
            out.print(f"- {line}", highlight=False, soft_wrap=True)


def _carry_out(
    project: Project, grid: str, mode: Mode, over: int | None, amount: Decimal | None, stopped: bool, accept: bool,
    no_wait: bool, as_json: bool,
) -> None:  # fmt: skip
    """Propose, approve, carry out; each may refuse."""
    if not project.config.orders.allows(mode):
        raise CommandError(
            f"orders.yaml: mode: {project.config.orders.mode} allows no {mode} plan; write `mode: {mode}` into it when "
            "you have read docs/orders.md"
        )
    # Imported here because with `mode: off` nothing of this is loaded.
    from mm_dagster.pipeline import exits

    kept = exits.propose(project, grid, mode, over=over, accept=accept)
    terms = kept.plan.terms
    base, _, quote = terms.symbol.partition("-")
    size = terms.rules.amount(terms.inventory) if amount is None else amount
    bound = f", of {terms.most_quote} {quote} at most" if mode != "paper" else ""
    err.print(
        f"plan {kept.plan_id}: {mode}, proposed: to sell {size} {base} in {counted(terms.slices, 'order')}{bound}, "
        f"none more than {100 * terms.hard:.2f} % below the mid price",
        highlight=False,
    )
    try:
        kept = exits.approve(project, kept.plan_id, who(), stopped=stopped, amount=amount)
    except KeyboardInterrupt:
        # It may have been approved already, and the daemon would carry it out.
        exits.halt(project, kept.plan_id, f"{who()}, by Ctrl-C")
        raise
    if no_wait:
        err.print(
            "approved; the daemon carries it out, if `mm up` runs it. `mm exit status` follows it", highlight=False
        )
    else:
        kept = _work(project, kept)
    _print(project, [kept], as_json)
    if not no_wait and kept.plan.state != "DONE":
        raise typer.Exit(1)


def _work(project: Project, kept: Kept) -> Kept:
    from mm_dagster.pipeline import exits

    def say(kind: str, said: str) -> None:
        err.print(f"{local_time(project.now(), project.config.alerts.timezone)} {kind}: {said}", highlight=False)

    try:
        return exits.carry_out(project, kept.plan_id, say=say)
    except KeyboardInterrupt:
        # Who presses it while something is sold means that.
        exits.halt(project, kept.plan_id, f"{who()}, by Ctrl-C")
        err.print(f"halted; what was sent is sent. `mm exit status {kept.plan_id}` says what became of it")
        raise


def _of_plans(
    project: Project, what: str, plan: str | None, amount: Decimal | None, no_wait: bool, as_json: bool
) -> None:
    from mm_dagster.execution.journal import Journal, exists
    from mm_dagster.pipeline import exits

    if not exists(project.data):
        raise CommandError(f"there is no plan; orders.yaml has mode {project.config.orders.mode}, see docs/orders.md")

    journal = Journal(project.data)
    if what == STATUS:
        found = [journal.kept(plan)] if plan else list(reversed(journal.all()))
        _print(project, found, as_json, with_events=plan is not None)
        return
    if plan is None:
        raise CommandError(f"mm exit {what}: name the plan; `mm exit status` lists them")
    if what == HALT:
        kept = exits.halt(project, plan, who())
    else:
        kept = exits.resume(project, plan, who(), amount=amount)
        kept = kept if no_wait else _work(project, kept)
    _print(project, [kept], as_json)


def _print(project: Project, plans: list[Kept], as_json: bool, *, with_events: bool = False) -> None:
    from mm_dagster.execution.journal import Journal
    from mm_dagster.pipeline.exit_ledger import plan_row

    rows = [plan_row(one) for one in plans]
    journal = Journal(project.data)
    if as_json:
        print_rows(
            [row | {"events": [asdict(event) for event in journal.events(row["plan_id"])]} for row in rows], as_json
        )
        return
    zone = project.config.alerts.timezone
    shown = [
        {
            "plan": row["plan_id"], "grid": row["grid_id"], "mode": row["mode"], "state": row["state"],
            "sold": f"{row['filled']:g} of {row['amount']:g}", "proceeds": row["proceeds"],
            "shortfall_bp": row["shortfall_bp"], "forecast_bp": row["expected_bp"],
            "since": local_time(row["ended_at"] or row["approved_at"] or row["created_at"], zone),
        }
        for row in rows
    ]  # fmt: skip
    print_rows(shown, as_json)
    for row in rows[:1] if len(rows) > 1 else rows:
        out.print(f"{row['plan_id']}: {row['reason']}", highlight=False, soft_wrap=True)
    if with_events:
        for event in journal.events(plans[0].plan_id):
            out.print(f"  {local_time(event.at, zone)} {event.kind}: {event.said}", highlight=False, soft_wrap=True)


def _amount(text: str | None) -> Decimal | None:
    if text is None:
        return None
    found = positive_decimal(text)
    if found is None:
        raise CommandError(f"--amount: {text!r} is no amount; write it with a point, like 0.42")
    return found


def who() -> str:
    """Who approves, as the computer knows them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "somebody"
