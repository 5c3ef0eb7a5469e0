"""What became of plans to leave a grid: told to the operator, and kept in the lake, where it can be asked in SQL."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from mm_dagster.execution.journal import Event, Journal, Kept
from mm_dagster.history.lake import Commit
from mm_dagster.market.order_venue import MarketRules
from mm_dagster.pipeline.answers import answer
from mm_dagster.pipeline.notify import notify_failures
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.registry import dtypes
from mm_dagster.text import counted, money_text

logger = logging.getLogger("mm_dagster")

BP = Decimal("0.0001")
TOLD = "TOLD"
"""In the history of a plan: its end was told."""
TOLD_OPEN = "TOLD_OPEN"
"""Likewise: that nobody knows what became of an order of it."""


def is_told(kept: Kept, kinds: Sequence[str]) -> bool:
    """Whether what became of a plan was told, or there is nothing to tell yet.

    Args:
        kept: the plan.
        kinds: of its events, in order.
    """
    if kept.mode == "paper" or kept.plan.state not in ("HALTED", "DONE", "EXPIRED"):
        return True
    return [kind for kind in kinds if kind in (kept.plan.state, TOLD)][-1:] == [TOLD]


def unknown_orders(kept: Kept, kinds: Sequence[str]) -> str:
    """The orders of a halted plan of which nothing is known, and nobody was told; see `is_told`."""
    if kept.mode == "paper" or kept.plan.state != "HALTED" or TOLD_OPEN in kinds:
        return ""
    return ", ".join(order.client_id for order in kept.plan.orders if order.state == "INTENDED")


def tell_unknown(project: Project, kept: Kept, orders: str) -> None:
    """The operator hears that nobody knows what became of orders of a plan of which they know that it is halted."""
    line = (
        f"plan {kept.plan_id} ({kept.mode}) to leave {kept.grid_id} is halted, and what became of its order {orders} "
        "is not known; it may be open: look at the exchange"
    )
    notify_failures(
        project, [(f"an order of {kept.grid_id}", line)], f"{kept.plan_id}-open", [kept.plan.terms.symbol], kind="EXIT"
    )


def tell(project: Project, kept: Kept, unknown: str = "") -> None:
    """The operator hears what became of a plan; a grid that was left for real is answered for.

    Args:
        project: configuration and lake.
        kept: the plan.
        unknown: orders of it of which nothing is known.
    """
    state, name = kept.plan.state, f"plan {kept.plan_id} ({kept.mode}) to leave {kept.grid_id}"
    if kept.mode == "paper":
        logger.info("%s: %s: %s", name, state, kept.reason)
        return
    do = {
        "HALTED": f"Look at the exchange, then `mm exit resume {kept.plan_id}` or leave it by hand",
        "EXPIRED": "Nothing was sold: make a new plan if the grid is still to be left",
    }.get(state, "There is nothing to do")
    if unknown:
        # First: a message has room for little.
        do = f"What became of {unknown} is not known. {do}"
    came = steps(kept) if state == "DONE" else f"{kept.reason}. {steps(kept)}"
    notify_failures(
        project, [(f"{kept.grid_id} {state}", f"{do}. {name}: {came}")],
        f"{kept.plan_id}-{kept.ended_at}", [kept.plan.terms.symbol], kind="EXIT",
    )  # fmt: skip
    if state == "DONE" and kept.mode == "live":
        try:
            answer(
                project, kept.grid_id, "stopped", project.now().replace(microsecond=0), f"{name}: {kept.reason}",
                person=kept.approved_by, through="mm", key=f"exit-{kept.plan_id}",
            )  # fmt: skip
        except ValueError as error:
            logger.warning("%s: no answer is noted: %s", name, error)


def keep(project: Project) -> None:
    """Writes what is new in the journal into the lake, where it can be asked in SQL."""
    journal = Journal(project.data)
    with project.turn_lock():
        events = _new_events(journal, project)
        # Nothing of a plan changes without an event.
        plans = [journal.kept(name) for name in dict.fromkeys(event.plan_id for event in events)]
        frames = {
            "exit_plan": [plan_row(one) for one in plans],
            "exit_order": [row for one in plans for row in _order_rows(one)],
            "exit_event": [_event_row(one) for one in events],
        }
        for table, rows in frames.items():
            if rows:
                frame = pl.DataFrame(rows, schema={name: dtypes(table)[name] for name in rows[0]}, orient="row")
                project.lake.upsert(table, frame, commit=Commit("exits", table, ""))


def _new_events(journal: Journal, project: Project) -> Sequence[Event]:
    """The events that the lake does not have; all of them where its last one is none of this journal's."""
    newest = 'SELECT sequence, plan_id, "at", kind, said FROM exit_event ORDER BY sequence DESC LIMIT 1'
    last = project.lake.sql(newest).to_dicts()
    if not last:
        return journal.events()
    since = journal.events(after=last[0]["sequence"] - 1)
    return since[1:] if since and _event_row(since[0]) == last[0] else journal.events()


