"""How far a bar reaches: which rows depend on it."""

from collections.abc import Iterable
from datetime import datetime

from mm_dagster.bars import BAR, DAY_BARS, HOUR_BARS, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables.regime import WARMUP_BARS

LAG_BARS = 4 * HOUR_BARS + 1
"""What the ladder looks back before the activation: four hours, and one for the persistence."""


REACH = (WARMUP_BARS + 1) * BAR
"""How long after a bar opened a verdict still depends on it."""


def dependents(open_time: datetime, grids: Iterable[GridConfig], newest: datetime, nights: int = 0) -> Span:
    """The bars whose rows depend on a bar: as far as features and verdicts look back, and an episode to its end.

    Args:
        open_time: of the bar.
        grids: those on its market.
        newest: the last row that there is.
        nights: how many days of the past all grids together are measured on.
    """
    reached = open_time + REACH + nights * DAY_BARS * BAR
    # An episode is folded from its start, so that one early row may change every later one; and what grids may lose
    # together is measured on the months before it.
    folded = any(grid.enabled and grid.first_as_of - BAR - LAG_BARS * BAR < reached for grid in grids)
    return Span(open_time, max(open_time, newest if folded else min(newest, open_time + REACH)))


WHOLE_BARS = WARMUP_BARS + LAG_BARS
"""Bars of history with which everything that the ladder reads is known."""


def fully_judged_from(first: datetime) -> datetime:
    """When all that the ladder reads is known, if nothing is missing.

    Args:
        first: opening time of the first known bar.
    """
    return first + WHOLE_BARS * BAR
