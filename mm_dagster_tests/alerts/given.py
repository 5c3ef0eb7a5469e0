"""Rows, a ledger in memory, a channel that only listens, and the turn of a run: what these tests start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.alerts import budget, dispatch, message, policy
from mm_dagster.alerts.alert import Alert
from mm_dagster.alerts.channel import Channel, Message, Sent
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables import registry

T0 = datetime(2026, 1, 10, 12, tzinfo=UTC)
CONFIG = AlertsConfig()
PRICE = 3_100.0
BELOW = 3_060.0
ABOVE = 3_190.0


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def grid(**changes: Any) -> GridConfig:
    base: dict[str, Any] = {
        "id": "eth-v3",
        "symbol": "ETH-USDT",
        "enabled": True,
        "activated_at": datetime(2026, 1, 10, tzinfo=UTC),
        "lower": 3070,
        "upper": 3185,
        "levels": 6,
        "stop": 2990,
        "capital": 769.02,
    }
    return GridConfig(**(base | changes))


def alert(kind: str, name: str, **changes: Any) -> Alert:
    """One of the usual grid."""
    of = grid()
    base: dict[str, Any] = {
        "alert_id": "0123456789abcdef",
        "kind": kind,
        "grid_id": of.id,
        "symbol": of.symbol,
        "activated_at": of.activated_at,
        "as_of": T0,
        "state": name,
        "state_since": T0 - minutes(15),
        "priority": 0,
    }
    return Alert(**(base | changes))


def state(of: GridConfig, as_of: datetime, name: str = "NORMAL", **changes: Any) -> dict[str, Any]:
    window = {"WARNING": 240, "LATEST_ACCEPTABLE_EXIT": 60, "MANDATORY_EXIT": 0}
    advice = {
        "NORMAL": "Keep running.",
        "WARNING": "Be ready to stop the grid, and look again within 4 h.",
        "LATEST_ACCEPTABLE_EXIT": "Stop the grid within 1 h.",
        "MANDATORY_EXIT": "Stop the grid now and sell the inventory.",
    }
    return {
        "grid_id": of.id,
        "activated_at": of.activated_at,
        "as_of": as_of,
        "symbol": of.symbol,
        "complete": True,
        "literal_state": name,
        "live_state": None,
        "live_reason": None,
        "state": name,
        "raw_state": name,
        "since": as_of,
        "triggers": [],
        "nearest": [],
        "recommended_window_minutes": window.get(name),
        "advice": advice[name],
    } | changes


def states(*rows: Mapping[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=registry.dtypes("exit_state"), orient="row")


def entry(of: GridConfig, as_of: datetime, advice: str = "WAIT", **changes: Any) -> dict[str, Any]:
    return {
        "grid_id": of.id,
        "as_of": as_of,
        "symbol": of.symbol,
        "advice": advice,
        "reasons": ["The verdict is TRANSITION; a grid needs RANGE_OK."],
        "price": PRICE,
        "lower": 3021.5,
        "upper": 3208.25,
        "levels": 9,
        "step_percent": 0.6684,
        "p_leave_72h": 0.91,
    } | changes


def entries(*rows: Mapping[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=registry.dtypes("entry_assessment"), orient="row")


RISK = {
    "price": PRICE,
    "p_break_low_6h": 0.412,
    "p_break_low_12h": 0.566,
    "p_break_low_24h": 0.71,
    "p_stop_24h": 0.183,
    "distance_stop_percent": 3.548,
    "liquidation_value": 771.52,
    "total_pnl": 2.5,
    "capital_at_risk": 21.4,
    "profit_giveback": 6.153,
    "profit_giveback_share": 0.742,
    "stopped_at": None,
    "grid_profit": 8.31,
    "unrealised_pnl": -5.81,
    "exit_pnl": 0.0,
}


def bot_rows(as_of: datetime, **changes: Any) -> pl.DataFrame:
    """A row of `grid_bot`: one that runs at an exchange."""
    row = {
        "venue": "okx",
        "bot_id": "2093487519283",
        "as_of": as_of,
        "symbol": "ETH-USDT",
        "state": "running",
        "created_at": as_of - timedelta(days=2),
        "lower": 2900.0,
        "upper": 3300.0,
        "levels": 20,
        "capital": 1500.0,
    }
    return pl.DataFrame([row | changes], schema=registry.dtypes("grid_bot"), orient="row")


class MemoryLedger:
    """`notification` in memory; every write is checked against the contract and counted. Events are let go."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.commits = 0

    def read(self) -> pl.DataFrame:
        return pl.DataFrame(list(self.rows.values()), schema=registry.dtypes("notification"), orient="row")

    def events(self) -> pl.DataFrame:
        return registry.empty("alert_event")

    def write(self, rows: pl.DataFrame, events: pl.DataFrame | None = None) -> None:
        if rows.is_empty():
            return
        assert registry.broken_rules(rows, "notification") == {}
        self.commits += 1
        self.rows |= {row["alert_id"]: row for row in rows.to_dicts()}

    def update(self, kind: str, **changes: Any) -> None:
        """Changes all rows of one kind."""
        for row in self.rows.values():
            if row["kind"] == kind:
                row |= changes

    def told(self) -> list[tuple[str, str, int]]:
        """Kind, state and priority of what was sent, oldest first."""
        sent = [row for row in self.rows.values() if row["status"] == "SENT"]
        return [(row["kind"], row["state"], row["priority"]) for row in sorted(sent, key=lambda row: row["sent_at"])]

    def status(self) -> dict[str, int]:
        """How many rows there are of each status."""
        found = [row["status"] for row in self.rows.values()]
        return {name: found.count(name) for name in sorted(set(found))}