def plan_row(kept: Kept) -> dict[str, Any]:
    """The row of `exit_plan`: what was to be sold, what was, and what that cost beside the forecast."""
    terms, orders = kept.plan.terms, kept.plan.orders
    filled = sum(order.filled for order in orders)
    proceeds = sum((order.proceeds for order in orders), Decimal(0))
    fees = [order.fee for order in orders if order.fee is not None]
    mids = [kept.mids[order.number] for order in orders if order.number in kept.mids]
    arrival = mids[0] if mids else None
    amount = terms.rules.amount(filled)
    shortfall = None
    if arrival is not None and filled:
        paid = sum(fees, Decimal(0))
        shortfall = float((1 - (proceeds - paid) / (amount * arrival)) / BP)
    return {
        "plan_id": kept.plan_id,
        "grid_id": kept.grid_id,
        "activated_at": kept.activated_at,
        "symbol": terms.symbol,
        "venue": kept.venue,
        "mode": kept.mode,
        "state": kept.plan.state,
        "reason": kept.reason,
        "created_at": kept.created_at,
        "approved_at": kept.approved_at,
        "approved_by": kept.approved_by,
        "ended_at": kept.ended_at,
        "stopper": terms.stopper,
        "slices": terms.slices,
        "amount": float(terms.rules.amount(terms.inventory)),
        "filled": float(amount),
        "dust": float(terms.rules.amount(max(0, terms.inventory - filled))),
        "proceeds": float(proceeds),
        "fee": float(sum(fees, Decimal(0))) if fees else None,
        "arrival_mid": None if arrival is None else float(arrival),
        "shortfall_bp": shortfall,
        **{name: kept.forecast.get(name) for name in ("expected_bp", "low_80_bp", "high_80_bp", "session_id")},
    }


def _order_rows(kept: Kept) -> Iterator[dict[str, Any]]:
    rules: MarketRules = kept.plan.terms.rules
    for order in kept.plan.orders:
        mid = kept.mids.get(order.number)
        yield {
            "plan_id": kept.plan_id,
            "sequence": order.number,
            "client_id": order.client_id,
            "state": order.state,
            "amount": float(rules.amount(order.lots)),
            "limit_price": float(order.limit),
            "mid": None if mid is None else float(mid),
            "filled": float(rules.amount(order.filled)),
            "proceeds": float(order.proceeds),
            "fee": None if order.fee is None else float(order.fee),
            "intended_at": kept.intended_at[order.number],
            "closed_at": kept.closed_at.get(order.number),
        }


def _event_row(event: Event) -> dict[str, Any]:
    return {"sequence": event.number, "plan_id": event.plan_id, "at": event.at, "kind": event.kind, "said": event.said}


def steps(kept: Kept) -> str:
    """How far a plan is, in words."""
    terms, orders = kept.plan.terms, kept.plan.orders
    base, _, quote = terms.symbol.partition("-")
    filled = terms.rules.amount(sum(order.filled for order in orders))
    proceeds = float(sum((order.proceeds for order in orders), Decimal(0)))
    got = f" for {money_text(proceeds, proceeds)} {quote}" if proceeds else ""
    return f"{filled} of {terms.rules.amount(terms.inventory)} {base} sold by {counted(len(orders), 'order')}{got}"
