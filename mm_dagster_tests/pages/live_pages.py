"""Every page of the live one, made by hand: no lake, no clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from mm_dagster.bars import BAR
from mm_dagster.pages import live
from mm_dagster.pages.page import Page
from mm_dagster.tables.registry import dtypes
from mm_dagster_tests.pages.rows import AS_OF, CLOCK, drawings, grid, message_row, on_page, page, told

HOSTILE = "<script>fetch('http://example.com')</script><img src=x onerror=alert(1)> \"'> \u202egnp.exe " + "W" * 400
WORST = "sol-range"
TABS = ("/", f"/g/{WORST}", "/right", "/history", "/state")


def answer_row(**changes: Any) -> dict[str, Any]:
    """A row of `operator_response`: Anna reduced the worst grid 29 minutes after its alert."""
    one = grid(WORST)
    return dict.fromkeys(dtypes("operator_response")) | {
        "response_id": "1", "alert_id": f"alert of {WORST}", "grid_id": WORST, "activated_at": one.activated_at,
        "at": AS_OF, "action": "reduced", "note": "sold a half", "person": "Anna", "through": "page",
        "seconds_from_alert": 1740.0, "within_window": True, **changes,
    }  # fmt: skip


def stay_row(state: str, hours_ago: float, hours: float, **changes: Any) -> dict[str, Any]:
    """A row of `gather.stays`."""
    since = AS_OF - timedelta(hours=hours_ago)
    until = since + timedelta(hours=hours) - BAR
    return {
        "state": state, "since": since, "until": until, "price": 97.5, "total_pnl": 12.34, "is_cut": False, **changes
    }  # fmt: skip


def outcome_row(outcome: str = "BROKE", **changes: Any) -> dict[str, Any]:
    """A row of `alert_outcome`."""
    one = grid(WORST)
    return dict.fromkeys(dtypes("alert_outcome")) | {
        "grid_id": WORST, "activated_at": one.activated_at, "as_of": AS_OF - timedelta(days=1), "symbol": one.symbol,
        "state": "LATEST_ACCEPTABLE_EXIT", "told": True, "outcome": outcome, "hours": 5.25, "gain_vs_hold": 31.5,
        "gain_vs_hold_percent": 3.15, "action": "reduced", "seconds_to_action": 1740.0, **changes,
    }  # fmt: skip


def rate_row(**changes: Any) -> dict[str, Any]:
    """A row of `pipeline.outcomes.by_level`."""
    return {
        "state": "LATEST_ACCEPTABLE_EXIT", "told": True, "alerts": 10, "open": 1, "late": 0, "known": 9, "right": 7,
        "hit_rate": 7 / 9, "low": 0.453, "high": 0.937, "expected": 0.61, "expected_low": 0.5, "expected_high": 0.7,
        "median_hours": 5.5, "mean_gain_vs_hold_percent": 1.25, "gains_known": 4, **changes,
    }  # fmt: skip


def tick_row(number: int, **changes: Any) -> dict[str, Any]:
    """A row of `tick`, so many bars before the newest."""
    as_of = AS_OF - number * BAR
    return dict.fromkeys(dtypes("tick")) | {
        "as_of": as_of, "started_at": as_of + timedelta(minutes=1), "finished_at": as_of + timedelta(minutes=1.1),
        "symbols_ok": ["ETH-USDT"], "symbols_failed": [], **changes,
    }  # fmt: skip


def now(words: str = "sold a half", **changes: Any) -> Page:
    """Three grids, one of them to be left now; every word that people wrote is given."""
    worst, calm, warned = grid(WORST), grid("m" * 64), grid("eth")
    alerts = told(
        message_row(worst, title=words, message=words), message_row(warned, alert_id="2", state="WARNING"),
        responses=(answer_row(note=words),),
    )  # fmt: skip
    return page(
        on_page(worst, "LATEST_ACCEPTABLE_EXIT", alerts=alerts, live_reason=words), on_page(calm, simulated=True),
        on_page(warned, "WARNING"), alerts=alerts, **changes,
    )  # fmt: skip


def shown(path: str, query: dict[str, str] | None = None, part: bool = False, *, words: str = "sold a half") -> str:
    """One of the pages."""
    days = int((query or {}).get("days", 7))
    found = now(words, days=days)
    drawn = {one.grid.id: drawings(one.grid, days) for one in found.grids}
    if path == "/":
        return live.now(found, drawn, (), person="Anna", part=part)
    if path == "/history":
        return live.history(replace(found, looked_up=True), drawn, (), part=part)
    if path == "/right":
        outcomes = [outcome_row(), outcome_row("HELD", as_of=AS_OF - timedelta(days=2), action=None)]
        return live.right(found, outcomes, [rate_row(), rate_row(told=False, known=0)], part=part)
    if path == "/state":
        broken = tick_row(3, reason=words, symbols_failed=["SOL-USDT"])
        ticks = [tick_row(number) for number in range(90) if number != 3] + [broken]
        channel = {"sent": 4, "refused": 1, "waiting": 0, "acknowledged": 2, "sent_at": CLOCK, "said": words}
        return live.health(found, ticks, [{"channel": "pushover", **channel}], part=part)
    one = next(one for one in found.grids if path == f"/g/{one.grid.id}")
    stays = [stay_row("LATEST_ACCEPTABLE_EXIT", 0, 0.25), stay_row("NORMAL", 30, 30, is_cut=True)]
    plan = ["The plan to leave it.", "1. Stop the grid on the exchange."]
    return live.grid(found, one, drawn, stays, [answer_row(note=words)], plan, person="Anna", part=part)
