"""Rows that keep every rule of a table, made from its contract: nulls, infinities and lists included."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dataframely as dy
import numpy as np
import polars as pl

from mm_dagster.bars import BAR
from mm_dagster.tables import registry
from mm_dagster.tables.makers import FILL_REASONS
from mm_dagster.tables.words import (
    ALERT_EVENTS,
    ALERT_KINDS,
    ALERT_STATUS,
    BOOK_ORIGINS,
    BOT_STATES,
    CANDLE_STATUS,
    DRAWDOWNS,
    ENTRY_ADVICE,
    GAP_KINDS,
    GAP_PARTS,
    LIMITS,
    ORDER_MODES,
    ORDER_STATES,
    OUTCOMES,
    PAPER_PRICES,
    PLAN_STATES,
    POSITION_HEALTH,
    RECORDS_BEGAN,
    RESPONSES,
    RISK_LEVEL,
    SESSION_STATES,
    SIDES,
    STATES,
    STOP_LOSS_RISK,
    STOPPERS,
    VERDICTS,
)

_WORDS = {
    "status": CANDLE_STATUS[:2],
    "verdict": VERDICTS,
    "raw_verdict": VERDICTS,
    "state": STATES,
    "raw_state": STATES,
    "literal_state": STATES,
    "live_state": STATES,
    "position_health": POSITION_HEALTH,
    "stop_loss_risk": STOP_LOSS_RISK,
    "risk_level": RISK_LEVEL,
    "source": ("MODELLED", "ACCOUNT"),
    "kind": ALERT_KINDS,
    "side": SIDES,
    "event": ALERT_EVENTS,
    "action": RESPONSES,
    "outcome": OUTCOMES,
    "old_status": CANDLE_STATUS,
    "new_status": CANDLE_STATUS,
    "drawdown_level": DRAWDOWNS,
    "limit": LIMITS,
    "mode": ORDER_MODES,
    "stopper": STOPPERS,
    "level": STATES[1:],
    "prices": PAPER_PRICES,
    "part": GAP_PARTS,
    "origin": BOOK_ORIGINS,
    "live_origin": BOOK_ORIGINS,
    "began": RECORDS_BEGAN,
}
_WORDS_OF_TABLE = {
    ("grid_bot", "state"): BOT_STATES,
    ("exit_plan", "state"): PLAN_STATES,
    ("exit_order", "state"): ORDER_STATES,
    ("session", "state"): SESSION_STATES,
    ("book_gap", "kind"): GAP_KINDS,
    ("maker_fill", "side"): ("BUY", "SELL"),
    ("maker_fill", "why"): FILL_REASONS,
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
    if table == "book_snapshot":
        # Either a book, or why there is none.
        lacking = pl.col("bids").is_null() | pl.col("asks").is_null() | pl.col("mid").is_null()
        lacking |= pl.any_horizontal(pl.col("half_spread_bp", "depth_reach_bp", "bid_levels", "ask_levels").is_null())
        told = ("venue", "symbol", "as_of", "asked_at", "observed_at", "update_id", "origin", "refused", "source")
        figures = [name for name in frame.columns if name not in told]
        frame = frame.with_columns(
            pl.when(lacking).then(pl.coalesce("refused", pl.lit("crossed"))).alias("refused"),
            *(pl.when(~lacking).then(name).alias(name) for name in figures),
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
    if column.primary_key and isinstance(column, dy.String) and name not in _WORDS:
        return f"{whose} {time:%Y%m%d%H%M} é"
    candle_price = table == "candles" and name != "observed_at"
    if column.nullable and not candle_price and random.random() < 0.2:
        return None
    match column.dtype:
        case pl.String():
            words = ALERT_STATUS if (table, name) == ("notification", "status") else _WORDS.get(name)
            words = ENTRY_ADVICE if (table, name) == ("entry_assessment", "advice") else words
            words = _WORDS_OF_TABLE.get((table, name), words)
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
        case pl.List(inner=pl.Int64()):
            return [int(number) for number in random.integers(-9, 9, random.integers(4))]
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
