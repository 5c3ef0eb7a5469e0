"""How a configuration that must not run is said: in one line, whatever was wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mm_dagster.errors import ForeseenError

LONGEST = 600
"""Characters of a line: what stands in a file may be as long as the file."""


class ConfigError(ForeseenError):
    """A configuration that must not run. The message is one line: file, key, value, what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """A text that fits in one line of a terminal, a log and a message: no breaks, nothing that cannot be shown."""
    line = re.sub(r"\s*[\r\n]\s*", " ", text.strip())
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 4]} ..."


@contextmanager
def foreseen(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong inside into a ConfigError that names the file.

    Raises:
        ConfigError: instead of every error; its own kind passes.
    """
    try:
        yield
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; write it as the reference shows") from None
    except MemoryError:
        raise ConfigError(f"{path}: needs more memory than there is; write less into it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except BaseException as error:
        # A panic of an extension module is no Exception; what stops the process must pass.
        if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
            raise
        raise ConfigError(f"{path}: cannot be taken: {error} ({type(error).__name__})") from None
