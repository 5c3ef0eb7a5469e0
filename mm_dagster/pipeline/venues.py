"""The venues as one run meets them: their connections, accounts and clocks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mm_dagster.config.markets import BOT_EXCHANGES, CcxtVenue
from mm_dagster.config.whole import Config
from mm_dagster.market.open import open_venue
from mm_dagster.market.venue import Venue, VenueError

if TYPE_CHECKING:
    from mm_dagster.config.markets import AccountKeys
    from mm_dagster.market.account import Credentials, ExchangeAccount
    from mm_dagster.market.connection import Retry
    from mm_dagster.market.grid_bots import GridBots

logger = logging.getLogger("mm_dagster")


class Venues:
    """Each venue and account is opened once, when it is first needed, so that its circuit breaker holds for a run."""

    def __init__(self, config: Config, folder: Path, now: Callable[[], datetime], *, hurried: bool = False) -> None:
        """
        Args:
            config: says which market trades on which venue.
            folder: the configuration's, below which recordings are looked for.
            now: what time it is where no venue says.
            hurried: whether a person waits to hear whether a venue is there at all.
        """
        self._hurried = hurried
        self._now = now
        self._config = config
        self._folder = folder
        self.opened: dict[str, Venue] = {}
        self._accounts: dict[str, ExchangeAccount] = {}
        self._bots: dict[str, GridBots] = {}

    def of(self, symbol: str) -> Venue:
        """The venue that a symbol trades on, opened once a run, so that its circuit breaker holds for the run.

        Raises:
            VenueError: it cannot be opened.
        """
        market = self._config.market(symbol)
        name = market.venue
        if name not in self.opened:
            symbols = [one.symbol for one in self._config.watched if one.venue == name]
            self.opened[name] = open_venue(
                name, market.settings, self._folder, symbols, self._now, hurried=self._hurried
            )
        return self.opened[name]

    def account(self, venue: str) -> ExchangeAccount | None:
        """The account on a venue, opened once a run; None: no keys are configured for it.

        Raises:
            VenueError: a variable with a part of the key is not set, or the exchange cannot be used with it.
        """
        settings = self._config.markets.venues[venue]
        if not isinstance(settings, CcxtVenue) or settings.account is None:
            return None
        if venue not in self._accounts:
            # Imported here because ccxt takes a second to load.
            from mm_dagster.market.account import ExchangeAccount

            self._accounts[venue] = ExchangeAccount(venue, settings, key_of(venue, settings.account))
        return self._accounts[venue]

    def bots(self, venue: str, *, retry: Retry | None = None) -> GridBots | None:
        """The grid bots of the account on a venue, opened once a run; None: there is no key, or it tells of none.

        Args:
            venue: name of it in markets.yaml.
            retry: how patiently a call is repeated.

        Raises:
            VenueError: a variable with a part of the key is not set, or lacks.
        """
        settings = self._config.markets.venues[venue]
        if not isinstance(settings, CcxtVenue) or settings.account is None or settings.exchange not in BOT_EXCHANGES:
            return None
        if venue not in self._bots:
            from mm_dagster.market.grid_bots import open_bots

            self._bots[venue] = open_bots(venue, settings, key_of(venue, settings.account), retry=retry)
        return self._bots[venue]

    def clock(self, symbol: str) -> datetime:
        """What time it is on a market: its venue's time, or ours where the venue does not say or is a recording."""
        if self._config.market(symbol).kind != "recorded":
            try:
                return self.of(symbol).now()
            except VenueError as error:
                logger.info("%s: the computer's clock is used: %s", symbol, error)
        return self._now()

    def real_clock(self) -> datetime:
        """What time it is on the first live market, so that all that is told runs on one clock; else ours."""
        live = [market for market in self._config.watched if market.is_real]
        return self.clock(live[0].symbol) if live else self._now()


def key_of(venue: str, keys: AccountKeys) -> Credentials:
    """The key of a venue, out of the environment.

    Raises:
        VenueError: a variable is not set, or empty.
    """
    from mm_dagster.market.account import credentials

    try:
        return credentials(keys, os.environ)
    except VenueError as error:
        raise VenueError(f"{venue}: {error}") from None
