"""Server-sent events: that something is new, to everybody who looks. What is new each of them asks for themselves.

One task looks at the lake, however many streams are open. `alive` comes every quarter of a minute, so that a page
knows that nobody fell silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from mm_dagster.history.memory import Stamp

logger = logging.getLogger("mm_dagster.api")

LOOK_SECONDS = 2.0
ALIVE_SECONDS = 15.0
MOST_STREAMS = 500


class News:
    """The newest commit of the history, and who waits for the next one."""

    def __init__(
        self,
        look: Callable[[], Stamp],
        settled: Callable[[], None] = lambda: None,
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """
        Args:
            look: what tells the history now from the history before. Called in a thread.
            settled: is called in a thread after a change, as soon as a look finds no other.
            look_seconds: how often.
        """
        self._look, self._settled, self._pause = look, settled, look_seconds
        self.newest: Stamp | None = None
        self._changed = asyncio.Condition()
        self.streams = 0

    async def watch(self) -> None:
        """Looks until it is cancelled; a lake that cannot be read is no news."""
        is_settled = True
        while True:
            try:
                found = await asyncio.to_thread(self._look)
                if found != self.newest:
                    is_settled = False
                    async with self._changed:
                        self.newest = found
                        self._changed.notify_all()
                elif not is_settled:
                    is_settled = True
                    await asyncio.to_thread(self._settled)
            except Exception as error:
                logger.info("the history could not be looked at: %s", error)
            await asyncio.sleep(self._pause)

    async def stream(self, seen: int | None = None) -> AsyncIterator[str]:
        """Events for one reader, until it goes.

        Args:
            seen: the number of the commit that it knows already; it is told at once of another one.
        """
        self.streams += 1
        try:
            yield "retry: 3000\n\n"
            known = self.newest
            told = seen is None or (known is not None and known.number == seen)
            while True:
                if self.newest is not None and (self.newest != known or not told):
                    known, told = self.newest, True
                    yield f"id: {known.number or 0}\nevent: changed\ndata: {known.number or 0}\n\n"
                    continue
                try:
                    # Looked at under the lock: a change while this one waited for it is no less a change.
                    async with asyncio.timeout(ALIVE_SECONDS), self._changed:
                        while self.newest == known:
                            await self._changed.wait()
                except TimeoutError:
                    yield "event: alive\ndata: \n\n"
        finally:
            self.streams -= 1
