"""What a venue makes of a grid's prices and quantities, and what it would not take. Plain numbers in and out."""

from __future__ import annotations

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

import numpy as np

from mm_dagster.arrays import Floats
from mm_dagster.tables.market import MarketRules
from mm_dagster.text import exact, number_text


def round_prices(grid_prices: Floats, rules: MarketRules) -> Floats:
    """The prices, each at its nearest tick (half-way: the even one), as the float nearest to the decimal number.

    The arithmetic is decimal, on the shortest decimal that names each float: 0.1 means a tenth here.
    """
    if rules.price_tick is None:
        return grid_prices
    tick = exact(rules.price_tick)
    return np.array([_multiple(price, tick, ROUND_HALF_EVEN) for price in grid_prices.tolist()])


def round_quantity(quantity: float, rules: MarketRules) -> float:
    """The largest multiple of the lot that is not above the quantity, in decimal arithmetic like `round_prices`."""
    if rules.amount_lot is None:
        return quantity
    return _multiple(quantity, exact(rules.amount_lot), ROUND_FLOOR)


def levels_clash(grid_prices: Floats, rules: MarketRules) -> str | None:
    """Which two levels the venue cannot tell apart, in one sentence with the figures; None: it can.

    Args:
        grid_prices: ascending, before `round_prices`, shape (n,), quote currency.
        rules: the venue's.
    """
    rounded = round_prices(grid_prices, rules)
    same = np.flatnonzero(rounded[1:] <= rounded[:-1])
    if not same.size:
        return None
    low, high = grid_prices[same[0]], grid_prices[same[0] + 1]
    return (
        f"the levels {_shown(low)} and {_shown(high)} are one price at the venue's tick of {_shown(rules.price_tick)}; "
        "use fewer levels or wider bounds"
    )


def order_too_small(grid_prices: Floats, quantity: float, rules: MarketRules) -> str | None:
    """Why the venue would not take a cell's order, in one sentence with the figures; None: it takes all of them.

    Args:
        grid_prices: ascending, after `round_prices`, shape (n,), quote currency.
        quantity: what each cell buys, after `round_quantity`, base currency.
        rules: the venue's.
    """
    remedy = "use more capital or fewer levels"
    if quantity <= 0:
        return f"a cell's share of the capital buys less than the venue's lot of {_shown(rules.amount_lot)}; {remedy}"
    if rules.amount_min is not None and quantity < rules.amount_min:
        return (
            f"a cell buys {_shown(quantity)}, and the venue takes no order below {_shown(rules.amount_min)} "
            f"(base currency); {remedy}"
        )
    cost = quantity * float(grid_prices[0])
    if rules.cost_min is not None and cost < rules.cost_min:
        return (
            f"the cell at {_shown(grid_prices[0])} buys for {_shown(cost)}, and the venue takes no order below "
            f"{_shown(rules.cost_min)} (quote currency); {remedy}"
        )
    return None


def _multiple(number: float, unit: Decimal, rounding: str) -> float:
    return float((exact(number) / unit).to_integral_value(rounding) * unit)


def _shown(number: float | None) -> str:
    """A figure for people, to 8 significant digits: those of a tick count."""
    return number_text(number or 0.0, 8)
