"""Somebody's own idea: a function of theirs from candles to positions, run in a process of its own.

It comes from outside. Whatever it does, whatever it gives, ends in one line: it raises, ends its process, never ends,
gives NaN or too few positions, holds more than there is, looks ahead, or remembers between two calls. Each call loads
its file anew, and what it prints goes to stderr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, iso
from mm_dagster.pipeline.foreign import (
    START_SECONDS,
    Foreign,
    IdeaError,
    Named,
    answer,
    asked,
    first_line,
    keep_quiet,
    line_of,
    loaded,
)
from mm_dagster.text import counted

SECONDS = 120.0
"""How long one call may take."""
CUTS = 4
"""Where look-ahead is looked for in each market: after as many of the most profitable bars, and of any."""
FIRST_CUT = 0.3
"""Of the bars; a function that needs a past must have one."""
SAME = 1e-9
"""What differs by less is rounding."""


class Idea(Foreign):
    """The idea at work, within a `with`: a strategy that may be called like any other."""

    def __init__(self, what: Named, seconds: float = SECONDS) -> None:
        """
        Args:
            what: the function.
            seconds: how long one call may take.
        """
        super().__init__(_serve)
        self._what, self._seconds = what, seconds

    def __call__(self, candles: pl.DataFrame) -> Floats:
        """Positions on one market, shape (bars,).

        Raises:
            IdeaError: what it did or gave cannot be used.
        """
        return self._ask(candles, calls=1)

    def examine(self, frames: Sequence[pl.DataFrame], progress: Callable[[str], None] = lambda symbol: None) -> None:
        """Whether it gives the same twice, and the same where the future is cut off.

        Args:
            frames: the candles of each market.
            progress: told each market when it is done.

        Raises:
            IdeaError: it does not.
        """
        for frame in frames:
            whole = self._ask(frame, calls=2)
            for cut in _cuts(frame, whole):
                before = self._ask(frame.head(cut), calls=1)
                apart = np.flatnonzero(np.abs(before - whole[:cut]) > SAME)
                if apart.size:
                    at = int(apart[0])
                    raise self._refused(
                        frame,
                        f"it looks ahead: the position at {_as_of(frame, at)} is {before[at]:g} when candles end at "
                        f"{_as_of(frame, cut - 1)}, and {whole[at]:g} when they go on",
                    )
            progress(frame["symbol"][0])

    def _ask(self, frame: pl.DataFrame, calls: int) -> Floats:
        try:
            pipe = self._begin()
            pipe.send((str(self._what.path), self._what.function, self._what.source, frame, calls))
            if not pipe.poll(self._seconds):
                self._end()
                raise self._refused(frame, f"it does not end within {self._seconds:g} seconds")
            answer = pipe.recv()
        except (EOFError, OSError):
            self._end()
            raise self._refused(frame, "it ended its process") from None
        if isinstance(answer, str):
            raise self._refused(frame, answer)
        return self._positions(frame, answer)

    def _positions(self, frame: pl.DataFrame, given: list[Floats]) -> Floats:
        """What it gave, if that is a position for each bar."""
        for values in given:
            if values.shape != (frame.height,):
                raise self._refused(
                    frame,
                    f"it gives {values.size} positions of shape {values.shape} for {counted(frame.height, 'bar')}",
                )
            if (unknown := np.flatnonzero(~np.isfinite(values))).size:
                says = _says(frame, values, int(unknown[0]))
                raise self._refused(frame, f"{says}; say 0 where it holds nothing")
            if (beyond := np.flatnonzero(np.abs(values) > 1 + SAME)).size:
                raise self._refused(frame, f"{_says(frame, values, int(beyond[0]))}; it lies in [-1, 1]")
        if len(given) > 1 and (apart := np.flatnonzero(np.abs(given[0] - given[1]) > SAME)).size:
            first, again = (_says(frame, values, int(apart[0])) for values in given)
            raise self._refused(
                frame, f"called twice with the same candles, {first}, then {again}; use neither chance nor memory"
            )
        return np.clip(given[0], -1.0, 1.0)

    def _refused(self, frame: pl.DataFrame, why: str) -> IdeaError:
        symbol = f"{frame['symbol'][0]}: " if frame.height else ""
        return IdeaError(f"--strategy {self._what}: {symbol}{why}")

    def _begin(self) -> Connection:
        is_new = self._pipe is None
        pipe = super()._begin()
        if is_new:
            # Until then it imports, which is none of the user's time.
            if not pipe.poll(START_SECONDS):
                self._end()
                raise IdeaError(f"--strategy {self._what}: no process came up for it within {START_SECONDS:g} seconds")
            pipe.recv()
        return pipe


def _as_of(frame: pl.DataFrame, bar: int) -> str:
    return iso(frame["open_time"][bar] + BAR)


def _says(frame: pl.DataFrame, positions: Floats, bar: int) -> str:
    return f"the position at {_as_of(frame, bar)} is {positions[bar]:g}"


def _cuts(frame: pl.DataFrame, positions: Floats) -> list[int]:
    """Where the future is cut off: as the bars close that were followed by the greatest gains, and at some others.

    Who looks ahead gains where they do, against what they hold on average: being out before a fall is such a gain.
    """
    close = frame["close"].fill_null(np.nan).to_numpy()
    first = int(FIRST_CUT * frame.height)
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = np.nan_to_num(close[1:] / close[:-1] - 1, posinf=0.0, neginf=0.0)
    gained = (positions[:-1] - positions.mean()) * moves
    best = first + np.argsort(-gained[first:], kind="stable")[:CUTS]
    others = np.random.default_rng(frame.height).integers(first, frame.height, CUTS)
    return sorted({int(one) + 1 for one in (*best, *others)})


def _serve(pipe: Connection) -> None:
    """The other process: answers with arrays, or with a line that says why not."""
    keep_quiet()
    pipe.send("here")
    for question in asked(pipe):
        answer(pipe, _answer(*question))


def _answer(path: str, function: str, source: str, frame: pl.DataFrame, calls: int) -> list[Floats] | str:
    try:
        chosen = loaded(path, function, source)
        if chosen is None:
            return f"there is no function {function}"
        return [_array(chosen(frame.clone())) for _ in range(calls)]
    except BaseException as error:
        return f"{type(error).__name__}{line_of(error, path)}: {first_line(error)}"


def _array(given: Any) -> Floats:
    """What a function gave as numbers; null is NaN.

    Raises:
        TypeError: it is nothing of the kind.
    """
    if isinstance(given, pl.DataFrame):
        if given.width != 1:
            raise TypeError(f"it gives a frame of {given.width} columns, not one position a bar")
        given = given.to_series()
    if isinstance(given, pl.Series):
        given = given.cast(pl.Float64).fill_null(np.nan).to_numpy()
    found = np.asarray(given)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"it gives {type(given).__name__}, not one position a bar")
    return found.astype(np.float64)
