"""A file of frames: what was written is read, and no damage to it passes unseen."""

from __future__ import annotations

import errno
import io
import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.recorder import frames
from mm_dagster.recorder.frames import Ended, Frame, FrameError, Head, Kind, Reader, Writer

HEAD = Head(1_770_120_900_000_000_000, 7)
HEAD_BYTES = 24
SEEDS = [pytest.param(10, id="few"), pytest.param(300, id="all", marks=pytest.mark.long)]


def messages(count: int, seed: int = 0) -> list[Frame]:
    """Some of each length, empty ones among them."""
    chance = random.Random(seed)
    return [
        Frame(
            Kind.RECORD,
            HEAD.quarter_ns + number * 10_000_000,
            chance.choice(["depth", "trades", "ä" * 20, ""]),
            chance.randbytes(chance.choice([0, 1, 7, 200, 3000])),
        )
        for number in range(count)
    ]


def write(path: Path, given_frames: list[Frame], *, closed: bool = True) -> bytes:
    """A file of frames, and its bytes."""
    writer = Writer(path, HEAD)
    for frame in given_frames:
        writer.append(frame.kind, frame.recv_ns, frame.stream, frame.payload)
    if closed:
        writer.end(HEAD.quarter_ns)
    else:
        writer.abandon()
    return path.read_bytes()


def read(data: bytes) -> tuple[list[Frame], Ended]:
    """All that is in some bytes, and why no more."""
    reader = Reader(io.BytesIO(data))
    found = list(reader)
    assert reader.ended is not None
    assert reader.ended.frames == len(found)
    return found, reader.ended


def offsets(data: bytes) -> list[int]:
    """Where frames begin, and the end of the last."""
    found = [HEAD_BYTES]
    while found[-1] < len(data):
        found.append(found[-1] + 12 + struct.unpack_from("<I", data, found[-1])[0])
    return found


def test_what_was_written_is_read_byte_for_byte(tmp_path: Path) -> None:
    given_frames = messages(500)
    data = write(tmp_path / "log", given_frames)
    reader = Reader(io.BytesIO(data))
    assert list(reader) == given_frames
    assert reader.head == HEAD
    assert reader.ended == Ended("CLOSED", len(data), 500, "whole")
    assert reader.ended.has_all


