"""A plan that a person approved is carried out by Dagster: one run at a time, until it is over, and never unasked."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from mm_dagster.definitions import defs
from mm_dagster.execution.journal import Journal
from mm_dagster.pipeline import exit_account, exits
from mm_dagster.pipeline.project import Project
from mm_dagster_tests import paper_home
from mm_dagster_tests.execution.trials import Hasty

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_home.filled(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that the environment names, with an instance of its own."""
    folder = paper_home.copied(home, tmp_path / "home")
    monkeypatch.setenv("MM_CONFIG_DIR", str(folder / "configuration"))
    monkeypatch.setenv("MM_DATA_DIR", str(folder / "data"))
    monkeypatch.setattr(exits, "time", Hasty())
    return folder


def asked(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the sensor wants now."""
    sensor = defs().resolve_sensor_def("plans_are_open")
    context = dg.build_sensor_context(
        instance=instance, repository_def=defs().get_repository_def(), resources={"project": Project.here()}
    )
    return list(sensor.evaluate_tick(context).run_requests or [])


def approved(folder: Path) -> str:
    project = paper_home.opened(folder)
    kept = exits.propose(project, "eth", "paper", accept=True)
    exits.approve(project, kept.plan_id, "anna")
    return kept.plan_id


def test_nothing_is_asked_for_without_an_approval(here: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert asked(instance) == []
        kept = exits.propose(paper_home.opened(here), "eth", "paper", accept=True)
        assert asked(instance) == []
        assert Journal(here / "data").kept(kept.plan_id).plan.state == "PROPOSED"


def test_an_approved_plan_is_carried_out_by_one_run_and_kept_in_the_lake(here: Path) -> None:
    plan = approved(here)
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = asked(instance)
        assert request.tags["mm/plan"] == plan
        done = (
            defs()
            .resolve_job_def("leave_grid")
            .execute_in_process(run_config=request.run_config, tags=request.tags, instance=instance)
        )
        assert done.success
        assert Journal(here / "data").kept(plan).plan.state == "DONE"
        assert asked(instance) == []
    rows = paper_home.opened(here).lake.read("exit_plan").to_dicts()
    assert [(row["plan_id"], row["state"], row["mode"]) for row in rows] == [(plan, "DONE", "paper")]


def test_a_plan_under_way_has_no_second_run_and_a_dead_one_another(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approved(here)
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = asked(instance)
        instance.create_run_for_job(
            defs().resolve_job_def("leave_grid"), tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED,
            run_config=request.run_config,
        )  # fmt: skip
        assert asked(instance) == []
        real = datetime

        class Later(datetime):
            @classmethod
            def now(cls, tz=None):  # type: ignore[no-untyped-def]
                return real.now(tz) + timedelta(minutes=11)

        monkeypatch.setattr("mm_dagster.defs.runs.datetime", Later)
        assert len(asked(instance)) == 1


def test_a_persons_hand_on_the_account_is_no_failure_of_the_run(here: Path) -> None:
    plan = approved(here)
    project = paper_home.opened(here)
    kept = Journal(here / "data").kept(plan)
    with dg.DagsterInstance.ephemeral() as instance, exit_account.one_at_a_time(project, kept, "paper"):
        (request,) = asked(instance)
        done = defs().resolve_job_def("leave_grid").execute_in_process(run_config=request.run_config, instance=instance)
        assert done.success
    assert Journal(here / "data").kept(plan).plan.state == "APPROVED"


def test_a_plan_that_was_under_way_is_halted_when_the_mode_is_switched_off(here: Path) -> None:
    plan = approved(here)
    (here / "configuration" / "orders.yaml").write_text("mode: off\n")
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = asked(instance)
        defs().resolve_job_def("leave_grid").execute_in_process(run_config=request.run_config, instance=instance)
        kept = Journal(here / "data").kept(plan)
        assert (kept.plan.state, kept.plan.orders) == ("HALTED", ())
        assert "mode: off allows no paper plan any more" in kept.reason
        assert asked(instance) == []
