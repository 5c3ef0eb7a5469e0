"""The front door: everything that Dagster shows is found below defs/."""

from pathlib import Path

import dagster as dg

from mm_dagster import logs


@dg.definitions
def defs() -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors of the project."""
    if not logs.is_configured():
        logs.configure()
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
