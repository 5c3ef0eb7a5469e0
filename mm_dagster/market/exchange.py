"""A live exchange, through ccxt: its public candles, its clock, and what to do when it does not answer.

ccxt's own pagination, `until` and error classes differ from exchange to exchange, so that pages, retries and the
decision what counts as an answer are here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import ccxt
import polars as pl
import stamina

from mm_dagster.bars import BAR, EPOCH, TIME, Span, ceil_bar
from mm_dagster.config import CcxtVenue
from mm_dagster.market.venue import ROWS, Answer, VenueError, did_you_mean

T = TypeVar("T")

_TIMEFRAME = "15m"
_PAGE_BARS = 500
"""Bars a page where ccxt does not know the exchange's limit."""
_LEAVE_ALONE_AFTER = 2
"""Calls in a row that failed after all their retries; then the exchange is left alone."""
_TIME_ATTEMPTS = 2
"""The time is asked for before anything else: a dead network should show soon."""
_PASSING_CODES = frozenset({"200002", "408000"})
"""KuCoin's own codes of what passes by itself, and that ccxt files among what does not: too busy, timed out."""
_UNKNOWN_SYMBOL_CODES = frozenset({"900001"})
_PASSING_STATUS = frozenset({408, 418, 425, 429})
"""HTTP statuses below 500 that pass by themselves."""


@dataclass(frozen=True)
class Retry:
    """How patiently one call is repeated: the wait doubles from `first_wait` to `longest_wait`, plus up to `jitter`.

    Attributes:
        attempts: calls in all.
        first_wait: seconds; KuCoin's shortest block lasts 10, which the default waits outlast.
        longest_wait: seconds.
        jitter: seconds.
    """

    attempts: int = 4
    first_wait: float = 1.5
    longest_wait: float = 10.0
    jitter: float = 1.0


class _NotAnswered(Exception):
    """Why a call brought no answer, in words.

    Attributes:
        passes: whether it may be otherwise in a moment.
        unknown_symbol: whether the exchange says that there is no such market.
    """

    def __init__(self, reason: str, *, passes: bool, unknown_symbol: bool = False) -> None:
        super().__init__(reason)
        self.passes = passes
        self.unknown_symbol = unknown_symbol


