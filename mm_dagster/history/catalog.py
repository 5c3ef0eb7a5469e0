"""Where the lake's catalogue is: a SQLite file beside the data, or a PostgreSQL that several hosts reach.

Both only say what DuckDB is to be told; connection.py and sessions.py tell it. A password goes into a DuckDB secret
and nowhere else: the text of an ATTACH can be read by every query, and stands in every error.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

EXAMPLE = "postgresql://user:password@host:5432/database"
_BUSY_MS = 10_000
_CONNECT_SECONDS = 10
IDLE_MS = 600_000
"""How long a reader may leave a transaction open on the server and ask nothing."""
_KNOWN = {
    "application_name", "channel_binding", "connect_timeout", "dbname", "host", "options", "password", "port",
    "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs", "user",
}  # fmt: skip
"""Parameters of an address that are passed on; others may hold secrets that would be shown."""


@dataclass(frozen=True)
class SqliteCatalog:
    """One file; its folder may be moved or restored while the program runs."""

    path: Path

    extensions = ("ducklake", "sqlite_scanner")
    name = "catalog.sqlite"
    secret: str | None = None

    def identity(self) -> Hashable | None:
        """Tells one catalogue from another at the same place; None: there is none."""
        return self.path.stat().st_ino if self.path.is_file() else None

    def attached(self, *, read_only: bool) -> str:
        """What follows `ducklake:` in an ATTACH."""
        return f"sqlite:{self.path}"

    def options(self, *, read_only: bool) -> list[str]:
        """What only this kind of catalogue wants of an ATTACH."""
        return [f"META_BUSY_TIMEOUT {_BUSY_MS}", *([] if read_only else ["META_JOURNAL_MODE 'WAL'"])]


@dataclass(frozen=True)
class PostgresCatalog:
    """A database of its own on a PostgreSQL server."""

    parameters: dict[str, str]
    password: str = field(repr=False)

    extensions = ("ducklake", "postgres_scanner")
    name = "the catalogue on the server"

    @classmethod
    def at(cls, address: str) -> PostgresCatalog:
        """The catalogue at an address like EXAMPLE; libpq's own variables (PGPASSFILE, ...) fill what it leaves out.

        Raises:
            ValueError: it is no such address. The address itself is not in the message.
        """
        try:
            parts = urlsplit(address)
            given = {"host": parts.hostname, "port": str(parts.port or ""), "dbname": parts.path.removeprefix("/")}
        except ValueError:
            raise ValueError(f"must be an address like {EXAMPLE}") from None
        # SQLAlchemy, under Dagster, wants a driver in its address; the same address does here.
        if parts.scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ValueError(f"must be an address like {EXAMPLE}")
        given |= {"user": parts.username, "password": parts.password}
        parameters = {name: unquote(value) for name, value in given.items() if value} | dict(parse_qsl(parts.query))
        unknown = sorted(parameters.keys() - _KNOWN)
        if unknown:
            raise ValueError(f"has the parameter {unknown[0]}; known are {', '.join(sorted(_KNOWN))}")
        password = parameters.pop("password", "")
        defaults = {"application_name": "mm_dagster", "connect_timeout": str(_CONNECT_SECONDS)}
        return cls({**defaults, **parameters}, password)

    def identity(self) -> Hashable | None:
        """Always the same: a server that comes back is reconnected to by itself."""
        return "postgres"

    @property
    def secret(self) -> str | None:
        """The statement that makes the secret `catalogue`."""
        return f"CREATE SECRET catalogue (TYPE postgres, PASSWORD '{_in_sql(self.password)}')"

    @property
    def server(self) -> str:
        """The statement that attaches the server itself as `server`, to ask it what it knows."""
        return f"ATTACH '{_in_sql(_conninfo(self.parameters))}' AS server (TYPE postgres, READ_ONLY, SECRET catalogue)"

    def attached(self, *, read_only: bool) -> str:
        """What follows `ducklake:` in an ATTACH; nothing secret.

        No time limit of the server may end a writer's statement: DuckLake drops a table of inlined rows after it has
        committed their file, and deletes that file when the drop fails. So it is the reader that is limited: one that
        leaves its transaction open and asks nothing is ended, and cannot keep the upkeep waiting for ever.
        """
        limits = f"-c idle_in_transaction_session_timeout={IDLE_MS}"
        own = limits if read_only else "-c lock_timeout=0 -c statement_timeout=0"
        options = f"{self.parameters.get('options', '')} {own}".strip()
        return f"postgres:{_conninfo({**self.parameters, 'options': options})}"

    def options(self, *, read_only: bool) -> list[str]:
        """What only this kind of catalogue wants of an ATTACH."""
        return ["META_SECRET 'catalogue'"]


def _conninfo(parameters: dict[str, str]) -> str:
    return " ".join(f"{name}='{_in_conninfo(value)}'" for name, value in sorted(parameters.items()))


def _in_conninfo(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _in_sql(text: str) -> str:
    return text.replace("'", "''")
