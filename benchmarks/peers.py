"""The regime features as their users compute them today: TA-Lib with numpy and pandas, and polars expressions.

Each indicator is written as well as we can for the library at hand: on contiguous arrays, in O(1) a bar wherever the
library has that. Both take and give the same as `mm_dagster.regime.indicators`: one ordinary series of bars, and the
columns of its feature. Neither forgets where its data begins, so their last bits differ from run to run; that is
measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import talib

Floats = npt.NDArray[np.float64]
Series = Mapping[str, Floats]
"""open, high, low, close, volume and log_close of one series of bars."""


def resample(base: Floats, step: int, phase: int) -> dict[str, Floats]:
    """One series of `step` base bars each; `base` holds opens, highs, lows, closes and volumes in rows."""
    first = (phase + 1) % step
    bars = (base.shape[1] - first) // step
    cut = base[:, first : first + bars * step].reshape(5, bars, step)
    close = np.ascontiguousarray(cut[3, :, -1])
    return {
        "open": np.ascontiguousarray(cut[0, :, 0]),
        "high": cut[1].max(axis=1),
        "low": cut[2].min(axis=1),
        "close": close,
        "volume": cut[4].sum(axis=1),
        "log_close": np.log(close),
    }


def _shifted(values: Floats, bars: int) -> Floats:
    return np.concatenate([np.full(bars, np.nan), values[:-bars]])


def _returns(s: Series) -> Floats:
    return np.diff(s["log_close"], prepend=np.nan)


def _sum(values: Floats, width: int) -> Floats:
    """TA-Lib's SUM, which takes a leading NaN for a short history but spreads any other."""
    return talib.SUM(values, width)


# TA-Lib, numpy, pandas ------------------------------------------------------------------------------------------------


def change_and_volume(s: Series) -> dict[str, Floats]:
    return {
        "change_24h": 100.0 * (s["close"] / _shifted(s["close"], 96) - 1.0),
        "volume_24h": _sum(s["volume"], 96),
    }


def volume_ratio(s: Series) -> dict[str, Floats]:
    return {"volume_ratio": talib.SMA(s["volume"], 4) / talib.SMA(s["volume"], 168)}


def bollinger(s: Series) -> dict[str, Floats]:
    upper, middle, lower = talib.BBANDS(s["close"], 20, 2.0, 2.0)
    return {"bollinger_width": (upper - lower) / middle, "bollinger_percent_b": (s["close"] - lower) / (upper - lower)}


def bollinger_width_percentile(s: Series) -> dict[str, Floats]:
    rank = pd.Series(bollinger(s)["bollinger_width"]).rolling(169).rank(method="max").to_numpy()
    return {"bollinger_width_percentile": (rank - 1.0) / 168.0}


def donchian(s: Series) -> dict[str, Floats]:
    high, low = _shifted(talib.MAX(s["high"], 96), 1), _shifted(talib.MIN(s["low"], 96), 1)
    inside = (low <= s["close"]) & (s["close"] <= high)
    return {"range_high": high, "range_low": low, "inside_range": inside.astype(np.float64)}


def closes_outside(s: Series) -> dict[str, Floats]:
    return {"closes_outside_15m": 1.0 - donchian(s)["inside_range"]}


def average_true_range(s: Series) -> dict[str, Floats]:
    return {"atr": talib.SMA(talib.TRANGE(s["high"], s["low"], s["close"]), 14)}


def atr_expansion(s: Series) -> dict[str, Floats]:
    ranges = talib.TRANGE(s["high"], s["low"], s["close"])
    return {"atr_expansion": talib.SMA(ranges, 14) / talib.SMA(ranges, 168)}


