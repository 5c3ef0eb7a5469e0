"""The same features as people write them today: on TA-Lib, numpy and pandas, and as polars expressions.

Meant to be the best that users of these libraries would write, not a foil: no loop over bars in Python, an array or a
frame of its own for every series of bars, sums that slide in place of windows that are gone through. Where a library
offers two ways, the faster one is here. What takes more than knowing the library stands apart, in `TUNED`: it borrows
the engine's algebra. All take a symbol's candles and give a value per feature and quarter hour.

They do less than the engine: they know no MISSING bars (one would spoil a sliding sum for good), their sums run from
wherever the data begins, and TA-Lib's EMA and ADX never forget, so they differ by what the engine cuts off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import talib

from benchmarks.groups import COLUMNS, FRAMING, GROUPS, PRICES, Seconds, Series, Stopwatch

BEYOND = 1e300
"""Stands for an infinite half-life where a library takes infinity for a hole."""


# TA-Lib, numpy and pandas ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lane:
    """One series of bars, contiguous arrays, oldest first; what several indicators need is computed once."""

    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series
    y: Series
    opened: npt.NDArray[np.datetime64]

    @cached_property
    def returns(self) -> Series:
        return _change(self.y, 1)

    @cached_property
    def squares(self) -> Series:
        return self.returns * self.returns

    @cached_property
    def true_range(self) -> Series:
        return talib.TRANGE(self.high, self.low, self.close)

    @cached_property
    def atr(self) -> Series:
        return talib.SMA(self.true_range, 14)

    @cached_property
    def width(self) -> tuple[Series, Series]:
        upper, middle, lower = talib.BBANDS(self.close, 20, 2.0, 2.0)
        upper -= lower
        return upper / middle, (self.close - lower) / upper

    @cached_property
    def ou(self) -> tuple[Series, ...]:
        return _ou(self.y, 192)


Indicator = Callable[["Lane"], tuple[Series, ...]]


def talib_bundle(
    candles: pl.DataFrame, newest: bool = False, *, instead: Mapping[str, Indicator] | None = None
) -> tuple[dict[str, Series], Seconds]:
    """Every feature of one symbol with TA-Lib, numpy and pandas.

    Args:
        candles: of one symbol, ascending, without holes.
        newest: only the last row is wanted, and so only the series of bars that close with it.
        instead: other ways to compute some of them.

    Returns:
        An array per column, as long as the candles or of the last row, NaN for null; and the seconds of each group.
    """
    indicators = {**TALIB, **(instead or {})}
    watch = Stopwatch()
    o, h, low, c, v = (candles[name].to_numpy() for name in PRICES)
    y, opened = np.log(c), candles["open_time"].dt.replace_time_zone(None).to_numpy()
    found = {name: np.empty(1 if newest else c.size) for name in COLUMNS}
    high, lows, volume, length = h, low, v, 1
    with np.errstate(divide="ignore", invalid="ignore"):
        for step in (1, 4, 16):
            while length < step:
                high, lows = np.maximum(high[length:], high[:-length]), np.minimum(lows[length:], lows[:-length])
                volume = volume[length:] + volume[:-length]
                length *= 2
            # From here on place i is the bar that closes with base bar i + step - 1.
            wanted = [group for group in GROUPS if group.step == step]
            for name in (name for group in wanted for name in group.columns if not newest):
                found[name][: step - 1] = np.nan
            for phase in range(step) if not newest else [(c.size - step) % step]:
                one = slice(phase, None, step)
                closed = slice(phase + step - 1, None, step)
                prices = (o[: o.size - step + 1][one], high[one], lows[one], c[closed], volume[one], y[closed])
                lane = Lane(*(np.ascontiguousarray(part) for part in prices), opened[: c.size - step + 1][one])
                watch.lap(FRAMING)
                for group in wanted:
                    values = indicators[group.kind](lane)
                    watch.lap(group.name)
                    for name, column in zip(group.columns, values, strict=True):
                        if newest:
                            found[name][:] = column[-1]
                        else:
                            found[name][closed] = column
                    watch.lap(FRAMING)
    return found, watch.seconds


def _change(values: Series, bars: int) -> Series:
    result = np.empty_like(values)
    result[:bars] = np.nan
    np.subtract(values[bars:], values[:-bars], out=result[bars:])
    return result


def _later(values: Series, bars: int) -> Series:
    """The values that many bars before."""
    result = np.empty_like(values)
    result[:bars] = np.nan
    result[bars:] = values[:-bars]
    return result


def _flag(condition: npt.NDArray[np.bool_], warmup: int) -> Series:
    result = condition.astype(np.float64)
    result[: warmup - 1] = np.nan
    return result


def _bollinger(lane: Lane) -> tuple[Series, ...]:
    return lane.width


def _width_percentile(lane: Lane) -> tuple[Series, ...]:
    rank = pd.Series(lane.width[0]).rolling(169).rank(method="max").to_numpy()
    return ((rank - 1.0) / 168.0,)


def _width_percentile_by_lag(lane: Lane) -> tuple[Series, ...]:
    """168 comparisons of whole arrays, counted in bytes."""
    width = lane.width[0]
    result = np.full_like(width, np.nan)
    if width.size > 187:
        now = width[187:]
        below = np.zeros(now.size, np.uint8)
        flags = np.empty(now.size, np.bool_)
        for lag in range(1, 169):
            np.less_equal(width[187 - lag : width.size - lag], now, out=flags)
            np.add(below, flags.view(np.uint8), out=below)
        np.divide(below, 168.0, out=result[187:])
    return (result,)


def _donchian(lane: Lane) -> tuple[Series, ...]:
    high, low = _later(talib.MAX(lane.high, 96), 1), _later(talib.MIN(lane.low, 96), 1)
    return high, low, _flag((low <= lane.close) & (lane.close <= high), 97)


def _outside(lane: Lane) -> tuple[Series, ...]:
    high, low = _later(talib.MAX(lane.high, 96), 1), _later(talib.MIN(lane.low, 96), 1)
    return (_flag((lane.close < low) | (lane.close > high), 97),)


def _atr(lane: Lane) -> tuple[Series, ...]:
    return (lane.atr,)


def _expansion(lane: Lane) -> tuple[Series, ...]:
    return (lane.atr / talib.SMA(lane.true_range, 168),)


def _ou(y: Series, pairs: int) -> tuple[Series, ...]:
    """Least squares of y_i - y_(i-1) on y_(i-1) from sliding sums; that of the changes telescopes."""
    # Measured from the middle of the data, so that the sums of squares keep their digits.
    centre = 0.5 * (y.min() + y.max())
    x = _later(y, 1)
    x -= centre
    d = _change(y, 1)
    sum_x, sum_xx = talib.SUM(x, pairs), talib.SUM(x * x, pairs)
    sum_xd, sum_dd = talib.SUM(x * d, pairs), talib.SUM(d * d, pairs)
    sum_d = _change(y, pairs)
    mean_x, mean_d = sum_x / pairs, sum_d / pairs
    xx = sum_xx - sum_x * mean_x
    xd = sum_xd - sum_x * mean_d
    slope = xd / xx
    sigma = np.sqrt((sum_dd - sum_d * mean_d - slope * xd) / (pairs - 2.0))
    phi = 1.0 + slope
    tau = slope * np.sqrt(xx) / sigma
    mu = mean_x - mean_d / slope
    mu += centre
    corrected = (pairs * phi + 1.0) / (pairs - 3.0)
    half_life = -math.log(2.0) / np.log(corrected)
    half_life[corrected >= 1.0] = np.inf
    half_life[corrected <= 0.0] = 0.0
    z = (y - mu) * np.sqrt(1.0 - phi * phi) / sigma
    return phi, mu, sigma, tau, half_life, z


def _ou_fit(lane: Lane) -> tuple[Series, ...]:
    return lane.ou


def _baseline(lane: Lane) -> tuple[Series, ...]:
    median = pd.Series(np.minimum(lane.ou[4], BEYOND)).rolling(720).median().to_numpy()
    median = _later(median, 192)
    median[median > BEYOND / 10.0] = np.inf
    return (median,)


def _efficiency(lane: Lane) -> tuple[Series, ...]:
    way = np.abs(_change(lane.y, 40))
    return (way / talib.SUM(np.abs(lane.returns), 40),)


def _swings(lane: Lane) -> tuple[Series, ...]:
    return _swing(lane.high), _swing(-lane.low) * -1.0


def _swing(price: Series) -> Series:
    """A value holds from one pivot to the next, so there are as many to find as pivots."""
    result = np.full(price.size, np.nan)
    if price.size < 196:
        return result
    middle = price[3:-3]
    pivot = middle > price[2:-4]
    pivot &= middle > price[1:-5]
    pivot &= middle > price[:-6]
    pivot &= middle >= price[4:-2]
    pivot &= middle >= price[5:-1]
    pivot &= middle >= price[6:]
    at = np.flatnonzero(pivot) + 3
    known = np.append(at + 3, price.size)
    result[:] = 0.0
    if at.size > 1:
        sign = np.sign(np.diff(price[at]))
        result[known[1] :] = np.repeat(sign, np.diff(known[1:]))
        for k in np.flatnonzero(known[2:] > at[:-1] + 193):
            result[max(known[k + 1], at[k] + 193) : known[k + 2]] = 0.0
    result[:195] = np.nan
    return result


def _emas(lane: Lane) -> tuple[Series, ...]:
    return tuple(talib.EMA(lane.close, span) for span in (12, 26, 50))


def _adx(lane: Lane) -> tuple[Series, ...]:
    return (talib.ADX(lane.high, lane.low, lane.close, 14),)


def _variance_ratio(lane: Lane, n: int, q: int) -> tuple[Series, ...]:
    """Lo and MacKinlay's from sliding sums, a lag after the other, multiplied out in powers of the mean."""
    mean, squares, ratio = _ratio(lane, n, q)
    z = np.full_like(ratio, np.nan)
    if z.size <= n:
        return ratio, z
    r, r2 = lane.returns, lane.squares
    square = mean * mean
    cross = np.zeros_like(mean)
    for lag in range(1, q):
        width = n - lag
        a, b = r[lag:], r[:-lag]
        both = a * b
        sum_4 = talib.SUM(both * both, width)[width:]
        sum_3 = talib.SUM(both * (a + b), width)[width:]
        sum_1 = talib.SUM(a + b, width)[width:]
        sum_2 = talib.SUM(r2[lag:] + r2[:-lag] + 4.0 * both, width)[width:]
        part = sum_4 - 2.0 * mean * sum_3 + square * (sum_2 - 2.0 * mean * sum_1 + width * square)
        cross += (2.0 * (q - lag) / q) ** 2 * part
    z[n:] = (ratio[n:] - 1.0) * squares / np.sqrt(cross)
    return ratio, z


