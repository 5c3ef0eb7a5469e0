"""The `mm` command: run the pipeline, look at it, ask it, keep it well."""

from mm_dagster.cli import ask, drill, evaluate, examine, health, keep, operate, pipeline, tune
from mm_dagster.cli.app import app, main, project_here

__all__ = [
    "app",
    "ask",
    "drill",
    "evaluate",
    "examine",
    "health",
    "keep",
    "main",
    "operate",
    "pipeline",
    "project_here",
    "tune",
]
