"""What the operator's grids made, day by day: by grid, market and month, and against holding the same markets.

A day is one of UTC. What a grid made in it is the change of its total profit between the last bars of two days, from
0 at its activation on; what it is a share of is the capital of the grids that ran. Days on which nothing ran are left
out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.evaluation.attribution import Attribution, attribute
from mm_dagster.evaluation.performance import measure

ALL, GRID, MARKET, MONTH = "all", "grid", "market", "month"
_WHOLE = 100.0


class Statistic(NamedTuple):
    """One figure of one group of days.

    Attributes:
        by: ALL, GRID, MARKET or MONTH.
        name: which of them.
        metric: of `performance.METRICS`.
        value: None: it cannot be told.
        low: lower end of its 95 % interval; None: there is none.
        high: upper end.
        days: days whose return is known.
        reason: why there is no figure.
    """

    by: str
    name: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    days: int
    reason: str | None


@dataclass(frozen=True)
class Against:
    """What came of the choice of markets, and of running grids on them, against holding all of them alike.

    Attributes:
        symbols: the markets.
        found: the attribution.
        days: how many days.
    """

    symbols: tuple[str, ...]
    found: Attribution
    days: int


def daily(marks: pl.DataFrame) -> pl.DataFrame:
    """What each grid made on each day.

    Args:
        marks: grid_id, activated_at, symbol, capital, day, total_pnl, exposure: the last known row of each day on which
            a grid ran, quote currency.

    Returns:
        The same rows with `made`, quote currency; null where the mark of the day before is not known.
    """
    episode = ["grid_id", "activated_at"]
    before = pl.col("total_pnl").shift().over(episode)
    gap = (pl.col("day") - pl.col("day").shift().over(episode)).dt.total_days()
    # Activated at midnight, it has its first row in the last bar of the day before.
    first = pl.col("day") <= pl.col("activated_at").dt.truncate("1d")
    return (
        marks.sort(*episode, "day")
        .with_columns(
            made=pl.when(gap.is_null() & first).then("total_pnl").when(gap == 1).then(pl.col("total_pnl") - before)
        )
        .sort("day", *episode)
    )


def statistics(rows: pl.DataFrame) -> list[Statistic]:
    """The figures of all grids, of each grid, market and month.

    Args:
        rows: as of `daily`.
    """
    found: list[Statistic] = []
    for by, name, part in _groups(rows):
        returns = _returns(part)
        marks = _WHOLE + _WHOLE * np.concatenate([[0.0], np.nancumsum(returns)])
        marks[1:][np.isnan(returns)] = np.nan
        told = measure(marks, _WHOLE)
        found += [
            Statistic(by, name, one.metric, one.value, one.low, one.high, told.days, told.reason)
            for one in told.figures
        ]
    return found


def _groups(rows: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    if rows.height:
        yield ALL, ALL, rows
    month = rows.with_columns(month=pl.col("day").dt.strftime("%Y-%m"))
    for by, column in ((MARKET, "symbol"), (GRID, "grid_id"), (MONTH, "month")):
        for (name,), part in sorted(month.group_by(column), key=lambda pair: str(pair[0])):
            yield by, str(name), part


def _returns(rows: pl.DataFrame) -> Floats:
    """What a group made on each day on which it ran, as a share of its capital, shape (days,); NaN where not known."""
    by_day = (
        rows.group_by("day")
        .agg(
            made=pl.when(pl.col("made").is_not_null().all()).then(pl.col("made").sum()), capital=pl.col("capital").sum()
        )
        .sort("day")
    )
    return (by_day["made"] / by_day["capital"]).cast(pl.Float64).fill_null(float("nan")).to_numpy()


def against(rows: pl.DataFrame, closes: pl.DataFrame) -> Against | None:
    """The return of all grids against equal capital in each market, held at the grids' mean inventory share.

    Args:
        rows: as of `daily`.
        closes: symbol, day, close: the last known close of each day, of each market, quote currency.

    Returns:
        None without a day that is wholly known.
    """
    symbols: Sequence[str] = rows["symbol"].unique().sort().to_list()
    change = pl.col("close") / pl.col("close").shift().over("symbol") - 1
    apart = (pl.col("day") - pl.col("day").shift().over("symbol")).dt.total_days()
    moved = closes.sort("symbol", "day").with_columns(moved=pl.when(apart == 1).then(change))
    held = rows.group_by("symbol").agg(share=pl.col("exposure").sum() / pl.col("capital").sum())
    by_market = rows.group_by("day", "symbol").agg(
        made=pl.when(pl.col("made").is_not_null().all()).then(pl.col("made").sum()), capital=pl.col("capital").sum()
    )
    days = rows["day"].unique().sort()
    frame = (
        days.to_frame()
        .join(pl.DataFrame({"symbol": symbols}), how="cross")
        .join(by_market, on=["day", "symbol"], how="left")
        .join(moved.select("day", "symbol", "moved"), on=["day", "symbol"], how="left")
        .join(held, on="symbol", how="left")
        .sort("day", "symbol")
        .select(
            "day",
            capital=pl.col("capital").fill_null(0.0),
            made=pl.col("made"),
            moved=pl.col("moved") * pl.col("share"),
        )
    )
    shape = len(days), len(symbols)
    capital, made, benchmark = (
        frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(shape)
        for name in ("capital", "made", "moved")
    )
    known = ~np.isnan(benchmark).any(axis=1) & ~(np.isnan(made) & (capital > 0)).any(axis=1)
    if not known.any():
        return None
    capital, made, benchmark = capital[known], made[known], benchmark[known]
    with np.errstate(invalid="ignore", divide="ignore"):
        returns = made / capital
    weights = capital / capital.sum(axis=1, keepdims=True)
    equal = np.full(weights.shape, 1.0 / len(symbols))
    return Against(tuple(symbols), attribute(weights, returns, equal, benchmark), int(known.sum()))
