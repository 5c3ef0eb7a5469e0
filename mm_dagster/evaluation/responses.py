"""What the operator was really told, and did: were the alerts right, how early, and how soon were they answered?

An alert is judged by the price, whether or not the grid was stopped upon it: to be followed is what it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats
from mm_dagster.bars import BAR
from mm_dagster.evaluation import resample
from mm_dagster.evaluation.alarms import HORIZON, quantile
from mm_dagster.evaluation.cohort import NEVER, Cohort
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.quality import SCHEMA
from mm_dagster.tables.words import STATES

POLICY = "real"
EMERGENCY = 2
"""The priority that asks to be acknowledged."""

NOTHING = pl.DataFrame(
    schema={"alert_id": pl.String(), "warned": pl.Boolean(), "right": pl.Boolean(), "lead": pl.Float64()}
)
"""What is followed up when there was no alert."""

Row = tuple[str, str, str, float | None, float | None, float | None, int]


def outcomes(alerts: pl.DataFrame, cohort: Cohort, market: Market) -> pl.DataFrame:
    """What the price did after each alert of some grids.

    Args:
        alerts: rows of the view `alert_responses`; those of other grids are left out.
        cohort: the grids; where the operator ended them does not count.
        market: theirs.

    Returns:
        alert_id; `warned`, whether it was told before the grid broke below, touched its stop or was sold out above;
        `right`, whether the break or the stop came within HORIZON, null where these hours are not wholly known; `lead`,
        hours from then to the break, null where it was not right.
    """
    rows = []
    for row, grid in enumerate(cohort.grids):
        mine = (pl.col("grid_id") == grid.id) & (pl.col("activated_at") == grid.activated_at)
        broken, above = (_time(grid.first_as_of, columns[row]) for columns in (cohort.broken, cohort.broken_high))
        ends = [time for time in (broken, above) if time is not None]
        for alert_id, sent_at in alerts.filter(mine).select("alert_id", "sent_at").iter_rows():
            warned = all(sent_at < end for end in ends)
            breaks = broken is not None and broken == min(ends) and broken - sent_at <= HORIZON * BAR
            # Known or not must not depend on what happened: breaks alone would be counted near the end.
            known = sent_at + HORIZON * BAR <= market.span.end
            right = breaks if warned and known else None
            lead = (broken - sent_at) / timedelta(hours=1) if right and broken is not None else None
            rows.append((alert_id, warned, right, lead))
    return pl.DataFrame(rows, schema=NOTHING.schema, orient="row")


def _time(first_as_of: datetime, column: int) -> datetime | None:
    """When the bar of a column closed; None: what does not happen."""
    return None if column == NEVER else first_as_of + int(column) * BAR


def measure(alerts: pl.DataFrame, followed: pl.DataFrame) -> pl.DataFrame:
    """Figures of the alerts by level; nothing where none was told.

    Args:
        alerts: rows of the view `alert_responses`.
        followed: what `outcomes` says of them; an alert that it does not know counts as told, not as right or wrong.

    Returns:
        As `quality.measure`, with the policy `real`; the signal is the level that the alert told of.
    """
    joined = alerts.join(followed, on="alert_id", how="left", maintain_order="left").sort("sent_at", "alert_id")
    rows = [row for level in STATES[1:] for row in _of_level(level, joined.filter(pl.col("state") == level))]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _of_level(level: str, alerts: pl.DataFrame) -> Iterator[Row]:
    if alerts.is_empty():
        return
    every = np.ones(alerts.height, np.bool_)
    rung = alerts["priority"].to_numpy() == EMERGENCY
    to_acknowledge = (alerts["acknowledged_at"] - alerts["sent_at"]).dt.total_milliseconds() / 1000
    right = alerts["right"].fill_null(False).to_numpy()
    yield (POLICY, level, "alerts", float(alerts.height), None, None, alerts.height)
    draws = _Draws(alerts)
    yield draws.share(level, "acknowledged_share", to_acknowledge.is_not_null().to_numpy(), rung)
    yield draws.median(level, "acknowledge_p50_seconds", to_acknowledge)
    yield draws.share(level, "answered_share", alerts["responded_at"].is_not_null().to_numpy(), every)
    yield draws.median(level, "response_p50_seconds", alerts["seconds_from_alert"])
    yield draws.share(level, "within_window_share", alerts["within_window"].fill_null(False).to_numpy(), every)
    yield draws.share(level, "precision", right, alerts["right"].is_not_null().to_numpy())
    yield draws.median(level, "lead_p50_hours", alerts["lead"])


class _Draws:
    """The alerts drawn anew in blocks, like grids."""

    def __init__(self, alerts: pl.DataFrame) -> None:
        days = np.array([time.toordinal() for time in alerts["sent_at"].to_list()], np.int64)
        symbols = alerts["symbol"].rank("dense").to_numpy().astype(np.int64)
        self.weights = resample.draws(days, symbols)
        self.interval = resample.enough(days)

    def share(self, level: str, metric: str, yes: Flags, of: Flags) -> Row:
        """Of those that count, how many did."""
        with np.errstate(divide="ignore", invalid="ignore"):
            values = (self.weights @ (yes & of)) / (self.weights @ of)
        return self._row(level, metric, float(values[0]), values[1:], int(of.sum()))

    def median(self, level: str, metric: str, known: pl.Series) -> Row:
        """Of those that are known; between two in the middle, as in the view `response_kpis`."""
        place = known.is_not_null().to_numpy()
        values: Floats = known.drop_nulls().to_numpy()
        value = float(np.median(values)) if values.size else float("nan")
        return self._row(level, metric, value, quantile(values, 0.5, self.weights[1:, place]), values.size)

    def _row(self, level: str, metric: str, value: float, drawn: Floats, n: int) -> Row:
        if not np.isfinite(value):
            return (POLICY, level, metric, None, None, None, n)
        low, high = resample.interval(drawn) if self.interval else (None, None)
        return (POLICY, level, metric, value, low, high, n)
