"""A configuration folder as one cross-checked whole; every error names file, key, value and what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from mm_dagster.bars import FIRST_DAY, iso
from mm_dagster.config import written
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.books import BooksConfig
from mm_dagster.config.errors import ConfigError, foreseen
from mm_dagster.config.evaluation import EvaluationConfig
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.grid import BotSource, GridConfig, nearest_opposing
from mm_dagster.config.history import HistoryConfig
from mm_dagster.config.makers import MakersConfig
from mm_dagster.config.markets import BOT_EXCHANGES, CcxtVenue, MarketsConfig
from mm_dagster.config.model import CREDENTIALS, Model
from mm_dagster.config.orders import OrdersConfig
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.config.regime import RegimeConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.config.strategies import StrategiesConfig
from mm_dagster.config.whole import Config
from mm_dagster.config.yaml_files import parse, read_folder, texts
from mm_dagster.text import did_you_mean, plain_text

LAST_DAY = datetime(2200, 1, 1, tzinfo=UTC)
"""No grid begins later: what follows from a time must be a time, too."""

FILES: dict[str, type[Model]] = {
    "markets": MarketsConfig,
    "regime": RegimeConfig,
    "risk": RiskConfig,
    "exit": ExitConfig,
    "alerts": AlertsConfig,
    "history": HistoryConfig,
    "evaluation": EvaluationConfig,
    "portfolio": PortfolioConfig,
    "orders": OrdersConfig,
    "books": BooksConfig,
    "strategies": StrategiesConfig,
    "makers": MakersConfig,
}

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Reading:
    """What a configuration folder says at one moment.

    Attributes:
        config: all of it, cross-checked.
        files: names of the files that are there, without `.yaml`; the grids are not among them.
    """

    config: Config
    files: frozenset[str]


def load(folder: Path) -> Config:
    """Reads and cross-checks one configuration folder.

    Raises:
        ConfigError: with one line that names file, key, value and remedy.
    """
    return read(folder).config


def read_history(path: Path) -> HistoryConfig:
    """What one history.yaml alone says, whatever is wrong with the rest of a configuration; defaults without it.

    Raises:
        ConfigError: it cannot be read, in one line that names file, key, value and remedy.
    """
    with foreseen(path):
        return _model(path, path.read_bytes(), HistoryConfig) if path.exists() else HistoryConfig()


def read(folder: Path) -> Reading:
    """Reads and cross-checks one configuration folder, and says which files there were.

    Raises:
        ConfigError: whatever is wrong with it, in one line that names file, key, value and remedy.
    """
    with foreseen(folder):
        names = {f"{name}.yaml": name for name in FILES}
        contents = read_folder(folder, names)
        tops = {path: content for path, content in contents.items() if path.parent == folder}
        for path in tops:
            if path.name not in names:
                raise ConfigError(f"{path}: no such configuration file{did_you_mean(path.name, {*names, 'grids'})}")
        if folder / "markets.yaml" not in tops:
            raise ConfigError(f"{folder / 'markets.yaml'}: is missing; it names the venues and the markets to watch")
        parts: dict[str, Any] = {
            names[path.name]: _model(path, content, FILES[names[path.name]]) for path, content in tops.items()
        }
        zone = ZoneInfo(parts.get("alerts", AlertsConfig()).timezone)
        of_grids = {path: content for path, content in contents.items() if path not in tops}
        grids = {path: _model(path, content, GridConfig, zone) for path, content in of_grids.items()}
        config = Config(**parts, grids=tuple(sorted(grids.values(), key=lambda grid: grid.id)))
        _cross_check(config, folder, grids)
        return Reading(config, frozenset(parts))


def _model(path: Path, content: bytes, model: type[M], zone: tzinfo = UTC) -> M:
    """A file as a model of ours.

    Args:
        path: of the file.
        content: what stands in it.
        model: what it must fit.
        zone: of the times that name none.

    Raises:
        ConfigError: it does not fit, or is empty: nobody wishes for defaults by saying nothing.
    """
    values = parse(path, content)
    if values is None:
        required = any(field.is_required() for field in model.model_fields.values())
        raise ConfigError(f"{path}: is empty; {'write its keys into it' if required else _FOR_DEFAULTS}")
    with foreseen(path):
        # How it is written shows only in the file, which is looked at again where it can matter.
        for key in ("capital", "equity"):
            amount = texts(content)[key] if isinstance(values.get(key), float) else ""
            if written.is_ambiguous(amount):
                thousands = amount.replace(".", "")
                raise ConfigError(
                    f"{path}: {key}: {amount} may be meant in thousands; write {float(amount):g} or {thousands}"
                )
        try:
            return model.model_validate(values, context={"zone": zone})
        except ValidationError as error:
            raise ConfigError(f"{path}: {_first_error(error, model)}") from None


_FOR_DEFAULTS = "write `{}` into it to have the defaults"


def _first_error(error: ValidationError, model: type[Model]) -> str:
    """The first of pydantic's errors as `key: value: what would be right`; how many follow."""
    # A misspelt key also makes the right one missing: the misspelling is the better news.
    errors = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    first = errors[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(str(first["loc"][-1]), _keys_at(model, first["loc"][:-1]))
        return f"{key}: unknown key{hint}{more}"
    if first["type"] == "missing":
        return f"{key}: is missing{more}"
    if not key:
        return f"{message}{more}"
    # Who writes a secret where its variable's name belongs must not find it in a log.
    hidden = key.endswith("_env") or key.split(".")[0] in _OF_SECRETS or "account" in key.split(".")
    shown = "***" if hidden else CREDENTIALS.sub("***@", _with_urls_cut(repr(first["input"])))
    if first["type"] in _NUMBERS and isinstance(first["input"], str) and not hidden:
        return f"{key}: {shown:.80} is no number; {written.plain_number(first['input'])}{more}"
    if message.startswith("is "):
        return f"{key}: {shown:.80} {message}{more}"
    return f"{key}: {shown:.80} is wrong: {message}{more}"


_OF_SECRETS = ("apprise", "heartbeat")
"""Keys below which only the names of variables stand: what is there instead may be what these hold."""
_NUMBERS = ("float_parsing", "int_parsing", "float_type", "int_type")


def _with_urls_cut(text: str) -> str:
    """Of an address only the host: its path may be a secret."""
    return re.sub(r"(://[^/\s'\"?#]+)[/?#][^\s'\"]*", r"\1/***", text)


def _keys_at(model: type[Model], where: tuple[int | str, ...]) -> set[str]:
    """The keys that are known at a place: exact for nested models, empty where a union or a list is in between."""
    for part in where:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Model)):
            return set()
        model = field.annotation
    return set(model.model_fields)


