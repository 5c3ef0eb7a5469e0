"""A grid before it is written: its ladder with what each step earns, where the price stands, what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mm_dagster.bars import iso
from mm_dagster.config.grid import GridConfig, break_even_ratio, worst_step_ratio
from mm_dagster.text import counted, in_local_time, money_text, number_text, plain_text, price_text

MOST_STEPS = 24
"""Steps that are all shown; of more only those at either end."""
_AT_ENDS = 5


@dataclass(frozen=True)
class Step:
    """A step of a grid: bought at one price, sold at the next.

    Attributes:
        buy: quote currency.
        sell: likewise.
        share: from price to price, as a fraction of the buy.
        fees: of both orders, quote currency.
        profit: what is left after them, quote currency.
        profit_share: that as a fraction of the buy.
    """

    buy: float
    sell: float
    share: float
    fees: float
    profit: float
    profit_share: float


def steps(grid: GridConfig) -> list[Step]:
    """The steps of a grid, the lowest first, each with the quantity that its capital pays for once at every price."""
    prices = grid.prices.tolist()
    quantity = grid.capital / sum(prices[:-1])
    fee = grid.fees.maker
    found = []
    for buy, sell in pairwise(prices):
        if grid.fees.paid_in == "quote":
            fees, kept = quantity * (buy + sell) * fee, quantity * (sell * (1 - fee) - buy * (1 + fee))
        else:
            # The buy's fee is taken in coins, which are then not sold.
            kept = quantity * ((1 - fee) ** 2 * sell - buy)
            fees = quantity * (sell - buy) - kept
        found.append(Step(buy, sell, sell / buy - 1, fees, kept, kept / (quantity * buy)))
    return found


def ladder(grid: GridConfig) -> Table:
    """The steps as a table, the highest first as an exchange's page has them."""
    quote = grid.symbol.partition("-")[2]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("step", "buy at", "sell at", "step in %", f"fees {quote}", f"profit {quote}", "profit in %"):
        table.add_column(name, justify="right")
    found = steps(grid)
    shown = range(len(found))
    hidden = range(_AT_ENDS, len(found) - _AT_ENDS) if len(found) > MOST_STEPS else range(0)
    for number in reversed(shown):
        if number in hidden:
            if number == hidden[-1]:
                table.add_row("", f"and {len(hidden)}", "more", "", "", "", "")
            continue
        one = found[number]
        table.add_row(
            str(number + 1),
            price_text(one.buy),
            price_text(one.sell),
            f"{100 * one.share:.3f}",
            money_text(one.fees, grid.capital / len(found)),
            money_text(one.profit, grid.capital / len(found), signed=True),
            f"{100 * one.profit_share:+.3f}",
        )
    return table


def sentences(grid: GridConfig, zone: str, price: float | None, priced_at: datetime | None) -> Iterator[str]:
    """What a grid is, whether its steps pay, and where the price stands.

    Args:
        grid: the grid.
        zone: of the operator.
        price: of its market, quote currency; None: not known.
        priced_at: when that was; None: now.
    """
    quote = grid.symbol.partition("-")[2]
    cells = len(grid.prices) - 1
    runs = "began" if grid.enabled else "does not run; watched since"
    yield (
        f"{grid.id}: {grid.symbol}, {plain_text(grid.lower)} to {plain_text(grid.upper)} {quote}, {grid.levels} "
        f"{grid.level_convention if grid.level_convention == 'intervals' else 'prices'} ({counted(cells, 'step')}, "
        f"{grid.spacing}), stop {plain_text(grid.stop)}, capital {plain_text(grid.capital)} {quote}; "
        + in_local_time(f"{runs} {iso(grid.activated_at)}.", zone)
    )
    worst, needed = worst_step_ratio(grid.prices) - 1, break_even_ratio(grid.fees.maker, grid.fees.paid_in) - 1
    yield (
        f"The smallest step is {100 * worst:.3f} %; the fees of a buy and a sell need {100 * needed:.3f} %, so that it "
        f"earns {number_text(worst / needed, 2)} times the break-even."
    )
    if price is None:
        yield f"Where the price of {grid.symbol} stands is not known yet."
        return
    at = in_local_time(f" (close of {iso(priced_at)})", zone) if priced_at else ""
    place = "within the grid"
    if price < grid.stop:
        place = "BELOW THE STOP"
    elif price < grid.lower:
        place = "below the grid"
    elif price > grid.upper:
        place = "above the grid, where it has sold all"
    yield (
        f"The price is {price_text(price)}{at}: {place}, {100 * abs(price / grid.lower - 1):.1f} % "
        f"{'above' if price >= grid.lower else 'below'} the lower bound and {100 * abs(price / grid.stop - 1):.1f} % "
        f"{'above' if price >= grid.stop else 'below'} the stop."
    )
