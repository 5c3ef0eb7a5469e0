"""kill -9 at any point of a tick, then start again: nothing is lost, and no emergency rings twice.

But for one window: a process that dies after Pushover took the message and before it noted so sends it again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import iso
from mm_dagster.tables import registry
from mm_dagster_tests.defs.live import Live, flash_crash, grid_file

AS_OF = datetime(2025, 10, 10, 21, 15, tzinfo=UTC)
"""The first tick after the stop was touched: the grid was never evaluated before, and is MANDATORY_EXIT at once."""
DECIDED = ("candles", "regime_features", "regime_verdict", "grid_episode", "grid_risk", "exit_state")
COMMAND = [sys.executable, "-c", "from mm_dagster.cli import main; main()", "tick", "--as-of", iso(AS_OF)]
GIVE_UP_SECONDS = 120


def start(live: Live, data: str) -> subprocess.Popen[bytes]:
    """`mm tick` in a process group of its own."""
    environment = {**os.environ, **live.environment(data), "MM_DAGSTER_DIR": str(live.folder / data / "dagster")}
    return subprocess.Popen(
        COMMAND, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9, the whole group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(GIVE_UP_SECONDS)


def finish(live: Live, data: str) -> None:
    """`mm tick` to its end."""
    assert start(live, data).wait(GIVE_UP_SECONDS) == 0


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def emergencies(live: Live) -> int:
    return sum(message["priority"] == "2" for message in live.pushover.messages)


def ledger(live: Live, data: str) -> pl.DataFrame:
    return live.lake(data).read("notification")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Live]:
    with flash_crash(tmp_path_factory.mktemp("kill"), shared_data, ("ADA-USDT",)) as one:
        one.configure([grid_file("ada")])
        one.exchange.now = AS_OF + timedelta(minutes=1)
        yield one


@pytest.fixture(scope="module")
def undisturbed(live: Live) -> tuple[dict[str, pl.DataFrame], float]:
    """The tables that a tick leaves when nobody kills it, and its seconds."""
    began = time.monotonic()
    finish(live, "undisturbed")
    seconds = time.monotonic() - began
    lake = live.lake("undisturbed")
    assert lake.read("exit_state")["state"].to_list()[-1] == "MANDATORY_EXIT"
    return {table: lake.read(table) for table in DECIDED}, seconds


def assert_nothing_is_lost(live: Live, data: str, expected: dict[str, pl.DataFrame]) -> None:
    """Every decided table is the same to the bit, but for the live-only columns."""
    lake = live.lake(data)
    for table, rows in expected.items():
        compared = [name for name in rows.columns if name not in registry.LIVE_ONLY]
        assert_frame_equal(lake.read(table).select(compared), rows.select(compared), check_exact=True)
    sent = ledger(live, data)
    assert sent["status"].to_list() == ["SENT"]
    assert sent["receipt"].null_count() == 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(21))
def test_a_kill_at_a_random_moment_loses_nothing(
    live: Live, undisturbed: tuple[dict[str, pl.DataFrame], float], seed: int
) -> None:
    expected, seconds = undisturbed
    data, before = f"killed-{seed}", emergencies(live)
    moments = random.Random(seed)
    for _ in range(2):
        process = start(live, data)
        time.sleep(moments.uniform(0.3, 0.95) * seconds)
        kill(process)
    finish(live, data)
    assert_nothing_is_lost(live, data, expected)
    # Two only if a kill fell between the request and the note of it: then the first attempt was never noted.
    assert emergencies(live) - before in (1, 2)
    finish(live, data)
    assert emergencies(live) - before in (1, 2)
    assert ledger(live, data).height == 1


@pytest.mark.long
def test_a_kill_before_the_message_was_taken_sends_it_once(
    live: Live, undisturbed: tuple[dict[str, pl.DataFrame], float]
) -> None:
    before, asked = emergencies(live), len(live.pushover.requests)
    live.pushover.fail("closed")
    process = start(live, "unsent")
    # The request failed; the next attempt is seconds away.
    wait_until(lambda: len(live.pushover.requests) > asked)
    kill(process)
    assert ledger(live, "unsent")["status"].to_list() == ["PENDING"]
    assert emergencies(live) == before
    finish(live, "unsent")
    assert emergencies(live) == before + 1
    assert_nothing_is_lost(live, "unsent", undisturbed[0])


@pytest.mark.long
def test_a_kill_between_sending_and_noting_sends_it_twice_and_never_again(
    live: Live, undisturbed: tuple[dict[str, pl.DataFrame], float]
) -> None:
    before = emergencies(live)
    live.pushover.fail("lost answer")
    process = start(live, "unnoted")
    wait_until(lambda: emergencies(live) > before)
    kill(process)
    assert ledger(live, "unnoted")["status"].to_list() == ["PENDING"]
    finish(live, "unnoted")
    assert emergencies(live) == before + 2
    finish(live, "unnoted")
    assert emergencies(live) == before + 2
    assert_nothing_is_lost(live, "unnoted", undisturbed[0])
