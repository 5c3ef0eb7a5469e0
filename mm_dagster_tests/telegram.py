"""A Telegram on loopback: checks requests as the real one does, keeps what was sent and said, and fails on demand.

    with TelegramServer() as server:
        server.fail("429", "lost answer")
        server.tap(server.messages[0], "kept")

A tap waits 150 seconds for the bot, a message a day, by `server.clock`; an update is given until it is confirmed.
"""

from __future__ import annotations

import html
import json
import re
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from mm_dagster_tests.pushover import fields_of

Fault = Literal["429", "500", "502", "400", "400 html", "302", "empty", "slow", "closed", "lost answer"]
"""What happens to the next request: an answer with that status (400 of its markup), 200 without a body, a body that
stalls, no answer at all, or, for `lost answer`, everything done and then no answer."""

TAP_SECONDS, MESSAGE_SECONDS = 150, 86_400
_PAGE = b"<!doctype html><html><body><h1>Sorry</h1></body></html>"
_BOT = {"id": 424242, "is_bot": True, "first_name": "mm", "username": "mm_loopback_bot"}


class TelegramServer:
    """Runs while the `with` block does.

    Attributes:
        token: the bot's.
        chat: number of its one chat, which is that of the person, too.
        messages: what it accepted, in order: `message_id`, `chat_id`, `text` as it is shown, `keyboard`, `photo`, and
            the fields.
        answers: the lines that ended the waiting of taps, by tap.
        marks: the labels of the buttons of a message, once they were changed, by message_id.
        requests: every request, as its method.
        refusal: what it says to everything that is sent; None: nothing is wrong.
        moved: new numbers of groups, by the old one.
        busy: why nobody is told updates; None: whoever asks is.
        webhook: its address.
        retry_after: the seconds of a 429.
        disorder: whether updates come in reversed, and each twice.
        lost: updates that nobody asked for in time.
        confirmed: updates that were confirmed.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.clock = clock
        self.token = f"424242:{secrets.token_urlsafe(26)}"
        self.chat = self.person = 777_000_111
        self.messages: list[dict[str, Any]] = []
        self.answers: dict[str, str] = {}
        self.marks: dict[int, list[str]] = {}
        self.requests: list[str] = []
        self.refusal: tuple[int, str] | None = None
        self.moved: dict[int, int] = {}
        self.busy: str | None = None
        self.webhook = ""
        self.retry_after = 1
        self.disorder = False
        self.lost: list[dict[str, Any]] = []
        self.confirmed: list[dict[str, Any]] = []
        self._updates: list[tuple[datetime, dict[str, Any]]] = []
        self._number = 1_000
        self._faults: deque[Fault] = deque()
        self._closing = threading.Event()
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"telegram": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def api_url(self) -> str:
        """Goes into `alerts.telegram.api_url`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(self, *faults: Fault) -> None:
        """Spoils the next requests, one each."""
        self._faults.extend(faults)

    def heal(self) -> None:
        """Takes back the faults that no request has met yet."""
        with self._lock:
            self._faults.clear()

    def tap(
        self, message: Mapping[str, Any], action: str, *, person: int | None = None, chat: int | None = None
    ) -> dict[str, Any]:
        """Somebody presses a button of a message; the update."""
        data = next(
            key["callback_data"] for row in message["keyboard"] for key in row if action in key["callback_data"]
        )
        found = {
            "message_id": message["message_id"],
            "chat": {"id": chat or message["chat_id"]},
            "date": 0,
            "reply_markup": {"inline_keyboard": message["keyboard"]},
        }
        query = {"id": secrets.token_hex(9), "from": {"id": person or self.person}, "message": found, "data": data}
        return self._put({"callback_query": query})

    def type(self, text: str, *, person: int | None = None, chat: int | None = None) -> dict[str, Any]:
        """Somebody writes something; the update."""
        self._number += 1
        message = {
            "message_id": self._number,
            "from": {"id": person or self.person},
            "chat": {"id": chat or self.chat},
            "date": int(self.clock().timestamp()),
            "text": text,
        }
        return self._put({"message": message})

    def _put(self, update: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._number += 1
            found = {"update_id": self._number, **update}
            self._updates.append((self.clock(), found))
            return found

    @property
    def waiting(self) -> list[dict[str, Any]]:
        """The updates that were not confirmed yet and can still be asked for."""
        with self._lock:
            now = self.clock()
            kept = []
            for at, update in self._updates:
                lives = TAP_SECONDS if "callback_query" in update else MESSAGE_SECONDS
                if (now - at).total_seconds() > lives:
                    self.lost.append(update)
                else:
                    kept.append((at, update))
            self._updates = kept
            return [update for _, update in kept]

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

    def next_fault(self, method: str) -> Fault | None:
        """Notes a request and takes the fault that is meant for it."""
        with self._lock:
            self.requests.append(method)
            return self._faults.popleft() if self._faults else None

    def wait_for_end(self) -> None:
        """Returns when the block ends; the longest that a stalled answer stalls."""
        self._closing.wait()

    def answer(self, path: str, fields: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """What the API says to a request: status and body."""
        _, bot, method = path.split("/", 2)
        if bot != f"bot{self.token}":
            return _refuse(401, "Unauthorized")
        with self._lock:
            match method:
                case "getMe":
                    return _accept(_BOT)
                case "getWebhookInfo":
                    return _accept({"url": self.webhook})
                case "getUpdates":
                    return self._get_updates(fields)
                case "answerCallbackQuery":
                    self.answers[fields["callback_query_id"]] = fields["text"]
                    return _refuse(400, "Bad Request: too long") if len(fields["text"]) > 200 else _accept(True)
            wrong = self._wrong_chat(int(fields["chat_id"]))
            if wrong or method == "getChat":
                return wrong or _accept({"id": int(fields["chat_id"])})
            if method == "editMessageReplyMarkup":
                rows = json.loads(fields["reply_markup"])["inline_keyboard"]
                self.marks[int(fields["message_id"])] = [key["text"] for row in rows for key in row]
                return _accept(True)
            if method in ("sendMessage", "sendPhoto"):
                return self._message(method, fields)
        return _refuse(404, "Not Found")

    def _get_updates(self, fields: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.busy or self.webhook:
            return _refuse(409, f"Conflict: {self.busy or 'can t use getUpdates method while webhook is active'}")
        assert set(json.loads(fields["allowed_updates"])) == {"message", "callback_query"}
        waiting = self.waiting
        if "offset" in fields:
            offset = int(fields["offset"])
            self.confirmed += [one for one in waiting if one["update_id"] < offset]
            self._updates = [pair for pair in self._updates if pair[1]["update_id"] >= offset]
            waiting = [one for one in waiting if one["update_id"] >= offset]
        found = waiting[: int(fields.get("limit", 100))]
        return _accept([*reversed(found), *found] if self.disorder else found)

    def _wrong_chat(self, chat: int) -> tuple[int, dict[str, Any]] | None:
        if self.refusal:
            return _refuse(*self.refusal)
        if chat in self.moved:
            words = "Bad Request: group chat was upgraded to a supergroup chat"
            return _refuse(400, words, migrate_to_chat_id=self.moved[chat])
        if chat not in (self.chat, *self.moved.values()):
            return _refuse(400, "Bad Request: chat not found")
        return None

    def _message(self, method: str, fields: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        name, limit = ("caption", 1024) if method == "sendPhoto" else ("text", 4096)
        text, keyboard = fields.get(name, ""), json.loads(fields.get("reply_markup", "{}")).get("inline_keyboard", [])
        if fields.get("parse_mode") == "HTML":
            if re.search(r"<(?!/?b>)|&(?!(amp|lt|gt|quot|#\d+|#x[0-9a-f]+);)", text):
                return _refuse(400, "Bad Request: can't parse entities: unsupported start tag")
            text = html.unescape(re.sub(r"</?b>", "", text))
        if len(text.encode("utf-16-le")) // 2 > limit or (not text and method == "sendMessage"):
            return _refuse(400, f"Bad Request: message {name} is too long or empty")
        if len(fields.get("photo", b"")) > 10_000_000:
            return _refuse(400, "Bad Request: file is too big")
        for key in (key for row in keyboard for key in row):
            if "url" in key and (urlsplit(key["url"]).hostname or "") in ("localhost", "127.0.0.1"):
                return _refuse(400, "Bad Request: inline keyboard button URL is invalid: Wrong HTTP URL")
            if not 1 <= len(key.get("callback_data", "x").encode()) <= 64:
                return _refuse(400, "Bad Request: BUTTON_DATA_INVALID")
        if method == "sendMessage":
            assert json.loads(fields["link_preview_options"]) == {"is_disabled": True}, "a preview opens the link"
        self._number += 1
        found = {"message_id": self._number, "chat_id": int(fields["chat_id"]), "text": text, "keyboard": keyboard}
        self.messages.append({**found, "photo": fields.get("photo"), "fields": dict(fields)})
        return _accept({"message_id": self._number})


class _Handler(BaseHTTPRequestHandler):
    telegram: TelegramServer
    protocol_version = "HTTP/1.1"
    # Head and body leave as one piece: two would wait for each other's receipt.
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fields = fields_of(self.headers.get("Content-Type", ""), body)
        fault = self.telegram.next_fault(self.path.rpartition("/")[2])
        match fault:
            case None:
                self._say(*self.telegram.answer(self.path, fields))
            case "429":
                words = f"Too Many Requests: retry after {self.telegram.retry_after}"
                self._say(*_refuse(429, words, retry_after=self.telegram.retry_after))
            case "400":
                self._say(*_refuse(400, f"Bad Request: can't parse entities for {self.path}"))
            case "500":
                self._say(*_refuse(500, "Internal Server Error"))
            case "502" | "302" | "400 html":
                self._write(int(fault[:3]), _PAGE)
            case "empty":
                self._write(200, b"")
            case "slow":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b'{"ok"')
                self.wfile.flush()
                self.telegram.wait_for_end()
                self.close_connection = True
            case "closed":
                self._hang_up()
            case "lost answer":
                self.telegram.answer(self.path, fields)
                self._hang_up()

    def log_message(self, format: str, *arguments: object) -> None:
        """The tests' output is quiet."""

    def _say(self, status: int, answer: dict[str, Any]) -> None:
        self._write(status, json.dumps(answer).encode())

    def _write(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", "/login")
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _accept(result: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"ok": True, "result": result}


def _refuse(code: int, description: str, **parameters: int) -> tuple[int, dict[str, Any]]:
    more = {"parameters": parameters} if parameters else {}
    return code, {"ok": False, "error_code": code, "description": description, **more}
