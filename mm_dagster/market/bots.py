"""An exchange's own grid bot is asked to stop: OKX's. The only module that names a method which does.

OKX's `stop-order-algo` knows two ways for a spot grid: stopType 2 keeps the coins, which the order machine then sells
with a limit; stopType 1 sells them at market, where no limit holds, and is for those who chose it. What OKX answers
proves nothing; the bot's own details do. Bitget and Bybit can stop a bot by its number, but were never tried; KuCoin
and Binance have no API for their bots at all. Source: OKX API guide v5, Grid Trading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market import strict
from mm_dagster.market.account import Credentials
from mm_dagster.market.connection import NotAnswered
from mm_dagster.market.grid_bots import checked_id
from mm_dagster.market.order_venue import GridStop, StopState
from mm_dagster.market.trading import TradeConnection
from mm_dagster.market.venue import VenueError

_OKX = ("okx", "myokx", "okxus")
_KIND = "grid"
_KEEP, _SELL = "2", "1"
_STATES: Mapping[str, StopState] = {
    "starting": "running", "pending_signal": "running", "running": "running", "stopping": "stopping",
    "stopped": "stopped",
}  # fmt: skip
"""`no_close_position` is of contracts; a spot grid in it is not understood."""


def can_stop(exchange: str) -> bool:
    """Whether a program can stop a grid bot of an exchange."""
    return exchange in _OKX


def open_stop(
    name: str, settings: CcxtVenue, key: Credentials, bot_id: str, symbol: str, *, sells: bool, test: bool = False
) -> GridStop:
    """The bot of a grid.

    Args:
        name: of the venue in markets.yaml.
        settings: which exchange, at which address.
        key: that may trade.
        bot_id: the exchange's number of the bot.
        symbol: its market.
        sells: whether it is to sell what it holds, at market.
        test: whether it is one of OKX's demo account.

    Raises:
        VenueError: no program can stop it, or the key lacks a part.
    """
    if not can_stop(settings.exchange):
        raise VenueError(
            f"{name}: no program can stop a grid bot of {settings.exchange}: stop it there yourself, and let it keep "
            "its coins"
        )
    return OkxGridStop(TradeConnection(name, settings, key, is_demo=test), bot_id, symbol, sells=sells)


class OkxGridStop:
    """One spot grid of OKX; see `GridStop`."""

    def __init__(self, connection: TradeConnection, bot_id: str, symbol: str, *, sells: bool) -> None:
        """
        Args:
            connection: to the account of the grid.
            bot_id: its number.
            symbol: its market.
            sells: whether it is to sell what it holds, at market.

        Raises:
            VenueError: it is no number of a grid.
        """
        self._connection, self._symbol, self._sells = connection, symbol, sells
        self._bot_id = checked_id(connection.label, bot_id)

    def state(self) -> StopState:
        """How it stands; `unknown` also where it was to sell and did not."""
        row = self._connection.ask(self._details)
        found = _STATES.get(str(row.get("state")), "unknown")
        if found == "stopped" and self._sells and str(row.get("stopResult")) != "1":
            return "unknown"
        return found

    def stop(self) -> None:
        """Asks for it to be stopped, once."""
        asked = {
            "algoId": self._bot_id, "instId": self._symbol, "algoOrdType": _KIND,
            "stopType": _SELL if self._sells else _KEEP,
        }  # fmt: skip

        def request(client: Any) -> None:
            rows = strict.of_okx(client.privatePostTradingBotGridStopOrderAlgo([asked]))
            if [row.get("algoId") for row in rows] != [self._bot_id]:
                raise NotAnswered("it does not say that it stops the grid")

        self._connection.ask(request)

    def _details(self, client: Any) -> Mapping[str, Any]:
        rows = strict.of_okx(
            client.privateGetTradingBotGridOrdersAlgoDetails({"algoOrdType": _KIND, "algoId": self._bot_id})
        )
        mine = [row for row in rows if row.get("algoId") == self._bot_id]
        if len(mine) != 1:
            raise NotAnswered(f"it tells nothing of grid {self._bot_id}")
        if mine[0].get("instId") != self._symbol or mine[0].get("algoOrdType", _KIND) != _KIND:
            raise NotAnswered(f"grid {self._bot_id} is no spot grid of {self._symbol}")
        return mine[0]
