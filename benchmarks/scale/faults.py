"""100 faults during a distributed backfill: nothing is lost or doubled, and it ends by itself.

Three workers of Celery, Redis, Dagster's daemon, PostgreSQL for Dagster's storage and the lake's catalogue, and object
storage on loopback behind a proxy for its files. Backfills of three days follow one another, each asked for by
`mm backfill --queue`, while every few seconds something is broken on purpose in the middle of a run:

    run killed        kill -9 of the process that works on a run
    host killed       kill -9 of a worker with all that it forked; another one is started
    broker killed     kill -9 of Redis, which keeps nothing; it is started again within three seconds
    session ended     pg_terminate_backend of one session: of a lock, of the lake, of Dagster, whichever comes
    sessions ended    all sessions at once, as a restart of the server does
    s3 ...            what the proxy does to requests: 503, reset, delayed, torn, dropped, lost uploads

When a backfill ends with failed runs, since more faults hit one of its groups than it has tries, the same command is
given again, as its message says. In the end all rows are compared with those of one process, over a folder.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.scale.workers import by_one
from mm_dagster.bars import Span
from mm_dagster.history.lake import Lake
from mm_dagster.pipeline.project import Project
from mm_dagster.tables import registry
from mm_dagster_tests import postgres
from mm_dagster_tests.cluster.hosts import Hosts, backfill, configure, running
from mm_dagster_tests.history import s3

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS_A_ROUND = 3
WORKERS = 3
PAUSE_SECONDS = (3.0, 9.0)
S3_HARMS = ("503", "reset", "delayed", "torn", "dropped", "lost")
S3_SHARE = 0.01
"""Of the requests that harm is done to, while it is done at all."""
TRIES = 20
"""So often a command is given before it counts as one that does not end."""


class Chaos(threading.Thread):
    """Breaks something every few seconds, until it was done often enough."""

    def __init__(self, hosts: Hosts, storage: s3.Storage | None, many: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.done: Counter[str] = Counter()
        self._hosts, self._storage, self._many = hosts, storage, many
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self.works = threading.Event()
        """Set while a backfill is under way: only then is harm of interest."""

    @property
    def total(self) -> int:
        """How often something was broken, requests of the storage included."""
        return sum(self.done.values()) + (sum(self._storage.proxy.done.values()) if self._storage else 0)

    @property
    def is_enough(self) -> bool:
        """Whether it was done often enough."""
        return self.total >= self._many

    def end(self) -> None:
        """No harm from here on; what was is counted."""
        self._over.set()
        self.join()
        if self._storage:
            self.done.update({f"s3 {name}": many for name, many in self._storage.proxy.done.items()})
            self._storage.proxy.heal()

    def run(self) -> None:
        """Until `end`."""
        kinds: list[Callable[[], str | None]] = [self._run, self._host, self._broker, self._session, self._sessions]
        while not self._over.wait(self._chance.uniform(*PAUSE_SECONDS)):
            # In the middle of a run: while none is begun, nothing could be lost, and nothing would ever end.
            if self.works.is_set() and not self.is_enough and self._hosts.busy():
                kind = self._chance.choice(kinds)()
                if kind is not None:
                    self.done[kind] += 1

    def _run(self) -> str | None:
        forked = [pid for worker in self._hosts.workers for pid in self._hosts.children(worker)]
        if not forked:
            return None
        with suppress(ProcessLookupError):
            os.kill(self._chance.choice(forked), signal.SIGKILL)
        return "run killed"

    def _host(self) -> str:
        self._hosts.kill_worker(self._chance.choice(self._hosts.workers))
        self._hosts.start_worker()
        return "host killed"

    def _broker(self) -> str:
        self._hosts.stop_broker()
        time.sleep(self._chance.uniform(0.2, 3))
        self._hosts.start_broker()
        return "broker killed"

    def _session(self) -> str:
        self._hosts.postgres.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mm' ORDER BY random() LIMIT 1"
        )
        return "session ended"

    def _sessions(self) -> str:
        self._hosts.postgres.end_sessions()
        return "sessions ended"


def keep_up(hosts: Hosts, restarted: Counter[str], over: threading.Event) -> None:
    """What a service manager does: a daemon or worker that ended is begun again."""
    while not over.wait(1.0):
        if hosts.daemon is not None and hosts.daemon.poll() is not None:
            restarted["daemon"] += 1
            hosts.start_daemon()
        for worker in [one for one in hosts.workers if one.poll() is not None]:
            restarted["worker"] += 1
            with suppress(ValueError):
                hosts.workers.remove(worker)
            hosts.start_worker()


def rounds(hosts: Hosts, chaos: Chaos, markets: int) -> tuple[int, int, Counter[str]]:
    """Backfills until enough was broken.

    Returns:
        How many rounds there were, how many commands, and with which exit codes they ended.
    """
    number, commands, codes = 0, 0, Counter[str]()
    while not chaos.is_enough:
        start = FIRST + timedelta(days=DAYS_A_ROUND * number)
        last = start + timedelta(days=DAYS_A_ROUND - 1)
        chaos.works.set()
        for _ in range(TRIES):
            commands += 1
            code, _rows = backfill(hosts, f"{start:%Y-%m-%d}", f"{last:%Y-%m-%d}", -(-markets // 6), seconds=1800)
            codes[str(code)] += 1
            if code == 0:
                break
        else:
            raise SystemExit(f"round {number}: {TRIES} commands did not end it; see {hosts.folder}")
        chaos.works.clear()
        number += 1
        print(f"  round {number}: {commands} commands, {chaos.total} faults so far", flush=True)
    return number, commands, codes


def compared(lake: Lake, expected: Lake, days: Span) -> tuple[int, int, int]:
    """How many rows are right, lost and doubled or other than they should be."""
    right = lost = other = 0
    for table in registry.EVERY_BAR:
        found, wanted = lake.read(table, span=days), expected.read(table, span=days)
        kept = [name for name in wanted.columns if name not in registry.LIVE_ONLY]
        key = registry.TABLES[table].primary_key()
        same = found.select(kept).join(wanted.select(kept), on=kept, how="semi", nulls_equal=True).unique()
        right += same.height
        lost += wanted.select(key).join(found.select(key), on=key, how="anti").height
        other += found.height - same.height
    return right, lost, other


def main() -> int:
    """Prints what was broken and what came of it; 1 where a row is lost, doubled or another."""
    # Whatever ends it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="10 faults, 6 markets")
    arguments.add_argument("--without-s3", action="store_true", help="the lake's files in a folder")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    many, markets = (10, 6) if given.quick else (100, 24)
    symbols = [f"M{number:03d}-USDT" for number in range(markets)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mm-scale-faults-") as name, postgres.running() as server:
        folder = Path(name)
        if given.without_s3:
            return _tried(folder, server, None, symbols, many, given.seed, began)
        with s3.running() as storage:
            return _tried(folder, server, storage, symbols, many, given.seed, began)


def _tried(
    folder: Path, server: postgres.Postgres, storage: s3.Storage | None, symbols: list[str], many: int, seed: int,
    began: float,
) -> int:  # fmt: skip
    settings: dict[str, object] = {"catalog": {"url_env": "MM_CATALOG_URL"}}
    if storage is not None:
        settings["data"] = {
            "path": storage.url("faults"), "endpoint": storage.proxy.endpoint, "region": s3.REGION,
            "key_env": "MM_S3_KEY", "secret_env": "MM_S3_SECRET", "timeout": 5,
        }  # fmt: skip
    configuration = configure(folder / "hosts", symbols, **settings)
    secrets = dict(zip(("MM_S3_KEY", "MM_S3_SECRET"), storage.keys["writer"], strict=True)) if storage else {}
    monitoring = {"poll_interval_seconds": 3, "start_timeout_seconds": 60}
    restarted, over = Counter[str](), threading.Event()
    with running(
        folder / "hosts", server, configuration, workers=WORKERS, secrets=secrets, run_monitoring=monitoring
    ) as hosts:
        keeper = threading.Thread(target=keep_up, args=(hosts, restarted, over), daemon=True)
        keeper.start()
        chaos = Chaos(hosts, storage, many, seed)
        if storage is not None:
            storage.proxy.harm = s3.seldom(S3_SHARE, seed, S3_HARMS)
        chaos.start()
        try:
            number, commands, codes = rounds(hosts, chaos, len(symbols))
        finally:
            over.set()
            chaos.end()
        days = Span(FIRST, FIRST + timedelta(days=DAYS_A_ROUND * number))
        expected = Lake(folder / "one" / "data" / "history") if by_one(folder / "one", symbols, days) else None
        assert expected is not None
        lake = Project.here().whole_lake
        right, lost, other = compared(lake, expected, days)
        lake.close()
    for kind, times in sorted(chaos.done.items()):
        print(f"{kind:<16} {times:>5}")
    print(f"{'in all':<16} {sum(chaos.done.values()):>5}, in {time.monotonic() - began:.0f} s")
    print(f"{number} backfills of {DAYS_A_ROUND} days, {commands} commands, exit codes {dict(codes)}")
    print(f"begun again by who watches services: {dict(restarted)}")
    print(f"rows: {right:,} right, {lost} lost, {other} doubled or other than of one process")
    return int(lost + other > 0)


if __name__ == "__main__":
    sys.exit(main())
