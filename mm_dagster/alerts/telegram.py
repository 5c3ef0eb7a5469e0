"""Telegram: the one place that talks to it. It cannot ring, and it can be answered.

The token is part of every address, so no error, line or row shows one, and what the HTTP client logs is not kept. A
message goes out with its picture where both fit into one, with its link as a line of its own: a button for an address
that Telegram does not like, like a loopback one, would be refused with the whole message. What it refuses for its form
is sent once more plain.

What comes back is kept by Telegram until it is confirmed: a tap for 150 seconds, a message for a day.
"""

from __future__ import annotations

import html
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from mm_dagster import logs, web
from mm_dagster.alerts.alert import PLAIN
from mm_dagster.alerts.asking import GATEWAYS, Asking, json_of
from mm_dagster.alerts.channel import Button, Channel, Down, Message, Refused, Sent, Unavailable, Unreachable
from mm_dagster.alerts.notes import Notes
from mm_dagster.config.alerts import TelegramConfig

logger = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
"""Before the second attempt at what could not be reached."""
PATIENCE_SECONDS = 5.0
"""A pause that Telegram asks for is waited for so long; after a longer one it is the ledger's turn to try again."""
TAP_LIVES = timedelta(seconds=150)
"""So long Telegram keeps a tap for whoever asks."""

_CAPTION = 1024
"""Characters that stand below a picture, in UTF-16 code units."""
_IMAGE_LIMIT = 10_000_000
_ANSWER = 200
"""Characters of the line that answers a tap."""
_MOST_BYTES = 2**22
_KINDS = ["message", "callback_query"]
_MARK = "✓ "
_LOGGER = "urllib3.connectionpool"


class Busy(Refused):
    """Somebody else asks what this bot is told: another program with its token, or a webhook."""


class _Form(Refused):
    """It does not like how a message is written."""


class _Moved(Refused):
    """The chat has another number now."""


@dataclass(frozen=True)
class Said:
    """What somebody typed or tapped.

    Attributes:
        key: names it, the same however often it comes in.
        sender: number of the person.
        chat: number of the chat.
        words: what was typed, or the data of the button.
        at: when it was typed, UTC; None: it was tapped, and it is not said when.
        tap: names the tap that waits for a line; None: it was typed.
        message_id: the message that was tapped on.
        keyboard: its buttons, as Telegram has them.
    """

    key: str
    sender: int
    chat: int
    words: str
    at: datetime | None = None
    tap: str | None = None
    message_id: int | None = None
    keyboard: Sequence[Any] = ()


@dataclass(frozen=True)
class Update:
    """One thing that came in; what is neither typed nor tapped says nothing."""

    number: int
    said: Said | None


