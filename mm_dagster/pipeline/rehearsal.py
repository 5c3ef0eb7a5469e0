"""A plan of mode test where an exchange only checks orders: each slice is checked once, nothing is placed.

What was checked is never found again, so that there is no intent to follow: the plan goes on as long as the exchange
says yes, and is halted by its first no.
"""

from __future__ import annotations

from datetime import timedelta

from mm_dagster.errors import ForeseenError
from mm_dagster.execution.drive import World
from mm_dagster.execution.journal import Journal, Kept, Overtaken
from mm_dagster.execution.machine import PlanState, client_id, limit_of
from mm_dagster.market.order_venue import OrderChecks
from mm_dagster.text import exact


def rehearse(journal: Journal, plan_id: str, world: World, checks: OrderChecks) -> Kept:
    """Has each order of a plan checked.

    Args:
        journal: holds the plan.
        plan_id: an approved plan.
        world: what it is carried out with; nothing is asked of its venue.
        checks: that venue.

    Raises:
        JournalError: the journal cannot be written.
    """
    kept = journal.kept(plan_id)
    age = world.utc() - (kept.approved_at or kept.created_at)

    def enter(before: tuple[PlanState, ...], state: PlanState, why: str) -> None:
        journal.enter(plan_id, before, state, why, world.utc())
        world.say(state, why)

    try:
        if kept.plan.state == "APPROVED" and age > timedelta(seconds=kept.plan.terms.approval_seconds):
            enter(("APPROVED",), "EXPIRED", "the approval is older than it may be; nothing was done")
        elif kept.plan.state in ("APPROVED", "SELLING"):
            # Whoever died here begins anew: nothing was placed.
            enter(("APPROVED", "SELLING"), "SELLING", "the exchange checks each order, and places none")
            enter(("SELLING",), *_checked(journal, kept, world, checks))
    except Overtaken:
        # A person halted it.
        pass
    return journal.kept(plan_id)


def _checked(journal: Journal, kept: Kept, world: World, checks: OrderChecks) -> tuple[PlanState, str]:
    """Where the plan ends, and why."""
    terms, rules = kept.plan.terms, kept.plan.terms.rules
    left, number = terms.inventory, 0
    while left and number < terms.slices:
        number += 1
        name = client_id(terms.plan_id, number)
        lots = -(-left // (terms.slices - number + 1))
        if world.is_killed():
            return "HALTED", "the kill file is there: nothing is asked any more"
        try:
            limit = limit_of(terms, exact(world.book().mid))
            if not rules.takes(lots, limit):
                return "HALTED", f"{rules.amount(lots)} at {limit} is too little for an order there"
            said = checks.rehearse(terms.symbol, name, rules.amount(lots), limit)
        except ForeseenError as error:
            return "HALTED", f"order {name} was not checked: {error}"
        journal.note(terms.plan_id, "CHECKED", f"{name}: {said}", world.utc())
        world.say("CHECKED", f"{name}: {said}")
        left -= lots
    return "DONE", f"orders checked by the exchange: {number}; none was placed"
