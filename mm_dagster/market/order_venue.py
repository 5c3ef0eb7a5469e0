"""What an exchange must answer so that a grid can be left there: what is held, what rests, what became of an order.

The real one is market/orders.py, the one on paper execution/paper.py. There is no way to buy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal, Protocol


@dataclass(frozen=True)
class MarketRules:
    """What an exchange takes as an order of a market.

    Attributes:
        lot: step of amounts, base currency.
        tick: step of prices, quote currency.
        least: smallest amount of an order, base currency.
        least_funds: smallest amount times price, quote currency.
    """

    lot: Decimal
    tick: Decimal
    least: Decimal = Decimal(0)
    least_funds: Decimal = Decimal(0)

    def lots(self, amount: Decimal) -> int:
        """How many whole lots an amount has; never more than it is."""
        return int((amount / self.lot).to_integral_value(ROUND_FLOOR))

    def amount(self, lots: int) -> Decimal:
        """Base currency of so many lots."""
        return self.lot * lots

    def limit(self, price: Decimal) -> Decimal:
        """The lowest price of a tick that is not below a price."""
        return self.tick * (price / self.tick).to_integral_value(ROUND_CEILING)

    def takes(self, lots: int, price: Decimal) -> bool:
        """Whether so many lots at a price are an order."""
        amount = self.amount(lots)
        return lots > 0 and amount >= self.least and amount * price >= self.least_funds


@dataclass(frozen=True)
class Holding:
    """What an account has of a market's base currency.

    Attributes:
        total: all of it, what resting orders hold included.
        free: what an order may sell.
    """

    total: Decimal
    free: Decimal


@dataclass(frozen=True)
class OpenOrder:
    """An order that rests at the exchange.

    Attributes:
        order_id: the exchange's.
        client_id: whoever placed it gave it; None: nobody did.
        side: buy or sell.
        price: of its limit; None: it has none.
    """

    order_id: str
    client_id: str | None
    side: str
    price: Decimal | None


@dataclass(frozen=True)
class OrderRecord:
    """What the exchange has on record of one of our orders; it alone counts.

    Attributes:
        order_id: the exchange's.
        is_open: whether it may still fill.
        filled: base currency sold so far.
        proceeds: quote currency for it, before fees.
        fee: quote currency; None: not told.
        limit: its limit price; None: not told.
        amount: base currency that was asked to be sold; None: not told.
        side: as the exchange has it; None: not told.
    """

    order_id: str
    is_open: bool
    filled: Decimal
    proceeds: Decimal
    fee: Decimal | None = None
    limit: Decimal | None = None
    amount: Decimal | None = None
    side: str | None = None


class OrderVenue(Protocol):
    """One account at one exchange, for one plan. Whatever is asked may raise `VenueError`: there was no answer.

    Attributes:
        label: begins an error.
        request_window: seconds after which a request that was sent can do nothing any more.
    """

    label: str
    request_window: float

    def rules(self, symbol: str) -> MarketRules:
        """What it takes as an order."""

    def holding(self, symbol: str) -> Holding:
        """What the account has of the base currency."""

    def open_orders(self, symbol: str) -> Sequence[OpenOrder]:
        """All that rests in this market, whoever placed it."""

    def record(self, symbol: str, client_id: str) -> OrderRecord | None:
        """One of our orders; None: the exchange says that it has none, which it may say too early."""

    def sell(self, symbol: str, client_id: str, amount: Decimal, limit: Decimal) -> None:
        """Asks for an immediate-or-cancel limit sale. What is answered proves nothing; see `record`."""

    def cancel(self, symbol: str, order_id: str) -> None:
        """Asks for an order to be cancelled. What is answered proves nothing; see `open_orders`."""


class OrderChecks(Protocol):
    """A venue that only checks orders; see `OrderVenue`. What was checked is never found again.

    Attributes:
        only_checks: true of it.
    """

    only_checks: bool

    def rehearse(self, symbol: str, client_id: str, amount: Decimal, limit: Decimal) -> str:
        """The exchange's verdict on a sale, in words. VenueError: it refuses, or did not answer."""


StopState = Literal["running", "stopping", "stopped", "unknown"]


class GridStop(Protocol):
    """The exchange's own grid bot, which is to place no order any more."""

    def state(self) -> StopState:
        """How it stands."""

    def stop(self) -> None:
        """Asks for it to be stopped and to keep what it holds. What is answered proves nothing; see `state`."""
