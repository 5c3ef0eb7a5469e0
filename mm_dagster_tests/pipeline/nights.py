"""A project whose portfolio is known: three recorded markets, two running grids, one that does not run, one tick."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from mm_dagster.bars import BAR, Span
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_tick
from mm_dagster_tests.pipeline.recordings import NOW, configure, grid, price_of, record

ETH, SOL, BTC = "ETH-USDT", "SOL-USDT", "BTC-USDT"
EQUITY = 8000.0


def write(folder: Path) -> Project:
    """Writes configuration and recordings below a folder; nothing has run yet."""
    for symbol in (ETH, SOL, BTC):
        record(folder / "recordings", symbol, NOW)
    grids = [
        grid("eth-range", ETH, price_of(ETH)),
        grid("sol-range", SOL, price_of(SOL)),
        grid("btc-next", BTC, price_of(BTC), enabled=False),
    ]
    venues: dict[str, object] = {"files": {"kind": "recorded", "path": "../recordings", "file": "15m.parquet"}}
    configure(folder / "configuration", grids, venues, dict.fromkeys((ETH, SOL, BTC), "files"))
    settings = {"window_days": 30, "equity": EQUITY}
    (folder / "configuration" / "portfolio.yaml").write_text(yaml.safe_dump(settings))
    return project(folder)


def project(folder: Path) -> Project:
    """That of a folder, with its configuration read anew."""
    return Project(str(folder / "configuration"), str(folder / "data"))


def ticked(folder: Path) -> Project:
    """The same after one tick; what volatility is forecast is written by hand, since its warm-up takes seven weeks."""
    known = write(folder)
    run_tick(known, NOW, stages=("candles", "regime_features", "grid_risk"))
    first = known.lake.read("regime_features", columns=["as_of"])["as_of"].min()
    assert isinstance(first, datetime)
    older = Span(NOW - timedelta(days=32), first - BAR)
    known.lake.write("regime_features", _volatility(older), span=older, commit=Commit("test", "test", ""))
    run_tick(project(folder), NOW, stages=("portfolio_risk", "limit_state"))
    return project(folder)


def _volatility(span: Span) -> pl.DataFrame:
    """A forecast that rises and falls, another for each market."""
    wave = 0.006 + 0.002 * np.sin(np.arange(span.bars) / 200)
    return pl.concat(
        pl.DataFrame({"as_of": span.open_times() + BAR, "volatility_forecast": factor * wave}).with_columns(
            symbol=pl.lit(symbol), config_hash=pl.lit(""), code_version=pl.lit("")
        )
        for symbol, factor in ((ETH, 1.0), (SOL, 1.4), (BTC, 0.8))
    )
