"""The git mirror: readable snapshots in a repository that needs nothing of ours to be read.

What is written is committed at once; a push that fails loses nothing, the commits wait for the next. The only module
that imports git.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import git
from filelock import FileLock

PUSH_SECONDS = 30.0
"""How long the remote may take."""

_AUTHOR = git.Actor("mm_dagster", "mm_dagster@localhost")
_NEVER_ASK = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}


class MirrorError(Exception):
    """The repository or its remote refused. One line, without credentials."""


class Mirror:
    """One repository and, if configured, the remote that it is pushed to."""

    def __init__(self, folder: Path, remote: str | None, branch: str) -> None:
        """Opens nothing yet.

        Args:
            folder: the work tree; made on first use.
            remote: address that git understands; None: nothing is pushed.
            branch: of both sides.
        """
        self._folder = folder
        self._remote = remote
        self._branch = branch

    def write(self, files: Mapping[str, str], message: str) -> str | None:
        """Writes files and commits them.

        Args:
            files: text by path relative to the repository.
            message: of the commit.

        Returns:
            The commit's hash; None when nothing changed.

        Raises:
            MirrorError: git refuses.
        """
        with self._locked() as repository:
            for name, text in files.items():
                path = self._folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                fresh = path.with_suffix(f".{os.getpid()}.tmp")
                fresh.write_text(text, encoding="utf-8")
                fresh.replace(path)
            try:
                repository.index.add(sorted(files))
                if repository.head.is_valid() and not repository.index.diff("HEAD"):
                    return None
                return repository.index.commit(message, author=_AUTHOR, committer=_AUTHOR).hexsha
            except (git.GitCommandError, OSError, ValueError) as error:
                raise MirrorError(f"{self._folder}: {_clean(error)}") from error

    def push(self) -> None:
        """Sends what waits to the remote, after what others sent there; nothing to do without one.

        Raises:
            MirrorError: the remote cannot be reached or refuses; the commits stay here.
        """
        if self._remote is None or not self._folder.is_dir():
            return
        with self._locked() as repository:
            if not repository.head.is_valid() or not self._behind_by(repository):
                return
            try:
                with repository.git.custom_environment(**_NEVER_ASK):
                    self._take_over_theirs(repository)
                    repository.git.push("origin", f"HEAD:refs/heads/{self._branch}", kill_after_timeout=PUSH_SECONDS)
                    repository.git.fetch("origin", kill_after_timeout=PUSH_SECONDS)
            except git.GitCommandError as error:
                raise MirrorError(
                    f"{_without_credentials(self._remote)}: {_clean(error)}; "
                    f"{self._behind_by(repository)} commits wait in {self._folder}"
                ) from error

    def waiting(self) -> int:
        """How many commits the remote does not have; 0 without a remote."""
        if self._remote is None or not (self._folder / ".git").is_dir():
            return 0
        with self._locked() as repository:
            return self._behind_by(repository)

    def check(self) -> str:
        """One line for `mm doctor`.

        Raises:
            MirrorError: the remote cannot be reached.
        """
        if self._remote is None:
            return f"{self._folder}: kept here only; set mirror.remote in history.yaml to push"
        try:
            git.cmd.Git().ls_remote(self._remote, env={**os.environ, **_NEVER_ASK}, kill_after_timeout=PUSH_SECONDS)
        except git.GitCommandError as error:
            raise MirrorError(f"mirror.remote: {_without_credentials(self._remote)}: {_clean(error)}") from error
        return f"{_without_credentials(self._remote)} answers; {self.waiting()} commits wait"

    def _locked(self) -> _Locked:
        return _Locked(self._folder, self._remote, self._branch)

    def _behind_by(self, repository: git.Repo) -> int:
        if not repository.head.is_valid():
            return 0
        known = f"refs/remotes/origin/{self._branch}"
        has_known = any(reference.path == known for reference in repository.references)
        return int(repository.git.rev_list("--count", f"{known}..HEAD" if has_known else "HEAD"))

    def _take_over_theirs(self, repository: git.Repo) -> None:
        """Joins what another clone pushed; where both wrote the same file, ours stays."""
        repository.git.fetch("origin", kill_after_timeout=PUSH_SECONDS)
        theirs = f"origin/{self._branch}"
        if not any(reference.name == theirs for reference in repository.references):
            return
        if int(repository.git.rev_list("--count", f"HEAD..{theirs}")):
            repository.git.merge(
                theirs, "--no-edit", "--allow-unrelated-histories", "-X", "ours", kill_after_timeout=PUSH_SECONDS
            )


class _Locked:
    """The repository, made if need be, while no other process of ours works in it."""

    def __init__(self, folder: Path, remote: str | None, branch: str) -> None:
        self._folder, self._remote, self._branch = folder, remote, branch
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder.with_suffix(".lock"))
        self._repository: git.Repo | None = None

    def __enter__(self) -> git.Repo:
        self._lock.acquire()
        try:
            self._repository = self._open()
        except BaseException:
            self._lock.release()
            raise
        return self._repository

    def __exit__(self, *_: object) -> None:
        if self._repository is not None:
            self._repository.close()
        self._lock.release()

    def _open(self) -> git.Repo:
        # Nobody else works here while we hold the lock: an index.lock is what a killed process left behind.
        (self._folder / ".git" / "index.lock").unlink(missing_ok=True)
        try:
            if (self._folder / ".git").is_dir():
                repository = git.Repo(self._folder)
            else:
                repository = git.Repo.init(self._folder, mkdir=True, initial_branch=self._branch)
            with repository.config_writer() as config:
                config.set_value("user", "name", _AUTHOR.name or "")
                config.set_value("user", "email", _AUTHOR.email or "")
                config.set_value("commit", "gpgsign", "false")
            if self._remote is not None:
                if "origin" not in [remote.name for remote in repository.remotes]:
                    repository.create_remote("origin", self._remote)
                elif repository.remotes["origin"].url != self._remote:
                    repository.remotes["origin"].set_url(self._remote)
        except (git.GitError, OSError) as error:
            raise MirrorError(f"{self._folder}: {_clean(error)}") from error
        return repository


def _clean(error: Exception) -> str:
    """What git said, in one line and without credentials."""
    text = getattr(error, "stderr", None) or str(error)
    lines = [line.strip(" '\"") for line in str(text).replace("stderr:", "").splitlines() if line.strip(" '\"")]
    return _without_credentials(lines[-1] if lines else type(error).__name__)


def _without_credentials(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://***@", text)
