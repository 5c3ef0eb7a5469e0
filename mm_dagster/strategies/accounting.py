"""What positions would have earned: filled at the next open, with fees, half a spread and funding payments.

A position is a share of a capital that stays the same: profit is not reinvested, returns add up. Shifting a schedule of
positions by days against the prices needs no replay: what the positions of one day would have earned on the prices of
another is one product of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Flags, Floats
from mm_dagster.bars import DAY_BARS


@dataclass(frozen=True)
class Prices:
    """What a position earns on one market, on bars of whole days; n bars, shape (n,) each.

    Attributes:
        returns: from the open of each bar to that of the next one, of the last bar to its close; fraction. 0 where no
            price was known yet.
        tradable: whether something can be bought or sold as the bar opens.
        funding: what a long position of 1 pays as the bar closes, fraction.
        known: days on which a price was known, shape (days,).
    """

    returns: Floats
    tradable: Flags
    funding: Floats
    known: Flags


@dataclass(frozen=True)
class Earned:
    """What the positions of one market earned; n bars of whole days, shape (n,) each, shares of the capital.

    Attributes:
        held: position through each bar, decided at a bar before it.
        traded: how much was bought or sold as the bar opened.
        gross: by the price.
        cost: of what was traded: fee and half spread.
        funding: what was paid; below 0 it was received.
    """

    held: Floats
    traded: Floats
    gross: Floats
    cost: Floats
    funding: Floats

    @property
    def net(self) -> Floats:
        """All together, by bar, shape (n,)."""
        return self.gross - self.cost - self.funding


def prices_of(opens: Floats, closes: Floats, funding: Floats) -> Prices:
    """Prices of whole days as returns.

    Args:
        opens: shape (n,), NaN where the bar is not known; n divides by the bars of a day.
        closes: likewise.
        funding: rate that falls due as the bar closes, NaN or 0 where none does, shape (n,).
    """
    # Where a bar is not known its price is the last one that was.
    both = np.column_stack([opens, closes]).ravel()
    place = np.maximum.accumulate(np.where(np.isfinite(both), np.arange(both.size), -1))
    carried = np.where(place >= 0, both[np.maximum(place, 0)], np.nan)
    path = np.append(carried[::2], carried[-1:])
    returns = np.nan_to_num(path[1:] / path[:-1] - 1)
    tradable = np.isfinite(opens)
    return Prices(
        returns, tradable, np.nan_to_num(funding), np.logical_or.reduce(tradable.reshape(-1, DAY_BARS), axis=1)
    )


def earned(position: Floats, prices: Prices, cost: float) -> Earned:
    """What positions earn.

    Args:
        position: decided as each bar closes, shape (n,), finite.
        prices: of the same bars.
        cost: of each side, fraction of what is traded.
    """
    # What is wanted at a bar that cannot be traded waits for the next one that can.
    wanted = np.append([0.0], position[:-1])
    place = np.maximum.accumulate(np.where(prices.tradable, np.arange(wanted.size), -1))
    held = np.where(place >= 0, wanted[np.maximum(place, 0)], 0.0)
    traded = np.abs(np.diff(held, prepend=0.0))
    return Earned(held, traded, held * prices.returns, cost * traded, held * prices.funding)


def by_day(values: Floats) -> Floats:
    """Sums by day, shape (days,)."""
    return values.reshape(-1, DAY_BARS).sum(axis=1)


def exposure(found: Earned, prices: Prices) -> float:
    """The mean position on the days on which a price was known; 0 where none was."""
    held = found.held.reshape(-1, DAY_BARS)[prices.known]
    return float(held.mean()) if held.size else 0.0


def at_other_days(found: Earned, prices: Prices) -> Floats:
    """What the positions of each day would have earned on the prices of each other day, cost and funding included.

    Returns:
        Shape (days, days): row d, column e is the day d of positions on the day e of prices. What is traded at midnight
        costs as it did.
    """
    held = found.held.reshape(-1, DAY_BARS)
    moves = (prices.returns - prices.funding).reshape(-1, DAY_BARS)
    # Not BLAS: its threads wait for each other longer than such small sums take, and add in another order.
    return np.einsum("db,eb->de", held, moves) - by_day(found.cost)[:, None]


def shifted(days: Floats, least: int) -> Floats:
    """Daily results of the same schedule begun on other days.

    Args:
        days: as `at_other_days`, shape (days, days).
        least: fewest days that it is shifted by, either way round.

    Returns:
        Shape (shifts, days): one row for each shift, going on from the last day to the first.
    """
    count = days.shape[0]
    shifts = np.arange(least, count - least + 1)
    place = np.arange(count)
    return days[(place[None] - shifts[:, None]) % count, place[None]]
