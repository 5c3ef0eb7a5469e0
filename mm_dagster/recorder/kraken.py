"""Kraken spot, version 2 of its socket: written after its documentation, and never tried against Kraken itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mm_dagster.books.ladder import Scale
from mm_dagster.books.sync import Rule
from mm_dagster.recorder.rest import Rest
from mm_dagster.recorder.venue import Opening, Venue, VenueError, answer_of, scales_of

_TIME = re.compile(rb'"timestamp":\s*"([0-9T:.\-]{19,32})Z"')
_OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
"""What its requests still call otherwise than its socket."""


class Kraken(Venue):
    """Kraken spot: a book comes with its subscription, and is checked by a checksum."""

    exchange = "kraken"
    rule = Rule.KRAKEN
    api_url = "https://api.kraken.com"
    socket_url = "wss://ws.kraken.com/v2"

    def __init__(self, depth: int) -> None:
        """
        Args:
            depth: levels of a side; one of those that Kraken knows.
        """
        self.depth = depth

    async def scales(self, rest: Rest) -> dict[str, Scale]:
        """Exactly the decimals that it sends: its checksum is over digits."""
        found = answer_of(await rest.get("/0/public/AssetPairs"), "AssetPairs")
        if not isinstance(found, dict) or found.get("error") or not isinstance(found.get("result"), dict):
            raise VenueError(f"AssetPairs: refused: {found!r:.80}")
        return scales_of(found["result"].values(), "AssetPairs", _scale)

    async def opening(self, rest: Rest, names: Sequence[str], socket_url: str | None) -> Opening:
        """A heartbeat comes each second where nothing else does."""
        subscribe = (
            self._asked("subscribe", "book", names),
            _sent("subscribe", {"channel": "trade", "symbol": list(names), "snapshot": False}),
            _sent("subscribe", {"channel": "ticker", "symbol": list(names)}),
        )
        return Opening(socket_url or self.socket_url, subscribe, ping='{"method":"ping"}', silence=20.0)

    def resubscription(self, name: str) -> tuple[str, ...]:
        """The first message of a subscription is the whole book."""
        return self._asked("unsubscribe", "book", [name]), self._asked("subscribe", "book", [name])

    def event_ms(self, payload: bytes) -> int | None:
        """Of changes and trades."""
        found = _TIME.search(payload)
        if found is None:
            return None
        try:
            return round(datetime.fromisoformat(f"{found[1].decode()}+00:00").timestamp() * 1000)
        except ValueError:
            return None

    def _asked(self, method: str, channel: str, names: Sequence[str]) -> str:
        return _sent(method, {"channel": channel, "symbol": list(names), "depth": self.depth})


def _sent(method: str, params: Mapping[str, Any]) -> str:
    return json.dumps({"method": method, "params": params})


def _scale(row: Mapping[str, Any]) -> tuple[str, Scale]:
    base, _, quote = row["wsname"].partition("/")
    name = f"{_OLD_NAMES.get(base, base)}/{_OLD_NAMES.get(quote, quote)}"
    return name, Scale(int(row["pair_decimals"]), int(row["lot_decimals"]))
