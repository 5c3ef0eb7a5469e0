"""The life of a grid, candle by candle: what it bought and sold, what it holds, and what that is worth.

A grid of prices p_0 < ... < p_n has n cells. Cell i buys its quantity at p_i and sells it at p_(i+1), again and again:
it is empty and waits to buy, or held and waits to sell. The price moves along a continuous path, and an order fills
when the path touches its price. So every cell above the price is held and every cell below it is empty; only the one
around the price depends on where the price came from. The whole state is one number, how many cells WAIT to buy:
these are always the lowest, and the others are held. Sums over cells are differences of prefix sums, so a bar costs
the same whether it fills one order or a hundred, up to the logarithm of a search.

A candle does not tell its path. The CONSERVATIVE path is the shorter of the two simple ones: a rising or flat bar goes
open, low, high, close, a falling one open, high, low, close. The OPTIMISTIC path is the other. What lies between the
two is not known from candles; both are kept. At every close their positions differ by one cell at most. From the same
position the longer path never earns less within a bar, but it may leave a cell empty that the shorter one has bought:
so it is nearly always ahead, and can be behind. The two are paths, not bounds.

Accounting, with maker fee f, taker fee t and slippage s as fractions:

- Each buy order asks for q base. With fees in quote it costs q p_i (1 + f) and the cell holds h = q. With the buy's
  fee in base it costs q p_i and the cell holds h = q (1 - f). Each sell order sells h and yields h p_(i+1) (1 - f).
- At activation, at price P0, the cells with p_i >= P0 are bought at market, so that each holds h: at the cost
  h P0 (1 + s) (1 + t), or h P0 (1 + s) / (1 - t) with the fee in base. This cost stays with a cell until it has sold
  once; from then on it buys at its own price.
- Grid profit is booked when a cell sells: what the sell yields less what the cell cost, fees on both sides included.
- At the stop everything is sold at market; each unit yields its price times (1 - s) (1 - t). The same factor values
  what is held before. A fee in base is counted in `fees_paid` at the price of its order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Floats, Integers, kernel
from mm_dagster.config.grid import Fees, GridConfig
from mm_dagster.config.risk import HALF_SPREAD_BP
from mm_dagster.grid.levels import levels_clash, order_too_small, round_prices, round_quantity
from mm_dagster.tables.market import NO_RULES, MarketRules
from mm_dagster.text import number_text, price_text

HALF_SPREAD = HALF_SPREAD_BP / 10_000


class GridTerms(NamedTuple):
    """What the cells of one activated grid cost and yield. Sums over the lowest k cells stand at index k.

    Attributes:
        prices: p_0 ... p_n, ascending, shape (n + 1,), quote currency.
        capital: quote currency.
        stop: stop price, below p_0; 0 is none.
        held: h, base currency that a held cell holds.
        sold_for: (1 - s) (1 - t): what a market sale of one unit at price 1 yields.
        taker: t.
        slippage: s; where it is modelled, the half spread, and what the levels cost beyond it is taken off afterwards.
        waiting: cells that wait to buy after the activation.
        first_cost: what each cell bought at activation cost, quote currency.
        first_fee: the fee in it.
        buy_at: price of the highest waiting buy when k cells wait, shape (n + 1,); -inf for k = 0.
        sell_at: price of the lowest waiting sell when k cells wait, shape (n + 1,); inf for k = n.
        cost: what the lowest k cells cost at their own prices, shape (n + 1,).
        profit: what they earn when each sells once, having bought at its own price, shape (n + 1,).
        first_profit: what they earn when each sells once, having been bought at activation, shape (n + 1,).
        buy_fees: the fees of one buy of each, shape (n + 1,).
        sell_fees: the fees of one sell of each, shape (n + 1,).
    """

    prices: Floats
    capital: float
    stop: float
    held: float
    sold_for: float
    taker: float
    slippage: float
    waiting: int
    first_cost: float
    first_fee: float
    buy_at: Floats
    sell_at: Floats
    cost: Floats
    profit: Floats
    first_profit: Floats
    buy_fees: Floats
    sell_fees: Floats

    @property
    def cells(self) -> int:
        """n, the number of cells."""
        return self.prices.size - 1


def quantity_per_cell(
    grid_prices: Floats, p0: float, capital: float, fees: Fees, half_spread: float = HALF_SPREAD
) -> float:
    """The base quantity q of each buy order with which the capital just pays for every cell once.

    capital = sum over the cells bought at activation of their cost there + sum over the others of their own cost. Cash
    is then never below 0, provided that every step earns its fees: a cell that buys again spends no more than it got.

    Args:
        grid_prices: ascending, shape (n + 1,), quote currency.
        p0: price at activation, quote currency.
        capital: quote currency.
        fees: fees and slippage, fractions.
        half_spread: see `terms`.
    """
    one = terms(grid_prices, 1.0, p0, capital, 0.0, fees, half_spread)
    return capital / (float(one.cost[one.waiting]) + (one.cells - one.waiting) * one.first_cost)


def terms(
    grid_prices: Floats,
    quantity: float,
    p0: float,
    capital: float,
    stop: float,
    fees: Fees,
    half_spread: float = HALF_SPREAD,
) -> GridTerms:
    """The book of a grid that is activated at a price.

    Args:
        grid_prices: ascending, shape (n + 1,), n >= 1, quote currency.
        quantity: q, what each buy order asks for, base currency; from `quantity_per_cell`, rounded to the venue's lot.
        p0: price at activation: the close of the bar of the first evaluation.
        capital: quote currency; what the quantity leaves of it stays cash.
        stop: stop price; 0 is none.
        fees: fees and slippage, fractions.
        half_spread: what stands for the slippage where it is modelled, fraction.

    Raises:
        ValueError: the prices do not ascend, the stop is not below them, or p0 or the quantity is not positive.
    """
    if grid_prices.size < 2 or not np.all(np.diff(grid_prices) > 0) or not grid_prices[0] > 0:
        raise ValueError(f"{grid_prices.size} prices from {grid_prices[:1]} do not ascend from above 0")
    if not 0 <= stop < grid_prices[0]:
        raise ValueError(f"stop {price_text(stop)} is not below the lowest price {price_text(grid_prices[0])}")
    if not p0 > 0 or not quantity > 0:
        raise ValueError(f"price at activation {price_text(p0)} and quantity {number_text(quantity)} must be above 0")
    in_quote = fees.paid_in == "quote"
    held = quantity if in_quote else quantity * (1.0 - fees.maker)
    buys, sells = grid_prices[:-1], grid_prices[1:]
    costs = quantity * buys * (1.0 + fees.maker) if in_quote else quantity * buys
    yields = held * sells * (1.0 - fees.maker)
    slippage = half_spread if fees.slippage is None else fees.slippage
    at_market = p0 * (1.0 + slippage)
    first_cost = held * at_market * (1.0 + fees.taker) if in_quote else held * at_market / (1.0 - fees.taker)
    return GridTerms(
        prices=grid_prices,
        capital=capital,
        stop=stop,
        held=held,
        sold_for=(1.0 - slippage) * (1.0 - fees.taker),
        taker=fees.taker,
        slippage=slippage,
        waiting=int(np.count_nonzero(buys < p0)),
        first_cost=first_cost,
        first_fee=fees.taker * (held * at_market if in_quote else first_cost),
        buy_at=np.concatenate([[-np.inf], buys]),
        sell_at=np.concatenate([sells, [np.inf]]),
        cost=_sums(costs),
        profit=_sums(yields - costs),
        first_profit=_sums(yields - first_cost),
        buy_fees=_sums(quantity * buys * fees.maker),
        sell_fees=_sums(held * sells * fees.maker),
    )


def _sums(values: Floats) -> Floats:
    """Sum of the first k values at index k."""
    return np.concatenate([np.zeros(1), np.cumsum(values)])


def terms_of(grid: GridConfig, p0: float, rules: MarketRules = NO_RULES, half_spread: float = HALF_SPREAD) -> GridTerms:
    """The book of a configured grid: prices at the venue's ticks, quantity at its lots.

    Args:
        grid: the grid.
        p0: price at activation, quote currency.
        rules: the venue's.
        half_spread: see `terms`.

    Raises:
        ValueError: the venue would not take the grid's orders, and why.
    """
    levels = grid.prices
    if clash := levels_clash(levels, rules):
        raise ValueError(f"grid {grid.id}: {clash}")
    rounded = round_prices(levels, rules)
    quantity = round_quantity(quantity_per_cell(rounded, p0, grid.capital, grid.fees, half_spread), rules)
    if too_small := order_too_small(rounded, quantity, rules):
        raise ValueError(f"grid {grid.id}: {too_small}")
    return terms(rounded, quantity, p0, grid.capital, grid.stop, grid.fees, half_spread)


class Replay(NamedTuple):
    """A grid at the close of every bar, shape (bars,) each; money in quote currency, on the conservative path.

    Where a bar is not known (NaN) the position stays, and `unrealised_pnl`, `total_pnl` and the liquidation values are
    NaN. From the stop on nothing is held and nothing waits, and everything is known.

    Attributes:
        waiting: cells that wait to buy; 0 from the stop on.
        inventory: base currency held.
        average_cost: paid for a unit of it, fees included; NaN when nothing is held.
        cash: of the capital and what it earned.
        grid_profit: realised by the sells of the grid's own orders, after fees.
        exit_pnl: realised by the sale at the stop; 0 before.
        unrealised_pnl: value of the inventory after taker fee and slippage, less its cost.
        total_pnl: grid_profit + exit_pnl + unrealised_pnl = liquidation_value - capital.
        fees_paid: all fees since activation; contained in the figures above.
        liquidation_value: cash and inventory, sold now with taker fee and slippage.
        fills: filled orders, the sale at the stop counted as one, the purchase at activation not.
        grid_profit_optimistic: grid_profit on the optimistic path.
        liquidation_value_optimistic: liquidation_value on the optimistic path.
        fills_optimistic: fills on the optimistic path.
        stopped: index of the bar in which the stop was reached, the same on both paths; -1: in none.
    """

    waiting: Integers
    inventory: Floats
    average_cost: Floats
    cash: Floats
    grid_profit: Floats
    exit_pnl: Floats
    unrealised_pnl: Floats
    total_pnl: Floats
    fees_paid: Floats
    liquidation_value: Floats
    fills: Integers
    grid_profit_optimistic: Floats
    liquidation_value_optimistic: Floats
    fills_optimistic: Integers
    stopped: int

    def tail(self, bars: int) -> Replay:
        """The rows of the newest bars, as many as there are; `stopped` still counts from the first bar of all."""
        first = max(0, self.cash.size - bars)
        return self._replace(**{name: rows[first:] for name, rows in self._asdict().items() if name != "stopped"})


def replay(grid: GridTerms, opens: Floats, highs: Floats, lows: Floats, closes: Floats) -> Replay:
    """Replays the candles that follow the activation. A row depends on the rows before it and on nothing after.

    A bar that is flat at p0 changes nothing: put in front, it gives the row of the activation itself.

    Between bars the price goes from the last known close straight to the open, and limit orders on the way fill at
    their own price. The stop is reached when a bar opens at or below it (everything is sold at the open) or trades at
    or below it (sold at the stop); the buys above it have filled by then.

    Args:
        grid: the book.
        opens: shape (bars,), quote currency, NaN where the bar is MISSING; oldest first, like the others.
        highs: not below open and close.
        lows: not above open and close.
        closes: last prices.
    """
    return _replay(grid, opens, highs, lows, closes)


@kernel
def _replay(grid: GridTerms, opens: Floats, highs: Floats, lows: Floats, closes: Floats) -> Replay:
    """`replay`, first by the shorter way and then by the longer one, of which three columns are kept."""
    bars, cells = closes.size, grid.prices.size - 1
    waits, all_fills, fills_longer = np.empty(bars, np.int64), np.empty(bars, np.int64), np.empty(bars, np.int64)
    inventories, average_costs, cash, profits = np.empty(bars), np.empty(bars), np.empty(bars), np.empty(bars)
    exit_pnls, unrealised_pnls, totals = np.empty(bars), np.empty(bars), np.empty(bars)
    all_fees, values, profits_longer, values_longer = np.empty(bars), np.empty(bars), np.empty(bars), np.empty(bars)
    stopped = -1
    for by_longer_way in (False, True):
        # Cells from `unsold` on have not sold since the activation, and carry its cost while they are held.
        waiting, unsold, stopped = grid.waiting, grid.waiting, -1
        inventory, cost = (cells - waiting) * grid.held, (cells - waiting) * grid.first_cost
        profit, exit_pnl, fees, fills = 0.0, 0.0, (cells - waiting) * grid.first_fee, 0
        for bar in range(bars):
            high, low, close = highs[bar], lows[bar], closes[bar]
            # Comparisons with NaN are false: in a bar that is not known nothing happens.
            if stopped < 0 and (low <= grid.buy_at[waiting] or high >= grid.sell_at[waiting] or low <= grid.stop):
                start = opens[bar]
                low_first = (close >= start) != by_longer_way
                # Both orders are one sequence of falls and rises, in which some lead to where the price already is.
                first_top, last_top = (start, high) if low_first else (high, close)
                for bottom, top in ((start, first_top), (low, last_top), (close, -np.inf)):
                    below = _fallen(grid.buy_at, waiting, bottom)
                    if below < waiting:
                        fills += waiting - below
                        fees += grid.buy_fees[waiting] - grid.buy_fees[below]
                        waiting = below
                    if bottom <= grid.stop:
                        stopped = bar
                        break
                    above = _risen(grid.sell_at, waiting, top)
                    if above > waiting:
                        fills += above - waiting
                        fees += grid.sell_fees[above] - grid.sell_fees[waiting]
                        profit += grid.profit[min(above, unsold)] - grid.profit[waiting]
                        if above > unsold:
                            profit += grid.first_profit[above] - grid.first_profit[unsold]
                            unsold = above
                        waiting = above
                inventory = (cells - waiting) * grid.held
                cost = (grid.cost[unsold] - grid.cost[waiting]) + (cells - unsold) * grid.first_cost
                if stopped >= 0:
                    price = min(start, grid.stop)
                    exit_pnl = inventory * price * grid.sold_for - cost
                    fees += inventory * price * (1.0 - grid.slippage) * grid.taker
                    fills += 1
                    inventory, cost = 0.0, 0.0
            # After the stop nothing depends on the price, known or not.
            unrealised_pnl = inventory * close * grid.sold_for - cost if stopped < 0 else 0.0
            total = profit + exit_pnl + unrealised_pnl
            if by_longer_way:
                fills_longer[bar], profits_longer[bar], values_longer[bar] = fills, profit, grid.capital + total
                continue
            waits[bar], inventories[bar] = waiting, inventory
            average_costs[bar] = cost / inventory if inventory > 0.0 else np.nan
            cash[bar] = grid.capital + (profit + exit_pnl - cost)
            profits[bar], exit_pnls[bar], unrealised_pnls[bar] = profit, exit_pnl, unrealised_pnl
            totals[bar], all_fees[bar], values[bar], all_fills[bar] = total, fees, grid.capital + total, fills
    return Replay(
        waiting=waits,
        inventory=inventories,
        average_cost=average_costs,
        cash=cash,
        grid_profit=profits,
        exit_pnl=exit_pnls,
        unrealised_pnl=unrealised_pnls,
        total_pnl=totals,
        fees_paid=all_fees,
        liquidation_value=values,
        fills=all_fills,
        grid_profit_optimistic=profits_longer,
        liquidation_value_optimistic=values_longer,
        fills_optimistic=fills_longer,
        stopped=stopped,
    )


@kernel
def _fallen(buy_at: Floats, waiting: int, price: float) -> int:
    """How many cells still wait to buy when the price has fallen to `price`; a touch fills."""
    if buy_at[waiting] < price:
        return waiting
    low, high = 0, waiting - 1
    while low < high:
        middle = (low + high + 1) // 2
        if buy_at[middle] < price:
            low = middle
        else:
            high = middle - 1
    return low


@kernel
def _risen(sell_at: Floats, waiting: int, price: float) -> int:
    """How many cells wait to buy when the price has risen to `price`; a touch fills."""
    if sell_at[waiting] > price:
        return waiting
    low, high = waiting + 1, sell_at.size - 1
    while low < high:
        middle = (low + high) // 2
        if sell_at[middle] > price:
            high = middle
        else:
            low = middle + 1
    return low
