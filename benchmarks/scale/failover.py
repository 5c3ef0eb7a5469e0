"""Two hosts, one of them active, killed again and again: `python -m benchmarks.scale.failover`, some 20 minutes.

Both run `mm daemon` as they would: real processes, a real PostgreSQL with Dagster's storage and the lake's catalogue, a
loopback KuCoin with the recorded candles of the crash of 2025-10-10, a loopback Pushover that counts what it is given.
They share the lake's folder, as two hosts share a bucket; all else that they write is their own. In each round a new
grid is configured whose stop is lost already, the next quarter hour's tick is asked for as a person would at Dagster's
page, and the active host is killed (-9, every process of it in the same moment) at a random moment of the tick, or
while Pushover has the emergency in its hands. Told is how long until the other host is active, until the rows of the
tick are whole, and until the emergency counts as sent; what was lost, and which messages came twice.

The schedule itself is off, since a quarter hour lasts one: that a missed one is made up for is a test
(mm_dagster_tests/test_failover.py). Both hosts are on one computer, which has two processors and carries the exchange,
the database and both: two real ones would start faster. No network is cut and no power lost, where the server keeps the
lease for up to LEASE_SECONDS more: that is added below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import psutil
from polars.testing import assert_frame_equal
from rich.console import Console
from rich.table import Table

from benchmarks.regime import PROJECT
from benchmarks.shared import SHARED
from mm_dagster.bars import BAR, iso
from mm_dagster.cli.lease import LEASE_SECONDS, Place, PostgresLease
from mm_dagster.defs.partitions import partition_of
from mm_dagster.history.lake import Lake
from mm_dagster.tables import registry
from mm_dagster_tests import postgres
from mm_dagster_tests.defs.live import Live, flash_crash, grid_file
from mm_dagster_tests.pushover import PushoverServer

FIRST = datetime(2025, 10, 10, 21, 15, tzinfo=UTC)
"""From here on the price is below the stop of each grid, so that each is MANDATORY_EXIT when it is first judged."""
SLOWEST_ANSWER = 1.0
"""Seconds that Pushover takes at most, half of them before it has the message."""
PATIENCE = 900.0
DECIDED = ("candles", "regime_features", "regime_verdict", "grid_risk", "exit_state")
SYMBOL = "ADA-USDT"
HISTORY: dict[str, dict[str, object]] = {"history": {"catalog": {"url_env": "MM_CATALOG_URL"}}}
LIMITS: dict[str, dict[str, object]] = {"portfolio": {"limits": {"min_step_apart": 0}}}
"""All rounds' grids are the same one."""

