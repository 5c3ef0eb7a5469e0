"""Four strategies, each one function from the candles of one market to a position at every bar.

A strategy is handed a frame with one row a quarter hour, ascending, without holes in time: `symbol`, `open_time`,
`open`, `high`, `low`, `close`, `volume`, and `funding_rate`, the payment that falls due as the bar closes. Prices are
null at a MISSING bar, rates wherever nothing is paid. It gives a position for each row, a share of the capital: 1 is
all of it in the market, -1 all of it sold short, 0 nothing. The position of a row is decided when its bar closes, from
that row and those before it, and held from the next bar's open on.

These four look back on a bounded window counted in absolute bar numbers, so that a position does not depend on where
the candles start, to the bit; where their window is not known they hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, kernel, natural_log
from mm_dagster.bars import DAY_BARS, HOUR_BARS, bar_numbers
from mm_dagster.config.strategies import Carry, Range, Reversion, Signals, Trend
from mm_dagster.regime.windows import windowed_moments, windowed_range

Strategy = Callable[[pl.DataFrame], Floats]
"""From the candles of one market, shape (bars,), to a position at each, shape (bars,)."""

COLUMNS = ("symbol", "open_time", "open", "high", "low", "close", "volume", "funding_rate")
"""What a strategy is handed."""


def trend_following(candles: pl.DataFrame, settings: Trend | None = None) -> Floats:
    """Time-series momentum: long after a rise, short after a fall; -1, 0 or 1.

    Formula: sign(ln(c_t / c_(t-L))), L = 28 days, decided every 24 hours.
    Source: Moskowitz, Ooi, Pedersen (2012); of cryptocurrencies over one to four weeks Liu, Tsyvinski (2021).
    """
    chosen = settings or Trend()
    return _every(candles, _sign_of_return(_known(candles, "close"), chosen.days * DAY_BARS), chosen.step_hours)


def mean_reversion(candles: pl.DataFrame, settings: Reversion | None = None) -> Floats:
    """Against a close that is far from its mean, until it is near again; -1, 0 or 1.

    Formula: z = (ln c - mean) / deviation over 96 hours; a position against z from abs(z) >= 2 on until abs(z) < .5 or
    the other side is reached, folded over the last 240 hours from nothing.
    Source: the s-score of Avellaneda, Lee (2010), on the price itself; Bollinger (2001) for the bands.
    """
    chosen = settings or Reversion()
    price = natural_log(_known(candles, "close"))
    mean, deviation = (one[0] for one in windowed_moments(price[None], chosen.hours * HOUR_BARS))
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.where(deviation > 0, (price - mean) / deviation, np.nan)
    return _folded(away, chosen.enter, chosen.leave, chosen.memory_hours * HOUR_BARS)


def range_trading(candles: pl.DataFrame, settings: Range | None = None) -> Floats:
    """What a grid holds: the more the lower the close lies in its range, nothing outside of it; 0 to 1, as on spot.

    Formula: 1 - (c - l) / (h - l) in steps of a quarter, h and l the extremes of the 96 hours before the bar; decided
    every hour.
    Source: the trading range of Brock, Lakonishok, LeBaron (1992), held instead of its break; Donchian (1960).
    """
    chosen = settings or Range()
    close, width = _known(candles, "close"), chosen.hours * HOUR_BARS
    first = int(bar_numbers(candles["open_time"])[0]) if candles.height else 0
    found = windowed_range(_known(candles, "high")[None], _known(candles, "low")[None], width, first)
    highest, lowest = (np.concatenate([[np.nan], one[0, :-1]])[: close.size] for one in found)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = (close - lowest) / (highest - lowest)
    inside = (place >= 0) & (place <= 1)
    held = np.floor((1 - np.where(inside, place, 1.0)) * chosen.steps + 0.5) / chosen.steps
    return _every(candles, held, chosen.step_hours)


def funding_carry(candles: pl.DataFrame, settings: Carry | None = None) -> Floats:
    """On the side that is paid: short while longs pay, long while shorts do; -1 to 1, nothing without rates.

    Formula: -clip(mean rate of the last 21 payments / .0002, -1, 1), decided every 8 hours.
    Source: carry as in Koijen, Moskowitz, Pedersen, Vrugt (2018); of perpetuals Schmeling, Schrimpf, Todorov (2023),
    whose carry is hedged by spot; this one is not, and so has the risk of the price.
    """
    chosen = settings or Carry()
    rates = _known(candles, "funding_rate")
    paid = np.flatnonzero(np.isfinite(rates))
    held = np.zeros(rates.size)
    if paid.size >= chosen.payments:
        windows = np.lib.stride_tricks.sliding_window_view(rates[paid], chosen.payments)
        means = np.array([float(np.sum(one)) for one in windows]) / chosen.payments
        place = np.searchsorted(paid, np.arange(rates.size), side="right") - chosen.payments
        known = place >= 0
        held[known] = -np.clip(means[place[known]] / chosen.full_at, -1.0, 1.0)
        # After a week without a payment the rate is not known.
        since = np.arange(rates.size) - paid[np.maximum(place + chosen.payments - 1, 0)]
        held[since > 7 * DAY_BARS] = 0.0
    return _every(candles, held, chosen.step_hours)


def strategies_of(settings: Signals) -> dict[str, Strategy]:
    """The four by name, each with its settings."""
    return {
        "trend_following": lambda candles: trend_following(candles, settings.trend),
        "mean_reversion": lambda candles: mean_reversion(candles, settings.reversion),
        "range_trading": lambda candles: range_trading(candles, settings.range),
        "funding_carry": lambda candles: funding_carry(candles, settings.carry),
    }


def lead_bars(settings: Signals) -> int:
    """How many bars before a position the candles must begin, so that an earlier start changes nothing."""
    trend, reversion, range_, carry = settings.trend, settings.reversion, settings.range, settings.carry
    return 1 + max(
        trend.days * DAY_BARS + trend.step_hours * HOUR_BARS,
        (reversion.hours + reversion.memory_hours) * HOUR_BARS,
        (range_.hours + range_.step_hours) * HOUR_BARS,
        # At one payment a day at least.
        carry.payments * DAY_BARS + carry.step_hours * HOUR_BARS,
    )


def _known(candles: pl.DataFrame, column: str) -> Floats:
    """A column, NaN where it is null."""
    return candles[column].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)


def _sign_of_return(close: Floats, bars: int) -> Floats:
    sign = np.zeros(close.size)
    if close.size > bars:
        with np.errstate(invalid="ignore"):
            sign[bars:] = np.sign(close[bars:] - close[:-bars])
    return np.nan_to_num(sign)


def _every(candles: pl.DataFrame, wanted: Floats, hours: int) -> Floats:
    """A position that changes only when a bar closes at a multiple of some hours since the epoch; before it nothing."""
    closes = bar_numbers(candles["open_time"]) + 1
    decided = np.arange(wanted.size) - closes % (hours * HOUR_BARS)
    return np.where(decided >= 0, wanted[np.maximum(decided, 0)], 0.0)


@kernel
def _folded(away: Floats, enter: float, leave: float, memory: int) -> Floats:
    """The position against z at each bar; see `mean_reversion`."""
    held = np.zeros(away.size)
    for bar in range(away.size):
        if np.isnan(away[bar]):
            continue
        first = max(0, bar - memory + 1)
        # The newest bar after which the position is the same, whatever it was before.
        start = bar
        while start > first and not (abs(away[start]) >= enter or abs(away[start]) < leave):
            start -= 1
        state = 0.0
        for place in range(start, bar + 1):
            z = away[place]
            if z >= enter:
                state = -1.0
            elif z <= -enter:
                state = 1.0
            elif abs(z) < leave:
                state = 0.0
            elif z > 0:
                state = min(state, 0.0)
            elif z < 0:
                state = max(state, 0.0)
        held[bar] = state
    return held
