"""Once a day, at a local time: which grids are fine and which are not, what the day brought, and what was sent.

It shows that all is well as much as that something is not: a digest that does not come is news, too. It is named by
its local day, so a day has one, however long it is and however often the clock shows the time. A machine that was off
at the time makes up for it on the same day, never later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from mm_dagster.alerts.alert import EVERY_GRID, QUIET, Alert
from mm_dagster.alerts.budget import moment
from mm_dagster.alerts.digest_words import Day, GridLine, digest
from mm_dagster.alerts.pending import again, retry
from mm_dagster.alerts.seen import look
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables import registry

DAY = timedelta(hours=24)
NOTHING_KNOWN = Day()
STATE = "DIGEST"
"""What stands in `state`: a digest tells of many."""


def due(
    exit_states: pl.DataFrame,
    ledger: pl.DataFrame,
    clock: datetime,
    alerts: AlertsConfig,
    grids: Sequence[GridConfig],
    simulated: bool,
    day: Day | None = NOTHING_KNOWN,
) -> list[Alert]:
    """The digest, with its words, if its time has come and it was not sent; and what became of earlier ones.

    Args:
        exit_states: rows of `exit_state`, at least the newest of each enabled grid.
        ledger: all rows of `notification`, of all grids that it tells of and of no others.
        clock: the tick's clock, UTC.
        alerts: the local time, its zone, and how old news may be.
        grids: the grids to tell of; disabled ones are left out.
        simulated: whether their markets are synthetic.
        day: what is known beside their states; None: nothing ran here yet when it was due, so there is none.

    Returns:
        At most one PENDING alert; SUPPRESSED ones for digests without an answer whose day is over.
    """
    alert_id, start = _of_today(clock, alerts, simulated)
    rows = ledger.filter(pl.col("kind") == "DIGEST").sort("alert_id").to_dicts()
    unsent = [row for row in rows if row["status"] == "PENDING"]
    over = [again(row, "SUPPRESSED", "not sent: its day is over") for row in unsent if row["alert_id"] != alert_id]
    notified = [row for row in rows if row["alert_id"] == alert_id and row["status"] != "SUPPRESSED"]
    if notified:
        return [*(found for row in notified if row["status"] == "PENDING" for found in retry(row, clock)), *over]
    if day is None or not is_wanted(ledger, clock, alerts, simulated):
        return over
    title, text = _words(exit_states, ledger, clock, alerts, grids, simulated, day)
    new = Alert(
        alert_id=alert_id,
        kind="DIGEST",
        grid_id=EVERY_GRID,
        symbol=EVERY_GRID,
        activated_at=start,
        as_of=clock,
        state=STATE,
        state_since=start,
        priority=QUIET,
        title=title,
        message=text,
    )
    return [new, *over]


def is_wanted(ledger: pl.DataFrame, clock: datetime, alerts: AlertsConfig, simulated: bool) -> bool:
    """Whether the time of a digest has come that was not noted yet; see `due`."""
    alert_id, _ = _of_today(clock, alerts, simulated)
    noted = ledger.filter(pl.col("kind") == "DIGEST", pl.col("alert_id") == alert_id, pl.col("status") != "SUPPRESSED")
    return alerts.digest_at is not None and noted.is_empty() and clock >= opens(clock, alerts)


def opens(clock: datetime, alerts: AlertsConfig) -> datetime:
    """When the digest of the local day is due; asked only where there is one."""
    day = clock.astimezone(ZoneInfo(alerts.timezone)).date()
    return moment(day, alerts.digest_at or "00:00", alerts.timezone)


def _of_today(clock: datetime, alerts: AlertsConfig, simulated: bool) -> tuple[str, datetime]:
    """The digest's identity, and the beginning of its local day."""
    today = clock.astimezone(ZoneInfo(alerts.timezone)).date()
    return registry.identity("DIGEST", today.isoformat(), simulated), moment(today, "00:00", alerts.timezone)


def _words(
    exit_states: pl.DataFrame,
    ledger: pl.DataFrame,
    clock: datetime,
    alerts: AlertsConfig,
    grids: Sequence[GridConfig],
    simulated: bool,
    day: Day,
) -> tuple[str, str]:
    lines = []
    for grid in grids:
        if grid.enabled:
            seen = look(grid, exit_states, clock, alerts)
            lines.append(GridLine(grid.id, seen.state, seen.blind, grid.id in day.stopped))
    at = pl.when(pl.col("status") == "SENT").then(pl.col("sent_at")).otherwise(pl.col("created_at"))
    lately = ledger.filter((at > clock - DAY) & (at <= clock))["status"].to_list()
    return digest(
        clock,
        lines,
        day,
        Counter(lately),
        simulated=simulated,
        timezone=alerts.timezone,
        linked=alerts.is_linked,
    )