def _variance_ratio_tuned(lane: Lane, n: int, q: int) -> tuple[Series, ...]:
    """The same with the engine's algebra: all lags in one running sum.

    A pair enters with its newer return and leaves with its older one.
    """
    mean, squares, ratio = _ratio(lane, n, q)
    z = np.full_like(ratio, np.nan)
    if z.size <= n:
        return ratio, z
    lags = q - 1
    weight = (2.0 * (q - np.arange(1, q)) / q) ** 2
    # Zeros before the first return and after the last one: no pair reaches out.
    padded = np.zeros(lane.y.size - 1 + 2 * lags)
    padded[lags:-lags] = lane.returns[1:]
    a, a2 = padded[lags:-lags], padded * padded
    before, before_2 = (np.convolve(part[: -lags - 1], weight, "valid") for part in (padded, a2))
    after, after_2 = (np.convolve(part[lags + 1 :], weight[::-1], "valid") for part in (padded, a2))
    b2, whole = a2[lags:-lags], weight.sum()
    # The first returns of the data enter with fewer pairs.
    reach = np.full(a.size, whole)
    reach[:q] = np.concatenate([[0.0], np.cumsum(weight)])

    def running(entering: Series, leaving: Series) -> Series:
        entering[n:] -= leaving[:-n]
        return np.cumsum(entering, out=entering)[n - 1 :]

    sum_4 = running(b2 * before_2, b2 * after_2)
    sum_3 = running(b2 * before + a * before_2, b2 * after + a * after_2)
    sum_2 = running(reach * b2 + before_2 + 4.0 * a * before, whole * b2 + after_2 + 4.0 * a * after)
    sum_1 = running(reach * a + before, whole * a + after)
    pairs = float((weight * (n - np.arange(1, q))).sum())
    square = mean * mean
    cross = sum_4 - 2.0 * mean * sum_3 + square * (sum_2 - 2.0 * mean * sum_1 + square * pairs)
    z[n:] = (ratio[n:] - 1.0) * squares / np.sqrt(cross)
    return ratio, z


