"""A finished quarter hour of a log as one Parquet file and one row of a manifest, both whole or not at all.

The Parquet file has one row a frame, in the order of the log, and the same log gives the same bytes. It is read again
before its row is written: complete is called only what has every frame that the log has. What the log lacks are gaps,
and stand in the row.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from mm_dagster.errors import ForeseenError
from mm_dagster.recorder.frames import Frame, Kind, Reader
from mm_dagster.recorder.log import LogFile, Lost, files, stamp, sync_folder

SCHEMA = pa.schema(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("kind", pa.uint8(), nullable=False),
        pa.field("recv_ns", pa.int64(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
"""number: of the log's file; the others as in `frames.Frame`."""
LOCK = "seal.lock"
_PART = ".part"
_GROUP_ROWS = 65_536
_GROUP_BYTES = 32 * 1024 * 1024
"""Of payload: what is held in memory at a time, and one row group."""
_CHUNK = 1 << 20
_DIGEST = struct.Struct("<iBqII")


class SealError(ForeseenError):
    """A quarter hour cannot be sealed; one line, with the remedy. The log is as it was."""


@dataclass(frozen=True)
class Gap:
    """A place where something may be missing.

    Attributes:
        kind: OPENED (nobody recorded before), RESUMED (the disk could not be written before), LOST (messages that were
            received and not written), MISSING (a file of the log is not there), or why a file could not be read to its
            end: see `frames.Reason`.
        number: of the log's file.
        offset: bytes of it that were read; None: it is not about bytes.
        after_ns: receive time of the last message before; None: none in this quarter hour.
        until_ns: of the first frame after it; None: none in this quarter hour.
        messages: how many were lost, where it is known.
        said: in words.
    """

    kind: str
    number: int
    offset: int | None
    after_ns: int | None
    until_ns: int | None
    messages: int | None
    said: str


@dataclass(frozen=True)
class Part:
    """A file of the log that is in a segment.

    Attributes:
        name: its name.
        number: its number.
        size: bytes.
        frames: how many were read.
        reason: where it ended, see `frames.Reason`.
    """

    name: str
    number: int
    size: int
    frames: int
    reason: str


@dataclass(frozen=True)
class Segment:
    """A row of the manifest: a sealed quarter hour of a market.

    Attributes:
        market: what the log is of.
        quarter_ns: beginning of the quarter hour, nanoseconds since 1970, UTC.
        file: name of the Parquet file.
        sha256: of it, hex.
        size: of it, bytes.
        frames: rows in it.
        messages: of these what was received.
        first_recv_ns: receive time of the first message; None: none.
        last_recv_ns: of the last.
        turned_back: how often the clock was earlier than at the message before.
        parts: the files of the log.
        gaps: what may be missing.
        is_complete: whether every frame that was written as a whole is in it.
    """

    market: str
    quarter_ns: int
    file: str
    sha256: str
    size: int
    frames: int
    messages: int
    first_recv_ns: int | None
    last_recv_ns: int | None
    turned_back: int
    parts: tuple[Part, ...]
    gaps: tuple[Gap, ...]
    is_complete: bool


def seal(market: str, log: Path, segments: Path, quarter_ns: int) -> Segment:
    """Seals a quarter hour; again, if it was: the bytes are the same.

    Args:
        market: what the log is of.
        log: folder of the log; may be written meanwhile.
        segments: folder of the segments and their manifest; is made where it is missing.
        quarter_ns: beginning of the quarter hour; the log has a file of a later one.

    Raises:
        SealError: it is not finished, there is nothing of it, or the disk refuses.
    """
    try:
        segments.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(segments / LOCK):
            return _seal(market, log, segments, quarter_ns)
    except (OSError, pa.ArrowException) as error:
        said = getattr(error, "strerror", None) or error
        raise SealError(f"{segments}: {stamp(quarter_ns)} cannot be sealed: {said}; the log is kept") from None


