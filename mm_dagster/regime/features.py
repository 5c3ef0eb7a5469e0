"""What the candles measure: every feature of a market at every quarter hour, each a function of its own window.

Base bars are 15 minutes. Hourly and 4-hour bars are rolling: the 4 (16) base bars that close at `as_of`, the 4 (16)
before them, and so on. The bars of one such series lie at the same place within the hour (its phase), so the base
bars hold 4 hourly and 16 4-hour series, and each is computed as an ordinary series of bars.

Where a definition leaves room:

- A bar is known when all its five values are; an hourly or 4-hour bar when all its base bars are. The newest bar, which
  must be known, is the newest of the feature's own series.
- `STEP_BARS` says how many bars a feature needs; with fewer since the symbol's first candle it is null. A bar that is
  absent from the frame is MISSING when it lies after that candle.
- Two ends are no window: `change_24h` needs the close 96 bars before.
- `volume_24h` with MISSING bars is the mean of the known ones times 96.
- A pivot needs its seven bars known, and may be up to 192 bars old.
- The return over q bars of the variance ratio is known when all its bars are. At least 90 % of both kinds of return
  must be there.
- A DX of the ADX exists at known bars only. The smoothed true range divides both directional indicators, so it
  cancels in the DX and is left out.
- An OU fit with phi = 1 has no mean, one with abs(phi) >= 1 no z, a perfect one no tau: null. Null as well is all
  that would be infinite, but for the half-lives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, FOUR_HOUR_BARS, HOUR_BARS, Span, bar_number
from mm_dagster.config import VolatilityConfig
from mm_dagster.regime.verdict import HYSTERESIS_BARS
from mm_dagster.regime.windows import (
    Counts,
    Floats,
    decayed_sum,
    kernel,
    natural_log,
    windowed_max,
    windowed_median,
    windowed_moments,
    windowed_rank,
    windowed_sum,
)
from mm_dagster.tables import RegimeFeatures

SKIPPING_BARS = 96
"""Windows of this many bars or more skip MISSING bars; shorter ones that touch one are null."""

BOLLINGER = 20
WIDTH_RANK = 168
RANGE = 96
ATR = 14
ATR_LONG = 168
OU_PAIRS = 192
BASELINE = 720
BASELINE_LAG = 192
EFFICIENCY = 40
PIVOT_SIDE = 3
SWINGS = 192
EMA_SPANS = (12, 26, 50)
EMA_LENGTH = 5
"""Windows of the EMAs, in spans."""
ADX_PERIOD = 14
ADX_WINDOW = 140
VARIANCE_RATIO_RETURNS = 384
VARIANCE_RATIO_RETURNS_4H = 144
VOLATILITY = 96
FORECAST_LENGTH = 6
"""Windows of the forecast, in half-lives."""
FORECAST_HALF_LIFE_MAX = 168
"""The longest half-life that the configuration allows, hours."""
VOLUME_SHORT = 4
VOLUME_LONG = 168

_SHARED_BARS = {
    "efficiency_ratio": EFFICIENCY + 1,
    "swing_high": SWINGS + 1 + PIVOT_SIDE,
    "swing_low": SWINGS + 1 + PIVOT_SIDE,
    **{f"ema_{span}": EMA_LENGTH * span for span in EMA_SPANS},
    "adx": 2 * ADX_WINDOW,
    "atr": ATR + 1,
}
STEP_BARS: dict[int, dict[str, int]] = {
    1: {
        "close": 1,
        "change_24h": DAY_BARS + 1,
        "volume_24h": DAY_BARS,
        "closes_outside_15m": RANGE + 1,
        "atr_expansion_15m": ATR_LONG + 1,
        "volatility_4_15m": HOUR_BARS + 1,
        "volatility_96_15m": DAY_BARS + 1,
    },
    HOUR_BARS: {
        **_SHARED_BARS,
        "bollinger_width": BOLLINGER,
        "bollinger_percent_b": BOLLINGER,
        "bollinger_width_percentile": BOLLINGER + WIDTH_RANK,
        "range_high": RANGE + 1,
        "range_low": RANGE + 1,
        "inside_range": RANGE + 1,
        "atr_expansion": ATR_LONG + 1,
        **dict.fromkeys(("ou_phi", "ou_mu", "ou_sigma", "ou_tau", "half_life", "ou_z"), OU_PAIRS + 1),
        "half_life_baseline": BASELINE_LAG + BASELINE + OU_PAIRS,
        "variance_ratio_4": VARIANCE_RATIO_RETURNS + 1,
        "variance_ratio_4_z": VARIANCE_RATIO_RETURNS + 1,
        "variance_ratio_16": VARIANCE_RATIO_RETURNS + 1,
        "variance_ratio_16_z": VARIANCE_RATIO_RETURNS + 1,
        "parkinson": VOLATILITY,
        "garman_klass": VOLATILITY,
        "rogers_satchell": VOLATILITY,
        "jump_share": VOLATILITY + 2,
        "volatility_forecast": FORECAST_LENGTH * FORECAST_HALF_LIFE_MAX + 1,
        "volume_ratio": VOLUME_LONG,
    },
    FOUR_HOUR_BARS: {
        **{f"{name}_4h": bars for name, bars in _SHARED_BARS.items()},
        "variance_ratio_4_4h": VARIANCE_RATIO_RETURNS_4H + 1,
        "variance_ratio_4_z_4h": VARIANCE_RATIO_RETURNS_4H + 1,
    },
}
"""How far each feature reaches back, in bars of its own series, the newest included; by base bars in such a bar."""

WARMUP_BARS = (
    max(step * bars for step, features in STEP_BARS.items() for bars in features.values())
    + (HYSTERESIS_BARS - 1)
    + FOUR_HOUR_BARS
    + 1
)
"""Base bars before a span that its features and verdicts need: the longest chain (the 4-hour ADX), the hysteresis,
the cut to whole 4-hour bars, and the bar before the first."""

_INFINITE = ("half_life", "half_life_baseline")
_FLAGS = ("inside_range", "closes_outside_15m")
_COLUMNS = [name for name in RegimeFeatures.column_names() if name not in ("config_hash", "code_version")]


@dataclass(frozen=True)
class _Bars:
    """One series of bars, contiguous arrays with NaN for MISSING; `anchor` is the absolute number of the first."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    anchor: int

    @classmethod
    def of(cls, table: Floats, anchor: int) -> _Bars:
        """From rows of opens, highs, lows, closes and volumes."""
        return cls(table[0], table[1], table[2], table[3], table[4], anchor)


