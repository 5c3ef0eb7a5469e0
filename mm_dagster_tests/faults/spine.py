"""The real spine, cheaply: the assets' own functions in this process, without a run of Dagster and without pictures."""

from __future__ import annotations

import inspect
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import polars as pl
import stamina
import yaml

from mm_dagster.bars import Span, iso
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.pipeline import project as projects
from mm_dagster.tables import registry
from mm_dagster_tests.faults.phone import TOKEN, USER

DECIDED = ("candles", "regime_features", "regime_verdict", "grid_risk", "exit_state")
"""What is compared with an undisturbed run, in the order in which it is made."""
VENUE_SECONDS = 2.0
BAR = timedelta(minutes=15)


@dataclass(frozen=True)
class Grid:
    """A grid around a price."""

    id: str
    symbol: str
    activated_at: datetime
    price: float
    stop: float = 0.90
    lower: float = 0.93
    upper: float = 1.07

    def content(self) -> dict[str, object]:
        """What stands in its file."""
        return {
            "id": self.id, "symbol": self.symbol, "enabled": True, "activated_at": iso(self.activated_at),
            "levels": 8, "capital": 1000, "lower": round(self.price * self.lower, 6),
            "upper": round(self.price * self.upper, 6), "stop": round(self.price * self.stop, 6),
        }  # fmt: skip


def configure(
    folder: Path, venues: Mapping[str, str], grids: Sequence[Grid], phone: str, **files: dict[str, object]
) -> None:
    """Writes a configuration: a venue for each market, named like it.

    Args:
        folder: where to.
        venues: address by symbol.
        grids: the grids.
        phone: address of the Pushover.
        files: more of them by name, or in place of these.
    """
    (folder / "grids").mkdir(parents=True, exist_ok=True)
    content: dict[str, dict[str, object]] = {
        "markets": {
            "venues": {
                symbol.lower(): {
                    "kind": "ccxt",
                    "exchange": "kucoin",
                    "api_url": url,
                    "timeout_seconds": VENUE_SECONDS,
                    "requests_per_second": 200,
                }
                for symbol, url in venues.items()
            },
            "markets": [{"symbol": symbol, "venue": symbol.lower()} for symbol in venues],
            "candles": {"late_bar_wait_seconds": 0, "at_once": 16},
        },
        "alerts": {"pushover": {"api_url": phone, "timeout_seconds": 2}},
        **files,
    }
    for name, one in content.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(one))
    for grid in grids:
        (folder / "grids" / f"{grid.id}.yaml").write_text(yaml.safe_dump(grid.content()))


@contextmanager
def surroundings(config: Path, data: Path) -> Iterator[None]:
    """The environment of one project, with retries that do not wait and without pictures."""
    before = dict(os.environ)
    os.environ.update(environment(config, data))
    stamina.set_testing(True, attempts=4, cap=True)
    logging.disable(logging.CRITICAL)
    try:
        with _without_pictures():
            yield
    finally:
        logging.disable(logging.NOTSET)
        stamina.set_testing(False)
        os.environ.clear()
        os.environ.update(before)


def environment(config: Path, data: Path) -> dict[str, str]:
    """What the program's environment holds."""
    return {
        "MM_CONFIG_DIR": str(config),
        "MM_DATA_DIR": str(data),
        "MM_DAGSTER_DIR": str(data / "dagster"),
        "PUSHOVER_TOKEN": TOKEN,
        "PUSHOVER_USER": USER,
    }


@contextmanager
def _without_pictures() -> Iterator[None]:
    from mm_dagster.pipeline import exhibits, notify

    with (
        patch.object(exhibits, "pictures_of", lambda *_: {}),
        patch.object(exhibits, "equity_of", lambda *_: None),
        patch.object(notify, "_image", lambda *_: None),
    ):
        yield


@cache
def _stages() -> tuple[Any, ...]:
    from mm_dagster.defs import exit as judging
    from mm_dagster.defs import grid, market, regime

    made = (market.candles, regime.regime_features, regime.regime_verdict, grid.grid_risk, judging.exit_state)
    return tuple(inspect.unwrap(one.op.compute_fn.decorated_fn) for one in made)


def tick(config: Path, data: Path, as_of: datetime) -> None:
    """One tick: all stages, as one run makes them."""
    from mm_dagster.defs.resources import Turn

    project = projects.Project(str(config), str(data))
    run = SimpleNamespace(run_id=f"tick {iso(as_of)}", job_name="tick", tags={})
    context = SimpleNamespace(run=run, log=logging.getLogger("faults"))
    for stage in _stages():
        stage(context, project, Turn(as_of=iso(as_of)))


def send(config: Path, data: Path) -> None:
    """What is due goes out."""
    from mm_dagster.pipeline import notify

    notify.send_due(projects.Project(str(config), str(data)), "send", None)


def repair(config: Path, data: Path, now: datetime) -> int:
    """What the sensor asks for of days that a tick does not reach; returns how many repairs that were."""
    from mm_dagster.pipeline import repairs, ticks

    project = projects.Project(str(config), str(data))
    asked = repairs.repairs(project, now)
    for one in asked:
        ticks.run_days(project, one.span, run_id=one.name, symbols=one.symbols)
    return len(asked)


def respond(data: Path, at: datetime) -> None:
    """The operator's answer: a row that nothing can make again."""
    row = {
        "response_id": "kept", "alert_id": None, "grid_id": "ada", "at": at, "action": "kept", "note": "stays",
        "seconds_from_alert": 60.0, "within_window": True,
    }  # fmt: skip
    types = registry.dtypes("operator_response")
    known = pl.DataFrame([{name: value for name, value in row.items() if name in types}], schema_overrides=types)
    lake(data).upsert("operator_response", known, commit=Commit("", "operator_response", ""))


def lake(data: Path) -> Lake:
    """The history, over a connection of its own."""
    return Lake(data / "history")


def close(data: Path) -> None:
    """Forgets the connections of this process to a lake that is deleted next."""
    projects._open_lake.cache_clear()


def rows(data: Path, until: datetime, names: Sequence[str] = DECIDED) -> dict[str, pl.DataFrame]:
    """What was decided up to a bar, without what only a live run knows."""
    history = lake(data)
    span = Span(datetime(2017, 1, 1, tzinfo=until.tzinfo), until)
    found = {}
    for name in names:
        stored = history.read(name, span=span)
        found[name] = stored.select(column for column in stored.columns if column not in registry.LIVE_ONLY)
    return found


def copy(source: Path, target: Path) -> Path:
    """A project's data, to be spoiled."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.lock"))
    return target
