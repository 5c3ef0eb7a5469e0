"""A Pushover of our own, over raw sockets, that can be rude: it takes messages and says something else."""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from dataclasses import dataclass, field
from email.parser import BytesParser
from types import TracebackType
from urllib.parse import parse_qs

TOKEN, USER = "t" * 30, "u" * 30


@dataclass(frozen=True)
class Ring:
    """One message that the phone shows."""

    title: str
    text: str
    priority: int
    receipt: str | None


@dataclass
class Manners:
    """How the next requests are treated; the first that fits is used up.

    Attributes:
        takes: whether the message reaches the phone.
        status: HTTP status; 0: the connection is cut instead.
        body: as sent; None: as an honest Pushover would.
        stall: seconds before the answer.
    """

    takes: bool = True
    status: int = 200
    body: bytes | None = None
    stall: float = 0.0


class Phone:
    """Runs while the `with` block does.

    Attributes:
        rings: every message that was taken.
        manners: for the next messages, used up one by one.
    """

    def __init__(self) -> None:
        self.rings: list[Ring] = []
        self.manners: list[Manners] = []
        self.told_at: list[float] = []
        self._receipts: dict[str, int] = {}
        self._one = threading.Lock()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("Call", (_Call,), {"phone": self}))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/1/"

    def __enter__(self) -> Phone:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hear(self, method: str, path: str, fields: dict[str, str]) -> tuple[int, bytes, float]:
        """Status, body and delay for a request."""
        if "messages" not in path:
            return self._about(method, path)
        with self._one:
            manners = self.manners.pop(0) if self.manners else Manners()
            answer: dict[str, object] = {"status": 1, "request": f"{len(self.rings):032x}"}
            if manners.takes:
                priority = int(fields.get("priority", "0"))
                receipt = f"r{len(self.rings):029d}" if priority == 2 else None
                self.rings.append(Ring(fields.get("title", ""), fields.get("message", ""), priority, receipt))
                self.told_at.append(time.monotonic())
                if receipt:
                    answer["receipt"] = receipt
            body = json.dumps(answer).encode() if manners.body is None else manners.body
            return manners.status, body, manners.stall

    def _about(self, method: str, path: str) -> tuple[int, bytes, float]:
        receipt = re.search(r"receipts/([^/.]+)", path)
        known = {"status": 1, "acknowledged": 0, "acknowledged_at": 0, "acknowledged_by": "",
                 "acknowledged_by_device": "", "last_delivered_at": 0, "expired": 0, "expires_at": 0,
                 "called_back": 0, "called_back_at": 0}  # fmt: skip
        return 200, json.dumps(known if receipt else {"status": 1, "devices": ["phone"]}).encode(), 0.0


@dataclass
class _Parts:
    fields: dict[str, str] = field(default_factory=dict)


class _Call(socketserver.StreamRequestHandler):
    phone: Phone
    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            while (line := self.rfile.readline(65_536)).strip():
                method, path = line.decode().split()[:2]
                head = b""
                while (header := self.rfile.readline(65_536)).strip():
                    head += header
                length = re.search(rb"(?i)content-length:\s*(\d+)", head)
                body = self.rfile.read(int(length[1]) if length else 0)
                kind = re.search(rb"(?i)content-type:[^\r\n]*", head)
                status, answer, stall = self.phone.hear(method, path, _fields(kind[0] if kind else b"", body))
                time.sleep(stall)
                if not status:
                    return
                self.wfile.write(
                    f"HTTP/1.1 {status} Because\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(answer)}\r\n\r\n".encode()
                    + answer
                )
        except (OSError, ValueError, IndexError):
            return


def _fields(kind: bytes, body: bytes) -> dict[str, str]:
    if b"multipart" not in kind.lower():
        return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    message = BytesParser().parsebytes(kind + b"\r\n\r\n" + body)
    found = _Parts()
    for part in message.get_payload():  # type: ignore[union-attr]
        name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
        if not part.get_filename():  # type: ignore[union-attr]
            found.fields[str(name)] = part.get_payload(decode=True).decode("utf-8", "replace")  # type: ignore[union-attr]
    return found.fields
