"""grids/*.yaml: one grid each, its prices and what its steps earn."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, model_validator

from mm_dagster.bars import ceil_bar
from mm_dagster.config.model import Model, Name, Symbol, UtcTime
from mm_dagster.text import plain_text

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


class Nearest(NamedTuple):
    """Two levels of two grids, one of which may buy where the other sells.

    Attributes:
        apart: how far they are from each other, fraction of the lower one.
        one: the level of the one grid, quote currency.
        other: that of the other.
    """

    apart: float
    one: float
    other: float


def nearest_opposing(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> Nearest:
    """The two nearest levels of two grids on one market of which one may buy and the other sell.

    A grid buys at all of its prices but the highest and sells at all but the lowest.

    Args:
        one: prices of a grid, ascending, shape (n,).
        other: of the other, shape (m,).
    """
    found = []
    for buys, sells, buys_of_one in ((one[:-1], other[1:], True), (other[:-1], one[1:], False)):
        place = np.searchsorted(sells, buys)
        for beside in (np.maximum(place - 1, 0), np.minimum(place, sells.size - 1)):
            apart = np.abs(sells[beside] - buys) / np.minimum(sells[beside], buys)
            least = int(np.argmin(apart))
            pair = float(buys[least]), float(sells[beside[least]])
            found.append(Nearest(float(apart[least]), *(pair if buys_of_one else reversed(pair))))
    return min(found)


def _as_text(value: object) -> object:
    """YAML takes a number without quotes for one."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Fees(Model):
    """Fees as fractions; 0.001 is 0.1 %."""

    maker: Annotated[float, Field(ge=0, lt=0.1)] = 0.001
    taker: Annotated[float, Field(ge=0, lt=0.1)] = 0.001
    paid_in: FeeCurrency = "quote"
    slippage: Annotated[float, Field(ge=0, lt=0.1)] | None = None
    """What a market order loses against the price, fraction; null: it is modelled from volume and volatility."""


class BotSource(Model):
    """The bot at an exchange that a grid is: at every tick what it does and holds is read from there."""

    exchange: Name
    """Name of a venue in markets.yaml that has an `account`: of OKX, Bitget or Bybit."""
    id: Annotated[str, BeforeValidator(_as_text), Field(pattern=r"^\d{1,30}$")]
    """The bot's number there."""


class GridConfig(Model):
    """One grid. Changing a bound, level or stop makes it a new episode: give it a new `activated_at`."""

    id: Name
    symbol: Symbol
    enabled: Annotated[bool, Field(description="A disabled grid gets an entry assessment, never an exit alert.")] = True
    activated_at: Annotated[
        UtcTime, Field(description="When it began to trade; for a disabled grid, since when it is watched.")
    ]
    lower: Annotated[float, Field(gt=0, description="Lower bound, quote currency.")]
    upper: Annotated[float, Field(gt=0, description="Upper bound, quote currency.")]
    levels: Annotated[
        int, Field(ge=2, le=1000, description="As the exchange shows it; level_convention says what it counts.")
    ]
    level_convention: LevelConvention = "intervals"
    spacing: Spacing = "arithmetic"
    stop: Annotated[float, Field(gt=0, description="Stop price, below the lower bound.")]
    capital: Annotated[float, Field(gt=0, description="Quote currency.")]
    fees: Fees = Fees()
    source: BotSource | None = None
    """The bot that it is: `{exchange: okx, id: "4489"}`; null: what it holds is the account's fills, or modelled."""

    hashed_when_given: ClassVar[frozenset[str]] = frozenset({"source"})

    @property
    def prices(self) -> npt.NDArray[np.float64]:
        """Its prices, ascending, quote currency."""
        return prices(self.lower, self.upper, self.levels, self.level_convention, self.spacing)

    @property
    def first_as_of(self) -> datetime:
        """The first evaluation of the episode: the first bar that closes at or after the activation."""
        return ceil_bar(self.activated_at)

    @model_validator(mode="after")
    def _can_work(self) -> GridConfig:
        if self.id == "all":
            raise ValueError("id: 'all' names every grid together; choose another")
        if self.upper <= self.lower:
            raise ValueError(f"upper: {plain_text(self.upper)} is not above lower ({plain_text(self.lower)})")
        if self.stop >= self.lower:
            raise ValueError(
                f"stop: {plain_text(self.stop)} is not below lower ({plain_text(self.lower)}); "
                "a stop lies under the grid"
            )
        worst = worst_step_ratio(self.prices)
        needed = break_even_ratio(self.fees.maker, self.fees.paid_in)
        if worst <= needed:
            raise ValueError(
                f"levels: {self.levels} make the smallest step {100 * (worst - 1):.3f} %, and the fees need more than "
                f"{100 * (needed - 1):.3f} %; use fewer levels or wider bounds"
            )
        return self
