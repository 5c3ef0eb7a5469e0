"""What a code server of the tests loads: a job whose runs note where they come from."""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

from mm_dagster.defs.internals import forking


class Where(dg.Config):
    """The file that a run notes it in, and how long it goes on after that."""

    file: str
    seconds: float = 0.0


@dg.op
def notes(config: Where) -> None:
    """What a run finds when it begins."""
    found = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "loaded": sorted(name for name in ("ccxt", "mm_dagster.defs.loading", "numba") if name in sys.modules),
        "random": random.random(),
        "said": os.environ.get("SAID_TO_THE_SERVER"),
        "folder": str(Path.cwd()),
    }
    Path(config.file).write_text(json.dumps(found))
    time.sleep(config.seconds)


@dg.job(executor_def=dg.in_process_executor)
def noting() -> None:
    notes()


defs = dg.Definitions(jobs=[noting])
tempfile.tempdir = os.environ.get("TEMPORARY_FILES_OF_THE_SERVER")
forking.fork_runs()
