"""What a stage's page shows of what was made, as plain values: tables and pictures.

What draws is imported where something is drawn: it loads matplotlib, and most runs draw nothing; see `Work.draws`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import Span, floor_bar, iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.whole import SIMULATED
from mm_dagster.pictures import glance
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.together import Together, limit_of_the_night, together, weeks
from mm_dagster.tables.words import STATES
from mm_dagster.text import number_text

MONTHS_SHOWN = 24
"""How many months a run tells apart."""
EQUITY_SHOWN = timedelta(days=30)
"""How much of a grid's life its picture shows."""
BOOKS_SHOWN = 3
"""Markets whose day of books is shown, those first that were known for the least of it."""
WEEKS_SHOWN = timedelta(days=28)
"""How much of the past the picture of all grids shows."""


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows.

    Attributes:
        data: a PNG, or the text of an SVG that is small enough to be shown at once.
        caption: what it shows.
    """

    data: bytes | str
    caption: str


def text_of(value: Any) -> str:
    """A value of a table as a person would write it; nothing where it is null."""
    if value is None:
        return ""
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, list):
        return ", ".join(text_of(item) for item in value)
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {text_of(item)}' for name, item in value.items() if item is not None)})"
    return str(value)


def markdown_of(rows: pl.DataFrame) -> str:
    """Rows as a Markdown table."""
    return "\n".join(
        [
            "| " + " | ".join(rows.columns) + " |",
            "| " + " | ".join("---" for _ in rows.columns) + " |",
            *("| " + " | ".join(text_of(value) for value in row) + " |" for row in rows.iter_rows()),
        ]
    )


def listed(lines: Sequence[str]) -> str:
    """Lines as a Markdown list; `none` where there is none."""
    return "\n".join(f"- {line}" for line in lines) or "none"


def stacked(frames: Sequence[pl.DataFrame], columns: Sequence[str]) -> pl.DataFrame:
    """The newest rows of every span, cut down to some columns."""
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    return pl.concat(frames).select(columns)


def newest_each(frames: Sequence[pl.DataFrame], columns: Sequence[str]) -> pl.DataFrame:
    """The newest row of each market, cut down to some columns."""
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    return pl.concat(frames).sort("as_of").group_by("symbol", maintain_order=True).last().select(columns).sort("symbol")


def by_month(bars: pl.DataFrame, done: Mapping[datetime, tuple[int, int]]) -> pl.DataFrame:
    """What a run did, by month; by year where there are many: Dagster repeats it for every partition.

    Args:
        bars: the candles of the run's window.
        done: by month, how many rows of candles changed, and how many were kept apart.
    """
    form = "%Y-%m" if bars["open_time"].dt.truncate("1mo").n_unique() <= MONTHS_SHOWN else "%Y"
    months = [(f"{month:{form}}", *counts) for month, counts in done.items()]
    schema = {"month": pl.String, "changed": pl.Int64, "quarantined": pl.Int64}
    written = pl.DataFrame(months, schema=schema, orient="row").group_by("month")
    there = bars.group_by(month=pl.col("open_time").dt.strftime(form)).agg(
        rows=pl.len(), missing=(pl.col("status") == "MISSING").sum()
    )
    return (
        there.join(written.agg(pl.col("changed", "quarantined").sum()), on="month", how="full", coalesce=True)
        .select("month", pl.col("rows", "changed", "quarantined", "missing").fill_null(0))
        .sort("month")
    )


def newest_bar(bars: pl.DataFrame) -> str:
    """When the newest bar that is known closed, or `none`."""
    closed = bars.filter(pl.col("status") != "MISSING")["close_time"].max()
    return iso(closed) if isinstance(closed, datetime) else "none"


def equity_of(project: Project, newest: pl.DataFrame) -> Picture | None:
    """The money of the grid that has most at risk; None: of none is known what it has.

    Args:
        project: where the rows are.
        newest: rows of `grid_risk`, the newest of each grid.
    """
    from mm_dagster.pictures import equity

    at_risk = newest.filter(pl.col("capital_at_risk").is_not_null()).sort("capital_at_risk", "grid_id")
    if at_risk.is_empty():
        return None
    grid = next(grid for grid in project.config.grids if grid.id == at_risk["grid_id"][-1])
    until = at_risk["as_of"][-1]
    rows = project.lake.read("grid_risk", span=Span(until - EQUITY_SHOWN, until), grids=[grid.id])
    label = project.config.market(grid.symbol).label
    return Picture(
        equity.equity_picture(grid, rows, title_prefix=label, dots_per_inch=60),
        f"{grid.id}: what it is worth, realised and unrealised",
    )


def worst_grid(grids: Sequence[GridConfig], states: pl.DataFrame) -> GridConfig | None:
    """The grid that most needs a look; None: none is judged.

    Args:
        grids: those that run.
        states: rows of `exit_state`, the newest of each grid.
    """
    known = dict(states.filter(pl.col("state").is_not_null()).select("grid_id", "state").iter_rows())
    return max((grid for grid in grids if grid.id in known), key=lambda one: STATES.index(known[one.id]), default=None)


def dearest(project: Project, newest: Sequence[pl.DataFrame]) -> Picture | None:
    """What leaving costs, of the grid of which the most is to be sold; None: none holds anything.

    Args:
        project: where the markets are.
        newest: rows of `exit_cost`, the newest of each grid.
    """
    from mm_dagster.pictures import leaving

    rows = pl.concat(newest).filter(pl.col("notional") > 0) if newest else pl.DataFrame()
    if rows.is_empty():
        return None
    most = rows.sort("notional").row(-1, named=True)
    its = rows.filter(pl.col("grid_id") == most["grid_id"], pl.col("as_of") == most["as_of"]).to_dicts()
    prefix = SIMULATED if project.config.market(most["symbol"]).is_simulated else ""
    drawn = leaving.costs_picture(its, title_prefix=prefix, dots_per_inch=60)
    return Picture(drawn, f"what leaving {most['grid_id']} costs by horizon, with its intervals")


def night_of_all(project: Project, as_of: datetime) -> Picture | None:
    """What all grids may lose together, over the last weeks; None: nothing is known, or no grid holds anything.

    Of several quote currencies the one with most grids.

    Args:
        project: where the rows are.
        as_of: the newest bar.
    """
    from mm_dagster.pictures.together import together_picture

    shown = [one for one in together(project, as_of) if one.risk["grids"]]
    if not shown:
        return None
    most: Together = max(shown, key=lambda one: one.risk["grids"])
    quote = pl.col("quote") == most.risk["quote"]
    risks, came = (rows.filter(quote) for rows in weeks(project, most.risk["as_of"], WEEKS_SHOWN.days))
    prefix = SIMULATED if project.config.is_simulated else ""
    limit = limit_of_the_night(most, project.config.portfolio)
    drawn = together_picture(risks, most.contributions, came, limit, title_prefix=prefix, dots_per_inch=60)
    return Picture(drawn, "what all grids may lose together in a night, what came, and who contributes")


def week_to(as_of: datetime) -> Span:
    """What the pictures of a grid show: a week."""
    return Span(floor_bar(as_of - timedelta(days=7)), as_of)


def grid_picture(project: Project, grid: GridConfig, as_of: datetime, dots_per_inch: int = 90) -> bytes:
    """The picture of one grid's week up to as_of, from the lake."""
    from mm_dagster.pictures import decision

    span = week_to(as_of)
    return decision.decision_picture(
        grid,
        project.lake.read("candles", span=span, symbols=[grid.symbol]),
        project.lake.read("regime_verdict", span=span, symbols=[grid.symbol]),
        project.lake.read("exit_state", span=span, grids=[grid.id]),
        title_prefix=project.config.market(grid.symbol).label,
        dots_per_inch=dots_per_inch,
    )


