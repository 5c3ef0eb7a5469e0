"""Is this a moment to start a grid that is not running, and with which bounds?

A calm market lengthens a grid's life. It was not found to make it earn more, and the advice says so. A grid whose exit
signal is near already would only be left again: it is not advised to start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, log_ratio
from mm_dagster.bars import BAR, Span, bar_numbers
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import EntryConfig, RiskConfig
from mm_dagster.grid import slippage, touch
from mm_dagster.grid.proposal import propose
from mm_dagster.tables import registry
from mm_dagster.text import number_text, price_text

HORIZON_HOURS = 72
BREAK_HOURS = 24

_DEAR = 10 / 10_000
"""What leaving should not cost more than, as a fraction, without the fee."""
_MINUTES_A_DAY = 1440

_CAVEAT = "A calm market lengthens a grid's life; it was not found to make it earn more."


def assess(
    grid: GridConfig, features: pl.DataFrame, verdict: pl.DataFrame, span: Span, risk: RiskConfig
) -> pl.DataFrame:
    """Advises on starting a disabled grid, at every bar of the span since it is watched.

    Bounds and levels are proposed as `proposal` says.

    ENTER: verdict RANGE_OK, the price inside the range of the last 96 hours as it was before widening, and
    p_leave_72h below `enter_below`. WATCH: verdict RANGE_OK or RANGE_WEAK, inside, and below `watch_below`. Both need
    p_break_low_24h of the proposed grid below `max_break_low_24h`. WAIT: everything else. So a TRANSITION, a TREND, a
    price outside the range, and anything unknown always mean WAIT; so does a price outside the grid as configured, or
    at its stop, since that is what would be started.

    Args:
        grid: the grid. An enabled one gets no rows: it has an exit state.
        features: rows of `regime_features`; other symbols and times are ignored.
        verdict: rows of `regime_verdict`; likewise.
        span: its bars; those with `as_of` before `grid.first_as_of` are left out.
        risk: what a weekend is, scales of the touch probability, of which the one for 24 hours is used, and `entry`.

    Returns:
        Rows of `entry_assessment` without stamps, one per bar, by `as_of`.
    """
    columns = ("close", "range_low", "range_high", "volatility_forecast", "volume_24h")
    rows = _at_bars(features, grid.symbol, span, grid.first_as_of, columns)
    rows = rows.with_columns(_at_bars(verdict, grid.symbol, span, grid.first_as_of, ("verdict",))["verdict"])
    if grid.enabled:
        rows = rows.clear()
    close, low, high, volatility, volume = (
        rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for name in ("close", "range_low", "range_high", "volatility_forecast", "volume_24h")
    )
    price = np.where(close > 0, close, np.nan)
    lower, upper, width, intervals = propose(price, low, high, grid.fees)
    first, calibration = bar_numbers(rows["as_of"]), (risk.touch.k_break.h24, risk.vol.weekend, risk.touch.continuity)
    p_below, p_above = (
        touch.probability_ahead(distance, volatility, first, HORIZON_HOURS, *calibration)
        for distance in (log_ratio(price, lower), log_ratio(upper, price))
    )
    p_leave = p_below + p_above
    p_break = touch.probability_ahead(log_ratio(price, lower), volatility, first, BREAK_HOURS, *calibration)

    frame = rows.select("as_of", "verdict").with_columns(
        grid_id=pl.lit(grid.id),
        symbol=pl.lit(grid.symbol),
        price=pl.Series(price, dtype=pl.Float64).fill_nan(None),
        lower=pl.Series(lower, dtype=pl.Float64).fill_nan(None),
        upper=pl.Series(upper, dtype=pl.Float64).fill_nan(None),
        levels=pl.Series(intervals, dtype=pl.Int64),
        step_percent=pl.Series(
            [
                None if count is None else 100.0 * math.expm1(value / count)
                for value, count in zip(width.tolist(), intervals, strict=True)
            ],
            dtype=pl.Float64,
        ),
        p_leave_72h=pl.Series(p_leave, dtype=pl.Float64).fill_nan(None),
        p_break_low_24h=pl.Series(p_break, dtype=pl.Float64).fill_nan(None),
        range_low=pl.Series(low, dtype=pl.Float64).fill_nan(None),
        range_high=pl.Series(high, dtype=pl.Float64).fill_nan(None),
    )
    advised = [
        _advise(
            grid,
            row["verdict"],
            row["price"],
            (row["range_low"], row["range_high"]),
            (row["lower"], row["upper"]),
            row["levels"],
            (row["p_leave_72h"], row["p_break_low_24h"]),
            risk.entry,
            leaving,
        )
        for row, leaving in zip(
            frame.iter_rows(named=True), _leaving(grid, price, volatility, volume, risk), strict=True
        )
    ]
    words = pl.DataFrame(advised, schema={"advice": pl.String, "reasons": pl.List(pl.String)}, orient="row")
    frame = frame.drop("verdict", "range_low", "range_high").with_columns(words.get_columns())
    return registry.conform(frame, "entry_assessment").drop("config_hash", "code_version")


def _at_bars(frame: pl.DataFrame, symbol: str, span: Span, first: datetime, columns: tuple[str, ...]) -> pl.DataFrame:
    """The symbol's columns, or nulls, at every bar of the span with `as_of` from `first` on, by `as_of`."""
    known = frame.filter(pl.col("symbol") == symbol).select("as_of", *columns)
    axis = (span.open_times() + BAR).alias("as_of").to_frame().filter(pl.col("as_of") >= first)
    return axis.join(known, on="as_of", how="left", validate="1:1", maintain_order="left")