def _ratio(lane: Lane, n: int, q: int) -> tuple[Series, Series, Series]:
    """Mean return and sum of squares about it, of the full windows; and the variance ratio, of all bars."""
    ratio = np.full(lane.y.size, np.nan)
    count = n - q + 1
    mean = _change(lane.y, n)[n:] / n
    if mean.size == 0:
        return mean, mean, ratio
    squares = talib.SUM(lane.squares, n)[n:] - n * mean * mean
    long = _change(lane.y, q)
    drift = q * mean
    longs = talib.SUM(long * long, count)[n:] - drift * (2.0 * talib.SUM(long, count)[n:] - count * drift)
    ratio[n:] = longs / squares * ((n - 1.0) / (q * count * (1.0 - q / n)))
    return mean, squares, ratio


def _range_volatilities(lane: Lane) -> tuple[Series, ...]:
    o, h, low = np.log(lane.open), np.log(lane.high), np.log(lane.low)
    up, down, body = h - lane.y, low - lane.y, lane.y - o
    square = (up - down) ** 2
    parkinson = talib.SMA(square, 96)
    garman_klass = 0.5 * parkinson - (2.0 * math.log(2.0) - 1.0) * talib.SMA(body * body, 96)
    rogers_satchell = talib.SMA(up * (up + body) + down * (down + body), 96)
    return np.sqrt(parkinson / (4.0 * math.log(2.0))), np.sqrt(garman_klass), np.sqrt(rogers_satchell)


