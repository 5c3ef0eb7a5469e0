"""What an account holds, read with a read-only key: balances, open orders and fills. Nothing here places an order.

Fills come in pages, and exchanges differ in how: KuCoin sends the newest first, at most a week at once, and goes on by
a cursor or a page number; the others are asked for the times before and after what they sent until nothing new comes.
A fill is counted once, however often it is sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import polars as pl

from mm_dagster.bars import EPOCH
from mm_dagster.config.markets import AccountKeys, CcxtVenue
from mm_dagster.market import ccxt_internals
from mm_dagster.market.connection import Connection, NotAnswered, Retry, lists, milliseconds, number
from mm_dagster.market.venue import VenueError
from mm_dagster.tables.registry import dtypes
from mm_dagster.tables.words import SIDES

Row = dict[str, Any]

_SNAPSHOT = dtypes("account_snapshot")
_DAY = 86_400_000
"""Milliseconds."""
_MOST_PAGES = 10_000
"""Pages of one window; an exchange that sends more does not come to an end."""
_READS = frozenset({"general", "read"})
_MOVES = ("transfer", "withdraw")


@dataclass(frozen=True)
class Credentials:
    """An API key. Its parts are secrets: no `repr` and no error shows them."""

    key: str = field(repr=False)
    secret: str = field(repr=False)
    passphrase: str | None = field(repr=False, default=None)


def credentials(keys: AccountKeys, environ: Mapping[str, str]) -> Credentials:
    """Takes an API key out of the environment.

    Args:
        keys: the names of the variables.
        environ: the environment.

    Raises:
        VenueError: a variable is not set, or empty. It names the variable.
    """

    def read(name: str, variable: str) -> str:
        value = environ.get(variable, "").strip()
        if not value:
            raise VenueError(
                f"account.{name}: the environment variable {variable} is not set; set it, or take out account"
            )
        return value

    return Credentials(
        read("key_env", keys.key_env),
        read("secret_env", keys.secret_env),
        read("passphrase_env", keys.passphrase_env) if keys.passphrase_env else None,
    )


class ExchangeAccount:
    """One account on one exchange. Keep one instance a run: once its key is refused, nothing more is asked."""

    def __init__(self, name: str, settings: CcxtVenue, key: Credentials, *, retry: Retry | None = None) -> None:
        """
        Args:
            name: name of the venue in markets.yaml.
            settings: which exchange, at which address, with which key.
            key: the API key.
            retry: how patiently a call is repeated.

        Raises:
            VenueError: ccxt does not know the exchange, cannot read accounts there, or needs another kind of key.
        """
        self.name = name
        self._is_open = False
        parts = {"apiKey": key.key, "secret": key.secret, "password": key.passphrase}
        self._key = {part: value for part, value in parts.items() if value}
        self._connection = Connection(
            name,
            settings,
            retry=retry,
            secrets=tuple(self._key.values()),
            refusals=_refusals(settings.account) if settings.account and settings.exchange == "kucoin" else {},
        )
        self._exchange = self._connection.exchange
        self._is_kucoin = settings.exchange == "kucoin"
        if not all(self._exchange.has[method] for method in ("fetchBalance", "fetchOpenOrders", "fetchMyTrades")):
            raise VenueError(f"{name}: account: ccxt reads no accounts on {settings.exchange}; take it out")
        lacking = {part for part, is_needed in self._exchange.requiredCredentials.items() if is_needed} - set(self._key)
        if lacking == {"password"}:
            raise VenueError(
                f"{name}: account.passphrase_env: is missing; {settings.exchange} wants the passphrase of the key, too"
            )
        if lacking:
            raise VenueError(f"{name}: account: {settings.exchange} wants another kind of key; take it out")

    def check(self) -> str:
        """One line for `mm doctor`: that the key reads the account, and whether it may do more than that.

        Raises:
            VenueError: it does not, and why.
        """
        try:
            held = len(self._balances())
            granted = self._permissions()
        except NotAnswered as failure:
            raise VenueError(f"{self._connection.label}: the account cannot be read: {failure}") from None
        moves = [name for name in granted if any(word in name.lower() for word in _MOVES)]
        trades = [name for name in granted if name not in moves and name.lower() not in _READS]
        more = [f"{verb} ({', '.join(names)})" for verb, names in (("trade", trades), ("move funds", moves)) if names]
        warning = f"; WARNING: this key may also {' and '.join(more)}; a read-only key suffices" if more else ""
        return f"{self._connection.label}: the key reads the account; assets held: {held}{warning}"

    def snapshot(
        self, symbols: Collection[str], since: datetime, as_of: datetime, known: Collection[tuple[str, str]] = ()
    ) -> pl.DataFrame:
        """Reads balances, then open orders, then the fills from `since` until now.

        What is not answered does not stop the rest, unless the key is refused. `observed_at` is the exchange's time up
        to which fills were asked for: where the snapshot is complete, the `since` of the next one. An exchange may list
        a fill a little late; a `since` that lies further back, with the fills that are stored as `known`, finds it.

        Args:
            symbols: the watched markets, like ETH-USDT.
            since: fills before it are left out, UTC.
            as_of: the tick that asks, UTC.
            known: symbol and fill_id of fills that are left out, since they are stored.

        Returns:
            One row of `account_snapshot`. Where `complete` is false, `detail` says what is missing and why; what
            was answered is there nevertheless, and what was not is an empty list.
        """
        missing: dict[str, list[str]] = {}
        balances: list[Row] = []
        orders: dict[str, Row] = {}
        fills: dict[tuple[str, str, str | None], Row] = {}
        until = None
        with self._noting(missing, "balances"):
            balances = self._balances()
        for symbol in sorted(set(symbols)):
            with self._noting(missing, f"open orders of {symbol}"):
                self._add_orders(symbol, orders)
        with self._noting(missing, "fills"):
            until = milliseconds(self._connection.now())
        for symbol in sorted(set(symbols)) if until else ():
            with self._noting(missing, f"fills of {symbol}"):
                self._add_fills(symbol, milliseconds(since), until, fills)
        stored = set(known)
        reasons = "; ".join(f"{', '.join(what)}: {reason}" for reason, what in missing.items())
        row = {
            "venue": self.name,
            "as_of": as_of,
            "observed_at": _time(until) if until else datetime.now(UTC),
            "fills_from": since,
            "balances": balances,
            "open_orders": sorted(
                orders.values(), key=lambda row: (row["symbol"], row["price"] or 0.0, row["order_id"])
            ),
            "fills": [
                fill
                for fill in sorted(
                    fills.values(), key=lambda row: (row["at"], row["symbol"], _by_number(row["fill_id"]))
                )
                if fill["at"] >= since and (fill["symbol"], fill["fill_id"]) not in stored
            ],
            "complete": not missing,
            "detail": f"{self._connection.label}: {reasons}" if missing else None,
        }
        return pl.DataFrame([row], schema=_SNAPSHOT)

    @contextmanager
    def _noting(self, missing: dict[str, list[str]], what: str) -> Iterator[None]:
        """Notes under the reason what was not answered."""
        try:
            yield
        except (NotAnswered, VenueError) as failure:
            reason = str(failure).removeprefix(self._connection.label).lstrip(": ")
            missing.setdefault(reason, []).append(what)

    def _open(self) -> None:
        """Loads the markets, and only then gives the key away: with a key, ccxt loads margin markets, too."""
        if self._is_open:
            return
        self._connection.markets()
        for part, value in self._key.items():
            setattr(self._exchange, part, value)
        if self._is_kucoin:
            self._connection.call(lambda: ccxt_internals.ask_kind_of_account(self._exchange))
        self._is_open = True

    def _balances(self) -> list[Row]:
        """What the account holds on the spot market, by asset, without what it holds nothing of."""
        self._open()
        # ccxt would ask for the classic balance of a unified account, because the markets are spot markets.
        kind = {"type": "unified"} if self._is_kucoin and ccxt_internals.is_unified(self._exchange) else {}

        def ask() -> Row:
            balance: Row = self._exchange.fetch_balance(kind)
            if not balance["total"] and next(lists(ccxt_internals.last_answer(self._exchange)), None) is None:
                raise ccxt.NullResponse("neither balances nor an empty list of them")
            return balance

        balance = self._connection.call(ask)
        rows = [
            {"asset": asset, "free": number(balance["free"].get(asset)), "used": number(balance["used"].get(asset))}
            for asset in sorted(balance["total"])
        ]
        return [row for row in rows if row["free"] or row["used"]]

    def _add_orders(self, symbol: str, orders: dict[str, Row]) -> None:
        """Adds the orders that wait on a market, by their number."""
        self._open()
        market = self._connection.market(symbol)
        most = None if self._is_kucoin else self._exchange.feature_value(market, "fetchOpenOrders", "limit", None)
        # KuCoin writes null for an empty list of orders.
        pages = self._pages(
            lambda page: self._exchange.fetch_open_orders(market, None, most, page), (dict, list, type(None))
        )
        sent = [order for page in pages for order in page]
        rows = [row for order in sent if (row := _order(symbol, order)) is not None]
        orders.update((row["order_id"], row) for row in rows)
        if len(rows) < len(sent):
            raise NotAnswered(f"{len(sent) - len(rows)} of them cannot be read")
        if most and len(sent) >= most:
            raise NotAnswered(f"there may be more than {most}")

    def _add_fills(self, symbol: str, start: int, end: int, fills: dict[tuple[str, str, str | None], Row]) -> None:
        """Adds the fills on a market at or after `start` and before `end`, milliseconds."""
        self._open()
        market = self._connection.market(symbol)
        days = self._exchange.feature_value(market, "fetchMyTrades", "untilDays", None)
        longest = int(days) * _DAY if days else end - start
        unreadable = 0
        while start < end:
            last = min(start + longest, end) - 1
            for trade in (self._by_page if self._is_kucoin else self._by_time)(market, start, last):
                fill = _fill(symbol, trade)
                if fill is None:
                    unreadable += 1
                elif start <= milliseconds(fill["at"]) <= last:
                    # Who trades with himself has two fills with the same number.
                    fills.setdefault((symbol, fill["fill_id"], fill["order_id"]), fill)
            start = last + 1
        if unreadable:
            raise NotAnswered(f"{unreadable} of them cannot be read")

    def _by_page(self, market: str, start: int, last: int) -> Iterator[Row]:
        """KuCoin's fills of a window."""
        if ccxt_internals.is_unified(self._exchange):
            size = {"pageSize": 200}
        else:
            size = {"limit": 100} if ccxt_internals.is_high_frequency(self._exchange) else {"pageSize": 500}
        window = {"startAt": start, "endAt": last, **size}
        # The window is not given to ccxt by its own names: it would leave out rows without a word.
        for page in self._pages(
            lambda page: self._exchange.fetch_my_trades(market, None, None, {**window, **page}), (dict,)
        ):
            yield from page

    def _by_time(self, market: str, start: int, last: int) -> Iterator[Row]:
        """The fills of a window, from an exchange that sends the oldest or the newest of it.

        A page tells all between its first and its last fill. What lies before and after it is asked for, the ends
        included, until nothing new comes.
        """
        most = self._exchange.feature_value(market, "fetchMyTrades", "limit", None)
        seen: set[tuple[Any, Any]] = set()
        windows = [(start, last)]
        for _ in range(_MOST_PAGES):
            if not windows:
                return
            first, end = windows.pop()

            def ask(first: int = first, end: int = end) -> list[Row]:
                sent: list[Row] = self._exchange.fetch_my_trades(market, first, most, {"until": end})
                if not sent and next(lists(ccxt_internals.last_answer(self._exchange)), None) is None:
                    raise ccxt.NullResponse("neither fills nor an empty list of them")
                return sent

            sent = self._connection.call(ask)
            fresh = [trade for trade in sent if (trade["id"], trade["order"]) not in seen]
            seen.update((trade["id"], trade["order"]) for trade in fresh)
            yield from fresh
            times = [trade["timestamp"] for trade in sent if isinstance(trade["timestamp"], int)]
            is_full = most is not None and len(sent) >= most
            is_whole = bool(times) and min(times) <= first < end <= max(times)
            if is_full and not is_whole and (first == end or not fresh):
                raise NotAnswered("it does not send all of the times that it is asked for")
            if fresh and times:
                windows += [(max(first, min(end, max(times))), end), (first, min(end, max(first, min(times))))]
        raise NotAnswered(f"more than {_MOST_PAGES} pages")

    def _pages(self, fetch: Callable[[Row], list[Row]], contents: tuple[type, ...]) -> Iterator[list[Row]]:
        """Every page of an answer that goes on by KuCoin's cursor or page number; other exchanges' have one.

        Args:
            fetch: asks for a page; its argument is what KuCoin wants to know of it.
            contents: what KuCoin's answer may be.
        """
        page: tuple[str, Any] | None = None
        asked: set[tuple[str, Any] | None] = set()

        def ask() -> tuple[list[Row], tuple[str, Any] | None]:
            sent = fetch(dict([page] if page else []))
            body = ccxt_internals.last_answer(self._exchange)
            if not self._is_kucoin:
                if not sent and next(lists(body), None) is None:
                    raise ccxt.NullResponse("neither rows nor an empty list of them")
                return sent, None
            if not isinstance(body, dict) or not isinstance(body.get("data", ...), contents):
                raise ccxt.NullResponse("no page")
            following = _following(body["data"])
            if following is not None and following in asked:
                raise ccxt.NullResponse("the same page again")
            return sent, following

        while len(asked) < _MOST_PAGES:
            asked.add(page)
            sent, page = self._connection.call(ask)
            yield sent
            if page is None:
                return
        raise NotAnswered(f"more than {_MOST_PAGES} pages")

    def _permissions(self) -> list[str]:
        """What the key may do, in the exchange's words; nothing where it does not say."""
        if not self._is_kucoin:
            return []

        def ask() -> list[str]:
            data = self._exchange.private_get_user_api_key().get("data")
            if not isinstance(data, dict) or not data.get("permission"):
                raise ccxt.NullResponse("no permissions")
            permission = data["permission"]
            names = permission.split(",") if isinstance(permission, str) else permission
            return [str(name).strip() for name in names]

        return self._connection.call(ask)


