"""How far candles have come in, told to whoever shows it to a person. Nothing that is computed depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Listener(Protocol):
    """Who shows it. It is called by several threads."""

    def wanted(self, bars: int) -> None:
        """So many bars more are about to be asked for."""

    def came(self, bars: int) -> None:
        """A page for so many bars was answered."""

    def finished(self, bars: int) -> None:
        """All that there is of a question for so many bars has come."""


class _Nobody:
    def wanted(self, bars: int) -> None: ...

    def came(self, bars: int) -> None: ...

    def finished(self, bars: int) -> None: ...


_NOBODY = _Nobody()
_listener: Listener = _NOBODY


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tells a listener, and nobody else, what comes in meanwhile."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def tell() -> Listener:
    """Whom to tell."""
    return _listener
