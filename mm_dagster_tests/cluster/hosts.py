"""Several hosts on one machine: PostgreSQL, a broker, Dagster's daemon, workers of Celery, all in their processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import psutil
import yaml

from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.postgres import Postgres

BIN = Path(sys.executable).parent
LOCATION = "mm_dagster_tests.cluster.location"


def configure(folder: Path, symbols: Sequence[str], **history: Any) -> Path:
    """Simulated markets with a grid on every tenth of them, and a catalogue on a server; the configuration's folder."""
    configuration = folder / "configuration"
    (configuration / "grids").mkdir(parents=True)
    markets = {
        "venues": {"main": {"kind": "simulated"}},
        "markets": [{"symbol": symbol, "venue": "main"} for symbol in symbols],
    }
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    if history:
        (configuration / "history.yaml").write_text(yaml.safe_dump(history))
    return configuration


def free_port() -> int:
    """One that nobody listens on at this moment, of the loopback."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Hosts:
    """What runs, and how to do harm to it.

    Attributes:
        folder: everything that is written is below it.
        postgres: the server of Dagster's storage and of the lake's catalogue.
        environment: of every process.
        broker: the process of the broker; None: it is down.
        daemon: Dagster's.
        workers: of Celery; each is a process that forks.
    """

    folder: Path
    postgres: Postgres
    environment: Mapping[str, str]
    port: int
    broker: subprocess.Popen[bytes] | None = None
    daemon: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_broker(self) -> None:
        """Redis, which keeps nothing: a restart loses what waits."""
        self.broker = self._start(
            "redis", "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise TimeoutError("redis-server does not listen")

    def stop_broker(self) -> None:
        """kill -9."""
        assert self.broker is not None
        self.broker.kill()
        self.broker.wait()
        self.broker = None

    def start_daemon(self) -> None:
        """Dagster's daemon, with the code location of the trials."""
        self.daemon = self._start("daemon", BIN / "dagster-daemon", "run", "--module-name", LOCATION)

    def wait_for_daemon(self) -> None:
        """Until each of its daemons has beaten."""
        deadline = time.monotonic() + 120
        with dg.DagsterInstance.get() as instance:
            while instance.get_required_daemon_types() - instance.get_daemon_heartbeats().keys():
                if time.monotonic() > deadline:
                    raise TimeoutError((self.folder / "daemon.log").read_text()[-3000:])
                time.sleep(0.3)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """A worker with one place, as on a host of its own."""
        place = f"w{len(self.workers)}-{time.monotonic_ns()}"
        one = self._start(
            "worker", BIN / "celery", "--app", "mm_dagster.cluster.worker", "worker", "--concurrency", "1",
            "--hostname", f"{place}@here", "--loglevel", "INFO", "--without-gossip", "--without-mingle",
        )  # fmt: skip
        self.workers.append(one)
        return one

    def mm(self, *arguments: str) -> subprocess.Popen[str]:
        """A command."""
        log = (self.folder / "mm.log").open("a")
        return subprocess.Popen(
            [BIN / "mm", *arguments], env=dict(self.environment), cwd=self.folder, stdout=subprocess.PIPE, stderr=log,
            text=True,
        )  # fmt: skip

    def children(self, worker: subprocess.Popen[bytes]) -> list[int]:
        """The processes that a worker has forked."""
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(worker.pid).children(recursive=True)]
        return []

    def busy(self) -> list[subprocess.Popen[bytes]]:
        """The workers whose fork has begun with a run: it has a session for the lock of that."""
        said = self.postgres.run("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'mm_%'")
        begun = {name.split()[-1] for name in said.splitlines() if name.strip()}
        return [one for one in self.workers if any(str(pid) in begun for pid in self.children(one))]

    def kill_worker(self, worker: subprocess.Popen[bytes]) -> None:
        """The whole host at once: the worker and what it forked, kill -9."""
        forked = self.children(worker)
        worker.kill()
        for pid in forked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        worker.wait()
        self.workers.remove(worker)

    def stop(self) -> None:
        """Ends everything but PostgreSQL."""
        for worker in [*self.workers]:
            self.kill_worker(worker)
        if self.daemon is not None:
            _end(self.daemon)
        if self.broker is not None:
            self.stop_broker()

    def _start(self, name: str, *command: str | Path) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        return subprocess.Popen(
            [str(part) for part in command], env=dict(self.environment), cwd=self.folder, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    """A process with its session, which it leads."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def running(
    folder: Path,
    postgres: Postgres,
    configuration: Path,
    *,
    workers: int,
    secrets: Mapping[str, str] | None = None,
    **instance: Any,
) -> Iterator[Hosts]:
    """Hosts that share nothing but PostgreSQL, the broker, and where the lake's files are.

    Args:
        folder: for everything.
        postgres: a server.
        configuration: its folder, whose history.yaml names MM_CATALOG_URL.
        workers: how many, each with one place.
        secrets: further variables of every process.
        instance: changes of deploy/celery/dagster.yaml: of `run_monitoring`, `concurrency`.
    """
    home = folder / "dagster"
    home.mkdir(parents=True)
    settings = yaml.safe_load((PROJECT / "deploy" / "celery" / "dagster.yaml").read_text())
    for name, changes in instance.items():
        settings[name] |= changes
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    kept = ("PATH", "HOME", "NUMBA_CACHE_DIR", "LANG")
    environment = {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "PYTHONPATH": str(PROJECT),
        "DAGSTER_HOME": str(home),
        "MM_DAGSTER_DIR": str(folder / "data" / "dagster"),
        "MM_DAGSTER_URL": postgres.database().replace("postgresql://", "postgresql+psycopg2://"),
        "MM_CATALOG_URL": postgres.database(),
        "MM_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "MM_CONFIG_DIR": str(configuration),
        "MM_DATA_DIR": str(folder / "data"),
        **(secrets or {}),
    }
    hosts = Hosts(folder, postgres, environment, port)
    try:
        hosts.start_broker()
        hosts.start_daemon()
        for _ in range(workers):
            hosts.start_worker()
        with patch.dict(os.environ, environment):
            hosts.wait_for_daemon()
            yield hosts
    finally:
        hosts.stop()


def backfill(
    hosts: Hosts, first: str, last: str, markets_a_run: int, seconds: float = 1200
) -> tuple[int, list[dict[str, Any]]]:
    """A whole backfill by the queue: its exit code and its rows."""
    asked = hosts.mm(
        "backfill", "--from", first, "--to", last, "--queue", "--markets-a-run", str(markets_a_run), "--json"
    )
    said, _ = asked.communicate(timeout=seconds)
    return asked.returncode, json.loads(said) if said.strip().startswith("[") else []
