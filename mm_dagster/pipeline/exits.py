"""Leaving a grid by the program: proposed, approved by a person, carried out; see exit_ledger.py for what is told.

Nothing sells by itself. Each step is refused with a sentence as long as anything that a person must decide is open.
Nothing of this is imported while orders.yaml says `mode: off`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from mm_dagster.config.grid import GridConfig
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.config.orders import Mode
from mm_dagster.errors import ForeseenError
from mm_dagster.execution.drive import Driver, World
from mm_dagster.execution.journal import (
    Journal,
    Kept,
    Overtaken,
    exists,
    new_plan_id,
)
from mm_dagster.execution.machine import RUNNING, Plan, Stopper, Terms, is_the_grids
from mm_dagster.execution.plan import Plan as Proposal
from mm_dagster.market.order_venue import OrderChecks, OrderVenue
from mm_dagster.pipeline.books import book_now
from mm_dagster.pipeline.exit_account import account_of, bot_of, grid_stop, one_at_a_time, only_checks, opened
from mm_dagster.pipeline.exit_ledger import BP, TOLD, TOLD_OPEN, is_told, keep, tell, tell_unknown, unknown_orders
from mm_dagster.pipeline.exit_refusals import (
    ExitRefused,
    is_killed,
    most_of,
    refuse_for_real,
    refuse_key,
    refuse_killed,
    refuse_unknown,
    withdrawn_from,
)
from mm_dagster.pipeline.leave import plan_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.rehearsal import rehearse
from mm_dagster.text import exact, number_text

_LOOKED_AFTER = timedelta(hours=1)
"""So long after a plan was halted its open orders are looked at; then a person does."""
_KNOWN_AFTER = timedelta(minutes=10)
"""So long after a halt a process finds out what became of an order, if it is ever found out."""


def propose(
    project: Project,
    grid_id: str,
    mode: Mode,
    *,
    over: int | None = None,
    accept: bool = False,
    as_of: datetime | None = None,
    noted: Mapping[str, Any] | None = None,
) -> Kept:
    """A plan to leave a grid, written into the journal; nothing is asked of an exchange but its rules.

    Args:
        project: configuration, lake and venues.
        grid_id: a running grid.
        mode: paper, test or live.
        over: minutes that a person prefers; None: by the style of orders.yaml.
        accept: whether a person answered the plan's question with yes.
        as_of: on paper, a bar of the past that is left on recorded candles; None: the present.
        noted: what is kept beside the forecast.

    Raises:
        ExitRefused: something stands against it.
        NoPlan: there is nothing to plan with.
    """
    orders = project.config.orders
    if not orders.allows(mode):
        raise ExitRefused(f"orders.yaml: mode: {orders.mode} allows no {mode} plan; set it, see docs/orders.md")
    if mode != "paper":
        refuse_killed(project)
    horizon = {"AGGRESSIVE": 0, "TWAP": 15}.get(orders.style) if over is None else over
    found = plan_of(project, grid_id, as_of, horizon)
    plan, grid = found.plan, found.grid
    journal = Journal(project.data)
    if mode != "paper":
        refuse_for_real(project, grid, journal, mode)
    if plan.amount is None:
        raise ExitRefused(f"grid {grid_id}: what it holds is not known; see `mm doctor`")
    if plan.amount == 0:
        raise ExitRefused(f"grid {grid_id}: it holds nothing; stop it on the exchange, there is nothing to sell")
    if plan.asks is not None and not accept:
        raise ExitRefused(f"grid {grid_id}: {plan.asks} With --accept it is taken as answered")
    with opened(project, grid, mode, None) as venue:
        rules = venue.rules(grid.symbol)
    now = as_of or project.now()
    terms = Terms(
        plan_id=new_plan_id(),
        symbol=grid.symbol,
        rules=rules,
        inventory=rules.lots(exact(plan.amount)),
        foreign=Decimal(0),
        own_orders=frozenset(),
        other_orders=frozenset(),
        levels=tuple(exact(price) for price in grid.prices),
        stopper="operator",
        slices=max(1, plan.slices),
        every_seconds=60.0,
        hard=exact(orders.hard_bp) * BP,
        most_quote=most_of(project, grid, mode),
        settle_seconds=orders.settle_seconds,
        approval_seconds=orders.approval_minutes * 60.0,
    )
    if not terms.inventory:
        raise ExitRefused(
            f"grid {grid_id}: it holds {number_text(plan.amount)}, less than the smallest amount sold there"
        )
    kept = Kept(
        plan=Plan(terms, "PROPOSED"),
        grid_id=grid.id,
        activated_at=grid.activated_at,
        venue=project.config.market(grid.symbol).venue,
        mode=mode,
        reason="proposed; nothing is done before it is approved",
        created_at=now,
        expires_at=now + timedelta(minutes=orders.approval_minutes),
        approved_at=None,
        approved_by=None,
        ended_at=None,
        forecast=_forecast(plan) | dict(noted or {}),
    )
    journal.propose(kept)
    return kept


def _forecast(plan: Proposal) -> dict[str, Any]:
    """What the plan is expected to cost, as it was when it was proposed."""
    chosen = plan.chosen
    return {
        "price": plan.price,
        "notional": plan.notional,
        "minutes": plan.minutes,
        "expected_bp": chosen.expected_bp if chosen else None,
        "low_80_bp": chosen.low_80_bp if chosen else None,
        "high_80_bp": chosen.high_80_bp if chosen else None,
    }


def approve(
    project: Project,
    plan_id: str,
    by: str,
    *,
    stopped: bool = False,
    amount: Decimal | None = None,
    at: datetime | None = None,
) -> Kept:
    """A person lets a plan be carried out; the baseline of the account is taken now.

    Args:
        project: configuration, lake and venues.
        plan_id: a proposed plan.
        by: who.
        stopped: whether that person says that the grid is stopped, where no program can stop it.
        amount: what the grid holds by that person's word, base currency; None: as it was proposed.
        at: on recorded candles, the moment of the past; None: the present.

    Raises:
        ExitRefused: something is open that a person must decide.
        JournalError: it is over, was approved already, or there were too many.
    """
    journal = Journal(project.data)
    kept = journal.kept(plan_id)
    grid, mode = _permitted(project, journal, kept), kept.mode
    terms = kept.plan.terms
    if amount is not None:
        if amount > 2 * exact(grid.capital / grid.lower):
            raise ExitRefused(
                f"--amount: a grid of {number_text(grid.capital)} above {number_text(grid.lower)} cannot hold it"
            )
        terms = replace(terms, inventory=terms.rules.lots(amount))
        if not terms.inventory:
            raise ExitRefused(f"--amount: {amount} is less than the smallest amount sold there")
    elif mode == "live":
        refuse_unknown(project, grid, journal)
    if mode != "paper":
        # What is allowed now, not when the plan was made.
        allowed = min(terms.most_quote, most_of(project, grid, mode))
        terms = replace(terms, most_quote=allowed, account=account_of(project, grid.symbol))
    with opened(project, grid, mode, replace(kept, plan=replace(kept.plan, terms=terms))) as venue:
        terms = _with_baseline(project, grid, terms, venue, mode, stopped=stopped)
    most = project.config.orders.max_exits_a_day if mode == "live" else None
    journal.approve(plan_id, terms, by, at or project.now(), most)
    return journal.kept(plan_id)


def _with_baseline(
    project: Project, grid: GridConfig, terms: Terms, venue: OrderVenue, mode: Mode, *, stopped: bool
) -> Terms:
    """What the account has and what rests there, of one moment: none of it is sold or cancelled that is not the grid's.

    Raises:
        ExitRefused: it is not clear who stops the grid, or the account does not have what it holds.
    """
    resting, holding = venue.open_orders(grid.symbol), venue.holding(grid.symbol)
    own = frozenset(one.order_id for one in resting if is_the_grids(one, terms))
    stopper = _stopper(project, grid, mode, own, stopped=stopped)
    amount = terms.rules.amount(terms.inventory)
    in_account = stopper not in ("bot", "bot_sells")
    if in_account and holding.total < amount:
        base = grid.symbol.partition("-")[0]
        raise ExitRefused(
            f"grid {grid.id}: the plan sells {amount} {base}, and the account has {holding.total}; say with --amount "
            "what the grid holds there, or wait until its bot has given it back"
        )
    return replace(
        terms,
        stopper=stopper,
        foreign=holding.total - (amount if in_account else 0),
        own_orders=own if stopper == "orders" else frozenset(),
        other_orders=frozenset(one.order_id for one in resting) - (own if stopper == "orders" else frozenset()),
    )


def _stopper(project: Project, grid: GridConfig, mode: Mode, own: frozenset[str], *, stopped: bool) -> Stopper:
    """Who stops the grid.

    Raises:
        ExitRefused: no program can, and nobody said that it is stopped.
    """
    if mode in ("paper", "test"):
        # A test places no order where the grid has its own.
        return "operator"
    bot = bot_of(project, grid, sells=False)
    if bot is not None:
        # A person may be mistaken where the exchange can tell.
        state = bot.state()
        if stopped and state != "stopped":
            raise ExitRefused(f"grid {grid.id}: the exchange says that its bot is {state}; leave --stopped out")
        if not stopped and state != "running":
            raise ExitRefused(
                f"grid {grid.id}: the exchange says that its bot is {state}; when its coins are in the account, say "
                "--stopped"
            )
        by: Stopper = "bot_sells" if project.config.orders.of(grid.id).stop == "sell" else "bot"
        return "operator" if stopped else by
    if stopped:
        return "operator"
    if own and grid.source is None:
        return "orders"
    raise ExitRefused(
        f"grid {grid.id}: no program can stop its bot, and it would order on: stop it at the exchange, let it keep its "
        "coins, and say so with --stopped"
    )


def _permitted(project: Project, journal: Journal, kept: Kept) -> GridConfig:
    """The grid of a plan that a person lets go on.

    Raises:
        ExitRefused: something stands against it now.
    """
    grid = _grid(project, kept)
    if not project.config.orders.allows(kept.mode):
        raise ExitRefused(f"orders.yaml: mode: {project.config.orders.mode} allows no {kept.mode} plan any more")
    if kept.mode != "paper":
        refuse_for_real(project, grid, journal, kept.mode)
    return grid


def _grid(project: Project, kept: Kept) -> GridConfig:
    """The grid of a plan, if it is still the same one.

    Raises:
        ExitRefused: it is gone, or runs anew.
    """
    found = next((one for one in project.config.grids if one.id == kept.grid_id), None)
    if found is None or found.activated_at != kept.activated_at or found.symbol != kept.plan.terms.symbol:
        raise ExitRefused(f"plan {kept.plan_id}: grid {kept.grid_id} is gone, or another one since; make a new plan")
    return found


# carrying out ---------------------------------------------------------------------------------------------------------


def carry_out(
    project: Project,
    plan_id: str,
    *,
    seconds: float | None = None,
    say: Callable[[str, str], None] = lambda kind, said: None,
    keeps: bool = True,
) -> Kept:
    """Carries a plan out until it is over or halted, or the time is; then the lake has all that happened.

    Args:
        project: configuration, lake and venues.
        plan_id: an approved plan, or a halted one of which an order is open.
        seconds: how long; None: until there is nothing to do.
        say: is told each step.
        keeps: whether the lake is to have it at once; False: who carries many out calls `keep` at their end.

    Raises:
        Occupied: another process works on this account.
        JournalError: the journal cannot be used.
    """
    journal = Journal(project.data)
    before = journal.kept(plan_id)
    withdrawn = withdrawn_from(project, before)
    if withdrawn is not None and before.plan.state in RUNNING:
        # Whoever takes the permission back means this plan, too.
        with suppress(Overtaken):
            journal.enter(plan_id, RUNNING, "HALTED", withdrawn, project.now())
    cannot = _cannot(project, before)
    if cannot is not None:
        with suppress(Overtaken):
            journal.enter(plan_id, RUNNING, "HALTED", cannot, project.now())
        after = journal.kept(plan_id)
    else:
        after = _driven(project, journal, before, seconds, say)
    try:
        kinds = [event.kind for event in journal.events(plan_id)]
        left = unknown_orders(after, kinds)
        if not is_told(after, kinds):
            tell(project, after, left)
            # Noted after it: who dies in between tells it again.
            journal.note(plan_id, TOLD, f"{after.plan.state} was told", project.now())
        elif left and (seconds is None or cannot is not None or not _has_time_left(project, after)):
            tell_unknown(project, after, left)
        else:
            left = ""
        if left:
            journal.note(plan_id, TOLD_OPEN, f"that nobody knows what became of {left} was told", project.now())
    finally:
        if keeps:
            keep(project)
    return after


def _cannot(project: Project, kept: Kept) -> str | None:
    """Why nothing can be asked about a plan with the configuration as it is now; None: it can."""
    if not project.config.orders.allows(kept.mode):
        return withdrawn_from(project, kept)
    try:
        grid = _grid(project, kept)
        if kept.mode == "paper":
            return None
        if project.config.orders.trade_key is None or not isinstance(
            project.config.market(grid.symbol).settings, CcxtVenue
        ):
            return "orders.yaml or markets.yaml: there is no trade_key for its exchange any more"
        if kept.plan.terms.account != account_of(project, grid.symbol):
            return "orders.yaml: trade_key: it was approved for another key, or another address of the exchange"
    except ForeseenError as error:
        return str(error)
    return None


def _driven(
    project: Project, journal: Journal, before: Kept, seconds: float | None, say: Callable[[str, str], None]
) -> Kept:
    """A plan as far as it gets; see `carry_out`."""
    plan_id, grid = before.plan_id, _grid(project, before)
    mode = before.mode
    with one_at_a_time(project, before, mode), opened(project, grid, mode, before) as venue:
        world = World(
            venue=venue,
            book=lambda: book_now(project, grid.symbol),
            stop=grid_stop(project, grid, before),
            seconds=time.monotonic,
            sleep=time.sleep,
            utc=project.now,
            is_killed=lambda: is_killed(project),
            say=say,
        )
        if mode == "paper":
            from mm_dagster.pipeline.paper import on_paper

            world = on_paper(project, grid, before, world)
        until = None if seconds is None else world.seconds() + seconds
        if mode == "test" and only_checks(venue):
            return rehearse(journal, plan_id, world, cast(OrderChecks, venue))
        return Driver(journal, plan_id, world).run(until)


def _has_time_left(project: Project, kept: Kept) -> bool:
    """Whether a process after this one may find out what became of a halted plan's orders."""
    return kept.ended_at is not None and project.now() - kept.ended_at < _KNOWN_AFTER


