"""The venue of a grid that is being added: one of markets.yaml, or an exchange that is new there, with its key.

Nothing is written here, and no key is read: markets.yaml names the variables that hold one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mm_dagster.config.markets import AccountKeys, CcxtVenue, VenueConfig
from mm_dagster.config.whole import Config
from mm_dagster.market.names import exchange_names, wants_passphrase
from mm_dagster.market.open import open_venue
from mm_dagster.market.venue import FIRST_CONTACT_SECONDS
from mm_dagster.pipeline.grids import GridError
from mm_dagster.research.difference import changed
from mm_dagster.text import did_you_mean


@dataclass(frozen=True)
class Chosen:
    """A venue that was named.

    Attributes:
        name: in markets.yaml.
        settings: what is said of it there, or will be.
        keys: what of that is new, by dotted path, as YAML; empty: it stays as it is.
        note: what was made of the name, in a sentence; empty: it is one of markets.yaml.
    """

    name: str
    settings: VenueConfig
    keys: Mapping[str, str]
    note: str = ""

    def of(self, config: Config, *, hurried: bool = False) -> Config:
        """The configuration as it will be with this venue; hurried: as somebody meets it who waits for it."""
        settings = self.settings
        if hurried and isinstance(settings, CcxtVenue):
            settings = settings.within(FIRST_CONTACT_SECONDS)
        venues = {**config.markets.venues, self.name: settings}
        return config.model_copy(update={"markets": config.markets.model_copy(update={"venues": venues})})

    def written_into(self, text: str) -> str:
        """markets.yaml with what is new of it, and everything else, comments too, as it stands."""
        return changed(text, self.keys)


def chosen(config: Config, name: str, option: str, *, variables: Mapping[str, str] | None = None) -> Chosen:
    """The venue that a person names: by its name in markets.yaml, or by ccxt's name of its exchange.

    Args:
        config: what is there.
        name: what was given.
        option: by which.
        variables: the environment, where the exchange's own grids are to be read by a key; None: no key is needed.

    Raises:
        GridError: there is no such venue, or it has no key and none is exported.
        VenueError: it is new, and has no candles of 15 minutes.
    """
    venues = config.markets.venues
    name = name if name in venues else name.lower()
    at = [own for own, settings in venues.items() if isinstance(settings, CcxtVenue) and settings.exchange == name]
    note = ""
    if name in venues:
        settings, fresh = venues[name], False
    elif len(at) == 1:
        note = f"{name} is {at[0]} in markets.yaml"
        name, settings, fresh = at[0], venues[at[0]], False
    elif at:
        raise GridError(f"{option}: {', '.join(at)} of markets.yaml are at {name}; name one of them")
    elif name in (names := exchange_names()):
        settings, fresh = CcxtVenue(kind="ccxt", exchange=name), True
        # That it can be used at all shows without a question to it.
        open_venue(name, settings, Path())
        note = f"{name} is new: it goes into markets.yaml as a venue of that name"
    else:
        raise GridError(
            f"{option}: {name!r} is no venue of markets.yaml, nor an exchange that ccxt knows"
            f"{did_you_mean(name, [*venues, *names])}"
        )
    keys = _keys(name, settings, option, variables) if variables is not None else None
    if keys:
        settings = settings.model_copy(update={"account": keys})
        note = f"{f'{note}; ' if note else ''}its key is read from {_listed(keys)}"
    if fresh:
        return Chosen(name, settings, {f"venues.{name}": _flow(settings)}, note)
    return Chosen(name, settings, {f"venues.{name}.account": _flow(keys)} if keys else {}, note)


def _keys(name: str, settings: VenueConfig, option: str, variables: Mapping[str, str]) -> AccountKeys | None:
    """The variables with a key, where markets.yaml names none yet; None: it does, or no key can help.

    Raises:
        GridError: they are not exported.
    """
    if not isinstance(settings, CcxtVenue) or settings.account is not None:
        return None
    keys = usual_keys(settings.exchange)
    lacking = [one for one in _values(keys) if not variables.get(one, "").strip()]
    if lacking:
        raise GridError(
            f"{option}: {name} has no key; make one with the permission Read and no other, export {_listed(keys)} with "
            f"it, and call this again ({', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set); "
            "markets.yaml then names the variables, and holds no key"
        )
    return keys


def usual_keys(exchange: str) -> AccountKeys:
    """The variables that a key of an exchange is looked for in, like OKX_API_KEY."""
    stem = re.sub(r"[^A-Z0-9]", "_", exchange.upper())
    stem = stem if stem[0].isalpha() else f"EXCHANGE_{stem}"
    return AccountKeys(
        key_env=f"{stem}_API_KEY",
        secret_env=f"{stem}_API_SECRET",
        passphrase_env=f"{stem}_API_PASSPHRASE" if wants_passphrase(exchange) else None,
    )


def _values(keys: AccountKeys) -> list[str]:
    return [one for one in (keys.key_env, keys.secret_env, keys.passphrase_env) if one]


def _listed(keys: AccountKeys) -> str:
    *most, last = _values(keys)
    return f"{', '.join(most)} and {last}"


def _flow(settings: VenueConfig | AccountKeys) -> str:
    """Settings in one line of YAML, without what is as usual."""
    said = settings.model_dump(exclude_defaults=True)
    account: AccountKeys | None = getattr(settings, "account", None)
    parts = [f"{key}: {_flow(account) if account and key == 'account' else value}" for key, value in said.items()]
    return f"{{{', '.join(parts)}}}"
