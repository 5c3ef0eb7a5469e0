"""The git mirror: readable snapshots in a repository that needs nothing of ours to be read.

What is written is committed at once; a push that fails loses nothing, the commits wait for the next. The only module
that imports git.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from mm_dagster import environment
from mm_dagster.environment import VariableError

# Without a git on the PATH GitPython refuses to be imported, and with it every command, whether it needs git or not.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
import git

REMOTE_SECONDS = 30.0
"""How long the remote may take to answer."""

_NAME, _EMAIL = "mm_dagster", "mm_dagster@localhost"


class MirrorError(Exception):
    """The repository or its remote refused. One line, without credentials."""


class Mirror:
    """One repository and, if configured, the remote that it is pushed to. Processes take turns by `<folder>.lock`."""

    def __init__(self, folder: Path, remote: str | None, branch: str) -> None:
        """Opens nothing yet.

        Args:
            folder: the work tree; made on first use.
            remote: address that git understands; None: nothing is pushed.
            branch: of both sides.
        """
        self._folder = folder.resolve()
        self._directory = self._folder / ".git"
        self._remote = remote
        self._branch = branch
        # A name for each address: what is known of one remote says nothing about another.
        self._name = f"mirror-{hashlib.sha256((remote or '').encode()).hexdigest()[:8]}"
        self._git = git.cmd.Git(str(self._folder))
        self._git.update_environment(**_environment(self._folder, self._name, remote, branch))

    def write(self, files: Mapping[str, str], message: str) -> str | None:
        """Writes files and commits them.

        Args:
            files: text by path relative to the repository.
            message: of the commit.

        Returns:
            The commit's hash; None when nothing changed.

        Raises:
            MirrorError: git or the file system refuses.
        """
        with self._turn():
            for name, text in files.items():
                path = self._folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                # Outside of the work tree, so that a kill leaves no half file in it.
                fresh = self._directory / "fresh.tmp"
                fresh.write_text(text, encoding="utf-8", newline="\n")
                fresh.replace(path)
            self._git.add("--force", "--", *files)
            return self._commit(message)

    def push(self) -> None:
        """Sends what waits to the remote, after what others sent there; nothing to do without one.

        Raises:
            MirrorError: the remote cannot be reached or refuses; the commits stay here.
        """
        if not self.waiting():
            return
        with self._turn():
            try:
                self._git.fetch("--no-auto-maintenance", "--prune", self._name, kill_after_timeout=REMOTE_SECONDS)
                self._take_over_theirs()
                self._git.push(self._name, f"HEAD:refs/heads/{self._branch}", kill_after_timeout=REMOTE_SECONDS)
            except git.GitCommandError as error:
                # Not chained: what git said in full may name the login.
                raise MirrorError(
                    f"{_redacted(self._remote or '')}: {_one_line(error)}; "
                    f"{self._count_waiting()} commits wait in {self._folder}"
                ) from None

    def waiting(self) -> int:
        """How many commits the remote does not have, as far as is known here; 0 without a remote."""
        if self._remote is None or not self._directory.is_dir():
            return 0
        with self._turn():
            return self._count_waiting()

    def check(self) -> str:
        """One line for `mm doctor`.

        Raises:
            MirrorError: the remote cannot be reached.
        """
        if self._remote is None:
            return f"{self._folder}: kept here only; set mirror.remote in history.yaml to push"
        with self._turn():
            try:
                self._git.ls_remote(self._name, kill_after_timeout=REMOTE_SECONDS)
            except git.GitCommandError as error:
                raise MirrorError(f"mirror.remote: {_redacted(self._remote)}: {_one_line(error)}") from None
            return f"{_redacted(self._remote)} answers; {self._count_waiting()} commits wait"

    def bundle(self, path: Path) -> bool:
        """Packs all commits and branches into one file of git's own; False: there is none yet, and no file.

        Raises:
            MirrorError: git or the file system refuses.
        """
        with self._turn():
            if not self._knows("HEAD"):
                return False
            self._git.bundle("create", "--quiet", str(path), "HEAD", "--all")
            return True

    def unbundle(self, path: Path) -> None:
        """Makes this repository, which must be new, the one that was packed, on the same branch.

        Raises:
            MirrorError: the file is damaged, or git or the file system refuses.
        """
        with self._turn():
            heads = dict(line.split(" ", 1)[::-1] for line in self._git.bundle("list-heads", str(path)).splitlines())
            self._git.fetch("--quiet", "--update-head-ok", "--no-auto-maintenance", str(path), "+refs/*:refs/*")
            here = [
                name for name, commit in heads.items() if name.startswith("refs/heads/") and commit == heads["HEAD"]
            ]
            self._git.symbolic_ref("HEAD", here[0])
            self._git.reset("--quiet", "--hard", "HEAD")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The repository, made if need be, while no other process of ours works in it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder.with_name(f"{self._folder.name}.lock")):
                if not (self._directory / "HEAD").is_file():
                    self._git.init("--quiet", f"--initial-branch={self._branch}")
                self._clear_leftovers()
                yield
        except (git.GitError, OSError) as error:
            raise MirrorError(f"{self._folder}: {_one_line(error)}") from error

    def _clear_leftovers(self) -> None:
        """What a killed process left: while we hold our lock nobody works here, so git's own locks are stale."""
        for pattern in ("*.lock", "refs/**/*.lock", "objects/*.lock"):
            for lock in self._directory.glob(pattern):
                lock.unlink()
        if self._is_merging():
            self._keep_all()

    def _commit(self, message: str) -> str | None:
        """Commits what is staged; None: nothing is."""
        if self._succeeds("diff", "--cached", "--quiet", "--no-ext-diff") and not self._is_merging():
            return None
        self._git.commit("--quiet", "--no-verify", "-m", message)
        return str(self._git.rev_parse("HEAD"))

    def _count_waiting(self) -> int:
        if not self._knows("HEAD"):
            return 0
        theirs = [f"^{self._theirs}"] if self._knows(self._theirs) else []
        return int(self._git.rev_list("--count", "HEAD", *theirs))

    def _take_over_theirs(self) -> None:
        """Joins what another clone pushed; a file that both wrote stays as ours, whole."""
        if not self._knows(self._theirs) or self._succeeds("merge-base", "--is-ancestor", self._theirs, "HEAD"):
            return
        self._keep_all()
        options = ("--quiet", "--no-edit", "--no-verify", "--allow-unrelated-histories", "-Xours", "-Xno-renames")
        if not self._succeeds("merge", *options, self._theirs):
            # What git leaves undecided is a file that one side deleted: it is kept.
            self._keep_all()

    def _keep_all(self) -> None:
        """Commits the work tree as it is: files that a killed process wrote, or an undecided merge."""
        self._git.add("--all", "--force")
        self._commit(f"Join {_redacted(self._remote or '')}".strip())

    def _is_merging(self) -> bool:
        return (self._directory / "MERGE_HEAD").exists()

    @property
    def _theirs(self) -> str:
        return f"refs/remotes/{self._name}/{self._branch}"

    def _knows(self, reference: str) -> bool:
        return self._succeeds("rev-parse", "--quiet", "--verify", reference)

    def _succeeds(self, *command: str) -> bool:
        status, _, _ = self._git.execute(["git", *command], with_extended_output=True, with_exceptions=False)
        return status == 0


def _environment(folder: Path, name: str, remote: str | None, branch: str) -> dict[str, str]:
    """What makes git ours here: it never asks, and neither the user's settings nor a surrounding hook change it.

    The remote's address is given here and not written to the repository: it may hold credentials.
    """
    settings = {
        "commit.gpgSign": "false",
        "core.autocrlf": "false",
        "core.hooksPath": os.devnull,
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
    try:
        first = environment.git_config_count()
    except VariableError as error:
        raise MirrorError(str(error)) from None
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


def _one_line(error: Exception) -> str:
    """What git said, in one line, without its hints and without credentials."""
    text = str(getattr(error, "stderr", None) or error).strip()
    if text.startswith("Timeout: "):
        return f"did not answer within {REMOTE_SECONDS:g} s"
    if text.startswith("stderr: '"):
        text = text.removeprefix("stderr: '").removesuffix("'")
    said = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("hint:", "To "))]
    return _redacted("; ".join(said[:2]) or type(error).__name__)


def _redacted(text: str) -> str:
    # Up to the last @ of the word: a password may hold one.
    return re.sub(r"://\S*@", "://***@", text)
