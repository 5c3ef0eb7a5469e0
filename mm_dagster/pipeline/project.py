"""The project: configuration, lake, venues and mirror, as one run sees them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from mm_dagster import environment, logs, modes
from mm_dagster.alerts.alert import EVERY_GRID
from mm_dagster.config.errors import ConfigError
from mm_dagster.config.last_valid import InForce, Trouble, answered, load_or_last_valid
from mm_dagster.config.sources import source_of
from mm_dagster.config.whole import Config
from mm_dagster.history.backup import refuse_unfinished
from mm_dagster.history.catalog import EXAMPLE
from mm_dagster.history.lake import Lake
from mm_dagster.history.memory import Memory, Recall, Stamp
from mm_dagster.history.sources import Sources
from mm_dagster.pipeline import clock
from mm_dagster.pipeline.adoption import adopt_rows
from mm_dagster.pipeline.venues import Venues

if TYPE_CHECKING:
    from mm_dagster.history.mirror import Mirror

logger = logging.getLogger("mm_dagster")


_adopted: set[tuple[int, tuple[tuple[str, str], ...]]] = set()
"""Which lakes of this process were looked at for rows without a source, and for which markets."""


@cache
def _open_lake(folder: Path, catalog: str | None) -> Lake:
    """One lake a process: the daemon looks at it every few seconds, and opening costs more than looking."""
    return Lake(folder, catalog)


@cache
def _say(sentence: str) -> None:
    """Once a process: the daemon reads the configuration every few seconds."""
    logger.error("%s", sentence)


class Project:
    """The configuration, the lake, the venues and the mirror. The configuration is read once: make one a run."""

    def __init__(self, config_dir: str, data_dir: str, *, says_troubles: bool = True) -> None:
        """
        Args:
            config_dir: folder of the configuration.
            data_dir: everything that the program writes is below it.
            says_troubles: whether what is wrong with the folder is logged; a command says it itself.
        """
        self._says_troubles = says_troubles
        self.config_dir = config_dir
        self.data_dir = data_dir
        self._in_force: InForce | None = None
        self._venues: Venues | None = None
        self._lake: Lake | None = None
        self._recall: Recall | None = None

    @classmethod
    def here(cls, *, says_troubles: bool = True) -> Project:
        """The project that the environment names: MM_CONFIG_DIR and MM_DATA_DIR; see `__init__`.

        Raises:
            VariableError: one of them cannot be a folder.
        """
        found = cls(
            config_dir=str(environment.config_folder()),
            data_dir=str(environment.data_folder()),
            says_troubles=says_troubles,
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
        return self._known.config

    @property
    def _known(self) -> InForce:
        if self._in_force is None:
            folder, kept = Path(self.config_dir), self.data / "config"
            self._in_force = load_or_last_valid(folder, kept)
            stopped = self._stopped(self._in_force)
            if stopped:
                answered(folder, kept, stopped)
                self._in_force = self._in_force.without(stopped)
            logs.protect(logs.named_secrets(self._in_force.config.model_dump()))
            for trouble in self._in_force.troubles if self._says_troubles else ():
                _say(trouble.sentence)
        return self._in_force

    def _stopped(self, found: InForce) -> list[str]:
        """The vanished grids of which the operator said last that they are stopped, since they were activated."""
        gone = {one.grid.id: one.grid.activated_at for one in found.gone_grids}
        if not gone:
            return []
        try:
            said = self.lake.read("operator_response").sort("at", "response_id")
        except Exception as error:
            # A history that cannot be read answers nothing; what is wrong with it is said where it is needed.
            logger.info("no response could be read: %s", error)
            return []
        last = {
            row["grid_id"]: row["action"]
            for row in said.iter_rows(named=True)
            if row["grid_id"] in gone and row["at"] >= gone[row["grid_id"]]
        }
        return sorted(name for name, action in last.items() if action == "stopped")

    @property
    def config_error(self) -> str | None:
        """Why the configuration in the folder is not the one in force; None: it is."""
        fault = self._known.fault
        return fault.line if fault else None

    @property
    def vanished(self) -> list[str]:
        """What vanished from the folder and stays in force, each in a sentence that says how to end it."""
        known = self._known
        return [one.sentence for one in known.gone_files] + [one.sentence for one in known.gone_grids]

    @property
    def gone_grids(self) -> set[str]:
        """Ids of the grids that vanished from the folder and are still watched."""
        return {one.grid.id for one in self._known.gone_grids}

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """All that is wrong with the configuration's folder and the environment while the work goes on."""
        named = logs.named_secrets(self.config.model_dump())
        return (*self._known.troubles, *(Trouble(part, line, None) for part, line in environment.faults(named)))

    @property
    def lake(self) -> Lake:
        """The history as the markets in force see it: rows of another source are not there. Made on first use.

        Raises:
            ConfigError: the variable with the address of its catalogue is not set; or the history is one from before
                rows carried their source, and that of a market is another.
        """
        if self._lake is None:
            whole, config = self.whole_lake, self.config
            sources = {market.symbol: market.source for market in config.watched}
            venues = {name: source_of(name, settings) for name, settings in config.markets.venues.items()}
            seen = (id(whole), tuple(sources.items()))
            if seen not in _adopted:
                adopt_rows(whole, config)
                _adopted.add(seen)
            quotes = {symbol.partition("-")[2]: config.kind for symbol in sources}
            self._lake = whole.of(Sources({**sources, EVERY_GRID: config.kind}, venues, quotes))
        return self._lake

    def remember(self, memory: Memory) -> Stamp:
        """From now on the history is read by what a memory has of its newest commit; for those who only read.

        Returns:
            What tells the history now from any other.

        Raises:
            ConfigError: see `lake`.
            LakeError: the history cannot be read.
        """
        lake = self.lake
        stamp = lake.stamp()
        self._recall = memory.of(stamp)
        self._lake = lake.recalling(self._recall)
        return stamp

    def keep(self) -> bool:
        """Whether all that was read since `remember` is of that commit; then it is remembered."""
        return self._recall is not None and self._recall.keep(lambda: self.whole_lake.stamp())

    @property
    def whole_lake(self) -> Lake:
        """The history with the rows of every source that there ever was.

        Raises:
            ConfigError: the variable with the address of its catalogue is not set.
        """
        refuse_unfinished(self.data)
        catalog = self.config.history.catalog
        if catalog is None:
            return _open_lake(self.data / "history", None)
        address = environment.secret(catalog.url_env)
        if not address:
            raise ConfigError(
                f"{Path(self.config_dir) / 'history.yaml'}: catalog.url_env: {catalog.url_env} is not set; "
                f"give it an address like {EXAMPLE}"
            )
        return _open_lake(self.data / "history", address)

    @property
    def mirror(self) -> Mirror:
        """The git repository of snapshots."""
        # Imported here because few commands need git.
        from mm_dagster.history.mirror import Mirror

        settings = self.config.history.mirror
        return Mirror(self.data / "mirror", settings.remote, settings.branch)

    @property
    def venues(self) -> Venues:
        """The connections to the venues of the configuration in force, opened when they are first needed."""
        if self._venues is None:
            self._venues = Venues(self.config, Path(self.config_dir), self.now)
        return self._venues

    @property
    def ahead(self) -> timedelta:
        """How far the time that counts here is ahead of the computer's: nothing where a market is not simulated.

        Raises:
            ConfigError: the data folder has a clock that cannot be read.
        """
        return clock.ahead(self.data) if self.config.is_simulated else timedelta(0)

    def now(self) -> datetime:
        """What time it is here: the computer's, or the demo's."""
        return datetime.now(UTC) + self.ahead

    @contextmanager
    def turn_lock(self) -> Iterator[None]:
        """Tick, backfill and command line take turns; a backfill lets the others in after each month."""
        self.data.mkdir(parents=True, exist_ok=True)
        with FileLock(self.data / "pipeline.lock"):
            yield