def halt(project: Project, plan_id: str, by: str) -> Kept:
    """A person stops a plan. An order that is under way is looked at once more; nothing else is asked.

    Raises:
        JournalError: it is over already, or there is none.
    """
    journal = Journal(project.data)
    journal.enter(plan_id, ("PROPOSED", *RUNNING), "HALTED", f"halted by {by}", project.now())
    journal.note(plan_id, TOLD, "whoever halted it knows", project.now())
    keep(project)
    return journal.kept(plan_id)


def resume(project: Project, plan_id: str, by: str, *, amount: Decimal | None = None) -> Kept:
    """A person lets a halted plan go on, after they have looked at the exchange. What was sold stays counted.

    Args:
        project: configuration, lake and venues.
        plan_id: a halted plan.
        by: who.
        amount: what is left to be sold by that person's word, base currency; None: as the journal says.

    Raises:
        ExitRefused: what became of an order is not known, or the grid is another one.
        JournalError: it is not halted, or another plan of the grid is under way.
    """
    journal = Journal(project.data)
    kept = journal.kept(plan_id)
    grid, mode = _permitted(project, journal, kept), kept.mode
    if (cannot := _cannot(project, kept)) is not None:
        raise ExitRefused(f"plan {plan_id}: {cannot}; make a new plan")
    terms = kept.plan.terms
    if mode != "paper":
        terms = replace(terms, most_quote=min(terms.most_quote, most_of(project, grid, mode)))
    if amount is not None:
        pending = [order.client_id for order in kept.plan.orders if order.state == "INTENDED"]
        if pending:
            raise ExitRefused(
                f"plan {plan_id}: what became of {', '.join(pending)} is not known yet; resume it without --amount, or "
                "wait until `mm exit status` says it"
            )
        done = sum(order.counted for order in kept.plan.orders)
        terms = replace(terms, inventory=min(terms.inventory, done + terms.rules.lots(amount)))
    journal.resume(plan_id, terms, by, project.now())
    return journal.kept(plan_id)