def _following(data: Any) -> tuple[str, Any] | None:
    """What to ask KuCoin for after a page; None: it was the last."""
    if not isinstance(data, dict) or not data.get("items"):
        return None
    if "lastId" in data:
        return ("lastId", data["lastId"]) if data["lastId"] else None
    for number_of_page in ("currentPage", "pageNumber"):
        if number_of_page in data and int(data[number_of_page]) < int(data["totalPage"]):
            return number_of_page, int(data[number_of_page]) + 1
    return None


def _order(symbol: str, order: Row) -> Row | None:
    """An order of ccxt's as one of the table's; None where it cannot be one."""
    price, amount, placed = _positive(order.get("price")), _positive(order.get("amount")), _milliseconds_of(order)
    if not order.get("id") or order.get("side") not in SIDES or amount is None:
        return None
    return {
        "order_id": str(order["id"]),
        "symbol": symbol,
        "side": order["side"],
        "price": price,
        "amount": amount,
        "filled": number(order.get("filled")),
        "placed_at": None if placed is None else _time(placed),
    }


def _fill(symbol: str, trade: Row) -> Row | None:
    """A trade of ccxt's as a fill of the table's; None where it cannot be one."""
    price, amount, at = _positive(trade.get("price")), _positive(trade.get("amount")), _milliseconds_of(trade)
    if not trade.get("id") or trade.get("side") not in SIDES or price is None or amount is None or at is None:
        return None
    fee = trade.get("fee") or {}
    role = trade.get("takerOrMaker")
    return {
        "fill_id": str(trade["id"]),
        "order_id": str(trade["order"]) if trade.get("order") else None,
        "symbol": symbol,
        "at": _time(at),
        "side": trade["side"],
        "price": price,
        "amount": amount,
        "fee": number(fee.get("cost")),
        "fee_currency": fee.get("currency"),
        "maker": role == "maker" if role in ("maker", "taker") else None,
    }


