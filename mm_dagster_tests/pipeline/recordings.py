"""A project on recorded files that a test writes, driven without Dagster."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import yaml

from mm_dagster.bars import BAR, Span
from mm_dagster.market.simulated import simulate

NOW = datetime.fromisoformat("2026-03-02T12:00:00+00:00")


def record(folder: Path, symbol: str, until: datetime, revised: datetime | None = None) -> None:
    """Writes 55 days of a market; of the revised bar the close is another."""
    rows = simulate(symbol, Span(until - timedelta(days=55), until))
    if revised is not None:
        lifted = pl.when(pl.col("open_time") == revised).then(pl.col("low")).otherwise(pl.col("close"))
        rows = rows.with_columns(close=lifted)
    (folder / symbol).mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / symbol / "15m.parquet")


def grid(name: str, symbol: str, price: float, **changes: object) -> dict[str, object]:
    """The content of a grid's file, around a price."""
    return {
        "id": name, "symbol": symbol, "activated_at": (NOW - 20 * BAR).isoformat(), "lower": round(price * 0.95, 2),
        "upper": round(price * 1.05, 2), "levels": 8, "stop": round(price * 0.9, 2), "capital": 1000, **changes,
    }  # fmt: skip


def configure(folder: Path, grids: list[dict[str, object]], venues: dict[str, object], markets: dict[str, str]) -> None:
    """Writes the configuration: markets by symbol, each with its venue."""
    (folder / "grids").mkdir(parents=True, exist_ok=True)
    listed = [{"symbol": symbol, "venue": venue} for symbol, venue in markets.items()]
    content = {"venues": venues, "markets": listed, "candles": {"late_bar_wait_seconds": 0}}
    (folder / "markets.yaml").write_text(yaml.safe_dump(content))
    for one in grids:
        (folder / "grids" / f"{one['id']}.yaml").write_text(yaml.safe_dump(one))


def price_of(symbol: str) -> float:
    """Where the market stood twenty bars ago."""
    return float(simulate(symbol, Span(NOW - 20 * BAR, NOW))["close"][0])
