"""A live exchange, through ccxt: its public candles, and what of its answers counts as one.

ccxt's own pagination and `until` differ from exchange to exchange, so that pages and the decision what counts as an
answer are here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import polars as pl

from mm_dagster.bars import BAR, EPOCH, TIME, Span, floor_bar, iso
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market import ccxt_internals, pages, progress
from mm_dagster.market.connection import Connection, NotAnswered, Retry, lists, milliseconds, number
from mm_dagster.market.venue import ROWS, Answer, OrderBook, VenueError
from mm_dagster.tables.market import MarketRules
from mm_dagster.text import spoken

_TIMEFRAME = "15m"
_PAGE_BARS = 500
"""Bars a page where ccxt does not know the exchange's limit."""
_CLOCKS_AGREE = timedelta(seconds=5)
"""How far two clocks may be apart; a slow answer makes a second or two of it."""
_ONE_TIME = timedelta(minutes=30)
"""Clocks that differ by no more tell the same time: no bar is late by it."""
_WITNESSES = 3
"""Markets that are asked at most which of two clocks is right."""
_LEVELS = 100
"""Of a side of an order book: KuCoin shows no more to the public."""
_MOST_LEVELS = 5_000
"""Of a side; more than any exchange sends to whom asks for 100."""
_REST_SECONDS = 30.0
"""How long no order book is asked for after a refusal as one too many: KuCoin's longest block."""
_NAMES_OF_A_MARKET = ("symbol", "instId", "pair", "s")
"""Where an answer says which market it is about, if it does."""

logger = logging.getLogger(__name__)


