"""The git mirror: readable snapshots in a repository that needs nothing of ours to be read.

What is written is committed at once; a push that fails loses nothing, the commits wait for the next. The only module
that imports git.

What a remote holds is never obeyed: its links become plain files, its attributes choose no filter, its submodules are
not followed, and a file of ours is written beside its place and renamed, so that no link leads it elsewhere. What
enters a commit is hashed as it was written.

A power loss may leave anything of the repository empty, torn or gone. Then it is set aside whole, as
`<folder>.broken-1` and so on, and begun anew from the remote; what was not pushed is brought over as far as it can be
read, and named.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from filelock import FileLock

from mm_dagster.environment import VariableError
from mm_dagster.errors import ForeseenError
from mm_dagster.history import git_settings, remains, worktree
from mm_dagster.text import number_text

# GitPython asks git for its version when it is imported. Without a git on the PATH, or with one that cannot read the
# settings of its user, it refuses, and with it every command, whether it needs git or not.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
with git_settings.of_nobody():
    import git

T = TypeVar("T")

logger = logging.getLogger(__name__)

REMOTE_SECONDS = 30.0
"""How long the remote may take to answer."""

_ATTRIBUTES = "* -text !eol -ident -filter -working-tree-encoding !merge\n"
"""Stands above all that a remote's `.gitattributes` may say."""
_NAMED = 20
"""Commits that cannot be read are named in the log, at most so many of them."""


class MirrorError(ForeseenError):
    """The repository or its remote refused. One line, without credentials."""


