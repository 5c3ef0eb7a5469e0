"""A server of raw sockets on loopback that says exactly the bytes that it is told, and keeps what it was asked.

It shares nothing with the other servers of the tests: no HTTP library stands between a fault and the client.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

Script = Callable[[bytes], Iterable[bytes | float]]
"""What is sent for a request: bytes, and pauses in seconds. A request is all that came before the first silence."""


class Wire:
    """Runs while the `with` block does.

    Attributes:
        asked: what came in, request by request.
    """

    def __init__(self, script: Script | bytes, *, stays: bool = False) -> None:
        """
        Args:
            script: what it says; bytes are the same for every request.
            stays: whether a connection serves more than one request.
        """
        self._stays = stays
        self._script = script if callable(script) else lambda _: [script]
        self.asked: list[bytes] = []
        self._closing = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.02)
        self._threads: list[threading.Thread] = []

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.place}"

    def __enter__(self) -> Self:
        self._begin(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(10)
        self._server.close()

    def _begin(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                end, _ = self._server.accept()
            except TimeoutError:
                continue
            self._begin(lambda end=end: self._serve(end))  # type: ignore[misc]

    def _serve(self, end: socket.socket) -> None:
        with end:
            try:
                while request := self._request(end):
                    self.asked.append(request)
                    for said in self._script(request):
                        if isinstance(said, bytes):
                            end.sendall(said)
                        elif self._closing.wait(said):
                            return
                    if not self._stays:
                        return
            except OSError:
                return

    def _request(self, end: socket.socket) -> bytes:
        end.settimeout(0.05)
        came = b""
        until = time.monotonic() + 5
        while time.monotonic() < until and not self._closing.is_set():
            try:
                piece = end.recv(65536)
            except TimeoutError:
                if came:
                    break
                continue
            if not piece:
                break
            came += piece
        return came


def answer(body: bytes = b"{}", status: str = "200 OK", headers: Iterable[str] = ()) -> bytes:
    """A whole answer, after which the connection ends."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def trickle(begin: bytes, piece: bytes, pause: float = 0.02) -> Script:
    """Says something, and then a little more for ever."""

    def script(_: bytes) -> Iterator[bytes | float]:
        yield begin
        while True:
            yield piece
            yield pause

    return script
