"""Pages as `mm status` and `mm report` show them, made by hand: no lake, no clock."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.pages.grid import GridOnPage, by_urgency, grid_on_page
from mm_dagster.pages.page import MarketOnPage, Page, with_responses
from mm_dagster.pictures.drawings import Drawing, draw_decision, draw_equity
from mm_dagster.tables.registry import dtypes
from mm_dagster.tables.words import STATES, VERDICTS

AS_OF = datetime(2026, 3, 1, 12, tzinfo=UTC)
CLOCK = AS_OF + timedelta(minutes=2)
ALERTS = AlertsConfig()


def grid(name: str = "eth-range", **changes: Any) -> GridConfig:
    """A grid from 90 to 110 with its stop at 85."""
    given = {
        "id": name, "symbol": "ETH-USDT", "activated_at": AS_OF - timedelta(days=3), "lower": 90, "upper": 110,
        "levels": 10, "stop": 85, "capital": 1000,
    }  # fmt: skip
    return GridConfig.model_validate(given | changes)


def exit_row(one: GridConfig, state: str = "NORMAL", **changes: Any) -> dict[str, Any]:
    """A row of exit_state; from WARNING on a break is likely."""
    break_likely = {
        "name": "BREAK_LIKELY", "family": "measured", "level": "LATEST_ACCEPTABLE_EXIT", "value": 0.61,
        "threshold": 0.6, "fired": state != "NORMAL",
    }  # fmt: skip
    minutes = {"NORMAL": None, "WARNING": 240, "LATEST_ACCEPTABLE_EXIT": 60, "MANDATORY_EXIT": 0}[state]
    return dict.fromkeys(dtypes("exit_state")) | {
        "grid_id": one.id, "activated_at": one.activated_at, "as_of": AS_OF, "symbol": one.symbol, "complete": True,
        "literal_state": state, "state": state, "raw_state": state, "since": AS_OF - timedelta(minutes=30),
        "triggers": [break_likely], "nearest": ["Closes below the grid: 0 of 2 (below 90, 5 % away)"],
        "recommended_window_minutes": minutes,
        "advice": "The grid may go on." if state == "NORMAL" else "Stop the grid.", **changes,
    }  # fmt: skip


def risk_row(one: GridConfig, price: float = 95.0, **changes: Any) -> dict[str, Any]:
    """A row of grid_risk whose amounts can be told from all other figures of a page."""
    return dict.fromkeys(dtypes("grid_risk")) | {
        "grid_id": one.id, "activated_at": one.activated_at, "as_of": AS_OF, "symbol": one.symbol, "price": price,
        "distance_stop_percent": 100 * (price - one.stop) / price, "p_stop_24h": 0.18,
        "distance_lower_percent": 100 * (price - one.lower) / price,
        "distance_upper_percent": 100 * (one.upper - price) / price,
        "p_break_low_6h": 0.29, "p_break_low_12h": 0.45, "p_break_low_24h": 0.61,
        "grid_profit": 716.53, "exit_pnl": 0.0, "unrealised_pnl": -731.87, "total_pnl": -15.34,
        "liquidation_value": 984.66, "capital_at_risk": 748.24, "profit_giveback": 711.29,
        "profit_giveback_share": 0.68, "source": "MODELLED", **changes,
    }  # fmt: skip


def verdict_row(symbol: str = "ETH-USDT", verdict: str | None = "RANGE_OK") -> dict[str, Any]:
    """A row of regime_verdict."""
    known = {"symbol": symbol, "as_of": AS_OF, "verdict": verdict, "confidence": None if verdict is None else 0.7}
    return dict.fromkeys(dtypes("regime_verdict")) | known


def message_row(one: GridConfig, **changes: Any) -> dict[str, Any]:
    """A row of notification: an escalation that Pushover took a minute after the bar."""
    at = AS_OF - timedelta(minutes=29)
    return dict.fromkeys(dtypes("notification")) | {
        "alert_id": f"alert of {one.id}", "grid_id": one.id, "activated_at": one.activated_at, "symbol": one.symbol,
        "as_of": AS_OF - timedelta(minutes=30), "kind": "ESCALATION", "state": "LATEST_ACCEPTABLE_EXIT",
        "state_since": AS_OF - timedelta(minutes=30), "priority": 1, "title": f"LATEST ACCEPTABLE EXIT · {one.id}",
        "message": "At stake: 748.24 USDT from here to the stop.", "status": "SENT", "channel": "pushover",
        "attempts": 1, "created_at": at, "sent_at": at, **changes,
    }  # fmt: skip


def frame(table: str, *rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=dtypes(table), orient="row")


def told(*messages: dict[str, Any], responses: tuple[dict[str, Any], ...] = (), clock: datetime = CLOCK) -> Any:
    """The alerts of a page."""
    answers = [dict.fromkeys(dtypes("operator_response")) | row for row in responses]
    return with_responses(frame("notification", *messages), frame("operator_response", *answers), clock)


def on_page(
    one: GridConfig, state: str = "NORMAL", *, clock: datetime = CLOCK, alerts: Any = (), simulated: bool = False,
    **changes: Any,
) -> GridOnPage:  # fmt: skip
    """Where a grid stands that was judged at AS_OF."""
    return grid_on_page(
        one, simulated, frame("exit_state", exit_row(one, state, **changes)), frame("grid_risk", risk_row(one)),
        frame("regime_verdict", verdict_row(one.symbol)), alerts, clock, ALERTS,
    )  # fmt: skip


def page(*grids: GridOnPage, clock: datetime = CLOCK, **changes: Any) -> Page:
    """A page on which nothing is wrong but what the grids say."""
    tick = {
        "as_of": AS_OF, "started_at": AS_OF + timedelta(minutes=1), "finished_at": AS_OF + timedelta(minutes=1.1),
        "symbols_ok": ["ETH-USDT"], "symbols_failed": [], "reason": None,
    }  # fmt: skip
    stale = clock - AS_OF >= timedelta(minutes=45)
    shares = dict(zip((*VERDICTS, None), (0.5, 0.2, 0.15, 0.1, 0.05), strict=True))
    market = MarketOnPage("ETH-USDT", False, AS_OF, stale, 0, 0, verdict_row(), shares)
    given = {
        "clock": clock, "looked_up": False, "days": 7, "stale_after": timedelta(minutes=45), "grids": by_urgency(grids),
        "markets": (market,), "tick": tick,
    }  # fmt: skip
    return Page(**(given | changes))


def drawings(one: GridConfig, days: int = 7) -> tuple[Drawing | None, Drawing | None]:
    """A week of a price that swings through the grid, with a hole."""
    span = Span(AS_OF - timedelta(days=days), AS_OF)
    times = [span.start + number * BAR for number in range(span.bars)]
    closes = [None if 100 <= n < 120 else 100 + 9 * math.sin(n / 40) + math.sin(n / 3) for n in range(span.bars)]
    candles = pl.DataFrame(
        {
            "symbol": one.symbol, "open_time": times, "close": closes,
            "low": [None if close is None else close - 0.7 for close in closes],
            "high": [None if close is None else close + 0.7 for close in closes],
        },
        schema_overrides={"open_time": pl.Datetime("us", "UTC")},
    )  # fmt: skip
    ends = pl.Series([time + BAR for time in times], dtype=pl.Datetime("us", "UTC"))
    verdicts = pl.DataFrame(
        {"symbol": one.symbol, "as_of": ends, "verdict": [VERDICTS[n // DAY_BARS % 4] for n in range(span.bars)]}
    )
    mine = {"grid_id": one.id, "activated_at": one.activated_at, "as_of": ends}
    states = pl.DataFrame({**mine, "state": [STATES[n // DAY_BARS % 4] for n in range(span.bars)]})
    made = [10 * math.sin(n / 60) for n in range(span.bars)]
    risks = pl.DataFrame(
        {**mine, "grid_profit": made, "exit_pnl": [0.0] * span.bars, "unrealised_pnl": made, "total_pnl": made}
    ).with_columns(total_pnl=2 * pl.col("total_pnl"))
    return draw_decision(one, candles, verdicts, states, span), draw_equity(one, risks, span)
