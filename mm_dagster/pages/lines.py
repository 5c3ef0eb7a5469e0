"""The lines below the markets, an entry each: what a table or a setting has to say of the whole, in one sentence.

A new table whose news fits into a line needs a function here and nothing else: terminal and report show every line.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

from mm_dagster.alerts.budget import moment, quiet_hours
from mm_dagster.bars import iso
from mm_dagster.pages import portfolio
from mm_dagster.pages.page import DAY, Line
from mm_dagster.text import counted, money_text

if TYPE_CHECKING:
    from mm_dagster.pipeline.project import Project


def quiet(project: Project, clock: datetime) -> Line | None:
    """Until when only an emergency makes a sound."""
    hours = quiet_hours(clock, project.config.alerts)
    return Line("quiet", f"quiet hours until {iso(hours[1])}: only MANDATORY EXIT makes a sound") if hours else None


def digest(project: Project, clock: datetime) -> Line | None:
    """When the next daily summary comes."""
    alerts = project.config.alerts
    if alerts.digest_at is None:
        return None
    today = clock.astimezone(ZoneInfo(alerts.timezone)).date()
    times = (moment(today + number * DAY, alerts.digest_at, alerts.timezone) for number in range(2))
    coming = next((time for time in times if time > clock), None)
    return Line("digest", f"next {iso(coming)}") if coming else None


def leaving(project: Project, clock: datetime) -> Line | None:
    """The plans to leave a grid that are not over, or were halted within a day."""
    plans = project.lake.read("exit_plan").filter(
        ~pl.col("state").is_in(["DONE", "EXPIRED", "REFUSED"]),
        pl.col("created_at") <= clock,
        pl.col("ended_at").is_null() | (pl.col("ended_at") > clock - DAY),
    )
    said = [
        f"{row['grid_id']} ({row['mode']} plan {row['plan_id']}): {row['state']}, {row['reason']}"
        for row in plans.sort("created_at", "plan_id").iter_rows(named=True)
    ]
    return Line("leaving", "; ".join(said)) if said else None


def paper(project: Project, clock: datetime) -> Line | None:
    """The newest session of the paper operator, beside doing nothing and beside the operator's own hand."""
    if project.config.orders.mode == "off" or project.lake.read("session", columns=["session_id"]).is_empty():
        return None
    # Imported here because with `mode: off` nothing of this is loaded.
    from mm_dagster.pipeline.paper_sessions import newest, report

    row = newest(project)
    if row is None or row["started_at"] > clock or (row["ended_at"] is not None and row["ended_at"] < clock - 7 * DAY):
        return None
    found = report(project, row["session_id"])
    said = [f"{found['state']} since {iso(found['started_at'])}: {counted(len(found['plans']), 'plan')}"]
    said += [f"{found[name]} {name.replace('_', ' ')}" for name in ("done", "halted", "under_way") if found[name]]
    if found["mean_slippage_bp"] is not None:
        said.append(f"cost {found['mean_slippage_bp'] / 100:+.2f} % beside the forecast on average")
    quotes = {plan["symbol"].partition("-")[2] for plan in found["plans"]}
    for name, beside in (("gain_vs_nothing", "doing nothing"), ("gain_vs_own", "your own hand")):
        if found[name] is not None and len(quotes) == 1:
            said.append(f"{money_text(found[name], abs(found[name]), signed=True)} {min(quotes)} beside {beside}")
    return Line("paper", ", ".join(said), amounts=True)


ENTRIES: tuple[Callable[[Project, datetime], Line | None], ...] = (leaving, portfolio.line, paper, quiet, digest)
"""What makes each line, in the order of the page; None: it has nothing to say."""


def lines(project: Project, clock: datetime) -> tuple[Line, ...]:
    """Every line that there is at a moment, UTC."""
    return tuple(line for entry in ENTRIES if (line := entry(project, clock)) is not None)
