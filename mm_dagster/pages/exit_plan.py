"""The plan to leave a grid, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mm_dagster.alerts.leaving import percent
from mm_dagster.books.book import BP
from mm_dagster.execution.plan import Plan
from mm_dagster.text import local_time, number_text, price_text

ASKS = "Before you do"
"""Begins the question of a plan."""


def sentences(
    plan: Plan, timezone: str, price_tick: float | None = None, of_books: Sequence[str] = ()
) -> Iterator[str]:
    """What to do, in the order in which it is done.

    Args:
        plan: the plan.
        timezone: the operator's.
        price_tick: the step between prices of its venue; None: not known.
        of_books: what recorded books say of its market, a sentence each.
    """
    base, _, quote = plan.symbol.partition("-")
    yield f"The plan to leave {plan.grid_id}, by the bar of {local_time(plan.as_of, timezone)}."
    yield "1. Stop the grid on the exchange, so that it places no order any more; tell it to keep what it holds."
    if plan.amount == 0:
        yield "2. Nothing is to be sold: it holds nothing."
        return
    if plan.amount is None or plan.price is None:
        yield "2. Sell what the exchange says that it holds."
        return
    what = f"{number_text(plan.amount)} {base} (about {number_text(plan.notional or 0, 4)} {quote})"
    if plan.minutes is None:
        yield f"2. Sell {what}."
    elif plan.minutes == 0:
        yield f"2. Sell {what} at once."
    else:
        yield (
            f"2. Sell {what} over {plan.minutes} minutes: {plan.slices} orders of "
            f"{number_text(plan.slice_amount or 0)} {base}, one a minute."
        )
    if plan.limit_price is not None:
        below = percent((1.0 - plan.limit_price / plan.price) / BP)
        yield (
            f"3. As limit orders at {price_text(plan.limit_price, price_tick)} or better, {below} "
            f"below {price_text(plan.price, price_tick)}, immediate or cancel. What is not filled there is not chased: "
            "stop, and look."
        )
    taken = plan.chosen
    if taken is not None and taken.expected_bp is not None and (taken.from_book or not plan.beyond_model):
        lost = (plan.notional or 0.0) * taken.expected_bp / 10_000
        source = "by the order book" if taken.from_book else "modelled"
        yield f"Expected cost: {percent(taken.expected_bp)} with fee, {number_text(lost, 3)} {quote}, {source}."
    yield from of_books
    if plan.asks:
        yield f"{ASKS}: {plan.asks}"


def table(plan: Plan) -> Table:
    """Cost by horizon with its interval."""
    found = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("over", "expected cost", "80 % interval", ""):
        found.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for one in plan.horizons:
        over = "at once" if one.minutes == 0 else f"{one.minutes} min"
        if one.expected_bp is None or (plan.beyond_model and not one.from_book):
            cost, interval = "not known", "–"
        else:
            cost = percent(one.expected_bp)
            interval = "–"
            if one.minutes and one.low_80_bp is not None and one.high_80_bp is not None:
                interval = f"{one.low_80_bp / 100:+.2f} … {percent(one.high_80_bp)}"
        marks = [word for word, holds in (("the plan", one.minutes == plan.minutes), ("book", one.from_book)) if holds]
        found.add_row(over, cost, interval, ", ".join(marks))
    return found
