"""Stage 6, audit: what the operator could have seen, kept where git keeps it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from mm_dagster import charts
from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.defs.describe import GROUP, OWNERS, picture, preview
from mm_dagster.defs.resources import Project, Turn
from mm_dagster.grid import account, position
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


@dg.asset(deps=["notification"], group_name=GROUP, owners=OWNERS, kinds={"duckdb"})
def alert_audit(project: Project) -> dg.MaterializeResult:
    """What the operator did about the alerts, by month and state: how soon, how often within the window, how often not.

    A response is noted with `mm respond`; the same figures are in the view `response_kpis`.
    """
    kpis = project.lake.sql("FROM response_kpis")
    metadata: dict[str, Any] = {"by_month_and_state": preview(kpis)}
    if kpis.height:
        prefix = "SIMULATED · " if project.wholly_simulated else ""
        drawn = charts.response_picture(kpis, title_prefix=prefix, dots_per_inch=60)
        metadata["picture"] = picture(drawn, "minutes to act, and alerts answered")
    return dg.MaterializeResult(metadata=metadata)


def _render(project: Project, symbols: Sequence[str], bar: Span) -> dict[str, str]:
    """The snapshots of one bar by path; nothing for a market of which nothing is known."""
    config, lake = project.config, project.lake
    tables = ("regime_features", "regime_verdict", "grid_risk", "exit_state", "entry_assessment")
    features, verdicts, risks, *others = (lake.read(table, span=bar).to_dicts() for table in tables)
    accounts = lake.read("account_snapshot", span=bar).filter("complete").to_dicts()
    published = {row["venue"]: row["balances"] for row in accounts if config.history.mirror.balances}
    if not config.history.mirror.balances:
        risks = [row | dict.fromkeys(position.PRIVATE) if row["source"] == "ACCOUNT" else row for row in risks]
    running = [
        (config.venue_of(row["symbol"])[0], row)
        for row in risks
        if any(grid.id == row["grid_id"] and grid.enabled for grid in config.grids)
    ]
    files = {}
    for symbol in symbols:
        measured = [row for row in features if row["symbol"] == symbol]
        verdict = [row for row in verdicts if row["symbol"] == symbol]
        if not measured or not verdict:
            continue
        grids: list[dict[str, Any]] = []
        for grid in config.grids_on(symbol):
            if grid.first_as_of <= bar.end:
                rows = [next((row for row in table if row["grid_id"] == grid.id), None) for table in (risks, *others)]
                parts = dict(zip(("risk", "exit", "entry"), rows, strict=True))
                grids.append({"config": grid.model_dump(mode="json"), **parts})
        venue = config.venue_of(symbol)[0]
        mine = [row for name, row in running if name == venue]
        held = asdict(account.summary(symbol.partition("-")[2], mine, published.get(venue)))
        files[snapshot_path(bar.end, symbol)] = render_snapshot(
            symbol, bar.end, measured[0], verdict[0], grids, held, project.simulated(symbol)
        )
    return files
