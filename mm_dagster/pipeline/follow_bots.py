"""What exchanges tell of the bots that grids are: kept at every tick, and what follows from it for a grid.

A bot that stopped there is a response `stopped`, one that was changed there a new episode of its grid. Either silences
or moves an alarm: it is asked for twice, and only what was told twice counts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mm_dagster.alerts.responses import Answers, is_over
from mm_dagster.bars import floor_bar, iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.errors import ForeseenError
from mm_dagster.history.lake import Commit
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline import grids
from mm_dagster.pipeline.answers import answer
from mm_dagster.pipeline.groups import told_once
from mm_dagster.pipeline.judge import answers_in
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.registry import conform, empty
from mm_dagster.text import plain_text

if TYPE_CHECKING:
    from mm_dagster.market.grid_bots import BotGrid, GridBots

logger = logging.getLogger("mm_dagster")

Row = Mapping[str, Any]

PATIENCE_SECONDS = 10.0
"""In which a bot is told of or not: all that is judged waits for it."""
PARAMETERS = ("lower", "upper", "levels", "spacing", "stop", "capital")
"""What of a bot, when it changes, makes a new episode of its grid."""
_MOST_TIMES = 3.0
"""So many times its capital a grid may be worth at its lower bound; what is more is another unit, or another grid."""


@dataclass
class Followed:
    """What was told at a tick.

    Attributes:
        rows: of `grid_bot`.
        problems: what could not be read, or contradicts what is known, in sentences.
        done: what followed from it, in sentences.
    """

    rows: pl.DataFrame = field(default_factory=lambda: empty("grid_bot"))
    problems: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)


def follow_bots(project: Project, as_of: datetime | None, run_id: str, *, is_part: bool = False) -> Followed:
    """Reads and stores what each bot does and holds, and notes what follows from it for its grid.

    Nothing in a run over whole days, nor in a tick of the past: what a bot does now was not so then.

    Args:
        project: configuration, lake and venues.
        as_of: the tick; None: a run over whole days.
        run_id: the run.
        is_part: whether it is one of several groups of a tick, of which the first alone asks.
    """
    with told_once(project, "grid_bot", as_of, is_part=is_part) as told:
        return Followed(told) if told.height else _ask_and_follow(project, as_of, run_id)


def _ask_and_follow(project: Project, as_of: datetime | None, run_id: str) -> Followed:
    found = Followed()
    venues = [name for name, one in project.config.markets.venues.items() if getattr(one, "account", None)]
    if as_of is None or not venues:
        return found
    clock = project.venues.real_clock()
    if clock - as_of >= timedelta(minutes=project.config.alerts.max_age_minutes):
        return found
    rows: list[dict[str, Any]] = []
    stored = project.lake.read("grid_bot")
    for name in venues:
        mine = _grids_of(project, name)
        try:
            bots = project.venues.bots(name)
            if bots is None or not (mine or bots.can_list):
                continue
            told = _told(bots, mine, found.problems)
        except VenueError as error:
            found.problems.append(str(error))
            continue
        before = stored.filter(pl.col("venue") == name)
        for bot in told:
            known = before.filter(pl.col("bot_id") == bot.bot_id).sort("as_of")
            grid = mine.get(bot.bot_id)
            if grid is None or _follow(project, bots, grid, bot, known, clock, found):
                rows.append(_row(bots, name, bot, known, floor_bar(as_of), clock, grid is not None))
    if rows:
        found.rows = conform(pl.DataFrame(rows, infer_schema_length=None), "grid_bot")
        with project.turn_lock():
            project.lake.upsert("grid_bot", found.rows, commit=Commit(run_id, "grid_bot", iso(as_of)))
    return found


def _grids_of(project: Project, venue: str) -> dict[str, GridConfig]:
    """The running grids that are a bot of a venue, by its number."""
    return {
        grid.source.id: grid
        for grid in project.config.grids
        if grid.enabled and grid.source is not None and grid.source.exchange == venue
    }


def _told(bots: GridBots, mine: Mapping[str, GridConfig], problems: list[str]) -> list[BotGrid]:
    """The bots that run, where they are listed, and those that grids are.

    Raises:
        VenueError: the exchange does not answer, or refuses.
    """
    told: dict[str, BotGrid] = {}
    if bots.can_list:
        with bots.connection.within(PATIENCE_SECONDS):
            listed = bots.running()
        told = {bot.bot_id: bot for bot in listed.grids}
        problems += [f"{bots.connection.label}: {sentence}" for sentence in listed.odd]
    for bot_id, grid in mine.items():
        if bot_id not in told:
            try:
                with bots.connection.within(PATIENCE_SECONDS):
                    told[bot_id] = bots.one(bot_id)
            except VenueError as error:
                problems.append(f"{grid.id}: {error}")
    return list(told.values())


def _follow(
    project: Project,
    bots: GridBots,
    grid: GridConfig,
    bot: BotGrid,
    known: pl.DataFrame,
    clock: datetime,
    found: Followed,
) -> bool:
    """Does what follows from what is told of a grid's bot; returns whether it may be believed.

    Args:
        project: where it is done.
        bots: asks again.
        grid: the grid.
        bot: as it was told.
        known: rows of `grid_bot` of it, ascending.
        clock: the exchange's time, UTC.
        found: what is to be said is added.
    """
    doubt = _doubt(grid, bot)
    if doubt:
        found.problems.append(f"{grid.id}: its bot {bot.bot_id} {doubt}; nothing is concluded from it")
        return False
    # What it was when the episode began: a change that cannot be written is found again at the next tick.
    since = known.filter(pl.col("as_of") >= grid.activated_at)
    changes = _changes(bot, since.row(0, named=True) if since.height else None)
    answers = answers_in(project)
    over = is_over(answers, grid.id, grid.activated_at)
    ended, back = bot.state == "stopped" and not over, bot.state == "running" and over
    if (ended or back or changes) and not _is_so(bots, bot):
        found.problems.append(
            f"{grid.id}: its exchange told of bot {bot.bot_id} twice, and differently; nothing is concluded from it"
        )
        return False
    if bot.state == "unknown":
        found.problems.append(f"{grid.id}: what its bot {bot.bot_id} does is told in a word that is not known here")
    try:
        if ended:
            _ended(project, grid, bot, clock, found)
        elif back:
            _back(project, grid, bot, answers, clock, found)
        elif changes and bot.state == "running":
            _changed(project, grid, changes, clock, found)
    except (ForeseenError, ValueError) as error:
        news = f"is {bot.state}" if ended or back else f"was changed ({', '.join(changes)})"
        found.problems.append(f"{grid.id}: its bot {bot.bot_id} {news}, and that cannot be noted: {error}")
    return True


def _doubt(grid: GridConfig, bot: BotGrid) -> str | None:
    """Why what is told cannot be the grid's; None: it can."""
    if bot.symbol != grid.symbol:
        return f"trades {bot.symbol}, and the grid {grid.symbol}"
    worth = (bot.cash or 0.0) + (bot.inventory or 0.0) * bot.lower
    if worth > _MOST_TIMES * max(bot.capital, grid.capital):
        return f"would be worth {plain_text(round(worth, 2))}, many times its capital {plain_text(bot.capital)}"
    return None