def unsealed(log: Path, segments: Path) -> list[int]:
    """Finished quarter hours of a log that are not sealed yet, oldest first."""
    there = files(log)
    done = {one.quarter_ns for one in manifest(segments)}
    return sorted({one.quarter_ns for one in there if one.quarter_ns < there[-1].quarter_ns} - done)


def manifest(segments: Path) -> list[Segment]:
    """The rows of a manifest, oldest first. A file that is no row is left out."""
    found = (_row(path) for path in segments.glob("*.json"))
    return sorted((row for row in found if row is not None), key=lambda row: row.quarter_ns)


def is_intact(segments: Path, row: Segment) -> bool:
    """Whether a segment still has the bytes that its row says."""
    try:
        return _sha256(segments / row.file) == row.sha256
    except OSError:
        return False


def frames_of(segments: Path, row: Segment) -> Iterator[Frame]:
    """The frames of a segment, as they were in the log."""
    return (frame for _, frame in _read(segments / row.file))


class _Log:
    """The files of a quarter hour, gone through once; what is seen on the way."""

    def __init__(self, there: Iterable[LogFile], after: LogFile) -> None:
        self.parts: list[Part] = []
        self.gaps: list[Gap] = []
        self.frames = self.messages = self.turned_back = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.has_all = True
        self._there = there
        self._after = after
        self._open: int | None = None
        """Place of the gap that ends with the next frame."""

    def __iter__(self) -> Iterator[tuple[int, Frame]]:
        for file in self._there:
            self._look_between(file)
            with file.path.open("rb") as opened:
                reader = Reader(opened, file.head)
                for frame in reader:
                    self._see(file, frame)
                    yield file.number, frame
                size = os.fstat(opened.fileno()).st_size
            ended = reader.ended
            assert ended is not None
            self.parts.append(Part(file.path.name, file.number, size, ended.frames, ended.reason))
            self.has_all &= ended.has_all
            if ended.reason != "CLOSED":
                self.gaps.append(
                    Gap(ended.reason, file.number, ended.offset, self.last_ns, None, None, f"the file {ended.said}")
                )
                self._open = len(self.gaps) - 1
        self._look_between(self._after)

    def _look_between(self, file: LogFile) -> None:
        """What lacks before a file, by its number."""
        last = self.parts[-1].number if self.parts else file.number - 1
        if file.number > last + 1:
            said = f"the log has no file {last + 1}" + (f" to {file.number - 1}" if file.number > last + 2 else "")
            self.gaps.append(Gap("MISSING", last + 1, None, self.last_ns, None, None, said))
            self.has_all = False
            self._open = len(self.gaps) - 1

    def _see(self, file: LogFile, frame: Frame) -> None:
        self.frames += 1
        if self._open is not None:
            self.gaps[self._open] = replace(self.gaps[self._open], until_ns=frame.recv_ns)
            self._open = None
        if frame.kind is Kind.RECORD:
            self.messages += 1
            self.turned_back += self.last_ns is not None and frame.recv_ns < self.last_ns
            self.first_ns = frame.recv_ns if self.first_ns is None else self.first_ns
            self.last_ns = frame.recv_ns
        elif frame.kind is Kind.CHECKPOINT and frame.stream != "rotated":
            said = "nobody recorded before" if frame.stream == "opened" else "the disk could not be written before"
            self.gaps.append(Gap(frame.stream.upper(), file.number, None, self.last_ns, frame.recv_ns, None, said))
        elif frame.kind is Kind.LOSS:
            lost = Lost.of(frame)
            self.gaps.append(Gap("LOST", file.number, None, lost.first_ns, lost.last_ns, lost.messages, lost.said))


