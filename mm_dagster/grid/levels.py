"""The prices of a grid, and whether its steps can earn at all. Plain numbers in, plain numbers out."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

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
