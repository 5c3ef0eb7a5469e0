"""What was read of a lake, for as long as its newest commit is the same: whoever asks the same again is told the same.

A commit has a number, but a lake that was restored, or another one in its place, counts on from an older number. So a
`Stamp` is more than that: the catalogue itself, the number, the time of the commit to the microsecond, and how many
files and tables there were.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

MOST_BYTES = 48 * 1024 * 1024
"""Of rows that one process remembers: a page over a month of twenty grids reads some 10 MB."""

FRAME_BYTES = 512
"""At least what a frame takes beside its values."""


@dataclass(frozen=True)
class Stamp:
    """Tells the content of a lake at one moment from every other.

    Attributes:
        lake: the identity of the catalogue, whatever file or server it is.
        number: of the newest commit; None: there is none.
        at: when that was.
        counted: how many tables, columns and files there were by then.
    """

    lake: Hashable
    number: int | None = None
    at: datetime | None = None
    counted: tuple[int, ...] = ()


class Memory:
    """Rows of one lake at its newest commit. Threads may share it."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """
        Args:
            most_bytes: how much is remembered; what was asked for longest ago goes first.
        """
        self._most = most_bytes
        self._turn = threading.Lock()
        self._stamp: Stamp | None = None
        self._rows: OrderedDict[Hashable, pl.DataFrame] = OrderedDict()
        self.bytes = 0

    def of(self, stamp: Stamp) -> Recall:
        """What is remembered of the lake at a commit; all else is forgotten."""
        with self._turn:
            if stamp != self._stamp:
                self._stamp = stamp
                self._rows.clear()
                self.bytes = 0
        return Recall(self, stamp)

    def _get(self, stamp: Stamp, key: Hashable) -> pl.DataFrame | None:
        with self._turn:
            if stamp != self._stamp or key not in self._rows:
                return None
            self._rows.move_to_end(key)
            return self._rows[key]

    def _put(self, stamp: Stamp, rows: dict[Hashable, pl.DataFrame]) -> None:
        with self._turn:
            if stamp != self._stamp:
                return
            for key, frame in rows.items():
                if key not in self._rows:
                    self._rows[key] = frame
                    self.bytes += _size(frame)
            while self.bytes > self._most:
                _, gone = self._rows.popitem(last=False)
                self.bytes -= _size(gone)


def _size(frame: pl.DataFrame) -> int:
    """Bytes of its values, and of the frame around them: who asks by the second asks for something new each time."""
    return int(frame.estimated_size()) + FRAME_BYTES


class Recall:
    """What one reader asks for; it may be asked from several threads.

    What it reads is remembered only when it says `keep`: a commit that came meanwhile may be in some of it.
    """

    def __init__(self, memory: Memory, stamp: Stamp) -> None:
        self.stamp = stamp
        self._memory = memory
        self._fresh: dict[Hashable, pl.DataFrame] = {}
        self._all_same = True

    def rows(self, key: Hashable, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """Rows as they are remembered, else as they are read.

        Args:
            key: everything that they depend on beside the lake.
            read: reads them.
        """
        found = self._memory._get(self.stamp, key)
        if found is None:
            found = self._fresh.get(key)
        if found is None:
            found = self._fresh[key] = read()
        # A frame of its own, which shares the values: whoever changes it in place changes nobody else's.
        return found.clone()

    def keep(self, now: Callable[[], Stamp]) -> bool:
        """Whether all that was asked for is of the lake as it was; then it is remembered.

        Args:
            now: the stamp of the lake after everything was read; not asked for where nothing had to be read.
        """
        if not self._fresh:
            return self._all_same
        if now() == self.stamp:
            self._memory._put(self.stamp, self._fresh)
        else:
            self._all_same = False
        self._fresh = {}
        return self._all_same
