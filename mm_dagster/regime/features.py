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
from mm_dagster.regime.rolling import PIECE, Bars, Numbers, RollingBars
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


WARMUP_BARS = (
    max(
        step * one.bars
        for one in definitions(VolatilityConfig(half_life_slow_hours=FORECAST_HALF_LIFE_MAX))
        for step in one.columns
    )
    + (HYSTERESIS_BARS - 1)
    + FOUR_HOUR_BARS
    + 1
)
"""Base bars before a span that its features and verdicts need: the longest chain (the 4-hour ADX), the hysteresis,
the cut to whole 4-hour bars, and the bar before the first."""

_INFINITE = ("half_life", "half_life_baseline")
_FLAGS = ("inside_range", "closes_outside_15m")
_COLUMNS = [name for name in RegimeFeatures.column_names() if name not in ("config_hash", "code_version")]
_SIDE_BY_SIDE = 2**17
"""Bars that are computed at once, all phases of a symbol together: results leave for memory once, in order."""
_LONG = 2**15
"""Bars of one series that are computed at once."""


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
    by_symbol = sorted(candles.partition_by("symbol", as_dict=True).items())
    symbols = [str(symbol) for (symbol,), _ in by_symbol]
    if not symbols or not span.bars:
        return RegimeFeatures.create_empty().select(_COLUMNS)
    names = [name for name in _COLUMNS if name not in ("symbol", "as_of")]
    found = {name: np.empty((len(symbols), span.bars)) for name in names}
    lot = max(1, _SIDE_BY_SIDE // (warmup_bars + span.bars))
    lots = [range(k, min(k + lot, len(symbols))) for k in range(0, len(symbols), lot)]

    def fill(places: range) -> None:
        part = {name: rows[places.start : places.stop] for name, rows in found.items()}
        _fill(part, [by_symbol[place][1] for place in places], span, definitions(vol), warmup_bars)

    if threads == 1 or len(lots) == 1:
        for places in lots:
            fill(places)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, lots))
    return _frame(symbols, span, found)


def _fill(
    found: dict[str, Lanes],
    candles: Sequence[pl.DataFrame],
    span: Span,
    wanted: Sequence[Definition],
    warmup_bars: int,
) -> None:
    """Puts the features of some symbols into arrays of shape (symbols, bars of the span)."""
    start, end = bar_number(span.start), bar_number(span.end)
    # Whole 4-hour bars, so that every phase of every series begins at the same place of the array.
    origin = (start - warmup_bars) // FOUR_HOUR_BARS * FOUR_HOUR_BARS
    base = np.full((len(candles), 5, -(-(end - origin) // FOUR_HOUR_BARS) * FOUR_HOUR_BARS), np.nan)
    firsts = [_place(rows, origin, base[symbol]) for symbol, rows in enumerate(candles)]
    rolling = RollingBars(base, origin)
    for step in sorted({step for one in wanted for step in one.columns}):
        rolling.lengthen(step)
        measured = [one for one in wanted if step in one.columns]
        reach = -(-max(one.bars for one in measured) * warmup_bars // WARMUP_BARS)
        phases = sorted({number % step for number in range(start, min(end, start + step))})
        for lot, first, last in _lots(
            len(candles), len(phases), range((start - origin) // step, -(-(end - origin) // step))
        ):
            # Neighbouring pieces of a series overlap in the bars that the first windows need from before.
            begin = max(0, first - reach)
            bars = rolling.series([(symbol, phase) for symbol in lot for phase in phases], begin, last)
            for one in measured:
                values = one.indicator(bars)
                columns = one.columns[step]
                for name, column in zip(columns, values if isinstance(values, tuple) else (values,), strict=True):
                    for place, symbol in enumerate(lot):
                        lanes = slice(place * len(phases), (place + 1) * len(phases))
                        _collect(
                            found[name][symbol],
                            column[lanes, first - begin :],
                            bars.close[lanes, first - begin :],
                            np.array(phases) + (first * step - (start - origin)),
                            step,
                            name in _INFINITE,
                        )
        for one in measured:
            for symbol, oldest in enumerate(firsts):
                short = max(0, oldest + step * one.bars - 1 - start)
                for name in one.columns[step]:
                    found[name][symbol, :short] = np.nan


def _place(candles: pl.DataFrame, origin: int, table: Lanes) -> int:
    """Puts one symbol's candles into their places, shape (5, bars) from `origin` on; returns its first bar's number."""
    numbers = candles["open_time"].dt.epoch("us").to_numpy() // (BAR // timedelta(microseconds=1))
    prices = [candles[name].cast(pl.Float64).to_numpy() for name in ("open", "high", "low", "close", "volume")]
    _scatter(table, numbers - origin, *prices)
    return int(numbers.min())


@kernel
def _scatter(table: Lanes, places: Numbers, o: Lanes, h: Lanes, low: Lanes, c: Lanes, volume: Lanes) -> None:
    for k in range(places.size):
        i = places[k]
        if 0 <= i < table.shape[1] and not math.isnan(o[k] + h[k] + low[k] + c[k] + volume[k]):
            table[0, i], table[1, i], table[2, i], table[3, i], table[4, i] = o[k], h[k], low[k], c[k], volume[k]


def _lots(symbols: int, phases: int, bars: range) -> Iterator[tuple[range, int, int]]:
    """What to compute at once: some symbols, and from which bar to before which; together all of both, once."""
    size = min(len(bars), _LONG)
    many = max(1, _SIDE_BY_SIDE // (size * phases))
    for first in range(bars.start, bars.stop, size):
        for symbol in range(0, symbols, many):
            yield range(symbol, min(symbol + many, symbols)), first, min(first + size, bars.stop)


@kernel
def _collect(row: Lanes, values: Lanes, close: Lanes, places: Numbers, step: int, infinite: bool) -> None:
    """Interleaves the series of one symbol: the first bar of each goes to its place, the next ones `step` further.

    Null where the newest bar is MISSING.
    """
    largest = np.inf if infinite else np.finfo(np.float64).max
    for start in range(0, values.shape[1], PIECE):
        for lane in range(places.size):
            first = max(start, -(places[lane] // step))
            end = min(min(start + PIECE, values.shape[1]), (row.size - 1 - places[lane]) // step + 1)
            if first < end:
                target = row[places[lane] + first * step :: step]
                found, known = values[lane, first:end], close[lane, first:end]
                for k in range(found.size):
                    target[k] = found[k] if abs(found[k]) <= largest and known[k] > 0.0 else np.nan


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
