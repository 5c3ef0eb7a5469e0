"""What the tests of a log share: a clock, a log by it, and all that is in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_dagster.recorder.frames import Ended, Frame, Kind, Reader
from mm_dagster.recorder.log import QUARTER_NS, SECOND_NS, Log, files, quarter_of

START = quarter_of(1_770_120_900_000_000_000)


@dataclass
class Clock:
    """A clock that stands still until it is set.

    Attributes:
        now: nanoseconds since 1970, UTC.
    """

    now: int = START + 60 * SECOND_NS

    def __call__(self) -> int:
        return self.now


def open_log(folder: Path, clock: Clock, checkpoint: Callable[[], bytes] = lambda: b"book", **more: Any) -> Log:
    """A log whose books are the same bytes always."""
    return Log(folder, checkpoint, clock, **more)


def replay(folder: Path, seen: int = 0) -> tuple[list[Frame], list[Ended]]:
    """All frames of a log as they were written, and how its files end; without so many of its first files."""
    found: list[Frame] = []
    ends: list[Ended] = []
    for file in files(folder)[seen:]:
        with file.path.open("rb") as opened:
            reader = Reader(opened)
            found += reader
        assert reader.head == file.head
        assert reader.ended is not None
        ends.append(reader.ended)
    return found, ends


def records(folder: Path, seen: int = 0) -> list[Frame]:
    """The messages of a log, without so many of its first files."""
    return [frame for frame in replay(folder, seen)[0] if frame.kind is Kind.RECORD]


def quarters(folder: Path) -> list[int]:
    """Of the files, in quarter hours from the start."""
    return [(file.quarter_ns - START) // QUARTER_NS for file in files(folder)]
