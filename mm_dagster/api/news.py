"""Server-sent events: that something is new, to everybody who looks. What is new each of them asks for themselves.

One task looks at the lake, however many streams are open. `alive` comes every quarter of a minute, so that a page
knows that nobody fell silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

logger = logging.getLogger("mm_dagster.api")

LOOK_SECONDS = 2.0
ALIVE_SECONDS = 15.0
MOST_STREAMS = 500


class News:
    """The newest commit of the history, and who waits for the next one."""

    def __init__(self, look: Callable[[], int | None], *, look_seconds: float = LOOK_SECONDS) -> None:
        """
        Args:
            look: the number of the newest commit; None: not known. Called in a thread.
            look_seconds: how often.
        """
        self._look, self._pause = look, look_seconds
        self.newest: int | None = None
        self._changed = asyncio.Condition()
        self.streams = 0

    async def watch(self) -> None:
        """Looks until it is cancelled; a lake that cannot be read is no news."""
        while True:
            try:
                found = await asyncio.to_thread(self._look)
            except Exception as error:
                logger.info("the history could not be looked at: %s", error)
                found = self.newest
            if found is not None and found != self.newest:
                async with self._changed:
                    self.newest = found
                    self._changed.notify_all()
            await asyncio.sleep(self._pause)

    async def stream(self, seen: int | None = None) -> AsyncIterator[str]:
        """Events for one reader, until it goes.

        Args:
            seen: the commit that it knows already; it is told at once of a newer one.
        """
        self.streams += 1
        try:
            yield "retry: 3000\n\n"
            known = self.newest if seen is None else seen
            while True:
                if self.newest is not None and self.newest != known:
                    known = self.newest
                    yield f"id: {known}\nevent: changed\ndata: {known}\n\n"
                    continue
                try:
                    async with asyncio.timeout(ALIVE_SECONDS), self._changed:
                        await self._changed.wait()
                except TimeoutError:
                    yield "event: alive\ndata: \n\n"
        finally:
            self.streams -= 1
