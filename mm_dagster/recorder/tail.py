"""A log read while it is written: its frames as they come, each once, from file to file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mm_dagster.errors import ForeseenError
from mm_dagster.recorder.frames import Frame, Reader
from mm_dagster.recorder.log import LogFile, files


class TailError(ForeseenError):
    """The log cannot be read on; one line, with the remedy."""


class Tail:
    """Goes along a log.

    Attributes:
        file: that is read; None: none yet.
        went_on: whether the file before it ended as it should and nothing lacks between them.
    """

    def __init__(self, folder: Path, after_ns: int | None = None) -> None:
        """Reads nothing yet.

        Args:
            folder: of the log; may be missing.
            after_ns: files of this quarter hour and of earlier ones are left out; None: none are.
        """
        self.file: LogFile | None = None
        self.went_on = False
        self._folder, self._after_ns = folder, after_ns
        self._opened: BinaryIO | None = None
        self._reader: Reader | None = None
        self._bad: int | None = None
        """Where damage was met the last time."""

    def read(self) -> Iterator[Frame]:
        """The whole frames that came since the last time; `file` is the one that each is in.

        What is not whole yet is read the next time. Of a file that was damaged what is before the damage is read, as
        it is when a quarter hour is sealed.

        Raises:
            TailError: files were removed before they were read, the disk refuses, or the newest file is damaged.
        """
        while self._reader is not None or self._next():
            assert self._reader is not None
            yield from self._reader
            if self._following() is None:
                self._look_for_damage()
                return
            # A file is ended before the next one has its name: what came in between is there now.
            yield from self._reader
            self._next()

    def close(self) -> None:
        """Lets the file go."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _following(self) -> LogFile | None:
        """The file after the one that is read.

        Raises:
            TailError: that one is gone, and with it what follows.
        """
        there = files(self._folder)
        if self.file is None:
            return next((one for one in there if self._after_ns is None or one.quarter_ns > self._after_ns), None)
        following = next((one for one in there if one > self.file), None)
        lacks = following is None or following.number != self.file.number + 1
        if lacks and self.file not in there:
            raise TailError(f"{self._folder}: files of the log were removed before they were read; begin again")
        return following

    def _next(self) -> bool:
        """Goes to the following file, if there is one."""
        following = self._following()
        if following is None:
            return False
        ended = self._reader.ended if self._reader is not None else None
        is_closed = ended is not None and ended.reason == "CLOSED"
        self.went_on = is_closed and self.file is not None and following.number == self.file.number + 1
        self.close()
        try:
            self._opened = following.path.open("rb")
        except OSError as error:
            raise TailError(f"{following.path}: cannot be read: {error.strerror or error}; begin again") from None
        self.file, self._bad = following, None
        self._reader = Reader(self._opened, following.head)
        return True

    def _look_for_damage(self) -> None:
        """
        Raises:
            TailError: nothing that is appended to the newest file can be read any more.
        """
        ended = self._reader.ended if self._reader is not None else None
        if ended is None or ended.has_all:
            self._bad = None
            return
        # Once may be a write under way.
        if self._bad == ended.offset:
            assert self.file is not None
            raise TailError(
                f"{self.file.path}: {ended.said}, at byte {ended.offset}: what follows is lost; "
                "see to the disk, and begin again when the recorder has begun its next file"
            )
        self._bad = ended.offset
