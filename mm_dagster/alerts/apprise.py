"""The second channel: whatever apprise can reach, with a deadline, and without a word of its addresses.

An address of apprise holds passwords and tokens in any of its parts, so nothing of it is ever shown but the name of
the service. For the same reason what apprise, and the client underneath it, write to the log is not kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mm_dagster import web
from mm_dagster.text import number_text

if TYPE_CHECKING:
    import apprise

TIMEOUT_SECONDS = 15.0
"""For one message to one address, all in all."""
_MOST_BYTES = 2**20


class SecondChannelUnavailable(Exception):
    """No address took the message. It may or may not have arrived."""


class SecondChannelUrlError(ValueError):
    """An address that apprise cannot read."""


class SecondChannel:
    """One or several addresses in the notation of apprise, all of which are given each message."""

    name = "apprise"

    def __init__(self, urls: Sequence[str], *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Connects nothing yet.

        Args:
            urls: addresses like `mailto://...`; secret.
            timeout_seconds: for one message to one address, all in all.

        Raises:
            SecondChannelUrlError: there is none, or one cannot be read; it says which, not what it is.
        """
        # Costs as much as the rest of a command's start, and most configurations have no second channel.
        import apprise

        if not urls:
            raise SecondChannelUrlError("the second channel has no address")
        self._timeout_seconds = timeout_seconds
        asset = apprise.AppriseAsset(app_id="mm_dagster", app_desc="", app_url="", storage_mode="memory")
        self._services: list[tuple[str, apprise.NotifyBase]] = []
        for number, url in enumerate(urls, start=1):
            with _unlogged():
                service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
            if not isinstance(service, apprise.NotifyBase):
                raise SecondChannelUrlError(f"address {number} of the second channel is none that apprise can read")
            service.socket_connect_timeout = service.socket_read_timeout = timeout_seconds
            # Its plugins follow redirects with their tokens, and read whatever is sent.
            web.Requests(_MOST_BYTES).stand_in("apprise.plugins")
            label = str(service.service_name or "a service")
            self._services.append((label if len(urls) == 1 else f"{label} (address {number})", service))

    def send(self, title: str, message: str, *, url: str | None = None) -> str:
        """Sends one message to all addresses at once, without trying again.

        Args:
            title: plain text.
            message: plain text.
            url: where to read on; it becomes the last line.

        Returns:
            Who took it, and who did not.

        Raises:
            SecondChannelUnavailable: nobody took it within the timeout.
        """
        body = f"{message}\n{url}" if url else message
        took: list[str] = []
        threads = [
            threading.Thread(target=self._give, args=(label, service, title, body, took), daemon=True)
            for label, service in self._services
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + self._timeout_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        taken = list(took)
        missed = [label for label, _ in self._services if label not in taken]
        failure = f"{', '.join(missed)} did not take it within {number_text(self._timeout_seconds)} s"
        if not taken:
            raise SecondChannelUnavailable(failure)
        return f"{', '.join(taken)} took it" + (f"; {failure}" if missed else "")

    @staticmethod
    def _give(label: str, service: apprise.NotifyBase, title: str, body: str, took: list[str]) -> None:
        with _unlogged():
            try:
                taken = service.notify(body=body, title=title, notify_type="warning")
            except Exception:
                # Plugins of every kind: whatever one of them stumbles over, its words may hold the address.
                taken = False
        if taken:
            took.append(label)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps what apprise and the HTTP client say in this thread out of the log: addresses, which may hold secrets."""
    for name in ("apprise", "urllib3.connectionpool"):
        logging.getLogger(name).addFilter(_is_logged)
    thread = threading.get_ident()
    _silent_threads.add(thread)
    try:
        yield
    finally:
        _silent_threads.discard(thread)


_silent_threads: set[int] = set()


def _is_logged(record: logging.LogRecord) -> bool:
    return record.thread not in _silent_threads
