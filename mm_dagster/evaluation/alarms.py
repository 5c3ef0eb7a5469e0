"""Alarms against breaks: when one was raised, whether the break came, how long before it, and what was missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers, kernel
from mm_dagster.bars import DAY_BARS, HOUR_BARS
from mm_dagster.evaluation.cohort import Cohort

HORIZON = DAY_BARS
"""An alarm is true when the break comes within so many bars after it was raised."""
ON, OFF = 2, 4
"""A plain condition becomes an alarm after so many bars in a row, and ends after so many without it."""


class Alarms(NamedTuple):
    """The alarms of one signal on m grids; each of shape (m,).

    Watched is a grid from its activation to its first break, of either bound or of the stop, or to the end of its life.
    What is raised by the very bar of a break warned of nothing, and is no alarm.

    Attributes:
        true: alarms raised that a break below followed within HORIZON.
        false: alarms raised that none followed.
        open: alarms raised so late that it is not known: the life ended, or was ended, within HORIZON.
        weeks: how long the grid was watched.
        lead: hours from the raising of the alarm that stood at the break to the break; 0 where none stood, NaN where
            the grid did not break below.
    """

    true: Integers
    false: Integers
    open: Integers
    weeks: Floats
    lead: Floats

    @property
    def broke(self) -> Flags:
        """Whether the grid broke below."""
        return ~np.isnan(self.lead)


def raised(condition: Flags) -> Flags:
    """A condition at every bar as an alarm that does not flicker: on after ON bars in a row, off after OFF without."""
    return _persist(condition, ON, OFF)


@kernel
def _persist(condition: Flags, on: int, off: int) -> Flags:
    rows, columns = condition.shape
    alarm = np.zeros((rows, columns), np.bool_)
    for row in range(rows):
        run, calm, stands = 0, 0, False
        for column in range(columns):
            if condition[row, column]:
                run, calm = run + 1, 0
            else:
                run, calm = 0, calm + 1
            stands = run >= on or (stands and calm < off)
            alarm[row, column] = stands
    return alarm


def judge(alarm: Flags, cohort: Cohort) -> Alarms:
    """What became of the alarms on the grids of a cohort.

    Args:
        alarm: whether it stands, shape (m, n).
        cohort: the grids.
    """
    return Alarms(*_judge(alarm, cohort.over, cohort.broken, cohort.last))


@kernel
def _judge(
    alarm: Flags, over: Integers, broken: Integers, last: Integers
) -> tuple[Integers, Integers, Integers, Floats, Floats]:
    rows = over.size
    true, false, unknown = np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    weeks, lead = np.empty(rows), np.full(rows, np.nan)
    for row in range(rows):
        end, since = over[row], -1
        breaks = broken[row] == end and broken[row] <= last[row]
        for column in range(end):
            if not alarm[row, column]:
                since = -1
                continue
            if since >= 0:
                continue
            since = column
            # Known or not must not depend on what came: breaks alone would be counted near the end of a life.
            if column + HORIZON > last[row]:
                unknown[row] += 1
            elif breaks and end - column <= HORIZON:
                true[row] += 1
            else:
                false[row] += 1
        weeks[row] = end / (7.0 * DAY_BARS)
        if breaks:
            lead[row] = (end - since) / HOUR_BARS if since >= 0 else 0.0
    return true, false, unknown, weeks, lead


def pooled(parts: Sequence[Alarms]) -> Alarms:
    """The alarms of several cohorts as one."""
    return Alarms(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def first(alarm: Flags, cohort: Cohort) -> Integers:
    """The column at which each grid is left: where the alarm first stands, the last column of all if it never does."""
    within = alarm & (np.arange(alarm.shape[1]) <= cohort.last[:, None])
    return np.where(within.any(axis=1), within.argmax(axis=1), alarm.shape[1] - 1)


def quantile(values: Floats, share: float, weights: Floats) -> Floats:
    """Weighted quantiles: the least value up to which at least `share` of the weight lies.

    Args:
        values: shape (k,).
        share: 0 to 1.
        weights: shape (draws, k).

    Returns:
        Shape (draws,); NaN where there is no weight.
    """
    if not values.size:
        return np.full(weights.shape[0], np.nan)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[:, order], axis=1)
    place = (below < share * below[:, -1:]).sum(axis=1)
    found = values[order][np.minimum(place, values.size - 1)]
    return np.where(below[:, -1] > 0, found, np.nan)