class ExchangeVenue:
    """Candles of one exchange. Keep one instance a run: its clock, its markets and its circuit breaker belong to it."""

    simulated = False

    def __init__(self, name: str, settings: CcxtVenue, *, retry: Retry | None = None) -> None:
        """
        Args:
            name: name in markets.yaml.
            settings: which exchange, at which address.
            retry: how patiently a call is repeated.

        Raises:
            VenueError: ccxt does not know the exchange, it has no 15-minute candles, or the address is none.
        """
        self.name = name
        self._retry = retry or Retry()
        self._failures = 0
        self._last_failure = ""
        self._clock: tuple[datetime, float] | None = None
        if settings.exchange not in ccxt.exchanges:
            raise VenueError(
                f"{name}: exchange: {settings.exchange!r} is no exchange of ccxt"
                f"{did_you_mean(settings.exchange, ccxt.exchanges)}"
            )
        self._exchange: Any = getattr(ccxt, settings.exchange)(
            {
                "enableRateLimit": True,
                "timeout": int(settings.timeout_seconds * 1000),
                # The body of the last answer is the only way to tell "no candles" from an empty page.
                "enableLastJsonResponse": True,
            }
        )
        _only_spot(self._exchange)
        if not self._exchange.has["fetchOHLCV"] or _TIMEFRAME not in (self._exchange.timeframes or {}):
            raise VenueError(f"{name}: exchange: {settings.exchange} has no 15-minute candles; choose another exchange")
        if settings.api_url is not None:
            self._redirect(settings.api_url)
        self._timeout_seconds = settings.timeout_seconds
        self._label = f"{name} ({settings.exchange} at {_address(self._exchange)})"

    def now(self) -> datetime:
        """The exchange's time, asked for once and kept by a clock that nobody sets.

        It is late by the way of the answer, never early, so that no open bar is taken for a closed one. The few
        exchanges that do not tell the time have the computer's.

        Raises:
            VenueError: the exchange does not answer.
        """
        if self._clock is None:
            if not self._exchange.has["fetchTime"]:
                return datetime.now(UTC)
            self._clock = self._ask_time()
        told, at = self._clock
        return told + timedelta(seconds=time.monotonic() - at)

    def fetch(self, symbol: str, span: Span) -> Answer:
        """The candles of a span, page by page; a page that fails does not stop the ones after it.

        Raises:
            VenueError: the exchange does not know the symbol.
        """
        rows: list[list[Any]] = []
        answered: list[Span] = []
        error: str | None = None
        try:
            market = self._market(symbol)
            for page in self._pages(market, span):
                try:
                    sent = self._page(market, page)
                except _NotAnswered as failure:
                    if failure.unknown_symbol or not failure.passes:
                        raise
                    error = error or self._not_answered(symbol, page, failure)
                    continue
                rows += [row for row in sent if _opens_in(row, page)]
                answered.append(_part_answered(sent, page))
        except _NotAnswered as failure:
            if failure.unknown_symbol:
                raise VenueError(
                    f"{self._label}: {symbol}: the exchange says that there is no such market; "
                    "correct it in markets.yaml or take it out"
                ) from None
            error = error or self._not_answered(symbol, span, failure)
        return Answer(_frame(rows), _joined(answered), error)

    def last_price(self, symbol: str) -> float | None:
        """The last traded price, quote currency; None where the exchange does not say."""
        try:
            market = self._market(symbol)
            ticker = self._call(lambda: self._exchange.fetch_ticker(market))
        except (_NotAnswered, VenueError):
            return None
        price = _number(ticker.get("last"))
        return price if price is not None and 0 < price < float("inf") else None

    def check(self) -> str:
        """That the exchange answers, and how far its clock is from the computer's.

        Raises:
            VenueError: it does not answer.
        """
        if not self._exchange.has["fetchTime"]:
            try:
                count = len(self._markets())
            except _NotAnswered as failure:
                raise VenueError(f"{self._label} does not answer: {failure}; check the network") from None
            return f"{self._label} answers with {count} markets; it does not tell its time"
        told, _ = self._ask_time()
        return f"{self._label} answers; its clock is {(told - datetime.now(UTC)).total_seconds():+.1f} s from ours"

    def _ask_time(self) -> tuple[datetime, float]:
        """The exchange's time, and the monotonic clock's when it came."""

        def ask() -> datetime:
            milliseconds = self._exchange.fetch_time()
            if milliseconds is None:
                raise ccxt.NullResponse("no time")
            return EPOCH + timedelta(milliseconds=milliseconds)

        try:
            return self._call(ask, attempts=_TIME_ATTEMPTS), time.monotonic()
        except _NotAnswered as failure:
            raise VenueError(
                f"{self._label} does not tell the time: {failure}; check the network, and api_url in markets.yaml"
            ) from None

    def _markets(self) -> dict[str, Any]:
        """The spot markets of the exchange, by ccxt's names."""

        def ask() -> dict[str, Any]:
            markets = {key: market for key, market in self._exchange.load_markets(True).items() if market.get("spot")}
            if not markets:
                raise ccxt.NullResponse("no markets")
            return markets

        if not self._exchange.markets:
            return self._call(ask)
        return {key: market for key, market in self._exchange.markets.items() if market.get("spot")}

    def _market(self, symbol: str) -> str:
        """ccxt's name of a market.

        Raises:
            VenueError: the exchange does not know it.
        """
        markets = self._markets()
        market = symbol.replace("-", "/")
        if market not in markets:
            hint = did_you_mean(symbol, (known.replace("/", "-") for known in markets))
            raise VenueError(f"{self._label}: {symbol} is no spot market of it{hint}")
        return market

    def _pages(self, market: str, span: Span) -> Iterator[Span]:
        """The span in pieces that the exchange answers in one go."""
        bars = int(self._exchange.feature_value(market, "fetchOHLCV", "limit", None) or _PAGE_BARS)
        start = span.start
        while start < span.end:
            yield Span(start, min(span.end, start + bars * BAR))
            start += bars * BAR

    def _page(self, market: str, page: Span) -> list[list[Any]]:
        """The rows of one page as ccxt gives them: milliseconds, open, high, low, close, volume."""
        # The last second that belongs to the page: the same bars, whether the exchange counts the end in or not.
        last_second = _milliseconds(page.end) // 1000 - 1
        until = {"endAt": last_second} if self._exchange.id == "kucoin" else {"until": last_second * 1000}

        def ask() -> list[list[Any]]:
            self._exchange.last_json_response = None
            sent: list[list[Any]] = self._exchange.fetch_ohlcv(
                market, _TIMEFRAME, _milliseconds(page.start), page.bars, until
            )
            # ccxt makes an empty page of an empty or unreadable body, too.
            if not sent and not _says_no_candles(self._exchange.last_json_response):
                raise ccxt.NullResponse("neither candles nor an empty list of them")
            return sent

        return self._call(ask)

    def _call(self, ask: Callable[[], T], attempts: int | None = None) -> T:
        """Calls, repeats what may pass, and leaves an exchange alone that keeps failing.

        Args:
            ask: the call.
            attempts: in all; None: as `Retry` says.

        Raises:
            _NotAnswered: with the reason.
        """
        if self._failures >= _LEAVE_ALONE_AFTER:
            raise _NotAnswered(f"left alone for this tick, since {self._last_failure}", passes=True)
        try:
            for attempt in stamina.retry_context(
                on=_may_pass,
                attempts=attempts or self._retry.attempts,
                timeout=None,
                wait_initial=self._retry.first_wait,
                wait_max=self._retry.longest_wait,
                wait_jitter=self._retry.jitter,
            ):
                with attempt:
                    answer = ask()
        except Exception as error:
            passes = _may_pass(error)
            reason = self._in_words(error)
            if passes:
                self._failures += 1
                self._last_failure = reason
            raise _NotAnswered(reason, passes=passes, unknown_symbol=_is_unknown_symbol(error)) from error
        self._failures = 0
        return answer

    def _in_words(self, error: Exception) -> str:
        """Why a call failed, on one line and without an address that may hold a password."""
        status = _http_status(error)
        because = f" (HTTP {status})" if status else ""
        match error:
            case ccxt.RequestTimeout():
                return f"no answer within {self._timeout_seconds:g} s"
            case ccxt.RateLimitExceeded() | ccxt.DDoSProtection():
                return f"too many requests{because}"
            case ccxt.ExchangeNotAvailable():
                return f"it is not available{because}"
            case ccxt.NullResponse():
                return "an answer without content"
            case ccxt.NetworkError():
                return "no connection"
            case ccxt.BaseError():
                text = re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))
                return f"it refuses: {text:.160}"
            case _:
                return f"an answer that cannot be read ({type(error).__name__})"

    def _not_answered(self, symbol: str, span: Span, failure: _NotAnswered) -> str:
        return f"{self._label}: {symbol}: no answer for {span}: {failure}"

    def _redirect(self, url: str) -> None:
        """Sends every REST call to another address; paths stay as they are."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise VenueError(f"{self.name}: api_url: it is no address; write it like https://api.example.com")

        def moved(known: Any) -> Any:
            if isinstance(known, dict):
                return {key: moved(value) for key, value in known.items()}
            if isinstance(known, str) and known.startswith("http"):
                return url.rstrip("/") + urlsplit(known).path
            return known

        self._exchange.urls["api"] = moved(self._exchange.urls["api"])


def _only_spot(exchange: Any) -> None:
    """Keeps ccxt from loading what candles do not need: derivatives, currencies, fees of every market."""
    exchange.has["fetchCurrencies"] = False
    exchange.options["defaultType"] = "spot"
    markets = exchange.options.get("fetchMarkets")
    if isinstance(markets, dict):
        if "types" in markets:
            markets["types"] = ["spot"]
        if "fetchTickersFees" in markets:
            markets["fetchTickersFees"] = False


def _address(exchange: Any) -> str:
    """The address that public calls go to, without path or credentials."""
    urls = exchange.urls["api"]
    while isinstance(urls, dict):
        urls = urls.get("public") or next(iter(urls.values()))
    parts = urlsplit(exchange.implode_hostname(str(urls)))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed in a moment: no connection, timeouts, 429, 5xx, and KuCoin's 200002."""
    if _code(error) in _PASSING_CODES:
        return True
    status = _http_status(error)
    if status is not None and 400 <= status < 500 and not isinstance(error, ccxt.RateLimitExceeded):
        return status in _PASSING_STATUS
    return isinstance(error, ccxt.OperationFailed)


