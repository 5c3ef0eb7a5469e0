"""What all grids at once cost in a tick: 20 grids on as many markets, 356 nights, beside the other stages.

`python -m benchmarks.nights [--ticks 5]`: seconds of each stage, and the ratio that counts: what the
portfolio computes over what all other stages compute. The history is 125 days of the simulated market, so that the
nights of 90 days are known; grids are around the price and trade.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import timed_computing
from mm_dagster.bars import BAR, Span, iso
from mm_dagster.market.simulated import simulate
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import MADE_BY, run_days
from mm_dagster.pipeline.work import plan
from mm_dagster.portfolio import limits
from mm_dagster.portfolio import risk as together

MARKETS = 20
END = datetime(2026, 7, 1, tzinfo=UTC)
DAYS = 125
TOGETHER = ((together, "compute"), (limits, "compute"))
NIGHTS = ((together, "lost_at"),)
"""The replay of every grid on every night, without what lays the months out before it."""


def configure(folder: Path) -> None:
    """Twenty simulated markets with one grid each, around the price of a week ago."""
    (folder / "grids").mkdir(parents=True)
    symbols = [f"C{number:02d}-USDT" for number in range(MARKETS)]
    markets = [{"symbol": symbol, "venue": "main"} for symbol in symbols]
    (folder / "markets.yaml").write_text(
        yaml.safe_dump({"venues": {"main": {"kind": "simulated"}}, "markets": markets})
    )
    began = END - timedelta(days=7)
    for symbol in symbols:
        price = float(simulate(symbol, Span(began - BAR, began))["close"][0])
        grid = {
            "id": symbol.lower(), "symbol": symbol, "activated_at": iso(began), "lower": price * 0.85,
            "upper": price * 1.15, "levels": 20, "spacing": "geometric", "stop": price * 0.5, "capital": 1000,
        }  # fmt: skip
        (folder / "grids" / f"{symbol}.yaml").write_text(yaml.safe_dump(grid))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=5)
    ticks = parser.parse_args().ticks
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder) / "configuration")

        def project() -> Project:
            return Project(f"{folder}/configuration", f"{folder}/data")

        run_days(project(), Span(END - timedelta(days=DAYS), END))
        found: dict[str, list[float]] = {}
        for step in range(1, ticks + 2):
            whole = {"others compute": 0.0, "portfolio computes": 0.0, "of which nights": 0.0}
            for stage, make in MADE_BY.items():
                started = time.perf_counter()
                with timed_computing() as others, timed_computing(TOGETHER) as own, timed_computing(NIGHTS) as nights:
                    make(plan(project(), "bench", as_of=END + step * BAR))
                whole[stage] = time.perf_counter() - started
                whole["others compute"] += sum(others)
                whole["portfolio computes"] += sum(own)
                whole["of which nights"] += sum(nights)
            if step > 1:
                for name, seconds in whole.items():
                    found.setdefault(name, []).append(seconds)
        row = project().lake.read("portfolio_risk").sort("as_of").row(-1, named=True)
    table = Table(title=f"{row['grids']} grids on {row['markets']} markets, {row['paths']} nights; seconds a tick")
    for name in ("stage", f"median of {ticks}", "slowest"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, times in found.items():
        table.add_row(name, f"{statistics.median(times):.3f}", f"{max(times):.3f}")
    Console().print(table)
    for name in ("portfolio computes", "of which nights"):
        ratios = [own / others for own, others in zip(found[name], found["others compute"], strict=True)]
        print(f"{name}: {statistics.median(ratios):.3f} of what the other stages compute")


if __name__ == "__main__":
    main()
