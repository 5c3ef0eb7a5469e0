"""What programs may ask for, and what they are told: each answer is rows of the lake, as the pages gather them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from mm_dagster.bars import BAR, FIRST_DAY, Span, ceil_bar, floor_bar
from mm_dagster.pages.page import Page
from mm_dagster.pages.plain import plain
from mm_dagster.pages.rows import night_of, row_of
from mm_dagster.pipeline.leave import plan_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.tick_log import count_ticks
from mm_dagster.pipeline.together import together

Json = dict[str, Any]

MOST_ROWS = 10_000
"""Of a history in one answer; the next page begins where it ends."""
TICK_LATE = timedelta(minutes=35)
"""Without a finished tick for so long nothing is ready."""
_HISTORY = ("state", "since", "live_state", "complete")
_MONEY = ("price", "grid_profit", "unrealised_pnl", "total_pnl", "liquidation_value", "p_break_low_24h", "source")


class NotThere(Exception):
    """What was asked for does not exist, in one line."""


def status(found: Page) -> Json:
    """The whole in one answer."""
    worst = found.worst
    return plain(
        {
            "clock": found.clock,
            "as_of": found.as_of,
            "simulated": found.simulated,
            "stale": found.stale,
            "problems": found.problems,
            "worst": worst.grid.id if worst else None,
            "grids": [row_of(one, found) for one in found.grids],
            "alerts_24h": found.alerts_24h,
        }
    )


def grid(found: Page, grid_id: str) -> Json:
    """One grid.

    Raises:
        NotThere: there is no such grid.
    """
    for one in found.grids:
        if one.grid.id == grid_id:
            return plain(row_of(one, found))
    raise _no_grid(grid_id)


def history(project: Project, grid_id: str, since: datetime | None, until: datetime | None, limit: int) -> Json:
    """What was decided of a grid bar by bar, the oldest first, and where the next page begins.

    Raises:
        NotThere: there is no such grid, or the span is none.
    """
    known(project, grid_id)
    end = ceil_bar(until or project.now())
    start = floor_bar(since or end - timedelta(days=7))
    if not FIRST_DAY <= start < end:
        raise NotThere(f"since must lie before until, and after {FIRST_DAY:%Y-%m-%d}")
    # A page is at most so many bars of one episode; an episode that is edited within a bar has two rows of it.
    span = Span(start, min(end, start + limit * BAR))
    states = project.lake.read("exit_state", span=span, grids=[grid_id])
    risks = project.lake.read("grid_risk", span=span, grids=[grid_id])
    key = ["grid_id", "activated_at", "as_of"]
    rows = risks.select(*key, *_MONEY).join(states.select(*key, *_HISTORY), on=key, how="left", maintain_order="left")
    following = span.end if span.end < end else None
    return plain({"rows": rows.sort("as_of", "activated_at").to_dicts(), "next_since": following})


def exit_cost(project: Project, grid_id: str) -> Json:
    """The plan to leave a grid.

    Raises:
        NotThere: there is no such grid.
        NoPlan: it does not run, or nothing of it is stored.
    """
    known(project, grid_id)
    row = asdict(plan_of(project, grid_id, project.now(), None).plan)
    return plain(row | {name: list(row[name]) for name in ("horizons", "unknown")})


def portfolio(project: Project) -> Json:
    """All grids together, of each quote currency."""
    return plain({"portfolio": [night_of(one) for one in together(project, project.now())]})


def alerts(found: Page) -> Json:
    """The messages of the page's days, newest first, each with what was done about it."""
    names = (
        "alert_id", "grid_id", "symbol", "as_of", "kind", "state", "priority", "title", "message", "status", "channel",
        "detail", "created_at", "sent_at", "acknowledged_at", "responded_at", "action", "seconds_from_alert",
    )  # fmt: skip
    return plain({"alerts": [{name: row[name] for name in names} for row in found.alerts]})


def performance(project: Project, days: int = 30) -> Json:
    """Were the alerts right, how soon was acted, what do the grids stand at, how many ticks ran."""
    lake, now = project.lake, project.now()
    back = timedelta(days=days)
    finished, due = count_ticks(lake, now, back)
    ticks = lake.read("tick", span=Span(floor_bar(now - back), ceil_bar(now)), columns=["as_of", "reason"])
    worth = lake.sql("SELECT grid_id, symbol, total_pnl AS total_pnl, state FROM state_now ORDER BY grid_id")
    return plain(
        {
            "days": days,
            "ticks": {"expected": due, "finished": finished, "failed": ticks["reason"].drop_nulls().len()},
            "alerts": lake.sql("FROM alert_hit_rate").to_dicts(),
            "responses": lake.sql("FROM response_kpis").to_dicts(),
            "grids": worth.to_dicts(),
        }
    )


def ready(project: Project) -> tuple[bool, list[Json]]:
    """Whether what is said is up to date, and of which part it is not."""
    now, parts = project.now(), list[Json]()

    def part(name: str, fine: bool, detail: str) -> None:
        parts.append({"part": name, "result": "OK" if fine else "NOT OK", "detail": detail})

    part("configuration", project.config_error is None, project.config_error or "valid")
    finished = project.lake.sql("SELECT max(finished_at) AS at FROM tick")["at"][0]
    late = finished is None or now - finished > TICK_LATE
    part("tick", not late, f"the last one finished {plain(finished) or 'never'}")
    oldest = timedelta(minutes=project.config.alerts.blind_after_minutes)
    newest = project.lake.newest("candles", known=True)
    for symbol in project.config.symbols:
        if project.config.market(symbol).kind != "recorded":
            closed = newest[symbol] + BAR if symbol in newest else None
            fine = closed is not None and now - closed <= oldest
            part(f"newest bar of {symbol}", fine, f"closed {plain(closed) or 'never'}")
    return all(one["result"] == "OK" for one in parts), parts


def known(project: Project, grid_id: str) -> None:
    """
    Raises:
        NotThere: there is no such grid.
    """
    if grid_id not in {one.id for one in project.config.grids}:
        raise _no_grid(grid_id)


def _no_grid(grid_id: str) -> NotThere:
    return NotThere(f"there is no grid {grid_id[:64]!r}")


def utc(moment: datetime | None) -> datetime | None:
    """A time in UTC; one without a zone is meant so."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
