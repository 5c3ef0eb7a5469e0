"""What every feature costs, beside TA-Lib with numpy and pandas, and beside polars: `python -m benchmarks.regime`.

20 symbols over 3 years of 15-minute bars. Every engine runs in processes of its own, one core each, in turns; all see
the same candles, one symbol after the other, and hand their columns on in order of as_of (here: to a checksum, so that
no engine keeps results). What it tells is the ratio within one run, not the figures across machines.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.table import Table

from mm_dagster.bars import BAR, DAY_BARS, HOUR_BARS, TIME, Span, bar_number
from mm_dagster.config import RegimeConfig, VolatilityConfig

Floats = npt.NDArray[np.float64]
PRICES = ("open", "high", "low", "close", "volume")
START = datetime(2023, 1, 1, tzinfo=UTC)
SHARED_DATA = Path(os.environ.get("MM_SHARED_DATA", "../shared/data"))
ENGINES = {
    "mm_dagster": "mm_dagster",
    "talib": "TA-Lib, numpy, pandas",
    "polars": "polars expressions",
    "mm_dagster_2": "mm_dagster, two cores",
}
GROUPS = {
    "24 h change, volume": ("change_24h", "volume_24h"),
    "volume ratio": ("volume_ratio",),
    "Bollinger": ("bollinger",),
    "width percentile": ("bollinger_width_percentile",),
    "range (Donchian)": ("donchian",),
    "close outside": ("closes_outside",),
    "ATR": ("average_true_range",),
    "ATR expansion": ("atr_expansion",),
    "OU fit": ("mean_reversion",),
    "half-life baseline": ("half_life_baseline",),
    "efficiency ratio": ("efficiency_ratio",),
    "swings": ("swings",),
    "EMA 12, 26, 50": ("exponential_average",),
    "ADX": ("adx",),
    "variance ratio 4": ("variance_ratio",),
    "variance ratio 16": ("variance_ratio",),
    "variance ratio 4, 4 h": ("variance_ratio",),
    "range volatilities": ("range_volatility",),
    "jump share": ("jump_share",),
    "forecast": ("volatility_forecast",),
    "realised volatility": ("realised_volatility",),
}
"""Which indicators of ours stand beside which of the peers."""
SHARED = ("Bollinger", "range (Donchian)", "ATR", "EMA 12, 26, 50", "ADX")
"""What TA-Lib has itself."""
TOLERANCE = {
    "half_life_baseline": 0.1,
    "ema_12": 1e-3,
    "ema_26": 1e-3,
    "ema_50": 1e-3,
    "adx": 2e-2,
    "volatility_forecast": 2e-2,
}
"""Relative; where a peer's window never ends. All other columns agree to 1e-6."""


def candles(symbols: int, days: int) -> tuple[list[Floats], str]:
    """Base bars of each symbol, opens to volumes in rows: real ones, repeated to fill the time, or a random walk."""
    files = sorted(SHARED_DATA.glob("candles/kucoin/*/15m.parquet"))
    bars = days * DAY_BARS
    found = []
    for number in range(symbols):
        if files:
            table = pl.read_parquet(files[number % len(files)]).select(PRICES).to_numpy().T
            # Repeated, each time from where the last one closed; a second symbol of the same file begins later.
            table = np.roll(table, -number // len(files) * 5000, axis=1)
            repeats = -(-bars // table.shape[1])
            scale = np.cumprod([1.0, *[table[3, -1] / table[0, 0]] * (repeats - 1)])
            pieces = [np.concatenate([table[:4] * factor, table[4:]]) for factor in scale]
            found.append(np.ascontiguousarray(np.concatenate(pieces, axis=1)[:, :bars]))
        else:
            random = np.random.default_rng(number)
            close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.003, bars)))
            opens = np.concatenate([[100.0], close[:-1]])
            high = np.maximum(opens, close) * (1.0 + random.exponential(0.001, bars))
            low = np.minimum(opens, close) * (1.0 - random.exponential(0.001, bars))
            found.append(np.stack([opens, high, low, close, random.lognormal(3.0, 1.0, bars)]))
    label = "real KuCoin candles of 2025, repeated" if files else "synthetic random walks: no shared data here"
    return found, label


def frame(base: Floats, symbol: str, first: int = 0) -> pl.DataFrame:
    """The candles as a table of the lake has them, from a bar on."""
    times = Span(START + first * BAR, START + base.shape[1] * BAR).open_times().cast(TIME)
    prices = {name: base[row, first:] for row, name in enumerate(PRICES)}
    return pl.DataFrame({"open_time": times, **prices}).with_columns(symbol=pl.lit(symbol))


def checksum(columns: dict[str, Floats]) -> float:
    """Reads every value once."""
    return float(sum(np.nansum(np.where(np.isinf(values), 0.0, values)) for values in columns.values()))