def _jump_share(lane: Lane) -> tuple[Series, ...]:
    size = np.abs(lane.returns)
    both = np.empty_like(size)
    both[0] = np.nan
    np.multiply(size[1:], size[:-1], out=both[1:])
    share = 1.0 - 0.5 * math.pi * talib.SUM(both, 96) / talib.SUM(lane.squares, 96)
    return (np.maximum(share, 0.0),)


def _forecast(lane: Lane) -> tuple[Series, ...]:
    """pandas' recursion, and out of it what lies more than 6 half-lives back: a 64th of the weight."""
    # The epoch was a Thursday.
    weekend = (lane.opened.astype("datetime64[D]").view(np.int64) + 3) % 7 >= 5
    squares = lane.squares / np.where(weekend, 0.7**2, 1.0)
    squares[0] = 0.0
    parts = []
    for bars in (96, 672):
        mean = pd.Series(squares).ewm(halflife=bars, adjust=False).mean().to_numpy()
        part = np.full_like(mean, np.nan)
        np.subtract(mean[6 * bars :], mean[: -6 * bars] / 64.0, out=part[6 * bars :])
        parts.append(part)
    return (np.sqrt((parts[0] + parts[1]) * (4.0 * 0.5 * 64.0 / 63.0)),)


def _volume_ratio(lane: Lane) -> tuple[Series, ...]:
    return (talib.SMA(lane.volume, 4) / talib.SMA(lane.volume, 168),)


def _ticker(lane: Lane) -> tuple[Series, ...]:
    return lane.close, talib.ROC(lane.close, 96), talib.SUM(lane.volume, 96)


def _volatilities(lane: Lane) -> tuple[Series, ...]:
    return np.sqrt(talib.SUM(lane.squares, 4)), np.sqrt(talib.SUM(lane.squares, 96) / 24.0)


TALIB: dict[str, Indicator] = {
    "Bollinger": _bollinger,
    "width percentile": _width_percentile,
    "Donchian": _donchian,
    "ATR": _atr,
    "ATR expansion": _expansion,
    "OU fit": _ou_fit,
    "half-life baseline": _baseline,
    "efficiency ratio": _efficiency,
    "swings": _swings,
    "EMAs": _emas,
    "ADX": _adx,
    "variance ratio 4": partial(_variance_ratio, n=384, q=4),
    "variance ratio 16": partial(_variance_ratio, n=384, q=16),
    "variance ratio 4 of 144": partial(_variance_ratio, n=144, q=4),
    "range volatilities": _range_volatilities,
    "jump share": _jump_share,
    "volatility forecast": _forecast,
    "volume ratio": _volume_ratio,
    "ticker": _ticker,
    "close outside": _outside,
    "volatilities": _volatilities,
}
"""As their users would write it."""

TUNED: dict[str, Indicator] = {
    "width percentile": _width_percentile_by_lag,
    "variance ratio 4": partial(_variance_ratio_tuned, n=384, q=4),
    "variance ratio 16": partial(_variance_ratio_tuned, n=384, q=16),
    "variance ratio 4 of 144": partial(_variance_ratio_tuned, n=144, q=4),
}
"""What can be had faster from the same libraries by who knows how."""


# polars ---------------------------------------------------------------------------------------------------------------


