"""A project on a loopback exchange and a loopback Pushover, driven through the real Dagster jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import yaml
from click.testing import Result
from typer.testing import CliRunner

from mm_dagster import cli
from mm_dagster.bars import BAR, Span, iso
from mm_dagster.definitions import defs
from mm_dagster.defs.partitions import partition_of
from mm_dagster.history.lake import Lake
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.kucoin import KucoinServer
from mm_dagster_tests.pushover import PushoverServer

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

CRASH_GRIDS = {
    "eth": {"symbol": "ETH-USDT", "lower": 3900, "upper": 4800, "stop": 3700},
    "sol": {"symbol": "SOL-USDT", "lower": 200, "upper": 245, "stop": 190},
    "ada": {"symbol": "ADA-USDT", "lower": 0.74, "upper": 0.9, "stop": 0.7},
}
"""Grids around the prices of 2025-10-09, the day before the flash crash."""


def grid_file(name: str, **changes: object) -> dict[str, object]:
    """The content of a grid's YAML file."""
    return {
        "id": name,
        "enabled": True,
        "activated_at": "2025-10-09T21:15:00Z",
        "levels": 10,
        "capital": 1000,
        **CRASH_GRIDS.get(name, {}),
        **changes,
    }


@dataclass
class Live:
    """One project in a temporary folder, its exchange and its Pushover."""

    folder: Path
    exchange: KucoinServer
    pushover: PushoverServer
    symbols: tuple[str, ...]
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def config_dir(self) -> Path:
        return self.folder / "configuration"

    def configure(self, grids: list[dict[str, object]], **files: dict[str, object]) -> None:
        """Writes the configuration: the loopback exchange, these grids, and other files by name."""
        (self.config_dir / "grids").mkdir(parents=True, exist_ok=True)
        everything = {
            "markets": {
                "venues": {"main": {"kind": "ccxt", "exchange": "kucoin", "api_url": self.exchange.url}},
                "markets": [{"symbol": symbol, "venue": "main"} for symbol in self.symbols],
                "candles": {"late_bar_wait_seconds": 0},
            },
            "alerts": {"pushover": {"api_url": self.pushover.api_url}},
            **files,
        }
        for name, content in everything.items():
            (self.config_dir / f"{name}.yaml").write_text(yaml.safe_dump(content))
        for grid in grids:
            (self.config_dir / "grids" / f"{grid['id']}.yaml").write_text(yaml.safe_dump(grid))

    def environment(self, data: str = "data") -> dict[str, str]:
        """What the program's environment holds."""
        return {
            "MM_CONFIG_DIR": str(self.config_dir),
            "MM_DATA_DIR": str(self.folder / data),
            "PUSHOVER_TOKEN": self.pushover.token,
            "PUSHOVER_USER": self.pushover.user,
        }

    @contextmanager
    def _environment(self, data: str) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.update(self.environment(data))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def run(self, job: str, *, data: str = "data", **arguments: object) -> dg.ExecuteInProcessResult:
        """Runs one of the project's jobs in this process."""
        with self._environment(data):
            run_config = {**QUIET, **arguments.pop("run_config", {})}  # type: ignore[dict-item]
            return (
                defs()
                .resolve_job_def(job)
                .execute_in_process(instance=self.instance, run_config=run_config, **arguments)  # type: ignore[arg-type]
            )

    def tick(self, as_of: datetime, *, data: str = "data", alerts: bool = True) -> None:
        """One tick, a minute after the bar closed, and what is then due."""
        self.exchange.now = as_of + timedelta(minutes=1)
        config = {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}}
        assert self.run("tick", data=data, partition_key=partition_of(as_of), run_config=config).success
        if alerts:
            assert self.run("send_alerts", data=data).success

    def backfill(self, first: str, last: str, *, data: str = "data") -> None:
        """Whole days in one run."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        assert self.run("history", data=data, tags=tags).success

    def mm(self, *arguments: str) -> Result:
        """The command line, in this process."""
        with self._environment("data"):
            cli.project_here.cache_clear()
            try:
                return CliRunner().invoke(cli.app, arguments)
            finally:
                cli.project_here.cache_clear()

    def alerts_asked_for(self) -> int:
        """How many runs the alert sensor asks for now."""
        with self._environment("data"):
            everything = defs()
            context = dg.build_sensor_context(
                instance=self.instance,
                repository_def=everything.get_repository_def(),
                resources={"project": Project.here()},
            )
            return len(everything.resolve_sensor_def("alerts_are_due").evaluate_tick(context).run_requests or [])

    def lake(self, data: str = "data") -> Lake:
        """The history that was written."""
        return Lake(self.folder / data / "history")


@contextmanager
def loopback(folder: Path, shared_data: Path, symbols: tuple[str, ...], kept: Span) -> Iterator[Live]:
    """The real KuCoin candles of a span on a loopback exchange, and a loopback Pushover beside it."""
    candles = {
        symbol: pl.read_parquet(shared_data / "candles" / "kucoin" / symbol / "15m.parquet")
        .with_columns(pl.col("open_time").cast(pl.Datetime("us", "UTC")))
        .filter(kept.opens())
        for symbol in symbols
    }
    with KucoinServer(candles, kept.start) as exchange, PushoverServer() as pushover:
        yield Live(folder, exchange, pushover, symbols)


@contextmanager
def flash_crash(folder: Path, shared_data: Path, symbols: tuple[str, ...]) -> Iterator[Live]:
    """Autumn 2025, from two months before the crash of 2025-10-10."""
    kept = Span(datetime(2025, 8, 1, tzinfo=UTC), datetime(2025, 10, 13, tzinfo=UTC))
    with loopback(folder, shared_data, symbols, kept) as live:
        yield live


def quarter_hours(first: datetime, last: datetime) -> list[datetime]:
    """Every as_of from first to last, both included."""
    return [first + step * BAR for step in range((last - first) // BAR + 1)]
