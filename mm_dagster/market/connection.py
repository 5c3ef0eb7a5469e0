"""One exchange through ccxt: its address, its clock, its markets, and what to do when it does not answer.

What is public and what belongs to an account are read over connections of their own, with the same patience and the
same words. What leaves this module, an error or a log, holds neither a secret nor a signature nor an address with a
password.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import ccxt
import requests

from mm_dagster import logs, web
from mm_dagster.bars import EPOCH
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market import ccxt_internals
from mm_dagster.market.names import RENAMED
from mm_dagster.market.pace import Pace, TooLate
from mm_dagster.market.venue import FIRST_CONTACT_SECONDS, UNKNOWN_MARKET, VenueError
from mm_dagster.retries import retry_context
from mm_dagster.text import closest, did_you_mean, number_text

T = TypeVar("T")

_LEAVE_ALONE_AFTER = 2
"""Calls in a row that failed after all their retries; then the exchange is left alone."""
_TIME_ATTEMPTS = 2
"""The time is asked for before anything else: a dead network should show soon."""
_MOST_BYTES = 16 * 2**20
"""Of an answer; the longest that an exchange is known to send is its list of markets."""
_LATEST_TIME = 7_258_118_400_000
"""Milliseconds until 2200: what an exchange calls its time beyond it is in another unit."""
_TOO_BUSY_CODE = "200002"
_PASSING_CODES = frozenset({_TOO_BUSY_CODE, "408000"})
"""KuCoin's own codes of what passes by itself, and that ccxt files among what does not: too busy, timed out."""
_CREDIT = {"kucoin": 1.0}
"""Seconds in which an exchange was not asked that may be made up for at once: KuCoin counts over 30 s."""
_PROOF = 16
"""Characters of a header of a request from which it may be a signature."""
_OURS = (
    web.Redirected,
    web.TooLarge,
    web.BrokenOff,
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidProxyURL,
)
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
        within: seconds after which nothing is tried again; a name that nobody resolves takes five of them at once.
    """

    attempts: int = 4
    first_wait: float = 1.5
    longest_wait: float = 10.0
    jitter: float = 1.0
    within: float | None = None


FIRST_CONTACT = Retry(attempts=2, first_wait=0.3, longest_wait=0.5, jitter=0.2, within=FIRST_CONTACT_SECONDS)
"""Where a person waits to hear whether an exchange is there at all; whoever needs its answer is patient."""


class NotAnswered(Exception):
    """Why a call brought no answer, in words.

    Attributes:
        passes: whether it may be otherwise in a moment.
        refused: whether the exchange refuses the key, so that asking anything else is of no use.
        unknown_symbol: whether the exchange says that there is no such market.
        too_many: whether the exchange says that it is asked too often.
    """

    def __init__(
        self,
        reason: str,
        *,
        passes: bool = False,
        refused: bool = False,
        unknown_symbol: bool = False,
        too_many: bool = False,
    ) -> None:
        super().__init__(reason)
        self.passes = passes
        self.refused = refused
        self.unknown_symbol = unknown_symbol
        self.too_many = too_many


def _instead(symbol: str, markets: Iterable[str]) -> str:
    """What to do about a market that is not there: take its new name, one that is written alike, or look."""
    base, _, quote = symbol.partition("-")
    names = {name.replace("/", "-") for name in markets}
    renamed = f"{RENAMED.get(base, '')}-{quote}"
    if renamed in names:
        return f"; {base} is {RENAMED[base]} now, so {renamed} may be what you want"
    same_quote = {name for name in names if name.endswith(f"-{quote}")}
    close = closest(symbol, same_quote or names, cutoff=0.8)
    return f"; did you mean {close}?" if close else "; it may be renamed or delisted: see the exchange's announcements"


class Connection:
    """Keep one a run: its clock, its markets, its pace and its circuit breaker belong to it.

    Any number of threads may use it. ccxt's client is made for one, so that each thread has its own.

    Attributes:
        label: name, exchange and address, to begin an error with.
    """

    def __init__(
        self,
        name: str,
        settings: CcxtVenue,
        *,
        retry: Retry | None = None,
        secrets: Sequence[str] = (),
        refusals: Mapping[str, str] | None = None,
        credit: float | None = None,
    ) -> None:
        """
        Args:
            name: name in markets.yaml.
            settings: which exchange, at which address.
            retry: how patiently a call is repeated.
            secrets: what must not be in any error; where there are some, ccxt's own log is silent.
            refusals: sentences for the exchange's own codes of a key that it refuses.
            credit: seconds in which nobody asked that may be made up for at once, `within` a time; None: by exchange.

        Raises:
            VenueError: ccxt does not know the exchange, or the address is none.
        """
        self._name = name
        self._retry = retry or Retry()
        login = urlsplit(settings.api_url or "").netloc.rpartition("@")[0]
        self._secrets = tuple(filter(None, (*secrets, login, login.partition(":")[2])))
        self._refusals = refusals or {}
        self._failures = 0
        self._last_failure = ""
        self._refusal: str | None = None
        self._clock: tuple[datetime, float] | None = None
        self._settings = settings
        self._credit = _CREDIT.get(settings.exchange, 0.0) if credit is None else credit
        self._is_private = bool(secrets)
        self._clients = threading.local()
        self._with_markets: Any = None
        self._once = threading.RLock()
        if settings.exchange not in ccxt.exchanges:
            raise VenueError(
                f"{name}: exchange: {settings.exchange!r} is no exchange of ccxt"
                f"{did_you_mean(settings.exchange, ccxt.exchanges)}"
            )
        a_second = settings.requests_per_second
        client = self._new_client(None)
        self._pace = Pace(
            1 / a_second if a_second else client.rateLimit / 1000, self._retry.first_wait, self._retry.longest_wait
        )
        self._clients.own = self._paced(client)
        self.label = f"{name} ({settings.exchange} at {ccxt_internals.address(client)})"

    @property
    def exchange(self) -> Any:
        """ccxt's client of this thread. Calls to it go through `call`."""
        if not hasattr(self._clients, "own"):
            self._clients.own = self._paced(self._new_client(self._with_markets))
        return self._clients.own

    def _new_client(self, with_markets: Any) -> Any:
        """A client; what another one knows of the markets it knows, too."""
        client = getattr(ccxt, self._settings.exchange)(
            {
                "enableRateLimit": True,
                "timeout": int(self._settings.timeout_seconds * 1000),
                # The body of the last answer is the only way to tell "nothing" from an empty page.
                "enableLastJsonResponse": True,
                "session": web.Session(_MOST_BYTES, self._secrets, proxy=self._settings.proxy),
            }
        )
        ccxt_internals.only_spot(client)
        if self._settings.api_url is not None:
            self._redirect(client, self._settings.api_url)
        if self._is_private:
            # Both write the requests themselves, with keys and signatures.
            ccxt_internals.silence(client)
            logging.getLogger("urllib3.connectionpool").addFilter(_without_query)
        if with_markets is not None:
            client.set_markets_from_exchange(with_markets)
        return client

    def _paced(self, client: Any) -> Any:
        """The client, which waits for its turn among all of them, where ccxt's own throttle knows of itself alone."""

        def turn(weight: float | None) -> None:
            until = self._until
            try:
                if self._settings.requests_per_second:
                    self._pace.take(None, until)
                else:
                    self._pace.take(weight, until, 0.0 if until is None else self._credit)
            except TooLate:
                said = f"its turn did not come within {number_text(self._patience)} s"
                raise NotAnswered(said, passes=True) from None
            self._clients.asked_at = time.monotonic()
            if until is not None:
                self._clients.check()
                if until <= self._clients.asked_at:
                    raise NotAnswered(f"no answer within {number_text(self._patience)} s", passes=True)
                client.timeout = max(1, int((until - self._clients.asked_at) * 1000))

        ccxt_internals.throttle(client, turn)
        return client

    @property
    def _until(self) -> float | None:
        """When this thread gives up, seconds of the monotonic clock; None: `Retry` says how patient it is."""
        return getattr(self._clients, "until", None)

    @property
    def _patience(self) -> float:
        """How long this thread waits for an answer, seconds, in words."""
        return round(getattr(self._clients, "patience", self._settings.timeout_seconds), 2)

    @contextmanager
    def within(self, seconds: float, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """What this thread asks in here is answered within that time or not at all: each question is put once.

        For what is worth nothing late, and must not be in the way of what comes after it. Where an exchange counts over
        a longer time, questions after a pause come at once.

        Args:
            seconds: how long all of it may take, waiting for its turn included.
            check: is called when its turn has come; what it raises is raised in place of the question.
        """
        mine, client, seconds = self._clients, self.exchange, min(seconds, self._settings.timeout_seconds)
        before = client.timeout
        mine.until, mine.patience, mine.check = time.monotonic() + seconds, seconds, check
        try:
            yield
        finally:
            del mine.until, mine.patience, mine.check
            client.timeout = before

    def since_asked(self) -> timedelta:
        """How long ago this thread asked the exchange something."""
        return timedelta(seconds=time.monotonic() - self._clients.asked_at)

    def now(self) -> datetime:
        """The exchange's time, asked for once and kept by a clock that nobody sets.

        It is late by the way of the answer, never early, so that no open bar is taken for a closed one. The few
        exchanges that do not tell the time have the computer's.

        Raises:
            VenueError: the exchange does not answer.
        """
        with self._once:
            if self._clock is None:
                if not self.exchange.has["fetchTime"]:
                    return datetime.now(UTC)
                self._clock = self.ask_time()
            then, at = self._clock
        return then + timedelta(seconds=time.monotonic() - at)

    def ask_time(self) -> tuple[datetime, float]:
        """The exchange's time, and the monotonic clock's when it came.

        Raises:
            VenueError: the exchange does not answer.
        """

        def ask() -> datetime:
            milliseconds = self.exchange.fetch_time()
            if milliseconds is None or milliseconds > _LATEST_TIME:
                raise ccxt.NullResponse("no time")
            return EPOCH + timedelta(milliseconds=milliseconds)

        try:
            return self.call(ask, attempts=_TIME_ATTEMPTS), time.monotonic()
        except NotAnswered as failure:
            raise VenueError(
                f"{self.label} does not tell the time: {failure}; check the network, and api_url in markets.yaml"
            ) from None

    def markets(self) -> dict[str, Any]:
        """The spot markets of the exchange, by ccxt's names.

        Raises:
            NotAnswered: with the reason.
        """

        def ask() -> dict[str, Any]:
            markets = {key: market for key, market in self.exchange.load_markets(True).items() if market.get("spot")}
            if not markets:
                raise ccxt.NullResponse("no markets")
            return markets

        with self._once:
            client = self.exchange
            if not client.markets and self._with_markets is None:
                found = self.call(ask)
                self._with_markets = client
                return found
            if not client.markets:
                client.set_markets_from_exchange(self._with_markets)
        return {key: market for key, market in client.markets.items() if market.get("spot")}

    def market(self, symbol: str) -> str:
        """ccxt's name of a market.

        Raises:
            NotAnswered: with the reason.
            VenueError: the exchange does not know it.
        """
        markets = self.markets()
        market = symbol.replace("-", "/")
        if market not in markets:
            raise VenueError(f"{self.label}: {symbol} {UNKNOWN_MARKET}{_instead(symbol, markets)}")
        return market

    def call(self, ask: Callable[[], T], attempts: int | None = None) -> T:
        """Calls, repeats what may pass, and leaves an exchange alone that keeps failing or refuses the key.

        Within a time, a call is made once, and its failure is no reason to leave the exchange alone.

        Args:
            ask: the call.
            attempts: in all; None: as `Retry` says.

        Raises:
            NotAnswered: with the reason.
        """
        if self._refusal is not None:
            raise NotAnswered(self._refusal, refused=True)
        if self._failures >= _LEAVE_ALONE_AFTER:
            raise NotAnswered(f"left alone for this tick, since {self._last_failure}", passes=True)
        if self._until is not None:
            return self._asked(ask)
        try:
            for attempt in retry_context(
                on=lambda error: isinstance(error, NotAnswered) and error.passes,
                attempts=attempts or self._retry.attempts,
                timeout=self._retry.within,
                wait_initial=self._retry.first_wait,
                wait_max=self._retry.longest_wait,
                wait_jitter=self._retry.jitter,
            ):
                with attempt:
                    answer = self._asked(ask)
        except NotAnswered as failure:
            if failure.passes:
                self._failures += 1
                self._last_failure = str(failure)
            if failure.refused:
                self._refusal = str(failure)
            raise
        self._failures = 0
        return answer

    def _asked(self, ask: Callable[[], T]) -> T:
        """Calls once; ccxt's errors quote addresses and bodies, so that none of them gets out, not even as a cause."""
        ccxt_internals.forget_answer(self.exchange)
        try:
            return ask()
        except NotAnswered as error:
            failure = error
        except Exception as error:
            if _is_too_many(error):
                self._pace.slow_down(self._clients.asked_at)
            failure = self._not_answered(error)
        raise failure

    def _not_answered(self, error: Exception) -> NotAnswered:
        refused = ccxt_internals.kucoin_code(error) in self._refusals or isinstance(
            error, (ccxt.AuthenticationError, ccxt.InvalidNonce)
        )
        return NotAnswered(
            self._in_words(error),
            passes=not refused and _may_pass(error),
            refused=refused,
            unknown_symbol=isinstance(error, ccxt.BadSymbol)
            or ccxt_internals.kucoin_code(error) in _UNKNOWN_SYMBOL_CODES,
            too_many=_is_too_many(error),
        )

    def _in_words(self, error: Exception) -> str:
        """Why a call failed, on one line and without an address that may hold a password."""
        status = ccxt_internals.http_status(error)
        because = f" (HTTP {status})" if status else ""
        if (refusal := self._refusals.get(ccxt_internals.kucoin_code(error) or "")) is not None:
            own_words = re.search(r'"msg"\s*:\s*"([^"]*)"', self._quoted(error))
            return f"{refusal} ({ccxt_internals.kucoin_code(error)}{': ' + own_words[1] if own_words else ''})"
        cause = error.__cause__ or error.__context__
        if isinstance(cause, _OURS):
            setting = "api_url in markets.yaml" if self._settings.api_url else "it with api_url in markets.yaml"
            return web.reason(cause, self._patience, setting)
        match error:
            case ccxt.RequestTimeout():
                return f"no answer within {number_text(self._patience)} s"
            case ccxt.RateLimitExceeded() | ccxt.DDoSProtection():
                return f"too many requests{because}"
            case ccxt.ExchangeNotAvailable():
                return f"it is not available{because}"
            case ccxt.NullResponse():
                return "an answer without content"
            case ccxt.InvalidNonce():
                return f"it refuses the time of this computer; let NTP set the clock: {self._quoted(error)}"
            case ccxt.NetworkError():
                return "no connection"
            case ccxt.AuthenticationError():
                return f"it refuses the key; check it, its secret, its permissions and addresses: {self._quoted(error)}"
            case ccxt.BaseError():
                return f"it refuses: {self._quoted(error)}"
            case _:
                return f"an answer that cannot be read ({type(error).__name__})"

    def _quoted(self, error: Exception) -> str:
        """An exchange's own words, without secrets, and without what an address holds besides host and path."""
        sent = ccxt_internals.last_headers(self.exchange)
        # What proves who asks is as good as the key for a while, KuCoin's signed passphrase for good.
        proofs = [str(value) for value in sent.values() if len(str(value)) >= _PROOF]
        text = logs.redact(logs.without(" ".join(str(error).split()), (*self._secrets, *proofs)))
        text = re.sub(r"//[^/@\s]*@", "//", text)
        return re.sub(r"(//[^\s?]*)\?\S*", r"\1", text)[:160]

    def _redirect(self, client: Any, url: str) -> None:
        """Sends every REST call to another address; paths stay as they are."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise VenueError(f"{self._name}: api_url: it is no address; write it like https://api.example.com")
        ccxt_internals.redirect(client, url)


def lists(body: Any) -> Iterator[list[Any]]:
    """Every list of a JSON body that is not inside of another one."""
    if isinstance(body, list):
        yield body
    elif isinstance(body, dict):
        for value in body.values():
            yield from lists(value)


def number(value: Any) -> float | None:
    """A number, or None where there is none."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def milliseconds(when: datetime) -> int:
    """Whole milliseconds since the Unix epoch."""
    return (when - EPOCH) // timedelta(milliseconds=1)


def _without_query(record: logging.LogRecord) -> bool:
    """Takes what follows the path out of a logged request."""
    if isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


def _is_too_many(error: Exception) -> bool:
    """Whether an exchange says that it is asked too often."""
    is_said = isinstance(error, (ccxt.RateLimitExceeded, ccxt.DDoSProtection))
    return is_said or ccxt_internals.kucoin_code(error) == _TOO_BUSY_CODE


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed in a moment: no connection, timeouts, 429, 5xx, and KuCoin's 200002."""
    if ccxt_internals.kucoin_code(error) in _PASSING_CODES:
        return True
    status = ccxt_internals.http_status(error)
    if status is not None and 400 <= status < 500 and not isinstance(error, ccxt.RateLimitExceeded):
        return status in _PASSING_STATUS
    return isinstance(error, ccxt.OperationFailed)
