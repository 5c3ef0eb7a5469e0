"""The front door: what Dagster is told to load, and every run that is started from it."""

import dagster as dg

from mm_dagster import modes
from mm_dagster.defs.loading import load

modes.keep_private()


@dg.definitions
def defs() -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors of the project."""
    return load()
