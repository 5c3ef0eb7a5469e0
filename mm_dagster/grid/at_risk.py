"""What is at stake in a grid at a bar: to the stop, over the operator's response, and in cash that it still needs.

All three look at one move: the price falls from P straight to a level x. The waiting buys at or above x fill on the
way, each at its cost c_i, and what is then held is worth x times (1 - slippage) (1 - taker fee) a unit, call it x v.
With B held before and h a cell, the liquidation value falls by

    loss(P, x) = E(P) - E(x) = B (P - x) v + sum of (c_i - h x v) over the waiting cells with x <= p_i

where c_i is q p_i (1 + maker fee), or q p_i when the buy's fee is taken in base and h is q (1 - maker fee). A cell
that is empty always waits below the price, so the sums are differences of the book's prefix sums. Where the slippage
is modelled, v has the half spread, and what the levels cost beyond it is taken off E(P) and E(x), each for what is then
sold at the volume and volatility of the bar.
"""

from __future__ import annotations

import math

import numpy as np

from mm_dagster.arrays import Floats, Integers, kernel
from mm_dagster.grid import slippage
from mm_dagster.grid.replay import GridTerms, Replay
from mm_dagster.grid.slippage import Traded


def capital_at_risk(grid: GridTerms, lived: Replay, closes: Floats, market: Traded | None = None) -> Floats:
    """loss(P, S): what is lost from here to the stop S, its fills on the way and the sale there included.

    Equal to E(P) - [cash - sum of c_i + (B + k h) S v] over the k waiting cells, since all of them lie above S.

    Args:
        grid: the book that was replayed.
        lived: its replay.
        closes: the closes that were replayed, shape (bars,), quote currency.
        market: at the same bars, where the slippage is modelled.

    Returns:
        Shape (bars,), quote currency; NaN where the close is, 0 from the stop on.
    """
    return _fallen_to(np.full(closes.size, grid.stop), grid, lived, closes, market)


def profit_giveback(
    grid: GridTerms,
    lived: Replay,
    closes: Floats,
    sigma: Floats,
    hours: float,
    sigmas: float = 1.645,
    market: Traded | None = None,
) -> Floats:
    """loss(P, x) with x = max(S, P exp(-sigmas sigma sqrt(hours))): what waiting for the operator may cost.

    With the default the fall is exceeded in 1 of 20 cases if log returns are normal and the price is looked at once,
    at the end.

    Args:
        grid: the book that was replayed.
        lived: its replay.
        closes: the closes that were replayed, shape (bars,), quote currency.
        sigma: forecast standard deviation of one hourly log return over these hours, shape (bars,), NaN where unknown.
        hours: how long the operator takes.
        sigmas: how many standard deviations of the log price over that time the fall is.
        market: at the same bars, where the slippage is modelled.

    Returns:
        Shape (bars,), quote currency; NaN where close or sigma is, 0 from the stop on.
    """
    spread = sigmas * sigma * math.sqrt(hours)
    # One by one: a vectorised exponential may round differently with its place in the array.
    fall = np.array([math.exp(-value) for value in spread.tolist()], dtype=np.float64)
    return _fallen_to(np.maximum(closes * fall, grid.stop), grid, lived, closes, market)


def _fallen_to(levels: Floats, grid: GridTerms, lived: Replay, closes: Floats, market: Traded | None) -> Floats:
    """loss(P, x) for the levels x."""
    lost = _loss(grid, lived.waiting, lived.inventory, closes, levels)
    if market is None:
        return lost
    below = np.minimum(lived.waiting, np.searchsorted(grid.prices[:-1], levels))
    held = lived.inventory + (lived.waiting - below) * grid.held
    dearer = slippage.lost(grid, held * levels, market) - slippage.lost(grid, lived.inventory * closes, market)
    return np.where(held > 0, lost + dearer, lost)


def share_of_profit(giveback: Floats, grid_profit: Floats) -> Floats:
    """Give-back over the realised grid profit, shape (bars,); NaN where nothing was earned yet."""
    return giveback / np.where(grid_profit > 0, grid_profit, np.nan)


def required_cash(grid: GridTerms, lived: Replay) -> Floats:
    """What the waiting buys need when they all fill, sum of c_i, shape (bars,), quote currency; 0 from the stop on."""
    return grid.cost[lived.waiting]


@kernel
def _loss(grid: GridTerms, waits: Integers, inventories: Floats, closes: Floats, levels: Floats) -> Floats:
    """loss(P, x) at every bar; nothing held and nothing waiting loses nothing, whatever is unknown."""
    losses = np.zeros(closes.size)
    for bar in range(closes.size):
        waiting, inventory, level = waits[bar], inventories[bar], levels[bar]
        if inventory == 0.0 and waiting == 0:
            continue
        below = min(waiting, np.searchsorted(grid.prices[:-1], level))
        filled = (grid.cost[waiting] - grid.cost[below]) - (waiting - below) * grid.held * level * grid.sold_for
        losses[bar] = inventory * (closes[bar] - level) * grid.sold_for + filled
    return losses
