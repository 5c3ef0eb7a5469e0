"""Somebody's own function, in a process of its own: what it takes to begin it, to hear it, and to be rid of it.

It comes from outside: it raises, ends its process, never ends, prints. It is the user's own code with the user's own
rights: it is kept from mistakes, not from malice.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from mm_dagster.errors import ForeseenError

START_SECONDS = 120.0
"""How long the other process may take to come up."""


class IdeaError(ForeseenError):
    """An idea of the user's cannot be tried. One line."""

    is_complete = True


@dataclass(frozen=True)
class Named:
    """A function in a file.

    Attributes:
        path: of the file.
        function: its name.
        source: what the file says.
    """

    path: Path
    function: str
    source: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.function}"


def named(text: str, option: str = "--strategy") -> Named:
    """The function that `PATH:FUNCTION` means, given as an option of that name.

    Raises:
        IdeaError: there is no such file, it cannot be read as Python, or names no function.
    """
    path, colon, function = text.rpartition(":")
    if not colon or not path or not function.isidentifier():
        raise IdeaError(f"{option} {text}: write PATH:FUNCTION, as in my_idea.py:my_idea")
    try:
        source = Path(path).read_text(encoding="utf-8")
        compile(source, path, "exec")
    except OSError as error:
        raise IdeaError(f"{option} {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise IdeaError(f"{option} {path}: it is no UTF-8 text") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise IdeaError(f"{option} {path}{line}: {first_line(error)}") from None
    return Named(Path(path).resolve(), function, source)


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class Foreign:
    """The process, within a `with`; it begins when somebody asks, and again after it was ended."""

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        """
        Args:
            serve: what runs in it, a function of a module.
        """
        self._serve = serve
        self._child: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _begin(self) -> Connection:
        if self._pipe is None:
            spawn = multiprocessing.get_context("spawn")
            self._pipe, its = spawn.Pipe()
            self._child = spawn.Process(target=self._serve, args=(its,), daemon=True)
            self._child.start()
            its.close()
        return self._pipe

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._child.kill()
            self._child.join()
            self._pipe = self._child = None


# in the other process -------------------------------------------------------------------------------------------------


def keep_quiet() -> None:
    """Ctrl-C is the parent's, who ends this one; what is printed here is none of the answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)


def asked(pipe: Connection) -> Iterator[tuple[Any, ...]]:
    """What the parent asks, until it is gone."""
    while True:
        try:
            question = pipe.recv()
        except (EOFError, OSError):
            return
        yield question


def answer(pipe: Connection, said: Any) -> None:
    """Answers; where the parent is gone, nobody."""
    with suppress(OSError):
        pipe.send(said)


def loaded(path: str, function: str, source: str) -> Any:
    """The function, its file loaded anew; None: there is none that can be called. What the file raises comes out."""
    folder = str(Path(path).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = ModuleType("own")
    module.__file__ = path
    exec(compile(source, path, "exec"), module.__dict__)
    found = getattr(module, function, None)
    return found if callable(found) else None


def line_of(error: BaseException, path: str) -> str:
    """` in line 7` of the file, or nothing."""
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == path]
    return f" in line {lines[-1]}" if lines else ""
