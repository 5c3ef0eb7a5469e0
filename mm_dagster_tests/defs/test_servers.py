"""A daemon keeps its code server while that is well: a real one, killed, frozen and old."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.grpc_server_registry import (
    ErrorRegistryEntry,
    GrpcServerRegistry,
    ServerRegistryEntry,
)
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.controller import DagsterDaemonController, create_daemon_grpc_server_registry
from dagster._utils.error import SerializableErrorInfo

from mm_dagster.defs.internals import servers


class Daemons:
    """The code servers of a daemon, for one place of code."""

    def __init__(self, registry: GrpcServerRegistry, origin: object) -> None:
        self.registry, self._origin = registry, origin

    @property
    def entry(self) -> ServerRegistryEntry | ErrorRegistryEntry:
        """The server that it has, or begins."""
        return self.registry.get_grpc_server_entry(self._origin)  # type: ignore[arg-type]

    @property
    def pid(self) -> int:
        """Of that server."""
        entry = self.entry
        assert isinstance(entry, ServerRegistryEntry)
        return entry.process.server_process.pid

    def put(self, entry: ServerRegistryEntry | ErrorRegistryEntry) -> None:
        """Another one in its place."""
        [name] = self.registry._active_entries
        self.registry._active_entries[name] = entry


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemons]:
    (tmp_path / "place.py").write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    target = PythonFileTarget(str(tmp_path / "place.py"), None, str(tmp_path), "here")
    [origin] = target.create_origins()
    monkeypatch.setattr(GrpcServerRegistry, "clear_all_grpc_endpoints", GrpcServerRegistry.clear_all_grpc_endpoints)
    servers.keep()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, create_daemon_grpc_server_registry(instance) as made:
        yield Daemons(made, origin)


@pytest.mark.slow
def test_a_server_that_is_well_is_kept(daemon: Daemons) -> None:
    before = daemon.pid
    daemon.registry.clear_all_grpc_endpoints()
    assert daemon.pid == before


def killed(daemon: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = daemon.entry
    assert isinstance(entry, ServerRegistryEntry)
    entry.process.server_process.kill()
    entry.process.server_process.wait()


def frozen(daemon: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ANSWER_SECONDS", 1)
    os.kill(daemon.pid, signal.SIGSTOP)


def old(daemon: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = daemon.entry
    daemon.put(entry._replace(creation_timestamp=entry.creation_timestamp - servers.KEPT_SECONDS))


def of_the_future(daemon: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it seems when the clock was set back."""
    entry = daemon.entry
    daemon.put(entry._replace(creation_timestamp=entry.creation_timestamp + servers.KEPT_SECONDS))


def never_begun(daemon: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = daemon.entry
    error = SerializableErrorInfo("it could not be begun", [], None)
    daemon.put(ErrorRegistryEntry(error=error, **{k: v for k, v in entry._asdict().items() if k != "process"}))


@pytest.mark.slow
@pytest.mark.parametrize("happens", [killed, frozen, old, of_the_future, never_begun])
def test_in_place_of_one_that_is_not_another_begins(
    daemon: Daemons, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Daemons, pytest.MonkeyPatch], None]
) -> None:
    before = daemon.pid
    happens(daemon, monkeypatch)
    daemon.registry.clear_all_grpc_endpoints()
    after = daemon.pid
    if happens is frozen:
        os.kill(before, signal.SIGCONT)
    assert after != before
    daemon.registry.clear_all_grpc_endpoints()
    assert daemon.pid == after


def test_dagster_does_away_with_all_servers_before_it_looks_at_the_code_again_and_nowhere_else() -> None:
    source = inspect.getsource(DagsterDaemonController)
    assert source.count("clear_all_grpc_endpoints()") == 1, "defs/internals/servers.py replaces what it does"
    assert "clear_all_grpc_endpoints()" in inspect.getsource(DagsterDaemonController.check_workspace_freshness)
    for name in ("_lock", "_active_entries"):
        assert f"self.{name}" in inspect.getsource(GrpcServerRegistry)
