"""Spot grids as OKX tells of them, read with a read-only key through ccxt's own methods. Nothing here stops one.

The list of running grids lacks what a grid holds, so each is asked for by its number as well. All values are texts, and
what is not known is an empty one. OKX puts errors into answers that ccxt takes for good ones: the code of each row is
read, too. What a row says that cannot be is said, and the other grids stand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt

from mm_dagster.bars import EPOCH, FIRST_DAY
from mm_dagster.config.grid import Spacing
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market.account import Credentials
from mm_dagster.market.connection import Connection, NotAnswered, Retry
from mm_dagster.market.venue import VenueError

SITES = ("okx", "myokx", "okxus")
"""Names of ccxt's classes: a key of one site is unknown at the others."""
_KIND = "grid"
"""OKX's word for a spot grid; those of contracts have others."""
_PAGE = 100
_MOST_PAGES = 20
_SPACING: Mapping[str, Spacing] = {"1": "arithmetic", "2": "geometric"}
_ENDED_BY = {
    "0": "", "1": "by hand", "2": "by its take-profit price", "3": "by its stop price", "4": "by risk control",
    "5": "by a delivery", "6": "by a signal",
}  # fmt: skip
_CODES = {
    "50119": "it does not know the key, or the key was made on another of its sites (okx, myokx, okxus)",
    "50120": "the key lacks the right to read; make one with the permission Read",
    "51345": "there is no spot grid with this number",
}
_LATEST = 7_258_118_400_000
"""Milliseconds until 2200."""


@dataclass(frozen=True)
class BotGrid:
    """A spot grid as its exchange tells of it; None: it does not.

    Attributes:
        bot_id: its number there.
        symbol: its market.
        state: starting, running, stopping, no_close_position, stopped or another word of the exchange.
        lower: lower bound, quote currency.
        upper: upper bound, quote currency.
        levels: intervals between its prices.
        spacing: arithmetic or geometric.
        stop: its stop price, quote currency.
        capital: what was put into it, quote currency.
        activated_at: when it was made, UTC.
        grid_profit: quote currency; the exchange's estimate for display.
        total_pnl: quote currency; what the exchange calls its result.
        inventory: base currency held.
        cash: quote currency held.
        fills: orders filled.
        ended_by: what ended it, in words; empty: nothing has.
    """

    bot_id: str
    symbol: str
    state: str
    lower: float
    upper: float
    levels: int
    spacing: Spacing
    stop: float | None
    capital: float
    activated_at: datetime
    grid_profit: float | None = None
    total_pnl: float | None = None
    inventory: float | None = None
    cash: float | None = None
    fills: int | None = None
    ended_by: str = ""


@dataclass(frozen=True)
class Listed:
    """The running spot grids of an account.

    Attributes:
        grids: by number.
        odd: what was told of others that cannot be, in sentences.
    """

    grids: tuple[BotGrid, ...]
    odd: tuple[str, ...]


class OkxGrids:
    """The spot grids of one account at OKX. Keep one a run."""

    def __init__(self, name: str, settings: CcxtVenue, key: Credentials, *, retry: Retry | None = None) -> None:
        """
        Args:
            name: name of the venue in markets.yaml.
            settings: which of SITES, at which address.
            key: a read-only API key.
            retry: how patiently a call is repeated.

        Raises:
            VenueError: it is none of SITES, or the key has no passphrase.
        """
        if settings.exchange not in SITES:
            raise VenueError(f"{name}: exchange: {settings.exchange!r} tells of no grids here; {', '.join(SITES)} do")
        if not key.passphrase:
            raise VenueError(f"{name}: account.passphrase_env: is missing; OKX wants the passphrase of the key, too")
        parts = {"apiKey": key.key, "secret": key.secret, "password": key.passphrase}
        self._connection = Connection(name, settings, retry=retry, secrets=tuple(parts.values()))
        for part, value in parts.items():
            setattr(self._connection.exchange, part, value)

    def running(self) -> Listed:
        """Every running spot grid, with what it holds.

        Raises:
            VenueError: the exchange does not answer, or refuses.
        """
        exchange, numbers, odd = self._connection.exchange, list[str](), list[str]()
        after: dict[str, str] = {}
        for _ in range(_MOST_PAGES):
            rows = self._rows(
                lambda: exchange.privateGetTradingBotGridOrdersAlgoPending(
                    {"algoOrdType": _KIND, "limit": str(_PAGE), **after}  # noqa: B023 - called at once
                )
            )
            fresh = [number for row in rows if (number := str(row.get("algoId") or "")) and number not in numbers]
            numbers += fresh
            odd += ["a grid without a number" for row in rows if not row.get("algoId")]
            if len(rows) < _PAGE or not fresh:
                break
            after = {"after": fresh[-1]}
        else:
            odd.append(f"more than {_PAGE * _MOST_PAGES} grids; the others were not asked for")
        grids = []
        for number in numbers:
            found = self._one(number)
            if isinstance(found, str):
                odd.append(f"grid {number}: {found}")
            elif found.state != "stopped":
                grids.append(found)
        return Listed(tuple(sorted(grids, key=lambda one: one.bot_id)), tuple(odd))

    def one(self, bot_id: str) -> BotGrid:
        """A spot grid by its number, running or not.

        Raises:
            VenueError: the exchange does not answer, refuses, or tells what cannot be.
        """
        if not re.fullmatch(r"\d{1,30}", bot_id):
            raise VenueError(f"{self._connection.label}: {bot_id!r} is no number of a grid; copy it from its page")
        found = self._one(bot_id)
        if isinstance(found, str):
            raise VenueError(f"{self._connection.label}: grid {bot_id}: {found}")
        return found

    def _one(self, bot_id: str) -> BotGrid | str:
        """A grid, or what of it cannot be."""
        exchange = self._connection.exchange
        rows = self._rows(
            lambda: exchange.privateGetTradingBotGridOrdersAlgoDetails({"algoOrdType": _KIND, "algoId": bot_id})
        )
        mine = [row for row in rows if str(row.get("algoId") or "") == bot_id]
        return _read(mine[0]) if mine else "the exchange tells nothing of it"

    def _rows(self, ask: Callable[[], Any]) -> list[Mapping[str, Any]]:
        """The rows of an answer; an error that stands in one of them is an error."""
        label = self._connection.label

        def asked() -> list[Mapping[str, Any]]:
            answer = ask()
            data = answer.get("data") if isinstance(answer, dict) else None
            if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
                raise ccxt.NullResponse("no list of grids")
            codes = [str(answer.get("code", "0")), *(str(row.get("sCode") or "0") for row in data)]
            wrong = next((code for code in codes if code != "0"), None)
            if wrong is not None:
                own = next((str(row.get("sMsg")) for row in data if row.get("sMsg")), str(answer.get("msg") or ""))
                raise NotAnswered(f"{_CODES.get(wrong, 'it refuses')} ({wrong}{': ' + own[:120] if own else ''})")
            return data

        try:
            return self._connection.call(asked)
        except NotAnswered as failure:
            text = str(failure)
            known = next((said for code, said in _CODES.items() if re.search(rf'"code":"{code}"', text)), None)
            raise VenueError(f"{label}: {known or text}") from None