class ExchangeVenue:
    """Candles of one exchange. Keep one instance a run: its clock, markets, pace and circuit breaker belong to it."""

    simulated = False

    def __init__(
        self, name: str, settings: CcxtVenue, *, retry: Retry | None = None, markets: Sequence[str] = ()
    ) -> None:
        """
        Args:
            name: name in markets.yaml.
            settings: which exchange, at which address.
            retry: how patiently a call is repeated.
            markets: those that are watched; candles of the first say which clock is right, where the exchange's is far
                from the computer's.

        Raises:
            VenueError: ccxt does not know the exchange, it has no 15-minute candles, or the address is none.
        """
        self.name = name
        self._connection = Connection(name, settings, retry=retry)
        self._label = self._connection.label
        self._watched = tuple(markets)
        self._once = threading.Lock()
        self._is_checked = False
        self._own_clock: tuple[datetime, float] | None = None
        self._books_from = 0.0
        if not self._exchange.has["fetchOHLCV"] or _TIMEFRAME not in (self._exchange.timeframes or {}):
            raise VenueError(f"{name}: exchange: {settings.exchange} has no 15-minute candles; choose another exchange")

    @property
    def _exchange(self) -> Any:
        """ccxt's client of this thread."""
        return self._connection.exchange

    def now(self) -> datetime:
        """The exchange's time; where it is far from the computer's, the one of both that its candles bear out.

        A clock that once tells another day would make every grid blind, and bars that are open pass for closed.

        Raises:
            VenueError: the exchange does not answer.
        """
        theirs = self._connection.now()
        with self._once:
            if not self._is_checked:
                self._is_checked = True
                own = datetime.now(UTC)
                if abs(theirs - own) > _ONE_TIME and self._is_refuted(theirs, own):
                    logger.warning(
                        "%s: its clock says %s, and its candles that it is %s; the computer's is used",
                        self._label,
                        iso(theirs),
                        iso(own),
                    )
                    self._own_clock = own, time.monotonic()
            if self._own_clock is None:
                return theirs
            own, at = self._own_clock
        return own + timedelta(seconds=time.monotonic() - at)

    def _is_refuted(self, theirs: datetime, own: datetime) -> bool:
        """Whether the candles say that it is our time: those of the later clock are there only if it is right."""
        earlier, later = sorted((theirs, own))
        end = floor_bar(later) + BAR
        newest = Span(max(floor_bar(earlier) + BAR, end - 5 * BAR), end)
        answers = 0
        for symbol in self._watched[:_WITNESSES]:
            try:
                answer = self.fetch(symbol, newest)
            except VenueError:
                continue
            if answer.rows.filter(newest.opens()).height:
                return later == own
            answers += answer.error is None
        return answers > 0 and earlier == own

    def fetch(self, symbol: str, span: Span) -> Answer:
        """The candles of a span, page by page; a page that fails does not stop the ones after it.

        Raises:
            VenueError: the exchange does not know the symbol.
        """
        error: str | None = None
        got = pages.Read()
        try:
            market = self._connection.market(symbol)
            believed = int(self._exchange.feature_value(market, "fetchOHLCV", "limit", None) or _PAGE_BARS)

            def ask(page: Span) -> list[list[Any]] | None:
                nonlocal error
                try:
                    sent = self._page(market, page)
                    progress.tell().came(page.bars)
                    return sent
                except NotAnswered as failure:
                    if failure.unknown_symbol or not failure.passes:
                        raise
                    error = error or self._not_answered(symbol, page, failure)
                    return None

            got = pages.read(span, believed, ask)
            if not got.whole:
                error = error or f"{self._label}: {symbol}: no answer for all of {span}: its pages hold too few rows"
        except NotAnswered as failure:
            if failure.unknown_symbol:
                raise VenueError(
                    f"{self._label}: {symbol}: the exchange says that there is no such market; "
                    "correct it in markets.yaml or take it out"
                ) from None
            error = error or self._not_answered(symbol, span, failure)
        return Answer(_frame(got.rows), tuple(got.answered), error, tuple(got.unread), got.kept_from)

    def last_prices(self, symbols: Sequence[str], seconds: float | None = None) -> dict[str, float | None]:
        """The last traded price of each market as it is said, quote currency; None where the exchange does not say.

        Several are asked for in one question where the exchange takes one: alone each would weigh as much.

        Args:
            symbols: the markets.
            seconds: how long it may take, then it is asked for once; None: as long as other questions.
        """
        prices: dict[str, float | None] = dict.fromkeys(symbols)
        try:
            with self._connection.within(seconds) if seconds is not None else nullcontext():
                known = self._connection.markets()
                asked = {symbol: market for symbol in symbols if (market := symbol.replace("-", "/")) in known}
                tickers = self._connection.call(lambda: self._tickers(list(asked.values())))
        except (NotAnswered, VenueError):
            return prices
        for symbol, market in asked.items():
            ticker = tickers.get(market, {})
            # One of another market is none; ccxt names it by what the body says.
            if ticker.get("symbol") in (None, market):
                prices[symbol] = number(ticker.get("last"))
        return prices

    def _tickers(self, markets: list[str]) -> dict[str, dict[str, object]]:
        if len(markets) > 1 and self._exchange.has["fetchTickers"]:
            return self._exchange.fetch_tickers(markets)
        return {market: self._exchange.fetch_ticker(market) for market in markets}

    def order_book(self, symbol: str, seconds: float) -> OrderBook:
        """The public order book of a market as it is now, 100 levels a side or as many as there are.

        It is asked for once, in its turn. That it does not come is no reason to leave the exchange alone with what
        matters more; but after "too many requests" no other book is asked for either for a while.

        Args:
            symbol: market.
            seconds: how long it may take, waiting for its turn included.

        Raises:
            VenueError: there is none, or it did not come.
        """
        if not self._exchange.has["fetchOrderBook"]:
            raise VenueError(f"{self._label}: {symbol}: no order book: ccxt reads none on {self._exchange.id}")
        try:
            self._rest()
            with self._connection.within(seconds, self._rest):
                market = self._connection.market(symbol)
                self.now()
                return self._connection.call(lambda: self._order_book(market))
        except NotAnswered as failure:
            if failure.too_many:
                self._books_from = time.monotonic() + _REST_SECONDS
            raise VenueError(f"{self._label}: {symbol}: no order book: {failure}") from None

    def _rest(self) -> None:
        """Lets no book be asked for where another one was one too many.

        Raises:
            NotAnswered: it was, a moment ago.
        """
        if time.monotonic() < self._books_from:
            raise NotAnswered("not asked for, since another one was one too many requests a moment ago")

    def _order_book(self, market: str) -> OrderBook:
        client = self._exchange
        sides = ccxt_internals.keep_levels_as_sent(client, _MOST_LEVELS)
        try:
            book = client.fetch_order_book(market, _LEVELS)
        except ccxt_internals.UnreadableLevels as error:
            raise NotAnswered(f"an answer that cannot be read: {error}") from None
        ago = self._connection.since_asked()
        body = ccxt_internals.last_answer(client)
        # ccxt makes an empty book of an empty or unreadable body, too.
        if next(lists(body), None) is None:
            raise ccxt.NullResponse("neither levels nor an empty list of them")
        if (other := _another_market(body, {client.market(market)["id"], market})) is not None:
            raise NotAnswered(f"the answer is about {other!r:.40}")
        observed = _moment(book["timestamp"])
        sent = dict(zip(("bids", "asks"), sides, strict=False))
        bids, asks = (
            book[name] if name not in sent or _is_in_order(sent[name]) else sent[name] for name in ("bids", "asks")
        )
        return OrderBook(
            bids=bids,
            asks=asks,
            asked_at=self.now() - ago,
            observed_at=observed,
            age=None if observed is None else self._connection.now() - ago - observed,
            update_id=None if book["nonce"] is None else str(book["nonce"])[:40],
        )

    def rules(self, symbol: str) -> MarketRules | None:
        """What an order must keep to; None where the exchange does not say at the moment.

        Raises:
            VenueError: the exchange does not know the symbol.
        """
        try:
            market = self._exchange.market(self._connection.market(symbol))
        except NotAnswered:
            return None
        cost = market["limits"]["cost"]["min"]
        if self._exchange.id == "kucoin":
            # The least that an order may be worth; ccxt knows only the least quote currency of a market order.
            cost = max(filter(None, (number(cost), number(market["info"].get("minFunds")))), default=None)
        return MarketRules(
            price_tick=self._step(market["precision"]["price"]),
            amount_lot=self._step(market["precision"]["amount"]),
            amount_min=number(market["limits"]["amount"]["min"]) or None,
            cost_min=number(cost) or None,
        )

    def check(self) -> str:
        """That the exchange answers, has the watched markets, and has the same time as the computer.

        Raises:
            VenueError: one of these is not so.
        """
        try:
            if not self._exchange.has["fetchTime"]:
                said = f"answers with {len(self._connection.markets())} markets; it does not tell its time"
            else:
                theirs, _ = self._connection.ask_time()
                said = f"answers; its clock is {self._checked_clock(theirs):+.1f} s from ours"
            for symbol in self._watched:
                name = self._connection.market(symbol)
                if self._exchange.market(name).get("active") is False:
                    raise VenueError(
                        f"{self._label}: {symbol} is halted there: nothing is traded, and what was known grows old; "
                        "see the exchange's announcements, and take it out of markets.yaml if it does not come back"
                    )
        except NotAnswered as failure:
            raise VenueError(f"{self._label} does not answer: {failure}; check the network") from None
        return f"{self._label} {said}"

    def _checked_clock(self, theirs: datetime) -> float:
        """How many seconds the exchange's clock is ahead of the computer's.

        Raises:
            VenueError: more than a request takes.
        """
        ahead = theirs - datetime.now(UTC)
        if abs(ahead) > _CLOCKS_AGREE:
            raise VenueError(
                f"{self._label} answers; the computer's clock is {spoken(abs(ahead))} "
                f"{'behind' if ahead > timedelta(0) else 'ahead of'} its own; set it, by NTP: decisions "
                "run on the exchange's time, but schedule, quiet hours and Pushover on the computer's"
            )
        return ahead.total_seconds()

    def _step(self, precision: Any) -> float | None:
        """The size of a step, whether ccxt gives that or a count of decimals; None where it gives something else."""
        size = number(precision)
        if size is not None and self._exchange.precisionMode == ccxt.DECIMAL_PLACES:
            return float(10.0**-size)
        return size if size and self._exchange.precisionMode == ccxt.TICK_SIZE else None

    def _page(self, market: str, page: Span) -> list[list[Any]]:
        """The rows of one page as ccxt gives them: milliseconds, open, high, low, close, volume."""
        # The last second that belongs to the page: the same bars, whether the exchange counts the end in or not.
        last_second = milliseconds(page.end) // 1000 - 1
        until = {"endAt": last_second} if self._exchange.id == "kucoin" else {"until": last_second * 1000}

        def ask() -> list[list[Any]]:
            client = self._exchange
            ccxt_internals.keep_every_row(client, lambda row: pages.opened(row) is not None)
            sent: list[list[Any]] = client.fetch_ohlcv(market, _TIMEFRAME, milliseconds(page.start), page.bars, until)
            # ccxt makes an empty page of an empty or unreadable body, too.
            if not sent and not _says_no_candles(ccxt_internals.last_answer(client)):
                raise ccxt.NullResponse("neither candles nor an empty list of them")
            if sent and not any(pages.opened(row) for row in sent):
                raise ccxt.NullResponse("no row that can be read")
            return sent

        return self._connection.call(ask)

    def _not_answered(self, symbol: str, span: Span, failure: NotAnswered) -> str:
        return f"{self._label}: {symbol}: no answer for {span}: {failure}"


