"""The prices of a grid, what its steps earn, and what a venue allows. Plain numbers in, plain numbers out."""

from __future__ import annotations

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt

from mm_dagster.tables.market import MarketRules

Spacing = Literal["arithmetic", "geometric"]
LevelConvention = Literal["intervals", "levels"]
FeeCurrency = Literal["quote", "base"]


def prices(
    lower: float, upper: float, levels: int, convention: LevelConvention, spacing: Spacing
) -> npt.NDArray[np.float64]:
    """The grid's prices, ascending, from lower to upper inclusive.

    Args:
        lower: lower bound, quote currency.
        upper: upper bound, quote currency.
        levels: the number that the exchange shows. KuCoin counts the intervals between prices, Hummingbot the
            prices themselves: `convention` says which.
        convention: intervals (n + 1 prices) or levels (n prices).
        spacing: arithmetic (equal differences) or geometric (equal ratios).

    Returns:
        Shape (levels + 1,) or (levels,).
    """
    count = levels + 1 if convention == "intervals" else levels
    if spacing == "arithmetic":
        return np.linspace(lower, upper, count)
    return np.geomspace(lower, upper, count)


def break_even_ratio(maker: float, paid_in: FeeCurrency) -> float:
    """The ratio of sell to buy price at which a round trip earns nothing.

    With the fee paid in quote a cell earns q (p_sell (1 - f) - p_buy (1 + f)); with the buy fee paid in base only
    q (1 - f) is there to sell, so 1 / (1 - f)^2.

    Args:
        maker: maker fee as a fraction (0.001 is 0.1 %).
        paid_in: the currency in which the fee of the buy is taken.
    """
    return (1 + maker) / (1 - maker) if paid_in == "quote" else 1 / (1 - maker) ** 2


def worst_step_ratio(grid_prices: npt.NDArray[np.float64]) -> float:
    """The smallest ratio between neighbouring prices; on an arithmetic grid the top step."""
    return float(np.min(grid_prices[1:] / grid_prices[:-1]))


def step_net_percent(
    grid_prices: npt.NDArray[np.float64], maker: float, paid_in: FeeCurrency
) -> npt.NDArray[np.float64]:
    """What each step earns when its cell buys and sells once, in percent of its buy price, after the maker fees.

    With r = p_sell / p_buy: r (1 - f) - (1 + f) when the fee of the buy is paid in quote, r (1 - f)^2 - 1 in base.

    Args:
        grid_prices: ascending, shape (n,), quote currency.
        maker: maker fee as a fraction.
        paid_in: the currency in which the fee of the buy is taken.

    Returns:
        Shape (n - 1,), percent, lowest step first.
    """
    ratio = grid_prices[1:] / grid_prices[:-1]
    if paid_in == "quote":
        return 100.0 * (ratio * (1.0 - maker) - (1.0 + maker))
    return 100.0 * (ratio * (1.0 - maker) ** 2 - 1.0)


def round_prices(grid_prices: npt.NDArray[np.float64], rules: MarketRules) -> npt.NDArray[np.float64]:
    """The prices, each at its nearest tick (half-way: the even one), as the float nearest to the decimal number.

    The arithmetic is decimal, on the shortest decimal that names each float: 0.1 means a tenth here.
    """
    if rules.price_tick is None:
        return grid_prices
    tick = _decimal(rules.price_tick)
    return np.array([_multiple(price, tick, ROUND_HALF_EVEN) for price in grid_prices.tolist()])


def round_quantity(quantity: float, rules: MarketRules) -> float:
    """The largest multiple of the lot that is not above the quantity, in decimal arithmetic like `round_prices`."""
    if rules.amount_lot is None:
        return quantity
    return _multiple(quantity, _decimal(rules.amount_lot), ROUND_FLOOR)


def levels_clash(grid_prices: npt.NDArray[np.float64], rules: MarketRules) -> str | None:
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


def order_too_small(grid_prices: npt.NDArray[np.float64], quantity: float, rules: MarketRules) -> str | None:
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


def _decimal(number: float) -> Decimal:
    """The shortest decimal that names the float, which is the one that people and venues write."""
    return Decimal(repr(float(number)))


def _multiple(number: float, unit: Decimal, rounding: str) -> float:
    return float((_decimal(number) / unit).to_integral_value(rounding) * unit)


def _shown(number: float | None) -> str:
    """A figure for people: up to 8 significant digits, no exponent, no trailing zeros."""
    if not number:
        return "0"
    digits = f"{Decimal(f'{number:.8g}'):,f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
