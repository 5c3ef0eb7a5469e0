"""The real account that a grid is left at: KuCoin, Kraken and OKX, spot. The only module that names an order method.

Nothing here buys: the side is a constant. Each exchange is a dialect: a small class that writes one request and reads
one answer, strictly; what it does not understand is an error and never a guess. Requests are ccxt's own methods of the
exchange's paths, so that an amount and a price go out digit by digit as they were given. What an exchange does not say
clearly, "I know no such order" above all, counts as no answer.

How long a request that was sent may still be done, by exchange (`request_window`), always counted from the exchange's
own time, which the client is never ahead of (trading.py):

- KuCoin refuses a signature older than 5 s (API guide, "Signing a message": KC-API-TIMESTAMP);
- Kraken refuses a new order after its `deadline` (REST guide, AddOrder: 2 to 60 s ahead), which is sent;
- OKX refuses a new order after the header `expTime` (API guide v5, "Transaction timeouts"), which is sent; its
  signature alone would live 30 s.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar, Protocol

import ccxt

from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market import ccxt_internals, strict
from mm_dagster.market.account import Credentials
from mm_dagster.market.connection import NotAnswered, Retry, milliseconds
from mm_dagster.market.order_venue import Holding, MarketRules, OpenOrder, OrderRecord, OrderVenue
from mm_dagster.market.trading import TradeConnection
from mm_dagster.market.venue import VenueError

Row = strict.Row
Market = Mapping[str, Any]

_SELL = "sell"
_WINDOW = 5.0
"""Seconds; see above."""
_PAGE = 100
_MOST_PAGES = 20
_LOOKS = ("query", "export", "read", "view")
"""How the names of rights begin that change nothing: Kraken's `query-open-trades`."""
_CLIENT_ID = re.compile(r"[A-Za-z0-9]{1,18}")
_NOTHING = Holding(Decimal(0), Decimal(0))


@dataclass(frozen=True)
class Permissions:
    """What a key may do, as far as the exchange tells.

    Attributes:
        trades: whether it may place orders.
        moves_funds: whether it may withdraw or transfer.
        names: of all that it may, in the exchange's words.
    """

    trades: bool
    moves_funds: bool
    names: tuple[str, ...]


