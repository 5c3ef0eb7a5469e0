"""A ledger with its events in memory, that may be killed at a commit; a second channel; and the turn of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster.alerts import budget, dispatch, message, policy
from mm_dagster.alerts.alert import Alert
from mm_dagster.alerts.channel import Channel, Message, Sent, Unavailable
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables import registry
from mm_dagster_tests.alerts.given import CONFIG, PRICE, RISK, MemoryLedger, entries, states


class EventLedger(MemoryLedger):
    """`notification` and `alert_event` in memory. `crash` is called before, amid and after each commit."""

    def __init__(self, crash: Callable[[str], None] = lambda where: None) -> None:
        super().__init__()
        self.crash = crash
        self.noted: dict[str, dict[str, Any]] = {}

    def events(self) -> pl.DataFrame:
        return pl.DataFrame(list(self.noted.values()), schema=registry.dtypes("alert_event"), orient="row")

    def write(self, rows: pl.DataFrame, events: pl.DataFrame) -> None:
        self.crash("before")
        assert registry.broken_rules(events, "alert_event") == {}
        super().write(rows)
        self.crash("amid")
        assert not set(events["event_id"]) & set(self.noted), "an event is only ever added"
        self.noted |= {row["event_id"]: row for row in events.to_dicts()}
        self.crash("after")

    def steps(self, *, of: str | None = None) -> list[tuple[str, str | None]]:
        """Event and channel, in the order of committing, but for tries; of one kind of alert, or of all."""
        mine = [one for one in self.noted.values() if of is None or self.rows[one["alert_id"]]["kind"] == of]
        return [(one["event"], one["channel"]) for one in mine if one["event"] != "TRYING"]


@dataclass
class Other(Channel):
    """A second channel that takes everything, but what `fault` raises Unavailable for."""

    fault: Callable[[], None] = lambda: None
    sent: list[tuple[str, str]] = field(default_factory=list)
    name: str = "apprise"

    def send(self, message: Message) -> Sent:
        self.fault()
        self.sent.append((message.title, message.text))
        return Sent(detail="JSON took it")


def silent() -> None:
    raise Unavailable("JSON did not take it within 1 s")


def run(
    ledger: EventLedger,
    clock: datetime,
    grids: Sequence[GridConfig],
    *,
    exit_states: pl.DataFrame | None = None,
    price: float | None = PRICE,
    channel: Channel | None = None,
    second: Channel | None = None,
    simulated: bool = False,
    config: AlertsConfig = CONFIG,
) -> list[Alert]:
    """One run of the sender, as the pipeline does it: what is due, its words, and out."""
    exit_states = states() if exit_states is None else exit_states
    found = policy.due(exit_states, entries(), ledger.read(), clock, config, grids, {one.id: price for one in grids})
    found = budget.admit(found, ledger.read(), clock, config)
    by_id = {one.id: one for one in grids}
    outgoing = []
    for alert in found:
        row = exit_states.filter(pl.col("grid_id") == alert.grid_id).sort("as_of").tail(1).to_dicts()
        title, text = message.render(
            alert, row[0] if row else None, RISK | {"price": price}, by_id[alert.grid_id], [], simulated
        )
        outgoing.append(
            dispatch.Outgoing(
                alert, alert.title or title, alert.message or text, "simulated:1" if simulated else "ccxt"
            )
        )
    over = policy.cancellations(exit_states, ledger.read(), clock, config, grids)
    dispatch.dispatch(outgoing, over, ledger=ledger, channel=channel, second=second, clock=lambda: clock)
    return found
