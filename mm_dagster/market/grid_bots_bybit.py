"""Bybit's spot grids: each by its number, since no call lists them, and ccxt has no method for the call that there is.

Bybit tells neither what a grid holds nor how its prices are spaced: what it holds stays modelled, and the spacing is
asked for. Source: Bybit API v5, Trading Bot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ccxt

from mm_dagster.market.connection import NotAnswered
from mm_dagster.market.grid_bots import BotGrid, OneByOne, State, amount, below, checked_id, moment, number, told
from mm_dagster.market.venue import VenueError

_PATH = "v5/grid/query-grid-detail"
_NAMES = {
    "lower": "min_price", "upper": "max_price", "levels": "cell_number", "capital": "total_investment",
    "activated_at": "create_time",
}  # fmt: skip
_STATES: Mapping[str, State] = {
    "RAW": "starting", "NEW": "starting", "INITIALIZING": "starting", "RUNNING": "running", "CANCELLING": "stopping",
    "COMPLETED": "stopped", "REJECTED": "stopped",
}  # fmt: skip
_ENDED_BY = {
    "CLOSED_MANUALLY": "by hand", "CLOSED_STOP_LOSS": "by its stop price",
    "CLOSED_TAKE_PROFIT": "by its take-profit price", "CLOSED_TRAILING_STOP": "by its trailing stop",
    "CLOSED_SYMBOL_DELISTED": "since its market was delisted",
    "CLOSED_FAILED_INITIATION": "since it could not begin", "CLOSED_USER_BAN": "since the account is banned",
}  # fmt: skip


class BybitGrids(OneByOne):
    """The spot grids of one account at Bybit; see `grid_bots.GridBots`."""

    def one(self, bot_id: str) -> BotGrid:
        label, exchange = self.connection.label, self.connection.exchange
        asked_for = checked_id(label, bot_id)

        def asked() -> Mapping[str, Any]:
            answer = exchange.request(_PATH, ["private"], "POST", {"grid_id": asked_for})
            result = answer.get("result") if isinstance(answer, dict) else None
            if not isinstance(result, dict):
                raise ccxt.NullResponse("no grid")
            # An error stands in either of two places, whatever the status says.
            for code, words in ((answer.get("retCode", 0), "retMsg"), (result.get("status_code", 200), "debug_msg")):
                if str(code) not in ("0", "200"):
                    said = str(answer.get(words) or result.get(words) or "")[:120]
                    raise NotAnswered(f"it refuses ({code}{': ' + said if said else ''})")
            if not isinstance(result.get("detail"), dict):
                raise NotAnswered("the exchange tells nothing of it")
            return dict(result["detail"])

        try:
            row = self.connection.call(asked)
        except NotAnswered as failure:
            raise VenueError(f"{label}: grid {bot_id}: {failure}") from None
        if str(row.get("grid_id") or "") != bot_id:
            raise VenueError(f"{label}: grid {bot_id}: the exchange tells nothing of it")
        found = _read(row)
        if isinstance(found, str):
            raise VenueError(f"{label}: grid {bot_id}: {found}")
        return found


def _read(row: Mapping[str, Any]) -> BotGrid | str:
    """A grid of the details of one, or what of them cannot be."""
    base, quote = (str(row.get(name) or "").upper() for name in ("base_token", "quote_token"))
    if not base or not quote:
        return f"its market {row.get('symbol')!r:.60} cannot be told apart into its two currencies"
    state = _STATES.get(str(row.get("status")), "unknown")
    return told(
        row,
        _NAMES,
        bot_id=str(row["grid_id"]),
        symbol=f"{base}-{quote}",
        state=state,
        convention="intervals",
        stop=below(row.get("min_price"), row.get("stop_loss_price")),
        maker_fee=amount(row.get("maker_fee_rate")),
        grid_profit=number(row.get("grid_profit")),
        total_pnl=number(row.get("total_profit")),
        ended_at=moment(row.get("end_time")) if state == "stopped" else None,
        ended_by=_ENDED_BY.get(str(row.get("close_reason")), "") if state == "stopped" else "",
        doubts={"spacing": "Bybit does not tell it; compare the ladder with the orders on the grid's page"},
    )
