"""What a grid holds as its exchange tells it, valued at each bar; and how far that is from the model.

The exchange says what is held at a moment and what the sells earned. What is held counts until it tells anew, an hour
at most, at the close of each bar. What was paid for it follows: of all that was put in and earned, what is not cash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats
from mm_dagster.bars import HOUR_BARS, TIME
from mm_dagster.config.grid import GridConfig
from mm_dagster.grid.account import COLUMNS
from mm_dagster.text import number_text

FRESH_BARS = HOUR_BARS
"""So many bars it counts what was told last; then the position is modelled again."""

DIFFERS = "Its exchange says that it holds"
"""How the sentence begins that names a difference from the model."""

SILENT = "Its exchange has told nothing of it for an hour: what it holds is modelled."


@dataclass(frozen=True)
class Told:
    """A grid's position at some bars, as its exchange tells it.

    Attributes:
        numbers: `account.COLUMNS`, each of shape (n,); NaN where not told.
        known: whether the exchange told what is held at the bar, or within FRESH_BARS before it, shape (n,).
        silent: whether it had told before, but not lately, shape (n,).
    """

    numbers: Mapping[str, Floats]
    known: Flags
    silent: Flags


def positions(grid: GridConfig, rows: pl.DataFrame, closes: Floats, as_of: pl.Series, sold_for: float) -> Told:
    """The position at some bars.

    Args:
        grid: the grid.
        rows: of `grid_bot`, those of its bot since its activation.
        closes: shape (n,), quote currency, NaN where unknown.
        as_of: the bars that are asked for, ascending, shape (n,).
        sold_for: see `GridTerms`.
    """
    usable = (
        _fees(grid, rows)
        .filter(pl.col("state").is_in(["running", "stopping"]) & pl.col("inventory").is_not_null())
        .filter(pl.col("cash").is_not_null())
        .select("as_of", "inventory", "cash", "grid_profit", "fees", pl.col("fills").cast(pl.Float64))
        .with_columns(told_at=pl.col("as_of"))
    )
    bars = pl.DataFrame({"as_of": as_of.cast(TIME)})
    joined = bars.join_asof(usable, on="as_of", strategy="backward")
    age = (joined["as_of"] - joined["told_at"]).dt.total_minutes()
    fresh = (age < FRESH_BARS * 15).fill_null(value=False).to_numpy()
    silent = joined["told_at"].is_not_null().to_numpy() & ~fresh
    column = {
        name: joined[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("inventory", "cash", "grid_profit", "fees", "fills")
    }
    held, cash = column["inventory"], column["cash"]
    worth = np.where(held == 0.0, 0.0, held * closes * sold_for)
    # Without the exchange's word on what the sells earned, nothing is told apart.
    earned = column["grid_profit"]
    total = cash + worth - grid.capital
    cost = grid.capital + earned - cash
    return Told(
        numbers=dict(
            zip(
                COLUMNS,
                (
                    held,
                    np.where((held > 0) & (cost > 0), cost / np.where(held > 0, held, 1.0), np.nan),
                    cash,
                    earned,
                    np.zeros(held.size),
                    total - earned,
                    total,
                    column["fees"],
                    cash + worth,
                    column["fills"],
                    np.maximum(0.0, cost) / grid.capital,
                ),
                strict=True,
            )
        ),
        known=fresh,
        silent=silent,
    )


def _fees(grid: GridConfig, rows: pl.DataFrame) -> pl.DataFrame:
    """All fees until each row in quote currency, as `fees`; null where a fill, or the fee of one, is not known."""
    base, _, quote = grid.symbol.partition("-")
    in_quote = pl.when(pl.col("fee_currency") == base).then("price").when(pl.col("fee_currency") == quote).then(1.0)
    fills = rows.select("as_of", fill="fresh_fills").explode("fill").filter(pl.col("fill").is_not_null())
    paid = fills.unnest("fill").select("as_of", fee=pl.col("fee") * in_quote)
    summed = paid.group_by("as_of", maintain_order=True).agg(pl.col("fee").sum(), lacking=pl.col("fee").null_count())
    ordered = rows.sort("as_of").join(summed, on="as_of", how="left", maintain_order="left")
    is_whole = pl.col("fills_whole") & (pl.col("lacking").fill_null(0).cum_sum() == 0)
    return ordered.with_columns(fees=pl.when(is_whole).then(pl.col("fee").fill_null(0.0).cum_sum()))


def difference(grid: GridConfig, own: float, modelled: float) -> str | None:
    """How what the exchange says is held differs from the replay by more than it may, in a sentence; None: it does not.

    Candles do not tell in which order orders filled: a difference of one cell is no news.

    Args:
        grid: the grid.
        own: base currency, as told.
        modelled: base currency, by the replay.
    """
    cell = grid.capital / float(grid.prices[:-1].sum())
    if not abs(own - modelled) > 1.5 * cell:
        return None
    base = grid.symbol.partition("-")[0]
    return f"{DIFFERS} {number_text(own)} {base}, the model {number_text(modelled)}."
