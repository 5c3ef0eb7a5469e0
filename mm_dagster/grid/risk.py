"""Where the price stands in a grid at every bar, how likely it is to leave it, and what is at stake in money."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from mm_dagster import tables
from mm_dagster.bars import BAR, HOUR_BARS, TIME, Span, bar_numbers, iso
from mm_dagster.config import GridConfig, RiskConfig
from mm_dagster.grid import position, touch
from mm_dagster.grid.levels import prices
from mm_dagster.grid.touch import Floats
from mm_dagster.tables import NO_RULES, MarketRules

HORIZONS = (6, 12, 24)
"""Hours ahead for which touch probabilities are kept."""

FEATURES = ("close", "change_24h", "volume_24h", "atr", "volatility_forecast")


def compute(
    grid: GridConfig,
    features: pl.DataFrame,
    candles: pl.DataFrame,
    span: Span,
    risk: RiskConfig,
    rules: MarketRules = NO_RULES,
    fills: pl.DataFrame | str | None = None,
) -> pl.DataFrame:
    """Evaluates one grid, enabled or not, at every bar of the span since its activation.

    Args:
        grid: the grid.
        features: rows of `regime_features`; other symbols and times are ignored.
        candles: rows of `candles` from the bar that closes at `grid.first_as_of` on; other markets are ignored. Only
            what a running grid holds depends on them.
        span: its bars; those with `as_of` before `grid.first_as_of` are left out.
        risk: what a weekend is, scales of the touch probability, limits of the stop-loss risk, what waiting means.
        rules: of the grid's market: ticks, lots, smallest orders.
        fills: of the grid's account, see `account.fills_of`; without them the position is modelled.

    Returns:
        Rows of `grid_risk` without stamps, one per bar, by `as_of`. Where the features have no row, or no close,
        the row is there and what depends on it is null. So is what the grid holds where it cannot be modelled; the
        recommendations then say why.
    """
    rows = at_bars(features, grid.symbol, span, grid.first_as_of, FEATURES)
    count = rows.height
    known = _floats(rows, FEATURES)
    price = np.where(known["close"] > 0, known["close"], np.nan)
    atr = np.where(known["atr"] > 0, known["atr"], np.nan)
    ahead = bar_numbers(rows["as_of"])

    def sigma(bars: int) -> Floats:
        return touch.forecast(known["volatility_forecast"], ahead, bars, risk.vol.weekend)

    columns: dict[str, Floats] = {
        "price": price,
        "change_24h": known["change_24h"],
        "volume_24h": known["volume_24h"],
    }
    aways = {"lower": price - grid.lower, "upper": grid.upper - price, "stop": price - grid.stop}
    for name, away in aways.items():
        columns[f"distance_{name}_percent"] = 100.0 * away / price
        columns[f"distance_{name}_atr"] = away / atr
    to_lower = touch.log_ratio(price, np.full(count, grid.lower))
    to_upper = touch.log_ratio(np.full(count, grid.upper), price)
    to_stop = touch.log_ratio(price, np.full(count, grid.stop))
    for hours in HORIZONS:
        k_break = getattr(risk.touch.k_break, f"h{hours}")
        k_stop = getattr(risk.touch.k_stop, f"h{hours}")
        forecast = sigma(hours * HOUR_BARS)
        columns[f"p_break_low_{hours}h"] = touch.probability(to_lower, forecast, hours, k_break)
        columns[f"p_break_high_{hours}h"] = touch.probability(to_upper, forecast, hours, k_break)
        columns[f"p_stop_{hours}h"] = touch.probability(to_stop, forecast, hours, k_stop)

    response = sigma(-(-timedelta(minutes=risk.giveback.response_minutes) // BAR))
    held = position.compute(grid, candles, response, rows["as_of"], risk.giveback, rules, fills)
    if not grid.enabled:
        held = held.with_columns(capital_utilisation=pl.Series(capital_utilisation(grid, price)).fill_nan(None))
    at_risk = _floats(held, ("capital_at_risk",))["capital_at_risk"]
    columns["capital_at_risk_weighted"] = at_risk * columns["p_stop_24h"]

    judged = [
        _judge(grid, price, p_stop, risk, _said_before(*told))
        for price, p_stop, told in zip(
            price.tolist(),
            columns["p_stop_24h"].tolist(),
            held.select("stopped_at", "remark").iter_rows(),
            strict=True,
        )
    ]
    words = pl.DataFrame(
        judged,
        schema={
            "position_health": pl.String,
            "stop_loss_risk": pl.String,
            "risk_level": pl.String,
            "recommendations": pl.List(pl.String),
        },
        orient="row",
    )
    frame = pl.DataFrame(columns).select(pl.all().fill_nan(None))
    frame = frame.with_columns(
        *words.get_columns(),
        *held.drop("remark").get_columns(),
        rows["as_of"],
        grid_id=pl.lit(grid.id),
        activated_at=pl.lit(grid.activated_at, dtype=TIME),
        symbol=pl.lit(grid.symbol),
    )
    return tables.conform(frame, "grid_risk").drop("config_hash", "code_version")


def at_bars(frame: pl.DataFrame, symbol: str, span: Span, first: datetime, columns: tuple[str, ...]) -> pl.DataFrame:
    """The symbol's columns, or nulls, at every bar of the span with `as_of` from `first` on, by `as_of`."""
    known = frame.filter(pl.col("symbol") == symbol).select("as_of", *columns)
    axis = (span.open_times() + BAR).alias("as_of").to_frame().filter(pl.col("as_of") >= first)
    return axis.join(known, on="as_of", how="left", validate="1:1", maintain_order="left")