def compute(candles: pl.DataFrame, span: Span, vol: VolatilityConfig) -> pl.DataFrame:
    """Every feature of every symbol at every bar of the span.

    A value depends on the candles of its own window alone, to the bit: not on how much history is there, on the order
    of the rows, or on other symbols. `candles` must reach back `WARMUP_BARS` before the span, or to the symbol's
    first stored candle; a feature whose window begins before the first candle given is null.

    Args:
        candles: rows of `tables.Candles`, in any order; only symbol, open_time, prices and volume are read.
        span: the bars whose `as_of` get a row.
        vol: the half-lives and weights of the volatility forecast.

    Returns:
        `tables.RegimeFeatures` without its stamps, sorted by symbol and as_of: one row for every symbol in `candles`
        and every bar of `span`.
    """
    close_times = (span.open_times() + BAR).alias("as_of")
    frames = [
        pl.DataFrame({"as_of": close_times, **_series(_of_symbol(rows, span, vol))}).with_columns(
            pl.lit(symbol, pl.String).alias("symbol")
        )
        for (symbol,), rows in sorted(candles.partition_by("symbol", as_dict=True).items())
    ]
    empty = RegimeFeatures.create_empty().select(_COLUMNS)
    return pl.concat([empty, *(frame.select(_COLUMNS) for frame in frames)])