def _changes(bot: BotGrid, before: Row | None) -> dict[str, Any]:
    """What of its parameters is told otherwise than before; a stop that is taken away leaves the file's."""
    if before is None:
        return {}
    now = {name: getattr(bot, name) for name in PARAMETERS}
    return {name: value for name, value in now.items() if value is not None and value != before[name]}


def _is_so(bots: GridBots, bot: BotGrid) -> bool:
    """Whether the exchange, asked again, tells the same of state and parameters."""
    try:
        with bots.connection.within(PATIENCE_SECONDS):
            again = bots.one(bot.bot_id)
    except VenueError:
        return False
    return all(getattr(again, name) == getattr(bot, name) for name in ("state", "symbol", *PARAMETERS))


def _ended(project: Project, grid: GridConfig, bot: BotGrid, clock: datetime, found: Followed) -> None:
    """The bot has stopped: that is a response."""
    at = min(bot.ended_at or clock, clock)
    if at < grid.activated_at:
        found.problems.append(
            f"{grid.id}: its bot {bot.bot_id} stopped at {iso(at)}, before the activation; give source the "
            "number of the bot that runs now, or `mm grid stop` it"
        )
        return
    answer(
        project,
        grid.id,
        "stopped",
        at.replace(microsecond=0),
        bot.ended_by or None,
        told_by=_venue(grid),
        through="exchange",
    )
    how = f", {bot.ended_by}" if bot.ended_by else ""
    found.done.append(f"{grid.id}: its bot {bot.bot_id} has stopped at {iso(at)}{how}; its episode is closed")


