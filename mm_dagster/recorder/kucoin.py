"""KuCoin spot: a public token for the socket, level2, match and ticker, and the hundred best levels by request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from mm_dagster.books.ladder import MessageError, Scale
from mm_dagster.books.messages import decoded
from mm_dagster.books.sync import Rule
from mm_dagster.recorder.rest import Rest
from mm_dagster.recorder.scales import decimals_of, roomy
from mm_dagster.recorder.venue import Opening, Question, Venue, VenueError, answer_of, scales_of

AMOUNT_DECIMALS = 11
"""The most that KuCoin was ever seen to send, finer than the market's own step."""
TOPICS = ("/market/level2", "/market/match", "/market/ticker")
_TIME = re.compile(rb'"[tT]ime":\s*"?([0-9]{13})([0-9]{6})?[",}\s]')


class Kucoin(Venue):
    """KuCoin spot. One topic names up to a hundred markets."""

    exchange = "kucoin"
    rule = Rule.KUCOIN
    api_url = "https://api.kucoin.com"
    most_markets = 100
    depth = 100

    async def scales(self, rest: Rest) -> dict[str, Scale]:
        """Of every market that trades."""
        return scales_of(_data(await rest.get("/api/v2/symbols"), "symbols", list), "symbols", _scale)

    async def opening(self, rest: Rest, names: Sequence[str], socket_url: str | None) -> Opening:
        """With a token of its own for each connection."""
        found = _data(await rest.post("/api/v1/bullet-public"), "bullet-public", dict)
        try:
            server, token = found["instanceServers"][0], found["token"]
            url, seconds = socket_url or server["endpoint"], float(server["pingInterval"]) / 1000
            patience = float(server["pingTimeout"]) / 1000
            if not isinstance(token, str) or not isinstance(url, str):
                raise TypeError("no text")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise VenueError(f"bullet-public: names no server: {type(error).__name__}") from None
        if urlsplit(url).scheme != "wss" and rest.base.startswith("https:"):
            raise VenueError(f"bullet-public: names a server without encryption: {url[:60]!r}")
        seconds, patience = min(max(seconds, 1.0), 60.0), min(max(patience, 1.0), 60.0)
        subscribe = tuple(
            json.dumps(
                {"id": str(number), "type": "subscribe", "topic": f"{topic}:{','.join(names)}", "response": True}
            )
            for number, topic in enumerate(TOPICS, 1)
        )
        return Opening(
            f"{url}?token={token}&connectId=mm",
            subscribe,
            greets=True,
            acks=len(subscribe),
            ping='{"id":"ping","type":"ping"}',
            ping_seconds=seconds,
            silence=seconds + patience,
        )

    def question(self, name: str) -> Question:
        """The hundred best levels; the whole book is for those who log in."""
        return Question("/api/v1/market/orderbook/level2_100", {"symbol": name})

    def is_ack(self, payload: bytes) -> bool:
        """Whether a subscription is confirmed."""
        return _kind(payload) == "ack"

    def refusal(self, payload: bytes) -> str | None:
        """What is refused."""
        return f"refused: {payload[:80]!r}" if _kind(payload) == "error" else None

    def event_ms(self, payload: bytes) -> int | None:
        """Milliseconds; of a trade it says nanoseconds."""
        found = _TIME.search(payload)
        return int(found[1]) if found else None


def _kind(payload: bytes) -> object:
    try:
        return decoded(payload).get("type")
    except MessageError:
        return None


def _data(body: bytes, what: str, kind: type) -> Any:
    found = answer_of(body, what)
    if not isinstance(found, dict) or found.get("code") != "200000" or not isinstance(found.get("data"), kind):
        raise VenueError(f"{what}: refused: {body[:80]!r}")
    return found["data"]


def _scale(row: Mapping[str, Any]) -> tuple[str, Scale]:
    least = decimals_of(row["baseIncrement"])
    amount = roomy(least, max(least, AMOUNT_DECIMALS), row["baseMinSize"])
    return row["symbol"], Scale(decimals_of(row["priceIncrement"]), amount)
