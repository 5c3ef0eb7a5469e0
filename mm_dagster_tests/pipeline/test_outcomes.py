"""What came after the alerts of a stored history: told and not told apart, each from the moment that it told of."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR, Span, parse_time
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.outcomes import by_level, keep_outcomes, outcomes_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_days
from mm_dagster.tables.registry import dtypes
from mm_dagster_tests.cli.small import configure

pytestmark = pytest.mark.slow

DAYS = Span(parse_time("2026-06-23T00:00:00Z"), parse_time("2026-06-29T00:00:00Z"))
COMMIT = Commit(run_id="test", asset="notification", span="")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("outcomes")
    configure(folder)
    path = folder / "configuration" / "grids" / "eth.yaml"
    # So narrow that the ladder has something to say.
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"lower": 2650, "stop": 2600, "levels": 6}))
    project = Project(str(folder / "configuration"), str(folder / "data"))
    run_days(project, DAYS)
    return project


def entered(project: Project) -> pl.DataFrame:
    """By SQL: where a state is higher than the one before."""
    ranks = "list_position(['NORMAL', 'WARNING', 'LATEST_ACCEPTABLE_EXIT', 'MANDATORY_EXIT'], state)"
    return project.lake.sql(
        f"SELECT as_of, state FROM (SELECT as_of, state, {ranks} AS r, lag({ranks}, 1, 1) OVER (ORDER BY as_of) AS b "
        "FROM exit_state) WHERE r > b ORDER BY as_of"
    )


def told(project: Project, state: str, since: Any, as_of: Any) -> None:
    episode = project.lake.read("grid_episode").row(0, named=True)
    row = dict.fromkeys(dtypes("notification")) | {
        "alert_id": f"{as_of}", "grid_id": "eth", "activated_at": episode["activated_at"], "symbol": "ETH-USDT",
        "as_of": as_of, "kind": "ESCALATION", "state": state, "state_since": since, "priority": 0, "title": "t",
        "message": "m", "status": "SENT", "attempts": 1, "created_at": as_of, "sent_at": as_of, "source": "simulated:1",
    }  # fmt: skip
    project.lake.upsert("notification", pl.DataFrame([row], schema=dtypes("notification")), commit=COMMIT)


def test_each_escalation_has_one_row_and_what_was_told_is_judged_from_then(project: Project) -> None:
    expected = entered(project)
    assert expected.height >= 2
    before = outcomes_of(project)
    assert before["as_of"].to_list() == expected["as_of"].to_list()
    assert before["state"].to_list() == expected["state"].to_list()
    assert not before["told"].any()
    since, state = expected.row(0)
    told(project, state, since, since + 3 * BAR)
    after = outcomes_of(project)
    assert after.height == before.height
    row = after.filter("told").row(0, named=True)
    assert (row["as_of"], row["state"], row["alert_id"]) == (since + 3 * BAR, state, f"{since + 3 * BAR}")
    assert since not in after["as_of"].to_list()


def test_what_is_stored_is_what_is_computed_and_a_second_time_changes_nothing(project: Project) -> None:
    rows, changed = keep_outcomes(project, "run")
    assert changed == rows.height > 0
    assert keep_outcomes(project, "again")[1] == 0
    stored = project.lake.read("alert_outcome")
    assert stored.drop("source").equals(rows.select(stored.drop("source").columns))
    # The last day has not passed; money needs fourteen.
    late = stored.filter(pl.col("as_of") > DAYS.end - 96 * BAR)
    assert set(late["outcome"]) <= {"OPEN", "LATE"}
    assert stored["gain_vs_hold"].null_count() == stored.height
    levels = by_level(project, stored)
    assert sum(row["alerts"] for row in levels) == stored.height
    counted = project.lake.sql("SELECT sum(alerts) FROM alert_hit_rate").item()
    assert counted == stored.height