def pictures_of(project: Project, grid: GridConfig, as_of: datetime, whole: bool) -> dict[str, Picture]:
    """A grid's week: at a glance on the page itself, and whole behind a click.

    Args:
        project: where the rows are.
        grid: which.
        as_of: the end of the week.
        whole: whether it is drawn whole, too.
    """
    bars = project.lake.read("candles", span=week_to(as_of), symbols=[grid.symbol])
    name = f"{grid.id} {grid.symbol}"
    found = {"at_a_glance": Picture(glance.glance(grid, bars), f"{name}: a week of price, grid and stop")}
    if whole:
        drawn = grid_picture(project, grid, as_of, dots_per_inch=60)
        found["picture"] = Picture(drawn, f"{grid.id}: price, grid, regime and exit states")
    return found


def days_of_books(project: Project, features: pl.DataFrame) -> dict[str, Picture]:
    """The newest day of some recorded markets: those first whose book was known for the least of it.

    Args:
        project: the lake.
        features: rows of `book_features`.
    """
    from mm_dagster.pictures.books import books_picture

    newest = features["as_of"].max()
    if not isinstance(newest, datetime):
        return {}
    day = features.filter(pl.col("as_of") > newest - timedelta(days=1))
    worst = day.group_by("exchange", "symbol").agg(pl.col("in_sync_share").mean())
    chosen = worst.sort("in_sync_share", "exchange", "symbol").head(BOOKS_SHOWN)
    lacking = project.lake.read("book_gap", symbols=chosen["symbol"].to_list())
    found = {}
    for exchange, symbol, _ in chosen.iter_rows():
        mine = (pl.col("exchange") == exchange) & (pl.col("symbol") == symbol)
        picture = books_picture(day.filter(mine), lacking.filter(mine), dots_per_inch=60)
        found[f"{exchange}:{symbol}"] = Picture(picture, f"{exchange}:{symbol}: a day of its book")
    return found
