"""Spot grids as their exchanges tell of them, read with a read-only key. Nothing here stops or changes one.

What an exchange does not tell is None, what it tells that cannot be is said, and an error that stands in a good answer
is an error. How each one is asked stands in `grid_bots_okx.py`, `grid_bots_bitget.py` and `grid_bots_bybit.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from mm_dagster.bars import EPOCH, FIRST_DAY
from mm_dagster.config.grid import LevelConvention, Spacing
from mm_dagster.config.markets import BOT_EXCHANGES, CcxtVenue
from mm_dagster.market.account import Credentials
from mm_dagster.market.connection import Connection, Retry
from mm_dagster.market.connection import number as any_number
from mm_dagster.market.venue import VenueError

State = Literal["starting", "running", "stopping", "stopped", "unknown"]

_LATEST = 7_258_118_400_000
"""Milliseconds until 2200."""


@dataclass(frozen=True)
class Fill:
    """An order of a grid that was filled.

    Attributes:
        fill_id: its number at the exchange.
        at: when it was filled, UTC.
        side: buy or sell.
        price: quote currency.
        amount: base currency.
        fee: in fee_currency; None: not told.
        fee_currency: None: not told.
    """

    fill_id: str
    at: datetime
    side: str
    price: float
    amount: float
    fee: float | None
    fee_currency: str | None


@dataclass(frozen=True)
class Fills:
    """Filled orders of a grid, the oldest first.

    Attributes:
        rows: those that are not known yet.
        whole: whether none before them is missing.
    """

    rows: tuple[Fill, ...]
    whole: bool


@dataclass(frozen=True)
class BotGrid:
    """A spot grid as its exchange tells of it; None: it does not.

    Attributes:
        bot_id: its number there.
        symbol: its market.
        state: what it does; `unknown` where the exchange's word for it is a new one: nothing is concluded from that.
        lower: lower bound, quote currency.
        upper: upper bound, quote currency.
        levels: its number of grids.
        activated_at: when it was made, UTC.
        capital: what was put into it, quote currency.
        convention: what `levels` counts.
        spacing: arithmetic or geometric.
        stop: its stop price, quote currency.
        maker_fee: fraction.
        grid_profit: quote currency; the exchange's figure for display.
        total_pnl: quote currency; what the exchange calls its result.
        inventory: base currency held.
        cash: quote currency held.
        fills: orders filled.
        ended_at: when it stopped, UTC.
        ended_by: what ended it, in words; empty: nothing has, or it is not told.
        doubts: what of it is in doubt, in a sentence, by name of the value.
    """

    bot_id: str
    symbol: str
    state: State
    lower: float
    upper: float
    levels: int
    activated_at: datetime
    capital: float
    convention: LevelConvention | None = None
    spacing: Spacing | None = None
    stop: float | None = None
    maker_fee: float | None = None
    grid_profit: float | None = None
    total_pnl: float | None = None
    inventory: float | None = None
    cash: float | None = None
    fills: int | None = None
    ended_at: datetime | None = None
    ended_by: str = ""
    doubts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listed:
    """The running spot grids of an account.

    Attributes:
        grids: by number.
        odd: what was told of others that cannot be, in sentences.
    """

    grids: tuple[BotGrid, ...]
    odd: tuple[str, ...] = ()


class GridBots(Protocol):
    """The spot grids of one account. Keep one a run."""

    can_list: bool
    """Whether it tells which grids run; elsewhere each is asked for by its number."""
    connection: Connection

    def running(self) -> Listed:
        """Every running spot grid, with what it holds; where `can_list`.

        Raises:
            VenueError: the exchange does not answer, or refuses.
        """

    def one(self, bot_id: str) -> BotGrid:
        """A spot grid by its number, running or not.

        Raises:
            VenueError: the exchange does not answer, refuses, or tells what cannot be.
        """

    def counted(self, bot: BotGrid) -> BotGrid:
        """A grid with what its number of grids counts, where that takes another question.

        Raises:
            VenueError: the exchange does not answer, or refuses.
        """

    def fills(self, bot: BotGrid, known: frozenset[str]) -> Fills | None:
        """Its filled orders that are not known yet; None: the exchange tells of none.

        Raises:
            VenueError: the exchange does not answer, or refuses.
        """


class OneByOne:
    """What exchanges that list no bots have in common: each is asked for by its number, and none tells of its fills."""

    can_list = False

    def __init__(self, name: str, settings: CcxtVenue, key: Credentials, *, retry: Retry | None = None) -> None:
        self.connection = connect(name, settings, key, retry)

    def running(self) -> Listed:
        raise VenueError(f"{self.connection.label}: it lists no grids; name one by its number")

    def counted(self, bot: BotGrid) -> BotGrid:
        return bot

    def fills(self, bot: BotGrid, known: frozenset[str]) -> Fills | None:
        return None


def open_bots(name: str, settings: CcxtVenue, key: Credentials, *, retry: Retry | None = None) -> GridBots:
    """The spot grids of an account.

    Args:
        name: name of the venue in markets.yaml.
        settings: which of BOT_EXCHANGES, at which address.
        key: a read-only API key.
        retry: how patiently a call is repeated.

    Raises:
        VenueError: the exchange tells of no grids, or the key lacks its passphrase.
    """
    from mm_dagster.market.grid_bots_bitget import BitgetGrids
    from mm_dagster.market.grid_bots_bybit import BybitGrids
    from mm_dagster.market.grid_bots_okx import OkxGrids

    if settings.exchange not in BOT_EXCHANGES:
        raise VenueError(
            f"{name}: exchange: {settings.exchange!r} tells of no grids here; {', '.join(BOT_EXCHANGES)} do"
        )
    if settings.exchange == "bybit":
        return BybitGrids(name, settings, key, retry=retry)
    if not key.passphrase:
        raise VenueError(
            f"{name}: account.passphrase_env: is missing; {settings.exchange} wants the passphrase of the key, too"
        )
    kind = BitgetGrids if settings.exchange == "bitget" else OkxGrids
    return kind(name, settings, key, retry=retry)


def connect(name: str, settings: CcxtVenue, key: Credentials, retry: Retry | None) -> Connection:
    """A connection that signs with a key."""
    parts = {"apiKey": key.key, "secret": key.secret, "password": key.passphrase}
    parts = {part: value for part, value in parts.items() if value}
    connection = Connection(name, settings, retry=retry, secrets=tuple(filter(None, parts.values())))
    for part, value in parts.items():
        setattr(connection.exchange, part, value)
    return connection


def checked_id(label: str, bot_id: str) -> str:
    """The number of a grid.

    Raises:
        VenueError: it is none.
    """
    if not re.fullmatch(r"\d{1,30}", bot_id):
        raise VenueError(f"{label}: {bot_id!r} is no number of a grid; copy it from its page")
    return bot_id


def told(raw: Mapping[str, Any], names: Mapping[str, str], **known: Any) -> BotGrid | str:
    """A grid of an exchange's row, or what of it cannot be.

    Args:
        raw: the row.
        names: the row's names of lower, upper, levels, capital and activated_at.
        known: the other attributes; a capital that is known goes before the row's.
    """
    lower, upper = number(raw.get(names["lower"])), number(raw.get(names["upper"]))
    capital = known.pop("capital", None) or number(raw.get(names["capital"]))
    levels, activated_at = whole(raw.get(names["levels"])), moment(raw.get(names["activated_at"]))
    wrong = {
        "lower": lower is None or lower <= 0,
        "upper": upper is None or upper <= (lower or 0.0),
        "levels": levels is None or levels < 1,
        "capital": capital is None or capital <= 0,
        "activated_at": activated_at is None,
    }
    if any(wrong.values()):
        return "; ".join(
            f"{names[one]} {raw.get(names[one])!r:.60} cannot be" for one, is_wrong in wrong.items() if is_wrong
        )
    assert lower is not None
    assert upper is not None
    assert capital is not None
    assert levels is not None
    assert activated_at is not None
    return BotGrid(lower=lower, upper=upper, levels=levels, capital=capital, activated_at=activated_at, **known)


def below(lower: Any, *prices: Any) -> float | None:
    """The highest stop price that lies below a grid; None: none does."""
    bound = number(lower)
    found = [price for price in map(number, prices) if price is not None and bound is not None and 0 < price < bound]
    return max(found, default=None)


def number(value: Any) -> float | None:
    """A number that is one; None for an empty text and whatever is none."""
    found = any_number(value)
    return found if found is not None and math.isfinite(found) else None


def amount(value: Any) -> float | None:
    """A number that is not negative."""
    found = number(value)
    return found if found is not None and found >= 0 else None


def whole(value: Any) -> int | None:
    """A whole number."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def moment(value: Any) -> datetime | None:
    """A time since history begins, of milliseconds since the Unix epoch; None for whatever is none."""
    found = whole(value)
    if found is None or not 0 < found <= _LATEST:
        return None
    at = (EPOCH + timedelta(milliseconds=found)).astimezone(UTC)
    return at if at >= FIRST_DAY else None
