"""A grid replayed the slow way, cell by cell and order by order, and wild candles to compare the fast replay on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from mm_dagster.config.grid import Fees, Spacing, prices
from mm_dagster.grid.replay import GridTerms, Replay, quantity_per_cell, replay, terms

Candle = tuple[float, float, float, float]
"""Open, high, low, close; NaN where the bar is missing."""
MISSING: Candle = (math.nan, math.nan, math.nan, math.nan)


@dataclass
class Row:
    """The grid at one close; the names of `grid_risk`."""

    inventory: float
    average_cost: float
    cash: float
    grid_profit: float
    exit_pnl: float
    unrealised_pnl: float
    total_pnl: float
    fees_paid: float
    liquidation_value: float
    fills: int


@dataclass
class Cells:
    """Moves money with every order and keeps what each held cell cost."""

    prices: Sequence[float]
    quantity: float
    p0: float
    capital: float
    stop: float
    fees: Fees
    longer: bool
    paid: dict[int, float] = field(default_factory=dict)
    fees_paid: float = 0.0
    grid_profit: float = 0.0
    exit_pnl: float = 0.0
    fills: int = 0
    dead: bool = False

    def __post_init__(self) -> None:
        self.cash, self.last = self.capital, self.p0
        self.base = self.fees.paid_in == "base"
        self.amount = self.quantity * (1 - self.fees.maker) if self.base else self.quantity
        price = self.p0 * (1 + self.fees.slippage)
        for cell in range(len(self.prices) - 1):
            if self.prices[cell] >= self.p0:
                # With the fee in base more is bought, so that after the fee the cell holds the same.
                bought = self.amount / (1 - self.fees.taker) if self.base else self.amount
                fee = bought * price * self.fees.taker
                self.pay(cell, bought * price + (0.0 if self.base else fee), fee)

    def pay(self, cell: int, cost: float, fee: float) -> None:
        self.cash -= cost
        self.fees_paid += fee
        self.paid[cell] = cost

    def move(self, price: float) -> None:
        """The price goes straight from where it was to `price`."""
        if price < self.last:
            for cell in reversed(range(len(self.prices) - 1)):
                if cell not in self.paid and self.prices[cell] >= price:
                    value = self.quantity * self.prices[cell]
                    fee = value * self.fees.maker
                    self.pay(cell, value if self.base else value + fee, fee)
                    self.fills += 1
        else:
            for cell in range(len(self.prices) - 1):
                if cell in self.paid and self.prices[cell + 1] <= price:
                    value = self.amount * self.prices[cell + 1]
                    fee = value * self.fees.maker
                    self.cash += value - fee
                    self.fees_paid += fee
                    self.grid_profit += value - fee - self.paid.pop(cell)
                    self.fills += 1
        self.last = price

    def sell_all(self, price: float) -> None:
        value = len(self.paid) * self.amount * price * (1 - self.fees.slippage)
        self.cash += value * (1 - self.fees.taker)
        self.fees_paid += value * self.fees.taker
        self.exit_pnl = value * (1 - self.fees.taker) - sum(self.paid.values())
        self.fills += 1
        self.paid.clear()
        self.dead = True

    def live(self, candle: Candle) -> Row:
        """One candle, and what the grid is at its close."""
        first, high, low, close = candle
        missing = any(math.isnan(price) for price in candle)
        if not missing and not self.dead:
            turns = [low, high] if (close >= first) != self.longer else [high, low]
            for price in (first, *turns, close):
                self.move(price)
                if price <= self.stop:
                    self.sell_all(first if first <= self.stop else self.stop)
                    break
        inventory, cost = len(self.paid) * self.amount, sum(self.paid.values())
        value = 0.0 if self.dead else inventory * close * (1 - self.fees.slippage) * (1 - self.fees.taker)
        if missing and not self.dead:
            value = math.nan
        return Row(
            inventory=inventory,
            average_cost=cost / inventory if self.paid else math.nan,
            cash=self.cash,
            grid_profit=self.grid_profit,
            exit_pnl=self.exit_pnl,
            unrealised_pnl=value - cost,
            total_pnl=self.cash + value - self.capital,
            fees_paid=self.fees_paid,
            liquidation_value=self.cash + value,
            fills=self.fills,
        )


def replayed(ours: GridTerms, candles: Sequence[Candle]) -> Replay:
    columns = np.array(candles, dtype=np.float64).reshape(-1, 4).T
    return replay(ours, *(np.ascontiguousarray(column) for column in columns))


@dataclass(frozen=True)
class Case:
    """A grid and what happens to it."""

    levels: list[float]
    p0: float
    capital: float
    stop: float
    fees: Fees
    candles: list[Candle]

    @property
    def quantity(self) -> float:
        return quantity_per_cell(np.array(self.levels), self.p0, self.capital, self.fees)

    @property
    def book(self) -> GridTerms:
        return terms(np.array(self.levels), self.quantity, self.p0, self.capital, self.stop, self.fees)


@st.composite
def cases(draw: st.DrawFn, worst_fee: float = 0.05) -> Case:
    """Wild candles: gaps, holes, repeated prices, prices exactly on levels, spikes through the stop."""
    spacing: Spacing = draw(st.sampled_from(["arithmetic", "geometric"]))
    lower = draw(st.floats(0.01, 1000))
    levels = prices(lower, lower * draw(st.floats(1.2, 5)), draw(st.integers(2, 12)), "intervals", spacing).tolist()
    stop = lower * draw(st.sampled_from([0.0, 0.7, 0.95]))
    fee = st.one_of(st.just(0.0), st.floats(0, worst_fee))
    fees = Fees(maker=draw(fee), taker=draw(fee), slippage=draw(fee), paid_in=draw(st.sampled_from(["quote", "base"])))
    inside = st.floats(levels[0] * 0.97, levels[-1] * 1.1)
    price = st.one_of(st.sampled_from(levels), inside)
    if stop and draw(st.booleans()):
        price = st.one_of(price, st.floats(stop * 0.8, levels[-1]), st.just(stop))
    bars = draw(st.lists(st.one_of(st.tuples(price, price, price, price), st.none()), min_size=1, max_size=25))
    candles = [MISSING if bar is None else (bar[0], max(bar), min(bar), bar[3]) for bar in bars]
    p0 = draw(st.one_of(st.sampled_from(levels), inside))
    return Case(levels, p0, draw(st.floats(1, 1e6)), stop, fees, candles)
