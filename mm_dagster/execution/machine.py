"""The order machine: from what the journal holds and what the exchange was seen to say, the one thing to do next.

Pure: rows and observations in, an action out. Whoever drives it writes each action down before it is done, and asks
again after whatever came of it; a process that dies anywhere loses nothing but time. The rules, each shown necessary by
trials (docs/orders.md):

- the intent stands on disk before the request, and the number of an order is never used twice;
- only the exchange's record of an order counts, never its answer to placing it;
- an order that is INTENDED counts as sold; one that the exchange does not know is ABSENT only after all that could
  still be on its way is over, by a clock that nobody sets, counted anew by each process;
- no more is ever sold than the smaller of two figures: what the journal says is left of what the grid held, and what
  the account has beyond the coins that were never the grid's;
- orders are immediate-or-cancel sales with a limit; what is not filled there is told to a person, never chased;
- whoever else orders in this market meanwhile ends it: the grid's own orders are cancelled three times, anybody else's
  are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

from mm_dagster.market.order_venue import Holding, MarketRules, OpenOrder, OrderRecord

PlanState = Literal[
    "PROPOSED", "APPROVED", "STOPPING", "CANCELLING", "SELLING", "SETTLING", "DONE", "HALTED", "EXPIRED", "REFUSED"
]
RUNNING: tuple[PlanState, ...] = ("APPROVED", "STOPPING", "CANCELLING", "SELLING", "SETTLING")
FINAL: tuple[PlanState, ...] = ("DONE", "EXPIRED", "REFUSED")
"""HALTED is neither: a person may resume it."""
OrderState = Literal["INTENDED", "CLOSED", "ABSENT"]
Stopper = Literal["bot", "bot_sells", "orders", "operator"]
"""Who stops the grid: the exchange's own bot is asked to, and keeps its coins or sells them at market; its orders are
cancelled; or a person says that it is stopped."""

MOST_ROUNDS = 3
"""Rounds in which orders that came anew are cancelled; an order that is still there after so many cancels is stuck."""
FRESH_SECONDS = 3.0
"""A price that is older is asked for again before an order rests on it."""
LOOKED_SECONDS = 15.0
"""Likewise what rests and what the account has: an exchange that lets nobody ask faster takes some seconds for each."""
FORGOTTEN_SECONDS = 48 * 3_600.0
"""An exchange may have forgotten an order that is older: KuCoin what was not filled after three days, the rest after
seven."""
SILENT_SECONDS = 600.0
"""So long an exchange may say nothing at all."""
OVERTIME_SECONDS = 3_600.0
"""So much later than it should be over a plan does not go on by itself: who approved it meant another day."""
POLL_SECONDS = 1.0
"""Between two questions of the same kind."""
_ASKED = {
    "stop": "how the bot stands", "open": "what rests", "holding": "what the account has", "book": "the order book",
    "record": "what became of an order",
}  # fmt: skip


@dataclass(frozen=True)
class Terms:
    """What was approved; nothing of it changes afterwards.

    Attributes:
        plan_id: letters and digits, in each order's number.
        symbol: the market.
        rules: what the exchange takes as an order of it.
        inventory: lots that the grid held at the baseline.
        foreign: base currency of the account that was never the grid's.
        own_orders: the exchange's numbers of the grid's resting orders at the baseline.
        other_orders: those of everybody else.
        levels: prices at which the grid orders.
        stopper: who stops it.
        slices: equal sales.
        every_seconds: between two.
        hard: fraction of the mid price below which no order sells.
        most_quote: quote currency that the plan may sell in all.
        settle_seconds: how much later than a request's end the exchange may still tell of it.
        approval_seconds: after which an approval that was not begun is over.
        account: tells the account of the baseline from others; see market/orders.py.
    """

    plan_id: str
    symbol: str
    rules: MarketRules
    inventory: int
    foreign: Decimal
    own_orders: frozenset[str]
    other_orders: frozenset[str]
    levels: tuple[Decimal, ...]
    stopper: Stopper
    slices: int
    every_seconds: float
    hard: Decimal
    most_quote: Decimal
    settle_seconds: float
    approval_seconds: float = 600.0
    account: str = ""

    @property
    def stranger_ends(self) -> bool:
        """Whether any new order ends the plan: a person said that the grid orders no more."""
        return self.stopper != "orders"


@dataclass(frozen=True)
class Order:
    """One order as the journal has it.

    Attributes:
        number: from 1, in the order of their intents.
        client_id: what the exchange knows it by.
        lots: to be sold.
        limit: lowest price.
        state: of the order.
        filled: lots sold, of a CLOSED one.
        proceeds: quote currency for them.
        fee: quote currency; None: not told.
    """

    number: int
    client_id: str
    lots: int
    limit: Decimal
    state: OrderState = "INTENDED"
    filled: int = 0
    proceeds: Decimal = Decimal(0)
    fee: Decimal | None = None

    @property
    def counted(self) -> int:
        """Lots that count as sold."""
        return {"INTENDED": self.lots, "CLOSED": self.filled, "ABSENT": 0}[self.state]


@dataclass(frozen=True)
class Told:
    """An answer.

    Attributes:
        at: when the question was put, seconds of the process's own clock: what it tells is no newer.
        value: what was told.
        came: when the answer came. Whoever asks again must count from then: an exchange may need longer for an answer
            than the pause between two questions.
    """

    at: float
    value: object
    came: float


@dataclass(frozen=True)
class Seen:
    """What this process has seen. A new process has seen nothing, and waits all waits anew.

    Attributes:
        now: seconds of a clock that nobody sets.
        began: when the process took the plan up.
        is_killed: whether the kill file is there, or cannot be looked for.
        approved_for: seconds since the approval, by the calendar.
        pending_for: seconds since the intent of which nothing is known yet, likewise.
        sent: when the newest intent's request ended; None: this process sent none, so that it may have been sent just
            before it began.
        since_closed: when this process saw the newest order closed or absent; None: before it began.
        unheard: since when questions of a kind have no answer, by kind.
        stop: how the bot stands.
        open: the orders that rest in the market.
        holding: what the account has.
        mid: of the order book.
        records: of our orders, by number; a value of None: the exchange says that there is none.
        cancelled: how often a cancel was asked for, by the exchange's number of the order.
    """

    now: float
    began: float
    is_killed: bool = False
    approved_for: float = 0.0
    pending_for: float = 0.0
    sent: float | None = None
    since_closed: float | None = None
    unheard: Mapping[str, float] = field(default_factory=dict)
    stop: Told | None = None
    open: Told | None = None
    holding: Told | None = None
    mid: Told | None = None
    records: Mapping[int, Told] = field(default_factory=dict)
    cancelled: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A plan as the journal has it.

    Attributes:
        terms: what was approved.
        state: where it stands.
        orders: all that were ever intended, by number.
        rounds: in which new orders of the grid were cancelled.
        stops: how often the bot was asked to stop.
        from_order: orders up to this number were made before a person resumed it.
    """

    terms: Terms
    state: PlanState
    orders: tuple[Order, ...] = ()
    rounds: int = 0
    stops: int = 0
    from_order: int = 0


