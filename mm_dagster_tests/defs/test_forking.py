"""Runs are forked from a process that has loaded all: real code servers, killed and misled."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._grpc import server

from mm_dagster.defs.internals import forking
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.defs.forked_location import noting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere runs are not forked")

PATIENCE_SECONDS = 120
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


class Server:
    """A code server of Dagster's, and runs that are given to it."""

    def __init__(self, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext, folder: Path) -> None:
        self.instance, self.folder = instance, folder
        self.asked = workspace.create_request_context()
        [repository] = self.asked.get_code_location("here").get_repositories().values()
        self.job = repository.get_full_job("noting")

    def launch(self, name: str, seconds: float = 0.0) -> str:
        config = {"ops": {"notes": {"config": {"file": str(self.folder / name), "seconds": seconds}}}}
        run = self.instance.create_run_for_job(
            noting,
            run_config=config,
            remote_job_origin=self.job.get_remote_origin(),
            job_code_origin=self.job.get_python_origin(),
        )
        self.instance.launch_run(run.run_id, self.asked)
        return run.run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def noted(self, name: str) -> dict[str, Any]:
        """What a run noted that is launched now, at its end."""
        run_id = self.launch(name)
        wait_until(lambda: self.status(run_id) in ENDED)
        assert self.status(run_id) == dg.DagsterRunStatus.SUCCESS
        found: dict[str, Any] = json.loads((self.folder / name).read_text())
        return found


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    target = ModuleTarget(
        "mm_dagster_tests.defs.forked_location", attribute=None, working_directory=str(PROJECT), location_name="here"
    )
    with (
        dg.DagsterInstance.local_temp(str(folder)) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        yield Server(instance, workspace, folder)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a server begins, and what it is told."""
    monkeypatch.setenv("SAID_TO_THE_SERVER", "this")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "first"), str(PROJECT)]))
    return tmp_path


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def names_of_threads(tasks: Path) -> Counter[str]:
    """Of the threads of a process, without the allocator's, which come and go."""
    names = [(thread / "comm").read_text().strip() for thread in tasks.iterdir()]
    return Counter(name for name in names if not name.startswith("jemalloc"))


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
def test_all_runs_are_forks_of_one_process_that_has_loaded_what_they_need(place: Path) -> None:
    with serving(place) as here:
        runs = [here.noted("one"), here.noted("two")]
        parent = Path(f"/proc/{runs[0]['parent']}")
        command = (parent / "cmdline").read_text()
        threads = names_of_threads(parent / "task")
    assert "forkserver" in command
    # A fork has none of its parent's threads. Those that wait for work since a library was imported miss nothing.
    imported = subprocess.run(
        [sys.executable, "-c", "import numpy, duckdb, polars, pyarrow, os, time; time.sleep(.2); os.system("
         "f'cat /proc/{os.getpid()}/task/*/comm')"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert threads <= Counter(one for one in imported.stdout.split() if not one.startswith("jemalloc"))
    assert len({run["pid"] for run in runs}) == 2
    assert len({run["parent"] for run in runs}) == 1
    assert len({run["random"] for run in runs}) == 2, "a fork does not repeat what another one drew"
    for run in runs:
        assert run["loaded"] == ["ccxt", "mm_dagster.defs.loading", "numba"]
        assert run["said"] == "this"
        assert run["folder"] == str(Path.cwd())


@pytest.mark.slow
def test_whatever_is_killed_the_next_run_begins_and_nothing_is_left(place: Path) -> None:
    with serving(place) as here:
        first = here.noted("first")
        os.kill(first["parent"], signal.SIGKILL)
        second = here.noted("second")
        assert second["parent"] != first["parent"]
        # A run that is killed takes none other with it, and its server says so.
        run_id = here.launch("killed", seconds=PATIENCE_SECONDS)
        wait_until((place / "killed").exists)
        os.kill(json.loads((place / "killed").read_text())["pid"], signal.SIGKILL)
        wait_until(lambda: here.status(run_id) == dg.DagsterRunStatus.FAILURE)
        assert here.noted("third")["parent"] == second["parent"]
        # The code server itself: who forks for it ends with it.
        os.kill(parent_of(second["parent"]), signal.SIGKILL)
        wait_until(lambda: is_gone(second["parent"]))


@pytest.mark.slow
def test_a_run_whose_fork_server_is_killed_ends_what_it_began(place: Path) -> None:
    # Its code server takes it for dead, so that it is made again beside: the locks of the history and of the senders,
    # not Dagster's word, keep the two apart.
    with serving(place) as here:
        run_id = here.launch("working", seconds=10.0)
        wait_until((place / "working").exists)
        run = json.loads((place / "working").read_text())
        os.kill(run["parent"], signal.SIGKILL)
        wait_until(lambda: here.status(run_id) == dg.DagsterRunStatus.FAILURE)
        assert not is_gone(run["pid"])
        wait_until(lambda: here.status(run_id) == dg.DagsterRunStatus.SUCCESS)


@pytest.mark.slow
def test_a_run_that_is_to_stop_stops(place: Path) -> None:
    with serving(place) as here:
        run_id = here.launch("long", seconds=PATIENCE_SECONDS)
        wait_until((place / "long").exists)
        assert here.instance.run_launcher.terminate(run_id)
        wait_until(lambda: here.status(run_id) in ENDED)
        assert here.status(run_id) == dg.DagsterRunStatus.CANCELED


@pytest.mark.slow
@pytest.mark.parametrize("breaks", ["raise RuntimeError('broken')", "raise ImportError('broken')", "raise SystemExit"])
def test_what_cannot_be_loaded_before_is_left_to_the_run(place: Path, breaks: str) -> None:
    (place / "first").mkdir()
    (place / "first" / "ccxt.py").write_text(breaks)
    with serving(place) as here:
        assert here.noted("one")["loaded"] == ["mm_dagster.defs.loading", "numba"]


@pytest.mark.slow
def test_a_run_begins_where_the_fork_server_is_not_heard_any_more(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with serving(place) as here:
        forks = here.noted("one")["parent"]
        [socket] = folder.glob("pymp-*/listener-*")
        socket.unlink()
        second = here.noted("two")
        assert second["parent"] == parent_of(forks), "the code server itself"


@pytest.mark.slow
def test_a_run_begins_where_there_can_be_no_fork_server(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = place / ("much-too-long-for-the-address-of-a-socket-" * 3)
    deep.mkdir()
    monkeypatch.setenv("TEMPORARY_FILES_OF_THE_SERVER", str(deep))
    with serving(place) as here:
        assert here.noted("one")["loaded"] == []


@pytest.mark.parametrize(("version", "forks"), [((3, 11, 0), False), ((3, 11, 1), True), ((3, 13, 0), True)])
def test_nothing_is_forked_where_python_lets_every_user_give_orders(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], forks: bool
) -> None:
    monkeypatch.setattr(server.DagsterApiServer, "_mp_ctx", None, raising=False)
    monkeypatch.setattr(forking.sys, "version_info", version)
    forking.fork_runs()
    assert isinstance(vars(server.DagsterApiServer)["_mp_ctx"], forking._Forks) == forks


def test_no_other_process_than_a_code_server_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(server.DagsterApiServer, "_mp_ctx", raising=False)
    monkeypatch.delitem(sys.modules, forking.SERVER)
    forking.fork_runs()
    assert "_mp_ctx" not in vars(server.DagsterApiServer)


def test_dagster_reads_the_context_to_start_a_run_and_for_nothing_else() -> None:
    source = inspect.getsource(server)
    assert source.count("_mp_ctx") == 4, "defs/internals/forking.py replaces what a code server starts its runs by"
    assert 'self._mp_ctx = multiprocessing.get_context("spawn")' in source
    for name in ("Queue", "Event", "Process"):
        assert f"self._mp_ctx.{name}(" in inspect.getsource(server.DagsterApiServer.StartRun)
