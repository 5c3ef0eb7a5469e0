"""No order too many through ccxt's real client, however the network fails and whenever the process is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_dagster_tests.execution.kills import KillResult, kill_trials, told
from mm_dagster_tests.execution.worker import BROKEN

AT_ONCE = 30
"""They wait more than they work."""


def _tried(folder: Path, name: str, number: int) -> list[KillResult]:
    results = kill_trials(folder, name, range(number), AT_ONCE)
    print(told(results))
    assert {seed: one.faults for seed, one in enumerate(results) if one.faults} == {}
    return results


def test_whatever_happens_at_kucoin_no_more_is_sold_than_the_grid_held(trials: int, tmp_path: Path) -> None:
    results = _tried(tmp_path, "kucoin", trials)
    assert sum(one.kills for one in results) > trials / 2
    assert sum(one.locked for one in results) > 0
    assert sum(one.full for one in results) > 0
    assert {"DONE", "HALTED"} <= {one.kept.plan.state for one in results}
    assert sum(one.exchange.sold for one in results) > 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["kraken", "okx", "okx-bot"])
def test_nor_at_the_other_exchanges(name: str, trials: int, tmp_path: Path) -> None:
    results = _tried(tmp_path, name, -(-trials // 3))
    assert sum(one.kills for one in results) > len(results) / 2
    assert {"DONE", "HALTED"} <= {one.kept.plan.state for one in results}
    assert sum(one.exchange.sold for one in results) > 0


@pytest.mark.long
@pytest.mark.parametrize("broken", sorted(BROKEN))
def test_a_machine_without_one_of_its_rules_is_found_out_by_real_processes(broken: str, tmp_path: Path) -> None:
    found = (
        kill_trials(tmp_path / str(first), "kucoin", range(first, first + 30), 30, broken) for first in (0, 30, 60)
    )
    assert any(one.faults for results in found for one in results)
