"""What selling at once loses against the price, where no book is at hand: a model of it, from candles alone.

half spread + .64 sigma (Q / V)^.83, with sigma the standard deviation of a minute's return, Q what is sold and V what
is traded in a minute, fitted on four books of Binance up to Q / V = .94. Beyond that it is an order of magnitude, no
figure: on small markets 10,000 quote cost 20 to 423 basis points where it is asked for.

Everything is taken one after another and from a window of fixed length, so that a row has the same bits alone and among
thousands, wherever the history begins.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Floats, log_ratio
from mm_dagster.bars import BAR, HOUR_BARS
from mm_dagster.grid.replay import GridTerms, Replay

COEFFICIENT, POWER = 0.64, 0.83
FITTED_TO = 1.0
"""Q over the volume of a minute up to which the model was fitted."""
MOST = 100.0
"""No more minutes of volume are reckoned with: a market that trades nothing would have no end."""
WINDOW_BARS = 32
HALF_LIFE_BARS = HOUR_BARS
_MINUTES = BAR.total_seconds() / 60.0


class Traded(NamedTuple):
    """How a market moves and trades by the minute, shape (bars,) each.

    Attributes:
        sigma: standard deviation of a minute's log return, from the 15-minute returns of the last WINDOW_BARS bars,
            those of an hour ago counted half; NaN where none of them is known.
        volume: traded in a minute, mean of the last hour's known bars, quote currency; NaN where none is known.
    """

    sigma: Floats
    volume: Floats

    def tail(self, bars: int) -> Traded:
        """The newest bars."""
        return Traded(self.sigma[-bars:], self.volume[-bars:])


def traded(closes: Floats, volumes: Floats) -> Traded:
    """Looks back from every bar.

    Args:
        closes: shape (bars,), quote currency, NaN where MISSING; the first bar has no return.
        volumes: likewise, base currency.
    """
    moves = np.full(closes.size, np.nan)
    if closes.size > 1:
        moves[1:] = log_ratio(closes[1:], closes[:-1])
    known = ~np.isnan(moves)
    squares = np.where(known, moves * moves, 0.0)
    weighed, weights = np.zeros(closes.size), np.zeros(closes.size)
    for lag in range(min(WINDOW_BARS, closes.size)):
        weight = 0.5 ** (lag / HALF_LIFE_BARS)
        reach = closes.size - lag
        weighed[lag:] += weight * squares[:reach]
        weights[lag:] += weight * known[:reach]
    worth = closes * volumes
    there = ~np.isnan(worth)
    amounts = np.where(there, worth, 0.0)
    sums, counts = np.zeros(closes.size), np.zeros(closes.size)
    for lag in range(min(HOUR_BARS, closes.size)):
        reach = closes.size - lag
        sums[lag:] += amounts[:reach]
        counts[lag:] += there[:reach]
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.sqrt(weighed / weights / _MINUTES)
        volume = sums / counts / _MINUTES
    return Traded(sigma, volume)


def walked(notional: Floats, market: Traded) -> Floats:
    """What the levels cost beyond the half spread, as a fraction of what is sold.

    Args:
        notional: Q, quote currency, at least 0, shape (n,).
        market: at the same bars.

    Returns:
        Shape (n,); 0 where nothing is sold, NaN where volume or sigma is not known.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        minutes = np.where(notional > 0, np.minimum(notional / market.volume, MOST), 0.0)
    # One by one: a vectorised power may round differently with its place in the array.
    powers = np.array([math.pow(value, POWER) for value in minutes.tolist()], dtype=np.float64)
    return np.where(notional > 0, COEFFICIENT * market.sigma * powers, 0.0)


def capacity(cost: float, half_spread: float, sigma: float, volume: float) -> float:
    """How much can be sold at once before that costs more than so much, quote currency.

    Args:
        cost: fraction, without the fee.
        half_spread: fraction.
        sigma: standard deviation of a minute's log return.
        volume: of a minute, quote currency.

    Returns:
        At most what the model was fitted to, the volume of a minute; 0 where the spread alone costs more.
    """
    left = cost - half_spread
    if left <= 0:
        return 0.0
    if left >= COEFFICIENT * sigma:
        return FITTED_TO * volume
    return volume * math.pow(left / (COEFFICIENT * sigma), 1.0 / POWER)


def beyond_model(notional: Floats, market: Traded) -> np.ndarray:
    """Whether more is sold than the model was fitted to, shape (n,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(notional / market.volume > FITTED_TO)


def lost(grid: GridTerms, notional: Floats, market: Traded) -> Floats:
    """What a sale yields less for it, after the taker fee, quote currency, shape (n,).

    Where volume or sigma is not known, as in the first bar of a life, only the half spread counts: 0.
    """
    fraction = walked(notional, market)
    return np.where(np.isnan(fraction), 0.0, notional * fraction * (1.0 - grid.taker))


def taken_off(grid: GridTerms, lived: Replay, opens: Floats, closes: Floats, market: Traded) -> Replay:
    """A replay whose sales cost what the model says beyond the half spread: what is held, and what the stop sold.

    Args:
        grid: the book that was replayed.
        lived: its replay, whole.
        opens: as replayed.
        closes: likewise.
        market: at every bar of it.
    """
    now = np.where(lived.inventory > 0, lost(grid, lived.inventory * closes, market), 0.0)
    at_stop = np.zeros(closes.size)
    if lived.stopped >= 0:
        # The stop lies below every price of the grid: all cells were held when it was reached.
        bar, price = lived.stopped, min(float(opens[lived.stopped]), grid.stop)
        sold = np.full(1, grid.cells * grid.held * price)
        at_stop[bar:] = lost(grid, sold, Traded(market.sigma[bar : bar + 1], market.volume[bar : bar + 1]))
    return lived._replace(
        cash=lived.cash - at_stop,
        exit_pnl=lived.exit_pnl - at_stop,
        unrealised_pnl=lived.unrealised_pnl - now,
        total_pnl=lived.total_pnl - now - at_stop,
        liquidation_value=lived.liquidation_value - now - at_stop,
        # The other path holds a cell more or less: what that changes here is less than what it is known to.
        liquidation_value_optimistic=lived.liquidation_value_optimistic - now - at_stop,
    )
