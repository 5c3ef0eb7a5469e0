"""A Pushover that swallows its answers at a moment of its choice, and a sender in a process of its own to kill.

It shares no code with the server of the other tests: raw sockets, one request a connection, counted when its last byte
is there.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from mm_dagster.alerts.channel import Channel, Message, Sent
from mm_dagster.alerts.pushover import Pushover
from mm_dagster.config.alerts import PushoverConfig
from mm_dagster.tables import registry
from mm_dagster_tests.alerts.given import T0, grid, state, states

MOMENTS = ("answered", "before reading", "after reading", "half an answer", "reset", "timeout", "5xx", "no json")
"""What a request may meet. But for `before reading` the message is taken first."""


class Swallower:
    """Runs while the `with` block does.

    Attributes:
        taken: how many messages were taken.
        met: the moments that requests met.
    """

    def __init__(self, moments: Sequence[str], at: Callable[[str], None] = lambda _: None) -> None:
        """Listens at a free port of 127.0.0.1.

        Args:
            moments: for each request one; then the last goes on.
            at: called when a request has met its moment: a place to kill the sender.
        """
        self.taken = 0
        self.met: list[str] = []
        self._moments, self._at = list(moments), at
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/1/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for one in self._held:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            moment = self._moments.pop(0) if len(self._moments) > 1 else self._moments[0]
            self.met.append(moment)
            with contextlib.suppress(OSError):
                self._meet(connection, moment)

    def _meet(self, connection: socket.socket, moment: str) -> None:
        if moment == "before reading":
            self._at(moment)
            connection.close()
            return
        _read(connection)
        self.taken += 1
        self._at(moment)
        body = json.dumps({"status": 1, "request": "r", "receipt": f"receipt{self.taken}"}).encode()
        match moment:
            case "answered":
                connection.sendall(_answer("200 OK", body))
            case "half an answer":
                connection.sendall(_answer("200 OK", body)[:-20])
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "timeout":
                self._held.append(connection)
                return
            case "5xx":
                connection.sendall(_answer("502 Bad Gateway", b"<html>"))
            case "no json":
                connection.sendall(_answer("200 OK", b"<html>"))
        connection.close()


def _read(connection: socket.socket) -> None:
    """All of one request."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(65536)
    head, _, body = read.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)


def _answer(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


class FileLedger:
    """The ledger as two files, each replaced whole, so that a killed sender leaves what it had committed."""

    def __init__(self, folder: Path) -> None:
        self._rows, self._events = folder / "rows.parquet", folder / "events.parquet"

    def read(self) -> pl.DataFrame:
        return pl.read_parquet(self._rows) if self._rows.exists() else registry.empty("notification")

    def events(self) -> pl.DataFrame:
        return pl.read_parquet(self._events) if self._events.exists() else registry.empty("alert_event")

    def write(self, rows: pl.DataFrame, events: pl.DataFrame) -> None:
        if rows.height:
            _replace(self._rows, pl.concat([self.read().join(rows, on="alert_id", how="anti"), rows]))
        if events.height:
            _replace(self._events, pl.concat([self.events(), events]))


def _replace(path: Path, frame: pl.DataFrame) -> None:
    fresh = path.with_suffix(".tmp")
    frame.write_parquet(fresh)
    fresh.replace(path)


class Taker(Channel):
    """A second channel that takes everything, and counts in a file, since the process may end at any moment."""

    name = "apprise"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "second"

    def send(self, message: Message) -> Sent:
        with self._path.open("a") as file:
            file.write("x")
        return Sent(detail="it took it")

    @property
    def taken(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def send_once(folder: Path, api_url: str, second: bool, minute: float, timeout: float = 0.5) -> dict[str, Any]:
    """One run of the sender with one emergency, at a minute after it began; what stands in the ledger then."""
    from mm_dagster_tests.alerts import ledgers

    ledger, of = FileLedger(folder), grid()
    channel = Pushover("t" * 30, "u" * 30, PushoverConfig(api_url=api_url, timeout_seconds=timeout), wait_seconds=0.01)
    clock = T0 + timedelta(minutes=minute)
    rows = states(state(of, T0, "MANDATORY_EXIT"))
    taker: Channel | None = Taker(folder) if second else None
    ledgers.run(ledger, clock, [of], exit_states=rows, price=3_060.0, channel=channel, second=taker)  # type: ignore[arg-type]
    return ledger.read().filter(pl.col("kind") == "ESCALATION").row(0, named=True)


if __name__ == "__main__":
    send_once(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "second", float(sys.argv[4]), timeout=30.0)