class AccountOrders:
    """One account at one exchange; see `OrderVenue`.

    Attributes:
        label: begins an error.
        request_window: seconds after which a request that was sent can do nothing any more.
        only_checks: whether no order may be placed here but only checked; see `rehearse`.
    """

    def __init__(
        self,
        name: str,
        settings: CcxtVenue,
        key: Credentials,
        *,
        test: bool = False,
        patience: float | None = None,
        request_window: float = _WINDOW,
        retry: Retry | None = None,
    ) -> None:
        """
        Args:
            name: of the venue in markets.yaml.
            settings: which exchange, at which address.
            key: that may trade.
            test: whether nothing is sold: OKX's demo account, and elsewhere orders that are only checked.
            patience: seconds for one question; None: ten.
            request_window: of what is sent, seconds.
            retry: see `TradeConnection`.

        Raises:
            VenueError: no orders are known there, or the key lacks a part.
        """
        if settings.exchange not in _DIALECTS:
            known = "KuCoin, Kraken and OKX"
            raise VenueError(f"{name}: no order can be placed at {settings.exchange}; that is known of {known}")
        dialect = _DIALECTS[settings.exchange]
        self._connection = TradeConnection(
            name, settings, key, is_demo=test and dialect.has_demo, patience=patience, retry=retry
        )
        self._dialect = dialect(self._connection, request_window)
        self.label = self._connection.label
        self.request_window = request_window
        self.only_checks = test and not dialect.has_demo
        self._is_checked = False

    def rules(self, symbol: str) -> MarketRules:
        """What it takes as an order, exactly as the exchange writes it."""
        market = self._connection.market(symbol)
        return self._read(lambda: self._dialect.rules(market["info"]))

    def holding(self, symbol: str) -> Holding:
        """What the account has of the base currency."""
        market = self._ready(symbol)
        return self._connection.ask(lambda client: self._dialect.holding(client, market))

    def open_orders(self, symbol: str) -> Sequence[OpenOrder]:
        """All that rests in this market."""
        market = self._ready(symbol)
        return self._connection.ask(lambda client: tuple(self._dialect.open_orders(client, market)))

    def record(self, symbol: str, client_id: str) -> OrderRecord | None:
        """One of our orders; None: the exchange says that it has none."""
        market, number = self._ready(symbol), self._checked(client_id)

        def question(client: Any) -> OrderRecord | None:
            found = self._dialect.record(client, market, number)
            if found is None:
                return None
            if found.side != _SELL:
                raise NotAnswered(f"order {number} is no sale there but {found.side!r:.20}")
            if found.amount is not None and found.filled > found.amount:
                raise NotAnswered(f"order {number} sold {found.filled} of {found.amount} there, which cannot be")
            if bool(found.filled) != bool(found.proceeds):
                raise NotAnswered(f"order {number} sold {found.filled} for {found.proceeds} there, which cannot be")
            return found

        return self._connection.ask(question)

    def sell(self, symbol: str, client_id: str, amount: Decimal, limit: Decimal) -> None:
        """Asks for an immediate-or-cancel limit sale, once."""
        if self.only_checks:
            raise VenueError(f"{self.label}: this is a test: no order is placed, {client_id} neither")
        market, number, size, price = self._order(symbol, client_id, amount, limit)
        self._connection.ask(lambda client: self._dialect.sell(client, market, number, size, price, only_check=False))

    def rehearse(self, symbol: str, client_id: str, amount: Decimal, limit: Decimal) -> str:
        """Lets the exchange check an order that it does not place.

        Returns:
            Its verdict, in words.

        Raises:
            VenueError: it refuses, it did not answer, or it cannot only check.
        """
        if not self.only_checks:
            raise VenueError(f"{self.label}: it does not only check orders")
        market, number, size, price = self._order(symbol, client_id, amount, limit)
        self._connection.ask(lambda client: self._dialect.sell(client, market, number, size, price, only_check=True))
        return f"the exchange would take an order to sell {size} at {price} or better"

    def cancel(self, symbol: str, order_id: str) -> None:
        """Asks for one order to be cancelled, once. What is no number of one order is never sent."""
        if self.only_checks:
            raise VenueError(f"{self.label}: this is a test: no order is cancelled, {order_id} neither")
        market = self._ready(symbol)
        if not self._dialect.order_id.fullmatch(order_id):
            raise VenueError(f"{self.label}: {order_id!r:.60} is no number of an order; nothing is cancelled")
        self._connection.ask(lambda client: self._dialect.cancel(client, market, order_id))

    def permissions(self) -> Permissions | None:
        """What the key may do; None: the exchange does not tell."""
        names = self._connection.ask(self._dialect.permissions)
        if names is None:
            return None
        low = [one.lower() for one in names]
        return Permissions(
            trades=any(word in one and not one.startswith(_LOOKS) for one in low for word in self._dialect.trade_words),
            moves_funds=any(word in one for one in low for word in ("withdraw", "transfer")),
            names=tuple(names),
        )

    def _ready(self, symbol: str) -> Market:
        """The market, once the account is known to be of a kind that is understood."""
        if not self._is_checked:
            unfit = self._connection.ask(self._dialect.unfit)
            if unfit is not None:
                raise VenueError(f"{self.label}: {unfit}")
            self._is_checked = True
        return self._connection.market(symbol)

    def _order(self, symbol: str, client_id: str, amount: Decimal, limit: Decimal) -> tuple[Market, str, str, str]:
        """An order as it goes out: never more than the amount, and at the price that was given.

        Raises:
            VenueError: it is none. Nothing was sent.
        """
        market, number, rules = self._ready(symbol), self._checked(client_id), self.rules(symbol)
        size = rules.amount(rules.lots(amount)) if amount.is_finite() else Decimal(0)
        if size <= 0 or not limit.is_finite() or limit <= 0:
            raise VenueError(f"{self.label}: {amount} at {limit} is no order of {symbol}; nothing was sent")
        return market, number, format(size, "f"), format(limit, "f")

    def _checked(self, client_id: str) -> str:
        if not _CLIENT_ID.fullmatch(client_id):
            raise VenueError(f"{self.label}: {client_id!r:.60} is no number of ours; nothing was sent")
        return client_id

    def _read(self, read: Callable[[], MarketRules]) -> MarketRules:
        try:
            return read()
        except NotAnswered as failure:
            raise VenueError(f"{self.label}: its rules cannot be read: {failure}") from None


