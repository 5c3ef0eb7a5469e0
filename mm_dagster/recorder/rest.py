"""Requests to a venue: one deadline, a bound for the answer, no redirect, and no more of them than the venue allows."""

from __future__ import annotations

import asyncio
import random
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from mm_dagster.errors import ForeseenError
from mm_dagster.web import is_loopback

MOST_BYTES = 32 * 1024 * 1024
"""Of an answer."""
SECONDS = 15.0
"""For one, from the first packet to the last byte."""
WINDOW_SECONDS = 60.0
"""Over which venues count weights."""
SHARE = 0.5
"""Of what a venue allows: others on this address ask as well."""
_TOO_MANY, _BANNED = 429, 418
_WAITS = {_TOO_MANY: 10.0, _BANNED: 300.0}
"""Seconds, where a refusal does not say how long."""
_LONGEST_WAIT = 86_400.0
_WEIGHT = "X-MBX-USED-WEIGHT-1M"
_RESET = "gw-ratelimit-reset"
"""KuCoin's: milliseconds until the window is over."""


class RestError(ForeseenError):
    """A request brought no answer that counts. One line."""


@dataclass
class Pauses:
    """Growing pauses with full jitter between tries of the same thing.

    Attributes:
        chance: where the jitter comes from.
        first: seconds of the first pause at most; it doubles from there.
        most: seconds of any at most.
        calm: after so many seconds without a try all is forgotten.
        is_at_once: the first try of all needs no pause.
    """

    chance: random.Random
    first: float
    most: float
    calm: float
    is_at_once: bool = False
    _tries: int = 0
    _last: float = field(default=float("-inf"))

    def next(self) -> float:
        """Seconds to wait before the next try."""
        now = time.monotonic()
        if now - self._last > self.calm:
            self._tries = 0
        self._last = now
        tries, self._tries = self._tries, self._tries + 1
        if self.is_at_once:
            tries -= 1
        return 0.0 if tries < 0 else self.chance.uniform(0, min(self.most, self.first * 2.0 ** min(tries, 30)))

    def worked(self) -> None:
        """The last try brought what was wanted: the next pause is the first one again."""
        self._tries = min(self._tries, 1)


class Budget:
    """How much of what a venue allows is used, by its own word where it says so.

    Attributes:
        limit: weight a minute that the venue allows; None: it counts none.
    """

    def __init__(self, limit: int | None, now: Callable[[], float] = time.monotonic) -> None:
        """One of which nothing is used.

        Args:
            limit: see above.
            now: seconds of any beginning.
        """
        self.limit = limit
        self._now = now
        self._used = 0
        self._since = now()
        self._blocked_until = float("-inf")

    def wait(self, weight: int) -> float:
        """Seconds until a request of a weight may be sent; 0: now."""
        now = self._now()
        blocked = max(0.0, self._blocked_until - now)
        if self.limit is None or now - self._since >= WINDOW_SECONDS or not self._used:
            return blocked
        over = self._used + weight > self.limit * SHARE
        return max(blocked, self._since + WINDOW_SECONDS - now if over else 0.0)

    def take(self, weight: int) -> None:
        """A request is sent."""
        now = self._now()
        if now - self._since >= WINDOW_SECONDS:
            self._used, self._since = 0, now
        self._used += weight

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """What an answer says: its status and headers."""
        used = headers.get(_WEIGHT, "")
        if used.isascii() and used.isdigit() and len(used) < 10:
            # By the venue's own minute, which began at some time in ours.
            self._used = int(used)
        if status in _WAITS:
            self._blocked_until = max(self._blocked_until, self._now() + _waited(status, headers))


def _waited(status: int, headers: Mapping[str, str]) -> float:
    """Seconds that a refusal asks for."""
    for name, scale in (("Retry-After", 1.0), (_RESET, 0.001)):
        text = headers.get(name, "").strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return min(_LONGEST_WAIT, max(1.0, int(text) * scale))
    return _WAITS[status]


class Rest:
    """Requests to one venue."""

    def __init__(self, session: aiohttp.ClientSession, base: str, budget: Budget, seconds: float = SECONDS) -> None:
        """
        Args:
            session: whose connections are used.
            base: address, without a slash at its end.
            budget: of the venue.
            seconds: for one request.
        """
        self.budget = budget
        self.base = base.rstrip("/")
        self._session = session
        self._seconds = seconds

    async def get(self, path: str, params: Mapping[str, str] | None = None, weight: int = 1) -> bytes:
        """The body of an answer.

        Args:
            path: behind the address.
            params: of the query.
            weight: as the venue counts it.

        Raises:
            RestError: there is none.
        """
        return await self._ask("GET", path, params, weight)

    async def post(self, path: str) -> bytes:
        """Likewise, of a request that is posted without a body.

        Raises:
            RestError: there is none.
        """
        return await self._ask("POST", path, None, 1)

    async def _ask(self, method: str, path: str, params: Mapping[str, str] | None, weight: int) -> bytes:
        while (wait := self.budget.wait(weight)) > 0:
            await asyncio.sleep(wait)
        self.budget.take(weight)
        url = self.base + path
        try:
            async with asyncio.timeout(self._seconds):
                asked = self._session.request(method, url, params=params, allow_redirects=False, proxy=proxy_of(url))
                async with asked as answer:
                    self.budget.heard(answer.status, answer.headers)
                    body = await _body(answer)
        except TimeoutError:
            raise RestError(f"{path}: no answer within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RestError(f"{path}: {said(error)}") from None
        if answer.status != 200:
            raise RestError(f"{path}: answered {answer.status}: {body[:80]!r}")
        return body


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            raise ValueError(f"the answer is longer than {MOST_BYTES // 1024**2} MiB")
    return bytes(body)


def said(error: BaseException) -> str:
    """The first line of an error, with its kind; of an address no more than its path."""
    lines = re.sub(r"\?[^\s'\")]*", "", str(error)).splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def proxy_of(url: str) -> str | None:
    """The environment's proxy for an address, as for every other program; never for this computer."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    known = urllib.request.getproxies()
    return known.get("https" if parts.scheme in ("https", "wss") else "http") or known.get("all")
