"""Somebody's own quotes at work, in a process of its own: whatever the function does ends in one line.

It raises, ends its process, never ends, prints, gives no prices or absurd ones. Its file is loaded anew for each
stretch, so that stretches have nothing of each other.
"""

from __future__ import annotations

from dataclasses import astuple
from multiprocessing.connection import Connection
from typing import Any

from mm_dagster.bars import time_of_ns
from mm_dagster.makers.matching import Plan
from mm_dagster.makers.own import OwnQuotesError, quoted
from mm_dagster.makers.study import Stretch
from mm_dagster.pipeline.foreign import (
    START_SECONDS,
    Foreign,
    IdeaError,
    Named,
    answer,
    asked,
    keep_quiet,
    line_of,
    loaded,
)

SECONDS = 120.0
"""How long one stretch may take."""
READY = "ready"


class _LateError(Exception):
    """Nothing came in time."""


class OwnQuotes(Foreign):
    """A function's quotes on stretch after stretch, within a `with`."""

    def __init__(self, what: Named, touch_share: float, seconds: float = SECONDS) -> None:
        """
        Args:
            what: the function.
            touch_share: the most of what is shown at the best price that is offered.
            seconds: how long one stretch may take.
        """
        super().__init__(_serve)
        self._what, self._touch_share, self._seconds = what, touch_share, seconds

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


def _serve(pipe: Connection) -> None:
    """The other process: answers with the tables of a plan, or with a line that says why not."""
    keep_quiet()
    for path, function, source, touch_share, stretch in asked(pipe):
        # What is compiled is loaded before anybody's seconds count.
        quoted(stretch, lambda moment: None, touch_share)
        answer(pipe, READY)
        answer(pipe, _answer(path, function, source, touch_share, stretch))


def _answer(path: str, function: str, source: str, touch_share: float, stretch: Stretch) -> Any:
    try:
        chosen = loaded(path, function, source)
        if chosen is None:
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
        text = (str(error).strip().splitlines() or [""])[0][:200]
        return f"{type(error).__name__}{line_of(error, path)}{': ' if text else ''}{text}"
    except BaseException as worse:
        return f"{type(error).__name__}, which cannot be shown: {type(worse).__name__}"