def _cross_check(config: Config, folder: Path, grids: Mapping[Path, GridConfig]) -> None:
    for index, market in enumerate(config.markets.markets):
        if market.venue not in config.markets.venues:
            raise ConfigError(
                f"{folder / 'markets.yaml'}: markets.{index}.venue: {market.venue!r} is no venue of this file"
                f"{did_you_mean(market.venue, set(config.markets.venues))}"
            )
    for symbol in _repeated(config.symbols):
        raise ConfigError(f"{folder / 'markets.yaml'}: markets: {symbol} is given twice; keep one")
    for symbol in config.risk.half_spread_bp:
        if symbol not in config.symbols:
            raise ConfigError(
                f"{folder / 'risk.yaml'}: half_spread_bp: {symbol!r} is not in markets.yaml"
                f"{did_you_mean(symbol, config.symbols)}"
            )
    by_id: dict[str, Path] = {}
    for path, grid in grids.items():
        if grid.symbol not in config.symbols:
            raise ConfigError(
                f"{path}: symbol: {grid.symbol!r} is not in markets.yaml{did_you_mean(grid.symbol, config.symbols)}"
            )
        if grid.id in by_id:
            raise ConfigError(f"{path}: id: {grid.id!r} is already the id of {by_id[grid.id].name}; choose another")
        if grid.activated_at > LAST_DAY:
            raise ConfigError(f"{path}: activated_at: {iso(grid.activated_at)} is after {iso(LAST_DAY)}; mend the year")
        if grid.activated_at < FIRST_DAY:
            raise ConfigError(
                f"{path}: activated_at: {iso(grid.activated_at)} is before {iso(FIRST_DAY)}, where history begins"
            )
        by_id[grid.id] = path
    _check_bots(config, folder, grids)
    _check_orders(config, folder, by_id)
    _refuse_crossing(config, {grid.id: path for path, grid in grids.items()})


