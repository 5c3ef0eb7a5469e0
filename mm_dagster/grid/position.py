"""What a running grid holds at every bar, what that is worth and what is at stake: from its account, or modelled."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, HOUR_BARS, TIME, Span
from mm_dagster.config import Giveback, GridConfig
from mm_dagster.grid import account, stakes
from mm_dagster.grid.replay import Book, Floats, Replay, book_of, replay
from mm_dagster.tables import MarketRules, dtypes

LATEST_START_BARS = HOUR_BARS
"""So many bars after the activation a close must be known: what was bought at which price is a guess after that."""

_OPTIMISTIC = ("grid_profit_optimistic", "liquidation_value_optimistic", "fills_optimistic")
_AT_STAKE = ("capital_at_risk", "profit_giveback", "profit_giveback_share", "required_cash")
COLUMNS = (*account.COLUMNS, *_OPTIMISTIC, *_AT_STAKE, "stopped_at", "source")
"""Columns of `grid_risk` that are filled from here."""
PRIVATE = (
    *account.COLUMNS, "capital_at_risk", "capital_at_risk_weighted", "profit_giveback", "profit_giveback_share"
)  # fmt: skip
"""Columns of `grid_risk` that tell what an account holds, where the position comes from one."""


def compute(
    grid: GridConfig,
    candles: pl.DataFrame,
    sigma: Floats,
    as_of: pl.Series,
    waiting: Giveback,
    rules: MarketRules,
    fills: pl.DataFrame | str | None = None,
) -> pl.DataFrame:
    """The position of a running grid at some bars, replayed from its activation, or as its account has it.

    The grid starts at the close of its first evaluation. Where that bar is MISSING it starts at the first known close,
    and where none is known within the first hour, nothing of the position is. With an account the position is that of
    its fills; what still waits to be bought is as modelled.

    Args:
        grid: the grid; a disabled one holds nothing that is known.
        candles: rows of `candles` from the activation to the last of `as_of`; other markets are ignored.
        sigma: forecast standard deviation of one hourly log return while the operator has not acted, at `as_of`, NaN
            where unknown.
        as_of: the bars that are asked for, ascending, none before `grid.first_as_of`.
        waiting: how long the operator takes, and how far the price may fall meanwhile.
        rules: of the grid's market.
        fills: of its account, see `account.fills_of`.

    Returns:
        COLUMNS at each `as_of`, null where they are not known, and `remark`: why the position or the account is not,
        where a person can do something about it.
    """
    types = dtypes("grid_risk")
    if not grid.enabled or as_of.is_empty():
        return _nothing(as_of.len())
    times, opens, highs, lows, closes = _life(grid, candles, as_of[-1])
    # No row may tell what was found out after it.
    begun = as_of >= times[0]
    if np.isnan(closes[0]):
        why = "The position is not modelled: no candle is known at its activation; check activated_at."
        return _nothing(as_of.len()).with_columns(remark=_where(begun, why))
    try:
        book = book_of(grid, float(closes[0]), rules)
    except ValueError as error:
        return _nothing(as_of.len()).with_columns(remark=_where(begun, f"The position is not modelled: {error}."))
    lived = replay(book, opens, highs, lows, closes)
    columns, stopped = _modelled(grid, lived), times[lived.stopped] if lived.stopped >= 0 else None
    remark = fills if isinstance(fills, str) else None
    if isinstance(fills, pl.DataFrame):
        try:
            real = account.positions(grid, fills, closes, times)
        except ValueError as error:
            remark = str(error)
        else:
            columns |= {name: real[name].to_numpy() for name in account.COLUMNS}
            columns |= dict.fromkeys(_OPTIMISTIC) | {"source": np.full(closes.size, "ACCOUNT")}
            # The stop of the model is not one of the account, which may hold on.
            stopped = None
            lived = lived._replace(inventory=columns["inventory"], grid_profit=columns["grid_profit"])
    forecast = np.full(closes.size, np.nan)
    forecast[max(0, closes.size - sigma.size) :] = sigma[max(0, sigma.size - closes.size) :]
    columns |= _at_stake(book, lived, closes, forecast, waiting)
    reached = pl.lit(stopped, dtype=TIME)
    frame = pl.DataFrame({"as_of": times, **columns}).with_columns(
        stopped_at=pl.when(pl.col("as_of") >= reached).then(reached)
    )
    found = as_of.alias("as_of").to_frame().join(frame, on="as_of", how="left", validate="1:1", maintain_order="left")
    said = None if remark is None else f"The account is not used: {remark}."
    return (
        found.select(pl.col(name).cast(types[name]) for name in COLUMNS)
        .with_columns(pl.col(pl.Float64).fill_nan(None), pl.col("source").fill_null("MODELLED"))
        .with_columns(remark=pl.lit(said, pl.String))
    )


def _nothing(bars: int) -> pl.DataFrame:
    """Of a position that is not known: nulls."""
    types = dtypes("grid_risk")
    schema = {name: types[name] for name in COLUMNS} | {"remark": pl.String()}
    return pl.DataFrame(schema=schema).clear(bars).with_columns(source=pl.lit("MODELLED"))


def _life(grid: GridConfig, candles: pl.DataFrame, until: datetime) -> tuple[pl.Series, Floats, Floats, Floats, Floats]:
    """The bars since the grid began: their `as_of`, opens, highs, lows and closes, NaN where MISSING.

    The first one is where it began: flat at its close, since what the bar did before does not concern the grid. Where
    no close is known within the first hour, there is only the bar after that hour, NaN throughout.
    """
    times = (Span(grid.first_as_of - BAR, until).open_times() + BAR).alias("as_of")
    mine = candles.filter(pl.col("symbol") == grid.symbol)
    bars = times.to_frame().join(
        mine.select(pl.col("close_time").alias("as_of"), "open", "high", "low", "close"),
        on="as_of",
        how="left",
        validate="1:1",
        maintain_order="left",
    )
    prices = [bars[name].fill_null(np.nan).to_numpy() for name in ("open", "high", "low", "close")]
    known = np.flatnonzero(~np.isnan(prices[3][: LATEST_START_BARS + 1]))
    if not known.size:
        after = grid.first_as_of + (LATEST_START_BARS + 1) * BAR
        unknown = np.full(1, np.nan)
        return pl.Series("as_of", [after], TIME), unknown, unknown, unknown, unknown
    first = int(known[0])
    opens, highs, lows, closes = (one[first:].copy() for one in prices)
    opens[0] = highs[0] = lows[0] = closes[0]
    return times[first:], opens, highs, lows, closes


def _modelled(grid: GridConfig, lived: Replay) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {
        name: getattr(lived, name) for name in (*account.COLUMNS, *_OPTIMISTIC) if name != "capital_utilisation"
    }
    invested = grid.capital + lived.grid_profit + lived.exit_pnl - lived.cash
    # Nothing invested is 0, whatever the sums rounded.
    columns["capital_utilisation"] = np.maximum(0.0, invested) / grid.capital
    columns["source"] = np.full(lived.cash.size, "MODELLED")
    return columns


def _at_stake(book: Book, lived: Replay, closes: Floats, sigma: Floats, waiting: Giveback) -> dict[str, np.ndarray]:
    hours = waiting.response_minutes / 60.0
    giveback = stakes.profit_giveback(book, lived, closes, sigma, hours, sigmas=waiting.sigmas)
    return {
        "capital_at_risk": stakes.capital_at_risk(book, lived, closes),
        "profit_giveback": giveback,
        "profit_giveback_share": stakes.share_of_profit(giveback, lived.grid_profit),
        "required_cash": stakes.required_cash(book, lived),
    }


def _where(rows: pl.Series, text: str) -> pl.Series:
    return pl.select(pl.when(rows).then(pl.lit(text))).to_series()
