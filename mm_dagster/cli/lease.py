"""Which of several hosts is the active one: whoever has the lease.

Where PostgreSQL keeps Dagster's storage it is an advisory lock there, of a session that the server itself ends when it
has heard nothing for LEASE_SECONDS: so it is free soon after its host lost its power or its network. Whoever has it
gives up earlier, GIVE_UP_SECONDS after the last question that was answered, so that no two are active at once. Else it
is a lock on a file, which dies with its process: then all of them are on one computer.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from mm_dagster.bars import iso, parse_time
from mm_dagster.errors import ForeseenError

ASK_SECONDS = 2.0
"""Between two questions of whoever has it; those who wait ask twice as often."""
GIVE_UP_SECONDS = 10.0
"""Without an answer for so long it counts as lost."""
LEASE_SECONDS = 20.0
"""So long the server keeps it for somebody who says nothing."""
SETTLE_SECONDS = 3.0
"""How long after another had it nothing is begun: where the server ended that session, the other learns it only when
it asks again."""

FILE = "daemon.lock"
"""In Dagster's folder."""

_ENDS_SILENT = 140_000
"""The first version of a server that ends sessions which say nothing; an older one notices by TCP, after 30 s."""
_DAGSTER_SECONDS = 60
"""How long Dagster may take to be loaded and to say where its storage is."""
_LONGEST_NAME = 63
"""Characters that the server keeps of a session's name."""
_ACTIVE, _STANDBY = "mm active ", "mm standby "


class LeaseError(ForeseenError):
    """Whether the lease can be had is not known: the server cannot be reached, or refuses. One line."""


@dataclass(frozen=True)
class Place:
    """A process that has the lease, or waits for it.

    Attributes:
        name: its number and its host, like 4711@alpha; the host may be cut.
        is_active: whether it has it.
        since: since when it has it, or waits, UTC.
    """

    name: str
    is_active: bool
    since: datetime


def own_name() -> str:
    """The name of this process among all hosts."""
    return f"{os.getpid()}@{socket.gethostname()}"


class Lease(Protocol):
    """What one of several may have."""

    def take(self) -> bool:
        """Takes it, if it is free.

        Raises:
            LeaseError: that cannot be known.
        """

    def confirm(self) -> None:
        """Makes sure that it is still held. May wait for long; see `Keeper`.

        Raises:
            LeaseError: it is not, or that cannot be known.
        """

    def release(self) -> None:
        """Gives it up, and waits for it no more."""

    def places(self) -> list[Place]:
        """Who has it, and who waits, the active one first.

        Raises:
            LeaseError: that cannot be known.
        """