def capital_utilisation(grid: GridConfig, price: Floats) -> Floats:
    """Share of the capital that would be inventory if the grid stood filled at a price: 1 below it, 0 above it.

    Every cell between neighbouring prices holds the same base quantity; it is held, at the cost of its lower price,
    while the price is below its upper one.

    Args:
        grid: the grid.
        price: shape (n,), NaN where unknown.

    Returns:
        Shape (n,), NaN where the price is.
    """
    levels = prices(grid.lower, grid.upper, grid.levels, grid.level_convention, grid.spacing)
    held_from_top = np.cumsum(levels[:-1][::-1])
    cost = np.concatenate([np.zeros(1), held_from_top])
    below = np.searchsorted(levels[1:], price, side="right")
    share = cost[levels.size - 1 - below] / cost[-1]
    return np.where(np.isnan(price), np.nan, share)


def _judge(
    grid: GridConfig, price: float, p_stop: float, risk: RiskConfig, before: list[str]
) -> tuple[str | None, str | None, str | None, list[str]]:
    """Position health, stop-loss risk, risk level and recommendations of one bar; None is unknown, NaN on entry."""
    if np.isnan(price):
        return None, None, None, [*before, "The newest candle is missing: where the price stands is not known."]
    health = "BELOW_GRID" if price < grid.lower else "ABOVE_GRID" if price > grid.upper else "IN_GRID"
    stop_risk: str | None
    level: str | None
    if price <= grid.stop:
        stop_risk, level = "BREACHED", "CRITICAL"
    elif np.isnan(p_stop):
        stop_risk, level = None, None
    elif p_stop >= risk.stop_loss.critical:
        stop_risk, level = "CRITICAL", "HIGH"
    elif p_stop >= risk.stop_loss.near:
        stop_risk, level = "NEAR", "MEDIUM"
    else:
        stop_risk, level = "SAFE", "LOW" if health == "IN_GRID" else "MEDIUM"
    return health, stop_risk, level, before + _recommend(grid, price, p_stop, health, stop_risk)


def _said_before(stopped_at: datetime | None, remark: str | None) -> list[str]:
    """What is to be said of the position before anything else."""
    over = [f"The stop was reached by {iso(stopped_at)}: the grid holds nothing any more."] if stopped_at else []
    return over + ([remark] if remark else [])


def _recommend(grid: GridConfig, price: float, p_stop: float, health: str, stop_risk: str | None) -> list[str]:
    sentences = []
    if stop_risk == "BREACHED":
        then = "sell what it holds" if grid.enabled else "do not start it as configured"
        sentences.append(f"The price {price:,.6g} is at or below the stop {grid.stop:,.6g}: {then}.")
    elif health == "BELOW_GRID":
        then = "it only holds; decide before the stop" if grid.enabled else "do not start it as configured"
        sentences.append(f"The price {price:,.6g} is below the grid {grid.lower:,.6g} to {grid.upper:,.6g}: {then}.")
    elif health == "ABOVE_GRID":
        then = "it is sold out; stop it or re-centre it" if grid.enabled else "do not start it as configured"
        sentences.append(f"The price {price:,.6g} is above the grid {grid.lower:,.6g} to {grid.upper:,.6g}: {then}.")
    if stop_risk in ("NEAR", "CRITICAL"):
        sentences.append(
            f"The stop {grid.stop:,.6g} is touched within 24 h with {100 * p_stop:.0f} %: see the exit state."
        )
    if stop_risk is None:
        sentences.append("The volatility is not known: no probability can be given.")
    return sentences


def _floats(frame: pl.DataFrame, columns: tuple[str, ...]) -> dict[str, Floats]:
    """Columns as floats by name, null as NaN."""
    numbers = frame.select(pl.col(columns).cast(pl.Float64).fill_null(math.nan))
    return {name: numbers[name].to_numpy() for name in columns}
