"""For who runs several grids: what a bad night costs all of them, who contributes, and what other capital would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError, app, out, project_here
from mm_dagster.cli.arguments import moment_of
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.config import written

if TYPE_CHECKING:
    from mm_dagster.pipeline.together import Together
    from mm_dagster.pipeline.what_if import WhatIf

PANEL = "Operate"


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm portfolio`, `mm portfolio --what-if eth-v3=2000 --what-if sol-v1=0`, "
    "`mm portfolio --as-of 2025-10-10T20:00Z`, `mm portfolio --json | jq '.[0].es_5_24h'`",
)
def portfolio(
    as_of: Annotated[str | None, typer.Option(help="As it stood then; default: now.")] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(metavar="GRID=CAPITAL", help="With other capital in a grid, 0 without it; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """All grids at once: what one night in 20 costs them together, who contributes, which limits that passes.

    The markets follow each night of the past months again, in units of today's volatility, and every grid is replayed
    on it. Limits stand in portfolio.yaml; they advise, and stop nothing. `--what-if` computes the same with other
    capital, beside it as it is; a grid that does not run is opened at the last price, as its file says. Nothing is
    stored.
    """
    from mm_dagster.pipeline.together import NoPortfolio, added_by, together

    project = project_here()
    asked = asked_of(what_if or [])
    clock = moment_of(as_of, "--as-of") if as_of else project.now()
    found = together(project, clock)
    if not found:
        if not any(grid.enabled for grid in project.config.grids):
            raise NoPortfolio("no grid runs, so there is nothing to add up: `enabled: true` in grids/*.yaml starts one")
        raise NoPortfolio(
            f"nothing is known of all grids together at {iso(clock)}: no grid ran, or it was not computed; a tick or "
            "`mm backfill` computes it"
        )
    compared: Sequence[WhatIf] = ()
    if asked:
        # Imported here because it loads the compiled replay.
        from mm_dagster.pipeline.what_if import what_if as compare

        compared = compare(project, found[0].risk["as_of"], asked)
    simulated = project.config.is_simulated
    if as_json:
        from mm_dagster.pages.rows import night_of

        asked_by = {one.before.risk["quote"]: one for one in compared}
        shown = {**{quote: one.before for quote, one in asked_by.items()}, **{one.risk["quote"]: one for one in found}}
        rows = [night_of(shown[quote]) | {"simulated": simulated} for quote in sorted(shown)]
        compared_by = {quote: compared_of(one) for quote, one in asked_by.items()}
        print_rows([row | {"what_if": compared_by.get(row["quote"])} for row in rows], as_json)
        return
    if simulated:
        out.print("[bold]SIMULATED:[/] no money is at stake.")
    if compared:
        _print_what_if(compared)
        return
    for number, one in enumerate(found):
        if number:
            out.print()
        _print(one, only=len(found) == 1, clock=clock)
    waiting = [grid.id for grid in project.config.grids if not grid.enabled]
    added = added_by(project, found[0].risk["as_of"], waiting)
    if added:
        out.print("Grids that wait, which is how markets compare: none was found to earn more by what it looks like.")
        for name, line in sorted(added.items()):
            out.print(f"- {name}: {line}", highlight=False, soft_wrap=True, markup=False)


def asked_of(pairs: Sequence[str]) -> dict[str, float]:
    """The capital that is asked about, by grid.

    Raises:
        CommandError: one is no GRID=CAPITAL, or names a grid twice.
    """
    asked: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not name or not equals:
            raise CommandError(f"--what-if {pair}: write GRID=CAPITAL, as in `--what-if eth-v3=2000`; 0 is without it")
        try:
            capital = float(text)
        except ValueError:
            raise CommandError(f"--what-if {pair}: {text!r} is no number; {written.plain_number(text)}") from None
        if written.is_ambiguous(text):
            raise CommandError(f"--what-if {pair}: {text} may be meant in thousands; write {text.replace('.', '')}")
        if not (math.isfinite(capital) and capital >= 0):
            raise CommandError(f"--what-if {pair}: {text!r} is no capital; write a number of at least 0, like 2000")
        if name in asked:
            raise CommandError(f"--what-if {pair}: {name} is named twice; name each grid once")
        asked[name] = capital
    return asked


def _print(found: Together, *, only: bool, clock: Any) -> None:
    """One quote currency for people."""
    from mm_dagster.pages.portfolio import grids_table, legend, limits_legend, limits_table, sentences

    config = project_here().config
    for line in sentences(found, config.portfolio, clock, config.alerts.timezone, only=only):
        out.print(line, highlight=False, soft_wrap=True, markup=False)
    if found.contributions:
        out.print(grids_table(found))
        out.print(legend(found), highlight=False, soft_wrap=True)
    if found.limits:
        out.print(limits_table(found.limits, config.alerts.timezone))
        out.print(limits_legend(found), highlight=False, soft_wrap=True)


def _print_what_if(compared: Sequence[WhatIf]) -> None:
    """Before and after for people."""
    from mm_dagster.pages.portfolio import what_if_sentences, what_if_table

    config = project_here().config
    for number, one in enumerate(compared):
        if number:
            out.print()
        for line in what_if_sentences(one, config.portfolio, config.alerts.timezone):
            out.print(line, highlight=False, soft_wrap=True, markup=False)
        out.print(what_if_table(one))


def compared_of(asked: WhatIf) -> dict[str, Any]:
    """What was asked and what came of it, as JSON."""
    from mm_dagster.pages.rows import night_of

    changes = [{"grid_id": one.grid_id, "before": one.before, "after": one.after} for one in asked.changes]
    before, after = night_of(asked.before), night_of(asked.after)
    difference = {
        name: None if None in (before[name], after[name]) else after[name] - before[name]
        for name in ("capital", "var_5_24h", "es_5_24h", "var_1_24h", "all_stops")
    }
    return {"changes": changes, "before": before, "after": after, "difference": difference}
