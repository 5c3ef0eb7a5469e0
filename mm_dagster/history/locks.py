"""Locks by name: of what only one may be at it, on whichever host.

Hosts that share a lake share no file system. So where PostgreSQL keeps its catalogue a lock is an advisory lock of that
server (advisory.py), and where SQLite does, which one host alone can, it is a file of the data folder. Both end with
the process that holds them, however that ends. What goes by them is what hosts share:

    pipeline    what is read from the lake and written back in one turn; a backup and a restore have it alone
    alerts      the ledger of alerts, and who sends
    telegram    who hears the bot: it tells each message once
    write       a write of the lake itself, see sessions.py

Locks of what one host has for itself are files, wherever the catalogue is: the configuration's files (grids.lock), the
clone of the mirror, notes and journals, the recorder's folders, `mm up`.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from mm_dagster.errors import ForeseenError
from mm_dagster.history.catalog import PostgresCatalog

_LOOK_SECONDS = 0.02
"""How often a file is tried again: the kernel tells nobody that it is free, and a wait in it cannot be ended."""


class LockError(ForeseenError):
    """A lock cannot be had, or is not held any more. One line, with the remedy."""


class Taken(LockError):
    """Another one has it."""


class Lost(LockError):
    """It was held, and is not any more: what it guarded may have been changed by another meanwhile."""


class Lock(ABC):
    """One or more names that are held together. Each thread that wants them makes a lock of its own.

    Attributes:
        name: what it is called where it is told of.
    """

    def __init__(self, names: Sequence[str], shared: Sequence[str] = ()) -> None:
        """
        Args:
            names: that it has alone.
            shared: that others may share; taken before, so that two never wait for each other.
        """
        self.names = tuple(sorted(names))
        self.shared = tuple(sorted(shared))
        self.name = (*self.names, *self.shared)[0]

    def acquire(self, wait: float | None = None) -> None:
        """Waits for it; Ctrl-C ends the wait.

        Args:
            wait: at most so many seconds; None: as long as it takes.

        Raises:
            Taken: another one has it still.
            LockError: it cannot be asked for.
        """
        began = time.perf_counter()
        try:
            if not self._acquire(wait):
                raise Taken(f"{self._said()} is held by {self.holder() or 'another process'}")
        finally:
            _note_wait(self.name, time.perf_counter() - began)

    def try_acquire(self) -> bool:
        """Whether it is held from now on; asks once."""
        with suppress(Taken):
            self.acquire(0)
            return True
        return False

    def check(self) -> None:
        """Before what cannot be undone.

        Raises:
            Lost: it is not held any more.
        """
        if not self.held():
            raise Lost(f"{self._said()} was lost while it was held; nothing was written since, try again")

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @abstractmethod
    def held(self) -> bool:
        """Whether it is held at this moment, as whoever grants it says."""

    @abstractmethod
    def release(self) -> None:
        """Gives it back; it may be lost, or never have been held."""

    @abstractmethod
    def holder(self) -> str | None:
        """Who has it; None: nobody, or nobody knows."""

    @abstractmethod
    def _acquire(self, wait: float | None) -> bool: ...

    @abstractmethod
    def _said(self) -> str: ...


class FileLock(Lock):
    """On one host: files, each locked as a whole by the kernel."""

    def __init__(self, folder: Path, names: Sequence[str], shared: Sequence[str] = ()) -> None:
        """The files are made when they are needed, and stay."""
        super().__init__(names, shared)
        self._folder = folder
        self._files: list[int] = []
        self._process = os.getpid()

    def held(self) -> bool:
        """Nobody can take it from this process."""
        return bool(self._files) and self._process == os.getpid()

    def release(self) -> None:
        """Closing a file unlocks it, unless this is a forked child, which has none of them."""
        while self._files:
            file = self._files.pop()
            _locked_files.discard(file)
            os.close(file)

    def holder(self) -> str | None:
        """No file says."""
        return None

    def _acquire(self, wait: float | None) -> bool:
        deadline = None if wait is None else time.monotonic() + wait
        wanted = [(name, fcntl.LOCK_SH) for name in self.shared] + [(name, fcntl.LOCK_EX) for name in self.names]
        is_whole = False
        try:
            for name, kind in wanted:
                self._path(name).parent.mkdir(parents=True, exist_ok=True)
                self._files.append(os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                _locked_files.add(self._files[-1])
                while not _locked(self._files[-1], kind):
                    if deadline is not None and time.monotonic() >= deadline:
                        return False
                    time.sleep(_LOOK_SECONDS)
            is_whole = True
        except OSError as error:
            raise LockError(
                f"{self._said()}: cannot be locked ({error.strerror}); let the user who runs this write there"
            ) from error
        finally:
            if not is_whole:
                self.release()
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def _said(self) -> str:
        return str(self._path(self.name))


_locked_files: set[int] = set()


def leave_to_the_parent(files: Iterable[int]) -> None:
    """In a forked child: its copies of open files lead nowhere from now on, so that its parent's end is their end."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for file in files:
        os.dup2(nowhere, file, inheritable=False)
    os.close(nowhere)


os.register_at_fork(after_in_child=lambda: leave_to_the_parent(_locked_files))


def _locked(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Locks:
    """The locks of one lake: on its catalogue's server, or below the folder."""

    def __init__(self, folder: Path, server: PostgresCatalog | None = None) -> None:
        """
        Args:
            folder: where the files are.
            server: whose locks they are; None: files.
        """
        self._folder, self._server = folder, server

    @classmethod
    def at(cls, address: str) -> Self:
        """Those of any database of a PostgreSQL server, for whatever its hosts share.

        Args:
            address: see catalog.py; also with a driver, as Dagster's has.

        Raises:
            LockError: it is no such address; the address itself is not in the message.
        """
        try:
            return cls(Path(), PostgresCatalog.at(address))
        except ValueError as error:
            raise LockError(f"the address of the locks {error}") from None

    def of(self, *names: str, shared: Sequence[str] = ()) -> Lock:
        """A lock that is not held yet; see `Lock`."""
        if self._server is None:
            return FileLock(self._folder, names, shared)
        # Imported here because its client belongs to the extra `postgres`.
        from mm_dagster.history.advisory import ServerLock

        return ServerLock(self._server, names, shared)


_waited: defaultdict[str, float] = defaultdict(float)
_counting = threading.Lock()


def _note_wait(name: str, seconds: float) -> None:
    with _counting:
        _waited[name] += seconds


def waited() -> dict[str, float]:
    """Seconds that this process has waited for locks, by their name."""
    with _counting:
        return dict(_waited)