def open_plans(project: Project) -> list[Kept]:
    """The plans that a process should take up: those under way, and those of which an end is open or was not told.

    First those that may go on; of these the one of which nothing was heard for longest.
    """
    if not exists(project.data):
        return []
    journal, since = Journal(project.data), project.now() - _LOOKED_AFTER
    # What is over on paper is asked for nothing more, and there may be thousands of it.
    candidates = [*journal.all(*RUNNING, "HALTED"), *journal.all("DONE", "EXPIRED", without="paper")]
    found: list[tuple[bool, int, Kept]] = []
    for one in candidates:
        is_running = one.plan.state in RUNNING
        if one.mode == "paper" and not is_running and not _is_open(one, since):
            continue
        events = journal.events(one.plan_id)
        if is_running or _is_open(one, since) or not is_told(one, [event.kind for event in events]):
            found.append((not is_running, events[-1].number if events else 0, one))
    # What waits longest comes first, and what is halted after what may go on: none keeps another one waiting.
    return [one for *_, one in sorted(found, key=lambda each: each[:2])]


def _is_open(kept: Kept, since: datetime) -> bool:
    """Whether a plan was halted lately, and what became of one of its orders is not known."""
    is_late = kept.ended_at is not None and kept.ended_at < since
    return kept.plan.state == "HALTED" and not is_late and any(one.state == "INTENDED" for one in kept.plan.orders)


def standing(project: Project) -> str:
    """What orders.yaml makes possible now, in a line, for `mm doctor`.

    Raises:
        ExitRefused: what it says cannot be had; with the remedy.
    """
    orders = project.config.orders
    refuse_killed(project)
    halted = [one for one in Journal(project.data).all("HALTED") if one.mode != "paper"]
    if halted:
        names = ", ".join(f"{one.plan_id} of {one.grid_id}" for one in halted)
        raise ExitRefused(f"halted: {names}; `mm exit status PLAN` says why: look at the exchange, then resume it")
    allowed = [name for name, one in sorted(orders.grids.items()) if one.allow]
    said = f"mode {orders.mode}; real orders are allowed for {', '.join(allowed) or 'no grid'}"
    if orders.mode == "paper":
        return "mode paper: no exchange is asked for an order"
    venues = {project.config.market(grid.symbol).venue for grid in project.config.grids}
    key = orders.trade_key
    assert key is not None
    for name in [key.venue] if key.venue else sorted(venues):
        settings = project.config.markets.venues[name]
        if isinstance(settings, CcxtVenue):
            refuse_key(project, name, settings, orders.mode)
    return f"{said}; the trade key may trade, and not withdraw, as far as the exchange tells"
