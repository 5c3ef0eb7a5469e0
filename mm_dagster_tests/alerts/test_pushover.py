"""The real client library against a Pushover on loopback, in fair weather and foul."""

from __future__ import annotations

import inspect
import logging
import socket
import time
from collections.abc import Iterator

import pytest
from pushover_complete import PushoverAPI, pushover_api

from mm_dagster.alerts.channel import Down, Message, NotTaken, Refused, Unavailable
from mm_dagster.alerts.pushover import IMAGE_LIMIT, Pushover
from mm_dagster.config.alerts import PushoverConfig
from mm_dagster_tests.alerts.given import T0
from mm_dagster_tests.pushover import Fault, PushoverServer


@pytest.fixture
def server() -> Iterator[PushoverServer]:
    with PushoverServer() as running:
        yield running


def client(server: PushoverServer, wait_seconds: float = 0.01, **keys: str) -> Pushover:
    config = PushoverConfig(api_url=server.api_url, timeout_seconds=0.3)
    return Pushover(keys.get("token", server.token), keys.get("user", server.user), config, wait_seconds=wait_seconds)


def test_a_message_arrives_with_all_its_parts(server: PushoverServer):
    picture = bytes(range(256)) + b"\r\n--\r\n"
    sent = client(server).send(
        Message("Titel · é", "Zeile 1\nZeile 2 <b>🦀</b>", 1, T0, "http://mm.example/assets", picture)
    )
    assert sent.receipt is None
    assert server.messages == [
        {
            "token": server.token,
            "user": server.user,
            "title": "Titel · é",
            "message": "Zeile 1\nZeile 2 <b>🦀</b>",
            "priority": "1",
            "timestamp": "1768046400",
            "url": "http://mm.example/assets",
            "attachment": picture,
        }
    ]


def test_an_emergency_rings_as_configured_has_a_receipt_and_can_be_cancelled(server: PushoverServer):
    channel = client(server)
    receipt = channel.send(Message("title", "words", 2, T0)).receipt
    assert (server.messages[0]["retry"], server.messages[0]["expire"]) == ("60", "3000")
    assert receipt in server.receipts
    channel.cancel(receipt)
    assert server.cancelled == [receipt]


def test_only_an_emergency_rings(server: PushoverServer):
    client(server).send(Message("title", "words", 1, T0))
    assert not {"retry", "expire"} & set(server.messages[0])


def test_the_keys_can_be_checked_without_a_message(server: PushoverServer):
    assert client(server).validate() == ["phone"]
    with pytest.raises(Refused, match="user key is invalid"):
        client(server, user="nobody-at-all").validate()
    with pytest.raises(Refused, match="application token is invalid"):
        client(server, token="nothing-at-all").validate()
    assert server.messages == []


def test_a_picture_that_is_too_large_stays_behind_and_the_message_goes(server: PushoverServer):
    client(server).send(Message("title", "words", 1, T0, image=bytes(IMAGE_LIMIT + 1)))
    assert "attachment" not in server.messages[0]


