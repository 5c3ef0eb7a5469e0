"""Rows that keep every rule of a table, made from its contract: nulls, infinities and lists included."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dataframely as dy
import numpy as np
import polars as pl

from mm_dagster.bars import BAR
from mm_dagster.tables import registry
from mm_dagster.tables import words as tables_words

_WORDS = {
    "status": tables_words.CANDLE_STATUS[:2],
    "verdict": tables_words.VERDICTS,
    "raw_verdict": tables_words.VERDICTS,
    "state": tables_words.STATES,
    "raw_state": tables_words.STATES,
    "literal_state": tables_words.STATES,
    "live_state": tables_words.STATES,
    "position_health": tables_words.POSITION_HEALTH,
    "stop_loss_risk": tables_words.STOP_LOSS_RISK,
    "risk_level": tables_words.RISK_LEVEL,
    "source": ("MODELLED", "ACCOUNT"),
    "kind": tables_words.ALERT_KINDS,
    "side": tables_words.SIDES,
    "event": tables_words.ALERT_EVENTS,
    "action": tables_words.RESPONSES,
    "old_status": tables_words.CANDLE_STATUS,
    "new_status": tables_words.CANDLE_STATUS,
}


def sample(
    table: str, times: list[datetime], names: tuple[str, ...] = ("ETH-USDT", "BTC-USDT"), seed: int = 0
) -> pl.DataFrame:
    """One row for each name and time; names are symbols and grids alike, times go to the table's own time column."""
    random = np.random.default_rng(seed)
    rows = [
        {
            column: _value(table, column, kind, name, time, random)
            for column, kind in registry.TABLES[table].columns().items()
        }
        for name in names
        for time in times
    ]
    frame = pl.DataFrame(rows, schema=registry.dtypes(table))
    if table == "candles":
        frame = frame.with_columns(
            close_time=pl.col("open_time") + BAR,
            high=pl.max_horizontal("open", "high", "low", "close"),
            low=pl.min_horizontal("open", "high", "low", "close"),
        )
    key = registry.TABLES[table].primary_key()
    return frame.unique(key, keep="first").sort(key)


def _value(table: str, name: str, column: dy.Column, whose: str, time: datetime, random: np.random.Generator) -> Any:
    if name in ("open_time", "as_of") and table != "notification":
        return time
    if name in ("symbol", "grid_id", "venue"):
        return whose
    if name == registry.source_column(table):
        return "ccxt:kucoin"
    if column.primary_key and not isinstance(column, dy.Datetime):
        return f"{whose} {time:%Y%m%d%H%M} é"
    candle_price = table == "candles" and name != "observed_at"
    if column.nullable and not candle_price and random.random() < 0.2:
        return None
    match column.dtype:
        case pl.String():
            words = tables_words.ALERT_STATUS if (table, name) == ("notification", "status") else _WORDS.get(name)
            words = tables_words.ENTRY_ADVICE if (table, name) == ("entry_assessment", "advice") else words
            return str(random.choice(words)) if words else f"ünïcode 'quoted' {random.integers(99)}"
        case pl.Float64():
            infinite = ("half_life", "half_life_baseline", *(("value", "threshold") if table == "exit_state" else ()))
            if name in infinite and random.random() < 0.3:
                return float("inf")
            return float(random.random())
        case pl.Int64():
            return int(random.integers(-2, 3))
        case pl.Boolean():
            return bool(random.random() < 0.5)
        case pl.Datetime():
            return time if column.primary_key else time + int(random.integers(1, 10**9)) * (BAR / 900_000_000)
        case pl.List(inner=pl.String()):
            return [f"sentence {number}" for number in range(random.integers(3))]
        case pl.List():
            parts = column.inner.inner  # type: ignore[attr-defined]
            return [
                {part: _value(table, part, kind, whose, time, random) for part, kind in parts.items()}
                for _ in range(random.integers(4))
            ]
    raise TypeError(f"{table}.{name}: {column.dtype}")


def times(first: datetime, bars: int) -> list[datetime]:
    """That many quarter hours from the first on."""
    return [first + number * BAR for number in range(bars)]
