"""Processes that die: forked from one that has loaded everything and used nothing, killed at an instruction.

The product knows nothing of it. The child counts what it does, by lines of Python or by what the interpreter audits
(opening, connecting, renaming, importing), and ends itself at a given number; or it is ended from outside, in the
midst of whatever DuckDB or SQLite do, after a given time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

GIVE_UP_SECONDS = 240.0


def _arm(mode: str, number: int, how: int) -> list[int]:
    """Starts to count; returns the count, which grows."""
    count = [0]

    def step() -> None:
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), how)

    if mode == "audit":
        sys.addaudithook(lambda name, arguments: step())
    if mode == "line":

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            step()
            return trace

        threading.settrace(trace)
        sys.settrace(trace)
    return count


def work(task: dict[str, Any]) -> int:
    """What the child does; returns how many steps it took."""
    from mm_dagster_tests.faults import spine
    from mm_dagster_tests.faults.clockwork import computer_clock

    config, data, now = Path(task["config"]), Path(task["data"]), datetime.fromisoformat(task["now"])
    with ExitStack() as stack:
        stack.enter_context(spine.surroundings(config, data))
        stack.enter_context(computer_clock(lambda: now))
        count = _arm(task["mode"], task["number"], task["signal"])
        as_of = now - timedelta(minutes=1)
        match task["what"]:
            case "tick":
                spine.tick(config, data, as_of)
                spine.send(config, data)
            case "send":
                spine.send(config, data)
            case "backfill":
                _backfill(config, data, as_of)
            case "backup":
                from mm_dagster.cli import keep

                keep.backup(Path(task["archive"]), True)
            case "restore":
                from mm_dagster.cli import keep

                keep.restore(Path(task["archive"]), data, True, True)
            case "upkeep":
                spine.lake(data).maintain(1)
        sys.settrace(None)
        threading.settrace(None)
    return count[0]


def _backfill(config: Path, data: Path, as_of: datetime) -> None:
    """The day before, computed anew."""
    from mm_dagster.defs.resources import Turn
    from mm_dagster.pipeline.project import Project
    from mm_dagster_tests.faults import spine

    day = as_of.replace(hour=0, minute=0) - timedelta(days=1)
    project = Project(str(config), str(data))
    run = SimpleNamespace(run_id="backfill", job_name="history", tags={})
    window = SimpleNamespace(start=day, end=day + timedelta(days=1))
    context = SimpleNamespace(run=run, log=spine.logging.getLogger("faults"), partition_time_window=window)
    for stage in spine._stages():
        stage(context, project, Turn(again=True))


def serve() -> None:
    """Reads tasks from stdin, forks for each, and writes how the child ended."""
    from mm_dagster.cli import keep
    from mm_dagster_tests.faults import spine

    _ = keep, spine._stages()
    for line in sys.stdin:
        task = json.loads(line)
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            try:
                quiet = os.open(os.devnull, os.O_WRONLY)
                os.dup2(quiet, 1)
                os.dup2(quiet, 2)
                os.write(write_end, str(work(task)).encode())
                os._exit(0)
            except BaseException as error:
                os.write(write_end, f"{type(error).__name__}: {error}"[:2000].encode())
                os._exit(1)
        os.close(write_end)
        began, until = time.monotonic(), task["after"] if task["mode"] == "time" else GIVE_UP_SECONDS
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() - began > until:
                os.kill(child, task["signal"] if task["mode"] == "time" else signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                break
            time.sleep(0.002)
        seconds = time.monotonic() - began
        told = os.read(read_end, 4096).decode("utf-8", "replace")
        os.close(read_end)
        hung = seconds > GIVE_UP_SECONDS
        print(json.dumps({"status": status, "told": told, "seconds": seconds, "hung": hung}), flush=True)


if __name__ == "__main__":
    serve()
