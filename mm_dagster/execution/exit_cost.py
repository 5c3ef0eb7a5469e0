"""The rows of `exit_cost`: what leaving costs at every bar, from candles, and beside it from the books of the ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, HOUR_BARS, Span, bar_number, by_bar
from mm_dagster.books.book import Book
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.execution import costs
from mm_dagster.execution.costs import HORIZONS, SPREAD_80, SPREAD_90
from mm_dagster.grid import touch
from mm_dagster.grid.slippage import WINDOW_BARS, Traded, traded
from mm_dagster.tables import registry

LEAD_BARS = WINDOW_BARS
"""Bars before the span that volume and volatility look back on."""
LIVE = ("live_half_spread_bp", "live_walk_bp", "live_expected_bp", "shown_share")

Books = Mapping[tuple[str, datetime], Book]
"""The books of the ticks by market and as_of."""


def compute(
    grids: Sequence[GridConfig],
    candles: pl.DataFrame,
    features: pl.DataFrame,
    risk_rows: pl.DataFrame,
    span: Span,
    risk: RiskConfig,
    books: Books,
) -> pl.DataFrame:
    """The costs of leaving running grids at the bars of a span.

    Args:
        grids: the grids.
        candles: rows of `candles` from LEAD_BARS before the span on; all frames may hold more.
        features: rows of `regime_features` of the span.
        risk_rows: rows of `grid_risk` of the span.
        span: its bars; before an activation there are no rows.
        risk: half spreads, and what a weekend is.
        books: of the ticks within the span, where there are any.

    Returns:
        Rows of `exit_cost` without stamps, one per grid, bar and horizon.
    """
    symbols = sorted({grid.symbol for grid in grids})
    lanes = pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String})
    wide = span.back(LEAD_BARS)
    bars = by_bar(candles, wide, lanes, "close", "volume", time="close_time")
    known = by_bar(features, span, lanes, "volatility_forecast")["volatility_forecast"]
    ahead = bar_number(span.start) + 1 + np.arange(span.bars)
    parts = [registry.empty("exit_cost").drop("config_hash", "code_version")]
    for grid in grids:
        asked = Span(max(span.start, grid.first_as_of - BAR), span.end)
        if not asked.bars:
            continue
        lane = symbols.index(grid.symbol)
        market = traded(bars["close"][lane], bars["volume"][lane]).tail(asked.bars)
        forecast = touch.forecast(known[lane], ahead, HOUR_BARS, risk.vol.weekend)[-asked.bars :]
        mine = risk_rows.filter(pl.col("grid_id") == grid.id, pl.col("activated_at") == grid.activated_at)
        times = (asked.open_times() + BAR).alias("as_of")
        held = times.to_frame().join(mine.select("as_of", "inventory"), on="as_of", how="left", maintain_order="left")
        amount = held["inventory"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        parts.append(_rows(grid, times, amount, bars["close"][lane][-asked.bars :], forecast, market, risk, books))
    return pl.concat(parts)


def _rows(
    grid: GridConfig,
    times: pl.Series,
    amount: Floats,
    close: Floats,
    forecast: Floats,
    market: Traded,
    risk: RiskConfig,
    books: Books,
) -> pl.DataFrame:
    notional = amount * close
    found = costs.model(notional, risk.half_spread(grid.symbol), forecast, market, grid.fees.taker)
    # Nothing is sold where nothing is held, and that costs nothing that could be told.
    sold = (notional > 0)[:, None]
    columns = {
        "half_spread_bp": found.half_spread,
        "walk_bp": found.walk,
        "impact_bp": found.impact,
        "fee_bp": found.fee,
        "expected_bp": found.expected,
    }
    columns |= dict(zip(("low_80_bp", "high_80_bp"), found.interval(SPREAD_80), strict=True))
    columns |= dict(zip(("low_90_bp", "high_90_bp"), found.interval(SPREAD_90), strict=True))
    live = _live(grid, times, amount, found, books)
    size, many = times.len(), len(HORIZONS)
    return registry.conform(
        pl.DataFrame(
            {
                "horizon_minutes": np.tile(np.array(HORIZONS, np.int64), size),
                "amount": np.repeat(amount, many),
                "notional": np.repeat(notional, many),
                **{name: np.where(sold, values, np.nan).ravel() for name, values in columns.items()},
                "chosen": (found.chosen & sold).ravel(),
                **{name: values.ravel() for name, values in live.items()},
            }
        )
        .with_columns(pl.col(pl.Float64).fill_nan(None))
        .with_columns(
            pl.Series(np.where(sold, found.beyond, False).ravel()).alias("beyond_model"),
            grid_id=pl.lit(grid.id),
            activated_at=pl.lit(grid.activated_at),
            symbol=pl.lit(grid.symbol),
            as_of=times.gather(np.repeat(np.arange(size), many)),
        ),
        "exit_cost",
    ).drop("config_hash", "code_version")


def _live(grid: GridConfig, times: pl.Series, amount: Floats, found: costs.Costs, books: Books) -> dict[str, Floats]:
    """The columns of LIVE, shape (n, horizons); NaN where there is no book."""
    columns = {name: np.full((times.len(), len(HORIZONS)), np.nan) for name in LIVE}
    for place, time in enumerate(times.to_list()):
        book = books.get((grid.symbol, time))
        if book is None or not amount[place] > 0:
            continue
        for column, shown in enumerate(costs.at_book(book, float(amount[place]))):
            columns["live_half_spread_bp"][place, column] = shown.half_spread
            columns["shown_share"][place, column] = shown.shown_share
            if shown.walk is not None:
                columns["live_walk_bp"][place, column] = shown.walk
                rest = found.impact[place, column] + found.fee[place, column]
                columns["live_expected_bp"][place, column] = shown.half_spread + shown.walk + rest
    return columns