_LAUNCH = """mutation ($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


class SlowPushover(PushoverServer):
    """Takes a moment before it has a message, and another before it says so."""

    def __init__(self) -> None:
        super().__init__()
        # Whoever is killed hangs up.
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        self.asked = threading.Event()
        self.random = random.Random(1)

    def answer(self, method: str, path: str, fields: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """What the API says, later."""
        if not path.endswith("messages.json"):
            return super().answer(method, path, fields)
        half = self.random.uniform(0.1, SLOWEST_ANSWER) / 2
        if fields.get("priority") == "2":
            self.asked.set()
        time.sleep(half)
        said = super().answer(method, path, fields)
        time.sleep(half)
        return said


@dataclass
class Host:
    """A computer that runs `mm daemon`, with a data folder of its own but for the lake."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, as a service manager would."""
        with (self.folder / "said").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from mm_dagster.cli import main; main()", "daemon"],
                env=self.environment, cwd=self.folder, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def die(self) -> float:
        """Every process of it, in the same moment: they are stopped first, so that none sees another end.

        Returns:
            When, of the monotonic clock.
        """
        assert self.process is not None
        every = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        died = time.monotonic()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for one in every:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(number)
        self.process.wait()
        return died

    def end(self) -> None:
        """As a service manager would, when all is done."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)


@dataclass
class Round:
    """What one failover took, in seconds from the kill; and the grid that was new in it."""

    moment: str
    grid: str
    as_of: datetime
    came_late: bool = False
    """Whether the tick was over before the kill."""
    active: float = 0.0
    whole: float = 0.0
    sent: float = 0.0


@dataclass
class Stage:
    """Everything that the rounds need."""

    live: Live
    storage: str
    lake: Lake
    hosts: list[Host]
    instance: dg.DagsterInstance
    page: str
    rounds: list[Round] = field(default_factory=list)

    def active(self) -> Place | None:
        """Who has the lease."""
        return next((one for one in PostgresLease(self.storage).places() if one.is_active), None)

    def host_of(self, place: Place) -> Host:
        """The host that has it."""
        return next(h for h in self.hosts if h.process is not None and place.name.startswith(f"{h.process.pid}@"))

    def launch(self, as_of: datetime) -> str:
        """Asks for a tick at Dagster's page; the run's id."""
        parameters = {
            "selector": {
                "repositoryLocationName": "mm_dagster", "repositoryName": "__repository__", "jobName": "tick",
            },
            "runConfigData": {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition_of(as_of)}]},
        }  # fmt: skip
        answer = _ask(self.page, _LAUNCH, parameters=parameters)["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise RuntimeError(str(answer))
        return str(answer["run"]["runId"])

    def is_whole(self, one: Round) -> bool:
        """Whether the newest rows of a round are there."""
        found = self.lake.read("exit_state", grids=[one.grid])
        return bool(found.height) and found["as_of"].max() == one.as_of

    def is_sent(self, one: Round) -> bool:
        """Whether the ledger says that the emergency of a round was sent."""
        rows = self.lake.read("notification").filter(pl.col("grid_id") == one.grid, pl.col("kind") == "ESCALATION")
        return rows["status"].to_list() == ["SENT"]


def wait_until(condition: Callable[[], object], what: str, pause: float = 0.05) -> float:
    """Returns when the condition holds, with the seconds that it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + PATIENCE:
            raise TimeoutError(f"it never came to that: {what}")
        time.sleep(pause)
    return time.monotonic() - began


def _ask(page: str, query: str, **variables: object) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{page}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def _is_up(page: str) -> bool:
    try:
        return _ask(page, "{ version }") is not None
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def play(stage: Stage, number: int, moment: str, chance: random.Random, tick_seconds: float) -> Round:
    """One round: a tick is asked for, the active host dies in it, and the other does the rest."""
    pushover = stage.live.pushover
    assert isinstance(pushover, SlowPushover)
    one = Round(moment, f"ada-{number:02}", FIRST + number * BAR)
    grid = grid_file(one.grid, symbol=SYMBOL, lower=0.74, upper=0.9, stop=0.7)
    stage.live.configure([grid], **HISTORY, **LIMITS)
    stage.live.exchange.now = one.as_of + timedelta(minutes=1)
    place = stage.active()
    assert place is not None
    dying = stage.host_of(place)
    pushover.asked.clear()
    run_id = stage.launch(one.as_of)
    if moment == "tick":
        wait_until(lambda: _status(stage, run_id) == dg.DagsterRunStatus.STARTED, "the tick began")
        time.sleep(chance.uniform(0.0, 0.8 * tick_seconds))
        one.came_late = _status(stage, run_id) != dg.DagsterRunStatus.STARTED
    else:
        wait_until(pushover.asked.is_set, "a message came", 0.002)
        time.sleep(chance.uniform(0.0, SLOWEST_ANSWER))
    killed = dying.die()
    wait_until(lambda: _is_another(stage.active(), place), "the other host was active")
    one.active = time.monotonic() - killed
    wait_until(lambda: stage.is_whole(one), "the tick was whole", 0.2)
    one.whole = time.monotonic() - killed
    wait_until(lambda: stage.is_sent(one), "the emergency was sent", 0.2)
    one.sent = time.monotonic() - killed
    for receipt, said in pushover.receipts.items():
        if not said["acknowledged"]:
            pushover.acknowledge(receipt, at=int(stage.live.exchange.now.timestamp()))
    dying.start()
    wait_until(lambda: len(PostgresLease(stage.storage).places()) == 2, "the host was back")
    wait_until(lambda: not _busy(stage), "all was quiet", 0.5)
    return one


def _undisturbed(stage: Stage) -> float:
    """Seconds of a tick that nobody disturbs."""
    run_id = stage.launch(FIRST)
    wait_until(lambda: _status(stage, run_id) == dg.DagsterRunStatus.SUCCESS, "an undisturbed tick was over", 0.2)
    record = stage.instance.get_run_record_by_id(run_id)
    assert record is not None
    return (record.end_time or 0.0) - (record.start_time or 0.0)