# actions --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """Put a question: nothing changes by it."""

    what: Literal["stop", "open", "holding", "book", "record"]
    number: int = 0


@dataclass(frozen=True)
class Wait:
    """Nothing can be done for so long."""

    seconds: float
    why: str


@dataclass(frozen=True)
class Enter:
    """Go on to a state."""

    state: PlanState
    why: str


@dataclass(frozen=True)
class StopGrid:
    """Ask the bot to stop and keep what it holds."""


@dataclass(frozen=True)
class Cancel:
    """Ask for an order to be cancelled.

    Attributes:
        order_id: the exchange's number.
        new_round: whether it came anew, so that a round is counted.
    """

    order_id: str
    new_round: bool = False


@dataclass(frozen=True)
class Intend:
    """Write an intent down, look for the kill file, send it."""

    order: Order


@dataclass(frozen=True)
class Settle:
    """Write down what became of an order."""

    order: Order


Action = Ask | Wait | Enter | StopGrid | Cancel | Intend | Settle


def client_id(plan_id: str, number: int) -> str:
    """What an order is known by: letters and digits, at most 18, as the strictest of the exchanges wants it."""
    return f"mm{plan_id}n{number}"


def to_wait(plan: Plan, seen: Seen, request_window: float) -> float:
    """When all that an intent may have set going is over, seconds of this process's clock."""
    return (seen.began if seen.sent is None else seen.sent) + request_window + plan.terms.settle_seconds