def _read(row: Mapping[str, Any]) -> BotGrid | str:
    """A grid of the details of one, or what of them cannot be."""
    if str(row.get("algoOrdType") or _KIND) != _KIND:
        return "it is no spot grid"
    symbol = str(row.get("instId") or "")
    if not re.fullmatch(r"[^\s/:-]+-[^\s/:-]+", symbol):
        return f"its market {symbol!r} is no spot market"
    lower, upper, capital = (_number(row.get(name)) for name in ("minPx", "maxPx", "investment"))
    levels, created = _whole(row.get("gridNum")), _whole(row.get("cTime"))
    spacing = _SPACING.get(str(row.get("runType")))
    wrong = {
        "minPx": lower is None or lower <= 0,
        "maxPx": upper is None or upper <= (lower or 0.0),
        "gridNum": levels is None or levels < 1,
        "runType": spacing is None,
        "investment": capital is None or capital <= 0,
        "cTime": created is None or not EPOCH + timedelta(milliseconds=min(created, _LATEST)) >= FIRST_DAY,
    }
    if any(wrong.values()):
        return "; ".join(f"{name} {row.get(name)!r} cannot be" for name, is_wrong in wrong.items() if is_wrong)
    assert lower is not None
    assert upper is not None
    assert capital is not None
    assert levels is not None
    assert created is not None
    assert spacing is not None
    return BotGrid(
        bot_id=str(row["algoId"]),
        symbol=symbol,
        state=str(row.get("state") or "unknown"),
        lower=lower,
        upper=upper,
        levels=levels,
        spacing=spacing,
        stop=_stop(row, lower),
        capital=capital,
        activated_at=(EPOCH + timedelta(milliseconds=min(created, _LATEST))).astimezone(UTC),
        grid_profit=_number(row.get("gridProfit")),
        total_pnl=_number(row.get("totalPnl")),
        inventory=_number(row.get("curBaseSz")),
        cash=_number(row.get("curQuoteSz")),
        fills=_whole(row.get("tradeNum")),
        ended_by=_ENDED_BY.get(str(row.get("cancelType") or "0"), "by its exchange"),
    )


def _stop(row: Mapping[str, Any], lower: float) -> float | None:
    """Its stop price, which may stand among its triggers: the highest price below the grid that stops it."""
    found = [_number(row.get("slTriggerPx"))]
    triggers = row.get("triggerParams")
    for one in triggers if isinstance(triggers, list) else ():
        if isinstance(one, dict) and (one.get("triggerAction"), one.get("triggerStrategy")) == ("stop", "price"):
            found.append(_number(one.get("triggerPx")))
    below = [price for price in found if price is not None and 0 < price < lower]
    return max(below, default=None)


def _number(value: Any) -> float | None:
    """A number that is one; None for an empty text and whatever is none."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _whole(value: Any) -> int | None:
    found = _number(value)
    return int(found) if found is not None and found == int(found) else None