class Telegram(Channel):
    """A bot in one chat. Not safe for use by several threads at once."""

    name = "telegram"

    def __init__(
        self,
        token: str,
        chat: int,
        config: TelegramConfig,
        notes: Notes,
        people: Mapping[str, int],
        *,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """Connects nothing yet.

        Args:
            token: the bot's.
            chat: number of the chat; below 0 it is a group.
            config: address and timeout.
            notes: what is to be known between two runs.
            people: who may answer: the numbers that Telegram gives to them, by name.
            wait_seconds: pause before the second attempt; it doubles before the third.
        """
        self._chat = chat
        self._config = config
        self._people = {number: name for name, number in people.items()}
        self.notes = notes
        secrets = tuple(one for one in (token, token.partition(":")[2]) if one)
        self._base = f"{config.api_url.rstrip('/')}/bot{token}/"
        self._asking = Asking(
            "Telegram", config.api_url, "telegram.api_url in alerts.yaml", config.timeout_seconds, wait_seconds, secrets
        )
        self._session = web.Session(_MOST_BYTES, secrets)

    def __repr__(self) -> str:
        return f"Telegram({self._asking.where})"

    @property
    def chat(self) -> int:
        """Number of the chat; of a group that has become another one, the new number."""
        moved = self.notes.get("moved")
        is_mine = isinstance(moved, list) and len(moved) == 2 and moved[0] == self._chat
        return int(moved[1]) if is_mine else self._chat

    def may_answer(self, said: Said) -> bool:
        """Whether it comes from the chat, and from somebody who was named; with nobody named, from its one person."""
        if said.chat != self.chat:
            return False
        return said.sender in self._people if self._people else said.sender == self.chat

    def person(self, said: Said) -> str | None:
        """The name of whoever said it; None: nobody was named."""
        return self._people.get(said.sender)

    # out --------------------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> Sent:
        """Sends one message, and again, at most three times, only while no connection can be established.

        Without a sound below priority 0.

        Raises:
            Refused: it said no, and what a person has to do about it.
            Down: it is out of order, or takes no more for a while.
            Unavailable: a timeout, or no usable answer: it may have been accepted.
        """
        try:
            self._send(message)
        except _Moved:
            self._send(message)
            return Sent(detail=self._moved_line())
        return Sent()

    def _send(self, message: Message) -> None:
        link = f"\n{html.escape(message.url)}" if message.url else ""
        text = f"<b>{html.escape(message.title)}</b>\n{html.escape(message.text)}{link}"
        plain = "\n".join(part for part in (message.title, message.text, message.url) if part)
        image = message.image if message.image and len(message.image) <= _IMAGE_LIMIT else None
        options = {
            "disable_notification": message.priority < PLAIN,
            "reply_markup": {"inline_keyboard": _rows(message.buttons)} if message.buttons else None,
        }
        below = image is not None and len(plain.encode("utf-16-le")) // 2 <= _CAPTION
        try:
            if below:
                self._to_chat("sendPhoto", image, caption=text, parse_mode="HTML", **options)
            else:
                self._text(text, parse_mode="HTML", **options)
        except _Form:
            self._text(plain, **options)
            return
        if image is not None and not below:
            self._best("sendPhoto", image, chat_id=self.chat, disable_notification=True)

    def reply(self, text: str) -> None:
        """Says something in the chat, plain.

        Raises:
            Refused: it said no.
            Unavailable: no usable answer.
        """
        try:
            self._text(text)
        except _Moved:
            self._text(text)

    def _text(self, text: str, **options: Any) -> None:
        # Whoever makes a preview opens the link, and a link that opens once is spent by that.
        self._to_chat("sendMessage", None, text=text, link_preview_options={"is_disabled": True}, **options)

    def _to_chat(self, method: str, image: bytes | None, **fields: Any) -> None:
        self._call(method, Unreachable, image, chat_id=self.chat, **fields)

    def answer_tap(self, said: Said, line: str, *, done: bool) -> None:
        """Ends the waiting of a tap with a line, and marks the button that counts; what goes wrong is no matter."""
        self._best("answerCallbackQuery", None, callback_query_id=said.tap, text=line[:_ANSWER], show_alert=not done)
        if done and said.message_id is not None and said.keyboard:
            keyboard = {"inline_keyboard": _marked(said.keyboard, said.words)}
            self._best(
                "editMessageReplyMarkup", None, chat_id=self.chat, message_id=said.message_id, reply_markup=keyboard
            )

    def _best(self, method: str, image: bytes | None, **fields: Any) -> None:
        """A call that is worth no second try: what it adds is gone, and nothing else is."""
        try:
            self._call(method, (), image, **fields)
        except (Refused, Unavailable) as error:
            logger.info("%s was left out: %s", method, error)

    # in ---------------------------------------------------------------------------------------------------------------

    def updates(self, wait_seconds: int) -> list[Update]:
        """What was typed and tapped since the last confirmation, oldest first.

        Args:
            wait_seconds: how long to wait for something to come in.

        Raises:
            Busy: somebody else asks.
            Refused: it said no otherwise.
            Unavailable: no usable answer.
        """
        found = self._call("getUpdates", (), None, timeout=wait_seconds, allowed_updates=_KINDS)
        given = [one for one in found if isinstance(one, dict) and isinstance(one.get("update_id"), int)]
        return [Update(one["update_id"], _said(one)) for one in sorted(given, key=lambda one: one["update_id"])]

    def confirm(self, number: int) -> None:
        """Lets Telegram forget all updates up to a number, or raises like `updates`."""
        self._call("getUpdates", (), None, offset=number + 1, limit=1, timeout=0, allowed_updates=_KINDS)

    def check(self) -> str:
        """That the bot can write to the chat and hear what is said there, without sending anything; a sentence.

        Raises:
            Refused: it cannot; with what to do.
            Unavailable: no usable answer.
        """
        bot = self._call("getMe", Unreachable, None).get("username")
        if self._call("getWebhookInfo", Unreachable, None).get("url"):
            raise Busy(_busy("a webhook is set"))
        self._call("getChat", Unreachable, None, chat_id=self.chat)
        if self.chat != self._chat:
            raise Refused(self._moved_line())
        if self.chat < 0 and not self._people:
            raise Refused("the chat is a group, and nobody may answer; name who may under people in alerts.yaml")
        who = ", ".join(self._people.values()) or "the one person of the chat"
        return f"@{bot} is known, and can write to the chat; {who} may answer"

    # one call ---------------------------------------------------------------------------------------------------------

    def _call(self, method: str, again: type[Unavailable] | tuple[()], image: bytes | None, **fields: Any) -> Any:
        """The result of one method. A short pause that it asks for is waited for, once; a longer one is noted."""
        pause = "pause_in" if method == "getUpdates" else "pause_out"
        until = self.notes.time(pause)
        if until is not None:
            self._wait(until, pause)
        for may_wait in (True, False):
            body = self._asking(again, lambda: self._ask(method, image, fields))
            seconds = _retry_after(body)
            if seconds is None:
                return self._result(body)
            until = _now() + timedelta(seconds=seconds)
            self.notes.put(**{pause: until})
            self._wait(until, pause, may_wait=may_wait)
        raise AssertionError("the second time does not wait")

    def _wait(self, until: datetime, pause: str, *, may_wait: bool = True) -> None:
        """
        Raises:
            Down: the pause is too long to be waited for.
        """
        left = (until - _now()).total_seconds()
        if left > (PATIENCE_SECONDS if may_wait else 0):
            raise Down(f"{self._asking.where} takes no more for {max(1, round(left))} s (429)")
        time.sleep(max(0.0, left))
        self.notes.put(**{pause: None})

    def _ask(self, method: str, image: bytes | None, fields: dict[str, Any]) -> dict[str, Any]:
        seconds = self._config.timeout_seconds + float(fields.get("timeout", 0))
        data = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in fields.items()
            if value is not None
        }
        files = {"photo": ("chart.png", image, "image/png")} if image is not None else None
        with logs.silent(_LOGGER):
            response = self._session.post(self._base + method, data=data, files=files, timeout=seconds)
        body, code, where = json_of(response), response.status_code, self._asking.where
        if body is not None and isinstance(body.get("ok"), bool) and code < 500:
            return body
        if 400 <= code < 500:
            # Telegram says no in JSON: this is a proxy, or the page of a network that wants a login.
            raise Down(f"{where}: it is not Telegram that answers ({code}), something stands in between")
        if code >= 500:
            raise (Unavailable if code in GATEWAYS else Down)(f"{where} is out of order ({code})")
        raise Unavailable(f"{where} gave an answer that is not Telegram's")

    def _result(self, body: dict[str, Any]) -> Any:
        """What it says.

        Raises:
            Refused: it says no; with what to do, as far as that is known.
        """
        if body["ok"]:
            return body.get("result")
        code, words = body.get("error_code"), str(body.get("description") or "it did not say why")
        parameters = body.get("parameters")
        moved = parameters.get("migrate_to_chat_id") if isinstance(parameters, dict) else None
        said = self._asking.shown(f"{self._asking.where} refused ({code}): {words}")
        if isinstance(moved, int):
            self.notes.put(moved=[self._chat, moved])
            raise _Moved(self._moved_line())
        if code == requests.codes.conflict:
            raise Busy(_busy(self._asking.shown(words)))
        remedy = next((what for part, what in self._remedies(code) if part in words.lower()), None)
        if remedy:
            raise Refused(f"{said}; {remedy}")
        raise (_Form if code == requests.codes.bad_request else Refused)(said)

    def _remedies(self, code: Any) -> list[tuple[str, str]]:
        """What a person can do about a refusal, by a part of its words."""
        config = self._config
        if code in (requests.codes.unauthorized, requests.codes.not_found):
            return [("", f"copy the token from @BotFather again into {config.token_env}")]
        start = "open the bot in Telegram and press Start"
        return [
            ("chat not found", f"{start}, and check the number in {config.chat_env}"),
            ("can't initiate conversation", start),
            ("blocked by the user", f"unblock the bot, or take `telegram` out of alerts.yaml; then {start}"),
            ("kicked", "add the bot to the group again"),
            ("deactivated", f"that account is gone: write the number of another chat into {config.chat_env}"),
        ]

    def _moved_line(self) -> str:
        return f"the group has another number now, which is used: write {self.chat} into {self._config.chat_env}"