def _another_market(body: Any, names: set[str]) -> str | None:
    """What a body says that it is about, where that is another market than the one of these names."""
    parts = [body, *(body.get(key) for key in ("data", "result"))] if isinstance(body, dict) else []
    said = [part[name] for part in parts if isinstance(part, dict) for name in _NAMES_OF_A_MARKET if name in part]
    known = {_letters(name) for name in names}
    return next((name for name in said if isinstance(name, str) and name and _letters(name) not in known), None)


def _letters(name: str) -> str:
    """A market's name without what exchanges put between its parts."""
    return "".join(letter for letter in name.upper() if letter.isalnum())


def _moment(milliseconds: Any) -> datetime | None:
    """The time of a book; None: it has none.

    Raises:
        NotAnswered: it is no time.
    """
    if milliseconds is None:
        return None
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except (TypeError, OverflowError):
        raise NotAnswered(f"its time is none: {milliseconds!r:.40}") from None


def _is_in_order(levels: Sequence[Sequence[Any]]) -> bool:
    """Whether levels can be read and their prices only rise or only fall, as ccxt then puts them the right way."""
    if any(None in level for level in levels):
        return False
    prices = [level[0] for level in levels]
    return prices == sorted(prices) or prices == sorted(prices, reverse=True)


def _says_no_candles(body: Any) -> bool:
    """Whether a body is a genuine answer without rows: it has an empty list, and none with rows that ccxt left out."""
    found = list(lists(body))
    return bool(found) and not any(found)


def _frame(rows: list[list[Any]]) -> pl.DataFrame:
    values = [[row[0] * 1000, *(number(value) for value in row[1 : len(ROWS)])] for row in rows]
    return (
        pl.DataFrame(values, schema={**ROWS, "open_time": pl.Int64()}, orient="row")
        .with_columns(pl.col("open_time").cast(TIME))
        .sort("open_time", maintain_order=True)
    )
