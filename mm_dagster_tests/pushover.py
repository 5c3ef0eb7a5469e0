"""A Pushover on loopback: checks requests as the real one does, keeps them, and fails on demand.

    with PushoverServer() as server:
        server.fail("closed", "500")
        Pushover(server.token, server.user, PushoverConfig(api_url=server.api_url), wait_seconds=0.01)

Also reachable from another process, by `api_url` in alerts.yaml and the two keys in its environment.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote_to_bytes

Fault = Literal["429", "500", "400", "400 without errors", "400 html", "302", "empty", "slow", "closed", "lost answer"]
"""What happens to the next request: an answer with that status (500 and 302 with a page of HTML), 200 without a body,
a body that stalls, no answer at all, or, for `lost answer`, everything done and then no answer."""

_PAGE = b"<!doctype html><html><body><h1>Sorry</h1></body></html>"


class PushoverServer:
    """Runs while the `with` block does.

    Attributes:
        token: the application token that it knows.
        user: the user key that it knows.
        messages: the messages that it accepted, in order: their fields as text, and `attachment` as bytes.
        receipts: the emergencies among them, by receipt: what GET receipts/<receipt>.json says of them.
        cancelled: receipts that were cancelled, in order.
        requests: every request, as "METHOD path".
    """

    def __init__(self) -> None:
        self.token = "a" + secrets.token_hex(14) + "T"
        self.user = "u" + secrets.token_hex(14) + "U"
        self.messages: list[dict[str, Any]] = []
        self.receipts: dict[str, dict[str, Any]] = {}
        self.cancelled: list[str] = []
        self.requests: list[str] = []
        self._faults: deque[Fault] = deque()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"pushover": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def api_url(self) -> str:
        """Goes into `alerts.pushover.api_url`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/1/"

    def fail(self, *faults: Fault) -> None:
        """Spoils the next requests, one each."""
        self._faults.extend(faults)

    def acknowledge(self, receipt: str, device: str = "phone", at: int = 1_767_225_600) -> None:
        """The operator taps on an emergency, at that Unix time."""
        self.receipts[receipt] |= {
            "acknowledged": 1,
            "acknowledged_at": at,
            "acknowledged_by": self.user,
            "acknowledged_by_device": device,
        }

    def expire(self, receipt: str, at: int = 1_767_225_600) -> None:
        """Nobody tapped on an emergency until that Unix time."""
        self.receipts[receipt] |= {"expired": 1, "expires_at": at}

    def heal(self) -> None:
        """Takes back the faults that no request has met yet."""
        with self._lock:
            self._faults.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_fault(self, request: str) -> Fault | None:
        """Notes a request and takes the fault that is meant for it."""
        with self._lock:
            self.requests.append(request)
            return self._faults.popleft() if self._faults else None

    def wait_for_end(self) -> None:
        """Returns when the block ends; the longest that a stalled answer stalls."""
        self._closing.wait()

    def answer(self, method: str, path: str, fields: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """What the API says to a request: status and body."""
        parts = path.removesuffix(".json").strip("/").split("/")
        if fields.get("token") != self.token:
            return _refuse("application token is invalid", token="invalid")
        with self._lock:
            match method, *parts[1:]:
                case "POST", "messages":
                    return self._message(fields)
                case "POST", "users", "validate":
                    return self._validate(fields)
                case "GET", "receipts", receipt if receipt in self.receipts:
                    return 200, _accepted(**self.receipts[receipt])
                case "POST", "receipts", receipt, "cancel" if receipt in self.receipts:
                    self.cancelled.append(receipt)
                    self.receipts[receipt]["expired"] = 1
                    return 200, _accepted()
                case _, "receipts", *_:
                    return _refuse("receipt not found; may be invalid or expired", receipt="not found", code=404)
        return _refuse("resource not found", code=404)

    def _validate(self, fields: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        if fields.get("user") != self.user:
            return _refuse("user key is invalid", user="invalid")
        return 200, _accepted(group=0, devices=["phone"], licenses=["Android"])

    def _message(self, fields: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        wrong = self._wrong(fields)
        if wrong:
            return _refuse(wrong)
        self.messages.append(dict(fields))
        if fields.get("priority") != "2":
            return 200, _accepted()
        receipt = "r" + secrets.token_hex(14) + "R"
        self.receipts[receipt] = {"acknowledged": 0, "acknowledged_at": 0, "expired": 0, "called_back": 0}
        return 200, _accepted(receipt=receipt)

    def _wrong(self, fields: Mapping[str, Any]) -> str | None:
        priority = fields.get("priority", "0")
        known = {"token", "user", "message", "title", "url", "priority", "timestamp", "retry", "expire", "attachment"}
        if set(fields) - known:
            return f"this server does not know {', '.join(sorted(set(fields) - known))}"
        if fields.get("user") != self.user:
            return "user identifier is not a valid user, group, or subscribed user key"
        if not fields.get("message"):
            return "message cannot be blank"
        for name, limit in (("message", 1024), ("title", 250), ("url", 512)):
            if len(fields.get(name, "")) > limit:
                return f"{name} is too long, maximum is {limit} characters"
        if priority not in ("-2", "-1", "0", "1", "2"):
            return "priority is invalid"
        if len(fields.get("attachment", b"")) > 5 * 1024 * 1024:
            return "attachment is too large"
        if priority == "2":
            retry, expire = fields.get("retry", ""), fields.get("expire", "")
            if not retry.isdigit() or int(retry) < 30:
                return "retry parameter must be at least 30 seconds"
            if not expire.isdigit() or int(expire) > 10_800:
                return "expire parameter must be at most 10800 seconds"
        return None


class _Handler(BaseHTTPRequestHandler):
    pushover: PushoverServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, format: str, *arguments: object) -> None:
        """The tests' output is quiet."""

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fields = fields_of(self.headers.get("Content-Type", ""), body)
        fault = self.pushover.next_fault(f"{method} {self.path}")
        match fault:
            case None:
                status, answer = self.pushover.answer(method, self.path, fields)
                self._say(status, json.dumps(answer).encode())
            case "429":
                errors = ["application has exceeded its monthly message limit"]
                self._say(429, json.dumps({"status": 0, "errors": errors}).encode())
            case "400":
                errors = [f"token {fields.get('token')} of user {fields.get('user')} is not welcome"]
                self._say(400, json.dumps({"status": 0, "errors": errors}).encode())
            case "400 without errors":
                self._say(400, b'{"status": 0}')
            case "400 html" | "500" | "302":
                self._say(int(fault[:3]), _PAGE, "text/html")
            case "empty":
                self._say(200, b"")
            case "slow":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b'{"status"')
                self.wfile.flush()
                self.pushover.wait_for_end()
                self.close_connection = True
            case "closed":
                self._hang_up()
            case "lost answer":
                self.pushover.answer(method, self.path, fields)
                self._hang_up()

    def _say(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", "/login")
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _accepted(**more: object) -> dict[str, Any]:
    return {"status": 1, "request": secrets.token_hex(16), **more}


def _refuse(error: str, code: int = 400, **fields: str) -> tuple[int, dict[str, Any]]:
    return code, {"status": 0, "errors": [error], "request": secrets.token_hex(16), **fields}


def fields_of(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a form, as text; a file's content stays bytes."""
    if not content_type.startswith("multipart/form-data"):
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body)))
    boundary = unquote_to_bytes(content_type.partition("boundary=")[2].strip('"'))
    fields: dict[str, Any] = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        content = content.removesuffix(b"\r\n")
        name = head.decode().partition('name="')[2].partition('"')[0]
        fields[name] = content if b"filename=" in head else content.decode("utf-8")
    return fields
