"""apprise itself against a service on loopback, in fair weather and foul; its addresses are never seen."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mm_dagster.alerts.apprise import AddressError, Apprise
from mm_dagster.alerts.channel import Message, Sent, Unavailable

SECRET = "passw0rd-of-the-operator"


class JsonServer:
    """Takes what apprise posts to json://; `behaviour` says how: 200, 500, slow, drip or closed."""

    def __init__(self) -> None:
        self.behaviour = "200"
        self.posted: list[dict[str, Any]] = []
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"json://operator:{SECRET}@127.0.0.1:{self.server.server_address[1]}/{SECRET}-path"


class _Handler(BaseHTTPRequestHandler):
    service: JsonServer

    def log_message(self, format: str, *arguments: object) -> None:
        """The tests' output is quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match self.service.behaviour:
            case "closed":
                self.connection.shutdown(socket.SHUT_RDWR)
            case "slow":
                self.service.closing.wait()
            case "drip":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                while not self.service.closing.wait(0.05):
                    self.wfile.write(b" ")
            case status:
                self.service.posted.append(body)
                self.send_response(int(status))
                self.send_header("Content-Length", "0")
                self.end_headers()


@pytest.fixture
def service() -> Iterator[JsonServer]:
    running = JsonServer()
    thread = threading.Thread(target=running.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield running
    running.closing.set()
    running.server.shutdown()
    running.server.server_close()
    thread.join()


def test_a_message_arrives_word_for_word_with_the_link_as_its_last_line(service: JsonServer):
    text = "Zeile 1\nZeile 2 <b>🦀</b> & more"
    assert Apprise([service.url]).send(Message("Titel · é", text, url="http://mm.example/assets")) == Sent(
        detail="JSON took it"
    )
    (posted,) = service.posted
    assert (posted["title"], posted["message"]) == ("Titel · é", f"{text}\nhttp://mm.example/assets")
    assert posted["type"] == "warning"


@pytest.mark.parametrize("behaviour", ["500", "404", "slow", "drip", "closed"])
def test_what_was_not_taken_is_said_in_one_line_and_in_time(service: JsonServer, behaviour: str):
    service.behaviour = behaviour
    begin = time.monotonic()
    with pytest.raises(Unavailable, match=r"^JSON did not take it within 0\.3 s$"):
        Apprise([service.url], timeout_seconds=0.3).send(Message("title", "words"))
    assert time.monotonic() - begin < 2
    assert len(service.posted) <= 1


def test_nobody_there_is_no_surprise():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(Unavailable):
        Apprise([f"json://127.0.0.1:{port}/"], timeout_seconds=1).send(Message("title", "words"))


def test_one_of_two_addresses_is_enough_and_a_silent_one_does_not_hold_up_the_other(service: JsonServer):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = [f"json://127.0.0.1:{silent.getsockname()[1]}/", service.url]
        said = Apprise(urls, timeout_seconds=0.5).send(Message("title", "words"))
    assert said.detail == "JSON (address 2) took it; JSON (address 1) did not take it within 0.5 s"
    assert len(service.posted) == 1


def test_several_messages_in_a_row_all_arrive(service: JsonServer):
    second = Apprise([service.url])
    for number in range(5):
        second.send(Message(f"title {number}", "words"))
    assert [one["title"] for one in service.posted] == [f"title {number}" for number in range(5)]


@pytest.mark.parametrize("url", [f"nothing-known://{SECRET}", SECRET, "", f"json://:{SECRET}@"])
def test_an_address_that_cannot_be_read_is_refused_without_being_shown(url: str, caplog: pytest.LogCaptureFixture):
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(AddressError, match=r"^address 2 of the second") as caught,
    ):
        Apprise(["json://127.0.0.1", url])
    assert SECRET not in f"{caught.value!r}" + caplog.text
    with pytest.raises(AddressError, match="no address"):
        Apprise([])


def test_no_address_is_in_any_error_log_line_or_repr(
    service: JsonServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    # What migrates Dagster's storage disables the loggers that there are, in whichever test it does so first.
    monkeypatch.setattr(logging.getLogger("apprise"), "disabled", False)
    with caplog.at_level(logging.DEBUG):
        second = Apprise([service.url], timeout_seconds=0.2)
        said = f"{second.send(Message('title', 'words'))}{second!r}"
        for behaviour in ("500", "slow", "closed"):
            service.behaviour = behaviour
            with pytest.raises(Unavailable) as caught:
                second.send(Message("title", "words"))
            said += f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"
        logging.getLogger("apprise").debug("others are heard as ever")
    assert SECRET not in said + caplog.text
    assert "others are heard as ever" in caplog.text
