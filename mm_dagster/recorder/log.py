"""The log of a market: files of frames in one folder, a new one each quarter hour, by one writer.

A file is named by its quarter hour and by its number, and both only rise, whatever the clock does: names sort as they
were written. It gets its name when its head and its first frame, the whole book, are on the disk. What a kill left is
never touched again. What could not be written is counted, and the first frame after it that can be says so.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from filelock import FileLock, Timeout

from mm_dagster.bars import BAR, EPOCH
from mm_dagster.errors import ForeseenError
from mm_dagster.recorder.frames import Ended, Frame, FrameError, Head, Kind, Reader, Writer

SECOND_NS = 1_000_000_000
QUARTER_NS = int(BAR.total_seconds()) * SECOND_NS
MOST_FILE_BYTES = 256 * 1024 * 1024
"""A file that is longer is followed by another one of the same quarter hour."""
STATUS = "status.json"
LOCK = "recorder.lock"

Began = Literal["opened", "rotated", "resumed"]
"""Why a file was begun, the stream of its first frame: a recorder started; a quarter hour or a file was full; the disk
could be written again."""

_NAME = re.compile(r"(\d{8}T\d{6}Z)-(\d{8})\.log")
_STAMP = "%Y%m%dT%H%M%SZ"
_PART = ".part"
_MOST_NUMBER = 99_999_999
_LONGEST_FOLDER = 200
_LAST_NS = 2**63 - 1
_FULL = (errno.ENOSPC, errno.EDQUOT)


class LogError(ForeseenError):
    """The log cannot be written, or not by this process; one line, with the remedy."""


@dataclass(frozen=True, order=True)
class LogFile:
    """A file of a log; they sort as they were written.

    Attributes:
        quarter_ns: beginning of its quarter hour, nanoseconds since 1970, UTC.
        number: rising by one.
        path: where it is.
    """

    quarter_ns: int
    number: int
    path: Path

    @property
    def head(self) -> Head:
        """What must stand in it."""
        return Head(self.quarter_ns, self.number)


@dataclass(frozen=True)
class Lost:
    """What was received and could not be written.

    Attributes:
        messages: how many.
        first_ns: receive time of the first.
        last_ns: of the last.
        said: why.
    """

    messages: int
    first_ns: int
    last_ns: int
    said: str

    @classmethod
    def of(cls, frame: Frame) -> Lost:
        """What a LOSS frame says."""
        return cls(**json.loads(frame.payload))


def quarter_of(ns: int) -> int:
    """Beginning of the quarter hour of a time, both nanoseconds since 1970, UTC."""
    return ns - ns % QUARTER_NS


def stamp(quarter_ns: int) -> str:
    """A quarter hour in the name of a file: `20260203T121500Z`."""
    return (EPOCH + timedelta(seconds=quarter_ns // SECOND_NS)).strftime(_STAMP)


def files(folder: Path) -> list[LogFile]:
    """The files of a log, as they were written; what is named otherwise is none."""
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match and path.is_file():
            with suppress(ValueError):  # a time that is none
                when = datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)
                found.append(LogFile(int(when.timestamp()) * SECOND_NS, int(match[2]), path))
    return sorted(found)


def folder_name(market: str) -> str:
    """A name for the folder of a market that is safe whatever the market is called, and different for each."""
    name = quote(market, safe="").replace(".", "%2E").replace("~", "%7E") or "%"
    if len(name) > _LONGEST_FOLDER:
        raise LogError(f"market {market[:40]!r}: its name is too long for a folder")
    return name


def write_status(path: Path, content: Mapping[str, object]) -> None:
    """A status file, whole or as it was. It is not waited for until it is on the disk: it is of now.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}{_PART}")
    try:
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


