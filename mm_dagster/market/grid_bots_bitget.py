"""Bitget's spot grids, of a unified account: each by its number, since no call lists them.

Bitget does not say what `gridNum` counts. The prices of the orders that wait tell it. Its profit is in USDT whatever
the market, and is left out where prices are in another currency. Source: Bitget API v3, Grid trading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import ccxt
import numpy as np

from mm_dagster.config.grid import LevelConvention, Spacing, prices
from mm_dagster.market.connection import NotAnswered
from mm_dagster.market.grid_bots import BotGrid, OneByOne, State, amount, below, checked_id, moment, number, told, whole
from mm_dagster.market.venue import VenueError

_NAMES = {
    "lower": "minPrice", "upper": "maxPrice", "levels": "gridNum", "capital": "quoteInvestmentAmount",
    "activated_at": "createdTime",
}  # fmt: skip
_SPACING: Mapping[str, Spacing] = {"arithmetic": "arithmetic", "geometric": "geometric"}
_STATES: Mapping[str, State] = {
    "init": "starting", "waiting": "starting", "running": "running", "terminating": "stopping", "terminated": "stopped",
}  # fmt: skip
_OF_CONTRACTS = ("long", "short", "neutral", "netural")
"""Values of gridType that only grids of contracts have; Bitget writes the last one so."""
_NEAR = 1e-4
"""How far a waiting order may be from a price of the grid, as a share of it: prices are cut to the tick."""


class BitgetGrids(OneByOne):
    """The spot grids of one account at Bitget; see `grid_bots.GridBots`."""

    def one(self, bot_id: str) -> BotGrid:
        label, exchange = self.connection.label, self.connection.exchange
        asked = {"botId": checked_id(label, bot_id)}
        row = self._row(bot_id, lambda: exchange.privateUtaGetV3TradeGridBotDetail(asked))
        if str(row.get("botId") or "") != bot_id:
            raise VenueError(f"{label}: grid {bot_id}: the exchange tells nothing of it")
        found = _read(row)
        if isinstance(found, str):
            raise VenueError(f"{label}: grid {bot_id}: {found}")
        return found

    def counted(self, bot: BotGrid) -> BotGrid:
        """A grid with what its number of grids counts, by the orders that wait.

        Raises:
            VenueError: the exchange does not answer, or refuses.
        """
        exchange = self.connection.exchange
        asked = {"botId": bot.bot_id}
        row = self._row(bot.bot_id, lambda: exchange.privateUtaGetV3TradeGridListDetails(asked))
        lists = [row.get("buyOrderList"), row.get("sellOrderList")]
        orders = [one for side in lists if isinstance(side, list) for one in side if isinstance(one, dict)]
        convention = _convention(bot, [number(one.get("delegatePrice")) for one in orders])
        if convention is not None:
            return replace(bot, convention=convention)
        doubt = "Bitget does not say whether it counts intervals or prices, and its waiting orders do not tell"
        return replace(bot, doubts={**bot.doubts, "convention": doubt})

    def _row(self, bot_id: str, ask: Callable[[], Any]) -> Mapping[str, Any]:
        """What an answer of a grid holds."""

        def asked() -> Mapping[str, Any]:
            answer = ask()
            code = str(answer.get("code", "00000")) if isinstance(answer, dict) else ""
            if code not in ("00000", "0"):
                raise NotAnswered(f"it refuses ({code}: {str(answer.get('msg') or '')[:120]})")
            if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
                raise ccxt.NullResponse("no grid")
            return dict(answer["data"])

        try:
            return self.connection.call(asked)
        except NotAnswered as failure:
            raise VenueError(f"{self.connection.label}: grid {bot_id}: {failure}") from None


def _convention(bot: BotGrid, orders: list[float | None]) -> LevelConvention | None:
    """What `gridNum` counts, if only one way to count has a price for each waiting order."""
    waiting = np.array([price for price in orders if price], dtype=np.float64)
    if waiting.size < 2 or bot.spacing is None:
        return None
    fits: list[LevelConvention] = []
    conventions: tuple[LevelConvention, ...] = ("intervals", "levels")
    for convention in conventions:
        if convention == "levels" and bot.levels < 2:
            continue
        grid = prices(bot.lower, bot.upper, bot.levels, convention, bot.spacing)
        nearest = np.min(np.abs(waiting[:, None] - grid[None, :]) / grid[None, :], axis=1)
        if bool(np.all(nearest <= _NEAR)):
            fits.append(convention)
    return fits[0] if len(fits) == 1 else None


def _read(row: Mapping[str, Any]) -> BotGrid | str:
    """A grid of the details of one, or what of them cannot be."""
    if str(row.get("gridType") or "").lower() in _OF_CONTRACTS:
        return "it is no spot grid"
    symbol = _symbol(row)
    if symbol is None:
        return f"its market {row.get('symbol')!r:.60} cannot be told apart into its two currencies"
    spacing = _SPACING.get(str(row.get("gridOrderMode")))
    if spacing is None:
        return f"gridOrderMode {row.get('gridOrderMode')!r:.60} cannot be"
    quote, base = amount(row.get("quoteInvestmentAmount")) or 0.0, amount(row.get("baseInvestmentAmount")) or 0.0
    began = number(row.get("gridStartPrice"))
    doubts = {}
    if base and not began:
        doubts["capital"] = f"{base:g} in the base currency were put in, too, and at which price is not told"
    state = _STATES.get(str(row.get("status")), "unknown")
    created, lasted = moment(row.get("createdTime")), amount(row.get("runningTime"))
    over = created + timedelta(milliseconds=lasted) if state == "stopped" and created and lasted else None
    in_usdt = symbol.endswith("-USDT")
    return told(
        row,
        _NAMES,
        bot_id=str(row["botId"]),
        symbol=symbol,
        state=state,
        capital=quote + base * (began or 0.0),
        spacing=spacing,
        stop=below(row.get("minPrice"), row.get("stopLoss")),
        grid_profit=number(row.get("gridProfit")) if in_usdt else None,
        total_pnl=number(row.get("totalProfit")) if in_usdt else None,
        inventory=amount(row.get("currentBaseBalance")),
        cash=amount(row.get("currentQuoteBalance")),
        fills=whole(row.get("tradeNum")),
        ended_at=over,
        doubts=doubts,
    )


_QUOTES = ("USDT", "USDC", "EUR", "USD", "BTC", "ETH", "BRL", "TRY")
"""Currencies that prices are in, where the row does not name it."""


def _symbol(row: Mapping[str, Any]) -> str | None:
    """Its market as BASE-QUOTE."""
    name = str(row.get("symbol") or "").upper()
    named = str(row.get("quoteInvestmentCoin") or "").upper()
    quote = next((one for one in (named, *_QUOTES) if one and name.endswith(one) and name != one), None)
    return f"{name.removesuffix(quote)}-{quote}" if quote else None