def _is_unknown_symbol(error: Exception) -> bool:
    return isinstance(error, ccxt.BadSymbol) or _code(error) in _UNKNOWN_SYMBOL_CODES


def _code(error: Exception) -> str | None:
    """KuCoin's own code of an error; ccxt quotes the body."""
    found = re.match(r'kucoin .*"code"\s*:\s*"?(\d+)', str(error), re.DOTALL)
    return found[1] if found else None


def _http_status(error: Exception) -> int | None:
    """The HTTP status behind one of ccxt's errors, which it raises while it handles that of requests."""
    response = getattr(error.__cause__ or error.__context__, "response", None)
    return getattr(response, "status_code", None)


def _says_no_candles(body: Any) -> bool:
    """Whether a body is a genuine answer without rows: it has an empty list, and none with rows that ccxt left out."""
    lists = list(_lists(body))
    return bool(lists) and not any(lists)


def _lists(body: Any) -> Iterator[list[Any]]:
    """Every list of a JSON body that is not inside of another one."""
    if isinstance(body, list):
        yield body
    elif isinstance(body, dict):
        for value in body.values():
            yield from _lists(value)


def _opened(row: Any) -> int | None:
    """When the candle of a row opens, milliseconds; None where the row is none."""
    opened = row[0] if isinstance(row, list) and len(row) >= len(ROWS) else None
    return opened if isinstance(opened, int) else None


