"""Somebody's own quotes at work, in a process of its own: whatever the function does ends in one line.

It raises, ends its process, never ends, prints, gives no prices or absurd ones. Its file is loaded anew for each
stretch, so that stretches have nothing of each other. It is the user's own code with the user's own rights: it is kept
from mistakes, not from malice.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import astuple
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from mm_dagster.bars import time_of_ns
from mm_dagster.makers.matching import Plan
from mm_dagster.makers.own import OwnQuotesError, quoted
from mm_dagster.makers.study import Stretch
from mm_dagster.pipeline.ideas import IdeaError, Named

SECONDS = 120.0
"""How long one stretch may take."""
START_SECONDS = 120.0
"""How long the process may take to begin."""
READY = "ready"


class _LateError(Exception):
    """Nothing came in time."""


class OwnQuotes:
    """A function's quotes on stretch after stretch, within a `with`."""

    def __init__(self, what: Named, touch_share: float, seconds: float = SECONDS) -> None:
        """
        Args:
            what: the function.
            touch_share: the most of what is shown at the best price that is offered.
            seconds: how long one stretch may take.
        """
        self._what, self._touch_share, self._seconds = what, touch_share, seconds
        self._child: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> OwnQuotes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, stretch: Stretch) -> Plan:
        """Its quotes on a stretch.

        Raises:
            IdeaError: what it did or gave cannot be used.
        """
        try:
            pipe = self._begin()
            pipe.send((str(self._what.path), self._what.function, self._what.source, self._touch_share, stretch))
            answer = self._heard(pipe, START_SECONDS, "it does not begin")
            if answer == READY:
                answer = self._heard(pipe, self._seconds, "it does not end")
        except (EOFError, OSError):
            self._end()
            raise self._refused(stretch, "it ended its process") from None
        except _LateError as late:
            self._end()
            raise self._refused(stretch, str(late)) from None
        except Exception as error:
            self._end()
            raise self._refused(stretch, f"its answer cannot be read: {type(error).__name__}") from None
        if isinstance(answer, str):
            raise self._refused(stretch, answer)
        return Plan(*answer)

    def _heard(self, pipe: Connection, seconds: float, what: str) -> Any:
        """
        Raises:
            _LateError: nothing came.
        """
        if not pipe.poll(seconds):
            raise _LateError(f"{what} within {seconds:g} seconds")
        return pipe.recv()

    def _refused(self, stretch: Stretch, why: str) -> IdeaError:
        market = stretch.track.market
        when = time_of_ns(stretch.track.from_ns)
        return IdeaError(f"--quotes {self._what}: {market.exchange}:{market.symbol}, {when:%Y-%m-%d %H:%M:%S}: {why}")

    def _begin(self) -> Connection:
        if self._pipe is None:
            spawn = multiprocessing.get_context("spawn")
            self._pipe, its = spawn.Pipe()
            self._child = spawn.Process(target=_serve, args=(its,), daemon=True)
            self._child.start()
            its.close()
        return self._pipe

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._child.kill()
            self._child.join()
            self._pipe = self._child = None


def _serve(pipe: Connection) -> None:
    """The other process: answers with the tables of a plan, or with a line that says why not."""
    # Ctrl-C is the parent's, who ends this one; what is printed here is none of the answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    while True:
        try:
            path, function, source, touch_share, stretch = pipe.recv()
        except (EOFError, OSError):
            return
        # What is compiled is loaded before anybody's seconds count.
        quoted(stretch, lambda moment: None, touch_share)
        with suppress(OSError):
            pipe.send(READY)
        answer = _answer(path, function, source, touch_share, stretch)
        with suppress(OSError):
            pipe.send(answer)


def _answer(path: str, function: str, source: str, touch_share: float, stretch: Stretch) -> Any:
    folder = str(Path(path).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = ModuleType("quotes")
    module.__file__ = path
    try:
        exec(compile(source, path, "exec"), module.__dict__)
        chosen = getattr(module, function, None)
        if not callable(chosen):
            return f"there is no function {function}"
        plan = quoted(stretch, chosen, touch_share)
        plan.check(stretch.terms)
        return astuple(plan)
    except BaseException as error:
        return _said(error, path)


def _said(error: BaseException, path: str) -> str:
    try:
        if isinstance(error, OwnQuotesError):
            return str(error)
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == path]
        where = f" in line {lines[-1]}" if lines else ""
        text = (str(error).strip().splitlines() or [""])[0][:200]
        return f"{type(error).__name__}{where}{': ' if text else ''}{text}"
    except BaseException as worse:
        return f"{type(error).__name__}, which cannot be shown: {type(worse).__name__}"
