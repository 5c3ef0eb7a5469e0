"""Who may: programs by a bearer token, people by a session that a one-time code began.

Codes and sessions are random and kept as hashes, in a file of the data folder that every process of this home shares:
`mm link` makes a code, the page redeems it. A code is spent once, whoever comes first. What fails is counted, and who
fails too often is told to wait; but whoever has the right key is let in all the same, since many may share an address
behind a proxy, and none of the keys can be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mm_dagster import modes
from mm_dagster.errors import ForeseenError

SHORTEST_TOKEN = 32
"""Bytes of MM_API_TOKEN."""
_ALPHABET = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
"""Without what is read as something else."""
_CODE_LENGTH = 16
"""Characters of a code, 78 bits."""
SESSION_SECONDS = 30 * 86_400
FAILURES, WINDOW_SECONDS = 10, 300.0
"""So many failures from an address in so long are looked at; what is more is told to wait."""
_MOST_ADDRESSES = 10_000
"""That failed lately and are remembered."""


class AccessError(ForeseenError):
    """The page or the API cannot be guarded. One line, with the remedy."""


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        person: their name; None: a program, or nobody said.
        through: page or api, as `operator_response` notes it.
    """

    person: str | None
    through: str


class TooManyFailures(Exception):
    """Somebody has failed too often lately.

    Attributes:
        seconds: until they are listened to again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__("too many failures")
        self.seconds = max(1, round(seconds))


class Access:
    """The codes and sessions of one home."""

    def __init__(self, data: Path, token: str | None = None, *, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            data: the data folder.
            token: of programs; None: no program may.
            now: seconds since 1970.

        Raises:
            AccessError: the token is too short, or the file cannot be used.
        """
        if token is not None and len(token.encode()) < SHORTEST_TOKEN:
            raise AccessError(
                f"MM_API_TOKEN: has {len(token.encode())} bytes, and needs {SHORTEST_TOKEN}; make one with "
                '`python3 -c "import secrets; print(secrets.token_urlsafe(32))"`'
            )
        self._token = None if token is None else _hash(token)
        self._now = now
        self._failed: dict[str, deque[float]] = {}
        self._path = data / "access.sqlite"
        try:
            data.mkdir(parents=True, exist_ok=True)
            with self._file() as file:
                file.execute(
                    "CREATE TABLE IF NOT EXISTS code (hash TEXT PRIMARY KEY, person TEXT, until REAL NOT NULL)"
                )
                file.execute(
                    "CREATE TABLE IF NOT EXISTS session (hash TEXT PRIMARY KEY, person TEXT, until REAL NOT NULL)"
                )
            modes.tighten(data)
            self._path.chmod(0o600)
        except (OSError, sqlite3.Error) as error:
            raise AccessError(
                f"{self._path}: cannot be used: {error}; let the user who runs this write there"
            ) from None

    @contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own."""
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            try:
                yield file
            except BaseException:
                file.execute("ROLLBACK")
                raise
            file.execute("COMMIT")

    # people -----------------------------------------------------------------------------------------------------------

    def new_code(self, person: str | None, seconds: float) -> str:
        """A one-time code; only its hash is kept.

        Args:
            person: whose answers are then theirs.
            seconds: how long it may be redeemed.
        """
        code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
        with self._file() as file:
            file.execute("DELETE FROM code WHERE until <= ?", (self._now(),))
            file.execute("INSERT INTO code VALUES (?, ?, ?)", (_hash(code), person, self._now() + seconds))
        return "-".join(code[start : start + 4] for start in range(0, _CODE_LENGTH, 4))

    def redeem(self, typed: str, address: str) -> str | None:
        """A session for a code, which is spent; None: it is none, or it is over.

        Raises:
            TooManyFailures: whoever is at that address has failed too often.
        """
        code = "".join(letter for letter in typed.upper() if letter.isalnum())
        with self._file() as file:
            row = file.execute(
                "DELETE FROM code WHERE hash = ? AND until > ? RETURNING person", (_hash(code), self._now())
            ).fetchone()
            if row is None:
                session = None
            else:
                session = secrets.token_urlsafe(32)
                file.execute("DELETE FROM session WHERE until <= ?", (self._now(),))
                file.execute(
                    "INSERT INTO session VALUES (?, ?, ?)", (_hash(session), row[0], self._now() + SESSION_SECONDS)
                )
        if session is None:
            self._note_failure(address)
        return session

    def person_of(self, session: str) -> Caller | None:
        """Whose session it is; None: nobody's, or it is over."""
        # No transaction: every request asks, and none need wait for another.
        with closing(sqlite3.connect(self._path, timeout=10)) as file:
            row = file.execute(
                "SELECT person FROM session WHERE hash = ? AND until > ?", (_hash(session), self._now())
            ).fetchone()
        return None if row is None else Caller(row[0], "page")

    def end_sessions(self) -> int:
        """Everybody out: sessions and codes are forgotten; returns how many sessions there were."""
        with self._file() as file:
            file.execute("DELETE FROM code")
            return int(file.execute("DELETE FROM session").rowcount)

    # programs ---------------------------------------------------------------------------------------------------------

    def program(self, header: str, address: str) -> Caller | None:
        """Whoever brings the token in an Authorization header; None: it is another.

        Raises:
            TooManyFailures: whoever is at that address has failed too often.
        """
        kind, _, brought = header.partition(" ")
        is_right = (
            self._token is not None and kind.lower() == "bearer" and hmac.compare_digest(self._token, _hash(brought))
        )
        if not is_right:
            self._note_failure(address)
            return None
        return Caller(None, "api")

    def _note_failure(self, address: str) -> None:
        """Counts a failure.

        Raises:
            TooManyFailures: there were too many lately.
        """
        if len(self._failed) >= _MOST_ADDRESSES:
            self._failed.clear()
        failed = self._failed.setdefault(address, deque())
        while failed and failed[0] <= self._now() - WINDOW_SECONDS:
            failed.popleft()
        if len(failed) >= FAILURES:
            raise TooManyFailures(failed[0] + WINDOW_SECONDS - self._now())
        failed.append(self._now())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
