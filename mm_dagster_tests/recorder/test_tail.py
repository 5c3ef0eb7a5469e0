"""A log read while it is written: each frame once and in order, whatever is written between two looks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mm_dagster.recorder import tail
from mm_dagster.recorder.frames import Frame, Kind, Reader
from mm_dagster.recorder.log import QUARTER_NS, LogFile, files
from mm_dagster.recorder.tail import Tail
from mm_dagster_tests.recorder.logs import Clock, open_log, replay


def test_frames_come_once_and_in_order_though_the_log_is_written_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is written between the reading of a file and the look for the next one, too."""
    rng = random.Random(3)
    clock = Clock()
    log = open_log(tmp_path, clock, most_file_bytes=2_000)
    written = 0

    def write() -> None:
        nonlocal written
        for _ in range(rng.randrange(4)):
            clock.now += rng.choice((1_000, QUARTER_NS // 7))
            log.append("PUSHED 1", b"%d" % written * rng.randrange(1, 40), clock.now)
            written += 1

    def listed(folder: Path) -> list[LogFile]:
        if written < 600:
            write()
        return files(folder)

    monkeypatch.setattr(tail, "files", listed)
    reading = Tail(tmp_path)
    found: list[Frame] = []
    went_on = []
    while written < 600:
        write()
        for frame in reading.read():
            found.append(frame)
            if frame.kind is Kind.CHECKPOINT:
                went_on.append(reading.went_on)
    log.close()
    found += reading.read()
    reading.close()
    assert found == replay(tmp_path)[0]
    assert len(went_on) > 20
    # All but the first file go on where the one before ended.
    assert went_on == [False, *[True] * (len(went_on) - 1)]


def test_a_file_is_read_on_after_each_byte_of_it(tmp_path: Path):
    clock = Clock()
    log = open_log(tmp_path, clock)
    for number in range(6):
        log.append("PUSHED 1", b"x" * number, clock.now)
    log.close()
    (file,) = files(tmp_path)
    content = file.path.read_bytes()
    copy = tmp_path / "copy"
    copy.write_bytes(b"")
    found: list[Frame] = []
    with copy.open("rb") as opened, copy.open("ab", buffering=0) as more:
        reader = Reader(opened, file.head)
        for place in range(len(content)):
            more.write(content[place : place + 1])
            found += reader
            assert reader.ended is not None
            assert reader.ended.has_all
        assert reader.ended is not None
        assert reader.ended.reason == "CLOSED"
        assert list(reader) == []
        assert reader.ended.reason == "CLOSED"
    assert found == replay(tmp_path)[0]