def polars_expressions(candles: pl.DataFrame, newest: bool = False) -> tuple[dict[str, Series], Seconds]:
    """Every feature of one symbol as polars expressions.

    All series of bars stand one below the other in a frame, and windows slide from one into the next: the first values
    of each series are null for want of bars anyhow. That takes a fifth of the time of a frame for every series;
    `over` gathers and scatters for every expression. Arguments and result as those of `talib_bundle`.
    """
    watch = Stopwatch()
    found: dict[str, Series] = {}
    base = candles.select(*PRICES, pl.col("close").log().alias("y"), "open_time")
    length = 1
    for step in (1, 4, 16):
        while length < step:
            base = base.select(
                pl.col("open").shift(length),
                pl.max_horizontal("high", pl.col("high").shift(length)),
                pl.min_horizontal("low", pl.col("low").shift(length)),
                "close",
                pl.col("volume") + pl.col("volume").shift(length),
                "y",
            )
            length *= 2
        phases = range(step) if not newest else [(base.height - step) % step]
        lanes = base
        if step > 1:
            lanes = pl.concat([base.gather_every(step, phase + step - 1) for phase in phases], rechunk=True)
        # The number of a bar in the frame; where each series begins, and at which row its first bar closes.
        lanes = lanes.with_columns(pl.int_range(pl.len()).alias("at"))
        heights = [-(-(base.height - step + 1 - phase) // step) for phase in phases]
        starts = np.cumsum([0, *heights])
        closed = [slice(phase + step - 1, None, step) for phase in phases]
        watch.lap(FRAMING)
        for group in (group for group in GROUPS if group.step == step):
            for stage in POLARS[group.kind](group.columns):
                lanes = lanes.with_columns(one for one in stage if one.meta.output_name() not in lanes.columns)
            watch.lap(group.name)
            for name in group.columns:
                values = lanes[name].cast(pl.Float64).fill_null(math.nan).to_numpy()
                if newest:
                    found[name] = values[-1:]
                    continue
                found[name] = np.empty(base.height)
                for lane, rows in enumerate(closed):
                    found[name][rows] = values[starts[lane] : starts[lane + 1]]
                found[name][: step * group.bars - 1] = np.nan
            watch.lap(FRAMING)
    return found, watch.seconds


Stages = list[list[pl.Expr]]

_C = pl.col
_R = (_C("y") - _C("y").shift(1)).alias("_r")
_SQUARES = (_C("_r") * _C("_r")).alias("_r2")
_BEFORE = _C("close").shift(1)
_TR = pl.max_horizontal(
    _C("high") - _C("low"), (_C("high") - _BEFORE).abs(), (_C("low") - _BEFORE).abs()
).alias("_tr")  # fmt: skip
_TRUE_RANGE: Stages = [[pl.when(_BEFORE.is_not_null()).then(_TR).alias("_tr")]]


def _polars_bollinger(names: tuple[str, ...]) -> Stages:
    mean, deviation = _C("close").rolling_mean(20).alias("_m"), _C("close").rolling_std(20, ddof=0).alias("_s")
    return [
        [mean, deviation],
        [
            (4.0 * _C("_s") / _C("_m")).alias(names[0]),
            (0.5 + (_C("close") - _C("_m")) / (4.0 * _C("_s"))).alias(names[1]),
        ],
    ]


def _polars_width_percentile(names: tuple[str, ...]) -> Stages:
    """Lag by lag: twice as fast as its rolling rank."""
    width = _C("bollinger_width")
    below = pl.sum_horizontal(width.shift(lag) <= width for lag in range(1, 169))
    return [[pl.when(width.shift(168).is_not_null()).then(below / 168.0).alias(names[0])]]


def _polars_donchian(names: tuple[str, ...]) -> Stages:
    high, low = _C("high").rolling_max(96).shift(1), _C("low").rolling_min(96).shift(1)
    inside = (_C(names[1]) <= _C("close")) & (_C("close") <= _C(names[0]))
    return [[high.alias(names[0]), low.alias(names[1])], [inside.alias(names[2])]]


def _polars_outside(names: tuple[str, ...]) -> Stages:
    high, low = _C("high").rolling_max(96).shift(1), _C("low").rolling_min(96).shift(1)
    return [[((_C("close") < low) | (_C("close") > high)).alias(names[0])]]


def _polars_atr(names: tuple[str, ...]) -> Stages:
    return [*_TRUE_RANGE, [_C("_tr").rolling_mean(14).alias(names[0])]]


def _polars_expansion(names: tuple[str, ...]) -> Stages:
    return [*_TRUE_RANGE, [(_C("_tr").rolling_mean(14) / _C("_tr").rolling_mean(168)).alias(names[0])]]


def _polars_ou(names: tuple[str, ...]) -> Stages:
    n = 192.0
    centre = 0.5 * (_C("y").min() + _C("y").max())
    phi, mu, sigma, tau, half_life, z = names
    corrected = _C("_phi_c")
    return [
        [_R, (_C("y").shift(1) - centre).alias("_x"), centre.alias("_centre")],
        [
            (_C("_x").rolling_sum(192) / n).alias("_mean_x"),
            ((_C("y") - _C("y").shift(192)) / n).alias("_mean_d"),
            (_C("_x") * _C("_x")).rolling_sum(192).alias("_sum_xx"),
            (_C("_x") * _C("_r")).rolling_sum(192).alias("_sum_xd"),
            (_C("_r") * _C("_r")).rolling_sum(192).alias("_sum_dd"),
        ],
        [
            (_C("_sum_xx") - n * _C("_mean_x") * _C("_mean_x")).alias("_xx"),
            (_C("_sum_xd") - n * _C("_mean_x") * _C("_mean_d")).alias("_xd"),
        ],
        [(_C("_xd") / _C("_xx")).alias("_slope")],
        [
            ((_C("_sum_dd") - n * _C("_mean_d") ** 2 - _C("_slope") * _C("_xd")) / (n - 2.0)).sqrt().alias(sigma),
            (1.0 + _C("_slope")).alias(phi),
            (_C("_mean_x") - _C("_mean_d") / _C("_slope") + _C("_centre")).alias(mu),
            ((n * (1.0 + _C("_slope")) + 1.0) / (n - 3.0)).alias("_phi_c"),
        ],
        [
            (_C("_slope") * _C("_xx").sqrt() / _C(sigma)).alias(tau),
            pl.when(corrected >= 1.0)
            .then(math.inf)
            .when(corrected <= 0.0)
            .then(0.0)
            .otherwise(-math.log(2.0) / corrected.log())
            .alias(half_life),
            ((_C("y") - _C(mu)) * (1.0 - _C(phi) * _C(phi)).sqrt() / _C(sigma)).alias(z),
        ],
    ]


def _polars_baseline(names: tuple[str, ...]) -> Stages:
    # Its median of an even number interpolates, and infinity less infinity is nothing.
    median = pl.min_horizontal("half_life", BEYOND).rolling_median(720).shift(192).alias("_median")
    return [[median], [pl.when(_C("_median") > BEYOND / 10.0).then(math.inf).otherwise(_C("_median")).alias(names[0])]]


def _polars_efficiency(names: tuple[str, ...]) -> Stages:
    way = (_C("y") - _C("y").shift(40)).abs()
    return [[_R], [(way / _C("_r").abs().rolling_sum(40)).alias(names[0])]]


def _polars_swings(names: tuple[str, ...]) -> Stages:
    """At the bar where a pivot is known, the one before it is what was carried forward until then."""
    stages: Stages = [[], [], [], []]
    for name, price in zip(names, (_C("high"), -_C("low")), strict=True):
        sign = 1.0 if name == names[0] else -1.0
        pivot = price.shift(3)
        known = _C(f"_{name}_known")
        is_pivot = pl.all_horizontal(
            *(pivot > price.shift(lag) for lag in (4, 5, 6)), *(pivot >= price.shift(lag) for lag in (0, 1, 2))
        )
        stages[0].append(is_pivot.alias(f"_{name}_known"))
        stages[1] += [
            pl.when(known).then(pivot).forward_fill().alias(f"_{name}_last"),
            pl.when(known).then(_C("at") - 3).forward_fill().alias(f"_{name}_at"),
        ]
        stages[2] += [
            pl.when(known).then(_C(f"_{name}_{what}").shift(1)).forward_fill().alias(f"_{name}_{what}_before")
            for what in ("last", "at")
        ]
        fresh = (_C(f"_{name}_at_before") >= _C("at") - 192).fill_null(False)
        change = sign * (_C(f"_{name}_last") - _C(f"_{name}_last_before")).sign()
        stages[3].append(pl.when(fresh).then(change).otherwise(0.0).alias(name))
    return stages


def _polars_emas(names: tuple[str, ...]) -> Stages:
    spans = (12, 26, 50)
    return [
        [
            _C("close").ewm_mean(span=span, adjust=False, min_samples=span).alias(name)
            for name, span in zip(names, spans, strict=True)
        ]
    ]


def _polars_adx(names: tuple[str, ...]) -> Stages:
    up, down = _C("_up"), _C("_down")
    plus, minus = _C("_plus"), _C("_minus")
    return [
        [
            (_C("high") - _C("high").shift(1)).alias("_up"),
            (_C("low").shift(1) - _C("low")).alias("_down"),
        ],
        [
            pl.when((up > down) & (up > 0.0))
            .then(up)
            .otherwise(0.0)
            .ewm_mean(alpha=1 / 14, adjust=False)
            .alias("_plus"),
            pl.when((down > up) & (down > 0.0))
            .then(down)
            .otherwise(0.0)
            .ewm_mean(alpha=1 / 14, adjust=False)
            .alias("_minus"),
        ],
        [
            (100.0 * (plus - minus).abs() / (plus + minus))
            .fill_nan(None)
            .ewm_mean(alpha=1 / 14, adjust=False, min_samples=28)
            .alias(names[0])
        ],
    ]


def _polars_variance_ratio(names: tuple[str, ...], n: int, q: int) -> Stages:
    """The same sums as in the other bundle."""
    lags, count = q - 1, n - q + 1
    weights = [(2.0 * (q - lag) / q) ** 2 for lag in range(1, q)]
    whole = sum(weights)
    pairs = sum(weight * (n - lag) for lag, weight in enumerate(weights, 1))
    a, b2 = _C("_r"), _C("_r2")
    mean, squares, found = _C(f"_mean_{n}_{q}"), _C(f"_squares_{n}_{q}"), _C(names[0])
    parts = {what: _C(f"_{what}_{n}_{q}") for what in ("before", "before_2", "after", "after_2", "long", "reach")}

    def past(one: pl.Expr) -> pl.Expr:
        filled = one.fill_null(0.0).shift(1, fill_value=0.0)
        return filled.rolling_sum(lags, weights=weights[::-1], min_samples=1)

    def future(one: pl.Expr) -> pl.Expr:
        return one.fill_null(0.0).rolling_sum(lags, weights=weights).shift(-lags)

    def running(entering: pl.Expr, leaving: pl.Expr) -> pl.Expr:
        return (entering - leaving.shift(n).fill_null(0.0)).cum_sum()

    reach = pl.when(_C("at") > lags).then(whole)
    for bar in range(lags, 0, -1):
        reach = reach.when(_C("at") == bar).then(sum(weights[: bar - 1]))
    before, before_2, after, after_2 = (parts[what] for what in ("before", "before_2", "after", "after_2"))
    sums = {
        4: running(b2 * before_2, b2 * after_2),
        3: running(b2 * before + a * before_2, b2 * after + a * after_2),
        2: running(parts["reach"] * b2 + before_2 + 4.0 * a * before, whole * b2 + after_2 + 4.0 * a * after),
        1: running(parts["reach"] * a + before, whole * a + after),
    }
    sum_4, sum_3, sum_2, sum_1 = (_C(f"_sum_{power}_{n}_{q}") for power in sums)
    long, drift = parts["long"], q * mean
    longs = (long * long).rolling_sum(count) - drift * (2.0 * long.rolling_sum(count) - count * drift)
    cross = sum_4 - 2.0 * mean * sum_3 + mean * mean * (sum_2 - 2.0 * mean * sum_1 + mean * mean * pairs)
    return [
        [_R],
        [
            _SQUARES,
            ((_C("y") - _C("y").shift(n)) / n).alias(mean.meta.output_name()),
            (_C("y") - _C("y").shift(q)).alias(long.meta.output_name()),
            past(a).alias(before.meta.output_name()),
            future(a).alias(after.meta.output_name()),
            reach.alias(parts["reach"].meta.output_name()),
        ],
        [
            (b2.rolling_sum(n) - n * mean * mean).alias(squares.meta.output_name()),
            past(b2).alias(before_2.meta.output_name()),
            future(b2).alias(after_2.meta.output_name()),
        ],
        [
            *(one.alias(f"_sum_{power}_{n}_{q}") for power, one in sums.items()),
            (longs / squares * ((n - 1.0) / (q * count * (1.0 - q / n)))).alias(names[0]),
        ],
        [((found - 1.0) * squares / cross.sqrt()).alias(names[1])],
    ]


def _polars_range_volatilities(names: tuple[str, ...]) -> Stages:
    up, down, body = _C("_up_y"), _C("_down_y"), _C("_body")
    return [
        [
            (_C("high").log() - _C("y")).alias("_up_y"),
            (_C("low").log() - _C("y")).alias("_down_y"),
            (_C("y") - _C("open").log()).alias("_body"),
        ],
        [((up - down) * (up - down)).rolling_mean(96).alias("_range2")],
        [
            (_C("_range2") / (4.0 * math.log(2.0))).sqrt().alias(names[0]),
            (0.5 * _C("_range2") - (2.0 * math.log(2.0) - 1.0) * (body * body).rolling_mean(96)).sqrt().alias(names[1]),
            (up * (up + body) + down * (down + body)).rolling_mean(96).sqrt().alias(names[2]),
        ],
    ]


def _polars_jump_share(names: tuple[str, ...]) -> Stages:
    both = (_C("_r") * _C("_r").shift(1)).abs().rolling_sum(96)
    return [
        [_R],
        [_SQUARES],
        [(1.0 - 0.5 * math.pi * both / _C("_r2").rolling_sum(96)).clip(lower_bound=0.0).alias(names[0])],
    ]


def _polars_forecast(names: tuple[str, ...]) -> Stages:
    weekend = _C("open_time").dt.weekday() >= 6
    squares = (_C("_r2") / pl.when(weekend).then(0.7**2).otherwise(1.0)).fill_null(0.0).alias("_calm")
    means = {bars: _C(f"_ewma_{bars}") for bars in (96, 672)}
    whole = sum((mean - mean.shift(6 * bars) / 64.0 for bars, mean in means.items()), start=pl.lit(0.0))
    return [
        [_R],
        [_SQUARES],
        [squares],
        [_C("_calm").ewm_mean(half_life=bars, adjust=False).alias(f"_ewma_{bars}") for bars in means],
        [(whole * (4.0 * 0.5 * 64.0 / 63.0)).sqrt().alias(names[0])],
    ]


def _polars_volume_ratio(names: tuple[str, ...]) -> Stages:
    return [[(_C("volume").rolling_mean(4) / _C("volume").rolling_mean(168)).alias(names[0])]]


def _polars_ticker(names: tuple[str, ...]) -> Stages:
    change = 100.0 * (_C("close") / _C("close").shift(96) - 1.0)
    return [[change.alias(names[1]), _C("volume").rolling_sum(96).alias(names[2])]]


def _polars_volatilities(names: tuple[str, ...]) -> Stages:
    return [
        [_R],
        [_SQUARES],
        [_C("_r2").rolling_sum(4).sqrt().alias(names[0]), (_C("_r2").rolling_sum(96) / 24.0).sqrt().alias(names[1])],
    ]


POLARS: dict[str, Callable[[tuple[str, ...]], Stages]] = {
    "Bollinger": _polars_bollinger,
    "width percentile": _polars_width_percentile,
    "Donchian": _polars_donchian,
    "ATR": _polars_atr,
    "ATR expansion": _polars_expansion,
    "OU fit": _polars_ou,
    "half-life baseline": _polars_baseline,
    "efficiency ratio": _polars_efficiency,
    "swings": _polars_swings,
    "EMAs": _polars_emas,
    "ADX": _polars_adx,
    "variance ratio 4": partial(_polars_variance_ratio, n=384, q=4),
    "variance ratio 16": partial(_polars_variance_ratio, n=384, q=16),
    "variance ratio 4 of 144": partial(_polars_variance_ratio, n=144, q=4),
    "range volatilities": _polars_range_volatilities,
    "jump share": _polars_jump_share,
    "volatility forecast": _polars_forecast,
    "volume ratio": _polars_volume_ratio,
    "ticker": _polars_ticker,
    "close outside": _polars_outside,
    "volatilities": _polars_volatilities,
}


# The OU fit alone -----------------------------------------------------------------------------------------------------


def pandas_apply(y: Series, pairs: int = 192) -> Series:
    """phi, with a function of numpy's on every window."""

    def fitted(window: Series) -> float:
        x = window[:-1] - window[:-1].mean()
        return float(x @ window[1:]) / float(x @ x)

    return pd.Series(y).rolling(pairs + 1).apply(fitted, raw=True).to_numpy()


def statsmodels_rolling(y: Series, pairs: int = 192) -> Series:
    """phi; the coefficients alone, without their errors."""
    from statsmodels.regression.rolling import RollingOLS
    from statsmodels.tools import add_constant

    fitted = RollingOLS(y[1:], add_constant(y[:-1]), window=pairs).fit(params_only=True)
    return np.concatenate([[np.nan], fitted.params[:, 1]])


def polars_ols(y: Series, pairs: int = 192) -> Series:
    """phi; the coefficients alone, without their errors."""
    import polars_ols as _  # noqa: F401  (adds `least_squares` to expressions)

    frame = pl.DataFrame({"y": y}).with_columns(x=pl.col("y").shift(1)).slice(1)
    fitted = frame.select(
        pl.col("y").least_squares.rolling_ols(pl.col("x"), window_size=pairs, add_intercept=True, mode="coefficients")
    )
    return np.concatenate([[np.nan], fitted.unnest("coefficients")["x"].to_numpy()])


OU_ALONE: dict[str, tuple[Callable[[Series], Series], int]] = {
    "statsmodels RollingOLS": (statsmodels_rolling, 4_000),
    "pandas rolling.apply": (pandas_apply, 4_000),
    "polars-ols": (polars_ols, 20_000),
}
"""Function, and how many hourly bars it is measured on."""
