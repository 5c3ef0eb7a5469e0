"""One grid as a page shows it: its newest decision, how old that is, what to do by when, what waiting may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.alerts.happened import CLEAR, SELL, happened, holds_nothing
from mm_dagster.alerts.message import apart
from mm_dagster.alerts.seen import look
from mm_dagster.bars import iso
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.exit.reasons import reasons_of
from mm_dagster.pipeline.setup import NOT_ACTIVE
from mm_dagster.tables.registry import empty
from mm_dagster.tables.words import ENTRY_ADVICE, NOT_JUDGED_YET, STATES
from mm_dagster.text import price_text, words

STOPPED = "STOPPED"
"""What is said of a grid that the operator stopped, whatever its file and its rows say."""

MONEY = ("source", "liquidation_value", "grid_profit", "exit_pnl", "unrealised_pnl", "total_pnl", "capital_at_risk")
"""Columns of grid_risk that stand beside a decision; the profits add up to the total."""

AT_RISK = ("capital_at_risk_weighted", "profit_giveback", "profit_giveback_share")
"""Columns of grid_risk that say what waiting may cost."""

DISTANCES = (
    "distance_stop_percent", "distance_lower_percent", "distance_upper_percent", "p_break_low_6h", "p_break_low_12h",
    "p_break_low_24h", "p_break_high_24h", "p_stop_24h",
)  # fmt: skip

Row = Mapping[str, Any]


@dataclass(frozen=True)
class GridOnPage:
    """One grid at a moment.

    Attributes:
        grid: its configuration.
        simulated: whether its market is synthetic.
        as_of: its newest decision; None: it was never judged.
        stale: whether that is so old that nobody is watching.
        state: the higher of `state` and `live_state`; NOT_JUDGED_YET; STOPPED, when the operator says so; of a grid
            that is not running the entry advice.
        since: when that was entered; None: not known, or not running.
        seen_live: whether only the live run knows the state.
        decided: the row of `exit_state`, of a grid that is not running the one of `entry_assessment`.
        risk: the row of `grid_risk` of the same time.
        verdict: the row of `regime_verdict` of the same time.
        alert: its newest message, sent or not.
        response: what the operator did about its last escalation.
        answer: the newest row of `operator_response` of its episode.
        first_notified_at: when its state was told first; None: it was not.
        waits_for: what its set-up waits for, in a sentence; None: nothing, or not known.
        price_tick: the step between prices of its venue, quote currency; None: not known.
        costs: the rows of `exit_cost` of the same time.
        added: of a waiting grid, what it would add to the bad night of all grids, in a sentence; None: not known.
    """

    grid: GridConfig
    simulated: bool
    as_of: datetime | None
    stale: bool
    state: str | None
    since: datetime | None = None
    seen_live: bool = False
    decided: Row | None = None
    risk: Row | None = None
    verdict: Row | None = None
    alert: Row | None = None
    response: Row | None = None
    answer: Row | None = None
    first_notified_at: datetime | None = None
    waits_for: str | None = None
    price_tick: float | None = None
    costs: tuple[Row, ...] = ()
    added: str | None = None

    def price_text(self, price: float) -> str:
        """One of its prices as its venue writes them."""
        return price_text(price, self.price_tick)

    @property
    def stopped(self) -> bool:
        """Whether the operator says that they stopped it."""
        return self.grid.enabled and self.state == STOPPED

    @property
    def judged(self) -> bool:
        """Whether it has a state of the ladder."""
        return self.grid.enabled and self.state in STATES

    @property
    def happened(self) -> str | None:
        """What happened to it, which goes before everything else; None: it runs, and nobody has answered."""
        return happened(self.risk, self.grid, self.answer) if self.grid.enabled else None

    @property
    def urgency(self) -> int:
        """From 0, nothing to do, to 4, MANDATORY_EXIT; stale or never judged is 2, below LATEST_ACCEPTABLE_EXIT."""
        if not self.grid.enabled or self.stopped:
            return 0
        known = {"NORMAL": 0, "WARNING": 1, "LATEST_ACCEPTABLE_EXIT": 3, "MANDATORY_EXIT": 4}.get(self.state or "", 2)
        return max(known, 2) if self.stale else known

    @property
    def price(self) -> float | None:
        """The close of the newest decision, quote currency."""
        return self.risk["price"] if self.risk else None

    @property
    def quote(self) -> str:
        """The currency of its money."""
        return self.grid.symbol.partition("-")[2]

    @property
    def reasons(self) -> list[str]:
        """What speaks for the decision, in sentences."""
        if self.decided is None:
            return []
        if not self.grid.enabled:
            return list(self.decided["reasons"])
        return reasons_of(self.decided["triggers"], self.decided["state"])

    @property
    def live_reason(self) -> str | None:
        """What only the live run knew, in words."""
        return self.decided["live_reason"] if self.decided and self.grid.enabled else None

    @property
    def headline(self) -> str:
        """Its state in words; `was` stands before one that is old."""
        named = words(self.state or "not judged")
        if self.stopped:
            return named
        return f"was {named}" if self.stale and self.as_of else named

    @property
    def is_decisive(self) -> bool:
        """Whether the reasons decide; in NORMAL a trigger may fire and yet decide nothing: nothing confirms it."""
        return self.decided is None or not self.grid.enabled or self.decided["state"] not in (None, "NORMAL")

    @property
    def next_triggers(self) -> list[str]:
        """What would fire next, nearest first; nothing where all has fired."""
        if self.decided is None or not self.judged or self.state == STATES[-1]:
            return []
        return list(self.decided["nearest"] or [])

    @property
    def window_minutes(self) -> int | None:
        """Minutes to act from `since` on; None: there is nothing to act on, or only the live run knows."""
        if self.decided is None or not self.judged or self.seen_live:
            return None
        minutes: int | None = self.decided["recommended_window_minutes"]
        return minutes

    @property
    def act_by(self) -> datetime | None:
        """When the recommended window ends. It begins when the state was told first; else with the state.

        A state that was never told, and that a history says is old, is not overdue: then it begins with what is read.
        """
        if self.decided is None or self.since is None or self.window_minutes is None:
            return None
        window = timedelta(minutes=self.window_minutes)
        if self.first_notified_at is not None:
            return max(self.since, self.first_notified_at) + window
        as_of: datetime = self.decided["as_of"]
        return (self.since if self.since + window > as_of else as_of) + window

    @property
    def advice(self) -> str | None:
        """What to do, in one sentence; None: nothing was advised."""
        if not self.grid.enabled or self.state is None:
            return None
        if self.stopped and self.answer is not None:
            who = "by you" if self.answer["told_by"] is None else f"as {self.answer['told_by']} says,"
            return (
                f"Stopped {who} at {iso(self.answer['at'])}. Its file still reads `enabled: true`: set it to false, "
                "or give it a new activated_at when it runs again."
            )
        if self.state == NOT_JUDGED_YET or self.decided is None:
            if self.waits_for and self.waits_for.startswith(NOT_ACTIVE):
                return self.waits_for
            return f"Set-up is not finished: {self.waits_for or 'no tick has judged it yet; `mm doctor` says more.'}"
        if self.seen_live:
            now = f"Stop the grid now and {SELL}."
            advice = now if self.state == STATES[-1] else "Be ready to stop the grid."
        else:
            advice = apart(str(self.decided["advice"]))[0]
        if SELL in advice and holds_nothing(self.risk, self.grid):
            advice = CLEAR
        if not self.stale:
            return f"Look at the exchange yourself now. {advice}" if self.seen_live else advice
        # What an old row allows it does not allow now; what it asks for may still be to do.
        last = f" What was advised last: {advice}" if self.urgency > 2 else ""
        return f"Look at the exchange yourself: nobody has judged this grid since {iso(self.decided['as_of'])}.{last}"

    @property
    def worth(self) -> str | None:
        """What acting now was measured to be worth, in a sentence; None: nobody measured it, or the row is old."""
        if self.decided is None or not self.judged or self.seen_live or self.stale or self.stopped:
            return None
        if holds_nothing(self.risk, self.grid):
            return None
        return apart(str(self.decided["advice"]))[1] or None


def grid_on_page(
    grid: GridConfig,
    simulated: bool,
    decisions: pl.DataFrame,
    risks: pl.DataFrame,
    verdicts: pl.DataFrame,
    alerts: Sequence[Row],
    clock: datetime,
    config: AlertsConfig,
    answer: Row | None = None,
    waits_for: str | None = None,
    price_tick: float | None = None,
    costs: pl.DataFrame | None = None,
) -> GridOnPage:
    """One grid by its newest decision.

    Args:
        grid: the grid; rows of others and of its earlier episodes are ignored.
        simulated: whether its market is synthetic.
        decisions: rows of `exit_state`; of a grid that is not running of `entry_assessment`.
        risks: rows of `grid_risk`.
        verdicts: rows of `regime_verdict`.
        alerts: rows like those of `Page.alerts`, of any grid, newest first.
        clock: the moment, UTC.
        config: after how long without a decision nobody is watching.
        answer: the newest row of `operator_response` of its episode by then.
        waits_for: what its set-up waits for, in a sentence.
        price_tick: the step between prices of its venue; None: not known.
        costs: rows of `exit_cost`; None: there are none.
    """
    mine = pl.col("grid_id") == grid.id
    if grid.enabled:
        mine &= pl.col("activated_at") == grid.activated_at
    decided = _newest(decisions.filter(mine))
    episode = (pl.col("grid_id") == grid.id) & (pl.col("activated_at") == grid.activated_at)
    until = pl.col("as_of") == decided["as_of"] if decided else pl.lit(True)
    risk = _newest(risks.filter(episode & until))
    as_of = decided["as_of"] if decided else risk["as_of"] if risk else None
    verdict = (
        _newest(verdicts.filter((pl.col("symbol") == grid.symbol) & (pl.col("as_of") == as_of))) if as_of else None
    )
    told = [row for row in alerts if row["grid_id"] == grid.id and row["activated_at"] == grid.activated_at]
    escalation = next((row for row in told if row["kind"] == "ESCALATION" and row["status"] == "SENT"), None)
    if not grid.enabled:
        stale = as_of is None or clock - as_of >= timedelta(minutes=config.blind_after_minutes)
        state, since, seen_live = (decided["advice"] if decided else None), None, False
    elif answer is not None and answer["action"] == "stopped":
        stale, seen_live, state, since = False, False, STOPPED, answer["at"]
    else:
        seen = look(grid, decisions if decisions.height else empty("exit_state"), clock, config)
        stale, seen_live = seen.blind, seen.live
        state, since = seen.state or NOT_JUDGED_YET, seen.since if seen.state else None
    return GridOnPage(
        grid=grid,
        simulated=simulated,
        as_of=as_of,
        stale=stale,
        state=state,
        since=since,
        seen_live=seen_live,
        decided=decided,
        risk=risk,
        verdict=verdict,
        alert=next(iter(told), None),
        response=escalation if escalation and escalation["responded_at"] else None,
        answer=answer if grid.enabled else None,
        first_notified_at=escalation["sent_at"] if escalation and escalation["state"] == state else None,
        waits_for=waits_for,
        price_tick=price_tick,
        costs=()
        if costs is None or as_of is None
        else tuple(costs.filter(episode, pl.col("as_of") == as_of).sort("horizon_minutes").iter_rows(named=True)),
    )


def by_urgency(grids: Sequence[GridOnPage]) -> tuple[GridOnPage, ...]:
    """The most urgent first; of the calm ones those that run, then by what is advised, then by name."""

    def place(one: GridOnPage) -> tuple[object, ...]:
        advised = -ENTRY_ADVICE.index(one.state) if one.state in ENTRY_ADVICE else 0
        return (-one.urgency, not one.grid.enabled, advised, one.grid.id)

    return tuple(sorted(grids, key=place))


def _newest(rows: pl.DataFrame) -> dict[str, Any] | None:
    return rows.sort("as_of").row(-1, named=True) if rows.height else None