def open_orders(name: str, settings: CcxtVenue, key: Credentials, *, test: bool) -> OrderVenue:
    """The account that a grid is left at.

    Args:
        name: of the venue in markets.yaml.
        settings: which exchange, at which address.
        key: that may trade.
        test: whether nothing is sold: OKX's demo account, which has keys of its own; elsewhere orders are only checked,
            see `AccountOrders.rehearse`.

    Raises:
        VenueError: no orders are known there, or the key lacks a part.
    """
    return AccountOrders(name, settings, key, test=test)


def permissions(name: str, settings: CcxtVenue, key: Credentials, *, test: bool = False) -> Permissions | None:
    """What a key may do; None: the exchange does not tell.

    Raises:
        VenueError: it did not answer.
    """
    return AccountOrders(name, settings, key, test=test).permissions()


def fingerprint(settings: CcxtVenue, key: Credentials) -> str:
    """What tells the accounts of keys apart without telling a key: the same for each process that uses it."""
    return hashlib.sha256(f"{settings.exchange} {settings.api_url} {key.key}".encode()).hexdigest()[:16]


# the dialects ---------------------------------------------------------------------------------------------------------


class _Dialect(Protocol):
    """How one exchange is asked, and how it answers. Whatever is asked raises NotAnswered, or one of ccxt's errors."""

    has_demo: ClassVar[bool]
    order_id: ClassVar[re.Pattern[str]]
    """What a number of one order looks like; anything else might cancel several."""
    trade_words: ClassVar[tuple[str, ...]]

    def __init__(self, connection: TradeConnection, window: float) -> None: ...

    def unfit(self, client: Any) -> str | None:
        """Why the account is of a kind that is not understood; None: it is not."""

    def rules(self, info: Row) -> MarketRules: ...

    def holding(self, client: Any, market: Market) -> Holding: ...

    def open_orders(self, client: Any, market: Market) -> Iterator[OpenOrder]: ...

    def record(self, client: Any, market: Market, client_id: str) -> OrderRecord | None: ...

    def sell(self, client: Any, market: Market, client_id: str, size: str, price: str, *, only_check: bool) -> None: ...

    def cancel(self, client: Any, market: Market, order_id: str) -> None: ...

    def permissions(self, client: Any) -> list[str] | None: ...


