"""What is known of an enabled grid at the clock: judged or not yet, news or old, seen or blind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables.words import STATES


@dataclass(frozen=True)
class Seen:
    """What is known of an enabled grid at the clock.

    Attributes:
        clock: when it was looked at, UTC.
        as_of: its newest evaluation, or, without one, the first that there should have been.
        state: the higher of `state` and `live_state`; None: it was never judged.
        since: when it was entered; of a state that only the live run knows, `as_of`.
        live: whether only the live run knows it.
        fresh: whether the evaluation is news.
        blind: whether it was judged once, and so long ago that nobody is watching. What was never judged is not
            lost: its set-up is not finished.
        complete: whether all that it needs to be judged has been known.
        source: where its market's candles come from; the same news from elsewhere is another alert.
    """

    clock: datetime
    as_of: datetime
    state: str | None
    since: datetime
    live: bool
    fresh: bool
    blind: bool
    complete: bool = True
    source: str = ""

    @property
    def news(self) -> str | None:
        """The state, if it is news."""
        return self.state if self.fresh else None


def look(grid: GridConfig, exit_states: pl.DataFrame, clock: datetime, alerts: AlertsConfig) -> Seen:
    """What is known of an enabled grid at the clock.

    Args:
        grid: the grid.
        exit_states: rows of `exit_state`, at least its newest, however old that is.
        clock: the tick's clock, UTC.
        alerts: how old news may be.
    """
    row = newest(exit_states, (pl.col("grid_id") == grid.id) & (pl.col("activated_at") == grid.activated_at))
    as_of = row["as_of"] if row else grid.first_as_of
    if row is None or row["state"] is None:
        return Seen(clock, as_of, None, as_of, live=False, fresh=False, blind=False, complete=False)
    live = row["live_state"]
    higher = live is not None and rank(live) > rank(row["state"])
    state, since = (live, as_of) if higher else (row["state"], row["since"])
    age = clock - as_of
    return Seen(
        clock=clock,
        as_of=as_of,
        state=state,
        since=since,
        live=higher,
        fresh=age <= timedelta(minutes=alerts.max_age_minutes),
        blind=age >= timedelta(minutes=alerts.blind_after_minutes),
        complete=not row["never_known"],
    )


def rank(state: str) -> int:
    """The place of a state, 0 the calmest."""
    return STATES.index(state)


def newest(frame: pl.DataFrame, mine: pl.Expr) -> dict[str, Any] | None:
    """The newest of the rows for which a condition holds."""
    rows = frame.filter(mine).sort("as_of").tail(1).to_dicts()
    return rows[0] if rows else None
