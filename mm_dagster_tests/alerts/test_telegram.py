"""Telegram: messages arrive whole and with buttons, errors can be told apart and say what to do, no token is shown."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mm_dagster.alerts import telegram
from mm_dagster.alerts.channel import Button, Down, Message, NotTaken, Refused, Unavailable, Unreachable
from mm_dagster.alerts.notes import Notes
from mm_dagster.alerts.responses import CHOICES, choices
from mm_dagster.alerts.telegram import Busy, Telegram
from mm_dagster.config.alerts import TelegramConfig
from mm_dagster.tables.words import ALERT_KINDS, STATES
from mm_dagster_tests.alerts.given import T0
from mm_dagster_tests.telegram import Fault, TelegramServer

WORDS = Message("eth-v3 · <LATEST>", "Zeile 1 & 2\n<i>no markup</i> 🦀", 1, T0, "http://127.0.0.1:8080/now?a=1&b=2")
BUTTONS = [Button(label, f"{action} 0123456789abcdef") for action, label in CHOICES.items()]
SHOWN = "eth-v3 · <LATEST>\nZeile 1 & 2\n<i>no markup</i> 🦀\nhttp://127.0.0.1:8080/now?a=1&b=2"


@pytest.fixture
def server() -> Iterator[TelegramServer]:
    with TelegramServer() as running:
        yield running


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "telegram.json", "bot")


def client(server: TelegramServer, notes: Notes, **changes: Any) -> Telegram:
    config = TelegramConfig(
        token_env="TG_TOKEN", chat_env="TG_CHAT", api_url=changes.get("api_url", server.api_url), timeout_seconds=0.3,
    )  # fmt: skip
    token, chat = changes.get("token", server.token), changes.get("chat", server.chat)
    return Telegram(token, chat, config, notes, changes.get("people", {}), wait_seconds=0.01)


def with_(message: Message, **changes: Any) -> Message:
    return Message(**(vars(message) | changes))


def test_a_message_arrives_word_for_word_with_its_link_as_a_line_and_without_a_preview(server, notes):
    assert client(server, notes).send(with_(WORDS, buttons=BUTTONS)).receipt is None
    (sent,) = server.messages
    assert (sent["text"], sent["chat_id"], sent["photo"]) == (SHOWN, server.chat, None)
    assert [[key["text"] for key in row] for row in sent["keyboard"]] == [
        ["Stopped", "Reduced"],
        ["Kept", "Snooze 4 h"],
    ]
    assert all("url" not in key for row in sent["keyboard"] for key in row)
    assert sent["fields"]["disable_notification"] == "false"
    client(server, notes).send(with_(WORDS, priority=-1))
    assert server.messages[1]["fields"]["disable_notification"] == "true"


def test_a_picture_comes_in_the_same_message_or_where_the_words_are_too_many_in_one_of_its_own(server, notes):
    picture = bytes(range(256)) + b"\r\n--\r\n"
    channel = client(server, notes)
    channel.send(with_(WORDS, image=picture))
    assert (server.messages[0]["text"], server.messages[0]["photo"]) == (SHOWN, picture)
    channel.send(with_(WORDS, text="🦀" * 600, image=picture, buttons=BUTTONS))
    assert [(one["photo"], bool(one["keyboard"])) for one in server.messages[1:]] == [(None, True), (picture, False)]
    server.messages.clear()
    channel.send(with_(WORDS, image=bytes(10_000_001)))
    assert [one["photo"] for one in server.messages] == [None]


def test_what_is_refused_for_its_form_is_sent_once_more_plain_and_no_third_time(server, notes):
    server.fail("400")
    client(server, notes).send(with_(WORDS, image=b"png", buttons=BUTTONS))
    (sent,) = server.messages
    assert (sent["text"], sent["photo"], "parse_mode" in sent["fields"]) == (SHOWN, None, False)
    assert sent["keyboard"]
    server.fail("400", "400")
    with pytest.raises(Refused, match="can't parse entities"):
        client(server, notes).send(WORDS)
    assert len(server.requests) == 4


def test_every_button_fits_and_only_what_can_be_answered_has_some():
    assert all(1 <= len(one.data.encode()) <= 64 for one in BUTTONS)
    asking = {(kind, state): choices(kind, state) for kind in ALERT_KINDS for state in STATES}
    assert {kind for (kind, _), found in asking.items() if found} == {"ESCALATION", "REMINDER", "DRILL"}
    assert {state for (_, state), found in asking.items() if "snoozed" in found} == {"LATEST_ACCEPTABLE_EXIT"}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("500", Down), ("400 html", Down), ("302", NotTaken), ("502", Unavailable), ("closed", Unavailable),
     ("lost answer", Unavailable), ("empty", Unavailable), ("slow", Unavailable)],
)  # fmt: skip
def test_what_was_surely_not_taken_and_what_may_have_been_are_told_apart(server, notes, fault: Fault, kind):
    server.fail(fault)
    with pytest.raises(kind) as caught:
        client(server, notes).send(WORDS)
    assert isinstance(caught.value, NotTaken) == issubclass(kind, NotTaken)
    # What may have been taken is not offered again here: that is the ledger's business.
    assert len(server.requests) == 1


def test_what_cannot_be_reached_is_tried_three_times_and_was_surely_not_taken(server, notes):
    with pytest.raises(Unreachable, match=r"Telegram at 127\.0\.0\.1: no connection"):
        client(server, notes, api_url="http://127.0.0.1:9").send(WORDS)


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        ((403, "Forbidden: bot was blocked by the user"), "unblock the bot"),
        ((403, "Forbidden: bot can't initiate conversation with a user"), "press Start"),
        ((403, "Forbidden: bot was kicked from the group chat"), "add the bot to the group again"),
        ((403, "Forbidden: user is deactivated"), "number of another chat into TG_CHAT"),
    ],
)
def test_a_lasting_refusal_says_what_to_do_and_is_not_offered_again(server, notes, refusal, remedy: str):
    server.refusal = refusal
    with pytest.raises(Refused, match=remedy):
        client(server, notes).send(WORDS)
    assert len(server.requests) == 1


def test_a_wrong_token_and_a_wrong_chat_say_which_variable_to_correct(server, notes):
    with pytest.raises(Refused, match="copy the token from @BotFather again into TG_TOKEN"):
        client(server, notes, token="424242:nonsense").send(WORDS)
    with pytest.raises(Refused, match="press Start, and check the number in TG_CHAT"):
        client(server, notes, chat=5).send(WORDS)


def test_a_group_that_has_another_number_is_written_to_there_from_then_on_and_it_is_said(server, notes):
    server.moved = {-100: -100_200}
    sent = client(server, notes, chat=-100).send(WORDS)
    assert sent.detail == "the group has another number now, which is used: write -100200 into TG_CHAT"
    client(server, notes, chat=-100).send(WORDS)
    assert [one["chat_id"] for one in server.messages] == [-100_200, -100_200]
    assert len(server.requests) == 3
    with pytest.raises(Refused, match="write -100200 into TG_CHAT"):
        client(server, notes, chat=-100).check()
    # Once the new number is in the environment the old one is forgotten.
    assert client(server, notes, chat=-100_200).chat == -100_200


def test_a_short_pause_is_waited_for_and_a_long_one_is_kept_by_the_next_run(server, notes, monkeypatch):
    now = [datetime(2026, 1, 10, tzinfo=UTC)]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += timedelta(seconds=seconds)

    monkeypatch.setattr(telegram, "_now", lambda: now[0])
    monkeypatch.setattr(telegram.time, "sleep", sleep)
    server.retry_after = 3
    server.fail("429")
    client(server, notes).send(WORDS)
    assert (slept, len(server.messages)) == ([3.0], 1)
    server.retry_after = 40
    server.fail("429")
    for _ in range(2):
        with pytest.raises(Down, match="takes no more for 40 s"):
            client(server, notes).send(WORDS)
    assert len(server.requests) == 3, "nobody asks before the pause is over"
    # What comes in is asked for elsewhere.
    assert client(server, notes).updates(0) == []
    now[0] += timedelta(seconds=41)
    client(server, notes).send(WORDS)
    assert len(server.messages) == 2


def test_what_is_typed_and_tapped_comes_in_until_it_is_confirmed(server, notes):
    channel = client(server, notes)
    channel.send(with_(WORDS, buttons=BUTTONS))
    server.tap(server.messages[0], "kept")
    server.type("/stopped eth-v3 sold")
    for _ in range(2):
        first, second = channel.updates(0)
        assert (first.said.words, first.said.at) == ("kept 0123456789abcdef", None)
        assert second.said.words == "/stopped eth-v3 sold"
        assert abs(second.said.at.timestamp() - time.time()) < 5
        assert first.said.key != second.said.key
    channel.confirm(first.number)
    assert [one.number for one in channel.updates(0)] == [second.number]


def test_updates_come_in_the_order_of_their_numbers_whatever_the_order_they_are_given_in(server, notes):
    server.disorder = True
    for number in range(3):
        server.type(f"/kept g{number}")
    said = [one.said.words for one in client(server, notes).updates(0)]
    assert said == ["/kept g0", "/kept g0", "/kept g1", "/kept g1", "/kept g2", "/kept g2"]


@pytest.mark.parametrize(
    "update",
    [{}, {"message": {}}, {"message": {"text": "x"}}, {"callback_query": {"id": "1", "data": "kept x"}},
     {"callback_query": None}, {"message": {"from": {"id": "x"}, "chat": {"id": 1}, "message_id": 1, "date": 1}}],
)  # fmt: skip
def test_what_is_not_in_a_known_form_says_nothing_and_holds_nothing_up(server, notes, update: dict):
    server._put(update)
    server.type("/status")
    first, second = client(server, notes).updates(0)
    assert (first.said, second.said.words) == (None, "/status")


def test_a_tap_is_answered_with_a_line_and_its_button_is_marked(server, notes):
    channel = client(server, notes)
    channel.send(with_(WORDS, buttons=BUTTONS))
    server.tap(server.messages[0], "reduced")
    (update,) = channel.updates(0)
    channel.answer_tap(update.said, "noted " + "x" * 300, done=True)
    assert server.answers[update.said.tap].startswith("noted ")
    assert server.marks == {server.messages[0]["message_id"]: ["Stopped", "✓ Reduced", "Kept", "Snooze 4 h"]}
    server.fail("500", "closed")
    channel.answer_tap(update.said, "noted", done=True)


def test_only_named_people_in_the_chat_may_answer_and_with_nobody_named_its_one_person(server, notes):
    def may(channel: Telegram, person: int, chat: int) -> bool:
        return channel.may_answer(telegram.Said("key", person, chat, "kept x"))

    alone, named = client(server, notes), client(server, notes, people={"anna": 1, "ben": 2})
    group = client(server, notes, chat=-100)
    chat = server.chat
    assert [may(alone, server.person, chat), may(alone, 2, chat), may(alone, server.person, 5)] == [True, False, False]
    assert [may(named, 1, chat), may(named, 2, chat), may(named, 1, 5)] == [True, True, False]
    assert [may(named, 3, chat), may(named, server.person, chat)] == [False, False]
    assert not may(group, server.person, -100)
    assert named.person(telegram.Said("key", 2, chat, "")) == "ben"


def test_somebody_else_who_asks_and_a_webhook_are_said(server, notes):
    server.busy = "terminated by other getUpdates request"
    with pytest.raises(Busy, match="give this configuration a bot of its own"):
        client(server, notes).updates(0)
    server.busy, server.webhook = None, "https://elsewhere.example/hook"
    with pytest.raises(Busy, match="a webhook is set"):
        client(server, notes).check()


def test_the_doctor_says_who_may_answer_and_that_in_a_group_somebody_must_be_named(server, notes):
    assert client(server, notes).check() == (
        "@mm_loopback_bot is known, and can write to the chat; the one person of the chat may answer"
    )
    assert client(server, notes, people={"anna": 1, "ben": 2}).check().endswith("anna, ben may answer")
    server.chat = -100
    with pytest.raises(Refused, match=r"name who may under people"):
        client(server, notes).check()
    assert server.messages == []


@pytest.mark.parametrize("fault", ["429", "500", "502", "400", "400 html", "302", "empty", "closed", "lost answer"])
def test_the_token_is_in_no_error_line_note_or_repr(server, notes, fault: Fault, caplog, tmp_path: Path):
    server.retry_after = 60
    channel = client(server, notes)
    said = repr(channel)
    with caplog.at_level(logging.DEBUG):
        for call in (lambda: channel.send(WORDS), lambda: channel.updates(0), channel.check):
            server.heal()
            server.fail(fault, fault)
            try:
                call()
            except (Refused, Unavailable) as error:
                chain = [error, error.__cause__, error.__context__]
                said += " ".join(f"{one!r} {one}" for one in chain)
                trace = error.__traceback__
                while trace:
                    said += repr(trace.tb_frame.f_locals.get("url", ""))
                    trace = trace.tb_next
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    for part in (server.token, server.token.partition(":")[2]):
        assert part not in said + caplog.text + written


def test_notes_of_another_bot_or_that_cannot_be_read_are_begun_anew(tmp_path: Path):
    path = tmp_path / "telegram.json"
    Notes(path, "one").put(handled=[1], heard_at=T0)
    assert (Notes(path, "one").get("handled"), Notes(path, "one").time("heard_at")) == ([1], T0)
    assert Notes(path, "two").get("handled") is None
    for broken in ("", "[]", '{"one": 3}', "{", '{"one": {"heard_at": "soon"}}'):
        path.write_text(broken)
        assert Notes(path, "one").time("heard_at") is None
        Notes(path, "one").put(handled=[2])
        assert Notes(path, "one").get("handled") == [2]
