"""Many streams at once: each is told of every change, and whoever reads nothing costs nobody anything."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from benchmarks import streams as benchmark
from mm_dagster.api.kept import Kept
from mm_dagster.api.news import News
from mm_dagster.history.memory import Stamp
from mm_dagster_tests.api.served import TOKEN, Served, served
from mm_dagster_tests.cli.small import configure

LONG_NUMBER = 10**3_900
"""Of a commit, so that an event fills what lies between server and client sooner than real ones do."""
HIGH_WATER = 65_536
"""Bytes that uvicorn holds for a client before it waits for them to be taken."""


@pytest.fixture
def news(monkeypatch: pytest.MonkeyPatch) -> list[News]:
    """Of each server that begins: it finds another commit every few milliseconds."""
    made: list[News] = []
    real, numbers = News.__init__, count(LONG_NUMBER)

    def begin(self: News, *given: Any) -> None:
        real(self, *given, look_seconds=0.003)
        made.append(self)

    monkeypatch.setattr(News, "__init__", begin)
    monkeypatch.setattr(Kept, "look", lambda self: Stamp("lake", next(numbers)))
    return made


@pytest.fixture
def api(news: list[News], tmp_path: Path) -> Iterator[Served]:
    configure(tmp_path)
    with served(tmp_path) as found:
        yield found


def connected(api: Served) -> socket.socket:
    """A client with an open stream, whose own buffer is small."""
    host, port = api.url.removeprefix("http://").split(":")
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    one.settimeout(30)
    one.connect((host, int(port)))
    one.sendall(f"GET /stream HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    return one


def waited_for(what: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def number(of: News) -> int:
    """Of the newest commit that it has found."""
    assert of.newest is not None
    assert of.newest.number is not None
    return of.newest.number


def taken(one: socket.socket, events: int) -> int:
    """Reads until so many events have come; how many bytes that were."""
    size, found, kept = 0, 0, b""
    while found < events:
        piece = one.recv(65_536)
        assert piece, "the stream ended"
        found += (kept + piece).count(b"event: changed") - kept.count(b"event: changed")
        kept, size = piece[-20:], size + len(piece)
    return size


@pytest.mark.slow
def test_who_reads_nothing_holds_up_nobody_and_is_held_to_a_bound(api: Served, news: list[News]) -> None:
    silent = [connected(api) for _ in range(20)]
    (mine,) = news
    waited_for(lambda: mine.streams == 20)
    connections = api.running.server_state.connections
    paused = lambda: sum(one.flow.write_paused for one in connections)  # noqa: E731
    waited_for(lambda: paused() == 20, 120)
    held = [one.transport.get_write_buffer_size() for one in connections]
    assert all(0 < size <= HIGH_WATER + 2 * len(str(LONG_NUMBER)) + 500 for size in held), held
    reader = connected(api)
    assert taken(reader, 300) > 300 * len(str(LONG_NUMBER))
    # What waits for the silent ones has not grown meanwhile.
    assert [one.transport.get_write_buffer_size() for one in connections if one.flow.write_paused][:20] == held
    assert api.get("/health").status_code == 200
    for one in (*silent, reader):
        one.close()
    waited_for(lambda: mine.streams == 0)
    api.program.close()
    waited_for(lambda: not connections)


def test_a_client_that_was_silent_is_told_of_the_newest_commit_and_not_of_all(api: Served, news: list[News]) -> None:
    late = connected(api)
    waited_for(lambda: any(one.flow.write_paused for one in api.running.server_state.connections), 120)
    begins = number(news[0])
    waited_for(lambda: number(news[0]) > begins + 500)
    passed = number(news[0])
    # What was on its way comes first; after that the newest, and nothing of what lay between was kept for it.
    numbers: list[int] = []
    for line in late.makefile("rb"):
        if line.startswith(b"id: "):
            numbers.append(int(line[4:]))
            if numbers[-1] >= passed:
                break
    late.close()
    assert numbers == sorted(set(numbers))
    assert [one for one in numbers if begins + 20 < one < passed] == []


def test_streams_that_come_and_go_leave_nothing(api: Served, news: list[News]) -> None:
    for _ in range(5):
        many = [connected(api) for _ in range(40)]
        waited_for(lambda: news[0].streams == 40)
        for one in many:
            assert taken(one, 1)
            one.close()
        waited_for(lambda: news[0].streams == 0)
    waited_for(lambda: not api.running.server_state.connections)


@pytest.mark.long
def test_two_hundred_streams_cost_little_and_make_no_tick_late(tmp_path: Path) -> None:
    found = asyncio.run(benchmark.measured(tmp_path, 3))
    assert found.beside - found.before <= benchmark.MOST_MEGABYTES
    assert found.after - found.before <= 40
    assert (found.missed, found.apart, found.left) == (0, 0, 0)
    assert found.told[0] >= 1
    # Each begins in its minute; a busy machine makes any of them slow, and hardly the quickest of three.
    assert min(found.with_streams) <= 1.5 * min(found.alone) + 2
