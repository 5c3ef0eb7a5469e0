"""How the program was installed: what takes it away again, how it is called, and what of it the tests ran with."""

from __future__ import annotations

import re
import shlex
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from mm_dagster import environment
from mm_dagster.cli.app import err
from mm_dagster.text import counted

PINS = "deploy/constraints.txt"
"""The versions that the tests ran with, below what is shipped."""
_NAMED = 5
"""Packages that differ are named, at most so many of them."""


@dataclass(frozen=True)
class Installation:
    """One way in which it can have been installed.

    Attributes:
        path: what is there because of it.
        what: in words.
        removed_by: the command that takes it away.
        cache_cleared_by: the command that takes away what the installer keeps besides; None: it keeps nothing.
        kept_by: the command after which there is an `mm` to call; None: there is one.
    """

    path: Path
    what: str
    removed_by: str
    cache_cleared_by: str | None = None
    kept_by: str | None = None


def installation() -> Installation:
    """How the program that runs was installed: uv and pipx leave a mark in the environments that they make."""
    prefix = Path(sys.prefix)
    if not environment.is_installed():
        top = environment.shipped()
        return Installation(top, "the checkout", f"rm -r {shlex.quote(str(top))}")
    by_uv = _is_made_by_uv(prefix)
    cache = "uv cache clean" if by_uv else "pip cache purge"
    if (prefix / "pipx_metadata.json").is_file():
        if prefix.parent.name == "venvs":
            return Installation(prefix, "the program", "pipx uninstall mm-dagster", cache)
        what = "the program, which pipx deletes by itself after a fortnight"
        return Installation(prefix, what, f"rm -r {shlex.quote(str(prefix))}", cache, "pipx install mm-dagster")
    if (prefix / "uv-receipt.toml").is_file():
        return Installation(prefix, "the program", "uv tool uninstall mm-dagster", cache)
    if prefix.parent.name.startswith("archive-v"):
        what = "the program, in uv's cache with the environments of other programs, which uv makes again"
        return Installation(prefix, what, "uv cache prune", cache, "uv tool install mm-dagster")
    python = shlex.quote(sys.executable)
    command = f"uv pip uninstall --python {python}" if by_uv else f"{python} -m pip uninstall"
    what = f"the program; what it was installed with stays in {prefix}"
    return Installation(prefix, what, f"{command} mm-dagster", cache)


def _is_made_by_uv(prefix: Path) -> bool:
    try:
        return re.search(r"(?m)^uv = ", (prefix / "pyvenv.cfg").read_text(encoding="utf-8")) is not None
    except OSError:
        return False


def say_how_to_keep_it() -> None:
    """One line for who called it by a command after which there is no `mm` to call."""
    kept_by = installation().kept_by
    if kept_by:
        err.print(f"note: this call leaves no command mm behind; `{kept_by}` does", soft_wrap=True, highlight=False)


def packages() -> str:
    """Which packages are others than those that the tests ran with: on those all figures are the same to the bit."""
    from importlib.metadata import distributions

    pins = environment.shipped() / PINS
    tested: dict[str, set[str]] = defaultdict(set)
    # One package may be pinned once for each version of Python.
    for name, version in re.findall(r"(?m)^([a-z0-9._-]+)==([^\s;]+)", pins.read_text(encoding="utf-8")):
        tested[_plain(name)].add(version)
    here = {_plain(one.name): one.version for one in distributions()}
    both = tested.keys() & here.keys()
    others = sorted(f"{name} {here[name]}" for name in both if here[name] not in tested[name])
    if not others:
        return f"{counted(len(both), 'package')}, each of the version that the tests ran with"
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return (
        f"{len(others)} of {counted(len(both), 'package')} are not of the version that the tests ran with: "
        f"{', '.join(others[:_NAMED])}{more}; as constraints {pins} has all of them"
    )


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
