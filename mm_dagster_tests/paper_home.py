"""A home in which grids are left on paper: four days of one grid on a simulated market, and its clock there."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from mm_dagster.bars import Span, parse_time
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline import clock
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_days
from mm_dagster_tests.cli.small import configure

DAYS = Span(parse_time("2026-06-23T00:00:00Z"), parse_time("2026-06-27T00:00:00Z"))
NOW = DAYS.end + timedelta(minutes=4)
GRID = "eth"


def filled(folder: Path) -> Path:
    """Makes it."""
    configure(folder)
    (folder / "configuration" / "orders.yaml").write_text("mode: paper\nsettle_seconds: 1\n")
    clock.start(folder / "data", NOW)
    run_days(opened(folder), DAYS)
    return folder


def copied(home: Path, to: Path) -> Path:
    """A copy of it, whose clock begins now."""
    shutil.copytree(home, to)
    set_clock(to, NOW)
    return to


def set_clock(folder: Path, shows: datetime) -> None:
    """Its clock shows another time."""
    (folder / "data" / clock.NAME).unlink()
    clock.start(folder / "data", shows)


def opened(folder: Path) -> Project:
    """As another process opens it."""
    return Project(str(folder / "configuration"), str(folder / "data"))


def states(project: Project, at: dict[datetime, str]) -> None:
    """Makes some states others than they were."""
    rows = project.lake.read("exit_state").filter(pl.col("as_of").is_in(list(at)))
    rows = rows.with_columns(state=pl.col("as_of").replace_strict(at, return_dtype=pl.String))
    project.lake.upsert("exit_state", rows, commit=Commit("test", "exit_state", ""))


def calm(project: Project) -> None:
    """No state is higher than NORMAL."""
    rows = project.lake.read("exit_state").with_columns(state=pl.lit("NORMAL"))
    project.lake.upsert("exit_state", rows, commit=Commit("test", "exit_state", ""))
