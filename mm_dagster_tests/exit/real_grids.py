"""Grids on real candles, through every stage without Dagster: for the golden replays, and for their pictures in docs/.

`python -m mm_dagster_tests.exit.real_grids` draws the pictures anew; it needs the real candles.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from mm_dagster.bars import BAR, HOUR_BARS, Span, parse_time
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.grid import GridConfig, break_even_ratio
from mm_dagster.config.regime import RegimeConfig
from mm_dagster.config.risk import RiskConfig, TouchConfig, VolatilityConfig
from mm_dagster.exit import ladder
from mm_dagster.grid import risk as grid_risk
from mm_dagster.pictures import decision, equity
from mm_dagster.regime import features as regime_features
from mm_dagster.regime import verdict as regime_verdict
from mm_dagster.tables.regime import HYSTERESIS_BARS, WARMUP_BARS
from mm_dagster_tests.regime.markets import real

PROJECT = Path(__file__).resolve().parent.parent.parent
PICTURES = {"flash-crash": ("2025-10-10", 1), "up-trend": ("2025-05-07", 2), "range": ("2025-05-24", 6)}
"""Name of a picture -> when its grid was opened, and for how many days it is followed."""


@dataclass(frozen=True)
class Stages:
    """The rows of every stage of one grid, from its activation on."""

    candles: pl.DataFrame
    verdict: pl.DataFrame
    risk: pl.DataFrame
    states: pl.DataFrame


def opened(candles: pl.DataFrame, at: datetime) -> GridConfig:
    """The grid that the rule opens: it knows the 96 hours before, and no signal."""
    before = candles.filter(Span(at - 96 * HOUR_BARS * BAR, at).opens())
    price = before["close"][-1]
    lower = round(min(before["low"].min(), price * 0.98) * 0.995, 1)
    upper = round(max(before["high"].max(), price * 1.02) * 1.005, 1)
    least_step = math.log1p(3 * (break_even_ratio(0.001, "quote") - 1))
    return GridConfig(
        id="eth",
        symbol="ETH-USDT",
        activated_at=at,
        lower=lower,
        upper=upper,
        levels=min(16, math.floor(math.log(upper / lower) / least_step)),
        spacing="geometric",
        stop=round(0.97 * lower, 1),
        capital=10_000,
    )


def replay(candles: pl.DataFrame, grid: GridConfig, days: int) -> Stages:
    """The first days of a grid, through every stage."""
    end = grid.activated_at + timedelta(days=days)
    span = Span(grid.activated_at - BAR, end)
    judged = span.back(4 * HOUR_BARS)
    measured = judged.back(HYSTERESIS_BARS - 1)
    seen = candles.filter(measured.back(WARMUP_BARS).opens())
    features = regime_features.compute(seen, measured, VolatilityConfig())
    verdict = regime_verdict.compute(features, judged, RegimeConfig())
    risk = grid_risk.compute([grid], features, seen, span, RiskConfig())
    states = ladder.compute([grid], seen, features, verdict, risk, span, ExitConfig(), TouchConfig())
    return Stages(seen.filter(span.back(96).opens()), verdict.filter(span.back(96).closes()), risk, states)


def draw(candles: pl.DataFrame, folder: Path) -> None:
    """Writes a picture of each of PICTURES, and of the money of the grid that lived longest."""
    for name, (day, days) in PICTURES.items():
        grid = opened(candles, parse_time(day))
        stages = replay(candles, grid, days)
        decided = decision.decision_picture(grid, stages.candles, stages.verdict, stages.states)
        (folder / f"{name}.png").write_bytes(decided)
        if name == "range":
            (folder / "range-equity.png").write_bytes(equity.equity_picture(grid, stages.risk))


if __name__ == "__main__":
    shared = Path(os.environ.get("MM_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    draw(real(shared), PROJECT / "docs")