def _now() -> datetime:
    return datetime.now(UTC)


def _busy(words: str) -> str:
    return (
        "somebody else is told what is tapped and typed to this bot, so it may be lost here: stop the other program, "
        f"delete the webhook, or give this configuration a bot of its own ({words})"
    )


def _rows(buttons: Sequence[Button]) -> list[list[dict[str, str]]]:
    """Two buttons a row: four do not fit beside each other on a phone."""
    keys = [{"text": one.label, "callback_data": one.data} for one in buttons]
    return [keys[begin : begin + 2] for begin in range(0, len(keys), 2)]


def _marked(keyboard: Sequence[Any], data: str) -> list[list[dict[str, Any]]]:
    """The same buttons, of which one is marked."""
    return [
        [
            key
            | {"text": (_MARK if key.get("callback_data") == data else "") + str(key.get("text")).removeprefix(_MARK)}
            for key in row
        ]
        for row in keyboard
    ]


def _said(update: dict[str, Any]) -> Said | None:
    """What an update says; None: nothing that can be an answer, or not in the form that is known."""
    try:
        if "callback_query" in update:
            tap = update["callback_query"]
            message = tap["message"]
            return Said(
                key=f"telegram tap {tap['id']}",
                sender=int(tap["from"]["id"]),
                chat=int(message["chat"]["id"]),
                words=str(tap["data"]),
                tap=str(tap["id"]),
                message_id=int(message["message_id"]),
                keyboard=message.get("reply_markup", {}).get("inline_keyboard", ()),
            )
        message = update["message"]
        chat = int(message["chat"]["id"])
        return Said(
            key=f"telegram message {chat} {int(message['message_id'])}",
            sender=int(message["from"]["id"]),
            chat=chat,
            words=str(message["text"]),
            at=datetime.fromtimestamp(int(message["date"]), UTC),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        return None


def _retry_after(body: dict[str, Any]) -> float | None:
    """Seconds for which it wants to be left alone; None: it does not."""
    if body.get("error_code") != requests.codes.too_many_requests:
        return None
    parameters = body.get("parameters")
    seconds = parameters.get("retry_after") if isinstance(parameters, dict) else None
    return min(float(seconds), 3600.0) if isinstance(seconds, (int, float)) and seconds > 0 else 1.0
