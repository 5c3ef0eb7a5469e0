"""Stage 6, audit: what the operator could have seen, kept where git keeps it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.defs.describe import GROUP, OWNERS
from mm_dagster.defs.resources import Project, Turn
from mm_dagster.grid import account
from mm_dagster.history.mirror import MirrorError
from mm_dagster.history.snapshot import render_snapshot, snapshot_path


@dg.asset(
    deps=["exit_state", "entry_assessment"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"git", "yaml"},
    check_specs=[dg.AssetCheckSpec("nothing_waits_to_be_pushed", asset="snapshot")],
)
def snapshot(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """One YAML file per tick and market in a git repository: regime, grids, risk and exit states, readable without us.

    Committed at every live tick; pushed when history.yaml names a remote. A push that fails loses nothing: the commits
    wait and go with the next.
    """
    symbols = turn.symbols or project.config.symbols
    as_of = floor_bar(turn.time) if turn.time else max(project.lake.newest("regime_verdict").values(), default=None)
    files = _render(project, symbols, Span(as_of - BAR, as_of)) if as_of else {}
    mirror, problem, commit = project.mirror, None, None
    try:
        if as_of and files:
            commit = mirror.write(files, f"{iso(as_of)}: {', '.join(sorted(symbols))}")
        mirror.push()
    except MirrorError as error:
        problem = str(error)
        context.log.warning(problem)
    waiting = mirror.waiting()
    return dg.MaterializeResult(
        metadata={
            "files": len(files),
            "commit": commit or "nothing changed",
            "preview": dg.MetadataValue.md(f"```yaml\n{next(iter(files.values()), '# nothing yet')[:4000]}\n```"),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="nothing_waits_to_be_pushed",
                passed=waiting == 0 and problem is None,
                severity=dg.AssetCheckSeverity.WARN,
                description=problem or f"{waiting} commits wait for the remote.",
            )
        ],
    )


def _account(project: Project, symbol: str, bar: Span) -> dict[str, Any]:
    """The account that a market trades on: what it holds if that may be told, else what its grids are modelled at."""
    config = project.config
    venue = config.venue_of(symbol)[0]
    running = [grid.id for grid in config.grids if grid.enabled and config.venue_of(grid.symbol)[0] == venue]
    risks = project.lake.read("grid_risk", span=bar, grids=running).to_dicts()
    read = project.lake.read("account_snapshot", span=bar).filter((pl.col("venue") == venue) & pl.col("complete"))
    balances = read["balances"][0].to_list() if config.history.mirror.balances and not read.is_empty() else None
    return asdict(account.summary(symbol.partition("-")[2], risks, balances))


def _render(project: Project, symbols: Sequence[str], bar: Span) -> dict[str, str]:
    """The snapshots of one bar by path; nothing for a market of which nothing is known."""
    tables = ("regime_features", "regime_verdict", "grid_risk", "exit_state", "entry_assessment")
    features, verdicts, *by_grid = (project.lake.read(table, span=bar).to_dicts() for table in tables)
    files = {}
    for symbol in symbols:
        measured = [row for row in features if row["symbol"] == symbol]
        verdict = [row for row in verdicts if row["symbol"] == symbol]
        if not measured or not verdict:
            continue
        grids: list[dict[str, Any]] = []
        for grid in project.config.grids_on(symbol):
            if grid.first_as_of <= bar.end:
                rows = [next((row for row in table if row["grid_id"] == grid.id), None) for table in by_grid]
                if rows[0] and rows[0]["source"] == "ACCOUNT" and not project.config.history.mirror.balances:
                    rows[0] |= dict.fromkeys(account.COLUMNS)
                parts = dict(zip(("risk", "exit", "entry"), rows, strict=True))
                grids.append({"config": grid.model_dump(mode="json"), **parts})
        files[snapshot_path(bar.end, symbol)] = render_snapshot(
            symbol, bar.end, measured[0], verdict[0], grids, _account(project, symbol, bar), project.simulated(symbol)
        )
    return files
