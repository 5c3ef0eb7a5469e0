"""What was gathered for a page, kept while it is true: until the next commit, another configuration, the next minute.

Every request reads the configuration and asks the lake for its newest commit; only what follows from the same of both
is shown again. How long ago something was is said in minutes, and what grows old does so at a full minute, so a page
is gathered anew when one begins. Whoever asks the same at the same moment waits for the one who gathers. A failure is
told to those who waited for it, and forgotten. Who looks stands in no page that is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar

from mm_dagster.bars import floor_bar
from mm_dagster.history.memory import Memory, Stamp
from mm_dagster.pages import gather
from mm_dagster.pages.grid import GridOnPage, Row
from mm_dagster.pages.page import Page
from mm_dagster.pages.portfolio import NightOnPage
from mm_dagster.pages.report import Drawings
from mm_dagster.pipeline.project import Project

logger = logging.getLogger("mm_dagster.api")

DAYS = 7
"""Of a page, where nobody asks for others."""
_MOST = 128
"""Parts of pages that are kept at once."""
_LATELY_SECONDS, _MOST_WARM = 1_800.0, 8
"""Pages that somebody looked at so lately, and no more of them, are gathered before they are asked for again."""

T = TypeVar("T")


class Kept:
    """What the pages of one server were made of. Threads may share it."""

    def __init__(self, project: Callable[[], Project]) -> None:
        """
        Args:
            project: makes a project, anew for each request.
        """
        self._project = project
        self._memory = Memory()
        self._turn = threading.Lock()
        self._config: tuple[Any, ...] | None = None
        self._edition = 0
        self._of: tuple[Stamp, int] | None = None
        self._parts: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._looked_at: OrderedDict[Hashable, tuple[Callable[[Reading], Any], float]] = OrderedDict()

    def reading(self) -> Reading:
        """Lake and configuration as they are now, for one answer.

        Raises:
            ConfigError: the configuration is invalid, and none was valid before.
            LakeError: the lake cannot be read.
        """
        project = self._project()
        # The commit before the clock: all that it holds was known by then.
        stamp = project.remember(self._memory)
        config = (project.config, project.config_error, project.vanished)
        with self._turn:
            if config != self._config:
                self._config, self._edition = config, self._edition + 1
            return Reading(self, project, stamp, self._edition)

    def answered(self, answer: Callable[[Reading], T]) -> T:
        """An answer, made of one reading.

        Raises:
            ConfigError, LakeError: see `reading`.
        """
        reading = self.reading()
        found = answer(reading)
        reading.end()
        return found

    def look(self) -> Stamp:
        """What tells the lake now from the lake before."""
        return self._project().whole_lake.stamp()

    def looked_at(self, key: Hashable, gather_it: Callable[[Reading], Any]) -> None:
        """Notes that somebody looks at a page; `warm` gathers it after the next commits, too.

        Args:
            key: tells the page from others.
            gather_it: makes the page of a reading.
        """
        with self._turn:
            self._looked_at[key] = (gather_it, time.monotonic())
            self._looked_at.move_to_end(key)
            while len(self._looked_at) > _MOST_WARM:
                self._looked_at.popitem(last=False)

    def warm(self) -> None:
        """Gathers the page of now and those that somebody looked at lately, so that nobody waits after a commit."""
        with self._turn:
            since = time.monotonic() - _LATELY_SECONDS
            asked = [gather_it for gather_it, at in self._looked_at.values() if at > since]
        self.answered(_of_now)
        for gather_it in asked:
            self.answered(gather_it)

    def once(self, of: tuple[Stamp, int], key: Hashable, make: Callable[[], tuple[T, bool]]) -> T:
        """A part of a page: as it is kept, or as somebody makes it at this moment, or made.

        Args:
            of: the commit and the edition of the configuration that it follows from.
            key: which part.
            make: makes it, and says whether it may be kept.
        """
        with self._turn:
            if of != self._of:
                self._of, self._parts = of, OrderedDict()
            parts = self._parts
            found = parts.get(key)
            if found is not None:
                parts.move_to_end(key)
            else:
                mine: Future[T] = Future()
                parts[key] = mine
                while len(parts) > _MOST:
                    parts.popitem(last=False)
        if found is not None:
            known: T = found.result()
            return known
        lasting = False
        try:
            value, lasting = make()
            mine.set_result(value)
            return value
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            if not lasting:
                with self._turn:
                    if parts.get(key) is mine:
                        del parts[key]


class Reading:
    """What one answer is made of.

    Attributes:
        project: the configuration, and the lake, which remembers what was read of the same commit.
        clock: now.
    """

    def __init__(self, kept: Kept, project: Project, stamp: Stamp, edition: int) -> None:
        self.project = project
        self.clock: datetime = project.now()
        self._kept = kept
        self._of = (stamp, edition)
        self._minute = self.clock.replace(second=0, microsecond=0)

    def page(self, days: int = DAYS) -> Page:
        """Where everything stands, as it was found in this minute."""
        return self._once(("page", days, self._minute), lambda: gather.page(self.project, self.clock, days=days))

    def drawn(self, found: Page) -> Drawings:
        """The drawings of a page of now."""
        until = floor_bar(found.as_of or found.clock)
        return self._once(("drawn", found.days, until), lambda: gather.drawn(self.project, found))

    def nights(self, found: Page) -> tuple[NightOnPage, ...]:
        """What all grids may lose together, on a page of now."""
        return self._once(("nights", found.days, self._minute), lambda: gather.drawn_together(self.project, found))

    def stays(self, one: GridOnPage, found: Page) -> tuple[Row, ...]:
        """The states that a grid was in."""
        until = floor_bar(found.as_of or found.clock)
        return self._once(("stays", one.grid.id, found.days, until), lambda: gather.stays(self.project, one, found))

    def plan(self, one: GridOnPage, found: Page) -> Sequence[str]:
        """How to leave a grid."""
        return self._once(
            ("plan", one.grid.id, self._minute), lambda: gather.leaving_plan(self.project, one, found.clock)
        )

    def outcomes(self) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        """What came after each alert, and how often they were right."""
        return self._once(("outcomes", self._minute), lambda: gather.outcomes(self.project))

    def end(self) -> None:
        """Lets the lake remember what was read of it for this answer alone."""
        self.project.keep()

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        # A commit that came meanwhile may be in a part of it.
        return self._kept.once(self._of, key, lambda: (make(), self.project.keep()))


def _of_now(reading: Reading) -> None:
    found = reading.page()
    reading.drawn(found)
    reading.nights(found)