class Log:
    """Writes a log. One at a time on a folder.

    Attributes:
        folder: where.
        found: how the newest file ended when this began, and its name; None: there was none.
        problem: why nothing is written now, one line; None: all is well.
        written: messages since this began.
        lost: messages since this began that could not be written.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Callable[[], bytes],
        clock: Callable[[], int],
        *,
        most_file_bytes: int = MOST_FILE_BYTES,
        reserve_bytes: int = 0,
        free_bytes: Callable[[Path], int] | None = None,
        beside: Executor | None = None,
        has_status: bool = True,
    ) -> None:
        """Opens a log and begins a file. A full disk is no error: see `problem`.

        Args:
            folder: is made where it is missing.
            checkpoint: the whole book as it is now, for the first frame of each file.
            clock: nanoseconds since 1970, UTC; the one that receive times are from.
            most_file_bytes: a file that is longer is followed by another.
            reserve_bytes: where less is free on the disk, nothing is written: the rest belongs to others.
            free_bytes: how much is free; None: the disk is asked.
            beside: where what was written is brought to the disk each second, so that no message waits for it; None:
                here. It is waited for before a file ends.
            has_status: whether the folder has a status file; one who writes many logs may write one for all.

        Raises:
            LogError: another recorder writes there, or the folder cannot be used.
        """
        self.folder = folder
        self.found: tuple[str, Ended] | None = None
        self.problem: str | None = None
        self.written = 0
        self.lost = 0
        self._checkpoint = checkpoint
        self._clock = clock
        self._most_file_bytes = most_file_bytes
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes or (lambda path: shutil.disk_usage(path).free)
        self._beside = beside
        self._syncing: Future[None] | None = None
        self._has_status = has_status
        self._writer: Writer | None = None
        self._name: str | None = None
        self._last_ns: int | None = None
        self._unsaid: Lost | None = None
        self._is_open = True
        now = clock()
        self._second_ns = now
        self._tried_ns = now
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = FileLock(folder / LOCK, timeout=0)
            self._lock.acquire()
        except Timeout:
            raise LogError(f"{folder}: another recorder writes there; stop it first, or name another folder") from None
        except OSError as error:
            raise LogError(f"{folder}: cannot be used for a log: {error.strerror or error}") from None
        try:
            self._look_back(now)
            self._begin("opened", now)
            self._say(now)
        except BaseException:
            self._lock.release()
            raise

    def append(self, stream: str, payload: bytes, recv_ns: int) -> bool:
        """Keeps a message. It survives a kill from here on, and a power cut a second later.

        To be called before the message is applied to the book: the file that it may begin has the book before it.

        Args:
            stream: what it came from; at most 255 bytes of UTF-8.
            payload: as received.
            recv_ns: when, by the clock.

        Returns:
            False: it is lost, and counted; `problem` says why.

        Raises:
            FrameError: it fits into no frame, whatever the disk does. Nothing else is changed by it.
        """
        writer = self._writer
        if writer is None or recv_ns >= self._until_ns or writer.size >= self._most_file_bytes:
            writer = self._ready(recv_ns)
        if writer is None:
            self._lose(recv_ns)
            return False
        try:
            writer.append(Kind.RECORD, recv_ns, stream, payload)
        except FrameError:
            raise
        except OSError as error:
            self._give_up(error, recv_ns)
            self._lose(recv_ns)
            return False
        self.written += 1
        self._last_ns = recv_ns
        if not 0 <= recv_ns - self._second_ns < SECOND_NS:
            self._each_second(recv_ns)
        return True

    def beat(self) -> None:
        """To be called some times a second: what is due without a message. Never raises for the disk."""
        now = self._clock()
        self._ready(now)
        if not 0 <= now - self._second_ns < SECOND_NS:
            self._each_second(now)

    def close(self) -> None:
        """Ends the file with its count, and lets others write. The log is not used again."""
        now = self._clock()
        writer, self._writer = self._writer, None
        if writer is not None:
            self._end(writer, now)
        self._is_open = False
        self._say(now)
        self._lock.release()

    def status(self) -> dict[str, Any]:
        """How it stands: what the status file says, without the time."""
        found = None
        if self.found is not None:
            found = {"file": self.found[0], "reason": self.found[1].reason, "offset": self.found[1].offset}
        return {
            "is_open": self._is_open,
            "file": self._name,
            "written": self.written,
            "lost": self.lost,
            "last_recv_ns": self._last_ns,
            "problem": self.problem,
            "found": found,
        }

    # files ------------------------------------------------------------------------------------------------------------

    def _look_back(self, now: int) -> None:
        """What is there: the names that come go on from it, and the end of the newest file is read."""
        for left in self.folder.glob(f".*{_PART}"):
            left.unlink(missing_ok=True)
        there = files(self.folder)
        self._quarter_ns = max(quarter_of(now), there[-1].quarter_ns) if there else quarter_of(now)
        self._number = max((file.number for file in there), default=0)
        self._until_ns = self._quarter_ns + QUARTER_NS
        if there:
            self.found = there[-1].path.name, ending(there[-1])

    def _ready(self, now: int) -> Writer | None:
        """The file to write to at a time; a new one where it is due; None: the disk does not let us."""
        if now > _LAST_NS:
            raise FrameError(f"receive time {now}: does not fit into 64 bits")
        if self._writer is None:
            if 0 <= now - self._tried_ns < SECOND_NS:
                return None
            self._begin("resumed", now)
        elif now >= self._until_ns or self._writer.size >= self._most_file_bytes:
            writer, self._writer = self._writer, None
            if self._end(writer, now):
                self._begin("rotated", now)
        return self._writer

    def _end(self, writer: Writer, now: int) -> bool:
        """Whether a file ended as it should. `problem` says where it did not."""
        try:
            self._wait()
            writer.end(now)
        except OSError as error:
            writer.abandon()
            self._give_up(error, now)
            return False
        return True

    def _wait(self) -> None:
        """For what is being brought to the disk.

        Raises:
            OSError: it may not be there.
        """
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def _begin(self, began: Began, now: int) -> None:
        """Begins a file. `problem` says where it could not."""
        self._tried_ns = now
        self._quarter_ns = max(self._quarter_ns, quarter_of(now))
        self._until_ns = self._quarter_ns + QUARTER_NS
        number = self._number + 1
        if number > _MOST_NUMBER:
            raise LogError(f"{self.folder}: has no numbers left for files; name another folder")
        path = self.folder / f"{stamp(self._quarter_ns)}-{number:08d}.log"
        part = self.folder / f".{path.name}{_PART}"
        writer = None
        try:
            self._refuse_a_full_disk()
            part.unlink(missing_ok=True)
            writer = Writer(part, Head(self._quarter_ns, number))
            writer.append(Kind.CHECKPOINT, now, began, self._checkpoint())
            if self._unsaid is not None:
                writer.append(Kind.LOSS, now, "", json.dumps(vars(self._unsaid)).encode())
            writer.sync()
            if path.exists():
                raise FileExistsError(errno.EEXIST, "a file of that name is there already")
            part.rename(path)
            sync_folder(self.folder)
        except BaseException as error:
            if writer is not None:
                writer.abandon()
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            # A name that is there is never used again, whether or not the disk has it.
            self._number = number if path.exists() else self._number
            self.problem = self._line(error)
            return
        self._writer, self._number, self._name = writer, number, path.name
        self._unsaid = None
        self.problem = None

    def _give_up(self, error: OSError, now: int) -> None:
        """Leaves a file that could not be written as it is, whole up to its last frame."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                self._wait()
                writer.sync()
            writer.abandon()
        self._tried_ns = now
        self.problem = self._line(error)

    def _lose(self, recv_ns: int) -> None:
        self.lost += 1
        last = self._unsaid
        said = self.problem or "the disk could not be written"
        self._unsaid = (
            Lost(1, recv_ns, recv_ns, said)
            if last is None
            else Lost(last.messages + 1, last.first_ns, recv_ns, last.said)
        )

    # each second ------------------------------------------------------------------------------------------------------

    def _each_second(self, now: int) -> None:
        self._second_ns = now
        if self._writer is not None:
            try:
                self._refuse_a_full_disk()
                if self._beside is None:
                    self._writer.sync()
                elif self._syncing is None or self._syncing.done():
                    self._wait()
                    self._syncing = self._beside.submit(self._writer.sync)
            except OSError as error:
                self._give_up(error, now)
        self._say(now)

    def _refuse_a_full_disk(self) -> None:
        if self._reserve_bytes and self._free_bytes(self.folder) < self._reserve_bytes:
            raise OSError(errno.ENOSPC, f"less than {self._reserve_bytes // 1024**2} MiB are free")

    def _say(self, now: int) -> None:
        """The status file; that it cannot be written stops nothing."""
        if self._has_status:
            with suppress(OSError):
                write_status(self.folder / STATUS, {"at_ns": now, **self.status()})

    def _line(self, error: OSError) -> str:
        said = error.strerror or str(error)
        remedy = "make room" if error.errno in _FULL else "see to the disk"
        return f"{self.folder}: messages are not kept: {said}; {remedy}, it goes on by itself"


def ending(file: LogFile) -> Ended:
    """Where and why a file ends, all of it read."""
    try:
        with file.path.open("rb") as opened:
            reader = Reader(opened, file.head)
            for _ in reader:
                pass
    except OSError as error:
        return Ended("UNREADABLE", 0, 0, f"the disk says: {error.strerror or error}")
    assert reader.ended is not None
    return reader.ended


def sync_folder(folder: Path) -> None:
    """That a name is in it is on the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