def _seal(market: str, log: Path, segments: Path, quarter_ns: int) -> Segment:
    everything = files(log)
    there = [one for one in everything if one.quarter_ns == quarter_ns]
    name = stamp(quarter_ns)
    known = segments / f"{name}.json"
    before = _row(known)
    if before is not None and {part.name for part in before.parts} - {one.path.name for one in there}:
        return before  # files of the log are gone: never seal less than there was
    if not there:
        raise SealError(f"{log}: has nothing of {name}")
    if everything[-1].quarter_ns == quarter_ns:
        raise SealError(f"{log}: {name} is the newest quarter hour; it is sealed when the recorder has begun the next")
    path = segments / f"{name}.parquet"
    part = segments / f".{name}.parquet{_PART}"
    seen = _Log(there, next(one for one in everything if one.quarter_ns > quarter_ns))
    try:
        written = _write(part, seen)
        is_same = _digest(_read(part)) == written
        row = Segment(
            market=market,
            quarter_ns=quarter_ns,
            file=path.name,
            sha256=_sha256(part),
            size=part.stat().st_size,
            frames=seen.frames,
            messages=seen.messages,
            first_recv_ns=seen.first_ns,
            last_recv_ns=seen.last_ns,
            turned_back=seen.turned_back,
            parts=tuple(seen.parts),
            gaps=tuple(seen.gaps),
            is_complete=seen.has_all and is_same,
        )
        part.replace(path)
        _write_row(known, row)
    finally:
        part.unlink(missing_ok=True)
    return row


def _write(path: Path, frames: Iterable[tuple[int, Frame]]) -> bytes:
    """Writes a Parquet file to the disk.

    Returns:
        The digest of what was written.
    """
    digest = hashlib.sha256()
    with path.open("wb") as file:
        with pq.ParquetWriter(
            file, SCHEMA, compression="zstd", use_dictionary=["stream", "number", "kind"],
            column_encoding={"recv_ns": "DELTA_BINARY_PACKED"}, write_statistics=["recv_ns"],
        ) as writer:  # fmt: skip
            rows: list[tuple[int, Frame]] = []
            held = 0
            for row in frames:
                rows.append(row)
                held += len(row[1].payload)
                if len(rows) >= _GROUP_ROWS or held >= _GROUP_BYTES:
                    writer.write_table(_table(rows, digest))
                    rows, held = [], 0
            writer.write_table(_table(rows, digest))
        file.flush()
        os.fsync(file.fileno())
    return digest.digest()


def _table(rows: Sequence[tuple[int, Frame]], digest: Any) -> pa.Table:
    _add(digest, rows)
    columns = [
        [number for number, _ in rows],
        [int(frame.kind) for _, frame in rows],
        [frame.recv_ns for _, frame in rows],
        [frame.stream for _, frame in rows],
        [frame.payload for _, frame in rows],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _read(path: Path) -> Iterator[tuple[int, Frame]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_GROUP_ROWS // 8):
            columns = [column.to_pylist() for column in batch.columns]
            for number, kind, recv_ns, stream, payload in zip(*columns, strict=True):
                yield number, Frame(Kind(kind), recv_ns, stream, payload)


def _digest(rows: Iterable[tuple[int, Frame]]) -> bytes:
    digest = hashlib.sha256()
    _add(digest, rows)
    return digest.digest()


def _add(digest: Any, rows: Iterable[tuple[int, Frame]]) -> None:
    """Adds frames to a digest so that two different lists of them never add the same bytes."""
    update, pack = digest.update, _DIGEST.pack
    for number, frame in rows:
        stream = frame.stream.encode()
        update(pack(number, frame.kind, frame.recv_ns, len(stream), len(frame.payload)))
        update(stream)
        update(frame.payload)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _row(path: Path) -> Segment | None:
    """A row of the manifest; None: it is none, or that of another quarter hour."""
    with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = {
            "parts": tuple(Part(**one) for one in content["parts"]),
            "gaps": tuple(Gap(**one) for one in content["gaps"]),
        }
        row = Segment(**content | lists)
        if path.stem == stamp(row.quarter_ns):
            return row
    return None


def _write_row(path: Path, row: Segment) -> None:
    fresh = path.with_name(f".{path.name}{_PART}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(asdict(row), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(path.parent)
    finally:
        fresh.unlink(missing_ok=True)