@pytest.mark.parametrize("trials", SEEDS)
def test_each_flipped_bit_is_found(tmp_path: Path, trials: int) -> None:
    given_frames = messages(40)
    data = write(tmp_path / "log", given_frames)
    chance, starts, unseen = random.Random(trials), offsets(data), 0
    for _ in range(trials):
        bit = chance.randrange(8 * len(data))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        found, ended = read(bytes(changed))
        unseen += ended.reason == "CLOSED"
        assert found == given_frames[: len(found)]
        # It stops before the frame that was changed, and not earlier.
        before = max((start for start in starts if start <= bit // 8), default=0)
        assert ended.offset == (0 if bit // 8 < HEAD_BYTES else before)
        assert ended.reason in ("CHECKSUM", "LENGTH", "FOREIGN")
        assert not ended.has_all
    assert unseen == 0


def test_each_bit_of_a_small_file_is_watched(tmp_path: Path) -> None:
    given_frames = messages(2)[:2]
    data = write(tmp_path / "log", given_frames)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        found, ended = read(bytes(changed))
        assert found == given_frames[: len(found)]
        assert not ended.has_all, bit


@pytest.mark.parametrize("trials", SEEDS)
def test_each_cut_is_found(tmp_path: Path, trials: int) -> None:
    given_frames = messages(40)
    data = write(tmp_path / "log", given_frames)
    chance, starts, unseen = random.Random(trials), offsets(data), 0
    for _ in range(trials):
        cut = chance.choice([chance.randrange(len(data)), chance.choice(starts[:-1])])
        found, ended = read(data[:cut])
        unseen += ended.reason == "CLOSED"
        assert found == given_frames[: len(found)]
        whole = max((start for start in starts if start <= cut), default=0)
        assert ended.offset == whole
        assert ended.reason == ("NO_END" if cut in starts else "TORN")
    assert unseen == 0


@pytest.mark.parametrize("trials", SEEDS)
def test_a_piece_that_was_cut_out_or_put_in_is_found(tmp_path: Path, trials: int) -> None:
    given_frames = messages(40)
    data = write(tmp_path / "log", given_frames)
    chance, starts = random.Random(trials), offsets(data)
    for _ in range(trials):
        # Whole frames, which have good checksums of their own.
        first, last = sorted(chance.sample(starts[:-1], 2))
        lacking, doubled = data[:first] + data[last:], data[:last] + data[first:]
        swapped = data[:first] + data[last : starts[-2]] + data[first:last] + data[starts[-2] :]
        for changed in (lacking, doubled, swapped):
            if changed == data:
                continue
            found, ended = read(changed)
            assert found == given_frames[: len(found)]
            assert not ended.has_all
            assert ended.reason == "CHECKSUM"


def test_frames_of_another_file_are_found(tmp_path: Path) -> None:
    given_frames = messages(3)
    data = write(tmp_path / "log", given_frames)
    writer = Writer(tmp_path / "other", Head(HEAD.quarter_ns, 8))
    for frame in given_frames:
        writer.append(frame.kind, frame.recv_ns, frame.stream, frame.payload)
    writer.end(HEAD.quarter_ns)
    other = (tmp_path / "other").read_bytes()
    assert len(other) == len(data)
    found, ended = read(data[: offsets(data)[1]] + other[offsets(data)[1] :])
    assert (found, ended.reason) == (given_frames[:1], "CHECKSUM")


@given(st.binary(max_size=400))
def test_whatever_bytes_come_no_frame_is_made_of_them(data: bytes) -> None:
    found, ended = read(data)
    assert not found
    assert ended.offset == 0


@given(st.binary(max_size=400), st.integers(0, 10**6))
def test_whatever_follows_a_good_beginning_adds_nothing(tail: bytes, seed: int) -> None:
    data = _bytes(messages(3, seed))
    found, ended = read(data + tail)
    assert found == messages(3, seed)
    assert ended.offset == len(data)
    assert ended.reason in ("NO_END", "TORN", "LENGTH", "CHECKSUM")


def _bytes(given_frames: list[Frame]) -> bytes:
    """As the writer makes it, by hand: the format does not change without notice."""
    head = b"\x89MMlog\n" + struct.pack("<BqI", 1, HEAD.quarter_ns, HEAD.number)
    chain = crc32(head)
    found = [head + struct.pack("<I", chain)]
    for frame in given_frames:
        name = frame.stream.encode()
        body = struct.pack("<qBB", frame.recv_ns, frame.kind, len(name)) + name + frame.payload
        chain = crc32(body, chain)
        found.append(struct.pack("<III", len(body), len(body) ^ 0xFFFFFFFF, chain) + body)
    return b"".join(found)


def test_the_format_is_the_one_that_is_described(tmp_path: Path) -> None:
    assert write(tmp_path / "log", messages(9), closed=False) == _bytes(messages(9))


def test_a_length_that_is_huge_takes_no_memory(tmp_path: Path) -> None:
    data = write(tmp_path / "log", messages(2), closed=False)
    for length in (2**32 - 1, frames.MOST_BYTES + 1, frames.MOST_BYTES, 0, 9):
        changed = data + struct.pack("<III", length, length ^ 0xFFFFFFFF, 0) + bytes(range(1, 100))
        tracemalloc.start()
        found, ended = read(changed)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == messages(2)
        assert (ended.reason, ended.offset) == ("TORN" if length == frames.MOST_BYTES else "LENGTH", len(data))
        assert peak < 3_000_000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: b"", "TORN"),
        (lambda data: bytes(5000), "TORN"),
        (lambda data: data[:11], "TORN"),
        (lambda data: b"PAR1" + data, "FOREIGN"),
        (lambda data: data.replace(b"\n", b"\r\n"), "FOREIGN"),
        (lambda data: b"\x1f\x8b", "FOREIGN"),
        (lambda data: data + bytes(3_000_000), "TORN"),
        (lambda data: data + bytes(3_000_000) + b"x", "LENGTH"),
    ],
)
def test_what_is_no_file_of_frames_says_so(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    data = write(tmp_path / "log", messages(2), closed=False)
    found, ended = read(change(data))
    assert ended.reason == reason
    assert found == ([] if ended.offset == 0 else messages(2))


def test_another_version_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(frames, "VERSION", 2)
        data = write(tmp_path / "log", messages(2))
    found, ended = read(data)
    assert (found, ended.reason) == ([], "VERSION")
    assert "version 2" in ended.said


def test_a_count_that_is_wrong_and_what_follows_the_end_are_found(tmp_path: Path) -> None:
    data = write(tmp_path / "log", messages(5))
    assert read(data + b"x")[1] == Ended("AFTER_END", len(data), 5, "1 bytes follow its end")
    writer = Writer(tmp_path / "counted", HEAD)
    for frame in messages(5):
        writer.append(frame.kind, frame.recv_ns, frame.stream, frame.payload)
    writer.frames = 4
    writer.end(HEAD.quarter_ns)
    found, ended = read((tmp_path / "counted").read_bytes())
    assert (found, ended.reason) == (messages(5), "COUNT")


@pytest.mark.parametrize("stream", ["x" * 256, "ä" * 128, "\ud800"])
def test_a_name_that_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path, stream: str) -> None:
    writer = Writer(tmp_path / "log", HEAD)
    with pytest.raises(FrameError, match="stream"):
        writer.append(Kind.RECORD, 1, stream, b"x")
    with pytest.raises(FrameError, match="64 bits"):
        writer.append(Kind.RECORD, 2**63, "depth", b"x")
    with pytest.raises(FrameError, match="longer than a frame"):
        writer.append(Kind.RECORD, 1, "depth", bytes(frames.MOST_BYTES))
    writer.append(Kind.RECORD, 1, "x" * 255, b"\0")
    writer.end(2)
    found, ended = read((tmp_path / "log").read_bytes())
    assert found == [Frame(Kind.RECORD, 1, "x" * 255, b"\0")]
    assert ended.reason == "CLOSED"


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        Writer(tmp_path / "log", HEAD)
    assert (tmp_path / "log").read_bytes() == b"mine"


