"""What the candles measure: every feature of a market at every quarter hour, each a function of its own window.

`definitions` is the list of them: which indicator, on which bars, and how far back it reaches. A bar is known when all
its five values are; an hourly or 4-hour bar when all its base bars are. A bar that is absent from the frame is MISSING
when it lies after the symbol's first candle; before that candle there is no history, and windows that would reach
there are null.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from mm_dagster.arrays import Floats, Integers, kernel, natural_log
from mm_dagster.bars import BAR, DAY_BARS, FOUR_HOUR_BARS, HOUR_BARS, Span, bar_number, bar_numbers
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import indicators
from mm_dagster.regime.rolling import PIECE, Bars, RollingBars
from mm_dagster.tables.regime import WARMUP_BARS, RegimeFeatures

FORECAST_HALF_LIFE_MAX = 168
"""The longest half-life that the configuration allows, hours."""


def _keep_freed_memory() -> None:
    """Tells the C library to hold on to 256 MiB of freed memory for the next arrays.

    They come and go by the megabyte. By default each is given back to the system at once, and a sixth of the time goes
    into getting it anew, page by page.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, 2**28)
        library.mallopt(_M_MMAP_THRESHOLD, 2**25)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_keep_freed_memory()


@dataclass(frozen=True)
class Definition:
    """One indicator, and the columns that it fills.

    Attributes:
        indicator: of `indicators`, with its parameters.
        columns: names of what it returns, by base bars in a bar of the series that it is computed on.
        bars: how far it reaches back, in bars of that series, the newest included.
    """

    indicator: Callable[[Bars], Floats | tuple[Floats, ...]]
    columns: dict[int, tuple[str, ...]]
    bars: int


def definitions(vol: VolatilityConfig) -> tuple[Definition, ...]:
    """Every feature there is; together they fill `regime_features`."""
    i = indicators
    reach = i.FORECAST_LENGTH * HOUR_BARS * max(vol.half_life_fast_hours, vol.half_life_slow_hours) + 1
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
        Definition(partial(i.volatility_forecast, vol=vol), _on_base_bars("volatility_forecast"), reach),
        Definition(partial(i.realised_volatility, returns=HOUR_BARS), _on_base_bars("volatility_4_15m"), 5),
        Definition(partial(i.realised_volatility, returns=DAY_BARS), _on_base_bars("volatility_96_15m"), 97),
    )


def _on_base_bars(*columns: str) -> dict[int, tuple[str, ...]]:
    return {1: columns}


def _hourly(*columns: str) -> dict[int, tuple[str, ...]]:
    return {HOUR_BARS: columns}


def _hourly_and_4h(*columns: str) -> dict[int, tuple[str, ...]]:
    return {HOUR_BARS: columns, FOUR_HOUR_BARS: tuple(f"{name}_4h" for name in columns)}


_INFINITE = ("half_life", "half_life_baseline")
_FLAGS = ("inside_range", "closes_outside_15m")
_COLUMNS = [name for name in RegimeFeatures.column_names() if name not in ("config_hash", "code_version", "source")]
_SIDE_BY_SIDE = 2**17
"""Bars that are computed at once, all phases of a symbol together: results leave for memory once, in order."""
_LONG = 2**15
"""Bars of one series that are computed at once."""
_TAIL = 16
"""Up to so many bars of a series are computed from as little as possible, and not together with all the others."""


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
        candles: rows of `candles`, in any order; only symbol, open_time, prices and volume are read.
        span: the bars whose `as_of` get a row.
        vol: the half-lives and weights of the volatility forecast.
        warmup_bars: how far before the span to look, each indicator in proportion; `WARMUP_BARS` is enough for all.
        threads: how many to use.

    Returns:
        `regime_features` without its stamps, sorted by symbol and as_of: one row for every symbol in `candles`
        and every bar of `span`.
    """
    # Runs of one symbol: there are few where candles come sorted, and then hardly a string is looked at.
    runs = candles["symbol"].rle().struct.unnest()
    symbols = runs["value"].unique().sort()
    if symbols.is_empty() or not span.bars:
        return RegimeFeatures.create_empty().select(_COLUMNS)
    # Whole 4-hour bars, so that every phase of every series begins at the same place of the array.
    origin = (bar_number(span.start) - warmup_bars) // FOUR_HOUR_BARS * FOUR_HOUR_BARS
    size = -(-(bar_number(span.end) - origin) // FOUR_HOUR_BARS) * FOUR_HOUR_BARS
    owners = runs["value"].cast(pl.Enum(symbols)).to_physical().to_numpy()
    base, firsts = _base_bars(candles, np.repeat(owners.astype(np.int64), runs["len"]), len(symbols), origin, size)
    many = max(1, min(_SIDE_BY_SIDE // size, -(-len(symbols) // threads)))

    def compute_some(first: int) -> pl.DataFrame:
        lot = slice(first, first + many)
        found, nulls = _measure(RollingBars(base[lot], origin), firsts[lot], span, definitions(vol), warmup_bars)
        return _frame(symbols[lot], span, found, nulls)

    lots = range(0, len(symbols), many)
    if threads == 1 or len(lots) == 1:
        return pl.concat(map(compute_some, lots))
    with ThreadPoolExecutor(threads) as pool:
        return pl.concat(pool.map(compute_some, lots))


def _base_bars(
    candles: pl.DataFrame, owners: Integers, symbols: int, origin: int, size: int
) -> tuple[Floats, Integers]:
    """The candles in their places, as `RollingBars` takes them, and the number of each symbol's first bar."""
    numbers = bar_numbers(candles["open_time"])
    prices = [candles[name].cast(pl.Float64).to_numpy() for name in ("open", "high", "low", "close", "volume")]
    base = np.full((symbols, 6, size), np.nan)
    firsts = _scatter(base, owners, numbers, origin, *prices)
    base[:, 5] = natural_log(base[:, 3])
    return base, firsts


