"""The plan to leave a grid: what to sell, over which time, at what limit, what that costs, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mm_dagster.books.book import BP
from mm_dagster.execution.costs import AVERSION, SPREAD_80
from mm_dagster.text import spoken

SOFT_LIMIT_BP = 25.0
"""What costs more than this is worth a longer plan, or a question."""
HARD_LIMIT_BP = 50.0
"""The limit price of each order lies so far below the mid: what is not filled there is not chased."""
LATE = timedelta(minutes=30)
"""Older rows are no basis for a price."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Horizon:
    """One way to sell: in equal slices, one a minute, over so many minutes; 0 is at once.

    Attributes:
        minutes: over which is sold.
        expected_bp: cost, fee included, basis points of the mid; None: not known.
        low_80_bp: lower end of its 80 % interval.
        high_80_bp: upper end.
        from_book: whether the order book of the tick says so; else it is modelled from candles.
        chosen: whether its cost, risk included, is the least.
    """

    minutes: int
    expected_bp: float | None
    low_80_bp: float | None
    high_80_bp: float | None
    from_book: bool
    chosen: bool


@dataclass(frozen=True)
class Plan:
    """What to do, and what it rests on.

    Attributes:
        grid_id: the grid.
        symbol: its market.
        as_of: the bar that it rests on.
        amount: to sell, base currency; 0: nothing is held, only the grid is to be stopped; None: not known.
        price: the close of that bar, quote currency.
        notional: amount at that price.
        minutes: the horizon that the plan takes; None: none can be told from the others.
        slices: equal orders, one a minute.
        slice_amount: of each, base currency.
        limit_price: below which no order sells, quote currency.
        horizons: all of them.
        beyond_model: more is sold than the model was fitted to: the horizons are ranked, and no figure is promised.
        asks: a question that a person should answer first; None: there is none.
        unknown: what is not known, each as a sentence.
    """

    grid_id: str
    symbol: str
    as_of: datetime
    amount: float | None
    price: float | None
    notional: float | None
    minutes: int | None
    slices: int
    slice_amount: float | None
    limit_price: float | None
    horizons: tuple[Horizon, ...]
    beyond_model: bool
    asks: str | None
    unknown: tuple[str, ...]

    @property
    def chosen(self) -> Horizon | None:
        """The horizon that the plan takes."""
        return next((one for one in self.horizons if one.minutes == self.minutes), None)


@dataclass(frozen=True)
class Limits:
    """What a person wants of a plan; see orders.yaml.

    Attributes:
        soft_bp: what costs more asks a question.
        hard_bp: how far below the mid the limit of an order lies.
        aversion: what a standard deviation of the price is worth beside a certain cost.
    """

    soft_bp: float = SOFT_LIMIT_BP
    hard_bp: float = HARD_LIMIT_BP
    aversion: float = AVERSION


def propose(
    costs: Sequence[Row], risk: Row, clock: datetime, over: int | None = None, limits: Limits | None = None
) -> Plan:
    """The plan that a grid's newest costs propose.

    Args:
        costs: the rows of `exit_cost` of one grid and bar, all horizons.
        risk: its row of `grid_risk` of the same bar.
        clock: the time of the market.
        over: the minutes that a person prefers, one of the horizons; None: those of the least cost.
        limits: what that person wants of it; None: what is usual.
    """
    limits = limits or Limits()
    rows = sorted(costs, key=lambda row: row["horizon_minutes"])
    horizons = tuple(_horizon(row) for row in rows)
    first = rows[0]
    amount, beyond = first["amount"], bool(first["beyond_model"])
    best = _best(rows, limits.aversion)
    minutes = over if over is not None else best
    nothing = amount == 0
    slices = 0 if nothing or minutes is None else max(1, minutes)
    price = risk["price"]
    taken = next((one for one in horizons if one.minutes == minutes), None)
    return Plan(
        grid_id=first["grid_id"],
        symbol=first["symbol"],
        as_of=first["as_of"],
        amount=amount,
        price=price,
        notional=first["notional"],
        minutes=None if nothing else minutes,
        slices=slices,
        slice_amount=amount / slices if amount and slices else None,
        limit_price=price * (1.0 - limits.hard_bp * BP) if price is not None and not nothing else None,
        horizons=horizons,
        beyond_model=beyond,
        asks=None if nothing else _question(taken, best, beyond, limits.soft_bp),
        unknown=tuple(_unknown(first, risk, clock, horizons)),
    )


def _horizon(row: Row) -> Horizon:
    """With the book's figure in the place of the model's, where there is one; the interval keeps its width."""
    expected, live = row["expected_bp"], row["live_expected_bp"]
    moved = 0.0 if live is None or expected is None else live - expected
    low, high = (None if row[name] is None else row[name] + moved for name in ("low_80_bp", "high_80_bp"))
    return Horizon(
        row["horizon_minutes"], expected if live is None else live, low, high, live is not None, row["chosen"]
    )


def _best(rows: Sequence[Row], aversion: float) -> int | None:
    """The minutes that cost least, risk included; None: it is not known."""
    if aversion == AVERSION:
        return next((row["horizon_minutes"] for row in rows if row["chosen"]), None)
    if any(row["expected_bp"] is None or row["high_80_bp"] is None for row in rows):
        return None

    def score(row: Row) -> float:
        minutes: int = row["horizon_minutes"]
        half: float = row["high_80_bp"] - row["expected_bp"]
        return row["expected_bp"] + (aversion * half / SPREAD_80[minutes] if minutes else 0.0)

    return min(rows, key=score)["horizon_minutes"]


def _question(taken: Horizon | None, best: int | None, beyond: bool, soft_bp: float) -> str | None:
    if taken is None or taken.expected_bp is None:
        return "What leaving costs is not known: look at the order book yourself before you sell."
    if beyond and not taken.from_book:
        return "This market trades less in a minute than is to be sold: what it costs is not known. Sell in parts?"
    if taken.expected_bp <= soft_bp:
        return None
    said = f"It costs more than {soft_bp / 100:.2f} %"
    if taken.minutes != best and best is not None:
        return f"{said}; over {best} min it would cost least. Is it worth the haste?"
    return f"{said}, and no other horizon costs less. Sell all of it?"


def _unknown(first: Row, risk: Row, clock: datetime, horizons: Sequence[Horizon]) -> list[str]:
    said = []
    age = clock - first["as_of"]
    if age > LATE:
        said.append(f"The price is {spoken(age)} old: ask the exchange for the present one.")
    if first["amount"] is None:
        return [*said, "What the grid holds is not known: look at the exchange."]
    if risk["source"] != "ACCOUNT":
        said.append("What the grid holds is modelled from candles: sell what the exchange says, no more.")
    if first["amount"] == 0:
        return said
    if first["shown_share"] is None:
        said.append("No order book was read at that bar: the costs are a model of volume and volatility.")
    elif first["shown_share"] < 1:
        said.append(f"The order book shows buyers for {100 * first['shown_share']:.0f} % of it; the rest is not known.")
    if any(one.minutes and one.high_80_bp is not None for one in horizons):
        said.append(
            "Which way the price goes meanwhile: two of ten times it ends outside of the interval. In the crash of "
            "2025-10-10 a quarter hour cost up to 28 % or gained up to 17 %, one bar apart."
        )
    return said