def _status(stage: Stage, run_id: str) -> dg.DagsterRunStatus | None:
    run = stage.instance.get_run_by_id(run_id)
    return run.status if run else None


def _is_another(place: Place | None, before: Place) -> bool:
    return place is not None and place.name != before.name


def _busy(stage: Stage) -> bool:
    waiting = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    return bool(stage.instance.get_runs_count(dg.RunsFilter(statuses=waiting)))


def told(pushover: PushoverServer, ledger: pl.DataFrame) -> tuple[int, Counter[int], list[str]]:
    """What came of the ledger's alerts.

    Returns:
        How many of those that count as sent never came; how often the others came; the titles of what came twice.
    """
    sent = ledger.filter(pl.col("status") == "SENT", pl.col("channel") == "pushover")
    came = Counter((m.get("title"), m["message"], m.get("timestamp")) for m in pushover.messages)
    counts = [
        (row["title"], came[row["title"], row["message"], str(int(row["created_at"].timestamp()))])
        for row in sent.iter_rows(named=True)
    ]
    often = Counter(count for _, count in counts)
    return often[0], often, [title for title, count in counts if count > 1]


def differing(stage: Stage, folder: Path) -> int:
    """How many rows of the bars of all rounds are not those of one undisturbed tick on an empty lake."""
    last = stage.rounds[-1].as_of
    undisturbed = Live(folder, stage.live.exchange, stage.live.pushover, (SYMBOL,))
    grids = [grid_file(one.grid, symbol=SYMBOL, lower=0.74, upper=0.9, stop=0.7) for one in stage.rounds]
    undisturbed.configure(grids, **LIMITS)
    undisturbed.tick(last, alerts=False)
    wrong = 0
    for table in DECIDED:
        column = registry.time_column(table) or ""
        keys = registry.TABLES[table].primary_key()
        kept = [name for name in registry.dtypes(table) if name not in registry.LIVE_ONLY]
        whole, own = (
            lake.read(table).filter(pl.col(column).is_between(FIRST, last)).select(kept).sort(keys)
            for lake in (undisturbed.lake(), stage.lake)
        )
        try:
            assert_frame_equal(own, whole, check_exact=True)
        except AssertionError as error:
            wrong += max(1, abs(whole.height - own.height))
            print(f"{table}: {error}")
    return wrong