def remaining(plan: Plan, holding: Holding) -> int:
    """Lots that may still be sold: the smaller of what journal and account say."""
    return max(0, min(left_by_journal(plan), left_by_account(plan, holding)))


def left_by_journal(plan: Plan) -> int:
    """Lots that the grid held and that no order may have sold."""
    return plan.terms.inventory - sum(order.counted for order in plan.orders)


def left_by_account(plan: Plan, holding: Holding) -> int:
    """Lots that the account has free, beside the coins that were never the grid's."""
    return plan.terms.rules.lots(max(Decimal(0), min(holding.total - plan.terms.foreign, holding.free)))


def limit_of(terms: Terms, mid: Decimal) -> Decimal:
    """The lowest price that an order may have at a mid price of the book."""
    return terms.rules.limit(mid * (1 - terms.hard))


def next_action(plan: Plan, seen: Seen, request_window: float) -> Action | None:
    """What to do next; None: nothing, the plan is over or waits for a person.

    Args:
        plan: as the journal has it.
        seen: by this process.
        request_window: see `OrderVenue`.
    """
    if plan.state in FINAL or plan.state == "PROPOSED":
        return None
    if seen.is_killed:
        return None if plan.state == "HALTED" else Enter("HALTED", "the kill file is there: nothing is asked any more")
    for what, since in seen.unheard.items():
        if seen.now - since > SILENT_SECONDS:
            said = f"the exchange has said nothing for {SILENT_SECONDS / 60:.0f} minutes ({_ASKED[what]})"
            return None if plan.state == "HALTED" else Enter("HALTED", said)
    pending = [order for order in plan.orders if order.state == "INTENDED"]
    if pending:
        # Also of a halted plan: a person must know what became of it.
        return _pending(plan, pending[0], seen, request_window)
    if plan.state == "HALTED":
        return None
    terms = plan.terms
    if _has_begun(plan) and seen.approved_for > (
        terms.approval_seconds + terms.slices * terms.every_seconds + OVERTIME_SECONDS
    ):
        return Enter("HALTED", "it was approved long ago, and is not over: look at the exchange before it goes on")
    match plan.state:
        case "APPROVED":
            return _approved(plan, seen)
        case "STOPPING":
            return _stopping(plan, seen)
        case "CANCELLING":
            return _cancelling(plan, seen, request_window)
        case "SELLING":
            return _selling(plan, seen)
        case _:
            return _settling(plan, seen)


def _has_begun(plan: Plan) -> bool:
    return plan.state != "APPROVED" or bool(plan.orders or plan.stops or plan.rounds)


def _approved(plan: Plan, seen: Seen) -> Action:
    if not _has_begun(plan) and seen.approved_for > plan.terms.approval_seconds:
        return Enter("EXPIRED", "the approval is older than it may be; nothing was done")
    if plan.terms.stopper in ("bot", "bot_sells"):
        return Enter("STOPPING", "the bot is asked to stop")
    return Enter("CANCELLING", "the market is looked at for orders of the grid")


# an order -------------------------------------------------------------------------------------------------------------


