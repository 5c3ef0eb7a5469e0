"""Advisory locks of a PostgreSQL server: held by a session, whichever host it comes from.

A session ends with its process, also by kill -9; when its host's network is gone the server ends it after
SILENT_SECONDS. Whoever holds a lock asks before a commit whether it still does (`Lock.check`). The address must lead to
the server itself: behind a pool that gives each transaction another session (pgbouncer's `transaction`) no session
keeps anything, which `held` notices.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ

from mm_dagster.history.catalog import PostgresCatalog
from mm_dagster.history.locks import Lock, LockError, leave_to_the_parent

SILENT_SECONDS = 30
"""After so long without an answer each side takes the other for gone."""
_ANSWER_SECONDS = 10
"""How long is waited for an answer that needs no lock."""
_IDLE = 4
"""Sessions of an address that are kept for the next lock: to connect takes longer than to lock."""

_SILENT = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}
_OURS = {"keepalives": 1, **_SILENT, "tcp_user_timeout": SILENT_SECONDS * 1000}
_SERVER = {f"tcp_{name}": value for name, value in _SILENT.items()} | {"tcp_user_timeout": SILENT_SECONDS * 1000}
_LIMITS = ("statement_timeout", "lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout")
_OPTIONS = " ".join(f"-c {name}={value}" for name, value in {**_SERVER, **dict.fromkeys(_LIMITS, 0)}.items())

_TAKE = """
SELECT CASE WHEN is_shared THEN pg_advisory_lock_shared(key) ELSE pg_advisory_lock(key) END
FROM unnest(%s::bigint[], %s::boolean[]) WITH ORDINALITY AS wanted(key, is_shared, place) ORDER BY place
"""
_TRY = """
SELECT CASE WHEN is_shared THEN pg_try_advisory_lock_shared(key) ELSE pg_try_advisory_lock(key) END
FROM unnest(%s::bigint[], %s::boolean[]) WITH ORDINALITY AS wanted(key, is_shared, place) ORDER BY place
"""
_HOLDS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()"
_HOLDER = """
SELECT a.application_name, coalesce(host(a.client_addr), 'its own host')
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::bigint << 32) + l.objid::bigint = %s
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class ServerLock(Lock):
    """Among all hosts that reach a server, in one of its databases."""

    def __init__(self, server: PostgresCatalog, names: Sequence[str], shared: Sequence[str] = ()) -> None:
        """Asks nothing yet; see `Lock`."""
        super().__init__(names, shared)
        self._server = _Server(server)
        self._session: Any = None

    def held(self) -> bool:
        """Whether the server says so; a server that does not answer in 10 s does not."""
        if self._session is None:
            return False
        try:
            [(number,)] = ask(self._session, _HOLDS, (), _ANSWER_SECONDS)
        except (psycopg2.Error, TimeoutError):
            return False
        return bool(number == len(self._keys))

    def release(self) -> None:
        """Gives it back; a session that does not answer is ended, and with it the lock."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            ask(session, "SELECT pg_advisory_unlock_all()", (), _ANSWER_SECONDS)
        except BaseException as error:
            end(session)
            if not isinstance(error, psycopg2.Error | TimeoutError):
                raise
        else:
            self._server.keep(session)

    def holder(self) -> str | None:
        """The program, host and process that have it."""
        try:
            session = self._server.session()
            try:
                rows = ask(session, _HOLDER, (self._keys[-1],), _ANSWER_SECONDS)
            finally:
                end(session)
        except (psycopg2.Error, TimeoutError):
            return None
        return ", ".join(f"{name} from {address}" for name, address in rows) or None

    @property
    def _keys(self) -> list[int]:
        return [key_of(name) for name in (*self.shared, *self.names)]

    def _acquire(self, wait: float | None) -> bool:
        wanted = (self._keys, [True] * len(self.shared) + [False] * len(self.names))
        while True:
            try:
                session, is_fresh = self._server.session_or_kept()
            except (psycopg2.Error, TimeoutError) as error:
                raise self._failure(error) from error
            try:
                rows = ask(session, _TRY if wait == 0 else _TAKE, wanted, _ANSWER_SECONDS if wait == 0 else wait)
            except TimeoutError:
                end(session)
                return False
            except psycopg2.Error as error:
                end(session)
                # One that was kept may have been ended by the server meanwhile.
                if is_fresh:
                    raise self._failure(error) from error
                continue
            except BaseException:
                end(session)
                raise
            self._session = session
            if any(got is False for (got,) in rows):
                self.release()
                return False
            return True

    def _failure(self, error: BaseException) -> LockError:
        said = " ".join(str(error).split()) or type(error).__name__
        return LockError(f"{self._said()} cannot be had: {said}; see that the server runs and lets us in")

    def _said(self) -> str:
        return f"the lock {self.name!r} ({key_of(self.name)} in pg_locks) on {self._server}"


def key_of(name: str) -> int:
    """The number that the server knows a lock by."""
    return int.from_bytes(hashlib.sha256(f"mm_dagster {name}".encode()).digest()[:8], "big", signed=True)


def parameters_of(known: PostgresCatalog) -> dict[str, str]:
    """What a session is opened with."""
    return {**known.parameters, **({"password": known.password} if known.password else {})}


class _Server:
    """Where sessions are opened, and kept for the next lock."""

    def __init__(self, known: PostgresCatalog) -> None:
        self._parameters = parameters_of(known)
        self._key = tuple(sorted(self._parameters.items()))

    def __str__(self) -> str:
        """Without a password."""
        return f"{self._parameters.get('host', 'this host')}/{self._parameters.get('dbname', '')}"

    def session_or_kept(self) -> tuple[Any, bool]:
        """A session, and whether it is a new one."""
        with _keeping:
            kept = _kept.get(self._key)
            if kept:
                return kept.pop(), False
        return self.session(), True

    def session(self) -> Any:
        """A new session."""
        # Shown by the server beside what it waits for.
        return opened(self._parameters, f"mm_dagster {socket.gethostname()[:40]} {os.getpid()}")

    def keep(self, session: Any) -> None:
        """For the next lock."""
        with _keeping:
            kept = _kept.setdefault(self._key, [])
            if len(kept) < _IDLE:
                kept.append(session)
                return
        end(session)


def opened(parameters: Mapping[str, str], name: str) -> Any:
    """A session that no time limit of the server ends.

    Args:
        parameters: where to, the password among them.
        name: shown by the server.

    Raises:
        psycopg2.Error: the server cannot be reached, or lets nobody in.
        TimeoutError: it does not answer.
    """
    options = f"{parameters.get('options', '')} {_OPTIONS}".strip()
    session = psycopg2.connect(**{**parameters, **_OURS, "options": options, "application_name": name}, async_=1)
    _open.add(session)
    try:
        _wait(session, _ANSWER_SECONDS)
    except BaseException:
        end(session)
        raise
    return session


def ask(session: Any, statement: str, values: Sequence[Any], wait: float | None) -> list[Any]:
    """The rows of the answer.

    Raises:
        TimeoutError: there is none yet. The session is of no further use.
    """
    with session.cursor() as cursor:
        cursor.execute(statement, values)
        _wait(session, wait)
        return list(cursor.fetchall())


def _wait(session: Any, seconds: float | None) -> None:
    """Until the server has answered; unlike a wait in its client library, one that Ctrl-C ends at once.

    Raises:
        TimeoutError: it has not.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while (state := session.poll()) != POLL_OK:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        waits = select.poll()
        waits.register(session.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        if not waits.poll(None if left is None else left * 1000) and left == 0:
            raise TimeoutError("the server does not answer")


# sessions of this process ---------------------------------------------------------------------------------------------

_keeping = threading.Lock()
_kept: dict[tuple[tuple[str, str], ...], list[Any]] = {}
"""By what they were opened with: sessions that hold nothing."""
_open: set[Any] = set()
_of_parents: list[Any] = []
"""Never closed nor forgotten: that would say goodbye to the server in the parent's name."""


def end(session: Any) -> None:
    """Ends a session, and with it its locks."""
    _open.discard(session)
    with suppress(psycopg2.Error):
        session.close()


def _leave_to_the_parent() -> None:
    """In a forked child: a lock is its parent's, and ends with that although the child lives on."""
    global _keeping
    _keeping = threading.Lock()
    leave_to_the_parent(session.fileno() for session in _open if not session.closed)
    _of_parents.extend(_open)
    _open.clear()
    _kept.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)
