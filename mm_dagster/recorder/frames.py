"""A file of frames: what was received, when and on which stream, so that no damage to it can pass unseen.

A file begins with a head: a mark, the version of the format, the quarter hour and the number of the file, and a
checksum of these. Frames follow: the length of the body, the same with all bits turned over, a CRC32, and the body:
receive time, kind, stream, payload. The checksum goes on from the one before it, the first from the head's: a frame
that was lost, doubled, moved or comes from another file is found as a changed one is. The last frame of a file that was
closed says how many there are.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Literal
from zlib import crc32

from mm_dagster.errors import ForeseenError

MAGIC = b"\x89MMlog\n"
"""No text begins so, and a copy that turns line ends over breaks it."""
VERSION = 1
MOST_BYTES = 64 * 1024 * 1024
"""Of a body: a length above it is damage."""
MOST_STREAM_BYTES = 255

_HEAD = struct.Struct("<7sBqII")
_LENGTHS = struct.Struct("<III")
_BODY = struct.Struct("<qBB")
_START = struct.Struct("<qB")
_COUNT = struct.Struct("<Q")
_ALL_BITS = 0xFFFFFFFF
_CHUNK = 1 << 20
_STREAMS_KNOWN = 4096
"""Names whose bytes are remembered, at most."""

Reason = Literal[
    "CLOSED", "NO_END", "TORN", "LENGTH", "CHECKSUM", "CONTENT", "COUNT", "AFTER_END", "FOREIGN", "VERSION",
    "UNREADABLE",
]  # fmt: skip
"""Why a reader stopped; only CLOSED is a whole file, NO_END and TORN are what a kill leaves."""


class Kind(IntEnum):
    """What a frame is."""

    RECORD = 1
    CHECKPOINT = 2
    LOSS = 3
    END = 4


_KINDS = {int(kind): kind for kind in Kind}


class FrameError(ForeseenError, ValueError):
    """What was given fits into no frame; one line. Nothing was written."""


@dataclass(frozen=True)
class Head:
    """How a file begins.

    Attributes:
        quarter_ns: beginning of its quarter hour, nanoseconds since 1970, UTC.
        number: of the file in its folder, rising by one.
    """

    quarter_ns: int
    number: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame.

    Attributes:
        kind: what it is.
        recv_ns: when it was received by the receiver's clock, nanoseconds since 1970, UTC.
        stream: what it came from.
        payload: as received.
    """

    kind: Kind
    recv_ns: int
    stream: str
    payload: bytes


@dataclass(frozen=True)
class Ended:
    """Where and why a reader stopped.

    Attributes:
        reason: why.
        offset: bytes of the file that are good: what comes after was not read.
        frames: how many were read, without the one that says how many there are.
        said: the reason in words.
    """

    reason: Reason
    offset: int
    frames: int
    said: str

    @property
    def has_all(self) -> bool:
        """Whether everything that was written as a whole was read: a kill takes no more than the frame under way."""
        return self.reason in ("CLOSED", "NO_END", "TORN")


