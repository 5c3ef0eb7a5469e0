"""What the candles measure: every feature of a market at every quarter hour, each a function of its own window.

`definitions` is the list of them: which indicator, on which bars, and how far back it reaches. A bar is known when all
its five values are; an hourly or 4-hour bar when all its base bars are. A bar that is absent from the frame is MISSING
when it lies after the symbol's first candle; before that candle there is no history, and windows that would reach
there are null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, FOUR_HOUR_BARS, HOUR_BARS, Span, bar_number
from mm_dagster.config import VolatilityConfig
from mm_dagster.regime import indicators
from mm_dagster.regime.rolling import Bars, Numbers, rolling
from mm_dagster.regime.verdict import HYSTERESIS_BARS
from mm_dagster.regime.windows import Lanes, kernel
from mm_dagster.tables import RegimeFeatures

FORECAST_HALF_LIFE_MAX = 168
"""The longest half-life that the configuration allows, hours."""


@dataclass(frozen=True)
class Definition:
    """One indicator, and the columns that it fills.

    Attributes:
        indicator: of `indicators`, with its parameters.
        columns: names of what it returns, by base bars in a bar of the series that it is computed on.
        bars: how far it reaches back, in bars of that series, the newest included.
    """

    indicator: Callable[[Bars], Lanes | tuple[Lanes, ...]]
    columns: dict[int, tuple[str, ...]]
    bars: int


def definitions(vol: VolatilityConfig) -> tuple[Definition, ...]:
    """Every feature there is; together they fill `tables.RegimeFeatures`."""
    i = indicators
    reach = i.FORECAST_LENGTH * max(vol.half_life_fast_hours, vol.half_life_slow_hours) + 1
    reversion = ("ou_phi", "ou_mu", "ou_sigma", "ou_tau", "half_life", "ou_z")
    return (
        Definition(i.close, _on_base_bars("close"), 1),
        Definition(i.change_24h, _on_base_bars("change_24h"), 97),
        Definition(i.volume_24h, _on_base_bars("volume_24h"), 96),
        Definition(i.volume_ratio, _hourly("volume_ratio"), 168),
        Definition(i.bollinger, _hourly("bollinger_width", "bollinger_percent_b"), 20),
        Definition(i.bollinger_width_percentile, _hourly("bollinger_width_percentile"), 188),
        Definition(i.donchian, _hourly("range_high", "range_low", "inside_range"), 97),
        Definition(i.closes_outside, _on_base_bars("closes_outside_15m"), 97),
        Definition(i.average_true_range, _hourly_and_4h("atr"), 15),
        Definition(i.atr_expansion, _hourly("atr_expansion") | _on_base_bars("atr_expansion_15m"), 169),
        Definition(i.mean_reversion, _hourly(*reversion), 193),
        Definition(i.half_life_baseline, _hourly("half_life_baseline"), 1104),
        Definition(i.efficiency_ratio, _hourly_and_4h("efficiency_ratio"), 41),
        Definition(i.swings, _hourly_and_4h("swing_high", "swing_low"), 196),
        Definition(partial(i.exponential_average, span=12), _hourly_and_4h("ema_12"), 60),
        Definition(partial(i.exponential_average, span=26), _hourly_and_4h("ema_26"), 130),
        Definition(partial(i.exponential_average, span=50), _hourly_and_4h("ema_50"), 250),
        Definition(i.adx, _hourly_and_4h("adx"), 280),
        Definition(partial(i.variance_ratio, returns=384, q=4), _hourly("variance_ratio_4", "variance_ratio_4_z"), 385),
        Definition(
            partial(i.variance_ratio, returns=384, q=16), _hourly("variance_ratio_16", "variance_ratio_16_z"), 385
        ),
        Definition(
            partial(i.variance_ratio, returns=144, q=4),
            {FOUR_HOUR_BARS: ("variance_ratio_4_4h", "variance_ratio_4_z_4h")},
            145,
        ),
        Definition(i.range_volatility, _hourly("parkinson", "garman_klass", "rogers_satchell"), 96),
        Definition(i.jump_share, _hourly("jump_share"), 98),
        Definition(partial(i.volatility_forecast, vol=vol), _hourly("volatility_forecast"), reach),
        Definition(partial(i.realised_volatility, returns=HOUR_BARS), _on_base_bars("volatility_4_15m"), 5),
        Definition(partial(i.realised_volatility, returns=DAY_BARS), _on_base_bars("volatility_96_15m"), 97),
    )


def _on_base_bars(*columns: str) -> dict[int, tuple[str, ...]]:
    return {1: columns}


def _hourly(*columns: str) -> dict[int, tuple[str, ...]]:
    return {HOUR_BARS: columns}


def _hourly_and_4h(*columns: str) -> dict[int, tuple[str, ...]]:
    return {HOUR_BARS: columns, FOUR_HOUR_BARS: tuple(f"{name}_4h" for name in columns)}


def reach(vol: VolatilityConfig) -> dict[int, int]:
    """How many bars of each length the longest window on them needs, by base bars in a bar."""
    found: dict[int, int] = {}
    for definition in definitions(vol):
        for step in definition.columns:
            found[step] = max(found.get(step, 0), definition.bars)
    return found


WARMUP_BARS = (
    max(step * bars for step, bars in reach(VolatilityConfig(half_life_slow_hours=FORECAST_HALF_LIFE_MAX)).items())
    + (HYSTERESIS_BARS - 1)
    + FOUR_HOUR_BARS
    + 1
)
"""Base bars before a span that its features and verdicts need: the longest chain (the 4-hour ADX), the hysteresis,
the cut to whole 4-hour bars, and the bar before the first."""

_INFINITE = ("half_life", "half_life_baseline")
_FLAGS = ("inside_range", "closes_outside_15m")
_COLUMNS = [name for name in RegimeFeatures.column_names() if name not in ("config_hash", "code_version")]
_SIDE_BY_SIDE = 2**15
"""Bars that are computed at once: what an indicator reads and writes then stays in the second cache."""


def compute(
    candles: pl.DataFrame,
    span: Span,
    vol: VolatilityConfig,
    *,
    warmup_bars: int = WARMUP_BARS,
    threads: int = 1,
) -> pl.DataFrame:
    """Every feature of every symbol at every bar of the span.

    A value depends on the candles of its own window alone, to the bit: not on how much history is there, on the order
    of the rows, on other symbols, or on threads. `candles` must reach back `WARMUP_BARS` before the span, or to the
    symbol's first stored candle; a feature whose window begins before the first candle given is null.

    Args:
        candles: rows of `tables.Candles`, in any order; only symbol, open_time, prices and volume are read.
        span: the bars whose `as_of` get a row.
        vol: the half-lives and weights of the volatility forecast.
        warmup_bars: how far before the span to look, each indicator in proportion; `WARMUP_BARS` is enough for all.
        threads: how many to use.

    Returns:
        `tables.RegimeFeatures` without its stamps, sorted by symbol and as_of: one row for every symbol in `candles`
        and every bar of `span`.
    """
    by_symbol = {str(symbol): rows for (symbol,), rows in sorted(candles.partition_by("symbol", as_dict=True).items())}
    if not by_symbol or not span.bars:
        return RegimeFeatures.create_empty().select(_COLUMNS)
    start, end = bar_number(span.start), bar_number(span.end)
    # Whole 4-hour bars, so that every phase of every series begins at the same place of the array.
    origin = (start - warmup_bars) // FOUR_HOUR_BARS * FOUR_HOUR_BARS
    base = np.full((len(by_symbol), 5, -(-(end - origin) // FOUR_HOUR_BARS) * FOUR_HOUR_BARS), np.nan)
    firsts = [_place(rows, origin, base[place]) for place, rows in enumerate(by_symbol.values())]

    found = {name: np.full((len(by_symbol), span.bars), np.nan) for name in _COLUMNS if name not in ("symbol", "as_of")}
    scale = warmup_bars / WARMUP_BARS

    def fill(step: int, lanes: Sequence[tuple[int, int]]) -> None:
        first = max(0, (start - origin) // step - 1 - round(scale * reaches[step]))
        bars = rolling(base, step, lanes, first, origin)
        symbols, phases = np.array(lanes, dtype=np.int64).T
        for definition in measured:
            if step in definition.columns:
                values = definition.indicator(bars)
                columns = definition.columns[step]
                for name, one in zip(columns, values if isinstance(values, tuple) else (values,), strict=True):
                    offset = first * step - (start - origin)
                    _collect(found[name], one, bars.close, symbols, phases, step, offset, name in _INFINITE)

    measured = definitions(vol)
    reaches = reach(vol)
    work = [
        (step, lanes)
        for step, bars in reaches.items()
        for lanes in _lanes(len(by_symbol), step, start, end, span.bars // step + round(scale * bars))
    ]
    if threads > 1 and len(work) > len(reaches):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, *zip(*work, strict=True)))
    else:
        for step, lanes in work:
            fill(step, lanes)
    for definition in measured:
        for step, columns in definition.columns.items():
            for place, first in enumerate(firsts):
                short = first + step * definition.bars - 1 - start
                if short > 0:
                    for name in columns:
                        found[name][place, :short] = np.nan
    return _frame(list(by_symbol), span, found)


def _place(candles: pl.DataFrame, origin: int, table: Lanes) -> int:
    """Puts one symbol's candles into their places, shape (5, bars) from `origin` on; returns its first bar's number."""
    numbers = (candles["open_time"].dt.epoch("us") // (BAR // timedelta(microseconds=1))).to_numpy()
    inside = (numbers >= origin) & (numbers < origin + table.shape[1])
    for row, name in enumerate(("open", "high", "low", "close", "volume")):
        table[row, numbers[inside] - origin] = candles[name].cast(pl.Float64).to_numpy()[inside]
    table[:, np.isnan(table).any(axis=0)] = np.nan
    return int(numbers.min())


def _lanes(symbols: int, step: int, start: int, end: int, bars: int) -> Iterator[list[tuple[int, int]]]:
    """The series of a step that the bars from `start` to `end` need, as (symbol, phase), in lots of a handy size."""
    phases = sorted({number % step for number in range(start, min(end, start + step))})
    every = [(symbol, phase) for symbol in range(symbols) for phase in phases]
    lot = max(1, _SIDE_BY_SIDE // bars)
    for k in range(0, len(every), lot):
        yield every[k : k + lot]


@kernel
def _collect(
    rows: Lanes,
    values: Lanes,
    close: Lanes,
    symbols: Numbers,
    phases: Numbers,
    step: int,
    offset: int,
    infinite: bool,
) -> None:
    """Puts the values of some series to the bars at which they close, shape (symbols, bars of the span)."""
    for lane in range(values.shape[0]):
        row = rows[symbols[lane]]
        for i in range(values.shape[1]):
            place = offset + i * step + phases[lane]
            if 0 <= place < row.size and not math.isnan(close[lane, i]):
                value = values[lane, i]
                if infinite or abs(value) < np.inf:
                    row[place] = value


def _frame(symbols: Sequence[str], span: Span, found: dict[str, Lanes]) -> pl.DataFrame:
    close_times = span.open_times() + BAR
    columns = [
        pl.Series("symbol", symbols, pl.String).gather(np.repeat(np.arange(len(symbols)), span.bars)),
        pl.concat([close_times] * len(symbols)).alias("as_of"),
    ]
    for name, rows in found.items():
        column = pl.Series(name, rows.reshape(-1), pl.Float64, nan_to_null=True)
        columns.append(column.cast(pl.Boolean) if name in _FLAGS else column)
    return pl.DataFrame(columns).select(_COLUMNS)