@dataclass
class Listener(Channel):
    """A channel that takes everything, after a word with `before` or before one with `after`."""

    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    sent: list[tuple[str, str, int]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    name: str = "pushover"

    def send(self, message: Message) -> Sent:
        self.before()
        self.sent.append((message.title, message.text, message.priority))
        self.after()
        return Sent(receipt=f"receipt-{len(self.sent)}" if message.priority == 2 else None)

    def cancel(self, receipt: str) -> None:
        self.cancelled.append(receipt)


def run(
    ledger: MemoryLedger,
    clock: datetime,
    grids: Sequence[GridConfig],
    *,
    exit_states: pl.DataFrame | None = None,
    assessments: pl.DataFrame | None = None,
    price: float | None = PRICE,
    channel: Channel | None = None,
    simulated: bool = False,
    config: AlertsConfig = CONFIG,
    unfinished: Mapping[str, str] = policy.NONE,
    responses: pl.DataFrame | None = None,
) -> list[Alert]:
    """One run of the sender, as the pipeline does it: what is due, its words, and out."""
    exit_states = states() if exit_states is None else exit_states
    assessments = entries() if assessments is None else assessments
    prices = {one.id: price for one in grids}
    found = policy.due(exit_states, assessments, ledger.read(), clock, config, grids, prices, unfinished, responses)
    found = budget.admit(found, ledger.read(), clock, config)
    by_id = {one.id: one for one in grids}
    outgoing = []
    for alert in found:
        rows = assessments if alert.kind == "ENTRY" else exit_states
        row = rows.filter(pl.col("grid_id") == alert.grid_id).sort("as_of").tail(1).to_dicts()
        title, text = message.render(
            alert, row[0] if row else None, RISK | {"price": price}, by_id[alert.grid_id], [], simulated
        )
        source = "simulated:1" if simulated else "ccxt"
        outgoing.append(dispatch.Outgoing(alert, alert.title or title, alert.message or text, source))
    over = policy.cancellations(exit_states, ledger.read(), clock, config, grids, responses)
    dispatch.dispatch(outgoing, over, ledger=ledger, channel=channel, clock=lambda: clock)
    return found
