"""What the candles measure: every feature of a market at every quarter hour, each a function of its own window.

`definitions` is the list of them: which indicator, on which bars, and how far back it reaches. A bar is known when all
its five values are; an hourly or 4-hour bar when all its base bars are. A bar that is absent from the frame is MISSING
when it lies after the symbol's first candle; before that candle there is no history, and windows that would reach
there are null.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mm_dagster.arrays import Flags, Floats, Integers, kernel, natural_log
from mm_dagster.bars import BAR, DAY_BARS, FOUR_HOUR_BARS, HOUR_BARS, TIME, Span, bar_number
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import indicators
from mm_dagster.regime.rolling import Bars, RollingBars
from mm_dagster.tables.regime import WARMUP_BARS, RegimeFeatures

FORECAST_HALF_LIFE_MAX = 168
"""The longest half-life that the configuration allows, hours."""


def _keep_freed_memory() -> None:
    """Tells the C library to hold on to 256 MiB of freed memory for the next arrays, and the system to map it in pages
    of 2 MiB where it has any.

    They come and go by the megabyte. By default each is given back to the system at once, and a sixth of the time goes
    into getting it anew, page by page; and a processor that reads ahead stops at the end of a page.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, 2**28)
        library.mallopt(_M_MMAP_THRESHOLD, 2**25)
        library.malloc.restype = ctypes.c_void_p
        # The heap grows by what is asked for here and keeps it, untouched: half of what it may hold on to.
        parts = [ctypes.c_void_p(library.malloc(ctypes.c_size_t(_PART))) for _ in range(2**27 // _PART)]
        for part in parts:
            if part.value:
                first = -(-part.value // mmap.PAGESIZE) * mmap.PAGESIZE
                library.madvise(ctypes.c_void_p(first), ctypes.c_size_t(_PART), mmap.MADV_HUGEPAGE)
            library.free(part)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_PART = 2**24
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
_LARGEST = float(np.finfo(np.float64).max)
_ANY = 0.0
"""In place of the largest number that a column may hold: it need not be looked at."""
_FLAGS = ("inside_range", "closes_outside_15m")
_CERTAIN = frozenset(
    {
        "close", "change_24h", "volume_24h", "closes_outside_15m", "volatility_forecast", "volatility_4_15m",
        "volatility_96_15m", "bollinger_width", "bollinger_width_percentile", "range_high", "range_low",
        "inside_range", "atr", "swing_high", "swing_low", "ema_12", "ema_26", "ema_50", "parkinson",
        "atr_4h", "swing_high_4h", "swing_low_4h", "ema_12_4h", "ema_26_4h", "ema_50_4h",
    }
)  # fmt: skip
"""What is a number wherever its window lies in sound bars: means, roots of mean squares, extremes and signs."""
_LEAST, _MOST = 1e-50, 1e50
"""Sound prices and volumes lie between; no power or sum of a window of them is too large for a number."""
_COLUMNS = [name for name in RegimeFeatures.column_names() if name not in ("config_hash", "code_version", "source")]
_SIDE_BY_SIDE = 2**17
"""Base bars that are computed at once, those of as many symbols as there is room for."""
_BAR_MICROSECONDS = BAR // timedelta(microseconds=1)
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
    values, ends = _runs(candles["symbol"])
    symbols = sorted(set(values))
    if not symbols or not span.bars:
        return RegimeFeatures.create_empty().select(_COLUMNS)
    number = {symbol: place for place, symbol in enumerate(symbols)}
    owners = np.array([number[symbol] for symbol in values], dtype=np.int64)
    read = _Candles.of(candles, owners, ends)
    firsts = _first_bars(read.times, read.owners, read.ends, len(symbols))
    many = max(1, min(_SIDE_BY_SIDE // (span.bars + warmup_bars), -(-len(symbols) // threads)))

    def compute_some(first: int) -> pl.DataFrame:
        lot = slice(first, first + many)
        rolling, sound = read.bars(first, firsts[lot], span, warmup_bars)
        return _frame(symbols[lot], span, _measure(rolling, sound, firsts[lot], span, definitions(vol), warmup_bars))

    lots = range(0, len(symbols), many)
    if threads == 1 or len(lots) == 1:
        return pl.concat(map(compute_some, lots))
    with ThreadPoolExecutor(threads) as pool:
        return pl.concat(pool.map(compute_some, lots))


def _runs(symbols: pl.Series) -> tuple[list[str], Integers]:
    """Runs of rows that share one symbol, of which there are few where candles come sorted: of each the symbol, and the
    row after its last.
    """
    views = symbols.to_arrow(compat_level=pl.CompatLevel.newest())
    ends = _ends_of_runs(np.frombuffer(views.buffers()[1] or b"", np.int64, 2 * len(views), 16 * views.offset))
    if ends.size <= _FEW_RUNS:
        return [symbols[int(end) - 1] for end in ends], ends
    # Names of more than 12 letters are not in the view, and their views are others in each row.
    runs = symbols.rle().struct.unnest()
    return runs["value"].to_list(), runs["len"].to_numpy().cumsum().astype(np.int64)


_FEW_RUNS = 1_000


@kernel
def _ends_of_runs(views: Integers) -> Integers:
    """Of rows of two words each, the row after the last of each run of equal ones."""
    ends = np.empty(views.size // 2, np.int64)
    runs = 0
    for start in range(2, views.size, 2 * _PIECE):
        now, before = views[start : start + 2 * _PIECE], views[start - 2 :]
        different = 0
        for k in range(now.size):
            different |= now[k] ^ before[k]
        for k in range(0, now.size if different != 0 else 0, 2):
            if now[k] != before[k] or now[k + 1] != before[k + 1]:
                ends[runs] = (start + k) // 2
                runs += 1
    if views.size > 0:
        ends[runs] = views.size // 2
        runs += 1
    return ends[:runs].copy()


@dataclass(frozen=True)
class _Candles:
    """What is read of the candles.

    Attributes:
        owners: the number of the symbol of each run of rows that share one.
        ends: the row after the last of each run.
        times: when the bar of each row opens, microseconds since 1970.
        prices: open, high, low, close and volume.
    """

    owners: Integers
    ends: Integers
    times: Integers
    prices: tuple[Floats, ...]

    @staticmethod
    def of(candles: pl.DataFrame, owners: Integers, ends: Integers) -> _Candles:
        prices = (candles[name].cast(pl.Float64).to_numpy() for name in ("open", "high", "low", "close", "volume"))
        times = candles["open_time"].cast(TIME).to_physical().to_numpy()
        return _Candles(owners, ends, times, tuple(prices))

    def bars(self, first: int, firsts: Integers, span: Span, warmup_bars: int) -> tuple[RollingBars, bool]:
        """The bars of some symbols, from number `first` on, in their places; and whether they are sound.

        They begin with the first that is wanted or, where history begins later, with the first candle.
        """
        start, end = bar_number(span.start), bar_number(span.end)
        # Whole 4-hour bars, so that every phase of every series begins at the same place of the array.
        origin = max(start - warmup_bars, min(start, firsts.min())) // FOUR_HOUR_BARS * FOUR_HOUR_BARS
        size = -(-(end - origin) // FOUR_HOUR_BARS) * FOUR_HOUR_BARS
        base = np.empty((5, firsts.size, size))
        begins = np.maximum(firsts - origin, 0)
        sound = _scatter(base, self.owners - first, self.ends, self.times, origin, begins, end - origin, *self.prices)
        opens, highs, lows, closes, volumes = base
        return RollingBars((opens, highs, lows, closes, volumes, natural_log(closes)), origin), sound


@kernel
def _first_bars(times: Integers, owners: Integers, ends: Integers, symbols: int) -> Integers:
    """The number of each symbol's first bar."""
    firsts = np.full(symbols, np.iinfo(np.int64).max)
    first = 0
    for run in range(owners.size):
        firsts[owners[run]] = min(firsts[owners[run]], times[first : ends[run]].min() // _BAR_MICROSECONDS)
        first = ends[run]
    return firsts


@kernel
def _scatter(
    base: Floats,
    owners: Integers,
    ends: Integers,
    times: Integers,
    origin: int,
    begins: Integers,
    wanted: int,
    o: Floats,
    h: Floats,
    low: Floats,
    c: Floats,
    v: Floats,
) -> bool:
    """Puts candles in their places; the others become NaN.

    Returns:
        Whether they are sound: in order, none lacks from where its symbol begins to the last that is wanted, and no
        price is so large or small, or negative, that a mean or a quotient of some could be no number.
    """
    symbols, size = base.shape[1:]
    # Up to where the bars of each symbol are written.
    done = np.zeros(symbols, np.int64)
    sound = True
    first = 0
    for run in range(owners.size):
        symbol = owners[run]
        if 0 <= symbol < symbols:
            rows, after = base[:, symbol], done[symbol]
            for k in range(first, ends[run]):
                i = times[k] // _BAR_MICROSECONDS - origin
                if not 0 <= i < size or math.isnan(o[k] + h[k] + low[k] + c[k] + v[k]):
                    continue
                sound &= i == (after if after > 0 else begins[symbol])
                if i > after:
                    rows[:, after:i] = np.nan
                after = max(after, i + 1)
                rows[0, i], rows[1, i], rows[2, i], rows[3, i], rows[4, i] = o[k], h[k], low[k], c[k], v[k]
                for price in (o[k], h[k], low[k], c[k]):
                    sound &= (price > _LEAST) & (price < _MOST)
                sound &= (v[k] >= 0.0) & (v[k] < _MOST)
            done[symbol] = after
        first = ends[run]
    for symbol in range(symbols):
        sound &= done[symbol] >= wanted
        base[:, symbol, done[symbol] :] = np.nan
    return sound


def _measure(
    rolling: RollingBars,
    sound: bool,
    firsts: Integers,
    span: Span,
    wanted: Sequence[Definition],
    warmup_bars: int,
) -> dict[str, pa.Array]:
    """The columns by name: the bars of the span of some symbols, one symbol below the other."""
    found: dict[str, pa.Array] = {}
    start, end = bar_number(span.start), bar_number(span.end)
    for step in sorted({step for one in wanted for step in one.columns}):
        rolling.lengthen(step)
        measured = [one for one in wanted if step in one.columns]
        # Few bars are asked for in a tick: then each indicator gets its own window and no more.
        asked = -(-end // step) - start // step
        few = asked <= _TAIL
        reach = max(_scaled(one.bars, warmup_bars) for one in measured)
        bars, rows = rolling.some(start, end, reach) if few else rolling.all(start, end)
        # In sound bars none is MISSING but before the first, where the history of every column is too short.
        missing = np.empty(0, bool) if sound else np.isnan(bars.close[rows]).reshape(-1)
        columns: dict[str, Floats] = {}
        short = []
        for one in measured:
            values = one.indicator(bars.last(asked + _scaled(one.bars, warmup_bars)) if few else bars)
            for name, column in zip(one.columns[step], values if isinstance(values, tuple) else (values,), strict=True):
                columns[name] = np.ascontiguousarray(column[rows])
                short.append(firsts + step * one.bars - 1 - start)
        certain = _CERTAIN if sound and warmup_bars >= WARMUP_BARS else frozenset()
        found |= _columns(columns, missing, np.array(short), certain)
    return found


def _scaled(bars: int, warmup_bars: int) -> int:
    return -(-bars * warmup_bars // WARMUP_BARS)


def _frame(symbols: list[str], span: Span, found: dict[str, pa.Array]) -> pl.DataFrame:
    names = pl.concat([pl.Series([symbol]).new_from_index(0, span.bars) for symbol in symbols])
    closes = np.tile(np.arange(1, span.bars + 1) + bar_number(span.start), len(symbols)) * _BAR_MICROSECONDS
    found["symbol"] = names.to_arrow(compat_level=pl.CompatLevel.newest())
    found["as_of"] = pa.Array.from_buffers(pa.timestamp("us", "UTC"), closes.size, [None, pa.py_buffer(closes)])
    return pl.DataFrame(pa.RecordBatch.from_arrays([found[name] for name in _COLUMNS], _COLUMNS))


def _columns(found: dict[str, Floats], missing: Flags, short: Integers, certain: frozenset[str]) -> dict[str, pa.Array]:
    """Columns as they were computed, without a copy: what is not known is marked as null, whatever stands there.

    Args:
        found: of each column its values, shape (symbols, bars).
        missing: of each row whether the bar is MISSING; empty when none is.
        short: at how many bars of each column and symbol the history is too short; a negative number is none.
        certain: columns that are known at all others, and need not be looked at.
    """
    largest = np.array([_ANY if name in certain else np.inf if name in _INFINITE else _LARGEST for name in found])
    bits = np.empty((len(found), -(-next(iter(found.values())).size // 8)), np.uint8)
    nulls = _mark(bits, tuple(found.values()), missing, short, largest)
    columns = {}
    for place, (name, rows) in enumerate(found.items()):
        known = pa.py_buffer(bits[place]) if nulls[place] else None
        kind = pa.bool_() if name in _FLAGS else pa.float64()
        values = pa.py_buffer(np.packbits(rows == 1.0, bitorder="little") if name in _FLAGS else rows)
        columns[name] = pa.Array.from_buffers(kind, rows.size, [known, values])
    return columns


@kernel
def _mark(
    bits: npt.NDArray[np.uint8], columns: tuple[Floats, ...], missing: Flags, short: Integers, largest: Floats
) -> Integers:
    """Marks what is known, a bit a row; counts the rest of each column, at least."""
    nulls = np.empty(len(columns), np.int64)
    for place in range(len(columns)):
        nulls[place] = _mark_one(bits[place], columns[place].reshape(-1), missing, short[place], largest[place])
    return nulls


@kernel
def _mark_one(bits: npt.NDArray[np.uint8], rows: Floats, missing: Flags, short: Integers, largest: float) -> int:
    nulls = 0
    bits[:] = 0xFF
    for start in range(0, rows.size if largest != _ANY else 0, _PIECE):
        row, hole = rows[start : start + _PIECE], missing[start : start + _PIECE]
        bytes_here = bits[start // 8 : start // 8 + -(-row.size // 8)]
        unknown = 0
        for k in range(row.size):
            unknown += not abs(row[k]) <= largest
        for k in range(hole.size):
            unknown += hole[k]
        for k in range(row.size if unknown else 0):
            known = abs(row[k]) <= largest and (hole.size == 0 or not hole[k])
            bytes_here[k // 8] ^= (not known) << (k % 8)
        nulls += unknown
    bars = rows.size // short.size
    for symbol in range(short.size):
        end = min(max(short[symbol], 0), bars)
        for i in range(symbol * bars, symbol * bars + end):
            bits[i // 8] &= ~(1 << (i % 8)) & 0xFF
        nulls += end
    return nulls


_PIECE = 512
"""Rows that are looked at before they are marked one by one."""
