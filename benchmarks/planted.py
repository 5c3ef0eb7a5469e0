"""Markets that are made up, in which something can be known: the last volume of a day leaks the next day's drift.

`python -m benchmarks.planted FOLDER [--leak 0.25] [--days 260] [--markets 6] [--seed 1]` writes them as candle files
for `mm strategies study --candles FOLDER`. With `--leak 0` nothing can be known. The idea that finds the leak is
docs/studies/loud_evening.py.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, Span

START = datetime(2025, 1, 1, tzinfo=UTC)
SIGMA = 0.03
"""Standard deviation of a day's log return."""
LOUD = 3.0
"""The last volume of a day before a rise, over the usual one."""


def planted(leak: float, days: int, markets: int, seed: int) -> pl.DataFrame:
    """Rows of `candles`.

    Args:
        leak: drift of a day over SIGMA; up or down with the same probability.
        days: how many.
        markets: how many; half of the variance is common to all.
        seed: of the chance.
    """
    random = np.random.default_rng(seed)
    bars = days * DAY_BARS
    scale = SIGMA / np.sqrt(DAY_BARS)
    common = random.standard_normal(bars)
    parts = []
    for number in range(markets):
        drift = random.choice([-1.0, 1.0], days)
        noise = np.sqrt(0.5) * (common + random.standard_normal(bars))
        moves = scale * noise + np.repeat(leak * SIGMA / DAY_BARS * drift, DAY_BARS)
        close = 100.0 * np.exp(np.cumsum(moves))
        opened = np.append(100.0, close[:-1])
        wick = np.exp(0.3 * scale * np.abs(random.standard_normal(bars)))
        volume = 1_000.0 * np.exp(0.3 * random.standard_normal(bars))
        # The last bar of a day is as loud as the next day rises.
        last = np.arange(1, days) * DAY_BARS - 1
        volume[last] *= np.where(drift[1:] > 0, LOUD, 1 / LOUD)
        parts.append(
            pl.DataFrame(
                {
                    "symbol": f"P{number:02d}-USDT",
                    "open_time": Span(START, START + timedelta(days=days)).open_times(),
                    "open": opened,
                    "high": np.maximum(opened, close) * wick,
                    "low": np.minimum(opened, close) / wick,
                    "close": close,
                    "volume": volume,
                }
            )
        )
    return pl.concat(parts).with_columns(close_time=pl.col("open_time") + BAR, status=pl.lit("TRADED"))


def write(candles: pl.DataFrame, folder: Path) -> None:
    """As a recorded venue has them: FOLDER/SYMBOL/15m.parquet."""
    for (symbol,), rows in candles.group_by("symbol"):
        (folder / str(symbol)).mkdir(parents=True, exist_ok=True)
        rows.sort("open_time").drop("symbol", "close_time", "status").write_parquet(
            folder / str(symbol) / "15m.parquet"
        )


def main() -> None:
    """Writes them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planted", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--leak", type=float, default=0.25, help="drift of a day over its standard deviation")
    parser.add_argument("--days", type=int, default=260)
    parser.add_argument("--markets", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    write(planted(given.leak, given.days, given.markets, given.seed), given.folder)
    print(f"{given.markets} markets of {given.days} days are in {given.folder}")


if __name__ == "__main__":
    main()
