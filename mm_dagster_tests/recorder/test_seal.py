"""Finished quarter hours as segments: every frame of the log, the same bytes again, and what is missing said."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.recorder import seal as room
from mm_dagster.recorder.frames import Frame, Head, Kind, Writer
from mm_dagster.recorder.log import QUARTER_NS, SECOND_NS, files, stamp
from mm_dagster.recorder.seal import SealError, frames_of, is_intact, manifest, seal, unsealed
from mm_dagster_tests.recorder.logs import START, Clock, open_log, replay

MARKET = "BTC-USDT"


def recorded(folder: Path, minutes: int = 50, *, lives: int = 1) -> list[Frame]:
    """A log of some minutes, ten messages a minute, and all of its frames."""
    clock, chance = Clock(START), random.Random(minutes)
    for life in range(lives):
        log = open_log(folder, clock, has_status=False)
        for _ in range(10 * minutes // lives):
            clock.now += 6 * SECOND_NS
            log.append(chance.choice(["depth", "trades", "../ä"]), chance.randbytes(chance.randrange(300)), clock.now)
        log.close()
        clock.now += 30 * SECOND_NS * (life + 1 < lives)
    return replay(folder)[0]


def test_a_segment_has_every_frame_of_its_quarter_hour(tmp_path: Path) -> None:
    given = recorded(tmp_path / "log")
    assert unsealed(tmp_path / "log", tmp_path / "segments") == [START + number * QUARTER_NS for number in range(3)]
    rows = [seal(MARKET, tmp_path / "log", tmp_path / "segments", quarter) for quarter in (START, START + QUARTER_NS)]
    assert unsealed(tmp_path / "log", tmp_path / "segments") == [START + 2 * QUARTER_NS]
    assert manifest(tmp_path / "segments") == rows
    sealed = [frame for row in rows for frame in frames_of(tmp_path / "segments", row)]
    assert sealed == given[: len(sealed)]
    row = rows[1]
    messages = [
        frame
        for frame in given
        if frame.kind is Kind.RECORD and START <= frame.recv_ns - QUARTER_NS < START + QUARTER_NS
    ]
    assert (row.market, row.quarter_ns, row.messages, row.frames) == (MARKET, START + QUARTER_NS, 150, 151)
    assert (row.first_recv_ns, row.last_recv_ns) == (messages[0].recv_ns, messages[-1].recv_ns)
    assert (row.gaps, row.is_complete, row.turned_back) == ((), True, 0)
    assert row.size == (tmp_path / "segments" / row.file).stat().st_size
    assert is_intact(tmp_path / "segments", row)
    # Any reader of Parquet reads it.
    frame = pl.read_parquet(tmp_path / "segments" / row.file)
    assert frame.filter(pl.col("kind") == 1)["recv_ns"].to_list() == [one.recv_ns for one in messages]


def test_sealing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    recorded(tmp_path / "log")
    rows, bytes_of = [], []
    for folder in ("segments", "segments", "elsewhere"):
        rows.append(seal(MARKET, tmp_path / "log", tmp_path / folder, START))
        names = sorted(path.name for path in (tmp_path / folder).iterdir() if path.suffix != ".lock")
        assert names == [f"{stamp(START)}.json", f"{stamp(START)}.parquet"]
        bytes_of.append([(tmp_path / folder / name).read_bytes() for name in names])
    assert rows[0] == rows[1] == rows[2]
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]


def test_small_groups_of_rows_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = recorded(tmp_path / "log")
    monkeypatch.setattr(room, "_GROUP_ROWS", 16)
    monkeypatch.setattr(room, "_GROUP_BYTES", 1000)
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert list(frames_of(tmp_path / "segments", row)) == given[: row.frames]
    assert row.is_complete


def test_what_is_not_finished_is_not_sealed(tmp_path: Path) -> None:
    recorded(tmp_path / "log", 20)
    with pytest.raises(SealError, match="newest quarter hour"):
        seal(MARKET, tmp_path / "log", tmp_path / "segments", START + QUARTER_NS)
    for quarter in (START - QUARTER_NS, START + 7 * QUARTER_NS):
        with pytest.raises(SealError, match="has nothing of"):
            seal(MARKET, tmp_path / "log", tmp_path / "segments", quarter)
    assert manifest(tmp_path / "segments") == []
    assert unsealed(tmp_path / "nowhere", tmp_path / "segments") == []


def test_recorders_that_stopped_and_began_again_are_gaps(tmp_path: Path) -> None:
    recorded(tmp_path / "log", 20, lives=4)
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert row.is_complete
    assert [gap.kind for gap in row.gaps] == ["OPENED"] * 3
    assert row.gaps[0].after_ns is None
    for gap in row.gaps[1:]:
        assert gap.after_ns is not None
        assert gap.until_ns == gap.after_ns + 30 * SECOND_NS
    assert [part.reason for part in row.parts] == ["CLOSED"] * 3


@pytest.mark.parametrize(("cut", "reason"), [(30, "NO_END"), (3, "TORN")])
def test_a_torn_tail_is_a_gap_and_all_before_it_is_there(tmp_path: Path, cut: int, reason: str) -> None:
    given = recorded(tmp_path / "log", 20, lives=2)
    first = files(tmp_path / "log")[0]
    first.path.write_bytes(first.path.read_bytes()[:-cut])
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert row.is_complete
    assert list(frames_of(tmp_path / "segments", row)) == given[: row.frames]
    torn, opened = row.gaps[1:]
    assert (torn.kind, opened.kind) == (reason, "OPENED")
    assert torn.after_ns == opened.after_ns == START + 600 * SECOND_NS
    assert torn.until_ns == opened.until_ns == START + 630 * SECOND_NS


def test_damage_is_never_called_complete(tmp_path: Path) -> None:
    recorded(tmp_path / "log")
    first = files(tmp_path / "log")[0]
    data = bytearray(first.path.read_bytes())
    data[len(data) // 2] ^= 1
    first.path.write_bytes(data)
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert not row.is_complete
    (opened, gap) = row.gaps
    assert opened.kind == "OPENED"
    assert gap.kind in ("CHECKSUM", "LENGTH")
    assert gap.offset is not None
    assert 0 < gap.offset <= len(data) // 2
    assert row.frames < 150


@pytest.mark.parametrize("trials", [pytest.param(8, id="few"), pytest.param(300, id="all", marks=pytest.mark.long)])
def test_no_flipped_bit_of_a_log_gets_into_a_segment(tmp_path: Path, trials: int) -> None:
    given = recorded(tmp_path / "log", 16)
    whole = files(tmp_path / "log")[0].path.read_bytes()
    chance, complete = random.Random(trials), 0
    for _ in range(trials):
        data, bit = bytearray(whole), chance.randrange(8 * len(whole))
        data[bit // 8] ^= 1 << bit % 8
        files(tmp_path / "log")[0].path.write_bytes(data)
        row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
        complete += row.is_complete
        assert list(frames_of(tmp_path / "segments", row)) == given[: row.frames]
        assert [gap.kind for gap in row.gaps][-1] in ("CHECKSUM", "LENGTH", "FOREIGN")
    assert complete == 0


def test_files_that_are_not_there_are_said(tmp_path: Path) -> None:
    recorded(tmp_path / "log", 60, lives=12)
    there = files(tmp_path / "log")
    assert [file.quarter_ns for file in there[:4]] == [START] * 3 + [START + QUARTER_NS]
    there[1].path.unlink()
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert not row.is_complete
    (gap,) = (gap for gap in row.gaps if gap.kind == "MISSING")
    assert (gap.number, gap.said) == (2, "the log has no file 2")
    assert (gap.after_ns, gap.until_ns) == (START + 300 * SECOND_NS, START + 660 * SECOND_NS)


def test_the_last_files_of_a_quarter_hour_are_missed_too(tmp_path: Path) -> None:
    recorded(tmp_path / "log", 60, lives=12)
    there = files(tmp_path / "log")
    there[2].path.unlink()
    there[3].path.unlink()
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert not row.is_complete
    (gap,) = (gap for gap in row.gaps if gap.kind == "MISSING")
    assert (gap.number, gap.said, gap.until_ns) == (3, "the log has no file 3 to 4", None)


def test_a_file_of_another_log_is_not_taken_in(tmp_path: Path) -> None:
    given = recorded(tmp_path / "log", 60, lives=12)
    other = files(tmp_path / "log")[1]
    writer = Writer(tmp_path / "foreign", Head(START, 999))
    writer.append(Kind.RECORD, START, "depth", b"foreign")
    writer.end(0)
    (tmp_path / "foreign").rename(other.path)
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert not row.is_complete
    assert [part.reason for part in row.parts] == ["CLOSED", "FOREIGN", "CLOSED"]
    assert set(frames_of(tmp_path / "segments", row)) < set(given)


def test_losses_and_a_clock_that_turned_back_are_in_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    log = open_log(tmp_path / "log", clock)
    log.append("depth", b"first", clock.now)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        clock.now += 1
        assert not log.append("depth", b"second", clock.now)
        clock.now += 1
        assert not log.append("depth", b"third", clock.now)
    clock.now += 2 * SECOND_NS
    log.append("depth", b"fourth", clock.now)
    log.append("depth", b"fifth", clock.now - SECOND_NS)
    clock.now += QUARTER_NS
    log.beat()
    log.close()
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    lost = next(gap for gap in row.gaps if gap.kind == "LOST")
    assert (lost.messages, lost.after_ns, lost.until_ns) == (2, START + 60 * SECOND_NS + 1, START + 60 * SECOND_NS + 2)
    assert [gap.kind for gap in row.gaps] == ["OPENED", "NO_END", "RESUMED", "LOST"]
    assert row.turned_back == 1
    assert row.is_complete


def test_a_segment_is_never_made_less_than_it_was(tmp_path: Path) -> None:
    recorded(tmp_path / "log", 40, lives=6)
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    before = (tmp_path / "segments" / row.file).read_bytes()
    files(tmp_path / "log")[0].path.unlink()
    assert seal(MARKET, tmp_path / "log", tmp_path / "segments", START) == row
    for file in files(tmp_path / "log"):
        if file.quarter_ns == START:
            file.path.unlink()
    assert seal(MARKET, tmp_path / "log", tmp_path / "segments", START) == row
    assert (tmp_path / "segments" / row.file).read_bytes() == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    recorded(tmp_path / "log")

    def refuse(file: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(SealError, match="the log is kept"):
            seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert [path.name for path in (tmp_path / "segments").iterdir() if path.suffix != ".lock"] == []
    assert seal(MARKET, tmp_path / "log", tmp_path / "segments", START).is_complete


def test_what_is_read_back_otherwise_is_not_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path / "log")
    real = room._table
    with monkeypatch.context() as patch:
        patch.setattr(room, "_table", lambda rows, digest: real(rows, digest).slice(1))
        row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    assert not row.is_complete


def test_a_segment_that_was_changed_is_not_intact(tmp_path: Path) -> None:
    recorded(tmp_path / "log")
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    path = tmp_path / "segments" / row.file
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    assert not is_intact(tmp_path / "segments", row)
    path.unlink()
    assert not is_intact(tmp_path / "segments", row)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "null", "{", '{"parts": 3, "gaps": []}', "\udcff"])
def test_a_row_that_is_none_is_left_out(tmp_path: Path, content: str) -> None:
    recorded(tmp_path / "log")
    row = seal(MARKET, tmp_path / "log", tmp_path / "segments", START)
    (tmp_path / "segments" / f"{stamp(START + QUARTER_NS)}.json").write_bytes(content.encode(errors="surrogateescape"))
    assert manifest(tmp_path / "segments") == [row]
    # It is as if it were not sealed, and sealing it mends it.
    assert START + QUARTER_NS in unsealed(tmp_path / "log", tmp_path / "segments")
    assert seal(MARKET, tmp_path / "log", tmp_path / "segments", START + QUARTER_NS).is_complete
    assert len(manifest(tmp_path / "segments")) == 2
