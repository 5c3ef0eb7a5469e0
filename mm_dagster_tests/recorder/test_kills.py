"""A recorder that is killed at any moment: what it lost, and whether the log says so."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from mm_dagster.recorder.frames import Kind
from mm_dagster.recorder.log import LogError, files
from mm_dagster.recorder.seal import Segment, frames_of, seal, unsealed
from mm_dagster_tests.recorder.logs import START, Clock, open_log, records, replay
from mm_dagster_tests.recorder.writer import NUMBER, STEP_NS


def life(folder: Path, first: int, chance: random.Random) -> list[int]:
    """One recorder, fed with numbers from the first on until it is killed.

    Returns:
        What it received.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "mm_dagster_tests.recorder.writer", str(folder), str(START), str(first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    read = process.stdout.fileno()
    # Some die before they have begun, the others after some messages and some more moments.
    received: list[int] = []
    wanted = chance.choice([0, chance.randrange(1, 4000)])
    moment = threading.Event()

    def feed(file: int) -> None:
        number = first
        try:
            while not moment.is_set():
                os.write(file, NUMBER.pack(number))
                number += 1
        except BrokenPipeError:
            return

    assert os.read(read, NUMBER.size) == NUMBER.pack(0)
    feeder = threading.Thread(target=feed, args=(process.stdin.fileno(),))
    feeder.start()
    data = b""
    is_killed = False
    while True:
        if not is_killed and len(data) >= NUMBER.size * wanted:
            process.send_signal(signal.SIGKILL)
            is_killed = True
        chunk = os.read(read, 1 + chance.randrange(4096))
        if not chunk:
            break
        data += chunk
    assert process.wait() == -signal.SIGKILL
    moment.set()
    feeder.join()
    process.stdin.close()
    process.stdout.close()
    received += [one for (one,) in NUMBER.iter_unpack(data[: len(data) - len(data) % NUMBER.size])]
    return received


@pytest.mark.parametrize("kills", [pytest.param(4, id="few"), pytest.param(100, id="all", marks=pytest.mark.long)])
def test_a_kill_loses_no_more_than_the_message_under_way(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    log, segments = tmp_path / "log", tmp_path / "segments"
    received: list[int] = []
    lost: list[int] = []
    first = 1
    seen = 0
    for _ in range(kills):
        mine = life(log, first, chance)
        assert mine == list(range(first, first + len(mine)))
        fresh, seen = records(log, seen), len(files(log))
        kept = {NUMBER.unpack(frame.payload[: NUMBER.size])[0] for frame in fresh}
        missed = [number for number in mine if number not in kept]
        assert len(missed) <= 1, missed
        assert missed in ([], mine[-1:])
        received += mine
        lost += missed
        first = (received[-1] if received else 0) + chance.randrange(1, 200)  # what came while nobody listened
    found, ends = replay(log)
    payloads = [frame.payload for frame in found if frame.kind is Kind.RECORD]
    numbers = [NUMBER.unpack(payload[:8])[0] for payload in payloads]
    assert numbers == [number for number in received if number not in set(lost)]
    assert payloads == [NUMBER.pack(number) + bytes(number % 300) for number in numbers]
    assert sum(frame.kind is Kind.CHECKPOINT and frame.stream == "opened" for frame in found) == kills
    # All but those that were killed between the end of a file and the beginning of the next.
    torn = sum(end.reason in ("NO_END", "TORN") for end in ends)
    assert 0.9 * kills <= torn <= kills
    assert all(end.has_all for end in ends)
    # A last recorder begins the next quarter hour, so that all that is there can be sealed.
    _finish(log, first)
    rows = [seal("BTC-USDT", log, segments, quarter) for quarter in unsealed(log, segments)]
    sealed = [frame for row in rows for frame in frames_of(segments, row)]
    assert sealed == found
    assert all(row.is_complete for row in rows)
    _every_hole_is_told(numbers, rows)
    print(
        f"{kills} kills, {torn} within a file; {len(received)} messages received, {len(lost)} lost; {len(rows)} sealed"
    )


def _finish(log: Path, number: int) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "mm_dagster_tests.recorder.writer", str(log), str(START), str(number + 2250)],
        input=b"", check=True, capture_output=True,
    )  # fmt: skip
    assert process.stderr == b""


def _every_hole_is_told(numbers: list[int], rows: list[Segment]) -> None:
    """Numbers that are not there lie at gaps of the manifest."""
    gaps = [gap for row in rows for gap in row.gaps if gap.kind in ("OPENED", "NO_END", "TORN")]
    times = [time for gap in gaps for time in (gap.after_ns, gap.until_ns) if time is not None]
    holes = [(before, after) for before, after in pairwise(numbers) if after != before + 1]
    for before, after in holes:
        assert any(START + before * STEP_NS <= time <= START + after * STEP_NS for time in times), (before, after)
    assert len([gap for gap in gaps if gap.kind == "OPENED"]) >= len(holes)


@pytest.mark.parametrize("kills", [pytest.param(3, id="few"), pytest.param(60, id="all", marks=pytest.mark.long)])
def test_a_kill_while_it_begins_leaves_no_torn_name(tmp_path: Path, kills: int) -> None:
    chance, died = random.Random(kills), 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "mm_dagster_tests.recorder.writer", str(tmp_path / "log"), str(START), "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        # The moment when the folder is touched, and a little more: what follows takes some milliseconds.
        before = _names(tmp_path / "log")
        while _names(tmp_path / "log") == before and process.poll() is None:
            pass
        for _ in range(chance.randrange(2000)):
            pass
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[0]
        died += not said
        for end in replay(tmp_path / "log")[1]:
            assert end.reason in ("NO_END", "CLOSED")
            assert end.frames == 1
    numbers = [file.number for file in files(tmp_path / "log")]
    assert numbers == list(range(1, len(numbers) + 1))
    print(f"{kills} kills, {died} before it had begun, {len(numbers)} files")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def test_another_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mm_dagster_tests.recorder.writer", str(tmp_path), str(START), "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(NUMBER.size) == NUMBER.pack(0)
        with pytest.raises(LogError, match="another recorder writes there"):
            open_log(tmp_path, Clock())
        assert len(files(tmp_path)) == 1
        process.kill()
        process.wait()
    open_log(tmp_path, Clock()).close()
    assert [end.reason for end in replay(tmp_path)[1]] == ["NO_END", "CLOSED"]
