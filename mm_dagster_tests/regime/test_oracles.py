"""Features against programs that others wrote: TA-Lib, statsmodels, arch, pandas, and plain numpy.

An oracle gets bars that polars cuts, at every phase of the hour an ordinary series. It is fed with the whole series
from its beginning, so it has warmed up where our windows are full: from there on both are compared at every bar.

Most agree to rounding; each tolerance is relative and says how much of it the oracle needs. A recursion (EMA, Wilder's
smoothing) never forgets, ours is cut after L bars, so the two differ by what lies before. They are held together
twice: exactly, with the recursion's own value L bars ago taken out of it, and loosely, within what that weight can do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pytest
import scipy.stats
import statsmodels.api as sm
import talib
from arch.unitroot import VarianceRatio
from numpy.lib.stride_tricks import sliding_window_view

from mm_dagster.bars import BAR, FOUR_HOUR_BARS, HOUR_BARS, Span
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import features
from mm_dagster_tests.regime.markets import real

Series = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """An ordinary series of bars, and the features at their closes."""

    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series
    found: pl.DataFrame
    suffix: str

    def ours(self, name: str) -> Series:
        return self.found[name + self.suffix].cast(pl.Float64).fill_null(math.nan).to_numpy()


@lru_cache
def _candles_and_features(shared_data: Path, symbol: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    candles = real(shared_data, symbol)
    return candles, features.compute(candles, Span(candles["open_time"][0], candles["close_time"][-1]), VOL)


def market(shared_data: Path, symbol: str, step: int, late: int, suffix: str = "") -> Market:
    """Bars of `step` base bars that close `late` base bars after the full hour (or four), and our rows there."""
    candles, found = _candles_and_features(shared_data, symbol)
    bars = (
        candles.group_by_dynamic("open_time", every=step * BAR, offset=late * BAR)
        .agg(
            pl.first("open"),
            pl.max("high"),
            pl.min("low"),
            pl.last("close"),
            pl.sum("volume"),
            as_of=pl.last("close_time"),
            base_bars=pl.len(),
        )
        .filter(pl.col("base_bars") == step)
    )
    rows = bars.select("as_of").join(found, on="as_of", how="left", maintain_order="left")
    prices = (bars[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))
    return Market(*prices, found=rows, suffix=suffix)


VOL = VolatilityConfig()
HOURLY = [("ETH-USDT", 0), ("ETH-USDT", 3), ("ADA-USDT", 2)]
FOUR_HOURLY = [("ETH-USDT", 0), ("ADA-USDT", 11)]


@pytest.fixture(scope="module", params=HOURLY, ids=lambda one: f"{one[0]} {15 * one[1]} min past the hour")
def hourly(shared_data: Path, request: pytest.FixtureRequest) -> Market:
    symbol, late = request.param
    return market(shared_data, symbol, HOUR_BARS, late)


@pytest.fixture(scope="module", params=FOUR_HOURLY, ids=lambda one: f"{one[0]} {15 * one[1]} min past four hours")
def four_hourly(shared_data: Path, request: pytest.FixtureRequest) -> Market:
    symbol, late = request.param
    return market(shared_data, symbol, FOUR_HOUR_BARS, late, "_4h")


@pytest.fixture(scope="module", params=["hourly", "four_hourly"])
def either(request: pytest.FixtureRequest, shared_data: Path) -> list[Market]:
    if request.param == "hourly":
        return [market(shared_data, symbol, HOUR_BARS, late) for symbol, late in HOURLY]
    return [market(shared_data, symbol, FOUR_HOUR_BARS, late, "_4h") for symbol, late in FOUR_HOURLY]


def assert_agree(found: Series, expected: Series, *, bars: int, rtol: float, atol: float = 0.0) -> None:
    """Null exactly while fewer than `bars` bars are there, and from then on equal."""
    assert np.isnan(found[: bars - 1]).all()
    np.testing.assert_allclose(found[bars - 1 :], expected[bars - 1 :], rtol=rtol, atol=atol, equal_nan=False)


def shifted(values: Series, bars: int) -> Series:
    """The values that many bars before."""
    return np.concatenate([np.full(bars, np.nan), values[:-bars]])


def windows(values: Series, width: int) -> Series:
    """The last `width` values at each place, NaN where there are not so many; shape (bars, width)."""
    return sliding_window_view(np.concatenate([np.full(width - 1, np.nan), values]), width)


def cut(recursion: Series, decay: float, length: int) -> Series:
    """A normalised mean over exactly `length` values, from e_t = decay e_(t-1) + (1 - decay) x_t.

    The recursion gives x_(t-j) the weight (1 - decay) decay^j, for ever; what lies `length` and more bars back weighs
    decay^length in all and is the recursion's own value then.
    """
    weight = decay**length
    return (recursion - weight * shifted(recursion, length)) / (1.0 - weight)


# TA-Lib ---------------------------------------------------------------------------------------------------------------


def test_the_atr_is_ta_libs_mean_of_its_true_ranges(either):
    for one in either:
        mean = talib.SMA(talib.TRANGE(one.high, one.low, one.close), 14)
        # TA-Lib keeps a running sum over the whole series and loses some digits on the way.
        assert_agree(one.ours("atr"), mean, bars=15, rtol=1e-10)


@pytest.mark.parametrize(("step", "late", "suffix"), [(HOUR_BARS, 0, ""), (HOUR_BARS, 1, ""), (1, 0, "_15m")])
def test_the_expansion_is_the_ratio_of_two_of_ta_libs_means(shared_data, step, late, suffix):
    one = market(shared_data, "ETH-USDT", step, late, suffix)
    ranges = talib.TRANGE(one.high, one.low, one.close)
    expected = talib.SMA(ranges, 14) / talib.SMA(ranges, 168)
    assert_agree(one.ours("atr_expansion"), expected, bars=169, rtol=1e-10)


def test_the_bollinger_bands_are_ta_libs(hourly):
    upper, middle, lower = talib.BBANDS(hourly.close, 20, 2.0, 2.0)
    # TA-Lib's variance is a mean of squares less a square of a mean: m^2 / s^2 of its digits go, up to six here.
    assert_agree(hourly.ours("bollinger_width"), (upper - lower) / middle, bars=20, rtol=1e-7)
    expected = (hourly.close - lower) / (upper - lower)
    assert_agree(hourly.ours("bollinger_percent_b"), expected, bars=20, rtol=1e-7, atol=1e-7)


def test_the_range_is_ta_libs_highest_and_lowest_of_the_bars_before(hourly):
    high, low = shifted(talib.MAX(hourly.high, 96), 1), shifted(talib.MIN(hourly.low, 96), 1)
    assert_agree(hourly.ours("range_high"), high, bars=97, rtol=0.0)
    assert_agree(hourly.ours("range_low"), low, bars=97, rtol=0.0)
    inside = np.where(np.isnan(high), np.nan, (low <= hourly.close) & (hourly.close <= high))
    assert_agree(hourly.ours("inside_range"), inside, bars=97, rtol=0.0)


def test_the_range_of_base_bars_is_ta_libs_too(shared_data):
    one = market(shared_data, "ETH-USDT", 1, 0, "_15m")
    high, low = shifted(talib.MAX(one.high, 96), 1), shifted(talib.MIN(one.low, 96), 1)
    outside = np.where(np.isnan(high), np.nan, (one.close < low) | (one.close > high))
    assert_agree(one.ours("closes_outside"), outside, bars=97, rtol=0.0)


@pytest.mark.parametrize("span", [12, 26, 50])
def test_an_ema_is_ta_libs_without_what_lies_five_spans_back(either, span):
    decay = 1.0 - 2.0 / (span + 1.0)
    weight = decay ** (5 * span)
    for one in either:
        recursion = talib.EMA(one.close, span)
        # TA-Lib starts with a simple mean of `span` closes, so that value is no recursion yet: skip those bars.
        expected = cut(recursion, decay, 5 * span)
        ours = one.ours(f"ema_{span}")
        start = 6 * span
        np.testing.assert_allclose(ours[start:], expected[start:], rtol=1e-12)
        # weight (e^-10, 4.5e-5) of the difference to the recursion's value five spans ago is all that TA-Lib has more.
        past = np.abs(shifted(recursion, 5 * span) - ours)[start:]
        assert weight < math.exp(-10.0) * 1.01
        assert (np.abs(ours - recursion)[start:] <= weight * past * (1.0 + 1e-6) + 1e-12 * recursion[start:]).all()
        assert_agree(ours, np.where(np.arange(ours.size) < start, ours, recursion), bars=5 * span, rtol=5e-5)


def test_the_adx_is_ta_libs_without_what_lies_140_bars_back(either):
    decay, length = 13.0 / 14.0, 140
    weight = decay**length
    for one in either:
        # Wilder's smoothed movements are sums, 14 times a mean; his smoothing over 14 is an EMA of span 27.
        plus, minus = talib.PLUS_DM(one.high, one.low, 14), talib.MINUS_DM(one.high, one.low, 14)
        both = plus + minus
        plus_cut, minus_cut = cut(plus, decay, length), cut(minus, decay, length)
        index = 100.0 * np.abs(plus_cut - minus_cut) / (plus_cut + minus_cut)
        known = np.flatnonzero(np.isfinite(index))[0]
        smooth = np.full_like(index, np.nan)
        smooth[known:] = talib.EMA(index[known:], 27)
        # Where both recursions, each with its own start, lie wholly before what is cut off.
        start = 2 * length + 60
        ours = one.ours("adx")
        np.testing.assert_allclose(ours[start:], cut(smooth, decay, length)[start:], rtol=1e-9)
        # The movements of 140 bars ago weigh u = weight x (their sum then) / (sum now) in TA-Lib's index, which they
        # can shift by 200 u points of 100 at most; the indices before its window weigh `weight` of 100 in the ADX.
        u = weight * shifted(both, length) / both
        bound = 200.0 * windows(u, length).max(axis=1) + 100.0 * weight
        theirs = talib.ADX(one.high, one.low, one.close, 14)
        late = start + length
        assert (np.abs(ours - theirs)[late:] <= bound[late:]).all()
        assert np.abs(ours - theirs)[late:].max() < 0.05


# statsmodels ----------------------------------------------------------------------------------------------------------


def test_the_ou_fit_is_statsmodels_least_squares(hourly):
    y = np.log(hourly.close)
    pairs = 192
    ours = {name: hourly.ours(name) for name in ("ou_phi", "ou_mu", "ou_sigma", "ou_tau", "half_life", "ou_z")}
    for name, values in ours.items():
        assert np.isnan(values[:pairs]).all(), name
    for t in np.linspace(pairs, y.size - 1, 200).astype(int):
        # Measured from the newest close: least squares do not care, and the oracle keeps all of its digits.
        window = y[t - pairs : t + 1] - y[t]
        fitted = sm.OLS(window[1:], sm.add_constant(window[:-1])).fit()
        intercept, phi = fitted.params
        corrected = (pairs * phi + 1.0) / (pairs - 3.0)
        expected = {
            "ou_phi": phi,
            "ou_mu": y[t] + intercept / (1.0 - phi),
            "ou_sigma": math.sqrt(fitted.mse_resid),
            "ou_tau": (phi - 1.0) / fitted.bse[1],
            "half_life": math.inf if corrected >= 1.0 else math.log(2.0) / -math.log(corrected),
            "ou_z": math.nan,
        }
        if abs(phi) < 1.0:
            expected["ou_z"] = -intercept / (1.0 - phi) / math.sqrt(fitted.mse_resid / (1.0 - phi * phi))
        found = {name: values[t] for name, values in ours.items()}
        assert found == pytest.approx(expected, rel=1e-9, nan_ok=True), t


# arch -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [4, 16])
def test_the_variance_ratio_and_its_z_are_archs(hourly, q):
    assert_variance_ratio_agrees(hourly, 385, q)


def test_the_variance_ratio_of_4_hour_bars_is_archs(four_hourly):
    assert_variance_ratio_agrees(four_hourly, 145, 4)


def assert_variance_ratio_agrees(one: Market, bars: int, q: int) -> None:
    """Nothing differs in the definitions: arch counts returns, not closes, in the z, as Lo and MacKinlay do."""
    y = np.log(one.close)
    ratio, z = one.ours(f"variance_ratio_{q}"), one.ours(f"variance_ratio_{q}_z")
    assert np.isnan(ratio[: bars - 1]).all()
    for t in np.linspace(bars - 1, y.size - 1, 40).astype(int):
        oracle = VarianceRatio(y[t - bars + 1 : t + 1], q, trend="c", overlap=True, debiased=True, robust=True)
        assert ratio[t] == pytest.approx(oracle.vr, rel=1e-10)
        assert z[t] == pytest.approx(oracle.stat, rel=1e-8, abs=1e-10)


# numpy and pandas -----------------------------------------------------------------------------------------------------


def test_the_efficiency_ratio_is_numpys(either):
    for one in either:
        y = np.log(one.close)
        path = np.abs(np.diff(windows(y, 41), axis=1)).sum(axis=1)
        assert_agree(one.ours("efficiency_ratio"), np.abs(y - shifted(y, 40)) / path, bars=41, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("name", "side"), [("high", 1.0), ("low", -1.0)])
def test_the_swings_are_numpys(either, name, side):
    for one in either:
        price = side * getattr(one, name)
        around = windows(price, 7)
        known = np.flatnonzero((around[:, 3] > around[:, :3].max(axis=1)) & (around[:, 3] >= around[:, 4:].max(axis=1)))
        # The bar at which the pivot before the last one known is to be found, -1 where there is none.
        pivots = np.concatenate([[-1, -1], known - 3])
        count = np.searchsorted(known, np.arange(price.size), side="right")
        last, previous = pivots[count + 1], pivots[count]
        fresh = (previous >= 0) & (previous >= np.arange(price.size) - 192)
        expected = np.where(fresh, side * np.sign(price[last] - price[previous]), 0.0)
        assert_agree(one.ours(f"swing_{name}"), expected, bars=196, rtol=0.0)


def test_the_range_volatilities_are_numpys(hourly):
    o, h, low, c = (np.log(prices) for prices in (hourly.open, hourly.high, hourly.low, hourly.close))
    terms = {
        "parkinson": (h - low) ** 2 / (4.0 * math.log(2.0)),
        "garman_klass": 0.5 * (h - low) ** 2 - (2.0 * math.log(2.0) - 1.0) * (c - o) ** 2,
        "rogers_satchell": (h - c) * (h - o) + (low - c) * (low - o),
    }
    for name, term in terms.items():
        assert_agree(hourly.ours(name), np.sqrt(windows(term, 96).mean(axis=1)), bars=96, rtol=1e-11)


def test_the_jump_share_is_numpys(hourly):
    steps = np.diff(np.log(hourly.close), prepend=np.nan)
    bipower = 0.5 * math.pi * windows(np.abs(steps * shifted(steps, 1)), 96).mean(axis=1)
    share = 1.0 - bipower / windows(steps**2, 96).mean(axis=1)
    assert_agree(hourly.ours("jump_share"), np.maximum(share, 0.0), bars=98, rtol=1e-12, atol=1e-13)


NORMAL = 2.0 * scipy.stats.norm.expect(lambda r: r**1.75, lb=0.0)
"""Mean of |r|^1.75 of a standard normal r, integrated numerically."""


@pytest.mark.parametrize("symbol", ["ETH-USDT", "ADA-USDT"])
def test_the_volatility_forecast_is_an_explicit_weighting(shared_data, symbol):
    one = market(shared_data, symbol, 1, 0)
    opened = pd.DatetimeIndex(one.found["as_of"].to_list()) - pd.Timedelta(minutes=15)
    steps = np.diff(np.log(one.close), prepend=np.nan)
    steps[opened.day_of_week >= 5] /= 0.7
    mean = np.zeros(steps.size)
    for hours in (12, 168):
        weights = 0.5 ** (np.arange(24 * hours) / (4 * hours))
        # The first return is not known: until it has left the window, nothing is.
        mean[24 * hours :] += 0.5 * np.convolve(np.abs(steps[1:]) ** 1.75, weights / weights.sum(), "valid")
        mean[: 24 * hours] = np.nan
    # The scale of the normal law whose mean of |r|^1.75 this is.
    expected = 2.0 * (mean / NORMAL) ** (1 / 1.75)
    assert_agree(one.ours("volatility_forecast"), expected, bars=4033, rtol=1e-8)


def test_the_volume_ratio_is_pandas(hourly):
    volume = pd.Series(hourly.volume)
    expected = (volume.rolling(4).mean() / volume.rolling(168).mean()).to_numpy()
    assert_agree(hourly.ours("volume_ratio"), expected, bars=168, rtol=1e-9)


def test_the_half_life_baseline_is_pandas_median_of_half_lives(hourly):
    # To pandas an infinity is a hole; a number beyond all half-lives stands for it.
    beyond = 1e300
    half_life = pd.Series(hourly.ours("half_life")).replace(math.inf, beyond)
    expected = half_life.rolling(720).median().shift(192).to_numpy()
    expected = np.where(expected > beyond / 10.0, math.inf, expected)
    assert_agree(hourly.ours("half_life_baseline"), expected, bars=1104, rtol=1e-15)


def test_the_width_percentile_is_pandas_rank(hourly):
    rank = pd.Series(hourly.ours("bollinger_width")).rolling(169).rank(method="max")
    expected = ((rank - 1.0) / 168.0).to_numpy()
    assert_agree(hourly.ours("bollinger_width_percentile"), expected, bars=188, rtol=1e-15)


@pytest.mark.parametrize("returns", [4, 96])
def test_the_volatility_of_base_bars_is_numpys(shared_data, returns):
    one = market(shared_data, "ETH-USDT", 1, 0, "_15m")
    squares = np.diff(np.log(one.close), prepend=np.nan) ** 2
    expected = np.sqrt(4.0 * windows(squares, returns).mean(axis=1))
    assert_agree(one.ours(f"volatility_{returns}"), expected, bars=returns + 1, rtol=1e-11)


def test_what_a_ticker_shows_is_numpys(shared_data):
    one = market(shared_data, "ETH-USDT", 1, 0)
    assert_agree(one.ours("close"), one.close, bars=1, rtol=0.0)
    expected = 100.0 * (one.close - shifted(one.close, 96)) / shifted(one.close, 96)
    assert_agree(one.ours("change_24h"), expected, bars=97, rtol=1e-9, atol=1e-12)
    assert_agree(one.ours("volume_24h"), windows(one.volume, 96).sum(axis=1), bars=96, rtol=1e-12)


def test_bars_that_polars_cuts_close_on_the_hour_and_beside_it(shared_data):
    for late in (0, 3):
        closes = market(shared_data, "ETH-USDT", HOUR_BARS, late).found["as_of"]
        assert (closes.dt.minute() == 15 * late).all()
        assert (closes.diff().drop_nulls() == timedelta(hours=1)).all()