class PostgresLease:
    """An advisory lock in the database of Dagster's storage; see history/advisory.py."""

    def __init__(self, address: str) -> None:
        """Asks nothing yet.

        Args:
            address: of the database, as Dagster has it; a driver in it is left out.

        Raises:
            LeaseError: it is no such address.
        """
        # Its client belongs to the extra `postgres`.
        from mm_dagster.history.advisory import key_of, parameters_of
        from mm_dagster.history.catalog import PostgresCatalog

        try:
            self._parameters = parameters_of(PostgresCatalog.at(address))
        except ValueError as error:
            raise LeaseError(f"the address of Dagster's storage {error}") from None
        self._key = key_of("active")
        self._session: Any = None
        self._number: int | None = None

    def take(self) -> bool:
        """Takes it, if it is free; waits from now on in the sight of others."""
        if self._session is None:
            self._open()
            self._name(_STANDBY)
        [(taken, number)] = self._ask("SELECT pg_try_advisory_lock(%s), pg_backend_pid()", self._key)
        if taken:
            self._number = number
            self._name(_ACTIVE)
        return bool(taken)

    def confirm(self) -> None:
        """Asks the session that has the lock whether it is still there."""
        [(number,)] = self._ask("SELECT pg_backend_pid()")
        if number != self._number:
            raise LeaseError(
                "something between here and PostgreSQL changes the session; name the server itself, not a pooler"
            )

    def release(self) -> None:
        """Ends the session, and the lock with it."""
        from mm_dagster.history.advisory import end

        session, self._session, self._number = self._session, None, None
        if session is not None:
            end(session)

    def places(self) -> list[Place]:
        """As the names of the sessions say."""
        own = self._session is None
        try:
            if own:
                self._open()
            rows = self._ask(
                "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() "
                "AND (starts_with(application_name, %s) OR starts_with(application_name, %s))",
                _ACTIVE, _STANDBY,
            )  # fmt: skip
        finally:
            if own:
                self.release()
        found = [_place(name) for (name,) in rows]
        return sorted(found, key=lambda place: (not place.is_active, place.since))

    def _name(self, begin: str) -> None:
        since = iso(datetime.now(UTC).replace(microsecond=0))
        self._ask("SELECT set_config('application_name', %s, false)", f"{begin}{since} {own_name()}"[:_LONGEST_NAME])

    def _open(self) -> None:
        import psycopg2

        from mm_dagster.history.advisory import opened

        try:
            self._session = opened(self._parameters, "mm_dagster")
        except (psycopg2.Error, TimeoutError) as error:
            where = self._parameters.get("host", "this host")
            raise LeaseError(f"PostgreSQL at {where} cannot be asked who is active: {_first_line(error)}") from error
        if self._session.server_version >= _ENDS_SILENT:
            limit = str(int(LEASE_SECONDS * 1000))
            self._ask("SELECT set_config('idle_session_timeout', %s, false)", limit)

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        import psycopg2

        from mm_dagster.history.advisory import ask

        try:
            if self._session is None:
                raise TimeoutError("it was ended")
            return ask(self._session, statement, values, GIVE_UP_SECONDS)
        except (psycopg2.Error, TimeoutError) as error:
            self.release()
            raise LeaseError(f"the session in PostgreSQL is lost: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines and "://" not in lines[0] else type(error).__name__


def _place(name: str) -> Place:
    begin = _ACTIVE if name.startswith(_ACTIVE) else _STANDBY
    since, _, who = name.removeprefix(begin).partition(" ")
    return Place(who, begin == _ACTIVE, parse_time(since))


class FileLease:
    """A lock on a file of this computer; only whoever has it is known."""

    def __init__(self, path: Path) -> None:
        """Opens nothing yet."""
        self._path = path
        self._file: int | None = None

    def take(self) -> bool:
        """Takes it, if it is free."""
        # No such module on Windows, where `main` has refused before.
        import fcntl

        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, f"{_ACTIVE}{iso(datetime.now(UTC).replace(microsecond=0))} {own_name()}".encode())
        self._file = file
        return True

    def confirm(self) -> None:
        """A lock of the kernel is not lost."""

    def release(self) -> None:
        """Closes the file, and the lock with it."""
        file, self._file = self._file, None
        if file is not None:
            os.ftruncate(file, 0)
            os.close(file)

    def places(self) -> list[Place]:
        """Whoever has it, as the file says."""
        try:
            said = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        free = FileLease(self._path)
        return [_place(said)] if said.startswith(_ACTIVE) and not free._is_free() else []

    def _is_free(self) -> bool:
        import fcntl

        with self._path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


def lease_of(folder: Path, address: str) -> Lease:
    """The lease of a storage of Dagster's.

    Args:
        folder: Dagster's own, of this computer.
        address: of the PostgreSQL that keeps its storage; empty: files do.
    """
    return PostgresLease(address) if address else FileLease(folder / FILE)


def lease_here(folder: Path) -> Lease:
    """The lease of the storage that DAGSTER_HOME names; Dagster itself is not loaded.

    Args:
        folder: Dagster's own.

    Raises:
        LeaseError: that storage cannot be read.
    """
    return lease_of(folder, _storage(os.environ["DAGSTER_HOME"]))


@cache
def _storage(home: str) -> str:
    """The address of the PostgreSQL that keeps Dagster's storage; empty: files do."""
    if "postgres" not in (Path(home) / "dagster.yaml").read_text(encoding="utf-8"):
        return ""
    # A process of its own: whoever stands by for months need not carry Dagster along.
    code = "from mm_dagster.defs.internals.daemon import storage; storage()"
    try:
        asked = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=_DAGSTER_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise LeaseError(f"Dagster's storage does not answer within {_DAGSTER_SECONDS} s") from None
    if asked.returncode:
        lines = asked.stderr.strip().splitlines()
        why = lines[-1] if lines and "://" not in lines[-1] else f"code {asked.returncode}"
        raise LeaseError(f"Dagster's storage cannot be read: {why}")
    return asked.stdout


class Keeper:
    """Makes sure every few seconds that a lease is still held, while the `with` block goes on.

    It asks in a thread of its own, since a server whose network is cut answers nothing for long.
    """

    def __init__(self, lease: Lease) -> None:
        """
        Args:
            lease: one that is held.
        """
        self._lease = lease
        self._confirmed = time.monotonic()
        self._lost: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(ASK_SECONDS)

    def release(self) -> None:
        """Gives the lease up. One that is lost is left to the server, since closing it might wait as long as asking."""
        if self.lost() is None and not self._thread.is_alive():
            self._lease.release()

    def lost(self) -> str | None:
        """Why it is not held any more, as far as can be known; None: it is."""
        silent = time.monotonic() - self._confirmed
        if self._lost is None and silent > GIVE_UP_SECONDS:
            return f"PostgreSQL has not answered for {silent:.0f} s"
        return self._lost

    def _keep(self) -> None:
        while not self._over.wait(ASK_SECONDS):
            asked = time.monotonic()
            try:
                self._lease.confirm()
            except Exception as error:
                self._lost = str(error)
                return
            self._confirmed = asked
