"""Synthetic rows for the tests of this room: made up, not measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
from scipy import stats

from mm_dagster.bars import BAR, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.tables import registry

START = datetime(2026, 3, 2, tzinfo=UTC)


def grid(**changes: Any) -> GridConfig:
    """The grid of the requirements' example."""
    values: dict[str, Any] = {
        "id": "eth-v3",
        "symbol": "ETH-USDT",
        "activated_at": START,
        "lower": 3070,
        "upper": 3185,
        "levels": 8,
        "stop": 2990,
        "capital": 1000,
    }
    return GridConfig.model_validate(values | changes)


def chance_of_break(distance: float, sigma: float, hours: int, weekend_hours: float = 0) -> float:
    """The formula of a break by default, from scipy's distribution; a weekend hour has .49 of a weekday's variance."""
    touch = RiskConfig().touch
    scale: float = getattr(touch.k_break, f"h{min(hours, 24)}")
    mean = sigma * math.sqrt((hours - weekend_hours + 0.49 * weekend_hours) / hours)
    away = distance + touch.continuity * mean * math.sqrt(1 / 4)
    return float(2 * stats.t.cdf(-away / (scale * mean * math.sqrt(hours)), df=4))


def span(bars: int) -> Span:
    """The bars whose as_of are START and the quarter hours after it."""
    return Span(START - BAR, START + (bars - 1) * BAR)


def features(closes: Sequence[float | None], symbol: str = "ETH-USDT", **columns: Any) -> pl.DataFrame:
    """Rows of regime_features from as_of = START on."""
    values: dict[str, Any] = {"atr": 12.0, "volatility_forecast": 0.006, "change_24h": -1.5, "volume_24h": 900.0}
    values |= columns
    frame = pl.DataFrame({"close": pl.Series(closes, dtype=pl.Float64)}).with_columns(
        (span(len(closes)).open_times() + BAR).alias("as_of"),
        *(
            pl.Series(name, value) if isinstance(value, list) else pl.lit(value).alias(name)
            for name, value in values.items()
        ),
        symbol=pl.lit(symbol),
    )
    return registry.conform(frame, "regime_features")


def candles(closes: Sequence[float | None], symbol: str = "ETH-USDT") -> pl.DataFrame:
    """Rows of candles whose first closes at START; each bar opens where the last known one closed."""
    last = pl.Series(closes, dtype=pl.Float64)
    opens = last.shift(1).forward_fill().fill_null(last)
    known = last.is_not_null()
    times = span(len(closes)).open_times()
    frame = pl.DataFrame(
        {
            "open_time": times,
            "close_time": times + BAR,
            "open": opens.set(~known, None),
            "high": pl.select(pl.max_horizontal(opens, last)).to_series().set(~known, None),
            "low": pl.select(pl.min_horizontal(opens, last)).to_series().set(~known, None),
            "close": last,
        }
    ).with_columns(symbol=pl.lit(symbol), status=pl.when(known).then(pl.lit("TRADED")).otherwise(pl.lit("MISSING")))
    return registry.conform(frame, "candles")


def verdicts(values: Sequence[str | None], symbol: str = "ETH-USDT") -> pl.DataFrame:
    """Rows of regime_verdict from as_of = START on."""
    frame = pl.DataFrame({"verdict": pl.Series(values, dtype=pl.String)}).with_columns(
        (span(len(values)).open_times() + BAR).alias("as_of"), symbol=pl.lit(symbol)
    )
    return registry.conform(frame, "regime_verdict")


def stamped(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """The frame as the caller stores it, for the check of the table's rules."""
    return registry.conform(frame.with_columns(config_hash=pl.lit("0"), code_version=pl.lit("0")), table)
