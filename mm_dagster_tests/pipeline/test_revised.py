"""A bar that its venue changed from before an episode: the episode is judged all the same, and anew."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, Span, midnight
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import MADE_BY, run_tick
from mm_dagster.pipeline.work import plan
from mm_dagster.tables import registry
from mm_dagster_tests.pipeline.recordings import NOW, configure, grid, price_of, record

pytestmark = pytest.mark.slow

ETH = "ETH-USDT"
ACTIVATED, REVISED = NOW - 4 * BAR, NOW - 7 * BAR


@pytest.fixture
def place(tmp_path: Path) -> Path:
    record(tmp_path / "recordings", ETH, NOW - BAR)
    venues: dict[str, object] = {"files": {"kind": "recorded", "path": "../recordings", "file": "15m.parquet"}}
    late = grid("late", ETH, price_of(ETH), activated_at=ACTIVATED.isoformat())
    configure(tmp_path / "configuration", [late], venues, {ETH: "files"})
    run_tick(project(tmp_path), NOW - BAR)
    record(tmp_path / "recordings", ETH, NOW, revised=REVISED)
    return tmp_path


def project(folder: Path, data: str = "data") -> Project:
    return Project(str(folder / "configuration"), str(folder / data))


def states(one: Project) -> pl.DataFrame:
    rows = one.lake.read("exit_state")
    return rows.drop(name for name in rows.columns if name in registry.LIVE_ONLY)


def test_the_tick_that_sees_it_judges_the_newest_bar_and_all_before_it_as_a_first_look_does(place: Path) -> None:
    run_tick(project(place), NOW)
    (revised,) = project(place).lake.read("candle_revision").to_dicts()
    assert (revised["open_time"], revised["recomputed_at"] is None) == (REVISED, False)
    run_tick(project(place, "fresh"), NOW)
    found, fresh = states(project(place)), states(project(place, "fresh"))
    assert found["as_of"].max() == NOW
    assert_frame_equal(found, fresh, check_exact=True)


@pytest.mark.long
def test_days_that_are_computed_again_hold_the_rows_of_the_episode_that_began_on_one_of_them(place: Path) -> None:
    day = midnight(REVISED.date())
    for stage in MADE_BY.values():
        stage(plan(project(place), "again", window=Span(day, day + 96 * BAR), again=True))
    run_tick(project(place, "fresh"), NOW)
    assert project(place).lake.read("candle_revision").height == 1
    found, fresh = states(project(place)), states(project(place, "fresh"))
    assert found.height == fresh.height > 3
    assert_frame_equal(found, fresh, check_exact=True)
