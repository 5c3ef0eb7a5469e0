"""Binance spot and its USDT perpetuals: combined streams, the book by request, weights, and a limit of 24 hours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mm_dagster.books.ladder import Scale
from mm_dagster.books.sync import Rule
from mm_dagster.recorder.rest import Rest
from mm_dagster.recorder.scales import roomy
from mm_dagster.recorder.venue import Opening, Question, Venue, VenueError, answer_of, scales_of

LIFETIME_SECONDS = 24 * 3600.0 - 600.0
"""Binance ends a connection after 24 hours: ten minutes before, the next one is opened."""
STREAMS = ("depth@100ms", "bookTicker", "aggTrade")
_TIME = re.compile(rb'"E":\s*([0-9]{13})[,}\s]')


class Binance(Venue):
    """Binance spot."""

    exchange = "binance"
    rule = Rule.BINANCE
    api_url = "https://api.binance.com"
    most_markets = 50  # their streams stand in the address
    depth = 5000
    limit = 6000
    socket_url = "wss://stream.binance.com:9443"
    _depth_path, _depth_weight = "/api/v3/depth", 250
    _info_path, _info_weight = "/api/v3/exchangeInfo", 20

    async def scales(self, rest: Rest) -> dict[str, Scale]:
        """Of every market that trades; the answer says how much may be asked for, too."""
        found = answer_of(await rest.get(self._info_path, weight=self._info_weight), "exchangeInfo")
        if not isinstance(found, dict) or not isinstance(found.get("symbols"), list):
            raise VenueError("exchangeInfo: has no symbols")
        rest.budget.limit = _limit(found) or rest.budget.limit
        return scales_of(found["symbols"], "exchangeInfo", self._scale)

    async def opening(self, rest: Rest, names: Sequence[str], socket_url: str | None) -> Opening:
        """What is wanted stands in the address."""
        streams = "/".join(f"{name.lower()}@{stream}" for name in names for stream in STREAMS)
        base = (socket_url or self.socket_url).rstrip("/")
        return Opening(f"{base}/stream?streams={streams}", lifetime=LIFETIME_SECONDS)

    def question(self, name: str) -> Question:
        """As many levels as it shows."""
        return Question(self._depth_path, {"symbol": name, "limit": str(self.depth)}, self._depth_weight)

    def event_ms(self, payload: bytes) -> int | None:
        """Of changes and trades; the best prices of spot have no time."""
        found = _TIME.search(payload)
        return int(found[1]) if found else None

    @staticmethod
    def _scale(row: Mapping[str, Any]) -> tuple[str, Scale]:
        """With the decimals that it sends: orders of before outlive a step that became coarser."""
        (smallest,) = (one["minQty"] for one in row["filters"] if one["filterType"] == "LOT_SIZE")
        return row["symbol"], Scale(int(row["quotePrecision"]), roomy(0, int(row["baseAssetPrecision"]), smallest))


class BinanceUsdm(Binance):
    """The USDT perpetuals of Binance."""

    exchange = "binance_usdm"
    rule = Rule.BINANCE_USDM
    api_url = "https://fapi.binance.com"
    depth = 1000
    limit = 2400
    socket_url = "wss://fstream.binance.com"
    _depth_path, _depth_weight = "/fapi/v1/depth", 20
    _info_path, _info_weight = "/fapi/v1/exchangeInfo", 1

    @staticmethod
    def _scale(row: Mapping[str, Any]) -> tuple[str, Scale]:
        if row["contractType"] != "PERPETUAL":
            raise ValueError("no perpetual")
        return row["symbol"], Scale(int(row["pricePrecision"]), int(row["quantityPrecision"]))


def _limit(found: Mapping[str, Any]) -> int | None:
    """Weight a minute that the answer allows; None: it says nothing of it."""
    for row in found.get("rateLimits") or ():
        if (
            isinstance(row, dict)
            and (row.get("rateLimitType"), row.get("interval"), row.get("intervalNum"))
            == ("REQUEST_WEIGHT", "MINUTE", 1)
            and isinstance(row.get("limit"), int)
            and row["limit"] > 0
        ):
            return int(row["limit"])
    return None
