"""The `mm` command: run the pipeline, look at it, ask it, keep it well.

Every command's module is imported whatever is asked for, since the help names all of them. So they import at their top
only what options and tables need, and a command imports the rooms that it works with itself: benchmarks/start.py says
what it costs, mm_dagster_tests/cli/test_start.py what must not be loaded.
"""

from mm_dagster.cli import (
    ask,
    books,
    demo,
    drill,
    evaluate,
    examine,
    grid,
    health,
    home,
    keep,
    leave,
    makers,
    makers_paper,
    metrics,
    operate,
    paper,
    pipeline,
    portfolio,
    record,
    replay,
    serve,
    standby,
    strategies,
    take_in,
    tune,
    up,
)
from mm_dagster.cli.app import app, main, project_here

__all__ = [
    "app",
    "ask",
    "books",
    "demo",
    "drill",
    "evaluate",
    "examine",
    "grid",
    "health",
    "home",
    "keep",
    "leave",
    "main",
    "makers",
    "makers_paper",
    "metrics",
    "operate",
    "paper",
    "pipeline",
    "portfolio",
    "project_here",
    "record",
    "replay",
    "serve",
    "standby",
    "strategies",
    "take_in",
    "tune",
    "up",
]
