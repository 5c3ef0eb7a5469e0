"""Rows of `portfolio_risk` for pictures, made by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.tables import registry

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 14
SPAN = Span(START, START + timedelta(days=DAYS))


def risks(*, capital: float = 10_000.0, hole: tuple[int, int] = (200, 260), **changes: Any) -> pl.DataFrame:
    """Two weeks of a night that grows and shrinks, with a hole."""
    rows = []
    for bar in range(DAYS * DAY_BARS):
        var = capital * (0.05 + 0.02 * math.sin(bar / 90))
        told = not hole[0] <= bar < hole[1]
        rows.append(
            dict.fromkeys(registry.dtypes("portfolio_risk"))
            | {
                "quote": "USDT", "as_of": START + (bar + 1) * BAR, "grids": 6, "markets": 5, "capital": capital,
                "var_5_24h": var if told else None, "es_5_24h": 1.3 * var if told else None, "counts_as": 1.1,
                "paths": 356 if told else None, "reason": None if told else "ETH-USDT: its newest bar is missing.",
                "config_hash": "", "code_version": "", **changes,
            }
        )  # fmt: skip
    return pl.DataFrame(rows, schema=registry.dtypes("portfolio_risk"), orient="row")


def came(capital: float = 10_000.0) -> pl.DataFrame:
    """What each night brought, one of them more than was said."""
    midnights = [START + timedelta(days=day) for day in range(1, DAYS)]
    losses = [0.02 * capital * math.sin(day) for day in range(1, DAYS - 1)] + [0.09 * capital]
    schema = {"quote": pl.String, "as_of": pl.Datetime("us", "UTC"), "loss": pl.Float64}
    return pl.DataFrame({"quote": ["USDT"] * len(midnights), "as_of": midnights, "loss": losses}, schema=schema)


def contributions(count: int = 3, capital: float = 10_000.0) -> list[dict[str, Any]]:
    """Each grid's part; the last one gains in these nights."""
    parts = [0.03 * capital / (number + 1) for number in range(count - 1)] + [-0.004 * capital]
    return [
        {"grid_id": f"grid-{number}", "es_5_contribution": part, "es_5_share": part / sum(parts)}
        for number, part in enumerate(parts)
    ]