def _pending(plan: Plan, order: Order, seen: Seen, request_window: float) -> Action | None:
    """What became of an intent. Only the exchange's record says it, or that it has none long after."""
    told = seen.records.get(order.number)
    over = to_wait(plan, seen, request_window)
    if told is None or seen.now - told.came >= POLL_SECONDS or told.at < over <= seen.now:
        return Ask("record", order.number)
    record = told.value
    left = over - seen.now
    if record is None:
        # Asked after the wait was over: an answer from before it proves nothing.
        if told.at >= over and seen.pending_for > FORGOTTEN_SECONDS:
            said = f"order {order.client_id} is so old that the exchange may have forgotten it: see the exchange"
            return None if plan.state == "HALTED" else Enter("HALTED", said)
        if told.at >= over:
            return Settle(replace(order, state="ABSENT"))
        return Wait(min(POLL_SECONDS, left), "the exchange does not know the order yet")
    assert isinstance(record, OrderRecord)
    if not record.is_open:
        return Settle(_closed(order, record, plan.terms.rules))
    if left > 0.0:
        return Wait(min(POLL_SECONDS, left), "the order is still open")
    if seen.cancelled.get(record.order_id, 0) < MOST_ROUNDS:
        return Cancel(record.order_id)
    said = f"order {order.client_id} stays open and cannot be cancelled: see the exchange"
    return None if plan.state == "HALTED" else Enter("HALTED", said)


