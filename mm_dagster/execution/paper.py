"""An exchange on paper: sales fill at the order book that they would have met, and a ledger keeps what they fetched.

The same protocol as a real one (`market/order_venue.py`), so that what is tried on paper is what runs. It has no clock
and no chance of its own: which book a sale meets, after the latency, says whoever makes it. A sale takes the levels at
or above its limit, the best first, in whole lots; a level that was taken at one book is not there for the next sale at
the same book. Nobody else is moved by it: the next book is the one that the exchange had without us.

The ledger stands in the journal's file. An order, its fills and the balance are written in one transaction, so that a
process that was killed finds its orders again, or finds that there are none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from mm_dagster.books.book import Book
from mm_dagster.execution import durable
from mm_dagster.execution.journal import FOLDER, NAME, JournalError
from mm_dagster.market.order_venue import Holding, MarketRules, OpenOrder, OrderRecord
from mm_dagster.market.venue import VenueError
from mm_dagster.text import exact

_SCHEMA = """
CREATE TABLE IF NOT EXISTS paper_balance (
    account TEXT PRIMARY KEY, market TEXT NOT NULL, lot TEXT NOT NULL, opened INTEGER NOT NULL, held INTEGER NOT NULL,
    proceeds TEXT NOT NULL, fees TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS paper_order (
    number INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL REFERENCES paper_balance, client_id TEXT NOT NULL,
    market TEXT NOT NULL, book TEXT NOT NULL, lots INTEGER NOT NULL, price TEXT NOT NULL, filled INTEGER NOT NULL,
    proceeds TEXT NOT NULL, fee TEXT NOT NULL, UNIQUE (account, client_id)
) STRICT;
CREATE TABLE IF NOT EXISTS paper_fill (
    number INTEGER NOT NULL REFERENCES paper_order, market TEXT NOT NULL, book TEXT NOT NULL, price TEXT NOT NULL,
    lots INTEGER NOT NULL, PRIMARY KEY (number, price)
) STRICT;
CREATE INDEX IF NOT EXISTS paper_fill_of_book ON paper_fill (market, book);
"""


@dataclass(frozen=True)
class Update:
    """An order book, and which one it is.

    Attributes:
        name: of this book among all of its market: sales at the same one do not take the same level twice.
        book: as the exchange had it.
    """

    name: str
    book: Book


class Fill(NamedTuple):
    """What was taken of a level: its price in quote currency, and whole lots."""

    price: Decimal
    lots: int


class PaperOrder(NamedTuple):
    """An order in the ledger.

    Attributes:
        client_id: what it is known by.
        book: name of the book that it met.
        lots: that were to be sold.
        limit: lowest price, quote currency.
        filled: lots sold.
        proceeds: quote currency for them, before the fee.
        fee: quote currency.
    """

    client_id: str
    book: str
    lots: int
    limit: Decimal
    filled: int
    proceeds: Decimal
    fee: Decimal


class Balance(NamedTuple):
    """What an account on paper has.

    Attributes:
        lot: base currency of one.
        opened: lots that it began with.
        held: lots that are left.
        proceeds: quote currency that was sold for, before fees.
        fees: quote currency.
    """

    lot: Decimal
    opened: int
    held: int
    proceeds: Decimal
    fees: Decimal


def taken(book: Book, rules: MarketRules, lots: int, limit: Decimal, before: Mapping[Decimal, int]) -> list[Fill]:
    """What an immediate-or-cancel sale takes of a book, the best level first.

    Args:
        book: which it meets.
        rules: of the market; what a level has beyond whole lots is not counted.
        lots: to be sold.
        limit: lowest price, quote currency.
        before: lots that were taken of the same book before, by price.
    """
    found, left = [], lots
    for price_number, amount in book.bids.tolist():
        # The shortest text of a float is what the exchange sent.
        price = exact(price_number)
        if not left or price < limit:
            break
        there = rules.lots(exact(amount)) - before.get(price, 0)
        if there > 0:
            found.append(Fill(price, min(left, there)))
            left -= found[-1].lots
    return found


class Ledger:
    """What was sold on paper, in the journal's file of one data folder."""

    def __init__(self, data: Path) -> None:
        """
        Args:
            data: the data folder.

        Raises:
            JournalError: the file cannot be used.
        """
        self.path = data / FOLDER / NAME
        durable.prepare(self.path, _SCHEMA, self._refusal)

    def open(self, account: str, market: str, rules: MarketRules, amount: Decimal) -> None:
        """An account with so much base currency; one that there is already stays as it is.

        Args:
            account: its name: the plan's.
            market: venue and symbol: whoever sells there meets the same books.
            rules: of the market.
            amount: base currency; what it has beyond whole lots is left out.
        """
        lots = rules.lots(amount)
        with durable.turn(self.path, self._refusal) as file:
            file.execute(
                "INSERT INTO paper_balance VALUES (?, ?, ?, ?, ?, '0', '0') ON CONFLICT DO NOTHING",
                (account, market, str(rules.lot), lots, lots),
            )

    def balance(self, account: str) -> Balance:
        """What an account has.

        Raises:
            JournalError: there is none of that name.
        """
        with durable.look(self.path, self._refusal) as file:
            return self._balance(file, account)

    def orders(self, account: str, client_id: str | None = None) -> tuple[PaperOrder, ...]:
        """The orders of an account, oldest first; or the one of a number."""
        with durable.look(self.path, self._refusal) as file:
            rows = file.execute(
                "SELECT * FROM paper_order WHERE account = ? AND (? IS NULL OR client_id = ?) ORDER BY number",
                (account, client_id, client_id),
            ).fetchall()
        return tuple(
            PaperOrder(
                row["client_id"], row["book"], row["lots"], Decimal(row["price"]), row["filled"],
                Decimal(row["proceeds"]), Decimal(row["fee"]),
            )
            for row in rows
        )  # fmt: skip

    def sell(
        self, account: str, client_id: str, lots: int, limit: Decimal, *,
        at: Update, rules: MarketRules, fee: Decimal, still: Callable[[], None],
    ) -> None:  # fmt: skip
        """An immediate-or-cancel sale: all of what becomes of it, or nothing.

        Args:
            account: whose.
            client_id: what it is known by; one that the account had is refused.
            lots: to be sold.
            limit: lowest price, quote currency.
            at: the book that it meets.
            rules: of the market.
            fee: taker fee, fraction.
            still: raises where it comes too late; nothing is sold then.

        Raises:
            VenueError: it is refused.
        """
        with durable.turn(self.path, self._refusal) as file:
            still()
            balance = self._balance(file, account)
            if file.execute(
                "SELECT 1 FROM paper_order WHERE account = ? AND client_id = ?", (account, client_id)
            ).fetchone():
                raise VenueError(f"on paper: {client_id}: there is an order of this number")
            if lots > balance.held:
                raise VenueError(f"on paper: {client_id}: {lots} lots are more than the {balance.held} that are held")
            market = file.execute("SELECT market FROM paper_balance WHERE account = ?", (account,)).fetchone()[0]
            before: dict[Decimal, int] = {}
            for price, some in file.execute(
                "SELECT price, lots FROM paper_fill WHERE market = ? AND book = ?", (market, at.name)
            ):
                before[Decimal(price)] = before.get(Decimal(price), 0) + some
            fills = taken(at.book, rules, lots, limit, before)
            filled = sum(one.lots for one in fills)
            proceeds = sum((one.price * rules.amount(one.lots) for one in fills), Decimal(0))
            paid = proceeds * fee
            number = file.execute(
                "INSERT INTO paper_order (account, client_id, market, book, lots, price, filled, proceeds, fee) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (account, client_id, market, at.name, lots, str(limit), filled, str(proceeds), str(paid)),
            ).lastrowid
            file.executemany(
                "INSERT INTO paper_fill VALUES (?, ?, ?, ?, ?)",
                [(number, market, at.name, str(one.price), one.lots) for one in fills],
            )
            file.execute(
                "UPDATE paper_balance SET held = ?, proceeds = ?, fees = ? WHERE account = ?",
                (balance.held - filled, str(balance.proceeds + proceeds), str(balance.fees + paid), account),
            )

    def faults(self, account: str) -> list[str]:
        """Where the balance of an account, its orders and their fills do not agree, in sentences."""
        balance, orders = self.balance(account), self.orders(account)
        with durable.look(self.path, self._refusal) as file:
            rows = file.execute(
                "SELECT o.client_id, f.price, f.lots FROM paper_fill f JOIN paper_order o USING (number) "
                "WHERE o.account = ?",
                (account,),
            ).fetchall()
        found = []
        for order in orders:
            mine = [row for row in rows if row["client_id"] == order.client_id]
            if sum(row["lots"] for row in mine) != order.filled or order.filled > order.lots:
                found.append(f"order {order.client_id}: its fills are not what it filled")
            if _worth(mine, balance.lot) != order.proceeds:
                found.append(f"order {order.client_id}: its fills did not fetch its proceeds")
            if any(Decimal(row["price"]) < order.limit for row in mine):
                found.append(f"order {order.client_id}: it was filled below its limit")
        if balance.held + sum(order.filled for order in orders) != balance.opened or balance.held < 0:
            found.append(f"account {account}: what was sold and what is left are not what it began with")
        if balance.proceeds != sum((order.proceeds for order in orders), Decimal(0)):
            found.append(f"account {account}: its proceeds are not those of its orders")
        if balance.fees != sum((order.fee for order in orders), Decimal(0)):
            found.append(f"account {account}: its fees are not those of its orders")
        return found

    def _balance(self, file: sqlite3.Connection, account: str) -> Balance:
        row = file.execute("SELECT * FROM paper_balance WHERE account = ?", (account,)).fetchone()
        if row is None:
            raise JournalError(f"{self.path}: there is no account {account} on paper")
        return Balance(
            Decimal(row["lot"]), row["opened"], row["held"], Decimal(row["proceeds"]), Decimal(row["fees"])
        )  # fmt: skip

    def _refusal(self, error: Exception) -> JournalError:
        return JournalError(f"{self.path}: the ledger of what is sold on paper cannot be used: {error}")


def _worth(rows: Iterable[sqlite3.Row], lot: Decimal) -> Decimal:
    return sum((Decimal(row["price"]) * lot * row["lots"] for row in rows), Decimal(0))


class PaperVenue:
    """One account on paper, for one plan; see `OrderVenue`.

    Attributes:
        label: begins an error.
        request_window: seconds after which a sale that was asked for does not happen any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        rules: MarketRules,
        fee: Decimal,
        after: Callable[[], Update],
        seconds: Callable[[], float],
        request_window: float = 10.0,
    ) -> None:
        """
        Args:
            ledger: has the account, see `Ledger.open`.
            account: its name.
            rules: of the market.
            fee: taker fee, fraction.
            after: the book that a sale meets: the one after the latency. It may raise a ForeseenError where there is
                none that is to be believed: then nothing is sold.
            seconds: a clock that nobody sets.
            request_window: see above.
        """
        self.label = "on paper"
        self.request_window = request_window
        self._ledger, self._account, self._rules, self._fee = ledger, account, rules, fee
        self._after, self._seconds = after, seconds

    def rules(self, symbol: str) -> MarketRules:
        """What is taken as an order."""
        return self._rules

    def holding(self, symbol: str) -> Holding:
        """What is left of what the grid was modelled to hold. Nothing foreign is in the account, and nothing rests."""
        balance = self._ledger.balance(self._account)
        amount = balance.lot * balance.held
        return Holding(amount, amount)

    def open_orders(self, symbol: str) -> Sequence[OpenOrder]:
        """Nothing ever rests."""
        return ()

    def record(self, symbol: str, client_id: str) -> OrderRecord | None:
        """One of the orders; None: there is none."""
        found = self._ledger.orders(self._account, client_id)
        if not found:
            return None
        one = found[0]
        return OrderRecord(
            order_id=one.client_id,
            is_open=False,
            filled=self._rules.amount(one.filled),
            proceeds=one.proceeds,
            fee=one.fee,
            limit=one.limit,
            amount=self._rules.amount(one.lots),
            side="sell",
        )

    def sell(self, symbol: str, client_id: str, amount: Decimal, limit: Decimal) -> None:
        """Sells what the book takes at the limit or better.

        Raises:
            VenueError: it is no order of this market, too much, or a number that was used; or it comes too late.
        """
        began = self._seconds()
        rules, lots = self._rules, self._rules.lots(amount)
        if rules.amount(lots) != amount or rules.limit(limit) != limit:
            raise VenueError(f"on paper: {client_id}: {amount} at {limit} are no whole steps of this market")
        if not rules.takes(lots, limit):
            raise VenueError(f"on paper: {client_id}: {amount} at {limit} are less than the market's smallest order")

        def still() -> None:
            # In the ledger's turn: a sale that waited for it as long as that may be thought lost by others.
            if self._seconds() - began > self.request_window:
                raise VenueError(f"on paper: {client_id}: no answer within {self.request_window:.0f} s")

        self._ledger.sell(
            self._account, client_id, lots, limit, at=self._after(), rules=rules, fee=self._fee, still=still
        )

    def cancel(self, symbol: str, order_id: str) -> None:
        """Nothing ever rests.

        Raises:
            VenueError: always.
        """
        raise VenueError(f"on paper: order {order_id} does not rest: there is nothing to cancel")
