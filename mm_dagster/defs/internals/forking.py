"""Runs are forked from a process that has loaded what each of them needs, as the workers of Celery are.

A code server of Dagster's begins an interpreter for each run, which imports for two of the seven seconds that a tick
takes. Python's fork server imports once: a process without threads of ours, begun with the first run, that ends with
the code server. What comes from outside, the configuration and the history, is read by the run itself.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path

logger = logging.getLogger("mm_dagster")

SERVER = "dagster._grpc.server"
LOADED = "mm_dagster.defs.internals.loaded"
SAFE = (3, 11, 1)
"""Before, Python's fork server took orders from every user of the computer (CVE-2022-42919)."""


class _Forks:
    """In place of the context that a code server sets itself, and reads to start a run."""

    def __get__(self, server: object, kind: type) -> BaseContext:
        return multiprocessing.get_context("forkserver" if _can_fork() else "spawn")

    def __set__(self, server: object, begins_anew: BaseContext) -> None:
        """Another choice than this one there is none."""


def fork_runs() -> None:
    """In the process of a code server: its runs are forked. In any other, and where no fork is safe: nothing."""
    server = sys.modules.get(SERVER)
    if server is None or sys.platform != "linux" or sys.version_info < SAFE:
        return
    multiprocessing.set_forkserver_preload([LOADED])
    server.DagsterApiServer._mp_ctx = _Forks()


def _can_fork() -> bool:
    """Whether the fork server is there, and is heard; else a run begins as if there were none, and not at all later."""
    try:
        forkserver.ensure_running()
        # Whatever tidies the folder of temporary files takes its socket away, and nobody reaches it any more.
        Path(forkserver._forkserver._forkserver_address).stat()  # type: ignore[attr-defined]
    except OSError as error:
        _say(str(error))
        return False
    return True


@cache
def _say(why: str) -> None:
    logger.warning("runs are begun without the fork server: %s", why)
