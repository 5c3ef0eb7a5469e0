"""The snapshots of one bar, as the mirror keeps them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mm_dagster.bars import Span
from mm_dagster.grid import account, position
from mm_dagster.history.snapshot import render_snapshot, snapshot_path
from mm_dagster.pipeline.project import Project


def snapshots(project: Project, symbols: Sequence[str], bar: Span) -> dict[str, str]:
    """The snapshots of one bar by path; nothing for a market of which nothing is known."""
    config, lake = project.config, project.lake
    tables = ("regime_features", "regime_verdict", "grid_risk", "exit_state", "entry_assessment")
    features, verdicts, risks, *others = (lake.read(table, span=bar).to_dicts() for table in tables)
    accounts = lake.read("account_snapshot", span=bar).filter("complete").to_dicts()
    published = {row["venue"]: row["balances"] for row in accounts if config.history.mirror.balances}
    if not config.history.mirror.balances:
        risks = [row | dict.fromkeys(position.PRIVATE) if row["source"] == "ACCOUNT" else row for row in risks]
    running = [
        (config.market(row["symbol"]).venue, row)
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
        venue = config.market(symbol).venue
        mine = [row for name, row in running if name == venue]
        held = asdict(account.summary(symbol.partition("-")[2], mine, published.get(venue)))
        files[snapshot_path(bar.end, symbol)] = render_snapshot(
            symbol, bar.end, measured[0], verdict[0], grids, held, project.config.market(symbol).is_simulated
        )
    return files