def _milliseconds_of(row: Row) -> int | None:
    """When an order was placed or a fill traded; None where it is not said."""
    at, info = row.get("timestamp"), row.get("info")
    if not isinstance(at, int):
        return None
    # ccxt makes milliseconds of KuCoin's nanoseconds in floating point, and is one too early now and then.
    sent = str((info.get("executionTime") or info.get("orderTime")) if isinstance(info, dict) else None)
    exact = int(sent) // 1_000_000 if sent.isdigit() else at
    return exact if exact == at + 1 else at


def _by_number(name: str) -> tuple[int, str]:
    """Orders names that are numbers by their size."""
    return len(name), name


def _positive(value: Any) -> float | None:
    size = number(value)
    return size if size is not None and 0 < size < math.inf else None


def _time(when: int) -> datetime:
    return EPOCH + timedelta(milliseconds=when)


def _refusals(keys: AccountKeys) -> dict[str, str]:
    """What to do about KuCoin's own codes of a key that it refuses."""
    return {
        "400001": f"it misses a part of the key; check {keys.key_env}, {keys.secret_env} and {keys.passphrase_env}",
        "400002": "the clock of this computer is more than 5 s from its own; let NTP set it",
        "400003": f"it does not know the key in {keys.key_env}; copy it again, or make a new read-only key",
        # The passphrase is sent signed with the secret, so that a wrong secret looks like a wrong passphrase.
        "400004": f"the passphrase in {keys.passphrase_env} or the secret in {keys.secret_env} is wrong; the "
        "passphrase is the one given to the key when it was made",
        "400005": f"the secret in {keys.secret_env} does not belong to the key in {keys.key_env}; copy both again",
        "400006": "the key is bound to other addresses than this computer's; add this one to its IP list",
        "400007": "the key may not read this; give it the permission General",
        "400008": "it takes no more keys this old; make a new read-only key",
        "411100": "the account is frozen; ask the exchange's support",
    }
