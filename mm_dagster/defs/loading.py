"""Everything below defs/ as one set of definitions, found by Dagster itself."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import dagster as dg

from mm_dagster import environment, logs
from mm_dagster.environment import VariableError

logger = logging.getLogger(__name__)


def load() -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors of the project."""
    logs.adopt_structlog()
    if not logs.is_configured():
        try:
            logs.configure()
        except VariableError as error:
            logger.error("%s; the default is taken", error)
    try:
        environment.find_numba_cache(environment.data_folder())
        environment.find_matplotlib_cache(environment.data_folder())
    except VariableError as error:
        logger.error("%s", error)
        raise
    with _uncollected():
        # Dagster looks for the project's name in a pyproject.toml; a wheel has a copy of it among what is shipped.
        found = dg.load_from_defs_folder(path_within_project=environment.shipped())
    _keep_what_is_loaded()
    return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look again and again at modules that are all needed."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@cache
def _keep_what_is_loaded() -> None:
    """Tells the collector, once, that what is loaded stays for the life of the process.

    Every run is a process of its own: it would spend more on looking through libraries than on its own garbage.
    """
    gc.freeze()