class _Kucoin:
    """KuCoin's spot account of the newer kind (`hf`). Its signatures live five seconds, whatever window is set."""

    has_demo: ClassVar[bool] = False
    order_id: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9]{6,40}")
    trade_words: ClassVar[tuple[str, ...]] = ("trade", "spot")
    _ACCOUNT = "trade_hf"

    def __init__(self, connection: TradeConnection, window: float) -> None:
        pass

    def unfit(self, client: Any) -> str | None:
        ccxt_internals.ask_kind_of_account(client)
        if ccxt_internals.is_unified(client) or not ccxt_internals.is_high_frequency(client):
            return "it is an account of another kind than KuCoin's high-frequency spot account; no order can be placed"
        return None

    def rules(self, info: Row) -> MarketRules:
        return MarketRules(
            lot=strict.positive(info, "baseIncrement"),
            tick=strict.positive(info, "priceIncrement"),
            least=strict.number(info, "baseMinSize"),
            least_funds=strict.number(info, "minFunds"),
        )

    def holding(self, client: Any, market: Market) -> Holding:
        base = market["baseId"]
        rows = strict.rows(strict.of_kucoin(client.privateGetAccounts({"type": self._ACCOUNT, "currency": base})))
        mine = [row for row in rows if (row.get("type"), row.get("currency")) == (self._ACCOUNT, base)]
        if len(mine) > 1:
            raise NotAnswered(f"it tells of {len(mine)} balances of {base}")
        return Holding(strict.number(mine[0], "balance"), strict.number(mine[0], "available")) if mine else _NOTHING

    def open_orders(self, client: Any, market: Market) -> Iterator[OpenOrder]:
        # All of them come at once, and an empty list may be written as null.
        data = strict.of_kucoin(client.privateGetHfOrdersActive({"symbol": market["id"]}))
        for row in strict.rows([] if data is None else data):
            strict.same(row, "symbol", market["id"])
            yield OpenOrder(
                strict.text(row, "id"),
                row.get("clientOid") or None,
                strict.side(row, "side"),
                strict.price(row, "price"),
            )

    def record(self, client: Any, market: Market, client_id: str) -> OrderRecord | None:
        asked = {"clientOid": client_id, "symbol": market["id"]}
        try:
            row = strict.of_kucoin(client.privateGetHfOrdersClientOrderClientOid(asked))
        except ccxt.OrderNotFound:
            return None
        if row is None:
            return None
        if not isinstance(row, dict):
            raise NotAnswered("an order that cannot be read")
        strict.same(row, "symbol", market["id"])
        strict.same(row, "clientOid", client_id)
        is_open = row.get("active", row.get("isActive"))
        if not isinstance(is_open, bool):
            raise NotAnswered("it does not say whether the order is open")
        in_quote = row.get("feeCurrency") == market["quoteId"]
        return OrderRecord(
            order_id=strict.text(row, "id"),
            is_open=is_open,
            filled=strict.number(row, "dealSize"),
            proceeds=strict.number(row, "dealFunds"),
            fee=strict.number(row, "fee") if in_quote else None,
            limit=strict.price(row, "price"),
            amount=strict.positive(row, "size"),
            side=strict.side(row, "side"),
        )

    def sell(self, client: Any, market: Market, client_id: str, size: str, price: str, *, only_check: bool) -> None:
        order = {
            "clientOid": client_id, "symbol": market["id"], "side": _SELL, "type": "limit", "timeInForce": "IOC",
            "size": size, "price": price,
        }  # fmt: skip
        answer = client.privatePostHfOrdersTest(order) if only_check else client.privatePostHfOrders(order)
        strict.text(strict.row(strict.of_kucoin(answer)), "orderId")

    def cancel(self, client: Any, market: Market, order_id: str) -> None:
        # Without the number of an order the same path cancels all of the market.
        answer = client.privateDeleteHfOrdersOrderId({"orderId": order_id, "symbol": market["id"]})
        strict.same(strict.row(strict.of_kucoin(answer)), "orderId", order_id)

    def permissions(self, client: Any) -> list[str] | None:
        said = strict.row(strict.of_kucoin(client.privateGetUserApiKey())).get("permission")
        names = said.split(",") if isinstance(said, str) else said
        return strict.names(names)


