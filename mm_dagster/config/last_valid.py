"""The configuration in force: the folder's, or the last valid one, and what vanished from the folder without a word.

An empty or vanished file is no wish. A grid that was enabled and whose file is gone stays watched as it was last
written, with its market and venue if these are gone, too, until a file with its `id` is back, or the operator answers
that it is stopped. A vanished `exit.yaml` (or another of the optional files) keeps what it said until it is back. All
of it is kept below the data: for each configuration folder one file, which a crash cannot tear.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from mm_dagster.config.errors import ConfigError, one_line
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.load import FILES, Reading, read
from mm_dagster.config.markets import MarketConfig, MarketsConfig, VenueConfig
from mm_dagster.config.model import Model, UtcTime
from mm_dagster.config.whole import Config

PATIENCE_SECONDS = 5.0
"""How long another process that notes the same may take."""


class GoneGrid(Model):
    """A grid that was enabled and whose file vanished."""

    grid: GridConfig
    market: MarketConfig
    venue: VenueConfig
    since: UtcTime

    @property
    def sentence(self) -> str:
        """What is the matter, and the three ways to end it."""
        return (
            f"no file in grids/ has the id {self.grid.id} any more; it stays watched as it was. "
            f"Put the file back, write enabled: false into it, or answer: mm respond {self.grid.id} stopped"
        )


class GoneFile(Model):
    """An optional file that vanished."""

    name: str
    since: UtcTime

    @property
    def sentence(self) -> str:
        """What is the matter, and how to end it."""
        return (
            f"{self.name}.yaml is gone; what it said stays in force. "
            "Put it back, or write {} into it to have the defaults"
        )


class Fault(Model):
    """Why the folder is not in force, and since when."""

    line: str
    since: UtcTime


class Kept(Model):
    """What is remembered of one configuration folder.

    Its own configuration is the last valid one of the folder, with what vanished files said.
    """

    own: Config
    files: tuple[str, ...] = ()
    gone_files: tuple[GoneFile, ...] = ()
    gone_grids: tuple[GoneGrid, ...] = ()
    fault: Fault | None = None

    @property
    def config(self) -> Config:
        """What is in force: the folder's own, and the grids that vanished from it with all that they need."""
        if not self.gone_grids:
            return self.own
        markets, venues = list(self.own.markets.markets), dict(self.own.markets.venues)
        for gone in self.gone_grids:
            if gone.grid.symbol not in {market.symbol for market in markets}:
                name = _free_name(gone, venues)
                venues[name] = gone.venue
                markets.append(MarketConfig(symbol=gone.grid.symbol, venue=name))
        grids = sorted((*self.own.grids, *(gone.grid for gone in self.gone_grids)), key=lambda grid: grid.id)
        whole = MarketsConfig(venues=venues, markets=markets, candles=self.own.markets.candles)
        return self.own.model_copy(update={"markets": whole, "grids": tuple(grids)})


def _free_name(gone: GoneGrid, venues: dict[str, Any]) -> str:
    """The name that its venue had, or one like it where that is another venue by now."""
    names = [gone.market.venue, *(f"{gone.market.venue[:58]}-was{number or ''}" for number in range(len(venues) + 1))]
    return next(name for name in names if venues.get(name, gone.venue) == gone.venue)


def follow(reading: Reading, last: Kept | None, stopped: Collection[str], now: datetime) -> Kept:
    """What is to be remembered after a valid reading of the folder.

    Args:
        reading: what the folder says.
        last: what was remembered before; None: nothing.
        stopped: ids of grids of which the operator said that they are stopped.
        now: the time, UTC.
    """
    if last is None:
        return Kept(own=reading.config, files=tuple(sorted(reading.files)))
    missing = [name for name in FILES if name in last.files and name not in reading.files]
    since = {gone.name: gone.since for gone in last.gone_files}
    own = reading.config.model_copy(update={name: getattr(last.own, name) for name in missing})
    return Kept(
        own=own,
        files=tuple(sorted({*reading.files, *missing})),
        gone_files=tuple(GoneFile(name=name, since=since.get(name, now)) for name in missing),
        gone_grids=tuple(_gone_grids(own, last, stopped, now)),
    )