def _advise(
    grid: GridConfig,
    verdict: str | None,
    price: float | None,
    recent: tuple[float | None, float | None],
    proposed: tuple[float | None, float | None],
    intervals: int | None,
    chances: tuple[float | None, float | None],
    limits: EntryConfig,
    leaving: str | None,
) -> tuple[str, list[str]]:
    """Advice and reasons of one bar; the reasons against starting come first.

    Args:
        grid: as configured.
        verdict: of the market.
        price: its close.
        recent: the range of the last 96 hours.
        proposed: the bounds of the proposed grid.
        intervals: how many it has; None: it would not pay its fees.
        chances: that it is left within 72 hours, both sides summed, and broken below within 24.
        limits: what both are measured by.
        leaving: what leaving will cost, which is said and decides nothing.
    """
    p_leave, p_break = chances
    against: list[str] = []
    support: list[str] = []
    if price is not None:
        where = _where_configured(grid, price)
        if where:
            against.append(where)
    unknown = ["price"] if price is None else []
    if verdict is None:
        unknown.append("verdict")
    if None in recent:
        unknown.append("range of the last 96 hours")
    elif price is not None and p_leave is None:
        unknown.append("volatility")
    if unknown:
        against.append(f"Not known: {', '.join(unknown)}.")
    if verdict is not None:
        calm = verdict in ("RANGE_OK", "RANGE_WEAK")
        (support if calm else against).append(f"The verdict is {verdict}; a grid needs RANGE_OK.")
    if price is not None and recent[0] is not None and recent[1] is not None:
        inside = recent[0] <= price <= recent[1]
        (support if inside else against).append(
            f"The price {price_text(price)} is {'inside' if inside else 'outside'} the range "
            f"{price_text(recent[0])} to {price_text(recent[1])} of the last 96 hours."
        )
        if intervals is None:
            against.append("The range is too narrow for two steps that pay their fees.")
    if p_leave is not None and proposed[0] is not None and proposed[1] is not None:
        (support if p_leave < limits.watch_below else against).append(
            f"Leaving {price_text(proposed[0])} to {price_text(proposed[1])} within {HORIZON_HOURS} h: "
            f"{100 * p_leave:.0f} %, both sides summed (ENTER below {100 * limits.enter_below:.0f} %, WATCH below "
            f"{100 * limits.watch_below:.0f} %)."
        )
    if p_break is not None and proposed[0] is not None:
        near = p_break >= limits.max_break_low_24h
        what = "an exit signal is already near" if near else "no exit signal is near"
        (against if near else support).append(
            f"If it started now, {what}: a break below {price_text(proposed[0])} within {BREAK_HOURS} h: "
            f"{100 * p_break:.0f} % (ENTER and WATCH below {100 * limits.max_break_low_24h:.0f} %)."
        )
    if leaving is not None:
        support.append(leaving)
    if against:
        return "WAIT", against + support
    if verdict == "RANGE_OK" and p_leave is not None and p_leave < limits.enter_below:
        return "ENTER", [*support, _CAVEAT]
    return "WATCH", support


def _leaving(
    grid: GridConfig, price: Floats, volatility: Floats, volume: Floats, risk: RiskConfig
) -> Iterator[str | None]:
    """How much of a grid this market takes, at the volume of the last day and the volatility that is forecast."""
    half_spread, quote = risk.half_spread(grid.symbol), grid.symbol.partition("-")[2]
    for close, sigma, traded in zip(price.tolist(), volatility.tolist(), volume.tolist(), strict=True):
        minute = close * traded / _MINUTES_A_DAY
        if math.isnan(minute) or math.isnan(sigma):
            yield None
            continue
        most = slippage.capacity(_DEAR, half_spread, sigma / math.sqrt(60.0), minute)
        # Two digits: it is good to no more.
        rounded = float(f"{most:.1e}")
        much = number_text(rounded) if rounded < 1e6 else f"{number_text(rounded / 1e6)} million"
        than = "more than " if most == minute else ""
        yield (
            f"This market takes {than}{much} {quote} of a grid before leaving costs {10_000 * _DEAR:.0f} bp beside the "
            f"fee; its capital is {number_text(grid.capital)}."
        )


def _where_configured(grid: GridConfig, price: float) -> str | None:
    """Why the grid as configured cannot start at this price; None: it can."""
    bounds = f"the configured grid {price_text(grid.lower)} to {price_text(grid.upper)}"
    if price <= grid.stop:
        at = "below" if price < grid.stop else "at"
        return f"The price {price_text(price)} is below {bounds} and {at} its stop {price_text(grid.stop)}."
    if price < grid.lower:
        return f"The price {price_text(price)} is below {bounds}."
    if price > grid.upper:
        return f"The price {price_text(price)} is above {bounds}."
    return None
