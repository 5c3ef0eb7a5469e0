"""What can be read of a git repository without git: of one that a power loss left broken, above all."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
_NONE = "0" * 40


def tips(directory: Path, branch: str) -> list[str]:
    """What a repository, broken or not, says of its newest commits, the newest first.

    Args:
        directory: its `.git`.
        branch: the one that is asked about.
    """
    named = []
    for name in ("HEAD", f"refs/heads/{branch}"):
        text = _text(directory / "logs" / name)
        named += [line.split(" ")[1] for line in text.splitlines()[::-1] if line.count(" ") > 1]
        named += _COMMIT.findall(_text(directory / name))
    for path in sorted((directory / "refs" / "heads").rglob("*")):
        named += _COMMIT.findall(_text(path))
    packed = re.findall(r"^([0-9a-f]{40}) refs/heads/", _text(directory / "packed-refs"), re.MULTILINE)
    return [commit for commit in dict.fromkeys([*named, *packed]) if _COMMIT.fullmatch(commit) and commit != _NONE]


def remote_tips(directory: Path, branch: str) -> list[str]:
    """What it says of the newest commit of a remote's branch.

    Under whatever name: the remote may have had another address then.

    Args:
        directory: its `.git`.
        branch: the one that is asked about.
    """
    loose = sorted(directory.glob(f"refs/remotes/*/{branch}"))
    ours = rf"^([0-9a-f]{{40}}) refs/remotes/[^/]+/{re.escape(branch)}$"
    packed = re.findall(ours, _text(directory / "packed-refs"), re.MULTILINE)
    return [commit for commit in (*(_text(path).strip() for path in loose), *packed) if _COMMIT.fullmatch(commit)]


def is_index(path: Path) -> bool:
    """Whether git's index is whole: its checksum comes last, and git itself does not look."""
    if path.is_symlink() or not path.is_file():
        return False
    content = path.read_bytes()
    body, checksum = content[:-20], content[-20:]
    return content.startswith(b"DIRC") and checksum in (hashlib.sha1(body).digest(), bytes(20))


def _text(path: Path) -> str:
    """What a file of a broken repository says; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return ""
