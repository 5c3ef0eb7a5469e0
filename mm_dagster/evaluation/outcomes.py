"""Were the alerts right? What came after each escalation, and what leaving then was worth.

Nothing looks ahead: an outcome is told when its time has passed, not when it is clear, since breaks are clear sooner
than their absence, and a count of what is clear would flatter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from mm_dagster.bars import BAR
from mm_dagster.evaluation.alarms import HORIZON
from mm_dagster.tables.words import STATES

MONEY_AFTER = timedelta(days=14)
"""What holding would have made is looked up so much later."""


@dataclass(frozen=True)
class Life:
    """What is stored of one episode of a grid.

    Attributes:
        lower: lower bound, quote currency.
        stop: stop price, quote currency.
        capital: quote currency.
        first_as_of: its first evaluation.
        bars: by closing time, low and close; null where the bar is not known.
        values: by as_of, the value if all were sold then, quote currency.
        entered: the higher states that were entered, by as_of, ascending.
        known_until: the close of the newest bar that is stored.
    """

    lower: float
    stop: float
    capital: float
    first_as_of: datetime
    bars: Mapping[datetime, tuple[float | None, float | None]]
    values: Mapping[datetime, float]
    entered: Mapping[datetime, str]
    known_until: datetime

    @cached_property
    def broken(self) -> tuple[datetime, str] | None:
        """When it was first broken below or touched its stop, and which; None: it was not."""
        below_at = None
        for time in sorted(self.bars):
            if time < self.first_as_of:
                continue
            low, close = self.bars[time]
            is_below = close is not None and close < self.lower
            if low is not None and time > self.first_as_of and low <= self.stop:
                return time, "STOPPED"
            if is_below and below_at == time - BAR:
                return time, "BROKE"
            below_at = time if is_below else None
        return None


def escalations(states: pl.DataFrame) -> dict[datetime, str]:
    """When a higher state than before was entered, and which.

    Args:
        states: `as_of` and `state` of one episode, ascending; null where it was not judged.
    """
    found: dict[datetime, str] = {}
    before = 0
    for as_of, state in states.drop_nulls("state").iter_rows():
        rank = STATES.index(state)
        if rank > before:
            found[as_of] = state
        before = rank
    return found


def follow(life: Life, as_of: datetime, state: str) -> dict[str, Any]:
    """The columns of `alert_outcome` that say what came after an escalation.

    Args:
        life: the episode.
        as_of: the bar at which the state was entered.
        state: which.
    """
    outcome, hours = _came(life, as_of)
    hold = next_level = None
    sold = life.values.get(as_of)
    if sold is not None and as_of + MONEY_AFTER <= life.known_until:
        held = life.values.get(as_of + MONEY_AFTER)
        hold = None if held is None else sold - held
        later = (
            time
            for time, other in life.entered.items()
            if as_of < time <= as_of + MONEY_AFTER and STATES.index(other) > STATES.index(state)
        )
        value = life.values.get(next(later, as_of + 2 * MONEY_AFTER))
        next_level = None if value is None else sold - value
    return {
        "outcome": outcome,
        "hours": hours,
        "gain_vs_hold": hold,
        "gain_vs_hold_percent": None if hold is None else 100.0 * hold / life.capital,
        "gain_vs_next_level": next_level,
        "gain_vs_next_level_percent": None if next_level is None else 100.0 * next_level / life.capital,
    }


def _came(life: Life, as_of: datetime) -> tuple[str, float | None]:
    broken = life.broken
    if broken is not None and broken[0] <= as_of:
        return "LATE", None
    if as_of + HORIZON * BAR > life.known_until:
        return "OPEN", None
    within = (as_of + number * BAR for number in range(1, HORIZON + 1))
    if any(None in life.bars.get(time, (None, None)) for time in within):
        return "UNKNOWN", None
    if broken is None or broken[0] > as_of + HORIZON * BAR:
        return "HELD", None
    return broken[1], (broken[0] - as_of) / timedelta(hours=1)


class HitRate(NamedTuple):
    """How many alerts were right.

    Attributes:
        hits: a break or the stop came within 24 hours.
        known: of so many it is known.
        rate: their share; None: of none it is known.
        low: lower end of the 95 % interval of Wilson (1927).
        high: its upper end.
    """

    hits: int
    known: int
    rate: float | None
    low: float | None
    high: float | None


def hit_rate(outcomes: pl.Series) -> HitRate:
    """The own hit rate. What came too late counts neither way."""
    hits = int(outcomes.is_in(["BROKE", "STOPPED"]).sum())
    known = hits + int((outcomes == "HELD").sum())
    if not known:
        return HitRate(0, 0, None, None, None)
    z, share = 1.959963984540054, hits / known
    middle = (share + z * z / (2 * known)) / (1 + z * z / known)
    half = z * math.sqrt(share * (1 - share) / known + z * z / (4 * known * known)) / (1 + z * z / known)
    return HitRate(hits, known, share, max(0.0, middle - half), min(1.0, middle + half))