@kernel
def _scatter(
    base: Floats,
    owners: Integers,
    numbers: Integers,
    origin: int,
    o: Floats,
    h: Floats,
    low: Floats,
    c: Floats,
    v: Floats,
) -> Integers:
    firsts = np.full(base.shape[0], np.iinfo(np.int64).max)
    for k in range(numbers.size):
        firsts[owners[k]] = min(firsts[owners[k]], numbers[k])
        i = numbers[k] - origin
        if 0 <= i < base.shape[2] and not math.isnan(o[k] + h[k] + low[k] + c[k] + v[k]):
            bars = base[owners[k]]
            bars[0, i], bars[1, i], bars[2, i], bars[3, i] = o[k], h[k], low[k], c[k]
            bars[4, i] = v[k]
    return firsts


def _measure(
    rolling: RollingBars, firsts: Integers, span: Span, wanted: Sequence[Definition], warmup_bars: int
) -> tuple[dict[str, Floats], dict[str, int]]:
    """The features of some symbols by name, each of shape (symbols, bars of the span), and where their nulls end.

    That is the number of rows, all symbols one below the other, after which there is none.
    """
    found = {
        name: np.empty((firsts.size, span.bars)) for one in wanted for names in one.columns.values() for name in names
    }
    nulls = dict.fromkeys(found, 0)
    start, end = bar_number(span.start), bar_number(span.end)
    for step in sorted({step for one in wanted for step in one.columns}):
        rolling.lengthen(step)
        measured = [one for one in wanted if step in one.columns]
        phases = np.array(sorted({number % step for number in range(start, min(end, start + step))}))
        reach = max(_scaled(one.bars, warmup_bars) for one in measured)
        for first in range(start // step, -(-end // step), _LONG):
            asked = min(first + _LONG, -(-end // step)) - first
            bars = rolling.series(phases, first - reach, first + asked)
            places = first * step + phases - start
            holes = _holes(bars.close[:, reach:], places, step, span.bars)
            for one in measured:
                # Few bars are asked for in a tick: then each indicator gets its own window and no more.
                own = bars if asked > _TAIL else bars.last(asked + _scaled(one.bars, warmup_bars))
                values = one.indicator(own)
                columns = one.columns[step]
                for name, column in zip(columns, values if isinstance(values, tuple) else (values,), strict=True):
                    rows, skipped = found[name], column.shape[1] - asked
                    end_of_nulls = _collect(rows, column, skipped, places, step, name in _INFINITE)
                    rows.reshape(-1)[holes] = np.nan
                    nulls[name] = max(nulls[name], end_of_nulls, holes.max(initial=-1) + 1)
        for one in measured:
            for symbol, oldest in enumerate(firsts):
                short = max(0, oldest + step * one.bars - 1 - start)
                for name in one.columns[step] if short else ():
                    found[name][symbol, :short] = np.nan
                    nulls[name] = max(nulls[name], symbol * span.bars + min(short, span.bars))
    return found, nulls


def _scaled(bars: int, warmup_bars: int) -> int:
    return -(-bars * warmup_bars // WARMUP_BARS)


def _holes(close: Floats, places: Integers, step: int, size: int) -> Integers:
    """Which rows have a MISSING newest bar, among those of all symbols one below the other; see `_collect`."""
    lanes, bars = np.nonzero(np.isnan(close))
    rows = places[lanes % places.size] + bars * step
    return (lanes // places.size * size + rows)[(rows >= 0) & (rows < size)]


@kernel
def _collect(rows: Floats, values: Floats, skipped: int, places: Integers, step: int, infinite: bool) -> int:
    """Interleaves the series of each symbol: the first bar of each goes to its place, the next ones `step` further.

    The first after those `skipped`, that is. What is not finite becomes NaN, if it must not be `infinite`.

    Returns:
        How many rows to look at, all symbols one below the other, to find every NaN.
    """
    end_of_nulls = 0
    largest = np.inf if infinite else np.finfo(np.float64).max
    bars = values.shape[1] - skipped
    # From and to where every phase lies within the rows, if all phases are there.
    first, end = max(0, -(places.min() // step)), min(bars, (rows.shape[1] - 1 - places.max()) // step + 1)
    if places.size < step or step % 4 or first >= end:
        first, end = bars, bars
    for lane in range(values.shape[0]):
        symbol, place, series = lane // places.size, places[lane % places.size], values[lane, skipped:]
        for start, stop in ((max(0, -(place // step)), first), (end, bars)):
            if _put(rows[symbol], series, start, stop, place, step, largest):
                end_of_nulls = max(end_of_nulls, symbol * rows.shape[1] + place + stop * step)
    for start in range(first, end, PIECE):
        # Four neighbours at a time: what is written lies side by side, and needs a third of the time.
        for lane in range(0, values.shape[0], 4):
            symbol, place, stop = lane // places.size, places[lane % places.size], min(start + PIECE, end)
            row, four = rows[symbol], values[lane : lane + 4, skipped:]
            # Where the compiler knows the step it does several bars at once.
            if step == 4:
                nulls = _put_four(row, four, start, stop, place, 4, largest)
            else:
                nulls = _put_four(row, four, start, stop, place, step, largest)
            if nulls:
                end_of_nulls = max(end_of_nulls, symbol * rows.shape[1] + place + stop * step)
    return min(end_of_nulls, rows.size)


@kernel
def _put(row: Floats, series: Floats, first: int, end: int, place: int, step: int, largest: float) -> int:
    """Puts some bars of a series to their places, `step` apart, as far as they lie within the row; counts the NaN."""
    end = min(end, (row.size - 1 - place) // step + 1)
    if first >= end:
        return 0
    nulls = 0
    found, target = series[first:end], row[place + first * step :: step]
    for k in range(found.size):
        nulls += not abs(found[k]) <= largest
    for k in range(found.size):
        target[k] = found[k] if abs(found[k]) <= largest else np.nan
    return nulls


@kernel
def _put_four(row: Floats, four: Floats, first: int, end: int, place: int, step: int, largest: float) -> int:
    """The same for four series whose places are neighbours."""
    nulls = 0
    a, b, c, d = four[0, first:end], four[1, first:end], four[2, first:end], four[3, first:end]
    for k in range(a.size):
        nulls += not abs(a[k]) <= largest
        nulls += not abs(b[k]) <= largest
        nulls += not abs(c[k]) <= largest
        nulls += not abs(d[k]) <= largest
    target = row[place + first * step :]
    for k in range(a.size):
        target[step * k] = a[k] if abs(a[k]) <= largest else np.nan
        target[step * k + 1] = b[k] if abs(b[k]) <= largest else np.nan
        target[step * k + 2] = c[k] if abs(c[k]) <= largest else np.nan
        target[step * k + 3] = d[k] if abs(d[k]) <= largest else np.nan
    return nulls


def _frame(symbols: pl.Series, span: Span, found: dict[str, Floats], nulls: dict[str, int]) -> pl.DataFrame:
    close_times = span.open_times() + BAR
    columns = [
        pl.concat([symbols.new_from_index(place, span.bars) for place in range(len(symbols))]).alias("symbol"),
        pl.concat([close_times] * len(symbols)).alias("as_of"),
    ]
    for name, rows in found.items():
        column = _column(name, rows.reshape(-1), nulls[name])
        columns.append(column.cast(pl.Boolean) if name in _FLAGS else column)
    return pl.DataFrame(columns).select(_COLUMNS)


def _column(name: str, rows: Floats, end_of_nulls: int) -> pl.Series:
    """The rows as they are, without a copy, and NaN as null; none is looked for after `end_of_nulls`."""
    if end_of_nulls == 0:
        return pl.Series(name, rows, pl.Float64)
    known = np.full(-(-rows.size // 8), 0xFF, np.uint8)
    first = np.packbits(~np.isnan(rows[: -(-end_of_nulls // 8) * 8]), bitorder="little")
    known[: first.size] = first
    return pl.Series(name, pa.Array.from_buffers(pa.float64(), rows.size, [pa.py_buffer(known), pa.py_buffer(rows)]))
