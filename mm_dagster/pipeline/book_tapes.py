"""A segment replayed by the machine that the recorder runs, up to where the next one goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from mm_dagster.books.follow import Follower
from mm_dagster.books.tape import WENT_ON, Op, Tape, TapeError, tape_of
from mm_dagster.recorder.frames import Frame, Kind, Reader
from mm_dagster.recorder.log import QUARTER_NS, LogFile, files
from mm_dagster.recorder.places import Place
from mm_dagster.recorder.seal import Segment, frames_of


@dataclass(frozen=True)
class Played:
    """A segment that was replayed.

    Attributes:
        tape: what it told.
        began: why its first file was begun, as the log says it.
        lost_ns: since when the book that it began with was not in sync; None: it was.
        is_followed: whether the next file of the log goes on where its last one ended.
    """

    tape: Tape
    began: str
    lost_ns: int | None
    is_followed: bool

    @property
    def is_in_sync(self) -> bool:
        """Whether there is a book at its end."""
        rows = self.tape.rows
        return len(rows) > 0 and int(rows[-1, 1]) == Op.STANDS


def play(place: Place, row: Segment, following: Segment | None) -> Played:
    """Replays a segment.

    Args:
        place: where the files of its market are.
        row: of the manifest.
        following: the row after it; None: there is none yet, and the log has what follows.

    Raises:
        TapeError, CheckpointError, MessageError: it is no log of a market.
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    frames = frames_of(place.segments, row)
    first = next(frames, None)
    if first is None or first.kind is not Kind.CHECKPOINT:
        raise TapeError("it begins with no checkpoint: nobody knows its book")
    head = next_head(place, row, following)
    state = Follower.again(first.payload).state
    until = row.quarter_ns + QUARTER_NS if head is not None else None
    return Played(
        tape_of(_told(first, frames, head), since_ns=row.quarter_ns, until_ns=until),
        first.stream,
        state.lost_ns if state.lost else None,
        head is not None,
    )


def _told(first: Frame, frames: Iterator[Frame], head: Frame | None) -> Iterator[tuple[bool, int, str, bytes]]:
    """Checkpoints and records; the head of the next file is what the end of the replay is held to."""
    for frame in (first, *frames, *([head] if head is not None else [])):
        if frame.kind in (Kind.CHECKPOINT, Kind.RECORD):
            yield frame.kind is Kind.CHECKPOINT, frame.recv_ns, frame.stream, frame.payload


def next_head(place: Place, row: Segment, following: Segment | None) -> Frame | None:
    """The checkpoint with which the log goes on after a segment; None: it does not, or something lacks between."""
    if not row.parts or row.parts[-1].reason != "CLOSED":
        return None
    number = row.parts[-1].number + 1
    found = None
    if following is not None and following.parts and following.parts[0].number == number:
        with suppress(Exception):  # what is wrong with that one is said of it alone
            found = next(frames_of(place.segments, following), None)
    if found is None:
        file = next((file for file in files(place.log) if file.quarter_ns > row.quarter_ns), None)
        found = _first_of(file) if file is not None and file.number == number else None
    is_next = found is not None and found.kind is Kind.CHECKPOINT and found.stream == WENT_ON
    return found if is_next else None


def _first_of(file: LogFile) -> Frame | None:
    try:
        with file.path.open("rb") as opened:
            return next(iter(Reader(opened, file.head)), None)
    except OSError:
        return None
