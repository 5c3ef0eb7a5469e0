"""OKX's spot grids, through ccxt's own methods.

The list of running grids lacks what a grid holds, so each is asked for by its number as well. All values are texts, and
what is not known is an empty one. OKX puts errors into answers that ccxt takes for good ones: the code of each row is
read, too. Source: OKX API guide v5, Grid Trading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import ccxt

from mm_dagster.config.grid import Spacing
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market.account import Credentials
from mm_dagster.market.connection import NotAnswered, Retry
from mm_dagster.market.grid_bots import (
    BotGrid,
    Fill,
    Fills,
    Listed,
    State,
    amount,
    below,
    checked_id,
    connect,
    moment,
    number,
    told,
    whole,
)
from mm_dagster.market.venue import VenueError
from mm_dagster.tables.words import SIDES

_KIND = "grid"
"""OKX's word for a spot grid; those of contracts have others."""
_PAGE = 100
_MOST_PAGES = 20
_NAMES = {"lower": "minPx", "upper": "maxPx", "levels": "gridNum", "capital": "investment", "activated_at": "cTime"}
_SPACING: Mapping[str, Spacing] = {"1": "arithmetic", "2": "geometric"}
_STATES: Mapping[str, State] = {
    "starting": "starting", "pending_signal": "starting", "running": "running", "stopping": "stopping",
    "no_close_position": "stopped", "stopped": "stopped",
}  # fmt: skip
_ENDED_BY = {
    "0": "", "1": "by hand", "2": "by its take-profit price", "3": "by its stop price", "4": "by risk control",
    "5": "by a delivery", "6": "by a signal",
}  # fmt: skip
_CODES = {
    "50119": "it does not know the key, or the key was made on another of its sites (okx, myokx, okxus)",
    "50120": "the key lacks the right to read; make one with the permission Read",
    "51345": "there is no spot grid with this number",
}


class OkxGrids:
    """The spot grids of one account at OKX; see `grid_bots.GridBots`."""

    can_list = True

    def __init__(self, name: str, settings: CcxtVenue, key: Credentials, *, retry: Retry | None = None) -> None:
        self.connection = connect(name, settings, key, retry)

    def running(self) -> Listed:
        exchange, numbers, odd = self.connection.exchange, list[str](), list[str]()
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
        for bot_id in numbers:
            found = self._one(bot_id)
            if isinstance(found, str):
                odd.append(f"grid {bot_id}: {found}")
            elif found.state != "stopped":
                grids.append(found)
        return Listed(tuple(sorted(grids, key=lambda one: one.bot_id)), tuple(odd))

    def one(self, bot_id: str) -> BotGrid:
        found = self._one(checked_id(self.connection.label, bot_id))
        if isinstance(found, str):
            raise VenueError(f"{self.connection.label}: grid {bot_id}: {found}")
        return found

    def counted(self, bot: BotGrid) -> BotGrid:
        return bot

    def fills(self, bot: BotGrid, known: frozenset[str]) -> Fills | None:
        """The newest come first, and go on before the last one of a page, until a known one comes."""
        exchange, found = self.connection.exchange, dict[str, Fill | None]()
        after: dict[str, str] = {}
        is_whole = False
        for _ in range(_MOST_PAGES):
            asked = {"algoOrdType": _KIND, "algoId": bot.bot_id, "type": "filled", "limit": str(_PAGE), **after}
            rows = self._rows(lambda: exchange.privateGetTradingBotGridSubOrders(asked))  # noqa: B023 - called at once
            numbers = [str(row.get("ordId") or "") for row in rows]
            fresh = {one: _fill(row) for one, row in zip(numbers, rows, strict=True) if one and one not in found}
            found |= {one: fill for one, fill in fresh.items() if one not in known}
            if len(rows) < _PAGE or not known.isdisjoint(numbers):
                is_whole = True
                break
            if not fresh:
                break
            after = {"after": numbers[-1]}
        rows_of = [fill for fill in found.values() if fill is not None]
        is_whole = is_whole and len(rows_of) == len(found)
        return Fills(tuple(sorted(rows_of, key=lambda fill: (fill.at, len(fill.fill_id), fill.fill_id))), is_whole)

    def _one(self, bot_id: str) -> BotGrid | str:
        """A grid, or what of it cannot be."""
        exchange = self.connection.exchange
        rows = self._rows(
            lambda: exchange.privateGetTradingBotGridOrdersAlgoDetails({"algoOrdType": _KIND, "algoId": bot_id})
        )
        mine = [row for row in rows if str(row.get("algoId") or "") == bot_id]
        return _read(mine[0]) if mine else "the exchange tells nothing of it"

    def _rows(self, ask: Callable[[], Any]) -> list[Mapping[str, Any]]:
        """The rows of an answer; an error that stands in one of them is an error."""
        label = self.connection.label

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
            return self.connection.call(asked)
        except NotAnswered as failure:
            text = str(failure)
            said = next((said for code, said in _CODES.items() if re.search(rf'"code":"{code}"', text)), None)
            raise VenueError(f"{label}: {said or text}") from None


def _read(row: Mapping[str, Any]) -> BotGrid | str:
    """A grid of the details of one, or what of them cannot be."""
    if str(row.get("algoOrdType") or _KIND) != _KIND:
        return "it is no spot grid"
    symbol = str(row.get("instId") or "")
    if not re.fullmatch(r"[^\s/:-]+-[^\s/:-]+", symbol):
        return f"its market {symbol!r:.60} is no spot market"
    spacing, state = _SPACING.get(str(row.get("runType"))), _STATES.get(str(row.get("state")), "unknown")
    if spacing is None:
        return f"runType {row.get('runType')!r:.60} cannot be"
    return told(
        row,
        _NAMES,
        bot_id=str(row["algoId"]),
        symbol=symbol,
        state=state,
        convention="intervals",
        spacing=spacing,
        stop=below(row.get("minPx"), row.get("slTriggerPx"), *_stops(row.get("triggerParams"))),
        grid_profit=number(row.get("gridProfit")),
        total_pnl=number(row.get("totalPnl")),
        inventory=amount(row.get("curBaseSz")),
        cash=amount(row.get("curQuoteSz")),
        fills=whole(row.get("tradeNum")),
        ended_at=moment(row.get("uTime")) if state == "stopped" else None,
        ended_by=_ENDED_BY.get(str(row.get("cancelType") or "0"), "") if state == "stopped" else "",
    )


def _stops(triggers: Any) -> list[Any]:
    """The prices among its triggers that stop it."""
    return [
        one.get("triggerPx")
        for one in (triggers if isinstance(triggers, list) else ())
        if isinstance(one, dict) and (one.get("triggerAction"), one.get("triggerStrategy")) == ("stop", "price")
    ]


def _fill(row: Mapping[str, Any]) -> Fill | None:
    """A filled order; None where it cannot be one."""
    price = number(row.get("avgPx")) or number(row.get("px"))
    size, at = (
        number(row.get("accFillSz")) or number(row.get("sz")),
        moment(row.get("uTime")) or moment(row.get("cTime")),
    )
    if not price or price < 0 or not size or size < 0 or at is None or row.get("side") not in SIDES:
        return None
    # OKX writes what is paid as negative.
    fee = number(row.get("fee"))
    currency = str(row.get("feeCcy") or "") or None
    return Fill(str(row["ordId"]), at, str(row["side"]), price, size, None if fee is None else -fee, currency)
