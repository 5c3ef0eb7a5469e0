"""Stage 6, audit: what the operator could have seen, kept where git keeps it."""

import dagster as dg

from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.config import GridConfig
from mm_dagster.defs.describe import GROUP, OWNERS
from mm_dagster.defs.resources import Project, Turn
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
    tick = turn.time
    newest = project.lake.newest("regime_verdict")
    files = {}
    for symbol in turn.symbols or project.config.symbols:
        as_of = floor_bar(tick) if tick else newest.get(symbol)
        if as_of and (rendered := _render(project, symbol, Span(as_of - BAR, as_of))):
            files[snapshot_path(as_of, symbol)] = rendered
    mirror, problem = project.mirror, None
    title = f"{iso(floor_bar(tick)) if tick else 'newest'}: {', '.join(sorted(turn.symbols or project.config.symbols))}"
    commit = mirror.write(files, title) if files else None
    try:
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


def _render(project: Project, symbol: str, bar: Span) -> str | None:
    """The snapshot of one market at one bar; None where nothing is known of it."""
    lake = project.lake
    features = lake.read("regime_features", span=bar, symbols=[symbol])
    verdict = lake.read("regime_verdict", span=bar, symbols=[symbol])
    if features.is_empty() or verdict.is_empty():
        return None
    return render_snapshot(
        symbol,
        bar.end,
        features.row(0, named=True),
        verdict.row(0, named=True),
        [_grid(project, grid, bar) for grid in project.config.grids_on(symbol) if grid.first_as_of <= bar.end],
        project.simulated(symbol),
    )


def _grid(project: Project, grid: GridConfig, bar: Span) -> dict[str, object]:
    parts: dict[str, object] = {"config": grid.model_dump(mode="json")}
    for name, table in (("risk", "grid_risk"), ("exit", "exit_state"), ("entry", "entry_assessment")):
        rows = project.lake.read(table, span=bar, grids=[grid.id])
        parts[name] = rows.row(0, named=True) if rows.height else None
    return parts
