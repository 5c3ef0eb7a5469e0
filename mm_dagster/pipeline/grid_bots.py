"""A grid as its exchange tells of it, read with the venue's read-only key: the values of `mm grid add --from`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mm_dagster.config.markets import BOT_EXCHANGES, CcxtVenue
from mm_dagster.config.pasted import Found, Unsure
from mm_dagster.config.whole import Config
from mm_dagster.errors import ForeseenError
from mm_dagster.pipeline.venues import key_of
from mm_dagster.text import counted, did_you_mean, plain_text

if TYPE_CHECKING:
    from mm_dagster.market.connection import Retry
    from mm_dagster.market.grid_bots import BotGrid
    from mm_dagster.pipeline.project import Project

_ENDS = ("stopping", "stopped")
_MAY_BE = {"convention": ("intervals", "levels"), "spacing": ("arithmetic", "geometric")}
"""What a value may be that an exchange does not tell."""
_FIELDS = ("symbol", "lower", "upper", "levels", "convention", "spacing", "stop", "capital", "activated_at")


class BotError(ForeseenError):
    """No grid of the exchange can be taken. One line, with the remedy."""


def listed(
    config: Config, venue: str, bot_id: str | None = None, *, retry: Retry | None = None
) -> tuple[tuple[BotGrid, ...], tuple[str, ...]]:
    """The grids that run on a venue's account, or the one that is named, and what of others cannot be.

    Raises:
        BotError: the venue has no key, or its grids cannot be read.
        VenueError: the exchange does not answer, refuses, or knows no such grid.
    """
    venues = config.markets.venues
    if venue not in venues:
        raise BotError(f"--from: {venue!r} is no venue of markets.yaml{did_you_mean(venue, venues)}")
    # Imported here because ccxt takes a second to load.
    from mm_dagster.market.grid_bots import open_bots

    settings = venues[venue]
    if not isinstance(settings, CcxtVenue) or settings.exchange not in BOT_EXCHANGES:
        readable = ", ".join(BOT_EXCHANGES)
        raise BotError(f"--from: only the grids of {readable} are read here, not those of {venue}; use --paste")
    if settings.account is None:
        raise BotError(
            f"--from: {venue} has no key; in markets.yaml give it account: {{key_env: A, secret_env: B, "
            "passphrase_env: C}, the names of variables that hold a key with the permission Read and no other"
        )
    reader = open_bots(venue, settings, key_of(venue, settings.account), retry=retry)
    if bot_id is not None:
        return (reader.counted(reader.one(bot_id)),), ()
    if not reader.can_list:
        raise BotError(f"--from: {venue} lists no grids; name one by the number on its page, `--from {venue} NUMBER`")
    found = reader.running()
    return found.grids, found.odd


def check(project: Project, venue: str) -> str:
    """One line for `mm doctor`: which bots of a venue with a key are told of, and which grids they are.

    Args:
        project: the grids, and the connection to the venue.
        venue: name of it in markets.yaml.

    Raises:
        VenueError: the exchange does not answer, or refuses.
    """
    reader = project.venues.bots(venue)
    assert reader is not None
    mine = {grid.source.id: grid for grid in project.config.grids if grid.source and grid.source.exchange == venue}
    found = {bot.bot_id: bot for bot in reader.running().grids} if reader.can_list else {}
    found |= {name: reader.one(name) for name, grid in mine.items() if grid.enabled and name not in found}
    said = [f"{counted(len(found), 'bot')} told of"]
    said += [f"{mine[name].id} is {bot.state}" for name, bot in found.items() if name in mine]
    others = [name for name in found if name not in mine]
    said += [f"no file is {', '.join(others)}: `mm grid add --from {venue} NUMBER`"] if others else []
    return f"{reader.connection.label}: {'; '.join(said)}"


def values_of(bot: BotGrid) -> Found:
    """What the exchange tells of a grid; what it does not tell is asked for.

    Raises:
        BotError: it does not run any more.
    """
    if bot.state in _ENDS:
        how = f", ended {bot.ended_by}" if bot.ended_by else ""
        raise BotError(f"grid {bot.bot_id} of {bot.symbol} is {bot.state}{how}; nothing was written")
    known: dict[str, Any] = {
        "symbol": bot.symbol,
        "lower": bot.lower,
        "upper": bot.upper,
        "levels": bot.levels,
        "convention": bot.convention,
        "spacing": bot.spacing,
        "stop": bot.stop,
        "capital": bot.capital,
        "activated_at": None if bot.state == "starting" else bot.activated_at.replace(microsecond=0),
        "fee": bot.maker_fee,
    }
    notes = {"activated_at": "when it was made; one that waited for its trigger began later: --activated says so"}
    if bot.stop is None:
        notes["stop"] = "the exchange holds none below the grid"
    if bot.state == "starting":
        notes["activated_at"] = "it waits for its trigger and does not run yet"
    values = {name: value for name, value in known.items() if value is not None and name not in bot.doubts}
    doubts = {name: Unsure(_MAY_BE.get(name, (known[name],)), "?", why) for name, why in bot.doubts.items()}
    return Found(values, doubts, tuple(name for name in _FIELDS if name not in values), notes)


def sentence(bot: BotGrid) -> str:
    """A grid in one line, so that a person knows it."""
    lower, upper, capital = (plain_text(value) for value in (bot.lower, bot.upper, bot.capital))
    return f"{bot.bot_id}: {bot.symbol} {lower} to {upper}, {bot.levels} grids, {capital}, {bot.state}"
