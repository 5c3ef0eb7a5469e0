"""`mm record` as a process: killed at any moment, ended by signals, started twice, and refused."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mm_dagster.books.follow import Follower
from mm_dagster.books.sync import Changed, Gap
from mm_dagster.recorder.frames import Kind
from mm_dagster.recorder.log import files
from mm_dagster.recorder.places import place_of, root_of
from mm_dagster.recorder.status import read_book, read_status
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.recorder.logs import replay
from mm_dagster_tests.recorder.recording import SIZE, mark
from mm_dagster_tests.recorder.trials import VENUES
from mm_dagster_tests.recorder.venues import Faults, Loopback

A_SECOND = 100.0


@contextmanager
def on_loopback(exchanges: tuple[str, ...], symbols: tuple[str, ...] = ("ETH-USDT",)) -> Iterator[list[Loopback]]:
    """Venues that run in a thread, and change `A_SECOND` times a second."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    venues = [Loopback(exchange, symbols, 7) for exchange in exchanges]
    going = []
    try:
        for venue in venues:
            call(venue.begin())
            going.append(asyncio.run_coroutine_threadsafe(venue.go_on(3600, A_SECOND), loop))
        yield venues
    finally:
        for one in going:
            one.cancel()
        for venue in venues:
            call(venue.end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def home(folder: Path, venues: list[Loopback], **more: object) -> dict[str, str]:
    """Environment of a home whose books.yaml names these venues."""
    config = folder / "config"
    shutil.copytree(PROJECT / "configs" / "demo", config)
    feeds = [venue.feed() | {"markets": ["ETH-USDT"], "kraken_depth": 10} for venue in venues]
    (config / "books.yaml").write_text(yaml.safe_dump({"record": True, "free_gib": 0, "feeds": feeds, **more}))
    return {**os.environ, "MM_CONFIG_DIR": str(config), "MM_DATA_DIR": str(folder / "data")}


def begun(environment: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mm_dagster_tests.recorder.recording", *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def received(process: subprocess.Popen[bytes], wanted: int) -> bytes:
    """Reads what it received until it is so much."""
    assert process.stdout is not None
    data = b""
    while len(data) < wanted * SIZE:
        chunk = os.read(process.stdout.fileno(), 1 << 16)
        assert chunk, (process.wait(), process.stderr and process.stderr.read().decode())
        data += chunk
    return data


def marks_of(folder: Path, seen: int = 0) -> list[bytes]:
    """What a market's log has, without so many of its first files."""
    frames, _ = replay(place_of(folder, *MARKET).log, seen)
    return [
        mark(MARKET[1], frame.stream, frame.payload, frame.recv_ns) for frame in frames if frame.kind is Kind.RECORD
    ]


MARKET = ("kucoin", "ETH-USDT")


@pytest.mark.parametrize("kills", [pytest.param(2, id="few"), pytest.param(100, id="all", marks=pytest.mark.long)])
def test_a_kill_loses_no_more_than_the_message_under_way_and_every_gap_is_told(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    lost = total = 0
    with on_loopback(("kucoin",)) as (venue,):
        environment, root = home(tmp_path, [venue]), root_of(tmp_path / "data")
        for life in range(kills):
            seen = len(files(place_of(root, *MARKET).log))
            process = begun(environment)
            wanted = chance.choice((1, 5, chance.randrange(20, 120), chance.randrange(120, 300)))
            data = received(process, wanted)
            process.send_signal(signal.SIGKILL)
            rest, _ = process.communicate()
            assert process.returncode == -signal.SIGKILL
            data += rest
            mine = [data[start : start + SIZE] for start in range(0, len(data) - SIZE + 1, SIZE)]
            kept = marks_of(root, seen)
            # Kept is what was received, in this order, but for the last one.
            assert kept in (mine, mine[:-1]), (life, len(kept), len(mine))
            lost += len(mine) - len(kept)
            total += len(mine)
            status = read_status(root)
            assert status is None or status.markets[0].symbol == "ETH-USDT"
        process = begun(environment, "--for", "3")
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 0, said
        numbers = list(venue.markets["ETH-USDT"].numbers)
    print(f"{kills} kills, {total} messages received, {lost} lost")
    frames, ends = replay(place_of(root, *MARKET).log)
    assert sum(frame.kind is Kind.CHECKPOINT and frame.stream == "opened" for frame in frames) == kills + 1
    assert {end.reason for end in ends[:-1]} <= {"NO_END", "TORN", "CLOSED"}
    assert ends[-1].reason == "CLOSED"
    _every_hole_is_told(frames, numbers)


def _every_hole_is_told(frames: list, numbers: list[int]) -> None:
    """Each number of the venue was applied in some life, or is in a gap, or came while nobody recorded."""
    follower: Follower | None = None
    applied: list[int] = []
    holes: list[tuple[int, int]] = []
    last = begun_at = 0
    for frame in frames:
        if frame.kind is Kind.CHECKPOINT:
            follower = Follower.again(frame.payload)
            if frame.stream == "opened":
                assert follower.state.lost == ("START",)
                begun_at = last
        elif frame.kind is Kind.RECORD:
            assert follower is not None
            for action in follower.take(frame.stream, frame.payload, frame.recv_ns):
                if isinstance(action, Gap):
                    holes.append((begun_at if action.from_id is None else action.from_id, action.to_id or 0))
                elif isinstance(action, Changed):
                    last = action.last_id or 0
                    applied.append(last)
    assert len(applied) > 50
    known = set(applied)
    missing = [
        number
        for number in numbers
        if number < last and number not in known and not any(start < number <= end for start, end in holes)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 0), (signal.SIGINT, 130), pytest.param(signal.SIGHUP, 0, marks=pytest.mark.long)],
)
def test_a_signal_ends_every_file_within_a_second(tmp_path: Path, number: int, code: int) -> None:
    with on_loopback(VENUES) as venues:
        environment, root = home(tmp_path, venues), root_of(tmp_path / "data")
        process = begun(environment)
        received(process, 300)
        began_ns = time.time_ns()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code, said.decode()
    for venue in venues:
        frames, ends = replay(place_of(root, venue.exchange, "ETH-USDT").log)
        assert [end.reason for end in ends] == ["CLOSED"]
        assert frames[-1].stream.startswith("DISCONNECTED")
        assert frames[-1].payload == b"the recorder ended it"
        assert frames[-1].recv_ns - began_ns < 1_000_000_000
        book = read_book(place_of(root, venue.exchange, "ETH-USDT").book)
        assert book is not None
        assert book.phase == "DISCONNECTED"
    status = read_status(root)
    assert status is not None
    assert not status.is_running
    assert sum(market.written for market in status.markets) >= 300
    assert [market.lost for market in status.markets] == [0, 0, 0, 0]


@pytest.mark.long
def test_a_second_recorder_is_refused_in_one_line(tmp_path: Path) -> None:
    with on_loopback(("kucoin",)) as venues:
        environment, root = home(tmp_path, venues), root_of(tmp_path / "data")
        process = begun(environment)
        try:
            received(process, 20)
            second = begun(environment)
            _, said = second.communicate(timeout=30)
            assert second.returncode == 1
            assert said.decode() == f"error: {root}: another `mm record` writes there; end that one first\n"
            received(process, 20)
        finally:
            process.terminate()
            process.communicate(timeout=20)
        assert process.returncode == 0
        third = begun(environment, "--for", "0.5")
        third.communicate(timeout=30)
        assert third.returncode == 0


@pytest.mark.long
def test_it_says_how_it_stands_and_what_is_wrong(tmp_path: Path) -> None:
    with on_loopback(("binance", "kraken")) as venues:
        venues[1].faults = Faults(handshake=1.0)
        process = begun(home(tmp_path, venues), "--for", "4")
        _, said = process.communicate(timeout=60)
    lines = said.decode().splitlines()
    assert process.returncode == 0
    assert any("kraken ETH-USDT: kraken: refused with" in line for line in lines), lines
    assert any(" of 2 books in sync, " in line and " kept, 0 lost, " in line for line in lines), lines
    assert not any("binance ETH-USDT" in line and "refused" in line for line in lines)
    assert not any("Traceback" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("books", "said"),
    [
        ("record: false\n", "books.yaml: record is false, so nothing is recorded; write `record: true` and the feeds"),
        ("record: true\n", "feeds is missing"),
    ],
)
def test_it_refuses_where_nothing_is_to_be_recorded(tmp_path: Path, books: str, said: str) -> None:
    environment = home(tmp_path, [])
    path = tmp_path / "config" / "books.yaml"
    path.unlink()
    if books:
        path.write_text(books)
    process = begun(environment)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said in err.decode()
    assert not root_of(tmp_path / "data").exists()