def prepare(folder: Path, live: Live, server: postgres.Postgres) -> Stage:
    """Both hosts, one active and one standing by, after a first tick that nobody disturbed; schedules are off."""
    storage, catalog = server.database().replace("://", "+psycopg2://"), server.database()
    live.configure([], **HISTORY, **LIMITS)
    lake_folder = folder / "shared" / "history"
    lake_folder.mkdir(parents=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    own |= {
        **live.environment(), "MM_DAGSTER_URL": storage, "MM_CATALOG_URL": catalog, "PYTHONPATH": str(PROJECT),
        "DAGSTER_HOME": str(PROJECT / "deploy" / "postgres"), "DAGSTER_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    hosts = []
    for name in ("alpha", "beta"):
        data = folder / name / "data"
        data.mkdir(parents=True)
        (data / "history").symlink_to(lake_folder)
        hosts.append(Host(folder / name, own | {"MM_DATA_DIR": str(data), "MM_DAGSTER_DIR": str(data / "dagster")}))
    os.environ |= hosts[0].environment
    page = _page(folder, hosts[0].environment)
    instance = dg.DagsterInstance.from_config(str(PROJECT / "deploy" / "postgres"))
    return Stage(live, storage, Lake(lake_folder, catalog), hosts, instance, page)


def _page(folder: Path, environment: dict[str, str]) -> str:
    """Dagster's page, which asks for ticks and switches schedules."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("dagster-webserver")), "--host", "127.0.0.1", "--port", str(port),
        "--workspace", str(PROJECT / "workspace.yaml"),
    ]  # fmt: skip
    (folder / "page").mkdir()
    with (folder / "page" / "said").open("wb") as said:
        started = subprocess.Popen(
            command, env=environment, cwd=PROJECT, stdout=said, stderr=said, start_new_session=True
        )
    (folder / "page" / "pid").write_text(str(started.pid))
    page = f"http://127.0.0.1:{port}"
    wait_until(lambda: _is_up(page), "Dagster's page was up", 0.5)
    return page


_STOP = """mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }"""
_SCHEDULES = (
    """{ repositoriesOrError { ... on RepositoryConnection { nodes { schedules { scheduleState { id } } } } } }"""
)


def stop_schedules(stage: Stage) -> None:
    """The present is not the exchange's time."""
    [repository] = _ask(stage.page, _SCHEDULES)["repositoriesOrError"]["nodes"]
    for schedule in repository["schedules"]:
        answer = _ask(stage.page, _STOP, id=schedule["scheduleState"]["id"])["stopRunningSchedule"]
        if answer["__typename"] != "ScheduleStateResult":
            raise RuntimeError(str(answer))


def show(stage: Stage, unsent: int, often: Counter[int], twice: list[str], wrong: int) -> None:
    """The table, and what stands below it."""
    console = Console(width=140)
    table = Table(title=f"{len(stage.rounds)} failovers, seconds from the kill")
    for name in ("killed in mid-", "failovers", "active min", "median", "max", "rows whole", "max", "sent", "max"):
        table.add_column(name, justify="right")
    for moment in ("tick", "send"):
        mine = [one for one in stage.rounds if one.moment == moment]
        if mine:
            active, whole, sent = ([getattr(one, name) for one in mine] for name in ("active", "whole", "sent"))
            figures = [min(active), statistics.median(active), max(active)]
            figures += [f(values) for values in (whole, sent) for f in (statistics.median, max)]
            table.add_row(moment, str(len(mine)), *(f"{figure:.1f}" for figure in figures))
    console.print(table)
    late = sum(one.came_late for one in stage.rounds)
    console.print(
        f"Of the kills in mid-tick {late} came after its end. Lost: {wrong} rows, {unsent} alerts. "
        f"Messages that came once {often[1]}, twice {often[2]}, more often "
        f"{sum(count for times, count in often.items() if times > 2)}"
        f"{': ' + '; '.join(twice) if twice else ''}.\n"
        f"A host without power or network adds up to {LEASE_SECONDS:.0f} s. Two hosts, the exchange and the database "
        "share two processors here.", highlight=False,
    )  # fmt: skip


def main() -> int:
    """Plays the rounds; 1 where something was lost or came more than twice."""
    # Whatever ends it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="3 failovers")
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args()
    count, chance = 3 if asked.quick else asked.rounds, random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="mm-failover-") as name, postgres.running() as server:
        folder = Path(name)
        with flash_crash(folder / "live", SHARED, (SYMBOL,)) as quick, SlowPushover() as pushover:
            live = Live(folder / "live", quick.exchange, pushover, (SYMBOL,))
            stage = prepare(folder, live, server)
            try:
                return _rounds(stage, folder, count, chance)
            finally:
                for host in stage.hosts:
                    host.end()
                os.killpg(int((folder / "page" / "pid").read_text()), signal.SIGKILL)


def _rounds(stage: Stage, folder: Path, count: int, chance: random.Random) -> int:
    stage.live.exchange.now = FIRST + timedelta(minutes=1)
    stop_schedules(stage)
    for host in stage.hosts:
        host.start()
        wait_until(stage.active, "a host was active")
    # The first one may have to compile the kernels.
    tick_seconds = [_undisturbed(stage) for _ in range(2)][-1]
    for number in range(1, count + 1):
        one = play(stage, number, ("tick", "send")[number % 2], chance, tick_seconds)
        stage.rounds.append(one)
        print(
            f"{number:3} mid-{one.moment}: active {one.active:.1f} s, rows whole {one.whole:.1f} s, sent "
            f"{one.sent:.1f} s{', after the tick' if one.came_late else ''}", flush=True,
        )  # fmt: skip
    ledger = stage.lake.read("notification")
    unsent, often, twice = told(stage.live.pushover, ledger)
    unsent += sum(not stage.is_sent(one) for one in stage.rounds)
    wrong = differing(stage, folder / "undisturbed")
    show(stage, unsent, often, twice, wrong)
    return int(bool(wrong or unsent or any(times > 2 for times in often)))


if __name__ == "__main__":
    sys.exit(main())
