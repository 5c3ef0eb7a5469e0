"""The computer's clock, set to a time of the recordings: every module of the product reads it here."""

from __future__ import annotations

import datetime as real
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real.datetime)


@contextmanager
def computer_clock(tell: Callable[[], real.datetime]) -> Iterator[None]:
    """While it lasts, `datetime.now` is what `tell` says, in all modules of the product that are loaded."""

    class Told(real.datetime, metaclass=_AnyDatetime):
        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> Any:
            return tell().astimezone(tz) if tz else tell().replace(tzinfo=None)

    set_to = []
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "mm_dagster" and getattr(module, "datetime", None) is real.datetime:
            module.datetime = Told  # type: ignore[attr-defined]
            set_to.append(module)
    try:
        yield
    finally:
        for module in set_to:
            module.datetime = real.datetime  # type: ignore[attr-defined]
