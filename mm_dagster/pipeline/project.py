"""The project: configuration, lake, venues and mirror, as one run sees them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mm_dagster import environment, logs, modes
from mm_dagster.alerts.alert import EVERY_GRID
from mm_dagster.config.errors import ConfigError
from mm_dagster.config.history import HistoryConfig
from mm_dagster.config.last_valid import InForce, Trouble, answered, load_or_last_valid
from mm_dagster.config.sources import source_of
from mm_dagster.config.whole import Config
from mm_dagster.history.backup import refuse_unfinished
from mm_dagster.history.catalog import EXAMPLE
from mm_dagster.history.lake import Lake
from mm_dagster.history.locks import Lock, Locks
from mm_dagster.history.memory import Memory, Recall, Stamp
from mm_dagster.history.places import Bucket, Folder, Place
from mm_dagster.history.sources import Sources
from mm_dagster.pipeline import clock
from mm_dagster.pipeline.adoption import adopt_rows
from mm_dagster.pipeline.venues import Venues

if TYPE_CHECKING:
    from mm_dagster.history.mirror import Mirror

logger = logging.getLogger("mm_dagster")

TURN = "pipeline"
"""The lock of turns, see `Project.turn_lock`."""


_adopted: set[tuple[int, tuple[tuple[str, str], ...]]] = set()
"""Which lakes of this process were looked at for rows without a source, and for which markets."""


@cache
def _open_lake(folder: Path, catalog: str | None, place: Place) -> Lake:
    """One lake a process: the daemon looks at it every few seconds, and opening costs more than looking."""
    return Lake(folder, catalog, place)


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
            ConfigError: the variable with the address of its catalogue, or with a key of the object storage, is not
                set.
        """
        refuse_unfinished(self.data)
        folder = self.data / "history"
        return _open_lake(folder, self._catalog, self.place)

    @property
    def _catalog(self) -> str | None:
        """The address of the server that keeps the lake's catalogue; None: it is a file."""
        return catalog_of(self.config.history, self._said_in)

    @property
    def place(self) -> Place:
        """Where the files of the history are.

        Raises:
            ConfigError: the variable with a key of the object storage is not set.
        """
        return place_of(self.config.history, self._said_in, self.data / "history")

    @property
    def _said_in(self) -> Path:
        return Path(self.config_dir) / "history.yaml"

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

    @property
    def locks(self) -> Locks:
        """What those who share this lake share, on whichever host; see history/locks.py."""
        address = self._catalog
        return Locks(self.data) if address is None else Locks.at(address)

    def turn_lock(self, of: Sequence[str] | None = None) -> Lock:
        """Whose turn it is to read from the lake and write back; a backfill lets the others in after each month.

        Args:
            of: what only this turn reads and writes back, by name: others go on beside it, but for those that want the
                same or everything. None: everything, as a backup does.
        """
        if of is None:
            return self.locks.of(TURN)
        return self.locks.of(*(f"turns/{name}" for name in of), shared=[TURN])


def catalog_of(settings: HistoryConfig, said_in: Path) -> str | None:
    """The address of the lake's catalogue on a server; None: it is a file.

    Args:
        settings: what says so.
        said_in: the file in which it stands.

    Raises:
        ConfigError: the variable is not set.
    """
    if settings.catalog is None:
        return None
    return _variable(said_in, "catalog.url_env", settings.catalog.url_env, f"give it an address like {EXAMPLE}")


def place_of(settings: HistoryConfig, said_in: Path, folder: Path) -> Place:
    """Where the files of the lake in a folder are.

    Args:
        settings: what says so.
        said_in: the file in which it stands.
        folder: the lake's.

    Raises:
        ConfigError: a variable is not set.
    """
    data = settings.data
    if data.path is None or data.key_env is None or data.secret_env is None:
        return Folder(folder.resolve())
    key = _variable(said_in, "data.key_env", data.key_env, "give it the key of the object storage")
    secret = _variable(said_in, "data.secret_env", data.secret_env, "give it the secret of that key")
    token = None
    if data.token_env is not None:
        token = _variable(
            said_in, "data.token_env", data.token_env, "give it the session token, or leave token_env out"
        )
    return Bucket(
        data.path, key, secret, token, endpoint=data.endpoint, region=data.region, retries=data.retries, wait=data.wait,
        timeout=data.timeout,
    )  # fmt: skip


def _variable(said_in: Path, key: str, name: str, remedy: str) -> str:
    value = environment.secret(name)
    if not value:
        raise ConfigError(f"{said_in}: {key}: {name} is not set; {remedy}")
    return value