def run_ours(tables: list[Floats], threads: int) -> float:
    """All features, from candles in a frame to features in a frame, `threads` symbols at a time."""
    from mm_dagster.regime import features

    total = 0.0
    span = Span(START, START + tables[0].shape[1] * BAR)
    for first in range(0, len(tables), threads):
        lot = [frame(table, f"S{first + k:02d}-USDT") for k, table in enumerate(tables[first : first + threads])]
        found = features.compute(pl.concat(lot), span, VolatilityConfig(), threads=threads)
        total += float(sum(found.select(pl.col(pl.Float64, pl.Boolean).sum()).row(0)[:1]))
    return total


def run_talib(tables: list[Floats]) -> float:
    """The same columns, put in order of as_of."""
    from benchmarks.peers import ON, TALIB, resample

    total = 0.0
    for base in tables:
        series = {step: [resample(base, step, phase) for phase in range(step)] for step in (1, 4, 16)}
        for group, indicator in TALIB.items():
            for step in ON[group]:
                total += checksum(interleaved([indicator(one) for one in series[step]], step, base.shape[1]))
    return total


def run_polars(tables: list[Floats]) -> float:
    """The same columns again."""
    from benchmarks.peers import ON, POLARS, resample

    total = 0.0
    for base in tables:
        for step in (1, 4, 16):
            lanes = [pl.DataFrame(resample(base, step, phase)) for phase in range(step)]
            for group, indicator in POLARS.items():
                if step in ON[group]:
                    found = [arrays(indicator(lane)) for lane in lanes]
                    total += checksum(interleaved(found, step, base.shape[1]))
    return total


def arrays(table: pl.DataFrame) -> dict[str, Floats]:
    """A frame's columns, null as NaN."""
    return {name: table[name].cast(pl.Float64).to_numpy() for name in table.columns}


def interleaved(lanes: list[dict[str, Floats]], step: int, bars: int) -> dict[str, Floats]:
    """The phases of each column put together in order of as_of."""
    columns = {}
    for name in lanes[0]:
        rows = np.full(bars, np.nan)
        for phase, lane in enumerate(lanes):
            first = phase if phase == step - 1 else phase + step
            rows[first::step][: lane[name].size] = lane[name]
        columns[name] = rows
    return columns


def groups(base: Floats, engine: str, repeats: int) -> dict[str, float]:
    """Nanoseconds a row of each group of indicators alone, on series that are there already; medians."""
    from benchmarks.peers import ON, POLARS, TALIB, resample

    series = {step: [resample(base, step, phase) for phase in range(step)] for step in (1, 4, 16)}
    found = {}
    for group, steps in ON.items():
        calls: list[Callable[[], Any]] = []
        if engine == "talib":
            calls = [lambda one=one, group=group: TALIB[group](one) for step in steps for one in series[step]]
        elif engine == "polars":
            frames = [pl.DataFrame(one) for step in steps for one in series[step]]
            calls = [lambda one=one, group=group: POLARS[group](one) for one in frames]
        else:
            calls = [call for step in steps for call in ours(group, base, step)]
        for call in calls:
            call()
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            for call in calls:
                call()
            times.append(time.perf_counter() - began)
        found[group] = median(times) / base.shape[1] * 1e9
    return found