def _back(project: Project, grid: GridConfig, bot: BotGrid, answers: Answers, clock: datetime, found: Followed) -> None:
    """The bot runs, and was said to be stopped: by the exchange it is taken back, by the operator it is said."""
    said = answers[grid.id, grid.activated_at]
    if said["told_by"] != _venue(grid):
        found.problems.append(
            f"{grid.id}: you noted at {iso(said['at'])} that it is stopped, and its exchange says that bot "
            f"{bot.bot_id} runs; stop it there, or `mm respond {grid.id} reopened`"
        )
        return
    answer(project, grid.id, "reopened", clock.replace(microsecond=0), None, told_by=_venue(grid), through="exchange")
    found.done.append(f"{grid.id}: its bot {bot.bot_id} runs after all; it is watched again")


def _changed(project: Project, grid: GridConfig, changes: Mapping[str, Any], clock: datetime, found: Followed) -> None:
    """The bot was changed: its grid's file says so from now on, in a new episode."""
    wanted = {name: value for name, value in changes.items() if getattr(grid, name) != value}
    if not wanted:
        return
    before, after = grids.edited(project, grid.id, wanted, clock.replace(microsecond=0))
    grids.save(project, before, after)
    named = ", ".join(
        f"{name} {value if isinstance(value, str) else plain_text(value)}" for name, value in wanted.items()
    )
    found.done.append(f"{grid.id}: changed at its exchange to {named}: a new episode since {iso(after.activated_at)}")


def _venue(grid: GridConfig) -> str:
    assert grid.source is not None
    return grid.source.exchange


def _row(
    bots: GridBots, venue: str, bot: BotGrid, known: pl.DataFrame, as_of: datetime, clock: datetime, with_fills: bool
) -> dict[str, Any]:
    """A row of `grid_bot`."""
    had = frozenset(known.select(pl.col("fresh_fills").explode()).drop_nulls().unnest("fresh_fills")["fill_id"])
    fills = None
    if with_fills:
        try:
            with bots.connection.within(PATIENCE_SECONDS):
                fills = bots.fills(bot, had)
        except VenueError as error:
            logger.info("the fills of bot %s are not told: %s", bot.bot_id, error)
    # What comes after known fills is whole where these were.
    was_whole = not had or bool(known["fills_whole"].any())
    told = asdict(bot)
    return {
        "venue": venue,
        "as_of": as_of,
        "observed_at": clock,
        "created_at": bot.activated_at,
        "fresh_fills": [asdict(fill) for fill in fills.rows] if fills else [],
        "fills_whole": fills is not None and fills.whole and was_whole,
        **{
            name: told[name]
            for name in (
                "bot_id", "symbol", "state", *PARAMETERS, "grid_profit", "total_pnl", "inventory", "cash", "fills",
                "ended_at",
            )
        },
        "ended_by": bot.ended_by or None,
    }  # fmt: skip