class Mirror:
    """One repository and, if configured, the remote that it is pushed to. Processes take turns by `<folder>.lock`."""

    def __init__(self, folder: Path, remote: str | None, branch: str) -> None:
        """Opens nothing yet.

        Args:
            folder: the work tree; made on first use.
            remote: address that git understands; None: nothing is pushed.
            branch: of both sides.

        Raises:
            MirrorError: a variable of the environment that git reads is wrong.
        """
        self._folder = folder.resolve()
        self._directory = self._folder / ".git"
        self._remote = remote
        self._branch = branch
        # A name for each address: what is known of one remote says nothing about another.
        self._name = f"mirror-{hashlib.sha256((remote or '').encode()).hexdigest()[:8]}"
        self._git = git.cmd.Git(str(self._folder))
        try:
            self._git.update_environment(**git_settings.environment(self._folder, self._name, remote, branch))
        except VariableError as error:
            raise MirrorError(str(error)) from None

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
        for name in files:
            _check_name(name)
        with self._turn():
            return self._healing(lambda: self._written(files, message))

    def _written(self, files: Mapping[str, str], message: str) -> str | None:
        for name, text in files.items():
            worktree.put(self._folder, name, text.encode())
        names = "\n".join(files)
        hashes = self._git.hash_object("-w", "--no-filters", "--stdin-paths", istream=_pipe(names)).split()
        entries = "".join(f"100644 {one}\t{name}\n" for one, name in zip(hashes, files, strict=True))
        self._git.update_index("--add", "--replace", "--index-info", istream=_pipe(entries))
        return self._commit(message)

    def push(self) -> str:
        """Sends what waits to the remote, after what others sent there; nothing to do without one.

        Returns:
            What it did, in a few words.

        Raises:
            MirrorError: the remote cannot be reached or refuses; the commits stay here.
        """
        if self._remote is None:
            return "there is no remote"
        if not (waiting := self.waiting()):
            return "nothing waits"
        with self._turn():
            try:
                self._healing(self._exchange)
            except git.GitCommandError as error:
                # Not chained: what git said in full may name the login.
                raise MirrorError(
                    f"{_redacted(self._remote or '')}: {_one_line(error)}; "
                    f"{self._count_waiting()} commits wait in {self._folder}"
                ) from None
        return f"{waiting} commits pushed to {_redacted(self._remote)}"

    def _exchange(self) -> None:
        self._fetch()
        self._take_over_theirs()
        self._git.push(self._name, f"HEAD:refs/heads/{self._branch}", kill_after_timeout=REMOTE_SECONDS)

    def _fetch(self) -> None:
        self._git.fetch(
            "--no-auto-maintenance", "--prune", "--no-recurse-submodules", self._name, kill_after_timeout=REMOTE_SECONDS
        )

    def waiting(self) -> int:
        """How many commits the remote does not have, as far as is known here; 0 without a remote."""
        if self._remote is None or not self._directory.is_dir():
            return 0
        with self._turn():
            return self._healing(self._count_waiting)

    def glance(self) -> int | None:
        """Like `waiting`, but without a turn, so that it waits for no push; None: not known, and nothing is mended."""
        if self._remote is None or not self._directory.is_dir():
            return 0
        try:
            return self._count_waiting()
        except (git.GitError, OSError, ValueError):
            return None

    def check(self) -> str:
        """One line for `mm doctor`.

        Raises:
            MirrorError: git does not work, or the remote cannot be reached.
        """
        if self._remote is None:
            with self._turn():
                self._refuse_broken_surroundings()
            return f"{self._folder}: kept here only; set mirror.remote in history.yaml to push{self._aside()}"
        with self._turn():
            try:
                self._git.ls_remote(self._name, kill_after_timeout=REMOTE_SECONDS)
            except git.GitCommandError as error:
                raise MirrorError(f"mirror.remote: {_redacted(self._remote)}: {_one_line(error)}") from None
            return f"{_redacted(self._remote)} answers; {self._count_waiting()} commits wait{self._aside()}"

    def _aside(self) -> str:
        """What was set aside and is still there, for a person to look at."""
        there = self._folder.parent.glob(f"{self._folder.name}.broken-*")
        kept = ", ".join(sorted(path.name for path in there))
        return (
            f"; set aside as damaged: {kept} in {self._folder.parent}, delete it when you are content" if kept else ""
        )

    def bundle(self, path: Path) -> bool:
        """Packs all commits and branches into one file of git's own; False: there is none yet, and no file.

        Raises:
            MirrorError: git or the file system refuses.
        """
        with self._turn():
            if not self._knows("HEAD"):
                return False
            if not self._succeeds("symbolic-ref", "--quiet", "HEAD"):
                # On no branch: a bundle of that could not be restored.
                self._git.branch("--force", f"kept-{self._git.rev_parse('--short', 'HEAD')}", "HEAD")
            self._git.bundle("create", "--quiet", str(path), "HEAD", "--all")
            return True

    def unbundle(self, path: Path) -> None:
        """Makes this repository, which must be new, the one that was packed, on the same branch.

        Raises:
            MirrorError: the file is damaged, or git or the file system refuses.
        """
        with self._turn():
            listed = [line.split(" ", 1) for line in self._git.bundle("list-heads", str(path)).splitlines()]
            heads = {name: commit for commit, name in listed}
            here = [
                name for name, commit in heads.items() if name.startswith("refs/heads/") and commit == heads.get("HEAD")
            ]
            if not here:
                raise MirrorError(f"{path.name}: its HEAD is on no branch; take another backup")
            self._git.fetch("--quiet", "--update-head-ok", "--no-auto-maintenance", str(path), "+refs/*:refs/*")
            self._git.symbolic_ref("HEAD", here[0])
            self._git.reset("--quiet", "--hard", "HEAD")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The repository, made if need be, while no other process of ours works in it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder.with_name(f"{self._folder.name}.lock")):
                if self._is_new():
                    self._init()
                elif fault := self._fault():
                    self._set_aside(fault)
                self._healing(self._clear_leftovers)
                yield
        except (git.GitError, OSError) as error:
            raise MirrorError(f"{self._folder}: {_one_line(error)}") from error

    def _is_new(self) -> bool:
        return not any(path.name != worktree.FRESH for path in self._directory.glob("*"))

    def _init(self) -> None:
        self._git.init("--quiet", f"--initial-branch={self._branch}")
        (self._directory / "info").mkdir(exist_ok=True)
        (self._directory / "info" / "attributes").write_text(_ATTRIBUTES)

    def _fault(self) -> str | None:
        """What a glance shows to be broken; None: nothing."""
        for part in ("", "objects", "refs"):
            if (self._directory / part).is_symlink() or not (self._directory / part).is_dir():
                return f".git/{part} is no folder"
        attributes = self._directory / "info" / "attributes"
        if not attributes.is_file() or attributes.read_bytes() != _ATTRIBUTES.encode():
            attributes.parent.mkdir(exist_ok=True)
            attributes.unlink(missing_ok=True)
            attributes.write_text(_ATTRIBUTES)
        if self._succeeds("rev-parse", "--quiet", "--verify", "HEAD^{tree}"):
            if not remains.is_index(self._directory / "index"):
                # It can be made again from the last commit, and often it is all that is broken.
                (self._directory / "index").unlink(missing_ok=True)
                return None if self._succeeds("read-tree", "HEAD") else "its last commit cannot be read"
            return None
        if self._succeeds("symbolic-ref", "--quiet", "HEAD") and not remains.tips(self._directory, self._branch):
            return None
        return "its HEAD leads to no commit"

    def _healing(self, work: Callable[[], T]) -> T:
        """Does something, once more if it failed on a repository that was damaged and is whole now."""
        try:
            return work()
        except (git.GitError, OSError) as error:
            if not self._heal(error):
                raise
            return work()

    def _heal(self, error: Exception) -> bool:
        """Whether the repository was damaged and is whole now; False: the fault is elsewhere.

        Args:
            error: what failed, before anything of it was handed on.
        """
        fault = _one_line(error)
        if self._is_whole():
            return False
        self._set_aside(fault)
        return True

    def _is_whole(self) -> bool:
        return self._succeeds("fsck", "--no-dangling", "--no-progress")

    def _refuse_broken_surroundings(self) -> None:
        """Nothing is said of a repository by a git that works nowhere, as with a ~/.gitconfig that it cannot read.

        Raises:
            MirrorError: that is so.
        """
        try:
            with self._git.custom_environment(GIT_DIR=str(self._folder / ".none")):
                self._git.config("--list")
        except git.GitError as error:
            raise MirrorError(
                f"git works nowhere here: {_one_line(error)}; see ~/.gitconfig and the variables GIT_*"
            ) from None

    def _set_aside(self, fault: str) -> None:
        """Renames the broken repository and begins anew; what was not pushed is brought over, or named.

        Raises:
            MirrorError: it is not the repository that is broken.
        """
        self._refuse_broken_surroundings()
        number = 1
        while (aside := self._folder.with_name(f"{self._folder.name}.broken-{number}")).exists():
            number += 1
        self._folder.rename(aside)
        self._folder.mkdir()
        self._init()
        if self._remote is not None:
            try:
                self._fetch()
                if self._knows(self._theirs):
                    self._git.reset("--quiet", "--hard", self._theirs)
            except git.GitCommandError as error:
                logger.warning("%s: %s", _redacted(self._remote), _one_line(error))
        tips = remains.tips(aside / ".git", self._branch)
        lost = []
        for tip in tips:
            if self._has(tip):
                continue
            if self._bring_over(aside / ".git", tip):
                break
            lost.append(tip)
        self._take_files(aside, self._theirs_since(aside / ".git") if lost else None)
        named = f"; commits that cannot be read: {', '.join(lost[:_NAMED])}" if lost else ""
        logger.error(
            "%s was damaged (%s); it is set aside as %s and begun anew%s%s",
            self._folder, fault, aside, f" from {_redacted(self._remote)}" if self._remote else "", named,
        )  # fmt: skip

    def _has(self, commit: str) -> bool:
        return self._knows("HEAD") and self._succeeds("merge-base", "--is-ancestor", commit, "HEAD")

    def _bring_over(self, directory: Path, tip: str) -> bool:
        """Joins the commits up to one of a broken repository; False: they cannot be read."""
        have = "".join(f"^{ref}\n" for ref in ("HEAD", self._theirs) if self._knows(ref))
        packs = self._directory / "objects" / "pack"
        packs.mkdir(exist_ok=True)
        try:
            with self._git.custom_environment(GIT_ALTERNATE_OBJECT_DIRECTORIES=str(directory / "objects")):
                name = self._git.pack_objects("--quiet", "--revs", str(packs / "pack"), istream=_pipe(f"{tip}\n{have}"))
        except git.GitCommandError:
            return False
        if not self._succeeds("rev-list", "--quiet", "--objects", tip) or not self._is_whole():
            for path in packs.glob(f"pack-{name}.*"):
                path.unlink()
            return False
        if self._knows("HEAD"):
            self._join(tip)
        else:
            self._git.reset("--quiet", "--hard", tip)
        return True

    def _theirs_since(self, directory: Path) -> set[str] | None:
        """The files that others changed since the broken repository last looked; None: it is not known."""
        if not self._knows(self._theirs):
            return None
        for remote in remains.remote_tips(directory, self._branch):
            if self._succeeds("cat-file", "-e", f"{remote}^{{tree}}"):
                return set(self._git.diff("--name-only", "--no-renames", "-z", remote, self._theirs).split("\0"))
        return None

    def _take_files(self, aside: Path, theirs: set[str] | None) -> None:
        """Takes the files of the broken repository's work tree that came over with no commit.

        Args:
            aside: the broken repository.
            theirs: files that others changed meanwhile, which stay; None: all that are there stay.
        """
        for path in sorted(aside.rglob("*")):
            name = path.relative_to(aside).as_posix()
            if name.startswith(".git/") or not stat.S_ISREG(path.lstat().st_mode):
                continue
            if worktree.is_good(name) and (
                not (self._folder / name).exists() or (theirs is not None and name not in theirs)
            ):
                worktree.put(self._folder, name, path.read_bytes())
        self._keep_all()

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
        self._join(self._theirs)

    def _join(self, theirs: str) -> None:
        options = ("--quiet", "--no-edit", "--no-verify", "--allow-unrelated-histories", "-Xours", "-Xno-renames")
        if not self._succeeds("merge", *options, theirs):
            # What git leaves undecided is a file that one side deleted: it is kept.
            self._keep_all()

    def _keep_all(self) -> None:
        """Commits the work tree as it is: files that a killed process wrote, or an undecided merge."""
        for line in self._git.ls_files("--unmerged", "-z").split("\0"):
            if line.startswith("160000 "):
                # A submodule in the place of what is ours: there is nothing in it that could be kept.
                self._git.update_index("--force-remove", "--", line.partition("\t")[2])
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


def _check_name(name: str) -> None:
    """Refuses a name that would lead out of the repository, or into git's own folder.

    Raises:
        MirrorError: it does.
    """
    if not worktree.is_good(name):
        raise MirrorError(f"{name!r} is no path of a file in the mirror; write it like metrics/2026/eth.yaml")


def _pipe(content: str | bytes) -> IO[bytes]:
    """What a child process reads from its beginning to its end, whatever its length."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with its last use
    file.write(content.encode() if isinstance(content, str) else content)
    file.seek(0)
    return file


def _one_line(error: Exception) -> str:
    """What git said, in one line, without its hints and without credentials."""
    if isinstance(error, git.GitCommandNotFound):
        return "there is no git on the PATH; install git"
    text = str(getattr(error, "stderr", None) or error).strip()
    if text.startswith("Timeout: "):
        return f"did not answer within {number_text(REMOTE_SECONDS)} s"
    if text.startswith("stderr: '"):
        text = text.removeprefix("stderr: '").removesuffix("'")
    said = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("hint:", "To "))]
    return _redacted("; ".join(said[:2]) or type(error).__name__)


def _redacted(text: str) -> str:
    # Up to the last @ of the word: a password may hold one.
    return re.sub(r"://\S*@", "://***@", text)
