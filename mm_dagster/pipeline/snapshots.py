"""The snapshots of one bar, as the mirror keeps them, and how they get there."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.grid import account, position
from mm_dagster.history.mirror import MirrorError
from mm_dagster.history.snapshot import render_snapshot, snapshot_path
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.tick_row import end_tick
from mm_dagster.pipeline.work import plan


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


@dataclass(frozen=True)
class Kept:
    """What became of the snapshots of a bar.

    Attributes:
        files: their texts by path.
        commit: which commit they are; None: nothing changed.
        problem: why the mirror could not keep or push them; None: it could.
        waiting: how many commits wait for the remote.
    """

    files: Mapping[str, str]
    commit: str | None
    problem: str | None
    waiting: int

    @property
    def finding(self) -> Finding:
        """Whether all of them are at the remote."""
        sentence = self.problem or f"{self.waiting} commits wait for the remote."
        return Finding("nothing_waits_to_be_pushed", self.waiting == 0 and self.problem is None, sentence)


def keep_snapshots(project: Project, symbols: Sequence[str], tick: datetime | None, run_id: str) -> Kept:
    """Commits the snapshots of a tick to the mirror, and pushes what waits; then the tick is done.

    A push that fails loses nothing.

    Args:
        project: configuration, lake and mirror.
        symbols: only these markets; none named: all of the configuration.
        tick: the tick's as_of; None: the newest verdict.
        run_id: the run.
    """
    wanted = symbols or project.config.symbols
    as_of = floor_bar(tick) if tick else max(project.lake.newest("regime_verdict").values(), default=None)
    files = snapshots(project, wanted, Span(as_of - BAR, as_of)) if as_of else {}
    problem, commit, waiting = None, None, 0
    try:
        mirror = project.mirror
        if as_of and files:
            commit = mirror.write(files, f"{iso(as_of)}: {', '.join(sorted(wanted))}")
        waiting = mirror.waiting()
        mirror.push()
        waiting = mirror.waiting()
    except MirrorError as error:
        problem = str(error)
    if tick:
        end_tick(plan(project, run_id, as_of=tick, symbols=symbols))
    return Kept(files, commit, problem, waiting)
