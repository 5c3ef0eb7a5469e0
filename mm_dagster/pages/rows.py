"""What programs are told: grids, decisions and nights as rows of JSON, the same from the command line and the API."""

from __future__ import annotations

from typing import Any

from mm_dagster.alerts.leaving import of_now
from mm_dagster.pages.grid import AT_RISK, DISTANCES, MONEY, GridOnPage
from mm_dagster.pages.page import Page
from mm_dagster.pipeline.together import Together


def decision_of(one: GridOnPage) -> dict[str, Any]:
    """A grid's decision as JSON: what the stored rows say."""
    decided, verdict, risk = one.decided, one.verdict, one.risk
    running = one.grid.enabled
    return {
        "grid": one.grid.id,
        "symbol": one.grid.symbol,
        "simulated": one.simulated,
        "complete": decided["complete"] if decided and running else None,
        "waits_for": one.waits_for,
        "as_of": one.as_of,
        "price": one.price,
        "verdict": verdict["verdict"] if verdict else None,
        "confidence": verdict["confidence"] if verdict else None,
        "state": decided["state" if running else "advice"] if decided else None,
        "since": decided["since"] if decided and running else None,
        "why": one.reasons,
        "next": (decided["nearest"] or []) if decided and running else [],
        **{name: risk[name] if risk else None for name in MONEY},
    }


def row_of(one: GridOnPage, found: Page) -> dict[str, Any]:
    """All that `mm status` knows of a grid as JSON: its decision, how old it is, what is at stake, what was told."""
    grid, decided, risk, alert, response = one.grid, one.decided, one.risk, one.alert, one.response
    market = next(market for market in found.markets if market.symbol == grid.symbol)
    running = decided if grid.enabled else None
    return decision_of(one) | {
        "clock": found.clock,
        "stale": one.stale,
        "happened": one.happened,
        "stopped_at": one.answer["at"] if one.stopped and one.answer else None,
        "age_seconds": (found.clock - one.as_of).total_seconds() if one.as_of else None,
        "enabled": grid.enabled,
        "live_state": running["live_state"] if running else None,
        "live_reason": running["live_reason"] if running else None,
        "advice": one.advice,
        "worth": one.worth,
        "window_minutes": one.window_minutes,
        "act_by": one.act_by,
        "lower": grid.lower,
        "upper": grid.upper,
        "stop": grid.stop,
        **{name: risk[name] if risk else None for name in (*DISTANCES, *AT_RISK)},
        "leaving_cost_bp": of_now(one.costs)[0],
        "alert": {name: alert[name] for name in _TOLD} if alert else None,
        "response": {"at": response["responded_at"]} | {name: response[name] for name in _DONE} if response else None,
        "newest_bar": market.newest,
        "missing_24h": market.missing,
        "quarantined_24h": market.quarantined,
        "last_tick": found.tick["as_of"] if found.tick else None,
        "last_tick_failed": found.tick["reason"] if found.tick else None,
    }


_TOLD = (
    "kind", "state", "status", "channel", "detail", "created_at", "sent_at", "acknowledged_at", "acknowledged_by_device"
)  # fmt: skip
_DONE = ("action", "note", "seconds_from_alert", "within_window")


_STAMPS = ("config_hash", "code_version", "source")


def night_of(found: Together) -> dict[str, Any]:
    """All grids in one quote currency as JSON: the row of `portfolio_risk`, with those of the other tables in it."""
    lists = {"contributions": found.contributions, "limits": found.limits}
    return {name: value for name, value in found.risk.items() if name not in _STAMPS} | {
        name: [{key: row[key] for key in row if key not in (*_STAMPS, "quote", "as_of")} for row in rows]
        for name, rows in lists.items()
    }
