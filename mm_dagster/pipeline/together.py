"""All grids at once as they are shown: the newest rows at a moment, and what the last weeks brought."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mm_dagster.alerts.together import addition, sentence
from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.errors import ForeseenError

if TYPE_CHECKING:
    from mm_dagster.config.portfolio import PortfolioConfig
    from mm_dagster.history.lake import Lake
    from mm_dagster.pipeline.project import Project

Row = Mapping[str, Any]

DAY = timedelta(days=1)


class NoPortfolio(ForeseenError):
    """There is nothing to show, or what is asked cannot be computed; one line, with the remedy."""


@dataclass(frozen=True)
class Together:
    """All running grids in one quote currency at a bar.

    Attributes:
        risk: the row of `portfolio_risk`.
        contributions: rows of `portfolio_contribution`, in the order of grid_id; none where the figures are not known.
        limits: rows of `limit_state`, in the order of limit and subject.
    """

    risk: Row
    contributions: tuple[Row, ...]
    limits: tuple[Row, ...]

    @property
    def breached(self) -> list[Row]:
        """The limits that are breached."""
        return [row for row in self.limits if row["breached"]]

    @property
    def equity(self) -> float | None:
        """What the limits are shares of, quote currency; None: nobody said, and no account was read."""
        stated: float | None = self.risk["equity"]
        return self.risk["live_equity"] if stated is None else stated


def together(project: Project, clock: datetime) -> tuple[Together, ...]:
    """Each quote currency in which a grid runs, by the newest rows at or before a moment, by quote."""
    lake = project.lake
    running = _running_quotes(lake, clock)
    newest = lake.sql(
        f"SELECT max(as_of) AS newest FROM portfolio_risk WHERE {lake.in_force('portfolio_risk')} "
        f"AND as_of <= '{iso(floor_bar(clock))}'"
    )["newest"][0]
    if newest is None or not running:
        return ()
    span = Span(newest - BAR, newest)
    risks, shares, limits = (
        lake.read(table, span=span).to_dicts() for table in ("portfolio_risk", "portfolio_contribution", "limit_state")
    )
    return tuple(
        Together(risk, _of(shares, risk["quote"]), _of(limits, risk["quote"]))
        for risk in risks
        if risk["quote"] in running
    )


def added_by(project: Project, moment: datetime, names: Collection[str]) -> dict[str, str]:
    """What each of some waiting grids would add to the bad night at a bar, in a sentence, where that is known."""
    if not names:
        return {}
    # Imported here because it loads the compiled replay.
    from mm_dagster.pipeline.what_if import additions

    return {
        one.grid_id: addition(one.quote, one.capital, one.before, one.after, one.equity)
        for one in additions(project, moment, names)
    }


def limit_of_the_night(found: Together, settings: PortfolioConfig) -> float | None:
    """What the mean of the worst nights, one in 20, may cost, quote currency; None: it is not watched."""
    share = settings.limits.es_5_24h
    return None if share is None or found.equity is None else share * found.equity


def in_a_line(found: Sequence[Together]) -> list[str]:
    """A line of each quote currency in which a grid holds something."""
    said = (sentence(one.risk, one.limits, only=len(found) == 1) for one in found)
    return [line for line in said if line]


def _running_quotes(lake: Lake, clock: datetime) -> set[str]:
    """The quote currencies in which an episode is open: what ended is not what may be lost now."""
    rows = lake.read("grid_episode", columns=["symbol", "enabled", "activated_at", "closed_at"])
    is_open = pl.col("closed_at").is_null() | (pl.col("closed_at") > clock)
    symbols = rows.filter("enabled", is_open, pl.col("activated_at") <= clock)["symbol"]
    return {symbol.partition("-")[2] for symbol in symbols}


def _of(rows: Sequence[Row], quote: str) -> tuple[Row, ...]:
    return tuple(row for row in rows if row["quote"] == quote)


def weeks(project: Project, until: datetime, days: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What a picture of the last days shows.

    Args:
        project: where the rows are.
        until: `as_of` of the newest bar.
        days: how far back.

    Returns:
        Rows of `portfolio_risk`; and what came, as `realised` has it.
    """
    lake, span = project.lake, Span(until - days * DAY, until)
    shares = lake.read("portfolio_contribution", span=span, columns=["quote", "grid_id", "activated_at", "as_of"])
    names = shares["grid_id"].unique().to_list()
    columns = ["grid_id", "activated_at", "as_of", "total_pnl"]
    profits = lake.read("grid_risk", span=span, grids=names, columns=columns)
    return lake.read("portfolio_risk", span=span), realised(shares, profits)


def realised(shares: pl.DataFrame, profits: pl.DataFrame) -> pl.DataFrame:
    """What the grids that ran at midnight, UTC, lost in the 24 hours after it, whatever became of them meanwhile.

    One that its stop sold has lost what it has lost: it counts. A night of which the end is not known for all of them
    is left out.

    Args:
        shares: key columns of `portfolio_contribution`: which grids held something.
        profits: `total_pnl` of `grid_risk` of these grids.

    Returns:
        Columns quote, as_of (the midnight) and loss, quote currency; negative is a gain.
    """
    key = ["grid_id", "activated_at", "as_of"]
    midnights = shares.filter(pl.col("as_of").dt.time() == datetime.min.time())
    then = profits.select(*key, before="total_pnl")
    later = profits.select("grid_id", "activated_at", as_of=pl.col("as_of") - DAY, after="total_pnl")
    return (
        midnights.select("quote", *key)
        .join(then, on=key, how="left")
        .join(later, on=key, how="left")
        .with_columns(loss=pl.col("before") - pl.col("after"))
        .sort(key)
        .group_by("quote", "as_of")
        .agg(pl.when(pl.col("loss").null_count() == 0).then(pl.col("loss").sum()).alias("loss"))
        .drop_nulls("loss")
        .sort("quote", "as_of")
    )
