"""The venue of a grid, as a person names it: one of markets.yaml, or an exchange that is new there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from mm_dagster.cli.app import CommandError
from mm_dagster.cli.grid_sources import say
from mm_dagster.errors import ForeseenError

if TYPE_CHECKING:
    from mm_dagster.config.whole import Config
    from mm_dagster.pipeline.grid_venue import Chosen

UNREADABLE = ("kucoin", "binance")
"""Exchanges whose bots no program can read: their API has no call for them."""


def _unreadable(name: str) -> str:
    shown = {"kucoin": "KuCoin"}.get(name, name.capitalize())
    return f"{shown}'s bots cannot be read by any program: its API has no call for them"


def say_what_cannot_be_read(project: Any) -> None:
    """First of all what a program cannot know of the bots of some exchanges."""
    for name in sorted({_exchange_of(project, venue) for venue in project.config.markets.venues} & set(UNREADABLE)):
        say(
            f"{_unreadable(name)}. So paste the bot's page or answer the questions; what it holds and earns is "
            "modelled from candles; and that you stopped it you say by `mm grid stop`."
        )


def refuse_unreadable(project: Any, venue: str) -> None:
    """
    Raises:
        CommandError: no key can make the exchange tell of its bots.
    """
    exchange = _exchange_of(project, venue)
    if exchange in UNREADABLE:
        raise CommandError(
            f"--from: {_unreadable(exchange)}; paste the bot's page with --paste, or answer the questions"
        )


def _exchange_of(project: Any, venue: str) -> str:
    """The exchange of a venue of markets.yaml; the name itself where there is none."""
    return getattr(project.config.markets.venues.get(venue), "exchange", venue).lower()


def venue_of(
    project: Any, symbol: str, venue: str | None, place: Chosen | None, asking: bool
) -> tuple[str, Chosen | None]:
    """The venue of a market, and what is to be written of a venue.

    Args:
        project: the configuration.
        symbol: the market.
        venue: the one of --venue.
        place: the one of --from.
        asking: whether a person can be asked.

    Raises:
        CommandError: it must be named.
        GridError: the one that is named is none, or not that of the market.
    """
    from mm_dagster.pipeline import grids

    config = project.config
    if place is not None and venue is None:
        if symbol in config.symbols and config.market(symbol).venue != place.name:
            own = config.market(symbol).venue
            say(f"{symbol} is watched on {own} already: that one's candles judge it")
            return own, place
        return place.name, place
    names = ", ".join(config.markets.venues)
    named, option = venue, "--venue"
    while True:
        picked = None
        try:
            if named is not None:
                picked = chosen_venue(config, named, option)
                if place is not None and place.keys and picked.keys:
                    raise CommandError(
                        f"--venue: {named} and {place.name} are both new; add a grid of one of them first"
                    )
            found = grids.venue_for(picked.of(config) if picked else config, symbol, picked.name if picked else None)
        except ForeseenError as error:
            if not asking or venue is not None:
                raise
            say(str(error))
            found = None
        if found is not None:
            return found, picked if picked and picked.keys else place
        if not asking:
            raise CommandError(f"--venue: {symbol} is new, and markets.yaml has several venues; name one of {names}")
        named = str(typer.prompt(f"Venue of {symbol}: {names}, or ccxt's name of an exchange", err=True)).strip()


def chosen_venue(config: Config, name: str, option: str, variables: Mapping[str, str] | None = None) -> Chosen:
    """The venue that is named, and what is made of the name is said."""
    from mm_dagster.pipeline import grid_venue

    found = grid_venue.chosen(config, name, option, variables=variables)
    if found.note:
        say(found.note)
    return found
