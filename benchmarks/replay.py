"""What the replay of a grid costs, against one object per cell in plain Python: `python -m benchmarks.replay`.

Real candles of ETH-USDT, 2025, every 15 minutes; grids over the whole range of the year with more and more levels, the
same candles and fees for all. One replay walks both paths and fills every column of `Replay`; the figure is the median
of many replays of the year in one thread, after one that loads or compiles the kernel. The plain state machine
walks one path only and keeps no more than its fills and cash. Its fills must be the same before any time is printed.

The columns of a year are 4 MB. Whether the C library keeps that memory from one replay to the next or asks the system
for fresh pages is an accident of the heap that hides the rest, so each is asked for and measured by itself.

With 1,000 levels a step is smaller than its fees: the configuration refuses such a grid; it is here for the load.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from mm_dagster.arrays import Floats
from mm_dagster.config.grid import Fees, prices
from mm_dagster.grid.replay import GridTerms, quantity_per_cell, replay, terms

PROJECT = Path(__file__).resolve().parent.parent
LEVELS = (20, 60, 200, 1000)
REPETITIONS = 101
CAPITAL = 10_000.0


@dataclass
class Cell:
    """One cell of the plain state machine."""

    buy: float
    sell: float
    held: bool


class PlainGrid:
    """Asks every cell at every turn of the price."""

    def __init__(self, levels: list[float], p0: float, quantity: float, maker: float) -> None:
        self.cells = [Cell(low, high, low >= p0) for low, high in pairwise(levels)]
        self.quantity, self.maker = quantity, maker
        self.cash, self.fills = 0.0, 0

    def move(self, price: float) -> None:
        """The price goes straight to `price`."""
        for cell in self.cells:
            if cell.held:
                if cell.sell <= price:
                    cell.held = False
                    self.cash += self.quantity * cell.sell * (1 - self.maker)
                    self.fills += 1
            elif cell.buy >= price:
                cell.held = True
                self.cash -= self.quantity * cell.buy * (1 + self.maker)
                self.fills += 1

    def live(self, first: float, high: float, low: float, close: float) -> None:
        """One candle by the shorter way."""
        self.move(first)
        for price in (low, high) if close >= first else (high, low):
            self.move(price)
        self.move(close)


def candles() -> list[Floats] | None:
    """Open, high, low and close of the year; None where the data is not here."""
    folder = Path(os.environ.get("MM_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    file = folder / "candles" / "kucoin" / "ETH-USDT" / "15m.parquet"
    if not file.is_file():
        return None
    frame = pl.read_parquet(file)
    return [np.ascontiguousarray(frame[name].to_numpy()) for name in ("open", "high", "low", "close")]


def open_grid(levels: int, columns: list[Floats]) -> GridTerms:
    """A grid over the range of the year, whose stop is never reached."""
    _, highs, lows, closes = columns
    grid_prices = prices(0.99 * lows.min(), 1.01 * highs.max(), levels, "intervals", "geometric")
    fees = Fees()
    quantity = quantity_per_cell(grid_prices, closes[0], CAPITAL, fees)
    return terms(grid_prices, quantity, closes[0], CAPITAL, 0.9 * lows.min(), fees)


def keep_memory(kept: bool) -> None:
    """Tells glibc's malloc whether freed arrays stay with the process; other C libraries do as they like."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**30 if kept else 0)
        mallopt(mmap_threshold, 2**25 if kept else 2**16)


def bars_per_second(grid: GridTerms, columns: list[Floats], kept: bool) -> float:
    """Median over many replays."""
    keep_memory(kept)
    seconds = []
    for _ in range(REPETITIONS + 1):
        started = time.perf_counter()
        replay(grid, *columns)
        seconds.append(time.perf_counter() - started)
    return float(columns[0].size / statistics.median(seconds[1:]))


def main() -> None:
    """Measures and prints."""
    columns = candles()
    if columns is None:
        sys.exit("real market data is not here; set MM_SHARED_DATA to its folder")
    bars = columns[0].size
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    table = Table(title=f"Replay of {bars:,} bars of ETH-USDT; median of {REPETITIONS}", title_justify="left")
    for head in (
        "levels",
        "fills",
        "the longer way",
        "ns a bar",
        "million bars/s",
        "fresh memory",
        "plain Python",
        "faster",
    ):
        table.add_column(head, justify="right")
    for levels in LEVELS:
        grid = open_grid(levels, columns)
        found = replay(grid, *columns)
        ours, fresh = (bars_per_second(grid, columns, kept) for kept in (True, False))
        plain = PlainGrid(grid.prices.tolist(), columns[3][0], grid.held, Fees().maker)
        started = time.perf_counter()
        for row in rows:
            plain.live(*row)
        theirs = bars / (time.perf_counter() - started)
        if plain.fills != found.fills[-1]:
            sys.exit(f"{levels} levels: {found.fills[-1]} fills, and {plain.fills} cell by cell")
        table.add_row(
            f"{levels:,}",
            f"{found.fills[-1]:,}",
            f"{found.fills_optimistic[-1]:,}",
            f"{1e9 / ours:.1f}",
            f"{ours / 1e6:.1f}",
            f"{fresh / 1e6:.1f}",
            f"{theirs / 1e6:.4f}",
            f"{ours / theirs:,.0f}x",
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