@pytest.mark.parametrize("room", [0, 1, 30, 100])
def test_a_frame_that_did_not_fit_is_cut_off_and_none_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    writer = Writer(tmp_path / "log", HEAD)
    writer.append(Kind.RECORD, 1, "depth", b"first")
    real, left = os.write, [room]

    def full(file: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken, left[0] = left[0], 0
        return real(file, data[:taken])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as raised:
            writer.append(Kind.RECORD, 2, "depth", bytes(200))
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="given up"):
        writer.append(Kind.RECORD, 3, "depth", b"third")
    writer.abandon()
    found, ended = read((tmp_path / "log").read_bytes())
    assert [frame.payload for frame in found] == [b"first"]
    assert ended.reason == "NO_END"


def test_an_interrupt_within_a_write_leaves_no_frame_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path / "log", HEAD)
    real = os.write

    def interrupted(file: int, data: bytes) -> int:
        real(file, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.append(Kind.RECORD, 1, "depth", b"first")
    with pytest.raises(OSError, match="given up"):
        writer.append(Kind.RECORD, 2, "depth", b"second")
    writer.abandon()
    found, ended = read((tmp_path / "log").read_bytes())
    assert [frame.payload for frame in found] == [b"first"]
    assert ended.reason == "NO_END"


def test_a_sync_that_failed_is_not_believed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path / "log", HEAD)
    writer.append(Kind.RECORD, 1, "depth", b"first")

    def broken(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(OSError, match="Input/output"):
            writer.sync()
    with pytest.raises(OSError, match="given up"):
        writer.append(Kind.RECORD, 2, "depth", b"second")
    writer.abandon()


def test_a_disk_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    reader = Reader(Broken(write(tmp_path / "log", messages(50))))
    found = list(reader)
    assert found == messages(50)[: len(found)]
    assert reader.ended is not None
    assert reader.ended.reason == "UNREADABLE"
    assert not reader.ended.has_all
