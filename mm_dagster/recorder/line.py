"""One connection to a venue's socket, from its address to its end; it is given up where nothing comes any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import aiohttp

from mm_dagster.books.follow import Stream
from mm_dagster.errors import ForeseenError
from mm_dagster.recorder.rest import Rest, proxy_of, said
from mm_dagster.recorder.venue import Opening, Venue

MOST_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of a message; a connection that brings a longer one is ended."""
CLOSE_SECONDS = 0.4
"""For the farewell of the other side."""
_TEXT, _BINARY = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY


@dataclass(frozen=True)
class Pace:
    """How long a feed waits, seconds.

    Attributes:
        first_pause: before something is tried once more, at most; it doubles with each failure.
        most_pause: of any such pause.
        calm: after so long without a failure the next one counts as the first.
        patience: for an answer, a connection, a greeting, what a subscription brings.
        instruments: between two looks at the venue's markets.
        missing: likewise, while it does not know one of ours.
        overlap: that two connections are open where the older one ends by the venue's rule.
        silence: after which a connection is dead, in the place of what the venue says; None: that.
        lifetime: of a connection, likewise.
    """

    first_pause: float = 1.0
    most_pause: float = 60.0
    calm: float = 180.0
    patience: float = 15.0
    instruments: float = 3600.0
    missing: float = 300.0
    overlap: float = 5.0
    silence: float | None = None
    lifetime: float | None = None


class Line:
    """A connection.

    Attributes:
        number: rising in a feed.
        stream: the name that its messages have in a log.
        decided: set when it is open or will never be.
        is_open: everything was subscribed, and it has not ended.
        lifetime: seconds after which the next one should be open; None: it may live for ever.
        why: why it ended.
        acks: subscriptions that the venue confirmed.
        task: its life; set by `begin`.
    """

    task: asyncio.Task[None]

    def __init__(
        self, number: int, venue: Venue, rest: Rest, session: aiohttp.ClientSession, pace: Pace, socket_url: str | None
    ) -> None:
        """
        Args:
            number: rising.
            venue: whose.
            rest: for venues that are asked before.
            session: whose connections are used.
            pace: how long it waits.
            socket_url: where the socket is; None: at its public address.
        """
        self.number = number
        self.stream = Stream.PUSHED.named(number)
        self.decided = asyncio.Event()
        self.is_open = False
        self.lifetime: float | None = pace.lifetime
        self.why = "it was not opened"
        self.acks = 0
        self._venue, self._rest, self._session, self._pace = venue, rest, session, pace
        self._socket_url = socket_url
        self._socket: aiohttp.ClientWebSocketResponse[Literal[False]] | None = None
        self._heard_at = 0.0

    def begin(
        self,
        names: Sequence[str],
        opened: Callable[[Line], None],
        take: Callable[[Line, bytes], str | None],
        ended: Callable[[Line], None],
    ) -> Line:
        """Starts its life.

        Args:
            names: of its markets, as the venue calls them.
            opened: is called when everything is subscribed.
            take: with each message; a text: the connection is worth nothing, and why.
            ended: when it is over, also where it never was open.
        """
        self.task = asyncio.create_task(self._live(names, opened, take, ended))
        return self

    async def end(self) -> None:
        """Ends it, and waits until it is over."""
        self.task.cancel()
        await asyncio.wait({self.task})

    async def send(self, texts: Sequence[str]) -> None:
        """Sends messages; where it has ended, nothing."""
        with suppress(aiohttp.ClientError, OSError, TimeoutError, RuntimeError):
            if self._socket is not None and self.is_open:
                async with asyncio.timeout(self._pace.patience):
                    for text in texts:
                        await self._socket.send_str(text)

    async def _live(
        self,
        names: Sequence[str],
        opened: Callable[[Line], None],
        take: Callable[[Line, bytes], str | None],
        ended: Callable[[Line], None],
    ) -> None:
        try:
            opening = await self._connect(names)
            self.is_open = True
            opened(self)
            self.decided.set()
            watch = asyncio.create_task(self._watch(opening))
            try:
                said_by_them = await self._read(take)
                self.why = said_by_them if self.is_open else self.why
            finally:
                watch.cancel()
        except asyncio.CancelledError:
            self.why = "the recorder ended it"
            raise
        except TimeoutError:
            self.why = f"no connection within {self._pace.patience:g} s"
        except aiohttp.WSServerHandshakeError as error:
            self._rest.budget.heard(error.status, error.headers or {})
            self.why = f"refused with {error.status}"
        except (ForeseenError, aiohttp.ClientError, OSError, ValueError) as error:
            self.why = str(error) if isinstance(error, ForeseenError) else said(error)
        finally:
            self.is_open = False
            ended(self)
            self.decided.set()
            await self._close()

    async def _connect(self, names: Sequence[str]) -> Opening:
        """Opens it, and subscribes.

        Raises:
            ForeseenError, aiohttp.ClientError, OSError, ValueError, TimeoutError: it cannot be.
        """
        pace = self._pace
        opening = await self._venue.opening(self._rest, names, self._socket_url)
        self.lifetime = pace.lifetime or opening.lifetime
        silence = pace.silence or opening.silence
        async with asyncio.timeout(pace.patience):
            self._socket = await self._session.ws_connect(
                opening.url,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                heartbeat=silence / 2,
                max_msg_size=MOST_MESSAGE_BYTES,
                decode_text=False,
                proxy=proxy_of(opening.url),
            )
            if opening.greets:
                greeting = await self._socket.receive()
                refused = self._venue.refusal(greeting.data) if greeting.type is _TEXT else f"{greeting.type.name}"
                if refused:
                    raise ValueError(f"no greeting: {refused}")
            for text in opening.subscribe:
                await self._socket.send_str(text)
        self._heard_at = time.monotonic()
        return opening

    async def _read(self, take: Callable[[Line, bytes], str | None]) -> str:
        """Takes messages until there are none any more; returns why."""
        assert self._socket is not None
        receive = self._socket.receive
        while True:
            message = await receive()
            kind = message.type
            if kind is _TEXT or kind is _BINARY:
                self._heard_at = time.monotonic()
                refused = take(self, message.data)
                if refused is not None:
                    return refused
            elif kind is aiohttp.WSMsgType.ERROR:
                return said(message.data) if isinstance(message.data, BaseException) else "an error of the connection"
            else:
                return f"closed by the other side with {self._socket.close_code}"

    async def _watch(self, opening: Opening) -> None:
        """Sends pings, and closes it where nothing comes any more."""
        silence = self._pace.silence or opening.silence
        step = min(1.0, silence / 4, opening.ping_seconds)
        began = pinged = time.monotonic()
        while True:
            await asyncio.sleep(step)
            now = time.monotonic()
            if now - self._heard_at > silence:
                why = f"nothing came for {silence:g} s"
                break
            if self.acks < opening.acks and now - began > self._pace.patience:
                why = f"{self.acks} of {opening.acks} subscriptions were confirmed within {self._pace.patience:g} s"
                break
            if opening.ping is not None and now - pinged >= opening.ping_seconds:
                pinged = now
                await self.send([opening.ping])
        self.why, self.is_open = why, False
        await self._close()

    async def _close(self) -> None:
        if self._socket is not None:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._socket.close()
