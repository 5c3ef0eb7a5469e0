"""From the schedule to the message: `python -m benchmarks.schedule`, a few minutes, most of them waiting.

Dagster's own daemon runs the schedule on files, as `make up` does, with 20 markets on a loopback KuCoin that tells the
present time and 20 grids, one of which loses its stop in the newest bar. Told is how long after the scheduled moment
the run has begun, the exit states are committed, and the emergency is at the loopback Pushover: after a month of
history, and after three years. The candles are real ones of KuCoin, repeated and moved to the present.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.regime import PROJECT, Size, candles, origin_of_candles
from mm_dagster.bars import BAR, floor_bar, iso, midnight
from mm_dagster.history.lake import Lake
from mm_dagster_tests.kucoin import KucoinServer
from mm_dagster_tests.pushover import PushoverServer

MARKETS = 20
MONTH, YEARS = 31, 1095
LEAD = timedelta(seconds=75)
"""How long the daemon gets to start before the scheduled minute."""
PATIENCE = 120.0
"""Seconds after the scheduled moment in which the message must have come."""
CRASH = 0.6
"""What is left of the price in the newest bar of one market."""


class Present(KucoinServer):
    """A KuCoin whose time is ours."""

    @property
    def now(self) -> datetime:  # type: ignore[override]
        return datetime.now(UTC)

    @now.setter
    def now(self, _: datetime) -> None:
        """Nobody sets the present."""


def moved(days: int, crash: datetime) -> dict[str, pl.DataFrame]:
    """Candles of each market up to tomorrow; the first market falls in the bar that opens at `crash`."""
    last = midnight(datetime.now(UTC).date()) + timedelta(days=1)
    frames = {}
    for frame in candles(Size(markets=MARKETS, days=days + 60, repetitions=0, tails=0)):
        symbol = str(frame["symbol"][0])
        shift = last - (frame["open_time"][-1] + BAR)
        frames[symbol] = frame.drop("symbol").with_columns(pl.col("open_time") + shift)
    first = next(iter(frames))
    # It falls within its bar: one that opens far from the close before is believed when it is said again, a tick later.
    fallen = pl.when(pl.col("open_time") >= crash).then(CRASH).otherwise(1.0)
    after = pl.when(pl.col("open_time") > crash).then(CRASH).otherwise(1.0)
    frames[first] = frames[first].with_columns(pl.col("open", "high") * after, pl.col("low", "close") * fallen)
    return frames


def configure(folder: Path, exchange: KucoinServer, pushover: PushoverServer, as_of: datetime) -> None:
    """The loopback exchange and Pushover; a wide grid on each market, and one with its stop close by on the first."""
    configuration = folder / "configuration"
    (configuration / "grids").mkdir(parents=True)
    venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": exchange.url}
    markets = {
        "venues": {"main": venue},
        "markets": [{"symbol": symbol, "venue": "main"} for symbol in exchange.candles],
    }
    alerts = {"pushover": {"api_url": pushover.api_url}}
    for name, content in {"markets": markets, "alerts": alerts}.items():
        (configuration / f"{name}.yaml").write_text(yaml.safe_dump(content))
    for number, (symbol, frame) in enumerate(exchange.candles.items()):
        price = frame.filter(pl.col("open_time") < as_of - BAR)["close"][-1]
        low, high, stop = (0.9, 1.5, 0.7) if number == 0 else (0.02, 50.0, 0.01)
        # The one that is to lose its stop must not have lost it before.
        begun = as_of - (timedelta(hours=2) if number == 0 else timedelta(days=7))
        grid = {
            "id": symbol.lower(), "symbol": symbol, "activated_at": iso(begun), "lower": float(price * low),
            "upper": float(price * high), "levels": 20, "spacing": "geometric", "stop": float(price * stop),
            "capital": 1000,
        }  # fmt: skip
        (configuration / "grids" / f"{symbol}.yaml").write_text(yaml.safe_dump(grid))


def mm(environment: dict[str, str], *arguments: str) -> None:
    """The command line, which must succeed."""
    command = [sys.executable, "-c", "from mm_dagster.cli import main; main()", *arguments]
    subprocess.run(command, check=True, env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL)


def measure(days: int) -> dict[str, float]:
    """Seconds after the scheduled moment: the run's start, the commit, the message; and those of the whole run."""
    begin = datetime.now(UTC)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, PushoverServer() as pushover:
        folder = Path(name)
        with Present({}, begin) as exchange:
            environment = os.environ | {
                "MM_CONFIG_DIR": str(folder / "configuration"),
                "MM_DATA_DIR": str(folder / "data"),
                "MM_DAGSTER_DIR": str(folder / "data" / "dagster"),
                "DAGSTER_HOME": str(PROJECT),
                "PUSHOVER_TOKEN": pushover.token,
                "PUSHOVER_USER": pushover.user,
            }
            # History first, without the newest quarter hours: how long that takes is not known beforehand.
            exchange.candles = moved(days, begin + timedelta(days=9))
            configure(folder, exchange, pushover, floor_bar(begin))
            first = midnight(begin.date()) - timedelta(days=days)
            mm(environment, "backfill", "--from", f"{first:%Y-%m-%d}", "--to", f"{begin - timedelta(days=1):%Y-%m-%d}")
            scheduled = (datetime.now(UTC) + LEAD).replace(second=0, microsecond=0) + timedelta(minutes=1)
            as_of = floor_bar(scheduled)
            mm(environment, "tick", "--as-of", iso(as_of - BAR))
            exchange.candles = moved(days, as_of - BAR)
            environment["MM_TICK_OFFSET_MINUTES"] = str(scheduled.minute % 15)
            with (folder / "daemon.log").open("w") as log:
                daemon = subprocess.Popen(
                    [sys.executable, "-c", "from mm_dagster.cli import main; main()", "daemon"],
                    env=environment, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
                try:
                    told = wait_for_message(pushover, scheduled)
                    found = times(folder, environment, scheduled, as_of) if told is not None else {}
                finally:
                    os.killpg(daemon.pid, signal.SIGTERM)
                    daemon.wait(timeout=30)
            if told is None:
                raise SystemExit(f"no message came: {(folder / 'daemon.log').read_text()[-2000:]}")
            return found | {"message at Pushover": told}


def wait_for_message(pushover: PushoverServer, scheduled: datetime) -> float | None:
    """Seconds from the schedule to the emergency; None: it did not come in time."""
    while (late := (datetime.now(UTC) - scheduled).total_seconds()) < PATIENCE:
        if any(message.get("priority") == "2" for message in pushover.messages):
            return late
        time.sleep(0.02)
    return None


def times(folder: Path, environment: dict[str, str], scheduled: datetime, as_of: datetime) -> dict[str, float]:
    """What Dagster and the lake say of the scheduled tick."""
    os.environ |= environment
    with dg.DagsterInstance.get() as instance:
        while True:
            # The message is there before the run has ended.
            (record,) = instance.get_run_records(dg.RunsFilter(tags={"mm/as_of": iso(as_of)}), limit=1)
            if record.end_time:
                break
            time.sleep(0.2)
        steps = {
            one.step_key: one.end_time - one.start_time
            for one in instance.get_run_step_stats(record.dagster_run.run_id)
        }
    commits = (
        Lake(folder / "data" / "history")
        .snapshots()
        .filter(
            pl.col("commit_extra_info").str.contains(record.dagster_run.run_id, literal=True),
            pl.col("commit_message").str.starts_with("exit_state"),
        )
    )
    begun = scheduled.timestamp()
    return {
        **{f"stage {name}": seconds for name, seconds in steps.items()},
        "run started": record.start_time - begun,
        "exit_state committed": commits["snapshot_time"].max().timestamp() - begun,  # type: ignore[union-attr]
        "run ended": record.end_time - begun,
        "whole run": record.end_time - record.start_time,
    }


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--month", action="store_true", help="only after a month of history")
    given = arguments.parse_args()
    cases = {"a month": MONTH} | ({} if given.month else {"three years": YEARS})
    found = {name: measure(days) for name, days in cases.items()}
    origin = origin_of_candles(Size(markets=MARKETS, days=YEARS, repetitions=0, tails=0))
    table = Table(title=f"Seconds from the schedule, {MARKETS} markets and grids ({origin})")
    table.add_column("")
    for name in cases:
        table.add_column(f"after {name}", justify="right")
    for row in next(iter(found.values())):
        table.add_row(row, *(f"{one[row]:.2f}" for one in found.values()))
    Console(width=100 if not sys.stdout.isatty() else None).print(table)


if __name__ == "__main__":
    main()
