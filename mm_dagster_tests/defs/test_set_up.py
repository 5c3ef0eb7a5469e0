"""A grid whose market was never seen is being set up: it is said once, and is no danger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mm_dagster.bars import BAR
from mm_dagster_tests import kucoin
from mm_dagster_tests.defs.live import Live, flash_crash, grid_file

CALM = datetime(2025, 10, 10, 10, 0, tzinfo=UTC)


@pytest.fixture
def live(tmp_path: Path, shared_data: Path) -> Iterator[Live]:
    with flash_crash(tmp_path, shared_data, ("ADA-USDT",)) as one:
        yield one


@pytest.mark.long
def test_a_first_run_without_an_exchange_is_a_set_up_that_is_not_finished(live: Live) -> None:
    live.configure([grid_file("ada")])
    live.exchange.faults = [replace(kucoin.FORBIDDEN, path="")] * 10_000
    for number in range(3):
        live.tick(CALM + number * BAR)
    told = live.lake().read("notification").filter(grid_id="ada")
    assert told.select("kind", "state", "priority").rows() == [("SETUP", "NOT_JUDGED_YET", 0)]
    assert "ADA-USDT" in told["message"].item()
    (shown,) = json.loads(live.mm("status", "--json").stdout)
    assert (shown["state"], shown["live_state"], shown["stale"]) == (None, None, False)
    assert shown["advice"].startswith("Set-up is not finished: ")
    assert live.mm("status", "--check").exit_code == 4

    live.exchange.faults = []
    live.tick(CALM + 3 * BAR)
    told = live.lake().read("notification").filter(grid_id="ada").sort("created_at")
    assert set(told["kind"]) <= {"SETUP", "ESCALATION"}
    assert not told.filter(told["message"].str.contains("Overdue")).height
    assert all(message["priority"] != "2" for message in live.pushover.messages)
