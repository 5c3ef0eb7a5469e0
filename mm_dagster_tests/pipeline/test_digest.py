"""What the digest says of a day, from a lake: ticks that were due, money of which both ends are known, own alerts."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mm_dagster.alerts.digest_words import Change
from mm_dagster.bars import BAR
from mm_dagster.pipeline import digest
from mm_dagster.pipeline.digest import DAY, changes, day_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.tick_log import count_ticks
from mm_dagster_tests.api.lakes import REAL, SIMULATED, project_at, put, tick
from mm_dagster_tests.pages.rows import AS_OF
from mm_dagster_tests.pages.rows import risk_row as grid_risk_row

GRIDS = [REAL, SIMULATED]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_at(tmp_path)


def ticked(project: Project, *back: int, unfinished: tuple[int, ...] = ()) -> None:
    """Ticks so many bars before AS_OF."""
    put(project, "tick", *(tick(AS_OF - number * BAR, None if number in unfinished else 5.0) for number in back))


def test_a_full_day_has_96_ticks_and_the_bar_that_just_ended_counts_when_its_tick_has_ended(project: Project) -> None:
    ticked(project, *range(1, 200))
    assert count_ticks(project.lake, AS_OF + timedelta(seconds=20), DAY) == (96, 96)
    ticked(project, 0)
    assert count_ticks(project.lake, AS_OF + timedelta(minutes=2), DAY) == (96, 96)


def test_what_did_not_run_or_did_not_end_is_missing(project: Project) -> None:
    ticked(project, *range(3), *range(5, 200), unfinished=(1,))
    assert count_ticks(project.lake, AS_OF + timedelta(minutes=2), DAY) == (93, 96)


def test_of_a_machine_that_is_new_only_what_was_due_counts(project: Project) -> None:
    assert count_ticks(project.lake, AS_OF, DAY) == (0, 0)
    ticked(project, 0, 1, 3, 4)
    assert count_ticks(project.lake, AS_OF + timedelta(minutes=2), DAY) == (4, 5)


def noted(project: Project, one: Any, as_of: datetime, total: float | None) -> None:
    put(project, "grid_risk", grid_risk_row(one, as_of=as_of, total_pnl=total))


def test_money_is_the_change_of_those_grids_of_which_both_ends_are_known(project: Project) -> None:
    noted(project, REAL, AS_OF, 12.5)
    noted(project, REAL, AS_OF - DAY, 8.3)
    noted(project, REAL, AS_OF - 2 * DAY, -100.0)
    noted(project, SIMULATED, AS_OF, 7.0)
    (found,) = changes(project, AS_OF + timedelta(minutes=2), GRIDS)
    assert found == Change("USDT", pytest.approx(4.2), REAL.capital, 1, 2)
    noted(project, SIMULATED, AS_OF - DAY, None)
    assert changes(project, AS_OF, GRIDS) == [found]
    noted(project, SIMULATED, AS_OF - DAY, 9.0)
    (both,) = changes(project, AS_OF, GRIDS)
    assert (both.amount, both.known, both.grids) == (pytest.approx(2.2), 2, 2)


def test_a_total_that_is_no_news_is_no_change_of_the_day(project: Project) -> None:
    noted(project, REAL, AS_OF, 12.5)
    noted(project, REAL, AS_OF - DAY, 8.3)
    assert changes(project, AS_OF + timedelta(hours=2), GRIDS) == []
    assert changes(project, AS_OF, []) == []


def outcome(project: Project, number: int, what: str, *, told: bool = True) -> None:
    row = {
        "grid_id": REAL.id, "activated_at": REAL.activated_at, "symbol": REAL.symbol, "as_of": AS_OF - number * BAR,
        "state": "WARNING", "told": told, "outcome": what, "alert_id": f"{number}",
    }  # fmt: skip
    put(project, "alert_outcome", row)


def test_own_alerts_are_those_that_were_sent_and_judged(project: Project) -> None:
    ticked(project, 200)
    assert day_of(project, AS_OF, GRIDS, {}).right is None  # type: ignore[union-attr]
    for number, what in enumerate(["BROKE", "STOPPED", "HELD", "OPEN", "LATE", "UNKNOWN"]):
        outcome(project, number, what)
    outcome(project, 7, "HELD", told=False)
    found = day_of(project, AS_OF, GRIDS, {})
    assert found is not None
    assert found.right == (2, 3, 1)


def test_a_grid_that_the_operator_stopped_is_no_danger_and_its_money_is_left_out(project: Project) -> None:
    ticked(project, 200)
    for one in GRIDS:
        noted(project, one, AS_OF, 2.0)
        noted(project, one, AS_OF - DAY, 1.0)
    answers: Any = {(REAL.id, REAL.activated_at): {"action": "stopped"}}
    found = day_of(project, AS_OF, GRIDS, answers)
    assert found is not None
    assert found.stopped == {REAL.id}
    assert [(one.known, one.grids) for one in found.changes] == [(1, 1)]


def test_there_is_none_for_a_machine_that_began_after_its_time(project: Project) -> None:
    assert day_of(project, AS_OF, GRIDS, {}) is None
    began = AS_OF.replace(hour=8, minute=15)
    put(project, "tick", tick(began, 5.0))
    assert day_of(project, began + timedelta(hours=1), GRIDS, {}) is None
    assert day_of(project, began + timedelta(days=1), GRIDS, {}) is not None
    put(project, "tick", tick(began - BAR, 5.0))
    assert day_of(project, began + timedelta(hours=1), GRIDS, {}) is not None


def test_a_part_that_cannot_be_had_is_left_out(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ticked(project, 1, 2, 200)

    def fails(*_: Any) -> Any:
        raise RuntimeError("no such file")

    monkeypatch.setattr(digest, "changes", fails)
    monkeypatch.setattr(digest, "fresh_together", fails)
    found = day_of(project, AS_OF, GRIDS, {})
    assert found is not None
    assert (found.changes, found.together) == ([], [])
    assert found.ticks == (2, 96)