class _Kraken:
    """Kraken's spot account."""

    has_demo: ClassVar[bool] = False
    # A plain number would be taken for a `userref`, of which there may be several orders.
    order_id: ClassVar[re.Pattern[str]] = re.compile(r"O[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{6}")
    trade_words: ClassVar[tuple[str, ...]] = ("modify", "create", "trade", "order")
    _OPEN: ClassVar[Mapping[str, bool]] = {
        "pending": True, "open": True, "closed": False, "canceled": False, "expired": False,
    }  # fmt: skip

    def __init__(self, connection: TradeConnection, window: float) -> None:
        self._connection, self._window = connection, window

    def unfit(self, client: Any) -> str | None:
        return None

    def rules(self, info: Row) -> MarketRules:
        lot, tick = (Decimal(1).scaleb(-int(strict.number(info, name))) for name in ("lot_decimals", "pair_decimals"))
        return MarketRules(
            lot=lot,
            tick=strict.positive(info, "tick_size") if info.get("tick_size") is not None else tick,
            least=strict.number(info, "ordermin"),
            least_funds=strict.number(info, "costmin") if info.get("costmin") is not None else Decimal(0),
        )

    def holding(self, client: Any, market: Market) -> Holding:
        # The plain name: what is lent out or staked has another one, and cannot be sold.
        row = strict.of_kraken(client.privatePostBalanceEx()).get(market["baseId"])
        if row is None:
            return _NOTHING
        total = strict.number(strict.row(row), "balance")
        return Holding(total, max(Decimal(0), total - strict.number(row, "hold_trade")))

    def open_orders(self, client: Any, market: Market) -> Iterator[OpenOrder]:
        for order_id, row in self._orders(strict.of_kraken(client.privatePostOpenOrders()), "open"):
            if self._pair(row, market):
                said = strict.row(row["descr"])
                yield OpenOrder(
                    order_id, row.get("cl_ord_id") or None, strict.side(said, "type"), strict.price(said, "price")
                )

    def record(self, client: Any, market: Market, client_id: str) -> OrderRecord | None:
        # First the open ones: what closes in between is found among the closed ones.
        for ask, name in ((client.privatePostOpenOrders, "open"), (client.privatePostClosedOrders, "closed")):
            found = self._orders(strict.of_kraken(ask({"cl_ord_id": client_id})), name)
            if any(row.get("cl_ord_id") != client_id for _, row in found):
                # It did not choose by the number, so that ours may lie on a later page.
                raise NotAnswered("it tells of orders that were not asked for")
            if len(found) > 1:
                raise NotAnswered(f"it has {len(found)} orders of the number {client_id}")
            if found:
                return self._record(*found[0], market)
        return None

    def _record(self, order_id: str, row: Row, market: Market) -> OrderRecord:
        if not self._pair(row, market):
            raise NotAnswered("the order is one of another market")
        status, said = str(row.get("status")), strict.row(row["descr"])
        if status not in self._OPEN:
            raise NotAnswered(f"the order's state {status!r:.40} is not known")
        in_quote = "fciq" in str(row.get("oflags") or "").split(",")
        return OrderRecord(
            order_id=order_id,
            is_open=self._OPEN[status],
            filled=strict.number(row, "vol_exec"),
            proceeds=strict.number(row, "cost"),
            fee=strict.number(row, "fee") if in_quote else None,
            limit=strict.price(said, "price"),
            amount=strict.positive(row, "vol"),
            side=strict.side(said, "type"),
        )

    def sell(self, client: Any, market: Market, client_id: str, size: str, price: str, *, only_check: bool) -> None:
        until = self._connection.now() + timedelta(seconds=self._window)
        order = {
            "pair": market["id"], "type": _SELL, "ordertype": "limit", "timeinforce": "IOC", "volume": size,
            "price": price, "cl_ord_id": client_id, "deadline": until.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            # Else the fee of a sale may be taken in coins, which would be more than were to be sold.
            "oflags": "fciq",
        }  # fmt: skip
        # Any value of `validate` means yes.
        answer = strict.of_kraken(client.privatePostAddOrder({**order, "validate": "true"} if only_check else order))
        if not only_check and not isinstance(answer.get("txid"), list):
            raise NotAnswered("it does not say that it took the order")

    def cancel(self, client: Any, market: Market, order_id: str) -> None:
        if strict.number(strict.of_kraken(client.privatePostCancelOrder({"txid": order_id})), "count") != 1:
            raise NotAnswered(f"it does not say that it cancels {order_id}")

    def permissions(self, client: Any) -> list[str] | None:
        return strict.names(strict.of_kraken(client.privatePostGetApiKeyInfo()).get("permissions"))

    def _orders(self, result: Row, name: str) -> list[tuple[str, Row]]:
        orders = result.get(name)
        if not isinstance(orders, dict) or not all(isinstance(row, dict) for row in orders.values()):
            raise NotAnswered("no list of orders")
        return list(orders.items())

    def _pair(self, row: Row, market: Market) -> bool:
        """Whether an order is one of the market; Kraken writes its short name."""
        said = strict.text(strict.row(row.get("descr")), "pair")
        return said in (market["id"], market["info"].get("altname"), market["info"].get("wsname"))


