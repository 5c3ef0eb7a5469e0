"""A connection for what is asked of an account while a grid is left: one attempt, a few seconds, the exchange's clock.

Nothing here is ever repeated by itself: not by this module, not by ccxt, not by what lies below. Whoever asks knows
what a second attempt may do. The key is given away only after the markets are loaded, and what an exchange measures a
request's age by is its own time, kept by a clock that nobody sets: it takes a request for a few seconds after that
time, so that one which is late anywhere is refused there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market import ccxt_internals
from mm_dagster.market.account import Credentials
from mm_dagster.market.connection import Connection, NotAnswered, Retry, milliseconds
from mm_dagster.market.venue import VenueError

T = TypeVar("T")

PATIENCE_SECONDS = 10.0
"""For one question, whatever it takes."""
_CLOCK_LASTS = 600.0
"""Seconds after which the exchange's time is asked for anew: two clocks drift."""
_CREDIT = {"kucoin": 1.0, "kraken": 30.0}
"""Seconds in which nobody asked that may be made up for at once: Kraken counts up to 15, and forgets one in three
seconds (docs.kraken.com, "Spot REST rate limits")."""
_COUNTS = frozenset({"kraken"})
"""Exchanges to which the time of a signature is a number alone that must grow from process to process: Kraken tells its
time in whole seconds, which two processes of one second would begin at alike."""


class TradeConnection:
    """One account at one exchange, with the key that may trade.

    Attributes:
        label: begins an error.
    """

    def __init__(
        self,
        name: str,
        settings: CcxtVenue,
        key: Credentials,
        *,
        is_demo: bool = False,
        patience: float | None = None,
        retry: Retry | None = None,
    ) -> None:
        """
        Args:
            name: of the venue in markets.yaml.
            settings: which exchange, at which address.
            key: that may trade.
            is_demo: whether OKX's demo account is asked.
            patience: seconds for one question; None: ten.
            retry: how long nothing is asked after too many questions; nothing is repeated.

        Raises:
            VenueError: ccxt does not know the exchange, or the key lacks a part.
        """
        parts = {"apiKey": key.key, "secret": key.secret, "password": key.passphrase}
        self._key = {part: value for part, value in parts.items() if value}
        self._connection = Connection(
            name, settings, retry=retry, secrets=tuple(self._key.values()), credit=_CREDIT.get(settings.exchange)
        )
        self.label = self._connection.label
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._is_demo = is_demo
        self._counts = settings.exchange in _COUNTS
        self._clock: tuple[datetime, float] | None = None
        needed = self._connection.exchange.requiredCredentials.items()
        lacking = {part for part, is_needed in needed if is_needed} - set(self._key)
        if lacking:
            what = {"password": "passphrase_env"}
            names = ", ".join(sorted(what.get(part, part) for part in lacking))
            raise VenueError(f"{name}: the trade key lacks {names}; {settings.exchange} wants it")

    def ask(self, question: Callable[[Any], T]) -> T:
        """Puts one question, or one request, to the exchange. It is put once.

        Args:
            question: gets ccxt's client, signed in.

        Raises:
            VenueError: there was no answer, or an error for an answer: one line without a secret.
        """
        try:
            with self._connection.within(self._patience):
                client = self._client()
                return self._connection.call(lambda: question(client))
        except NotAnswered as failure:
            raise VenueError(f"{self.label}: {failure}") from None

    def market(self, symbol: str) -> dict[str, Any]:
        """A market as ccxt has it; what the exchange itself says of it is under `info`.

        Raises:
            VenueError: it does not know it, it trades nothing there now, or did not answer.
        """

        try:
            with self._connection.within(self._patience):
                found: dict[str, Any] = self._client().market(self._connection.market(symbol))
        except NotAnswered as failure:
            raise VenueError(f"{self.label}: {failure}") from None
        if found.get("active") is False:
            raise VenueError(f"{self.label}: {symbol} is halted there: it takes no order; see its announcements")
        return found

    def now(self) -> datetime:
        """The exchange's time: late by the way of its answer, never early. Only within a question."""
        if self._clock is None or time.monotonic() - self._clock[1] > _CLOCK_LASTS:
            self._clock = self._connection.ask_time()
        then, at = self._clock
        return then + timedelta(seconds=time.monotonic() - at)

    def _client(self) -> Any:
        """ccxt's client of this thread. With a key, ccxt loads margin markets, too: the markets come first."""
        self._connection.markets()
        client = self._connection.exchange
        self.now()
        if client.apiKey != self._key["apiKey"]:
            if not self._counts:
                ccxt_internals.set_clock(client, self._milliseconds)
            if self._is_demo:
                ccxt_internals.add_headers(client, {"x-simulated-trading": "1"})
            for part, value in self._key.items():
                setattr(client, part, value)
        return client

    def _milliseconds(self) -> int:
        assert self._clock is not None
        then, at = self._clock
        return milliseconds(then.astimezone(UTC)) + int((time.monotonic() - at) * 1000)
