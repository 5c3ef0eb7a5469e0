"""Every feature, one definition each, on bars of any length: hourly, 4-hour or base bars alike.

Each function takes `rolling.Bars` and returns arrays of the same shape, NaN for null, flags as 0 and 1. What it
says of its warm-up a test holds against `features.definitions`, and another one both against the data.

In the formulas t is the newest bar, o, h, l, c, v are its prices and volume, y = ln(c), r = y_t - y_(t-1), TR is the
true range, and "mean of n x" is that of the last n. The warm-up is what a value needs, in bars of its own series, the
newest included.

What all of them share: null while the symbol's history is shorter than the warm-up, when the newest bar is MISSING,
when less than 90 % of a window (of its weight, where weights decay) is known, and where a quotient is 0/0 or anything
would be infinite, but for half-lives. MISSING bars are skipped; no return and no true range reaches across one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

import numpy as np

from mm_dagster.arrays import Floats, natural_log
from mm_dagster.bars import DAY_BARS, HOUR_BARS, WEEK_BARS, weekend_bars
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import ornstein_uhlenbeck
from mm_dagster.regime.median import windowed_median
from mm_dagster.regime.powers import power
from mm_dagster.regime.rolling import Bars
from mm_dagster.regime.terms import (
    bands,
    change,
    directional_index,
    directional_movement,
    efficiency,
    growth,
    is_inside,
    mixed,
    neighbours,
    quotient,
    range_terms,
    seasonless_sizes,
    share_above,
    swing,
    true_ranges,
)
from mm_dagster.regime.variance_ratio import variance_ratio as ratio_and_z
from mm_dagster.regime.windows import (
    decayed_mean,
    windowed_mean,
    windowed_moments,
    windowed_range,
    windowed_rank,
)

P = ParamSpec("P")
Result = TypeVar("Result")

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
EMA_LENGTH = 5
"""Windows of the EMAs, in spans."""
ADX_PERIOD = 14
ADX_WINDOW = 140
VOLATILITY = 96
FORECAST_LENGTH = 6
"""Windows of the forecast, in half-lives."""
VOLUME_SHORT = 4
VOLUME_LONG = 168


def _shared(function: Callable[Concatenate[Bars, P], Result]) -> Callable[Concatenate[Bars, P], Result]:
    """Computes once what several indicators need of the same bars."""

    @wraps(function)
    def once(bars: Bars, *args: P.args, **kwargs: P.kwargs) -> Result:
        key = (function.__name__, *args)
        if key not in bars.shared:
            bars.shared[key] = function(bars, *args, **kwargs)
        found: Result = bars.shared[key]
        return found

    return cast(Callable[Concatenate[Bars, P], Result], once)


def close(bars: Bars) -> Floats:
    """Closing price.

    Formula: c.
    Source: the venue.
    Unit: quote currency.
    Window: 1 bar.
    Warm-up: 1 bar.
    """
    return bars.close.copy()


def change_24h(bars: Bars) -> Floats:
    """Change of the price over 24 hours, on base bars.

    Formula: 100 (c_t / c_(t-96) - 1).
    Source: as tickers show it.
    Unit: percent.
    Window: two closes, 96 bars apart.
    Warm-up: 97 bars.
    Null: also when the older bar is MISSING.
    """
    return growth(bars.close, DAY_BARS, bars.lanes)


def volume_24h(bars: Bars) -> Floats:
    """Volume of 24 hours, on base bars.

    Formula: 96 (mean of 96 v).
    Source: as tickers show it.
    Unit: base currency.
    Window: 96 bars.
    Warm-up: 96 bars.
    """
    mean = windowed_mean(bars.volume, DAY_BARS, bars.anchor, bars.lanes)
    return np.multiply(mean, DAY_BARS, out=mean)


def volume_ratio(bars: Bars) -> Floats:
    """Volume now against that of a week.

    Formula: (mean of 4 v) / (mean of 168 v).
    Source: relative volume, common usage.
    Unit: a ratio; 1 is as usual.
    Window: 168 bars.
    Warm-up: 168 bars.
    Null: also when a week had no volume at all.
    """
    short, long = (windowed_mean(bars.volume, width, bars.anchor, bars.lanes) for width in (VOLUME_SHORT, VOLUME_LONG))
    return quotient(short, long)


def bollinger(bars: Bars) -> tuple[Floats, Floats]:
    """Bollinger bands: their width, and where the price lies in them.

    Formula: m and s the mean and population standard deviation of 20 c; width 4 s / m, %B 1/2 + (c - m) / (4 s).
    Source: Bollinger (2001).
    Unit: fraction of the price; %B 0 at the lower band and 1 at the upper.
    Window: 20 bars.
    Warm-up: 20 bars.
    Null: %B also in a flat window.
    """
    return _band(bars)


def bollinger_width_percentile(bars: Bars) -> Floats:
    """How narrow the Bollinger bands are, for a week.

    Formula: share of the 168 widths before that are not above the present one.
    Source: Bollinger (2001), there called BandWidth relative to its history.
    Unit: share, 0 to 1.
    Window: 168 widths of 20 bars each.
    Warm-up: 188 bars.
    """
    return windowed_rank(_band(bars)[0], WIDTH_RANK, bars.lanes)


def donchian(bars: Bars) -> tuple[Floats, Floats, Floats]:
    """The range: resistance, support, and whether the price is still inside.

    Formula: highest h and lowest l of the 96 bars BEFORE t; inside: lowest <= c <= highest.
    Source: Donchian (1960).
    Unit: quote currency; inside is true or false.
    Window: 96 bars, and the newest.
    Warm-up: 97 bars.
    """
    high, low = _range(bars)
    return high, low, is_inside(bars.close, high, low)


def closes_outside(bars: Bars) -> Floats:
    """Whether the price has left the range.

    Formula: c below the lowest l or above the highest h of the 96 bars BEFORE t.
    Source: Donchian (1960).
    Unit: true or false.
    Window: 96 bars, and the newest.
    Warm-up: 97 bars.
    """
    inside = is_inside(bars.close, *_range(bars))
    return np.subtract(1.0, inside, out=inside)


@_shared
def average_true_range(bars: Bars) -> Floats:
    """Average true range.

    Formula: mean of 14 TR, TR = max(h - l, abs(h - c_(t-1)), abs(l - c_(t-1))).
    Source: Wilder (1978); a simple mean in place of his smoothing, which never forgets.
    Unit: quote currency.
    Window: 14 true ranges.
    Warm-up: 15 bars.
    """
    return windowed_mean(_true_range(bars), ATR, bars.anchor, bars.lanes)


def atr_expansion(bars: Bars) -> Floats:
    """Expansion of the true range against its week.

    Formula: (mean of 14 TR) / (mean of 168 TR).
    Source: Wilder (1978) for the true range.
    Unit: a ratio; 1 is as usual.
    Window: 168 true ranges.
    Warm-up: 169 bars.
    Null: also in a flat window.
    """
    return quotient(average_true_range(bars), windowed_mean(_true_range(bars), ATR_LONG, bars.anchor, bars.lanes))


@_shared
def mean_reversion(bars: Bars) -> tuple[Floats, ...]:
    """Ornstein-Uhlenbeck fit: whether the price comes back, to where, and how fast.

    Formula: least squares of y_i on y_(i-1): intercept a, slope phi, N pairs, RSS the residual sum of squares.
    mu = a / (1 - phi); sigma = sqrt(RSS / (N - 2)); tau = (phi - 1) / se(phi); half-life ln 2 / -ln phi_c with
    phi_c = (N phi + 1) / (N - 3), +inf for phi_c >= 1 and 0 for phi_c <= 0; z = (y - mu) sqrt(1 - phi^2) / sigma.
    Source: Vasicek (1977) for the fit; Kendall (1954) for the bias of phi; Dickey and Fuller (1979) for tau.
    Unit: mu log price; sigma log price per bar; half-life bars, that is hours; the others are numbers.
    Window: 192 pairs.
    Warm-up: 193 bars.
    Null: also in a flat window; mu for phi = 1, z for abs(phi) >= 1, tau and z of a perfect fit.
    """
    return ornstein_uhlenbeck.fit(bars.log_close, OU_PAIRS, bars.anchor, bars.lanes)


def half_life_baseline(bars: Bars) -> Floats:
    """What half-life was usual in the month before.

    Formula: median of 720 half-lives, the newest of them 192 bars before t. May be infinite.
    Source: ours, over Vasicek (1977).
    Unit: bars, that is hours.
    Window: 720 fits of 193 bars each, ending 192 bars before the newest.
    Warm-up: 1104 bars.
    """
    return windowed_median(mean_reversion(bars)[4], BASELINE, bars.lanes, BASELINE_LAG)


def efficiency_ratio(bars: Bars) -> Floats:
    """Efficiency ratio: the way gone over the path taken.

    Formula: abs(y_t - y_(t-40)) / (sum of 40 abs(r)).
    Source: Kaufman (1995).
    Unit: share; 0 is to and fro, 1 straight.
    Window: 40 returns.
    Warm-up: 41 bars.
    Null: also in a flat window, and when the bar at its far end is MISSING.
    """
    steps = windowed_mean(np.abs(_returns(bars)), EFFICIENCY, bars.anchor, bars.lanes)
    return efficiency(bars.log_close, steps, EFFICIENCY, bars.lanes)


def swings(bars: Bars) -> tuple[Floats, Floats]:
    """Higher or lower swing highs, and swing lows.

    Formula: sign of the last pivot high minus the one before, 0 with fewer than two; likewise of lows. A pivot is
    above the 3 bars before it and not below the 3 after, so it is known 3 bars later; none touches a MISSING bar.
    Source: Williams (1995), fractals.
    Unit: -1 lower, 0 equal or unknown, 1 higher.
    Window: pivots of the last 192 bars, and their sides.
    Warm-up: 196 bars.
    """
    high, low = (
        swing(prices, SWINGS, PIVOT_SIDE, direction, bars.lanes)
        for prices, direction in ((bars.high, 1.0), (bars.low, -1.0))
    )
    return high, low


def exponential_average(bars: Bars, span: int) -> Floats:
    """Exponential moving averages, cut after 5 spans.

    Formula: sum lambda^j c_(t-j) / sum lambda^j, lambda = 1 - 2 / (span + 1), j = 0 ... 5 span - 1.
    Source: common usage; cut, since a recursion never forgets where its data began.
    Unit: quote currency.
    Window: 5 spans.
    Warm-up: 5 spans: 60, 130 and 250 bars.
    """
    return decayed_mean(bars.close, 1.0 - 2.0 / (span + 1.0), EMA_LENGTH * span, bars.anchor, bars.lanes)


def adx(bars: Bars) -> Floats:
    """Average directional index, 0 to 100.

    Formula: S the mean with weights (13/14)^j over 140 bars; +DM = h_t - h_(t-1) where that is positive and above
    l_(t-1) - l_t, else 0, -DM likewise; DX = 100 abs(S(+DM) - S(-DM)) / (S(+DM) + S(-DM)); ADX = S(DX).
    The smoothed true range that divides both movements cancels in DX.
    Source: Wilder (1978); cut after 140 bars, since his smoothing never forgets.
    Unit: 0 to 100.
    Window: 140 values of DX, each from 140 movements.
    Warm-up: 280 bars.
    Null: also where nothing has moved in either direction.
    """
    decay = 1.0 - 1.0 / ADX_PERIOD
    plus, minus = (
        decayed_mean(moved, decay, ADX_WINDOW, bars.anchor, bars.lanes)
        for moved in directional_movement(bars.high, bars.low, bars.lanes)
    )
    return decayed_mean(directional_index(plus, minus, bars.close), decay, ADX_WINDOW, bars.anchor, bars.lanes)


def variance_ratio(bars: Bars, returns: int, q: int) -> tuple[Floats, Floats]:
    """Variance ratio: whether returns add up (above 1) or cancel out (below 1), and its z.

    Formula: variance of q-bar returns over q times that of 1-bar returns, overlapping, debiased;
    z robust to heteroscedasticity.
    Source: Lo and MacKinlay (1988).
    Unit: a ratio, and standard deviations.
    Window: 384 returns, 144 of 4 hours.
    Warm-up: 385 bars, 145 of 4 hours.
    Null: also in a flat window.
    """
    square_mean = _mean_square(bars, returns)
    return ratio_and_z(bars.log_close, _returns(bars), square_mean, returns, q, bars.anchor, bars.lanes)


def range_volatility(bars: Bars) -> tuple[Floats, Floats, Floats]:
    """Volatility from the range of each bar.

    Formula: with u = ln(h/l) and d = ln(c/o): Parkinson sqrt(mean of 96 u^2 / (4 ln 2)); Garman-Klass
    sqrt(mean of 96 (u^2 / 2 - (2 ln 2 - 1) d^2)); Rogers-Satchell
    sqrt(mean of 96 (ln(h/c) ln(h/o) + ln(l/c) ln(l/o))).
    Source: Parkinson (1980); Garman and Klass (1980); Rogers and Satchell (1991).
    Unit: log price per square root of a bar.
    Window: 96 bars.
    Warm-up: 96 bars.
    Null: Garman-Klass also where its mean is below 0.
    """
    opens, highs, lows = (natural_log(price) for price in (bars.open, bars.high, bars.low))
    terms = range_terms(opens, highs, lows, bars.log_close)
    parkinson, garman_klass, rogers_satchell = (
        windowed_mean(term, VOLATILITY, bars.anchor, bars.lanes) for term in terms
    )
    parkinson /= 4.0 * math.log(2.0)
    return _roots(parkinson), _roots(garman_klass), _roots(rogers_satchell)


def jump_share(bars: Bars) -> Floats:
    """Share of jumps in the realised variance.

    Formula: max(0, 1 - BV / RV); BV = pi/2 (mean of 96 abs(r_t r_(t-1))), RV = mean of 96 r^2.
    Source: Barndorff-Nielsen and Shephard (2004).
    Unit: share, 0 to 1.
    Window: 96 returns, and one before.
    Warm-up: 98 bars.
    Null: also in a flat window.
    """
    both = windowed_mean(neighbours(_returns(bars), bars.lanes), VOLATILITY, bars.anchor, bars.lanes)
    return share_above(both, _mean_square(bars, VOLATILITY))


def volatility_forecast(bars: Bars, vol: VolatilityConfig) -> Floats:
    """Forecast standard deviation of one hourly log return on a weekday, from base bars.

    Formula: 2 ((w EWMA(|r/s|^p; half-life 12 h) + (1 - w) EWMA(|r/s|^p; half-life 168 h)) / m)^(1/p), w = 1/2, p =
    1.75, each mean cut after 6 half-lives and divided by the sum of its weights; s = 0.7 of a bar that opens on a
    Saturday or a Sunday, UTC, else 1; m is the mean of |z|^p of a standard normal z, 2^(p/2) Gamma((p+1)/2) / sqrt(pi).
    A power below 2 lets a single jump weigh less than its square would. What it is for some hours ahead depends on how
    much of them is weekend: `grid.touch.forecast`. Half-lives, w, p and s are `risk.vol` of the configuration.
    Source: RiskMetrics (1996) for the EWMA; Corsi (2009) for two horizons; Ding, Granger and Engle (1993), Forsberg and
    Ghysels (2007) for powers below 2; Andersen and Bollerslev (1998) for returns within the hour, and (1997), there by
    hours of the day, for the season.
    Unit: log price per square root of an hour, one standard deviation of a normal return.
    Window: 6 half-lives, 288 and 4032 returns.
    Warm-up: 4033 bars.
    """
    week = np.arange(bars.anchor, bars.anchor + WEEK_BARS)
    season = np.repeat(np.where(weekend_bars(week, 1) == 1, vol.weekend, 1.0), bars.lanes)
    powers = power(seasonless_sizes(_returns(bars), season), vol.power)
    fast, slow = (
        decayed_mean(powers, 0.5 ** (1.0 / half_life), FORECAST_LENGTH * half_life, bars.anchor, bars.lanes)
        for half_life in (HOUR_BARS * vol.half_life_fast_hours, HOUR_BARS * vol.half_life_slow_hours)
    )
    normal = 2.0 ** (vol.power / 2.0) * math.gamma((vol.power + 1.0) / 2.0) / math.sqrt(math.pi)
    forecast = power(mixed(fast, slow, vol.weight_fast, normal), 1.0 / vol.power)
    return np.multiply(forecast, math.sqrt(HOUR_BARS), out=forecast)


def realised_volatility(bars: Bars, returns: int) -> Floats:
    """Realised volatility of the last base bars.

    Formula: sqrt(4 (mean of n r^2)), n = 4 and 96.
    Source: Andersen and Bollerslev (1998).
    Unit: log price per square root of an hour.
    Window: 4 and 96 returns.
    Warm-up: 5 and 97 bars.
    """
    return _roots(_mean_square(bars, returns) * HOUR_BARS)


@_shared
def _returns(bars: Bars) -> Floats:
    return change(bars.log_close, bars.lanes)


@_shared
def _mean_square(bars: Bars, returns: int) -> Floats:
    return windowed_mean(_returns(bars), returns, bars.anchor, bars.lanes, squared=True)


@_shared
def _true_range(bars: Bars) -> Floats:
    return true_ranges(bars.high, bars.low, bars.close, bars.lanes)


@_shared
def _band(bars: Bars) -> tuple[Floats, Floats]:
    """Width of the Bollinger bands, and %B."""
    return bands(bars.close, *windowed_moments(bars.close, BOLLINGER, bars.lanes))


def _range(bars: Bars) -> tuple[Floats, Floats]:
    return windowed_range(bars.high, bars.low, RANGE, bars.anchor, bars.lanes)


def _roots(squares: Floats) -> Floats:
    """In place; NaN below 0."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(squares, out=squares)
