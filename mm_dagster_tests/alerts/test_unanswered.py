"""A message that may have been taken comes once or twice, never not at all and never three times."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from mm_dagster_tests.alerts.swallower import MOMENTS, Swallower, Taker, send_once

MINUTES = (0, 1, 2, 3, 5, 8, 13, 20)
"""The sender is run again at each of these, all before the first reminder."""


MIXED = [pytest.param(one, other, marks=pytest.mark.long) for one, other in product(MOMENTS, MOMENTS) if one != other]


@pytest.mark.slow
@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize(("first", "then"), [*((one, one) for one in MOMENTS), *MIXED])
def test_whenever_the_answer_is_swallowed_an_emergency_comes_once_or_twice(
    tmp_path: Path, first: str, then: str, second: bool
):
    with Swallower([first, then]) as server:
        for minute in MINUTES:
            row = send_once(tmp_path, server.api_url, second, minute)
    assert row["status"] == "SENT"
    assert len(server.met) <= 2
    assert server.taken <= 2
    assert Taker(tmp_path).taken == (1 if second else 0)
    # Without a second channel a server that twice hangs up before it reads has taken nothing: reminders follow.
    lost = not second and {first, then} == {"before reading"}
    assert server.taken + Taker(tmp_path).taken == 0 if lost else server.taken + Taker(tmp_path).taken >= 1
    confirmed = "answered" in server.met
    assert (row["receipt"] is not None) == confirmed
    assert str(row["detail"] or "").startswith("unconfirmed: ") != confirmed


def test_what_nobody_listens_to_was_surely_not_taken_and_is_tried_on_until_somebody_does(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/1/"
    for minute in MINUTES[:6]:
        row = send_once(tmp_path, closed, False, minute)
        assert (row["status"], row["detail"].startswith("to be sent again: not taken: ")) == ("PENDING", True)
    with Swallower(["answered"]) as server:
        row = send_once(tmp_path, server.api_url, False, 20)
    assert (row["status"], server.taken, row["receipt"] is not None) == ("SENT", 1, True)


def test_a_failing_handshake_is_surely_not_taken(tmp_path: Path):
    with Swallower(["before reading"]) as server:
        row = send_once(tmp_path, server.api_url.replace("http:", "https:"), False, 0)
    assert row["detail"].startswith("to be sent again: not taken: ")


@pytest.mark.long
@pytest.mark.parametrize("kills", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before reading", "after reading"])
def test_a_sender_that_is_killed_while_it_waits_sends_once_more_and_no_more(tmp_path: Path, moment: str, kills: int):
    running: list[subprocess.Popen[bytes]] = []
    killed: list[str] = []

    def kill(_: str) -> None:
        if len(killed) < kills:
            os.kill(running[-1].pid, signal.SIGKILL)
            running[-1].wait()
            killed.append(moment)

    with Swallower([moment] * kills + ["answered"], kill) as server:
        for minute in MINUTES[: kills + 2]:
            command = [sys.executable, "-m", "mm_dagster_tests.alerts.swallower", str(tmp_path), server.api_url]
            running.append(subprocess.Popen([*command, "second", str(minute)]))
            running[-1].wait(60)
    assert 1 <= len(server.met) <= 2
    assert server.taken <= 2
    assert server.taken + Taker(tmp_path).taken >= 1
    assert Taker(tmp_path).taken >= 1