def test_pushover_checks_what_the_real_one_checks(server: PushoverServer):
    channel = client(server)
    for title, text, url, error in (
        ("x" * 251, "words", None, "title is too long"),
        ("title", "x" * 1025, None, "message is too long"),
        ("title", "", None, "message cannot be blank"),
        ("title", "words", "http://" + "x" * 512, "url is too long"),
    ):
        with pytest.raises(Refused, match=error):
            channel.send(Message(title, text, 0, T0, url))
    with pytest.raises(Refused, match="receipt not found"):
        channel.cancel("unknown")
    assert server.messages == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("400", "Pushover at 127.0.0.1 refused (400): token *** of user *** is not welcome"),
        ("400 without errors", "Pushover at 127.0.0.1 refused (400): it did not say why"),
    ],
)
def test_a_refusal_is_never_tried_again(server: PushoverServer, fault: Fault, sentence: str):
    server.fail(fault)
    with pytest.raises(Refused) as caught:
        client(server).send(Message("title", "words", 2, T0))
    assert str(caught.value) == sentence
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("429", "takes no more: the application's messages of this month are spent (429)"),
        ("400 html", "it is not Pushover that answers (400), something stands in between"),
    ],
)
def test_what_may_be_otherwise_in_an_hour_is_no_refusal(server: PushoverServer, fault: Fault, sentence: str):
    """A month ends, and a proxy or a captive portal goes: an emergency is not given up for it."""
    server.fail(fault)
    with pytest.raises(NotTaken) as caught:
        client(server).send(Message("title", "words", 2, T0))
    assert str(caught.value).endswith(sentence)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("500", "Pushover at 127.0.0.1 is out of order (500)"),
        ("empty", "Pushover at 127.0.0.1 gave an answer that is not JSON"),
        ("slow", "Pushover at 127.0.0.1: no answer within 0.3 s"),
        ("closed", "Pushover at 127.0.0.1: no connection (ConnectionError)"),
    ],
)
def test_what_may_pass_is_asked_three_times_and_a_message_that_may_be_taken_is_sent_once(
    server: PushoverServer, fault: Fault, sentence: str
):
    server.fail(fault, fault, fault)
    with pytest.raises(Unavailable) as caught:
        client(server).validate()
    assert str(caught.value) == sentence
    assert len(server.requests) == 3
    server.fail(fault, fault)
    assert client(server).validate() == ["phone"]

    server.requests.clear()
    server.fail(fault)
    with pytest.raises(Unavailable) as caught:
        client(server).send(Message("title", "words", 1, T0))
    # What says itself that it is out of order has not taken it.
    kind = Down if fault == "500" else Unavailable
    assert (str(caught.value), type(caught.value)) == (sentence, kind)
    assert len(server.requests) == 1


def test_it_waits_before_it_tries_again(server: PushoverServer):
    server.fail("500", "500")
    begin = time.monotonic()
    client(server, wait_seconds=0.2).validate()
    assert time.monotonic() - begin >= 0.2 + 0.4


def test_an_answer_that_is_lost_is_left_to_the_ledger(server: PushoverServer):
    server.fail("lost answer")
    with pytest.raises(Unavailable):
        client(server).send(Message("title", "words", 2, T0))
    assert len(server.messages) == 1


def test_nobody_there_is_said_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        config = PushoverConfig(api_url=f"http://127.0.0.1:{port}/1", timeout_seconds=0.05)
        with pytest.raises(Unavailable, match=r"no answer within 0\.05 s"):
            Pushover("token-of-app", "key-of-user", config, wait_seconds=0.01).validate()
    with pytest.raises(Unavailable, match=r"no connection \(ConnectionError\)"):
        Pushover("token-of-app", "key-of-user", config, wait_seconds=0.01).validate()


def test_neither_token_nor_user_key_is_in_any_error_or_log_line(
    server: PushoverServer, caplog: pytest.LogCaptureFixture
):
    channel = client(server)
    # The client of Kubernetes, once imported, has urllib3 say warnings alone.
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "urllib3"):
        for fault in ("429", "400", "400 without errors", "400 html", "500", "302", "empty", "slow", "closed"):
            server.fail(*[fault] * 3)
            with pytest.raises((Refused, Unavailable)) as caught:
                channel.send(Message("title", "words", 2, T0))
            while server.next_fault("none"):
                pass
            error: BaseException | None = caught.value
            while error is not None:
                assert server.token not in f"{error!r}"
                assert server.user not in f"{error!r}"
                error = error.__cause__ or error.__context__
    assert caplog.text
    assert server.token not in caplog.text + repr(channel)
    assert server.user not in caplog.text + repr(channel)


def test_contract_with_pushover_complete_every_request_goes_through_the_two_methods_that_are_replaced() -> None:
    replaced = ("_generic_post", "_generic_get")
    given = {name: list(inspect.signature(getattr(PushoverAPI, name)).parameters) for name in replaced}
    assert given["_generic_post"] == ["self", "endpoint", "url_parameter", "payload", "session", "files"]
    assert given["_generic_get"] == ["self", "endpoint", "url_parameter", "payload", "session"]
    for name in ("_send_message", "cancel_receipt", "check_receipt", "validate"):
        assert "self._generic_" in inspect.getsource(getattr(PushoverAPI, name)), name
    library = inspect.getsource(pushover_api)
    assert library.count("requests.get") == library.count("requests.post") == 1
    assert library.count("requests.Session()") == 2, "send_messages and its like, which nothing here calls"
    assert pushover_api.PUSHOVER_API_URL.startswith("https://")
