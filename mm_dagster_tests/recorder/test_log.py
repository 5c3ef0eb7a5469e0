"""The log of a market: rotated, never written over, by one writer; and what it says of a disk that refuses."""

from __future__ import annotations

import errno
import json
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mm_dagster.recorder import log as room
from mm_dagster.recorder.frames import Frame, FrameError, Kind
from mm_dagster.recorder.log import QUARTER_NS, SECOND_NS, LogError, Lost, files, folder_name
from mm_dagster_tests.recorder.logs import START, Clock, open_log, quarters, records, replay


class Disk:
    """A disk that fails when it is told to.

    Attributes:
        fails: error numbers by operation: write, fdatasync, fsync.
        syncs: how often a file was brought to the disk.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails: dict[str, int] = {}
        self.syncs = 0
        for name in ("write", "fdatasync", "fsync"):
            monkeypatch.setattr(os, name, self._failing(name, getattr(os, name)))

    def _failing(self, name: str, real: Any) -> Any:
        def call(*given: Any) -> Any:
            if name in self.fails:
                raise OSError(self.fails[name], os.strerror(self.fails[name]))
            self.syncs += name == "fdatasync"
            return real(*given)

        return call


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / room.STATUS).read_text())
    return found


def test_a_file_each_quarter_hour_that_begins_with_the_book(tmp_path: Path) -> None:
    clock, given = Clock(), []
    book = {"messages": 0}
    log = open_log(tmp_path, clock, lambda: json.dumps(book).encode())
    for number in range(100):
        clock.now = START + number * 60 * SECOND_NS
        given.append(Frame(Kind.RECORD, clock.now, f"stream {number % 3}", number.to_bytes(2, "big")))
        assert log.append(given[-1].stream, given[-1].payload, clock.now)
        book["messages"] += 1
    log.close()
    assert records(tmp_path) == given
    assert [path.name for path in sorted(tmp_path.glob("*.log"))] == [file.path.name for file in files(tmp_path)]
    assert quarters(tmp_path) == list(range(7))
    found, ends = replay(tmp_path)
    assert {end.reason for end in ends} == {"CLOSED"}
    checkpoints = [(frame.stream, json.loads(frame.payload)) for frame in found if frame.kind is Kind.CHECKPOINT]
    assert checkpoints == [("opened", {"messages": 0})] + [
        ("rotated", {"messages": 15 * number}) for number in range(1, 7)
    ]
    assert (log.written, log.lost, log.problem) == (100, 0, None)


def test_a_quiet_market_is_rotated_too(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock)
    clock.now = START + QUARTER_NS
    log.beat()
    assert quarters(tmp_path) == [0, 1]
    # What was received before and is written after is in the later file: nothing goes back.
    log.append("depth", b"late", START + QUARTER_NS - 1)
    log.close()
    assert quarters(tmp_path) == [0, 1]
    assert replay(tmp_path)[0][-1].payload == b"late"


def test_a_clock_that_jumps_never_turns_the_order_of_files_or_messages(tmp_path: Path) -> None:
    chance, clock, given = random.Random(3), Clock(), []
    log = open_log(tmp_path, clock)
    for number in range(600):
        jump = chance.choice([1, 1, 1, 1, 1, 400, -400, -2000]) * SECOND_NS
        clock.now = max(START, clock.now + jump)
        given.append(Frame(Kind.RECORD, clock.now, "depth", number.to_bytes(2, "big")))
        log.append("depth", given[-1].payload, clock.now)
        if number % 50 == 49:
            log.close()
            log = open_log(tmp_path, clock)
    log.close()
    assert any(later.recv_ns < earlier.recv_ns for earlier, later in pairwise(given))
    assert records(tmp_path) == given
    assert quarters(tmp_path) == sorted(quarters(tmp_path))
    numbers = [file.number for file in files(tmp_path)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {end.reason for end in replay(tmp_path)[1]} == {"CLOSED"}


def test_a_file_that_is_long_is_followed_by_another_of_its_quarter_hour(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock, most_file_bytes=5_000)
    given = [os.urandom(400) for _ in range(60)]
    for payload in given:
        log.append("depth", payload, clock.now)
    log.close()
    assert len(files(tmp_path)) > 4
    assert set(quarters(tmp_path)) == {0}
    assert [frame.payload for frame in records(tmp_path)] == given
    assert max(file.path.stat().st_size for file in files(tmp_path)) < 6_000


@pytest.mark.parametrize("cut", [1, 29, 64])
def test_what_a_kill_left_is_said_and_left_alone(tmp_path: Path, cut: int) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock)
    log.append("depth", b"first", clock.now)
    log.append("depth", bytes(40), clock.now)
    log.close()
    (last,) = files(tmp_path)
    torn = last.path.read_bytes()[:-cut]
    last.path.write_bytes(torn)
    (tmp_path / ".20260203T121500Z-00000002.log.part").write_bytes(b"half a head")
    again = open_log(tmp_path, clock)
    again.append("depth", b"third", clock.now)
    again.close()
    assert again.found is not None
    assert again.found[0] == last.path.name
    assert again.found[1].reason == "TORN"
    assert status(tmp_path)["found"] == {"file": last.path.name, "reason": "TORN", "offset": again.found[1].offset}
    assert last.path.read_bytes() == torn
    assert [file.number for file in files(tmp_path)] == [1, 2]
    assert records(tmp_path)[-1].payload == b"third"
    assert not list(tmp_path.glob(".*.part"))
    assert [frame.stream for frame in replay(tmp_path)[0] if frame.kind is Kind.CHECKPOINT] == ["opened", "opened"]


def test_a_second_recorder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(LogError, match="another recorder writes there"):
        open_log(tmp_path, clock)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert log.append("depth", b"x", clock.now)
    log.close()
    open_log(tmp_path, clock).close()


def test_a_folder_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot be used for a log"):
        open_log(tmp_path / "file" / "log", Clock())


def test_each_second_is_brought_to_the_disk_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, clock = Disk(monkeypatch), Clock()
    log = open_log(tmp_path, clock)
    before = disk.syncs
    for _ in range(40):
        clock.now += SECOND_NS // 4
        log.append("depth", b"x", clock.now)
        log.beat()
    assert disk.syncs - before == 10
    assert status(tmp_path) == {
        "at_ns": clock.now, "is_open": True, "file": files(tmp_path)[0].path.name, "written": 40, "lost": 0,
        "last_recv_ns": clock.now, "problem": None, "found": None,
    }  # fmt: skip
    clock.now += SECOND_NS // 2
    log.append("depth", b"x", clock.now)
    assert status(tmp_path)["written"] == 40
    for _ in range(5):  # nothing new: the disk is left alone
        clock.now += SECOND_NS
        log.beat()
    assert disk.syncs - before == 11
    log.close()
    assert status(tmp_path)["is_open"] is False


@pytest.mark.parametrize(("operation", "number"), [("write", errno.ENOSPC), ("write", errno.EIO)])
def test_a_disk_that_refuses_is_one_line_and_it_goes_on_when_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    disk, clock = Disk(monkeypatch), Clock()
    log = open_log(tmp_path, clock)
    kept = []
    for message in range(100):
        clock.now += SECOND_NS // 10
        disk.fails = {operation: number} if 30 <= message < 70 else {}
        if log.append("depth", message.to_bytes(1, "big"), clock.now):
            kept.append(message)
        log.beat()
        if message == 50:
            assert log.problem == (
                f"{tmp_path}: messages are not kept: {os.strerror(number)}; "
                f"{'make room' if number == errno.ENOSPC else 'see to the disk'}, it goes on by itself"
            )
            assert not list(tmp_path.glob(".2*"))
    log.close()
    assert [frame.payload[0] for frame in records(tmp_path)] == kept
    assert kept[:30] == list(range(30))
    assert set(range(80, 100)) <= set(kept)
    assert log.lost == 100 - len(kept)
    found, ends = replay(tmp_path)
    lost = [Lost.of(frame) for frame in found if frame.kind is Kind.LOSS]
    assert sum(one.messages for one in lost) == log.lost
    assert os.strerror(number) in lost[0].said
    assert [end.reason for end in ends] == ["NO_END", "CLOSED"]
    assert [frame.stream for frame in found if frame.kind is Kind.CHECKPOINT] == ["opened", "resumed"]
    assert log.problem is None


def test_a_sync_that_failed_begins_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, clock = Disk(monkeypatch), Clock()
    log = open_log(tmp_path, clock)
    assert log.append("depth", b"first", clock.now)
    disk.fails = {"fdatasync": errno.EIO}
    clock.now += SECOND_NS
    log.beat()
    assert "Input/output error" in str(log.problem)
    assert status(tmp_path)["problem"] == log.problem
    disk.fails = {}
    clock.now += SECOND_NS
    assert log.append("depth", b"second", clock.now)
    log.close()
    assert [end.reason for end in replay(tmp_path)[1]] == ["NO_END", "CLOSED"]
    assert [frame.payload for frame in records(tmp_path)] == [b"first", b"second"]


@pytest.mark.parametrize("operation", ["write", "fdatasync", "fsync"])
def test_a_disk_that_refuses_from_the_first_moment_leaves_no_torn_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    disk, clock = Disk(monkeypatch), Clock()
    disk.fails = {operation: errno.ENOSPC}
    log = open_log(tmp_path, clock)
    assert not log.append("depth", b"lost", clock.now)
    for file in files(tmp_path):  # what has a name is whole
        assert operation == "fsync"
        assert replay(tmp_path)[1][0].reason == "NO_END", file
    disk.fails = {}
    clock.now += SECOND_NS
    assert log.append("depth", b"kept", clock.now)
    log.close()
    assert [frame.payload for frame in records(tmp_path)] == [b"kept"]
    assert [Lost.of(frame).messages for frame in replay(tmp_path)[0] if frame.kind is Kind.LOSS] == [1]


def test_a_rotation_without_room_loses_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, clock = Disk(monkeypatch), Clock()
    log = open_log(tmp_path, clock)
    log.append("depth", b"first", clock.now)
    disk.fails = {"write": errno.ENOSPC}
    clock.now = START + QUARTER_NS
    assert not log.append("depth", b"second", clock.now)
    disk.fails = {}
    clock.now += 2 * SECOND_NS
    log.beat()
    log.close()
    found, ends = replay(tmp_path)
    assert [end.reason for end in ends] == ["NO_END", "CLOSED"]
    assert [Lost.of(frame).messages for frame in found if frame.kind is Kind.LOSS] == [1]
    assert quarters(tmp_path) == [0, 1]


def test_room_that_belongs_to_others_is_left_to_them(tmp_path: Path) -> None:
    clock, free = Clock(), [10**9]
    log = open_log(tmp_path, clock, reserve_bytes=10**8, free_bytes=lambda _: free[0])
    assert log.append("depth", b"first", clock.now)
    free[0] = 10**7
    clock.now += SECOND_NS
    log.beat()
    assert "less than 95 MiB are free; make room" in str(log.problem)
    assert not log.append("depth", b"lost", clock.now)
    free[0] = 10**9
    clock.now += SECOND_NS
    log.beat()
    assert log.problem is None
    assert log.append("depth", b"third", clock.now)
    log.close()
    assert [frame.payload for frame in records(tmp_path)] == [b"first", b"third"]


def test_a_status_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock)
    (tmp_path / room.STATUS).unlink()
    (tmp_path / room.STATUS / "in the way").mkdir(parents=True)
    clock.now += SECOND_NS
    assert log.append("depth", b"x", clock.now)
    log.close()
    assert len(records(tmp_path)) == 1
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("stream", ["../../x", "a/b", "", "\0", "depth\n", "CON", "x" * 255, "𝔘", "%2F"])
def test_a_stream_may_be_called_anything(tmp_path: Path, stream: str) -> None:
    clock = Clock()
    log = open_log(tmp_path / "log", clock)
    assert log.append(stream, b"x", clock.now)
    log.close()
    assert [frame.stream for frame in records(tmp_path / "log")] == [stream]
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_message_that_fits_into_no_frame_stops_no_other(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock)
    for stream, recv_ns in (("x" * 256, clock.now), ("depth", 2**63), ("depth", -(2**63) - 1), ("depth", 2**80)):
        with pytest.raises(FrameError):
            log.append(stream, b"x", recv_ns)
    assert log.append("depth", b"good", clock.now)
    log.close()
    assert [frame.payload for frame in records(tmp_path)] == [b"good"]
    assert [end.reason for end in replay(tmp_path)[1]] == ["CLOSED"]


def test_the_names_of_markets_make_folders_that_are_safe_and_apart() -> None:
    markets = [
        "BTC-USDT",
        "BTC/USDT",
        "../../etc",
        "..",
        ".",
        "",
        "a b",
        "A%2FB",
        "A/B",
        "BTC/USDT:USDT",
        "~",
        "\0",
        "ä",
    ]
    names = [folder_name(market) for market in markets]
    assert len(set(names)) == len(markets)
    for name in names:
        assert name
        assert not set(name) & set("/\\.~ \0:")
    assert folder_name("BTC-USDT") == "BTC-USDT"
    with pytest.raises(LogError, match="too long"):
        folder_name("x" * 201)


def test_names_that_are_no_files_of_the_log_are_left_out(tmp_path: Path) -> None:
    clock = Clock()
    open_log(tmp_path, clock).close()
    (name,) = [file.path.name for file in files(tmp_path)]
    for other in (f"x{name}", f"{name}.gz", "20269999T000000Z-00000002.log", name.replace("-", "_"), f".{name}"):
        (tmp_path / other).write_bytes(b"")
    (tmp_path / name.replace("00000001", "00000005")).mkdir()
    assert [file.path.name for file in files(tmp_path)] == [name]
    assert files(tmp_path / "nowhere") == []


def test_a_file_under_another_name_is_foreign(tmp_path: Path) -> None:
    clock = Clock()
    open_log(tmp_path, clock).close()
    (file,) = files(tmp_path)
    file.path.rename(file.path.with_name(file.path.name.replace("00000001", "00000009")))
    log = open_log(tmp_path, clock)
    log.close()
    assert log.found is not None
    assert log.found[1].reason == "FOREIGN"
    assert [file.number for file in files(tmp_path)] == [9, 10]


def test_the_disk_is_waited_for_beside_and_what_it_says_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, clock = Disk(monkeypatch), Clock()
    real, is_slow = os.fdatasync, threading.Event()

    def slow(file: int) -> None:
        assert is_slow.wait(20)
        real(file)

    with ThreadPoolExecutor(1) as beside:
        log = open_log(tmp_path, clock, beside=beside, has_status=False)
        monkeypatch.setattr(os, "fdatasync", slow)
        for number in range(50):  # messages go on while the disk takes its time
            clock.now += SECOND_NS // 10
            assert log.append("depth", number.to_bytes(1, "big"), clock.now)
        is_slow.set()
        disk.fails = {"fdatasync": errno.EIO}
        while log.problem is None:
            clock.now += SECOND_NS
            log.append("depth", b"while it fails", clock.now)
        assert "Input/output error" in log.problem
        disk.fails = {}
        clock.now += SECOND_NS
        assert log.append("depth", b"last", clock.now)
        log.close()
    assert not (tmp_path / room.STATUS).exists()
    kept = [frame.payload for frame in records(tmp_path)]
    assert kept[:50] == [number.to_bytes(1, "big") for number in range(50)]
    assert kept[-1] == b"last"
    assert log.written == len(kept)
    assert [end.reason for end in replay(tmp_path)[1]] == ["NO_END", "CLOSED"]
    assert log.status()["is_open"] is False
