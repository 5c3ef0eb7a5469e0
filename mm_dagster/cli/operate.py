"""For the operator: what is true now, and what was done about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from mm_dagster.bars import BAR, Span, iso, parse_time
from mm_dagster.cli.app import CommandError, app, out, project_here
from mm_dagster.cli.printing import AsJson, print_frame, print_rows
from mm_dagster.history.lake import Commit
from mm_dagster.market.venue import did_you_mean
from mm_dagster.tables import RESPONSES

PANEL = "Operate"


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm status`, `mm status --json | jq '.[].state'`")
def status(as_json: AsJson = False) -> None:
    """What is true now: for each grid its price, verdict, exit state and why."""
    print_decisions(decisions(None), as_json)


@app.command(rich_help_panel=PANEL, name="alert-test", epilog="Examples: `mm alert-test`, `mm alert-test --json`")
def alert_test(as_json: AsJson = False) -> None:
    """Send a test message to each channel, and say what came back."""
    from mm_dagster.defs.alerts import try_channels

    told = try_channels(project_here())
    if told.is_empty():
        raise CommandError(
            "there is no channel: set PUSHOVER_TOKEN and PUSHOVER_USER in the environment, or name an address under "
            "`apprise` in alerts.yaml"
        )
    print_frame(told.select("channel", "status", "attempts", "sent_at", "detail"), as_json)
    if set(told["status"]) != {"SENT"}:
        raise typer.Exit(1)


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm respond eth-v3 stopped --note 'sold at 3,071'`, "
    "`mm respond eth-v3 kept --at 2026-01-10T12:20Z`",
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

    project = project_here()
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
    print_rows([{name: told[name] for name in columns}], as_json)


def decisions(as_of: datetime | None) -> list[dict[str, Any]]:
    """One row for each grid: what was decided at as_of, or last."""
    from mm_dagster.exit.why import why

    project = project_here()
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


def _row(project: Any, table: str, name: str, as_of: datetime | None) -> dict[str, Any] | None:
    """The row of a grid or market at as_of; without one, its newest."""
    key = "symbols" if table == "regime_verdict" else "grids"
    span = Span(as_of - BAR, as_of) if as_of else None
    rows = project.lake.read(table, span=span, **{key: [name]}).sort("as_of")
    return rows.row(-1, named=True) if rows.height else None


def print_decisions(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Decisions as a table with the reasons below it, since they are sentences."""
    if as_json:
        print_rows(rows, as_json)
        return
    times = sorted({iso(row["as_of"]) for row in rows if row["as_of"]})
    simulated = " (SIMULATED)" if any(row["simulated"] for row in rows) else ""
    columns = ("grid", "symbol", "price", "verdict", "confidence", "state", "since")
    title = f"Decisions at {' and '.join(times) or 'no time yet'}{simulated}"
    print_rows([{name: row[name] for name in columns} for row in rows], as_json, title=title)
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
