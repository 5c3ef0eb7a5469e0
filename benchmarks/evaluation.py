"""How long an evaluation takes: `python -m benchmarks.evaluation [--grids 1000]`.

So many grids with all signals and all controls, from candles to the table with its intervals, in one process. The
candles are those of `benchmarks.regime`: KuCoin's where `MM_SHARED_DATA` names them, else random walks.
"""

from __future__ import annotations

import argparse
import resource
import time

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.regime import Size, candles, origin_of_candles
from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config.whole import Config
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import HISTORY_BARS, judge_grids, measured_markets
from mm_dagster.evaluation.quality import measure

MARKETS = 10
WARM_UP_DAYS = -(-HISTORY_BARS // DAY_BARS)
CONFIG = Config.model_validate(
    {"markets": {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "BTC-USDT", "venue": "main"}]}}
)
"""Only the defaults of the decision are read from it."""


def main() -> None:
    """Prints one row a stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grids", type=int, default=1_000, help="how many grids")
    wanted = parser.parse_args().grids
    opened = -(-wanted // MARKETS)
    size = Size(markets=MARKETS, days=WARM_UP_DAYS + opened + CONFIG.evaluation.life_days, repetitions=1, tails=0)
    days = Span(size.span.start + WARM_UP_DAYS * DAY_BARS * BAR, size.span.end)
    begun = time.perf_counter()
    seconds = dict.fromkeys(("features and verdicts", "grids, signals, controls", "figures and intervals"), 0.0)
    first, second, third = seconds
    judged = []
    for bars in candles(size):
        started = time.perf_counter()
        known = bars.with_columns(close_time=pl.col("open_time") + BAR, status=pl.lit("TRADED"))
        (market,) = measured_markets(known["symbol"].unique().to_list(), known, days, CONFIG)
        seconds[first] += time.perf_counter() - started
        started = time.perf_counter()
        judged.append(judge_grids(market, open_daily(market, days, CONFIG.evaluation)[:opened], CONFIG))
        seconds[second] += time.perf_counter() - started
    started = time.perf_counter()
    found = measure(judged, CONFIG.exit.policy)
    seconds[third] = time.perf_counter() - started
    grids = sum(one.day.size for one in judged)
    signals = found.select("policy", "signal").n_unique()
    table = Table(title=f"{grids:,} grids, {signals} signals and controls ({origin_of_candles(size)})")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for name, value in (*seconds.items(), ("whole", time.perf_counter() - begun)):
        table.add_row(name, f"{value:.1f}")
    table.add_row("peak MiB", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
