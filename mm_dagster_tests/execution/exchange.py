"""An exchange that can be as unhelpful as the real ones: late, silent, forgetful, and honest in its own books alone.

It matches sales against a book of its own, keeps an order record that nobody outside may see before its lag is over,
and counts what was really sold: the truth that the trials compare a journal with. Time is whatever `seconds` says, so
that trials of a whole hour run in milliseconds; loopback servers give it the real one.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from mm_dagster.books.book import Book, parse
from mm_dagster.market.order_venue import Holding, MarketRules, OpenOrder, OrderRecord
from mm_dagster.market.venue import VenueError
from mm_dagster_tests.execution.matching import Matching


@dataclass
class Placed:
    """An order as the exchange has it.

    Attributes:
        order_id: its own number.
        client_id: as it was sent; None: not ours.
        side: buy or sell.
        amount: base currency.
        limit: price.
        is_open: whether it rests.
        filled: base currency.
        proceeds: quote currency.
        known_at: from when on questions find it.
        shown_filled: what questions say was filled until `true_at`.
        true_at: from when on they say the truth.
        is_stuck: whether cancels do nothing.
    """

    order_id: str
    client_id: str | None
    side: str
    amount: Decimal
    limit: Decimal
    is_open: bool = True
    filled: Decimal = Decimal(0)
    proceeds: Decimal = Decimal(0)
    known_at: float = 0.0
    shown_filled: Decimal | None = None
    true_at: float = 0.0
    is_stuck: bool = False


@dataclass
class Whims:
    """How unhelpful it is: probabilities of each request, and seconds.

    Attributes:
        lost_request: it never arrives.
        lost_answer: it is done, and the answer never comes.
        late_request: it is done only a while after the client gave up.
        wrong_answer: an order that was taken is answered with an error.
        partial: an order fills a part only.
        no_answer: a question is not answered.
        lag: until questions find a new order.
        balance_lag: until a balance shows a fill.
        fill_lag: until a record says all of what was filled.
        stuck_order: an immediate-or-cancel order rests all the same.
        stuck_cancel: a cancel does nothing.
        bot_orders: how many times a grid that was cancelled orders anew.
        bot_fills: the grid's own orders fill while they are cancelled.
    """

    lost_request: float = 0.0
    lost_answer: float = 0.0
    late_request: float = 0.0
    wrong_answer: float = 0.0
    partial: float = 0.0
    no_answer: float = 0.0
    lag: float = 0.0
    balance_lag: float = 0.0
    fill_lag: float = 0.0
    stuck_order: float = 0.0
    stuck_cancel: float = 0.0
    bot_orders: int = 0
    bot_fills: float = 0.0


@dataclass
class Exchange:
    """One account with one market.

    Attributes:
        seconds: its clock.
        rules: of the market.
        total: base currency of the account.
        mid: of the book.
        levels: prices at which its grid orders.
        request_window: seconds within which a request that was sent is done, or never.
        fee: fraction.
        sold: base currency that our orders really sold.
        sold_by_grid: that the grid's own orders sold meanwhile, less what they bought.
        sides: of our orders.
        duplicates: orders that came with a number that another had.
        others_cancelled: orders of other people that were cancelled.
        name: what it calls its orders, by their number.
        walks: buyers whom our sales meet; None: they all sell near the mid price.
    """

    seconds: Callable[[], float]
    rules: MarketRules
    total: Decimal
    mid: float = 100.0
    depth: Decimal = Decimal(1000)
    levels: tuple[Decimal, ...] = ()
    request_window: float = 5.0
    fee: Decimal = Decimal("0.001")
    whims: Whims = field(default_factory=Whims)
    random: random.Random = field(default_factory=lambda: random.Random(0))
    orders: dict[str, Placed] = field(default_factory=dict)
    sold: Decimal = Decimal(0)
    sold_by_grid: Decimal = Decimal(0)
    others_cancelled: list[str] = field(default_factory=list)
    sides: list[str] = field(default_factory=list)
    duplicates: int = 0
    walks: Matching | None = None
    _balances: list[tuple[float, Decimal]] = field(default_factory=list)
    _late: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    name: Callable[[int], str] = lambda number: f"x{number}"
    _number: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    # what is asked ----------------------------------------------------------------------------------------------------

    def holding(self) -> Holding:
        self._go_on()
        now = self.seconds()
        shown = self.total
        for until, before in reversed(self._balances):
            if until > now:
                shown = before
        held = sum(
            (one.amount - one.filled for one in self.orders.values() if one.is_open and one.side == "sell"), Decimal(0)
        )
        return Holding(shown, max(Decimal(0), shown - held))

    def open_orders(self) -> list[OpenOrder]:
        self._go_on()
        now = self.seconds()
        return [
            OpenOrder(one.order_id, one.client_id, one.side, one.limit)
            for one in self.orders.values()
            if one.is_open and one.known_at <= now
        ]

    def record(self, client_id: str) -> OrderRecord | None:
        self._go_on()
        now = self.seconds()
        found = [one for one in self.orders.values() if one.client_id == client_id and one.known_at <= now]
        if not found:
            return None
        one = found[-1]
        filled, proceeds = one.filled, one.proceeds
        if one.true_at > now and one.shown_filled is not None and filled:
            proceeds, filled = proceeds * one.shown_filled / filled, one.shown_filled
        return OrderRecord(
            one.order_id, one.is_open, filled, proceeds, proceeds * self.fee, one.limit, one.amount, "sell"
        )

    def book(self) -> Book:
        if self.walks is not None:
            return self.walks.book()
        return parse(
            [(self.mid * (1 - 0.0002 * (n + 1)), 1.0 + n) for n in range(20)],
            [(self.mid * (1 + 0.0002 * (n + 1)), 1.0 + n) for n in range(20)],
        )

    # what changes it --------------------------------------------------------------------------------------------------

    def place(
        self, client_id: str | None, side: str, amount: Decimal, limit: Decimal, *, rests: bool = False
    ) -> Placed:
        """Takes an order. One with a client's number that an open order has is refused, as exchanges do."""
        with self.lock:
            if client_id is not None and any(one.client_id == client_id for one in self.orders.values()):
                self.duplicates += 1
            if client_id is not None and any(
                one.client_id == client_id and one.is_open for one in self.orders.values()
            ):
                raise VenueError("duplicate client order id")
            if side == "sell" and amount > self.holding_now():
                raise VenueError("insufficient balance")
            self._number += 1
            now = self.seconds()
            order = Placed(self.name(self._number), client_id, side, amount, limit, known_at=now)
            self.orders[order.order_id] = order
            if rests:
                return order
            self.sides.append(side)
            order.known_at = now + self.random.uniform(0, self.whims.lag)
            if self._is(self.whims.stuck_order):
                order.is_stuck = self._is(0.5)
                return order
            self._fill(order, amount * (Decimal(self.random.randint(1, 9)) / 10 if self._is(self.whims.partial) else 1))
            order.is_open = False
            return order

    def holding_now(self) -> Decimal:
        """What is free in truth."""
        held = sum(
            (one.amount - one.filled for one in self.orders.values() if one.is_open and one.side == "sell"), Decimal(0)
        )
        return self.total - held

    def _fill(self, order: Placed, amount: Decimal) -> None:
        now = self.seconds()
        filled = min(order.amount, self.rules.amount(self.rules.lots(amount)))
        proceeds = filled * max(order.limit, Decimal(repr(round(self.mid * 0.999, 6))))
        if self.walks is not None and order.client_id is not None:
            trades = self.walks.sell(filled, order.limit)
            filled = sum((traded for _, traded in trades), Decimal(0))
            proceeds = sum((price * traded for price, traded in trades), Decimal(0))
        self._balances.append((now + self.random.uniform(0, self.whims.balance_lag), self.total))
        sign = -1 if order.side == "sell" else 1
        self.total += sign * filled
        order.shown_filled = self.rules.amount(self.rules.lots(order.filled + filled * Decimal(self.random.random())))
        order.filled += filled
        order.proceeds += proceeds
        order.true_at = now + self.random.uniform(0, self.whims.fill_lag)
        if order.client_id is None:
            self.sold_by_grid -= sign * filled
        elif order.side == "sell":
            self.sold += filled

    def give(self, amount: Decimal) -> None:
        """Coins come into the account; the balance shows them a while later."""
        with self.lock:
            self._balances.append((self.seconds() + self.random.uniform(0, self.whims.balance_lag), self.total))
            self.total += amount

    def cancel(self, order_id: str) -> None:
        with self.lock:
            order = self.orders.get(order_id)
            if order is None or not order.is_open:
                raise VenueError("order not found")
            if order.is_stuck or self._is(self.whims.stuck_cancel):
                return
            if order.client_id is None and order.limit not in self.levels:
                self.others_cancelled.append(order_id)
            if order.client_id is None and self._is(self.whims.bot_fills):
                self._fill(order, order.amount)
            order.is_open = False
            if order.client_id is None and order.limit in self.levels and self.whims.bot_orders > 0:
                self.whims.bot_orders -= 1
                later = self.seconds() + self.random.uniform(0, 2)
                self._late.append((later, lambda: self._anew(order)))

    def _anew(self, order: Placed) -> None:
        amount = min(order.amount, self.holding_now()) if order.side == "sell" else order.amount
        if amount > 0:
            self.place(None, order.side, amount, order.limit, rests=True)

    # how it is asked --------------------------------------------------------------------------------------------------

    def arrives(self, done: Callable[[], object]) -> None:
        """A request that changes something, with all that may become of it and of its answer.

        Raises:
            VenueError: no answer, or an error, whatever was done.
        """
        self._go_on()
        if self._is(self.whims.lost_request):
            raise VenueError("no answer (the request is lost)")
        if self._is(self.whims.late_request):
            later = self.seconds() + self.random.uniform(0, self.request_window)
            self._late.append((later, lambda: _quietly(done)))
            raise VenueError("no answer (the request is late)")
        done()
        if self._is(self.whims.lost_answer):
            raise VenueError("no answer (the answer is lost)")
        if self._is(self.whims.wrong_answer):
            raise VenueError("internal error")

    def asked(self) -> None:
        """A question arrives.

        Raises:
            VenueError: it is not answered.
        """
        self._go_on()
        if self._is(self.whims.no_answer):
            raise VenueError("no answer")

    def _go_on(self) -> None:
        with self.lock:
            now = self.seconds()
            due = [one for one in self._late if one[0] <= now]
            self._late = [one for one in self._late if one[0] > now]
            for _, done in due:
                done()

    def _is(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability


def _quietly(done: Callable[[], object]) -> None:
    try:
        done()
    except VenueError:
        # Nobody waits for the answer any more.
        return


@dataclass
class InProcess:
    """The exchange as an `OrderVenue`, without a network between."""

    exchange: Exchange
    label: str = "the exchange"
    waits: Callable[[float], None] = lambda seconds: None

    @property
    def request_window(self) -> float:
        return self.exchange.request_window

    def rules(self, symbol: str) -> MarketRules:
        return self.exchange.rules

    def holding(self, symbol: str) -> Holding:
        self.exchange.asked()
        return self.exchange.holding()

    def open_orders(self, symbol: str) -> list[OpenOrder]:
        self.exchange.asked()
        return self.exchange.open_orders()

    def record(self, symbol: str, client_id: str) -> OrderRecord | None:
        self.exchange.asked()
        return self.exchange.record(client_id)

    def book(self) -> Book:
        self.exchange.asked()
        return self.exchange.book()

    def sell(self, symbol: str, client_id: str, amount: Decimal, limit: Decimal) -> None:
        self.exchange.arrives(lambda: self.exchange.place(client_id, "sell", amount, limit))

    def cancel(self, symbol: str, order_id: str) -> None:
        self.exchange.arrives(lambda: self.exchange.cancel(order_id))