def ours(group: str, base: Floats, step: int) -> list[Callable[[], Any]]:
    """Our indicators of a group on the series of a step, all phases side by side, nothing shared between calls."""
    from mm_dagster.regime.features import definitions
    from mm_dagster.regime.rolling import RollingBars

    rolling = RollingBars(np.concatenate([base, np.log(base[3:4])])[None].copy(), bar_number(START))
    rolling.lengthen(step)
    first = bar_number(START) // step
    bars = rolling.series(np.arange(step), first, first + base.shape[1] // step)
    calls = []
    for one in definitions(VolatilityConfig()):
        function = getattr(one.indicator, "func", one.indicator)
        # Of the variance ratios, which differ in q alone on hourly bars, the one that is named.
        named = step != HOUR_BARS or f"{group.replace(' ', '_')}" in one.columns.get(step, (group.replace(" ", "_"),))
        if function.__name__ in GROUPS[group] and step in one.columns and (named or "variance" not in group):

            def call(indicator: Any = one.indicator) -> Any:
                bars.shared.clear()
                return indicator(bars)

            calls.append(call)
    return calls


def agreement(base: Floats) -> tuple[int, list[str]]:
    """How many columns the peers and we agree on in the last days, and those that differ."""
    from benchmarks.peers import ON, POLARS, TALIB, resample
    from mm_dagster.regime import features

    span = Span(START, START + base.shape[1] * BAR)
    ours = features.compute(frame(base, "S00-USDT"), span, VolatilityConfig())
    good, bad = 0, []
    for peer in ("TA-Lib", "polars"):
        for group, steps in ON.items():
            for step in steps:
                lanes = []
                for phase in range(step):
                    one = resample(base, step, phase)
                    lanes.append(TALIB[group](one) if peer == "TA-Lib" else arrays(POLARS[group](pl.DataFrame(one))))
                for name, rows in interleaved(lanes, step, base.shape[1]).items():
                    column = name + ("_4h" if step == 16 else "")
                    column += "_15m" if step == 1 and name == "atr_expansion" else ""
                    mine = ours[column].cast(pl.Float64).fill_null(math.nan).to_numpy()[-20 * DAY_BARS :]
                    theirs = rows[-20 * DAY_BARS :]
                    known = np.isfinite(mine) & np.isfinite(theirs)
                    close = np.isclose(mine[known], theirs[known], rtol=TOLERANCE.get(name, 1e-6), atol=1e-9)
                    if known.mean() > 0.3 and close.mean() > 0.995:
                        good += 1
                    else:
                        bad.append(f"{peer}: {column} ({close.mean():.1%} of {known.mean():.0%} known)")
    return good, bad


def ou_alone(base: Floats) -> dict[str, float]:
    """Nanoseconds a row of the OU fit by the usual tools, on so many bars of one hourly series that it ends."""
    import pandas as pd
    import polars_ols  # noqa: F401  (its import gives expressions `least_squares`)
    import statsmodels.api as sm
    from statsmodels.regression.rolling import RollingOLS

    from benchmarks.peers import resample

    y = resample(base, 4, 3)["log_close"]
    found = {}

    def timed(name: str, rows: int, call: Callable[[], Any]) -> None:
        call()
        began = time.perf_counter()
        call()
        found[name] = (time.perf_counter() - began) / rows * 1e9

    part = y[:3192]
    timed(
        "pandas rolling.apply",
        3000,
        lambda: pd.Series(part).rolling(193).apply(lambda w: np.polyfit(w[:-1], w[1:], 1)[0], raw=True),
    )
    timed("statsmodels RollingOLS", 3000, lambda: RollingOLS(part[1:], sm.add_constant(part[:-1]), 192).fit())
    table = pl.DataFrame({"y": y[1:], "x": y[:-1]})
    fit = pl.col("y").least_squares.rolling_ols(  # type: ignore[attr-defined]
        pl.col("x"), window_size=192, min_periods=192, mode="coefficients", add_intercept=True
    )
    timed("polars-ols rolling", y.size, lambda: table.select(fit))
    return found


def tail(tables: list[Floats]) -> dict[str, float]:
    """Milliseconds for the newest row of all symbols: features alone, and with the verdict, from frames in memory."""
    from mm_dagster.regime import features, verdict
    from mm_dagster.regime.features import WARMUP_BARS
    from mm_dagster.regime.verdict import HYSTERESIS_BARS

    bars = tables[0].shape[1]
    end = START + bars * BAR
    newest = Span(end - BAR, end)
    history = pl.concat(frame(table, f"S{k:02d}-USDT", max(0, bars - WARMUP_BARS)) for k, table in enumerate(tables))
    before = features.compute(history, newest.back(HYSTERESIS_BARS - 1), VolatilityConfig())

    def once() -> tuple[float, float]:
        began = time.perf_counter()
        row = features.compute(history, newest, VolatilityConfig())
        measured = time.perf_counter()
        verdict.compute(pl.concat([before.filter(pl.col("as_of") < end), row]), newest, RegimeConfig())
        return (measured - began) * 1e3, (time.perf_counter() - began) * 1e3

    once()
    alone, both = zip(*(once() for _ in range(50)), strict=True)
    return {
        "features_median_ms": median(alone),
        "features_p95_ms": float(np.percentile(alone, 95)),
        "with_verdict_median_ms": median(both),
    }


def work(engine: str, symbols: int, days: int, repeats: int) -> dict[str, Any]:
    """One process: first call apart, then the whole run once, and what else is asked of this engine."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores if engine == "mm_dagster_2" else cores[-1:])
    tables, _ = candles(symbols, days)
    run: dict[str, Callable[[list[Floats]], float]] = {
        "mm_dagster": lambda some: run_ours(some, 1),
        "mm_dagster_2": lambda some: run_ours(some, 2),
        "talib": run_talib,
        "polars": run_polars,
    }
    began = time.perf_counter()
    run[engine](tables[:2])
    first = time.perf_counter() - began
    used = time.process_time()
    began = time.perf_counter()
    run[engine](tables)
    found: dict[str, Any] = {
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - used,
        "first_call": first,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
    }
    if repeats and engine != "mm_dagster_2":
        found["groups"] = groups(tables[0], engine, repeats)
    if repeats and engine == "mm_dagster":
        found["tail"] = tail(tables)
    if repeats and engine == "talib":
        found["agreement"] = agreement(tables[0][:, : 365 * DAY_BARS])
        found["ou"] = ou_alone(tables[0])
    return found


def main() -> None:
    """Runs the engines in turns and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="2 symbols, 1 year, one round")
    parser.add_argument("--json", action="store_true", help="the figures, and nothing else, on stdout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    symbols, days, rounds = (2, 365, 1) if asked.quick else (20, 1096, asked.rounds)
    if asked.engine:
        print(json.dumps(work(asked.engine, symbols, days, asked.repeats)))
        return
    results: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    alone = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1"}
    for number in range(rounds):
        for engine in ENGINES:
            command = [sys.executable, "-m", "benchmarks.regime", "--engine", engine]
            command += ["--repeats", "0" if number else "3", *(["--quick"] if asked.quick else [])]
            done = subprocess.run(command, env=os.environ | alone, stdout=subprocess.PIPE, text=True, check=True)
            results[engine].append(json.loads(done.stdout.splitlines()[-1]))
    rows = symbols * days * DAY_BARS
    figures = {
        "rows": rows,
        "data": candles(1, 1)[1],
        "engines": {
            engine: {
                "wall": median(one["wall"] for one in runs),
                "cpu": median(one["cpu"] for one in runs),
                "rows_per_second": rows / median(one["wall"] for one in runs),
                "peak_mib": max(one["peak_mib"] for one in runs),
                "first_call": runs[0]["first_call"],
            }
            for engine, runs in results.items()
        },
        "groups": {engine: results[engine][0]["groups"] for engine in ("mm_dagster", "talib", "polars")},
        "tail": results["mm_dagster"][0]["tail"],
        "agreement": results["talib"][0]["agreement"],
        "ou": results["talib"][0]["ou"],
    }
    if asked.json:
        print(json.dumps(figures, indent=2))
    else:
        show(figures, rounds)


def show(figures: dict[str, Any], rounds: int) -> None:
    """The tables."""
    out = Console(width=110)
    engines, by_group = figures["engines"], figures["groups"]
    mine = engines["mm_dagster"]["wall"]
    whole = Table(title=f"All features of {figures['rows']:,} rows; median of {rounds}; {figures['data']}")
    for column in ("engine", "seconds", "million rows/s", "ours is faster by", "peak MiB", "first call s"):
        whole.add_column(column, justify="left" if column == "engine" else "right")
    for engine, one in engines.items():
        whole.add_row(
            ENGINES[engine],
            f"{one['wall']:.2f}",
            f"{one['rows_per_second'] / 1e6:.2f}",
            f"{one['wall'] / mine:.2f}x",
            f"{one['peak_mib']:.0f}",
            f"{one['first_call']:.2f}",
        )
    out.print(whole)
    parts = Table(title="Each indicator alone, nanoseconds a row of base bars; * is TA-Lib's own")
    for column in ("indicator", "ours", "TA-Lib bundle", "ratio", "polars", "ratio"):
        parts.add_column(column, justify="left" if column == "indicator" else "right")
    for group, cost in by_group["mm_dagster"].items():
        talib, polars = by_group["talib"][group], by_group["polars"][group]
        name = f"{group} *" if group in SHARED else group
        parts.add_row(
            name, f"{cost:.1f}", f"{talib:.1f}", f"{talib / cost:.2f}x", f"{polars:.1f}", f"{polars / cost:.2f}x"
        )
    totals = [sum(by_group[engine].values()) for engine in ("mm_dagster", "talib", "polars")]
    parts.add_section()
    parts.add_row(
        "together",
        f"{totals[0]:.0f}",
        f"{totals[1]:.0f}",
        f"{totals[1] / totals[0]:.2f}x",
        f"{totals[2]:.0f}",
        f"{totals[2] / totals[0]:.2f}x",
    )
    out.print(parts)
    fit = Table(title="The OU fit alone, nanoseconds a row of its own bars; the peers on one short series")
    for column in ("tool", "ns", "ours is faster by"):
        fit.add_column(column, justify="left" if column == "tool" else "right")
    own = by_group["mm_dagster"]["OU fit"]
    for tool, cost in {"mm_dagster": own, **figures["ou"]}.items():
        fit.add_row(tool, f"{cost:,.0f}", f"{cost / own:,.0f}x")
    out.print(fit)
    live = figures["tail"]
    out.print(
        f"Newest row of all symbols: {live['features_median_ms']:.1f} ms (95 %: {live['features_p95_ms']:.1f}), "
        f"with the verdict {live['with_verdict_median_ms']:.1f} ms."
    )
    good, bad = figures["agreement"]
    out.print(f"The peers compute the same in {good} columns; not the same: {'; '.join(bad) or 'none'}.")


if __name__ == "__main__":
    main()
