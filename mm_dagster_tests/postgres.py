"""A real PostgreSQL in a temporary folder, with a password, for the tests."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

PASSWORD = "it's \\ a secret: pässword"
"""Holds every character that must be quoted somewhere on the way."""


class Postgres:
    """One server; every test may have a database of its own."""

    def __init__(self, folder: Path) -> None:
        import pgserver

        self.folder = folder
        self._server = pgserver.get_server(folder)
        self._numbers = itertools.count()
        self.run(f"CREATE ROLE mm LOGIN CREATEDB PASSWORD $${PASSWORD}$$")
        rules = folder / "pg_hba.conf"
        rules.write_text(f"local all mm scram-sha-256\n{rules.read_text()}")
        # Nothing here outlives the test: waiting for the disk took most of its time.
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            self.run(f"ALTER SYSTEM SET {name} = off")
        self.run("SELECT pg_reload_conf()")

    def run(self, statement: str) -> str:
        """What psql prints of a statement, as the superuser."""
        return str(self._server.psql(statement))

    def database(self) -> str:
        """The address of a new, empty database, with the password in it."""
        name = f"lake_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} OWNER mm")
        return self.address(name)

    def address(self, database: str, password: str = PASSWORD) -> str:
        """Where a database is: a socket, since the server listens on no port."""
        return f"postgresql://mm:{quote(password, safe='')}@/{database}?host={quote(str(self.folder), safe='')}"

    def end_sessions(self) -> None:
        """Ends every session of the program, as a restart would."""
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mm'")

    def stop(self) -> None:
        """Ends it."""
        with suppress(Exception):
            self.end_sessions()
            self._server.cleanup()


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for as long as it is needed, in a folder that its own user reaches, too.

    Raises:
        Exception: it cannot be started here.
    """
    with tempfile.TemporaryDirectory(prefix="mm-postgres-") as folder:
        Path(folder).chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = Postgres(Path(folder) / "data")
        try:
            yield server
        finally:
            server.stop()
