"""What makes git ours: settings and variables under which it asks nobody and obeys nothing from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mm_dagster.environment import git_config_count

_NAME, _EMAIL = "mm_dagster", "mm_dagster@localhost"


@contextmanager
def of_nobody() -> Iterator[None]:
    """Lets git read no settings but its own."""
    nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_COUNT": "0"}
    before = {name: os.environ.get(name) for name in nothing}
    os.environ.update(nothing)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def environment(folder: Path, name: str, remote: str | None, branch: str) -> dict[str, str]:
    """What makes git ours here: it never asks, and neither the user's settings nor a surrounding hook change it.

    The remote's address is given here and not written to the repository: it may hold credentials.

    Args:
        folder: the work tree.
        name: of the remote.
        remote: its address; None: there is none.
        branch: of both sides.

    Raises:
        VariableError: what the surroundings say of git's settings cannot be read.
    """
    settings = {
        "commit.gpgSign": "false",
        "core.autocrlf": "false",
        "core.attributesFile": os.devnull,
        "core.fsmonitor": "false",
        "core.hooksPath": os.devnull,
        # A link is checked out as a plain file that holds its target.
        "core.symlinks": "false",
        "fetch.recurseSubmodules": "false",
        "submodule.recurse": "false",
        # Upkeep that ran on by itself would hold locks while ours is free.
        "gc.autoDetach": "false",
        "maintenance.autoDetach": "false",
        # Makes -Xours mean the whole file, not the lines in conflict.
        "merge.default": "binary",
        "merge.ff": "false",
        "merge.verifySignatures": "false",
        "push.gpgSign": "false",
    }
    if remote is not None:
        settings[f"remote.{name}.url"] = remote
        # The star lets a remote without the branch pass: it is new.
        settings[f"remote.{name}.fetch"] = f"+refs/heads/{branch}*:refs/remotes/{name}/{branch}*"
    first = git_config_count()
    configured = {"GIT_CONFIG_COUNT": str(first + len(settings))}
    for number, (key, value) in enumerate(settings.items(), first):
        configured |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {
        **configured,
        "GIT_DIR": str(folder / ".git"),
        "GIT_WORK_TREE": str(folder),
        "GIT_INDEX_FILE": str(folder / ".git" / "index"),
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_AUTHOR_NAME": _NAME,
        "GIT_AUTHOR_EMAIL": _EMAIL,
        "GIT_COMMITTER_NAME": _NAME,
        "GIT_COMMITTER_EMAIL": _EMAIL,
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS": "false",
        "SSH_ASKPASS_REQUIRE": "force",
    }
