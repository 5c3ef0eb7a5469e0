"""What `mm grid` does: grids are added, changed, stopped, started and taken away in the files of the configuration.

Whoever asks and prints is the command line. Here nothing is asked: a change that cannot be is refused in one sentence,
and the folder stays as it was. Where the values of a grid come from, a page that was pasted, answers or, one day, an
exchange's own list, makes no difference.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from mm_dagster.alerts.responses import is_over
from mm_dagster.bars import iso
from mm_dagster.config.errors import ConfigError
from mm_dagster.config.grid import Fees, GridConfig
from mm_dagster.config.grid_file import grid_text, in_its_line_ends, values_of, with_market
from mm_dagster.config.put import checked, contents_of, moved_away, put
from mm_dagster.config.whole import Config
from mm_dagster.config.yaml_files import parse
from mm_dagster.errors import ForeseenError
from mm_dagster.pipeline.answers import answer
from mm_dagster.pipeline.judge import answers_in
from mm_dagster.pipeline.project import Project
from mm_dagster.research.difference import changed
from mm_dagster.text import did_you_mean

if TYPE_CHECKING:
    from mm_dagster.pipeline.grid_venue import Chosen

logger = logging.getLogger("mm_dagster")

PATIENCE_SECONDS = 20.0
"""How long another change of the same grids may take."""
REMOVED = "removed-grids"
"""Folder of the data in which files of grids that were taken away are kept."""


class GridError(ForeseenError):
    """What was asked of a grid cannot be done. One line, with the remedy."""


@dataclass(frozen=True)
class Written:
    """A grid that was written, or would be.

    Attributes:
        grid: as it is read back.
        path: its file.
        config: the whole configuration with it.
        added_market: whether its market is new in markets.yaml.
        added_venue: what of its venue is, as the path of the key; None: nothing.
    """

    grid: GridConfig
    path: Path
    config: Config
    added_market: bool = False
    added_venue: str | None = None


@contextmanager
def turn(project: Project) -> Iterator[None]:
    """One change at a time: two that were made from the same files would undo each other.

    Raises:
        GridError: another one takes too long.
    """
    project.data.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(project.data / "grids.lock", timeout=PATIENCE_SECONDS):
            yield
    except Timeout:
        raise GridError("another `mm grid` changes the grids at this moment; wait for it, and try again") from None


def grid_of(values: Mapping[str, Any]) -> GridConfig:
    """A grid of checked values.

    Args:
        values: keys of a grid's file; `fee` is that of maker and taker, as a fraction.

    Raises:
        GridError: they make no grid; in the words that its file would be refused with.
    """
    given = {name: value for name, value in values.items() if name != "fee"}
    try:
        fees = given.pop("fees", None) or (
            Fees(maker=values["fee"], taker=values["fee"]) if "fee" in values else Fees()
        )
        return GridConfig(**given, fees=fees)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise GridError(f"{key}: {first['input']!r:.60} is wrong: {message}" if key else message) from None


# files ----------------------------------------------------------------------------------------------------------------


def paths(contents: Mapping[Path, bytes], folder: Path) -> dict[str, Path]:
    """The file of each grid, by id."""
    found = {}
    for path, content in contents.items():
        if path.parent != folder:
            values = parse(path, content) or {}
            found[str(values.get("id"))] = path
    return found


def path_of(project: Project, grid_id: str) -> Path:
    """The file of a grid.

    Raises:
        GridError: there is none.
    """
    folder = Path(project.config_dir)
    known = paths(contents_of(folder), folder)
    if grid_id not in known:
        raise GridError(f"{grid_id!r} is no grid with a file in {folder / 'grids'}{did_you_mean(grid_id, known)}")
    return known[grid_id]


def free_id(project: Project, symbol: str) -> str:
    """A name for a new grid that none has and none had: eth-1, eth-2, ..."""
    folder = Path(project.config_dir)
    taken = {*paths(contents_of(folder), folder), *(grid.id for grid in project.config.grids)}
    taken |= {path.stem for path in contents_of(folder)}
    try:
        taken |= set(project.lake.read("grid_episode")["grid_id"])
    except ForeseenError as error:
        logger.info("the history was not asked for the names of former grids: %s", error)
    base = symbol.partition("-")[0].lower()
    stem = base if re.fullmatch(r"[a-z0-9]{1,50}", base) else "grid"
    return next(name for number in range(1, len(taken) + 2) if (name := f"{stem}-{number}") not in taken)


def venue_for(config: Config, symbol: str, venue: str | None) -> str | None:
    """The venue of a new market; None: there are several, and none is named.

    Raises:
        GridError: the one that is named is none of the configuration, or not that of the market.
    """
    venues = config.markets.venues
    if venue is not None and venue not in venues:
        raise GridError(f"--venue: {venue!r} is no venue of markets.yaml{did_you_mean(venue, venues)}")
    if symbol in config.symbols:
        own = config.market(symbol).venue
        if venue not in (None, own):
            raise GridError(f"--venue: {symbol} is watched on {own!r} already; leave --venue out")
        return own
    return venue or (next(iter(venues)) if len(venues) == 1 else None)


def _changes(
    folder: Path,
    contents: Mapping[Path, bytes],
    grid: GridConfig,
    venue: str,
    path: Path,
    before: GridConfig | None = None,
    place: Chosen | None = None,
) -> dict[Path, bytes]:
    """What is to be written so that a grid stands in a file, its market first: without it the grid would be invalid.

    Args:
        folder: the configuration folder.
        contents: of its files.
        grid: as it is to be.
        venue: that of its market, where that is new.
        path: its file.
        before: as its file has it; None: there is none yet.
        place: the venue, where something of it is new.
    """
    markets = folder / "markets.yaml"
    symbols = [market["symbol"] for market in (parse(markets, contents[markets]) or {}).get("markets", [])]
    changes: dict[Path, bytes] = {}
    if place and place.keys:
        changes[markets] = in_its_line_ends(contents[markets], place.written_into)
    if grid.symbol not in symbols:
        before_it = changes.get(markets, contents[markets])
        changes[markets] = in_its_line_ends(before_it, lambda text: with_market(text, grid.symbol, venue))
        _refuse_other(markets, changes[markets], [*symbols, grid.symbol], grid.symbol, venue)
    if before is None:
        changes[path] = grid_text(grid).encode("utf-8")
    else:
        was, now = values_of(before), values_of(grid)
        wanted = {key: value for key, value in now.items() if was.get(key) != value}
        changes[path] = in_its_line_ends(contents[path], lambda text: changed(text, wanted))
    return changes


def _refuse_other(markets: Path, content: bytes, symbols: list[str], symbol: str, venue: str) -> None:
    """Refuses a markets.yaml that does not say what was meant, however it is written."""
    read_back = [market["symbol"] for market in (parse(markets, content) or {}).get("markets", [])]
    if read_back != symbols:
        raise ConfigError(
            f"{markets}: a market cannot be added to it as it is written; write "
            f"`- {{symbol: {symbol}, venue: {venue}}}` below markets, and try again"
        )


def _written(project: Project, config: Config, grid: GridConfig, path: Path, place: Chosen | None = None) -> Written:
    """The grid as it is read back.

    Raises:
        ConfigError: the files would not say what was meant.
    """
    back = next((one for one in config.grids if one.id == grid.id), None)
    if back != grid:
        raise ConfigError(f"{path}: cannot be changed as it is written; change it by hand")
    key, value = next(iter(place.keys.items()), (None, "")) if place else (None, "")
    if place and key and config.markets.venues.get(place.name) != place.settings:
        raise ConfigError(
            f"{Path(project.config_dir) / 'markets.yaml'}: cannot be changed as it is written; write {key}: {value} "
            "into it by hand"
        )
    return Written(back, path, config, grid.symbol not in project.config.symbols, key)


# add and edit ---------------------------------------------------------------------------------------------------------


def refuse_future(project: Project, activated_at: datetime) -> None:
    """Refuses an activation that lies ahead.

    Raises:
        GridError: it does.
    """
    now = project.now()
    if activated_at > now:
        raise GridError(
            f"activated_at: {iso(activated_at)} lies ahead, now it is {iso(now.replace(microsecond=0))}; write when "
            "the bot began, and in which zone, like 2026-01-10T01:00+01:00"
        )


def preview(project: Project, grid: GridConfig, venue: str, place: Chosen | None = None) -> Written:
    """A new grid as it would be read back; nothing is written.

    Raises:
        ConfigError: the whole configuration would be invalid with it.
        GridError: its file is there already, or its activation lies ahead.
    """
    folder = Path(project.config_dir)
    contents = contents_of(folder)
    path, changes = _new(project, folder, contents, grid, venue, place)
    return _written(project, checked(folder, contents, changes), grid, path, place)


def add(project: Project, grid: GridConfig, venue: str, place: Chosen | None = None) -> Written:
    """Writes a new grid, with its market and its venue where these are new; see `preview` for what it raises."""
    folder = Path(project.config_dir)
    with turn(project):
        contents = contents_of(folder)
        path, changes = _new(project, folder, contents, grid, venue, place)
        _written(project, checked(folder, contents, changes), grid, path, place)
        return _written(project, put(folder, contents, changes), grid, path, place)


def _new(
    project: Project,
    folder: Path,
    contents: Mapping[Path, bytes],
    grid: GridConfig,
    venue: str,
    place: Chosen | None,
) -> tuple[Path, dict[Path, bytes]]:
    refuse_future(project, grid.activated_at)
    path = folder / "grids" / f"{grid.id}.yaml"
    known = paths(contents, folder)
    if grid.id in known:
        raise GridError(
            f"{grid.id}: {known[grid.id].name} has this id already; choose another --id, or `mm grid edit {grid.id}`"
        )
    if path in contents or path.exists():
        raise GridError(f"{path}: is there already, with another id in it; choose another --id")
    return path, _changes(folder, contents, grid, venue, path, place=place)


def edited(
    project: Project, grid_id: str, values: Mapping[str, Any], activated_at: datetime | None
) -> tuple[GridConfig, GridConfig]:
    """A grid as its file has it, and as it is to be: a changed one is a new episode and has a new activation.

    Args:
        project: where it is.
        grid_id: the grid.
        values: what changes; see `grid_of`.
        activated_at: when the changed grid began, UTC; None: now.

    Raises:
        GridError: there is no such grid, nothing changes, or the new activation is not after the last.
    """
    before = _as_written(project, grid_id)
    given = {name: getattr(before, name) for name in GridConfig.model_fields}
    fee = values.get("fee")
    fees = before.fees.model_copy(update={"maker": fee, "taker": fee}) if fee is not None else before.fees
    wanted = given | {name: value for name, value in values.items() if name != "fee"} | {"fees": fees}
    after = grid_of(wanted)
    if after == before and activated_at in (None, before.activated_at):
        raise GridError(f"{grid_id}: nothing of it changes; name what is to, like --stop 2990")
    begins = activated_at or project.now().replace(microsecond=0)
    _refuse_earlier(before, begins)
    refuse_future(project, begins)
    return before, grid_of(wanted | {"activated_at": begins})


def _refuse_earlier(before: GridConfig, begins: datetime) -> None:
    if begins <= before.activated_at:
        raise GridError(
            f"{before.id}: its last activation is of {iso(before.activated_at)}, and {iso(begins)} is not after it; a "
            "new episode needs a later --activated"
        )


def _as_written(project: Project, grid_id: str) -> GridConfig:
    """A grid of the folder itself, which may be newer than what this project has read.

    Raises:
        ConfigError: the folder is invalid.
        GridError: there is no such grid.
    """
    path_of(project, grid_id)
    folder = Path(project.config_dir)
    config = checked(folder, contents_of(folder), {})
    return next(grid for grid in config.grids if grid.id == grid_id)


def save(
    project: Project, before: GridConfig, after: GridConfig, venue: str | None = None, place: Chosen | None = None
) -> Written:
    """Writes a changed grid into its file, comments kept.

    Raises:
        ConfigError: the whole configuration would be invalid.
        GridError: the file is not as it was when the change was made.
    """
    folder = Path(project.config_dir)
    with turn(project):
        contents = contents_of(folder)
        if _as_written(project, before.id) != before:
            raise GridError(f"{before.id}: its file was changed meanwhile; look at it, and try again")
        path = paths(contents, folder)[before.id]
        changes = _changes(folder, contents, after, venue or "", path, before, place)
        _written(project, checked(folder, contents, changes), after, path, place)
        return _written(project, put(folder, contents, changes), after, path, place)


def saved_as(
    project: Project, before: GridConfig, after: GridConfig, venue: str | None = None, place: Chosen | None = None
) -> Written:
    """A changed grid as it would be read back; nothing is written. Raises what `save` raises."""
    folder = Path(project.config_dir)
    contents = contents_of(folder)
    path = paths(contents, folder)[before.id]
    changes = _changes(folder, contents, after, venue or "", path, before, place)
    return _written(project, checked(folder, contents, changes), after, path, place)


# stop, start and remove -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stopped:
    """What `stop` did.

    Attributes:
        grid: as its file has it now.
        path: its file.
        answered: whether the answer is new; it may have been given before.
        switched: whether the file is newly switched off.
    """

    grid: GridConfig
    path: Path
    answered: bool
    switched: bool


def stop(project: Project, grid_id: str, note: str | None, at: datetime | None = None) -> Stopped:
    """Notes that a grid was stopped, and switches it off; done twice it is done once.

    The answer comes first: after a crash between the two the grid is answered, and what remains is said by the next
    try. The other way round it would be silent without a word of the operator.

    Args:
        project: where it is.
        grid_id: the grid.
        note: in the operator's words.
        at: when it was stopped, UTC; None: now.

    Raises:
        ConfigError: its file cannot be written.
        GridError: there is no such grid, or it cannot be answered.
    """
    before = _as_written(project, grid_id)
    path = path_of(project, grid_id)
    if not before.enabled:
        return Stopped(before, path, answered=False, switched=False)
    done = at or project.now().replace(microsecond=0)
    is_said = is_over(answers_in(project), grid_id, before.activated_at)
    if not is_said:
        try:
            answer(project, grid_id, "stopped", done, note)
        except ValueError as error:
            raise GridError(str(error)) from None
    after = save(project, before, before.model_copy(update={"enabled": False}))
    return Stopped(after.grid, path, answered=not is_said, switched=True)


def start(project: Project, grid_id: str, activated_at: datetime | None) -> tuple[GridConfig, GridConfig]:
    """A grid that does not run as its file has it, and as it is to be: running, in a new episode.

    Raises:
        GridError: there is no such grid, it runs, or the activation is not after the last, or lies ahead.
    """
    before = _as_written(project, grid_id)
    if before.enabled:
        raise GridError(f"{grid_id}: it runs already, since {iso(before.activated_at)}; `mm grid edit` changes it")
    begins = activated_at or project.now().replace(microsecond=0)
    _refuse_earlier(before, begins)
    refuse_future(project, begins)
    return before, before.model_copy(update={"enabled": True, "activated_at": begins})


def remove(project: Project, grid_id: str) -> Path:
    """Takes the file of a grid that does not run out of the configuration; returns where it is kept.

    Raises:
        ConfigError: the file cannot be moved.
        GridError: there is no such grid, or it runs.
    """
    with turn(project):
        before = _as_written(project, grid_id)
        if before.enabled:
            raise GridError(f"{grid_id}: it runs; `mm grid stop {grid_id}` first, or --yes does both")
        # The copy of the last valid configuration must know that it does not run: a running one would stay watched.
        _ = Project(project.config_dir, project.data_dir, says_troubles=False).config
        stamp = f"{project.now():%Y-%m-%dT%H%M%SZ}"
        kept = project.data / REMOVED / f"{grid_id}-{stamp}.yaml"
        moved_away(path_of(project, grid_id), kept)
    return kept
