"""What a grid really did, from the fills of its account; and how far that is from the model.

An exchange does not say to which grid a fill belongs. On a market with one running grid every fill since its activation
is taken for its own: what a person trades there by hand shows as a difference from the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.config.grid import GridConfig
from mm_dagster.text import money_text, number_text

COLUMNS = (
    "inventory", "average_cost", "cash", "grid_profit", "exit_pnl", "unrealised_pnl", "total_pnl", "fees_paid",
    "liquidation_value", "fills", "capital_utilisation",
)  # fmt: skip
"""Columns of `grid_risk` that the account knows."""

TOLERANCE = 1e-9
"""Base currency that may be lacking for a sell, as a share of it: amounts come as decimals and fees in base are cut."""


@dataclass
class _Book:
    """What is held, in the order in which it was bought, and what came of it."""

    cash: float
    lots: list[tuple[float, float]] = field(default_factory=list)
    """Amount and cost of each purchase that is not sold yet, the newest last."""
    profit: float = 0.0
    fees: float = 0.0
    fills: int = 0

    def buy(self, amount: float, cost: float) -> None:
        self.lots.append((amount, cost))
        self.cash -= cost

    def sell(self, amount: float, gained: float) -> None:
        """Sells what was bought last: in a grid that is the cell that the sell belongs to.

        Raises:
            ValueError: more is sold than was bought.
        """
        left, cost = amount, 0.0
        while left > TOLERANCE * amount and self.lots:
            lot, paid = self.lots.pop()
            taken = min(lot, left)
            cost += paid * (taken / lot)
            if lot - taken > TOLERANCE * lot:
                self.lots.append((lot - taken, paid * (1.0 - taken / lot)))
            left -= taken
        if left > TOLERANCE * amount:
            raise ValueError(f"{number_text(left)} more was sold than was bought since its activation")
        self.cash += gained
        self.profit += gained - cost


def positions(grid: GridConfig, fills: pl.DataFrame, closes: Floats, as_of: pl.Series, sold_for: float) -> pl.DataFrame:
    """The grid's position at some bars, from its fills.

    Sells are matched with what was bought last, so that grid profit is that of the cells. A fee in the base currency
    is taken off what was bought or added to what was sold, one in another currency than these two is not counted.

    Args:
        grid: the grid.
        fills: `fills` of `account_snapshot`, one row each, of its market since its activation, each once.
        closes: shape (n,), quote currency, NaN where unknown.
        as_of: the bars that are asked for, ascending, shape (n,).
        sold_for: see `GridTerms`.

    Returns:
        COLUMNS, one row for each bar; what needs the price is null where the close is not known.

    Raises:
        ValueError: more was sold than was bought, as when coins were brought along.
    """
    base, _, quote = grid.symbol.partition("-")
    book = _Book(cash=grid.capital)
    # Numbers are texts here: the shorter is the smaller.
    pending = fills.sort("at", pl.col("fill_id").str.len_bytes(), "fill_id").to_dicts()
    place, rows, inventory, cost = 0, [], 0.0, 0.0
    for time, close in zip(as_of.to_list(), closes.tolist(), strict=True):
        before = place
        while place < len(pending) and pending[place]["at"] <= time:
            _take(book, pending[place], base, quote)
            place += 1
        if place > before:
            inventory = math.fsum(amount for amount, _ in book.lots)
            cost = math.fsum(paid for _, paid in book.lots)
        worth = 0.0 if inventory == 0.0 else inventory * close * sold_for
        rows.append(
            {
                "inventory": inventory,
                "average_cost": cost / inventory if inventory else None,
                "cash": book.cash,
                "grid_profit": book.profit,
                "exit_pnl": 0.0,
                "unrealised_pnl": worth - cost,
                "total_pnl": book.profit + (worth - cost),
                "fees_paid": book.fees,
                "liquidation_value": book.cash + worth,
                "fills": book.fills,
                "capital_utilisation": max(0.0, cost / grid.capital),
            }
        )
    schema = {name: pl.Int64 if name == "fills" else pl.Float64 for name in COLUMNS}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


def _take(book: _Book, fill: Mapping[str, Any], base: str, quote: str) -> None:
    amount, cost, fee = fill["amount"], fill["amount"] * fill["price"], fill["fee"] or 0.0
    in_base = fee if fill["fee_currency"] == base else 0.0
    in_quote = fee if fill["fee_currency"] == quote else 0.0
    if fill["side"] == "buy":
        book.buy(amount - in_base, cost + in_quote)
    else:
        book.sell(amount + in_base, cost - in_quote)
    book.fees += in_quote + in_base * fill["price"]
    book.fills += 1


def fills_of(grid: GridConfig, grids: Sequence[GridConfig], snapshots: pl.DataFrame) -> pl.DataFrame | str | None:
    """The fills that are a grid's own.

    Args:
        grid: a running grid.
        grids: all running grids on its venue.
        snapshots: rows of `account_snapshot` of its venue, all that there are.

    Returns:
        Its fills, one row each, each once; a sentence when they cannot be told; None when no account is read.
    """
    complete = snapshots.filter(pl.col("complete"))
    if complete.is_empty():
        return None if snapshots.is_empty() else f"the account was never wholly read: {snapshots['detail'][-1]}"
    others = sorted(other.id for other in grids if other.symbol == grid.symbol and other.id != grid.id)
    if others:
        return f"its orders cannot be told from those of {', '.join(others)} on the same market"
    if snapshots["fills_from"].min() > grid.activated_at:  # type: ignore[operator]
        return "its fills are not read back to its activation yet"
    fills = snapshots.select(pl.col("fills").explode()).drop_nulls().unnest("fills")
    mine = fills.filter((pl.col("symbol") == grid.symbol) & (pl.col("at") >= grid.activated_at))
    orders = complete.sort("as_of")["open_orders"][-1]
    if mine.is_empty() and not any(order["symbol"] == grid.symbol for order in orders):
        return "the account shows neither an order nor a fill of it; a key does not see those of an exchange's bot"
    return mine.unique(["fill_id", "order_id"], keep="first", maintain_order=True)


@dataclass(frozen=True)
class Summary:
    """An account in quote currency. None: not known.

    Attributes:
        source: ACCOUNT, or MODELLED where no account is read: then the sum of the running grids.
        total: all that it holds, at the last prices.
        available: quote currency that is free.
        locked: quote currency in orders, and all of the base currencies.
        required_reserve: quote currency that the waiting buys of the running grids need when they all fill.
        deployable_capital: what of the available is not needed for that.
    """

    source: str
    total: float | None
    available: float | None
    locked: float | None
    required_reserve: float | None
    deployable_capital: float | None


def summary(quote: str, risks: Sequence[Mapping[str, Any]], balances: Sequence[Mapping[str, Any]] | None) -> Summary:
    """What an account holds and what of it is free, from balances where there are some, else from the model.

    Args:
        quote: the quote currency; grids on other markets are left out.
        risks: rows of `grid_risk` of the running grids on the account's venue at one `as_of`.
        balances: `balances` of its `account_snapshot`; None: no account is read.
    """
    mine = [row for row in risks if row["symbol"].partition("-")[2] == quote]
    reserve = _sum(row["required_cash"] for row in mine)
    if balances is None:
        cash, total = _sum(row["cash"] for row in mine), _sum(row["liquidation_value"] for row in mine)
        free = None if cash is None or reserve is None else cash - reserve
        locked = None if total is None or free is None else total - free
        return Summary("MODELLED", total, free, locked, reserve, None if free is None else max(0.0, free))
    price_of: dict[str, float | None] = {row["symbol"].partition("-")[0]: row["price"] for row in mine} | {quote: 1.0}
    held = {row["asset"]: row for row in balances}
    cash_row = held.get(quote, {"free": 0.0, "used": 0.0})
    available, in_orders = cash_row["free"], cash_row["used"]
    # Assets without a grid here have no price here: they are not part of what the grids could use.
    coins = _sum(
        None if price is None else price * (held[asset]["free"] + held[asset]["used"])
        for asset, price in price_of.items()
        if asset in held and asset != quote
    )
    locked = None if coins is None else in_orders + coins
    missing = None if reserve is None else max(0.0, reserve - in_orders)
    return Summary(
        source="ACCOUNT",
        total=None if locked is None else available + locked,
        available=available,
        locked=locked,
        required_reserve=reserve,
        deployable_capital=None if missing is None else max(0.0, available - missing),
    )


def _sum(values: Any) -> float | None:
    """The sum; None when one is not known."""
    known = list(values)
    return None if None in known else math.fsum(known)


def differences(grid: GridConfig, model: pl.DataFrame, real: pl.DataFrame) -> list[str]:
    """How a grid's account differs from its replay at one bar by more than it may; empty where it does not.

    Orders fill one by one, and candles do not tell in which order: a difference of one cell is no news.

    Args:
        grid: the grid.
        model: the row of `grid_risk` without the account.
        real: the row with it.
    """
    modelled, actual = model.row(0, named=True), real.row(0, named=True)
    if actual["source"] != "ACCOUNT" or modelled["inventory"] is None or actual["inventory"] is None:
        return []
    levels = grid.prices
    cell = grid.capital / float(levels[:-1].sum())
    base, _, quote = grid.symbol.partition("-")
    found = []
    if abs(actual["inventory"] - modelled["inventory"]) > 1.5 * cell:
        own, other = (number_text(one["inventory"]) for one in (actual, modelled))
        found.append(f"it holds {own} {base}, the model {other}")
    if abs(actual["fills"] - modelled["fills"]) > max(2, modelled["fills"] // 10):
        found.append(f"it has {actual['fills']} fills, the model {modelled['fills']}")
    if found and None not in (actual["total_pnl"], modelled["total_pnl"]):
        own, other = (money_text(one["total_pnl"], grid.capital, signed=True) for one in (actual, modelled))
        found.append(f"it stands at {own} {quote}, the model at {other}")
    return [f"{grid.id}: the account differs from the model: {'; '.join(found)}"] if found else []