def _gone_grids(own: Config, last: Kept, stopped: Collection[str], now: datetime) -> Iterator[GoneGrid]:
    """The grids that were watched and are not in the folder, by id."""
    present = {grid.id for grid in own.grids}
    before = {gone.grid.id: gone for gone in last.gone_grids}
    for grid in last.own.grids:
        if grid.enabled:
            before[grid.id] = _placed(grid, now, last.own)
    for name, gone in sorted(before.items()):
        if name not in present and name not in stopped:
            yield _placed(gone.grid, gone.since, own) if gone.grid.symbol in own.symbols else gone


def _placed(grid: GridConfig, since: datetime, config: Config) -> GoneGrid:
    """A grid that vanished, with market and venue as a configuration has them."""
    market = config.market(grid.symbol)
    placed = MarketConfig(symbol=market.symbol, venue=market.venue)
    return GoneGrid(grid=grid, market=placed, venue=market.settings, since=since)


# in force -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong with the configuration's folder, while the work goes on.

    Attributes:
        part: what it concerns; no colon in it.
        sentence: what is the matter and how to end it, in one line.
        since: when it was first seen; None: that cannot be noted.
    """

    part: str
    sentence: str
    since: datetime | None


@dataclass(frozen=True)
class InForce:
    """The configuration in force, and all that is wrong with the folder.

    Attributes:
        config: what every step works with.
        fault: why it is not the folder's own, and since when; None: it is.
        gone_grids: grids that vanished from the folder and are still watched.
        gone_files: optional files that vanished and still count.
        not_kept: why the copy of the last valid configuration could not be read or written; None: it could.
    """

    config: Config
    fault: Fault | None = None
    gone_grids: tuple[GoneGrid, ...] = ()
    gone_files: tuple[GoneFile, ...] = ()
    not_kept: str | None = None

    def without(self, stopped: Collection[str]) -> InForce:
        """Without vanished grids of which the operator said that they are stopped."""
        left = tuple(gone for gone in self.gone_grids if gone.grid.id not in stopped)
        gone = {one.grid.id for one in self.gone_grids} & set(stopped)
        grids = tuple(grid for grid in self.config.grids if grid.id not in gone)
        return replace(self, config=self.config.model_copy(update={"grids": grids}), gone_grids=left)

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """All that the operator must know of."""
        found = [Trouble(f"{gone.name}.yaml", gone.sentence, gone.since) for gone in self.gone_files]
        found += [Trouble(f"grid {gone.grid.id}", gone.sentence, gone.since) for gone in self.gone_grids]
        if self.fault:
            says = f"the last valid configuration stays in force: {self.fault.line}"
            found.insert(0, Trouble("configuration", says, self.fault.since))
        if self.not_kept:
            found.append(Trouble("data/config", self.not_kept, None))
        return tuple(found)


def load_or_last_valid(folder: Path, kept: Path, *, now: Callable[[], datetime] | None = None) -> InForce:
    """The configuration of a folder, or, where it is invalid, the last one that was valid.

    Args:
        folder: the configuration folder.
        kept: folder in which the last valid configuration is kept.
        now: tells the time, UTC.

    Raises:
        ConfigError: it is invalid, and none was valid before.
    """
    time = (now or _now)().replace(microsecond=0)
    copy = _copy_of(folder, kept)
    with _turn(copy):
        last, not_read = _recall(copy)
        try:
            reading, fault = read(folder), None
        except ConfigError as error:
            reading, fault = None, str(error)
        if reading is not None:
            state = follow(reading, last, (), time)
        elif last is None:
            raise ConfigError(f"{fault}{f' ({not_read})' if not_read else ''}") from None
        else:
            since = last.fault.since if last.fault else time
            state = last.model_copy(update={"fault": Fault(line=str(fault), since=since)})
        found = InForce(state.config, state.fault, state.gone_grids, state.gone_files, not_read)
        # What could not be read may be good: only what was read and is wrong is written over.
        if state != last and not (not_read and not_read.startswith(_UNREADABLE)):
            not_written = _note(copy, state)
            found = replace(found, not_kept=not_read or not_written)
        return found


def answered(folder: Path, kept: Path, stopped: Collection[str]) -> None:
    """Forgets vanished grids of which the operator said that they are stopped."""
    copy = _copy_of(folder, kept)
    with _turn(copy):
        last, _ = _recall(copy)
        if last is not None and any(gone.grid.id in stopped for gone in last.gone_grids):
            left = tuple(gone for gone in last.gone_grids if gone.grid.id not in stopped)
            _note(copy, last.model_copy(update={"gone_grids": left}))


def _now() -> datetime:
    return datetime.now(UTC)


def _copy_of(folder: Path, kept: Path) -> Path:
    return kept / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}.json"


@contextmanager
def _turn(copy: Path) -> Iterator[None]:
    """One process at a time; where there is no lock to be had the work goes on without."""
    lock = FileLock(copy.with_suffix(".lock"), timeout=PATIENCE_SECONDS)
    with suppress(OSError, Timeout, NotImplementedError):
        copy.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            lock.release()


_UNREADABLE = "the copy of the last valid configuration cannot be read"
_TORN = "the copy of the last valid configuration was damaged, so that nothing is known of grids that vanished before"
_OLDER = 5
"""How often keys of another version of the program are taken out of a copy."""


def _recall(copy: Path) -> tuple[Kept | None, str | None]:
    """What is remembered, and why nothing is where there should be something."""
    try:
        content = copy.read_bytes()
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, one_line(f"{_UNREADABLE}: {copy}: {error.strerror}; let the user who runs this read and write it")
    try:
        head, _, body = content.partition(b"\n")
        if not head.startswith(b"{"):
            if hashlib.sha256(body).hexdigest().encode() != head:
                return None, f"{_TORN}: {copy}"
            return _of_any_version(Kept, json.loads(body)), None
        # Before grids could vanish only the configuration was kept.
        own = _of_any_version(Config, json.loads(content))
        return Kept(own=own), None
    except (ValueError, RecursionError):
        return None, f"{_TORN}: {copy}"


def _of_any_version(model: type[Any], values: Any) -> Any:
    """A model of what an older or newer program wrote: keys that are unknown here are left out.

    Raises:
        ValueError: it cannot be had.
    """
    for _ in range(_OLDER):
        try:
            return model.model_validate_json(json.dumps(values))
        except ValidationError as error:
            unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
            if not unknown:
                raise
            for place in unknown:
                _leave_out(values, place)
    return model.model_validate_json(json.dumps(values))


def _leave_out(values: Any, place: tuple[Any, ...]) -> None:
    # The place of a choice among models names the choice, too, which is no key of ours.
    for part in place[:-1]:
        if (isinstance(values, list) and isinstance(part, int)) or (isinstance(values, dict) and part in values):
            values = values[part]
    if isinstance(values, dict):
        values.pop(place[-1], None)


def _note(copy: Path, state: Kept) -> str | None:
    """Keeps it whole or not at all, over a crash, too; why it could not be kept."""
    body = state.model_dump_json().encode()
    fresh = copy.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(fresh, "wb", opener=_private) as file:
            file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(copy)
        with suppress(OSError):
            handle = os.open(copy.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        return one_line(
            f"the last valid configuration could not be kept: {copy.parent}: {error.strerror}; an invalid edit or a "
            "vanished grid would not be bridged until it can be written"
        )
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