def _series(columns: dict[str, Floats]) -> dict[str, pl.Series]:
    result = {}
    for name, values in columns.items():
        known = ~np.isnan(values) if name in _INFINITE else np.isfinite(values)
        column = pl.Series(name, np.where(known, values, np.nan), pl.Float64, nan_to_null=True)
        result[name] = column.cast(pl.Boolean) if name in _FLAGS else column
    return result


def _of_symbol(candles: pl.DataFrame, span: Span, vol: VolatilityConfig) -> dict[str, Floats]:
    """The features of one symbol at the bars of the span; NaN for null, flags as 0 and 1."""
    numbers = (candles["open_time"].dt.epoch("us") // (BAR // timedelta(microseconds=1))).to_numpy()
    start, end = bar_number(span.start), bar_number(span.end)
    # Whole 4-hour bars, so that every phase of every series begins at the same place of the array.
    origin = (start - WARMUP_BARS) // FOUR_HOUR_BARS * FOUR_HOUR_BARS
    size = -(-(end - origin) // FOUR_HOUR_BARS) * FOUR_HOUR_BARS
    base = _base_bars(candles, numbers, origin, size)
    first = int(numbers.min())
    reach = {step: dict(features) for step, features in STEP_BARS.items()}
    reach[HOUR_BARS]["volatility_forecast"] = (
        FORECAST_LENGTH * max(vol.half_life_fast_hours, vol.half_life_slow_hours) + 1
    )
    positions = np.arange(origin, origin + size)
    result: dict[str, Floats] = {}
    for step, features in reach.items():
        found = {name: np.full(size, np.nan) for name in features}
        for phase in {number % step for number in range(start, min(end, start + step))}:
            bars = _rolling(base, step, phase)
            for name, values in _of_series(bars, step, vol).items():
                found[name][phase::step] = np.where(np.isnan(bars.close), np.nan, values)
        for name, bars_needed in features.items():
            found[name][positions - step * bars_needed + 1 < first] = np.nan
            result[name] = found[name][start - origin : end - origin]
    return result


def _base_bars(candles: pl.DataFrame, numbers: Counts, origin: int, size: int) -> _Bars:
    inside = (numbers >= origin) & (numbers < origin + size)
    table = np.full((5, size), np.nan)
    for row, name in enumerate(("open", "high", "low", "close", "volume")):
        table[row, numbers[inside] - origin] = candles[name].cast(pl.Float64).to_numpy()[inside]
    table[:, np.isnan(table).any(axis=0)] = np.nan
    return _Bars.of(table, origin)


def _rolling(base: _Bars, step: int, phase: int) -> _Bars:
    """The series of bars of `step` base bars each that close with the base bars at `phase` of every step."""
    table = _aggregate(base.open, base.high, base.low, base.close, base.volume, step, phase)
    return _Bars.of(table, base.anchor // step)


@kernel
def _aggregate(
    opens: Floats, highs: Floats, lows: Floats, closes: Floats, volumes: Floats, step: int, phase: int
) -> Floats:
    """Shape (5, size / step). A bar with a MISSING base bar is MISSING, and so is one that begins before the array."""
    size = closes.size // step
    table = np.full((5, size), np.nan)
    for i in range(size):
        last = i * step + phase
        if last < step - 1:
            continue
        high = highs[last]
        low = lows[last]
        volume = 0.0
        missing = False
        for j in range(last - step + 1, last + 1):
            missing |= math.isnan(closes[j])
            high = max(high, highs[j])
            low = min(low, lows[j])
            volume += volumes[j]
        if not missing:
            table[0, i] = opens[last - step + 1]
            table[1, i] = high
            table[2, i] = low
            table[3, i] = closes[last]
            table[4, i] = volume
    return table


def _of_series(bars: _Bars, step: int, vol: VolatilityConfig) -> dict[str, Floats]:
    if step == 1:
        return _base_features(bars)
    if step == HOUR_BARS:
        return _hourly_features(bars, vol)
    return _four_hour_features(bars)


def _base_features(bars: _Bars) -> dict[str, Floats]:
    log_close = natural_log(bars.close)
    squares = _change(log_close) ** 2
    ranges = _true_range(bars)
    high, low = _donchian(bars)
    return {
        "close": bars.close,
        "change_24h": 100.0 * (_over(bars.close, _before(bars.close, DAY_BARS)) - 1.0),
        "volume_24h": _mean(bars.volume, DAY_BARS, bars.anchor) * DAY_BARS,
        "closes_outside_15m": _flag((bars.close < low) | (bars.close > high), high),
        "atr_expansion_15m": _over(_mean(ranges, ATR, bars.anchor), _mean(ranges, ATR_LONG, bars.anchor)),
        "volatility_4_15m": np.sqrt(_mean(squares, HOUR_BARS, bars.anchor) * HOUR_BARS),
        "volatility_96_15m": np.sqrt(_mean(squares, DAY_BARS, bars.anchor) * HOUR_BARS),
    }


def _four_hour_features(bars: _Bars) -> dict[str, Floats]:
    log_close = natural_log(bars.close)
    ratio, z = _variance_ratio(log_close, VARIANCE_RATIO_RETURNS_4H, 4)
    shared = {f"{name}_4h": values for name, values in _shared_features(bars, log_close).items()}
    return {**shared, "variance_ratio_4_4h": ratio, "variance_ratio_4_z_4h": z}


def _hourly_features(bars: _Bars, vol: VolatilityConfig) -> dict[str, Floats]:
    log_close = natural_log(bars.close)
    features = _shared_features(bars, log_close)
    features |= _bollinger_features(bars)
    features |= _reversion_features(log_close)
    features |= _volatility_features(bars, log_close, vol)
    high, low = _donchian(bars)
    features["range_high"] = high
    features["range_low"] = low
    features["inside_range"] = _flag((low <= bars.close) & (bars.close <= high), high)
    features["atr_expansion"] = _over(features["atr"], _mean(_true_range(bars), ATR_LONG, bars.anchor))
    features["volume_ratio"] = _over(
        _mean(bars.volume, VOLUME_SHORT, bars.anchor), _mean(bars.volume, VOLUME_LONG, bars.anchor)
    )
    for q in (4, 16):
        ratio, z = _variance_ratio(log_close, VARIANCE_RATIO_RETURNS, q)
        features[f"variance_ratio_{q}"] = ratio
        features[f"variance_ratio_{q}_z"] = z
    return features


def _shared_features(bars: _Bars, log_close: Floats) -> dict[str, Floats]:
    """Efficiency ratio (Kaufman 1995), swings (Williams), EMAs, ADX and ATR (Wilder 1978): hourly and on 4 hours."""
    path = _mean(np.abs(_change(log_close)), EFFICIENCY, bars.anchor) * EFFICIENCY
    known = _enough(windowed_sum(bars.close, SWINGS + 1 + PIVOT_SIDE, bars.anchor)[1], SWINGS + 1 + PIVOT_SIDE)
    return {
        # The way there cannot be longer than the path; rounding can make it so.
        "efficiency_ratio": np.minimum(_over(np.abs(log_close - _before(log_close, EFFICIENCY)), path), 1.0),
        "swing_high": np.where(known, _swing(bars.high, SWINGS, PIVOT_SIDE), np.nan),
        "swing_low": np.where(known, 0.0 - _swing(-bars.low, SWINGS, PIVOT_SIDE), np.nan),
        **{
            f"ema_{span}": _decayed_mean(bars.close, 1.0 - 2.0 / (span + 1.0), EMA_LENGTH * span, bars.anchor)
            for span in EMA_SPANS
        },
        "adx": _adx(bars),
        "atr": _mean(_true_range(bars), ATR, bars.anchor),
    }


def _bollinger_features(bars: _Bars) -> dict[str, Floats]:
    """Width, %B and percentile of the width (Bollinger 2001)."""
    mean, deviation = windowed_moments(bars.close, BOLLINGER)
    width = _over(4.0 * deviation, mean)
    below, known = windowed_rank(width, WIDTH_RANK)
    percentile = np.where(_enough(known, WIDTH_RANK) & ~np.isnan(width), _over(below, known), np.nan)
    return {
        "bollinger_width": width,
        "bollinger_percent_b": 0.5 + _over(bars.close - mean, 4.0 * deviation),
        "bollinger_width_percentile": percentile,
    }


def _reversion_features(log_close: Floats) -> dict[str, Floats]:
    phi, mu, sigma, tau, half_life, z = _ou_fit(log_close, OU_PAIRS)
    median, known = windowed_median(half_life, BASELINE)
    return {
        "ou_phi": phi,
        "ou_mu": mu,
        "ou_sigma": sigma,
        "ou_tau": tau,
        "half_life": half_life,
        "ou_z": z,
        "half_life_baseline": _before(np.where(_enough(known, BASELINE), median, np.nan), BASELINE_LAG),
    }


def _volatility_features(bars: _Bars, log_close: Floats, vol: VolatilityConfig) -> dict[str, Floats]:
    """Range volatilities (Parkinson 1980, Garman and Klass 1980, Rogers and Satchell 1991), jumps, the forecast.

    The share of jumps is that of realised variance which bipower variation does not see (Barndorff-Nielsen and
    Shephard 2004); with MISSING bars both are means over what is known.
    """
    log_open, log_high, log_low = natural_log(bars.open), natural_log(bars.high), natural_log(bars.low)
    high_low, close_open = (log_high - log_low) ** 2, (log_close - log_open) ** 2
    rogers_satchell = (log_high - log_close) * (log_high - log_open) + (log_low - log_close) * (log_low - log_open)
    returns = _change(log_close)
    squares = returns**2
    bipower = 0.5 * math.pi * _mean(np.abs(returns * _before(returns, 1)), VOLATILITY, bars.anchor)
    fast, slow = (
        _decayed_mean(squares, 0.5 ** (1.0 / hours), FORECAST_LENGTH * hours, bars.anchor)
        for hours in (vol.half_life_fast_hours, vol.half_life_slow_hours)
    )
    return {
        "parkinson": np.sqrt(_mean(high_low, VOLATILITY, bars.anchor) / (4.0 * math.log(2.0))),
        "garman_klass": np.sqrt(
            _mean(0.5 * high_low - (2.0 * math.log(2.0) - 1.0) * close_open, VOLATILITY, bars.anchor)
        ),
        "rogers_satchell": np.sqrt(_mean(rogers_satchell, VOLATILITY, bars.anchor)),
        "jump_share": np.maximum(1.0 - _over(bipower, _mean(squares, VOLATILITY, bars.anchor)), 0.0),
        "volatility_forecast": np.sqrt(vol.weight_fast * fast + (1.0 - vol.weight_fast) * slow),
    }


def _adx(bars: _Bars) -> Floats:
    """Average directional index (Wilder 1978), 0 to 100: smoothed movements to DX, DX smoothed again."""
    up, down = _change(bars.high), -_change(bars.low)
    unknown = np.isnan(up) | np.isnan(down)
    plus, minus = (
        _decayed_mean(
            np.where(unknown, np.nan, np.where((one > other) & (one > 0.0), one, 0.0)),
            1.0 - 1.0 / ADX_PERIOD,
            ADX_WINDOW,
            bars.anchor,
        )
        for one, other in ((up, down), (down, up))
    )
    dx = np.where(np.isnan(bars.close), np.nan, 100.0 * _over(np.abs(plus - minus), plus + minus))
    return _decayed_mean(dx, 1.0 - 1.0 / ADX_PERIOD, ADX_WINDOW, bars.anchor)


def _true_range(bars: _Bars) -> Floats:
    previous = _before(bars.close, 1)
    return np.maximum(bars.high - bars.low, np.maximum(np.abs(bars.high - previous), np.abs(bars.low - previous)))


def _donchian(bars: _Bars) -> tuple[Floats, Floats]:
    """Highest high and lowest low of the `RANGE` bars before each."""
    known = _enough(windowed_sum(bars.close, RANGE, bars.anchor)[1], RANGE)
    high = np.where(known, windowed_max(bars.high, RANGE, bars.anchor), np.nan)
    low = np.where(known, -windowed_max(-bars.low, RANGE, bars.anchor), np.nan)
    return _before(high, 1), _before(low, 1)


def _enough(known: Counts, width: int) -> np.ndarray:
    """Whether the windows may be used: 90 % known, or all of a short one."""
    return 10 * known >= 9 * width if width >= SKIPPING_BARS else known == width


def _mean(values: Floats, width: int, anchor: int) -> Floats:
    total, known = windowed_sum(values, width, anchor)
    return np.where(_enough(known, width), _over(total, known), np.nan)


def _decayed_mean(values: Floats, decay: float, width: int, anchor: int) -> Floats:
    total, weight = decayed_sum(values, decay, width, anchor)
    if width >= SKIPPING_BARS:
        enough = weight >= 0.9 * (1.0 - decay**width) / (1.0 - decay)
    else:
        enough = windowed_sum(values, width, anchor)[1] == width
    return np.where(enough, _over(total, weight), np.nan)


def _over(numerator: Floats | Counts, denominator: Floats | Counts) -> Floats:
    """The quotient; NaN where the denominator is 0."""
    return np.divide(numerator, np.where(denominator == 0, np.nan, denominator))


def _before(values: Floats, bars: int) -> Floats:
    """The series as it was that many bars before."""
    return np.concatenate([np.full(bars, np.nan), values[:-bars]])


def _change(values: Floats) -> Floats:
    return values - _before(values, 1)


def _flag(condition: np.ndarray, needed: Floats) -> Floats:
    return np.where(np.isnan(needed), np.nan, condition.astype(np.float64))


@kernel
def _swing(highs: Floats, window: int, side: int) -> Floats:
    """Sign of the last pivot high minus the one before; 0 when fewer than two are known within `window` bars.

    A pivot is above the `side` bars before it and not below the `side` bars after it, so it is known `side` bars
    later. Every comparison with a MISSING bar is false: no pivot there.
    """
    size = highs.size
    pivot = np.zeros(size, np.bool_)
    for p in range(side, size - side):
        higher = True
        for j in range(1, side + 1):
            higher &= highs[p] > highs[p - j] and highs[p] >= highs[p + j]
        pivot[p] = higher
    sign = np.zeros(size)
    for i in range(window + side, size):
        last = np.nan
        for p in range(i - side, i - window - 1, -1):
            if pivot[p]:
                if math.isnan(last):
                    last = highs[p]
                else:
                    sign[i] = np.sign(last - highs[p])
                    break
    return sign


@kernel
def _ou_fit(log_close: Floats, pairs: int) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Ornstein-Uhlenbeck fit (Vasicek 1977): least squares of y_i on y_(i-1) over the known of the last `pairs`.

    All is measured from the newest y, so that a flat window has exactly no variance. The half-life is that of phi
    corrected for its bias (Kendall 1954).

    Returns:
        phi, mu, sigma, tau, half-life in bars, z.
    """
    size = log_close.size
    phi, mu, sigma = np.full(size, np.nan), np.full(size, np.nan), np.full(size, np.nan)
    tau, half_life, z = np.full(size, np.nan), np.full(size, np.nan), np.full(size, np.nan)
    x, y = np.empty(pairs), np.empty(pairs)
    for i in range(pairs, size):
        newest = log_close[i]
        count = 0
        for k in range(i - pairs + 1, i + 1):
            before, after = log_close[k - 1] - newest, log_close[k] - newest
            if not (math.isnan(before) or math.isnan(after)):
                x[count], y[count] = before, after
                count += 1
        if 10 * count < 9 * pairs:
            continue
        mean_x, mean_y = 0.0, 0.0
        for k in range(count):
            mean_x += x[k]
            mean_y += y[k]
        mean_x /= count
        mean_y /= count
        xx, xy = 0.0, 0.0
        for k in range(count):
            xx += (x[k] - mean_x) * (x[k] - mean_x)
            xy += (x[k] - mean_x) * (y[k] - mean_y)
        if xx == 0.0:
            continue
        slope = xy / xx
        residuals = 0.0
        for k in range(count):
            residual = (y[k] - mean_y) - slope * (x[k] - mean_x)
            residuals += residual * residual
        phi[i] = slope
        sigma[i] = math.sqrt(residuals / (count - 2))
        mean = (mean_y - slope * mean_x) / (1.0 - slope)
        mu[i] = newest + mean
        tau[i] = (slope - 1.0) * math.sqrt(xx) / sigma[i]
        if abs(slope) < 1.0:
            z[i] = -mean * math.sqrt(1.0 - slope * slope) / sigma[i]
        corrected = (count * slope + 1.0) / (count - 3.0)
        if corrected >= 1.0:
            half_life[i] = np.inf
        elif corrected <= 0.0:
            half_life[i] = 0.0
        else:
            half_life[i] = math.log(2.0) / -math.log(corrected)
    return phi, mu, sigma, tau, half_life, z


@kernel
def _variance_ratio(log_close: Floats, returns: int, q: int) -> tuple[Floats, Floats]:
    """Variance ratio of q-bar over 1-bar returns and its robust z (Lo and MacKinlay 1988).

    Overlapping q-bar returns, debiased, heteroscedasticity-robust, over the known of the last `returns`.
    """
    size = log_close.size
    ratio, z = np.full(size, np.nan), np.full(size, np.nan)
    square, present = np.empty(returns), np.empty(returns)
    cross, pairs = np.empty(q), np.empty(q)
    for i in range(returns, size):
        first = i - returns
        mean = 0.0
        count = 0
        for k in range(returns):
            change = log_close[first + k + 1] - log_close[first + k]
            if not math.isnan(change):
                mean += change
                count += 1
        if 10 * count < 9 * returns:
            continue
        mean /= count
        squares, long_squares = 0.0, 0.0
        long_count = 0
        run = 0
        for k in range(returns):
            change = log_close[first + k + 1] - log_close[first + k]
            if math.isnan(change):
                square[k], present[k] = 0.0, 0.0
                run = 0
                continue
            square[k], present[k] = (change - mean) * (change - mean), 1.0
            squares += square[k]
            run += 1
            if run >= q:
                long = log_close[first + k + 1] - log_close[first + k + 1 - q] - q * mean
                long_squares += long * long
                long_count += 1
        if squares == 0.0 or 10 * long_count < 9 * (returns - q + 1):
            continue
        variance = squares / (count - 1)
        ratio[i] = long_squares / (q * long_count * (1.0 - q / count)) / variance
        cross[:] = 0.0
        pairs[:] = 0.0
        for k in range(returns):
            for j in range(1, min(q, k + 1)):
                cross[j] += square[k] * square[k - j]
                pairs[j] += present[k] * present[k - j]
        theta = 0.0
        for j in range(1, q):
            # With no hole there are count - j pairs, and the factor is exactly 1.
            delta = count * cross[j] * ((count - j) / pairs[j]) / (squares * squares)
            theta += (2.0 * (q - j) / q) ** 2 * delta
        z[i] = math.sqrt(count) * (ratio[i] - 1.0) / math.sqrt(theta)
    return ratio, z