def _check_bots(config: Config, folder: Path, grids: Mapping[Path, GridConfig]) -> None:
    """Refuses a bot that cannot be read, and one that two running grids are."""
    known: dict[BotSource, Path] = {}
    for path, grid in grids.items():
        if grid.source is None:
            continue
        name, venues = grid.source.exchange, config.markets.venues
        venue = venues.get(name)
        if venue is None:
            raise ConfigError(
                f"{path}: source.exchange: {name!r} is no venue of markets.yaml{did_you_mean(name, set(venues))}"
            )
        if not isinstance(venue, CcxtVenue) or venue.exchange not in BOT_EXCHANGES:
            raise ConfigError(
                f"{path}: source.exchange: the bots of {name!r} cannot be read, those of {', '.join(BOT_EXCHANGES)} "
                "can; take source out"
            )
        if venue.account is None:
            raise ConfigError(
                f"{folder / 'markets.yaml'}: venues.{name}.account: is missing; {path.name} needs a read-only key there"
            )
        if not config.market(grid.symbol).is_real:
            raise ConfigError(f"{path}: source: {grid.symbol} is no market of an exchange here; take source out")
        if grid.enabled and grid.source in known:
            raise ConfigError(
                f"{path}: source.id: {grid.source.id} is the bot of {known[grid.source].name} already; keep one"
            )
        if grid.enabled:
            known[grid.source] = path


def _check_orders(config: Config, folder: Path, grids: Mapping[str, Path]) -> None:
    """Refuses permissions for grids that are not there, and a key that is not one of its own."""
    path, orders = folder / "orders.yaml", config.orders
    for name in orders.grids:
        # A permission outlives its grid, as long as nobody could mean another one.
        close = did_you_mean(name, set(grids)) if name not in grids else ""
        if close:
            raise ConfigError(f"{path}: grids: {name!r} is no grid{close}")
    key = orders.trade_key
    if key is None:
        return
    exchanges = {name for name, one in config.markets.venues.items() if isinstance(one, CcxtVenue)}
    if key.venue is None and len(exchanges) > 1:
        raise ConfigError(f"{path}: trade_key.venue: is missing; say of which it is: {', '.join(sorted(exchanges))}")
    if key.venue is not None and key.venue not in exchanges:
        raise ConfigError(
            f"{path}: trade_key.venue: {key.venue!r} is no exchange of markets.yaml{did_you_mean(key.venue, exchanges)}"
        )
    for name in sorted(exchanges):
        venue = config.markets.venues[name]
        if isinstance(venue, CcxtVenue) and venue.account is not None:
            shared = {key.key_env, key.secret_env} & {venue.account.key_env, venue.account.secret_env}
            if shared:
                raise ConfigError(
                    f"{path}: trade_key: {', '.join(sorted(shared))} is of the key that reads the account of {name}; "
                    "make a key of its own that may trade, and not withdraw"
                )


def _refuse_crossing(config: Config, paths: Mapping[str, Path]) -> None:
    """Refuses two running grids on one market of which one would buy what the other sells.

    Args:
        config: the whole.
        paths: the file of each grid.
    """
    apart = config.portfolio.limits.min_step_apart
    for one, other in combinations([grid for grid in config.grids if grid.enabled], 2):
        if one.symbol != other.symbol:
            continue
        near = nearest_opposing(one.prices, other.prices)
        if near.apart < apart:
            raise ConfigError(
                f"{paths[other.id]}: levels: its level {plain_text(near.other)} is {100 * near.apart:.3f} % from "
                f"{plain_text(near.one)} of {one.id} on {one.symbol}, so that one grid would buy what the other sells; "
                f"move its bounds until all are {100 * apart:g} % apart, or set limits.min_step_apart in portfolio.yaml"
            )


def _repeated(values: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            yield value
        seen.add(value)