class _Okx:
    """OKX's trading account, without margin."""

    has_demo: ClassVar[bool] = True
    order_id: ClassVar[re.Pattern[str]] = re.compile(r"\d{6,30}")
    trade_words: ClassVar[tuple[str, ...]] = ("trade",)
    _OPEN: ClassVar[Mapping[str, bool]] = {
        "live": True, "partially_filled": True, "filled": False, "canceled": False, "mmp_canceled": False,
    }  # fmt: skip
    _NO_SUCH_ORDER = "51603"
    _CASH = ("1", "2")
    """Account levels in which a spot order is one without margin."""

    def __init__(self, connection: TradeConnection, window: float) -> None:
        self._connection, self._window = connection, window

    def unfit(self, client: Any) -> str | None:
        level = str(strict.one(strict.of_okx(client.privateGetAccountConfig())).get("acctLv"))
        if level in self._CASH:
            return None
        if level in ("3", "4"):
            return "it is a multi-currency or portfolio account: a sale there may borrow; no order can be placed"
        raise NotAnswered(f"the account's level {level!r:.20} is not known")

    def rules(self, info: Row) -> MarketRules:
        return MarketRules(
            strict.positive(info, "lotSz"), strict.positive(info, "tickSz"), strict.number(info, "minSz")
        )

    def holding(self, client: Any, market: Market) -> Holding:
        base = market["baseId"]
        details = strict.rows(strict.one(strict.of_okx(client.privateGetAccountBalance({"ccy": base}))).get("details"))
        mine = [row for row in details if row.get("ccy") == base]
        if len(mine) > 1:
            raise NotAnswered(f"it tells of {len(mine)} balances of {base}")
        return Holding(strict.number(mine[0], "cashBal"), strict.number(mine[0], "availBal")) if mine else _NOTHING

    def open_orders(self, client: Any, market: Market) -> Iterator[OpenOrder]:
        seen = set[str]()
        after: dict[str, str] = {}
        for _ in range(_MOST_PAGES):
            rows = strict.of_okx(
                client.privateGetTradeOrdersPending({"instId": market["id"], "limit": str(_PAGE), **after})
            )
            for row in rows:
                strict.same(row, "instId", market["id"])
                number = strict.text(row, "ordId")
                if number not in seen:
                    seen.add(number)
                    yield OpenOrder(
                        number, row.get("clOrdId") or None, strict.side(row, "side"), strict.price(row, "px")
                    )
            if len(rows) < _PAGE:
                return
            after = {"after": strict.text(rows[-1], "ordId")}
        raise NotAnswered(f"more than {_PAGE * _MOST_PAGES} orders rest there")

    def record(self, client: Any, market: Market, client_id: str) -> OrderRecord | None:
        try:
            rows = strict.of_okx(client.privateGetTradeOrder({"instId": market["id"], "clOrdId": client_id}))
        except ccxt.OrderNotFound:
            if (ccxt_internals.last_answer(client) or {}).get("code") == self._NO_SUCH_ORDER:
                return None
            raise
        if not rows:
            return None
        row = strict.one(rows)
        strict.same(row, "instId", market["id"])
        strict.same(row, "clOrdId", client_id)
        state = str(row.get("state"))
        if state not in self._OPEN:
            raise NotAnswered(f"the order's state {state!r:.40} is not known")
        filled = strict.number(row, "accFillSz")
        in_quote = row.get("feeCcy") == market["quoteId"]
        return OrderRecord(
            order_id=strict.text(row, "ordId"),
            is_open=self._OPEN[state],
            filled=filled,
            proceeds=filled * strict.positive(row, "avgPx") if filled else Decimal(0),
            # What is paid is written as negative.
            fee=-strict.signed(row, "fee") if in_quote else None,
            limit=strict.price(row, "px"),
            amount=strict.positive(row, "sz"),
            side=strict.side(row, "side"),
        )

    def sell(self, client: Any, market: Market, client_id: str, size: str, price: str, *, only_check: bool) -> None:
        assert not only_check
        order = {
            "instId": market["id"], "tdMode": "cash", "side": _SELL, "ordType": "ioc", "clOrdId": client_id,
            "sz": size, "px": price,
        }  # fmt: skip
        until = self._connection.now() + timedelta(seconds=self._window)
        with ccxt_internals.with_headers(client, {"expTime": str(milliseconds(until))}):
            strict.text(strict.one(strict.of_okx(client.privatePostTradeOrder(order))), "ordId")

    def cancel(self, client: Any, market: Market, order_id: str) -> None:
        answer = client.privatePostTradeCancelOrder({"instId": market["id"], "ordId": order_id})
        strict.same(strict.one(strict.of_okx(answer)), "ordId", order_id)

    def permissions(self, client: Any) -> list[str] | None:
        said = strict.one(strict.of_okx(client.privateGetAccountConfig())).get("perm")
        return strict.names(said.split(",") if isinstance(said, str) and said else None)


_DIALECTS: Mapping[str, type[_Dialect]] = {
    "kucoin": _Kucoin, "kraken": _Kraken, "okx": _Okx, "myokx": _Okx, "okxus": _Okx,
}  # fmt: skip
