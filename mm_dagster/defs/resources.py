"""What every step is given: where the project lives, and which turn of the pipeline this run is."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import dagster._loggers
import polars as pl
from filelock import FileLock
from pydantic import Field, PrivateAttr

from mm_dagster import logs
from mm_dagster.bars import parse_time
from mm_dagster.config import CcxtVenue, Config, ConfigError, RecordedVenue, load_or_last_valid
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


class Turn(dg.ConfigurableResource):
    """Which turn of the pipeline a run is. Empty: the partitions that it was started for."""

    as_of: str = Field(default="", description="The tick: closing time of the newest bar, ISO 8601 UTC.")
    symbols: list[str] = Field(default=[], description="Only these markets; none named: all of the configuration.")
    again: bool = Field(default=False, description="Ask the venues also for the bars of the days that are known.")

    @property
    def time(self) -> datetime | None:
        """The tick's as_of; None in a run over whole partitions."""
        return parse_time(self.as_of) if self.as_of else None


class Project(dg.ConfigurableResource):
    """The configuration, the lake, the venues and the mirror. The configuration is read anew at every run."""

    config_dir: str
    data_dir: str

    _config: Config | None = PrivateAttr(default=None)
    _venues: dict[str, Venue] = PrivateAttr(default_factory=dict)
    _accounts: dict[str, Any] = PrivateAttr(default_factory=dict)
    _config_error: str | None = PrivateAttr(default=None)

    _failures: dict[str, str] = PrivateAttr(default_factory=dict)
    _revisions: pl.DataFrame | None = PrivateAttr(default=None)

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
    def here(cls) -> "Project":
        """The project that the environment names: MM_CONFIG_DIR and MM_DATA_DIR."""
        return cls(
            config_dir=str(Path(os.environ.get("MM_CONFIG_DIR", "configs/demo")).resolve()),
            data_dir=str(Path(os.environ.get("MM_DATA_DIR", "data")).resolve()),
        )

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

    def account(self, venue: str) -> "ExchangeAccount | None":
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
        found: ExchangeAccount = self._accounts[venue]
        return found

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


@dg.logger(
    config_schema={
        "log_level": dg.Field(str, default_value="INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL."),
        "name": dg.Field(str, default_value="dagster"),
    },
    description="The lines of a run on stderr, in the format of MM_LOG_FORMAT.",
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """What a run logs through Dagster, written like everything else; see logs.py."""
    logger = logging.Logger(context.logger_config["name"])
    logger.addHandler(logs.handler_of_runs(logging.getLevelName(context.logger_config["log_level"].upper())))
    return logger


# Dagster takes its own coloured logger for every run whose configuration names none, and has no setting for another.
dagster._loggers.colored_console_logger = console


@dg.definitions
def resources() -> dg.Definitions:
    """The resources of every step, and the executor: in process, since starting processes costs more than the work."""
    return dg.Definitions(
        resources={"project": Project.here(), "turn": Turn()},
        executor=dg.in_process_executor,
        loggers={"console": console},
        metadata={"configuration": Project.here().config_dir, "data": Project.here().data_dir},
    )
