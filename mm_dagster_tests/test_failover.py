"""Dagster's own daemon under `mm daemon`, on a real PostgreSQL: what was missed is made up for, and versions change.

How fast, and what is lost when hosts die: `python -m benchmarks.scale.failover`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, ScheduleInstigatorData, TickStatus

from mm_dagster.bars import floor_bar, iso
from mm_dagster.cli.lease import PostgresLease
from mm_dagster.history.lake import Lake
from mm_dagster.logs import TICK_TAG
from mm_dagster.tables import registry
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.postgres import Postgres

pytestmark = pytest.mark.long

PATIENCE_SECONDS = 600
SCHEDULE = "every_quarter_hour"
KNOWN = registry.SCHEMA_VERSION


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.2)


@pytest.fixture
def surroundings(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A small configuration, and both halves in PostgreSQL; this process sees them, too."""
    configure(tmp_path)
    (tmp_path / "configuration" / "history.yaml").write_text("catalog: {url_env: MM_CATALOG_URL}\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    own |= {
        "MM_CONFIG_DIR": str(tmp_path / "configuration"),
        "MM_DATA_DIR": str(tmp_path / "data"),
        "MM_DAGSTER_DIR": str(tmp_path / "data" / "dagster"),
        "DAGSTER_HOME": str(PROJECT / "deploy" / "postgres"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "MM_DAGSTER_URL": postgres.database().replace("://", "+psycopg2://"),
        "MM_CATALOG_URL": postgres.database(),
    }
    (tmp_path / "data" / "dagster").mkdir(parents=True)
    monkeypatch.setattr(os, "environ", own)
    return own


@pytest.fixture
def instance(surroundings: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(surroundings["DAGSTER_HOME"]) as one:
        yield one


@contextmanager
def daemon(surroundings: dict[str, str], said: Path, checkout: Path = PROJECT) -> Iterator[subprocess.Popen[bytes]]:
    """`mm daemon` of a checkout while the block goes on; what it says is added to a file."""
    command = [sys.executable, "-c", "from mm_dagster.cli import main; main()", "daemon"]
    own = surroundings | {"PYTHONPATH": str(checkout), "DAGSTER_HOME": str(checkout / "deploy" / "postgres")}
    with said.open("ab") as log:
        process = subprocess.Popen(command, env=own, cwd=said.parent, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def mm(checkout: Path, surroundings: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of a checkout."""
    command = [sys.executable, "-c", "from mm_dagster.cli import main; main()", *words]
    own = surroundings | {"PYTHONPATH": str(checkout)}
    return subprocess.run(command, env=own, cwd=folder, check=False, capture_output=True, text=True)


def active(surroundings: dict[str, str]) -> str:
    """The number of the process that is active; empty: none is."""
    places = PostgresLease(surroundings["MM_DAGSTER_URL"]).places()
    return next((place.name.partition("@")[0] for place in places if place.is_active), "")


def schedule(instance: dg.DagsterInstance) -> InstigatorState | None:
    return next((state for state in instance.all_instigator_state() if state.instigator_name == SCHEDULE), None)


def evaluated(instance: dg.DagsterInstance) -> InstigatorTick:
    """The newest evaluation of the schedule."""
    state = schedule(instance)
    assert state is not None
    return instance.get_ticks(state.instigator_origin_id, state.selector_id)[0]


def rewind(instance: dg.DagsterInstance, by: timedelta) -> None:
    """As if no scheduler had looked for so long."""
    state = schedule(instance)
    assert state is not None
    assert isinstance(state.instigator_data, ScheduleInstigatorData)
    since = (datetime.now(UTC) - by).timestamp()
    data = ScheduleInstigatorData(state.instigator_data.cron_schedule, since, since)
    instance.update_instigator_state(state.with_data(data))
    for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id):
        assert tick.timestamp < since, "a quarter hour came in the middle of the test"


def ticks(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(job_name="tick")))


def last_quarter() -> datetime:
    """The quarter hour whose tick was scheduled last."""
    return floor_bar(datetime.now(UTC) - timedelta(minutes=1))


def not_close_to_a_tick() -> None:
    """Waits where a tick is due within the next minutes, which would be one more than is counted."""
    while (datetime.now(UTC) - timedelta(minutes=1)) - last_quarter() > timedelta(minutes=10):
        time.sleep(5)


def started_once(surroundings: dict[str, str], instance: dg.DagsterInstance, said: Path, checkout: Path) -> None:
    """Has a daemon note its schedules; then it is told to end."""
    with daemon(surroundings, said, checkout):
        wait_until(lambda: schedule(instance))


def test_a_quarter_hour_that_came_while_nobody_was_active_is_evaluated_once_and_only_the_newest(
    surroundings: dict[str, str], instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    not_close_to_a_tick()
    said = tmp_path / "said"
    started_once(surroundings, instance, said, PROJECT)
    assert ticks(instance) == []
    rewind(instance, timedelta(minutes=50))
    with daemon(surroundings, said):
        wait_until(lambda: ticks(instance))
        state = schedule(instance)
        assert state is not None
        wait_until(
            lambda: instance.get_ticks(state.instigator_origin_id, state.selector_id)[0].status != TickStatus.STARTED
        )
    [run] = ticks(instance)
    assert run.tags[TICK_TAG] == iso(last_quarter())
    # Who died right behind it, before the end of the evaluation was noted, has asked for the run already.
    [tick, *_] = instance.get_ticks(state.instigator_origin_id, state.selector_id)
    instance.update_tick(tick.with_status(TickStatus.STARTED))
    with daemon(surroundings, said):
        wait_until(
            lambda: instance.get_ticks(state.instigator_origin_id, state.selector_id)[0].status == TickStatus.SUCCESS
        )
    assert "Resuming previously interrupted schedule execution" in said.read_text()
    assert len(ticks(instance)) <= 2, "at most the run and its retry"
    assert {one.tags[TICK_TAG] for one in ticks(instance)} == {iso(last_quarter())}


@pytest.fixture
def checkouts(tmp_path: Path) -> tuple[Path, Path]:
    """This commit, and one behind it that raises the schema of the lake."""
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        pytest.skip("no git, or no checkout")
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        subprocess.run([git, "clone", "--quiet", "--no-hardlinks", str(PROJECT), str(folder)], check=True)
    registry = new / "mm_dagster" / "tables" / "registry.py"
    text, times = re.subn(
        r"(?m)^SCHEMA_VERSION = (\d+)$", lambda found: f"SCHEMA_VERSION = {int(found[1]) + 1}", registry.read_text()
    )
    assert times == 1
    registry.write_text(text)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([git, "-C", str(new), *author, "commit", "--quiet", "--all", "-m", "A newer schema"], check=True)
    return old, new


def test_a_new_version_takes_over_while_a_tick_is_under_way_and_raises_the_schema_only_then(
    surroundings: dict[str, str], instance: dg.DagsterInstance, tmp_path: Path, checkouts: tuple[Path, Path]
) -> None:
    not_close_to_a_tick()
    old, new = checkouts
    before, after = tmp_path / "said by the old", tmp_path / "said by the new"
    # The lake is there, and what must be compiled is: a tick takes seconds from here on.
    assert mm(old, surroundings, tmp_path, "tick").returncode == 0
    first = {run.run_id for run in ticks(instance)}
    started_once(surroundings, instance, before, old)
    rewind(instance, timedelta(minutes=50))
    lake = Lake(tmp_path / "data" / "history", surroundings["MM_CATALOG_URL"])

    def schema() -> int:
        return int(lake.sql("SELECT max(version) FROM lake_schema").item())

    def status(run: dg.DagsterRun) -> dg.DagsterRunStatus:
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        return found.status

    with ExitStack() as stack:
        leaving = stack.enter_context(daemon(surroundings, before, old))
        wait_until(lambda: active(surroundings) == str(leaving.pid))
        coming = stack.enter_context(daemon(surroundings, after, new))
        wait_until(lambda: len(PostgresLease(surroundings["MM_DAGSTER_URL"]).places()) == 2)
        wait_until(lambda: len(ticks(instance)) > len(first))
        [run] = [one for one in ticks(instance) if one.run_id not in first]
        wait_until(lambda: status(run) == dg.DagsterRunStatus.STARTED)
        leaving.send_signal(signal.SIGTERM)
        assert leaving.wait(90) == 0
        # Whatever was under way has ended, and as it should.
        assert status(run) == dg.DagsterRunStatus.SUCCESS
        assert schema() == KNOWN
        wait_until(lambda: active(surroundings) == str(coming.pid))
        wait_until(lambda: b"Instance is configured with the following daemons" in after.read_bytes())
        coming.send_signal(signal.SIGTERM)
        assert coming.wait(90) == 0
    # What the new one does first is what raises it.
    assert mm(new, surroundings, tmp_path, "tick").returncode == 0
    told = mm(new, surroundings, tmp_path, "sql", "SELECT max(version) AS version FROM lake_schema", "--json")
    assert json.loads(told.stdout) == [{"version": KNOWN + 1}]
    refused = mm(old, surroundings, tmp_path, "status")
    assert refused.returncode == 1
    assert f"written by a newer program (schema {KNOWN + 1}, this one knows {KNOWN}); update" in refused.stderr
