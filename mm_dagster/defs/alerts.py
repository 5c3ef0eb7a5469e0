"""Stage 5, alerts: what is due is noted, sent once, and noted again. Outside of partitions and backfills."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import dagster as dg
import polars as pl
from filelock import FileLock

from mm_dagster.alerts import message, policy
from mm_dagster.alerts.ledger import Outgoing, dispatch
from mm_dagster.alerts.pushover import Pushover
from mm_dagster.bars import Span, ceil_bar, floor_bar
from mm_dagster.config import GridConfig
from mm_dagster.defs.describe import GROUP, OWNERS, columns_of, preview
from mm_dagster.defs.exit import grid_picture
from mm_dagster.defs.resources import Project, Turn
from mm_dagster.exit.why import why
from mm_dagster.history.lake import Commit

logger = logging.getLogger(__name__)

LOOK_BACK = timedelta(days=2)
"""How old a row may be and still count as the newest that is known of a grid."""


@dg.asset(
    deps=["exit_state", "entry_assessment"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pushover"},
    metadata=columns_of("notification"),
    pool="alerts",
    check_specs=[dg.AssetCheckSpec("everything_due_was_taken", asset="notification")],
)
def notification(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """The ledger of alerts: a row is committed before anything is sent, and again with what became of it.

    A crash between the two sends again rather than never. Only the newest state of a fresh bar is news, so a backfill
    never sends. A simulated market, and everything while there are no Pushover credentials, goes to the log.
    """
    ledger = _LakeLedger(project, context.run.run_id)
    rows = []
    with FileLock(project.data / "alerts.lock"):
        for news in _news(project, turn.time):
            outgoing = [_outgoing(project, news, alert) for alert in news.alerts]
            done = dispatch(
                outgoing, news.cancellations, ledger=ledger, channel=channel_of(project), clock=news.clock_now
            )
            rows.append(done)
    sent = pl.concat(rows) if rows else ledger.read().clear()
    failed = sent.filter(pl.col("status").is_in(["PENDING", "FAILED"]))
    shown = ["grid_id", "as_of", "kind", "state", "priority", "status", "channel", "title"]
    return dg.MaterializeResult(
        metadata={
            "told": sent.filter(pl.col("status") == "SENT").height,
            "preview": preview(ledger.read().sort("created_at").tail(10).select(shown)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="everything_due_was_taken",
                passed=failed.is_empty(),
                severity=dg.AssetCheckSeverity.ERROR,
                description="; ".join(f"{row['title']}: {row['detail']}" for row in failed.iter_rows(named=True))
                or "Every channel took what it was given.",
            )
        ],
    )


def due_now(project: Project, at: datetime | None = None) -> int:
    """How many alerts and cancellations wait to be sent; `at` sets the clock of simulated markets."""
    return sum(len(news.alerts) + len(news.cancellations) for news in _news(project, at))


@dataclass(frozen=True)
class _News:
    """What is due on the markets of one venue, by its clock."""

    alerts: list[policy.Alert]
    cancellations: list[policy.Cancellation]
    states: pl.DataFrame
    entries: pl.DataFrame
    risks: pl.DataFrame
    project: Project
    symbol: str
    at: datetime | None

    def clock_now(self) -> datetime:
        return self.at or self.project.clock(self.symbol)


def _news(project: Project, at: datetime | None) -> Iterator[_News]:
    """What is due, venue by venue, since each has a clock of its own.

    Args:
        project: where the rows are.
        at: the clock of simulated markets; None: the present. A real market's clock is never set.
    """
    config = project.config
    ledger = project.lake.read("notification")
    # Nothing that was recorded is news, not even that it ends.
    followed = [grid for grid in config.grids if config.venue_of(grid.symbol)[1].kind != "recorded"]
    by_venue = sorted(followed, key=lambda grid: config.venue_of(grid.symbol)[0])
    configured = {grid.id for grid in config.grids}
    for _, group in groupby(by_venue, key=lambda grid: config.venue_of(grid.symbol)[0]):
        grids = list(group)
        symbol = grids[0].symbol
        set_to = at if project.simulated(symbol) else None
        clock = set_to or project.clock(symbol)
        ids = [grid.id for grid in grids]
        recent = Span(floor_bar(clock - LOOK_BACK), ceil_bar(clock))
        states, entries, risks = (
            _newest(project.lake.read(table, span=recent, grids=ids))
            for table in ("exit_state", "entry_assessment", "grid_risk")
        )
        # An assessment without a price is no news: the market is not seen, which is told of running grids only.
        entries = entries.filter(pl.col("price").is_not_null())
        prices = dict(zip(risks["grid_id"], risks["price"], strict=True))
        # An emergency of a grid that is no longer configured must be stopped, too: any venue's turn may do it.
        mine = ledger.filter(pl.col("grid_id").is_in(ids) | ~pl.col("grid_id").is_in(sorted(configured)))
        yield _News(
            alerts=policy.due(states, entries, mine, clock, config.alerts, grids, prices),
            cancellations=policy.over(states, mine, clock, config.alerts, config.grids),
            states=states,
            entries=entries,
            risks=risks,
            project=project,
            symbol=symbol,
            at=set_to,
        )


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("as_of").group_by("grid_id", maintain_order=True).last().select(rows.columns)


def _outgoing(project: Project, news: _News, alert: policy.Alert) -> Outgoing:
    """An alert with its words, its link and its picture; a retried one keeps the words that were noted."""
    grid = next(grid for grid in project.config.grids if grid.id == alert.grid_id)
    simulated = project.simulated(grid.symbol)
    link = message.url(alert.kind, project.config.alerts.link)
    if alert.title is not None and alert.message is not None:
        return Outgoing(alert, alert.title, alert.message, simulated, link)
    row = _of(news.entries if alert.kind == "ENTRY" else news.states, alert.grid_id)
    reasons = why(row["triggers"], row["state"]) if row and alert.kind != "ENTRY" else []
    title, text = message.render(alert, row, _of(news.risks, alert.grid_id), grid, reasons, simulated)
    return Outgoing(alert, title, text, simulated, link, _image(project, grid, alert, simulated))


def _of(rows: pl.DataFrame, grid_id: str) -> dict[str, Any] | None:
    mine = rows.filter(pl.col("grid_id") == grid_id)
    return mine.row(0, named=True) if mine.height else None


def _image(project: Project, grid: GridConfig, alert: policy.Alert, simulated: bool) -> bytes | None:
    """The picture for the phone. Never worth losing the message for."""
    if simulated or alert.status != "PENDING":
        return None
    try:
        return grid_picture(project, grid, floor_bar(alert.as_of))
    except Exception:
        logger.exception("%s: no picture for the alert", grid.id)
        return None


def channel_of(project: Project) -> Pushover | None:
    """Pushover, if the environment has its credentials; they go nowhere else."""
    token, user = os.environ.get("PUSHOVER_TOKEN"), os.environ.get("PUSHOVER_USER")
    return Pushover(token, user, project.config.alerts.pushover) if token and user else None


class _LakeLedger:
    """The ledger in the lake."""

    def __init__(self, project: Project, run_id: str) -> None:
        self._lake = project.lake
        self._commit = Commit(run_id=run_id, asset="notification", span="")

    def read(self) -> pl.DataFrame:
        """All rows."""
        return self._lake.read("notification")

    def write(self, rows: pl.DataFrame) -> None:
        """Commits rows, each in place of the one with the same alert_id."""
        self._lake.upsert("notification", rows, commit=self._commit)
