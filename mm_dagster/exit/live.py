"""What only a live run knows: the last price, the clock, and whether fetching failed.

It is kept apart from the ladder, whose state is a function of stored rows alone. Alerts use the higher of both.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from mm_dagster.bars import iso
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables.words import STATES
from mm_dagster.text import price_text, spoken


def live_state(
    grid: GridConfig,
    config: ExitConfig,
    *,
    judged: bool,
    clock: datetime,
    newest_known: datetime | None,
    last_price: float | None,
    failure: str | None = None,
) -> tuple[str | None, str | None]:
    """Judges a grid by what is not in any stored row.

    Args:
        grid: the grid.
        config: limits of the blindness.
        judged: whether the grid was ever judged; until then nothing calls for a state: what was never seen is not lost.
        clock: the tick's clock, UTC.
        newest_known: closing time of the newest bar of its market that is not MISSING; None: there is none.
        last_price: last traded price; None: not known.
        failure: what went wrong while fetching, in words.

    Returns:
        `live_state` and `live_reason`. The state is None when nothing here calls for one; a failed fetch alone does
        not, but its reason is told. A last price at the stop is MANDATORY_EXIT; blindness is never more than
        LATEST_ACCEPTABLE_EXIT.
    """
    level = 0
    reasons = []
    if last_price is not None and last_price <= grid.stop:
        level = STATES.index("MANDATORY_EXIT")
        reasons.append(f"last price {price_text(last_price)} is at or below the stop {price_text(grid.stop)}")
    blind = config.blindness
    age = None if newest_known is None else clock - newest_known
    if not judged:
        blindness_level = 0
    elif age is None or age >= timedelta(minutes=blind.latest_acceptable_exit_minutes):
        blindness_level = STATES.index("LATEST_ACCEPTABLE_EXIT")
    else:
        blindness_level = STATES.index("WARNING") if age >= timedelta(minutes=blind.warning_minutes) else 0
    if blindness_level:
        reasons.append(
            "BLIND: no candle is known"
            if newest_known is None or age is None
            else f"BLIND: the newest candle closed at {iso(newest_known)}, {spoken(age)} ago"
        )
    if failure:
        reasons.append(failure)
    level = max(level, blindness_level) if judged else 0
    return STATES[level] if level else None, "; ".join(reasons) or None
