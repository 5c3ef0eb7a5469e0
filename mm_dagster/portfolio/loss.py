"""What a grid would lose along paths of prices: its own replay, on logarithms, from where it stands now.

The same path within a bar and the same accounting as `grid.replay`, the stop included; a test holds that both give the
same money. Logarithms of prices come in, so that a path costs one multiplication a price, and only what is sold at the
end, or at a stop that a bar opened below, needs an exponential.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Flags, Floats, Integers, kernel, natural_log
from mm_dagster.bars import DAY_BARS
from mm_dagster.grid.replay import GridTerms
from mm_dagster.grid.slippage import COEFFICIENT, MOST, POWER
from mm_dagster.portfolio.paths import AHEAD, Past, Starts, scales


class Held(NamedTuple):
    """A grid and where it stands.

    Attributes:
        prices: p_0 ... p_n, ascending, shape (n + 1,), quote currency.
        buy_at: logarithm of the price of the highest waiting buy when k cells wait, shape (n + 1,); -inf for k = 0.
        sell_at: likewise of the lowest waiting sell; inf for k = n.
        lower: logarithm of the lower bound.
        stop: logarithm of the stop; -inf is none.
        spent: what the lowest k cells cost when each buys once, shape (n + 1,), quote currency.
        earned: what they yield when each sells once, shape (n + 1,), quote currency.
        cell: base currency of a cell.
        sold_for: what a market sale of one unit at price 1 yields, the half spread and the fee taken off.
        kept: 1 less the taker fee.
        waiting: cells that wait to buy.
        inventory: base currency held.
        is_modelled: whether the levels cost a sale what the slippage model says; if not, the half spread is all.
        walk: what they cost a sale of the volume of a minute, fraction; 0 where that is not known.
        volume: of a minute, quote currency.
    """

    prices: Floats
    buy_at: Floats
    sell_at: Floats
    lower: float
    stop: float
    spent: Floats
    earned: Floats
    cell: float
    sold_for: float
    kept: float
    waiting: int
    inventory: float
    is_modelled: bool
    walk: float
    volume: float

    def standing(self, price: float, inventory: float, sigma: float = np.nan, volume: float = np.nan) -> Held:
        """The same grid where it stands now.

        How many cells wait to buy is counted from the inventory, within what the price allows: all below it wait, all
        above it are held, and only the one around it may be either. An account may hold more or less than that.

        Args:
            price: now, quote currency.
            inventory: base currency held.
            sigma: standard deviation of a minute's log return, NaN where not known.
            volume: traded in a minute, quote currency; likewise.
        """
        stood = self.standing_at(*(np.array([one]) for one in (price, inventory, sigma, volume)))
        return self._replace(
            waiting=int(stood.waiting[0]),
            inventory=inventory,
            walk=float(stood.walk[0]),
            volume=float(stood.volume[0]),
        )

    def standing_at(self, price: Floats, inventory: Floats, sigma: Floats, volume: Floats) -> Standing:
        """Where it stands at t moments; see `standing`, each shape (t,)."""
        most = np.searchsorted(self.prices[:-1], price, side="left")
        least = np.searchsorted(self.prices[1:], price, side="right")
        counted = self.prices.size - 1 - np.rint(inventory / self.cell).astype(np.int64)
        known = self.is_modelled & (sigma > 0) & (volume > 0)
        return Standing(
            np.minimum(np.maximum(counted, least), most),
            inventory,
            np.where(known, COEFFICIENT * sigma, 0.0),
            np.where(known, volume, 1.0),
        )


class Standing(NamedTuple):
    """Where a grid stands at t moments, each shape (t,); see Held."""

    waiting: Integers
    inventory: Floats
    walk: Floats
    volume: Floats


class Lost(NamedTuple):
    """What one grid loses on each path, shape (k,), or at each of t moments, shape (t, k).

    Attributes:
        loss: liquidation value now less that at the end of the path, quote currency; negative is a gain.
        broken: whether two closes in a row lie below the grid, or the stop is reached.
    """

    loss: Floats
    broken: Flags


def held(terms: GridTerms, *, is_modelled: bool) -> Held:
    """The cells of a grid as they are when it begins.

    Args:
        terms: its cells.
        is_modelled: whether its slippage is modelled.
    """
    buys, sells = terms.prices[:-1], terms.prices[1:]
    return Held(
        prices=terms.prices,
        buy_at=np.concatenate([[-np.inf], natural_log(buys)]),
        sell_at=np.concatenate([natural_log(sells), [np.inf]]),
        lower=float(natural_log(buys[:1])[0]),
        stop=float(natural_log(np.array([terms.stop]))[0]),
        spent=terms.cost,
        earned=terms.cost + terms.profit,
        cell=terms.held,
        sold_for=terms.sold_for,
        kept=1.0 - terms.taker,
        waiting=terms.waiting,
        inventory=(terms.cells - terms.waiting) * terms.held,
        is_modelled=is_modelled,
        walk=0.0,
        volume=1.0,
    )


def lost(grid: Held, known: Past, market: int, begin: Starts) -> Lost:
    """What a grid loses on every path of its market.

    Args:
        grid: where it stands.
        known: the past of all markets.
        market: its place among them.
        begin: the paths.
    """
    stood = Standing(*(np.array([one]) for one in (grid.waiting, grid.inventory, grid.walk, grid.volume)))
    found = lost_at(grid, stood, known, market, [begin])
    return Lost(found.loss[0], found.broken[0])


def lost_at(grid: Held, stood: Standing, known: Past, market: int, begins: Sequence[Starts]) -> Lost:
    """What a grid loses on every path of its market at t moments: to call the loop costs as much as a moment of it.

    Args:
        grid: its cells.
        stood: where it stands at each moment.
        known: the past of all markets.
        market: its place among them.
        begins: the paths of each moment, as many at each.
    """
    places, now = np.stack([one.place for one in begins]), np.array([one.now for one in begins])
    loss, broken = np.empty(places.shape), np.empty(places.shape, np.bool_)
    past = (known.open, known.high, known.low, known.traded, known.close, known.lowest, known.highest)
    own, scale = tuple(one[market] for one in past), scales(known, market, places, now)
    _lose(grid, stood, own, places, now, scale, loss, broken)
    return Lost(loss, broken)


@kernel
def _lose(
    grid: Held,
    stood: Standing,
    past: tuple[Floats, ...],
    places: Integers,
    now: Integers,
    scale: Floats,
    loss: Floats,
    broken: Flags,
) -> None:
    """Fills `loss` and `broken`, moment by moment."""
    for at in range(now.size):
        _lose_on_paths(
            grid, stood.waiting[at], stood.inventory[at], (stood.walk[at], stood.volume[at]), past, places[at],
            past[4][now[at]], scale[at], loss[at], broken[at],
        )  # fmt: skip


@kernel
def _lose_on_paths(
    grid: Held,
    waits: int,
    holds: float,
    market: tuple[float, float],
    past: tuple[Floats, ...],
    places: Integers,
    here: float,
    scale: Floats,
    loss: Floats,
    broken: Flags,
) -> None:
    """Fills `loss` and `broken`, path by path; see `grid.replay._replay` for what happens within a bar."""
    opens, highs, lows, traded, closes, lowest, highest = past
    cells = grid.buy_at.size - 1
    # What is held now was bought for another price than its cells ask; of the account it may be more or less of it.
    full = (cells - waits) * grid.cell
    share = holds / full if full > 0.0 else 1.0
    beside = 0.0 if full > 0.0 else holds
    before = _worth(grid, market, holds, here)
    for path in range(places.size):
        start, stretch = places[path], scale[path]
        anchor = closes[start]
        waiting, unsold = waits, waits
        cash, inventory = 0.0, holds
        stopped, is_broken, was_below = False, False, False
        next_buy, next_sell = grid.buy_at[waiting], grid.sell_at[waiting]
        bar, last = start, start + DAY_BARS
        while bar < last:
            bar += 1
            if (bar - start) % AHEAD == 1:
                # Rounding keeps the order of prices: where the lowest of some bars reaches nothing, none of them does.
                least = here + stretch * (lowest[bar] - anchor)
                most = here + stretch * (highest[bar] - anchor)
                reached = least <= next_buy or most >= next_sell or least <= grid.stop or least < grid.lower
                if not reached:
                    was_below = False
                    bar += AHEAD - 1
                    continue
            low = here + stretch * (lows[bar] - anchor)
            high = here + stretch * (highs[bar] - anchor)
            # Comparisons with NaN are false: in a bar that is not known nothing happens.
            if low <= next_buy or high >= next_sell or low <= grid.stop:
                first = here + stretch * (opens[bar] - anchor)
                close = here + stretch * (traded[bar] - anchor)
                first_top, last_top = (first, high) if close >= first else (high, close)
                for bottom, top in ((first, first_top), (low, last_top), (close, -np.inf)):
                    below = waiting
                    while grid.buy_at[below] >= bottom:
                        below -= 1
                    if below < waiting:
                        cash -= grid.spent[waiting] - grid.spent[below]
                        waiting = below
                    if bottom <= grid.stop:
                        inventory = (unsold - waiting) * grid.cell + share * (cells - unsold) * grid.cell + beside
                        cash += _worth(grid, market, inventory, min(first, grid.stop))
                        inventory, stopped = 0.0, True
                        break
                    above = waiting
                    while grid.sell_at[above] <= top:
                        above += 1
                    if above > waiting:
                        cash += grid.earned[min(above, unsold)] - grid.earned[min(waiting, unsold)]
                        if above > unsold:
                            cash += share * (grid.earned[above] - grid.earned[unsold])
                            unsold = above
                        waiting = above
                if stopped:
                    break
                inventory = (unsold - waiting) * grid.cell + share * (cells - unsold) * grid.cell + beside
                next_buy, next_sell = grid.buy_at[waiting], grid.sell_at[waiting]
            if low < grid.lower:
                is_below = here + stretch * (traded[bar] - anchor) < grid.lower
                is_broken = is_broken or (is_below and was_below)
                was_below = is_below
            else:
                was_below = False
        end = here + stretch * (closes[last] - anchor)
        loss[path] = before - (cash + (0.0 if stopped else _worth(grid, market, inventory, end)))
        broken[path] = is_broken or stopped


@kernel
def _worth(grid: Held, market: tuple[float, float], amount: float, price: float) -> float:
    """What selling an amount yields, quote currency; of the market (walk, volume), and the logarithm of its price."""
    walk, volume = market
    if not amount > 0.0:
        return 0.0
    notional = amount * np.exp(price)
    walked = 0.0
    if walk > 0.0:
        walked = walk * min(notional / volume, MOST) ** POWER
    return notional * (grid.sold_for - walked * grid.kept)
