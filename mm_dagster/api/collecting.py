"""A tick that a program asks for: one at a time, in a process of its own, under a number."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from mm_dagster import environment

State = Literal["running", "done", "failed"]

TICK = (sys.executable, "-c", "from mm_dagster.cli import main; main()", "tick")
_KEPT = 200
"""Runs that are remembered."""


class UnderWay(Exception):
    """Another run works; its number is the message."""


@dataclass
class Run:
    """A run that was asked for.

    Attributes:
        run_id: its number.
        process: that works.
    """

    run_id: str
    process: subprocess.Popen[bytes]

    @property
    def state(self) -> State:
        """What became of it."""
        code = self.process.poll()
        return "running" if code is None else "done" if code == 0 else "failed"


class Collecting:
    """The runs that were asked for since the server began. They end with it."""

    def __init__(self, command: tuple[str, ...] = TICK) -> None:
        """
        Args:
            command: what a run is.
        """
        self._command = command
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._by_key: dict[str, str] = {}
        self._turn = threading.Lock()

    def begin(self, key: str | None, request_id: str) -> Run:
        """Starts a run; the same key is the same run.

        Args:
            key: an idempotency key; None: whoever asks twice means two.
            request_id: of who asks: the run's log lines, commits and tags carry it.

        Raises:
            UnderWay: another one works.
        """
        with self._turn:
            if key is not None and key in self._by_key:
                return self._runs[self._by_key[key]]
            last = next(reversed(self._runs.values()), None)
            if last is not None and last.state == "running":
                raise UnderWay(last.run_id)
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, environment.REQUEST_ID: request_id},
            )
            run = Run(uuid.uuid4().hex, process)
            self._runs[run.run_id] = run
            if key is not None:
                self._by_key[key] = run.run_id
            while len(self._runs) > _KEPT:
                gone, _ = self._runs.popitem(last=False)
                self._by_key = {one: run_id for one, run_id in self._by_key.items() if run_id != gone}
            return run

    def run(self, run_id: str) -> Run | None:
        """A run by its number; None: there is none."""
        return self._runs.get(run_id)

    def end(self) -> None:
        """Ends what works, as Ctrl-C would: what is finished is kept."""
        for run in self._runs.values():
            if run.state == "running":
                run.process.terminate()
