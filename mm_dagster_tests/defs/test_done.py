"""What is said to be done is done: the tick with its snapshot, a check over something, the present by a tick alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from mm_dagster.bars import BAR, Span, parse_time
from mm_dagster.definitions import defs
from mm_dagster.defs.exit import JUDGED
from mm_dagster.defs.partitions import partition_of
from mm_dagster.pipeline import snapshots
from mm_dagster.pipeline.findings import of_states
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.cli.small import configure

AS_OF = parse_time("2026-06-26T12:00:00Z")
EXIT = dg.AssetKey("exit_state")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dg.DagsterInstance]]:
    folder = tmp_path_factory.mktemp("done")
    configure(folder)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("MM_CONFIG_DIR", str(folder / "configuration"))
        patch.setenv("MM_DATA_DIR", str(folder / "data"))
        yield folder, instance


def run(instance: dg.DagsterInstance, job: str, as_of: str = "", **arguments: object) -> dg.ExecuteInProcessResult:
    quiet = {"console": {"config": {"log_level": "CRITICAL"}}}
    config = {"resources": {"turn": {"config": {"as_of": as_of}}}, "loggers": quiet}
    return (
        defs()
        .resolve_job_def(job)
        .execute_in_process(instance=instance, run_config=config, raise_on_error=False, **arguments)  # type: ignore[arg-type]
    )


def tick(instance: dg.DagsterInstance, as_of: str) -> dg.ExecuteInProcessResult:
    return run(instance, "tick", as_of, partition_key=partition_of(parse_time(as_of)))


def noted(as_of: str) -> dict[str, object]:
    end = parse_time(as_of)
    return Project.here().lake.read("tick", span=Span(end - BAR, end)).row(0, named=True)


def judged(done: dg.ExecuteInProcessResult) -> dict[str, object]:
    """What a run noted of exit_state."""
    (event, *_) = [one for one in done.all_events if one.is_step_materialization and one.asset_key == EXIT]
    return dict(event.step_materialization_data.materialization.metadata)


@pytest.mark.slow
def test_a_tick_says_what_is_now_and_is_finished_after_its_snapshot(place: tuple[Path, dg.DagsterInstance]) -> None:
    _, instance = place
    done = tick(instance, "2026-06-26T12:00:00Z")
    assert done.success
    assert "states" in judged(done)
    (check,) = [one for one in done.get_asset_check_evaluations() if one.asset_check_key == JUDGED]
    assert (check.passed, check.description) == (True, "The active grid eth is judged at 2026-06-26T12:00:00Z.")
    (judged_at,) = [
        event.timestamp for event in instance.all_logs(done.run_id)
        if event.dagster_event and event.dagster_event.is_step_success and event.dagster_event.step_key == "exit_state"
    ]  # fmt: skip
    finished = noted("2026-06-26T12:00:00Z")["finished_at"]
    assert finished is not None
    assert finished.timestamp() > judged_at  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_run_over_days_describes_them_and_says_nothing_of_now(place: tuple[Path, dg.DagsterInstance]) -> None:
    _, instance = place
    day = {f"dagster/asset_partition_range_{end}": "2026-06-24" for end in ("start", "end")}
    done = run(instance, "history", tags=day)
    assert done.success
    assert judged(done).keys() & {"states", "picture", "at_a_glance"} == set()
    assert JUDGED not in {one.asset_check_key for one in done.get_asset_check_evaluations()}


@pytest.mark.slow
def test_a_tick_whose_snapshot_fails_is_not_finished(
    place: tuple[Path, dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, instance = place

    def fails(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(snapshots, "render_snapshot", fails)
    assert not tick(instance, "2026-06-26T12:15:00Z").success
    row = noted("2026-06-26T12:15:00Z")
    assert row["finished_at"] is None
    # The decisions stand all the same.
    assert row["symbols_ok"] == ["ETH-USDT"]
    monkeypatch.undo()


def test_a_check_over_no_grid_does_not_pass(place: tuple[Path, dg.DagsterInstance], tmp_path: Path) -> None:
    folder, _ = place
    project = Project(str(folder / "configuration"), str(tmp_path))
    assert not of_states(project, [], None).passed
    grid = folder / "configuration" / "grids" / "eth.yaml"
    before = grid.read_text()
    grid.write_text(yaml.safe_dump(yaml.safe_load(before) | {"enabled": False}))
    try:
        found = of_states(Project(str(folder / "configuration"), str(folder / "data")), [], AS_OF)
    finally:
        grid.write_text(before)
    assert (found.passed, found.is_error) == (False, False)
    assert found.sentence == "Nothing is judged: no grid is active at 2026-06-26T12:00:00Z."