def mean_reversion(s: Series) -> dict[str, Floats]:
    n = 192
    y = s["log_close"] - s["log_close"][0]
    x = _shifted(y, 1)
    mean_x, mean_y = _sum(x, n) / n, _sum(y, n) / n
    xx = _sum(x * x, n) - n * mean_x * mean_x
    xy = _sum(x * y, n) - n * mean_x * mean_y
    yy = _sum(y * y, n) - n * mean_y * mean_y
    phi = xy / xx
    sigma = np.sqrt(np.maximum(yy - phi * xy, 0.0) / (n - 2))
    mu = (mean_y - phi * mean_x) / (1.0 - phi)
    corrected = (n * phi + 1.0) / (n - 3.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        half_life = math.log(2.0) / -np.log(np.clip(corrected, 1e-300, 1.0))
        z = (y - mu) * np.sqrt(1.0 - phi * phi) / sigma
    half_life[corrected >= 1.0] = np.inf
    return {
        "ou_phi": phi,
        "ou_mu": mu + s["log_close"][0],
        "ou_sigma": sigma,
        "ou_tau": (phi - 1.0) * np.sqrt(xx) / sigma,
        "half_life": half_life,
        "ou_z": z,
    }


def half_life_baseline(s: Series) -> dict[str, Floats]:
    # pandas takes infinity for missing; the median is taken of the rates, and turned over.
    with np.errstate(divide="ignore"):
        rate = pd.Series(1.0 / mean_reversion(s)["half_life"])
        return {"half_life_baseline": _shifted(1.0 / rate.rolling(720).median().to_numpy(), 192)}


def efficiency_ratio(s: Series) -> dict[str, Floats]:
    y = s["log_close"]
    return {"efficiency_ratio": np.abs(y - _shifted(y, 40)) / _sum(np.abs(_returns(s)), 40)}


def swings(s: Series) -> dict[str, Floats]:
    return {"swing_high": _swing(s["high"], 1.0), "swing_low": _swing(s["low"], -1.0)}


def _swing(prices: Floats, direction: float) -> Floats:
    price = direction * prices
    size = price.size
    pivot = np.zeros(size, np.bool_)
    centre = price[3:-3]
    peak = np.ones(centre.size, np.bool_)
    for j in range(1, 4):
        peak &= (centre > price[3 - j : size - 3 - j]) & (centre >= price[3 + j : size - 3 + j])
    pivot[3:-3] = peak
    places = np.flatnonzero(pivot)
    # How many pivots are known at each bar: those 3 bars back or more.
    count = np.searchsorted(places, np.arange(size) - 3, side="right")
    last, previous = places[np.maximum(count - 1, 0)], places[np.maximum(count - 2, 0)]
    found = (count >= 2) & (previous >= np.arange(size) - 192)
    return np.where(found, np.sign(prices[last] - prices[previous]), 0.0)


def exponential_averages(s: Series) -> dict[str, Floats]:
    return {f"ema_{span}": talib.EMA(s["close"], span) for span in (12, 26, 50)}


def adx(s: Series) -> dict[str, Floats]:
    return {"adx": talib.ADX(s["high"], s["low"], s["close"], 14)}


def variance_ratio(s: Series, returns: int, q: int) -> dict[str, Floats]:
    y = s["log_close"]
    r, long = _returns(s), y - _shifted(y, q)
    mean = (y - _shifted(y, returns)) / returns
    squares = _sum(r * r, returns) - returns * mean * mean
    longs = returns - q + 1
    long_squares = _sum(long * long, longs) - 2.0 * q * mean * _sum(long, longs) + longs * (q * mean) ** 2
    ratio = long_squares / (q * longs * (1.0 - q / returns)) / (squares / (returns - 1))
    theta = np.zeros(y.size)
    for j in range(1, q):
        a, b = r, _shifted(r, j)
        product = a * b
        pairs = returns - j
        cross = _sum(product * product, pairs) - 2.0 * mean * _sum(product * (a + b), pairs)
        cross += mean**2 * _sum(a * a + b * b + 4.0 * product, pairs) - 2.0 * mean**3 * _sum(a + b, pairs)
        theta += (2.0 * (q - j) / q) ** 2 * (cross + pairs * mean**4)
    return {f"variance_ratio_{q}": ratio, f"variance_ratio_{q}_z": (ratio - 1.0) * squares / np.sqrt(theta)}


def range_volatility(s: Series) -> dict[str, Floats]:
    o, h, low, c = np.log(s["open"]), np.log(s["high"]), np.log(s["low"]), s["log_close"]
    high_low = (h - low) ** 2
    garman_klass = 0.5 * high_low - (2.0 * math.log(2.0) - 1.0) * (c - o) ** 2
    rogers_satchell = (h - c) * (h - o) + (low - c) * (low - o)
    return {
        "parkinson": np.sqrt(talib.SMA(high_low, 96) / (4.0 * math.log(2.0))),
        "garman_klass": np.sqrt(talib.SMA(garman_klass, 96)),
        "rogers_satchell": np.sqrt(talib.SMA(rogers_satchell, 96)),
    }


def jump_share(s: Series) -> dict[str, Floats]:
    r = _returns(s)
    bipower = 0.5 * math.pi * _sum(np.abs(r * _shifted(r, 1)), 96)
    return {"jump_share": np.maximum(1.0 - bipower / _sum(r * r, 96), 0.0)}


def volatility_forecast(s: Series) -> dict[str, Floats]:
    squares = pd.Series(_returns(s) ** 2)
    fast, slow = (squares.ewm(halflife=hours).mean().to_numpy() for hours in (24, 168))
    return {"volatility_forecast": np.sqrt(0.5 * fast + 0.5 * slow)}


def realised_volatility(s: Series) -> dict[str, Floats]:
    squares = _returns(s) ** 2
    return {
        "volatility_4_15m": np.sqrt(_sum(squares, 4)),
        "volatility_96_15m": np.sqrt(_sum(squares, 96) / 24.0),
    }


# Polars: what several columns need is a column first, so that nothing is computed twice -------------------------------

_c, _h, _l, _o, _v, _y = (pl.col(name) for name in ("close", "high", "low", "open", "volume", "log_close"))
_true_range = pl.max_horizontal(_h - _l, (_h - _c.shift(1)).abs(), (_l - _c.shift(1)).abs())


def _polars_change_and_volume(t: pl.DataFrame) -> pl.DataFrame:
    return t.select(change_24h=100.0 * (_c / _c.shift(96) - 1.0), volume_24h=_v.rolling_sum(96))


def _polars_volume_ratio(t: pl.DataFrame) -> pl.DataFrame:
    return t.select(volume_ratio=_v.rolling_mean(4) / _v.rolling_mean(168))


def _polars_bollinger(t: pl.DataFrame) -> pl.DataFrame:
    t = t.select("close", mean=_c.rolling_mean(20), deviation=_c.rolling_std(20, ddof=0))
    return t.select(
        bollinger_width=4.0 * pl.col("deviation") / pl.col("mean"),
        bollinger_percent_b=0.5 + (_c - pl.col("mean")) / (4.0 * pl.col("deviation")),
    )


def _polars_width_percentile(t: pl.DataFrame) -> pl.DataFrame:
    rank = pl.col("bollinger_width").rolling_rank(169, method="max").cast(pl.Float64)
    return _polars_bollinger(t).select(bollinger_width_percentile=(rank - 1.0) / 168.0)


def _polars_range(t: pl.DataFrame) -> pl.DataFrame:
    t = t.select("close", range_high=_h.rolling_max(96).shift(1), range_low=_l.rolling_min(96).shift(1))
    inside = _c.is_between("range_low", "range_high")
    return t.select("range_high", "range_low", inside_range=inside.cast(pl.Float64))


def _polars_closes_outside(t: pl.DataFrame) -> pl.DataFrame:
    return _polars_range(t).select(closes_outside_15m=1.0 - pl.col("inside_range"))


def _polars_true_range(t: pl.DataFrame) -> pl.DataFrame:
    return t.select(atr=_true_range.rolling_mean(14))


def _polars_atr_expansion(t: pl.DataFrame) -> pl.DataFrame:
    ranges = pl.col("ranges")
    return t.select(ranges=_true_range).select(atr_expansion=ranges.rolling_mean(14) / ranges.rolling_mean(168))


def _polars_mean_reversion(t: pl.DataFrame) -> pl.DataFrame:
    n = 192
    x, y, mean_x, mean_y = (pl.col(name) for name in ("x", "y", "mean_x", "mean_y"))
    xx, xy, yy, phi, sigma, mu = (pl.col(name) for name in ("xx", "xy", "yy", "phi", "sigma", "mu"))
    origin = t["log_close"][0]
    t = t.select(y=_y - origin).with_columns(x=y.shift(1))
    t = t.with_columns(
        mean_x=x.rolling_mean(n),
        mean_y=y.rolling_mean(n),
        xx=(x * x).rolling_sum(n),
        xy=(x * y).rolling_sum(n),
        yy=(y * y).rolling_sum(n),
    )
    t = t.with_columns(xx=xx - n * mean_x * mean_x, xy=xy - n * mean_x * mean_y, yy=yy - n * mean_y * mean_y)
    t = t.with_columns(phi=xy / xx)
    t = t.with_columns(sigma=((yy - phi * xy).clip(0.0) / (n - 2)).sqrt(), mu=(mean_y - phi * mean_x) / (1.0 - phi))
    corrected = (n * phi + 1.0) / (n - 3.0)
    return t.select(
        ou_phi=phi,
        ou_mu=mu + origin,
        ou_sigma=sigma,
        ou_tau=(phi - 1.0) * xx.sqrt() / sigma,
        half_life=pl.when(corrected >= 1.0).then(math.inf).otherwise(-math.log(2.0) / corrected.log()),
        ou_z=(y - mu) * (1.0 - phi * phi).sqrt() / sigma,
    )


def _polars_half_life_baseline(t: pl.DataFrame) -> pl.DataFrame:
    return _polars_mean_reversion(t).select(half_life_baseline=pl.col("half_life").rolling_median(720).shift(192))


def _polars_efficiency_ratio(t: pl.DataFrame) -> pl.DataFrame:
    return t.select(efficiency_ratio=(_y - _y.shift(40)).abs() / _y.diff().abs().rolling_sum(40))


def _polars_swings(t: pl.DataFrame) -> pl.DataFrame:
    return t.select(swing_high=_polars_swing(t["high"], 1), swing_low=_polars_swing(t["low"], -1))


def _polars_swing(prices: pl.Series, sign: int) -> pl.Series:
    t = pl.DataFrame({"price": prices}).with_columns(side=pl.col("price") * sign)
    side, pivot, place = pl.col("side"), pl.col("pivot"), pl.col("place")
    before = pl.max_horizontal(side.shift(4), side.shift(5), side.shift(6))
    after = pl.max_horizontal(side, side.shift(1), side.shift(2))
    t = t.with_columns(pivot=(side.shift(3) > before) & (side.shift(3) >= after))
    t = t.with_columns(
        last=pl.when(pivot).then(pl.col("price").shift(3)).forward_fill(),
        place=pl.when(pivot).then(pl.int_range(pl.len()) - 3).forward_fill(),
    )
    t = t.with_columns(
        previous=pl.when(pivot).then(pl.col("last").shift(1)).forward_fill(),
        place=pl.when(pivot).then(place.shift(1)).forward_fill(),
    )
    known = place >= pl.int_range(pl.len()) - 192
    sign_now = (pl.col("last") - pl.col("previous")).sign()
    return t.select(pl.when(known).then(sign_now).otherwise(0.0)).to_series()


def _polars_averages(t: pl.DataFrame) -> pl.DataFrame:
    return t.select(**{f"ema_{span}": _c.ewm_mean(span=span, adjust=False) for span in (12, 26, 50)})


def _polars_adx(t: pl.DataFrame) -> pl.DataFrame:
    up, down, plus, minus = (pl.col(name) for name in ("up", "down", "plus", "minus"))
    t = t.select(up=_h.diff(), down=-_l.diff())
    t = t.select(
        plus=pl.when((up > down) & (up > 0)).then(up).otherwise(0.0).ewm_mean(alpha=1.0 / 14.0, adjust=False),
        minus=pl.when((down > up) & (down > 0)).then(down).otherwise(0.0).ewm_mean(alpha=1.0 / 14.0, adjust=False),
    )
    index = pl.when(plus + minus > 0.0).then(100.0 * (plus - minus).abs() / (plus + minus))
    return t.select(adx=index.ewm_mean(alpha=1.0 / 14.0, adjust=False))


def _polars_variance_ratio(t: pl.DataFrame, returns: int, q: int) -> pl.DataFrame:
    r, mean, long, squares, ratio, theta = (pl.col(n) for n in ("r", "mean", "long", "squares", "ratio", "theta"))
    longs = returns - q + 1
    t = t.select(r=_y.diff(), mean=(_y - _y.shift(returns)) / returns, long=_y - _y.shift(q))
    t = t.with_columns(
        squares=(r * r).rolling_sum(returns) - returns * mean * mean,
        long=(long * long).rolling_sum(longs)
        - 2.0 * q * mean * long.rolling_sum(longs)
        + longs * (q * mean) * (q * mean),
    )
    t = t.with_columns(ratio=long / (q * longs * (1.0 - q / returns)) / (squares / (returns - 1)), theta=pl.lit(0.0))
    a, b, product = pl.col("a"), pl.col("b"), pl.col("product")
    for j in range(1, q):
        pairs = returns - j
        lagged = t.select("mean", "theta", a=r, b=r.shift(j)).with_columns(product=a * b)
        cross = (product * product).rolling_sum(pairs) - 2.0 * mean * (product * (a + b)).rolling_sum(pairs)
        cross = cross + mean * mean * (a * a + b * b + 4.0 * product).rolling_sum(pairs)
        cross = cross - 2.0 * mean * mean * mean * (a + b).rolling_sum(pairs) + pairs * mean * mean * mean * mean
        t = t.with_columns(lagged.select(theta=theta + (2.0 * (q - j) / q) ** 2 * cross))
    return t.select(**{f"variance_ratio_{q}": ratio, f"variance_ratio_{q}_z": (ratio - 1.0) * squares / theta.sqrt()})


def _polars_range_volatility(t: pl.DataFrame) -> pl.DataFrame:
    o, h, low, c = (pl.col(name) for name in ("o", "h", "low", "c"))
    t = t.select(o=_o.log(), h=_h.log(), low=_l.log(), c=_y)
    t = t.select(
        parkinson=(h - low) * (h - low) / (4.0 * math.log(2.0)),
        garman_klass=0.5 * (h - low) * (h - low) - (2.0 * math.log(2.0) - 1.0) * (c - o) * (c - o),
        rogers_satchell=(h - c) * (h - o) + (low - c) * (low - o),
    )
    return t.select(pl.all().rolling_mean(96).sqrt())


def _polars_jump_share(t: pl.DataFrame) -> pl.DataFrame:
    r = pl.col("r")
    bipower = 0.5 * math.pi * (r * r.shift(1)).abs().rolling_sum(96)
    return t.select(r=_y.diff()).select(jump_share=(1.0 - bipower / (r * r).rolling_sum(96)).clip(0.0))


def _polars_forecast(t: pl.DataFrame) -> pl.DataFrame:
    square = pl.col("square")
    t = t.select(r=_y.diff()).select(square=pl.col("r") * pl.col("r"))
    fast, slow = (square.ewm_mean(half_life=hours) for hours in (24, 168))
    return t.select(volatility_forecast=(0.5 * fast + 0.5 * slow).sqrt())


def _polars_realised(t: pl.DataFrame) -> pl.DataFrame:
    square = pl.col("square")
    t = t.select(r=_y.diff()).select(square=pl.col("r") * pl.col("r"))
    return t.select(
        volatility_4_15m=square.rolling_sum(4).sqrt(), volatility_96_15m=(square.rolling_sum(96) / 24.0).sqrt()
    )


# One table: what is compared -----------------------------------------------------------------------------------------

TALIB: dict[str, Callable[[Series], dict[str, Floats]]] = {
    "24 h change, volume": change_and_volume,
    "volume ratio": volume_ratio,
    "Bollinger": bollinger,
    "width percentile": bollinger_width_percentile,
    "range (Donchian)": donchian,
    "close outside": closes_outside,
    "ATR": average_true_range,
    "ATR expansion": atr_expansion,
    "OU fit": mean_reversion,
    "half-life baseline": half_life_baseline,
    "efficiency ratio": efficiency_ratio,
    "swings": swings,
    "EMA 12, 26, 50": exponential_averages,
    "ADX": adx,
    "variance ratio 4": lambda s: variance_ratio(s, 384, 4),
    "variance ratio 16": lambda s: variance_ratio(s, 384, 16),
    "variance ratio 4, 4 h": lambda s: variance_ratio(s, 144, 4),
    "range volatilities": range_volatility,
    "jump share": jump_share,
    "forecast": volatility_forecast,
    "realised volatility": realised_volatility,
}

POLARS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "24 h change, volume": _polars_change_and_volume,
    "volume ratio": _polars_volume_ratio,
    "Bollinger": _polars_bollinger,
    "width percentile": _polars_width_percentile,
    "range (Donchian)": _polars_range,
    "close outside": _polars_closes_outside,
    "ATR": _polars_true_range,
    "ATR expansion": _polars_atr_expansion,
    "OU fit": _polars_mean_reversion,
    "half-life baseline": _polars_half_life_baseline,
    "efficiency ratio": _polars_efficiency_ratio,
    "swings": _polars_swings,
    "EMA 12, 26, 50": _polars_averages,
    "ADX": _polars_adx,
    "variance ratio 4": lambda t: _polars_variance_ratio(t, 384, 4),
    "variance ratio 16": lambda t: _polars_variance_ratio(t, 384, 16),
    "variance ratio 4, 4 h": lambda t: _polars_variance_ratio(t, 144, 4),
    "range volatilities": _polars_range_volatility,
    "jump share": _polars_jump_share,
    "forecast": _polars_forecast,
    "realised volatility": _polars_realised,
}

ON: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(TALIB, (4,)),
    **dict.fromkeys(("24 h change, volume", "close outside", "realised volatility"), (1,)),
    **dict.fromkeys(("ATR", "efficiency ratio", "swings", "EMA 12, 26, 50", "ADX"), (4, 16)),
    "ATR expansion": (1, 4),
    "variance ratio 4, 4 h": (16,),
}
"""Base bars in a bar of the series that each is computed on."""
