"""Candles that come in, as a person sees it: a bar with the rate and the time that is left, or a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import BarColumn, Progress, TextColumn

from mm_dagster.cli.app import err
from mm_dagster.text import spoken

LEAST_BARS = 500
"""What a tick asks for when all is known is less, and not worth a word."""
LINE_SECONDS = 10.0
"""Between two lines, where nobody sees a bar move."""


class Loading:
    """Counts bars; a listener of market.progress.

    Attributes:
        total: how many are wanted.
        done: how many came.
    """

    def __init__(self, show: Callable[[Loading], None]) -> None:
        """
        Args:
            show: is called whenever something has changed, by one thread at a time.
        """
        self.total = self.done = 0
        self._paged = self._finished = 0
        self._begun = time.monotonic()
        self._show = show
        self._lock = threading.Lock()

    def wanted(self, bars: int) -> None:
        with self._lock:
            if not self.total:
                self._begun = time.monotonic()
            self.total += bars
            self._changed()

    def came(self, bars: int) -> None:
        with self._lock:
            self._paged += bars
            self._changed()

    def finished(self, bars: int) -> None:
        with self._lock:
            self._finished += bars
            self._changed()

    def _changed(self) -> None:
        # Pages overlap, and a recording has none: what is finished, and never more than all.
        self.done = min(self.total, max(self.done, self._paged, self._finished))
        if self.total >= LEAST_BARS:
            self._show(self)

    @property
    def sentence(self) -> str:
        """How many of how many, how fast, and how long it takes from here."""
        seconds = time.monotonic() - self._begun
        said = f"candles: {self.done:,} of {self.total:,}"
        if not self.done or self.done == self.total or seconds <= 0:
            return said
        rate = self.done / seconds
        return f"{said}, {rate:,.0f}/s, {spoken(timedelta(seconds=(self.total - self.done) / rate))} left"


@contextmanager
def candles_shown(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Shows candles that come in meanwhile, on stderr.

    Args:
        what: whose they are, or who asks for them.

    Yields:
        What to call before each step that follows: its name, its number from 0, and how many there are.
    """
    from mm_dagster.market import progress

    if not err.is_terminal or err.is_dumb_terminal:
        line = _Lines(what)
        with progress.heard_by(Loading(line.show)):
            yield lambda step, number, count: None
        return
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), console=err, transient=True
    )
    with bar:
        candles = bar.add_task(what, said="", visible=False)
        steps = bar.add_task(what, said="", visible=False)

        def show(loading: Loading) -> None:
            bar.update(candles, completed=loading.done, total=loading.total, said=loading.sentence, visible=True)

        def step(name: str, number: int, count: int) -> None:
            said = f"{name.replace('_', ' ')}, {number + 1} of {count}"
            bar.update(steps, completed=number, total=count, said=said, visible=True)

        with progress.heard_by(Loading(show)):
            yield step


class _Lines:
    """A line now and then, the first one after a while: what is quick needs none."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said_at = time.monotonic()

    def show(self, loading: Loading) -> None:
        if time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            err.print(f"{self._what}: {loading.sentence}", soft_wrap=True, highlight=False, markup=False)