def _closed(order: Order, record: OrderRecord, rules: MarketRules) -> Order:
    # A part of a lot counts as one: less is left then, never more.
    lots = -int(-(record.filled / rules.lot) // 1)
    return replace(order, state="CLOSED", filled=lots, proceeds=record.proceeds, fee=record.fee)


# stopping the grid ----------------------------------------------------------------------------------------------------


def _stopping(plan: Plan, seen: Seen) -> Action:
    if seen.stop is None or seen.now - seen.stop.came >= POLL_SECONDS:
        return Ask("stop")
    state = seen.stop.value
    if state == "stopped":
        if plan.terms.stopper == "bot_sells":
            return Enter("DONE", "the bot is stopped, and the exchange sold at market what it held")
        return Enter("CANCELLING", "the bot is stopped")
    if state == "stopping" or (state == "unknown" and plan.stops):
        # A run of the daemon is shorter than this: the calendar counts, too.
        if max(seen.now - seen.began, seen.approved_for - plan.terms.approval_seconds) > SILENT_SECONDS:
            return Enter("HALTED", "the bot does not come to a stop: see the exchange")
        return Wait(POLL_SECONDS, "the bot is stopping")
    if state == "unknown":
        return Enter("HALTED", "the exchange does not say whether the bot runs: see the exchange")
    if seen.sent is not None and seen.now - seen.sent < plan.terms.settle_seconds:
        return Wait(POLL_SECONDS, "the bot was asked to stop")
    if plan.stops >= MOST_ROUNDS:
        return Enter("HALTED", f"the bot runs on although it was asked to stop {plan.stops} times: see the exchange")
    return StopGrid()


def _cancelling(plan: Plan, seen: Seen, request_window: float) -> Action:
    """The grid's own orders are cancelled, and what it places anew, until the market shows none for a while."""
    terms = plan.terms
    if seen.open is None or seen.now - seen.open.came >= POLL_SECONDS:
        return Ask("open")
    resting = _resting(seen.open, plan)
    stranger = _stranger(plan, resting)
    if stranger is not None:
        return stranger
    mine = [order for order in resting if is_the_grids(order, terms)]
    if not mine:
        # What a cancel came too late for, the balance shows by then.
        if (left := to_wait(plan, seen, request_window) - seen.now) > 0:
            return Wait(min(left, POLL_SECONDS), "whether the grid orders anew")
        return Enter("SELLING", "the grid orders no more")
    fresh = [order for order in mine if order.order_id not in terms.own_orders]
    untried = [order for order in mine if not seen.cancelled.get(order.order_id)]
    if untried:
        new_round = untried[0] in fresh and not any(seen.cancelled.get(order.order_id) for order in fresh)
        if new_round and plan.rounds >= MOST_ROUNDS:
            return Enter("HALTED", f"the grid orders anew although it was cancelled {plan.rounds} times: stop it first")
        return Cancel(untried[0].order_id, new_round)
    again = min(mine, key=lambda order: (seen.cancelled[order.order_id], order.order_id))
    if seen.now - (seen.sent or seen.began) < min(POLL_SECONDS * 2, terms.settle_seconds):
        return Wait(POLL_SECONDS, "the orders are being cancelled")
    if seen.cancelled[again.order_id] > MOST_ROUNDS:
        return Enter("HALTED", f"order {again.order_id} stays open and cannot be cancelled: see the exchange")
    return Cancel(again.order_id)


def _resting(told: Told, plan: Plan) -> Sequence[OpenOrder]:
    """The orders that are neither ours nor were there before and are somebody else's."""
    ours = {order.client_id for order in plan.orders}
    found: Sequence[OpenOrder] = told.value  # type: ignore[assignment]
    return [one for one in found if one.client_id not in ours and one.order_id not in plan.terms.other_orders]


def is_the_grids(order: OpenOrder, terms: Terms) -> bool:
    """Whether an order is one of the grid's: it was there, or it lies on one of its levels."""
    if order.order_id in terms.own_orders:
        return True
    price = order.price
    return price is not None and any(abs(price - level) <= terms.rules.tick for level in terms.levels)


def _stranger(plan: Plan, resting: Sequence[OpenOrder]) -> Action | None:
    """The end of a plan in whose market somebody orders; None: nobody does who may not."""
    terms = plan.terms
    for order in resting:
        if order.order_id in terms.own_orders:
            continue
        if terms.stranger_ends:
            return Enter("HALTED", f"order {order.order_id} is new although the grid was said to be stopped")
        if not is_the_grids(order, terms):
            return Enter(
                "HALTED", f"somebody else ordered in this market ({order.order_id}): nothing of theirs is touched"
            )
    return None


# selling --------------------------------------------------------------------------------------------------------------


def _selling(plan: Plan, seen: Seen) -> Action:
    """One slice after the other; each rests on answers that came after all that is known of the one before."""
    made = [order for order in plan.orders if order.number > plan.from_order]
    return (made and _after(plan, made, seen)) or _looked(plan, seen) or _next_order(plan, made, seen)


def _after(plan: Plan, made: Sequence[Order], seen: Seen) -> Action | None:
    """What follows from the newest order; None: the next one may come."""
    terms, last = plan.terms, made[-1]
    settled = _settled(seen)
    pause = terms.settle_seconds if last.state == "CLOSED" else 0.0
    if (left := settled + pause - seen.now) > 0:
        return Wait(min(left, POLL_SECONDS), "the exchange books what was sold")
    if (again := _once_more(last, seen, settled + pause, terms.rules)) is not None:
        return again
    if last.state == "CLOSED" and terms.rules.takes(last.lots - last.filled, last.limit):
        part = f"{terms.rules.amount(last.filled)} of {terms.rules.amount(last.lots)}"
        return Enter("HALTED", f"only {part} was sold at {last.limit} or better; the rest is not chased")
    absent = sum(order.state == "ABSENT" for order in made)
    if len(made) - absent >= terms.slices:
        return Enter("SETTLING", "all slices are placed")
    if absent > MOST_ROUNDS:
        return Enter("HALTED", f"{absent} orders never reached the exchange: see whether it takes orders")
    if last.state == "CLOSED" and (left := settled + terms.every_seconds - seen.now) > 0:
        return Wait(min(left, POLL_SECONDS), "the next slice is not due")
    return None


def _settled(seen: Seen) -> float:
    """Since when this process knows what became of the newest order."""
    return seen.began if seen.since_closed is None else seen.since_closed


def _looked(plan: Plan, seen: Seen) -> Action | None:
    """What rests, what the account has and where the price is, all of now; None: known, and nobody else orders."""
    # The price comes last: it is what grows old.
    asked: tuple[tuple[Literal["open", "holding", "book"], Told | None, float], ...] = (
        ("open", seen.open, LOOKED_SECONDS), ("holding", seen.holding, LOOKED_SECONDS),
        ("book", seen.mid, FRESH_SECONDS),
    )  # fmt: skip
    for what, told, lasts in asked:
        if told is None or seen.now - told.came >= lasts or told.at < _settled(seen):
            return Ask(what)
    assert seen.open is not None
    return _ordered_anew(plan, seen.open)


def _ordered_anew(plan: Plan, told: Told) -> Action | None:
    """What follows from the orders that rest in the market; None: nobody ordered who may not."""
    resting = _resting(told, plan)
    return _stranger(plan, resting) or (Enter("CANCELLING", "the grid ordered anew") if resting else None)


def _next_order(plan: Plan, made: Sequence[Order], seen: Seen) -> Action:
    terms, rules = plan.terms, plan.terms.rules
    assert seen.holding is not None
    assert seen.mid is not None
    left: int = remaining(plan, seen.holding.value)  # type: ignore[arg-type]
    mid: Decimal = seen.mid.value  # type: ignore[assignment]
    limit = limit_of(terms, mid)
    if not rules.takes(left, limit):
        if rules.takes(left_by_journal(plan), limit):
            return Enter("HALTED", "the account has less than the grid held: see the exchange who sold it, or holds it")
        return Enter("SETTLING", "what is left is too little for an order" if left else "nothing is left to sell")
    lots = -(-left // max(1, terms.slices - sum(order.state == "CLOSED" for order in made)))
    lots = _least(rules, lots, left, limit)
    if not rules.takes(left - lots, limit):
        # The last one takes what would be too little to be sold alone.
        lots = left
    number = max((order.number for order in plan.orders), default=0) + 1
    if _spent(plan) + rules.amount(lots) * mid > terms.most_quote:
        return Enter("HALTED", f"the next order would sell more than the {terms.most_quote} that are allowed in all")
    return Intend(Order(number, client_id(terms.plan_id, number), lots, limit))


def _spent(plan: Plan) -> Decimal:
    """Quote currency that all orders sold for, or may have at least."""
    return sum(
        (
            order.proceeds if order.state == "CLOSED" else plan.terms.rules.amount(order.lots) * order.limit
            for order in plan.orders
            if order.state != "ABSENT"
        ),
        Decimal(0),
    )


def _least(rules: MarketRules, lots: int, most: int, price: Decimal) -> int:
    """The fewest lots from so many on that are an order; all of them where none is."""
    needed = max(rules.least, rules.least_funds / price) / rules.lot
    return min(most, max(lots, -int(-needed // 1)))


def _once_more(order: Order, seen: Seen, since: float, rules: MarketRules) -> Action | None:
    """The record of an order is read again: what an exchange says at first may be less than what was sold."""
    told = seen.records.get(order.number)
    if told is None or told.at < since:
        return Ask("record", order.number)
    record = told.value
    if not isinstance(record, OrderRecord):
        return None
    if record.is_open:
        return Settle(replace(order, state="INTENDED", filled=0, proceeds=Decimal(0), fee=None))
    true = _closed(order, record, rules)
    return Settle(true) if true != order else None


def _settling(plan: Plan, seen: Seen) -> Action:
    """A last look when all is over: each record once more, what rests, and what the account has."""
    terms = plan.terms
    since = _settled(seen)
    if (left := since + terms.settle_seconds - seen.now) > 0:
        return Wait(min(left, POLL_SECONDS), "the exchange books what was sold")
    for order in plan.orders:
        if (again := _once_more(order, seen, since + terms.settle_seconds, terms.rules)) is not None:
            return again
    if seen.open is None or seen.open.at < since + terms.settle_seconds:
        return Ask("open")
    if seen.holding is None or seen.holding.at < since + terms.settle_seconds:
        return Ask("holding")
    if (elsewhere := _ordered_anew(plan, seen.open)) is not None:
        return elsewhere
    sold = sum(order.filled for order in plan.orders)
    if sold > terms.inventory:
        return Enter(
            "HALTED", f"{terms.rules.amount(sold)} were sold, and the grid held {terms.rules.amount(terms.inventory)}"
        )
    said = f"{terms.rules.amount(sold)} of {terms.rules.amount(terms.inventory)} were sold"
    if plan.orders and terms.rules.takes(left_by_journal(plan), plan.orders[-1].limit):
        said += "; the account has less than the grid held"
        if terms.stopper == "operator":
            # It had all of it when that was approved, and the grid was stopped.
            return Enter("HALTED", f"{said}: see the exchange who sold the rest, or holds it")
    return Enter("DONE", said)
