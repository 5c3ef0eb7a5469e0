"""The project: configuration, lake, venues and mirror, as one run sees them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from filelock import FileLock

from mm_dagster import logs, modes
from mm_dagster.config import CcxtVenue, Config, ConfigError, RecordedVenue, load_or_last_valid
from mm_dagster.history.backup import refuse_unfinished
from mm_dagster.history.catalog import EXAMPLE
from mm_dagster.history.lake import Lake
from mm_dagster.history.mirror import Mirror
from mm_dagster.market.venue import Venue, VenueError, open_venue

if TYPE_CHECKING:
    from mm_dagster.market.account import ExchangeAccount

logger = logging.getLogger("mm_dagster")


@cache
def _open_lake(folder: Path, catalog: str | None) -> Lake:
    """One lake a process: the daemon looks at it every few seconds, and opening costs more than looking."""
    return Lake(folder, catalog)


class Project:
    """The configuration, the lake, the venues and the mirror. The configuration is read once: make one a run."""

    def __init__(self, config_dir: str, data_dir: str) -> None:
        """
        Args:
            config_dir: folder of the configuration.
            data_dir: everything that the program writes is below it.
        """
        self.config_dir = config_dir
        self.data_dir = data_dir
        self._config: Config | None = None
        self._config_error: str | None = None
        self._venues: dict[str, Venue] = {}
        self._accounts: dict[str, ExchangeAccount] = {}
        self._failures: dict[str, str] = {}
        self._revisions: pl.DataFrame | None = None

    @property
    def failures(self) -> dict[str, str]:
        """What failed in this run, by symbol or grid, in one line each."""
        return self._failures

    @property
    def revisions(self) -> pl.DataFrame | None:
        """The changed bars whose new candles this run uses, as in tables.CandleRevision; None: it did not look."""
        return self._revisions

    def use_revisions(self, rows: pl.DataFrame) -> None:
        """Notes the changed bars whose new candles this run uses from now on."""
        self._revisions = rows

    @classmethod
    def here(cls) -> Project:
        """The project that the environment names: MM_CONFIG_DIR and MM_DATA_DIR."""
        found = cls(
            config_dir=str(Path(os.environ.get("MM_CONFIG_DIR", "configs/demo")).resolve()),
            data_dir=str(Path(os.environ.get("MM_DATA_DIR", "data")).resolve()),
        )
        modes.tighten(found.data)
        return found

    @property
    def data(self) -> Path:
        """Everything that the program writes is below it."""
        return Path(self.data_dir)

    @property
    def config(self) -> Config:
        """The configuration as it is now, or the last valid one if it cannot be read.

        Raises:
            ConfigError: it is invalid, and none was valid before.
        """
        if self._config is None:
            self._config, self._config_error = load_or_last_valid(Path(self.config_dir), self.data / "config")
            logs.protect(logs.named_secrets(self._config.model_dump()))
            if self._config_error:
                logger.error("the last valid configuration stays in force: %s", self._config_error)
        return self._config

    @property
    def config_error(self) -> str | None:
        """Why the configuration in the folder is not the one in force; None: it is."""
        _ = self.config
        return self._config_error

    @property
    def lake(self) -> Lake:
        """The history, made on first use.

        Raises:
            ConfigError: the variable with the address of its catalogue is not set.
        """
        refuse_unfinished(self.data)
        catalog = self.config.history.catalog
        if catalog is None:
            return _open_lake(self.data / "history", None)
        if not os.environ.get(catalog.url_env):
            raise ConfigError(
                f"{Path(self.config_dir) / 'history.yaml'}: catalog.url_env: {catalog.url_env} is not set; "
                f"give it an address like {EXAMPLE}"
            )
        return _open_lake(self.data / "history", os.environ[catalog.url_env])

    @property
    def mirror(self) -> Mirror:
        """The git repository of snapshots."""
        settings = self.config.history.mirror
        return Mirror(self.data / "mirror", settings.remote, settings.branch)

    def venue(self, symbol: str) -> Venue:
        """The venue that a symbol trades on, opened once a run, so that its circuit breaker holds for the run.

        Raises:
            VenueError: it cannot be opened.
        """
        name, settings = self.config.venue_of(symbol)
        if name not in self._venues:
            self._venues[name] = open_venue(name, settings, Path(self.config_dir))
        return self._venues[name]

    def account(self, venue: str) -> ExchangeAccount | None:
        """The account on a venue, opened once a run; None: no keys are configured for it.

        Raises:
            VenueError: a variable with a part of the key is not set, or the exchange cannot be used with it.
        """
        settings = self.config.markets.venues[venue]
        if not isinstance(settings, CcxtVenue) or settings.account is None:
            return None
        if venue not in self._accounts:
            # Imported here because ccxt takes a second to load.
            from mm_dagster.market.account import ExchangeAccount, credentials

            try:
                key = credentials(settings.account, os.environ)
            except VenueError as error:
                raise VenueError(f"{venue}: {error}") from None
            self._accounts[venue] = ExchangeAccount(venue, settings, key)
        return self._accounts[venue]

    def clock(self, symbol: str) -> datetime:
        """What time it is on a market: its venue's time, or ours where the venue does not say or is a recording."""
        if not isinstance(self.config.venue_of(symbol)[1], RecordedVenue):
            try:
                return self.venue(symbol).now()
            except VenueError as error:
                logger.info("%s: the computer's clock is used: %s", symbol, error)
        return datetime.now(UTC)

    def real_clock(self) -> datetime:
        """What time it is on the first live market, so that all that is told runs on one clock; else ours."""
        live = [symbol for symbol in self.config.symbols if isinstance(self.config.venue_of(symbol)[1], CcxtVenue)]
        return self.clock(live[0]) if live else datetime.now(UTC)

    def simulated(self, symbol: str) -> bool:
        """Whether a market is synthetic; what is said of it must say so."""
        return self.config.venue_of(symbol)[1].kind == "simulated"

    @property
    def wholly_simulated(self) -> bool:
        """Whether there is no other market than synthetic ones."""
        return all(self.simulated(symbol) for symbol in self.config.symbols)

    @contextmanager
    def turn_lock(self) -> Iterator[None]:
        """Tick, backfill and command line take turns; a backfill lets the others in after each month."""
        self.data.mkdir(parents=True, exist_ok=True)
        with FileLock(self.data / "pipeline.lock"):
            yield
