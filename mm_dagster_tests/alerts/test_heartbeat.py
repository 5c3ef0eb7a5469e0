"""The sign of life: it is given once, and no failure of it says where it went."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mm_dagster.alerts import heartbeat


@contextmanager
def watcher(status: int, pause: threading.Event | None = None) -> Iterator[tuple[str, list[str]]]:
    """A watcher on loopback that answers with a status, and waits for the event before it does."""
    calls: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            calls.append(self.path)
            if pause is not None:
                pause.wait(10)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://user:password@127.0.0.1:{server.server_port}/ping/secret", calls
    finally:
        if pause is not None:
            pause.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("status", "said"), [(200, None), (404, "answered with HTTP 404")])
def test_a_beat_is_one_call(status: int, said: str | None) -> None:
    with watcher(status) as (url, calls):
        assert heartbeat.beat(url) == said
        assert calls == ["/ping/secret"]


def test_a_silent_watcher_delays_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TIMEOUT_SECONDS", 0.2)
    with watcher(200, threading.Event()) as (url, _):
        assert heartbeat.beat(url) == "no answer within 0.2 s"


@pytest.mark.parametrize("url", ["http://user:password@127.0.0.1:9/secret", "no address at all", "ftp://secret"])
def test_a_failure_never_tells_the_address(url: str) -> None:
    said = heartbeat.beat(url)
    assert said is not None
    assert said.startswith("no connection")
    assert not any(word in said for word in ("secret", "password", "127.0.0.1", "address"))
