"""Everything below defs/ as one set of definitions."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module

import dagster as dg
from dagster.components.definitions import LazyDefinitions

from mm_dagster import environment, logs
from mm_dagster.defs.internals import forking
from mm_dagster.environment import VariableError

logger = logging.getLogger(__name__)

MODULES = (
    "alerts", "audit", "automation", "books", "calibration", "evaluation", "execution", "exit", "exits", "grid",
    "groups", "housekeeping", "makers", "market", "paper", "portfolio", "proofs", "queue", "reconcile", "recorded",
    "regime", "resources", "strategies",
)  # fmt: skip
"""The modules with definitions of Dagster's. Named, since to look for them takes each process half a second: Dagster
reads the source of every module and describes all components that are installed."""


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
        found = dg.Definitions.merge(*(_of_module(name) for name in MODULES))
    _keep_what_is_loaded()
    forking.fork_runs()
    return found


def _of_module(name: str) -> dg.Definitions:
    """What a module defines: what its function says that is decorated `@dg.definitions`, or all that it holds."""
    module = import_module(f"mm_dagster.defs.{name}")
    for value in vars(module).values():
        if isinstance(value, LazyDefinitions):
            return value()
    return dg.load_definitions_from_modules([module])


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