def _opens_in(row: Any, page: Span) -> bool:
    opened = _opened(row)
    return opened is not None and _milliseconds(page.start) <= opened < _milliseconds(page.end)


def _part_answered(sent: list[list[Any]], page: Span) -> Span:
    """What of a page was answered.

    Some exchanges know only their newest bars and answer with those, whatever was asked for. Rows from after the page
    betray them: then nothing is known of what lies before the first row.
    """
    opened = [since for row in sent if (since := _opened(row)) is not None]
    if not opened or max(opened) < _milliseconds(page.end):
        return page
    first = min(max(min(opened), _milliseconds(page.start)), _milliseconds(page.end))
    return Span(ceil_bar(EPOCH + timedelta(milliseconds=first)), page.end)


def _joined(spans: list[Span]) -> tuple[Span, ...]:
    """Ascending spans, with those joined that touch and those left out that are empty."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].end == span.start:
            joined[-1] = Span(joined[-1].start, span.end)
        elif span.bars:
            joined.append(span)
    return tuple(joined)


def _frame(rows: list[list[Any]]) -> pl.DataFrame:
    values = [[row[0] * 1000, *(_number(value) for value in row[1 : len(ROWS)])] for row in rows]
    return pl.DataFrame(values, schema={**ROWS, "open_time": pl.Int64()}, orient="row").with_columns(
        pl.col("open_time").cast(TIME)
    )


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _milliseconds(when: datetime) -> int:
    return (when - EPOCH) // timedelta(milliseconds=1)