class Writer:
    """Writes a new file of frames. One `write` a frame; what is not whole is cut off again, or the file is given up.

    Attributes:
        head: how it begins.
        size: bytes of its head and whole frames.
        frames: how many there are.
    """

    def __init__(self, path: Path, head: Head) -> None:
        """Makes the file.

        Args:
            path: must not exist.
            head: how it begins.

        Raises:
            OSError: the disk, or there is such a file.
        """
        start = _HEAD.pack(MAGIC, VERSION, head.quarter_ns, head.number, 0)[:-4]
        check = crc32(start)
        start += check.to_bytes(4, "little")
        self.head = head
        self.frames = 0
        self.size = 0
        self._chain = check
        self._streams: dict[str, bytes] = {}
        self._is_whole = True
        self._unsynced = True
        self._failed = False
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._write(start)
        except BaseException:
            self.abandon()
            raise
        self._is_whole = True

    def append(self, kind: Kind, recv_ns: int, stream: str, payload: bytes) -> None:
        """One frame, with one write.

        Args:
            kind: what it is.
            recv_ns: when it was received.
            stream: at most 255 bytes of UTF-8.
            payload: with the rest at most 64 MiB.

        Raises:
            FrameError: it fits into no frame.
            OSError: it is not in the file, nor is any other from here on: begin a new one.
        """
        name = self._streams.get(stream) or self._name(stream)
        try:
            body = _START.pack(recv_ns, kind) + name
        except struct.error:
            raise FrameError(f"receive time {recv_ns}: does not fit into 64 bits") from None
        length = len(body) + len(payload)
        if length > MOST_BYTES:
            raise FrameError(f"stream {stream!r}: a message of {len(payload)} bytes is longer than a frame can be")
        check = crc32(payload, crc32(body, self._chain))
        self._write(b"".join((_LENGTHS.pack(length, length ^ _ALL_BITS, check), body, payload)))
        self._chain = check
        self.frames += 1
        self._is_whole = True

    def sync(self) -> None:
        """What was written before is on the disk when this returns. May run in a thread beside `append`.

        Raises:
            OSError: it may not be, and no later call could tell: begin a new file.
        """
        if self._unsynced:
            self._unsynced = False  # before: what is written meanwhile is for the next time
            try:
                getattr(os, "fdatasync", os.fsync)(self._file)  # macOS has the latter alone
            except OSError:
                self._failed = True
                raise

    def end(self, recv_ns: int) -> None:
        """Says how many frames there are, and closes.

        Raises:
            OSError: the file ends without it, or may not be on the disk. It is closed.
        """
        try:
            self.append(Kind.END, recv_ns, "", _COUNT.pack(self.frames))
            self.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Closes as it stands."""
        if self._file >= 0:
            file, self._file = self._file, -1
            with suppress(OSError):
                os.close(file)

    def _name(self, stream: str) -> bytes:
        """The length of a name, and the name."""
        try:
            name = stream.encode()
        except UnicodeEncodeError:
            raise FrameError(f"stream {stream!r}: is no text") from None
        if len(name) > MOST_STREAM_BYTES:
            raise FrameError(f"stream {stream[:40]!r}: its name is longer than {MOST_STREAM_BYTES} bytes")
        if len(self._streams) >= _STREAMS_KNOWN:
            self._streams.clear()
        self._streams[stream] = name = bytes([len(name)]) + name
        return name

    def _write(self, data: bytes) -> None:
        """All or nothing. The caller says when it is whole again: an interrupt may part bytes and checksum."""
        if self._failed or not self._is_whole:
            raise OSError(errno.EIO, "the file was given up")
        self._is_whole = False
        self._unsynced = True
        length = len(data)
        try:
            written = os.write(self._file, data)
            while written < length:  # a second write says why
                written += os.write(self._file, data[written:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += length


class Reader:
    """Goes through a file of frames once, and never gives what was not written.

    Iterated again it goes on after the last frame that it gave, with what was appended since.

    Attributes:
        head: how the file begins; None: not read yet, or none.
        ended: where and why it stopped; None: it has not yet.
    """

    def __init__(self, file: BinaryIO, named: Head | None = None) -> None:
        """Of a file that is open; what is appended while it is read is left out.

        Args:
            file: open, and can be sought in.
            named: how it must begin; None: it may be any.
        """
        self.head: Head | None = None
        self.ended: Ended | None = None
        self._file = file
        self._named = named
        self._offset = 0
        self._count = 0

    def __iter__(self) -> Iterator[Frame]:
        """The whole frames, without END; `ended` is set when it is through."""
        if self.ended is not None and self.ended.reason in ("CLOSED", "AFTER_END"):
            return
        self.ended = None
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            self._file.seek(self._offset)
            if self._offset or self._reads_head():
                yield from self._frames()
        except OSError as error:
            self._stop("UNREADABLE", f"the disk says: {error.strerror or error}")

    def _reads_head(self) -> bool:
        data = self._file.read(_HEAD.size)
        if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
            if not data.strip(b"\0"):
                return self._stop("TORN", "nothing is in the file")
            return self._stop("FOREIGN", "is no file of frames")
        if len(data) < _HEAD.size:
            return self._stop("TORN", "ends in its head")
        _, version, quarter_ns, number, check = _HEAD.unpack(data)
        if check != crc32(data[:-4]):
            return self._stop("CHECKSUM", "the head was changed")
        if version != VERSION:
            return self._stop("VERSION", f"is of version {version} of the format; version {VERSION} is known")
        self.head = Head(quarter_ns, number)
        if self._named is not None and self._named != self.head:
            return self._stop("FOREIGN", "was written under another name")
        self._offset = _HEAD.size
        self._chain = check  # not the checksum of all: with its own checksum behind it, everything has the same
        return True

    def _frames(self) -> Iterator[Frame]:
        read, size = self._file.read, self._size
        while True:
            data = read(_LENGTHS.size)
            if len(data) < _LENGTHS.size:
                if data:
                    self._stop("TORN", "ends in the middle of a frame")
                else:
                    self._stop("NO_END", "was not closed")
                return
            length, turned, check = _LENGTHS.unpack(data)
            if length ^ turned != _ALL_BITS or not _BODY.size <= length <= MOST_BYTES:
                self._stop(*self._no_length(data))
                return
            if self._offset + _LENGTHS.size + length > size:
                self._stop("TORN", "ends in the middle of a frame")
                return
            body = read(length)
            if len(body) != length:
                self._stop("UNREADABLE", "became shorter while it was read")
                return
            if crc32(body, self._chain) != check:
                self._stop("CHECKSUM", "a frame was changed, or is not where it was written")
                return
            frame = _frame(body)
            if frame is None:
                self._stop("CONTENT", "a frame is of no kind that is known")
                return
            if frame.kind is Kind.END:
                self._closes(frame, _LENGTHS.size + length)
                return
            self._offset += _LENGTHS.size + length
            self._count += 1
            self._chain = check
            yield frame

    def _closes(self, frame: Frame, length: int) -> None:
        if len(frame.payload) != _COUNT.size or _COUNT.unpack(frame.payload)[0] != self._count:
            self._stop("COUNT", "the frame at the end says another number of frames")
            return
        self._offset += length
        if self._offset != self._size:
            self._stop("AFTER_END", f"{self._size - self._offset} bytes follow its end")
            return
        self._stop("CLOSED", "whole")

    def _no_length(self, data: bytes) -> tuple[Reason, str]:
        """Why a length is none: a power cut may leave zeros where data was to come."""
        while not data.strip(b"\0"):
            data = self._file.read(_CHUNK)
            if not data:
                return "TORN", "ends in zeros"
        return "LENGTH", "a frame has no length that can be"

    def _stop(self, reason: Reason, said: str) -> bool:
        self.ended = Ended(reason, self._offset, self._count, said)
        return False


def _frame(body: bytes) -> Frame | None:
    recv_ns, kind, letters = _BODY.unpack_from(body)
    start = _BODY.size + letters
    if kind not in _KINDS or start > len(body):
        return None
    try:
        stream = body[_BODY.size : start].decode()
    except UnicodeDecodeError:
        return None
    return Frame(_KINDS[kind], recv_ns, stream, body[start:])
