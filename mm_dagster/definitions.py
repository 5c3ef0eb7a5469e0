"""The front door: everything that Dagster shows is found below defs/."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from mm_dagster import logs


@dg.definitions
def defs() -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors of the project."""
    if not logs.is_configured():
        logs.configure()
    with _for_good():
        return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)


@contextmanager
def _for_good() -> Iterator[None]:
    """What is loaded stays for the life of the process: the garbage collector need not look at it, now or later.

    Every run is a process of its own, and half a million objects of libraries cost it a second of looking.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
